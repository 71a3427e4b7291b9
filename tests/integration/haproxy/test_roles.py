# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles `drain` and `return` against a real HAProxy, and one balancer that can't be reached."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Lab

COLLECTIONS = Path(__file__).resolve().parents[3] / ".cache" / "collections"
INTERNAL, EXTERNAL = "keystone_internal_back", "keystone_external_back"

PLAYBOOK = """
- hosts: ctl1
  gather_facts: false
  tasks:
    - block:
        - ansible.builtin.import_role: {name: rondo.upgrade.drain}
        - ansible.builtin.import_role: {name: rondo.upgrade.return}
      rescue:
        - ansible.builtin.debug: {msg: "RESCUED {{ ansible_failed_result.msg }}"}
      always:
        - ansible.builtin.copy:
            content: "{{ {'drained': drain_result, 'returned': return_result | default({})} | to_json }}"
            dest: results.json
            mode: "0644"
          check_mode: false
"""


def play(lab: Lab, folder: Path, balancers: list[str], *options: str) -> tuple[str, dict[str, Any]]:
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {
        "ctl1": local,
        # What was seen of its tables; the other one has not been looked at.
        "lb1": {**local, "observe_haproxy": {"socket": lab.admin, "backends": {INTERNAL: ["ctl1", "ctl2"]}}},
        "lb2": {**local, "upgrade_haproxy_socket": lab.admin},
        "away": {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_ssh_retries": 0},
    }
    (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    given = {"drain_balancers": balancers, "drain_servers": lab.rows("ctl1"), "return_min_healthy_time": 0}
    given |= {"return_balancers": balancers, "return_servers": lab.rows("ctl1")}
    (folder / "play.yml").write_text(PLAYBOOK)
    program = str(Path(sys.executable).parent / "ansible-playbook")
    done = subprocess.run(
        [program, "-i", "hosts.json", "play.yml", "-e", json.dumps(given), *options],
        cwd=folder, capture_output=True, text=True, check=False, timeout=900,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "ANSIBLE_HOME": str(folder / "home")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return done.stdout, found


def test_there_and_back_with_what_each_balancer_has(lab: Lab, tmp_path: Path) -> None:
    output, found = play(lab, tmp_path, ["lb1", "lb2"], "--diff")
    assert [[row["backend"] for row in its["servers"]] for its in found["drained"]["results"]] == [
        [INTERNAL],
        [INTERNAL, EXTERNAL],
    ]
    assert [row["host"] for row in found["returned"]["results"]] == ["lb1", "lb2"]
    assert "--- before: lb2" in output and '+    "keystone_external_back/ctl1": "MAINT"' in output
    assert lab.all_up()


def test_check_mode_touches_nothing(lab: Lab, tmp_path: Path) -> None:
    output, found = play(lab, tmp_path, ["lb1", "lb2"], "--check", "--diff")
    assert found["drained"]["changed"]
    assert '+    "keystone_external_back/ctl1": "MAINT"' in output
    assert lab.all_up()


@pytest.mark.parametrize("lab", ["3.0"], indirect=True)
def test_a_balancer_that_can_not_be_reached_is_the_one_that_is_named(lab: Lab, tmp_path: Path) -> None:
    output, found = play(lab, tmp_path, ["lb2", "away"])
    assert "RESCUED away: " in output and "lb2: " not in output
    assert [bool(row.get("changed")) for row in found["drained"]["results"]] == [True, False]
    assert lab.status(EXTERNAL, "ctl1") == "MAINT"
