# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan's rounds as the input of Ansible's own `hosts` and `serial`, one service at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError

from . import _cluster, _plan_file
from ._core_compat import plain
from ._orchestration._declaration import DeclarationError
from ._orchestration._planner import make_plan


def batches(plan: Mapping[str, Any], service: str) -> list[list[str]]:
    """Hosts on which `service` is replaced, in plan order, grouped by what may go together.

    Raises KeyError with a sentence when the plan has no such service.
    """
    names = [row["name"] for row in plan["services"]]
    if service not in names:
        raise KeyError(f"the plan has no service {service}; it has: {', '.join(names) or 'none'}")
    hosts = {job["id"]: job["host"] for job in plan["jobs"] if job["service"] == service and job["kind"] == "replace"}
    rounds = ([hosts[job] for job in together if job in hosts] for together in plan["rounds"])
    return [names for names in rounds if names]


def looked_up(
    terms: Sequence[Any], path: str | None, variables: Mapping[str, Any], templar: _cluster.Templar
) -> list[list[str]]:
    """Batches of the one service in `terms`, for the lookups. `path`: a plan file, over what the variables hold.

    Raises AnsibleError where there is no plan to be had, or not that service in it.
    """
    if len(terms) != 1:
        raise AnsibleError(f"one service at a time, not {len(terms)}: lookup('rondo.upgrade.batches', 'keystone')")
    try:
        return batches(_plan(path, variables, templar), str(terms[0]))
    except (DeclarationError, _plan_file.PlanFileError) as error:
        raise AnsibleError(str(error)) from error
    except KeyError as error:
        raise AnsibleError(str(error.args[0])) from error


def _plan(path: str | None, variables: Mapping[str, Any], templar: _cluster.Templar) -> Mapping[str, Any]:
    if path:
        return _plan_file.read(Path(path).expanduser())
    # A play's keywords are templated without any host's variables: those of localhost stand in.
    hostvars: Any = variables.get("hostvars")
    visible = {**(hostvars.raw_get("localhost") if hostvars is not None else {}), **variables}
    templar = templar.copy_with_new_env(available_variables=visible)
    if "upgrade_plan" in visible:
        plan: Mapping[str, Any] = plain(templar.template(visible["upgrade_plan"]))
        return plan
    if hostvars is None:
        raise AnsibleError(
            "the first play's keywords are templated before Ansible knows the hosts: put a play before it (localhost,"
            " with rondo.upgrade.plan and set_fact upgrade_plan), or name a plan: plan='build/plan/plan.json'"
        )
    source = _cluster.source(visible, templar)
    cluster = source.cluster()
    return make_plan(cluster, _cluster.assumed(cluster, source.facts)).to_dict()
