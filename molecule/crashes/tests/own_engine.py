# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container engine for one member alone, so that its disk can be full and its images be missing.

It is a second dockerd in the network of the member's node: there the node reaches it at 127.0.0.1, and containers in
"its host's" network have the node's address. Its data is on a small disk of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from laboratory import Laboratory, until

# As the member's node reaches it.
ADDRESS = "tcp://127.0.0.1:2375"
DISK = "600m"


def privileged(*words: str, check: bool = True) -> str:
    command = [*([] if os.getuid() == 0 else ["sudo", "-n"]), *words]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=check).stdout


class OwnEngine:
    """The engine of `member`, once it runs."""

    def __init__(self, lab: Laboratory, member: str, folder: Path) -> None:
        self.member = member
        self.socket = f"unix://{folder}/socket"
        self._lab = lab
        self._folder = folder
        self._disk = folder / "data"
        self._container = lab.container_name(member, "web")

    def docker(self, *words: str, check: bool = True) -> str:
        command = ["docker", "--host", self.socket, *words]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=check)
        return done.stdout.strip()

    def fill(self) -> tuple[str, ...]:
        """The command that fills its disk to the last byte."""
        script = f"fallocate --length $(df --output=avail --block-size=1 {self._disk} | tail -n 1) {self._disk}/filler"
        return ("/bin/sh", "-c", script if os.getuid() == 0 else f"sudo -n sh -c '{script}'")

    def make_room(self) -> None:
        privileged("rm", "--force", str(self._disk / "filler"))

    def start(self) -> None:
        self._disk.mkdir()
        privileged("mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(self._disk))
        node = f"{self._lab.name}-{self.member}"
        inspected = ["docker", "inspect", "--format", "{{.State.Pid}}", node]
        process = subprocess.run(inspected, capture_output=True, text=True, check=True).stdout.strip()
        log = (self._folder / "log").open("w")
        subprocess.Popen(
            [
                *([] if os.getuid() == 0 else ["sudo", "-n"]),
                *("nsenter", "--net", "--target", process),
                *("env", f"PATH={os.environ['PATH']}:/usr/sbin:/sbin", "dockerd"),
                *("--data-root", str(self._disk), "--exec-root", str(self._folder / "exec")),
                *("--pidfile", str(self._folder / "pid"), "--group", str(os.getgid())),
                *("--host", self.socket, "--host", ADDRESS),
                *("--bridge", "none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        until(lambda: self.docker("info", "--format", "{{.ID}}", check=False), "the second engine's answer")
        self.load("rondo/web:1", "rondo/web:2")

    def load(self, *images: str) -> None:
        saved = subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE)
        subprocess.run(["docker", "--host", self.socket, "load"], stdin=saved.stdout, capture_output=True, check=True)
        assert saved.wait() == 0

    def stop(self) -> None:
        pid = self._folder / "pid"
        self.docker("rm", "--force", self._container, check=False)
        if pid.exists():
            privileged("kill", f"-{signal.SIGTERM.value}", pid.read_text().strip())
            until(lambda: not pid.exists(), "the second engine's end")
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            place = line.split()[1]
            if place.startswith(f"{self._folder}/"):
                privileged("umount", "--lazy", place)


@contextmanager
def own_engine(lab: Laboratory, member: str) -> Iterator[OwnEngine]:
    """Moves a member to an engine of its own, and back at the end."""
    # Not in pytest's folders: a UNIX socket's path has room for 108 characters.
    folder = Path(tempfile.mkdtemp(prefix="rondo-engine-"))
    engine = OwnEngine(lab, member, folder)
    container = lab.container_name(member, "web")
    image = lab.image(member, "web")
    try:
        engine.start()
        subprocess.run(["docker", "stop", "--time", "5", container], capture_output=True, check=True)
        subprocess.run(["docker", "rename", container, f"{container}-aside"], capture_output=True, check=True)
        engine.docker("run", "--detach", "--init", "--network", "host", "--name", container, image)
        lab.engines[member] = engine.socket
        yield engine
    finally:
        lab.engines.pop(member, None)
        engine.stop()
        subprocess.run(["docker", "rename", f"{container}-aside", container], capture_output=True, check=False)
        subprocess.run(["docker", "start", container], capture_output=True, check=False)
        privileged("rm", "--recursive", "--force", str(folder))
        shutil.rmtree(folder, ignore_errors=True)
