# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles switch and side_by_side reckon out, on each ansible-core: how second copies are asked, when the gate
shuts, and until when there is a way back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cores
import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
ROLES = REPOSITORY / "roles"
PLAYBOOK = """
- hosts: home
  gather_facts: false
  vars_files:
    - {roles}/side_by_side/defaults/main.yml
    - {roles}/side_by_side/vars/main.yml
    - {roles}/switch/defaults/main.yml
    - {roles}/switch/vars/main.yml
  tasks:
    - name: Keep it
      ansible.builtin.copy:
        content: "{{{{ {wanted} | to_json }}}}"
        dest: "{home}/found.json"
        mode: "0644"
"""
GATE = """
- hosts: home
  gather_facts: false
  tasks:
    - name: Look
      ansible.builtin.include_role:
        name: rondo.upgrade.switch
        tasks_from: gate
        rolespec_validate: false
"""


def play(home: Path, core: cores.Core, playbook: str, hosts: dict[str, Any], **variables: Any) -> str:
    """What a playbook says, on the hosts `home` and others, all of them this machine."""
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = {"all": {"hosts": {name: {**local, **its} for name, its in hosts.items()}}}
    (home / "hosts.json").write_text(json.dumps(inventory))
    (home / "variables.json").write_text(json.dumps(variables))
    (home / "play.yml").write_text(playbook)
    done = subprocess.run(
        [core.playbook, "-i", "hosts.json", "-e", "@variables.json", "play.yml"],
        cwd=home, capture_output=True, text=True, check=False, timeout=900,
        env={
            **os.environ, "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / ".cache" / "collections"),
            "ANSIBLE_HOME": str(home),
        },
    )  # fmt: skip
    return " ".join((done.stdout + done.stderr).split())


def job(**keys: Any) -> dict[str, Any]:
    offline = {"offline": False, "offline_reversible": False, "offline_begun": False}
    options = {**offline, "hold": None, "side_by_side": {"max_errors": 0.1}}
    return {
        "service": "web",
        "method": "side_by_side",
        "kind": "switch",
        "instances": [],
        "options": {**options, **keys},
    }


def test_second_copies_are_asked_where_they_are(tmp_path: Path, core: cores.Core) -> None:
    def instance(host: str, there: str) -> dict[str, Any]:
        beside = {"host": there, "port": 15000, "container": "web.rondo-beside", "servers": []}
        artifact = {"name": "web", "target": "web:2"}
        return {"host": host, "servers": [], "artifact": artifact, "healthy_deadline": 60.0, "beside": beside}

    health = {
        "http": "http://me:secret@{{ address }}:5000/health", "tcp": "{{ address }}:5000", "command": "true",
        "body": "fine", "min_healthy_time": "9s",
    }  # fmt: skip
    hosts = {"home": {"address": "192.0.2.1"}, "spare": {"address": "192.0.2.2"}, "other": {"address": "[2001:db8::3]"}}
    wanted = PLAYBOOK.format(home=tmp_path, roles=ROLES, wanted="side_by_side_checks")
    said = play(
        tmp_path, core, wanted, hosts,
        upgrade_services={"web": {"health": health}},
        upgrade_job={
            **job(side_by_side={"test": "/v3"}), "instances": [instance("home", "spare"), instance("other", "other")],
        },
    )  # fmt: skip
    assert (tmp_path / "found.json").exists(), said
    found = json.loads((tmp_path / "found.json").read_text())
    assert [(row["host"], row["arguments"]["http"], row["arguments"].get("tcp")) for row in found] == [
        ("spare", "http://me:secret@192.0.2.2:15000/health", "192.0.2.2:15000"),
        ("spare", "http://me:secret@192.0.2.2:15000/v3", None),
        ("other", "http://me:secret@[2001:db8::3]:15000/health", "[2001:db8::3]:15000"),
        ("other", "http://me:secret@[2001:db8::3]:15000/v3", None),
    ]
    assert found[0]["arguments"]["body"] == "fine"
    assert not any("command" in row["arguments"] for row in found)


