# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans with jobs `switch` and `settle`: their chain, what they carry and occupy, and what an earlier run has left."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._difference import difference
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._estimates import Estimates
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._jobs import Job, Phase
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import (
    Artifact,
    Cluster,
    Database,
    Hold,
    Instance,
    InstanceState,
    SecondCopy,
    Server,
    Service,
    SideBySide,
    Spare,
    State,
    Traffic,
)
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._planner import Plan, make_plan
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._simulate import Scenario, simulate
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._staging import to_stage
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._window import Window

SCHEMA = json.loads((Path(__file__).parents[5] / "docs" / "plan.schema.json").read_text(encoding="utf-8"))
HOSTS = ("c1", "c2", "c3")
FITS = Traffic(rate=20, timeout=30, room=1000, timeout_name="timeout client of web", frontends=("web",))
PATIENT = replace(FITS, timeout=60)
ROOM = Spare(4_000_000_000, 9_000_000_000, frozenset({15000}))
COPY = SideBySide((15000, 15009), memory=300_000_000, test="/v3")


def service(name: str = "web", **keys: Any) -> Service:
    instances = tuple(
        Instance(name, host, Artifact("container", name, f"{name}:2"), servers=(Server(f"{name}_back", host),))
        for host in HOSTS
    )
    defaults: dict[str, Any] = {
        "backends": (f"{name}_back",),
        "version_skew": False,
        "estimates": {"replace": 20.0, "offline": 3.0},
        "database": Database(expand=True, offline=True, contract=True),
        "side_by_side": COPY,
    }
    return Service(name, instances, **{**defaults, **keys})


def seen(**keys: Any) -> State:
    old = {f"web@{host}": InstanceState("web:1") for host in HOSTS}
    return State(**{"instances": old, "traffic": {"web": FITS}, "spare": dict.fromkeys(HOSTS, ROOM), **keys})


def plan_of(*services: Service, state: State | None = None) -> Plan:
    return make_plan(Cluster({one.name: one for one in services or (service(),)}), state or seen())


def ids(plan: Plan) -> list[str]:
    return [job for phase in plan.phases for job in phase.jobs]


REPLACED = [f"replace web@{host}" for host in HOSTS]
CHAIN = ["expand web", "switch web", *REPLACED, "settle web", "contract web"]


def job_of(plan: Plan, name: str) -> dict[str, Any]:
    row = plan.to_dict()
    jsonschema.validate(row, SCHEMA)
    assert json.loads(json.dumps(row)) == row
    return next(job for job in row["jobs"] if job["id"] == name)


def test_held_switch_is_a_chain() -> None:
    plan = plan_of()
    assert plan.choices["web"].method == "held_switch"
    assert ids(plan) == CHAIN
    assert not plan.obstacles
    starts = plan.timeline.starts
    # Nobody is served by them, so all may go at once.
    assert len({starts[job] for job in REPLACED}) == 1
    assert plan.rounds == [["expand web"], ["switch web"], REPLACED, ["settle web"], ["contract web"]]


def test_the_job_is_told_that_an_earlier_one_had_no_way_back() -> None:
    plan = plan_of(service(side_by_side=None), state=seen(traffic={"web": PATIENT}, offline_begun=frozenset({"web"})))
    assert job_of(plan, "switch web")["options"]["offline_begun"] is True
    assert plan.to_dict()["services"][0]["held"][-1] == (
        "no way back: an earlier run has begun database.offline (offline_reversible: false), and no old version is "
        "started again, whatever fails; if the new one fails, the requests are let go and fail"
    )


