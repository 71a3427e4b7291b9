# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a run stands and how long it still takes: a real plan of a small cluster, told by hand."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._estimates import Estimates, Rehearsed
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import (
    Artifact,
    Cluster,
    Instance,
    InstanceState,
    Server,
    Service,
    State,
)
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._planner import make_plan
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._rest import (
    Rest,
    forecast_rest,
    forecast_with,
)
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._standing import Standing

HOSTS = ("h1", "h2", "h3", "h4")


def cluster(seconds: float = 100.0, *, canary: int = 0, waits: bool = False) -> Cluster:
    artifact = Artifact("container", "web", "web:2")
    web = tuple(
        Instance("web", host, artifact, estimates={"replace": seconds}, servers=(Server("front", host),))
        for host in HOSTS
    )
    services = {"web": Service("web", web, canary=canary, min_healthy_time=0.0)}
    if waits:
        late = Artifact("container", "late", "late:2")
        services["late"] = Service(
            "late", tuple(Instance("late", host, late) for host in HOSTS[:2]), depends_on=("web",)
        )
    return Cluster(services)


def plan_of(made: Cluster, state: State | None = None) -> dict[str, Any]:
    return make_plan(made, state or State()).to_dict()


def job(name: str, begun: float, ended: float | None = None, outcome: str | None = None) -> dict[str, Any]:
    return {"id": f"replace web@{name}", "begun": begun, "ended": ended, "outcome": outcome}


def hosts_in_order(plan: dict[str, Any]) -> list[str]:
    return [row["host"] for row in plan["jobs"] if row["service"] == "web"]


def test_nothing_has_begun() -> None:
    plan = plan_of(cluster(waits=True))
    standing = Standing(plan)
    [web, late] = standing.services()
    assert (web["name"], web["jobs"], web["done"], web["in_flight"], web["waits"]) == ("web", 4, 0, 0, "may begin")
    assert late["waits"] == "waits for replace web (4 jobs left)"
    assert standing.in_flight(5.0) == []
    assert {(row["name"], row["used"], row["capacity"]) for row in standing.budgets()} == {
        ("web", 0, 1),
        ("late", 0, 1),
    }
    assert [row["id"] for row in standing.waiting()] == [row["id"] for row in plan["jobs"]]


def test_jobs_begin_and_end() -> None:
    plan = plan_of(cluster())
    first, second, *_others = hosts_in_order(plan)
    standing = Standing(plan)
    standing.begin(f"replace web@{first}", 10.0)
    [row] = standing.services()
    assert (row["in_flight"], row["done"]) == (1, 0)
    assert row["waits"] == f"waits for the budget web (at most 1 instance out at once, 1 out: web@{first})"
    assert standing.in_flight(25.0) == [{"id": f"replace web@{first}", "seconds": 15.0, "expected": 100.0}]
    [budget] = standing.budgets()
    assert (budget["used"], budget["out"]) == (1, [f"web@{first}"])
    standing.end(f"replace web@{first}", "done")
    standing.begin(f"replace web@{second}", 30.0)
    [row] = standing.services()
    assert (row["in_flight"], row["done"]) == (1, 1)
    assert standing.budgets()[0]["out"] == [f"web@{second}"]
    assert len(standing.waiting()) == 2


def test_a_failure_stops_and_stays_out() -> None:
    plan = plan_of(cluster())
    first, *_others = hosts_in_order(plan)
    standing = Standing(plan)
    standing.begin(f"replace web@{first}", 0.0)
    standing.end(f"replace web@{first}", "failed")
    standing.end(f"replace web@{first}", "done")
    [row] = standing.services()
    assert (row["failed"], row["done"]) == (1, 0)
    assert row["waits"] == "will not begin: 1 job of web failed; upgrade_max_failures is 0"
    assert standing.budgets()[0]["used"] == 1


def test_paused_resumed_stopped() -> None:
    standing = Standing(plan_of(cluster()))
    standing.pause("me")
    assert standing.paused == "me"
    assert standing.services()[0]["waits"] == "waits for the run to resume"
    standing.resume()
    assert (standing.paused, standing.services()[0]["waits"]) == ("", "may begin")
    standing.pause("me")
    standing.stop("aborted by me")
    assert (standing.paused, standing.stopped) == ("", "aborted by me")
    assert standing.services()[0]["waits"] == "will not begin: aborted by me"


def test_members_that_fail_by_themselves_take_the_budget() -> None:
    plan = plan_of(cluster())
    first, second, third, _last = hosts_in_order(plan)
    standing = Standing(plan)
    standing.begin(f"replace web@{first}", 0.0)
    standing.end(f"replace web@{first}", "done", {"down": [{"backend": "front", "name": third}]})
    assert standing.budgets()[0]["out"] == [f"web@{third}"]
    assert f"1 out: web@{third}" in standing.services()[0]["waits"]
    # What is out already takes nothing more when it is worked on; its return is seen by the next job's end.
    standing.begin(f"replace web@{third}", 1.0)
    standing.end(f"replace web@{third}", "done", {"down": []})
    assert standing.budgets()[0]["out"] == []
    assert standing.services()[0]["waits"] == "may begin"
    standing.begin(f"replace web@{second}", 2.0)
    assert standing.budgets()[0]["out"] == [f"web@{second}"]


