#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rehearsal_run
short_description: Upgrade a rehearsal's twin under load
version_added: 0.1.0
author:
  - The rondo.upgrade authors (@rondo)
description:
  - Runs C(upgrade.yml) from the folder that M(rondo.upgrade.rehearsal_plan) has written, in a process of its own that
    knows the twin's inventory only. It starts the probe, upgrades with C(rondo.upgrade.upgrade), stops the probe and
    reports.
  - Its events are shown as they come. All that it says is kept in C(upgrade.log).
  - Does not fail when the twin's upgrade fails. M(rondo.upgrade.rehearsal_report) says what became of it.
extends_documentation_fragment:
  - rondo.upgrade.controller
attributes:
  check_mode:
    description: Does nothing in check mode.
    support: full
  diff_mode:
    description: Shows what changes when in diff mode.
    support: none
seealso:
  - module: rondo.upgrade.rehearsal_plan
  - module: rondo.upgrade.rehearsal_report
"""

EXAMPLES = r"""
- name: Upgrade the twin
  rondo.upgrade.rehearsal_run:
  register: ran
"""

RETURN = r"""
exit_code:
  description: The exit code of the twin's upgrade.
  returned: always
  type: int
log:
  description: The file that holds what it said. Empty in check mode.
  returned: always
  type: str
command:
  description: What is run, in the twin's folder.
  returned: always
  type: list
  elements: str
"""
