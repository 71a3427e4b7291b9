# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a cluster and what really runs to a plan: jobs, priorities, methods, forecast, and what stands in the way.

Same input, same plan, byte for byte: nothing here knows the time, and chance comes from a seed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from ._bounds import Bound, lower_bound, phase_bounds, tails
from ._budget import Budget, balancer_services, broken_members, budgets_of, split_instance, takes_hosts
from ._estimates import UNKNOWN, Estimate, Estimates
from ._forecast import Timeline, likely_makespans, rounds, run_window
from ._improve import improve
from ._jobs import UNSEEN, Job, Phase, jobs_and_phases, needs_replacing, service_order
from ._methods import Choice, bears_no_outage, choose
from ._model import COPYING, Cluster, Hold, Instance, Method, SecondCopy, Service, SideBySide, State
from ._remarks import risks
from ._staging import Staging, stage_time
from ._whole import Beside, besides, estimate, held, keys, no_return, own
from ._window import Window

SCHEMA: Final = 1
# Restarts that are free: so many simulated jobs cost about a quarter of a second.
FREE_JOBS: Final = 6_000
FEWEST_RESTARTS: Final = 5
# One late job of a service that does one failure domain at a time holds up all its other domains: it goes before
# services of about the same length that share its hosts. Measured in docs/planner.md.
FRAGILE: Final = 1.25


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything computed. `jobs` is in priority order; `to_dict()` is plan.json."""

    cluster: Cluster
    state: State
    choices: Mapping[str, Choice]
    jobs: Sequence[Job]
    phases: Sequence[Phase]
    budgets: Sequence[Budget]
    out: tuple[str, ...]
    copies: Mapping[str, Beside]
    estimates: Mapping[str, Estimate]
    timeline: Timeline
    bound: Bound
    p50: float
    p90: float
    staging: Staging
    obstacles: tuple[str, ...]
    digests: Mapping[str, str]

    @property
    def makespan(self) -> float:
        return self.timeline.makespan

    @property
    def gap(self) -> float:
        """How far the makespan is above the bound, as a share of the bound."""
        return self.makespan / self.bound.seconds - 1 if self.bound.seconds else 0.0

    @property
    def rounds(self) -> list[list[str]]:
        """What would run together if nothing might slide. Computed anew each time: a simulation has no use for it."""
        return rounds(self.window())

    def window(self) -> Window:
        """A fresh window of this plan."""
        return Window(
            self.jobs,
            self.phases,
            self.budgets,
            out=self.out,
            max_failures={s.name: s.max_failures for s in self.cluster.services.values()},
            fleet_max_failures=self.cluster.ceilings.max_failures,
        )

    def to_dict(self) -> dict[str, Any]:
        """plan.json: plain values only, no commands, no URLs, no secrets. Its schema is docs/plan.schema.json."""
        jobs = self._job_rows()
        by_service: dict[str, list[dict[str, Any]]] = {name: [] for name in self.cluster.services}
        for row in jobs:
            by_service[row["service"]].append(row)
        return {
            "schema": SCHEMA,
            "digests": dict(self.digests),
            "max_failures": self.cluster.ceilings.max_failures,
            "services": [self._service_row(s, by_service[s.name]) for s in service_order(self.cluster)],
            "jobs": jobs,
            "phases": [phase.to_dict() for phase in self.phases],
            "budgets": self._budget_rows(),
            "rounds": self.rounds,
            "forecast": {
                "makespan": _tidy(self.makespan),
                "bound": _tidy(self.bound.seconds),
                "bound_name": self.bound.name,
                "gap": round(self.gap, 4),
                "p50": _tidy(self.p50),
                "p90": _tidy(self.p90),
            },
            "staging": self.staging.to_dict(),
            "obstacles": list(self.obstacles),
            "risks": risks(
                self.cluster,
                self.state,
                unestimated=self._unestimated(),
                methods={name: choice.method for name, choice in self.choices.items()},
                forced={name: choice.forced for name, choice in self.choices.items()},
            ),
            "notes": [*self.state.notes, *self._own_notes()],
            "done": [i.name for i in _instances(self.cluster) if not needs_replacing(i, self.state)],
            "point_of_no_return": [job.id for job in self.jobs if no_return(job, self.cluster)],
            "members": {
                i.name: [{"backend": s.backend, "name": s.name} for s in i.servers]
                for i in _instances(self.cluster)
                if i.servers
            },
        }

    def _job_rows(self) -> list[dict[str, Any]]:
        instances = self.cluster.instances
        canaries = {job for phase in self.phases if phase.kind == "canary" for job in phase.jobs}
        makespan = self.makespan
        residents = residents_of(self.cluster)
        rows = []
        for job in self.jobs:
            instance = instances.get(job.instance) if job.instance else None
            drained = (instance, *residents.get(instance.name, ())) if instance else ()
            rows.append(self._job_row(job, instance, drained, makespan, bake=job.id in canaries))
        return sorted(rows, key=lambda row: (row["start"], row["priority"]))

    def _job_row(
        self, job: Job, instance: Instance | None, drained: Sequence[Instance], last: float, *, bake: bool
    ) -> dict[str, Any]:
        service = self.cluster.services[job.service]
        artifact = (instance or service.instances[0]).artifact
        whole = {}
        if job.kind in ("switch", "settle"):
            whole = keys(job, service, self.choices[job.service], self.state, self.copies)
        # A job that can't begin is forecast behind everything else.
        start = self.timeline.starts.get(job.id, last)
        return {
            "id": job.id,
            "kind": job.kind,
            "service": job.service,
            "host": job.host,
            "instance": job.instance,
            "method": self.choices[job.service].method,
            "phase": job.phase,
            "seconds": _tidy(job.seconds),
            "source": self.estimates[job.id].source,
            "start": _tidy(start),
            "end": _tidy(self.timeline.ends.get(job.id, start + job.seconds)),
            "priority": job.priority,
            "artifact": {"kind": artifact.kind, "name": artifact.name, "target": artifact.target},
            "running": self.state.instances.get(instance.name, UNSEEN).running if instance else "",
            "servers": [{"backend": s.backend, "name": s.name} for each in drained for s in each.servers],
            "drain_timeout": max(
                (own("drain_timeout", self.cluster.services[each.service], each) for each in drained),
                default=service.drain_timeout,
            ),
            **{name: own(name, service, instance) for name in ("min_healthy_time", "healthy_deadline")},
            "bake_time": service.bake_time if bake else 0.0,
            **whole,
        }

    def _service_row(self, service: Service, jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        choice = self.choices[service.name]
        budget = next(b for b in self.budgets if b.services[0] == service.name and b.counts == "instances")
        return {
            "name": service.name,
            "method": choice.method,
            "reason": choice.reason,
            "rejected": [{"method": method, "why": why} for method, why in choice.rejected],
            "needs": choice.needs,
            "turns": choice.turns,
            "held": held(service, choice, self.state, switches=any(row["kind"] == "switch" for row in jobs)),
            "budget": service.budget_text,
            "budget_reason": budget_reason(service, budget, choice.method),
            "max_unavailable": budget.capacity,
            "max_failures": service.max_failures,
            "depends_on": list(service.depends_on),
            "hosts": [instance.host for instance in service.instances],
            "jobs": [row["id"] for row in jobs],
            "start": min((row["start"] for row in jobs), default=0.0),
            "end": max((row["end"] for row in jobs), default=0.0),
        }

    def _budget_rows(self) -> list[dict[str, Any]]:
        by_service: dict[str, list[Job]] = {}
        for job in self.jobs:
            if job.instance is not None:
                by_service.setdefault(job.service, []).append(job)
        rows = []
        for budget in self.budgets:
            row = budget.to_dict()
            row["already_out"] = [m for m in self.out if _counts(budget, m)]
            row["jobs"] = [
                job.id
                for name in budget.services
                for job in by_service.get(name, ())
                if budget.hosts is None or job.host in budget.hosts
            ]
            rows.append(row)
        return rows

    def _unestimated(self) -> list[str]:
        return [job.id for job in self.jobs if self.estimates[job.id].source == UNKNOWN]

    def _own_notes(self) -> list[str]:
        several = {
            service.name
            for service in self.cluster.services.values()
            if sum(needs_replacing(i, self.state) for i in service.instances) > 1
        }
        notes = [
            f"{service.name}: which member is active is not known, so no member can go last"
            for service in self.cluster.services.values()
            if service.name in several and service.active_passive and service.name not in self.state.active
        ]
        if self.state.vip_holder is None and (unsure := several.intersection(balancer_services(self.cluster))):
            why = f"no balancer was seen with {self.cluster.vip}" if self.cluster.vip else "declare upgrade_vip"
            notes.append(f"{', '.join(sorted(unsure))}: who holds the VIP is not known ({why}), so nobody can go last")
        return notes + [
            f"{service.name}: {serving} of {len(service.instances)} members serve; a majority is {majority}"
            for service, serving, majority in _quorums(self.cluster, self.out)
        ]


def make_plan(
    cluster: Cluster,
    state: State,
    estimates: Estimates | None = None,
    *,
    seed: int = 0,
    improve_seconds: float = 0.0,
    clock: Callable[[], float] | None = None,
) -> Plan:
    """Plan the upgrade of a cluster as it stands.

    Small fleets get a fixed number of restarts for a better order, which takes no time to speak of. `improve_seconds`
    of `clock` (seconds, any origin) buys more of them; such a plan is as deterministic as the clock. Raises CircleError
    where services depend on each other in a circle, ValueError where `improve_seconds` comes without a clock.
    """
    if improve_seconds and clock is None:
        raise ValueError("improve_seconds: needs a clock; pass clock=time.monotonic")
    known = estimates or Estimates(cluster)
    choices = {name: choose(service, state, known) for name, service in cluster.services.items()}
    methods = {name: choice.method for name, choice in choices.items()}
    bare, phases = jobs_and_phases(cluster, state, methods)
    sources = _estimates_of(bare, cluster, state, choices, known)
    copies, without_ports = besides(cluster, state, methods)
    budgets = budgets_of(cluster, methods)
    out = broken_members(cluster, state)
    jobs = prioritised(_timed(bare, phases, cluster, sources), phases, budgets, out, state.in_flight)
    timeline = run_window(Window(jobs, phases, budgets, out=out))
    bound = lower_bound(jobs, phases, budgets, out)
    if not timeline.stuck:
        go_on = _patience(len(jobs), improve_seconds, clock)
        better = improve(jobs, timeline, phases, budgets, out, bound=bound.seconds, seed=seed, go_on=go_on)
        jobs, timeline = better.jobs, better.timeline
    spreads = {job_id: estimate.spread for job_id, estimate in sources.items()}
    p50, p90 = likely_makespans(jobs, timeline, phases, budgets, out, spreads, seed=seed)
    return Plan(
        cluster=cluster,
        state=state,
        choices=choices,
        jobs=sorted(jobs, key=lambda job: job.priority),
        phases=phases,
        budgets=budgets,
        out=out,
        copies=copies,
        estimates=sources,
        timeline=timeline,
        bound=bound,
        p50=p50,
        p90=p90,
        staging=stage_time(cluster, state, known),
        obstacles=(
            *state.obstacles,
            *_method_obstacles(choices, phases),
            *without_ports,
            *_quorum_obstacles(cluster, out, phases),
            *_resident_obstacles(cluster, state, bare),
            *((timeline.stuck,) if timeline.stuck else ()),
        ),
        digests=digests(cluster, state),
    )


def prioritised(
    jobs: Sequence[Job],
    phases: Sequence[Phase],
    budgets: Sequence[Budget],
    out: Iterable[str],
    in_flight: Collection[str] = (),
) -> list[Job]:
    """The jobs in the order in which they should begin, each with its rank.

    A `switch` that an earlier run left `in_flight` first, then broken members (they take nothing from any budget), then
    the longest remaining path, then the longest job.
    """
    absent = frozenset(out)
    lengths = phase_bounds(jobs, phases, budgets, absent)
    after = tails(phases, lengths)
    fragile = {budget.services[0] for budget in budgets if budget.counts == "domains"}
    path = {
        phase.id: (lengths[phase.id] + after[phase.id]) * (FRAGILE if phase.service in fragile else 1.0)
        for phase in phases
    }
    ordered = sorted(jobs, key=lambda job: (-path[job.phase], -job.seconds))
    if absent:
        ordered.sort(key=lambda job: job.instance not in absent)
    if in_flight:
        ordered.sort(key=lambda job: job.kind != "switch" or job.service not in in_flight)
    return [Job._make((*job[:7], rank, job[8])) for rank, job in enumerate(ordered)]


def budget_reason(service: Service, budget: Budget, method: Method | None = "roll") -> str:
    """A service's budget in words and numbers."""
    members = len(service.instances)
    if method == "hold":
        return "all are out together while their requests wait"
    if method in COPYING and not service.quorum:
        return f"all {members} may be out: second copies serve"
    reason = f"at most {budget.capacity} of {members} out"
    if service.quorum:
        reason += f", so that a majority of {members // 2 + 1} stays"
    if service.failure_domain:
        reason += f", in one {service.failure_domain} at a time"
    return reason


