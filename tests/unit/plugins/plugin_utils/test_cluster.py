# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible.errors import AnsibleUndefinedVariable

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _cluster
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._declaration import DeclarationError

NEW = "rondo/keystone:29.1.0"
OLD = "rondo/keystone:28.1.0"
GROUPS = {"keystone": ["ctl1", "ctl2"], "balancers": ["lb1"]}
DECLARATION = {
    "keystone": {
        "artifact": {"container": "keystone", "image": NEW},
        "balancer": {"backends": ["keystone_back"]},
        "database": {"expand": "db_sync --expand", "contract": "db_sync --contract", "check": "db_sync --check"},
    }
}


def _container(image: str, **others: Any) -> dict[str, Any]:
    row = {"exists": True, "running": True, "image": image, "digest": "sha256:0123", "target_present": True}
    return {"keystone": {**row, "current": image == NEW, **others}}


def _server(status: str = "UP", usable: bool = True, backup: bool = False) -> dict[str, Any]:
    return {"status": status, "usable": usable, "backup": backup}


def _facts() -> dict[str, dict[str, Any]]:
    servers = {"ctl1": _server(), "ctl2": _server()}
    haproxy = {"backends": {"keystone_back": {"servers": servers}}, "config_changed_since_start": False}
    return {
        "ctl1": {"observe_containers": _container(OLD), "observe_schema": {"keystone": {"rc": 2}}},
        "ctl2": {"observe_containers": _container(NEW)},
        "lb1": {"observe_haproxy": haproxy},
    }


def _variables(**others: Any) -> dict[str, Any]:
    hostvars = _Hostvars({host: {"upgrade_services": DECLARATION, **facts} for host, facts in _facts().items()})
    return {"groups": GROUPS, "hostvars": hostvars, "upgrade_services": DECLARATION, **others}


def _cluster_of(declaration: dict[str, Any] = DECLARATION) -> _cluster.Cluster:
    return _cluster.parse(declaration, _cluster.Inventory({name: tuple(hosts) for name, hosts in GROUPS.items()}))


class _Hostvars(dict[str, dict[str, Any]]):
    raw_get = dict.__getitem__


class _Templar:
    """Resolves nothing, but for one text that only a host can."""

    def __init__(self, variables: dict[str, Any] | None = None) -> None:
        self.variables = variables or {}

    def template(self, variable: Any) -> Any:
        if variable != {"http": "{{ api_address }}"}:
            return variable
        if "api_address" not in self.variables:
            raise AnsibleUndefinedVariable("'api_address' is undefined")
        return {"http": self.variables["api_address"]}

    def copy_with_new_env(self, *, available_variables: dict[str, Any]) -> _Templar:
        return _Templar(available_variables)


_TEMPLAR = _Templar()


def test_source_finds_the_declared_hosts_and_their_facts() -> None:
    source = _cluster.source(_variables(upgrade_max_failures=2), _TEMPLAR)
    assert source.cluster().ceilings.max_failures == 2
    assert list(source.cluster().instances) == ["keystone@ctl1", "keystone@ctl2"]
    assert source.facts["ctl2"]["observe_containers"]["keystone"]["current"] is True
    assert "backends" in source.facts["lb1"]["observe_haproxy"]


def test_a_host_sees_only_its_own_services() -> None:
    declaration = {**DECLARATION, "mariadb": {"artifact": {"host_image": "db:2"}}}
    variables = _variables(upgrade_services=declaration, groups={**GROUPS, "mariadb": ["db1"]})
    variables["hostvars"]["db1"] = {"upgrade_services": declaration}
    source = _cluster.source(variables, _TEMPLAR)
    assert list(source.inventory.hostvars["db1"]["upgrade_services"]) == ["mariadb"]
    assert list(source.inventory.hostvars["ctl1"]["upgrade_services"]) == ["keystone"]


PER_HOST = {**DECLARATION["keystone"], "health": {"http": "{{ api_address }}"}}


class _Views(_Templar):
    """As Ansible does, goes into the services."""

    def template(self, variable: Any) -> Any:
        if isinstance(variable, dict) and "health" in variable:
            return {**variable, "health": super().template(variable["health"])}
        return super().template(variable)

    def copy_with_new_env(self, *, available_variables: dict[str, Any]) -> _Templar:
        return _Views(available_variables)


