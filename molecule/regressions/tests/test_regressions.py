# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A version that serves, is healthy, and is worse; and counts of which one has seen what the others have not."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from laboratory import ROOT, Laboratory, Run, journal_path, journal_run, probing

from ansible_collections.rondo.upgrade.plugins.plugin_utils._journal import Journal

OLD, GOOD, NEW = "28.1.0-steady", "29.1.0-steady", "29.1.0-regressing"
TABLE = "lb1: the table of keystone_internal_back is as it was"
# What a user without a role can't do, once no cache says otherwise.
WITHOUT_ROLE = {"records: its token is valid", "records: the user can log in"}
SCENARIO = Path(__file__).resolve().parents[1]
COUNTS = str(SCENARIO / "counts.yml")
UNDER_LOAD = str(ROOT / "molecule" / "shared" / "upgrade_under_load.yml")

Play = Callable[..., Run]
Report = Callable[[], dict[str, Any]]


def suites(*names: str) -> dict[str, Any]:
    """Of those that the inventory declares, these."""
    declared = yaml.safe_load((SCENARIO / "inventory" / "group_vars" / "all" / "upgrade.yml").read_text())
    return {name: declared["upgrade_suites"][name] for name in names}


def images(lab: Laboratory) -> set[str]:
    return {lab.image(node, "keystone") for node in ("ctl1", "ctl2")}


def test_a_worse_version_is_told_by_name_and_taken_back(lab: Laboratory, play: Play, tmp_path: Path) -> None:
    assert images(lab) == {f"rondo/keystone:{OLD}"}
    users = {"rate": 2, "timeout": "60s", "requests": [{"kind": "http", "url": f"http://{lab.vip}:5000/v3"}]}
    with probing(users, tmp_path / "users") as sent:
        upgrade = play("rondo.upgrade.upgrade", keystone_release=NEW, upgrade_on_regression="revert")
    assert sent["failed"] == 0, sent["failures"]
    assert upgrade.process.returncode != 0
    assert "The upgrade was taken back, because tests have regressed" in upgrade.output
    assert images(lab) == {f"rondo/keystone:{OLD}"}

    upgraded, reverted = journal_run(1), journal_run(2)
    assert upgraded is not None and (upgraded["kind"], upgraded["outcome"]) == ("upgrade", "failed")
    assert {job["outcome"] for job in upgraded["jobs"]} == {"done"}
    assert reverted is not None and reverted["kind"] == "revert"

    book = tmp_path / "report.yml"
    book.write_text(
        "- hosts: localhost\n  gather_facts: false\n  tasks:\n"
        "    - rondo.upgrade.report: {run: 1, fail: false, directory: '{{ upgrade_directory }}'}\n"
        "      register: told\n"
        "    - ansible.builtin.copy: {content: '{{ told.report | to_json }}', dest: '{{ out }}', mode: '0600'}\n"
    )
    out = tmp_path / "report.json"
    assert play(str(book), out=str(out), keystone_release=NEW).process.returncode == 0
    found = json.loads(out.read_text())
    assert found["verdict"] == "failed"

    v3 = f"http://{lab.vip}:5000/v3"
    regressions = {row["name"] for row in found["regressions"]}
    expected = {
        f"builtin: keystone: {v3}/regions answers",
        "records: its role assignment is there",
        f"builtin: keystone: {v3} is as fast as before",
        "builtin: keystone@ctl1 logs no more errors than before",
        "builtin: keystone@ctl2 logs no more errors than before",
        f"builtin: {TABLE}",
    }
    assert expected <= regressions
    # Tempest says the same of the regions, and of nothing else; a user without a role can't log in to the project.
    others = regressions - expected
    assert any("test_regions" in name for name in others)
    assert {name.partition(":")[0] for name in others} <= {"tempest", "records"}
    assert not [name for name in others if name.startswith("tempest") and "test_regions" not in name]

    known = {
        (row["suite"], row["class"]) for row in found["tests"]["changes"] if "test_that_never_passed" in row["name"]
    }
    assert known == {("smoke", "known failing")}
    # What nothing has touched was not tested.
    assert not [row for row in found["tests"]["changes"] if row["suite"] == "database"]


