# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan's rounds as the input of Ansible's own `hosts` and `serial`, one service at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def batches(plan: Mapping[str, Any], service: str) -> list[list[str]]:
    """Hosts on which `service` is replaced, in plan order, grouped by what may go together.

    Raises KeyError with a sentence when the plan has no such service.
    """
    names = [row["name"] for row in plan["services"]]
    if service not in names:
        raise KeyError(f"the plan has no service {service}; it has: {', '.join(names) or 'none'}")
    hosts = {job["id"]: job["host"] for job in plan["jobs"] if job["service"] == service and job["kind"] == "replace"}
    rounds = ([hosts[job] for job in together if job in hosts] for together in plan["rounds"])
    return [names for names in rounds if names]