@pytest.mark.parametrize(("failed", "shut"), [(5, False), (6, True)])
def test_the_probe_shuts_the_gate_by_what_the_new_version_got_in_this_step(
    tmp_path: Path, core: cores.Core, failed: int, shut: bool
) -> None:
    # Of 1000 requests of this step the new version got 50, and a tenth of these may fail.
    (tmp_path / "probe.json").write_text(json.dumps({"sent": 51000, "failed": 3 + failed}))
    said = play(
        tmp_path, core, GATE, {"home": {}},
        upgrade_job=job(), switch_probe="{{ playbook_dir }}/probe.json", switch_journal="", switch_percent=5,
        switch_probe_before={"sent": 50000, "failed": 3}, side_by_side_gate={"verdict": ""},
    )  # fmt: skip
    assert ("6 of 1000 requests of the probe failed while the new version got 5 % of them" in said) == shut, said
    assert ("failed=1" in said) == shut, said


def test_what_is_done_while_requests_wait(tmp_path: Path, core: cores.Core) -> None:
    servers = [{"backend": "web_back", "name": "home"}]
    artifact = {"name": "web", "target": "web:2"}
    instance = {
        "instance": "web@home", "host": "home", "artifact": artifact, "current": False, "servers": servers,
        "beside": None, "healthy_deadline": 60, "drain_timeout": 30,
    }  # fmt: skip
    hold = {
        "deadline": 25, "pause": 5, "back": 20, "on_deadline": "release", "timeouts": {}, "rate": 5.0, "frontends": [],
        "bytes_per_request": 21000, "force": False,
    }  # fmt: skip
    declared = {
        "health": {"tcp": "h:1", "healthy_deadline": "9s"},
        "database": {"offline": "migrate {{ inventory_hostname }}"},
    }
    first = "switch_stages_to_stop + switch_stages_to_"
    wanted = f"[{first}replace, {first}cut, switch_never_both]"
    found = {}
    for offline in (True, False):
        said = play(
            tmp_path, core, PLAYBOOK.format(home=tmp_path, roles=ROLES, wanted=wanted), {"home": {}, "lb": {}},
            upgrade_job={
                **job(offline=offline, offline_reversible=True, hold=hold),
                "instances": [instance], "artifact": artifact,
            },
            upgrade_services={"web": {**declared, "version_skew": False}}, upgrade_docker_host="unix:///engine",
            switch_balancers=["lb"], side_by_side_known=[{"host": "lb", "arguments": {"servers": servers}}],
            switch_fence={"token": 3, "owner": "me"},
        )  # fmt: skip
        assert (tmp_path / "found.json").exists(), said
        found[offline] = json.loads((tmp_path / "found.json").read_text())
        (tmp_path / "found.json").unlink()
    names = [[[stage["name"] for stage in stages] for stages in found[offline][:2]] for offline in (True, False)]
    assert names == [
        [
            ["hold", "stop", "database.offline", "replace", "health", "return", "release"],
            ["hold", "stop", "database.offline", "cut"],
        ],
        [["hold", "replace", "health", "return", "release"], ["hold", "cut"]],
    ]
    stages = {stage["name"]: stage for both in found[True][:2] for stage in both}
    assert stages["hold"]["hosts"] == [{"host": "lb", "arguments": {"drain": servers}}]
    assert stages["database.offline"]["hosts"] == [
        {
            "host": "home",
            "arguments": {
                "container": "web", "image": "web:2", "command": "migrate home", "docker_host": "unix:///engine",
            },
        }
    ]  # fmt: skip
    assert stages["health"]["hosts"] == [{"host": "home", "arguments": {"tcp": "h:1"}}]
    limits = {
        stage["name"]: (stage["within"], stage.get("within_option")) for stage in stages.values() if "within" in stage
    }
    assert limits == {
        "database.offline": (5, None), "health": (5, "healthy_deadline"), "return": (5, None), "cut": (5, None),
    }  # fmt: skip
    unfenced = [name for name, stage in stages.items() if "fence" not in stage.get("arguments", {})]
    assert unfenced == ["health"]
    # Where the old ones are stopped their answers can't overlap the cut.
    assert [found[offline][2] for offline in (True, False)] == [False, True]


