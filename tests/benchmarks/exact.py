# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exact solutions of small fleets by OR-Tools CP-SAT, to measure the planner against."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations

from ortools.sat.python import cp_model

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._planner import Plan


def optimum(plan: Plan, limit: float) -> tuple[int, bool]:
    """The least makespan of a plan's jobs under its budgets, in whole seconds, and whether it is proven.

    Only for fleets without broken members. The model is written from the budgets' meaning, not from the window's code.
    """
    model = cp_model.CpModel()
    horizon = int(sum(job.seconds for job in plan.jobs))
    starts = {job.id: model.new_int_var(0, horizon, job.id) for job in plan.jobs}
    spans = {job.id: model.new_fixed_size_interval_var(starts[job.id], int(job.seconds), job.id) for job in plan.jobs}
    ends = {job.id: starts[job.id] + int(job.seconds) for job in plan.jobs}
    _hosts(model, plan, spans)
    _precedence(model, plan, starts, ends)
    _budgets(model, plan, spans)
    last = model.new_int_var(0, horizon, "makespan")
    model.add_max_equality(last, list(ends.values()))
    for job in plan.jobs:
        model.add_hint(starts[job.id], int(plan.timeline.starts[job.id]))
    model.minimize(last)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = limit
    solver.parameters.num_workers = 2
    status = solver.solve(model)
    return int(solver.value(last)), status == cp_model.OPTIMAL


def _hosts(model: cp_model.CpModel, plan: Plan, spans: dict[str, cp_model.IntervalVar]) -> None:
    hosts = defaultdict(list)
    for job in plan.jobs:
        hosts[job.host].append(spans[job.id])
    for members in hosts.values():
        model.add_no_overlap(members)


def _precedence(
    model: cp_model.CpModel,
    plan: Plan,
    starts: dict[str, cp_model.IntVar],
    ends: dict[str, cp_model.LinearExprT],
) -> None:
    members = {phase.id: phase.jobs for phase in plan.phases}
    for phase in plan.phases:
        for earlier in phase.after:
            for before in members[earlier]:
                for job in phase.jobs:
                    model.add(starts[job] >= ends[before])


def _budgets(model: cp_model.CpModel, plan: Plan, spans: dict[str, cp_model.IntervalVar]) -> None:
    for service in plan.cluster.services.values():
        jobs = [job for job in plan.jobs if job.service == service.name and job.instance]
        capacity = service.max_unavailable
        if service.quorum:
            capacity = min(capacity, (len(service.instances) - 1) // 2)
        model.add_cumulative([spans[job.id] for job in jobs], [1] * len(jobs), capacity)
        if service.failure_domain:
            zone = {instance.name: instance.domain for instance in service.instances}
            for one, other in combinations(jobs, 2):
                if zone[one.instance or ""] != zone[other.instance or ""]:
                    model.add_no_overlap([spans[one.id], spans[other.id]])
