# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exported playbook's rounds, run by ansible-core itself, with a role that only writes down its job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

from ansible_collections.rondo.upgrade.plugins.plugin_utils._export import playbook
from ansible_collections.rondo.upgrade.plugins.plugin_utils._journal import Journal
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import (
    Artifact,
    Cluster,
    Database,
    Instance,
    Service,
    State,
)
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._planner import make_plan

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
- name: Record that the job begins
  rondo.upgrade.journal:
    path: "{{ playbook_dir }}/build/journal.sqlite"
    state: begun
    job: "{{ upgrade_job }}"

- name: Write the job down
  ansible.builtin.lineinfile:
    path: "{{ playbook_dir }}/{{ 'log' if upgrade_job.host.startswith('ctl') else upgrade_job.host }}"
    line: "{{ upgrade_job.id }}"
    create: true
    mode: "0644"

- name: Do what the test wants
  ansible.builtin.shell: "{{ wanted }}"
  changed_when: true
  when: upgrade_job.id == broken | default('')

- name: Lose the host
  ansible.builtin.ping:
  vars:
    ansible_connection: ssh
    ansible_ssh_executable: /bin/false
  when: upgrade_job.id == lost | default('')

- name: Write down that it was done whole
  ansible.builtin.file:
    path: "{{ playbook_dir }}/{{ upgrade_job.host }}.whole"
    state: touch
    mode: "0644"

- name: Record that the job has ended
  rondo.upgrade.journal:
    path: "{{ playbook_dir }}/build/journal.sqlite"
    state: ended
    job: "{{ upgrade_job }}"
    outcome: done
