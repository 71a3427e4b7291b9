# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which method replaces a service's instances, and why, in words and numbers.

In this order: `roll` where enough instances remain; `hold` where they do not, but the waiting requests wait well within
every timeout and fit; `side_by_side` where there is room for a second copy; `held_switch` where there is room and
versions must not mix, or the schema needs everything stopped. Else none: `needs` says what would make an upgrade
possible. docs/methods.md has the rules as a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from ansible_collections.rondo.upgrade.plugins.module_utils._beside import DISK_RESERVE
from ansible_collections.rondo.upgrade.plugins.module_utils._hold import Prediction, predict

from ._estimates import UNKNOWN, Estimates
from ._jobs import copied
from ._model import COPYING, METHODS, Database, InstanceState, Method, Service, Spare, State, Traffic
from ._quantities import show_duration, show_size

# Predictions err: this many times the predicted pause is the deadline of a hold that declares none. A later one costs
# nothing, since a hold ends as soon as its work is done: at least so many seconds where they fit.
MARGIN: Final = 2
AMPLE: Final = 10.0

# Stopping the old ones and moving the traffic: two seconds where it was measured, and more where a machine is busy.
SWITCH_SECONDS: Final = 3.0

BEGUN: Final[tuple[Method, ...]] = ("side_by_side", "held_switch", "roll", "hold")

UNSEEN = InstanceState()


@dataclass(frozen=True, slots=True)
class Pause:
    """A hold as predicted: for `seconds`, as `source` says, and until `deadline` at the latest. `most`: what it comes
    to if it lasts that long, `expected` if it lasts as long as predicted. `timeout` is the smallest on the way, `room`
    how many waiting requests fit. `back`: seconds until the old version serves again where the new one fails
    meanwhile."""

    seconds: float
    source: str
    deadline: float
    most: Prediction
    expected: Prediction
    timeout: float
    timeout_name: str
    room: int
    room_name: str
    back: float

    @property
    def returns(self) -> bool:
        """Whether the deadline leaves room for the way back."""
        return self.deadline >= self.seconds + self.back


@dataclass(frozen=True, slots=True)
class Choice:
    """The method and its reason; `rejected` says why not the others, `turns` what would change the choice.

    Without a method the service can't be upgraded as it stands: `needs` is then a sentence that says what would make it
    possible ("" otherwise). `pause` is set where requests are held; `forced` is what speaks against that (hold.force).
    """

    method: Method | None
    reason: str
    rejected: tuple[tuple[Method, str], ...] = ()
    needs: str = ""
    turns: str = ""
    pause: Pause | None = None
    forced: str = ""


@dataclass(frozen=True, slots=True)
class _Verdict:
    """`needs`: what would make it fit; `until`: until when it does. With a `pause` it can be done though it does not
    fit."""

    fits: bool
    why: str
    needs: str = ""
    until: str = ""
    pause: Pause | None = None


def choose(service: Service, state: State, estimates: Estimates) -> Choice:
    """The method for a service. A declared method is the only one looked at."""
    if copied(service, state):
        method: Method = "side_by_side" if service.version_skew and not service.database.offline else "held_switch"
        if service.method in COPYING:
            method = service.method
        return Choice(method, "an earlier run has moved its requests to second copies: from there there is only home")
    if service.instances and all(_current(state, instance.name) for instance in service.instances):
        method = "roll" if service.method == "auto" else service.method
        return Choice(method, "nothing to do: every instance already runs its target")
    if service.instances and all(_in_place(state, instance.name) for instance in service.instances):
        method = "roll" if service.method == "auto" else service.method
        return Choice(method, "nothing to replace: those that do not serve run their target, and only have to return")
    checks: dict[Method, Callable[[], _Verdict]] = {
        "roll": lambda: _roll(service, state),
        "hold": lambda: _hold(service, state, estimates),
        "side_by_side": lambda: _side_by_side(service, state),
        "held_switch": lambda: _held_switch(service, state, estimates),
    }
    if service.method != "auto":
        return _declared(service, service.method, checks)
    rejected: list[tuple[Method, str]] = []
    needs: list[tuple[Method, str]] = []
    # Where second copies are there already, an earlier run has begun with them.
    order = BEGUN if state.beside.get(service.name) else METHODS
    for place, name in enumerate(order, 1):
        verdict = checks[name]()
        if verdict.fits:
            others = tuple((other, f"not needed: {name} is simpler") for other in order[place:])
            turns = [verdict.until, *(f"{other} would do, if you {what}" for other, what in needs)]
            return Choice(
                name,
                verdict.why,
                (*rejected, *others),
                turns="; ".join(filter(None, turns)),
                pause=verdict.pause,
            )
        rejected.append((name, verdict.why))
        if verdict.needs and verdict.needs not in (what for _unused, what in needs):
            needs.append((name, verdict.needs))
    reason = f"no method upgrades {service.name} without an outage: {rejected[0][1]}"
    told = ", or ".join(what for _unused, what in needs)
    return Choice(None, reason, tuple(rejected), f"To make it possible, {told}." if told else "")


