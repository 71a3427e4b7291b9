# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine refuses. Each time no budget is exceeded, and the next upgrade brings everything to its end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import MEMBERS, Strike, journal, tables, unfinished, whole
from laboratory import Laboratory
from own_engine import OwnEngine, own_engine
from striking import DRAIN, REPLACE, Start, Watching, docker, finish, healed, images, shell


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


def test_the_name_is_taken_meanwhile(lab: Laboratory, start: Start, release: str, watch: Watching) -> None:
    container = f"{lab.name}-{{host}}-web"
    # Its processes stand still, so that it takes its ten seconds to stop: by then somebody else has got its name.
    others = "int(p) for p in os.listdir('/proc') if p.isdigit() and int(p) not in (1, os.getpid())"
    freeze = f"import os, signal; [os.kill(p, signal.SIGSTOP) for p in [{others}]]"
    taken = f"""
    docker exec {container} python3 -c "{freeze}"
    ( until docker inspect {container}.rondo-new; do sleep 0.1; done
      docker rename {container} {container}-renamed
      docker create --label rondo.upgrade.lab={lab.name} --name {container} rondo/web:2-unhealthy
    ) </dev/null >/dev/null 2>&1 &
    """
    with watch as seen:
        run = start(release, Strike(REPLACE, command=shell(taken)))
        code = run.end()
        assert run.struck is not None
        host = run.struck["host"]
        ran = images(lab)
        states = tables(lab)
        # As the message says.
        docker("rm", "--force", f"{lab.name}-{host}-web")
        finish(lab, start, release)
    assert code != 0
    assert f"the name {lab.name}-{host}-web is taken by a container that appeared meanwhile" in run.output
    assert "remove or rename its container, and run this again" in run.output
    assert ran.pop(host) == "2-unhealthy"
    assert release not in ran.values()
    assert {member for (_unused, member), state in states.items() if state != "UP"} == {host}
    seen.clean()


@pytest.fixture(scope="class")
def engine(lab: Laboratory) -> Iterator[OwnEngine]:
    with own_engine(lab, MEMBERS[-1]) as engine:
        yield engine


class TestOneOfManyEngines:
    """One member has an engine of its own, as every host has outside of labs."""

    def test_its_disk_is_full(
        self, lab: Laboratory, engine: OwnEngine, start: Start, release: str, watch: Watching
    ) -> None:
        others = tuple(f"replace web@{member}" for member in MEMBERS if member != engine.member)
        with watch as seen:
            try:
                run = start(release, Strike(DRAIN, spare=others, command=engine.fill()), upgrade_on_failure="revert")
                code = run.end()
                ran = images(lab)
                states = tables(lab)
            finally:
                engine.make_room()
            finish(lab, start, release)
        assert code != 0
        assert f"replace web@{engine.member} failed: " in run.output
        assert "no space left on device" in run.output
        # The engine refused before the old one was stopped, so that it came back untouched.
        assert ran[engine.member] != release
        assert set(states.values()) == {"UP"}
        seen.clean()

    def test_it_lacks_the_image(
        self, lab: Laboratory, engine: OwnEngine, start: Start, release: str, watch: Watching
    ) -> None:
        # A registry that refuses at once.
        name = f"localhost:1/{lab.name}/web"
        docker("tag", f"rondo/web:{release}", f"{name}:{release}")
        before = journal()["id"]
        with watch as seen, healed(("rmi", f"{name}:{release}")):
            run = start(release, web_image=name)
            code = run.end()
            ran = images(lab)
            engine.load(f"{name}:{release}")
            assert start(release, web_image=name).end() == 0
        assert code != 0
        assert f"the image {name}:{release} is not on the engine" in run.output
        assert engine.member in run.output
        # Found while staging: nothing was begun.
        assert release not in ran.values()
        assert journal()["id"] == before + 1
        assert whole(lab, release) and unfinished() == []
        seen.clean()
        assert seen.observer.greatest() == 1
