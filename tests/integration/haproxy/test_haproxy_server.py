# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers leave a real HAProxy and return to it, and no request is lost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Lab

INTERNAL = "keystone_internal_back"
EXTERNAL = "keystone_external_back"


def wait_for(lab: Lab, happened, what: str) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline, f"never seen: {what}"
        time.sleep(0.05)


def test_a_whole_cycle_under_load_loses_no_request(lab: Lab, load) -> None:
    ctl1 = lab.applications["ctl1"]
    with load(lab.get) as clients:
        wait_for(lab, lambda: len(clients.answers) >= 50, "50 answers before the cycle")
        drained = lab.module("haproxy_server", servers=lab.rows("ctl1"), state="drained", timeout=100)
        ctl1.stop()
        served = ctl1.served
        before = len(clients.answers)
        wait_for(lab, lambda: len(clients.answers) >= before + 50, "50 answers while ctl1 is away")
        assert ctl1.served == served
        ctl1.start()
        returned = lab.module(
            "haproxy_server", servers=lab.rows("ctl1"), state="ready", timeout=100, min_healthy_time=0.5
        )
        wait_for(lab, lambda: ctl1.served > served, "a request in ctl1 again")
        wait_for(lab, lambda: len(clients.answers) >= 200, "200 answers in all")

    assert clients.failed == []
    assert drained["changed"] and drained["closed_sessions"] == 0
    assert [row["status"] for row in drained["servers"]] == ["MAINT", "MAINT"]
    assert returned["changed"] and returned["unchecked"] == []
    assert [(row["before"], row["status"]) for row in returned["servers"]] == [("MAINT", "UP"), ("MAINT", "UP")]
    assert returned["seconds_waited"] >= 0.5


def test_a_dead_application_is_never_returned(lab: Lab, load) -> None:
    lab.module("haproxy_server", servers=lab.rows("ctl1"), state="drained")
    lab.applications["ctl1"].stop()
    with load(lab.get) as clients:
        result = lab.module("haproxy_server", servers=lab.rows("ctl1"), state="ready", timeout=2)
        before = len(clients.answers)
        wait_for(lab, lambda: len(clients.answers) >= before + 20, "20 answers afterwards")

    assert clients.failed == []
    assert result["failed"]
    assert "keystone_internal_back/ctl1 is DOWN" in result["msg"]
    assert "Back in maintenance: keystone_internal_back/ctl1, keystone_external_back/ctl1" in result["msg"]
    assert lab.status(INTERNAL, "ctl1") == lab.status(EXTERNAL, "ctl1") == "MAINT"


def test_one_that_dies_again_within_min_healthy_time_is_not_returned(lab: Lab) -> None:
    lab.module("haproxy_server", servers=lab.rows("ctl1"), state="drained")
    returning = lab.begin("haproxy_server", servers=lab.rows("ctl1"), state="ready", timeout=3, min_healthy_time=250)
    wait_for(lab, lambda: lab.status(INTERNAL, "ctl1") == "UP" or returning.poll() is not None, "ctl1 up")
    lab.applications["ctl1"].stop()
    result = lab.end(returning)

    assert result["failed"] and result["changed"]
    assert "not up within 3 s and for 250 s then" in result["msg"]
    assert lab.status(INTERNAL, "ctl1") == "MAINT"


def test_a_drain_waits_for_the_request_in_flight(lab: Lab) -> None:
    slow = lab.slow_request("ctl1")
    draining = lab.begin("haproxy_server", servers=lab.rows("ctl1"), state="drained", timeout=200)
    wait_for(lab, lambda: lab.status(INTERNAL, "ctl1") == "DRAIN", "ctl1 in drain")
    assert {lab.get() for _ in range(6)} == {(200, "ctl2")}
    assert draining.poll() is None
    assert lab.status(INTERNAL, "ctl1") == "DRAIN"

    lab.applications["ctl1"].gate.set()
    result = lab.end(draining)
    assert slow.result(120) == (200, "ctl1")
    assert result["closed_sessions"] == 0
    assert lab.status(INTERNAL, "ctl1") == "MAINT"


