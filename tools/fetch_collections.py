#!/usr/bin/env python3
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpacks the collections that the tests need out of PyPI's `ansible` package: Galaxy is not in everybody's reach.

Only these are unpacked: the whole package is some 500 MB.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# The release that goes with ansible-core 2.19.
RELEASE = "ansible==12.3.0"
# community.general.haproxy is what `make contrast` compares with; the rehearsal reaches its nodes by community.docker.
COLLECTIONS = ("community/general", "community/docker")

TARGET = Path(__file__).resolve().parent.parent / ".cache" / "collections" / "ansible_collections"


def main() -> int:
    wanted = [name for name in COLLECTIONS if (TARGET / name / ".release").exists() is False]
    wanted += [
        name for name in COLLECTIONS if name not in wanted and (TARGET / name / ".release").read_text() != RELEASE
    ]
    if not wanted:
        return 0
    print(f"setup: taking {', '.join(name.replace('/', '.') for name in wanted)} out of PyPI's {RELEASE}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "-qq",
                "--disable-pip-version-check",
                "--no-deps",
                "--dest",
                folder,
                RELEASE,
            ],
            stdin=subprocess.DEVNULL,
            check=True,
        )
        (wheel,) = Path(folder).glob("ansible-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name in wanted:
                shutil.rmtree(TARGET / name, ignore_errors=True)
                prefix = f"ansible_collections/{name}/"
                members = [
                    member
                    for member in archive.namelist()
                    if member.startswith(prefix) and f"{prefix}tests/" not in member
                ]
                archive.extractall(TARGET.parent, members)
                (TARGET / name / ".release").write_text(RELEASE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
