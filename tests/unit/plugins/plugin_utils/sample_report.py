# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports to look at and to test with: three services on six hosts, upgraded under load, well or not."""

from __future__ import annotations

import dataclasses
import math
import re
from datetime import UTC, datetime
from typing import Any

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._regression import Margins, Result
from ansible_collections.rondo.upgrade.plugins.plugin_utils._report import report
from ansible_collections.rondo.upgrade.plugins.plugin_utils._report_counts import counted
from ansible_collections.rondo.upgrade.plugins.plugin_utils._tests_page import compared

BEGAN = 1_780_000_000.0
VERSIONS = {
    "ansible_core": "2.19.14",
    "haproxy": {"lb1": "3.0.11-1+deb13u3 2026/02/01", "lb2": "3.0.11-1+deb13u3 2026/02/01"},
    "engine": ["20.10.24"],
}
_PLANNED = (
    ("expand keystone", 0.0, 6.0, 0.0, 7.5),
    ("replace keystone@ctl1", 6.0, 22.0, 7.6, 26.1),
    ("replace glance@img1", 0.0, 18.0, 0.4, 16.8),
    ("replace glance@img2", 18.0, 36.0, 17.2, 38.0),
    ("replace keystone@ctl3", 22.0, 38.0, 26.5, 43.3),
    ("replace keystone@ctl2", 38.0, 54.0, 43.9, 61.2),
    ("contract keystone", 54.0, 60.0, 61.6, 66.0),
    ("replace horizon@web1", 54.0, 72.0, 61.8, 79.4),
)


def _job(name: str, start: float, end: float) -> dict[str, Any]:
    kind, _, about = name.partition(" ")
    service, _, host = about.partition("@")
    return {
        "id": name,
        "kind": kind,
        "service": service,
        "host": host or "ctl1",
        "instance": about if host else None,
        "running": f"registry.example/{service}:2026.1" if host else "",
        "artifact": {"kind": "container", "name": service, "target": f"registry.example/{service}:2026.2"},
        "servers": [{"backend": f"{service}_back", "name": host}] if host else [],
        "min_healthy_time": 5.0,
        "bake_time": 0.0,
        "start": start,
        "end": end,
    }


def run(fails: str | None = None) -> dict[str, Any]:
    """The journal's run. `fails`: the job that failed; those that would have begun after its end never did."""
    plan = [_job(name, start, end) for name, start, end, _, _ in _PLANNED]
    stop = next((ended for name, _, _, _, ended in _PLANNED if name == fails), math.inf)
    jobs = []
    for job, (name, _, _, begun, ended) in zip(plan, _PLANNED, strict=True):
        if begun > stop:
            continue
        details: dict[str, Any] = {}
        if job["kind"] == "replace":
            details = {"closed_sessions": 0, "kept": f"{job['service']}.rondo-kept-always-3f1c0b2a9d8e"}
        if job["kind"] == "contract":
            details = {"no_return": True}
        if name == fails:
            details["readings"] = [("lb1", {"at": BEGAN + begun + 1, "workers": []})]
            details["reason"] = "Ask it directly: http://192.0.2.13:5000/healthcheck answered 503 for 120s, not 200"
        times = {"begun": BEGAN + begun, "ended": BEGAN + ended}
        jobs.append({**job, **times, "outcome": "failed" if name == fails else "done", "details": details})
    return {
        "id": 4,
        "kind": "upgrade",
        "owner": "operator@deploy1 (process 4711)",
        "outcome": "failed" if fails else "done",
        "started": BEGAN - 4,
        "ended": BEGAN + 84,
        "jobs": jobs,
        "plan": {
            "jobs": plan,
            "forecast": {"makespan": 72.0, "p50": 74.0, "p90": 88.0, "bound": 60.0, "bound_name": "chain", "gap": 0.2},
            "digests": {"declaration": "08eb2d789ef43c36" * 4, "state": "9ee1d66736e99df3" * 4},
        },
    }