def test_sessions_that_are_left_are_closed_and_counted_or_reported(lab: Lab) -> None:
    slow = lab.slow_request("ctl1")
    kept = lab.module("haproxy_server", servers=lab.rows("ctl1"), state="drained", timeout=0.5, close_sessions=False)
    assert kept["failed"] and kept["changed"]
    assert "keystone_internal_back/ctl1 has 1" in kept["msg"]
    assert lab.status(INTERNAL, "ctl1") == "DRAIN"
    assert not slow.done()

    closed = lab.module("haproxy_server", servers=lab.rows("ctl1"), state="drained", timeout=0.5)
    assert closed["closed_sessions"] == 1
    assert [row["closed_sessions"] for row in closed["servers"]] == [1, 0]
    assert slow.result(120)[0] != 200
    assert lab.status(INTERNAL, "ctl1") == "MAINT"


def test_a_drain_sees_old_workers_and_puts_right_what_a_reload_forgot(lab: Lab) -> None:
    slow = lab.slow_request("ctl1")
    options = {"servers": lab.rows("ctl1"), "state": "drained", "master_socket": lab.master}
    draining = lab.begin("haproxy_server", **options, timeout=200)
    wait_for(lab, lambda: lab.status(EXTERNAL, "ctl1") == "DRAIN", "ctl1 in drain")
    lab.reload()
    wait_for(lab, lambda: lab.status(INTERNAL, "ctl1") == "DRAIN", "ctl1 in drain again, in the new worker")
    assert draining.poll() is None

    info = lab.module("haproxy_info", master_socket=lab.master)
    assert len(info["old_workers"]) == 1
    lab.applications["ctl1"].gate.set()
    result = lab.end(draining)
    assert slow.result(120) == (200, "ctl1")
    assert set(result["restored"]) <= {f"{INTERNAL}/ctl1", f"{EXTERNAL}/ctl1"} and result["restored"]
    assert result["closed_sessions"] == 0
    assert lab.status(INTERNAL, "ctl1") == lab.status(EXTERNAL, "ctl1") == "MAINT"


def test_sessions_in_old_workers_are_closed_and_counted(lab: Lab) -> None:
    slow = lab.slow_request("ctl1")
    lab.reload()
    wait_for(lab, lab.all_up, "all servers up in the new worker")
    result = lab.module(
        "haproxy_server", servers=lab.rows("ctl1"), state="drained", timeout=0.5, master_socket=lab.master
    )
    assert result["closed_sessions"] == 1
    assert result["left_in_old_workers"] == 0
    assert slow.result(120)[0] != 200


def test_what_a_reload_forgot_is_put_right_by_the_runs_next_call(lab: Lab) -> None:
    fence = {"path": str(lab.home / "fence"), "token": 3}
    lab.module("haproxy_server", servers=lab.rows("ctl1"), state="drained", fence=fence)
    lab.reload()
    wait_for(lab, lab.all_up, "all servers up in the new worker")
    next_call = lab.module("haproxy_server", servers=lab.rows("ctl2"), state="ready", fence=fence)
    assert next_call["restored"] == [f"{EXTERNAL}/ctl1", f"{INTERNAL}/ctl1"]
    assert "it was put right" in str(next_call["warnings"])
    assert lab.status(INTERNAL, "ctl1") == lab.status(EXTERNAL, "ctl1") == "MAINT"

    lab.reload()
    wait_for(lab, lab.all_up, "all servers up in the new worker")
    returned = lab.module("haproxy_server", servers=lab.rows("ctl1"), state="ready", fence=fence)
    assert returned["changed"] and returned["restored"] == [f"{EXTERNAL}/ctl1", f"{INTERNAL}/ctl1"]
    assert lab.all_up()
    again = lab.module("haproxy_server", servers=lab.rows("ctl2"), state="ready", fence=fence)
    assert not again["changed"] and again["restored"] == []

    lab.module("haproxy_server", servers=lab.rows("ctl1"), state="drained", fence=fence)
    lab.reload()
    wait_for(lab, lab.all_up, "all servers up in the new worker")
    other = lab.module("haproxy_server", servers=lab.rows("ctl2"), state="ready", fence={**fence, "token": 4})
    assert other["restored"] == []
    assert lab.all_up()


def test_what_a_reload_forgets_while_a_call_waits_is_put_right_meanwhile(lab: Lab) -> None:
    fence = {"path": str(lab.home / "fence"), "token": 3}
    lab.module("haproxy_server", servers=lab.rows("ctl1"), state="drained", fence=fence)
    dwelling = lab.begin("haproxy_server", servers=lab.rows("ctl2"), state="ready", min_healthy_time=250, fence=fence)
    wait_for(lab, lambda: "ctl2" in (lab.home / "fence.taken").read_text(), "ctl2 on its way back")
    lab.reload()
    wait_for(lab, lambda: lab.status(INTERNAL, "ctl1") == lab.status(EXTERNAL, "ctl1") == "MAINT", "ctl1 out again")
    assert dwelling.poll() is None
    dwelling.kill()
    dwelling.wait()


