# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ansible-cores that the strategy is tested on: the one of the tests' own Python, and the newest.

Run as a program it makes the virtual environment of the newest core, if it is not there yet, and prints all of them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
NEWEST = REPOSITORY / ".cache" / "venv-newest"

# What is installed beside it: for a filter of the tests' playbooks, and for the live view.
BESIDE = ("jmespath", "rich")
# Newest first: the minor version of Python 3, and what it is given.
PINNED = {14: "ansible-core==2.21.5", 13: "ansible-core==2.21.5", 12: "ansible-core==2.21.5"}


@dataclass(frozen=True)
class Core:
    """An ansible-core, by the folder of its programs."""

    name: str
    programs: Path

    @property
    def playbook(self) -> str:
        return str(self.programs / "ansible-playbook")


def own() -> Core:
    return Core("own", Path(sys.executable).parent)


def newest() -> Core | None:
    """The newest core, its environment made if need be; None where no newer Python than this one is to be found."""
    lock = NEWEST.with_name(NEWEST.name + ".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        core = Core("newest", NEWEST / "bin")
        made = NEWEST / "made"
        has = (made.read_text().split() if made.exists() else []) or [""]
        if has[0] not in PINNED.values():
            found = next(_pythons(), None)
            if found is None:
                return None
            minor, python = found
            shutil.rmtree(NEWEST, ignore_errors=True)
            subprocess.run([python, "-m", "venv", NEWEST], check=True)
            has = [PINNED[minor]]
        wanted = [has[0], *BESIDE]
        if has != wanted:
            _install(wanted)
            made.write_text(" ".join(wanted) + "\n")
        return core


def _install(requirements: list[str]) -> None:
    for attempt in range(1, 4):
        command = [NEWEST / "bin" / "python", "-m", "pip", "install", "--quiet", *requirements]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode == 0:
            return
        time.sleep(5 * attempt)
    raise RuntimeError(f"{requirements[0]} could not be installed into {NEWEST}: {done.stderr.strip()}")


def _pythons() -> Iterator[tuple[int, str]]:
    """(minor version, path) of the Pythons that are newer than this one, newest first."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for minor in PINNED:
        if minor <= sys.version_info.minor:
            return
        name = f"python3.{minor}"
        candidates = [shutil.which(name), *sorted(map(str, pyenv.glob(f"3.{minor}.*/bin/{name}")), reverse=True)]
        for candidate in candidates:
            # pyenv's shims are found in PATH, but run only for the versions that are switched on.
            if candidate and subprocess.run([candidate, "-c", ""], check=False, capture_output=True).returncode == 0:
                yield minor, candidate


if __name__ == "__main__":
    for entry in (own(), newest()):
        if entry is not None:
            version = subprocess.run([entry.playbook, "--version"], check=True, capture_output=True, text=True).stdout
            print(f"{entry.name}: {version.splitlines()[0]}")
