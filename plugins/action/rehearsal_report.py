# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what a rehearsal has shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _plan_file, _rehearsal
from ansible_collections.rondo.upgrade.plugins.plugin_utils._action import UpgradeAction, journal
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._estimates import Estimates
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._rest import forecast_with


class ActionModule(UpgradeAction):
    """Thin: reads what the twin's upgrade left, hands it over, writes what comes back."""

    OPTIONS = {"exit_code": {"type": "int", "required": True}, "fail": {"type": "bool", "default": True}}

    def act(self, options: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        folder = self.directory(options, variables) / "rehearsal"
        cluster = self.source(variables).declared()
        twin = _json(folder / "twin.json") or {}
        durations = _rehearsal.learned(_jobs(folder), twin["own_images"])
        _write(folder / "learned.json", {"schema": _rehearsal.SCHEMA, "durations": durations})
        known = Estimates(cluster, rehearsed=_rehearsal.read_learned(folder / "learned.json"))
        content = _rehearsal.content(
            twin,
            _json(folder / "production.json") or {},
            _json(folder / "report" / "report.json"),
            _json(folder / "probe" / "summary.json"),
            options["exit_code"],
            durations,
            forecast_with(_json(folder / "production-plan.json") or {}, cluster, known) if durations else None,
        )
        _write(folder / "rehearsal.json", content)
        failed = options["fail"] and content["verdict"] == "failed"
        said = f"the rehearsal failed: {'; '.join(content['reasons'])}" if failed else "the rehearsal is clean"
        page = _rehearsal.page(content, folder)
        return {"rehearsal": content, "page": page, "failed": failed, "msg": said}


def _json(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def _write(path: Path, content: Mapping[str, Any]) -> None:
    _plan_file.write(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _jobs(folder: Path) -> list[dict[str, Any]]:
    kept = journal(folder)
    if kept is None:
        return []
    with kept:
        run = kept.run()
        return list(run["jobs"]) if run else []
