# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The strategy and the exported playbook, one after the other on one lab: the same end state, journal and report."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from conftest import Left
from observer import Watch

Upgrade = Callable[..., Left]
Watching = AbstractContextManager[Watch]


def told(value: Any, names: dict[str, str]) -> str:
    """A value as text, in which releases have the names given, and ids, seconds and numbers of attempts have none."""
    text = re.sub(r"\b[0-9a-f]{12,64}\b", "ID", str(value))
    text = re.sub(r"\b\d+(\.\d+)? ?(s|attempts)\b", r"N \2", text)
    return re.sub(r"(rondo/web:|')([12])(?=')", lambda found: found[1] + names.get(found[2], found[2]), text)


def same(strategy: Left, exported: Left, old: str, new: str) -> None:
    """`strategy` went from one release to the other, `exported` back."""
    there, back = {old: "OLD", new: "NEW"}, {new: "OLD", old: "NEW"}
    assert strategy.code == exported.code
    for part in ("cluster", "journal", "report"):
        assert told(getattr(strategy, part), there) == told(getattr(exported, part), back), part


def test_both_reach_the_same_end(upgrade: Upgrade, watch: Watching) -> None:
    with watch as seen:
        strategy = upgrade("2", exported=False)
        exported = upgrade("1", exported=True)
    assert strategy.code == 0
    assert strategy.report["verdict"] == exported.report["verdict"] == "done"
    assert set(exported.cluster["images"].values()) == {"rondo/web:1"}
    assert all(exported.cluster["fences"].values())
    same(strategy, exported, "1", "2")
    # No third-party strategy was at work in it, and both kept the budgets.
    assert "strategy plugins" in strategy.output
    assert "strategy plugins" not in exported.output
    seen.clean()
    assert seen.observer.greatest() == 1


def test_both_fail_in_the_same_way(upgrade: Upgrade, watch: Watching) -> None:
    # The bad one is waited for that long; the old one then has to be healthy within it, on any machine.
    bad = {"upgrade_on_failure": "revert", "web_healthy_deadline": "45s"}
    with watch as seen:
        strategy = upgrade("2-unhealthy", exported=False, **bad)
        exported = upgrade("2-unhealthy", exported=True, **bad)
    assert strategy.code != 0 and exported.code != 0
    assert exported.report["verdict"] == "failed"
    assert exported.journal["stopped"] == "1 job of web failed; upgrade_max_failures is 0"
    # Both left all members as they were, and in rotation.
    for one in (strategy, exported):
        assert set(one.cluster["images"].values()) == {"rondo/web:1"}
        assert {state for rows in one.cluster["servers"].values() for state in rows.values()} == {"UP"}
        assert [row[1] for name, row in one.journal["jobs"] if name.startswith("replace ")] == ["failed"]
        assert one.journal["outcome"] == "failed"
    assert sorted(map(str, strategy.report["instances"].values())) == sorted(
        map(str, exported.report["instances"].values())
    )
    assert told(strategy.journal["reasons"], {}) == told(exported.journal["reasons"], {})
    seen.clean()
