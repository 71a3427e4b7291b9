# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one module on several hosts at the same moment. Documented in plugins/modules/together.py."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from ansible_collections.rondo.upgrade.plugins.plugin_utils._core_compat import elsewhere, plain

ARGUMENT_SPEC = {
    "module": {"type": "str", "required": True},
    "arguments": {"type": "dict", "default": {}},
    "hosts": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {"host": {"type": "str", "required": True}, "arguments": {"type": "dict", "default": {}}},
    },
}


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        _validated, options = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        options = plain(options)
        if not options["hosts"]:
            return {**result, "changed": False, "skipped": True, "results": []}
        begun = [
            (
                row["host"],
                *self._begin(
                    options["module"], row["host"], {**options["arguments"], **row["arguments"]}, task_vars or {}
                ),
            )
            for row in options["hosts"]
        ]
        results = [{**_ended(child, pipe), "host": host} for host, child, pipe in begun]
        bad = list(dict.fromkeys(f"{row['host']}: {row.get('msg') or 'failed'}" for row in results if _failed(row)))
        result.update(changed=any(row.get("changed") for row in results), results=results)
        if warnings := [f"{row['host']}: {line}" for row in results for line in row.pop("warnings", None) or []]:
            result["warnings"] = warnings
        if diffs := [_named(row["host"], row["diff"]) for row in results if isinstance(row.get("diff"), dict)]:
            result["diff"] = diffs
        if bad:
            result.update(failed=True, msg="; ".join(bad))
        return result

    def _begin(
        self, module: str, host: str, arguments: Mapping[str, Any], task_vars: Mapping[str, Any]
    ) -> tuple[int, int]:
        """A child process that runs the module, and the pipe that its result comes through."""
        reading, writing = os.pipe()
        child = os.fork()
        if child:
            os.close(writing)
            return child, reading
        try:
            os.close(reading)
            with os.fdopen(writing, "w", encoding="utf-8") as stream:
                json.dump(self._on(module, host, arguments, task_vars), stream, default=str)
        finally:
            # Nothing of the worker's own may run here: it ends once.
            os._exit(0)

    def _on(self, module: str, host: str, arguments: Mapping[str, Any], task_vars: Mapping[str, Any]) -> dict[str, Any]:
        try:
            there, variables = elsewhere(self, host, task_vars)
            found = there._execute_module(module_name=module, module_args=dict(arguments), task_vars=variables)
            return {str(key): value for key, value in plain(found).items()}
        except AnsibleConnectionFailure as error:
            return {"unreachable": True, "msg": str(error)}
        except Exception as error:
            return {"failed": True, "msg": str(error), "exception": traceback.format_exc()}


def _ended(child: int, pipe: int) -> dict[str, Any]:
    with os.fdopen(pipe, encoding="utf-8") as stream:
        text = stream.read()
    os.waitpid(child, 0)
    try:
        answer: dict[str, Any] = json.loads(text)
    except ValueError:
        return {"failed": True, "msg": "its process ended without a result"}
    return answer


def _named(host: str, diff: Mapping[str, Any]) -> dict[str, Any]:
    """A difference with its host's name above it."""
    return {**diff, **{key: f"{host} {diff.get(key, '')}".rstrip() for key in ("before_header", "after_header")}}


def _failed(row: Mapping[str, Any]) -> bool:
    return bool(row.get("failed") or row.get("unreachable"))
