# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action `journal` on hosts without machines; tests/integration/strategy has it at work in playbooks."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible.playbook.task import Task
from ansible.template import Templar
from ansible.utils.display import Display

from ansible_collections.rondo.upgrade.plugins.action import journal as action
from ansible_collections.rondo.upgrade.plugins.modules import journal as documented
from ansible_collections.rondo.upgrade.plugins.plugin_utils._journal import Journal, Owner

JOB = {"id": "replace a@h1", "kind": "replace", "service": "a", "host": "h1"}
OTHER = {"id": "replace a@h2", "kind": "replace", "service": "a", "host": "h2"}


class Playbook:
    """Runs the action as tasks of localhost would."""

    def __init__(self, path: Path) -> None:
        self.variables: dict[str, Any] = {"upgrade_journal": str(path)}
        self.check = False

    def __call__(self, state: str, **arguments: Any) -> dict[str, Any]:
        task = Task()
        task.args = {"state": state, **arguments}
        task.check_mode = self.check
        task.async_val = 0
        templar = Templar(None, self.variables)
        connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
        plugin = action.ActionModule(task, connection, SimpleNamespace(), None, templar, None)
        return plugin.run(task_vars=self.variables)


@pytest.fixture
def playbook(tmp_path: Path) -> Playbook:
    return Playbook(tmp_path / "journal.sqlite")


def test_the_documentation_names_every_option() -> None:
    options = yaml.safe_load(documented.DOCUMENTATION)["options"]
    assert set(options) == set(action.ARGUMENT_SPEC)
    for name, spec in action.ARGUMENT_SPEC.items():
        said = options[name]
        assert said["type"] == spec["type"], name
        assert said.get("choices") == (list(spec["choices"]) if "choices" in spec else None), name
        assert said.get("default") == spec.get("default"), name


def test_a_run(playbook: Playbook) -> None:
    assert playbook("read") == {"changed": False, "found": False, "journal_run": None, "unfinished": []}
    begun = playbook("started", plan={"jobs": [JOB, OTHER]})
    assert (begun["changed"], begun["run"], begun["lost"]) == (True, 1, [])
    playbook.variables["hostvars"] = {"localhost": {"upgrade_run": begun["run"]}}
    playbook("begun", job=JOB)
    playbook("noted", job=JOB, details={"kept": "a.old"})
    assert [job["id"] for job in playbook("read")["unfinished"]] == [JOB["id"]]
    ended = playbook("ended", job=JOB, outcome="done", details={"closed_sessions": 1})
    assert (ended["state"], ended["position"], ended["total"]) == ("ended", 1, 2)
    playbook("summarised", name="probe", content={"failed": 0})
    assert playbook("requested", request="pause")["run"] == 1
    playbook("finished", outcome="stopped")
    read = playbook("read", run=1)
    assert read["journal_run"]["outcome"] == "stopped"
    assert read["journal_run"]["jobs"][0]["details"] == {"kept": "a.old", "closed_sessions": 1}
    assert read["journal_run"]["summaries"] == {"probe": {"failed": 0}}
    # Recorded for this process: the tests' own has no parent that forked it as ansible-playbook does its workers.
    assert f"(process {os.getpid()})" in read["journal_run"]["owner"]
    assert playbook("closed")["took_over"] is None


def test_the_fences_know_all_runs_of_a_journal_as_one(playbook: Playbook) -> None:
    runs = [playbook("started", plan={"jobs": [JOB]})]
    playbook("finished", run=1, outcome="done")
    runs.append(playbook("started", plan={"jobs": [JOB]}))
    assert runs[0]["owner"] == runs[1]["owner"]
    assert runs[0]["token"] < runs[1]["token"]


