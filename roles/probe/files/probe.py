# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe: sends requests on a fixed schedule and counts what failed. A program of its own; needs aiohttp.

The loop is open: request number i is due at start + i / rate, whatever the answers to earlier ones do, and its latency
counts from when it was due. A client that waits for one answer before it sends the next request goes quiet during an
outage, and so counts one failure where its users had hundreds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import math
import os
import re
import signal
import stat
import sys
import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

CONNECTIONS = ("new", "keep_alive")
KINDS = ("token_issue", "token_validate", "catalogue", "http")
KEYS = {
    "rate",
    "timeout",
    "duration",
    "retries",
    "retry_delay",
    "idle",
    "start_timeout",
    "directory",
    "tls",
    "identity",
    "requests",
}
REQUEST_KEYS = {
    "name",
    "kind",
    "url",
    "weight",
    "connection",
    "method",
    "headers",
    "body",
    "json",
    "status",
    "contains",
    "identity",
    "slow",
    "version",
}
IDENTITY_KEYS = {"username", "password", "user_domain", "project", "project_domain"}
KEPT_FAILURES = 1000
MOST_BUCKETS = 600
BUCKET_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
RENEW_TOKEN_AFTER = 300.0
SLOW_PIECES = 10
DETAIL_LENGTH = 200

EPILOG = """\
A configuration (YAML, or JSON; mode 0600 if it holds a password):

  rate: 20                    # requests a second, all kinds together
  timeout: 10s                # a client gives up after this long
  duration: 5m                # default: until it is stopped
  retries: 0                  # a request that succeeds on a retry counts as retried, not as failed
  identity: {username: admin, password: secret, user_domain: Default, project: admin, project_domain: Default}
  requests:
    - {kind: token_issue, url: "http://192.0.2.10:5000/v3", weight: 3}
    - {kind: token_validate, url: ["http://lb1:5000/v3", "http://lb2:5000/v3"], weight: 5, connection: keep_alive}
    - {kind: catalogue, url: "http://192.0.2.10:5000/v3", connection: new}
    - {kind: http, name: front, url: "https://www.example.org/", method: GET, status: [200], contains: "Welcome"}
    - {kind: token_issue, name: slow, url: "http://192.0.2.10:5000/v3", slow: 2s}      # the client takes that long
    - {kind: http, name: api, url: "https://www.example.org/", version: '"release": "([^"]+)"'}

Several URLs of one request are asked in turn; without `connection` new and keep-alive connections alternate.

Written beside the configuration (or to its `directory`):
  events.jsonl   one JSON object a line: start, every failure and retry with time, status and reason, stop
  state.json     sent, failed, retried and in_flight while it runs, renewed twice a second
  summary.json   the result, when it stopped

Exit codes: 0 no request failed, 1 some failed, 2 wrong configuration or usage, 3 could not start.
"""


class ConfigurationError(Exception):
    """The configuration is wrong. The text names every wrong key, one a line."""


class StartError(Exception):
    """The probe could not begin: another one runs, or no token could be got."""


