# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs that work on all of a service at once, `switch` and `settle`: what they carry, how long they take, and what the
plan says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ._estimates import UNKNOWN, Estimate, Estimates
from ._jobs import UNSEEN, Job, copied, needs_replacing
from ._methods import Choice, Pause, one_way
from ._model import BESIDE, COPYING, Cluster, Instance, Method, Service, State, Traffic
from ._quantities import show_duration, show_size
from ._spec import listed


@dataclass(frozen=True, slots=True)
class Beside:
    """Where an instance's second copy is, or will be. `port` is None where nobody knows it any more."""

    host: str
    port: int | None


def besides(
    cluster: Cluster, state: State, methods: Mapping[str, Method | None]
) -> tuple[dict[str, Beside], list[str]]:
    """The second copies by instance, each with a port of its own, and what stands in their way."""
    found: dict[str, Beside] = {}
    obstacles: list[str] = []
    taken: dict[str, set[int]] = {}
    for service in cluster.services.values():
        there = state.beside.get(service.name, {})
        stale = {each.name for each in service.instances if needs_replacing(each, state)}
        wanted = bool(stale) and methods.get(service.name) in COPYING and not copied(service, state)
        if not (there or wanted):
            continue
        for number, instance in enumerate(service.instances):
            copy = there.get(instance.name)
            starts = wanted and (copy is not None or instance.name in stale)
            if copy is not None and (copy.port is not None or not starts):
                found[instance.name] = Beside(copy.host, copy.port)
            elif starts:
                host = copy.host if copy else service.beside_host(number)
                port = _free_port(service, state, host, taken.setdefault(host, set()))
                found[instance.name] = Beside(host, port)
                if port is None:
                    obstacles.append(
                        f"{service.name}: no port of side_by_side.ports is left on {host}, which other services' second"
                        " copies need too: declare ranges of their own"
                    )
    return found, obstacles


def _free_port(service: Service, state: State, host: str, taken: set[int]) -> int | None:
    if service.side_by_side is None:
        return None
    first, last = service.side_by_side.ports
    used = state.spare[host].ports if host in state.spare else frozenset()
    port = next((port for port in range(first, last + 1) if port not in used and port not in taken), None)
    if port is not None:
        taken.add(port)
    return port


def estimate(job: Job, service: Service, choice: Choice, state: State, known: Estimates) -> Estimate:
    """How long such a job takes: measured, else declared, else the sum of its parts."""
    if job.kind == "settle":
        return known.of("settle", service)
    return known.switch(service, choice.method, _parts(service, choice, state, known))


def _parts(service: Service, choice: Choice, state: State, known: Estimates) -> float | None:
    if choice.method == "hold":
        return choice.pause.seconds + service.min_healthy_time if choice.pause else None
    declared = service.side_by_side
    starts = [known.of("replace", service, each) for each in service.instances if needs_replacing(each, state)]
    if declared is None or any(start.source == UNKNOWN for start in starts):
        return None
    longest = max((start.seconds for start in starts), default=0.0)
    moving = choice.pause.seconds if choice.pause else len(steps(service, choice.method)) * declared.step_time
    return longest + moving + declared.switch_back_window


def steps(service: Service, method: Method | None) -> list[int]:
    """Which part of the traffic moves when: all in one cut where versions must not mix."""
    if service.side_by_side is None or method == "held_switch" or not service.version_skew:
        return [100]
    return list(service.side_by_side.steps)


def keys(job: Job, service: Service, choice: Choice, state: State, copies: Mapping[str, Beside]) -> dict[str, Any]:
    """What such a job has beside a job's usual keys: docs/methods.md."""
    return {
        "hosts": list(job.hosts),
        "instances": [_member(each, service, state, copies.get(each.name)) for each in service.instances],
        "options": {
            "offline": service.database.offline and job.kind == "switch",
            "offline_reversible": service.database.offline_reversible,
            "offline_begun": service.name in state.offline_begun,
            "hold": _hold(service, choice.pause, state) if choice.pause and job.kind == "switch" else None,
            "side_by_side": _side_by_side(service, choice.method),
        },
    }


def own(name: str, service: Service, instance: Instance | None) -> float:
    """A time of the host's own, else the service's."""
    there: float | None = getattr(instance, name, None)
    shared: float = getattr(service, name)
    return shared if there is None else there


def _member(instance: Instance, service: Service, state: State, copy: Beside | None) -> dict[str, Any]:
    seen, artifact = state.instances.get(instance.name, UNSEEN), instance.artifact
    return {
        "instance": instance.name,
        "host": instance.host,
        "artifact": {"kind": artifact.kind, "name": artifact.name, "target": artifact.target},
        "running": seen.running,
        "current": seen.current,
        "servers": [{"backend": s.backend, "name": s.name} for s in instance.servers],
        **{name: own(name, service, instance) for name in ("drain_timeout", "min_healthy_time", "healthy_deadline")},
        "beside": None
        if copy is None
        else {
            "host": copy.host,
            "port": copy.port,
            "container": artifact.name + BESIDE,
            "servers": [{"backend": s.backend, "name": s.name + BESIDE} for s in instance.servers],
        },
    }


