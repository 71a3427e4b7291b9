# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests wait inside a real HAProxy while their service is away, and none is lost.

No test here depends on how long something takes: a hold that is released by the test has a deadline that is never
reached, and one that ends at its deadline is repeated with a later one until its requests came in time.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import HoldLab

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"), "ANSIBLE_LOCALHOST_WARNING": "false"}
NEVER = 1000
# Such a deadline is far beyond what any arithmetic allows.
FAR = {"force": True}


def wait_for(happened, what: str) -> None:
    deadline = time.monotonic() + 400
    while not happened():
        assert time.monotonic() < deadline, f"never seen: {what}"
        time.sleep(0.05)


def answers(futures: list[Any]) -> list[tuple[int, str | None]]:
    return [future.result(600) for future in futures]


def held_until_its_deadline(lab: HoldLab, requests: int, **options: Any) -> list[tuple[int, str | None]]:
    """The answers to requests that all came while a hold was on that nobody released."""
    for deadline in (1.5, 6, 24, 96):
        held = lab.hold("held", deadline=deadline, **FAR, **options)
        assert held["changed"], held
        seen = answers(lab.requests(requests))
        wait_for(lambda: lab.hold_status()["state"] == "off", "the end of the hold")
        if lab.hold_status()["held"] == str(requests):
            return seen
    pytest.fail("the requests never came in time")


def test_new_and_kept_requests_wait_while_all_servers_are_away(hold_lab: HoldLab) -> None:
    kept = [hold_lab.kept() for _ in range(5)] + [hold_lab.kept("external")]
    served = sum(application.served for application in hold_lab.applications.values())
    held = hold_lab.hold("held", deadline=NEVER, **FAR)
    assert held["changed"] and held["way"] == "lua" and held["hold"]["state"] == "on"
    hold_lab.servers("maint")
    waiting = hold_lab.requests(20, kept) + hold_lab.requests(4, frontend="external")
    hold_lab.waiting(30)
    assert not any(future.done() for future in waiting)
    assert sum(application.served for application in hold_lab.applications.values()) == served

    hold_lab.servers("ready")
    released = hold_lab.hold("released")
    assert {status for status, _retry in answers(waiting)} == {200}
    assert released["changed"]
    hold = released["hold"]
    assert (hold["held"], hold["released"], hold["rejected"], hold["greatest"], hold["ended"]) == (30, 30, 0, 30, "off")
    assert hold["waiting"] == 0 and hold["longest"] > 0
    assert sum(application.served for application in hold_lab.applications.values()) == served + 30
    assert hold_lab.get()[0] == 200


def test_a_hold_that_nobody_ends_releases_at_its_deadline(hold_lab: HoldLab) -> None:
    assert held_until_its_deadline(hold_lab, 5) == [(200, None)] * 5
    status = hold_lab.hold("status")["hold"]
    assert (status["ended"], status["released"], status["rejected"]) == ("deadline", 5, 0)


def test_at_the_deadline_requests_are_rejected_with_retry_after_if_so_chosen(hold_lab: HoldLab) -> None:
    assert held_until_its_deadline(hold_lab, 5, on_deadline="reject", retry_after=7) == [(503, "7")] * 5
    status = hold_lab.hold("status")["hold"]
    assert (status["ended"], status["released"], status["rejected"]) == ("deadline", 0, 5)
    assert hold_lab.get()[0] == 200


def test_a_controller_that_is_killed_while_it_holds_leaves_a_hold_that_ends(hold_lab: HoldLab) -> None:
    for deadline in (1, 4, 16, 64):
        controller = hold_lab.begin("haproxy_hold", service="keystone", state="held", deadline=deadline, **FAR)
        wait_for(
            lambda controller=controller: controller.poll() is not None or hold_lab.hold_status()["state"] == "on",
            "the hold",
        )
        controller.kill()
        controller.communicate()
        assert answers(hold_lab.requests(3)) == [(200, None)] * 3
        wait_for(lambda: hold_lab.hold_status()["state"] == "off", "the end of the hold")
        if hold_lab.hold_status()["held"] == "3":
            break
    assert hold_lab.hold_status()["held"] == "3"
    assert hold_lab.hold_status()["ended"] == "deadline"


