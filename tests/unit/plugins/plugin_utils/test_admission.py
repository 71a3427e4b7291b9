# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The admission on plays without Ansible: each host is a list of tasks, each task the job that it belongs to."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._admission import Admission
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._window import Window


@dataclass
class Next:
    job: str | None


@dataclass
class Play:
    """What the admission sees of a play. `tasks[host]` are those to come; a task is gone once it was started."""

    tasks: dict[str, list[str | None]]
    running: set[str] = field(default_factory=set)
    failures: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)

    def busy(self, name: str) -> bool:
        return name in self.running

    def unreachable(self, name: str) -> bool:
        return name in self.gone

    def failed(self, name: str) -> bool:
        return name in self.failures

    def next_task(self, name: str) -> Next | None:
        assert name not in self.running, "asked about a busy host"
        left = self.tasks[name]
        return Next(left[0]) if left else None

    def start(self, name: str) -> str | None:
        self.running.add(name)
        return self.tasks[name].pop(0)

    def fail(self, name: str) -> None:
        self.running.discard(name)
        self.tasks[name] = []
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
    def __init__(self, given: dict[str, Any], tasks: dict[str, list[str | None]]) -> None:
        self.play = Play(tasks)
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
    scene = Scene(plan(("a", "h1"), ("a", "h2")), {"h1": [None, "a@h1", "a@h1"], "h2": [None, "a@h2"]})
    assert scene.admission.visible() == ["h1"]
    # The include first: it belongs to no job, so the job is in progress, and a second look changes nothing.
    scene.run("h1")
    assert scene.admission.visible() == ["h1"]
    assert scene.in_flight() == ["a@h1"]
    scene.run("h1")
    scene.run("h1")
    for _ in range(2):
        assert scene.admission.visible() == ["h2"]
        scene.run("h2")
    assert scene.admission.visible() == []
    assert scene.admission.never_begun(scene.jobs) == []
    assert scene.admission.over == ["h1", "h2"]
    assert scene.failed == []


def test_a_task_of_another_job_ends_the_one_before() -> None:
    given = plan(("a", "h1"), ("b", "h2"), ("b", "h1"))
    scene = Scene(given, {"h1": ["a@h1", "b@h1"], "h2": ["b@h2", "b@h2"]})
    assert scene.admission.visible() == ["h1", "h2"]
    scene.run("h1")
    # b@h2 holds b's budget: h1 waits between its jobs.
    assert scene.admission.visible() == ["h2"]
    assert scene.in_flight() == ["b@h2"]
    scene.run("h2")
    scene.run("h2")
    assert scene.admission.visible() == ["h1"]
    assert scene.in_flight() == ["b@h1"]


def test_tasks_outside_any_job_belong_to_the_one_in_progress() -> None:
    """Handlers, for one."""
    scene = Scene(plan(("a", "h1"), ("a", "h2")), {"h1": ["a@h1", None, "a@h1", None], "h2": ["a@h2"]})
    for _ in range(4):
        assert scene.admission.visible() == ["h1"]
        scene.run("h1")
    assert scene.admission.visible() == ["h2"]


def test_a_busy_host_is_not_judged_by_tasks_that_may_not_be_there_yet() -> None:
    """While an include runs, its host seems to have nothing more to do."""
    scene = Scene(plan(("a", "h1")), {"h1": [None]})
    assert scene.admission.visible() == ["h1"]
    scene.play.start("h1")
    assert scene.admission.idle() == []
    assert scene.admission.visible() == ["h1"]
    scene.play.tasks["h1"] = ["a@h1"]
    scene.play.running.clear()
    assert scene.admission.idle() == ["h1"]
    assert scene.admission.visible() == ["h1"]
    scene.run("h1")
    assert scene.admission.visible() == []
    assert scene.failed == []


@pytest.mark.parametrize(
    ("how", "why"), [("fail", "a task of it failed on h1"), ("unreachable", "h1 became unreachable")]
)
def test_a_failure_stops_what_follows(how: str, why: str) -> None:
    scene = Scene(plan(("a", "h1"), ("a", "h2"), ("b", "h1")), {"h1": ["a@h1", "b@h1"], "h2": ["a@h2"]})
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


def test_within_the_failure_budget_the_rest_goes_on() -> None:
    given = plan(("a", "h1"), ("a", "h2"), ("b", "h1"), ("b", "h2"), capacity=2, max_failures=1)
    scene = Scene(given, {"h1": ["a@h1", "b@h1"], "h2": ["a@h2", "b@h2"]})
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
    """A loop that was skipped is no upgrade."""
    scene = Scene(plan(("a", "h1"), ("a", "h2")), {"h1": [], "h2": ["a@h2"]})
    assert scene.admission.visible() == []
    assert scene.failed == [("a@h1", "h1 has no task for it")]


def test_a_host_that_would_begin_another_job_is_never_shown() -> None:
    scene = Scene(plan(("a", "h1"), ("b", "h1")), {"h1": ["b@h1", "a@h1"]})
    assert scene.admission.visible() == []
    assert scene.failed == [("a@h1", "h1 would begin b@h1 instead of it")]


def test_a_pause_shows_nobody_new() -> None:
    scene = Scene(plan(("a", "h1"), ("a", "h2")), {"h1": ["a@h1"], "h2": ["a@h2"]})
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
    given = plan(*pairs, capacity=2)
    tasks: dict[str, list[str | None]] = {host: [None] for host in hosts}
    for service, host in pairs:
        tasks[host] += [f"{service}@{host}"] * chance.randint(1, 4)
    scene = Scene(given, tasks)
    done: list[str | None] = []
    while shown := scene.admission.visible():
        for service in "abc":
            assert sum(job.startswith(f"{service}@") for job in scene.in_flight()) <= 2
        for host in shown:
            if host not in scene.play.running and scene.play.tasks[host]:
                done.append(scene.play.start(host))
        for host in chance.sample(sorted(scene.play.running), chance.randint(1, len(scene.play.running))):
            scene.play.running.discard(host)
    assert scene.failed == []
    assert scene.admission.never_begun(scene.jobs) == []
    assert {job for job in done if job} == set(scene.jobs)
