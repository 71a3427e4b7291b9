# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as a page for a terminal: from plan.json's values to lines of at most 100 columns."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

WIDTH = 100
_MOST_BARS = 40
_MOST_NAMES = 12
_MOST_SENTENCES = 40


def duration(seconds: float) -> str:
    """Seconds as people say them: "8.5s", "2m 05s", "1h 03m"."""
    if seconds < 10 and round(seconds, 1) != round(seconds):
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def count(number: int, noun: str) -> str:
    """A number and its noun: "1 job", "3 jobs"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def wrapped(text: str, first: str = "", rest: str | None = None) -> Iterator[str]:
    """Lines of `text` that fit the page, the first one after `first`, the others after `rest` (default: as wide)."""
    indent = " " * len(first) if rest is None else rest
    lines = textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False)
    yield from lines or [first.rstrip()]


def some(names: Sequence[str], most: int = _MOST_NAMES) -> str:
    """Names joined by commas, the end of a long list as a number."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def page(plan: Mapping[str, Any], difference: Sequence[str] = (), *, back: bool = False) -> str:
    """The page of a plan (plan.json's values). `difference`: what changed since the last plan, as sentences; `back`:
    the plan takes an upgrade back."""
    sections = [
        list(_summary(plan)),
        _listed("STANDS IN THE WAY", plan["obstacles"]),
        _listed("CHANGED SINCE THE LAST PLAN", difference),
        list(_services(plan)),
        list(_timeline(plan)),
        list(_forecast(plan)),
        _listed("RISKS", plan["risks"]),
        _listed("POINT OF NO RETURN", _no_return(plan)),
        _listed("NOTES", plan["notes"]),
        list(_done(plan)),
        list(_next(plan, "rondo.upgrade.revert" if back else "rondo.upgrade.upgrade")),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def _summary(plan: Mapping[str, Any]) -> Iterator[str]:
    jobs = plan["jobs"]
    if plan["obstacles"]:
        yield f"PLAN: can't begin, {count(len(plan['obstacles']), 'obstacle')} in the way"
    elif not jobs:
        yield "PLAN: nothing to do, everything runs its target"
    else:
        hosts = len({job["host"] for job in jobs})
        services = len({job["service"] for job in jobs})
        yield (
            f"PLAN: {count(len(jobs), 'job')} on {count(hosts, 'host')} for {count(services, 'service')}, "
            f"about {duration(plan['forecast']['makespan'])}"
        )


def _listed(title: str, sentences: Iterable[str]) -> list[str]:
    told = list(sentences)
    lines = [line for sentence in told[:_MOST_SENTENCES] for line in wrapped(sentence, "  - ")]
    if len(told) > _MOST_SENTENCES:
        lines.append(f"  - and {len(told) - _MOST_SENTENCES} more")
    return [title, *lines] if lines else []


def _services(plan: Mapping[str, Any]) -> Iterator[str]:
    if not plan["services"]:
        return
    yield "SERVICES, in order"
    of_service = _jobs_by_service(plan)
    for number, service in enumerate(plan["services"], start=1):
        jobs = of_service.get(service["name"], [])
        work = _kinds(jobs) if jobs else "nothing to do"
        method = service["method"] or ("-" if not jobs else "none")
        yield from wrapped(f"{number:>3}. {service['name']:<18} {method:<13} {work}", rest=" " * 38)
        if not jobs:
            continue
        yield from wrapped(f"{service['budget']}: {service['budget_reason']}", "       budget  ")
        yield from wrapped(service["reason"], "       why     ")
        for rejected in service["rejected"]:
            if rejected["why"].startswith("not needed"):
                continue
            yield from wrapped(f"{rejected['method']}: {rejected['why']}", "       not     ")
        if service["needs"]:
            yield from wrapped(service["needs"], "       needs   ")
        if service["turns"] and service["method"] != "roll":
            yield from wrapped(service["turns"], "       else    ")
        for sentence in service["held"]:
            yield from wrapped(sentence, "       then    ")
        replaced = [job for job in jobs if job["instance"]]
        replaced += [one for job in jobs for one in job.get("instances", ()) if not one["current"]]
        moves = sorted({f"{row['running'] or 'nothing'} -> {row['artifact']['target']}" for row in replaced})
        for move in moves[:3]:
            yield from wrapped(move, "       from    ")


def _jobs_by_service(plan: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    jobs: dict[str, list[Mapping[str, Any]]] = {}
    for job in plan["jobs"]:
        jobs.setdefault(job["service"], []).append(job)
    return jobs


def _kinds(jobs: Sequence[Mapping[str, Any]]) -> str:
    kinds: dict[str, int] = {}
    for job in sorted(jobs, key=lambda job: float(job["start"])):
        kinds[job["kind"]] = kinds.get(job["kind"], 0) + 1
    return ", ".join(f"{kind} {number}" if kind == "replace" else kind for kind, number in kinds.items())


def _timeline(plan: Mapping[str, Any]) -> Iterator[str]:
    jobs = plan["jobs"]
    if not jobs:
        return
    rows = _bars(jobs) if len(jobs) <= _MOST_BARS else _densities(plan)
    names = max(len(name) for name, _unused in rows)
    columns = WIDTH - min(names, 40) - 4
    last = max(float(job["end"]) for job in jobs) or 1.0
    how = "" if len(jobs) <= _MOST_BARS else "; a digit is how many go on at once, + is more than 9"
    yield f"TIMELINE, one column is {duration(last / columns)}{how}"
    for name, spans in rows:
        shown = name if len(name) <= 40 else f"{name[:37]}..."
        yield f"  {shown:<{min(names, 40)}}  {_row(spans, columns, last)}".rstrip()


def _bars(jobs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[tuple[float, float]]]]:
    order = sorted(jobs, key=lambda job: (float(job["start"]), float(job["end"]), job["id"]))
    return [(job["id"], [(float(job["start"]), float(job["end"]))]) for job in order]


def _densities(plan: Mapping[str, Any]) -> list[tuple[str, list[tuple[float, float]]]]:
    of_service = _jobs_by_service(plan)
    return [
        (service["name"], [(float(job["start"]), float(job["end"])) for job in of_service[service["name"]]])
        for service in plan["services"]
        if service["name"] in of_service
    ]


def _row(spans: Sequence[tuple[float, float]], columns: int, last: float) -> str:
    """A character per column: the most that go on at any moment of it. What ends as another begins is not beside it."""
    changes: dict[float, int] = {}
    for start, end in spans:
        changes[start] = changes.get(start, 0) + 1
        changes[end] = changes.get(end, 0) - 1
    most, busy = [0] * columns, 0
    for moment, following in itertools.pairwise(sorted(changes)):
        busy += changes[moment]
        first = min(columns - 1, int(moment / last * columns))
        after = max(first + 1, min(columns, math.ceil(following / last * columns - 1e-9)))
        most[first:after] = [max(busy, seen) for seen in most[first:after]]
    signs = (" " if not seen else "#" if len(spans) == 1 else "+" if seen > 9 else str(seen) for seen in most)
    return "".join(signs).rstrip()


def _forecast(plan: Mapping[str, Any]) -> Iterator[str]:
    if not plan["jobs"]:
        return
    forecast = plan["forecast"]
    yield "FORECAST"
    yield f"  takes         {duration(forecast['makespan'])} by the estimates"
    yield from wrapped(f"{duration(forecast['bound'])} ({forecast['bound_name']})", "  can't be less ")
    yield f"  gap           {forecast['gap']:.0%} above that bound"
    yield f"  half of all   runs end within {duration(forecast['p50'])} (p50)"
    yield f"  nine of ten   runs end within {duration(forecast['p90'])} (p90)"
    sources: dict[str, int] = {}
    for job in plan["jobs"]:
        sources[job["source"]] = sources.get(job["source"], 0) + 1
    told = [f"{count(sources[source], 'job')}: {source}" for source in sorted(sources)]
    yield from wrapped(some(told, 4), "  estimates     ")


def _done(plan: Mapping[str, Any]) -> Iterator[str]:
    if plan["done"]:
        yield "ALREADY DONE"
        yield from wrapped(some(plan["done"]), "  ")


def _no_return(plan: Mapping[str, Any]) -> list[str]:
    switches = {job["id"] for job in plan["jobs"] if job["kind"] == "switch"}
    when = {True: "once its database.offline has begun", False: "if it finds anything to remove"}
    return [
        f"no way back after: {job}, {when[job in switches]}; until then rondo.upgrade.revert takes all back"
        for job in plan["point_of_no_return"]
    ]


def _next(plan: Mapping[str, Any], playbook: str) -> Iterator[str]:
    yield "NEXT"
    if plan["obstacles"]:
        yield from wrapped("Remove what stands in the way, then plan again: ansible-playbook rondo.upgrade.plan", "  ")
    elif plan["jobs"]:
        yield from wrapped(f"Carry it out: ansible-playbook {playbook}", "  ")
        if playbook == "rondo.upgrade.upgrade":
            yield from wrapped("As a plain playbook to review or run: add -e upgrade_export=FILE", "  ")
    else:
        yield from wrapped("Check that it really is so: ansible-playbook rondo.upgrade.verify", "  ")
