# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The events of a run as JSON lines, beside Ansible's default callback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

Upgrade = Any

SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "docs" / "events.schema.json").read_text())
# Beside ours these are the whole of what a playbook does here.
PLAYBOOK = ["playbook_began", "play_began", "run_began", "play_began"]
JOBS = ["job_began", "job_ended"] * 3


def enabled(upgrade: Upgrade, path: str) -> None:
    upgrade.environment.update(
        ANSIBLE_STDOUT_CALLBACK="default",
        ANSIBLE_CALLBACKS_ENABLED="rondo.upgrade.events",
        RONDO_UPGRADE_EVENTS=path,
    )
    upgrade.open()


def test_a_run_as_json_lines(upgrade: Upgrade) -> None:
    enabled(upgrade, "logs/events.jsonl")
    upgrade.in_pipe()
    events = [json.loads(line) for line in (upgrade.folder / "logs" / "events.jsonl").read_text().splitlines()]
    for event in events:
        jsonschema.validate(event, SCHEMA)
    assert [event["event"] for event in events] == [*PLAYBOOK, *JOBS, "play_began", "run_ended", "playbook_ended"]
    assert [event["job"] for event in events if event["event"] == "job_ended"] == [
        f"replace web@{host}" for host in upgrade.order
    ]
    ended = [event for event in events if event["event"] == "job_ended"]
    assert [(event["ended"], event["jobs"], event["outcome"]) for event in ended] == [(n, 3, "done") for n in (1, 2, 3)]
    assert events[-1]["failed"] == []
    upgrade.journal.unlink()
    upgrade.in_pipe()
    again = (upgrade.folder / "logs" / "events.jsonl").read_text().splitlines()
    assert len(again) == 2 * len(events), "a second run is appended"


def test_a_file_that_can_not_be_written_harms_nothing(own: Upgrade) -> None:
    enabled(own, "inventory/events.jsonl")
    output = own.in_pipe()
    assert output.count("rondo.upgrade.events writes nothing more, the run goes on") == 1
