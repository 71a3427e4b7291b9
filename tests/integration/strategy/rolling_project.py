# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small project around the strategy: hosts without machines, a plan made by hand, and an observer.

The observer is a file to which every step of every job appends a line. Appending a short line is atomic, so the file's
order is what really happened, and nothing here needs to look at a clock.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import cores
import pytest

REPOSITORY = Path(__file__).resolve().parents[3]

# Far more than anything here takes: only a hang should meet it.
PATIENCE = 300

MARK = """
import os, time
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        say, gate, act = (self._task.args.get(name) for name in ("say", "gate", "act"))
        job = task_vars.get("upgrade_job", {}).get("id", "-")
        observer = task_vars["observer"]
        with open(observer, "a") as out:
            out.write(f"{say}|{job}|{task_vars['inventory_hostname']}\\n")
        until = time.monotonic() + 240
        while gate and not os.path.exists(gate) and time.monotonic() < until:
            time.sleep(0.02)
        if act == "fail":
            raise AnsibleActionFail(f"told to fail: {job}")
        if act == "unreachable":
            raise AnsibleConnectionFailure(f"told to be unreachable: {job}")
        count = sum(1 for line in open(observer) if line == f"{say}|{job}|{task_vars['inventory_hostname']}\\n")
        return {**result, "changed": act == "change", "count": count}
"""

PLAY = """
- name: Upgrade
  hosts: all
  gather_facts: false
  strategy: rondo.upgrade.rolling
  tasks:
    - name: Do the job
      ansible.builtin.import_role:
        name: job
"""

JOB = """
- name: Begin
  mark:
    say: begin
- name: Work
  mark:
    say: work
    act: "{{ acts[upgrade_job.id] | default('change') }}"
    gate: "{{ gates[upgrade_job.id] | default(omit) }}"
- name: End
  mark:
    say: end
"""


def service(name: str, hosts: list[str], **others: Any) -> dict[str, Any]:
    """A service of a plan; `others`: capacity, after (services), canary, max_failures."""
    return {"name": name, "hosts": hosts, "capacity": 1, "after": (), "canary": 0, "max_failures": 0, **others}


def make_plan(*services: dict[str, Any], max_failures: int = 0) -> dict[str, Any]:
    """A plan as plan.json has it, with what the window reads. Services must come after those that they depend on."""
    jobs: list[dict[str, Any]] = []
    phases: list[dict[str, Any]] = []
    budgets: list[dict[str, Any]] = []
    last: dict[str, str] = {}
    for row in services:
        name = row["name"]
        chain = [("canary", [host]) for host in row["hosts"][: row["canary"]]]
        chain.append(("replace", row["hosts"][row["canary"] :]))
        after = [last[other] for other in row["after"]]
        for step, (kind, hosts) in enumerate(chain):
            phase = f"{kind} {step} {name}"
            for host in hosts:
                number = len(jobs)
                instance = f"{name}@{host}"
                job = {
                    "id": f"replace {instance}",
                    "kind": "replace",
                    "service": name,
                    "host": host,
                    "instance": instance,
                }
                artifact = {"kind": "container", "name": name, "target": "2"}
                order = {"phase": phase, "seconds": 1.0, "priority": number, "start": float(number)}
                jobs.append({**job, **order, "running": "1", "artifact": artifact})
            ids = [f"replace {name}@{host}" for host in hosts]
            phases.append({"id": phase, "service": name, "kind": kind, "after": after, "jobs": ids})
            after = [phase]
        last[name] = after[0]
        budget = {"name": name, "kind": "service", "capacity": row["capacity"], "counts": "instances"}
        budgets.append({**budget, "services": [name], "already_out": []})
    return {
        "schema": 1,
        "services": [{"name": row["name"], "max_failures": row["max_failures"]} for row in services],
        "jobs": jobs,
        "phases": phases,
        "budgets": budgets,
        "max_failures": max_failures,
    }


class Project:
    """A folder with an inventory, a play and a plan, and the means to run it."""

    def __init__(self, path: Path, core: cores.Core) -> None:
        self.path = path
        self.core = core
        self.observer = path / "observer"
        self.observer.touch()
        self.journal = path / "journal.sqlite"
        self.environment: dict[str, str] = {}
        self.write("action_plugins/mark.py", MARK)
        self.write("roles/job/tasks/main.yml", JOB)
        self.write("upgrade.yml", PLAY)

    def write(self, name: str, text: str) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def start(self, plan: dict[str, Any], *arguments: str, **variables: Any) -> Run:
        hosts = list(dict.fromkeys(job["host"] for job in plan["jobs"]))
        lines = [f"{host} ansible_connection=local" for host in hosts]
        self.write("inventory", "\n".join(lines) + "\n")
        given = {
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "upgrade_plan": plan,
            "observer": str(self.observer),
            "acts": {},
            "gates": {},
            **variables,
        }
        self.write("variables.json", json.dumps(given))
        return Run(self, ["-i", "inventory", "-e", "@variables.json", *arguments, "upgrade.yml"])

    def run(self, plan: dict[str, Any], *arguments: str, **variables: Any) -> tuple[int, str]:
        return self.start(plan, *arguments, **variables).wait()

    def events(self) -> list[tuple[str, str, str]]:
        """(what, job, host), in the order in which it happened."""
        return [tuple(line.split("|")) for line in self.observer.read_text().splitlines()]  # type: ignore[misc]

    def gate(self, name: str) -> str:
        return str(self.path / f"gate-{name}")

    def open_gate(self, name: str) -> None:
        Path(self.gate(name)).touch()


class Run:
    """An ansible-playbook at work."""

    def __init__(self, project: Project, arguments: list[str]) -> None:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / ".cache" / "collections"),
            "ANSIBLE_HOME": str(project.path / "home"),
            "ANSIBLE_LOCAL_TEMP": str(project.path / "home" / "tmp"),
            "ANSIBLE_FORKS": "20",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_DEPRECATION_WARNINGS": "0",
            "ANSIBLE_RETRY_FILES_ENABLED": "0",
            "ANSIBLE_ROLES_PATH": str(project.path / "roles"),
            "PYTHONPATH": str(project.path / "python"),
            "PYTHONUNBUFFERED": "1",
            **project.environment,
        }
        self.process = subprocess.Popen(
            [project.core.playbook, *arguments],
            cwd=project.path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self._lines.append(line)

    @property
    def output(self) -> str:
        return "".join(self._lines)

    def wait(self) -> tuple[int, str]:
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self._reader.join(PATIENCE)
        return self.process.returncode, self.output

    def until(self, condition: Any, what: str) -> None:
        """Wait for something to happen while it runs."""
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end or (self.process.poll() is not None and not condition()):
                self.process.kill()
                pytest.fail(f"waited in vain for {what}:\n{self.output}")
            time.sleep(0.02)
