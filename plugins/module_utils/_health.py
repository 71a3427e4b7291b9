# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a service is healthy, asked of the service itself: by HTTP, by TCP, by a command.

`Watch` is the pure part: it is told what each attempt saw and when, and says whether to go on. `wait` feeds it. The
checks are functions of a timeout that return None or what is wrong, in words.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit

from ansible.module_utils.urls import open_url

JMESPATH_IMPORT_ERROR: Optional[str]
try:
    import jmespath
except ImportError:
    JMESPATH_IMPORT_ERROR = traceback.format_exc()
else:
    JMESPATH_IMPORT_ERROR = None

LARGEST_BODY = 1 << 20  # bytes
SHORTEST_SECRET = 4  # characters; hiding a shorter one would hide numbers in the result
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

# Every other header may hold a secret.
HARMLESS_HEADERS = frozenset(
    [
        "accept",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "connection",
        "content-type",
        "forwarded",
        "host",
        "origin",
        "range",
        "referer",
        "user-agent",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-openstack-request-id",
        "x-request-id",
    ]
)

Check = Callable[[float], Optional[str]]


class HealthProblem(Exception):
    """A check that is no check: what is wrong with it, and what would be right."""


def seconds(text: Any, key: str) -> float:
    """Seconds of a duration such as 10s, 1m30s or 500ms; a bare number is taken for seconds."""
    words = str(text).strip()
    if re.fullmatch(r"\d+(\.\d+)?", words):
        return float(words)
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h))+", words):
        raise HealthProblem('{0}: "{1}" is no duration; right would be "10s", "1m30s" or "500ms"'.format(key, text))
    return sum(float(number) * UNITS[unit] for number, _fraction, unit in re.findall(r"(\d+(\.\d+)?)(ms|s|m|h)", words))


class Watch:
    """Healthy once no attempt has failed for `min_healthy_time`; given up at `healthy_deadline`.

    Args:
        began: the clock's value, in seconds, when the waiting began.
        min_healthy_time: seconds.
        healthy_deadline: seconds, which include `min_healthy_time`.
    """

    def __init__(self, began: float, min_healthy_time: float, healthy_deadline: float) -> None:
        self.min_healthy_time = min_healthy_time
        self.until = began + healthy_deadline
        self.attempts = 0
        self.failures = 0
        self.last_failure: Optional[str] = None
        self.healthy_since: Optional[float] = None

    def saw(self, begun: float, ended: float, failure: Optional[str]) -> Optional[bool]:
        """Take note of one attempt.

        Args:
            begun: when it was begun: what failed then was not healthy before it.
            ended: when its answer was there.
            failure: None, or what was wrong.

        Returns:
            True: healthy for long enough. False: out of time. None: ask again.
        """
        self.attempts += 1
        if failure is not None:
            self.failures += 1
            self.last_failure = failure
            self.healthy_since = None
        elif self.healthy_since is None:
            self.healthy_since = ended
        if self.healthy_since is not None and begun - self.healthy_since >= self.min_healthy_time:
            return True
        if self.healthy_since is not None and not self.min_healthy_time:
            return True
        return False if ended >= self.until else None


