# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Risks in words."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._model import (
    Artifact,
    Cluster,
    Instance,
    InstanceState,
    Service,
    State,
)
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._remarks import risks

SAFE: dict[str, Any] = {"health": ("http",), "backends": ("back",)}
QUIET = State(tested=frozenset({("web", "web:1", "web:2")}))


def cluster(domains: str = "aabb", image: str = "web:2", **keys: Any) -> Cluster:
    artifact = Artifact("container", "web", image)
    instances = (Instance("web", f"h{index}", artifact, domain) for index, domain in enumerate(domains))
    return Cluster({"web": Service("web", tuple(instances), **{**SAFE, **keys})})


def running(count: int, image: str, **keys: Any) -> dict[str, InstanceState]:
    return {f"web@h{index}": InstanceState(image, **keys) for index in range(count)}


def test_a_hold_that_is_forced_comes_first() -> None:
    told = risks(cluster("a", health=()), QUIET, forced={"web": "it takes too long", "db": "unheard of"})
    assert told[0] == "web: held by force (hold.force): it takes too long."
    assert not any("unheard of" in risk for risk in told)


def test_nothing_to_say() -> None:
    state = State(running(4, "web:1"), tested=frozenset({("web", "web:1", "web:2")}))
    assert risks(cluster(failure_domain="zone"), state) == []


def test_nothing_is_said_about_what_is_done() -> None:
    assert risks(cluster("a", health=(), backends=()), State(running(1, "web:2", current=True))) == []


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        (
            risks(cluster("a"), QUIET),
            ["web: a single instance, web@h0: nothing takes over if its replacement fails."],
        ),
        (
            risks(cluster("abb", failure_domain="zone"), QUIET),
            ["web: no spare capacity in zone a: one instance each, and none while it is replaced."],
        ),
        (
            risks(cluster("aaa", failure_domain="zone"), QUIET),
            ["web: all 3 instances are in one zone, a: its loss takes them all."],
        ),
        (
            risks(cluster(health=()), QUIET),
            ["web: no health check: whether a new instance serves is judged by its artifact's own state only."],
        ),
        (
            risks(cluster(backends=()), QUIET),
            ["web: no balancer: its instances are replaced without a drain, clients have to bear it."],
        ),
        (
            risks(cluster(drain_timeout=300.0), QUIET),
            [
                "web: drain_timeout (5 min) is longer than healthy_deadline (2 min): one slow drain takes longer than "
                "an instance may take to become healthy."
            ],
        ),
        (
            risks(cluster(image="registry.example:5000/web"), QUIET),
            [
                "web: the image registry.example:5000/web has neither tag nor digest: what it means may change at any "
                "time."
            ],
        ),
        (
            risks(cluster(), State(running(2, "web:1"))),
            ["web: from web:1 to web:2 has not been done before by a run in this journal."],
        ),
        (
            risks(cluster(), State({"web@h0": InstanceState(healthy=False)})),
            ["web: web@h0 is out already, so 0 more may be out."],
        ),
        (
            risks(cluster(), QUIET, unestimated=["replace web@h1", "replace web@h0"]),
            [
                "2 jobs have no estimate, neither measured nor declared, so the forecast is a guess there: "
                "replace web@h0, replace web@h1."
            ],
        ),
    ],
)
def test_risk(found: list[str], lines: list[str]) -> None:
    assert found == lines


def test_a_drain_that_only_one_host_declares() -> None:
    artifact = Artifact("container", "web", "web:2")
    hosts = (Instance("web", "h0", artifact, drain_timeout=600.0), Instance("web", "h1", artifact))
    lines = risks(Cluster({"web": Service("web", hosts, **SAFE)}), QUIET)
    assert lines == [
        "web: drain_timeout (10 min) is longer than healthy_deadline (2 min) on h0: one slow drain takes longer than "
        "an instance may take to become healthy."
    ]
