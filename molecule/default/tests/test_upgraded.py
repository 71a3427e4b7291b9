# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is there after the upgrade, seen from outside of the collection: engine, balancers, clients, report."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import pytest
from laboratory import Laboratory

CONTROLLERS = ("ctl1", "ctl2", "ctl3")
BALANCERS = ("lb1", "lb2")
BACKENDS = ("keystone_external_back", "keystone_internal_back")
VERSION = "import importlib.metadata as m; print(m.version('keystone'))"


@pytest.mark.parametrize("node", CONTROLLERS)
def test_runs_the_new_release(lab: Laboratory, node: str) -> None:
    assert lab.image(node, "keystone") == "rondo/keystone:29.1.0"
    assert lab.container(node, "keystone").check_output(f'/opt/keystone/bin/python -c "{VERSION}"') == "29.1.0"


@pytest.mark.parametrize("node", CONTROLLERS)
def test_keeps_what_the_old_container_had(lab: Laboratory, node: str) -> None:
    record = lab.inspect(node, "keystone")
    assert record["State"]["Running"]
    node_id = subprocess.run(
        ["docker", "inspect", "--format", "{{.Id}}", f"{lab.name}-{node}"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert record["HostConfig"]["NetworkMode"] in (f"container:{node_id}", f"container:{lab.name}-{node}")
    assert [mount["Destination"] for mount in record["Mounts"]] == ["/etc/keystone"]
    assert record["Config"]["Labels"]["rondo.upgrade.lab"] == lab.name


@pytest.mark.parametrize("node", CONTROLLERS)
def test_keeps_the_old_container_stopped_for_going_back(lab: Laboratory, node: str) -> None:
    listed = subprocess.run(
        [
            "docker",
            "ps",
            "--all",
            "--filter",
            f"name={lab.container_name(node, 'keystone')}.",
            "--format",
            "{{.State}} {{.Image}}",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert "exited rondo/keystone:28.1.0" in listed


@pytest.mark.parametrize("balancer", BALANCERS)
def test_every_server_is_back_in_rotation(lab: Laboratory, balancer: str) -> None:
    wanted = {(backend, node): "UP" for backend in BACKENDS for node in CONTROLLERS}
    deadline = time.monotonic() + 300
    # A single late check on a busy machine shows as "UP 2/3" for a second.
    while lab.servers(balancer) != wanted and time.monotonic() < deadline:
        time.sleep(1)
    assert lab.servers(balancer) == wanted


def test_the_schema_is_the_new_releases(lab: Laboratory) -> None:
    assert lab.container("ctl1", "keystone").run("keystone-manage db_sync --check").rc == 0


def test_clients_get_tokens(lab: Laboratory) -> None:
    issued = lab.openstack("token", "issue", "--format", "value", "--column", "id")
    assert issued.returncode == 0, issued.stderr
    assert issued.stdout.startswith("gAAAA")


def test_no_request_failed(report: dict[str, Any]) -> None:
    assert report["requests"]["sent"] > 0
    assert report["requests"]["failed"] == 0


def test_three_counts_agree_and_the_run_is_called_clean(report: dict[str, Any]) -> None:
    counts = report["counts"]
    assert counts["agree"] is True and counts["missing"] == [], counts
    assert {source["name"]: source["failed"] for source in counts["sources"]} == {
        "probe": 0,
        "HAProxy": 0,
        "access logs": 0,
    }
    assert all(source["of"] > 0 for source in counts["sources"])
    assert report["verdict"] == "clean"


def test_the_report_names_every_instance(report: dict[str, Any]) -> None:
    assert {one["name"]: (one["from"], one["to"]) for one in report["instances"]} == {
        f"keystone@{node}": ("rondo/keystone:28.1.0", "rondo/keystone:29.1.0") for node in CONTROLLERS
    }
