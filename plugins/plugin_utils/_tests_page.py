# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests before and after, as the journal keeps them: compared, and told on one screen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ._orchestration._regression import CLASSES, Margins, Result, compare, of_services
from ._page import count, wrapped

_MOST_ROWS = 30


def unfinished(run: Mapping[str, Any], instances: Iterable[str]) -> tuple[list[str], list[str]]:
    """Of a run as the journal has it: those of the instances that may still run what they did, as their job is not done
    or because a revert has none for them, and the services with a schema step that is not done; and services that
    second copies served."""
    jobs = {job["id"]: job for job in run.get("jobs", ())}
    planned_jobs = run.get("plan", {}).get("jobs", ())
    left, moved = [], []
    if run.get("kind") == "revert":
        left += sorted(set(instances) - {planned.get("instance") for planned in planned_jobs})
    for planned in planned_jobs:
        if jobs.get(planned["id"], {}).get("outcome") != "done":
            left.append(planned.get("instance") or planned["service"])
        if planned.get("kind") == "settle":
            moved.append(planned["service"])
    return left, moved


def results_of(measurement: Mapping[str, Any] | None) -> list[Result]:
    """The results that the journal holds of a moment."""
    return [Result(**test) for test in measurement["tests"]] if measurement else []


def compared(
    baseline: Mapping[str, Any] | None, after: Sequence[Result], margins: Margins, services: Sequence[str]
) -> dict[str, Any]:
    """`changes` (all, as dictionaries), `regressions` (their names), `counted` (how many of each class), `page`."""
    changes = compare(of_services(results_of(baseline), services), after, margins)
    rows = [change.to_dict() for change in changes]
    regressions = [row for row in rows if row["class"] == "regression"]
    counted: dict[str, int] = {kind: sum(row["class"] == kind for row in rows) for kind in CLASSES}
    return {
        "changes": rows,
        "regressions": [name(row) for row in regressions],
        "counted": counted,
        "has_baseline": baseline is not None,
        "page": "\n".join(_page(rows, counted, baseline)),
    }


def name(row: Mapping[str, Any]) -> str:
    """A test's name among all suites'."""
    return f"{row['suite']}: {row['name']}"


def before(results: Sequence[Result]) -> str:
    failed = [result for result in results if result.outcome == "failed"]
    lines = [f"BASELINE  {count(len(results), 'test')}, {_failing(len(failed))}"]
    for result in failed[:_MOST_ROWS]:
        lines += wrapped(f"{result.suite}: {result.name}: {result.message}", "  failed   ")
    return "\n".join(lines)


def _failing(number: int) -> str:
    return "none of them fails" if not number else f"{number} of them {'fails' if number == 1 else 'fail'} already"


def _page(
    rows: Sequence[Mapping[str, Any]], counted: Mapping[str, int], baseline: Mapping[str, Any] | None
) -> Iterator[str]:
    if baseline is None:
        failed = [row for row in rows if row["after"] == "failed"]
        yield f"TESTS  {count(len(rows), 'test')} without a baseline, {len(failed)} failed"
        shown = failed
    else:
        yield f"TESTS  {told(counted)}"
        shown = [row for row in rows if row["class"] not in ("unchanged", "fixed")]
    for row in shown[:_MOST_ROWS]:
        yield from wrapped(f"{name(row)}: {row['message']}", f"  {row['class']:<14} ")
    if len(shown) > _MOST_ROWS:
        yield f"  and {len(shown) - _MOST_ROWS} more, see report.json"


def told(counted: Mapping[str, int]) -> str:
    """How many of each class, in words; regressions also where there are none."""
    words = [count(counted["regression"], "regression") if counted["regression"] else "no regression"]
    return ", ".join(words + [f"{counted[kind]} {kind}" for kind in CLASSES[1:] if counted[kind]])
