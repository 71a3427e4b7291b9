# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lower part of a terminal, kept for lines that are drawn over again, while everything else scrolls above them.

The terminal itself keeps the two apart: all but the lowest lines are its scrolling region, so that nobody who writes to
it has to know of the panel (Ansible's own messages, warnings, a password prompt, what the user types). A frame saves
the cursor, draws and puts the cursor back, all in one write, so that nothing comes in between.
"""

from __future__ import annotations

import io
import os
import select
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO

from ._view import ASCII, BLOCKS, LEAST_WIDTH, Line, Signs, Span

try:
    from rich.console import Console
    from rich.text import Text
except ImportError:
    Console = None  # type: ignore[assignment, misc]

# Fewer lines than that, and all of them are for what scrolls.
LEAST_LINES = 16
MOST_LINES = 24

SAVE, RESTORE = "\x1b7", "\x1b8"
ALL_SCROLLS = "\x1b[r"
ERASE_BELOW = "\x1b[J"

Draw = Callable[[int, int, Signs], Sequence[Line]]


def unfit(stream: TextIO, environ: Mapping[str, str]) -> str:
    """Why no panel can be shown on a stream; "" where it can."""
    if Console is None:
        return "the Python package rich is missing"
    if not stream.isatty():
        return "the output is no terminal"
    if "AWX_ISOLATED_DATA_DIR" in environ:
        return "the terminal is ansible-runner's own"
    if environ.get("TERM", "") in ("", "dumb", "unknown"):
        return f"the terminal can't do it (TERM={environ.get('TERM', '')})"
    if environ.get("CI", "").lower() not in ("", "0", "false"):
        return "the environment says that this is a CI system (CI)"
    return ""


class Panel:
    """The lowest lines of a terminal. Not for use by several threads at once."""

    def __init__(self, stream: TextIO, *, colours: bool = True) -> None:
        self._descriptor = stream.fileno()
        encoding = (stream.encoding or "ascii").lower().replace("-", "")
        self._encoding = encoding
        self._signs = BLOCKS if encoding == "utf8" else ASCII
        self._colours = colours
        self._size = os.terminal_size((0, 0))
        self._height = 0
        self._frame = ""

    def show(self, draw: Draw) -> None:
        """Show what `draw(width, height, signs)` answers: at most so many lines of at most so many columns."""
        size = os.get_terminal_size(self._descriptor)
        if size.lines < LEAST_LINES or size.columns < LEAST_WIDTH:
            self.hide()
            return
        # The last column stays free: a terminal that is full to its edge may wrap when it is made narrower.
        width, most = size.columns - 1, min(MOST_LINES, size.lines // 2)
        lines = [[Span(self._signs.rule * width, "dim")], *draw(width, most - 1, self._signs)]
        out = ""
        if size != self._size and self._height:
            # Where the old lines are by now only the terminal knows; below the cursor is nothing but them.
            out, self._height = f"{SAVE}{ALL_SCROLLS}{RESTORE}{ERASE_BELOW}", 0
        self._size = size
        if len(lines) > self._height:
            out += self._make_room(len(lines))
        frame = self._drawn(lines, width)
        if out or frame != self._frame:
            self._write(out + frame)
        self._frame = frame

    def hide(self) -> None:
        """Give the lines back."""
        if self._height:
            self._height, self._frame = 0, ""
            self._write(f"{SAVE}{ALL_SCROLLS}{RESTORE}{ERASE_BELOW}")

    def _make_room(self, height: int) -> str:
        """Shrink the scrolling region; what stands in the way scrolls up, and the cursor with it."""
        more, self._height = height - self._height, height
        return "\x1bD" * more + f"\x1b[{more}A"

    def _drawn(self, lines: Sequence[Line], width: int) -> str:
        """Draws the panel. It never gets smaller while it is shown: what scrolls above would jump."""
        top = self._size.lines - self._height + 1
        rows = [self._styled(line, width) for line in lines]
        rows += [""] * (self._height - len(rows))
        drawn = "".join(f"\x1b[{top + number};1H\x1b[2K{row}" for number, row in enumerate(rows))
        return f"{SAVE}\x1b[1;{top - 1}r\x1b[0m{drawn}{RESTORE}"

    def _styled(self, line: Line, width: int) -> str:
        console = Console(
            file=io.StringIO(),
            force_terminal=True,
            no_color=None if self._colours else True,
            width=width,
            highlight=False,
            markup=False,
            emoji=False,
            legacy_windows=False,
        )
        with console.capture() as capture:
            console.print(
                Text.assemble(*((printable(span.text), span.style) for span in line)),
                end="",
                no_wrap=True,
                overflow="crop",
                crop=True,
            )
        return capture.get()

    def _write(self, text: str) -> None:
        left = text.encode(self._encoding, errors="replace")
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [], 1.0)


def printable(text: str) -> str:
    """The text without what would move a terminal's cursor."""
    return "".join(sign if sign.isprintable() else " " for sign in text)