def seconds(text: object) -> float:
    """Seconds of a duration such as "500ms", "10s", "1m30s" or "2h". ValueError for anything else, bare numbers too."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    if not isinstance(text, str) or not re.fullmatch(r"(\d+(\.\d+)?(h|ms|m|s))+", text):
        raise ValueError(f"{text!r} is no duration: write a number with its unit, as in 500ms, 10s, 2m or 1h30m")
    return sum(float(number) * units[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s)", text))


@dataclass(frozen=True)
class Identity:
    """Who asks Keystone for a token."""

    username: str
    password: str = field(repr=False)
    user_domain: str = "Default"
    project: str | None = None
    project_domain: str = "Default"

    def body(self) -> dict[str, Any]:
        """The body of POST /v3/auth/tokens."""
        user = {"name": self.username, "password": self.password, "domain": {"name": self.user_domain}}
        auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": user}}}
        if self.project is not None:
            auth["scope"] = {"project": {"name": self.project, "domain": {"name": self.project_domain}}}
        return {"auth": auth}


@dataclass(frozen=True)
class Request:
    """One kind of request. `urls` and `connections` are used in turn; `status` lists the good answers.

    `slow`: the seconds that a client takes to send the body. `version`: a regular expression whose group is the version
    that an answer's body came from.
    """

    name: str
    kind: str
    urls: tuple[str, ...]
    connections: tuple[str, ...] = CONNECTIONS
    weight: int = 1
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = field(default=None, repr=False)
    json: Any = field(default=None, repr=False)
    status: tuple[int, ...] = (200,)
    contains: str | None = None
    identity: Identity | None = None
    slow: float = 0.0
    version: str | None = None

    def way(self, number: int) -> tuple[str, str]:
        """The URL and the connection of this kind's request `number`: every pair comes up equally often."""
        url = self.urls[number % len(self.urls)]
        return url, self.connections[number // len(self.urls) % len(self.connections)]


@dataclass(frozen=True)
class Configuration:
    """What the probe does; all times in seconds."""

    requests: tuple[Request, ...]
    rate: float
    timeout: float
    directory: Path
    duration: float | None = None
    retries: int = 0
    retry_delay: float = 0.1
    idle: float = 5.0
    start_timeout: float = 60.0
    ca: str | None = None
    verify: bool = True


class _Reader:
    """Reads keys from a mapping and keeps every complaint, so that all of them are told at once."""

    def __init__(self, data: Mapping[str, Any], path: str, problems: list[str], known: set[str]) -> None:
        self.data, self.path, self.problems = data, path, problems
        for key in data:
            if key not in known:
                self.complain(str(key), f"unknown key; known are {', '.join(sorted(known))}")

    def complain(self, key: str, text: str) -> None:
        self.problems.append(f"{self.path}{key}: {text}")

    def duration(self, key: str, default: float | None) -> float | None:
        if key not in self.data:
            return default
        try:
            return seconds(self.data[key])
        except ValueError as error:
            self.complain(key, str(error))
            return default

    def number(self, key: str, default: float, *, least: float, whole: bool = False) -> float:
        value = self.data.get(key, default)
        wrong = isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or value < least
        if wrong:
            what = "whole number" if whole else "number"
            self.complain(key, f"{value!r} is no {what} of at least {least:g}")
            return default
        return float(value)

    def text(self, key: str, default: str | None = None) -> str | None:
        value = self.data.get(key, default)
        if value is not None and not isinstance(value, str):
            self.complain(key, f"{value!r} is no text")
            return default
        return value

    def pattern(self, key: str, groups: int = 0) -> str | None:
        text = self.text(key)
        if text is not None:
            try:
                if re.compile(text).groups < groups:
                    self.complain(key, f"{text!r} has no group in parentheses")
            except re.error as error:
                self.complain(key, f"{text!r} is no regular expression: {error}")
        return text

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.data.get(key)
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not values or not all(isinstance(one, str) and one for one in values):
            self.complain(key, "must be a text or a list of texts")
            return ()
        return tuple(values)


def _identity(data: object, path: str, problems: list[str]) -> Identity | None:
    if data is None:
        return None
    if not isinstance(data, Mapping):
        problems.append(f"{path}: must be a mapping with username and password")
        return None
    reader = _Reader(data, f"{path}.", problems, IDENTITY_KEYS)
    for key in ("username", "password"):
        if not isinstance(data.get(key), str):
            reader.complain(key, "must be a text")
    return Identity(
        username=str(data.get("username")),
        password=str(data.get("password")),
        user_domain=reader.text("user_domain", "Default") or "Default",
        project=reader.text("project"),
        project_domain=reader.text("project_domain", "Default") or "Default",
    )


def _request(data: object, index: int, default: Identity | None, problems: list[str]) -> Request | None:
    path = f"requests[{index}]"
    if not isinstance(data, Mapping):
        problems.append(f"{path}: must be a mapping with kind and url")
        return None
    before = len(problems)
    reader = _Reader(data, f"{path}.", problems, REQUEST_KEYS)
    kind = data.get("kind", "http")
    if kind not in KINDS:
        reader.complain("kind", f"{kind!r} is unknown; known are {', '.join(KINDS)}")
    identity = _identity(data.get("identity"), f"{path}.identity", problems) or default
    if kind in KINDS and kind != "http" and identity is None:
        reader.complain("identity", f"{kind} needs an identity, here or at the top")
    connection = data.get("connection")
    if connection not in (None, *CONNECTIONS):
        reader.complain("connection", f"{connection!r} is unknown; known are {', '.join(CONNECTIONS)}")
    status = data.get("status", [201] if kind == "token_issue" else [200])
    if (
        not isinstance(status, list)
        or not status
        or not all(isinstance(code, int) and not isinstance(code, bool) for code in status)
    ):
        reader.complain("status", "must be a list of numbers, as in [200, 204]")
    headers = data.get("headers", {})
    if not isinstance(headers, Mapping) or not all(isinstance(value, str) for value in headers.values()):
        reader.complain("headers", "must be a mapping of texts")
    contains = reader.pattern("contains")
    version = reader.pattern("version", groups=1)
    urls = reader.texts("url")
    weight = int(reader.number("weight", 1, least=1, whole=True))
    name = reader.text("name", str(kind)) or str(kind)
    method = reader.text("method", "GET") or "GET"
    body = reader.text("body")
    slow = reader.duration("slow", 0.0) or 0.0
    if slow and (kind not in ("token_issue", "http") or (kind == "http" and method.upper() != "POST")):
        reader.complain("slow", "is for token_issue, and for http with the method POST and a body")
    if len(problems) > before:
        return None
    return Request(
        name=name,
        kind=str(kind),
        urls=tuple(url.rstrip("/") if kind != "http" else url for url in urls),
        connections=CONNECTIONS if connection is None else (connection,),
        weight=weight,
        method=method.upper(),
        headers=dict(headers),
        body=body,
        json=data.get("json"),
        status=tuple(status),
        contains=contains,
        identity=identity,
        slow=slow,
        version=version,
    )


def configuration(data: object, *, folder: Path) -> Configuration:
    """The configuration in `data`; `folder` is what a relative `directory` counts from.

    Raises ConfigurationError that names every wrong key.
    """
    if not isinstance(data, Mapping):
        raise ConfigurationError("the configuration must be a mapping with at least `requests`")
    problems: list[str] = []
    reader = _Reader(data, "", problems, KEYS)
    identity = _identity(data.get("identity"), "identity", problems)
    raw = data.get("requests")
    if not isinstance(raw, list) or not raw:
        reader.complain("requests", "must be a list of at least one request")
        raw = []
    requests = [_request(one, index, identity, problems) for index, one in enumerate(raw)]
    names = [request.name for request in requests if request is not None]
    for name in sorted({name for name in names if names.count(name) > 1}):
        reader.complain("requests", f"two are named {name}: give each a `name` of its own")
    tls = data.get("tls", {})
    if not isinstance(tls, Mapping):
        reader.complain("tls", "must be a mapping with `ca` (a file) or `verify` (true or false)")
        tls = {}
    tls_reader = _Reader(tls, "tls.", problems, {"ca", "verify"})
    if not isinstance(tls.get("verify", True), bool):
        tls_reader.complain("verify", "must be true or false")
    rate = reader.number("rate", 10, least=0.001)
    made = Configuration(
        requests=tuple(request for request in requests if request is not None),
        rate=rate,
        timeout=reader.duration("timeout", 10.0) or 10.0,
        directory=folder / (reader.text("directory", ".") or "."),
        duration=reader.duration("duration", None),
        retries=int(reader.number("retries", 0, least=0, whole=True)),
        retry_delay=reader.duration("retry_delay", 0.1) or 0.0,
        idle=reader.duration("idle", 5.0) or 5.0,
        start_timeout=reader.duration("start_timeout", 60.0) or 60.0,
        ca=tls_reader.text("ca"),
        verify=tls.get("verify", True) is True,
    )
    if problems:
        raise ConfigurationError("\n".join(problems))
    return made


def read_configuration(path: Path) -> Configuration:
    """The configuration in a file. Raises ConfigurationError; also where others may read a file that holds secrets."""
    try:
        text = path.read_text(encoding="utf-8")
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    try:
        data = json.loads(text)
    except ValueError:
        try:
            import yaml
        except ImportError as error:
            raise ConfigurationError(f"{path}: is no JSON, and reading YAML needs PyYAML") from error
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigurationError(f"{path}: {error}") from error
    made = configuration(data, folder=path.resolve().parent)
    secret = any(request.identity is not None for request in made.requests)
    if secret and stat.S_IMODE(mode) & 0o077:
        raise ConfigurationError(f"{path}: holds a password and others may read it: chmod 600 {path}")
    return made


def turns(weights: Sequence[int]) -> Iterator[int]:
    """Indexes for ever, each as often as its weight says, spread as evenly as can be (smooth weighted round robin)."""
    credit = [0] * len(weights)
    total = sum(weights)
    while True:
        credit = [have + weight for have, weight in zip(credit, weights, strict=True)]
        chosen = max(range(len(weights)), key=lambda index: (credit[index], -index))
        credit[chosen] -= total
        yield chosen


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of the sorted values do not exceed; None of no values."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def proof(finished: int, failed: int) -> dict[str, Any]:
    """What the count proves about the true rate of failures, at 95 %."""
    if finished == 0:
        return {"confidence": 0.95, "failure_rate_below": None, "text": "No request was sent: nothing is proven."}
    if failed:
        text = f"{failed} of {finished} requests failed: {failed / finished:.2%}."
        return {"confidence": 0.95, "failure_rate_below": None, "text": text}
    bound = min(1.0, 3 / finished)
    text = (
        f"{finished} requests without a failure prove, at 95 % confidence, only that fewer than"
        f" {bound:.2g} of all requests fail (3/n); they don't prove that none does."
    )
    return {"confidence": 0.95, "failure_rate_below": bound, "text": text}


@dataclass
class Count:
    """Figures of one kind of request, or of all."""

    sent: int = 0
    failed: int = 0
    retried: int = 0
    latencies: array[float] = field(default_factory=lambda: array("d"))
    versions: Counter[str] = field(default_factory=Counter)

    def figures(self) -> dict[str, Any]:
        ordered = sorted(self.latencies)

        def milliseconds(value: float | None) -> float | None:
            return None if value is None else round(value * 1000, 1)

        return {
            "sent": self.sent,
            "failed": self.failed,
            "retried": self.retried,
            "latency_ms": {
                "p50": milliseconds(percentile(ordered, 0.5)),
                "p99": milliseconds(percentile(ordered, 0.99)),
                "max": milliseconds(ordered[-1] if ordered else None),
            },
            **({"versions": dict(sorted(self.versions.items()))} if self.versions else {}),
        }


class Tally:
    """Counts what became of the requests. Knows no clock: the times (seconds of one clock) come in as arguments."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.total = Count()
        self.kinds: dict[str, Count] = {}
        self.seconds: dict[int, Count] = {}
        self.in_flight = 0
        self.failures: list[dict[str, Any]] = []
        self.last_due = began
        self.last_success = began
        self.longest_gap = 0.0
        self.gap_began = began
        self.lateness = 0.0

    def sent(self, name: str, due: float, now: float) -> None:
        """A request that was due at `due` goes out `now`."""
        self.in_flight += 1
        self.total.sent += 1
        self.kinds.setdefault(name, Count()).sent += 1
        self._second(due).sent += 1
        self.last_due = max(self.last_due, due)
        self.lateness = max(self.lateness, now - due)

    def ended(
        self,
        name: str,
        due: float,
        now: float,
        *,
        failure: dict[str, Any] | None,
        retried: bool,
        version: str | None = None,
    ) -> None:
        """A request ended `now`: with a failure, or well (`retried`: only after more than one try)."""
        self.in_flight -= 1
        for count in (self.total, self.kinds[name], self._second(due)):
            if version is not None:
                count.versions[version] += 1
            count.latencies.append(now - due)
            count.failed += failure is not None
            count.retried += retried
        if failure is None:
            self._gap(now)
            self.last_success = max(self.last_success, now)
        elif len(self.failures) < KEPT_FAILURES:
            self.failures.append(failure)

    def _second(self, due: float) -> Count:
        # Rounded, for the sum of a clock and a fraction falls just short of the whole second every now and then.
        return self.seconds.setdefault(int(round(due - self.began, 6)), Count())

    def over_time(self) -> dict[str, Any]:
        """The figures by when requests were due: equally wide buckets, of one second while these are not too many."""
        until = max(self.seconds, default=-1) + 1
        wide = next((width for width in BUCKET_SECONDS if until <= width * MOST_BUCKETS), -(-until // MOST_BUCKETS))
        buckets = [Count() for _unused in range(-(-until // wide))]
        for second, count in self.seconds.items():
            bucket = buckets[second // wide]
            bucket.sent += count.sent
            bucket.failed += count.failed
            bucket.retried += count.retried
            bucket.latencies.extend(count.latencies)
            bucket.versions.update(count.versions)
        rows = [{"after_seconds": number * wide, **bucket.figures()} for number, bucket in enumerate(buckets)]
        return {"bucket_seconds": wide, "buckets": rows}

    def _gap(self, until: float) -> None:
        if until - self.last_success > self.longest_gap:
            self.longest_gap, self.gap_began = until - self.last_success, self.last_success

    def live(self) -> dict[str, int]:
        total = self.total
        return {
            "sent": total.sent,
            "failed": total.failed,
            "retried": total.retried,
            "succeeded": len(total.latencies) - total.failed,
            "in_flight": self.in_flight,
        }

    def summary(self) -> dict[str, Any]:
        self._gap(self.last_due)
        figures = self.total.figures()
        return {
            **figures,
            "longest_gap_seconds": round(self.longest_gap, 3),
            "longest_gap_began_after_seconds": round(self.gap_began - self.began, 3),
            "probe_late_ms": round(self.lateness * 1000, 1),
            "proves": proof(len(self.total.latencies), self.total.failed),
            "kinds": {name: count.figures() for name, count in sorted(self.kinds.items())},
            "over_time": self.over_time(),
            "failures": self.failures,
            "failures_left_out": self.total.failed - len(self.failures),
        }


def write_whole(path: Path, data: Mapping[str, Any]) -> None:
    """Replaces a JSON file so that a reader sees the old one or the new one, never a part."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class _Failed(Exception):
    """One try failed."""

    def __init__(self, reason: str, status: int | None = None, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.status, self.detail = reason, status, detail


@dataclass
class _Course:
    """What one try came through: how many connections it took, and the version that answered."""

    taken: int = 0
    version: str | None = None


async def _slowly(data: bytes, span: float) -> AsyncIterator[bytes]:
    """The data in equal pieces, the last one after `span` seconds."""
    size = max(1, math.ceil(len(data) / SLOW_PIECES))
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    for piece in pieces:
        await asyncio.sleep(span / len(pieces))
        yield piece


class Probe:
    """Sends the requests of a configuration until its duration is over or `stop` is set."""

    def __init__(self, config: Configuration, events: TextIO) -> None:
        self.config = config
        self.events = events
        self.stop = asyncio.Event()
        self.tokens: dict[tuple[Identity, str], tuple[str, float]] = {}
        self._used: dict[str, int] = {}
        self._clock: Callable[[], float] = asyncio.get_running_loop().time
        # Wall-clock steps (NTP) must not bend the schedule: only the monotonic clock is read, once tied to the wall's.
        self._wall = time.time() - self._clock()
        self.tally = Tally(self._clock())

    def at(self, moment: float) -> str:
        text = datetime.fromtimestamp(moment + self._wall, UTC).isoformat(timespec="milliseconds")
        return text.replace("+00:00", "Z")

    def event(self, what: str, **values: Any) -> None:
        self.events.write(json.dumps({"at": self.at(self._clock()), "event": what, **values}) + "\n")
        self.events.flush()

    def state(self, *, running: bool = True) -> dict[str, Any]:
        return {
            "running": running,
            "pid": os.getpid(),
            "began": self.at(self.tally.began),
            "updated": self.at(self._clock()),
            **self.tally.live(),
            "last_failure": self.tally.failures[-1] if self.tally.failures else None,
        }

    async def run(self) -> dict[str, Any]:
        """Runs to the end and returns the summary. Raises StartError if no token can be got to begin with."""
        import aiohttp

        # aiohttp retries idempotent requests by itself where a kept connection was closed. Users' clients do so too,
        # but it has to be counted: each take of a connection is noted in the request's own course.
        async def taken(session: object, context: Any, params: object) -> None:
            context.trace_request_ctx.taken += 1

        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(taken)
        trace.on_connection_reuseconn.append(taken)
        timeout = aiohttp.ClientTimeout(total=self.config.timeout)
        ssl: Any = self.config.verify
        if self.config.ca is not None:
            import ssl as tls

            ssl = tls.create_default_context(cafile=self.config.ca)
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True, ssl=ssl),
                timeout=timeout,
                trace_configs=[trace],
            ) as new,
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=self.config.idle, ssl=ssl),
                timeout=timeout,
                trace_configs=[trace],
            ) as kept,
        ):
            self.sessions = {"new": new, "keep_alive": kept}
            await self._first_tokens()
            return await self._schedule()

    async def _first_tokens(self) -> None:
        deadline = self._clock() + self.config.start_timeout
        for request in self.config.requests:
            if request.kind not in ("token_validate", "catalogue") or request.identity is None:
                continue
            for url in request.urls:
                while (request.identity, url) not in self.tokens and not self.stop.is_set():
                    try:
                        await self._issue(request.identity, url, "new", (201,), _Course())
                    except _Failed as failure:
                        if self._clock() > deadline:
                            raise StartError(f"no token from {url}: {failure.reason}") from failure
                        await self._rest(0.5)

    async def _rest(self, delay: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stop.wait(), max(0.0, delay))

    async def _schedule(self) -> dict[str, Any]:
        self.tally = Tally(self._clock())
        began, rate = self.tally.began, self.config.rate
        self.event("start", rate=rate, kinds=[request.name for request in self.config.requests])
        keeper = asyncio.create_task(self._keep_tokens())
        running: set[asyncio.Task[None]] = set()
        last = math.inf if self.config.duration is None else round(self.config.duration * rate)
        for number, index in enumerate(turns([request.weight for request in self.config.requests])):
            due = began + number / rate
            if number >= last:
                await self._rest(due - self._clock())
                break
            wait = due - self._clock()
            if wait > 0:
                await self._rest(wait)
            elif number % 50 == 0:
                await asyncio.sleep(0)
            if self.stop.is_set():
                break
            request = self.config.requests[index]
            used = self._used[request.name] = self._used.get(request.name, -1) + 1
            self.tally.sent(request.name, due, self._clock())
            task = asyncio.create_task(self._send(request, due, *request.way(used)))
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running)
        keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeper
        summary = {
            "schema": 1,
            "began": self.at(began),
            "ended": self.at(self._clock()),
            "seconds": round(self._clock() - began, 3),
            "rate": rate,
            **self.tally.summary(),
        }
        self.event("stop", sent=summary["sent"], failed=summary["failed"], retried=summary["retried"])
        return summary

    async def _keep_tokens(self) -> None:
        while True:
            await asyncio.sleep(1)
            for (identity, url), (_token, got) in list(self.tokens.items()):
                if self._clock() - got > RENEW_TOKEN_AFTER:
                    with contextlib.suppress(_Failed):
                        await self._issue(identity, url, "new", (201,), _Course())

    async def _send(self, request: Request, due: float, url: str, connection: str) -> None:
        failure: dict[str, Any] | None = None
        retried = False
        for attempt in range(self.config.retries + 1):
            course = _Course()
            try:
                await self._try(request, url, connection, course)
                failure = None
            except _Failed as failed:
                now = self._clock()
                failure = {
                    "at": self.at(now),
                    "request": request.name,
                    "url": url,
                    "connection": connection,
                    "status": failed.status,
                    "reason": failed.reason,
                    "detail": failed.detail,
                    "due": self.at(due),
                    "latency_ms": round((now - due) * 1000, 1),
                }
            if course.taken > 1:
                retried = True
                self.event("retried", request=request.name, url=url, reason="the kept connection was closed")
            if failure is None:
                break
            if attempt < self.config.retries:
                retried = True
                self.event("retried", **{key: value for key, value in failure.items() if key != "at"})
                await self._rest(self.config.retry_delay)
        if failure is not None:
            self.event("failed", **{key: value for key, value in failure.items() if key != "at"})
        self.tally.ended(
            request.name,
            due,
            self._clock(),
            failure=failure,
            retried=retried and failure is None,
            version=course.version,
        )

    async def _try(self, request: Request, url: str, connection: str, course: _Course) -> None:
        identity = request.identity
        if request.kind == "http" or identity is None:
            await self._call(
                request.method,
                url,
                connection,
                request.status,
                course,
                headers=request.headers,
                data=request.body,
                json_body=request.json,
                contains=request.contains,
                version=request.version,
                slow=request.slow,
            )
            return
        if request.kind == "token_issue":
            await self._issue(identity, url, connection, request.status, course, request.slow)
            return
        token = self.tokens[(identity, url)][0]
        headers = {**request.headers, "X-Auth-Token": token}
        if request.kind == "token_validate":
            headers["X-Subject-Token"] = token
        path = "/auth/tokens" if request.kind == "token_validate" else "/auth/catalog"
        await self._call(
            "GET", url + path, connection, request.status, course, headers=headers, contains=request.contains
        )

    async def _issue(
        self,
        identity: Identity,
        url: str,
        connection: str,
        status: tuple[int, ...],
        course: _Course,
        slow: float = 0.0,
    ) -> None:
        headers = await self._call(
            "POST", url + "/auth/tokens", connection, status, course, json_body=identity.body(), slow=slow
        )
        token = headers.get("X-Subject-Token")
        if not token:
            raise _Failed("the answer carries no token")
        self.tokens[(identity, url)] = (token, self._clock())

    async def _call(
        self,
        method: str,
        url: str,
        connection: str,
        status: tuple[int, ...],
        course: _Course,
        *,
        headers: Mapping[str, str] | None = None,
        data: str | None = None,
        json_body: Any = None,
        contains: str | None = None,
        version: str | None = None,
        slow: float = 0.0,
    ) -> Mapping[str, str]:
        import aiohttp

        body: dict[str, Any] = {"data": data} if json_body is None else {"json": json_body}
        if slow:
            sent = (data or "" if json_body is None else json.dumps(json_body)).encode()
            kind = {} if json_body is None else {"Content-Type": "application/json"}
            # With its length told beforehand: not every server takes a body in chunks.
            headers = {**kind, **(headers or {}), "Content-Length": str(len(sent))}
            body = {"data": _slowly(sent, slow)}
        try:
            async with self.sessions[connection].request(
                method, url, headers=headers, allow_redirects=False, trace_request_ctx=course, **body
            ) as answer:
                text = await answer.text(errors="replace")
                if version is not None and (match := re.search(version, text)):
                    course.version = match.group(1)
                if answer.status not in status:
                    wanted = " or ".join(str(code) for code in status)
                    raise _Failed(f"status {answer.status}, not {wanted}", answer.status, text[:DETAIL_LENGTH])
                if contains is not None and not re.search(contains, text):
                    raise _Failed(f"the body does not match {contains!r}", answer.status)
                return answer.headers
        except TimeoutError as error:
            raise _Failed(f"no answer within {self.config.timeout:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _Failed(f"{type(error).__name__}: {error}") from error


class _Lock:
    """Held while a probe runs in a directory: tells whether one does, and outlives no process."""

    def __init__(self, directory: Path) -> None:
        self.file = (directory / "lock").open("a+")

    def take(self) -> bool:
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def close(self) -> None:
        self.file.close()


async def _run(config: Configuration) -> dict[str, Any]:
    directory = config.directory
    with (directory / "events.jsonl").open("w", encoding="utf-8") as events:
        probe = Probe(config, events)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, probe.stop.set)
        work = asyncio.create_task(probe.run())
        try:
            while not work.done():
                if (directory / "stop").exists():
                    probe.stop.set()
                if probe.tally.total.sent:
                    write_whole(directory / "state.json", probe.state())
                await asyncio.wait({work}, timeout=0.5 if probe.tally.total.sent else 0.05)
            summary = await work
        finally:
            write_whole(directory / "state.json", probe.state(running=False))
    write_whole(directory / "summary.json", summary)
    return summary


