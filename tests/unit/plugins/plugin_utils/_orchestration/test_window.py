# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The window: literal fleets, literal answers."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._budget import Budget
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._jobs import Job, Phase
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._window import Window, WindowError


def replace(service: str, host: str, phase: str = "", seconds: float = 10.0, priority: int = 0) -> Job:
    name = f"{service}@{host}"
    return Job(f"replace {name}", "replace", service, host, name, phase or f"replace {service}", seconds, priority)


def phase(jobs: Iterable[Job], kind: str = "replace", after: tuple[str, ...] = ()) -> Phase:
    members = list(jobs)
    return Phase(members[0].phase, members[0].service, kind, after, tuple(job.id for job in members))  # type: ignore[arg-type]


def service(name: str, hosts: str) -> list[Job]:
    return [replace(name, host, priority=rank) for rank, host in enumerate(hosts.split())]


def names(jobs: Iterable[Job]) -> list[str]:
    return [job.instance or job.id for job in jobs]


def one_service(capacity: int = 2, **options: object) -> Window:
    jobs = service("web", "a b c d")
    return Window(jobs, [phase(jobs)], [Budget("web", "service", capacity, ("web",))], **options)  # type: ignore[arg-type]


def test_a_budget_slides() -> None:
    window = one_service()
    assert names(window.admissible()) == ["web@a", "web@b"]
    window.begin("replace web@a")
    window.begin("replace web@b")
    assert window.admissible() == []
    window.end("replace web@b", "done")
    assert names(window.admissible()) == ["web@c"]
    assert names(window.in_flight) == ["web@a"]


def test_what_is_admissible_stays_so_until_it_begins() -> None:
    window = one_service()
    assert window.admissible() == window.admissible()
    window.begin("replace web@b")
    assert names(window.admissible()) == ["web@a"]
    assert names(window.admissible(limit=0)) == []


def test_a_job_that_may_not_begin_is_refused_with_the_reason() -> None:
    window = one_service(1)
    window.begin("replace web@a")
    with pytest.raises(WindowError) as error:
        window.begin("replace web@b")
    assert str(error.value) == (
        "replace web@b may not begin: it waits for the budget web (at most 1 instance out at once, 1 out: web@a)"
    )
    with pytest.raises(WindowError, match=r"replace web@b can't end: it waits"):
        window.end("replace web@b", "done")
    with pytest.raises(WindowError, match="replace web@z is no job of this plan"):
        window.begin("replace web@z")


def test_broken_members_count_as_out_and_take_nothing_more() -> None:
    window = one_service(1, out=["web@c"])
    assert names(window.admissible()) == ["web@c"]
    window.begin("replace web@c")
    window.end("replace web@c", "done")
    assert names(window.admissible()) == ["web@a"]


def test_a_broken_member_without_a_job_blocks_and_the_window_says_so() -> None:
    window = one_service(1, out=["web@z"])
    assert window.admissible() == []
    assert window.finished
    assert window.stuck == (
        "replace web@a and 3 more can't begin: replace web@a waits for the budget web "
        "(at most 1 instance out at once, 1 out: web@z)"
    )
    window.regain("web@z")
    assert names(window.admissible()) == ["web@a"]
    assert window.stuck == ""


def test_a_loss_shrinks_the_window_at_once() -> None:
    window = one_service(2)
    assert len(window.admissible()) == 2
    window.lose("web@d")
    # Its own job takes nothing more from the budget, so it may begin beside one other.
    assert names(window.admissible()) == ["web@a", "web@d"]
    window.lose("web@c")
    assert names(window.admissible()) == ["web@c", "web@d"]
    window.regain("web@c")
    assert names(window.admissible()) == ["web@a", "web@d"]


def test_a_failed_job_keeps_its_slot_until_regained() -> None:
    window = one_service(1, max_failures={"web": 1})
    window.begin("replace web@a")
    window.end("replace web@a", "failed")
    assert window.stopped == ""
    assert window.admissible() == []
    assert window.out == ["web@a"]
    window.regain("web@a")
    assert names(window.admissible()) == ["web@b"]
    assert names(window.failed) == ["web@a"]


