# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Control from another terminal, the way back, and the probe's gate, with a real engine."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from ansible_collections.rondo.upgrade.plugins.plugin_utils._journal import Journal

OLD, NEW, BAD = "rondo/web:1", "rondo/web:2", "rondo/web:2-unhealthy"


def changed(output: str) -> set[int]:
    return {int(number) for number in re.findall(r"changed=(\d+)", output)}


def last_run(cluster: Any) -> dict[str, Any]:
    with Journal(cluster.folder / "build" / "journal.sqlite", create=False) as journal:
        run = journal.run()
    assert run is not None
    return run


def test_before_anything_was_run_there_is_nothing_to_ask_for_or_take_back(cluster: Any) -> None:
    for playbook, said in (("pause", "nothing was ever run"), ("revert", "so nothing is known to go back to")):
        asked = cluster.play(f"rondo.upgrade.{playbook}")
        assert asked.returncode != 0
        assert said in asked.stdout + asked.stderr
    assert not (cluster.folder / "build").exists()
    assert cluster.runs() == [OLD] * 3


def test_a_whole_upgrade_is_taken_back_and_then_there_is_nothing_to_take_back(cluster: Any) -> None:
    cluster.service["artifact"]["image"] = BAD
    cluster.service["health"]["healthy_deadline"] = "2s"
    cluster.service["canary"] = 1
    failed = cluster.play("rondo.upgrade.upgrade")
    assert failed.returncode != 0
    assert cluster.runs() == [BAD, OLD, OLD]
    cluster.service["artifact"]["image"] = NEW
    cluster.service["health"]["healthy_deadline"] = "300s"
    done = cluster.play("rondo.upgrade.upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert cluster.runs() == [NEW] * 3

    for options in (["rondo.upgrade.abort"], ["rondo.upgrade.abort", "--check"]):
        asked = cluster.play(*options)
        assert asked.returncode != 0
        assert "No run is in progress: there is nothing to abort." in asked.stdout + asked.stderr
    wrong = cluster.play("rondo.upgrade.revert", "-e", "upgrade_only=web,nova")
    assert wrong.returncode != 0
    assert "upgrade_only names nova" in wrong.stdout + wrong.stderr

    looked = cluster.play("rondo.upgrade.revert", "--check")
    assert looked.returncode == 0, looked.stdout + looked.stderr
    assert "REVERT: 3 instances of web to what ran before" in looked.stdout
    assert cluster.runs() == [NEW] * 3
    assert not (cluster.folder / "build" / "revert").exists()

    back = cluster.play("rondo.upgrade.revert")
    assert back.returncode == 0, back.stdout + back.stderr
    assert cluster.runs() == [OLD] * 3
    run = last_run(cluster)
    assert (run["kind"], run["outcome"]) == ("revert", "done")
    assert {job["artifact"]["target"] for job in run["jobs"]} == {OLD}
    report = cluster.report()
    assert report["verdict"] == "done" and report["run"]["kind"] == "revert"
    assert {row["from"] for row in report["instances"]} == {NEW} and {row["to"] for row in report["instances"]} == {OLD}

    again = cluster.play("rondo.upgrade.revert")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing to take back" in again.stdout
    assert changed(again.stdout) == {0}, again.stdout
    assert cluster.runs() == [OLD] * 3


def test_an_upgrade_that_stopped_half_way_is_taken_back(cluster: Any) -> None:
    cluster.hosts["h2"]["web_image"] = BAD
    cluster.service["artifact"]["image"] = "{{ web_image | default('rondo/web:2') }}"
    cluster.service["health"]["healthy_deadline"] = "20s"
    cluster.service["canary"] = 1
    stopped = cluster.play("rondo.upgrade.upgrade")
    assert stopped.returncode != 0
    assert cluster.runs() == [NEW, BAD, OLD]
    third = cluster.engine.containers.get(cluster.container("h3")).id
    cluster.service["health"]["healthy_deadline"] = "300s"
    back = cluster.play("rondo.upgrade.revert")
    assert back.returncode == 0, back.stdout + back.stderr
    assert cluster.runs() == [OLD] * 3
    assert cluster.engine.containers.get(cluster.container("h3")).id == third


def test_after_a_contract_that_removed_something_there_is_no_way_back(cluster: Any) -> None:
    # The schema is a file that all releases see.
    schema = f"{cluster.token}-schema"
    cluster.engine.volumes.create(schema)
    try:
        for host in ("h1", "h2", "h3"):
            cluster.engine.containers.get(cluster.container(host)).remove(force=True)
            cluster.engine.containers.run(
                OLD, name=cluster.container(host), detach=True, volumes={schema: {"bind": "/schema"}}
            )
        cluster.service["database"] = {
            "expand": "touch /schema/expanded",
            "contract": "touch /schema/contracted",
            "check": "sh -c '[ -e /schema/contracted ] || { [ -e /schema/expanded ] && exit 4; exit 2; }'",
        }
        done = cluster.play("rondo.upgrade.upgrade")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "no way back after: contract web" in done.stdout
        assert cluster.runs() == [NEW] * 3
        before = last_run(cluster)["id"]
        back = cluster.play("rondo.upgrade.revert")
        assert back.returncode != 0
        assert "There is no way back, and nothing was begun: contract web in run" in back.stdout + back.stderr
        assert cluster.runs() == [NEW] * 3
        assert last_run(cluster)["id"] == before
    finally:
        cluster.remove()
        cluster.engine.volumes.get(schema).remove(force=True)


def probe_says(cluster: Any, sent: int, failed: int) -> None:
    folder = cluster.folder / "build" / "probe"
    folder.mkdir(parents=True, exist_ok=True)
    last = {"request": "GET", "url": "http://vip", "at": "now", "reason": "status 500"} if failed else None
    state = {"running": True, "pid": os.getpid(), "sent": sent, "failed": failed, "last_failure": last}
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")


def worse(cluster: Any) -> None:
    """Hook role that makes the probe count ten more failed requests."""
    state = cluster.folder / "build" / "probe" / "state.json"
    script = (
        f"import json, pathlib; p = pathlib.Path('{state}'); s = json.loads(p.read_text()); s['failed'] += 10; "
        "s['sent'] += 100; s['last_failure'] = dict(request='GET', url='http://vip', at='now', reason='status 500'); "
        "p.write_text(json.dumps(s))"
    )
    task = {
        "name": "Fail requests",
        "ansible.builtin.command": {"argv": ["{{ ansible_playbook_python }}", "-c", script]},
    }
    cluster.role("site_after", [{**task, "changed_when": True}])
    cluster.service["hooks"] = {"after": "site_after"}


def test_a_canary_that_fails_real_requests_does_not_pass(cluster: Any) -> None:
    cluster.service["canary"] = 1
    probe_says(cluster, 1000, 3)
    worse(cluster)
    done = cluster.play("rondo.upgrade.upgrade", "-e", "upgrade_on_failure=revert")
    assert done.returncode != 0
    assert "10 of 100 requests of the probe failed, and upgrade_max_failed_requests allows 0" in done.stdout
    assert "put back to rondo/web:1" in done.stdout
    assert cluster.runs() == [OLD] * 3

    # What failed before a run began does not count in it, and so many are allowed in this one.
    done = cluster.play("rondo.upgrade.upgrade", "-e", "upgrade_max_failed_requests=10%")
    assert cluster.runs() == [NEW] * 3
    # What is allowed has failed all the same.
    assert done.returncode != 0
    assert cluster.report()["reasons"] == ["30 of 300 requests failed"]


def test_failed_requests_let_nothing_more_begin(cluster: Any) -> None:
    probe_says(cluster, 1000, 0)
    worse(cluster)
    # The gate is looked at once a second; this job lasts until it has been.
    cluster.service["health"] |= {"min_healthy_time": "0s", "healthy_deadline": "300s"}
    cluster.role("site_before", [])
    hook = cluster.folder / "roles" / "site_after" / "tasks" / "main.yml"
    wait = "\n- name: Wait\n  ansible.builtin.wait_for:\n    timeout: 5\n"
    hook.write_text(hook.read_text(encoding="utf-8") + wait, encoding="utf-8")
    done = cluster.play("rondo.upgrade.upgrade")
    assert done.returncode != 0
    assert cluster.runs() == [NEW, OLD, OLD]
    assert "Stopped: 10 of 100 requests of the probe failed" in done.stdout
    run = last_run(cluster)
    assert [job["outcome"] for job in run["jobs"]] == ["done"] and run["outcome"] == "stopped"
    assert run["summaries"]["stopped"]["reason"].startswith("10 of 100 requests")
    reasons = cluster.report()["reasons"]
    assert any(reason.startswith("never begun (10 of 100 requests") for reason in reasons), reasons


def test_a_limit_that_is_none_is_refused_before_anything_is_touched(cluster: Any) -> None:
    done = cluster.play("rondo.upgrade.upgrade", "-e", "upgrade_max_failed_requests=few")
    assert done.returncode != 0
    assert "upgrade_max_failed_requests" in done.stdout + done.stderr
    assert cluster.runs() == [OLD] * 3
    assert not (cluster.folder / "build" / "journal.sqlite").exists()
