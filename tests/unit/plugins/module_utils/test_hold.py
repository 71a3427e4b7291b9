# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hold comes to, what bounds it, and which HAProxy survives which way."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.rondo.upgrade.plugins.module_utils._hold import (
    LONGEST_STEP_SECONDS,
    MAXCONN_FIXED_PACKAGES,
    PROTOCOL,
    SPACING_SECONDS,
    SPREAD_SECONDS,
    STEP_SECONDS,
    WAITING_PER_STEP_SECOND,
    Bound,
    HoldError,
    available_memory,
    bounds,
    client_timeouts,
    maxconn_danger,
    memory_room,
    owner_word,
    parse_status,
    predict,
    refusals,
)

LINE = (
    "service=keystone state=on owner=deploy1:/srv/journal action=reject ended=- age=3.558 left=6.442 waiting=101 "
    "greatest=120 longest=3.574 held=130 released=9 rejected=0 memory=2143015 max_waiting=500 max_memory=0 seen=102 "
    "rate=10.2 peak=102 testing=0"
)


def test_a_status_is_read_as_it_is_written() -> None:
    found = parse_status(f"# rondo_hold 1\n{LINE}\n\n")
    assert found is not None and list(found) == ["keystone"]
    status = found["keystone"]
    assert (status.state, status.owner, status.left, status.waiting) == ("on", "deploy1:/srv/journal", 6.442, 101)
    assert status.shown()["memory"] == 2143015


def test_a_haproxy_without_the_action_is_no_error() -> None:
    assert parse_status("Unknown command: 'rondo', but maybe one of the following ones is a better match:\n") is None
    assert parse_status("") is None
    assert parse_status("# rondo_hold 1\n") == {}


@pytest.mark.parametrize("text", ["# rondo_hold 2\n", "# rondo_hold 1\nservice=keystone state=on\n"])
def test_an_answer_that_makes_no_sense_is_one(text: str) -> None:
    with pytest.raises(HoldError):
        parse_status(text)


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ("2.6.12-1+deb12u4", False),
        ("2.6.12", False),
        ("2.6.12-1+deb12u99", False),
        ("2.6.19", False),
        ("2.6.20-1~bpo12+1", True),
        ("2.4.27", False),
        ("2.4.28", True),
        ("2.8.11-0ubuntu1", False),
        ("2.8.12", True),
        ("2.9.15", False),
        ("3.0.5", False),
        ("3.0.6", True),
        ("3.0.11-1+deb13u5", True),
        ("3.1.0", True),
        ("3.2.4-1", True),
        ("3.1-dev8-abcdef", False),
        ("unknown", False),
    ],
)
def test_maxconn_is_safe_only_where_the_release_is_known_to_be_fixed(version: str, safe: bool) -> None:
    danger = maxconn_danger(version)
    assert (danger is None) == safe
    if danger is not None:
        assert version in danger


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ("2.6.12-1+deb12u8", False),
        ("2.6.12-1+deb12u9", True),
        ("2.6.12-1+deb12u10", True),
        ("2.6.12-1ubuntu9", False),
        ("2.6.12", False),
        ("2.6.13-1+deb12u9", False),
    ],
)
def test_a_package_that_carries_the_fix_is_safe_from_that_patch_level_on(
    monkeypatch: pytest.MonkeyPatch, version: str, safe: bool
) -> None:
    monkeypatch.setitem(MAXCONN_FIXED_PACKAGES, "2.6.12-1+deb12u", 9)
    assert (maxconn_danger(version) is None) == safe


def test_a_refused_release_names_the_issue_and_the_release_that_is_fixed() -> None:
    assert "haproxy issue 2726; fixed in this branch from 2.6.20 on" in str(maxconn_danger("2.6.12-1+deb12u4"))
    assert "in no release of this branch" in str(maxconn_danger("2.5.3"))


def test_a_prediction_is_rate_times_pause() -> None:
    prediction = predict(50.0, 2.0, 21000)
    assert (prediction.waiting, prediction.memory) == (100, 2_100_000)
    assert prediction.longest_wait == 2.12
    assert predict(0.0, 5.0).waiting == 0


@settings(deadline=None)
@given(rate=st.floats(0, 1e5), seconds=st.floats(0.01, 3600), more=st.floats(0, 100))
def test_a_longer_hold_never_comes_to_less(rate: float, seconds: float, more: float) -> None:
    short, long = predict(rate, seconds), predict(rate, seconds + more)
    assert long.waiting >= short.waiting and long.memory >= short.memory
    assert long.longest_wait >= short.longest_wait
    # One look and the time in which those that waited go are all that is added to the pause.
    assert seconds < short.longest_wait <= seconds + 1.251


