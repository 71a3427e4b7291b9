# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holding new connections by the frontends' maxconn, where HAProxy has no Lua action and does not deadlock.

HAProxy has no timer for this, so that a process left behind on the balancer's own host ends the hold: it does not need
the controller, the network or Ansible any more. What it has to restore stands in a file, which is also what a release
and the next call read.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import tempfile
import time
from typing import Any, Dict, Mapping, Optional

from ansible_collections.rondo.upgrade.plugins.module_utils._haproxy import Balancer, HaproxyError
from ansible_collections.rondo.upgrade.plugins.module_utils._hold import HoldError

# How long the process that was left behind tries to reach a HAProxy that does not answer.
RESTORE_SECONDS = 600.0


class MaxconnHold:
    """The hold of one service; `directory` keeps its file. Methods raise `HoldError` or `HaproxyError`."""

    def __init__(self, balancer: Balancer, service: str, directory: str) -> None:
        self.balancer = balancer
        self.path = os.path.join(directory, "rondo-hold-%s.json" % service)

    def read(self) -> Optional[Dict[str, Any]]:
        """What is held: {token, owner, frontends: {name: maxconn before}, began, until}; None where nothing is."""
        try:
            with open(self.path, encoding="utf-8") as stream:
                content: Dict[str, Any] = json.load(stream)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise HoldError("%s: can't be read (%s)" % (self.path, error)) from error
        return content

    def switch_on(self, frontends: Mapping[str, int], seconds: float, owner: str) -> None:
        """Hold new connections of the frontends, given with their maxconn, for at most `seconds`."""
        token = secrets.token_hex(16)
        now = time.time()
        self._write(
            {"token": token, "owner": owner, "frontends": dict(frontends), "began": now, "until": now + seconds}
        )
        try:
            self._leave_behind(token, time.monotonic() + seconds)
            self.balancer.change(*("set maxconn frontend %s 0" % name for name in sorted(frontends)))
        except BaseException:
            with contextlib.suppress(HaproxyError):
                self._restore(frontends)
            self._remove()
            raise

    def switch_off(self) -> Optional[Dict[str, Any]]:
        """Release; returns what was held."""
        there = self.read()
        if there is not None:
            self._restore(there["frontends"])
            self._remove()
        return there

    def _restore(self, frontends: Mapping[str, int]) -> None:
        self.balancer.change(*("set maxconn frontend %s %d" % pair for pair in sorted(frontends.items())))

    def _write(self, content: Mapping[str, Any]) -> None:
        try:
            handle, draft = tempfile.mkstemp(prefix=".rondo-hold-", dir=os.path.dirname(self.path))
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump(content, stream)
            os.rename(draft, self.path)
        except OSError as error:
            raise HoldError("%s: can't be written (%s)" % (self.path, error.strerror)) from error

    def _remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def _leave_behind(self, token: str, deadline: float) -> None:
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            return
        try:
            os.setsid()
            if os.fork():
                os._exit(0)
            # Whatever waits for the end of the module's output must not wait for this process.
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(null, stream)
            os.closerange(3, 256)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            os.chdir("/")
            self._end_at(token, deadline)
        finally:
            os._exit(0)

    def _end_at(self, token: str, deadline: float) -> None:
        while time.monotonic() < deadline:
            time.sleep(max(0.0, min(1.0, deadline - time.monotonic())))
            there = self.read()
            if there is None or there["token"] != token:
                return
        while time.monotonic() < deadline + RESTORE_SECONDS:
            there = self.read()
            if there is None or there["token"] != token:
                return
            try:
                self._restore(there["frontends"])
                self._remove()
                return
            except HaproxyError:
                time.sleep(1.0)
