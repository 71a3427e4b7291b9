# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from ansible_collections.rondo.upgrade.plugins.plugin_utils._picture import layers, picture

PLAN = json.loads((Path(__file__).parent / "sample_plan.json").read_text(encoding="utf-8"))
SVG = "{http://www.w3.org/2000/svg}"


def _service(name: str, *depends_on: str) -> dict[str, object]:
    return {"name": name, "depends_on": list(depends_on)}


def test_layers_follow_dependencies() -> None:
    services = [
        _service("nova", "keystone", "rabbitmq"),
        _service("keystone", "mariadb"),
        _service("mariadb"),
        _service("rabbitmq"),
    ]
    assert layers(services) == [["mariadb", "rabbitmq"], ["keystone"], ["nova"]]


def test_layers_ignore_services_that_are_not_in_the_plan() -> None:
    assert layers([_service("keystone", "elsewhere")]) == [["keystone"]]


def test_every_job_is_a_bar_and_every_service_a_box() -> None:
    root = ElementTree.fromstring(picture(PLAN))
    told = [title.text or "" for title in root.iter(f"{SVG}title")]
    for job in PLAN["jobs"]:
        assert any(text.startswith(f"{job['id']}: ") for text in told)
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert "keystone" in words
    assert "mariadb" in words
    assert len([path for path in root.iter(f"{SVG}path") if path.get("marker-end")]) == 1


def test_names_are_escaped_and_nothing_is_loaded_from_elsewhere() -> None:
    plan = {**PLAN, "services": [{**PLAN["services"][1], "name": "<key>&stone"}]}
    text = picture(plan)
    ElementTree.fromstring(text)
    assert "&lt;key&gt;&amp;stone" in text
    assert "href" not in text


def test_large_plans_get_one_row_per_service() -> None:
    jobs = [{**PLAN["jobs"][1], "id": f"replace keystone@c{n}", "start": n, "end": n + 9.0} for n in range(300)]
    root = ElementTree.fromstring(picture({**PLAN, "jobs": jobs}))
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert "replace keystone" in words
    assert int(root.get("height", "0")) < 400


def test_empty_plan_says_so() -> None:
    root = ElementTree.fromstring(picture({**PLAN, "jobs": []}))
    assert any("Nothing to do" in (text.text or "") for text in root.iter(f"{SVG}text"))
