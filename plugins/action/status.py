# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what runs where, and what the journal holds of the last run."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _cluster, _status
from ansible_collections.rondo.upgrade.plugins.plugin_utils._action import UpgradeAction, journal
from ansible_collections.rondo.upgrade.plugins.plugin_utils._gate import look
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import State
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._quantities import parse_duration


class ActionModule(UpgradeAction):
    """Thin: rows from the brain's state, the run from the journal."""

    OPTIONS = {
        "format": {"type": "str", "choices": ["text", "json"], "default": "text"},
        "watch": {"type": "str", "default": ""},
    }

    def act(self, options: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        source = self.source(variables)
        cluster = source.cluster()
        directory = self.directory(options, variables)
        probe = self.probe_state(directory, variables)
        if options["watch"]:
            return self._watch(directory, probe, options)
        state = _cluster.state(cluster, source.facts)
        data = {
            "instances": _status.rows(cluster, state),
            "obstacles": list(state.obstacles),
            "run": _run(directory, probe),
        }
        return {**data, "page": _page(data, state, options["format"])}

    @staticmethod
    def _watch(directory: Path, probe: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Only what the journal holds, again and again until the run has ended or is dead: no host is asked for it."""
        every = parse_duration(options["watch"])
        if not every:
            raise AnsibleActionFail(f"watch: {options['watch']!r} is no duration; write such as 2s")
        while True:
            data = {"instances": [], "obstacles": [], "run": _run(directory, probe)}
            page = _page(data, State(), options["format"])
            if data["run"] is None or data["run"]["ended"] is not None or data["run"]["dead"]:
                return {**data, "page": page}
            clock = "" if options["format"] == "json" else f"{time.strftime('%H:%M:%S')} "
            Display().display(f"{clock}{page}\n" if clock else page)
            time.sleep(every)


def _run(directory: Path, probe: str) -> dict[str, Any] | None:
    kept = journal(directory)
    if kept is None:
        return None
    with kept:
        run = kept.run()
    counts = look(probe)
    return _status.run_row(run, time.time(), dataclasses.asdict(counts) if counts else None)


def _page(data: Mapping[str, Any], state: State, form: str) -> str:
    if form == "json":
        return json.dumps(data, indent=2, ensure_ascii=False)
    return _status.page(data["instances"], state, data["run"])
