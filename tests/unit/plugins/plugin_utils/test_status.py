# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _status
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import (
    Artifact,
    Cluster,
    Instance,
    InstanceState,
    Service,
    State,
)
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._planner import make_plan

HOSTS = ("ctl1", "ctl2", "ctl3")
ARTIFACT = Artifact("container", "keystone", "k:2")
CLUSTER = Cluster({"keystone": Service("keystone", tuple(Instance("keystone", host, ARTIFACT) for host in HOSTS))})
STATE = State(
    instances={
        "keystone@ctl1": InstanceState("k:2", current=True),
        "keystone@ctl2": InstanceState("k:1"),
        "keystone@ctl3": InstanceState("k:2", healthy=False, reason="MAINT in back/ctl3 on lb1"),
    }
)


def _run(**others: Any) -> dict[str, Any]:
    jobs = [
        {"id": "replace keystone@ctl1", "begun": 1000.0, "ended": 1030.0, "outcome": "done"},
        {"id": "replace keystone@ctl3", "begun": 1040.0, "ended": 1045.0, "outcome": "failed"},
        {"id": "replace keystone@ctl2", "begun": 1050.0, "ended": None, "outcome": None},
    ]
    run = {"id": 3, "kind": "upgrade", "owner": "me@here (process 7)", "started": 1000.0, "heartbeat": 1055.0}
    return {
        **run,
        "ended": None,
        "outcome": None,
        "jobs": jobs,
        "plan": make_plan(CLUSTER, State()).to_dict(),
        **others,
    }


def test_rows_say_what_runs_and_why_it_does_not_serve() -> None:
    rows = _status.rows(CLUSTER, STATE)
    assert [(row["instance"], row["current"], row["healthy"]) for row in rows] == [
        ("keystone@ctl1", True, True),
        ("keystone@ctl2", False, True),
        ("keystone@ctl3", False, False),
    ]


def test_a_run_in_progress() -> None:
    row = _status.run_row(_run(), now=1060.0)
    assert row is not None
    assert (row["seconds"], row["silent"], row["jobs"]) == (60.0, 5.0, 3)
    assert row["outcomes"] == {"done": 1, "failed": 1, "in flight": 1}
    assert row["in_flight"] == [{"id": "replace keystone@ctl2", "seconds": 10.0, "expected": 70.0}]
    text = _status.page([], State(), row)
    assert "RUN 3 (upgrade) in progress since" in text
    assert "last sign of life 5s ago" in text
    assert "in flight for 10s of about 1m 10s: replace keystone@ctl2" in text
    assert "failed: replace keystone@ctl3" in text


def test_a_run_whose_process_is_dead() -> None:
    for alive in (True, None):
        row = _status.run_row(_run(alive=alive), now=1060.0) or {}
        assert row["dead"] is False and row["rest"]
        assert "dead" not in _status.page([], State(), row)
    row = _status.run_row(_run(alive=False), now=1060.0) or {}
    assert row["dead"] is True and row["rest"] is None
    assert "its process is dead; the next rondo.upgrade.upgrade" in _status.page([], State(), row)


def test_an_ended_run() -> None:
    row = _status.run_row(_run(ended=1100.0, outcome="failed"), now=5000.0)
    assert row is not None
    assert (row["seconds"], row["silent"]) == (100.0, None)
    assert "took 1m 40s: failed" in _status.page([], State(), row)


def test_page_without_a_run() -> None:
    text = _status.page(_status.rows(CLUSTER, STATE), State(obstacles=("lb1: silent",)), None)
    assert text.splitlines() == [
        "STATUS: 1 of 3 instances on target and serving",
        "  ok  keystone@ctl1  k:2",
        "  old keystone@ctl2  k:1, target k:2",
        "  OUT keystone@ctl3  k:2; MAINT in back/ctl3 on lb1",
        "",
        "STANDS IN THE WAY",
        "  - lb1: silent",
        "",
        "RUNS: none so far",
    ]


def test_what_waits_and_for_what() -> None:
    instances = tuple(Instance("keystone", host, ARTIFACT) for host in HOSTS)
    cluster = Cluster({"keystone": Service("keystone", instances, canary=1)})
    plan = make_plan(cluster, State()).to_dict()
    first, second, third = (row["id"] for row in plan["jobs"])

    def row(*jobs: dict[str, Any], **others: Any) -> dict[str, Any]:
        found = _status.run_row(_run(plan=plan, jobs=list(jobs), **others), now=1060.0)
        assert found is not None
        return found

    def job(name: str, begun: float, ended: float | None, outcome: str | None) -> dict[str, Any]:
        return {"id": name, "begun": begun, "ended": ended, "outcome": outcome}

    waiting = row(job(first, 1000.0, None, None))["waiting"]
    assert [entry["id"] for entry in waiting] == [second, third]
    assert all("canary 1 keystone" in entry["why"] for entry in waiting)

    seen = row(job(first, 1000.0, 1010.0, "done"), job(second, 1010.0, None, None))
    [last] = seen["waiting"]
    assert last["id"] == third and "keystone" in last["why"] and "wait" in last["why"]
    assert f"{third}: {last['why']}"[:40] in _status.page([], State(), seen)

    asked = [{"request": "pause", "made_by": "me@here (process 7)"}]
    paused = row(job(first, 1000.0, 1010.0, "done"), requests=asked)
    assert [entry["why"] for entry in paused["waiting"]] == ["waits for the run to resume"] * 2
    assert "paused by me@here (process 7); rondo.upgrade.resume" in _status.page([], State(), paused)
    resumed = row(requests=[*asked, {"request": "resume", "made_by": "me"}])
    assert resumed["paused"] == ""

    stopped = row(summaries={"stopped": {"reason": "3 of 90 requests failed"}}, requests=asked)
    assert "stopped: 3 of 90 requests failed; nothing more begins" in _status.page([], State(), stopped)
    assert row(requests=[{"request": "abort", "made_by": "me"}])["stopped"] == "aborted by me"

    # The journal tells of a job that this window would not let begin: better nothing than something wrong.
    assert row(job(third, 1000.0, None, None), job(first, 1001.0, None, None))["waiting"] == []
    assert row(job(first, 1000.0, 1010.0, "done"), ended=1020.0, outcome="stopped")["waiting"] == []
