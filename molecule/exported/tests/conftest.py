# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same upgrade carried out in two ways, and what each left behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from laboratory import ROOT, Laboratory, Run, journal_run, web_load
from observer import Watch, watching

INVENTORY = ROOT / "molecule" / "crashes" / "inventory"
BALANCERS = ("lb1", "lb2")
MEMBERS = ("web1", "web2", "web3", "web4")


@dataclass(frozen=True)
class Left:
    """What a run left behind: its exit code, the cluster, the journal, the report; `output` is what it said."""

    code: int
    cluster: dict[str, Any]
    journal: dict[str, Any]
    report: dict[str, Any]
    output: str


@pytest.fixture(scope="session")
def lab() -> Laboratory:
    return Laboratory()


@pytest.fixture
def upgrade(lab: Laboratory, tmp_path: Path) -> Callable[..., Left]:
    """Upgrades to a release, by the strategy or by an exported playbook."""

    def run(release: str, *, exported: bool, **variables: Any) -> Left:
        given = {"web_release": release, **variables}
        playbook = "rondo.upgrade.upgrade"
        if exported:
            playbook = str(tmp_path / "upgrade.yml")
            folder = Path(tempfile.mkdtemp(dir=tmp_path))
            planned = Run(folder, INVENTORY, "rondo.upgrade.plan", upgrade_export=playbook, **given)
            assert planned.end() == 0, planned.output
        done = Run(Path(tempfile.mkdtemp(dir=tmp_path)), INVENTORY, playbook, **given)
        code = done.end()
        report = json.loads((Path(os.environ["LAB_BUILD"]) / "report" / "report.json").read_text())
        return Left(code, _cluster(lab), _journal(), _report(report), done.output)

    return run


def _cluster(lab: Laboratory) -> dict[str, Any]:
    listed = ["docker", "ps", "--all", "--filter", f"label=rondo.upgrade.lab={lab.name}", "--format"]
    rows = subprocess.run([*listed, "{{.Names}} {{.State}}"], capture_output=True, text=True, check=True).stdout
    return {
        # A kept one has its id in its name.
        "containers": sorted(re.sub(r"-[0-9a-f]{12} ", " ", f"{row} ") for row in rows.splitlines()),
        "images": {member: lab.image(member, "web") for member in MEMBERS},
        "servers": {
            name: {server: state.split()[0] for (_backend, server), state in lab.servers(name).items()}
            for name in BALANCERS
        },
        "schema": lab.container(MEMBERS[0], "web").check_output("cat /schema/expanded /schema/contracted").split(),
        # Whether they were released.
        "fences": {
            name: json.loads(lab.node(name).check_output("cat /run/rondo-upgrade.fence"))["released"]
            for name in BALANCERS
        },
    }


def _journal() -> dict[str, Any]:
    run = journal_run()
    assert run is not None
    return {
        "kind": run["kind"],
        "outcome": run["outcome"],
        "jobs": sorted(
            (
                job["id"],
                (job["kind"], job["outcome"], job["running"], job["artifact"]["target"], sorted(job["details"])),
            )
            for job in run["jobs"]
        ),
        "reasons": [job["details"]["reason"] for job in run["jobs"] if "reason" in job["details"]],
        "stopped": run["summaries"].get("stopped", {}).get("reason", ""),
    }


def _report(report: dict[str, Any]) -> dict[str, Any]:
    return {
        "verdict": report["verdict"],
        "reasons": report["reasons"],
        "instances": {
            row["name"]: (row["outcome"], row["from"], row["to"])
            for row in sorted(report["instances"], key=lambda row: row["name"])
        },
        "keys": sorted(report),
    }


@pytest.fixture
def watch(lab: Laboratory, tmp_path: Path) -> AbstractContextManager[Watch]:
    """The probe (where the playbooks look for it) and the observer, for as long as the context lasts."""
    return watching(
        lab,
        tmp_path / "watch",
        web_load(lab),
        backend="web_back",
        service="web",
        members=MEMBERS,
        probe_folder=Path(os.environ["LAB_BUILD"]) / "probe",
    )
