# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Traffic, room and second copies, as the facts tell them."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _cluster, _observed
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._jobs import copied
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import (
    Cluster,
    SecondCopy,
    Spare,
    State,
    Traffic,
)

NEW = "rondo/keystone:29.1.0"
OLD = "rondo/keystone:28.1.0"
GROUPS = {"keystone": ("ctl1", "ctl2"), "balancers": ("lb1", "lb2"), "spares": ("spare1", "spare2")}
COPY = {"ports": "15000-15009", "environment": {"PORT": "{port}"}}


def cluster_of(**keys: Any) -> Cluster:
    service = {
        "artifact": {"container": "keystone", "image": NEW},
        "balancer": {"backends": ["keystone_back"]},
        "version_skew": False,
        **keys,
    }
    return _cluster.parse({"keystone": service}, _cluster.Inventory(GROUPS))


def table(**backend: Any) -> dict[str, Any]:
    """What haproxy_info returns as `traffic`."""
    row = {"mode": "http", "rate": 20.0, "concurrency": 3, "slowest": 2.1, "frontends": ["keystone"]}
    return {
        "backends": {"keystone_back": {**row, **backend}, "other": {**row, "frontends": ["other"]}},
        "frontends": {
            "keystone": {"connections": 100, "maxconn": 2100, "timeout": 60.0, "url": "http://127.0.0.1:5000/"},
            "other": {"connections": 0, "maxconn": 10, "timeout": 1.0, "url": None},
        },
        "connections": 200,
        "maxconn": 4200,
        "memory_room": 210_000_000,
        "holds": ["keystone"],
    }


def traffic_of(*tables: Any, **keys: Any) -> Traffic | None:
    facts = {f"lb{n}": {"observe_haproxy": {"traffic": each}} for n, each in enumerate(tables, 1)}
    return _observed.traffic(cluster_of(**keys), facts).get("keystone")


def test_traffic_of_all_balancers_together() -> None:
    assert traffic_of(table(), {**table(rate=1.5), "connections": 3200}) == Traffic(
        rate=21.5,
        timeout=60.0,
        room=900,
        concurrency=6,
        slowest=2.1,
        timeout_name="timeout client of keystone on lb1",
        room_name="maxconn of lb2",
        frontends=("keystone",),
    )


def test_a_balancer_that_can_not_ask_itself() -> None:
    found = traffic_of(table(), table(frontends=["other"]))
    assert found is not None
    assert found.untested == ("lb2",)
    found = traffic_of(table(mode="tcp"), table(frontends=["other"], mode="tcp"))
    assert found is not None
    assert found.untested == ()


def test_nothing_is_known_before_every_balancer_was_asked() -> None:
    assert traffic_of(table()) is None
    assert traffic_of(table(), None) is None


def test_memory_bounds_what_fits() -> None:
    found = traffic_of(table(), {**table(), "memory_room": 2_100_000})
    assert found is not None
    assert (found.room, found.room_name) == (90, "memory of lb2")
    found = traffic_of(table(), {**table(), "memory_room": 2_100_000}, hold={"bytes_per_request": "42kB"})
    assert found is not None
    assert (found.room, found.room_name) == (45, "memory of lb2")


def test_where_the_configuration_does_not_tell_any_frontend_may_lead_there() -> None:
    found = traffic_of(table(frontends=None), table())
    assert found is not None
    assert (found.timeout, found.timeout_name) == (1.0, "timeout client of other on lb1")
    assert (found.room, found.room_name) == (9, "maxconn of frontend other on lb1")


def test_without_a_configuration_no_timeout_is_known() -> None:
    unread = table(frontends=None)
    for frontend in unread["frontends"].values():
        frontend["timeout"] = None
    found = traffic_of(table(), unread)
    assert found is not None
    assert found.timeout is None


@pytest.mark.parametrize(
    ("holds", "mode", "unfit"),
    [
        (["keystone"], "http", ""),
        (None, "http", "lb2 can't hold it: its HAProxy has no Lua action rondo_hold"),
        (["glance"], "http", "lb2 can't hold it: RONDO_HOLD in its HAProxy does not name keystone"),
    ],
)
def test_a_balancer_that_can_not_hold(holds: list[str] | None, mode: str, unfit: str) -> None:
    found = traffic_of(table(mode=mode), {**table(mode=mode), "holds": holds})
    assert found is not None
    assert found.unfit == unfit


@pytest.mark.parametrize(("version", "fits"), [("3.1.2-1", True), ("2.6.12-1+deb12u4", False)])
def test_connections_can_wait_in_the_kernel_where_haproxy_survives_it(version: str, fits: bool) -> None:
    facts = {
        f"lb{n}": {"observe_haproxy": {"version_full": version, "traffic": {**table(mode="tcp"), "holds": None}}}
        for n in (1, 2)
    }
    found = _observed.traffic(cluster_of(), facts)["keystone"]
    assert found.tcp == ("keystone_back",)
    assert (found.unfit == "") == fits
    assert fits or "haproxy issue 2726" in found.unfit


def test_what_hosts_have_left() -> None:
    facts = {"ctl1": {"observe_room": {"memory": 5, "disk": 6, "ports": [15000]}}, "ctl2": {"observe_room": {}}}
    assert _observed.spare(facts) == {"ctl1": Spare(5, 6, frozenset({15000}))}


