# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Upgrade the twin, in a process of its own that knows no other inventory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.utils.display import Display

from ansible_collections.rondo.upgrade.plugins.plugin_utils._action import UpgradeAction

# Beside these, what is set for the user's own inventory must not reach the twin.
KEPT = ("ANSIBLE_HOME", "ANSIBLE_LOCAL_TEMP")

# The lines of callback progress that tell of an event; pages and whole messages are in the file.
EVENT = re.compile(r"[0-9]{2}:[0-9]{2}:[0-9]{2} ")


class ActionModule(UpgradeAction):
    """Thin: starts it, shows each event as it comes, and keeps all that is said in a file."""

    def act(self, options: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        folder = self.directory(options, variables) / "rehearsal"
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.yml", "upgrade.yml"]
        if self._task.check_mode:
            return {"changed": True, "exit_code": 0, "log": "", "command": command}
        log = folder / "upgrade.log"
        with log.open("w", encoding="utf-8") as kept:
            code = _run(command, folder, kept)
        return {"changed": True, "exit_code": code, "log": str(log), "command": command}


def _run(command: list[str], folder: Path, kept: Any) -> int:
    # A session of its own: whoever takes the twin down ends the whole of it by its number.
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=_environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    pid = folder / "upgrade.pid"
    pid.write_text(f"{process.pid}\n", encoding="utf-8")
    display = Display()
    for line in process.stdout or ():
        kept.write(line)
        kept.flush()
        if EVENT.match(line):
            display.display(f"  twin | {line.rstrip()}")
    code = process.wait()
    pid.unlink(missing_ok=True)
    return code


def _environment(folder: Path) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_") or key in KEPT}
    own = {"ANSIBLE_CONFIG": str(folder / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "PYTHONUNBUFFERED": "1"}
    return {**inherited, **own}