def test_beyond_the_limit_requests_are_rejected_and_the_hold_goes_on(hold_lab: HoldLab) -> None:
    held = hold_lab.hold("held", deadline=NEVER, max_waiting=3, on_limit="reject", retry_after=2, **FAR)
    assert held["hold"]["max_waiting"] == 3
    waiting = hold_lab.requests(3)
    hold_lab.waiting(3)
    assert answers(hold_lab.requests(2)) == [(503, "2")] * 2
    assert not any(future.done() for future in waiting)
    hold_lab.hold("released")
    assert answers(waiting) == [(200, None)] * 3


def test_beyond_the_limit_all_are_released_early_if_so_chosen(hold_lab: HoldLab) -> None:
    hold_lab.hold("held", deadline=NEVER, max_waiting=3, **FAR)
    waiting = hold_lab.requests(3)
    hold_lab.waiting(3)
    assert answers(hold_lab.requests(1) + waiting) == [(200, None)] * 4
    late = hold_lab.hold("released")
    assert not late["changed"] and late["hold"]["ended"] == "max_waiting"


def test_the_balancer_ends_a_hold_that_takes_too_much_memory(second_hold_lab: HoldLab) -> None:
    # In a fresh process, which keeps no memory of earlier requests that it could use again.
    lab = second_hold_lab
    assert lab.cli(f"rondo hold keystone on {NEVER} release max_memory=100000").startswith("ok")
    assert answers(lab.requests(40)) == [(200, None)] * 40
    status = lab.hold("status")["hold"]
    assert status["ended"] == "max_memory" and status["memory"] >= 100000


def test_the_self_test_holds_its_own_request_and_no_other(hold_lab: HoldLab, load) -> None:
    test = {"url": "http://keystone/", "unix": str(hold_lab.home / "internal.sock"), "timeout": 60}
    with load(hold_lab.get) as clients:
        wait_for(lambda: len(clients.answers) >= 20, "20 answers before")
        result = hold_lab.hold("held", deadline=NEVER, self_test=test, **FAR)
        assert result["self_test"]["held"] and result["self_test"]["status"] == 200
        hold_lab.waiting(3)
        released = hold_lab.hold("released")
        before = len(clients.answers)
        wait_for(lambda: len(clients.answers) >= before + 20, "20 answers after")
    assert clients.failed == []
    assert released["hold"]["rejected"] == 0
    assert hold_lab.hold_status()["testing"] == "0"


def test_the_self_test_is_about_the_hold_and_not_about_the_service(hold_lab: HoldLab) -> None:
    test = {"url": "http://keystone/", "unix": str(hold_lab.home / "internal.sock"), "timeout": 60}
    hold_lab.servers("maint")
    result = hold_lab.hold("held", deadline=NEVER, self_test=test, **FAR)
    assert result["self_test"]["held"] and result["self_test"]["status"] == 503
    hold_lab.hold("released")


def test_a_frontend_without_the_action_fails_the_self_test_and_is_not_held(hold_lab: HoldLab) -> None:
    test = {"url": "http://keystone/", "unix": str(hold_lab.home / "plain.sock"), "timeout": 60}
    result = hold_lab.hold("held", deadline=NEVER, self_test=test, **FAR)
    assert result["failed"] and "was answered (200) without being held" in result["msg"]
    assert hold_lab.hold_status()["state"] == "off"


def test_a_header_that_names_no_test_holds_nothing(hold_lab: HoldLab) -> None:
    assert hold_lab.cli("rondo hold keystone test " + "a" * 32 + " 60").startswith("ok")
    for path in ("internal", "external"):
        assert hold_lab.get(frontend=path)[0] == 200
    assert hold_lab.cli("rondo hold keystone test short 60").startswith("refused: TOKEN")
    assert hold_lab.cli("rondo hold keystone untest " + "a" * 32).startswith("ok")


