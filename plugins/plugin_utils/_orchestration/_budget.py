# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Budgets: who may be out together.

Every budget counts *groups* that are out, each once: instances, failure domains or hosts. So one rule serves all of
them: an instance that is not out yet may only begin when afterwards no more than `capacity` groups are out.
An instance that is out already (broken before, or lost during the run) takes nothing more when it is worked on.
That a host does one job at a time is no budget: the window knows it by itself.

A host image takes its whole host out, and so every instance on it: a service of host images is one more of the
`services` of each budget that has an instance on these hosts, and counts there as that instance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ._model import COPYING, Cluster, Method, Service, State

BudgetKind = Literal["service", "quorum", "failure_domain", "balancer", "max_hosts_out"]
Counts = Literal["instances", "domains", "hosts"]


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `capacity` groups of `services` out at once; `counts` says what a group is.

    `counts` "instances" and "domains": the groups are those of the first service; what is out of the others counts as
    the instance that the first one has on the same host. `domains` maps the first service's instances to their failure
    domains. `hosts`: only what is on these counts (None: everything, and no other service does).
    """

    name: str
    kind: BudgetKind
    capacity: int
    services: tuple[str, ...]
    counts: Counts = "instances"
    domains: Mapping[str, str] = field(default_factory=dict)
    hosts: frozenset[str] | None = None

    def group(self, instance: str, host: str) -> str | None:
        """The group of an instance (on that host) of one of `services`; None where this budget does not count it."""
        if self.hosts is not None and host not in self.hosts:
            return None
        if self.counts == "hosts":
            return host
        member = instance if len(self.services) == 1 else f"{self.services[0]}@{host}"
        return member if self.counts == "instances" else self.domains.get(member, member)

    def to_dict(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "name": self.name,
            "kind": self.kind,
            "capacity": self.capacity,
            "counts": self.counts,
            "services": list(self.services),
        }
        if self.domains:
            row["domains"] = dict(self.domains)
        if self.hosts is not None:
            row["hosts"] = sorted(self.hosts)
        return row

    @staticmethod
    def from_dict(row: Mapping[str, Any]) -> Budget:
        hosts = row.get("hosts")
        return Budget(
            name=row["name"],
            kind=row["kind"],
            capacity=row["capacity"],
            services=tuple(row["services"]),
            counts=row.get("counts", "instances"),
            domains=dict(row.get("domains", {})),
            hosts=None if hosts is None else frozenset(hosts),
        )


def split_instance(instance: str) -> tuple[str, str]:
    """`keystone@ctl1` -> ("keystone", "ctl1")."""
    service, _unused, host = instance.partition("@")
    return service, host


def majority_spare(members: int) -> int:
    """How many of a quorum's members may be out while a majority stays."""
    return (members - 1) // 2


def service_capacity(service: Service, method: Method | None) -> int:
    """How many instances may be out. While second copies serve, nobody is served by the instances: all may be out,
    unless they have a majority to keep. A hold takes them all out at once, in a job that counts in no budget."""
    capacity = service.max_unavailable
    if method in COPYING:
        capacity = len(service.instances)
    if service.quorum:
        capacity = min(capacity, majority_spare(len(service.instances)))
    return capacity if method in (None, "roll") else max(1, capacity)


def takes_hosts(service: Service) -> bool:
    """Does replacing an instance take everything else on its host out too?"""
    return any(instance.artifact.kind == "host_image" for instance in service.instances)


def balancer_services(cluster: Cluster) -> tuple[str, ...]:
    """The services whose instances take a balancer out: HAProxy's and keepalived's own, and host images there."""
    balancers = frozenset(cluster.balancers)
    return tuple(
        service.name
        for service in cluster.services.values()
        if (service.takes_balancer or takes_hosts(service)) and any(i.host in balancers for i in service.instances)
    )


def budgets_of(cluster: Cluster, methods: Mapping[str, Method | None]) -> list[Budget]:
    """Every budget of a cluster, in the declaration's order; the fleet's own come last."""
    budgets: list[Budget] = []
    host_images = {s.name: frozenset(i.host for i in s.instances) for s in cluster.services.values() if takes_hosts(s)}
    for service in cluster.services.values():
        capacity = service_capacity(service, methods.get(service.name))
        kind: BudgetKind = "quorum" if service.quorum else "service"
        taking: tuple[str, ...] = (service.name,)
        hosts: frozenset[str] | None = None
        if host_images and service.name not in host_images:
            own = frozenset(instance.host for instance in service.instances)
            above = tuple(name for name, taken in host_images.items() if own & taken)
            taking, hosts = (service.name, *above), own if above else None
        budgets.append(Budget(service.name, kind, capacity, taking, hosts=hosts))
        if service.failure_domain and methods.get(service.name) not in COPYING:
            domains = {i.name: i.domain for i in service.instances if i.domain is not None}
            name = f"{service.failure_domain} of {service.name}"
            budgets.append(Budget(name, "failure_domain", 1, taking, "domains", domains, hosts))
    at_balancers = balancer_services(cluster)
    if at_balancers:
        budgets.append(Budget("balancers", "balancer", 1, at_balancers, "hosts", hosts=frozenset(cluster.balancers)))
    if cluster.ceilings.max_hosts_out is not None:
        everything = tuple(cluster.services)
        budgets.append(Budget("hosts", "max_hosts_out", cluster.ceilings.max_hosts_out, everything, "hosts"))
    return budgets


def broken_members(cluster: Cluster, state: State) -> tuple[str, ...]:
    """The instances that are out before anything began, in the declaration's order."""
    return tuple(
        instance.name
        for service in cluster.services.values()
        for instance in service.instances
        if (seen := state.instances.get(instance.name)) is not None and not seen.healthy
    )
