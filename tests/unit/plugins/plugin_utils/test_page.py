# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._page import WIDTH, duration, page

PLAN = json.loads((Path(__file__).parent / "sample_plan.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (8.5, "8.5s"), (9.99, "10s"), (59.4, "59s"), (125, "2m 05s"), (3599.6, "1h 00m"), (3780, "1h 03m")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_page_names_services_with_method_budget_and_reason() -> None:
    lines = page(PLAN).splitlines()
    assert lines[0] == "PLAN: 5 jobs on 3 hosts for 1 service, about 1m 50s"
    keystone = next(number for number, line in enumerate(lines) if line.startswith("  2. keystone"))
    assert lines[keystone].split() == ["2.", "keystone", "roll", "expand,", "replace", "3,", "contract"]
    assert lines[keystone + 1].strip() == "budget  min_available: 2: at most 1 of 3 out"
    assert lines[keystone + 2].strip() == "why     2 of 3 instances keep serving"
    assert "  1. mariadb            -             nothing to do" in lines


def test_bars_follow_each_other() -> None:
    lines = page(PLAN).splitlines()
    bars = [line for line in lines if line.startswith("  replace keystone@") and "#" in line]
    assert [line.split()[1] for line in bars] == ["keystone@ctl3", "keystone@ctl1", "keystone@ctl2"]
    for earlier, later in itertools.pairwise(bars):
        assert later.index("#") >= earlier.rindex("#")


def test_page_tells_forecast_risks_and_what_is_done() -> None:
    text = page(PLAN)
    for part in (
        "takes         1m 50s",
        "can't be less 1m 50s (budget keystone)",
        "gap           0% above",
        "nine of ten   runs end within 2m 30s",
        "- keystone: 28.1.0 to 29.1.0 was never completed here before",
        "mariadb@db1, mariadb@db2, mariadb@db3",
        "no way back after: contract keystone@ctl1",
        "ansible-playbook rondo.upgrade.upgrade",
    ):
        assert part in text


def test_obstacles_come_first_and_change_the_advice() -> None:
    plan = {**PLAN, "obstacles": ["lb1: HAProxy does not answer"]}
    text = page(plan)
    assert text.startswith("PLAN: can't begin, 1 obstacle in the way")
    assert text.index("- lb1: HAProxy does not answer") < text.index("SERVICES")
    assert "rondo.upgrade.upgrade" not in text


def test_nothing_to_do_is_said() -> None:
    plan = {**PLAN, "jobs": [], "rounds": [], "point_of_no_return": []}
    text = page(plan)
    assert text.startswith("PLAN: nothing to do")
    assert "TIMELINE" not in text


def test_wide_plans_fit_the_width() -> None:
    plan = copy.deepcopy(PLAN)
    plan["risks"] = ["word " * 60, "x" * 150]
    plan["done"] = [f"nova-compute@compute{number}.region-one.example.org" for number in range(400)]
    plan["forecast"]["bound_name"] = "chain " * 40
    template = plan["jobs"][1]
    for number in range(200):
        host = f"compute{number}.region-one.example.org"
        times = {"start": number, "end": number + 30.0}
        plan["jobs"].append({**template, "id": f"replace keystone@{host}", "host": host, **times})
    for number in range(100, 140):
        plan["services"].append({**plan["services"][0], "name": f"a-service-with-a-long-name-{number}"})
    plan["notes"] = [f"compute{number} is unsteady" for number in range(300)]
    text = page(plan, difference=["keystone@ctl1: " + "was " * 50])
    assert "  - and 260 more" in text
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    assert "+ is more than 9" in text
    assert "and 388 more" in " ".join(text.split())


def test_what_follows_each_other_is_never_shown_as_going_on_at_once() -> None:
    plan = copy.deepcopy(PLAN)
    template = plan["jobs"][1]
    plan["jobs"] = [
        {**template, "id": f"replace keystone@h{number}", "start": number * 7.3, "end": (number + 1) * 7.3}
        for number in range(60)
    ]
    row = next(line for line in page(plan).splitlines() if line.startswith("  keystone  "))
    assert set(row.split()[1]) == {"1"}
    assert len(row) == WIDTH


def test_a_held_service_tells_what_waits_and_what_would_change_the_choice() -> None:
    plan = copy.deepcopy(PLAN)
    service = next(row for row in plan["services"] if row["jobs"])
    members = [
        {"running": "web:1", "artifact": {"target": "web:2"}, "current": False},
        {"running": "web:2", "artifact": {"target": "web:2"}, "current": True},
    ]
    switch = next(job for job in plan["jobs"] if job["service"] == service["name"] and job["instance"])
    switch.update(id="switch web", kind="switch", instance=None, instances=members)
    service.update(method="hold", turns="above a pause of 9 s they could not wait", held=["requests are held for 4 s"])
    plan["point_of_no_return"] = ["switch web"]
    shown = page(plan)
    assert "       else    above a pause of 9 s they could not wait" in shown
    assert "       then    requests are held for 4 s" in shown
    assert "       from    web:1 -> web:2" in shown
    assert "no way back after: switch web, once its database.offline has begun" in shown
