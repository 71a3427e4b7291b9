# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The admission on plays without Ansible: a job is a number of tasks, which its host runs one after the other."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._admission import Admission
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._window import Window


@dataclass
class Play:
    """What the admission sees of a play. `tasks`: how many a job has; `left`: how many a host has before it."""

    tasks: dict[str, int]
    left: dict[str, int] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    failures: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)

    def busy(self, name: str) -> bool:
        return name in self.running

    def unreachable(self, name: str) -> bool:
        return name in self.gone

    def failed(self, name: str) -> bool:
        return name in self.failures

    def begin(self, name: str, job: str) -> None:
        assert not self.left.get(name) and name not in self.running, f"{job} begins in the middle of another"
        self.left[name] = self.tasks.get(job, 2)
        self.begun.append(job)

    def has_task(self, name: str) -> bool:
        assert name not in self.running, "asked about a busy host"
        return self.left[name] > 0

    def waits(self, name: str) -> bool:
        return name in self.waiting

    def start(self, name: str) -> None:
        self.running.add(name)
        self.left[name] -= 1

    def fail(self, name: str) -> None:
        self.running.discard(name)
        self.left[name] = 0
        self.failures.add(name)


def plan(*jobs: tuple[str, str], capacity: int = 1, max_failures: int = 0) -> dict[str, Any]:
    """Jobs are (service, host), in the plan's order; all in one phase per service, without precedence."""
    services = list(dict.fromkeys(service for service, _host in jobs))
    rows = [
        {
            "id": f"{service}@{host}",
            "kind": "replace",
            "service": service,
            "host": host,
            "instance": f"{service}@{host}",
            "phase": service,
            "seconds": 1.0,
            "priority": number,
            "start": float(number),
        }
        for number, (service, host) in enumerate(jobs)
    ]
    return {
        "jobs": rows,
        "phases": [
            {
                "id": service,
                "service": service,
                "kind": "replace",
                "after": [],
                "jobs": [row["id"] for row in rows if row["service"] == service],
            }
            for service in services
        ],
        "budgets": [
            {"name": s, "kind": "service", "capacity": capacity, "services": [s], "already_out": []} for s in services
        ],
        "services": [{"name": service, "max_failures": max_failures} for service in services],
        "max_failures": max_failures,
    }


class Scene:
    def __init__(self, given: dict[str, Any], **tasks: int) -> None:
        self.play = Play({name.replace("_", "@"): number for name, number in tasks.items()})
        self.window = Window.from_plan(given)
        self.failed: list[tuple[str, str]] = []
        self.admission = Admission(self.window, self.play, lambda job, why: self.failed.append((job, why)))
        self.jobs = [row["id"] for row in given["jobs"]]

    def in_flight(self) -> list[str]:
        return [job.id for job in self.window.in_flight]

    def run(self, host: str) -> None:
        """Start the host's next task, see that the host stays visible, and take the result in."""
        self.play.start(host)
        assert host in self.admission.visible()
        self.play.running.discard(host)


def test_a_host_is_visible_while_its_job_runs_and_not_before_and_after() -> None:
    scene = Scene(plan(("a", "h1"), ("a", "h2")))
    for host in ("h1", "h2"):
        for _task in range(2):
            assert scene.admission.visible() == [host]
            # A second look changes nothing.
            assert scene.admission.visible() == [host]
            assert scene.in_flight() == [f"a@{host}"]
            scene.run(host)
    assert scene.admission.visible() == []
    assert scene.admission.never_begun(scene.jobs) == []
    assert scene.admission.over() == ["h1", "h2"]
    assert scene.failed == []


def test_a_host_waits_between_its_jobs() -> None:
    scene = Scene(plan(("a", "h1"), ("b", "h2"), ("b", "h1")), a_h1=1)
    assert scene.admission.visible() == ["h1", "h2"]
    scene.run("h1")
    # b@h2 holds b's budget.
    assert scene.admission.visible() == ["h2"]
    assert scene.in_flight() == ["b@h2"]
    scene.run("h2")
    scene.run("h2")
    assert scene.admission.visible() == ["h1"]
    assert scene.play.begun == ["a@h1", "b@h2", "b@h1"]


