# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The suites of tests that run before and after: the built-in one, and those that `upgrade_suites` declares."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ._declaration import DeclarationError
from ._regression import Margin, Margins
from ._spec import (
    Key,
    Problems,
    Section,
    Values,
    Wrong,
    count,
    duration,
    flag,
    identifier,
    kind,
    list_of,
    listed,
    nearest,
    path_of,
    pattern,
    read_section,
    text,
    url,
)

ROOT = "upgrade_suites"
BUILTIN = "builtin"
# A log line that tells of an error, as the usual loggers write it.
ERRORS = r"\b(?:ERROR|CRITICAL|FATAL|PANIC|Traceback)\b|\blevel=(?:error|fatal|panic)\b|\[(?:error|crit|alert|emerg)\]"
CHECKS = ("endpoints", "latency", "containers", "restarts", "balancers", "logs", "schema")

Kind = Literal["testinfra", "command", "keystone"]
KINDS: tuple[Kind, ...] = ("testinfra", "command", "keystone")


@dataclass(frozen=True, slots=True)
class Builtin:
    """What the built-in suite looks at. `samples`: requests to each endpoint; `errors`: pattern of an error's line."""

    checks: frozenset[str] = frozenset(CHECKS)
    samples: int = 40
    errors: str = ERRORS
    margins: Margins = field(default_factory=Margins)


@dataclass(frozen=True, slots=True)
class Suite:
    """A declared suite. `options` are those of its kind, checked; they may hold secrets."""

    name: str
    kind: Kind
    services: tuple[str, ...] = ()
    timeout: float = 1800.0
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Suites:
    builtin: Builtin = Builtin()
    declared: tuple[Suite, ...] = ()


def _line(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Wrong(f"is {kind(value)}, not a text", "write a text")
    return str(value)


def _paths(value: Any) -> tuple[str, ...]:
    return (str(value),) if isinstance(value, str) and value.strip() else list_of(_line, "[tests/smoke]")(value)


def _words(value: Any) -> str | tuple[str, ...]:
    if isinstance(value, str) and value.strip():
        return str(value)
    if isinstance(value, (list, tuple)) and value and all(isinstance(word, (str, int)) for word in value):
        return tuple(str(word) for word in value)
    raise Wrong("is not a command", "write a text, or a list of a program and its arguments")


def _environment(value: Any) -> dict[str, str]:
    if isinstance(value, Mapping) and all(
        isinstance(name, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and isinstance(word, (str, int))
        for name, word in value.items()
    ):
        return {str(name): str(word) for name, word in value.items()}
    raise Wrong("is not a mapping of variables to texts", 'write such as {OS_CLOUD: "admin"}')


def _factor(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 1:
        return float(value)
    raise Wrong("is not a number from 1 up", "write such as 2 or 1.5")


_BUILTIN = Section(
    {
        **{check: Key(flag, True) for check in CHECKS},
        "samples": Key(count(5), 40),
        "errors": Key(pattern, ERRORS),
        "margins": Section(
            {
                "latency_factor": Key(_factor, 2.0),
                "latency_least": Key(duration(), 0.025),
                "errors_factor": Key(_factor, 2.0),
                "errors_least": Key(count(), 10),
            }
        ),
    }
)
_KEYSTONE = Section(
    {
        "url": Key(url),
        "username": Key(_line),
        "password": Key(_line, secret=True),
        "user_domain": Key(_line, "Default"),
        "project": Key(_line),
        "project_domain": Key(_line, "Default"),
        "role": Key(_line, "member"),
        "ca": Key(_line),
    },
    needs=("url", "username", "password", "project"),
)
_SUITE = Section(
    {
        "testinfra": Key(_paths),
        "hosts": Key(text, "all"),
        "python": Key(_line),
        "command": Key(_words, secret=True),
        "junit": Key(_line),
        "chdir": Key(_line),
        "environment": Key(_environment, {}, secret=True),
        "keystone": _KEYSTONE,
        "services": Key(list_of(identifier, "[keystone]"), ()),
        "timeout": Key(duration(positive=True), 1800.0),
    }
)
# Which keys go with which kind, beside those that go with all.
_BELONGS = {
    "hosts": ("testinfra",),
    "python": ("testinfra",),
    "junit": ("command",),
    "chdir": ("testinfra", "command"),
    "environment": ("testinfra", "command"),
}


def parse(value: object, services: Collection[str] | None = None, groups: Collection[str] = ()) -> Suites:
    """The suites that are declared; None: the built-in one alone. Raises DeclarationError with every mistake.

    `services` and `groups`: names that there are; without them names are not checked.
    """
    problems = Problems()
    if value is None or value == "":
        return Suites()
    if not isinstance(value, Mapping):
        problems.add(ROOT, f"is {kind(value)}", "write a mapping of suites")
        raise DeclarationError(problems.listed())
    builtin = Builtin()
    declared: list[Suite] = []
    for name, spec in value.items():
        path = path_of(ROOT, name)
        if name == BUILTIN:
            builtin = _builtin(read_section(_BUILTIN, spec, path, problems))
            continue
        try:
            identifier(name)
        except Wrong as mistake:
            problems.add(path, mistake.wrong, mistake.remedy)
        else:
            declared += _suite(str(name), read_section(_SUITE, spec, path, problems), services, groups, problems)
    if problems.found:
        raise DeclarationError(problems.listed())
    return Suites(builtin, tuple(declared))


def _builtin(values: Values) -> Builtin:
    margins = values["margins"]
    return Builtin(
        frozenset(check for check in CHECKS if values[check]),
        values["samples"],
        values["errors"],
        Margins(
            Margin(margins["latency_factor"], margins["latency_least"] * 1000),
            Margin(margins["errors_factor"], float(margins["errors_least"])),
        ),
    )


def _suite(
    name: str, values: Values, services: Collection[str] | None, groups: Collection[str], problems: Problems
) -> list[Suite]:
    chosen = [key for key in KINDS if key in values.given]
    if len(chosen) != 1:
        what = f"mixes {' and '.join(chosen)}" if chosen else "says nothing that could be run"
        problems.add(values.path, what, f"declare one of {listed(KINDS)}")
        return []
    [kind_] = chosen
    for key in sorted(values.given & _BELONGS.keys()):
        if kind_ not in _BELONGS[key]:
            problems.add(f"{values.path}.{key}", f"does not go with {kind_}", f"it is for {listed(_BELONGS[key])}")
    for index, service in enumerate(values["services"]):
        if services is not None and service not in services:
            path = f"{values.path}.services[{index}]"
            problems.add(path, "is no service of the declaration", nearest(service, services), value=service)
    group = values["hosts"]
    if groups and group != "all" and group not in groups and values.right("hosts"):
        problems.add(f"{values.path}.hosts", "is no group of the inventory", nearest(group, groups), value=group)
    options = dict(values["keystone"].values) if kind_ == "keystone" else dict(values.values)
    return [Suite(name, kind_, values["services"], values["timeout"], options)]
