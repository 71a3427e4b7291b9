#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What services say of themselves, as numbers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_info
short_description: Ask endpoints, and count what services log
version_added: 0.1.0
author:
  - The rondo.upgrade authors (@rondo)
description:
  - Asks each endpoint a number of times, one request after the other, and tells whether it answers, how fast, and what
    it says of its version.
  - Counts in logs of containers or files the lines, the requests of clients, those that failed (5xx) and the errors,
    since a moment. The logs themselves stay on the host.
  - Lines of health checks are not counted as requests.
extends_documentation_fragment:
  - rondo.upgrade.engine
options:
  endpoints:
    description: What to ask.
    type: list
    elements: dict
    default: []
    suboptions:
      url:
        description: The URL. Redirects are not followed.
        type: str
        required: true
      service:
        description: The service that it belongs to; returned as it is.
        type: str
        default: ""
  samples:
    description: How often each endpoint is asked.
    type: int
    default: 40
  most_seconds:
    description: Seconds after which an endpoint is asked no further.
    type: float
    default: 15
  timeout:
    description: Seconds that one answer may take.
    type: float
    default: 10
  validate_certs:
    description: Check the certificates of endpoints.
    type: bool
    default: true
  ca_path:
    description: File of the certificate authorities to trust.
    type: path
  logs:
    description: What to count.
    type: list
    elements: dict
    default: []
    suboptions:
      service:
        description: The service whose log it is; names it in RV(logs).
        type: str
        required: true
      container:
        description:
          - Name of a container. Those that M(rondo.upgrade.container_image) has kept of it are counted too.
        type: str
      file:
        description: Path of a file, read through one rotation. Instead of O(logs[].container).
        type: path
      pattern:
        description:
          - Regular expression of a request's line, with a group C(status), and where there are such C(path) and
            C(agent).
          - Default, the common and the combined log format.
        type: str
      checks:
        description: Paths of health checks.
        type: list
        elements: str
        default: []
  errors:
    description: Regular expression of an error's line.
    type: str
  since:
    description:
      - What this module returned earlier on the same host, from which RV(now) and RV(logs) are used. Counted is from
        then on.
      - Without it the last O(window) of containers' logs are counted, and the end of files.
    type: dict
  window:
    description: Seconds.
    type: float
    default: 600
notes:
  - Moments are by the host's own clock.
attributes:
  check_mode:
    description: Runs in check mode as it does otherwise.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Look at Keystone before
  rondo.upgrade.service_info:
    endpoints:
      - {url: "http://192.0.2.10:5000/v3", service: keystone}
    logs:
      - {service: keystone, container: keystone, checks: [/healthcheck]}
    errors: '\bERROR\b'
  register: before

- name: Count what it logged since
  rondo.upgrade.service_info:
    logs:
      - {service: keystone, container: keystone, checks: [/healthcheck]}
    errors: '\bERROR\b'
    since: "{{ before }}"
  register: after
"""

RETURN = r"""
now:
  description: The host's clock when it began to look, in seconds since the epoch.
  returned: success
  type: float
endpoints:
  description: One entry for each endpoint, in their order.
  returned: success
  type: list
  elements: dict
  contains:
    url:
      description: The URL, without a password.
      type: str
    service:
      description: As given.
      type: str
    answers:
      description: Whether at most one answer in ten was none, or one of 400 and above (but 401).
      type: bool
    asked:
      description: How many requests were sent.
      type: int
    failed:
      description: How many of them failed.
      type: int
    reason:
      description: Why the last of these failed.
      type: str
    status:
      description: The last status.
      type: int
    version:
      description: What it said of its version, empty for nothing.
      type: str
    p50:
      description: Half of the answers took at most so many milliseconds.
      type: float
    p90:
      description: Nine in ten took at most so many milliseconds.
      type: float
    n:
      description: How many answers that is of.
      type: int
logs:
  description: By service.
  returned: success
  type: dict
  contains:
    rows:
      description: One for each container or file, the one that serves first, with C(name), C(image), C(current),
        C(seconds) (null where not known), C(lines), C(requests), C(failed) and C(errors).
      type: list
      elements: dict
    position:
      description: Where the file ended.
      type: dict
    note:
      description: What is missing and why, empty if nothing is.
      type: str
