# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arithmetic of groups: how many instances may be out, and which sizes a group may have.

Percentages round as Kubernetes does: `min_available` up, `max_unavailable` down. As in a Kubernetes Deployment, a
`max_unavailable` above 0% that rounds down to nothing still lets one go, unless a second copy can take its place.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ._quantities import Percent, decimal

_ARITY = re.compile(
    r"(?:(?P<base>[0-9]{1,6})\+)?(?P<step>[0-9]{0,6})n(?:\+(?P<tail>[0-9]{1,6}))?|(?P<exact>[0-9]{1,6})"
)


class Impossible(Exception):
    """A budget that no group of this size can keep: what is wrong with the arithmetic, and what would be right."""

    def __init__(self, wrong: str, remedy: str) -> None:
        super().__init__(wrong)
        self.wrong = wrong
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Size:
    """How many of `size` instances may be out, in a number and in the declaration's words."""

    max_unavailable: int
    text: str
    outage_allowed: bool = False


def majority(size: int) -> int:
    return size // 2 + 1


def from_min_available(size: int, stay: int | Percent | str) -> Size:
    """The budget of `min_available`: a number, a percentage (rounded up), or `quorum`. Raises `Impossible`."""
    if isinstance(stay, str):
        least = majority(size)
        text = f"min_available: quorum, a majority of {size} is {least}"
    elif isinstance(stay, Percent):
        part = stay.of(size)
        least = math.ceil(part)
        rounded = "" if part == least else f", rounded up to {least}"
        text = f"min_available: {stay} of {size} is {decimal(part)}{rounded}"
    else:
        least = stay
        text = f"min_available: {least} of {size}"
    if least > size:
        raise Impossible(
            f"asks {least} to stay, and there are only {instances(size)} ({size} - {least} = {size - least})",
            f"lower it to {max(size - 1, 0)}, or add {instances(least - size + 1)}",
        )
    return Size(size - least, f"{text}, so {size - least} may be out", outage_allowed=least == 0)


def allowed(size: int, failures: int | Percent | None) -> int | None:
    """How many jobs may fail: a number, or a percentage of `size` instances that is not to be exceeded; None: not
    said."""
    return math.floor(failures.of(size)) if isinstance(failures, Percent) else failures


def from_max_unavailable(size: int, out: int | Percent, *, second_copy: bool) -> Size:
    """The budget of `max_unavailable`: a number, or a percentage (rounded down). Raises `Impossible`."""
    if isinstance(out, Percent):
        part = out.of(size)
        most = math.floor(part)
        text = f"max_unavailable: {out} of {size} is {decimal(part)}"
        if part != most:
            text += f", rounded down to {most}"
        if most == 0 and part > 0 and not second_copy:
            most = 1
            text += ", at least 1"
        return Size(most, text, outage_allowed=out.value == 100)
    if out >= size > 1:
        raise Impossible(
            f"lets all {size} instances out ({size} - {size} = 0 would stay)",
            f'lower it to {size - 1} at most, or permit the outage with "min_available: 0"',
        )
    return Size(min(out, size), f"max_unavailable: {out}")


def with_quorum(size: int, budget: Size, *, asked: bool) -> Size:
    """The budget under which a majority stays too. Raises `Impossible` where the declaration asked for more out."""
    spare = size - majority(size)
    if asked and budget.max_unavailable > spare:
        raise Impossible(
            f"leaves {size} - {budget.max_unavailable} = {size - budget.max_unavailable}, "
            f"but a majority of {size} is {majority(size)}",
            f"lower it to {spare} at most, or drop quorum",
        )
    text = f"{budget.text}, and a majority stays ({majority(size)} of {size})"
    return Size(min(budget.max_unavailable, spare), text)


def sizes_of(arity: str) -> tuple[int, int] | None:
    """(base, step) of `3`, `1+2n`, `2+n` or `2n+1`: the sizes base, base + step, ...; None where it is no such rule."""
    match = _ARITY.fullmatch(arity.replace(" ", ""))
    if match is None or (match["base"] and match["tail"]):
        return None
    if match["exact"]:
        return int(match["exact"]), 0
    return int(match["base"] or match["tail"] or 0), int(match["step"] or 1)


def fits(size: int, base: int, step: int) -> bool:
    return size == base if step == 0 else size >= base and (size - base) % step == 0


def allowed_sizes(size: int, base: int, step: int) -> str:
    """The sizes near `size` that the rule allows: `3`, or `1, 3, 5, ...`."""
    if step == 0:
        return str(base)
    first = base + max(0, (size - base) // step - 1) * step
    first = first or step
    return ", ".join(str(first + index * step) for index in range(3)) + ", ..."


def instances(count: int) -> str:
    return f"{count} instance" + ("" if count == 1 else "s")
