# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds, before anything begins, what can't work where each host runs at its own pace, and says what to use instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

_BUILTIN = ("ansible.builtin.", "ansible.legacy.")

_KEYWORDS = {
    "run_once": "each host would run it: do what concerns the cluster in a play of its own, before or after this one, "
    "or as the service's expand, migrate or contract",
    "throttle": "it would hold up hosts that take no part in it: declare a budget, such as max_unavailable",
    "any_errors_fatal": "it is not obeyed here: declare max_failures, beyond which no new job begins",
}

_PLAY_KEYWORDS = {
    **_KEYWORDS,
    "max_fail_percentage": "it is not obeyed here: declare max_failures of the service, or upgrade_max_failures",
    "serial": "it would cut the window into fixed batches: the plan's budgets decide who goes at once",
}

_ONCE = "it acts once for all hosts: do it in an earlier play"

_ACTIONS = {
    "pause": "nobody can answer for one host among many: use ansible.builtin.wait_for with a timeout to wait, "
    "or the playbook rondo.upgrade.pause to pause the whole run",
    "add_host": _ONCE,
}

_META = {
    "end_play": "it would end all hosts in the middle of their jobs: fail the host instead, and max_failures decides",
    "end_batch": "it would end all hosts in the middle of their jobs: fail the host instead, and max_failures decides",
    "end_host": "the host's later jobs would be lost without a word: use a condition, or meta: end_role",
    "clear_host_errors": "a failed host would go on in the middle of its job: use rescue",
    "refresh_inventory": "the plan is made for the inventory as it was: do it in an earlier play",
}


def in_play(play: Any) -> list[str]:
    """What the play's own keywords ask for in vain; a sentence each."""
    return [
        f"The play uses {keyword}: {remedy}."
        for keyword, remedy in _PLAY_KEYWORDS.items()
        if _asks(getattr(play, keyword, None))
    ]


class Roles(Protocol):
    """What tasks include, and what their actions are."""

    def tasks(self, name: str, tasks_from: str | None = None) -> Iterable[Any]: ...
    def file(self, task: Any, name: str) -> str | None: ...
    def included(self, task: Any, path: str) -> Iterable[Any]: ...
    def acts_once(self, action: str) -> bool: ...


def in_tasks(where: str, tasks: Iterable[Any], roles: Roles) -> list[str]:
    """What tasks ask for in vain; a sentence each, with the task's name and place.

    `where` says whose tasks they are ("the hook role site.hooks.before"). What they include under a name that is no
    template is looked at, too.
    """
    found: list[str] = []
    seen: set[Any] = set()
    waiting = [(where, list(tasks))]
    while waiting:
        where, entries = waiting.pop(0)
        for task in entries:
            found += [f"{_place(where, task)} uses {wrong}." for wrong in _wrong_with(task, roles)]
            role, file = _included_role(task), _included_file(task)
            path = file and roles.file(task, file)
            if role is not None and role not in seen:
                seen.add(role)
                waiting.append((f"the role {role[0]}", list(roles.tasks(*role))))
            elif path and path not in seen:
                seen.add(path)
                waiting.append((where, list(roles.included(task, path))))
    return found


def _wrong_with(task: Any, roles: Roles) -> list[str]:
    wrong = [f"{keyword}: {remedy}" for keyword, remedy in _KEYWORDS.items() if _asks(getattr(task, keyword, None))]
    action = _short(task.action)
    if action in _ACTIONS or roles.acts_once(task.action):
        wrong.append(f"{action}: {_ACTIONS.get(action, _ONCE)}")
    if action == "meta":
        meta = str(_arguments(task).get("_raw_params"))
        if meta in _META:
            wrong.append(f"meta: {meta}: {_META[meta]}")
    return wrong


def _asks(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() not in ("", "0", "false", "no", "off")
    return bool(value)


def _short(action: Any) -> str:
    name = str(action)
    for prefix in _BUILTIN:
        name = name.removeprefix(prefix)
    return name


def _arguments(task: Any) -> Mapping[str, Any]:
    return task.args if isinstance(task.args, Mapping) else {}


def _included_role(task: Any) -> tuple[str, str | None] | None:
    if _short(task.action) != "include_role":
        return None
    arguments = _arguments(task)
    name = str(arguments.get("name") or arguments.get("role") or "")
    tasks_from = arguments.get("tasks_from")
    if not name or "{{" in name or "{{" in str(tasks_from):
        return None
    return name, None if tasks_from is None else str(tasks_from)


def _included_file(task: Any) -> str:
    if _short(task.action) != "include_tasks":
        return ""
    arguments = _arguments(task)
    name = str(arguments.get("file") or arguments.get("_raw_params") or "")
    return "" if "{{" in name else name


def _place(where: str, task: Any) -> str:
    path = task.get_path() if hasattr(task, "get_path") else None
    return f"In {where}, the task {task.get_name()!r}" + (f" ({path})" if path else "")
