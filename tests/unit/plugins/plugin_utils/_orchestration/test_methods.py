# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which method is chosen, and the words and numbers of its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._estimates import Estimates
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._methods import Choice, choose
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import (
    METHODS,
    Artifact,
    Cluster,
    Database,
    Hold,
    Instance,
    InstanceState,
    SecondCopy,
    Service,
    SideBySide,
    Spare,
    State,
    Traffic,
)

FITS = Traffic(rate=20, timeout=60, room=1000, timeout_name="timeout client of web", room_name="maxconn")
BACKENDS = {"backends": ("back",)}
COPY = {"backends": ("back",), "side_by_side": SideBySide((15000, 15001), memory=300_000_000)}
OFFLINE = {**COPY, "database": Database(offline=True), "estimates": {"replace": 31.0, "offline": 3.0}}
ALONE = "it is a single instance: while it is replaced, 0 of 1 serve"
HELD = (
    "requests wait 7 s for the replacement (deadline 14 s, after which the last has waited 14.3 s), within the "
    "smallest timeout of 1 min (timeout client of web); 280 requests would arrive until then (20 per second), and 1000 "
    "fit (maxconn)"
)
ROOM = Spare(4_000_000_000, 9_000_000_000, frozenset({80, 15000}))


def service(count: int, seconds: float | None = None, **keys: Any) -> Service:
    artifact = Artifact("container", "web", "web:2")
    declared = {**({} if seconds is None else {"replace": seconds}), **keys.pop("estimates", {})}
    instances = tuple(Instance("web", f"h{index}", artifact) for index in range(count))
    return Service("web", instances, estimates=declared, **keys)


def chosen(
    of: Service, state: State | None = None, measured: Mapping[tuple[str, str, str], list[float]] | None = None
) -> Choice:
    return choose(of, state or State(), Estimates(Cluster({"web": of}), measured))


def choice(
    count: int,
    traffic: Traffic | None = None,
    seconds: float | None = None,
    *,
    spare: Spare | None = ROOM,
    **keys: Any,
) -> Choice:
    of = service(count, seconds, **keys)
    hosts = {each.host: spare for each in of.instances} if spare else {}
    return chosen(of, State(traffic={"web": traffic} if traffic else {}, spare=hosts))


@pytest.mark.parametrize(
    ("found", "method", "reason"),
    [
        (choice(3), "roll", "2 of 3 remain to serve while 1 is out (max_unavailable: 1)"),
        (choice(5, max_unavailable=2), "roll", "3 of 5 remain to serve while 2 are out (max_unavailable: 1)"),
        (choice(1, outage_allowed=True), "roll", "the declaration permits an outage (max_unavailable: 1)"),
        (choice(1, method="roll"), "roll", f"declared; {ALONE}"),
        (choice(1, FITS, 7.0, **BACKENDS), "hold", HELD),
        (choice(3, FITS, 7.0, version_skew=False, **BACKENDS), "hold", HELD),
        (
            choice(1, FITS, 31.0, **COPY),
            "side_by_side",
            "there is room for a second copy of each instance (300 MB in all; h0 has 4 GB of memory, 9 GB of disk and "
            "1 ports left): new starts beside old, then traffic moves",
        ),
        (choice(1, **COPY), "side_by_side", None),
        (
            choice(3, FITS, 31.0, version_skew=False, **COPY),
            "held_switch",
            "there is room for a second copy of each instance (900 MB in all; h0 has 4 GB of memory, 9 GB of disk and "
            "1 ports left): new starts beside old; requests wait 3 s for the switch (deadline 10 s, after which the "
            "last has waited 10.2 s), within the smallest timeout of 1 min (timeout client of web); 200 requests would "
            "arrive until then (20 per second), and 1000 fit (maxconn)",
        ),
        (choice(3, FITS, **OFFLINE), "held_switch", None),
        (choice(1, FITS, 7.0, method="hold", **BACKENDS), "hold", None),
        (choice(1, method="side_by_side", **COPY), "side_by_side", None),
        (choice(1, method="side_by_side", version_skew=False, **COPY), "side_by_side", None),
    ],
)
def test_chosen(found: Choice, method: str, reason: str | None) -> None:
    assert found.method == method
    assert found.needs == ""
    assert reason is None or found.reason == reason
    assert found.reason.startswith("declared; ") == (not found.rejected)
    assert (found.pause is not None) == (method in ("hold", "held_switch"))


