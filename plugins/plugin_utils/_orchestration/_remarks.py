# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What could go wrong in an upgrade that is possible: risks in words, for the plan's page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from ._model import COPYING, Cluster, Instance, InstanceState, Method, Service, State
from ._quantities import show_duration
from ._spec import listed

FEW = 5
UNSEEN = InstanceState()


def risks(
    cluster: Cluster,
    state: State,
    *,
    unestimated: Collection[str] = (),
    methods: Mapping[str, Method | None] | None = None,
    forced: Mapping[str, str] | None = None,
) -> list[str]:
    """Sentences on the services that have something to do, in the declaration's order.

    `unestimated` holds the ids of the jobs whose seconds are nobody's estimate but the built-in default; `methods` are
    the services', and `forced` what speaks against a hold that is done all the same.
    """
    sentences: list[str] = []
    for service in cluster.services.values():
        pending = [each for each in service.instances if not state.instances.get(each.name, UNSEEN).current]
        if pending:
            alone = len(service.instances) == 1 and (methods or {}).get(service.name) not in COPYING
            found = [*_of_service(service, pending, state, alone=alone)]
            if against := (forced or {}).get(service.name):
                found.insert(0, f"held by force (hold.force): {against}.")
            sentences.extend(f"{service.name}: {risk}" for risk in found)
    if unestimated:
        what = "1 job has" if len(unestimated) == 1 else f"{len(unestimated)} jobs have"
        sentences.append(
            f"{what} no estimate, neither measured nor declared, so the forecast is a guess there: "
            f"{listed(sorted(unestimated), FEW)}."
        )
    return sentences


def _of_service(service: Service, pending: list[Instance], state: State, *, alone: bool) -> Iterator[str]:
    if alone:
        yield f"a single instance, {service.instances[0].name}: nothing takes over if its replacement fails."
    yield from _broken(service, state)
    yield from _zones(service)
    yield from _deadlines(service)
    yield from _versions(service, pending, state)
    if not service.health:
        yield "no health check: whether a new instance serves is judged by its artifact's own state only."
    if not service.backends:
        yield "no balancer: its instances are replaced without a drain, clients have to bear it."
    untagged = sorted({each.artifact.target for each in pending if _untagged(each)})
    if untagged:
        yield f"the image {listed(untagged, FEW)} has neither tag nor digest: what it means may change at any time."


def _broken(service: Service, state: State) -> Iterator[str]:
    broken = [each.name for each in service.instances if not state.instances.get(each.name, UNSEEN).healthy]
    if broken and len(service.instances) > 1:
        left = max(service.max_unavailable - len(broken), 0)
        verb = "is" if len(broken) == 1 else "are"
        yield f"{listed(broken, FEW)} {verb} out already, so {left} more may be out."


def _zones(service: Service) -> Iterator[str]:
    if not service.failure_domain or len(service.instances) < 2:
        return
    members = Counter(each.domain for each in service.instances if each.domain is not None)
    word = service.failure_domain
    if len(members) == 1:
        yield f"all {len(service.instances)} instances are in one {word}, {listed(members)}: its loss takes them all."
        return
    thin = sorted(domain for domain, count in members.items() if count == 1)
    if thin:
        names = listed(thin, FEW)
        yield f"no spare capacity in {word} {names}: one instance each, and none while it is replaced."


def _deadlines(service: Service) -> Iterator[str]:
    hosts: dict[tuple[float, float], list[str]] = {}
    for each in service.instances:
        drain = service.drain_timeout if each.drain_timeout is None else each.drain_timeout
        deadline = service.healthy_deadline if each.healthy_deadline is None else each.healthy_deadline
        if drain > deadline and service.backends:
            hosts.setdefault((drain, deadline), []).append(each.host)
    for (drain, deadline), names in hosts.items():
        where = "" if len(names) == len(service.instances) else f" on {listed(names, FEW)}"
        yield (
            f"drain_timeout ({show_duration(drain)}) is longer than healthy_deadline ({show_duration(deadline)})"
            f"{where}: one slow drain takes longer than an instance may take to become healthy."
        )


def _versions(service: Service, pending: list[Instance], state: State) -> Iterator[str]:
    pairs: dict[tuple[str, str], None] = {}
    for each in pending:
        running = state.instances.get(each.name, UNSEEN).running
        if running and (service.name, running, each.artifact.target) not in state.tested:
            pairs[running, each.artifact.target] = None
    for running, target in pairs:
        yield f"from {running} to {target} has not been done before by a run in this journal."


def _untagged(instance: Instance) -> bool:
    target = instance.artifact.target
    return instance.artifact.kind == "container" and "@" not in target and ":" not in target.rpartition("/")[2]
