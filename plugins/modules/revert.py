#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: revert
short_description: Find the way back from the last upgrade
version_added: 0.1.0
author:
  - The rondo.upgrade authors (@rondo)
description:
  - Reads from the journal what each instance ran before the last upgrade, and changes nothing. An upgrade is the runs
    that it took, the last one and those right before it that did not end as done.
  - Kept as the fact C(upgrade_back) of C(localhost), RV(back) makes M(rondo.upgrade.declaration),
    M(rondo.upgrade.plan), M(rondo.upgrade.verify) and M(rondo.upgrade.report) see the old images as targets and the
    dependencies reversed. The playbook C(rondo.upgrade.revert) does so.
  - Fails where a contract removed from a database what the old version may need, and names that step.
extends_documentation_fragment:
  - rondo.upgrade.controller
options:
  only:
    description:
      - The services to take back. Default, all.
      - What depends on one of them and was upgraded on top of it must be named too.
    type: list
    elements: str
    default: []
  leave_dependants:
    description: Whether what depends on a service that goes back may stay on its new version.
    type: bool
    default: false
attributes:
  diff_mode:
    description: Shows what changes when in diff mode.
    support: none
"""

EXAMPLES = r"""
- name: Find the way back of two services
  rondo.upgrade.revert:
    only: [keystone, glance]
    show: true
  register: upgrade_reverting
"""

RETURN = r"""
page:
  description: What O(show) prints.
  returned: success
  type: str
services:
  description: The services that have something to take back.
  returned: success
  type: list
  elements: str
back:
  description: The way back.
  returned: success
  type: dict
  contains:
    targets:
      description: What each instance ran before, by its name. Instances that were not replaced are not in it.
      type: dict
      sample:
        keystone@ctl1: registry.example/keystone:2026.1
    runs:
      description: The runs that the upgrade took, the last one first.
      type: list
      elements: int
    notes:
      description: What is worth knowing, one sentence each.
      type: list
      elements: str
"""
