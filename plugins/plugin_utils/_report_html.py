# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report as a page for a browser: one file that loads nothing and runs no script.

Here is where things are on the page; what they look like is in _report.html.j2. Horizontal places are per cent of the
width, so that bars stretch with the window while texts keep their size.

Whatever figure of report.json the page shows comes from `figure(path)`: it writes the value beside the text, under the
path where report.json holds it ("requests/sent"), so that a test can compare the two.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from ._page import count, duration
from ._tests_page import told

TEMPLATE = Path(__file__).with_name("_report.html.j2")
MOST_ROWS = 300
_MOST_NUMBERED = 30
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_DECADES = (1, 10, 100, 1000, 10_000, 100_000)


def html(report: Mapping[str, Any]) -> str:
    """The page of a report (report.json's values)."""
    jobs = list(dict(_most(report["timeline"])).values())
    zero = _zero(report)
    went, probed = _span(report, zero), _probed(report)
    both = Axis(min(went.begin, probed.begin), max(went.end, probed.end), zero) if probed else went
    # A probe that ran for hours around a short run would leave only slivers of the jobs.
    axis = both if both.length <= 3 * went.length else went
    return _template().render(
        report=report,
        figure=functools.partial(_figure, report),
        axis=axis,
        zero=datetime.fromtimestamp(zero, UTC) if zero else None,
        bars=[_bar(number, row, axis, zero) for number, row in enumerate(jobs, start=1)],
        most=MOST_ROWS,
        chart=_chart(report, jobs, both, zero) if probed else None,
        failed_jobs=[row for row in report["timeline"] if row["outcome"] != "done"],
        instances=_most(report["instances"]),
        kept=[(number, row) for number, row in _most(report["instances"]) if row["kept"]],
    )


@dataclass(frozen=True)
class Axis:
    """A stretch of time (seconds since the epoch) as the width of the page. Labels count from `zero`."""

    begin: float
    end: float
    zero: float

    @property
    def length(self) -> float:
        return max(self.end - self.begin, 0.001)

    def place(self, moment: float) -> float:
        """Per cent from the left."""
        return round(min(100.0, max(0.0, (moment - self.begin) / self.length * 100)), 3)

    def stretch(self, begin: float, end: float) -> tuple[float, float]:
        """Where a bar begins and how wide it is, in per cent; never too thin to be seen."""
        width = max(self.place(end) - self.place(begin), 0.3)
        return min(self.place(begin), 100 - width), round(width, 3)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """At most six, at round distances from zero."""
        step = next((step for step in _STEPS if self.length / step <= 5), math.ceil(self.length / 5 / 86400) * 86400)
        first = math.ceil(round((self.begin - self.zero) / step, 6))
        last = math.floor(round((self.end - self.zero) / step, 6))
        return [(self.place(self.zero + tick * step), _signed(tick * step)) for tick in range(first, last + 1)]


@dataclass(frozen=True)
class Bar:
    """A job on the timeline. Bars are (left, width)."""

    number: int
    row: Mapping[str, Any]
    planned: tuple[float, float] | None
    actual: tuple[float, float] | None
    out: tuple[float, float] | None
    told: str


@dataclass(frozen=True)
class Chart:
    """Requests and latency over time. Paths are drawn in a box of 1000 by 100, y downwards."""

    axis: Axis
    sent: str
    greatest: int
    failed: list[tuple[float, float, float, str]]
    lines: dict[str, str]
    levels: list[tuple[float, str]]
    bands: list[tuple[float, float, str, str]]
    told: str


