# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._report_counts import (
    counted,
    counts,
    haproxy_source,
    log_source,
    probe_source,
    readings,
    so_far,
)

BACKEND = {"mode": "http", "hrsp_5xx": 0, "econ": 0, "eresp": 0, "wretr": 0, "wredis": 0, "stot": 0}
PROBE = {"sent": 100, "failed": 0}


def worker(pid: int = 8, started: int = 100, *, old: bool = False, busy: int = 1, **counters: Any) -> dict[str, Any]:
    a = {**BACKEND, **counters}
    return {"pid": pid, "started_at": started, "old": old, "open": busy, "backends": {"a": a, "b": {**BACKEND}}}


def reading(at: float, *workers: dict[str, Any]) -> dict[str, Any]:
    return {"at": at, "workers": list(workers)}


def row(*given: dict[str, Any]) -> dict[str, Any]:
    """What one balancer's counters rose by."""
    first, *between, last = given
    found: dict[str, Any] = counted({"lb1": first}, [("lb1", each) for each in between], {"lb1": last})
    rose: dict[str, Any] = found["by_balancer"]["lb1"]
    return rose


LOST = "was reloaded or restarted, what its old worker counted after our last look is lost"


def test_counters_are_differences_summed_over_backends_and_balancers() -> None:
    before = {"lb1": reading(1, worker(hrsp_5xx=5, econ=1)), "lb2": reading(1, worker(hrsp_5xx=1))}
    after = {"lb1": reading(9, worker(hrsp_5xx=7, econ=1, wretr=2)), "lb2": reading(9, worker(hrsp_5xx=1))}
    found = counted(before, [], after)
    assert {key: found[key] for key in ("hrsp_5xx", "econ", "wretr")} == {"hrsp_5xx": 2, "econ": 0, "wretr": 2}
    assert found["unseen"] == []
    assert haproxy_source({**found, "stot": 9})["complete"]


def test_a_replaced_worker_keeps_what_was_read_of_it() -> None:
    old, new = worker(hrsp_5xx=50), worker(9, 150, hrsp_5xx=3)
    assert row(reading(1, old), reading(9, new)) | {"note": LOST, "hrsp_5xx": 3} == row(
        reading(1, old), reading(9, new)
    )
    seen = row(reading(1, old), reading(4, worker(hrsp_5xx=54)), reading(9, new))
    assert (seen["hrsp_5xx"], seen["note"]) == (7, LOST)


def test_the_same_pid_after_a_restart_is_another_worker() -> None:
    seen = row(reading(1, worker(hrsp_5xx=2)), reading(9, worker(started=150, hrsp_5xx=5)))
    assert (seen["hrsp_5xx"], seen["note"]) == (5, LOST)


def test_readings_are_sorted_by_when_they_were_taken() -> None:
    readings_ = [reading(at, worker(hrsp_5xx=int(at))) for at in (1, 6, 3, 9)]
    assert (row(*readings_)["hrsp_5xx"], row(*readings_)["note"]) == (8, "")


def test_an_old_worker_that_still_answers_or_had_nobody_left_is_whole() -> None:
    first, new = reading(1, worker(hrsp_5xx=2)), worker(9, 150)
    alive = row(first, reading(9, new, worker(old=True, hrsp_5xx=5)))
    empty = row(first, reading(5, new, worker(old=True, busy=0, hrsp_5xx=5)), reading(9, new))
    busy = row(first, reading(5, new, worker(old=True, busy=2, hrsp_5xx=5)), reading(9, new))
    assert [each["hrsp_5xx"] for each in (alive, empty, busy)] == [3, 3, 3]
    assert [each["note"] for each in (alive, empty, busy)] == ["", "", LOST]


def test_counters_that_were_cleared_say_so() -> None:
    seen = row(reading(1, worker(hrsp_5xx=50, stot=900)), reading(9, worker(hrsp_5xx=1, stot=20)))
    assert (seen["hrsp_5xx"], seen["note"]) == (1, "its counters were cleared")


def test_where_tcp_passes_through_failing_is_another_thing() -> None:
    found = counted(
        {"lb1": reading(1, worker(mode="tcp"))}, [], {"lb1": reading(9, worker(mode="tcp", econ=2, eresp=1))}
    )
    assert (found["hrsp_5xx"], found["failed"]) == (0, 3)
    assert haproxy_source(found)["said"] == "HAProxy counted 3 failed TCP connections"
    http = counted({"lb1": reading(1, worker())}, [], {"lb1": reading(9, worker(econ=2, eresp=1))})
    assert http["failed"] == 0


