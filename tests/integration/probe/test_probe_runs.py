# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe as a program, against a small server that can be told to misbehave."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).resolve().parents[3] / "roles" / "probe" / "files" / "probe.py"
PATIENCE = 120.0
TOKEN = "a-token"
IDENTITY = {"username": "admin", "password": "a-secret", "project": "admin"}


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[Any] = []
        self.fail_first = 0
        self.hang = threading.Event()
        self.drop_second = False
        self.dropped = 0
        self.guard = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server
    second = False

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def answer(self, status: int, body: bytes = b"{}", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        with self.server.guard:
            self.server.seen.append((self.command, self.path, dict(self.headers)))
            fail = self.server.fail_first > 0
            self.server.fail_first -= fail
        if self.second and self.server.drop_second:
            self.server.dropped += 1
            self.close_connection = True
            return
        if self.path == "/hang":
            self.server.hang.wait(PATIENCE)
            return
        if fail:
            self.answer(503, b"no server is available")
        elif self.path == "/v3/auth/tokens" and self.command == "POST":
            with self.server.guard:
                self.server.bodies.append(json.loads(body))
            self.answer(201, X_Subject_Token=TOKEN)
        elif self.path in ("/v3/auth/tokens", "/v3/auth/catalog"):
            subject = self.path.endswith("catalog") or self.headers["X-Subject-Token"] == TOKEN
            self.answer(200 if self.headers["X-Auth-Token"] == TOKEN and subject else 401)
        elif self.path == "/welcome":
            self.answer(200, b"Welcome")
        else:
            self.answer(404)
        self.second = True

    do_GET = do_POST = serve


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield made
    made.hang.set()
    made.shutdown()
    made.server_close()


def configure(folder: Path, **values: Any) -> Path:
    path = folder / "probe.json"
    path.write_text(json.dumps({"timeout": "60s", **values}), encoding="utf-8")
    path.chmod(0o600)
    return path


def probe(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE
    )


def summary(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return loaded


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]


def test_all_kinds_on_new_and_kept_connections(server: Server, tmp_path: Path) -> None:
    path = configure(
        tmp_path,
        rate=100,
        duration="400ms",
        identity=IDENTITY,
        requests=[{"kind": kind, "url": f"{server.url}/v3"} for kind in ("token_issue", "token_validate", "catalogue")]
        + [{"kind": "http", "url": f"{server.url}/welcome", "contains": "^Welcome$"}],
    )
    done = probe("run", path)
    assert done.returncode == 0, done.stderr + done.stdout
    result = summary(tmp_path)
    assert (result["sent"], result["failed"], result["retried"]) == (40, 0, 0)
    assert {name: kind["sent"] for name, kind in result["kinds"].items()} == dict.fromkeys(
        ("token_issue", "token_validate", "catalogue", "http"), 10
    )
    assert result["proves"]["failure_rate_below"] == pytest.approx(3 / 40)
    assert result["latency_ms"]["max"] >= result["latency_ms"]["p99"] >= result["latency_ms"]["p50"] > 0
    assert server.bodies[0]["auth"]["scope"]["project"]["name"] == "admin"
    assert "sent 40, failed 0, retried 0" in done.stdout
    # The first token is got before the schedule begins and is not counted.
    assert len(server.seen) == 41
    written = "".join(file.read_text(encoding="utf-8") for file in tmp_path.iterdir() if file != path)
    assert "a-secret" not in written and TOKEN not in written


def test_a_slow_client_takes_its_time_and_sends_all(server: Server, tmp_path: Path) -> None:
    slow = {"kind": "token_issue", "url": server.url + "/v3", "slow": "1s", "identity": IDENTITY}
    done = probe("run", configure(tmp_path, duration="1s", rate=3, requests=[slow]))
    assert done.returncode == 0, done.stdout + done.stderr
    assert summary(tmp_path)["latency_ms"]["p50"] >= 1000
    assert {body["auth"]["identity"]["password"]["user"]["name"] for body in server.bodies} == {"admin"}


def test_the_version_that_answered_is_counted(server: Server, tmp_path: Path) -> None:
    requests = [{"url": server.url + "/welcome", "version": "^(Wel)"}]
    assert probe("run", configure(tmp_path, duration="1s", rate=10, requests=requests)).returncode == 0
    assert summary(tmp_path)["versions"] == {"Wel": 10}


def test_new_connections_are_new_and_kept_ones_are_kept(server: Server, tmp_path: Path) -> None:
    for connection in ("new", "keep_alive"):
        folder = tmp_path / connection
        folder.mkdir()
        server.seen.clear()
        request = {"url": f"{server.url}/welcome", "connection": connection}
        done = probe("run", configure(folder, rate=100, duration="100ms", requests=[request]))
        assert done.returncode == 0, done.stderr
        # How many connections are kept depends on how requests overlap; what each asks the server for does not.
        asked = [headers.get("Connection") for _method, _path, headers in server.seen]
        assert asked == [{"new": "close", "keep_alive": None}[connection]] * 10


def test_failures_are_kept_with_time_status_and_reason(server: Server, tmp_path: Path) -> None:
    server.fail_first = 3
    path = configure(tmp_path, rate=100, duration="100ms", requests=[{"url": f"{server.url}/welcome"}])
    done = probe("run", path, "--json")
    assert done.returncode == 1
    result = json.loads(done.stdout)
    assert result == summary(tmp_path)
    assert (result["sent"], result["failed"]) == (10, 3)
    assert result["proves"]["failure_rate_below"] is None
    failed = [event for event in events(tmp_path) if event["event"] == "failed"]
    assert len(failed) == len(result["failures"]) == 3
    for failure in failed:
        assert failure["status"] == 503 and failure["reason"] == "status 503, not 200"
        assert failure["detail"] == "no server is available" and failure["at"].endswith("Z")


def test_a_success_on_a_retry_is_counted_apart(server: Server, tmp_path: Path) -> None:
    server.fail_first = 1
    path = configure(
        tmp_path, rate=100, duration="50ms", retries=2, retry_delay="1ms", requests=[{"url": f"{server.url}/welcome"}]
    )
    assert probe("run", path).returncode == 0
    result = summary(tmp_path)
    assert (result["sent"], result["failed"], result["retried"]) == (5, 0, 1)
    assert [event["status"] for event in events(tmp_path) if event["event"] == "retried"] == [503]


def test_a_silent_server_does_not_stop_the_schedule(server: Server, tmp_path: Path) -> None:
    path = configure(tmp_path, rate=100, duration="200ms", timeout="2s", requests=[{"url": f"{server.url}/hang"}])
    assert probe("run", path).returncode == 1
    result = summary(tmp_path)
    assert (result["sent"], result["failed"]) == (20, 20)
    assert {failure["reason"] for failure in result["failures"]} == {"no answer within 2 s"}
    assert result["latency_ms"]["p50"] >= 1900


def test_a_refused_connection_is_a_failure_with_a_reason(server: Server, tmp_path: Path) -> None:
    import socket

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound but not listening: refuses, and nobody else can take the port
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        done = probe("run", configure(tmp_path, rate=100, duration="30ms", requests=[{"url": url}]))
    assert done.returncode == 1
    assert all("ClientConnectorError" in failure["reason"] for failure in summary(tmp_path)["failures"])


def test_urls_are_asked_in_turn(server: Server, tmp_path: Path) -> None:
    requests = [{"url": [f"{server.url}/welcome", f"{server.url}/missing"], "status": [200, 404]}]
    assert probe("run", configure(tmp_path, rate=100, duration="100ms", requests=requests)).returncode == 0
    paths = [path for _method, path, _client in server.seen]
    assert (paths.count("/welcome"), paths.count("/missing")) == (5, 5)


def test_started_in_the_background_read_while_running_and_stopped(server: Server, tmp_path: Path) -> None:
    path = configure(tmp_path, rate=50, requests=[{"url": f"{server.url}/welcome"}])
    started = probe("start", path)
    assert started.returncode == 0, started.stderr
    try:
        assert json.loads(started.stdout)["running"] is True
        second = probe("start", path)
        assert second.returncode == 3 and "already runs" in second.stderr
        deadline = time.monotonic() + PATIENCE
        while json.loads(probe("status", path).stdout)["succeeded"] < 5:
            assert time.monotonic() < deadline, "the live counts never grew"
    finally:
        stopped = probe("stop", path, "--json")
    assert stopped.returncode == 0, stopped.stderr
    result = json.loads(stopped.stdout)
    assert result["sent"] >= 5 and result["failed"] == 0 and result["sent"] == summary(tmp_path)["sent"]
    assert json.loads(probe("status", path).stdout)["running"] is False
    assert probe("stop", path).returncode == 0, "stopping twice tells the result again"


def test_sigterm_ends_it_with_a_summary(server: Server, tmp_path: Path) -> None:
    path = configure(tmp_path, rate=50, requests=[{"url": f"{server.url}/welcome"}])
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), "run", str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as running:
        deadline = time.monotonic() + PATIENCE
        while not server.seen:
            assert time.monotonic() < deadline and running.poll() is None
            time.sleep(0.05)
        running.terminate()
        running.communicate(timeout=PATIENCE)
    assert running.returncode == 0
    assert summary(tmp_path)["sent"] > 0