def digests(cluster: Cluster, state: State) -> dict[str, str]:
    """SHA-256 of the declaration and of the state, each as canonical JSON.

    The state's leaves out what changes by itself and does not matter to a plan: traffic, sizes, what is staged, notes.
    """
    return {"declaration": _digest(_cluster_rows(cluster)), "state": _digest(_state_rows(cluster, state))}


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return sha256(text.encode()).hexdigest()


def _cluster_rows(cluster: Cluster) -> list[Any]:
    ceilings = cluster.ceilings
    return [
        [_service_values(service) for service in cluster.services.values()],
        cluster.balancers,
        [ceilings.max_hosts_out, ceilings.stage_bandwidth, ceilings.max_failures],
        cluster.vip,
    ]


def _service_values(service: Service) -> list[Any]:
    own = {name: getattr(service, name) for name in Service.__dataclass_fields__ if name not in _NESTED}
    database = service.database
    own["estimates"] = dict(service.estimates)
    own["database"] = [database.expand, database.migrate, database.contract]
    if database.offline:
        own["database"] += ["offline", database.offline_reversible]
    own["hold"] = _plain(service.hold)
    own["side_by_side"] = service.side_by_side and _plain(service.side_by_side)
    artifacts = {i.artifact: number for number, i in enumerate(service.instances)}
    rows = [
        (
            i.host,
            artifacts[i.artifact],
            i.domain,
            i.host_class,
            [(s.backend, s.name) for s in i.servers] if i.servers else 0,
            dict(i.estimates) if i.estimates else 0,
            (i.drain_timeout, i.min_healthy_time, i.healthy_deadline),
        )
        for i in service.instances
    ]
    return [own, [(a.kind, a.name, a.target, number) for a, number in artifacts.items()], rows]


