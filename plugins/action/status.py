# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what runs where, and what the journal holds of the last run."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _cluster, _status
from ansible_collections.rondo.upgrade.plugins.plugin_utils._action import UpgradeAction, journal


class ActionModule(UpgradeAction):
    """Thin: rows from the brain's state, the run from the journal."""

    OPTIONS = {"format": {"type": "str", "choices": ["text", "json"], "default": "text"}}

    def act(self, options: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        source = self.source(variables)
        cluster = source.cluster()
        state = _cluster.state(cluster, source.facts)
        kept = journal(self.directory(options, variables))
        run = None
        if kept is not None:
            with kept:
                run = _status.run_row(kept.run(), time.time())
        data = {"instances": _status.rows(cluster, state), "obstacles": list(state.obstacles), "run": run}
        text = options["format"] == "text"
        page = _status.page(data["instances"], state, run) if text else json.dumps(data, indent=2, ensure_ascii=False)
        return {**data, "page": page}