def everything(**changes):
    options = {
        "max_waiting": 1000,
        "max_memory": 256_000_000,
        "memory_room": 10**9,
        "connections": [("maxconn of frontend internal", 10, 2000), ("maxconn", 20, 9977)],
        "timeouts": {"the clients' own": 60.0},
    }
    return {**options, **changes}


def test_a_hold_within_all_bounds_is_not_refused_and_each_bound_is_shown() -> None:
    prediction = predict(50.0, 2.0)
    found = bounds(prediction, **everything())
    assert refusals(prediction, found) == []
    assert [bound.name for bound in found] == [
        "max_waiting", "maxconn of frontend internal", "maxconn", "max_memory", "memory of the balancer",
        "the clients' own",
    ]  # fmt: skip
    assert found[1].shown() == {
        "name": "maxconn of frontend internal", "needs": 110.0, "limit": 2000, "unit": "connections", "holds": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"max_waiting": 99}, "max_waiting is in the way"),
        ({"connections": [("maxconn", 9900, 9977)]}, "10000 connections would be needed, maxconn is 9977 connections"),
        ({"max_memory": 2_000_000}, "2.1 MB would be needed, max_memory is 2.0 MB"),
        ({"memory_room": 1_000_000}, "memory of the balancer is 1.0 MB"),
        ({"timeouts": {"timeout client of internal": 2.0}}, "the longest wait would be 2.12 s, timeout client of"),
    ],
)
def test_the_number_in_the_way_is_named(changes, named: str) -> None:
    prediction = predict(50.0, 2.0)
    lines = refusals(prediction, bounds(prediction, **everything(**changes)))
    assert len(lines) == 1 and named in lines[0]
    assert "a hold of 2 s at 50.0 requests a second means 100 waiting requests" in lines[0]


def test_a_bound_that_is_just_reached_holds() -> None:
    assert Bound("x", 5, 5, "requests", "").holds and not Bound("x", 5.1, 5, "requests", "").holds


CONFIGURATION = """
defaults
    timeout client 50s   # for people
frontend a
    bind :80
frontend b
    timeout client 1500
defaults slow
    timeout client 2h
listen c
    bind :81
frontend d from slow
    timeout client 5m
frontend e from slow
backend f
    timeout client 1s
"""


def test_client_timeouts_are_those_of_the_section_or_of_its_defaults() -> None:
    assert client_timeouts(CONFIGURATION, []) == {
        "timeout client of a": 50.0,
        "timeout client of b": 1.5,
        "timeout client of c": 7200.0,
        "timeout client of d": 300.0,
        "timeout client of e": 7200.0,
    }
    assert client_timeouts(CONFIGURATION, ["b"]) == {"timeout client of b": 1.5}
    assert client_timeouts("frontend a\n    timeout client ${T}\n", []) == {}


def test_memory_room_is_the_smaller_of_haproxys_limit_and_half_of_the_machines() -> None:
    assert available_memory("MemTotal: 10 kB\nMemAvailable:    2000 kB\n") == 2_048_000
    assert available_memory("") is None
    assert memory_room({"Memmax_MB": "0"}, None) is None
    assert memory_room({"Memmax_MB": "0"}, 2_048_000) == 1_024_000
    assert memory_room({"Memmax_bytes": "1000000", "PoolAlloc_bytes": "400000"}, 2_048_000) == 600_000


def test_an_owner_becomes_one_word() -> None:
    assert owner_word("deploy1:/srv/my upgrade; show info") == "deploy1:/srv/my_upgrade__show_info"
    assert owner_word(None) == owner_word("") == "-"


def test_the_lua_action_lets_go_as_the_arithmetic_says() -> None:
    lua = Path(__file__).resolve().parents[4] / "roles" / "hold" / "files" / "rondo_hold.lua"
    text = lua.read_text(encoding="utf-8")
    step, longest, waiting = STEP_SECONDS * 1000, LONGEST_STEP_SECONDS * 1000, WAITING_PER_STEP_SECOND / 1000
    assert f"STEP_MS, LONGEST_STEP_MS, WAITING_PER_MS = {step:.0f}, {longest:.0f}, {waiting:.0f}\n" in text
    assert f"SPREAD_MS, SPACING_MS = {SPREAD_SECONDS * 1000:.0f}, {SPACING_SECONDS * 1000:.0f}\n" in text
    assert f"PROTOCOL = {PROTOCOL}\n" in text
