#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running HAProxy says of itself, as data."""

from __future__ import annotations

DOCUMENTATION = r"""
module: haproxy_info
short_description: Read a running HAProxy's own tables
version_added: 0.1.0
author:
  - The rondo.upgrade authors (@rondo)
description:
  - Asks HAProxy's runtime API for its version, backends, servers, counters and sessions. Changes nothing.
  - Tested with HAProxy 2.6 and 3.0.
options:
  socket:
    description:
      - HAProxy's runtime socket (C(stats socket)). A UNIX socket's path, or HOST:PORT.
    type: str
  sockets:
    description:
      - Paths of UNIX sockets. The first that exists on the host is asked.
      - The default fits the packages of Debian, Ubuntu and the RHEL family, and Kolla.
    type: list
    elements: str
    default:
      - /run/haproxy/admin.sock
      - /var/lib/kolla/haproxy/haproxy.sock
      - /var/lib/haproxy/stats
  master_socket:
    description:
      - The master's socket (C(haproxy -W -S PATH)). Needed to see sessions that old workers still carry after a reload.
    type: str
  config:
    description:
      - HAProxy's configuration on the host, a file or a folder of C(*.cfg).
      - With it RV(config_changed_since_start) can be told.
    type: path
  measure:
    description:
      - For how many seconds the requests that arrive are counted, for RV(traffic). V(0), not at all.
    type: float
    default: 0
  answer_timeout:
    description:
      - Seconds within which HAProxy has to answer one question in full.
    type: float
    default: 10
notes:
  - A configuration counts as changed if a file of it is newer than the worker's start, or if it names other servers
    than those that run. The names are not compared where the file uses C(server-template) or C(.if), which only
    HAProxy can resolve. Times are whole seconds; a change within the first second of the worker's life is not seen.
attributes:
  check_mode:
    description: Can run in check mode and return what it would change.
    support: full
  diff_mode:
    description: Shows what changes when in diff mode.
    support: none
seealso:
  - module: rondo.upgrade.haproxy_server
"""

EXAMPLES = r"""
- name: Read the balancer's tables
  rondo.upgrade.haproxy_info:
    config: /etc/haproxy/haproxy.cfg
  register: tables

- name: Show which servers of a backend are up
  ansible.builtin.debug:
    msg: >-
      {{ tables.backends.keystone_internal_back.servers | dict2items
         | selectattr('value.state', 'equalto', 'up') | map(attribute='key') }}
"""

