# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replacing a container by one of another image, in steps that survive a crash between any two of them.

Everything is decided by pure functions over what the engine says about the containers (its `inspect` answers, called
*containers* and *images* here, plain dictionaries):

- `Scene` holds all containers that belong to one name: the one of that name, those kept for going back, those set
  aside because they did not work, and one being made.
- `steps_to_replace` and `steps_to_revert` turn a scene into a list of `Step`. They ask only what is there, not how it
  came to be: a run that was killed is finished by asking again. No step at all means that nothing is to be done.
- `carried_over` computes how the new container is created: as the old one was, less what the old *image* had put there.

`Engine` is the only part that talks: it looks (`scene`), and does one step (`do`).

What is kept is known by its name alone, because an engine can't change a container's labels:

    NAME                                      the one that serves
    NAME.rondo-new                            being made
    NAME.rondo-kept-RESTART_POLICY-SHORT_ID   kept, stopped, for going back; its own restart policy is `no` by then
    NAME.rondo-undone-SHORT_ID                did not work and was taken back; stopped, for somebody to look into
    NAME.rondo-command-HASH                   runs one command
    NAME.rondo-beside                         a second copy, which serves beside the first one for a while
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Dict, Optional

DOCKER_IMPORT_ERROR: Optional[str]
try:
    import docker
    from docker.errors import APIError, DockerException, ImageNotFound, NotFound
    from docker.utils import parse_repository_tag
    from requests.exceptions import RequestException
except ImportError:
    DOCKER_IMPORT_ERROR = traceback.format_exc()
    SDK_ERRORS: tuple[type[Exception], ...] = ()
else:
    DOCKER_IMPORT_ERROR = None
    SDK_ERRORS = (DockerException, RequestException)

Json = Dict[str, Any]

ENGINE_ARGUMENTS: dict[str, dict[str, Any]] = {
    "docker_host": {"type": "str"},
    "engine_timeout": {"type": "int", "default": 120},
}

DEFAULT_HOST = "unix:///var/run/docker.sock"
DEFAULT_STOP_SECONDS = 10
NEVER = "0001-01-01T00:00:00Z"
BUILT_IN_NETWORKS = ("default", "bridge", "host", "none")

_KEPT = re.compile(
    r"\.rondo-kept-(?P<policy>no|always|unless-stopped|on-failure)(?:-(?P<retries>\d+))?-(?P<id>[0-9a-f]{12})"
)
_UNDONE = re.compile(r"\.rondo-undone-[0-9a-f]{12}")


class ContainerProblem(Exception):
    """What can't be done and why, in words for the person who runs the play."""


ENGINE_ERRORS = (ContainerProblem, *SDK_ERRORS)


# ---------------------------------------------------------------------------------------------------------------------
# Names


class CommandBegun(ContainerProblem):
    """A command did not end well, and may have done part of its work."""


def new_name(name: str) -> str:
    return name + ".rondo-new"


def undone_name(name: str, container: Mapping[str, Any]) -> str:
    return "{0}.rondo-undone-{1}".format(name, container["Id"][:12])


def kept_name(name: str, container: Mapping[str, Any]) -> str:
    """The name under which a container is kept. It says the restart policy, which the kept one itself has lost."""
    policy = container["HostConfig"].get("RestartPolicy") or {}
    words = [policy.get("Name") or "no"]
    if policy.get("MaximumRetryCount"):
        words.append(str(policy["MaximumRetryCount"]))
    return "{0}.rondo-kept-{1}-{2}".format(name, "-".join(words), container["Id"][:12])


def name_of(container: Mapping[str, Any]) -> str:
    return str(container["Name"]).lstrip("/")


def restart_policy(container: Mapping[str, Any]) -> Json:
    """The restart policy that a container has, or had before it was kept."""
    match = re.search(_KEPT.pattern + "$", name_of(container))
    if match:
        return {"Name": match.group("policy"), "MaximumRetryCount": int(match.group("retries") or 0)}
    policy = container["HostConfig"].get("RestartPolicy") or {}
    return {"Name": policy.get("Name") or "no", "MaximumRetryCount": policy.get("MaximumRetryCount") or 0}


# ---------------------------------------------------------------------------------------------------------------------
# What the new container is made of


@dataclass(frozen=True)
class Creation:
    """How a container is created: the body of the engine's create call, and the networks to join and leave afterwards.

    Engines before API 1.44 accept one network in the create call, hence the rest is connected apart.
    """

    body: Json
    connect: Sequence[tuple[str, Json]] = ()
    disconnect: Sequence[str] = ()


def _environment(container: Sequence[str], image: Sequence[str]) -> list[str]:
    return [entry for entry in container if entry not in image]


