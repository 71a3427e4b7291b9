# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Upgrades of one service of the methods' lab under load, and what is left of them on balancers and engine."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import laboratory
from laboratory import ROOT, Laboratory, journal_run, probing, until
from load import RATE, load

SCENARIO = ROOT / "molecule" / "methods"
INVENTORY = SCENARIO / "inventory"
# The releases of each service, either of which can follow the other.
RELEASES = {"keystone": ("29.1.0", "30.0.0"), "web": ("1", "2"), "ledger": ("1", "2")}
BACKENDS = {
    "keystone": ("keystone_external_back", "keystone_internal_back"),
    "web": ("web_back",),
    "ledger": ("ledger_back",),
}
# So many have been sent before anything begins that the plan, some seconds later, counts what is sent all the time.
MEASURED = 150
# The load is an open loop only if the probe keeps up with its own schedule.
KEPT_UP, LATE_MS = 0.9, 1000
ASK = (
    "import socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(60); s.connect('/run/haproxy/admin.sock'); "
    "s.sendall(sys.argv[1].encode() + b'\\n'); print(b''.join(iter(lambda: s.recv(65536), b'')).decode())"
)


@dataclass(frozen=True)
class Strike:
    """Kill the run (SIGKILL, its whole process group) so many seconds after a task of a job began for the nth time."""

    role: str
    task: str
    kind: str = "switch"
    kill_after: float = 0.0
    nth: int = 1
    spare: tuple[str, ...] = ()
    later: bool = False


class Upgrade(laboratory.Run):
    """An upgrade of one service, by the method and to the release that are given; `more` goes into its declaration."""

    def __init__(
        self,
        folder: Path,
        subject: str,
        release: str,
        method: str,
        *,
        playbook: str = "rondo.upgrade.upgrade",
        strike: Strike | None = None,
        more: dict[str, Any] | None = None,
        **variables: Any,
    ) -> None:
        self.mark = folder / "mark.json"
        environment = {}
        if strike is not None:
            environment = {
                "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "molecule" / "crashes" / "callback"),
                "ANSIBLE_CALLBACKS_ENABLED": "strike",
                "RONDO_STRIKE": json.dumps({**asdict(strike), "mark": str(self.mark)}),
            }
        super().__init__(
            folder,
            INVENTORY,
            playbook,
            environment=environment,
            subject=subject,
            release=release,
            method=method,
            more=more or {},
            **variables,
        )


@pytest.fixture(scope="session")
def lab() -> Laboratory:
    return Laboratory()


