# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads and writes the journal from a playbook. Documented in plugins/modules/journal.py."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.rondo.upgrade.plugins.plugin_utils._core_compat import plain
from ansible_collections.rondo.upgrade.plugins.plugin_utils._gate import Counts, Limit, LimitError, look
from ansible_collections.rondo.upgrade.plugins.plugin_utils._journal import Journal, JournalError, Owner

STATES = ("started", "begun", "noted", "ended", "finished", "closed", "summarised", "requested", "read")

ARGUMENT_SPEC = {
    "state": {"type": "str", "required": True, "choices": STATES},
    "path": {"type": "path"},
    "run": {"type": "int"},
    "plan": {"type": "dict"},
    "kind": {"type": "str", "default": "upgrade"},
    "takeover": {"type": "bool", "default": False},
    "last_run": {"type": "int"},
    "job": {"type": "dict"},
    "outcome": {"type": "str", "choices": ("done", "failed", "skipped", "stopped")},
    "details": {"type": "dict", "default": {}},
    "name": {"type": "str"},
    "content": {"type": "dict"},
    "request": {"type": "str", "choices": ("pause", "resume", "abort")},
    "probe": {"type": "path"},
    "max_failed_requests": {"type": "str", "default": "0"},
    "show": {"type": "bool", "default": False},
}

REQUIRED_IF = (
    ("state", "started", ("plan",)),
    ("state", "begun", ("job",)),
    ("state", "noted", ("job", "details")),
    ("state", "ended", ("job", "outcome")),
    ("state", "finished", ("outcome",)),
    ("state", "summarised", ("name", "content")),
    ("state", "requested", ("request",)),
)


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        _validated, options = self.validate_argument_spec(
            argument_spec=ARGUMENT_SPEC,
            required_if=REQUIRED_IF,
        )
        options = plain(options)
        path = options["path"] or self._variable("upgrade_journal", task_vars)
        if not path:
            raise AnsibleActionFail(
                "path is not given, and upgrade_journal is not set: one of them must name the journal."
            )
        if self._task.check_mode and options["state"] not in ("read", "requested"):
            return {**result, "changed": False, "skipped": True, "msg": "The journal is not written in check mode."}
        state = options["state"]
        try:
            if state == "read":
                return {**result, **_read(path, options["run"])}
            with Journal(path, create=state == "started") as journal:
                changes = getattr(self, f"_{state}")(journal, options, task_vars)
        except (JournalError, LimitError) as error:
            raise AnsibleActionFail(str(error)) from error
        if options["show"] and changes.get("msg"):
            Display().display(changes["msg"])
        return {**result, "changed": True, **changes}

    def _started(self, journal: Journal, options: dict[str, Any], task_vars: Mapping[str, Any]) -> dict[str, Any]:
        # The task runs in a worker; the run is the whole ansible-playbook's, which forked it.
        parent = multiprocessing.parent_process()
        owner = Owner.of(parent.pid if parent else os.getpid())
        run = journal.start_run(
            options["plan"], owner, options["kind"], takeover=options["takeover"], last_run=options["last_run"]
        )
        took_over = (journal.run(run) or {})["summaries"].get("took_over")
        _warn(took_over)
        return {
            "state": "started",
            "run": run,
            "token": journal.token(run),
            "owner": journal.identity(),
            "took_over": took_over,
            "kind": options["kind"],
            "lost": journal.unfinished(),
            "journal": str(journal.path.absolute()),
        }

    def _begun(self, journal: Journal, options: dict[str, Any], task_vars: Mapping[str, Any]) -> dict[str, Any]:
        run = self._run(options, task_vars)
        journal.begin(run, options["job"], {**options["details"], **_probed(options)})
        return _progress(journal, run, options)

    def _noted(self, journal: Journal, options: dict[str, Any], task_vars: Mapping[str, Any]) -> dict[str, Any]:
        journal.note(self._run(options, task_vars), options["job"]["id"], options["details"])
        return {}

    def _ended(self, journal: Journal, options: dict[str, Any], task_vars: Mapping[str, Any]) -> dict[str, Any]:
        run = self._run(options, task_vars)
        if options["outcome"] == "done" and (verdict := _verdict(journal, run, options)):
            return {"failed": True, "changed": False, "msg": verdict, "verdict": verdict}
        journal.end(run, options["job"]["id"], options["outcome"], options["details"])
        return _progress(journal, run, options)

    def _finished(self, journal: Journal, options: dict[str, Any], task_vars: Mapping[str, Any]) -> dict[str, Any]:
        run = self._run(options, task_vars)
        journal.end_run(run, options["outcome"], options["details"])
        return {"state": "finished", "run": run, "outcome": options["outcome"]}

    def _closed(self, journal: Journal, options: dict[str, Any], task_vars: Mapping[str, Any]) -> dict[str, Any]:
        took_over = journal.close_lost(takeover=options["takeover"])
        _warn(took_over)
        return {
            "lost": took_over["jobs"] if took_over else [],
            "token": took_over["token"] if took_over else None,
            "owner": journal.identity(),
            "took_over": took_over,
        }

    def _summarised(self, journal: Journal, options: dict[str, Any], task_vars: Mapping[str, Any]) -> dict[str, Any]:
        content = {**options["content"], **_probed(options)}
        journal.summarise(self._run(options, task_vars), options["name"], content)
        return {}

    def _requested(self, journal: Journal, options: dict[str, Any], task_vars: Mapping[str, Any]) -> dict[str, Any]:
        run = journal.request(options["request"], options["run"], dry=self._task.check_mode)
        flying = [job["id"] for job in (journal.run(run) or {"jobs": ()})["jobs"] if job["outcome"] is None]
        return {"run": run, "in_flight": flying, "msg": _answer(run, options["request"], flying)}

    def _run(self, options: dict[str, Any], task_vars: Mapping[str, Any]) -> int:
        run = options["run"]
        if run is None:
            run = self._variable("upgrade_run", task_vars)
        if run is None and task_vars:
            hostvars = task_vars.get("hostvars", {})
            run = plain(hostvars["localhost"].get("upgrade_run")) if "localhost" in hostvars else None
        if run is None:
            raise AnsibleActionFail("run is not given, and the variable upgrade_run is not set: no run was started.")
        return int(run)

    def _variable(self, name: str, task_vars: Mapping[str, Any] | None) -> Any:
        if not task_vars or name not in task_vars:
            return None
        return plain(self._templar.template(task_vars[name]))


