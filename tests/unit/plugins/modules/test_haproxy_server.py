# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way out of rotation and back, on a simulated HAProxy and a simulated clock: what a real one rarely shows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from ansible_collections.rondo.upgrade.plugins.module_utils._fence import FenceError
from ansible_collections.rondo.upgrade.plugins.module_utils._haproxy import (
    FORCED_DRAIN,
    FORCED_MAINT,
    Server,
    Unreachable,
)
from ansible_collections.rondo.upgrade.plugins.modules import haproxy_server
from ansible_collections.rondo.upgrade.plugins.modules.haproxy_server import (
    Failed,
    Refused,
    Rotation,
    examine,
    foreseen,
    last_usable,
    mindful,
)

# The time of day at which a simulated clock begins.
MIDNIGHT = 1_000_000.0

CTL1, CTL2, CTL3 = (("keystone_back", name) for name in ("ctl1", "ctl2", "ctl3"))


def server(key, status: str = "UP", **fields) -> Server:
    values = {
        "admin": 0, "weight": 1, "scur": 0, "qcur": 0, "checked": True, "tracked": "", "backup": False, "address": "",
        "check_status": "", "last_chk": "", "lastchg": 0, "chkdown": 0, "columns": {},
    }  # fmt: skip
    return Server(backend=key[0], name=key[1], status=status, **{**values, **fields})


class World:
    """HAProxy and the clock. `script[t]` is called when the time reaches t."""

    timeout = 10.0
    address = "/run/haproxy/admin.sock"

    def __init__(self, *servers: Server, script: dict[float, Callable[[], None]] | None = None) -> None:
        self.table = {one.key: one for one in servers}
        self.script = dict(script or {})
        self.time = 0.0
        self.said: list[str] = []
        self.old: dict = {}
        self.silent = False

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        for when in sorted(self.script):
            if when <= self.time:
                self.script.pop(when)()

    def update(self, key, **fields) -> None:
        self.table[key] = Server(**{**self.table[key].__dict__, **fields})

    def servers(self) -> dict:
        if self.silent:
            raise Unreachable("no answer")
        return dict(self.table)

    def level(self) -> str:
        return "admin"

    def old_sessions(self, wanted) -> dict:
        return {key: count for key, count in self.old.items() if key in wanted and count}

    def close_old_sessions(self, wanted) -> None:
        self.said.append("close old")
        self.old = {}

    def change(self, *commands: str) -> None:
        self.said.append("; ".join(commands))
        for command in commands:
            words = command.split()
            if words[:2] == ["shutdown", "sessions"]:
                self.update(tuple(words[3].split("/")), scur=0, qcur=0)
                continue
            key = tuple(words[2].split("/"))
            if words[3:] == ["state", "maint"]:
                self.update(key, admin=FORCED_MAINT, status="MAINT")
            elif words[3:] == ["state", "drain"]:
                self.update(key, admin=FORCED_DRAIN, status="DRAIN")
            elif words[3:] == ["state", "ready"]:
                self.update(key, admin=0, status="DOWN" if "health down" in self.said[-1] else "UP")

    def rotation(self, *wanted, **options) -> Rotation:
        return Rotation(
            self, list(wanted), now=self.now, sleep=self.sleep, clock=lambda: MIDNIGHT + self.time, **options
        )


class TestIdle:
    """Nothing is let to the servers, because their requests are held."""

    def test_it_waits_for_what_is_in_flight_and_touches_no_server(self) -> None:
        world = World(server(CTL1, scur=1), server(CTL2), script={3.0: lambda: world.update(CTL1, scur=0)})
        world.old = {CTL2: 1}
        world.script[5.0] = lambda: world.old.update({CTL2: 0})
        world.rotation(CTL1, CTL2).idle(60)
        assert 5.0 < world.time < 6.0
        assert world.said == []

    def test_what_is_left_at_the_timeout_is_closed_and_counted_and_the_servers_still_serve(self) -> None:
        world = World(server(CTL1, scur=3), server(CTL2))
        world.old = {CTL1: 2}
        rotation = world.rotation(CTL1, CTL2)
        rotation.idle(4)
        assert world.said == ["shutdown sessions server keystone_back/ctl1", "close old"]
        assert sum(rotation.closed.values()) == 5
        assert world.table[CTL1].status == "UP"


