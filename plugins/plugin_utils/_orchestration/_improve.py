# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Improvement of a plan's priorities: randomised restarts, each with forward-backward improvement.

Backward, the same window runs the reversed problem with the job that ended last going first; the order in which it
leaves jobs is often a better order to begin them in. Whatever is found is a list of priorities for the very same
window, so budgets and precedence hold by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import NamedTuple

from ._budget import Budget
from ._forecast import Timeline, run_window
from ._jobs import Job, Phase
from ._window import Window

# Gains below this share of the makespan are rounding.
ENOUGH = 1e-6


class Improved(NamedTuple):
    """The best priorities found, and what the window makes of them."""

    jobs: list[Job]
    timeline: Timeline


def reversed_phases(phases: Iterable[Phase]) -> list[Phase]:
    """The same phases with every edge turned round."""
    after: dict[str, list[str]] = {}
    kept = list(phases)
    for phase in kept:
        for earlier in phase.after:
            after.setdefault(earlier, []).append(phase.id)
    return [Phase(p.id, p.service, p.kind, tuple(after.get(p.id, ())), p.jobs) for p in reversed(kept)]


def ranked(jobs: Iterable[Job], keys: Mapping[str, float]) -> list[Job]:
    """The jobs with priorities in the order of their keys, smallest first."""
    ordered = sorted(jobs, key=lambda job: (keys[job.id], job.priority))
    return [job._replace(priority=rank) for rank, job in enumerate(ordered)]


def improve(
    jobs: Sequence[Job],
    timeline: Timeline,
    phases: Sequence[Phase],
    budgets: Sequence[Budget],
    out: Iterable[str],
    *,
    bound: float,
    seed: int,
    go_on: Callable[[int], bool],
) -> Improved:
    """The best of the given plan and of what restarts find, while `go_on(restarts so far)` says so."""
    random = Random(seed)
    absent = tuple(out)
    backwards = reversed_phases(phases)
    best = Improved(list(jobs), timeline)
    base = {job.id: float(job.priority) for job in jobs}
    restarts = 0
    while best.timeline.makespan > bound * (1 + ENOUGH) and go_on(restarts):
        found = best if restarts == 0 else _restart(best.jobs, base, phases, budgets, absent, random)
        found = _forward_backward(found, phases, backwards, budgets, absent)
        if found.timeline.makespan < best.timeline.makespan * (1 - ENOUGH):
            best = found
        restarts += 1
    return best


def _run(jobs: list[Job], phases: Sequence[Phase], budgets: Sequence[Budget], out: Iterable[str]) -> Improved:
    return Improved(jobs, run_window(Window(jobs, phases, budgets, out=out)))


def _restart(
    jobs: Sequence[Job],
    base: Mapping[str, float],
    phases: Sequence[Phase],
    budgets: Sequence[Budget],
    out: tuple[str, ...],
    random: Random,
) -> Improved:
    """A new start: ranks moved by a random amount, now little and now a lot."""
    reach = len(jobs) * random.choice((0.1, 0.3, 1.0))
    keys = {job.id: base[job.id] + random.random() * reach for job in jobs}
    return _run(ranked(jobs, keys), phases, budgets, out)


def _forward_backward(
    start: Improved,
    phases: Sequence[Phase],
    backwards: Sequence[Phase],
    budgets: Sequence[Budget],
    out: tuple[str, ...],
) -> Improved:
    best = start
    while True:
        late = _run(ranked(best.jobs, {k: -end for k, end in best.timeline.ends.items()}), backwards, budgets, ())
        again = _run(ranked(best.jobs, {k: -end for k, end in late.timeline.ends.items()}), phases, budgets, out)
        if again.timeline.makespan >= best.timeline.makespan * (1 - ENOUGH):
            return best
        best = again
