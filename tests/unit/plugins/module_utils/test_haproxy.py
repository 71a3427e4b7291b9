# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HAProxy's texts as rows (each captured from a real 2.6.12 and 3.0.11), and questions to sockets that misbehave."""

from __future__ import annotations

import errno
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.rondo.upgrade.plugins.module_utils import _haproxy
from ansible_collections.rondo.upgrade.plugins.module_utils._haproxy import (
    Balancer,
    HaproxyError,
    Unreachable,
    ask,
    config_files,
    configured_servers,
    parse_info,
    parse_old_workers,
    parse_servers_state,
    parse_sessions,
    parse_stat,
    read_servers,
    unknown,
)

TEXTS = Path(__file__).parent / "haproxy_texts"
BACK = "keystone_internal_back"


@pytest.fixture(params=["2.6", "3.0"])
def text(request: pytest.FixtureRequest) -> Callable[[str], str]:
    return lambda name: (TEXTS / f"haproxy-{request.param}" / f"{name}.txt").read_text()


def servers_of(tables: str):
    stat, _blank, states = tables.partition("\n\n")
    return read_servers(parse_stat(stat), parse_servers_state(states))


class TestTables:
    def test_every_state_by_its_whole_status(self, text) -> None:
        servers = servers_of(text("tables_going_down"))
        states = {"/".join(key): (server.status, server.state) for key, server in servers.items()}
        assert states == {
            f"{BACK}/ctl1": ("UP", "up"),
            f"{BACK}/ctl2": ("DRAIN", "drain"),
            f"{BACK}/ctl3": ("UP 2/3", "going_down"),
            f"{BACK}/ctl4": ("MAINT", "maint"),
            f"{BACK}/ctl5": ("UP", "up"),
            f"{BACK}/ctl6": ("UP", "up"),
            "follower_back/ctl4": (f"MAINT (via {BACK}/ctl4)", "maint"),
            "plain_back/ctl1": ("no check", "no_check"),
        }

    def test_who_serves_and_who_may_be_counted_on(self, text) -> None:
        servers = servers_of(text("tables_going_down"))
        assert [key[1] for key, server in servers.items() if key[0] == BACK and server.serves] == [
            "ctl1",
            "ctl3",
            "ctl6",
        ]
        assert [key[1] for key, server in servers.items() if key[0] == BACK and server.usable] == ["ctl1", "ctl6"]

    def test_on_its_way_up_is_not_up(self, text) -> None:
        server = servers_of(text("tables_going_up"))[(BACK, "ctl3")]
        assert (server.status, server.state, server.serves) == ("DOWN 1/2", "going_up", False)

    def test_the_rest_of_a_row(self, text) -> None:
        servers = servers_of(text("tables_going_down"))
        assert servers[(BACK, "ctl1")].sessions == 1
        assert servers[(BACK, "ctl1")].checked
        assert not servers[("plain_back", "ctl1")].checked
        assert servers[("follower_back", "ctl4")].tracked == f"{BACK}/ctl4"
        assert not servers[("follower_back", "ctl4")].forced_out
        assert servers[(BACK, "ctl2")].forced_out and servers[(BACK, "ctl4")].forced_out
        assert servers[(BACK, "ctl3")].last_chk == "General socket error (No such file or directory)"
        assert servers[(BACK, "ctl6")].backup

    def test_a_check_in_progress_is_no_part_of_its_result(self, text) -> None:
        stat = parse_stat(text("tables_going_down").partition("\n\n")[0])
        row = next(row for row in stat if row["svname"] == "ctl1")
        row["check_status"] = "* L7OK"
        assert read_servers([row], {})[(BACK, "ctl1")].check_status == "L7OK"

    @pytest.mark.parametrize("answer", ["", "Permission denied\n", "Unknown command: 'show stat'\n"])
    def test_an_answer_that_is_no_table(self, answer: str) -> None:
        with pytest.raises(HaproxyError, match="`show stat` answered"):
            parse_stat(answer)
        with pytest.raises(HaproxyError, match="`show servers state` answered"):
            parse_servers_state(answer)

    def test_info(self, text) -> None:
        info = parse_info(text("info"))
        assert info["Version"].startswith(("2.6.12-", "3.0.11-"))
        assert info["Pid"].isdigit() and info["Uptime_sec"].isdigit() and info["Start_time_sec"].isdigit()


class TestOldWorkers:
    def test_none_before_a_reload(self, text) -> None:
        assert parse_old_workers(text("proc_before")) == []

    def test_one_after_it(self, text) -> None:
        (pid,) = parse_old_workers(text("proc_after_reload"))
        assert pid in (8, 9)

    def test_their_sessions_by_server(self, text) -> None:
        sessions = text("old_worker_sess")
        (one,) = parse_sessions(sessions, [(BACK, "ctl1")])
        (other,) = parse_sessions(sessions, [(BACK, "ctl3")])
        assert one.startswith("0x") and other.startswith("0x") and one != other
        assert parse_sessions(sessions, [(BACK, "ctl2"), ("plain_back", "ctl1")]) == []

    def test_they_refuse_to_close_all_sessions_of_a_server(self, text) -> None:
        assert text("old_worker_refusal").strip() == "Proxy is disabled."


