#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: admit
short_description: Say whether a job of an exported playbook may begin
version_added: 0.1.0
author:
  - The rondo.upgrade authors (@rondo)
description:
  - An exported playbook asks this before each job. It knows from the journal and from a running probe what the strategy
    knows from its window, so that failed jobs, failed requests, C(abort) and C(pause) have the same effect.
  - While the run is paused it waits. A job that began in an earlier round and never ended is recorded as failed.
extends_documentation_fragment:
  - rondo.upgrade.controller
options:
  job:
    description:
      - The job's id. Without it only what was cut off is recorded, after the last round.
    type: str
    default: ""
  together:
    description: The ids of the round's jobs. They may be in progress at the same time.
    type: list
    elements: str
    default: []
  run:
    description: The run's number in the journal.
    type: int
    required: true
  probe:
    description: The state file of a running probe. A probe that does not run has nothing to say.
    type: path
  max_failed_requests:
    description: How many of its requests may fail while the run lasts, as a number or a percentage.
    type: str
    default: "0"
attributes:
  diff_mode:
    description: Shows what changes when in diff mode.
    support: none
seealso:
  - module: rondo.upgrade.plan
"""

EXAMPLES = r"""
- name: Ask whether the job may begin
  rondo.upgrade.admit:
    job: replace keystone@ctl1
    run: "{{ hostvars['localhost'].upgrade_run }}"
  register: upgrade_admission
"""

RETURN = r"""
admitted:
  description: Whether it may begin.
  returned: success
  type: bool
why:
  description: Why not; empty where it may.
  returned: success
  type: str
"""