def _less(container: Optional[Mapping[str, Any]], image: Optional[Mapping[str, Any]]) -> Json:
    image = image or {}
    return {key: value for key, value in (container or {}).items() if key not in image or image[key] != value}


def _start(config: Mapping[str, Any], image: Mapping[str, Any]) -> Json:
    """Entrypoint and command, as far as they were given to the container and did not come from its image."""
    entrypoint, command = config.get("Entrypoint") or [], config.get("Cmd") or []
    image_entrypoint, image_command = image.get("Entrypoint") or [], image.get("Cmd") or []
    # The engine takes the image's command only where no entrypoint was given: none though the image has one means
    # that the entrypoint was given, even if it is the same.
    if entrypoint != image_entrypoint or (image_command and not command):
        return {"Entrypoint": entrypoint or [""], "Cmd": command}
    return {"Cmd": command} if command != image_command else {}


def _destination(bind: str) -> str:
    parts = bind.split(":")
    return parts[1 if len(parts) > 1 else 0].rstrip("/") or "/"


def _with_volumes(host: Json, mounts: Sequence[Mapping[str, Any]]) -> None:
    """Name the volumes that have no name of their own in the settings, or the new container would get empty ones."""
    volumes = {mount["Destination"].rstrip("/"): mount for mount in mounts if mount.get("Type") == "volume"}
    named = []
    for mount in host.get("Mounts") or []:
        target = mount["Target"].rstrip("/")
        if mount.get("Type") == "volume" and not mount.get("Source") and target in volumes:
            mount["Source"] = volumes[target]["Name"]
        named.append(target)
    binds = [bind for bind in host.get("Binds") or [] if ":" in bind]
    named += [_destination(bind) for bind in binds]
    for destination, mount in sorted(volumes.items()):
        if destination not in named:
            binds.append("{0}:{1}{2}".format(mount["Name"], destination, "" if mount.get("RW", True) else ":ro"))
    host["Binds"] = binds or None


def _endpoint(endpoint: Mapping[str, Any], container: Mapping[str, Any]) -> Json:
    """What somebody asked of a network, less what the engine itself filled in."""
    kept: Json = {}
    for key in ("IPAMConfig", "Links", "DriverOpts", "GwPriority"):
        if endpoint.get(key):
            kept[key] = copy.deepcopy(endpoint[key])
    aliases = [alias for alias in endpoint.get("Aliases") or [] if alias != container["Id"][:12]]
    if aliases:
        kept["Aliases"] = aliases
    return kept


def _networks(container: Mapping[str, Any], *, shared: bool) -> tuple[Json, list[tuple[str, Json]], list[str]]:
    """(of the create call, to connect, to disconnect). `shared`: the old container goes on using its addresses."""
    mode = container["HostConfig"].get("NetworkMode") or "default"
    if mode.startswith("container:") or mode in ("host", "none"):
        return {}, [], []
    primary = "bridge" if mode == "default" else mode
    in_create: Json = {}
    connect: list[tuple[str, Json]] = []
    disconnect = [primary]
    for network, endpoint in sorted((container["NetworkSettings"].get("Networks") or {}).items()):
        settings = {} if shared else _endpoint(endpoint, container)
        if network == primary or endpoint.get("NetworkID") == primary:
            disconnect = []
            if network not in BUILT_IN_NETWORKS:
                in_create = {mode: settings}
        else:
            connect.append((network, settings))
    return in_create, connect, disconnect


