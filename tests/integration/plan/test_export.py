# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exported playbook's rounds, run by ansible-core itself, with a role that only writes down its job."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import yaml

from ansible_collections.rondo.upgrade.plugins.plugin_utils._export import playbook

ROOT = Path(__file__).parents[3]

Play = Callable[..., CompletedProcess[str]]

HOSTS = ("ctl1", "ctl2", "ctl3", "cmp1", "cmp2")
INVENTORY = {
    "all": {
        "hosts": {
            host: {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
            for host in HOSTS
        }
    }
}
ROLE = """---
- name: Write the job down
  ansible.builtin.lineinfile:
    path: "{{ playbook_dir }}/{{ 'log' if upgrade_job.host.startswith('ctl') else upgrade_job.host }}"
    line: "{{ upgrade_job.id }}"
    create: true
    mode: "0644"

- name: Fail where told to
  ansible.builtin.fail:
  when: upgrade_job.id == broken | default('')

- name: Write down that it was done whole
  ansible.builtin.file:
    path: "{{ playbook_dir }}/{{ upgrade_job.host }}.whole"
    state: touch
    mode: "0644"
"""


def _job(kind: str, service: str, host: str) -> dict[str, Any]:
    return {"id": f"{kind} {service}@{host}", "kind": kind, "service": service, "host": host}


ROUNDS = [
    [_job("expand", "keystone", "ctl1")],
    [_job("replace", "keystone", "ctl3")],
    [_job("replace", "keystone", "ctl1")],
    [_job("replace", "keystone", "ctl2")],
    [_job("replace", "nova", "cmp1"), _job("replace", "nova", "cmp2")],
    [_job("contract", "keystone", "ctl1")],
]


def _exported(directory: Path) -> Path:
    """The exported file, its first and last plays (which need a real cluster) and the role replaced by ours."""
    jobs = [job for together in ROUNDS for job in together]
    plan = {
        "jobs": jobs,
        "rounds": [[job["id"] for job in together] for together in ROUNDS],
        "forecast": {"makespan": 60.0},
    }
    text = playbook(plan, "upgrade.plan.json").replace("rondo.upgrade.instance", "write_down")
    by_host: dict[str, list[dict[str, Any]]] = {}
    for job in jobs:
        by_host.setdefault(job["host"], []).append(job)
    keep = {"name": "Keep the jobs", "ansible.builtin.set_fact": {"upgrade_jobs": by_host}}
    begin = {"name": "Begin", "hosts": "localhost", "gather_facts": False, "tasks": [keep]}
    plays = [begin, *yaml.safe_load(text)[2:-1]]
    path = directory / "upgrade.yml"
    path.write_text(yaml.safe_dump(plays, sort_keys=False), encoding="utf-8")
    tasks = directory / "roles" / "write_down" / "tasks"
    tasks.mkdir(parents=True)
    (tasks / "main.yml").write_text(ROLE, encoding="utf-8")
    return path


def test_ansible_lint_has_nothing_to_say(tmp_path: Path) -> None:
    long = [_job("replace", f"service{n}", f"compute{n}.region-one.example.org") for n in range(9)]
    jobs = [job for together in [*ROUNDS, long] for job in together]
    rounds = [[job["id"] for job in together] for together in [*ROUNDS, long]]
    text = playbook({"jobs": jobs, "rounds": rounds, "forecast": {"makespan": 60.0}}, "upgrade.plan.json")
    (tmp_path / "upgrade.yml").write_text(text, encoding="utf-8")
    (tmp_path / "lint.yml").write_text("profile: production\noffline: true\n", encoding="utf-8")
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-lint"), "-c", "lint.yml", "--nocolor", "upgrade.yml"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
            "ANSIBLE_HOME": str(tmp_path / "home"),
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _log(directory: Path) -> list[str]:
    return (directory / "log").read_text(encoding="utf-8").splitlines()


def test_rounds_follow_the_plan(play: Play, tmp_path: Path) -> None:
    ended = play(INVENTORY, _exported(tmp_path))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert _log(tmp_path) == [
        "expand keystone@ctl1",
        "replace keystone@ctl3",
        "replace keystone@ctl1",
        "replace keystone@ctl2",
        "contract keystone@ctl1",
    ]
    assert all((tmp_path / f"{host}.whole").exists() for host in HOSTS)


def test_a_failure_in_a_round_of_one_lets_nothing_further_begin(play: Play, tmp_path: Path) -> None:
    ended = play(INVENTORY, _exported(tmp_path), "-e", '{"broken": "replace keystone@ctl1"}')
    assert ended.returncode != 0
    assert _log(tmp_path) == ["expand keystone@ctl1", "replace keystone@ctl3", "replace keystone@ctl1"]
    assert not (tmp_path / "cmp1").exists()


def test_a_failure_in_a_larger_round_leaves_no_healthy_host_halfway(play: Play, tmp_path: Path) -> None:
    ended = play(INVENTORY, _exported(tmp_path), "-e", '{"broken": "replace nova@cmp1"}')
    assert ended.returncode != 0
    assert "replace nova@cmp1 has failed: nothing further begins" in ended.stdout + ended.stderr
    assert (tmp_path / "cmp2.whole").exists()
    assert not (tmp_path / "cmp1.whole").exists()
    assert _log(tmp_path)[-1] == "replace keystone@ctl2"
