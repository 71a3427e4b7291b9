# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What reaches a running window from outside: requests that others made in the journal, Ctrl-C, the probe's counts.

Asking costs two stat calls and a small file a second: the journal is opened only when its files changed. (SQLite's own
data_version needs a connection that stays open, and none may stay open where every task is forked from this process.)
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from ._gate import Gate
from ._journal import Journal, JournalError
from ._orchestration._standing import seen_by

ASK_SECONDS = 1.0
HEARTBEAT_SECONDS = 15.0


class Window(Protocol):
    """What is needed of the brain's window."""

    def stop(self, reason: str) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def lose(self, instance: str) -> None: ...
    def regain(self, instance: str) -> None: ...


@dataclass
class Heard:
    """What the run of this process was told, for those who show it in the same process: who paused it, and why nothing
    more begins; "" where that is not so."""

    paused: str = ""
    stopped: str = ""


HEARD = Heard()


class Control:
    """Makes a window obey. Without a journal (`run` is None, as in check mode) only Ctrl-C reaches it.

    `say` shows a line to the person who watches the run. `gate` says when too many of the probe's requests failed.
    `members` are the rows in the balancers' tables by instance, as the plan has them.
    """

    def __init__(
        self,
        path: str | None,
        run: int | None,
        say: Callable[[str], None],
        *,
        gate: Gate | None = None,
        members: Mapping[str, Sequence[Mapping[str, str]]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gate = gate
        self._members = members or {}
        self._lost: set[str] = set()
        self._path = path if run is not None else None
        self._run = run or 0
        self._say = say
        self._clock = clock
        self._ask_at = self._beat_at = clock()
        self._after = 0
        self._signature: tuple[Any, ...] = ()
        self._interrupted = False
        self._told = False

    def obey(self, window: Window) -> None:
        """Pass on what was asked since the last call. A journal that can't be used any more stops the window."""
        if self._interrupted and not self._told:
            self._told = True
            self._stop(window, "interrupted by Ctrl-C")
            self._say("Interrupted: what is in flight will finish, nothing new begins. Ctrl-C again stops at once.")
        now = self._clock()
        if now < self._ask_at:
            return
        self._ask_at = now + ASK_SECONDS
        if self._gate is not None:
            self._ask(self._gate, window)
        if self._path is None:
            return
        beat = now >= self._beat_at
        signature = self._look()
        if not beat and signature == self._signature:
            return
        # As it was before the journal is read, lest a request that comes in meanwhile goes unseen.
        self._signature = signature
        try:
            with Journal(self._path, create=False) as journal:
                if beat:
                    self._beat_at = now + HEARTBEAT_SECONDS
                    journal.heartbeat(self._run)
                for request in journal.requests(self._run, self._after):
                    self._after = request["id"]
                    self._pass_on(window, request["request"], request["made_by"])
        except JournalError as error:
            window.stop(str(error))
            self._say(str(error))
            self._path = None

    def _ask(self, gate: Gate, window: Window) -> None:
        if complaint := gate.complaint():
            self._gate = None
            self._stop(window, complaint)
            self._say(f"Stopped: {complaint}. What is in flight will finish, nothing new begins.")
        elif lost := gate.lost():
            self._say(lost)

    def failed(self, job_id: str, why: str) -> None:
        """Record a failure that the job's own tasks may have had no chance to record."""
        self._say(f"{job_id} failed: {why}.")
        if self._path is None:
            return
        try:
            with Journal(self._path, create=False) as journal:
                journal.fail(self._run, job_id, {"reason": why})
        except JournalError as error:
            self._say(str(error))

    def look(self, window: Window, job_id: str) -> None:
        """Take over what a job that ended saw in the balancers' tables: members that failed by themselves since."""
        if self._path is None or not self._members:
            return
        try:
            with Journal(self._path, create=False) as journal:
                job = journal.progress(self._run, job_id)["job"]
        except JournalError as error:
            self._say(str(error))
            return
        lost, back = seen_by(self._members, job, job["details"])
        for instance in lost:
            if instance not in self._lost:
                self._lost.add(instance)
                window.lose(instance)
                self._say(f"{instance} does not serve any more: it counts as out from now on.")
        for instance in back:
            if instance in self._lost:
                self._lost.discard(instance)
                window.regain(instance)
                self._say(f"{instance} serves again.")

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within it the first Ctrl-C lets what is in flight finish; the second does what it did before."""
        previous = signal.getsignal(signal.SIGINT)

        def first(number: int, frame: FrameType | None) -> None:
            self._interrupted = True
            signal.signal(signal.SIGINT, previous)

        signal.signal(signal.SIGINT, first)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)

    def _stop(self, window: Window, reason: str) -> None:
        """Stop it, and keep why with the run: for the report, and for `status` from another terminal."""
        window.stop(reason)
        HEARD.stopped = HEARD.stopped or reason
        if self._path is None:
            return
        try:
            with Journal(self._path, create=False) as journal:
                journal.summarise(self._run, "stopped", {"reason": reason})
        except JournalError as error:
            self._say(str(error))

    def _pass_on(self, window: Window, request: str, made_by: str) -> None:
        if request == "pause":
            window.pause()
            HEARD.paused = made_by
            self._say(f"Paused by {made_by}: what is in flight will finish, nothing new begins until it is resumed.")
        elif request == "resume":
            window.resume()
            HEARD.paused = ""
            self._say(f"Resumed by {made_by}.")
        else:
            self._stop(window, f"aborted by {made_by}")
            self._say(f"Aborted by {made_by}: what is in flight will finish, nothing new begins.")

    def _look(self) -> tuple[Any, ...]:
        signature: list[Any] = []
        for path in (self._path, f"{self._path}-wal"):
            try:
                stat = Path(str(path)).stat()
            except OSError:
                signature.append(None)
            else:
                signature.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
        return tuple(signature)
