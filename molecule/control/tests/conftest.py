# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks as processes, so that one can be told something while it runs; the journal; and the two who watch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))

from driven import Driven
from laboratory import KEYSTONE, ROOT, Laboratory, declared_services, journal_run, keystone_load
from observer import Watch, watching

INVENTORY = ROOT / "inventories" / "lab"


@pytest.fixture(scope="session")
def lab() -> Laboratory:
    return Laboratory()


@pytest.fixture
def declared() -> dict[str, Any]:
    """upgrade_services of the lab's inventory, for a test to change something in."""
    return declared_services(INVENTORY)


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Driven]:
    """Starts a playbook of the collection against the lab."""

    def run(playbook: str, *options: str, **variables: Any) -> Driven:
        return Driven(tmp_path, INVENTORY, f"rondo.upgrade.{playbook}", *options, **variables)

    return run


@pytest.fixture
def journal() -> Callable[[], dict[str, Any] | None]:
    return journal_run


@pytest.fixture
def watch(lab: Laboratory, tmp_path: Path) -> AbstractContextManager[Watch]:
    """The observer, and the lab's load from where the playbooks look for a probe that runs."""
    return watching(
        lab,
        tmp_path / "watch",
        keystone_load(lab),
        **KEYSTONE,
        probe_folder=Path(os.environ["LAB_BUILD"]) / "probe",
    )
