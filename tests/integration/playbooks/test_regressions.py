# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a regression does to an upgrade: it fails, and is taken back where that is wanted."""

from __future__ import annotations

import json
from typing import Any

BACK = ("-e", "upgrade_on_regression=revert")


def suites(**commands: str) -> tuple[str, str]:
    declared = {name: {"command": ["sh", "-c", script]} for name, script in commands.items()}
    # Other machines' load is not what is tested.
    return "-e", json.dumps({"upgrade_suites": {"builtin": {"latency": False}, **declared}})


def test_a_regression_fails_the_run_and_takes_it_back(cluster: Any) -> None:
    worse, broken = f"""docker inspect {cluster.container("h1")} | grep -q '"rondo/web:1"'""", "false"
    done = cluster.play("rondo.upgrade.upgrade", *suites(worse=worse, broken=broken), *BACK)
    assert done.returncode != 0, done.stdout
    assert "regression: worse: it ran to its end" in " ".join(done.stdout.split())
    assert "The upgrade was taken back, because tests have regressed" in done.stdout + done.stderr, (
        done.stdout + done.stderr
    )
    assert cluster.runs() == ["rondo/web:1"] * 3
    classes = {row["suite"]: row["class"] for row in cluster.report()["tests"]["changes"]}
    assert classes["broken"] == "known failing"


def test_without_a_regression_nothing_is_taken_back(cluster: Any) -> None:
    done = cluster.play("rondo.upgrade.upgrade", *suites(fine="true"), *BACK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert cluster.runs() == ["rondo/web:2"] * 3
    assert cluster.report()["tests"]["counted"]["regression"] == 0


def test_mistakes_in_suites_are_told_with_those_of_services(cluster: Any) -> None:
    cluster.service["min_availabel"] = 2
    done = cluster.play("rondo.upgrade.upgrade", "-e", json.dumps({"upgrade_suites": {"smoke": {"comand": "true"}}}))
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "upgrade_services.web.min_availabel: is not a key here" in said
    assert "upgrade_suites.smoke.comand: is not a key here" in said
    assert cluster.runs() == ["rondo/web:1"] * 3
