# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back: what each instance ran before the upgrade, by the journal, as targets for the planner.

An upgrade is the runs that it took: the last one that was planned to replace anything, those after it, and those right
before it that did not end as done. What such a run, or the revert after it, put back already is not taken back again.

There is no second planner. The declared cluster is turned round: the old images are its targets, its dependencies
point the other way, and it has no schema jobs.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ._orchestration._model import Cluster, Database, Instance
from ._page import count, some, wrapped

KIND = "revert"
# The fact on localhost that turns every action's cluster round.
VARIABLE = "upgrade_back"
_REPLACING = ("replace", "switch")

Facts = Mapping[str, Mapping[str, Any]]


class RevertError(Exception):
    """There is no way back, or what is asked for is not there. The text is a sentence or several."""


@dataclass(frozen=True, slots=True)
class Back:
    """`targets`: what an instance ran before, by its name. `runs`: the upgrade's runs, the last one first."""

    targets: Mapping[str, str]
    runs: Sequence[int] = ()
    notes: Sequence[str] = ()

    @property
    def services(self) -> list[str]:
        return list(dict.fromkeys(name.partition("@")[0] for name in self.targets))

    def to_dict(self) -> dict[str, Any]:
        return {"targets": dict(self.targets), "runs": list(self.runs), "notes": list(self.notes)}


def way_back(
    runs: Iterable[Mapping[str, Any]], cluster: Cluster, only: Sequence[str] = (), *, leave_dependants: bool = False
) -> Back:
    """The way back from the last upgrade, of all services or `only` those named.

    `runs`: the journal's, the last one first. `leave_dependants`: services that depend on one of those may stay on the
    version that was put on top of it. Raises RevertError where a service is not declared, or where something makes it
    impossible: then nothing was begun.
    """
    if strange := [name for name in only if name not in cluster.services]:
        raise RevertError(
            f"upgrade_only names {some(strange)}, which upgrade_services does not declare; there are "
            f"{some(list(cluster.services))}."
        )
    chosen = set(only or cluster.services)
    series = list(_upgrade(runs))
    found: dict[str, str] = {}
    returned: set[str] = set()
    contracts: list[Mapping[str, Any]] = []
    for run in series:
        contracts += [job for job in run["jobs"] if job["details"].get("no_return") and job["service"] in chosen]
        for job in _replacements(run["jobs"], back=run["kind"] == KIND):
            if job["instance"] in returned:
                continue
            if run["kind"] != KIND:
                found[job["instance"]] = job["running"]
            elif job["outcome"] == "done":
                returned.add(job["instance"])
    instances = cluster.instances
    asked = {name: old for name, old in found.items() if name.partition("@")[0] in chosen or not only}
    notes = [f"{name} is no longer declared: it stays as it is" for name in asked if name not in instances]
    notes += [f"{name} ran nothing before: it stays as it is" for name in asked if not asked[name]]
    every = {name: found[name] for name in instances if found.get(name)}
    targets = {name: old for name, old in every.items() if name.partition("@")[0] in chosen}
    problems = [*_contracted(contracts, targets), *_nameless(targets)]
    if not leave_dependants:
        problems += _on_top(cluster, every, chosen)
    if problems:
        raise RevertError(f"There is no way back, and nothing was begun: {'; '.join(problems)}.")
    return Back(targets, tuple(run["id"] for run in series), tuple(notes))


def _replacements(jobs: Iterable[Mapping[str, Any]], *, back: bool) -> Iterator[Mapping[str, Any]]:
    """The jobs that replaced an instance, and what a `switch` did to each of its own.

    Second copies count: what they took the traffic from has to get it back. On the way back they prove nothing.
    """
    for job in jobs:
        if job["kind"] == "replace":
            yield job
        elif job["kind"] == "switch" and (job["method"] == "hold" or not back):
            for member in job["instances"]:
                if not member["current"]:
                    yield {**job, "instance": member["instance"], "running": member["running"]}


