# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run under load that another terminal talks to, the way back, and versions that go wrong after they were healthy.

Every test leaves all three instances on the old release and in rotation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from laboratory import Laboratory
from observer import Watch

Start = Callable[..., Any]
Journal = Callable[[], dict[str, Any] | None]
Watching = AbstractContextManager[Watch]

BALANCERS = ("lb1", "lb2")
CONTROLLERS = ("ctl1", "ctl2", "ctl3")
OLD, NEW = "rondo/keystone:28.1.0", "rondo/keystone:29.1.0"


def images(lab: Laboratory) -> list[str]:
    return [lab.image(node, "keystone") for node in CONTROLLERS]


def in_rotation(lab: Laboratory) -> bool:
    """Whether every server is up; "UP 2/3" is one late check of a server that is."""
    return {status.split()[0] for balancer in BALANCERS for status in lab.servers(balancer).values()} == {"UP"}


def flying(run: dict[str, Any] | None) -> list[str]:
    """Instances in flight in a run that is in progress."""
    if run is None or run["ended"] is not None:
        return []
    return [job["instance"] for job in run["jobs"] if job["outcome"] is None and job["kind"] == "replace"]


def status(start: Start) -> dict[str, Any]:
    asked = start("status", upgrade_format="json")
    assert asked.end() == 0
    text = asked.output
    found: dict[str, Any] = json.loads(text[text.index("\n{\n") : text.index("\n}\n") + 3])
    return found


def ended(run: Any) -> None:
    assert run.end() == 0, run.output


@pytest.fixture(autouse=True)
def whole(lab: Laboratory) -> Iterator[None]:
    assert images(lab) == [OLD] * 3
    yield
    assert images(lab) == [OLD] * 3
    assert in_rotation(lab)


def test_pause_look_resume_and_take_it_all_back(
    lab: Laboratory, start: Start, journal: Journal, watch: Watching
) -> None:
    with watch as seen:
        upgrade = start("upgrade")
        upgrade.wait_for(lambda: flying(journal()))
        pause = start("pause")
        ended(pause)
        assert "will pause: nothing new begins" in pause.output
        upgrade.wait_for(lambda: not flying(journal()))
        [canary] = [job["instance"] for job in (journal() or {})["jobs"] if job["kind"] == "replace"]

        paused = status(start)
        assert paused["run"]["paused"] and paused["run"]["in_flight"] == []
        assert {row["id"]: row["why"] for row in paused["run"]["waiting"] if row["id"].startswith("replace")} == {
            f"replace keystone@{host}": "waits for the run to resume"
            for host in CONTROLLERS
            if f"keystone@{host}" != canary
        }
        on_target = {row["instance"] for row in paused["instances"] if row["service"] == "keystone" and row["current"]}
        assert on_target == {canary}
        assert sorted(images(lab)) == [OLD, OLD, NEW]
        assert in_rotation(lab)

        watch = start("status", upgrade_watch="1s")
        watch.wait_for(lambda: "paused by" in watch.output)
        ended(start("resume"))
        ended(upgrade)
        ended(watch)
        assert "LAST RUN" in watch.output
        assert images(lab) == [NEW] * 3
        # The same in ansible-runner's own events, which are what AWX has, and in the file of ours.
        states = {"job_began": "begun", "job_ended": "ended"}
        told = [(states[event["event"]], event["job"]) for event in upgrade.events if event["event"] in states]
        assert sorted(told) == sorted(upgrade.job_states)
        assert [event["outcome"] for event in upgrade.named("run_ended")] == ["done"]

        back = start("revert")
        ended(back)
        assert images(lab) == [OLD] * 3
        run = journal()
        assert run is not None and (run["kind"], run["outcome"]) == ("revert", "done")

        again = start("revert")
        ended(again)
        assert "nothing to take back" in again.output
    seen.clean()


