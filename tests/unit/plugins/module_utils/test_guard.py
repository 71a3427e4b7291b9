# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.module_utils._guard import GuardError, alone, lock_path

KEEP = (
    "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
)


def fence(token: int, owner: str = "deploy1:/build") -> dict[str, Any]:
    return {"token": token, "owner": owner}


def keeper(path: str) -> subprocess.Popen[str]:
    """Another process that has the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", KEEP, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_one_that_is_at_work_is_waited_for(tmp_path: Path) -> None:
    folder = str(tmp_path)
    with keeper(lock_path("web", folder)) as other:
        refused = pytest.raises(GuardError, match=r"at work on web for more than 0\.2 s")
        with refused, alone("web", None, folder=folder, wait=0.2):
            raise AssertionError
        with alone("another", None, folder=folder, wait=0.2):
            pass
        other.kill()
        # The lock goes with its process, however that ends.
        with alone("web", None, folder=folder):
            pass


def test_a_run_that_is_over_does_nothing_any_more(tmp_path: Path) -> None:
    folder = str(tmp_path)
    for token in (7, 7, 8):
        with alone("web", fence(token), folder=folder):
            pass
    refused = pytest.raises(GuardError, match=r"a later run \(token 8\) has been at work on web; this one \(token 7\)")
    with refused, alone("web", fence(7), folder=folder):
        raise AssertionError
    with alone("another", fence(7), folder=folder):
        pass


def test_tokens_of_several_owners_do_not_compare(tmp_path: Path) -> None:
    for given in (fence(8), fence(3, "deploy2:/build"), fence(5), None):
        with alone("web", given, folder=str(tmp_path)):
            pass


@pytest.mark.parametrize("content", ["", "no JSON", "[]", '{"token": null, "owner": "deploy1:/build"}'])
def test_a_damaged_file_stands_in_nobodys_way(tmp_path: Path, content: str) -> None:
    Path(lock_path("web", str(tmp_path))).write_text(content, encoding="utf-8")
    with alone("web", fence(1), folder=str(tmp_path)):
        pass


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(GuardError, match="can't be opened"), alone("web", None, folder=str(tmp_path / "none")):
        raise AssertionError
