# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _simulation

OPTIONS = {
    "hosts": 30,
    "seed": 1,
    "failures": "0",
    "max_failures": None,
    "slow_zone": None,
    "slow_factor": 3.0,
    "forks": None,
}


def _what_if(**others: Any) -> dict[str, Any]:
    return _simulation.what_if(_simulation.sample(), {**OPTIONS, **others})


def test_without_failures_everything_is_done_within_the_budgets() -> None:
    found = _what_if()
    assert (found["done"], found["failed"], found["left"]) == (found["jobs"], [], [])
    assert all(most <= capacity for most, capacity in found["greatest_out"].values())
    assert "budgets       kept at every moment" in _simulation.page(found)


def test_the_same_seed_gives_the_same_run() -> None:
    assert _what_if(failures="10%") == _what_if(failures="10%")
    assert _what_if(seed=2)["makespan"] != _what_if(seed=3)["makespan"]


def test_failing_hosts_stop_it_and_are_named() -> None:
    found = _what_if(failures="10%")
    assert found["failed"]
    assert found["left"]
    text = _simulation.page(found)
    assert found["failed"][0] in text
    assert "it stopped    after" in text
    assert "it took" not in text


def test_a_slow_zone_and_few_forks_take_longer() -> None:
    usual = _what_if()["makespan"]
    assert _what_if(slow_zone="zone2")["makespan"] > usual
    assert _what_if(forks=1)["makespan"] > usual


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hosts": 3}, "hosts: 3 are fewer than the 10"),
        ({"failures": "often"}, "failures: 'often' is no share; write such as 2% or 0.02"),
        ({"failures": "120%"}, "failures: '120%' is no share"),
        ({"slow_zone": "attic"}, "slow_zone: 'attic' is no failure domain; there are zone1, zone2, zone3"),
        ({"slow_factor": 0}, "slow_factor: 0 is not above 0"),
        ({"forks": -1}, "forks: -1 is not above 0"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(_simulation.SimulationError, match=message):
        _what_if(**options)
