# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as text and as a page tell what report.json tells."""

from __future__ import annotations

import html
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import sample_report

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _report, _report_html, _report_junit
from ansible_collections.rondo.upgrade.plugins.plugin_utils._page import duration

REPORTS = {
    "clean": sample_report.clean,
    "done": sample_report.done,
    "so_far": sample_report.so_far,
    "failed": sample_report.failed,
    "regressed": sample_report.regressed,
}


def squeezed(text: str) -> str:
    """Without white space, and without the commas between thousands."""
    return re.sub(r"(?<=\d),(?=\d{3})", "", re.sub(r"\s+", "", text))


def facts(report: dict[str, Any]) -> Iterator[str]:
    """What a reader must find, by whatever layout."""
    yield report["summary"]
    yield from report["reasons"]
    yield duration(report["makespan_seconds"])
    yield duration(report["forecast"]["makespan"])
    yield report["run"]["outcome"]
    if requests := report["requests"]:
        yield from (str(requests[key]) for key in ("sent", "failed", "retried"))
        yield from (f"{latency[key]:.0f}" for latency in [report["latency_ms"] or {}] for key in latency)
        yield requests.get("proves", {}).get("text", "")
        for kind, row in requests.get("kinds", {}).items():
            yield from (kind, str(row["sent"]), str(row["failed"]))
            yield from (f"{latency:.0f}" for latency in row["latency_ms"].values())
        yield from (failure["reason"] for failure in report["failures"][:3])
    yield report["counts"]["note"]
    yield from (source["note"] for source in report["counts"]["sources"])
    for name, row in report["haproxy"]["by_balancer"].items():
        yield from (name, str(row["hrsp_5xx"]), str(row["econ"]), str(row["wretr"]))
    if report["access_logs"]:
        yield from (str(report["access_logs"]["requests"]), str(report["access_logs"]["failed"]))
    for row in report["held"]:
        yield from (row["service"], row["said"])
    if report["tests"]:
        yield from (f"{number} {kind}" for kind, number in report["tests"]["counted"].items() if number > 1)
        for row in report["tests"]["changes"]:
            yield from (row["suite"], row["name"], row["class"], row["message"])
    for row in report["artifacts"]:
        yield from (row["service"], row["artifact"], row["digest"], str(row["instances"]))
    if out := report["longest_out_of_rotation"]:
        yield f"{'at least' if out['still_out'] else ''} {duration(out['seconds'])}"
    for row in report["instances"]:
        yield from (row["name"], row["from"], row["to"], row["outcome"])
        if row["kept"]:
            yield row["kept"]
            if row["outcome"] == "done":
                yield row["until"]
        if row["seconds_out_of_rotation"] is not None:
            yield duration(row["seconds_out_of_rotation"])
    yield from (row["id"] for row in report["timeline"])
    yield from report["differences"]
    yield report["versions"]["ansible_core"]
    yield from report["versions"]["haproxy"].values()
    yield from report["versions"]["engine"]
    yield from (digest[:12] for digest in report["digests"].values())


@pytest.mark.parametrize("name", REPORTS)
def test_text_and_page_tell_what_the_json_does(name: str) -> None:
    report = REPORTS[name]()
    assert json.loads(json.dumps(report)) == report
    # What is written on the page: without its styles and tags.
    visible = re.sub(r"<[^>]*>", " ", re.sub(r"(?s)<(style|head)\b.*?</\1>", " ", _report_html.html(report)))
    views = {"text": squeezed(_report.page(report)), "page": squeezed(html.unescape(visible))}
    for where, view in views.items():
        missing = [fact for fact in facts(report) if squeezed(fact) not in view]
        if where == "text":
            # A job with an instance is told by its instance.
            names = {f"replace {row['name']}" for row in report["instances"]}
            missing = [fact for fact in missing if fact not in names]
        assert missing == [], where


@pytest.mark.parametrize("name", REPORTS)
def test_the_last_line_is_the_summary(name: str) -> None:
    report = REPORTS[name]()
    assert _report.page(report).splitlines()[-1] == report["summary"]
    assert "\n" not in report["summary"]


def test_junit_tells_what_failed() -> None:
    report = sample_report.failed()
    told = html.unescape(_report_junit.junit(report))
    for row in report["timeline"]:
        assert row["id"] in told
    for difference in report["differences"]:
        assert difference in told
