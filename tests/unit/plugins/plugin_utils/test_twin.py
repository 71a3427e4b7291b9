# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The twin as data: what it is made of, that it can be declared, and that it says what it leaves out."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._cluster import Source
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration import _suites
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._declaration import Inventory, parse
from ansible_collections.rondo.upgrade.plugins.plugin_utils._twin import Options, TwinError, ansible_cfg, seconds, twin

HOSTS = tuple(f"web{number}" for number in range(1, 13))
GROUPS = {"all": (*HOSTS, "lb1", "lb2", "lb3"), "web": HOSTS, "front": ("lb1", "lb2", "lb3"), "spare": ("web12",)}
WEB: dict[str, Any] = {
    "artifact": {"container": "web", "image": "registry.example/web:2"},
    "max_unavailable": "25%",
    "failure_domain": "zone",
    "canary": 1,
    "bake_time": "1h",
    "balancer": {"backends": ["web_back"], "server": "x"},
    "health": {"http": "https://192.0.2.1:8443/alive?deep=1", "status": [204], "body": "OK", "min_healthy_time": "30s"},
    "database": {"expand": "web upgrade --password secret", "contract": "web contract", "check": "web check"},
    "hooks": {"before": "site.tell"},
}


def made(declaration: dict[str, Any], groups: Any = None, fleet: Any = None, **options: Any) -> dict[str, Any]:
    groups = groups or GROUPS
    hosts = dict.fromkeys(host for members in groups.values() for host in members)
    variables: dict[str, dict[str, Any]] = {}
    for number, host in enumerate(hosts):
        view = {
            name: {**spec, "balancer": {**spec["balancer"], "server": f"{host}.internal"}}
            if "balancer" in spec
            else spec
            for name, spec in declaration.items()
        }
        variables[host] = {"zone": "abc"[number % 3], "upgrade_services": view}
    fleet = {"upgrade_balancers": "front", **(fleet or {})}
    source = Source(declaration, fleet, Inventory(groups, variables), {})
    return twin(source, source.declared(), Options(name="twin", folder="/somewhere", **options))


def parsed(result: dict[str, Any]) -> Any:
    """The twin's own cluster, as its inventory declares it. Raises DeclarationError."""
    everything = result["inventory"]["all"]
    groups = {name: tuple(group["hosts"]) for name, group in everything["children"].items()}
    fleet = {key: value for key, value in everything["vars"].items() if key == "upgrade_balancers"}
    return parse(everything["vars"]["upgrade_services"], Inventory(groups, everything["hosts"]), fleet=fleet)


def test_the_twin_can_be_declared_and_has_the_same_shape() -> None:
    result = made({"web": WEB})
    cluster = parsed(result)
    web = cluster.services["web"]
    assert [instance.host for instance in web.instances] == ["web1", "web2", "web3"]
    assert {instance.domain for instance in web.instances} == {"a", "b", "c"}
    assert (web.max_unavailable, web.canary, web.failure_domain) == (1, 1, "zone")
    assert cluster.balancers == ("lb1", "lb2")
    assert {instance.servers[0].name for instance in web.instances} == {f"web{n}.internal" for n in (1, 2, 3)}
    assert len({instance.artifact.name for instance in web.instances}) == 3
    assert web.min_healthy_time == web.bake_time == 2.0


def test_nodes_containers_and_tables_belong_together() -> None:
    result = made({"web": WEB})
    nodes = {node["container"] for node in result["nodes"]}
    assert {row["node"] for row in result["containers"]} <= nodes
    assert {node["host"]: node["ports"] for node in result["nodes"] if node["ports"]} == {
        "lb1": [30000],
        "lb2": [30000],
    }
    assert all(row["image"] == "twin:before" for row in result["containers"])
    servers = re.findall(r"server (\S+) (\S+):(\d+) check", result["haproxy"])
    assert [(name, port) for name, _node, port in servers] == [(f"web{n}.internal", "8443") for n in (1, 2, 3)]
    assert {node for _name, node, _port in servers} <= nodes
    assert "option httpchk GET /alive" in result["haproxy"] and "rstatus ^(204)$" in result["haproxy"]
    assert [request["path"] for request in result["probe"]["requests"]] == ["/alive"]