def test_hold_is_one_job() -> None:
    plan = plan_of(service(side_by_side=None), state=seen(traffic={"web": PATIENT}))
    assert plan.choices["web"].method == "hold"
    assert ids(plan) == ["expand web", "switch web", "contract web"]
    options = job_of(plan, "switch web")["options"]
    assert options == {
        "offline": True,
        "offline_reversible": False,
        "offline_begun": False,
        "hold": {
            "deadline": 46.0,
            "on_deadline": "release",
            "bytes_per_request": 21000,
            "force": False,
            "timeouts": {},
            "pause": 23.0,
            "back": 20.0,
            "rate": 20,
            "waiting": 460,
            "memory": 9_660_000,
            "frontends": ["web"],
        },
        "side_by_side": None,
    }


def test_side_by_side_moves_in_steps() -> None:
    plan = plan_of(service(version_skew=True, database=Database(), method="side_by_side"))
    options = job_of(plan, "switch web")["options"]
    assert options["hold"] is None
    assert options["side_by_side"] == {
        "steps": [5, 25, 100],
        "step_time": 10.0,
        "max_errors": 0.01,
        "switch_back_window": 60.0,
        "test": "/v3",
        "memory": 300_000_000,
    }


def test_what_a_switch_carries() -> None:
    web = service()
    first = replace(web.instances[0], drain_timeout=5.0)
    state = seen(instances={"web@c3": InstanceState("web:2", current=True), "web@c1": InstanceState("web:1")})
    job = job_of(plan_of(replace(web, instances=(first, *web.instances[1:])), state=state), "switch web")
    assert (job["kind"], job["host"], job["hosts"], job["instance"]) == ("switch", "c1", list(HOSTS), None)
    assert job["instances"][0] == {
        "instance": "web@c1",
        "host": "c1",
        "artifact": {"kind": "container", "name": "web", "target": "web:2"},
        "running": "web:1",
        "current": False,
        "servers": [{"backend": "web_back", "name": "c1"}],
        "drain_timeout": 5.0,
        "min_healthy_time": 10.0,
        "healthy_deadline": 120.0,
        "beside": {
            "host": "c1",
            "port": 15001,
            "container": "web.rondo-beside",
            "servers": [{"backend": "web_back", "name": "c1.rondo-beside"}],
        },
    }
    assert [(one["current"], one["beside"] is None) for one in job["instances"]] == [
        (False, False),
        (False, False),
        (True, True),
    ]


def test_two_services_get_ports_of_their_own() -> None:
    other = service("api")
    state = seen(
        traffic={"web": FITS, "api": FITS}, instances={}, spare=dict.fromkeys(HOSTS, replace(ROOM, ports=frozenset()))
    )
    plan = plan_of(service(), other, state=state)
    ports = {
        name: {one["beside"]["port"] for one in job_of(plan, f"switch {name}")["instances"]} for name in ("web", "api")
    }
    assert ports == {"web": {15000}, "api": {15001}}


def test_a_port_that_nobody_has_left_is_an_obstacle() -> None:
    one_port = replace(COPY, ports=(15009, 15009))
    both = [service(name, side_by_side=one_port) for name in ("web", "api")]
    plan = plan_of(*both, state=seen(traffic={"web": FITS, "api": FITS}, instances={}))
    assert plan.obstacles[0].startswith("api: no port of side_by_side.ports is left on c1")


def test_spare_hosts_carry_the_second_copies() -> None:
    spares = ("s1", "s2", "s3")
    web = service(side_by_side=replace(COPY, hosts=spares))
    plan = plan_of(web, state=seen(spare=dict.fromkeys(spares, ROOM)))
    job = job_of(plan, "switch web")
    assert job["hosts"] == [*HOSTS, *spares]
    assert [one["beside"]["host"] for one in job["instances"]] == list(spares)
    assert to_stage(Cluster({"web": web}), seen(), {"web": "held_switch"})["s2"] == [web.instances[1].artifact]
    assert "s2" not in to_stage(Cluster({"web": web}), seen(), {"web": "roll"})


