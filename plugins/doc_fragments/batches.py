# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that the lookups share."""

from __future__ import annotations


class ModuleDocFragment:
    """Where the plan comes from that a lookup takes batches of."""

    DOCUMENTATION = r"""
options:
  _terms:
    description:
      - The service, a key of C(upgrade_services). Exactly one.
    type: str
    required: true
  plan:
    description:
      - A plan file (C(plan.json)) to take the batches from.
      - If not given, the variable C(upgrade_plan) counts, as the action rondo.upgrade.plan returns it (its C(plan)).
      - If that is not set either, a plan is made from the declaration. It counts what runs if role C(observe) left its
        facts on every host. Otherwise every instance counts as healthy and not yet upgraded.
    type: str
notes:
  - Ansible templates the keywords of the first play before it knows any host's variables. Put another play before
    it, or name a plan file.
  - The batches keep every budget of the declaration, also those of other services on the same hosts, and put the
    canaries into batches of their own.
"""
