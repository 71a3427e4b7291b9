# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What else can strike a run: Ctrl-C, SSH, hosts, balancers, members, the engine, the schema.

Each time no budget is exceeded, and the next upgrade brings everything to its end.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from conftest import BALANCERS, MEMBERS, Run, Strike, journal, tables, unfinished, whole
from laboratory import Laboratory, until
from observer import Watch
from steps import Step

BEGIN = Step("rondo.upgrade.instance", "Record that the job begins")
DRAIN = Step("rondo.upgrade.drain", "Drain it on all balancers")
REPLACE = Step("rondo.upgrade.replace_container", "Replace the container")
RETURN = Step("rondo.upgrade.return", "Return it on all balancers")
END = Step("rondo.upgrade.instance", "Record that the job has ended well")
EVIDENCE = Step("rondo.upgrade.database", "Ask every host of the service what it runs")

Start = Callable[..., Run]
Watching = AbstractContextManager[Watch]


def docker(*words: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=check)
    return done.stdout.strip()


def shell(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


def finish(lab: Laboratory, start: Start, release: str) -> Run:
    """The next upgrade brings everything to its end."""
    run = start(release)
    assert run.end() == 0, run.output
    assert whole(lab, release)
    assert unfinished() == []
    return run


def images(lab: Laboratory) -> dict[str, str]:
    return {member: lab.image(member, "web").rpartition(":")[2] for member in MEMBERS}


@contextmanager
def healed(*commands: tuple[str, ...]) -> Iterator[None]:
    """Docker commands that take a fault away again, however the test ends."""
    try:
        yield
    finally:
        for command in commands:
            docker(*command, check=False)


def test_ctrl_c_lets_what_is_in_flight_finish(lab: Laboratory, start: Start, release: str, watch: Watching) -> None:
    with watch as seen:
        run = start(release, Strike(REPLACE, command=("true",)), web_max_unavailable=2)
        run.wait_for(lambda: run.struck)
        os.killpg(run.process.pid, signal.SIGINT)
        code = run.end()
        ended = journal()
        finish(lab, start, release)
    assert code not in (0, 99)
    assert "Interrupted: what is in flight will finish" in run.output
    assert "Not begun (interrupted by Ctrl-C)" in run.output
    replaced = {job["id"]: job["outcome"] for job in ended["jobs"] if job["kind"] == "replace"}
    assert set(replaced.values()) == {"done"}
    assert 1 <= len(replaced) <= 2
    seen.clean(2)


def test_a_second_ctrl_c_stops_at_once_and_the_journal_knows(
    lab: Laboratory, start: Start, release: str, watch: Watching
) -> None:
    with watch as seen:
        run = start(release, Strike(DRAIN, command=("true",)))
        run.wait_for(lambda: run.struck)
        os.killpg(run.process.pid, signal.SIGINT)
        run.wait_for(lambda: "Interrupted: what is in flight will finish" in run.output)
        os.killpg(run.process.pid, signal.SIGINT)
        code = run.end()
        assert run.struck is not None
        struck = run.struck["id"]
        left = unfinished()
        then = finish(lab, start, release)
    assert code != 0
    assert left == [struck]
    assert f"{struck} was in flight when run " in then.output
    seen.clean()


def test_ssh_dies_in_the_middle_of_the_swap(lab: Laboratory, start: Start, release: str, watch: Watching) -> None:
    cut = f"docker exec --detach {lab.name}-{{host}} sh -c 'sleep 1; pkill -f sshd-session'"
    with watch as seen:
        run = start(release, Strike(REPLACE, command=shell(cut)))
        code = run.end()
        assert run.struck is not None
        struck = run.struck
        begun = {job["id"]: job["outcome"] for job in journal()["jobs"] if job["kind"] == "replace"}
        finish(lab, start, release)
    # The swap may have been quicker.
    if code != 0:
        assert f"{struck['id']} failed: {struck['host']} became unreachable" in run.output
        assert begun == {struck["id"]: "failed"}
    seen.clean()


def test_a_host_goes_away_during_its_job(lab: Laboratory, start: Start, release: str, watch: Watching) -> None:
    away = f"docker exec {lab.name}-{{host}} pkill -f sshd-session; docker pause {lab.name}-{{host}}"
    with watch as seen:
        with healed(*(("unpause", f"{lab.name}-{member}") for member in MEMBERS)):
            run = start(release, Strike(REPLACE, command=shell(away)))
            code = run.end()
            assert run.struck is not None
            host = run.struck["host"]
            states = tables(lab)
        finish(lab, start, release)
    assert code != 0
    assert f"{host} became unreachable" in run.output
    assert {state for (_unused, member), state in states.items() if member == host} == {"MAINT"}
    assert {state for (_unused, member), state in states.items() if member != host} == {"UP"}
    seen.clean()


def test_a_host_goes_away_after_its_job(lab: Laboratory, start: Start, release: str, watch: Watching) -> None:
    away = f"docker exec {lab.name}-{{earlier}} pkill -f sshd-session; docker pause {lab.name}-{{earlier}}"
    with watch as seen:
        with healed(*(("unpause", f"{lab.name}-{member}") for member in MEMBERS)):
            run = start(release, Strike(DRAIN, later=True, command=shell(away)))
            code = run.end()
        ended = {job["id"]: job["outcome"] for job in journal()["jobs"]}
        assert images(lab) == dict.fromkeys(MEMBERS, release)
        finish(lab, start, release)
    assert code != 0
    assert ended["contract web"] == "failed"
    assert "can't be proven to run the new version" in run.output
    seen.clean()


def holder(lab: Laboratory) -> str:
    """The balancer that has the virtual address."""
    return next(name for name in BALANCERS if f" {lab.vip}/" in lab.node(name).run("ip -4 -o address").stdout)


def test_a_balancer_reloads_and_forgets_its_states(
    lab: Laboratory, start: Start, release: str, watch: Watching
) -> None:
    with watch as seen:
        run = start(
            release,
            Strike(REPLACE, command=shell(f"docker kill --signal USR2 {lab.name}-{holder(lab)}-haproxy")),
            web_max_unavailable=2,
        )
        assert run.end() == 0, run.output
        assert run.struck is not None
        assert whole(lab, release)
    seen.clean(2)


def test_a_balancer_dies(lab: Laboratory, start: Start, release: str, watch: Watching) -> None:
    idle = next(name for name in BALANCERS if name != holder(lab))
    container = f"{lab.name}-{idle}-haproxy"
    with watch as seen:
        with healed(("start", container)):
            run = start(release, Strike(REPLACE, command=("docker", "kill", container)))
            code = run.end()
        until(lambda: lab.node(idle).run("test -S /run/haproxy/admin.sock").rc == 0, f"{idle}'s socket")
        assert run.struck is not None
        finish(lab, start, release)
    assert code != 0
    assert idle in run.output
    assert {job["id"] for job in journal(journal()["id"] - 1)["jobs"] if job["kind"] == "replace"} == {run.struck["id"]}
    seen.clean()


def failing_member(lab: Laboratory, start: Start, release: str, step: Step, flag: Path, **variables: str) -> str:
    """Runs an upgrade in which a member fails by itself when the first job comes to a step; says which."""
    run = start(release, Strike(step, command=shell(f"until [ -e {flag} ]; do sleep 0.2; done")), **variables)
    run.wait_for(lambda: run.struck)
    assert run.struck is not None
    first = run.struck["host"]
    # The last of all: the next one would be brought back by its own job.
    victim = [job["host"] for job in journal()["plan"]["jobs"] if job["kind"] == "replace"][-1]
    assert victim != first
    docker("stop", "--time", "5", f"{lab.name}-{victim}-web")
    until(
        lambda: {state for (_unused, member), state in tables(lab).items() if member == victim} == {"DOWN"},
        f"{victim} down in both tables",
    )
    flag.touch()
    code = run.end()
    if step == RETURN:
        assert code == 0, run.output
        assert f"web@{victim} does not serve any more" in run.output
        return victim
    # Too late for the window: the drain itself waits, and then the job fails with nothing done to it.
    assert code != 0
    assert f"{victim} is DOWN" in run.output
    assert [member for member, image in images(lab).items() if image == release] == [first]
    assert {state for (_unused, member), state in tables(lab).items() if member != victim} == {"UP"}
    return victim


def test_a_member_that_failed_by_itself_goes_next(
    lab: Laboratory, start: Start, release: str, watch: Watching, tmp_path: Path
) -> None:
    with watch as seen:
        victim = failing_member(lab, start, release, RETURN, tmp_path / "go-on")
    replaced = [job["id"] for job in journal()["jobs"] if job["kind"] == "replace"]
    assert replaced[1] == f"replace web@{victim}"
    assert whole(lab, release)
    # The one in flight and the one that failed; nobody else before that one was back.
    assert seen.observer.exceeded(2) == []


def test_a_member_fails_by_itself_between_two_jobs(
    lab: Laboratory, start: Start, release: str, watch: Watching, tmp_path: Path
) -> None:
    with watch as seen:
        victim = failing_member(lab, start, release, END, tmp_path / "go-on", web_drain_timeout="5s")
        finish(lab, start, release)
    assert next(job["id"] for job in journal()["jobs"] if job["kind"] == "replace") == f"replace web@{victim}"
    assert seen.observer.exceeded(1) == []


def test_the_image_is_gone_when_it_is_needed(lab: Laboratory, start: Start, release: str, watch: Watching) -> None:
    name = f"rondo-{lab.name}/web"
    docker("tag", f"rondo/web:{release}", f"{name}:{release}")
    with watch as seen:
        with healed(("rmi", f"{name}:{release}")):
            run = start(
                release,
                Strike(REPLACE, command=("docker", "rmi", f"{name}:{release}")),
                web_image=name,
                upgrade_on_failure="revert",
            )
            code = run.end()
        states = tables(lab)
        ran = images(lab)
        finish(lab, start, release)
    assert code != 0
    assert f"{name}:{release}" in run.output
    assert release not in ran.values()
    assert set(states.values()) <= {"UP", "MAINT"}
    seen.clean()


def test_the_old_container_is_gone(lab: Laboratory, start: Start, release: str, watch: Watching) -> None:
    container = f"{lab.name}-{{host}}-web"
    gone = f"""
    docker ps --all --quiet --filter name={container}.rondo | xargs --no-run-if-empty docker rm --force
    docker stop --time 5 {container}
    docker rename {container} {container}-gone
    """
    with watch as seen:
        try:
            run = start(release, Strike(REPLACE, command=shell(gone)))
            code = run.end()
        finally:
            for member in MEMBERS:
                docker("rename", f"{lab.name}-{member}-web-gone", f"{lab.name}-{member}-web", check=False)
        ran = images(lab)
        finish(lab, start, release)
    assert code != 0
    assert run.struck is not None
    assert f"there is no container named {lab.name}-{run.struck['host']}-web" in run.output
    assert release not in ran.values()
    seen.clean()


def test_the_expand_fails(lab: Laboratory, start: Start, release: str, watch: Watching) -> None:
    with watch as seen:
        lab.container("web1", "web").check_output("touch /schema/broken")
        try:
            run = start(release)
            code = run.end()
            ran = images(lab)
            states = tables(lab)
        finally:
            lab.container("web1", "web").check_output("rm /schema/broken")
        finish(lab, start, release)
    assert code != 0
    assert "the disk of the database is full" in run.output
    assert release not in ran.values()
    assert set(states.values()) == {"UP"}
    seen.clean()


def test_no_contract_while_one_still_runs_the_old_version(lab: Laboratory, start: Start, release: str) -> None:
    container = f"{lab.name}-web4-web"
    back = f"""
    kept=$(docker ps --all --format '{{{{.Names}}}}' --filter name={container}.rondo-kept | head -n 1)
    docker stop --time 5 {container}
    docker rename {container} {container}-aside
    docker rename "$kept" {container}
    docker start {container}
    """
    with healed(("rm", "--force", f"{container}-aside")):
        run = start(release, Strike(EVIDENCE, kind="contract", command=shell(back)))
        code = run.end()
    schema = lab.container("web1", "web").check_output("cat /schema/contracted")
    finish(lab, start, release)
    assert code != 0
    assert "web@web4 can't be proven to run the new version" in run.output
    assert schema != release


@pytest.mark.parametrize("step", [BEGIN, DRAIN, REPLACE, RETURN, END, EVIDENCE], ids=str)
def test_the_steps_named_here_are_there(step: Step) -> None:
    from steps import steps

    assert step in {*steps("replace"), *steps("contract")}
