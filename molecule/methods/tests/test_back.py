# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What speaks against the new version, or against going on: the old one serves again, and no more fails than had to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Upgrade, configured, foreseen, switched, target, under_load, whole
from laboratory import Laboratory

Start = Callable[..., Upgrade]
SHARE = "Give the second copies their share on all balancers"
WINDOW = "Look at the new version for a while, and keep the old one"
# Versions of `web` may serve together; these ask for what is done where they may not.
APART = {"version_skew": False}
# Long enough for another playbook to start meanwhile.
WATCHED = {**APART, "side_by_side": {"switch_back_window": "20s"}}
# It fails, and the old version would still work after it.
MIGRATION = {"database": {"offline": "/bin/false", "offline_reversible": True}, "hold": {"deadline": "50s"}}


def went_back(lab: Laboratory, subject: str, running: str, before: dict[str, str]) -> dict[str, Any]:
    """The old version serves, alone, and the journal says so; the details of its job."""
    whole(lab, subject, running)
    assert configured(lab) == before
    details: dict[str, Any] = switched(subject)["details"]
    assert details["switched_back"]
    return details


@pytest.mark.parametrize(
    ("method", "place", "more"),
    [("side_by_side", SHARE, {}), ("held_switch", WINDOW, WATCHED)],
    ids=["in a step", "in the window after the switch"],
)
def test_an_abort_switches_back(
    lab: Laboratory, upgrade: Start, tmp_path: Path, method: str, place: str, more: dict[str, Any]
) -> None:
    running, release = target(lab, upgrade, "web", method)
    before = configured(lab)
    with under_load(lab, "web", tmp_path / "load") as seen:
        run = upgrade("web", release, method, more=more)
        run.wait_for(lambda: place in run.output)
        asked = upgrade("web", release, method, playbook="rondo.upgrade.abort")
        assert asked.end() == 0, asked.output
        assert run.end() != 0
    assert "an abort was requested" in went_back(lab, "web", running, before)["switched_back"]
    assert seen["failed"] == 0, seen["failures"]
    # It did serve.
    assert release in seen["versions"]


def test_what_only_the_probe_sees_switches_back(lab: Laboratory, upgrade: Start, tmp_path: Path) -> None:
    """HAProxy takes 404 for a good answer; the probe expects 200."""
    running, _release = target(lab, upgrade, "web", "side_by_side")
    before = configured(lab)
    with under_load(lab, "web", tmp_path / "load") as seen:
        live = tmp_path / "load" / "state.json"
        steps = {"side_by_side": {"steps": [25, 100]}}
        run = upgrade("web", "2-denying", "side_by_side", upgrade_probe_state=str(live), more=steps)
        assert run.end() != 0
    details = went_back(lab, "web", running, before)
    assert "requests of the probe failed" in details["switched_back"]
    [step] = details["steps"]
    assert step["errors"] == 0
    assert 0 < seen["failed"] <= step["requests"]


def test_a_version_that_fails_after_the_switch_is_switched_back(
    lab: Laboratory, upgrade: Start, tmp_path: Path
) -> None:
    running, _release = target(lab, upgrade, "web", "held_switch")
    before = configured(lab)
    with under_load(lab, "web", tmp_path / "load") as seen:
        run = upgrade("web", "2-failing", "held_switch", more=APART)
        assert run.end() != 0
    details = went_back(lab, "web", running, before)
    assert "requests to the copies failed" in details["switched_back"]
    assert set(details["hold"]["ended"]) == {"off"}
    # One in five of what it was asked, and nothing else.
    assert 0 < seen["failed"] <= seen["versions"]["2-failing"] / 3


@pytest.mark.parametrize("method", ["hold", "held_switch"])
def test_a_migration_that_fails_leaves_the_old_version_in_service(
    lab: Laboratory, upgrade: Start, tmp_path: Path, method: str
) -> None:
    running, release = target(lab, upgrade, "ledger", "held_switch")
    before = configured(lab)
    with under_load(lab, "ledger", tmp_path / "load") as seen:
        run = upgrade("ledger", release, method, more=MIGRATION)
        assert run.end() != 0
    hold = went_back(lab, "ledger", running, before)["hold"]
    assert set(hold["ended"]) == {"off"}
    assert hold["longest"] < foreseen("ledger")["deadline"]
    assert seen["failed"] == 0, seen["failures"]


def test_versions_that_must_not_mix_are_cut_over_at_once(lab: Laboratory, upgrade: Start, tmp_path: Path) -> None:
    _running, release = target(lab, upgrade, "web", "side_by_side")
    with under_load(lab, "web", tmp_path / "load") as seen:
        run = upgrade("web", release, "side_by_side", more=APART)
        assert run.end() == 0, run.output
    whole(lab, "web", release)
    assert seen["failed"] == 0, seen["failures"]
    [step] = switched("web")["details"]["steps"]
    assert step["percent"] == 100
    # How far apart the balancers were, and what clients saw of it: what the old ones still answer overlaps.
    assert 0 <= step["spread"] < 1
    both = [bucket for bucket in seen["over_time"]["buckets"] if len(bucket.get("versions", {})) > 1]
    assert len(both) <= 2
