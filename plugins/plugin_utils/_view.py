# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run as people look at it, from `_status.run_row`'s values to lines: on a terminal while it runs, and in `status`.

A line is a list of spans, each a text and the style that `rich` knows it by; without styles the lines are plain text.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ._page import count, duration, some

LEAST_WIDTH = 40
_NAMES = 24
_BAR = 24
_MOST_WAITING = 10


class Span(NamedTuple):
    """A part of a line."""

    text: str
    style: str = ""


Line = list[Span]


class Signs(NamedTuple):
    """What bars and rules are made of."""

    done: str
    failed: str
    flying: str
    left: str
    rule: str


BLOCKS = Signs("█", "▚", "▒", "░", "─")
ASCII = Signs("#", "!", "=", ".", "-")


def text(lines: Sequence[Line]) -> str:
    """The lines without their styles."""
    return "\n".join("".join(span.text for span in line).rstrip() for line in lines)


def view(run: Mapping[str, Any], width: int, height: int | None = None, signs: Signs = BLOCKS) -> list[Line]:
    """A run, in progress or ended. No line is wider than `width`. With `height` no more lines than that: each line is
    cut to fit, and of each part what matters least is left out and counted. Without it long lines are folded."""
    head = list(_head(run))
    parts = [
        _services(run, width, signs),
        [(0, _flight(job)) for job in run["in_flight"]],
        [(0, [Span(f"  failed: {name}", "red")]) for name in run["failed"]],
        [(0, line) for line in _waits(run["waiting"])],
        [(0, line) for line in _budgets(run.get("budgets", ()))],
    ]
    if height is None:
        lines = [*head, *(line for part in parts for _unused, line in part)]
        return [folded for line in lines for folded in _folded(line, width)]
    lines = [*head, *_fitted(parts, height - len(head))][:height]
    return [_cut(line, width) for line in lines]


def _fitted(parts: Sequence[Sequence[tuple[int, Line]]], room: int) -> Iterator[Line]:
    """The parts within so many lines: each gets its share, and what one does not need goes to the others."""
    shares = [0] * len(parts)
    while room > 0 and (needy := [n for n, part in enumerate(parts) if shares[n] < len(part)]):
        for number in needy[:room]:
            shares[number] += 1
            room -= 1
    for part, share in zip(parts, shares, strict=True):
        if share >= len(part):
            yield from (line for _unused, line in part)
        elif share:
            kept = sorted(sorted(range(len(part)), key=lambda number: part[number][0])[: share - 1])
            yield from (part[number][1] for number in kept)
            yield [Span(f"  and {len(part) - len(kept)} more", "dim")]


def _head(run: Mapping[str, Any]) -> Iterator[Line]:
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run["started"]))
    name = f"{run['id']} ({run['kind']})"
    if run["ended"] is None:
        yield [Span(f"RUN {name}", "bold"), Span(f" in progress since {began}, for {duration(run['seconds'])}")]
        if run.get("owner"):
            yield [Span(f"  owner {run['owner']}, last sign of life {duration(run['silent'])} ago")]
        if run.get("dead"):
            yield [Span("  its process is dead; the next rondo.upgrade.upgrade or revert takes over", "bold red")]
    else:
        outcome = Span(str(run["outcome"]), "green" if run["outcome"] == "done" else "red")
        yield [Span(f"LAST RUN {name}", "bold"), Span(f", begun {began}, took {duration(run['seconds'])}: "), outcome]
    yield [Span(f"  {count(run['jobs'], 'job')} planned: {_outcomes(run)}")]
    if run["stopped"]:
        yield [Span(f"  stopped: {run['stopped']}; nothing more begins", "bold red")]
    elif run["paused"]:
        yield [Span(f"  paused by {run['paused']}; rondo.upgrade.resume lets it go on", "bold yellow")]
    if (rest := run.get("rest")) and run["ended"] is None:
        yield [Span(f"  {duration(rest['seconds'])} left", "bold"), Span(_certainty(rest))]
    if requests := run.get("requests"):
        bad = "bold red" if requests["failed"] else "green"
        yield [
            Span(f"  {count(requests['sent'], 'request')} sent since the probe began, "),
            Span(f"{requests['failed']} failed", bad),
        ]
        if requests["failed"] and requests.get("last"):
            yield [Span(f"  the last: {requests['last']}", "red")]


def _certainty(rest: Mapping[str, Any]) -> str:
    by = time.strftime("%H:%M:%S", time.localtime(rest["by"]))
    pace = f"; jobs take {rest['pace']:.1f} x as long as planned" if rest["measured"] else ""
    return f" (p90 {duration(rest['p90'])}), until {by}{pace}"


