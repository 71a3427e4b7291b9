# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: the durable record of what was begun, what ended and how. The only file that knows its schema.

A job is begun here before anything is done to it, on disk (`synchronous=FULL`) when `begin` returns; it is ended here
after it. Whatever kills the controller in between, the next run finds the job in flight.

One run at a time: `start_run` takes the lock, which is a row with an owner (a process on a machine), a heartbeat and a
fencing token that only ever grows. Every write proves that its run still holds the lock.

Many processes write: each task of a play is a process of its own. SQLite's busy timeout does not cover a switch to
WAL, WAL recovery, or the clean-up by the last connection that closes, so opening, closing and each write happen under
an `flock` on a file beside the journal. That also makes the writers queue instead of racing for SQLite's own lock.
A connection must not be carried across a fork: open a journal, use it, close it.

All times are seconds since the epoch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import getpass
import json
import os
import secrets
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

Outcome = Literal["done", "failed", "skipped", "lost"]
Request = Literal["pause", "resume", "abort"]
Moment = Literal["before", "after"]

REQUESTS: tuple[Request, ...] = ("pause", "resume", "abort")

# "rond", so that another program's database is never taken for a journal.
APPLICATION_ID = 0x726F6E64

# Each entry takes the schema one version up; entries are never changed, only added.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        token INTEGER NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        owner TEXT NOT NULL,
        plan TEXT NOT NULL,
        inherited TEXT NOT NULL,
        started REAL NOT NULL,
        heartbeat REAL NOT NULL,
        ended REAL,
        outcome TEXT,
        details TEXT NOT NULL DEFAULT '{}'
    );
    CREATE TABLE jobs (
        run INTEGER NOT NULL REFERENCES runs (id),
        id TEXT NOT NULL,
        job TEXT NOT NULL,
        kind TEXT NOT NULL,
        service TEXT NOT NULL,
        host TEXT NOT NULL,
        running TEXT NOT NULL,
        target TEXT NOT NULL,
        begun REAL NOT NULL,
        ended REAL,
        outcome TEXT,
        details TEXT NOT NULL,
        PRIMARY KEY (run, id)
    );
    CREATE TABLE requests (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run INTEGER NOT NULL REFERENCES runs (id),
        request TEXT NOT NULL,
        made REAL NOT NULL,
        made_by TEXT NOT NULL
    );
    CREATE TABLE summaries (
        run INTEGER NOT NULL REFERENCES runs (id),
        name TEXT NOT NULL,
        made REAL NOT NULL,
        content TEXT NOT NULL,
        PRIMARY KEY (run, name)
    );
    CREATE TABLE lock (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        run INTEGER NOT NULL REFERENCES runs (id)
    );
    """,
    """
    CREATE TABLE measurements (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run INTEGER REFERENCES runs (id),
        moment TEXT NOT NULL CHECK (moment IN ('before', 'after')),
        made REAL NOT NULL,
        seen TEXT NOT NULL
    );
    CREATE TABLE tests (
        measurement INTEGER NOT NULL REFERENCES measurements (id),
        suite TEXT NOT NULL,
        name TEXT NOT NULL,
        service TEXT NOT NULL,
        outcome TEXT NOT NULL CHECK (outcome IN ('passed', 'failed', 'skipped')),
        message TEXT NOT NULL,
        seconds REAL,
        measured TEXT,
        PRIMARY KEY (measurement, suite, name)
    );
    """,
    """
    CREATE TABLE identity (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        name TEXT NOT NULL
    );
    """,
)

# Writers queue on the flock; this only covers readers that meet a checkpoint on a slow disk.
BUSY_SECONDS = 120


class JournalError(Exception):
    """The journal can't be read or written, or was asked for something impossible. The text says what to do."""


class JournalLocked(JournalError):
    """Another run holds the lock."""