RETURN = r"""
socket:
  description: The socket that answered.
  returned: success
  type: str
  sample: /run/haproxy/admin.sock
level:
  description: What the socket lets its users do, V(user), V(operator) or V(admin). Changing servers needs the last.
  returned: success
  type: str
version:
  description: HAProxy's version, its first two numbers.
  returned: success
  type: str
  sample: "3.0"
version_full:
  description: HAProxy's version with the distribution's patch level.
  returned: success
  type: str
  sample: 2.6.12-1+deb12u4
pid:
  description: Process id of the worker that answered.
  returned: success
  type: int
uptime:
  description: Seconds since that worker started. A reload starts a new one.
  returned: success
  type: int
started_at:
  description: When that worker started, in seconds since the epoch.
  returned: success
  type: int
backends:
  description: Backends (and sections C(listen)) by name.
  returned: success
  type: dict
  contains:
    status:
      description: The backend's status, in HAProxy's words.
      type: str
      sample: UP
    mode:
      description: V(http) or V(tcp).
      type: str
    servers:
      description: The backend's servers by name.
      type: dict
      contains:
        status:
          description: The whole status, in HAProxy's words. C(UP 1/3) is a server on its way down.
          type: str
          sample: UP
        state:
          description: One of V(up), V(going_down), V(down), V(going_up), V(maint), V(drain), V(no_check), V(other).
          type: str
        admin:
          description: What the administrator asked for, V(ready), V(drain) or V(maint).
          type: str
        usable:
          description: Whether new requests reach it and nothing says that this is about to end.
          type: bool
        checked:
          description: Whether HAProxy checks this server's health.
          type: bool
        tracked:
          description: The server whose health this one follows (C(track)), empty if there is none.
          type: str
        backup:
          description: Whether it is a backup server.
          type: bool
        weight:
          description: The weight now in force.
          type: int
        address:
          description: Address and port.
          type: str
        check_status:
          description: What the last check said, in HAProxy's words.
          type: str
          sample: L7OK
        last_chk:
          description: The last check's own message.
          type: str
        scur:
          description: Sessions on the server now. All other counters of C(show stat) that a server has are here too,
            under HAProxy's own names.
          type: int
    totals:
      description: The counters of the whole backend under HAProxy's own names (C(hrsp_5xx), C(econ), C(eresp),
        C(wretr), C(wredis) and the others). Null where it has none.
      type: dict
frontends:
  description: Frontends by name, each with C(status), C(mode) and C(totals) as a backend has.
  returned: success
  type: dict
counters:
  description:
    - What each worker has counted until now, in a form that can be subtracted.
    - With O(master_socket) also what those have that a reload replaced.
  returned: success
  type: dict
  contains:
    at:
      description: When they were read, in seconds since the epoch.
      type: float
    workers:
      description:
        - The worker that serves, then those that it replaced.
        - Each has C(pid), C(started_at), C(old), C(open) (sessions of clients now) and C(backends), where each backend
          has its C(mode) and HAProxy's own counters.
      type: list
      elements: dict
old_workers:
  description: Workers that a reload replaced and that still carry sessions. Empty if O(master_socket) is not given.
  returned: success
  type: list
  elements: int
config_changed_since_start:
  description: Whether a reload would bring in something new. Null if O(config) is not given.
  returned: success
  type: bool
config_differences:
  description: What differs, one line each.
  returned: success
  type: list
  elements: str
traffic:
  description: What passes through, and what there is room for. Null if O(measure) is V(0).
  returned: success
  type: dict
  contains:
    backends:
      description: Backends by name.
      type: dict
      contains:
        mode:
          description: V(http) or V(tcp).
          type: str
        rate:
          description: Requests a second (TCP, connections) while it was measured.
          type: float
        concurrency:
          description: Requests (TCP, connections) that its servers work on now.
          type: int
        slowest:
          description: Seconds of the slowest answer since the worker started.
          type: float
        frontends:
          description: The frontends that lead to it. Null if O(config) is not given, or doesn't tell.
          type: list
          elements: str
    frontends:
      description: Frontends by name.
      type: dict
      contains:
        connections:
          description: Connections now.
          type: int
        maxconn:
          description: How many it takes.
          type: int
        timeout:
          description: Seconds of its C(timeout client). Null if O(config) is not given.
          type: float
        url:
          description:
            - Leads through it from the balancer itself. Null where O(config) names no address that is surely its own.
          type: str
    connections:
      description: Connections to the whole process now.
      type: int
    maxconn:
      description: How many the whole process takes.
      type: int
    memory_room:
      description: Bytes that it may still take, of its own limit and of half of what the machine has left.
      type: int
    holds:
      description: The services whose requests it can hold (see the role P(rondo.upgrade.hold#role)). Null if it lacks
        the Lua action.
      type: list
      elements: str
"""

import os
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rondo.upgrade.plugins.module_utils._haproxy import (
    DRAIN,
    MAINT,
    Balancer,
    HaproxyError,
    config_files,
    configured_servers,
    counters,
    number,
)
from ansible_collections.rondo.upgrade.plugins.module_utils._traffic import traffic


def server_facts(server):
    """One server as the module returns it."""
    facts = counters(server.columns)
    facts.update(
        status=server.status,
        state=server.state,
        admin="maint" if server.admin & MAINT else "drain" if server.admin & DRAIN else "ready",
        usable=server.usable,
        checked=server.checked,
        tracked=server.tracked,
        backup=server.backup,
        weight=server.weight,
        address=server.address,
        check_status=server.check_status,
        last_chk=server.last_chk,
    )
    return facts


