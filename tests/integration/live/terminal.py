# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program on a real terminal (a pty), and what a person sees on it (rendered by pyte)."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pyte

# Far more than anything here takes: only a hang should meet it.
PATIENCE = 300


class Terminal:
    """`command` at work on a terminal of its own. `screen` and `scrolled` are what is seen, and what scrolled off."""

    def __init__(
        self, command: list[str], folder: Path, environment: Mapping[str, str], columns: int = 100, lines: int = 30
    ) -> None:
        self._screen = pyte.HistoryScreen(columns, lines, history=10_000, ratio=0.5)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self.raw = b""
        self._master, slave = pty.openpty()
        self._set_size(columns, lines)
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            # Ctrl-C reaches who has this terminal as the controlling one.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                ready, _unused, _unused = select.select([self._master], [], [], 0.2)
                got = os.read(self._master, 65536) if ready else b""
            except OSError:
                return
            with self._lock:
                self.raw += got
                self._stream.feed(got)

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, columns: int, lines: int) -> None:
        with self._lock:
            self._screen.resize(lines, columns)
            self._set_size(columns, lines)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    @property
    def screen(self) -> list[str]:
        """The lines on the screen."""
        with self._lock:
            return [line.rstrip() for line in self._screen.display]

    @property
    def scrolled(self) -> list[str]:
        """The lines that scrolled off its top."""
        with self._lock:
            rows = list(self._screen.history.top)
        return ["".join(row[x].data for x in range(max(row, default=-1) + 1)).rstrip() for row in rows]

    @property
    def text(self) -> str:
        """All that was ever printed and is not drawn over, the oldest first."""
        return "\n".join([*self.scrolled, *self.screen])

    @property
    def panel(self) -> list[str]:
        """The lines of the live view; none where there is none."""
        screen = self.screen
        rules = [number for number, line in enumerate(screen) if line.startswith("───")]
        return screen[rules[-1] + 1 :] if rules else []

    @property
    def all_scrolls(self) -> bool:
        """Whether no part of the screen is kept from scrolling."""
        with self._lock:
            return self._screen.margins is None

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something to be seen while it runs."""
        end = time.monotonic() + PATIENCE
        while not condition():
            over = self.process.poll() is not None
            if time.monotonic() > end or (over and not condition()):
                self.close()
                raise AssertionError(f"waited in vain for {what}:\n{self.text}")
            time.sleep(0.05)

    def end(self) -> int:
        """Wait; the exit code."""
        code = self.process.wait(PATIENCE)
        time.sleep(0.5)
        self.close()
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, 9)
            self.process.wait(PATIENCE)
        # What was written is read to the end before the terminal goes.
        os.close(self._master)
        self._reader.join(PATIENCE)