def _outcomes(run: Mapping[str, Any]) -> str:
    told = ", ".join(f"{number} {outcome}" for outcome, number in sorted(run["outcomes"].items()))
    return told or "none begun"


def _services(run: Mapping[str, Any], width: int, signs: Signs) -> list[tuple[int, Line]]:
    rows = run.get("services", ())
    names = min(_NAMES, max((len(row["name"]) for row in rows), default=0), max(8, width // 3))
    wide = max(5, min(_BAR, width - names - 34))
    used = {row["name"]: row for row in run.get("budgets", ())}
    return [_service(row, used.get(row["name"]), names, wide, signs) for row in rows]


def _service(
    row: Mapping[str, Any], budget: Mapping[str, Any] | None, names: int, wide: int, signs: Signs
) -> tuple[int, Line]:
    """A service's line, with how little it matters: one where nothing is left or under way matters less."""
    bad = row["failed"] + row["lost"]
    over = row["done"] + row["skipped"]
    shares = _shares([over, bad, row["in_flight"]], row["jobs"], wide)
    spans = [
        Span(f"  {_short(row['name'], names):<{names}} "),
        Span(signs.done * shares[0], "green"),
        Span(signs.failed * shares[1], "red"),
        Span(signs.flying * shares[2], "cyan"),
        Span(signs.left * (wide - sum(shares)), "dim"),
        Span(f" {over} of {row['jobs']}"),
    ]
    if bad:
        spans.append(Span(f", {bad} failed", "red"))
    if budget and budget["used"]:
        spans.append(Span(f", {budget['used']} out of at most {budget['capacity']}"))
    return (0 if row["in_flight"] or bad else 1 if over < row["jobs"] else 2), spans


def _shares(parts: Sequence[int], whole: int, width: int) -> list[int]:
    """How many columns each part of the whole takes: what is there is seen, and what is not all does not fill."""
    shares = [max(1, part * width // max(1, whole)) if part else 0 for part in parts]
    while sum(shares) > width:
        shares[shares.index(max(shares))] -= 1
    return shares


def _flight(job: Mapping[str, Any]) -> Line:
    expected = job.get("expected")
    late = expected is not None and job["seconds"] > 2 * expected
    of = "" if expected is None else f" of about {duration(expected)}"
    spans = [
        Span(f"  in flight for {duration(job['seconds'])}{of}: ", "yellow" if late else "cyan"),
        Span(str(job["id"]), "bold"),
    ]
    if job.get("step"):
        spans.append(Span(f", {job['step']}"))
    return spans


def _waits(waiting: Sequence[Mapping[str, str]]) -> Iterator[Line]:
    """What waits, those that wait for the same together."""
    together: dict[str, list[str]] = {}
    for row in waiting:
        together.setdefault(row["why"], []).append(row["id"])
    for why, names in list(together.items())[:_MOST_WAITING]:
        yield [Span(f"  {some(names, 4)}: {why}", "dim")]
    if left := sum(len(names) for names in list(together.values())[_MOST_WAITING:]):
        yield [Span(f"  and {count(left, 'more job')}, which wait for other things", "dim")]


def _budgets(budgets: Sequence[Mapping[str, Any]]) -> Iterator[Line]:
    """Those budgets that are used and are no service's own: these stand beside the service."""
    what = {"instances": "instance", "domains": "failure domain", "hosts": "host"}
    for row in budgets:
        if row["used"] and row["kind"] not in ("service", "quorum"):
            told = f"{count(row['used'], what[row['counts']])} out of at most {row['capacity']}"
            yield [Span(f"  budget {row['name']}: {told} ({some(row['out'], 4)})")]


def _short(name: str, width: int) -> str:
    return name if len(name) <= width else f"{name[: width - 1]}~"


def _cut(line: Line, width: int) -> Line:
    """The line as far as it fits."""
    spans, left = [], width
    for span in line:
        spans.append(Span(span.text[:left], span.style))
        left -= len(span.text)
        if left < 0:
            kept = spans[-1].text
            spans[-1] = Span(f"{kept[:-1]}~" if kept else "", span.style)
            break
    return spans


def _folded(line: Line, width: int) -> Iterator[Line]:
    whole = "".join(span.text for span in line)
    if len(whole) <= width:
        yield line
        return
    indent = " " * (len(whole) - len(whole.lstrip()) + 2)
    for part in textwrap.wrap(whole, width, subsequent_indent=indent, break_on_hyphens=False):
        yield [Span(part, line[0].style if len(line) == 1 else "")]
