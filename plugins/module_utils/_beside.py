# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Second copies in HAProxy's tables and in its configuration: weights, and lines of text. All of it is pure.

The configuration carries what has to survive a reload in the middle of an upgrade:

    backend keystone_back
        #rondo.upgrade: beside keystone: was     server ctl1 192.0.2.11:5000 check
        server ctl1 192.0.2.11:5000 check weight 19  # rondo.upgrade: beside keystone
        server ctl1.rondo-beside 192.0.2.11:15000 check weight 1  # rondo.upgrade: beside keystone

Lines of ours carry a mark. A line that was there before is kept in a comment while one of ours stands for it, so that
the file is its old self again, byte for byte, when the last copy is gone.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

from ansible_collections.rondo.upgrade.plugins.module_utils._haproxy import SECTIONS

Key = Tuple[str, str]

MOST_WEIGHT = 256
"""The greatest weight that HAProxy knows."""

DISK_RESERVE = 200_000_000
"""Bytes for a copy's own files and logs, beside its image."""

NEAR_ENOUGH = 0.5
"""Points that a share may be off before the servers' own proportions count for less."""


class BesideError(Exception):
    """It can't be done; the text is one line for people."""


def shared_weights(
    home: Mapping[Any, int], copies: Mapping[Any, int], percent: int
) -> Tuple[Dict[Any, int], Dict[Any, int]]:
    """Weights of a backend's servers, so that the copies together get `percent` (1 to 99) of its requests.

    Both mappings are of names to weights as configured, above 0. Within each side they keep their proportions, as far
    as weights up to 256 can say both those and the share; the share comes first. Smaller weights are better than
    greater ones: requests alternate more evenly.
    """
    best: Tuple[float, Dict[Any, int], Dict[Any, int]] = (math.inf, {}, {})
    for greatest in (MOST_WEIGHT, 32, 16, 8, 4, 2, 1):
        theirs, ours = _proportions(home, greatest), _proportions(copies, greatest)
        found = _multiplied(theirs, ours, percent)
        if found[0] < best[0]:
            best = found
        if best[0] <= NEAR_ENOUGH:
            break
    return best[1], best[2]


