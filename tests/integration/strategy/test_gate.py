# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failed requests of a probe stop a running play, on two ansible-cores."""

from __future__ import annotations

import json
import os
from pathlib import Path

from rolling_project import Project, make_plan, service


def probe_says(project: Project, sent: int, failed: int) -> None:
    state = {"running": True, "pid": os.getpid(), "sent": sent, "failed": failed}
    new = Path(f"{project.gate('state')}.new")
    new.write_text(json.dumps(state))
    new.replace(project.gate("state"))


def test_failed_requests_let_what_is_in_flight_finish_and_nothing_begin(project: Project) -> None:
    plan = make_plan(service("web", ["h1", "h2", "h3"]))
    probe_says(project, 500, 4)
    gates = {f"replace web@h{number}": project.gate(str(number)) for number in (1, 2)}
    run = project.start(plan, gates=gates, upgrade_probe_state=project.gate("state"), upgrade_max_failed_requests="1%")

    def begun(number: int) -> bool:
        return ("begin", f"replace web@h{number}", f"h{number}") in project.events()

    run.until(lambda: begun(1), "the first job")
    # What is allowed (one of a hundred) stops nothing.
    probe_says(project, 600, 5)
    project.open_gate("1")
    run.until(lambda: begun(2), "the second job")
    probe_says(project, 700, 7)
    run.until(lambda: "Stopped: 3 of 200 requests of the probe failed" in run.output, "the stop")
    project.open_gate("2")
    _code, output = run.wait()
    assert ("end", "replace web@h2", "h2") in project.events()
    assert not begun(3)
    assert "Not begun (3 of 200 requests of the probe failed" in output


def test_a_limit_that_is_none_is_refused(project: Project) -> None:
    code, output = project.run(make_plan(service("web", ["h1"])), upgrade_max_failed_requests="few")
    assert code != 0
    assert "upgrade_max_failed_requests is 'few'" in output
    assert project.events() == []