UNKNOWN_TRAFFIC = (
    "let the balancers measure its traffic, and name HAProxy's configuration (upgrade_haproxy_config), so that the "
    "rate of its requests, the smallest timeout on the way and how many waiting requests fit are known"
)


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
            "To make it possible, add a second instance, or permit the outage with min_available: 0, or "
            f"{UNKNOWN_TRAFFIC}, or declare side_by_side where the hosts have room to run new beside old.",
        ),
        (
            choice(1, Traffic(20, 60, None), 7.0, **BACKENDS),
            {
                "hold": "requests would wait 7 s for the replacement, but how many waiting requests fit is not known",
            },
            None,
        ),
        (
            choice(1, replace(FITS, unfit="lb1 can't hold it"), 7.0, **BACKENDS),
            {"hold": "lb1 can't hold it"},
            None,
        ),
        (
            choice(1, FITS, None, **BACKENDS),
            {"hold": "how long a replacement takes is not known"},
            None,
        ),
        (
            choice(1, FITS, 7.0, database=Database(offline=True), **BACKENDS),
            {
                "roll": "database.offline needs every instance stopped at once",
                "hold": "how long database.offline takes is not known",
            },
            None,
        ),
        (
            choice(1, replace(FITS, timeout=14.2), 7.0, **BACKENDS),
            {
                "hold": "requests would wait 7 s for the replacement (deadline 14 s, after which the last has waited "
                "14.3 s), longer than the smallest timeout of 14.2 s (timeout client of web)"
            },
            None,
        ),
        (
            choice(1, FITS, 7.0, hold=Hold(timeouts={"the clients": 10.0}), **BACKENDS),
            {
                "hold": "requests would wait 7 s for the replacement (deadline 14 s, after which the last has waited "
                "14.3 s), longer than the smallest timeout of 10 s (the clients)"
            },
            None,
        ),
        (
            choice(1, FITS, 7.0, hold=Hold(deadline=6.0), **BACKENDS),
            {
                "hold": "requests would wait 7 s for the replacement (deadline 6 s), so the hold would end before the "
                "new version is there"
            },
            None,
        ),
        (
            choice(1, replace(FITS, room=279), 7.0, **BACKENDS),
            {
                "hold": "requests would wait 7 s for the replacement (deadline 14 s, after which the last has waited "
                "14.3 s); 280 requests would arrive until then (20 per second), and only 279 fit (maxconn)"
            },
            None,
        ),
        (
            choice(3, version_skew=False),
            {
                "roll": "3 instances one after the other would let two versions serve together (version_skew: false)",
                "side_by_side": "no room for a second copy is declared",
                "held_switch": "no room for a second copy is declared",
            },
            None,
        ),
        (choice(2, max_unavailable=2), {"roll": "2 of 2 may be out, so 0 remain (max_unavailable: 1)"}, None),
        (
            choice(3, version_skew=False, **COPY),
            {"side_by_side": "old and new would serve together while traffic moves (version_skew: false)"},
            None,
        ),
        (choice(1, spare=None, **COPY), {"side_by_side": "what h0 has left is not known"}, None),
        (
            choice(1, spare=replace(ROOM, memory=200_000_000), **COPY),
            {"side_by_side": "h0 has 200 MB of memory left, and second copies take 300 MB"},
            None,
        ),
        (
            choice(1, spare=replace(ROOM, disk=10_000_000), **COPY),
            {"side_by_side": "h0 has 10 MB of disk left, and second copies take 200 MB"},
            None,
        ),
        (
            choice(1, spare=replace(ROOM, ports=frozenset({15000, 15001})), **COPY),
            {"side_by_side": "0 of the ports 15000-15001 are free on h0, and 1 are needed"},
            None,
        ),
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
    assert (
        chosen(service(3), state).reason
        == "1 of 3 remain to serve while 2 are out, 2 of them already (max_unavailable: 1)"
    )


def test_a_service_that_does_not_serve_has_nothing_to_lose() -> None:
    found = chosen(service(1), State({"web@h0": InstanceState(healthy=False)}))
    assert (found.method, found.reason) == ("roll", "none of its 1 serves now, so nothing is lost (max_unavailable: 1)")


def test_nothing_to_do() -> None:
    state = State({"web@h0": InstanceState(current=True)})
    assert chosen(service(1), state) == Choice("roll", "nothing to do: every instance already runs its target")


def test_only_what_is_replaced_makes_a_pause() -> None:
    two = service(2, version_skew=False, backends=("back",))
    state = State({"web@h1": InstanceState(current=True)}, traffic={"web": FITS})
    measured = {("replace", "web", "h0"): [17.0] * 3, ("replace", "web", "h1"): [1000.0] * 3}
    found = chosen(two, state, measured)
    assert found.pause is not None
    assert found.pause.seconds == 7.0


