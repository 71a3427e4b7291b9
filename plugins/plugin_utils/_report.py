# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of a run: report.json, and the same on one screen.

Sources: the run as the journal holds it, the probe's summary or what it had counted when the run ended, the counters of
the balancers, what the tests said before and after, and what differs from the declaration now. Times in the journal are
seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ._page import WIDTH, count, duration, some, wrapped
from ._report_counts import COUNTERS, counts, haproxy_source, log_source, probe_source
from ._report_parts import checks, held, instances, least, longest_out, summary, timeline, when
from ._tests_page import name, told

SCHEMA = 1
_REQUESTS = (
    "sent",
    "failed",
    "retried",
    "so_far",
    "held",
    "succeeded",
    "longest_gap_seconds",
    "rate",
    "proves",
    "began",
    "ended",
    "probe_late_ms",
    "kinds",
    "over_time",
)


def report(
    run: Mapping[str, Any] | None,
    probe: Mapping[str, Any] | None,
    haproxy: Mapping[str, Any],
    differences: Sequence[str],
    versions: Mapping[str, Any],
    compared: Sequence[str] = (),
    tests: Mapping[str, Any] | None = None,
    access_logs: Mapping[str, Any] | None = None,
    artifacts: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The content of report.json. `run`: the journal's, None if nothing was ever run; `probe`: its summary, or from
    `_report_counts.so_far`; `haproxy`: from `_report_counts.counted`;
    `compared`: names of what was compared with the declaration; `tests`: from `_tests_page.compared`, None where none
    ran after the run; `access_logs`: from `_builtin.logged`; `artifacts`: what runs now, by service.

    `verdict` is "clean" (everything done, and three counts that are whole agree that no request failed), "done" (the
    same, with counts missing or not whole: `counts.missing`) or "failed"; `reasons` says why it failed. `whole`: every
    job of the plan is done.
    """
    jobs = run["jobs"] if run else []
    planned = [job["id"] for job in run["plan"].get("jobs", ())] if run else []
    begun = {job["id"] for job in jobs}
    left = [name for name in planned if name not in begun]
    counted_by = counts(probe_source(probe), haproxy_source(haproxy), log_source(access_logs))
    waited, replaced = held(run), instances(run)
    regressions = [row for row in tests["changes"] if row["class"] == "regression"] if tests else []
    reasons = [
        *_reasons(jobs, left, _stopped(run), probe, counted_by, differences),
        *(f"regression: {name(row)} ({row['message']})" for row in regressions),
    ]
    content = {
        "schema": SCHEMA,
        "verdict": "failed" if reasons else "done" if counted_by["missing"] else "clean",
        "reasons": reasons,
        "run": _run(run) if run else None,
        "whole": bool(run) and not left and all(job["outcome"] == "done" for job in jobs),
        "makespan_seconds": _makespan(jobs),
        "forecast": dict(run["plan"].get("forecast", {})) if run else {},
        "requests": {key: probe[key] for key in _REQUESTS if key in probe} if probe else None,
        "latency_ms": dict(probe["latency_ms"]) if probe and "latency_ms" in probe else None,
        "failures": list(probe.get("failures", ())) if probe else [],
        "timeline": timeline(run),
        "held": waited,
        "held_requests": sum(row["held"] or 0 for row in waited),
        "longest_held_seconds": max((row["longest_seconds"] for row in waited if row["longest_seconds"]), default=None),
        "regressions": [{**row, "name": name(row)} for row in regressions],
        "tests": _tests(tests),
        "access_logs": dict(access_logs) if access_logs else None,
        "artifacts": [dict(row) for row in artifacts],
        "instances": replaced,
        "longest_out_of_rotation": longest_out(replaced),
        "schema_jobs": [_schema_job(job) for job in jobs if job["kind"] not in ("replace", "switch", "settle")],
        "not_begun": left,
        "differences": list(differences),
        "checks": checks(compared, differences),
        "counts": counted_by,
        "haproxy": dict(haproxy),
        "versions": dict(versions),
        "digests": dict(run["plan"].get("digests", {})) if run else {},
    }
    return {"summary": summary(content), **content}


def _tests(tests: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the tests said, all but the names of those that are as they were: they are many."""
    if tests is None:
        return None
    kept = {key: tests[key] for key in ("has_baseline", "counted")}
    return {**kept, "changes": [row for row in tests["changes"] if row["class"] != "unchanged"]}


def _run(run: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: run[key] for key in ("id", "kind", "owner", "outcome")}
    return {**kept, "started": when(run.get("started")), "ended": when(run.get("ended"))}


def _reasons(
    jobs: Sequence[Mapping[str, Any]],
    left: Sequence[str],
    stopped: str,
    probe: Mapping[str, Any] | None,
    counted_by: Mapping[str, Any],
    differences: Sequence[str],
) -> Iterator[str]:
    for job in jobs:
        if job["outcome"] != "done":
            why = job["details"].get("reason")
            yield f"{job['id']}: {job['outcome'] or 'in flight'}{f' ({why})' if why else ''}"
    if left:
        yield f"never begun{f' ({stopped})' if stopped else ''}: {some(left)}"
    if differences:
        yield f"{count(len(differences), 'difference')} from what is declared"
    if probe and probe["failed"]:
        yield f"{probe['failed']} of {probe['sent']} requests failed"
    if counted_by["agree"] is False:
        yield counted_by["note"]


def _stopped(run: Mapping[str, Any] | None) -> str:
    """Why the run was stopped before its end, where somebody or something stopped it."""
    return str(((run or {}).get("summaries") or {}).get("stopped", {}).get("reason", ""))


def _makespan(jobs: Sequence[Mapping[str, Any]]) -> float:
    ends = [job["ended"] for job in jobs if job["ended"] is not None]
    return round(float(max(ends) - min(job["begun"] for job in jobs)), 3) if ends else 0.0


def _schema_job(job: Mapping[str, Any]) -> dict[str, Any]:
    ended, outcome = when(job["ended"]), job["outcome"] or "in flight"
    return {"id": job["id"], "began": when(job["begun"]), "ended": ended, "outcome": outcome}


def page(content: Mapping[str, Any]) -> str:
    """The report as text of at most 100 columns: the verdict, what is where, what to do."""
    sections = [
        list(_verdict(content)),
        list(_traffic(content)),
        list(_held(content)),
        list(_tests_told(content)),
        list(_instances(content)),
        list(_others(content)),
        list(_differences(content)),
        list(_kept(content)),
        list(_artifacts(content)),
        list(_versions(content)),
        list(_next(content)),
        [content["summary"]],
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


_VERDICTS = {
    "clean": "CLEAN: everything is done and no request failed",
    "done": "DONE: everything is done; what keeps it from being called clean:",
    "failed": "FAILED",
}


def _verdict(content: Mapping[str, Any]) -> Iterator[str]:
    yield f"REPORT  {_VERDICTS[content['verdict']]}"
    for reason in content["reasons"] or content["counts"]["missing"]:
        yield from wrapped(reason, "  - ")
    run = content["run"]
    if run is None:
        yield "  nothing was ever run with this journal"
        return
    forecast = content["forecast"].get("makespan")
    told = f", forecast {duration(forecast)}" if forecast else ""
    took = duration(content["makespan_seconds"])
    yield f"  run {run['id']} ({run['kind']}): {run['outcome'] or 'not ended'}, {took}{told}"


def _traffic(content: Mapping[str, Any]) -> Iterator[str]:
    if requests := content["requests"]:
        so_far = ", so far: the probe goes on" if requests.get("so_far") else ""
        numbers = f"sent {requests['sent']}, failed {requests['failed']}, retried {requests.get('retried', 0)}"
        yield f"REQUESTS  {numbers}{so_far}"
        if latency := content["latency_ms"]:
            yield f"  latency {_latency(latency)}"
        if "longest_gap_seconds" in requests:
            yield f"  longest gap without a success {requests['longest_gap_seconds']:.2f} s"
        if "proves" in requests:
            yield from wrapped(requests["proves"]["text"], "  ")
        for kind, row in requests.get("kinds", {}).items():
            told = (
                f"sent {row['sent']}, failed {row['failed']}, retried {row['retried']}; {_latency(row['latency_ms'])}"
            )
            yield from wrapped(told, f"  {kind}  "[: WIDTH // 2])
        for failure in content["failures"][:3]:
            yield from wrapped(
                f"{failure.get('at', '')} {failure.get('request', '')}: {failure.get('reason', '')}", "  failed "
            )
    for balancer, row in content["haproxy"]["by_balancer"].items():
        yield from wrapped(", ".join(f"{key} +{row[key]}" for key in COUNTERS), f"HAPROXY  {balancer}  "[: WIDTH // 2])
    if logs := content["access_logs"]:
        yield f"ACCESS LOGS  {count(logs['requests'], 'request')}, {logs['failed']} failed"
    yield from wrapped(content["counts"]["note"], "COUNTS  ")
    # Of a run that is done the verdict has told it already.
    for missing in content["counts"]["missing"] if content["verdict"] == "failed" else ():
        yield from wrapped(f"not whole: {missing}", "  ")


def _latency(latency: Mapping[str, float | None]) -> str:
    return ", ".join(f"{key} {latency[key]:.0f} ms" for key in ("p50", "p99", "max") if latency.get(key) is not None)


def _held(content: Mapping[str, Any]) -> Iterator[str]:
    rows = content["held"]
    if not rows:
        return
    yield "HELD, not failed"
    for row in rows:
        yield from wrapped(row["said"], f"  {row['service']}  ")


def _tests_told(content: Mapping[str, Any]) -> Iterator[str]:
    tests = content["tests"]
    if tests is None:
        return
    if not tests["has_baseline"]:
        yield "TESTS  without a baseline nothing can be compared"
        return
    yield f"TESTS  {told(tests['counted'])}"
    for row in tests["changes"][:_MOST_INSTANCES]:
        if row["class"] in ("regression", "known failing", "gone"):
            yield from wrapped(f"{name(row)}: {row['message']}", f"  {row['class']:<14} ")


_MOST_INSTANCES = 20


def _others(content: Mapping[str, Any]) -> Iterator[str]:
    """Jobs without an instance, and those that never began."""
    if rows := [row for row in content["timeline"] if row["instance"] is None and row["began"]]:
        yield from wrapped(some([f"{row['id']} {row['outcome']}" for row in rows]), "OTHER JOBS  ", "  ")
    if content["not_begun"]:
        yield from wrapped(some(content["not_begun"]), "NOT BEGUN  ", "  ")


def _instances(content: Mapping[str, Any]) -> Iterator[str]:
    rows = sorted(content["instances"], key=lambda row: str(row["outcome"] == "done"))
    if not rows:
        return
    yield "INSTANCES"
    width = min(36, max(len(row["name"]) for row in rows))
    for row in rows[:_MOST_INSTANCES]:
        out = row["seconds_out_of_rotation"]
        told = f"{row['from'] or 'nothing'} -> {row['to']}"
        told += "" if out is None else f", out of rotation {least(out, row['still_out'])}"
        if row["closed_sessions"]:
            told += f", {count(row['closed_sessions'], 'session')} closed at the drain's timeout"
        if row["kept"] and row["outcome"] != "done":
            told += f", old one kept as {row['kept']}"
        yield from wrapped(told, f"  {row['outcome']:<9} {row['name']:<{width}}  "[: WIDTH // 2])
    if len(rows) > _MOST_INSTANCES:
        yield f"  and {len(rows) - _MOST_INSTANCES} more, see report.json"


def _kept(content: Mapping[str, Any]) -> Iterator[str]:
    """What there is to go back to. What failed has it beside its own line."""
    rows = [row for row in content["instances"] if row["kept"] and row["outcome"] == "done"]
    if rows:
        yield "KEPT for going back"
    for until in dict.fromkeys(row["until"] for row in rows):
        kept = [f"{row['name']}: {row['kept']}" for row in rows if row["until"] == until]
        yield from wrapped(f"{until}: {some(kept, 6)}", "  ", "    ")


def _artifacts(content: Mapping[str, Any]) -> Iterator[str]:
    rows = content["artifacts"]
    if rows:
        yield "RUNS NOW"
    for row in rows[:_MOST_INSTANCES]:
        told = f"{row['artifact']} on {count(row['instances'], 'instance')}"
        yield from wrapped(
            told + (f", {row['digest']}" if row["digest"] else ""), f"  {row['service']}  "[: WIDTH // 2]
        )
    if len(rows) > _MOST_INSTANCES:
        yield f"  and {len(rows) - _MOST_INSTANCES} more, see report.json"


def _versions(content: Mapping[str, Any]) -> Iterator[str]:
    versions = content["versions"]
    told = [f"ansible-core {versions['ansible_core']}"] if versions.get("ansible_core") else []
    told += [f"HAProxy {version} on {host}" for host, version in versions.get("haproxy", {}).items() if version]
    told += [f"engine {version}" for version in versions.get("engine", ())]
    told += [f"{what} {digest[:12]}" for what, digest in content["digests"].items()]
    if told:
        yield from wrapped(some(told), "VERSIONS  ", "  ")


def _differences(content: Mapping[str, Any]) -> Iterator[str]:
    if content["differences"]:
        yield "NOT AS DECLARED"
        for difference in content["differences"][:_MOST_INSTANCES]:
            yield from wrapped(difference, "  - ")
        if len(content["differences"]) > _MOST_INSTANCES:
            yield f"  and {len(content['differences']) - _MOST_INSTANCES} more, see report.json"


def _next(content: Mapping[str, Any]) -> Iterator[str]:
    if content["verdict"] != "failed":
        return
    yield "NEXT"
    unfinished = content["not_begun"] or any(row["outcome"] != "done" for row in content["instances"])
    if unfinished or content["differences"]:
        yield from wrapped(
            "Nothing further begins; what failed stays out of the balancers. Look at its logs, correct the cause (the"
            " image in upgrade_services, say), then run ansible-playbook rondo.upgrade.upgrade again: it takes up what"
            " is left.",
            "  ",
        )
    elif content["regressions"]:
        yield from wrapped(
            "The upgrade is done, and what is told above has become worse by it. ansible-playbook rondo.upgrade.revert"
            " takes it back; with a better version declared, rondo.upgrade.upgrade goes on, and compares with the same"
            " baseline.",
            "  ",
        )
    else:
        yield from wrapped(
            "The upgrade is done. Look at the times of the failures (report.json) beside those of the instances.", "  "
        )
