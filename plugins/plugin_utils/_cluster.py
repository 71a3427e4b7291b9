# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what Ansible knows (declaration, inventory, the facts of role `observe`) to the brain's Cluster and State.

Facts of a host, all optional; one that is missing was not observed: `observe_containers` (rows of container_info by
container), `observe_packages` (installed version by package, "" for none), `observe_host_image` (its name),
`observe_haproxy` (result of haproxy_info) and `observe_addresses` (its own) on balancers, `observe_room` (result of
room_info) where second copies may run, `observe_schema` (by service, `rc` of its check: 0 done, 2 expand, 4
contract).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ansible.errors import AnsibleUndefinedVariable

from ._core_compat import plain
from ._observed import second_copies, spare, traffic
from ._orchestration._declaration import DeclarationError, Inventory, parse, unmatched
from ._orchestration._keys import FLEET
from ._orchestration._methods import needs_traffic
from ._orchestration._model import BESIDE, Artifact, Cluster, Instance, InstanceState, JobKind, State
from ._orchestration._spec import Problem
from ._page import count, duration, some
from ._revert import VARIABLE, Back, facts_of, turned

ROOT = "upgrade_services"
FACTS = (
    "observe_containers",
    "observe_packages",
    "observe_host_image",
    "observe_haproxy",
    "observe_addresses",
    "observe_room",
    "observe_schema",
)
# A server that went down as often as this, and last changed so recently (seconds), is worth a note.
UNSTEADY = 3
RECENTLY = 600
# Requests a second are counted for as long.
MEASURED = 3.0

Facts = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Source:
    """What Ansible knows, as plain values. `facts`: by host, those of `FACTS` that it has.

    `undefined`: templates of the declaration that could not be resolved on the host that they are for. `back`: the way
    back, where an upgrade is to be taken back.
    """

    declaration: Mapping[str, Any]
    fleet: Mapping[str, Any]
    inventory: Inventory
    facts: Facts
    undefined: tuple[Problem, ...] = ()
    back: Back | None = None

    def cluster(self) -> Cluster:
        """The cluster as it should become. Raises DeclarationError with everything that is wrong in its declaration."""
        return self.declared() if self.back is None else turned(self.declared(), self.back)

    def declared(self) -> Cluster:
        """The declared cluster, whichever way it goes. Raises DeclarationError."""
        try:
            cluster = parse(self.declaration, self.inventory, fleet=self.fleet)
        except DeclarationError as error:
            raise DeclarationError((*self.undefined, *error.problems)) from error
        if self.undefined:
            raise DeclarationError(self.undefined)
        return cluster


class Templar(Protocol):
    """What is used of Ansible's Templar."""

    def template(self, variable: Any) -> Any: ...

    def copy_with_new_env(self, *, available_variables: dict[str, Any]) -> Templar: ...


def source(variables: Mapping[str, Any], templar: Templar) -> Source:
    """Collect it from a task's variables (with `hostvars` and `groups`); `templar` resolves the controller's own.

    Raises DeclarationError where `upgrade_services` is not there at all.
    """
    found = _declared(variables, templar)
    if VARIABLE not in variables:
        return found
    back = Back(**plain(templar.template(variables[VARIABLE])))
    return replace(found, facts=facts_of(found.facts, found.declared(), back), back=back)


