# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller is killed in the middle of each phase of each method: a hold that is on ends at its deadline, by
itself; requests fail only while nothing serves; and the next run finishes.

METHODS_KILLS=all strikes every phase; else the one of each method in which most is at stake.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Strike, Upgrade, configured, holds, switched, target, under_load, whole
from laboratory import Laboratory, until
from load import failed_at

Start = Callable[..., Upgrade]


@dataclass(frozen=True)
class Phase:
    """Where a run of a method is killed. `held`: requests wait then; `served`: something serves all the while, so that
    no request fails. `release`: another one than the next."""

    subject: str
    method: str
    name: str
    strike: Strike
    served: bool = True
    held: bool = False
    worst: bool = False
    release: str = ""

    def __str__(self) -> str:
        return f"{self.method}: {self.name}"


SWITCH, BESIDE = "rondo.upgrade.switch", "rondo.upgrade.side_by_side"
START = Strike(BESIDE, "Start the second copies", kill_after=2)
KNOWN = Strike(BESIDE, "Make them known to all balancers", kill_after=0.5)
SHARE = "Give the second copies their share on all balancers"


def held_for(seconds: float) -> Strike:
    """All that is done while requests wait is one task. In its first two seconds slow requests end, then instances are
    stopped, in its fourth second a schema is migrated; starting takes ten."""
    return Strike(SWITCH, "Do it all while requests wait", kill_after=seconds)


HOME = Strike("rondo.upgrade.replace_container", "Replace the container", kind="replace", kill_after=0.3)
DRAIN = Strike(BESIDE, "Drain the second copies on all balancers, and forget them there", kind="settle", kill_after=0.5)
REMOVE = Strike(BESIDE, "Remove their containers", kind="settle", kill_after=0.3)
BACK = Strike(BESIDE, "Let the first ones serve again on all balancers", kill_after=0.3)
FAILING = "2-failing"
PHASES = (
    Phase("web", "hold", "held", held_for(1.5), held=True),
    Phase("web", "hold", "replacing", held_for(3), False, True, True),
    Phase("web", "hold", "starting", held_for(7), False, True),
    Phase("web", "hold", "nearly started", held_for(12), False, True),
    Phase("web", "hold", "released", Strike(SWITCH, "See that they stay up")),
    Phase("ledger", "hold", "migrating", held_for(3.6), False, True),
    Phase("web", "side_by_side", "starting copies", START),
    Phase("web", "side_by_side", "known to the balancers", KNOWN),
    Phase("web", "side_by_side", "first step", Strike(BESIDE, SHARE, kill_after=3), worst=True),
    Phase("web", "side_by_side", "last step", Strike(BESIDE, SHARE, kill_after=3, nth=3)),
    Phase("web", "side_by_side", "old one kept", Strike(BESIDE, SHARE, kill_after=1, nth=4)),
    Phase("web", "side_by_side", "going back", BACK, False, release=FAILING),
    Phase("web", "side_by_side", "replaced at home", HOME),
    Phase("web", "side_by_side", "copies drained", DRAIN),
    Phase("web", "side_by_side", "copies removed", REMOVE),
    Phase("ledger", "held_switch", "starting copies", START),
    Phase("ledger", "held_switch", "known to the balancers", KNOWN),
    Phase("ledger", "held_switch", "held", held_for(1.5), held=True),
    Phase("ledger", "held_switch", "stopping", held_for(2.7), False, True),
    Phase("ledger", "held_switch", "migrating", held_for(3.6), False, True, True),
    Phase("ledger", "held_switch", "cutting over", held_for(4.8), False),
    Phase("ledger", "held_switch", "old one kept", Strike(BESIDE, SHARE, kill_after=1)),
    Phase("ledger", "held_switch", "replaced at home", HOME),
    Phase("ledger", "held_switch", "copies drained", DRAIN),
    Phase("ledger", "held_switch", "copies removed", REMOVE),
)
EVERY = os.environ.get("METHODS_KILLS") == "all"
# Enough for the last phase under each hold to be reached, on a machine that is busy.
DEADLINES = {"hold": 25, "side_by_side": 25, "held_switch": 15}
# HAProxy counts in ticks of at most a second, and those that waited go within one.
ENDED_WITHIN = 1.5
# So long there is still load after the next run has ended.
SERVES_SECONDS = 2
# Each copy's fifth request fails. At the first that does, the traffic goes back.
STEP_SECONDS, FAILED_AT_MOST = 15, 6