def _per_host(**addresses: str) -> dict[str, Any]:
    declaration = {"keystone": PER_HOST}
    variables = _variables(upgrade_services=declaration)
    for host in ("ctl1", "ctl2"):
        variables["hostvars"][host]["upgrade_services"] = declaration
    for host, address in addresses.items():
        variables["hostvars"][host]["api_address"] = address
    return variables


def test_what_only_a_host_can_resolve_is_taken_from_the_first_one() -> None:
    source = _cluster.source(_per_host(ctl1="http://ctl1:5000", ctl2="http://ctl2:5000"), _Views())
    assert source.declaration["keystone"]["health"] == {"http": "http://ctl1:5000"}
    assert source.cluster().services["keystone"].health == ("http",)


def test_what_a_host_of_the_service_can_not_resolve_is_a_mistake() -> None:
    source = _cluster.source(_per_host(ctl1="http://ctl1:5000"), _Views())
    with pytest.raises(DeclarationError, match=r"keystone \(on ctl2\): 'api_address' is undefined; define it"):
        source.cluster()


def test_a_missing_declaration_says_where_to_put_it() -> None:
    variables = _variables()
    del variables["upgrade_services"]
    with pytest.raises(DeclarationError, match=r"upgrade_services: is not defined; declare .* group_vars/all"):
        _cluster.source(variables, _TEMPLAR)


def test_failure_domains_and_host_classes_reach_the_brain() -> None:
    declaration = copy.deepcopy(DECLARATION)
    declaration["keystone"]["failure_domain"] = "zone"
    variables = _variables(upgrade_services=declaration)
    for number, host in enumerate(("ctl1", "ctl2")):
        variables["hostvars"][host] |= {
            "zone": f"z{number}",
            "upgrade_host_class": "big",
            "upgrade_services": declaration,
        }
    instances = _cluster.source(variables, _TEMPLAR).cluster().services["keystone"].instances
    assert [(each.domain, each.host_class) for each in instances] == [("z0", "big"), ("z1", "big")]


def test_state_by_digest_and_by_the_schema_check() -> None:
    state = _cluster.state(_cluster_of(), _facts())
    old, new = state.instances["keystone@ctl1"], state.instances["keystone@ctl2"]
    assert (old.running, old.current, old.healthy, old.staged) == (OLD, False, True, True)
    assert (new.running, new.current, new.healthy) == (NEW, True, True)
    assert state.schema == {"keystone": ("expand", "contract")}
    assert state.obstacles == ()


def test_the_same_tag_with_other_content_is_not_current_and_says_so() -> None:
    facts = _facts()
    facts["ctl1"]["observe_containers"] = _container(NEW, current=False)
    seen = _cluster.state(_cluster_of(), facts).instances["keystone@ctl1"]
    assert seen.current is False
    assert seen.running == f"{NEW} (sha256:0123)"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"exists": False}, "container keystone is missing"),
        ({"running": False}, "container keystone is stopped"),
    ],
)
def test_containers_that_do_not_run_are_unhealthy(row: dict[str, Any], reason: str) -> None:
    facts = _facts()
    facts["ctl1"]["observe_containers"] = _container(OLD, **row)
    seen = _cluster.state(_cluster_of(), facts).instances["keystone@ctl1"]
    assert (seen.healthy, seen.reason) == (False, reason)


def test_a_host_without_the_container_at_all() -> None:
    facts = _facts()
    facts["ctl1"]["observe_containers"] = {}
    assert _cluster.state(_cluster_of(), facts).instances["keystone@ctl1"].running == ""


@pytest.mark.parametrize("status", ["DOWN", "MAINT", "DRAIN", "UP 1/3"])
def test_members_out_of_a_balancers_table_count_as_out(status: str) -> None:
    facts = _facts()
    facts["lb1"]["observe_haproxy"]["backends"]["keystone_back"]["servers"]["ctl1"] = _server(status, usable=False)
    seen = _cluster.state(_cluster_of(), facts).instances["keystone@ctl1"]
    assert (seen.healthy, seen.reason) == (False, f"{status} in keystone_back/ctl1 on lb1")


def test_an_instance_on_its_target_that_does_not_serve_gets_a_job_again() -> None:
    facts = _facts()
    facts["lb1"]["observe_haproxy"]["backends"]["keystone_back"]["servers"]["ctl2"] = _server("MAINT", usable=False)
    state = _cluster.state(_cluster_of(), facts)
    assert state.instances["keystone@ctl2"].current is False
    assert state.notes == (
        "keystone@ctl2 runs its target but does not serve (MAINT in keystone_back/ctl2 on lb1): its job brings it back",
    )


