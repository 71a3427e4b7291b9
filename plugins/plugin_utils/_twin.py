# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The twin as data: from a declaration and an inventory to containers, HAProxy's configuration, and an inventory of the
twin's own with a declaration that is carried out as any other.

A host becomes a container (a node) with Python, the Docker SDK and, on balancers, HAProxy. An instance becomes a
container that shares its node's network. Most run a stand-in: a small HTTP server on the declared port. A service whose
own image can be had, and serves by itself, runs that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from ._cluster import ROOT, Source
from ._orchestration._model import Cluster, Instance, Service
from ._orchestration._quantities import parse_duration
from ._orchestration._sizes import sizes_of
from ._orchestration._twin import groups_of, kept_hosts, resized, smaller
from ._page import count, some

SCHEMA: Final = 1
# Ports that nobody declares: of stand-ins whose service says none, and of the balancers' frontends.
STAND_INS: Final = 20000
FRONTENDS: Final = 30000
# A machine of a CI system answers late; the twin's instances are not given up on for that.
PATIENCE: Final = 300.0
# Keys that mean in the twin what they mean in production.
KEPT: Final[tuple[str, ...]] = (
    "hosts", "depends_on", "min_available", "max_unavailable", "quorum", "failure_domain", "canary", "version_skew",
    "active_passive", "arity", "takes_balancer", "max_failures", "drain_timeout", "estimates",
)  # fmt: skip
# Of the whole run, these. Whatever else there is, a suite of the user's own tests say, is for production.
FLEET: Final = (
    "upgrade_balancers", "upgrade_stage_bandwidth", "upgrade_max_failures", "upgrade_max_failed_requests",
    "upgrade_on_failure",
)  # fmt: skip
STEPS: Final[tuple[str, ...]] = ("expand", "migrate", "contract")


@dataclass(frozen=True, slots=True)
class Options:
    """What is wanted of the twin.

    `folder`: where its plan, journal and report go. `size`: instances kept of each service. `healthy_time`: seconds,
    the most that an instance has to stay healthy. `methods`: the real plan's, by service; None where none fits.
    `running`: what instances run, where a saved plan says it. `needs`: what services need so that their own images
    serve: the image `before`, `environment`, `volumes`; `own`: those of which that is proven, each with the same keys
    and the image `after`; `stood_in`: why others have a stand-in. `docker_host`: the engine, where it is not the
    environment's.
    """

    name: str
    folder: str
    size: int = 3
    healthy_time: float = 2.0
    rate: float = 20.0
    docker_host: str = ""
    methods: Mapping[str, str | None] = field(default_factory=dict)
    running: Mapping[str, str] | None = None
    needs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    stood_in: Mapping[str, str] = field(default_factory=dict)


class TwinError(ValueError):
    """A twin that can't be made; str() says why and what would be right."""


def twin(source: Source, cluster: Cluster, options: Options) -> dict[str, Any]:
    """The content of twin.json; keys: docs/rehearsal.md. Raises TwinError."""
    return _Maker(source, cluster, options).made()


