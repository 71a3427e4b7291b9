# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is carried over to a new container, and which steps lead from which scene to the wanted one."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.module_utils import _container
from ansible_collections.rondo.upgrade.plugins.module_utils._container import (
    ContainerProblem,
    Creation,
    Engine,
    Scene,
    Step,
    Target,
    belongs,
    carried_over,
    command_creation,
    command_name,
    row,
    steps_to_replace,
    steps_to_revert,
)

OLD_ID = "1d" * 32
OLD_IMAGE = {
    "Id": "sha256:old",
    "RepoDigests": ["registry.example/keystone@sha256:aa"],
    "Config": {
        "Env": ["PATH=/usr/bin", "RELEASE=28", "DEBUG=no"],
        "Cmd": ["keystone"],
        "Entrypoint": ["dumb-init", "--"],
        "Labels": {"release": "28", "vendor": "us"},
        "User": "keystone",
        "WorkingDir": "",
        "ExposedPorts": {"5000/tcp": {}},
        "Volumes": {"/var/lib/keystone": {}},
        "Healthcheck": {"Test": ["CMD", "old-check"], "Interval": 5},
        "StopSignal": "SIGTERM",
    },
}
OLD = {
    "Id": OLD_ID,
    "Name": "/keystone",
    "Created": "2026-11-01T00:00:00.5Z",
    "Image": "sha256:old",
    "RestartCount": 2,
    "State": {"Running": True, "Status": "running", "StartedAt": "2026-11-01T00:00:01Z", "ExitCode": 0},
    "Config": {
        "Image": "registry.example/keystone:28",
        "Hostname": "ctl1",
        "Domainname": "",
        "User": "keystone",
        "Env": ["MINE=1", "DEBUG=yes", "PATH=/usr/bin", "RELEASE=28"],
        "Cmd": ["keystone"],
        "Entrypoint": ["dumb-init", "--"],
        "Labels": {"release": "28", "vendor": "them", "owner": "us"},
        "WorkingDir": "/",
        "ExposedPorts": {"5000/tcp": {}, "35357/tcp": {}},
        "Volumes": {"/var/lib/keystone": {}},
        "Healthcheck": {"Test": ["CMD", "old-check"], "Interval": 9},
        "StopSignal": "SIGTERM",
        "StopTimeout": 30,
        "Tty": False,
        "OnBuild": None,
        "MacAddress": "",
    },
    "HostConfig": {
        "Binds": ["/etc/kolla/keystone:/etc/keystone:ro", "fernet:/fernet"],
        "NetworkMode": "control",
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 5},
        "Privileged": False,
        "CapAdd": ["NET_ADMIN"],
        "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
        "Links": ["/memcached:/keystone/cache"],
        "AutoRemove": False,
        "ContainerIDFile": "/run/x",
    },
    "Mounts": [
        {"Type": "bind", "Source": "/etc/kolla/keystone", "Destination": "/etc/keystone", "RW": False},
        {"Type": "volume", "Name": "fernet", "Destination": "/fernet", "RW": True},
        {"Type": "volume", "Name": "f" * 64, "Destination": "/var/lib/keystone", "RW": True},
    ],
    "NetworkSettings": {
        "Networks": {
            "control": {
                "NetworkID": "n1",
                "IPAMConfig": {"IPv4Address": "192.0.2.7"},
                "Aliases": ["identity", OLD_ID[:12]],
                "IPAddress": "192.0.2.7",
                "MacAddress": "02:42:00:00:00:07",
            },
            "storage": {"NetworkID": "n2", "IPAMConfig": None, "Aliases": [OLD_ID[:12]], "IPAddress": "198.51.100.9"},
        }
    },
}
IMAGES = {"sha256:old": OLD_IMAGE}


