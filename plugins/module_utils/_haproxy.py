# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HAProxy's runtime API: one line out, text until EOF in, and that text as rows.

What `show stat` calls a server's status is for people: it hides that a server which is down was also taken out by
the administrator, and it reads "UP" for a server of weight 0. So a server is read from `show stat` and
`show servers state` together, asked on one line.
"""

from __future__ import annotations

import csv
import difflib
import errno
import os
import re
import socket
import time
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

Key = Tuple[str, str]
"""A backend's name and the name of a server in it."""

# Bits of srv_admin_state, as src/include/haproxy/server-t.h numbers them.
FORCED_MAINT = 0x01
INHERITED_MAINT = 0x02
FORCED_DRAIN = 0x08
INHERITED_DRAIN = 0x10
RESOLUTION_MAINT = 0x20
MAINT = FORCED_MAINT | INHERITED_MAINT | RESOLUTION_MAINT
DRAIN = FORCED_DRAIN | INHERITED_DRAIN

# Bit of srv_check_state: checks are configured and not switched off by `disable health`.
CHECK_ENABLED = 0x04

COUNTERS = (
    "qcur", "scur", "smax", "stot", "bin", "bout", "hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx",
    "hrsp_other", "ereq", "econ", "eresp", "dreq", "dresp", "wretr", "wredis", "cli_abrt", "srv_abrt", "req_tot",
    "chkfail", "chkdown", "lastchg", "downtime",
)  # fmt: skip

# What a reading holds of each backend: that by which a report judges, and no more, because the journal keeps many.
COUNTED = ("hrsp_5xx", "econ", "eresp", "wretr", "wredis", "stot")


class HaproxyError(Exception):
    """HAProxy refused, or its answer makes no sense; the text is one line for people."""


class Unreachable(HaproxyError):
    """Nobody answered at the address."""


def ask(address: str, command: str, timeout: float) -> str:
    """Send one line, return the whole answer.

    `address` is a UNIX socket's path or HOST:PORT; `timeout` (seconds) bounds the whole exchange, not each part of it.
    Raises `Unreachable`.
    """
    deadline = time.monotonic() + timeout

    def left() -> float:
        return max(0.001, deadline - time.monotonic())

    parts = []
    try:
        with _connected(address, left()) as link:
            link.settimeout(left())
            link.sendall(command.encode() + b"\n")
            # A master's socket keeps the connection open until it hears that no more commands come.
            link.shutdown(socket.SHUT_WR)
            while True:
                link.settimeout(left())
                part = link.recv(65536)
                if not part:
                    break
                if time.monotonic() >= deadline:
                    raise socket.timeout
                parts.append(part)
    except socket.timeout as error:
        raise Unreachable(
            "%s: no answer within %g s; is HAProxy alive, or every slot of its socket taken?" % (address, timeout)
        ) from error
    except OSError as error:
        raise Unreachable("%s: %s" % (address, _explained(error))) from error
    return b"".join(parts).decode("utf-8", "replace")


def _connected(address: str, timeout: float) -> socket.socket:
    if address.startswith("/"):
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        deadline = time.monotonic() + timeout
        link.settimeout(timeout)
        try:
            while True:
                try:
                    link.connect(address)
                    return link
                except BlockingIOError as error:
                    # A UNIX socket with a full backlog says so at once, whatever the timeout is.
                    if time.monotonic() >= deadline:
                        raise socket.timeout from error
                    time.sleep(0.02)
        except BaseException:
            link.close()
            raise
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise OSError(errno.EINVAL, "is neither an absolute path nor HOST:PORT")
    return socket.create_connection((host.strip("[]"), int(port)), timeout)


