# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the declaration, and say which hosts and artifacts it manages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.rondo.upgrade.plugins.plugin_utils._action import UpgradeAction, journal
from ansible_collections.rondo.upgrade.plugins.plugin_utils._builtin import asked
from ansible_collections.rondo.upgrade.plugins.plugin_utils._cluster import ROOT, Source, managed, measure
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._declaration import DeclarationError
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import Cluster
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._regression import touched
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._spec import Problem
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._suites import Suites
from ansible_collections.rondo.upgrade.plugins.plugin_utils._page import count


class ActionModule(UpgradeAction):
    """Thin: the brain parses, this hands over."""

    def act(self, options: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        source = self.source(variables)
        cluster, suites = self._checked(source, variables)
        hosts = managed(cluster)
        views = {host: own.get(ROOT) or source.declaration for host, own in source.inventory.hostvars.items()}
        depends_on = {name: service.depends_on for name, service in cluster.services.items()}
        services = count(len(cluster.services), "service")
        return {
            # Before anything is looked at, so that a run that changes the cluster meanwhile is noticed.
            "last_run": _last_run(self.directory(options, variables)),
            "services": list(cluster.services),
            "managed": hosts,
            "measure": measure(cluster),
            "balancers": list(cluster.balancers),
            "hosts": list(dict.fromkeys([*hosts, *cluster.balancers])),
            "builtin": {"samples": suites.builtin.samples, "errors": suites.builtin.errors},
            "asked": asked(cluster, views),
            "touched": {name: touched(depends_on, [name]) for name in cluster.services},
            "page": f"Declared: {services}, {count(len(cluster.instances), 'instance')}, without a mistake",
        }

    def _checked(self, source: Source, variables: Mapping[str, Any]) -> tuple[Cluster, Suites]:
        """Raises DeclarationError with what is wrong in services and suites together."""
        problems: tuple[Problem, ...] = ()
        try:
            cluster = source.cluster()
        except DeclarationError as error:
            problems = error.problems
        try:
            suites = self.suites(variables, source.declaration, source.inventory.groups)
        except DeclarationError as error:
            problems += error.problems
        if problems:
            raise DeclarationError(problems)
        return cluster, suites


def _last_run(directory: Path) -> int:
    kept = journal(directory)
    if kept is None:
        return 0
    with kept:
        return kept.last_run()
