# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._regression import CLASSES
from ansible_collections.rondo.upgrade.plugins.plugin_utils._page import WIDTH
from ansible_collections.rondo.upgrade.plugins.plugin_utils._report import counted, page, report

PROBE = {
    "sent": 2000,
    "failed": 0,
    "retried": 1,
    "latency_ms": {"p50": 12.0, "p99": 80.0, "max": 412.0},
    "longest_gap_seconds": 0.41,
    "proves": {"text": "2000 requests without a failure: a rate below 0.15 % at 95 %."},
}
NONE = {"hrsp_5xx": 0, "econ": 0, "eresp": 0, "wretr": 0, "wredis": 0, "by_balancer": {}, "unseen": []}
VERSIONS = {"ansible_core": "2.19.14", "haproxy": {"lb1": "3.0.11"}, "engine": ["20.10"]}


def _job(host: str, begun: float, ended: float | None, outcome: str | None = "done", **details: Any) -> dict[str, Any]:
    return {
        "id": f"replace keystone@{host}",
        "kind": "replace",
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


def _table(pid: int, **counters: int) -> dict[str, Any]:
    return {"pid": pid, "backends": {"a": {"totals": counters}, "b": {"totals": {"hrsp_5xx": None}}}}


def test_a_clean_run() -> None:
    run = _run(_job("ctl1", 1000.0, 1030.5), _job("ctl2", 1031.0, 1060.0))
    found = report(run, PROBE, NONE, [], VERSIONS)
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


def test_without_a_probe_nothing_is_called_clean() -> None:
    found = report(_run(_job("ctl1", 0.0, 1.0)), None, NONE, [], VERSIONS)
    assert found["verdict"] == "done"
    assert found["requests"] is None
    assert "no probe ran" in page(found)


def test_measured_time_out_of_rotation_comes_first() -> None:
    found = report(_run(_job("ctl1", 0.0, 30.0, out_seconds=7.5)), None, NONE, [], VERSIONS)
    assert found["instances"][0]["seconds_out_of_rotation"] == 7.5


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"probe": {**PROBE, "failed": 3}}, "3 of 2000 requests failed"),
        (
            {"haproxy": {**NONE, "hrsp_5xx": 2, "by_balancer": {"lb1": {"restarted": False}}}},
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


def test_counters_are_differences_summed_over_backends_and_balancers() -> None:
    before = {"lb1": _table(1, hrsp_5xx=5, econ=1), "lb2": _table(2, hrsp_5xx=1)}
    after = {"lb1": _table(1, hrsp_5xx=7, econ=1, wretr=2), "lb2": _table(2, hrsp_5xx=1)}
    found = counted(before, after)
    assert {key: found[key] for key in ("hrsp_5xx", "econ", "wretr")} == {"hrsp_5xx": 2, "econ": 0, "wretr": 2}
    assert found["unseen"] == []


def test_a_reloaded_balancer_counts_from_zero_and_says_so() -> None:
    found = counted({"lb1": _table(1, hrsp_5xx=50)}, {"lb1": _table(9, hrsp_5xx=3)})
    assert found["hrsp_5xx"] == 3
    assert found["by_balancer"]["lb1"]["restarted"] is True
    assert "lower bounds: lb1" in page(report(None, PROBE, found, [], VERSIONS))


def test_counters_that_were_cleared_say_so() -> None:
    found = counted({"lb1": _table(1, hrsp_5xx=50, stot=900)}, {"lb1": _table(1, hrsp_5xx=0, stot=20)})
    assert (found["hrsp_5xx"], found["by_balancer"]["lb1"]["restarted"]) == (0, True)


def test_only_the_services_own_backends_count() -> None:
    other = {"other": {"totals": {"hrsp_5xx": 9}}}
    before, after = _table(1, hrsp_5xx=1), _table(1, hrsp_5xx=2)
    before["backends"]["other"] = {"totals": {"hrsp_5xx": 0}}
    after["backends"] |= other
    assert counted({"lb1": before}, {"lb1": after}, ["a"])["hrsp_5xx"] == 1
    assert counted({"lb1": before}, {"lb1": after})["hrsp_5xx"] == 10


def test_a_regression_fails_the_run_and_says_how_to_go_on() -> None:
    changes = [{"suite": "smoke", "name": "login", "class": "regression", "message": "403", "before": "", "after": ""}]
    tests = {"has_baseline": True, "changes": changes, "counted": dict.fromkeys(CLASSES, 0) | {"regression": 1}}
    found = report(_run(_job("ctl1", 0.0, 1.0)), PROBE, NONE, [], VERSIONS, tests=tests)
    assert (found["verdict"], found["whole"]) == ("failed", True)
    assert found["reasons"] == ["regression: smoke: login (403)"]
    text = " ".join(page(found).split())
    assert "TESTS 1 regression" in text
    assert "rondo.upgrade.revert takes it back" in text


def test_balancers_without_both_counts_are_named() -> None:
    found = counted({"lb1": _table(1), "lb2": _table(2)}, {"lb1": _table(1), "lb2": {"msg": "connection refused"}})
    assert found["unseen"] == ["lb2"]


def test_nothing_was_ever_run() -> None:
    text = page(report(None, None, NONE, [], VERSIONS))
    assert "nothing was ever run" in text


def test_the_screen_fits() -> None:
    jobs = [_job(f"compute{n}.region.example.org", n, n + 9.0, "failed", reason="word " * 40) for n in range(60)]
    text = page(report(_run(*jobs), PROBE, NONE, ["difference " * 20] * 40, VERSIONS))
    # The last one is for CI systems, and one line however long it is.
    assert max(len(line) for line in text.splitlines()[:-1]) <= WIDTH
    assert "and 40 more, see report.json" in text
