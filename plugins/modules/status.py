#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: status
short_description: Say what runs where, and how the last run stands
version_added: 0.1.0
author:
  - The rondo.upgrade authors (@rondo)
description:
  - Compares what role C(observe) saw with the declaration, one row per instance, and adds what the journal holds of the
    last run. Works from another terminal while a run is in progress.
extends_documentation_fragment:
  - rondo.upgrade.controller
options:
  format:
    description:
      - What RV(page) is.
    type: str
    choices: [text, json]
    default: text
  watch:
    description:
      - How often to print it again, such as V(2s), until the run in progress has ended or its process is dead. Empty,
        once.
      - Only what the journal holds, so that no host is asked; RV(instances) is empty.
    type: str
    default: ""
attributes:
  diff_mode:
    description: Shows what changes when in diff mode.
    support: none
"""

EXAMPLES = r"""
- name: Say what runs where
  rondo.upgrade.status:
    show: true

- name: The same for a program
  rondo.upgrade.status:
    format: json
    show: true
"""

RETURN = r"""
page:
  description: What O(show) prints.
  returned: always
  type: str
instances:
  description: One row per instance.
  returned: success
  type: list
  elements: dict
  contains:
    instance:
      description: Its name.
      type: str
      sample: keystone@ctl1
    service:
      description: The service.
      type: str
    host:
      description: The host.
      type: str
    running:
      description: What runs now, empty if nothing does.
      type: str
    target:
      description: What is declared.
      type: str
    current:
      description: Whether the target runs, to the digest, and serves.
      type: bool
    healthy:
      description: Whether it serves. A member that is down, drained or in maintenance on any balancer does not.
      type: bool
    reason:
      description: Why it does not serve.
      type: str
obstacles:
  description: What stands in the way of an upgrade, one sentence each.
  returned: success
  type: list
  elements: str
run:
  description: The last run, null if there was none. A run in progress has no C(ended).
  returned: success
  type: dict
  contains:
    in_flight:
      description: Jobs in progress, with C(id), C(seconds), and C(expected), the plan's seconds.
      type: list
    services:
      description:
        - A row for each service with jobs, with C(name), C(jobs), how many of these are C(done), C(failed), C(skipped),
          C(lost) or C(in_flight), and C(waits), what the first of the others waits for.
      type: list
    budgets:
      description:
        - A row for each budget, with C(name), C(kind), C(counts) (what it counts), C(capacity), C(used) and C(out), by
          whom.
      type: list
    requests:
      description: Live counts of a probe that runs, with C(sent), C(failed) and C(last), the last failure; else null.
      type: dict
    rest:
      description:
        - How long the jobs of a run in progress still take, by what was measured so far. C(seconds), the 90th
          percentile C(p90), C(by) (seconds since the epoch), C(measured) (how many jobs taught something) and C(pace),
          how long they took as a multiple of what was planned. Null once it has ended.
      type: dict
    waiting:
      description: Jobs of a run in progress that did not begin yet, with C(id) and C(why), what each waits for.
      type: list
    outcomes:
      description: How many jobs ended how, or are in flight.
      type: dict
    failed:
      description: Jobs that failed.
      type: list
    dead:
      description: Whether it is in progress only by the journal, for its process is known to be dead.
      type: bool
    paused:
      description: Who paused it, empty if it is not paused.
      type: str
    stopped:
      description: Why nothing more begins in it, empty if something may.
      type: str
"""
