# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kolla-Ansible's own multinode inventory, with the sample declaration, rehearsed to its end, and in time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 3600.0
# On two cores. A machine that is busy otherwise takes longer.
MOST_SECONDS = 900.0


@pytest.fixture
def inventory(kolla: Path, tmp_path: Path) -> Path:
    """Kolla's multinode inventory, with our group_vars beside it."""
    shutil.copytree(ROOT / "inventories" / "kolla", tmp_path / "inventory")
    shutil.copy(kolla / "multinode", tmp_path / "inventory" / "multinode")
    return tmp_path / "inventory" / "multinode"


def test_kollas_multinode_inventory_is_rehearsed_to_its_end(inventory: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "tools" / "images.py"), "rehearsal"], check=True, timeout=PATIENCE)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", str(inventory), "rondo.upgrade.rehearse",
         "-e", "rehearse_node_image=rondo/rehearsal:trixie", "-e", "rehearse_images=none"],
        cwd=tmp_path,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
            "ANSIBLE_HOME": str(tmp_path / "home"),
            "ANSIBLE_TRANSFORM_INVALID_GROUP_CHARS": "ignore",
        },
        timeout=PATIENCE,
        check=False,
    )  # fmt: skip
    took = time.monotonic() - began
    print(f"\nthe whole rehearsal took {took:.0f} s on {os.cpu_count()} cores")
    assert done.returncode == 0
    rehearsed = json.loads((tmp_path / "build" / "rehearsal" / "rehearsal.json").read_text(encoding="utf-8"))
    assert rehearsed["verdict"] == "clean"
    assert len(rehearsed["production"]["services"]) == 18
    report = json.loads((tmp_path / "build" / "rehearsal" / "report" / "report.json").read_text(encoding="utf-8"))
    assert len(report["timeline"]) == rehearsed["production"]["jobs"]
    assert {row["outcome"] for row in report["timeline"]} == {"done"}
    assert took < MOST_SECONDS
