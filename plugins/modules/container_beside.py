#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second copy of a container, of another image and at another port, for a while."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_beside
short_description: Run a second copy of a container beside the first one
version_added: 0.1.0
author:
  - The rondo.upgrade authors (@rondo)
description:
  - Runs a container that is like an existing one (volumes, mounts, environment, networks, user, limits and so on, see
    M(rondo.upgrade.container_image)) but runs another image and listens elsewhere. The first one is not touched.
  - Looks first whether there is room for it, in memory, on the disk, and at its port.
  - The copy carries the label C(rondo.upgrade.beside), with the service's name. Nothing without that label is ever
    removed.
notes:
  - Both use the same volumes at the same time. That is right for services that keep their state elsewhere, and wrong
    for databases.
  - A copy on another host needs what the first one mounts from its host there, too, such as its configuration.
extends_documentation_fragment:
  - rondo.upgrade.engine
  - rondo.upgrade.fence
attributes:
  check_mode:
    description: Says what would be done, and whether there is room.
    support: full
  diff_mode:
    description: Shows image and state before and after.
    support: full
options:
  container:
    description: Name of the container that is there.
    type: str
    required: true
  name:
    description: The copy's name. The default is C(CONTAINER.rondo-beside).
    type: str
  state:
    description:
      - V(present) - the copy runs, and is as it is asked for here. One that differs is made anew.
      - V(absent) - there is no copy.
      - V(described) - nothing changes. RV(creation) says how the copy would be created, for O(creation) on another
        host.
    type: str
    choices: [present, absent, described]
    default: present
  image:
    description: The copy's image. The host must have it. Needed unless O(state=absent).
    type: str
  service:
    description: The service's name, for the copy's label. Needed unless O(state=absent).
    type: str
  environment:
    description:
      - Variables that the copy gets instead of, or besides, those of the container. The text C({port}) in a value
        stands for O(port).
    type: dict
    default: {}
  port:
    description:
      - The port at which the copy listens. It must be free.
      - If the container publishes a port, the copy's is published there instead. Otherwise O(environment) has to tell
        the copy.
    type: int
  creation:
    description: How the copy is created, where the container is on another host. O(environment) and O(port) are in it.
    type: dict
  network_mode:
    description: The copy's network, such as V(host). The default is the container's own.
    type: str
  memory:
    description: Bytes that must be left on the host before the copy starts. V(0) asks nothing.
    type: int
    default: 0
  disk:
    description: Bytes that must be free where the engine keeps its data, as far as that can be seen. V(0) asks nothing.
    type: int
    default: 200000000
  stop_timeout:
    description:
      - Seconds that the copy may take to stop before it is killed.
      - The default is the container's own stop timeout, else 10.
    type: int
seealso:
  - module: rondo.upgrade.container_image
  - module: rondo.upgrade.haproxy_beside
"""

EXAMPLES = r"""
- name: Run the new version beside the old one
  rondo.upgrade.container_beside:
    container: keystone
    image: registry.example/keystone:2026.2
    service: keystone
    environment: {KEYSTONE_PORT: "{port}"}
    port: 15000
    memory: 300000000

- name: Take it away again
  rondo.upgrade.container_beside:
    container: keystone
    state: absent
"""

RETURN = r"""
name:
  description: The copy's name.
  returned: success
  type: str
running:
  description: Whether it runs (in check mode, whether it would).
  returned: success
  type: bool
steps:
  description: What was done (in check mode what would be), step by step.
  returned: success
  type: list
  elements: str
room:
  description: What the host has left, in bytes, as far as it could be seen.
  returned: O(state=present)
  type: dict
  sample:
    memory: 812000000
    disk: 9400000000
creation:
  description: How the copy is created.
  returned: O(state=described)
  type: dict
"""

import contextlib
import errno
import os
import re
import socket
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rondo.upgrade.plugins.module_utils._beside import DISK_RESERVE
from ansible_collections.rondo.upgrade.plugins.module_utils._container import (
    ENGINE_ARGUMENTS,
    ENGINE_ERRORS,
    ContainerProblem,
    Creation,
    Engine,
    Step,
    beside_creation,
    beside_name,
    carried_over,
    connect,
    is_running,
    steps_to_remove_beside,
    steps_to_run_beside,
    told,
)
from ansible_collections.rondo.upgrade.plugins.module_utils._guard import FENCE_ARGUMENT, GuardError, alone


def available_memory() -> int | None:
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
    return int(match.group(1)) * 1024 if match else None


def available_disk(folder: str) -> int | None:
    """None where the engine's folder can't be seen from here, as on an engine elsewhere."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def port_taken(port: int) -> bool:
    """Whether something listens there, on any address. Nothing is left that would keep the copy from it."""
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as link:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                link.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
    return False