class _Maker:
    def __init__(self, source: Source, cluster: Cluster, options: Options) -> None:
        self.source, self.cluster, self.options = source, cluster, options
        self.declaration = source.declaration
        try:
            self.hosts = kept_hosts(groups_of(cluster, options.size, self._rules(), self._other_groups()))
        except ValueError as error:
            raise TwinError(str(error)) from error
        # The controller goes by that name in every playbook.
        self.names = {host: "localhost-twin" if host == "localhost" else host for host in self.hosts}
        self.ports: dict[str, int] = {}
        self.taken: dict[str, set[int]] = {host: set() for host in self.hosts}
        for instance in self._instances():
            self.ports[instance.name] = self._port(instance)
        self.frontends = {
            backend: FRONTENDS + number
            for number, backend in enumerate(dict.fromkeys(s.backend for i in self._instances() for s in i.servers))
        }

    def made(self) -> dict[str, Any]:
        options = self.options
        return {
            "schema": SCHEMA,
            "name": options.name,
            "images": {"before": f"{options.name}:before", "after": f"{options.name}:after"},
            "nodes": [self._node(host) for host in self.hosts],
            "containers": [self._container_row(instance) for instance in self._instances()],
            "backends": [self._backend(backend) for backend in self.frontends],
            "haproxy": "\n".join(_haproxy(map(self._backend, self.frontends))) + "\n",
            "inventory": self._inventory(),
            "probe": self._probe(),
            "sizes": self._sizes(),
            "candidates": list(self._candidates()),
            "own_images": sorted(options.own),
            "missing": list(self._missing()),
        }

    # -- which ---------------------------------------------------------------------------------------------------------

    def _rules(self) -> dict[str, tuple[int, int]]:
        rules = {name: sizes_of(str(spec["arity"])) for name, spec in self.declaration.items() if "arity" in spec}
        return {name: rule for name, rule in rules.items() if rule}

    def _other_groups(self) -> list[Sequence[str]]:
        groups = self.source.inventory.groups
        named = [spec.get("side_by_side", {}).get("hosts") for spec in self.declaration.values()]
        return [groups[name] for name in named if name in groups]

    def _instances(self, service: str | None = None) -> Iterator[Instance]:
        here = set(self.hosts)
        for each in self.cluster.services.values():
            if service in (None, each.name):
                yield from (instance for instance in each.instances if instance.host in here)

    def _size(self, service: str) -> int:
        return sum(1 for _unused in self._instances(service))

    def _balancers(self) -> list[str]:
        return [host for host in self.cluster.balancers if host in self.hosts]

    # -- containers ----------------------------------------------------------------------------------------------------

    def _node_name(self, host: str) -> str:
        return f"{self.options.name}-{re.sub(r'[^A-Za-z0-9_.-]', '-', self.names[host])}"

    def _node(self, host: str) -> dict[str, Any]:
        balancer = host in self.cluster.balancers
        ports = sorted(self.frontends.values()) if balancer else []
        return {"host": self.names[host], "container": self._node_name(host), "balancer": balancer, "ports": ports}

    def _container_name(self, instance: Instance) -> str:
        return f"{self._node_name(instance.host)}-{instance.service}"

    def _container_row(self, instance: Instance) -> dict[str, Any]:
        own = self.options.own.get(instance.service, {})
        return {
            "name": self._container_name(instance),
            "node": self._node_name(instance.host),
            "service": instance.service,
            "host": self.names[instance.host],
            "image": self._image(instance, "after" if self._current(instance) else "before"),
            "environment": {
                "STAND_IN_SERVICE": instance.service,
                "STAND_IN_HOST": self.names[instance.host],
                "STAND_IN_PORT": str(self.ports[instance.name]),
                "STAND_IN_PATH": self._url(instance).path or "/",
                "STAND_IN_STATUS": str(self._status(instance)[0]),
                **{str(key): str(value) for key, value in (own.get("environment") or {}).items()},
            },
            "volumes": list(own.get("volumes") or []),
        }

    def _candidates(self) -> Iterator[dict[str, Any]]:
        """Services whose own images may serve: to be tried."""
        for service in self.cluster.services.values():
            first = next(self._instances(service.name), None)
            if first is None:
                continue
            health = self._health(first)
            if first.artifact.kind != "container" or not health.get("http"):
                continue
            needs = self.options.needs.get(service.name) or {}
            path = urlsplit(str(health["http"]))
            yield {
                "service": service.name,
                "after": first.artifact.target,
                "before": str(needs.get("before") or (self.options.running or {}).get(first.name, "")),
                "environment": {str(key): str(value) for key, value in (needs.get("environment") or {}).items()},
                "volumes": [str(volume) for volume in needs.get("volumes") or []],
                "url": f"http://127.0.0.1:{_declared_port(health)}{path.path or '/'}",
                "status": self._status(first),
            }

    def _current(self, instance: Instance) -> bool:
        """Whether a saved plan says that it runs its target already."""
        running = self.options.running
        return running is not None and instance.name not in running

    def _image(self, instance: Instance, which: str) -> str:
        own = self.options.own.get(instance.service, {})
        return str(own.get(which) or f"{self.options.name}:{which}")

    def _port(self, instance: Instance) -> int:
        taken = self.taken[instance.host]
        port = _declared_port(self._health(instance))
        if port is None or (instance.service not in self.options.own and (port in taken or port >= STAND_INS)):
            port = next(free for free in range(STAND_INS, FRONTENDS) if free not in taken)
        taken.add(port)
        return port

    # -- balancers -----------------------------------------------------------------------------------------------------

    def _backend(self, backend: str) -> dict[str, Any]:
        members = [
            (instance, server.name)
            for instance in self._instances()
            for server in instance.servers
            if server.backend == backend
        ]
        first = members[0][0]
        service = self.cluster.services[first.service]
        return {
            "name": backend,
            "service": service.name,
            "port": self.frontends[backend],
            "path": self._url(first).path or "/",
            "status": self._status(first),
            "servers": [
                {
                    "name": name,
                    "node": self._node_name(instance.host),
                    "port": self.ports[instance.name],
                    "backup": service.active_passive and number > 0,
                }
                for number, (instance, name) in enumerate(members)
            ],
        }

    def _probe(self) -> dict[str, Any]:
        """What the probe asks: every backend that must go on serving, in turn. URLs are set where the engine has
        published the ports."""
        requests = [
            {"name": row["name"], "port": row["port"], "path": row["path"], "status": row["status"]}
            for row in map(self._backend, self.frontends)
            if not self._may_fail(self.cluster.services[row["service"]])
        ]
        return {"rate": self.options.rate, "requests": requests}

    # -- declaration ---------------------------------------------------------------------------------------------------

    def _view(self, instance: Instance) -> Mapping[str, Any]:
        """The service's keys as the instance's host sees them."""
        own = self.source.inventory.hostvars.get(instance.host, {}).get(ROOT, {})
        found = own.get(instance.service, self.declaration[instance.service])
        return found if isinstance(found, Mapping) else {}

    def _health(self, instance: Instance) -> Mapping[str, Any]:
        return self._view(instance).get("health") or {}

    def _url(self, instance: Instance) -> SplitResult:
        return urlsplit(str(self._health(instance).get("http") or ""))

    def _status(self, instance: Instance) -> list[int]:
        return [int(status) for status in self._health(instance).get("status") or [200]]

    def _spec(self, instance: Instance, service: Service) -> dict[str, Any]:
        view = resized(self._view(instance), service, self._size(service.name))
        spec = {key: view[key] for key in KEPT if key in view}
        spec["artifact"] = {"container": self._container_name(instance), "image": self._image(instance, "after")}
        if instance.servers:
            backends = [server.backend for server in instance.servers]
            spec["balancer"] = {"backends": backends, "server": instance.servers[0].name}
        elif not service.takes_balancer or all(i.host in self.cluster.balancers for i in service.instances):
            # By its container's name the twin's might be taken for something else.
            spec["takes_balancer"] = service.takes_balancer
        if self._rolls_instead(service):
            # What is only possible by the other methods is let be.
            spec.pop("version_skew", None)
            if not service.max_unavailable:
                spec.pop("min_available", None)
                spec.pop("max_unavailable", None)
        spec["method"] = "roll"
        if service.canary:
            spec["bake_time"] = _seconds(min(service.bake_time, self.options.healthy_time))
        spec["health"] = self._twins_health(instance, service)
        steps = [step for step in STEPS if getattr(service.database, step)]
        if steps:
            spec["database"] = {step: ["true"] for step in steps}
        return spec

    def _rolls_instead(self, service: Service) -> bool:
        return self.options.methods.get(service.name, "roll") != "roll"

    def _may_fail(self, service: Service) -> bool:
        """Whether requests may fail while its instances are rolled: nobody else serves, or need not."""
        return service.outage_allowed or self._rolls_instead(service) or self._size(service.name) == 1

    def _twins_health(self, instance: Instance, service: Service) -> dict[str, Any]:
        declared = self._health(instance)
        port = self.ports[instance.name]
        parts = self._url(instance)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        stays = service.min_healthy_time if instance.min_healthy_time is None else instance.min_healthy_time
        health: dict[str, Any] = {
            "http": f"http://127.0.0.1:{port}{path}",
            "status": self._status(instance),
            # What is only waited for says nothing about the upgrade.
            "interval": "250ms",
            "timeout": "30s",
            "min_healthy_time": _seconds(min(stays, self.options.healthy_time)),
            "healthy_deadline": _seconds(PATIENCE),
        }
        if service.name in self.options.own:
            health |= {key: declared[key] for key in ("method", "headers", "body", "json") if key in declared}
        return health

    # -- inventory -----------------------------------------------------------------------------------------------------

    def _inventory(self) -> dict[str, Any]:
        first = {name: next(self._instances(name)) for name in self.cluster.services}
        whole = {name: self._spec(first[name], service) for name, service in self.cluster.services.items()}
        groups: dict[str, Any] = {
            name: {"hosts": {self.names[host]: {} for host in members if host in self.names}}
            for name, members in self.source.inventory.groups.items()
            if name not in ("all", "ungrouped") and any(host in self.names for host in members)
        }
        return {
            "all": {
                "vars": {**self._fleet(), ROOT: whole},
                "hosts": {self.names[host]: self._hostvars(host, whole) for host in self.hosts},
                "children": groups,
            }
        }

    def _hostvars(self, host: str, whole: Mapping[str, Any]) -> dict[str, Any]:
        known = self.source.inventory.hostvars.get(host, {})
        own = {i.service: self._spec(i, self.cluster.services[i.service]) for i in self._instances() if i.host == host}
        return {
            **{name: value for name, value in known.items() if name != ROOT},
            "ansible_connection": "community.docker.docker_api",
            "ansible_host": self._node_name(host),
            "ansible_docker_timeout": 600,
            **({"ansible_docker_docker_host": self.options.docker_host} if self.options.docker_host else {}),
            "ansible_python_interpreter": "python3",
            "ansible_user": "root",
            "ansible_become": False,
            ROOT: {**whole, **own},
        }

    def _fleet(self) -> dict[str, Any]:
        fleet = {name: value for name, value in self.source.fleet.items() if name in FLEET and value not in (None, "")}
        if most := self.cluster.ceilings.max_hosts_out:
            everywhere = {instance.host for instance in self.cluster.instances.values()}
            fleet["upgrade_max_hosts_out"] = smaller(most, max(len(everywhere), most), len(self.hosts))
        return {
            **fleet,
            "upgrade_directory": self.options.folder,
            "upgrade_haproxy_config": "/etc/haproxy/haproxy.cfg",
            # Latency on a machine that does everything at once says nothing.
            "upgrade_suites": {"builtin": {"latency": False, "samples": 5}},
        }

    def _sizes(self) -> list[dict[str, Any]]:
        return [
            {"service": name, "hosts": len(service.instances), "twin": self._size(name)}
            for name, service in self.cluster.services.items()
        ]

    # -- what is not the same ------------------------------------------------------------------------------------------

    def _missing(self) -> Iterator[str]:
        """What the rehearsal can't show, a sentence each."""
        services = self.cluster.services.values()
        of = self._told
        if stood_in := [s.name for s in services if s.name not in self.options.own]:
            yield f"the services' own programs: a stand-in served for {some(stood_in, 20)}"
        for why in dict.fromkeys(self.options.stood_in.values()):
            yield f"own images, {why}: of {of(self.options.stood_in.get(s.name) == why for s in services)}"
        if not self.options.own:
            yield "the count of access logs: stand-ins write none"
        for what, kind in (("packages", "packages"), ("host images", "host_image")):
            if names := of(service.instances[0].artifact.kind == kind for service in services):
                yield f"the installation of {what}: a stand-in's container was replaced for {names}"
        if names := of(any(getattr(s.database, step) for step in STEPS) for s in services):
            yield f"schema steps: in the twin they do nothing, for {names}"
        if names := of("command" in s.health for s in services):
            yield f"health commands, which run on the hosts: for {names}"
        if names := of("tcp" in s.health and "http" not in s.health for s in services):
            yield f"health checks of ports: the twin asks by HTTP, for {names}"
        if names := of(any(self._url(each).scheme == "https" for each in s.instances) for s in services):
            yield f"TLS: the twin's health checks are HTTP's, for {names}"
        if names := of({"endpoints", "access_log"} & self._view(s.instances[0]).keys() for s in services):
            yield f"endpoints and access_log, which are production's: for {names}"
        if names := of(self._strict(s) and s.name not in self.options.own for s in services):
            yield f"what an answer must contain (health.body, json, headers, method): for {names}"
        if names := of(s.hooks for s in services):
            yield f"the roles in hooks: for {names}"
        if names := of(self._rolls_instead(s) for s in services):
            yield f"another method than roll: the twin rolls {names}"
        if names := of(bool(s.backends) and self._may_fail(s) for s in services):
            yield f"requests to services that may be out in the twin: the probe left out {names}"
        if names := of(s.takes_balancer for s in services):
            yield f"that a balancer goes out with {names}: the twin's balancers stay"
        if names := of(max(s.min_healthy_time, s.bake_time) > self.options.healthy_time for s in services):
            yield f"how long instances stay healthy: cut to {self.options.healthy_time:g} s in the twin, for {names}"
        if "upgrade_suites" in self.source.fleet:
            yield "the suites of tests in upgrade_suites: the built-in one ran, without latency"
        if self.cluster.vip:
            yield "the address that the balancers share: the twin's are asked in turn"
        yield "connections to the hosts, privileges, the hosts' own engines, the fetching of images"

    def _told(self, which: Iterable[Any]) -> str:
        return some([name for name, true in zip(self.cluster.services, which, strict=True) if true], 20)

    def _strict(self, service: Service) -> bool:
        return any(
            key in self._health(instance)
            for instance in service.instances
            for key in ("body", "json", "headers", "method")
        )


