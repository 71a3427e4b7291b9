# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The planner: order, budgets, estimates, forecast, bounds, obstacles, digests; and what if, and what changed."""

from __future__ import annotations

import doctest
import itertools
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration import _planner
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._bounds import parallel_bound
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._difference import difference
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._estimates import Estimates
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._jobs import CircleError
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import (
    Artifact,
    Ceilings,
    Cluster,
    Database,
    Instance,
    InstanceState,
    Server,
    Service,
    State,
    Traffic,
)
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._planner import Plan, make_plan
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._simulate import (
    Scenario,
    scaled,
    simulate,
)
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._staging import stage_time, to_stage

ROOT = Path(__file__).resolve().parents[5]


def service(name: str, hosts: str, zones: str = "", seconds: Mapping[str, float] | None = None, **more: Any) -> Service:
    members = tuple(
        Instance(
            name,
            host,
            Artifact("container", name, f"{name}:2"),
            domain,
            servers=(Server(f"{name}_back", host),),
            estimates={} if seconds is None or host not in seconds else {"replace": seconds[host]},
        )
        for host, domain in itertools.zip_longest(hosts.split(), zones.split())
    )
    more.setdefault("backends", (f"{name}_back",))
    more.setdefault("min_healthy_time", 0.0)
    return Service(name, members, **{"method": "roll", **more})


def cluster(*services: Service, **more: Any) -> Cluster:
    return Cluster({one.name: one for one in services}, **more)


def order(plan: Plan) -> list[str]:
    """Job ids by begin; those that begin together in priority order."""
    return sorted(plan.timeline.starts, key=lambda job: plan.timeline.starts[job])


def keystone_stack() -> Cluster:
    return cluster(
        service(
            "keystone",
            "c1 c2 c3",
            depends_on=("mariadb",),
            canary=1,
            bake_time=30.0,
            database=Database(expand=True, contract=True),
        ),
        service("mariadb", "c1 c2 c3", quorum=True, max_unavailable=2),
        service("glance", "c1 c2", depends_on=("keystone",), max_unavailable=2),
    )


def test_dependencies_then_expand_canary_replace_contract() -> None:
    plan = make_plan(keystone_stack(), State())
    assert [phase.id for phase in plan.phases] == [
        "replace mariadb",
        "expand keystone",
        "canary 1 keystone",
        "replace keystone",
        "contract keystone",
        "replace glance",
    ]
    assert order(plan) == [
        "replace mariadb@c1",
        "replace mariadb@c2",
        "replace mariadb@c3",
        "expand keystone",
        "replace keystone@c1",
        "replace keystone@c2",
        "replace keystone@c3",
        "contract keystone",
        "replace glance@c1",
        "replace glance@c2",
    ]
    row = plan.to_dict()
    assert row["point_of_no_return"] == ["contract keystone"]
    assert {job["id"]: job["bake_time"] for job in row["jobs"] if job["bake_time"]} == {"replace keystone@c1": 30.0}
    # 3 x 60, 60, 60 + 30, 2 x 60, 60, 60
    assert row["forecast"]["makespan"] == row["forecast"]["bound"] == 570.0
    assert row["forecast"]["bound_name"].startswith("chain of phases: replace mariadb, expand keystone")
    assert row["budgets"][1] | {"jobs": []} == {
        "name": "mariadb",
        "kind": "quorum",
        "capacity": 1,
        "counts": "instances",
        "services": ["mariadb"],
        "already_out": [],
        "jobs": [],
    }


def seen(**moods: InstanceState) -> dict[str, InstanceState]:
    return {name.replace("_", "@"): state for name, state in moods.items()}


CURRENT = InstanceState("new", current=True)
BROKEN = InstanceState("old", healthy=False, reason="its container is gone")