class TestDrain:
    def test_one_look_that_finds_nobody_proves_nothing(self) -> None:
        world = World(server(CTL1), server(CTL2), script={0.2: lambda: world.update(CTL1, scur=1)})
        world.script[3.0] = lambda: world.update(CTL1, scur=0)
        world.rotation(CTL1).drain(60, True, "maintenance")
        assert world.time > 3.0
        assert world.said == ["set server keystone_back/ctl1 state drain", "set server keystone_back/ctl1 state maint"]

    def test_queued_requests_and_old_workers_count(self) -> None:
        world = World(server(CTL1, qcur=2))
        world.old = {CTL1: 1, CTL2: 5}
        world.script = {2.0: lambda: world.update(CTL1, qcur=0), 4.0: lambda: world.old.update({CTL1: 0})}
        rotation = world.rotation(CTL1)
        rotation.drain(60, True, "maintenance")
        assert world.time > 4.0
        assert sum(rotation.closed.values()) == 0

    def test_at_the_timeout_maintenance_comes_before_closing(self) -> None:
        world = World(server(CTL1, scur=3))
        world.old = {CTL1: 2}
        rotation = world.rotation(CTL1)
        rotation.drain(5, True, "maintenance")
        assert world.said == [
            "set server keystone_back/ctl1 state drain",
            "set server keystone_back/ctl1 state maint",
            "shutdown sessions server keystone_back/ctl1",
            "close old",
        ]
        assert rotation.closed == {CTL1: 5}
        assert rotation.left_in_old_workers == 0

    def test_sessions_that_can_not_be_closed_in_old_workers_are_told(self) -> None:
        world = World(server(CTL1))
        world.old = {CTL1: 2}
        world.close_old_sessions = lambda wanted: None
        rotation = world.rotation(CTL1)
        rotation.drain(1, True, "maintenance")
        assert rotation.left_in_old_workers == 2
        assert rotation.closed == {CTL1: 0}

    def test_it_can_end_in_drain(self) -> None:
        world = World(server(CTL1))
        world.rotation(CTL1).drain(5, True, "drain")
        assert world.table[CTL1].status == "DRAIN"

    def test_a_reload_that_forgets_the_drain_is_put_right(self) -> None:
        world = World(server(CTL1, scur=1))
        world.script = {1.0: lambda: world.update(CTL1, admin=0, status="UP"), 2.0: lambda: world.update(CTL1, scur=0)}
        rotation = world.rotation(CTL1)
        rotation.drain(60, True, "maintenance")
        assert rotation.restored == ["keystone_back/ctl1"]
        assert world.said.count("set server keystone_back/ctl1 state drain") == 2
        assert world.table[CTL1].status == "MAINT"

    def test_a_short_silence_is_borne_and_a_long_one_not(self) -> None:
        def silence(value: bool) -> Callable[[], None]:
            return lambda: setattr(world, "silent", value)

        world = World(server(CTL1, scur=1))
        world.script = {1.0: silence(True), 4.0: silence(False), 5.0: lambda: world.update(CTL1, scur=0)}
        world.rotation(CTL1).drain(60, True, "maintenance")

        world = World(server(CTL1, scur=1), script={1.0: silence(True)})
        with pytest.raises(Unreachable):
            world.rotation(CTL1).drain(60, True, "maintenance")

    def test_a_server_that_a_reload_removed(self) -> None:
        world = World(server(CTL1, scur=1), server(CTL2), script={1.0: lambda: world.table.pop(CTL1)})
        with pytest.raises(Failed, match="keystone_back/ctl1: no such server; there is ctl2"):
            world.rotation(CTL1).drain(60, True, "maintenance")

    def test_a_fence_that_falls_while_it_waits_stops_the_next_change(self) -> None:
        def guard() -> None:
            if world.time > 1:
                raise FenceError("taken over")

        world = World(server(CTL1, scur=1), script={2.0: lambda: world.update(CTL1, scur=0)})
        with pytest.raises(FenceError):
            world.rotation(CTL1, guard=guard).drain(60, True, "maintenance")
        assert world.said == ["set server keystone_back/ctl1 state drain"]

    def test_it_says_when_the_first_one_left(self) -> None:
        world = World(server(CTL1, "MAINT", admin=FORCED_MAINT), server(CTL2, scur=1), server(CTL3))
        world.time = 5.0
        world.script = {9.0: lambda: world.update(CTL2, scur=0)}
        rotation = world.rotation(CTL1, CTL2)
        rotation.drain(60, True, "maintenance")
        assert rotation.out_at == MIDNIGHT + 5

        again = world.rotation(CTL1, CTL2)
        again.drain(60, True, "maintenance")
        assert again.out_at is None


