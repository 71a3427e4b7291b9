# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One module on several hosts at the same moment, on each ansible-core."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cores

REPOSITORY = Path(__file__).resolve().parents[3]

# Each waits for what the other one writes: one after the other they would wait for ever.
PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - name: Meet
      rondo.upgrade.together:
        module: ansible.legacy.command
        arguments: {{_uses_shell: true, chdir: "{home}"}}
        hosts:
          - {{host: h1, arguments: {{_raw_params: "touch 1; until test -e 2; do sleep 1; done; echo one"}}}}
          - {{host: h2, arguments: {{_raw_params: "touch 2; until test -e 1; do sleep 1; done; echo two"}}}}
      register: met
    - name: Fail in one place
      rondo.upgrade.together:
        module: ansible.builtin.command
        hosts:
          - {{host: h1, arguments: {{cmd: "true"}}}}
          - {{host: h2, arguments: {{cmd: "false"}}}}
          - {{host: h3, arguments: {{cmd: "true"}}}}
      ignore_errors: true
      register: failed
    - name: Nowhere
      rondo.upgrade.together: {{module: ansible.builtin.command, hosts: []}}
      register: nowhere
    - name: On paper
      rondo.upgrade.together:
        module: ansible.builtin.file
        arguments: {{path: "{home}/paper", state: directory}}
        hosts: [{{host: h1}}]
      check_mode: true
      diff: true
      register: paper
    - name: One after the other
      rondo.upgrade.together:
        stages:
          - name: first
            module: ansible.legacy.command
            arguments: {{_uses_shell: true, chdir: "{home}"}}
            hosts:
              - {{host: h1, arguments: {{_raw_params: "sleep 1; touch staged1"}}}}
              - {{host: h2, arguments: {{_raw_params: "touch staged2"}}}}
          - {{name: nowhere, module: ansible.builtin.command, hosts: []}}
          - name: second
            module: ansible.legacy.command
            arguments: {{_uses_shell: true, chdir: "{home}"}}
            within: 30
            within_option: stdin
            hosts: [{{host: h2, arguments: {{_raw_params: "cat; ls staged1 staged2"}}}}]
          - name: third
            module: ansible.builtin.command
            hosts: [{{host: h3, arguments: {{cmd: "true"}}}}, {{host: h1, arguments: {{cmd: "true"}}}}]
          - name: fourth
            module: ansible.builtin.command
            hosts: [{{host: h1, arguments: {{cmd: "touch {home}/fourth"}}}}]
      ignore_errors: true
      register: staged
    - name: Keep it
      ansible.builtin.copy:
        content: "{{{{ dict(met=met, failed=failed, nowhere=nowhere, paper=paper, staged=staged) | to_json }}}}"
        dest: "{home}/results.json"
        mode: "0644"
"""


def results(home: Path, core: cores.Core) -> tuple[dict[str, Any], str]:
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {"h1": local, "h2": local, "h3": {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_ssh_retries": 0}}
    (home / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    (home / "play.yml").write_text(PLAYBOOK.format(home=home))
    collections = str(REPOSITORY / ".cache" / "collections")
    done = subprocess.run(
        [core.playbook, "-i", "hosts.json", "play.yml"],
        cwd=home, capture_output=True, text=True, check=False, timeout=900,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": collections, "ANSIBLE_HOME": str(home)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads((home / "results.json").read_text())
    return found, done.stdout


def test_a_module_runs_on_all_hosts_at_once(tmp_path: Path, core: cores.Core) -> None:
    found, output = results(tmp_path, core)
    assert [(row["host"], row["stdout"]) for row in found["met"]["results"]] == [("h1", "one"), ("h2", "two")]
    assert found["met"]["changed"] and not found["met"].get("failed")
    assert (
        found["failed"]["failed"] and found["failed"]["msg"].startswith("h2: ") and "; h3: " in found["failed"]["msg"]
    )
    rows = found["failed"]["results"]
    assert [bool(row.get("failed")) for row in rows[:2]] == [False, True]
    assert [bool(row.get("unreachable")) for row in rows] == [False, False, True]
    assert found["nowhere"]["skipped"]
    assert found["paper"]["changed"] and not (tmp_path / "paper").exists()
    assert "--- before: h1" in output and '+    "state": "directory"' in output
    staged = found["staged"]
    assert [row["name"] for row in staged["stages"]] == ["first", "nowhere", "second", "third"]
    left, *there = staged["stages"][2]["results"][0]["stdout"].split()
    assert 1 < float(left) < 29 and there == ["staged1", "staged2"]
    assert staged["failed"] and staged["changed"] and staged["msg"].startswith("third: h3: ")
    assert [bool(row.get("unreachable")) for row in staged["stages"][3]["results"]] == [True, False]
    assert not (tmp_path / "fourth").exists()
