# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _events

SCHEMA = json.loads((Path(__file__).resolve().parents[4] / "docs" / "events.schema.json").read_text())
JOB = {
    "id": "replace web@h1", "kind": "replace", "service": "web", "host": "h1", "instance": "web@h1", "run": 3,
    "running": "web:1", "artifact": {"target": "web:2"}, "begun": 1_780_000_000.0, "ended": 1_780_000_011.25,
    "took": 11.25, "outcome": "failed", "details": {"reason": "it was slow"},
}  # fmt: skip
FORECAST = {"makespan": 10.0, "bound": 9.0, "bound_name": "web", "gap": 0.1, "p50": 11.0, "p90": 12.0}
RESULTS: list[tuple[str, dict[str, Any], str]] = [
    (_events.PLAN, {"plan": {"jobs": [JOB], "forecast": FORECAST, "obstacles": []}, "hosts": ["h1"]}, "planned"),
    (_events.JOURNAL, {"state": "started", "run": 3, "kind": "upgrade", "lost": [JOB]}, "run_began"),
    (_events.JOURNAL, {"state": "begun", "job": JOB, "position": 0, "total": 1}, "job_began"),
    (_events.JOURNAL, {"state": "ended", "job": JOB, "position": 1, "total": 1}, "job_ended"),
    (_events.JOURNAL, {"state": "finished", "run": 3, "outcome": "failed"}, "run_ended"),
    (_events.REPORT, {"report": {"verdict": "failed", "summary": "failed: x", "reasons": ["x"]}}, "reported"),
]


@pytest.mark.parametrize(("action", "values", "name"), RESULTS)
def test_events_are_as_the_schema_says(action: str, values: dict[str, Any], name: str) -> None:
    event = _events.of_result(action, values)
    assert event is not None and event["event"] == name
    jsonschema.validate({"time": _events.when(1_780_000_000.0), **event}, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"time": _events.when(0.0), **event, "more": 1}, SCHEMA)


def test_what_a_job_that_ended_tells() -> None:
    event = _events.of_result(_events.JOURNAL, {"state": "ended", "job": JOB, "position": 1, "total": 4})
    assert event == {
        "event": "job_ended",
        "at": "2026-05-28T20:26:51.250Z",
        "run": 3,
        "job": "replace web@h1",
        "kind": "replace",
        "service": "web",
        "host": "h1",
        "instance": "web@h1",
        "from": "web:1",
        "to": "web:2",
        "ended": 1,
        "jobs": 4,
        "outcome": "failed",
        "seconds": 11.25,
        "reason": "it was slow",
    }


@pytest.mark.parametrize(
    ("action", "values"),
    [("ansible.builtin.debug", {"msg": "x"}), (_events.JOURNAL, {"found": True}), (_events.PLAN, {"failed": True})],
)
def test_no_event(action: str, values: dict[str, Any]) -> None:
    assert _events.of_result(action, values) is None


def test_the_log_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "new" / "events.jsonl"
    for number in (1, 2):
        log = _events.Log(path)
        log.write({"number": number, "said": "über\nzwei Zeilen"})
        log.close()
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [1, 2]
