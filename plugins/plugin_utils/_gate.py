# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the running probe saw, held against how many failed requests are allowed.

The probe writes its live counts to `state.json` twice a second. A probe that does not run says nothing: neither a file
that an earlier one left behind nor no file at all closes the gate. That one has died meanwhile is said, though.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# With a percentage, as many requests are taken as sent at least: else the first one that fails is 100 %.
FEWEST_SENT = 100


class LimitError(ValueError):
    """`upgrade_max_failed_requests` is neither a number nor a percentage."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests that a probe sent, and those of them that failed or were sent again, since it began. `last`: the last
    failure, in words."""

    sent: int
    failed: int
    last: str = ""
    retried: int = 0

    def numbers(self) -> dict[str, int]:
        return {"sent": self.sent, "failed": self.failed, "retried": self.retried}

    def since(self, earlier: Counts) -> Counts:
        """What was added since. A probe that was started again in between counts from zero."""
        if earlier.sent > self.sent or earlier.failed > self.failed:
            return self
        return Counts(
            self.sent - earlier.sent, self.failed - earlier.failed, self.last, max(0, self.retried - earlier.retried)
        )


@dataclass(frozen=True, slots=True)
class Limit:
    """How many requests may fail: `number`, or where `share` is set that share of those sent."""

    number: int = 0
    share: float | None = None

    @classmethod
    def of(cls, value: Any) -> Limit:
        """From a number (0, "3") or a percentage ("0.5%"). Raises LimitError."""
        said = str(value).strip()
        if re.fullmatch(r"[0-9]{1,9}", said):
            return cls(int(said))
        if (found := re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%", said)) and float(found[1]) <= 100:
            return cls(share=float(found[1]) / 100)
        raise LimitError(
            f'upgrade_max_failed_requests is {value!r}: write how many requests may fail, as a number or such as "0.5%"'
        )

    def allowed(self, sent: int) -> int:
        return self.number if self.share is None else int(self.share * max(sent, FEWEST_SENT))

    def complaint(self, seen: Counts) -> str:
        """A sentence without its full stop where too many failed, else ""."""
        allowed = self.allowed(seen.sent)
        if seen.failed <= allowed:
            return ""
        last = f"; the last: {seen.last}" if seen.last else ""
        return (
            f"{seen.failed} of {seen.sent} requests of the probe failed, and upgrade_max_failed_requests allows "
            f"{allowed}{last}"
        )


def look(path: str | os.PathLike[str] | None) -> Counts | None:
    """The live counts of the probe that writes `path`; None where none runs."""
    pid, counts = _read(path)
    return counts if _runs(pid) else None


def died(path: str | os.PathLike[str] | None) -> bool:
    """Whether the probe that writes `path` is gone without having ended."""
    pid, _unused = _read(path)
    return pid > 0 and not _runs(pid)


def _read(path: str | os.PathLike[str] | None) -> tuple[int, Counts | None]:
    """The process that says of itself that it runs, 0 for none, and its counts."""
    if not path:
        return 0, None
    try:
        state = json.loads(Path(path).read_text(encoding="utf-8"))
        words = _words(state.get("last_failure"))
        counts = Counts(int(state["sent"]), int(state["failed"]), words, int(state.get("retried", 0)))
        return (int(state["pid"]), counts) if state["running"] else (0, None)
    except (OSError, ValueError, KeyError, TypeError):
        return 0, None


def _runs(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _words(failure: Mapping[str, Any] | None) -> str:
    return f"{failure['request']} {failure['url']} at {failure['at']}: {failure['reason']}" if failure else ""


class Gate:
    """The same over a run: what failed before it began does not count."""

    def __init__(self, path: str | None, limit: Limit) -> None:
        self._path = path
        self._limit = limit
        self._before: Counts | None = look(path)
        self._runs = self._before is not None

    def complaint(self) -> str:
        """Why nothing more may begin; "" while it may."""
        seen = look(self._path)
        if seen is None:
            return ""
        self._runs = True
        # A probe that was started after the run did has seen nothing but this run.
        return self._limit.complaint(seen.since(self._before or Counts(0, 0)))

    def lost(self) -> str:
        """A sentence, once, when a probe that ran meanwhile has died: nothing closes the gate any more."""
        if not self._runs or not died(self._path):
            return ""
        self._runs = False
        return f"The probe that wrote {self._path} has died: failed requests do not stop this run any more."
