#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rehearsal_plan
short_description: Draw up a rehearsal
version_added: 0.1.0
author:
  - The rondo.upgrade authors (@rondo)
description:
  - Computes the plan of the declared cluster as if nothing were upgraded yet, and a small twin of that cluster for
    containers of one engine. The twin has the same services, dependencies, groups, failure domains, budgets and
    balancers' tables, and fewer hosts.
  - Writes the twin to C(rehearsal) under O(directory), with an inventory of its own.
    Role P(rondo.upgrade.rehearse#role) builds it.
  - Works from inventory and declaration alone. No host needs to be reached, and role C(observe) need not have run.
extends_documentation_fragment:
  - rondo.upgrade.controller
options:
  hosts_per_group:
    description:
      - So many instances of each service stay, or all where there are fewer. From 2 up. More stay where a quorum or the
        service's C(arity) asks for that, or where they share their hosts with other services.
    type: int
    default: 3
  healthy_time:
    description:
      - The most that an instance has to stay healthy in the twin, such as V(2s).
    type: str
    default: 2s
  rate:
    description:
      - Requests a second that the probe is to send, to all backends together.
    type: float
    default: 20
  docker_host:
    description:
      - The engine that the twin is built on. The environment's if empty.
    type: str
    default: ""
  plan:
    description:
      - A saved C(plan.json) of the same declaration. The twin begins as that plan found the cluster.
    type: str
  services:
    description:
      - What services need so that their own images serve in the twin, by the service's name. The image C(before), and
        C(environment) and C(volumes) of the container.
    type: dict
    default: {}
  own_images:
    description:
      - Services whose own images are known to serve, by name, as C(images.json) has them. All others get a stand-in.
    type: dict
    default: {}
  stood_in:
    description:
      - Why services whose own images were tried have a stand-in nevertheless, by name, as C(images.json) has it.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Can run in check mode and return what it would do. Files are not written then.
    support: full
  diff_mode:
    description: Shows what changes when in diff mode.
    support: none
seealso:
  - module: rondo.upgrade.rehearsal_run
  - module: rondo.upgrade.rehearsal_report
"""

EXAMPLES = r"""
- name: Say what a rehearsal would build, and what the real plan will be
  rondo.upgrade.rehearsal_plan:
    show: true
"""

RETURN = r"""
page:
  description: What O(show) prints.
  returned: success
  type: str
summary:
  description: The twin in one line.
  returned: success
  type: str
  sample: 6 nodes (2 balancers), 51 instances, 16 backends
twin:
  description: The twin as data. Its inventory is what C(hosts.yml) holds.
  returned: success
  type: dict
production:
  description: What is said of the real plan.
  returned: success
  type: dict
folder:
  description: Where the twin's files are.
  returned: success
  type: str
controller:
  description: The number of the process that runs the playbook.
  returned: success
  type: int
"""
