# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real HAProxy in a container, real applications behind it in threads, and the modules as Ansible runs them.

Everything meets on UNIX sockets in one short folder: no port to choose, none to lose while an application is down.
A slow request is one that waits until the test lets it go, so that no test depends on how fast the machine is.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import shutil
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
COLLECTIONS = ROOT / ".cache" / "collections"
VERSIONS = ("2.6", "3.0")

# Longer than any machine needs: only a defect reaches it.
PATIENCE = 120.0

CONFIGURATION = """
global
    stats socket {home}/admin.sock mode 666 level admin
    stats socket {home}/operator.sock mode 666 level operator

defaults
    mode http
    timeout connect 20s
    timeout client 300s
    timeout server 300s
    timeout check 20s
    # A request that reaches a dead application has to fail here, or no test could see it.
    retries 0
    default-server inter 200 rise 2 fall 1

frontend internal
    bind unix@{home}/internal.sock mode 666
    default_backend keystone_internal_back

frontend external
    bind unix@{home}/external.sock mode 666
    default_backend keystone_external_back

frontend plain
    bind unix@{home}/plain.sock mode 666
    default_backend plain_back

backend keystone_internal_back
    option httpchk GET /healthcheck
    server ctl1 unix@{home}/ctl1.app check
    server ctl2 unix@{home}/ctl2.app check

backend keystone_external_back
    option httpchk GET /healthcheck
    server ctl1 unix@{home}/ctl1.app check
    server ctl2 unix@{home}/ctl2.app check

backend follower_back
    server ctl1 unix@{home}/ctl1.app track keystone_internal_back/ctl1
    server ctl2 unix@{home}/ctl2.app track keystone_internal_back/ctl2

backend plain_back
    server ctl1 unix@{home}/ctl1.app
    server ctl2 unix@{home}/ctl2.app
"""


def until(happened: Callable[[], Any], what: str) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = happened()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"never seen: {what}"
        time.sleep(0.05)


