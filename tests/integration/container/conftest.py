# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real engine, tiny images made of this machine's own shell, and the modules as Ansible runs them.

Everything is named rondo-test-TOKEN-..., with a token of this run, and removed at its end.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.types import IPAMConfig, IPAMPool

from ansible_collections.rondo.upgrade.plugins.module_utils._container import Engine, Scene, Step

COLLECTIONS = Path(__file__).resolve().parents[3] / ".cache" / "collections"

# Longer than any machine needs: only a defect reaches it.
PATIENCE = 180.0

# How Ansible's own tests hand arguments to a module; a process of its own, as on a managed host.
RUN_MODULE = """
import importlib, json, sys
from ansible.module_utils.testing import patch_module_args
for name in sys.argv[2:]:
    sys.modules[name] = None  # makes its import fail
module = importlib.import_module("ansible_collections.rondo.upgrade.plugins.modules." + sys.argv[1])
with patch_module_args(json.load(sys.stdin)):
    module.main()
"""

SERVE = ["/bin/sh", "-c", "trap 'exit 0' TERM; echo $RELEASE >/data/served; sleep 100000 & wait"]


def until(happened: Callable[[], Any], what: str) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = happened()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"never seen: {what}"
        time.sleep(0.1)


def _run_module(
    name: str, arguments: dict[str, Any], check: bool = False, without: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Run a module of the collection; without the Python packages named.

    Returns:
        Its result, with `failed` always there.
    """
    done = subprocess.run(
        [sys.executable, "-c", RUN_MODULE, name, *without],
        input=json.dumps({**arguments, "_ansible_check_mode": check, "_ansible_diff": True}),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
        timeout=PATIENCE * 2,
        check=False,
    )
    assert done.stdout.strip(), done.stderr
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    result.setdefault("failed", False)
    result["everything"] = done.stdout + done.stderr
    return result


def shell() -> bytes:
    """A tar of this machine's own shell, a few tools and the libraries that they need."""
    files: set[str] = set()
    links: dict[str, str] = {}
    for tool in ("sh", "sleep", "cat", "env", "true", "getent", "hostname"):
        path = shutil.which(tool)
        assert path, tool
        real = str(Path(path).resolve())
        files.add(real)
        links[f"bin/{tool}"] = real
        listed = subprocess.run(["ldd", real], check=True, capture_output=True, text=True).stdout
        files |= set(re.findall(r"(/\S+) \(0x", listed))
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for file in sorted(files):
            tar.add(Path(file).resolve(), arcname=file, recursive=False)
        for name, target in links.items():
            if "/" + name not in files:
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, target
                tar.addfile(link)
        for folder in ("data", "tmp", "etc"):
            directory = tarfile.TarInfo(folder)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(directory)
        for name, text in (("etc/nsswitch.conf", "hosts: files dns\n"), ("etc/passwd", "root:x:0:0::/:/bin/sh\n")):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return made.getvalue()


class Lab:
    """The engine, and names for what a test puts there."""

    def __init__(self, client: docker.DockerClient) -> None:
        self.client = client
        self.api = client.api
        self.engine = Engine()
        self.token = f"rondo-test-{uuid.uuid4().hex[:8]}"
        self.images = {number: f"{self.token}-app:{number}" for number in (1, 2, 3)}

    def import_images(self) -> None:
        packed = shell()
        for number, reference in self.images.items():
            repository, tag = reference.split(":")
            serve = SERVE if number < 3 else ["/not/there"]
            changes = [
                "ENV PATH=/bin",
                f"ENV RELEASE={number}",
                f"ENV ONLY_{number}=yes",
                f"LABEL release={number}",
                f"LABEL only-{number}=yes",
                "VOLUME /data",
                "CMD " + json.dumps(serve),
            ]
            self.api.import_image_from_data(packed, repository=repository, tag=tag, changes=changes)
            assert self.engine.image(reference), reference

    def clear(self) -> None:
        """Remove all containers, networks and volumes of this run, whatever state they are in."""
        volumes = []
        for row in self.api.containers(all=True, filters={"name": self.token}):
            with contextlib.suppress(docker.errors.NotFound):
                mounts = self.api.inspect_container(row["Id"])["Mounts"]
                volumes += [mount["Name"] for mount in mounts if mount["Type"] == "volume"]
            with contextlib.suppress(docker.errors.APIError):
                self.api.remove_container(row["Id"], force=True, v=True)
        for network in self.client.networks.list(names=[self.token]):
            network.remove()
        volumes += [volume.name for volume in self.client.volumes.list(filters={"name": self.token})]
        for name in volumes:
            with contextlib.suppress(docker.errors.APIError):
                self.api.remove_volume(name)

    def remove_images(self) -> None:
        for reference in self.images.values():
            with contextlib.suppress(docker.errors.APIError):
                self.api.remove_image(reference, force=True)

    def name(self, word: str = "web") -> str:
        return f"{self.token}-{word}"

    def deploy(self, word: str = "web", image: int = 1, **settings: Any) -> str:
        """Start a container as a deployment tool would, and return its name."""
        self.client.containers.run(self.images[image], name=self.name(word), detach=True, **settings)
        until(lambda: self.inspect(self.name(word))["State"]["Running"], "a container that runs")
        return self.name(word)

    def network(self, word: str) -> tuple[str, str]:
        """A network with a subnet of its own. Returns its name and the subnet's first three numbers."""
        for _dummy_attempt in range(50):
            subnet = f"198.{random.choice((18, 19))}.{random.randrange(256)}"
            pool = IPAMConfig(pool_configs=[IPAMPool(subnet=f"{subnet}.0/24")])
            try:
                self.client.networks.create(self.name(word), driver="bridge", ipam=pool)
            except docker.errors.APIError as error:
                if "overlap" not in str(error):
                    raise
            else:
                return self.name(word), subnet
        raise AssertionError("no free subnet")

    def inspect(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.api.inspect_container(name)
        return answer

    def scene(self, name: str) -> Scene:
        return self.engine.scene(name)

    def execute(self, name: str, *command: str) -> str:
        made = self.api.exec_create(name, list(command))
        output: bytes = self.api.exec_start(made["Id"])
        assert self.api.exec_inspect(made["Id"])["ExitCode"] == 0, output
        return output.decode().strip()

    def environment(self, name: str) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.execute(name, "/bin/env").splitlines())

    def do(self, steps: list[Step]) -> None:
        for step in steps:
            self.engine.do(step, stop_timeout=30)

    def serves(self, name: str, image: int) -> bool:
        container = self.inspect(name)
        return bool(container["State"]["Running"] and container["Config"]["Image"] == self.images[image])

    def others(self, name: str) -> list[str]:
        """What belongs to a name besides the container itself."""
        scene = self.scene(name)
        found = [*scene.kept, *scene.undone, *([scene.new] if scene.new else [])]
        return sorted(container["Name"].split(".rondo-")[1].split("-")[0] for container in found)


@pytest.fixture(scope="session")
def engine_lab() -> Iterator[Lab]:
    try:
        client = docker.from_env(version="auto", timeout=int(PATIENCE))
    except docker.errors.DockerException as error:
        pytest.fail(f"these tests need a container engine, and none answers ({error}): make engine starts one")
    made = Lab(client)
    try:
        made.import_images()
        yield made
    finally:
        made.clear()
        made.remove_images()
        client.close()


@pytest.fixture
def run_module() -> Callable[..., dict[str, Any]]:
    return _run_module


@pytest.fixture
def lab(engine_lab: Lab) -> Iterator[Lab]:
    try:
        yield engine_lab
    finally:
        engine_lab.clear()
