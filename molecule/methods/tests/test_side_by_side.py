# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Second copies beside the instances: the traffic goes over to them in steps, and back where they fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from conftest import Upgrade, configured, switched, target, under_load, whole
from laboratory import Laboratory
from load import shares

Start = Callable[..., Upgrade]
STEPS = [5, 25, 100]
# How long a stretch of a step is looked at, in seconds: shorter than a step, so that some stretch is all within it.
STRETCH = 5
# So many of them, one after the other, make a step: two jumps between which the share only passes by have fewer.
STEADY = 3


def near(share: float, percent: int) -> bool:
    """Within five points; of five percent something has to be there."""
    return max(1, percent - 5) < share <= percent + 5


def test_no_request_fails_and_the_traffic_goes_over_as_declared(
    lab: Laboratory, upgrade: Start, tmp_path: Path
) -> None:
    _running, release = target(lab, upgrade, "web", "side_by_side")
    before = configured(lab)
    with under_load(lab, "web", tmp_path / "load") as seen:
        run = upgrade("web", release, "side_by_side")
        assert run.end() == 0, run.output
    whole(lab, "web", release)
    assert configured(lab) == before
    assert seen["failed"] == 0, seen["failures"]
    steps = switched("web")["details"]["steps"]
    assert [step["percent"] for step in steps] == STEPS
    assert [step["errors"] for step in steps] == [0, 0, 0]
    for step in steps:
        assert near(step["share"], step["percent"])
    # What clients saw of it, whatever the run says.
    found = shares(seen, release, STRETCH)
    for percent in STEPS:
        starts = range(len(found) - STEADY + 1)
        at = next((at for at in starts if all(near(share, percent) for share in found[at : at + STEADY])), None)
        assert at is not None, (percent, found)
        found = found[at + STEADY :]


def test_a_version_that_fails_is_switched_back_at_the_first_step(
    lab: Laboratory, upgrade: Start, tmp_path: Path
) -> None:
    running, _release = target(lab, upgrade, "web", "side_by_side")
    before = configured(lab)
    with under_load(lab, "web", tmp_path / "load") as seen:
        run = upgrade("web", "2-failing", "side_by_side")
        assert run.end() != 0
    whole(lab, "web", running)
    assert configured(lab) == before
    details = switched("web")["details"]
    assert details["switched_back"]
    assert [step["percent"] for step in details["steps"]] == STEPS[:1]
    # Its share of the requests of that step, and of these one in five failed; the step itself may have been cut short.
    step = details["steps"][0]
    assert near(step["share"], STEPS[0])
    assert 0 < seen["failed"] <= step["requests"]
    assert seen["failed"] <= seen["versions"]["2-failing"]
