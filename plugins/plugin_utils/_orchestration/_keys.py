# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which keys a declaration has, how each is read, and its default. docs/declaration.md explains each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.rondo.upgrade.plugins.module_utils._hold import BYTES_PER_REQUEST

from ._model import METHODS
from ._sizes import sizes_of
from ._spec import (
    Key,
    Section,
    Wrong,
    command,
    count,
    count_or_percent,
    duration,
    durations,
    endpoint,
    environment,
    expression,
    flag,
    headers,
    http_status,
    identifier,
    kind,
    list_of,
    not_empty,
    one_of,
    pattern,
    ports,
    rate,
    share,
    size,
    steps,
    text,
    url,
    url_path,
    whole,
)

ROOT = "upgrade_services"
HTTP_KEYS = ("method", "status", "headers", "body", "json")


def _directory(value: Any) -> str:
    if not isinstance(value, str):
        raise Wrong(f"is {kind(value)}, not a path", "write a directory's path")
    return str(value)


def _flag(value: Any) -> bool:
    """As `flag`; `-e` gives only text."""
    words = {"true": True, "yes": True, "false": False, "no": False}
    return words[value.lower()] if isinstance(value, str) and value.lower() in words else flag(value)


def _access_pattern(value: Any) -> str:
    found = pattern(value)
    if "status" not in re.compile(found).groupindex:
        raise Wrong("has no group named status", 'write such as "HTTP/1.1 (?P<status>[0-9]{3})"')
    return found


def _file(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/"):
        raise Wrong("is not a path from the root", "write such as /var/log/keystone/access.log")
    return str(value)


def _arity(value: Any) -> tuple[str, int, int]:
    rule = str(value) if isinstance(value, str) else str(whole(value))
    if (sizes := sizes_of(rule)) is None:
        raise Wrong("is not a rule for a group's size", 'write such as "3", "1+2n" or "2+n"')
    return rule, *sizes


ARTIFACT = Section(
    {
        "container": Key(identifier),
        "image": Key(text),
        "packages": Key(not_empty(list_of(text, "[keystone, python3-keystone]"))),
        "version": Key(text),
        "host_image": Key(text),
    }
)
HEALTH = Section(
    {
        "http": Key(url),
        "method": Key(one_of("GET", "HEAD", "POST", "PUT", "OPTIONS"), "GET"),
        "status": Key(not_empty(list_of(http_status, "[200]")), (200,)),
        "headers": Key(headers, secret=True),
        "body": Key(pattern),
        "json": Key(expression),
        "tcp": Key(endpoint),
        "command": Key(command, False, secret=True),
        "interval": Key(duration(positive=True), 1.0),
        "timeout": Key(duration(positive=True), 5.0),
        "min_healthy_time": Key(duration(), 10.0),
        "healthy_deadline": Key(duration(positive=True), 120.0),
    }
)
BALANCER = Section(
    {
        "backends": Key(not_empty(list_of(text, "[keystone_internal_back]")), ()),
        "server": Key(text),
    },
    needs=("backends",),
)
DATABASE = Section(
    {
        **{step: Key(command, False, secret=True) for step in ("expand", "migrate", "contract", "check", "offline")},
        "offline_reversible": Key(flag, False),
    }
)
HOLD = Section(
    {
        "deadline": Key(duration(positive=True)),
        "on_deadline": Key(one_of("release", "reject"), "release"),
        "timeouts": Key(durations, {}),
        "bytes_per_request": Key(size, BYTES_PER_REQUEST),
        "force": Key(flag, False),
    }
)
SIDE_BY_SIDE = Section(
    {
        "ports": Key(ports),
        "hosts": Key(text),
        "environment": Key(environment, False, secret=True),
        "memory": Key(size, 500_000_000),
        "steps": Key(steps, (5, 25, 100)),
        "step_time": Key(duration(positive=True), 10.0),
        "max_errors": Key(share, 0.01),
        "switch_back_window": Key(duration(), 60.0),
        "test": Key(url_path),
    },
    needs=("ports",),
)
ACCESS_LOG = Section({"container": Key(flag, True), "file": Key(_file), "pattern": Key(_access_pattern)})
ESTIMATES = Section(
    {
        step: Key(duration(positive=True))
        for step in ("stage", "replace", "expand", "migrate", "contract", "offline", "switch", "settle")
    }
)
HOOKS = Section({"before": Key(identifier), "after": Key(identifier)})
SERVICE = Section(
    {
        "hosts": Key(text, shared=True),
        "depends_on": Key(list_of(identifier, "[mariadb, memcached]"), (), shared=True),
        "artifact": ARTIFACT,
        "min_available": Key(count_or_percent("quorum"), shared=True),
        "max_unavailable": Key(count_or_percent(), shared=True),
        "quorum": Key(flag, False, shared=True),
        "failure_domain": Key(text, shared=True),
        "canary": Key(count(), 0, shared=True),
        "bake_time": Key(duration(), 0.0, shared=True),
        "version_skew": Key(flag, True, shared=True),
        "active_passive": Key(flag, False, shared=True),
        "arity": Key(_arity, shared=True),
        "method": Key(one_of("auto", *METHODS), "auto", shared=True),
        "balancer": BALANCER,
        "takes_balancer": Key(flag, shared=True),
        "health": HEALTH,
        "endpoints": Key(list_of(url, "[http://192.0.2.10:5000/v3]"), ()),
        "access_log": ACCESS_LOG,
        "drain_timeout": Key(duration(), 60.0),
        "hold": HOLD,
        "side_by_side": SIDE_BY_SIDE,
        "database": DATABASE,
        "max_failures": Key(count_or_percent(), shared=True),
        "estimates": ESTIMATES,
        "hooks": HOOKS,
    },
    needs=("artifact",),
)
PER_HOST = Section(
    {
        name: SERVICE.keys[name]
        for name in ("artifact", "balancer", "health", "endpoints", "access_log", "drain_timeout", "estimates")
    },
    needs=("artifact",),
)
FLEET: Mapping[str, Key] = {
    "upgrade_balancers": Key(text),
    "upgrade_vip": Key(text),
    "upgrade_max_hosts_out": Key(count(1)),
    "upgrade_stage_bandwidth": Key(rate),
    "upgrade_max_failures": Key(count_or_percent()),
    "upgrade_max_failed_requests": Key(count_or_percent(), 0),
    "upgrade_on_failure": Key(one_of("stop", "revert"), "stop"),
    "upgrade_on_regression": Key(one_of("stop", "revert"), "stop"),
    "upgrade_all_tests": Key(_flag, False),
    "upgrade_directory": Key(_directory, "build"),
}
