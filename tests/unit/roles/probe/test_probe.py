# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe's counting, schedule and configuration, without a clock and without a network."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[4] / "roles" / "probe" / "files" / "probe.py"
SPEC = importlib.util.spec_from_file_location("rondo_probe", FILE)
assert SPEC is not None and SPEC.loader is not None
probe = importlib.util.module_from_spec(SPEC)
sys.modules["rondo_probe"] = probe
SPEC.loader.exec_module(probe)

GOOD: dict[str, Any] = {"requests": [{"url": "http://192.0.2.1/"}]}
IDENTITY = {"username": "admin", "password": "a-secret"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("500ms", 0.5), ("10s", 10), ("2m", 120), ("1h", 3600), ("1m30s", 90), ("1.5s", 1.5), ("1h30m", 5400)],
)
def test_durations(text: str, wanted: float) -> None:
    assert probe.seconds(text) == pytest.approx(wanted)


@pytest.mark.parametrize("text", [10, 1.5, "10", "", "s", "10 s", "ten", None, "-1s", True])
def test_durations_need_a_unit(text: object) -> None:
    with pytest.raises(ValueError, match="write a number with its unit"):
        probe.seconds(text)


def test_percentiles() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [probe.percentile(values, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert probe.percentile([7.0], 0.99) == 7
    assert probe.percentile([], 0.5) is None


def test_what_a_count_proves() -> None:
    assert probe.proof(3000, 0)["failure_rate_below"] == pytest.approx(0.001)
    assert "0.001" in probe.proof(3000, 0)["text"]
    assert probe.proof(2, 0)["failure_rate_below"] == 1
    assert probe.proof(0, 0)["failure_rate_below"] is None
    assert probe.proof(100, 4)["failure_rate_below"] is None
    assert probe.proof(100, 4)["text"] == "4 of 100 requests failed: 4.00%."


def test_turns_follow_the_weights_and_spread_them() -> None:
    chosen = list(itertools.islice(probe.turns([3, 5, 2]), 100))
    assert Counter(chosen) == {0: 30, 1: 50, 2: 20}
    assert all(len(set(chosen[index : index + 4])) > 1 for index in range(90))


def test_every_pair_of_url_and_connection_comes_up() -> None:
    request = probe.Request(name="n", kind="http", urls=("a", "b"))
    ways = [request.way(number) for number in range(8)]
    assert Counter(ways) == dict.fromkeys(itertools.product(("a", "b"), probe.CONNECTIONS), 2)


def test_the_tally_counts_from_when_a_request_was_due() -> None:
    tally = probe.Tally(100.0)
    tally.sent("a", 100.0, 100.0)
    tally.sent("a", 101.0, 101.5)
    tally.ended("a", 100.0, 100.2, failure=None, retried=False)
    tally.ended("a", 101.0, 103.0, failure=None, retried=True)
    summary = tally.summary()
    assert summary["latency_ms"] == {"p50": 200.0, "p99": 2000.0, "max": 2000.0}
    assert (summary["sent"], summary["failed"], summary["retried"]) == (2, 0, 1)
    assert summary["probe_late_ms"] == 500.0


def test_the_longest_gap_is_between_successes() -> None:
    tally = probe.Tally(0.0)
    for due, end, failed in [(0.0, 0.1, False), (1.0, 1.1, True), (2.0, 2.1, True), (3.0, 3.1, False)]:
        tally.sent("a", due, due)
        tally.ended("a", due, end, failure={"reason": "x"} if failed else None, retried=False)
    summary = tally.summary()
    assert summary["longest_gap_seconds"] == 3.0
    assert summary["longest_gap_began_after_seconds"] == 0.1
    assert (summary["failed"], len(summary["failures"])) == (2, 2)


def test_the_tally_counts_the_versions_that_answered() -> None:
    tally = probe.Tally(0.0)
    for due, version in ((0.0, "1"), (0.5, "2"), (1.0, "2"), (1.5, None)):
        tally.sent("a", due, due)
        tally.ended("a", due, due, failure=None, retried=False, version=version)
    summary = tally.summary()
    assert summary["versions"] == summary["kinds"]["a"]["versions"] == {"1": 1, "2": 2}
    assert [row["versions"] for row in summary["over_time"]["buckets"]] == [{"1": 1, "2": 1}, {"2": 1}]


def test_a_gap_may_reach_to_the_end() -> None:
    tally = probe.Tally(0.0)
    tally.sent("a", 0.0, 0.0)
    tally.ended("a", 0.0, 0.5, failure=None, retried=False)
    tally.sent("a", 9.0, 9.0)
    tally.ended("a", 9.0, 19.0, failure={"reason": "no answer"}, retried=False)
    assert tally.summary()["longest_gap_seconds"] == 8.5


def test_over_time_counts_by_when_requests_were_due() -> None:
    tally = probe.Tally(1000.1)
    for number in range(30):
        due = 1000.1 + number / 10
        failed = 10 <= number < 13
        tally.sent("a", due, due)
        tally.ended("a", due, due + 0.2, failure={"reason": "x"} if failed else None, retried=number == 29)
    over_time = tally.summary()["over_time"]
    assert over_time["bucket_seconds"] == 1
    rows = [(row["after_seconds"], row["sent"], row["failed"], row["retried"]) for row in over_time["buckets"]]
    assert rows == [(0, 10, 0, 0), (1, 10, 3, 0), (2, 10, 0, 1)]
    assert over_time["buckets"][1]["latency_ms"] == {"p50": 200.0, "p99": 200.0, "max": 200.0}


@pytest.mark.parametrize(("last", "wide", "number"), [(599, 1, 600), (600, 2, 301), (3600, 10, 361), (9e6, 15001, 600)])
def test_over_time_is_never_too_long(last: float, wide: int, number: int) -> None:
    tally = probe.Tally(0.0)
    for due in (0.0, last):
        tally.sent("a", due, due)
        tally.ended("a", due, due, failure=None, retried=False)
    over_time = tally.over_time()
    assert (over_time["bucket_seconds"], len(over_time["buckets"])) == (wide, number)
    assert sum(row["sent"] for row in over_time["buckets"]) == 2


def test_nothing_sent_is_nothing_over_time() -> None:
    assert probe.Tally(0.0).over_time() == {"bucket_seconds": 1, "buckets": []}


def test_the_live_counts() -> None:
    tally = probe.Tally(0.0)
    tally.sent("a", 0.0, 0.0)
    tally.sent("a", 0.1, 0.1)
    tally.ended("a", 0.0, 0.5, failure={"reason": "x"}, retried=False)
    assert tally.live() == {"sent": 2, "failed": 1, "retried": 0, "succeeded": 0, "in_flight": 1}


def test_only_so_many_failures_are_in_the_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "KEPT_FAILURES", 2)
    tally = probe.Tally(0.0)
    for number in range(5):
        tally.sent("a", number, number)
        tally.ended("a", number, number, failure={"reason": str(number)}, retried=False)
    assert [failure["reason"] for failure in tally.summary()["failures"]] == ["0", "1"]
    assert tally.summary()["failures_left_out"] == 3


def test_a_configuration_with_its_defaults() -> None:
    made = probe.configuration(GOOD, folder=Path("/folder"))
    assert (made.rate, made.timeout, made.duration, made.retries) == (10, 10, None, 0)
    request = made.requests[0]
    assert (request.name, request.kind, request.method, request.status) == ("http", "http", "GET", (200,))
    assert request.connections == ("new", "keep_alive")
    assert made.directory == Path("/folder")


def test_an_identity_may_be_given_once_for_all() -> None:
    requests = [
        {"kind": "token_issue", "url": "http://192.0.2.1/v3/"},
        {"kind": "catalogue", "url": "http://192.0.2.1/v3"},
    ]
    made = probe.configuration({"identity": IDENTITY, "requests": requests}, folder=Path())
    assert {request.identity.username for request in made.requests} == {"admin"}
    assert made.requests[0].urls == ("http://192.0.2.1/v3",) and made.requests[0].status == (201,)
    assert "a-secret" not in repr(made)
    assert made.requests[0].identity.body()["auth"]["identity"]["methods"] == ["password"]
    assert "scope" not in made.requests[0].identity.body()["auth"]


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"rat": 5}, "rat: unknown key"),
        ({"rate": 0}, "rate: 0 is no number"),
        ({"rate": "20"}, "rate: '20' is no number"),
        ({"timeout": 10}, "timeout: 10 is no duration"),
        ({"retries": 1.5}, "retries: 1.5 is no whole number"),
        ({"requests": []}, "requests: must be a list"),
        ({"requests": ["x"]}, "requests[0]: must be a mapping"),
        ({"requests": [{}]}, "requests[0].url: must be a text"),
        ({"requests": [{"url": "u", "kind": "soap"}]}, "requests[0].kind: 'soap' is unknown"),
        ({"requests": [{"url": "u", "kind": "catalogue"}]}, "requests[0].identity: catalogue needs an identity"),
        ({"requests": [{"url": "u", "connection": "old"}]}, "requests[0].connection: 'old' is unknown"),
        ({"requests": [{"url": "u", "status": 200}]}, "requests[0].status: must be a list"),
        ({"requests": [{"url": "u", "contains": "("}]}, "requests[0].contains: '(' is no regular expression"),
        ({"requests": [{"url": "u", "version": "release"}]}, "requests[0].version: 'release' has no group"),
        ({"requests": [{"url": "u", "slow": "2s"}]}, "requests[0].slow: is for token_issue, and for http"),
        ({"requests": [{"url": "u", "weight": 0}]}, "requests[0].weight: 0 is no whole number"),
        ({"requests": [{"url": "u", "headers": {"a": 1}}]}, "requests[0].headers: must be"),
        ({"requests": [{"url": "u"}, {"url": "v"}]}, "requests: two are named http"),
        ({"identity": {"username": "a"}}, "identity.password: must be a text"),
        ({"tls": {"verify": "no"}}, "tls.verify: must be true or false"),
    ],
)
def test_a_wrong_configuration_is_told_by_the_keys_path(change: dict[str, Any], wanted: str) -> None:
    with pytest.raises(probe.ConfigurationError) as raised:
        probe.configuration({**GOOD, **change}, folder=Path())
    assert wanted in str(raised.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(probe.ConfigurationError) as raised:
        probe.configuration({"rate": -1, "timeout": 3, "requests": [{"kind": "x"}]}, folder=Path())
    assert len(str(raised.value).splitlines()) == 4


def test_help_shows_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        probe.main(["--help"])
    assert raised.value.code == 0
    said = capsys.readouterr().out
    assert "requests:" in said and "Exit codes" in said


def test_a_missing_file_is_a_wrong_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert probe.main(["run", str(tmp_path / "none.yml")]) == 2
    assert "none.yml" in capsys.readouterr().err


def test_the_helps_example_is_good() -> None:
    import yaml

    example = probe.EPILOG.split("\n\n", 2)[1]
    made = probe.configuration(yaml.safe_load(example), folder=Path())
    assert [request.name for request in made.requests] == [
        "token_issue",
        "token_validate",
        "catalogue",
        "front",
        "slow",
        "api",
    ]
