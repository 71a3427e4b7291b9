# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback `events`: what happens during an upgrade, one JSON object a line. Writes, and decides nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
name: events
type: notification
short_description: What happens during an upgrade, as JSON lines in a file
version_added: 0.1.0
author: The rondo.upgrade authors (@rondo)
description:
  - Appends one JSON object a line to a file, each on disk before the run goes on. C(docs/events.schema.json) is the
    schema, C(docs/live.md) tells what each event means.
  - The events are a playbook that begins or ends, a play, the plan, a run that begins or ends, a job that begins or
    ends, a task that failed or whose host was unreachable, and the report.
  - It works beside any stdout callback, so under ansible-runner and AWX as well.
  - Results of tasks with C(no_log) are never written. If the file can't be written, there is one warning, and nothing
    is written from then on. The run goes on.
options:
  path:
    description:
      - The file. Its folder is made if need be.
    type: path
    default: build/events.jsonl
    env:
      - name: RONDO_UPGRADE_EVENTS
    ini:
      - section: rondo_upgrade
        key: events
requirements:
  - Enable it with C(callbacks_enabled) in the configuration, or C(ANSIBLE_CALLBACKS_ENABLED) in the environment.
"""

import functools
import time

from ansible.plugins.callback import CallbackBase

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _core_compat as compat
from ansible_collections.rondo.upgrade.plugins.plugin_utils import _events


def harmless(method):
    """What goes wrong in here never reaches the run: it ends in one warning, and then there is silence."""

    @functools.wraps(method)
    def guarded(self, *arguments, **keywords):
        if self.disabled:
            return
        try:
            method(self, *arguments, **keywords)
        except Exception as error:
            self.disabled = True
            self._display.warning(f"rondo.upgrade.events writes nothing more, the run goes on: {error}")

    return guarded


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "rondo.upgrade.events"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self._log = None

    @harmless
    def v2_playbook_on_start(self, playbook):
        self._log = _events.Log(self.get_option("path"))
        self._write({"event": "playbook_began", "playbook": compat.playbook_name(playbook)})

    @harmless
    def v2_playbook_on_play_start(self, play):
        self._write({"event": "play_began", "play": play.get_name().strip()})

    @harmless
    def v2_runner_on_ok(self, result):
        if event := _events.of_result(result.task.action, result.result):
            self._write(compat.plain(event))

    @harmless
    def v2_runner_on_failed(self, result, ignore_errors=False):
        if event := _events.of_result(result.task.action, result.result):
            self._write(compat.plain(event))
        self._failed(result, "task_failed", ignored=bool(ignore_errors))

    @harmless
    def v2_runner_on_unreachable(self, result):
        self._failed(result, "host_unreachable")

    @harmless
    def v2_playbook_on_stats(self, stats):
        hosts = {host: stats.summarize(host) for host in sorted(stats.processed)}
        failed = [host for host, counts in hosts.items() if counts["failures"] or counts["unreachable"]]
        self._write({"event": "playbook_ended", "hosts": hosts, "failed": failed})
        log, self._log = self._log, None
        log.close()

    def _failed(self, result, event, **others):
        about = {
            "host": result.host.get_name(),
            "task": result.task.get_name(),
            "action": result.task.action,
            "message": _events.message(compat.plain(result.result)),
        }
        self._write({"event": event, **about, **others})

    def _write(self, event):
        self._log.write({"time": _events.when(time.time()), **event})
