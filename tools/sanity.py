#!/usr/bin/env python3
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run `ansible-test sanity` on the collection, with the core of each virtual environment that is named.

ansible-test wants the collection below a folder `ansible_collections/NAMESPACE/NAME` that is really there, a symbolic
link does not do: so the files that would go into a release are copied into .cache/sanity first. It makes virtual
environments of its own, and would download get-pip.py for them from a site that not everybody reaches: a script in
get-pip's place takes the pip that comes with Python instead.

    tools/sanity.py .venv .cache/venv-newest      # the first runs every test, later ones all but pylint
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".cache/sanity/home"
COPY = ROOT / ".cache/sanity/ansible_collections/rondo/upgrade"
ROOMS = ("LICENSE", "README.md", "changelogs", "docs", "galaxy.yml", "meta", "playbooks", "plugins", "roles")

GET_PIP = """\
import subprocess, sys
subprocess.check_call([sys.executable, "-m", "ensurepip"])  # apart: it switches pip's settings off
options = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]  # get-pip's own
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", *options]))
"""


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


def lay_get_pip(venv: Path) -> None:
    """Where ansible-test looks for a get-pip.py that it downloaded before, under the pip version's name."""
    (source,) = venv.glob("lib/python*/site-packages/ansible_test/_internal/python_requirements.py")
    for version in re.findall(r"pip='([0-9.]+)'", source.read_text()):
        script = HOME / f".ansible/test/cache/get_pip_{version.replace('.', '_')}.py"
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(GET_PIP)


def lay_pip_settings(venv: Path) -> None:
    """ansible-test keeps most of the environment from pip; a file in its home says the same, certificates above all."""
    listed = subprocess.run([venv / "bin/pip", "config", "list"], check=True, capture_output=True, text=True).stdout
    settings = dict(re.findall(r"^[\w:]+\.([\w-]+)='(.*)'$", listed, re.MULTILINE))
    lines = ["[global]", *(f"{key} = {value}" for key, value in sorted(settings.items()))]
    folder = HOME / ".config/pip"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pip.conf").write_text("\n".join(lines) + "\n")


def sanity(venv: Path, *options: str) -> int:
    python = subprocess.run(
        [venv / "bin/python", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    lay_get_pip(venv)
    lay_pip_settings(venv)
    command = [str(venv / "bin/ansible-test"), "sanity", "--color", "no", "--python", python, *options]
    print("+", *command, flush=True)
    environment = {
        **os.environ,
        "HOME": str(HOME),
        "PATH": f"{venv}/bin:{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
    }
    return subprocess.run(command, cwd=COPY, env=environment, check=False, stdin=subprocess.DEVNULL).returncode


def main() -> int:
    venvs = [(ROOT / name).absolute() for name in sys.argv[1:]]
    if not venvs:
        sys.exit("usage: tools/sanity.py VENV [VENV ...]")
    copy()
    return max(sanity(venv, *([] if venv == venvs[0] else ["--skip-test", "pylint"])) for venv in venvs)


if __name__ == "__main__":
    sys.exit(main())
