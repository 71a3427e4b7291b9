# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Right declarations, what the hosts' own views change, and the balancers' tables."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._declaration import (
    DeclarationError,
    Inventory,
    parse,
    unmatched,
)
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._keys import FLEET, SERVICE
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import (
    Artifact,
    Ceilings,
    Cluster,
    Database,
    Hold,
    Server,
    Service,
    SideBySide,
    State,
)
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._planner import make_plan
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._spec import Section

CONTROLLERS = ("ctl1", "ctl2", "ctl3")
ARTIFACT = {"container": "web", "image": "registry.example/web:2"}
COPY = {"side_by_side": {"ports": 15000, "environment": {"WEB_PORT": "{port}"}}}


def hosts(count: int) -> tuple[str, ...]:
    return tuple(f"web{index}" for index in range(1, count + 1))


def cluster(count: int, views: Mapping[str, Mapping[str, Any]] | None = None, **keys: Any) -> Cluster:
    """A cluster of one service on `count` hosts; `views` are what hosts see of it otherwise."""
    spec = {"artifact": ARTIFACT, **keys}
    hostvars = {host: {"upgrade_services": {"web": {**spec, **view}}} for host, view in (views or {}).items()}
    return parse({"web": spec}, Inventory({"web": hosts(count), "balancers": ("lb1", "lb2")}, hostvars))


def web(count: int, **keys: Any) -> Service:
    return cluster(count, **keys).services["web"]


def test_defaults_are_those_of_the_model() -> None:
    service = web(3)
    assert service == Service("web", service.instances)
    assert [each.name for each in service.instances] == ["web@web1", "web@web2", "web@web3"]
    assert {each.artifact for each in service.instances} == {Artifact("container", "web", "registry.example/web:2")}
    assert service.instances[0].servers == ()


def test_every_key_is_read() -> None:
    groups = {"controllers": CONTROLLERS, "db": ("db1",), "haproxies": ("lb1",), "spares": ("s1", "s2", "s3")}
    zones = {host: {"zone": zone, "upgrade_host_class": "big"} for host, zone in zip(CONTROLLERS, "abc", strict=True)}
    keystone = {
        "hosts": "controllers",
        "depends_on": ["db"],
        "artifact": {"packages": ["keystone", "python3-keystone"], "version": "2:29"},
        "max_unavailable": 1,
        "quorum": True,
        "failure_domain": "zone",
        "canary": 1,
        "bake_time": "5m",
        "version_skew": True,
        "active_passive": True,
        "arity": "1+2n",
        "method": "side_by_side",
        "hold": {
            "deadline": "30s",
            "on_deadline": "reject",
            "timeouts": {"the clients": "1m"},
            "bytes_per_request": "40kB",
            "force": True,
        },
        "side_by_side": {
            "ports": "15000-15009",
            "hosts": "spares",
            "environment": {"KEYSTONE_PORT": "{port}"},
            "memory": "300MB",
            "steps": [10, 100],
            "step_time": "5s",
            "max_errors": "0.5%",
            "switch_back_window": "2m",
            "test": "/v3",
        },
        "balancer": {"backends": ["internal", "public"]},
        "health": {
            "http": "https://192.0.2.1:5000/healthcheck",
            "method": "HEAD",
            "status": [200, 300],
            "headers": {"Accept": "application/json"},
            "body": "OK",
            "json": "status == 'OK'",
            "tcp": "192.0.2.1:5000",
            "command": ["check", "-v"],
            "interval": "500ms",
            "timeout": "3s",
            "min_healthy_time": "15s",
            "healthy_deadline": "1m30s",
        },
        "drain_timeout": "2m",
        "database": {
            **{step: step for step in ("expand", "migrate", "check")},
            "contract": ["contract"],
        },
        "max_failures": 1,
        "estimates": {"replace": "7s", "stage": "1h"},
        "hooks": {"before": "site.roles.before", "after": "after"},
    }
    # Tests before and after read the last two, see test_suites.py.
    assert set(keystone) | {"min_available", "takes_balancer", "endpoints", "access_log"} == set(SERVICE.keys)
    for name in ("health", "hold", "side_by_side"):
        assert set(keystone[name]) == set(section(name).keys)
    fleet = {
        "upgrade_balancers": "haproxies",
        "upgrade_vip": "192.0.2.100",
        "upgrade_max_hosts_out": "25",
        "upgrade_stage_bandwidth": "100MB/s",
        "upgrade_max_failures": 3,
        "upgrade_max_failed_requests": "0.5%",
        "upgrade_on_failure": "revert",
        "upgrade_on_regression": "stop",
        "upgrade_all_tests": True,
        "upgrade_directory": "build",
    }
    assert set(fleet) == set(FLEET)
    database = {"artifact": {"host_image": "images/db:3"}, "max_unavailable": "100%"}
    read = parse({"keystone": keystone, "db": database}, Inventory(groups, zones), fleet=fleet)
    service = read.services["keystone"]
    assert service == Service(
        "keystone",
        service.instances,
        depends_on=("db",),
        max_unavailable=1,
        budget_text="max_unavailable: 1, and a majority stays (2 of 3)",
        quorum=True,
        failure_domain="zone",
        canary=1,
        bake_time=300.0,
        active_passive=True,
        method="side_by_side",
        hold=Hold(30.0, "reject", {"the clients": 60.0}, 40_000, force=True),
        side_by_side=SideBySide((15000, 15009), ("s1", "s2", "s3"), 300_000_000, (10, 100), 5.0, 0.005, 120.0, "/v3"),
        backends=("internal", "public"),
        health=("http", "tcp", "command"),
        min_healthy_time=15.0,
        healthy_deadline=90.0,
        drain_timeout=120.0,
        database=Database(True, True, True, check=True),
        max_failures=1,
        estimates={"replace": 7.0, "stage": 3600.0},
        hooks=("site.roles.before", "after"),
    )
    first = service.instances[0]
    assert (first.domain, first.host_class) == ("a", "big")
    assert first.artifact == Artifact("packages", "keystone python3-keystone", "2:29")
    assert first.servers == (Server("internal", "ctl1"), Server("public", "ctl1"))
    assert read.services["db"].instances[0].artifact == Artifact("host_image", "images/db:3", "images/db:3")
    assert read.services["db"].outage_allowed
    assert read.balancers == ("lb1",)
    assert read.ceilings == Ceilings(25, 100e6, 3)


