# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fifty requests a second in an open loop: short ones on new and on kept connections, and some that take two s."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

RATE = 50
PORTS = {"web": 8000, "ledger": 8100}
RELEASE = '"release": "([^"]+)"'


def load(subject: str, vip: str) -> dict[str, Any]:
    """The probe's configuration for a service of the methods' lab; the weights make fifty."""
    if subject == "keystone":
        url, internal = f"http://{vip}:5000/v3", f"http://{vip}:35357/v3"
        requests: list[dict[str, Any]] = [
            {"kind": "http", "name": "short", "url": url, "connection": "new", "weight": 23},
            {"kind": "http", "name": "kept", "url": [url, internal], "connection": "keep_alive", "weight": 24},
            {"kind": "token_validate", "url": url, "weight": 1},
            {"kind": "token_issue", "url": internal, "weight": 1},
            {"kind": "token_issue", "name": "slow", "url": url, "slow": "2s", "weight": 1},
        ]
    else:
        url = f"http://{vip}:{PORTS[subject]}"
        requests = [
            {"name": "short", "url": url + "/", "connection": "new", "weight": 24, "version": RELEASE},
            {"name": "kept", "url": url + "/", "connection": "keep_alive", "weight": 24, "version": RELEASE},
            {"name": "slow", "url": url + "/slow", "weight": 2, "version": RELEASE},
        ]
    return {
        "rate": RATE,
        "timeout": "60s",
        "start_timeout": "120s",
        "identity": {"username": "admin", "password": "admin-lab", "project": "admin"},
        "requests": requests,
    }


def longest_wait(summary: Mapping[str, Any]) -> float:
    """The longest that a short request waited for its answer, in seconds."""
    return max(float(summary["kinds"][name]["latency_ms"]["max"]) for name in ("short", "kept")) / 1000


def failed_at(summary: Mapping[str, Any]) -> list[float]:
    """When requests were due that failed, in seconds of the machine's clock: the beginning of each such stretch."""
    began = datetime.fromisoformat(summary["began"]).timestamp()
    return [began + bucket["after_seconds"] for bucket in summary["over_time"]["buckets"] if bucket["failed"]]


def shares(summary: Mapping[str, Any], release: str, seconds: int) -> list[float]:
    """The share in percent of a release among the answers, in every stretch of so many seconds, in order."""
    buckets = summary["over_time"]["buckets"]
    counted = [
        (bucket.get("versions", {}).get(release, 0), sum(bucket.get("versions", {}).values())) for bucket in buckets
    ]
    found = []
    for start in range(len(counted) - seconds + 1):
        new, all_of_them = (sum(column) for column in zip(*counted[start : start + seconds], strict=True))
        if all_of_them:
            found.append(100 * new / all_of_them)
    return found