def _read(path: str, run: int | None) -> dict[str, Any]:
    if not Path(path).exists():
        return {"changed": False, "found": False, "journal_run": None, "unfinished": []}
    with Journal(path, create=False) as journal:
        return {"changed": False, "found": True, "journal_run": journal.run(run), "unfinished": journal.unfinished()}


def _warn(took_over: Mapping[str, Any] | None) -> None:
    """Say from whom the lock was taken, and on what evidence."""
    if took_over:
        Display().warning(
            f"The journal was taken over from run {took_over['run']} ({took_over['kind']}) of {took_over['owner']}, "
            f"last heard of {took_over['silent']} s ago: {took_over['evidence']}."
        )


def _probed(options: Mapping[str, Any]) -> dict[str, Any]:
    """What the running probe has counted until now, to be kept; nothing where none runs."""
    seen = look(options["probe"])
    return {"probe": seen.numbers()} if seen else {}


def _verdict(journal: Journal, run: int, options: Mapping[str, Any]) -> str:
    """What the probe has against a job that went well by its own checks; "" for nothing, or no probe."""
    seen = look(options["probe"])
    if seen is None:
        return ""
    before = journal.progress(run, options["job"]["id"])["job"]["details"].get("probe", {"sent": 0, "failed": 0})
    return Limit.of(options["max_failed_requests"]).complaint(seen.since(Counts(**before)))


def _answer(run: int, request: str, flying: list[str]) -> str:
    finish = f"{', '.join(flying)} will finish first" if flying else "nothing is in flight"
    return {
        "pause": f"Run {run} will pause: nothing new begins until rondo.upgrade.resume; {finish}.",
        "resume": f"Run {run} will go on.",
        "abort": f"Run {run} will end: nothing new begins; {finish}.",
    }[request]


def _progress(journal: Journal, run: int, options: dict[str, Any]) -> dict[str, Any]:
    """What the callback `progress` makes its line of."""
    return {"state": options["state"], **journal.progress(run, options["job"]["id"])}
