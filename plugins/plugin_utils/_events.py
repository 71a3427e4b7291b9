# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happened, as objects for programs: one of a few kinds each, documented in docs/events.schema.json."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Event = dict[str, Any]

JOURNAL = "rondo.upgrade.journal"
PLAN = "rondo.upgrade.plan"
REPORT = "rondo.upgrade.report"


class Log:
    """A file of JSON lines that is only ever appended to. What `write` was given is on disk when it returns."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        place = Path(path).expanduser()
        place.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def write(self, event: Mapping[str, Any]) -> None:
        """Append one line, in one piece: whoever reads along never meets half of one that is complete."""
        line = json.dumps(event, ensure_ascii=False, separators=(",", ":"), default=str).encode() + b"\n"
        while line:
            line = line[os.write(self._descriptor, line) :]
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def when(seconds: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def of_result(action: str, values: Mapping[str, Any]) -> Event | None:
    """The event in what one of our actions returned; None where there is none in it."""
    if action == PLAN and (plan := values.get("plan")):
        return {
            "event": "planned",
            "jobs": len(plan["jobs"]),
            "hosts": list(values.get("hosts", ())),
            "forecast": {key: plan["forecast"][key] for key in ("makespan", "bound", "p50", "p90")},
            "obstacles": list(plan["obstacles"]),
        }
    if action == REPORT and (report := values.get("report")):
        return {
            "event": "reported",
            "verdict": report["verdict"],
            "summary": report["summary"],
            "reasons": list(report["reasons"]),
        }
    if action == JOURNAL:
        return _of_journal(values)
    return None


def message(result: Mapping[str, Any]) -> str:
    """What a result says, in full: its message, and what a program wrote to its error output."""
    if "censored" in result:
        return str(result["censored"])
    parts = [result.get("msg"), result.get("reason"), result.get("module_stderr"), result.get("stderr")]
    texts = [part if isinstance(part, str) else json.dumps(part, default=str) for part in parts if part]
    return "\n".join(dict.fromkeys(text.rstrip() for text in texts)) or "no message"


def _of_journal(values: Mapping[str, Any]) -> Event | None:
    state = values.get("state")
    if state == "started":
        lost = [job["id"] for job in values["lost"]]
        return {"event": "run_began", "run": values["run"], "kind": values["kind"], "lost": lost}
    if state == "finished":
        return {"event": "run_ended", "run": values["run"], "outcome": values["outcome"]}
    if state not in ("begun", "ended"):
        return None
    job = values["job"]
    about = {
        "run": job["run"],
        "job": job["id"],
        "kind": job["kind"],
        "service": job["service"],
        "host": job["host"],
        "instance": job.get("instance"),
        "from": job.get("running") or "",
        "to": (job.get("artifact") or {}).get("target", ""),
        "ended": values["position"],
        "jobs": values["total"],
    }
    if state == "begun":
        return {"event": "job_began", "at": when(job["begun"]), **about}
    return {
        "event": "job_ended",
        "at": when(job["ended"]),
        **about,
        "outcome": job["outcome"],
        "seconds": round(job["took"], 3),
        "reason": job["details"].get("reason", ""),
    }
