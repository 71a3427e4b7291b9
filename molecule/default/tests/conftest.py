# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab, and what the upgrade wrote about itself."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))

from laboratory import Laboratory


@pytest.fixture(scope="session")
def lab() -> Laboratory:
    return Laboratory()


@pytest.fixture(scope="session")
def report() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((Path(os.environ["LAB_BUILD"]) / "report" / "report.json").read_text())
    return loaded
