# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers replaced and taken back on a real engine, also where an earlier run was killed between any two steps."""

from __future__ import annotations

import fcntl
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.rondo.upgrade.plugins.module_utils._container import (
    ContainerProblem,
    Scene,
    Step,
    Target,
    restart_policy,
    steps_to_replace,
    steps_to_revert,
)
from ansible_collections.rondo.upgrade.plugins.module_utils._guard import lock_path

if TYPE_CHECKING:
    from conftest import Lab


def replaced(lab: Lab, name: str, image: int = 2, **options: Any) -> dict[str, Any]:
    return {"container": name, "image": lab.images[image], "stop_timeout": 30, **options}


def to_replace(lab: Lab, name: str, image: int) -> list[Step]:
    scene, target = lab.scene(name), lab.engine.target(lab.images[image])
    return steps_to_replace(scene, target, lab.engine.creation(lab.images[image]))


def to_revert(lab: Lab, name: str, image: int) -> list[Step]:
    return steps_to_revert(lab.scene(name), lab.engine.target(lab.images[image]))


class TestReplaced:
    def test_everything_but_the_images_own_is_carried_over(self, lab: Lab, run_module: Any) -> None:
        network, subnet = lab.network("net")
        second, _dummy_subnet = lab.network("second")
        lab.api.create_volume(lab.name("named"))
        host = lab.api.create_host_config(
            binds=[f"{lab.name('named')}:/named", "/proc/version:/version:ro"],
            restart_policy={"Name": "on-failure", "MaximumRetryCount": 3},
            cap_add=["NET_ADMIN"],
            port_bindings={8080: ("127.0.0.1", None)},
            extra_hosts={"db": "192.0.2.9"},
            tmpfs={"/scratch": "size=1m"},
            log_config={"Type": "json-file", "Config": {"max-size": "1m"}},
            network_mode=network,
            shm_size=33554432,
            pids_limit=50,
            init=True,
            ulimits=[{"Name": "nofile", "Soft": 512, "Hard": 1024}],
        )
        endpoint = lab.api.create_endpoint_config(aliases=["identity"], ipv4_address=f"{subnet}.77")
        made = lab.api.create_container(
            lab.images[1],
            name=lab.name(),
            hostname="ctl1",
            user="0:0",
            environment={"MINE": "a b=c", "RELEASE": "chosen"},
            labels={"owner": "us", "release": "chosen"},
            ports=[8080],
            working_dir="/tmp",
            stop_signal="TERM",
            healthcheck={"test": ["CMD", "/bin/true"], "interval": 1000000000},
            host_config=host,
            networking_config=lab.api.create_networking_config({network: endpoint}),
        )
        lab.api.connect_container_to_network(made["Id"], second, aliases=["other"])
        lab.api.start(made["Id"])
        name = lab.name()
        lab.execute(name, "/bin/sh", "-c", "echo kept >/data/unnamed; echo kept >/named/file")
        before = lab.inspect(name)

        result = run_module("container_image", replaced(lab, name))

        assert not result["failed"], result
        assert result["changed"]
        after = lab.inspect(name)
        assert after["Id"] != before["Id"]
        assert after["Image"] == lab.engine.target(lab.images[2]).id
        environment = lab.environment(name)
        assert (environment["MINE"], environment["RELEASE"], environment["ONLY_2"]) == ("a b=c", "chosen", "yes")
        assert "ONLY_1" not in environment
        assert after["Config"]["Labels"] == {"owner": "us", "release": "chosen", "only-2": "yes"}
        assert lab.execute(name, "/bin/cat", "/data/unnamed") == "kept"
        assert lab.execute(name, "/bin/cat", "/named/file") == "kept"
        for key in ("Hostname", "User", "WorkingDir", "StopSignal", "Healthcheck", "Cmd", "Entrypoint", "ExposedPorts"):
            assert after["Config"].get(key) == before["Config"].get(key), key
        # The unnamed volume is named now, or its data would be lost.
        changed = {key for key, value in after["HostConfig"].items() if value != before["HostConfig"][key]}
        assert changed == {"Binds"}
        assert set(before["HostConfig"]["Binds"]) < set(after["HostConfig"]["Binds"])
        networks = after["NetworkSettings"]["Networks"]
        assert set(networks) == {network, second}
        assert networks[network]["IPAddress"] == f"{subnet}.77"
        assert "identity" in networks[network]["Aliases"]
        assert "other" in networks[second]["Aliases"]
        for known in ("identity", name):
            assert lab.execute(name, "/bin/getent", "hosts", known).startswith(f"{subnet}.77")

        kept = lab.inspect(result["container"]["kept"]["name"])
        assert kept["Id"] == before["Id"]
        assert not kept["State"]["Running"]
        assert kept["HostConfig"]["RestartPolicy"]["Name"] == "no"

        again = run_module("container_image", replaced(lab, name))
        assert not again["failed"], again
        assert (again["changed"], again["steps"]) == (False, [])
        assert lab.inspect(name)["Id"] == after["Id"]

    def test_check_mode_says_it_and_touches_nothing(self, lab: Lab, run_module: Any) -> None:
        name = lab.deploy()
        before = lab.inspect(name)
        result = run_module("container_image", replaced(lab, name), check=True)
        assert not result["failed"], result
        assert result["changed"]
        assert result["diff"]["before"]["image"] == lab.images[1]
        assert result["diff"]["after"]["image"] == lab.images[2]
        assert "rondo-kept-no-" in result["diff"]["after"]["kept"]
        assert lab.inspect(name)["State"]["StartedAt"] == before["State"]["StartedAt"]
        assert lab.others(name) == []

        done = run_module("container_image", replaced(lab, name))
        assert done["steps"] == result["steps"]
        assert done["diff"] == result["diff"]

    def test_another_containers_network(self, lab: Lab, run_module: Any) -> None:
        node = lab.deploy("node")
        name = lab.deploy(network_mode=f"container:{lab.inspect(node)['Id']}")
        result = run_module("container_image", replaced(lab, name))
        assert not result["failed"], result
        assert lab.inspect(name)["HostConfig"]["NetworkMode"] == f"container:{lab.inspect(node)['Id']}"
        assert lab.execute(name, "/bin/hostname") == lab.execute(node, "/bin/hostname")

    def test_one_is_kept_and_none_without_keep(self, lab: Lab, run_module: Any) -> None:
        name = lab.deploy()
        run_module("container_image", replaced(lab, name, 2))
        result = run_module("container_image", replaced(lab, name, 1))
        assert lab.others(name) == ["kept"]
        assert result["container"]["kept"]["image"] == lab.images[2]
        result = run_module("container_image", replaced(lab, name, 2, keep=False))
        assert not result["failed"], result
        assert lab.others(name) == []
        assert lab.execute(name, "/bin/cat", "/data/served") == "2"


