# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The built-in suite: what the declaration alone says that has to be so before and after an upgrade.

`asked` tells what each host is to be asked with the module `service_info`; `results` makes tests of its answers and of
the facts of role `observe`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from . import _cluster
from ._orchestration._model import Cluster, Instance
from ._orchestration._regression import Moment, Outcome, Result
from ._orchestration._suites import BUILTIN, Builtin
from ._page import duration, some

# A container that the engine has started again so often, and the last time so recently (seconds), is in a loop.
LOOPING = 3
RECENTLY = 600.0
_ROW = ("address", "weight", "admin", "backup", "checked", "usable", "status")

Facts = Mapping[str, Mapping[str, Any]]
Seen = Mapping[str, Mapping[str, Any]]


def asked(cluster: Cluster, views: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """What each host is asked: `endpoints` and `logs`, as the module takes them.

    `views`: by host the services as the host itself sees them. An endpoint with one URL for all hosts is asked from the
    first one.
    """
    hosts: dict[str, dict[str, list[dict[str, Any]]]] = {}
    told: set[tuple[str, str]] = set()
    for instance in cluster.instances.values():
        spec = views.get(instance.host, {}).get(instance.service, {})
        row = hosts.setdefault(instance.host, {"endpoints": [], "logs": []})
        for url in _urls(spec):
            if _is_local(url) or (instance.service, url) not in told:
                told.add((instance.service, url))
                row["endpoints"].append({"url": url, "service": instance.service})
        if log := _log(instance, spec):
            row["logs"].append(log)
    return hosts


def _urls(spec: Mapping[str, Any]) -> list[str]:
    health = spec.get("health") or {}
    return list(dict.fromkeys([*([health["http"]] if health.get("http") else []), *(spec.get("endpoints") or ())]))


def _is_local(url: str) -> bool:
    """Whether the URL means another thing on each host."""
    name = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _log(instance: Instance, spec: Mapping[str, Any]) -> dict[str, Any] | None:
    said = spec.get("access_log") or {}
    http = (spec.get("health") or {}).get("http")
    more = {"checks": [urlsplit(http).path or "/"] if http else []}
    if said.get("pattern"):
        more["pattern"] = said["pattern"]
    if said.get("file"):
        return {"service": instance.service, "file": said["file"], **more}
    if instance.artifact.kind != "container":
        return None
    return {"service": instance.service, "container": instance.artifact.name, **more}


def results(
    cluster: Cluster,
    builtin: Builtin,
    facts: Facts,
    seen: Seen,
    moment: Moment,
    unfinished: Iterable[str] = (),
) -> list[Result]:
    """The suite's results. `seen`: by host what `service_info` returned; `unfinished`: instances whose job is not done,
    which may still run what they did, and services with a schema step that is not."""
    found: list[Result] = []
    left = set(unfinished)
    for name, instance in cluster.instances.items():
        if "containers" in builtin.checks:
            found.append(_runs(name, instance, facts, moment, name in left))
        if "restarts" in builtin.checks:
            found += _restarts(name, instance, facts, seen)
        if "logs" in builtin.checks:
            found += _errors(name, instance, seen)
    for host, answers in seen.items():
        found += _asked(host, answers)
        for answer in answers.get("endpoints", ()):
            found += _endpoint(host, answer, builtin)
    if "balancers" in builtin.checks:
        found += _tables(cluster, facts)
    if "schema" in builtin.checks:
        found += _schemas(cluster, facts, moment, left)
    return found


def _result(name: str, service: str, outcome: Outcome, message: str = "", measured: Any = None) -> Result:
    return Result(BUILTIN, name, outcome, service, message, measured=measured)


def _outcome(good: bool) -> Outcome:
    return "passed" if good else "failed"


def _asked(host: str, answers: Mapping[str, Any]) -> Iterator[Result]:
    """Without it, the tests that the host could not run would only be gone."""
    if not answers.get("skipped"):
        yield _result(f"{host} can be asked", "", _outcome("now" in answers), str(answers.get("msg", "")))


def _runs(name: str, instance: Instance, facts: Facts, moment: Moment, unfinished: bool) -> Result:
    title = f"{name} runs what the plan says"
    state = _cluster.runs(instance, facts)
    if state.reason or not state.running:
        return _result(title, instance.service, "failed", state.reason or "nothing runs")
    good = state.current or moment == "before" or unfinished
    message = f"runs {state.running}" + ("" if good else f", not {instance.artifact.target}")
    return _result(title, instance.service, _outcome(good), message)


def _restarts(name: str, instance: Instance, facts: Facts, seen: Seen) -> Iterator[Result]:
    row = facts.get(instance.host, {}).get("observe_containers", {}).get(instance.artifact.name)
    if instance.artifact.kind != "container" or not row or not row.get("exists"):
        return
    restarts, age = int(row.get("restarts") or 0), _age(row, seen.get(instance.host, {}).get("now"))
    looping = row.get("status") == "restarting" or (restarts >= LOOPING and age is not None and age < RECENTLY)
    since = f", the last time {duration(age)} ago" if restarts and age is not None else ""
    title = f"{name} does not restart in a loop"
    yield _result(title, instance.service, _outcome(not looping), f"restarted {restarts} times{since}")


def _age(row: Mapping[str, Any], now: float | None) -> float | None:
    if not now or not row.get("started_at"):
        return None
    # The engine writes nanoseconds, which datetime does not read.
    started = datetime.fromisoformat(str(row["started_at"])[:19]).replace(tzinfo=UTC)
    return max(0.0, now - started.timestamp())


def _errors(name: str, instance: Instance, seen: Seen) -> Iterator[Result]:
    log = seen.get(instance.host, {}).get("logs", {}).get(instance.service, {})
    if not log:
        return
    title = f"{name} logs no more errors than before"
    row = next((row for row in log["rows"] if row["current"]), None)
    if row is None:
        yield _result(title, instance.service, "failed", log["note"] or "nothing runs that logs")
        return
    measured = {"kind": "errors", **{key: row[key] for key in ("errors", "lines", "seconds")}}
    span = f" in {duration(row['seconds'])}" if row["seconds"] else ""
    message = f"{row['errors']} lines of {row['lines']} are errors{span}"
    yield _result(title, instance.service, "passed", message, measured)


def _endpoint(host: str, answer: Mapping[str, Any], builtin: Builtin) -> Iterator[Result]:
    service, url = answer["service"], answer["url"]
    about = f"{service}@{host}: {url}" if _is_local(url) else f"{service}: {url}"
    good = bool(answer["answers"])
    if "endpoints" in builtin.checks:
        told = (
            f"{answer['failed']} of {answer['asked']} requests failed: {answer['reason']}" if answer["failed"] else ""
        )
        yield _result(f"{about} answers", service, _outcome(good), told or f"status {answer['status']}")
        version = {"kind": "version", "version": answer["version"]}
        said = answer["version"] or "nothing"
        outcome: Outcome = "passed" if good and answer["version"] else "skipped"
        yield _result(f"{about} says its version", service, outcome, said, version if good else None)
    if "latency" in builtin.checks:
        times = {"kind": "latency", **{key: answer[key] for key in ("p50", "p90", "n")}}
        told = f"median {answer['p50']:.0f} ms, p90 {answer['p90']:.0f} ms, of {answer['n']} requests"
        title = f"{about} is as fast as before"
        yield _result(title, service, "passed" if good else "skipped", told, times if good else None)


def _tables(cluster: Cluster, facts: Facts) -> Iterator[Result]:
    for balancer in cluster.balancers:
        table = facts.get(balancer, {}).get("observe_haproxy", {})
        for service in cluster.services.values():
            for backend in service.backends:
                title = f"{balancer}: the table of {backend} is as it was"
                if backend not in table.get("backends", {}):
                    why = table.get("msg") or "the backend is not there"
                    yield _result(title, service.name, "failed", str(why))
                    continue
                rows = table["backends"][backend]["servers"]
                servers = {name: {key: row.get(key) for key in _ROW} for name, row in rows.items()}
                down = [f"{name} is {row['status']}" for name, row in servers.items() if not row["usable"]]
                measured = {"kind": "table", "servers": servers}
                yield _result(title, service.name, "passed", some(down), measured)


def _schemas(cluster: Cluster, facts: Facts, moment: Moment, unfinished: Collection[str]) -> Iterator[Result]:
    asked = {name: (code, steps) for name, code, steps in _cluster.schemas(cluster, facts)}
    for name, service in cluster.services.items():
        title = f"{name}: its schema is where the plan says"
        measured = {"kind": "schema", "image": service.instances[0].artifact.target}
        code, steps = asked.get(name, (0, ()))
        if name not in asked:
            # The new image asks, and may not be there yet. What it says once it is there is the upgrade's doing.
            if moment == "before" and service.database.check:
                yield _result(title, name, "passed", "it is asked after the upgrade", measured)
        elif steps is None:
            yield _result(title, name, "failed", f"its check ended with {code}", measured)
        else:
            good = moment == "before" or name in unfinished or not steps
            message = f"still to do: {', '.join(steps)}" if steps else "it is at its head"
            yield _result(title, name, _outcome(good), message, measured if good else None)


def logged(cluster: Cluster, seen: Seen, moved: Iterable[str] = ()) -> dict[str, Any]:
    """What the access logs of the services behind the balancers count together since the baseline.

    `moved`: services of which a second copy served meanwhile, whose log is gone with it.
    """
    counted = {"requests": 0, "failed": 0}
    services: dict[str, dict[str, int]] = {}
    notes: list[str] = []
    for service in cluster.services.values():
        if not service.backends:
            continue
        sums = {"requests": 0, "failed": 0}
        for instance in service.instances:
            log = seen.get(instance.host, {}).get("logs", {}).get(service.name)
            if log is None:
                notes.append(f"{instance.name}: its log was not read")
                continue
            if log["note"]:
                notes.append(f"{instance.name}: {log['note']}")
            for row in log["rows"]:
                for key in sums:
                    sums[key] += row[key]
        services[service.name] = sums
        for key in counted:
            counted[key] += sums[key]
        if service.name in set(moved):
            notes.append(f"{service.name}: the logs of its second copies are gone with them")
    silent = [name for name, sums in services.items() if not sums["requests"]]
    return {**counted, "services": services, "silent": silent, "notes": notes}
