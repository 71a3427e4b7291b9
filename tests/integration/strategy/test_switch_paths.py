# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role switch does, and in which order, when something fails: the role and `together` are real, the modules
only write down that they were called, and fail where the test says so. The labs run the same with real ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cores
import pytest

REPOSITORY = Path(__file__).resolve().parents[3]

# Ansible runs it as it is, with the arguments in a file.
MODULE = """#!/usr/bin/python
# WANT_JSON
import json, sys, time
name, folder = {name!r}, {folder!r}
with open(sys.argv[1]) as stream:
    args = json.load(stream)
what = name
if name == "haproxy_hold":
    what = "release" if args["state"] == "released" else "hold " + args["drain"][0]["name"]
elif name == "haproxy_beside":
    what = args.get("state") or ("known" if args.get("share") is None else "share %d" % args["share"])
elif name in ("container_image", "container_beside", "haproxy_server"):
    what = "%s %s" % (name, args.get("state", "replaced"))
with open(folder + "/fails.json") as stream:
    fails = json.load(stream)
result = {{"changed": True, "at": time.time(), "servers": []}}
if args.get("watch"):
    result.update(gate={{"seconds": 1, "requests": 9, "errors": 0, "all_requests": 9}}, verdict="")
if not args["_ansible_check_mode"]:
    with open(folder + "/calls.txt", "a") as stream:
        stream.write(what + "\\n")
    result.update(fails.get(what, {{}}))
print(json.dumps(result))
"""
MODULES = (
    "container_beside", "container_command", "container_image", "haproxy_beside", "haproxy_hold", "haproxy_server",
    "health_check",
)  # fmt: skip
PLAYBOOK = """
- hosts: one
  gather_facts: false
  tasks:
    - block:
        - ansible.builtin.include_role: {name: rondo.upgrade.switch}
        - ansible.builtin.set_fact: {said: ""}
      rescue:
        - ansible.builtin.set_fact: {said: "{{ ansible_failed_result.msg }}"}
    - ansible.builtin.copy:
        content: "{{ dict(said=said, details=switch_details) | to_json }}"
        dest: "{{ playbook_dir }}/found.json"
        mode: "0644"
"""


def collections(folder: Path) -> Path:
    """The collection with the modules in place of its own."""
    there = folder / "collections" / "ansible_collections" / "rondo" / "upgrade"
    there.mkdir(parents=True)
    for name in ("galaxy.yml", "meta", "roles"):
        (there / name).symlink_to(REPOSITORY / name)
    (there / "plugins").mkdir()
    for path in (REPOSITORY / "plugins").iterdir():
        if path.name != "modules":
            (there / "plugins" / path.name).symlink_to(path)
    shutil.copytree(REPOSITORY / "plugins" / "modules", there / "plugins" / "modules")
    for name in MODULES:
        (there / "plugins" / "modules" / f"{name}.py").write_text(MODULE.format(name=name, folder=str(folder)))
    return folder / "collections"


def job(method: str, *, offline: bool, reversible: bool) -> dict[str, Any]:
    instance = {
        "instance": "web@one", "host": "one", "current": False, "running": "web:1",
        "artifact": {"kind": "container", "name": "web", "target": "web:2"},
        "servers": [{"backend": "web_back", "name": "home"}],
        "drain_timeout": 5.0, "min_healthy_time": 0.0, "healthy_deadline": 30.0,
        "beside": {
            "host": "one", "port": 15000, "container": "web.rondo-beside",
            "servers": [{"backend": "web_back", "name": "copy"}],
        } if method != "hold" else None,
    }  # fmt: skip
    hold = {
        "deadline": 20.0, "pause": 5.0, "back": 5.0, "on_deadline": "release", "timeouts": {}, "rate": 1.0,
        "waiting": 1, "memory": 1, "frontends": [], "bytes_per_request": 21000, "force": False,
    }  # fmt: skip
    beside = {
        "steps": [100], "step_time": 1.0, "max_errors": 0.01, "switch_back_window": 1.0, "test": None, "memory": 1,
    }  # fmt: skip
    return {
        "id": "switch web", "kind": "switch", "service": "web", "host": "one", "hosts": ["one"], "instance": None,
        "method": method, "instances": [instance], "artifact": instance["artifact"],
        "options": {
            "offline": offline, "offline_reversible": reversible, "offline_begun": False, "hold": hold,
            "side_by_side": None if method == "hold" else beside,
        },
    }  # fmt: skip


