# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of the planner: `make bench-plan`. Writes build/bench/plan.json; exits non-zero if a figure does not hold.

Large fleets are planned each in a process of its own, so that memory is theirs alone. CPU seconds, not wall seconds:
the machine may be busy. What each fleet is made of: tests/benchmarks/fleets.py.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from math import log
from pathlib import Path
from random import Random
from statistics import mean
from typing import TYPE_CHECKING, Any

import fleets

if TYPE_CHECKING:
    import projects

ROOT = fleets.ROOT


from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._bounds import lower_bound
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._budget import budgets_of
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._estimates import Estimates
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._forecast import run_window
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._jobs import Job, Phase, jobs_and_phases
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import Cluster, State
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._planner import make_plan
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._window import Window

SIZES = (10, 100, 1000, 5000, 10000)
# A busy machine makes the same work cost more CPU (caches, shared cores): the least of several is the plan's own. Small
# plans are repeated more often, until they have taken this many seconds.
REPEATS = 5
LONG_ENOUGH = 2.0
# What processor caches and the garbage collector may add to ten times the hosts. n ** 1.5 would give 2.5, n ** 2 7.9.
CACHES = 2.0
SMALL_FLEETS = 50
SOLVER_SECONDS = 3.0


def noisy(cluster: Cluster, seed: int) -> Cluster:
    """The same cluster whose estimates are each off by a factor from 0.5 to 2."""
    random = Random(seed)
    services = {}
    for name, service in cluster.services.items():
        services[name] = replace(
            service,
            instances=tuple(
                replace(i, estimates={"replace": i.estimates["replace"] * 2 ** random.uniform(-1, 1)})
                for i in service.instances
            ),
        )
    return replace(cluster, services=services)


def with_estimates(cluster: Cluster) -> tuple[list[Job], list[Phase]]:
    """All jobs in the order of the inventory, each as long as estimated."""
    known, instances = Estimates(cluster), cluster.instances
    jobs, phases = jobs_and_phases(cluster, State())
    ranks = {i.name: n for s in cluster.services.values() for n, i in enumerate(s.instances)}
    return [
        job._replace(
            seconds=known.of(job.kind, cluster.services[job.service], instances.get(job.instance or "")).seconds,
            priority=ranks.get(job.instance or "", 0),
        )
        for job in jobs
    ], phases