@dataclasses.dataclass(frozen=True)
class Owner:
    """A process on a machine. `started` (clock ticks since boot) and `boot` tell it from a later one with its pid;
    `machine` and `namespace` (of process numbers) tell whether this process can see it at all."""

    user: str
    host: str
    pid: int
    started: str = ""
    boot: str = ""
    machine: str = ""
    namespace: str = ""

    @classmethod
    def of(cls, pid: int | None = None) -> Owner:
        """The owner that process `pid` is; the calling process when not given."""
        pid = os.getpid() if pid is None else pid
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            user = str(os.getuid())
        state = _process(pid)
        return cls(
            user, socket.gethostname(), pid, state[1] if state else "", _line(_BOOT), _line(_MACHINE), _namespace()
        )

    def alive(self) -> bool | None:
        """Whether the process still runs; None where that can't be known from here."""
        if (self.host, self.machine) != (socket.gethostname(), _line(_MACHINE)):
            return None
        if self.boot != _line(_BOOT):
            # Without a machine's id it may as well be another machine of that name.
            return False if self.machine else None
        if self.namespace != _namespace():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        state = _process(self.pid)
        if state is None:
            # No /proc, or one that hides other users' processes.
            return None if self.started else True
        return state[0] not in "ZX" and state[1] == self.started

    def __str__(self) -> str:
        return f"{self.user}@{self.host} (process {self.pid})"


_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MACHINE = Path("/etc/machine-id")