def look_for_room(engine: Engine, params: dict) -> dict:
    """What there is. Raises `ContainerProblem` with everything that lacks."""
    room = {
        "memory": available_memory(),
        "disk": available_disk(str(engine.api.info().get("DockerRootDir") or "/var/lib/docker")),
    }
    lacking = [
        "{0} MB of {1} are left, and {2} MB are needed".format(room[what] // 10**6, what, params[what] // 10**6)
        for what in ("memory", "disk")
        if room[what] is not None and room[what] < params[what]
    ]
    if params["port"] and port_taken(params["port"]):
        lacking.append("port {0} is taken".format(params["port"]))
    if lacking:
        raise ContainerProblem("no room for a second copy: {0}".format("; ".join(lacking)))
    return room


def creation_of(engine: Engine, params: dict) -> Creation:
    if params["creation"]:
        made = params["creation"]
        return Creation(made["body"], tuple(map(tuple, made["connect"])), tuple(made["disconnect"]))
    scene = engine.scene(params["container"])
    source = scene.current or (scene.kept[0] if scene.kept else None)
    if source is None:
        raise ContainerProblem(
            "there is no container named {0} that a second one could be like".format(params["container"])
        )
    return beside_creation(
        carried_over(
            source,
            engine.image_of(source),
            params["image"],
            engine_name=str(engine.api.info().get("Name") or ""),
            shared=True,
        ),
        service=params["service"],
        environment=params["environment"],
        port=params["port"],
        network_mode=params["network_mode"],
    )


def shown(there: dict | None) -> dict:
    if there is None:
        return {"status": "absent"}
    return {"status": there["State"].get("Status"), "image": there["Config"].get("Image")}


def run(engine: Engine, module: AnsibleModule, name: str) -> dict:
    params = module.params
    result: dict = {"name": name}
    before = engine.named(name)
    if params["state"] == "absent":
        steps = steps_to_remove_beside(name, before)
    else:
        creation = creation_of(engine, params)
        if params["state"] == "described":
            shape = {"body": creation.body, "connect": creation.connect, "disconnect": creation.disconnect}
            return {**result, "changed": False, "running": bool(before and is_running(before)), "steps": [],
                    "creation": shape}  # fmt: skip
        if engine.image(creation.body["Image"]) is None:
            raise ContainerProblem(
                "the image {0} is not on the engine: bring it there first (container_image with state=present)".format(
                    creation.body["Image"]
                )
            )
        steps = steps_to_run_beside(name, before, creation)
        if before is None or not is_running(before):
            result["room"] = look_for_room(engine, params)
    if not module.check_mode:
        carry_out(module, engine, steps)
    after = engine.named(name)
    running = params["state"] == "present" if module.check_mode else bool(after and is_running(after))
    foreseen = {"status": "running", "image": params["image"]} if running else {"status": "absent"}
    result.update(
        changed=bool(steps),
        running=running,
        steps=[str(step) for step in steps],
        diff={"before": shown(before), "after": foreseen if module.check_mode else shown(after)},
    )
    return result


def carry_out(module: AnsibleModule, engine: Engine, steps: list[Step]) -> None:
    for index, step in enumerate(steps):
        try:
            engine.do(step, module.params["stop_timeout"])
        except ContainerProblem as problem:
            module.fail_json(msg=str(problem), changed=index > 0, steps=[str(done) for done in steps[:index]])


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            container={"type": "str", "required": True},
            name={"type": "str"},
            state={"type": "str", "choices": ["present", "absent", "described"], "default": "present"},
            image={"type": "str"},
            service={"type": "str"},
            environment={"type": "dict", "default": {}},
            port={"type": "int"},
            creation={"type": "dict"},
            network_mode={"type": "str"},
            memory={"type": "int", "default": 0},
            disk={"type": "int", "default": DISK_RESERVE},
            stop_timeout={"type": "int"},
            **ENGINE_ARGUMENTS,
            **FENCE_ARGUMENT,
        ),
        required_if=[("state", "present", ["image", "service"]), ("state", "described", ["image", "service"])],
        supports_check_mode=True,
    )
    engine = connect(module)
    name = module.params["name"] or beside_name(module.params["container"])
    quiet = module.check_mode or module.params["state"] == "described"
    try:
        with contextlib.nullcontext() if quiet else alone(name, module.params["fence"]):
            result = run(engine, module, name)
    except (GuardError, *ENGINE_ERRORS) as problem:
        module.fail_json(msg=told(problem))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
