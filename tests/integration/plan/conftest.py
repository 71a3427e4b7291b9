# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]

Play = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Run a playbook (plays, or a file) in an empty directory, over an inventory; never looks at the exit code."""

    def run(inventory: dict[str, Any], plays: list[Any] | Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        hosts = tmp_path / "hosts.yml"
        hosts.write_text(yaml.safe_dump(inventory), encoding="utf-8")
        if isinstance(plays, list):
            book = tmp_path / "playbook.yml"
            book.write_text(yaml.safe_dump(plays, sort_keys=False), encoding="utf-8")
        else:
            book = plays
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
            "ANSIBLE_HOME": str(tmp_path / "home"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_RETRY_FILES_ENABLED": "0",
        }
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(hosts), str(book), *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=600
        )

    return run
