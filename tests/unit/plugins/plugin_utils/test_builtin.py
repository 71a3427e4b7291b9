# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._builtin import asked, logged, results
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._declaration import Inventory, parse
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import Cluster
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._regression import Result, compare
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._suites import CHECKS, Builtin

VIP = "http://192.0.2.10:8000/"
WEB: dict[str, Any] = {
    "artifact": {"container": "web", "image": "web:2"},
    "balancer": {"backends": ["web_back"]},
    "health": {"http": "http://127.0.0.1:8080/alive"},
    "endpoints": [VIP],
    "database": {"expand": "expand", "contract": "contract", "check": "check"},
}
NOW = 1_800_000_000.0


def cluster(**more: Any) -> Cluster:
    groups = {"web": ("web1", "web2"), "balancers": ("lb1",)}
    return parse({"web": {**WEB, **more}}, Inventory(groups))


def server(**more: Any) -> dict[str, Any]:
    row = {"address": "192.0.2.1:80", "weight": 1, "admin": "ready", "backup": False, "checked": True}
    return {**row, "usable": True, "status": "UP", "scur": 3, **more}


def facts(image: str, code: int = 0, **servers: Any) -> dict[str, dict[str, Any]]:
    row = {"exists": True, "running": True, "current": image == "web:2", "image": image, "restarts": 0}
    row |= {"status": "running", "started_at": "2027-01-15T07:59:00.123456789Z"}
    table = {"web_back": {"servers": {"web1": server(), "web2": server(), **servers}}}
    return {
        "web1": {"observe_containers": {"web": row}, "observe_schema": {"web": {"rc": code}}},
        "web2": {"observe_containers": {"web": row}},
        "lb1": {"observe_haproxy": {"backends": table}},
    }


def answer(url: str = VIP, **more: Any) -> dict[str, Any]:
    good = {"answers": True, "asked": 20, "failed": 0, "reason": "", "status": 200, "version": "1", "p50": 9.0}
    return {"url": url, "service": "web", **good, "p90": 14.0, "n": 20, **more}


def seen(*answers: dict[str, Any], errors: int = 0, failed: int = 0, note: str = "") -> dict[str, Any]:
    row = {"name": "web", "image": "", "current": True, "seconds": 600.0, "lines": 900, "requests": 800}
    log = {"rows": [{**row, "failed": failed, "errors": errors}], "position": None, "note": note}
    return {"web1": {"now": NOW, "endpoints": list(answers), "logs": {"web": log}}}


def regressions(before: list[Result], after: list[Result]) -> list[str]:
    return [change.name for change in compare(before, after) if change.kind == "regression"]


def test_what_hosts_are_asked() -> None:
    views = {host: {"web": WEB} for host in ("web1", "web2")}
    found = asked(cluster(), views)
    local = {"url": "http://127.0.0.1:8080/alive", "service": "web"}
    assert found["web1"]["endpoints"] == [local, {"url": VIP, "service": "web"}]
    assert found["web2"]["endpoints"] == [local]
    assert found["web2"]["logs"] == [{"service": "web", "container": "web", "checks": ["/alive"]}]


def test_a_file_is_read_where_the_log_is_one() -> None:
    log = {"file": "/var/log/web.log", "pattern": "(?P<status>5..)"}
    views = {"web1": {"web": {**WEB, "access_log": log}}}
    assert asked(cluster(), views)["web1"]["logs"] == [{"service": "web", "checks": ["/alive"], **log}]


def test_nothing_regresses_where_all_is_well() -> None:
    before = results(cluster(), Builtin(), facts("web:1", 2), seen(answer()), "before")
    after = results(cluster(), Builtin(), facts("web:2", 0), seen(answer(version="2")), "after")
    assert {result.outcome for result in [*before, *after]} == {"passed"}
    assert {change.kind for change in compare(before, after)} == {"unchanged"}
    assert {result.name for result in after} == {
        "web@web1 runs what the plan says",
        "web@web2 runs what the plan says",
        "web@web1 does not restart in a loop",
        "web@web2 does not restart in a loop",
        "web@web1 logs no more errors than before",
        f"web: {VIP} answers",
        f"web: {VIP} says its version",
        f"web: {VIP} is as fast as before",
        "lb1: the table of web_back is as it was",
        "web: its schema is where the plan says",
        "web1 can be asked",
    }


@pytest.mark.parametrize(
    ("now", "said", "names"),
    [
        (facts("web:1"), seen(answer()), ["web@web1 runs what the plan says", "web@web2 runs what the plan says"]),
        (facts("web:2", 4), seen(answer()), ["web: its schema is where the plan says"]),
        (facts("web:2", 1), seen(answer()), ["web: its schema is where the plan says"]),
        (facts("web:2", web2=server(weight=50)), seen(answer()), ["lb1: the table of web_back is as it was"]),
        (facts("web:2", web3=server()), seen(answer()), ["lb1: the table of web_back is as it was"]),
        (facts("web:2"), seen(answer(), errors=400), ["web@web1 logs no more errors than before"]),
        (facts("web:2"), seen(answer(p50=200.0, p90=240.0)), [f"web: {VIP} is as fast as before"]),
        (facts("web:2"), seen(answer(version="")), [f"web: {VIP} says its version"]),
        (facts("web:2"), seen(answer(answers=False, failed=3, reason="status 404")), [f"web: {VIP} answers"]),
    ],
)
def test_each_defect_is_a_regression_of_its_own_name(now: Any, said: Any, names: list[str]) -> None:
    before = results(cluster(), Builtin(), facts("web:1", 2), seen(answer()), "before")
    assert regressions(before, results(cluster(), Builtin(), now, said, "after")) == names


