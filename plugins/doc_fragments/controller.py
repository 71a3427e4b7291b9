# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that the actions share."""

from __future__ import annotations


class ModuleDocFragment:
    """Options and attributes of every action of the collection that works on what role `observe` saw."""

    DOCUMENTATION = r"""
options:
  directory:
    description:
      - Where plan, journal and report are kept. Relative to the directory in which C(ansible-playbook) was started.
      - The variable C(upgrade_directory) if not given, V(build) if that is not set either.
    type: str
  show:
    description:
      - Print the page to the terminal, as it is meant to be read.
    type: bool
    default: false
notes:
  - Runs on the controller. Use it with C(hosts=localhost), after role P(rondo.upgrade.observe#role) ran on the hosts.
  - Reads the variable C(upgrade_services), see U(https://github.com/rondo/upgrade/blob/main/docs/declaration.md).
attributes:
  action:
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the
      controller.
    support: full
  async:
    description: Supports being used with the C(async) keyword.
    support: none
  check_mode:
    description: Can run in check mode and return what it would do.
    support: full
"""