def _current(state: State, name: str) -> bool:
    return name in state.instances and state.instances[name].current


def _in_place(state: State, name: str) -> bool:
    seen = state.instances.get(name, UNSEEN)
    return seen.current or seen.in_place


def _declared(service: Service, method: Method, checks: Mapping[Method, Callable[[], _Verdict]]) -> Choice:
    verdict = checks[method]()
    # Who declares roll means it, also where nothing remains to serve; mixing versions is another matter.
    obeyed = method == "roll" and service.version_skew and service.max_unavailable and not service.database.offline
    if verdict.fits or obeyed:
        return Choice(method, f"declared; {verdict.why}", turns=verdict.until, pause=verdict.pause)
    if verdict.pause and service.hold.force:
        why = f"declared, and forced (hold.force) although {verdict.why}"
        return Choice(method, why, pause=verdict.pause, forced=verdict.why)
    reason = f"{method} is declared, but {verdict.why}"
    return Choice(None, reason, ((method, verdict.why),), f"To make it possible, {verdict.needs}.")


def _roll(service: Service, state: State) -> _Verdict:
    size, out = len(service.instances), service.max_unavailable
    broken = sum(not state.instances.get(each.name, UNSEEN).healthy for each in service.instances)
    if service.database.offline:
        return _Verdict(False, "database.offline needs every instance stopped at once")
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
        until = f"with {out} instances or fewer it could not be rolled, nor with version_skew: false"
        return _Verdict(True, why, until=until)
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
    verdict = _roll(replace(service, version_skew=True, database=Database()), state)
    return "" if verdict.fits or (service.method == "roll" and service.max_unavailable) else verdict.why


def needs_traffic(service: Service) -> bool:
    """Whether what the balancers measure may decide how it is upgraded."""
    if service.method == "auto":
        return bool(service.backends) and not _roll(service, State()).fits
    return service.method in ("hold", "held_switch")


# Holding


def _hold(service: Service, state: State, estimates: Estimates) -> _Verdict:
    if not service.backends:
        return _Verdict(False, "no balancer is declared at which requests could wait", "put it behind a balancer")
    if learned := estimates.pause(service, "hold"):
        seconds, source = learned.seconds, learned.source
    else:
        found = _replacement(service, state, estimates)
        if found is None:
            return _Verdict(False, "how long a replacement takes is not known", "declare estimates.replace")
        seconds, source = found
    return _with_offline(service, state, estimates, seconds, source, "replacement", seconds)


def _replacement(service: Service, state: State, estimates: Estimates) -> tuple[float, str] | None:
    """Instances are replaced together under a hold, so the longest replacement counts; what comes after the release
    (`min_healthy_time`) does not."""
    found: list[tuple[float, str]] = []
    for instance in service.instances:
        if not _current(state, instance.name):
            estimate = estimates.of("replace", service, instance)
            if estimate.source == UNKNOWN:
                return None
            own = service.min_healthy_time if instance.min_healthy_time is None else instance.min_healthy_time
            found.append((max(estimate.seconds - own, 0.0), estimate.source))
    return max(found, default=None)


def _with_offline(
    service: Service, state: State, estimates: Estimates, seconds: float, source: str, what: str, back: float
) -> _Verdict:
    if not service.database.offline:
        return _fits(service, state, seconds, what, source, back)
    offline = estimates.of("offline", service)
    if offline.source == UNKNOWN:
        return _Verdict(False, "how long database.offline takes is not known", "declare estimates.offline")
    words = f"{what}, {show_duration(offline.seconds)} of it for database.offline"
    source = f"{source}; database.offline: {offline.source}"
    return _fits(service, state, seconds + offline.seconds, words, source, back)


