# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A suite of somebody's own, for pytest-testinfra: one test that passes, and one that never did."""

from __future__ import annotations

from typing import Any


def test_ssh_answers(host: Any) -> None:
    assert host.file("/etc/ssh/authorized_keys").exists


def test_that_never_passed(host: Any) -> None:
    assert host.file("/etc/nowhere").exists