def carried_over(
    container: Mapping[str, Any],
    image: Mapping[str, Any],
    reference: str,
    *,
    engine_name: str = "",
    shared: bool = False,
) -> Creation:
    """How to create a container like `container` from another image.

    Everything that the container was given is carried over. What its old image `image` had put there is not, so that
    the new image's own values take their place. A value that was given and is the same as the old image's can't be told
    from the image's own.

    Args:
        container: the engine's answer about the old container.
        image: the engine's answer about the image that the old container was made from.
        reference: the new image.
        engine_name: name of the engine's host; with host networking it is no hostname that somebody chose.
        shared: leave addresses and aliases to the old container, which goes on using them.

    Returns:
        The create call, its restart policy the one that the old container had before it was kept.
    """
    old, base = container["Config"], image.get("Config") or {}
    host = copy.deepcopy(dict(container["HostConfig"]))
    mode = host.get("NetworkMode") or "default"
    joined = mode.startswith("container:")

    handled = {
        "ArgsEscaped", "Cmd", "Domainname", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Hostname", "Image",
        "Labels", "MacAddress", "OnBuild", "Shell", "StopSignal", "User", "Volumes", "WorkingDir",
    }  # fmt: skip
    body: Json = {key: copy.deepcopy(value) for key, value in old.items() if key not in handled}
    body["Image"] = reference
    body["Env"] = _environment(old.get("Env") or [], base.get("Env") or [])
    body["Labels"] = _less(old.get("Labels"), base.get("Labels"))
    body.update(_start(old, base))
    for key, empty in (("User", ""), ("WorkingDir", "/"), ("StopSignal", "")):
        if (old.get(key) or empty) != (base.get(key) or empty):
            body[key] = old[key]
    healthcheck = _less(old.get("Healthcheck"), base.get("Healthcheck"))
    if healthcheck:
        body["Healthcheck"] = healthcheck

    if not joined:  # whoever joins another container's network takes over its name, and may not expose ports
        own = [container["Id"][:12], ""] + ([engine_name] if mode == "host" else [])
        if old.get("Hostname") not in own and host.get("UTSMode") != "host":
            body["Hostname"] = old["Hostname"]
            body["Domainname"] = old.get("Domainname") or ""
        body["ExposedPorts"] = _less(old.get("ExposedPorts"), base.get("ExposedPorts"))
        if old.get("MacAddress") and not shared:
            body["MacAddress"] = old["MacAddress"]

    host.pop("ContainerIDFile", None)
    host["RestartPolicy"] = restart_policy(container)
    # Answered as /other:/own/alias, wanted as other:alias.
    host["Links"] = ["{0}:{1}".format(link.split(":")[0].lstrip("/"), link.rsplit("/", 1)[1])
                     for link in host.get("Links") or []] or None  # fmt: skip
    _with_volumes(host, container.get("Mounts") or [])
    body["HostConfig"] = host

    in_create, connect, disconnect = _networks(container, shared=shared)
    body["NetworkingConfig"] = {"EndpointsConfig": in_create}
    return Creation(body, tuple(connect), tuple(disconnect))


def command_creation(
    container: Mapping[str, Any],
    image: Mapping[str, Any],
    reference: str,
    command: Sequence[str],
    entrypoint: Sequence[str],
    *,
    engine_name: str = "",
) -> Creation:
    """How to create a container that runs one command where `container` lives, beside it and without disturbing it."""
    made = carried_over(container, image, reference, engine_name=engine_name, shared=True)
    body = made.body
    body.update(
        Entrypoint=list(entrypoint) or [""],
        Cmd=list(command),
        Healthcheck={"Test": ["NONE"]},
        Tty=False,
        OpenStdin=False,
    )
    # Its output is read back, which not every log driver allows; its ports belong to the container that serves.
    body["HostConfig"].update(
        RestartPolicy={"Name": "no", "MaximumRetryCount": 0},
        AutoRemove=False,
        LogConfig={"Type": "json-file", "Config": {}},
        PortBindings=None,
        PublishAllPorts=False,
    )
    return made


BESIDE_LABEL = "rondo.upgrade.beside"
BESIDE_MADE_LABEL = "rondo.upgrade.beside.made"


def beside_name(name: str) -> str:
    return name + ".rondo-beside"


def beside_creation(
    made: Creation,
    *,
    service: str,
    environment: Mapping[str, str],
    port: Optional[int] = None,
    network_mode: Optional[str] = None,
) -> Creation:
    """How to create a second copy that serves beside the first one.

    Args:
        made: how a container like the first one is created (`carried_over`, shared).
        service: for its label.
        environment: what differs, so that it listens elsewhere; `{port}` in a value stands for the port.
        port: where it listens. A port that the first one publishes is published there.
        network_mode: instead of the first one's.

    Raises:
        ContainerProblem: the first one publishes several ports: which of them would be meant?
    """
    body = copy.deepcopy(dict(made.body))
    connect, disconnect = made.connect, made.disconnect
    own = {name: str(value).replace("{port}", str(port or "")) for name, value in environment.items()}
    kept = [entry for entry in body.get("Env") or [] if entry.split("=", 1)[0] not in own]
    body["Env"] = kept + ["{0}={1}".format(name, value) for name, value in sorted(own.items())]
    body["Labels"] = {**(body.get("Labels") or {}), BESIDE_LABEL: service}
    host = body["HostConfig"]
    if network_mode:
        host["NetworkMode"] = network_mode
        body["NetworkingConfig"] = {"EndpointsConfig": {}}
        connect = disconnect = ()
    published = [binding for bindings in (host.get("PortBindings") or {}).values() for binding in bindings or []]
    if len(published) > 1 or host.get("PublishAllPorts"):
        raise ContainerProblem(
            "the container publishes several ports: which of them a second copy would publish at its own can't be told"
        )
    if published and port:
        published[0]["HostPort"] = str(port)
    body["Labels"][BESIDE_MADE_LABEL] = hashlib.sha256(
        json.dumps([body, list(connect), list(disconnect)], sort_keys=True, default=str).encode()
    ).hexdigest()[:16]
    return Creation(body, tuple(connect), tuple(disconnect))