def facts_of(
    *, home: bool, copies: dict[str, tuple[str, bool]], config: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Two instances of the old version; `home`: they serve. `copies`: image and whether it serves, by host."""

    def row(image: str) -> dict[str, Any]:
        return {"exists": True, "running": True, "image": image, "current": image == NEW, "target_present": True}

    def server(usable: bool, address: str) -> dict[str, Any]:
        return {"status": "UP" if usable else "DRAIN", "usable": usable, "backup": False, "address": address}

    servers = {host: server(home, "192.0.2.1:5000") for host in ("ctl1", "ctl2")}
    servers |= {f"{host}.rondo-beside": server(serves, "192.0.2.1:15003") for host, (_image, serves) in copies.items()}
    haproxy = {
        "backends": {"keystone_back": {"servers": servers}},
        "config_changed_since_start": False,
        **(config or {}),
    }
    facts: dict[str, Any] = {balancer: {"observe_haproxy": haproxy} for balancer in ("lb1", "lb2")}
    for host in ("ctl1", "ctl2"):
        rows = {"keystone": row(OLD)}
        if host in copies:
            rows["keystone.rondo-beside"] = row(copies[host][0])
        facts[host] = {"observe_containers": rows}
    return facts


def state_of(cluster: Cluster, facts: dict[str, Any], *unfinished: str) -> State:
    jobs = [
        {"id": f"{kind} keystone", "kind": kind, "service": "keystone", "instance": None, "run": 3}
        for kind in unfinished
    ]
    return _cluster.state(cluster, facts, unfinished=jobs)


BOTH = {"ctl1": (NEW, True), "ctl2": (NEW, True)}


def test_second_copies_that_serve_are_no_strangers() -> None:
    cluster = cluster_of(side_by_side=COPY)
    state = state_of(cluster, facts_of(home=False, copies=BOTH))
    assert state.beside["keystone"]["keystone@ctl1"] == SecondCopy("ctl1", NEW, current=True, serving=True, port=15003)
    assert copied(cluster.services["keystone"], state)
    assert not state.obstacles


@pytest.mark.parametrize(
    ("home", "copies", "unfinished"),
    [
        (True, BOTH, ()),
        (False, {**BOTH, "ctl2": (NEW, False)}, ()),
        (False, {**BOTH, "ctl2": (OLD, True)}, ()),
        (False, {}, ()),
        (False, BOTH, ("switch",)),
    ],
)
def test_the_traffic_is_not_there_yet(
    home: bool, copies: dict[str, tuple[str, bool]], unfinished: tuple[str, ...]
) -> None:
    cluster = cluster_of(side_by_side=COPY)
    assert not copied(cluster.services["keystone"], state_of(cluster, facts_of(home=home, copies=copies), *unfinished))


def test_a_switch_in_flight_goes_first_and_a_settle_does_not_switch_again() -> None:
    cluster = cluster_of(side_by_side=COPY)
    facts = facts_of(home=False, copies=BOTH)
    switching, settling = state_of(cluster, facts, "switch"), state_of(cluster, facts, "settle")
    assert switching.in_flight == {"keystone"}
    assert (
        "switch keystone was in flight when run 3 was cut off: it goes first, and begins by looking at what is there"
        in switching.notes
    )
    assert settling.in_flight == set()
    assert copied(cluster.services["keystone"], settling)


@pytest.mark.parametrize(
    ("copies", "lines", "stands"),
    [
        (BOTH, ["/etc/haproxy/haproxy.cfg: is newer than the running worker"], False),
        ({}, ["keystone_back/ctl1.rondo-beside: is configured, but does not run"], False),
        (BOTH, ["keystone_back/ctl3: is configured, but does not run"], True),
        ({}, ["/etc/haproxy/haproxy.cfg: is newer than the running worker"], True),
    ],
)
def test_what_second_copies_changed_stands_in_nobodys_way(
    copies: dict[str, tuple[str, bool]], lines: list[str], stands: bool
) -> None:
    changed = {"config_changed_since_start": True, "config_differences": lines}
    facts = facts_of(home=not copies, copies=copies, config=changed)
    assert bool(state_of(cluster_of(side_by_side=COPY), facts).obstacles) == stands


def test_verify_names_what_is_left() -> None:
    facts = facts_of(home=True, copies={"ctl1": (NEW, False)})
    assert "keystone: second copies are left: keystone@ctl1" in _cluster.differences(
        cluster_of(side_by_side=COPY), facts
    )


def test_where_second_copies_may_run_is_looked_at() -> None:
    rows = _cluster.managed(cluster_of(side_by_side={"ports": 15000, "hosts": "spares"}))
    assert rows["ctl1"]["ports"] == []
    assert rows["spare2"]["ports"] == [[15000, 15000]]
    assert rows["spare2"]["containers"] == {"keystone.rondo-beside": NEW}


@pytest.mark.parametrize(
    ("keys", "seconds"),
    [
        ({}, _cluster.MEASURED),
        ({"version_skew": True}, 0.0),
        ({"version_skew": True, "method": "hold"}, _cluster.MEASURED),
        ({"method": "side_by_side", "side_by_side": COPY}, 0.0),
    ],
)
def test_requests_are_counted_only_where_they_matter(keys: dict[str, Any], seconds: float) -> None:
    assert _cluster.measure(cluster_of(**keys)) == seconds
