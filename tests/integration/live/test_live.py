# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The live view on a real terminal: what a person sees, and that nothing garbles it or is harmed by it."""

from __future__ import annotations

import re
from typing import Any

import ansible_runner
import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._journal import Journal

Upgrade = Any


def shown(terminal: Any, *texts: str) -> bool:
    panel = "\n".join(terminal.panel)
    return all(text in panel for text in texts)


def whole(terminal: Any) -> bool:
    """Whether there is one view, at the bottom of the screen, and nothing of an older one."""
    screen = terminal.screen
    runs = sum("RUN 1 (upgrade) in progress" in line for line in screen)
    return runs == 1 and terminal.panel[0].startswith("RUN 1") and screen[-1].startswith("  web: waits")


def test_a_run_is_seen_and_leaves_a_clean_terminal(upgrade: Upgrade) -> None:
    first, second, third = upgrade.order
    terminal = upgrade.on_terminal()
    terminal.until(lambda: shown(terminal, f"replace web@{first}, Wait for the gate"), "the first job")
    panel = terminal.panel
    assert panel[0].startswith("RUN 1 (upgrade) in progress since ")
    assert panel[1] == "  3 jobs planned: 1 in flight"
    assert " left (p90 " in panel[2]
    assert panel[3].startswith("  web ▒▒▒▒▒▒▒▒░░░") and panel[3].endswith("0 of 3, 1 out of at most 1")
    assert panel[4].startswith("  in flight for ") and f"of about 1m 10s: replace web@{first}" in panel[4]
    assert panel[5] == f"  web: waits for the budget web (at most 1 instance out at once, 1 out: web@{first})"
    upgrade.open(first)
    terminal.until(lambda: shown(terminal, f"replace web@{second}", "1 of 3", "jobs take 0."), "the second job")
    assert f"web@{first} replaced web:2 in" in terminal.text.replace("replaced 2", "replaced web:2")
    with Journal(upgrade.journal, create=False) as journal:
        journal.request("pause")
    terminal.until(lambda: shown(terminal, "paused by"), "the pause")
    upgrade.open(second)
    terminal.until(lambda: shown(terminal, "2 of 3", "web: waits for the run to resume"), "the end of the second job")
    with Journal(upgrade.journal, create=False) as journal:
        journal.request("resume")
    terminal.until(lambda: shown(terminal, f"replace web@{third}"), "the third job")
    assert not shown(terminal, "paused by")
    upgrade.open()
    assert terminal.end() == 0, terminal.text
    assert terminal.panel == []
    assert terminal.all_scrolls
    lines = [line for line in terminal.text.splitlines() if line]
    for host in upgrade.order:
        assert f"Hello from {host}" in lines
        assert sum(f" web@{host} replaced" in line for line in lines) == 1
    assert "4 hosts in " in lines[-1]
    assert not any("Wait for the gate" in line for line in lines), "what the view has shown is no line of its own"


def test_the_terminal_is_resized(own: Upgrade) -> None:
    first, *_others = own.order
    terminal = own.on_terminal(say="x" * 300)
    terminal.until(lambda: shown(terminal, f"replace web@{first}, Wait for the gate"), "the first job")
    for columns, lines in ((60, 40), (140, 20), (45, 16)):
        terminal.resize(columns, lines)
        terminal.until(lambda: whole(terminal), f"one view at the bottom of {columns} x {lines}")
    terminal.resize(80, 12)
    terminal.until(lambda: terminal.all_scrolls and not terminal.panel, "lines alone on a tiny terminal")
    terminal.resize(100, 30)
    terminal.until(lambda: shown(terminal, f"replace web@{first}, Wait for the gate"), "the view again")
    own.open()
    assert terminal.end() == 0, terminal.text
    assert terminal.all_scrolls and not terminal.panel


def test_much_output_stays_whole(own: Upgrade) -> None:
    flood = [f"line {number} of many" for number in range(400)]
    terminal = own.on_terminal(say="\n".join(flood))
    terminal.until(lambda: shown(terminal, f"replace web@{own.order[0]}"), "the view")
    own.open()
    assert terminal.end() == 0, terminal.text
    assert [line for line in terminal.text.splitlines() if line.startswith("line ")] == flood * 3