_NESTED: Final = frozenset({"instances", "estimates", "database", "hold", "side_by_side"})


def _plain(value: Hold | SideBySide | SecondCopy) -> list[Any]:
    found = [getattr(value, name) for name in value.__dataclass_fields__]
    return [dict(each) if isinstance(each, Mapping) else each for each in found]


def _state_rows(cluster: Cluster, state: State) -> list[Any]:
    rows = []
    for instance in _instances(cluster):
        seen = state.instances.get(instance.name)
        # What was not seen is taken for an older version that serves.
        if seen is not None and (seen.running or seen.current or not seen.healthy):
            rows.append((instance.name, seen.running, seen.current, seen.healthy))
    schema = {name: list(kinds) for name, kinds in state.schema.items()}
    copies = {name: {one: _plain(copy) for one, copy in there.items()} for name, there in state.beside.items()}
    known = [rows, schema, dict(state.active), state.vip_holder, sorted(state.in_flight), sorted(state.obstacles)]
    return [*known, copies] if copies else known


def _instances(cluster: Cluster) -> Iterable[Instance]:
    return (instance for service in cluster.services.values() for instance in service.instances)


def _estimates_of(
    jobs: Iterable[Job], cluster: Cluster, state: State, choices: Mapping[str, Choice], known: Estimates
) -> dict[str, Estimate]:
    instances = cluster.instances
    found = {}
    for job in jobs:
        service = cluster.services[job.service]
        if job.kind in ("switch", "settle"):
            found[job.id] = estimate(job, service, choices[job.service], state, known)
        else:
            found[job.id] = known.of(job.kind, service, instances[job.instance] if job.instance else None)
    return found


