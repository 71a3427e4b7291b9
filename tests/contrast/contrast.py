#!/usr/bin/env python3
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same load over four ways to upgrade the same Keystone; prints a table, and keeps it in build/contrast.

Each way gets a new lab. Makespan is the whole playbook's, so ours includes planning, staging and verifying.
The exit code says whether every way ended and ours lost no request; the others may lose what they lose.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build" / "contrast"
BIN = Path(sys.executable).parent
PROBE = str(ROOT / "roles" / "probe" / "files" / "probe.py")
LAB = "contrast"
HERE = "tests/contrast"
OURS = "ours"
# What each way is called in the table, and its playbook.
WAYS = {
    "together": ("all at once", f"{HERE}/together.yml"),
    "one_by_one": ("one by one, no drain", f"{HERE}/one_by_one.yml"),
    "drained": ("`community.general.haproxy`, `serial: 1`", f"{HERE}/drained.yml"),
    OURS: ("rondo.upgrade", "rondo.upgrade.upgrade"),
}


@dataclass(frozen=True)
class Measured:
    """What one way cost: requests, the longest time without a success, and the playbook's duration (seconds)."""

    sent: int
    failed: int
    gap: float
    makespan: float
    code: int


def measure(way: str, playbook: str) -> Measured:
    folder = BUILD / way
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    subprocess.run(
        [sys.executable, "tools/lab.py", "up", "--name", LAB], cwd=ROOT, stdin=subprocess.DEVNULL, check=True
    )
    vip = json.loads((ROOT / ".cache" / "lab" / LAB / "lab.json").read_text())["vip"]
    load = yaml.safe_load((ROOT / "molecule" / "shared" / "load.yml").read_text())
    configuration = folder / "probe.json"
    configuration.touch(mode=0o600)
    configuration.write_text(json.dumps({**load["load"], "rate": load["load_rate"]}).replace("{{ lab.vip }}", vip))
    with (folder / "probe.log").open("w") as log:
        subprocess.run(
            [sys.executable, PROBE, "start", str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
        )
    began = time.monotonic()
    try:
        with (folder / "ansible.log").open("w") as log:
            code = subprocess.run(
                [
                    str(BIN / "ansible-playbook"),
                    "--inventory",
                    "inventories/lab",
                    "--extra-vars",
                    json.dumps({"upgrade_directory": str(folder)}),
                    playbook,
                ],
                cwd=ROOT,
                env={**os.environ, "RONDO_LAB": LAB, "ANSIBLE_FORCE_COLOR": "0"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
            ).returncode
        makespan = time.monotonic() - began
    finally:
        subprocess.run(
            [sys.executable, PROBE, "stop", str(configuration)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    summary = json.loads((folder / "summary.json").read_text())
    return Measured(
        sent=summary["sent"],
        failed=summary["failed"],
        gap=summary["longest_gap_seconds"],
        makespan=makespan,
        code=code,
    )


def table(results: dict[str, Measured]) -> str:
    lines = ["| way | requests | failed | longest gap | makespan |", "| --- | ---: | ---: | ---: | ---: |"]
    for way, one in results.items():
        note = "" if one.code == 0 else " (the playbook failed)"
        lines.append(f"| {WAYS[way][0]}{note} | {one.sent} | {one.failed} | {one.gap:.1f} s | {one.makespan:.0f} s |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures four ways to upgrade the same Keystone.")
    parser.add_argument("ways", nargs="*", metavar="WAY", help=f"some of {', '.join(WAYS)}; default: all")
    options = parser.parse_args()
    if unknown := set(options.ways) - set(WAYS):
        parser.error(f"no way is called {', '.join(sorted(unknown))}; there are {', '.join(WAYS)}")
    subprocess.run(
        [sys.executable, "tools/images.py", "keystone-29.1.0"], cwd=ROOT, stdin=subprocess.DEVNULL, check=True
    )
    results: dict[str, Measured] = {}
    try:
        for way in options.ways or WAYS:
            print(f"contrast: {WAYS[way][0]}", flush=True)
            results[way] = measure(way, WAYS[way][1])
    finally:
        subprocess.run(
            [sys.executable, "tools/lab.py", "down", "--name", LAB], cwd=ROOT, stdin=subprocess.DEVNULL, check=False
        )
    text = table(results)
    (BUILD / "table.md").write_text(text)
    print(f"\n{text}\nKept in build/contrast, with every way's log.")
    ended = all(one.code == 0 for one in results.values())
    return 0 if ended and (OURS not in results or results[OURS].failed == 0) else 1


if __name__ == "__main__":
    sys.exit(main())
