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


PHASES: tuple[Phase, ...] = ()
EVERY = os.environ.get("METHODS_KILLS") == "all"
DEADLINE = 20


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
