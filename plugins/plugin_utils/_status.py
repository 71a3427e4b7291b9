# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs where, as rows and as a page: for `status`, from another terminal too."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import _view
from ._orchestration._model import Cluster, State
from ._orchestration._rest import forecast_rest
from ._orchestration._standing import Standing
from ._page import WIDTH, count, wrapped


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


def run_row(
    run: Mapping[str, Any] | None, now: float, requests: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """What the journal says of its last run; `now` in seconds since the epoch. None where there was no run.

    `requests`: what a running probe counted, as `sent`, `failed` and `last`, the last failure in words.
    """
    if run is None:
        return None
    outcomes: dict[str, int] = {}
    for job in run["jobs"]:
        outcomes[job["outcome"] or "in flight"] = outcomes.get(job["outcome"] or "in flight", 0) + 1
    standing = _standing(run)
    going = run["ended"] is None
    dead = going and run.get("alive") is False
    return {
        "id": run["id"],
        "kind": run["kind"],
        "owner": run["owner"],
        "started": run["started"],
        "ended": run["ended"],
        "outcome": run["outcome"],
        "seconds": (run["ended"] or now) - run["started"],
        "silent": None if run["ended"] else now - run["heartbeat"],
        "dead": dead,
        "jobs": len(run["plan"].get("jobs", ())),
        "outcomes": outcomes,
        "in_flight": standing.in_flight(now),
        "failed": [job["id"] for job in run["jobs"] if job["outcome"] == "failed"],
        "paused": standing.paused if going else "",
        "stopped": standing.stopped,
        "waiting": standing.waiting() if going else [],
        "services": standing.services(),
        "budgets": standing.budgets(),
        "requests": dict(requests) if requests and going else None,
        "rest": rest_row(run["plan"], run["jobs"], now, ending=bool(standing.stopped)) if going and not dead else None,
    }


def rest_row(
    plan: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]], now: float, *, ending: bool
) -> dict[str, Any] | None:
    """The forecast of the rest; `by`: when that is over. None for what is no plan of ours."""
    try:
        rest = forecast_rest(plan, jobs, now, ending=ending)
    except KeyError:
        return None
    return {**dataclasses.asdict(rest), "by": now + rest.seconds}


def _standing(run: Mapping[str, Any]) -> Standing:
    standing = Standing(run["plan"])
    for when, ends, job in sorted(_events(run["jobs"]), key=lambda event: (event[0], not event[1])):
        if ends:
            standing.end(job["id"], job["outcome"], job.get("details"))
        else:
            standing.begin(job["id"], when)
    asked = [row for row in run.get("requests", ()) if row["request"] in ("pause", "resume")]
    if asked and asked[-1]["request"] == "pause":
        standing.pause(str(asked[-1]["made_by"]))
    if reason := _stopped(run):
        standing.stop(reason)
    return standing


def _stopped(run: Mapping[str, Any]) -> str:
    """Why nothing more begins; "" while something may."""
    if reason := run.get("summaries", {}).get("stopped", {}).get("reason"):
        return str(reason)
    aborts = [row for row in run.get("requests", ()) if row["request"] == "abort"]
    return f"aborted by {aborts[-1]['made_by']}" if aborts else ""


def _events(jobs: Sequence[Mapping[str, Any]]) -> Iterator[tuple[float, bool, Mapping[str, Any]]]:
    for job in jobs:
        yield job["begun"], False, job
        if job["ended"] is not None:
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
    else:
        yield from _view.text(_view.view(run, WIDTH, signs=_view.ASCII)).splitlines()