def probe(*, failing: range = range(0), seconds: int = 96) -> dict[str, Any]:
    """The probe's summary: 20 requests a second; in the seconds of `failing` four of them fail."""
    began = BEGAN - 8

    def when(moment: float) -> str:
        return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    buckets = []
    for second in range(seconds):
        slow = 1 + 2.2 * (math.sin(second / 5.3) > 0.6)
        latency = {
            "p50": round(11 + 2 * math.sin(second), 1),
            "p99": round((38 + 9 * math.cos(second * 2.4)) * slow, 1),
            "max": round((61 + 22 * math.cos(second * 1.7)) * slow, 1),
        }
        failed = 4 if second in failing else 0
        buckets.append(
            {"after_seconds": second, "sent": 20, "failed": failed, "retried": int(second == 40), "latency_ms": latency}
        )
    sent, failed = 20 * seconds, 4 * len(failing)
    proves = (
        f"{sent} requests without a failure prove, at 95 % confidence, only that fewer than {3 / sent:.2g} of all"
        " requests fail (3/n); they don't prove that none does."
    )
    return {
        "began": when(began),
        "ended": when(began + seconds),
        "rate": 20.0,
        "sent": sent,
        "failed": failed,
        "retried": 1,
        "latency_ms": {"p50": 11.4, "p99": 128.0, "max": 182.6},
        "longest_gap_seconds": 0.21,
        "probe_late_ms": 3.1,
        "proves": {"text": f"{failed} of {sent} requests failed: {failed / sent:.2%}." if failed else proves},
        "kinds": {
            name: {
                "sent": sent // 2,
                "failed": failed // 2,
                "retried": 0,
                "latency_ms": {"p50": 9.1, "p99": 80.0, "max": 182.6},
            }
            for name in ("token_issue", "token_validate")
        },
        "over_time": {"bucket_seconds": 1, "buckets": buckets},
        "failures": [
            {
                "at": when(began + second + number / 4),
                "request": "token_issue",
                "url": "http://192.0.2.10:5000/v3",
                "connection": "new",
                "status": 503,
                "reason": "status 503, not 201",
            }
            for second in failing
            for number in range(4)
        ],
    }


def _worker(started: int, errors: int, streams: int) -> dict[str, Any]:
    totals = {"hrsp_5xx": errors, "econ": 2, "eresp": 0, "wretr": 1, "wredis": 0, "stot": streams}
    keystone_back = {"mode": "http", **totals}
    return {"pid": 8, "started_at": started, "old": False, "open": 3, "backends": {"keystone_back": keystone_back}}


def _reading(moment: float, *workers: dict[str, Any]) -> dict[str, Any]:
    return {"at": BEGAN + moment, "workers": list(workers)}


def balancers(errors: int = 0, *, reloaded: bool = False) -> dict[str, Any]:
    before = {name: _reading(-3, _worker(100, 3, 5000)) for name in ("lb1", "lb2")}
    after = {
        "lb1": _reading(80, _worker(100, 3 + errors, 6200)),
        "lb2": _reading(80, _worker(200, 0, 400) if reloaded else _worker(100, 3, 5720)),
    }
    return counted(before, [], after)


NAMES = [
    "keystone@ctl1",
    "keystone@ctl2",
    "keystone@ctl3",
    "glance@img1",
    "glance@img2",
    "horizon@web1",
    "keystone",
    "lb1",
    "lb2",
]


def tests(*, worse: bool = False) -> dict[str, Any]:
    """Thirty tests before and after; `worse`: two of them have regressed."""
    v3 = "http://192.0.2.10:5000/v3"
    before = [Result("builtin", f"keystone@ctl{number} runs what the plan says", "passed") for number in range(1, 28)]
    before += [
        Result("builtin", f"keystone: {v3}/regions answers", "passed", "keystone"),
        Result("builtin", f"keystone: {v3} is as fast as before", "passed", "keystone", measured=_times(9.0)),
        Result("smoke", "test_mail.test_relay[ansible://ctl1]", "failed", message="connection refused"),
    ]
    after = list(before)
    if worse:
        after[27] = Result("builtin", before[27].name, "failed", "keystone", "3 of 3 requests failed: status 404")
        after[28] = Result("builtin", before[28].name, "passed", "keystone", measured=_times(190.0))
    baseline = {"tests": [dataclasses.asdict(result) for result in before]}
    return compared(baseline, after, Margins(), [])


