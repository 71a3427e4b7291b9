# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The twin is smaller, has the same shape, and is a cluster that could be declared."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._declaration import (
    DeclarationError,
    Inventory,
    parse,
)
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import Cluster
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._sizes import fits
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._twin import (
    groups_of,
    kept_hosts,
    resized,
    smaller,
)

ZONES = ("a", "b", "c")


def declared(groups: dict[str, tuple[str, ...]], services: dict[str, Any], zoned: bool = True) -> tuple[Any, Inventory]:
    hosts = dict.fromkeys(host for members in groups.values() for host in members)
    variables = {host: {"zone": ZONES[number % 3]} if zoned else {} for number, host in enumerate(hosts)}
    declaration = {
        name: {"artifact": {"container": name, "image": f"{name}:2"}, **spec} for name, spec in services.items()
    }
    return declaration, Inventory(groups, variables)


def reduced(declaration: Any, inventory: Inventory, cluster: Cluster, size: int, rules: Any = None) -> Cluster:
    """Parse the declaration for the hosts that stay. Raises DeclarationError."""
    kept = kept_hosts(groups_of(cluster, size, rules))
    groups = {name: tuple(host for host in hosts if host in kept) for name, hosts in inventory.groups.items()}
    specs = {
        name: resized(declaration[name], service, sum(i.host in kept for i in service.instances))
        for name, service in cluster.services.items()
    }
    return parse(specs, Inventory(groups, inventory.hostvars))


def hosts(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{number}" for number in range(1, count + 1))


BUDGETS = st.one_of(
    st.just({}),
    st.builds(lambda n: {"max_unavailable": n}, st.integers(1, 30)),
    st.builds(lambda n: {"min_available": n}, st.integers(0, 40)),
    st.builds(lambda n: {"max_unavailable": f"{n}%"}, st.integers(1, 100)),
    st.builds(lambda n: {"min_available": f"{n}%"}, st.integers(0, 99)),
    st.just({"min_available": "quorum"}),
    st.just({"quorum": True}),
    st.just({"quorum": True, "arity": "1+2n"}),
)
FLEETS = st.lists(
    st.tuples(BUDGETS, st.integers(1, 40), st.integers(0, 40), st.integers(0, 3), st.booleans()), min_size=1, max_size=5
)


@settings(deadline=None, max_examples=300)
@given(FLEETS, st.integers(0, 5), st.integers(2, 5))
def test_the_twin_of_any_cluster_is_a_cluster_of_the_same_shape(fleet: Any, balancers: int, size: int) -> None:
    pool = hosts("h", 80)
    groups = {"balancers": pool[:balancers]}
    services: dict[str, Any] = {}
    rules: dict[str, tuple[int, int]] = {}
    for number, (budget, count, start, canary, zoned) in enumerate(fleet):
        name = f"s{number}"
        groups[name] = pool[start : start + count]
        services[name] = {**budget, "depends_on": [f"s{number - 1}"] if number else []}
        if canary:
            services[name]["canary"] = canary
        if zoned:
            services[name]["failure_domain"] = "zone"
        if "arity" in budget:
            rules[name] = (1, 2)
    declaration, inventory = declared(groups, services)
    try:
        cluster = parse(declaration, inventory)
    except DeclarationError:
        return
    twin = reduced(declaration, inventory, cluster, size, rules)
    kept = {instance.host for instance in twin.instances.values()} | set(twin.balancers)
    assert len(twin.balancers) >= min(2, balancers)
    for name, service in cluster.services.items():
        small = twin.services[name]
        members = [instance.host for instance in service.instances]
        assert [i.host for i in small.instances] == [host for host in members if host in kept]
        assert min(size, len(members)) <= len(small.instances) <= len(members)
        assert (small.depends_on, small.quorum, small.failure_domain) == (
            service.depends_on,
            service.quorum,
            service.failure_domain,
        )
        assert bool(small.max_unavailable) == bool(service.max_unavailable)
        assert small.outage_allowed == service.outage_allowed
        # The same share, within the one that rounding may add.
        share = service.max_unavailable / len(members)
        assert abs(small.max_unavailable - share * len(small.instances)) <= 1
        assert bool(small.canary) == bool(service.canary)
        assert fits(len(small.instances), *rules.get(name, (0, 1)))
        if service.failure_domain:
            assert len({i.domain for i in small.instances}) >= min(2, len({i.domain for i in service.instances}))


def test_a_large_fleet_becomes_a_handful_of_hosts() -> None:
    groups = {"balancers": hosts("lb", 4), "api": hosts("ctl", 9), "db": hosts("ctl", 5), "compute": hosts("cmp", 400)}
    services = {
        "db": {"quorum": True, "arity": "1+2n"},
        "api": {"min_available": "60%", "failure_domain": "zone", "canary": 1},
        "compute": {"max_unavailable": "25%", "canary": 10},
    }
    declaration, inventory = declared(groups, services)
    cluster = parse(declaration, inventory)
    assert kept_hosts(groups_of(cluster, 3, {"db": (1, 2)})) == (
        "ctl1", "ctl2", "ctl3", "cmp1", "cmp2", "cmp3", "lb1", "lb2",
    )  # fmt: skip
    twin = reduced(declaration, inventory, cluster, 4, {"db": (1, 2)})
    assert {name: len(service.instances) for name, service in twin.services.items()} == {
        "db": 5,
        "api": 5,
        "compute": 4,
    }
    assert {name: service.max_unavailable for name, service in twin.services.items()} == {
        "db": 1,
        "api": 2,
        "compute": 1,
    }
    assert twin.services["compute"].canary == 1


def test_hosts_of_another_domain_are_taken_before_more_of_the_same() -> None:
    declaration, _unused = declared({"web": hosts("web", 6)}, {"web": {"failure_domain": "zone"}})
    zones = {f"web{number}": {"zone": "a" if number < 5 else "b"} for number in range(1, 7)}
    cluster = parse(declaration, Inventory({"web": hosts("web", 6)}, zones))
    assert kept_hosts(groups_of(cluster, 2)) == ("web1", "web5")


def test_a_small_cluster_is_its_own_twin() -> None:
    groups = {"balancers": hosts("lb", 2), "web": hosts("web", 3)}
    declaration, inventory = declared(groups, {"web": {"min_available": 2}})
    cluster = parse(declaration, inventory)
    assert reduced(declaration, inventory, cluster, 3) == cluster


def test_one_of_each_other_group_stays() -> None:
    declaration, inventory = declared({"web": hosts("web", 9)}, {"web": {}})
    kept = kept_hosts(groups_of(parse(declaration, inventory), 2, others=[hosts("spare", 4), ()]))
    assert kept == ("web1", "web2", "spare1")


def test_a_group_of_one_shows_nothing() -> None:
    declaration, inventory = declared({"web": hosts("web", 9)}, {"web": {}})
    with pytest.raises(ValueError, match="keep at least 2"):
        groups_of(parse(declaration, inventory), 1)


@pytest.mark.parametrize(
    ("out", "size", "kept", "then"), [(0, 9, 3, 0), (1, 9, 3, 1), (3, 9, 3, 1), (9, 9, 3, 3), (6, 9, 3, 2)]
)
def test_shares(out: int, size: int, kept: int, then: int) -> None:
    assert smaller(out, size, kept) == then