def steps_to_run_beside(name: str, there: Optional[Json], creation: Creation) -> list[Step]:
    """What is to be done so that a second copy made like this runs; `there` is what has its name."""
    made = creation.body["Labels"][BESIDE_MADE_LABEL]
    steps = []
    if there is not None and (there["Config"].get("Labels") or {}).get(BESIDE_MADE_LABEL) != made:
        steps = steps_to_remove_beside(name, there)
        there = None
    if there is None:
        steps.append(Step("create", name, name, creation))
    if there is None or not is_running(there):
        steps.append(Step("start", name, name))
    return steps


def steps_to_remove_beside(name: str, there: Optional[Json]) -> list[Step]:
    """Stopped first, so that it can end what it does.

    Raises:
        ContainerProblem: what has its name is no second copy.
    """
    if there is None:
        return []
    if BESIDE_LABEL not in (there["Config"].get("Labels") or {}):
        raise ContainerProblem(
            "the container {0} has no label {1}: it is somebody else's, and is left alone".format(name, BESIDE_LABEL)
        )
    stop = [Step("stop", there["Id"], name)] if is_running(there) else []
    return [*stop, Step("remove", there["Id"], name, False)]


def command_name(name: str, reference: str, command: Sequence[str]) -> str:
    """The same for the same command: a second run finds what a first one, that was killed, has left running."""
    told = json.dumps([reference, list(command)]).encode()
    return "{0}.rondo-command-{1}".format(name, hashlib.sha256(told).hexdigest()[:12])


# ---------------------------------------------------------------------------------------------------------------------
# What is there, and what is to be done


@dataclass(frozen=True)
class Target:
    """An image: the reference that people write, and the engine's id of it and its bytes, None where the engine doesn't
    have it."""

    reference: str
    id: Optional[str]
    size: Optional[int] = None

    def runs_in(self, container: Mapping[str, Any]) -> bool:
        """Whether the container was made from this image; by reference where nothing better is known."""
        if self.id is not None:
            return bool(container["Image"] == self.id)
        return bool(container["Config"].get("Image") == self.reference)


@dataclass(frozen=True)
class Scene:
    """All containers that belong to one name; kept and undone ones newest first."""

    name: str
    current: Optional[Json] = None
    kept: Sequence[Json] = ()
    undone: Sequence[Json] = ()
    new: Optional[Json] = None


@dataclass(frozen=True)
class Step:
    """One act on one container.

    act: create, stop, rename, policy, start or remove.
    what: the container's id, or its name where it has no id yet.
    name: its name, for people.
    to: create: a `Creation`; rename: the new name; policy: the new policy; remove: whether its unnamed volumes go too.
    """

    act: str
    what: str
    name: str
    to: Any = field(default=None, repr=False)

    def __str__(self) -> str:
        if self.act == "rename":
            return "rename {0} to {1}".format(self.name, self.to)
        if self.act == "create":
            return "create {0} from {1}".format(self.name, self.to.body["Image"])
        if self.act == "policy":
            return "set the restart policy of {0} to {1}".format(self.name, self.to["Name"])
        return "{0} {1}".format(self.act, self.name)


def _age(container: Mapping[str, Any]) -> str:
    """When it was created, as a text that sorts; the engine leaves the zeros at a fraction's end out."""
    seconds, _dot, fraction = str(container["Created"]).rstrip("Z").partition(".")
    return "{0}.{1:0<9}".format(seconds, fraction)


def belongs(name: str, containers: Sequence[Json]) -> Scene:
    """Sort the engine's answers by the part that each plays for `name`; others among them are left out."""
    current = new = None
    kept, undone = [], []
    for container in sorted(containers, key=_age, reverse=True):
        own = name_of(container)
        rest = own[len(name) :] if own.startswith(name) else "."
        if own == name:
            current = container
        elif own == new_name(name):
            new = container
        elif _KEPT.fullmatch(rest):
            kept.append(container)
        elif _UNDONE.fullmatch(rest):
            undone.append(container)
    return Scene(name, current, tuple(kept), tuple(undone), new)


def is_running(container: Mapping[str, Any]) -> bool:
    return bool(container["State"].get("Running"))


def was_started(container: Mapping[str, Any]) -> bool:
    return bool(container["State"].get("StartedAt", NEVER) != NEVER)


def _quiet(container: Mapping[str, Any], name: str) -> list[Step]:
    """Make sure that a container which is put away stays stopped, whatever the engine or the machine restarts."""
    steps = [Step("stop", container["Id"], name)] if is_running(container) else []
    policy = (container["HostConfig"].get("RestartPolicy") or {}).get("Name") or "no"
    if policy != "no":
        steps.append(Step("policy", container["Id"], name, {"Name": "no", "MaximumRetryCount": 0}))
    return steps


