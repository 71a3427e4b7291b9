# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _control
from ansible_collections.rondo.upgrade.plugins.plugin_utils._control import Control
from ansible_collections.rondo.upgrade.plugins.plugin_utils._gate import Gate, Limit
from ansible_collections.rondo.upgrade.plugins.plugin_utils._journal import Journal, JournalError

JOB = {"id": "replace a@h1", "kind": "replace", "service": "a", "host": "h1"}


class Recorder:
    def __init__(self) -> None:
        self.told: list[str] = []

    def stop(self, reason: str) -> None:
        self.told.append(f"stop: {reason}")

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")

    def lose(self, instance: str) -> None:
        self.told.append(f"lose {instance}")

    def regain(self, instance: str) -> None:
        self.told.append(f"regain {instance}")


class Scene:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 0.0
        self.said: list[str] = []
        self.window = Recorder()
        with Journal(path) as journal:
            self.run = journal.start_run({"jobs": [JOB]})
        self.control = Control(str(path), self.run, self.said.append, clock=lambda: self.now)

    def obey(self, after: float = _control.ASK_SECONDS) -> list[str]:
        self.now += after
        self.window.told.clear()
        self.control.obey(self.window)
        return self.window.told


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "journal.sqlite")


def test_members_that_fail_by_themselves_are_lost_and_regained(tmp_path: Path) -> None:
    rows = {host: {"backend": "web_back", "name": host} for host in ("h1", "h2", "h3")}
    jobs = [{**JOB, "id": f"replace web@{host}", "host": host, "servers": [rows[host]]} for host in ("h1", "h2")]
    jobs.append({**JOB, "id": "replace db@h4", "host": "h4", "servers": [{"backend": "db_back", "name": "h4"}]})
    path = tmp_path / "journal.sqlite"
    said: list[str] = []
    window = Recorder()
    with Journal(path) as journal:
        run = journal.start_run({"jobs": jobs})
        for job, down in zip(jobs, ([rows["h3"]], [], []), strict=True):
            journal.begin(run, job)
            journal.end(run, job["id"], "done", {"down": down})
    members = {f"web@{host}": [row] for host, row in rows.items()}
    control = Control(str(path), run, said.append, members=members)
    # The last one has nothing to say about this backend.
    for job in (jobs[0], jobs[0], jobs[2]):
        control.look(window, job["id"])
    assert window.told == ["lose web@h3"]
    control.look(window, jobs[1]["id"])
    assert window.told == ["lose web@h3", "regain web@h3"]
    assert said == [
        "web@h3 does not serve any more: it counts as out from now on.",
        "web@h3 serves again.",
    ]


def test_requests_are_passed_on_once_and_in_order(scene: Scene) -> None:
    assert scene.obey() == []
    with Journal(scene.path) as journal:
        journal.request("pause")
        journal.request("resume")
    assert scene.obey(0.1) == []
    assert scene.obey() == ["pause", "resume"]
    assert scene.obey() == []
    with Journal(scene.path) as journal:
        journal.request("abort")
    [told] = scene.obey()
    assert told.startswith("stop: aborted by ")
    assert [line.split()[0] for line in scene.said] == ["Paused", "Resumed", "Aborted"]