def _declared_port(health: Mapping[str, Any]) -> int | None:
    if health.get("http"):
        parts = urlsplit(str(health["http"]))
        return parts.port or (443 if parts.scheme == "https" else 80)
    tcp = str(health.get("tcp") or "").rpartition(":")[2]
    return int(tcp) if tcp.isdigit() else None


def _seconds(value: float) -> str:
    return f"{value:g}s"


def summary(made: Mapping[str, Any]) -> str:
    """The twin in one line."""
    nodes, containers, backends = made["nodes"], made["containers"], made["backends"]
    return (
        f"{count(len(nodes), 'node')} ({count(sum(node['balancer'] for node in nodes), 'balancer')}), "
        f"{count(len(containers), 'instance')}, {count(len(backends), 'backend')}"
    )


def seconds(text: str, what: str) -> float:
    """Seconds of an option. Raises TwinError."""
    value = parse_duration(text)
    if value is None:
        raise TwinError(f"{what}: {text!r} is no duration; write such as 2s")
    return value


def _haproxy(backends: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """HAProxy's configuration. Nodes stand in it by their names, which the engine's own name service resolves."""
    yield from _HAPROXY_HEAD
    for backend in backends:
        statuses = "|".join(str(status) for status in backend["status"])
        yield from (
            "",
            f"frontend rehearsal_{backend['port']}",
            f"    bind *:{backend['port']}",
            f"    default_backend {backend['name']}",
            "",
            f"backend {backend['name']}",
            "    balance roundrobin",
            f"    option httpchk GET {backend['path']}",
            f"    http-check expect rstatus ^({statuses})$",
            "    default-server inter 3s fastinter 200ms downinter 200ms rise 2 fall 3",
        )
        for server in backend["servers"]:
            backup = " backup" if server["backup"] else ""
            yield f"    server {server['name']} {server['node']}:{server['port']} check{backup}"


_HAPROXY_HEAD: Final = (
    "global",
    "    maxconn 4000",
    "    stats socket /run/haproxy/admin.sock mode 660 level admin expose-fd listeners",
    "    stats timeout 1m",
    "    log stdout format raw daemon notice",
    "",
    "defaults",
    "    mode http",
    "    option redispatch",
    "    retries 3",
    "    timeout connect 10s",
    "    timeout client 60s",
    "    timeout server 60s",
    "    timeout queue 30s",
    "    timeout http-request 30s",
    "    timeout http-keep-alive 30s",
    "    # Patient: a machine under load answers a check late, and a server taken down for that is no finding.",
    "    timeout check 30s",
)

PLAYBOOK: Final = """---
# Upgrades the twin under load. By hand, in this folder: ansible-playbook -i hosts.yml upgrade.yml
- name: Put the twin under load
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Start the probe
      ansible.builtin.include_role:
        name: rondo.upgrade.probe
        tasks_from: start
      vars:
        probe_config: "{{ lookup('ansible.builtin.file', 'probe.json') | from_json }}"
        probe_directory: "{{ playbook_dir }}/probe"
      when: probe_config.requests | length > 0

- name: Upgrade
  ansible.builtin.import_playbook: rondo.upgrade.upgrade

- name: Take the load away, and report with its counts
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Stop the probe
      ansible.builtin.include_role:
        name: rondo.upgrade.probe
        tasks_from: stop
      vars:
        probe_directory: "{{ playbook_dir }}/probe"
      when: probe_directory is directory

    - name: Report
      rondo.upgrade.report:
        run: "{{ upgrade_run | default(omit) }}"
        probe: "{{ (summary is file) | ternary(summary, omit) }}"
        show: true
      vars:
        summary: "{{ playbook_dir }}/probe/summary.json"
"""


def ansible_cfg(collections: Sequence[str], forks: int) -> str:
    """The twin's own settings: what is set for the user's inventory does not count."""
    lines = [
        "[defaults]",
        f"collections_path = {':'.join(collections)}",
        f"forks = {forks}",
        "stdout_callback = rondo.upgrade.progress",
        "host_key_checking = false",
        "deprecation_warnings = false",
        "localhost_warning = false",
        "force_valid_group_names = ignore",
        "retry_files_enabled = false",
        "[connection]",
        "pipelining = true",
    ]
    return "\n".join(lines) + "\n"