def test_no_host_of_the_inventory_is_reached_and_no_command_or_role_is_run() -> None:
    result = made({"web": WEB})
    text = str({key: value for key, value in result.items() if key != "candidates"})
    for private in ("192.0.2.1", "secret", "site.tell", "registry.example", "web check"):
        assert private not in text
    for variables in result["inventory"]["all"]["hosts"].values():
        assert variables["ansible_connection"] == "community.docker.docker_api"
        assert variables["ansible_host"].startswith("twin-")
        assert variables["ansible_become"] is False
    spec = result["inventory"]["all"]["vars"]["upgrade_services"]["web"]
    assert spec["database"] == {"expand": ["true"], "contract": ["true"]}
    assert spec["health"]["http"] == "http://127.0.0.1:8443/alive?deep=1"


def test_what_is_left_out_is_said() -> None:
    haproxy = {"artifact": {"packages": ["haproxy"], "version": "3.0"}, "hosts": "front", "health": {"command": "true"}}
    web = {**WEB, "endpoints": ["http://192.0.2.9/"]}
    said = "\n".join(made({"web": web, "haproxy": haproxy}, fleet={"upgrade_vip": "192.0.2.9"})["missing"])
    for words in (
        "a stand-in served for web, haproxy",
        "installation of packages: a stand-in's container was replaced for haproxy",
        "schema steps: in the twin they do nothing, for web",
        "health commands, which run on the hosts: for haproxy",
        "what an answer must contain (health.body, json, headers, method): for web",
        "the roles in hooks: for web",
        "a balancer goes out with haproxy",
        "cut to 2 s in the twin, for web",
        "the address that the balancers share",
        "the count of access logs",
        "TLS: the twin's health checks are HTTP's, for web",
        "endpoints and access_log, which are production's: for web",
    ):
        assert words in said


def test_balancers_own_services_stay_one_at_a_time() -> None:
    haproxy = {"artifact": {"packages": ["haproxy"], "version": "3.0"}, "hosts": "front"}
    cluster = parsed(made({"web": WEB, "haproxy": haproxy}))
    assert cluster.services["haproxy"].takes_balancer and not cluster.services["web"].takes_balancer


def test_services_of_one_host_get_ports_of_their_own() -> None:
    one = {
        "artifact": {"container": "one", "image": "one:2"},
        "hosts": "web",
        "health": {"http": "http://192.0.2.1/one"},
    }
    two = {
        "artifact": {"container": "two", "image": "two:2"},
        "hosts": "web",
        "health": {"http": "http://192.0.2.1/two"},
    }
    agent = {"artifact": {"container": "agent", "image": "agent:2"}, "hosts": "web"}
    result = made({"one": one, "two": two, "agent": agent})
    ports: dict[str, list[str]] = {}
    for row in result["containers"]:
        ports.setdefault(row["host"], []).append(row["environment"]["STAND_IN_PORT"])
    assert all(sorted(found) == ["20000", "20001", "80"] for found in ports.values())
    parsed(result)


def test_the_controllers_name_is_left_to_the_controller() -> None:
    web = {"artifact": WEB["artifact"], "min_available": 0, "balancer": WEB["balancer"]}
    result = made({"web": web}, {"web": ("localhost",), "front": ("localhost",)})
    assert [node["host"] for node in result["nodes"]] == ["localhost-twin"]
    assert parsed(result).balancers == ("localhost-twin",)


def test_a_saved_plan_says_where_the_twin_begins() -> None:
    result = made({"web": WEB}, running={"web@web2": "registry.example/web:1"})
    assert {row["host"]: row["image"] for row in result["containers"]} == {
        "web1": "twin:after",
        "web2": "twin:before",
        "web3": "twin:after",
    }