class Application:
    """One instance's application: `/healthcheck`, `/slow` (waits for `gate`), anything else answers with its name."""

    def __init__(self, home: Path, name: str) -> None:
        self.name = name
        self.path = home / f"{name}.app"
        self.gate = threading.Event()
        self.waiting = 0
        self.served = 0
        self.server: socketserver.ThreadingUnixStreamServer | None = None

    def start(self) -> None:
        application = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path == "/slow":
                    application.waiting += 1
                    application.gate.wait(PATIENCE * 2)
                elif self.path != "/healthcheck":
                    application.served += 1
                body = application.name.encode()
                with contextlib.suppress(OSError):
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.send_header("Connection", "close")
                    self.end_headers()
                    self.wfile.write(body)
                self.close_connection = True

            def log_message(self, *words: Any) -> None:
                pass

            def address_string(self) -> str:
                return application.name

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 128

            def handle_error(self, *words: Any) -> None:
                pass  # HAProxy hangs up on checks and on closed sessions

        self.path.unlink(missing_ok=True)
        self.server = Server(str(self.path), Handler)
        self.path.chmod(0o666)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Dead: connections are refused from now on."""
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
            self.path.unlink(missing_ok=True)


class Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("haproxy", timeout=PATIENCE * 2)
        self.unix = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.unix))


class Load:
    """Clients that never stop asking, and what they were answered."""

    def __init__(self, get: Callable[[], tuple[int, str]], clients: int = 3) -> None:
        self.get = get
        self.answers: list[tuple[int, str]] = []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.ask, daemon=True) for _ in range(clients)]

    def ask(self) -> None:
        # At uneven times: in lockstep with another client each would always meet the same server.
        while not self.over.wait(random.uniform(0, 0.01)):
            try:
                self.answers.append(self.get())
            except (OSError, http.client.HTTPException) as error:
                self.answers.append((0, repr(error)))

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(PATIENCE)

    @property
    def failed(self) -> list[tuple[int, str]]:
        return [answer for answer in self.answers if answer[0] != 200]


class Lab:
    """One HAProxy with its applications ctl1 and ctl2."""

    configuration = CONFIGURATION

    def __init__(self, home: Path, version: str) -> None:
        self.home = home
        self.version = version
        self.container = f"rondo-haproxy-test-{uuid.uuid4().hex[:12]}"
        self.applications = {name: Application(home, name) for name in ("ctl1", "ctl2")}
        self.pool = ThreadPoolExecutor(8)
        self.config = home / "haproxy.cfg"
        self.admin = str(home / "admin.sock")
        self.master = str(home / "master.sock")

    def start(self) -> None:
        self.config.write_text(self.configuration.format(home=self.home))
        for application in self.applications.values():
            application.start()
        docker(
            "run", "--detach", "--name", self.container, "--network", "none",
            "--user", f"{os.getuid()}:{os.getgid()}", "--volume", f"{self.home}:{self.home}",
            f"rondo/haproxy:{self.version}",
            "haproxy", "-W", "-db", "-S", f"{self.master},mode,666", "-f", str(self.config),
        )  # fmt: skip
        until(self.all_up, "both servers up in both backends")
        # The worker may answer already while its master still starts; until then the signal to reload is lost.
        until(self.master_up, "the master")

    def close(self) -> None:
        for application in self.applications.values():
            application.gate.set()
        subprocess.run(["docker", "rm", "--force", self.container], capture_output=True, check=False, timeout=300)
        for application in self.applications.values():
            application.stop()
        self.pool.shutdown(wait=False, cancel_futures=True)

    def reload(self) -> None:
        """As `systemctl reload haproxy` does it; returns when the new worker answers."""
        before = self.cli("show info").split("Pid: ")[1].split()[0]
        docker("kill", "--signal", "USR2", self.container)
        until(
            lambda: f"Pid: {before}\n" not in (self.cli("show info", quiet=True) or f"Pid: {before}\n"), "a new worker"
        )

    def restart(self) -> None:
        """The whole container: its processes may get the same pids."""
        docker("restart", self.container)
        until(self.all_up, "both servers up again")

    def cli(self, command: str, quiet: bool = False) -> str:
        """Ask the runtime API without any of the code under test."""
        try:
            with socket.socket(socket.AF_UNIX) as link:
                link.settimeout(PATIENCE)
                link.connect(self.admin)
                link.sendall(command.encode() + b"\n")
                return b"".join(iter(lambda: link.recv(65536), b"")).decode()
        except OSError:
            if quiet:
                return ""
            raise

    def master_up(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as link:
                link.settimeout(PATIENCE)
                link.connect(self.master)
                link.sendall(b"show proc\n")
                link.shutdown(socket.SHUT_WR)
                return b" worker " in b"".join(iter(lambda: link.recv(65536), b""))
        except OSError:
            return False

    def status(self, backend: str, name: str) -> str:
        for line in self.cli("show stat", quiet=True).splitlines():
            words = line.split(",")
            if words[:2] == [backend, name]:
                return words[17]
        return ""

    def all_up(self) -> bool:
        return all(
            self.status(backend, name) == "UP"
            for backend in ("keystone_internal_back", "keystone_external_back", "follower_back")
            for name in self.applications
        )

    def get(self, path: str = "/", frontend: str = "internal") -> tuple[int, str]:
        """(status, body) of a request on a connection of its own."""
        connection = Connection(self.home / f"{frontend}.sock")
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def outcome(self, path: str) -> tuple[int, str]:
        """As `get`; a connection that is closed without an answer has status 0."""
        try:
            return self.get(path)
        except (OSError, http.client.HTTPException) as error:
            return 0, repr(error)

    def slow_request(self, name: str) -> Any:
        """A request that hangs in this very application, as a future."""
        others = [one for one in self.applications if one != name]
        for other in others:
            self.cli(f"set server keystone_internal_back/{other} state drain")
        before = self.applications[name].waiting
        future = self.pool.submit(self.outcome, "/slow")
        until(lambda: self.applications[name].waiting > before, f"a request in {name}")
        for other in others:
            self.cli(f"set server keystone_internal_back/{other} state ready")
        return future

    def module(self, name: str, **options: Any) -> dict[str, Any]:
        """Run a module as Ansible does: a process of its own, arguments on its standard input."""
        process = self.begin(name, **options)
        return self.end(process)

    def begin(self, name: str, **options: Any) -> subprocess.Popen[str]:
        options = {"socket": self.admin, **options, "_ansible_check_mode": options.get("check_mode", False)}
        arguments = {key: value for key, value in options.items() if value is not None and key != "check_mode"}
        process = subprocess.Popen(
            [sys.executable, "-m", f"ansible_collections.rondo.upgrade.plugins.modules.{name}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
        process.stdin.close()
        process.stdin = None
        return process

    def end(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        out, err = process.communicate(timeout=PATIENCE * 3)
        assert out.strip(), err
        result: dict[str, Any] = json.loads(out)
        return result

    def rows(self, name: str, *backends: str) -> list[dict[str, str]]:
        chosen = backends or ("keystone_internal_back", "keystone_external_back")
        return [{"backend": backend, "name": name} for backend in chosen]


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"docker {words[0]}: {done.stderr.strip()}"
    return done.stdout.strip()


@pytest.fixture(scope="session")
def images() -> None:
    """Both releases of HAProxy; made here if they are missing."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "images.py"), *(f"haproxy-{version}" for version in VERSIONS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=3600,
    )
    assert done.returncode == 0, f"the images can't be made (is an engine there? `make engine`): {done.stderr[-2000:]}"


