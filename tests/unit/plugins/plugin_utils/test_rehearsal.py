# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rehearsal says and offers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _rehearsal
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._declaration import Inventory, parse
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._estimates import Estimates, Rehearsed
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import State
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._planner import make_plan
from ansible_collections.rondo.upgrade.plugins.plugin_utils._plan_file import PlanFileError

TWIN = {
    "nodes": [{"host": "web1"}, {"host": "web2"}],
    "sizes": [{"service": "web", "hosts": 9, "twin": 2}],
    "own_images": [],
    "probe": {"requests": [{"name": "web_back"}]},
    "missing": ["schema steps: in the twin they do nothing, for web"],
}
REPORT = {
    "verdict": "clean",
    "reasons": [],
    "makespan_seconds": 12.0,
    "instances": [
        {"name": "web@web1", "seconds_out_of_rotation": 3.0},
        {"name": "web@web2", "seconds_out_of_rotation": 5.0},
        {"name": "db@db1", "seconds_out_of_rotation": None},
    ],
}
PROBE = {"sent": 200, "failed": 0, "retried": 1, "longest_gap_seconds": 0.2, "kinds": {}}


def job(service: str, kind: str, took: float, outcome: str = "done", **more: float) -> dict[str, Any]:
    return {"service": service, "kind": kind, "took": took, "outcome": outcome, **more}


def cluster(**spec: Any) -> Any:
    artifact = {"container": "web", "image": "web:2"}
    return parse({"web": {"artifact": artifact, **spec}}, Inventory({"web": ("web1", "web2")}))


def test_durations_are_medians_without_the_time_of_proof() -> None:
    jobs = [
        job("web", "replace", 8.0, min_healthy_time=2.0, bake_time=1.0),
        job("web", "replace", 7.0, min_healthy_time=2.0, bake_time=0.0),
        job("web", "replace", 90.0, min_healthy_time=2.0, bake_time=0.0),
        job("web", "replace", 1.0, "failed"),
        job("web", "expand", 3.0),
    ]
    assert _rehearsal.learned(jobs, ["web"]) == [
        {"service": "web", "kind": "replace", "seconds": 5.0, "count": 3, "least": False}
    ]
    assert _rehearsal.learned(jobs, [])[0]["least"] is True


@pytest.mark.parametrize(
    ("rehearsed", "spec", "expected"),
    [
        (Rehearsed(25.0, False), {"estimates": {"replace": "40s"}}, (35.0, "rehearsed")),
        (Rehearsed(25.0, True), {"estimates": {"replace": "40s"}}, (50.0, "declared")),
        (Rehearsed(55.0, True), {"estimates": {"replace": "40s"}}, (65.0, "rehearsed")),
        (Rehearsed(5.0, True), {}, (70.0, "default")),
        (Rehearsed(5.0, False), {}, (15.0, "rehearsed")),
    ],
)
def test_a_stand_ins_time_counts_only_where_it_is_the_longer(
    rehearsed: Rehearsed, spec: Any, expected: tuple[float, str]
) -> None:
    whole = cluster(**spec)
    found = Estimates(whole, rehearsed={("replace", "web"): rehearsed}).of("replace", whole.services["web"])
    assert (found.seconds, found.source) == expected


def test_what_was_measured_stands_above_what_was_rehearsed() -> None:
    whole = cluster()
    known = Estimates(whole, {("replace", "web", "web1"): [33.0]}, {("replace", "web"): Rehearsed(5.0, False)})
    assert known.of("replace", whole.services["web"]).seconds == 33.0


def test_learned_json_goes_round(tmp_path: Path) -> None:
    durations = _rehearsal.learned([job("web", "replace", 7.0)], [])
    path = tmp_path / "learned.json"
    path.write_text(json.dumps({"schema": 1, "durations": durations}), encoding="utf-8")
    assert _rehearsal.read_learned(path) == {("replace", "web"): Rehearsed(7.0, True)}


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "can't be read"), ("{", "is not what"), ("{}", "is not what"), ('{"schema": 7}', "has schema 7")],
)
def test_what_is_no_learned_json_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "learned.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(PlanFileError, match=said):
        _rehearsal.read_learned(path)


def rehearsed(report: Any = REPORT, probe: Any = PROBE, ended: int = 0) -> dict[str, Any]:
    plan = make_plan(cluster(), State()).to_dict()
    durations = _rehearsal.learned([job("web", "replace", 7.0)], [])
    return _rehearsal.content(TWIN, _rehearsal.production(plan, False), report, probe, ended, durations, 900.0)


def test_a_clean_rehearsal_says_all_four_things(tmp_path: Path) -> None:
    content = rehearsed()
    assert content["verdict"] == "clean" and json.loads(json.dumps(content)) == content
    assert content["measured"]["longest_out"] == {"instance": "web@web2", "seconds": 5.0}
    page = _rehearsal.page(content, tmp_path)
    for words in (
        "REHEARSAL  CLEAN", "web 2 of 9", "IN PRODUCTION", "2 jobs on 2 hosts", "MEASURED ON THE TWIN",
        "sent 200, failed 0", "LEARNED", "at least 7s", "the real plan takes about 15m", "upgrade_estimates_from=",
        "NOT REHEARSED", "schema steps",
    ):  # fmt: skip
        assert words in page, page


@pytest.mark.parametrize(
    ("report", "probe", "ended", "said"),
    [
        (None, None, 4, "ended before it reported"),
        ({**REPORT, "verdict": "failed", "reasons": ["one request failed"]}, PROBE, 2, "one request failed"),
        (REPORT, None, 0, "no probe ran"),
        (REPORT, PROBE, 2, "exit code 2"),
    ],
)
def test_anything_else_failed_and_says_why(tmp_path: Path, report: Any, probe: Any, ended: int, said: str) -> None:
    content = rehearsed(report, probe, ended)
    assert content["verdict"] == "failed"
    assert any(said in reason for reason in content["reasons"])
    assert "REHEARSAL  FAILED" in _rehearsal.page(content, tmp_path)


def test_where_nothing_must_go_on_serving_no_request_is_missed() -> None:
    assert _rehearsal.outcome(REPORT, None, 0, probed=False) == ("done", [])
