# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenario molecule/rehearsal, copied to another repository as people copy it: it runs there, what its twin looks like
after the upgrade, what was said of it, and that nothing of it stays behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 3600.0


class Scenario:
    """The copy. Only the collection, and this project's own images, are not what others have."""

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self.folder = repository / "ephemeral" / "build" / "rehearsal"
        shutil.copytree(ROOT / "molecule" / "rehearsal", repository / "molecule" / "rehearsal")

    def molecule(self, *words: str) -> None:
        programs = Path(sys.executable).parent
        environment = {
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
            "ANSIBLE_HOME": str(self.repository / "home"),
            "MOLECULE_EPHEMERAL_DIRECTORY": str(self.repository / "ephemeral"),
            "REHEARSAL_NODE_IMAGE": "rondo/rehearsal:trixie",
        }
        command = [str(programs / "molecule"), *words, "--scenario-name", "rehearsal"]
        subprocess.run(command, cwd=self.repository, env=environment, check=True, timeout=PATIENCE)

    def read(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenario]:
    images = [sys.executable, str(ROOT / "tools" / "images.py"), "rehearsal", "web-1", "web-2"]
    subprocess.run(images, check=True, timeout=PATIENCE)
    made = Scenario(tmp_path_factory.mktemp("repository"))
    try:
        made.molecule("test", "--destroy", "never")
        yield made
    finally:
        made.molecule("destroy")


@pytest.fixture(scope="module")
def twin(scenario: Scenario) -> Any:
    return scenario.read("twin.json")


@pytest.fixture(scope="module")
def rehearsed(scenario: Scenario) -> Any:
    return scenario.read("rehearsal.json")


def test_the_rehearsal_is_clean_and_lost_no_request(rehearsed: Any) -> None:
    assert rehearsed["verdict"] == "clean", rehearsed["reasons"]
    assert rehearsed["measured"]["requests"]["failed"] == 0
    assert rehearsed["measured"]["requests"]["sent"] > 100


def test_the_twin_is_smaller_and_its_shape_is_the_same(scenario: Scenario, rehearsed: Any) -> None:
    assert rehearsed["twin"]["nodes"] == ["db1", "db2", "db3", "web01", "web05", "web09", "lb1", "lb2"]
    zones = {host: row["zone"] for host, row in scenario.read("hosts.yml")["all"]["hosts"].items() if "zone" in row}
    assert zones == {"web01": "a", "web05": "b", "web09": "c"}
    assert rehearsed["production"]["jobs"] == 19
    assert [row["budget_reason"] for row in rehearsed["production"]["services"]] == [
        "at most 1 of 5 out, so that a majority of 3 stays",
        "at most 3 of 12 out, in one zone at a time",
    ]


def test_every_instance_of_the_twin_was_replaced_in_order(scenario: Scenario, twin: Any) -> None:
    report = scenario.read("report/report.json")
    ended = {row["id"]: (row["began"], row["ended"], row["outcome"]) for row in report["timeline"]}
    assert {outcome for _began, _ended, outcome in ended.values()} == {"done"}
    instances = [name for name in ended if name.startswith("replace ")]
    assert len(instances) == len(twin["containers"]) == 6
    last = max(ended[name][1] for name in instances if "database@" in name)
    assert all(ended[name][0] >= last for name in ended if "web" in name)


def test_containers_run_the_new_images(twin: Any) -> None:
    engine = docker.from_env()
    wanted = {"database": twin["images"]["after"], "web": "rondo/web:2"}
    for row in twin["containers"]:
        container = engine.containers.get(row["name"])
        assert container.status == "running"
        assert container.attrs["Config"]["Image"] == wanted[row["service"]]


def test_services_whose_own_image_serves_ran_it(rehearsed: Any) -> None:
    assert rehearsed["twin"]["own_images"] == ["web"]
    learned = {row["service"]: row["least"] for row in rehearsed["learned"] if row["kind"] == "replace"}
    assert learned == {"database": True, "web": False}


def test_what_was_not_rehearsed_is_said(rehearsed: Any) -> None:
    said = "\n".join(rehearsed["missing"])
    assert "a stand-in served for database" in said and "schema steps" in said


def test_balancers_know_the_declared_servers(twin: Any) -> None:
    balancers = [node["container"] for node in twin["nodes"] if node["balancer"]]
    assert len(balancers) == 2
    for name in balancers:
        script = "cat /etc/haproxy/haproxy.cfg"
        done = subprocess.run(["docker", "exec", name, "sh", "-c", script], capture_output=True, text=True, check=True)
        assert [line.split()[1] for line in done.stdout.splitlines() if line.strip().startswith("server ")] == [
            "web01",
            "web05",
            "web09",
        ]


def test_nothing_stays_behind(scenario: Scenario, twin: Any) -> None:
    """The last of them: it takes the twin down."""
    scenario.molecule("destroy")
    engine = docker.from_env()
    label = {"label": f"rondo.upgrade.rehearsal={twin['name']}"}
    assert not engine.containers.list(all=True, filters=label) and not engine.networks.list(filters=label)