class TestReverted:
    def test_the_old_container_itself_serves_again(self, lab: Lab, run_module: Any) -> None:
        name = lab.deploy(restart_policy={"Name": "unless-stopped"})
        before = lab.inspect(name)
        run_module("container_image", replaced(lab, name))

        foreseen = run_module("container_image", replaced(lab, name, state="reverted"), check=True)
        assert lab.serves(name, 2)
        result = run_module("container_image", replaced(lab, name, state="reverted"))

        assert not result["failed"], result
        assert result["changed"]
        assert foreseen["steps"] == result["steps"]
        assert foreseen["diff"] == result["diff"]
        after = lab.inspect(name)
        assert after["Id"] == before["Id"]
        assert after["State"]["Running"]
        assert after["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
        assert lab.others(name) == ["undone"]
        again = run_module("container_image", replaced(lab, name, state="reverted"))
        assert (again["failed"], again["changed"]) == (False, False)

    def test_nothing_was_kept(self, lab: Lab, run_module: Any) -> None:
        name = lab.deploy(image=2)
        result = run_module("container_image", replaced(lab, name, state="reverted"))
        assert result["failed"]
        assert "none was kept" in result["msg"]
        assert lab.serves(name, 2)


# One more than there are steps, so that "nothing was killed" is among them too.
REPLACE_STEPS = range(8)
REVERT_STEPS = range(7)


class TestKilled:
    """The steps that a killed run had done are done by hand, then the next run finishes."""

    @pytest.mark.parametrize("done", REPLACE_STEPS)
    def test_replacing_is_finished(self, lab: Lab, done: int) -> None:
        # An earlier kept one is there too: it must go in the end, and never be taken for the one that ran last.
        name = lab.deploy(restart_policy={"Name": "always"}, network_mode="none")
        lab.do(to_replace(lab, name, 2))
        steps = to_replace(lab, name, 1)
        assert len(steps) == REPLACE_STEPS[-1]
        lab.do(steps[:done])

        lab.do(to_replace(lab, name, 1))

        self.check(lab, name, 1, kept=2)
        assert to_replace(lab, name, 1) == []

    @pytest.mark.parametrize("done", REPLACE_STEPS)
    def test_replacing_is_undone(self, lab: Lab, done: int) -> None:
        name = lab.deploy(restart_policy={"Name": "always"}, network_mode="none")
        lab.do(to_replace(lab, name, 2))
        lab.do(to_replace(lab, name, 1)[:done])

        lab.do(to_revert(lab, name, 1))

        assert lab.serves(name, 2)
        assert lab.inspect(name)["HostConfig"]["RestartPolicy"]["Name"] == "always"
        assert to_revert(lab, name, 1) == []

    @pytest.mark.parametrize("done", REVERT_STEPS)
    def test_reverting_is_finished(self, lab: Lab, done: int) -> None:
        name = lab.deploy(restart_policy={"Name": "always"}, network_mode="none")
        lab.do(to_replace(lab, name, 2))
        steps = to_revert(lab, name, 2)
        assert len(steps) == REVERT_STEPS[-1]
        lab.do(steps[:done])

        lab.do(to_revert(lab, name, 2))

        assert lab.serves(name, 1)
        assert lab.inspect(name)["HostConfig"]["RestartPolicy"]["Name"] == "always"
        assert to_revert(lab, name, 2) == []
        assert lab.others(name) == ["undone"]

    @pytest.mark.parametrize("done", REVERT_STEPS)
    def test_reverting_is_followed_by_replacing(self, lab: Lab, done: int) -> None:
        name = lab.deploy(restart_policy={"Name": "always"}, network_mode="none")
        lab.do(to_replace(lab, name, 2))
        lab.do(to_revert(lab, name, 2)[:done])

        lab.do(to_replace(lab, name, 2))

        assert lab.serves(name, 2)
        assert lab.inspect(name)["HostConfig"]["RestartPolicy"]["Name"] == "always"
        assert to_replace(lab, name, 2) == []

    @staticmethod
    def check(lab: Lab, name: str, image: int, kept: int) -> None:
        assert lab.serves(name, image)
        assert lab.inspect(name)["HostConfig"]["RestartPolicy"]["Name"] == "always"
        assert lab.others(name) == ["kept"]
        (one,) = lab.scene(name).kept
        assert one["Config"]["Image"] == lab.images[kept]
        assert not one["State"]["Running"]
        assert restart_policy(one)["Name"] == "always"


class TestGuard:
    def test_what_a_killed_run_left_working_is_waited_for(self, lab: Lab, run_module: Any) -> None:
        name = lab.deploy()
        with Path(lock_path(name)).open("w", encoding="utf-8") as held, ThreadPoolExecutor() as pool:
            fcntl.flock(held, fcntl.LOCK_EX)
            waiting = pool.submit(run_module, "container_image", replaced(lab, name))
            with pytest.raises(NotYet):
                waiting.result(timeout=3)
            assert lab.serves(name, 1) and lab.others(name) == []
            # Only looking needs no lock.
            assert run_module("container_image", replaced(lab, name), check=True)["changed"]
            fcntl.flock(held, fcntl.LOCK_UN)
            assert not waiting.result()["failed"]
        assert lab.serves(name, 2)

    def test_what_a_killed_run_sent_too_late_is_refused(self, lab: Lab, run_module: Any) -> None:
        name = lab.deploy()
        owner = "deploy1:/build/journal.sqlite"
        for state, token in (("replaced", 7), ("reverted", 8)):
            done = run_module(
                "container_image", replaced(lab, name, state=state, fence={"token": token, "owner": owner})
            )
            assert not done["failed"], done
        late = run_module("container_image", replaced(lab, name, fence={"token": 7, "owner": owner}))
        assert late["failed"] and "may change nothing any more" in late["msg"]
        assert lab.serves(name, 1)


class TestInTheWay:
    def test_a_name_that_was_taken_meanwhile(self, lab: Lab, run_module: Any) -> None:
        name = lab.deploy()
        *first, last_rename, _start = to_replace(lab, name, 2)
        assert last_rename.act == "rename"
        lab.do(first)
        other = lab.client.containers.create(lab.images[1], name=name)
        with pytest.raises(ContainerProblem) as caught:
            lab.do([last_rename])
        assert "appeared meanwhile" in str(caught.value)
        assert other.id[:12] in str(caught.value)
        other.remove()

        result = run_module("container_image", replaced(lab, name))
        assert not result["failed"], result
        assert lab.serves(name, 2)
        assert lab.others(name) == ["kept"]

    def test_a_unit_that_starts_it_again_between_stop_and_rename(self, lab: Lab) -> None:
        name = lab.deploy()
        steps = to_replace(lab, name, 2)
        (stop,) = [index for index, step in enumerate(steps) if step.act == "stop"]
        lab.do(steps[: stop + 1])
        lab.api.start(name)
        lab.do(steps[stop + 1 :])
        assert lab.serves(name, 2)
        assert not lab.scene(name).kept[0]["State"]["Running"]

    def test_an_image_that_does_not_start(self, lab: Lab, run_module: Any) -> None:
        name = lab.deploy()
        before = lab.inspect(name)["Id"]
        result = run_module("container_image", replaced(lab, name, 3))
        assert result["failed"]
        assert f"could not start {name}" in result["msg"]
        assert "is kept" in result["msg"]
        assert result["changed"]
        assert result["steps_left"] == [f"start {name}"]

        # A better image: what never started does not become the one to go back to.
        result = run_module("container_image", replaced(lab, name, 2))
        assert not result["failed"], result
        assert lab.serves(name, 2)
        result = run_module("container_image", replaced(lab, name, 2, state="reverted"))
        assert not result["failed"], result
        assert lab.inspect(name)["Id"] == before

    def test_an_image_that_does_not_start_is_taken_back(self, lab: Lab, run_module: Any) -> None:
        name = lab.deploy()
        run_module("container_image", replaced(lab, name, 3))
        result = run_module("container_image", replaced(lab, name, 3, state="reverted"))
        assert not result["failed"], result
        assert lab.serves(name, 1)

    def test_an_image_that_does_not_work(self, lab: Lab, run_module: Any) -> None:
        name = lab.deploy()
        before = lab.inspect(name)["Id"]
        lab.do(to_replace(lab, name, 2))
        # Another one of the same content would be the same image to the engine: 1 plays the better one.
        result = run_module("container_image", replaced(lab, name, 1, healthy=False))
        assert not result["failed"], result
        assert lab.others(name) == ["kept", "undone"]
        assert result["container"]["kept"]["name"].endswith(before[:12])

    def test_what_the_engine_refuses_it_refuses_before_the_old_one_stops(self, lab: Lab) -> None:
        name = lab.deploy()
        before = lab.inspect(name)["State"]["StartedAt"]
        image = lab.engine.target(lab.images[2])

        def refused(source: dict[str, Any]) -> Any:
            made = lab.engine.creation(lab.images[2])(source)
            made.body["HostConfig"]["Binds"] = ["no/absolute/path:relative"]
            return made

        with pytest.raises(ContainerProblem, match=r"could not create .*\.rondo-new"):
            lab.do(steps_to_replace(lab.scene(name), image, refused))
        assert lab.inspect(name)["State"]["StartedAt"] == before
        assert lab.inspect(name)["State"]["Running"]

    def test_the_old_ones_image_is_gone(self, lab: Lab) -> None:
        name = lab.deploy()
        scene: Scene = lab.scene(name)
        assert scene.current is not None
        scene.current["Image"] = "sha256:" + "0" * 64
        with pytest.raises(ContainerProblem, match="is gone from the engine"):
            steps_to_replace(scene, Target("new", "sha256:new"), lab.engine.creation("new"))


class TestRefused:
    @pytest.mark.parametrize("check", [False, True])
    @pytest.mark.parametrize("state", ["present", "replaced"])
    def test_an_image_that_is_nowhere(self, lab: Lab, run_module: Any, state: str, check: bool) -> None:
        name = lab.deploy()
        # Nothing listens on port 1, so no registry answers.
        wanted = {"container": name, "image": "127.0.0.1:1/rondo-test/none:1", "state": state}
        result = run_module("container_image", wanted, check=check)
        assert result["failed"]
        assert "127.0.0.1:1/rondo-test/none:1 is not on the engine" in result["msg"]
        assert "Tried: the engine's own images, then the registry" in result["msg"]
        assert lab.serves(name, 1)
        never = run_module("container_image", {**wanted, "pull": "never"}, check=check)
        assert never["failed"]
        assert "pull=never" in never["msg"]

    def test_present(self, lab: Lab, run_module: Any) -> None:
        result = run_module("container_image", {"image": lab.images[2], "state": "present"})
        assert not result["failed"], result
        assert not result["changed"]
        assert result["image"]["id"] == lab.engine.target(lab.images[2]).id

    def test_no_such_container(self, lab: Lab, run_module: Any) -> None:
        result = run_module("container_image", replaced(lab, lab.name("nobody")))
        assert result["failed"]
        assert f"no container named {lab.name('nobody')}" in result["msg"]

    def test_one_that_is_lost_when_it_stops(self, lab: Lab, run_module: Any) -> None:
        name = lab.deploy(auto_remove=True)
        result = run_module("container_image", replaced(lab, name))
        assert result["failed"]
        assert "--rm" in result["msg"]
        assert lab.serves(name, 1)

    def test_no_engine(self, run_module: Any, tmp_path: Any) -> None:
        result = run_module(
            "container_info", {"containers": {"web": None}, "docker_host": f"unix://{tmp_path}/none.sock"}
        )
        assert result["failed"]
        assert "does not answer at unix://" in result["msg"]

    def test_no_sdk(self, run_module: Any) -> None:
        result = run_module("container_info", {"containers": {"web": None}}, without=("docker",))
        assert result["failed"]
        assert "required Python library (docker)" in result["msg"]


def test_a_container_is_stopped_for_a_while_and_started_or_replaced_again(lab, run_module) -> None:
    name = lab.deploy()
    stopped = run_module("container_image", {"container": name, "state": "stopped", "stop_timeout": 30})
    assert stopped["changed"] and not lab.inspect(name)["State"]["Running"]
    assert not run_module("container_image", {"container": name, "state": "stopped"})["changed"]
    back = run_module("container_image", {"container": name, "image": lab.images[2], "state": "reverted"})
    assert back["changed"] and lab.serves(name, 1)
    run_module("container_image", {"container": name, "state": "stopped", "stop_timeout": 30})
    replaced = run_module("container_image", {"container": name, "image": lab.images[2]})
    assert replaced["changed"] and lab.serves(name, 2) and lab.others(name) == ["kept"]