def test_more_failures_than_tolerated_stop_the_window() -> None:
    window = one_service(2)
    window.begin("replace web@a")
    window.begin("replace web@b")
    window.end("replace web@a", "failed")
    assert window.stopped == "1 job of web failed; upgrade_max_failures is 0"
    assert window.admissible() == []
    assert not window.finished
    window.end("replace web@b", "done")
    assert window.finished
    assert window.stuck == "1 job of web failed; upgrade_max_failures is 0"
    assert window.waits_for("replace web@c") == "will not begin: 1 job of web failed; upgrade_max_failures is 0"


@pytest.mark.parametrize(
    ("services", "overall", "failing", "said"),
    [
        # Services without a number of their own have the overall one.
        ({}, 2, "web@a db@d web@b", "3 jobs failed; upgrade_max_failures is 2"),
        ({}, 1, "web@a web@b", "2 jobs of web failed; upgrade_max_failures is 1"),
        # A service's own number bounds it, also below the overall one ...
        ({"web": 0}, 2, "db@d web@a", "1 job of web failed; max_failures of web is 0"),
        ({"web": 1}, 9, "web@a db@d db@e web@b", "2 jobs of web failed; max_failures of web is 1"),
        # ... and the overall one, where it is declared, bounds a service that is given more.
        ({"web": 3}, 1, "web@a web@b", "2 jobs failed; upgrade_max_failures is 1"),
        ({"web": 3, "db": 3}, 0, "web@a", "1 job failed; upgrade_max_failures is 0"),
        ({"web": 1, "db": 1}, 1, "web@a db@d", "2 jobs failed; upgrade_max_failures is 1"),
        # Where it is not, what services are given raises it, and the others have none.
        ({"web": 2}, None, "web@a web@b web@c", "3 jobs of web failed; max_failures of web is 2"),
        ({"web": 2}, None, "web@a db@d", "1 job of db failed; upgrade_max_failures is 0"),
        ({"web": 2, "db": 2}, None, "web@a web@b db@d", "3 jobs failed; upgrade_max_failures is 2"),
        ({"web": None, "db": 1}, None, "db@d web@a", "1 job of web failed; upgrade_max_failures is 0"),
    ],
)
def test_the_failure_that_is_one_too_many(
    services: dict[str, int | None], overall: int | None, failing: str, said: str
) -> None:
    jobs = service("web", "a b c") + service("db", "d e f")
    phases = [phase(jobs[:3]), phase(jobs[3:])]
    window = Window(jobs, phases, [], max_failures=services, fleet_max_failures=overall)
    for job in window.admissible():
        window.begin(job.id)
    *tolerated, last = [f"replace {name}" for name in failing.split()]
    for name in tolerated:
        window.end(name, "failed")
    assert window.stopped == ""
    window.end(last, "failed")
    assert window.stopped == said


def test_a_failed_host_is_left_alone() -> None:
    jobs = service("web", "a b") + service("db", "a b")
    phases = [phase(jobs[:2]), phase(jobs[2:], after=("replace web",))]
    window = Window(jobs, phases, [], fleet_max_failures=5)
    window.admissible()
    window.begin("replace web@a")
    window.begin("replace web@b")
    window.end("replace web@a", "failed")
    window.end("replace web@b", "done")
    assert window.waits_for("replace db@a") == "was skipped"
    assert names(window.skipped) == ["db@a"]
    assert names(window.admissible()) == ["db@b"]


def test_one_job_per_host() -> None:
    jobs = service("web", "a b") + service("db", "a")
    window = Window(jobs, [phase(jobs[:2]), phase(jobs[2:])], [])
    assert names(window.admissible()) == ["web@a", "web@b"]
    window.begin("replace web@a")
    assert window.waits_for("replace db@a") == "waits for a, busy with replace web@a"
    window.end("replace web@a", "done")
    assert names(window.admissible()) == ["db@a", "web@b"]


def test_host_order_keeps_the_order_of_the_jobs() -> None:
    jobs = [replace("web", "a", priority=5), replace("db", "a", priority=1), replace("db", "b", priority=2)]
    phases = [phase(jobs[:1]), phase(jobs[1:])]
    window = Window(jobs, phases, [Budget("web", "service", 1, ("web",))], host_order=True)
    assert names(window.admissible()) == ["db@b", "web@a"]
    assert window.waits_for("replace db@a") == "waits for a, busy with replace web@a"
    window.lose("web@z")
    assert names(window.admissible()) == ["db@b"]
    assert window.waits_for("replace db@a") == "waits for replace web@a, which comes before it on a"


