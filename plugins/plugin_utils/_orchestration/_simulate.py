# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What if: the same plan and the same window on a simulated clock, with drawn durations and failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import exp
from random import Random
from typing import Any

from ._budget import Budget
from ._estimates import Estimates
from ._forecast import Timeline, run_window
from ._jobs import Job
from ._model import Cluster, Instance, Service, State
from ._planner import Plan, make_plan
from ._window import Outcome, Window


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is different from the plan.

    `failing`: the share of hosts (0 to 1) whose first job fails. `slow`: failure domain -> factor on its durations.
    `forks`: at most that many jobs run at once. `drawn`: durations vary as their estimates' spread says; else they are
    exactly as estimated. `max_failures`: instead of the declared ones, for the fleet and every service.
    """

    failing: float = 0.0
    slow: Mapping[str, float] = field(default_factory=dict)
    forks: int | None = None
    drawn: bool = True
    max_failures: int | None = None
    seed: int = 0


def scaled(cluster: Cluster, hosts: int) -> Cluster:
    """The same cluster on so many hosts. Services keep their share of the hosts, and budgets their share of the
    instances; quorums and the balancers' own services stay as they are. Raises ValueError where `hosts` is too few.
    """
    present = {instance.host for instance in cluster.instances.values()}
    if hosts < len(present):
        raise ValueError(f"hosts: {hosts} are fewer than the {len(present)} that are declared; give at least that many")
    factor = hosts / max(1, len(present))
    fixed = frozenset(cluster.balancers)
    return replace(cluster, services={s.name: _scaled_service(s, factor, fixed) for s in cluster.services.values()})


def _scaled_service(service: Service, factor: float, fixed: frozenset[str]) -> Service:
    members = service.instances
    if service.quorum or service.active_passive or all(i.host in fixed for i in members):
        return service
    wanted = round(len(members) * factor)
    copies = [_copy(members[number % len(members)], number // len(members)) for number in range(wanted)]
    spare = max(service.max_unavailable, int(service.max_unavailable * factor))
    return replace(service, instances=tuple(copies), max_unavailable=spare)


def _copy(instance: Instance, number: int) -> Instance:
    return instance if number == 0 else replace(instance, host=f"{instance.host}-{number}")


def simulate(
    cluster: Cluster, state: State, estimates: Estimates | None = None, scenario: Scenario | None = None
) -> dict[str, Any]:
    """Plan the cluster and carry the plan out under a scenario. Times are seconds.

    The keys: `planned`, `makespan`, `bound` (of the plan), `jobs`, `done`, `failed`, `skipped`, `left` (ids), `stuck`
    (why jobs are left, or ""), `greatest_out` (budget -> [greatest number out, capacity]).
    """
    what_if = scenario or Scenario()
    plan = make_plan(cluster, state, estimates, seed=what_if.seed)
    window = plan_window(plan, what_if)
    fails = _failing_jobs(plan, what_if)
    seconds = _durations(plan, what_if)

    def outcome(job: Job) -> Outcome:
        return "failed" if job.id in fails else "done"

    timeline = run_window(window, lambda job: seconds[job.id], outcome, forks=what_if.forks)
    failed = {job.id for job in window.failed}
    return {
        "planned": plan.makespan,
        "makespan": timeline.makespan,
        "bound": plan.bound.seconds,
        "jobs": len(plan.jobs),
        "done": len(timeline.ends) - len(failed),
        "failed": sorted(failed),
        "skipped": [job.id for job in window.skipped],
        "left": [job.id for job in window.left],
        "stuck": timeline.stuck,
        "greatest_out": {
            budget.name: [greatest_out(budget, plan.jobs, timeline, plan.out, failed), budget.capacity]
            for budget in plan.budgets
        },
    }


def plan_window(plan: Plan, scenario: Scenario) -> Window:
    """The window as the strategy has it: the jobs of one host in the plan's order."""
    allowed = scenario.max_failures
    declared = {} if allowed is not None else {s.name: s.max_failures for s in plan.cluster.services.values()}
    return Window(
        sorted(plan.jobs, key=lambda job: (plan.timeline.starts.get(job.id, plan.makespan), job.priority)),
        plan.phases,
        plan.budgets,
        out=plan.out,
        max_failures=declared,
        fleet_max_failures=plan.cluster.ceilings.max_failures if allowed is None else allowed,
        host_order=True,
    )


def _failing_jobs(plan: Plan, scenario: Scenario) -> frozenset[str]:
    """The first replacement on each failing host."""
    first: dict[str, str] = {}
    for job in sorted(plan.jobs, key=lambda job: (plan.timeline.starts.get(job.id, plan.makespan), job.priority)):
        if job.kind in ("switch", "replace"):
            first.setdefault(job.host, job.id)
    hosts = sorted(first)
    random = Random(f"{scenario.seed} failing")
    return frozenset(first[host] for host in random.sample(hosts, round(len(hosts) * scenario.failing)))


def _durations(plan: Plan, scenario: Scenario) -> dict[str, float]:
    random = Random(f"{scenario.seed} durations")
    domains = {instance.name: instance.domain for instance in plan.cluster.instances.values()}
    found = {}
    for job in plan.jobs:
        factor = exp(random.gauss(0.0, plan.estimates[job.id].spread)) if scenario.drawn else 1.0
        domain = domains.get(job.instance) if job.instance else None
        found[job.id] = job.seconds * factor * (scenario.slow.get(domain, 1.0) if domain else 1.0)
    return found


def greatest_out(budget: Budget, jobs: Sequence[Job], timeline: Timeline, out: Sequence[str], failed: set[str]) -> int:
    """How many groups of a budget were out at once at the most, counted from the timeline alone."""
    groups: dict[str, int] = {}
    broken = set(out)
    for instance in out:
        service, _unused, host = instance.partition("@")
        if service in budget.services and (group := budget.group(instance, host)) is not None:
            groups[group] = groups.get(group, 0) + 1
    events: list[tuple[float, int, str]] = []
    for job in jobs:
        if job.instance is None or job.service not in budget.services or job.id not in timeline.starts:
            continue
        group = budget.group(job.instance, job.host)
        if group is None:
            continue
        if job.instance not in broken:
            events.append((timeline.starts[job.id], 1, group))
        if job.id not in failed:
            events.append((timeline.ends[job.id], -1, group))
    greatest = len(groups)
    for _when, change, group in sorted(events):
        groups[group] = groups.get(group, 0) + change
        if groups[group] == 0:
            del groups[group]
        greatest = max(greatest, len(groups))
    return greatest
