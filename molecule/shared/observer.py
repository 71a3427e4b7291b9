# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The observer: what both balancers' tables and the engine said, several times a second, and whether a budget held.

It knows nothing of plans and journals. One small program in each balancer's node asks HAProxy's runtime API, one asks
the engine; each writes a JSON line per look. A server counts as out at a moment only where the looks before and after
that moment both say so: a late look can't invent an outage.
"""

from __future__ import annotations

import json
import subprocess
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from laboratory import Laboratory, probing

LOOK_AT_TABLES = """
import json, select, socket, sys, time
while True:
    row = {"at": time.time(), "states": {}}
    try:
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(30)
        link.connect("/run/haproxy/admin.sock")
        link.sendall(b"show stat\\n")
        text = b"".join(iter(lambda: link.recv(65536), b"")).decode()
        link.close()
        head, *lines = text.strip().splitlines()
        columns = head.lstrip("# ").split(",")
        for line in lines:
            server = dict(zip(columns, line.split(",")))
            if server["pxname"] == "BACKEND" and server["type"] == "2":
                row["states"][server["svname"]] = server["status"]
    except OSError as error:
        row["error"] = str(error)
    row["until"] = time.time()
    print(json.dumps(row), flush=True)
    if select.select([sys.stdin], [], [], 0.15)[0]:
        break
"""

LOOK_AT_ENGINE = """
import json, select, sys, time, docker
client = docker.from_env()
while True:
    row = {"at": time.time(), "states": {}}
    for one in client.api.containers(all=True, filters={"label": "rondo.upgrade.lab=LAB"}):
        row["states"][one["Names"][0].lstrip("/")] = one["State"]
    row["until"] = time.time()
    print(json.dumps(row), flush=True)
    if select.select([sys.stdin], [], [], 0.2)[0]:
        break
"""


@dataclass(frozen=True)
class Look:
    """One look: when it began and ended (seconds), and which of the members were out then; None: nothing was seen."""

    began: float
    ended: float
    out: frozenset[str] | None


@dataclass
class Observer:
    """`looks` by what was looked at: a balancer's name, or "engine"."""

    looks: dict[str, list[Look]] = field(default_factory=dict)

    def moments(self) -> Iterator[tuple[float, dict[str, frozenset[str]]]]:
        """Each moment at which something was seen, and who was certainly out then, in each view."""
        starts = {view: [look.began for look in looks] for view, looks in self.looks.items()}
        for moment in sorted(look.began for looks in self.looks.values() for look in looks):
            yield moment, {view: _certainly(looks, starts[view], moment) for view, looks in self.looks.items()}

    def exceeded(self, capacity: int, since: float = 0.0, until: float = float("inf")) -> list[str]:
        """Every moment (between two, in seconds since the epoch) at which more than `capacity` members were out, in all
        views together."""
        found = []
        for moment, out in self.moments():
            if since <= moment <= until and len(frozenset().union(*out.values())) > capacity:
                views = "; ".join(f"{view}: {', '.join(sorted(names)) or 'none'}" for view, names in out.items())
                found.append(f"at {moment:.2f} out were: {views}")
        return found

    def greatest(self) -> int:
        """The greatest number of members that were out at one moment."""
        return max((len(frozenset().union(*out.values())) for _unused, out in self.moments()), default=0)


def _certainly(looks: Sequence[Look], starts: Sequence[float], moment: float) -> frozenset[str]:
    after = bisect_right(starts, moment)
    if after == 0 or after == len(looks):
        return frozenset()
    before, then = looks[after - 1].out, looks[after].out
    return frozenset() if before is None or then is None else before & then


def read(path: Path, members: Mapping[str, str], usable: str) -> list[Look]:
    """The looks that a program wrote. `members`: their names by the names in its rows; a state that begins with
    `usable` is that of a member that serves, and a member that is missing does not."""
    looks = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            # Cut off by the end.
            continue
        out = {member for name, member in members.items() if not row["states"].get(name, "").startswith(usable)}
        looks.append(Look(row["at"], row["until"], None if "error" in row else frozenset(out)))
    return looks


@contextmanager
def observing(
    lab: str,
    folder: Path,
    *,
    balancers: Sequence[str],
    backend: str,
    service: str,
    members: Sequence[str],
    elsewhere: Collection[str] = (),
) -> Iterator[Observer]:
    """Observes a lab; the observer is filled when the context ends."""
    folder.mkdir(parents=True, exist_ok=True)
    programs = {balancer: (balancer, LOOK_AT_TABLES.replace("BACKEND", backend)) for balancer in balancers}
    programs["engine"] = (balancers[0], LOOK_AT_ENGINE.replace("LAB", lab))
    observer = Observer()
    with ExitStack() as stack:
        for view, (node, program) in programs.items():
            output = stack.enter_context((folder / f"{view}.jsonl").open("w"))
            process = subprocess.Popen(
                ["docker", "exec", "--interactive", f"{lab}-{node}", "python3", "-c", program],
                # They end when it is closed; a program whose client was killed would go on.
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            stack.callback(process.communicate)
        try:
            yield observer
        finally:
            stack.close()
            containers = {f"{lab}-{member}-{service}": member for member in members if member not in elsewhere}
            for view in programs:
                names = containers if view == "engine" else {member: member for member in members}
                observer.looks[view] = read(
                    folder / f"{view}.jsonl", names, usable="running" if view == "engine" else "UP"
                )


@dataclass
class Watch:
    """What the two who watch saw. Filled when the watching ends; `requests` is the probe's summary."""

    requests: dict[str, Any]
    observer: Observer

    def clean(self, capacity: int = 1) -> None:
        """No more than so many were out at any moment, and no request failed."""
        assert all(self.observer.looks.values())
        assert self.observer.exceeded(capacity) == []
        assert self.requests["sent"] > 0
        assert self.requests["failed"] == 0, self.requests["failures"]


@contextmanager
def watching(
    lab: Laboratory,
    folder: Path,
    load: Mapping[str, Any],
    *,
    backend: str,
    service: str,
    members: Sequence[str],
    balancers: Sequence[str] = ("lb1", "lb2"),
    elsewhere: Collection[str] = (),
    probe_folder: Path | None = None,
) -> Iterator[Watch]:
    """The probe and the observer at once. `elsewhere`: members whose container another engine runs."""
    with (
        observing(
            lab.name,
            folder,
            balancers=balancers,
            backend=backend,
            service=service,
            members=members,
            elsewhere=elsewhere,
        ) as observer,
        probing(load, probe_folder or folder) as requests,
    ):
        yield Watch(requests, observer)