def _declared(variables: Mapping[str, Any], templar: Templar) -> Source:
    groups = {str(name): tuple(str(host) for host in hosts) for name, hosts in variables["groups"].items()}
    fleet = {
        str(name): None for name in variables if str(name).startswith("upgrade_") and name not in (ROOT, "upgrade_plan")
    }
    fleet |= {name: plain(templar.template(variables[name])) for name in FLEET if name in variables}
    if ROOT not in variables:
        remedy = "declare the cluster in group_vars/all, so that every host and localhost see it; docs/declaration.md"
        raise DeclarationError((Problem(ROOT, "", "is not defined", remedy),))
    raw = variables[ROOT]
    raw = raw if isinstance(raw, Mapping) else templar.template(raw)
    if not isinstance(raw, Mapping):
        return Source(plain(raw), fleet, Inventory(groups), {})
    views = _Views(variables["hostvars"], templar)
    declaration = {str(name): _controllers(raw[name], templar.template) for name in raw}
    services_of: dict[str, list[str]] = {}
    for name, spec in declaration.items():
        for host in _hosts(name, spec, groups):
            services_of.setdefault(host, []).append(name)
    domains = {str(spec["failure_domain"]) for spec in declaration.values() if _has(spec, "failure_domain")}
    hostvars = {host: views.host(host, names, declaration, domains) for host, names in services_of.items()}
    _fill(declaration, hostvars, groups)
    spares = (host for spec in declaration.values() for host in groups.get(_spare_group(spec), ()))
    balancers = groups.get(str(fleet.get("upgrade_balancers") or "balancers"), ())
    observed = dict.fromkeys([*services_of, *balancers, *spares])
    facts = {host: views.facts(host) for host in observed}
    return Source(declaration, fleet, Inventory(groups, hostvars), facts, tuple(views.undefined))


_UNDEFINED = object()


def _controllers(spec: Any, template: Callable[[Any], Any]) -> Any:
    """A service as the controller sees it. What only a host can resolve (its own address, say) is left for `_fill`."""
    if not isinstance(spec, Mapping):
        return plain(template(spec))
    resolved: dict[str, Any] = {}
    for key in spec:
        try:
            resolved[str(key)] = plain(template(spec[key]))
        except AnsibleUndefinedVariable:
            resolved[str(key)] = _UNDEFINED
    return resolved


def _fill(declaration: Mapping[str, Any], hostvars: Mapping[str, Any], groups: Mapping[str, tuple[str, ...]]) -> None:
    """Take what the controller can't resolve from the service's first host."""
    for name, spec in declaration.items():
        missing = [key for key, value in spec.items() if value is _UNDEFINED] if isinstance(spec, dict) else []
        hosts = _hosts(name, spec, groups) if missing else ()
        view = hostvars[hosts[0]].get(ROOT, {}).get(name) if hosts else None
        for key in missing:
            if isinstance(view, Mapping) and key in view and view[key] is not _UNDEFINED:
                spec[key] = view[key]
            else:
                del spec[key]


def _has(spec: Any, key: str) -> bool:
    return isinstance(spec, Mapping) and isinstance(spec.get(key), str)


def _spare_group(spec: Any) -> str:
    copies = spec.get("side_by_side") if isinstance(spec, Mapping) else None
    return str(copies["hosts"]) if isinstance(copies, Mapping) and _has(copies, "hosts") else ""


