# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rehearsal says: the plan for production, what was measured on the twin, which durations it learned, and what
it could not show. Plain values in, rehearsal.json, learned.json and a page out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any, Final

from ._orchestration._estimates import Rehearsed, StepKind
from ._page import count, duration, some, wrapped
from ._plan_file import PlanFileError

SCHEMA: Final = 1
_MOST: Final = 30

Learned = Mapping[tuple[StepKind, str], Rehearsed]


def production(plan: Mapping[str, Any], saved: bool) -> dict[str, Any]:
    """What is said of the real plan."""
    return {
        "saved": saved,
        "jobs": len(plan["jobs"]),
        "hosts": len({job["host"] for job in plan["jobs"]}),
        "services": [
            {key: service[key] for key in ("name", "method", "budget_reason", "hosts")}
            | {"jobs": len(service["jobs"]), "start": service["start"], "end": service["end"]}
            for service in plan["services"]
        ],
        "forecast": dict(plan["forecast"]),
        "obstacles": list(plan["obstacles"]),
        "risks": list(plan["risks"]),
    }


def learned(jobs: Iterable[Mapping[str, Any]], own: Iterable[str]) -> list[dict[str, Any]]:
    """The durations of a twin's jobs (as the journal holds them), by service and kind: medians, in seconds.

    What an instance has to stay healthy is not part of them, as in `estimates`. `own`: services that ran their own
    images; a stand-in's time is only the least that a real one takes.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for job in jobs:
        if job["outcome"] == "done":
            healthy = job.get("min_healthy_time", 0.0) + job.get("bake_time", 0.0) if job["kind"] == "replace" else 0.0
            found.setdefault((job["service"], job["kind"]), []).append(max(0.1, job["took"] - healthy))
    real = frozenset(own)
    return [
        {
            "service": service,
            "kind": kind,
            "seconds": round(median(values), 1),
            "count": len(values),
            "least": service not in real,
        }
        for (service, kind), values in found.items()
        # What a schema step does is not rehearsed, so that its time says nothing.
        if kind not in ("expand", "migrate", "contract")
    ]


def read_learned(path: Path) -> Learned:
    """What a rehearsal learned, for the plan's estimates. Raises PlanFileError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise PlanFileError(
                f"{path}: has schema {content['schema']!r}, this version reads {SCHEMA}; rehearse again"
            )
        return {
            (row["kind"], str(row["service"])): Rehearsed(float(row["seconds"]), bool(row["least"]))
            for row in content["durations"]
        }
    except OSError as error:
        raise PlanFileError(f"{path}: can't be read ({error.strerror}); make it with rondo.upgrade.rehearse") from error
    except (ValueError, KeyError, TypeError) as error:
        raise PlanFileError(f"{path}: is not what rondo.upgrade.rehearse writes; rehearse again") from error


def outcome(
    report: Mapping[str, Any] | None, probe: Mapping[str, Any] | None, ended: int, probed: bool = True
) -> tuple[str, list[str]]:
    """The verdict, and why: "clean", "done" (there was nothing to ask) or "failed". `ended`: the exit code of the
    twin's upgrade; `probed`: whether there was anything to ask."""
    if report is None:
        return "failed", ["the twin's upgrade ended before it reported: see upgrade.log"]
    reasons = [str(reason) for reason in report["reasons"]]
    if report["verdict"] == "failed":
        return "failed", reasons
    if probe is None and probed:
        return "failed", ["no probe ran on the twin"]
    if ended:
        return "failed", [f"the twin's upgrade ended with exit code {ended}: see upgrade.log"]
    return "clean" if probed else "done", []


def content(
    twin: Mapping[str, Any],
    planned: Mapping[str, Any],
    report: Mapping[str, Any] | None,
    probe: Mapping[str, Any] | None,
    ended: int,
    durations: list[dict[str, Any]],
    offered: float | None,
) -> dict[str, Any]:
    """The content of rehearsal.json. `offered`: seconds that the same plan takes with what was learned."""
    verdict, reasons = outcome(report, probe, ended, bool(twin["probe"]["requests"]))
    rows = [row for row in (report or {}).get("instances", ()) if row["seconds_out_of_rotation"] is not None]
    longest = max(rows, key=lambda row: float(row["seconds_out_of_rotation"]), default=None)
    return {
        "schema": SCHEMA,
        "verdict": verdict,
        "reasons": reasons,
        "production": dict(planned),
        "twin": {
            "nodes": [node["host"] for node in twin["nodes"]],
            "sizes": twin["sizes"],
            "own_images": twin["own_images"],
        },
        "measured": {
            "makespan_seconds": (report or {}).get("makespan_seconds"),
            "requests": {key: probe[key] for key in ("sent", "failed", "retried", "longest_gap_seconds")}
            if probe
            else None,
            "longest_out": {"instance": longest["name"], "seconds": longest["seconds_out_of_rotation"]}
            if longest
            else None,
        },
        "learned": durations,
        "with_learned": None if offered is None else {"makespan": round(offered, 1)},
        "missing": list(twin["missing"]),
    }