def test_unknown_names_all_at_once_with_the_nearest() -> None:
    servers = dict.fromkeys([("keystone_back", "ctl1"), ("keystone_back", "ctl2"), ("glance_back", "img1")])
    wanted = [("keystone_bak", "ctl1"), ("keystone_back", "ctl1"), ("keystone_back", "clt2"), ("zzz", "ctl1")]
    assert unknown(servers, wanted) == [
        "keystone_bak/ctl1: no such backend; there is keystone_back",
        "keystone_back/clt2: no such server; there is ctl2",
        "zzz/ctl1: no such backend; there is glance_back, keystone_back",
    ]


class TestConfiguration:
    def test_servers_by_backend(self) -> None:
        text = """
        defaults
            default-server inter 2s
        frontend fe
            bind :80
        backend keystone_back      # the comment's backend
            server ctl1 10.0.0.1:5000 check
            # server ctl2 10.0.0.2:5000 check
        listen stats
            bind :1936
            server one 10.0.0.3:1
        peers cluster
            server lb1 10.0.0.4:1024
        """
        assert configured_servers(text) == {"keystone_back": ["ctl1"], "stats": ["one"]}

    @pytest.mark.parametrize("line", [".if feature(LUA)", "server-template web 1-3 web.example:80"])
    def test_what_only_haproxy_can_resolve_is_not_guessed(self, line: str) -> None:
        assert configured_servers(f"backend b\n  {line}\n") is None

    def test_a_folder_in_haproxys_order(self, tmp_path: Path) -> None:
        for name in ("20-b.cfg", "10-a.cfg", "notes.txt"):
            (tmp_path / name).touch()
        assert config_files(str(tmp_path)) == [str(tmp_path / "10-a.cfg"), str(tmp_path / "20-b.cfg")]
        assert config_files(str(tmp_path / "10-a.cfg")) == [str(tmp_path / "10-a.cfg")]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for a UNIX socket's path, which tmp_path may not be."""
    path = Path(tempfile.mkdtemp(prefix="rhx-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


class Answering:
    """A listener that answers every line in the same way, and keeps what it was asked."""

    def __init__(self, family: int, address: object, behave: Callable[[socket.socket], None]) -> None:
        self.asked: list[bytes] = []
        self.behave = behave
        self.listener = socket.socket(family)
        self.listener.bind(address)
        self.listener.listen(8)
        self.links: list[socket.socket] = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                link, _peer = self.listener.accept()
            except OSError:
                return
            self.links.append(link)
            try:
                self.asked.append(link.makefile("rb").readline())
                self.behave(link)
            except OSError:
                pass

    def close(self) -> None:
        self.listener.close()
        for link in self.links:
            link.close()


@pytest.fixture
def answering() -> Iterator[Callable[..., Answering]]:
    opened: list[Answering] = []

    def make(*words: object) -> Answering:
        opened.append(Answering(*words))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def reply(text: bytes) -> Callable[[socket.socket], None]:
    def behave(link: socket.socket) -> None:
        link.sendall(text)
        link.shutdown(socket.SHUT_RDWR)

    return behave


class TestAsk:
    def test_a_unix_socket(self, folder: Path, answering) -> None:
        there = answering(socket.AF_UNIX, str(folder / "s"), reply(b"Pid: 7\nVersion: 3.0.11\n"))
        assert ask(str(folder / "s"), "show info", 60) == "Pid: 7\nVersion: 3.0.11\n"
        assert there.asked == [b"show info\n"]

    def test_a_tcp_address(self, answering) -> None:
        there = answering(socket.AF_INET, ("127.0.0.1", 0), reply(b"admin\n\n"))
        port = there.listener.getsockname()[1]
        assert Balancer(f"127.0.0.1:{port}", 60).level() == "admin"

    def test_silence(self, folder: Path, answering) -> None:
        answering(socket.AF_UNIX, str(folder / "s"), lambda link: None)
        with pytest.raises(Unreachable, match=r"/s: no answer within 0.2 s"):
            ask(str(folder / "s"), "show info", 0.2)

    def test_an_answer_in_drops_does_not_stretch_the_timeout(self, folder: Path, answering) -> None:
        stop = threading.Event()

        def drip(link: socket.socket) -> None:
            while not stop.wait(0.02):
                link.sendall(b"x")

        answering(socket.AF_UNIX, str(folder / "s"), drip)
        try:
            with pytest.raises(Unreachable, match=r"no answer within 0\.3 s"):
                ask(str(folder / "s"), "show info", 0.3)
        finally:
            stop.set()

    def test_no_socket(self, folder: Path) -> None:
        with pytest.raises(Unreachable, match=r"/s: no such socket; HAProxy's line `stats socket`"):
            ask(str(folder / "s"), "show info", 60)

    def test_nobody_behind_it(self, folder: Path) -> None:
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(folder / "s"))
        with pytest.raises(Unreachable, match="/s: the socket is there, but no HAProxy listens behind it"):
            ask(str(folder / "s"), "show info", 60)

    def test_no_permission(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(address: str, timeout: float) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(_haproxy, "_connected", refuse)
        with pytest.raises(Unreachable, match=r"/s: permission denied; run as root \(become\)"):
            ask("/s", "show info", 60)

    def test_an_address_that_is_none(self) -> None:
        with pytest.raises(Unreachable, match=r"admin\.sock: is neither an absolute path nor HOST:PORT"):
            ask("admin.sock", "show info", 60)


class TestBalancer:
    def test_a_refused_change_says_what_was_asked_and_answered(self, folder: Path, answering) -> None:
        answering(socket.AF_UNIX, str(folder / "s"), reply(b"\n\nNo such server.\n\n"))
        with pytest.raises(HaproxyError, match=r"`set server b/s state maint` answered: No such server\."):
            Balancer(str(folder / "s"), 60).change("set server b/s state maint")

    def test_a_change_is_one_line(self, folder: Path, answering) -> None:
        there = answering(socket.AF_UNIX, str(folder / "s"), reply(b"\n\n\n"))
        Balancer(str(folder / "s"), 60).change("set server b/s state drain", "set server b/s health down")
        assert there.asked == [b"set server b/s state drain; set server b/s health down\n"]

    def test_something_else_behind_the_socket(self, folder: Path, answering) -> None:
        answering(socket.AF_UNIX, str(folder / "s"), reply(b"HTTP/1.0 400 Bad request\r\n"))
        balancer = Balancer(str(folder / "s"), 60, master=str(folder / "s"))
        with pytest.raises(HaproxyError, match="is this HAProxy"):
            balancer.info()
        with pytest.raises(HaproxyError, match="is not a master's socket"):
            balancer.old_workers()

    def test_a_master_that_executes_itself_anew_is_asked_again(self, folder: Path, answering) -> None:
        path = folder / "m"
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(path))
        with pytest.raises(Unreachable, match="/m: the socket is there, but no HAProxy listens behind it"):
            Balancer(str(folder / "s"), 0.1, master=str(path)).old_workers()

        def back() -> None:
            answering(socket.AF_UNIX, str(folder / "new"), reply(b"#<PID> <type>\n"))
            (folder / "new").rename(path)

        later = threading.Timer(0.3, back)
        later.start()
        assert Balancer(str(folder / "s"), 60, master=str(path)).old_workers() == []
        later.join()

    def test_without_a_masters_socket_no_old_workers_are_known(self) -> None:
        assert Balancer("/nothing", 60).old_sessions([(BACK, "ctl1")]) == {}

    def test_where_calls_meet(self) -> None:
        assert Balancer("/run/haproxy/admin.sock", 1).meeting_place == "/run/haproxy"
        assert Balancer("lb1:9999", 1).meeting_place == "/"


class TestReadings:
    def test_what_each_worker_has_counted(self, text, monkeypatch: pytest.MonkeyPatch) -> None:
        stat = text("tables_going_up").partition("\n\n")[0]
        old = text("info").replace("Pid: ", "Pid: 4")
        answers = {
            "show info": text("info"),
            "show stat": stat,
            "show proc": text("proc_after_reload"),
            "info": old,
            "stat": "Can't find the target PID\n",
        }
        asked = []

        def answer(_address: str, command: str, _timeout: float) -> str:
            asked.append(command)
            return answers[command if command.startswith("show") else command.rpartition(" ")[2]]

        monkeypatch.setattr(_haproxy, "ask", answer)
        reading = Balancer("/admin", 1, "/master").reading()
        # One that ended since it was named.
        assert any(command.startswith("@!") for command in asked) and len(reading["workers"]) == 1
        answers["stat"] = stat
        reading = Balancer("/admin", 1, "/master").reading()
        assert [worker["old"] for worker in reading["workers"]][:2] == [False, True]
        serving = reading["workers"][0]
        assert serving["pid"] > 0 and serving["started_at"] > 1_795_000_000
        assert serving["backends"] == {
            row["pxname"]: {"mode": "http", **{key: int(row[key] or 0) for key in _haproxy.COUNTED}}
            for row in parse_stat(stat)
            if row["type"] == "1" and any(int(row[key] or 0) for key in _haproxy.COUNTED)
        }
