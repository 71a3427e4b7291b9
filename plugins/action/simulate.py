# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a fleet's upgrade on a simulated clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _simulation
from ansible_collections.rondo.upgrade.plugins.plugin_utils._action import UpgradeAction


class ActionModule(UpgradeAction):
    """Thin: the declared cluster, or the sample, into the brain's simulation."""

    OPTIONS = {
        "hosts": {"type": "int", "default": 100},
        "seed": {"type": "int", "default": 0},
        "failures": {"type": "str", "default": "0"},
        "max_failures": {"type": "int"},
        "slow_zone": {"type": "str"},
        "slow_factor": {"type": "float", "default": 3},
        "forks": {"type": "int"},
    }

    def act(self, options: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        declared = "upgrade_services" in variables
        cluster = self.source(variables).cluster() if declared else _simulation.sample()
        try:
            result = _simulation.what_if(cluster, options)
        except _simulation.SimulationError as error:
            raise AnsibleActionFail(str(error)) from error
        return {"simulation": result, "page": _simulation.page(result)}
