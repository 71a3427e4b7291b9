# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A headless Chromium, spoken to in its DevTools protocol over a pair of pipes: no port, no driver, nothing to install.

A message is JSON and ends with a zero byte. Chromium reads from its descriptor 3 and writes to its 4.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

PATIENCE = 120.0
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_LOOK = (
    "[document.documentElement.clientWidth,"
    " matchMedia('(prefers-color-scheme: dark)').matches, matchMedia('print').matches]"
)


class Browser:
    """One window with one page. `events` holds what the browser told by itself, oldest first."""

    def __init__(self, program: str, profile: Path) -> None:
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        self._log = profile.with_suffix(".log")
        # The shell puts the pipes where Chromium wants them, by way of free numbers: theirs may be 4 and 3.
        put = f'exec {{a}}<&{to_browser} {{b}}>&{from_browser} 3<&$a 4>&$b {{a}}<&- {{b}}>&- && exec "$@"'
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", put, "bash", program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(to_browser, from_browser),
                start_new_session=True,
            )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Asked to go, it takes its own processes along; killed, it leaves them to whoever adopts them.
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            os.write(self._write, b'{"id": 0, "method": "Browser.close"}\0')
            self._process.wait(timeout=30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=PATIENCE)
        os.close(self._write)
        os.close(self._read)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to a command of the DevTools protocol."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._next(deadline, method)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            if "method" in answer:
                self.events.append(answer)

    def open(self, url: str) -> None:
        """Goes to a page, and waits until it is loaded."""
        self.events.clear()
        # An earlier page may tell only now that it is loaded: the event has to be of this one.
        loader = self.call("Page.navigate", url=url)["loaderId"]
        deadline = time.monotonic() + PATIENCE
        while not any(
            event["method"] == "Page.lifecycleEvent"
            and event["params"]["loaderId"] == loader
            and event["params"]["name"] == "load"
            for event in self.events
        ):
            message = self._next(deadline, f"loading {url}")
            if "method" in message:
                self.events.append(message)

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives. The page's own policy does not bind it."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def look(self, width: int, height: int, *, mobile: bool = False, dark: bool = False, media: str = "") -> None:
        """Sets the window's size in CSS pixels, whether it is a phone's, the colour scheme, and the medium."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)
        # The answers come before the page has heard of it.
        wanted = [width, dark, media == "print"]
        deadline = time.monotonic() + PATIENCE
        while (found := self.value(_LOOK)) != wanted:
            assert time.monotonic() < deadline, f"the window's width, dark and print are {found}, not {wanted}"
            time.sleep(0.05)

    def picture(self, *, whole: bool = True) -> bytes:
        """A PNG of the window, or of the whole page."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])

    def pdf(self) -> bytes:
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def _next(self, deadline: float, waits_for: str) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._read, 1 << 20) if ready else b""
            if not data:
                what = "ended" if ready else f"did not answer within {PATIENCE:g} s"
                said = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
                raise AssertionError(f"Chromium {what} ({waits_for}); it said:\n{said}")
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer
