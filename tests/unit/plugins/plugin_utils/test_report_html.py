# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
import importlib.util
import itertools
import json
import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._report_html import MOST_ROWS, TEMPLATE, Axis, html

SPEC = importlib.util.spec_from_file_location("rondo_sample_report", Path(__file__).with_name("sample_report.py"))
assert SPEC is not None and SPEC.loader is not None
sample = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(sample)

VOID = {"meta", "link", "br"}
HOSTILE = "</title></script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}"
VERDICTS = ("clean", "done", "so_far", "failed", "regressed", "nothing")


class Page(HTMLParser):
    """Elements with their attributes, and the text; fails where tags don't match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def at(report: Any, path: str) -> Any:
    for step in path.split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        report = report[int(key)] if isinstance(report, list) else report[key]
    return report


def texts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a text in a value: its container and its key."""
    rows = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, found in list(rows):
        if isinstance(found, str):
            yield value, key
        else:
            yield from texts(found)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_it_is_whole_and_loads_nothing(verdict: str) -> None:
    text = html(getattr(sample, verdict)())
    page = Page(text)
    assert not page.all("script") and not page.all("img") and not page.all("iframe")
    assert [link["href"] for link in page.all("link")] == ["data:,"]
    assert {link["href"] for link in page.all("a")} == {"report.json", "junit.xml"}
    assert not re.search(r"url\(|@import|javascript:|\son\w+=", text)
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy is not None and policy.startswith("default-src 'none'")


@pytest.mark.parametrize("verdict", VERDICTS)
def test_its_figures_are_those_of_the_report(verdict: str) -> None:
    report = getattr(sample, verdict)()
    figures = [attributes for _, attributes in Page(html(report)).elements if "data-figure" in attributes]
    assert len(figures) > 2
    for figure in figures:
        assert json.loads(figure["data-value"] or "") == at(report, figure["data-figure"] or ""), figure


@pytest.mark.parametrize("verdict", VERDICTS)
def test_what_is_read_there_is_what_the_report_has(verdict: str) -> None:
    report = getattr(sample, verdict)()
    shown = re.findall(r'<span data-figure="(.*?)" data-value=".*?">(.*?)</span>', html(report))
    assert len(shown) > 2
    for path, text in shown:
        value = at(report, unescape(path))
        assert sample.understood(path, unescape(text), value), (path, text, value)


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("requests/sent", "1,921", 1920),
        ("requests/sent", "–", 0),
        ("latency_ms/p99", "128 ms", 12.8),
        ("latency_ms/p99", "1.3 s", 1500.0),
        ("makespan_seconds", "1m 19s", 139.4),
        ("instances/0/began", "20:26:48", "2026-05-28T20:26:47.600+00:00"),
    ],
)
def test_a_wrong_figure_is_not_understood(path: str, text: str, value: Any) -> None:
    assert not sample.understood(path, text, value)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_what_scrolls_can_be_reached_and_has_a_name(verdict: str) -> None:
    regions = [div for div in Page(html(getattr(sample, verdict)())).all("div") if div.get("class") == "scroll"]
    assert all((div["tabindex"], div["role"]) == ("0", "region") for div in regions)
    names = [div["aria-label"] for div in regions]
    assert names and all(names) and len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ("clean", "✓ Clean Everything is done and no request failed."),
        ("done", "! Done, but not proven Everything is done. What keeps it from being called clean: probe: none ran"),
        ("failed", "✗ Failed The run is not clean. replace keystone@ctl3: failed (Ask it directly: http://192.0.2.13"),
        ("nothing", "Nothing was ever run with this journal."),
    ],
)
def test_the_verdict_comes_first(verdict: str, said: str) -> None:
    page = Page(html(getattr(sample, verdict)()))
    body = page.text[page.text.index("Upgrade report") :]
    assert said in body
    assert body.index(said) < body.index("Versions and digests")
    assert "Planned and actual" not in body[: body.index(said)]


def test_what_a_clean_run_shows() -> None:
    report = sample.clean()
    page = Page(html(report))
    for said in ("Requests sent 1,920", "retried 1", "Longest gap without a success 0.2s", "forecast 1m 12s"):
        assert said in page.text
    for said in ("the counts agree: the probe saw no request fail, HAProxy counted no failure", "3/n"):
        assert said in page.text
    assert "keystone.rondo-kept-always-3f1c0b2a9d8e" in page.text
    assert "What failed" not in page.text
    tracks = [svg["aria-label"] for svg in page.all("svg") if svg.get("class") == "track"]
    assert tracks[0] == "planned 0s to 6s, went 0s to 7.5s, done"
    assert len(tracks) == 8