def serial_makespan(cluster: Cluster) -> float:
    """One service after the other, each in fixed batches of 25 % of its hosts in inventory order."""
    jobs, _phases = with_estimates(cluster)
    total = sum(job.seconds for job in jobs if job.instance is None)
    for name in cluster.services:
        seconds = [job.seconds for job in jobs if job.service == name and job.instance is not None]
        size = max(1, len(seconds) // 4)
        total += sum(max(seconds[i : i + size]) for i in range(0, len(seconds), size))
    return total


def inventory_order(cluster: Cluster) -> float:
    """The same window and budgets, but jobs begin in the order of the inventory."""
    jobs, phases = with_estimates(cluster)
    return run_window(Window(jobs, phases, budgets_of(cluster, {}))).makespan


BASELINES: Mapping[str, Callable[[Cluster], float]] = {"serial": serial_makespan, "inventory_order": inventory_order}


def noisy_ratio(cluster: Cluster, seed: int) -> float:
    """A plan made on noisy estimates, carried out with the true durations, over the bound of the true durations."""
    plan = make_plan(noisy(cluster, seed), State())
    true = {i.name: i.estimates["replace"] for i in cluster.instances.values()}
    jobs = [job._replace(seconds=true.get(job.instance or "", job.seconds)) for job in plan.jobs]
    in_order = sorted(jobs, key=lambda job: (plan.timeline.starts[job.id], job.priority))
    window = Window(in_order, plan.phases, plan.budgets, out=plan.out, host_order=True)
    return run_window(window).makespan / lower_bound(jobs, plan.phases, plan.budgets, plan.out).seconds


def measure(size: int) -> dict[str, Any]:
    """One row: a large fleet, planned in this process."""
    cluster = fleets.large(size)
    cpus: list[float] = []
    while len(cpus) < REPEATS or (sum(cpus) < LONG_ENOUGH and len(cpus) < 5 * REPEATS):
        before = time.process_time()
        plan = make_plan(cluster, State())
        cpus.append(time.process_time() - before)
    before = time.process_time()
    plan.to_dict()
    export = time.process_time() - before
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    bound = plan.bound.seconds
    return {
        "hosts": size,
        "jobs": len(plan.jobs),
        "cpu_seconds": round(min(cpus), 3),
        "cpu_seconds_of_each": [round(cpu, 3) for cpu in cpus],
        "to_dict_cpu_seconds": round(export, 3),
        "memory_mb": round(memory, 1),
        "makespan": round(plan.makespan, 1),
        "bound": round(bound, 1),
        "bound_name": plan.bound.name,
        "ratio": round(plan.makespan / bound, 4),
        "noisy_ratio": round(noisy_ratio(cluster, seed=1), 4),
    }


def measure_baseline(size: int, name: str) -> dict[str, Any]:
    """The same of a baseline, in this process."""
    cluster = fleets.large(size)
    before = time.process_time()
    makespan = BASELINES[name](cluster)
    cpu = time.process_time() - before
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu_seconds": round(cpu, 3), "memory_mb": round(memory, 1), "makespan": round(makespan, 1)}


def alone(*arguments: str) -> dict[str, Any]:
    """What this file measures in a process of its own."""
    command = [sys.executable, __file__, "--measure", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def measured_alone(size: int) -> dict[str, Any]:
    row = alone(str(size))
    for name in BASELINES:
        baseline = alone(str(size), name)
        row[name] = {**baseline, "ratio": round(baseline["makespan"] / row["bound"], 4)}
    return row


def compared(makespan: float, best: int, proven: bool) -> dict[str, Any]:
    return {"makespan": makespan, "optimum": best, "proven": proven, "gap": round(makespan / best - 1, 4)}


def against_solver() -> list[dict[str, Any]]:
    import exact  # the solver is large: a process that measures memory must not load it

    rows = []
    for seed in range(SMALL_FLEETS):
        plan = make_plan(fleets.small(seed), State())
        best, proven = exact.optimum(plan, SOLVER_SECONDS)
        rows.append({"seed": seed, "jobs": len(plan.jobs), **compared(plan.makespan, best, proven)})
    return rows


def against_project(name: str, project: projects.Project) -> dict[str, Any]:
    import projects

    best, proven = projects.optimum(project, SOLVER_SECONDS)
    published = projects.PUBLISHED.get(name)
    if proven and published not in (None, best):
        raise ValueError(f"{name}: its published optimum is {published}, but CP-SAT proves {best}: it was misread")
    makespans = projects.planned(project)
    return {
        "project": name,
        "published": published,
        "at_once": makespans.at_once,
        **compared(makespans.improved, best, proven),
    }


def against_projects() -> list[dict[str, Any]]:
    """The drawn projects."""
    import projects

    return [against_project(f"drawn {number}", project) for number, project in enumerate(projects.projects())]


def against_files() -> list[dict[str, Any]]:
    """The J30 files that can be had: none, with a line that says why, where the package index does not answer."""
    import projects

    try:
        files = projects.j30_files(ROOT / ".cache" / "psplib")
    except projects.UnavailableError as error:
        print(f"no J30 file of PSPLIB: {error}")
        return []
    return [against_project(name, project) for name, project in files.items()]


def figure(name: str, value: float, unit: str, target: float | None) -> dict[str, Any]:
    """A figure whose target is an upper limit; None: it is for information, and holds."""
    holds = target is None or value <= target
    return {"name": name, "value": round(value, 4), "unit": unit, "target": target, "holds": holds}


def gaps(drawn: list[dict[str, Any]], files: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean gaps to the optimum of projects, where it is proven. For information."""
    found = []
    for what, rows in (("drawn projects", drawn), ("J30 files of PSPLIB", files)):
        proven = [row["gap"] for row in rows if row["proven"]]
        if proven:
            found.append(figure(f"mean gap to the optimum, {what} ({len(proven)})", mean(proven), "share", None))
    return found


def growth(rows: Mapping[int, Mapping[str, Any]]) -> float:
    """CPU seconds from 1,000 to 10,000 hosts, over what n log n would give."""
    small, large = rows[1000], rows[10000]
    expected = large["jobs"] * log(large["jobs"]) / (small["jobs"] * log(small["jobs"]))
    return float(large["cpu_seconds"] / small["cpu_seconds"] / expected)


def figures(
    rows: Mapping[int, Mapping[str, Any]],
    solver: list[dict[str, Any]],
    drawn: list[dict[str, Any]],
    files: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    largest = rows[SIZES[-1]]
    proven = [row["gap"] for row in solver if row["proven"]]
    return [
        figure("CPU to plan 10,000 hosts x 5 services", largest["cpu_seconds"], "s", 3.0),
        figure("memory to plan 10,000 hosts x 5 services", largest["memory_mb"], "MB", 400.0),
        figure("growth of CPU from 1,000 to 10,000 hosts over n log n", growth(rows), "ratio", CACHES),
        *(figure(f"makespan over bound, {size} hosts", rows[size]["ratio"], "ratio", 1.15) for size in SIZES),
        *(
            figure(f"makespan over bound with noisy estimates, {size} hosts", rows[size]["noisy_ratio"], "ratio", 1.3)
            for size in SIZES
        ),
        figure("makespan at 10,000 hosts over that at 100", largest["makespan"] / rows[100]["makespan"], "ratio", 1.1),
        figure("small fleets not solved to the proven optimum", len(solver) - len(proven), "fleets", 5),
        figure("mean gap to the exact optimum, small fleets", mean(proven), "share", 0.05),
        figure("worst gap to the exact optimum, small fleets", max(proven), "share", 0.15),
        *gaps(drawn, files),
    ]


def machine() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "ortools": version("ortools"),
    }


def show(rows: Mapping[int, Mapping[str, Any]], found: list[dict[str, Any]]) -> None:
    print(f"{'hosts':>7}{'jobs':>8}{'CPU s':>8}{'MB':>7}{'ratio':>8}{'noisy':>8}{'inventory':>11}{'serial 25%':>12}")
    for row in rows.values():
        print(
            f"{row['hosts']:>7}{row['jobs']:>8}{row['cpu_seconds']:>8.2f}{row['memory_mb']:>7.0f}{row['ratio']:>8.3f}"
            f"{row['noisy_ratio']:>8.3f}{row['inventory_order']['ratio']:>11.3f}{row['serial']['ratio']:>12.3f}"
        )
    for one in found:
        mark = "holds" if one["holds"] else "DOES NOT HOLD"
        judged = "for information" if one["target"] is None else f"<= {one['target']:<6} {mark}"
        print(f"{one['name']:<66}{one['value']:>10} {one['unit']:<7} {judged}")


def main() -> int:
    if sys.argv[1:2] == ["--measure"]:
        size, *baseline = sys.argv[2:]
        json.dump(measure_baseline(int(size), *baseline) if baseline else measure(int(size)), sys.stdout)
        return 0
    rows = {size: measured_alone(size) for size in SIZES}
    solver = against_solver()
    drawn = against_projects()
    files = against_files()
    found = figures(rows, solver, drawn, files)
    show(rows, found)
    target = ROOT / "build" / "bench" / "plan.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "machine": machine(),
        "rows": list(rows.values()),
        "small_fleets": solver,
        "drawn_projects": drawn,
        "j30_files": files,
        "figures": found,
    }
    target.write_text(json.dumps(content, indent=2) + "\n")
    print(f"written: {Path(os.path.relpath(target))}")
    return 0 if all(one["holds"] for one in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
