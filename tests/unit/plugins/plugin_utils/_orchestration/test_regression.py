# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._regression import (
    CLASSES,
    OUTCOMES,
    Margin,
    Margins,
    Result,
    classed,
    compare,
    judged,
    noisier,
    of_services,
    slower,
    table_changes,
    touched,
)


def test_every_pair_of_outcomes_has_its_class() -> None:
    expected = {
        ("passed", "passed"): "unchanged",
        ("passed", "failed"): "regression",
        ("passed", "skipped"): "gone",
        ("passed", None): "gone",
        ("failed", "passed"): "fixed",
        ("failed", "failed"): "known failing",
        ("failed", "skipped"): "gone",
        ("failed", None): "gone",
        ("skipped", "passed"): "new",
        ("skipped", "failed"): "new",
        ("skipped", "skipped"): "unchanged",
        ("skipped", None): "unchanged",
        (None, "passed"): "new",
        (None, "failed"): "new",
        (None, "skipped"): "unchanged",
    }
    assert {pair: classed(*pair) for pair in expected} == expected  # type: ignore[arg-type]


def test_regressions_come_first_and_names_count_within_their_suite() -> None:
    before = [
        Result("smoke", "login", "passed"),
        Result("smoke", "search", "failed", message="timeout"),
        Result("other", "login", "failed"),
        Result("smoke", "old", "passed"),
    ]
    after = [
        Result("smoke", "search", "failed", message="timeout again"),
        Result("smoke", "login", "failed", message="403"),
        Result("other", "login", "passed"),
        Result("smoke", "fresh", "failed", message="not there yet"),
    ]
    found = [(change.suite, change.name, change.kind, change.message) for change in compare(before, after)]
    assert found == [
        ("smoke", "login", "regression", "403"),
        ("smoke", "old", "regression", "it passed before, and did not run again: its suite has a new failure"),
        ("smoke", "search", "known failing", "timeout again"),
        ("smoke", "fresh", "new", "not there yet"),
        ("other", "login", "fixed", ""),
    ]


def test_of_tests_with_one_name_the_worst_counts() -> None:
    def told(*outcomes: Any) -> list[Result]:
        return [Result("smoke", "login", outcome, message=f"run {number}") for number, outcome in enumerate(outcomes)]

    [change] = compare(told("passed", "passed"), told("failed", "passed", "skipped"))
    assert (change.kind, change.message) == ("regression", "run 0")
    [change] = compare(told("skipped", "passed"), told("passed", "failed", "failed"))
    assert (change.kind, change.message) == ("regression", "run 1")
    [change] = compare(told("passed", "failed"), told("failed", "passed"))
    assert change.kind == "known failing"


results = some.lists(
    some.builds(Result, some.sampled_from("ab"), some.sampled_from("vwxyz"), some.sampled_from(OUTCOMES)), max_size=12
)


@given(results, results)
def test_each_test_has_one_class_and_a_regression_passed_before(before: list[Result], after: list[Result]) -> None:
    changes = compare(before, after)
    names = [(change.suite, change.name) for change in changes]
    assert len(set(names)) == len(names)
    assert set(names) == {(result.suite, result.name) for result in [*before, *after]}
    fallen = {change.suite for change in changes if change.before in (None, "skipped") and change.after == "failed"}
    for change in changes:
        gone = change.after in (None, "skipped") and change.suite in fallen
        assert (change.kind == "regression") == (change.before == "passed" and (change.after == "failed" or gone))
    assert [CLASSES.index(change.kind) for change in changes] == sorted(CLASSES.index(each.kind) for each in changes)


def test_nothing_is_a_regression_against_itself() -> None:
    measured = {"kind": "latency", "p50": 20.0, "p90": 90.0, "n": 200}
    result = Result("builtin", "fast", "passed", measured=measured)
    assert [change.kind for change in compare([result], [result])] == ["unchanged"]


def latency(samples: list[float]) -> dict[str, Any]:
    tenths = statistics.quantiles(samples, n=10)
    return {"kind": "latency", "p50": statistics.median(samples), "p90": tenths[8], "n": len(samples)}


