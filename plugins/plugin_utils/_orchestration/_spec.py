# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of keys, and the reader that holds a declaration against them and collects every mistake.

A `Key` reads one value or raises `Wrong`; a `Section` is a mapping of keys. `read_section` never stops at the first
mistake: a wrong value is noted as a `Problem` and its name stands in `Values.wrong`, so that checks that need the value
can leave it alone instead of complaining a second time.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ._quantities import Percent, is_number, parse_duration, parse_percent, parse_rate, parse_size


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: the key's full path, the value (as it may be shown), what is wrong, and what would be right.

    `hosts` are the hosts whose own view of the declaration has it; empty for the controller's view.
    """

    path: str
    value: str
    wrong: str
    remedy: str
    hosts: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f" (on {listed(self.hosts)})" if self.hosts else ""
        value = f" {self.value}" if self.value else ""
        return f"{self.path}{where}:{value} {self.wrong}; {self.remedy}"


class Wrong(Exception):
    """A value that a key can't take: what is wrong with it, and what would be right.

    `item` is set where it is one item of a list that is wrong: its place (`[1]`) and the item itself.
    """

    def __init__(self, wrong: str, remedy: str, *, item: tuple[str, object] | None = None) -> None:
        super().__init__(wrong)
        self.wrong = wrong
        self.remedy = remedy
        self.item = item


@dataclass(frozen=True, slots=True)
class Key:
    """How a value is read, and its default. `secret`: the value must not be shown. `shared`: it counts for the whole
    service, so that every host has to see the same."""

    read: Callable[[Any], Any]
    default: Any = None
    secret: bool = False
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping of keys. `needs` are those that have no default."""

    keys: Mapping[str, Key | Section]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Values:
    """What was read. Every key of the section is there: its value, or its default where absent or wrong."""

    path: str
    values: Mapping[str, Any]
    given: frozenset[str] = frozenset()
    wrong: frozenset[str] = frozenset()

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def right(self, *names: str) -> bool:
        return self.wrong.isdisjoint(names)


@dataclass(slots=True)
class Problems:
    """Collects problems; the same mistake on several hosts becomes one line that names them."""

    found: dict[tuple[str, str, str, str], list[str]] = field(default_factory=dict)

    def add(
        self, path: str, wrong: str, remedy: str, *, value: object = None, host: str = "", secret: bool = False
    ) -> None:
        shown = "" if secret else shown_value(value)
        hosts = self.found.get((path, shown, wrong, remedy))
        if hosts is None:
            self.found[path, shown, wrong, remedy] = [host] if host else []
        elif hosts and host and host not in hosts:
            hosts.append(host)

    def listed(self) -> tuple[Problem, ...]:
        return tuple(Problem(*parts, hosts=tuple(hosts)) for parts, hosts in self.found.items())


def read_section(section: Section, value: object, path: str, problems: Problems, host: str = "") -> Values:
    """Everything that the section's keys make of `value`; what is wrong goes to `problems`."""
    if not isinstance(value, Mapping):
        problems.add(path, f"is {kind(value)}", f"write a mapping with the keys {listed(section.keys)}", host=host)
        return _defaults(section, path)
    read: dict[str, Any] = {}
    wrong: set[str] = set()
    for name in value:
        if name not in section.keys:
            problems.add(path_of(path, name), "is not a key here", nearest(name, section.keys), host=host)
    for name, key in section.keys.items():
        if name not in value:
            if name in section.needs:
                problems.add(path_of(path, name), "is missing", "it has no default: give it a value", host=host)
                wrong.add(name)
            read[name] = _defaults(key, path_of(path, name)) if isinstance(key, Section) else key.default
        elif isinstance(key, Section):
            read[name] = inner = read_section(key, value[name], path_of(path, name), problems, host)
            if inner.wrong or not isinstance(value[name], Mapping):
                wrong.add(name)
        else:
            try:
                read[name] = _read_value(key, value[name])
            except Wrong as mistake:
                place, culprit = mistake.item or ("", value[name])
                where = path_of(path, name) + place
                problems.add(where, mistake.wrong, mistake.remedy, value=culprit, host=host, secret=key.secret)
                wrong.add(name)
                read[name] = key.default
    return Values(path, read, frozenset(name for name in section.keys if name in value), frozenset(wrong))


