# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks driven by ansible-runner, as AWX and other programs do it: docs/runner.md."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ansible_runner
from laboratory import PATIENCE, ROOT


class Driven:
    """A playbook of the collection at work on a scenario's lab, with ansible-runner's artifacts in its own folder."""

    def __init__(self, folder: Path, inventory: Path, playbook: str, *options: str, **variables: Any) -> None:
        # A folder for each run: variables of an earlier run in the same one would still hold.
        place = Path(tempfile.mkdtemp(dir=folder))
        self.artifacts = place / "artifacts" / "run"
        self._thread, self._runner = ansible_runner.run_async(
            private_data_dir=str(place),
            ident=self.artifacts.name,
            project_dir=str(ROOT),
            inventory=str(inventory),
            playbook=playbook,
            cmdline=" ".join(options),
            extravars={"upgrade_directory": os.environ["LAB_BUILD"], **variables},
            envvars={
                "ANSIBLE_CALLBACKS_ENABLED": "rondo.upgrade.events",
                "RONDO_UPGRADE_EVENTS": str(self.artifacts / "upgrade.jsonl"),
                "ANSIBLE_STDOUT_CALLBACK": "default",
                "ANSIBLE_NOCOLOR": "1",
                "RONDO_LAB": os.environ["RONDO_LAB"],
            },
            quiet=True,
        )

    @property
    def output(self) -> str:
        """What was printed so far."""
        path = self.artifacts / "stdout"
        return path.read_text() if path.exists() else ""

    @property
    def changed(self) -> dict[str, int]:
        """The hosts on which something was changed, once it has ended."""
        return dict((self._runner.stats or {}).get("changed", {}))

    @property
    def events(self) -> list[dict[str, Any]]:
        """What the callback rondo.upgrade.events wrote so far."""
        path = self.artifacts / "upgrade.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def named(self, event: str) -> list[dict[str, Any]]:
        """Those of the events that have this name."""
        return [row for row in self.events if row["event"] == event]

    @property
    def job_states(self) -> list[tuple[str, str]]:
        """State and id of each job as ansible-runner's own events have them, which are all that AWX has."""
        results = [
            (event["event_data"].get("res") or {})
            for event in self._runner.events
            if event["event_data"].get("task_action") == "rondo.upgrade.journal"
        ]
        return [(row["state"], row["job"]["id"]) for row in results if row.get("state") in ("begun", "ended")]

    def end(self) -> int:
        """Wait; the exit code."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), self.output
        print(self.output)
        code: int = self._runner.rc
        return code

    def wait_for(self, sight: Callable[[], object]) -> None:
        """Wait until something is to be seen. The run must not end before."""
        deadline = time.monotonic() + PATIENCE
        while not sight():
            assert self._thread.is_alive(), self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.2)
