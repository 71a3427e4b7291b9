# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A smaller cluster of the same shape: which hosts a rehearsal keeps, and what their budgets are then.

A host that stays keeps all its services. Groups shrink to a few instances; what their size decides stays true: a quorum
still has a spare member, a rule of sizes is kept, hosts of several failure domains are there, a canary is not alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ._model import Cluster, Service
from ._quantities import Percent
from ._sizes import Impossible, fits, from_max_unavailable, from_min_available
from ._spec import Wrong, count_or_percent

# Two balancers show what one does not: each has a table of its own.
BALANCERS: Final = 2
QUORUM: Final = 3
DOMAINS: Final = 2
FEWEST: Final = 2


@dataclass(frozen=True, slots=True)
class Group:
    """Hosts of which at least `least` stay, in `rule` (base, step; docs/declaration.md, `arity`) and of `domains`."""

    hosts: tuple[str, ...]
    least: int
    rule: tuple[int, int] = (0, 1)
    domains: Mapping[str, str] = field(default_factory=dict)

    def enough(self, kept: Mapping[str, None]) -> bool:
        here = [host for host in self.hosts if host in kept]
        several = min(DOMAINS, len(set(self.domains.values())))
        return (
            len(here) >= self.least
            and fits(len(here), *self.rule)
            and len({self.domains[host] for host in here if host in self.domains}) >= several
        )


def groups_of(
    cluster: Cluster,
    size: int,
    rules: Mapping[str, tuple[int, int]] | None = None,
    others: Sequence[Sequence[str]] = (),
) -> list[Group]:
    """What has to stay of a cluster: `size` instances of each service, or all where there are fewer.

    `rules`: the services' rules of sizes. `others`: groups of hosts of which one each has to stay. Raises ValueError
    where `size` would leave a single instance.
    """
    if size < FEWEST:
        raise ValueError(f"{size} hosts per group can't show how a group is upgraded; keep at least {FEWEST}")
    found = []
    for service in cluster.services.values():
        members = tuple(instance.host for instance in service.instances)
        least = min(len(members), max(size, QUORUM) if service.quorum else size)
        domains = {i.host: i.domain for i in service.instances if i.domain is not None}
        found.append(Group(members, least, (rules or {}).get(service.name, (0, 1)), domains))
    found.append(Group(cluster.balancers, min(len(cluster.balancers), BALANCERS)))
    return found + [Group(tuple(hosts), min(1, len(hosts))) for hosts in others]


def kept_hosts(groups: Sequence[Group]) -> tuple[str, ...]:
    """The fewest hosts, about, that are enough for every group, in the groups' order.

    The host that the most groups are short of goes first, then one of a domain that is not there yet. With all hosts
    every group is as it was, so that this ends.
    """
    order = {host: number for number, host in enumerate(dict.fromkeys(h for g in groups for h in g.hosts))}
    kept: dict[str, None] = {}
    while short := [group for group in groups if not group.enough(kept)]:
        useful = dict.fromkeys(host for group in short for host in group.hosts if host not in kept)
        best = max(useful, key=lambda host: (*_use(host, short, kept), -order[host]))
        kept[best] = None
    return tuple(host for host in order if host in kept)


def _use(host: str, short: Sequence[Group], kept: Mapping[str, None]) -> tuple[int, int]:
    wanting = [group for group in short if host in group.hosts]
    new = [
        group
        for group in wanting
        if host in group.domains and group.domains[host] not in {group.domains.get(other) for other in kept}
    ]
    return len(wanting), len(new)


def smaller(out: int, size: int, kept: int) -> int:
    """How many of `kept` may be out where `out` of `size` may: the same share, rounded down, but one where any may."""
    return 0 if out == 0 else min(kept, max(1, out * kept // size))


def resized(spec: Mapping[str, Any], service: Service, kept: int) -> dict[str, Any]:
    """A service's keys, as declared, for `kept` instances. A service that keeps its size keeps its keys."""
    size = len(service.instances)
    changed = dict(spec)
    if kept == size:
        return changed
    out = smaller(service.max_unavailable, size, kept)
    if "min_available" in spec and not _scales(spec["min_available"], kept, out):
        changed["min_available"] = kept - out
    if "max_unavailable" in spec and not _scales(spec["max_unavailable"], kept, out, of_out=True):
        changed["max_unavailable"] = out
    if service.canary:
        changed["canary"] = max(1, service.canary * kept // size)
    return changed


def _scales(declared: Any, kept: int, out: int, *, of_out: bool = False) -> bool:
    """Whether a budget means the same in the smaller group by itself: a share that lets any out, a majority, none."""
    try:
        value = count_or_percent("quorum")(declared)
        if not isinstance(value, Percent):
            return value in ("quorum", 0)
        sized = from_max_unavailable(kept, value, second_copy=False) if of_out else from_min_available(kept, value)
    except (Impossible, Wrong):
        return False
    return bool(sized.max_unavailable) == bool(out)
