# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._regression import CLASSES
from ansible_collections.rondo.upgrade.plugins.plugin_utils._page import WIDTH
from ansible_collections.rondo.upgrade.plugins.plugin_utils._report import page, report

PROBE = {
    "sent": 2000,
    "failed": 0,
    "retried": 1,
    "latency_ms": {"p50": 12.0, "p99": 80.0, "max": 412.0},
    "longest_gap_seconds": 0.41,
    "proves": {"text": "2000 requests without a failure: a rate below 0.15 % at 95 %."},
}
NONE: dict[str, Any] = dict.fromkeys(("hrsp_5xx", "econ", "eresp", "wretr", "wredis", "failed"), 0)
NONE |= {"stot": 2000, "by_balancer": {"lb1": {**NONE, "stot": 2000, "note": ""}}, "unseen": []}
LOGS = {"requests": 1990, "failed": 0, "services": {"keystone": {}}, "silent": [], "notes": []}
VERSIONS = {"ansible_core": "2.19.14", "haproxy": {"lb1": "3.0.11"}, "engine": ["20.10"]}


def _job(host: str, begun: float, ended: float | None, outcome: str | None = "done", **details: Any) -> dict[str, Any]:
    return {
        "id": f"replace keystone@{host}",
        "kind": "replace",
        "service": "keystone",
        "instance": f"keystone@{host}",
        "running": "k:1",
        "artifact": {"target": "k:2"},
        "servers": [{"backend": "back", "name": host}],
        "min_healthy_time": 10.0,
        "bake_time": 0.0,
        "begun": begun,
        "ended": ended,
        "outcome": outcome,
        "details": details,
    }


def _run(*jobs: dict[str, Any], planned: tuple[str, ...] = (), outcome: str = "done") -> dict[str, Any]:
    ids = [job["id"] for job in jobs] + list(planned)
    plan = {"jobs": [{"id": name} for name in ids], "forecast": {"makespan": 60.0}}
    return {"id": 1, "kind": "upgrade", "owner": "me@here", "outcome": outcome, "jobs": list(jobs), "plan": plan}


def test_a_clean_run() -> None:
    run = _run(_job("ctl1", 1000.0, 1030.5), _job("ctl2", 1031.0, 1060.0))
    found = report(run, PROBE, NONE, [], VERSIONS, access_logs=LOGS)
    assert (found["verdict"], found["reasons"]) == ("clean", [])
    assert found["makespan_seconds"] == 60.0
    assert found["requests"]["sent"] == 2000
    assert found["latency_ms"] == {"p50": 12.0, "p99": 80.0, "max": 412.0}
    first = found["instances"][0]
    assert first["name"] == "keystone@ctl1"
    assert (first["from"], first["to"]) == ("k:1", "k:2")
    assert first["began"] == "1970-01-01T00:16:40.000+00:00"
    assert first["seconds_out_of_rotation"] == 20.5
    text = page(found)
    assert text.startswith("REPORT  CLEAN: everything is done and no request failed")
    assert "run 1 (upgrade): done, 1m 00s, forecast 1m 00s" in text
    assert "sent 2000, failed 0, retried 1" in text
    assert "NEXT" not in text


SILENT = {"requests": 0, "failed": 0, "services": {"keystone": {}}, "silent": ["keystone"], "notes": []}
RELOADED = {**NONE, "by_balancer": {"lb1": {**NONE["by_balancer"]["lb1"], "note": "was reloaded"}}}


@pytest.mark.parametrize(
    ("count", "missing"),
    [
        ({"probe": None}, "probe: none ran"),
        ({"probe": {**PROBE, "sent": 0}}, "probe: it has seen no request"),
        ({"haproxy": RELOADED}, "HAProxy: lb1 was reloaded"),
        ({"haproxy": {**NONE, "unseen": ["lb2"]}}, "HAProxy: not read before and after: lb2"),
        ({"haproxy": {**NONE, "by_balancer": {}}}, "HAProxy: no balancer was read"),
        ({"access_logs": None}, "access logs: none was read"),
        ({"access_logs": SILENT}, "access logs: no request in the logs of keystone"),
    ],
)
def test_without_three_whole_counts_nothing_is_called_clean(count: dict[str, Any], missing: str) -> None:
    whole = {"run": _run(_job("ctl1", 0.0, 1.0)), "probe": PROBE, "haproxy": NONE, "access_logs": LOGS}
    found = report(**{**whole, **count}, differences=[], versions=VERSIONS)
    assert (found["verdict"], found["reasons"]) == ("done", [])
    assert found["counts"]["missing"] == [missing]
    assert missing in page(found)


def test_a_probe_that_goes_on_counts_as_far_as_it_came() -> None:
    probe = {"sent": 90, "failed": 0, "retried": 1, "so_far": True}
    found = report(_run(_job("ctl1", 0.0, 1.0)), probe, NONE, [], VERSIONS, access_logs=LOGS)
    assert (found["verdict"], found["latency_ms"]) == ("clean", None)
    assert "0 of 90 requests failed so far" in found["summary"]
    assert "REQUESTS  sent 90, failed 0, retried 1, so far: the probe goes on" in page(found)


