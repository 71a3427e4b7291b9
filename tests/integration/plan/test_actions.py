# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The actions and lookups in real playbooks, with the facts of role observe set by hand."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

Play = Callable[..., CompletedProcess[str]]

SERVICES = {
    "keystone": {
        "hosts": "control",
        "artifact": {"container": "keystone", "image": "keystone:{{ release | default(2) }}"},
        "failure_domain": "zone",
        "health": {"http": "http://{{ api_address }}:5000/healthcheck"},
        "estimates": {"replace": "20s"},
    }
}
CONTROL = {f"ctl{n}": {"zone": f"z{n}", "api_address": f"192.0.2.{n}"} for n in (1, 2, 3)}
INVENTORY = {
    "all": {
        "vars": {"upgrade_services": SERVICES, "old": ["ctl1", "ctl2", "ctl3"], "unseen": []},
        "children": {"control": {"hosts": CONTROL}},
    }
}
OBSERVE = {
    "name": "Observe",
    "hosts": "control",
    "gather_facts": False,
    "tasks": [
        {
            "ansible.builtin.set_fact": {
                "observe_containers": {
                    "keystone": {
                        "exists": True,
                        "running": True,
                        "image": "keystone:{{ 1 if inventory_hostname in old else 2 }}",
                        "current": "{{ inventory_hostname not in old }}",
                        "target_present": False,
                    }
                }
            },
            "when": "inventory_hostname not in unseen",
        }
    ],
}


def _localhost(*tasks: dict[str, Any]) -> dict[str, Any]:
    return {"name": "Work", "hosts": "localhost", "gather_facts": False, "tasks": list(tasks)}


def _said(ended: CompletedProcess[str]) -> str:
    return " ".join((ended.stdout + ended.stderr).split())


PLAN = {"rondo.upgrade.plan": {"show": True}}


def test_plan_writes_its_files_and_shows_its_page(play: Play, tmp_path: Path) -> None:
    export = {"rondo.upgrade.plan": {"show": True, "export": "out/upgrade.yml"}}
    ended = play(INVENTORY, [OBSERVE, _localhost(export)])
    assert ended.returncode == 0, _said(ended)
    assert "PLAN: 3 jobs on 3 hosts for 1 service" in ended.stdout
    plan = json.loads((tmp_path / "build" / "plan" / "plan.json").read_text(encoding="utf-8"))
    assert sorted(job["instance"] for job in plan["jobs"]) == ["keystone@ctl1", "keystone@ctl2", "keystone@ctl3"]
    assert "192.0.2." not in json.dumps(plan)
    assert (tmp_path / "build" / "plan" / "plan.svg").read_text(encoding="utf-8").startswith("<svg")
    assert (tmp_path / "out" / "upgrade.yml").read_text(encoding="utf-8").startswith("---\n")
    assert json.loads((tmp_path / "out" / "upgrade.plan.json").read_text(encoding="utf-8")) == plan


def test_check_mode_writes_nothing(play: Play, tmp_path: Path) -> None:
    ended = play(INVENTORY, [OBSERVE, _localhost(PLAN)], "--check")
    assert ended.returncode == 0, _said(ended)
    assert "PLAN: 3 jobs" in ended.stdout
    assert not (tmp_path / "build").exists()


def test_diff_says_what_changed_since_the_last_plan(play: Play) -> None:
    assert play(INVENTORY, [OBSERVE, _localhost(PLAN)]).returncode == 0
    ended = play(INVENTORY, [OBSERVE, _localhost(PLAN)], "--diff", "-e", '{"old": ["ctl3"]}')
    assert ended.returncode == 0, _said(ended)
    assert "CHANGED SINCE THE LAST PLAN" in ended.stdout
    assert "keystone@ctl1" in ended.stdout.split("CHANGED SINCE THE LAST PLAN")[1].split("SERVICES")[0]


def test_a_plan_made_for_another_state_is_refused(play: Play) -> None:
    assert play(INVENTORY, [OBSERVE, _localhost(PLAN)]).returncode == 0
    check = {"rondo.upgrade.plan": {"plan": "build/plan/plan.json"}}
    same = play(INVENTORY, [OBSERVE, _localhost(check)])
    assert same.returncode == 0, _said(same)
    ended = play(INVENTORY, [OBSERVE, _localhost(check)], "-e", '{"old": ["ctl3"]}')
    assert ended.returncode != 0
    assert "was made for another state: what runs changed since" in _said(ended)


