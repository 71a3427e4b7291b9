# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a hold ended: as soon as HAProxy was told, however long those that waited take to go."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ansible_collections.rondo.upgrade.plugins.modules import haproxy_hold


class Releasing:
    """A hold that takes ten seconds to be told, and ten more until nobody waits; `clock` counts them."""

    service = "web"

    def __init__(self, state: str) -> None:
        self.clock = 100.0
        self.state = state
        self.by_maxconn = SimpleNamespace(read=lambda: None)
        self.statuses = {"web": None}

    def status(self) -> SimpleNamespace:
        return SimpleNamespace(state=self.state, owner="-", shown=lambda: {"state": self.state})

    def tell(self, words: str) -> None:
        assert words == "off"
        self.clock += 10

    def release_in_old_workers(self) -> int:
        return 0

    def wait_until_off(self) -> SimpleNamespace:
        self.clock += 10
        self.state = "off"
        return self.status()


@pytest.mark.parametrize(("state", "at"), [("on", 110.0), ("off", 100.0)])
def test_it_ended_when_haproxy_was_told(monkeypatch: pytest.MonkeyPatch, state: str, at: float) -> None:
    hold = Releasing(state)
    monkeypatch.setattr(haproxy_hold, "time", SimpleNamespace(time=lambda: hold.clock))
    changed, results = haproxy_hold.state_released(SimpleNamespace(check_mode=False), hold, "-")
    assert (changed, results["at"]) == (state == "on", at)
    assert results["hold"]["state"] == "off"
