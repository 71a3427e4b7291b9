# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An upgrade as a process that can be struck, its journal, and the two who watch: the probe and the observer."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import laboratory
import own_engine
from laboratory import ROOT, Laboratory, journal_path, journal_run, web_load
from observer import Watch, watching
from steps import Step

from ansible_collections.rondo.upgrade.plugins.plugin_utils._journal import Journal

SCENARIO = ROOT / "molecule" / "crashes"
INVENTORY = SCENARIO / "inventory"
BALANCERS = ("lb1", "lb2")
MEMBERS = ("web1", "web2", "web3", "web4")
BACKEND = "web_back"


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


class Run(laboratory.Run):
    """An upgrade, or another playbook, that the callback `strike` strikes."""

    def __init__(self, folder: Path, strike: Strike | None, playbook: str, **variables: Any) -> None:
        self._mark = folder / "mark.json"
        environment = {
            "ANSIBLE_CALLBACK_PLUGINS": str(SCENARIO / "callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "strike",
            "ANSIBLE_ROLES_PATH": str(SCENARIO / "roles"),
            "RONDO_STRIKER": str(folder),
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
        super().__init__(folder, INVENTORY, f"rondo.upgrade.{playbook}", environment=environment, **variables)

    def survivors(self) -> list[str]:
        """Processes of the run that are there, except SSH's shared connections, which outlive every run."""
        mark = f"RONDO_STRIKER={self._mark.parent}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if mark in (process / "environ").read_bytes().split(b"\0") and "[mux]" not in command:
                    found.append(command)
            except OSError:
                continue
        return found

    @property
    def struck(self) -> dict[str, Any] | None:
        """The job (`id`, `host`) that was struck, None as long as none was; `killed`: how many processes died."""
        try:
            return dict(json.loads(self._mark.read_text()))
        except (OSError, ValueError):
            return None


@pytest.fixture(scope="session")
def lab() -> Laboratory:
    return Laboratory()


@pytest.fixture
def start(lab: Laboratory, tmp_path: Path) -> Callable[..., Run]:
    """Starts an upgrade to a release of the lab's service."""

    def run(release: str, strike: Strike | None = None, playbook: str = "upgrade", **variables: Any) -> Run:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        engines = dict.fromkeys(lab.engines, own_engine.ADDRESS)
        return Run(folder, strike, playbook, web_release=release, web_engines=engines, **variables)

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
    found = journal_run(run)
    assert found is not None
    return found


def unfinished() -> list[str]:
    """The ids of the jobs that the journal holds as begun and not ended."""
    if not journal_path().exists():
        return []
    with Journal(journal_path(), create=False) as book:
        return [job["id"] for job in book.unfinished()]


@pytest.fixture
def watch(lab: Laboratory, tmp_path: Path) -> AbstractContextManager[Watch]:
    """The probe and the observer, for as long as the context lasts."""
    return watching(
        lab, tmp_path / "watch", web_load(lab), backend=BACKEND, service="web", members=MEMBERS, elsewhere=lab.engines
    )
