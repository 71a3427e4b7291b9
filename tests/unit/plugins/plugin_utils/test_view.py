# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run as lines: what is on them, and that they fit whatever the terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._panel import printable, unfit
from ansible_collections.rondo.upgrade.plugins.plugin_utils._view import ASCII, Span, text, view

LONG = "waits for the budget zone of keystone (at most 1 failure domain out at once, 1 out: keystone@ctl1)"


def service(name: str, jobs: int, done: int = 0, failed: int = 0, in_flight: int = 0) -> dict[str, Any]:
    return {
        "name": name,
        "jobs": jobs,
        "done": done,
        "failed": failed,
        "skipped": 0,
        "lost": 0,
        "in_flight": in_flight,
        "waits": "",
    }


def run(**others: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "kind": "upgrade",
        "started": 1_780_000_000.0,
        "ended": None,
        "outcome": None,
        "seconds": 94.0,
        "jobs": 9,
        "outcomes": {"done": 4, "in flight": 2},
        "in_flight": [
            {"id": "replace keystone@ctl2", "seconds": 13.0, "expected": 15.0, "step": "Drain it"},
            {"id": "replace glance@img2", "seconds": 40.0, "expected": None},
        ],
        "failed": [],
        "paused": "",
        "stopped": "",
        "waiting": [{"id": "keystone", "why": LONG}, {"id": "horizon", "why": "may begin"}],
        "services": [service("keystone", 5, 3, 0, 1), service("glance", 2, 1, 0, 1), service("horizon", 2)],
        "budgets": [
            {"name": "keystone", "kind": "service", "counts": "instances", "capacity": 2, "used": 1, "out": ["a"]},
            {"name": "zone", "kind": "failure_domain", "counts": "domains", "capacity": 1, "used": 1, "out": ["north"]},
            {"name": "hosts", "kind": "max_hosts_out", "counts": "hosts", "capacity": 4, "used": 0, "out": []},
        ],
        "requests": {"sent": 1880, "failed": 0, "last": ""},
        "rest": {"seconds": 125.0, "p90": 161.0, "by": 1_780_000_219.0, "measured": 4, "pace": 1.4},
        **others,
    }


def lines(content: dict[str, Any], width: int = 100, height: int | None = None) -> list[str]:
    return text(view(content, width, height, ASCII)).splitlines()


def test_a_run_in_progress() -> None:
    shown = lines(run())
    assert shown[0].startswith("RUN 7 (upgrade) in progress since ") and shown[0].endswith(", for 1m 34s")
    assert shown[1] == "  9 jobs planned: 4 done, 2 in flight"
    assert shown[2].startswith("  2m 05s left (p90 2m 41s), until ")
    assert shown[2].endswith("; jobs take 1.4 x as long as planned")
    assert shown[3] == "  1880 requests sent since the probe began, 0 failed"
    assert shown[4] == "  keystone ##############====...... 3 of 5, 1 out of at most 2"
    assert shown[6] == "  horizon  ........................ 0 of 2"
    assert shown[7] == "  in flight for 13s of about 15s: replace keystone@ctl2, Drain it"
    assert shown[8] == "  in flight for 40s: replace glance@img2"
    assert shown[9] == f"  keystone: {LONG}"[:100] or shown[9].startswith("  keystone: waits for the budget zone")
    assert shown[-1] == "  budget zone: 1 failure domain out of at most 1 (north)"


def test_what_is_wrong_is_told() -> None:
    requests = {"sent": 90, "failed": 3, "last": "GET http://vip at 12:00: status 503"}
    shown = "\n".join(
        lines(run(requests=requests, stopped="3 of 90 requests failed", failed=["replace keystone@ctl1"]))
    )
    assert "  90 requests sent since the probe began, 3 failed\n" in shown
    assert "\n  the last: GET http://vip at 12:00: status 503" in shown
    assert "stopped: 3 of 90 requests failed; nothing more begins" in shown
    assert "failed: replace keystone@ctl1" in shown
    assert "paused by me" in "\n".join(lines(run(paused="me")))
    late = run(in_flight=[{"id": "replace web@a", "seconds": 31.0, "expected": 15.0}])
    [flight] = [line for line in view(late, 100) if "in flight for" in line[0].text]
    assert flight[0].style == "yellow"


@pytest.mark.parametrize("width", [40, 41, 60, 99, 200])
@pytest.mark.parametrize("height", [1, 3, 8, 11, 23, None])
def test_it_fits(width: int, height: int | None) -> None:
    many = run(
        services=[service(f"service-with-a-long-name-{n}", 10, n % 11, 0, 0) for n in range(40)],
        in_flight=[{"id": f"replace s@h{n}", "seconds": 1.0, "expected": 2.0} for n in range(30)],
        failed=["replace x@y"],
        stopped="word " * 60,
    )
    shown = lines(many, width, height)
    assert max(len(line) for line in shown) <= width
    if height is not None:
        assert len(shown) <= height
        if height >= 23:
            assert "  failed: replace x@y" in shown
            assert sum(line.startswith("  and ") for line in shown) == 2


def test_services_that_are_done_are_left_out_first() -> None:
    services = [service("over", 2, 2), service("busy", 2, 0, 0, 1), service("later", 2), service("bad", 2, 1, 1)]
    shown = lines(run(services=services, in_flight=[], waiting=[], budgets=[]), 100, 7)
    assert [line.split()[0] for line in shown[4:]] == ["busy", "bad", "and"]


def test_what_would_move_the_cursor_is_taken_out() -> None:
    assert printable("a\x1b[2Jb\nc\td\x07") == "a [2Jb c d "


class _Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(
    ("terminal", "environ", "why"),
    [
        (True, {"TERM": "xterm"}, ""),
        (True, {"TERM": "xterm", "CI": "false"}, ""),
        (False, {"TERM": "xterm"}, "the output is no terminal"),
        (True, {"TERM": "dumb"}, "the terminal can't do it (TERM=dumb)"),
        (True, {}, "the terminal can't do it (TERM=)"),
        (True, {"TERM": "xterm", "CI": "true"}, "the environment says that this is a CI system (CI)"),
        (True, {"TERM": "xterm", "AWX_ISOLATED_DATA_DIR": "/x"}, "the terminal is ansible-runner's own"),
    ],
)
def test_where_there_is_no_view(terminal: bool, environ: dict[str, str], why: str) -> None:
    assert unfit(_Stream(terminal), environ) == why


def test_spans_without_styles_are_the_text() -> None:
    assert text([[Span("a", "red"), Span("b ")], [Span("c")]]) == "ab\nc"
