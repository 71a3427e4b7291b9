#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until a service is healthy, and stays so."""

from __future__ import annotations

DOCUMENTATION = r"""
module: health_check
short_description: Wait until a service is healthy and stays so
version_added: 0.1.0
description:
  - Asks a service by HTTP, by TCP or by a command, again and again, until it has been healthy for O(min_healthy_time)
    without one failure in between. Fails when that is not so by O(healthy_deadline), and says what it saw last.
  - The options have the names that C(health) has in C(upgrade_services), so that it can be passed as it is.
  - Nothing is changed.
author:
  - The rondo.upgrade authors (@rondo)
attributes:
  check_mode:
    description: In check mode it asks once, waits for nothing, and does not fail.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: none
requirements:
  - jmespath on the managed host, for O(json) only
options:
  http:
    description:
      - A URL to ask. It is asked directly, through no proxy, and no redirect is followed.
      - It may hold user and password. The password is never shown.
    type: str
  method:
    description: HTTP method.
    type: str
    default: GET
  status:
    description: HTTP status codes that are right.
    type: list
    elements: int
    default: [200]
  headers:
    description:
      - HTTP headers to send.
      - Values are never shown, but for those of headers that hold no secrets, such as C(Accept) and C(Host), and those
        of less than four characters.
    type: dict
    default: {}
  body:
    description: A regular expression that must be found in the body, of which the first MiB is read.
    type: str
  json:
    description:
      - A JMESPath expression that must be true of the body, which must be JSON. V(false), V(null) and what is empty are
        not true; the number V(0) is.
    type: str
  validate_certs:
    description: Check the server's certificate.
    type: bool
    default: true
  ca_path:
    description: File with the certificate authorities to trust.
    type: path
  tcp:
    description: An address that must accept a connection, such as V(192.0.2.1:3306) or V([2001:db8::1]:3306).
    type: str
  command:
    description:
      - A command that must end with exit code 0, a list of words, or a text that is split into words as a shell does;
        no shell runs it.
    type: raw
  interval:
    description: Time from one attempt to the next. A duration such as V(500ms) or V(2s); a bare number means seconds.
    type: str
    default: 1s
  timeout:
    description: Time that one attempt may take.
    type: str
    default: 5s
  min_healthy_time:
    description: Time that it must stay healthy, without one failure.
    type: str
    default: 0s
  healthy_deadline:
    description:
      - Time by which it must have been healthy for O(min_healthy_time), which must be shorter.
    type: str
    default: 120s
seealso:
  - module: rondo.upgrade.container_image
  - module: rondo.upgrade.haproxy_server
"""

EXAMPLES = r"""
- name: Wait for Keystone
  rondo.upgrade.health_check:
    http: "http://{{ ansible_host }}:5000/v3"
    json: version.status == 'stable'
    min_healthy_time: 10s
    healthy_deadline: 2m

- name: Wait for the database's port
  rondo.upgrade.health_check:
    tcp: "{{ ansible_host }}:3306"

- name: Wait until the node is a synced member of its cluster
  rondo.upgrade.health_check:
    command: [docker, exec, mariadb, check-synced]
    interval: 5s
"""

RETURN = r"""
healthy:
  description: Whether it is healthy.
  returned: always
  type: bool
attempts:
  description: How often it was asked.
  returned: always
  type: int
  sample: 7
failures:
  description: How many of these attempts failed.
  returned: always
  type: int
  sample: 3
seconds:
  description: How long it took, in seconds.
  returned: always
  type: float
  sample: 12.8
last_failure:
  description: What the last attempt that failed saw, null where none did.
  returned: always
  type: str
  sample: "GET http://192.0.2.1:5000/healthcheck: status 503, not 200"
"""

import time

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.rondo.upgrade.plugins.module_utils._health import (
    JMESPATH_IMPORT_ERROR,
    HealthProblem,
    Watch,
    command_check,
    harmless,
    http_check,
    seconds,
    secrets,
    tcp_check,
    wait,
)


def made(params: dict):
    """The check that the options ask for."""
    if params["tcp"] is not None:
        return tcp_check(params["tcp"])
    if params["command"] is not None:
        return command_check(params["command"])
    return http_check(
        params["http"],
        method=params["method"],
        status=params["status"],
        headers=params["headers"],
        body=params["body"],
        json_expression=params["json"],
        validate_certs=params["validate_certs"],
        ca_path=params["ca_path"],
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "http": {"type": "str"},
            "method": {"type": "str", "default": "GET"},
            "status": {"type": "list", "elements": "int", "default": [200]},
            "headers": {"type": "dict", "default": {}, "no_log": True},
            "body": {"type": "str"},
            "json": {"type": "str"},
            "validate_certs": {"type": "bool", "default": True},
            "ca_path": {"type": "path"},
            "tcp": {"type": "str"},
            "command": {"type": "raw"},
            "interval": {"type": "str", "default": "1s"},
            "timeout": {"type": "str", "default": "5s"},
            "min_healthy_time": {"type": "str", "default": "0s"},
            "healthy_deadline": {"type": "str", "default": "120s"},
        },
        mutually_exclusive=[("http", "tcp", "command")],
        required_one_of=[("http", "tcp", "command")],
        supports_check_mode=True,
    )
    params = module.params
    hidden = secrets(params["http"], params["headers"])
    module.no_log_values = (module.no_log_values - harmless(params["headers"])) | hidden
    if params["json"] and JMESPATH_IMPORT_ERROR is not None:
        module.fail_json(
            msg=missing_required_lib("jmespath", reason="for the option json"), exception=JMESPATH_IMPORT_ERROR
        )
    try:
        times = {
            key: seconds(params[key], key) for key in ("interval", "timeout", "min_healthy_time", "healthy_deadline")
        }
        if times["timeout"] <= 0:
            raise HealthProblem("timeout: must be longer than 0")
        if times["min_healthy_time"] >= times["healthy_deadline"]:
            raise HealthProblem(
                "min_healthy_time: {0} does not fit into healthy_deadline ({1}), which must be longer".format(
                    params["min_healthy_time"], params["healthy_deadline"]
                )
            )
        check = made(params)
    except HealthProblem as problem:
        module.fail_json(msg=str(problem))

    began = time.monotonic()
    if module.check_mode:
        watch = Watch(began, 0, 0)
        healthy = watch.saw(began, began, check(times["timeout"]))
    else:
        watch = Watch(began, times["min_healthy_time"], times["healthy_deadline"])
        healthy = wait(check, watch, times["interval"], times["timeout"])
    result = {
        "changed": False,
        "healthy": healthy,
        "attempts": watch.attempts,
        "failures": watch.failures,
        "seconds": round(time.monotonic() - began, 3),
        "last_failure": watch.last_failure,
    }
    if not healthy and not module.check_mode:
        last = watch.last_failure or "not healthy for {0} yet".format(params["min_healthy_time"])
        module.fail_json(
            msg="not healthy by the deadline ({0}, {1} attempts). Last failure: {2}".format(
                params["healthy_deadline"], watch.attempts, last
            ),
            **result,
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