def test_numbers_in_the_way_are_named_before_anything_is_held(hold_lab: HoldLab) -> None:
    options = {
        "deadline": 40,
        "rate": 100,
        "frontends": ["internal"],
        "config": str(hold_lab.config),
        "timeouts": {"the clients' own": 30},
        "max_memory": 60,
    }
    for check_mode in (True, False):
        refused = hold_lab.hold("held", **options, check_mode=check_mode)
        assert refused["failed"] and not refused["changed"]
        assert "the clients' own is in the way: a hold of 40 s at " in refused["msg"]
        assert "maxconn of frontend internal is in the way" in refused["msg"]
        assert "max_memory is in the way" in refused["msg"]
        assert "timeout client of internal" not in refused["msg"]
    assert hold_lab.hold_status()["state"] == "off"

    forced = hold_lab.hold("held", **options, force=True)
    assert forced["changed"] and "held by force though" in str(forced["warnings"])
    rows = {row["name"]: row for row in forced["arithmetic"]}
    assert rows["timeout client of internal"]["limit"] == 300 and rows["timeout client of internal"]["holds"]
    assert not rows["the clients' own"]["holds"]
    assert 0 < forced["hold"]["max_waiting"] < 2000


def test_check_mode_holds_nothing_and_a_second_run_changes_nothing(hold_lab: HoldLab) -> None:
    options = {"deadline": NEVER, **FAR}
    off, on = {"keystone": "off"}, {"keystone": "on"}
    would = hold_lab.hold("held", **options, check_mode=True)
    assert would["changed"] and would["diff"] == {"before": off, "after": on}
    assert hold_lab.hold_status()["state"] == "off"
    did = hold_lab.hold("held", **options)
    assert did["changed"] and did["diff"] == would["diff"]
    again = hold_lab.hold("held", deadline=2 * NEVER, **FAR)
    assert not again["changed"] and again["hold"]["left"] <= NEVER

    would = hold_lab.hold("released", check_mode=True)
    assert would["changed"] and would["diff"] == {"before": on, "after": off}
    assert hold_lab.hold_status()["state"] == "on"
    assert hold_lab.hold("released")["changed"]
    assert not hold_lab.hold("released")["changed"]


def test_a_hold_of_another_owner_is_not_taken_for_ones_own(hold_lab: HoldLab) -> None:
    path = str(hold_lab.home / "fence")
    assert hold_lab.cli(f"rondo hold keystone on {NEVER} release owner=deploy2").startswith("ok")
    refused = hold_lab.hold("held", deadline=NEVER, **FAR)
    assert refused["failed"] and "keystone is held already by deploy2" in refused["msg"]
    again = hold_lab.cli(f"rondo hold keystone on {2 * NEVER} release")
    assert again.startswith("refused: keystone is held already by deploy2")

    for token in (3, 4):
        hold_lab.module("haproxy_fence", socket=None, path=path, state="claimed", owner="deploy1", token=token)
    fenced = hold_lab.hold("released", fence={"path": path, "token": 3})
    assert fenced["failed"] and "deploy1 has taken over with token 4" in fenced["msg"]
    assert hold_lab.hold_status()["state"] == "on"


def test_what_an_old_worker_holds_after_a_reload_is_released_too(hold_lab: HoldLab) -> None:
    hold_lab.hold("held", deadline=NEVER, **FAR)
    waiting = hold_lab.requests(5)
    hold_lab.waiting(5)
    hold_lab.reload()
    assert hold_lab.get()[0] == 200
    assert not any(future.done() for future in waiting)
    released = hold_lab.hold("released")
    assert released["changed"]
    assert answers(waiting) == [(200, None)] * 5


def test_two_balancers_hold_and_release_the_same_service(hold_lab: HoldLab, second_hold_lab: HoldLab) -> None:
    labs = (hold_lab, second_hold_lab)
    waiting = []
    for lab in labs:
        assert lab.hold("held", deadline=NEVER, **FAR)["changed"]
        waiting += lab.requests(5)
    for lab in labs:
        lab.waiting(5)
    assert not any(future.done() for future in waiting)
    assert [lab.hold("released")["hold"]["released"] for lab in labs] == [5, 5]
    assert answers(waiting) == [(200, None)] * 10