def _times(median: float) -> dict[str, Any]:
    return {"kind": "latency", "p50": median, "p90": median * 1.4, "n": 20}


LOGS = {
    "requests": 1905,
    "failed": 0,
    "services": {"keystone": {"requests": 1905, "failed": 0}},
    "silent": [],
    "notes": [],
}
ARTIFACTS = [
    {
        "service": "keystone",
        "artifact": "registry.example/keystone:2026.2",
        "digest": "sha256:77aa" * 6,
        "instances": 3,
    },
    {"service": "glance", "artifact": "registry.example/glance:2026.2", "digest": "sha256:31cc" * 6, "instances": 2},
]


def clean() -> dict[str, Any]:
    return report(run(), probe(), balancers(), [], VERSIONS, NAMES, tests(), LOGS, ARTIFACTS)


def regressed() -> dict[str, Any]:
    """Every job is done, one of them under a hold, and two tests have regressed."""
    held = run()
    hold = {
        "held": 48,
        "rejected": 0,
        "longest": 2.4,
        "greatest": 41,
        "memory": 360_000,
        "pause": 2.3,
        "closed_sessions": 2,
        "ended": "released",
    }
    details = {"hold": hold, "spread": 0.04, "kept": {"web1": "horizon.rondo-kept-always-3f1c0b2a9d8e"}}
    last = held["jobs"][-1]
    member = {key: last[key] for key in ("instance", "host", "running", "artifact", "servers")} | {"current": False}
    switch = {**last, "id": "switch horizon", "kind": "switch", "method": "hold", "instance": None, "details": details}
    switch["instances"] = [member]
    held["jobs"][-1] = held["plan"]["jobs"][-1] = switch
    return report(held, probe(), balancers(), [], VERSIONS, NAMES, tests(worse=True), LOGS, ARTIFACTS)


def done() -> dict[str, Any]:
    return report(run(), None, balancers(reloaded=True), [], VERSIONS, NAMES)


def so_far() -> dict[str, Any]:
    """The probe goes on."""
    probed = {"sent": 1500, "failed": 0, "retried": 1, "so_far": True}
    return report(run(), probed, balancers(), [], VERSIONS, NAMES, tests(), LOGS, ARTIFACTS)


def failed() -> dict[str, Any]:
    differences = [
        "keystone@ctl2 runs registry.example/keystone:2026.1, not registry.example/keystone:2026.2",
        "keystone@ctl3 does not serve: ctl3 of keystone_back is in maint on lb1, lb2",
    ]
    return report(run("replace keystone@ctl3"), probe(failing=range(35, 38)), balancers(), differences, VERSIONS, NAMES)


def nothing() -> dict[str, Any]:
    return report(None, None, counted({}, [], {}), [], VERSIONS, NAMES)


def understood(path: str, text: str, value: Any) -> bool:
    """Whether a reader takes what the page shows for the value that report.json has at the path."""
    if value is None or value == "":
        return text == "–"
    if isinstance(value, str):
        if text == value:
            return True
        moment = datetime.fromisoformat(value).astimezone(UTC)
        return text in (f"{moment:%H:%M:%S}", f"{moment:%Y-%m-%d %H:%M:%S} UTC")
    number = text.replace(",", "")
    if number.isdigit():
        return int(number) == value
    read, exact = 0.0, 0.0
    for digits, unit in re.findall(r"([0-9.]+) ?(ms|[smhd])", text):
        size = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}[unit]
        read += float(digits) * size
        exact = size * 10.0 ** -len(digits.partition(".")[2])
    seconds = value / 1000 if "latency_ms" in path else value
    return exact > 0 and abs(read - seconds) <= exact
