# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  fence:
    description:
      - The run that this belongs to. Where a later run of the same owner has been at work on this container, nothing is
        done, so that what a killed run left behind can't undo what the next one did.
      - Two modules never work on one container of a host at a time, with or without it; the second one waits for up to
        300 seconds.
    type: dict
    suboptions:
      token:
        description: The run's fencing token, as M(rondo.upgrade.journal) gives it.
        type: int
        required: true
      owner:
        description: The run's owner.
        type: str
"""
