# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands run beside a container, on a real engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.rondo.upgrade.plugins.module_utils._container import command_creation, command_name

if TYPE_CHECKING:
    from conftest import Lab


def left(lab: Lab) -> list[str]:
    return [
        row["Names"][0]
        for row in lab.api.containers(all=True, filters={"name": lab.token})
        if "-command-" in row["Names"][0]
    ]


def test_it_lives_where_the_container_lives(lab: Lab, run_module: Any) -> None:
    network, subnet = lab.network("net")
    endpoint = lab.api.create_endpoint_config(ipv4_address=f"{subnet}.77")
    made = lab.api.create_container(
        lab.images[1],
        name=lab.name(),
        environment={"MINE": "yes"},
        host_config=lab.api.create_host_config(network_mode=network, port_bindings={8080: ("127.0.0.1", None)}),
        networking_config=lab.api.create_networking_config({network: endpoint}),
    )
    lab.api.start(made["Id"])
    lab.execute(lab.name(), "/bin/sh", "-c", "echo here >/data/file")

    script = "cat /data/file; echo $MINE $RELEASE $ONLY_1; getent hosts " + lab.name() + "; echo oops >&2; exit 4"
    wanted = {"container": lab.name(), "image": lab.images[2], "command": ["/bin/sh", "-c", script]}
    result = run_module("container_command", wanted)

    assert result["failed"]
    assert result["rc"] == 4
    assert result["began"]
    assert result["changed"]
    assert "exit code 4" in result["msg"]
    here, environment, address = result["stdout"].splitlines()
    assert (here, environment) == ("here", "yes 2")
    assert address.startswith(f"{subnet}.77")
    assert result["stderr"] == "oops\n"
    assert left(lab) == []
    assert lab.serves(lab.name(), 1)


def test_words_entrypoint_and_silence(lab: Lab, run_module: Any) -> None:
    name = lab.deploy()
    wanted = {"container": name, "command": "/bin/env MORE='a b' /bin/env", "entrypoint": ["/bin/env", "FIRST=1"]}
    result = run_module("container_command", wanted)
    assert not result["failed"], result
    assert result["changed"]
    assert {"FIRST=1", "MORE=a b", "RELEASE=1"} <= set(result["stdout"].splitlines())
    result = run_module("container_command", {**wanted, "no_log_output": True})
    assert "stdout" not in result
    assert "stderr" not in result


def test_check_mode(lab: Lab, run_module: Any) -> None:
    name = lab.deploy()
    wanted = {"container": name, "command": ["/bin/sh", "-c", "echo run >/data/served; echo out"]}
    skipped = run_module("container_command", wanted, check=True)
    assert (skipped["failed"], skipped["changed"], skipped["skipped"]) == (False, True, True)
    asked = run_module("container_command", {**wanted, "reads_only": True}, check=True)
    assert (asked["failed"], asked["changed"], asked["stdout"]) == (False, False, "out\n")


def test_one_that_does_not_end(lab: Lab, run_module: Any) -> None:
    name = lab.deploy()
    wanted = {"container": name, "command": ["/bin/sh", "-c", "echo begun; sleep 100000"], "timeout": 1}
    result = run_module("container_command", wanted)
    assert result["failed"]
    assert "did not end within 1 s" in result["msg"]
    # It may have done part of its work.
    assert result["began"] and result["changed"]
    assert left(lab) == []


def start_earlier(lab: Lab, name: str, script: str) -> list[str]:
    """What a run that was killed has left behind: its command's container, still at work."""
    command = ["/bin/sh", "-c", script]
    scene = lab.scene(name)
    assert scene.current is not None
    creation = command_creation(scene.current, lab.engine.image_of(scene.current), lab.images[2], command, [])
    lab.api.start(lab.engine.create(command_name(name, lab.images[2], command), creation))
    return command


def test_an_earlier_one_that_still_runs_is_waited_for(lab: Lab, run_module: Any) -> None:
    name = lab.deploy()
    command = start_earlier(lab, name, "sleep 2; echo done >>/data/log; cat /data/log")
    result = run_module("container_command", {"container": name, "image": lab.images[2], "command": command})
    assert not result["failed"], result
    assert result["stdout"] == "done\ndone\n"
    assert left(lab) == []


def test_an_earlier_one_that_runs_for_ever(lab: Lab, run_module: Any) -> None:
    name = lab.deploy()
    command = start_earlier(lab, name, "sleep 100000")
    wanted = {"container": name, "image": lab.images[2], "command": command, "timeout": 1}
    result = run_module("container_command", wanted)
    assert result["failed"]
    assert "of an earlier run still runs" in result["msg"] and result["began"]
    assert len(left(lab)) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"container": "rondo-test-nobody"}, "no container named rondo-test-nobody"),
        ({"image": "rondo-test-none:1"}, "rondo-test-none:1 is not on the engine"),
        ({"command": "echo '"}, "can't be split into words"),
        ({"command": []}, "is no command"),
        ({"command": ["/not/there"]}, "/not/there"),
    ],
)
def test_refused(lab: Lab, run_module: Any, change: dict[str, Any], message: str) -> None:
    name = lab.deploy()
    result = run_module("container_command", {"container": name, "command": ["/bin/true"], **change})
    assert result["failed"]
    assert message in result["msg"]
    assert not result["began"]
    assert left(lab) == []