def _put_away(container: Mapping[str, Any], name: str) -> list[Step]:
    """Stop and rename first, the policy last: a container whose policy changed still says the old one in its name."""
    quiet = _quiet(container, name)
    rename = Step("rename", container["Id"], name_of(container), name)
    stop = [Step("stop", container["Id"], name_of(container))] if is_running(container) else []
    return [*stop, rename, *(step for step in quiet if step.act == "policy")]


def _removed(containers: Sequence[Json]) -> list[Step]:
    return [Step("remove", container["Id"], name_of(container), False) for container in containers]


def _leftover(scene: Scene) -> list[Step]:
    return [Step("remove", scene.new["Id"], name_of(scene.new), True)] if scene.new else []


def _put_back(scene: Scene, container: Json) -> list[Step]:
    steps = []
    if (container["HostConfig"].get("RestartPolicy") or {}).get("Name") != restart_policy(container)["Name"]:
        # Before the name, which is the only place that still says it.
        steps.append(Step("policy", container["Id"], name_of(container), restart_policy(container)))
    steps.append(Step("rename", container["Id"], name_of(container), scene.name))
    if not is_running(container):
        steps.append(Step("start", container["Id"], scene.name))
    return steps


def _settled(kept: Sequence[Json], keep: bool) -> list[Step]:
    """One kept container, stopped for good; or none."""
    if not keep:
        return _removed(kept)
    return [step for container in kept[:1] for step in _quiet(container, name_of(container))] + _removed(kept[1:])


def _refuse_if_lost_on_stop(container: Mapping[str, Any]) -> None:
    if container["HostConfig"].get("AutoRemove"):
        raise ContainerProblem(
            "the container {0} was started with --rm (HostConfig.AutoRemove is true): the engine deletes it as soon as "
            "it stops, so nothing could be kept for going back; start it without --rm".format(name_of(container))
        )


def steps_to_replace(
    scene: Scene,
    target: Target,
    creation: Callable[[Json], Creation],
    *,
    keep: bool = True,
    healthy: bool = True,
) -> list[Step]:
    """What is to be done so that `target` runs under the scene's name.

    The new container is made before the old one stops: what the engine refuses, it refuses while the old one serves.

    Args:
        scene: what is there.
        target: the image; its id must be known.
        creation: how to create a container like the one given.
        keep: keep the old container, stopped, for going back.
        healthy: whether the container that runs now works; if not, it is put aside and an earlier kept one stays.

    Returns:
        The steps, none where nothing is to be done.

    Raises:
        ContainerProblem: there is no container of that name and none kept, or it would be lost when stopped.
    """
    steps = _leftover(scene)
    current, kept = scene.current, list(scene.kept)
    if current is None and not kept:
        raise ContainerProblem(
            "there is no container named {0}, and none that was kept of it: containers are replaced here, not "
            "deployed; check artifact.container, or deploy it first".format(scene.name)
        )
    if current is not None and target.runs_in(current):
        if not is_running(current):
            steps += [step for old in kept for step in _quiet(old, name_of(old))]
            return [*steps, Step("start", current["Id"], scene.name), *(_settled(_asleep(kept), keep))]
        return steps + _settled(kept, keep)

    if current is None and target.runs_in(kept[0]):
        return steps + _put_back(scene, kept[0]) + _settled(kept[1:], keep)

    source = current if current is not None else kept[0]
    _refuse_if_lost_on_stop(source)
    new = new_name(scene.name)
    steps.append(Step("create", new, new, creation(source)))
    undone = list(scene.undone)
    if current is not None:
        # One that the engine could never start is nothing to go back to, nor is one that is known not to work.
        worth_keeping = not kept or (healthy and was_started(current))
        name = (kept_name if worth_keeping else undone_name)(scene.name, current)
        steps += _put_away(current, name)
        after = copy.deepcopy(current)
        after["Name"] = "/" + name
        if worth_keeping:
            kept.insert(0, after)
        elif not keep:
            undone.insert(0, after)
        steps += [step for old in kept if old is not after for step in _quiet(old, name_of(old))]
    else:
        steps += [step for old in kept for step in _quiet(old, name_of(old))]
    steps += [Step("rename", new, new, scene.name), Step("start", scene.name, scene.name)]
    return steps + _settled(_asleep(kept), keep) + _removed(undone)


def _asleep(containers: Sequence[Json]) -> list[Json]:
    """The same containers, as they are once they were made quiet."""
    asleep = []
    for container in containers:
        quiet = copy.deepcopy(container)
        quiet["State"]["Running"] = False
        quiet["HostConfig"]["RestartPolicy"] = {"Name": "no", "MaximumRetryCount": 0}
        asleep.append(quiet)
    return asleep