def test_what_was_made_for_the_tests_is_gone(lab: Laboratory) -> None:
    for kind in ("user", "project"):
        listed = lab.openstack(kind, "list", "-f", "value", "-c", "Name")
        assert listed.returncode == 0, listed.stderr
        assert "rondo-upgrade-" not in listed.stdout
    assert not (Path(os.environ["LAB_BUILD"]) / "suites" / "records" / "records.json").exists()
    text = journal_path().read_bytes()
    assert b"admin-lab" not in text


@pytest.mark.parametrize(
    ("plant", "saw"),
    [
        ("nothing", None),
        ("probe", "the probe saw"),
        ("balancer", "HAProxy counted"),
        ("log", "the services logged"),
    ],
)
def test_a_failure_in_one_count_alone_is_noticed(plant: str, saw: str | None, play: Play, report: Report) -> None:
    with Journal(journal_path(), create=False) as journal:
        run = (journal.run() or {})["id"]
    variables = {"keystone_release": OLD, "upgrade_suites": {}, "verify_run": run, "plant": plant}
    assert play(COUNTS, **variables).process.returncode == 0
    found = report()
    counts = {source["name"]: source for source in found["counts"]["sources"]}
    assert set(counts) == {"probe", "HAProxy", "access logs"}
    assert all(source["of"] > 0 for source in counts.values())
    if saw is None:
        assert found["counts"]["agree"] is True, found["counts"]
        return
    assert found["counts"]["agree"] is False
    assert found["counts"]["note"].startswith(f"the counts disagree: {saw} ")
    assert found["verdict"] == "failed"
    assert found["counts"]["note"] in found["reasons"]


def test_an_upgrade_whose_three_counts_are_there_and_agree_is_clean(
    lab: Laboratory, play: Play, report: Report
) -> None:
    upgrade = play(UNDER_LOAD, keystone_release=GOOD, upgrade_suites={})
    assert upgrade.process.returncode == 0
    assert images(lab) == {f"rondo/keystone:{GOOD}"}
    found = report()
    counts = {source["name"]: source for source in found["counts"]["sources"]}
    assert set(counts) == {"probe", "HAProxy", "access logs"}
    assert all(source["of"] > 0 and source["failed"] == 0 for source in counts.values()), counts
    assert found["counts"]["agree"] is True, found["counts"]
    assert (found["verdict"], found["reasons"]) == ("clean", [])


# Each is held against what was before the first of them: an upgrade goes on until a run of it was good.
@pytest.mark.parametrize(
    ("release", "suite", "names"),
    [
        (
            "29.1.0-slow",
            "builtin",
            ["keystone: {v3} is as fast as before", "keystone: {v3}/regions is as fast as before"],
        ),
        ("29.1.0-noisy", "builtin", [f"keystone@{host} logs no more errors than before" for host in ("ctl1", "ctl2")]),
        ("29.1.0-forgetful", "records", ["its role assignment is there"]),
        ("29.1.0-lacking", "builtin", ["keystone: {v3}/regions answers"]),
        # The role that runs after each instance weighs.
        (GOOD, "builtin", [TABLE]),
    ],
)
def test_each_defect_alone_is_its_own_regression_and_no_other(
    release: str, suite: str, names: list[str], lab: Laboratory, play: Play, report: Report
) -> None:
    tested = {"keystone_weighed": release == GOOD, "upgrade_suites": suites("records")}
    assert play("rondo.upgrade.upgrade", keystone_release=release, **tested).process.returncode != 0
    assert images(lab) == {f"rondo/keystone:{release}"}
    expected = {f"{suite}: " + name.format(v3=f"http://{lab.vip}:5000/v3") for name in names}
    assert {row["name"] for row in report()["regressions"]} - WITHOUT_ROLE == expected


def test_verify_alone_fails_with_the_regression(play: Play) -> None:
    verify = play("rondo.upgrade.verify", keystone_release=GOOD, upgrade_suites={})
    assert verify.process.returncode != 0
    assert f"builtin: {TABLE}" in " ".join(verify.output.split())