def test_only_what_changed_has_a_job_and_proven_instances_replace_the_canary() -> None:
    state = State(seen(keystone_c1=CURRENT, mariadb_c1=CURRENT, mariadb_c2=CURRENT, mariadb_c3=CURRENT))
    plan = make_plan(keystone_stack(), state)
    assert "canary 1 keystone" not in {phase.id for phase in plan.phases}
    assert plan.to_dict()["done"] == ["keystone@c1", "mariadb@c1", "mariadb@c2", "mariadb@c3"]


def test_an_empty_plan() -> None:
    whole = cluster(service("web", "a b"))
    plan = make_plan(whole, State(seen(web_a=CURRENT, web_b=CURRENT)))
    row = plan.to_dict()
    assert row["jobs"] == row["rounds"] == row["phases"] == row["obstacles"] == []
    assert row["forecast"] == {
        "makespan": 0.0,
        "bound": 0.0,
        "bound_name": "nothing to do",
        "gap": 0.0,
        "p50": 0.0,
        "p90": 0.0,
    }


def test_a_contract_that_an_earlier_run_left_is_still_done() -> None:
    web = service("web", "a", database=Database(expand=True, contract=True))
    plan = make_plan(cluster(web), State(seen(web_a=CURRENT), schema={"web": ("contract",)}))
    assert order(plan) == ["contract web"]


def test_broken_members_go_first_and_are_the_canary() -> None:
    plan = make_plan(cluster(service("web", "a b c", canary=1)), State(seen(web_b=BROKEN)))
    assert order(plan)[0] == "replace web@b"
    assert plan.obstacles == ()


def test_what_was_left_in_flight_goes_before_anything_else() -> None:
    web = service("web", "a b c d e", max_unavailable=2, seconds={"a": 90.0, "b": 50.0, "c": 20.0, "d": 9.0, "e": 9.0})
    left = frozenset({"web@d", "web@e"})
    plan = make_plan(cluster(web), State(in_flight=left))
    assert [(phase.kind, set(phase.jobs)) for phase in plan.phases] == [
        ("unfinished", {"replace web@d", "replace web@e"}),
        ("replace", {"replace web@a", "replace web@b", "replace web@c"}),
    ]
    assert {job.id for job in plan.window().admissible()} == {"replace web@d", "replace web@e"}

    plan = make_plan(cluster(replace(web, canary=1)), State(in_flight=frozenset({"web@d"})))
    assert [phase.kind for phase in plan.phases] == ["canary", "replace"]
    assert [job.id for job in plan.window().admissible()] == ["replace web@d"]


def test_a_broken_member_that_leaves_no_room_is_an_obstacle() -> None:
    state = State(seen(web_a=replace(BROKEN, current=True)))
    row = make_plan(cluster(service("web", "a b c")), state).to_dict()
    assert row["obstacles"] == [
        "replace web@b and 1 more can't begin: replace web@b waits for the budget web "
        "(at most 1 instance out at once, 1 out: web@a)"
    ]
    assert len(row["jobs"]) == 2


def test_no_method_is_an_obstacle() -> None:
    plan = make_plan(cluster(service("web", "a", method="auto")), State())
    assert len(plan.obstacles) == 1
    assert plan.obstacles[0].startswith("web: ")


def test_the_active_member_and_the_vip_holder_go_last() -> None:
    whole = cluster(
        service("volumes", "a b c", active_passive=True, max_unavailable=3),
        service("haproxy", "lb1 lb2", backends=(), max_unavailable=2, takes_balancer=True),
        service("memcached", "lb1 lb2", backends=(), max_unavailable=2),
        balancers=("lb1", "lb2"),
    )
    plan = make_plan(whole, State(active={"volumes": "a"}, vip_holder="lb1"))
    starts = plan.timeline.starts
    assert starts["replace volumes@a"] > starts["replace volumes@b"] == starts["replace volumes@c"]
    assert starts["replace haproxy@lb1"] > starts["replace haproxy@lb2"]
    # What merely runs on the same hosts is no balancer.
    assert plan.makespan == 120.0
    assert [budget.kind for budget in plan.budgets] == ["service", "service", "service", "balancer"]
    assert plan.budgets[-1].services == ("haproxy",)
    unknown = make_plan(whole, State()).to_dict()
    assert unknown["notes"] == [
        "volumes: which member is active is not known, so no member can go last",
        "haproxy: who holds the VIP is not known (declare upgrade_vip), so nobody can go last",
    ]
    # Even so, one balancer at a time.
    assert unknown["services"][1]["end"] == 120.0
    nowhere = make_plan(replace(whole, vip="192.0.2.9"), State()).to_dict()
    assert "no balancer was seen with 192.0.2.9" in nowhere["notes"][1]