@pytest.fixture(params=VERSIONS)
def lab(request: pytest.FixtureRequest, images: None) -> Iterator[Lab]:
    # Not tmp_path: a UNIX socket's path may have 107 characters, and HAProxy appends to it while it binds.
    home = Path(tempfile.mkdtemp(prefix="rhx-", dir="/tmp"))
    home.chmod(0o755)
    lab = Lab(home, request.param)
    try:
        lab.start()
        yield lab
    finally:
        lab.close()
        shutil.rmtree(home, ignore_errors=True)


HOLD_CONFIGURATION = """
global
    stats socket {home}/admin.sock mode 666 level admin
    setenv RONDO_HOLD keystone,mariadb
    lua-load {home}/rondo_hold.lua
    nbthread 4

defaults
    mode http
    timeout connect 20s
    timeout client 300s
    timeout server 300s
    retries 0

frontend internal
    bind unix@{home}/internal.sock mode 666
    maxconn 2000
    http-request lua.rondo_hold keystone
    default_backend keystone_back

frontend external
    bind unix@{home}/external.sock mode 666
    http-request lua.rondo_hold keystone
    default_backend keystone_back

frontend plain
    bind unix@{home}/plain.sock mode 666
    default_backend keystone_back

# Says in which turn a request was let through.
frontend ordered
    bind unix@{home}/ordered.sock mode 666
    http-request lua.rondo_hold keystone
    http-request track-sc0 str(all) table turns
    http-request sc-inc-gpc0(0)
    http-request set-var(txn.turn) sc0_get_gpc0
    http-response set-header X-Turn %[var(txn.turn)]
    default_backend keystone_back

backend turns
    stick-table type string size 10 expire 1h store gpc0

frontend mariadb
    mode tcp
    bind unix@{home}/mariadb.sock mode 666
    tcp-request inspect-delay 10m
    tcp-request content lua.rondo_hold mariadb
    default_backend tcp_back

frontend rabbitmq
    mode tcp
    bind unix@{home}/rabbitmq.sock mode 666
    default_backend tcp_back

backend keystone_back
    server ctl1 unix@{home}/ctl1.app
    server ctl2 unix@{home}/ctl2.app

backend tcp_back
    mode tcp
    server ctl1 unix@{home}/ctl1.app
"""