def test_a_service_whose_own_image_serves_runs_it() -> None:
    own = {"web": {"after": "registry.example/web:2", "before": "registry.example/web:1", "environment": {"A": "1"}}}
    result = made({"web": WEB}, own=own)
    assert {row["image"] for row in result["containers"]} == {"registry.example/web:1"}
    assert all(row["environment"]["A"] == "1" for row in result["containers"])
    spec = result["inventory"]["all"]["vars"]["upgrade_services"]["web"]
    assert spec["artifact"]["image"] == "registry.example/web:2" and spec["health"]["body"] == "OK"
    assert not any("stand-in served" in sentence for sentence in result["missing"])


def test_why_an_own_image_did_not_serve_is_said() -> None:
    said = made({"web": WEB}, stood_in={"web": "no answer to the health check"})["missing"]
    assert "own images, no answer to the health check: of web" in said


def test_candidates_are_tried_as_they_are_needed() -> None:
    [candidate] = made({"web": WEB}, needs={"web": {"before": "web:1", "environment": {"PORT": 8443}}})["candidates"]
    assert candidate == {
        "service": "web",
        "after": "registry.example/web:2",
        "before": "web:1",
        "environment": {"PORT": "8443"},
        "volumes": [],
        "url": "http://127.0.0.1:8443/alive",
        "status": [204],
    }


def test_ceilings_shrink_with_the_fleet() -> None:
    fleet = {"upgrade_max_hosts_out": 6, "upgrade_vip": "192.0.2.9", "upgrade_max_failures": 1}
    variables = made({"web": WEB}, fleet=fleet)["inventory"]["all"]["vars"]
    assert variables["upgrade_max_hosts_out"] == 2
    assert "upgrade_vip" not in variables and variables["upgrade_max_failures"] == 1
    assert variables["upgrade_directory"] == "/somewhere"


def test_suites_of_the_users_own_are_not_run_and_that_is_said() -> None:
    result = made({"web": WEB}, fleet={"upgrade_suites": None, "upgrade_on_regression": "revert"})
    variables = result["inventory"]["all"]["vars"]
    suites = _suites.parse(variables["upgrade_suites"])
    assert suites.declared == () and "latency" not in suites.builtin.checks
    assert "upgrade_on_regression" not in variables
    assert any("suites of tests" in sentence for sentence in result["missing"])
    assert not any("suites of tests" in sentence for sentence in made({"web": WEB})["missing"])


def test_what_makes_no_twin_is_said() -> None:
    with pytest.raises(TwinError, match="keep at least 2"):
        made({"web": WEB}, size=1)
    with pytest.raises(TwinError, match="healthy_time: 'soon' is no duration"):
        seconds("soon", "healthy_time")


def test_the_twins_settings_are_its_own() -> None:
    text = ansible_cfg(["/a", "/b"], 7)
    assert "collections_path = /a:/b" in text and "forks = 7" in text and "inventory" not in text


@pytest.mark.parametrize("method", ["hold", "held_switch", "side_by_side", None])
def test_what_is_not_rolled_in_production_is_rolled_and_not_asked(method: str | None) -> None:
    pinned = {key: value for key, value in WEB.items() if key not in ("canary", "bake_time", "max_unavailable")}
    single = {
        "artifact": WEB["artifact"] | {"container": "lone"},
        "hosts": "spare",
        "balancer": {"backends": ["lone_back"]},
    }
    result = made(
        {
            "web": {**pinned, "version_skew": False, "min_available": 11, "method": "hold"},
            "lone": single,
            "ok": WEB
            | {"artifact": {"container": "ok", "image": "ok:2"}, "hosts": "web", "balancer": {"backends": ["ok_back"]}},
        },
        methods={"web": method, "lone": "roll", "ok": "roll"},
    )
    cluster = parsed(result)
    assert {service.method for service in cluster.services.values()} == {"roll"}
    assert [request["name"] for request in result["probe"]["requests"]] == ["ok_back"]
    said = "\n".join(result["missing"])
    assert "the twin rolls web" in said and "the probe left out web, lone" in said


def test_where_no_instance_may_be_out_one_is_in_the_twin() -> None:
    web = {key: value for key, value in WEB.items() if key not in ("canary", "bake_time", "max_unavailable")}
    declared = {"web": {**web, "min_available": 12, "method": "hold"}}
    assert parsed(made(declared, methods={"web": "hold"})).services["web"].max_unavailable == 1
