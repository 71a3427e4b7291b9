# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs, and what must come before what.

Jobs of one service that may run side by side form a *phase*. A service is a chain of phases

    expand -> switch -> canary (one job each) -> unfinished -> replace -> last -> settle -> migrate -> contract

of which only those with jobs exist; `unfinished` holds what an earlier run left in flight, `last` the active member of
an active/passive service, or the balancer that holds the VIP. With method `hold` the one job `switch` does everything,
and nothing is left to replace. With `side_by_side` and `held_switch` it moves the traffic to second copies; then the
instances are replaced, of whom nobody is served, and `settle` brings the traffic home. `depends_on` joins chains: the
first phase of a dependant waits for the last phase of what it needs. So precedence costs a handful of edges per
service, never one per pair of instances.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal, NamedTuple

from ._budget import balancer_services, takes_hosts
from ._model import COPYING, Cluster, Instance, InstanceState, JobKind, Method, Service, State

PhaseKind = Literal["expand", "switch", "canary", "unfinished", "replace", "last", "settle", "migrate", "contract"]

UNSEEN = InstanceState()


class Job(NamedTuple):
    """The smallest thing the plan orders. `seconds` is its estimate, bake time included; `priority` its rank: the
    smaller goes first. `instance` is None for jobs of a whole service. `also`: hosts that it occupies beside its own.
    """

    id: str
    kind: JobKind
    service: str
    host: str
    instance: str | None
    phase: str
    seconds: float = 0.0
    priority: int = 0
    also: tuple[str, ...] = ()

    @property
    def hosts(self) -> tuple[str, ...]:
        return (self.host, *self.also)

    @staticmethod
    def from_dict(row: Mapping[str, Any]) -> Job:
        values = [row[name] for name in Job._fields[:-1]]
        return Job._make((*values, tuple(row.get("hosts", ())[1:])))


@dataclass(frozen=True, slots=True)
class Phase:
    """Jobs of one service that may run side by side, once every phase in `after` has ended."""

    id: str
    service: str
    kind: PhaseKind
    after: tuple[str, ...]
    jobs: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "service": self.service,
            "kind": self.kind,
            "after": list(self.after),
            "jobs": list(self.jobs),
        }

    @staticmethod
    def from_dict(row: Mapping[str, Any]) -> Phase:
        return Phase(row["id"], row["service"], row["kind"], tuple(row["after"]), tuple(row["jobs"]))


class CircleError(ValueError):
    """Services that wait for each other. `circle` names them in order; the first is also the last."""

    def __init__(self, circle: tuple[str, ...]) -> None:
        super().__init__("depends_on goes round in a circle: " + " -> ".join(circle))
        self.circle = circle


def service_order(cluster: Cluster) -> list[Service]:
    """The services, each after all that it depends on. Raises CircleError."""
    sorter = TopologicalSorter({name: service.depends_on for name, service in cluster.services.items()})
    try:
        return [cluster.services[name] for name in sorter.static_order() if name in cluster.services]
    except CycleError as error:
        raise CircleError(tuple(error.args[1])) from error


def needs_replacing(instance: Instance, state: State) -> bool:
    return not state.instances.get(instance.name, UNSEEN).current


def copied(service: Service, state: State) -> bool:
    """Are the service's requests served by second copies that an earlier run has left, so that there is no way but
    home? Where the run was cut off before it had made sure of that, they are not."""
    copies = state.beside.get(service.name)
    if not copies or service.name in state.in_flight:
        return False
    serving = all(copy.serving and copy.current for copy in copies.values())
    seen = (state.instances.get(instance.name, UNSEEN) for instance in service.instances)
    return serving and not any(each.healthy and not each.current for each in seen)


def schema_jobs(service: Service, state: State, *, replacing: bool) -> tuple[JobKind, ...]:
    """Which schema jobs are to do: those that the check said, else all that are declared where anything is replaced."""
    declared: tuple[JobKind, ...] = tuple(
        kind for kind in ("expand", "migrate", "contract") if getattr(service.database, kind)
    )
    if service.name in state.schema:
        return tuple(kind for kind in declared if kind in state.schema[service.name])
    return declared if replacing else ()


def last_hosts(service: Service, cluster: Cluster, state: State) -> frozenset[str]:
    """The hosts whose instances go last: of active members, and the holder of the VIP.

    A host image goes last on a host that is the last one of anything that runs there.
    """
    on_host = cluster.services.values() if takes_hosts(service) else (service,)
    last = {state.active[s.name] for s in on_host if s.active_passive and s.name in state.active}
    if state.vip_holder is not None and service.name in balancer_services(cluster):
        last.add(state.vip_holder)
    return frozenset(last)