ZONES = {"web@a": "north", "web@b": "north", "web@c": "south", "web@d": "south"}


def test_two_failure_domains_are_never_out_together() -> None:
    jobs = service("web", "a c b d")
    budgets = [
        Budget("web", "service", 2, ("web",)),
        Budget("zone of web", "failure_domain", 1, ("web",), "domains", ZONES),
    ]
    window = Window(jobs, [phase(jobs)], budgets)
    assert names(window.admissible()) == ["web@a", "web@b"]
    window.begin("replace web@a")
    window.begin("replace web@b")
    window.end("replace web@a", "done")
    assert window.admissible() == []
    assert "at most 1 failure domain out at once, 1 out: web@b" in window.waits_for("replace web@c")
    window.end("replace web@b", "done")
    assert names(window.admissible()) == ["web@c", "web@d"]


def test_a_ceiling_counts_hosts_once() -> None:
    jobs = service("web", "a b c") + service("db", "c d")
    budgets = [Budget("hosts", "max_hosts_out", 2, ("web", "db"), "hosts")]
    window = Window(jobs, [phase(jobs[:3]), phase(jobs[3:])], budgets, out=["web@c"])
    # c is out already: work on it takes nothing more, and one other host may go.
    assert names(window.admissible()) == ["web@a", "db@c"]


def chain(*kinds: str) -> tuple[list[Job], list[Phase]]:
    """A service's phases of these kinds, two jobs in each but schema phases."""
    jobs: list[Job] = []
    phases: list[Phase] = []
    after: tuple[str, ...] = ()
    for kind in kinds:
        name = f"{kind} web"
        if kind in ("expand", "contract"):
            members = [Job(name, kind, "web", kind, None, name)]  # type: ignore[arg-type]
        else:
            members = [replace("web", f"{kind}{n}", name) for n in range(2)]
        jobs += members
        phases.append(Phase(name, "web", kind, after, tuple(job.id for job in members)))  # type: ignore[arg-type]
        after = (name,)
    return jobs, phases


def finish(window: Window, failing: str = "") -> None:
    while not window.finished:
        for job in window.admissible():
            window.begin(job.id)
        for job in window.in_flight:
            window.end(job.id, "failed" if job.id == failing else "done")


def test_phases_follow_each_other() -> None:
    window = Window(*chain("expand", "canary", "replace", "last", "contract"), [])
    assert [job.id for job in window.admissible()] == ["expand web"]
    assert window.waits_for("contract web") == "waits for last web (2 jobs left)"
    finish(window)
    assert window.left == []


@pytest.mark.parametrize(
    ("failing", "left"),
    [
        ("expand web", ["canary", "replace", "last", "contract"]),
        ("replace web@canary0", ["replace", "last", "contract"]),
        ("replace web@replace0", ["contract"]),
        ("replace web@last0", ["contract"]),
    ],
)
def test_what_a_tolerated_failure_still_forbids(failing: str, left: list[str]) -> None:
    window = Window(*chain("expand", "canary", "replace", "last", "contract"), [], fleet_max_failures=9)
    finish(window, failing)
    assert list(dict.fromkeys(job.phase.split()[0] for job in window.left)) == left
    assert f"because {failing} was not done" in window.stuck


def test_dependants_go_on_after_a_tolerated_failure() -> None:
    jobs, phases = chain("replace")
    more = service("api", "x")
    window = Window([*jobs, *more], [*phases, phase(more, after=("replace web",))], [], fleet_max_failures=1)
    finish(window, "replace web@replace0")
    assert window.left == []


def test_pause_stop_and_resume() -> None:
    window = one_service()
    window.pause()
    assert window.paused
    assert window.admissible() == []
    assert not window.finished
    assert window.waits_for("replace web@a") == "waits for the run to resume"
    window.resume()
    assert len(window.admissible()) == 2
    window.begin("replace web@a")
    window.stop("an operator asked for it")
    window.stop("another reason")
    assert window.stopped == "an operator asked for it"
    assert window.admissible() == []
    assert not window.finished
    window.end("replace web@a", "skipped")
    assert window.finished
    assert window.out == []


def test_a_window_of_nothing_is_finished() -> None:
    window = Window([], [], [])
    assert window.finished
    assert window.stuck == ""