def _read_value(key: Key, value: object) -> Any:
    if value is None:
        raise Wrong("has no value", "give it one, or leave the key out for its default")
    return key.read(value)


def _defaults(section: Section, path: str) -> Values:
    values = {
        name: _defaults(key, path_of(path, name)) if isinstance(key, Section) else key.default
        for name, key in section.keys.items()
    }
    return Values(path, values)


def path_of(path: str, name: object) -> str:
    """`path.name`, with quotes where the name could not be told from a path."""
    plain = isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_@-]+", name)
    return f"{path}.{name}" if plain else f"{path}[{_plain(name, repr)}]"


def nearest(name: object, known: Iterable[str]) -> str:
    """The remedy for a name that is not known: the one that was probably meant, else all of them."""
    names = [str(each) for each in known]
    if close := difflib.get_close_matches(_plain(name), names, n=1, cutoff=0.7):
        return f"did you mean {close[0]!r}?"
    return f"right would be one of {listed(names)}" if names else "remove it"


def listed(names: Iterable[object], limit: int = 30) -> str:
    """`a, b, c`, and how many more there are where the list is long."""
    texts = [str(name) for name in names]
    more = len(texts) - limit
    return ", ".join(texts[:limit]) + (f" and {more} more" if more > 0 else "")


def kind(value: object) -> str:
    """What a value is, in YAML's words."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, Sequence) else f"of type {type(value).__name__}"


def shown_value(value: object) -> str:
    """A short text of plain values; nothing of mappings and lists, which may hold secrets."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _plain(str(value), repr)
    return _plain(value) if isinstance(value, (int, float, Percent)) else ""


def _plain(value: object, form: Callable[[object], str] = str) -> str:
    try:
        shown = form(value)
    except ValueError:  # Python refuses to print whole numbers of more than 4,300 digits
        return "a huge number"
    return shown if len(shown) <= 60 else shown[:57] + "..."


# What follows reads values. Each returns plain Python values: Ansible's carry tags, which are subclasses.


def text(value: Any) -> str:
    """A text that is not empty and has no white space."""
    if not isinstance(value, str):
        raise Wrong(f"is {kind(value)}, not a text", "write a text; what looks like a number needs quotes")
    if not value or re.search(r"\s", value):
        raise Wrong("is empty or holds white space", "write a name without white space")
    return str(value)


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"is {kind(value)}, not a boolean", "write true or false, without quotes")
    return bool(value)


def count(least: int = 0) -> Callable[[Any], int]:
    """Reads a whole number of at least `least`; text that holds one is taken too (`-e` gives only text)."""

    def read(value: Any) -> int:
        number = whole(value)
        if number is None:
            raise Wrong(f"is {kind(value)}, not a whole number", f"write a whole number from {least} up")
        if number < least:
            raise Wrong(f"is below {least}", f"write a whole number from {least} up")
        return number

    return read