@pytest.fixture(autouse=True)
def journal_of_its_own(lab: Laboratory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier test measured says nothing here: with it, a plan would depend on how busy the machine was."""
    monkeypatch.setenv("LAB_BUILD", str(tmp_path / "build"))
    # The fence of the earlier test's last run, which another journal's runs would not pass.
    for balancer in balancers(lab):
        lab.node(balancer).check_output("rm -f /run/rondo-upgrade.fence*")


@pytest.fixture
def upgrade(tmp_path: Path) -> Callable[..., Upgrade]:
    """Starts an upgrade."""

    def start(subject: str, release: str, method: str, **options: Any) -> Upgrade:
        return Upgrade(Path(tempfile.mkdtemp(dir=tmp_path)), subject, release, method, **options)

    return start


def hosts(lab: Laboratory, subject: str) -> list[str]:
    """The hosts of a service's instances."""
    return list(lab.state["services"][subject]["nodes"])


def balancers(lab: Laboratory) -> list[str]:
    return hosts(lab, "haproxy")


def releases(lab: Laboratory, subject: str) -> set[str]:
    """What the instances run."""
    return {lab.image(host, subject).rpartition(":")[2] for host in hosts(lab, subject)}


def ask(lab: Laboratory, balancer: str, command: str) -> str:
    """What HAProxy answers to a command on its runtime socket."""
    done = lab.node(balancer).run(f"python3 -c {json.dumps(ASK)} {json.dumps(command)}")
    assert done.rc == 0, done.stderr
    return str(done.stdout)


def holds(lab: Laboratory, subject: str) -> dict[str, dict[str, str]]:
    """What each balancer tells of the service's hold, the last one if there is none."""
    found = {}
    for balancer in balancers(lab):
        words = ask(lab, balancer, f"rondo hold {subject}").split()
        found[balancer] = dict(word.split("=", 1) for word in words if "=" in word)
    return found


def copies(lab: Laboratory, subject: str) -> list[str]:
    """The second copies of a service that the engine has, running or not."""
    words = ["docker", "ps", "--all", "--format", "{{.Names}}"]
    labels = [f"label=rondo.upgrade.lab={lab.name}", f"label=rondo.upgrade.beside={subject}"]
    filters = [word for label in labels for word in ("--filter", label)]
    return subprocess.run([*words, *filters], capture_output=True, text=True, check=True).stdout.split()


def servers(lab: Laboratory, subject: str) -> dict[tuple[str, str, str], str]:
    """The status of every server of the service, by balancer, backend and name."""
    return {
        (balancer, backend, name): status.split()[0]
        for balancer in balancers(lab)
        for (backend, name), status in lab.servers(balancer).items()
        if backend in BACKENDS[subject]
    }


def declared(lab: Laboratory, subject: str) -> dict[tuple[str, str, str], str]:
    """What `servers` gives when exactly those that the configuration of the lab names serve."""
    return {
        (balancer, backend, host): "UP"
        for balancer in balancers(lab)
        for backend in BACKENDS[subject]
        for host in hosts(lab, subject)
    }


def configured(lab: Laboratory) -> dict[str, str]:
    """HAProxy's configuration file on each balancer."""
    return {balancer: lab.node(balancer).file("/etc/haproxy/haproxy.cfg").content_string for balancer in balancers(lab)}


def whole(lab: Laboratory, subject: str, release: str) -> None:
    """Every instance runs the release and serves, on all balancers, and nothing else is left anywhere."""
    assert releases(lab, subject) == {release}
    until(lambda: servers(lab, subject) == declared(lab, subject), f"all of {subject} up: {servers(lab, subject)}")
    assert copies(lab, subject) == []
    assert {hold["state"] for hold in holds(lab, subject).values()} == {"off"}
    assert not any(f"rondo.upgrade: beside {subject}" in text for text in configured(lab).values())


def switched(subject: str) -> dict[str, Any]:
    """What the last run's journal has about the service's job `switch`."""
    run = journal_run()
    assert run is not None
    found: dict[str, Any] = next(job for job in run["jobs"] if job["id"] == f"switch {subject}")
    return found


def foreseen(subject: str) -> dict[str, Any]:
    """What the last run's plan says of the hold of its job `switch`."""
    run = journal_run()
    assert run is not None
    job = next(job for job in run["plan"]["jobs"] if job["id"] == f"switch {subject}")
    found: dict[str, Any] = job["options"]["hold"]
    return found


def target(lab: Laboratory, upgrade: Callable[..., Upgrade], subject: str, method: str) -> tuple[str, str]:
    """What all instances run, and the release that follows. What an earlier test left behind is finished."""
    first, second = RELEASES[subject]
    running = releases(lab, subject)
    if len(running) > 1 or copies(lab, subject) or servers(lab, subject) != declared(lab, subject):
        run = upgrade(subject, first, method)
        assert run.end() == 0, run.output
        whole(lab, subject, first)
        running = {first}
    return (first, second) if running == {first} else (second, first)


@contextmanager
def under_load(lab: Laboratory, subject: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Requests as load.py has them, begun long enough before; the dictionary is the probe's summary afterwards."""
    with probing(load(subject, lab.vip), folder) as summary:
        state = folder / "state.json"
        until(lambda: json.loads(state.read_text())["sent"] >= MEASURED, "requests")
        yield summary
    assert summary["sent"] / summary["seconds"] >= KEPT_UP * RATE, summary["sent"]
    assert summary["probe_late_ms"] < LATE_MS
