# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _cluster, _page, _revert
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import (
    Artifact,
    Cluster,
    Database,
    Instance,
    Service,
)
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._planner import make_plan
from ansible_collections.rondo.upgrade.plugins.plugin_utils._revert import Back, RevertError, way_back

HOSTS = ("c1", "c2", "c3")


def service(name: str, *needs: str) -> Service:
    instances = tuple(Instance(name, host, Artifact("container", name, f"{name}:2")) for host in HOSTS)
    return Service(name, instances, depends_on=needs, database=Database(expand=True, contract=True), method="roll")


CLUSTER = Cluster({one.name: one for one in (service("db"), service("keystone", "db"), service("glance", "keystone"))})


def job(instance: str, running: str, outcome: str | None = "done") -> dict[str, Any]:
    name, _at, host = instance.partition("@")
    row = {"id": f"replace {instance}", "kind": "replace", "service": name, "host": host, "instance": instance}
    return {**row, "running": running, "outcome": outcome, "details": {}, "begun": 1000.0}


def schema(name: str, kind: str = "contract", **details: Any) -> dict[str, Any]:
    row = {"id": f"{kind} {name}", "kind": kind, "service": name, "host": "c1", "instance": None, "running": ""}
    return {**row, "outcome": "done", "details": details, "begun": 1000.0, "run": 1}


