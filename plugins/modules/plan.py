#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: Plan the upgrade of a cluster as it stands
version_added: 0.1.0
author:
  - The rondo.upgrade authors (@rondo)
description:
  - Computes which hosts of which services go when, together with what and by which method, from the declaration
    (C(upgrade_services)) and from what role C(observe) saw. Only what differs from its target gets a job.
  - Writes C(plan/plan.json) and C(plan/plan.svg) under O(directory). Nothing in the cluster is touched, so it never
    reports a change.
  - Does not fail when something stands in the way of the upgrade. C(plan.obstacles) says what.
extends_documentation_fragment:
  - rondo.upgrade.controller
options:
  plan:
    description:
      - A plan file that is about to be carried out. Fails, and says what changed, if it was made for another
        declaration or for another state of the cluster.
    type: str
  export:
    description:
      - Also write the plan as a plain playbook for ansible-core alone, to this file. The plan itself is written beside
        it, with C(.plan.json) at the end of its name.
    type: str
  improve:
    description:
      - Time to spend on a better order, such as V(30s). Plans of small fleets are improved in no time without it.
    type: str
    default: 0s
  estimates_from:
    description:
      - The C(learned.json) of a rehearsal. What it learned stands above the declared C(estimates), and below what
        earlier runs measured. A stand-in's duration counts only where it is longer than what is declared.
    type: str
attributes:
  check_mode:
    description: Can run in check mode and return what it would do. Files are not written then.
    support: full
  diff_mode:
    description: Shows what changed since the last plan, and adds it to the page.
    support: full
seealso:
  - module: rondo.upgrade.declaration
"""

EXAMPLES = r"""
- name: Plan, and print the page
  rondo.upgrade.plan:
    show: true
  register: planned

- name: Go no further while something stands in the way
  ansible.builtin.assert:
    that: not planned.plan.obstacles

- name: Write the plan as a plain playbook to review
  rondo.upgrade.plan:
    export: upgrade-2026-11.yml
"""

RETURN = r"""
page:
  description: What O(show) prints.
  returned: always
  type: str
plan:
  description: The plan, as in C(plan.json). Its schema is C(docs/plan.schema.json).
  returned: success
  type: dict
jobs:
  description: Jobs by host, each host's in planned order.
  returned: success
  type: dict
hosts:
  description: Hosts that have a job, in the order in which their first one begins.
  returned: success
  type: list
  elements: str
images:
  description: Images that are still to be fetched, by host.
  returned: success
  type: dict
differences:
  description: What changed since the last plan in O(directory), one sentence each.
  returned: success
  type: list
  elements: str
files:
  description: Files that were written, or would have been in check mode.
  returned: success
  type: list
  elements: str
probe_state:
  description:
    - Where a probe that runs meanwhile writes its live counts. The variable C(upgrade_probe_state), else where role
      C(rondo.upgrade.probe) has it.
  returned: success
  type: str
journal:
  description: Path of the journal that belongs to O(directory).
  returned: success
  type: str
"""