def section(name: str) -> Section:
    found = SERVICE.keys[name]
    assert isinstance(found, Section)
    return found


@pytest.mark.parametrize(
    ("count", "keys", "out", "text"),
    [
        (3, {}, 1, "max_unavailable: 1"),
        (3, {"min_available": 2}, 1, "min_available: 2 of 3, so 1 may be out"),
        (3, {"min_available": "2"}, 1, "min_available: 2 of 3, so 1 may be out"),
        (5, {"min_available": "60%"}, 2, "min_available: 60% of 5 is 3, so 2 may be out"),
        (7, {"min_available": "60%"}, 2, "min_available: 60% of 7 is 4.2, rounded up to 5, so 2 may be out"),
        (5, {"min_available": "quorum"}, 2, "min_available: quorum, a majority of 5 is 3, so 2 may be out"),
        (4, {"min_available": 0}, 4, "min_available: 0 of 4, so 4 may be out"),
        (10, {"max_unavailable": "25%"}, 2, "max_unavailable: 25% of 10 is 2.5, rounded down to 2"),
        (3, {"max_unavailable": "25%"}, 1, "max_unavailable: 25% of 3 is 0.75, rounded down to 0, at least 1"),
        (3, {"max_unavailable": "33.4%"}, 1, "max_unavailable: 33.4% of 3 is 1, rounded down to 1"),
        (3, {"max_unavailable": "25%", **COPY}, 0, "max_unavailable: 25% of 3 is 0.75, rounded down to 0"),
        (5, {"quorum": True}, 1, "max_unavailable: 1, and a majority stays (3 of 5)"),
        (5, {"quorum": True, "max_unavailable": 2}, 2, "max_unavailable: 2, and a majority stays (3 of 5)"),
        (1, {"min_available": 1}, 0, "min_available: 1 of 1, so 0 may be out"),
        (1, {"max_unavailable": 2}, 1, "max_unavailable: 2"),
    ],
)
def test_budget(count: int, keys: dict[str, Any], out: int, text: str) -> None:
    service = web(count, **keys)
    assert (service.max_unavailable, service.budget_text) == (out, text)
    assert service.outage_allowed == (keys.get("min_available") == 0)


