# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a run stands: told what began and what ended, it answers what is in flight, what is used and what waits for what.

The reasons are a window's own: one that is told the same as the run's. Where the two do not agree, as when the run's
window knows of something that was not told here, there are no reasons: better none than wrong ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ._budget import Budget, split_instance
from ._window import Window, WindowError

_NUMBERS = ("done", "failed", "skipped", "lost", "in_flight")


class Standing:
    """A plan (plan.json's values) on its way. Being told costs what changed; answers cost what is shown of them."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self._rows = {row["id"]: row for row in plan.get("jobs", ())}
        self._members = plan.get("members", {})
        self._budgets = [Budget.from_dict(row) for row in plan.get("budgets", ())]
        self._out = dict.fromkeys(sorted({name for row in plan.get("budgets", ()) for name in row["already_out"]}))
        self._order: dict[str, list[str]] = {}
        for name, row in self._rows.items():
            self._order.setdefault(row["service"], []).append(name)
        self._first = dict.fromkeys(self._order, 0)
        self._numbers = {service: dict.fromkeys(_NUMBERS, 0) for service in self._order}
        self._flying: dict[str, float] = {}
        self._over: dict[str, str] = {}
        self._lost: set[str] = set()
        self._paused = self._stopped = ""
        self._window: Window | None
        try:
            self._window = Window.from_plan(plan)
        except KeyError:
            self._window = None

    @property
    def paused(self) -> str:
        """Who paused the run; "" while it is not paused."""
        return "" if self._stopped else self._paused

    @property
    def stopped(self) -> str:
        """Why nothing more begins; "" while something may."""
        return self._stopped

    # What it is told

    def begin(self, job_id: str, when: float) -> None:
        self._flying[job_id] = when
        if row := self._rows.get(job_id):
            self._numbers[row["service"]]["in_flight"] += 1
            if row["instance"]:
                self._out.setdefault(row["instance"])
            self._tell(Window.begin, job_id)

    def end(self, job_id: str, outcome: str, details: Mapping[str, Any] | None = None) -> None:
        """A job in flight ended; of two ends the first counts."""
        if self._flying.pop(job_id, None) is None:
            return
        self._over[job_id] = outcome
        if row := self._rows.get(job_id):
            numbers = self._numbers[row["service"]]
            numbers["in_flight"] -= 1
            numbers[outcome if outcome in numbers else "lost"] += 1
            if row["instance"] and outcome == "done":
                self._out.pop(row["instance"], None)
            if outcome in ("done", "failed", "skipped"):
                self._tell(Window.end, job_id, outcome)
            self._look(row, details or {})

    def pause(self, by: str) -> None:
        self._paused = by
        self._tell(Window.pause)

    def resume(self) -> None:
        self._paused = ""
        self._tell(Window.resume)

    def stop(self, reason: str) -> None:
        self._stopped = self._stopped or reason
        self._tell(Window.stop, reason)

    # What it says

    def services(self) -> list[dict[str, Any]]:
        """A row for each service with jobs, in the plan's order: `name`, how many `jobs` there are, how many of them
        ended how or are `in_flight`, and `waits`: what the first of the others waits for."""
        rows = []
        for service, names in self._order.items():
            first = self._first_left(service)
            waits = self._reason(first) if first is not None else ""
            rows.append({"name": service, "jobs": len(names), **self._numbers[service], "waits": waits})
        return rows

    def in_flight(self, now: float) -> list[dict[str, Any]]:
        """A row for each job that began and did not end, the oldest first; `expected`: the plan's seconds, or None."""
        return [
            {"id": name, "seconds": max(0.0, now - since), "expected": self._rows.get(name, {}).get("seconds")}
            for name, since in self._flying.items()
        ]

    def budgets(self) -> list[dict[str, Any]]:
        """A row for each budget: `name`, `kind`, `counts`, `capacity`, how many are `used`, and by whom: `out`."""
        rows = []
        for budget in self._budgets:
            groups: dict[str, None] = {}
            for instance in self._out:
                service, host = split_instance(instance)
                if service in budget.services and (group := budget.group(instance, host)) is not None:
                    groups.setdefault(group)
            rows.append(
                {
                    "name": budget.name,
                    "kind": budget.kind,
                    "counts": budget.counts,
                    "capacity": budget.capacity,
                    "used": len(groups),
                    "out": list(groups),
                }
            )
        return rows

    def waiting(self) -> list[dict[str, str]]:
        """Each job that did not begin and will, with `why`, what it waits for. Costs as much as there are."""
        return [
            {"id": name, "why": why}
            for name in self._rows
            if name not in self._over and name not in self._flying and (why := self._reason(name))
        ]

    # Below this line: how

    def _first_left(self, service: str) -> str | None:
        names = self._order[service]
        place = self._first[service]
        while place < len(names) and (names[place] in self._over or names[place] in self._flying):
            place += 1
        self._first[service] = place
        return names[place] if place < len(names) else None

    def _reason(self, job_id: str) -> str:
        """What a job that did not begin waits for; "" where that is not known, or where it never will."""
        if self._window is None:
            return ""
        why = self._window.waits_for(job_id)
        return "" if why == "was skipped" else why

    def _tell(self, what: Callable[..., None], *values: str) -> None:
        if self._window is not None:
            try:
                what(self._window, *values)
            except WindowError:
                self._window = None

    def _look(self, row: Mapping[str, Any], details: Mapping[str, Any]) -> None:
        lost, back = seen_by(self._members, row, details)
        for instance in lost:
            if instance not in self._lost:
                self._lost.add(instance)
                self._out.setdefault(instance)
                self._tell(Window.lose, instance)
        for instance in back:
            if instance in self._lost:
                self._lost.discard(instance)
                self._out.pop(instance, None)
                self._tell(Window.regain, instance)


def seen_by(
    members: Mapping[str, Sequence[Mapping[str, str]]], job: Mapping[str, Any], details: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """Instances by what a job that ended saw in the balancers' tables: those that do not serve, and those that do.

    `members`: the rows in these tables by instance; `details`: the job's own, with `down`.
    """
    down = {(row["backend"], row["name"]) for row in details.get("down", ())}
    seen = {row["backend"] for row in job.get("servers", ())}
    lost, back = [], []
    for instance, rows in members.items():
        if any((row["backend"], row["name"]) in down for row in rows):
            lost.append(instance)
        elif any(row["backend"] in seen for row in rows):
            back.append(instance)
    return lost, back
