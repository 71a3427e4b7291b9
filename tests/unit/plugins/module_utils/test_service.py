# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.rondo.upgrade.plugins.module_utils import _service
from ansible_collections.rondo.upgrade.plugins.module_utils._service import (
    Count,
    ask,
    count_file,
    count_stamped,
    epoch,
    lines_of,
    percentile,
    position,
    since_stamp,
    version_in,
)

GUNICORN = '192.0.2.7 - - [22/Nov/2026:04:39:49 +0000] "GET /v3/users HTTP/1.1" {} 91 "-" "python-requests/2.32"'
CHECK = '192.0.2.3 - - [22/Nov/2026:04:39:49 +0000] "GET /healthcheck HTTP/1.1" {} 91 "-" "curl/8"'
HAPROXY = '192.0.2.3 - - [22/Nov/2026:04:39:49 +0000] "OPTIONS / HTTP/1.0" {} 91 "-" "-"'
OWN = '127.0.0.1 - - [22/Nov/2026:04:39:49 +0000] "GET /v3 HTTP/1.1" {} 91 "-" "rondo.upgrade"'
COMMON = '192.0.2.7 - frank [22/Nov/2026:04:39:49 +0000] "GET /v3/users HTTP/1.0" {} 91'
ERROR = "2026-11-22 04:39:49.123 7 ERROR keystone.server [-] boom"


def counted(*lines: str, errors: str | None = r"\bERROR\b", pattern: str | None = None) -> dict[str, int]:
    count = Count(pattern, errors, ["/healthcheck"])
    for line in lines:
        count.line(line)
    return count.to_dict()


def test_requests_of_clients_are_counted_and_checks_are_not() -> None:
    lines = [line.format(status) for line in (GUNICORN, CHECK, HAPROXY, OWN, COMMON) for status in (200, 503)]
    assert counted(*lines, ERROR, "something else") == {"lines": 12, "requests": 4, "failed": 2, "errors": 1}


def test_a_request_is_no_error_whatever_its_path() -> None:
    assert counted('"GET /ERROR HTTP/1.1" 200 1')["errors"] == 0


def test_a_pattern_of_ones_own() -> None:
    found = counted("took 3 ms, answered 502", "took 3 ms, answered 200", pattern=r"answered (?P<status>\d+)")
    assert (found["requests"], found["failed"]) == (2, 1)


@pytest.mark.parametrize("chunks", [[b"one\ntwo\nthr", b"ee"], [b"one\n", b"two\nthree\n"], [b"o", b"ne\ntwo\nthree"]])
def test_lines_come_whole_however_they_are_cut(chunks: list[bytes]) -> None:
    assert list(lines_of(chunks)) == ["one", "two", "three"]


def test_stamped_lines_count_from_the_moment_on() -> None:
    stamp = "2026-11-22T04:39:49.250000000Z"
    assert since_stamp(epoch(stamp)) == stamp
    assert epoch("2026-11-22T04:39:49Z") == epoch("2026-11-22T04:39:49.0Z")
    text = "".join(
        f"{when} {GUNICORN.format(500)}\n"
        for when in ("2026-11-22T04:39:49.249999999Z", stamp, "2026-11-22T04:40:00.000000001Z")
    )
    count = Count(None, None)
    assert count_stamped([text.encode()], epoch(stamp), count) is True
    assert count.failed == 2


def test_too_much_is_said_to_be_incomplete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_service, "MOST_BYTES", 100)
    line = f"2026-11-22T04:39:49.250000000Z {GUNICORN.format(200)}\n".encode()
    assert count_stamped([line] * 5, 0.0, Count(None, None)) is False


def test_a_file_counts_from_its_position_through_a_rotation(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text(GUNICORN.format(500) + "\n")
    before = position(str(log))
    with log.open("a") as stream:
        stream.write(GUNICORN.format(502) + "\n" + GUNICORN.format(200) + "\n")
    count = Count(None, None)
    assert count_file(str(log), before, count) == ""
    assert (count.requests, count.failed) == (2, 1)

    log.rename(tmp_path / "access.log.1")
    log.write_text(GUNICORN.format(503) + "\n")
    count = Count(None, None)
    assert count_file(str(log), before, count) == ""
    assert (count.requests, count.failed) == (3, 2)

    (tmp_path / "access.log.1").unlink()
    assert "rotated" in count_file(str(log), before, Count(None, None))


def test_of_a_file_without_a_position_its_end_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_service, "FILES_END", 250)
    log = tmp_path / "access.log"
    log.write_text("".join(GUNICORN.format(200) + "\n" for _unused in range(50)))
    count = Count(None, None)
    assert count_file(str(log), None, count) == ""
    assert count.requests == 2


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ({"release": "2"}, "2"),
        ({"version": 3}, "3"),
        ({"version": {"id": "v3.14", "status": "stable"}}, "v3.14"),
        (
            {"versions": {"values": [{"id": "v2.0", "status": "deprecated"}, {"id": "v3.14", "status": "stable"}]}},
            "v3.14",
        ),
        ({"versions": [{"id": "v2.1", "status": "CURRENT"}]}, "v2.1"),
        ({"versions": []}, ""),
        (["x"], ""),
        ({"version": True}, ""),
    ],
)
def test_what_an_answer_says_of_its_version(answer: object, version: str) -> None:
    assert version_in(json.dumps(answer).encode()) == version
    assert version_in(b"<html>") == ""


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentile([], 0.5) == 0.0
    assert [percentile(range(1, 11), share) for share in (0.5, 0.9, 1.0)] == [5, 9, 10]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def answers(clock: Clock, *given: int | Exception, takes: float = 0.01) -> Callable[[], tuple[int, bytes]]:
    left = list(given)

    def once() -> tuple[int, bytes]:
        clock.now += takes
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer, b'{"release": "2"}'

    return once


def test_an_endpoint_that_answers() -> None:
    clock = Clock()
    found = ask(answers(clock, 200), 20, 15, clock)
    assert found == {
        "answers": True, "asked": 20, "failed": 0, "reason": "", "status": 200, "version": "2", "p50": 10.0,
        "p90": 10.0, "n": 20,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "good", "reason"),
    [
        ([300], True, ""),
        ([401], True, ""),
        ([404], False, "status 404"),
        ([500], False, "status 500"),
        ([OSError("refused")], False, "no answer: refused"),
        ([OSError("refused"), 200], True, "no answer: refused"),
        ([503, 503, 503, 200], False, "status 503"),
    ],
)
def test_what_is_an_answer(given: list[int | Exception], good: bool, reason: str) -> None:
    clock = Clock()
    found = ask(answers(clock, *given), 20, 15, clock)
    assert (found["answers"], found["reason"]) == (good, reason)


def test_a_dead_endpoint_is_not_waited_for_twenty_times() -> None:
    clock = Clock()
    found = ask(answers(clock, OSError("timed out"), takes=10.0), 20, 60, clock)
    assert (found["asked"], found["answers"]) == (3, False)


def test_a_slow_endpoint_is_asked_less_often() -> None:
    clock = Clock()
    found = ask(answers(clock, 200, takes=4.0), 20, 15, clock)
    assert (found["n"], found["p50"]) == (4, 4000.0)
