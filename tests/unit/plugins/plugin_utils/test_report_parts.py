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
from ansible_collections.rondo.upgrade.plugins.plugin_utils._report_parts import (
    checks,
    counts,
    haproxy_source,
    held,
    log_source,
    probe_source,
    timeline,
)

SPEC = importlib.util.spec_from_file_location("rondo_sample_report", Path(__file__).with_name("sample_report.py"))
assert SPEC is not None and SPEC.loader is not None
sample = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(sample)


def _source(name: str, failed: int) -> dict[str, Any]:
    return {"name": name, "failed": failed, "of": None, "retried": 0, "complete": True, "said": name, "note": ""}


@pytest.mark.parametrize(
    ("failed", "agree"),
    [((), None), ((3,), None), ((0, 0), True), ((2, 9, 1), True), ((0, 0, 1), False), ((1, 0, 0), False)],
)
def test_counts_agree_when_all_or_none_saw_failures(failed: tuple[int, ...], agree: bool | None) -> None:
    found = counts(*(_source(f"s{number}", seen) for number, seen in enumerate(failed)), None)
    assert found["agree"] is agree
    assert len(found["sources"]) == len(failed)


def test_the_one_that_saw_failures_is_told_first() -> None:
    found = counts(probe_source({"sent": 100, "failed": 0}), haproxy_source(sample.balancers(1)))
    assert found["note"] == "the counts disagree: HAProxy counted 1 answer 5xx, the probe saw no request fail"


def test_a_count_that_may_be_too_small_says_so() -> None:
    source = haproxy_source(sample.balancers(reloaded=True))
    assert source is not None
    assert (source["failed"], source["complete"]) == (0, False)
    assert source["note"].endswith("lost: lb2")
    assert haproxy_source({"by_balancer": {}, "unseen": ["lb1"]}) is None


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
            " 16s; the counts disagree; 2 differences from what is declared",
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
        "the counts agree": "failure",
    }
    assert _suites(sample.nothing())["requests"] == {"the counts agree": "skipped"}


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
        "48 requests waited, the longest for 2.4s; 41 at once at most; 0.4 MB of HAProxy's memory; held for 2.3s"
    )
    assert "48 requests held" in report["summary"]


def test_a_switch_that_went_back_says_so() -> None:
    job = {"id": "switch web", "service": "web", "begun": 0.0}
    steps = [{"percent": 5}, {"percent": 25}]
    [row] = held({"jobs": [{**job, "details": {"steps": steps, "switched_back": "2 % of requests failed"}}]})
    assert row["said"] == "moved in 2 steps; switched back: 2 % of requests failed"


def test_a_count_that_saw_no_request_is_no_witness() -> None:
    none = {"requests": 0, "failed": 0}
    silent = {**none, "services": {"web": none}, "silent": ["web"], "notes": []}
    probe = {"sent": 100, "failed": 0}
    found = counts(probe_source(probe), log_source(silent))
    assert found["agree"] is None
    assert found["sources"][1]["note"] == "no request in the logs of: web"
    assert log_source(None) is None


def test_each_count_alone_against_the_others() -> None:
    def logs(failed: int) -> dict[str, Any]:
        return {"requests": 90, "failed": failed, "services": {"web": {}}, "silent": [], "notes": []}

    def balancer(failed: int) -> dict[str, Any]:
        row = {"hrsp_5xx": failed, "wretr": 0, "wredis": 0, "stot": 95}
        return {**row, "by_balancer": {"lb1": {**row, "restarted": False}}, "unseen": []}

    for planted in range(3):
        probe, haproxy, log = (int(place == planted) for place in range(3))
        given = [probe_source({"sent": 100, "failed": probe}), haproxy_source(balancer(haproxy)), log_source(logs(log))]
        assert counts(*given)["agree"] is False
    whole = [probe_source({"sent": 100, "failed": 0}), haproxy_source(balancer(0)), log_source(logs(0))]
    assert counts(*whole)["agree"] is True
