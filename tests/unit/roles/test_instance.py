# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role `instance`: how many tasks a job is, and what a job tells of itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.template import Templar, trust_as_template

from ansible_collections.rondo.upgrade.plugins.plugin_utils._core_compat import plain

REPOSITORY = Path(__file__).resolve().parents[3]
ROLES = REPOSITORY / "roles"
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


JOB = {"kind": "replace", "servers": [{"backend": "web_back", "name": "web1"}, {"backend": "api_back", "name": "web1"}]}


def evaluated(name: str, **known: Any) -> Any:
    """A variable of the role in a job, given what else is known."""
    own = yaml.safe_load((ROLES / "instance" / "vars" / "main.yml").read_text())
    variables = {key: trust_as_template(text) for key, text in own.items()}
    templar = Templar(None, {**variables, "upgrade_job": JOB, "replace_container_result": {"container": {}}, **known})
    return plain(templar.template(variables[name]))


def drained(*backends: str, **others: Any) -> dict[str, Any]:
    return {"servers": [{"backend": backend, "name": "web1"} for backend in backends], "out_at": None, **others}


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


def test_a_job_tells_how_long_its_instance_was_out_and_what_was_put_right() -> None:
    told = evaluated(
        "instance_replaced",
        drain_result={"results": [drained(out_at=100.0, restored=["web_back/web2"]), drained(out_at=207.5)]},
        return_result={"results": [{"up_at": 104.25, "restored": ["web_back/web2"]}, {"up_at": 211.0}]},
    )
    assert (told["out_seconds"], told["restored"]) == (4.25, ["web_back/web2"])


def test_what_had_been_out_before_does_not_say_how_long() -> None:
    results = {"drain_result": {"results": [drained()]}, "return_result": {"results": [{"up_at": 104.0}]}}
    assert "out_seconds" not in evaluated("instance_replaced", **results)


@pytest.mark.parametrize(
    ("result", "so"),
    [
        ({"results": [drained("web_back"), drained("api_back")]}, True),
        ({"results": [drained("web_back"), {"unreachable": True}], "failed": True}, False),
        # Another service of the host, drained by an earlier job.
        ({"results": [drained("db_back")]}, False),
        ({"results": [], "skipped": True}, False),
        (None, False),
    ],
)
def test_whether_a_job_has_taken_its_instance_out(result: dict[str, Any] | None, so: bool) -> None:
    known = {} if result is None else {"drain_result": result}
    assert evaluated("instance_drained", **known) is so