def test_a_switch_has_its_hosts_to_itself() -> None:
    def replacing(host: str) -> Job:
        return Job(f"replace b@{host}", "replace", "b", host, f"b@{host}", "replace b", 10.0, 1)

    switch = Job("switch a", "switch", "a", "c1", None, "switch a", 10.0, 2, ("c2",))
    others = [replacing("c2"), replacing("c3")]
    phases = [Phase("switch a", "a", "switch", (), ("switch a",)), Phase("replace b", "b", "replace", (), ())]
    window = Window([switch, *others], phases, [])
    assert [job.id for job in window.admissible()] == ["replace b@c2", "replace b@c3"]
    assert window.waits_for("switch a") == "waits for c2, busy with replace b@c2"
    window.begin("replace b@c2")
    window.end("replace b@c2", "done")
    assert [job.id for job in window.admissible()] == ["replace b@c3", "switch a"]
    window.begin("switch a")
    window.end("switch a", "failed")
    assert window.finished


def test_a_switch_that_fails_leaves_nothing_to_be_done_on_its_hosts() -> None:
    late = Job("replace b@c2", "replace", "b", "c2", "b@c2", "replace b", 10.0, 2)
    switch = Job("switch a", "switch", "a", "c1", None, "switch a", 10.0, 1, ("c2",))
    phases = [Phase("switch a", "a", "switch", (), ("switch a",)), Phase("replace b", "b", "replace", (), (late.id,))]
    window = Window([switch, late], phases, [], max_failures={"a": 5})
    window.begin("switch a")
    window.end("switch a", "failed")
    assert [job.id for job in window.skipped] == ["replace b@c2"]
    assert window.finished


def test_second_copies_stay_while_an_instance_is_not_home() -> None:
    window = plan_of(service(max_failures=2)).window()
    for name in ("expand web", "switch web", *REPLACED):
        window.begin(name)
        window.end(name, "failed" if name == "replace web@c2" else "done")
    assert window.admissible() == []
    assert window.waits_for("settle web") == "was skipped"
    assert window.waits_for("contract web") == "waits for a phase that can't begin"


def copies(**keys: Any) -> dict[str, dict[str, SecondCopy]]:
    return {
        "web": {
            f"web@{host}": SecondCopy(host, "web:2", **{"current": True, "serving": True, "port": 15004, **keys})
            for host in HOSTS
        }
    }


OUT = {f"web@{host}": InstanceState("web:1", healthy=False, reason="DRAIN") for host in HOSTS}
HOME = {f"web@{host}": InstanceState("web:2", current=True) for host in HOSTS}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        pytest.param({"instances": OUT, "beside": copies()}, [*REPLACED, "settle web"], id="switched"),
        pytest.param(
            {"instances": {**OUT, "web@c1": HOME["web@c1"]}, "beside": copies()},
            ["replace web@c2", "replace web@c3", "settle web"],
            id="one-is-home",
        ),
        pytest.param({"instances": HOME, "beside": copies()}, ["settle web"], id="all-are-home"),
        pytest.param({"instances": HOME, "beside": copies(serving=False)}, ["settle web"], id="half-settled"),
        pytest.param(
            {"beside": copies(serving=False)}, ["switch web", *REPLACED, "settle web"], id="copies-that-do-not-serve"
        ),
        pytest.param(
            {"instances": OUT, "beside": copies(), "in_flight": frozenset({"web"})},
            ["switch web", *REPLACED, "settle web"],
            id="cut-off-in-the-switch",
        ),
        pytest.param(
            {
                "instances": {name: replace(one, in_place=True) for name, one in OUT.items()},
                "beside": copies(current=False),
            },
            [*REPLACED, "settle web"],
            id="the-old-ones-run-and-only-have-to-return",
        ),
    ],
)
def test_an_earlier_run_is_gone_on_with(state: dict[str, Any], expected: list[str]) -> None:
    plan = plan_of(state=seen(schema={"web": ()}, **state))
    assert ids(plan) == expected
    row = plan.to_dict()
    jsonschema.validate(row, SCHEMA)
    for job in row["jobs"]:
        if job["kind"] in ("switch", "settle"):
            assert [one["beside"]["port"] for one in job["instances"]] == [15004] * 3


