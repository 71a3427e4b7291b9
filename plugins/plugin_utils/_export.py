# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as a plain playbook that ansible-core carries out alone: rounds as plays, the same roles, the same journal.

One-by-one rounds of one service that follow each other become one play with `serial`, under `any_errors_fatal`: a
failure ends everything at once. A round of several hosts is a play of its own *without* it, because it would stop the
healthy hosts in the middle of their job, drained; a play on localhost behind it lets nothing further begin instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ._page import count, duration, some

_LONGEST = 100


@dataclass(frozen=True, slots=True)
class Play:
    """One play: `rounds` holds, in order, the jobs that go together; `first` is the first one's number in the plan."""

    first: int
    rounds: tuple[tuple[Mapping[str, Any], ...], ...]

    @property
    def jobs(self) -> list[Mapping[str, Any]]:
        return [job for together in self.rounds for job in together]

    @property
    def one_by_one(self) -> bool:
        return all(len(together) == 1 for together in self.rounds)


def plays(plan: Mapping[str, Any]) -> list[Play]:
    """The plan's rounds as plays, in order."""
    jobs = {job["id"]: job for job in plan["jobs"]}
    found: list[Play] = []
    for number, names in enumerate(plan["rounds"], start=1):
        play = Play(number, (tuple(jobs[name] for name in names),))
        if found and _follows(found[-1], play):
            found[-1] = Play(found[-1].first, found[-1].rounds + play.rounds)
        else:
            found.append(play)
    return found


def _follows(before: Play, play: Play) -> bool:
    one, other = before.jobs[-1], play.jobs[0]
    return (
        before.one_by_one
        and play.one_by_one
        and (one["service"], one["kind"]) == (other["service"], other["kind"])
        and other["host"] not in {job["host"] for job in before.jobs}
    )


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
        "# A job that fails ends it: ansible-playbook rondo.upgrade.status says what is where, a new plan goes on.",
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
    end: dict[str, Any] = {
        "name": "Verify, close the journal and report",
        "ansible.builtin.import_playbook": "rondo.upgrade.parts.end",
    }
    rounds = [document for play in plays(plan) for document in _documents(play, total)]
    return "\n".join(head) + "\n" + "\n".join(_dumped(document) for document in [belongs, begin, *rounds, end])


def _dumped(document: Mapping[str, Any]) -> str:
    return yaml.dump(
        [document], Dumper=_Dumper, sort_keys=False, default_flow_style=False, allow_unicode=True, width=10_000
    )


def _documents(play: Play, total: int) -> Iterator[dict[str, Any]]:
    jobs = play.jobs
    last = play.first + len(play.rounds) - 1
    which = f"Round {last}" if last == play.first else f"Rounds {play.first} to {last}"
    work: list[dict[str, Any]] = [
        {
            "name": "Do the host's job",
            "ansible.builtin.include_role": {"name": "rondo.upgrade.instance"},
            "vars": {
                "upgrade_job": "{{ hostvars['localhost'].upgrade_jobs[inventory_hostname]"
                " | selectattr('id', 'eq', upgrade_round[inventory_hostname]) | first }}"
            },
        }
    ]
    if not play.one_by_one:
        work.append(
            {
                "name": "Note that the job ended well",
                "ansible.builtin.set_fact": {"upgrade_round_ended": "{{ upgrade_round[inventory_hostname] }}"},
            }
        )
    yield {
        "name": f"{which} of {total}, {_told(jobs)}",
        "hosts": [job["host"] for job in jobs],
        "gather_facts": False,
        "serial": _serial(play),
        **({"any_errors_fatal": True} if play.one_by_one else {}),
        "vars": {"upgrade_round": {job["host"]: job["id"] for job in jobs}},
        "tasks": work,
    }
    if not play.one_by_one:
        yield {
            "name": f"Go on only if all of round {last} ended well",
            "hosts": "localhost",
            "gather_facts": False,
            "vars": {"upgrade_round": {job["host"]: job["id"] for job in jobs}},
            "tasks": [
                {
                    "name": "Stop where a job has failed",
                    "ansible.builtin.assert": {
                        "that": ["hostvars[item.key].upgrade_round_ended | default('') == item.value"],
                        "fail_msg": "{{ item.value }} has failed: nothing further begins",
                        "quiet": True,
                    },
                    "loop": "{{ upgrade_round | dict2items }}",
                }
            ],
        }


def _serial(play: Play) -> list[int]:
    return [len(together) for together in play.rounds]


def _told(jobs: Sequence[Mapping[str, Any]]) -> str:
    hosts: dict[str, list[str]] = {}
    for job in jobs:
        hosts.setdefault(f"{job['kind']} {job['service']}", []).append(job["host"])
    told = ", ".join(f"{what} on {some(names, 4)}" for what, names in hosts.items())
    # The line has to stay within what yamllint permits, whatever the hosts are called.
    if len(told) <= _LONGEST:
        return told
    return some([f"{what} on {count(len(names), 'host')}" for what, names in hosts.items()], 3)
