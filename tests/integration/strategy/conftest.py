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


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All on the oldest core and the newest; what is marked with `every_core`, on those between and after, too."""
    if "core" in metafunc.fixturenames:
        names = cores.ALL if metafunc.definition.get_closest_marker("every_core") else cores.BOTH
        metafunc.parametrize("core", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def core(request: pytest.FixtureRequest) -> cores.Core:
    return cores.needed(request.param)


@pytest.fixture
def project(tmp_path: Path, core: cores.Core) -> Project:
    return Project(tmp_path, core)
