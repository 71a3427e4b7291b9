# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks as processes, so that one can be told something while it runs; the journal; and the probe around them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))

from laboratory import ROOT, Laboratory

from ansible_collections.rondo.upgrade.plugins.plugin_utils._journal import Journal

INVENTORY = ROOT / "inventories" / "lab"
# Machines under load take many times as long; a run that works is never given up on.
PATIENCE = 1800


class Run:
    """An `ansible-playbook` at work. Its output goes to a file, so that it can be read meanwhile."""

    def __init__(self, folder: Path, playbook: str, *options: str, **variables: Any) -> None:
        self._log = folder / "output.txt"
        given = {"upgrade_directory": os.environ["LAB_BUILD"], **variables}
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    str(Path(sys.executable).parent / "ansible-playbook"),
                    f"--inventory={INVENTORY}",
                    f"--extra-vars={json.dumps(given)}",
                    f"rondo.upgrade.{playbook}",
                    *options,
                ],
                cwd=ROOT,
                env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    def end(self) -> int:
        """Wait; the exit code."""
        code = self.process.wait(timeout=PATIENCE)
        print(self.output)
        return code

    def wait_for(self, sight: Callable[[], object]) -> None:
        """Wait until something is to be seen. The run must not end before."""
        deadline = time.monotonic() + PATIENCE
        while not sight():
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.2)


@pytest.fixture(scope="session")
def lab() -> Laboratory:
    return Laboratory()


@pytest.fixture
def declared() -> dict[str, Any]:
    """upgrade_services of the lab's inventory, for a test to change something in."""
    variables: dict[str, Any] = yaml.safe_load((INVENTORY / "group_vars" / "all" / "upgrade.yml").read_text())
    services: dict[str, Any] = variables["upgrade_services"]
    return services


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Run]:
    """Starts a playbook of the collection against the lab."""

    def run(playbook: str, *options: str, **variables: Any) -> Run:
        return Run(Path(tempfile.mkdtemp(dir=tmp_path)), playbook, *options, **variables)

    return run


def last_run() -> dict[str, Any] | None:
    """The last run as the journal has it, None as long as there is none."""
    path = Path(os.environ["LAB_BUILD"]) / "journal.sqlite"
    if not path.exists():
        return None
    with Journal(path, create=False) as journal:
        return journal.run()


@pytest.fixture
def journal() -> Callable[[], dict[str, Any] | None]:
    return last_run


@contextmanager
def probing(lab: Laboratory, folder: Path) -> Iterator[dict[str, Any]]:
    """Sends the lab's load; the dictionary is filled with the probe's summary when the context ends."""
    program = str(ROOT / "roles" / "probe" / "files" / "probe.py")
    load = yaml.safe_load((ROOT / "molecule" / "shared" / "load.yml").read_text())
    text = json.dumps({**load["load"], "rate": load["load_rate"]}).replace("{{ lab.vip }}", lab.vip)
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "probe.json"
    configuration.touch(mode=0o600)
    configuration.write_text(text)
    summary: dict[str, Any] = {}
    # Its output to a file: a background process that inherits a pipe keeps its reader waiting.
    with (folder / "start.log").open("w") as log:
        subprocess.run(
            [sys.executable, program, "start", str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
        )
    try:
        yield summary
    finally:
        subprocess.run(
            [sys.executable, program, "stop", str(configuration)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        summary.update(json.loads((folder / "summary.json").read_text()))


@pytest.fixture
def probe(lab: Laboratory) -> AbstractContextManager[dict[str, Any]]:
    """The lab's load, where the playbooks look for a probe that runs."""
    return probing(lab, Path(os.environ["LAB_BUILD"]) / "probe")
