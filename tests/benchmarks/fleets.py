# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets to plan: seeded, so that every machine benches the same ones.

`large(hosts, seed)`: five services on every host, so 5 x hosts jobs and the schema jobs; three zones; dependencies

    cache (25 %)  database (quorum, one zone at a time)
         \\          /
        identity (25 %, one zone at a time, expand and contract)
         /          \\
    images (25 %, one zone at a time)   agents (10 %)

Durations are lognormal: median 60 s, sigma 0.8, and cut off at 15 s and 240 s, because a health check has a deadline.
They are drawn by strata (one from each n-th part of the distribution, shuffled): so every size has the same
distribution, not only the same generator.

`small(seed)`: 3 to 8 hosts, 2 to 4 services on random subsets of them with random budgets, zones, quorums and chains.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import exp, log
from pathlib import Path
from random import Random
from statistics import NormalDist

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".cache" / "collections"))

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import (
    Artifact,
    Cluster,
    Database,
    Instance,
    Service,
)

ZONES = ("north", "east", "west")
MEDIAN = 60.0
SIGMA = 0.8
SHORTEST = 15.0
LONGEST = 240.0
NO_SCHEMA = Database()


def heavy_tailed(number: int, random: Random) -> list[float]:
    """So many durations, one from each stratum of the lognormal distribution, in random order."""
    normal = NormalDist(log(MEDIAN), SIGMA)
    drawn = [exp(normal.inv_cdf((i + random.uniform(0.01, 0.99)) / number)) for i in range(number)]
    random.shuffle(drawn)
    return [min(LONGEST, max(SHORTEST, round(seconds, 1))) for seconds in drawn]


def service(
    name: str,
    hosts: Sequence[str],
    seconds: Sequence[float],
    *,
    depends_on: tuple[str, ...] = (),
    max_unavailable: int = 1,
    zones: Sequence[str] | None = None,
    quorum: bool = False,
    database: Database = NO_SCHEMA,
    canary: int = 0,
) -> Service:
    """A service whose hosts declare how long their own replacement takes."""
    artifact = Artifact("container", name, f"registry.example/{name}:2")
    return Service(
        name=name,
        instances=tuple(
            Instance(name, host, artifact, zones[i] if zones else None, estimates={"replace": seconds[i]})
            for i, host in enumerate(hosts)
        ),
        depends_on=depends_on,
        max_unavailable=max_unavailable,
        budget_text=f"max_unavailable: {max_unavailable}",
        quorum=quorum,
        failure_domain="zone" if zones else None,
        canary=canary,
        min_healthy_time=0.0,
        method="roll",
        database=database,
        estimates={"expand": 30.0, "contract": 30.0},
    )


def large(number: int, seed: int = 1) -> Cluster:
    """Five services on every one of `number` hosts."""
    random = Random(f"{seed} {number}")
    hosts = [f"host{i:05}" for i in range(number)]
    zones = [ZONES[i % 3] for i in range(number)]
    quarter = max(1, number // 4)
    tenth = max(1, number // 10)
    everything = [
        service("cache", hosts, heavy_tailed(number, random), max_unavailable=quarter),
        service(
            "database", hosts, heavy_tailed(number, random), max_unavailable=(number - 1) // 2, zones=zones, quorum=True
        ),
        service(
            "identity",
            hosts,
            heavy_tailed(number, random),
            depends_on=("cache", "database"),
            max_unavailable=quarter,
            zones=zones,
            database=Database(expand=True, contract=True),
        ),
        service(
            "images",
            hosts,
            heavy_tailed(number, random),
            depends_on=("identity",),
            max_unavailable=quarter,
            zones=zones,
        ),
        service("agents", hosts, heavy_tailed(number, random), depends_on=("identity",), max_unavailable=tenth),
    ]
    return Cluster({one.name: one for one in everything})


def small(seed: int) -> Cluster:
    """A random small fleet that an exact solver can still do."""
    random = Random(seed)
    hosts = [f"host{i}" for i in range(random.randint(3, 8))]
    zone = {host: ZONES[i % random.choice((2, 3))] for i, host in enumerate(hosts)}
    services: dict[str, Service] = {}
    for number in range(random.randint(2, 4)):
        members = sorted(random.sample(hosts, random.randint(2, len(hosts))))
        quorum = len(members) >= 3 and random.random() < 0.3
        spare = (len(members) - 1) // 2 if quorum else random.randint(1, max(1, len(members) // 2))
        name = f"service{number}"
        services[name] = service(
            name,
            members,
            [float(random.randint(10, 120)) for _ in members],
            depends_on=tuple(other for other in services if random.random() < 0.3),
            max_unavailable=spare,
            zones=[zone[host] for host in members] if random.random() < 0.4 else None,
            quorum=quorum,
            canary=int(random.random() < 0.2),
            database=Database(expand=random.random() < 0.3, contract=random.random() < 0.3),
        )
    return Cluster(services)
