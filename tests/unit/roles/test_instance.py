# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many tasks a job is: each costs the controller a fork, for each of the cluster's instances."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
ROLES = REPOSITORY / "roles"
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def forked(role: str, entry: str = "main.yml") -> Iterator[Mapping[str, Any]]:
    """The tasks of a role that are forked for each job while nothing fails: also those that are skipped then."""
    yield from _forked(role, yaml.safe_load((ROLES / role / "tasks" / entry).read_text()))


def _forked(role: str, tasks: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for task in tasks:
        if "block" in task:
            yield from _forked(role, [*task["block"], *task.get("always", [])])
        elif imported := task.get("ansible.builtin.import_tasks"):
            yield from forked(role, imported)
        elif imported := task.get("ansible.builtin.import_role"):
            yield from forked(imported["name"].rpartition(".")[2], f"{imported.get('tasks_from', 'main')}.yml")
        elif "ansible.builtin.meta" not in task:
            yield task


def test_the_documented_number_of_tasks_of_a_replace_job_is_that_of_the_role() -> None:
    page = (REPOSITORY / "docs" / "strategy.md").read_text()
    said = re.search(r"is \*\*(\w+) tasks\*\*.*?: (\w+) that work .*? and (\w+) that", page, re.DOTALL)
    assert said is not None
    tasks = list(forked("instance"))
    skipped = [
        task for task in tasks if "ansible.builtin.include_role" in task or "ansible.builtin.include_tasks" in task
    ]
    numbers = (len(tasks), len(tasks) - len(skipped), len(skipped))
    assert said.groups() == tuple(NUMBERS[number] for number in numbers), [task["name"] for task in tasks]


def test_no_job_is_more_than_nine_tasks() -> None:
    assert len(list(forked("instance"))) <= 9
