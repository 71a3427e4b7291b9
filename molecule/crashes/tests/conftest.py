# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An upgrade as a process that can be struck, its journal, and the two who watch: the probe and the observer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from laboratory import ROOT, Laboratory
from observer import Observer, observing
from steps import Step

from ansible_collections.rondo.upgrade.plugins.plugin_utils._journal import Journal

SCENARIO = ROOT / "molecule" / "crashes"
BALANCERS = ("lb1", "lb2")
MEMBERS = ("web1", "web2", "web3", "web4")
BACKEND = "web_back"
# Machines under load take many times as long; a run that works is never given up on.
PATIENCE = 1200


@dataclass(frozen=True)
class Strike:
    """At the start of `step` of a job of `kind` that `spare` does not name: kill the run after so many seconds, or run
    a command ({host}: the job's host; {earlier}: that of the first job). `later`: not in the first job of the run."""

    step: Step
    kind: str = "replace"
    spare: tuple[str, ...] = ()
    later: bool = False
    kill_after: float = 0.0
    command: tuple[str, ...] = ()


class Run:
    """An `ansible-playbook rondo.upgrade.upgrade` in a process group of its own."""

    def __init__(self, folder: Path, strike: Strike | None, **variables: Any) -> None:
        self._mark = folder / "mark.json"
        self._log = folder / "output.txt"
        environment = {
            **os.environ,
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACK_PLUGINS": str(SCENARIO / "callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "strike",
        }
        if strike is not None:
            environment["RONDO_STRIKE"] = json.dumps(
                {
                    "role": strike.step.role,
                    "task": strike.step.task,
                    "kind": strike.kind,
                    "spare": strike.spare,
                    "later": strike.later,
                    "mark": str(self._mark),
                    **({"command": strike.command} if strike.command else {"kill_after": strike.kill_after}),
                }
            )
        given = {"upgrade_directory": os.environ["LAB_BUILD"], **variables}
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    str(Path(sys.executable).parent / "ansible-playbook"),
                    f"--inventory={SCENARIO / 'inventory'}",
                    f"--extra-vars={json.dumps(given)}",
                    "rondo.upgrade.upgrade",
                ],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    @property
    def struck(self) -> dict[str, str] | None:
        """The job (`id`, `host`) that was struck, None as long as none was."""
        try:
            return dict(json.loads(self._mark.read_text()))
        except (OSError, ValueError):
            return None

    def end(self) -> int:
        """Wait; the exit code."""
        code = self.process.wait(timeout=PATIENCE)
        print(self.output)
        return code

    def wait_for(self, sight: Callable[[], object]) -> None:
        """Wait until something is to be seen. The run must not end before."""
        deadline = time.monotonic() + PATIENCE
        while not sight():
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.2)


@pytest.fixture(scope="session")
def lab() -> Laboratory:
    return Laboratory()


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Run]:
    """Starts an upgrade to a release of the lab's service."""

    def run(release: str, strike: Strike | None = None, **variables: Any) -> Run:
        return Run(Path(tempfile.mkdtemp(dir=tmp_path)), strike, web_release=release, **variables)

    return run


@pytest.fixture
def release(lab: Laboratory, start: Callable[..., Run]) -> str:
    """A release that no member runs yet. The lab is whole: what an earlier test left behind is brought to an end."""
    images = {lab.image(member, "web") for member in MEMBERS}
    if len(images) > 1 or not whole(lab, images.pop().rpartition(":")[2]):
        run = start("1")
        assert run.end() == 0, run.output
    return "1" if lab.image(MEMBERS[0], "web").endswith(":2") else "2"


def tables(lab: Laboratory) -> dict[tuple[str, str], str]:
    """The status of every member, by balancer and member; one late check ("UP 2/3") is none of our business."""
    return {
        (balancer, member): lab.servers(balancer)[BACKEND, member].split()[0]
        for balancer in BALANCERS
        for member in MEMBERS
    }


def whole(lab: Laboratory, release: str) -> bool:
    """Whether all members run the release, and all are in rotation everywhere."""
    images = {lab.image(member, "web").rpartition(":")[2] for member in MEMBERS}
    return images == {release} and set(tables(lab).values()) == {"UP"}


def journal(run: int | None = None) -> dict[str, Any]:
    """A run as the journal has it; the last one if not said which."""
    with Journal(Path(os.environ["LAB_BUILD"]) / "journal.sqlite", create=False) as book:
        found = book.run(run)
    assert found is not None
    return found


def unfinished() -> list[str]:
    """The ids of the jobs that the journal holds as begun and not ended."""
    path = Path(os.environ["LAB_BUILD"]) / "journal.sqlite"
    if not path.exists():
        return []
    with Journal(path, create=False) as book:
        return [job["id"] for job in book.unfinished()]


@dataclass
class Watch:
    """Filled when the watching ends."""

    requests: dict[str, Any]
    observer: Observer


@contextmanager
def watching(lab: Laboratory, folder: Path) -> Iterator[Watch]:
    folder.mkdir()
    with (
        observing(lab.name, folder, balancers=BALANCERS, backend=BACKEND, service="web", members=MEMBERS) as observer,
        probing(f"http://{lab.vip}:8000/", folder) as requests,
    ):
        yield Watch(requests, observer)


@contextmanager
def probing(url: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Sends requests; the dictionary is filled with the probe's summary when the context ends."""
    program = str(ROOT / "roles" / "probe" / "files" / "probe.py")
    configuration = folder / "probe.json"
    configuration.write_text(
        json.dumps({"rate": 15, "timeout": "30s", "start_timeout": "120s", "requests": [{"kind": "http", "url": url}]})
    )
    summary: dict[str, Any] = {}
    # Its output to a file: a background process that inherits a pipe keeps its reader waiting.
    with (folder / "start.log").open("w") as log:
        subprocess.run(
            [sys.executable, program, "start", str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
        )
    try:
        yield summary
    finally:
        subprocess.run(
            [sys.executable, program, "stop", str(configuration)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        summary.update(json.loads((folder / "summary.json").read_text()))


@pytest.fixture
def watch(lab: Laboratory, tmp_path: Path) -> AbstractContextManager[Watch]:
    """The probe and the observer, for as long as the context lasts."""
    return watching(lab, tmp_path / "watch")