def _timed(
    jobs: Iterable[Job], phases: Iterable[Phase], cluster: Cluster, sources: Mapping[str, Estimate]
) -> list[Job]:
    bake = {p.id: cluster.services[p.service].bake_time if p.kind == "canary" else 0.0 for p in phases}
    return [Job._make((*job[:6], sources[job.id].seconds + bake[job.phase], 0, job[8])) for job in jobs]


def _patience(jobs: int, seconds: float, clock: Callable[[], float] | None) -> Callable[[int], bool]:
    """How long to look for a better order."""
    if seconds and clock is not None:
        end = clock() + seconds
        return lambda restarts: clock() < end
    free = FREE_JOBS // max(1, jobs)
    return lambda restarts: free >= FEWEST_RESTARTS and restarts < free


def _method_obstacles(choices: Mapping[str, Choice], phases: Iterable[Phase]) -> list[str]:
    to_do = {phase.service for phase in phases}
    return [
        f"{name}: {choice.reason}" + (f"; {choice.needs}" if choice.needs else "")
        for name, choice in choices.items()
        if choice.method is None and name in to_do
    ]


def _quorums(cluster: Cluster, out: Iterable[str]) -> list[tuple[Service, int, int]]:
    """Services with a quorum: how many of their members serve, and how many are a majority."""
    absent = frozenset(out)
    return [
        (service, sum(i.name not in absent for i in service.instances), len(service.instances) // 2 + 1)
        for service in cluster.services.values()
        if service.quorum
    ]


def _quorum_obstacles(cluster: Cluster, out: Iterable[str], phases: Sequence[Phase]) -> list[str]:
    return [
        f"{service.name}: {serving} of {len(service.instances)} members serve, and a majority is {majority}: nothing"
        " here can bring a lost quorum back; do that first"
        for service, serving, majority in _quorums(cluster, out)
        if phases and serving < majority
    ]


def residents_of(cluster: Cluster) -> dict[str, list[Instance]]:
    """What a host image takes out beside itself: all other instances on its host, by the host image's instance."""
    above = {i.host: i.name for s in cluster.services.values() if takes_hosts(s) for i in s.instances}
    found: dict[str, list[Instance]] = {}
    for instance in _instances(cluster) if above else ():
        taken_by = above.get(instance.host)
        if taken_by is not None and taken_by != instance.name:
            found.setdefault(taken_by, []).append(instance)
    return found


def _resident_obstacles(cluster: Cluster, state: State, jobs: Iterable[Job]) -> list[str]:
    """A service that can't spare an instance can't spare the host below it either."""
    residents = residents_of(cluster)
    found: dict[str, None] = {}
    for job in jobs if residents else ():
        for resident in residents.get(job.instance or "", ()):
            if why := bears_no_outage(cluster.services[resident.service], state):
                found[f"{job.service}: takes {resident.name} out together with {job.host}: {why}"] = None
    return list(found)


def _counts(budget: Budget, instance: str) -> bool:
    service, host = split_instance(instance)
    return service in budget.services and budget.group(instance, host) is not None


def _tidy(seconds: float) -> float:
    return round(seconds, 3)
