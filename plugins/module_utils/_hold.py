# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holding requests: what HAProxy says about a hold, and the arithmetic that says beforehand whether one can be safe.

All of it is pure. `rondo_hold.lua` (role hold) is what speaks the lines that are read here.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

PROTOCOL = 1

BYTES_PER_REQUEST = 21000
"""What HAProxy 2.6 and 3.0 count for a small waiting HTTP/1 request, most of it one buffer (tune.bufsize, 16 KiB).

Measured: 20.3 to 21.9 kB counted, 7 to 11 kB of it resident. TLS and bodies cost more.
"""

# As in rondo_hold.lua: how those that waited are let go one after another.
STEP_SECONDS, LONGEST_STEP_SECONDS, WAITING_PER_STEP_SECOND = 0.02, 0.25, 10000.0
SPREAD_SECONDS, SPACING_SECONDS = 1.0, 0.001


class HoldError(Exception):
    """It can't be held, or the answer makes no sense; the text is for people."""


@dataclass(frozen=True)
class Status:
    """One service on one balancer. Times in seconds, memory in bytes, rates in requests a second.

    `state` is off, on or releasing. `ended` says how the last hold ended: off (it was released), deadline, max_waiting,
    max_memory, `-` while it lasts, never if there was none since HAProxy started. Counts are of the last hold; `seen`
    is of all requests since HAProxy started, `rate` and `peak` of the last ten full seconds.
    """

    service: str
    state: str
    owner: str
    action: str
    ended: str
    age: float
    left: float
    waiting: int
    greatest: int
    longest: float
    held: int
    released: int
    rejected: int
    memory: int
    max_waiting: int
    max_memory: int
    seen: int
    rate: float
    peak: int
    testing: int

    def shown(self) -> Dict[str, Any]:
        return asdict(self)


_KINDS: Dict[str, Any] = {"str": str, "int": int, "float": float}


def parse_status(text: str) -> Optional[Dict[str, Status]]:
    """What `rondo hold` answered, by service; None where HAProxy does not know the command. Raises `HoldError`."""
    lines = text.strip().splitlines()
    match = re.match(r"# rondo_hold (\d+)$", lines[0]) if lines else None
    if match is None:
        return None
    if int(match.group(1)) != PROTOCOL:
        raise HoldError(
            "rondo_hold.lua speaks protocol %s, this module %d; install the role's own and reload HAProxy"
            % (match.group(1), PROTOCOL)
        )
    found = {}
    for line in lines[1:]:
        words = dict(word.partition("=")[::2] for word in line.split())
        try:
            status = Status(**{field.name: _KINDS[str(field.type)](words[field.name]) for field in fields(Status)})
        except (KeyError, ValueError) as error:
            raise HoldError("`rondo hold` answered %r" % line[:200]) from error
        found[status.service] = status
    return found


def owner_word(owner: Optional[str]) -> str:
    """An owner as one word of HAProxy's command line."""
    return re.sub(r"[^\w.:/@-]", "_", owner or "", flags=re.ASCII) or "-"


# The first release of each branch in which `set maxconn frontend` does not deadlock HAProxy while a connection waits
# (haproxy issue 2726). A branch that is not listed and older than the last one has no release known to be fixed.
MAXCONN_FIXED = {(2, 4): 28, (2, 6): 20, (2, 8): 12, (3, 0): 6}
MAXCONN_FIXED_FROM = (3, 1)

# Distributions backport single fixes into old releases: what a package's version begins with, and the patch level
# behind it from which it carries this one, such as {"2.6.12-1+deb12u": 9}. None is known; docs/adr/0004 tells more.
MAXCONN_FIXED_PACKAGES: Dict[str, int] = {}


def maxconn_danger(version: str) -> Optional[str]:
    """Why a frontend of this HAProxy must not be held by its maxconn; None where it is known to be safe.

    `version` as `show info` gives it, with the package's own patch level ("2.6.12-1+deb12u4").
    """
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if match is None or re.match(r"\d+\.\d+-dev|\d+\.\d+\.\d+-dev", version):
        return "HAProxy %s is no release: nothing is known about its `set maxconn frontend`" % version
    branch, patch = (int(match.group(1)), int(match.group(2))), int(match.group(3))
    if branch >= MAXCONN_FIXED_FROM:
        return None
    fixed = MAXCONN_FIXED.get(branch)
    if fixed is not None and patch >= fixed:
        return None
    package = re.match(r"(.*-.*?)(\d+)$", version)
    if package and int(package.group(2)) >= MAXCONN_FIXED_PACKAGES.get(package.group(1), math.inf):
        return None
    known = "in no release of this branch"
    if fixed is not None:
        known = "in this branch from %d.%d.%d on" % (*branch, fixed)
    return (
        "HAProxy %s deadlocks when a frontend's maxconn is raised again while a connection waits (haproxy issue 2726; "
        "fixed %s, and this package's patch level is not known to carry the fix)" % (version, known)
    )


@dataclass(frozen=True)
class Bound:
    """One number that a hold has to stay within. `unit` is requests, connections, bytes or seconds."""

    name: str
    needs: float
    limit: float
    unit: str
    remedy: str

    @property
    def holds(self) -> bool:
        return self.needs <= self.limit

    def shown(self) -> Dict[str, Any]:
        return {
            "name": self.name, "needs": self.needs, "limit": self.limit, "unit": self.unit, "holds": self.holds,
        }  # fmt: skip


