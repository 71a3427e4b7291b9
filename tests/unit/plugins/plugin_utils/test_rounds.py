# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import (
    Artifact,
    Cluster,
    Database,
    Instance,
    Service,
    State,
)
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._planner import make_plan
from ansible_collections.rondo.upgrade.plugins.plugin_utils._rounds import cut_off, paused, refusal, stopped

INSTANCES = tuple(
    Instance("keystone", host, Artifact("container", "keystone", "keystone:2")) for host in ("c1", "c2", "c3")
)
KEYSTONE = Service("keystone", INSTANCES, database=Database(expand=True, contract=True), method="roll")
PLAN = make_plan(Cluster({"keystone": KEYSTONE}), State()).to_dict()
EXPAND, FIRST, SECOND, THIRD, CONTRACT = (name for together in PLAN["rounds"] for name in together)


def run(*jobs: tuple[str, str | None], **more: Any) -> dict[str, Any]:
    """A run in which these jobs ended so, one after the other; None: in flight."""
    told = [
        {"id": name, "outcome": outcome, "begun": 10.0 * at, "ended": None if outcome is None else 10.0 * at + 5}
        for at, (name, outcome) in enumerate(jobs)
    ]
    return {"plan": PLAN, "jobs": told, "requests": [], "summaries": {}, **more}


def request(what: str) -> dict[str, str]:
    return {"request": what, "made_by": "ann@deploy1"}


def test_a_job_may_begin_when_its_phase_is_open() -> None:
    assert refusal(run(), EXPAND) == ""
    assert refusal(run(), SECOND).startswith("waits for ")
    assert refusal(run((EXPAND, "done")), SECOND) == ""
    assert refusal(run((EXPAND, "done"), (FIRST, "done"), (SECOND, "done"), (THIRD, "done")), CONTRACT) == ""
    assert stopped(run((EXPAND, "done"))) == ""


def test_after_a_failure_nothing_more_begins() -> None:
    failed = run((EXPAND, "done"), (FIRST, "failed"))
    assert stopped(failed) == "1 job of keystone failed; upgrade_max_failures is 0"
    # A job of the same round that began a moment later is no contradiction.
    assert stopped(run((EXPAND, "done"), (FIRST, "failed"), (SECOND, "done"))) == stopped(failed)


def test_failures_that_are_allowed_stop_nothing_but_what_needs_all() -> None:
    plan = {**PLAN, "services": [{**row, "max_failures": 1} for row in PLAN["services"]]}
    one = run((EXPAND, "done"), (FIRST, "failed"), plan=plan)
    assert stopped(one) == "" and refusal(one, SECOND) == ""
    rest = run((EXPAND, "done"), (FIRST, "failed"), (SECOND, "done"), (THIRD, "done"), plan=plan)
    assert "was not done" in refusal(rest, CONTRACT) or "skipped" in refusal(rest, CONTRACT)


def test_what_was_cut_off() -> None:
    began = run((EXPAND, "done"), (FIRST, None), (SECOND, None))
    assert cut_off(began, [SECOND, THIRD]) == [FIRST]
    assert cut_off(began, [FIRST, SECOND]) == []


def test_requests() -> None:
    assert paused(run()) == ""
    assert paused(run(requests=[request("pause")])) == "ann@deploy1"
    assert paused(run(requests=[request("pause"), request("resume")])) == ""
    assert stopped(run(requests=[request("abort")])) == "aborted by ann@deploy1"
    assert stopped(run(summaries={"stopped": {"reason": "interrupted"}})) == "interrupted"
