#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: simulate
short_description: Run a fleet's upgrade on a simulated clock
version_added: 0.1.0
author:
  - The rondo.upgrade authors (@rondo)
description:
  - Plans the upgrade of a fleet of any size, and carries it out in the same window that a real run uses, on a
    simulated clock with drawn durations and failures. Answers what would happen if some hosts failed, a zone was slow,
    or few forks were there.
  - The fleet is the declared one (C(upgrade_services)), grown to O(hosts) with everything still to be upgraded. Without
    a declaration it is a sample with five services in three zones.
  - Touches nothing.
extends_documentation_fragment:
  - rondo.upgrade.controller
options:
  hosts:
    description:
      - Size of the fleet.
    type: int
    default: 100
  seed:
    description:
      - Where all chance comes from. The same seed gives the same result.
    type: int
    default: 0
  failures:
    description:
      - Share of the hosts that fail, such as V(2%) or V(0.02).
    type: str
    default: "0"
  max_failures:
    description:
      - Go on until so many have failed. What is declared if not given.
    type: int
  slow_zone:
    description:
      - The failure domain in which every job takes O(slow_factor) times as long.
    type: str
  slow_factor:
    description:
      - How much longer jobs take in O(slow_zone).
    type: float
    default: 3
  forks:
    description:
      - No more jobs at once than this, whatever the budgets say. Not given, there is no such limit.
    type: int
attributes:
  diff_mode:
    description: Shows what changes when in diff mode.
    support: none
"""

EXAMPLES = r"""
- name: What if two in a hundred hosts of a large fleet fail
  rondo.upgrade.simulate:
    hosts: 10000
    failures: 2%
    forks: 20
    show: true
"""

RETURN = r"""
page:
  description: What O(show) prints.
  returned: always
  type: str
simulation:
  description: The figures of the simulated run, times in seconds.
  returned: success
  type: dict
"""
