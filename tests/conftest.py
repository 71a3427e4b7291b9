# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

KOLLA = "kolla-ansible==22.2.0"
KOLLA_CACHE = Path(__file__).resolve().parents[1] / ".cache" / "kolla"


@pytest.fixture(scope="session")
def kolla() -> Path:
    """The folder with the inventories of the kolla-ansible package."""
    KOLLA_CACHE.mkdir(parents=True, exist_ok=True)
    if not list(KOLLA_CACHE.glob("kolla_ansible-*.whl")):
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(KOLLA_CACHE), KOLLA]
        got = subprocess.run(command, capture_output=True, text=True)
        if got.returncode != 0:
            pytest.fail(f"{KOLLA} can't be had from the package index: {got.stderr.strip()[-300:]}")
    inventories = KOLLA_CACHE / "inventory"
    with zipfile.ZipFile(next(KOLLA_CACHE.glob("kolla_ansible-*.whl"))) as wheel:
        inventories.mkdir(exist_ok=True)
        for name in wheel.namelist():
            if "/ansible/inventory/" in name:
                (inventories / Path(name).name).write_bytes(wheel.read(name))
    return inventories
