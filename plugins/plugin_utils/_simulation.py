# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What if: a fleet of any size, planned and carried out in the window on a simulated clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ._orchestration._declaration import Inventory, parse
from ._orchestration._model import Cluster, State
from ._orchestration._simulate import Scenario, scaled, simulate
from ._page import count, duration, some, wrapped

ZONES = ("zone1", "zone2", "zone3")
_SIZES = {"database": 3, "api": 3, "compute": 4}
_DECLARATION: Mapping[str, Any] = {
    "mariadb": {"hosts": "database", "quorum": True, "estimates": {"replace": "90s"}},
    "rabbitmq": {"hosts": "database", "quorum": True, "estimates": {"replace": "60s"}},
    "keystone": {"hosts": "api", "depends_on": ["mariadb"], "canary": 1, "estimates": {"replace": "20s"}},
    "nova-api": {"hosts": "api", "depends_on": ["keystone", "rabbitmq"], "estimates": {"replace": "30s"}},
    "nova-compute": {"hosts": "compute", "depends_on": ["nova-api"], "estimates": {"replace": "60s"}},
}


class SimulationError(ValueError):
    """An option that can't be simulated; str() says what would be right."""


def sample() -> Cluster:
    """A small OpenStack-like fleet of ten hosts in three zones, for those who have no declaration yet."""
    groups = {name: tuple(f"{name}{number}" for number in range(1, size + 1)) for name, size in _SIZES.items()}
    hosts = [host for names in groups.values() for host in names]
    zones = {host: {"zone": ZONES[number % len(ZONES)]} for number, host in enumerate(hosts)}
    spread = {"failure_domain": "zone", "health": {"min_healthy_time": "10s"}}
    declaration = {
        name: {
            "artifact": {"container": name, "image": f"{name}:new"},
            **({} if service.get("quorum") else {**spread, "max_unavailable": "25%"}),
            **service,
        }
        for name, service in _DECLARATION.items()
    }
    return parse(declaration, Inventory(groups, zones))


def what_if(cluster: Cluster, options: Mapping[str, Any]) -> dict[str, Any]:
    """Simulate the cluster on `options["hosts"]` hosts. Raises SimulationError where an option makes no sense."""
    failing = _share(str(options["failures"]))
    zones = {instance.domain for instance in cluster.instances.values() if instance.domain}
    slow_zone = options["slow_zone"]
    if slow_zone and slow_zone not in zones:
        raise SimulationError(
            f"slow_zone: {slow_zone!r} is no failure domain; there are {some(sorted(zones)) or 'none'}"
        )
    for name in ("forks", "slow_factor"):
        if options[name] is not None and options[name] <= 0:
            raise SimulationError(f"{name}: {options[name]} is not above 0")
    try:
        fleet = scaled(cluster, options["hosts"])
    except ValueError as error:
        raise SimulationError(str(error)) from error
    scenario = Scenario(
        failing=failing,
        slow={slow_zone: options["slow_factor"]} if slow_zone else {},
        forks=options["forks"],
        max_failures=options["max_failures"],
        seed=options["seed"],
    )
    instances = len(fleet.instances)
    return {"hosts": options["hosts"], "instances": instances, **simulate(fleet, State(), None, scenario)}


def _share(text: str) -> float:
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise SimulationError(f"failures: {text!r} is no share; write such as 2% or 0.02")
    return share


def page(result: Mapping[str, Any]) -> str:
    """The result as text of at most 100 columns."""
    return "\n".join(_lines(result))


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"SIMULATION  {count(result['hosts'], 'host')}, {count(result['instances'], 'instance')},"
        f" {count(result['jobs'], 'job')}"
    )
    yield f"  planned       {duration(result['planned'])}; can't be less than {duration(result['bound'])}"
    if result["stuck"]:
        yield f"  it stopped    after {duration(result['makespan'])}"
    else:
        ratio = f", {result['makespan'] / result['planned']:.2f} times the plan" if result["planned"] else ""
        yield f"  it took       {duration(result['makespan'])}{ratio}"
    yield f"  jobs          {result['done']} done, {len(result['failed'])} failed, {len(result['left'])} never begun"
    if result["failed"]:
        yield from wrapped(some(result["failed"], 6), "  failed        ")
    if result["stuck"]:
        yield from wrapped(result["stuck"], "  why           ")
    over = [name for name, (most, capacity) in result["greatest_out"].items() if most > capacity]
    yield from wrapped(f"exceeded: {some(over, 6)}" if over else "kept at every moment", "  budgets       ")
