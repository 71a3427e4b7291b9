# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What methods other than `roll` need to know, from the facts of role `observe`: traffic, room, second copies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ansible_collections.rondo.upgrade.plugins.module_utils._hold import maxconn_danger

from ._orchestration._model import BESIDE, Cluster, SecondCopy, Service, Spare, Traffic

Facts = Mapping[str, Mapping[str, Any]]

# As the hold itself has it: a bound that is reached is too near; and what waiting requests may take by default.
USABLE: Final = 0.9
HOLD_MEMORY: Final = 256_000_000


def traffic(cluster: Cluster, facts: Facts) -> dict[str, Traffic]:
    """The traffic of the services behind balancers, of those that every balancer has measured."""
    told = {balancer: facts.get(balancer, {}).get("observe_haproxy", {}) for balancer in cluster.balancers}
    seen = {
        balancer: {**found["traffic"], "version": found.get("version_full", "")}
        for balancer, found in told.items()
        if found.get("traffic")
    }
    if len(seen) != len(cluster.balancers):
        return {}
    return {name: _traffic(service, seen) for name, service in cluster.services.items() if service.backends and seen}


def _traffic(service: Service, tables: Mapping[str, Mapping[str, Any]]) -> Traffic:
    rows = [
        table["backends"][name] for table in tables.values() for name in service.backends if name in table["backends"]
    ]
    measured = [row["rate"] for row in rows if row["rate"] is not None]
    tcp = dict.fromkeys(
        name
        for table in tables.values()
        for name in service.backends
        if table["backends"].get(name, {}).get("mode") == "tcp"
    )
    timeout, timeout_name = _timeout(service, tables)
    room, room_name = min(_rooms(service, tables), key=lambda entry: entry[0], default=(None, ""))
    return Traffic(
        rate=sum(measured) if measured else None,
        timeout=timeout,
        room=room,
        concurrency=sum(row["concurrency"] for row in rows),
        slowest=max((row["slowest"] for row in rows), default=None),
        timeout_name=timeout_name,
        room_name=room_name,
        tcp=tuple(tcp),
        frontends=tuple(dict.fromkeys(name for row in rows for name in row["frontends"] or ())),
        unfit="; ".join(_unfit(service, tables, tcp=len(tcp) == len(service.backends))),
        untested=() if tcp else tuple(_untested(service, tables)),
    )


def _frontends(service: Service, table: Mapping[str, Any]) -> Mapping[str, Any]:
    """The frontends that lead to it; where the configuration doesn't tell, any may."""
    lead = [table["backends"].get(name, {}).get("frontends") for name in service.backends]
    if any(names is None for names in lead):
        every: Mapping[str, Any] = table["frontends"]
        return every
    return {name: table["frontends"][name] for names in lead for name in names if name in table["frontends"]}


def _timeout(service: Service, tables: Mapping[str, Mapping[str, Any]]) -> tuple[float | None, str]:
    """The smallest `timeout client` on the way. `timeout queue` is none: what is held has not reached a queue."""
    found = []
    for balancer, table in tables.items():
        for name, frontend in _frontends(service, table).items():
            if frontend["timeout"] is None:
                return None, ""
            found.append((float(frontend["timeout"]), f"timeout client of {name} on {balancer}"))
    return min(found, default=(None, ""))


def _rooms(service: Service, tables: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[int, str]]:
    """How many waiting requests fit, by everything that limits them. All of them may come to one balancer."""
    for balancer, table in tables.items():
        yield _usable(table["maxconn"] - table["connections"]), f"maxconn of {balancer}"
        for name, frontend in _frontends(service, table).items():
            if frontend["maxconn"]:
                room = frontend["maxconn"] - frontend["connections"]
                yield _usable(room), f"maxconn of frontend {name} on {balancer}"
        yield _usable(HOLD_MEMORY / service.hold.bytes_per_request), f"hold_max_memory on {balancer}"
        if table["memory_room"] is not None:
            yield _usable(table["memory_room"] / service.hold.bytes_per_request), f"memory of {balancer}"


def _usable(room: float) -> int:
    return max(0, math.floor(room * USABLE))


def _untested(service: Service, tables: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for balancer, table in tables.items():
        if not any(row["url"] for row in _frontends(service, table).values()):
            yield balancer


def _unfit(service: Service, tables: Mapping[str, Mapping[str, Any]], *, tcp: bool) -> Iterator[str]:
    for balancer, table in tables.items():
        if service.name in (table["holds"] or ()):
            continue
        if tcp:
            # Without the Lua action connections can wait in the kernel, where HAProxy's release survives that.
            if danger := maxconn_danger(table["version"]):
                yield f"{balancer} can't hold it: it has no Lua action rondo_hold for it, and {danger}"
        elif table["holds"] is None:
            yield f"{balancer} can't hold it: its HAProxy has no Lua action rondo_hold"
        else:
            yield f"{balancer} can't hold it: RONDO_HOLD in its HAProxy does not name {service.name}"


def spare(facts: Facts) -> dict[str, Spare]:
    """What hosts have left, by host."""
    return {
        host: Spare(row.get("memory"), row.get("disk"), frozenset(row.get("ports", ())))
        for host in facts
        if (row := facts[host].get("observe_room"))
    }


def second_copies(cluster: Cluster, facts: Facts) -> dict[str, dict[str, SecondCopy]]:
    """The second copies that are there, by service and instance: containers, or servers that are left of them."""
    found: dict[str, dict[str, SecondCopy]] = {}
    balancers = [
        table for name in cluster.balancers if (table := facts.get(name, {}).get("observe_haproxy", {}).get("backends"))
    ]
    for service in cluster.services.values():
        if not service.backends:
            continue
        for number, instance in enumerate(service.instances):
            host = service.beside_host(number)
            row = facts.get(host, {}).get("observe_containers", {}).get(instance.artifact.name + BESIDE, {})
            servers = [
                table.get(server.backend, {}).get("servers", {}).get(server.name + BESIDE)
                for table in balancers
                for server in instance.servers
            ]
            if row.get("exists") or any(servers):
                found.setdefault(service.name, {})[instance.name] = SecondCopy(
                    host=host,
                    running=str(row.get("image") or "") if row.get("running") else "",
                    current=bool(row.get("current")) and bool(row.get("running")),
                    serving=bool(servers) and all(each is not None and each["usable"] for each in servers),
                    port=next((_port(each["address"]) for each in servers if each), None),
                )
    return found


def _port(address: str) -> int | None:
    port = str(address).rpartition(":")[2]
    return int(port) if port.isdigit() and int(port) else None
