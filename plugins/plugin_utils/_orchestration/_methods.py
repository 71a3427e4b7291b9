# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which method replaces a service's instances, and why, in words and numbers.

In this order: `roll` where enough instances remain; `hold` where they do not, but the waiting requests wait well within
every timeout and fit; `side_by_side` where there is room for a second copy; `held_switch` where there is room and
versions must not mix. Else none: `needs` says what would make an upgrade possible.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ._model import METHODS, InstanceState, Method, Service, State, Traffic
from ._quantities import show_duration

# Predictions err: this many times the pause must fit the smallest timeout, and the requests of that time the room.
MARGIN = 2

UNSEEN = InstanceState()

# Moving traffic from the old copy to the new one is a few commands on a socket, not a replacement.
SWITCH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Choice:
    """The method and its reason; `rejected` says why not the others.

    Without a method the service can't be upgraded as it stands: `needs` is then a sentence that says what would make it
    possible ("" otherwise).
    """

    method: Method | None
    reason: str
    rejected: tuple[tuple[Method, str], ...] = ()
    needs: str = ""


@dataclass(frozen=True, slots=True)
class _Verdict:
    fits: bool
    why: str
    needs: str = ""


def choose(service: Service, state: State, estimates: Mapping[str, float]) -> Choice:
    """The method for a service.

    `estimates` holds the seconds of each instance's replacement by instance name; the declared `estimates.replace`
    stands in where it lacks one. A declared method is the only one looked at.
    """
    if service.instances and all(_current(state, instance.name) for instance in service.instances):
        method: Method = "roll" if service.method == "auto" else service.method
        return Choice(method, "nothing to do: every instance already runs its target")
    traffic = state.traffic.get(service.name, Traffic())
    checks: dict[Method, Callable[[], _Verdict]] = {
        "roll": lambda: _roll(service, state),
        "hold": lambda: _hold(service, traffic, _pause(service, state, estimates)),
        "side_by_side": lambda: _side_by_side(service),
        "held_switch": lambda: _held_switch(service, traffic),
    }
    if service.method != "auto":
        return _declared(service, service.method, checks)
    rejected: list[tuple[Method, str]] = []
    needs: list[str] = []
    for name in METHODS:
        verdict = checks[name]()
        if verdict.fits:
            others = tuple((other, f"not needed: {name} is simpler") for other in METHODS[METHODS.index(name) + 1 :])
            return Choice(name, verdict.why, (*rejected, *others))
        rejected.append((name, verdict.why))
        if verdict.needs and verdict.needs not in needs:
            needs.append(verdict.needs)
    reason = f"no method upgrades {service.name} without an outage: {rejected[0][1]}"
    return Choice(None, reason, tuple(rejected), f"To make it possible, {', or '.join(needs)}.")


def _current(state: State, name: str) -> bool:
    return name in state.instances and state.instances[name].current


def _pause(service: Service, state: State, estimates: Mapping[str, float]) -> float | None:
    """How long requests would wait: instances are replaced together under a hold, so the longest replacement counts."""
    pauses: list[float] = []
    for instance in service.instances:
        if not _current(state, instance.name):
            declared = instance.estimates.get("replace", service.estimates.get("replace"))
            seconds = estimates.get(instance.name, declared)
            if seconds is None:
                return None
            pauses.append(seconds)
    return max(pauses, default=None)


def _declared(service: Service, method: Method, checks: Mapping[Method, Callable[[], _Verdict]]) -> Choice:
    verdict = checks[method]()
    # Who declares roll means it, also where nothing remains to serve; mixing versions is another matter.
    if verdict.fits or (method == "roll" and service.version_skew and service.max_unavailable):
        return Choice(method, f"declared; {verdict.why}")
    reason = f"{method} is declared, but {verdict.why}"
    return Choice(None, reason, ((method, verdict.why),), f"To make it possible, {verdict.needs}.")


