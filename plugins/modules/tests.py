#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tests
short_description: Run the suites of tests before or after an upgrade
version_added: 0.1.0
author:
  - The rondo.upgrade authors (@rondo)
description:
  - Makes tests of what role C(observe) and M(rondo.upgrade.service_info) saw, runs the suites that C(upgrade_suites)
    declares on the controller, and keeps what all of them said in the journal. See C(docs/verify.md).
  - After an upgrade each test is held against the baseline, and is unchanged, fixed, known failing, a regression, new
    or gone.
  - It does not fail where tests do. Roles P(rondo.upgrade.baseline#role) and P(rondo.upgrade.verify#role) use it.
extends_documentation_fragment:
  - rondo.upgrade.controller
options:
  moment:
    description: Whether this is before or after the upgrade.
    type: str
    choices: [before, after]
    required: true
  services:
    description:
      - The services whose tests run, and those of none. Empty for all.
      - Default, after an upgrade those of the baseline; before it all.
    type: list
    elements: str
  run:
    description: The run in the journal that the tests belong to. Without it they belong to none.
    type: int
attributes:
  check_mode:
    description: Suites that are declared are not run in check mode, and the journal is not written.
    support: partial
    details: Suites that are declared are not run in check mode, and the journal is not written.
  diff_mode:
    description: Shows what changes when in diff mode.
    support: none
"""

EXAMPLES = r"""
- name: Run all suites, and keep what they say as the baseline
  rondo.upgrade.tests:
    moment: before
    show: true

- name: Run them again, and compare
  rondo.upgrade.tests:
    moment: after
    show: true
  register: compared

- name: Fail if something has become worse
  ansible.builtin.assert:
    that: compared.regressions | length == 0
"""

RETURN = r"""
page:
  description: What O(show) prints.
  returned: always
  type: str
tests:
  description: What each test said, with C(suite), C(name), C(service), C(outcome), C(message) and C(seconds).
  returned: success
  type: list
  elements: dict
services:
  description: The services whose tests ran, empty for all.
  returned: success
  type: list
  elements: str
has_baseline:
  description: Whether there is a baseline. Without one nothing can be a regression.
  returned: with O(moment=after)
  type: bool
changes:
  description: Each test with its C(class), and its outcomes C(before) and C(after), null where it did not run.
  returned: with O(moment=after)
  type: list
  elements: dict
regressions:
  description: Names of the tests that passed before and fail now.
  returned: with O(moment=after)
  type: list
  elements: str
  sample: ["builtin: keystone: http://192.0.2.10:5000/v3 answers"]
counted:
  description: How many tests there are of each class.
  returned: with O(moment=after)
  type: dict
"""
