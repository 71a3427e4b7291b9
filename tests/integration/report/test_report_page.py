# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's page in a real browser."""

from __future__ import annotations

import importlib.util
import json
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from browser import Browser

from ansible_collections.rondo.upgrade.plugins.plugin_utils._report_html import html

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = ROOT / "tests/unit/plugins/plugin_utils/sample_report.py"
SPEC = importlib.util.spec_from_file_location("rondo_sample_report", SAMPLE)
assert SPEC is not None and SPEC.loader is not None
sample = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(sample)

VERDICTS = ("clean", "done", "so_far", "failed", "regressed", "nothing")
PHONE = {"width": 360, "height": 740, "mobile": True}
# Installing takes a download of 100 MB where none is there.
INSTALL_PATIENCE = 1800


@pytest.fixture(scope="module")
def program() -> str:
    found = subprocess.run(
        [str(ROOT / "tools/browser")],
        capture_output=True,
        text=True,
        timeout=INSTALL_PATIENCE,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert found.returncode == 0, f"no browser to test with:\n{found.stderr}"
    return found.stdout.strip()


@pytest.fixture(scope="module")
def browser(program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(program, tmp_path_factory.mktemp("browser") / "profile") as started:
        yield started


@pytest.fixture(params=VERDICTS)
def opened(browser: Browser, tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    """The report that the browser shows."""
    report: dict[str, Any] = getattr(sample, request.param)()
    show(browser, tmp_path, report)
    return report


def show(browser: Browser, folder: Path, report: dict[str, Any]) -> None:
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    page = folder / "index.html"
    page.write_text(html(report), encoding="utf-8")
    browser.look(1200, 900)
    browser.open(page.as_uri())


def at(report: Any, path: str) -> Any:
    for step in path.split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        report = report[int(key)] if isinstance(report, list) else report[key]
    return report


def colour(browser: Browser, selector: str, of: str) -> tuple[int, ...]:
    text = browser.value(f"getComputedStyle(document.querySelector({json.dumps(selector)})).{of}")
    return tuple(map(int, re.findall(r"\d+", text)[:3]))


def test_it_renders_without_an_error_and_without_the_network(browser: Browser, opened: dict[str, Any]) -> None:
    # A call goes to the page and back: what it did at loading has been told by then.
    assert browser.value("document.readyState") == "complete"
    told = [event for event in browser.events if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
    told += [event for event in browser.events if event["method"] == "Runtime.consoleAPICalled"]
    assert told == []
    asked = [
        event["params"]["request"]["url"] for event in browser.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith("data:")] == [browser.value("document.URL")]
    assert browser.value("document.compatMode") == "CSS1Compat"
    assert browser.value("document.querySelector('.verdict').getBoundingClientRect().height") > 40


def test_its_figures_are_those_of_report_json(browser: Browser, opened: dict[str, Any]) -> None:
    figures = json.loads(
        browser.value(
            "JSON.stringify([...document.querySelectorAll('[data-figure]')].map("
            "element => [element.dataset.figure, element.dataset.value, element.textContent, element.tagName]))"
        )
    )
    assert len(figures) > 2
    for path, value, text, tag in figures:
        assert json.loads(value) == at(opened, path), path
        # The others are sections, with more in them.
        assert tag != "SPAN" or sample.understood(path, text, at(opened, path)), (path, text)
    assert {path: text for path, _, text, _ in figures}["summary"] == opened["summary"]


def test_the_texts_are_the_figures(browser: Browser, tmp_path: Path) -> None:
    report = sample.failed()
    show(browser, tmp_path, report)
    text = " ".join(browser.value("document.body.innerText").split())
    assert f"Requests sent {report['requests']['sent']:,} Requests failed {report['requests']['failed']}" in text
    for row in report["instances"]:
        assert row["name"] in text and row["to"] in text
    for reason in report["reasons"]:
        assert reason in text


def test_nothing_runs_off_a_phone(browser: Browser, opened: dict[str, Any]) -> None:
    browser.look(**PHONE)
    assert browser.value("document.documentElement.clientWidth") == PHONE["width"]
    assert browser.value("document.documentElement.scrollWidth") == PHONE["width"]
    wide = browser.value(
        "[...document.querySelectorAll('main *, footer *')].filter(element => !element.closest('svg, .scroll') "
        "&& element.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(e => e.outerHTML)"
    )
    assert wide == []
    small = browser.value(
        "Math.min(...[...document.querySelectorAll('main *, footer *')]"
        ".map(element => parseFloat(getComputedStyle(element).fontSize)))"
    )
    assert small >= 12


def test_hostile_names_stay_on_a_phone(browser: Browser, tmp_path: Path) -> None:
    report = sample.failed()
    long = "x" * 300
    hostile = "<img src=x onerror=console.log(1)>" + long
    for row in (*report["timeline"], *report["instances"]):
        for key in ("id", "name", "to", "kept", "reason"):
            if key in row:
                row[key] = hostile
    report["reasons"] = report["differences"] = [hostile]
    report["failures"][0]["url"] = hostile
    show(browser, tmp_path, report)
    browser.look(**PHONE)
    assert browser.value("document.documentElement.scrollWidth") == PHONE["width"]
    assert browser.value("document.images.length") == 0
    assert [event for event in browser.events if event["method"] == "Runtime.consoleAPICalled"] == []


def test_dark_where_that_is_wanted(browser: Browser, opened: dict[str, Any]) -> None:
    def brightness(of: str) -> int:
        return sum(colour(browser, "body", of))

    assert brightness("backgroundColor") > 600 > 200 > brightness("color")
    browser.look(1200, 900, dark=True)
    assert brightness("backgroundColor") < 200 < 600 < brightness("color")


def test_paper_is_light_also_for_those_who_like_it_dark(browser: Browser, tmp_path: Path) -> None:
    show(browser, tmp_path, sample.failed())
    # As wide as A4 between its margins.
    browser.look(718, 1000, dark=True, media="print")
    cut = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).length"
    assert browser.value(cut) == 0
    assert sum(colour(browser, "body", "backgroundColor")) > 600
    printed = browser.pdf()
    assert printed.startswith(b"%PDF-") and len(printed) > 10_000


def test_bars_stand_where_the_times_are(browser: Browser, tmp_path: Path) -> None:
    report = sample.clean()
    show(browser, tmp_path, report)
    bars = json.loads(
        browser.value(
            "JSON.stringify([...document.querySelectorAll('svg.track')]"
            ".map(track => ['planned', 'actual'].map(name => {"
            " const bar = track.querySelector('.' + name).getBoundingClientRect(), box = track.getBoundingClientRect();"
            " return [(bar.left - box.left) / box.width, bar.width / box.width] })))"
        )
    )
    assert len(bars) == len(report["timeline"])
    (base, first) = (bars[0][0][0], bars[0][1][0])
    assert base == pytest.approx(first, abs=0.01)
    # One job of known length gives the scale; the others must keep to it.
    scale = bars[1][0][1] / 18.0
    for row, (planned, _) in zip(report["timeline"], bars, strict=True):
        assert planned[0] == pytest.approx(base + row["planned"]["start"] * scale, abs=0.01)
        assert planned[1] == pytest.approx((row["planned"]["end"] - row["planned"]["start"]) * scale, abs=0.01)


def test_a_picture_of_it_is_not_blank(browser: Browser, opened: dict[str, Any]) -> None:
    picture = browser.picture(whole=False)
    assert picture.startswith(b"\x89PNG")
    assert struct.unpack(">II", picture[16:24]) == (1200, 900)
    assert len(picture) > 5000