def _hosts(name: str, spec: Any, groups: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return groups.get(spec["hosts"] if _has(spec, "hosts") else name, ())


class _Views:
    """Hosts' own variables: only those that are needed, each host's looked up once, since that is what takes time.

    `hostvars[host][name]` would resolve all of `upgrade_services`, and so fail on a host that lacks a variable which
    only another service's hosts need. So the raw variables are taken, and each service is resolved by itself.
    """

    def __init__(self, hostvars: Any, templar: Templar) -> None:
        self._hostvars = hostvars
        self._templar = templar
        self._of: dict[str, tuple[Mapping[str, Any], Templar]] = {}
        self.undefined: list[Problem] = []

    def _view(self, host: str) -> tuple[Mapping[str, Any], Templar]:
        if host not in self._of:
            raw = {**self._hostvars.raw_get(host), "hostvars": self._hostvars}
            self._of[host] = raw, self._templar.copy_with_new_env(available_variables=raw)
        return self._of[host]

    def _values(self, host: str, names: Iterable[str]) -> dict[str, Any]:
        raw, templar = self._view(host)
        return {name: plain(templar.template(raw[name])) for name in names if name in raw}

    def facts(self, host: str) -> dict[str, Any]:
        return self._values(host, FACTS)

    def host(
        self, host: str, services: Iterable[str], declaration: Mapping[str, Any], domains: Iterable[str]
    ) -> dict[str, Any]:
        found = self._values(host, (*sorted(domains), "upgrade_host_class"))
        raw, templar = self._view(host)
        if ROOT in raw:
            own = raw[ROOT] if isinstance(raw[ROOT], Mapping) else templar.template(raw[ROOT])
            found[ROOT] = {
                name: self._service(host, name, own[name], declaration[name]) for name in services if name in own
            }
        return found

    def _service(self, host: str, name: str, spec: Any, declared: Any) -> Any:
        try:
            return plain(self._view(host)[1].template(spec))
        except AnsibleUndefinedVariable as error:
            remedy = "define it for that host, or correct the template"
            self.undefined.append(Problem(f"{ROOT}.{name}", "", str(error.message).rstrip("."), remedy, (host,)))
            return declared


def tables(facts: Facts, balancers: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """Names of the servers, by balancer and backend, of those balancers that answered."""
    return {
        balancer: {
            name: list(backend["servers"]) for name, backend in facts[balancer]["observe_haproxy"]["backends"].items()
        }
        for balancer in balancers
        if "backends" in facts.get(balancer, {}).get("observe_haproxy", {})
    }


def state(
    cluster: Cluster,
    facts: Facts,
    tested: frozenset[tuple[str, str, str]] = frozenset(),
    unfinished: Iterable[Mapping[str, Any]] = (),
    one_way: Collection[str] = (),
) -> State:
    """What runs, as the facts tell; `tested`, `unfinished` and `one_way` are the journal's.

    Raises DeclarationError where declaration and balancers' tables do not agree.
    """
    if problems := unmatched(cluster, tables(facts, cluster.balancers)):
        raise DeclarationError(tuple(problems))
    declared = cluster.instances
    seen = {name: _instance(instance, facts, cluster.balancers) for name, instance in declared.items()}
    broken = [
        f"{name} runs its target but does not serve ({found.reason}): its job brings it back"
        for name, found in seen.items()
        if found.current and found.reason
    ]
    # What runs its target but does not serve still has work to do: a job that finds the artifact in place and goes on
    # with the health check and the return. A run that was cut off in between leaves exactly that behind.
    sizes = _sizes(cluster, facts)
    instances = {
        name: replace(found, current=found.current and not found.reason, size=sizes.get(declared[name].artifact.target))
        for name, found in seen.items()
    }
    checks = _schema_checks(cluster, facts)
    left = [job for job in unfinished if job["service"] in cluster.services]
    in_flight = {job["instance"] for job in left if job["instance"] in instances}
    in_flight |= {job["service"] for job in left if job["kind"] == "switch"}
    return State(
        instances=instances,
        schema={name: _schema(cluster, name, code) for name, code in checks.items() if code in _STEPS},
        active={name: host for name in cluster.services if (host := _active(cluster, name, facts))},
        vip_holder=_vip_holder(cluster, facts),
        tested=tested,
        traffic=traffic(cluster, facts),
        in_flight=frozenset(in_flight),
        # It begins after the last instance of the old version was stopped, and not before.
        offline_begun=frozenset(
            name
            for name in one_way
            if name in cluster.services
            and not any(instances[one.name].healthy for one in cluster.services[name].instances)
        ),
        spare=spare(facts),
        beside=second_copies(cluster, facts),
        obstacles=tuple(_obstacles(cluster, facts, checks)),
        notes=(*_unfinished(left, instances), *broken, *_notes(cluster, facts)),
    )


def _unfinished(jobs: Iterable[Mapping[str, Any]], seen: Mapping[str, InstanceState]) -> Iterator[str]:
    """What is to be said of jobs that a run began and never ended."""
    for job in jobs:
        found = seen.get(job["instance"] or "")
        if job["kind"] == "switch":
            then = "it goes first, and begins by looking at what is there"
        elif job["kind"] == "settle":
            then = "what is left of the second copies is taken away"
        elif found is None:
            then = "what is left of it goes first" if job["kind"] == "expand" else "its schema says what is left of it"
        else:
            then = "it runs its target and serves, so nothing is left of it" if found.current else "it goes first"
        yield f"{job['id']} was in flight when run {job['run']} was cut off: {then}"


def assumed(cluster: Cluster, facts: Facts) -> State:
    """What runs where every host was observed; else nothing is known: all instances serve and none is upgraded yet."""
    seen = all(_observed(instance, facts) for instance in cluster.instances.values())
    return state(cluster, facts) if seen else State()


def differences(cluster: Cluster, facts: Facts) -> list[str]:
    """Everything in which the cluster is not as declared, as sentences; empty: it is all there."""
    found: list[str] = []
    for problem in unmatched(cluster, tables(facts, cluster.balancers)):
        found.append(str(problem))
    checks = _schema_checks(cluster, facts)
    found += _obstacles(cluster, facts, checks)
    for name, instance in cluster.instances.items():
        if not _observed(instance, facts):
            continue
        seen = _instance(instance, facts, cluster.balancers)
        if not seen.current:
            found.append(f"{name} runs {seen.running or 'nothing'}, not {instance.artifact.target}")
        if seen.reason:
            found.append(f"{name} does not serve: {seen.reason}")
    for name, copies in second_copies(cluster, facts).items():
        found.append(f"{name}: second copies are left: {some(list(copies), 4)}")
    for name, code in checks.items():
        if steps := _schema(cluster, name, code):
            found.append(f"{name}: its database schema is not at its head, still to do: {', '.join(steps)}")
    return found


def runs(instance: Instance, facts: Facts) -> InstanceState:
    """What the instance runs, whatever the balancers say of it."""
    return _instance(instance, facts, ())


def schemas(cluster: Cluster, facts: Facts) -> Iterator[tuple[str, int, tuple[JobKind, ...] | None]]:
    """Each service whose schema was asked: what the check ended with, what is still to do (None: it did not say)."""
    for name, code in _schema_checks(cluster, facts).items():
        yield name, code, _schema(cluster, name, code) if code in _STEPS else None


def _observed(instance: Instance, facts: Facts) -> bool:
    fact = {"container": "observe_containers", "packages": "observe_packages", "host_image": "observe_host_image"}
    return fact[instance.artifact.kind] in facts.get(instance.host, {})


def _instance(instance: Instance, facts: Facts, balancers: Iterable[str]) -> InstanceState:
    if not _observed(instance, facts):
        return InstanceState(healthy=False, reason="it could not be observed")
    kinds = {"container": _container, "packages": _packages, "host_image": _host_image}
    seen = kinds[instance.artifact.kind](instance.artifact, facts[instance.host])
    in_place = seen.current and not seen.reason
    reasons = [seen.reason] if seen.reason else []
    reasons += _out_of_rotation(instance, facts, balancers)
    return replace(seen, healthy=not reasons, reason="; ".join(reasons), in_place=in_place)


def _container(artifact: Artifact, facts: Mapping[str, Any]) -> InstanceState:
    row = facts["observe_containers"].get(artifact.name, {})
    staged = bool(row.get("target_present"))
    if not row.get("exists"):
        return InstanceState(reason=f"container {artifact.name} is missing", staged=staged)
    running = str(row.get("image") or "")
    if running == artifact.target and not row["current"]:
        running = f"{running} ({str(row.get('digest') or row.get('image_id') or 'of other content')[:19]})"
    reason = "" if row.get("running") else f"container {artifact.name} is stopped"
    return InstanceState(running=running, current=bool(row["current"]), reason=reason, staged=staged)


def _packages(artifact: Artifact, facts: Mapping[str, Any]) -> InstanceState:
    versions = {name: str(facts["observe_packages"].get(name, "")) for name in artifact.name.split()}
    missing = [name for name, version in versions.items() if not version]
    return InstanceState(
        running=", ".join(sorted({version for version in versions.values() if version})),
        current=all(version == artifact.target for version in versions.values()),
        reason=f"not installed: {', '.join(missing)}" if missing else "",
    )


def _host_image(artifact: Artifact, facts: Mapping[str, Any]) -> InstanceState:
    running = str(facts["observe_host_image"])
    return InstanceState(running=running, current=running == artifact.target)


def _rows(instance: Instance, facts: Facts, balancers: Iterable[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of the instance in the balancers' tables, each after where it stands."""
    for balancer in balancers:
        backends = facts.get(balancer, {}).get("observe_haproxy", {}).get("backends", {})
        for server in instance.servers:
            row = backends.get(server.backend, {}).get("servers", {}).get(server.name)
            if row is not None:
                yield f"{server.backend}/{server.name} on {balancer}", row


def _out_of_rotation(instance: Instance, facts: Facts, balancers: Iterable[str]) -> list[str]:
    return [f"{row['status']} in {where}" for where, row in _rows(instance, facts, balancers) if not row["usable"]]


def _active(cluster: Cluster, name: str, facts: Facts) -> str | None:
    """The host that serves of an active/passive service: the first usable one that is no backup, else a backup."""
    if not cluster.services[name].active_passive:
        return None
    ranks: list[tuple[bool, str]] = []
    for instance in cluster.services[name].instances:
        rows = [row for _unused, row in _rows(instance, facts, cluster.balancers)]
        if rows and all(row["usable"] for row in rows):
            ranks.append((any(row["backup"] for row in rows), instance.host))
    return min(ranks, key=lambda rank: rank[0])[1] if ranks else None


def _sizes(cluster: Cluster, facts: Facts) -> dict[str, int]:
    """Bytes of each image that any host has already: what the others have to fetch, unless they have parts of it."""
    found: dict[str, int] = {}
    for instance in cluster.instances.values():
        row = facts.get(instance.host, {}).get("observe_containers", {}).get(instance.artifact.name, {})
        if instance.artifact.kind == "container" and row.get("target_size"):
            found[instance.artifact.target] = max(found.get(instance.artifact.target, 0), int(row["target_size"]))
    return found


def _vip_holder(cluster: Cluster, facts: Facts) -> str | None:
    """The balancer that has the shared address; None where none was seen with it."""
    holders = (name for name in cluster.balancers if cluster.vip in facts.get(name, {}).get("observe_addresses", ()))
    return next(holders, None)


_STEPS: Mapping[int, tuple[JobKind, ...]] = {0: (), 2: ("expand", "migrate", "contract"), 4: ("contract",)}


def _schema_checks(cluster: Cluster, facts: Facts) -> dict[str, int]:
    """Exit codes of the services' schema checks, from whichever host made them."""
    return {
        name: int(row["rc"])
        for host in facts
        for name, row in facts[host].get("observe_schema", {}).items()
        if name in cluster.services
    }


def _schema(cluster: Cluster, name: str, code: int) -> tuple[JobKind, ...]:
    """Schema jobs that are still to do, of those that the service declares."""
    database = cluster.services[name].database
    declared = {"expand": database.expand, "migrate": database.migrate, "contract": database.contract}
    return tuple(step for step in _STEPS.get(code, ()) if declared[step])


def _obstacles(cluster: Cluster, facts: Facts, checks: Mapping[str, int]) -> Iterator[str]:
    unseen: dict[str, list[str]] = {}
    for instance in cluster.instances.values():
        if not _observed(instance, facts):
            unseen.setdefault(instance.host, []).append(instance.service)
    for host, services in unseen.items():
        yield f"{host} could not be observed ({some(services, 4)}): make it reachable, or take it out of the inventory"
    for balancer in cluster.balancers:
        found = facts.get(balancer, {}).get("observe_haproxy", {})
        if "backends" not in found:
            why = f" ({found['msg']})" if found.get("msg") else ""
            yield f"{balancer}: HAProxy's socket does not answer{why}: no drain without knowing its table"
        elif found.get("config_changed_since_start") and not _by_second_copies(found):
            what = some([str(line) for line in found.get("config_differences") or ["newer than the worker"]], 2)
            yield (
                f"{balancer}: HAProxy's configuration on disk is not what runs ({what}): a reload in the middle would"
                " undo a drain; reload it now, or put the file back"
            )
    for name, code in checks.items():
        if code not in _STEPS:
            yield f"{name}: its schema check ended with {code}; run upgrade_services.{name}.database.check by hand"


def _by_second_copies(found: Mapping[str, Any]) -> bool:
    """Is all that the configuration differs in what second copies have added to it while HAProxy ran?"""
    names = [name for backend in found["backends"].values() for name in backend["servers"] if name.endswith(BESIDE)]
    lines = [str(line) for line in found.get("config_differences", ())]
    return any(f"{BESIDE}: " in line for line in lines + [f"{name}: " for name in names]) and all(
        f"{BESIDE}: " in line or line.endswith("is newer than the running worker") for line in lines
    )


def _notes(cluster: Cluster, facts: Facts) -> Iterator[str]:
    for balancer in cluster.balancers:
        if old := facts.get(balancer, {}).get("observe_haproxy", {}).get("old_workers"):
            yield f"{balancer}: {count(len(old), 'old worker')} of HAProxy with sessions; a drain waits for them too"
    for name, instance in cluster.instances.items():
        for where, row in _rows(instance, facts, cluster.balancers):
            falls, since = int(row.get("chkdown") or 0), int(row.get("lastchg") or 0)
            if row["usable"] and falls >= UNSTEADY and since < RECENTLY:
                yield f"{name} is unsteady: down {falls} times in {where}, and up only since {duration(since)}"


def artifacts(cluster: Cluster, facts: Facts) -> list[dict[str, Any]]:
    """What runs now, by service: each version with its digest (its id where it came from no registry) and how many."""
    found: dict[tuple[str, str, str], int] = {}
    for instance in cluster.instances.values():
        row = facts.get(instance.host, {}).get("observe_containers", {}).get(instance.artifact.name, {})
        running = runs(instance, facts).running
        digest = str(row.get("digest") or row.get("image_id") or "")
        if running:
            found[instance.service, running, digest] = found.get((instance.service, running, digest), 0) + 1
    return [
        {"service": service, "artifact": running, "digest": digest, "instances": number}
        for (service, running, digest), number in found.items()
    ]


def managed(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """What role `observe` looks at, by host: `containers` (target image by container), `packages`, `host_image`, and
    `ports`: the ranges in which second copies may listen."""
    hosts: dict[str, dict[str, Any]] = {}
    for service in cluster.services.values():
        if service.side_by_side is None:
            continue
        for number, instance in enumerate(service.instances):
            row = _managed_row(hosts, service.beside_host(number))
            row["containers"][instance.artifact.name + BESIDE] = instance.artifact.target
            if list(service.side_by_side.ports) not in row["ports"]:
                row["ports"].append(list(service.side_by_side.ports))
    for instance in cluster.instances.values():
        row = _managed_row(hosts, instance.host)
        if instance.artifact.kind == "container":
            row["containers"][instance.artifact.name] = instance.artifact.target
        elif instance.artifact.kind == "packages":
            row["packages"] += instance.artifact.name.split()
        else:
            row["host_image"] = instance.artifact.target
    return hosts


def _managed_row(hosts: dict[str, dict[str, Any]], host: str) -> dict[str, Any]:
    return hosts.setdefault(host, {"containers": {}, "packages": [], "host_image": "", "ports": []})


def measure(cluster: Cluster) -> float:
    """For how many seconds balancers count requests: not at all where every service can be rolled."""
    return MEASURED if any(needs_traffic(service) for service in cluster.services.values()) else 0.0
