# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Projects as ProGen makes them, in the place of PSPLIB's J30 files, which can't be redistributed and are not at hand.

As in J30: 30 jobs of 1 to 10 time units, up to 3 successors each, 4 renewable resources, 48 parameter sets over
network complexity (1.5, 1.8, 2.1), resource factor (0.25, 0.5, 0.75, 1) and resource strength (0.2, 0.5, 0.7, 1).
They are drawn by this module, so the optimum is computed by CP-SAT, not looked up.

Mapped onto the model: each job is an instance of its own on a host of its own, in a phase of its own. A budget counts
instances, so a job takes one unit of each resource that it uses, and a resource's capacity is drawn from the strength
between one and the peak that the schedule without resources has.
"""

from __future__ import annotations

from itertools import product
from random import Random
from typing import NamedTuple

from ortools.sat.python import cp_model

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._bounds import lower_bound
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._budget import Budget
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._forecast import run_window
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._improve import improve
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._jobs import Job, Phase
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._planner import prioritised
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._window import Window

JOBS = 30
RESOURCES = 4
RESTARTS = 60


class Project(NamedTuple):
    """Durations, predecessors by job, the jobs that use each resource, and the resources' capacities."""

    seconds: list[int]
    after: list[list[int]]
    users: list[list[int]]
    capacity: list[int]


def projects() -> list[Project]:
    """48 projects, one for each set of parameters."""
    sets = product((1.5, 1.8, 2.1), (0.25, 0.5, 0.75, 1.0), (0.2, 0.5, 0.7, 1.0))
    return [_project(Random(number), *parameters) for number, parameters in enumerate(sets)]


def _project(random: Random, complexity: float, factor: float, strength: float) -> Project:
    seconds = [random.randint(1, 10) for _ in range(JOBS)]
    after: list[list[int]] = [[] for _ in range(JOBS)]
    arcs = 0
    successors = [0] * JOBS
    for job in range(3, JOBS):
        earlier = [e for e in range(job) if successors[e] < 3] or [job - 1]
        chosen = random.choice(earlier)
        after[job].append(chosen)
        successors[chosen] += 1
        arcs += 1
    while arcs < complexity * JOBS:
        job = random.randrange(3, JOBS)
        earlier = [e for e in range(job) if e not in after[job]]
        if earlier:
            after[job].append(random.choice(earlier))
            arcs += 1
    users = [[job for job in range(JOBS) if random.random() < factor] for _ in range(RESOURCES)]
    peaks = [_peak(seconds, after, members) for members in users]
    capacity = [max(1, round(1 + strength * (peak - 1))) for peak in peaks]
    return Project(seconds, after, users, capacity)


def _peak(seconds: list[int], after: list[list[int]], members: list[int]) -> int:
    """How many users of a resource overlap when every job begins as early as precedence allows."""
    starts: list[int] = []
    for earlier in after:
        starts.append(max((starts[e] + seconds[e] for e in earlier), default=0))
    return max(
        (sum(1 for m in members if starts[m] <= t < starts[m] + seconds[m]) for t in range(sum(seconds))), default=1
    )


def planned(project: Project) -> float:
    """The makespan that the window reaches with the planner's priorities and its improvement."""
    jobs = [
        Job(f"job{n}", "replace", f"s{n}", f"h{n}", f"s{n}@h{n}", f"job{n}", float(seconds))
        for n, seconds in enumerate(project.seconds)
    ]
    phases = [
        Phase(f"job{n}", f"s{n}", "replace", tuple(f"job{e}" for e in earlier), (f"job{n}",))
        for n, earlier in enumerate(project.after)
    ]
    budgets = [
        Budget(f"resource{r}", "service", project.capacity[r], tuple(f"s{n}" for n in users))
        for r, users in enumerate(project.users)
    ]
    ranked = prioritised(jobs, phases, budgets, ())
    timeline = run_window(Window(ranked, phases, budgets))
    bound = lower_bound(ranked, phases, budgets).seconds
    best = improve(
        ranked, timeline, phases, budgets, (), bound=bound, seed=1, go_on=lambda restarts: restarts < RESTARTS
    )
    return best.timeline.makespan


def optimum(project: Project, limit: float) -> tuple[int, bool]:
    """The least makespan by CP-SAT, and whether it is proven."""
    model = cp_model.CpModel()
    horizon = sum(project.seconds)
    starts = [model.new_int_var(0, horizon, f"start{n}") for n in range(JOBS)]
    spans = [model.new_fixed_size_interval_var(starts[n], project.seconds[n], f"span{n}") for n in range(JOBS)]
    last = model.new_int_var(0, horizon, "makespan")
    for resource, users in enumerate(project.users):
        model.add_cumulative([spans[n] for n in users], [1] * len(users), project.capacity[resource])
    for job, earlier in enumerate(project.after):
        model.add(last >= starts[job] + project.seconds[job])
        for before in earlier:
            model.add(starts[job] >= starts[before] + project.seconds[before])
    model.minimize(last)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = limit
    solver.parameters.num_workers = 2
    status = solver.solve(model)
    return int(solver.value(last)), status == cp_model.OPTIMAL