def test_new_tcp_connections_are_held_and_released_or_closed(hold_lab: HoldLab) -> None:
    for verb, status in (("", 200), (" reject", 0)):
        assert hold_lab.hold("held", service="mariadb", deadline=NEVER, **FAR)["changed"]
        waiting = hold_lab.requests(5, frontend="mariadb")
        hold_lab.waiting(5, "mariadb")
        assert hold_lab.get()[0] == 200
        assert hold_lab.cli(f"rondo hold mariadb off{verb}").startswith("ok")
        assert answers(waiting) == [(status, None)] * 5
        wait_for(lambda: hold_lab.hold_status("mariadb")["state"] == "off", "mariadb not held")


def maxconn_of(lab: HoldLab, frontend: str) -> str:
    rows = [line.split(",") for line in lab.cli("show stat").splitlines()]
    column = rows[0].index("slim")
    return next(row[column] for row in rows if row[:2] == [frontend, "FRONTEND"])


def test_requests_go_in_the_order_in_which_they_came(single_thread_lab: HoldLab) -> None:
    """With several threads those on different ones may swap where the machine is short of processors."""
    lab = single_thread_lab
    lab.hold("held", deadline=NEVER, **FAR)
    waiting = []
    for count in range(1, 31):
        waiting.append(lab.pool.submit(lab.turn, lab.connection("ordered")))
        lab.waiting(count)
    lab.hold("released")
    turns = [future.result(600) for future in waiting]
    pairs = list(itertools.combinations(turns, 2))
    # Those that wake up in the same millisecond may swap; half would be chance.
    assert sum(first > second for first, second in pairs) <= 0.1 * len(pairs), turns


def test_a_hold_waits_for_what_is_in_flight_and_leaves_the_servers_alone(hold_lab: HoldLab) -> None:
    rows = [{"backend": "keystone_back", "name": name} for name in ("ctl1", "ctl2")]
    for application in hold_lab.applications.values():
        application.gate.clear()
    slow = hold_lab.pool.submit(hold_lab.outcome, "/slow")
    wait_for(lambda: any(one.waiting for one in hold_lab.applications.values()), "a request in flight")
    holding = hold_lab.begin(
        "haproxy_hold", service="keystone", state="held", deadline=NEVER, drain=rows, drain_timeout=NEVER, **FAR
    )
    wait_for(lambda: hold_lab.hold_status()["state"] == "on", "the hold")
    assert holding.poll() is None
    for application in hold_lab.applications.values():
        application.gate.set()
    held = hold_lab.end(holding)
    assert slow.result(600)[0] == 200
    assert held["closed_sessions"] == 0 and held["drained"] > 0, held
    assert {hold_lab.status("keystone_back", row["name"]) for row in rows} == {"no check"}
    for application in hold_lab.applications.values():
        application.gate.clear()
        application.waiting = 0


def test_established_tcp_connections_are_drained_with_a_deadline_and_counted(hold_lab: HoldLab) -> None:
    for application in hold_lab.applications.values():
        application.gate.clear()
    established = hold_lab.connection("mariadb")
    established.request("GET", "/slow")
    wait_for(lambda: any(one.waiting for one in hold_lab.applications.values()), "an established connection")
    rows = [{"backend": "tcp_back", "name": "ctl1"}]
    held = hold_lab.hold("held", service="mariadb", deadline=NEVER, drain=rows, drain_timeout=0.5, **FAR)
    assert held["closed_sessions"] == 1, held
    with pytest.raises((OSError, http.client.HTTPException)):
        established.getresponse()
    hold_lab.hold("released", service="mariadb")
    for application in hold_lab.applications.values():
        application.gate.set()
        application.waiting = 0


