# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of report.json: jobs as planned and as they went, instances, what was held, checks, all of it in one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ._page import count, duration


def when(seconds: float | None) -> str | None:
    """Seconds since the epoch as ISO 8601 in UTC, to the millisecond."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


class Out(NamedTuple):
    """How long an instance was out of rotation. `still`: it has not come back, so that it is at least so long."""

    seconds: float | None
    still: bool = False


def out_of_rotation(job: Mapping[str, Any], ends: float) -> Out:
    """As measured, else the job's time without that for which the instance had to stay healthy in it.

    One that failed after it was drained is out until the run `ends`, unless its old version was put back.
    """
    details = job["details"]
    if job["outcome"] == "done":
        if "out_seconds" in details:
            return Out(float(details["out_seconds"]))
        dwell = job["min_healthy_time"] + job["bake_time"] if job["servers"] else 0.0
        return Out(round(max(0.0, float(job["ended"] - job["begun"] - dwell)), 3))
    if job["outcome"] != "failed" or (job["servers"] and not details.get("readings")):
        return Out(None)
    if details.get("reverted", "").endswith("and serves."):
        return Out(round(float(job["ended"] - job["begun"]), 3))
    return Out(round(max(0.0, float(ends - job["begun"])), 3), still=True)


def ending(run: Mapping[str, Any]) -> float:
    """When the run ended; of one that died, the last that is known of it."""
    moments = [run.get("ended") or run.get("heartbeat") or 0.0]
    moments += [job["ended"] or job["begun"] for job in run["jobs"]]
    return float(max(moments))


def timeline(run: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """A row for each job of the plan, and for each that a lost run left behind, in the order in which they began.

    `planned`: `start` and `end`, seconds since the plan's beginning; None for a job that the plan does not hold.
    `began` and `ended` are None for what has not.
    """
    if run is None:
        return []
    planned = {job["id"]: job for job in run["plan"].get("jobs", ())}
    begun = sorted(run["jobs"], key=lambda job: float(job["begun"]))
    ends = ending(run)
    rows = [_row(job, planned.get(job["id"]), ends) for job in begun]
    seen = {job["id"] for job in begun}
    left = [job for name, job in planned.items() if name not in seen]
    return rows + [_row(job, job, ends) for job in sorted(left, key=lambda job: float(job.get("start", 0)))]


def _row(job: Mapping[str, Any], planned: Mapping[str, Any] | None, ends: float) -> dict[str, Any]:
    begun = "begun" in job
    return {
        "id": job["id"],
        "kind": job.get("kind", ""),
        "service": job.get("service", ""),
        "host": job.get("host", ""),
        "instance": job.get("instance"),
        "planned": {key: planned[key] for key in ("start", "end")} if planned and "start" in planned else None,
        "began": when(job["begun"]) if begun else None,
        "ended": when(job["ended"]) if begun else None,
        "outcome": (job["outcome"] or "in flight") if begun else "not begun",
        "seconds_out_of_rotation": out_of_rotation(job, ends).seconds if begun and job["kind"] == "replace" else None,
        "reason": job["details"].get("reason", "") if begun else "",
    }


def instances(run: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """A row for each instance that the run replaced or began to: by a job of its own, or in its service's `switch`."""
    if run is None:
        return []
    ends = ending(run)
    gone = {
        job["service"]: f"{job['id']}, {when(job['begun'])}" for job in run["jobs"] if job["details"].get("no_return")
    }
    return [_instance(job, gone.get(job["service"], ""), ends) for job in _replacing(run["jobs"])]