def test_a_schema_that_was_not_asked_before_regresses_by_its_name() -> None:
    """The new version's image is what asks, and is staged later."""
    unasked = facts("web:1")
    del unasked["web1"]["observe_schema"]
    before = results(cluster(), Builtin(), unasked, {}, "before")
    for code in (4, 1):
        after = results(cluster(), Builtin(), facts("web:2", code), {}, "after")
        assert regressions(before, after) == ["web: its schema is where the plan says"]
    assert regressions(before, results(cluster(), Builtin(), facts("web:2"), {}, "after")) == []
    # The old version, after the way back, does not know the schema.
    old = cluster(artifact={"container": "web", "image": "web:1"})
    assert regressions(before, results(old, Builtin(), facts("web:2", 1), {}, "after")) == []
    # Its contract was not come to: that is the run's to tell.
    assert regressions(before, results(cluster(), Builtin(), facts("web:2", 4), {}, "after", ["web"])) == []
    assert not [each for each in results(cluster(), Builtin(), unasked, {}, "after") if "schema" in each.name]


@pytest.mark.parametrize("answers", [{"failed": True, "msg": "no room"}, {"unreachable": True, "msg": "no route"}])
def test_a_host_that_can_not_be_asked_any_more_is_a_regression(answers: dict[str, Any]) -> None:
    before = results(cluster(), Builtin(), facts("web:1"), seen(answer()), "before")
    after = results(cluster(), Builtin(), facts("web:2"), {"web1": answers}, "after")
    [change] = [each for each in compare(before, after) if each.kind == "regression"]
    assert (change.name, change.message) == ("web1 can be asked", answers["msg"])
    assert results(cluster(), Builtin(), {}, {"lb1": {"skipped": True}}, "after") == results(
        cluster(), Builtin(), {}, {}, "after"
    )


def test_a_log_that_can_not_be_read_any_more_is_a_regression() -> None:
    before = results(cluster(), Builtin(), facts("web:1"), seen(answer()), "before")
    now = seen(answer())
    now["web1"]["logs"]["web"] = {"rows": [], "position": None, "note": "the engine does not answer"}
    [change] = [
        each
        for each in compare(before, results(cluster(), Builtin(), facts("web:2"), now, "after"))
        if each.kind == "regression"
    ]
    assert change.name == "web@web1 logs no more errors than before"
    assert change.message == "the engine does not answer"


def test_what_the_run_has_not_come_to_may_be_as_it_was() -> None:
    found = results(cluster(), Builtin(), facts("web:1"), {}, "after", ["web@web1"])
    assert {each.name: each.outcome for each in found if "runs" in each.name} == {
        "web@web1 runs what the plan says": "passed",
        "web@web2 runs what the plan says": "failed",
    }


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        ({"status": "restarting"}, "failed"),
        ({"restarts": 5}, "failed"),
        ({"restarts": 5, "started_at": "2026-01-01T00:00:00Z"}, "passed"),
        ({"restarts": 2}, "passed"),
    ],
)
def test_a_loop_of_restarts(row: dict[str, Any], outcome: str) -> None:
    now = facts("web:2")
    now["web1"]["observe_containers"] = {"web": {**now["web1"]["observe_containers"]["web"], **row}}
    found = results(cluster(), Builtin(), now, {"web1": {"now": NOW}}, "after")
    assert [each.outcome for each in found if each.name == "web@web1 does not restart in a loop"] == [outcome]


@pytest.mark.parametrize("off", CHECKS)
def test_each_check_can_be_switched_off(off: str) -> None:
    everything = Builtin()
    some = dataclasses.replace(everything, checks=everything.checks - {off})
    found = [results(cluster(), each, facts("web:2"), seen(answer()), "after") for each in (everything, some)]
    assert 0 < len(found[1]) < len(found[0])


def test_a_balancer_that_can_not_be_seen_has_failed() -> None:
    now = facts("web:2")
    now["lb1"] = {"observe_haproxy": {"msg": "connection refused"}}
    [found] = [each for each in results(cluster(), Builtin(), now, {}, "after") if "table" in each.name]
    assert (found.outcome, found.message) == ("failed", "connection refused")


def test_access_logs_count_together_and_say_what_is_missing() -> None:
    found = logged(cluster(), seen(failed=3, note="the file was rotated"), moved=["web"])
    assert (found["requests"], found["failed"]) == (800, 3)
    assert found["notes"] == [
        "web@web1: the file was rotated",
        "web@web2: its log was not read",
        "web: the logs of its second copies are gone with them",
    ]
    assert logged(cluster(), {})["silent"] == ["web"]
