# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""May a job of an exported playbook begin?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _rounds
from ansible_collections.rondo.upgrade.plugins.plugin_utils._action import JOURNAL, UpgradeAction
from ansible_collections.rondo.upgrade.plugins.plugin_utils._gate import Counts, Limit, LimitError, look
from ansible_collections.rondo.upgrade.plugins.plugin_utils._journal import Journal
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._window import WindowError

ASK_SECONDS = 1.0


class ActionModule(UpgradeAction):
    """Thin: the journal and the probe's counts in, an answer out. While the run is paused it waits."""

    OPTIONS = {
        "job": {"type": "str", "default": ""},
        "together": {"type": "list", "elements": "str", "default": []},
        "run": {"type": "int", "required": True},
        "probe": {"type": "path"},
        "max_failed_requests": {"type": "str", "default": "0"},
    }

    def act(self, options: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        if self._task.check_mode:
            return {"admitted": True, "why": ""}
        path = self.directory(options, variables) / JOURNAL
        try:
            limit = Limit.of(options["max_failed_requests"])
            why = self._ask(path, options, limit)
        except (LimitError, WindowError) as error:
            raise AnsibleActionFail(str(error)) from error
        return {"admitted": not why, "why": why}

    def _ask(self, path: Path, options: Mapping[str, Any], limit: Limit) -> str:
        told = False
        while True:
            # Closed while it waits: a journal that stays open keeps others from its disk.
            with Journal(path, create=False) as journal:
                run = _told(journal, options["run"], options["together"])
                if not options["job"]:
                    return ""
                if reason := _rounds.stopped(run) or _gate(journal, run, options["probe"], limit):
                    journal.summarise(run["id"], "stopped", {"reason": reason})
                    return reason
                by = _rounds.paused(run)
                if not by:
                    return _rounds.refusal(run, options["job"])
                journal.heartbeat(run["id"])
            if not told:
                Display().display(f"Paused by {by}: {options['job']} waits until the run is resumed.")
                told = True
            time.sleep(ASK_SECONDS)


def _told(journal: Journal, number: int, together: Sequence[str]) -> dict[str, Any]:
    """The run, with what was cut off in it recorded as failed."""
    run = journal.run(number)
    if run is None:
        raise AnsibleActionFail(f"The journal {journal.path} holds no run {number}.")
    lost = _rounds.cut_off(run, together)
    for job in lost:
        journal.fail(number, job, {"reason": "its host became unreachable, or its tasks were cut off"})
    return journal.run(number) or run if lost else run


def _gate(journal: Journal, run: Mapping[str, Any], probe: str | None, limit: Limit) -> str:
    """What the running probe has against the run since its first job was asked for; "" for nothing."""
    seen = look(probe)
    if seen is None:
        return ""
    before = run["summaries"].get("probe_before")
    if before is None:
        journal.summarise(run["id"], "probe_before", {"sent": seen.sent, "failed": seen.failed})
        return ""
    return limit.complaint(seen.since(Counts(**before)))
