# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a real HAProxy says of itself."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._report_counts import counted

if TYPE_CHECKING:
    from conftest import Lab

COLLECTIONS = Path(__file__).resolve().parents[3] / ".cache" / "collections"
INTERNAL = "keystone_internal_back"


def test_tables_and_counters(lab: Lab) -> None:
    before = lab.module("haproxy_info")["backends"][INTERNAL]["totals"]
    assert {lab.get()[0] for _ in range(5)} == {200}
    lab.module("haproxy_server", servers=lab.rows("ctl2"), state="drained")
    info = lab.module("haproxy_info", sockets=["/nonexistent/a.sock", lab.admin], socket=None)

    assert info["changed"] is False
    assert info["socket"] == lab.admin
    assert info["level"] == "admin"
    assert info["version"] == lab.version
    assert info["version_full"].startswith(lab.version + ".")
    assert info["pid"] > 0 and info["uptime"] >= 0 and info["started_at"] > 0
    assert set(info["frontends"]) == {"internal", "external", "plain"}
    assert set(info["backends"]) == {INTERNAL, "keystone_external_back", "follower_back", "plain_back"}
    servers = info["backends"][INTERNAL]["servers"]
    assert (servers["ctl1"]["status"], servers["ctl1"]["state"], servers["ctl1"]["admin"]) == ("UP", "up", "ready")
    assert (servers["ctl2"]["status"], servers["ctl2"]["state"], servers["ctl2"]["admin"]) == (
        "MAINT",
        "maint",
        "maint",
    )
    assert servers["ctl1"]["checked"] and servers["ctl1"]["usable"] and not servers["ctl2"]["usable"]
    assert servers["ctl1"]["check_status"] == "L7OK"
    assert info["backends"]["plain_back"]["servers"]["ctl1"]["state"] == "no_check"
    follower = info["backends"]["follower_back"]["servers"]
    assert follower["ctl1"]["tracked"] == f"{INTERNAL}/ctl1"
    assert follower["ctl2"]["state"] == "maint"
    assert info["backends"][INTERNAL]["totals"]["hrsp_2xx"] == before["hrsp_2xx"] + 5
    assert info["backends"][INTERNAL]["totals"]["hrsp_5xx"] == 0
    assert info["old_workers"] == []
    assert info["config_changed_since_start"] is None


def test_a_configuration_that_changed_since_the_start(lab: Lab) -> None:
    # A file's time and HAProxy's start are compared in whole seconds: leave no doubt about either.
    started = lab.module("haproxy_info")["started_at"]
    os.utime(lab.config, (started - 60, started - 60))
    same = lab.module("haproxy_info", config=str(lab.config))
    assert same["config_changed_since_start"] is False
    assert same["config_differences"] == []

    changed = lab.config.read_text().replace("server ctl2 unix@", "server ctl3 unix@")
    lab.config.write_text(changed)
    os.utime(lab.config, (started + 60, started + 60))
    other = lab.module("haproxy_info", config=str(lab.config))
    assert other["config_changed_since_start"] is True
    assert f"{lab.config}: is newer than the running worker" in other["config_differences"]
    assert f"{INTERNAL}/ctl3: is configured, but does not run" in other["config_differences"]
    assert f"{INTERNAL}/ctl2: runs, but is not configured; a reload loses it" in other["config_differences"]


def test_a_configuration_that_is_not_there(lab: Lab) -> None:
    result = lab.module("haproxy_info", config=str(lab.home / "nothing.cfg"))
    assert result["failed"]
    assert result["msg"].endswith("nothing.cfg: can't be read (No such file or directory)")


def test_what_passes_through_and_what_there_is_room_for(lab: Lab) -> None:
    asking = threading.Event()

    def ask() -> None:
        while not asking.is_set():
            lab.get()

    client = threading.Thread(target=ask, daemon=True)
    client.start()
    try:
        seen = lab.module("haproxy_info", config=str(lab.config), measure=1)["traffic"]
    finally:
        asking.set()
        client.join()

    assert seen["backends"][INTERNAL]["rate"] > 0
    assert seen["backends"]["plain_back"]["rate"] == 0
    assert seen["backends"][INTERNAL]["mode"] == "http"
    assert seen["backends"][INTERNAL]["frontends"] == ["internal"]
    assert seen["backends"]["follower_back"]["frontends"] == []
    assert seen["backends"][INTERNAL]["slowest"] >= 0
    assert seen["frontends"]["internal"]["timeout"] == 300
    assert seen["frontends"]["internal"]["url"] is None
    assert 0 < seen["frontends"]["internal"]["maxconn"] <= seen["maxconn"]
    assert seen["memory_room"] > 0
    assert seen["holds"] is None

    unread = lab.module("haproxy_info", measure=0.1)["traffic"]
    assert unread["backends"][INTERNAL]["frontends"] is None
    assert unread["frontends"]["internal"]["timeout"] is None
    assert lab.module("haproxy_info")["traffic"] is None


