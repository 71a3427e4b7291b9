# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a real HAProxy says of itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Lab

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
