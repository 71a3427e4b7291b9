# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rehearsal's twin in containers, from the twin.json in a folder.

    twin.py images FOLDER   tries which services' own images serve; writes images.json
    twin.py up FOLDER       builds it; writes probe.json, which says what a probe is to ask
    twin.py down FOLDER     removes it, and stops what runs on it
    twin.py keep FOLDER PID goes to the background, and takes the twin down once the process PID is gone

All that is made carries a label with the twin's name, by which `down` finds it. docs/rehearsal.md tells the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from requests.exceptions import RequestException

HERE = Path(__file__).resolve().parent
LABEL = "rondo.upgrade.rehearsal"
SOCKET = "/var/run/docker.sock"
# Machines under load take many times as long; a twin that works is never given up on.
PATIENCE = 300.0
READY = "/etc/haproxy/rehearsal.ready"
BALANCE = (
    f"until [ -e {READY} ]; do sleep 0.1; done; mkdir -p /run/haproxy; exec haproxy -W -db -S /run/haproxy/master.sock"
)
# So long may an own image take until it answers, and all of them together until they are fetched, before a stand-in is
# taken instead.
TRIAL = 60.0
FETCHING = 120.0
ASK = """
import sys, urllib.error, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=20).status)
except urllib.error.HTTPError as error:
    print(error.code)
except OSError as error:
    print(error)
"""
SERVERS_DOWN = """
import csv, io, socket
s = socket.socket(socket.AF_UNIX)
s.settimeout(60)
s.connect("/run/haproxy/admin.sock")
s.sendall(b"show stat\\n")
text = b"".join(iter(lambda: s.recv(65536), b"")).decode()
rows = csv.DictReader(io.StringIO(text.lstrip("# ")))
print(*[row["pxname"] + "/" + row["svname"] for row in rows if row["type"] == "2" and row["status"] != "UP"])
"""


class TwinError(Exception):
    """Why there is no twin, and what would help."""


