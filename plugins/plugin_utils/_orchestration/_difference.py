# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What changed between two plans, and why: sentences for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ._spec import listed

PlanDict = Mapping[str, Any]

_SERVICE_WORDS: Final = (
    ("method", "its method"),
    ("budget", "its budget"),
    ("max_unavailable", "how many may be out"),
    ("depends_on", "what it depends on"),
)
# Estimates drift a little with every run; below this share of the makespan that is no news.
DRIFT: Final = 0.05
FEW: Final = 6


def difference(old: PlanDict, new: PlanDict) -> list[str]:
    """Sentences on what is different in `new` and why; none where both say the same. Both are plan.json's mappings."""
    return [
        *_services(old, new),
        *_together([*_members(old, new), *_instances(old, new)]),
        *_schema(old, new),
        *_forecasts(old, new),
    ]


def _together(sentences: Iterable[str]) -> list[str]:
    """Sentences of which each begins with an instance; instances of which the same is said share one."""
    instances: dict[str, list[str]] = {}
    for sentence in sentences:
        instance, _unused, said = sentence.partition(": ")
        instances.setdefault(said, []).append(instance)
    return [f"{listed(names, FEW)}: {said}" for said, names in instances.items()]


def _by(rows: Iterable[Mapping[str, Any]], key: str) -> dict[str, Mapping[str, Any]]:
    return {row[key]: row for row in rows}


def _show(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "nothing"
    return "none" if value is None else str(value)


def _services(old: PlanDict, new: PlanDict) -> list[str]:
    before, after = _by(old["services"], "name"), _by(new["services"], "name")
    found = [f"{name}: a new service" for name in after if name not in before]
    found += [f"{name}: no longer declared" for name in before if name not in after]
    for name, row in after.items():
        for key, words in _SERVICE_WORDS:
            if name in before and before[name][key] != row[key]:
                found.append(f"{name}: {words} is {_show(row[key])}, was {_show(before[name][key])}")
    return found


def _out(plan: PlanDict) -> dict[str, None]:
    return {instance: None for budget in plan["budgets"] for instance in budget["already_out"]}


def _members(old: PlanDict, new: PlanDict) -> list[str]:
    before, after = _out(old), _out(new)
    return [
        *(
            f"{instance}: out already, which takes a place in its budgets"
            for instance in after
            if instance not in before
        ),
        *(f"{instance}: serves again" for instance in before if instance not in after),
    ]


def _replaced(plan: PlanDict) -> dict[str, Mapping[str, Any]]:
    found = {row["instance"]: row for row in plan["jobs"] if row["instance"] is not None}
    for row in plan["jobs"]:
        # With method hold no other job replaces them.
        found |= {one["instance"]: one for one in row.get("instances", ()) if not one["current"]}
    return found


def _instances(old: PlanDict, new: PlanDict) -> list[str]:
    before, after = _replaced(old), _replaced(new)
    done_before, done_after = set(old["done"]), set(new["done"])
    found = []
    for instance, row in after.items():
        if instance in before:
            found += _changed_job(instance, before[instance], row)
        elif instance in done_before:
            runs = row["running"] or "nothing"
            found.append(
                f"{instance}: to be replaced again; it runs {runs}, and should run {row['artifact']['target']}"
            )
        else:
            found.append(f"{instance}: a new instance, to be replaced")
    for instance in before:
        if instance not in after:
            why = "already runs its target" if instance in done_after else "is no longer declared"
            found.append(f"{instance}: no job any more, it {why}")
    found += [f"{i}: a new instance, runs its target" for i in new["done"] if i not in done_before and i not in before]
    found += [f"{i}: no longer declared" for i in old["done"] if i not in done_after and i not in after]
    return found


def _changed_job(instance: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    found = []
    if old["artifact"] != new["artifact"]:
        found.append(f"{instance}: its target is {new['artifact']['target']}, was {old['artifact']['target']}")
    if old["running"] != new["running"]:
        found.append(f"{instance}: it runs {new['running'] or 'nothing'}, ran {old['running'] or 'nothing'}")
    if old["servers"] != new["servers"]:
        found.append(f"{instance}: its servers in the balancers changed")
    return found


def _schema(old: PlanDict, new: PlanDict) -> list[str]:
    before = [row["id"] for row in old["jobs"] if row["instance"] is None]
    after = [row["id"] for row in new["jobs"] if row["instance"] is None]
    return [
        *(f"{job}: to do now" for job in after if job not in before),
        *(f"{job}: nothing left to do" for job in before if job not in after),
    ]


def _forecasts(old: PlanDict, new: PlanDict) -> list[str]:
    before, after = old["forecast"]["makespan"], new["forecast"]["makespan"]
    if abs(after - before) <= DRIFT * max(before, after):
        return []
    estimates = _by(old["jobs"], "id")
    moved = [row for row in new["jobs"] if row["id"] in estimates and row["seconds"] != estimates[row["id"]]["seconds"]]
    why = f"; {len(moved)} estimates changed, for example {moved[0]['id']} ({moved[0]['source']})" if moved else ""
    return [f"forecast: {after:g} s, was {before:g} s{why}"]
