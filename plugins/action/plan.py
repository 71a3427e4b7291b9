# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compute the plan from the declaration and what runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail

from ansible_collections.rondo.upgrade.plugins.plugin_utils import (
    _cluster,
    _export,
    _page,
    _picture,
    _plan_file,
    _rehearsal,
)
from ansible_collections.rondo.upgrade.plugins.plugin_utils._action import JOURNAL, PLAN, UpgradeAction, journal
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._difference import difference
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._estimates import Estimates
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._planner import make_plan
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._quantities import parse_duration
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._staging import to_stage


class ActionModule(UpgradeAction):
    """Thin: collect, let the brain plan, write what it says."""

    OPTIONS = {
        "plan": {"type": "str"},
        "export": {"type": "str"},
        "improve": {"type": "str", "default": "0s"},
        "estimates_from": {"type": "str"},
    }

    def act(self, options: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        patience = parse_duration(options["improve"])
        if patience is None:
            raise AnsibleActionFail(f"improve: {options['improve']!r} is no duration; write such as 30s or 2m")
        directory = self.directory(options, variables)
        source = self.source(variables)
        cluster = source.cluster()
        state, durations = _observed(cluster, source.facts, directory)
        plan = make_plan(
            cluster,
            state,
            Estimates(cluster, durations, _learned(options["estimates_from"])),
            improve_seconds=patience,
            clock=time.monotonic,
        ).to_dict()
        if options["plan"]:
            _refuse(Path(options["plan"]).expanduser(), plan)
        # A way back is no next version of the plan: it has a folder of its own.
        file = directory / ("revert" if source.back else PLAN.parent) / PLAN.name
        last = _plan_file.last(file)
        changes = difference(last, plan) if last else []
        files = self._files(file, options["export"], plan)
        if not self._task.check_mode:
            for path, content in files.items():
                _plan_file.write(path, content)
        jobs: dict[str, list[dict[str, Any]]] = {}
        for job in plan["jobs"]:
            jobs.setdefault(job["host"], []).append(job)
        methods = {row["name"]: row["method"] for row in plan["services"]}
        images = {
            host: [artifact.target for artifact in artifacts if artifact.kind == "container"]
            for host, artifacts in to_stage(cluster, state, methods).items()
        }
        return {
            "plan": plan,
            "jobs": jobs,
            "hosts": list(jobs),
            "images": images,
            "page": _page.page(plan, changes if self._task.diff else (), back=source.back is not None),
            "differences": changes,
            "diff": {"prepared": "".join(f"{change}\n" for change in changes)},
            "files": [str(path) for path in files],
            "journal": str(directory / JOURNAL),
            "probe_state": self.probe_state(directory, variables),
        }

    @staticmethod
    def _files(file: Path, export: str | None, plan: Mapping[str, Any]) -> dict[Path, str]:
        text = _plan_file.text(plan)
        files = {file: text, file.with_suffix(".svg"): _picture.picture(plan)}
        if export:
            book = Path(export).expanduser().absolute()
            beside = book.with_name(f"{book.stem}.plan.json")
            files |= {book: _export.playbook(plan, beside.name), beside: text}
        return files


def _observed(cluster: Any, facts: _cluster.Facts, directory: Path) -> tuple[Any, Any]:
    kept = journal(directory)
    if kept is None:
        return _cluster.state(cluster, facts), {}
    with kept:
        return _cluster.state(cluster, facts, kept.tested(), kept.unfinished(), kept.one_way()), kept.durations()


def _learned(path: str | None) -> _rehearsal.Learned:
    return _rehearsal.read_learned(Path(path).expanduser()) if path else {}


def _refuse(path: Path, plan: Mapping[str, Any]) -> None:
    made = _plan_file.read(path)
    if why := _plan_file.refusal(path, made, plan, difference(made, plan)):
        raise _plan_file.PlanFileError(why)
