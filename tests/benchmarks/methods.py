# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of the methods: `make bench-methods`. Writes build/bench/methods.json; exits non-zero if one does not hold.

The same service (three instances that take ten seconds to start) under the same load (fifty requests a second) is
upgraded in turn by a restart of all instances at once, and by each method. Every way ends with all instances on the
other release, from which the next one goes on. Both balancers reload before each, so that memory begins anew.

    failed            requests that failed, as the probe saw them
    held              requests that waited at a balancer
    longest wait      of a request that is answered at once otherwise
    pause             the longest time in which no request was answered
    HAProxy           the most memory that one balancer took meanwhile
    extra             the most memory that the service's containers took together, above what they took before
    time              of the whole playbook: looking, planning, staging, verifying and reporting are in it

`--runs 3` repeats all of it and gives the medians. On a machine that is busy otherwise all times are longer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = ROOT / "molecule" / "methods"
sys.path[:0] = [str(ROOT / ".cache" / "collections"), str(ROOT / "molecule" / "shared"), str(SCENARIO / "tests")]

from laboratory import Laboratory, Run, journal_run, probing, until
from load import RATE, load, longest_wait

LAB = "bench-methods"
BALANCERS = ("lb1", "lb2")
WAYS = ("restart", "roll", "hold", "side_by_side", "held_switch")
# The second plan has learned from the first run how long requests wait: only then its prediction is one.
GONE = ("restart", "roll", "hold", "hold", "side_by_side", "held_switch")
RELEASES = ("1", "2")
# So many have been sent before anything begins that the balancers have measured their rate.
MEASURED = 600
# One look at the flag, and the time in which those that waited go one after another.
LETTING_GO = 1.35

LOOK_AT_MEMORY = """
import json, select, sys, docker
client = docker.from_env().api
while True:
    row = {}
    for one in client.containers(filters={"label": "rondo.upgrade.lab=LAB"}):
        name = one["Names"][0].lstrip("/")
        if name.endswith("-haproxy") or "-web" in name[len("LAB"):].partition("-")[2]:
            try:
                memory = client.stats(one["Id"], stream=False, one_shot=True)["memory_stats"]
                # What the page cache could give back at once does not count; cgroups 1 and 2 name it differently.
                pages = memory["stats"]
                row[name] = memory["usage"] - pages.get("total_inactive_file", pages.get("inactive_file", 0))
            except (KeyError, ValueError, docker.errors.APIError):
                continue  # Of one that is just being removed the engine tells half, nothing, or an error.
    print(json.dumps(row), flush=True)
    if select.select([sys.stdin], [], [], 0.5)[0]:
        break
"""


@contextmanager
def memory_seen(folder: Path) -> Iterator[list[dict[str, int]]]:
    """The bytes of HAProxy's and the service's containers, in one row for each look; filled when the context ends."""
    path = folder / "memory.jsonl"
    rows: list[dict[str, int]] = []
    with path.open("w") as output:
        process = subprocess.Popen(
            ["docker", "exec", "--interactive", f"{LAB}-lb1", "python3", "-c", LOOK_AT_MEMORY.replace("LAB", LAB)],
            stdin=subprocess.PIPE,
            stdout=output,
        )
        try:
            yield rows
        finally:
            process.communicate()
    if process.returncode:
        raise SystemExit("bench-methods: the look at memory failed, see above")
    rows += [json.loads(line) for line in path.read_text().splitlines()]


def of_service(row: Mapping[str, int]) -> int:
    return sum(taken for name, taken in row.items() if not name.endswith("-haproxy"))


def of_haproxy(row: Mapping[str, int]) -> int:
    return max(taken for name, taken in row.items() if name.endswith("-haproxy"))


def measured(lab: Laboratory, way: str, release: str, journal: Path) -> dict[str, Any]:
    """One upgrade by one way, with the way's own journal: nothing was learned from other ways."""
    journal.mkdir(exist_ok=True)
    os.environ["LAB_BUILD"] = str(journal)
    folder = Path(tempfile.mkdtemp(dir=journal))
    for balancer in BALANCERS:
        lab.node(balancer).check_output("rm -f /run/rondo-upgrade.fence*")
        lab.node(balancer).check_output(f"haproxy-in {lab.container_name(balancer, 'haproxy')} reload")
    with memory_seen(folder) as memory, probing(load("web", lab.vip), folder / "load") as seen:
        until(lambda: json.loads((folder / "load" / "state.json").read_text())["sent"] >= MEASURED, "requests")
        began = time.monotonic()
        run = Run(
            folder,
            SCENARIO / "inventory",
            str(ROOT / "tests" / "benchmarks" / "restart.yml") if way == "restart" else "rondo.upgrade.upgrade",
            subject="web",
            release=release,
            method="" if way == "restart" else way,
            # Where the machine is busy a hold lasts longer, and is measured all the same.
            more={"hold": {"deadline": "50s"}},
        )
        if run.process.wait() != 0:
            raise SystemExit(f"{way} failed:\n{run.output[-4000:]}")
        took = time.monotonic() - began
    hold: dict[str, Any] = {}
    foreseen: dict[str, Any] = {}
    if way in ("hold", "held_switch"):
        found = journal_run()
        assert found is not None
        hold = next(job for job in found["jobs"] if job["id"] == "switch web")["details"]["hold"]
        foreseen = next(job for job in found["plan"]["jobs"] if job["id"] == "switch web")["options"]["hold"]
    return {
        "way": way,
        "sent": seen["sent"],
        "failed": seen["failed"],
        "held": hold.get("held", 0),
        "longest_wait": round(longest_wait(seen), 3),
        "pause": seen["longest_gap_seconds"],
        "haproxy_mb": round(max(map(of_haproxy, filter(None, memory))) / 1e6, 1),
        "extra_mb": round((max(map(of_service, memory)) - of_service(memory[0])) / 1e6, 1),
        "seconds": round(took, 1),
        "probe_late_ms": seen["probe_late_ms"],
        "hold": hold,
        "foreseen": foreseen,
    }


