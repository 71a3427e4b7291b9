# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path
from typing import Any

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._regression import Result
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._suites import parse
from ansible_collections.rondo.upgrade.plugins.plugin_utils._suite_run import RAN, Surroundings, run

REPORT = """
from pathlib import Path
Path("{file}").write_text('''<testsuite>
<testcase classname="api" name="good" time="0.5"/>
<testcase classname="api" name="bad"><failure message="404">body</failure></testcase>
<testcase classname="api" name="broken" time="soon"><error>boom</error></testcase>
<testcase name="left out"><skipped message="no nova"/></testcase>
</testsuite>''')
"""


def ran(folder: Path, moment: Any = "before", **declared: Any) -> list[Result]:
    [suite] = parse({"mine": declared}, ("web",)).declared
    return run(suite, moment, Surroundings(folder / "suites", ["hosts"], sys.executable, folder))


def python(script: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(script)]


def test_an_exit_code_is_a_test(tmp_path: Path) -> None:
    [good] = ran(tmp_path, command="true")
    assert (good.suite, good.name, good.outcome) == ("mine", RAN, "passed")
    [bad] = ran(tmp_path, command=python("print('so it is'); raise SystemExit(3)"))
    assert bad.outcome == "failed"
    assert "it ended with exit code 3: so it is (see " in bad.message


def test_junit_xml_has_the_tests(tmp_path: Path) -> None:
    found = ran(tmp_path, command=python(REPORT.format(file="out.xml") + "raise SystemExit(1)"), junit="*.xml")
    assert [(test.name, test.outcome, test.message) for test in found] == [
        (RAN, "passed", "exit code 1"),
        ("api.good", "passed", ""),
        ("api.bad", "failed", "404"),
        ("api.broken", "failed", "boom"),
        ("left out", "skipped", "no nova"),
    ]
    assert found[1].seconds == 0.5


def test_tests_of_an_earlier_time_do_not_count(tmp_path: Path) -> None:
    old = tmp_path / "old.xml"
    old.write_text("<testsuite><testcase name='old'/></testsuite>")
    os.utime(old, (0, 0))
    [found] = ran(tmp_path, command="true", junit="*.xml")
    assert (found.outcome, "it left no test in *.xml" in found.message) == ("failed", True)


def test_a_failing_command_whose_tests_all_passed_has_failed(tmp_path: Path) -> None:
    script = "open('a.xml', 'w').write('<testcase name=\"x\"/>'); raise SystemExit(2)"
    found = ran(tmp_path, command=python(script), junit="a.xml")
    assert [test.outcome for test in found] == ["failed", "passed"]


def test_what_can_not_be_started_or_does_not_end(tmp_path: Path) -> None:
    [missing] = ran(tmp_path, command="/nowhere/tempest run")
    assert (missing.outcome, "it can't be started" in missing.message) == ("failed", True)
    [slow] = ran(tmp_path, command=["sleep", "600"], timeout="300ms")
    assert (slow.outcome, "it did not end within 0.3s, and was killed" in slow.message) == ("failed", True)


def test_a_command_knows_the_moment_and_has_a_folder(tmp_path: Path) -> None:
    script = """
    import os, pathlib
    folder = pathlib.Path(os.environ["RONDO_DIRECTORY"])
    (folder / "tests.xml").write_text(f"<testcase name='{os.environ['RONDO_MOMENT']} {os.environ['CLOUD']}'/>")
    """
    found = ran(tmp_path, "after", command=python(script), junit="{directory}/tests.xml", environment={"CLOUD": "lab"})
    assert [test.name for test in found] == [RAN, "after lab"]


def test_a_report_that_can_not_be_read_has_failed(tmp_path: Path) -> None:
    found = ran(tmp_path, command=python("open('a.xml', 'w').write('<testcase')"), junit="a.xml")
    assert [test.outcome for test in found] == ["passed", "failed"]


def test_testinfra_runs_against_the_inventory(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(f"[web]\nh1 ansible_connection=local ansible_python_interpreter={sys.executable}\n")
    (tmp_path / "test_smoke.py").write_text(
        "def test_root(host):\n    assert host.file('/').is_directory\n\n\n"
        "def test_none(host):\n    assert False, 'no'\n"
    )
    found = ran(tmp_path, testinfra="test_smoke.py", hosts="all", environment={"ANSIBLE_INVENTORY": "hosts"})
    named = {test.name: test.outcome for test in found}
    assert named == {
        RAN: "passed",
        "test_smoke.test_root[ansible://h1]": "passed",
        "test_smoke.test_none[ansible://h1]": "failed",
    }
