# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a run is struck, with what, and how it is brought to its end afterwards."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from conftest import MEMBERS, Run, unfinished, whole
from laboratory import Laboratory
from observer import Watch
from steps import Step

BEGIN = Step("rondo.upgrade.instance", "Record that the job begins")
DRAIN = Step("rondo.upgrade.drain", "Drain it on all balancers")
REPLACE = Step("rondo.upgrade.replace_container", "Replace the container")
UNDO = Step("rondo.upgrade.replace_container", "Put the old container back")
RETURN = Step("rondo.upgrade.return", "Return it on all balancers")
END = Step("rondo.upgrade.instance", "Record that the job has ended well")
EVIDENCE = Step("rondo.upgrade.database", "Ask every host of the service what it runs")

Start = Callable[..., Run]
Watching = AbstractContextManager[Watch]


def docker(*words: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=check)
    return done.stdout.strip()


def shell(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


def finish(lab: Laboratory, start: Start, release: str, **variables: Any) -> Run:
    """The next upgrade brings everything to its end."""
    run = start(release, **variables)
    assert run.end() == 0, run.output
    assert whole(lab, release)
    assert unfinished() == []
    return run


def images(lab: Laboratory) -> dict[str, str]:
    return {member: lab.image(member, "web").rpartition(":")[2] for member in MEMBERS}


@contextmanager
def healed(*commands: tuple[str, ...]) -> Iterator[None]:
    """Docker commands that take a fault away again, however the test ends."""
    try:
        yield
    finally:
        for command in commands:
            docker(*command, check=False)
