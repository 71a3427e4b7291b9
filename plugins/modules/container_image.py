#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's image: bring it to the host, replace the container by one of it, or go back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_image
short_description: Replace a container by one of another image, and take that back
version_added: 0.1.0
description:
  - Replaces a container by one that is like it but runs another image, and keeps the old one, stopped, for going back.
  - "The new container is as the old one was: name, volumes (unnamed ones too), mounts, environment, networks with their
     aliases and fixed addresses (or the network of another container, or of the host), restart policy, labels,
     capabilities, user, entrypoint and command, hostname, health check, limits, devices, log settings, and everything
     else that the engine knows of it. Only what the old B(image) had put there is not carried over, so that the new
     image's own values take its place. A value that was given to the container and is the same as the old image's can't
     be told from the image's own, and is not carried over either."
  - The new container is created before the old one is stopped, so that what the engine refuses (an unknown image, a
    full disk, a wrong setting) is refused while the old one still serves. What remains between stop and start takes
    less than a second.
  - It may be killed at any moment. The next call, with O(state=replaced) or O(state=reverted), sees what is there and
    finishes. Where it was not killed, but only the run that it belongs to, the next call waits until it has ended.
notes:
  - The container must exist, deployed by whatever deploys it. One that was started with C(--rm) is refused.
  - The kept container is called C(NAME.rondo-kept-POLICY-ID), where POLICY is its restart policy, which it has lost so
    that it stays stopped. One that was taken back is called C(NAME.rondo-undone-ID). Each of them can be removed by
    hand.
  - A MAC address that somebody chose is carried over only as far as the engine tells it from those that it made up.
author:
  - The rondo.upgrade authors (@rondo)
extends_documentation_fragment:
  - rondo.upgrade.engine
  - rondo.upgrade.fence
attributes:
  check_mode:
    description: Says what would be done, and changes nothing. Images are not pulled, their registry is asked for them.
    support: full
  diff_mode:
    description: Shows image, state and kept container before and after.
    support: full
options:
  container:
    description: Name of the container. Needed unless O(state=present).
    type: str
  image:
    description:
      - The image, as a reference (name with tag or digest). Needed for O(state=present) and O(state=replaced).
      - "With O(state=reverted): the image whose coming is to be undone. Where the container runs another one, nothing
         is taken back, so that a second call changes nothing and a run that ended early never goes back too far. Best
         given always. Without it, whatever runs is taken back if a container was kept."
    type: str
  state:
    description:
      - V(present) - the host has the image. It is pulled if not.
      - V(replaced) - the container runs the image.
      - V(reverted) - the container that was kept last serves again.
      - V(stopped) - the container is stopped, for a while in which none may run. V(replaced) and V(reverted) start it
        again, or what takes its place.
    type: str
    choices: [present, replaced, reverted, stopped]
    default: replaced
  pull:
    description:
      - V(missing) - pull the image where the host doesn't have it.
      - V(always) - ask the registry each time, for tags that move.
      - V(never) - fail where the host doesn't have it.
      - Not used with O(state=reverted) and O(state=stopped).
    type: str
    choices: [missing, always, never]
    default: missing
  keep:
    description:
      - Keep the container that is replaced (or taken back), stopped. One is kept, earlier ones are removed.
      - Their volumes are never removed.
    type: bool
    default: true
  healthy:
    description:
      - Whether the container that is to be replaced works. Only used with O(state=replaced).
      - With V(false) it is set aside as one that did not work, and the one kept before it stays the one to go back to.
        So a failed upgrade can be tried again with a better image without losing the way back.
      - A container that the engine could never start is treated so by itself.
    type: bool
    default: true
  stop_timeout:
    description:
      - Seconds that the old container may take to stop before it is killed.
      - The default is the container's own stop timeout, else 10.
    type: int
seealso:
  - module: rondo.upgrade.container_info
  - module: rondo.upgrade.container_command
  - module: rondo.upgrade.health_check
"""

EXAMPLES = r"""
- name: Have the image on every host before anything is drained
  rondo.upgrade.container_image:
    image: registry.example/keystone:2026.2
    state: present

- name: Replace Keystone's container
  rondo.upgrade.container_image:
    container: keystone
    image: registry.example/keystone:2026.2
    stop_timeout: 60

- name: Take that back
  rondo.upgrade.container_image:
    container: keystone
    image: registry.example/keystone:2026.2
    state: reverted
"""

RETURN = r"""
container:
  description: What is there afterwards, or would be looked at in check mode, as M(rondo.upgrade.container_info) tells
    it.
  returned: unless O(state=present)
  type: dict
  sample:
    exists: true
    running: true
    image: registry.example/keystone:2026.2
    current: true
    kept:
      name: keystone.rondo-kept-always-3f1c0b2a9d8e
      image: registry.example/keystone:2026.1
image:
  description: The image on the host.
  returned: with O(state=present) and O(state=replaced)
  type: dict
  contains:
    reference:
      description: The image as it was written.
      type: str
    id:
      description: The engine's id of it, null in check mode where the host doesn't have it yet.
      type: str
    pulled:
      description: Whether it was pulled.
      type: bool
steps:
  description: What was done (in check mode what would be), step by step.
  returned: unless O(state=present)
  type: list
  elements: str
  sample:
    - create keystone.rondo-new from registry.example/keystone:2026.2
    - stop keystone
    - rename keystone to keystone.rondo-kept-always-3f1c0b2a9d8e
    - set the restart policy of keystone.rondo-kept-always-3f1c0b2a9d8e to no
    - rename keystone.rondo-new to keystone
    - start keystone