def ended_by_itself(lab: Laboratory, phase: Phase) -> float:
    """Waits for a hold that is on, and for its end: by its deadline. How many seconds ago it began."""
    on: set[str] = set()
    last: dict[str, dict[str, str]] = {}

    def begun() -> set[str]:
        on.update(balancer for balancer, hold in holds(lab, phase.subject).items() if hold["state"] == "on")
        return on

    def over() -> bool:
        last.update(holds(lab, phase.subject))
        return all(hold["state"] != "on" for hold in last.values())

    until(begun, "a hold")
    until(over, "the end of the hold")
    assert {last[balancer]["ended"] for balancer in on} == {"deadline"}
    age = max(float(last[balancer]["age"]) for balancer in on)
    assert age <= DEADLINES[phase.method] + ENDED_WITHIN
    return age


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase.worst or EVERY], ids=str)
def test_the_next_run_finishes(lab: Laboratory, upgrade: Start, tmp_path: Path, phase: Phase) -> None:
    _running, release = target(lab, upgrade, phase.subject, phase.method)
    before = configured(lab)
    deadline = DEADLINES[phase.method]
    with under_load(lab, phase.subject, tmp_path / "load") as seen:
        short = {"hold": {"deadline": f"{deadline}s"}, "side_by_side": {"step_time": "4s", "switch_back_window": "3s"}}
        run = upgrade(phase.subject, phase.release or release, phase.method, strike=phase.strike, more=short)
        assert run.end() == -signal.SIGKILL, run.output
        assert run.mark.exists(), run.output
        # What was held when it was struck, or went to a version that fails, may have been due so long before.
        first = time.time() - deadline
        if phase.held:
            first = time.time() - ended_by_itself(lab, phase) - 1
        until(lambda: all(hold["state"] != "on" for hold in holds(lab, phase.subject).values()), "the end of any hold")
        patient = {**short, "hold": {"deadline": "50s"}}
        run = upgrade(phase.subject, release, phase.method, more=patient)
        assert run.end() == 0, run.output
        time.sleep(SERVES_SECONDS)
    whole(lab, phase.subject, release)
    assert configured(lab) == before
    if phase.served:
        assert seen["failed"] == 0, seen["failures"]
    # Before the strike, and once the next run has switched, something serves.
    assert all(first <= at <= switched(phase.subject)["ended"] for at in failed_at(seen)), (first, failed_at(seen))


def test_the_balancer_sends_the_traffic_back_when_nobody_else_can(
    lab: Laboratory, upgrade: Start, tmp_path: Path
) -> None:
    _running, release = target(lab, upgrade, "web", "side_by_side")
    with under_load(lab, "web", tmp_path / "load") as seen:
        step = {"side_by_side": {"step_time": f"{STEP_SECONDS}s"}}
        run = upgrade("web", FAILING, "side_by_side", strike=Strike(BESIDE, SHARE, kill_after=2), more=step)
        assert run.end() == -signal.SIGKILL, run.output
        struck = time.time()
        time.sleep(STEP_SECONDS + 5)
        run = upgrade("web", release, "side_by_side")
        assert run.end() == 0, run.output
    whole(lab, "web", release)
    # It fails one in five, so that the first that fails is soon there; what is in flight then may fail, too.
    assert seen["failed"] > 0
    assert all(struck - 5 <= at <= struck + STEP_SECONDS for at in failed_at(seen)), (struck, failed_at(seen))
    assert seen["failed"] <= FAILED_AT_MOST