def run(config: Configuration) -> dict[str, Any]:
    """Runs a probe in this process until it is stopped or done, and returns its summary. Raises StartError."""
    config.directory.mkdir(parents=True, exist_ok=True)
    lock = _Lock(config.directory)
    try:
        if not lock.take():
            raise StartError(f"a probe already runs in {config.directory}: stop it first, or give another directory")
        for name in ("stop", "state.json", "summary.json", "error"):
            (config.directory / name).unlink(missing_ok=True)
        try:
            return asyncio.run(_run(config))
        except StartError as error:
            (config.directory / "error").write_text(f"{error}\n", encoding="utf-8")
            raise
    finally:
        lock.close()


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON file's mapping, or None where there is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def start(config: Configuration, path: Path) -> dict[str, Any]:
    """Starts a probe in the background; returns its live state once its first request is out. Raises StartError."""
    import subprocess

    directory = config.directory
    directory.mkdir(parents=True, exist_ok=True)
    lock = _Lock(directory)
    try:
        if not lock.take():
            raise StartError(f"a probe already runs in {directory}: stop it first, or give another directory")
        # The child of an earlier start must not be mistaken for this one.
        for name in ("state.json", "error"):
            (directory / name).unlink(missing_ok=True)
    finally:
        lock.close()
    with (directory / "probe.log").open("w", encoding="utf-8") as log:
        child = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "run", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    while True:
        state = read_json(directory / "state.json")
        if state is not None and state["running"] and state["pid"] == child.pid:
            return state
        if child.poll() is not None:
            if child.returncode in (0, 1) and (directory / "summary.json").exists():
                return state or {}
            said = (directory / "probe.log").read_text(encoding="utf-8").strip()
            raise StartError(said or f"the probe ended with exit code {child.returncode}")
        time.sleep(0.05)


