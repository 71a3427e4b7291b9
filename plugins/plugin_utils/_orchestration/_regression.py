# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests before and after: which are as they were, which are mended, and which are regressions.

A test has passed, failed, or was skipped. Some measure something instead (how fast, how many errors, what a balancer's
table says): those are judged here, the measurement after held against the one before.

Latency is noisy, the more so on a machine that is busy with an upgrade. So an endpoint counts as slower only where its
median is beyond the margin's factor **and** its absolute part, **and** above what nine in ten requests took before:
then more than half of the requests are slower than all but a tenth used to be. Its slowest tenth (p90) is judged in the
same way by factor and absolute part, with enough requests only. How many requests were measured is always told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

Outcome = Literal["passed", "failed", "skipped"]
Moment = Literal["before", "after"]
Class = Literal["unchanged", "fixed", "known failing", "regression", "new", "gone"]

OUTCOMES: tuple[Outcome, ...] = ("passed", "failed", "skipped")
CLASSES: tuple[Class, ...] = ("regression", "known failing", "gone", "new", "fixed", "unchanged")
# The worst first. One that was skipped has said nothing.
_WORST: tuple[Outcome, ...] = ("failed", "passed", "skipped")
# Of fewer requests the slowest tenth is a matter of luck.
FEWEST_FOR_P90 = 200
FEWEST_FOR_MEDIAN = 5


@dataclass(frozen=True, slots=True)
class Result:
    """What a test said. `name` is meant to be unique in its suite; `service`: the one that it is about, "" for none.

    `measured` is what is judged against the other moment, by its `kind`:
    `latency` (p50, p90 in ms, n), `version` (version), `errors` (errors, lines, seconds), `table` (servers by name),
    `schema` (image: what asked, or will).
    """

    suite: str
    name: str
    outcome: Outcome
    service: str = ""
    message: str = ""
    seconds: float | None = None
    measured: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Margin:
    """What is within `factor` times the old value, or within `least` of it, is no change."""

    factor: float
    least: float


@dataclass(frozen=True, slots=True)
class Margins:
    """`latency` in milliseconds, `errors` in lines."""

    latency: Margin = Margin(2.0, 25.0)
    errors: Margin = Margin(2.0, 10.0)


@dataclass(frozen=True, slots=True)
class Change:
    """A test at both moments. `before` and `after` are outcomes, None where it did not run."""

    suite: str
    name: str
    kind: Class
    service: str = ""
    before: Outcome | None = None
    after: Outcome | None = None
    message: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "suite": self.suite,
            "name": self.name,
            "service": self.service,
            "class": self.kind,
            "before": self.before,
            "after": self.after,
            "message": self.message,
        }


def compare(before: Iterable[Result], after: Iterable[Result], margins: Margins = Margins()) -> list[Change]:
    """Every test of either moment with its class, regressions first, each class in the order in which they ran.

    A test that passed and does not run any more, in a suite that has a new failure, is a regression: a fixture that
    fails takes its tests along, and has a name that no test had before. Of tests with one name the worst counts.
    """
    then, now = _by_name(before), _by_name(after)
    changes = [_change(then.get(key), now.get(key), margins) for key in {**then, **now}]
    fallen = {change.suite for change in changes if change.kind == "new" and change.after == "failed"}
    changes = [_taken_along(change) if change.suite in fallen else change for change in changes]
    return sorted(changes, key=lambda change: CLASSES.index(change.kind))


def _by_name(results: Iterable[Result]) -> dict[tuple[str, str], Result]:
    found: dict[tuple[str, str], Result] = {}
    for result in results:
        key = (result.suite, result.name)
        found[key] = min(found.get(key, result), result, key=lambda each: _WORST.index(each.outcome))
    return found


def _change(before: Result | None, after: Result | None, margins: Margins) -> Change:
    if before is not None and after is not None:
        after = judged(before, after, margins)
    shown = after or before
    if shown is None:
        raise ValueError("a change needs a result before or after")
    then = None if before is None else before.outcome
    now = None if after is None else after.outcome
    message = shown.message if after is not None else f"it did not run again; before, it {then}"
    return Change(shown.suite, shown.name, classed(then, now), shown.service, then, now, message)


def _taken_along(change: Change) -> Change:
    if change.kind != "gone" or change.before != "passed":
        return change
    return replace(
        change, kind="regression", message="it passed before, and did not run again: its suite has a new failure"
    )


def classed(before: Outcome | None, after: Outcome | None) -> Class:
    """The class of a test. One that was skipped did not run."""
    then = None if before == "skipped" else before
    now = None if after == "skipped" else after
    if then == now:
        return "known failing" if now == "failed" else "unchanged"
    if then is None:
        return "new"
    if now is None:
        return "gone"
    return "fixed" if now == "passed" else "regression"


