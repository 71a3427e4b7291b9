# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Between a running play and the window: which hosts the play may go on with.

A host is visible from the moment its job is admitted until it has run the play's tasks, all of them, for that job. A
host between two jobs is not visible and holds no worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, Protocol

Outcome = Literal["done", "failed", "skipped"]


class Job(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def host(self) -> str: ...


class Window(Protocol):
    """What is needed of the brain's window."""

    @property
    def paused(self) -> bool: ...
    @property
    def stopped(self) -> str: ...
    @property
    def stuck(self) -> str: ...
    def admissible(self) -> list[Job]: ...
    def begin(self, job_id: str) -> None: ...
    def end(self, job_id: str, outcome: Outcome) -> None: ...


class View(Protocol):
    """What is needed of the running play."""

    def busy(self, name: str) -> bool: ...
    def unreachable(self, name: str) -> bool: ...
    def failed(self, name: str) -> bool: ...
    def begin(self, name: str, job: str) -> None: ...
    def has_task(self, name: str) -> bool: ...
    def waits(self, name: str) -> bool: ...


class Admission:
    """Begins and ends the window's jobs by what the play shows.

    `on_failure(job id, why)` is called for each job that failed: the host can't say so itself any more.
    `on_end(job id)` is called for each other one that ended, before anything else begins.
    """

    def __init__(
        self,
        window: Window,
        view: View,
        on_failure: Callable[[str, str], None],
        on_end: Callable[[str], None] = lambda job: None,
    ) -> None:
        self._window = window
        self._view = view
        self._on_failure = on_failure
        self._on_end = on_end
        self._flying: dict[str, str] = {}
        self._seen: set[str] = set()
        self._begun: set[str] = set()
        self._over: dict[str, None] = {}

    def visible(self) -> list[str]:
        """The hosts that have a job in progress, by now. Costs what is in flight, not what waits."""
        for host in list(self._flying):
            self._look_at(host)
        while admitted := self._admit():
            # At once: a host whose tasks are not those of its job must never be shown.
            for host in admitted:
                self._look_at(host)
        return list(self._flying)

    def startable(self, forks: int) -> list[str]:
        """The visible hosts whose next task may start, oldest job first: `forks` bounds those that work, not those that
        wait."""
        idle = [host for host in self._flying if not self._view.busy(host)]
        room = forks - sum(not self._view.waits(host) for host in self._flying if self._view.busy(host))
        started: list[str] = []
        for host in idle:
            waits = self._view.waits(host)
            if waits or room > 0:
                started.append(host)
                room -= not waits
        return started

    def over(self) -> list[str]:
        """The hosts whose last job ended, and that can be reached."""
        return [host for host in self._over if not self._view.unreachable(host)]

    def never_begun(self, jobs: Iterable[str]) -> list[str]:
        """Those of the jobs (by id) that never began."""
        return [job for job in jobs if job not in self._begun]

    def why(self) -> str:
        """Why they were never begun."""
        return self._window.stopped or self._window.stuck or "another job on their host failed"

    def _admit(self) -> list[str]:
        admitted: list[str] = []
        for job in self._window.admissible():
            self._window.begin(job.id)
            self._view.begin(job.host, job.id)
            self._flying[job.host] = job.id
            self._begun.add(job.id)
            admitted.append(job.host)
        return admitted

    def _look_at(self, host: str) -> None:
        job = self._flying[host]
        if self._view.unreachable(host):
            self._end(host, "failed", f"{host} became unreachable")
        elif self._view.busy(host):
            return
        elif self._view.has_task(host):
            self._seen.add(job)
        elif self._view.failed(host):
            self._end(host, "failed", f"a task of it failed on {host}")
        elif job not in self._seen:
            self._end(host, "failed", f"{host} has no task for it")
        else:
            self._end(host, "done")

    def _end(self, host: str, outcome: Outcome, why: str = "") -> None:
        job = self._flying.pop(host)
        self._over[host] = None
        self._window.end(job, outcome)
        if outcome == "failed":
            self._on_failure(job, why)
        else:
            self._on_end(job)
