# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One Keystone, replaced while its requests wait at the balancers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Upgrade, balancers, foreseen, releases, switched, target, under_load, whole
from laboratory import Laboratory
from load import longest_wait

Start = Callable[..., Upgrade]
# A machine under load takes its time: what is proven is that nothing fails, not that it is quick.
PATIENT = {"hold": {"deadline": "50s"}}
# One look at the flag, and the time in which those that waited go one after another.
LETTING_GO = 1.35
# Keystone has just started then, and works off what has waited.
WORKED_OFF = 3.0
# Nothing happens to requests after the refusal either; and the last slow answers would be a large part of a short load.
GOES_ON = 20


def upgraded(lab: Laboratory, upgrade: Start, folder: Path, **more: Any) -> dict[str, Any]:
    """Upgrades while no request fails and the longest wait is the pause; what the hold came to."""
    _running, release = target(lab, upgrade, "keystone", "hold")
    with under_load(lab, "keystone", folder) as seen:
        run = upgrade("keystone", release, "hold", more=more)
        assert run.end() == 0, run.output
    whole(lab, "keystone", release)
    assert seen["failed"] == 0, seen["failures"]
    hold: dict[str, Any] = switched("keystone")["details"]["hold"]
    assert set(hold["ended"]) == {"off"}
    assert hold["rejected"] == 0
    assert hold["tested"] == balancers(lab)
    assert hold["held"] >= hold["greatest"]
    assert hold["longest"] == pytest.approx(hold["pause"], abs=LETTING_GO)
    # A client's wait is longer by what Keystone takes, and not shorter but for the few that asked for something else.
    assert hold["longest"] - 0.5 <= longest_wait(seen) <= hold["longest"] + WORKED_OFF
    return hold


def test_no_request_fails_and_the_hold_comes_to_what_the_plan_predicted(
    lab: Laboratory, upgrade: Start, tmp_path: Path
) -> None:
    upgraded(lab, upgrade, tmp_path / "first", **PATIENT)
    # The second plan has learned from the first run how long it takes here, and computes the deadline itself.
    hold = upgraded(lab, upgrade, tmp_path / "second")
    plan = foreseen("keystone")
    assert hold["pause"] <= plan["deadline"]
    assert hold["pause"] == pytest.approx(plan["pause"], rel=0.2)
    assert hold["greatest"] == pytest.approx(plan["waiting"], rel=0.2)
    assert hold["memory"] == pytest.approx(plan["memory"], rel=0.2)


def test_too_long_a_pause_is_refused_by_the_plan(lab: Laboratory, upgrade: Start, tmp_path: Path) -> None:
    running, release = target(lab, upgrade, "keystone", "hold")
    with under_load(lab, "keystone", tmp_path / "load") as seen:
        run = upgrade("keystone", release, "hold", more={"estimates": {"replace": "65s"}})
        assert run.end() != 0
        time.sleep(GOES_ON)
    assert "longer than the smallest timeout of 1 min (the clients' own)" in " ".join(run.output.split())
    assert seen["failed"] == 0, seen["failures"]
    whole(lab, "keystone", running)


def test_by_force_a_hold_ends_at_its_deadline_and_the_old_version_is_back(
    lab: Laboratory, upgrade: Start, tmp_path: Path
) -> None:
    running, _release = target(lab, upgrade, "keystone", "hold")
    # It takes a minute to start, as is declared, and longer than the bound.
    slow = {"estimates": {"replace": "65s"}, "hold": {"deadline": "15s", "on_deadline": "reject"}}
    run = upgrade("keystone", "30.0.0-slow", "hold", more=slow)
    assert run.end() != 0
    assert "so the hold would end before the new version is there" in " ".join(run.output.split())
    with under_load(lab, "keystone", tmp_path / "load") as seen:
        run = upgrade("keystone", "30.0.0-slow", "hold", more={**slow, "hold": {**slow["hold"], "force": True}})
        assert run.end() != 0
    assert "keystone: held by force (hold.force)" in " ".join(run.output.split())
    assert releases(lab, "keystone") == {running}
    whole(lab, "keystone", running)
    details = switched("keystone")["details"]
    assert details["switched_back"]
    assert "deadline" in details["hold"]["ended"]
    # Each that was rejected got its 503; between the deadline and the old version's return others failed.
    refused = sum("status 503" in failure["reason"] for failure in seen["failures"])
    assert 0 < details["hold"]["rejected"] <= refused <= seen["failed"]
    assert f"{seen['failed']} of {seen['sent']} requests failed" in seen["proves"]["text"]