def wait(
    check: Check,
    watch: Watch,
    interval: float,
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Ask until the watch has seen enough. One attempt is always made, and none lasts longer than `timeout` seconds."""
    while True:
        begun = clock()
        failure = check(timeout)
        verdict = watch.saw(begun, clock(), failure)
        if verdict is not None:
            return verdict
        sleep(max(0.0, min(begun + interval - clock(), watch.until - clock())))


# ---------------------------------------------------------------------------------------------------------------------
# Secrets


def secrets(url: Optional[str], headers: Mapping[str, Any]) -> set[str]:
    """What must never be shown of a URL and of headers."""
    found = set()
    password = urlsplit(url).password if url else None
    if password:
        found |= {password, unquote(password)}
    for name, value in headers.items():
        if name.lower() not in HARMLESS_HEADERS:
            found |= {str(value), str(value).split(" ", 1)[-1]}
    return {secret for secret in found if len(secret) >= SHORTEST_SECRET}


def harmless(headers: Mapping[str, Any]) -> set[str]:
    """Values of headers that may be shown: hiding them would hide the same words everywhere else."""
    return {
        str(value)
        for name, value in headers.items()
        if name.lower() in HARMLESS_HEADERS or len(str(value)) < SHORTEST_SECRET
    }


def without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1]).geturl()


# ---------------------------------------------------------------------------------------------------------------------
# The checks


def http_check(
    url: str,
    *,
    method: str = "GET",
    status: Sequence[int] = (200,),
    headers: Optional[Mapping[str, Any]] = None,
    body: Optional[str] = None,
    json_expression: Optional[str] = None,
    validate_certs: bool = True,
    ca_path: Optional[str] = None,
) -> Check:
    """A check that asks a URL directly, through no proxy, and follows no redirect.

    Args:
        url: the URL, possibly with user and password.
        method: the HTTP method.
        status: the status codes that are right.
        headers: headers to send.
        body: a regular expression that must be found in the body.
        json_expression: a JMESPath expression that must be true (neither false, null, nor empty) of the JSON body.
        validate_certs: check the server's certificate.
        ca_path: file of the certificate authorities to trust.

    Raises:
        HealthProblem: URL or an expression is wrong.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise HealthProblem(
            'http: "{0}" is no URL; right would be "http://192.0.2.1:5000/healthcheck"'.format(without_password(url))
        )
    try:
        pattern = re.compile(body) if body else None
    except re.error as error:
        raise HealthProblem('body: "{0}" is no regular expression: {1}'.format(body, error)) from error
    try:
        expression = jmespath.compile(json_expression) if json_expression else None
    except jmespath.exceptions.JMESPathError as error:
        raise HealthProblem('json: "{0}" is no JMESPath expression: {1}'.format(json_expression, error)) from error
    shown = without_password(url)

    def check(timeout: float) -> Optional[str]:
        try:
            answer = open_url(
                url,
                method=method,
                headers={name: str(value) for name, value in (headers or {}).items()},
                timeout=timeout,
                use_proxy=False,
                follow_redirects="none",
                force_basic_auth=True,
                validate_certs=validate_certs,
                ca_path=ca_path,
                http_agent="rondo.upgrade",
            )
        except HTTPError as error:  # any status but 2xx, which may be the right one
            answer = error
        except Exception as error:
            # open_url raises whatever urllib, http.client, ssl and socket do; each means that there was no answer.
            return "{0} {1}: no answer: {2}".format(method, shown, getattr(error, "reason", None) or error)
        try:
            with answer:
                code, content = answer.code, answer.read(LARGEST_BODY)
        except (OSError, ValueError) as error:
            return "{0} {1}: its answer broke off: {2}".format(method, shown, error)
        except Exception as error:  # http.client.HTTPException is not an OSError
            return "{0} {1}: its answer broke off: {2!r}".format(method, shown, error)
        wrong = _wrong_answer(code, content, status, pattern, json_expression, expression)
        return "{0} {1}: {2}".format(method, shown, wrong) if wrong else None

    return check


def _wrong_answer(
    code: int,
    content: bytes,
    status: Sequence[int],
    pattern: Optional[re.Pattern[str]],
    json_expression: Optional[str],
    expression: Any,
) -> Optional[str]:
    if code not in status:
        return "status {0}, not {1}".format(code, " or ".join(str(one) for one in status))
    if pattern and not pattern.search(content.decode("utf-8", "replace")):
        return 'status {0}, but "{1}" is not found in its body of {2} bytes'.format(code, pattern.pattern, len(content))
    if expression is not None:
        try:
            value = expression.search(json.loads(content))
        except ValueError as error:
            return "status {0}, but its body is no JSON: {1}".format(code, error)
        except jmespath.exceptions.JMESPathError as error:
            return 'status {0}, but "{1}" fails on its body: {2}'.format(code, json_expression, error)
        if value is False or (not value and value != 0):
            return 'status {0}, but "{1}" is {2} in its body'.format(code, json_expression, json.dumps(value))
    return None


def tcp_check(address: str) -> Check:
    """A check that opens a TCP connection to HOST:PORT, or [IPV6]:PORT.

    Raises:
        HealthProblem: no such address.
    """
    match = re.fullmatch(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\s]+)):(?P<port>\d{1,5})", address)
    if not match or not 0 < int(match.group("port")) < 65536:
        raise HealthProblem(
            'tcp: "{0}" is no address; right would be "192.0.2.1:3306" or "[2001:db8::1]:3306"'.format(address)
        )
    host, port = match.group("v6") or match.group("host"), int(match.group("port"))

    def check(timeout: float) -> Optional[str]:
        try:
            socket.create_connection((host, port), timeout).close()
        except OSError as error:
            return "tcp {0}: no connection: {1}".format(address, error)
        return None

    return check


def command_check(command: Any) -> Check:
    """A check that runs a command, without a shell, and takes exit code 0 for healthy.

    Args:
        command: a list of words, or a text that is split into words.

    Raises:
        HealthProblem: no command.
    """
    try:
        split = shlex.split(command) if isinstance(command, str) else command
    except ValueError as error:
        raise HealthProblem("command: can't be split into words: {0}".format(error)) from error
    if not isinstance(split, list) or not split:
        raise HealthProblem('command: is no command; right would be a text, or words such as ["pgrep", "memcached"]')
    words = [str(word) for word in split]

    def check(timeout: float) -> Optional[str]:
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return "command {0}: does not start: {1}".format(words[0], error)
        try:
            output, _none = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return "command {0}: no end within {1:g} s".format(words[0], timeout)
        if process.returncode == 0:
            return None
        last = output.decode("utf-8", "replace").strip()[-300:]
        return "command {0}: exit code {1}{2}".format(words[0], process.returncode, ": " + last if last else "")

    return check
