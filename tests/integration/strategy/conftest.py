# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import cores
from rolling_project import Project


@pytest.fixture(scope="session", params=["own", "newest"])
def core(request: pytest.FixtureRequest) -> cores.Core:
    if request.param == "own":
        return cores.own()
    found = cores.newest()
    if found is None:
        pytest.skip("no newer Python on this machine than the tests' own")
    return found


@pytest.fixture
def project(tmp_path: Path, core: cores.Core) -> Project:
    return Project(tmp_path, core)
