# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _plan_file

PLAN = {"schema": 1, "digests": {"declaration": "d1", "state": "s1"}, "jobs": [{"id": "replace keystone@ctl1"}]}


def test_written_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "plan" / "plan.json"
    assert _plan_file.write(path, _plan_file.text(PLAN)) is True
    assert _plan_file.write(path, _plan_file.text(PLAN)) is False
    assert _plan_file.read(path) == PLAN
    assert [entry.name for entry in path.parent.iterdir()] == ["plan.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "can't be read"), ("{", "is not JSON"), ("[]", "has schema None"), ('{"schema": 7}', "has schema 7")],
)
def test_unreadable_plans_say_what_to_do(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "plan.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(_plan_file.PlanFileError, match=message):
        _plan_file.read(path)
    assert _plan_file.last(path) is None


def test_plan_for_the_same_state_is_not_refused() -> None:
    assert _plan_file.refusal(Path("plan.json"), PLAN, {**PLAN, "jobs": []}, []) == ""


@pytest.mark.parametrize(
    ("digests", "what"),
    [
        ({"declaration": "d1", "state": "s2"}, "another state: what runs changed"),
        ({"declaration": "d2", "state": "s1"}, "another state: the declaration changed"),
        ({"declaration": "d2", "state": "s2"}, "the declaration and what runs changed"),
    ],
)
def test_refusal_says_what_changed(digests: dict[str, str], what: str) -> None:
    told = _plan_file.refusal(Path("plan.json"), PLAN, {**PLAN, "digests": digests}, ["keystone@ctl2: has gone"])
    assert what in told
    assert "\n  - keystone@ctl2: has gone" in told


def test_another_method_is_another_plan() -> None:
    made, now = ({**PLAN, "services": [{"name": "keystone", "method": method}]} for method in ("hold", "held_switch"))
    told = _plan_file.refusal(Path("plan.json"), made, now, ["keystone: its method is held_switch, was hold"])
    assert "what fits the traffic and the room, and so a method, changed since" in told
    assert _plan_file.refusal(Path("plan.json"), made, made, []) == ""