def test_only_the_services_own_backends_count() -> None:
    before, after = reading(1, worker(hrsp_5xx=1)), reading(9, worker(hrsp_5xx=2))
    after["workers"][0]["backends"]["other"] = {**BACKEND, "hrsp_5xx": 9}
    assert counted({"lb1": before}, [], {"lb1": after}, ["a"])["hrsp_5xx"] == 1
    assert counted({"lb1": before}, [], {"lb1": after})["hrsp_5xx"] == 10


def test_what_jobs_read_outside_of_the_time_that_is_counted_does_not_count() -> None:
    first, last = reading(5, worker(hrsp_5xx=1)), reading(9, worker(hrsp_5xx=1))
    earlier, later = reading(1, worker()), reading(10, worker(hrsp_5xx=3))
    found = counted({"lb1": first}, [("lb1", earlier), ("lb1", later)], {"lb1": last})
    assert found["failed"] == 0
    assert found["by_balancer"]["lb1"]["note"] == ""


def test_balancers_without_both_counts_are_named() -> None:
    found = counted({"lb1": reading(1, worker()), "lb2": reading(1, worker())}, [], {"lb1": reading(9, worker(stot=4))})
    assert found["unseen"] == ["lb2"]
    source = haproxy_source(found)
    assert (source["complete"], source["note"]) == (False, "not read before and after: lb2")


def test_the_readings_of_a_run_are_in_its_jobs() -> None:
    jobs = [{"details": {"readings": [["lb1", reading(2)]]}}, {"details": {}}]
    assert readings({"jobs": jobs}) == [("lb1", reading(2))]
    assert readings(None) == []


def test_a_probe_counts_between_the_two_looks() -> None:
    before = {"probe": {"sent": 40, "failed": 2, "retried": 1}}
    after = {"probe": {"sent": 100, "failed": 3, "retried": 1}}
    assert so_far(before, after) == {"sent": 60, "failed": 1, "retried": 0, "so_far": True}
    assert so_far({}, after) == {"sent": 100, "failed": 3, "retried": 1, "so_far": True}
    assert so_far(before, {}) is None


def _source(name: str, failed: int) -> dict[str, Any]:
    return {"name": name, "failed": failed, "of": 9, "retried": 0, "complete": True, "said": name, "note": ""}


@pytest.mark.parametrize(
    ("failed", "agree"),
    [((), None), ((3,), None), ((0, 0), True), ((2, 9, 1), True), ((0, 0, 1), False), ((1, 0, 0), False)],
)
def test_counts_agree_when_all_or_none_saw_failures(failed: tuple[int, ...], agree: bool | None) -> None:
    found = counts(*(_source(f"s{number}", seen) for number, seen in enumerate(failed)))
    assert found["agree"] is agree
    assert len(found["sources"]) == len(failed)


def _balancer(failed: int) -> dict[str, Any]:
    return counted({"lb1": reading(1, worker())}, [], {"lb1": reading(9, worker(hrsp_5xx=failed, stot=95))})


def _logs(failed: int) -> dict[str, Any]:
    return {"requests": 90, "failed": failed, "services": {"web": {}}, "silent": [], "notes": []}


def test_the_one_that_saw_failures_is_told_first() -> None:
    found = counts(probe_source(PROBE), haproxy_source(_balancer(1)))
    assert found["note"] == "the counts disagree: HAProxy counted 1 answer 5xx, the probe saw no request fail"


def test_a_count_that_saw_no_request_is_no_witness() -> None:
    none = {"requests": 0, "failed": 0}
    silent = {**none, "services": {"web": none}, "silent": ["web"], "notes": []}
    found = counts(probe_source(PROBE), log_source(silent), haproxy_source({**_balancer(0), "stot": 0}))
    assert found["agree"] is None
    assert found["missing"] == ["access logs: no request in the logs of web", "HAProxy: it has seen no request"]


def test_each_count_alone_against_the_others() -> None:
    for planted in range(3):
        probe, haproxy, log = (int(place == planted) for place in range(3))
        given = [probe_source({**PROBE, "failed": probe}), haproxy_source(_balancer(haproxy)), log_source(_logs(log))]
        assert counts(*given)["agree"] is False
    whole = counts(probe_source(PROBE), haproxy_source(_balancer(0)), log_source(_logs(0)))
    assert (whole["agree"], whole["missing"]) == (True, [])