"""
ROUND = ROOT / "roles" / "instance" / "tasks" / "round.yml"


def _service(name: str, hosts: Sequence[str], *needs: str, **more: Any) -> Service:
    instances = tuple(Instance(name, host, Artifact("container", name, f"{name}:2")) for host in hosts)
    return Service(name, instances, depends_on=needs, method="roll", **more)


def _plan() -> dict[str, Any]:
    """Three controllers one by one, between the steps of their schema, and then two computes at once."""
    keystone = _service("keystone", HOSTS[:3], database=Database(expand=True, contract=True))
    nova = _service("nova", HOSTS[3:], "keystone", max_unavailable=2, outage_allowed=True)
    return make_plan(Cluster({"keystone": keystone, "nova": nova}), State()).to_dict()


def _exported(directory: Path) -> Path:
    """The exported file; its first and last plays, which need a real cluster, and the role's work are replaced."""
    plan = _plan()
    text = playbook(plan, "upgrade.plan.json").replace("rondo.upgrade.instance", "write_down")
    by_host: dict[str, list[dict[str, Any]]] = {}
    for job in plan["jobs"]:
        by_host.setdefault(job["host"], []).append(job)
    (directory / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    path = "{{ playbook_dir }}/build/journal.sqlite"
    plan_file = "{{ lookup('ansible.builtin.file', playbook_dir ~ '/plan.json') | ansible.builtin.from_json }}"
    begin = [
        {
            "name": "Start",
            "rondo.upgrade.journal": {"path": path, "state": "started", "plan": plan_file},
            "register": "r",
        },
        {
            "name": "Keep the jobs",
            "ansible.builtin.set_fact": {
                "upgrade_jobs": by_host,
                "upgrade_run": "{{ r.run }}",
                "upgrade_planned": {"probe_state": str(directory / "state.json")},
            },
        },
    ]
    end = [{"name": "End", "ansible.builtin.debug": {"msg": "the report"}}]
    plays = [
        {"name": "Begin", "hosts": "localhost", "gather_facts": False, "tasks": begin},
        *yaml.safe_load(text)[2:-1],
        {"name": "End", "hosts": "localhost", "gather_facts": False, "tasks": end},
    ]
    book = directory / "upgrade.yml"
    book.write_text(yaml.safe_dump(plays, sort_keys=False), encoding="utf-8")
    tasks = directory / "roles" / "write_down" / "tasks"
    tasks.mkdir(parents=True)
    (tasks / "main.yml").write_text(ROLE, encoding="utf-8")
    own = ROUND.read_text(encoding="utf-8").replace("rondo.upgrade.instance", "write_down")
    (tasks / "round.yml").write_text(own, encoding="utf-8")
    return book


def _job(kind: str, service: str, host: str) -> dict[str, Any]:
    return {"id": f"{kind} {service}@{host}", "kind": kind, "service": service, "host": host}


def test_ansible_lint_has_nothing_to_say(tmp_path: Path) -> None:
    long = [_job("replace", f"service{n}", f"compute{n}.region-one.example.org") for n in range(9)]
    several = [_job("replace", "nova", "cmp1"), _job("replace", "nova", "cmp2")]
    together = [[_job("expand", "keystone", "ctl1")], several, long]
    jobs = [job for each in together for job in each]
    rounds = [[job["id"] for job in each] for each in together]
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


def _ended(directory: Path) -> dict[str, str]:
    with Journal(directory / "build" / "journal.sqlite", create=False) as journal:
        run = journal.run()
    assert run is not None
    return {job["id"]: job["outcome"] for job in run["jobs"]}


ALL = [
    "expand keystone",
    "replace keystone@ctl1",
    "replace keystone@ctl2",
    "replace keystone@ctl3",
    "contract keystone",
]


def test_rounds_follow_the_plan(play: Play, tmp_path: Path) -> None:
    ended = play(INVENTORY, _exported(tmp_path))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert sorted(_log(tmp_path)) == sorted(ALL)
    assert _log(tmp_path)[0] == "expand keystone"
    assert all((tmp_path / f"{host}.whole").exists() for host in HOSTS)
    assert set(_ended(tmp_path).values()) == {"done"} and len(_ended(tmp_path)) == 7
    assert "the report" in ended.stdout


def test_a_failure_lets_nothing_further_begin_and_the_report_comes(play: Play, tmp_path: Path) -> None:
    book = _exported(tmp_path)
    ended = play(INVENTORY, book, "-e", json.dumps({"broken": "replace keystone@ctl2", "wanted": "exit 1"}))
    assert "the report" in ended.stdout, ended.stdout + ended.stderr
    assert "replace nova@cmp1" not in _ended(tmp_path)
    # Role instance records it itself; what says nothing counts as cut off.
    assert _ended(tmp_path)["replace keystone@ctl2"] == "failed"
    assert "1 job of keystone failed; upgrade_max_failures is 0" in ended.stdout
    assert not (tmp_path / "cmp1").exists() and "contract keystone" not in _log(tmp_path)


@pytest.mark.parametrize("how", ["broken", "lost"])
def test_in_a_larger_round_no_healthy_host_is_left_halfway(play: Play, tmp_path: Path, how: str) -> None:
    book = _exported(tmp_path)
    ended = play(INVENTORY, book, "-e", json.dumps({how: "replace nova@cmp1", "wanted": "exit 1"}))
    assert "the report" in ended.stdout, ended.stdout + ended.stderr
    assert (tmp_path / "cmp2.whole").exists()
    assert not (tmp_path / "cmp1.whole").exists()
    assert _ended(tmp_path)["replace nova@cmp1"] == "failed"
    assert _ended(tmp_path)["replace nova@cmp2"] == "done"


def test_a_host_that_becomes_unreachable_in_a_round_of_its_own(play: Play, tmp_path: Path) -> None:
    ended = play(INVENTORY, _exported(tmp_path), "-e", json.dumps({"lost": "expand keystone"}))
    assert "the report" in ended.stdout, ended.stdout + ended.stderr
    assert _ended(tmp_path) == {"expand keystone": "failed"}


def test_abort_pause_and_resume_are_heard_between_rounds(play: Play, tmp_path: Path) -> None:
    book = _exported(tmp_path)
    journal = tmp_path / "build" / "journal.sqlite"
    ask = (
        "from ansible_collections.rondo.upgrade.plugins.plugin_utils._journal import Journal; "
        f"journal = Journal('{journal}', create=False); journal.request('%s')"
    )
    python = f"PYTHONPATH={ROOT / '.cache' / 'collections'} {sys.executable} -c"
    # The one who resumes does so once the next job waits: its wait shows in the run's sign of life.
    look = (
        "import time; from ansible_collections.rondo.upgrade.plugins.plugin_utils._journal import Journal; "
        f"path = '{journal}'; "
        "beat = lambda: Journal(path, create=False).run()['heartbeat']; "
        "ended = lambda: Journal(path, create=False).run()['jobs'][0]['ended']; "
        "[time.sleep(0.2) for _unused in iter(lambda: bool(ended() and beat() > ended() + 1), True)]; "
    )
    wanted = f'{python} "{ask % "pause"}"; ( {python} "{look}{ask % "resume"}" ) </dev/null >/dev/null 2>&1 &'
    ended = play(INVENTORY, book, "-e", json.dumps({"broken": "expand keystone", "wanted": wanted}))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Paused by " in ended.stdout and set(_ended(tmp_path).values()) == {"done"}

    for path in (tmp_path / "log", *tmp_path.glob("*.whole")):
        path.unlink()
    wanted = f'{python} "{ask % "abort"}"'
    ended = play(INVENTORY, book, "-e", json.dumps({"broken": "replace keystone@ctl1", "wanted": wanted}))
    assert "the report" in ended.stdout, ended.stdout + ended.stderr
    assert "does not begin: aborted by" in ended.stdout
    assert set(_ended(tmp_path).values()) == {"done"} and "contract keystone" not in _ended(tmp_path)


def test_failed_requests_of_the_probe_close_the_gate(play: Play, tmp_path: Path) -> None:
    state = {"running": True, "pid": os.getpid(), "sent": 1000, "failed": 3, "last_failure": None}
    (tmp_path / "state.json").write_text(json.dumps(state), encoding="utf-8")
    (tmp_path / "worse.json").write_text(json.dumps({**state, "sent": 1100, "failed": 8}), encoding="utf-8")
    wanted = f"mv {tmp_path}/worse.json {tmp_path}/state.json"
    ended = play(INVENTORY, _exported(tmp_path), "-e", json.dumps({"broken": "expand keystone", "wanted": wanted}))
    assert "the report" in ended.stdout, ended.stdout + ended.stderr
    assert "5 of 100 requests of the probe failed, and upgrade_max_failed_requests allows 0" in ended.stdout
    assert _ended(tmp_path) == {"expand keystone": "done"}
