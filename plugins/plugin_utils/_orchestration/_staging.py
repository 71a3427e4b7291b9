# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is copied to hosts before anything goes out, and how long that takes. Staging holds no slot in any budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ._estimates import Estimates
from ._jobs import UNSEEN, needs_replacing
from ._model import COPYING, Artifact, Cluster, Instance, Method, State


@dataclass(frozen=True, slots=True)
class Staging:
    """Seconds before the first job, the bytes to copy (None: not known of every artifact), and in words why."""

    seconds: float
    size: int | None
    source: str

    def to_dict(self) -> dict[str, Any]:
        return {"seconds": round(self.seconds, 3), "bytes": self.size, "source": self.source}


def _unstaged(cluster: Cluster, state: State) -> list[Instance]:
    return [
        instance
        for service in cluster.services.values()
        for instance in service.instances
        if not (seen := state.instances.get(instance.name, UNSEEN)).current and not seen.staged
    ]


def to_stage(
    cluster: Cluster, state: State, methods: Mapping[str, Method | None] | None = None
) -> dict[str, list[Artifact]]:
    """What each host still has to fetch, each artifact once; hosts with nothing to fetch are left out.

    `methods`: of each service. Second copies on spare hosts need their artifact there, too.
    """
    wanted = [(instance.host, instance.artifact) for instance in _unstaged(cluster, state)]
    for name, method in (methods or {}).items():
        service = cluster.services[name]
        if method in COPYING and service.side_by_side and service.side_by_side.hosts:
            wanted += [
                (service.beside_host(number), instance.artifact)
                for number, instance in enumerate(service.instances)
                if needs_replacing(instance, state)
            ]
    found: dict[str, dict[tuple[str, str], Artifact]] = {}
    for host, artifact in wanted:
        found.setdefault(host, {}).setdefault((artifact.kind, artifact.target), artifact)
    return {host: list(artifacts.values()) for host, artifacts in found.items()}


def stage_time(cluster: Cluster, state: State, estimates: Estimates) -> Staging:
    """How long staging takes: all hosts fetch at once, and share the fleet's bandwidth where one is declared."""
    waiting = _unstaged(cluster, state)
    if not waiting:
        return Staging(0.0, 0, "everything is staged")
    sizes = [state.instances.get(instance.name, UNSEEN).size for instance in waiting]
    known = [size for size in sizes if size is not None]
    size = sum(known) if len(known) == len(sizes) else None
    longest = max(
        (estimates.of("stage", cluster.services[instance.service], instance) for instance in waiting),
        key=lambda estimate: estimate.seconds,
    )
    bandwidth = cluster.ceilings.stage_bandwidth
    if bandwidth and size is not None and size / bandwidth > longest.seconds:
        return Staging(size / bandwidth, size, f"{size} bytes at {bandwidth:g} bytes per second for the whole fleet")
    source = f"the slowest host ({longest.source})"
    if bandwidth and size is None:
        source += "; the bandwidth is not reckoned with, since no host has all of the artifacts yet"
    return Staging(longest.seconds, size, source)
