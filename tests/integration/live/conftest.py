# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run of the rolling strategy with a real journal, on hosts without machines, whose jobs wait for gates."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "strategy")]
import cores
from terminal import PATIENCE, Terminal

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import (
    Artifact,
    Cluster,
    Instance,
    Service,
    State,
)
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._planner import make_plan

ROOT = Path(__file__).resolve().parents[3]

PLAYBOOK = """
- name: Begin
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Begin the run
      rondo.upgrade.journal:
        path: "{{ journal }}"
        state: started
        plan: "{{ upgrade_plan }}"
      register: started

    - name: Keep its number
      ansible.builtin.set_fact:
        upgrade_run: "{{ started.run }}"

# ask #
- name: Do the jobs
  hosts: web
  gather_facts: false
  strategy: rondo.upgrade.rolling
  vars:
    upgrade_journal: "{{ journal }}"
  tasks:
    - name: Do the host's jobs
      ansible.builtin.include_role:
        name: job
      loop: "{{ upgrade_plan.jobs | selectattr('host', 'eq', inventory_hostname) }}"
      loop_control:
        loop_var: upgrade_job

- name: End
  hosts: localhost
  gather_facts: false
  tasks:
    - name: End the run
      rondo.upgrade.journal:
        path: "{{ journal }}"
        state: finished
        outcome: done
"""

ASK = """
- name: Ask
  hosts: localhost
  gather_facts: false
  vars_prompt:
    - name: answer
      prompt: "Go on, or not"
      private: false
  tasks:
    - name: Say what was answered
      ansible.builtin.debug:
        msg: "The answer was {{ answer }}"
"""

JOB = """
- name: Record that the job begins
  rondo.upgrade.journal:
    path: "{{ journal }}"
    state: begun
    job: "{{ upgrade_job }}"

- name: Say something
  ansible.builtin.debug:
    msg: "{{ say | default('Hello from ' ~ inventory_hostname) }}"

- name: Wait for the gate
  ansible.builtin.command: sh -c 'until test -e {{ gate }}-{{ inventory_hostname }}; do sleep 0.1; done'
  changed_when: true

- name: Record that the job has ended
  rondo.upgrade.journal:
    path: "{{ journal }}"
    state: ended
    job: "{{ upgrade_job }}"
    outcome: done
"""


class Upgrade:
    """A folder with the playbook, and the means to run it."""

    def __init__(self, folder: Path, core: cores.Core) -> None:
        self.folder = folder
        self.core = core
        self.journal = folder / "build" / "journal.sqlite"
        web = tuple(Instance("web", f"h{number}", Artifact("container", "web", "web:2")) for number in (1, 2, 3))
        self.plan: dict[str, Any] = make_plan(Cluster({"web": Service("web", web)}), State()).to_dict()
        self.order = [job["host"] for job in self.plan["jobs"]]
        self.environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("ANSIBLE_", "RONDO_")) and name not in ("CI", "NO_COLOR")
            },
            "PATH": f"{core.programs}{os.pathsep}{os.environ['PATH']}",
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
            "ANSIBLE_HOME": str(folder / "home"),
            "ANSIBLE_LOCAL_TEMP": str(folder / "home" / "tmp"),
            "ANSIBLE_ROLES_PATH": str(folder / "roles"),
            "ANSIBLE_STDOUT_CALLBACK": "rondo.upgrade.progress",
            "ANSIBLE_DEPRECATION_WARNINGS": "0",
            "PYTHONPATH": str(folder / "python"),
        }
        self._write("roles/job/tasks/main.yml", JOB)
        hosts = "\n".join(f"{host} ansible_connection=local" for host in self.order)
        self._write("inventory", f"localhost ansible_connection=local\n[web]\n{hosts}\n")

    def command(self, ask: bool = False, **variables: Any) -> list[str]:
        self._write("playbook.yml", PLAYBOOK.replace("# ask #\n", ASK if ask else ""))
        given = {
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "upgrade_plan": self.plan,
            "journal": str(self.journal),
            "gate": str(self.folder / "gate"),
            **variables,
        }
        self._write("variables.json", json.dumps(given))
        return [self.core.playbook, "-i", "inventory", "-e", "@variables.json", "playbook.yml"]

    def on_terminal(self, columns: int = 100, lines: int = 30, **variables: Any) -> Terminal:
        return Terminal(self.command(**variables), self.folder, self.environment, columns, lines)

    def in_pipe(self, **variables: Any) -> str:
        """The whole output of a run that was not on a terminal, and ended well."""
        done = subprocess.run(
            self.command(**variables),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def open(self, *hosts: str) -> None:
        """Let the jobs of these hosts end; of all hosts if none is named."""
        for host in hosts or self.order:
            (self.folder / f"gate-{host}").touch()

    def module(self, name: str, text: str) -> None:
        """A Python module that is found before any other of its name."""
        self._write(f"python/{name}", text)

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture(params=["own", "newest"])
def upgrade(request: pytest.FixtureRequest, tmp_path: Path) -> Upgrade:
    return Upgrade(tmp_path, cores.needed(request.param))


@pytest.fixture
def own(tmp_path: Path) -> Upgrade:
    """The same on the tests' own core alone: for what no core can change."""
    return Upgrade(tmp_path, cores.own())
