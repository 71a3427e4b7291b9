# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The upgrade as a test runs it, the lab as it was before, and a probe around both."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))

from driven import Driven
from laboratory import KEYSTONE, ROOT, Laboratory, declared_services, keystone_load
from observer import Watch, watching

INVENTORY = ROOT / "inventories" / "lab"


@dataclass(frozen=True)
class Outcome:
    """How a playbook ended. `changed` are the hosts on which it changed something; `events`: docs/live.md."""

    code: int
    output: str
    changed: dict[str, int]
    events: list[dict[str, Any]]


@pytest.fixture(scope="session")
def lab() -> Laboratory:
    return Laboratory()


@pytest.fixture
def declared() -> dict[str, Any]:
    """upgrade_services of the lab's inventory, for a test to make something wrong in."""
    return declared_services(INVENTORY)


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., Outcome]:
    """Runs a playbook of the collection against the lab."""

    def run(playbook: str = "rondo.upgrade.upgrade", *, options: str = "", **variables: Any) -> Outcome:
        driven = Driven(tmp_path, INVENTORY, playbook, *options.split(), **variables)
        code = driven.end()
        return Outcome(code=code, output=driven.output, changed=driven.changed, events=driven.events)

    return run


@pytest.fixture
def picture(lab: Laboratory) -> Callable[[], dict[str, Any]]:
    """All that an upgrade could touch: containers (which, of what image, since when), balancers' states, the schema."""

    def look() -> dict[str, Any]:
        ids = subprocess.run(
            ["docker", "ps", "--all", "--quiet", "--filter", f"label=rondo.upgrade.lab={lab.name}"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        records = json.loads(
            subprocess.run(["docker", "inspect", *ids], capture_output=True, text=True, check=True).stdout
        )
        return {
            "containers": {
                one["Name"]: (one["Id"], one["Image"], one["State"]["Status"], one["State"]["StartedAt"])
                for one in records
            },
            # "UP 2/3" is one late check of a server that is up.
            "servers": {
                balancer: {row: status.split()[0] for row, status in lab.servers(balancer).items()}
                for balancer in ("lb1", "lb2")
            },
            "schema": lab.container("ctl3", "keystone").run("keystone-manage db_sync --check").rc,
        }

    return look


@contextmanager
def paused(container: str) -> Iterator[None]:
    """A container whose processes stand still: what talks to it gets no answer, and no refusal either."""
    subprocess.run(["docker", "pause", container], capture_output=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["docker", "unpause", container], capture_output=True, check=True)


@pytest.fixture
def pause() -> Callable[[str], AbstractContextManager[None]]:
    return paused


@pytest.fixture
def watch(lab: Laboratory, tmp_path: Path) -> AbstractContextManager[Watch]:
    """The lab's load and the observer, for as long as the context lasts."""
    return watching(
        lab,
        tmp_path / "watch",
        keystone_load(lab),
        **KEYSTONE,
    )