def _fits(service: Service, state: State, pause: float, what: str, source: str, back: float) -> _Verdict:
    """Whether requests can wait for `pause` seconds, by the smallest timeout on the way and by the room to wait in, and
    for `back` more where the old version can serve again.

    The arithmetic is that of the hold itself, which makes the same sum again when it begins, and refuses too.
    """
    traffic = state.traffic.get(service.name, Traffic())
    if traffic.unfit:
        return _Verdict(False, traffic.unfit, "let the balancers hold it (docs/hold.md)")
    timeouts = dict(service.hold.timeouts)
    if traffic.timeout is not None:
        timeouts[traffic.timeout_name or "the balancers' own"] = traffic.timeout
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
        remedy = "let the balancers measure its traffic, and name HAProxy's configuration (upgrade_haproxy_config)"
        return _Verdict(
            False,
            f"requests would wait {show_duration(pause)} for the {what}, but {missing} {verb} not known",
            f"{remedy}, so that {missing} {verb} known",
        )
    name, timeout = min(timeouts.items(), key=lambda pair: (pair[1], pair[0]))
    returning = pause if one_way(service.database) else pause + back
    least = service.hold.deadline or max(pause * MARGIN, returning, 1.0)
    wanted = [least] if service.hold.deadline else [max(least, AMPLE), least]
    sums = [predict(traffic.rate, seconds, service.hold.bytes_per_request) for seconds in wanted]
    fitting = (one for one in sums if one.longest_wait <= timeout and one.waiting <= traffic.room)
    most = next(fitting, sums[-1])
    deadline = most.seconds
    expected = predict(traffic.rate, pause, service.hold.bytes_per_request)
    held = Pause(pause, source, deadline, most, expected, timeout, name, traffic.room, traffic.room_name, back)
    numbers = f"{show_duration(pause)} for the {what} (deadline {show_duration(deadline)}"
    if deadline < pause:
        return _Verdict(
            False,
            f"requests would wait {numbers}), so the hold would end before the new version is there",
            f"raise hold.deadline, best to {show_duration(pause * MARGIN)}",
            pause=held,
        )
    if service.database.offline_reversible and deadline < returning:
        return _Verdict(
            False,
            f"requests would wait {numbers}), so the hold would end before the old version serves again where the new "
            f"one fails, which takes another {show_duration(back)}",
            f"raise hold.deadline to {show_duration(returning)}, or do without a way back (offline_reversible: false)",
            pause=held,
        )
    numbers += f", after which the last has waited {show_duration(most.longest_wait)})"
    if most.longest_wait > timeout:
        return _Verdict(
            False,
            f"requests would wait {numbers}, longer than the smallest timeout of {show_duration(timeout)} ({name})",
            f"raise the timeouts on the way to {show_duration(most.longest_wait)}",
            pause=held,
        )
    arriving = f"{most.waiting} requests would arrive until then ({traffic.rate:g} per second)"
    limit = f" ({traffic.room_name})" if traffic.room_name else ""
    if most.waiting > traffic.room:
        return _Verdict(
            False,
            f"requests would wait {numbers}; {arriving}, and only {traffic.room} fit{limit}",
            f"make room for {most.waiting} waiting requests at the balancers",
            pause=held,
        )
    longest = service.hold.deadline or (timeout - (most.longest_wait - deadline)) * pause / least
    until = f"above a pause of {show_duration(longest)}"
    if most.waiting:
        until += f", or {traffic.room / least:.0f} requests per second,"
    return _Verdict(
        True,
        f"requests wait {numbers}, within the smallest timeout of {show_duration(timeout)} ({name}); {arriving}, and "
        f"{traffic.room} fit{limit}",
        until=f"{until} they could not wait",
        pause=held,
    )


def one_way(database: Database) -> bool:
    """Is there no way back from `offline` on?"""
    return database.offline and not database.offline_reversible


# Second copies


