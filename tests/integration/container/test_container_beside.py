# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second copy beside a container that goes on serving, on a real engine."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Lab

Run = Callable[..., dict[str, Any]]


def beside(lab: Lab, run_module: Run, name: str, /, *, check: bool = False, **options: Any) -> dict[str, Any]:
    wanted = {"container": name, "image": lab.images[2], "service": "web", "stop_timeout": 30, "disk": 0, **options}
    return run_module("container_beside", wanted, check=check)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as link:
        link.bind(("127.0.0.1", 0))
        return int(link.getsockname()[1])


def test_a_copy_runs_the_new_image_like_the_first_one_and_goes_again(lab: Lab, run_module: Run, free_port: int) -> None:
    name = lab.deploy(environment={"KEPT": "yes", "PORT": "80"}, labels={"mine": "1"})
    before = lab.inspect(name)
    options = {"environment": {"PORT": "{port}", "MORE": "at {port}"}, "port": free_port}
    assert beside(lab, run_module, name, check=True, **options)["changed"]
    assert lab.api.containers(all=True, filters={"name": name + ".rondo-beside"}) == []

    made = beside(lab, run_module, name, **options)
    copy = lab.inspect(made["name"])
    assert made["changed"] and made["running"] and made["name"] == name + ".rondo-beside"
    assert copy["Config"]["Image"] == lab.images[2] and copy["State"]["Running"]
    environment = lab.environment(made["name"])
    assert (environment["PORT"], environment["MORE"]) == (str(free_port), f"at {free_port}")
    assert (environment["KEPT"], environment["RELEASE"]) == ("yes", "2")
    assert copy["Config"]["Labels"]["rondo.upgrade.beside"] == "web" and copy["Config"]["Labels"]["mine"] == "1"
    assert not beside(lab, run_module, name, **options)["changed"]
    # The first one goes on, and whoever replaces it takes the copy for no leftover of its own.
    assert lab.inspect(name)["State"]["StartedAt"] == before["State"]["StartedAt"]
    assert lab.others(name) == []

    assert beside(lab, run_module, name, state="absent")["changed"]
    assert lab.api.containers(all=True, filters={"name": name + ".rondo-beside"}) == []
    assert not beside(lab, run_module, name, state="absent")["changed"]
    assert lab.inspect(name)["State"]["Running"]


def test_a_copy_that_differs_is_made_anew_and_one_that_stopped_is_started(lab: Lab, run_module: Run) -> None:
    name = lab.deploy()
    first = lab.inspect(beside(lab, run_module, name)["name"])["Id"]
    lab.api.kill(first)
    again = beside(lab, run_module, name)
    assert again["steps"] == [f"start {name}.rondo-beside"]
    other = beside(lab, run_module, name, environment={"NEW": "1"})
    assert other["changed"] and lab.inspect(other["name"])["Id"] != first


def test_without_room_nothing_is_started(lab: Lab, run_module: Run) -> None:
    name = lab.deploy()
    with socket.socket() as link:
        link.bind(("0.0.0.0", 0))
        link.listen()
        refused = beside(lab, run_module, name, port=link.getsockname()[1], memory=10**15)
    assert refused["failed"] and "is taken" in refused["msg"] and "MB of memory are left" in refused["msg"]
    assert lab.api.containers(all=True, filters={"name": name + ".rondo-beside"}) == []


def test_a_published_port_is_published_elsewhere(lab: Lab, run_module: Run, free_port: int) -> None:
    name = lab.deploy(ports={"8080/tcp": None})
    made = beside(lab, run_module, name, port=free_port)
    assert lab.inspect(made["name"])["HostConfig"]["PortBindings"]["8080/tcp"][0]["HostPort"] == str(free_port)
    several = lab.deploy("several", ports={"8080/tcp": None, "8081/tcp": None})
    assert "publishes several ports" in beside(lab, run_module, several, port=free_port)["msg"]


def test_a_copy_elsewhere_is_created_from_what_home_says(lab: Lab, run_module: Run) -> None:
    name = lab.deploy(environment={"KEPT": "yes"})
    told = beside(lab, run_module, name, state="described")
    assert not told["changed"]
    made = beside(lab, run_module, "not-here", name=lab.name("elsewhere"), creation=told["creation"])
    assert made["changed"], made
    assert lab.environment(lab.name("elsewhere"))["KEPT"] == "yes"


def test_a_container_of_somebody_elses_is_left_alone(lab: Lab, run_module: Run) -> None:
    name = lab.deploy()
    lab.deploy("web.rondo-beside")
    for state in ("absent", "present"):
        refused = beside(lab, run_module, name, state=state)
        assert refused["failed"] and "somebody else's" in refused["msg"]
    assert lab.inspect(name + ".rondo-beside")["State"]["Running"]


def test_what_is_not_there_is_said(lab: Lab, run_module: Run) -> None:
    assert "no container named" in beside(lab, run_module, lab.name("nothing"))["msg"]
    name = lab.deploy()
    assert "is not on the engine" in beside(lab, run_module, name, image=lab.name("image"))["msg"]