def test_what_the_plan_does_not_hold_is_shown_and_costs_no_reason() -> None:
    standing = Standing(plan_of(cluster()))
    standing.begin("replace gone@h9", 0.0)
    assert standing.in_flight(3.0) == [{"id": "replace gone@h9", "seconds": 3.0, "expected": None}]
    standing.end("replace gone@h9", "lost")
    assert standing.services()[0]["waits"] == "may begin"


def test_no_reasons_where_the_window_disagrees() -> None:
    plan = plan_of(cluster())
    first, second, *_others = hosts_in_order(plan)
    standing = Standing(plan)
    standing.begin(f"replace web@{first}", 0.0)
    standing.begin(f"replace web@{second}", 0.0)
    assert standing.services()[0]["waits"] == ""
    assert standing.services()[0]["in_flight"] == 2
    assert standing.waiting() == []
    assert Standing({"jobs": []}).services() == []


# The rest


def test_the_rest_of_a_run_that_did_not_begin_is_the_plans_forecast() -> None:
    plan = plan_of(cluster())
    rest = forecast_rest(plan, [], 0.0)
    assert rest.seconds == pytest.approx(plan["forecast"]["p50"], rel=0.1)
    assert rest.p90 >= rest.seconds
    assert (rest.measured, rest.pace) == (0, 1.0)
    assert forecast_rest(plan, [], 0.0) == rest


def test_a_plan_with_what_was_rehearsed_is_the_same_jobs_with_other_durations() -> None:
    """Of a saved plan, which leaves alone what is upgraded already and knows what earlier runs measured."""
    made = cluster(canary=1)
    done = State(instances={"web@h4": InstanceState(current=True, running="web:2")})
    measured = Estimates(made, {("replace", "web", "h1"): [50.0]})
    plan = make_plan(made, done, measured).to_dict()
    assert forecast_with(plan, made, Estimates(made)) == plan["forecast"]["makespan"]
    # h1 of them is measured, and measured stands above rehearsed; the others' times are of its service's median.
    rehearsed = Estimates(made, rehearsed={("replace", "web"): Rehearsed(300.0, least=False)})
    assert forecast_with(plan, made, rehearsed) == plan["forecast"]["makespan"]
    plan = plan_of(made, done)
    assert forecast_with(plan, made, Estimates(made)) == plan["forecast"]["makespan"]
    bake = made.services["web"].bake_time
    assert forecast_with(plan, made, rehearsed) == pytest.approx(3 * 300.0 + bake)
    assert plan["forecast"]["makespan"] == pytest.approx(3 * 100.0 + bake)


def test_jobs_that_take_twice_as_long_double_the_rest() -> None:
    plan = plan_of(cluster())
    order = hosts_in_order(plan)
    begun = [job(host, 200.0 * i, 200.0 * (i + 1), "done") for i, host in enumerate(order[:3])]
    rest = forecast_rest(plan, begun, 600.0)
    assert rest.measured == 3
    assert rest.pace == pytest.approx(2.0)
    assert 150.0 < rest.seconds < 200.0
    one = forecast_rest(plan, begun[:1], 200.0)
    assert 3 * 100.0 * 1.2 < one.seconds < 3 * 100.0 * 1.8


def test_one_job_that_hung_counts_five_times_at_most() -> None:
    plan = plan_of(cluster())
    rest = forecast_rest(plan, [job(hosts_in_order(plan)[0], 0.0, 1e6, "done")], 1e6)
    assert rest.pace == pytest.approx(5.0)


def test_the_longer_a_job_takes_the_later_it_ends() -> None:
    plan = plan_of(cluster())
    begun = [job(hosts_in_order(plan)[0], 0.0)]
    early, late, overdue = (forecast_rest(plan, begun, now, ending=True).seconds for now in (10.0, 90.0, 5000.0))
    assert 80.0 < early < 100.0
    assert 1.0 <= late < early
    assert overdue == pytest.approx(500.0, rel=0.3)


def test_only_what_is_in_flight_counts_when_nothing_more_begins() -> None:
    plan = plan_of(cluster())
    order = hosts_in_order(plan)
    assert forecast_rest(plan, [], 0.0, ending=True).seconds == 0.0
    everything = [job(host, 100.0 * i, 100.0 * (i + 1), "done") for i, host in enumerate(order)]
    assert forecast_rest(plan, everything, 400.0) == Rest(0.0, 0.0, 4, pytest.approx(1.0))


def test_members_that_are_out_leave_less_room() -> None:
    artifact = Artifact("container", "web", "web:2")
    hosts = [f"h{number}" for number in range(9)]
    web = tuple(Instance("web", host, artifact, estimates={"replace": 100.0}) for host in hosts)
    made = Cluster({"web": Service("web", web, max_unavailable=3, max_failures=1, min_healthy_time=0.0)})
    plan = plan_of(made, State(instances={f"web@{host}": InstanceState() for host in hosts}))
    first, *_others = hosts_in_order(plan)
    whole = forecast_rest(plan, [], 0.0).seconds
    broken = forecast_rest(plan, [job(first, 0.0, 1.0, "failed")], 1.0).seconds
    assert whole == pytest.approx(300.0, rel=0.35)
    assert broken > whole
