# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Independent counts of the same run: the probe's, HAProxy's own, and the services' access logs. Do they agree?

A witness: `name`, `failed`, `of` (how many it has seen), `retried` (None: it can't tell), `said` (a sentence), `note`
(what it can't have seen), `complete` (no note, and it has seen something).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ._gate import Counts
from ._page import count, some

# In this order the page and the text have them.
COUNTERS = ("hrsp_5xx", "econ", "eresp", "wretr", "wredis")
_ALL = (*COUNTERS, "stot", "failed")
_NOBODY = dict.fromkeys(_ALL, 0)


def counted(
    before: Mapping[str, Mapping[str, Any]],
    between: Sequence[tuple[str, Mapping[str, Any]]],
    after: Mapping[str, Mapping[str, Any]],
    backends: Collection[str] | None = None,
) -> dict[str, Any]:
    """How much HAProxy's own counters rose, of `backends` (None: all) together, and by balancer.

    `before`, `after`: by balancer its reading (haproxy_info's `counters`), empty where it was not read; `between`:
    those that jobs took. `failed`: answers 5xx, and where a backend passes TCP through, what could not be connected or
    was cut off. `unseen`: balancers that were not read before and after.
    """
    seen = [name for name in after if after[name] and before.get(name)]
    rows = {
        name: _rose([before[name], *_within(before[name], after[name], name, between), after[name]], backends)
        for name in seen
    }
    total = {key: sum(row[key] for row in rows.values()) for key in _ALL}
    return {**total, "by_balancer": rows, "unseen": sorted({*before, *after} - set(seen))}


def _within(
    first: Mapping[str, Any], last: Mapping[str, Any], name: str, between: Sequence[tuple[str, Mapping[str, Any]]]
) -> Iterator[Mapping[str, Any]]:
    """What jobs read of a balancer in the time that is counted: the counts may be taken again after them."""
    for of, reading in between:
        if of == name and float(first["at"]) <= float(reading["at"]) <= float(last["at"]):
            yield reading


def _rose(readings: Sequence[Mapping[str, Any]], backends: Collection[str] | None) -> dict[str, Any]:
    """The sum over workers. One that was not there at first has counted from zero.

    `note`: why it may be more.
    """
    ordered = sorted(readings, key=lambda reading: float(reading["at"]))
    workers: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for reading in ordered:
        for worker in reading["workers"]:
            workers.setdefault(_identity(worker), []).append(worker)
    first, last = ({_identity(worker) for worker in ordered[place]["workers"]} for place in (0, -1))
    row, notes = dict(_NOBODY), []
    for identity, rows in workers.items():
        values = [_sums(worker, backends) for worker in rows]
        for then, now in pairwise(values if identity in first else [_NOBODY, *values]):
            cleared = any(now[key] < then[key] for key in _ALL)
            row = {key: row[key] + now[key] - (0 if cleared else then[key]) for key in _ALL}
            if cleared:
                notes.append("its counters were cleared")
        # Nothing more can have come to one that was on its way out and had nobody left.
        if identity not in last and not (rows[-1]["old"] and not rows[-1]["open"]):
            notes.append("was reloaded or restarted, what its old worker counted after our last look is lost")
    return {**row, "note": "; ".join(dict.fromkeys(notes))}


def _identity(worker: Mapping[str, Any]) -> tuple[int, int]:
    return int(worker["pid"]), int(worker["started_at"])


def _sums(worker: Mapping[str, Any], backends: Collection[str] | None) -> dict[str, int]:
    chosen = [row for name, row in worker["backends"].items() if backends is None or name in backends]
    sums = {key: sum(int(row[key]) for row in chosen) for key in _ALL if key != "failed"}
    cut_off = sum(int(row["econ"]) + int(row["eresp"]) for row in chosen if row["mode"] == "tcp")
    return {**sums, "failed": sums["hrsp_5xx"] + cut_off}


def readings(run: Mapping[str, Any] | None) -> list[tuple[str, Mapping[str, Any]]]:
    """What the run's jobs read of the balancers on their way."""
    rows = [row for job in run["jobs"] for row in job["details"].get("readings") or ()] if run else []
    return [(str(balancer), reading) for balancer, reading in rows]


def so_far(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a probe that had not ended saw between two looks at its counts; None where none ran at the second."""
    if not after.get("probe"):
        return None
    seen = Counts(**after["probe"]).since(Counts(**(before.get("probe") or {"sent": 0, "failed": 0})))
    return {"sent": seen.sent, "failed": seen.failed, "retried": seen.retried, "so_far": True}


def probe_source(probe: Mapping[str, Any] | None) -> dict[str, Any]:
    if probe is None:
        return _absent("probe", "none ran")
    failed, far = int(probe["failed"]), " so far" if probe.get("so_far") else ""
    said = f"the probe saw {count(failed, 'request')} fail" if failed else "the probe saw no request fail"
    return _witness("probe", failed, int(probe["sent"]), int(probe.get("retried", 0)), f"{said}{far}")


def haproxy_source(haproxy: Mapping[str, Any]) -> dict[str, Any]:
    """From `counted`."""
    rows, unseen = haproxy["by_balancer"], haproxy["unseen"]
    unknown = [f"not read before and after: {some(unseen)}"] if unseen else []
    if not rows:
        return _absent("HAProxy", unknown[0] if unknown else "no balancer was read")
    answers, cut_off = haproxy["hrsp_5xx"], haproxy["failed"] - haproxy["hrsp_5xx"]
    parts = [count(answers, "answer") + " 5xx"] if answers else []
    parts += [count(cut_off, "failed TCP connection")] if cut_off else []
    return _witness(
        "HAProxy",
        int(haproxy["failed"]),
        int(haproxy["stot"]),
        int(haproxy["wretr"]) + int(haproxy["wredis"]),
        f"HAProxy counted {' and '.join(parts) or 'no failure'}",
        [*(f"{name} {row['note']}" for name, row in rows.items() if row["note"]), *unknown],
    )


def log_source(logs: Mapping[str, Any] | None) -> dict[str, Any]:
    """From `_builtin.logged`."""
    if not logs or not logs["services"]:
        return _absent("access logs", "none was read")
    failed, silent = int(logs["failed"]), logs["silent"]
    notes = [*logs["notes"], *([f"no request in the logs of {some(silent)}"] if silent else [])]
    said = f"the services logged {count(failed, 'answer')} 5xx" if failed else "the services logged no answer 5xx"
    return _witness("access logs", failed, int(logs["requests"]), None, said, notes)


def _witness(
    name: str, failed: int, of: int, retried: int | None, said: str, notes: Sequence[str] = ()
) -> dict[str, Any]:
    note = "; ".join(notes) or ("" if of or failed else "it has seen no request")
    return {
        "name": name,
        "failed": failed,
        "of": of,
        "retried": retried,
        "complete": not note,
        "said": said,
        "note": note,
    }


def _absent(name: str, why: str) -> dict[str, Any]:
    return {**_witness(name, 0, 0, None, "", [why]), "failed": None, "of": None}


def counts(*sources: Mapping[str, Any]) -> dict[str, Any]:
    """Whether the counts agree, and what each of them can't have seen (`missing`).

    They don't see the same requests (a balancer serves others than the probe, a client may fail without reaching a
    balancer), so numbers may differ: they agree when all saw failures or none did. One that has seen no request at all
    is no witness: a service that writes no access log would agree with anything. `agree` is None where there are fewer
    than two.
    """
    heard = [source for source in sources if source["of"] or source["failed"]]
    saw = {source["failed"] > 0 for source in heard}
    agree = None if len(heard) < 2 else len(saw) == 1
    told = ", ".join(source["said"] for source in sorted(heard, key=lambda source: not source["failed"]))
    note = {
        None: "fewer than two counts: nothing to compare",
        True: f"the counts agree: {told}",
        False: f"the counts disagree: {told}",
    }[agree]
    return {"agree": agree, "note": note, "missing": list(_missing(sources)), "sources": [dict(s) for s in sources]}


def _missing(sources: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for source in sources:
        if not source["complete"]:
            yield f"{source['name']}: {source['note']}"
