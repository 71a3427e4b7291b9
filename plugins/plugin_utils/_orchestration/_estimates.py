# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long jobs take: measured, else rehearsed, else declared, else assumed. Every number says where it comes from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import exp, log
from statistics import median
from typing import Final, Literal, NamedTuple

from ._model import Cluster, Instance, JobKind, Method, Service

StepKind = JobKind | Literal["stage", "offline"]
Durations = Mapping[tuple[str, str, str], Sequence[float]]

DEFAULTS: Final[Mapping[str, float]] = {
    "stage": 60.0,
    "expand": 60.0,
    "offline": 60.0,
    "switch": 120.0,
    "settle": 60.0,
    "replace": 60.0,
    "migrate": 300.0,
    "contract": 60.0,
}
UNKNOWN: Final = "default"
# The ratio between the 90th percentile and the median of a lognormal distribution is exp(1.2816 sigma).
NINETIETH: Final = 1.2816
# That ratio where nothing is measured: sigma 0.5 of a guess, 0.25 of a declared number.
ASSUMED_SPREAD: Final = exp(NINETIETH * 0.5)
DECLARED_SPREAD: Final = exp(NINETIETH * 0.25)
ENOUGH: Final = 3
OUTLIER: Final = 5.0


class Rehearsed(NamedTuple):
    """Seconds of a step as a rehearsal measured them, `min_healthy_time` left out. `least`: of a stand-in, so that the
    real one takes at least as long."""

    seconds: float
    least: bool


class Estimate(NamedTuple):
    """Seconds of a job: the middle, the 10th and the 90th percentile, and in words where they come from."""

    seconds: float
    low: float
    high: float
    source: str

    @property
    def spread(self) -> float:
        """The standard deviation of the duration's logarithm."""
        if self.low <= 0 or self.high <= self.low:
            return 0.0
        return log(self.high / self.low) / (2 * NINETIETH)


def _spread_around(seconds: float, factor: float, source: str) -> Estimate:
    return Estimate(seconds, seconds / factor, seconds * factor, source)


def percentile(ordered: Sequence[float], share: float) -> float:
    """A percentile of sorted values by linear interpolation; `share` from 0 to 1."""
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def _from_values(values: Sequence[float], source: str) -> Estimate:
    ordered = sorted(values)
    middle = median(ordered)
    if len(ordered) < ENOUGH:
        return _spread_around(middle, DECLARED_SPREAD, source)
    return Estimate(middle, percentile(ordered, 0.1), percentile(ordered, 0.9), source)


def _runs(number: int) -> str:
    return "1 earlier run" if number == 1 else f"{number} earlier runs"


class Estimates:
    """Durations of every step of a cluster.

    `durations` is what the journal measured: (kind, service, host) -> seconds of each whole job, without bake time. Of
    jobs `switch` the kind has the method behind it, and `pause METHOD` is what was held, without `offline`. The
    median is used, never the mean: one job that hung must not spoil the next plan. One or two measurements of a host
    count, but no more than five times off the service's median, for the same reason. `rehearsed` is what a rehearsal
    learned, by (kind, service): it stands above what is declared, and below what was measured.
    """

    def __init__(
        self,
        cluster: Cluster,
        durations: Durations | None = None,
        rehearsed: Mapping[tuple[StepKind, str], Rehearsed] | None = None,
    ) -> None:
        self._rehearsed = rehearsed or {}
        self._by_host: dict[tuple[str, str, str], list[float]] = {
            key: [s for s in values if s > 0] for key, values in (durations or {}).items()
        }
        self._classes = {(i.service, i.host): i.host_class for i in cluster.instances.values()}
        self._by_class: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        self._by_service: dict[tuple[str, str], list[float]] = defaultdict(list)
        for (kind, service, host), values in self._by_host.items():
            self._by_service[kind, service].extend(values)
            host_class = self._classes.get((service, host))
            if host_class is not None:
                self._by_class[kind, service, host_class].extend(values)
        self._known: dict[tuple[str, ...], Estimate] = {}

    def of(self, kind: StepKind, service: Service, instance: Instance | None = None) -> Estimate:
        """The estimate of a step. `replace` is the whole job, `min_healthy_time` included and bake time not."""
        measured = self._measured(kind, service.name, instance)
        return measured or self._stated(kind, service, instance)

    def pause(self, service: Service, method: Method) -> Estimate | None:
        """For how long requests were held in earlier runs, without `database.offline`; None where that is not known."""
        return self._measured(f"pause {method}", service.name, None)

    def switch(self, service: Service, method: Method | None, parts: float | None) -> Estimate:
        """The job `switch`. `parts`: what its parts come to, where they are known."""
        measured = self._measured(f"switch {method}", service.name, None)
        if measured is None and parts is not None and "switch" not in service.estimates:
            return _spread_around(parts, DECLARED_SPREAD, "the sum of its parts")
        return measured or self._stated("switch", service, None)

    def _measured(self, kind: str, service: str, instance: Instance | None) -> Estimate | None:
        everywhere = self._by_service.get((kind, service))
        if not everywhere:
            return None
        whole = self._remember((kind, service), everywhere, service)
        if instance is None:
            return whole
        here = self._by_host.get((kind, service, instance.host))
        if here:
            return self._on_host(here, whole, instance.host)
        host_class = instance.host_class
        if host_class is not None and (alike := self._by_class.get((kind, service, host_class))):
            return self._remember((kind, service, host_class), alike, f"{service} on {host_class}")
        return whole

    def _remember(self, key: tuple[str, ...], values: Sequence[float], of_what: str) -> Estimate:
        if key not in self._known:
            self._known[key] = _from_values(values, f"median of {_runs(len(values))} of {of_what}")
        return self._known[key]

    @staticmethod
    def _on_host(values: Sequence[float], whole: Estimate, host: str) -> Estimate:
        source = f"median of {_runs(len(values))} on {host}"
        if len(values) >= ENOUGH:
            return _from_values(values, source)
        middle = min(max(median(values), whole.seconds / OUTLIER), whole.seconds * OUTLIER)
        return _spread_around(middle, DECLARED_SPREAD, source)

    def _stated(self, kind: StepKind, service: Service, instance: Instance | None) -> Estimate:
        declared = None if instance is None else instance.estimates.get(kind)
        if declared is None:
            declared = service.estimates.get(kind)
        extra = 0.0
        if kind == "replace":
            own = None if instance is None else instance.min_healthy_time
            extra = service.min_healthy_time if own is None else own
        rehearsed = self._rehearsed.get((kind, service.name))
        stated = DEFAULTS[kind] if declared is None else declared
        if rehearsed and (not rehearsed.least or rehearsed.seconds > stated):
            return _spread_around(rehearsed.seconds + extra, DECLARED_SPREAD, "rehearsed")
        if declared is None:
            return _spread_around(DEFAULTS[kind] + extra, ASSUMED_SPREAD, UNKNOWN)
        return _spread_around(declared + extra, DECLARED_SPREAD, "declared")