@pytest.mark.parametrize("typical", [20, 40, 200])
@pytest.mark.parametrize("times", [40, 80, 400])
def test_three_times_slower_is_seen_and_noise_is_not(times: int, typical: int) -> None:
    """Log-normal, as latencies are; a busy machine shifts all of them by half, and gives a few ten times as much."""
    chance = random.Random(7)
    for _unused in range(200):
        before = [typical * chance.lognormvariate(0, 0.25) for _ in range(times)]
        noise = [1.5 * typical * chance.lognormvariate(0, 0.25) * (10 if chance.random() < 0.03 else 1) for _ in before]
        slow = [3.0 * typical * chance.lognormvariate(0, 0.25) for _ in before]
        assert slower(latency(before), latency(noise), Margins().latency)[0] is False
        assert slower(latency(before), latency(slow), Margins().latency)[0] is True


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        ((10, 20, 30), (40, 60, 30), False),  # four times as slow, but by no more than 30 ms
        ((100, 130, 30), (260, 300, 30), True),
        ((100, 400, 30), (260, 420, 30), False),  # half of them as slow as a tenth always was
        ((100, 130, 200), (100, 400, 200), True),  # only the slowest tenth, of enough
        ((100, 130, 199), (100, 400, 200), False),  # the same, of too few
        ((100, 130, 4), (900, 990, 4), False),
    ],
)
def test_slower(before: tuple[float, float, int], after: tuple[float, float, int], worse: bool) -> None:
    then, now = (dict(zip(("p50", "p90", "n"), values, strict=True)) for values in (before, after))
    found, told = slower(then, now, Margin(2, 50))
    assert found is worse
    assert f"of {before[2]} and {after[2]} requests" in told


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        ({"errors": 0, "lines": 100, "seconds": 600}, {"errors": 10, "lines": 500, "seconds": 60}, False),
        ({"errors": 0, "lines": 100, "seconds": 600}, {"errors": 11, "lines": 500, "seconds": 60}, True),
        ({"errors": 600, "lines": 600, "seconds": 600}, {"errors": 120, "lines": 120, "seconds": 60}, False),
        ({"errors": 600, "lines": 600, "seconds": 600}, {"errors": 140, "lines": 140, "seconds": 60}, True),
        # A file's time is not known: by its lines.
        ({"errors": 10, "lines": 1000}, {"errors": 25, "lines": 1000}, False),
        ({"errors": 10, "lines": 1000}, {"errors": 40, "lines": 1000}, True),
        ({"errors": 0, "lines": 0}, {"errors": 40, "lines": 1000}, True),
    ],
)
def test_noisier(before: dict[str, Any], after: dict[str, Any], worse: bool) -> None:
    assert noisier(before, after, Margins().errors)[0] is worse


ROW = {"address": "192.0.2.1:80", "weight": 1, "admin": "ready", "backup": False, "checked": True, "usable": True}


@pytest.mark.parametrize(
    ("after", "told"),
    [
        ({"a": ROW}, []),
        ({}, ["a is gone"]),
        ({"a": ROW, "b": ROW}, ["b is new"]),
        ({"a": {**ROW, "weight": 50}}, ["a: weight was 1, is 50"]),
        ({"a": {**ROW, "admin": "drain", "usable": False, "status": "DRAIN"}}, None),
        ({"a": {**ROW, "usable": False, "status": "DOWN"}}, ["a was UP, is DOWN"]),
    ],
)
def test_a_table_is_as_it_was(after: dict[str, Any], told: list[str] | None) -> None:
    found = list(table_changes({"a": {**ROW, "status": "UP"}}, after))
    assert found == told if told is not None else len(found) == 2


def test_a_server_that_was_down_may_be_up() -> None:
    assert list(table_changes({"a": {**ROW, "usable": False, "status": "DOWN"}}, {"a": ROW})) == []
    out = {**ROW, "admin": "maint", "usable": False, "status": "MAINT"}
    assert list(table_changes({"a": out}, {"a": ROW})) == []
    # Back, but not up.
    assert list(table_changes({"a": out}, {"a": {**ROW, "usable": False, "status": "DOWN"}})) == [
        "a: admin was maint, is ready"
    ]


def test_a_version_that_is_not_said_any_more() -> None:
    then = Result("builtin", "says", "passed", measured={"kind": "version", "version": "v3.14"})
    now = Result("builtin", "says", "passed", measured={"kind": "version", "version": ""})
    assert judged(then, now).outcome == "failed"
    assert judged(now, now).outcome == "passed"


def test_a_test_that_failed_by_itself_stays_failed() -> None:
    measured = {"kind": "latency", "p50": 1.0, "p90": 2.0, "n": 20}
    then = Result("builtin", "fast", "passed", measured=measured)
    now = Result("builtin", "fast", "failed", message="refused", measured=measured)
    assert judged(then, now) == now


def test_tests_are_chosen_by_what_changes() -> None:
    depends_on = {"db": (), "keystone": ("db",), "glance": ("keystone",), "web": (), "nova": ("glance", "web")}
    assert touched(depends_on, ["keystone"]) == ["keystone", "glance", "nova"]
    assert touched(depends_on, []) == []
    found = [Result("s", name, "passed", service=name) for name in depends_on] + [Result("s", "all", "passed")]
    assert [result.name for result in of_services(found, ["web"])] == ["web", "all"]
    assert of_services(found, []) == found