def test_an_unobserved_host_is_an_obstacle_and_no_failure(play: Play) -> None:
    ended = play(INVENTORY, [OBSERVE, _localhost(PLAN)], "-e", '{"unseen": ["ctl2"]}')
    assert ended.returncode == 0, _said(ended)
    assert "ctl2 could not be observed (keystone)" in _said(ended)


def test_all_mistakes_at_once(play: Play) -> None:
    inventory = copy.deepcopy(INVENTORY)
    spec = inventory["all"]["vars"]["upgrade_services"]["keystone"]
    spec |= {"hosts": "controll", "canarry": 1, "drain_timeout": 5}
    ended = play(inventory, [_localhost({"rondo.upgrade.declaration": {}})])
    assert ended.returncode != 0
    for path in ("upgrade_services.keystone.hosts", "upgrade_services.keystone.canarry", "drain_timeout"):
        assert path in _said(ended)


def test_a_template_that_a_host_can_not_resolve_names_the_host(play: Play) -> None:
    inventory = copy.deepcopy(INVENTORY)
    del inventory["all"]["children"]["control"]["hosts"]["ctl2"]["api_address"]
    ended = play(inventory, [_localhost({"rondo.upgrade.declaration": {}})])
    assert ended.returncode != 0
    assert "upgrade_services.keystone (on ctl2): 'api_address' is undefined" in _said(ended)


def test_status_verify_and_report(play: Play, tmp_path: Path) -> None:
    status = {"rondo.upgrade.status": {"format": "json", "show": True}}
    ended = play(INVENTORY, [OBSERVE, _localhost(status, {"rondo.upgrade.verify": {}})], "-e", '{"old": ["ctl2"]}')
    assert ended.returncode != 0
    assert '"instance": "keystone@ctl2"' in ended.stdout
    assert "keystone@ctl2 runs keystone:1, not keystone:2" in _said(ended)
    assert "keystone@ctl1 runs" not in _said(ended)
    work = _localhost({"rondo.upgrade.verify": {}}, {"rondo.upgrade.report": {"show": True}})
    ended = play(INVENTORY, [OBSERVE, work], "-e", '{"old": []}')
    assert ended.returncode == 0, _said(ended)
    written = json.loads((tmp_path / "build" / "report" / "report.json").read_text(encoding="utf-8"))
    assert written["verdict"] == "done"
    assert written["versions"]["ansible_core"]
    assert written["summary"] in (tmp_path / "build" / "report" / "index.html").read_text(encoding="utf-8")
    assert 'name="keystone@ctl1 is as declared"' in (tmp_path / "build/report/junit.xml").read_text(encoding="utf-8")


def test_simulate_needs_no_declaration(play: Play) -> None:
    simulate = {"rondo.upgrade.simulate": {"hosts": 30, "failures": "10%", "show": True}}
    ended = play({"all": {}}, [_localhost(simulate)])
    assert ended.returncode == 0, _said(ended)
    assert "SIMULATION 30 hosts" in _said(ended)


def _own_playbook(tmp_path: Path) -> dict[str, Any]:
    seen = {"ansible.builtin.lineinfile": {"path": f"{tmp_path}/log", "line": "{{ ansible_play_batch | join(' ') }}"}}
    seen["ansible.builtin.lineinfile"] |= {"create": True, "mode": "0644"}
    return {
        "name": "Wrap what is there",
        "hosts": "{{ lookup('rondo.upgrade.batch_hosts', 'keystone') }}",
        "serial": "{{ lookup('rondo.upgrade.batches', 'keystone') }}",
        "gather_facts": False,
        "connection": "local",
        "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"},
        "tasks": [seen],
    }


def test_batches_feed_a_play_of_ones_own(play: Play, tmp_path: Path) -> None:
    ended = play(INVENTORY, [OBSERVE, _own_playbook(tmp_path)], "-e", '{"old": ["ctl3", "ctl1"]}')
    assert ended.returncode == 0, _said(ended)
    assert sorted((tmp_path / "log").read_text(encoding="utf-8").split()) == ["ctl1", "ctl3"]
    assert len((tmp_path / "log").read_text(encoding="utf-8").splitlines()) == 2


def test_batches_of_nothing_are_an_empty_play(play: Play, tmp_path: Path) -> None:
    ended = play(INVENTORY, [OBSERVE, _own_playbook(tmp_path)], "-e", '{"old": []}')
    assert ended.returncode == 0, _said(ended)
    assert not (tmp_path / "log").exists()


def test_batches_in_the_first_play_say_what_is_missing(play: Play, tmp_path: Path) -> None:
    ended = play(INVENTORY, [_own_playbook(tmp_path)])
    assert ended.returncode != 0
    assert "put a play before it" in _said(ended)