def kernel(hosts: str, **more: Any) -> Service:
    members = tuple(Instance("kernel", host, Artifact("host_image", "img:2", "img:2")) for host in hosts.split())
    return Service("kernel", members, **{"method": "roll", "min_healthy_time": 0.0, **more})


def test_a_host_image_takes_everything_on_its_host() -> None:
    """Each budget of each service that has an instance there bears it: service, quorum, domain, balancer."""
    web = replace(service("web", "a b c d", "n n s s", max_unavailable=3), drain_timeout=300.0)
    current = {i.name: InstanceState("web:2", current=True) for i in web.instances}
    everything = kernel("a b c d", max_unavailable=4)

    def makespan(one: Service, **more: Any) -> float:
        done = {i.name: InstanceState("img:2", current=True) for i in one.instances}
        plan = make_plan(cluster(one, everything, **more), State(current | done))
        assert plan.obstacles == ()
        assert plan.makespan >= plan.bound.seconds
        return plan.makespan

    assert makespan(replace(web, max_unavailable=4)) == 60.0
    assert makespan(web) == 120.0
    assert makespan(replace(web, max_unavailable=4, failure_domain="zone")) == 120.0
    assert makespan(replace(web, quorum=True)) == 240.0
    assert makespan(replace(web, max_unavailable=4), balancers=("a", "b")) == 120.0

    plan = make_plan(cluster(web, everything), State(current)).to_dict()
    job = plan["jobs"][0]
    assert job["servers"] == [{"backend": "web_back", "name": job["host"]}]
    assert job["drain_timeout"] == 300.0
    assert [(row["name"], row["services"], len(row["jobs"])) for row in plan["budgets"]] == [
        ("web", ["web", "kernel"], 4),
        ("kernel", ["kernel"], 4),
    ]


def test_a_host_image_and_the_instances_on_the_host_share_one_place() -> None:
    web = service("web", "a b", max_unavailable=1)
    plan = make_plan(cluster(web, kernel("a b", max_unavailable=2)), State())
    assert plan.obstacles == ()
    # Two jobs per host, and never a part of web out on both.
    assert plan.makespan == plan.bound.seconds == 240.0
    broken = State({"web@a": InstanceState("web:1", healthy=False)})
    assert [
        job.host for job in make_plan(cluster(web, kernel("a b", max_unavailable=2)), broken).window().admissible()
    ] == ["a"]


def test_a_host_whose_instance_cannot_be_spared_is_an_obstacle() -> None:
    alone = service("alone", "a", method="auto")
    state = State({"alone@a": InstanceState("alone:2", current=True)})
    [obstacle] = make_plan(cluster(alone, kernel("a b")), state).obstacles
    assert obstacle == (
        "kernel: takes alone@a out together with a: it is a single instance: while it is replaced, 0 of 1 serve"
    )
    for borne in (replace(alone, outage_allowed=True), replace(alone, method="roll")):
        assert make_plan(cluster(borne, kernel("a b")), state).obstacles == ()


def test_a_host_image_goes_last_where_something_on_the_host_does() -> None:
    volumes = service("volumes", "a b c", active_passive=True)
    state = State(
        {i.name: InstanceState("volumes:2", current=True) for i in volumes.instances}, active={"volumes": "b"}
    )
    plan = make_plan(cluster(volumes, kernel("a b c", max_unavailable=3)), state)
    assert order(plan)[-1] == "replace kernel@b"


