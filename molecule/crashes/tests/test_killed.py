# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller and its workers are killed at every step of a job, each time in a run of its own; and on the way back.

Each run finds what the one before left in flight, brings that to its end first, goes on, and is killed at the next
step.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from conftest import MEMBERS, Run, Strike, journal, unfinished, whole
from laboratory import Laboratory, until
from observer import Watch
from steps import Step, steps
from striking import REPLACE, UNDO, finish

FIRST = steps("replace")[0]
DATABASE = "rondo.upgrade.database"
# In these a job may be cut off halfway, too.
LONG = ("rondo.upgrade.drain", "rondo.upgrade.replace_container", "rondo.upgrade.return")


def kills() -> dict[str, list[tuple[Step, float]]]:
    """Where to kill, by the kind of job: the step, and how many seconds after its start."""
    replace = [(step, 0.0) for step in steps("replace")]
    replace += [(step, 0.7) for step, _unused in replace if step.role in LONG]
    # Their other steps are the same as those of a replace job.
    schema = {kind: [step for step in steps(kind) if step.role == DATABASE] for kind in ("expand", "contract")}
    return {"replace": replace, **{kind: [(step, 0.0) for step in found] for kind, found in schema.items()}}


def strikes(left: dict[str, list[tuple[Step, float]]]) -> Iterator[tuple[str, Step, float]]:
    """Those of one upgrade: as many replace jobs as there are members, and each schema step again and again."""
    for kind in ("expand", "replace", "contract"):
        for _unused in range(len(MEMBERS) if kind == "replace" else len(left[kind])):
            if left[kind]:
                yield kind, *left[kind].pop(0)


def recovered(run: Run, lost: list[str]) -> None:
    """The run said what was in flight, and did that before anything else."""
    for job in lost:
        line = next(line for line in run.output.splitlines() if f"{job} was in flight when run " in line)
        # Another target has an `expand` of its own, before anything is replaced.
        begun = [one["id"] for one in journal()["jobs"] if job.startswith(one["kind"]) or one["kind"] != "expand"]
        if line.endswith("it goes first"):
            assert begun[0] == job, (job, begun)
        elif line.endswith("nothing is left of it"):
            assert job not in begun
        elif job in begun:
            assert begun[0] == job, (job, begun)


def test_killed_at_every_step(
    lab: Laboratory, start: Callable[..., Run], release: str, watch: AbstractContextManager[Watch]
) -> None:
    left = kills()
    releases = (release, "1" if release == "2" else "2")
    upgrades = 0
    cut_off = set()
    with watch as seen:
        while any(left.values()):
            target = releases[upgrades % 2]
            upgrades += 1
            struck: list[str] = []
            lost: list[str] = []
            for kind, step, after in strikes(left):
                where = f"{kind}: {step}, after {after} s"
                spare = tuple(struck) if kind == "replace" else ()
                run = start(target, Strike(step, kind, spare, kill_after=after))
                assert run.end() == -signal.SIGKILL, f"{where}: was not killed\n{run.output}"
                until(lambda run=run: not run.survivors(), f"{where}: the end of its workers")
                recovered(run, lost)
                assert run.struck is not None
                if after and run.struck["killed"] > 1:
                    cut_off.add(step.role)
                job = run.struck["id"]
                struck.append(job)
                lost = unfinished()
                # What is killed before it is recorded has not begun.
                assert (job in lost) == (step != FIRST), where
            run = start(target)
            assert run.end() == 0, run.output
            recovered(run, lost)
            assert whole(lab, target)
            assert unfinished() == []
    # A worker was in the middle of each of them.
    assert cut_off == set(LONG)
    seen.clean()
    assert seen.observer.greatest() == 1


def test_killed_while_it_goes_back_by_itself(
    lab: Laboratory, start: Callable[..., Run], release: str, watch: AbstractContextManager[Watch]
) -> None:
    with watch as seen:
        run = start("2-unhealthy", Strike(UNDO, kill_after=0.3), web_healthy_deadline="5s", upgrade_on_failure="revert")
        assert run.end() == -signal.SIGKILL, run.output
        assert run.struck is not None
        [job] = unfinished()
        assert job == run.struck["id"]
        then = finish(lab, start, release)
        recovered(then, [job])
    seen.clean()


def test_killed_while_an_upgrade_is_taken_back(
    lab: Laboratory, start: Callable[..., Run], release: str, watch: AbstractContextManager[Watch]
) -> None:
    before = lab.image(MEMBERS[0], "web").rpartition(":")[2]
    with watch as seen:
        # Not to its end: behind the contract there is no way back.
        run = start(release, Strike(REPLACE, later=True))
        assert run.end() == -signal.SIGKILL, run.output
        back = start(release, Strike(REPLACE, kill_after=0.7), playbook="revert")
        assert back.end() == -signal.SIGKILL, back.output
        assert back.struck is not None
        assert back.struck["id"] in unfinished()
        again = start(release, playbook="revert")
        assert again.end() == 0, again.output
        assert whole(lab, before)
        assert unfinished() == []
    seen.clean()