class HoldLab(Lab):
    """One HAProxy that can hold keystone (HTTP) and mariadb (TCP), and can't hold rabbitmq by itself."""

    configuration = HOLD_CONFIGURATION

    def start(self) -> None:
        shutil.copy(ROOT / "roles" / "hold" / "files" / "rondo_hold.lua", self.home)
        super().start()

    def all_up(self) -> bool:
        return bool(self.cli("show info", quiet=True))

    def hold_status(self, service: str = "keystone") -> dict[str, str]:
        """What the balancer says of the hold, without any of the code under test."""
        return dict(word.split("=", 1) for word in self.cli(f"rondo hold {service}").split())

    def waiting(self, count: int, service: str = "keystone") -> None:
        until(lambda: self.hold_status(service)["waiting"] == str(count), f"{count} waiting requests of {service}")

    def settle(self) -> None:
        """Nothing is held, and nothing is left of an earlier hold."""
        for service in ("keystone", "mariadb"):
            self.cli(f"rondo hold {service} off")
            until(lambda service=service: self.hold_status(service)["state"] == "off", f"{service} not held")
        self.servers("ready")

    def servers(self, state: str) -> None:
        for name in self.applications:
            self.cli(f"set server keystone_back/{name} state {state}")

    def kept(self, frontend: str = "internal") -> Connection:
        """A kept-alive connection over which a request was answered already."""
        connection = Connection(self.home / f"{frontend}.sock")
        assert self.ask_over(connection)[0] == 200
        return connection

    def ask_over(self, connection: Connection) -> tuple[int, str | None]:
        """(status, Retry-After) of a request; a connection that is closed without an answer has status 0."""
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.getheader("Retry-After")
        except (OSError, http.client.HTTPException):
            return 0, None

    def connection(self, frontend: str) -> Connection:
        return Connection(self.home / f"{frontend}.sock")

    def turn(self, connection: Connection) -> int:
        """In which turn the balancer let a request through."""
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        return int(answer.getheader("X-Turn") or 0)

    def requests(self, count: int, kept: list[Connection] | None = None, frontend: str = "internal") -> list[Any]:
        """Requests on connections of their own, and one on each kept one, as futures."""
        fresh = [Connection(self.home / f"{frontend}.sock") for _ in range(count)]
        return [self.pool.submit(self.ask_over, connection) for connection in fresh + (kept or [])]

    def hold(self, state: str, **options: Any) -> dict[str, Any]:
        options = {"service": "keystone", "master_socket": self.master, "state_directory": str(self.home), **options}
        return self.module("haproxy_hold", state=state, **options)


@contextlib.contextmanager
def hold_lab_of(version: str, configuration: str = HOLD_CONFIGURATION) -> Iterator[HoldLab]:
    home = Path(tempfile.mkdtemp(prefix="rhx-", dir="/tmp"))
    home.chmod(0o755)
    lab = HoldLab(home, version)
    lab.configuration = configuration
    lab.pool = ThreadPoolExecutor(64)
    try:
        lab.start()
        yield lab
    finally:
        lab.close()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module", params=VERSIONS)
def shared_hold_lab(request: pytest.FixtureRequest, images: None) -> Iterator[HoldLab]:
    with hold_lab_of(request.param) as lab:
        yield lab


@pytest.fixture
def hold_lab(shared_hold_lab: HoldLab) -> Iterator[HoldLab]:
    """One balancer for all tests of a release: each finds it and leaves it with nothing held."""
    shared_hold_lab.settle()
    yield shared_hold_lab
    shared_hold_lab.settle()


@pytest.fixture
def second_hold_lab(hold_lab: HoldLab) -> Iterator[HoldLab]:
    with hold_lab_of(hold_lab.version) as lab:
        yield lab


@pytest.fixture(params=VERSIONS)
def plain_lab(request: pytest.FixtureRequest, images: None) -> Iterator[HoldLab]:
    """A balancer that can't hold yet."""
    words = ("rondo_hold", "RONDO_HOLD", "inspect-delay")
    lines = [line for line in HOLD_CONFIGURATION.splitlines(True) if not any(word in line for word in words)]
    with hold_lab_of(request.param, "".join(lines)) as lab:
        yield lab


@pytest.fixture(params=VERSIONS)
def single_thread_lab(request: pytest.FixtureRequest, images: None) -> Iterator[HoldLab]:
    with hold_lab_of(request.param, HOLD_CONFIGURATION.replace("nbthread 4", "nbthread 1")) as lab:
        yield lab