@dataclass(frozen=True)
class Prediction:
    """What a hold of the given length comes to. `longest_wait` in seconds, `memory` in bytes."""

    rate: float
    seconds: float
    waiting: int
    longest_wait: float
    memory: int

    def shown(self) -> Dict[str, Any]:
        return asdict(self)


def predict(rate: float, seconds: float, bytes_per_request: int = BYTES_PER_REQUEST) -> Prediction:
    """A hold of `seconds` while `rate` requests a second arrive.

    The longest wait is the pause, one look, and the time in which those that waited go one after another.
    """
    waiting = math.ceil(rate * seconds)
    step = max(STEP_SECONDS, min(LONGEST_STEP_SECONDS, waiting / WAITING_PER_STEP_SECOND))
    spread = min(SPREAD_SECONDS, waiting * SPACING_SECONDS)
    return Prediction(
        rate=rate,
        seconds=seconds,
        waiting=waiting,
        longest_wait=round(seconds + step + spread, 3),
        memory=waiting * bytes_per_request,
    )


def bounds(
    prediction: Prediction,
    *,
    max_waiting: int,
    max_memory: int,
    memory_room: Optional[int],
    connections: Sequence[Tuple[str, int, int]],
    timeouts: Mapping[str, float],
) -> List[Bound]:
    """Every number that bounds the hold, worst last moment counted: that it lasts until its deadline.

    `max_waiting` requests (0: none), `max_memory` bytes (0: none), `memory_room` bytes that HAProxy may still take
    (None: unknown), `connections` as (name, in use, limit), `timeouts` in seconds by name.
    """
    found = []
    waiting = float(prediction.waiting)
    if max_waiting:
        found.append(Bound("max_waiting", waiting, max_waiting, "requests", "raise max_waiting"))
    for name, used, limit in connections:
        # Every waiting request may have come on a connection of its own.
        found.append(Bound(name, used + waiting, limit, "connections", "raise %s" % name))
    if max_memory:
        found.append(Bound("max_memory", float(prediction.memory), max_memory, "bytes", "raise max_memory"))
    if memory_room is not None:
        found.append(
            Bound("memory of the balancer", float(prediction.memory), memory_room, "bytes", "give the balancer more")
        )
    for name, seconds in sorted(timeouts.items(), key=lambda pair: (pair[1], pair[0])):
        found.append(Bound(name, prediction.longest_wait, seconds, "seconds", "raise %s" % name))
    return found


def refusals(prediction: Prediction, found: Sequence[Bound]) -> List[str]:
    """One line for each bound that would be broken: the number that is in the way, and what would help."""
    lines = []
    for bound in found:
        if bound.holds:
            continue
        if bound.unit == "seconds":
            what = "the longest wait would be %s" % quantity(bound.needs, bound.unit)
        else:
            what = "%s would be needed" % quantity(bound.needs, bound.unit)
        lines.append(
            "%s is in the way: a hold of %g s at %.1f requests a second means %d waiting requests; %s, %s is %s. "
            "Hold for less time, or %s"
            % (
                bound.name,
                prediction.seconds,
                prediction.rate,
                prediction.waiting,
                what,
                bound.name,
                quantity(bound.limit, bound.unit),
                bound.remedy,
            )
        )
    return lines


def quantity(value: float, unit: str) -> str:
    """A number with its unit, for people."""
    if unit == "seconds":
        return "%g s" % round(value, 3)
    if unit == "bytes":
        return "%.1f MB" % (value / 1e6)
    return "%d %s" % (value, unit)


_DURATION = re.compile(r"(\d+)(us|ms|s|m|h|d)?$")
_UNITS = {"us": 1e-6, None: 1e-3, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def client_timeouts(text: str, frontends: Sequence[str]) -> Dict[str, float]:
    """`timeout client` (seconds) of the frontends as a configuration file says it, by `timeout client of FRONTEND`.

    Without names, of all frontends. A value in the section counts, else that of the `defaults` before it. HAProxy has
    no command that tells a timeout of the running process.
    """
    found: Dict[str, float] = {}
    named: Dict[str, Optional[float]] = {}
    current: Optional[float] = None
    section, name = "", ""
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        if words[0] in ("defaults", "frontend", "listen"):
            section, name = words[0], words[1] if len(words) > 1 else ""
            base = named.get(words[words.index("from") + 1]) if "from" in words[:-1] else current
            if section == "defaults":
                current = base if "from" in words[:-1] else None
                named[name] = current
            elif base is not None and (not frontends or name in frontends):
                found["timeout client of %s" % name] = base
        elif words[0] == "backend":
            section = ""
        elif words[:2] == ["timeout", "client"] and len(words) > 2:
            match = _DURATION.match(words[2])
            if match is None:
                continue
            seconds = int(match.group(1)) * _UNITS[match.group(2)]
            if section == "defaults":
                current = named[name] = seconds
            elif section and (not frontends or name in frontends):
                found["timeout client of %s" % name] = seconds
    return found


def available_memory(meminfo: str) -> Optional[int]:
    """MemAvailable of /proc/meminfo in bytes; None where it isn't told."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", meminfo, re.MULTILINE)
    return int(match.group(1)) * 1024 if match else None


def memory_room(info: Mapping[str, str], available: Optional[int]) -> Optional[int]:
    """Bytes that HAProxy may still take: what its own limit leaves, and half of what the machine has left."""
    rooms = []
    limit = int(info.get("Memmax_bytes") or int(info.get("Memmax_MB") or 0) * 1024 * 1024)
    if limit:
        rooms.append(max(0, limit - int(info.get("PoolAlloc_bytes") or 0)))
    if available is not None:
        rooms.append(available // 2)
    return min(rooms) if rooms else None
