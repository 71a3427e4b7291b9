# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from ansible_collections.rondo.upgrade.plugins.plugin_utils._tests_page import unfinished

PLANNED: list[dict[str, Any]] = [
    {"id": "expand web@web1", "kind": "expand", "service": "web", "instance": None},
    {"id": "replace web@web1", "kind": "replace", "service": "web", "instance": "web@web1"},
    {"id": "replace web@web2", "kind": "replace", "service": "web", "instance": "web@web2"},
    {"id": "settle db@db1", "kind": "settle", "service": "db", "instance": None},
]


def run(kind: str, *done: str, failed: str = "") -> dict[str, Any]:
    jobs = [{"id": name, "outcome": "done"} for name in done] + [{"id": failed, "outcome": "failed"}]
    return {"kind": kind, "plan": {"jobs": PLANNED}, "jobs": jobs}


def test_what_a_run_did_not_come_to_may_be_as_it_was() -> None:
    everything = [row["id"] for row in PLANNED]
    instances = ["web@web1", "web@web2", "cache@c1"]
    assert unfinished({}, instances) == ([], [])
    assert unfinished(run("upgrade", *everything), instances) == ([], ["db"])
    assert unfinished(run("revert", *everything), instances) == (["cache@c1"], ["db"])
    # A schema step that is not done stands for its service.
    begun = run("upgrade", "replace web@web1", "settle db@db1", failed="expand web@web1")
    assert unfinished(begun, instances) == (["web", "web@web2"], ["db"])