def test_copies_that_the_balancers_have_forgotten_are_removed_by_the_method_that_made_them() -> None:
    left = {"web": {name: replace(copy, port=None) for name, copy in copies(serving=False)["web"].items()}}
    plan = plan_of(service(method="held_switch"), state=seen(schema={"web": ()}, instances=HOME, beside=left))
    [job] = plan.to_dict()["jobs"]
    jsonschema.validate(plan.to_dict(), SCHEMA)
    assert job["id"] == "settle web"
    assert [one["beside"] for one in job["instances"]] == [
        {
            "host": host,
            "port": None,
            "container": "web.rondo-beside",
            "servers": [{"backend": "web_back", "name": f"{host}.rondo-beside"}],
        }
        for host in HOSTS
    ]


def test_a_forgotten_copy_of_an_instance_that_is_home_gets_a_port_where_others_are_switched() -> None:
    left = {"web": {"web@c1": SecondCopy("c1")}}
    instances = {**OUT, "web@c1": HOME["web@c1"]}
    plan = plan_of(service(method="held_switch"), state=seen(instances=instances, beside=left))
    ports = [one["beside"]["port"] for one in job_of(plan, "switch web")["instances"]]
    assert len(ports) == 3 and None not in ports


def test_a_switch_that_was_cut_off_goes_before_anything_else() -> None:
    other = replace(service("api"), estimates={"replace": 20.0, "offline": 3.0, "switch": 5000.0})
    state = seen(traffic={"web": FITS, "api": FITS}, in_flight=frozenset({"web"}), schema={"web": (), "api": ()})
    plan = plan_of(other, service(), state=state)
    assert plan.jobs[0].id == "switch web"
    assert plan.timeline.starts["switch web"] == 0.0


def test_the_point_of_no_return() -> None:
    assert plan_of().to_dict()["point_of_no_return"] == ["switch web", "contract web"]
    reversible = service(database=Database(offline=True, offline_reversible=True))
    assert plan_of(reversible).to_dict()["point_of_no_return"] == []


def test_how_long_a_switch_takes() -> None:
    web = service()
    cluster = Cluster({"web": web})

    def seconds(estimates: Estimates) -> tuple[float, str]:
        found = make_plan(cluster, seen(), estimates).estimates["switch web"]
        return found.seconds, found.source

    assert seconds(Estimates(cluster)) == (30.0 + 6.0 + 60.0, "the sum of its parts")
    measured = {("switch held_switch", "web", "c1"): [50.0], ("switch hold", "web", "c1"): [9.0]}
    assert seconds(Estimates(cluster, measured)) == (50.0, "median of 1 earlier run of web")
    cluster = Cluster({"web": replace(web, estimates={**web.estimates, "switch": 33.0})})
    assert seconds(Estimates(cluster)) == (33.0, "declared")