def judged(before: Result, after: Result, margins: Margins = Margins()) -> Result:
    """`after` with the outcome that its measurement has beside the one before; as it is where nothing was measured."""
    then, now = before.measured, after.measured
    if not then or not now or then.get("kind") != now.get("kind"):
        return after
    if now["kind"] == "schema" and then["image"] != now["image"]:
        # After the way back the old version asks, which need not know what the new one has made.
        return replace(after, outcome="skipped", message=f"{after.message}; before, {then['image']} was to ask")
    if after.outcome == "failed":
        return after
    if now["kind"] == "latency":
        return _with(after, *slower(then, now, margins.latency))
    if now["kind"] == "errors":
        return _with(after, *noisier(then, now, margins.errors))
    if now["kind"] == "version":
        return _with(after, *_unsaid(then, now))
    if now["kind"] == "table":
        found = list(table_changes(then["servers"], now["servers"]))
        return _with(after, bool(found), "; ".join(found))
    return after


def _with(result: Result, worse: bool, message: str) -> Result:
    return replace(result, outcome="failed" if worse else result.outcome, message=message or result.message)


def slower(before: Mapping[str, Any], after: Mapping[str, Any], margin: Margin) -> tuple[bool, str]:
    """Whether an endpoint has become slower, and the comparison in words. Milliseconds."""
    told = (
        f"median {before['p50']:.0f} ms before, {after['p50']:.0f} ms after; "
        f"p90 {before['p90']:.0f} ms, {after['p90']:.0f} ms; of {before['n']} and {after['n']} requests"
    )
    fewest = min(before["n"], after["n"])
    if fewest < FEWEST_FOR_MEDIAN:
        return False, f"too few to compare: {told}"
    median = _beyond(before["p50"], after["p50"], margin) and after["p50"] > before["p90"]
    tail = fewest >= FEWEST_FOR_P90 and _beyond(before["p90"], after["p90"], margin)
    return median or tail, told


def _beyond(before: float, after: float, margin: Margin) -> bool:
    return after > before * margin.factor and after - before > margin.least


def noisier(before: Mapping[str, Any], after: Mapping[str, Any], margin: Margin) -> tuple[bool, str]:
    """Whether a log has more errors than its earlier rate lets one expect, and the comparison in words.

    By time where both spans are known, else by lines.
    """
    basis = "seconds" if before.get("seconds") and after.get("seconds") else "lines"
    share = after[basis] / before[basis] if before[basis] else 0.0
    expected = before["errors"] * share
    span = "at the old rate" if basis == "seconds" else "by the old share of lines"
    told = (
        f"{after['errors']} lines of {after['lines']} are errors, {expected:.0f} were to be expected {span} "
        f"({before['errors']} of {before['lines']} before)"
    )
    return after["errors"] > expected * margin.factor + margin.least, told


def _unsaid(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[bool, str]:
    then, now = before.get("version"), after.get("version")
    if then and not now:
        return True, f"it said {then} before, and nothing after"
    return False, f"{then or 'nothing'} before, {now or 'nothing'} after"


# What of a server's row has to be as it was. That it is usable counts beside these.
_COLUMNS = ("address", "weight", "admin", "backup", "checked")


def table_changes(before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What differs between two tables of a backend (rows by server), as sentences. What was down or taken out may serve
    now: a run that goes on where another was cut off brings it back."""
    for name in before:
        if name not in after:
            yield f"{name} is gone"
            continue
        then, now = before[name], after[name]
        for column in _COLUMNS:
            back = column == "admin" and now.get("admin") == "ready" and now.get("usable")
            if then.get(column) != now.get(column) and not back:
                yield f"{name}: {column} was {then.get(column)}, is {now.get(column)}"
        if then.get("usable") and not now.get("usable"):
            yield f"{name} was {then.get('status')}, is {now.get('status')}"
    for name in after:
        if name not in before:
            yield f"{name} is new"


def touched(depends_on: Mapping[str, Sequence[str]], changed: Iterable[str]) -> list[str]:
    """The services whose tests an upgrade calls for: those that change and all that depend on them, however far."""
    found = set(changed)
    while True:
        more = {name for name, others in depends_on.items() if name not in found and not found.isdisjoint(others)}
        if not more:
            return [name for name in depends_on if name in found]
        found |= more


def of_services(results: Iterable[Result], services: Sequence[str]) -> list[Result]:
    """The results that are about one of `services`, or about none; all of them where none is named."""
    return [result for result in results if not services or not result.service or result.service in services]