def test_measured_time_out_of_rotation_comes_first() -> None:
    found = report(_run(_job("ctl1", 0.0, 30.0, out_seconds=7.5)), None, NONE, [], VERSIONS)
    assert found["instances"][0]["seconds_out_of_rotation"] == 7.5


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"probe": {**PROBE, "failed": 3}}, "3 of 2000 requests failed"),
        (
            {"haproxy": {**NONE, "hrsp_5xx": 2, "failed": 2}},
            "the counts disagree: HAProxy counted 2 answers 5xx",
        ),
        ({"differences": ["keystone@ctl1 runs k:1, not k:2"]}, "1 difference from what is declared"),
        ({"run": _run(_job("ctl1", 0.0, 1.0, "failed", reason="never healthy"))}, "failed (never healthy)"),
        ({"run": _run(_job("ctl1", 0.0, None, None))}, "replace keystone@ctl1: in flight"),
        (
            {"run": _run(_job("ctl1", 0.0, 1.0), planned=("replace keystone@ctl2",))},
            "never begun: replace keystone@ctl2",
        ),
    ],
)
def test_what_makes_a_run_fail(arguments: dict[str, Any], reason: str) -> None:
    good = {"run": _run(_job("ctl1", 0.0, 1.0)), "probe": PROBE, "haproxy": NONE, "differences": []}
    found = report(**{**good, **arguments}, versions=VERSIONS)
    assert found["verdict"] == "failed"
    assert reason in found["reasons"][0]
    text = page(found)
    assert text.startswith("REPORT  FAILED")
    assert "NEXT" in text


DRAINED = {"readings": [["lb1", {"at": 41.0, "workers": []}]]}


@pytest.mark.parametrize(
    ("details", "seconds", "still"),
    [
        (DRAINED, 160.0, True),
        ({**DRAINED, "reverted": "It was put back to k:1, and serves."}, 50.0, False),
        # Nothing took it out.
        ({}, None, False),
    ],
)
def test_one_that_failed_is_out_until_the_end(details: dict[str, Any], seconds: float | None, still: bool) -> None:
    run = _run(_job("ctl1", 0.0, 30.0), _job("ctl2", 40.0, 90.0, "failed", **details)) | {"ended": 200.0}
    found = report(run, PROBE, NONE, [], VERSIONS)
    assert found["instances"][1]["seconds_out_of_rotation"] == seconds
    assert found["longest_out_of_rotation"] == (
        {"seconds": seconds, "still_out": still, "instance": "keystone@ctl2"}
        if seconds
        else {"seconds": 20.0, "still_out": False, "instance": "keystone@ctl1"}
    )
    assert ("longest out of rotation at least 2m 40s" in page(found)) is still


def test_a_hold_replaces_all_its_instances() -> None:
    members = [
        {"instance": f"web@{host}", "host": host, "running": "w:1", "artifact": {"target": "w:2"}, "current": current}
        for host, current in (("w1", False), ("w2", False), ("w3", True))
    ]
    switch = {**_job("w1", 0.0, 4.0, kept={"w1": "web.kept", "w2": "web.kept"}), "id": "switch web", "service": "web"}
    switch |= {"kind": "switch", "method": "hold", "instance": None, "instances": members}
    found = report(_run(switch), PROBE, NONE, [], VERSIONS)
    assert [(row["name"], row["from"], row["to"], row["kept"]) for row in found["instances"]] == [
        ("web@w1", "w:1", "w:2", "web.kept"),
        ("web@w2", "w:1", "w:2", "web.kept"),
    ]
    assert "until its next replacement: web@w1: web.kept, web@w2: web.kept" in page(found)


def test_after_a_contract_there_is_no_way_back() -> None:
    contract = {**_job("ctl1", 31.0, 33.0, no_return=True), "id": "contract keystone", "kind": "contract"}
    run = _run(_job("ctl1", 0.0, 30.0, kept="keystone.kept"), contract)
    [row] = report(run, PROBE, NONE, [], VERSIONS)["instances"]
    assert row["until"] == "no way back since contract keystone, 1970-01-01T00:00:31.000+00:00"


def test_a_failure_says_what_is_where_and_what_to_do() -> None:
    bad = _job("ctl2", 40.0, 90.0, "failed", reason="never healthy", kept="keystone.kept")
    run = _run(_job("ctl1", 0.0, 30.0), bad, planned=("replace keystone@ctl3",), outcome="failed")
    text = page(report(run, PROBE, NONE, ["keystone@ctl3 runs k:1, not k:2"], VERSIONS))
    lines = text.splitlines()
    rows = [line for line in lines if "  keystone@ctl" in line and "->" in line]
    assert [line.split()[:2] for line in rows] == [["failed", "keystone@ctl2"], ["done", "keystone@ctl1"]]
    assert "old one kept as keystone.kept" in text
    assert "- keystone@ctl3 runs k:1, not k:2" in text
    assert "run ansible-playbook rondo.upgrade.upgrade again" in " ".join(text.split())


def test_a_regression_fails_the_run_and_says_how_to_go_on() -> None:
    changes = [{"suite": "smoke", "name": "login", "class": "regression", "message": "403", "before": "", "after": ""}]
    tests = {"has_baseline": True, "changes": changes, "counted": dict.fromkeys(CLASSES, 0) | {"regression": 1}}
    found = report(_run(_job("ctl1", 0.0, 1.0)), PROBE, NONE, [], VERSIONS, tests=tests)
    assert (found["verdict"], found["whole"]) == ("failed", True)
    assert found["reasons"] == ["regression: smoke: login (403)"]
    text = " ".join(page(found).split())
    assert "TESTS 1 regression" in text
    assert "rondo.upgrade.revert takes it back" in text


def test_nothing_was_ever_run() -> None:
    text = page(report(None, None, NONE, [], VERSIONS))
    assert "nothing was ever run" in text


def test_the_screen_fits() -> None:
    jobs = [_job(f"compute{n}.region.example.org", n, n + 9.0, "failed", reason="word " * 40) for n in range(60)]
    text = page(report(_run(*jobs), PROBE, NONE, ["difference " * 20] * 40, VERSIONS))
    # The last one is for CI systems, and one line however long it is.
    assert max(len(line) for line in text.splitlines()[:-1]) <= WIDTH
    assert "and 40 more, see report.json" in text