def whole(value: object) -> int | None:
    """A whole number of up to nine digits, also where it comes as text; None where it is something else."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}", value.strip()):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**9:
        return int(value)
    return None


def count_or_percent(*words: str) -> Callable[[Any], int | Percent | str]:
    """Reads a number of instances, a percentage from 0% to 100%, or one of `words`."""
    forms = " or ".join(["a whole number", 'a percentage such as "60%"', *words])

    def read(value: Any) -> int | Percent | str:
        if isinstance(value, str):
            if value in words:
                return str(value)
            if (percent := parse_percent(value)) is not None:
                if not 0 <= percent.value <= 100:
                    raise Wrong("is out of range", "a percentage goes from 0% to 100%")
                return percent
        number = whole(value)
        if number is None:
            raise Wrong("is not a number of instances", f"write {forms}")
        if number < 0:
            raise Wrong("is below 0", f"write {forms}")
        return number

    return read


def duration(*, positive: bool = False) -> Callable[[Any], float]:
    """Reads a duration with its unit, as seconds; `positive`: 0s is wrong."""

    def read(value: Any) -> float:
        bare = isinstance(value, (int, float)) and not isinstance(value, bool)
        if bare or (isinstance(value, str) and is_number(value)):
            raise Wrong("is a number without a unit", f'write "{_plain(value)}s" if seconds are meant')
        seconds = parse_duration(value) if isinstance(value, str) else None
        if seconds is None:
            raise Wrong("is not a duration", 'write such as "10s", "2m", "1m30s", "1h" or "500ms"')
        if positive and not seconds:
            raise Wrong("is too short", "write a duration above 0s")
        return seconds

    return read


def rate(value: Any) -> float:
    """Bytes per second."""
    if isinstance(value, str) and (number := parse_rate(value)):
        return number
    if whole(value) is not None:
        raise Wrong("is a number without a unit", 'write such as "100MB" (per second)')
    raise Wrong("is not a rate above 0", 'write such as "100MB" or "1GiB" (per second)')


def size(value: Any) -> int:
    """Bytes."""
    if isinstance(value, str) and (number := parse_size(value)):
        return number
    if whole(value) is not None:
        raise Wrong("is a number without a unit", 'write such as "300MB"')
    raise Wrong("is not a size above 0", 'write such as "300MB" or "1GiB"')


def share(value: Any) -> float:
    """A percentage as a share of 1."""
    percent = parse_percent(value) if isinstance(value, str) else None
    if percent is None or not 0 <= percent.value <= 100:
        raise Wrong("is not a percentage", 'write such as "1%", from 0% to 100%')
    return float(percent.value) / 100


def ports(value: Any) -> tuple[int, int]:
    """The first and the last port of `15000-15009`."""
    said = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", said)
    if match is None:
        raise Wrong("is not a range of ports", 'write such as "15000-15009"')
    first, last = int(match[1]), int(match[2] or match[1])
    if not 0 < first <= last < 65536:
        raise Wrong("is not a range of ports", "ports go from 1 to 65535, and the first comes first")
    return first, last


def steps(value: Any) -> tuple[int, ...]:
    """Rising percentages that end at 100."""
    items: tuple[int, ...] = list_of(_percent_step, "[5, 25, 100]")(value)
    if list(items) != sorted(items) or items[-1:] != (100,):
        raise Wrong("does not rise to 100", "write rising percentages of which the last is 100, such as [5, 25, 100]")
    return items


def _percent_step(value: Any) -> int:
    number = whole(value)
    if number is None or not 1 <= number <= 100:
        raise Wrong("is not a percentage from 1 to 100", "write whole numbers, such as [5, 25, 100]")
    return number


def durations(value: Any) -> dict[str, float]:
    """Durations by names that anybody may choose."""
    if not isinstance(value, Mapping):
        raise Wrong(f"is {kind(value)}, not a mapping", 'write such as {the clients: "60s"}')
    read = duration(positive=True)
    found: dict[str, float] = {}
    for name, content in value.items():
        try:
            found[str(name)] = read(content)
        except Wrong as mistake:
            raise Wrong(mistake.wrong, mistake.remedy, item=(f"[{_plain(name, repr)}]", content)) from None
    return found


def environment(value: Any) -> bool:
    """Whether variables of an environment name the port (`{port}`); the values stay with the hosts."""
    if isinstance(value, Mapping) and all(
        isinstance(name, str) and name and "=" not in name and isinstance(content, (str, int))
        for name, content in value.items()
    ):
        return any(isinstance(content, str) and "{port}" in content for content in value.values())
    raise Wrong("is not a mapping of variables to texts", 'write such as {WEB_PORT: "{port}"}')


def url_path(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"/[!-~]*", value):
        raise Wrong("is not a URL's path", 'write such as "/healthcheck"')
    return str(value)


def one_of(*words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise Wrong(f"is {kind(value)}, not a word", f"write one of {listed(words)}")
        if value not in words:
            raise Wrong("is not known", nearest(value, words))
        return str(value)

    return read


def list_of(read_item: Callable[[Any], Any], example: str) -> Callable[[Any], tuple[Any, ...]]:
    """Reads a list without repetitions, each item by `read_item`."""

    def read(value: Any) -> tuple[Any, ...]:
        if isinstance(value, (str, Mapping)) or not isinstance(value, Sequence):
            raise Wrong(f"is {kind(value)}, not a list", f"write a list such as {example}")
        items: list[Any] = []
        for index, item in enumerate(value):
            try:
                items.append(read_item(item))
            except Wrong as mistake:
                raise Wrong(mistake.wrong, mistake.remedy, item=(f"[{index}]", item)) from None
            if items[-1] in items[:-1]:
                raise Wrong("is there twice", "name each once", item=(f"[{index}]", item))
        return tuple(items)

    return read


def not_empty(read_list: Callable[[Any], tuple[Any, ...]]) -> Callable[[Any], tuple[Any, ...]]:
    def read(value: Any) -> tuple[Any, ...]:
        items = read_list(value)
        if not items:
            raise Wrong("is an empty list", "name at least one, or leave the key out")
        return items

    return read


def command(value: Any) -> bool:
    """Only whether a command is there: commands may hold secrets and stay with the hosts."""
    if isinstance(value, str) and value.strip():
        return True
    if isinstance(value, Sequence) and not isinstance(value, str):
        words = [word for word in value if isinstance(word, (str, int)) and not isinstance(word, bool)]
        if words and len(words) == len(value):
            return True
    raise Wrong("is not a command", "write a text, or a list of a program and its arguments")


def headers(value: Any) -> bool:
    if isinstance(value, Mapping) and all(
        isinstance(name, str) and name and isinstance(content, (str, int)) for name, content in value.items()
    ):
        return True
    raise Wrong("is not a mapping of header names to texts", 'write such as {Accept: "application/json"}')


def pattern(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise Wrong(f"is {kind(value)}, not a pattern", "write a regular expression")
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise Wrong(f"is no regular expression: {error}", "mend the expression") from None
    return str(value)


def expression(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Wrong(f"is {kind(value)}, not an expression", "write a JMESPath expression such as status == 'OK'")
    return str(value)


def url(value: Any) -> str:
    if isinstance(value, str) and not re.search(r"\s", value):
        try:
            parts = urlsplit(str(value))
            if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
                return str(value)
        except ValueError:
            pass
    raise Wrong("is not a URL", 'write such as "http://192.0.2.10:5000/healthcheck"')


def endpoint(value: Any) -> str:
    match = re.fullmatch(r"(?:\[[^\s\[\]]+\]|[^\s:\[\]]+):([0-9]{1,5})", value) if isinstance(value, str) else None
    if match is None or not 0 < int(match[1]) < 65536:
        raise Wrong("is not HOST:PORT", 'write such as "192.0.2.10:3306" or "[2001:db8::1]:3306"')
    return str(value)


def http_status(value: Any) -> int:
    number = whole(value)
    if number is None or not 100 <= number <= 599:
        raise Wrong("is not an HTTP status", "write numbers from 100 to 599, such as [200, 300]")
    return number


def service_name(value: Any) -> str:
    """A service's name, which becomes a part of `service@host` and of the keys' paths."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", value):
        raise Wrong("is no name for a service", "use letters, digits, '_' and '-'")
    return str(value)


def identifier(value: Any) -> str:
    """A name of a container or a role: letters, digits, `_`, `-` and `.`."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", value):
        raise Wrong("is not a name", "use letters, digits, '_', '-' and '.'")
    return str(value)
