#!/usr/bin/env python3
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs make targets one after the other, also after one that failed; ends with a table, and a line that counts them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A part that takes this many seconds hangs: the whole is to take less.
LIMIT = 2400


def run(part: str) -> tuple[str, float]:
    print(f"\n==> make {part}", flush=True)
    began = time.monotonic()
    process = subprocess.Popen(
        ["make", "--no-print-directory", part], cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        outcome = "passed" if process.wait(timeout=LIMIT) == 0 else "failed"
    except subprocess.TimeoutExpired:
        outcome = f"failed: stopped after {LIMIT} s"
    finally:
        # Whatever the part left in its process group would disturb the next one.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return outcome, time.monotonic() - began


def main(parts: list[str]) -> int:
    results = {part: run(part) for part in parts}
    width = max(map(len, parts), default=0)
    print()
    for part, (outcome, seconds) in results.items():
        print(f"{part:{width}}  {seconds:6.0f} s  {outcome}")
    failed = sum(outcome != "passed" for outcome, _ in results.values())
    print(f"{'':{width}}  {sum(seconds for _, seconds in results.values()):6.0f} s\n")
    print(f"parts: {len(results) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
