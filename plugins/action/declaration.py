# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the declaration, and say which hosts and artifacts it manages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.rondo.upgrade.plugins.plugin_utils._action import UpgradeAction
from ansible_collections.rondo.upgrade.plugins.plugin_utils._cluster import managed
from ansible_collections.rondo.upgrade.plugins.plugin_utils._page import count


class ActionModule(UpgradeAction):
    """Thin: the brain parses, this hands over."""

    def act(self, options: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        cluster = self.source(variables).cluster()
        hosts = managed(cluster)
        services = count(len(cluster.services), "service")
        return {
            "services": list(cluster.services),
            "managed": hosts,
            "balancers": list(cluster.balancers),
            "hosts": list(dict.fromkeys([*hosts, *cluster.balancers])),
            "page": f"Declared: {services}, {count(len(cluster.instances), 'instance')}, without a mistake",
        }