def _process(pid: int) -> tuple[str, str] | None:
    """A process's state, a letter, and when it started; None where that can't be seen."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The program's name comes in parentheses and may hold blanks and parentheses itself.
    fields = stat.rpartition(")")[2].split()
    return fields[0], fields[19]


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


class Journal:
    """A journal file, open. Use it as a context manager, within one process.

    Raises JournalError when it can't be opened: nothing was changed then.
    """

    def __init__(
        self, path: str | os.PathLike[str], create: bool = True, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.path = Path(path)
        self._clock = clock
        if not create and not self.path.exists():
            raise JournalError(f"There is no journal at {self.path}: nothing was ever run with this upgrade_directory.")
        with self._errors("opened"):
            if create:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._flock():
                if not self.path.exists():
                    self._create()
                self._db = self._connect(self.path)
                try:
                    self._prepare()
                except BaseException:
                    self._db.close()
                    raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> None:
        with self._errors("closed"), self._flock():
            self._db.close()

    # Runs and their lock

    def start_run(
        self,
        plan: Mapping[str, Any],
        owner: Owner | None = None,
        kind: str = "upgrade",
        *,
        takeover: bool = False,
        last_run: int | None = None,
    ) -> int:
        """Take the lock and begin a run; returns its id.

        A run whose owner is known to be dead is closed as lost first, and what it had in flight is handed on (see
        `unfinished`); the summary `took_over` says from whom and why. A run whose owner is on another machine can't
        be judged from here: it is closed only when `takeover` says that someone made sure. Raises JournalLocked while
        another run lives, and where there was one after `last_run`, the last one that the plan can have known of.
        """
        self._check()
        owner = owner or Owner.of()
        with self._write("A run could not be started") as db:
            inherited = self._unfinished()
            lost = self._close_lost(takeover)
            newest = db.execute("SELECT * FROM runs ORDER BY id DESC LIMIT 1").fetchone()
            if newest is not None and last_run is not None and newest["id"] > last_run:
                raise JournalLocked(
                    f"Run {newest['id']} ({newest['kind']}) of {_owner(newest)} was started since this "
                    "plan was computed: start again."
                )
            last = newest["token"] if newest is not None else 0
            now = self._clock()
            # From the clock, so that a journal that had to be started afresh still outgrows the balancers' fences.
            token = max(last + 1, int(now))
            cursor = db.execute(
                "INSERT INTO runs (token, kind, owner, plan, inherited, started, heartbeat) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (token, kind, _dump(dataclasses.asdict(owner)), _dump(plan), _dump(inherited), now, now),
            )
            run = int(cursor.lastrowid or 0)
            db.execute("INSERT INTO lock (only, run) VALUES (1, ?)", (run,))
            if lost is not None:
                self._summarise(run, "took_over", lost)
        return run

    def token(self, run: int) -> int:
        """The fencing token of a run: greater than that of every run before it."""
        return int(self._run_row(run)["token"])

    def identity(self) -> str:
        """What all runs of this journal are to the balancers' fences: the same wherever the journal is used from.

        It begins with where that was first, for people.
        """
        with self._write("The journal could not be given a name") as db:
            made = f"{socket.gethostname()}:{self.path.absolute()}:{secrets.token_hex(4)}"
            db.execute("INSERT OR IGNORE INTO identity (only, name) VALUES (1, ?)", (made,))
            return str(db.execute("SELECT name FROM identity").fetchone()[0])

    def last_run(self) -> int:
        """The number of the last run, 0 where there was none."""
        with self._errors("read"):
            return int(self._db.execute("SELECT max(id) FROM runs").fetchone()[0] or 0)

    def heartbeat(self, run: int) -> None:
        """Say that the run's owner lives. Raises JournalLocked when the lock is another's by now."""
        with self._write("The heartbeat could not be written", run):
            pass

    def end_run(self, run: int, outcome: str, details: Mapping[str, Any] | None = None) -> None:
        """End a run and give its lock back. Ending a run that has ended changes nothing."""
        if self._run_row(run)["ended"] is not None:
            return
        with self._write("The run could not be ended", run) as db:
            db.execute("UPDATE runs SET details = ? WHERE id = ?", (_dump(details or {}), run))
            self._close_run(run, outcome)

    def close_lost(self, *, takeover: bool = False) -> dict[str, Any] | None:
        """Close the run that holds the lock if its owner is dead (or `takeover`, see `start_run`); returns what is
        said of it: run, kind, owner, token, silent (seconds), evidence and jobs, those in flight. None where no run
        holds the lock; a live owner raises JournalLocked."""
        with self._write("The lost run could not be closed"):
            jobs = self._unfinished()
            lost = self._close_lost(takeover)
        return None if lost is None else {**lost, "jobs": jobs}

    # Jobs

    def begin(self, run: int, job: Mapping[str, Any], details: Mapping[str, Any] | None = None) -> None:
        """Record, durably, that `job` (a job of the plan) is about to be done. Beginning one in flight changes nothing.

        Raises JournalError when it can't be recorded: the job must not be done then.
        """
        with self._write(f"{job['id']} could not be begun", run) as db:
            row = db.execute("SELECT * FROM jobs WHERE run = ? AND id = ?", (run, job["id"])).fetchone()
            if row is not None:
                if row["ended"] is not None:
                    raise JournalError(
                        f"{job['id']} has ended in run {run} already ({row['outcome']}): start a new run."
                    )
                return
            artifact = job.get("artifact") or {}
            db.execute(
                "INSERT INTO jobs (run, id, job, kind, service, host, running, target, begun, details) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    run,
                    job["id"],
                    _dump(job),
                    job.get("kind", ""),
                    job.get("service", ""),
                    job.get("host", ""),
                    job.get("running") or "",
                    artifact.get("target", ""),
                    self._clock(),
                    _dump(details or {}),
                ),
            )

    def note(self, run: int, job_id: str, details: Mapping[str, Any]) -> None:
        """Add to what is recorded of a job, durably: where its old artifact is kept, say."""
        with self._write(f"A note on {job_id} could not be made", run):
            row = self._job_row(run, job_id)
            self._note(row, details)

    def end(self, run: int, job_id: str, outcome: Outcome, details: Mapping[str, Any] | None = None) -> None:
        """Record how a job ended. Of two ends the worse one counts: a failure is not undone by a later success."""
        with self._write(f"The end of {job_id} could not be recorded", run) as db:
            row = self._job_row(run, job_id)
            self._note(row, details or {})
            if row["ended"] is None or (outcome == "failed" and row["outcome"] != "failed"):
                db.execute(
                    "UPDATE jobs SET ended = ?, outcome = ? WHERE run = ? AND id = ?",
                    (self._clock(), outcome, run, job_id),
                )

    def fail(self, run: int, job_id: str, details: Mapping[str, Any]) -> None:
        """Record that a job failed, if it is in flight: for whoever can't know how far the job itself came."""
        with self._write(f"The end of {job_id} could not be recorded", run) as db:
            row = db.execute("SELECT * FROM jobs WHERE run = ? AND id = ? AND ended IS NULL", (run, job_id)).fetchone()
            if row is not None:
                self._note(row, details)
                db.execute(
                    "UPDATE jobs SET ended = ?, outcome = 'failed' WHERE run = ? AND id = ?",
                    (self._clock(), run, job_id),
                )

    def progress(self, run: int, job_id: str) -> dict[str, Any]:
        """A job, and where the run stands: job (see `run`), position (jobs that ended), total (jobs of the plan)."""
        with self._errors("read"):
            row = self._job_row(run, job_id)
            position = self._db.execute(
                "SELECT count(*) FROM jobs WHERE run = ? AND ended IS NOT NULL", (run,)
            ).fetchone()[0]
            total = self._db.execute(
                "SELECT json_array_length(plan, '$.jobs') FROM runs WHERE id = ?", (run,)
            ).fetchone()[0]
            return {"job": _job(row), "position": position, "total": total or 0}

    def one_way(self) -> frozenset[str]:
        """The services whose last `switch` passed its point of no return and was not done."""
        with self._errors("read"):
            rows = self._db.execute("SELECT service, outcome, details FROM jobs WHERE kind = 'switch' ORDER BY run")
            last = {row["service"]: row for row in rows}
        return frozenset(
            service
            for service, row in last.items()
            if row["outcome"] != "done" and json.loads(row["details"]).get("no_return")
        )

    def unfinished(self) -> list[dict[str, Any]]:
        """The jobs that someone must look at before anything else begins: those in flight in the last run, and those
        that it took over from a lost one and has not done. Empty once a run has ended as done."""
        with self._errors("read"):
            return self._unfinished()

    # What is asked of a run from another terminal

    def request(
        self, request: Request, run: int | None = None, owner: Owner | None = None, *, dry: bool = False
    ) -> int:
        """Ask the run that holds the lock (or `run`) to pause, resume or abort; returns the run's id.

        Raises JournalError where no such run is in progress, or where nobody is left to hear it. `dry`: only that.
        """
        if request not in REQUESTS:
            raise JournalError(f"request is {request!r}; it must be one of {', '.join(REQUESTS)}.")
        with self._write("The request could not be made") as db:
            holder = db.execute("SELECT runs.* FROM lock JOIN runs ON runs.id = lock.run").fetchone()
            if holder is None or run not in (None, holder["id"]):
                raise JournalError(
                    f"{'No run' if run is None else f'Run {run}'} is in progress: there is nothing to {request}."
                )
            if _owner(holder).alive() is False:
                raise JournalError(
                    f"Run {holder['id']} of {_owner(holder)} is no longer in progress, its process is dead: there is "
                    f"nothing to {request}. The next rondo.upgrade.upgrade or rondo.upgrade.revert takes it over."
                )
            if not dry:
                db.execute(
                    "INSERT INTO requests (run, request, made, made_by) VALUES (?, ?, ?, ?)",
                    (holder["id"], request, self._clock(), str(owner or Owner.of())),
                )
        return int(holder["id"])

    def requests(self, run: int, after: int = 0) -> list[dict[str, Any]]:
        """The requests to a run with an id greater than `after`, oldest first: id, request, made, made_by."""
        with self._errors("read"):
            rows = self._db.execute("SELECT * FROM requests WHERE run = ? AND id > ? ORDER BY id", (run, after))
            return [{key: row[key] for key in ("id", "request", "made", "made_by")} for row in rows]

    # What is learnt from it

    def summarise(self, run: int, name: str, content: Mapping[str, Any]) -> None:
        """Keep a summary with a run: the probe's, the counters of the balancers. A second one of a name replaces it."""
        with self._write(f"The summary {name} could not be kept"):
            self._run_row(run)
            self._summarise(run, name, content)

    def measure(
        self,
        moment: Moment,
        tests: Sequence[Mapping[str, Any]],
        run: int | None = None,
        seen: Mapping[str, Any] | None = None,
    ) -> int:
        """Keep what the tests said `before` or `after`, of a run or of none; returns its number. Of two tests of a
        suite with one name the last one counts. `seen`: what else is needed to compare the two moments."""
        with self._write("What the tests said could not be kept") as db:
            if run is not None:
                self._run_row(run)
            number = db.execute(
                "INSERT INTO measurements (run, moment, made, seen) VALUES (?, ?, ?, ?)",
                (run, moment, self._clock(), _dump(seen or {})),
            ).lastrowid
            db.executemany(
                "INSERT OR REPLACE INTO tests (measurement, suite, name, service, outcome, message, seconds, measured) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        number,
                        test["suite"],
                        test["name"],
                        test.get("service") or "",
                        test["outcome"],
                        test.get("message") or "",
                        test.get("seconds"),
                        _dump(test["measured"]) if test.get("measured") else None,
                    )
                    for test in tests
                ],
            )
        return int(number or 0)

    def measurement(self, moment: Moment, run: int | None = None) -> dict[str, Any] | None:
        """The last measurement of a moment, of `run` or (None) of any run and of none; None where there is none."""
        where, values = ("", [moment]) if run is None else (" AND run = ?", [moment, run])
        with self._errors("read"):
            row = self._db.execute(
                f"SELECT * FROM measurements WHERE moment = ?{where} ORDER BY id DESC LIMIT 1", values
            ).fetchone()
            if row is None:
                return None
            tests = self._db.execute("SELECT * FROM tests WHERE measurement = ? ORDER BY rowid", (row["id"],))
            return {
                "id": row["id"],
                "run": row["run"],
                "moment": row["moment"],
                "made": row["made"],
                "seen": json.loads(row["seen"]),
                "tests": [_test(test) for test in tests],
            }

    def baseline(self, run: int | None = None) -> dict[str, Any] | None:
        """What the tests said before the upgrade that `run` belongs to; without a run, the last baseline of all.

        An upgrade may take several runs: those right before `run` that did not end as done are the same one, and its
        baseline is that of the first. A revert is held against the baseline of what it takes back.
        """
        if run is None:
            last = self.measurement("before")
            if last is None or last["run"] is None:
                return last
            run = int(last["run"])
        with self._errors("read"):
            rows = self._db.execute("SELECT * FROM runs WHERE id <= ? ORDER BY id DESC", (run,)).fetchall()
        found = None
        for row in rows:
            back = row["kind"] == "revert"
            found = self.measurement("before", row["id"]) or found
            earlier = next((each for each in rows if each["id"] < row["id"]), None)
            if earlier is None or (earlier["outcome"] == "done" and not back):
                break
        return found

    def run(self, run: int | None = None) -> dict[str, Any] | None:
        """All about a run (the last one, if not said which), None where there is none; keys: docs/journal.md."""
        with self._errors("read"):
            if run is None:
                row = self._db.execute("SELECT * FROM runs ORDER BY id DESC LIMIT 1").fetchone()
            else:
                row = self._db.execute("SELECT * FROM runs WHERE id = ?", (run,)).fetchone()
            if row is None:
                return None
            jobs = self._db.execute("SELECT * FROM jobs WHERE run = ? ORDER BY begun, id", (row["id"],))
            summaries = self._db.execute("SELECT name, content FROM summaries WHERE run = ?", (row["id"],))
            return {
                "id": row["id"],
                "token": row["token"],
                "kind": row["kind"],
                "owner": str(_owner(row)),
                "plan": json.loads(row["plan"]),
                "inherited": json.loads(row["inherited"]),
                "started": row["started"],
                "heartbeat": row["heartbeat"],
                "alive": _owner(row).alive() if row["ended"] is None else None,
                "ended": row["ended"],
                "outcome": row["outcome"],
                "details": json.loads(row["details"]),
                "jobs": [_job(job) for job in jobs],
                "summaries": {summary["name"]: json.loads(summary["content"]) for summary in summaries},
                "requests": self.requests(row["id"]),
            }

    def runs(self) -> list[dict[str, Any]]:
        """All runs, the last one first, each as `run` gives it."""
        with self._errors("read"):
            numbers = [row["id"] for row in self._db.execute("SELECT id FROM runs ORDER BY id DESC")]
        return [found for number in numbers if (found := self.run(number)) is not None]

    def durations(self) -> dict[tuple[str, str, str], list[float]]:
        """Seconds that jobs took, by (kind, service, host), oldest first; only those that were done.

        Of jobs `switch` the kind has the method behind it. What they held is there too: as `offline`, and the rest of
        it as `pause METHOD`.
        """
        with self._errors("read"):
            durations: dict[tuple[str, str, str], list[float]] = {}
            for row in self._db.execute("SELECT * FROM jobs WHERE outcome = 'done' ORDER BY ended"):
                found = {row["kind"]: row["ended"] - row["begun"]}
                if row["kind"] == "switch":
                    found = _switched(json.loads(row["job"]), found["switch"], json.loads(row["details"]))
                for kind, seconds in found.items():
                    durations.setdefault((kind, row["service"], row["host"]), []).append(seconds)
            return durations

    def tested(self) -> frozenset[tuple[str, str, str]]:
        """The (service, from, to) that a run which ended as done has carried out."""
        with self._errors("read"):
            rows = self._db.execute(
                "SELECT DISTINCT service, running, target FROM jobs JOIN runs ON runs.id = jobs.run "
                "WHERE jobs.kind = 'replace' AND jobs.outcome = 'done' AND runs.outcome = 'done'"
            )
            found = {(row["service"], row["running"], row["target"]) for row in rows}
            for (job,) in self._db.execute(
                "SELECT job FROM jobs JOIN runs ON runs.id = jobs.run "
                "WHERE jobs.kind = 'switch' AND jobs.outcome = 'done' AND runs.outcome = 'done'"
            ):
                switch = json.loads(job)
                members = switch.get("instances", ()) if switch.get("method") == "hold" else ()
                found |= {(switch["service"], one["running"], one["artifact"]["target"]) for one in members}
            return frozenset(found)

    # Below this line: how

    def _create(self) -> None:
        # Made beside and moved into place: a journal that is empty or half made can only have been damaged later.
        new = self.path.with_name(self.path.name + ".new")
        new.unlink(missing_ok=True)
        db = self._connect(new)
        try:
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute("PRAGMA journal_mode = WAL")
            _migrate(db)
        finally:
            db.close()
        new.rename(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _connect(self, path: Path) -> sqlite3.Connection:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.close(descriptor)
        db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        return db

    def _prepare(self) -> None:
        if self.path.stat().st_size == 0:
            raise JournalError(f"The journal {self.path} is empty: it was truncated. {_RECOVERY}")
        if self._db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise JournalError(f"{self.path} is a database, but not a journal of rondo.upgrade. {_RECOVERY}")
        known = len(MIGRATIONS)
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > known:
            raise JournalError(
                f"The journal {self.path} has schema {version}, written by a newer rondo.upgrade; this one knows "
                f"{known}: install the newer one."
            )
        _migrate(self._db)

    def _check(self) -> None:
        with self._errors("read"):
            answer = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if answer != "ok":
            raise JournalError(f"The journal {self.path} is damaged ({answer}). {_RECOVERY}")

    @contextlib.contextmanager
    def _flock(self) -> Iterator[None]:
        lock = self.path.with_name(self.path.name + ".lock")
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        except PermissionError:
            if not lock.exists():
                raise
            descriptor = os.open(lock, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"The journal {self.path} can't be {done}: {_words(error)}") from error

    @contextlib.contextmanager
    def _write(self, failed: str, run: int | None = None) -> Iterator[sqlite3.Connection]:
        """A transaction, alone; with `run`, proven to be of the run that holds the lock, and a sign of its life."""
        try:
            with self._flock():
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    if run is not None:
                        self._prove(run)
                        self._db.execute("UPDATE runs SET heartbeat = ? WHERE id = ?", (self._clock(), run))
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"{failed}: the journal {self.path} can't be written: {_words(error)}") from error

    def _prove(self, run: int) -> None:
        holder = self._db.execute("SELECT runs.* FROM lock JOIN runs ON runs.id = lock.run").fetchone()
        if holder is None:
            self._run_row(run)
            raise JournalLocked(f"Run {run} has ended: it may not write to the journal {self.path} any more.")
        if holder["id"] != run:
            raise JournalLocked(f"Run {run} lost the journal {self.path} to run {holder['id']} of {_owner(holder)}.")

    def _close_lost(self, takeover: bool) -> dict[str, Any] | None:
        """Close the run that holds the lock, if there is any; what evidence allowed that. Raises JournalLocked."""
        holder = self._db.execute("SELECT runs.* FROM lock JOIN runs ON runs.id = lock.run").fetchone()
        if holder is None:
            return None
        owner = _owner(holder)
        alive = owner.alive()
        silent = max(0, round(self._clock() - holder["heartbeat"]))
        said = (
            f"Run {holder['id']} ({holder['kind']}) of {owner} holds the journal {self.path}, "
            f"last heard of {silent} s ago"
        )
        if alive:
            raise JournalLocked(f"{said}: wait for it, or end it with `ansible-playbook rondo.upgrade.abort`.")
        if alive is None and not takeover:
            raise JournalLocked(
                f"{said}. Whether it still runs can't be seen from here: look on {owner.host}, and if it is dead "
                "start again with `-e upgrade_takeover=true`."
            )
        self._close_run(holder["id"], "lost")
        return {
            "run": holder["id"],
            "kind": holder["kind"],
            "owner": str(owner),
            "token": holder["token"],
            "silent": silent,
            "evidence": "upgrade_takeover was given" if alive is None else "its process is dead",
        }

    def _summarise(self, run: int, name: str, content: Mapping[str, Any]) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO summaries (run, name, made, content) VALUES (?, ?, ?, ?)",
            (run, name, self._clock(), _dump(content)),
        )

    def _close_run(self, run: int, outcome: str) -> None:
        now = self._clock()
        self._db.execute("UPDATE runs SET ended = ?, outcome = ? WHERE id = ?", (now, outcome, run))
        self._db.execute("UPDATE jobs SET ended = ?, outcome = 'lost' WHERE run = ? AND ended IS NULL", (now, run))
        self._db.execute("DELETE FROM lock")

    def _unfinished(self) -> list[dict[str, Any]]:
        last = self._db.execute("SELECT * FROM runs ORDER BY id DESC LIMIT 1").fetchone()
        if last is None or last["outcome"] == "done":
            return []
        jobs = [
            _job(row) for row in self._db.execute("SELECT * FROM jobs WHERE run = ? ORDER BY begun, id", (last["id"],))
        ]
        flying = [job for job in jobs if job["ended"] is None or job["outcome"] == "lost"]
        seen = {job["id"] for job in jobs}
        return flying + [job for job in json.loads(last["inherited"]) if job["id"] not in seen]

    def _note(self, row: sqlite3.Row, details: Mapping[str, Any]) -> None:
        if details:
            self._db.execute(
                "UPDATE jobs SET details = ? WHERE run = ? AND id = ?",
                (_dump({**json.loads(row["details"]), **details}), row["run"], row["id"]),
            )

    def _run_row(self, run: int) -> sqlite3.Row:
        with self._errors("read"):
            row: sqlite3.Row | None = self._db.execute("SELECT * FROM runs WHERE id = ?", (run,)).fetchone()
        if row is None:
            raise JournalError(f"The journal {self.path} holds no run {run}.")
        return row

    def _job_row(self, run: int, job_id: str) -> sqlite3.Row:
        query = "SELECT * FROM jobs WHERE run = ? AND id = ?"
        row: sqlite3.Row | None = self._db.execute(query, (run, job_id)).fetchone()
        if row is None:
            raise JournalError(f"{job_id} was never begun in run {run}, so it can't end there.")
        return row


