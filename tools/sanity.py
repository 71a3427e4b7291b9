#!/usr/bin/env python3
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run `ansible-test sanity` on the collection, with the core of each virtual environment that is named.

ansible-test wants the collection below a folder `ansible_collections/NAMESPACE/NAME` that is really there, a symbolic
link does not do: so the files that would go into a release are copied into .cache/sanity first.

    tools/sanity.py .venv .cache/venv-newest      # the first runs every test, later ones all but pylint
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / ".cache/sanity/ansible_collections/rondo/upgrade"
ROOMS = ("LICENSE", "README.md", "changelogs", "docs", "galaxy.yml", "meta", "playbooks", "plugins", "roles")


def copy() -> None:
    """Lay the tracked and the new files of a release's rooms out afresh; ansible-test asks git which those are."""
    shutil.rmtree(COPY, ignore_errors=True)
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *ROOMS]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).exists():
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, COPY / name)
    subprocess.run(["git", "init", "--quiet", str(COPY)], check=True)


def sanity(venv: Path, *options: str) -> int:
    python = subprocess.run(
        [venv / "bin/python", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    command = [str(venv / "bin/ansible-test"), "sanity", "--color", "no", "--python", python, *options]
    print("+", *command, flush=True)
    environment = {**os.environ, "PATH": f"{venv}/bin:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
    return subprocess.run(command, cwd=COPY, env=environment, check=False, stdin=subprocess.DEVNULL).returncode


def main() -> int:
    venvs = [(ROOT / name).absolute() for name in sys.argv[1:]] or [ROOT / ".venv"]
    copy()
    return max(sanity(venv, *([] if venv == venvs[0] else ["--skip-test", "pylint"])) for venv in venvs)


if __name__ == "__main__":
    sys.exit(main())
