# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long is healthy enough, what is a right answer, and what must not be shown."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.module_utils import _health
from ansible_collections.rondo.upgrade.plugins.module_utils._health import (
    HealthProblem,
    Watch,
    command_check,
    harmless,
    http_check,
    seconds,
    secrets,
    tcp_check,
    wait,
    without_password,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [("10s", 10), ("1m30s", 90), ("500ms", 0.5), ("1h", 3600), ("1.5s", 1.5), (12, 12), ("0", 0), (2.5, 2.5)],
)
def test_durations(text: Any, value: float) -> None:
    assert seconds(text, "timeout") == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "s", "10x", "-1s", "1s 2", "ten"])
def test_no_durations(text: str) -> None:
    with pytest.raises(HealthProblem, match="timeout: "):
        seconds(text, "timeout")


class Clock:
    """Time passes in sleep, and as long as a check takes."""

    def __init__(self, answers: list[str | None], takes: float = 0.0) -> None:
        self.now = 100.0
        self.answers = answers
        self.takes = takes

    def __call__(self) -> float:
        return self.now

    def sleep(self, length: float) -> None:
        self.now += length

    def check(self, timeout: float) -> str | None:
        self.now += min(self.takes, timeout)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def watched(
    answers: list[str | None], min_healthy_time: float, deadline: float, takes: float = 0.0
) -> tuple[bool, Watch, float]:
    clock = Clock(list(answers), takes)
    watch = Watch(clock(), min_healthy_time, deadline)
    verdict = wait(clock.check, watch, 1.0, 5.0, clock, clock.sleep)
    return verdict, watch, clock.now - 100.0


@pytest.mark.parametrize(
    ("answers", "min_healthy_time", "deadline", "verdict", "attempts", "failures", "after"),
    [
        ([None], 0, 10, True, 1, 0, 0),
        (["no", "no", None], 0, 10, True, 3, 2, 2),
        ([None], 3, 10, True, 4, 0, 3),
        ([None, None, "no", None], 3, 10, True, 7, 1, 6),
        (["no"], 0, 4, False, 5, 5, 4),
        ([None, None, "no", None, None, "no", None], 3, 7, False, 8, 2, 7),
        (["no"], 0, 0.5, False, 2, 2, 0.5),
    ],
)
def test_waiting(
    answers: list[str | None],
    min_healthy_time: float,
    deadline: float,
    verdict: bool,
    attempts: int,
    failures: int,
    after: float,
) -> None:
    seen, watch, took = watched(answers, min_healthy_time, deadline)
    assert (seen, watch.attempts, watch.failures, took) == (verdict, attempts, failures, pytest.approx(after))
    assert watch.last_failure == ("no" if failures else None)


def test_slow_answers_are_not_followed_by_a_pause() -> None:
    _dummy_verdict, watch, took = watched(["no", "no", None], 0, 60, takes=2.0)
    assert (watch.attempts, took) == (3, pytest.approx(6.0))


def test_a_long_attempt_does_not_count_as_healthy_time_before_it() -> None:
    # One answer that took 3 s says nothing about 3 s of health.
    _dummy_verdict, watch, _dummy_took = watched([None], 2, 60, takes=3.0)
    assert watch.attempts == 3


def test_secrets() -> None:
    headers = {
        "X-Auth-Token": "t0ken",
        "X-Flag": "1",
        "Authorization": "Bearer abcd",
        "Host": "keystone",
        "Accept": "text/html",
    }
    assert secrets("http://me:p%40ss@ctl1:5000/", headers) == {"p%40ss", "p@ss", "t0ken", "Bearer abcd", "abcd"}
    assert harmless(headers) == {"keystone", "text/html", "1"}
    assert secrets(None, {}) == set()
    assert without_password("http://me:p%40ss@ctl1:5000/v3?a=b") == "http://ctl1:5000/v3?a=b"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: http_check("ctl1:5000"), "http: "),
        (lambda: http_check("http://a/", body="("), "body: "),
        (lambda: http_check("http://a/", json_expression="a["), "json: "),
        (lambda: tcp_check("ctl1"), "tcp: "),
        (lambda: tcp_check("ctl1:70000"), "tcp: "),
        (lambda: tcp_check("::1:80"), "tcp: "),
        (lambda: command_check('echo "'), "command: "),
        (lambda: command_check([]), "command: "),
    ],
)
def test_no_check(make: Any, message: str) -> None:
    with pytest.raises(HealthProblem, match=message):
        make()


@pytest.mark.parametrize(
    ("code", "content", "options", "wrong"),
    [
        (200, b"", {}, None),
        (503, b"", {}, "status 503, not 200"),
        (300, b"", {"status": [200, 300]}, None),
        (404, b"", {"status": [200, 300]}, "status 404, not 200 or 300"),
        (200, b"all OK here", {"body": "OK|fine"}, None),
        (200, b"sorry", {"body": "OK"}, '"OK" is not found in its body of 5 bytes'),
        (200, b'{"version": {"status": "stable"}}', {"json": "version.status == 'stable'"}, None),
        (200, b'{"version": {"status": "beta"}}', {"json": "version.status == 'stable'"}, "is false in its body"),
        (200, b'{"lag": 0}', {"json": "lag"}, None),
        (200, b'{"members": []}', {"json": "members"}, "is [] in its body"),
        (200, b"{}", {"json": "members"}, "is null in its body"),
        (200, b"<html>", {"json": "members"}, "its body is no JSON"),
    ],
)
def test_answers(code: int, content: bytes, options: dict[str, Any], wrong: str | None) -> None:
    body, expression = options.get("body"), options.get("json")
    said = _health._wrong_answer(
        code,
        content,
        options.get("status", [200]),
        _health.re.compile(body) if body else None,
        expression,
        _health.jmespath.compile(expression) if expression else None,
    )
    assert said is None if wrong is None else wrong in str(said)


def test_commands() -> None:
    assert command_check(["true"])(30.0) is None
    assert command_check("sh -c 'exit 0'")(30.0) is None
    assert command_check(["sh", "-c", "echo bad; exit 3"])(30.0) == "command sh: exit code 3: bad"
    assert "does not start" in str(command_check(["/nowhere/at/all"])(30.0))
    assert command_check(["sleep", "1000"])(0.2) == "command sleep: no end within 0.2 s"