def test_requests_in_progress_are_counted(lab: Lab) -> None:
    slow = lab.slow_request("ctl1")
    seen = lab.module("haproxy_info", measure=0.1)["traffic"]["backends"][INTERNAL]
    assert seen["concurrency"] == 1
    lab.applications["ctl1"].gate.set()
    assert slow.result()[0] == 200
    after = lab.module("haproxy_info", measure=0.1)["traffic"]["backends"][INTERNAL]
    assert after["concurrency"] == 0
    assert after["slowest"] > 0


def test_what_can_be_held(hold_lab: Lab) -> None:
    seen = hold_lab.module("haproxy_info", config=str(hold_lab.config), measure=0.1)["traffic"]
    assert seen["holds"] == ["keystone", "mariadb"]
    assert seen["backends"]["keystone_back"]["frontends"] == ["external", "internal", "ordered", "plain"]
    assert seen["backends"]["tcp_back"]["mode"] == "tcp"
    assert seen["frontends"]["internal"]["maxconn"] == 2000


def test_room_on_a_host_with_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "ansible_collections.rondo.upgrade.plugins.modules.room_info"],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": {"ports": [[port, port], [1, 1]], "path": "/nowhere/at/all"}}),
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
        )
    room = json.loads(done.stdout)
    assert room["ports"] == [port]
    assert room["memory"] > 0 and room["disk"] > 0


def rose(*readings: dict[str, Any]) -> dict[str, Any]:
    """What the report makes of one balancer's readings."""
    first, *between, last = readings
    found: dict[str, Any] = counted({"lb": first}, [("lb", each) for each in between], {"lb": last}, [INTERNAL])
    return found["by_balancer"]["lb"]


def refused(lab: Lab, times: int) -> None:
    for name in lab.applications:
        lab.cli(f"set server {INTERNAL}/{name} state maint")
    assert [lab.get()[0] for _ in range(times)] == [503] * times
    for name in lab.applications:
        lab.cli(f"set server {INTERNAL}/{name} state ready")


@pytest.mark.parametrize("asks_old_workers", [True, False])
def test_what_was_counted_before_a_reload_is_counted_or_told_to_be_lost(lab: Lab, asks_old_workers: bool) -> None:
    sockets = {"master_socket": lab.master} if asks_old_workers else {}
    before = lab.module("haproxy_info", **sockets)["counters"]
    refused(lab, 3)
    # What a job reads on its way.
    between = lab.module("haproxy_server", servers=lab.rows("ctl1"), state="ready", **sockets)["counters"]
    refused(lab, 2)
    slow = lab.slow_request("ctl1")
    lab.reload()
    refused(lab, 1)
    after = lab.module("haproxy_info", **sockets)["counters"]
    lab.applications["ctl1"].gate.set()
    assert slow.result(300)[0] == 200

    found = rose(before, between, after)
    if asks_old_workers:
        assert (found["hrsp_5xx"], found["note"]) == (3 + 2 + 1, "")
    else:
        assert found["hrsp_5xx"] == 3 + 1
        assert found["note"].endswith("what its old worker counted after our last look is lost")


def test_a_restart_is_seen_though_the_pids_may_be_the_same(lab: Lab) -> None:
    before = lab.module("haproxy_info")["counters"]
    # Whole seconds may be all that tells the two apart.
    time.sleep(max(0.0, before["workers"][0]["started_at"] + 2 - time.time()))
    lab.restart()
    after = lab.module("haproxy_info")["counters"]
    assert before["workers"][0]["started_at"] < after["workers"][0]["started_at"]
    assert "restarted" in rose(before, after)["note"]
