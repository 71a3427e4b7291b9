#!/usr/bin/env python3
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write requirements.txt: the exact versions that requirements.in resolves to today, on this Python.

Run it with the oldest Python that the controller supports (3.11): `python3.11 tools/pin.py`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    if sys.version_info[:2] != (3, 11):
        sys.exit(f"pin.py runs on Python 3.11, the oldest supported; this is {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", "--requirement", str(ROOT / "requirements.in")], check=True)
        pins = subprocess.run([*pip, "freeze"], check=True, capture_output=True, text=True).stdout
    (ROOT / "requirements.txt").write_text("# Made by tools/pin.py from requirements.in; don't edit.\n" + pins)


if __name__ == "__main__":
    main()
