# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a service says of itself: answers of its endpoints, and what its log counts.

Logs stay where they are: they are read line by line, and only numbers leave the host.
"""

from __future__ import annotations

import calendar
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Optional

# What the collection's own requests call themselves.
AGENT = "rondo.upgrade"
# Apache's common and combined log formats, as gunicorn, uWSGI behind Apache, nginx and Apache itself write them.
COMBINED = (
    r'"(?P<method>[A-Z]+) (?P<path>\S+)(?: (?P<protocol>HTTP/[0-9.]+))?" (?P<status>[0-9]{3})(?: |$)'
    r'(?:\S+(?: "[^"]*" "(?P<agent>[^"]*)")?)?'
)
# A log that grew by more than this is counted to here, and said to be incomplete.
MOST_BYTES = 256 * 1024 * 1024
# Where nothing says from when on, so much of a file's end is read.
FILES_END = 1024 * 1024
LARGEST_BODY = 256 * 1024
# One that does not answer so often in a row does not answer.
DEAD_AFTER = 3


class Count:
    """Counts lines of a log: all, requests of clients, those that failed (5xx), and errors.

    Health checks are no clients': known by a path of `checks`, by the agent of the collection's own requests, or by
    being HTTP/1.0 without an agent, as HAProxy's are.
    """

    def __init__(self, pattern: Optional[str], errors: Optional[str], checks: Sequence[str] = ()) -> None:
        self._request = re.compile(pattern or COMBINED)
        self._error = re.compile(errors) if errors else None
        self._checks = frozenset(checks)
        self.lines = self.requests = self.failed = self.errors = 0

    def line(self, text: str) -> None:
        self.lines += 1
        found = self._request.search(text)
        if found is None:
            self.errors += bool(self._error and self._error.search(text))
            return
        groups = found.groupdict()
        if self._is_check(groups):
            return
        self.requests += 1
        self.failed += groups["status"].startswith("5")

    def _is_check(self, groups: Mapping[str, Optional[str]]) -> bool:
        path, agent = groups.get("path") or "", groups.get("agent")
        return (
            path in self._checks
            or (agent or "").startswith(AGENT)
            or (agent == "-" and groups.get("protocol") == "HTTP/1.0")
        )

    def to_dict(self) -> dict[str, int]:
        return {"lines": self.lines, "requests": self.requests, "failed": self.failed, "errors": self.errors}


def lines_of(chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines of a stream that comes in pieces of any size."""
    rest = b""
    for chunk in chunks:
        parts = (rest + chunk).split(b"\n")
        rest = parts.pop()
        for part in parts:
            yield part.decode("utf-8", "replace")
    if rest:
        yield rest.decode("utf-8", "replace")


def since_stamp(moment: float) -> str:
    """A moment (epoch) as the engine stamps lines, so that the texts compare as the moments do."""
    whole = math.floor(moment)
    return "{0}.{1:09d}Z".format(time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)), int((moment - whole) * 1e9))


def epoch(stamp: str) -> float:
    """The engine's time stamp as seconds since the epoch; it leaves the zeros at a fraction's end out."""
    whole, _dot, fraction = stamp.rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float("0." + (fraction or "0"))


def count_stamped(chunks: Iterable[bytes], since: float, count: Count) -> bool:
    """Count an engine's log, whose lines carry time stamps, from `since` on. False: there was more than is read."""
    first = since_stamp(since)
    read = 0
    for text in lines_of(chunks):
        stamp, _blank, line = text.partition(" ")
        if stamp >= first:
            count.line(line)
        read += len(text)
        if read > MOST_BYTES:
            return False
    return True


def position(path: str) -> Optional[dict[str, int]]:
    """Where a file ends now."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return {"inode": found.st_ino, "offset": found.st_size}


def count_file(path: str, since: Optional[Mapping[str, int]], count: Count) -> str:
    """Count a file from a `position` on, through one rotation of it; without one, its end.

    Returns what is missing, in words.
    """
    if since is None:
        start = max(0, os.stat(path).st_size - FILES_END)
        return _count_part(path, start, count, skip_first=start > 0)
    if os.stat(path).st_ino == since["inode"] and os.stat(path).st_size >= since["offset"]:
        return _count_part(path, since["offset"], count)
    before = path + ".1"
    missing = "the file was rotated, and what it held before is gone or packed"
    if os.path.exists(before) and os.stat(before).st_ino == since["inode"]:
        missing = _count_part(before, since["offset"], count)
    return "; ".join(filter(None, (missing, _count_part(path, 0, count))))


def _count_part(path: str, start: int, count: Count, skip_first: bool = False) -> str:
    with open(path, "rb") as stream:
        stream.seek(start)
        chunks = iter(lambda: stream.read(1 << 20), b"")
        for number, line in enumerate(lines_of(chunks)):
            if skip_first and number == 0:
                continue
            count.line(line)
            if stream.tell() - start > MOST_BYTES:
                return "there was more than {0} MiB".format(MOST_BYTES >> 20)
    return ""


def version_in(content: bytes) -> str:
    """What a JSON answer says of its version (OpenStack's discovery documents, `version` or `release`), or ""."""
    try:
        return _version(json.loads(content.decode("utf-8", "replace")))
    except ValueError:
        return ""


def _version(value: Any) -> str:
    if isinstance(value, Mapping):
        for key in ("version", "release"):
            if isinstance(value.get(key), (str, int, float)) and not isinstance(value.get(key), bool):
                return str(value[key])
            if isinstance(value.get(key), Mapping):
                return _version(value[key])
        if isinstance(value.get("id"), str):
            return str(value["id"])
        versions = value.get("versions")
        return _version(versions.get("values") if isinstance(versions, Mapping) else versions)
    if isinstance(value, list):
        rows = [row for row in value if isinstance(row, Mapping)]
        current = [row for row in rows if str(row.get("status", "")).lower() in ("current", "stable")]
        return _version((current or rows or [None])[0])
    return ""


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest rank; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def is_answer(status: int) -> bool:
    """Whether a status shows that the endpoint is there: anything below 400, and that one has to log in."""
    return status < 400 or status == 401


def ask(
    once: Callable[[], "tuple[int, bytes]"], samples: int, most_seconds: float, clock: Callable[[], float]
) -> dict[str, Any]:
    """Ask an endpoint `samples` times, or until `most_seconds` are over. `once` gives status and body, or raises."""
    began = clock()
    times: list[float] = []
    failures: list[str] = []
    status, version, dead = 0, "", 0
    while len(times) + len(failures) < samples and (clock() - began < most_seconds or not times):
        sent = clock()
        try:
            status, content = once()
        except Exception as error:
            failures.append("no answer: {0}".format(getattr(error, "reason", None) or error))
        else:
            if is_answer(status):
                times.append((clock() - sent) * 1000)
                version = version or version_in(content)
            else:
                failures.append("status {0}".format(status))
        dead = 0 if times else dead + 1
        if dead >= DEAD_AFTER:
            break
    asked = len(times) + len(failures)
    return {
        "answers": len(failures) * 10 <= asked and bool(times),
        "asked": asked,
        "failed": len(failures),
        "reason": failures[-1] if failures else "",
        "status": status,
        "version": version,
        "p50": round(percentile(times, 0.5), 3),
        "p90": round(percentile(times, 0.9), 3),
        "n": len(times),
    }
