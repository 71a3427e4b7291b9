# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of the window: `make bench-window`. Writes build/bench/window.json; exits non-zero if a figure does not hold.

Real runs of ansible-playbook on simulated hosts: local connections, and an action plugin that sleeps in the
controller's workers. Each host is taken out of rotation once: drain 1 s, start (lognormal, mean 3 s, sigma 0.8, drawn
by strata, so that every size has the same distribution; the seed is fixed, see `typical_seed`), health 0.5 s. A quarter
of the hosts may be out at once. The same hosts, with the same durations, go through

    linear            `serial: 25%`
    host_pinned       as many forks as the window is wide
    first come        `rolling` with one estimate for all
    noisy             `rolling` with estimates that are off by a factor from 0.5 to 2
    learned           `rolling` with what the run before (noisy) measured of each host

It is the same three tasks everywhere; under `rolling` they are those of a role. Wall seconds are those from the first
play's start to the end of the last: starting ansible-playbook costs the same for all. A host is out of rotation from
the start of its first step to the end of its last, by an observer file to which each step appends; so is the greatest
number out. The controller's CPU is that of its own process, with the workers' told apart. While the machine is busy
otherwise, only the relations between the rows of one run mean something.

Mitogen's `mitogen_host_pinned` is a row for information, where Mitogen works with the installed ansible-core.

`--sizes 20,50` runs only these, and without the 1,000 hosts; its figures are then those that these sizes have.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from heapq import heapreplace
from importlib.metadata import version
from importlib.util import find_spec
from math import exp, log
from pathlib import Path
from random import Random
from statistics import NormalDist, mean, median
from typing import Any

import fleets

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._bounds import lower_bound
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._estimates import Estimates
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import (
    Artifact,
    Cluster,
    Instance,
    Service,
    State,
)
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._planner import make_plan

SIZES = (20, 50, 100, 200)
LARGE = 1000
SEEDS = range(1, 101)
DRAIN = 1.0
START_MEAN = 3.0
SIGMA = 0.8
HEALTH = 0.5
SHARE = 4
PATIENCE = 1800

STEP = """
import os, time
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        step, host = self._task.args["step"], task_vars["inventory_hostname"]
        self.stamp(task_vars, "begin", step, host)
        time.sleep(self._task.args["seconds"])
        self.stamp(task_vars, "end", step, host)
        return result

    def stamp(self, task_vars, what, step, host):
        with open(os.environ["OBSERVER"], "a") as observer:
            observer.write(f"{time.monotonic()} {what} {step} {host}\\n")
"""

STAMPS = """
DOCUMENTATION = "name: stamps\\ntype: aggregate\\nshort_description: When plays start\\ndescription: [Stamps]\\n"
import os, time
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "stamps"

    def v2_playbook_on_play_start(self, play):
        self.stamp("play")

    def v2_playbook_on_stats(self, stats):
        self.stamp("stats")

    def stamp(self, what):
        with open(os.environ["OBSERVER"], "a") as observer:
            observer.write(f"{time.monotonic()} {what} - -\\n")
"""

TASKS = """
- name: Drain
  step: {step: drain, seconds: DRAIN}
- name: Start
  step: {step: start, seconds: "{{ start_seconds }}"}
- name: Check health
  step: {step: health, seconds: HEALTH}
""".replace("DRAIN", str(DRAIN)).replace("HEALTH", str(HEALTH))

PLAIN = """
- name: Upgrade
  hosts: all
  gather_facts: false
  strategy: {strategy}
  serial: {serial}
  tasks:{tasks}
"""

ROLLING = """
- name: Upgrade
  hosts: all
  gather_facts: false
  strategy: rondo.upgrade.rolling
  vars:
    upgrade_plan: "{{ lookup('ansible.builtin.file', 'plan.json') | ansible.builtin.from_json }}"
  tasks:
    - name: Do the job
      ansible.builtin.import_role:
        name: job
        rolespec_validate: false
"""


