# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in of a rehearsal, as a process."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[4] / "roles" / "rehearse" / "files" / "stand_in.py"


def test_it_says_who_it_is_and_checks_that_are_reset_are_no_errors_in_its_log() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    known = {"SERVICE": "web", "HOST": "web1", "PATH": "/alive", "STATUS": "203", "VERSION": "after", "PORT": str(port)}
    environment = {**os.environ, **{f"STAND_IN_{name}": value for name, value in known.items()}}
    with subprocess.Popen([sys.executable, str(PROGRAM)], env=environment, stderr=subprocess.PIPE) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 60
            while True:
                try:
                    answer = json.load(urllib.request.urlopen(url, timeout=20))
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            assert answer == {"service": "web", "host": "web1", "version": "after"}
            for _unused in range(20):
                with socket.create_connection(("127.0.0.1", port)) as check:
                    # As HAProxy ends a check.
                    check.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            assert urllib.request.urlopen(f"{url}/alive?more", timeout=20).status == 203
        finally:
            process.terminate()
        assert process.communicate(timeout=60)[1] == b""
