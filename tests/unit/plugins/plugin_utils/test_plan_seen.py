# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people see of plans that the real planner made: nothing here knows a key of plan.json by hand."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
import yaml

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _export, _page, _picture, _plan_file, _simulation
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import InstanceState, State
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._planner import make_plan
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._simulate import scaled

CLUSTER = _simulation.sample()
PLANS = {
    "everything to do": make_plan(CLUSTER, State()),
    "nothing to do": make_plan(CLUSTER, State({name: InstanceState(current=True) for name in CLUSTER.instances})),
    "with obstacles": make_plan(CLUSTER, State(obstacles=("lb1: HAProxy does not answer",))),
    "with members down": make_plan(CLUSTER, State({"keystone@api1": InstanceState(healthy=False, reason="DOWN")})),
    "a large fleet": make_plan(scaled(CLUSTER, 400), State()),
}


@pytest.fixture(params=PLANS)
def plan(request: pytest.FixtureRequest) -> dict[str, Any]:
    return PLANS[request.param].to_dict()


def test_the_page_fits_and_names_every_service(plan: dict[str, Any]) -> None:
    text = _page.page(plan)
    assert max(len(line) for line in text.splitlines()) <= _page.WIDTH
    assert all(service["name"] in text for service in plan["services"])


def test_the_picture_is_well_formed(plan: dict[str, Any]) -> None:
    assert ElementTree.fromstring(_picture.picture(plan)).tag.endswith("svg")


def test_the_export_holds_every_job_once(plan: dict[str, Any]) -> None:
    plays = yaml.safe_load(_export.playbook(plan, "plan.json"))
    rounds = [play["vars"]["upgrade_round"] for play in plays if isinstance(play.get("hosts"), list)]
    jobs = [job for together in rounds for job in together.values()]
    assert sorted(jobs) == sorted(job["id"] for job in plan["jobs"])


def test_the_file_gives_the_plan_back(plan: dict[str, Any]) -> None:
    assert json.loads(_plan_file.text(plan)) == plan
