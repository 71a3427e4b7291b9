# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wrong declarations: one change to a right one each, and every line that answers it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._declaration import (
    DeclarationError,
    Inventory,
    parse,
)

ABSENT: Any = ...
CONTROLLERS = ("ctl1", "ctl2", "ctl3")
GROUPS = {
    "all": (*CONTROLLERS, "lb1", "lb2"),
    "balancers": ("lb1", "lb2"),
    "keystone": CONTROLLERS,
    "mariadb": ("ctl1",),
    "memcached": CONTROLLERS,
    "nobody": (),
    "pair": ("ctl1", "ctl2"),
}
HOSTVARS: dict[str, dict[str, Any]] = {
    host: {"zone": zone, "disks": ["sda"]} for host, zone in zip(CONTROLLERS, "abc", strict=True)
}
DECLARATION: dict[str, Any] = {
    "keystone": {
        "depends_on": ["mariadb", "memcached"],
        "artifact": {"container": "keystone", "image": "registry.example/keystone:2"},
        "min_available": 2,
        "failure_domain": "zone",
        "canary": 1,
        "balancer": {"backends": ["keystone_internal_back", "keystone_external_back"]},
        "health": {"http": "http://192.0.2.1:5000/healthcheck", "healthy_deadline": "2m"},
        "database": {"expand": "keystone-manage db_sync --expand", "contract": ["keystone-manage", "db_sync"]},
    },
    "mariadb": {"artifact": {"packages": ["mariadb-server"], "version": "11.8"}},
    "memcached": {"artifact": {"container": "memcached", "image": "memcached:1.6"}},
}


def problems(changes: Mapping[str, Any]) -> list[str]:
    """The lines that a changed declaration is answered with.

    A change is a dotted path and a new value (ABSENT: the key is taken away). `@host.key` changes what the host itself
    sees of keystone, `!fleet.name` a variable of the fleet, `!name` a group of the inventory.
    """
    declaration = copy.deepcopy(DECLARATION)
    groups: dict[str, Any] = dict(GROUPS)
    fleet: dict[str, Any] = {}
    views: dict[str, Any] = {}
    for path, value in changes.items():
        if path.startswith("!fleet."):
            _change(fleet, [path.removeprefix("!fleet.")], value)
        elif path.startswith("!"):
            _change(groups, [path[1:]], value)
        elif path.startswith("@"):
            host, *keys = path[1:].split(".")
            view = views.setdefault(host, copy.deepcopy(DECLARATION))
            _change(view, ["keystone", *keys], value)
        else:
            _change(declaration, path.split("."), value)
    hostvars = {
        host: {**variables, **({"upgrade_services": views[host]} if host in views else {})}
        for host, variables in HOSTVARS.items()
    }
    try:
        parse(declaration, Inventory(groups, hostvars), fleet=fleet)
    except DeclarationError as error:
        assert str(error).splitlines() == [str(problem) for problem in error.problems]
        return [str(problem) for problem in error.problems]
    return []


def _change(values: Any, keys: list[str], value: Any) -> None:
    *above, last = keys
    for key in above:
        values = values[key]
    if value is ABSENT:
        del values[last]
    else:
        values[int(last) if last.isdigit() else last] = copy.deepcopy(value)