def choose_canaries(service: Service, candidates: Iterable[Instance], state: State) -> list[Instance]:
    """The instances that go first, each alone. What an earlier run left in flight, then broken ones: they take nothing
    more from the service.

    Instances that run the target already (from an earlier run) have proven it: they count.
    """
    proven = sum(1 for i in service.instances if (s := state.instances.get(i.name)) and s.current and s.healthy)
    wanted = max(0, service.canary - proven)
    ranked = sorted(
        candidates, key=lambda i: (i.name not in state.in_flight, state.instances.get(i.name, UNSEEN).healthy)
    )
    return ranked[:wanted]


def _replace_job(instance: Instance, phase: str) -> Job:
    name = instance.name
    return Job(f"replace {name}", "replace", instance.service, instance.host, name, phase)


def _service_phases(
    service: Service, cluster: Cluster, state: State, method: Method | None
) -> list[tuple[PhaseKind, str, list[Job]]]:
    """A service's chain: (kind, phase id, jobs), first to last."""
    name = service.name
    moved = method in COPYING
    to_replace = [i for i in service.instances if needs_replacing(i, state)]
    schema = schema_jobs(service, state, replacing=bool(to_replace))
    at_last = last_hosts(service, cluster, state)
    last = [i for i in to_replace if i.host in at_last]
    others = [i for i in to_replace if i.host not in at_last]
    canaries = choose_canaries(service, others, state) if method in (None, "roll") else []
    chosen = {i.host for i in canaries}
    unfinished = [i for i in others if i.host not in chosen and i.name in state.in_flight]
    chosen |= {i.host for i in unfinished}
    replaced = [i for i in others if i.host not in chosen]

    def schema_phase(kind: Literal["expand", "migrate", "contract"]) -> list[tuple[PhaseKind, str, list[Job]]]:
        if kind not in schema or not service.instances:
            return []
        phase = f"{kind} {name}"
        return [(kind, phase, [Job(phase, kind, name, service.instances[0].host, None, phase)])]

    def whole_phase(kind: Literal["switch", "settle"]) -> list[tuple[PhaseKind, str, list[Job]]]:
        phase = f"{kind} {name}"
        first, *also = occupied_hosts(service, state, copies=moved or kind == "settle")
        return [(kind, phase, [Job(phase, kind, name, first, None, phase, also=tuple(also))])]

    chain = schema_phase("expand")
    pending = any(not state.instances.get(i.name, UNSEEN).in_place for i in to_replace)
    switches = pending and method not in (None, "roll") and not copied(service, state)
    if switches:
        chain += whole_phase("switch")
    if switches and method == "hold":
        replaced = unfinished = last = []
    for number, instance in enumerate(canaries, 1):
        phase = f"canary {number} {name}"
        chain.append(("canary", phase, [_replace_job(instance, phase)]))
    if unfinished:
        phase = f"unfinished {name}"
        chain.append(("unfinished", phase, [_replace_job(i, phase) for i in unfinished]))
    if replaced:
        phase = f"replace {name}"
        chain.append(("replace", phase, [_replace_job(i, phase) for i in replaced]))
    if last:
        phase = f"last {name}"
        chain.append(("last", phase, [_replace_job(i, phase) for i in last]))
    if (switches and moved) or state.beside.get(name):
        chain += whole_phase("settle")
    return chain + schema_phase("migrate") + schema_phase("contract")


def occupied_hosts(service: Service, state: State, *, copies: bool) -> list[str]:
    """The hosts of all its instances, the first one's first; with `copies` those of their second copies too."""
    hosts = [instance.host for instance in service.instances]
    if copies:
        hosts += [service.beside_host(number) for number in range(len(hosts))]
        hosts += [copy.host for copy in state.beside.get(service.name, {}).values()]
    return list(dict.fromkeys(hosts))


def jobs_and_phases(
    cluster: Cluster, state: State, methods: Mapping[str, Method | None] | None = None
) -> tuple[list[Job], list[Phase]]:
    """What is to do, services in the order of their dependencies. Estimates and priorities come later.

    `methods`: of each service; all roll where not given. Raises CircleError where services wait for each other.
    """
    jobs: list[Job] = []
    phases: list[Phase] = []
    ends: dict[str, tuple[str, ...]] = {}
    of_service = methods or {}
    for service in service_order(cluster):
        after = tuple(dict.fromkeys(end for needed in service.depends_on for end in ends.get(needed, ())))
        for kind, phase_id, members in _service_phases(service, cluster, state, of_service.get(service.name, "roll")):
            phases.append(Phase(phase_id, service.name, kind, after, tuple(job.id for job in members)))
            jobs.extend(members)
            after = (phase_id,)
        ends[service.name] = after
    return jobs, phases
