# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Report on a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.release import __version__ as core_version

from ansible_collections.rondo.upgrade.plugins.plugin_utils import (
    _builtin,
    _cluster,
    _plan_file,
    _report,
    _report_counts,
    _report_html,
    _report_junit,
    _tests_page,
)
from ansible_collections.rondo.upgrade.plugins.plugin_utils._action import UpgradeAction, journal
from ansible_collections.rondo.upgrade.plugins.plugin_utils._core_compat import plain


class ActionModule(UpgradeAction):
    """Thin: collects, hands over, writes."""

    OPTIONS = {
        "run": {"type": "int"},
        "probe": {"type": "str"},
        "fail": {"type": "bool", "default": True},
    }

    def act(self, options: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        directory = self.directory(options, variables)
        source = self.source(variables)
        cluster = source.cluster()
        balancers = _facts(variables, cluster.balancers, "observe_haproxy")
        engines = _facts(variables, source.facts, "observe_engine_version")
        run, tests = self._kept(directory, options["run"], variables)
        summaries = run["summaries"] if run else {}
        before, after = summaries.get("before", {}), summaries.get("after", {})
        _left, moved = _tests_page.unfinished(run or {}, cluster.instances)
        content = _report.report(
            run,
            _probe(options["probe"]) or summaries.get("probe") or _report_counts.so_far(before, after),
            _report_counts.counted(
                {name: before.get("haproxy", {}).get(name, {}) for name in cluster.balancers},
                _report_counts.readings(run),
                after.get("haproxy", {}),
                {name for each in cluster.services.values() for name in each.backends},
            ),
            _cluster.differences(cluster, source.facts),
            {
                "ansible_core": core_version,
                "haproxy": {name: table.get("version_full", "") for name, table in balancers.items()},
                "engine": sorted({str(version) for version in engines.values() if version}),
            },
            [*cluster.instances, *cluster.services, *cluster.balancers],
            tests,
            _builtin.logged(cluster, after["logs"], moved) if after.get("logs") else None,
            _cluster.artifacts(cluster, source.facts),
        )
        folder = directory / "report"
        if not self._task.check_mode:
            _plan_file.write(folder / "report.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
            _plan_file.write(folder / "junit.xml", _report_junit.junit(content))
            _plan_file.write(folder / "index.html", _report_html.html(content))
        page = _report.page(content)
        failed = options["fail"] and content["verdict"] == "failed"
        msg = (
            f"the run is not clean: {'; '.join(content['reasons'])}"
            if failed
            else f"written to {folder / 'index.html'}"
        )
        return {"report": content, "summary": content["summary"], "page": page, "failed": bool(failed), "msg": msg}

    def _kept(
        self, directory: Path, number: int | None, variables: Mapping[str, Any]
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """What the journal holds of a run: itself, and its tests beside the baseline's."""
        kept = journal(directory)
        if kept is None:
            return None, None
        with kept:
            run = kept.run(number)
            after = kept.measurement("after", run["id"]) if run else None
            baseline = kept.baseline(run["id"]) if run else None
        if after is None:
            return run, None
        margins = self.suites(variables).builtin.margins
        services = after["seen"].get("services", [])
        return run, _tests_page.compared(baseline, _tests_page.results_of(after), margins, services)


def _facts(variables: Mapping[str, Any], hosts: Any, name: str) -> dict[str, Any]:
    views = {host: variables["hostvars"][host] for host in hosts}
    return {host: plain(view[name]) for host, view in views.items() if name in view}


def _probe(path: str | None) -> dict[str, Any] | None:
    if not path:
        return None
    try:
        return dict(json.loads(Path(path).expanduser().read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise AnsibleActionFail(f"probe: {path} can't be read as the probe's summary: {error}") from error
