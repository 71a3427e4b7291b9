# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.callback.progress import job_line
from ansible_collections.rondo.upgrade.plugins.plugin_utils._events import message


def ended(**others: Any) -> dict[str, Any]:
    artifact = {"kind": "container", "name": "keystone", "target": "registry:5000/keystone:29.1.0"}
    job = {
        "kind": "replace", "service": "keystone", "host": "ctl1", "instance": "keystone@ctl1",
        "running": "registry:5000/keystone:28.1.0", "artifact": artifact, "took": 11.3, "outcome": "done",
    }  # fmt: skip
    return {"state": "ended", "position": 2, "total": 5, "job": {**job, **others}}


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (ended(), "keystone@ctl1 replaced 28.1.0 -> 29.1.0 in 11 s (2 of 5)"),
        (ended(outcome="failed", took=2.04), "keystone@ctl1 failed in 2.0 s (2 of 5)"),
        (
            ended(running="other/keystone:28.1.0"),
            "keystone@ctl1 replaced other/keystone:28.1.0 -> registry:5000/keystone:29.1.0 in 11 s (2 of 5)",
        ),
        (
            ended(kind="expand", instance=None, running="", artifact=None),
            "keystone expanded in 11 s (2 of 5)",
        ),
        ({**ended(), "state": "begun"}, "keystone@ctl1 replace begins: 28.1.0 -> 29.1.0"),
        ({"changed": True, "run": 3, "token": 7}, None),
        ({"skipped": True}, None),
    ],
)
def test_lines_of_jobs(result: dict[str, Any], line: str | None) -> None:
    assert job_line(result) == line


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ({"msg": "no such image", "changed": False}, "no such image"),
        (
            {"msg": "non-zero return code", "rc": 2, "stderr": "line 1\nline 2\n"},
            "non-zero return code\nline 1\nline 2",
        ),
        ({"msg": {"errors": ["a", "b"]}}, '{"errors": ["a", "b"]}'),
        ({"censored": "the output has been hidden", "msg": "sesame"}, "the output has been hidden"),
        ({"reason": "no such file", "msg": "no such file"}, "no such file"),
        ({}, "no message"),
    ],
)
def test_messages_are_shown_in_full(result: dict[str, Any], text: str) -> None:
    assert message(result) == text
