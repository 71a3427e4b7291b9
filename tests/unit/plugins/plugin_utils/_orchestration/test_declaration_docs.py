# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/declaration.md tells the truth: every key is in it, with its default, and its examples are right."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._declaration import Inventory, parse
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._keys import FLEET, SERVICE
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._quantities import (
    parse_duration,
    parse_percent,
    parse_size,
)
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._spec import (
    Key,
    Section,
    command,
    environment,
)

PAGE = Path(__file__).parents[5] / "docs" / "declaration.md"
TEXT = PAGE.read_text(encoding="utf-8")
EXAMPLES = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]


def leaves(section: Section) -> dict[str, Key]:
    found: dict[str, Key] = {}
    for name, key in section.keys.items():
        found.update(leaves(key) if isinstance(key, Section) else {name: key})
    return found


def rows_of(name: str) -> list[str]:
    return [line for line in TEXT.splitlines() if line.startswith("|") and f"`{name}`" in line]


@pytest.mark.parametrize("name", [*SERVICE.keys, *leaves(SERVICE), *FLEET])
def test_every_key_stands_in_a_table(name: str) -> None:
    assert rows_of(name)


def value_of(cell: str) -> Any:
    value = yaml.safe_load(cell) if re.fullmatch(r"[\w.]+|\[[\w., ]*\]", cell) else cell
    if isinstance(value, str):
        percent = parse_percent(value)
        read = [parse_duration(value), parse_size(value), None if percent is None else float(percent.value) / 100]
        return next((number for number in read if number is not None), value)
    return tuple(value) if isinstance(value, list) else value


# Without a default of its own: what is absent, and that of which only its being there is read.
DEFAULTS = [
    (name, key.default)
    for name, key in [*leaves(SERVICE).items(), *FLEET.items()]
    if key.default not in (None, (), {}) and key.read not in (command, environment)
]


@pytest.mark.parametrize(("name", "default"), DEFAULTS)
def test_defaults_are_those_of_the_code(name: str, default: Any) -> None:
    cells = [cell for row in rows_of(name) for cell in re.findall(r"`([^`]*)`", row)]
    assert default in [value_of(cell) for cell in cells]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_right(example: dict[str, Any]) -> None:
    def seen_by(host: str) -> Any:
        return yaml.safe_load(yaml.safe_dump(example["upgrade_services"]).replace("{{ inventory_hostname }}", host))

    services = seen_by("localhost")
    hosts = ("ctl1", "ctl2", "ctl3")
    groups = {name: hosts[:1] if name == "memcached" else hosts for name in services} | {"balancers": ("lb1",)}
    hostvars = {
        host: {"zone": zone, "upgrade_services": seen_by(host)} for host, zone in zip(hosts, "abc", strict=True)
    }
    cluster = parse(services, Inventory(groups, hostvars))
    assert list(cluster.services) == list(services)


def test_the_python_example() -> None:
    assert doctest.testfile(str(PAGE), module_relative=False).failed == 0