def page(rehearsed: Mapping[str, Any], folder: Path) -> str:
    """The rehearsal on one page of at most 100 columns."""
    sections = (
        _verdict(rehearsed),
        _production(rehearsed),
        _measured(rehearsed),
        _learned(rehearsed, folder),
        _missing(rehearsed),
    )
    return "\n\n".join("\n".join(lines) for section in sections if (lines := list(section)))


def planned_page(twin: Mapping[str, Any], planned: Mapping[str, Any]) -> str:
    """What a rehearsal is about to build, and for which plan."""
    rehearsed = {
        "twin": {"nodes": [node["host"] for node in twin["nodes"]], "sizes": twin["sizes"]},
        "production": planned,
    }
    lines = ["REHEARSAL", *_size(rehearsed), "", *_production(rehearsed), "", *_missing({"missing": twin["missing"]})]
    return "\n".join(lines)


def _size(rehearsed: Mapping[str, Any]) -> Iterator[str]:
    twin = rehearsed["twin"]
    yield from wrapped(f"{count(len(twin['nodes']), 'node')}: {some(twin['nodes'], 12)}", "  twin          ")
    cut = [f"{row['service']} {row['twin']} of {row['hosts']}" for row in twin["sizes"] if row["twin"] != row["hosts"]]
    if cut:
        yield from wrapped(some(cut, 12), "  fewer         ")


def _verdict(rehearsed: Mapping[str, Any]) -> Iterator[str]:
    told = {
        "clean": "CLEAN: the twin was upgraded, and no request failed",
        "done": "DONE: the twin was upgraded; nothing in it must go on serving, so that no request was sent",
        "failed": "FAILED",
    }
    yield f"REHEARSAL  {told[rehearsed['verdict']]}"
    for reason in rehearsed["reasons"]:
        yield from wrapped(reason, "  - ")
    yield from _size(rehearsed)


def _production(rehearsed: Mapping[str, Any]) -> Iterator[str]:
    planned = rehearsed["production"]
    yield "IN PRODUCTION"
    basis = "the saved plan" if planned["saved"] else "from the declaration alone: as if nothing were upgraded yet"
    yield from wrapped(basis, "  plan          ")
    if planned["obstacles"]:
        for obstacle in planned["obstacles"]:
            yield from wrapped(obstacle, "  in the way    ")
    forecast = planned["forecast"]
    yield f"  jobs          {count(planned['jobs'], 'job')} on {count(planned['hosts'], 'host')}"
    times = f"about {duration(forecast['makespan'])}, nine of ten runs within {duration(forecast['p90'])}"
    yield from wrapped(times, "  takes         ")
    for number, service in enumerate(planned["services"][:_MOST], start=1):
        told = f"{service['method'] or '-':<6} {count(service['jobs'], 'job')}, {service['budget_reason']}"
        yield from wrapped(told, f"  {number:>3}. {service['name']:<18} ")
    if len(planned["services"]) > _MOST:
        yield f"  and {len(planned['services']) - _MOST} more services"


def _measured(rehearsed: Mapping[str, Any]) -> Iterator[str]:
    measured = rehearsed["measured"]
    if measured["makespan_seconds"] is None:
        return
    yield "MEASURED ON THE TWIN"
    yield f"  took          {duration(measured['makespan_seconds'])}"
    if requests := measured["requests"]:
        yield f"  requests      sent {requests['sent']}, failed {requests['failed']}, retried {requests['retried']}"
        yield f"  longest gap   {requests['longest_gap_seconds']:.2f} s without a success"
    if longest := measured["longest_out"]:
        yield f"  longest out   {longest['instance']}, {duration(longest['seconds'])} out of rotation"


def _learned(rehearsed: Mapping[str, Any], folder: Path) -> Iterator[str]:
    rows = rehearsed["learned"]
    if not rows:
        return
    yield "LEARNED"
    for row in rows[:_MOST]:
        least = "at least " if row["least"] else ""
        yield f"  {row['service']:<18} {row['kind']} {least}{duration(row['seconds'])} (median of {row['count']})"
    if len(rows) > _MOST:
        yield f"  and {len(rows) - _MOST} more, see rehearsal.json"
    if offered := rehearsed["with_learned"]:
        without = duration(rehearsed["production"]["forecast"]["makespan"])
        yield f"  with these    the real plan takes about {duration(offered['makespan'])}, without them {without}"
        # On a line of its own, whole: to be copied.
        yield f"  to take them  -e upgrade_estimates_from={folder / 'learned.json'}"


def _missing(rehearsed: Mapping[str, Any]) -> Iterator[str]:
    yield "NOT REHEARSED"
    for sentence in rehearsed["missing"]:
        yield from wrapped(sentence, "  - ")
