# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told about containers on a real engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conftest import Lab


def test_rows(lab: Lab, run_module: Any) -> None:
    name = lab.deploy()
    wanted = {name: lab.images[2], lab.name("we"): lab.images[1], lab.name("none"): None}
    result = run_module("container_info", {"containers": wanted})
    assert not result["failed"], result
    assert not result["changed"]
    assert result["engine_version"] == lab.client.version()["Version"]
    rows = result["containers"]
    assert list(rows) == list(wanted)

    row = rows[name]
    assert (row["exists"], row["running"], row["status"], row["image"]) == (True, True, "running", lab.images[1])
    assert row["image_id"] == lab.engine.target(lab.images[1]).id
    assert (row["current"], row["target_present"]) == (False, True)
    assert row["target_id"] == lab.engine.target(lab.images[2]).id
    assert row["kept"] is None

    # The beginning of a name is another name.
    other = rows[lab.name("we")]
    assert (other["exists"], other["status"], other["current"], other["target_present"]) == (
        False,
        "absent",
        False,
        True,
    )
    assert rows[lab.name("none")]["current"] is None


def test_it_runs_what_it_should(lab: Lab, run_module: Any) -> None:
    name = lab.deploy()
    lab.api.stop(name)
    result = run_module("container_info", {"containers": {name: lab.images[1]}}, check=True)
    row = result["containers"][name]
    assert (row["current"], row["running"], row["status"]) == (True, False, "exited")