def test_what_a_failed_run_shows() -> None:
    page = Page(html(sample.failed()))
    for said in ("What failed", "replace keystone@ctl2 not begun", "status 503, not 201", "Not as declared"):
        assert said in page.text
    assert "the counts disagree: the probe saw 12 requests fail, HAProxy counted no failure" in page.text
    assert sum("fault" in (rect.get("class") or "") for rect in page.all("rect")) == 3 + 1  # the legend's
    tracks = [svg["aria-label"] or "" for svg in page.all("svg") if svg.get("class") == "track"]
    assert [track.rpartition(", ")[2] for track in tracks] == ["done"] * 4 + ["failed"] + ["not begun"] * 3


def test_hostile_text_stays_text() -> None:
    report = json.loads(json.dumps(sample.failed()))
    for holder, key in texts(report):
        if key not in ("verdict", "began", "ended", "started", "at", "kind", "outcome"):
            holder[key] = HOSTILE
    report["versions"]["haproxy"] = {HOSTILE: HOSTILE}
    report["requests"]["kinds"] = {HOSTILE: report["requests"]["kinds"]["token_issue"]}
    page = Page(html(report))
    assert not page.all("script") and not page.all("img")
    assert not [attributes for _, attributes in page.elements if "onerror" in attributes]
    assert HOSTILE in "".join(page.texts)
    for _, attributes in page.elements:
        if "data-figure" in attributes:
            assert json.loads(attributes["data-value"] or "") == at(report, attributes["data-figure"] or "")


def test_every_verdict_without_optional_parts() -> None:
    for verdict in ("clean", "failed"):
        report = copy.deepcopy(getattr(sample, verdict)())
        for key in (
            "over_time",
            "kinds",
            "began",
            "ended",
            "probe_late_ms",
            "proves",
            "retried",
            "longest_gap_seconds",
        ):
            report["requests"].pop(key, None)
        report["forecast"] = {}
        assert "Requests and latency over time" not in Page(html(report)).text


def test_a_probe_that_sent_nothing() -> None:
    report = copy.deepcopy(sample.clean())
    none = {"p50": None, "p99": None, "max": None}
    report["requests"]["over_time"]["buckets"] = [
        {"after_seconds": 0, "sent": 0, "failed": 0, "retried": 0, "latency_ms": none}
    ]
    report["latency_ms"] = none
    assert "Latency, 99 % –" in Page(html(report)).text


def test_a_large_fleet_stays_a_page() -> None:
    report = copy.deepcopy(sample.clean())
    report["timeline"] = [{**report["timeline"][1], "id": f"replace nova@c{number}"} for number in range(5000)]
    report["instances"] = [{**report["instances"][1], "name": f"nova@c{number}"} for number in range(5000)]
    report["timeline"][4000] = {**report["timeline"][4000], "outcome": "failed"}
    text = html(report)
    page = Page(text)
    tracks = [svg for svg in page.all("svg") if svg.get("class") == "track"]
    assert (tracks[0]["aria-label"] or "").endswith("failed")
    assert len(tracks) == MOST_ROWS
    for noun in ("jobs", "instances"):
        assert f"And 4700 more {noun}: see report.json." in page.text
    assert len(text) < 1_000_000


def test_structure_for_those_who_do_not_see_it() -> None:
    page = Page(html(sample.failed()))
    assert page.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.elements if tag in ("h1", "h2", "h3")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(cell["scope"] in ("col", "row") for cell in page.all("th"))
    for svg in page.all("svg"):
        named = svg.get("role") == "img" and svg.get("aria-label")
        assert named or svg.get("aria-hidden") == "true" or "viewbox" in svg
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("length", "labels"),
    [
        (96.0, ["0s", "20s", "40s", "1m 00s", "1m 20s"]),
        (4.0, ["0s", "1s", "2s", "3s", "4s"]),
        (7300.0, ["0s", "30m 00s", "1h 00m", "1h 30m", "2h 00m"]),
    ],
)
def test_ticks_are_round(length: float, labels: list[str]) -> None:
    assert [label for _, label in Axis(1e9, 1e9 + length, 1e9).ticks] == labels


def test_ticks_count_from_zero_and_are_few_at_any_length() -> None:
    assert [label for _, label in Axis(70.0, 150.0, 100.0).ticks] == ["−20s", "0s", "20s", "40s"]
    for power in range(-3, 9):
        assert 1 <= len(Axis(0.0, 3 * 10.0**power, 0.0).ticks) <= 6


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_contrast(scheme: int) -> None:
    blocks = re.findall(r":root \{(.*?)\}", TEMPLATE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", blocks[scheme]))
    on_paper = [(name, "paper") for name in ("ink", "faint", "good", "bad", "actual")]
    on_card = [(name, "card") for name in ("ink", "faint", "bad")]
    on_verdict = [(name, f"{kind}-paper") for kind in ("good", "warn", "bad") for name in (kind, "ink")]
    for front, back in on_paper + on_card + on_verdict:
        light, dark = sorted((_luminance(colours[front]), _luminance(colours[back])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (front, back)
    for front in ("planned", "out", "p50", "p99"):
        light, dark = sorted((_luminance(colours[front]), _luminance(colours["paper"])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3, front
