# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run as a live view: told by the callback what begins and ends, drawn by a thread of its own twice a second.

The thread never touches the journal: a worker that is forked while its lock is held would hold it too, for ever. It
knows what the callback saw, what the strategy's control heard, and the probe's live counts.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from . import _view
from ._control import HEARD
from ._gate import look
from ._orchestration._standing import Standing
from ._panel import Panel
from ._status import rest_row

TICK_SECONDS = 0.5
# The forecast of the rest is made anew when something began or ended, and that often where nothing does; it may take
# that share of the time.
REST_SECONDS = 5.0
REST_SHARE = 0.01


class Run:
    """What is known of a run in progress: the values of `_status.run_row`, kept up to date job by job."""

    def __init__(self, plan: Mapping[str, Any], number: int, kind: str, probe: str | None) -> None:
        self._plan = plan
        self._number = number
        self._kind = kind
        self._probe = probe
        self._started = time.time()
        self._standing = Standing(plan)
        self._jobs: dict[str, dict[str, Any]] = {}
        self._steps: dict[str, str] = {}
        self._hosts: dict[str, str] = {}
        self._lock = threading.Lock()
        self._changes, self._drawn = 0, -1
        self._slow: dict[str, Any] = {}
        self._rest: dict[str, Any] | None = None
        self._rest_at = self._rest_due = self._started
        self._rest_of = -1

    def begin(self, job: Mapping[str, Any], when: float) -> None:
        with self._lock:
            self._jobs[job["id"]] = {"id": job["id"], "begun": when, "ended": None, "outcome": None}
            self._hosts[job["host"]] = job["id"]
            self._standing.begin(job["id"], when)
            self._changes += 1

    def end(self, job: Mapping[str, Any], when: float, outcome: str) -> None:
        with self._lock:
            if (known := self._jobs.get(job["id"])) and known["ended"] is None:
                known.update(ended=when, outcome=outcome)
            self._standing.end(job["id"], outcome, job.get("details"))
            self._steps.pop(job["id"], None)
            self._hosts.pop(job["host"], None)
            self._changes += 1

    def has(self, host: str) -> bool:
        """Whether a job of that host is in flight."""
        return host in self._hosts

    def step(self, host: str, task: str) -> None:
        """A host begins a task. Costs next to nothing: it is called for each."""
        if (job := self._hosts.get(host)) is not None:
            self._steps[job] = task

    def row(self, now: float) -> dict[str, Any]:
        """The run as `_view.view` shows it."""
        with self._lock:
            self._hear()
            if self._drawn != self._changes:
                self._slow = {
                    "services": (services := self._standing.services()),
                    "budgets": self._standing.budgets(),
                    "waiting": [{"id": row["name"], "why": row["waits"]} for row in services if row["waits"]],
                }
                self._drawn = self._changes
            flying = self._standing.in_flight(now)
            stopped, paused = self._standing.stopped, self._standing.paused
            jobs = list(self._jobs.values())
        self._forecast(jobs, now, ending=bool(stopped))
        outcomes: dict[str, int] = {}
        for job in jobs:
            outcome = job["outcome"] or "in flight"
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        counts = look(self._probe)
        return {
            "id": self._number,
            "kind": self._kind,
            "started": self._started,
            "ended": None,
            "seconds": now - self._started,
            "jobs": len(self._plan["jobs"]),
            "outcomes": outcomes,
            "in_flight": [{**job, "step": self._steps.get(job["id"], "")} for job in flying],
            "failed": [job["id"] for job in jobs if job["outcome"] == "failed"],
            "paused": paused,
            "stopped": stopped,
            "requests": dataclasses.asdict(counts) if counts else None,
            "rest": self._counted_down(now),
            **self._slow,
        }

    def _hear(self) -> None:
        if HEARD.stopped != self._standing.stopped and HEARD.stopped:
            self._standing.stop(HEARD.stopped)
            self._changes += 1
        if HEARD.paused and not self._standing.paused and not self._standing.stopped:
            self._standing.pause(HEARD.paused)
            self._changes += 1
        elif self._standing.paused and not HEARD.paused:
            self._standing.resume()
            self._changes += 1

    def _forecast(self, jobs: Sequence[Mapping[str, Any]], now: float, *, ending: bool) -> None:
        if now < (self._rest_at if self._rest_of != self._drawn else max(self._rest_at, self._rest_due)):
            return
        began = time.thread_time()
        self._rest = rest_row(self._plan, jobs, now, ending=ending)
        self._rest_of, self._rest_due = self._drawn, now + REST_SECONDS
        self._rest_at = now + (time.thread_time() - began) / REST_SHARE

    def _counted_down(self, now: float) -> dict[str, Any] | None:
        """The forecast as of now: between two of them the time goes on."""
        if self._rest is None:
            return None
        gone = now - (self._rest["by"] - self._rest["seconds"])
        return {**self._rest, **{key: max(0.0, self._rest[key] - gone) for key in ("seconds", "p90")}}


class Live:
    """Draws a run on a panel until it is closed. `failed` is called once, in the thread, when that goes wrong."""

    def __init__(self, run: Run, panel: Panel, failed: Callable[[Exception], None]) -> None:
        self._run = run
        self._panel = panel
        self._failed = failed
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._draw, name="rondo.upgrade live view", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Give the terminal back; nothing is drawn after that."""
        self._over.set()
        self._thread.join(timeout=5.0)
        self._panel.hide()

    def _draw(self) -> None:
        try:
            while True:
                self._panel.show(partial(_view.view, self._run.row(time.time())))
                if self._over.wait(TICK_SECONDS):
                    return
        except Exception as error:
            self._panel.hide()
            self._failed(error)
