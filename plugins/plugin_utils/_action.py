# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the collection's action plugins share: options in, plain values to the brain, clear failures out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ._cluster import Source, source
from ._core_compat import plain
from ._journal import Journal, JournalError
from ._orchestration._declaration import DeclarationError
from ._orchestration._suites import ROOT as SUITES
from ._orchestration._suites import Suites, parse
from ._plan_file import PlanFileError

ARGUMENTS: dict[str, Any] = {"directory": {"type": "str"}, "show": {"type": "bool", "default": False}}
JOURNAL = "journal.sqlite"
PLAN = Path("plan", "plan.json")


class UpgradeAction(ActionBase):  # type: ignore[misc]
    """Subclasses give `act` and, beyond `ARGUMENTS`, their `OPTIONS`. A result's `page` is shown where asked for."""

    TRANSFERS_FILES = False
    _requires_connection = False
    OPTIONS: dict[str, Any] = {}

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _unused, options = self.validate_argument_spec({**ARGUMENTS, **self.OPTIONS})
        try:
            result |= {"changed": False, **self.act(options, task_vars or {})}
        except (DeclarationError, JournalError, PlanFileError) as error:
            result |= {"failed": True, "msg": str(error)}
        if options["show"] and result.get("page"):
            Display().display(f"\n{result['page']}\n")
        return result

    @abstractmethod
    def act(self, options: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """Do the work. Raises DeclarationError, JournalError or PlanFileError, whose texts are what people see."""

    def source(self, variables: dict[str, Any]) -> Source:
        return source(variables, self._templar)

    def suites(
        self, variables: Mapping[str, Any], services: Collection[str] | None = None, groups: Collection[str] = ()
    ) -> Suites:
        """The suites that `upgrade_suites` declares. Raises DeclarationError."""
        raw = variables.get(SUITES)
        return parse(plain(self._templar.template(raw)) if raw is not None else None, services, groups)

    def directory(self, options: Mapping[str, Any], variables: Mapping[str, Any]) -> Path:
        """Where the files are: the option, else `upgrade_directory`, else `build` under the current directory."""
        name = options["directory"] or self._templar.template(variables.get("upgrade_directory") or "build")
        return Path(str(name)).expanduser().absolute()

    def probe_state(self, directory: Path, variables: Mapping[str, Any]) -> str:
        """Where a probe writes its live counts: `upgrade_probe_state`, else where role probe has them."""
        given = self._templar.template(variables.get("upgrade_probe_state") or "")
        return str(Path(str(given)).expanduser().absolute() if given else directory / "probe" / "state.json")


def journal(directory: Path) -> Journal | None:
    """The journal in a directory, None where none was begun. Raises JournalError."""
    path = directory / JOURNAL
    return Journal(path, create=False) if path.is_file() else None
