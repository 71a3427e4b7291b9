# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sample inventories, read by Ansible itself and planned without a warning.

No host of them exists: the facts that role observe would have left are made up (all run an older image, all is well).
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = ROOT / "inventories"
PATIENCE = 600.0

PLAYBOOK = """
- name: Check the declaration
  hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Read upgrade_services
      rondo.upgrade.declaration:
      register: declared

- name: Make up what runs
  hosts: all
  gather_facts: false
  vars:
    managed: "{{ hostvars['localhost'].declared.managed[inventory_hostname] | default({}) }}"
    row: {exists: true, running: true, current: false, image: "registry.example/old:1", target_present: true}
  tasks:
    - name: All run an older version
      ansible.builtin.set_fact:
        observe_containers: "{{ dict(managed.containers | default({}) | product([row])) }}"
        observe_packages: "{{ dict(managed.packages | default([]) | product(['0.1'])) }}"

- name: Plan
  hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Make up the balancers' tables
      ansible.builtin.set_fact:
        observe_haproxy: {backends: "{{ tables }}"}
      delegate_to: "{{ item }}"
      delegate_facts: true
      loop: "{{ declared.balancers }}"

    - name: Compute the plan
      rondo.upgrade.plan:
        show: true
"""


def tables(declaration: Path, servers: dict[str, list[str]]) -> dict[str, Any]:
    """HAProxy's tables with every declared backend; `servers` by service."""
    row = {"status": "UP", "state": "up", "admin": "ready", "usable": True, "checked": True, "backup": False}
    services = yaml.safe_load(declaration.read_text(encoding="utf-8"))["upgrade_services"]
    return {
        backend: {"status": "UP", "mode": "http", "servers": dict.fromkeys(servers[name], row)}
        for name, spec in services.items()
        for backend in spec.get("balancer", {}).get("backends", [])
    }


def planned(folder: Path, inventory: Path, balancer_tables: dict[str, Any]) -> dict[str, Any]:
    """Plan with the real Ansible, and return plan.json. Fails where Ansible or the collection warn."""
    (folder / "plan.yml").write_text(PLAYBOOK, encoding="utf-8")
    (folder / "tables.json").write_text(json.dumps({"tables": balancer_tables}), encoding="utf-8")
    done = subprocess.run(
        ["ansible-playbook", "-i", str(inventory), "plan.yml", "-e", "@tables.json"],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
            "ANSIBLE_HOME": str(folder / "home"),
            "ANSIBLE_TRANSFORM_INVALID_GROUP_CHARS": "ignore",  # Kolla's groups have hyphens
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_NOCOLOR": "true",
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr, done.stdout + done.stderr
    plan: dict[str, Any] = json.loads((folder / "build" / "plan" / "plan.json").read_text(encoding="utf-8"))
    assert plan["obstacles"] == []
    assert all(service["method"] == "roll" for service in plan["services"]), plan["services"]
    return plan


def begins(plan: dict[str, Any], service: str) -> float:
    return float(min(job["start"] for job in plan["jobs"] if job["service"] == service))


def ends(plan: dict[str, Any], service: str, *kinds: str) -> float:
    return float(max(job["end"] for job in plan["jobs"] if job["service"] == service and job["kind"] in kinds))


def sample(folder: Path, name: str) -> Path:
    shutil.copytree(SAMPLES / name, folder / "inventory")
    return folder / "inventory"


def with_kolla(folder: Path, kolla: Path, name: str) -> tuple[Path, Path]:
    """Kolla's own inventory with our group_vars beside it, as docs/kolla.md says."""
    inventory = sample(folder, "kolla")
    shutil.copy(kolla / name, inventory / name)
    return inventory / name, inventory / "group_vars" / "all" / "upgrade.yml"


KOLLA_ORDER = [
    ("mariadb", "rabbitmq"),
    ("rabbitmq", "keystone"),
    ("keystone", "glance-api"),
    ("keystone", "placement-api"),
    ("placement-api", "nova-conductor"),
    ("nova-conductor", "nova-scheduler"),
    ("nova-scheduler", "nova-api"),
    ("nova-conductor", "nova-compute"),
    ("nova-api", "neutron-server"),
    ("neutron-server", "neutron-l3-agent"),
    ("cinder-scheduler", "cinder-volume"),
    ("cinder-volume", "cinder-api"),
    ("heat-engine", "heat-api"),
    ("neutron-server", "horizon"),
]


def test_kollas_multinode_inventory(kolla: Path, tmp_path: Path) -> None:
    inventory, declaration = with_kolla(tmp_path, kolla, "multinode")
    control = ["control01", "control02", "control03"]
    plan = planned(tmp_path, inventory, tables(declaration, _always(declaration, control)))
    assert len(plan["services"]) == 18
    for first, then in KOLLA_ORDER:
        assert ends(plan, first, "replace") <= begins(plan, then), f"{first} before {then}"
    # Nothing but what is true of the sample itself: agents stand behind no balancer, there is one compute host, and
    # nothing was upgraded here before.
    true = ("has not been done before", "no balancer", "a single instance, nova-compute@compute01")
    assert [risk for risk in plan["risks"] if not any(words in risk for words in true)] == []


def _always(declaration: Path, servers: list[str]) -> dict[str, list[str]]:
    return dict.fromkeys(yaml.safe_load(declaration.read_text(encoding="utf-8"))["upgrade_services"], servers)


def test_kollas_all_in_one_inventory(kolla: Path, tmp_path: Path) -> None:
    inventory, declaration = with_kolla(tmp_path, kolla, "all-in-one")
    plan = planned(tmp_path, inventory, tables(declaration, _always(declaration, ["localhost"])))
    for first, then in KOLLA_ORDER:
        assert ends(plan, first, "replace") <= begins(plan, then), f"{first} before {then}"
    # One host: never two jobs at once.
    spans = sorted((job["start"], job["end"]) for job in plan["jobs"])
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_the_openstack_ansible_sample(tmp_path: Path) -> None:
    inventory = sample(tmp_path, "openstack_ansible")
    declaration = inventory / "group_vars" / "all" / "upgrade.yml"
    plan = planned(tmp_path, inventory, tables(declaration, _always(declaration, ["infra1", "infra2", "infra3"])))
    assert ends(plan, "galera_all", "replace") <= begins(plan, "keystone_all")
    assert ends(plan, "keystone_all", "replace") <= begins(plan, "glance_api")


def test_the_tripleo_sample(tmp_path: Path) -> None:
    inventory = sample(tmp_path, "tripleo")
    declaration = inventory / "group_vars" / "all" / "upgrade.yml"
    servers = [f"overcloud-controller-{number}.internalapi" for number in range(3)]
    plan = planned(tmp_path, inventory, tables(declaration, _always(declaration, servers)))
    assert ends(plan, "keystone", "replace") <= begins(plan, "nova_api")
    assert len([job for job in plan["jobs"] if job["kind"] == "replace"]) == 9
