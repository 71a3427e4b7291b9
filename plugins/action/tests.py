# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the suites, keep what they said, and hold it against the baseline."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _builtin, _suite_run, _tests_page
from ansible_collections.rondo.upgrade.plugins.plugin_utils._action import JOURNAL, UpgradeAction
from ansible_collections.rondo.upgrade.plugins.plugin_utils._core_compat import plain
from ansible_collections.rondo.upgrade.plugins.plugin_utils._journal import Journal
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._regression import Result, of_services

# What the roles register on each host.
SEEN = {"before": "baseline_seen", "after": "verify_seen"}


class ActionModule(UpgradeAction):
    """Thin: collects, hands over, keeps."""

    OPTIONS = {
        "moment": {"type": "str", "choices": ("before", "after"), "required": True},
        "services": {"type": "list", "elements": "str"},
        "run": {"type": "int"},
    }

    def act(self, options: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        moment, run = options["moment"], options["run"]
        directory = self.directory(options, variables)
        source = self.source(variables)
        cluster = source.cluster()
        suites = self.suites(variables, cluster.services, source.inventory.groups)
        views = {host: variables["hostvars"][host] for host in source.facts}
        seen = {host: plain(view[SEEN[moment]]) for host, view in views.items() if SEEN[moment] in view}
        with Journal(directory / JOURNAL) as journal:
            baseline = journal.baseline(run) if moment == "after" else None
            jobs = (journal.run(run) or {}) if run is not None else {}
        services = options["services"]
        if services is None:
            services = baseline["seen"].get("services", []) if baseline else []
        left, _moved = _tests_page.unfinished(jobs, cluster.instances)
        results = _builtin.results(cluster, suites.builtin, source.facts, seen, moment, left)
        where = _suite_run.Surroundings(
            directory / "suites",
            [str(path) for path in plain(variables.get("ansible_inventory_sources") or [])],
            str(self._templar.template(variables.get("ansible_playbook_python") or sys.executable)),
            Path.cwd(),
        )
        if not self._task.check_mode:
            for suite in suites.declared:
                if not services or not suite.services or not set(suite.services).isdisjoint(services):
                    results += _suite_run.run(suite, moment, where)
        results = of_services(results, services)
        kept = {"services": services}
        if not self._task.check_mode:
            with Journal(directory / JOURNAL) as journal:
                journal.measure(moment, [dataclasses.asdict(result) for result in results], run, kept)
        answer: dict[str, Any] = {"tests": [_shown(result) for result in results], "services": services}
        if moment == "before":
            return {**answer, "page": _tests_page.before(results)}
        return {**answer, **_tests_page.compared(baseline, results, suites.builtin.margins, services)}


def _shown(result: Result) -> dict[str, Any]:
    return {key: value for key, value in dataclasses.asdict(result).items() if key != "measured"}