def test_a_lost_quorum_is_an_obstacle_and_quorums_are_told() -> None:
    db = service("db", "a b c", quorum=True)
    assert make_plan(cluster(db), State()).to_dict()["notes"] == ["db: 3 of 3 members serve; a majority is 2"]
    one_out = {"db@a": InstanceState("db:1", healthy=False)}
    assert make_plan(cluster(db), State(one_out)).obstacles == ()
    two_out = one_out | {"db@b": InstanceState("db:1", healthy=False)}
    [obstacle] = make_plan(cluster(db), State(two_out)).obstacles
    assert obstacle.startswith("db: 1 of 3 members serve, and a majority is 2")


def test_one_failure_domain_at_a_time_and_a_ceiling() -> None:
    web = service("web", "a b c d", "n n s s", max_unavailable=4, failure_domain="zone")
    assert make_plan(cluster(web), State()).makespan == 120.0
    plan = make_plan(cluster(web, ceilings=Ceilings(max_hosts_out=1)), State())
    assert plan.makespan == plan.bound.seconds == 240.0
    assert [len(batch) for batch in plan.rounds] == [1, 1, 1, 1]


def test_longest_first() -> None:
    web = service("web", "a b c d", seconds={"a": 10, "b": 20, "c": 30, "d": 60}, max_unavailable=2)
    plan = make_plan(cluster(web), State())
    assert order(plan)[:2] == ["replace web@d", "replace web@c"]
    assert plan.makespan == plan.bound.seconds == 60.0


def test_restarts_find_a_better_order() -> None:
    # Longest first puts 3 + 3 beside 2 + 2 + 2 wrongly: 7 instead of 6.
    web = service("web", "a b c d e", seconds={"a": 3, "b": 3, "c": 2, "d": 2, "e": 2}, max_unavailable=2)
    assert make_plan(cluster(web), State()).makespan == 6.0
    clock = itertools.count(0.0, 10.0)
    none = make_plan(cluster(web), State(), improve_seconds=5.0, clock=lambda: next(clock))
    assert none.makespan == 7.0
    with pytest.raises(ValueError, match="improve_seconds: needs a clock"):
        make_plan(cluster(web), State(), improve_seconds=5.0)


def test_a_circle_names_its_services() -> None:
    whole = cluster(service("a", "x", depends_on=("b",)), service("b", "x", depends_on=("a",)))
    with pytest.raises(CircleError, match=r"depends_on goes round in a circle: (a -> b -> a|b -> a -> b)"):
        make_plan(whole, State())


