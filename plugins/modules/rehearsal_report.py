#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rehearsal_report
short_description: Say what a rehearsal has shown
version_added: 0.1.0
author:
  - The rondo.upgrade authors (@rondo)
description:
  - Puts together what the plan will be in production, what was measured on the twin, which durations were learned, and
    what could not be rehearsed.
  - Writes C(rehearsal.json) and C(learned.json) to C(rehearsal) under O(directory). The real plan takes what was
    learned only where it is told to, with C(upgrade_estimates_from).
  - Fails if the twin's upgrade was not clean.
extends_documentation_fragment:
  - rondo.upgrade.controller
options:
  exit_code:
    description:
      - The exit code of the twin's upgrade, from M(rondo.upgrade.rehearsal_run).
    type: int
    required: true
  fail:
    description:
      - Whether to fail if the twin's upgrade was not clean.
    type: bool
    default: true
attributes:
  check_mode:
    description: Does the same in check mode, files included, which only repeat what was measured.
    support: none
  diff_mode:
    description: Shows what changes when in diff mode.
    support: none
seealso:
  - module: rondo.upgrade.rehearsal_plan
"""

EXAMPLES = r"""
- name: Say what the rehearsal has shown
  rondo.upgrade.rehearsal_report:
    exit_code: "{{ ran.exit_code }}"
    show: true
"""

RETURN = r"""
page:
  description: What O(show) prints.
  returned: success
  type: str
rehearsal:
  description: The content of C(rehearsal.json).
  returned: success
  type: dict
"""
