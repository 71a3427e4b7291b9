# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan's jobs forecast again: the rest of a run, with durations corrected by what was measured in it, and the whole
with what a rehearsal has learned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import NormalDist, pstdev
from typing import Any, Final

from ._budget import Budget
from ._estimates import ASSUMED_SPREAD, DECLARED_SPREAD, ENOUGH, NINETIETH, OUTLIER, UNKNOWN, Estimates
from ._forecast import likely_makespans, run_window
from ._jobs import Job, Phase
from ._model import Cluster
from ._window import Window

# How many jobs all draws of one forecast of the rest may simulate: it is made again and again while a run is on.
DRAWN_JOBS: Final = 2_000
# The deviation of a duration's logarithm: of a guess, of a declared number, and the least that is believed in.
GUESSED: Final = log(ASSUMED_SPREAD) / NINETIETH
STATED: Final = log(DECLARED_SPREAD) / NINETIETH
LEAST: Final = 0.05
# The longest that an overdue job is believed to be within: beyond it the normal distribution has no numbers left.
SURE: Final = 0.9999


@dataclass(frozen=True, slots=True)
class Rest:
    """Seconds until the last job ends: the middle and the 90th percentile. `measured`: how many jobs of this run taught
    something; `pace`: how long these took, as a multiple of what was planned."""

    seconds: float
    p90: float
    measured: int
    pace: float


@dataclass(frozen=True, slots=True)
class _Pace:
    factor: float
    spread: float


def forecast_rest(
    plan: Mapping[str, Any],
    begun: Sequence[Mapping[str, Any]],
    now: float,
    *,
    ending: bool = False,
    seed: int = 0,
) -> Rest:
    """How long a run still takes. `plan`: plan.json's values; `begun`: `id`, `begun`, `ended`, `outcome` of each job
    that began, times on the clock of `now`; `ending`: nothing new begins any more."""
    rows = {row["id"]: row for row in plan["jobs"]}
    known = [job for job in begun if job["id"] in rows]
    paces = _paces(rows, known)
    flying = {job["id"]: max(0.0, now - job["begun"]) for job in known if job["ended"] is None}
    left = _left(rows, known, flying, ending=ending)
    jobs, spreads = [], {}
    for row in left:
        pace = paces.get((row["kind"], row["service"])) or _Pace(1.0, spread_of(row["source"]))
        job = Job.from_dict(row)
        seconds = max(job.seconds, 0.1) * pace.factor
        if job.id in flying:
            # What runs holds its host and its budgets before anything else is admitted.
            job = job._replace(seconds=_still(seconds, pace.spread, flying[job.id]), priority=-1)
        else:
            job = job._replace(seconds=seconds)
        jobs.append(job)
        spreads[job.id] = pace.spread
    phases = _phases(plan, {job.id for job in jobs})
    budgets = [Budget.from_dict(row) for row in plan["budgets"]]
    out = _out(plan, rows, known)
    timeline = run_window(Window(jobs, phases, budgets, out=out, host_order=True))
    least = max((job.seconds for job in jobs if job.id in flying), default=0.0)
    middle, p90 = likely_makespans(jobs, timeline, phases, budgets, out, spreads, seed=seed, drawn_jobs=DRAWN_JOBS)
    return Rest(max(least, middle), max(least, middle, p90), *_told(rows, known))


def forecast_with(plan: Mapping[str, Any], cluster: Cluster, known: Estimates) -> float:
    """How many seconds a plan takes if those of its jobs that nobody has measured take as long as `known` says."""
    jobs = []
    for row in plan["jobs"]:
        job = Job.from_dict(row)
        if row["source"] in (UNKNOWN, "declared", "rehearsed"):
            instance = cluster.instances[row["instance"]] if row["instance"] else None
            estimate = known.of(row["kind"], cluster.services[row["service"]], instance)
            job = job._replace(seconds=estimate.seconds + row["bake_time"])
        jobs.append(job)
    budgets = [Budget.from_dict(row) for row in plan["budgets"]]
    phases = _phases(plan, {job.id for job in jobs})
    return run_window(Window(jobs, phases, budgets, out=_out(plan, {}, ()))).makespan


