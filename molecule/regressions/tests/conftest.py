# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab, playbooks against it, and Tempest in a virtual environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))

from laboratory import ROOT, Laboratory, Run

INVENTORY = ROOT / "molecule" / "regressions" / "inventory"
ROLES = ROOT / "molecule" / "regressions" / "roles"
TEMPEST = ROOT / ".cache" / "tempest"
# junitxml: what subunit2junitxml writes with.
PACKAGES = ("tempest==47.0.0", "junitxml==0.7")


@pytest.fixture(scope="session")
def lab() -> Laboratory:
    return Laboratory()


@pytest.fixture(scope="session", autouse=True)
def tempest() -> None:
    """Made once, and kept in the cache."""
    done = TEMPEST / "packages"
    if done.exists() and done.read_text() == " ".join(PACKAGES):
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(TEMPEST)], check=True)
    subprocess.run([str(TEMPEST / "bin" / "pip"), "install", "--quiet", *PACKAGES], check=True)
    done.write_text(" ".join(PACKAGES))


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., Run]:
    """Runs a playbook to its end; `code` is how it ended."""

    def run(playbook: str, *options: str, **variables: Any) -> Run:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        environment = {"ANSIBLE_ROLES_PATH": str(ROLES), "no_proxy": "*"}
        started = Run(folder, INVENTORY, playbook, *options, environment=environment, **variables)
        started.end()
        return started

    return run


@pytest.fixture
def report() -> Callable[[], dict[str, Any]]:
    """report.json, as it is now."""

    def read() -> dict[str, Any]:
        path = Path(os.environ["LAB_BUILD"]) / "report" / "report.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    return read
