# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as a plain playbook that ansible-core carries out alone: rounds as plays, the same roles, the same journal.

Each round is a play of its own, with localhost among its hosts: a batch whose hosts have all failed would end the
playbook before its report. `any_errors_fatal` would end it too, and stop healthy hosts in the middle of their job,
drained. So a failure is written to the journal, and each job asks there whether it may begin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ._page import count, duration, some

_LONGEST = 100


class _Dumper(yaml.SafeDumper):
    """Lists stand deeper than their key, as yamllint and ansible-lint want them."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"' if "{{" in value else None)


_Dumper.add_representer(str, _text)


def playbook(plan: Mapping[str, Any], plan_name: str) -> str:
    """The playbook's text. `plan_name`: file name of the plan, which lies beside the playbook."""
    total = len(plan["rounds"])
    length = duration(plan["forecast"]["makespan"])
    head = [
        "---",
        f"# {count(len(plan['jobs']), 'job')} in {count(total, 'round')}, about {length}."
        " Made by rondo.upgrade.plan for ansible-core alone.",
        f"# Belongs to {plan_name} beside it; refuses to begin if the cluster is no longer as that plan saw it.",
        "# After a job that fails nothing further begins; the report says what is where, and a new plan goes on.",
    ]
    # A fact, because playbook_dir is another one inside an imported playbook.
    keep = {
        "name": "Keep its path",
        "ansible.builtin.set_fact": {"upgrade_plan_file": "{{ playbook_dir }}/" + plan_name},
    }
    belongs: dict[str, Any] = {
        "name": "Belong to the plan beside",
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [keep],
    }
    begin: dict[str, Any] = {
        "name": "Look again, refuse what has changed since, open the journal and stage",
        "ansible.builtin.import_playbook": "rondo.upgrade.parts.begin",
    }
    settle: dict[str, Any] = {
        "name": "Note what was cut off",
        "hosts": "{{ 'localhost' if hostvars['localhost'].upgrade_run is defined else '!all' }}",
        "gather_facts": False,
        "tasks": [{"name": "Note it", "rondo.upgrade.admit": {"run": "{{ upgrade_run }}"}}],
    }
    end: dict[str, Any] = {
        "name": "Verify, close the journal and report",
        "ansible.builtin.import_playbook": "rondo.upgrade.parts.end",
    }
    jobs = {job["id"]: job for job in plan["jobs"]}
    rounds = [
        _round([jobs[name] for name in names], f"Round {number} of {total}")
        for number, names in enumerate(plan["rounds"], start=1)
    ]
    return "\n".join(head) + "\n" + "\n".join(_dumped(document) for document in [belongs, begin, *rounds, settle, end])


def _dumped(document: Mapping[str, Any]) -> str:
    return yaml.dump(
        [document], Dumper=_Dumper, sort_keys=False, default_flow_style=False, allow_unicode=True, width=10_000
    )


def _round(jobs: Sequence[Mapping[str, Any]], which: str) -> dict[str, Any]:
    return {
        "name": f"{which}, {_told(jobs)}",
        "hosts": ["localhost", *(job["host"] for job in jobs if job["host"] != "localhost")],
        "gather_facts": False,
        "vars": {"upgrade_round": {job["host"]: job["id"] for job in jobs}},
        "tasks": [
            {
                "name": "Do the host's job",
                "ansible.builtin.include_role": {"name": "rondo.upgrade.instance", "tasks_from": "round"},
                "when": "inventory_hostname in upgrade_round",
            }
        ],
    }


def _told(jobs: Sequence[Mapping[str, Any]]) -> str:
    hosts: dict[str, list[str]] = {}
    for job in jobs:
        hosts.setdefault(f"{job['kind']} {job['service']}", []).append(job["host"])
    told = ", ".join(f"{what} on {some(names, 4)}" for what, names in hosts.items())
    # The line has to stay within what yamllint permits, whatever the hosts are called.
    if len(told) <= _LONGEST:
        return told
    return some([f"{what} on {count(len(names), 'host')}" for what, names in hosts.items()], 3)
