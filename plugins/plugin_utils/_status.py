# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs where, as rows and as a page: for `status`, from another terminal too."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ._orchestration._model import Cluster, State
from ._orchestration._window import Window, WindowError
from ._page import WIDTH, count, duration, some, wrapped

_MOST_WAITING = 10


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
        "paused": _paused(run),
        "stopped": _stopped(run),
        "waiting": [] if run["ended"] else _waiting(run),
    }


def _paused(run: Mapping[str, Any]) -> str:
    """Who paused it; "" while it is not paused."""
    asked = [row for row in run.get("requests", ()) if row["request"] in ("pause", "resume")]
    return str(asked[-1]["made_by"]) if asked and asked[-1]["request"] == "pause" and not run["ended"] else ""


def _stopped(run: Mapping[str, Any]) -> str:
    """Why nothing more begins; "" while something may."""
    if reason := run.get("summaries", {}).get("stopped", {}).get("reason"):
        return str(reason)
    aborts = [row for row in run.get("requests", ()) if row["request"] == "abort"]
    return f"aborted by {aborts[-1]['made_by']}" if aborts else ""


def _waiting(run: Mapping[str, Any]) -> list[dict[str, str]]:
    """The jobs that did not begin yet, and what each waits for: a window that is told what the journal tells.

    Empty where the two do not agree: then the run's own window knows of something that the journal does not hold.
    """
    try:
        window = Window.from_plan(run["plan"])
        for _when, ends, job in sorted(_events(run["jobs"]), key=lambda event: (event[0], not event[1])):
            if ends:
                window.end(job["id"], job["outcome"])
            else:
                window.begin(job["id"])
    except (KeyError, WindowError):
        return []
    if reason := _stopped(run):
        window.stop(reason)
    elif _paused(run):
        window.pause()
    begun = {job["id"] for job in run["jobs"]}
    return [{"id": job.id, "why": window.waits_for(job.id)} for job in window.left if job.id not in begun]


def _events(jobs: Sequence[Mapping[str, Any]]) -> Iterator[tuple[float, bool, Mapping[str, Any]]]:
    for job in jobs:
        yield job["begun"], False, job
        if job["ended"] is not None and job["outcome"] in ("done", "failed", "skipped"):
            yield job["ended"], True, job


def page(seen: Sequence[Mapping[str, Any]], state: State, run: Mapping[str, Any] | None) -> str:
    """The rows and the run as text of at most 100 columns."""
    sections = [list(_table(seen)), list(_obstacles(state)), list(_run(run))]
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def _table(seen: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not seen:
        return
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
    if run["stopped"]:
        yield from wrapped(f"stopped: {run['stopped']}; nothing more begins", "  ")
    elif run["paused"]:
        yield from wrapped(f"paused by {run['paused']}; rondo.upgrade.resume lets it go on", "  ")
    yield from _waits(run["waiting"])


def _waits(waiting: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """What waits, those that wait for the same together."""
    together: dict[str, list[str]] = {}
    for row in waiting:
        together.setdefault(row["why"], []).append(row["id"])
    for why, names in list(together.items())[:_MOST_WAITING]:
        yield from wrapped(f"{some(names, 4)}: {why}", "  ")
    if left := sum(len(names) for names in list(together.values())[_MOST_WAITING:]):
        yield f"  and {count(left, 'more job')}, which wait for other things"