def test_a_question_is_asked_and_answered(upgrade: Upgrade) -> None:
    terminal = upgrade.on_terminal(ask=True)
    terminal.until(lambda: terminal.panel and "Go on, or not" in terminal.text, "the question beside the view")
    drawn = terminal.raw.count(b"\x1b7")
    terminal.until(lambda: terminal.raw.count(b"\x1b7") > drawn + 2, "the view to be drawn again")
    terminal.type("quite so\n")
    terminal.until(lambda: "The answer was quite so" in terminal.text, "the answer")
    [asked] = [line for line in terminal.text.splitlines() if "Go on, or not" in line]
    assert asked.endswith("quite so")
    upgrade.open()
    assert terminal.end() == 0, terminal.text


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c(upgrade: Upgrade, times: int) -> None:
    first, second, _third = upgrade.order
    terminal = upgrade.on_terminal()
    terminal.until(lambda: shown(terminal, f"replace web@{first}, Wait for the gate"), "the first job")
    terminal.type("\x03")
    terminal.until(lambda: shown(terminal, "stopped: interrupted by Ctrl-C; nothing more begins"), "the interrupt")
    if times == 2:
        terminal.type("\x03")
        assert terminal.end() != 0
    else:
        upgrade.open(first)
        terminal.end()
        assert f"Not begun (interrupted by Ctrl-C): replace web@{second}" in terminal.text.replace("\n", "")
    assert terminal.all_scrolls and not terminal.panel


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"CI": "true"}, {"RONDO_UPGRADE_LIVE": "false"}])
def test_lines_where_a_terminal_can_not_or_shall_not(own: Upgrade, environment: dict[str, str]) -> None:
    own.environment.update(environment, ANSIBLE_NOCOLOR="1")
    own.open()
    terminal = own.on_terminal()
    assert terminal.end() == 0, terminal.text
    assert b"\x1b" not in terminal.raw
    for host in own.order:
        assert f"web@{host} replace begins" in terminal.text
        assert f"{host}: job : Wait for the gate: changed" in terminal.text
        assert f"web@{host} replaced" in terminal.text


def test_lines_in_a_pipe(own: Upgrade) -> None:
    own.open()
    output = own.in_pipe()
    assert "\x1b" not in output and "─" not in output
    assert all(f"web@{host} replace begins" in output for host in own.order)


def test_no_colours_where_none_are_wanted(own: Upgrade) -> None:
    first, *_others = own.order
    own.environment.update(NO_COLOR="1", ANSIBLE_NOCOLOR="1")
    terminal = own.on_terminal()
    terminal.until(lambda: shown(terminal, f"replace web@{first}"), "the view")
    own.open()
    assert terminal.end() == 0, terminal.text
    assert set(re.findall(rb"\x1b\[([0-9;]*)m", terminal.raw)) <= {b"0", b"1", b"2"}, "bold and faint are no colours"


def test_lines_where_rich_is_missing(upgrade: Upgrade) -> None:
    upgrade.module("rich/__init__.py", "raise ImportError('no rich here')\n")
    upgrade.open()
    terminal = upgrade.on_terminal()
    assert terminal.end() == 0, terminal.text
    assert "replace begins" in terminal.text
    assert b"\x1b7" not in terminal.raw


def test_a_view_that_breaks_harms_nothing(own: Upgrade) -> None:
    own.module("rich/__init__.py", "")
    own.module("rich/text.py", "Text = None\n")
    own.module("rich/console.py", "def Console(**options): raise RuntimeError('broken on purpose')\n")
    terminal = own.on_terminal()
    terminal.until(lambda: "broken on purpose" in terminal.text.replace("\n", ""), "the warning")
    own.open()
    assert terminal.end() == 0, terminal.text
    assert terminal.text.replace("\n", "").count("broken on purpose") == 1
    assert terminal.all_scrolls and not terminal.panel
    assert all(f"web@{host} replaced" in terminal.text for host in own.order)


def test_lines_under_ansible_runner(own: Upgrade) -> None:
    """It puts the stdout callback into one of its own, and reads what that writes from a terminal."""
    own.open()
    own.command()
    private = own.folder / "private"
    private.mkdir()
    runner = ansible_runner.run(
        private_data_dir=str(private),
        project_dir=str(own.folder),
        inventory=str(own.folder / "inventory"),
        playbook="playbook.yml",
        cmdline=f"-e @{own.folder}/variables.json",
        envvars={**own.environment, "ANSIBLE_NOCOLOR": "1"},
        quiet=True,
    )
    output = runner.stdout.read()
    assert runner.rc == 0, output
    assert "\x1b7" not in output and "shows nothing more" not in output
    assert all(f"web@{host} replaced" in output for host in own.order)
