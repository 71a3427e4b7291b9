# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a job, as role `instance` has them: a step that is added there is struck, too."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[3] / "roles"
PREFIX = "rondo.upgrade."
CLAUSE = re.compile(r"(?:upgrade_job\.kind|database_step) (==|!=) '(\w+)'")
LIST = re.compile(r"upgrade_job\.kind in \[([^]]*)\]")
# A choice between two values is no condition.
PARENTHESES = re.compile(r"\([^()]*\)")


@dataclass(frozen=True)
class Step:
    """A task: the role that it is of, and its name."""

    role: str
    task: str

    def __str__(self) -> str:
        return f"{self.role.removeprefix(PREFIX)}: {self.task}"


def steps(kind: str) -> list[Step]:
    """The tasks that a job of this kind goes through when nothing fails, in order."""
    return list(_of_role("instance", "main", kind))


def _of_role(role: str, entry: str, kind: str) -> Iterator[Step]:
    return _of_file(role, ROLES / role / "tasks" / f"{entry}.yml", kind)


def _of_file(role: str, path: Path, kind: str) -> Iterator[Step]:
    for task in yaml.safe_load(path.read_text()):
        yield from _of_task(role, path, task, kind)


def _of_task(role: str, path: Path, task: Mapping[str, Any], kind: str) -> Iterator[Step]:
    if not _for_kind(task.get("when"), kind):
        return
    if "block" in task:
        for inner in task["block"]:
            yield from _of_task(role, path, inner, kind)
        return
    if imported := task.get("ansible.builtin.import_tasks"):
        yield from _of_file(role, path.parent / imported, kind)
        return
    if included := task.get("ansible.builtin.include_tasks"):
        yield Step(PREFIX + role, task["name"])
        if isinstance(included, str) and "{{" not in included:
            yield from _of_file(role, path.parent / included, kind)
        return
    if "ansible.builtin.meta" in task:
        return
    other = task.get("ansible.builtin.import_role") or task.get("ansible.builtin.include_role")
    if "ansible.builtin.import_role" not in task:
        yield Step(PREFIX + role, task["name"])
    if other and other["name"].startswith(PREFIX):
        yield from _of_role(other["name"].removeprefix(PREFIX), other.get("tasks_from", "main"), kind)


def _for_kind(condition: Any, kind: str) -> bool:
    """Whether a condition can hold for jobs of this kind; what it says about anything else does not count."""
    text = PARENTHESES.sub("", str(condition or ""))
    alone = all((wanted == kind) == (sign == "==") for sign, wanted in CLAUSE.findall(text))
    return alone and all(f"'{kind}'" in wanted for wanted in LIST.findall(text))
