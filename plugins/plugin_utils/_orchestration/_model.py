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

from ansible_collections.rondo.upgrade.plugins.module_utils._hold import BYTES_PER_REQUEST

ArtifactKind = Literal["container", "packages", "host_image"]
JobKind = Literal["expand", "switch", "replace", "settle", "migrate", "contract"]
Method = Literal["roll", "hold", "side_by_side", "held_switch"]

JOB_KINDS: tuple[JobKind, ...] = ("expand", "switch", "replace", "settle", "migrate", "contract")
METHODS: tuple[Method, ...] = ("roll", "hold", "side_by_side", "held_switch")

# Those that start second copies.
COPYING: tuple[Method, ...] = ("side_by_side", "held_switch")

# What a second copy and its servers are called: the instance's own name for it, and this behind.
BESIDE = ".rondo-beside"


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
    """Which schema steps a service declares. The commands themselves stay with the hosts: they may hold secrets.

    `check` says what is still to do. `offline` needs every instance stopped; `offline_reversible`: the old version
    still works after it.
    """

    expand: bool = False
    migrate: bool = False
    contract: bool = False
    check: bool = False
    offline: bool = False
    offline_reversible: bool = False


@dataclass(frozen=True, slots=True)
class Hold:
    """How requests may be held. `deadline` is None where the planner computes it; `timeouts` are the clients' own.
    `force`: hold although the arithmetic says no."""

    deadline: float | None = None
    on_deadline: Literal["release", "reject"] = "release"
    timeouts: Mapping[str, float] = field(default_factory=dict)
    bytes_per_request: int = BYTES_PER_REQUEST
    force: bool = False


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Room for a second copy of each instance, and how traffic moves to them.

    `ports`: the first and the last; `hosts`: spare ones, empty where copies run beside the instances; `memory`: bytes
    of one copy; `steps`: percent of the traffic; `max_errors`: a share.
    """

    ports: tuple[int, int]
    hosts: tuple[str, ...] = ()
    memory: int = 500_000_000
    steps: tuple[int, ...] = (5, 25, 100)
    step_time: float = 10.0
    max_errors: float = 0.01
    switch_back_window: float = 60.0
    test: str | None = None


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
    hold: Hold = Hold()
    side_by_side: SideBySide | None = None
    takes_balancer: bool = False
    backends: tuple[str, ...] = ()
    health: tuple[str, ...] = ()
    min_healthy_time: float = 10.0
    healthy_deadline: float = 120.0
    drain_timeout: float = 60.0
    database: Database = Database()
    max_failures: int | None = None
    estimates: Mapping[str, float] = field(default_factory=dict)
    hooks: tuple[str, ...] = ()

    def beside_host(self, number: int) -> str:
        """Where the second copy of its instance `number` runs."""
        spare = self.side_by_side.hosts if self.side_by_side else ()
        return spare[number % len(spare)] if spare else self.instances[number].host


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Fleet-wide limits: hosts out at once (a number), and bytes per second for staging (None: no limit); failed jobs
    (None: as `Window` has it)."""

    max_hosts_out: int | None = None
    stage_bandwidth: float | None = None
    max_failures: int | None = None


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
    on it; `reason` says why not. `in_place`: the target runs, and at most its way back into rotation is left. `size`
    is the bytes that staging its target takes, where known.
    """

    running: str = ""
    current: bool = False
    healthy: bool = True
    reason: str = ""
    in_place: bool = False
    staged: bool = False
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """A service's requests as the balancers measured them; None where not known.

    `rate` per second at all balancers together; `concurrency`: requests that servers worked on; `slowest`: seconds of
    the slowest answer; `timeout`: the smallest of the balancers' own on the way, in seconds, and its name; `room`: how
    many waiting requests fit at the balancer that has the least, and what limits them. `tcp`: backends whose
    connections are not HTTP. `frontends` lead to its backends. `unfit`: why it can't be held, in words. `untested`:
    balancers
    whose configuration tells no way to send a request of one's own.
    """

    rate: float | None = None
    timeout: float | None = None
    room: int | None = None
    concurrency: int | None = None
    slowest: float | None = None
    timeout_name: str = ""
    room_name: str = ""
    tcp: tuple[str, ...] = ()
    frontends: tuple[str, ...] = ()
    unfit: str = ""
    untested: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Spare:
    """What a host has left: bytes of memory and disk (None: not known), and the ports in use."""

    memory: int | None = None
    disk: int | None = None
    ports: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class SecondCopy:
    """A second copy that is there already. `current`: it runs its instance's target; `serving`: every balancer sends
    requests to it. `port` is None where nobody knows it."""

    host: str
    running: str = ""
    current: bool = False
    serving: bool = False
    port: int | None = None


@dataclass(frozen=True, slots=True)
class State:
    """What an observation saw, by instance name (`keystone@ctl1`) or service name.

    `schema` says per service which schema jobs are still to do. `active` names the active member's host of
    active/passive services. `tested` holds (service, from, to) triples that an earlier run completed. `in_flight` names
    the instances whose job an earlier run began and never ended, and the services whose `switch` it did.
    `offline_begun`: services none of whose instances serves since a `switch` whose `database.offline` has no way back.
    `spare` is by host, `beside` by service and instance: second copies that are there. `obstacles` are sentences: each
    stands in the way of any upgrade until an operator removed it. `notes` are worth saying, no more.
    """

    instances: Mapping[str, InstanceState] = field(default_factory=dict)
    schema: Mapping[str, tuple[JobKind, ...]] = field(default_factory=dict)
    active: Mapping[str, str] = field(default_factory=dict)
    vip_holder: str | None = None
    traffic: Mapping[str, Traffic] = field(default_factory=dict)
    tested: frozenset[tuple[str, str, str]] = frozenset()
    in_flight: frozenset[str] = frozenset()
    offline_begun: frozenset[str] = frozenset()
    spare: Mapping[str, Spare] = field(default_factory=dict)
    beside: Mapping[str, Mapping[str, SecondCopy]] = field(default_factory=dict)
    obstacles: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
