# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._unsupported import in_play, in_tasks


def task(action: str = "ansible.builtin.command", **others: Any) -> SimpleNamespace:
    args = others.pop("args", {})
    return SimpleNamespace(action=action, args=args, get_name=lambda: "It", get_path=lambda: "site.yml:7", **others)


class Roles:
    """Roles and files by name, those that were loaded, and one more action that acts once."""

    def __init__(self, **tasks: list[SimpleNamespace]) -> None:
        self.contents = tasks
        self.loaded: list[str] = []

    def tasks(self, name: str, tasks_from: str | None = None) -> list[SimpleNamespace]:
        self.loaded.append(name if tasks_from is None else f"{name}/{tasks_from}")
        return self.contents[name]

    def file(self, task: SimpleNamespace, name: str) -> str | None:
        return name if name in self.contents else None

    def included(self, task: SimpleNamespace, path: str) -> list[SimpleNamespace]:
        return self.tasks(path)

    def acts_once(self, action: str) -> bool:
        return action == "site.tools.once"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (task(run_once=True), "uses run_once: "),
        (task(run_once="{{ first_only }}"), "uses run_once: "),
        (task(throttle=2), "uses throttle: "),
        (task(any_errors_fatal=True), "uses any_errors_fatal: "),
        (task("pause"), "uses pause: "),
        (task("ansible.builtin.pause"), "uses pause: "),
        (task("ansible.legacy.add_host"), "uses add_host: "),
        (task("site.tools.once"), "uses site.tools.once: it acts once for all hosts"),
        (task("meta", args={"_raw_params": "end_play"}), "uses meta: end_play: "),
        (task("ansible.builtin.meta", args={"_raw_params": "end_host"}), "uses meta: end_host: "),
        (task("meta", args={"_raw_params": "clear_host_errors"}), "uses meta: clear_host_errors: "),
    ],
)
def test_what_cannot_work(wrong: SimpleNamespace, said: str) -> None:
    [found] = in_tasks("the hook role site", [wrong], Roles())
    assert found.startswith(f"In the hook role site, the task 'It' (site.yml:7) {said}")
    assert found.endswith(".")


@pytest.mark.parametrize(
    "fine",
    [
        task(run_once=False, throttle=0, any_errors_fatal=None),
        task(run_once="false"),
        task("meta", args={"_raw_params": "flush_handlers"}),
        task("meta", args={"_raw_params": "end_role"}),
        task("site.tools.pause"),
        task("ansible.builtin.include_role", args={"name": "{{ hook }}"}),
        task("ansible.builtin.include_tasks", args={"_raw_params": "{{ kind }}.yml"}),
        task("ansible.builtin.include_tasks", args={"_raw_params": "not_there.yml"}),
    ],
)
def test_what_works(fine: SimpleNamespace) -> None:
    assert in_tasks("the play", [fine], Roles()) == []


def test_included_roles_are_looked_at_once_each() -> None:
    again = task("include_role", args={"name": "outer"})
    roles = Roles(outer=[task("include_role", args={"role": "inner", "tasks_from": "x"})], inner=[task("pause"), again])
    found = in_tasks("the play", [task("ansible.builtin.include_role", args={"name": "outer"})] * 2, roles)
    assert roles.loaded == ["outer", "inner/x"]
    [line] = found
    assert line.startswith("In the role inner, the task")


@pytest.mark.parametrize("args", [{"_raw_params": "more"}, {"file": "more"}])
def test_included_files_are_looked_at_once_each(args: dict[str, str]) -> None:
    include = task("ansible.builtin.include_tasks", args=args)
    roles = Roles(more=[task(run_once=True), include])
    [line] = in_tasks("the hook role site", [include] * 2, roles)
    assert roles.loaded == ["more"]
    assert line.startswith("In the hook role site, the task 'It' (site.yml:7) uses run_once: ")


def test_the_play() -> None:
    found = in_play(SimpleNamespace(serial=["25%"], max_fail_percentage=10, any_errors_fatal=False, run_once=None))
    assert [line.split(":")[0] for line in found] == ["The play uses max_fail_percentage", "The play uses serial"]
    assert in_play(SimpleNamespace(serial=[], max_fail_percentage=None)) == []
