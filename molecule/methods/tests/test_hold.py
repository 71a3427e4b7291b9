# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One Keystone, replaced while its requests wait at the balancers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Upgrade, releases, switched, target, under_load, whole
from laboratory import Laboratory
from load import RATE, longest_wait

from ansible_collections.rondo.upgrade.plugins.module_utils import _hold

Start = Callable[..., Upgrade]
# A machine under load takes its time: what is proven is that nothing fails, not that it is quick.
PATIENT = {"hold": {"deadline": "50s"}}


def test_no_request_fails_and_the_longest_wait_is_the_pause(lab: Laboratory, upgrade: Start, tmp_path: Path) -> None:
    _running, release = target(lab, upgrade, "keystone", "hold")
    with under_load(lab, "keystone", tmp_path / "load") as seen:
        run = upgrade("keystone", release, "hold", more=PATIENT)
        assert run.end() == 0, run.output
    whole(lab, "keystone", release)
    assert seen["failed"] == 0, seen["failures"]
    hold = switched("keystone")["details"]["hold"]
    assert set(hold["ended"]) == {"off"}
    assert hold["rejected"] == 0
    # HAProxy looks four times a second, and lets those that waited go within a second; Keystone then works them off.
    assert longest_wait(seen) == pytest.approx(hold["pause"], abs=4)
    foreseen = _hold.predict(RATE, hold["pause"])
    assert hold["greatest"] == pytest.approx(foreseen.waiting, rel=0.2)
    assert hold["held"] >= hold["greatest"]
    assert hold["memory"] == pytest.approx(_hold.predict(RATE, hold["greatest"] / RATE).memory, rel=0.2)


def test_too_long_a_pause_is_refused_by_the_plan(lab: Laboratory, upgrade: Start, tmp_path: Path) -> None:
    running, release = target(lab, upgrade, "keystone", "hold")
    with under_load(lab, "keystone", tmp_path / "load") as seen:
        run = upgrade("keystone", release, "hold", more={"estimates": {"replace": "65s"}})
        assert run.end() != 0
    assert "longer than the smallest timeout of 1 min (the clients' own)" in " ".join(run.output.split())
    assert seen["failed"] == 0, seen["failures"]
    whole(lab, "keystone", running)


def test_a_hold_ends_at_its_deadline_and_the_old_version_is_back(
    lab: Laboratory, upgrade: Start, tmp_path: Path
) -> None:
    running, _release = target(lab, upgrade, "keystone", "hold")
    with under_load(lab, "keystone", tmp_path / "load") as seen:
        # It takes a minute to start; the declaration does not know that.
        run = upgrade("keystone", "30.0.0-slow", "hold", more={"hold": {"deadline": "15s", "on_deadline": "reject"}})
        assert run.end() != 0
    assert releases(lab, "keystone") == {running}
    whole(lab, "keystone", running)
    details = switched("keystone")["details"]
    assert details["switched_back"]
    assert "deadline" in details["hold"]["ended"]
    # Each that was rejected got its 503; between the deadline and the old version's return others failed.
    refused = sum("status 503" in failure["reason"] for failure in seen["failures"])
    assert 0 < details["hold"]["rejected"] <= refused <= seen["failed"]
    assert f"{seen['failed']} of {seen['sent']} requests failed" in seen["proves"]["text"]