def spread_of(source: str) -> float:
    """The standard deviation of a duration's logarithm, by where the plan has its estimate from."""
    if source == UNKNOWN:
        return GUESSED
    return STATED if source == "declared" else STATED / 2


def _ratio(row: Mapping[str, Any], job: Mapping[str, Any]) -> float:
    """The logarithm of how much longer a job took than planned; one that hung must not spoil the rest."""
    found = log(max(job["ended"] - job["begun"], 0.1) / max(float(row["seconds"]), 0.1))
    return max(-log(OUTLIER), min(log(OUTLIER), found))


def _measured(rows: Mapping[str, Any], begun: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[float]]:
    ratios: dict[tuple[str, str], list[float]] = defaultdict(list)
    for job in begun:
        if job["outcome"] == "done" and job["ended"] is not None:
            row = rows[job["id"]]
            ratios[row["kind"], row["service"]].append(_ratio(row, job))
    return ratios


def _paces(rows: Mapping[str, Any], begun: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], _Pace]:
    """How jobs of a kind and service go, against the plan: the more is measured, and the less the plan knew, the more
    the measurements count."""
    prior = {(row["kind"], row["service"]): spread_of(row["source"]) for row in rows.values()}
    paces = {}
    for key, ratios in _measured(rows, begun).items():
        weight = len(ratios) / (len(ratios) + (STATED / prior[key]) ** 2)
        spread = prior[key] if len(ratios) < ENOUGH else max(LEAST, pstdev(ratios))
        paces[key] = _Pace(exp(weight * sum(ratios) / len(ratios)), spread)
    return paces


def _told(rows: Mapping[str, Any], begun: Sequence[Mapping[str, Any]]) -> tuple[int, float]:
    ratios = [ratio for several in _measured(rows, begun).values() for ratio in several]
    return len(ratios), exp(sum(ratios) / len(ratios)) if ratios else 1.0


def _still(seconds: float, spread: float, elapsed: float) -> float:
    """How much longer a job takes that has taken so long already: the median of those that take longer than that. One
    that is long overdue proves the estimate wrong: it gets a tenth of its time more, however long that is."""
    if elapsed <= 0:
        return seconds
    normal = NormalDist()
    passed = min(SURE, normal.cdf(log(elapsed / seconds) / spread))
    whole = seconds * exp(spread * normal.inv_cdf((1 + passed) / 2))
    return max(1.0, elapsed / 10, whole - elapsed)


def _left(
    rows: Mapping[str, Any], begun: Sequence[Mapping[str, Any]], flying: Mapping[str, float], *, ending: bool
) -> list[Mapping[str, Any]]:
    """What has not ended and will: nothing more begins on a host where a job failed."""
    over = {job["id"] for job in begun if job["ended"] is not None}
    failed = {rows[job["id"]]["host"] for job in begun if job["outcome"] == "failed"}
    return [
        row
        for name, row in rows.items()
        if name not in over and (name in flying or not (ending or row["host"] in failed))
    ]


def _phases(plan: Mapping[str, Any], left: set[str]) -> list[Phase]:
    phases = (Phase.from_dict(row) for row in plan["phases"])
    return [
        Phase(phase.id, phase.service, phase.kind, phase.after, tuple(name for name in phase.jobs if name in left))
        for phase in phases
    ]


def _out(plan: Mapping[str, Any], rows: Mapping[str, Any], begun: Sequence[Mapping[str, Any]]) -> list[str]:
    out = {instance for row in plan["budgets"] for instance in row["already_out"]}
    for job in begun:
        if (instance := rows[job["id"]]["instance"]) is None:
            continue
        if job["outcome"] == "failed":
            out.add(instance)
        elif job["outcome"] == "done":
            out.discard(instance)
    return sorted(out)