def start_times(number: int, seed: int) -> dict[str, float]:
    """Seconds that each host takes to start: one from each stratum of the distribution, in random order."""
    random = Random(seed)
    normal = NormalDist(log(START_MEAN) - SIGMA**2 / 2, SIGMA)
    drawn = [exp(normal.inv_cdf((i + random.uniform(0.01, 0.99)) / number)) for i in range(number)]
    random.shuffle(drawn)
    return {f"host{i:04}": round(seconds, 2) for i, seconds in enumerate(drawn)}


def in_inventory_order(number: int, seed: int) -> float:
    """Seconds over the bound of a window that admits hosts in the inventory's order, at no cost."""
    work = [DRAIN + seconds + HEALTH for seconds in start_times(number, seed).values()]
    slots = [0.0] * (number // SHARE)
    for seconds in work:
        heapreplace(slots, slots[0] + seconds)
    return max(slots) / max(*work, sum(work) / len(slots))


@cache
def typical_seed() -> int:
    """The one of `SEEDS` whose draws come closest to the median of all in what a fixed order makes of them.

    Where in the inventory the longest jobs stand decides that, from 1.0 to 1.8 times the bound. What `rolling` makes of
    them has no part in the choice.
    """
    ratios = {seed: [in_inventory_order(size, seed) for size in SIZES] for seed in SEEDS}
    typical = [median(row[i] for row in ratios.values()) for i in range(len(SIZES))]
    return min(SEEDS, key=lambda seed: sum(abs(log(a / b)) for a, b in zip(ratios[seed], typical, strict=True)))


def cluster(estimates: Mapping[str, float]) -> Cluster:
    """One service on all hosts, a quarter of which may be out. `estimates`: seconds of each host's job."""
    artifact = Artifact("container", "simulated", "simulated:2")
    instances = tuple(
        Instance("simulated", host, artifact, estimates={"replace": seconds}) for host, seconds in estimates.items()
    )
    service = Service("simulated", instances, max_unavailable=len(instances) // SHARE, min_healthy_time=0.0)
    return Cluster({"simulated": service})


@dataclass(frozen=True)
class Result:
    """What one run did. `out`: seconds that each host was out of rotation."""

    row: dict[str, Any]
    out: dict[str, float]


class Bench:
    """A folder with the simulated hosts of one size, in which the plays run one after the other."""

    def __init__(self, path: Path, hosts: Mapping[str, float]) -> None:
        self.path = path
        self.hosts = hosts
        self.window = len(hosts) // SHARE
        self.work = {host: DRAIN + seconds + HEALTH for host, seconds in hosts.items()}
        true = make_plan(cluster(self.work), State())
        self.bound = lower_bound(true.jobs, true.phases, true.budgets).seconds
        self._write("action_plugins/step.py", STEP)
        self._write("callback_plugins/stamps.py", STAMPS)
        self._write("roles/job/tasks/main.yml", "---" + TASKS)
        lines = [f"{host} ansible_connection=local start_seconds={seconds}" for host, seconds in hosts.items()]
        self._write("inventory", "\n".join(lines) + "\n")

    def _write(self, name: str, text: str) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def plain(self, name: str, strategy: str, serial: str, settings: Mapping[str, str] | None = None) -> Result:
        tasks = TASKS.replace("\n", "\n    ").rstrip()
        self._write("plain.yml", PLAIN.format(strategy=strategy, serial=serial, tasks=tasks))
        return self._run(name, ["plain.yml"], settings or {})

    def rolling(self, name: str, estimates: Mapping[str, float], measured: Mapping[str, float] | None = None) -> Result:
        """`estimates`: declared seconds of each host's job; `measured`: those of an earlier run."""
        declared = cluster(estimates)
        durations = {("replace", "simulated", host): [seconds] for host, seconds in (measured or {}).items()}
        plan = make_plan(declared, State(), Estimates(declared, durations)).to_dict()
        self._write("plan.json", json.dumps(plan))
        self._write("rolling.yml", ROLLING)
        return self._run(name, ["rolling.yml"], {})

    def _run(self, name: str, arguments: list[str], settings: Mapping[str, str]) -> Result:
        observer = self.path / "observer"
        observer.unlink(missing_ok=True)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            "ANSIBLE_COLLECTIONS_PATH": str(fleets.ROOT / ".cache" / "collections"),
            "ANSIBLE_HOME": str(self.path / "home"),
            "ANSIBLE_FORKS": str(self.window),
            "ANSIBLE_DEPRECATION_WARNINGS": "0",
            "ANSIBLE_CALLBACKS_ENABLED": "stamps",
            "ANSIBLE_RETRY_FILES_ENABLED": "0",
            "OBSERVER": str(observer),
            **settings,
        }
        with (self.path / "output").open("w") as output:
            process = subprocess.Popen(
                [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "inventory", *arguments],
                cwd=self.path,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            own, all_of_it, memory = usage(process)
        stamps = [line.split() for line in observer.read_text().splitlines()] if observer.exists() else []
        if process.returncode or sum(row[1:3] == ["end", "health"] for row in stamps) != len(self.hosts):
            raise RuntimeError(
                f"{name} with {len(self.hosts)} hosts failed:\n{(self.path / 'output').read_text()[-3000:]}"
            )
        return self._result(name, stamps, own, all_of_it - own, memory)

    def _result(self, name: str, stamps: list[list[str]], own: float, workers: float, memory: float) -> Result:
        times = {(what, step, host): float(at) for at, what, step, host in stamps}
        began = {host: times["begin", "drain", host] for host in self.hosts}
        ended = {host: times["end", "health", host] for host in self.hosts}
        wall = float(stamps[-1][0]) - min(float(at) for at, what, _unused, _host in stamps if what == "play")
        out = {host: ended[host] - began[host] for host in self.hosts}
        row = {
            "hosts": len(self.hosts),
            "strategy": name,
            "wall": round(wall, 2),
            "bound": round(self.bound, 2),
            "ratio": round(wall / self.bound, 3),
            "cpu_per_host_ms": round(own / len(self.hosts) * 1000, 1),
            "workers_cpu_per_host_ms": round(workers / len(self.hosts) * 1000, 1),
            "memory_mb": round(memory, 1),
            "greatest_out": greatest_out(began, ended),
            "window": self.window,
            "out_mean": round(mean(out.values()), 3),
            "work_mean": round(mean(self.work.values()), 3),
        }
        show(row)
        return Result(row, out)


def usage(process: subprocess.Popen[bytes]) -> tuple[float, float, float]:
    """Waits for its end. CPU seconds of the process alone, of it and all its children, and the peak memory in MB."""
    before = time.monotonic()
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if time.monotonic() > before + PATIENCE:
            process.kill()
        time.sleep(0.05)
    # It has ended, but is still in the process table: the only place that tells its own time from its children's.
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    _pid, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return own, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def greatest_out(began: Mapping[str, float], ended: Mapping[str, float]) -> int:
    out = greatest = 0
    # At the same instant the end counts first.
    for _at, change in sorted([(at, 1) for at in began.values()] + [(at, -1) for at in ended.values()]):
        out += change
        greatest = max(greatest, out)
    return greatest


def mitogen() -> str:
    """The folder of Mitogen's strategies."""
    found = find_spec("ansible_mitogen")
    assert found is not None and found.origin is not None
    return str(Path(found.origin).parent / "plugins" / "strategy")


def compared(path: Path, size: int, notes: list[str]) -> list[dict[str, Any]]:
    """The rows of one size."""
    bench = Bench(path, start_times(size, typical_seed()))
    random = Random(typical_seed() + size)
    typical = mean(bench.work.values())
    results = [
        bench.plain("linear 25%", "linear", "25%"),
        bench.plain("host_pinned", "host_pinned", "100%"),
        bench.rolling("first come", dict.fromkeys(bench.work, typical)),
    ]
    estimates = {host: seconds * 2 ** random.uniform(-1, 1) for host, seconds in bench.work.items()}
    noisy = bench.rolling("noisy", estimates)
    results += [noisy, bench.rolling("learned", estimates, noisy.out)]
    try:
        results.append(bench.plain("mitogen", "mitogen_host_pinned", "100%", {"ANSIBLE_STRATEGY_PLUGINS": mitogen()}))
    except RuntimeError as error:
        note = f"Mitogen does not work with this ansible-core: {str(error).splitlines()[-1]}"
        if note not in notes:
            notes.append(note)
    return [result.row for result in results]


def figure(name: str, value: float, unit: str, target: float) -> dict[str, Any]:
    """A figure whose target is an upper limit."""
    return {"name": name, "value": round(value, 4), "unit": unit, "target": target, "holds": value <= target}


def figures(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    of = {(row["hosts"], row["strategy"]): row for row in rows}
    sizes = [size for size in SIZES if (size, "learned") in of]
    found = [
        figure(f"wall over bound, {name} estimates, {size} hosts", of[size, name]["ratio"], "ratio", target)
        for name, target in (("noisy", 1.3), ("learned", 1.2))
        for size in sizes
        if size >= 50
    ]
    for size in sizes:
        if size >= 100:
            rolling, pinned = of[size, "noisy"], of[size, "host_pinned"]
            found += [
                figure(f"wall over host_pinned's, {size} hosts", rolling["wall"] / pinned["wall"], "ratio", 0.8),
                figure(
                    f"controller CPU over host_pinned's, {size} hosts",
                    rolling["cpu_per_host_ms"] / pinned["cpu_per_host_ms"],
                    "ratio",
                    0.5,
                ),
            ]
    for size in sizes:
        ours = [of[size, name] for name in ("first come", "noisy", "learned")]
        longest = max(row["out_mean"] / row["work_mean"] for row in ours)
        found.append(figure(f"time out over the work itself, {size} hosts", longest, "ratio", 1.1))
        beyond = max(row["greatest_out"] - row["window"] for row in ours)
        found.append(figure(f"hosts out beyond the window, {size} hosts", beyond, "hosts", 0))
    if {50, 200} <= set(sizes):
        for name in ("noisy", "learned"):
            grown = of[200, name]["ratio"] / of[50, name]["ratio"]
            found.append(figure(f"ratio to the bound at 200 hosts over that at 50, {name}", grown, "ratio", 1.0))
    if (LARGE, "learned") in of:
        grown = of[LARGE, "learned"]["cpu_per_host_ms"] / of[100, "learned"]["cpu_per_host_ms"]
        found.append(figure(f"controller CPU per job at {LARGE} hosts over that at 100", grown, "ratio", 1.2))
    return found


def machine() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "ansible_core": version("ansible-core"),
    }


def show(row: Mapping[str, Any]) -> None:
    print(
        f"{row['hosts']:>6} {row['strategy']:<13}{row['wall']:>8.1f}{row['bound']:>8.1f}{row['ratio']:>7.2f}"
        f"{row['cpu_per_host_ms']:>9.0f}{row['workers_cpu_per_host_ms']:>9.0f}{row['memory_mb']:>7.0f}"
        f"{row['greatest_out']:>6}/{row['window']:<4}{row['out_mean']:>7.2f}{row['work_mean']:>7.2f}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Figures of the window")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of hosts, with commas")
    given = parser.parse_args()
    sizes = [int(size) for size in given.sizes.split(",")]
    print(
        f"{'hosts':>6} {'':<13}{'wall s':>8}{'bound':>8}{'ratio':>7}{'CPU ms':>9}{'workers':>9}{'MB':>7}"
        f"{'out':>6}{'':<5}{'out s':>7}{'work s':>7}"
    )
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    before = machine()
    folder = Path(tempfile.mkdtemp(prefix="rondo-bench-"))
    try:
        for size in sizes:
            rows += compared(folder / str(size), size, notes)
        if sizes == list(SIZES):
            bench = Bench(folder / str(LARGE), start_times(LARGE, typical_seed()))
            rows.append(bench.rolling("learned", bench.work).row)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = figures(rows)
    for one in found:
        mark = "holds" if one["holds"] else "DOES NOT HOLD"
        print(f"{one['name']:<66}{one['value']:>10} {one['unit']:<7} <= {one['target']:<6} {mark}")
    for note in notes:
        print(note)
    target = fleets.ROOT / "build" / "bench" / "window.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": before, "seed": typical_seed(), "rows": rows, "notes": notes, "figures": found}
    target.write_text(json.dumps(content, indent=2) + "\n")
    print(f"written: {Path(os.path.relpath(target))}")
    return 0 if all(one["holds"] for one in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
