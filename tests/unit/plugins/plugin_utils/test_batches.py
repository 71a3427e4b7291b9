# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError

from ansible_collections.rondo.upgrade.plugins.plugin_utils._batches import batches, looked_up

PLAN = {
    "services": [{"name": "keystone"}, {"name": "glance"}],
    "jobs": [
        {"id": "expand keystone@a", "service": "keystone", "kind": "expand", "host": "a"},
        {"id": "replace keystone@c", "service": "keystone", "kind": "replace", "host": "c"},
        {"id": "replace keystone@a", "service": "keystone", "kind": "replace", "host": "a"},
        {"id": "replace keystone@b", "service": "keystone", "kind": "replace", "host": "b"},
        {"id": "replace glance@b", "service": "glance", "kind": "replace", "host": "b"},
    ],
    "rounds": [
        ["expand keystone@a"],
        ["replace keystone@c", "replace glance@b"],
        ["replace keystone@b", "replace keystone@a"],
    ],
}


def test_only_replacements_of_the_service_in_the_rounds_order() -> None:
    assert batches(PLAN, "keystone") == [["c"], ["b", "a"]]
    assert batches(PLAN, "glance") == [["b"]]


def test_nothing_to_do_is_no_batch() -> None:
    assert batches({**PLAN, "jobs": [], "rounds": []}, "glance") == []


def test_unknown_service_names_the_known_ones() -> None:
    with pytest.raises(KeyError, match="no service nova; it has: keystone, glance"):
        batches(PLAN, "nova")


SERVICES = {"keystone": {"artifact": {"container": "keystone", "image": "k:2"}, "max_unavailable": 2, "canary": 1}}


class _Hostvars(dict[str, dict[str, Any]]):
    raw_get = dict.__getitem__


VARIABLES = {
    "groups": {"keystone": ["a", "b", "c"]},
    "hostvars": _Hostvars({host: {"upgrade_services": SERVICES} for host in ("localhost", "a", "b", "c")}),
}


class _Templar:
    def template(self, variable: Any) -> Any:
        return variable

    def copy_with_new_env(self, *, available_variables: dict[str, Any]) -> _Templar:
        return self


_TEMPLAR = _Templar()


def test_a_plan_file_comes_before_the_variable(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({**PLAN, "schema": 1}), encoding="utf-8")
    variables = {"upgrade_plan": {**PLAN, "rounds": []}}
    assert looked_up(["keystone"], str(path), variables, _TEMPLAR) == [["c"], ["b", "a"]]
    assert looked_up(["keystone"], None, variables, _TEMPLAR) == []


def test_the_plan_of_localhost_counts_in_the_keywords_of_a_play() -> None:
    assert looked_up(["glance"], None, {"hostvars": _Hostvars({"localhost": {"upgrade_plan": PLAN}})}, _TEMPLAR) == [
        ["b"]
    ]


def test_without_a_plan_the_declaration_is_planned() -> None:
    assert [len(batch) for batch in looked_up(["keystone"], None, VARIABLES, _TEMPLAR)] == [1, 2]


def test_what_was_observed_counts() -> None:
    rows = {"keystone": {"exists": True, "running": True, "image": "k:1", "current": False}}
    done = {"keystone": {**rows["keystone"], "image": "k:2", "current": True}}
    seen = {"a": rows, "b": done, "c": rows, "localhost": {}}
    rows = {host: {"upgrade_services": SERVICES, "observe_containers": row} for host, row in seen.items()}
    hostvars = _Hostvars(rows)
    found = looked_up(["keystone"], None, {**VARIABLES, "hostvars": hostvars}, _TEMPLAR)
    assert sorted(host for batch in found for host in batch) == ["a", "c"]


@pytest.mark.parametrize(
    ("terms", "variables", "message"),
    [
        ([], VARIABLES, "one service at a time, not 0"),
        (["a", "b"], VARIABLES, "one service at a time, not 2"),
        (["nova"], VARIABLES, "no service nova; it has: keystone"),
        (["keystone"], {}, "put a play before it"),
        (["keystone"], {"hostvars": _Hostvars({"localhost": {}}), "groups": {}}, "upgrade_services: is not defined"),
    ],
)
def test_errors_say_what_to_do(terms: list[str], variables: dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleError, match=message):
        looked_up(terms, None, variables, _TEMPLAR)