def test_maxconn_holds_where_it_is_safe_and_is_refused_where_haproxy_deadlocks(hold_lab: HoldLab) -> None:
    before = maxconn_of(hold_lab, "rabbitmq")
    options = {"service": "rabbitmq", "frontends": ["rabbitmq"], **FAR}
    result = hold_lab.hold("held", deadline=NEVER, **options)
    if hold_lab.version == "2.6":
        assert result["failed"] and "deadlocks when a frontend's maxconn is raised again" in result["msg"]
        assert "RONDO_HOLD in HAProxy's configuration does not name it, but keystone, mariadb" in result["msg"]
        assert maxconn_of(hold_lab, "rabbitmq") == before
        return
    assert result["changed"] and result["way"] == "maxconn"
    waiting = hold_lab.requests(5, frontend="rabbitmq")
    assert maxconn_of(hold_lab, "rabbitmq") == "0"
    assert not hold_lab.hold("held", deadline=NEVER, **options)["changed"]
    assert hold_lab.hold("status", **options)["hold"]["state"] == "on"
    assert not any(future.done() for future in waiting)
    assert hold_lab.hold("released", **options)["changed"]
    assert not hold_lab.hold("released", **options)["changed"]
    assert answers(waiting) == [(200, None)] * 5
    assert maxconn_of(hold_lab, "rabbitmq") == before

    assert hold_lab.hold("held", deadline=2, **options)["changed"]
    assert answers(hold_lab.requests(5, frontend="rabbitmq")) == [(200, None)] * 5
    wait_for(lambda: maxconn_of(hold_lab, "rabbitmq") == before, "the end of the hold")
    wait_for(lambda: hold_lab.hold("status", **options)["hold"]["state"] == "off", "the hold's file gone")


def test_maxconn_is_no_way_to_hold_http(hold_lab: HoldLab) -> None:
    refused = hold_lab.hold("held", deadline=5, way="maxconn", frontends=["internal"], **FAR)
    assert refused["failed"]
    assert "(internal)" in refused["msg"] if hold_lab.version == "3.0" else "2726" in refused["msg"]