_RECOVERY = (
    "Nothing was begun. Move it away to keep it, and start again: the state is then read from the cluster itself "
    "(docs/journal.md, under Recovery)."
)


def _migrate(db: sqlite3.Connection) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        # executescript commits by itself, so each version is one script that is one transaction.
        db.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")


def _dump(value: Mapping[str, Any] | Sequence[Any]) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _owner(row: sqlite3.Row) -> Owner:
    return Owner(**json.loads(row["owner"]))


def _switched(job: Mapping[str, Any], seconds: float, details: Mapping[str, Any]) -> dict[str, float]:
    """What a job `switch` has taught: how long it took, how long requests were held, and what of that was `offline`."""
    method = job.get("method")
    found = {f"switch {method}": seconds}
    held = details.get("hold") or {}
    offline = float(held.get("offline") or 0.0)
    if (pause := held.get("pause")) and (offline or not (job.get("options") or {}).get("offline")):
        found[f"pause {method}"] = float(pause) - offline
        if offline:
            found["offline"] = offline
    return found


def _job(row: sqlite3.Row) -> dict[str, Any]:
    ended = row["ended"]
    return {
        **json.loads(row["job"]),
        "run": row["run"],
        "begun": row["begun"],
        "ended": ended,
        "took": None if ended is None else ended - row["begun"],
        "outcome": row["outcome"],
        "details": json.loads(row["details"]),
    }


def _test(row: sqlite3.Row) -> dict[str, Any]:
    kept = {key: row[key] for key in ("suite", "name", "service", "outcome", "message", "seconds")}
    return {**kept, "measured": json.loads(row["measured"]) if row["measured"] else None}


def _words(error: sqlite3.Error | OSError) -> str:
    name = getattr(error, "sqlite_errorname", "")
    if name in ("SQLITE_CORRUPT", "SQLITE_NOTADB") or name.startswith(("SQLITE_CORRUPT_", "SQLITE_IOERR_SHORT_READ")):
        return f"it is damaged ({error}). {_RECOVERY}"
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or name == "SQLITE_FULL" or name.startswith("SQLITE_IOERR"):
        return f"{error}. Is the disk full, or over its quota? What was recorded before is kept."
    forbidden = isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    if forbidden or name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return (
            f"{error}. The user that runs the upgrade must be able to write the file, its folder, and the files "
            "-wal, -shm and .lock beside it."
        )
    return f"{error}."