def test_how_long_it_was_out_can_be_told_by_the_balancers_clock(lab: Lab) -> None:
    before = time.time()
    drained = lab.module("haproxy_server", servers=lab.rows("ctl1"), state="drained")
    returned = lab.module("haproxy_server", servers=lab.rows("ctl1"), state="ready", min_healthy_time=1)
    assert before < drained["out_at"] < returned["up_at"] < time.time() - 1
    assert lab.module("haproxy_server", servers=lab.rows("ctl1"), state="ready")["out_at"] is None


def test_a_drain_waits_until_a_member_that_failed_is_back(lab: Lab) -> None:
    options = {"servers": lab.rows("ctl1"), "state": "drained", "max_unavailable": 1}
    lab.applications["ctl2"].stop()
    wait_for(lab, lambda: lab.status(INTERNAL, "ctl2") == lab.status(EXTERNAL, "ctl2") == "DOWN", "ctl2 down")
    fence = {"path": str(lab.home / "fence"), "token": 3}
    told = lab.module("haproxy_server", servers=lab.rows("ctl1"), state="ready", fence=fence)
    assert {(row["backend"], row["name"], row["status"]) for row in told["down"]} == {
        (INTERNAL, "ctl2", "DOWN"),
        (EXTERNAL, "ctl2", "DOWN"),
    }
    refused = lab.module("haproxy_server", **options, timeout=0.5)
    assert refused["failed"] and not refused["changed"]
    assert "ctl2 is DOWN" in refused["msg"]

    draining = lab.begin("haproxy_server", **options, timeout=250)
    time.sleep(1)
    assert draining.poll() is None
    assert lab.status(INTERNAL, "ctl1") == lab.status(EXTERNAL, "ctl1") == "UP"
    lab.applications["ctl2"].start()
    assert lab.end(draining)["changed"]
    assert lab.status(INTERNAL, "ctl1") == lab.status(EXTERNAL, "ctl1") == "MAINT"


def test_the_last_usable_server_is_kept(lab: Lab) -> None:
    lab.module("haproxy_server", servers=lab.rows("ctl2", INTERNAL), state="maintenance")
    for check_mode in (True, False):
        refused = lab.module("haproxy_server", servers=lab.rows("ctl1"), state="drained", check_mode=check_mode)
        assert refused["failed"] and not refused["changed"]
        assert refused["msg"] == (
            "keystone_internal_back: no usable server would remain without ctl1 (ctl2 is MAINT); clients would get "
            "503. Return another one first, or set force_last"
        )
    assert lab.status(INTERNAL, "ctl1") == lab.status(EXTERNAL, "ctl1") == "UP"

    forced = lab.module("haproxy_server", servers=lab.rows("ctl1"), state="drained", force_last=True)
    assert forced["changed"]
    assert lab.get()[0] == 503


def test_two_calls_at_once_do_not_take_each_others_last_server(lab: Lab) -> None:
    both = [
        lab.begin("haproxy_server", servers=lab.rows(name), state="drained", answer_timeout=60)
        for name in ("ctl1", "ctl2")
    ]
    results = [lab.end(one) for one in both]
    assert sorted(bool(result.get("failed")) for result in results) == [False, True]
    assert lab.get()[0] == 200


def test_all_wrong_names_are_found_at_once_and_before_anything_is_touched(lab: Lab) -> None:
    servers = [
        *lab.rows("ctl1"),
        {"backend": "keystone_internal_bck", "name": "ctl1"},
        {"backend": EXTERNAL, "name": "clt2"},
    ]
    result = lab.module("haproxy_server", servers=servers, state="drained")
    assert result["failed"] and not result["changed"]
    first, second = result["msg"].splitlines()
    assert first.startswith("keystone_internal_bck/ctl1: no such backend; there is keystone_internal_back")
    assert second == "keystone_external_back/clt2: no such server; there is ctl2"
    assert lab.status(INTERNAL, "ctl1") == "UP"


