# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs declared suites on the controller: commands (pytest is one), what they leave as JUnit XML, and records."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from . import _keystone_records
from ._orchestration._regression import Moment, Outcome, Result
from ._orchestration._suites import Suite
from ._page import duration

# What a suite's command finds in its environment.
MOMENT, DIRECTORY = "RONDO_MOMENT", "RONDO_DIRECTORY"
RAN = "it ran to its end"
_MOST_TEXT = 2000


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`folder`: where suites leave their files. `inventory`: as given to ansible-playbook. `python`: what runs pytest.
    `base`: where relative paths begin."""

    folder: Path
    inventory: Sequence[str]
    python: str
    base: Path


def run(suite: Suite, moment: Moment, where: Surroundings) -> list[Result]:
    """The results of a suite. It never raises: a suite that can't be run has failed."""
    service = suite.services[0] if len(suite.services) == 1 else ""
    if suite.kind == "keystone":
        file = where.folder / suite.name / "records.json"
        return list(_keystone_records.run(suite.name, service, suite.options, moment, file))
    folder = where.folder / suite.name / moment
    folder.mkdir(parents=True, exist_ok=True)
    words, junit = _words(suite, where, folder)
    chdir = where.base / (suite.options["chdir"] or ".")
    environment = {
        **os.environ,
        **_pytest(suite, where),
        **suite.options["environment"],
        MOMENT: moment,
        DIRECTORY: str(folder),
    }
    began = time.time()
    code, why = _run(words, chdir, environment, folder / "output.txt", suite.timeout)
    tests = [] if junit is None else [*_read(suite, service, chdir, junit, began)]
    return [_ran(suite, service, code, why, tests, junit, folder / "output.txt", time.time() - began), *tests]


def _words(suite: Suite, where: Surroundings, folder: Path) -> tuple[list[str], str | None]:
    """The command, and where it leaves JUnit XML (None: nowhere)."""
    options = suite.options
    if suite.kind == "command":
        command = options["command"]
        junit = options["junit"]
        return shlex.split(command) if isinstance(command, str) else list(command), junit and junit.replace(
            "{directory}", str(folder)
        )
    report = folder / "junit.xml"
    group = options["hosts"]
    return [
        options["python"] or where.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}",
        f"--hosts=ansible://{group}", "--force-ansible", *options["testinfra"],
    ], str(report)  # fmt: skip


def _pytest(suite: Suite, where: Surroundings) -> dict[str, str]:
    if suite.kind != "testinfra":
        return {}
    # testinfra asks the program `ansible`, which is beside Python also where the virtual environment is not activated.
    found = os.pathsep.join([str(Path(where.python).parent), os.environ.get("PATH", os.defpath)])
    return {"ANSIBLE_INVENTORY": ",".join(where.inventory), "PATH": found, "PYTHONDONTWRITEBYTECODE": "1"}


def _run(
    words: Sequence[str], chdir: Path, environment: Mapping[str, str], output: Path, timeout: float
) -> tuple[int | None, str]:
    """The exit code, None with a reason where there is none."""
    with output.open("wb") as stream:
        try:
            process = subprocess.Popen(
                words,
                cwd=chdir,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return None, f"it can't be started: {error}"
        try:
            return process.wait(timeout), ""
        except subprocess.TimeoutExpired:
            return None, f"it did not end within {duration(timeout)}, and was killed"
        finally:
            # Whatever it has left running is of this test, and must not disturb what follows.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _ran(
    suite: Suite,
    service: str,
    code: int | None,
    why: str,
    tests: Sequence[Result],
    junit: str | None,
    output: Path,
    seconds: float,
) -> Result:
    """Whether the suite itself went well: a test that failed explains an exit code, nothing else does."""
    explained = any(test.outcome == "failed" for test in tests)
    if code is None:
        message = why
    elif code and not explained:
        message = f"it ended with exit code {code}: {_tail(output)}"
    elif junit is not None and not tests:
        message = f"it left no test in {junit}: {_tail(output)}"
    else:
        return Result(suite.name, RAN, "passed", service, f"exit code {code}", round(seconds, 3))
    return Result(suite.name, RAN, "failed", service, f"{message} (see {output})", round(seconds, 3))


def _tail(output: Path) -> str:
    lines = output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return " / ".join(line.strip() for line in lines[-3:])[-300:] or "it wrote nothing"


def _read(suite: Suite, service: str, chdir: Path, junit: str, began: float) -> Iterator[Result]:
    """The tests in the JUnit XML files that were written since `began`."""
    found = chdir / junit
    files = sorted(Path(found.anchor).glob(str(found.relative_to(found.anchor))))
    for file in files:
        # A file's time may be a little behind the clock.
        if file.stat().st_mtime < began - 2:
            continue
        try:
            root = ElementTree.parse(file).getroot()
        except (OSError, ElementTree.ParseError) as error:
            yield Result(suite.name, f"{file.name} can be read", "failed", service, str(error))
            continue
        for case in root.iter("testcase"):
            yield _case(suite, service, case)


def _case(suite: Suite, service: str, case: ElementTree.Element) -> Result:
    name = ".".join(filter(None, (case.get("classname"), case.get("name")))) or "without a name"
    outcome: Outcome = "passed"
    message = ""
    for tag, then in (("skipped", "skipped"), ("error", "failed"), ("failure", "failed")):
        if (found := case.find(tag)) is not None:
            outcome = then  # type: ignore[assignment]
            message = (found.get("message") or found.text or "").strip()[:_MOST_TEXT]
    try:
        seconds = float(case.get("time") or 0)
    except ValueError:
        seconds = None
    return Result(suite.name, name, outcome, service, message, seconds)
