# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From `upgrade_services` and the inventory to a `Cluster`, or every mistake at once.

`parse` goes through the declaration twice. First each service by itself: the tables (`_keys.py`) say which keys there
are and how each is read (`_spec.py`), then the checks below look at keys that bear on each other and on the inventory.
Then the services together: dependencies, and what two services both claim. Keys that may differ per host (the
artifact, health, drain_timeout, the server's name, estimates) are read from each host's own view.

Nothing here raises anything but `DeclarationError`, whatever was declared.
"""

from __future__ import annotations

import difflib
import graphlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ._keys import FLEET, HTTP_KEYS, PER_HOST, ROOT, SERVICE
from ._model import (
    BESIDE,
    Artifact,
    Ceilings,
    Cluster,
    Database,
    Hold,
    Instance,
    Server,
    Service,
    SideBySide,
)
from ._quantities import show_duration
from ._sizes import (
    Impossible,
    Size,
    allowed,
    allowed_sizes,
    fits,
    from_max_unavailable,
    from_min_available,
    instances,
    with_quorum,
)
from ._spec import (
    Key,
    Problem,
    Problems,
    Section,
    Values,
    Wrong,
    kind,
    listed,
    nearest,
    path_of,
    read_section,
    service_name,
)

BALANCERS = "balancers"
# What a balancer is made of goes by these names, whoever packs it.
BALANCING = ("haproxy", "keepalived")


class DeclarationError(Exception):
    """Everything that is wrong with a declaration, one line each in its text."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


@dataclass(frozen=True)
class Inventory:
    """Groups with their hosts, and per host its variables.

    Of the variables only the host's own view of `upgrade_services` (absent: the controller's view counts), the failure
    domains' variables and `upgrade_host_class` are read.
    """

    groups: Mapping[str, tuple[str, ...]]
    hostvars: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def parse(declaration: Mapping[str, Any], inventory: Inventory, *, fleet: Mapping[str, Any] | None = None) -> Cluster:
    """The cluster that is declared.

    `declaration` is `upgrade_services` as the controller sees it, `fleet` the variables that hold for the whole run
    (`upgrade_balancers` and the others of `FLEET`; None or an empty text stands for the default). Raises
    `DeclarationError` with every mistake that it finds.
    """
    problems = Problems()
    services: dict[str, Service] = {}
    if not isinstance(declaration, Mapping):
        problems.add(ROOT, f"is {kind(declaration)}", "write a mapping of services")
        declaration = {}
    elif not declaration:
        problems.add(ROOT, "declares no service", "declare at least one; docs/declaration.md shows how")
    balancers = frozenset(inventory.groups.get(_balancers_group(fleet or {}), ()))
    for name, spec in declaration.items():
        path = path_of(ROOT, name)
        try:
            service_name(name)
        except Wrong as mistake:
            problems.add(path, mistake.wrong, mistake.remedy)
        else:
            services[str(name)] = _Reader(str(name), spec, path, inventory, balancers, problems).service()
    _check_dependencies(services, problems)
    _check_claims(services, problems)
    cluster = _with_fleet(services, fleet or {}, inventory, problems)
    if problems.found:
        raise DeclarationError(problems.listed())
    return cluster


@dataclass
class _Reader:
    """Reads one service, and goes on after each mistake."""

    name: str
    spec: object
    path: str
    inventory: Inventory
    balancers: frozenset[str]
    problems: Problems

    def service(self) -> Service:
        values = read_section(SERVICE, self.spec, self.path, self.problems)
        if not isinstance(self.spec, Mapping):
            return Service(self.name, ())
        hosts = self._hosts(values)
        self._check_host_keys(values)
        self._check_pairs(values)
        self._check_arity(values, len(hosts))
        self._check_canary(values, len(hosts))
        budget = self._budget(values, len(hosts))
        domains = self._domains(values, hosts)
        members = tuple(self._instance(host, values, domains.get(host)) for host in hosts)
        backends = dict.fromkeys(server.backend for instance in members for server in instance.servers)
        health, database = values["health"], values["database"]
        return Service(
            name=self.name,
            instances=members,
            depends_on=values["depends_on"],
            max_unavailable=budget.max_unavailable,
            budget_text=budget.text,
            outage_allowed=budget.outage_allowed,
            quorum=values["quorum"] or values["min_available"] == "quorum",
            failure_domain=values["failure_domain"],
            canary=values["canary"],
            bake_time=values["bake_time"],
            version_skew=values["version_skew"],
            active_passive=values["active_passive"],
            method=values["method"],
            hold=Hold(
                *(
                    values["hold"][name]
                    for name in ("deadline", "on_deadline", "timeouts", "bytes_per_request", "force")
                )
            ),
            side_by_side=self._side_by_side(values, hosts),
            takes_balancer=self._takes_balancer(values, hosts),
            backends=tuple(backends),
            health=tuple(name for name in ("http", "tcp", "command") if health[name]),
            min_healthy_time=health["min_healthy_time"],
            healthy_deadline=health["healthy_deadline"],
            drain_timeout=values["drain_timeout"],
            database=Database(
                **{
                    key: database[key]
                    for key in ("expand", "migrate", "contract", "check", "offline", "offline_reversible")
                }
            ),
            max_failures=allowed(len(hosts), values["max_failures"]),
            estimates=_estimates(values),
            hooks=tuple(values["hooks"][when] for when in ("before", "after") if values["hooks"][when]),
        )

    def _add(self, key: str, wrong: str, remedy: str, *, value: object = None, host: str = "") -> None:
        self.problems.add(f"{self.path}.{key}", wrong, remedy, value=value, host=host)

    def _hosts(self, values: Values) -> tuple[str, ...]:
        if not values.right("hosts"):
            return ()
        group = values["hosts"] or self.name
        default = "" if values["hosts"] else " (the default of hosts is the service's name)"
        if group not in self.inventory.groups:
            remedy = nearest(group, sorted(self.inventory.groups))
            self._add("hosts", f"is no group of the inventory{default}", remedy, value=group)
            return ()
        hosts = tuple(self.inventory.groups[group])
        if not hosts:
            remedy = "add hosts to the group, or take the service out of the declaration"
            self._add("hosts", f"is an empty group{default}", remedy, value=group)
        return hosts

    def _takes_balancer(self, values: Values, hosts: Sequence[str]) -> bool:
        """As declared; else HAProxy and keepalived do, known by their artifact's name."""
        declared = values["takes_balancer"]
        if declared is None:
            name = _artifact(values["artifact"]).name.lower()
            return any(word in name for word in BALANCING) and any(host in self.balancers for host in hosts)
        if declared and "balancer" in values.given:
            remedy = "keep balancer for what stands behind the balancers, takes_balancer for what they are made of"
            self._add("takes_balancer", "contradicts balancer", remedy)
        elif declared and (others := [host for host in hosts if host not in self.balancers]):
            what = "is no balancer" if len(others) == 1 else "are no balancers"
            remedy = "let the service's hosts be balancers (upgrade_balancers names their group), or drop it"
            self._add("takes_balancer", f"{listed(others, 3)} {what}", remedy)
        return bool(declared)

    def _check_host_keys(self, values: Values, host: str = "") -> None:
        """The keys that may differ per host, against each other."""
        if isinstance(self.spec, Mapping) and "artifact" in values.given and values.right("artifact"):
            self._check_artifact(values["artifact"], host)
        health: Values = values["health"]
        if health.right("min_healthy_time", "healthy_deadline"):
            stable, deadline = health["min_healthy_time"], health["healthy_deadline"]
            if stable >= deadline:
                self._add(
                    "health.min_healthy_time",
                    f"{show_duration(stable)} of health do not fit before the healthy_deadline of "
                    f"{show_duration(deadline)}",
                    "raise healthy_deadline or lower min_healthy_time",
                    host=host,
                )
        if "http" not in health.given:
            for key in HTTP_KEYS:
                if key in health.given:
                    self._add(f"health.{key}", "is only for an HTTP check", "add health.http, its URL", host=host)

    def _check_artifact(self, artifact: Values, host: str) -> None:
        kinds = {
            "container": ("container", "image"),
            "packages": ("packages", "version"),
            "host_image": ("host_image",),
        }
        found = [name for name, keys in kinds.items() if artifact.given.intersection(keys)]
        if len(found) != 1:
            what = f"mixes {' and '.join(found)}" if found else "says nothing"
            remedy = "declare one of: container and image; packages and version; host_image"
            self._add("artifact", what, remedy, host=host)
            return
        for key in kinds[found[0]]:
            if key not in artifact.given:
                remedy = f"it goes with {listed(sorted(artifact.given))}: give it a value"
                self._add(f"artifact.{key}", "is missing", remedy, host=host)

    def _check_pairs(self, values: Values) -> None:
        """Keys that contradict each other. A key that is wrong by itself is left alone."""
        given = values.given - values.wrong
        method = values["method"]
        mixed = values.right("version_skew") and not values["version_skew"]
        if {"min_available", "max_unavailable"} <= given:
            remedy = "keep the one that you mean"
            self._add("min_available", "contradicts max_unavailable: both set the one budget", remedy)
        elif values["quorum"] and "min_available" in given and values["min_available"] != "quorum":
            remedy = 'keep one of them; "quorum: true" keeps a majority'
            self._add("min_available", "contradicts quorum: both say how many must stay", remedy)
        if mixed and values["canary"]:
            remedy = "drop canary, or permit both versions side by side with version_skew: true"
            self._add("canary", "runs beside the old version, which version_skew: false forbids", remedy)
        if mixed and method == "roll":
            remedy = 'write "hold", "side_by_side", "held_switch" or "auto", or version_skew: true'
            wrong = "lets two versions serve together, which version_skew: false forbids"
            self._add("method", wrong, remedy, value=method)
        if method in ("side_by_side", "held_switch") and "side_by_side" not in values.given:
            remedy = "declare side_by_side where the hosts have room for it, or choose another method"
            self._add("method", "needs room for a second copy", remedy, value=method)
        if method in ("hold", "side_by_side", "held_switch") and "balancer" not in values.given:
            remedy = "declare balancer.backends, or choose another method"
            self._add("method", "works on a balancer's backends, and none is declared", remedy, value=method)
        self._check_offline(values)
        if values["bake_time"] and values.right("canary") and not values["canary"]:
            self._add("bake_time", "is the wait after the canary, and there is none", "declare canary: 1, or drop it")
        database: Values = values["database"]
        if (
            database["contract"]
            and database.right("expand", "migrate")
            and not (database["expand"] or database["migrate"])
        ):
            remedy = "declare database.expand too, or drop contract"
            self._add("database.contract", "ends a change of schema that no expand or migrate begins", remedy)

    def _check_offline(self, values: Values) -> None:
        database, method = values["database"], values["method"]
        if database["offline"] and method in ("roll", "side_by_side"):
            remedy = 'write "hold", "held_switch" or "auto"'
            wrong = "never stops all instances at once, which database.offline needs"
            self._add("method", wrong, remedy, value=method)
        if database["offline_reversible"] and database.right("offline") and not database["offline"]:
            wrong = "says what comes after database.offline, and there is none"
            self._add("database.offline_reversible", wrong, "declare database.offline, or drop it")

    def _side_by_side(self, values: Values, hosts: Sequence[str]) -> SideBySide | None:
        """None also where something is wrong with it."""
        said: Values = values["side_by_side"]
        if "side_by_side" not in values.given or not values.right("side_by_side"):
            return None
        first, last = said["ports"]
        spare: tuple[str, ...] = ()
        if said["hosts"] is not None:
            spare = tuple(self.inventory.groups.get(said["hosts"], ()))
            if not spare:
                known = said["hosts"] in self.inventory.groups
                remedy = "add hosts to it" if known else nearest(said["hosts"], sorted(self.inventory.groups))
                wrong = "is an empty group" if known else "is no group of the inventory"
                self._add("side_by_side.hosts", wrong, remedy, value=said["hosts"])
        elif not said["environment"]:
            wrong = "tells no second copy its port, and on its instance's host it can't have the same"
            remedy = 'write "{port}" into the variable that says it, such as {WEB_PORT: "{port}"}, or name spare hosts'
            self._add("side_by_side.environment", wrong, remedy)
        if spare and len(spare) < len(hosts):
            wrong = f"has {len(spare)} for {len(hosts)} second copies, one each"
            self._add("side_by_side.hosts", wrong, f"add {len(hosts) - len(spare)} more to it", value=said["hosts"])
        if said["test"] and "http" not in values["health"].given:
            wrong = "is a path at the host of health.http, which is not declared"
            self._add("side_by_side.test", wrong, "declare health.http, or drop it", value=said["test"])
        return SideBySide(
            ports=(first, last),
            hosts=spare,
            **{
                name: said[name]
                for name in ("memory", "steps", "step_time", "max_errors", "switch_back_window", "test")
            },
        )

    def _check_arity(self, values: Values, size: int) -> None:
        if not values["arity"] or not size:
            return
        rule, base, step = values["arity"]
        if not fits(size, base, step):
            remedy = f"have {allowed_sizes(size, base, step)} instances, or correct the rule"
            self._add("arity", f"does not allow {instances(size)}", remedy, value=rule)

    def _check_canary(self, values: Values, size: int) -> None:
        if size and values["canary"] >= size:
            remedy = f"choose at most {size - 1}" if size > 1 else "drop it: a single instance has no canary"
            wrong = f"leaves none to go after the canary ({instances(size)} in all)"
            self._add("canary", wrong, remedy, value=values["canary"])

    def _budget(self, values: Values, size: int) -> Size:
        stay, out = values["min_available"], values["max_unavailable"]
        if (
            not size
            or (stay is not None and out is not None)
            or not values.right("min_available", "max_unavailable", "quorum")
        ):
            return Size(1, "max_unavailable: 1")
        key = "min_available" if stay is not None else "max_unavailable" if out is not None else "quorum"
        try:
            budget = self._sized(values, size)
            self._check_room(values, size, budget)
        except Impossible as impossible:
            self._add(key, impossible.wrong, impossible.remedy, value=out if stay is None else stay)
            return Size(1, "max_unavailable: 1")
        return budget

    def _sized(self, values: Values, size: int) -> Size:
        stay, out = values["min_available"], values["max_unavailable"]
        if stay is not None:
            return from_min_available(size, stay)
        if out is None:
            budget = Size(1, "max_unavailable: 1")
        else:
            budget = from_max_unavailable(size, out, second_copy="side_by_side" in values.given)
        return with_quorum(size, budget, asked=isinstance(out, int)) if values["quorum"] else budget

    def _check_room(self, values: Values, size: int, budget: Size) -> None:
        """A budget of nothing is possible only where nothing needs to be out; a lone instance is for `_methods`."""
        method = values["method"]
        if budget.max_unavailable or method in ("hold", "side_by_side", "held_switch"):
            return
        if method == "auto" and (size == 1 or "side_by_side" in values.given):
            return
        raise Impossible(
            f"lets nothing be out, so nothing could be replaced ({budget.text})",
            "let one be out, add an instance, or declare side_by_side (start new beside old) where there is room",
        )

    def _domains(self, values: Values, hosts: Sequence[str]) -> dict[str, str]:
        variable = values["failure_domain"]
        if not variable:
            return {}
        domains: dict[str, str] = {}
        for host in hosts:
            value = self.inventory.hostvars.get(host, {}).get(variable)
            if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "":
                domains[host] = str(value)
            else:
                wrong = "is no variable of the host" if value is None else f"is {kind(value)} there, not a name"
                self._add("failure_domain", wrong, "set it on every host of the service", value=variable, host=host)
        return domains

    def _instance(self, host: str, shared: Values, domain: str | None) -> Instance:
        own = self._own(host, shared)
        artifact, health = own["artifact"], own["health"]
        server = own["balancer"]["server"] or host
        host_class = self.inventory.hostvars.get(host, {}).get("upgrade_host_class")
        estimates = _estimates(own)
        return Instance(
            service=self.name,
            host=host,
            artifact=_artifact(artifact),
            domain=domain,
            host_class=str(host_class) if isinstance(host_class, str) else None,
            servers=tuple(Server(backend, server) for backend in own["balancer"]["backends"]),
            estimates={} if own is shared or estimates == _estimates(shared) else estimates,
            drain_timeout=_other(own["drain_timeout"], shared["drain_timeout"]),
            min_healthy_time=_other(health["min_healthy_time"], shared["health"]["min_healthy_time"]),
            healthy_deadline=_other(health["healthy_deadline"], shared["health"]["healthy_deadline"]),
        )

    def _own(self, host: str, shared: Values) -> Values:
        """What the host itself sees of the service; the controller's view where it sees the same or has no view."""
        variables = self.inventory.hostvars.get(host, {})
        if ROOT not in variables:
            return shared
        view = variables[ROOT]
        spec = view.get(self.name) if isinstance(view, Mapping) else None
        if not isinstance(spec, Mapping):
            remedy = f"declare {ROOT} in group_vars/all, so that every host has it"
            self.problems.add(self.path, "is not declared on the host itself", remedy, host=host)
            return shared
        if not isinstance(self.spec, Mapping) or spec == self.spec:
            return shared
        self._check_shared(host, spec)
        other = {name: key for name, key in PER_HOST.keys.items() if spec.get(name) != self.spec.get(name)}
        section = Section(other, tuple(name for name in PER_HOST.needs if name in other))
        read = read_section(
            section, {name: spec[name] for name in other if name in spec}, self.path, self.problems, host
        )
        same = frozenset(SERVICE.keys).difference(other)
        own = Values(
            self.path,
            {**shared.values, **read.values},
            shared.given & same | read.given,
            shared.wrong & same | read.wrong,
        )
        self._check_host_keys(own, host)
        return own

    def _check_shared(self, host: str, spec: Mapping[str, Any]) -> None:
        """What counts for the whole service must look the same from everywhere: a host's own value would do nothing."""
        if not isinstance(self.spec, Mapping):
            return
        for name in spec:
            if name not in SERVICE.keys:
                self._add_unknown(name, host)
        for name, key in SERVICE.keys.items():
            if isinstance(key, Key) and key.shared and spec.get(name) != self.spec.get(name):
                remedy = "it counts for the whole service: set it where every host and the controller see it"
                self._add(name, "differs from what the controller sees", remedy, value=spec.get(name), host=host)

    def _add_unknown(self, name: object, host: str) -> None:
        self.problems.add(path_of(self.path, name), "is not a key here", nearest(name, SERVICE.keys), host=host)


def _other(own: float, shared: float) -> float | None:
    return None if own == shared else own


def _estimates(values: Values) -> dict[str, float]:
    return {step: seconds for step, seconds in values["estimates"].values.items() if seconds is not None}


def _artifact(values: Values) -> Artifact:
    if values["packages"]:
        return Artifact("packages", " ".join(values["packages"]), values["version"] or "")
    if values["host_image"]:
        return Artifact("host_image", values["host_image"], values["host_image"])
    return Artifact("container", values["container"] or "", values["image"] or "")


def _check_dependencies(services: Mapping[str, Service], problems: Problems) -> None:
    graph: dict[str, list[str]] = {}
    for service in services.values():
        path = f"{ROOT}.{service.name}.depends_on"
        graph[service.name] = []
        for index, other in enumerate(service.depends_on):
            if other == service.name:
                problems.add(f"{path}[{index}]", "is the service itself", "remove it", value=other)
            elif other not in services:
                known = [name for name in services if name != service.name]
                problems.add(f"{path}[{index}]", "is no service of the declaration", nearest(other, known), value=other)
            else:
                graph[service.name].append(other)
    for circle in _circles(graph):
        problems.add(
            f"{ROOT}.{circle[0]}.depends_on",
            f"is a circle: {' -> '.join([*circle, circle[0]])}",
            "remove one of these dependencies",
        )


def _circles(graph: dict[str, list[str]]) -> Iterator[list[str]]:
    """Circles of dependencies, each from its first declared service on; broken up one by one until none is left."""
    places = {name: place for place, name in enumerate(graph)}
    graph = {name: list(others) for name, others in graph.items()}
    while True:
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            circle = list(reversed(error.args[1]))[:-1]
            first = circle.index(min(circle, key=places.__getitem__))
            circle = circle[first:] + circle[:first]
            yield circle
            graph[circle[-1]].remove(circle[0])
        else:
            return


def _check_claims(services: Mapping[str, Service], problems: Problems) -> None:
    """Nothing on a host, and no server of a backend, belongs to two instances."""
    things: dict[tuple[str, str, str], str] = {}
    servers: dict[Server, Instance] = {}
    for service in services.values():
        path = f"{ROOT}.{service.name}"
        for instance in service.instances:
            artifact = instance.artifact
            names = artifact.name.split(" ") if artifact.kind == "packages" else [artifact.name]
            for name in filter(None, names):
                one_thing = (instance.host, artifact.kind, "" if artifact.kind == "host_image" else name)
                owner = things.setdefault(one_thing, service.name)
                if owner != service.name:
                    wrong = f"is already declared by {owner} on the same host"
                    remedy = "let one service own it"
                    problems.add(f"{path}.artifact.{artifact.kind}", wrong, remedy, value=name, host=instance.host)
            for server in instance.servers:
                holder = servers.setdefault(server, instance)
                if holder is not instance:
                    wrong = f"is already the server of {holder.name} in backend {server.backend}"
                    remedy = "give each instance a server of its own"
                    problems.add(f"{path}.balancer.server", wrong, remedy, value=server.name, host=instance.host)


def _balancers_group(fleet: Mapping[str, Any]) -> str:
    group = fleet.get("upgrade_balancers")
    return group if isinstance(group, str) and group else BALANCERS


def _with_fleet(
    services: Mapping[str, Service], fleet: Mapping[str, Any], inventory: Inventory, problems: Problems
) -> Cluster:
    read: dict[str, Any] = {}
    for name in fleet:
        # The caller may hand over variables of its own: only what looks like a slip of the pen is a mistake.
        if name not in FLEET and (meant := difflib.get_close_matches(str(name), FLEET, n=1, cutoff=0.85)):
            problems.add(
                path_of("", name).lstrip("."), "is not a variable of the collection", f"did you mean {meant[0]!r}?"
            )
    for name, key in FLEET.items():
        value = fleet.get(name)
        read[name] = key.default
        if value is None or value == "":
            continue
        try:
            read[name] = key.read(value)
        except Wrong as mistake:
            problems.add(name, mistake.wrong, mistake.remedy, value=value)
    everywhere = sum(len(service.instances) for service in services.values())
    failures = allowed(everywhere, read["upgrade_max_failures"])
    ceilings = Ceilings(read["upgrade_max_hosts_out"], read["upgrade_stage_bandwidth"], failures)
    balancers = _balancers(services, read["upgrade_balancers"], inventory, problems)
    return Cluster(services, balancers, ceilings, read["upgrade_vip"])


def _balancers(
    services: Mapping[str, Service], declared: str | None, inventory: Inventory, problems: Problems
) -> tuple[str, ...]:
    group = declared or BALANCERS
    hosts = tuple(inventory.groups.get(group, ()))
    behind = [name for name, service in services.items() if service.backends]
    if not hosts and (declared or behind):
        what = "is an empty group" if group in inventory.groups else "is no group of the inventory"
        default = "" if declared else " (the default)"
        wrong = f"{what}{default}" + (f", but needed for {listed(behind)}" if behind else "")
        remedy = "name the group of the hosts that run HAProxy"
        if group not in inventory.groups:
            remedy += f"; {nearest(group, sorted(inventory.groups))}"
        problems.add("upgrade_balancers", wrong, remedy, value=group)
    return hosts


def unmatched(cluster: Cluster, tables: Mapping[str, Mapping[str, Sequence[str]]]) -> list[Problem]:
    """What the declaration and the balancers' own tables do not agree on.

    `tables` holds per balancer and backend the names of the servers, as observed. A backend must be on every balancer,
    each instance in each of its backends on every one of them, and each server there must be an instance: a server
    that nobody knows would go on serving the old version.
    """
    problems = Problems()
    wanted: dict[str, dict[str, str]] = {}
    for instance in cluster.instances.values():
        for server in instance.servers:
            wanted.setdefault(server.backend, {})[server.name] = instance.name
    owners = {backend: cluster_name for cluster_name, s in cluster.services.items() for backend in s.backends}
    for balancer, backends in tables.items():
        for backend, servers in wanted.items():
            path = f"{ROOT}.{owners[backend]}.balancer"
            if backend not in backends:
                wrong, remedy = "is no backend of this balancer", nearest(backend, sorted(backends))
                problems.add(f"{path}.backends", wrong, remedy, value=backend, host=balancer)
                continue
            there = dict.fromkeys(backends[backend])
            for name, instance_name in servers.items():
                if name not in there:
                    wrong = f"is no server of backend {backend}: {instance_name} is not behind this balancer"
                    spare = sorted(each for each in there if each not in servers)
                    remedy = nearest(name, spare) if spare else "add it there, or correct balancer.server"
                    problems.add(f"{path}.server", wrong, remedy, value=name, host=balancer)
            for name in there:
                if name not in servers and name.removesuffix(BESIDE) not in servers:
                    wrong = f"is a server of backend {backend} that no instance matches"
                    remedy = "add its host to the group, correct balancer.server, or remove it from the balancer"
                    problems.add(f"{path}.server", wrong, remedy, value=name, host=balancer)
    return list(problems.listed())