def test_check_mode_shows_and_touches_nothing_and_a_second_run_changes_nothing(lab: Lab) -> None:
    names = [f"{INTERNAL}/ctl1", f"{EXTERNAL}/ctl1"]
    up, maint = dict.fromkeys(names, "UP"), dict.fromkeys(names, "MAINT")

    would = lab.module("haproxy_server", servers=lab.rows("ctl1"), state="drained", check_mode=True)
    assert would["changed"] and would["diff"] == {"before": up, "after": maint}
    assert lab.status(INTERNAL, "ctl1") == "UP"
    did = lab.module("haproxy_server", servers=lab.rows("ctl1"), state="drained")
    assert did["changed"] and did["diff"] == would["diff"]
    again = lab.module("haproxy_server", servers=lab.rows("ctl1"), state="drained")
    assert not again["changed"] and again["diff"] == {"before": maint, "after": maint}

    would = lab.module("haproxy_server", servers=lab.rows("ctl1"), state="ready", check_mode=True)
    assert would["changed"] and would["diff"] == {"before": maint, "after": up}
    assert lab.status(INTERNAL, "ctl1") == "MAINT"
    did = lab.module("haproxy_server", servers=lab.rows("ctl1"), state="ready")
    assert did["changed"] and did["diff"] == would["diff"]
    again = lab.module("haproxy_server", servers=lab.rows("ctl1"), state="ready")
    assert not again["changed"] and again["diff"] == {"before": up, "after": up}


def test_a_server_without_checks_is_returned_at_once_and_said_so(lab: Lab) -> None:
    rows = lab.rows("ctl1", "plain_back")
    lab.module("haproxy_server", servers=rows, state="drained")
    assert {lab.get(frontend="plain") for _ in range(4)} == {(200, "ctl2")}
    result = lab.module("haproxy_server", servers=rows, state="ready", min_healthy_time=250)
    assert result["changed"] and result["unchecked"] == ["plain_back/ctl1"]
    assert "does not check plain_back/ctl1" in str(result["warnings"])
    assert {lab.get(frontend="plain")[1] for _ in range(8)} == {"ctl1", "ctl2"}


def test_a_server_that_follows_another_returns_with_it(lab: Lab) -> None:
    rows = lab.rows("ctl1", INTERNAL, "follower_back")
    drained = lab.module("haproxy_server", servers=rows, state="drained")
    assert drained["changed"]
    result = lab.module("haproxy_server", servers=rows, state="ready")
    assert [row["status"] for row in result["servers"]] == ["UP", "UP"]
    assert result["unchecked"] == []


def test_a_socket_that_may_not_change_servers_is_found_before_the_drain(lab: Lab) -> None:
    result = lab.module(
        "haproxy_server",
        socket=str(lab.home / "operator.sock"),
        servers=lab.rows("ctl1"),
        state="drained",
        check_mode=True,
    )
    assert result["failed"]
    assert "its level is operator" in result["msg"]


def test_a_run_whose_fence_was_taken_over_changes_nothing(lab: Lab) -> None:
    path = str(lab.home / "fence")
    for token in (3, 4):
        claimed = lab.module("haproxy_fence", socket=None, path=path, state="claimed", owner="deploy1", token=token)
        assert claimed["changed"]
    fence = {"path": path, "token": 3}
    refused = lab.module("haproxy_server", servers=lab.rows("ctl1"), state="drained", fence=fence)
    assert refused["failed"] and "deploy1 has taken over with token 4" in refused["msg"]
    assert lab.status(INTERNAL, "ctl1") == "UP"

    allowed = lab.module("haproxy_server", servers=lab.rows("ctl1"), state="drained", fence={**fence, "token": 4})
    assert allowed["changed"]

    claim = {"socket": None, "path": path, "state": "claimed"}
    stranger = lab.module("haproxy_fence", **claim, owner="deploy2", token=5)
    assert stranger["failed"] and "start again with -e upgrade_takeover=true" in stranger["msg"]
    told = lab.module("haproxy_fence", **claim, owner="deploy2", token=5, takeover=True)
    assert "taken over from deploy1 (token 4)" in str(told["warnings"])
    released = lab.module("haproxy_fence", **{**claim, "state": "released"}, owner="deploy2", token=5)
    assert released["changed"] and released["fence"]["released"]
    asleep = lab.module("haproxy_server", servers=lab.rows("ctl1"), state="ready", fence={**fence, "token": 4})
    assert asleep["failed"] and "deploy2 has taken over with token 5" in asleep["msg"]
    assert lab.status(INTERNAL, "ctl1") == "MAINT"
