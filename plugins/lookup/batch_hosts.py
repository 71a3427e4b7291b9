# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of a service in the order of the plan."""

from __future__ import annotations

DOCUMENTATION = r"""
name: batch_hosts
short_description: Hosts of a service in the order of the plan
version_added: 0.1.0
author:
  - The rondo.upgrade authors (@rondo)
description:
  - Hosts on which one service is to be replaced, in plan order, as a play's C(hosts) takes them.
  - Goes with P(rondo.upgrade.batches#lookup). Together they make an existing playbook keep all budgets.
extends_documentation_fragment:
  - rondo.upgrade.batches
seealso:
  - plugin: rondo.upgrade.batches
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Plan first, because Ansible knows no host's variables in the keywords of the first play
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Plan
      rondo.upgrade.plan:
        show: true
      register: planned
    - name: Keep the plan for the plays below
      ansible.builtin.set_fact:
        upgrade_plan: "{{ planned.plan }}"

- name: Upgrade keystone with the role that you have
  hosts: "{{ lookup('rondo.upgrade.batch_hosts', 'keystone') }}"
  serial: "{{ lookup('rondo.upgrade.batches', 'keystone') }}"
  any_errors_fatal: true
  roles:
    - your_keystone_role
"""

RETURN = r"""
_raw:
  description: One list with the names of the hosts.
  type: list
  elements: list
  sample: [[ctl3, ctl1, ctl2, ctl5, ctl4]]
"""

from typing import Any

from ansible.plugins.lookup import LookupBase

from ansible_collections.rondo.upgrade.plugins.plugin_utils._batches import looked_up


class LookupModule(LookupBase):
    """The plan's batches as one value, so that `lookup` gives the list itself."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        self.set_options(var_options=variables, direct=kwargs)
        found = looked_up(terms, self.get_option("plan"), variables or {}, self._templar)
        return [[host for batch in found for host in batch]]
