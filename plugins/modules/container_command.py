#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One command, run where a container lives but in another image."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_command
short_description: Run one command where a container lives, in another image
version_added: 0.1.0
description:
  - Runs one command in a container of its own, made like an existing one (volumes, environment, networks, user and so
    on, see M(rondo.upgrade.container_image)) but from another image, and removes that container afterwards.
  - For what a new version must do before it serves, such as C(keystone-manage db_sync --expand), which only the new
    image's code knows.
  - The existing container is not touched. The new one has neither its ports, nor its fixed addresses and network
    aliases, nor its health check.
notes:
  - Where an earlier run was killed and its command still runs, that is waited for first. Then the command is run again,
    so it should be one that may be run twice.
author:
  - The rondo.upgrade authors (@rondo)
extends_documentation_fragment:
  - rondo.upgrade.engine
  - rondo.upgrade.fence
attributes:
  check_mode:
    description: Whether it can run in check mode and say what would change.
    support: partial
    details: The command is not run in check mode, unless O(reads_only=true).
  diff_mode:
    description: What a command changes is not known.
    support: none
options:
  container:
    description:
      - Name of the existing container. It need not run.
      - Where there is only one that M(rondo.upgrade.container_image) has kept of it, that is taken.
    type: str
    required: true
  image:
    description: The image. The host must have it. The default is the container's own image.
    type: str
  command:
    description:
      - The command, a list of words, or a text that is split into words as a shell does; no shell runs it.
    type: raw
    required: true
  entrypoint:
    description:
      - Words to put before the command. By default there are none, not even the image's own entrypoint, so the command
        runs as it is written.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds that everything may take. Then the command is killed, and the module fails.
    type: float
    default: 3600
  reads_only:
    description: The command changes nothing. It runs in check mode too, and is not reported as a change.
    type: bool
    default: false
  no_log_output:
    description: Leave what the command wrote out of the result, where that may hold secrets.
    type: bool
    default: false
seealso:
  - module: rondo.upgrade.container_image
"""

EXAMPLES = r"""
- name: Expand the schema with the new version's code
  rondo.upgrade.container_command:
    container: keystone
    image: registry.example/keystone:2026.2
    command: keystone-manage db_sync --expand

- name: Ask the new version what the schema needs
  rondo.upgrade.container_command:
    container: keystone
    image: registry.example/keystone:2026.2
    command: [keystone-manage, db_sync, --check]
    reads_only: true
  register: schema
  failed_when: schema.rc not in [0, 2, 4]
"""

RETURN = r"""
began:
  description:
    - Whether the command has begun to run, so that it may have done part of its work, even if the module failed.
    - A module that ends without saying so, or whose host can't be reached any more, leaves that open.
  returned: always
  type: bool
rc:
  description: The command's exit code. The module fails where it is not 0 (C(failed_when) may say otherwise).
  returned: when the command ran
  type: int
stdout:
  description: What it wrote to standard output.
  returned: when the command ran and O(no_log_output=false)
  type: str
stderr:
  description: What it wrote to standard error.
  returned: when the command ran and O(no_log_output=false)
  type: str
seconds:
  description: How long it took, in seconds.
  returned: when the command ran
  type: float
"""

import contextlib
import shlex
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rondo.upgrade.plugins.module_utils._container import (
    ENGINE_ARGUMENTS,
    ENGINE_ERRORS,
    CommandBegun,
    ContainerProblem,
    Engine,
    command_creation,
    command_name,
    connect,
    told,
)
from ansible_collections.rondo.upgrade.plugins.module_utils._guard import FENCE_ARGUMENT, GuardError, alone


def words(command: object) -> list[str]:
    try:
        split = shlex.split(command) if isinstance(command, str) else command
    except ValueError as error:
        raise ContainerProblem("command: {0!r} can't be split into words: {1}".format(command, error)) from error
    if not isinstance(split, list) or not split:
        raise ContainerProblem("command: {0!r} is no command: give a text or a list of words".format(command))
    return [str(word) for word in split]


def run(engine: Engine, params: dict) -> tuple[int, str, str]:
    command, name = words(params["command"]), params["container"]
    scene = engine.scene(name)
    source = scene.current or (scene.kept[0] if scene.kept else None)
    if source is None:
        raise ContainerProblem(
            "there is no container named {0} to take volumes, environment and networks from".format(name)
        )
    reference = params["image"] or source["Config"]["Image"]
    if engine.image(reference) is None:
        raise ContainerProblem(
            "the image {0} is not on the engine: bring it there first (container_image with state=present)".format(
                reference
            )
        )
    creation = command_creation(
        source,
        engine.image_of(source),
        reference,
        command,
        params["entrypoint"],
        engine_name=str(engine.api.info().get("Name") or ""),
    )
    return engine.run(command_name(name, reference, command), creation, params["timeout"])


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            container={"type": "str", "required": True},
            image={"type": "str"},
            command={"type": "raw", "required": True},
            entrypoint={"type": "list", "elements": "str", "default": []},
            timeout={"type": "float", "default": 3600},
            reads_only={"type": "bool", "default": False},
            no_log_output={"type": "bool", "default": False},
            **ENGINE_ARGUMENTS,
            **FENCE_ARGUMENT,
        ),
        supports_check_mode=True,
    )
    if module.check_mode and not module.params["reads_only"]:
        module.exit_json(changed=True, skipped=True, began=False, msg="not run in check mode")
    engine = connect(module)
    began = time.monotonic()
    params = module.params
    try:
        # What only reads may do so beside others.
        with (
            contextlib.nullcontext()
            if params["reads_only"]
            else alone(params["container"], params["fence"], wait=params["timeout"])
        ):
            rc, stdout, stderr = run(engine, params)
    except CommandBegun as problem:
        module.fail_json(msg=told(problem), changed=not params["reads_only"], began=True)
    except (GuardError, *ENGINE_ERRORS) as problem:
        module.fail_json(msg=told(problem), began=False)
    result = {
        "changed": not params["reads_only"],
        "began": True,
        "rc": rc,
        "seconds": round(time.monotonic() - began, 3),
    }
    if not module.params["no_log_output"]:
        result.update(stdout=stdout, stderr=stderr)
    if rc:
        module.fail_json(msg="the command ended with exit code {0}".format(rc), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
