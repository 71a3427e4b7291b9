# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scenarios' tests look at (nodes, containers, tables, journals) and start (playbooks, the probe)."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import testinfra
import yaml

from ansible_collections.rondo.upgrade.plugins.plugin_utils._journal import Journal

ROOT = Path(__file__).resolve().parent.parent.parent
# Machines under load take many times as long; a run that works is never given up on.
PATIENCE = 1800
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
        # Addresses of engines that only one node has, by node.
        self.engines: dict[str, str] = {}

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
        engine = ["--host", self.engines[node]] if node in self.engines else []
        done = subprocess.run(["docker", *engine, "inspect", name], capture_output=True, text=True, check=True)
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


class Run:
    """An `ansible-playbook` at work on a scenario's lab, in a process group of its own.

    Its output goes to a file in `folder`, so that it can be read meanwhile. `environment` is added to the process's.
    """

    def __init__(
        self,
        folder: Path,
        inventory: Path,
        playbook: str,
        *options: str,
        environment: Mapping[str, str] | None = None,
        **variables: Any,
    ) -> None:
        self._log = folder / "output.txt"
        given = {"upgrade_directory": os.environ["LAB_BUILD"], **variables}
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    str(Path(sys.executable).parent / "ansible-playbook"),
                    f"--inventory={inventory}",
                    f"--extra-vars={json.dumps(given)}",
                    playbook,
                    *options,
                ],
                cwd=ROOT,
                env={**os.environ, "ANSIBLE_NOCOLOR": "1", **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    def end(self) -> int:
        """Wait; the exit code."""
        code = self.process.wait(timeout=PATIENCE)
        print(self.output)
        return code

    def wait_for(self, sight: Callable[[], object]) -> None:
        """Wait until something is to be seen. The run must not end before."""
        deadline = time.monotonic() + PATIENCE
        while not sight():
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.2)


def until(happened: Callable[[], object], what: str) -> None:
    """Wait until something is to be seen."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"never seen: {what}"
        time.sleep(0.2)


def journal_path() -> Path:
    return Path(os.environ["LAB_BUILD"]) / "journal.sqlite"


def journal_run(run: int | None = None) -> dict[str, Any] | None:
    """A run as the journal has it, the last one if not said which; None as long as there is none."""
    if not journal_path().exists():
        return None
    with Journal(journal_path(), create=False) as journal:
        return journal.run(run)


def declared_services(inventory: Path) -> dict[str, Any]:
    """An inventory's upgrade_services as they are written, for a test to change something in."""
    variables: dict[str, Any] = yaml.safe_load((inventory / "group_vars" / "all" / "upgrade.yml").read_text())
    services: dict[str, Any] = variables["upgrade_services"]
    return services


def keystone_load(lab: Laboratory) -> dict[str, Any]:
    """What molecule/shared/load.yml sends, as the probe's configuration."""
    load = yaml.safe_load((ROOT / "molecule" / "shared" / "load.yml").read_text())
    text = json.dumps({**load["load"], "rate": load["load_rate"]}).replace("{{ lab.vip }}", lab.vip)
    configuration: dict[str, Any] = json.loads(text)
    return configuration


# Where the balancers' tables and the engine show the lab's Keystone.
KEYSTONE = {"backend": "keystone_internal_back", "service": "keystone", "members": ("ctl1", "ctl2", "ctl3")}


def web_load(lab: Laboratory) -> dict[str, Any]:
    """What the labs with a web are asked, as the probe's configuration."""
    return {
        "rate": 15,
        "timeout": "30s",
        "start_timeout": "120s",
        "requests": [{"kind": "http", "url": f"http://{lab.vip}:8000/"}],
    }


@contextmanager
def probing(load: Mapping[str, Any], folder: Path) -> Iterator[dict[str, Any]]:
    """Sends requests as `load`, the probe's configuration, says; what is yielded is filled with the probe's summary
    when the context ends."""
    program = str(ROOT / "roles" / "probe" / "files" / "probe.py")
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "probe.json"
    configuration.touch(mode=0o600)
    configuration.write_text(json.dumps(load))
    summary: dict[str, Any] = {}
    # Its output to a file: a background process that inherits a pipe keeps its reader waiting.
    with (folder / "start.log").open("w") as log:
        subprocess.run(
            [sys.executable, program, "start", str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
        )
    try:
        yield summary
    finally:
        subprocess.run(
            [sys.executable, program, "stop", str(configuration)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        summary.update(json.loads((folder / "summary.json").read_text()))
