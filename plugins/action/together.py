# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs modules on several hosts at the same moment. Documented in plugins/modules/together.py."""

from __future__ import annotations

import contextlib
import json
import os
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from ansible_collections.rondo.upgrade.plugins.plugin_utils._core_compat import elsewhere, plain

STAGE = {
    "module": {"type": "str"},
    "arguments": {"type": "dict", "default": {}},
    "hosts": {
        "type": "list",
        "elements": "dict",
        "options": {"host": {"type": "str", "required": True}, "arguments": {"type": "dict", "default": {}}},
    },
}
ARGUMENT_SPEC = {
    **STAGE,
    "stages": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            **{key: {**spec, "required": True} if key != "arguments" else spec for key, spec in STAGE.items()},
            "within": {"type": "float"},
            "within_option": {"type": "str", "default": "timeout"},
        },
    },
}
# A stage whose time is up already may still look once.
LEAST_SECONDS = 1.0


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        _validated, options = self.validate_argument_spec(
            argument_spec=ARGUMENT_SPEC,
            required_together=[("module", "hosts")],
            required_one_of=[("module", "stages")],
            mutually_exclusive=[("module", "stages")],
        )
        options = plain(options)
        self._vars: Mapping[str, Any] = task_vars or {}
        self._known: dict[str, tuple[Any, dict[str, Any]]] = {}
        if options["stages"] is None:
            return {**result, **self._at_once(options)}
        for host in {row["host"] for stage in options["stages"] for row in stage["hosts"]}:
            # Whoever can't be reached says so in its stage.
            with contextlib.suppress(Exception):
                self._there(host)
        return {**result, **self._one_after_the_other(options["stages"])}

    def _one_after_the_other(self, stages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Each stage begins when the one before it has ended on all hosts; one that fails is the last."""
        began, rows, found = time.monotonic(), [], {}
        for stage in stages:
            passed = time.monotonic() - began
            left = (
                {}
                if stage["within"] is None
                else {stage["within_option"]: max(stage["within"] - passed, LEAST_SECONDS)}
            )
            found = self._at_once({**stage, "arguments": {**stage["arguments"], **left}})
            took = time.monotonic() - began - passed
            rows.append({"name": stage["name"], "seconds": round(took, 3), **found})
            if found.get("failed"):
                break
        result = {"stages": rows, "changed": any(row["changed"] for row in rows)}
        if found.get("failed"):
            result.update(failed=True, msg=f"{rows[-1]['name']}: {found['msg']}")
        for key in ("warnings", "diff"):
            if lines := [line for row in rows for line in row.pop(key, ())]:
                result[key] = lines
        return result

    def _at_once(self, stage: Mapping[str, Any]) -> dict[str, Any]:
        if not stage["hosts"]:
            return {"changed": False, "skipped": True, "results": []}
        begun = [
            (row["host"], *self._begin(stage["module"], row["host"], {**stage["arguments"], **row["arguments"]}))
            for row in stage["hosts"]
        ]
        results = [{**_ended(child, pipe), "host": host} for host, child, pipe in begun]
        result = {"changed": any(row.get("changed") for row in results), "results": results}
        if warnings := [f"{row['host']}: {line}" for row in results for line in row.pop("warnings", None) or []]:
            result["warnings"] = warnings
        if diffs := [_named(row["host"], row["diff"]) for row in results if isinstance(row.get("diff"), dict)]:
            result["diff"] = diffs
        bad = list(dict.fromkeys(f"{row['host']}: {row.get('msg') or 'failed'}" for row in results if _failed(row)))
        if bad:
            result.update(failed=True, msg="; ".join(bad))
        return result

    def _begin(self, module: str, host: str, arguments: Mapping[str, Any]) -> tuple[int, int]:
        """A child process that runs the module, and the pipe that its result comes through."""
        reading, writing = os.pipe()
        child = os.fork()
        if child:
            os.close(writing)
            return child, reading
        try:
            os.close(reading)
            with os.fdopen(writing, "w", encoding="utf-8") as stream:
                json.dump(self._on(module, host, arguments), stream, default=str)
        finally:
            # Nothing of the worker's own may run here: it ends once.
            os._exit(0)

    def _there(self, host: str) -> tuple[Any, dict[str, Any]]:
        if host not in self._known:
            self._known[host] = elsewhere(self, host, self._vars)
        return self._known[host]

    def _on(self, module: str, host: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            there, variables = self._there(host)
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
