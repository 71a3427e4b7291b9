# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback `progress`: what a person watches while an upgrade runs. Shows, and decides nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: stdout
short_description: One line for each thing that matters while an upgrade runs
version_added: 0.1.0
author: The rondo.upgrade authors (@rondo)
description:
  - On a terminal the lowest lines are a live view while jobs are carried out. It shows services with bars, what is in
    flight where and for how long, budgets in use, the probe's counts, how long the rest takes by what was measured so
    far, and what waits for what. All else scrolls above it.
  - Above it, and anywhere else (a pipe, a file, a CI system, C(TERM=dumb), a terminal with fewer than 16 lines or 40
    columns, or without the Python package C(rich)), it is one line for each job that begins or ends, for each task that
    changed something, for each failure with its whole message, and for each retry. Tasks that changed nothing are
    shown with C(-v), skipped ones with C(-vv). Beside the live view there are no lines for what it shows itself.
  - Whatever goes wrong in it ends in one warning, after which the live view or, if need be, the whole callback is
    silent. The run goes on.
  - Lines about jobs come from the results of M(rondo.upgrade.journal), so they are the same whether the plan is carried
    out by the strategy P(rondo.upgrade.rolling#strategy) or as a plain playbook.
  - Results of tasks with C(no_log) are never shown.
options:
  live:
    description:
      - Whether a terminal gets the live view.
    type: bool
    default: true
    env:
      - name: RONDO_UPGRADE_LIVE
    ini:
      - section: rondo_upgrade
        key: live
seealso:
  - plugin: rondo.upgrade.events
    plugin_type: callback
    description: The same as JSON lines, for programs.
requirements:
  - Set it as C(stdout_callback) in the configuration, or in the environment as C(ANSIBLE_STDOUT_CALLBACK).
"""

import atexit
import functools
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from ansible import constants as C
from ansible.plugins.callback import CallbackBase

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _core_compat as compat
from ansible_collections.rondo.upgrade.plugins.plugin_utils._events import JOURNAL, PLAN, REPORT, message
from ansible_collections.rondo.upgrade.plugins.plugin_utils._journal import Journal
from ansible_collections.rondo.upgrade.plugins.plugin_utils._live import Live, Run
from ansible_collections.rondo.upgrade.plugins.plugin_utils._panel import Panel, unfit

DEBUG = ("debug", "ansible.builtin.debug", "ansible.legacy.debug")
COUNTS = {
    "changed": "changed",
    "failures": "failed",
    "unreachable": "unreachable",
    "rescued": "rescued",
    "ignored": "ignored",
}
DONE = {
    "replace": "replaced",
    "expand": "expanded",
    "migrate": "migrated",
    "contract": "contracted",
    "switch": "switched",
    "settle": "settled",
}


def job_line(result):
    """The line of a job that begins or ends, from the journal's result; None where it is about neither."""
    job = result.get("job")
    if not isinstance(job, Mapping) or result.get("state") not in ("begun", "ended"):
        return None
    name = f"{job['service']}@{job['host']}" if job.get("instance") else job["service"]
    versions = _versions(job.get("running"), (job.get("artifact") or {}).get("target"))
    if result["state"] == "begun":
        return f"{name} {job['kind']} begins" + (f": {versions}" if versions else "")
    outcome = job.get("outcome")
    done = DONE.get(job["kind"], job["kind"]) if outcome == "done" else outcome
    words = [name, done, versions if outcome == "done" else "", f"in {_seconds(job.get('took'))}"]
    return f"{' '.join(word for word in words if word)} ({result.get('position')} of {result.get('total')})"


def _versions(running, target):
    if not running or not target:
        return target or ""
    # Two tags of one image: the tags say it all.
    if running.rpartition(":")[0] == target.rpartition(":")[0]:
        running, target = running.rpartition(":")[2], target.rpartition(":")[2]
    return f"{running} -> {target}"


def _seconds(took):
    if took is None:
        return "? s"
    return f"{took:.1f} s" if took < 10 else f"{took:.0f} s"


def harmless(method):
    """What goes wrong in here never reaches the run: it ends in one warning, and then there is silence."""

    @functools.wraps(method)
    def guarded(self, *arguments, **keywords):
        if self._silent:
            return
        try:
            method(self, *arguments, **keywords)
        except Exception as error:
            self._silent = True
            self._close()
            self._display.warning(f"rondo.upgrade.progress shows nothing more, the run goes on: {error!r}")

    return guarded


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "rondo.upgrade.progress"

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self._since = {}
        self._start = time.monotonic()
        self._silent = False
        self._probe = None
        self._summary = None
        self._run = self._live = None

    @harmless
    def v2_playbook_on_play_start(self, play):
        name = play.get_name().strip()
        if name:
            self._line(f"== {name}")

    @harmless
    def v2_playbook_on_no_hosts_matched(self):
        self._line("no hosts matched", C.COLOR_SKIP)

    @harmless
    def v2_runner_on_start(self, host, task):
        name = host.get_name()
        self._since[name] = time.monotonic()
        if self._run is not None:
            self._run.step(name, task.name or task.action)

    @harmless
    def v2_runner_on_ok(self, result):
        compat.show_warnings(self, result)
        values = result.result
        action = result.task.action
        if action == JOURNAL:
            self._journal(values)
        if action == JOURNAL and (line := job_line(values)):
            failed = values["job"].get("outcome") == "failed"
            if self._live is None or values["state"] == "ended":
                self._line(line, C.COLOR_ERROR if failed else C.COLOR_OK)
        elif action in DEBUG:
            self._say(result)
        elif values.get("changed") and action != JOURNAL:
            if self._live is None or not self._run.has(result.host.get_name()) or self._display.verbosity > 0:
                self._event(result, "changed", C.COLOR_CHANGED)
        elif self._display.verbosity > 0:
            self._event(result, "ok", C.COLOR_OK)
        if action == PLAN:
            self._probe = values.get("probe_state")
        elif action == REPORT:
            self._summary = values.get("summary")

    @harmless
    def v2_runner_on_failed(self, result, ignore_errors=False):
        compat.show_warnings(self, result)
        said = message(result.result)
        if ignore_errors:
            self._event(result, f"failed, and ignored: {said}", C.COLOR_SKIP)
        else:
            self._event(result, f"FAILED: {said}", C.COLOR_ERROR)

    @harmless
    def v2_runner_item_on_failed(self, result):
        self._event(result, f"an item FAILED: {message(result.result)}", C.COLOR_ERROR)

    @harmless
    def v2_runner_on_unreachable(self, result):
        self._event(result, f"UNREACHABLE: {message(result.result)}", C.COLOR_UNREACHABLE)

    @harmless
    def v2_runner_on_skipped(self, result):
        if self._display.verbosity > 1:
            self._event(result, "skipped", C.COLOR_SKIP)

    @harmless
    def v2_runner_retry(self, result):
        self._event(result, "not yet, trying again", C.COLOR_DEBUG)

    @harmless
    def v2_on_file_diff(self, result):
        values = result.result
        for entry in values.get("results", [values]) if result.task.loop else [values]:
            if entry.get("diff") and entry.get("changed") and (text := compat.diff_text(self, entry["diff"])):
                self._display.display(text)

    @harmless
    def v2_playbook_on_stats(self, stats):
        self._close()
        hosts = sorted(stats.processed)
        totals = dict.fromkeys(COUNTS, 0)
        for host in hosts:
            summary = stats.summarize(host)
            for name in totals:
                totals[name] += summary[name]
            if summary["failures"] or summary["unreachable"]:
                troubles = [f"{summary[name]} {word}" for name, word in COUNTS.items() if summary[name]]
                self._line(f"{host}: {', '.join(troubles)}", C.COLOR_ERROR)
        counts = (
            ", ".join(f"{totals[name]} {word}" for name, word in COUNTS.items() if totals[name]) or "nothing changed"
        )
        bad = totals["failures"] or totals["unreachable"]
        took = _seconds(time.monotonic() - self._start)
        number = f"{len(hosts)} host{'' if len(hosts) == 1 else 's'}"
        self._line(f"{number} in {took}: {counts}", C.COLOR_ERROR if bad else C.COLOR_OK)
        if self._summary:
            self._line(self._summary, C.COLOR_ERROR if self._summary.startswith("failed") else C.COLOR_OK)

    def _journal(self, values):
        """Keep the live view's run up to date."""
        state, job = values.get("state"), values.get("job")
        if state == "started":
            self._open(values)
        elif state == "finished":
            self._close()
        elif self._run is not None and state == "begun":
            self._run.begin(job, job["begun"])
        elif self._run is not None and state == "ended":
            self._run.end(job, job["ended"] or time.time(), job["outcome"])

    def _open(self, started):
        self._close()
        # First this: ansible-runner's callback that wraps this one has none of its options.
        if why := unfit(sys.stdout, os.environ):
            self._display.vv(f"rondo.upgrade.progress: no live view: {why}")
            return
        if not self.get_option("live"):
            return
        path = Path(started["journal"])
        # Between two tasks of the controller, and never in the thread: a worker that is forked with the journal's lock
        # held would keep it.
        with Journal(path, create=False) as journal:
            plan = journal.run(started["run"])["plan"]
        self._run = Run(plan, started["run"], started["kind"], self._probe or str(path.parent / "probe" / "state.json"))
        self._live = Live(self._run, Panel(sys.stdout, colours=not C.ANSIBLE_NOCOLOR), self._drawing_failed)
        atexit.register(self._close)

    def _close(self):
        live, self._live, self._run = self._live, None, None
        if live is not None:
            atexit.unregister(self._close)
            live.close()

    def _drawing_failed(self, error):
        self._display.warning(f"rondo.upgrade.progress has no live view any more, lines go on: {error!r}")
        self._live = None

    def _event(self, result, what, colour):
        host = result.host.get_name()
        since = self._since.get(host)
        took = "" if since is None else f" ({_seconds(time.monotonic() - since)})"
        first, _newline, rest = what.partition("\n")
        self._line(f"{host}: {result.task.get_name()}: {first}{took}", colour)
        if rest:
            self._display.display(rest, color=colour)

    def _say(self, result):
        said = result.result
        text = (
            said.get("msg")
            if "msg" in said
            else {name: said[name] for name in said if name not in ("changed", "failed") and name[:1] != "_"}
        )
        if "censored" in said:
            text = said["censored"]
        self._display.display(text if isinstance(text, str) else json.dumps(text, indent=2, default=str))

    def _line(self, text, colour=None):
        self._display.display(f"{time.strftime('%H:%M:%S')} {text}", color=colour)
