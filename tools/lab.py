#!/usr/bin/env python3
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab: a throwaway cluster in containers. docs/lab.md tells how to ask for another one.

    tools/lab.py up     [--name lab] [--inventory DIR] [--lab FILE] [--image keystone=rondo/keystone:28.1.0]
                        [--image haproxy@lb1=rondo/haproxy:2.6]
    tools/lab.py down   [--name lab | --all]
    tools/lab.py show   [--name lab]

A node is a container with its own address, Python and sshd; each host of the inventory becomes one. A service is a
container that shares its node's network, on every node of the inventory group that it names. What services there are,
and how each is made ready, is data (molecule/shared/lab.yml). Everything made here carries a label with the lab's name,
so that `down` finds it whatever became of the files.
"""

from __future__ import annotations

import argparse
import fcntl
import functools
import hashlib
import io
import ipaddress
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import images
import jinja2
import yaml

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "lab"
LABEL = "rondo.upgrade.lab"
SHARED = ROOT / "molecule" / "shared"
# Machines under load take many times as long; a lab that works is never given up on.
READY_SECONDS = 300
SERVICE_KEYS = {
    "image", "nodes", "files", "owner", "volumes", "environment", "capabilities", "once", "ready", "then", "frontends",
    "port", "check", "images",
}  # fmt: skip

LabError = images.ImageError


def say(text: str) -> None:
    print(f"lab: {text}", flush=True)


def together(work: Callable[[str], object], items: Sequence[str]) -> None:
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(work, items))


class Lab:
    """One lab: its definition (services), its inventory (nodes and groups), and where its files are."""

    def __init__(self, name: str, inventory: Path, definition: Mapping[str, Any]) -> None:
        self.name = name
        self.folder = CACHE / name
        self.services: dict[str, dict[str, Any]] = {key: dict(value) for key, value in definition["services"].items()}
        for key, service in self.services.items():
            if wrong := sorted(set(service) - SERVICE_KEYS):
                raise LabError(f"services.{key}.{wrong[0]} is no key; there are {', '.join(sorted(SERVICE_KEYS))}")
        self.client_timeout = definition.get("client_timeout", "60s")
        self.maxconn = definition.get("maxconn", 4000)
        self.check_intervals = definition.get("check_intervals", "inter 2s fastinter 1s downinter 1s")
        self.groups, self.hostvars = read_inventory(inventory, name)
        self.nodes = sorted(
            {host for service in self.services.values() for host in self._hosts(service)}, key=self._order
        )
        self.addresses: dict[str, str] = {}
        self.vip = ""

    def _hosts(self, service: Mapping[str, Any]) -> list[str]:
        return self.groups.get(service["nodes"], [])

    def _order(self, host: str) -> int:
        return list(self.hostvars).index(host)

    def _image(self, key: str, node: str) -> str:
        service = self.services[key]
        return str(service.get("images", {}).get(node, service["image"]))

    def container(self, node: str, service: str | None = None) -> str:
        return "-".join(filter(None, (self.name, node, service)))

    @property
    def label(self) -> str:
        return f"{LABEL}={self.name}"

    # -- up -------------------------------------------------------------------------------------------------------

    def up(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        wanted = [
            "rondo/node:trixie",
            *(self._image(key, node) for key, service in self.services.items() for node in self._hosts(service)),
        ]
        for reference in dict.fromkeys(wanted):
            if known := images.name_of(reference):
                images.ensure(known)
        self._network()
        say(f"{len(self.nodes)} nodes: {', '.join(self.nodes)}")
        self._key()
        together(self._node, self.nodes)
        self._ssh_config()
        self._write_state()
        for key in self.services:
            self._service(key)
        self._reachable()
        say(f"'{self.name}' is up; virtual address {self.vip}; ssh -F {self._shown('ssh_config')} {self.nodes[0]}")

    def _shown(self, name: str) -> str:
        return os.path.relpath(self.folder / name)

    def _network(self) -> None:
        """A network of the lab's own, in the first range that nothing on this machine uses."""
        mtu = subprocess.run(
            [str(ROOT / "tools" / "engine"), "mtu"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for third in range(64, 255):
            network = ipaddress.ip_network(f"172.30.{third}.0/24")
            if any(network.overlaps(used) for used in used_ranges()):
                continue
            try:
                images.docker(
                    "network", "create", "--label", self.label, "--subnet", str(network),
                    "--opt", f"com.docker.network.driver.mtu={mtu}",
                    self.name,
                )  # fmt: skip
            except LabError as error:
                # Another lab took the same range in between.
                if "overlap" in str(error):
                    continue
                raise
            hosts = list(network.hosts())
            if len(self.nodes) > 200:
                raise LabError(f"{len(self.nodes)} nodes do not fit into one lab; 200 do")
            self.addresses = {node: str(hosts[10 + index]) for index, node in enumerate(self.nodes)}
            self.vip = str(hosts[-5])
            return
        raise LabError(
            "no address range is free for the lab's network from 172.30.64.0/24 to 172.30.254.0/24; remove old networks"
        )

    def _key(self) -> None:
        key = self.folder / "id"
        if not key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(key)], check=True)

    def _node(self, node: str) -> None:
        name = self.container(node)
        images.docker(
            "create", "--init", "--name", name, "--hostname", node, "--label", self.label, "--network", self.name,
            "--ip", self.addresses[node], "--volume", "/var/run/docker.sock:/var/run/docker.sock",
            *(
                word
                for volume, path in (("haproxy-run", "/run/haproxy"), ("haproxy-etc", "/etc/haproxy"))
                for word in ("--volume", f"{self._volume(volume, node)}:{path}")
            ),
            *(word for other, address in self.addresses.items() for word in ("--add-host", f"{other}:{address}")),
            "rondo/node:trixie",
        )  # fmt: skip
        put(name, {"/etc/ssh/authorized_keys": (self.folder / "id.pub").read_text()}, mode=0o600)
        images.docker("start", name)

    def _volume(self, volume: str, node: str) -> str:
        name = f"{self.name}-{node}-{volume}"
        images.docker("volume", "create", "--label", self.label, name)
        return name

    def _ssh_config(self) -> None:
        # Addresses are here and not in `ansible_host`: a task that is delegated templates that with the wrong name.
        sockets = control_folder(self.name)
        sockets.mkdir(mode=0o700, exist_ok=True)
        lines = [
            "Host *",
            "  User root",
            f"  IdentityFile {self.folder / 'id'}",
            "  IdentitiesOnly yes",
            "  StrictHostKeyChecking no",
            "  UserKnownHostsFile /dev/null",
            "  LogLevel ERROR",
            "  ConnectTimeout 30",
            "  ServerAliveInterval 5",
            "  ServerAliveCountMax 12",
            "  ControlMaster auto",
            "  ControlPersist 120",
            f"  ControlPath {sockets}/%C",
        ]
        for node, address in self.addresses.items():
            lines += [f"Host {node}", f"  HostName {address}"]
        (self.folder / "ssh_config").write_text("\n".join(lines) + "\n")

    def _write_state(self) -> None:
        state = {
            "name": self.name,
            "vip": self.vip,
            "nodes": {
                node: {"address": self.addresses[node], "container": self.container(node)} for node in self.nodes
            },
            "services": {
                key: {"image": service["image"], "nodes": self._hosts(service)}
                for key, service in self.services.items()
            },
        }
        (self.folder / "lab.json").write_text(json.dumps(state, indent=2) + "\n")

    def _service(self, key: str) -> None:
        service = self.services[key]
        hosts = self._hosts(service)
        if not hosts:
            return
        began = time.monotonic()
        together(lambda node: self._create(key, node), hosts)
        first = self.container(hosts[0], key)
        if once := service.get("once"):
            self._once(key, hosts[0], once)
        together(lambda node: images.docker("start", self.container(node, key)), hosts)
        if ready := service.get("ready"):
            together(lambda node: wait_for(self.container(node, key), self._rendered(ready, node)), hosts)
        if then := service.get("then"):
            images.docker(
                "exec", "--user", "0:0", "--interactive", first, "sh", "-eu", stdin=self._rendered(then, hosts[0])
            )
        say(f"{key} runs on {', '.join(hosts)} ({time.monotonic() - began:.0f} s)")

    def _options(self, key: str, node: str) -> list[str]:
        service = self.services[key]
        words = ["--network", f"container:{self.container(node)}", "--label", self.label]
        for path, volume in service.get("volumes", {}).items():
            # A volume whose name starts with "shared-" is one for all nodes.
            shared = volume.startswith("shared-")
            words += ["--volume", f"{self._volume(volume, 'all' if shared else node)}:{path}"]
        for variable, value in service.get("environment", {}).items():
            words += ["--env", f"{variable}={self._rendered(str(value), node)}"]
        for capability in service.get("capabilities", []):
            words += ["--cap-add", capability]
        return words

    def _create(self, key: str, node: str) -> None:
        service = self.services[key]
        name = self.container(node, key)
        images.docker(
            "create", "--init", "--name", name, "--restart", "no", *self._options(key, node), self._image(key, node)
        )
        rendered = {
            path: self._rendered((SHARED / "templates" / template).read_text(), node)
            for path, template in service.get("files", {}).items()
        }
        put(name, rendered, owner=service.get("owner", 0))

    def _once(self, key: str, node: str, script: str) -> None:
        name = self.container(node, key)
        images.docker(
            "run", "--rm", "--interactive", "--user", "0:0", "--volumes-from", name, *self._options(key, node),
            self._image(key, node), "sh", "-eu", stdin=self._rendered(script, node),
        )  # fmt: skip

    def _rendered(self, text: str, node: str) -> str:
        environment = jinja2.Environment(
            undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
        )
        return environment.from_string(text).render(
            node=node, address=self.addresses[node], addresses=self.addresses, groups=self.groups, vip=self.vip,
            services=self.services, client_timeout=self.client_timeout, check_intervals=self.check_intervals,
            maxconn=self.maxconn,
        )  # fmt: skip

    def _reachable(self) -> None:
        """Every node by SSH, and every frontend through the virtual address."""
        config = str(self.folder / "ssh_config")

        def by_ssh(node: str) -> None:
            retry(
                f"ssh to {node}",
                lambda: subprocess.run(
                    ["ssh", "-F", config, node, "true"], stdin=subprocess.DEVNULL, capture_output=True, check=True
                ),
            )

        together(by_ssh, self.nodes)
        balancers = self.groups.get("balancers", [])
        for service in self.services.values():
            if not balancers or not self._hosts(service):
                continue
            for port in service.get("frontends", {}).values():
                url = f"http://{self.vip}:{port}{service.get('check', '/')}"
                retry(f"an answer from {url}", functools.partial(fetch, url))