"""

import time
from urllib.error import HTTPError

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url

from ansible_collections.rondo.upgrade.plugins.module_utils._container import (
    ENGINE_ARGUMENTS,
    ENGINE_ERRORS,
    ContainerProblem,
    opened,
    told,
)
from ansible_collections.rondo.upgrade.plugins.module_utils._health import without_password
from ansible_collections.rondo.upgrade.plugins.module_utils._service import (
    AGENT,
    LARGEST_BODY,
    Count,
    ask,
    count_file,
    count_stamped,
    epoch,
    position,
)


def requester(url: str, params: dict):
    """A function that asks the URL once."""

    def once() -> tuple[int, bytes]:
        try:
            answer = open_url(
                url,
                timeout=params["timeout"],
                use_proxy=False,
                follow_redirects="none",
                force_basic_auth=True,
                validate_certs=params["validate_certs"],
                ca_path=params["ca_path"],
                http_agent=AGENT,
            )
        except HTTPError as error:  # any status but 2xx
            answer = error
        with answer:
            return answer.code, answer.read(LARGEST_BODY)

    return once


def count_containers(engine, log: dict, params: dict, since, now: float) -> dict:
    """What the containers of a name logged; those that served before are kept, and counted too."""
    scene = engine.scene(log["container"])
    containers = [each for each in (scene.current, *scene.kept, *scene.undone) if each]
    begin = since if since is not None else now - params["window"]
    if since is None:
        containers = containers[:1] if scene.current else []
    rows, notes = [], []
    for container in containers:
        count = Count(log["pattern"], params["errors"], log["checks"])
        started = epoch(container["State"]["StartedAt"]) if container["State"].get("StartedAt") else 0.0
        chunks = engine.api.logs(
            # A stream follows unless it is told not to.
            container["Id"],
            stdout=True,
            stderr=True,
            stream=True,
            follow=False,
            timestamps=True,
            since=max(1, int(begin)),
        )
        if not count_stamped(chunks, begin, count):
            notes.append("there was more than is read")
        row = {
            "name": container["Name"].lstrip("/"),
            "image": container["Config"].get("Image"),
            "current": container is scene.current,
            "seconds": round(now - max(begin, started), 3),
        }
        rows.append(dict(row, **count.to_dict()))
    if not containers:
        notes.append("there is no container {0}".format(log["container"]))
    elif since is not None and not any(epoch(each["Created"]) <= since for each in containers):
        notes.append("what the container that served before has logged is gone with it")
    return {"rows": rows, "position": None, "note": "; ".join(notes)}


def count_one_file(log: dict, params: dict, since, seconds) -> dict:
    count = Count(log["pattern"], params["errors"], log["checks"])
    try:
        found = position(log["file"])
        note = count_file(log["file"], since, count)
    except OSError as error:
        return unread("{0} can't be read ({1})".format(log["file"], error.strerror))
    row = dict(count.to_dict(), name=log["file"], image="", current=True, seconds=seconds)
    return {"rows": [row], "position": found, "note": note}


def count_logs(params: dict, earlier: dict, now: float) -> dict:
    """One that can't be read is a note: what else the host says counts all the same."""
    engine, without = None, ""
    try:
        if any(log["container"] for log in params["logs"]):
            engine = opened(params)
    except ContainerProblem as problem:
        without = str(problem)
    logs = {}
    for log in params["logs"]:
        if log["file"]:
            since = (earlier.get("logs") or {}).get(log["service"], {}).get("position")
            seconds = round(now - earlier["now"], 3) if since and earlier.get("now") else None
            found = count_one_file(log, params, since, seconds)
        elif engine is None:
            found = unread(without)
        else:
            try:
                found = count_containers(engine, log, params, earlier.get("now"), now)
            except ENGINE_ERRORS as problem:
                found = unread(told(problem))
        logs[log["service"]] = found
    return logs


def unread(why: str) -> dict:
    return {"rows": [], "position": None, "note": why}


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            endpoints={
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"url": {"type": "str", "required": True}, "service": {"type": "str", "default": ""}},
            },
            samples={"type": "int", "default": 40},
            most_seconds={"type": "float", "default": 15},
            timeout={"type": "float", "default": 10},
            validate_certs={"type": "bool", "default": True},
            ca_path={"type": "path"},
            logs={
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "service": {"type": "str", "required": True},
                    "container": {"type": "str"},
                    "file": {"type": "path"},
                    "pattern": {"type": "str"},
                    "checks": {"type": "list", "elements": "str", "default": []},
                },
                "mutually_exclusive": [("container", "file")],
                "required_one_of": [("container", "file")],
            },
            errors={"type": "str"},
            since={"type": "dict"},
            window={"type": "float", "default": 600},
            **ENGINE_ARGUMENTS,
        ),
        supports_check_mode=True,
    )
    params = module.params
    now = time.time()
    earlier = params["since"] or {}
    # Before the logs: what asking makes a service log counts.
    endpoints = [
        dict(
            ask(requester(each["url"], params), params["samples"], params["most_seconds"], time.monotonic),
            url=without_password(each["url"]),
            service=each["service"],
        )
        for each in params["endpoints"]
    ]
    module.exit_json(changed=False, now=now, endpoints=endpoints, logs=count_logs(params, earlier, now))


if __name__ == "__main__":
    main()
