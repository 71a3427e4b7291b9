#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs in containers, and whether it is what should."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_info
short_description: Tell what containers run, and whether that is their target image
version_added: 0.1.0
description:
  - Tells for each container that is named whether it exists and runs, from which image, whether that is the image that
    it should run, whether that image is already on the host, and what is kept for going back.
  - Nothing is changed.
author:
  - The rondo.upgrade authors (@rondo)
extends_documentation_fragment:
  - rondo.upgrade.engine
attributes:
  check_mode:
    description: Runs in check mode as it does otherwise.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: none
options:
  containers:
    description:
      - The containers to look for, by name, each with its target image. An empty text or null where there is none.
    type: dict
    required: true
seealso:
  - module: rondo.upgrade.container_image
"""

EXAMPLES = r"""
- name: Look at Keystone
  rondo.upgrade.container_info:
    containers:
      keystone: registry.example/keystone:2026.2
  register: observed

- name: Say whether there is something to upgrade
  ansible.builtin.debug:
    msg: "{{ observed.containers.keystone.image }}"
  when: not observed.containers.keystone.current
"""

RETURN = r"""
containers:
  description: What is there, by container name.
  returned: success
  type: dict
  contains:
    exists:
      description: Whether there is a container of exactly this name.
      type: bool
    running:
      description: Whether it runs.
      type: bool
    status:
      description: The engine's word for its state (V(running), V(exited), V(created), V(restarting), ...), or
        V(absent).
      type: str
    id:
      description: The container's id.
      type: str
    image:
      description: The image as it was written when the container was created.
      type: str
    image_id:
      description: The engine's id of that image.
      type: str
    digest:
      description: The image's name and digest in its registry, null where it never came from one.
      type: str
    restarts:
      description: How often the engine has restarted it.
      type: int
    started_at:
      description: When it was started last, null where it never was.
      type: str
    current:
      description:
        - Whether it was made from the target image, by the image's id; by its name where the host doesn't have that
          image.
        - Null without a target.
      type: bool
    target_id:
      description: The engine's id of the target image, null where the host doesn't have it.
      type: str
    target_present:
      description: Whether the host has the target image.
      type: bool
    target_size:
      description: The target image's bytes on the host, null where the host doesn't have it.
      type: int
    kept:
      description: The container that is kept for going back, null where there is none.
      type: dict
      contains:
        name:
          description: Its name.
          type: str
        image:
          description: Its image as it was written.
          type: str
        image_id:
          description: The engine's id of that image.
          type: str
  sample:
    keystone:
      exists: true
      running: true
      status: running
      id: 3f1c0b2a9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a
      image: registry.example/keystone:2026.1
      image_id: sha256:0b1c
      digest: registry.example/keystone@sha256:77aa
      restarts: 0
      started_at: "2026-11-22T01:00:00.123456789Z"
      current: false
      target_id: sha256:9d8e
      target_present: true
      target_size: 187243520
      kept: null
engine_version:
  description: The engine's version.
  returned: success
  type: str
  sample: 20.10.24
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rondo.upgrade.plugins.module_utils._container import (
    ENGINE_ARGUMENTS,
    ENGINE_ERRORS,
    connect,
    told,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(containers={"type": "dict", "required": True}, **ENGINE_ARGUMENTS), supports_check_mode=True
    )
    engine = connect(module)
    try:
        rows = {name: engine.row(name, target or None) for name, target in module.params["containers"].items()}
    except ENGINE_ERRORS as problem:
        module.fail_json(msg=told(problem))
    module.exit_json(changed=False, containers=rows, engine_version=engine.version)


if __name__ == "__main__":
    main()
