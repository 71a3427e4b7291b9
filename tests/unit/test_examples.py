# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CI examples of the documentation are what their systems accept, by these systems' own schemas."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
SCHEMAS = {"github-actions.yml": "vendor.github-workflows", "gitlab-ci.yml": "vendor.gitlab-ci"}


def checked(schema: str, path: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "check-jsonschema"), "--builtin-schema", schema]
    # GitLab's own tags are no plain YAML.
    return subprocess.run(
        [*command, "--data-transform", "gitlab-ci", str(path)] if "gitlab" in schema else [*command, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_example_is_checked() -> None:
    assert sorted(path.name for path in EXAMPLES.iterdir()) == sorted(SCHEMAS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_example_is_right(name: str) -> None:
    done = checked(SCHEMAS[name], EXAMPLES / name)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("github-actions.yml", "runs-on:", "runs-in:"),
        ("gitlab-ci.yml", "  script:", "  scripts:"),
    ],
)
def test_a_mistake_would_be_found(tmp_path: Path, name: str, right: str, wrong: str) -> None:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert right in text
    (tmp_path / name).write_text(text.replace(right, wrong), encoding="utf-8")
    assert checked(SCHEMAS[name], tmp_path / name).returncode == 1
