# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Durations, percentages and rates."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._quantities import (
    parse_duration,
    parse_percent,
    parse_rate,
    show_duration,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10.0),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("1m30s", 90.0),
        ("1h1m1s1ms", 3661.001),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        (" 5s ", 5.0),
        ("0s", 0.0),
        ("", None),
        ("10", None),
        ("s", None),
        ("-1s", None),
        ("1s1m", None),
        ("1 s", None),
        ("1d", None),
        ("٣s", None),
        ("9" * 400 + "s", None),
    ],
)
def test_duration(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(("text", "value"), [("60%", 60), ("33.3 %", Fraction("33.3")), ("-1%", -1), ("60", None)])
def test_percent(text: str, value: int | Fraction | None) -> None:
    percent = parse_percent(text)
    assert (percent and percent.value) == value


@pytest.mark.parametrize(
    ("text", "rate"),
    [("100MB", 1e8), ("1.5 GB/s", 1.5e9), ("1MiB", 2**20), ("7B", 7.0), ("100", None), ("100Mb", None)],
)
def test_rate(text: str, rate: float | None) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.5, "0.5 s"),
        (7.04, "7 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min"),
        (90, "1 min 30 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
    ],
)
def test_show_duration(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text


@settings(deadline=None, derandomize=True, database=None)
@given(st.integers(0, 10**5))
def test_every_number_of_milliseconds_can_be_written(milliseconds: int) -> None:
    seconds = parse_duration(f"{milliseconds // 60000}m{milliseconds // 1000 % 60}s{milliseconds % 1000}ms")
    assert seconds == pytest.approx(milliseconds / 1000)
