# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What else can strike a run: Ctrl-C, SSH, hosts, balancers, members, the schema.

Each time no budget is exceeded, and the next upgrade brings everything to its end.
"""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import BACKEND, BALANCERS, MEMBERS, Strike, journal, tables, unfinished, whole
from laboratory import Laboratory, journal_path, until
from steps import Step, steps
from striking import (
    BEGIN,
    DRAIN,
    END,
    EVIDENCE,
    REPLACE,
    RETURN,
    Start,
    Watching,
    docker,
    finish,
    healed,
    images,
    shell,
)


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


# Whoever has a lock of the guard open, in the node: one that works, and those that wait for it.
AT_WORK = """
import os
for process in os.listdir("/proc"):
    try:
        files = [os.readlink(f"/proc/{process}/fd/{name}") for name in os.listdir(f"/proc/{process}/fd")]
    except OSError:
        continue
    if any("/rondo-upgrade-" in file for file in files):
        print(process)
"""


class Frozen:
    """The module that replaces a container, made to stand still in the middle of its work, however quick it is."""

    def __init__(self, lab: Laboratory, folder: Path) -> None:
        self._lab = lab
        self._folder = folder
        (folder / "at_work.py").write_text(AT_WORK)

    def command(self, then: str = "true") -> tuple[str, ...]:
        """The strike that waits for it, stops it, and then does something else."""
        node = f"{self._lab.name}-{{host}}"
        return shell(f"""
        ( until pid=$(docker exec --interactive {node} python3 - <{self._folder}/at_work.py) && [ "$pid" ]; do :; done
          docker exec {node} kill -STOP $pid && {then}
          echo $pid > {self._folder}/new && mv {self._folder}/new {self._place}
        ) </dev/null >/dev/null 2>&1 &
        """)

    def there(self) -> bool:
        return self._place.exists()

    def thaw(self, host: str) -> None:
        docker("exec", f"{self._lab.name}-{host}", "kill", "-CONT", *self._place.read_text().split())

    @property
    def _place(self) -> Path:
        return self._folder / "frozen"


@pytest.fixture
def frozen(lab: Laboratory, tmp_path: Path) -> Frozen:
    return Frozen(lab, tmp_path)


def test_ssh_dies_in_the_middle_of_the_swap(
    lab: Laboratory, start: Start, release: str, watch: Watching, frozen: Frozen
) -> None:
    with watch as seen:
        cut = f"docker exec {lab.name}-{{host}} pkill -f sshd-session"
        run = start(release, Strike(REPLACE, command=frozen.command(then=cut)))
        code = run.end()
        assert run.struck is not None
        struck = run.struck
        begun = {job["id"]: job["outcome"] for job in journal()["jobs"] if job["kind"] == "replace"}
        states = tables(lab)
        frozen.thaw(struck["host"])
        finish(lab, start, release)
    assert code != 0
    assert f"{struck['id']} failed: {struck['host']} became unreachable" in run.output
    assert begun == {struck["id"]: "failed"}
    assert {member for (_unused, member), state in states.items() if state != "UP"} == {struck["host"]}
    seen.clean()


def test_a_host_goes_away_before_its_job(
    lab: Laboratory, start: Start, release: str, watch: Watching, tmp_path: Path
) -> None:
    away = f"""
    away={MEMBERS[-1]}
    if [ {{host}} = "$away" ]; then away={MEMBERS[0]}; fi
    echo "$away" > {tmp_path}/away
    docker exec {lab.name}-"$away" pkill -f sshd-session
    docker pause {lab.name}-"$away"
    """
    with watch as seen:
        with healed(*(("unpause", f"{lab.name}-{member}") for member in MEMBERS)):
            run = start(release, Strike(REPLACE, command=shell(away)))
            code = run.end()
            states = tables(lab)
        host = (tmp_path / "away").read_text().strip()
        ended = {job["host"]: job["outcome"] for job in journal()["jobs"] if job["kind"] == "replace"}
        ran = images(lab)
        finish(lab, start, release)
    assert code != 0
    assert f"replace web@{host} failed: {host} became unreachable" in run.output
    # Those before it are done, it is out and as it was, and those behind it never began.
    assert ended.pop(host) == "failed"
    assert set(ended.values()) == {"done"}
    assert {member for member, image in ran.items() if image == release} == set(ended)
    assert {member for (_unused, member), state in states.items() if state != "UP"} == {host}
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


def test_a_module_goes_on_after_its_run_was_killed(
    lab: Laboratory, start: Start, release: str, watch: Watching, frozen: Frozen
) -> None:
    def at_work(host: str) -> list[str]:
        done = lab.node(host).run(f"python3 -c '{AT_WORK}'")
        return str(done.stdout).split()

    with watch as seen:
        run = start(release, Strike(REPLACE, command=frozen.command()))
        run.wait_for(frozen.there)
        os.killpg(run.process.pid, signal.SIGKILL)
        assert run.end() == -signal.SIGKILL
        assert run.struck is not None
        host, [job] = run.struck["host"], unfinished()
        then = start(release)
        then.wait_for(lambda: len(at_work(host)) > 1)
        # It waits, with nothing done to what the other one works on.
        assert unfinished() == [job]
        frozen.thaw(host)
        assert then.end() == 0, then.output
        assert whole(lab, release)
    assert job == run.struck["id"]
    assert f"{job} was in flight when run " in then.output
    seen.clean()


def test_the_journal_is_lost_with_an_instance_out(
    lab: Laboratory, start: Start, release: str, watch: Watching, tmp_path: Path
) -> None:
    with watch as seen:
        run = start(release, Strike(RETURN))
        assert run.end() == -signal.SIGKILL
        assert run.struck is not None
        [struck] = unfinished()
        content = journal_path().read_bytes()
        journal_path().write_bytes(content[: len(content) // 2])
        refused = start(release)
        code = refused.end()
        states = tables(lab)
        # As docs/journal.md says.
        for name in ("", "-wal", "-shm"):
            path = journal_path().with_name(f"{journal_path().name}{name}")
            if path.exists():
                path.rename(tmp_path / path.name)
        stranger = start(release)
        strange = stranger.end()
        finish(lab, start, release, upgrade_takeover="true")
    host = run.struck["host"]
    assert code != 0
    assert "Nothing was begun" in refused.output and "docs/journal.md" in refused.output
    assert {member for (_unused, member), state in states.items() if state != "UP"} == {host}
    # To the balancers a new journal is another controller.
    assert strange != 0 and "start again with -e upgrade_takeover=true" in stranger.output
    # What the balancers and the engine say is enough to take the one that is out first.
    assert next(job["id"] for job in journal()["jobs"] if job["kind"] == "replace") == struck
    seen.clean()


def holder(lab: Laboratory) -> str | None:
    """The balancer that has the virtual address; None while it is on its way."""
    return next((name for name in BALANCERS if f" {lab.vip}/" in lab.node(name).run("ip -4 -o address").stdout), None)


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
    # It was seen, put right, and told: in the job whose call found it, and to whoever watched.
    restored = {server for job in journal()["jobs"] for server in job["details"].get("restored", ())}
    assert restored and restored <= {f"{BACKEND}/{member}" for member in MEMBERS}
    assert "HAProxy had forgotten that " in run.output
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
    assert f"{run.struck['id']} failed: Return it on all balancers: {idle}: " in run.output
    assert {job["id"] for job in journal(journal()["id"] - 1)["jobs"] if job["kind"] == "replace"} == {run.struck["id"]}
    seen.clean()


def test_the_balancer_with_the_address_dies(lab: Laboratory, start: Start, release: str, watch: Watching) -> None:
    first = holder(lab)
    container = f"{lab.name}-{first}-haproxy"
    with watch as seen:
        with healed(("start", container)):
            run = start(release, Strike(REPLACE, command=("docker", "kill", container)))
            run.wait_for(lambda: run.struck)
            until(lambda: holder(lab) not in (first, None), "the address on the other balancer")
            moved = datetime.now(UTC)
            code = run.end()
        until(lambda: lab.node(first).run("test -S /run/haproxy/admin.sock").rc == 0, f"{first}'s socket")
        assert run.struck is not None
        finish(lab, start, release)
    assert code != 0
    assert f"{run.struck['id']} failed: Return it on all balancers: {first}: " in run.output
    assert seen.observer.exceeded(1) == []
    # What nobody could save: requests between the death and the other balancer's taking over. None after that.
    assert seen.requests["failed"] > 0
    assert all(datetime.fromisoformat(failure["due"]) < moved for failure in seen.requests["failures"])


@pytest.mark.parametrize("step", [DRAIN, REPLACE], ids=str)
def test_the_node_of_a_balancer_goes_away(
    lab: Laboratory, start: Start, release: str, watch: Watching, step: Step
) -> None:
    idle = next(name for name in BALANCERS if name != holder(lab))
    away = f"docker exec {lab.name}-{idle} pkill -f sshd-session; docker pause {lab.name}-{idle}"
    with watch as seen:
        with healed(("unpause", f"{lab.name}-{idle}")):
            run = start(release, Strike(step, command=shell(away)))
            code = run.end()
        assert run.struck is not None
        host = run.struck["host"]
        states, ran = tables(lab), images(lab)
        finish(lab, start, release)
    assert code != 0
    failed = "Drain" if step == DRAIN else "Return"
    assert f"{run.struck['id']} failed: {failed} it on all balancers: {idle}: " in run.output
    # It is the balancer that can't be reached, and nobody else.
    assert "became unreachable" not in run.output
    # A drain that did not get through everywhere has done nothing; one whose instance did not get back stays out.
    away_now = set() if step == DRAIN else {host}
    assert {member for member, image in ran.items() if image == release} == away_now
    assert {member for (_unused, member), state in states.items() if state != "UP"} == away_now
    seen.clean()


@pytest.mark.parametrize("on_failure", ["stop", "revert"])
def test_a_hook_after_fails_when_the_instance_serves_again(
    lab: Laboratory, start: Start, release: str, watch: Watching, on_failure: str
) -> None:
    with watch as seen:
        run = start(release, web_hooks={"after": "refuse"}, upgrade_on_failure=on_failure)
        code = run.end()
        states, ran = tables(lab), images(lab)
        [failed] = [job for job in journal()["jobs"] if job["kind"] == "replace"]
        finish(lab, start, release)
    assert code != 0
    assert "the site's own checks are not content" in failed["details"]["reason"]
    out = {failed["host"]} if on_failure == "stop" else set()
    assert {member for (_unused, member), state in states.items() if state != "UP"} == out
    assert {member for member, image in ran.items() if image == release} == out
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


def test_a_canary_goes_alone_and_is_watched(lab: Laboratory, start: Start, release: str, watch: Watching) -> None:
    with watch as seen:
        run = start(release, web_max_unavailable=2, web_canary=1, web_bake_time="8s")
        assert run.end() == 0, run.output
    assert whole(lab, release)
    canary, *others = (job for job in journal()["jobs"] if job["kind"] == "replace")
    assert canary["phase"] == "canary 1 web"
    assert len(others) == len(MEMBERS) - 1
    # It served for its bake time and its min_healthy_time before the next one began, and then two went at a time.
    assert canary["took"] > 8 + 1
    # That is no time out of rotation, which the balancers measured.
    assert 0 < canary["details"]["out_seconds"] < canary["took"] - 8 - 1
    assert all(0 < job["details"]["out_seconds"] < job["took"] for job in others)
    assert min(job["begun"] for job in others) >= canary["ended"]
    assert sorted(job["begun"] for job in others)[1] < min(job["ended"] for job in others)
    assert seen.observer.exceeded(1, until=canary["ended"]) == []
    seen.clean(2)


@pytest.mark.parametrize("step", [BEGIN, DRAIN, REPLACE, RETURN, END, EVIDENCE], ids=str)
def test_the_steps_named_here_are_there(step: Step) -> None:
    assert step in {*steps("replace"), *steps("contract")}
