#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: verify
short_description: Check that a cluster is as declared
version_added: 0.1.0
author:
  - The rondo.upgrade authors (@rondo)
description:
  - Compares what role C(observe) saw with the declaration. Every instance has to run its target (to the digest), every
    server of every balancer has to be UP, every database schema has to be at its head.
  - Fails with every difference, not with the first.
extends_documentation_fragment:
  - rondo.upgrade.controller
options:
  regressions:
    description: Names of tests that have regressed, as M(rondo.upgrade.tests) returns them. They are told and fail too.
    type: list
    elements: str
    default: []
attributes:
  diff_mode:
    description: Shows what changes when in diff mode.
    support: none
"""

EXAMPLES = r"""
- name: Check that the cluster is as declared
  rondo.upgrade.verify:
"""

RETURN = r"""
page:
  description: What O(show) prints.
  returned: always
  type: str
differences:
  description: Everything that is not as declared, one sentence each.
  returned: always
  type: list
  elements: str
"""
