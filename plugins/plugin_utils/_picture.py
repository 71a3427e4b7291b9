# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as a picture: services and what they wait for above, the timeline below. Self-contained SVG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from ._page import count, duration

_WIDTH = 1000
_MARGIN = 20
_BOX = (170, 40)
_BOX_GAP = (34, 14)
_LABEL = 230
_ROW = 20
_MOST_ROWS = 200
_COLOURS = {
    "expand": "#7a5195",
    "switch": "#2a9d8f",
    "replace": "#2f6db5",
    "settle": "#6c757d",
    "migrate": "#bc5090",
    "contract": "#c8553d",
}
_STYLE = """
  text { font: 12px sans-serif; fill: #1b1f24; }
  .title { font-size: 15px; font-weight: bold; }
  .faint { fill: #5b6570; }
  .paper { fill: #ffffff; }
  .box { fill: #eef3f9; stroke: #2f6db5; }
  .idle { fill: #f2f2f2; stroke: #9aa3ad; }
  .line { stroke: #5b6570; fill: none; }
  .grid { stroke: #dde2e8; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e8ebee; } .faint { fill: #a6b0ba; } .paper { fill: #15181c; } .box { fill: #1d2a3a; }
    .idle { fill: #24282d; } .grid { stroke: #343a41; } .line { stroke: #a6b0ba; }
  }
"""


def picture(plan: Mapping[str, Any]) -> str:
    """The SVG document of a plan (plan.json's values)."""
    boxes, top = _dependencies(plan["services"], {job["service"] for job in plan["jobs"]})
    bars, height = _timeline(plan["jobs"], top + 30)
    title = f"{count(len(plan['jobs']), 'job')}, about {duration(plan['forecast']['makespan'])}"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
        f' role="img" aria-label={quoteattr("Plan: " + title)}>'
    )
    parts = [
        head,
        f"<title>{escape('Plan: ' + title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{_WIDTH}" height="{height}"/>',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="line" d="M0,0 L8,4 L0,8"/></marker></defs>',
        *boxes,
        *bars,
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def layers(services: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """Names of services by how many stand before them: a service is one layer behind the last that it waits for."""
    depends_on = {service["name"]: service["depends_on"] for service in services}
    depth: dict[str, int] = {}
    waiting = list(depends_on)
    while waiting:
        ready = [name for name in waiting if all(other in depth for other in depends_on[name] if other in depends_on)]
        for name in ready or waiting:
            depth[name] = 1 + max((depth.get(other, -1) for other in depends_on[name]), default=-1)
        waiting = [name for name in waiting if name not in depth]
    found: list[list[str]] = [[] for _unused in range(max(depth.values(), default=-1) + 1)]
    for name, layer in depth.items():
        found[layer].append(name)
    return found


def _text(x: float, y: float, text: str, css: str = "", anchor: str = "start") -> str:
    css = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{css}>{escape(text)}</text>'


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _dependencies(services: Sequence[Mapping[str, Any]], busy: set[str]) -> tuple[list[str], int]:
    columns = layers(services)
    step = min(_BOX[0] + _BOX_GAP[0], (_WIDTH - 2 * _MARGIN) // max(1, len(columns)))
    width = step - _BOX_GAP[0]
    place: dict[str, tuple[int, int]] = {}
    for column, names in enumerate(columns):
        for row, name in enumerate(names):
            place[name] = (_MARGIN + column * step, 46 + row * (_BOX[1] + _BOX_GAP[1]))
    parts = [_text(_MARGIN, 28, "Services: an arrow leads to what waits for it", "title")]
    for service in services:
        x, y = place[service["name"]]
        for other in service["depends_on"]:
            if other in place:
                from_x, from_y = place[other][0] + width, place[other][1] + _BOX[1] / 2
                bend = (from_x + x) / 2
                to_y = y + _BOX[1] / 2
                curve = f"M{from_x},{from_y} C{bend},{from_y} {bend},{to_y} {x},{to_y}"
                parts.append(f'<path class="line" marker-end="url(#tip)" d="{curve}"/>')
    for service in services:
        x, y = place[service["name"]]
        css = "box" if service["name"] in busy else "idle"
        parts.append(f'<rect class="{css}" x="{x}" y="{y}" width="{width}" height="{_BOX[1]}" rx="4"/>')
        parts.append(_text(x + 8, y + 17, _short(service["name"], width // 8)))
        what = (
            f"{service['method'] or 'no method'}, {service['max_unavailable']} out at once"
            if css == "box"
            else "nothing to do"
        )
        parts.append(_text(x + 8, y + 33, _short(what, width // 7), "faint"))
    return parts, max((y + _BOX[1] for _unused, y in place.values()), default=46)


def _timeline(jobs: Sequence[Mapping[str, Any]], top: int) -> tuple[list[str], int]:
    if not jobs:
        return [_text(_MARGIN, top + 12, "Nothing to do: everything runs its target", "title")], top + 40
    rows = list(_rows(jobs))
    last = max(float(job["end"]) for job in jobs) or 1.0
    scale = (_WIDTH - _LABEL - 2 * _MARGIN) / last
    left = _LABEL + _MARGIN
    first = top + 40
    bottom = first + len(rows) * _ROW
    parts = [_text(_MARGIN, top + 12, "Timeline, as forecast", "title")]
    for tick in range(5):
        x = left + last * tick / 4 * scale
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{first - 4}" x2="{x:.1f}" y2="{bottom}"/>')
        anchor = "end" if tick == 4 else "middle" if tick else "start"
        parts.append(_text(x, first - 8, duration(last * tick / 4), "faint", anchor))
    for number, (label, bars) in enumerate(rows):
        y = first + number * _ROW
        parts.append(_text(_MARGIN, y + 14, _short(label, 34)))
        for job in bars:
            x, width = left + float(job["start"]) * scale, max(1.0, (float(job["end"]) - float(job["start"])) * scale)
            told = f"{job['id']}: {duration(job['start'])} to {duration(job['end'])} ({job['source']})"
            parts.append(
                f'<rect x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{_ROW - 6}" fill="{_COLOURS[job["kind"]]}"'
                f' fill-opacity="{1 if len(bars) == 1 else 0.5}"><title>{escape(told)}</title></rect>'
            )
    legend = bottom + 20
    x = _MARGIN
    for kind in sorted({job["kind"] for job in jobs}):
        parts.append(f'<rect x="{x}" y="{legend - 10}" width="12" height="12" fill="{_COLOURS[kind]}"/>')
        parts.append(_text(x + 18, legend, kind))
        x += 100
    return parts, legend + 20


def _rows(jobs: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """One row per job while a person can still read that, else one per service and kind."""
    order = sorted(jobs, key=lambda job: (float(job["start"]), float(job["end"]), job["id"]))
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for job in order:
        label = job["id"] if len(jobs) <= _MOST_ROWS else f"{job['kind']} {job['service']}"
        grouped.setdefault(label, []).append(job)
    yield from grouped.items()
