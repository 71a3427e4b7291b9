# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.rondo.upgrade.plugins.plugin_utils._export import playbook, plays

PLAN = json.loads((Path(__file__).parent / "sample_plan.json").read_text(encoding="utf-8"))


def _job(kind: str, service: str, host: str) -> dict[str, Any]:
    return {"id": f"{kind} {service}@{host}", "kind": kind, "service": service, "host": host}


def _plan(*rounds: list[dict[str, Any]]) -> dict[str, Any]:
    jobs = [job for together in rounds for job in together]
    return {**PLAN, "jobs": jobs, "rounds": [[job["id"] for job in together] for together in rounds]}


def test_rounds_of_one_that_follow_each_other_are_one_play_in_plan_order() -> None:
    belongs, _, expand, replace, contract, end = yaml.safe_load(playbook(PLAN, "up.plan.json"))
    kept = belongs["tasks"][0]["ansible.builtin.set_fact"]
    assert kept == {"upgrade_plan_file": "{{ playbook_dir }}/up.plan.json"}
    assert expand["hosts"] == ["ctl1"]
    assert replace["hosts"] == ["ctl3", "ctl1", "ctl2"]
    assert replace["serial"] == [1, 1, 1]
    assert replace["any_errors_fatal"] is True
    assert replace["name"] == "Rounds 2 to 4 of 5, replace keystone on ctl3, ctl1, ctl2"
    assert replace["vars"]["upgrade_round"]["ctl2"] == "replace keystone@ctl2"
    assert contract["vars"]["upgrade_round"] == {"ctl1": "contract keystone@ctl1"}
    assert end["ansible.builtin.import_playbook"] == "rondo.upgrade.parts.end"


def test_a_round_of_several_hosts_does_not_stop_healthy_ones_but_all_that_follows() -> None:
    plan = _plan([_job("replace", "nova", "c1"), _job("replace", "glance", "g1")], [_job("replace", "nova", "c2")])
    _, _, together, gate, alone, _ = yaml.safe_load(playbook(plan, "p"))
    assert together["serial"] == [2]
    assert "any_errors_fatal" not in together
    assert together["name"] == "Round 1 of 2, replace nova on c1, replace glance on g1"
    assert gate["hosts"] == "localhost"
    assert gate["vars"]["upgrade_round"] == {"c1": "replace nova@c1", "g1": "replace glance@g1"}
    assert alone["hosts"] == ["c2"]
    assert alone["any_errors_fatal"] is True


@pytest.mark.parametrize(
    "second",
    [_job("replace", "glance", "b"), _job("contract", "nova", "b"), _job("replace", "nova", "a")],
    ids=["another service", "another kind", "the same host again"],
)
def test_rounds_stay_apart_for(second: dict[str, Any]) -> None:
    assert [play.first for play in plays(_plan([_job("replace", "nova", "a")], [second]))] == [1, 2]


def test_every_job_of_a_plan_is_in_exactly_one_play() -> None:
    told = [job["id"] for play in plays(PLAN) for job in play.jobs]
    assert told == [job["id"] for job in PLAN["jobs"]]


def test_an_empty_plan_still_looks_and_reports() -> None:
    assert len(yaml.safe_load(playbook(_plan(), "p"))) == 3


def test_the_text_is_clean_for_yamllint(tmp_path: Path) -> None:
    plan = _plan([_job("replace", "nova", "c1"), _job("replace", "glance", "g1")], [_job("replace", "nova", "c2")])
    path = tmp_path / "upgrade.yml"
    path.write_text(playbook(plan, "upgrade.plan.json"), encoding="utf-8")
    rules = "{extends: default, rules: {line-length: {max: 160}}}"
    command = [sys.executable, "-m", "yamllint", "--strict", "-d", rules, str(path)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
