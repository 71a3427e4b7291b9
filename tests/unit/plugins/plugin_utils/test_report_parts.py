# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._report_junit import junit
from ansible_collections.rondo.upgrade.plugins.plugin_utils._report_parts import checks, held, timeline

SPEC = importlib.util.spec_from_file_location("rondo_sample_report", Path(__file__).with_name("sample_report.py"))
assert SPEC is not None and SPEC.loader is not None
sample = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(sample)


def test_the_timeline_holds_every_job_of_the_plan_once() -> None:
    run = sample.run("replace keystone@ctl3")
    run["jobs"].append({**run["jobs"][0], "id": "replace old@ctl9", "begun": sample.BEGAN + 50, "ended": None})
    run["jobs"][-1]["outcome"] = None
    rows = timeline(run)
    assert [row["id"] for row in rows[:5]] == [job["id"] for job in sorted(run["jobs"], key=lambda j: j["begun"])][:5]
    assert [row["outcome"] for row in rows] == ["done"] * 4 + ["failed", "in flight"] + ["not begun"] * 3
    assert rows[5]["planned"] is None and rows[5]["ended"] is None
    assert rows[1]["planned"] == {"start": 0.0, "end": 18.0}
    assert timeline(None) == []


def test_checks_are_by_what_a_difference_is_about() -> None:
    differences = ["keystone@ctl1 runs 1, not 2", "keystone@ctl1 does not serve: x", "lb1: no socket", "key: unknown"]
    found = {row["name"]: row["differences"] for row in checks(["keystone@ctl1", "keystone", "lb1"], differences)}
    assert found == {
        "keystone@ctl1": differences[:2],
        "keystone": [],
        "lb1": differences[2:3],
        "key: unknown": differences[3:],
    }


@pytest.mark.parametrize(
    ("verdict", "line"),
    [
        (
            "clean",
            "clean: 8 of 8 jobs done in 1m 19s (forecast 1m 12s); 0 of 1920 requests failed; longest out of rotation"
            " 16s; no regression; the counts agree",
        ),
        ("done", "done: 8 of 8 jobs done in 1m 19s (forecast 1m 12s); no probe ran; longest out of rotation 16s"),
        (
            "failed",
            "failed: 4 of 8 jobs done in 43s (forecast 1m 12s); 12 of 1920 requests failed; longest out of rotation"
            " at least 58s; the counts disagree; 2 differences from what is declared",
        ),
        ("nothing", "done: no job was begun; no probe ran"),
    ],
)
def test_one_line(verdict: str, line: str) -> None:
    assert getattr(sample, verdict)()["summary"] == line


@pytest.mark.parametrize("verdict", ["clean", "done", "failed", "regressed", "nothing"])
def test_report_json_is_json(verdict: str) -> None:
    report = getattr(sample, verdict)()
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def _suites(report: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Outcomes by test case, by suite; and that the numbers of each suite are those of its cases."""
    root = ElementTree.fromstring(junit(report))
    found: dict[str, dict[str, str]] = {}
    for suite in root:
        cases = {case.get("name", ""): next((part.tag for part in case), "passed") for case in suite}
        outcomes = list(cases.values())
        assert suite.get("tests") == str(len(suite)) == str(len(cases))
        assert suite.get("failures") == str(outcomes.count("failure"))
        assert suite.get("skipped") == str(outcomes.count("skipped"))
        found[suite.get("name", "")] = cases
    assert root.get("tests") == str(sum(map(len, found.values())))
    return found


def test_junit_of_a_clean_run() -> None:
    found = _suites(sample.clean())
    assert set(found["jobs"]) == {row["id"] for row in sample.clean()["timeline"]}
    assert set(found["verify"]) == {f"{name} is as declared" for name in sample.NAMES}
    assert found.pop("tests") == {
        "smoke: test_mail.test_relay[ansible://ctl1]": "skipped",
        "nothing has regressed": "passed",
    }
    assert {outcome for cases in found.values() for outcome in cases.values()} == {"passed"}


def test_junit_of_a_failed_run() -> None:
    found = _suites(sample.failed())
    assert found["jobs"]["replace keystone@ctl3"] == "failure"
    assert found["jobs"]["replace keystone@ctl2"] == "skipped"
    assert found["jobs"]["expand keystone"] == "passed"
    assert found["verify"]["keystone@ctl2 is as declared"] == "failure"
    assert found["requests"] == {
        "no failure by the count of probe": "failure",
        "no failure by the count of HAProxy": "passed",
        "no failure by the count of access logs": "skipped",
        "the counts agree": "failure",
    }
    assert set(_suites(sample.nothing())["requests"].values()) == {"skipped"}


def test_junit_bears_texts_that_xml_can_not() -> None:
    report = sample.failed()
    report["timeline"][4]["reason"] = 'colour \x1b[31m, nul \x00, lone \ud800, tags </failure><testcase name="x"/>'
    root = ElementTree.fromstring(junit(report).encode())
    (failure,) = root.iterfind("testsuite[@name='jobs']/testcase/failure")
    assert (failure.text or "").startswith("failed: colour \ufffd[31m, nul \ufffd, lone \ufffd, tags </failure>")


def test_junit_of_regressions() -> None:
    found = _suites(sample.regressed())["tests"]
    assert found["builtin: keystone: http://192.0.2.10:5000/v3/regions answers"] == "failure"
    assert found["smoke: test_mail.test_relay[ansible://ctl1]"] == "skipped"
    assert found["nothing has regressed"] == "failure"


def test_what_was_held_is_told_apart_from_what_failed() -> None:
    report = sample.regressed()
    assert report["requests"]["failed"] == 0
    [row] = report["held"]
    assert (row["service"], row["held"], row["longest_seconds"]) == ("horizon", 48, 2.4)
    assert row["said"] == (
        "48 requests waited, the longest for 2.4s; 41 at once at most; 0.4 MB of HAProxy's memory; held for 2.3s;"
        " balancers cut over within 40 ms; 2 sessions closed at the drain's timeout"
    )
    assert "48 requests held" in report["summary"]


def test_a_switch_that_went_back_says_so() -> None:
    job = {"id": "switch web", "kind": "switch", "service": "web", "begun": 0.0}
    steps = [{"percent": 5}, {"percent": 25}]
    [row] = held({"jobs": [{**job, "details": {"steps": steps, "switched_back": "2 % of requests failed"}}]})
    assert row["said"] == "moved in 2 steps; switched back: 2 % of requests failed"


def test_what_settling_at_home_closed_is_told_too() -> None:
    job = {"id": "settle web", "kind": "settle", "service": "web", "begun": 0.0, "details": {"closed_sessions": 3}}
    [row] = held({"jobs": [job, {**job, "details": {"closed_sessions": 0}}]})
    assert row["said"] == "3 sessions closed at the drain's timeout"