def figure(name: str, value: float, unit: str, target: float) -> dict[str, Any]:
    """A figure whose target is an upper limit."""
    return {"name": name, "value": round(value, 4), "unit": unit, "target": target, "holds": value <= target}


def figures(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    by_way = {way: [row for row in rows if row["way"] == way] for way in WAYS}
    found = [
        figure(f"failed requests, {way}", max(row["failed"] for row in by_way[way]), "requests", 0)
        for way in WAYS
        if way != "restart"
    ]
    pauses = {way: median(row["hold"]["pause"] for row in by_way[way]) for way in ("hold", "held_switch")}
    found.append(
        figure("pause of held_switch over that of hold", pauses["held_switch"] / pauses["hold"], "ratio", 1 / 3)
    )
    row = by_way["hold"][-1]
    hold, foreseen = row["hold"], row["foreseen"]
    found += [
        figure("longest wait in HAProxy off the pause, hold", abs(hold["longest"] - hold["pause"]), "s", LETTING_GO),
        figure("longest wait of a client over the pause, hold", row["longest_wait"] - hold["pause"], "s", 2.0),
    ]
    for measure, predicted in (("pause", "pause"), ("greatest", "waiting"), ("memory", "memory")):
        off = abs(hold[measure] / foreseen[predicted] - 1)
        found.append(figure(f"{predicted} off what the plan predicted, hold", off, "share", 0.2))
    return found


def machine(lab: Laboratory) -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "ansible_core": version("ansible-core"),
        "haproxy": {
            balancer: lab.container(balancer, "haproxy").check_output("haproxy -v").split()[2] for balancer in BALANCERS
        },
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The README's table; medians where there was more than one run."""
    lines = [
        "| way | requests | failed | held | longest wait | pause | HAProxy | extra | time |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for way in WAYS:
        cells = [one for one in rows if one["way"] == way]

        def middle(key: str, cells: list[dict[str, Any]] = cells) -> float:
            return float(median(cell[key] for cell in cells))

        lines.append(
            f"| {way if way == 'restart' else f'`{way}`'} | {middle('sent'):.0f} | {middle('failed'):.0f} | "
            f"{middle('held'):.0f} | {middle('longest_wait'):.1f} s | {middle('pause'):.1f} s | "
            f"{middle('haproxy_mb'):.0f} MB | {middle('extra_mb'):.0f} MB | {middle('seconds'):.0f} s |"
        )
    return "\n".join(lines) + "\n"


def lab_tool(*words: str) -> None:
    subprocess.run([sys.executable, "tools/lab.py", *words], cwd=ROOT, stdin=subprocess.DEVNULL, check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Figures of the methods")
    parser.add_argument("--runs", type=int, default=1, help="how often each way is gone")
    given = parser.parse_args()
    build = ROOT / "build" / "bench"
    build.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rondo-bench-") as folder:
        os.environ |= {"RONDO_LAB": LAB, "LAB_BUILD": folder, "BALANCERS": str(len(BALANCERS))}
        subprocess.run([sys.executable, "tools/images.py", "web-2"], cwd=ROOT, stdin=subprocess.DEVNULL, check=True)
        try:
            inventory, definition = str(SCENARIO / "inventory"), str(SCENARIO / "lab.yml")
            mixed = ("--image", "haproxy@lb1=rondo/haproxy:2.6")
            lab_tool("up", "--name", LAB, "--inventory", inventory, "--lab", definition, *mixed)
            lab = Laboratory(LAB)
            before = machine(lab)
            prepare = Run(Path(folder), SCENARIO / "inventory", str(SCENARIO / "prepare.yml"))
            if prepare.process.wait() != 0:
                raise SystemExit(prepare.output)
            rows = []
            for number, way in enumerate(given.runs * GONE):
                rows.append(measured(lab, way, RELEASES[(number + 1) % 2], Path(folder) / way))
                print({key: value for key, value in rows[-1].items() if key not in ("hold", "foreseen")}, flush=True)
        finally:
            lab_tool("down", "--name", LAB)
    found = figures(rows)
    print(f"\n{table(rows)}")
    for one in found:
        mark = "holds" if one["holds"] else "DOES NOT HOLD"
        print(f"{one['name']:<50}{one['value']:>10} {one['unit']:<9} <= {one['target']:<6.3g} {mark}")
    target = build / "methods.json"
    target.write_text(json.dumps({"machine": before, "rate": RATE, "rows": rows, "figures": found}, indent=2) + "\n")
    (build / "methods.md").write_text(table(rows))
    print(f"written: {Path(os.path.relpath(target))}, methods.md")
    return 0 if all(one["holds"] for one in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