def stop(config: Configuration) -> dict[str, Any]:
    """Stops the probe of a directory and returns its summary. Raises StartError where none ran."""
    directory = config.directory
    if not directory.exists():
        raise StartError(f"no probe ever ran in {directory}")
    lock = _Lock(directory)
    try:
        while not lock.take():
            (directory / "stop").touch()
            time.sleep(0.1)
    finally:
        lock.close()
    (directory / "stop").unlink(missing_ok=True)
    summary = read_json(directory / "summary.json")
    if summary is None:
        raise StartError(f"the probe of {directory} left no summary: see {directory / 'probe.log'} and state.json")
    return summary


def status(config: Configuration) -> dict[str, Any]:
    """The live state, or the last one; `running` says whether a probe really runs. Raises StartError where none ran."""
    state = read_json(config.directory / "state.json")
    if state is None:
        raise StartError(f"no probe ran in {config.directory}")
    lock = _Lock(config.directory)
    try:
        state["running"] = not lock.take()
    finally:
        lock.close()
    return state


def page(summary: Mapping[str, Any]) -> str:
    """A summary as text."""

    def milliseconds(value: float | None) -> str:
        return "-" if value is None else f"{value:g} ms"

    latency = summary["latency_ms"]
    lines = [
        f"sent {summary['sent']}, failed {summary['failed']}, retried {summary['retried']}"
        f" in {summary['seconds']:.1f} s at {summary['rate']:g} requests a second",
        "latency since due: " + ", ".join(f"{name} {milliseconds(latency[name])}" for name in ("p50", "p99", "max")),
        f"longest gap without a success: {summary['longest_gap_seconds']:.2f} s",
        summary["proves"]["text"],
    ]
    width = max((len(name) for name in summary["kinds"]), default=0)
    for name, count in summary["kinds"].items():
        lines.append(
            f"  {name:<{width}}  sent {count['sent']}, failed {count['failed']}, retried {count['retried']},"
            f" p50 {milliseconds(count['latency_ms']['p50'])}, p99 {milliseconds(count['latency_ms']['p99'])}"
        )
    for failure in summary["failures"][:10]:
        lines.append(
            f"  failed {failure['at']} {failure['request']} {failure['url']} ({failure['connection']}):"
            f" {failure['reason']}"
        )
    if summary["failed"] > 10:
        lines.append(f"  and {summary['failed'] - 10} more: see events.jsonl")
    return "\n".join(lines)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="probe.py",
        description="Send requests on a fixed schedule, whatever the answers do, and count what failed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("run", "run until the duration is over, or SIGTERM, SIGINT or the file `stop` in its directory"),
        ("start", "run in the background; returns when the first request is out"),
        ("status", "print the live counts as JSON"),
        ("stop", "stop it, wait for the last answers, and print the result"),
    ):
        command = commands.add_parser(name, help=text, description=text.capitalize() + ".")
        command.add_argument("configuration", type=Path, metavar="FILE", help="the configuration, YAML or JSON")
        if name in ("run", "stop"):
            command.add_argument("--json", action="store_true", help="print the summary as JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments().parse_args(argv)
    try:
        config = read_configuration(options.configuration)
        if options.command == "start":
            say(json.dumps(start(config, options.configuration.resolve())))
            return 0
        if options.command == "status":
            say(json.dumps(status(config)))
            return 0
        summary = run(config) if options.command == "run" else stop(config)
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except StartError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    say(json.dumps(summary) if options.json else page(summary))
    return 1 if summary["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