def like(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A copy; `Config__User="x"` changes what lies deeper."""
    made = copy.deepcopy(base)
    for path, value in changes.items():
        place = made
        *folders, last = path.split("__")
        for folder in folders:
            place = place[folder]
        place[last] = value
    return made


def body(**changes: Any) -> dict[str, Any]:
    return carried_over(like(OLD, **changes), OLD_IMAGE, "new:29").body


class TestCarriedOver:
    def test_only_what_the_image_had_put_there_is_left_behind(self) -> None:
        new = body()
        assert new["Image"] == "new:29"
        assert new["Env"] == ["MINE=1", "DEBUG=yes"]
        assert new["Labels"] == {"vendor": "them", "owner": "us"}
        assert new["ExposedPorts"] == {"35357/tcp": {}}
        assert new["Healthcheck"] == {"Interval": 9}
        assert new["Hostname"] == "ctl1"
        assert new["StopTimeout"] == 30
        assert not {"Cmd", "Entrypoint", "User", "WorkingDir", "StopSignal", "Volumes", "OnBuild"} & set(new)

    def test_the_engines_settings_are_copied_whole(self) -> None:
        host = body()["HostConfig"]
        assert host["CapAdd"] == ["NET_ADMIN"]
        assert host["Ulimits"] == [{"Name": "nofile", "Soft": 1, "Hard": 2}]
        assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 5}
        assert host["Links"] == ["memcached:cache"]
        assert "ContainerIDFile" not in host

    def test_unnamed_volumes_keep_their_data(self) -> None:
        assert body()["HostConfig"]["Binds"] == [
            "/etc/kolla/keystone:/etc/keystone:ro",
            "fernet:/fernet",
            "f" * 64 + ":/var/lib/keystone",
        ]

    def test_a_volume_mount_without_a_name_gets_it(self) -> None:
        mounts = [
            {"Type": "volume", "Target": "/var/lib/keystone"},
            {"Type": "bind", "Source": "/a", "Target": "/fernet"},
        ]
        host = body(HostConfig__Mounts=mounts, HostConfig__Binds=None)["HostConfig"]
        assert host["Mounts"][0]["Source"] == "f" * 64
        assert host["Binds"] is None

    def test_the_old_one_is_not_changed(self) -> None:
        before = copy.deepcopy(OLD)
        carried_over(OLD, OLD_IMAGE, "new:29").body["HostConfig"]["CapAdd"].append("ALL")
        assert before == OLD

    @pytest.mark.parametrize(
        ("entrypoint", "command", "wanted"),
        [
            (["dumb-init", "--"], ["keystone"], {}),
            (["dumb-init", "--"], ["keystone", "-v"], {"Cmd": ["keystone", "-v"]}),
            (["sh"], ["keystone"], {"Entrypoint": ["sh"], "Cmd": ["keystone"]}),
            (["sh"], None, {"Entrypoint": ["sh"], "Cmd": []}),
            (None, ["keystone"], {"Entrypoint": [""], "Cmd": ["keystone"]}),
            (["dumb-init", "--"], None, {"Entrypoint": ["dumb-init", "--"], "Cmd": []}),
        ],
    )
    def test_entrypoint_and_command(self, entrypoint: Any, command: Any, wanted: Any) -> None:
        new = body(Config__Entrypoint=entrypoint, Config__Cmd=command)
        assert {key: new[key] for key in ("Entrypoint", "Cmd") if key in new} == wanted

    def test_what_was_given_though_the_image_has_its_own(self) -> None:
        new = body(Config__User="root", Config__WorkingDir="/srv", Config__Healthcheck={"Test": ["NONE"]})
        assert (new["User"], new["WorkingDir"], new["Healthcheck"]) == ("root", "/srv", {"Test": ["NONE"]})

    def test_networks(self) -> None:
        made = carried_over(OLD, OLD_IMAGE, "new:29")
        assert made.body["NetworkingConfig"] == {
            "EndpointsConfig": {"control": {"IPAMConfig": {"IPv4Address": "192.0.2.7"}, "Aliases": ["identity"]}}
        }
        assert list(made.connect) == [("storage", {})]
        assert list(made.disconnect) == []

    def test_a_network_given_by_id(self) -> None:
        made = carried_over(like(OLD, HostConfig__NetworkMode="n1"), OLD_IMAGE, "new:29")
        assert list(made.body["NetworkingConfig"]["EndpointsConfig"]) == ["n1"]
        assert [network for network, dummy in made.connect] == ["storage"]

    def test_a_network_that_was_left_since(self) -> None:
        made = carried_over(like(OLD, HostConfig__NetworkMode="default"), OLD_IMAGE, "new:29")
        assert list(made.disconnect) == ["bridge"]
        assert [network for network, dummy in made.connect] == ["control", "storage"]

    def test_the_default_bridge_takes_no_aliases(self) -> None:
        networks = {"bridge": {"NetworkID": "b", "Aliases": None, "IPAMConfig": None}}
        old = like(OLD, HostConfig__NetworkMode="default", NetworkSettings__Networks=networks)
        made = carried_over(old, OLD_IMAGE, "new:29")
        assert (made.body["NetworkingConfig"], made.connect, made.disconnect) == ({"EndpointsConfig": {}}, (), ())

    def test_another_containers_network_brings_its_hostname_along(self) -> None:
        new = carried_over(like(OLD, HostConfig__NetworkMode="container:abc"), OLD_IMAGE, "new:29")
        assert new.body["HostConfig"]["NetworkMode"] == "container:abc"
        assert not {"Hostname", "Domainname", "ExposedPorts", "MacAddress"} & set(new.body)
        assert (new.body["NetworkingConfig"], new.connect) == ({"EndpointsConfig": {}}, ())

    @pytest.mark.parametrize(
        ("hostname", "mode", "carried"),
        [
            (OLD_ID[:12], "control", False),
            ("ctl1", "control", True),
            ("machine", "host", False),
            ("machine", "control", True),
        ],
    )
    def test_a_hostname_that_nobody_chose(self, hostname: str, mode: str, carried: bool) -> None:
        old = like(OLD, Config__Hostname=hostname, HostConfig__NetworkMode=mode)
        assert ("Hostname" in carried_over(old, OLD_IMAGE, "new", engine_name="machine").body) is carried

    def test_a_kept_ones_restart_policy_is_in_its_name(self) -> None:
        name = "/" + _container.kept_name("keystone", OLD)
        assert name == "/keystone.rondo-kept-on-failure-5-" + OLD_ID[:12]
        new = body(Name=name, HostConfig__RestartPolicy={"Name": "no", "MaximumRetryCount": 0})
        assert new["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 5}


class TestCommand:
    def test_it_does_not_disturb_the_one_that_serves(self) -> None:
        old = like(OLD, HostConfig__PortBindings={"5000/tcp": [{"HostPort": "5000"}]})
        made = command_creation(old, OLD_IMAGE, "new:29", ["db_sync"], [])
        assert made.body["Entrypoint"] == [""]
        assert made.body["Cmd"] == ["db_sync"]
        assert made.body["Env"] == ["MINE=1", "DEBUG=yes"]
        assert made.body["HostConfig"]["PortBindings"] is None
        assert made.body["HostConfig"]["RestartPolicy"]["Name"] == "no"
        assert made.body["HostConfig"]["LogConfig"]["Type"] == "json-file"
        assert made.body["NetworkingConfig"] == {"EndpointsConfig": {"control": {}}}
        assert list(made.connect) == [("storage", {})]

    def test_the_same_command_has_the_same_name(self) -> None:
        assert command_name("keystone", "new", ["a b"]) == command_name("keystone", "new", ["a b"])
        assert command_name("keystone", "new", ["a b"]) != command_name("keystone", "new", ["a", "b"])


# ---------------------------------------------------------------------------------------------------------------------

NEW = Target("new:29", "sha256:new")


def container(identity: str, name: str, image: str = "sha256:old", **changes: Any) -> dict[str, Any]:
    return like(OLD, Id=identity * 64, Name="/" + name, Image=image, Config__Image=image, **changes)


STOPPED = {"Running": False, "Status": "exited", "StartedAt": "2026-11-01T00:00:01Z"}
NEVER_STARTED = {"Running": False, "Status": "created", "StartedAt": "0001-01-01T00:00:00Z"}
QUIET = {"Name": "no", "MaximumRetryCount": 0}


def kept(identity: str, **changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"State": STOPPED, "HostConfig__RestartPolicy": QUIET, **changes}
    return container(identity, "web.rondo-kept-always-" + identity * 12, **settings)


def acts(steps: list[Step]) -> list[str]:
    return [f"{step.act} {step.what[:1] if len(step.what) == 64 else step.what}" for step in steps]


def replace(scene: Scene, target: Target = NEW, **options: bool) -> list[Step]:
    return steps_to_replace(scene, target, lambda source: carried_over(source, OLD_IMAGE, target.reference), **options)


class TestSteps:
    def test_a_container_is_made_before_the_old_one_stops(self) -> None:
        steps = replace(Scene("web", container("a", "web")))
        assert [str(step) for step in steps] == [
            "create web.rondo-new from new:29",
            "stop web",
            "rename web to web.rondo-kept-on-failure-5-aaaaaaaaaaaa",
            "set the restart policy of web.rondo-kept-on-failure-5-aaaaaaaaaaaa to no",
            "rename web.rondo-new to web",
            "start web",
        ]

    def test_nothing_is_done_where_it_runs_already(self) -> None:
        assert replace(Scene("web", container("b", "web", "sha256:new"), (kept("a"),))) == []

    def test_one_is_kept(self) -> None:
        steps = replace(Scene("web", container("b", "web"), (kept("a"),)))
        assert acts(steps)[-2:] == ["start web", "remove a"]
        assert acts(replace(Scene("web", container("b", "web")), keep=False))[-2:] == ["start web", "remove b"]

    def test_what_was_made_and_not_used_is_removed_first(self) -> None:
        steps = replace(Scene("web", container("a", "web"), new=container("c", "web.rondo-new")))
        assert acts(steps)[:2] == ["remove c", "create web.rondo-new"]

    def test_the_name_is_missing(self) -> None:
        scene = Scene("web", None, (kept("b", State={"Running": True, "StartedAt": "x"}), kept("a")))
        assert acts(replace(scene)) == [
            "create web.rondo-new",
            "stop b",
            "rename web.rondo-new",
            "start web",
            "remove a",
        ]

    def test_the_name_is_missing_and_the_kept_one_is_wanted_again(self) -> None:
        steps = replace(Scene("web", None, (kept("a"),)), Target("old", "sha256:old"))
        assert acts(steps) == ["policy a", "rename a", "start a"]
        assert steps[0].to == {"Name": "always", "MaximumRetryCount": 0}

    def test_renamed_but_not_started(self) -> None:
        scene = Scene("web", container("b", "web", "sha256:new", State=NEVER_STARTED), (kept("a"),))
        assert acts(replace(scene)) == ["start b"]

    @pytest.mark.parametrize("options", [{"healthy": False}, {}])
    def test_what_does_not_work_is_not_kept_in_place_of_what_did(self, options: dict[str, bool]) -> None:
        state = OLD["State"] if options else NEVER_STARTED
        scene = Scene("web", container("b", "web", "sha256:bad", State=state), (kept("a"),))
        steps = replace(scene, **options)
        assert next(step.to for step in steps if step.act == "rename") == "web.rondo-undone-bbbbbbbbbbbb"
        assert "remove a" not in acts(steps)

    def test_what_does_not_work_is_kept_where_there_is_nothing_else(self) -> None:
        steps = replace(Scene("web", container("b", "web")), healthy=False)
        assert next(step.to for step in steps if step.act == "rename").startswith("web.rondo-kept-")

    def test_there_is_no_such_container(self) -> None:
        with pytest.raises(ContainerProblem, match="no container named web"):
            replace(Scene("web"))
        with pytest.raises(ContainerProblem, match="no container named web"):
            steps_to_revert(Scene("web"), NEW)

    def test_one_that_would_be_lost_when_stopped_is_refused(self) -> None:
        with pytest.raises(ContainerProblem, match="--rm"):
            replace(Scene("web", container("a", "web", HostConfig__AutoRemove=True)))

    def test_back(self) -> None:
        scene = Scene("web", container("b", "web", "sha256:new"), (kept("a"), kept("c")), (kept("d"),))
        assert [str(step) for step in steps_to_revert(scene, NEW)] == [
            "remove web.rondo-kept-always-cccccccccccc",
            "stop web",
            "rename web to web.rondo-undone-bbbbbbbbbbbb",
            "set the restart policy of web.rondo-undone-bbbbbbbbbbbb to no",
            "set the restart policy of web.rondo-kept-always-aaaaaaaaaaaa to always",
            "rename web.rondo-kept-always-aaaaaaaaaaaa to web",
            "start web",
            "remove web.rondo-kept-always-dddddddddddd",
        ]
        assert acts(steps_to_revert(scene, NEW, keep=False))[-1] == "remove b"

    def test_back_is_not_too_far_back(self) -> None:
        scene = Scene("web", container("b", "web"), (kept("a"),))
        assert steps_to_revert(scene, NEW) == []
        stopped = Scene("web", container("b", "web", State=STOPPED), (kept("a"),))
        assert acts(steps_to_revert(stopped, NEW)) == ["start b"]

    def test_back_without_saying_from_what(self) -> None:
        assert steps_to_revert(Scene("web", container("b", "web")), None) == []
        assert "start a" in acts(steps_to_revert(Scene("web", container("b", "web"), (kept("a"),)), None))

    def test_back_to_nothing(self) -> None:
        with pytest.raises(ContainerProblem, match="none was kept"):
            steps_to_revert(Scene("web", container("b", "web", "sha256:new")), NEW)

    def test_back_where_the_name_is_missing(self) -> None:
        assert acts(steps_to_revert(Scene("web", None, (kept("a"),)), NEW)) == ["policy a", "rename a", "start a"]


class TestScene:
    def test_who_plays_which_part(self) -> None:
        containers = [
            container("1", "web"),
            container("2", "web2"),
            container("3", "web.rondo-new"),
            container("4", "web.rondo-kept-always-" + "4" * 12, Created="2026-11-01T00:00:00Z"),
            container("5", "web.rondo-kept-on-failure-5-" + "5" * 12, Created="2026-11-01T00:00:00.25Z"),
            container("6", "web.rondo-kept-on-failure-5-" + "6" * 12, Created="2026-11-01T00:00:00.3Z"),
            container("7", "web.rondo-undone-" + "7" * 12),
            container("8", "web.rondo-command-" + "8" * 12),
            container("9", "my.web"),
        ]
        scene = belongs("web", containers)
        assert scene.current is containers[0]
        assert scene.new is containers[2]
        assert [one["Id"][0] for one in scene.kept] == ["6", "5", "4"]
        assert [one["Id"][0] for one in scene.undone] == ["7"]

    def test_row(self) -> None:
        told = row(belongs("web", [container("1", "web"), kept("a")]), OLD_IMAGE, NEW)
        assert told["exists"] and told["running"] and told["target_present"]
        assert told["current"] is False
        assert told["digest"] == "registry.example/keystone@sha256:aa"
        assert told["restarts"] == 2
        assert told["kept"] == {
            "name": "web.rondo-kept-always-aaaaaaaaaaaa",
            "image": "sha256:old",
            "image_id": "sha256:old",
        }

    def test_row_of_nothing(self) -> None:
        told = row(Scene("web"), None, Target("new", None))
        assert (told["exists"], told["status"], told["current"], told["kept"]) == (False, "absent", False, None)
        assert row(Scene("web"), None, None)["current"] is None

    def test_an_image_that_the_host_has_not_is_compared_by_name(self) -> None:
        assert Target("registry.example/keystone:28", None).runs_in(OLD)
        assert not Target("registry.example/keystone:29", None).runs_in(OLD)
        assert not Target("registry.example/keystone:28", "sha256:moved").runs_in(OLD)


class Api:
    """As much of the engine's client as these tests need."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def __getattr__(self, name: str) -> Any:
        def answer(*dummy_args: Any, **dummy_options: Any) -> Any:
            value = self.answers[name]
            if isinstance(value, Exception):
                raise value
            return value

        return answer


def engine(**answers: Any) -> Engine:
    made = Engine.__new__(Engine)
    made.api = Api(**answers)
    return made


class TestEngine:
    def test_a_full_disk_is_passed_on(self) -> None:
        lines = [{"status": "Downloading"}, {"error": "write /var/lib/docker/tmp/x: no space left on device"}]
        missing = _container.ImageNotFound("no such image")
        with pytest.raises(ContainerProblem, match=r"not on the engine, and pulling .* no space left on device"):
            engine(pull=lines, inspect_image=missing).pull("registry.example/keystone:29")
        with pytest.raises(ContainerProblem, match=r"pulling the image .* failed: .* no space left on device"):
            engine(pull=lines, inspect_image=OLD_IMAGE).pull("registry.example/keystone:29")

    def test_a_full_disk_is_passed_on_from_a_step(self) -> None:
        full = _container.APIError("500", explanation="mkdir /var/lib/docker/overlay2/x: no space left on device")
        step = Step("create", "web.rondo-new", "web.rondo-new", Creation({"Image": "new:29"}))
        with pytest.raises(
            ContainerProblem, match=r"could not create web\.rondo-new from new:29: .*no space left on device"
        ):
            engine(create_container_from_config=full).do(step)

    def test_the_start_of_an_id_is_no_name(self) -> None:
        assert engine(inspect_container=OLD).named("1d1d") is None
        assert engine(inspect_container=OLD).named("keystone") is OLD

    def test_removing_what_is_gone_is_no_error(self) -> None:
        gone = _container.NotFound("no such container")
        engine(remove_container=gone).do(Step("remove", "a", "web", False))
        with pytest.raises(ContainerProblem, match="could not start web: no such container"):
            engine(start=gone).do(Step("start", "a", "web"))

    def test_a_socket_that_nobody_listens_on(self, tmp_path: Any) -> None:
        with pytest.raises(ContainerProblem, match=r"does not answer at unix://.*none\.sock"):
            Engine(f"unix://{tmp_path}/none.sock")

    def test_the_image_of_the_old_one_is_gone(self) -> None:
        with pytest.raises(ContainerProblem, match="is gone from the engine"):
            engine(inspect_image=_container.ImageNotFound("no such image")).image_of(OLD)
