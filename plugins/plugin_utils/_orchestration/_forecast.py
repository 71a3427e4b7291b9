# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The forecast: the window on a simulated clock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush, nlargest
from math import exp, sqrt
from random import Random
from typing import Final

from ._bounds import heads
from ._budget import Budget
from ._estimates import percentile
from ._jobs import Job, Phase
from ._window import Outcome, Window

# How many jobs the draws for p50 and p90 may simulate, all draws together, and how many draws are few or plenty.
DRAWN_JOBS: Final = 12_000
FEW_DRAWS: Final = 20
MANY_DRAWS: Final = 200


@dataclass(frozen=True, slots=True)
class Timeline:
    """When each job began and ended, in seconds since the start. `stuck` says why jobs are left, "" if none are."""

    starts: Mapping[str, float]
    ends: Mapping[str, float]
    makespan: float
    stuck: str = ""


def always_done(job: Job) -> Outcome:
    return "done"


def run_window(
    window: Window,
    seconds: Callable[[Job], float] = lambda job: job.seconds,
    outcome: Callable[[Job], Outcome] = always_done,
    *,
    forks: int | None = None,
) -> Timeline:
    """Carry a window out on a simulated clock.

    `seconds` is how long each job really takes; `forks`: no more jobs than that run at once, whatever the budgets say.
    """
    now = 0.0
    starts: dict[str, float] = {}
    ends: dict[str, float] = {}
    running: list[tuple[float, int, Job]] = []
    while True:
        room = None if forks is None else max(0, forks - len(running))
        for job in window.admissible(room):
            window.begin(job.id)
            starts[job.id] = now
            heappush(running, (now + seconds(job), len(starts), job))
        if not running:
            return Timeline(starts, ends, now, window.stuck)
        now = running[0][0]
        while running and running[0][0] == now:
            job = heappop(running)[2]
            ends[job.id] = now
            window.end(job.id, outcome(job))


def rounds(window: Window) -> list[list[str]]:
    """What would run together if nothing might slide: each round begins when the whole one before has ended."""
    found: list[list[str]] = []
    while batch := [job.id for job in window.admissible()]:
        for job_id in batch:
            window.begin(job_id)
        for job_id in batch:
            window.end(job_id, "done")
        found.append(batch)
    return found


def likely_makespans(
    jobs: Sequence[Job],
    timeline: Timeline,
    phases: Sequence[Phase],
    budgets: Sequence[Budget],
    out: Iterable[str],
    spreads: Mapping[str, float],
    *,
    seed: int,
    drawn_jobs: int = DRAWN_JOBS,
) -> tuple[float, float]:
    """p50 and p90 of the makespan when each job's duration is lognormal around its estimate.

    Small fleets: the window itself on drawn durations. Large ones: phase by phase, see docs/planner.md.
    """
    random = Random(seed)
    draws = min(MANY_DRAWS, drawn_jobs // max(1, len(jobs)))
    if draws >= FEW_DRAWS:
        absent = tuple(out)
        found = sorted(_drawn(jobs, phases, budgets, absent, spreads, random) for _unused in range(draws))
    else:
        found = sorted(_drawn_by_phase(jobs, timeline, phases, spreads, random))
    return percentile(found, 0.5), percentile(found, 0.9)


def _drawn(
    jobs: Sequence[Job],
    phases: Sequence[Phase],
    budgets: Sequence[Budget],
    out: tuple[str, ...],
    spreads: Mapping[str, float],
    random: Random,
) -> float:
    seconds = {job.id: job.seconds * exp(random.gauss(0.0, spreads[job.id])) for job in jobs}
    return run_window(Window(jobs, phases, budgets, out=out), lambda job: seconds[job.id]).makespan


def _drawn_by_phase(
    jobs: Sequence[Job],
    timeline: Timeline,
    phases: Sequence[Phase],
    spreads: Mapping[str, float],
    random: Random,
) -> list[float]:
    """A phase of many jobs takes as long as forecast times how much longer its work is (near normal, by the central
    limit theorem), or as long as one of its longest jobs."""
    members: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        members[job.phase].append(job)
    shapes = {phase: _shape(entries, timeline, spreads) for phase, entries in members.items()}
    found = []
    for _unused in range(FEW_DRAWS * 5):
        lengths = {phase: shape.draw(random) for phase, shape in shapes.items()}
        before = heads(phases, lengths)
        found.append(max((before[phase] + length for phase, length in lengths.items()), default=0.0))
    return found


@dataclass(frozen=True, slots=True)
class _Shape:
    """A phase's forecast length, the factor on its work (mean, deviation), and its longest jobs (seconds, spread)."""

    length: float
    mean: float
    deviation: float
    longest: tuple[tuple[float, float], ...]

    def draw(self, random: Random) -> float:
        slowest = max(seconds * exp(random.gauss(0.0, spread)) for seconds, spread in self.longest)
        return max(self.length * random.gauss(self.mean, self.deviation), slowest)


def _shape(jobs: Sequence[Job], timeline: Timeline, spreads: Mapping[str, float]) -> _Shape:
    ends = [timeline.ends[job.id] for job in jobs if job.id in timeline.ends]
    starts = [timeline.starts[job.id] for job in jobs if job.id in timeline.starts]
    total = sum(job.seconds for job in jobs) or 1.0
    mean = variance = 0.0
    for job in jobs:
        square = spreads[job.id] ** 2
        mean += job.seconds * exp(square / 2)
        variance += job.seconds**2 * (exp(square) - 1) * exp(square)
    longest = tuple((job.seconds, spreads[job.id]) for job in nlargest(20, jobs, key=lambda job: job.seconds))
    length = max(ends, default=0.0) - min(starts, default=0.0)
    return _Shape(length, mean / total, sqrt(variance) / total, longest)
