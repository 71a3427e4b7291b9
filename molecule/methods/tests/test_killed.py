# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller is killed in the middle of each phase of each method: nothing is held for longer than the deadline,
and the next run finishes.

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
from conftest import Strike, Upgrade, configured, held, target, under_load, whole
from laboratory import Laboratory, until

Start = Callable[..., Upgrade]


@dataclass(frozen=True)
class Phase:
    """Where a run of a method is killed. `served`: something serves all the while, so that no request fails."""

    subject: str
    method: str
    name: str
    strike: Strike
    served: bool
    worst: bool = False

    def __str__(self) -> str:
        return f"{self.method}: {self.name}"


SWITCH, BESIDE = "rondo.upgrade.switch", "rondo.upgrade.side_by_side"
START = Strike(BESIDE, "Start the second copies", kill_after=2)
KNOWN = Strike(BESIDE, "Make them known to all balancers", kill_after=0.5)
SHARE = "Give the second copies their share on all balancers"
HOLD = "Hold requests on all balancers, until nothing is left on the "
OFFLINE = Strike(SWITCH, "Run the step that needs them stopped, with the new image", kill_after=0.3)
HOME = Strike("rondo.upgrade.replace_container", "Replace the container", kind="replace", kill_after=0.3)
DRAIN = Strike(BESIDE, "Drain the second copies on all balancers, and forget them there", kind="settle", kill_after=0.5)
REMOVE = Strike(BESIDE, "Remove their containers", kind="settle", kill_after=0.3)
PHASES = (
    Phase("web", "hold", "held", Strike(SWITCH, HOLD + "instances", kill_after=0.5), served=True),
    Phase("web", "hold", "replacing", Strike(SWITCH, "Replace their containers", kill_after=0.5), False, worst=True),
    Phase("web", "hold", "starting", Strike(SWITCH, "Ask the new ones themselves", kill_after=1), served=False),
    Phase("web", "hold", "checked", Strike(SWITCH, "See that HAProxy's own check calls them up"), served=False),
    Phase("web", "hold", "released", Strike(SWITCH, "See that they stay up"), served=True),
    Phase("ledger", "hold", "migrating", OFFLINE, served=False),
    Phase("web", "side_by_side", "starting copies", START, served=True),
    Phase("web", "side_by_side", "known to the balancers", KNOWN, served=True),
    Phase("web", "side_by_side", "first step", Strike(BESIDE, SHARE, kill_after=3), served=True, worst=True),
    Phase("web", "side_by_side", "last step", Strike(BESIDE, SHARE, kill_after=3, nth=3), served=True),
    Phase("web", "side_by_side", "old one kept", Strike(BESIDE, SHARE, kill_after=1, nth=4), served=True),
    Phase("web", "side_by_side", "replaced at home", HOME, served=True),
    Phase("web", "side_by_side", "copies drained", DRAIN, served=True),
    Phase("web", "side_by_side", "copies removed", REMOVE, served=True),
    Phase("ledger", "held_switch", "starting copies", START, served=True),
    Phase("ledger", "held_switch", "held", Strike(SWITCH, HOLD + "old version", kill_after=0.3), served=True),
    Phase("ledger", "held_switch", "stopping", Strike(SWITCH, "Stop them all", kill_after=0.5), served=False),
    Phase("ledger", "held_switch", "migrating", OFFLINE, served=False, worst=True),
    Phase("ledger", "held_switch", "cutting over", Strike(BESIDE, SHARE, kill_after=0.2), served=False),
    Phase("ledger", "held_switch", "old one kept", Strike(BESIDE, SHARE, kill_after=1, nth=2), served=True),
    Phase("ledger", "held_switch", "replaced at home", HOME, served=True),
    Phase("ledger", "held_switch", "copies drained", DRAIN, served=True),
)
EVERY = os.environ.get("METHODS_KILLS") == "all"
DEADLINE = 30


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase.worst or EVERY], ids=str)
def test_the_next_run_finishes(lab: Laboratory, upgrade: Start, tmp_path: Path, phase: Phase) -> None:
    _running, release = target(lab, upgrade, phase.subject, phase.method)
    before = configured(lab)
    with under_load(lab, phase.subject, tmp_path / "load") as seen:
        short = {"hold": {"deadline": f"{DEADLINE}s"}}
        run = upgrade(phase.subject, release, phase.method, strike=phase.strike, more=short)
        assert run.end() == -signal.SIGKILL, run.output
        assert run.mark.exists(), run.output
        killed = time.monotonic()
        until(lambda: "on" not in held(lab, phase.subject).values(), "the end of the hold")
        # Asking takes its time where the machine is busy; a hold that nobody ended would last for ever.
        waited = time.monotonic() - killed
        run = upgrade(phase.subject, release, phase.method, more={"hold": {"deadline": "50s"}})
        assert run.end() == 0, run.output
    assert waited < DEADLINE + 30
    whole(lab, phase.subject, release)
    assert configured(lab) == before
    if phase.served:
        assert seen["failed"] == 0, seen["failures"]