def steps_to_revert(scene: Scene, target: Optional[Target], *, keep: bool = True) -> list[Step]:
    """What is to be done so that the container kept last serves again.

    Args:
        scene: what is there.
        target: the image whose coming is to be undone: where the container runs another one, nothing is. None: whatever
            runs is taken back, if something was kept.
        keep: keep the container that is taken back, stopped and set aside, for somebody to look into.

    Returns:
        The steps, none where nothing is to be done.

    Raises:
        ContainerProblem: something is to be undone, but nothing was kept.
    """
    steps = _leftover(scene)
    current, kept = scene.current, scene.kept
    if current is None:
        if not kept:
            raise ContainerProblem(
                "there is no container named {0}, and none that was kept of it: nothing to go back to".format(
                    scene.name
                )
            )
        return steps + _put_back(scene, kept[0])
    undo = target.runs_in(current) if target is not None else bool(kept)
    if not undo:
        return steps + ([] if is_running(current) else [Step("start", current["Id"], scene.name)])
    if not kept:
        raise ContainerProblem(
            "the container {0} runs {1}, and none was kept of it to go back to: replace it by the image that it ran "
            "before (state=replaced)".format(scene.name, current["Config"].get("Image"))
        )
    _refuse_if_lost_on_stop(current)
    steps += _removed(kept[1:])
    steps += [step for step in _quiet(kept[0], name_of(kept[0])) if step.act == "stop"]
    steps += _put_away(current, undone_name(scene.name, current))
    steps += _put_back(scene, _asleep(kept)[0])
    return steps + _removed(scene.undone) + ([] if keep else _removed([current]))


def steps_to_stop(scene: Scene) -> list[Step]:
    """What is to be done so that nothing runs under the scene's name; its container stays as it is otherwise.

    Raises:
        ContainerProblem: it would be lost when stopped.
    """
    if scene.current is None or not is_running(scene.current):
        return []
    _refuse_if_lost_on_stop(scene.current)
    return [Step("stop", scene.current["Id"], scene.name)]


def row(scene: Scene, image: Optional[Mapping[str, Any]], target: Optional[Target]) -> Json:
    """What people and the planner are told about one name; `image`: the engine's answer about what it runs."""
    container = scene.current
    kept = [
        {"name": name_of(one), "image": one["Config"].get("Image"), "image_id": one["Image"]} for one in scene.kept[:1]
    ]
    told: Json = {
        "exists": container is not None,
        "running": False,
        "status": "absent",
        "id": None,
        "image": None,
        "image_id": None,
        "digest": None,
        "restarts": 0,
        "started_at": None,
        "current": None,
        "target_id": target.id if target else None,
        "target_present": target is not None and target.id is not None,
        "target_size": target.size if target else None,
        "kept": kept[0] if kept else None,
    }
    if target is not None:
        told["current"] = container is not None and target.runs_in(container)
    if container is not None:
        told.update(
            running=is_running(container),
            status=container["State"].get("Status"),
            id=container["Id"],
            image=container["Config"].get("Image"),
            image_id=container["Image"],
            digest=((image or {}).get("RepoDigests") or [None])[0],
            restarts=container.get("RestartCount") or 0,
            started_at=container["State"]["StartedAt"] if was_started(container) else None,
        )
    return told


# ---------------------------------------------------------------------------------------------------------------------
# The engine


def _not_there(reference: str, tried: str, answer: str) -> str:
    return (
        "the image {0} is not on the engine, and {1} failed: {2}. Tried: the engine's own images, then the registry "
        "that the reference names. Check the reference and the registry, or load the image on this host "
        "beforehand".format(reference, tried, answer)
    )


def told(error: BaseException) -> str:
    """What the engine said, without the client's wrapping."""
    return str(getattr(error, "explanation", None) or error).strip()


