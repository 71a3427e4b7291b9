# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The artifact that people install: built, put into an empty path, and run from there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from laboratory import ROOT

BIN = Path(sys.executable).parent


def run(*words: str, **environment: str) -> str:
    done = subprocess.run(
        [str(BIN / words[0]), *words[1:]],
        cwd=environment.pop("cwd", str(ROOT)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_built_artifact_plans_from_an_empty_path(tmp_path: Path) -> None:
    run("ansible-galaxy", "collection", "build", "--output-path", str(tmp_path))
    (tarball,) = tmp_path.glob("rondo-upgrade-*.tar.gz")
    path = tmp_path / "collections"
    installed = {"ANSIBLE_COLLECTIONS_PATH": str(path)}
    run(
        "ansible-galaxy",
        "collection",
        "install",
        "--offline",
        "--collections-path",
        str(path),
        str(tarball),
        **installed,
    )
    output = run(
        "ansible-playbook",
        "--inventory",
        str(ROOT / "inventories" / "lab"),
        "--extra-vars",
        f"upgrade_directory={tmp_path}/build",
        "rondo.upgrade.plan",
        cwd=str(tmp_path),
        **installed,
    )
    assert "PLAN" in output
    assert (tmp_path / "build" / "plan" / "plan.json").exists()
