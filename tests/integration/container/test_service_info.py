# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What services say of themselves, where not all of it can be had."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from docker.types import LogConfig

if TYPE_CHECKING:
    from conftest import Lab


class Service(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_a_log_that_can_not_be_read_is_a_note_and_the_others_count(lab: Lab, run_module: Any, endpoint: str) -> None:
    names = [lab.deploy(), lab.deploy("mute", log_config=LogConfig(type="none"))]
    logs = [{"service": f"s{number}", "container": name} for number, name in enumerate(names)]
    result = run_module("service_info", {"endpoints": [{"url": endpoint}], "samples": 5, "logs": logs})
    assert not result["failed"], result
    assert result["endpoints"][0]["answers"]
    assert [row["current"] for row in result["logs"]["s0"]["rows"]] == [True] and not result["logs"]["s0"]["note"]
    assert result["logs"]["s1"]["rows"] == [] and "does not support reading" in result["logs"]["s1"]["note"]


def test_without_an_engine_endpoints_are_asked_all_the_same(run_module: Any, endpoint: str) -> None:
    arguments = {"endpoints": [{"url": endpoint}], "samples": 5, "logs": [{"service": "web", "container": "web"}]}
    result = run_module("service_info", {**arguments, "docker_host": "unix:///nowhere/docker.sock"})
    assert not result["failed"], result
    assert result["endpoints"][0]["answers"]
    assert "the container engine does not answer" in result["logs"]["web"]["note"]