def _upgrade(runs: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    begun = False
    for run in runs:
        if begun and run["kind"] != KIND and run["outcome"] == "done":
            return
        yield run
        # A contract that was added later belongs to the upgrade before it.
        begun = begun or (run["kind"] != KIND and any(job["kind"] in _REPLACING for job in run["plan"]["jobs"]))


def _contracted(jobs: Iterable[Mapping[str, Any]], targets: Mapping[str, str]) -> Iterator[str]:
    for job in jobs:
        versions = sorted({old for name, old in targets.items() if name.startswith(f"{job['service']}@")})
        if versions:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job["begun"]))
            has = (
                "has changed the database so that" if job["kind"] == "switch" else "has removed from the database what"
            )
            may = "may not work with it" if job["kind"] == "switch" else "may need"
            yield (
                f"{job['id']} in run {job['run']}, begun {when}, {has} {some(versions)} "
                f"{may}; go forward, or restore the database from before it and put the old version on by hand"
            )


def _on_top(cluster: Cluster, targets: Mapping[str, str], chosen: Collection[str]) -> Iterator[str]:
    """What the upgrade put on top of a service that is taken back, and that would stay."""
    upgraded = {name.partition("@")[0] for name in targets}
    for name in (service for service in cluster.services if service in chosen and service in upgraded):
        above = [other for other in _dependants(cluster, name) if other in upgraded and other not in chosen]
        if above:
            yield (
                f"{some(above)} {'depends' if len(above) == 1 else 'depend'} on {name} and may need its new version; "
                "name it in upgrade_only too, or add -e upgrade_leave_dependants=true if it works with the old one"
            )


def _dependants(cluster: Cluster, name: str) -> list[str]:
    """The services that need this one, also by way of others, in the declaration's order."""
    found = {name}
    for _unused in cluster.services:
        found |= {other for other, service in cluster.services.items() if found.intersection(service.depends_on)}
    return [other for other in cluster.services if other in found and other != name]


def _nameless(targets: Mapping[str, str]) -> Iterator[str]:
    """What ran under a name that stands for something else now, so that the name leads nowhere."""
    for name, old in targets.items():
        if old.endswith(")") and " (" in old:
            yield (
                f"{name} ran {old}, and that name stands for other content now; rondo.upgrade.container_image with "
                "state: reverted puts its kept container back"
            )


def turned(cluster: Cluster, back: Back) -> Cluster:
    """The cluster with what ran before as its targets: the services that have any, in the other order."""
    chosen = [name for name in cluster.services if name in set(back.services)]
    needed_by = {
        name: tuple(other for other in chosen if name in cluster.services[other].depends_on) for name in chosen
    }
    return replace(
        cluster,
        services={
            name: replace(
                cluster.services[name],
                depends_on=needed_by[name],
                database=Database(),
                instances=tuple(_turned(instance, back) for instance in cluster.services[name].instances),
            )
            for name in chosen
        },
    )


def _turned(instance: Instance, back: Back) -> Instance:
    target = back.targets.get(instance.name)
    return instance if target is None else replace(instance, artifact=replace(instance.artifact, target=target))


def facts_of(facts: Facts, cluster: Cluster, back: Back) -> dict[str, dict[str, Any]]:
    """The facts as the turned cluster needs them: what the upgrade did not touch is as it should be."""
    found = {host: {name: fact for name, fact in facts[host].items() if name != "observe_schema"} for host in facts}
    for name, instance in cluster.instances.items():
        rows = found.get(instance.host, {}).get("observe_containers", {})
        if name not in back.targets and instance.artifact.name in rows:
            row = rows[instance.artifact.name]
            found[instance.host]["observe_containers"] = {**rows, instance.artifact.name: {**row, "current": True}}
    return found


def page(back: Back) -> str:
    """What will be taken back, as text of at most 100 columns."""
    if not back.targets:
        lines = ["REVERT: nothing to take back", *wrapped("No instance was replaced since the last upgrade.", "  ")]
    else:
        lines = [f"REVERT: {count(len(back.targets), 'instance')} of {some(back.services)} to what ran before"]
        lines += wrapped(f"by what the journal holds of {_told(back.runs)}", "  ")
    for note in back.notes:
        lines += wrapped(note, "  - ")
    if back.targets:
        what = "The declaration still names what is taken back: change it, or the next upgrade goes there again."
        lines += wrapped(what, "  ")
    return "\n".join(lines)


def _told(runs: Sequence[int]) -> str:
    return f"run{'' if len(runs) == 1 else 's'} {some([str(run) for run in reversed(runs)])}"
