# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Three hosts that are all this machine, each with a container of its own; no balancer, so that it takes seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 900.0
HOSTS = ("h1", "h2", "h3")


@pytest.fixture(scope="session", autouse=True)
def images() -> None:
    """rondo/web in releases 1, 2 and one that never becomes healthy."""
    command = [sys.executable, str(ROOT / "tools" / "images.py"), "web-1", "web-2", "web-2-unhealthy"]
    subprocess.run(command, check=True, timeout=PATIENCE * 2)


class Cluster:
    """A folder with an inventory and a declaration, and the containers that belong to it."""

    def __init__(self, folder: Path, engine: Any) -> None:
        self.folder = folder
        self.engine = engine
        self.token = f"rondo-playbooks-{uuid.uuid4().hex[:8]}"
        container = self.token + "-{{ inventory_hostname }}"
        self.service: dict[str, Any] = {
            "artifact": {"container": container, "image": "rondo/web:2"},
            "min_available": 2,
            "health": {
                "command": ["docker", "exec", container, "sh", "-c", "test ${WEB_STATUS:-200} = 200"],
                "min_healthy_time": "0s",
                "healthy_deadline": "300s",
                "interval": "200ms",
                "timeout": "60s",
            },
            "estimates": {"stage": "1s", "replace": "2s"},
        }
        self.hosts: dict[str, dict[str, Any]] = {
            name: {"ansible_connection": "local", "ansible_python_interpreter": sys.executable} for name in HOSTS
        }
        for name in HOSTS:
            # PID 1 leaves SIGTERM alone: each stop would take ten seconds.
            engine.containers.run("rondo/web:1", name=self.container(name), detach=True, stop_signal="SIGKILL")

    def container(self, host: str) -> str:
        return f"{self.token}-{host}"

    def write(self) -> None:
        (self.folder / "group_vars").mkdir(exist_ok=True)
        inventory = {"web": {"hosts": self.hosts}}
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
        declared = {"upgrade_services": {"web": self.service}}
        (self.folder / "group_vars" / "all.yml").write_text(yaml.safe_dump(declared), encoding="utf-8")

    def play(self, playbook: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        self.write()
        return subprocess.run(
            ["ansible-playbook", "-i", "hosts.yml", playbook, *arguments],
            cwd=self.folder,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
                "ANSIBLE_HOME": str(self.folder / "home"),
                "ANSIBLE_ROLES_PATH": str(self.folder / "roles"),
                "ANSIBLE_NOCOLOR": "true",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def runs(self) -> list[str]:
        """The images that the hosts' containers run, in the hosts' order; "" for one that is not running."""
        found = [self.engine.containers.get(self.container(name)) for name in HOSTS]
        return [one.attrs["Config"]["Image"] if one.status == "running" else "" for one in found]

    def report(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(
            (self.folder / "build" / "report" / "report.json").read_text(encoding="utf-8")
        )
        return loaded

    def role(self, name: str, tasks: list[dict[str, Any]], handlers: list[dict[str, Any]] | None = None) -> None:
        for kind, content in (("tasks", tasks), ("handlers", handlers or [])):
            path = self.folder / "roles" / name / kind / "main.yml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(content), encoding="utf-8")

    def remove(self) -> None:
        for container in self.engine.containers.list(all=True, filters={"name": self.token}):
            container.remove(force=True, v=True)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    engine = docker.from_env(timeout=300)
    made = Cluster.__new__(Cluster)
    try:
        made.__init__(tmp_path, engine)  # type: ignore[misc]
        yield made
    finally:
        made.remove()
        engine.close()
