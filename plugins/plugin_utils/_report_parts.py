# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of report.json: jobs as planned and as they went, counts that have to agree, checks, all of it in one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ._page import count, duration


def when(seconds: float | None) -> str | None:
    """Seconds since the epoch as ISO 8601 in UTC, to the millisecond."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def out_of_rotation(job: Mapping[str, Any]) -> float | None:
    """Seconds out of rotation: as measured, else the job's without the time for which it had to stay healthy in it."""
    if "out_seconds" in job["details"]:
        return float(job["details"]["out_seconds"])
    if job["ended"] is None or job["outcome"] != "done":
        return None
    dwell = job["min_healthy_time"] + job["bake_time"] if job["servers"] else 0.0
    return round(max(0.0, float(job["ended"] - job["begun"] - dwell)), 3)


def timeline(run: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """A row for each job of the plan, and for each that a lost run left behind, in the order in which they began.

    `planned`: `start` and `end`, seconds since the plan's beginning; None for a job that the plan does not hold.
    `began` and `ended` are None for what has not.
    """
    if run is None:
        return []
    planned = {job["id"]: job for job in run["plan"].get("jobs", ())}
    begun = sorted(run["jobs"], key=lambda job: float(job["begun"]))
    rows = [_row(job, planned.get(job["id"])) for job in begun]
    seen = {job["id"] for job in begun}
    left = [job for name, job in planned.items() if name not in seen]
    return rows + [_row(job, job) for job in sorted(left, key=lambda job: float(job.get("start", 0)))]


def _row(job: Mapping[str, Any], planned: Mapping[str, Any] | None) -> dict[str, Any]:
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
        "seconds_out_of_rotation": out_of_rotation(job) if begun and job["kind"] == "replace" else None,
        "reason": job["details"].get("reason", "") if begun else "",
    }


def probe_source(probe: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the probe counted, as a source for `counts`; None without a probe."""
    if probe is None:
        return None
    failed = int(probe["failed"])
    return {
        "name": "probe",
        "failed": failed,
        "of": int(probe["sent"]),
        "retried": int(probe.get("retried", 0)),
        "complete": True,
        "said": f"the probe saw {count(failed, 'request')} fail" if failed else "the probe saw no request fail",
        "note": "",
    }


def haproxy_source(haproxy: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the balancers' own counters rose by (from `_report.counted`), as a source; None where none was seen."""
    if not haproxy.get("by_balancer"):
        return None
    again = [name for name, row in haproxy["by_balancer"].items() if row["restarted"]]
    notes = [
        *(
            [f"reloaded or restarted meanwhile, what was counted before that is lost: {', '.join(again)}"]
            if again
            else []
        ),
        *([f"not known of: {', '.join(haproxy['unseen'])}"] if haproxy.get("unseen") else []),
    ]
    failed = int(haproxy["hrsp_5xx"])
    return {
        "name": "HAProxy",
        "failed": failed,
        "of": haproxy.get("stot"),
        "retried": int(haproxy["wretr"]) + int(haproxy["wredis"]),
        "complete": not notes,
        "said": f"HAProxy counted {count(failed, 'answer')} 5xx" if failed else "HAProxy counted no answer 5xx",
        "note": "; ".join(notes),
    }


def log_source(logs: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the services' access logs count (from `_builtin.logged`), as a source; None where none was read."""
    if not logs or not logs["services"]:
        return None
    failed, silent = int(logs["failed"]), logs["silent"]
    notes = [*logs["notes"], *([f"no request in the logs of: {', '.join(silent)}"] if silent else [])]
    return {
        "name": "access logs",
        "failed": failed,
        "of": int(logs["requests"]),
        "retried": None,
        "complete": not notes,
        "said": f"the services logged {count(failed, 'answer')} 5xx" if failed else "the services logged no answer 5xx",
        "note": "; ".join(notes),
    }


def counts(*sources: Mapping[str, Any] | None) -> dict[str, Any]:
    """Whether independent counts agree; sources that don't exist are left out.

    A source: `name`, `failed`, `of` (None: not known), `retried`, `complete` (False: the true number may be greater),
    `said` (a sentence), `note`. They don't see the same requests (a balancer serves others than the probe, a client may
    fail without reaching a balancer), so numbers may differ: they agree when all saw failures or none did. One that has
    seen no request at all (`of` is 0) is no witness: a service that writes no access log would agree with anything.
    `agree` is None where there are fewer than two.
    """
    found = [dict(source) for source in sources if source is not None]
    heard = [source for source in found if source["of"] != 0 or source["failed"]]
    saw = {source["failed"] > 0 for source in heard}
    agree = None if len(heard) < 2 else len(saw) == 1
    told = ", ".join(source["said"] for source in sorted(heard, key=lambda source: not source["failed"]))
    note = {
        None: "fewer than two counts: nothing to compare",
        True: f"the counts agree: {told}",
        False: f"the counts disagree: {told}",
    }[agree]
    return {"agree": agree, "note": note, "sources": found}


def held(run: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """What each switch did with the requests that came meanwhile: they waited, which is not failing.

    From the job's details: `hold` (held, rejected, longest, greatest, memory, pause), `steps`, `switched_back`.
    """
    rows = []
    for job in run["jobs"] if run else ():
        details = job["details"]
        hold, steps, back = details.get("hold") or {}, details.get("steps") or [], details.get("switched_back") or ""
        if not (hold or steps or back):
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
        yield f"{requests['failed']} of {count(requests['sent'], 'request')} failed"
    else:
        yield "no probe ran"
    out = [row["seconds_out_of_rotation"] for row in rows if row["seconds_out_of_rotation"] is not None]
    if out:
        yield f"longest out of rotation {duration(max(out))}"
    if waited := sum(row["held"] or 0 for row in content["held"]):
        yield f"{count(waited, 'request')} held"
    if content["tests"] and content["tests"]["has_baseline"]:
        yield count(len(content["regressions"]), "regression") if content["regressions"] else "no regression"
    if (agree := content["counts"]["agree"]) is not None:
        yield "the counts agree" if agree else "the counts disagree"
    if content["differences"]:
        yield f"{count(len(content['differences']), 'difference')} from what is declared"