def _copies(service: Service, state: State) -> _Verdict:
    """Whether there is room for them: ports, memory and disk, as the hosts were seen."""
    declared = service.side_by_side
    if declared is None:
        return _Verdict(
            False,
            "no room for a second copy is declared",
            "declare side_by_side where the hosts have room to run new beside old",
        )
    if not service.backends:
        return _Verdict(False, "no balancer is declared that could move the traffic", "put it behind a balancer")
    kinds = {instance.artifact.kind for instance in service.instances} - {"container"}
    if kinds:
        return _Verdict(False, f"there are second copies of containers only, not of {kinds.pop()}", "use containers")
    wanted: dict[str, list[int]] = {}
    for number, instance in enumerate(service.instances):
        if not _current(state, instance.name) and instance.name not in state.beside.get(service.name, {}):
            wanted.setdefault(service.beside_host(number), []).append(number)
    tightest = ""
    smallest: float | None = None
    for host, numbers in wanted.items():
        verdict = _room_on(service, state, host, numbers)
        if not verdict.fits:
            return verdict
        left = state.spare[host].memory
        if left is not None and (smallest is None or left < smallest):
            smallest, tightest = left, f"{host} has {verdict.why}"
    need = sum(len(numbers) for numbers in wanted.values()) * declared.memory
    room = f" ({show_size(need)} in all; {tightest})" if tightest else ""
    until = (
        f"with less than {show_size(declared.memory)} of memory left on a host there would be no room" if room else ""
    )
    return _Verdict(True, f"there is room for a second copy of each instance{room}", until=until)


def _room_on(service: Service, state: State, host: str, numbers: list[int]) -> _Verdict:
    declared = service.side_by_side
    spare = state.spare.get(host, Spare())
    if declared is None or spare.memory is None or spare.disk is None:
        return _Verdict(False, f"what {host} has left is not known", f"let {host} be observed")
    first, last = declared.ports
    free = last - first + 1 - sum(first <= port <= last for port in spare.ports)
    if free < len(numbers):
        return _Verdict(
            False,
            f"{free} of the ports {first}-{last} are free on {host}, and {len(numbers)} are needed",
            "widen side_by_side.ports, or name other hosts (side_by_side.hosts)",
        )
    memory = len(numbers) * declared.memory
    if memory > spare.memory:
        return _Verdict(
            False,
            f"{host} has {show_size(spare.memory)} of memory left, and second copies take {show_size(memory)}",
            f"free memory on {host}, lower side_by_side.memory if they take less, or name spare hosts",
        )
    seen = [state.instances.get(service.instances[number].name, UNSEEN) for number in numbers]
    disk = max((each.size or 0 for each in seen if not each.staged), default=0) + len(numbers) * DISK_RESERVE
    if disk > spare.disk:
        return _Verdict(
            False,
            f"{host} has {show_size(spare.disk)} of disk left, and second copies take {show_size(disk)}",
            f"free disk on {host}, or name spare hosts",
        )
    return _Verdict(True, f"{show_size(spare.memory)} of memory, {show_size(spare.disk)} of disk and {free} ports left")


def _side_by_side(service: Service, state: State) -> _Verdict:
    if service.database.offline:
        return _Verdict(False, "database.offline needs every instance stopped at once, and the old one goes on serving")
    verdict = _copies(service, state)
    if not verdict.fits:
        return verdict
    if service.version_skew:
        return replace(verdict, why=f"{verdict.why}: new starts beside old, then traffic moves")
    if service.method == "side_by_side":
        why = (
            f"{verdict.why}: new starts beside old, then all traffic moves in one cut; what old still answers overlaps"
        )
        return replace(verdict, why=why)
    return _Verdict(False, "old and new would serve together while traffic moves (version_skew: false)")


def _held_switch(service: Service, state: State, estimates: Estimates) -> _Verdict:
    room = _copies(service, state)
    if not room.fits:
        return room
    if learned := estimates.pause(service, "held_switch"):
        seconds, source = learned.seconds, learned.source
    else:
        answers = _answers(service, state.traffic.get(service.name, Traffic()))
        seconds = SWITCH_SECONDS + answers
        source = f"{show_duration(SWITCH_SECONDS)} assumed, {show_duration(answers)} until the old ones have answered"
    # What `offline` needs stopped has to start again; else the old ones run as they did.
    back = _replacement(service, state, estimates) if service.database.offline else (seconds, source)
    if back is None and not one_way(service.database):
        return _Verdict(False, "how long the old version takes to start is not known", "declare estimates.replace")
    verdict = _with_offline(service, state, estimates, seconds, source, "switch", back[0] if back else seconds)
    if not verdict.fits:
        return verdict
    return replace(verdict, why=f"{room.why}: new starts beside old; {verdict.why}")


def _answers(service: Service, traffic: Traffic) -> float:
    """How long it may take until the old ones have answered what they had begun."""
    if traffic.tcp:
        return service.drain_timeout if traffic.concurrency else 0.0
    return min(service.drain_timeout, traffic.slowest or 0.0)
