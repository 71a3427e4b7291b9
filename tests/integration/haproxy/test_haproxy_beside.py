# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Second copies in a real HAProxy: made known, given a share, switched back, taken out; with reloads in the middle."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import BesideLab, Load

HOME = ("ctl1", "ctl2")
COPIES = ("ctl1.rondo-beside", "ctl2.rondo-beside")
BACKENDS = ("keystone_internal_back", "keystone_external_back")
PATIENCE = 120.0


def wait_for(happened, what: str) -> None:
    deadline = time.monotonic() + PATIENCE * 3
    while not happened():
        assert time.monotonic() < deadline, f"never seen: {what}"
        time.sleep(0.05)


def test_a_whole_way_there_under_load_loses_no_request(beside_lab: BesideLab, load: type[Load]) -> None:
    lab = beside_lab
    with load(lab.get) as clients:
        known = lab.beside()
        assert known["changed"] and not known["reloaded"], known
        assert sorted(known["added"]) == sorted(f"{backend}/{name}" for backend in BACKENDS for name in COPIES)
        assert not any(application.served for application in lab.copies.values())
        assert not lab.beside()["changed"]

        for share in (10, 50):
            moved = lab.beside(share=share)
            assert moved["changed"], moved
            assert not lab.beside(share=share)["changed"]
        whole = lab.beside(share=100)
        assert whole["changed"] and {row["status"] for row in whole["servers"]} == {"UP", "DRAIN"}
        assert not lab.beside(share=100)["changed"]
        assert set(lab.asked()) == set(COPIES)

        back = lab.beside(share=0)
        assert back["changed"] and not lab.beside(share=0)["changed"]
        assert set(lab.asked()) == set(HOME)
        gone = lab.beside(state="absent")
        assert gone["changed"] and sorted(gone["removed"]) == sorted(known["added"]), gone
        assert not lab.beside(state="absent")["changed"]
        forgotten = [{"backend": backend, "name": name} for backend in BACKENDS for name in COPIES]
        assert lab.beside(state="absent", copies=forgotten)["changed"] is False
    assert not clients.failed
    lab.again_as_it_was()


def test_shares_are_what_was_asked_for(beside_lab: BesideLab) -> None:
    lab = beside_lab
    for share in (5, 25, 60):
        assert "msg" not in lab.beside(share=share)
        answers = lab.asked(200)
        got = 100 * sum(answers[name] for name in COPIES) / 200
        assert abs(got - share) <= 2, answers


def test_a_copy_that_is_not_healthy_gets_no_request(beside_lab: BesideLab, load: type[Load]) -> None:
    lab = beside_lab
    lab.copies[COPIES[1]].stop()
    with load(lab.get) as clients:
        failed = lab.beside(share=50, timeout=3)
        assert failed["failed"] and "ctl2.rondo-beside is DOWN" in failed["msg"], failed
        assert set(lab.asked()) == set(HOME)
    assert not clients.failed


@pytest.mark.parametrize("share", [25, 100])
def test_a_reload_in_the_middle_changes_nothing(beside_lab: BesideLab, load: type[Load], share: int) -> None:
    lab = beside_lab
    with load(lab.get) as clients:
        lab.beside(share=share)
        lab.reload()
        answers = lab.asked(200)
        if share == 100:
            assert set(answers) == set(COPIES)
        else:
            got = 100 * sum(answers[name] for name in COPIES) / 200
            assert abs(got - share) <= 10, answers
        # What was out by the configuration alone is found by the next call, and comes back on proof.
        back = lab.beside(share=0)
        assert "msg" not in back, back
        assert set(lab.asked()) == set(HOME)
        assert "msg" not in lab.beside(state="absent")
    assert not clients.failed
    lab.again_as_it_was()


def test_a_reload_between_two_calls_is_put_right_where_the_configuration_is_someone_elses(
    beside_lab: BesideLab,
) -> None:
    lab = beside_lab
    fence = {"path": str(lab.home / "fence"), "token": 3, "owner": "test"}
    options = {"edit_config": False, "fence": fence, "home": "maintenance"}
    assert "msg" not in lab.beside(share=100, **options)
    assert lab.config.read_text() == lab.configuration.format(home=lab.home)
    lab.reload()
    assert set(lab.asked()) == set(HOME)
    again = lab.beside(share=100, **options)
    assert again["changed"] and again["added"], again
    assert set(lab.asked()) == set(COPIES)
    # It is this run's business what is out: drained servers of other services are out again, too.
    rows = [{"backend": "plain_back", "name": "ctl1"}]
    assert "msg" not in lab.module("haproxy_server", servers=rows, state="maintenance", fence=fence)


def test_where_haproxy_adds_none_at_run_time_the_configuration_and_a_reload_do(
    static_lab: BesideLab, load: type[Load]
) -> None:
    lab = static_lab
    with load(lab.get) as clients:
        known = lab.beside()
        assert known["reloaded"] and known["added"], known
        # The new worker's is the second.
        pids = [reading["workers"][0]["pid"] for reading in known["readings"]]
        assert len(set(pids)) == 2, known
        assert set(lab.asked()) == set(HOME)
        assert not lab.beside()["changed"]
        assert "msg" not in lab.beside(share=100)
        assert set(lab.asked()) == set(COPIES)
        assert "msg" not in lab.beside(share=0)
        assert set(lab.asked()) == set(HOME)
        assert "msg" not in lab.beside(state="absent")
        lab.again_as_it_was()
        assert not clients.failed


