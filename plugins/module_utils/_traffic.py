# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What passes through a running HAProxy, and what there is room for: the numbers that bound a hold."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set

from ansible_collections.rondo.upgrade.plugins.module_utils._haproxy import SECTIONS, Balancer, ask, number
from ansible_collections.rondo.upgrade.plugins.module_utils._hold import (
    available_memory,
    client_timeouts,
    memory_room,
    parse_status,
)


def routes(text: str) -> Optional[Dict[str, List[str]]]:
    """The frontends that lead to each backend, as a configuration says it; a `listen` leads to itself.

    None where it can't be told: with `.if`, or where HAProxy computes the backend's name.
    """
    found: Dict[str, Set[str]] = {}
    frontend = ""
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        if words[0] == ".if" or (words[0] == "use_backend" and len(words) > 1 and "%[" in words[1]):
            return None
        if words[0] in ("frontend", "listen") and len(words) > 1:
            frontend = words[1]
            if words[0] == "listen":
                found.setdefault(frontend, set()).add(frontend)
        elif words[0] in ("backend", "defaults", "global"):
            frontend = ""
        elif words[0] in ("default_backend", "use_backend") and frontend and len(words) > 1:
            found.setdefault(words[1], set()).add(frontend)
    return {backend: sorted(names) for backend, names in found.items()}


_DOOR = re.compile(r"(?:\*|0\.0\.0\.0|127\.0\.0\.1|localhost)?:(\d+)$")


def doors(text: str) -> Dict[str, str]:
    """By frontend, a URL that leads through it from the balancer itself: of those that listen in plain text on every
    address, or on the loopback one.

    Another address may be one that the balancers share: who knows which of them would answer there.
    """
    found: Dict[str, str] = {}
    section, name = "", ""
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        if words[0] in SECTIONS:
            section, name = words[0], words[1] if len(words) > 1 else ""
        elif words[0] == "bind" and section in ("frontend", "listen") and len(words) > 1:
            match = _DOOR.match(words[1])
            if match and not {"ssl", "accept-proxy"} & set(words):
                found.setdefault(name, "http://127.0.0.1:%s/" % match.group(1))
    return found


def rates(
    before: Sequence[Mapping[str, str]], after: Sequence[Mapping[str, str]], seconds: float
) -> Dict[str, Optional[float]]:
    """Requests (TCP: connections) a second by backend, from two tables of counters; None without a time between."""
    first = {row["pxname"]: number(row.get("stot")) for row in before if row["type"] == "1"}
    return {
        row["pxname"]: round(max(0, number(row.get("stot")) - first.get(row["pxname"], 0)) / seconds, 1)
        if seconds
        else None
        for row in after
        if row["type"] == "1"
    }


def shown(
    rows: Sequence[Mapping[str, str]],
    rate: Mapping[str, Optional[float]],
    info: Mapping[str, str],
    texts: Optional[Sequence[str]],
    available: Optional[int],
) -> Dict[str, Any]:
    """Everything but what HAProxy can hold. `texts`: the configuration's files, None where there is none to read."""
    text = None if texts is None else "\n".join(texts)
    lead = None if text is None else routes(text)
    timeouts = {} if text is None else client_timeouts(text, [])
    urls = {} if text is None else doors(text)
    frontends: Dict[str, Any] = {}
    backends: Dict[str, Any] = {}
    for row in rows:
        if row["type"] == "0":
            frontends[row["pxname"]] = {
                "connections": number(row.get("scur")),
                "maxconn": number(row.get("slim")),
                "timeout": timeouts.get("timeout client of %s" % row["pxname"]),
                "url": urls.get(row["pxname"]) if row.get("mode") == "http" else None,
            }
        elif row["type"] == "1":
            backends[row["pxname"]] = {
                "mode": row.get("mode", ""),
                "rate": rate.get(row["pxname"]),
                "concurrency": sum(
                    number(one.get("scur")) for one in rows if one["type"] == "2" and one["pxname"] == row["pxname"]
                ),
                "slowest": number(row.get("rtime_max")) / 1000.0,
                "frontends": None if lead is None else lead.get(row["pxname"], []),
            }
    return {
        "backends": backends,
        "frontends": frontends,
        "connections": number(info.get("CurrConns")),
        "maxconn": number(info.get("Maxconn")),
        "memory_room": memory_room(info, available),
    }


def traffic(
    balancer: Balancer,
    seconds: float,
    texts: Optional[Sequence[str]],
    sleep: Callable[[float], None] = time.sleep,
) -> Dict[str, Any]:
    """Look twice, `seconds` apart. Raises `HaproxyError`."""
    before, _unused = balancer.tables()
    began = time.monotonic()
    sleep(seconds)
    rows, _unused = balancer.tables()
    found = shown(rows, rates(before, rows, time.monotonic() - began), balancer.info(), texts, machine_memory())
    statuses = parse_status(ask(balancer.address, "rondo hold", balancer.timeout))
    found["holds"] = None if statuses is None else sorted(statuses)
    return found


def machine_memory() -> Optional[int]:
    try:
        return available_memory(Path("/proc/meminfo").read_text(encoding="ascii"))
    except OSError:
        return None


_LISTEN = "0A"


def listening(table: str) -> Set[int]:
    """The ports that anything listens on, from /proc/net/tcp or /proc/net/tcp6."""
    found = set()
    for line in table.splitlines()[1:]:
        match = re.match(r"\s*\d+: [0-9A-F]+:([0-9A-F]{4}) \S+ ([0-9A-F]{2}) ", line)
        if match and match.group(2) == _LISTEN:
            found.add(int(match.group(1), 16))
    return found