def _explained(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "no such socket; HAProxy's line `stats socket` (level admin) makes it"
    if error.errno == errno.EACCES:
        return "permission denied; run as root (become), or open `stats socket ... mode` to this user"
    if error.errno == errno.ECONNREFUSED:
        return "the socket is there, but no HAProxy listens behind it"
    return error.strerror or str(error)


def parse_stat(text: str) -> List[Dict[str, str]]:
    """The rows of `show stat`, each column by HAProxy's own name for it. Raises `HaproxyError`."""
    lines = text.strip().splitlines()
    if not lines or not lines[0].startswith("# pxname,"):
        raise HaproxyError("`show stat` answered %r" % text.strip()[:200])
    lines[0] = lines[0][2:]
    return [{column: value or "" for column, value in row.items() if column} for row in csv.DictReader(lines)]


def parse_servers_state(text: str) -> Dict[Key, Dict[str, str]]:
    """The rows of `show servers state`. Raises `HaproxyError`."""
    lines = text.strip().splitlines()
    if len(lines) < 2 or lines[0] != "1" or not lines[1].startswith("# be_id "):
        raise HaproxyError("`show servers state` answered %r" % text.strip()[:200])
    columns = lines[1][2:].split()
    rows = [dict(zip(columns, line.split())) for line in lines[2:] if line]  # noqa: B905 (Python 3.9 has no strict)
    return {(row["be_name"], row["srv_name"]): row for row in rows}


def parse_info(text: str) -> Dict[str, str]:
    """`show info` as a table of names and values."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def parse_old_workers(text: str) -> List[int]:
    """From the master's `show proc`, the processes that a reload replaced and that still carry sessions."""
    found = []
    old = False
    for line in text.splitlines():
        if line.startswith("#"):
            old = line.strip() == "# old workers"
        elif old and line.split()[1:2] == ["worker"]:
            found.append(int(line.split()[0]))
    return found


def parse_sessions(text: str, wanted: Iterable[Key]) -> List[str]:
    """From `show sess`, the ids of the sessions on the wanted servers."""
    keys = set(wanted)
    found = []
    for line in text.splitlines():
        match = re.match(r"(0x[0-9a-f]+): .*? be=(\S+) srv=(\S+) ", line)
        if match and (match.group(2), match.group(3)) in keys:
            found.append(match.group(1))
    return found


def number(value: Optional[str]) -> int:
    return int(value) if value and value.lstrip("-").isdigit() else 0


@dataclass(frozen=True)
class Server:
    """One server of one backend, as HAProxy sees it now. `lastchg` is in seconds.

    `weight` is what counts now (0 in drain), `own_weight` what it was set to, `initial_weight` what HAProxy began with.
    """

    backend: str
    name: str
    status: str
    admin: int
    weight: int
    scur: int
    qcur: int
    checked: bool
    tracked: str
    backup: bool
    address: str
    check_status: str
    last_chk: str
    lastchg: int
    chkdown: int
    columns: Mapping[str, str]
    own_weight: int = 0
    initial_weight: int = 0

    @property
    def key(self) -> Key:
        return (self.backend, self.name)

    @property
    def state(self) -> str:
        """The status in one word: up, going_down, down, going_up, maint, drain, no_check or other.

        Statuses are compared whole: "UP 1/3" is a server on its way down.
        """
        if self.admin & MAINT:
            return "maint"
        if self.status.startswith("DRAIN") or (self.admin & DRAIN):
            return "drain"
        if self.status == "no check":
            return "no_check"
        if self.status in ("UP", "DOWN"):
            return self.status.lower()
        if re.match(r"UP \d+/\d+$", self.status):
            return "going_down"
        if re.match(r"DOWN \d+/\d+$", self.status):
            return "going_up"
        return "down" if self.status.startswith("DOWN") else "other"

    @property
    def forced_out(self) -> bool:
        """Taken out by the administrator, on this very server."""
        return bool(self.admin & (FORCED_MAINT | FORCED_DRAIN))

    @property
    def serves(self) -> bool:
        """New requests may reach it now."""
        return self.state in ("up", "going_down", "no_check") and self.weight > 0

    @property
    def usable(self) -> bool:
        """New requests reach it now, and nothing says that this is about to end."""
        return self.serves and self.state != "going_down"

    @property
    def healthy(self) -> bool:
        """HAProxy's check calls it up, in drain too. In maintenance, or without a check, nothing is known."""
        return self.status in ("UP", "DRAIN") and not self.admin & MAINT

    @property
    def sessions(self) -> int:
        return self.scur + self.qcur


def read_servers(stat: Sequence[Mapping[str, str]], states: Mapping[Key, Mapping[str, str]]) -> Dict[Key, Server]:
    """Both tables as one."""
    servers = {}
    for row in stat:
        if row.get("type") != "2":
            continue
        state = states.get((row["pxname"], row["svname"]), {})
        server = Server(
            backend=row["pxname"],
            name=row["svname"],
            status=row["status"],
            admin=number(state.get("srv_admin_state")),
            weight=number(row.get("weight")),
            scur=number(row.get("scur")),
            qcur=number(row.get("qcur")),
            checked=bool(number(state.get("srv_check_state")) & CHECK_ENABLED),
            tracked=row.get("tracked", ""),
            backup=row.get("bck") == "1",
            address=row.get("addr", ""),
            check_status=row.get("check_status", "").lstrip("* "),
            last_chk=row.get("last_chk", ""),
            lastchg=number(row.get("lastchg")),
            chkdown=number(row.get("chkdown")),
            columns=row,
            own_weight=number(state.get("srv_uweight")),
            initial_weight=number(state.get("srv_iweight")),
        )
        servers[server.key] = server
    return servers


def unknown(servers: Mapping[Key, Server], wanted: Iterable[Key]) -> List[str]:
    """One line for each wanted server that HAProxy does not have, with the names that come nearest."""
    backends: Dict[str, List[str]] = {}
    for backend, name in servers:
        backends.setdefault(backend, []).append(name)
    problems = []
    for backend, name in wanted:
        if backend not in backends:
            problems.append("%s/%s: no such backend; %s" % (backend, name, _nearest(backend, backends)))
        elif name not in backends[backend]:
            problems.append("%s/%s: no such server; %s" % (backend, name, _nearest(name, backends[backend])))
    return problems


def _nearest(name: str, names: Iterable[str]) -> str:
    known = sorted(names)
    near = difflib.get_close_matches(name, known, n=3) or known[:8]
    return "there is %s" % ", ".join(near) if near else "there is none"


class Balancer:
    """One HAProxy: its runtime socket, and its master's socket where that is known.

    `timeout` (seconds) bounds each question. All methods raise `HaproxyError`.
    """

    def __init__(self, address: str, timeout: float, master: Optional[str] = None) -> None:
        self.address = address
        self.timeout = timeout
        self.master = master

    @property
    def meeting_place(self) -> str:
        """The folder whose lock keeps calls on one balancer apart: its socket's, or the root for a TCP address."""
        return os.path.dirname(self.address) if self.address.startswith("/") else "/"

    def info(self) -> Dict[str, str]:
        info = parse_info(self._ask("show info"))
        if "Pid" not in info or "Version" not in info:
            raise HaproxyError("%s: `show info` has neither Pid nor Version; is this HAProxy?" % self.address)
        return info

    def level(self) -> str:
        """What the socket lets us do: user, operator or admin."""
        return self._ask("show cli level").strip()

    def tables(self) -> Tuple[List[Dict[str, str]], Dict[Key, Server]]:
        """The rows of `show stat`, and the servers, of one moment."""
        text, _blank, states = self._ask("show stat; show servers state").partition("\n\n")
        stat = parse_stat(text)
        return stat, read_servers(stat, parse_servers_state(states))

    def servers(self) -> Dict[Key, Server]:
        return self.tables()[1]

    def change(self, *commands: str) -> None:
        """Give commands that answer nothing when they succeed, on one line: nothing slips in between."""
        answer = self._ask("; ".join(commands)).strip()
        if answer:
            raise HaproxyError("%s: `%s` answered: %s" % (self.address, "; ".join(commands), " ".join(answer.split())))

    def old_workers(self) -> List[int]:
        """Process ids, none where no master socket is known."""
        if self.master is None:
            return []
        text = self.ask_master("show proc")
        if "<PID>" not in text:
            raise HaproxyError("%s: is not a master's socket (haproxy -W -S PATH)" % self.master)
        return parse_old_workers(text)

    def reading(self) -> Dict[str, Any]:
        """What each worker has counted until now, by backend: the one that serves, and those that a reload replaced.

        A worker is known by `pid` and `started_at`: a container that starts again gives its processes the same pids.
        `open`: the sessions of its clients. A backend that has counted nothing yet is left out.
        """
        workers = [_worker(self._ask("show info"), self._ask("show stat"), old=False)]
        for pid in self.old_workers():
            info, stat = (self.ask_master("@!%d show %s" % (pid, what)) for what in ("info", "stat"))
            if "Pid:" in info and stat.startswith("# pxname"):  # else it ended since `show proc`
                workers.append(_worker(info, stat, old=True))
        return {"at": time.time(), "workers": workers}

    def old_sessions(self, wanted: Iterable[Key]) -> Dict[Key, int]:
        """How many sessions old workers still carry on the wanted servers; none where there are none."""
        keys = set(wanted)
        found: Dict[Key, int] = {}
        for pid in self.old_workers():
            answer = self.ask_master("@!%d show stat" % pid)
            if not answer.startswith("# pxname"):
                continue  # it ended since `show proc`
            for row in parse_stat(answer):
                key = (row["pxname"], row["svname"])
                count = number(row.get("scur")) + number(row.get("qcur"))
                if key in keys and count:
                    found[key] = found.get(key, 0) + count
        return found

    def close_old_sessions(self, wanted: Iterable[Key]) -> None:
        """Close sessions in old workers one by one: those refuse `shutdown sessions server` ("Proxy is disabled")."""
        keys = set(wanted)
        for pid in self.old_workers():
            for session in parse_sessions(self.ask_master("@!%d show sess" % pid), keys):
                self.ask_master("@!%d shutdown session %s" % (pid, session))

    def _ask(self, command: str) -> str:
        return ask(self.address, command, self.timeout)

    def ask_master(self, command: str) -> str:
        """A master that reloads executes itself anew: for a moment nobody listens on its socket."""
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                return ask(str(self.master), command, self.timeout)
            except Unreachable as error:
                if not isinstance(error.__cause__, ConnectionRefusedError) or time.monotonic() >= deadline:
                    raise
            time.sleep(0.05)


def _worker(info: str, stat: str, old: bool) -> Dict[str, Any]:
    told = parse_info(info)
    rows = parse_stat(stat)
    backends = {row["pxname"]: {key: number(row.get(key)) for key in COUNTED} for row in rows if row["type"] == "1"}
    modes = {row["pxname"]: row.get("mode", "") for row in rows}
    return {
        "pid": number(told.get("Pid")),
        "started_at": number(told.get("Start_time_sec")),
        "old": old,
        "open": sum(number(row.get("scur")) for row in rows if row["type"] == "0"),
        "backends": {name: dict(row, mode=modes[name]) for name, row in backends.items() if any(row.values())},
    }


def counters(row: Mapping[str, str]) -> Dict[str, Any]:
    """HAProxy's counters of one row of `show stat`, under HAProxy's own names; None where the row has none."""
    return {name: (number(row[name]) if row.get(name) else None) for name in COUNTERS}


def configured_servers(text: str) -> Optional[Dict[str, List[str]]]:
    """Backends and their servers as a configuration file names them, or None where that can't be told.

    It can't where servers are made by `server-template`, or sections depend on `.if`.
    """
    backends: Dict[str, List[str]] = {}
    section: Optional[List[str]] = None
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        if words[0] in (".if", "server-template"):
            return None
        if words[0] in ("backend", "listen") and len(words) > 1:
            section = backends.setdefault(words[1], [])
        elif words[0] in _OTHER_SECTIONS:
            section = None
        elif words[0] == "server" and section is not None and len(words) > 1:
            section.append(words[1])
    return backends


_OTHER_SECTIONS = frozenset(
    (
        "global", "defaults", "frontend", "userlist", "peers", "mailers", "resolvers", "cache", "program", "ring",
        "log-forward", "http-errors", "fcgi-app", "crt-store", "log-profile", "traces", "acme",
    )
)  # fmt: skip


SECTIONS = _OTHER_SECTIONS | {"backend", "listen"}
"""The words that a section of a configuration begins with."""


def config_files(path: str) -> List[str]:
    """The file itself, or a folder's *.cfg in the order in which HAProxy reads them. Raises OSError."""
    if not os.path.isdir(path):
        return [path]
    return [os.path.join(path, name) for name in sorted(os.listdir(path)) if name.endswith(".cfg")]
