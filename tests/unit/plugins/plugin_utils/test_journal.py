# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import multiprocessing
import os
import resource
import socket
import sqlite3
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _journal
from ansible_collections.rondo.upgrade.plugins.plugin_utils._journal import Journal, JournalError, JournalLocked, Owner

FORK = multiprocessing.get_context("fork")
PATIENCE = 300
NOBODY = 65534


def job(host: str, kind: str = "replace") -> dict[str, Any]:
    artifact = {"kind": "container", "name": "keystone", "target": "29.1.0"}
    row = {"id": f"{kind} keystone@{host}", "kind": kind, "service": "keystone", "host": host}
    return {**row, "running": "28.1.0", "artifact": artifact}


PLAN: dict[str, Any] = {"schema": 1, "jobs": [job("ctl1"), job("ctl2"), job("ctl3")]}


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "build" / "journal.sqlite"


def dead() -> Owner:
    """A process of this machine that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    owner = Owner.of(process.pid)
    process.wait()
    return owner


def in_child(work: Callable[..., None], *arguments: Any) -> None:
    """Run in a process of its own, so that what it does to itself (limits, its user) ends with it."""
    queue = FORK.SimpleQueue()

    def main() -> None:
        try:
            work(*arguments)
            queue.put("")
        except BaseException:
            queue.put(traceback.format_exc())

    child = FORK.Process(target=main)
    child.start()
    child.join(PATIENCE)
    assert child.exitcode == 0
    assert queue.get() == ""


def test_a_run_from_start_to_end(path: Path) -> None:
    clock = Clock()
    with Journal(path, clock=clock) as journal:
        run = journal.start_run(PLAN, kind="upgrade")
        journal.begin(run, job("ctl1"), {"step": 1})
        clock.now += 7
        journal.note(run, "replace keystone@ctl1", {"kept": "keystone.old"})
        assert journal.progress(run, "replace keystone@ctl1")["position"] == 0
        journal.end(run, "replace keystone@ctl1", "done", {"closed_sessions": 2})
        progress = journal.progress(run, "replace keystone@ctl1")
        journal.summarise(run, "probe", {"failed": 0})
        journal.end_run(run, "done", {"note": "fine"})
    assert (progress["position"], progress["total"], progress["job"]["took"]) == (1, 3, 7)
    with Journal(path, create=False) as journal:
        seen = journal.run()
        assert seen is not None
        assert (seen["id"], seen["kind"], seen["outcome"], seen["plan"]) == (run, "upgrade", "done", PLAN)
        assert seen["summaries"] == {"probe": {"failed": 0}}
        assert seen["details"] == {"note": "fine"}
        [row] = seen["jobs"]
        assert row["details"] == {"step": 1, "kept": "keystone.old", "closed_sessions": 2}
        assert (row["outcome"], row["ended"] - row["begun"], row["host"]) == ("done", 7, "ctl1")
        assert journal.durations() == {("replace", "keystone", "ctl1"): [7]}
        assert journal.tested() == {("keystone", "28.1.0", "29.1.0")}
        assert journal.unfinished() == []
        assert journal.run(99) is None


def test_what_a_switch_teaches(path: Path) -> None:
    ticks = iter(range(1000, 2000, 10))
    member = {"running": "28.1.0", "artifact": {"target": "29.1.0"}}
    row = {"kind": "switch", "service": "keystone", "host": "ctl1", "instance": None, "instances": [member]}
    with Journal(path, clock=lambda: next(ticks)) as journal:
        run = journal.start_run(PLAN)
        for method, hold in (
            ("hold", {"pause": 7.0, "offline": 3.0}),
            ("held_switch", {"pause": 1.5}),
            ("side_by_side", None),
        ):
            one = {**row, "id": f"switch {method}", "method": method}
            journal.begin(run, one)
            journal.end(run, one["id"], "done", {"hold": hold} if hold else {})
        journal.end_run(run, "done")
        where = ("keystone", "ctl1")
        assert journal.durations() == {
            ("switch hold", *where): [pytest.approx(20)],
            ("pause hold", *where): [4.0],
            ("offline", *where): [3.0],
            ("switch held_switch", *where): [pytest.approx(20)],
            ("pause held_switch", *where): [1.5],
            ("switch side_by_side", *where): [pytest.approx(20)],
        }
        assert journal.tested() == {("keystone", "28.1.0", "29.1.0")}


def test_a_switch_that_passed_its_point_of_no_return_is_known_until_one_is_done(path: Path) -> None:
    row = {"kind": "switch", "id": "switch keystone", "service": "keystone", "host": "ctl1", "instance": None}
    with Journal(path) as journal:
        found = []
        for noted, outcome in (({}, "failed"), ({"no_return": True}, "failed"), ({"no_return": True}, "done")):
            run = journal.start_run(PLAN)
            journal.begin(run, row)
            journal.note(run, row["id"], noted)
            found.append(journal.one_way())
            journal.end(run, row["id"], outcome)
            found.append(journal.one_way())
            journal.end_run(run, outcome)
        never, failed = frozenset[str](), frozenset({"keystone"})
        assert found == [never, never, failed, failed, failed, never]


def test_only_a_run_that_was_done_counts_as_tested(path: Path) -> None:
    with Journal(path) as journal:
        run = journal.start_run(PLAN)
        journal.begin(run, job("ctl1"))
        journal.end(run, "replace keystone@ctl1", "done")
        journal.end_run(run, "failed")
        assert journal.tested() == frozenset()
        assert list(journal.durations()) == [("replace", "keystone", "ctl1")]


def test_there_is_nothing_to_read_where_nothing_ran(path: Path) -> None:
    with pytest.raises(JournalError, match="nothing was ever run"):
        Journal(path, create=False)
    assert not path.parent.exists()
    with Journal(path) as journal:
        assert journal.run() is None
        assert journal.unfinished() == []


def test_begin_and_end_bear_repetition_and_refuse_nonsense(path: Path) -> None:
    with Journal(path) as journal:
        run = journal.start_run(PLAN)
        with pytest.raises(JournalError, match="never begun"):
            journal.end(run, "replace keystone@ctl1", "done")
        journal.begin(run, job("ctl1"))
        journal.begin(run, job("ctl1"))
        journal.end(run, "replace keystone@ctl1", "done")
        journal.end(run, "replace keystone@ctl1", "failed")
        journal.end(run, "replace keystone@ctl1", "done")
        with pytest.raises(JournalError, match="has ended in run 1 already"):
            journal.begin(run, job("ctl1"))
        seen = journal.run()
        assert seen is not None and [row["outcome"] for row in seen["jobs"]] == ["failed"]
        journal.end_run(run, "failed")
        journal.end_run(run, "done")
        assert (journal.run() or {})["outcome"] == "failed"
        with pytest.raises(JournalLocked, match="has ended"):
            journal.begin(run, job("ctl2"))


def test_fail_is_for_jobs_in_flight_only(path: Path) -> None:
    with Journal(path) as journal:
        run = journal.start_run(PLAN)
        journal.begin(run, job("ctl1"))
        journal.begin(run, job("ctl2"))
        journal.end(run, "replace keystone@ctl1", "done")
        for host in ("ctl1", "ctl2", "ctl3"):
            journal.fail(run, f"replace keystone@{host}", {"reason": "unreachable"})
        seen = journal.run()
        assert seen is not None
        assert [(row["host"], row["outcome"]) for row in seen["jobs"]] == [("ctl1", "done"), ("ctl2", "failed")]


def test_one_run_at_a_time(path: Path) -> None:
    with Journal(path) as journal:
        run = journal.start_run(PLAN)
        with pytest.raises(
            JournalLocked, match=rf"Run 1 \(upgrade\) of .*process {os.getpid()}\).*rondo.upgrade.abort"
        ):
            journal.start_run(PLAN)
        with pytest.raises(JournalLocked):
            journal.close_lost()
        journal.end_run(run, "done")
        assert journal.start_run(PLAN) == 2


def test_a_dead_run_is_taken_over_with_what_it_had_in_flight(path: Path) -> None:
    with Journal(path) as journal:
        first = journal.start_run(PLAN, dead())
        for host in ("ctl1", "ctl2", "ctl3"):
            journal.begin(first, job(host))
        journal.end(first, "replace keystone@ctl3", "done")
        second = journal.start_run(PLAN, dead())
        assert [row["host"] for row in journal.unfinished()] == ["ctl1", "ctl2"]
        assert journal.token(second) > journal.token(first)
        with pytest.raises(JournalLocked, match=r"lost the journal .* to run 2"):
            journal.end(first, "replace keystone@ctl1", "done")
        with pytest.raises(JournalLocked):
            journal.heartbeat(first)
        journal.begin(second, job("ctl1"))
        journal.end(second, "replace keystone@ctl1", "done")
        third = journal.start_run(PLAN)
        assert [row["host"] for row in journal.unfinished()] == ["ctl2"]
        journal.end_run(third, "done")
        assert journal.unfinished() == []


def test_close_lost(path: Path) -> None:
    with Journal(path) as journal:
        assert journal.close_lost() is None
        run = journal.start_run(PLAN, dead())
        journal.begin(run, job("ctl1"))
        closed = journal.close_lost() or {}
        assert [row["host"] for row in closed["jobs"]] == ["ctl1"]
        assert (closed["run"], closed["token"]) == (run, journal.token(run))
        assert (journal.run() or {})["outcome"] == "lost"
        assert [row["host"] for row in journal.unfinished()] == ["ctl1"]


def test_a_run_on_another_machine_is_not_judged_from_here(path: Path) -> None:
    elsewhere = dataclasses.replace(Owner.of(), host="other-machine")
    assert elsewhere.alive() is None
    with Journal(path) as journal:
        journal.start_run(PLAN, elsewhere)
        with pytest.raises(JournalLocked, match=r"look on other-machine.*upgrade_takeover=true"):
            journal.start_run(PLAN)
        with pytest.raises(JournalLocked, match="look on other-machine"):
            journal.close_lost()
        assert journal.start_run(PLAN, elsewhere, takeover=True) == 2
        assert (journal.close_lost(takeover=True) or {})["run"] == 2


@pytest.mark.parametrize(
    ("host", "takeover", "evidence"),
    [("", False, "its process is dead"), ("other-machine", True, "upgrade_takeover was given")],
)
def test_a_takeover_says_from_whom(path: Path, host: str, takeover: bool, evidence: str) -> None:
    clock = Clock()
    owner = dataclasses.replace(dead(), **{"host": host} if host else {})
    with Journal(path, clock=clock) as journal:
        first = journal.start_run(PLAN, owner, "revert")
        clock.now += 90
        second = journal.start_run(PLAN, takeover=takeover)
        assert (journal.run(first) or {})["summaries"] == {}
        assert (journal.run(second) or {})["summaries"]["took_over"] == {
            "run": first,
            "kind": "revert",
            "owner": str(owner),
            "token": journal.token(first),
            "silent": 90,
            "evidence": evidence,
        }


def test_a_plan_from_before_the_last_run_is_refused(path: Path) -> None:
    with Journal(path) as journal:
        assert journal.last_run() == 0
        known = journal.start_run(PLAN, last_run=0)
        journal.end_run(known, "done")
        with pytest.raises(JournalLocked, match=r"Run 1 \(upgrade\) of .* was started since this plan"):
            journal.start_run(PLAN, last_run=0)
        lost = journal.start_run(PLAN, dead(), last_run=known)
        # A run that the plan did not know of is newer, also if it was cut off; then it is left as it is.
        with pytest.raises(JournalLocked, match="Run 2 "):
            journal.start_run(PLAN, last_run=known)
        assert (journal.run(lost) or {})["ended"] is None
        assert journal.last_run() == lost
        assert journal.start_run(PLAN, last_run=lost) == 3


def test_all_runs_of_a_journal_are_one_to_the_fences(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(path) as journal:
        first = journal.identity()
    assert first.startswith(f"{socket.gethostname()}:{path}:")
    monkeypatch.setattr(socket, "gethostname", lambda: "another-container")
    with Journal(path) as journal:
        assert journal.identity() == first
    path.unlink()
    with Journal(path) as journal:
        assert journal.identity() != first


def test_a_process_that_nobody_has_waited_for_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    owner = Owner.of(process.pid)
    try:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert Path(f"/proc/{process.pid}/stat").exists()
        assert owner.alive() is False
    finally:
        process.wait()


def test_what_can_not_be_seen_is_not_called_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = dead()
    assert dataclasses.replace(gone, namespace="pid:[1]").alive() is None
    assert dataclasses.replace(gone, machine="another of that name").alive() is None
    monkeypatch.setattr(_journal, "_MACHINE", Path("/nowhere"))
    # Without a machine's id, another boot may be another machine's.
    assert dataclasses.replace(Owner.of(), boot="an earlier one").alive() is None
    monkeypatch.setattr(_journal, "_process", lambda pid: None)
    assert dataclasses.replace(Owner.of(), started="1").alive() is None


def test_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = tmp_path / "machine-id"
    machine.write_text("3d1219c7\n")
    monkeypatch.setattr(_journal, "_MACHINE", machine)
    mine = Owner.of()
    assert mine.alive() is True
    assert mine.host == socket.gethostname()
    assert dead().alive() is False
    # The same pid, of a process that began at another time, or before the machine was started again.
    assert dataclasses.replace(mine, started="1").alive() is False
    assert dataclasses.replace(mine, boot="an earlier one").alive() is False


def test_takeover_does_not_spare_a_live_run(path: Path) -> None:
    with Journal(path) as journal:
        journal.start_run(PLAN)
        with pytest.raises(JournalLocked):
            journal.start_run(PLAN, takeover=True)


def test_a_request_to_a_run_whose_process_is_dead_says_so(path: Path) -> None:
    with Journal(path) as journal:
        run = journal.start_run(PLAN, dead())
        with pytest.raises(JournalError, match=f"Run {run} of .* its process is dead"):
            journal.request("pause")
        assert journal.requests(run) == []


def test_a_request_can_be_tried_without_making_it(path: Path) -> None:
    with Journal(path) as journal:
        with pytest.raises(JournalError, match="No run is in progress"):
            journal.request("abort", dry=True)
        run = journal.start_run(PLAN)
        assert journal.request("abort", dry=True) == run
        assert journal.requests(run) == []


def test_requests_reach_the_run_that_holds_the_lock(path: Path) -> None:
    with Journal(path) as journal:
        with pytest.raises(JournalError, match="nothing to pause"):
            journal.request("pause")
        run = journal.start_run(PLAN)
        with pytest.raises(JournalError, match="must be one of pause, resume, abort"):
            journal.request("stop")  # type: ignore[arg-type]
        assert [journal.request("pause"), journal.request("resume")] == [run, run]
        requests = journal.requests(run)
        assert [row["request"] for row in requests] == ["pause", "resume"]
        assert [row["request"] for row in journal.requests(run, after=requests[0]["id"])] == ["resume"]
        with pytest.raises(JournalError, match="Run 7 is in progress"):
            journal.request("abort", run=7)


def test_the_token_outgrows_a_journal_that_was_started_afresh(path: Path) -> None:
    clock = Clock()
    with Journal(path, clock=clock) as journal:
        run = journal.start_run(PLAN, dead())
        before = journal.token(run)
    path.unlink()
    clock.now += 60
    with Journal(path, clock=clock) as journal:
        assert journal.token(journal.start_run(PLAN)) > before


# Many processes at once


def _round(path: Path, barrier: Any, queue: Any, number: int) -> None:
    try:
        barrier.wait(PATIENCE)
        with Journal(path) as journal:
            try:
                run = journal.start_run(PLAN)
            except JournalLocked:
                run = 0
        for turn in range(3):
            with Journal(path) as journal:
                seen = journal.run()
                if run:
                    journal.begin(run, job(f"host{number}-{turn}"))
                    journal.heartbeat(run)
                    journal.end(run, f"replace keystone@host{number}-{turn}", "done")
                elif seen:
                    try:
                        journal.request("pause")
                    except JournalError as error:
                        assert "in progress" in str(error)
        queue.put((number, run, ""))
    except BaseException:
        queue.put((number, -1, traceback.format_exc()))


@pytest.mark.parametrize("round_", range(5))
def test_many_processes_create_and_use_one_journal_at_the_same_moment(tmp_path: Path, round_: int) -> None:
    path = tmp_path / "journal.sqlite"
    barrier, queue = FORK.Barrier(8), FORK.SimpleQueue()
    children = [FORK.Process(target=_round, args=(path, barrier, queue, number)) for number in range(8)]
    for child in children:
        child.start()
    answers = [queue.get() for _ in children]
    for child in children:
        child.join(PATIENCE)
    assert [text for _number, _run, text in answers if text] == []
    winners = sorted(run for _number, run, _text in answers if run > 0)
    # Whoever comes after the first has gone takes the lock from it: one after the other, never two at once.
    assert winners == list(range(1, len(winners) + 1)) and winners
    with Journal(path) as journal:
        for run in winners:
            seen = journal.run(run)
            assert seen is not None and [row["outcome"] for row in seen["jobs"]] == ["done"] * 3
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def _worker(path: Path, run: int, number: int, queue: Any) -> None:
    try:
        for turn in range(5):
            with Journal(path, create=False) as journal:
                journal.begin(run, job(f"host{number}-{turn}"))
            with Journal(path, create=False) as journal:
                journal.end(run, f"replace keystone@host{number}-{turn}", "done")
        queue.put("")
    except BaseException:
        queue.put(traceback.format_exc())


def test_the_workers_of_one_run_write_side_by_side(path: Path) -> None:
    with Journal(path) as journal:
        run = journal.start_run(PLAN)
    queue = FORK.SimpleQueue()
    children = [FORK.Process(target=_worker, args=(path, run, number, queue)) for number in range(8)]
    for child in children:
        child.start()
    assert [text for text in (queue.get() for _ in children) if text] == []
    for child in children:
        child.join(PATIENCE)
    with Journal(path) as journal:
        seen = journal.run(run)
        assert seen is not None and [row["outcome"] for row in seen["jobs"]] == ["done"] * 40


def _begin_and_die(path: Path) -> None:
    journal = Journal(path)
    run = journal.start_run(PLAN)
    journal.begin(run, job("ctl1"))
    os.kill(os.getpid(), 9)


def test_what_was_begun_survives_a_kill(path: Path) -> None:
    child = FORK.Process(target=_begin_and_die, args=(path,))
    child.start()
    child.join(PATIENCE)
    assert child.exitcode == -9
    with Journal(path, create=False) as journal:
        assert [row["host"] for row in journal.unfinished()] == ["ctl1"]
        journal.start_run(PLAN)
        assert [row["host"] for row in journal.unfinished()] == ["ctl1"]


# A journal that is damaged, or can't be written


def filled(path: Path) -> bytes:
    with Journal(path) as journal:
        run = journal.start_run({**PLAN, "notes": ["x" * 60_000]}, dead())
        journal.begin(run, job("ctl1"))
    return path.read_bytes()


def test_a_corrupted_journal(path: Path) -> None:
    content = filled(path)
    # The header and the root pages stay: what is wrong shows only to who reads all of it.
    path.write_bytes(content[:8192] + b"\xff" * 4096 + content[12288:])
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"(?s)damaged.*Nothing was begun.*Recovery"), Journal(path) as journal:
        journal.start_run(PLAN)
    assert path.read_bytes() == before


def test_a_journal_that_is_something_else(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("a text, and long enough to be looked at as though it were a database" * 20)
    with pytest.raises(JournalError, match="damaged"):
        Journal(path)
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE t (c)")
    other.close()
    with pytest.raises(JournalError, match="not a journal of"):
        Journal(path)


@pytest.mark.parametrize("keep", [0, 100, 5000, 20_000])
def test_a_truncated_journal(path: Path, keep: int) -> None:
    content = filled(path)
    assert len(content) > 40_000
    path.write_bytes(content[:keep])
    with pytest.raises(JournalError, match=r"(?s)(damaged|truncated).*Nothing was begun"), Journal(path) as journal:
        journal.start_run(PLAN)
    assert path.read_bytes() == content[:keep]


def _on_a_full_disk(path: Path, run: int) -> None:
    with Journal(path, create=False) as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, resource.RLIM_INFINITY))
        for number in range(200):
            try:
                journal.begin(run, job(f"full{number}"), {"filler": "y" * 2000})
            except JournalError as error:
                assert f"replace keystone@full{number} could not be begun" in str(error)
                assert "Is the disk full" in str(error)
                return
        raise AssertionError("the limit was never met")


def test_a_full_disk(path: Path) -> None:
    with Journal(path) as journal:
        run = journal.start_run(PLAN)
        journal.begin(run, job("ctl1"))
    in_child(_on_a_full_disk, path, run)
    with Journal(path) as journal:
        seen = journal.run(run)
        assert seen is not None and {row["host"] for row in seen["jobs"]} >= {"ctl1"}
        # What could not be recorded is not half there.
        journal.begin(run, job("ctl2"))
        assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def _create_on_a_full_disk(path: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    try:
        Journal(path)
    except JournalError as error:
        assert "Is the disk full" in str(error), error
        return
    raise AssertionError("it was made all the same")


def test_a_disk_too_full_for_a_new_journal_leaves_none_behind(path: Path) -> None:
    in_child(_create_on_a_full_disk, path)
    assert not path.exists()
    with Journal(path) as journal:
        assert journal.start_run(PLAN) == 1


def _as_nobody(path: Path) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    for work in (lambda: Journal(path), lambda: Journal(path.with_name("another"))):
        try:
            work()
        except JournalError as error:
            assert "must be able to write the file" in str(error), error
        else:
            raise AssertionError("it was opened all the same")


def test_a_journal_that_may_not_be_written() -> None:
    # Not tmp_path: its parents are closed to the user that root becomes here.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.sqlite"
        with Journal(path) as journal:
            journal.start_run(PLAN, dead())
        for entry in (path, path.with_name("journal.sqlite.lock")):
            entry.chmod(0o444)
        Path(folder).chmod(0o555)
        try:
            in_child(_as_nobody, path)
        finally:
            Path(folder).chmod(0o755)
        with Journal(path) as journal:
            assert (journal.run() or {})["id"] == 1


# Versions


def test_a_newer_schema_is_refused(path: Path) -> None:
    filled(path)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(JournalError, match="has schema 99, written by a newer"):
        Journal(path)


def test_an_older_schema_is_brought_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path)
    added = "ALTER TABLE runs ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue';"
    monkeypatch.setattr(_journal, "MIGRATIONS", (*_journal.MIGRATIONS, added))
    with Journal(path) as journal:
        assert [row["host"] for row in journal.unfinished()] == ["ctl1"]
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT colour FROM runs").fetchall() == [("blue",)]
        assert db.execute("PRAGMA user_version").fetchone() == (len(_journal.MIGRATIONS),)


def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path)
    wrong = "ALTER TABLE runs ADD COLUMN colour TEXT; ALTER TABLE nowhere ADD COLUMN colour TEXT;"
    with monkeypatch.context() as patch:
        patch.setattr(_journal, "MIGRATIONS", (*_journal.MIGRATIONS, wrong))
        with pytest.raises(JournalError, match="nowhere"):
            Journal(path)
    with Journal(path) as journal:
        assert [row["host"] for row in journal.unfinished()] == ["ctl1"]
    with sqlite3.connect(path) as db:
        assert "colour" not in [row[1] for row in db.execute("PRAGMA table_info(runs)")]


TEST = {"suite": "smoke", "name": "login", "service": "keystone", "outcome": "passed", "message": "", "seconds": 0.5}


def test_what_tests_said_is_kept_by_moment(path: Path) -> None:
    with Journal(path) as journal:
        assert journal.measurement("before") is None
        run = journal.start_run({"jobs": []})
        table = {**TEST, "name": "table", "measured": {"kind": "table", "servers": {}}}
        first = journal.measure("before", [TEST, {**TEST, "outcome": "failed"}, table], run, {"services": ["keystone"]})
        journal.measure("after", [TEST], run)
        found = journal.measurement("before", run)
    assert found is not None
    assert (found["id"], found["run"], found["moment"], found["seen"]) == (
        first,
        run,
        "before",
        {"services": ["keystone"]},
    )
    assert [(test["name"], test["outcome"]) for test in found["tests"]] == [("login", "failed"), ("table", "passed")]
    assert found["tests"][1]["measured"] == {"kind": "table", "servers": {}}


def test_a_baseline_needs_no_run(path: Path) -> None:
    with Journal(path) as journal:
        journal.measure("before", [TEST])
        found = journal.baseline()
        assert found is not None and found["run"] is None
        with pytest.raises(JournalError, match="holds no run 9"):
            journal.measure("before", [TEST], 9)


def test_the_baseline_is_that_from_before_the_upgrades_first_run(path: Path) -> None:
    """Runs 2 and 3 are one upgrade; 4 goes on from it, 5 takes 4 back, 6 is a new upgrade."""
    story = [
        ("upgrade", "done"),
        ("upgrade", "failed"),
        ("upgrade", "done"),
        ("upgrade", "failed"),
        ("revert", "failed"),
        ("revert", "done"),
        ("upgrade", "failed"),
    ]
    with Journal(path) as journal:
        measured = {}
        for kind, outcome in story:
            run = journal.start_run({"jobs": []}, kind=kind)
            if kind == "upgrade":
                measured[run] = journal.measure("before", [], run)
            journal.end_run(run, outcome)
        baselines = [(journal.baseline(run) or {})["run"] for run in range(1, 8)]
        last = journal.baseline()
    assert baselines == [1, 2, 2, 4, 4, 4, 7]
    assert last is not None and last["run"] == 7