steps_left:
  description: What was not done because a step failed.
  returned: when a step failed
  type: list
  elements: str
"""

import contextlib

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rondo.upgrade.plugins.module_utils._container import (
    ENGINE_ARGUMENTS,
    ENGINE_ERRORS,
    ContainerProblem,
    Engine,
    Step,
    Target,
    connect,
    steps_to_replace,
    steps_to_revert,
    steps_to_stop,
    told,
)
from ansible_collections.rondo.upgrade.plugins.module_utils._guard import FENCE_ARGUMENT, GuardError, alone


def brought(engine: Engine, reference: str, pull: str, check_mode: bool) -> tuple[Target, bool]:
    """The image on the host, and whether it was (or in check mode would be) pulled."""
    before = engine.target(reference)
    if pull == "never" and before.id is None:
        raise ContainerProblem(
            "the image {0} is not on the engine, and pull=never forbids to fetch it: load it on this host, or allow "
            "to pull it".format(reference)
        )
    if pull == "never" or (pull == "missing" and before.id is not None):
        return before, False
    if check_mode:
        engine.would_pull(reference)
        return before, before.id is None
    engine.pull(reference)
    after = engine.target(reference)
    return after, after.id != before.id


def planned(engine: Engine, params: dict, target: Target | None) -> list[Step]:
    scene = engine.scene(params["container"])
    if params["state"] == "stopped":
        return steps_to_stop(scene)
    if params["state"] == "reverted":
        return steps_to_revert(scene, target, keep=params["keep"])
    return steps_to_replace(
        scene, target, engine.creation(params["image"]), keep=params["keep"], healthy=params["healthy"]
    )


def shown(row: dict) -> dict:
    kept = row["kept"]
    return {
        "image": row["image"],
        "image_id": row["image_id"],
        "status": row["status"],
        "kept": "{0} ({1})".format(kept["name"], kept["image"]) if kept else None,
    }


def foreseen(before: dict, steps: list[Step], params: dict, target: Target | None) -> dict:
    """What the diff shows in check mode."""
    after = shown(before)
    for step in steps:
        if step.act == "create":
            after.update(image=target.reference, image_id=target.id)
        if step.act == "rename" and ".rondo-kept-" in step.to:
            after["kept"] = "{0} ({1})".format(step.to, before["image"])
        if step.act == "rename" and step.to == params["container"] and ".rondo-kept-" in step.name:
            after.update(
                image=before["kept"]["image"], image_id=before["kept"]["image_id"], kept=None, status="running"
            )
        if step.act == "start":
            after["status"] = "running"
        if step.act == "stop" and params["state"] == "stopped":
            after["status"] = "exited"
    if not params["keep"]:
        after["kept"] = None
    return after


def carry_out(module: AnsibleModule, engine: Engine, steps: list[Step]) -> None:
    for index, step in enumerate(steps):
        try:
            engine.do(step, module.params["stop_timeout"])
        except ContainerProblem as problem:
            row = engine.row(module.params["container"])
            where = "{0} is {1} (image {2})".format(module.params["container"], row["status"], row["image"])
            if row["kept"]:
                where += ", {0} (image {1}) is kept".format(row["kept"]["name"], row["kept"]["image"])
            module.fail_json(
                msg="{0}. Now {1}. Run it again to finish, or go back with state=reverted".format(problem, where),
                changed=index > 0,
                container=row,
                steps=[str(done) for done in steps[:index]],
                steps_left=[str(left) for left in steps[index:]],
            )


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            container={"type": "str"},
            image={"type": "str"},
            state={"type": "str", "choices": ["present", "replaced", "reverted", "stopped"], "default": "replaced"},
            pull={"type": "str", "choices": ["missing", "always", "never"], "default": "missing"},
            keep={"type": "bool", "default": True},
            healthy={"type": "bool", "default": True},
            stop_timeout={"type": "int"},
            **ENGINE_ARGUMENTS,
            **FENCE_ARGUMENT,
        ),
        required_if=[
            ("state", "present", ["image"]),
            ("state", "replaced", ["container", "image"]),
            ("state", "reverted", ["container"]),
            ("state", "stopped", ["container"]),
        ],
        supports_check_mode=True,
    )
    params = module.params
    engine = connect(module)
    try:
        target, pulled = None, False
        if params["state"] in ("reverted", "stopped"):
            target = engine.target(params["image"]) if params["image"] else None
        else:
            target, pulled = brought(engine, params["image"], params["pull"], module.check_mode)
        result = {"changed": pulled}
        if params["state"] in ("present", "replaced"):
            result["image"] = {"reference": target.reference, "id": target.id, "pulled": pulled}
        if params["state"] == "present":
            result["diff"] = {
                "before": {"image": None if pulled else target.reference},
                "after": {"image": target.reference},
            }
            module.exit_json(**result)

        with contextlib.nullcontext() if module.check_mode else alone(params["container"], params["fence"]):
            before = engine.row(params["container"], params["image"])
            steps = planned(engine, params, target)
            if not module.check_mode:
                carry_out(module, engine, steps)
            after = engine.row(params["container"], params["image"])
    except (GuardError, *ENGINE_ERRORS) as problem:
        module.fail_json(msg=told(problem))
    result.update(
        changed=bool(steps) or pulled,
        container=after,
        steps=[str(step) for step in steps],
        diff={
            "before": shown(before),
            "after": foreseen(before, steps, params, target) if module.check_mode else shown(after),
        },
    )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