def _roll(service: Service, state: State) -> _Verdict:
    size, out = len(service.instances), service.max_unavailable
    broken = sum(not state.instances.get(each.name, UNSEEN).healthy for each in service.instances)
    if broken == size and out:
        return _Verdict(True, f"none of its {size} serves now, so nothing is lost ({service.budget_text})")
    if not service.version_skew and size > 1:
        return _Verdict(
            False,
            f"{size} instances one after the other would let two versions serve together (version_skew: false)",
            "permit both versions together with version_skew: true",
        )
    if service.outage_allowed:
        return _Verdict(True, f"the declaration permits an outage ({service.budget_text})")
    if size > out >= 1:
        already = f", {broken} of them already" if broken else ""
        gone = max(out, broken)
        verb = "is" if gone == 1 else "are"
        why = f"{size - gone} of {size} remain to serve while {gone} {verb} out{already} ({service.budget_text})"
        return _Verdict(True, why)
    if size == 1:
        return _Verdict(
            False,
            "it is a single instance: while it is replaced, 0 of 1 serve",
            "add a second instance, or permit the outage with min_available: 0",
        )
    return _Verdict(
        False,
        f"{min(out, size)} of {size} may be out, so {max(size - out, 0)} remain ({service.budget_text})",
        "let some instances be out and some remain (min_available)",
    )


def bears_no_outage(service: Service, state: State) -> str:
    """Why an instance must not be out for a while, as it is while its host is worked on; "" where it may."""
    verdict = _roll(replace(service, version_skew=True), state)
    return "" if verdict.fits or (service.method == "roll" and service.max_unavailable) else verdict.why


def _hold(service: Service, traffic: Traffic, pause: float | None) -> _Verdict:
    if not service.backends:
        return _Verdict(False, "no balancer is declared at which requests could wait", "put it behind a balancer")
    if pause is None:
        return _Verdict(False, "how long a replacement takes is not known", "declare estimates.replace")
    return _fits(traffic, pause, "replacement")


def _fits(traffic: Traffic, pause: float, what: str) -> _Verdict:
    """Whether requests can wait for `pause` seconds, by the smallest timeout on the way and by the room to wait in."""
    unknown = [
        words
        for value, words in (
            (traffic.rate, "the rate of its requests"),
            (traffic.timeout, "the smallest timeout on the way"),
            (traffic.room, "how many waiting requests fit"),
        )
        if value is None
    ]
    if traffic.rate is None or traffic.timeout is None or traffic.room is None:
        missing = " and ".join(unknown) if len(unknown) < 3 else f"{unknown[0]}, {unknown[1]} and {unknown[2]}"
        verb = "is" if len(unknown) == 1 else "are"
        return _Verdict(
            False,
            f"requests would wait {show_duration(pause)} for the {what}, but {missing} {verb} not known",
            f"let the balancers measure its traffic, so that {missing} {verb} known",
        )
    longest = pause * MARGIN
    waiting = math.ceil(traffic.rate * longest)
    numbers = f"{show_duration(pause)} for the {what} ({show_duration(longest)} with a margin of {MARGIN})"
    if longest > traffic.timeout:
        return _Verdict(
            False,
            f"requests would wait {numbers}, longer than the smallest timeout of {show_duration(traffic.timeout)}",
            f"raise the timeouts on the way to {show_duration(longest)}",
        )
    arriving = f"{waiting} requests would arrive in it ({traffic.rate:g} per second)"
    if waiting > traffic.room:
        return _Verdict(
            False,
            f"requests would wait {numbers}; {arriving}, and only {traffic.room} fit",
            f"make room for {waiting} waiting requests at the balancers",
        )
    return _Verdict(
        True,
        f"requests wait {numbers}, within the smallest timeout of {show_duration(traffic.timeout)}; "
        f"{arriving}, and {traffic.room} fit",
    )


def _copy(service: Service) -> _Verdict | None:
    if service.side_by_side is None:
        return _Verdict(
            False,
            "no room for a second copy is declared",
            "declare side_by_side where the hosts have room to run new beside old",
        )
    if not service.backends:
        return _Verdict(False, "no balancer is declared that could move the traffic", "put it behind a balancer")
    return None


def _side_by_side(service: Service) -> _Verdict:
    if not service.version_skew:
        return _Verdict(False, "old and new would serve together while traffic moves (version_skew: false)")
    return _copy(service) or _Verdict(
        True, "there is room for a second copy: new starts beside old, then traffic moves"
    )


def _held_switch(service: Service, traffic: Traffic) -> _Verdict:
    if lacking := _copy(service):
        return lacking
    verdict = _fits(traffic, SWITCH_SECONDS, "switch")
    if verdict.fits:
        return _Verdict(True, f"there is room for a second copy: new starts beside old; {verdict.why}")
    return verdict
