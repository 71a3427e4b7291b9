# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""plan.json on disk: written so that a crash leaves the old or the new file, and checked before it is carried out."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SCHEMA = 1


class PlanFileError(Exception):
    """A plan that can't be read or must not be carried out; str() says why and what to do."""


def text(plan: Mapping[str, Any]) -> str:
    """The file's text: the same plan gives the same bytes."""
    return json.dumps(plan, indent=1, ensure_ascii=False) + "\n"


def write(path: Path, content: str) -> bool:
    """Write `content` to `path`, making its folder. True when the file's content changed. Raises OSError."""
    if path.is_file() and path.read_text(encoding="utf-8") == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=".new-", delete=False) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
    return True


def read(path: Path) -> dict[str, Any]:
    """The plan in a file. Raises PlanFileError."""
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanFileError(f"{path}: can't be read ({error.strerror}); make it with rondo.upgrade.plan") from error
    except ValueError as error:
        raise PlanFileError(f"{path}: is not JSON ({error}); make it again with rondo.upgrade.plan") from error
    schema = plan.get("schema") if isinstance(plan, dict) else None
    if schema != SCHEMA:
        raise PlanFileError(f"{path}: has schema {schema!r}, this version reads {SCHEMA}; make it again")
    return dict(plan)


def last(path: Path) -> dict[str, Any] | None:
    """The plan in a file, None where there is none that this version can read."""
    try:
        return read(path)
    except PlanFileError:
        return None


def refusal(path: Path, made: Mapping[str, Any], now: Mapping[str, Any], changes: list[str]) -> str:
    """Why the plan `made` in `path` must not be carried out when `now` is the plan of what is there now; "" if it may.

    `changes` are the sentences that tell what differs.
    """
    what = [
        name
        for name, key in (("the declaration", "declaration"), ("what runs", "state"))
        if made["digests"].get(key) != now["digests"].get(key)
    ]
    # Traffic and room change all the time, and are in no digest; what follows from them is no detail.
    if not what and _methods(made) != _methods(now):
        what = ["what fits the traffic and the room, and so a method,"]
    if not what:
        return ""
    told = "".join(f"\n  - {change}" for change in changes)
    return (
        f"{path}: was made for another state: {' and '.join(what)} changed since.{told}\n"
        "Look at the new plan (ansible-playbook rondo.upgrade.plan --diff), then carry that one out."
    )


def _methods(plan: Mapping[str, Any]) -> dict[str, Any]:
    return {row["name"]: row["method"] for row in plan.get("services", ())}
