# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draw up a rehearsal: the twin of the declared cluster, and the plan that it rehearses."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants as C

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _plan_file, _rehearsal, _twin
from ansible_collections.rondo.upgrade.plugins.plugin_utils._action import UpgradeAction
from ansible_collections.rondo.upgrade.plugins.plugin_utils._core_compat import plain
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import Cluster, State
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._planner import make_plan


class ActionModule(UpgradeAction):
    """Thin: collect, let the brain shrink and plan, write what they say. Looks at no host."""

    OPTIONS = {
        "hosts_per_group": {"type": "int", "default": 3},
        "healthy_time": {"type": "str", "default": "2s"},
        "rate": {"type": "float", "default": 20},
        "docker_host": {"type": "str", "default": ""},
        "plan": {"type": "str"},
        "services": {"type": "dict", "default": {}},
        "own_images": {"type": "dict", "default": {}},
        "stood_in": {"type": "dict", "default": {}},
    }

    def act(self, options: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        folder = self.directory(options, variables) / "rehearsal"
        source = self.source(variables)
        cluster = source.declared()
        saved = _plan_file.read(Path(options["plan"]).expanduser()) if options["plan"] else None
        plan = _planned(cluster)
        if saved is not None:
            plan = _same(options["plan"], saved, plan)
        try:
            made = _twin.twin(
                source,
                cluster,
                _twin.Options(
                    name=f"rondo-rehearsal-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}",
                    folder=str(folder),
                    size=options["hosts_per_group"],
                    healthy_time=_twin.seconds(options["healthy_time"], "healthy_time"),
                    rate=options["rate"],
                    docker_host=options["docker_host"],
                    methods={service["name"]: service["method"] for service in plan["services"]},
                    running=_running(saved) if saved is not None else None,
                    needs=plain(options["services"]),
                    own=plain(options["own_images"]),
                    stood_in=plain(options["stood_in"]),
                ),
            )
        except _twin.TwinError as error:
            return {"failed": True, "msg": str(error)}
        planned = _rehearsal.production(plan, saved is not None)
        if not self._task.check_mode:
            for name, content in _files(made, planned, plan).items():
                _plan_file.write(folder / name, content)
        return {
            "twin": made,
            "summary": _twin.summary(made),
            "production": planned,
            "folder": str(folder),
            # Actions run in children of the process that runs the playbook.
            "controller": os.getppid(),
            "page": _rehearsal.planned_page(made, planned),
        }


def _planned(cluster: Cluster) -> dict[str, Any]:
    """The plan of a cluster that nobody has looked at: all serve, and nothing is upgraded yet."""
    return make_plan(cluster, State()).to_dict()


def _same(path: str, saved: dict[str, Any], plan: Mapping[str, Any]) -> dict[str, Any]:
    """The saved plan. Raises PlanFileError where it was made for another declaration."""
    if saved["digests"]["declaration"] != plan["digests"]["declaration"]:
        raise _plan_file.PlanFileError(
            f"{path}: was made for another declaration; plan again (rondo.upgrade.plan), or rehearse without it"
        )
    return saved


def _running(saved: Mapping[str, Any]) -> dict[str, str]:
    """What the instances run that a saved plan replaces."""
    return {job["instance"]: job["running"] for job in saved["jobs"] if job["instance"]}


def _files(made: Mapping[str, Any], planned: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, str]:
    """Files by name: the twin is a folder from which any playbook can be run by hand."""

    def text(value: Any) -> str:
        return json.dumps(value, indent=1, ensure_ascii=False) + "\n"

    return {
        "twin.json": text({key: value for key, value in made.items() if key != "inventory"}),
        "production.json": text(planned),
        "production-plan.json": text(plan),
        "hosts.yml": text(made["inventory"]),
        "ansible.cfg": _twin.ansible_cfg([str(path) for path in C.COLLECTIONS_PATHS], C.DEFAULT_FORKS),
        "upgrade.yml": _twin.PLAYBOOK,
    }