def test_what_two_holds_came_to(tmp_path: Path, core: cores.Core) -> None:
    playbook = """
- hosts: home
  gather_facts: false
  tasks:
    - name: Begin with what an earlier one came to
      ansible.builtin.set_fact: {switch_details: {hold: "{{ before }}"}}
    - name: Sum up
      ansible.builtin.include_role: {name: rondo.upgrade.switch, tasks_from: released, rolespec_validate: false}
    - name: Keep it
      ansible.builtin.copy: {content: "{{ switch_details.hold | to_json }}", dest: "FOLDER/found.json", mode: "0644"}
"""
    held = [
        {"host": "lb1", "at": 100.0, "drained": 2.0, "closed_sessions": 1},
        {"host": "lb2", "at": 50.0, "drained": 1.0, "self_test": {}},
    ]
    cut = [{"host": "lb1", "at": 104.5}, {"host": "lb2", "at": 54.0}]
    stages = [
        {"name": "hold", "results": held}, {"name": "database.offline", "results": [{"seconds": 1.5}]},
        {"name": "cut", "results": cut},
    ]  # fmt: skip
    before = {
        "held": 7, "rejected": 1, "longest": 9.0, "greatest": 3, "memory": 5, "pause": 3.0, "ended": ["deadline"],
        "drained": 0.5, "closed_sessions": 2,
    }  # fmt: skip
    said = play(
        tmp_path, core, playbook.replace("FOLDER", str(tmp_path)), {"home": {}}, switch_balancers=[],
        upgrade_job=job(hold={"deadline": 25}), switch_done={"stages": stages}, switch_held_again={},
        before=before, switch_reason="",
    )  # fmt: skip
    assert (tmp_path / "found.json").exists(), said
    assert json.loads((tmp_path / "found.json").read_text()) == {
        "held": 7, "rejected": 1, "longest": 9.0, "greatest": 3, "memory": 5, "pause": 4.5, "offline": 1.5,
        "ended": ["deadline"], "drained": 2.0, "tested": ["lb2"], "closed_sessions": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("offline", "reversible", "deadline", "ended", "give_up", "no_way"),
    [
        pytest.param(True, True, 25, {"failed": True, "began": True}, 5, False, id="reversible"),
        pytest.param(True, True, 24, {"failed": True}, 24, False, id="reversible-by-force"),
        pytest.param(True, False, 25, {"failed": True, "began": True}, 60, True, id="begun"),
        pytest.param(True, False, 25, {"failed": True, "began": False}, 60, False, id="never-begun"),
        pytest.param(True, False, 25, {"unreachable": True}, 60, True, id="nobody-knows"),
        pytest.param(True, False, 25, None, 60, False, id="not-reached"),
        pytest.param(False, False, 25, None, 5, False, id="nothing-to-run"),
        pytest.param(True, False, 25, "earlier", 60, True, id="an-earlier-run"),
    ],
)
def test_until_when_there_is_a_way_back(
    tmp_path: Path, core: cores.Core, offline: bool, reversible: bool, deadline: int,
    ended: dict[str, Any] | str | None, give_up: int, no_way: bool,
) -> None:  # fmt: skip
    stages = [{"name": "hold", "results": []}]
    earlier = ended == "earlier"
    if ended is not None and not earlier:
        stages.append({"name": "database.offline", "results": [ended]})
    instance = {"healthy_deadline": 60}
    hold = {"deadline": deadline, "pause": 5, "back": 20}
    wanted = PLAYBOOK.format(home=tmp_path, roles=ROLES, wanted="[switch_give_up, switch_no_way]")
    said = play(
        tmp_path, core, wanted, {"home": {}}, switch_done={"stages": stages},
        upgrade_job={
            **job(offline=offline, offline_reversible=reversible, offline_begun=earlier, hold=hold),
            "instances": [instance],
        },
    )  # fmt: skip
    assert (tmp_path / "found.json").exists(), said
    assert json.loads((tmp_path / "found.json").read_text()) == [give_up, no_way]
