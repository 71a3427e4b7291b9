# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._gate import Counts, Gate, Limit, LimitError, look

FAILURE = {
    "request": "token_issue",
    "url": "http://vip/v3",
    "at": "2026-11-22T10:00:00Z",
    "reason": "status 503, not 201",
}


def write(path: Path, sent: int, failed: int, **others: Any) -> None:
    last = FAILURE if failed else None
    state = {"running": True, "pid": os.getpid(), "sent": sent, "failed": failed, "last_failure": last, **others}
    path.write_text(json.dumps(state), encoding="utf-8")


@pytest.mark.parametrize(
    ("said", "sent", "allowed"),
    [(0, 5000, 0), ("3", 5000, 3), ("1%", 10, 1), ("1%", 5000, 50), ("0.5 %", 1000, 5), ("0%", 1000, 0)],
)
def test_how_many_may_fail(said: Any, sent: int, allowed: int) -> None:
    limit = Limit.of(said)
    assert limit.allowed(sent) == allowed
    assert limit.complaint(Counts(sent, allowed)) == ""
    assert limit.complaint(Counts(sent, allowed + 1)).startswith(f"{allowed + 1} of {sent} requests")


@pytest.mark.parametrize("said", ["", "few", "-1", "101%", "1.5", None, [1]])
def test_what_is_no_limit_is_told(said: Any) -> None:
    with pytest.raises(LimitError, match="upgrade_max_failed_requests is"):
        Limit.of(said)


def test_nobody_who_runs_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    assert look(None) is None
    assert look(path) is None
    path.write_text("{", encoding="utf-8")
    assert look(path) is None
    write(path, 10, 10, running=False)
    assert look(path) is None
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    write(path, 10, 10, pid=int(dead.stdout))
    assert look(path) is None
    assert Gate(str(path), Limit()).complaint() == ""


def test_what_failed_before_the_run_does_not_close_the_gate(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write(path, 100, 7)
    gate = Gate(str(path), Limit())
    assert gate.complaint() == ""
    write(path, 150, 8)
    complaint = gate.complaint()
    assert complaint.startswith("1 of 50 requests of the probe failed")
    assert "token_issue http://vip/v3 at 2026-11-22T10:00:00Z: status 503" in complaint


def test_a_probe_that_was_started_again_counts_from_zero(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write(path, 100, 7)
    gate = Gate(str(path), Limit())
    write(path, 20, 0)
    assert gate.complaint() == ""
    write(path, 30, 2)
    assert gate.complaint().startswith("2 of 30")
