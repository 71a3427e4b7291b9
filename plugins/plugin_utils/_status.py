# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs where, as rows and as a page: for `status`, from another terminal too."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ._orchestration._model import Cluster, State
from ._page import WIDTH, count, duration, wrapped


def rows(cluster: Cluster, state: State) -> list[dict[str, Any]]:
    """One row per instance, in the declaration's order."""
    return [
        {
            "instance": name,
            "service": instance.service,
            "host": instance.host,
            "running": state.instances[name].running,
            "target": instance.artifact.target,
            "current": state.instances[name].current,
            "healthy": state.instances[name].healthy,
            "reason": state.instances[name].reason,
        }
        for name, instance in cluster.instances.items()
    ]


def run_row(run: Mapping[str, Any] | None, now: float) -> dict[str, Any] | None:
    """What the journal says of its last run; `now` in seconds since the epoch. None where there was no run."""
    if run is None:
        return None
    outcomes: dict[str, int] = {}
    for job in run["jobs"]:
        outcomes[job["outcome"] or "in flight"] = outcomes.get(job["outcome"] or "in flight", 0) + 1
    return {
        "id": run["id"],
        "kind": run["kind"],
        "owner": run["owner"],
        "started": run["started"],
        "ended": run["ended"],
        "outcome": run["outcome"],
        "seconds": (run["ended"] or now) - run["started"],
        "silent": None if run["ended"] else now - run["heartbeat"],
        "jobs": len(run["plan"].get("jobs", ())),
        "outcomes": outcomes,
        "in_flight": [
            {"id": job["id"], "seconds": now - job["begun"]} for job in run["jobs"] if job["outcome"] is None
        ],
        "failed": [job["id"] for job in run["jobs"] if job["outcome"] == "failed"],
    }


def page(seen: Sequence[Mapping[str, Any]], state: State, run: Mapping[str, Any] | None) -> str:
    """The rows and the run as text of at most 100 columns."""
    sections = [list(_table(seen)), list(_obstacles(state)), list(_run(run))]
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def _table(seen: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    done = sum(row["current"] for row in seen)
    yield f"STATUS: {done} of {count(len(seen), 'instance')} on target and serving"
    width = min(40, max((len(row["instance"]) for row in seen), default=0))
    for row in seen:
        mark = "ok " if row["current"] else "OUT" if not row["healthy"] else "old"
        what = row["running"] or "nothing runs"
        if not row["current"] and row["target"] not in what:
            what += f", target {row['target']}"
        if row["reason"]:
            what += f"; {row['reason']}"
        yield from wrapped(what, f"  {mark} {row['instance']:<{width}}  "[: WIDTH // 2 + 10])


def _obstacles(state: State) -> Iterator[str]:
    if state.obstacles:
        yield "STANDS IN THE WAY"
        for obstacle in state.obstacles:
            yield from wrapped(obstacle, "  - ")


def _run(run: Mapping[str, Any] | None) -> Iterator[str]:
    if run is None:
        yield "RUNS: none so far"
        return
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run["started"]))
    if run["ended"] is None:
        yield f"RUN {run['id']} ({run['kind']}) in progress since {began}, {duration(run['seconds'])} ago"
        yield from wrapped(f"owner {run['owner']}, last sign of life {duration(run['silent'])} ago", "  ")
    else:
        yield f"LAST RUN {run['id']} ({run['kind']}), begun {began}, took {duration(run['seconds'])}: {run['outcome']}"
    told = ", ".join(f"{number} {outcome}" for outcome, number in sorted(run["outcomes"].items()))
    yield f"  {count(run['jobs'], 'job')} planned: {told or 'none begun'}"
    for job in run["in_flight"]:
        yield from wrapped(f"in flight for {duration(job['seconds'])}: {job['id']}", "  ")
    for name in run["failed"]:
        yield from wrapped(f"failed: {name}", "  ")
