# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks as people run them, with a real engine: what they do, and what they refuse before touching anything."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from typing import Any

import pytest
import yaml

OLD, NEW, BAD = "rondo/web:1", "rondo/web:2", "rondo/web:2-unhealthy"


def changed(output: str) -> list[int]:
    return [int(number) for number in re.findall(r"changed=(\d+)", output)]


def test_upgrade_changes_each_instance_once_and_then_nothing(cluster: Any) -> None:
    done = cluster.play("rondo.upgrade.upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert cluster.runs() == [NEW] * 3
    report = cluster.report()
    assert [row["outcome"] for row in report["instances"]] == ["done"] * 3
    assert {row["from"] for row in report["instances"]} == {OLD} and {row["to"] for row in report["instances"]} == {NEW}
    ids = [cluster.engine.containers.get(cluster.container(host)).id for host in ("h1", "h2", "h3")]

    again = cluster.play("rondo.upgrade.upgrade")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing to do" in again.stdout
    assert set(changed(again.stdout)) == {0}, again.stdout
    assert ids == [cluster.engine.containers.get(cluster.container(host)).id for host in ("h1", "h2", "h3")]

    for playbook, said in (("verify", "all 3 instances run their target"), ("status", "3 of 3 instances")):
        asked = cluster.play(f"rondo.upgrade.{playbook}")
        assert asked.returncode == 0 and said in asked.stdout, asked.stdout + asked.stderr


def test_check_mode_touches_nothing_and_shows_what_would_happen(cluster: Any) -> None:
    before = sorted(one.id for one in cluster.engine.containers.list(all=True, filters={"name": cluster.token}))
    done = cluster.play("rondo.upgrade.upgrade", "--check", "--diff")
    assert done.returncode == 0, done.stdout + done.stderr
    assert cluster.runs() == [OLD] * 3
    after = sorted(one.id for one in cluster.engine.containers.list(all=True, filters={"name": cluster.token}))
    assert before == after
    assert not (cluster.folder / "build").exists()
    assert re.search(r"^\+.*rondo/web:2", done.stdout, re.MULTILINE), done.stdout


def test_hooks_run_around_their_own_job_with_its_handlers(cluster: Any) -> None:
    log = cluster.folder / "log"

    def write(what: str) -> dict[str, Any]:
        content = f"echo {what} {{{{ inventory_hostname }}}} >> {log}"
        return {"name": f"Write {what}", "ansible.builtin.shell": content, "changed_when": True}

    cluster.role("site_before", [write("before")])
    cluster.role("site_after", [{**write("after"), "notify": "Write handler"}], [write("handler")])
    cluster.service["hooks"] = {"before": "site_before", "after": "site_after"}
    done = cluster.play("rondo.upgrade.upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    for host in ("h1", "h2", "h3"):
        said = [line.split()[0] for line in log.read_text(encoding="utf-8").splitlines() if line.endswith(host)]
        assert said == ["before", "after", "handler"]


def test_a_probe_that_goes_on_counts_while_the_jobs_run(cluster: Any) -> None:
    state = cluster.folder / "build" / "probe" / "state.json"
    state.parent.mkdir(parents=True)

    def seen(sent: int) -> str:
        return json.dumps({"running": True, "pid": os.getpid(), "sent": sent, "failed": 1, "retried": 2})

    state.write_text(seen(40), encoding="utf-8")
    more = {"ansible.builtin.copy": {"content": seen(100) + "\n", "dest": str(state), "mode": "0600"}}
    cluster.role("site_after", [{"name": "Send more", **more}])
    cluster.service["hooks"] = {"after": "site_after"}
    done = cluster.play("rondo.upgrade.upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    report = cluster.report()
    # What failed before the jobs is not theirs.
    assert report["requests"] == {"sent": 60, "failed": 0, "retried": 0, "so_far": True}
    assert report["verdict"] == "done" and "HAProxy: no balancer was read" in report["counts"]["missing"]
    assert "no probe ran" not in done.stdout


def test_a_hook_that_can_not_work_here_is_refused_before_anything_begins(cluster: Any) -> None:
    cluster.role("site_before", [{"name": "Wait", "ansible.builtin.pause": {"seconds": 1}}])
    cluster.service["hooks"] = {"before": "site_before"}
    done = cluster.play("rondo.upgrade.upgrade")
    assert done.returncode != 0
    assert "pause" in done.stdout + done.stderr
    assert cluster.runs() == [OLD] * 3


# The bad one is waited for that long; with revert the old one then has to be healthy within it, on any machine.
@pytest.mark.parametrize(("on_failure", "deadline"), [("stop", "2s"), ("revert", "45s")])
def test_an_image_that_never_becomes_healthy(cluster: Any, on_failure: str, deadline: str) -> None:
    cluster.service["artifact"]["image"] = BAD
    cluster.service["health"]["healthy_deadline"] = deadline
    done = cluster.play("rondo.upgrade.upgrade", "-e", f"upgrade_on_failure={on_failure}")
    assert done.returncode != 0
    first = BAD if on_failure == "stop" else OLD
    assert cluster.runs() == [first, OLD, OLD]
    report = cluster.report()
    assert report["verdict"] == "failed"
    assert "not healthy" in str(report["reasons"])
    assert ("put back to rondo/web:1" in done.stdout) == (on_failure == "revert")
    if on_failure == "stop":
        cluster.service["artifact"]["image"] = NEW
        cluster.service["health"]["healthy_deadline"] = "300s"
        better = cluster.play("rondo.upgrade.upgrade")
        assert better.returncode == 0, better.stdout + better.stderr
        assert cluster.runs() == [NEW] * 3


def test_the_report_comes_also_when_every_host_of_the_plan_fails(cluster: Any) -> None:
    cluster.hosts = {"h1": cluster.hosts["h1"]}
    cluster.service |= {"min_available": 0}
    cluster.service["artifact"]["image"] = BAD
    cluster.service["health"]["healthy_deadline"] = "2s"
    done = cluster.play("rondo.upgrade.upgrade")
    assert done.returncode != 0
    assert cluster.report()["verdict"] == "failed"
    assert "REPORT" in done.stdout, done.stdout + done.stderr


def test_an_image_that_does_not_exist_is_found_before_anything_is_touched(cluster: Any) -> None:
    cluster.service["artifact"]["image"] = "localhost:1/none:1"
    done = cluster.play("rondo.upgrade.upgrade")
    assert done.returncode != 0
    assert "localhost:1/none:1" in done.stdout + done.stderr
    assert cluster.runs() == [OLD] * 3
    assert not (cluster.folder / "build" / "journal.sqlite").exists()


def test_an_unreachable_host_is_found_before_anything_is_touched(cluster: Any) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # not listening: refuses, and nobody else can take it
        cluster.hosts["h3"] = {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": closed.getsockname()[1],
            "ansible_python_interpreter": sys.executable,
        }
        done = cluster.play("rondo.upgrade.upgrade")
    assert done.returncode != 0
    assert "h3 could not be observed" in done.stdout
    assert cluster.runs() == [OLD] * 3


def test_an_artifact_that_is_not_carried_out_is_refused_before_anything_is_touched(cluster: Any) -> None:
    cluster.service["artifact"] = {"host_image": "trixie-2"}
    done = cluster.play("rondo.upgrade.upgrade", "-e", "upgrade_host_image=trixie-1")
    assert done.returncode != 0
    assert "only containers are replaced" in done.stdout + done.stderr
    assert cluster.runs() == [OLD] * 3
    assert not (cluster.folder / "build" / "journal.sqlite").exists()


def test_the_exported_playbook_reaches_the_same_end(cluster: Any) -> None:
    planned = cluster.play("rondo.upgrade.plan", "-e", "upgrade_export=rounds.yml")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert cluster.runs() == [OLD] * 3
    done = cluster.play("rounds.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert cluster.runs() == [NEW] * 3
    assert [row["outcome"] for row in cluster.report()["instances"]] == ["done"] * 3
    assert "strategy plugins" not in done.stderr
    stale = cluster.play("rounds.yml")
    assert stale.returncode != 0
    assert "was made for another state" in stale.stdout + stale.stderr


def test_own_playbooks_take_the_computed_batches(cluster: Any) -> None:
    book = [
        {
            "name": "Wrap what you have",
            "hosts": "{{ lookup('rondo.upgrade.batch_hosts', 'web', plan='build/plan/plan.json') }}",
            "serial": "{{ lookup('rondo.upgrade.batches', 'web', plan='build/plan/plan.json') }}",
            "gather_facts": False,
            "tasks": [{"ansible.builtin.debug": {"msg": "batch={{ ansible_play_batch | join('+') }}"}}],
        }
    ]
    (cluster.folder / "own.yml").write_text(yaml.safe_dump(book), encoding="utf-8")
    planned = cluster.play("rondo.upgrade.plan")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    done = cluster.play("own.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"batch=([a-z0-9+]+)", done.stdout) == ["h1", "h2", "h3"]


def test_simulate_needs_no_cluster(cluster: Any) -> None:
    done = cluster.play("rondo.upgrade.simulate", "-e", "hosts=50")
    assert done.returncode == 0, done.stdout + done.stderr
    assert cluster.runs() == [OLD] * 3


def test_a_wrong_declaration_is_told_at_once(cluster: Any) -> None:
    cluster.service |= {"min_availabel": 2, "canary": -1}
    done = cluster.play("rondo.upgrade.upgrade")
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "upgrade_services.web.min_availabel" in said and "upgrade_services.web.canary" in said
    assert cluster.runs() == [OLD] * 3