def test_p90_is_above_p50_also_for_large_fleets() -> None:
    for size in (3, 900):
        web = service("web", " ".join(f"h{n}" for n in range(size)), max_unavailable=max(1, size // 4))
        plan = make_plan(cluster(web), State())
        assert plan.bound.seconds <= plan.p50 < plan.p90 < 3 * plan.makespan


def estimate(values: Mapping[tuple[str, str, str], list[float]], host: str = "a") -> tuple[float, str]:
    web = service("web", "a b c", seconds={"c": 7.0}, min_healthy_time=3.0)
    whole = cluster(replace(web, instances=tuple(replace(i, host_class="big") for i in web.instances)))
    found = Estimates(whole, values).of("replace", web, whole.instances[f"web@{host}"])
    return found.seconds, found.source


@pytest.mark.parametrize(
    ("values", "host", "expected"),
    [
        ({}, "a", (63.0, "default")),
        ({}, "c", (10.0, "declared")),
        ({("replace", "web", "a"): [20.0, 900.0, 22.0]}, "a", (22.0, "median of 3 earlier runs on a")),
        ({("replace", "web", "a"): [20.0]}, "a", (20.0, "median of 1 earlier run on a")),
        ({("replace", "web", "a"): [20.0, 22.0, 24.0]}, "b", (22.0, "median of 3 earlier runs of web on big")),
        ({("replace", "web", "gone"): [20.0]}, "b", (20.0, "median of 1 earlier run of web")),
        (
            {("replace", "web", "a"): [900.0], ("replace", "web", "b"): [10.0, 10.0, 10.0]},
            "a",
            (50.0, "median of 1 earlier run on a"),
        ),
    ],
)
def test_estimates(values: Mapping[tuple[str, str, str], list[float]], host: str, expected: tuple[float, str]) -> None:
    assert estimate(values, host) == expected


def test_staging() -> None:
    whole = cluster(service("web", "a b"), service("api", "a"), ceilings=Ceilings(stage_bandwidth=10.0))
    state = State(seen(web_a=InstanceState(size=1000), web_b=InstanceState(staged=True), api_a=InstanceState(size=500)))
    assert {host: [a.target for a in found] for host, found in to_stage(whole, state).items()} == {
        "a": ["web:2", "api:2"]
    }
    assert stage_time(whole, state, Estimates(whole)).to_dict() == {
        "seconds": 150.0,
        "bytes": 1500,
        "source": "1500 bytes at 10 bytes per second for the whole fleet",
    }
    assert stage_time(whole, State(), Estimates(whole)).source == (
        "the slowest host (default); the bandwidth is not reckoned with, since no host has all of the artifacts yet"
    )
    unlimited = replace(whole, ceilings=Ceilings())
    assert stage_time(unlimited, State(), Estimates(whole)).source == "the slowest host (default)"


@pytest.mark.parametrize(
    ("seconds", "capacity", "expected"),
    [([], 2, 0.0), ([5, 1], 2, 5.0), ([3, 3, 2, 2, 2], 2, 6.0), ([5, 5, 5], 2, 10.0), ([4, 4], 0, 4.0)],
)
def test_parallel_bound(seconds: list[float], capacity: int, expected: float) -> None:
    assert parallel_bound(seconds, capacity) == expected


def test_digests_change_with_what_matters_only() -> None:
    whole = keystone_stack()
    one = _planner.digests(whole, State())
    assert one == _planner.digests(keystone_stack(), State())
    staged = State(
        seen(keystone_c1=InstanceState(staged=True, size=5)), traffic={"keystone": Traffic(5.0)}, notes=("x",)
    )
    assert _planner.digests(whole, staged) == one
    assert _planner.digests(whole, State(seen(keystone_c1=BROKEN)))["state"] != one["state"]
    assert _planner.digests(whole, State(vip_holder="c1"))["state"] != one["state"]
    other = cluster(*(replace(s, max_unavailable=3) for s in whole.services.values()))
    assert _planner.digests(other, State())["declaration"] != one["declaration"]


def test_the_plan_fits_its_schema_and_json() -> None:
    schema = json.loads((ROOT / "docs" / "plan.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    zoned = service("web", "a b c", "n n s", max_unavailable=2, method="auto")
    balancers = service("haproxy", "lb1 lb2", backends=())
    whole = cluster(*keystone_stack().services.values(), zoned, balancers, balancers=("lb1", "lb2"))
    for state in (State(), State(seen(web_a=BROKEN, web_b=CURRENT), notes=("a note",))):
        row = make_plan(whole, state).to_dict()
        jsonschema.validate(row, schema)
        assert json.loads(json.dumps(row)) == row


def test_what_changed_between_two_plans() -> None:
    old = make_plan(cluster(service("web", "a b"), service("db", "a")), State(seen(web_b=CURRENT))).to_dict()
    assert difference(old, old) == []
    web = service("web", "a b c", seconds={"a": 500.0}, max_unavailable=2, database=Database(expand=True))
    changed = tuple(replace(i, artifact=Artifact("container", "web", "web:3")) for i in web.instances)
    state = State(seen(web_b=InstanceState("web:2"), web_c=BROKEN))
    assert difference(old, make_plan(cluster(replace(web, instances=changed)), state).to_dict()) == [
        "db: no longer declared",
        "web: how many may be out is 2, was 1",
        "web@c: out already, which takes a place in its budgets",
        "web@c: a new instance, to be replaced",
        "web@a: its target is web:3, was web:2",
        "web@b: to be replaced again; it runs web:2, and should run web:3",
        "db@a: no job any more, it is no longer declared",
        "expand web: to do now",
        "forecast: 560 s, was 120 s; 1 estimates changed, for example replace web@a (declared)",
    ]


def test_the_same_change_of_many_instances_is_one_sentence() -> None:
    names = " ".join(f"h{number}" for number in range(9))
    old = make_plan(cluster(service("web", names)), State()).to_dict()
    state = State({f"web@h{number}": CURRENT for number in range(9)})
    assert difference(old, make_plan(cluster(service("web", names)), state).to_dict()) == [
        "web@h0, web@h1, web@h2, web@h3, web@h4, web@h5 and 3 more: no job any more, it already runs its target",
        "forecast: 0 s, was 540 s",
    ]


def test_simulation() -> None:
    web = service("web", "a b c d", "n n s s", max_unavailable=2)
    calm = simulate(cluster(web), State(), None, Scenario(drawn=False))
    assert calm["makespan"] == calm["planned"] == 120.0
    assert calm["greatest_out"] == {"web": [2, 2]}
    zoned = cluster(replace(web, failure_domain="zone"))
    slow = simulate(zoned, State(), None, Scenario(drawn=False, slow={"n": 3.0}))
    assert slow["makespan"] == 240.0
    assert slow["greatest_out"] == {"web": [2, 2], "zone of web": [1, 1]}
    assert simulate(cluster(web), State(), None, Scenario(drawn=False, forks=1))["makespan"] == 240.0
    failing = simulate(cluster(web), State(), None, Scenario(failing=1.0))
    assert (len(failing["failed"]), len(failing["left"])) == (2, 2)
    assert failing["stuck"] == ("1 job of web failed; upgrade_max_failures is 0")
    tolerant = simulate(cluster(web), State(), None, Scenario(failing=0.25, max_failures=4))
    assert (tolerant["done"], tolerant["left"], tolerant["stuck"]) == (3, [], "")


def test_the_same_cluster_on_more_hosts() -> None:
    whole = cluster(service("web", "a b c d", max_unavailable=2), service("db", "a b c", quorum=True))
    large = scaled(whole, 40)
    assert {name: len(one.instances) for name, one in large.services.items()} == {"web": 40, "db": 3}
    assert large.services["web"].max_unavailable == 20
    assert len(large.instances) == 43
    with pytest.raises(ValueError, match="hosts: 3 are fewer than the 4 that are declared"):
        scaled(whole, 3)


def test_the_documented_five_lines() -> None:
    found = doctest.testfile(str(ROOT / "docs" / "planner.md"), module_relative=False)
    assert found.attempted >= 5
    assert found.failed == 0


BLOCKED = """
import importlib, pkgutil, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name == "ansible" or name.startswith("ansible."):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Block())
brain = importlib.import_module("ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration")
names = [found.name for found in pkgutil.iter_modules(brain.__path__)]
for name in names:
    importlib.import_module(f"{brain.__name__}.{name}")
assert "_planner" in names and "_window" in names and "_declaration" in names
assert not [name for name in sys.modules if name.split(".")[0] == "ansible"]
print("imported", len(names))
"""


def test_the_brain_needs_no_ansible() -> None:
    collections = next(
        str(parent)
        for parent in Path(_planner.__file__).parents
        if (parent / "ansible_collections" / "rondo" / "upgrade").is_dir()
    )
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={"PYTHONPATH": collections},
    )
    assert done.stdout.startswith("imported "), done.stderr