def test_a_probe_that_dies_is_said_once(scene: Scene, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    process = subprocess.Popen(["sleep", "600"])

    def count(pid: int, running: bool = True) -> None:
        state.write_text(json.dumps({"running": running, "pid": pid, "sent": 9, "failed": 0}))

    def watched() -> list[str]:
        gate = Gate(str(state), Limit())
        scene.control = Control(None, None, scene.said.append, gate=gate, clock=lambda: scene.now)
        scene.said.clear()
        scene.obey()
        return scene.said

    try:
        count(process.pid)
        assert watched() == []
    finally:
        process.kill()
        process.wait()
    assert scene.obey() == [] and scene.obey() == []
    assert scene.said == [f"The probe that wrote {state} has died: failed requests do not stop this run any more."]
    # One that was dead before the run began, and one that has ended, are not missed.
    assert watched() == []
    count(os.getpid())
    assert watched() == []
    count(os.getpid(), running=False)
    scene.obey()
    assert scene.said == []


def test_an_unchanged_journal_is_not_opened(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.obey()
    scene.obey()

    def refuse(*_unused: object, **_also_unused: object) -> None:
        raise AssertionError("it was opened")

    with monkeypatch.context() as patch:
        patch.setattr(_control, "Journal", refuse)
        for _ in range(5):
            scene.obey()
    assert scene.said == []


class Closing:
    """A gate that closes at its second look."""

    def __init__(self) -> None:
        self.looks = 0

    def complaint(self) -> str:
        self.looks += 1
        return "3 of 100 requests failed" if self.looks > 1 else ""

    def lost(self) -> str:
        return ""


def test_failed_requests_stop_the_window_once_and_the_journal_keeps_why(scene: Scene) -> None:
    gate = Closing()
    scene.control = Control(str(scene.path), scene.run, scene.said.append, gate=gate, clock=lambda: scene.now)  # type: ignore[arg-type]
    assert scene.obey() == []
    assert scene.obey(0.1) == []
    assert scene.obey() == ["stop: 3 of 100 requests failed"]
    assert scene.obey() == []
    assert gate.looks == 2
    assert [line.split()[0] for line in scene.said] == ["Stopped:"]
    with Journal(scene.path) as journal:
        assert (journal.run() or {})["summaries"]["stopped"] == {"reason": "3 of 100 requests failed"}


def test_failed_requests_stop_a_window_without_a_journal_too() -> None:
    window, now = Recorder(), [0.0]
    control = Control(None, None, lambda line: None, gate=Closing(), clock=lambda: now[0])  # type: ignore[arg-type]
    for _turn in range(3):
        now[0] += _control.ASK_SECONDS
        control.obey(window)
    assert window.told == ["stop: 3 of 100 requests failed"]


def test_the_heartbeat_goes_on(scene: Scene) -> None:
    with Journal(scene.path) as journal:
        before = (journal.run() or {})["heartbeat"]
    scene.obey(_control.HEARTBEAT_SECONDS + 1)
    with Journal(scene.path) as journal:
        assert (journal.run() or {})["heartbeat"] > before


def test_a_lost_lock_stops_the_window(scene: Scene) -> None:
    with Journal(scene.path) as journal:
        journal.end_run(scene.run, "lost")
    [told] = scene.obey(_control.HEARTBEAT_SECONDS + 1)
    assert told.startswith("stop: Run 1 has ended")
    assert scene.obey() == []
    # And what fails then is still said, if no longer recorded.
    scene.control.failed("replace a@h1", "h1 became unreachable")
    assert scene.said[-1] == "replace a@h1 failed: h1 became unreachable."


def test_a_failure_is_recorded(scene: Scene) -> None:
    with Journal(scene.path) as journal:
        journal.begin(scene.run, JOB)
    scene.control.failed("replace a@h1", "h1 became unreachable")
    with Journal(scene.path) as journal:
        [job] = (journal.run() or {})["jobs"]
    assert (job["outcome"], job["details"]) == ("failed", {"reason": "h1 became unreachable"})


def test_a_failure_that_cannot_be_recorded_is_said(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_unused: object, **_also_unused: object) -> None:
        raise JournalError("the disk is full")

    monkeypatch.setattr(_control, "Journal", refuse)
    scene.control.failed("replace a@h1", "h1 became unreachable")
    assert scene.said == ["replace a@h1 failed: h1 became unreachable.", "the disk is full"]


def test_ctrl_c_once_and_twice(scene: Scene, request: pytest.FixtureRequest) -> None:
    # A shell's background jobs have it ignored.
    request.addfinalizer(functools.partial(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.getsignal(signal.SIGINT)
    with scene.control.interruptible():
        os.kill(os.getpid(), signal.SIGINT)
        assert scene.obey() == ["stop: interrupted by Ctrl-C"]
        assert scene.obey() == []
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert len(scene.said) == 1


def test_without_a_journal_only_ctrl_c_reaches_the_window() -> None:
    said: list[str] = []
    window = Recorder()
    control = Control(None, None, said.append, clock=lambda: 100.0)
    control.obey(window)
    control.failed("replace a@h1", "h1 became unreachable")
    with control.interruptible():
        os.kill(os.getpid(), signal.SIGINT)
    control.obey(window)
    assert window.told == ["stop: interrupted by Ctrl-C"]
