# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Property tests: whatever the fleet and whatever happens, no budget is exceeded, no precedence broken, and it ends.

The checker below shares no code with the window: it reads a record of what began and ended, and counts by itself from
the cluster's own words.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration import _forecast, _planner
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._jobs import Job
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import (
    METHODS,
    Artifact,
    Ceilings,
    Cluster,
    Database,
    Hold,
    Instance,
    InstanceState,
    SecondCopy,
    Service,
    SideBySide,
    Spare,
    State,
    Traffic,
)
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._planner import Plan, make_plan
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._window import Window

THOROUGH = settings(
    max_examples=1000,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
BRIEF = settings(THOROUGH, max_examples=100)
MIDDLING = settings(THOROUGH, max_examples=150)
IMPROVED = settings(THOROUGH, max_examples=30)

ZONES = ("north", "east", "west")


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """No restarts and few draws: what these find is a matter of priorities and p90, not of rules."""
    monkeypatch.setattr(_planner, "FREE_JOBS", 0)
    monkeypatch.setattr(_forecast, "DRAWN_JOBS", 0)


@st.composite
def fleets(draw: st.DrawFn) -> tuple[Cluster, State]:
    """A cluster of up to 4 services on up to 9 hosts, some instances current and some broken."""
    hosts = [f"h{i}" for i in range(draw(st.integers(1, 9)))]
    balancers = tuple(hosts[: draw(st.integers(0, 2))])
    services: dict[str, Service] = {}
    states: dict[str, InstanceState] = {}
    for number in range(draw(st.integers(1, 4))):
        name = f"s{number}"
        on_balancers = bool(balancers) and draw(st.integers(0, 4)) == 0
        members = balancers if on_balancers else tuple(hosts[: draw(st.integers(1, len(hosts)))])
        # At most one: a host has one image.
        kernel = number == 0 and not on_balancers and draw(st.integers(0, 2)) == 0
        instances = tuple(
            Instance(
                name,
                host,
                Artifact("host_image" if kernel else "container", name, "new"),
                ZONES[i % 3] if draw(st.integers(0, 9)) else None,
                estimates={"replace": float(draw(st.integers(1, 50)))},
            )
            for i, host in enumerate(members)
        )
        services[name] = Service(
            name=name,
            instances=instances,
            depends_on=tuple(other for other in services if draw(st.integers(0, 3)) == 0),
            max_unavailable=draw(st.integers(1, len(members))),
            quorum=len(members) >= 3 and draw(st.booleans()),
            failure_domain=draw(st.sampled_from([None, "zone"])),
            canary=draw(st.sampled_from([0, 0, 1, 2])),
            bake_time=draw(st.sampled_from([0.0, 5.0])),
            active_passive=draw(st.booleans()),
            takes_balancer=on_balancers,
            backends=() if on_balancers or kernel else ("back",),
            database=Database(draw(st.booleans()), draw(st.booleans()), draw(st.booleans())),
            max_failures=draw(st.sampled_from([0, 0, 1, 3])),
            method="roll",
        )
        for instance in instances:
            mood = draw(st.integers(0, 11))
            states[instance.name] = InstanceState("old", current=mood in (0, 1), healthy=mood not in (1, 2))
    ceiling = draw(st.sampled_from([None, None, 1, 2, 4]))
    cluster = Cluster(services, balancers, Ceilings(max_hosts_out=ceiling, max_failures=draw(st.sampled_from([0, 2]))))
    active = {name: service.instances[0].host for name, service in services.items() if draw(st.booleans())}
    vip = draw(st.sampled_from([None, *balancers]))
    return cluster, State(states, active=active, vip_holder=vip)


@st.composite
def fleets_of_methods(draw: st.DrawFn) -> tuple[Cluster, State]:
    """The same, with services of all methods, their traffic, room on their hosts, and second copies that were left."""
    cluster, state = draw(fleets())
    services: dict[str, Service] = {}
    traffic: dict[str, Traffic] = {}
    beside: dict[str, dict[str, SecondCopy]] = {}
    for service in cluster.services.values():
        changed = service
        if service.backends and draw(st.booleans()):
            skew = draw(st.booleans())
            changed = replace(
                service,
                method=draw(st.sampled_from(["auto", "auto", *METHODS])),
                version_skew=skew,
                canary=service.canary if skew else 0,
                hold=Hold(
                    draw(st.sampled_from([None, None, 5.0, 60.0])),
                    timeouts=draw(st.sampled_from([{}, {"c": 20.0}])),
                    bytes_per_request=draw(st.sampled_from([21_000, 90_000])),
                ),
                side_by_side=draw(
                    st.sampled_from([None, SideBySide((15000, 15001)), SideBySide((15000, 15009), memory=900)])
                ),
                database=replace(service.database, offline=draw(st.integers(0, 3)) == 0),
                drain_timeout=draw(st.sampled_from([1.0, 60.0])),
                estimates={"offline": float(draw(st.integers(1, 20)))},
            )
            traffic[service.name] = Traffic(
                rate=draw(st.sampled_from([None, 0.0, 5.5, 100.0])),
                timeout=draw(st.sampled_from([None, 10.0, 100.0])),
                room=draw(st.sampled_from([None, 0, 100, 5000])),
                slowest=draw(st.sampled_from([None, 0.1, 30.0])),
                concurrency=draw(st.integers(0, 2)),
                tcp=draw(st.sampled_from([(), ("back",)])),
                unfit=draw(st.sampled_from(["", "", "lb can't"])),
            )
            if draw(st.integers(0, 4)) == 0:
                beside[service.name] = {
                    instance.name: SecondCopy(
                        instance.host,
                        "new",
                        draw(st.booleans()),
                        draw(st.booleans()),
                        draw(st.sampled_from([None, 15000])),
                    )
                    for instance in service.instances
                }
        services[service.name] = changed
    spare = {
        instance.host: Spare(draw(st.sampled_from([None, 500, 10**10])), 10**10, draw(st.sampled_from(PORTS)))
        for service in services.values()
        for instance in service.instances
    }
    flying = frozenset(name for name in services if draw(st.integers(0, 5)) == 0)
    seen = replace(state, traffic=traffic, beside=beside, spare=spare, in_flight=flying)
    return replace(cluster, services=services), seen


PORTS = (frozenset[int](), frozenset({15000}), frozenset({15000, 15001}))
MOVED = ("side_by_side", "held_switch")


@dataclass
class Record:
    """What happened, in order: ("begin" | "done" | "failed" | "lost" | "back", the job or the instance's name)."""

    events: list[tuple[str, Job | None, str]] = field(default_factory=list)

    def add(self, what: str, job: Job | None, instance: str = "") -> None:
        self.events.append((what, job, instance))


def carry_out(window: Window, random: Random, failing: float, losing: float) -> Record:
    """Drive a window with random durations, failures, losses and late beginnings, until nothing more can happen."""
    record = Record()
    members = sorted({job.instance for job in window.left if job.instance})
    lost: list[str] = []
    for _ in range(10_000):
        offered = window.admissible()
        # Not all that may begin does so at once, as with Ansible's loop.
        for job in offered if random.random() < 0.7 else offered[: random.randint(0, len(offered))]:
            window.begin(job.id)
            record.add("begin", job)
        if members and random.random() < losing:
            lost.append(random.choice(members))
            window.lose(lost[-1])
            record.add("lost", None, lost[-1])
        if lost and random.random() < 0.3:
            back = lost.pop(random.randrange(len(lost)))
            window.regain(back)
            record.add("back", None, back)
        running = window.in_flight
        if running:
            job = random.choice(running)
            outcome = "failed" if random.random() < failing else "done"
            window.end(job.id, outcome)  # type: ignore[arg-type]
            record.add(outcome, job)
        elif not window.admissible() and not lost:
            return record
    raise AssertionError("the window did not come to an end")


def check(cluster: Cluster, state: State, record: Record, methods: Mapping[str, str | None] | None = None) -> None:
    """Replay a record, and count everything again."""
    by = methods or {}
    broken = {name for name, seen in state.instances.items() if not seen.healthy}
    lost: set[str] = set()
    running: dict[str, Job] = {}
    done: set[str] = set()
    ended: set[str] = set()
    for what, job, instance in record.events:
        if what == "lost":
            lost.add(instance)
        elif what == "back":
            lost.discard(instance)
            broken.discard(instance)
        elif job is not None and what == "begin":
            busy = {host for other in running.values() for host in other.hosts}
            assert busy.isdisjoint(job.hosts), f"two jobs on {job.hosts}"
            check_precedence(cluster, state, job, running, ended, done, by.get(job.service))
            direct = broken | lost | {other.instance for other in running.values() if other.instance}
            running[job.id] = job
            if job.instance and job.instance not in direct:
                before = with_residents(cluster, direct)
                for victim in with_residents(cluster, {job.instance}) - before | {job.instance}:
                    moved = by.get(victim.partition("@")[0]) in MOVED
                    check_budgets(cluster, with_residents(cluster, direct | {job.instance}), victim, moved=moved)
        elif job is not None:
            del running[job.id]
            ended.add(job.id)
            if what == "done":
                done.add(job.id)
                lost.discard(job.instance or "")
                broken.discard(job.instance or "")
            elif job.instance:
                broken.add(job.instance)


def kernels(cluster: Cluster) -> set[str]:
    return {s.name for s in cluster.services.values() if s.instances[0].artifact.kind == "host_image"}


def with_residents(cluster: Cluster, out: set[str]) -> set[str]:
    """Whoever is out together with these: a host whose image is replaced takes everything on it."""
    taken = {name.partition("@")[2] for name in out if name.partition("@")[0] in kernels(cluster)}
    return out | {i.name for s in cluster.services.values() for i in s.instances if i.host in taken}


def check_budgets(cluster: Cluster, out: set[str], victim: str, *, moved: bool = False) -> None:
    """`out` are the instances out just after a job began that took `victim` out: none of its budgets is exceeded.

    `moved`: second copies serve, so that its service's own budget does not bind it.
    """
    service = cluster.services[victim.partition("@")[0]]
    mine = {i.name: i for i in service.instances if i.name in out}
    assert moved or len(mine) <= service.max_unavailable
    if service.quorum:
        assert len(mine) * 2 < len(service.instances), "no majority stays"
    if service.failure_domain and not moved:
        assert len({i.domain or name for name, i in mine.items()}) == 1, "two failure domains are out together"
    hosts = {name.partition("@")[2] for name in out}
    if cluster.ceilings.max_hosts_out is not None:
        assert len(hosts) <= cluster.ceilings.max_hosts_out
    balancing = {s.name for s in cluster.services.values() if s.takes_balancer} | kernels(cluster)
    if service.name in balancing and victim.partition("@")[2] in cluster.balancers:
        gone = {name.partition("@")[2] for name in out if name.partition("@")[0] in balancing}
        assert len(gone.intersection(cluster.balancers)) == 1


def last_of(cluster: Cluster, state: State, service: Service) -> set[str]:
    """Hosts that go last: of the active member, of whoever holds the VIP; for a host image, of all that runs there."""
    kernel = service.name in kernels(cluster)
    concerned = cluster.services.values() if kernel else [service]
    last = {state.active[s.name] for s in concerned if s.active_passive and s.name in state.active}
    takes_balancer = service.takes_balancer or (kernel and any(i.host in cluster.balancers for i in service.instances))
    return last | ({state.vip_holder} if takes_balancer and state.vip_holder else set())


def check_precedence(
    cluster: Cluster,
    state: State,
    job: Job,
    running: dict[str, Job],
    ended: set[str],
    done: set[str],
    method: str | None,
) -> None:
    service = cluster.services[job.service]
    to_do = {f"replace {i.name}" for i in service.instances if not state.instances[i.name].current}
    if method == "hold" and to_do:
        to_do = {f"switch {service.name}"}
    elif method in MOVED and to_do and not at_copies(service, state):
        to_do |= {f"switch {service.name}", f"settle {service.name}"}
    if service.name in state.beside:
        to_do.add(f"settle {service.name}")
    same = [other for other in running.values() if other.service == job.service]
    if job.kind == "expand":
        assert not done & to_do
    if job.kind == "switch":
        assert not done & to_do
        assert set(job.hosts) == {instance.host for instance in service.instances}
    if job.kind == "replace" and f"switch {service.name}" in to_do:
        assert f"switch {service.name}" in done
    if job.kind == "settle":
        assert to_do - {job.id} <= done, "second copies are taken away before all instances are home"
        assert not same
    if job.kind in ("switch", "replace") and service.database.expand:
        assert f"expand {service.name}" in done
    if job.kind in ("migrate", "contract"):
        assert to_do <= done, "an instance still runs the old version"
        assert not same
    if job.kind == "contract" and service.database.migrate:
        assert f"migrate {service.name}" in done
    if "canary" in job.phase or any("canary" in other.phase for other in same):
        assert not same, "a canary is not alone"
    if job.kind == "replace" and job.host in last_of(cluster, state, service):
        later = {f"replace {service.name}@{host}" for host in last_of(cluster, state, service)}
        assert to_do - later - {f"settle {service.name}"} <= ended
        assert not [other for other in same if other.host not in last_of(cluster, state, service)]
    for needed in service.depends_on:
        assert not [other for other in running.values() if other.service == needed], "a dependency is not done yet"


@pytest.mark.usefixtures("instant")
@THOROUGH
@given(fleets(), st.integers(0, 2**32), st.sampled_from([0.0, 0.0, 0.1, 0.4]), st.sampled_from([0.0, 0.05]))
def test_no_rule_is_ever_broken(fleet: tuple[Cluster, State], seed: int, failing: float, losing: float) -> None:
    cluster, state = fleet
    plan = make_plan(cluster, state)
    for window in (plan.window(), Window.from_plan(plan.to_dict())):
        record = carry_out(window, Random(seed), failing, losing)
        check(cluster, state, record)
        ends_well_or_says_why(window)


def ends_well_or_says_why(window: Window) -> None:
    assert window.finished
    assert not window.in_flight
    if window.left:
        assert window.stuck
        for job in window.left:
            assert window.waits_for(job.id) != "may begin"
    else:
        assert window.stuck == ""


def at_copies(service: Service, state: State) -> bool:
    copies = state.beside.get(service.name, {})
    return (
        bool(copies)
        and service.name not in state.in_flight
        and all(copy.serving and copy.current for copy in copies.values())
        and not any(s.healthy and not s.current for s in (state.instances[i.name] for i in service.instances))
    )


@pytest.mark.usefixtures("instant")
@MIDDLING
@given(fleets_of_methods(), st.integers(0, 2**32), st.sampled_from([0.0, 0.0, 0.2]))
def test_no_rule_is_broken_by_other_methods(fleet: tuple[Cluster, State], seed: int, failing: float) -> None:
    cluster, state = fleet
    plan = make_plan(cluster, state)
    methods = {name: choice.method for name, choice in plan.choices.items()}
    for window in (plan.window(), Window.from_plan(plan.to_dict())):
        record = carry_out(window, Random(seed), failing, 0.0)
        check(cluster, state, record, methods)
        ends_well_or_says_why(window)


@pytest.mark.usefixtures("instant")
@MIDDLING
@given(fleets_of_methods())
def test_no_chosen_method_breaks_its_own_bounds(fleet: tuple[Cluster, State]) -> None:
    cluster, state = fleet
    plan = make_plan(cluster, state)
    rows = {row["service"]: row for row in plan.to_dict()["jobs"] if row["kind"] == "switch"}
    for name, row in rows.items():
        service, traffic = cluster.services[name], state.traffic[name]
        options = row["options"]
        assert service.method in ("auto", row["method"])
        assert not service.database.offline or row["method"] != "side_by_side"
        assert (options["hold"] is not None) == (row["method"] in ("hold", "held_switch"))
        assert (options["side_by_side"] is not None) == (row["method"] in MOVED)
        if hold := options["hold"]:
            assert traffic.rate is not None and traffic.timeout is not None and traffic.room is not None
            assert not traffic.unfit
            assert hold["deadline"] >= hold["pause"] * (1 if service.hold.deadline else 2)
            assert hold["deadline"] < min([traffic.timeout, *service.hold.timeouts.values()])
            assert traffic.rate * hold["deadline"] <= traffic.room
            assert hold["pause"] >= (service.estimates["offline"] if service.database.offline else 0.0)
        if row["method"] == "side_by_side" and service.method == "auto":
            assert service.version_skew
        if row["method"] == "held_switch" or not service.version_skew:
            assert options["side_by_side"] is None or options["side_by_side"]["steps"] == [100]
    check_second_copies(cluster, state, [*rows.values()], plan)


def check_second_copies(cluster: Cluster, state: State, rows: list[dict[str, Any]], plan: Plan) -> None:
    """Each has a port of its own that is free, in its service's range, and memory."""
    used: set[tuple[str, int]] = set()
    no_port = [sentence for sentence in plan.obstacles if "no port of" in sentence]
    for row in rows:
        declared = cluster.services[row["service"]].side_by_side
        for member in row["instances"]:
            beside = member["beside"]
            there = state.beside.get(row["service"], {}).get(member["instance"])
            if beside is None or declared is None:
                assert row["method"] == "hold" or member["current"] or there
                continue
            if beside["port"] is None:
                assert no_port or row["method"] == "hold"
            elif there is None or there.port is None:
                assert declared.ports[0] <= beside["port"] <= declared.ports[1]
                assert beside["port"] not in state.spare[beside["host"]].ports
                assert (beside["host"], beside["port"]) not in used
                used.add((beside["host"], beside["port"]))
                if there is None:
                    assert (state.spare[beside["host"]].memory or 0) >= declared.memory


@pytest.mark.usefixtures("instant")
@MIDDLING
@given(fleets_of_methods())
def test_versions_that_must_not_mix_are_never_rolled(fleet: tuple[Cluster, State]) -> None:
    cluster, state = fleet
    for name, choice in make_plan(cluster, state).choices.items():
        service = cluster.services[name]
        seen = [state.instances[instance.name] for instance in service.instances]
        if choice.method == "roll" and not service.version_skew and len(seen) > 1:
            assert all(one.current for one in seen) or not any(one.healthy for one in seen)


@pytest.mark.usefixtures("instant")
@BRIEF
@given(fleets())
def test_a_healthy_fleet_is_upgraded_to_the_last_job(fleet: tuple[Cluster, State]) -> None:
    cluster, state = fleet
    healthy = {name: replace(seen, healthy=True) for name, seen in state.instances.items()}
    plan = make_plan(cluster, replace(state, instances=healthy))
    assert plan.obstacles == ()
    assert set(plan.timeline.ends) == {job.id for job in plan.jobs}
    assert sorted(job for batch in plan.rounds for job in batch) == sorted(job.id for job in plan.jobs)


@pytest.mark.usefixtures("instant")
@BRIEF
@given(fleets())
def test_what_cannot_begin_is_an_obstacle(fleet: tuple[Cluster, State]) -> None:
    plan = make_plan(*fleet)
    obstacles = [sentence for sentence in plan.obstacles if "a majority is" not in sentence]
    assert bool(obstacles) == (set(plan.timeline.ends) != {job.id for job in plan.jobs})


@IMPROVED
@given(st.one_of(fleets(), fleets_of_methods()))
def test_the_same_input_gives_the_same_plan(fleet: tuple[Cluster, State]) -> None:
    assert make_plan(*fleet).to_dict() == make_plan(*fleet).to_dict()


@IMPROVED
@given(st.one_of(fleets(), fleets_of_methods()))
def test_no_forecast_beats_the_bound(fleet: tuple[Cluster, State]) -> None:
    plan = make_plan(*fleet)
    if not plan.timeline.stuck:
        assert plan.makespan >= plan.bound.seconds * (1 - 1e-9)


@IMPROVED
@given(st.one_of(fleets(), fleets_of_methods()))
def test_the_forecast_is_what_the_window_of_the_plan_does(fleet: tuple[Cluster, State]) -> None:
    plan = make_plan(*fleet)
    again = replayed(plan)
    assert again == dict(plan.timeline.ends)


def replayed(plan: Plan) -> dict[str, float]:
    """The ends of a plan's jobs when its file's window runs them, each as long as estimated."""
    window = Window.from_plan(plan.to_dict())
    ends: dict[str, float] = {}
    running: dict[str, float] = defaultdict(float)
    seconds = {job.id: job.seconds for job in plan.jobs}
    now = 0.0
    while True:
        for job in window.admissible():
            window.begin(job.id)
            running[job.id] = now + seconds[job.id]
        if not running:
            return ends
        now = min(running.values())
        for job_id in [job_id for job_id, end in running.items() if end == now]:
            ends[job_id] = running.pop(job_id)
            window.end(job_id, "done")
