#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: together
short_description: Run one module on several hosts at the same moment
version_added: 0.1.0
author:
  - The rondo.upgrade authors (@rondo)
description:
  - Runs a module on each of the hosts at once and waits for all of them, in one task. A loop with C(delegate_to) takes
    one host after the other.
  - For what has to happen on all balancers, or on all hosts of a service, as close together as possible.
  - A host's connection is made from its own variables, as with C(delegate_to). Variables of the play or of the task are
    not seen there.
  - This is an action plugin.
options:
  module:
    description:
      - The module's full name. Modules only; what has an action plugin (such as M(ansible.builtin.copy)) does not work.
    type: str
    required: true
  arguments:
    description:
      - Its arguments on all hosts.
    type: dict
    default: {}
  hosts:
    description:
      - Where to run it. A host may be there more than once.
    type: list
    elements: dict
    required: true
    suboptions:
      host:
        description: The host's name in the inventory.
        type: str
        required: true
      arguments:
        description: Arguments of its own. They come before O(arguments).
        type: dict
        default: {}
attributes:
  check_mode:
    description: As the module itself.
    support: full
  diff_mode:
    description: As the module itself. Each host's difference is shown under its name.
    support: full
"""

EXAMPLES = r"""
- name: Let the requests go on both balancers
  rondo.upgrade.together:
    module: rondo.upgrade.haproxy_hold
    arguments: {service: keystone, state: released}
    hosts:
      - host: lb1
      - host: lb2
        arguments: {socket: /var/lib/kolla/haproxy/haproxy.sock}
"""

RETURN = r"""
results:
  description: The hosts' results in their order, each with C(host). The task fails if one of them has failed.
  returned: always
  type: list
  elements: dict
"""