@pytest.mark.parametrize(
    ("rule", "sizes"),
    [("3", [3]), ("1+2n", [1, 3, 5, 7]), ("2n + 1", [1, 3, 5, 7]), ("2+n", [2, 3, 4, 5, 6, 7]), ("2n", [2, 4, 6])],
)
def test_arity(rule: str, sizes: list[int]) -> None:
    allowed = []
    for count in range(1, 8):
        with contextlib.suppress(DeclarationError):
            web(count, arity=rule)
            allowed.append(count)
    assert allowed == sizes


def test_hosts_may_differ() -> None:
    balancer = {"backends": ["back"]}
    views = {
        "web2": {
            "artifact": {"container": "web", "image": "registry.example/web:3"},
            "balancer": {"backends": ["back"], "server": "two"},
            "health": {"min_healthy_time": "30s", "healthy_deadline": "5m"},
            "drain_timeout": "90s",
            "estimates": {"replace": "1m"},
        },
        "web3": {"health": {"tcp": "web3:80"}},
    }
    first, second, third = cluster(3, views, balancer=balancer).services["web"].instances
    assert (first.servers, first.drain_timeout, first.estimates) == ((Server("back", "web1"),), None, {})
    assert second.artifact.target == "registry.example/web:3"
    assert second.servers == (Server("back", "two"),)
    assert (second.drain_timeout, second.min_healthy_time, second.healthy_deadline) == (90.0, 30.0, 300.0)
    assert second.estimates == {"replace": 60.0}
    assert (third.artifact, third.drain_timeout, third.min_healthy_time) == (first.artifact, None, None)


def test_values_with_tags_become_plain() -> None:
    class Text(str):
        """What Ansible makes of a text since 2.19: a subclass."""

    service = web(2, method=Text("roll"), drain_timeout=Text("5s"), depends_on=[])
    assert type(service.method) is str
    assert service.drain_timeout == 5.0


def test_empty_fleet_variables_stand_for_their_defaults() -> None:
    read = parse({"web": {"artifact": ARTIFACT}}, Inventory({"web": ("a",)}), fleet=dict.fromkeys(FLEET, ""))
    assert (read.balancers, read.ceilings) == ((), Ceilings())


def test_other_variables_of_a_run_are_no_mistakes() -> None:
    names = ["export", "haproxy_socket", "improve", "job", "jobs", "journal", "plan", "plan_file", "round", "run"]
    fleet = {f"upgrade_{name}": "x" for name in [*names, "services", "takeover", "started"]}
    parse({"web": {"artifact": ARTIFACT}}, Inventory({"web": ("a",)}), fleet=fleet)


BEHIND = {"balancer": {"backends": ["back"]}}


def test_how_many_may_fail_overall_reaches_services_that_say_nothing() -> None:
    hosts = tuple(f"h{number}" for number in range(20))
    declared = {
        "web": {"artifact": ARTIFACT, "max_unavailable": 5},
        "api": {"artifact": ARTIFACT | {"container": "api"}, "max_failures": 0},
    }
    inventory = Inventory({"web": hosts[:10], "api": hosts[10:]})
    read = parse(declared, inventory, fleet={"upgrade_max_failures": "10%"})
    assert [service.max_failures for service in read.services.values()] == [None, 0]
    assert read.ceilings.max_failures == 2
    window = make_plan(read, State()).window()
    for tolerated in ("web@h0", "web@h1", "web@h2"):
        assert window.stopped == ""
        window.admissible()
        window.begin(f"replace {tolerated}")
        window.end(f"replace {tolerated}", "failed")
    assert window.stopped == "3 jobs of web failed; upgrade_max_failures is 2"
    assert parse(declared, inventory).ceilings.max_failures is None


@pytest.mark.parametrize(
    ("said", "of_service", "of_all"), [("10%", 1, 2), ("0%", 0, 0), ("19%", 1, 3), ("100%", 10, 20), (3, 3, 3)]
)
def test_how_many_may_fail(said: str | int, of_service: int, of_all: int) -> None:
    hosts = tuple(f"h{number}" for number in range(10))
    declared = {
        name: {"artifact": {"container": name, "image": "img:2"}, "max_failures": said} for name in ("web", "api")
    }
    read = parse(declared, Inventory({"web": hosts, "api": hosts}), fleet={"upgrade_max_failures": said})
    assert [service.max_failures for service in read.services.values()] == [of_service] * 2
    assert read.ceilings.max_failures == of_all


def test_tables_that_match() -> None:
    table = {"back": ["web1", "web2"], "stats": ["local"]}
    assert unmatched(cluster(2, **BEHIND), {"lb1": table, "lb2": table}) == []


