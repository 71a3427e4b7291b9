# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each fault is injected for real. What can be found beforehand is refused untouched; what can not, stops at one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from laboratory import Laboratory, journal_run
from observer import Watch

Play = Callable[..., Any]
Picture = Callable[[], dict[str, Any]]
Pause = Callable[[str], AbstractContextManager[None]]

BALANCERS = ("lb1", "lb2")
BACKENDS = ("keystone_external_back", "keystone_internal_back")
CONTROLLERS = ("ctl1", "ctl2", "ctl3")
OLD, NEW, BROKEN = "rondo/keystone:28.1.0", "rondo/keystone:29.1.0", "rondo/keystone:29.1.0-unhealthy"


def test_a_balancer_that_does_not_answer(lab: Laboratory, play: Play, picture: Picture, pause: Pause) -> None:
    before = picture()
    with pause(f"{lab.name}-lb2-haproxy"):
        outcome = play()
    assert outcome.code != 0
    assert "lb2" in outcome.output
    assert picture() == before


def test_a_controller_that_can_not_be_reached(lab: Laboratory, play: Play, picture: Picture, pause: Pause) -> None:
    before = picture()
    with pause(f"{lab.name}-ctl2"):
        # A connection kept open by an earlier run would only be found dead after a minute.
        config = str(lab.folder / "ssh_config")
        subprocess.run(
            ["ssh", "-F", config, "-O", "exit", "ctl2"], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        outcome = play()
    assert outcome.code != 0
    assert "ctl2" in outcome.output
    assert picture() == before


def test_an_image_that_does_not_exist(play: Play, picture: Picture) -> None:
    before = picture()
    outcome = play(keystone_release="99.0.0")
    assert outcome.code != 0
    assert "rondo/keystone:99.0.0" in outcome.output
    assert picture() == before


def test_a_wrong_declaration(play: Play, picture: Picture, declared: dict[str, Any]) -> None:
    before = picture()
    declared["keystone"]["min_available"] = 4
    declared["keystone"]["drain_timout"] = "60s"
    outcome = play(upgrade_services=declared)
    assert outcome.code != 0
    assert "upgrade_services.keystone.min_available" in outcome.output
    assert "upgrade_services.keystone.drain_timout" in outcome.output
    assert picture() == before


def test_a_balancer_that_another_controller_has_claimed(lab: Laboratory, play: Play, picture: Picture) -> None:
    before = picture()
    fence = "/run/rondo-upgrade.fence"
    claim = json.dumps({"owner": "deploy2:/build", "token": 1})
    lab.node("lb2").check_output(f"echo '{claim}' > {fence}")
    try:
        outcome = play()
    finally:
        lab.node("lb2").check_output(f"rm {fence}")
    assert outcome.code != 0
    assert f"Nothing was begun: lb2: {fence}: deploy2:/build claimed it" in outcome.output
    assert picture() == before
    # What was claimed already is free again, and so is the journal.
    assert json.loads(lab.node("lb1").check_output(f"cat {fence}"))["released"] is True
    run = journal_run()
    assert run is not None
    assert (run["outcome"], run["jobs"]) == ("stopped", [])
    assert "deploy2:/build" in run["summaries"]["stopped"]["reason"]


def test_check_mode_touches_nothing(play: Play, picture: Picture) -> None:
    before = picture()
    outcome = play(options="--check --diff")
    assert outcome.code == 0, outcome.output
    assert NEW in outcome.output
    assert picture() == before


def test_an_image_that_never_becomes_healthy(
    lab: Laboratory,
    play: Play,
    picture: Picture,
    declared: dict[str, Any],
    watch: AbstractContextManager[Watch],
) -> None:
    declared["keystone"]["health"]["healthy_deadline"] = "20s"
    declared["keystone"]["artifact"]["image"] = BROKEN
    with watch as seen:
        stopped = play(upgrade_services=declared)
        images = [lab.image(node, "keystone") for node in CONTROLLERS]
        tables = {balancer: lab.servers(balancer) for balancer in BALANCERS}
        token = lab.openstack("token", "issue", "--format", "value", "--column", "id")

        good = play()
        again = play()

    assert stopped.code != 0
    assert sorted(images) == [OLD, OLD, BROKEN]
    failed = CONTROLLERS[images.index(BROKEN)]
    for table in tables.values():
        for backend in BACKENDS:
            assert table[backend, failed] == "MAINT"
            assert {table[backend, node].split()[0] for node in CONTROLLERS if node != failed} == {"UP"}
    assert f"keystone@{failed}" in stopped.output
    ended = {event["job"]: event for event in stopped.events if event["event"] == "job_ended"}
    assert ended[f"replace keystone@{failed}"]["outcome"] == "failed"
    assert "not healthy by the deadline" in ended[f"replace keystone@{failed}"]["reason"]
    [reported] = [event for event in stopped.events if event["event"] == "reported"]
    assert reported["summary"].startswith("failed: ")
    assert token.returncode == 0, token.stderr

    assert good.code == 0, good.output
    assert [lab.image(node, "keystone") for node in CONTROLLERS] == [NEW] * 3
    assert {status.split()[0] for balancer in BALANCERS for status in lab.servers(balancer).values()} == {"UP"}

    assert again.code == 0, again.output
    assert not any(again.changed.values())

    # The one that failed and stayed out counts, until the next upgrade brought it back before it took another.
    seen.clean()