def test_a_takeover_is_said_and_a_plan_from_before_another_run_refused(
    playbook: Playbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(Display, "warning", lambda self, text: said.append(text))
    elsewhere = dataclasses.replace(Owner.of(), host="other")
    with Journal(playbook.variables["upgrade_journal"]) as journal:
        journal.start_run({"jobs": [JOB]}, elsewhere)
        token = journal.token(1)
    with pytest.raises(AnsibleActionFail, match="look on other"):
        playbook("closed")
    closed = playbook("closed", takeover=True)
    assert (closed["token"], closed["took_over"]["run"], said[0]) == (
        token,
        1,
        f"The journal was taken over from run 1 (upgrade) of {elsewhere}, last heard of 0 s ago: upgrade_takeover was "
        "given.",
    )
    with pytest.raises(AnsibleActionFail, match=r"Run 1 .* since this plan was computed: start again"):
        playbook("started", plan={"jobs": [JOB]}, last_run=0)
    playbook("started", plan={"jobs": [JOB]}, last_run=1)


def test_a_job_that_the_probe_speaks_against_does_not_end_well(playbook: Playbook, tmp_path: Path) -> None:
    state = tmp_path / "state.json"

    def seen(sent: int, failed: int) -> None:
        state.write_text(json.dumps({"running": True, "pid": os.getpid(), "sent": sent, "failed": failed}))

    playbook.variables["upgrade_run"] = playbook("started", plan={"jobs": [JOB, OTHER]})["run"]
    seen(100, 5)
    begun = playbook("begun", job=JOB, probe=str(state))
    assert begun["job"]["details"] == {"probe": {"sent": 100, "failed": 5, "retried": 0}}
    seen(200, 7)
    refused = playbook("ended", job=JOB, outcome="done", probe=str(state), max_failed_requests="1")
    assert refused["failed"] is True
    assert refused["verdict"].startswith("2 of 100 requests of the probe failed")
    assert playbook("read")["journal_run"]["jobs"][0]["outcome"] is None
    assert "failed" not in playbook("ended", job=JOB, outcome="done", probe=str(state), max_failed_requests="2")
    # One that failed by itself is recorded whatever the probe says.
    playbook("begun", job=OTHER)
    seen(300, 99)
    assert "failed" not in playbook("ended", job=OTHER, outcome="failed", probe=str(state))


def test_a_request_is_answered(playbook: Playbook) -> None:
    playbook.variables["upgrade_run"] = playbook("started", plan={"jobs": [JOB]})["run"]
    playbook("begun", job=JOB)
    asked = playbook("requested", request="pause")
    assert asked["in_flight"] == [JOB["id"]]
    assert asked["msg"].startswith("Run 1 will pause") and f"{JOB['id']} will finish first" in asked["msg"]
    playbook.check = True
    assert playbook("requested", request="abort")["changed"] is True
    assert [row["request"] for row in playbook("read")["journal_run"]["requests"]] == ["pause"]


def test_check_mode_only_reads(playbook: Playbook) -> None:
    playbook.check = True
    assert playbook("started", plan={"jobs": [JOB]})["skipped"] is True
    assert not Path(playbook.variables["upgrade_journal"]).exists()
    assert playbook("read")["found"] is False


@pytest.mark.parametrize(
    ("state", "arguments", "said"),
    [
        ("begun", {}, "job"),
        ("ended", {"job": JOB}, "outcome"),
        ("began", {}, "value of state must be one of"),
        ("begun", {"job": JOB}, "no run was started"),
        ("begun", {"job": JOB, "run": 7}, "holds no run 7"),
    ],
)
def test_errors_say_what_is_missing(playbook: Playbook, state: str, arguments: dict[str, Any], said: str) -> None:
    started = playbook("started", plan={"jobs": [JOB]})["run"]
    playbook("finished", run=started, outcome="done")
    with pytest.raises(AnsibleActionFail, match=said):
        playbook(state, **arguments)


def test_without_a_path(playbook: Playbook) -> None:
    del playbook.variables["upgrade_journal"]
    with pytest.raises(AnsibleActionFail, match="upgrade_journal is not set"):
        playbook("read")