def test_what_was_held_before_is_what_will_be_held() -> None:
    of = service(1, 7.0, **BACKENDS, database=Database(offline=True))
    state = State(traffic={"web": FITS})
    measured = {("pause hold", "web", "h0"): [4.0], ("offline", "web", "h0"): [2.0]}
    found = chosen(of, state, measured)
    assert found.pause is not None
    assert found.pause.seconds == 6.0
    assert found.pause.source == "median of 1 earlier run of web; database.offline: median of 1 earlier run of web"


@pytest.mark.parametrize(
    ("traffic", "seconds"),
    [
        (replace(FITS, slowest=2.0), 5.0),
        (replace(FITS, slowest=90.0, timeout=600.0, room=10000), 63.0),
        (replace(FITS, tcp=("back",), concurrency=4, timeout=600.0, room=10000), 63.0),
        (replace(FITS, tcp=("back",), concurrency=0), 3.0),
    ],
)
def test_the_old_ones_answer_before_the_switch(traffic: Traffic, seconds: float) -> None:
    found = choice(3, traffic, 300.0, version_skew=False, **COPY)
    assert found.method == "held_switch"
    assert found.pause is not None
    assert found.pause.seconds == seconds


@pytest.mark.parametrize(
    ("declared", "traffic", "deadline"),
    [
        (None, FITS, 10.0),
        (None, replace(FITS, timeout=10.0), 8.0),
        (None, replace(FITS, room=180), 8.0),
        (6.0, FITS, 6.0),
    ],
)
def test_a_deadline_is_ample_where_that_fits(declared: float | None, traffic: Traffic, deadline: float) -> None:
    found = choice(1, traffic, 4.0, hold=Hold(declared), **BACKENDS)
    assert found.pause is not None
    assert found.pause.deadline == deadline


@pytest.mark.parametrize(
    ("method", "keys", "against"),
    [
        (
            "hold",
            {**BACKENDS, "hold": Hold(6.0, force=True)},
            "requests would wait 7 s for the replacement (deadline 6 s), so the hold would end before the new version "
            "is there",
        ),
        (
            "held_switch",
            {**COPY, "hold": Hold(timeouts={"the clients": 2.0}, force=True)},
            "requests would wait 3 s for the switch (deadline 6 s, after which the last has waited 6.1 s), longer than "
            "the smallest timeout of 2 s (the clients)",
        ),
    ],
)
def test_who_forces_it_holds_although_a_number_is_in_the_way(method: str, keys: dict[str, Any], against: str) -> None:
    found = choice(1, FITS, 7.0, method=method, **keys)
    assert found.method == method
    assert found.reason == f"declared, and forced (hold.force) although {against}"
    assert found.forced == against
    assert found.pause is not None
    unforced = {**keys, "hold": replace(keys["hold"], force=False)}
    assert choice(1, FITS, 7.0, method=method, **unforced).method is None


def test_force_helps_neither_the_unknown_nor_auto() -> None:
    forced = Hold(6.0, force=True)
    assert choice(1, FITS, 7.0, hold=forced, **BACKENDS).method is None
    assert choice(1, None, 7.0, method="hold", hold=forced, **BACKENDS).method is None
    assert choice(1, replace(FITS, unfit="lb1 can't"), 7.0, method="hold", hold=forced, **BACKENDS).method is None


def test_what_a_request_takes_is_reckoned_with_as_declared() -> None:
    found = choice(1, FITS, 7.0, hold=Hold(bytes_per_request=40_000), **BACKENDS).pause
    assert found is not None
    assert (found.expected.memory, found.most.memory) == (140 * 40_000, 280 * 40_000)


def test_what_would_change_the_choice() -> None:
    assert choice(3).turns == "with 1 instances or fewer it could not be rolled, nor with version_skew: false"
    assert choice(1, FITS, 7.0, **BACKENDS).turns == (
        "above a pause of 29.8 s, or 71 requests per second, they could not wait; roll would do, if you add a second "
        "instance, or permit the outage with min_available: 0"
    )
    assert choice(1, FITS, 31.0, **COPY).turns == (
        "with less than 300 MB of memory left on a host there would be no room; roll would do, if you add a second "
        "instance, or permit the outage with min_available: 0; hold would do, if you raise the timeouts on the way to "
        "1 min 3 s"
    )


def test_from_second_copies_there_is_only_home() -> None:
    of = service(1, version_skew=False, **BACKENDS)
    state = State(
        {"web@h0": InstanceState(healthy=False)},
        beside={"web": {"web@h0": SecondCopy("h0", "web:2", current=True, serving=True)}},
    )
    assert chosen(of, state).method == "held_switch"
