# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records that are made before and looked for after, with a server that stands for Keystone's API."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._keystone_records import LOGIN, TESTS, run
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._regression import Moment, Result

MADE = "the records can be made and read"
REMOVED = "the records can be removed"


class Keystone(BaseHTTPRequestHandler):
    """Projects, users, assignments and tokens, of `server.held`; paths in `server.broken` answer 500."""

    def answer(self, status: int, body: Any = None, **headers: str) -> None:
        content = json.dumps(body or {}).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def act(self) -> None:
        held: dict[str, set[str]] = self.server.held  # type: ignore[attr-defined]
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        path = self.path.removeprefix("/v3")
        kind, _slash, name = path.strip("/").partition("/")
        if f"{self.command} {path}" in self.server.broken:  # type: ignore[attr-defined]
            self.answer(500)
        elif path == "/auth/tokens" and self.command == "POST":
            user = body["auth"]["identity"]["password"]["user"]
            assigned = user.get("name") == "admin" or any(user["id"] in each for each in held["assignments"])
            # A token of another user would be taken for the one to be rescoped.
            assert "X-Auth-Token" not in self.headers
            self.answer(201 if assigned else 401, **{"X-Subject-Token": f"token-of-{user.get('name', user.get('id'))}"})
        elif path == "/auth/tokens":
            self.answer(200 if self.headers["X-Subject-Token"].removeprefix("token-of-") in held["users"] else 404)
        elif kind == "roles?name=member":
            self.answer(200, {"roles": [{"id": "r1"}]})
        elif self.command == "POST":
            held[kind].add(f"{kind}-{len(held[kind])}")
            self.answer(201, {kind[:-1]: {"id": f"{kind}-{len(held[kind]) - 1}"}})
        elif self.command == "PUT":
            held["assignments"].add(path)
            self.answer(204)
        elif "/roles/" in path:
            self.answer(204 if path in held["assignments"] else 404)
        else:
            there = name in held[kind]
            if self.command == "DELETE":
                held[kind].discard(name)
            self.answer((204 if self.command == "DELETE" else 200) if there else 404)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = act

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Keystone) as made:
        made.held = {"projects": set(), "users": set(), "assignments": set()}  # type: ignore[attr-defined]
        made.broken = set()  # type: ignore[attr-defined]
        threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True).start()
        yield made
        made.shutdown()


def ran(server: Any, folder: Path, moment: Moment) -> list[Result]:
    options = {
        "url": f"http://127.0.0.1:{server.server_port}/v3", "username": "admin", "password": "secret",
        "project": "admin",
        "user_domain": "Default", "project_domain": "Default", "role": "member", "ca": None,
    }  # fmt: skip
    return list(run("records", "keystone", options, moment, folder / "records.json"))


def failed(results: list[Result]) -> list[str]:
    return [result.name for result in results if result.outcome == "failed"]


def test_what_was_made_is_there_afterwards_and_then_goes(server: Any, tmp_path: Path) -> None:
    before = ran(server, tmp_path, "before")
    file = tmp_path / "records.json"
    assert [result.name for result in before] == [MADE, *TESTS, LOGIN, REMOVED]
    assert not failed(before) and before[-1].outcome == "skipped"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    made = json.loads(file.read_text(encoding="utf-8"))
    assert all(made[secret] not in repr(before) for secret in ("password", "token"))
    # Asked again, say by a run that goes on: they are the same.
    assert not failed(ran(server, tmp_path, "before")) and json.loads(file.read_text(encoding="utf-8")) == made

    after = ran(server, tmp_path, "after")
    assert [result.name for result in after] == [MADE, *TESTS, LOGIN, REMOVED]
    assert {result.outcome for result in after} == {"passed"}
    assert not file.exists() and not server.held["users"] and not server.held["projects"]


def test_each_lost_record_fails_by_its_name(server: Any, tmp_path: Path) -> None:
    ran(server, tmp_path, "before")
    server.held["assignments"].clear()
    assert failed(ran(server, tmp_path, "after")) == ["its role assignment is there", LOGIN]
    ran(server, tmp_path, "before")
    server.held["users"].clear()
    assert failed(ran(server, tmp_path, "after")) == ["the user is there", "its token is valid"]
    ran(server, tmp_path, "before")
    server.held["projects"].clear()
    assert failed(ran(server, tmp_path, "after")) == ["the project is there"]


def test_what_was_half_made_goes_before_it_is_made_again(server: Any, tmp_path: Path) -> None:
    server.broken = {"POST /users"}
    [told] = ran(server, tmp_path, "before")
    assert (told.name, told.outcome, told.message) == (MADE, "failed", "POST /users: status 500")
    assert server.held["projects"] == {"projects-0"}
    server.broken = set()
    server.held["projects"].add("another's")
    assert not failed(ran(server, tmp_path, "before"))
    assert "projects-0" not in server.held["projects"] and "another's" in server.held["projects"]


def test_what_can_not_be_removed_is_said_and_kept(server: Any, tmp_path: Path) -> None:
    ran(server, tmp_path, "before")
    server.broken = {"DELETE /users/users-0"}
    assert failed(ran(server, tmp_path, "after")) == [REMOVED]
    assert (tmp_path / "records.json").exists()


def test_no_answer_is_a_failed_test_without_a_secret(server: Any, tmp_path: Path) -> None:
    server.shutdown()
    server.server_close()
    [told] = ran(server, tmp_path, "before")
    assert told.outcome == "failed" and "no answer" in told.message and "secret" not in told.message