def test_what_a_lost_run_left_in_flight_is_told_in_a_line_each() -> None:
    left = [
        {"id": f"replace {name}", "kind": "replace", "service": "keystone", "instance": name, "run": 3}
        for name in ("keystone@ctl1", "keystone@ctl2")
    ]
    left.append({"id": "contract keystone", "kind": "contract", "service": "keystone", "instance": None, "run": 3})
    left.append({"id": "replace gone@ctl9", "kind": "replace", "service": "gone", "instance": "gone@ctl9", "run": 3})
    state = _cluster.state(_cluster_of(), _facts(), unfinished=left)
    assert state.in_flight == {"keystone@ctl1", "keystone@ctl2"}
    assert state.notes == (
        "replace keystone@ctl1 was in flight when run 3 was cut off: it goes first",
        "replace keystone@ctl2 was in flight when run 3 was cut off: it runs its target and serves, so nothing is "
        "left of it",
        "contract keystone was in flight when run 3 was cut off: its schema says what is left of it",
    )


def test_database_offline_has_begun_where_a_switch_had_no_way_back_and_nobody_serves() -> None:
    facts = _facts()
    assert _cluster.state(_cluster_of(), facts, one_way={"keystone", "gone"}).offline_begun == frozenset()
    for row in facts["lb1"]["observe_haproxy"]["backends"].values():
        row["servers"] = {name: _server("MAINT", usable=False) for name in row["servers"]}
    assert _cluster.state(_cluster_of(), facts).offline_begun == frozenset()
    assert _cluster.state(_cluster_of(), facts, one_way={"keystone", "gone"}).offline_begun == {"keystone"}


@pytest.mark.parametrize(
    ("code", "steps"),
    [(0, {"keystone": ()}), (2, {"keystone": ("expand", "contract")}), (4, {"keystone": ("contract",)}), (1, {})],
)
def test_exit_codes_of_the_schema_check(code: int, steps: dict[str, tuple[str, ...]]) -> None:
    facts = _facts()
    facts["ctl1"]["observe_schema"] = {"keystone": {"rc": code}}
    state = _cluster.state(_cluster_of(), facts)
    assert state.schema == steps
    assert [text for text in state.obstacles if "schema check ended with 1" in text] == list(state.obstacles)
    assert len(state.obstacles) == (code == 1)


def test_without_an_answer_the_planner_decides_what_the_schema_needs() -> None:
    facts = _facts()
    del facts["ctl1"]["observe_schema"]
    assert _cluster.state(_cluster_of(), facts).schema == {}


def test_unreachable_hosts_and_silent_balancers_are_obstacles() -> None:
    facts = {**_facts(), "ctl1": {}, "lb1": {"observe_haproxy": {"failed": True, "msg": "connection refused"}}}
    state = _cluster.state(_cluster_of(), facts)
    assert state.obstacles == (
        "ctl1 could not be observed (keystone): make it reachable, or take it out of the inventory",
        "lb1: HAProxy's socket does not answer (connection refused): no drain without knowing its table",
    )
    assert state.instances["keystone@ctl1"].healthy is False


def test_a_changed_configuration_is_an_obstacle() -> None:
    facts = _facts()
    facts["lb1"]["observe_haproxy"] |= {
        "config_changed_since_start": True,
        "config_differences": ["server ctl9 is new"],
    }
    (obstacle,) = _cluster.state(_cluster_of(), facts).obstacles
    assert "is not what runs (server ctl9 is new)" in obstacle


def test_old_workers_are_worth_a_note() -> None:
    facts = _facts()
    facts["lb1"]["observe_haproxy"]["old_workers"] = [17, 18]
    assert _cluster.state(_cluster_of(), facts).notes == (
        "lb1: 2 old workers of HAProxy with sessions; a drain waits for them too",
    )


def test_an_unsteady_server_is_worth_a_note() -> None:
    facts = _facts()
    row = facts["lb1"]["observe_haproxy"]["backends"]["keystone_back"]["servers"]["ctl1"]
    for falls, since, noted in ((3, 90, True), (2, 90, False), (9, 900, False)):
        row |= {"chkdown": falls, "lastchg": since}
        notes = _cluster.state(_cluster_of(), facts).notes
        assert bool(notes) == noted
    row |= {"chkdown": 3, "lastchg": 90}
    (note,) = _cluster.state(_cluster_of(), facts).notes
    assert note == "keystone@ctl1 is unsteady: down 3 times in keystone_back/ctl1 on lb1, and up only since 1m 30s"