@pytest.mark.parametrize(
    ("tables", "lines"),
    [
        (
            {"lb1": {"back": ["web1", "web2"]}, "lb2": {"bakc": ["web1", "web2"]}},
            [
                "upgrade_services.web.balancer.backends (on lb2): 'back' is no backend of this balancer; "
                "did you mean 'bakc'?"
            ],
        ),
        (
            {"lb1": {"back": ["web1"]}, "lb2": {"back": ["web1"]}},
            [
                "upgrade_services.web.balancer.server (on lb1, lb2): 'web2' is no server of backend back: "
                "web@web2 is not behind this balancer; add it there, or correct balancer.server"
            ],
        ),
        (
            {"lb1": {"back": ["web1", "web2", "old"]}},
            [
                "upgrade_services.web.balancer.server (on lb1): 'old' is a server of backend back that no instance "
                "matches; add its host to the group, correct balancer.server, or remove it from the balancer"
            ],
        ),
        (
            {"lb1": {"back": ["web1", "web2.example"]}},
            [
                "upgrade_services.web.balancer.server (on lb1): 'web2' is no server of backend back: "
                "web@web2 is not behind this balancer; right would be one of web2.example",
                "upgrade_services.web.balancer.server (on lb1): 'web2.example' is a server of backend back that no "
                "instance matches; add its host to the group, correct balancer.server, or remove it from the balancer",
            ],
        ),
    ],
)
def test_tables_that_do_not_match(tables: dict[str, dict[str, list[str]]], lines: list[str]) -> None:
    assert [str(problem) for problem in unmatched(cluster(2, **BEHIND), tables)] == lines


def test_a_number_that_python_refuses_to_print() -> None:
    for key in ("min_available", "drain_timeout", "version_skew", "arity", "hosts"):
        with pytest.raises(DeclarationError, match=f"web.{key}: a huge number is"):
            web(2, **{key: 10**5000})


def names_of(given_section: Section) -> list[str]:
    inner = [names_of(key) for key in given_section.keys.values() if isinstance(key, Section)]
    return [*given_section.keys, *(name for names in inner for name in names)]


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["60%", "120%", "10s", "5", "quorum", "web", "nobody", "roll", "1+2n", "http://[", "h:1", "(", ""]
    )
)
NAMES = st.sampled_from(["web", "db", "a b", *sorted(set(names_of(SERVICE)))]) | st.text(max_size=5) | st.integers()
JUNK = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6), max_leaves=25
)


def right_or_junk(given_section: Section) -> st.SearchStrategy[Any]:
    """Mappings of the right keys with junk at any depth."""
    keys = {
        name: (right_or_junk(key) | JUNK) if isinstance(key, Section) else JUNK
        for name, key in given_section.keys.items()
    }
    return st.fixed_dictionaries({}, optional=keys)


@settings(max_examples=400, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(
    declaration=JUNK | st.dictionaries(NAMES, right_or_junk(SERVICE) | JUNK, max_size=4),
    view=JUNK | st.dictionaries(NAMES, right_or_junk(SERVICE) | JUNK, max_size=4),
    fleet=st.dictionaries(st.sampled_from([*FLEET, "upgrade_max_hosts"]), JUNK),
)
def test_junk_raises_nothing_but_declaration_errors(declaration: Any, view: Any, fleet: dict[str, Any]) -> None:
    inventory = Inventory(
        {"web": ("web1", "web2"), "db": ("web1",), "nobody": (), "balancers": ("lb1",)},
        {"web1": {"upgrade_services": view, "zone": "a"}},
    )
    with contextlib.suppress(DeclarationError):
        parse(declaration, inventory, fleet=fleet)


def test_what_takes_a_balancer_out() -> None:
    groups = {"balancers": ("ctl1", "ctl2"), "control": ("ctl1", "ctl2"), "elsewhere": ("web1",)}

    def takes(spec: dict[str, object], name: str = "service", hosts: str = "control") -> bool:
        artifact = {"container": name, "image": "image:2"}
        return (
            parse({name: {"hosts": hosts, "artifact": artifact, **spec}}, Inventory(groups))
            .services[name]
            .takes_balancer
        )

    assert takes({}, "haproxy") and takes({}, "kolla-keepalived")
    assert not takes({}, "memcached")
    assert not takes({}, "haproxy", "elsewhere")
    assert not takes({"takes_balancer": False}, "haproxy")
    assert takes({"takes_balancer": True}, "edge")