def _replacing(jobs: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Under a `hold` one job replaces all instances. Nobody is out of rotation then: requests wait for them."""
    for job in jobs:
        if job["kind"] == "replace":
            yield job
        elif job["kind"] == "switch" and job["method"] == "hold":
            kept = job["details"].get("kept") or {}
            for member in job["instances"]:
                if not member["current"]:
                    yield {**job, **member, "details": {**job["details"], "kept": kept.get(member["host"], "")}}


def _instance(job: Mapping[str, Any], gone: str, ends: float) -> dict[str, Any]:
    details = job["details"]
    out = out_of_rotation(job, ends) if job["kind"] == "replace" else Out(None)
    kept = details.get("kept", "")
    return {
        "name": job["instance"],
        "from": job["running"],
        "to": job["artifact"]["target"],
        "began": when(job["begun"]),
        "ended": when(job["ended"]),
        "outcome": job["outcome"] or "in flight",
        "seconds_out_of_rotation": out.seconds,
        "still_out": out.still,
        "closed_sessions": details.get("closed_sessions", 0),
        "kept": kept,
        "until": (f"no way back since {gone}" if gone else "until its next replacement") if kept else "",
        "reason": details.get("reason", ""),
    }


def longest_out(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The longest time that an instance was out of rotation; None where none was."""
    out = [row for row in rows if row["seconds_out_of_rotation"] is not None]
    if not out:
        return None
    longest = max(out, key=lambda row: (row["seconds_out_of_rotation"], row["still_out"]))
    return {
        "seconds": longest["seconds_out_of_rotation"],
        "still_out": longest["still_out"],
        "instance": longest["name"],
    }


def least(seconds: float, still: bool) -> str:
    return f"at least {duration(seconds)}" if still else duration(seconds)


def held(run: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """What each switch did with the requests that came meanwhile: they waited, which is not failing.

    From the job's details: `hold` (held, rejected, longest, greatest, memory, pause, closed_sessions), `steps`,
    `spread`, `switched_back`; and what settling the service at home closed.
    """
    rows = []
    for job in run["jobs"] if run else ():
        details = job["details"]
        hold, steps, back = details.get("hold") or {}, details.get("steps") or [], details.get("switched_back") or ""
        settled = details.get("closed_sessions", 0) if job["kind"] == "settle" else 0
        if not (hold or steps or back or settled):
            continue
        row = {
            "service": job["service"],
            "job": job["id"],
            "began": when(job["begun"]),
            "held": hold.get("held"),
            "rejected": hold.get("rejected", 0),
            "longest_seconds": hold.get("longest"),
            "greatest": hold.get("greatest"),
            "memory_bytes": hold.get("memory"),
            "pause_seconds": hold.get("pause"),
            "spread_seconds": details.get("spread"),
            "closed_sessions": hold.get("closed_sessions", 0) + settled,
            "ended": str(hold.get("ended") or ""),
            "steps": list(steps),
            "switched_back": str(back),
        }
        rows.append({**row, "said": "; ".join(_held(row))})
    return rows


def _held(row: Mapping[str, Any]) -> Iterator[str]:
    if row["held"] is not None:
        yield f"{count(row['held'], 'request')} waited" + (
            f", the longest for {duration(row['longest_seconds'])}" if row["longest_seconds"] is not None else ""
        )
    if row["greatest"]:
        yield f"{row['greatest']} at once at most"
    if row["memory_bytes"]:
        yield f"{row['memory_bytes'] / 1e6:.1f} MB of HAProxy's memory"
    if row["pause_seconds"] is not None:
        yield f"held for {duration(row['pause_seconds'])}"
    if row["rejected"]:
        yield f"{count(row['rejected'], 'request')} rejected at the deadline"
    if row["spread_seconds"] is not None:
        yield f"balancers cut over within {row['spread_seconds'] * 1000:.0f} ms"
    if row["closed_sessions"]:
        yield f"{count(row['closed_sessions'], 'session')} closed at the drain's timeout"
    if row["steps"]:
        yield f"moved in {count(len(row['steps']), 'step')}"
    if row["switched_back"]:
        yield f"switched back: {row['switched_back']}"


def checks(names: Sequence[str], differences: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each thing that was compared with the declaration, with what differs, and for each other difference.

    `names`: instances, services and balancers; a difference begins with the name that it is about.
    """
    rows: dict[str, list[str]] = {name: [] for name in names}
    for difference in differences:
        about = difference.partition(" ")[0].rstrip(":")
        rows.setdefault(about if about in rows else difference, []).append(difference)
    return [{"name": name, "differences": found} for name, found in rows.items()]


def summary(content: Mapping[str, Any]) -> str:
    """The report in one line."""
    return f"{content['verdict']}: {'; '.join(_facts(content))}"


def _facts(content: Mapping[str, Any]) -> Iterator[str]:
    rows = content["timeline"]
    if not rows:
        yield "no job was begun"
    else:
        done = sum(row["outcome"] == "done" for row in rows)
        forecast = content["forecast"].get("makespan")
        told = "" if forecast is None else f" (forecast {duration(forecast)})"
        yield f"{done} of {count(len(rows), 'job')} done in {duration(content['makespan_seconds'])}{told}"
    if requests := content["requests"]:
        so_far = " so far" if requests.get("so_far") else ""
        yield f"{requests['failed']} of {count(requests['sent'], 'request')} failed{so_far}"
    else:
        yield "no probe ran"
    if out := content["longest_out_of_rotation"]:
        yield f"longest out of rotation {least(out['seconds'], out['still_out'])}"
    if content["held_requests"]:
        yield f"{count(content['held_requests'], 'request')} held"
    if content["tests"] and content["tests"]["has_baseline"]:
        yield count(len(content["regressions"]), "regression") if content["regressions"] else "no regression"
    if (agree := content["counts"]["agree"]) is not None:
        yield "the counts agree" if agree else "the counts disagree"
    if content["differences"]:
        yield f"{count(len(content['differences']), 'difference')} from what is declared"