def _most(rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
    """Rows with their places in the report; of too many for a page those that are not done come first."""
    numbered = list(enumerate(rows))
    if len(rows) > MOST_ROWS:
        numbered.sort(key=lambda row: row[1]["outcome"] == "done")
    return numbered[:MOST_ROWS]


def _signed(seconds: float) -> str:
    return f"−{duration(-seconds)}" if seconds < 0 else duration(seconds)


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _zero(report: Mapping[str, Any]) -> float:
    """When the first job began: where the plan's zero is. Else when the run or the probe did, 0 without either."""
    began = [_epoch(row["began"]) for row in report["timeline"] if row["began"]]
    run = [_epoch(report["run"]["started"])] if report["run"] and report["run"]["started"] else []
    probe = [_epoch(report["requests"]["began"])] if report["requests"] and "began" in report["requests"] else []
    return min(began) if began else (run or probe or [0.0])[0]


def _span(report: Mapping[str, Any], zero: float) -> Axis:
    moments = [zero]
    for row in report["timeline"]:
        moments += [_epoch(row[key]) for key in ("began", "ended") if row[key]]
        if row["planned"]:
            moments += [zero + row["planned"]["end"]]
    return Axis(min(moments), max(moments), zero)


def _probed(report: Mapping[str, Any]) -> Axis | None:
    requests = report["requests"]
    if not requests or not requests.get("over_time", {}).get("buckets") or "began" not in requests:
        return None
    over_time = requests["over_time"]
    began = _epoch(requests["began"])
    return Axis(began, began + len(over_time["buckets"]) * over_time["bucket_seconds"], began)


def _bar(number: int, row: Mapping[str, Any], axis: Axis, zero: float) -> Bar:
    planned = actual = out = None
    told = []
    if row["planned"]:
        start, end = row["planned"]["start"], row["planned"]["end"]
        planned = axis.stretch(zero + start, zero + end)
        told.append(f"planned {duration(start)} to {duration(end)}")
    if row["began"]:
        began = _epoch(row["began"])
        ended = _epoch(row["ended"]) if row["ended"] else axis.end
        actual = axis.stretch(began, ended)
        told.append(f"went {_signed(began - zero)} to {_signed(ended - zero) if row['ended'] else 'unknown'}")
        if row["seconds_out_of_rotation"] is not None:
            out = axis.stretch(began, min(ended, began + row["seconds_out_of_rotation"]))
            told.append(f"out of rotation {duration(row['seconds_out_of_rotation'])}")
    return Bar(number, row, planned, actual, out, ", ".join([*told, row["outcome"]]))


def _chart(report: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]], axis: Axis, zero: float) -> Chart:
    over_time = report["requests"]["over_time"]
    began, wide, buckets = _epoch(report["requests"]["began"]), over_time["bucket_seconds"], over_time["buckets"]
    moments = [began + bucket["after_seconds"] for bucket in buckets]
    greatest = max(1, *(bucket["sent"] for bucket in buckets))
    whole = greatest * 1.15
    steps = "".join(
        f"V{100 - bucket['sent'] / whole * 100:.1f}H{axis.place(moment + wide) * 10:.1f}"
        for moment, bucket in zip(moments, buckets, strict=True)
    )
    failed = [
        (
            *axis.stretch(moment, moment + wide),
            round(bucket["failed"] / whole * 100, 2),
            f"{_signed(moment - zero)}: {bucket['failed']} of {bucket['sent']} failed",
        )
        for moment, bucket in zip(moments, buckets, strict=True)
        if bucket["failed"]
    ]
    replaced = [(n, row) for n, row in enumerate(jobs, start=1) if row["kind"] == "replace" and row["began"]]
    bands = []
    for number, row in replaced:
        start = _epoch(row["began"])
        end = _epoch(row["ended"]) if row["ended"] else axis.end
        if row["seconds_out_of_rotation"] is not None:
            end = start + row["seconds_out_of_rotation"]
        label = str(number) if len(replaced) <= _MOST_NUMBERED else ""
        bands.append((*axis.stretch(start, end), label, f"{number}: {row['id']}"))
    latencies = [bucket["latency_ms"] for bucket in buckets]
    values = [latency[key] for latency in latencies for key in ("p50", "p99", "max") if latency[key]]
    scale = _Scale(min(values, default=1.0), max(values, default=1.0))
    middles = [axis.place(moment + wide / 2) * 10 for moment in moments]
    lines = {
        key: "".join(_line(middles, [latency[key] for latency in latencies], scale)) for key in ("max", "p99", "p50")
    }
    most = max(buckets, key=lambda bucket: bucket["latency_ms"]["p99"] or 0.0)
    worst = most["latency_ms"]["p99"]
    told = (
        f"{count(report['requests']['sent'], 'request')}, {report['requests']['failed']} failed"
        + (f", {count(len(failed), 'bucket')} with failures" if failed else "")
        + (f"; greatest p99 {_milliseconds(worst)} at {_signed(began + most['after_seconds'] - zero)}" if worst else "")
    )
    return Chart(
        axis, f"M{axis.place(moments[0]) * 10:.1f},100{steps}V100", greatest, failed, lines, scale.levels, bands, told
    )


class _Scale:
    """Logarithmic, whole decades: an outage and a good second stay readable beside each other."""

    def __init__(self, least: float, most: float) -> None:
        self.low = math.floor(math.log10(max(least, 0.1)))
        self.high = max(self.low + 1, math.ceil(math.log10(max(most, 0.1))))

    def place(self, value: float) -> float:
        share = (math.log10(max(value, 0.1)) - self.low) / (self.high - self.low)
        return round(100 - min(1.0, max(0.0, share)) * 100, 2)

    @property
    def levels(self) -> list[tuple[float, str]]:
        return [(self.place(10.0**power), _milliseconds(10.0**power)) for power in range(self.low, self.high + 1)]


def _line(places: Sequence[float], values: Sequence[float | None], scale: _Scale) -> Iterator[str]:
    """A path through the values; where there is none it breaks."""
    pen = "M"
    for place, value in zip(places, values, strict=True):
        if value is None:
            pen = "M"
            continue
        # A lone point shows only as a line of no length with round ends.
        yield f"{pen}{place:.1f},{scale.place(value):.1f}" + ("h0" if pen == "M" else "")
        pen = "L"


def _milliseconds(value: float) -> str:
    if value >= 1000:
        return f"{value / 1000:.3g} s"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def _moment(text: str) -> str:
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%H:%M:%S")


_FORMATS: dict[str, Callable[[Any], str]] = {
    "number": lambda value: f"{value:,}",
    "duration": duration,
    "milliseconds": _milliseconds,
    "apart": lambda seconds: _milliseconds(seconds * 1000),
    "moment": _moment,
    "day": lambda value: datetime.fromisoformat(value).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    "text": str,
}


def _figure(report: Mapping[str, Any], path: str, form: str = "text", none: str = "–") -> Markup:
    value: Any = report
    for step in path.split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        value = value[int(key)] if isinstance(value, list) else value[key]
    text = none if value is None or value == "" else _FORMATS[form](value)
    return Markup('<span data-figure="{}" data-value="{}">{}</span>').format(path, _data(value), text)


def _data(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@functools.cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    # A step of a path, escaped as in a JSON pointer: a balancer may be called anything.
    environment.filters["step"] = lambda key: str(key).replace("~", "~0").replace("/", "~1")
    environment.filters |= {
        "count": count,
        "classes": told,
        "data": _data,
        **{name: form for name, form in _FORMATS.items() if name != "text"},
    }
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