def test_abort_and_take_back_what_was_done(lab: Laboratory, start: Start, journal: Journal, watch: Watching) -> None:
    with watch as seen:
        upgrade = start("upgrade")
        upgrade.wait_for(lambda: flying(journal()))
        ended(start("abort"))
        assert upgrade.end() != 0
        assert "aborted by" in upgrade.output
        assert sorted(images(lab)) == [OLD, OLD, NEW]
        assert in_rotation(lab)
        run = journal()
        assert run is not None and run["outcome"] == "stopped"
        nothing = start("pause")
        assert nothing.end() != 0
        assert "No run is in progress: there is nothing to pause." in nothing.output

        ended(start("revert"))
    seen.clean()


def test_a_version_that_fails_real_requests_does_not_get_past_the_canary(
    lab: Laboratory, start: Start, declared: dict[str, Any], journal: Journal, watch: Watching
) -> None:
    declared["keystone"]["artifact"]["image"] = f"{NEW}-failing"
    declared["keystone"]["health"]["min_healthy_time"] = "10s"
    with watch as seen:
        upgrade = start("upgrade", upgrade_services=declared, upgrade_on_failure="revert")
        assert upgrade.end() != 0
        run = journal()
    assert run is not None and run["outcome"] == "failed"
    [failed] = [job for job in run["jobs"] if job["kind"] == "replace"]
    assert failed["outcome"] == "failed"
    assert "requests of the probe failed, and upgrade_max_failed_requests allows 0" in failed["details"]["reason"]
    assert f"was put back to {OLD}" in failed["details"]["reverted"]
    assert seen.observer.exceeded(1) == []
    # Only real requests tell that it fails, so some had to: those that the canary got, and none of the others'.
    assert seen.requests["failed"] > 0
    assert {failure["status"] for failure in seen.requests["failures"]} == {500}


def test_without_a_canary_failed_requests_let_nothing_begin_after_the_first_job(
    lab: Laboratory, start: Start, declared: dict[str, Any], journal: Journal, watch: Watching
) -> None:
    declared["keystone"]["canary"] = 0
    declared["keystone"]["artifact"]["image"] = f"{NEW}-failing"
    declared["keystone"]["health"]["min_healthy_time"] = "10s"
    with watch as seen:
        upgrade = start("upgrade", upgrade_services=declared)
        assert upgrade.end() != 0
        run = journal()
    # Not under the load: until it has drained the first one, requests fail, and the way back would not end well for it.
    ended(start("revert"))
    assert run is not None and run["outcome"] != "done"
    # Its own checks were content with it; real requests were not.
    [first] = [job for job in run["jobs"] if job["kind"] == "replace"]
    assert first["outcome"] == "done"
    why = run["summaries"]["stopped"]["reason"]
    assert "requests of the probe failed, and upgrade_max_failed_requests allows 0" in why
    assert f"never begun ({why}" in " ".join(upgrade.output.split())
    assert seen.observer.exceeded(1) == []
    assert {failure["status"] for failure in seen.requests["failures"]} == {500}


def test_a_version_that_dies_after_it_was_healthy(
    lab: Laboratory, start: Start, declared: dict[str, Any], journal: Journal, watch: Watching
) -> None:
    declared["keystone"]["artifact"]["image"] = f"{NEW}-dying"
    # It dies after some thirty health checks, by two balancers for two backends; the old one then dwells as long.
    declared["keystone"]["health"]["min_healthy_time"] = "90s"
    with watch as seen:
        upgrade = start("upgrade", upgrade_services=declared, upgrade_on_failure="revert")
        assert upgrade.end() != 0
        run = journal()
    assert run is not None and run["outcome"] == "failed"
    [failed] = [job for job in run["jobs"] if job["kind"] == "replace"]
    assert failed["outcome"] == "failed"
    assert failed["details"]["reason"].startswith("Return it on all balancers")
    assert f"was put back to {OLD}" in failed["details"]["reverted"]
    assert seen.observer.exceeded(1) == []
    assert seen.requests["sent"] > seen.requests["failed"]