@pytest.fixture
def load() -> type[Load]:
    return Load


HOME = ("ctl1", "ctl2")
COPIES = ("ctl1.rondo-beside", "ctl2.rondo-beside")
BACKENDS = ("keystone_internal_back", "keystone_external_back")


class Broken(Application):
    """Healthy, and every answer else is an error."""

    def start(self) -> None:
        super().start()
        assert self.server is not None
        handler = self.server.RequestHandlerClass
        good = handler.do_GET  # type: ignore[attr-defined]

        def answer(request: BaseHTTPRequestHandler) -> None:
            if request.path == "/healthcheck":
                good(request)
                return
            request.send_response(500)
            request.send_header("Content-Length", "0")
            request.end_headers()

        handler.do_GET = answer  # type: ignore[attr-defined]


class BesideLab(Lab):
    """The lab, and two more applications: second copies of ctl1 and ctl2, which start when the test says so."""

    def __init__(self, home: Path, version: str) -> None:
        super().__init__(home, version)
        self.copies = {name: Application(home, name) for name in COPIES}

    def start(self) -> None:
        for application in self.copies.values():
            application.start()
        super().start()

    def close(self) -> None:
        super().close()
        for application in self.copies.values():
            application.gate.set()
            application.stop()

    def beside(self, **options: Any) -> dict[str, Any]:
        return self.module("haproxy_beside", **self.options(**options))

    def options(self, backends: tuple[str, ...] = BACKENDS, **options: Any) -> dict[str, Any]:
        return {
            "service": "keystone",
            "servers": [{"backend": backend, "name": name} for backend in backends for name in HOME],
            "copies": [
                {"backend": backend, "name": name, "address": f"unix@{self.home}/{name}.app"}
                for backend in backends
                for name in COPIES
            ],
            "config": str(self.config),
            "check_command": f"docker exec {self.container} haproxy -c -f %s",
            "reload_command": ["docker", "kill", "--signal", "USR2", self.container],
            "master_socket": self.master,
            "timeout": PATIENCE,
            **options,
        }

    def asked(self, count: int = 40) -> Counter[str]:
        """Who answered that many requests, one after the other. Other clients take turns, too: of a few requests all
        may fall to one server."""
        answers = [self.get() for _ in range(count)]
        assert {status for status, _body in answers} == {200}
        return Counter(body for _status, body in answers)

    def break_copies(self) -> None:
        for name in COPIES:
            self.copies[name].stop()
            self.copies[name] = Broken(self.home, name)
            self.copies[name].start()

    def names(self, backend: str = "keystone_internal_back") -> list[str]:
        rows = [line.split(",") for line in self.cli("show stat").splitlines()]
        return sorted(row[1] for row in rows if row[0] == backend and row[1] not in ("BACKEND", "FRONTEND"))

    def again_as_it_was(self) -> None:
        assert self.config.read_text() == self.configuration.format(home=self.home)
        assert self.names() == sorted(HOME)
        assert set(self.asked()) == set(HOME)


class StaticLab(BesideLab):
    """HAProxy adds no servers at run time to a backend with a static algorithm."""

    configuration = CONFIGURATION.replace(
        "    option httpchk GET /healthcheck\n", "    balance static-rr\n    option httpchk GET /healthcheck\n"
    )


@contextlib.contextmanager
def beside_lab_of(version: str, kind: type[BesideLab]) -> Iterator[BesideLab]:
    home = Path(tempfile.mkdtemp(prefix="rhx-", dir="/tmp"))
    home.chmod(0o755)
    lab = kind(home, version)
    try:
        lab.start()
        yield lab
    finally:
        lab.close()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(params=VERSIONS)
def beside_lab(request: pytest.FixtureRequest, images: None) -> Iterator[BesideLab]:
    with beside_lab_of(request.param, BesideLab) as lab:
        yield lab


@pytest.fixture(params=VERSIONS)
def static_lab(request: pytest.FixtureRequest, images: None) -> Iterator[BesideLab]:
    with beside_lab_of(request.param, StaticLab) as lab:
        yield lab
