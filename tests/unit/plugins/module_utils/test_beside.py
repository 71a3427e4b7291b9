# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights and lines of second copies."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from ansible_collections.rondo.upgrade.plugins.module_utils._beside import (
    BesideError,
    Copy,
    Entry,
    Gate,
    copied_words,
    edited,
    marked_out,
    restored,
    server_lines,
    shared_weights,
    skeleton,
)

CONFIGURATION = """\
global
    maxconn 100
defaults
    default-server inter 2s
    mode http
defaults quick
    default-server inter 1s rise 1
frontend f
    default_backend back
backend back from quick
    option httpchk GET /
    default-server fall 5
    server ctl1 192.0.2.1:5000 check weight 10  # the first
    server ctl2 192.0.2.2:5000 check weight 20 cookie two
backend other
    server ctl1 192.0.2.1:6000 track back/ctl1
    server ctl2 192.0.2.2:6000 check disabled
"""


@pytest.mark.parametrize("percent", [1, 5, 25, 33, 50, 66, 75, 95, 99])
@pytest.mark.parametrize(
    ("home", "copies"),
    [
        ({"a": 1, "b": 1, "c": 1}, {"x": 1, "y": 1, "z": 1}),
        ({"a": 1}, {"x": 1}),
        ({"a": 100, "b": 50}, {"x": 100, "y": 50}),
        ({"a": 1, "b": 1, "c": 1, "d": 1}, {"x": 1}),
    ],
)
def test_shares_come_near_to_what_is_asked_for(home: dict, copies: dict, percent: int) -> None:
    theirs, ours = shared_weights(home, copies, percent)
    share = 100 * sum(ours.values()) / (sum(ours.values()) + sum(theirs.values()))
    assert abs(share - percent) < 1.5
    assert all(1 <= weight <= 256 for weight in itertools.chain(theirs.values(), ours.values()))


def test_servers_keep_their_proportions_where_weights_can_say_them() -> None:
    theirs, ours = shared_weights({"a": 100, "b": 50}, {"x": 100, "y": 50}, 25)
    assert theirs["a"] == 2 * theirs["b"] and ours["x"] == 2 * ours["y"]
    # Here they can't: the share comes first.
    theirs, ours = shared_weights({"a": 251, "b": 1}, {"x": 251, "y": 1}, 1)
    share = 100 * sum(ours.values()) / (sum(ours.values()) + sum(theirs.values()))
    assert abs(share - 1) < 0.5


def test_the_smallest_weights_are_taken() -> None:
    assert shared_weights({"a": 1, "b": 1}, {"x": 1, "y": 1}, 50) == ({"a": 1, "b": 1}, {"x": 1, "y": 1})
    assert shared_weights({"a": 1, "b": 1}, {"x": 1, "y": 1}, 5) == ({"a": 19, "b": 19}, {"x": 1, "y": 1})


def test_servers_inherit_from_the_defaults_that_count() -> None:
    lines = server_lines(CONFIGURATION, "back")
    assert lines["ctl1"].inherited == ("inter", "1s", "rise", "1", "fall", "5")
    assert (lines["ctl1"].weight, lines["ctl2"].weight, lines["ctl1"].address) == (10, 20, "192.0.2.1:5000")
    # The latest `defaults` before it, where a backend names none.
    assert server_lines(CONFIGURATION, "other")["ctl1"].inherited == ("inter", "1s", "rise", "1")
    assert server_lines(CONFIGURATION, "other")["ctl1"].weight == 1


def test_a_copy_has_no_words_about_the_first_ones_address() -> None:
    words = "check port 9000 weight 3 id 7 cookie c1 resolvers dns disabled inter 1s"
    assert copied_words(words.split(" "), "ctl1.rondo-beside", {}) == [
        "check",
        "cookie",
        "ctl1.rondo-beside",
        "inter",
        "1s",
    ]


def test_a_copy_follows_the_copy_of_what_the_first_one_follows() -> None:
    follows = {"back/ctl1": "back/ctl1.rondo-beside"}
    assert copied_words(["track", "back/ctl1"], "x", follows) == ["track", "back/ctl1.rondo-beside"]
    with pytest.raises(BesideError, match="which has no copy"):
        copied_words(["track", "elsewhere/ctl1"], "x", follows)


def copy(weight: int, out: bool = False) -> Copy:
    return Copy("back", "ctl1.rondo-beside", "192.0.2.1:15000", ("check",), Entry(weight, out))


def test_lines_of_ours_stand_for_those_that_were_there() -> None:
    home = {("back", "ctl1"): Entry(190), ("back", "ctl2"): Entry(None, True)}
    text = edited(CONFIGURATION, "keystone", home, [copy(10)])
    assert "    server ctl1 192.0.2.1:5000 check weight 190  # rondo.upgrade: beside keystone\n" in text
    assert "    server ctl2 192.0.2.2:5000 check weight 20 cookie two disabled  # rondo.upgrade: beside" in text
    assert "    server ctl1.rondo-beside 192.0.2.1:15000 check weight 10  # rondo.upgrade: beside keystone\n" in text
    assert marked_out(text, "keystone") == [("back", "ctl2")]
    # Other backends are as they were, and what was disabled there is nothing of ours.
    assert text.endswith(CONFIGURATION[CONFIGURATION.index("backend other") :])


def test_whatever_was_there_of_ours_the_result_is_the_same_and_can_be_undone() -> None:
    first = edited(CONFIGURATION, "keystone", {("back", "ctl1"): Entry(None, True)}, [copy(1, out=True)])
    home = {("back", "ctl2"): Entry(40)}
    assert edited(first, "keystone", home, [copy(2)]) == edited(CONFIGURATION, "keystone", home, [copy(2)])
    assert restored(first, "keystone") == CONFIGURATION
    assert restored(first, "stone") == first
    assert edited(first, "keystone", {}, []) == CONFIGURATION


def test_only_new_or_missing_copies_have_to_be_checked_again() -> None:
    first = edited(CONFIGURATION, "keystone", {}, [copy(1, out=True)])
    home = {("back", "ctl1"): Entry(5, True), ("back", "ctl2"): Entry(None, True)}
    second = edited(CONFIGURATION, "keystone", home, [copy(7)])
    assert first != second
    assert skeleton(first, "keystone") == skeleton(second, "keystone") != skeleton(CONFIGURATION, "keystone")
    elsewhere = replace(copy(1), address="192.0.2.1:15001")
    assert skeleton(edited(CONFIGURATION, "keystone", {}, [elsewhere]), "keystone") != skeleton(first, "keystone")


def test_a_last_line_without_an_end_of_line_is_no_trap() -> None:
    text = edited(CONFIGURATION.rstrip("\n"), "x", {("other", "ctl2"): Entry(9)}, [])
    assert "was     server ctl2 192.0.2.2:6000 check disabled\n" in text
    assert restored(text, "x") == CONFIGURATION


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (Gate(1.0, 100, 1, 400), ""),
        (Gate(1.0, 100, 2, 400), "2 of 100 requests"),
        (Gate(1.0, 0, 1, 400), "1 of 0 requests"),
        (Gate(1.0, 100, 0, 400, ("back/x",)), "back/x went down"),
    ],
)
def test_the_gate(gate: Gate, said: str) -> None:
    assert said in gate.verdict(0.01)
    assert bool(gate.verdict(0.01)) == bool(said)


def test_shares_are_of_all_requests() -> None:
    assert Gate(1.0, 25, 0, 100).share == 25.0
    assert Gate(1.0, 0, 0, 0).share is None