def tables(stat, servers):
    """(backends, frontends) as the module returns them, from the rows of `show stat` and the servers."""
    backends = {}
    frontends = {}
    for row in stat:
        if row["type"] not in ("0", "1"):
            continue
        whole = {"status": row["status"], "mode": row.get("mode", ""), "totals": counters(row)}
        if row["type"] == "0":
            frontends[row["pxname"]] = whole
        else:
            backends[row["pxname"]] = dict(whole, servers={})
    for server in servers.values():
        backends[server.backend]["servers"][server.name] = server_facts(server)
    return backends, frontends


def differences(path, started_at, backends):
    """What the configuration at `path` has that the worker has not, one line each. Raises OSError."""
    found = []
    texts = []
    for name in config_files(path):
        with Path(name).open(encoding="utf-8", errors="replace") as stream:
            texts.append(stream.read())
            if os.fstat(stream.fileno()).st_mtime > started_at + 1:
                found.append("%s: is newer than the running worker" % name)
    configured = configured_servers("\n".join(texts))
    if configured is None:
        return found
    for backend in sorted(set(configured) | set(backends)):
        there = set(backends.get(backend, {}).get("servers", {}))
        wanted = set(configured.get(backend, ()))
        for name in sorted(wanted - there):
            found.append("%s/%s: is configured, but does not run" % (backend, name))
        for name in sorted(there - wanted):
            found.append("%s/%s: runs, but is not configured; a reload loses it" % (backend, name))
    return found


def texts_of(config):
    """The configuration's files, None without one. Raises OSError."""
    if not config:
        return None
    return [Path(name).read_text(encoding="utf-8", errors="replace") for name in config_files(config)]


def look(balancer, config, measure):
    """Everything the module returns. Raises `HaproxyError`, OSError."""
    info = balancer.info()
    stat, servers = balancer.tables()
    backends, frontends = tables(stat, servers)
    uptime = number(info.get("Uptime_sec"))
    started_at = number(info.get("Start_time_sec")) or int(time.time()) - uptime
    found = differences(config, started_at, backends) if config else []
    return {
        "socket": balancer.address,
        "level": balancer.level(),
        "version": ".".join(info["Version"].split(".")[:2]),
        "version_full": info["Version"],
        "pid": number(info["Pid"]),
        "uptime": uptime,
        "started_at": started_at,
        "backends": backends,
        "frontends": frontends,
        "counters": balancer.reading(),
        "old_workers": balancer.old_workers(),
        "config_changed_since_start": bool(found) if config else None,
        "config_differences": found,
        "traffic": traffic(balancer, measure, texts_of(config)) if measure else None,
    }


def main():
    module = AnsibleModule(
        argument_spec={
            "socket": {"type": "str"},
            "sockets": {
                "type": "list",
                "elements": "str",
                "default": [
                    "/run/haproxy/admin.sock",
                    "/var/lib/kolla/haproxy/haproxy.sock",
                    "/var/lib/haproxy/stats",
                ],
            },
            "master_socket": {"type": "str"},
            "config": {"type": "path"},
            "measure": {"type": "float", "default": 0},
            "answer_timeout": {"type": "float", "default": 10},
        },
        supports_check_mode=True,
    )
    address = module.params["socket"]
    if address is None:
        address = next((path for path in module.params["sockets"] if Path(path).exists()), None)
    if address is None:
        module.fail_json(
            msg="none of %s exists; name HAProxy's runtime socket with `socket`" % ", ".join(module.params["sockets"])
        )
    balancer = Balancer(address, module.params["answer_timeout"], module.params["master_socket"])
    try:
        result = look(balancer, module.params["config"], module.params["measure"])
    except HaproxyError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg="%s: can't be read (%s)" % (error.filename, error.strerror))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