def test_a_server_that_follows_another_has_a_copy_that_follows_its_copy(beside_lab: BesideLab) -> None:
    lab = beside_lab
    backends = (*BACKENDS, "follower_back")
    known = lab.beside(backends=backends)
    assert "msg" not in known, known
    assert "track keystone_internal_back/ctl1.rondo-beside" in lab.config.read_text()
    assert "msg" not in lab.beside(backends=backends, share=100)
    assert "msg" not in lab.beside(backends=backends, share=0)
    assert "msg" not in lab.beside(backends=backends, state="absent")
    lab.again_as_it_was()


def test_the_gate_sends_the_traffic_back_at_once(beside_lab: BesideLab, load: type[Load]) -> None:
    lab = beside_lab
    lab.break_copies()
    with load(lab.get) as clients:
        gone_wrong = lab.beside(share=10, watch=PATIENCE, max_errors=0.01)
    assert gone_wrong["switched_back"] and "requests to the copies failed" in gone_wrong["verdict"], gone_wrong
    assert gone_wrong["gate"]["errors"] and gone_wrong["gate"]["seconds"] < PATIENCE
    assert {status for status, _body in clients.failed} == {500}
    assert len(clients.failed) <= 0.2 * len(clients.answers)
    assert set(lab.asked()) == set(HOME)
    assert "disabled" in lab.config.read_text()


def test_a_copy_that_dies_in_the_window_sends_the_traffic_back(beside_lab: BesideLab) -> None:
    lab = beside_lab
    lab.beside(share=100)
    lab.copies[COPIES[0]].stop()
    seen = lab.beside(share=100, watch=PATIENCE * 2)
    assert seen["switched_back"] and "went down" in seen["verdict"], seen
    assert set(lab.asked()) == set(HOME)


def test_the_gate_is_content_with_good_copies_and_tells_the_share(beside_lab: BesideLab, load: type[Load]) -> None:
    lab = beside_lab
    with load(lab.get):
        seen = lab.beside(share=50, watch=3)
    assert not seen["verdict"] and not seen["switched_back"]
    assert seen["gate"]["requests"] > 0 and abs(seen["gate"]["share"] - 50) <= 5, seen


def test_what_somebody_else_has_taken_out_stays_out(beside_lab: BesideLab) -> None:
    lab = beside_lab
    for backend in BACKENDS:
        lab.cli(f"set server {backend}/ctl2 state maint")
    lab.beside(share=50)
    assert lab.status(BACKENDS[0], "ctl2") == "MAINT"
    answers = lab.asked(80)
    assert abs(100 * answers["ctl1"] / 80 - 50) <= 5 and answers["ctl2"] == 0
    lab.beside(share=100)
    lab.beside(share=0)
    assert lab.status(BACKENDS[0], "ctl2") == "MAINT"
    assert set(lab.asked()) == {"ctl1"}


def test_copies_are_not_taken_out_while_they_are_all_that_serves(beside_lab: BesideLab) -> None:
    lab = beside_lab
    lab.beside(share=100)
    refused = lab.beside(state="absent")
    assert refused["failed"] and "no usable server would remain" in refused["msg"]
    assert set(lab.asked()) == set(COPIES)


def test_copies_go_when_their_last_request_is_answered(beside_lab: BesideLab) -> None:
    lab = beside_lab
    lab.beside(share=100)
    slow = lab.pool.submit(lab.outcome, "/slow")
    wait_for(lambda: sum(one.waiting for one in lab.copies.values()), "a request in a copy")
    lab.beside(share=0)
    leaving = lab.begin("haproxy_beside", **lab.options(state="absent", drain_timeout=PATIENCE * 2))
    wait_for(lambda: any(lab.status(BACKENDS[0], name) == "DRAIN" for name in COPIES), "the drain")
    assert leaving.poll() is None and not slow.done()
    for application in lab.copies.values():
        application.gate.set()
    assert slow.result(PATIENCE)[0] == 200
    assert lab.end(leaving)["closed_sessions"] == 0
    lab.again_as_it_was()


def test_sessions_that_stay_too_long_are_closed_and_counted(beside_lab: BesideLab) -> None:
    lab = beside_lab
    lab.beside(share=100)
    slow = lab.pool.submit(lab.outcome, "/slow")
    wait_for(lambda: sum(one.waiting for one in lab.copies.values()), "a request in a copy")
    lab.beside(share=0)
    gone = lab.beside(state="absent", drain_timeout=0.5)
    assert gone["closed_sessions"] == 1, gone
    assert slow.result(PATIENCE)[0] != 200
    lab.again_as_it_was()