def test_no_token_to_begin_with_is_said(server: Server, tmp_path: Path) -> None:
    server.fail_first = 10_000
    requests = [{"kind": "catalogue", "url": f"{server.url}/v3"}]
    path = configure(tmp_path, start_timeout="100ms", identity=IDENTITY, requests=requests)
    done = probe("start", path)
    assert done.returncode == 3
    assert "no token from" in done.stderr and "503" in done.stderr and "a-secret" not in done.stderr


def test_kept_connections_that_the_server_closed_are_counted_as_retried(server: Server, tmp_path: Path) -> None:
    server.drop_second = True
    requests = [{"url": f"{server.url}/welcome", "connection": "keep_alive"}]
    # Two requests and no more: with three, the client's one retry could land on another connection in its second use.
    assert probe("run", configure(tmp_path, rate=4, duration="500ms", requests=requests)).returncode == 0
    result = summary(tmp_path)
    told = [event for event in events(tmp_path) if event["event"] == "retried"]
    assert (result["sent"], result["failed"]) == (2, 0)
    assert result["retried"] == len(told) == server.dropped


def test_the_passwords_file_must_be_private(tmp_path: Path) -> None:
    requests = [{"kind": "catalogue", "url": "http://127.0.0.1:9/v3"}]
    path = configure(tmp_path, identity=IDENTITY, requests=requests)
    path.chmod(0o644)
    done = probe("run", path)
    assert done.returncode == 2 and "chmod 600" in done.stderr
