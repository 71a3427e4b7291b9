# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The twin is up and was upgraded; what it looks like, and what was said of it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import docker
import pytest

FOLDER = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "build" / "rehearsal"


def read(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def twin() -> Any:
    return read("twin.json")


@pytest.fixture(scope="module")
def rehearsed() -> Any:
    return read("rehearsal.json")


def test_the_rehearsal_is_clean_and_lost_no_request(rehearsed: Any) -> None:
    assert rehearsed["verdict"] == "clean", rehearsed["reasons"]
    assert rehearsed["measured"]["requests"]["failed"] == 0
    assert rehearsed["measured"]["requests"]["sent"] > 100


def test_the_twin_is_smaller_and_its_shape_is_the_same(twin: Any, rehearsed: Any) -> None:
    assert rehearsed["twin"]["nodes"] == ["db1", "db2", "db3", "web01", "web05", "web09", "lb1", "lb2"]
    zones = {host: row["zone"] for host, row in read("hosts.yml")["all"]["hosts"].items() if "zone" in row}
    assert zones == {"web01": "a", "web05": "b", "web09": "c"}
    assert rehearsed["production"]["jobs"] == 19
    assert [row["budget_reason"] for row in rehearsed["production"]["services"]] == [
        "at most 1 of 5 out, so that a majority of 3 stays",
        "at most 3 of 12 out, in one zone at a time",
    ]


def test_every_instance_of_the_twin_was_replaced_in_order(twin: Any) -> None:
    report = read("report/report.json")
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
