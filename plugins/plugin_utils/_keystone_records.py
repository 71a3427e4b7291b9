# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records in Keystone that are made before an upgrade and looked for after it: project, user, role assignment, token.

What was made is kept in a file that only its owner can read: it holds the user's password and the token. The file goes
when the records do.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from ansible.module_utils.urls import open_url

from ._orchestration._regression import Moment, Outcome, Result

TESTS = ("the project is there", "the user is there", "its role assignment is there", "its token is valid")
LOGIN = "the user can log in"
_PREFIX = "rondo-upgrade-"
_TIMEOUT = 60


class RecordsError(Exception):
    """Keystone did not do what it was asked. The text holds no secret."""


class Keystone:
    """Keystone's API v3, as the user that the suite names."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._url = str(options["url"]).rstrip("/")
        self._ca = options.get("ca")
        self._token = ""

    def call(
        self, method: str, path: str, body: Any = None, token: str = "", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, body and headers of an answer. Raises RecordsError where there is none."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        if token or self._token:
            sent["X-Auth-Token"] = token or self._token
        try:
            answer = open_url(
                f"{self._url}{path}",
                method=method,
                headers=sent,
                data=None if body is None else json.dumps(body),
                timeout=_TIMEOUT,
                use_proxy=False,
                ca_path=self._ca,
                http_agent="rondo.upgrade",
            )
        except HTTPError as error:
            answer = error
        except Exception as error:
            # open_url raises whatever urllib, http.client, ssl and socket do.
            raise RecordsError(f"{method} {path}: no answer ({getattr(error, 'reason', None) or error})") from error
        with answer:
            content = answer.read()
            try:
                found = json.loads(content) if content else {}
            except ValueError:
                found = {}
            return int(answer.code), found, dict(answer.headers)

    def made(self, method: str, path: str, body: Any = None) -> Any:
        """The body of an answer that has to be 2xx."""
        status, found, _headers = self.call(method, path, body)
        if status >= 300:
            raise RecordsError(f"{method} {path}: status {status}")
        return found

    def token(self, user: Mapping[str, Any], project: Mapping[str, Any]) -> str:
        """A token for a user in a project."""
        identity = {"methods": ["password"], "password": {"user": user}}
        body = {"auth": {"identity": identity, "scope": {"project": project}}}
        # The request must not carry the token of another user: Keystone would take it for the one to be rescoped.
        held, self._token = self._token, ""
        try:
            status, _body, headers = self.call("POST", "/auth/tokens", body)
        finally:
            self._token = held
        if status != 201:
            raise RecordsError(f"POST /auth/tokens: status {status}")
        return next(value for name, value in headers.items() if name.lower() == "x-subject-token")

    def log_in(self, options: Mapping[str, Any]) -> None:
        domain = {"name": options["user_domain"]}
        user = {"name": options["username"], "password": options["password"], "domain": domain}
        self._token = self.token(user, {"name": options["project"], "domain": {"name": options["project_domain"]}})


def run(suite: str, service: str, options: Mapping[str, Any], moment: Moment, file: Path) -> Iterator[Result]:
    """Make the records (`before`), or look for them and remove them (`after`)."""
    keystone = Keystone(options)
    try:
        keystone.log_in(options)
        made = _kept(file)
        if moment == "before" and "token" not in made:
            # What was left half made goes first.
            _remove(keystone, made, file)
            made = _make(keystone, options, file)
    except RecordsError as error:
        yield Result(suite, "the records can be made and read", "failed", service, str(error))
        return
    yield Result(suite, "the records can be made and read", "passed", service)
    if not made:
        return
    for name, check in _checks(keystone, made):
        yield _result(suite, name, service, check)
    if moment == "after":
        yield _result(suite, "the records can be removed", service, lambda: _remove(keystone, made, file))
    else:
        yield Result(suite, "the records can be removed", "skipped", service, "they are looked for after the upgrade")


def _result(suite: str, name: str, service: str, check: Callable[[], str]) -> Result:
    try:
        why = check()
    except RecordsError as error:
        why = str(error)
    outcome: Outcome = "failed" if why else "passed"
    return Result(suite, name, outcome, service, why)


def _kept(file: Path) -> dict[str, str]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RecordsError(f"{file} can't be read: {error}") from error


def _keep(file: Path, made: Mapping[str, str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(made, stream)


def _make(keystone: Keystone, options: Mapping[str, Any], file: Path) -> dict[str, str]:
    mark = _PREFIX + secrets.token_hex(4)
    made = {"name": mark, "password": secrets.token_urlsafe(24)}
    found = keystone.made("GET", f"/roles?name={options['role']}")["roles"]
    if not found:
        raise RecordsError(f"there is no role {options['role']}")
    made["role"] = found[0]["id"]
    # Kept after each step: whatever ends this, what was made can be found and removed.
    body = {"project": {"name": mark, "domain_id": "default", "description": "Looked for after an upgrade."}}
    made["project"] = keystone.made("POST", "/projects", body)["project"]["id"]
    _keep(file, made)
    user = {"name": mark, "password": made["password"], "domain_id": "default", "default_project_id": made["project"]}
    made["user"] = keystone.made("POST", "/users", {"user": user})["user"]["id"]
    _keep(file, made)
    keystone.made("PUT", f"/projects/{made['project']}/users/{made['user']}/roles/{made['role']}")
    made["token"] = keystone.token({"id": made["user"], "password": made["password"]}, {"id": made["project"]})
    _keep(file, made)
    return made


def _checks(keystone: Keystone, made: Mapping[str, str]) -> Iterator[tuple[str, Callable[[], str]]]:
    project, user, role = made["project"], made.get("user", ""), made.get("role", "")
    yield TESTS[0], lambda: _is_there(keystone, "GET", f"/projects/{project}")
    yield TESTS[1], lambda: _is_there(keystone, "GET", f"/users/{user}")
    yield TESTS[2], lambda: _is_there(keystone, "HEAD", f"/projects/{project}/users/{user}/roles/{role}")
    yield TESTS[3], lambda: _is_valid(keystone, made.get("token", ""))
    yield LOGIN, lambda: _logs_in(keystone, made)


def _is_there(keystone: Keystone, method: str, path: str) -> str:
    status = keystone.call(method, path)[0]
    return "" if status < 300 else f"{method} {path}: status {status}"


def _is_valid(keystone: Keystone, token: str) -> str:
    status = keystone.call("GET", "/auth/tokens", headers={"X-Subject-Token": token})[0]
    return "" if status == 200 else f"its validation ended with status {status}"


def _logs_in(keystone: Keystone, made: Mapping[str, str]) -> str:
    keystone.token({"id": made.get("user", ""), "password": made["password"]}, {"id": made["project"]})
    return ""


def _remove(keystone: Keystone, made: Mapping[str, str], file: Path) -> str:
    left = []
    for kind in ("user", "project"):
        if kind not in made:
            continue
        status = keystone.call("DELETE", f"/{kind}s/{made[kind]}")[0]
        if status >= 300 and status != 404:
            left.append(f"DELETE of the {kind} {made['name']}: status {status}")
    if not left:
        file.unlink(missing_ok=True)
    return "; ".join(left)
