# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the way back from the last upgrade."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _revert
from ansible_collections.rondo.upgrade.plugins.plugin_utils._action import JOURNAL, UpgradeAction, journal


class ActionModule(UpgradeAction):
    """Thin: the journal's runs in, targets out."""

    OPTIONS = {
        "only": {"type": "list", "elements": "str", "default": []},
        "leave_dependants": {"type": "bool", "default": False},
    }

    def act(self, options: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        cluster = self.source(variables).cluster()
        directory = self.directory(options, variables)
        kept = journal(directory)
        if kept is None:
            raise AnsibleActionFail(
                f"There is no journal at {directory / JOURNAL}: nothing was ever run with this upgrade_directory, so "
                "nothing is known to go back to."
            )
        with kept:
            runs = kept.runs()
        try:
            only = [name.strip() for name in options["only"] if name.strip()]
            back = _revert.way_back(runs, cluster, only, leave_dependants=options["leave_dependants"])
        except _revert.RevertError as error:
            raise AnsibleActionFail(str(error)) from error
        return {"back": back.to_dict(), "services": back.services, "page": _revert.page(back)}