def _proportions(weights: Mapping[Any, int], greatest: int) -> Dict[Any, int]:
    """Small numbers in the same proportions, or nearly so; none above `greatest`."""
    divisor = 0
    for weight in weights.values():
        divisor = math.gcd(divisor, weight)
    reduced = {name: weight // divisor for name, weight in weights.items()}
    top = sorted(reduced.values())[-1]
    if top <= greatest:
        return reduced
    return {name: weight * greatest // top or 1 for name, weight in reduced.items()}


def _multiplied(
    theirs: Dict[Any, int], ours: Dict[Any, int], percent: int
) -> Tuple[float, Dict[Any, int], Dict[Any, int]]:
    """(how far off, their weights, ours): each side times a number, so that ours come nearest to the percentage."""
    all_theirs, all_ours = sum(theirs.values()), sum(ours.values())
    found = []
    for factor in range(1, MOST_WEIGHT // sorted(ours.values())[-1] + 1):
        exact = factor * all_ours * (100 - percent) / (percent * all_theirs)
        most = MOST_WEIGHT // sorted(theirs.values())[-1]
        for other in (sorted((1, int(exact), most))[1], sorted((1, int(exact) + 1, most))[1]):
            share = 100.0 * factor * all_ours / (factor * all_ours + other * all_theirs)
            found.append((round(abs(share - percent), 3), factor + other, factor, other))
    off, _sum, factor, other = sorted(found)[0]
    return (
        off,
        {name: weight * other for name, weight in theirs.items()},
        {name: weight * factor for name, weight in ours.items()},
    )


@dataclass(frozen=True)
class Line:
    """A `server` line: where it is and what it says. `inherited`: the words of `default-server` that count for it."""

    number: int
    name: str
    address: str
    words: Tuple[str, ...]
    inherited: Tuple[str, ...]

    @property
    def weight(self) -> int:
        """As configured; 1 is HAProxy's own default."""
        return int(value_of("weight", self.inherited + self.words) or 1)


def value_of(word: str, words: Iterable[str]) -> Optional[str]:
    """The value that comes last after `word`."""
    found = None
    before = ""
    for each in words:
        if before == word:
            found = each
        before = each
    return found


def server_lines(text: str, backend: str) -> Dict[str, Line]:
    """The servers of a backend by name, as a configuration has them; comments, and so lines of ours that stand for
    another one's original, count as they are."""
    found: Dict[str, Line] = {}
    defaults: Dict[str, Tuple[str, ...]] = {}
    latest: Tuple[str, ...] = ()
    inherited: Tuple[str, ...] = ()
    section, name = "", ""
    for number, raw in enumerate(text.splitlines()):
        words = tuple(raw.split("#", 1)[0].split())
        if not words:
            continue
        if words[0] in SECTIONS:
            section, name = words[0], words[1] if len(words) > 1 else ""
            base = defaults.get(words[words.index("from") + 1], ()) if "from" in words[:-1] else latest
            inherited = base if section != "defaults" or "from" in words[:-1] else ()
            if section == "defaults":
                latest = defaults[name] = inherited
        elif words[0] == "default-server":
            inherited += words[1:]
            if section == "defaults":
                latest = defaults[name] = inherited
        elif words[0] == "server" and section in ("backend", "listen") and name == backend and len(words) > 2:
            found[words[1]] = Line(number, words[1], words[2], words[3:], inherited)
    return found


# Of a server's own words, those that a copy must not have: they are about another address, or have to be unique.
_OWN = {
    "weight": 1, "id": 1, "port": 1, "addr": 1, "init-addr": 1, "resolvers": 1, "resolve-prefer": 1, "resolve-opts": 1,
    "resolve-net": 1, "disabled": 0, "enabled": 0, "backup": 0,
}  # fmt: skip


def copied_words(words: Iterable[str], name: str, follows: Mapping[str, str]) -> List[str]:
    """The words of a copy called `name`, from those of the server that it is a copy of.

    `follows` maps servers (BACKEND/NAME) that have a copy, too, to that copy. Raises `BesideError` where the server
    follows the health of one that has none.
    """
    made: List[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if word in _OWN:
            del waiting[: _OWN[word]]
            continue
        made.append(word)
        if word == "cookie" and waiting:
            waiting.pop(0)
            made.append(name)
        elif word == "track" and waiting:
            target = waiting.pop(0)
            if target not in follows:
                raise BesideError(
                    "%s would follow the health of %s, which has no copy: name that one's backend, too, or give "
                    "`options`" % (name, target)
                )
            made.append(follows[target])
    return made


@dataclass(frozen=True)
class Entry:
    """What a server's line has to say: its weight (None: as configured), and whether it is out."""

    weight: Optional[int] = None
    out: bool = False


@dataclass(frozen=True)
class Copy:
    """A second copy's line in one backend."""

    backend: str
    name: str
    address: str
    words: Tuple[str, ...]
    entry: Entry = field(default_factory=Entry)


def mark_of(service: str) -> str:
    return "# rondo.upgrade: beside %s" % service


def _was_of(service: str) -> str:
    return "#rondo.upgrade: beside %s: was " % service


def restored(text: str, service: str) -> str:
    """The configuration without anything of ours."""
    mark, was = mark_of(service), _was_of(service)
    lines = []
    for line in text.splitlines(True):
        if line.lstrip().startswith(was):
            lines.append(line.split(was, 1)[1])
        elif not line.rstrip().endswith(mark):
            lines.append(line)
    return "".join(lines)


def marked_out(text: str, service: str) -> List[Key]:
    """The servers that were there before, and that our lines in this configuration take out."""
    found = []
    mark, was = mark_of(service), _was_of(service)
    backend = ""
    stands_for_another = False
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if words[:1] in (["backend"], ["listen"]) and len(words) > 1:
            backend = words[1]
        elif words[:1] == ["server"] and stands_for_another and line.rstrip().endswith(mark) and "disabled" in words:
            found.append((backend, words[1]))
        stands_for_another = line.lstrip().startswith(was)
    return found


def edited(text: str, service: str, home: Mapping[Key, Entry], copies: Iterable[Copy]) -> str:
    """The configuration with the copies' lines, and with what the other servers' lines have to say meanwhile.

    From any text of ours the result is the same: it begins with what was there before. Servers and backends that this
    text does not have are left out.
    """
    base = restored(text, service)
    lines = base.splitlines(True)
    tail = "  " + mark_of(service) + "\n"
    wanted: Dict[str, List[Copy]] = {}
    for copy in copies:
        wanted.setdefault(copy.backend, []).append(copy)
    replaced: Dict[int, str] = {}
    added: Dict[int, List[str]] = {}
    for backend in sorted({backend for backend, _name in home} | set(wanted)):
        there = server_lines(base, backend)
        for line in there.values():
            entry = home.get((backend, line.name), Entry())
            if entry.out or entry.weight not in (None, line.weight):
                original = lines[line.number]
                kept = original if original.endswith("\n") else original + "\n"
                replaced[line.number] = "    " + _was_of(service) + kept + _changed(original, entry) + tail
        if there and backend in wanted:
            last = max(line.number for line in there.values())
            added[last] = [_line(copy) + tail for copy in wanted[backend]]
    made = []
    for number, there_now in enumerate(lines):
        whole = there_now if there_now.endswith("\n") or number not in added else there_now + "\n"
        made.append(replaced.get(number, whole))
        made += added.get(number, [])
    return "".join(made)


def _changed(original: str, entry: Entry) -> str:
    line = original.split("#", 1)[0].rstrip()
    if entry.weight is not None:
        line = re.sub(r"[ \t]+weight[ \t]+\d+(?=[ \t]|$)", "", line) + " weight %d" % entry.weight
    return line + (" disabled" if entry.out else "")


def _line(copy: Copy) -> str:
    words = ["    server", copy.name, copy.address, *copy.words]
    if copy.entry.weight is not None:
        words += ["weight", str(copy.entry.weight)]
    return " ".join(words) + (" disabled" if copy.entry.out else "")


def skeleton(text: str, service: str) -> List[str]:
    """The copies' lines without weights and `disabled`: where these are the same, HAProxy has checked them already.

    A line of ours that stands for another differs from that one in these two only.
    """
    mark, was = mark_of(service), _was_of(service)
    lines = text.splitlines()
    return [
        re.sub(r" weight \d+| disabled", "", line.rstrip()[: -len(mark)]).strip()
        for before, line in zip(["", *lines], lines)  # noqa: B905 (Python 3.9)
        if line.rstrip().endswith(mark) and not before.lstrip().startswith(was)
    ]


@dataclass(frozen=True)
class Gate:
    """What HAProxy counted while the copies served: theirs, and the requests of all servers of their backends.

    `seconds` long; `down` are copies that its health check has called down meanwhile.
    """

    seconds: float
    requests: int
    errors: int
    all_requests: int
    down: Tuple[str, ...] = ()

    @property
    def share(self) -> Optional[float]:
        """Percent of all requests that the copies got; None where there was none."""
        return round(100.0 * self.requests / self.all_requests, 1) if self.all_requests else None

    def verdict(self, max_errors: float) -> str:
        """What speaks against the copies, or empty. `max_errors` is a share of their requests, 0 to 1."""
        if self.down:
            return "%s went down" % ", ".join(self.down)
        if self.errors > max_errors * self.requests:
            return "%d of %d requests to the copies failed, and at most %g %% may (max_errors)" % (
                self.errors,
                self.requests,
                100 * max_errors,
            )
        return ""

    def shown(self) -> Dict[str, Any]:
        return {
            "seconds": round(self.seconds, 3),
            "requests": self.requests,
            "errors": self.errors,
            "all_requests": self.all_requests,
            "share": self.share,
        }
