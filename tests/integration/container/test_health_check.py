# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health check against a real server."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Service(ThreadingHTTPServer):
    """Answers /ok, /broken, /see-other, and /late, which is unhealthy three times first."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        code = {"/ok": 200, "/see-other": 303, "/broken": 500}.get(self.path, 404)
        if self.path == "/late":
            code = 200 if len(self.server.asked) > 3 else 503
        body = json.dumps({"version": {"status": "stable"}}).encode()
        with contextlib.suppress(OSError):
            self.send_response(code)
            if code == 303:
                self.send_header("Location", "/ok")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def run(run_module: Any) -> Any:
    def with_patience(check: bool = False, without: tuple[str, ...] = (), **options: Any) -> Any:
        patient = {"timeout": "60s", "interval": "100ms", **options}
        return run_module("health_check", patient, check=check, without=without)

    return with_patience


def test_healthy(service: Service, run: Any) -> None:
    options = {"body": "sta[b]le", "json": "version.status == 'stable'", "headers": {"X-Mine": "1"}}
    result = run(http=service.url + "/ok", **options)
    assert not result["failed"], result
    assert (result["changed"], result["healthy"], result["attempts"], result["failures"]) == (False, True, 1, 0)
    assert result["last_failure"] is None
    assert service.asked[0][1]["X-Mine"] == "1"


def test_it_becomes_healthy_and_stays_so(service: Service, run: Any) -> None:
    result = run(http=service.url + "/late", min_healthy_time="500ms", healthy_deadline="170s")
    assert not result["failed"], result
    assert result["failures"] == 3
    assert result["attempts"] >= 5
    assert result["last_failure"] == f"GET {service.url}/late: status 503, not 200"


def test_it_never_does(service: Service, run: Any) -> None:
    result = run(http=service.url + "/broken", healthy_deadline="1s")
    assert result["failed"]
    assert "not healthy by the deadline (1s" in result["msg"]
    assert result["last_failure"] == f"GET {service.url}/broken: status 500, not 200"
    assert result["attempts"] == result["failures"] > 0


def test_redirects_are_answers(service: Service, run: Any) -> None:
    assert not run(http=service.url + "/see-other", status=[200, 303])["failed"]
    assert run(http=service.url + "/see-other", healthy_deadline="300ms")["failed"]


def test_check_mode_asks_once(service: Service, run: Any) -> None:
    result = run(http=service.url + "/broken", min_healthy_time="10s", check=True)
    assert (result["failed"], result["healthy"], result["attempts"]) == (False, False, 1)
    result = run(http=service.url + "/ok", min_healthy_time="10s", check=True)
    assert (result["failed"], result["healthy"], result["attempts"]) == (False, True, 1)


def test_secrets_are_never_shown(service: Service, run: Any) -> None:
    url = service.url.replace("http://", "http://me:hunter2secret@") + "/broken"
    headers = {"X-Auth-Token": "t0psecret", "Host": "keystone"}
    result = run(http=url, headers=headers, healthy_deadline="300ms")
    assert result["failed"]
    assert "hunter2secret" not in result["everything"]
    assert "t0psecret" not in result["everything"]
    assert "127.0.0.1" in result["msg"]
    sent = service.asked[0][1]
    assert (sent["X-Auth-Token"], sent["Host"]) == ("t0psecret", "keystone")
    assert sent["Authorization"].startswith("Basic ")


def test_tcp(service: Service, run: Any) -> None:
    assert not run(tcp=f"127.0.0.1:{service.server_port}")["failed"]
    # Bound but not listening: nobody else can take it, and connections to it are refused.
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        result = run(tcp=f"127.0.0.1:{closed.getsockname()[1]}", healthy_deadline="300ms")
    assert result["failed"]
    assert "no connection" in result["last_failure"]


def test_command(run: Any) -> None:
    assert not run(command=["true"])["failed"]
    result = run(command="sh -c 'echo no good; exit 2'", healthy_deadline="300ms")
    assert result["failed"]
    assert result["last_failure"] == "command sh: exit code 2: no good"


def test_jmespath_is_needed_for_json_only(service: Service, run: Any) -> None:
    assert not run(http=service.url + "/ok", without=("jmespath",))["failed"]
    result = run(http=service.url + "/ok", json="version", without=("jmespath",))
    assert result["failed"]
    assert "required Python library (jmespath)" in result["msg"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"http": "http://127.0.0.1/", "min_healthy_time": "10s", "healthy_deadline": "5s"}, "min_healthy_time: 10s"),
        ({"http": "http://127.0.0.1/", "interval": "soon"}, 'interval: "soon" is no duration'),
        ({"http": "http://127.0.0.1/", "tcp": "127.0.0.1:1"}, "mutually exclusive"),
        ({}, "one of the following is required"),
    ],
)
def test_refused(run: Any, options: dict[str, Any], message: str) -> None:
    result = run(**options)
    assert result["failed"]
    assert message in result["msg"]