def test_check_mode_touches_nothing_and_shows_both_tables_and_configuration(beside_lab: BesideLab) -> None:
    lab = beside_lab
    seen = lab.beside(share=25, check_mode=True)
    assert seen["changed"] and seen["added"]
    assert any("rondo-beside" in str(part["after"]) for part in seen["diff"][1:])
    lab.again_as_it_was()
    lab.beside(share=25)
    text = lab.config.read_text()
    for options in ({"share": 100}, {"state": "absent"}):
        assert lab.beside(check_mode=True, **options)["changed"]
        assert lab.config.read_text() == text and len(lab.names()) == 4


def test_a_configuration_that_haproxy_refuses_is_not_written(beside_lab: BesideLab) -> None:
    lab = beside_lab
    refused = lab.beside(options="check nonsense")
    assert refused["failed"] and "refuses it" in refused["msg"] and "nonsense" in refused["msg"], refused
    lab.again_as_it_was()


def test_a_move_under_a_hold_does_not_wait_for_a_check_of_what_was_checked(beside_lab: BesideLab) -> None:
    lab = beside_lab
    assert "msg" not in lab.beside()
    moved = lab.beside(share=100, home="maintenance", check_command="false %s")
    assert "msg" not in moved, moved
    assert " disabled  # rondo.upgrade" in lab.config.read_text()
    lab.reload()
    assert set(lab.asked()) == set(COPIES)


def test_nothing_is_moved_where_the_hold_has_ended_by_itself(beside_lab: BesideLab) -> None:
    lab = beside_lab
    lab.beside()
    options = {"share": 100, "release": True, "state_directory": str(lab.home)}
    refused = lab.beside(only_held=True, **options)
    assert refused["failed"] and "the hold of keystone has ended by itself" in refused["msg"], refused
    assert set(lab.asked()) == set(HOME)
    # Where the old ones are stopped there is nothing to wait for.
    assert "msg" not in lab.beside(**options)
    assert set(lab.asked()) == set(COPIES)


def test_a_hold_by_maxconn_ends_with_the_move(beside_lab: BesideLab) -> None:
    lab = beside_lab
    lab.beside()
    kept = lab.home / "rondo-hold-keystone.json"
    kept.write_text('{"token": "x", "owner": "-", "frontends": {"internal": 77}, "began": 0, "until": 0}')
    moved = lab.beside(share=100, release=True, only_held=True, state_directory=str(lab.home))
    assert "msg" not in moved, moved
    assert not kept.exists()
    rows = [line.split(",") for line in lab.cli("show stat").splitlines()]
    limit = rows[0].index("slim")
    assert [row[limit] for row in rows if row[:2] == ["internal", "FRONTEND"]] == ["77"]
    assert set(lab.asked()) == set(COPIES)


def test_wrong_names_are_found_before_anything_is_touched(beside_lab: BesideLab) -> None:
    lab = beside_lab
    rows = [{"backend": BACKENDS[0], "name": "ctl3"}]
    wrong = lab.beside(servers=rows)
    assert wrong["failed"] and "ctl3" in wrong["msg"], wrong
    copies = [{"backend": BACKENDS[0], "name": "other", "port": 1}]
    assert "say `like`" in lab.beside(copies=copies)["msg"]
    assert "needs an address" in lab.beside(copies=[{"backend": BACKENDS[0], "name": COPIES[0]}])["msg"]
    nothing = lab.beside(config=str(lab.home / "nothing.cfg"))
    assert nothing["failed"] and "can't be read" in nothing["msg"]
    lab.again_as_it_was()


def test_a_folder_of_configuration_files(beside_lab: BesideLab) -> None:
    lab = beside_lab
    folder = lab.home / "conf.d"
    folder.mkdir()
    text = lab.config.read_text()
    middle = text.index("\nbackend keystone_external_back") + 1
    head, tail = text[:middle], text[middle:]
    (folder / "1.cfg").write_text(head)
    (folder / "2.cfg").write_text(tail)
    known = lab.beside(config=str(folder))
    assert "msg" not in known, known
    assert all("ctl1.rondo-beside" in (folder / name).read_text() for name in ("1.cfg", "2.cfg"))
    assert "msg" not in lab.beside(config=str(folder), state="absent")
    assert ((folder / "1.cfg").read_text(), (folder / "2.cfg").read_text()) == (head, tail)


def test_a_run_whose_fence_was_taken_over_changes_nothing(beside_lab: BesideLab) -> None:
    lab = beside_lab
    fence = {"path": str(lab.home / "fence"), "token": 3, "owner": "test"}
    newer = {"path": fence["path"], "token": 4, "owner": "other"}
    lab.module("haproxy_fence", socket=None, state="claimed", **newer)
    refused = lab.beside(fence=fence)
    assert refused["failed"] and "has taken over" in refused["msg"]
    lab.again_as_it_was()


def test_two_calls_at_once_end_well(beside_lab: BesideLab) -> None:
    lab = beside_lab
    results: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: results.append(lab.beside(share=25))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE * 3)
    assert [result for result in results if "msg" in result] == []
    assert sorted(lab.names()) == sorted((*HOME, *COPIES))