ROWS = [
    pytest.param(
        {"keystone.depend_on": ["mariadb"]},
        [
            "upgrade_services.keystone.depend_on: is not a key here; did you mean 'depends_on'?",
        ],
        id="unknown-key",
    ),
    pytest.param(
        {"keystone.database": {"expand": "x", "zzz": "secret"}},
        [
            "upgrade_services.keystone.database.zzz: is not a key here; right would be one of expand, "
            "migrate, contract, check, offline, offline_reversible",
        ],
        id="unknown-key-nothing-near",
    ),
    pytest.param(
        {"keystone.health.helthy_deadline": "60s"},
        [
            "upgrade_services.keystone.health.helthy_deadline: is not a key here; did you mean 'healthy_deadline'?",
        ],
        id="unknown-key-in-health",
    ),
    pytest.param(
        {"keystone.5": 1},
        [
            "upgrade_services.keystone[5]: is not a key here; right would be one of hosts, depends_on, "
            "artifact, min_available, max_unavailable, quorum, failure_domain, canary, bake_time, "
            "version_skew, active_passive, arity, method, balancer, takes_balancer, health, endpoints, access_log, "
            "drain_timeout, hold, side_by_side, database, max_failures, estimates, hooks",
        ],
        id="key-is-no-text",
    ),
    pytest.param(
        {"keystone.hosts": "keyston"},
        [
            "upgrade_services.keystone.hosts: 'keyston' is no group of the inventory; did you mean 'keystone'?",
        ],
        id="unknown-group",
    ),
    pytest.param(
        {"glance": {"artifact": {"host_image": "img:1"}}},
        [
            "upgrade_services.glance.hosts: 'glance' is no group of the inventory (the default of hosts "
            "is the service's name); right would be one of all, balancers, keystone, mariadb, "
            "memcached, nobody, pair",
        ],
        id="unknown-default-group",
    ),
    pytest.param(
        {"keystone.hosts": "nobody", "keystone.canary": 0, "keystone.min_available": 1},
        [
            "upgrade_services.keystone.hosts: 'nobody' is an empty group; add hosts to the group, or "
            "take the service out of the declaration",
        ],
        id="empty-group",
    ),
    pytest.param(
        {"keystone.depends_on": None},
        [
            "upgrade_services.keystone.depends_on: has no value; give it one, or leave the key out for its default",
        ],
        id="no-value",
    ),
    pytest.param(
        {"glance": "glance"},
        [
            "upgrade_services.glance: is a text; write a mapping with the keys hosts, depends_on, "
            "artifact, min_available, max_unavailable, quorum, failure_domain, canary, bake_time, "
            "version_skew, active_passive, arity, method, balancer, takes_balancer, health, endpoints, access_log, "
            "drain_timeout, hold, side_by_side, database, max_failures, estimates, hooks",
        ],
        id="service-is-no-mapping",
    ),
    pytest.param(
        {"keystone.health": "http://192.0.2.1/"},
        [
            "upgrade_services.keystone.health: is a text; write a mapping with the keys http, method, "
            "status, headers, body, json, tcp, command, interval, timeout, min_healthy_time, "
            "healthy_deadline",
        ],
        id="section-is-no-mapping",
    ),
    pytest.param(
        {"glance api": {"artifact": {"host_image": "img:1"}}},
        [
            "upgrade_services['glance api']: is no name for a service; use letters, digits, '_' and '-'",
        ],
        id="bad-service-name",
    ),
    pytest.param(
        {"keystone.depends_on": ["mariadb", "memcache"]},
        [
            "upgrade_services.keystone.depends_on[1]: 'memcache' is no service of the declaration; did "
            "you mean 'memcached'?",
        ],
        id="unknown-dependency",
    ),
    pytest.param(
        {"keystone.depends_on": ["keystone"]},
        [
            "upgrade_services.keystone.depends_on[0]: 'keystone' is the service itself; remove it",
        ],
        id="depends-on-itself",
    ),
    pytest.param(
        {"keystone.depends_on": ["mariadb", "mariadb"]},
        [
            "upgrade_services.keystone.depends_on[1]: 'mariadb' is there twice; name each once",
        ],
        id="dependency-twice",
    ),
    pytest.param(
        {"keystone.depends_on": "mariadb"},
        [
            "upgrade_services.keystone.depends_on: 'mariadb' is a text, not a list; write a list such "
            "as [mariadb, memcached]",
        ],
        id="dependencies-are-a-text",
    ),
    pytest.param(
        {"mariadb.depends_on": ["memcached"], "memcached.depends_on": ["keystone"]},
        [
            "upgrade_services.keystone.depends_on: is a circle: keystone -> memcached -> keystone; "
            "remove one of these dependencies",
        ],
        id="circle",
    ),
    pytest.param(
        {
            "mariadb.depends_on": ["keystone"],
            "memcached.depends_on": ["haproxy"],
            "haproxy": {
                "hosts": "balancers",
                "depends_on": ["memcached"],
                "artifact": {"container": "haproxy", "image": "h:3"},
            },
        },
        [
            "upgrade_services.keystone.depends_on: is a circle: keystone -> mariadb -> keystone; remove "
            "one of these dependencies",
            "upgrade_services.memcached.depends_on: is a circle: memcached -> haproxy -> memcached; "
            "remove one of these dependencies",
        ],
        id="two-circles",
    ),
    pytest.param(
        {"keystone.artifact": ABSENT},
        [
            "upgrade_services.keystone.artifact: is missing; it has no default: give it a value",
        ],
        id="artifact-missing",
    ),
    pytest.param(
        {"keystone.artifact": {}},
        [
            "upgrade_services.keystone.artifact: says nothing; declare one of: container and image; "
            "packages and version; host_image",
        ],
        id="artifact-empty",
    ),
    pytest.param(
        {"keystone.artifact": {"container": "keystone", "image": "k:2", "packages": ["keystone"], "version": "2"}},
        [
            "upgrade_services.keystone.artifact: mixes container and packages; declare one of: "
            "container and image; packages and version; host_image",
        ],
        id="two-artifact-kinds",
    ),
    pytest.param(
        {"keystone.artifact.image": ABSENT},
        [
            "upgrade_services.keystone.artifact.image: is missing; it goes with container: give it a value",
        ],
        id="artifact-without-image",
    ),
    pytest.param(
        {"keystone.artifact": {"packages": ["keystone"]}},
        [
            "upgrade_services.keystone.artifact.version: is missing; it goes with packages: give it a value",
        ],
        id="packages-without-version",
    ),
    pytest.param(
        {"keystone.artifact": {"packages": [], "version": "2"}},
        [
            "upgrade_services.keystone.artifact.packages: is an empty list; name at least one, or leave the key out",
        ],
        id="no-packages",
    ),
    pytest.param(
        {"keystone.artifact": {"packages": ["keystone"], "version": 2.0}},
        [
            "upgrade_services.keystone.artifact.version: 2.0 is a number, not a text; write a text; "
            "what looks like a number needs quotes",
        ],
        id="version-is-a-number",
    ),
    pytest.param(
        {"keystone.artifact.image": "k : 2"},
        [
            "upgrade_services.keystone.artifact.image: 'k : 2' is empty or holds white space; write a "
            "name without white space",
        ],
        id="image-with-blanks",
    ),
    pytest.param(
        {"keystone.min_available": 5},
        [
            "upgrade_services.keystone.min_available: 5 asks 5 to stay, and there are only 3 instances "
            "(3 - 5 = -2); lower it to 2, or add 3 instances",
        ],
        id="more-than-there-are",
    ),
    pytest.param(
        {"keystone.min_available": 3},
        [
            "upgrade_services.keystone.min_available: 3 lets nothing be out, so nothing could be "
            "replaced (min_available: 3 of 3, so 0 may be out); let one be out, add an instance, or "
            "declare side_by_side (start new beside old) where there is room",
        ],
        id="all-must-stay",
    ),
    pytest.param(
        {"keystone.min_available": "70%"},
        [
            "upgrade_services.keystone.min_available: 70% lets nothing be out, so nothing could be "
            "replaced (min_available: 70% of 3 is 2.1, rounded up to 3, so 0 may be out); let one be "
            "out, add an instance, or declare side_by_side (start new beside old) where there is "
            "room",
        ],
        id="all-must-stay-percent",
    ),
    pytest.param(
        {"keystone.min_available": ABSENT, "keystone.max_unavailable": 0},
        [
            "upgrade_services.keystone.max_unavailable: 0 lets nothing be out, so nothing could be "
            "replaced (max_unavailable: 0); let one be out, add an instance, or declare side_by_side "
            "(start new beside old) where there is room",
        ],
        id="none-may-be-out",
    ),
    pytest.param(
        {"keystone.min_available": ABSENT, "keystone.max_unavailable": 3},
        [
            "upgrade_services.keystone.max_unavailable: 3 lets all 3 instances out (3 - 3 = 0 would "
            'stay); lower it to 2 at most, or permit the outage with "min_available: 0"',
        ],
        id="all-may-be-out",
    ),
    pytest.param(
        {"keystone.min_available": "120%"},
        [
            "upgrade_services.keystone.min_available: '120%' is out of range; a percentage goes from 0% to 100%",
        ],
        id="percent-out-of-range",
    ),
    pytest.param(
        {"keystone.min_available": ABSENT, "keystone.max_unavailable": "-5%"},
        [
            "upgrade_services.keystone.max_unavailable: '-5%' is out of range; a percentage goes from 0% to 100%",
        ],
        id="percent-below-zero",
    ),
    pytest.param(
        {"keystone.min_available": -1},
        [
            "upgrade_services.keystone.min_available: -1 is below 0; write a whole number or a "
            'percentage such as "60%" or quorum',
        ],
        id="below-zero",
    ),
    pytest.param(
        {"keystone.min_available": "most"},
        [
            "upgrade_services.keystone.min_available: 'most' is not a number of instances; write a "
            'whole number or a percentage such as "60%" or quorum',
        ],
        id="budget-is-a-word",
    ),
    pytest.param(
        {"keystone.min_available": 0.6},
        [
            "upgrade_services.keystone.min_available: 0.6 is not a number of instances; write a whole "
            'number or a percentage such as "60%" or quorum',
        ],
        id="budget-is-a-fraction",
    ),
    pytest.param(
        {"keystone.max_unavailable": 1},
        [
            "upgrade_services.keystone.min_available: contradicts max_unavailable: both set the one "
            "budget; keep the one that you mean",
        ],
        id="two-budgets",
    ),
    pytest.param(
        {"keystone.quorum": True},
        [
            "upgrade_services.keystone.min_available: contradicts quorum: both say how many must stay; "
            'keep one of them; "quorum: true" keeps a majority',
        ],
        id="quorum-and-min-available",
    ),
    pytest.param(
        {"keystone.min_available": ABSENT, "keystone.max_unavailable": 2, "keystone.quorum": True},
        [
            "upgrade_services.keystone.max_unavailable: 2 leaves 3 - 2 = 1, but a majority of 3 is 2; "
            "lower it to 1 at most, or drop quorum",
        ],
        id="quorum-breaks",
    ),
    pytest.param(
        {"keystone.hosts": "pair", "keystone.min_available": "quorum", "keystone.canary": 0},
        [
            "upgrade_services.keystone.min_available: 'quorum' lets nothing be out, so nothing could be "
            "replaced (min_available: quorum, a majority of 2 is 2, so 0 may be out); let one be out, "
            "add an instance, or declare side_by_side (start new beside old) where there is room",
        ],
        id="quorum-of-two",
    ),
    pytest.param(
        {"keystone.active_passive": "true"},
        [
            "upgrade_services.keystone.active_passive: 'true' is a text, not a boolean; write true or "
            "false, without quotes",
        ],
        id="flag-in-quotes",
    ),
    pytest.param(
        {"keystone.failure_domain": "rack"},
        [
            "upgrade_services.keystone.failure_domain (on ctl1, ctl2, ctl3): 'rack' is no variable of "
            "the host; set it on every host of the service",
        ],
        id="no-domain-on-hosts",
    ),
    pytest.param(
        {"keystone.failure_domain": "disks"},
        [
            "upgrade_services.keystone.failure_domain (on ctl1, ctl2, ctl3): 'disks' is a list there, "
            "not a name; set it on every host of the service",
        ],
        id="domain-is-a-list",
    ),
    pytest.param(
        {"keystone.canary": 3},
        [
            "upgrade_services.keystone.canary: 3 leaves none to go after the canary (3 instances in "
            "all); choose at most 2",
        ],
        id="canary-too-large",
    ),
    pytest.param(
        {"mariadb.canary": 1},
        [
            "upgrade_services.mariadb.canary: 1 leaves none to go after the canary (1 instance in all); "
            "drop it: a single instance has no canary",
        ],
        id="canary-of-one",
    ),
    pytest.param(
        {"keystone.canary": True},
        [
            "upgrade_services.keystone.canary: true is a boolean, not a whole number; write a whole number from 0 up",
        ],
        id="canary-is-a-flag",
    ),
    pytest.param(
        {"keystone.canary": -1},
        [
            "upgrade_services.keystone.canary: -1 is below 0; write a whole number from 0 up",
        ],
        id="canary-below-zero",
    ),
    pytest.param(
        {"keystone.canary": 0, "keystone.bake_time": "5m"},
        [
            "upgrade_services.keystone.bake_time: is the wait after the canary, and there is none; "
            "declare canary: 1, or drop it",
        ],
        id="bake-without-canary",
    ),
    pytest.param(
        {"keystone.version_skew": False},
        [
            "upgrade_services.keystone.canary: runs beside the old version, which version_skew: false "
            "forbids; drop canary, or permit both versions side by side with version_skew: true",
        ],
        id="canary-without-skew",
    ),
    pytest.param(
        {"keystone.version_skew": False, "keystone.canary": 0, "keystone.method": "roll"},
        [
            "upgrade_services.keystone.method: 'roll' lets two versions serve together, which "
            'version_skew: false forbids; write "hold", "side_by_side", "held_switch" or "auto", or version_skew: true',
        ],
        id="roll-without-skew",
    ),
    pytest.param(
        {"keystone.method": "side-by-side"},
        [
            "upgrade_services.keystone.method: 'side-by-side' is not known; did you mean 'side_by_side'?",
        ],
        id="unknown-method",
    ),
    pytest.param(
        {"keystone.method": ["roll"]},
        [
            "upgrade_services.keystone.method: is a list, not a word; write one of auto, roll, hold, "
            "side_by_side, held_switch",
        ],
        id="method-is-a-list",
    ),
    pytest.param(
        {"memcached.method": "hold"},
        [
            "upgrade_services.memcached.method: 'hold' works on a balancer's backends, and none is "
            "declared; declare balancer.backends, or choose another method",
        ],
        id="hold-without-balancer",
    ),
    pytest.param(
        {
            "keystone.method": "side_by_side",
            "keystone.database.offline": "db_sync",
            "keystone.side_by_side": {"ports": "15000-15009", "environment": {"PORT": "{port}"}},
        },
        [
            "upgrade_services.keystone.method: 'side_by_side' never stops all instances at once, which "
            'database.offline needs; write "hold", "held_switch" or "auto"',
        ],
        id="offline-without-a-stop",
    ),
    pytest.param(
        {"keystone.database.offline_reversible": True},
        [
            "upgrade_services.keystone.database.offline_reversible: says what comes after database.offline, and there "
            "is none; declare database.offline, or drop it",
        ],
        id="offline-reversible-without-offline",
    ),
    pytest.param(
        {
            "keystone.hold": {"deadline": 30, "on_deadline": "wait", "timeouts": {"the clients": "soon"}},
            "keystone.side_by_side": {
                "ports": "15009-15000",
                "hosts": "spares",
                "environment": ["PORT"],
                "memory": 300,
                "steps": [5, 50],
                "max_errors": 1,
                "test": "healthcheck",
            },
        },
        [
            'upgrade_services.keystone.hold.deadline: 30 is a number without a unit; write "30s" if seconds are meant',
            "upgrade_services.keystone.hold.on_deadline: 'wait' is not known; right would be one of release, reject",
            "upgrade_services.keystone.hold.timeouts['the clients']: 'soon' is not a duration; write such as \"10s\", "
            '"2m", "1m30s", "1h" or "500ms"',
            "upgrade_services.keystone.side_by_side.ports: '15009-15000' is not a range of ports; ports go from 1 to "
            "65535, and the first comes first",
            "upgrade_services.keystone.side_by_side.environment: is not a mapping of variables to texts; write such as "
            '{WEB_PORT: "{port}"}',
            'upgrade_services.keystone.side_by_side.memory: 300 is a number without a unit; write such as "300MB"',
            "upgrade_services.keystone.side_by_side.steps: does not rise to 100; write rising percentages of which the "
            "last is 100, such as [5, 25, 100]",
            'upgrade_services.keystone.side_by_side.max_errors: 1 is not a percentage; write such as "1%", from 0% to '
            "100%",
            "upgrade_services.keystone.side_by_side.test: 'healthcheck' is not a URL's path; write such as "
            '"/healthcheck"',
        ],
        id="hold-and-side-by-side",
    ),
    pytest.param(
        {"keystone.side_by_side": {"ports": "15000-15001"}},
        [
            "upgrade_services.keystone.side_by_side.environment: tells no second copy its port, and on its instance's "
            'host it can\'t have the same; write "{port}" into the variable that says it, such as {WEB_PORT: '
            '"{port}"}, or name spare hosts',
        ],
        id="second-copies-on-the-same-port",
    ),
    pytest.param(
        {
            "keystone.health": {"tcp": "192.0.2.1:5000"},
            "keystone.side_by_side": {
                "ports": "15000-15001",
                "environment": {"PORT": "{port}"},
                "test": "/v3",
            },
        },
        [
            "upgrade_services.keystone.side_by_side.test: '/v3' is a path at the host of health.http, which is not "
            "declared; declare health.http, or drop it",
        ],
        id="a-test-without-http",
    ),
    pytest.param(
        {"keystone.side_by_side": {"ports": 15000, "hosts": "spares"}, "!spares": ("spare1",)},
        [
            "upgrade_services.keystone.side_by_side.hosts: 'spares' has 1 for 3 second copies, one each; add 2 more "
            "to it",
        ],
        id="too-few-spare-hosts",
    ),
    pytest.param(
        {"keystone.side_by_side": {"ports": 15000, "hosts": "spares"}},
        [
            "upgrade_services.keystone.side_by_side.hosts: 'spares' is no group of the inventory; right would be one "
            "of all, balancers, keystone, mariadb, memcached, nobody, pair",
        ],
        id="no-spare-hosts",
    ),
    pytest.param(
        {"keystone.method": "side_by_side"},
        [
            "upgrade_services.keystone.method: 'side_by_side' needs room for a second copy; declare "
            "side_by_side where the hosts have room for it, or choose another method",
        ],
        id="copy-without-room",
    ),
    pytest.param(
        {"keystone.arity": "2+2n"},
        [
            "upgrade_services.keystone.arity: '2+2n' does not allow 3 instances; have 2, 4, 6, ... "
            "instances, or correct the rule",
        ],
        id="arity-broken",
    ),
    pytest.param(
        {"keystone.arity": 5},
        [
            "upgrade_services.keystone.arity: '5' does not allow 3 instances; have 5 instances, or correct the rule",
        ],
        id="arity-exact",
    ),
    pytest.param(
        {"keystone.arity": "odd"},
        [
            "upgrade_services.keystone.arity: 'odd' is not a rule for a group's size; write such as "
            '"3", "1+2n" or "2+n"',
        ],
        id="arity-is-no-rule",
    ),
    pytest.param(
        {"keystone.balancer": {"server": "ctl"}},
        [
            "upgrade_services.keystone.balancer.backends: is missing; it has no default: give it a value",
        ],
        id="no-backends",
    ),
    pytest.param(
        {"keystone.balancer.backends": "keystone_back"},
        [
            "upgrade_services.keystone.balancer.backends: 'keystone_back' is a text, not a list; write "
            "a list such as [keystone_internal_back]",
        ],
        id="backends-are-a-text",
    ),
    pytest.param(
        {"!balancers": ABSENT},
        [
            "upgrade_balancers: 'balancers' is no group of the inventory (the default), but needed for "
            "keystone; name the group of the hosts that run HAProxy; right would be one of all, "
            "keystone, mariadb, memcached, nobody, pair",
        ],
        id="no-balancer-group",
    ),
    pytest.param(
        {"!fleet.upgrade_balancers": "haproxys"},
        [
            "upgrade_balancers: 'haproxys' is no group of the inventory, but needed for keystone; name "
            "the group of the hosts that run HAProxy; right would be one of all, balancers, keystone, "
            "mariadb, memcached, nobody, pair",
        ],
        id="declared-balancer-group",
    ),
    pytest.param(
        {"keystone.balancer.server": "vip"},
        [
            "upgrade_services.keystone.balancer.server (on ctl2, ctl3): 'vip' is already the server of "
            "keystone@ctl1 in backend keystone_internal_back; give each instance a server of its own",
            "upgrade_services.keystone.balancer.server (on ctl2, ctl3): 'vip' is already the server of "
            "keystone@ctl1 in backend keystone_external_back; give each instance a server of its own",
        ],
        id="one-server-for-all",
    ),
    pytest.param(
        {"keystone.health.http": "ctl1:5000/healthcheck"},
        [
            "upgrade_services.keystone.health.http: 'ctl1:5000/healthcheck' is not a URL; write such as "
            '"http://192.0.2.10:5000/healthcheck"',
        ],
        id="url-without-scheme",
    ),
    pytest.param(
        {"keystone.health": {"tcp": "192.0.2.1:5000", "json": "status"}},
        [
            "upgrade_services.keystone.health.json: is only for an HTTP check; add health.http, its URL",
        ],
        id="health-json-without-http",
    ),
    pytest.param(
        {"keystone.health.body": "(ok"},
        [
            "upgrade_services.keystone.health.body: '(ok' is no regular expression: missing ), "
            "unterminated subpattern at position 0; mend the expression",
        ],
        id="bad-pattern",
    ),
    pytest.param(
        {"keystone.health.status": [200, 2000]},
        [
            "upgrade_services.keystone.health.status[1]: 2000 is not an HTTP status; write numbers from "
            "100 to 599, such as [200, 300]",
        ],
        id="bad-status",
    ),
    pytest.param(
        {"keystone.health.status": 200},
        [
            "upgrade_services.keystone.health.status: 200 is a number, not a list; write a list such as [200]",
        ],
        id="status-is-a-number",
    ),
    pytest.param(
        {"keystone.health.headers": ["X-Auth-Token: secret"]},
        [
            "upgrade_services.keystone.health.headers: is not a mapping of header names to texts; write "
            'such as {Accept: "application/json"}',
        ],
        id="bad-headers",
    ),
    pytest.param(
        {"keystone.health": {"tcp": "192.0.2.1"}},
        [
            "upgrade_services.keystone.health.tcp: '192.0.2.1' is not HOST:PORT; write such as "
            '"192.0.2.10:3306" or "[2001:db8::1]:3306"',
        ],
        id="bad-endpoint",
    ),
    pytest.param(
        {"keystone.health": {"tcp": "192.0.2.1:70000"}},
        [
            "upgrade_services.keystone.health.tcp: '192.0.2.1:70000' is not HOST:PORT; write such as "
            '"192.0.2.10:3306" or "[2001:db8::1]:3306"',
        ],
        id="bad-port",
    ),
    pytest.param(
        {"keystone.health": {"command": []}},
        [
            "upgrade_services.keystone.health.command: is not a command; write a text, or a list of a "
            "program and its arguments",
        ],
        id="command-is-empty",
    ),
    pytest.param(
        {"keystone.health.min_healthy_time": 10},
        [
            "upgrade_services.keystone.health.min_healthy_time: 10 is a number without a unit; write "
            '"10s" if seconds are meant',
        ],
        id="duration-without-unit",
    ),
    pytest.param(
        {"keystone.drain_timeout": "60"},
        [
            "upgrade_services.keystone.drain_timeout: '60' is a number without a unit; write \"60s\" if "
            "seconds are meant",
        ],
        id="duration-without-unit-text",
    ),
    pytest.param(
        {"keystone.drain_timeout": "a minute"},
        [
            "upgrade_services.keystone.drain_timeout: 'a minute' is not a duration; write such as "
            '"10s", "2m", "1m30s", "1h" or "500ms"',
        ],
        id="no-duration",
    ),
    pytest.param(
        {"keystone.health.interval": "0s"},
        [
            "upgrade_services.keystone.health.interval: '0s' is too short; write a duration above 0s",
        ],
        id="duration-too-short",
    ),
    pytest.param(
        {"keystone.health.min_healthy_time": "3m"},
        [
            "upgrade_services.keystone.health.min_healthy_time: 3 min of health do not fit before the "
            "healthy_deadline of 2 min; raise healthy_deadline or lower min_healthy_time",
        ],
        id="never-healthy-in-time",
    ),
    pytest.param(
        {"keystone.estimates": {"replace": 7}},
        [
            'upgrade_services.keystone.estimates.replace: 7 is a number without a unit; write "7s" if '
            "seconds are meant",
        ],
        id="estimate-without-unit",
    ),
    pytest.param(
        {"keystone.estimates": {"replce": "7s"}},
        [
            "upgrade_services.keystone.estimates.replce: is not a key here; did you mean 'replace'?",
        ],
        id="unknown-estimate",
    ),
    pytest.param(
        {"keystone.database": {"contract": "keystone-manage db_sync --contract --password secret"}},
        [
            "upgrade_services.keystone.database.contract: ends a change of schema that no expand or "
            "migrate begins; declare database.expand too, or drop contract",
        ],
        id="contract-without-expand",
    ),
    pytest.param(
        {"keystone.database": {"expand": {"cmd": "secret"}}},
        [
            "upgrade_services.keystone.database.expand: is not a command; write a text, or a list of a "
            "program and its arguments",
        ],
        id="command-is-a-mapping",
    ),
    pytest.param(
        {"keystone.hooks": {"before": "my role"}},
        [
            "upgrade_services.keystone.hooks.before: 'my role' is not a name; use letters, digits, '_', '-' and '.'",
        ],
        id="bad-hook",
    ),
    pytest.param(
        {"keystone.max_failures": -1},
        [
            'upgrade_services.keystone.max_failures: -1 is below 0; write a whole number or a percentage such as "60%"',
        ],
        id="max-failures-below-zero",
    ),
    pytest.param(
        {"memcached.artifact.container": "keystone"},
        [
            "upgrade_services.memcached.artifact.container (on ctl1, ctl2, ctl3): 'keystone' is already "
            "declared by keystone on the same host; let one service own it",
        ],
        id="same-container-twice",
    ),
    pytest.param(
        {
            "memcached.artifact": {"packages": ["libc6", "memcached"], "version": "1"},
            "keystone.artifact": {"packages": ["keystone", "libc6"], "version": "1"},
        },
        [
            "upgrade_services.memcached.artifact.packages (on ctl1, ctl2, ctl3): 'libc6' is already "
            "declared by keystone on the same host; let one service own it",
        ],
        id="same-package-twice",
    ),
    pytest.param(
        {"!fleet.upgrade_stage_bandwidth": 100},
        [
            'upgrade_stage_bandwidth: 100 is a number without a unit; write such as "100MB" (per second)',
        ],
        id="bandwidth-without-unit",
    ),
    pytest.param(
        {"!fleet.upgrade_stage_bandwidth": "fast"},
        [
            'upgrade_stage_bandwidth: \'fast\' is not a rate above 0; write such as "100MB" or "1GiB" (per second)',
        ],
        id="bad-bandwidth",
    ),
    pytest.param(
        {"!fleet.upgrade_max_hosts_out": 0},
        [
            "upgrade_max_hosts_out: 0 is below 1; write a whole number from 1 up",
        ],
        id="no-host-may-be-out",
    ),
    pytest.param(
        {"memcached.takes_balancer": True},
        [
            "upgrade_services.memcached.takes_balancer: ctl1, ctl2, ctl3 are no balancers; let the service's hosts be "
            "balancers (upgrade_balancers names their group), or drop it",
        ],
        id="takes-no-balancer",
    ),
    pytest.param(
        {"keystone.takes_balancer": True},
        [
            "upgrade_services.keystone.takes_balancer: contradicts balancer; keep balancer for what stands behind the "
            "balancers, takes_balancer for what they are made of",
        ],
        id="behind-a-balancer-and-one-itself",
    ),
    pytest.param(
        {"!fleet.upgrade_on_failure": "rollback"},
        [
            "upgrade_on_failure: 'rollback' is not known; right would be one of stop, revert",
        ],
        id="unknown-on-failure",
    ),
    pytest.param(
        {"!fleet.upgrade_max_failure": 1},
        [
            "upgrade_max_failure: is not a variable of the collection; did you mean 'upgrade_max_failures'?",
        ],
        id="misspelt-fleet-variable",
    ),
    pytest.param(
        {"@ctl2.min_available": 1},
        [
            "upgrade_services.keystone.min_available (on ctl2): 1 differs from what the controller "
            "sees; it counts for the whole service: set it where every host and the controller see it",
        ],
        id="host-differs",
    ),
    pytest.param(
        {"@ctl2.health.http": "ctl2", "@ctl3.health.http": "ctl2"},
        [
            "upgrade_services.keystone.health.http (on ctl2, ctl3): 'ctl2' is not a URL; write such as "
            '"http://192.0.2.10:5000/healthcheck"',
        ],
        id="host-has-other-mistake",
    ),
    pytest.param(
        {"@ctl2.drain_timout": "5s"},
        [
            "upgrade_services.keystone.drain_timout (on ctl2): is not a key here; did you mean 'drain_timeout'?",
        ],
        id="host-has-unknown-key",
    ),
    pytest.param(
        {"@ctl2.artifact": ABSENT},
        ["upgrade_services.keystone.artifact (on ctl2): is missing; it has no default: give it a value"],
        id="host-without-artifact",
    ),
    pytest.param(
        {"@ctl3.artifact": {"host_image": "img:1", "version": "2"}},
        [
            "upgrade_services.keystone.artifact (on ctl3): mixes packages and host_image; declare one of: container "
            "and image; packages and version; host_image",
        ],
        id="host-mixes-artifacts",
    ),
    pytest.param(
        {"keystone.health.method": "POTS", "@ctl2.drain_timeout": "5s", "@ctl2.health.method": "POTS"},
        ["upgrade_services.keystone.health.method: 'POTS' is not known; did you mean 'POST'?"],
        id="what-hosts-inherit-is-said-once",
    ),
    pytest.param(
        {"@ctl2": ABSENT},
        [
            "upgrade_services.keystone (on ctl2): is not declared on the host itself; declare "
            "upgrade_services in group_vars/all, so that every host has it",
        ],
        id="host-without-declaration",
    ),
]


@pytest.mark.parametrize(("change", "lines"), ROWS)
def test_each_mistake_is_one_line(change: dict[str, Any], lines: list[str]) -> None:
    assert problems(change) == lines


def test_the_declaration_that_the_mistakes_are_made_in_is_right() -> None:
    assert problems({}) == []


def test_all_mistakes_are_reported_at_once() -> None:
    paths = ["keystone.canary", "keystone.method", "mariadb.arity", "memcached.hosts", "!fleet.upgrade_on_failure"]
    lines = problems(dict.fromkeys(paths, "nonsense"))
    assert [line.partition(":")[0] for line in lines] == [
        "upgrade_services.keystone.canary",
        "upgrade_services.keystone.method",
        "upgrade_services.mariadb.arity",
        "upgrade_services.memcached.hosts",
        "upgrade_on_failure",
    ]


def test_no_secret_is_shown() -> None:
    shown = [line for row in ROWS for line in problems(row.values[0])]
    assert not [line for line in shown if "secret" in line]
