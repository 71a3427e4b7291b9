# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback `strike`: at the start of one task of one job it kills the run, or runs a command. For tests only.

RONDO_STRIKE is JSON: role, task (the place), kind (of the job), spare (ids of jobs to leave alone), later (not on the
host of the run's first job of that kind), nth (which time it comes there; default: the first), mark (a file in which it
says where it struck), and either `kill_after` (seconds) or `command` (a list; {host} is the job's host, {earlier} the
host of the run's first job of that kind). A run that is killed takes its workers with it, though they have left its
process group; `killed` in the mark is how many processes that were.
"""

from __future__ import annotations

DOCUMENTATION = r"""
name: strike
type: notification
short_description: Strike a run at one step of a job
description:
  - Kills the run and its workers with SIGKILL, or runs a command, when a given task of a given job starts.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from ansible.plugins.callback import CallbackBase

# Everything that descends from the run stands still before anything of it dies, so that nothing new is begun meanwhile.
EXECUTIONER = """
import json, os, signal, sys, time
from pathlib import Path

run, mark = int(sys.argv[1]), Path(sys.argv[3])
time.sleep(float(sys.argv[2]))
doomed = [run]
for one in doomed:
    try:
        os.kill(one, signal.SIGSTOP)
    except ProcessLookupError:
        continue
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == one and int(status.parent.name) != os.getpid():
            doomed.append(int(status.parent.name))
mark.write_text(json.dumps({**json.loads(mark.read_text()), "killed": len(doomed)}))
for one in reversed(doomed):
    try:
        os.kill(one, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "strike"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *words, **options):
        super().__init__(*words, **options)
        self._strike = json.loads(os.environ.get("RONDO_STRIKE", "null"))
        self._earlier = ""
        self._times = 0
        self._play = None

    def v2_playbook_on_play_start(self, play):
        self._play = play

    def v2_runner_on_start(self, host, task):
        """Called in the controller's own process, just before it forks the task's worker."""
        strike = self._strike
        if strike is None:
            return
        variables = self._play.get_variable_manager()
        job = variables.get_vars(play=self._play, host=host, include_hostvars=False).get("upgrade_job")
        if job is None or job["kind"] != strike["kind"]:
            return
        self._earlier = self._earlier or host.get_name()
        if strike["later"] and host.get_name() == self._earlier:
            return
        place = (task._role.get_name() if task._role else "", task.name)
        if place != (strike["role"], strike["task"]) or job["id"] in strike["spare"]:
            return
        self._times += 1
        if self._times < strike.get("nth", 1):
            return
        self._strike = None
        Path(strike["mark"]).write_text(json.dumps({"id": str(job["id"]), "host": host.get_name()}), encoding="utf-8")
        if "command" in strike:
            names = {"{host}": host.get_name(), "{earlier}": self._earlier}
            command = strike["command"]
            for pattern, name in names.items():
                command = [word.replace(pattern, name) for word in command]
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
            return
        # From outside: nothing in here gets a chance to tidy up.
        executioner = subprocess.Popen(
            [sys.executable, "-c", EXECUTIONER, str(os.getpid()), str(strike["kill_after"]), strike["mark"]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if not strike["kill_after"]:
            executioner.wait()