class Twin:
    def __init__(self, folder: Path, engine: Any, *, docker_host: str | None = None, node_image: str = "") -> None:
        self.folder = folder
        self.engine = engine
        self.docker_host = docker_host or ""
        self.node_image = node_image
        self.made: dict[str, Any] = json.loads((folder / "twin.json").read_text(encoding="utf-8"))
        self.name: str = self.made["name"]
        self.label = {LABEL: self.name}

    # -- images --------------------------------------------------------------------------------------------------------

    def images(self, policy: str) -> None:
        self.base = self._base()
        candidates = self.made["candidates"]
        if policy == "pull":
            self._fetch([one[when] for one in candidates for when in ("after", "before") if one[when]])
        with ThreadPoolExecutor(max_workers=3) as pool:
            found = list(pool.map(lambda one: self._tried(one, policy), candidates))
        tried = [(one["service"], row) for one, row in zip(candidates, found, strict=True)]
        content = {
            "own": {service: row for service, row in tried if not isinstance(row, str)},
            "stood_in": {service: why for service, why in tried if isinstance(why, str)},
        }
        (self.folder / "images.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def _tried(self, one: Mapping[str, Any], policy: str) -> dict[str, Any] | str:
        """What a service's containers are made of, if its own image serves; else why it gets a stand-in."""
        if policy == "none":
            return "not tried"
        if not self._has(one["after"]):
            return "not on the engine" if policy == "present" else f"not to be had within {FETCHING:.0f} s"
        # A name of its own, and no label of other content: what is left of a trial goes with the twin.
        name = f"{self.name}-trial-{one['service']}"
        node = self.engine.containers.create(
            self.base, name=name, entrypoint=["sleep", "infinity"], labels=self.label, stop_signal="SIGKILL"
        )
        try:
            node.start()
            mine = {"environment": one["environment"], "volumes": one["volumes"], "labels": self.label}
            container = self.engine.containers.create(
                one["after"], name=f"{name}-image", network_mode=f"container:{name}", **mine
            )
            try:
                container.start()
                if not self._serves(container, node, one):
                    return "no answer to the health check"
            finally:
                gone(container)
        except APIError:
            return "not to be started"
        finally:
            gone(node)
        before = {"before": one["before"]} if one["before"] and self._has(one["before"]) else {}
        return {**{key: one[key] for key in ("after", "environment", "volumes")}, **before}

    def _fetch(self, references: Sequence[str]) -> None:
        def pull(reference: str) -> None:
            with contextlib.suppress(DockerException, RequestException):
                self.engine.images.pull(reference)

        # A registry that does not answer is not waited for: such a thread ends with this program.
        pulls = [
            Thread(target=pull, args=(one,), daemon=True) for one in dict.fromkeys(references) if not self._has(one)
        ]
        for each in pulls:
            each.start()
        deadline = time.monotonic() + FETCHING
        for each in pulls:
            each.join(max(0.0, deadline - time.monotonic()))

    def _has(self, reference: str) -> bool:
        with contextlib.suppress(ImageNotFound):
            self.engine.images.get(reference)
            return True
        return False

    def _serves(self, container: Any, node: Any, one: Mapping[str, Any]) -> bool:
        deadline = time.monotonic() + TRIAL
        while time.monotonic() < deadline:
            _code, output = node.exec_run(["python3", "-c", ASK, one["url"]])
            if output.decode(errors="replace").strip() in map(str, one["status"]):
                return True
            container.reload()
            if container.status != "running":
                return False
            time.sleep(1)
        return False

    # -- up ------------------------------------------------------------------------------------------------------------

    def up(self) -> None:
        self.down()
        self._stand_ins(self._base())
        self.engine.networks.create(self.name, driver="bridge", labels=self.label)
        together(self._node, self.made["nodes"])
        for node in self.made["nodes"]:
            if node["balancer"]:
                files = {"/etc/haproxy/haproxy.cfg": self.made["haproxy"].encode(), READY: b""}
                put(self.engine.containers.get(node["container"]), files)
        together(self._container, self.made["containers"])
        together(self._in_rotation, [node for node in self.made["nodes"] if node["balancer"]])
        self._write_probe()

    def _base(self) -> str:
        """The nodes' image: the one given, else one made from Debian's."""
        if self.node_image:
            return self._had(self.node_image)
        reference = "rondo-rehearsal/node:1"
        with contextlib.suppress(ImageNotFound):
            self.engine.images.get(reference)
            return reference
        try:
            self.engine.images.build(path=str(HERE), dockerfile=str(HERE / "Dockerfile"), tag=reference, rm=True)
        except (DockerException, RequestException) as error:
            raise TwinError(
                f"the nodes' image can't be built from {HERE / 'Dockerfile'} ({told(error)}): name one that has "
                "Python 3 with the Docker SDK, and HAProxy, with rehearse_node_image"
            ) from error
        return reference

    def _had(self, reference: str) -> str:
        with contextlib.suppress(ImageNotFound):
            self.engine.images.get(reference)
            return reference
        try:
            self.engine.images.pull(reference)
        except (DockerException, RequestException) as error:
            raise TwinError(
                f"rehearse_node_image: {reference} is not here and can't be pulled ({told(error)})"
            ) from error
        return reference

    def _stand_ins(self, base: str) -> None:
        self.base = base
        script = (HERE / "stand_in.py").read_bytes()
        for version, reference in self.made["images"].items():
            # No label: an image that had it would take it from what is made of another image later.
            draft = self.engine.containers.create(base, name=f"{self.name}-draft-{version}")
            try:
                put(draft, {"/usr/local/lib/rondo-stand-in.py": script})
                changes = [
                    "USER root",
                    "ENTRYPOINT []",
                    'CMD ["python3", "/usr/local/lib/rondo-stand-in.py"]',
                    f"ENV STAND_IN_VERSION={version}",
                ]
                repository, _colon, tag = reference.rpartition(":")
                draft.commit(repository=repository, tag=tag, changes="\n".join(changes))
            finally:
                draft.remove(force=True, v=True)

    def _node(self, node: Mapping[str, Any]) -> None:
        address = urlsplit(self.docker_host)
        socket = address.path if address.scheme == "unix" else SOCKET
        # Only this machine's own programs ask; an engine elsewhere is asked over the network.
        side = None if address.scheme == "tcp" else "127.0.0.1"
        command = BALANCE + " -f /etc/haproxy/haproxy.cfg" if node["balancer"] else "exec sleep infinity"
        container = self.engine.containers.create(
            self.base,
            name=node["container"],
            hostname=node["host"][:63],
            entrypoint=["sh", "-c", command],
            init=True,
            user="root",
            labels=self.label,
            network=self.name,
            volumes=[f"{socket}:/var/run/docker.sock"],
            ports={f"{port}/tcp": (side, None) if side else None for port in node["ports"]},
            stop_signal="SIGKILL",
        )
        container.start()

    def _container(self, row: Mapping[str, Any]) -> None:
        container = self.engine.containers.create(
            row["image"],
            name=row["name"],
            network_mode=f"container:{row['node']}",
            environment=row["environment"],
            volumes=row["volumes"],
            init=True,
            labels=self.label,
        )
        container.start()

    def _in_rotation(self, node: Mapping[str, Any]) -> None:
        container = self.engine.containers.get(node["container"])
        deadline = time.monotonic() + PATIENCE
        while True:
            code, output = container.exec_run(["python3", "-c", SERVERS_DOWN])
            text = output.decode(errors="replace").strip()
            if code == 0 and not text:
                return
            container.reload()
            if container.status != "running":
                raise TwinError(f"{node['host']}: HAProxy ended: {container.logs(tail=20).decode(errors='replace')}")
            if time.monotonic() > deadline:
                raise TwinError(f"{node['host']}: not in rotation after {PATIENCE:.0f} s: {text[-500:]}")
            time.sleep(0.5)

    def _write_probe(self) -> None:
        host = urlsplit(self.docker_host).hostname or "127.0.0.1"
        published: dict[int, list[str]] = {}
        for node in self.made["nodes"]:
            ports = self.engine.containers.get(node["container"]).ports if node["ports"] else {}
            for port in node["ports"]:
                published.setdefault(port, []).append(f"{host}:{ports[f'{port}/tcp'][0]['HostPort']}")
        requests = [
            {
                "kind": "http",
                "name": row["name"],
                "status": row["status"],
                "url": [f"http://{place}{row['path']}" for place in published[row["port"]]],
            }
            for row in self.made["probe"]["requests"]
        ]
        config = {"rate": self.made["probe"]["rate"], "timeout": "30s", "requests": requests}
        (self.folder / "probe.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")

    # -- down ----------------------------------------------------------------------------------------------------------

    def down(self) -> None:
        """Removes all that carries the label; silent about what is not there."""
        self._stop()
        filters = {"label": f"{LABEL}={self.name}"}
        together(gone, self.engine.containers.list(all=True, filters=filters, ignore_removed=True))
        drafts = {"name": f"^/{self.name}-draft-"}
        together(gone, self.engine.containers.list(all=True, filters=drafts, ignore_removed=True))
        for network in self.engine.networks.list(filters=filters):
            with contextlib.suppress(NotFound):
                network.remove()
        for reference in self.made["images"].values():
            with contextlib.suppress(ImageNotFound):
                self.engine.images.remove(reference, force=True)

    def _stop(self) -> None:
        """What runs on the twin: the upgrade, by its process group, and the probe."""
        with contextlib.suppress(OSError, ValueError):
            group = int((self.folder / "upgrade.pid").read_text(encoding="utf-8"))
            os.killpg(group, signal.SIGTERM)
            for _attempt in range(100):
                os.killpg(group, 0)
                time.sleep(0.1)
            os.killpg(group, signal.SIGKILL)
        (self.folder / "upgrade.pid").unlink(missing_ok=True)
        if (self.folder / "probe").is_dir():
            (self.folder / "probe" / "stop").touch()

    @property
    def there(self) -> bool:
        return bool(self.engine.networks.list(filters={"label": f"{LABEL}={self.name}"}))


def gone(container: Any) -> None:
    # Another removal may be under way.
    with contextlib.suppress(NotFound, APIError):
        container.remove(force=True, v=True)


def put(container: Any, files: Mapping[str, bytes]) -> None:
    """Writes files, in this order, into a container that need not run."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    container.put_archive("/", buffer.getvalue())


def together(work: Callable[[Any], object], items: Sequence[Any]) -> None:
    with ThreadPoolExecutor(max_workers=6) as pool:
        list(pool.map(work, items))


def told(error: Exception) -> str:
    return str(getattr(error, "explanation", None) or error).strip().splitlines()[0]


def background() -> None:
    """Go on as a process that no terminal and no waiting caller knows."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)


def started(pid: int) -> str:
    """When a process was started, by the system's own clock; "" once it has ended, waited for or not."""
    try:
        # The name stands in parentheses, and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def keep(twin: Twin, pid: int) -> None:
    (twin.folder / "keeper.pid").write_text(f"{os.getpid()}\n", encoding="utf-8")
    began = started(pid)
    # Its number may be given to another process.
    while began and started(pid) == began:
        # Whoever takes the twin down says so by removing the file.
        if not (twin.folder / "keeper.pid").exists():
            return
        time.sleep(1)
    twin.down()


@contextlib.contextmanager
def connected(docker_host: str | None) -> Iterator[Any]:
    try:
        engine = docker.DockerClient(base_url=docker_host, timeout=300) if docker_host else docker.from_env(timeout=300)
        engine.ping()
    except (DockerException, RequestException) as error:
        raise TwinError(
            f"no Docker Engine answers at {docker_host or os.environ.get('DOCKER_HOST') or SOCKET} ({told(error)}): "
            "start one, or name another with rehearse_docker_host"
        ) from error
    try:
        yield engine
    finally:
        engine.close()


def main() -> int:
    parser = argparse.ArgumentParser(description="A rehearsal's twin in containers.")
    parser.add_argument("word", choices=("images", "up", "down", "keep"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("pid", type=int, nargs="?", default=0)
    parser.add_argument("--docker-host", default=None)
    parser.add_argument("--node-image", default="")
    parser.add_argument("--images", choices=("present", "pull", "none"), default="pull")
    options = parser.parse_args()
    if options.word == "keep":
        background()
    if options.word == "down" and not (options.folder / "twin.json").exists():
        return 0
    try:
        with connected(options.docker_host) as engine:
            twin = Twin(options.folder, engine, docker_host=options.docker_host, node_image=options.node_image)
            if options.word == "images":
                twin.images(options.images)
            elif options.word == "up":
                twin.up()
            elif options.word == "down":
                (options.folder / "keeper.pid").unlink(missing_ok=True)
                twin.down()
            else:
                keep(twin, options.pid)
    except (TwinError, DockerException, RequestException, OSError) as error:
        print(f"twin: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