def fetch(url: str) -> None:
    import urllib.request

    # No proxy: the address is one of this machine's own networks.
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=15) as answer:
        answer.read()


def retry(what: str, work: Callable[[], object], seconds: float = READY_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            work()
            return
        except (OSError, subprocess.CalledProcessError, LabError) as error:
            if time.monotonic() > deadline:
                raise LabError(f"no {what} within {seconds:.0f} s: {error}") from error
            time.sleep(0.3)


def wait_for(container: str, command: str) -> None:
    """Until the command succeeds in the container. Raises LabError, with the container's log, once it has exited."""

    def succeeds() -> None:
        if images.docker("inspect", "--format", "{{.State.Running}}", container) != "true":
            raise RuntimeError("it has exited")
        images.docker("exec", container, "sh", "-c", command)

    try:
        retry(f"success of '{command}'", succeeds)
    except (LabError, RuntimeError) as error:
        logs = subprocess.run(
            ["docker", "logs", "--tail", "30", container], capture_output=True, text=True, check=False
        )
        raise LabError(f"{container}: {error}\n{logs.stdout}{logs.stderr}") from error


def put(container: str, files: Mapping[str, str], *, mode: int = 0o644, owner: int = 0) -> None:
    """Writes files into a container that need not run yet, through to its volumes."""
    if not files:
        return
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode, entry.uid, entry.gid = len(text.encode()), mode, owner, owner
            archive.addfile(entry, io.BytesIO(text.encode()))
    done = subprocess.run(
        ["docker", "cp", "-", f"{container}:/"], input=buffer.getvalue(), capture_output=True, check=False
    )
    if done.returncode:
        raise LabError(f"docker cp into {container} failed: {done.stderr.decode().strip()}")


def read_inventory(source: Path, name: str) -> tuple[dict[str, list[str]], dict[str, dict[str, Any]]]:
    """The hosts of every group, and the hosts in the inventory's own order."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-inventory"), "--inventory", str(source), "--list"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env={**os.environ, "RONDO_LAB": name},
    )  # fmt: skip
    if done.returncode:
        raise LabError(f"the inventory {source} can't be read: {done.stderr.strip()}")
    listed = json.loads(done.stdout)

    def hosts(group: str) -> list[str]:
        entry = listed.get(group, {})
        found = list(entry.get("hosts", []))
        for child in entry.get("children", []):
            found += hosts(child)
        return list(dict.fromkeys(found))

    groups = {group: hosts(group) for group in listed if group != "_meta"}
    hostvars = listed["_meta"]["hostvars"]
    return groups, {host: hostvars.get(host, {}) for host in hosts("all")}


def used_ranges() -> Iterator[ipaddress.IPv4Network]:
    routes = subprocess.run(
        ["ip", "-4", "-o", "route", "show", "table", "all"], capture_output=True, text=True, check=False
    ).stdout
    for line in routes.splitlines():
        for word in line.split()[:2]:
            try:
                network = ipaddress.ip_network(word, strict=False)
            except ValueError:
                continue
            if isinstance(network, ipaddress.IPv4Network) and network.prefixlen > 0:
                yield network


def read_definition(path: Path) -> dict[str, Any]:
    """A lab's definition; `extends` names another file that it is laid over, service by service and key by key."""
    data = yaml.safe_load(path.read_text()) or {}
    if below := data.pop("extends", None):
        base = read_definition((path.parent / below).resolve())
        for key, service in data.get("services", {}).items():
            if service is None:
                base["services"].pop(key, None)
            else:
                base["services"][key] = {**base["services"].get(key, {}), **service}
        base.update({key: value for key, value in data.items() if key != "services"})
        return base
    return data


def control_folder(name: str) -> Path:
    # In /tmp, and short: a UNIX socket's path has room for 108 characters.
    digest = hashlib.sha256(str(CACHE / name).encode()).hexdigest()[:8]
    return Path(tempfile.gettempdir()) / f"rondo-{os.getuid()}-{digest}"


def labs() -> list[str]:
    """Names of the labs that have anything on the engine, or a folder."""
    found = set(
        images.docker("ps", "--all", "--filter", f"label={LABEL}", "--format", f'{{{{.Label "{LABEL}"}}}}').split()
    )
    for kind in ("network", "volume"):
        found |= set(
            images.docker(kind, "ls", "--filter", f"label={LABEL}", "--format", f'{{{{.Label "{LABEL}"}}}}').split()
        )
    return sorted(found | {path.name for path in CACHE.glob("*") if path.is_dir()})


def down(name: str) -> None:
    """Removes all that carries the lab's label, and its files. Silent about what is not there."""
    label = f"label={LABEL}={name}"
    if containers := images.docker("ps", "--all", "--quiet", "--filter", label).split():
        # A container that was paused can't be stopped, and one removed with its node still paused stays behind.
        subprocess.run(["docker", "unpause", *containers], capture_output=True, check=False)
        images.docker("rm", "--force", "--volumes", *containers)
    if networks := images.docker("network", "ls", "--quiet", "--filter", label).split():
        images.docker("network", "rm", *networks)
    if volumes := images.docker("volume", "ls", "--quiet", "--filter", label).split():
        images.docker("volume", "rm", "--force", *volumes)
    sockets = control_folder(name)
    for socket in sockets.glob("*") if sockets.is_dir() else ():
        subprocess.run(
            ["ssh", "-F", "none", "-o", f"ControlPath={socket}", "-O", "exit", "lab"],
            stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip
    shutil.rmtree(sockets, ignore_errors=True)
    shutil.rmtree(CACHE / name, ignore_errors=True)


@contextmanager
def locked(name: str) -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    parser = argparse.ArgumentParser(description="Brings a throwaway cluster in containers up and down.")
    parser.add_argument("word", choices=("up", "down", "show"))
    parser.add_argument(
        "--name", default=os.environ.get("RONDO_LAB", "lab"), help="the lab's name; default: $RONDO_LAB, or lab"
    )
    parser.add_argument("--all", action="store_true", help="down: every lab")
    parser.add_argument(
        "--inventory", type=Path, default=ROOT / "inventories" / "lab", help="its hosts are the lab's nodes"
    )
    parser.add_argument("--lab", type=Path, default=SHARED / "lab.yml", help="the lab's definition")
    parser.add_argument(
        "--image", action="append", default=[], metavar="SERVICE[@NODE]=IMAGE", help="what a service starts with"
    )
    options = parser.parse_args()
    try:
        if options.word == "down":
            for name in labs() if options.all else [options.name]:
                with locked(name):
                    down(name)
                (CACHE / f"{name}.lock").unlink(missing_ok=True)
                say(f"'{name}' is gone")
        elif options.word == "show":
            print((CACHE / options.name / "lab.json").read_text(), end="")
        else:
            definition = read_definition(options.lab)
            for pair in options.image:
                name, _, image = pair.partition("=")
                service, _, node = name.partition("@")
                if service not in definition["services"] or not image:
                    known = ", ".join(definition["services"])
                    raise LabError(f"--image {pair}: say SERVICE=IMAGE or SERVICE@NODE=IMAGE; services are {known}")
                if node:
                    one = definition["services"][service]
                    one["images"] = {**one.get("images", {}), node: image}
                else:
                    definition["services"][service]["image"] = image
            with locked(options.name):
                down(options.name)
                Lab(options.name, options.inventory, definition).up()
    except (LabError, OSError, subprocess.SubprocessError, jinja2.TemplateError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