def run(
    number: int,
    *jobs: dict[str, Any],
    kind: str = "upgrade",
    outcome: str = "done",
    planned: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    plan = {"jobs": planned if planned is not None else list(jobs)}
    return {"id": number, "kind": kind, "outcome": outcome, "jobs": list(jobs), "plan": plan}


def test_what_ran_before_the_last_run() -> None:
    runs = [
        run(2, job("keystone@c1", "keystone:1"), job("glance@c2", "glance:1")),
        run(1, job("keystone@c1", "keystone:0"), job("db@c1", "db:1")),
    ]
    back = way_back(runs, CLUSTER)
    assert back.targets == {"keystone@c1": "keystone:1", "glance@c2": "glance:1"}
    assert (back.runs, back.services) == ((2,), ["keystone", "glance"])


def test_an_upgrade_is_all_the_runs_that_it_took() -> None:
    runs = [
        run(4, job("keystone@c1", "keystone:bad"), job("keystone@c3", "keystone:1")),
        run(3, job("keystone@c2", "keystone:1", "lost"), outcome="lost"),
        run(2, job("keystone@c1", "keystone:1", "failed"), outcome="failed"),
        run(1, job("keystone@c1", "keystone:0"), job("keystone@c2", "keystone:0")),
    ]
    back = way_back(runs, CLUSTER)
    assert back.targets == {f"keystone@c{number}": "keystone:1" for number in (1, 2, 3)}
    assert back.runs == (4, 3, 2)


def test_an_upgrade_that_came_to_replace_nothing_is_not_the_one_before() -> None:
    wanted = job("keystone@c1", "keystone:1")
    stopped = run(2, schema("keystone", "expand"), outcome="failed", planned=[schema("keystone", "expand"), wanted])
    assert way_back([stopped, run(1, wanted)], CLUSTER).targets == {}


def test_what_was_taken_back_is_not_taken_back_again() -> None:
    upgrade = run(1, job("keystone@c1", "keystone:1"), job("glance@c1", "glance:1"), job("glance@c2", "glance:1"))
    half = run(2, job("glance@c1", "glance:2"), job("glance@c2", "glance:2", "failed"), kind="revert", outcome="failed")
    assert way_back([half, upgrade], CLUSTER).targets == {"keystone@c1": "keystone:1", "glance@c2": "glance:1"}
    rest = run(3, job("glance@c2", "glance:2"), job("keystone@c1", "keystone:2"), kind="revert")
    assert way_back([rest, half, upgrade], CLUSTER).targets == {}
    again = run(4, job("glance@c1", "glance:1", "failed"), outcome="failed")
    assert way_back([again, rest, half, upgrade], CLUSTER).targets == {"glance@c1": "glance:1"}


def test_only_what_is_named() -> None:
    runs = [run(1, job("keystone@c1", "keystone:1"), job("glance@c1", "glance:1"))]
    assert way_back(runs, CLUSTER, ["glance"]).targets == {"glance@c1": "glance:1"}
    with pytest.raises(RevertError, match="upgrade_only names nova, which upgrade_services does not declare"):
        way_back(runs, CLUSTER, ["glance", "nova"])


def test_what_was_put_on_top_of_a_service_goes_back_with_it_or_is_left_on_purpose() -> None:
    runs = [run(1, job("db@c1", "db:1"), job("keystone@c1", "keystone:1"), job("glance@c1", "glance:1"))]
    with pytest.raises(
        RevertError, match=r"nothing was begun: glance depends on keystone and may need its new version"
    ):
        way_back(runs, CLUSTER, ["keystone"])
    with pytest.raises(RevertError, match=r"keystone, glance depend on db"):
        way_back(runs, CLUSTER, ["db"])
    assert way_back(runs, CLUSTER, ["keystone", "glance"]).services == ["keystone", "glance"]
    assert way_back(runs, CLUSTER, ["keystone"], leave_dependants=True).services == ["keystone"]
    # One that the upgrade did not touch, or that went back already, is no obstacle.
    assert way_back([run(1, job("keystone@c1", "keystone:1"))], CLUSTER, ["keystone"]).services == ["keystone"]
    back = run(2, job("glance@c1", "glance:2"), kind="revert")
    assert way_back([back, *runs], CLUSTER, ["keystone"]).services == ["keystone"]


def test_no_way_back_after_a_contract_that_removed_something() -> None:
    jobs = [job("keystone@c1", "keystone:1"), job("glance@c1", "glance:1")]
    with pytest.raises(RevertError, match=r"nothing was begun: contract keystone in run 1, begun .* keystone:1 may"):
        way_back([run(1, *jobs, schema("keystone", no_return=True))], CLUSTER)
    # Also where it was added later, and ran alone.
    later = run(2, {**schema("keystone", no_return=True), "run": 2})
    with pytest.raises(RevertError, match=r"nothing was begun: contract keystone in run 2"):
        way_back([later, run(1, *jobs)], CLUSTER)
    assert way_back([run(2, schema("keystone")), run(1, *jobs)], CLUSTER).runs == (2, 1)
    # The others still can, and one that found nothing to remove is no obstacle.
    assert way_back([run(1, *jobs, schema("keystone", no_return=True))], CLUSTER, ["glance"]).targets
    assert len(way_back([run(1, *jobs, schema("keystone"))], CLUSTER).targets) == 2
    assert len(way_back([run(1, *jobs, schema("keystone", "expand"))], CLUSTER).targets) == 2


def switch(name: str, method: str, *current: str, outcome: str | None = "done", **details: Any) -> dict[str, Any]:
    members = [
        {"instance": f"{name}@{host}", "running": f"{name}:{2 if host in current else 1}", "current": host in current}
        for host in HOSTS
    ]
    return {**schema(name, "switch", **details), "method": method, "instances": members, "outcome": outcome}


@pytest.mark.parametrize("method", ["hold", "held_switch", "side_by_side"])
def test_what_a_switch_replaced(method: str) -> None:
    assert way_back([run(1, switch("keystone", method, "c3"))], CLUSTER).targets == {
        "keystone@c1": "keystone:1",
        "keystone@c2": "keystone:1",
    }


def test_a_hold_takes_back_what_a_hold_did_and_second_copies_only_with_their_instances() -> None:
    upgrade = run(1, switch("keystone", "held_switch"), job("keystone@c1", "keystone:1"))
    held = run(2, switch("keystone", "hold"), kind="revert")
    assert way_back([held, upgrade], CLUSTER).targets == {}
    moved = run(2, switch("keystone", "held_switch"), job("keystone@c1", "keystone:2"), kind="revert", outcome="failed")
    assert way_back([moved, upgrade], CLUSTER).targets == {"keystone@c2": "keystone:1", "keystone@c3": "keystone:1"}


def test_no_way_back_after_an_offline_step_that_is_not_reversible() -> None:
    with pytest.raises(
        RevertError, match=r"switch keystone in run 1, begun .* so that keystone:1 may not work with it"
    ):
        way_back([run(1, switch("keystone", "hold", no_return=True))], CLUSTER)


def test_a_name_that_leads_elsewhere_by_now_is_no_way_back() -> None:
    with pytest.raises(RevertError, match="stands for other content now"):
        way_back([run(1, job("keystone@c1", "keystone:2 (sha256:0123456789ab)"))], CLUSTER)


def test_what_can_not_be_known_stays_and_is_noted() -> None:
    back = way_back([run(1, job("keystone@c1", ""), job("keystone@c9", "keystone:1"))], CLUSTER)
    assert back.targets == {}
    assert back.notes == (
        "keystone@c9 is no longer declared: it stays as it is",
        "keystone@c1 ran nothing before: it stays as it is",
    )


def _facts() -> dict[str, dict[str, Any]]:
    def row(name: str, host: str) -> dict[str, Any]:
        at = 2 if host != "c3" else 1
        image = f"{name}:{at}"
        return {"exists": True, "running": True, "image": image, "current": False, "target_present": True}

    facts = {host: {"observe_containers": {name: row(name, host) for name in CLUSTER.services}} for host in HOSTS}
    return {**facts, "c1": {**facts["c1"], "observe_schema": {"keystone": {"rc": 2}}}}


def test_the_plan_back_goes_the_other_way_and_leaves_the_rest_alone() -> None:
    back = Back({f"{name}@{host}": f"{name}:1" for name in ("keystone", "glance") for host in ("c1", "c2")})
    cluster, facts = _revert.turned(CLUSTER, back), _revert.facts_of(_facts(), CLUSTER, back)
    plan = make_plan(cluster, _cluster.state(cluster, facts)).to_dict()
    assert plan["obstacles"] == []
    assert {row["id"]: row["artifact"]["target"] for row in plan["jobs"]} == {
        f"replace {name}": target for name, target in back.targets.items()
    }
    assert {row["running"] for row in plan["jobs"]} == {"keystone:2", "glance:2"}
    ends = {row["id"]: row["end"] for row in plan["jobs"]}
    starts = {row["id"]: row["start"] for row in plan["jobs"]}
    assert max(ends[f"replace glance@{host}"] for host in ("c1", "c2")) <= min(
        starts[f"replace keystone@{host}"] for host in ("c1", "c2")
    )
    text = _page.page(plan, back=True)
    assert "ansible-playbook rondo.upgrade.revert" in text and "upgrade_export" not in text


def test_nothing_to_take_back_is_an_empty_plan() -> None:
    back = Back({})
    cluster = _revert.turned(CLUSTER, back)
    plan = make_plan(cluster, _cluster.state(cluster, _revert.facts_of(_facts(), CLUSTER, back))).to_dict()
    assert plan["jobs"] == [] and plan["obstacles"] == []
    assert _revert.page(back).startswith("REVERT: nothing to take back")


def test_the_page_tells_what_and_from_which_runs() -> None:
    back = Back({"keystone@c1": "keystone:1", "keystone@c2": "keystone:1"}, (4, 3), ("glance@c9 stays",))
    text = _revert.page(back)
    assert text.startswith("REVERT: 2 instances of keystone to what ran before")
    assert "runs 3, 4" in text and "  - glance@c9 stays" in text
    assert max(map(len, text.splitlines())) <= 100