def test_people_are_told_what_waits_and_whether_there_is_a_way_back() -> None:
    def held(web: Service, **keys: Any) -> list[str]:
        told: list[str] = plan_of(web, state=seen(**keys)).to_dict()["services"][0]["held"]
        return told

    assert held(service(side_by_side=None, hold=Hold(timeouts={"the clients": 50.0})), traffic={"web": PATIENT}) == [
        "requests are held for 23 s (declared; database.offline: declared), for 46 s at most: then the balancers let "
        "them go by themselves",
        "460 of them wait in 9.7 MB; until the deadline it would be 920 in 19.3 MB, and 1000 fit",
        "no way back once database.offline has begun, even if it fails (offline_reversible: false): the old version "
        "may not work after it; if it or the new version fails then, the requests are let go and fail",
    ]
    assert held(service(), traffic={"web": replace(PATIENT, untested=("lb1", "lb2"))})[-2] == (
        "HAProxy's configuration on lb1, lb2 names no address of its own: unless hold_self_test there names one, no "
        "request is held first for a test"
    )
    reversible = service(database=Database(offline=True, offline_reversible=True), hold=Hold(on_deadline="reject"))
    assert held(reversible) == [
        "requests are held for 6 s (3 s assumed, 0 s until the old ones have answered; database.offline: declared), "
        "for 26 s at most: then the balancers reject them by themselves",
        "120 of them wait in 2.5 MB; until the deadline it would be 520 in 10.9 MB, and 1000 fit",
        "the clients' own timeouts are not declared (hold.timeouts): only the balancers' are reckoned with",
        "long-lived connections to the old ones are drained for 1 min at most",
        "if database.offline or the new version fails under the hold, the old one is started again before the release, "
        "in 20 s; if the new one fails within 1 min after that, the same under another hold",
    ]
    short = service(side_by_side=None, database=Database(), hold=Hold(deadline=30.0))
    assert held(short, traffic={"web": PATIENT})[-1] == (
        "if the new version fails under the hold, the old one is started again, in 20 s: later than the deadline, and "
        "what is let go until then fails"
    )
    tcp = service(version_skew=True, database=Database(), method="side_by_side")
    assert held(tcp, traffic={"web": replace(FITS, tcp=("web_back",))}) == [
        "TCP (web_back): new connections are moved, established ones drained for 1 min at most, then closed",
        "traffic moves in steps: 5 %, 25 %, 100 %, each for 10 s; above 1 % of errors it goes back",
        "if the new version fails, traffic goes back in one step; the old one is kept running for 1 min behind the "
        "last step",
    ]


REVERSIBLE = Database(offline=True, offline_reversible=True)


def test_the_deadline_leaves_room_for_the_old_versions_start() -> None:
    options = job_of(plan_of(service(database=REVERSIBLE)), "switch web")["options"]["hold"]
    assert (options["pause"], options["back"], options["deadline"]) == (6.0, 20.0, 26.0)
    # Where nothing is stopped the old ones only go on.
    options = job_of(plan_of(service(database=Database())), "switch web")["options"]["hold"]
    assert (options["pause"], options["back"], options["deadline"]) == (3.0, 3.0, 10.0)
    # And where there is no way back, nothing has to be left for it.
    assert job_of(plan_of(), "switch web")["options"]["hold"]["deadline"] == 12.0


@pytest.mark.parametrize(
    ("keys", "state", "why"),
    [
        ({"hold": Hold(deadline=25.0)}, {}, "raise hold.deadline to 26 s, or do without a way back"),
        ({}, {"traffic": {"web": replace(FITS, timeout=20)}}, "raise the timeouts on the way"),
        ({"estimates": {"offline": 3.0}}, {}, "declare estimates.replace"),
    ],
)
def test_a_way_back_that_does_not_fit_is_refused(keys: dict[str, Any], state: dict[str, Any], why: str) -> None:
    web = service(method="held_switch", database=REVERSIBLE, **keys)
    choice = plan_of(web, state=seen(**state)).choices["web"]
    assert choice.method is None and why in choice.needs
    assert plan_of(replace(web, database=Database(offline=True)), state=seen(**state)).choices["web"].method


def test_what_changed_of_a_held_service() -> None:
    web = service(side_by_side=None)
    state = seen(traffic={"web": PATIENT})
    one_done = {**state.instances, "web@c1": InstanceState("web:2", current=True)}
    old, new = (plan_of(web, state=each).to_dict() for each in (state, replace(state, instances=one_done)))
    assert difference(old, old) == []
    assert "web@c1: no job any more, it already runs its target" in difference(old, new)


def test_a_simulation_of_switches() -> None:
    result = simulate(Cluster({"web": service()}), seen(), None, Scenario(drawn=False))
    assert result["stuck"] == ""
    assert result["jobs"] == result["done"] == len(CHAIN)
