# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.rondo.upgrade.plugins.plugin_utils._export import playbook

PLAN = json.loads((Path(__file__).parent / "sample_plan.json").read_text(encoding="utf-8"))


def _job(kind: str, service: str, host: str) -> dict[str, Any]:
    return {"id": f"{kind} {service}@{host}", "kind": kind, "service": service, "host": host}


def _plan(*rounds: list[dict[str, Any]]) -> dict[str, Any]:
    jobs = [job for together in rounds for job in together]
    return {**PLAN, "jobs": jobs, "rounds": [[job["id"] for job in together] for together in rounds]}


def test_each_round_is_a_play_in_plan_order_with_localhost() -> None:
    belongs, _, expand, first, second, third, contract, settle, end = yaml.safe_load(playbook(PLAN, "up.plan.json"))
    kept = belongs["tasks"][0]["ansible.builtin.set_fact"]
    assert kept == {"upgrade_plan_file": "{{ playbook_dir }}/up.plan.json"}
    assert expand["hosts"] == ["localhost", "ctl1"]
    assert [play["hosts"] for play in (first, second, third)] == [["localhost", f"ctl{number}"] for number in (3, 1, 2)]
    assert third["name"] == "Round 4 of 5, replace keystone on ctl2"
    assert third["vars"]["upgrade_round"] == {"ctl2": "replace keystone@ctl2"}
    assert contract["vars"]["upgrade_round"] == {"ctl1": "contract keystone@ctl1"}
    assert "rondo.upgrade.admit" in settle["tasks"][0]
    assert end["ansible.builtin.import_playbook"] == "rondo.upgrade.parts.end"


def test_what_goes_together_is_one_play() -> None:
    plan = _plan([_job("replace", "nova", "c1"), _job("replace", "glance", "g1")], [_job("replace", "nova", "c2")])
    _, _, together, alone, _, _ = yaml.safe_load(playbook(plan, "p"))
    assert together["name"] == "Round 1 of 2, replace nova on c1, replace glance on g1"
    assert together["hosts"] == ["localhost", "c1", "g1"]
    assert together["vars"]["upgrade_round"] == {"c1": "replace nova@c1", "g1": "replace glance@g1"}
    assert alone["hosts"] == ["localhost", "c2"]
    # Either would end the playbook before its report, and the first one in the middle of healthy hosts' jobs.
    assert not {"any_errors_fatal", "serial"} & {*together, *alone}


def test_a_controller_that_is_upgraded_itself_is_named_once() -> None:
    _, _, alone, _, _ = yaml.safe_load(playbook(_plan([_job("replace", "nova", "localhost")]), "p"))
    assert alone["hosts"] == ["localhost"]


def test_every_job_of_a_plan_is_in_exactly_one_play() -> None:
    plays = yaml.safe_load(playbook(PLAN, "p"))[2:-2]
    told = [job for play in plays for job in play["vars"]["upgrade_round"].values()]
    assert told == [job["id"] for job in PLAN["jobs"]]


def test_an_empty_plan_still_looks_and_reports() -> None:
    assert len(yaml.safe_load(playbook(_plan(), "p"))) == 4


def test_the_text_is_clean_for_yamllint(tmp_path: Path) -> None:
    plan = _plan([_job("replace", "nova", "c1"), _job("replace", "glance", "g1")], [_job("replace", "nova", "c2")])
    path = tmp_path / "upgrade.yml"
    path.write_text(playbook(plan, "upgrade.plan.json"), encoding="utf-8")
    rules = "{extends: default, rules: {line-length: {max: 160}}}"
    command = [sys.executable, "-m", "yamllint", "--strict", "-d", rules, str(path)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
