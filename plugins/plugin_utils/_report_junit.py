# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report as JUnit XML, which CI systems show: a test case for each job, check, test that changed, and count."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, SubElement, indent, tostring

# XML 1.0 has no way to write these, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _Case(NamedTuple):
    """`outcome` is passed, failed or skipped."""

    name: str
    outcome: str
    why: str = ""
    seconds: float = 0.0


def junit(content: Mapping[str, Any]) -> str:
    """The XML document of a report (report.json's values)."""
    root = Element("testsuites", name="rondo.upgrade")
    for name, cases in (
        ("jobs", _jobs(content)),
        ("verify", _checks(content)),
        ("tests", _tests(content)),
        ("requests", _requests(content)),
    ):
        _suite(root, name, cases)
    for key in ("tests", "failures", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(root, encoding="unicode")}\n'


def _suite(root: Element, name: str, cases: Iterable[_Case]) -> None:
    found = list(cases)
    outcomes = [case.outcome for case in found]
    suite = SubElement(
        root,
        "testsuite",
        name=name,
        tests=str(len(found)),
        failures=str(outcomes.count("failed")),
        errors="0",
        skipped=str(outcomes.count("skipped")),
        time=f"{sum(case.seconds for case in found):.3f}",
    )
    for case in found:
        name = f"rondo.upgrade.{suite.get('name')}"
        row = SubElement(suite, "testcase", classname=name, name=_legal(case.name), time=f"{case.seconds:.3f}")
        if case.outcome == "failed":
            SubElement(row, "failure", message=_legal(case.why)).text = _legal(case.why)
        elif case.outcome == "skipped":
            SubElement(row, "skipped", message=_legal(case.why))


def _legal(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)


def _jobs(content: Mapping[str, Any]) -> Iterator[_Case]:
    for row in content["timeline"]:
        outcome = {"done": "passed", "not begun": "skipped", "skipped": "skipped"}.get(row["outcome"], "failed")
        seconds = 0.0
        if row["began"] and row["ended"]:
            seconds = (datetime.fromisoformat(row["ended"]) - datetime.fromisoformat(row["began"])).total_seconds()
        yield _Case(row["id"], outcome, ": ".join(filter(None, (row["outcome"], row["reason"]))), max(0.0, seconds))


def _checks(content: Mapping[str, Any]) -> Iterator[_Case]:
    for check in content["checks"]:
        why = "\n".join(check["differences"])
        yield _Case(f"{check['name']} is as declared", "failed" if why else "passed", why)


def _tests(content: Mapping[str, Any]) -> Iterator[_Case]:
    """Only a regression fails: what failed before is somebody else's, and shown as skipped."""
    tests = content["tests"]
    if not tests or not tests["has_baseline"]:
        return
    outcomes = {"regression": "failed", "fixed": "passed"}
    for row in tests["changes"]:
        why = f"{row['class']}: {row['message']}"
        yield _Case(f"{row['suite']}: {row['name']}", outcomes.get(row["class"], "skipped"), why)
    outcome = "failed" if content["regressions"] else "passed"
    yield _Case("nothing has regressed", outcome, f"{len(content['regressions'])} regressions")


def _requests(content: Mapping[str, Any]) -> Iterator[_Case]:
    for source in content["counts"]["sources"]:
        outcome = "failed" if source["failed"] else "passed" if source["of"] else "skipped"
        yield _Case(f"no failure by the count of {source['name']}", outcome, source["said"] or source["note"])
    agree = content["counts"]["agree"]
    outcome = {None: "skipped", True: "passed", False: "failed"}[agree]
    yield _Case("the counts agree", outcome, content["counts"]["note"])
