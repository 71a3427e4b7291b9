# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster is (declared) and what really runs (observed): the values that the brain works on.

All times are seconds, all rates are per second. Every class is immutable: the brain takes values and returns values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ArtifactKind = Literal["container", "packages", "host_image"]
JobKind = Literal["expand", "replace", "migrate", "contract"]
Method = Literal["roll", "hold", "side_by_side", "held_switch"]

JOB_KINDS: tuple[JobKind, ...] = ("expand", "replace", "migrate", "contract")
METHODS: tuple[Method, ...] = ("roll", "hold", "side_by_side", "held_switch")


@dataclass(frozen=True, slots=True)
class Artifact:
    """What an instance is upgraded to.

    `name` is the container's name, the packages' names joined by spaces, or the host image's name;
    `target` the image reference, the version, or the host image reference.
    """

    kind: ArtifactKind
    name: str
    target: str


@dataclass(frozen=True, slots=True)
class Server:
    """A row of a balancer's table: the name of a backend, and of a server in it."""

    backend: str
    name: str


@dataclass(frozen=True, slots=True)
class Instance:
    """One service on one host. `estimates` holds the host's own seconds by step, over the service's.

    `drain_timeout`, `min_healthy_time` and `healthy_deadline` are set where the host's own differ from the service's.
    """

    service: str
    host: str
    artifact: Artifact
    domain: str | None = None
    host_class: str | None = None
    servers: tuple[Server, ...] = ()
    estimates: Mapping[str, float] = field(default_factory=dict)
    drain_timeout: float | None = None
    min_healthy_time: float | None = None
    healthy_deadline: float | None = None
    # Asked for so often that making it anew each time took a tenth of a large plan's time.
    name: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"{self.service}@{self.host}")


@dataclass(frozen=True, slots=True)
class Database:
    """Which schema steps a service declares. The commands themselves stay with the hosts: they may hold secrets."""

    expand: bool = False
    migrate: bool = False
    contract: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """A thing that is upgraded as one.

    `max_unavailable` is the budget as a number of instances, whatever the declaration said (`min_available`, a
    percentage, `quorum`); `budget_text` is what it said. It is 0 only where instances need not go out to be replaced.
    `outage_allowed`: the declaration says in so many words that no instance needs to stay (`min_available: 0`).
    `takes_balancer`: replacing an instance takes the balancer on its host out (HAProxy, keepalived).
    `health` names the kinds of checks declared ("http", "tcp", "command"; none: the container's own state only).
    """

    name: str
    instances: tuple[Instance, ...]
    depends_on: tuple[str, ...] = ()
    max_unavailable: int = 1
    budget_text: str = "max_unavailable: 1"
    outage_allowed: bool = False
    quorum: bool = False
    failure_domain: str | None = None
    canary: int = 0
    bake_time: float = 0.0
    version_skew: bool = True
    active_passive: bool = False
    method: Method | Literal["auto"] = "auto"
    second_copy: bool = False
    takes_balancer: bool = False
    backends: tuple[str, ...] = ()
    health: tuple[str, ...] = ()
    min_healthy_time: float = 10.0
    healthy_deadline: float = 120.0
    drain_timeout: float = 60.0
    database: Database = Database()
    max_failures: int = 0
    estimates: Mapping[str, float] = field(default_factory=dict)
    hooks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Fleet-wide limits: hosts out at once (a number), and bytes per second for staging. None: no limit."""

    max_hosts_out: int | None = None
    stage_bandwidth: float | None = None
    max_failures: int = 0


@dataclass(frozen=True, slots=True)
class Cluster:
    """Everything declared. `services` is in the declaration's order; `vip` is the address that the balancers share."""

    services: Mapping[str, Service]
    balancers: tuple[str, ...] = ()
    ceilings: Ceilings = Ceilings()
    vip: str | None = None

    @property
    def instances(self) -> dict[str, Instance]:
        return {instance.name: instance for service in self.services.values() for instance in service.instances}


@dataclass(frozen=True, slots=True)
class InstanceState:
    """What really runs. `running` is how the artifact names itself now ("" where nothing runs).

    `current`: it runs exactly its target (by digest, not only by tag). `healthy`: it serves, so that budgets may count
    on it; `reason` says why not. `size` is the bytes that staging its target takes, where known.
    """

    running: str = ""
    current: bool = False
    healthy: bool = True
    reason: str = ""
    staged: bool = False
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """A service's requests as the balancers measured them: `rate` per second, the smallest `timeout` on the way in
    seconds, and `room`: how many waiting requests fit (None where not known)."""

    rate: float | None = None
    timeout: float | None = None
    room: int | None = None


@dataclass(frozen=True, slots=True)
class State:
    """What an observation saw, by instance name (`keystone@ctl1`) or service name.

    `schema` says per service which schema jobs are still to do. `active` names the active member's host of
    active/passive services. `tested` holds (service, from, to) triples that an earlier run completed. `in_flight` names
    the instances whose job an earlier run began and never ended. `obstacles` are sentences: each stands in the way of
    any upgrade until an operator removed it. `notes` are worth saying, no more.
    """

    instances: Mapping[str, InstanceState] = field(default_factory=dict)
    schema: Mapping[str, tuple[JobKind, ...]] = field(default_factory=dict)
    active: Mapping[str, str] = field(default_factory=dict)
    vip_holder: str | None = None
    traffic: Mapping[str, Traffic] = field(default_factory=dict)
    tested: frozenset[tuple[str, str, str]] = frozenset()
    in_flight: frozenset[str] = frozenset()
    obstacles: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
