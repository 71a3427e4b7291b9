# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Three instances whose versions must not mix, and a schema that can be changed only while none has it open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import Upgrade, configured, foreseen, switched, target, under_load, whole
from laboratory import Laboratory
from load import longest_wait

Start = Callable[..., Upgrade]
PATIENT = {"hold": {"deadline": "50s"}}


def pause(lab: Laboratory, upgrade: Start, method: str, folder: Path, **more: Any) -> float:
    """Upgrades by the method; no request fails, and no old answer comes after a new one. How long requests waited."""
    running, release = target(lab, upgrade, "ledger", "held_switch")
    before = configured(lab)
    with under_load(lab, "ledger", folder) as seen:
        run = upgrade("ledger", release, method, more=more)
        assert run.end() == 0, run.output
    whole(lab, "ledger", release)
    assert configured(lab) == before
    assert seen["failed"] == 0, seen["failures"]
    assert lab.container(lab.state["services"]["ledger"]["nodes"][0], "ledger").file("/schema/ledger").contains(release)
    answers = [bucket.get("versions", {}) for bucket in seen["over_time"]["buckets"]]
    # Counted by when they were due: the second in which the pause began has answers of both, or it and its neighbour.
    last_old = max(second for second, versions in enumerate(answers) if running in versions)
    first_new = min(second for second, versions in enumerate(answers) if release in versions)
    assert last_old <= first_new + 1
    hold = switched("ledger")["details"]["hold"]
    assert set(hold["ended"]) == {"off"}
    assert hold["pause"] <= foreseen("ledger")["deadline"]
    assert longest_wait(seen) < hold["pause"] + 4
    return float(hold["pause"])


def test_no_request_fails_and_the_pause_is_a_third_of_holds(lab: Laboratory, upgrade: Start, tmp_path: Path) -> None:
    whole_replacement = pause(lab, upgrade, "hold", tmp_path / "hold", **PATIENT)
    # By the deadline that the plan computes.
    only_the_switch = pause(lab, upgrade, "held_switch", tmp_path / "held_switch")
    assert only_the_switch <= whole_replacement / 3