class TestReturn:
    def away(self, **fields) -> Server:
        return server(CTL1, "MAINT", admin=FORCED_MAINT, **fields)

    def test_by_the_check_and_never_before_it(self) -> None:
        world = World(self.away(), script={3.0: lambda: world.update(CTL1, status="UP")})
        world.rotation(CTL1).bring_back(60, 0)
        assert world.time >= 3.0
        assert world.said == [
            "set server keystone_back/ctl1 state drain; set server keystone_back/ctl1 health down; "
            "set server keystone_back/ctl1 state ready"
        ]

    @pytest.mark.parametrize("status", ["DOWN 1/2", "UP 1/3", "UP 2/3"])
    def test_on_its_way_is_not_there(self, status: str) -> None:
        world = World(self.away(), server(CTL2), script={1.0: lambda: world.update(CTL1, status=status)})
        with pytest.raises(Failed, match=f"keystone_back/ctl1 is {status}"):
            world.rotation(CTL1).bring_back(10, 0)
        assert world.table[CTL1].status == "MAINT"

    def test_min_healthy_time_begins_anew_when_it_falls(self) -> None:
        world = World(self.away())
        world.script = {
            1.0: lambda: world.update(CTL1, status="UP"),
            5.0: lambda: world.update(CTL1, status="UP 1/3"),
            6.0: lambda: world.update(CTL1, status="UP"),
        }
        world.rotation(CTL1).bring_back(60, 10)
        assert world.time >= 16.0

    def test_a_fall_between_two_looks_is_seen_too(self) -> None:
        world = World(self.away())
        world.script = {
            1.0: lambda: world.update(CTL1, status="UP"),
            5.0: lambda: world.update(CTL1, chkdown=1),
        }
        world.rotation(CTL1).bring_back(60, 10)
        assert world.time >= 15.0

    def test_a_stretch_that_began_in_time_may_end_after_the_timeout(self) -> None:
        world = World(self.away(), script={8.0: lambda: world.update(CTL1, status="UP")})
        world.rotation(CTL1).bring_back(10, 30)
        assert world.time >= 38.0

    def test_it_says_since_when_it_is_up_and_not_when_that_was_proven(self) -> None:
        world = World(self.away(), script={3.0: lambda: world.update(CTL1, status="UP")})
        rotation = world.rotation(CTL1)
        rotation.bring_back(60, 10)
        assert world.time >= 13.0
        assert 3.0 <= rotation.up_at - MIDNIGHT < 3.5

    def test_one_that_was_up_all_the_time_is_proven_already(self) -> None:
        world = World(server(CTL1, lastchg=100))
        world.rotation(CTL1).bring_back(10, 30)
        assert (world.time, world.said) == (0.0, [])

    def test_one_that_was_down_without_us_is_waited_for_and_left_alone(self) -> None:
        world = World(server(CTL1, "DOWN", check_status="L4CON", last_chk="Connection refused"))
        with pytest.raises(Failed, match=r"ctl1 is DOWN \(last check: L4CON Connection refused\)$"):
            world.rotation(CTL1).bring_back(5, 0)
        assert world.said == []

    def test_one_that_is_up_and_the_last_of_its_backend_is_not_taken_away_again(self) -> None:
        world = World(self.away())
        for second in range(1, 200):
            world.script[float(second)] = lambda second=second: world.update(CTL1, chkdown=second, status="UP")
        with pytest.raises(Failed, match="Left in rotation as the last usable of its backend: keystone_back/ctl1"):
            world.rotation(CTL1).bring_back(10, 30)
        assert world.table[CTL1].status == "UP"

    def test_without_checks_at_once(self) -> None:
        world = World(self.away(checked=False))
        rotation = world.rotation(CTL1)
        rotation.bring_back(10, 30)
        assert rotation.unchecked == [CTL1]
        assert world.said == ["set server keystone_back/ctl1 state ready"]
        assert world.time == 0.0

    def test_a_follower_is_not_given_a_health_of_its_own(self) -> None:
        world = World(self.away(checked=False, tracked="other_back/ctl1"))
        rotation = world.rotation(CTL1)
        rotation.bring_back(10, 0)
        assert world.said == ["set server keystone_back/ctl1 state ready"]
        assert rotation.unchecked == []


class Kept:
    """What a run has taken out."""

    def __init__(self, *keys: tuple[str, str]) -> None:
        self.out = set(keys)


