# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Between a running play and the window: which hosts the play may go on with.

A host is visible from the moment its job is admitted until that job has ended. What its next task belongs to says
when that is: a task of another job, or no task at all, means that the job before has ended. A host between two jobs is
not visible and holds no worker. A task outside any job (before the first, a handler, after the last) belongs to the
job in progress.
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


class NextTask(Protocol):
    @property
    def job(self) -> str | None: ...


class View(Protocol):
    """What is needed of the running play."""

    def busy(self, name: str) -> bool: ...
    def unreachable(self, name: str) -> bool: ...
    def failed(self, name: str) -> bool: ...
    def next_task(self, name: str) -> NextTask | None: ...


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
        self.over: list[str] = []

    def visible(self) -> list[str]:
        """The hosts that have a job in progress, by now. Costs what is in flight, not what waits."""
        for host in list(self._flying):
            self._look_at(host)
        while admitted := self._admit():
            # At once: a host whose tasks are not those of its job must never be shown.
            for host in admitted:
                self._look_at(host)
        return list(self._flying)

    def idle(self) -> list[str]:
        """The visible hosts that no worker works for, oldest job first."""
        return [host for host in self._flying if not self._view.busy(host)]

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
            self._flying[job.host] = job.id
            admitted.append(job.host)
        self._begun.update(self._flying[host] for host in admitted)
        return admitted

    def _look_at(self, host: str) -> None:
        job = self._flying[host]
        if self._view.unreachable(host):
            self._over(host, "failed", f"{host} became unreachable")
            return
        if self._view.busy(host):
            return
        task = self._view.next_task(host)
        if task is None:
            if self._view.failed(host):
                self._over(host, "failed", f"a task of it failed on {host}")
            elif job not in self._seen:
                self._over(host, "failed", f"{host} has no task for it")
            else:
                self._over(host, "done")
        elif task.job == job:
            self._seen.add(job)
        elif task.job is not None:
            if job in self._seen:
                self._end(host, "done")
            else:
                self._over(host, "failed", f"{host} would begin {task.job} instead of it")

    def _over(self, host: str, outcome: Outcome, why: str = "") -> None:
        self.over.append(host)
        self._end(host, outcome, why)

    def _end(self, host: str, outcome: Outcome, why: str = "") -> None:
        job = self._flying.pop(host)
        self._window.end(job, outcome)
        if outcome == "failed":
            self._on_failure(job, why)
        else:
            self._on_end(job)
