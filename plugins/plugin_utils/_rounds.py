# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""May the next round's job begin? What the strategy knows from its window, an exported playbook reads in the journal.

The rounds keep the budgets by themselves. What is left to ask is the window's all the same: failures, phases that a
failed job keeps shut, hosts that a failed job has left. So it is a window, without budgets, told what the journal says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ._orchestration._jobs import Job, Phase
from ._orchestration._window import Window


def cut_off(run: Mapping[str, Any], together: Collection[str]) -> list[str]:
    """The jobs that began in an earlier round and did not end: something took their host away."""
    return [job["id"] for job in run["jobs"] if job["ended"] is None and job["id"] not in together]


def paused(run: Mapping[str, Any]) -> str:
    """Who paused the run; "" while it is not paused."""
    asked = [row for row in run["requests"] if row["request"] in ("pause", "resume")]
    return str(asked[-1]["made_by"]) if asked and asked[-1]["request"] == "pause" else ""


def stopped(run: Mapping[str, Any]) -> str:
    """Why nothing more may begin in the run; "" while something may."""
    if reason := run["summaries"].get("stopped", {}).get("reason"):
        return str(reason)
    for row in run["requests"]:
        if row["request"] == "abort":
            return f"aborted by {row['made_by']}"
    return _window(run).stopped


def refusal(run: Mapping[str, Any], job_id: str) -> str:
    """Why this job may not begin although others may; "" where it may. Raises WindowError for a job of no plan."""
    why = _window(run).waits_for(job_id)
    return "" if why == "may begin" else why


def _window(run: Mapping[str, Any]) -> Window:
    plan = run["plan"]
    window = Window(
        [Job.from_dict(row) for row in sorted(plan["jobs"], key=lambda row: (row["start"], row["priority"]))],
        [Phase.from_dict(row) for row in plan["phases"]],
        (),
        max_failures={row["name"]: row["max_failures"] for row in plan["services"]},
        fleet_max_failures=plan["max_failures"],
    )
    # Another of the same round may have failed just before one began.
    told: set[str] = set()
    events = [(job["begun"], False, job) for job in run["jobs"]]
    events += [(job["ended"], True, job) for job in run["jobs"] if job["ended"] is not None]
    for _when, ends, job in sorted(events, key=lambda event: (event[0], not event[1])):
        if ends and job["id"] in told:
            window.end(job["id"], job["outcome"])
        elif not ends and not window.stopped:
            window.begin(job["id"])
            told.add(job["id"])
    return window