class TestMeanwhile:
    """A reload in the middle of a wait re-enables what other jobs of the run have taken out."""

    @pytest.fixture(autouse=True)
    def without_a_lock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(haproxy_server, "locked", lambda *words: contextlib.nullcontext())
        monkeypatch.setattr(World, "meeting_place", "/", raising=False)

    def world(self, taken: Kept) -> tuple[World, Rotation]:
        world = World(server(CTL1, scur=1), server(CTL2, "MAINT", admin=FORCED_MAINT), server(CTL3))
        world.script = {1.0: lambda: world.update(CTL2, admin=0, status="UP"), 3.0: lambda: world.update(CTL1, scur=0)}
        rotation = world.rotation(CTL1)
        rotation.meanwhile = mindful(rotation, taken)
        return world, rotation

    def test_they_are_taken_out_again_at_once(self) -> None:
        world, rotation = self.world(Kept(CTL1, CTL2))
        world.script[1.5] = lambda: seen.append(world.table[CTL2].status)
        seen: list[str] = []
        rotation.drain(60, True, "maintenance")
        assert seen == ["MAINT"]
        assert rotation.restored == ["keystone_back/ctl2"]

    def test_the_one_that_the_run_has_come_for_is_told_and_proven_anew(self) -> None:
        world = World(server(CTL1), server(CTL2))
        rotation = world.rotation(CTL1)
        rotation.look()
        rotation.put_right({CTL1})
        assert (rotation.restored, rotation.changed) == (["keystone_back/ctl1"], False)
        # To its proof it goes as one that has been out: the world has no check that passes.
        with pytest.raises(Failed, match="keystone_back/ctl1 is DOWN"):
            rotation.bring_back(1, 0)

    def test_one_that_is_on_its_way_back_is_left_alone(self) -> None:
        world, rotation = self.world(Kept(CTL1))
        rotation.drain(60, True, "maintenance")
        assert world.table[CTL2].status == "UP"
        assert rotation.restored == []


class TestLastUsable:
    def refusal(self, *servers: Server, wanted=(CTL1,)) -> list[str]:
        return last_usable({one.key: one for one in servers}, set(wanted))

    def test_another_one_is_up(self) -> None:
        assert self.refusal(server(CTL1), server(CTL2)) == []
        assert self.refusal(server(CTL1), server(CTL2, "no check")) == []

    @pytest.mark.parametrize("status", ["DOWN", "DOWN 1/2", "UP 1/3", "MAINT", "DRAIN"])
    def test_the_other_one_can_not_be_counted_on(self, status: str) -> None:
        admin = {"MAINT": FORCED_MAINT, "DRAIN": FORCED_DRAIN}.get(status, 0)
        (problem,) = self.refusal(server(CTL1), server(CTL2, status, admin=admin))
        assert problem == (
            f"keystone_back: no usable server would remain without ctl1 (ctl2 is {status}); clients would get 503. "
            "Return another one first, or set force_last"
        )

    def test_the_other_one_has_no_weight(self) -> None:
        assert self.refusal(server(CTL1), server(CTL2, weight=0)) != []

    def test_all_at_once(self) -> None:
        (problem,) = self.refusal(server(CTL1), server(CTL2), wanted=(CTL1, CTL2))
        assert "without ctl1, ctl2 (it has no other)" in problem

    def test_one_that_serves_nobody_takes_nothing_away(self) -> None:
        assert self.refusal(server(CTL1, "DOWN"), server(CTL2, "DOWN")) == []
        assert self.refusal(server(CTL1, "MAINT", admin=FORCED_MAINT)) == []


def test_every_reason_not_to_begin_is_told_at_once() -> None:
    world = World(server(CTL1), server(("glance_back", "img1")))
    world.level = lambda: "operator"
    with pytest.raises(Refused) as refused:
        examine(world.rotation(CTL1, ("glance_bak", "img1"), ("keystone_back", "nobody")), "drained", False)
    assert [problem.split(":")[0] for problem in refused.value.problems] == [
        "glance_bak/img1",
        "keystone_back/nobody",
        "/run/haproxy/admin.sock",
        "keystone_back",
    ]


@pytest.mark.parametrize(
    ("before", "state", "after", "status"),
    [
        (server(CTL1), "drained", "maintenance", "MAINT"),
        (server(CTL1), "drained", "drain", "DRAIN"),
        (server(CTL1, "MAINT", admin=FORCED_MAINT), "drained", "drain", "MAINT"),
        (server(CTL1, "DRAIN", admin=FORCED_DRAIN), "maintenance", "maintenance", "MAINT"),
        (server(CTL1, "MAINT", admin=FORCED_MAINT), "ready", "maintenance", "UP"),
        (server(CTL1, "MAINT", admin=FORCED_MAINT, checked=False), "ready", "maintenance", "no check"),
        (server(CTL1, "DOWN"), "ready", "maintenance", "DOWN"),
    ],
)
def test_what_check_mode_foresees(before: Server, state: str, after: str, status: str) -> None:
    assert foreseen(before, state, after) == status
