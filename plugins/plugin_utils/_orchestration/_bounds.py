# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lower bounds: how fast no plan at all could be. Each is proven in docs/planner.md; the tightest one is named."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ._budget import Budget
from ._jobs import Job, Phase


class Bound(NamedTuple):
    """No schedule ends before `seconds`; `name` says because of what."""

    seconds: float
    name: str


def parallel_bound(seconds: Iterable[float], capacity: int) -> float:
    """No `capacity` servants finish jobs of these lengths sooner.

    The greatest of: all work shared evenly; the longest job; and, of the k * capacity + 1 longest jobs, the k + 1
    shortest, since some servant gets k + 1 of them.
    """
    ordered = sorted(seconds, reverse=True)
    if not ordered:
        return 0.0
    if capacity < 1:
        return ordered[0]
    best = max(ordered[0], sum(ordered) / capacity)
    for k in range(1, (len(ordered) - 1) // capacity + 1):
        last = k * capacity
        best = max(best, sum(ordered[last - k : last + 1]))
        if k == 4:
            break
    return best


def shared_bound(seconds: Iterable[float], capacity: int) -> float:
    """The same for pieces of work that may be interrupted: all work shared evenly, or the longest piece."""
    pieces = list(seconds)
    return max(sum(pieces) / max(1, capacity), 0.0, *pieces)


def phase_bound(jobs: Sequence[Job], budgets: Sequence[Budget], out: frozenset[str]) -> float:
    """The least time that the jobs of one phase take.

    Jobs of instances that are out already take no room in any budget, so only the longest of them counts.
    """
    counted = [job for job in jobs if job.instance is not None and job.instance not in out]
    best = max((job.seconds for job in jobs), default=0.0)
    if not counted:
        return best
    service = counted[0].service
    mine = [budget for budget in budgets if service in budget.services]
    width = min(
        (b.capacity for b in mine if b.counts == "instances" and b.services[0] == service), default=len(counted)
    )
    for budget in mine:
        covered = [job for job in counted if budget.hosts is None or job.host in budget.hosts]
        if budget.counts == "domains":
            best = max(best, domains_bound(covered, budget, width))
        else:
            best = max(best, parallel_bound((job.seconds for job in covered), budget.capacity))
    return best


def domains_bound(jobs: Sequence[Job], budget: Budget, width: int) -> float:
    """One failure domain out at a time: the domains' own bounds add up, since they are never out together."""
    domains: dict[str, list[float]] = defaultdict(list)
    for job in jobs:
        if job.instance is not None:
            domains[budget.group(job.instance, job.host) or ""].append(job.seconds)
    own = [parallel_bound(seconds, width) for seconds in domains.values()]
    return shared_bound(own, budget.capacity)


def phase_bounds(
    jobs: Iterable[Job], phases: Sequence[Phase], budgets: Sequence[Budget], out: frozenset[str]
) -> dict[str, float]:
    """Each phase's own bound, by phase id."""
    members: dict[str, list[Job]] = {phase.id: [] for phase in phases}
    for job in jobs:
        members[job.phase].append(job)
    return {phase: phase_bound(entries, budgets, out) for phase, entries in members.items()}


def heads(phases: Sequence[Phase], lengths: Mapping[str, float]) -> dict[str, float]:
    """The least time before each phase can open. `phases` are in the order of their precedence."""
    found: dict[str, float] = {}
    for phase in phases:
        found[phase.id] = max((found[earlier] + lengths[earlier] for earlier in phase.after), default=0.0)
    return found


def tails(phases: Sequence[Phase], lengths: Mapping[str, float]) -> dict[str, float]:
    """The least time that still remains when all jobs of a phase have ended."""
    found = {phase.id: 0.0 for phase in phases}
    for phase in reversed(phases):
        for earlier in phase.after:
            found[earlier] = max(found[earlier], lengths[phase.id] + found[phase.id])
    return found


def _longest_chain(phases: Sequence[Phase], lengths: Mapping[str, float], before: Mapping[str, float]) -> Bound:
    if not phases:
        return Bound(0.0, "nothing to do")
    by_id = {phase.id: phase for phase in phases}
    end = max(phases, key=lambda phase: before[phase.id] + lengths[phase.id])
    chain = [end.id]
    while by_id[chain[-1]].after:
        chain.append(max(by_id[chain[-1]].after, key=lambda earlier: before[earlier] + lengths[earlier]))
    chain.reverse()
    return Bound(before[end.id] + lengths[end.id], "chain of phases: " + ", ".join(chain))


def _between(jobs: Sequence[Job], before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """What comes at least before the first and after the last of these jobs."""
    phases = {job.phase for job in jobs}
    return min(before[phase] for phase in phases) + min(after[phase] for phase in phases)


def lower_bound(
    jobs: Sequence[Job], phases: Sequence[Phase], budgets: Sequence[Budget], out: Iterable[str] = ()
) -> Bound:
    """The tightest lower bound of the makespan."""
    absent = frozenset(out)
    lengths = phase_bounds(jobs, phases, budgets, absent)
    before, after = heads(phases, lengths), tails(phases, lengths)
    bounds = [_longest_chain(phases, lengths, before)]
    for budget in budgets:
        if len(budget.services) < 2:
            continue
        members = [
            job
            for job in jobs
            if job.instance is not None
            and job.instance not in absent
            and budget.group(job.instance, job.host) is not None
            and job.service in budget.services
        ]
        if members:
            pieces = _by_host(members) if budget.counts != "domains" else _by_domain(members, budget)
            seconds = shared_bound(pieces.values(), budget.capacity) + _between(members, before, after)
            bounds.append(Bound(seconds, f"budget {budget.name}"))
    hosts: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        for host in job.hosts:
            hosts[host].append(job)
    busiest = max(
        ((sum(j.seconds for j in members) + _between(members, before, after), host) for host, members in hosts.items()),
        key=lambda entry: entry[0],
        default=(0.0, ""),
    )
    bounds.append(Bound(busiest[0], f"one job at a time on {busiest[1]}"))
    return max(bounds, key=lambda bound: bound.seconds)


def _by_host(jobs: Iterable[Job]) -> dict[str, float]:
    """A host's jobs never overlap: for a budget of hosts they are one piece of work, as long as all of them."""
    seconds: dict[str, float] = defaultdict(float)
    for job in jobs:
        seconds[job.host] += job.seconds
    return seconds


def _by_domain(jobs: Iterable[Job], budget: Budget) -> dict[str, float]:
    """A domain is out for as long at least as its busiest host."""
    seconds: dict[str, float] = defaultdict(float)
    for host, busy in _by_host(jobs).items():
        domain = budget.group("", host) or ""
        seconds[domain] = max(seconds[domain], busy)
    return seconds
