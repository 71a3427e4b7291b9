# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of every module that changes what a balancer does."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  fence:
    description:
      - Refuse if another run has claimed the balancer since (see M(rondo.upgrade.haproxy_fence)).
    type: dict
    suboptions:
      path:
        description: The fence's file.
        type: path
        default: /run/rondo-upgrade.fence
      token:
        description: This run's token.
        type: int
        required: true
      owner:
        description: This run's owner. If given, a fence of another owner refuses whatever its token is.
        type: str
  answer_timeout:
    description:
      - Seconds within which HAProxy has to answer one question in full. While the module waits, HAProxy may be silent
        for that long (it may be about to reload).
    type: float
    default: 10
"""