def test_a_busy_host_is_not_judged_by_tasks_that_may_not_be_there_yet() -> None:
    """While an include runs, its host seems to have nothing more to do."""
    scene = Scene(plan(("a", "h1")), a_h1=1)
    assert scene.admission.visible() == ["h1"]
    scene.play.start("h1")
    assert scene.admission.startable(5) == []
    assert scene.admission.visible() == ["h1"]
    scene.play.left["h1"] = 1
    scene.play.running.clear()
    assert scene.admission.visible() == ["h1"]
    assert scene.admission.startable(5) == ["h1"]
    scene.run("h1")
    assert scene.admission.visible() == []
    assert scene.failed == []


def test_forks_bound_the_tasks_that_work_and_not_those_that_wait() -> None:
    hosts = [f"h{number}" for number in range(1, 7)]
    scene = Scene(plan(*[("a", host) for host in hosts], capacity=6))
    assert scene.admission.visible() == hosts
    assert scene.admission.startable(2) == ["h1", "h2"]
    scene.play.start("h1")
    assert scene.admission.startable(2) == ["h2"]
    scene.play.start("h2")
    assert scene.admission.startable(2) == []
    # h4's next task only waits, and so does the one that h1 runs.
    scene.play.waiting = {"h1", "h4"}
    assert scene.admission.startable(2) == ["h3", "h4"]
    assert scene.admission.startable(1) == ["h4"]


@pytest.mark.parametrize(
    ("how", "why"), [("fail", "a task of it failed on h1"), ("unreachable", "h1 became unreachable")]
)
def test_a_failure_stops_what_follows(how: str, why: str) -> None:
    scene = Scene(plan(("a", "h1"), ("a", "h2"), ("b", "h1")))
    assert scene.admission.visible() == ["h1"]
    scene.play.start("h1")
    if how == "fail":
        scene.play.fail("h1")
    else:
        scene.play.running.clear()
        scene.play.gone.add("h1")
    assert scene.admission.visible() == []
    assert scene.failed == [("a@h1", why)]
    assert scene.admission.never_begun(scene.jobs) == ["a@h2", "b@h1"]
    assert "1 job of a failed" in scene.admission.why()
    assert scene.admission.over() == (["h1"] if how == "fail" else [])


def test_within_the_failure_budget_the_rest_goes_on() -> None:
    given = plan(("a", "h1"), ("a", "h2"), ("b", "h1"), ("b", "h2"), capacity=2, max_failures=1)
    scene = Scene(given, a_h2=1, b_h2=1)
    assert scene.admission.visible() == ["h1", "h2"]
    scene.play.start("h1")
    scene.play.fail("h1")
    for _ in range(2):
        assert scene.admission.visible() == ["h2"]
        scene.run("h2")
    assert scene.admission.visible() == []
    assert scene.admission.never_begun(scene.jobs) == ["b@h1"]
    assert scene.admission.why() == "another job on their host failed"


def test_a_host_without_a_task_for_its_job_failed() -> None:
    """A play of which nothing is left (by --tags, for one) is no upgrade."""
    scene = Scene(plan(("a", "h1"), ("a", "h2")), a_h1=0)
    assert scene.admission.visible() == []
    assert scene.failed == [("a@h1", "h1 has no task for it")]


def test_a_pause_shows_nobody_new() -> None:
    scene = Scene(plan(("a", "h1"), ("a", "h2")), a_h1=1)
    assert scene.admission.visible() == ["h1"]
    scene.window.pause()
    scene.run("h1")
    assert scene.admission.visible() == []
    scene.window.resume()
    assert scene.admission.visible() == ["h2"]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_order_results_come_in_all_jobs_are_done_within_the_budgets(seed: int) -> None:
    chance = random.Random(seed)
    hosts = [f"h{number}" for number in range(12)]
    pairs = [(service, host) for service in "abc" for host in chance.sample(hosts, 8)]
    chance.shuffle(pairs)
    scene = Scene(plan(*pairs, capacity=2), **{f"{service}_{host}": chance.randint(1, 4) for service, host in pairs})
    while shown := scene.admission.visible():
        for service in "abc":
            assert sum(job.startswith(f"{service}@") for job in scene.in_flight()) <= 2
        startable = scene.admission.startable(3)
        assert startable or scene.play.running
        for host in startable:
            assert host in shown
            scene.play.start(host)
        assert len(scene.play.running) <= 3
        for host in chance.sample(sorted(scene.play.running), chance.randint(1, len(scene.play.running))):
            scene.play.running.discard(host)
    assert scene.failed == []
    assert sorted(scene.play.begun) == sorted(scene.jobs)
