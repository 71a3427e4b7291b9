# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare what runs with what is declared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _cluster
from ansible_collections.rondo.upgrade.plugins.plugin_utils._action import UpgradeAction
from ansible_collections.rondo.upgrade.plugins.plugin_utils._page import count


class ActionModule(UpgradeAction):
    """Thin: fails with every difference, not with the first."""

    OPTIONS = {"regressions": {"type": "list", "elements": "str", "default": []}}

    def act(self, options: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        source = self.source(variables)
        cluster = source.cluster()
        found = _cluster.differences(cluster, source.facts)
        regressions = options["regressions"]
        if found or regressions:
            told = [count(len(found), "difference") + " from what is declared"] if found else []
            told += [count(len(regressions), "regression")] if regressions else []
            lines = "".join(f"\n  - {line}" for line in [*found, *regressions])
            page = f"VERIFY: {', '.join(told)}{lines}"
            return {"failed": True, "msg": page, "page": page, "differences": found}
        page = f"VERIFY: all {count(len(cluster.instances), 'instance')} run their target and serve"
        return {"differences": [], "page": page, "msg": page}
