# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ansible-cores that the strategy is tested on: that of the tests' own Python, the newest, and those between and
after them.

Run as a program it makes the virtual environment of the newest core, if it is not there yet, and prints it and the own
one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
CACHE = REPOSITORY / ".cache"

# What is installed beside each: for a filter of the tests' playbooks, and for the live view.
BESIDE = ("jmespath", "rich")
# By name, the Pythons that can carry it (minor versions of Python 3, the best first), and what they are given.
PINNED = {
    "2.20": ((12, 13, 14), "ansible-core==2.20.10"),
    "newest": ((14, 13, 12), "ansible-core==2.21.5"),
    "2.22": ((14, 13), "ansible-core==2.22.0rc1"),
}
BOTH = ("own", "newest")
ALL = ("own", *PINNED)


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


def named(name: str) -> Core | None:
    """That core, its environment made if need be; None where no Python that can carry it is to be found."""
    if name == "own":
        return own()
    minors, pinned = PINNED[name]
    requirements = [pinned, *BESIDE]
    folder = CACHE / f"venv-{name}"
    lock = folder.with_name(folder.name + ".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        made = folder / "made"
        if not made.exists() or made.read_text().split() != requirements:
            python = next(_pythons(minors), None)
            if python is None:
                return None
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([python, "-m", "venv", folder], check=True)
            _install(folder, requirements)
            made.write_text(" ".join(requirements) + "\n")
    return Core(name, folder / "bin")


def needed(name: str) -> Core:
    """That core; the test is skipped where nothing here can carry it."""
    found = named(name)
    if found is None:
        minors, pinned = PINNED[name]
        pytest.skip(f"{pinned} needs Python {' or '.join(f'3.{minor}' for minor in minors)}, and none is here")
    return found


def _install(folder: Path, requirements: list[str]) -> None:
    for attempt in range(1, 4):
        command = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", *requirements]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode == 0:
            return
        time.sleep(5 * attempt)
    raise RuntimeError(f"{requirements[0]} could not be installed into {folder}: {done.stderr.strip()}")


def _pythons(minors: Iterable[int]) -> Iterator[str]:
    """The paths of those of the Pythons that are here."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for minor in minors:
        name = f"python3.{minor}"
        candidates = [shutil.which(name), *sorted(map(str, pyenv.glob(f"3.{minor}.*/bin/{name}")), reverse=True)]
        for candidate in candidates:
            # pyenv's shims are found in PATH, but run only for the versions that are switched on.
            if candidate and subprocess.run([candidate, "-c", ""], check=False, capture_output=True).returncode == 0:
                yield candidate


if __name__ == "__main__":
    for entry in map(named, BOTH):
        if entry is not None:
            version = subprocess.run([entry.playbook, "--version"], check=True, capture_output=True, text=True).stdout
            print(f"{entry.name}: {version.splitlines()[0]}")
