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
  - With O(stages) it runs several, one after the other, each on all of its hosts at once. Variables are looked up and
    connections made before the first; between two stages hardly a moment passes.
  - A host's connection is made from its own variables, as with C(delegate_to). Variables of the play or of the task are
    not seen there.
  - This is an action plugin.
options:
  module:
    description:
      - The module's full name. Modules only; what has an action plugin (such as M(ansible.builtin.copy)) does not work.
      - This, or O(stages).
    type: str
  arguments:
    description:
      - Its arguments on all hosts.
    type: dict
    default: {}
  hosts:
    description:
      - Where to run it. A host may be there more than once. Required with O(module).
    type: list
    elements: dict
    suboptions:
      host:
        description: The host's name in the inventory.
        type: str
        required: true
      arguments:
        description: Arguments of its own. They come before O(arguments).
        type: dict
        default: {}
  stages:
    description:
      - What to run instead of one O(module). A stage begins when the one before it has ended on all of its hosts, and
        only if it has failed on none.
    type: list
    elements: dict
    suboptions:
      name:
        description: Its name, in results and messages.
        type: str
        required: true
      module:
        description: As O(module).
        type: str
        required: true
      arguments:
        description: As O(arguments).
        type: dict
        default: {}
      hosts:
        description: As O(hosts). A stage without hosts is passed over.
        type: list
        elements: dict
        required: true
        suboptions:
          host:
            description: The host's name in the inventory.
            type: str
            required: true
          arguments:
            description: Arguments of its own.
            type: dict
            default: {}
      within:
        description:
          - Seconds since the first stage began. What is left of them, but at least one, is the stage's
            O(stages[].within_option).
        type: float
      within_option:
        description: The module's option that limits how long it takes.
        type: str
        default: timeout
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

- name: Hold requests, and restart what they wait for
  rondo.upgrade.together:
    stages:
      - name: hold
        module: rondo.upgrade.haproxy_hold
        arguments: {service: keystone, state: held, deadline: 10}
        hosts: [{host: lb1}, {host: lb2}]
      - name: restart
        module: ansible.builtin.command
        arguments: {cmd: systemctl restart keystone}
        hosts: [{host: ctl1}]
"""

RETURN = r"""
results:
  description: The hosts' results in their order, each with C(host). The task fails if one of them has failed.
  returned: with O(module)
  type: list
  elements: dict
stages:
  description: The stages that were begun; the last one has failed if the task has.
  returned: with O(stages)
  type: list
  elements: dict
  contains:
    name:
      description: The stage's name.
      type: str
    seconds:
      description: How long it took.
      type: float
    results:
      description: As RV(results).
      type: list
      elements: dict
"""