def test_the_balancer_that_has_the_shared_address_holds_the_vip() -> None:
    facts = _facts()
    inventory = _cluster.Inventory({**{name: tuple(hosts) for name, hosts in GROUPS.items()}, "balancers": ("lb1",)})
    shared = _cluster.parse(DECLARATION, inventory, fleet={"upgrade_vip": "192.0.2.9"})
    assert _cluster.state(shared, facts).vip_holder is None
    facts["lb1"]["observe_addresses"] = ["192.0.2.1", "192.0.2.9"]
    assert _cluster.state(shared, facts).vip_holder == "lb1"
    assert _cluster.state(_cluster_of(), facts).vip_holder is None


def test_an_image_that_one_host_has_tells_what_the_others_fetch() -> None:
    facts = _facts()
    assert _cluster.state(_cluster_of(), facts).instances["keystone@ctl1"].size is None
    facts["ctl2"]["observe_containers"] = _container(NEW, target_size=5000)
    assert _cluster.state(_cluster_of(), facts).instances["keystone@ctl1"].size == 5000


def test_tables_that_do_not_match_the_declaration_are_mistakes() -> None:
    facts = _facts()
    del facts["lb1"]["observe_haproxy"]["backends"]["keystone_back"]["servers"]["ctl2"]
    with pytest.raises(DeclarationError, match="keystone@ctl2 is not behind this balancer"):
        _cluster.state(_cluster_of(), facts)


def test_the_active_member_is_the_usable_one_that_is_no_backup() -> None:
    declaration = copy.deepcopy(DECLARATION)
    declaration["keystone"]["active_passive"] = True
    facts = _facts()
    servers = facts["lb1"]["observe_haproxy"]["backends"]["keystone_back"]["servers"]
    servers["ctl1"] = _server(backup=True)
    assert _cluster.state(_cluster_of(declaration), facts).active == {"keystone": "ctl2"}
    servers["ctl2"] = _server("DOWN", usable=False)
    assert _cluster.state(_cluster_of(declaration), facts).active == {"keystone": "ctl1"}


def test_packages_and_host_images() -> None:
    declaration = {
        "api": {"hosts": "keystone", "artifact": {"packages": ["api", "api-common"], "version": "2.0"}},
        "kernel": {"hosts": "keystone", "artifact": {"host_image": "debian:13"}},
    }
    facts = {
        "ctl1": {"observe_packages": {"api": "2.0", "api-common": "1.9"}, "observe_host_image": "debian:13"},
        "ctl2": {"observe_packages": {"api": "2.0", "api-common": ""}, "observe_host_image": "debian:12"},
    }
    seen = _cluster.state(_cluster_of(declaration), {**_facts(), **facts}).instances
    assert (seen["api@ctl1"].running, seen["api@ctl1"].current, seen["api@ctl1"].healthy) == ("1.9, 2.0", False, True)
    assert (seen["api@ctl2"].reason, seen["api@ctl2"].healthy) == ("not installed: api-common", False)
    assert [seen[f"kernel@{host}"].current for host in ("ctl1", "ctl2")] == [True, False]


def test_differences_list_everything_and_nothing_when_all_is_there() -> None:
    facts = _facts()
    facts["lb1"]["observe_haproxy"]["backends"]["keystone_back"]["servers"]["ctl2"] = _server("MAINT", usable=False)
    assert _cluster.differences(_cluster_of(), facts) == [
        f"keystone@ctl1 runs {OLD}, not {NEW}",
        "keystone@ctl2 does not serve: MAINT in keystone_back/ctl2 on lb1",
        "keystone: its database schema is not at its head, still to do: expand, contract",
    ]
    good = _facts()
    good["ctl1"] = {"observe_containers": _container(NEW), "observe_schema": {"keystone": {"rc": 0}}}
    assert _cluster.differences(_cluster_of(), good) == []


def test_an_unobserved_host_is_one_difference_of_its_own() -> None:
    good = {**_facts(), "ctl1": {}}
    assert _cluster.differences(_cluster_of(), good) == [
        "ctl1 could not be observed (keystone): make it reachable, or take it out of the inventory",
    ]


def test_managed_says_what_to_look_at() -> None:
    assert _cluster.managed(_cluster_of())["ctl1"] == {
        "containers": {"keystone": NEW},
        "packages": [],
        "host_image": "",
        "ports": [],
    }