class Engine:
    """A container engine, by Docker's SDK.

    Args:
        host: the engine's address, such as unix:///var/run/docker.sock; None: DOCKER_HOST, else the usual socket.
        timeout: seconds that one answer may take.

    Raises:
        ContainerProblem: the engine does not answer.
    """

    def __init__(self, host: Optional[str] = None, timeout: int = 120) -> None:
        address = host or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
        try:
            self.api = docker.from_env(
                version="auto", timeout=timeout, environment={**os.environ, "DOCKER_HOST": address}
            ).api
            self.version = str(self.api.version()["Version"])
        except (DockerException, RequestException, OSError) as error:
            raise ContainerProblem(
                "the container engine does not answer at {0} ({1}): is it running, and may this user use its "
                "socket?".format(address, told(error))
            ) from error

    def scene(self, name: str) -> Scene:
        listed = self.api.containers(all=True, filters={"name": r"^/?{0}(\.rondo-|$)".format(re.escape(name))})
        found = [self.container(row["Id"]) for row in listed]
        return belongs(name, [container for container in found if container])

    def container(self, what: str) -> Optional[Json]:
        try:
            answer: Json = self.api.inspect_container(what)
        except NotFound:
            return None
        return answer

    def named(self, name: str) -> Optional[Json]:
        """The container of exactly this name; the engine itself would also take `db` for the start of an id."""
        container = self.container(name)
        return container if container and name_of(container) == name else None

    def image(self, reference: str) -> Optional[Json]:
        try:
            answer: Json = self.api.inspect_image(reference)  # type: ignore[no-untyped-call]
        except ImageNotFound:
            return None
        return answer

    def target(self, reference: str) -> Target:
        image = self.image(reference)
        return Target(reference, image["Id"], image.get("Size")) if image else Target(reference, None)

    def image_of(self, container: Mapping[str, Any]) -> Json:
        image = self.image(container["Image"])
        if image is None:
            raise ContainerProblem(
                "the image {0} that the container {1} was made from is gone from the engine: what the image had put "
                "there can't be told from what the container was given; bring the image back, or deploy the container "
                "anew".format(container["Config"].get("Image"), name_of(container))
            )
        return image

    def row(self, name: str, reference: Optional[str] = None) -> Json:
        scene = self.scene(name)
        image = self.image(scene.current["Image"]) if scene.current else None
        return row(scene, image, self.target(reference) if reference else None)

    def creation(self, reference: str) -> Callable[[Json], Creation]:
        engine_name = str(self.api.info().get("Name") or "")
        return lambda source: carried_over(source, self.image_of(source), reference, engine_name=engine_name)

    def would_pull(self, reference: str) -> None:
        """Ask the registry for an image without pulling it.

        Raises:
            ContainerProblem: the registry doesn't answer, or doesn't have it.
        """
        try:
            self.api.inspect_distribution(reference)  # type: ignore[no-untyped-call]
        except (APIError, RequestException) as error:
            raise ContainerProblem(_not_there(reference, "asking its registry for it", told(error))) from error

    def pull(self, reference: str) -> None:
        """Pull an image. Errors in the midst (a full disk, say) come as lines of the answer, not as its status."""
        repository, tag = parse_repository_tag(reference)
        try:
            for line in self.api.pull(repository, tag=tag or "latest", stream=True, decode=True):
                if "error" in line:
                    raise ContainerProblem(line["error"])
        except (APIError, RequestException, ContainerProblem) as error:
            if self.image(reference) is None:
                raise ContainerProblem(_not_there(reference, "pulling it", told(error))) from error
            raise ContainerProblem("pulling the image {0} failed: {1}".format(reference, told(error))) from error

    def create(self, name: str, creation: Creation) -> str:
        try:
            made = self.api.create_container_from_config(creation.body, name=name)  # type: ignore[no-untyped-call]
        except APIError as error:
            if error.response is not None and error.response.status_code == 409 and self.named(name):
                raise ContainerProblem(self._taken(name)) from error
            raise
        for network, endpoint in creation.connect:
            addresses = endpoint.get("IPAMConfig") or {}
            self.api.connect_container_to_network(
                made["Id"],
                network,
                ipv4_address=addresses.get("IPv4Address"),
                ipv6_address=addresses.get("IPv6Address"),
                link_local_ips=addresses.get("LinkLocalIPs"),
                aliases=endpoint.get("Aliases"),
                links=[tuple(link.split(":", 1)) for link in endpoint.get("Links") or []] or None,
                driver_opt=endpoint.get("DriverOpts"),
            )
        for network in creation.disconnect:
            self.api.disconnect_container_from_network(made["Id"], network)
        return str(made["Id"])

    def do(self, step: Step, stop_timeout: Optional[int] = None) -> None:
        """Carry one step out. It may have been carried out before.

        Args:
            step: the step.
            stop_timeout: seconds that a container may take to stop; None: as the container itself says.

        Raises:
            ContainerProblem: something else is in the way, or the engine refuses, in its words.
        """
        try:
            if step.act == "create":
                self.create(step.what, step.to)
            elif step.act == "start":
                self.api.start(step.what)
            elif step.act == "stop":
                container = self.container(step.what)
                own = (container or {}).get("Config", {}).get("StopTimeout")
                seconds = stop_timeout if stop_timeout is not None else own
                self.api.stop(step.what, timeout=DEFAULT_STOP_SECONDS if seconds is None else seconds)
            elif step.act == "policy":
                self.api.update_container(step.what, restart_policy=step.to)
            elif step.act == "rename":
                self._rename(step, stop_timeout)
            elif step.act == "remove":
                # Unnamed volumes go with a container that never served, and stay for one that may have written to them.
                self.api.remove_container(step.what, v=step.to, force=True)
        except NotFound as error:
            if step.act != "remove":
                raise ContainerProblem("could not {0}: {1}".format(step, told(error))) from error
        except (APIError, RequestException) as error:
            raise ContainerProblem("could not {0}: {1}".format(step, told(error))) from error

    def _rename(self, step: Step, stop_timeout: Optional[int]) -> None:
        try:
            self.api.rename(step.what, step.to)
        except APIError as error:
            if error.response is not None and error.response.status_code == 409 and self.named(step.to):
                raise ContainerProblem(self._taken(step.to)) from error
            raise
        after = self.container(step.what)
        if after and is_running(after) and (_KEPT.search(step.to) or _UNDONE.search(step.to)):
            # A systemd unit (Kolla's) may have started it between stop and rename; now it has lost sight of it.
            self.do(Step("stop", step.what, step.to), stop_timeout)

    def _taken(self, name: str) -> str:
        other = self.named(name) or {}
        return (
            "the name {0} is taken by a container that appeared meanwhile (id {1}, image {2}, created {3}): something "
            "else on this host creates or renames containers while they are replaced, such as a systemd unit or a "
            "deployment tool at work. Stop that, remove or rename its container, and run this again: what was kept is "
            "still there, and is found".format(
                name, str(other.get("Id"))[:12], other.get("Config", {}).get("Image"), other.get("Created")
            )
        )

    def run(self, name: str, creation: Creation, timeout: float) -> tuple[int, str, str]:
        """Run one command in a container of its own, and remove that afterwards.

        Args:
            name: of the container. One of that name that still runs is waited for: it is what a run that was killed
                left behind, and two of the same at a time are asking for trouble.
            creation: how to create it.
            timeout: seconds for everything.

        Returns:
            (exit code, standard output, standard error)

        Raises:
            CommandBegun: it did not end in time (and was stopped), or the engine failed meanwhile.
            ContainerProblem: the engine refuses to create it, in its words.
        """
        until = time.monotonic() + timeout
        self._wait_for_earlier(name, until)
        try:
            identity = self.create(name, creation)
        except APIError as error:
            raise ContainerProblem("could not create {0}: {1}".format(name, told(error))) from error
        try:
            self._start(identity, name)
            code = self._wait(identity, until)
            if code is None:
                raise CommandBegun(
                    "the command did not end within {0:g} s; its container {1} was stopped and removed. Its last "
                    "lines: {2}".format(timeout, name, self._output(identity, stdout=True, stderr=True)[-2000:])
                )
            return code, self._output(identity, stdout=True), self._output(identity, stderr=True)
        except (APIError, RequestException) as error:
            raise CommandBegun("could not run the command in {0}: {1}".format(name, told(error))) from error
        finally:
            self.do(Step("remove", identity, name, True))

    def _start(self, identity: str, name: str) -> None:
        try:
            self.api.start(identity)
        except APIError as error:
            # The engine itself says so: nothing has begun.
            raise ContainerProblem("could not run the command in {0}: {1}".format(name, told(error))) from error

    def _wait_for_earlier(self, name: str, until: float) -> None:
        earlier = self.named(name)
        if earlier is None:
            return
        if is_running(earlier) and self._wait(earlier["Id"], until) is None:
            raise CommandBegun(
                "the same command of an earlier run still runs in the container {0}, since {1}, and did not end in "
                "time: wait for it, or remove that container".format(name, earlier["State"].get("StartedAt"))
            )
        self.do(Step("remove", earlier["Id"], name, True))

    def _wait(self, identity: str, until: float) -> Optional[int]:
        """The exit code, or None where the time is up first."""
        while True:
            container = self.container(identity)
            if container is None:
                return 0
            if not is_running(container) and was_started(container):
                return int(container["State"]["ExitCode"])
            if time.monotonic() >= until:
                return None
            time.sleep(0.1)

    def _output(self, identity: str, *, stdout: bool = False, stderr: bool = False) -> str:
        raw: bytes = self.api.logs(identity, stdout=stdout, stderr=stderr)
        return raw.decode("utf-8", "replace")


def connect(module: Any) -> Engine:
    """The engine that a module's `docker_host` and `engine_timeout` name; fails the module where there is none."""
    try:
        return opened(module.params)
    except ContainerProblem as problem:
        return module.fail_json(msg=str(problem), exception=DOCKER_IMPORT_ERROR)  # type: ignore[no-any-return]


def opened(params: Mapping[str, Any]) -> Engine:
    """The same. Raises ContainerProblem where there is none."""
    from ansible.module_utils.basic import missing_required_lib

    if DOCKER_IMPORT_ERROR is not None:
        raise ContainerProblem(missing_required_lib("docker", reason="to talk to the container engine"))
    return Engine(params["docker_host"], params["engine_timeout"])
