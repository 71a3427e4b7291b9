# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which method is chosen, and the words and numbers of its reason."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._methods import Choice, choose
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import (
    METHODS,
    Artifact,
    Instance,
    InstanceState,
    Service,
    SideBySide,
    State,
    Traffic,
)

FITS = Traffic(rate=20, timeout=60, room=1000)
BACKENDS = {"backends": ("back",)}
COPY = {"backends": ("back",), "side_by_side": SideBySide((15000, 15009))}
ALONE = "it is a single instance: while it is replaced, 0 of 1 serve"


def service(count: int, **keys: Any) -> Service:
    artifact = Artifact("container", "web", "web:2")
    return Service("web", tuple(Instance("web", f"h{index}", artifact) for index in range(count)), **keys)


def choice(count: int, traffic: Traffic | None = None, seconds: float | None = None, **keys: Any) -> Choice:
    chosen = service(count, **keys)
    estimates = {} if seconds is None else {each.name: seconds for each in chosen.instances}
    return choose(chosen, State(traffic={"web": traffic} if traffic else {}), estimates)


@pytest.mark.parametrize(
    ("found", "method", "reason"),
    [
        (choice(3), "roll", "2 of 3 remain to serve while 1 is out (max_unavailable: 1)"),
        (choice(5, max_unavailable=2), "roll", "3 of 5 remain to serve while 2 are out (max_unavailable: 1)"),
        (choice(1, outage_allowed=True), "roll", "the declaration permits an outage (max_unavailable: 1)"),
        (choice(1, method="roll"), "roll", f"declared; {ALONE}"),
        (
            choice(1, FITS, 7.0, **BACKENDS),
            "hold",
            "requests wait 7 s for the replacement (14 s with a margin of 2), within the smallest timeout of 1 min; "
            "280 requests would arrive in it (20 per second), and 1000 fit",
        ),
        (
            choice(3, FITS, 7.0, version_skew=False, **BACKENDS),
            "hold",
            "requests wait 7 s for the replacement (14 s with a margin of 2), within the smallest timeout of 1 min; "
            "280 requests would arrive in it (20 per second), and 1000 fit",
        ),
        (
            choice(1, FITS, 31.0, **COPY),
            "side_by_side",
            "there is room for a second copy: new starts beside old, then traffic moves",
        ),
        (
            choice(1, **COPY),
            "side_by_side",
            "there is room for a second copy: new starts beside old, then traffic moves",
        ),
        (
            choice(3, FITS, 31.0, version_skew=False, **COPY),
            "held_switch",
            "there is room for a second copy: new starts beside old; requests wait 1 s for the switch (2 s with a "
            "margin of 2), within the smallest timeout of 1 min; 40 requests would arrive in it (20 per second), and "
            "1000 fit",
        ),
        (choice(1, FITS, 7.0, method="hold", **BACKENDS), "hold", None),
        (choice(1, method="side_by_side", **COPY), "side_by_side", None),
    ],
)
def test_chosen(found: Choice, method: str, reason: str | None) -> None:
    assert found.method == method
    assert found.needs == ""
    assert reason is None or found.reason == reason
    assert found.reason.startswith("declared; ") == (not found.rejected)


@pytest.mark.parametrize(
    ("found", "why", "needs"),
    [
        (
            choice(1),
            {"roll": ALONE, "hold": "no balancer is declared at which requests could wait"},
            "To make it possible, add a second instance, or permit the outage with min_available: 0, or put it behind "
            "a balancer, or declare side_by_side where the hosts have room to run new beside old.",
        ),
        (
            choice(1, seconds=7.0, **BACKENDS),
            {
                "hold": "requests would wait 7 s for the replacement, but the rate of its requests, the smallest "
                "timeout on the way and how many waiting requests fit are not known",
                "side_by_side": "no room for a second copy is declared",
            },
            "To make it possible, add a second instance, or permit the outage with min_available: 0, or let the "
            "balancers measure its traffic, so that the rate of its requests, the smallest timeout on the way and how "
            "many waiting requests fit are known, or declare side_by_side where the hosts have room to run new "
            "beside old.",
        ),
        (
            choice(1, Traffic(20, 60, None), 7.0, **BACKENDS),
            {
                "hold": "requests would wait 7 s for the replacement, but how many waiting requests fit is not known",
            },
            None,
        ),
        (
            choice(1, FITS, None, **BACKENDS),
            {"hold": "how long a replacement takes is not known"},
            None,
        ),
        (
            choice(1, Traffic(20, 10, 1000), 7.0, **BACKENDS),
            {
                "hold": "requests would wait 7 s for the replacement (14 s with a margin of 2), longer than the "
                "smallest timeout of 10 s"
            },
            None,
        ),
        (
            choice(1, Traffic(20, 60, 279), 7.0, **BACKENDS),
            {
                "hold": "requests would wait 7 s for the replacement (14 s with a margin of 2); 280 requests would "
                "arrive in it (20 per second), and only 279 fit"
            },
            None,
        ),
        (
            choice(3, version_skew=False),
            {
                "roll": "3 instances one after the other would let two versions serve together (version_skew: false)",
                "side_by_side": "old and new would serve together while traffic moves (version_skew: false)",
                "held_switch": "no room for a second copy is declared",
            },
            None,
        ),
        (choice(2, max_unavailable=2), {"roll": "2 of 2 may be out, so 0 remain (max_unavailable: 1)"}, None),
        (choice(3, version_skew=False, **COPY), {}, None),
    ],
)
def test_refused(found: Choice, why: dict[str, str], needs: str | None) -> None:
    assert found.method is None
    rejected = dict(found.rejected)
    assert tuple(rejected) == METHODS
    assert {name: rejected[name] for name in why} == why
    assert found.reason == f"no method upgrades web without an outage: {rejected['roll']}"
    assert found.needs.startswith("To make it possible, ")
    assert needs is None or found.needs == needs


@pytest.mark.parametrize("method", ["hold", "held_switch"])
def test_a_declared_method_that_is_not_proven_is_refused(method: str) -> None:
    found = choice(1, method=method, **COPY)
    assert found.method is None
    assert found.reason.startswith(f"{method} is declared, but ")
    assert found.needs.startswith("To make it possible, ")


def test_an_outage_is_not_chosen_for_a_budget_of_nothing() -> None:
    assert choice(3, max_unavailable=0, method="roll").method is None


def test_members_that_are_out_already_are_counted() -> None:
    state = State({"web@h0": InstanceState(healthy=False), "web@h1": InstanceState(healthy=False)})
    found = choose(service(3), state, {})
    assert found.reason == "1 of 3 remain to serve while 2 are out, 2 of them already (max_unavailable: 1)"


def test_a_service_that_does_not_serve_has_nothing_to_lose() -> None:
    found = choose(service(1), State({"web@h0": InstanceState(healthy=False)}), {})
    assert (found.method, found.reason) == ("roll", "none of its 1 serves now, so nothing is lost (max_unavailable: 1)")


def test_nothing_to_do() -> None:
    state = State({"web@h0": InstanceState(current=True)})
    assert choose(service(1), state, {}) == Choice("roll", "nothing to do: every instance already runs its target")


def test_only_what_is_replaced_makes_a_pause() -> None:
    two = service(2, version_skew=False, backends=("back",))
    state = State({"web@h1": InstanceState(current=True)}, traffic={"web": FITS})
    assert choose(two, state, {"web@h0": 7.0, "web@h1": 1000.0}).method == "hold"


def test_the_declared_estimate_stands_in_for_a_missing_one() -> None:
    assert choice(1, FITS, **BACKENDS, estimates={"replace": 7.0}).method == "hold"
