# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scenarios' tests look at: nodes, containers and balancers' tables of a lab that is up."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import testinfra

ROOT = Path(__file__).resolve().parent.parent.parent
SHOW_STAT = (
    "import socket; s = socket.socket(socket.AF_UNIX); s.settimeout(60); s.connect('/run/haproxy/admin.sock'); "
    "s.sendall(b'show stat\\n'); print(b''.join(iter(lambda: s.recv(65536), b'')).decode())"
)


class Laboratory:
    """A lab that is up, by its name (default: the environment's RONDO_LAB)."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name or os.environ.get("RONDO_LAB", "lab")
        self.folder = ROOT / ".cache" / "lab" / self.name
        self.state: dict[str, Any] = json.loads((self.folder / "lab.json").read_text())
        self.vip: str = self.state["vip"]

    def node(self, name: str) -> Any:
        """testinfra's view of a node, by SSH."""
        return testinfra.get_host(f"ssh://{name}", ssh_config=str(self.folder / "ssh_config"))

    def container_name(self, node: str, service: str) -> str:
        return f"{self.name}-{node}-{service}"

    def container(self, node: str, service: str) -> Any:
        """testinfra's view of a service's container on a node."""
        return testinfra.get_host(f"docker://{self.container_name(node, service)}")

    def inspect(self, node: str, service: str) -> dict[str, Any]:
        """The engine's whole record of a service's container."""
        name = self.container_name(node, service)
        done = subprocess.run(["docker", "inspect", name], capture_output=True, text=True, check=True)
        record: dict[str, Any] = json.loads(done.stdout)[0]
        return record

    def image(self, node: str, service: str) -> str:
        """The image reference that a service's container was made from."""
        return str(self.inspect(node, service)["Config"]["Image"])

    def servers(self, balancer: str) -> dict[tuple[str, str], str]:
        """The status text of every server in a balancer's tables, by backend and name."""
        done = self.node(balancer).run(f'python3 -c "{SHOW_STAT}"')
        assert done.rc == 0, done.stderr
        rows = csv.DictReader(io.StringIO(done.stdout.lstrip("# ")))
        return {(row["pxname"], row["svname"]): row["status"] for row in rows if row["type"] == "2"}

    def openstack(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of python-openstackclient, through the virtual address."""
        environment = {
            **{key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")},
            "OS_AUTH_URL": f"http://{self.vip}:5000/v3",
            "OS_USERNAME": "admin",
            "OS_PASSWORD": "admin-lab",
            "OS_PROJECT_NAME": "admin",
            "OS_USER_DOMAIN_ID": "default",
            "OS_PROJECT_DOMAIN_ID": "default",
            "OS_IDENTITY_API_VERSION": "3",
        }
        return subprocess.run(
            [str(Path(sys.executable).parent / "openstack"), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
