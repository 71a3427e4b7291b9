#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: declaration
short_description: Check the declaration of a cluster
version_added: 0.1.0
author:
  - The rondo.upgrade authors (@rondo)
description:
  - Reads C(upgrade_services) as every host sees it and fails with everything that is wrong with it, all at once. Each
    mistake is one line with the key's full path, the value, what is wrong and what would be right.
  - The same for C(upgrade_suites), see C(docs/verify.md).
  - Touches nothing.
extends_documentation_fragment:
  - rondo.upgrade.controller
attributes:
  diff_mode:
    description: Shows what changes when in diff mode.
    support: none
"""

EXAMPLES = r"""
- name: Check what is declared
  rondo.upgrade.declaration:
  register: declared

- name: Observe every host that it names
  ansible.builtin.debug:
    msg: "{{ declared.hosts }}"
"""

RETURN = r"""
page:
  description: What O(show) prints.
  returned: always
  type: str
last_run:
  description:
    - The number of the journal's last run, 0 where there was none. M(rondo.upgrade.journal) refuses a plan from before
      a newer one.
  returned: success
  type: int
services:
  description: Names of the services, as declared.
  returned: success
  type: list
  elements: str
managed:
  description: What there is to look at, by host.
  returned: success
  type: dict
  sample:
    ctl1:
      containers: {keystone: "registry.example/keystone:2026.2"}
      packages: []
      host_image: ""
      ports: [[15000, 15009]]
measure:
  description: For how many seconds the balancers count requests. 0 where every service can be rolled.
  returned: success
  type: float
balancers:
  description: Hosts that run HAProxy.
  returned: success
  type: list
  elements: str
asked:
  description: What M(rondo.upgrade.service_info) is to be asked, by host.
  returned: success
  type: dict
  sample:
    ctl1:
      endpoints: [{url: "http://192.0.2.10:5000/v3", service: keystone}]
      logs: [{service: keystone, container: keystone, checks: [/healthcheck]}]
builtin:
  description: How the built-in suite looks, C(samples) and C(errors), for M(rondo.upgrade.service_info).
  returned: success
  type: dict
touched:
  description: By service, itself and all services that depend on it, however far.
  returned: success
  type: dict
  sample: {keystone: [keystone, glance]}
hosts:
  description: All hosts of the services, and the balancers.
  returned: success
  type: list
  elements: str
"""
