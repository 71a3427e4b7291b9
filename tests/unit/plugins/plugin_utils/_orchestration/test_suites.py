# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._declaration import DeclarationError
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._regression import Margin
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._spec import Section
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._suites import (
    _BUILTIN,
    _SUITE,
    CHECKS,
    ERRORS,
    Suites,
    parse,
)

SERVICES = ("keystone", "glance")
KEYSTONE = {"url": "http://192.0.2.10:5000/v3", "username": "admin", "password": "s3cret", "project": "admin"}
PAGE = (Path(__file__).parents[5] / "docs" / "verify.md").read_text(encoding="utf-8")


def complaints(value: Any) -> list[str]:
    with pytest.raises(DeclarationError) as raised:
        parse(value, SERVICES, ("keystone", "balancers"))
    return str(raised.value).splitlines()


@pytest.mark.parametrize("value", [None, "", {}])
def test_nothing_declared_is_the_built_in_suite_whole(value: Any) -> None:
    found = parse(value, SERVICES)
    assert found == Suites()
    assert found.builtin.checks == set(CHECKS)


def test_parts_of_the_built_in_suite_can_be_switched_off() -> None:
    found = parse({"builtin": {"logs": False, "margins": {"latency_factor": 1.5, "latency_least": "200ms"}}}, SERVICES)
    assert found.builtin.checks == set(CHECKS) - {"logs"}
    assert found.builtin.margins.latency == Margin(1.5, 200.0)


def test_a_suite_of_each_kind() -> None:
    declared = {
        "smoke": {"testinfra": "tests/smoke", "hosts": "keystone"},
        "tempest": {"command": ["tempest", "run"], "junit": "out/*.xml", "services": ["keystone"], "timeout": "10m"},
        "records": {"keystone": KEYSTONE},
    }
    found = {suite.name: suite for suite in parse(declared, SERVICES, ("keystone",)).declared}
    assert {name: suite.kind for name, suite in found.items()} == {
        "smoke": "testinfra",
        "tempest": "command",
        "records": "keystone",
    }
    assert found["smoke"].options["testinfra"] == ("tests/smoke",)
    assert (found["tempest"].services, found["tempest"].timeout) == (("keystone",), 600.0)
    assert found["records"].options["role"] == "member"
    assert "s3cret" not in repr(found)


def test_every_mistake_is_told_at_once() -> None:
    found = complaints(
        {
            "builtin": {"log": False, "samples": 2, "errors": "(", "margins": {"latency_factor": 0}},
            "both": {"command": "true", "testinfra": "tests"},
            "none": {},
            "odd": {"command": "true", "hosts": "keystone", "services": ["keyston"]},
            "away": {"testinfra": "tests", "hosts": "keystones"},
            "records": {"keystone": {"url": "keystone", "username": "admin", "pasword": "s3cret"}},
            "two words": {"command": "true"},
            "text": "true",
        }
    )
    told = [line.partition(";")[0] for line in found]
    assert "upgrade_suites.builtin.log: is not a key here" in told
    assert "upgrade_suites.builtin.samples: 2 is below 5" in told
    assert any(line.startswith("upgrade_suites.builtin.errors:") for line in told)
    assert "upgrade_suites.builtin.margins.latency_factor: 0 is not a number from 1 up" in told
    assert "upgrade_suites.both: mixes testinfra and command" in told
    assert "upgrade_suites.none: says nothing that could be run" in told
    assert "upgrade_suites.odd.hosts: does not go with command" in told
    assert "upgrade_suites.odd.services[0]: 'keyston' is no service of the declaration" in told
    assert "upgrade_suites.away.hosts: 'keystones' is no group of the inventory" in told
    assert "upgrade_suites.records.keystone.url: 'keystone' is not a URL" in told
    assert "upgrade_suites.records.keystone.password: is missing" in told
    assert any(line.startswith("upgrade_suites['two words']: is not a name") for line in told)
    assert "upgrade_suites.text: is a text" in told
    assert "s3cret" not in "".join(found)


def test_not_a_mapping() -> None:
    assert complaints(["smoke"]) == ["upgrade_suites: is a list; write a mapping of suites"]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("2026-11-22 04:39:49.123 7 ERROR keystone.server.flask [-] boom", True),
        ("Traceback (most recent call last):", True),
        ('time="2026-11-22" level=error msg="boom"', True),
        ("2026/11/22 04:39:49 [error] 7#7: connect() failed", True),
        ("2026-11-22 04:39:49.123 7 INFO keystone [-] no errors found", False),
        ('192.0.2.1 - - [22/Nov/2026:04:39:49 +0000] "GET /errors HTTP/1.1" 200 12', False),
    ],
)
def test_what_counts_as_an_error(line: str, error: bool) -> None:
    assert bool(re.search(ERRORS, line)) is error


def keys(section: Section) -> list[str]:
    found = []
    for name, key in section.keys.items():
        found += keys(key) if isinstance(key, Section) else [name]
    return found


@pytest.mark.parametrize("name", sorted({*keys(_BUILTIN), *keys(_SUITE)}))
def test_every_key_stands_in_a_table(name: str) -> None:
    assert [line for line in PAGE.splitlines() if line.startswith("|") and f"`{name}`" in line]


def test_the_examples_of_the_page_are_right() -> None:
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    declared = [block["upgrade_suites"] for block in blocks if isinstance(block, dict) and "upgrade_suites" in block]
    assert declared
    for suites in declared:
        assert parse(suites, SERVICES)