def _hold(service: Service, pause: Pause, state: State) -> dict[str, Any]:
    expected = pause.expected
    return {
        "deadline": round(pause.deadline, 3),
        "on_deadline": service.hold.on_deadline,
        "timeouts": dict(service.hold.timeouts),
        "bytes_per_request": service.hold.bytes_per_request,
        "force": service.hold.force,
        "pause": round(pause.seconds, 3),
        "back": round(pause.back, 3),
        "rate": pause.most.rate,
        "waiting": expected.waiting,
        "memory": expected.memory,
        "frontends": list(state.traffic.get(service.name, Traffic()).frontends),
    }


def _side_by_side(service: Service, method: Method | None) -> dict[str, Any] | None:
    declared = service.side_by_side
    if declared is None or method not in COPYING:
        return None
    return {
        "steps": steps(service, method),
        "step_time": declared.step_time,
        "max_errors": declared.max_errors,
        "switch_back_window": declared.switch_back_window,
        "test": declared.test,
        "memory": declared.memory,
    }


def no_return(job: Job, cluster: Cluster) -> bool:
    """Can nothing be taken back once this job has done its work?"""
    database = cluster.services[job.service].database
    return job.kind == "contract" or (job.kind == "switch" and one_way(database))


def held(service: Service, choice: Choice, state: State, *, switches: bool) -> list[str]:
    """Sentences for people: what waits and for how long at most, what is drained, and whether there is a way back.

    `switches`: the plan has a job `switch` for it.
    """
    if not switches or choice.method in (None, "roll"):
        return []
    return [
        *_held(service, choice, state.traffic.get(service.name, Traffic())),
        _way_back(service, choice, begun=service.name in state.offline_begun),
    ]


def _held(service: Service, choice: Choice, traffic: Traffic) -> Iterator[str]:
    pause = choice.pause
    if pause is not None:
        expected = pause.expected
        then = "let them go" if service.hold.on_deadline == "release" else "reject them"
        yield (
            f"requests are held for {show_duration(pause.seconds)} ({pause.source}), for "
            f"{show_duration(pause.deadline)} at most: then the balancers {then} by themselves"
        )
        yield (
            f"{expected.waiting} of them wait in {show_size(expected.memory)}; until the deadline it would be "
            f"{pause.most.waiting} in {show_size(pause.most.memory)}, and {pause.room} fit"
        )
        if not service.hold.timeouts:
            yield "the clients' own timeouts are not declared (hold.timeouts): only the balancers' are reckoned with"
        if traffic.untested:
            yield (
                f"HAProxy's configuration on {listed(traffic.untested)} names no address of its own: unless "
                "hold_self_test there names one, no request is held first for a test"
            )
    if traffic.tcp:
        yield (
            f"TCP ({listed(traffic.tcp)}): new connections are {'held' if pause else 'moved'}, established ones drained"
            f" for {show_duration(service.drain_timeout)} at most, then closed"
        )
    elif choice.method in COPYING:
        yield f"long-lived connections to the old ones are drained for {show_duration(service.drain_timeout)} at most"
    if choice.method == "side_by_side":
        declared = service.side_by_side
        if declared is not None:
            moves = ", ".join(f"{step} %" for step in steps(service, choice.method))
            yield (
                f"traffic moves in steps: {moves}, each for {show_duration(declared.step_time)}; above "
                f"{declared.max_errors * 100:.4g} % of errors it goes back"
            )


def _way_back(service: Service, choice: Choice, *, begun: bool) -> str:
    """`begun`: an earlier run has begun a `database.offline` that has no way back."""
    database, pause = service.database, choice.pause
    if begun:
        return (
            "no way back: an earlier run has begun database.offline (offline_reversible: false), and no old version is "
            "started again, whatever fails; if the new one fails, the requests are let go and fail"
        )
    if one_way(database):
        return (
            "no way back once database.offline has begun, even if it fails (offline_reversible: false): the old version"
            " may not work after it; if it or the new version fails then, the requests are let go and fail"
        )
    restarted = choice.method == "hold" or database.offline
    when = "database.offline or the new version" if database.offline else "the new version"
    window = show_duration(service.side_by_side.switch_back_window) if service.side_by_side else ""
    if pause is not None and restarted:
        told = f"if {when} fails under the hold, the old one is started again"
        if not pause.returns:
            return (
                f"{told}, in {show_duration(pause.back)}: later than the deadline, and what is let go until then fails"
            )
        told += f" before the release, in {show_duration(pause.back)}"
        later = f"; if the new one fails within {window} after that, the same under another hold"
        return told if choice.method == "hold" else told + later
    return (
        f"if {when} fails, traffic goes back in one step; the old one is kept running for {window} behind the last step"
    )