def test_a_load_for_each_thread_is_refused_when_haproxy_starts(hold_lab: HoldLab) -> None:
    config = hold_lab.home / "per-thread.cfg"
    config.write_text(hold_lab.config.read_text().replace("lua-load ", "lua-load-per-thread "))
    done = subprocess.run(
        ["docker", "exec", hold_lab.container, "haproxy", "-c", "-f", str(config)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode != 0
    assert "needs `lua-load`" in done.stdout + done.stderr


def test_wrong_names_are_found_before_anything_is_touched(hold_lab: HoldLab) -> None:
    unknown = hold_lab.hold("held", service="keystne", deadline=5, way="lua", **FAR)
    assert unknown["failed"] and "does not name it, but keystone, mariadb" in unknown["msg"]
    frontend = hold_lab.hold("held", deadline=5, frontends=["internl"], **FAR)
    assert frontend["failed"] and "internl: no such frontend; there is external, internal" in frontend["msg"]
    injected = hold_lab.hold("held", service="keystone on;", deadline=5)
    assert injected["failed"] and "letters, digits" in injected["msg"]
    everything = hold_lab.module("haproxy_hold")
    assert sorted(everything["services"]) == ["keystone", "mariadb"] and everything["way"] == "lua"


INVENTORY = """
balancers:
  hosts:
    lb1:
      ansible_connection: local
      ansible_python_interpreter: "{python}"
      ansible_remote_tmp: "{home}/tmp"
      upgrade_haproxy_socket: "{home}/admin.sock"
      upgrade_haproxy_master_socket: "{home}/master.sock"
      upgrade_haproxy_config: "{home}/haproxy.cfg"
      hold_lua: "{home}/installed.lua"
      hold_config: "{home}/haproxy.cfg"
      hold_check_command: "docker exec {container} haproxy -c -f %s"
      hold_reload_command: [docker, kill, --signal, USR2, "{container}"]
      hold_service: keystone
      hold_services:
        keystone: {{frontends: [internal, external]}}
        mariadb: {{frontends: [mariadb], mode: tcp}}
"""
PLAYBOOK = """
- hosts: balancers
  gather_facts: false
  tasks:
    - include_role: {{name: rondo.upgrade.hold}}
      vars: {{hold_state: installed}}
    - set_fact: {{first: "{{{{ hold_written }}}}"}}
    - include_role: {{name: rondo.upgrade.hold}}
      vars: {{hold_state: installed}}
    - assert: {{that: [first is changed, hold_written is not changed, hold_lua_copied is not changed]}}
    - include_role: {{name: rondo.upgrade.hold}}
      vars: {{hold_state: held, hold_deadline: {never}, hold_force: true}}
    - wait_for: {{path: "{home}/go", timeout: 600}}
    - include_role: {{name: rondo.upgrade.hold}}
      vars: {{hold_state: released}}
    - copy: {{content: "{{{{ hold_summary | to_json }}}}", dest: "{home}/summary.json"}}
"""


def test_the_role_installs_holds_on_all_balancers_and_releases(plain_lab: HoldLab) -> None:
    lab = plain_lab
    assert lab.hold("status", service=None)["way"] == "none"
    refused = lab.hold("held", deadline=5)
    assert refused["failed"] and "HAProxy has no command `rondo hold`" in refused["msg"]
    (lab.home / "hosts.yml").write_text(INVENTORY.format(home=lab.home, container=lab.container, python=sys.executable))
    (lab.home / "play.yml").write_text(PLAYBOOK.format(home=lab.home, never=NEVER))
    playing = subprocess.Popen(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", "hosts.yml", "play.yml"],
        cwd=lab.home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **ENVIRONMENT},
    )  # fmt: skip
    try:
        wait_for(lambda: playing.poll() is not None or "state=on" in lab.cli("rondo hold", quiet=True), "the hold")
        assert playing.poll() is None, playing.communicate()[0]
        waiting = lab.requests(5, frontend="external")
        lab.waiting(5)
        (lab.home / "go").touch()
        said = playing.communicate(timeout=600)[0]
    finally:
        playing.kill()
    assert playing.returncode == 0, said
    assert answers(waiting) == [(200, None)] * 5
    summary = json.loads((lab.home / "summary.json").read_text())
    assert (summary["held"], summary["greatest"], summary["rejected"], summary["ended"]) == (5, 5, 0, ["off"])


ALL_OR_NONE = """
- hosts: localhost
  gather_facts: false
  tasks:
    - include_role: {name: rondo.upgrade.hold}
      vars: {hold_state: held, hold_service: keystone, hold_deadline: 1000, hold_force: true}
"""


@pytest.mark.parametrize("shared_hold_lab", ["3.0"], indirect=True)
def test_the_role_holds_on_all_balancers_or_on_none(hold_lab: HoldLab, second_hold_lab: HoldLab) -> None:
    hosts = {}
    # The second one's self-test goes through a frontend without the action: no arithmetic beforehand finds that.
    for name, lab, frontend in (("lb1", hold_lab, "internal"), ("lb2", second_hold_lab, "plain")):
        hosts[name] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "ansible_remote_tmp": f"{lab.home}/tmp",
            "upgrade_haproxy_socket": lab.admin,
            "hold_self_test": {"url": "http://keystone/", "unix": f"{lab.home}/{frontend}.sock", "timeout": 60},
        }
    (hold_lab.home / "both.json").write_text(json.dumps({"balancers": {"hosts": hosts}}))
    (hold_lab.home / "both.yml").write_text(ALL_OR_NONE)
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", "both.json", "both.yml"],
        cwd=hold_lab.home, capture_output=True, text=True, check=False, timeout=600, env={**os.environ, **ENVIRONMENT},
    )  # fmt: skip
    assert done.returncode != 0
    assert "keystone is held nowhere" in done.stdout and "without being held" in done.stdout, done.stdout + done.stderr
    # Held, and released again.
    assert done.stdout.count("changed: [localhost -> lb1]") == 2, done.stdout
    assert hold_lab.hold_status()["ended"] == "off"
    assert second_hold_lab.hold_status()["ended"] == "never"