def run(
    folder: Path, core: cores.Core, this: dict[str, Any], fails: dict[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    """(what was called, what came of it)"""
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    groups = {"children": {"balancers": {"hosts": {"one": {}}}}}
    (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": {"one": local}, **groups}}))
    declared = {"web": {"health": {"http": "http://127.0.0.1:5000/"}, "database": {"offline": "migrate"}}}
    variables = {"upgrade_job": this, "upgrade_services": declared, "switch_journal": "", "switch_probe": ""}
    (folder / "variables.json").write_text(json.dumps(variables))
    (folder / "fails.json").write_text(json.dumps(fails))
    (folder / "play.yml").write_text(PLAYBOOK)
    done = subprocess.run(
        [core.playbook, "-i", "hosts.json", "-e", "@variables.json", "play.yml"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=900,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(collections(folder)), "ANSIBLE_HOME": str(folder)},
    )  # fmt: skip
    assert (folder / "found.json").exists(), done.stdout + done.stderr
    return (folder / "calls.txt").read_text().splitlines(), json.loads((folder / "found.json").read_text())


FAILED = {"failed": True, "msg": "broken"}
BEGUN = {**FAILED, "began": True}
STARTED = ["container_beside replaced", "health_check", "known"]
STOPPED = ["hold home", "container_image stopped", "container_command"]
REVERTED = ["container_image reverted", "health_check"]
TAKEN_AWAY = ["absent", "container_beside absent"]
WINDOW = ["share 100"]


@pytest.mark.parametrize(
    ("method", "reversible", "fails", "calls", "said"),
    [
        pytest.param(
            "hold", False, {},
            [*STOPPED, "container_image replaced", "health_check", "haproxy_server ready", "release", "release",
             "haproxy_server ready"], "", id="hold",
        ),
        pytest.param(
            "hold", True, {"health_check": FAILED},
            [*STOPPED, "container_image replaced", "health_check", *REVERTED, "release"],
            "health: one: broken. Going back failed, too", id="hold-nothing-is-healthy",
        ),
        pytest.param(
            "hold", True, {"container_command": BEGUN}, [*STOPPED, *REVERTED, "haproxy_server ready", "release"],
            "database.offline: one: broken. The old version serves", id="hold-offline-fails",
        ),
        pytest.param(
            "held_switch", False, {}, [*STARTED, *STOPPED, "share 100", "release", *WINDOW], "", id="held_switch",
        ),
        pytest.param(
            "held_switch", True, {"container_command": BEGUN},
            [*STARTED, *STOPPED, *REVERTED, "share 0", "haproxy_server ready", "release", *TAKEN_AWAY],
            "database.offline: one: broken. The old version serves", id="held_switch-offline-fails",
        ),
        pytest.param(
            "held_switch", False, {"container_command": BEGUN}, [*STARTED, *STOPPED, "release"],
            "database.offline: one: broken. There is no way back: database.offline has begun", id="no-way-back",
        ),
        pytest.param(
            "held_switch", False, {"container_command": {**FAILED, "began": False}},
            [*STARTED, *STOPPED, *REVERTED, "share 0", "haproxy_server ready", "release", *TAKEN_AWAY],
            "database.offline: one: broken. The old version serves", id="offline-never-began",
        ),
        pytest.param(
            "held_switch", False, {"share 100": FAILED}, [*STARTED, *STOPPED, "share 100", "release"],
            "cut: one: broken. There is no way back", id="no-way-back-from-the-cut",
        ),
        pytest.param(
            "held_switch", True, {"share 100": FAILED},
            [*STARTED, *STOPPED, "share 100", "hold copy", *REVERTED, "share 0", "haproxy_server ready", "release",
             *TAKEN_AWAY],
            "cut: one: broken. The old version serves", id="back-from-the-cut",
        ),
    ],
)  # fmt: skip
def test_with_a_schema_that_needs_all_stopped(
    tmp_path: Path, core: cores.Core, method: str, reversible: bool, fails: dict[str, Any], calls: list[str], said: str
) -> None:
    found = run(tmp_path, core, job(method, offline=True, reversible=reversible), fails)
    assert found[0] == calls
    assert found[1]["said"].startswith(said) and bool(found[1]["said"]) == bool(said), found[1]
    assert bool(found[1]["details"]["switched_back"]) == ("The old version serves" in said)
    assert 0 <= found[1]["details"]["hold"]["pause"] < 20


@pytest.mark.parametrize("back", [False, True])
def test_versions_that_must_not_mix(tmp_path: Path, core: cores.Core, back: bool) -> None:
    """The old ones go on running, and so nothing of theirs is touched on the way back."""
    failing = {"verdict": "worse", "gate": {"seconds": 1, "requests": 9, "errors": 9, "all_requests": 9}}
    this = job("held_switch", offline=False, reversible=False)
    calls, found = run(tmp_path, core, this, {"share 100": failing} if back else {})
    held = [*STARTED, "hold home", "share 100", "release", *WINDOW]
    if not back:
        assert calls == held
        return
    assert calls == [*held, "hold copy", "share 0", "haproxy_server ready", "release", *TAKEN_AWAY]
    assert "worse" in found["said"] and found["said"].endswith("The old version serves")
