# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Durations, percentages, rates and sizes as people write them in a declaration, and as people read them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_DURATION = re.compile(
    r"(?:(?P<h>[0-9]{1,6}(?:\.[0-9]{1,6})?)h)?"
    r"(?:(?P<m>[0-9]{1,6}(?:\.[0-9]{1,6})?)m(?!s))?"
    r"(?:(?P<s>[0-9]{1,9}(?:\.[0-9]{1,6})?)s)?"
    r"(?:(?P<ms>[0-9]{1,9})ms)?"
)
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PERCENT = re.compile(r"(?P<sign>-?)(?P<number>[0-9]{1,9}(?:\.[0-9]{1,6})?) ?%")
_RATE = re.compile(r"(?P<number>[0-9]{1,9}(?:\.[0-9]{1,6})?) ?(?P<unit>[kMGT]i?B|B)(?:/s)?")
_BYTES = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "kiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Percent:
    """A part of a hundred, exact, so that rounding never depends on floating point."""

    value: Fraction

    def of(self, count: int) -> Fraction:
        return self.value * count / 100

    def __str__(self) -> str:
        return f"{decimal(self.value)}%"


def parse_duration(text: str) -> float | None:
    """Seconds of `1h30m`, `90s`, `1m30s` or `500ms`; None where the text is none of these."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not match.group():
        return None
    return sum(float(number) * _SECONDS[unit] for unit, number in match.groupdict().items() if number)


def parse_percent(text: str) -> Percent | None:
    """The percentage in `60%`, also where it is out of range; None where the text is no percentage."""
    match = _PERCENT.fullmatch(text.strip())
    if match is None:
        return None
    value = Fraction(match["number"])
    return Percent(-value if match["sign"] else value)


def parse_rate(text: str) -> float | None:
    """Bytes per second of `100MB` or `100MB/s`; None where the text is no such rate."""
    match = _RATE.fullmatch(text.strip())
    return None if match is None else float(match["number"]) * _BYTES[match["unit"]]


def parse_size(text: str) -> int | None:
    """Bytes of `300MB`; None where the text is no such size."""
    size = None if "/" in text else parse_rate(text)
    return None if size is None else round(size)


def show_size(size: float) -> str:
    """`1.5 MB` or `2 GB`, for people."""
    unit = next((name for name in ("TB", "GB", "MB", "kB") if size >= _BYTES[name]), "B")
    return f"{size / _BYTES[unit]:.1f}".removesuffix(".0") + f" {unit}"


def is_number(text: str) -> bool:
    """Whether the text is a bare number, so that a message can say that its unit is missing."""
    return _NUMBER.fullmatch(text.strip()) is not None


def decimal(value: Fraction) -> str:
    """`2`, `0.75` or `1.67`: at most two places, no trailing zeros."""
    return f"{float(value):.2f}".rstrip("0").rstrip(".")


def show_duration(seconds: float) -> str:
    """`0.5 s`, `7 s`, `1 min 30 s` or `2 h 5 min`, for people."""
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"
