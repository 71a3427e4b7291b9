#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take servers out of HAProxy's rotation and bring them back, without losing a request."""

from __future__ import annotations

DOCUMENTATION = r"""
module: haproxy_server
short_description: Drain servers of a running HAProxy, and return them on proof
version_added: 0.1.0
author:
  - The rondo.upgrade authors (@rondo)
description:
  - Takes servers out of rotation in all their backends at once and waits until no session is left on them.
  - Brings servers back through HAProxy's own health check, never optimistically. After C(set server ... state ready)
    alone HAProxy takes a server for up before any check.
  - Refuses to take the last usable server of a backend away. Finds all wrong names before it changes anything.
  - Changes HAProxy's running state only. A reload of HAProxy forgets it unless a server state file is configured; a
    drain that is forgotten while the module waits is put right and named in RV(restored).
  - With O(fence) the balancer's host also keeps which servers the run has taken out, and each later call of that run
    puts right what HAProxy has forgotten since, first of all and while it waits.
  - Tested with HAProxy 2.6 and 3.0.
options:
  socket:
    description:
      - HAProxy's runtime socket (C(stats socket), C(level admin)). A UNIX socket's path, or HOST:PORT.
    type: str
    default: /run/haproxy/admin.sock
  servers:
    description:
      - The servers, usually all rows of one instance.
    type: list
    elements: dict
    required: true
    suboptions:
      backend:
        description: The backend's name.
        type: str
        required: true
      name:
        description: The server's name in that backend.
        type: str
        required: true
  state:
    description:
      - V(drained) lets no new session in, waits until none is left and then does what O(after_drain) says.
      - V(maintenance) takes the servers out at once. Sessions that are there go on.
      - V(ready) brings the servers back, waits until HAProxy's own check calls them up, and until they have been so for
        O(min_healthy_time). Servers that HAProxy does not check are ready at once and listed in RV(unchecked).
    type: str
    choices: [drained, maintenance, ready]
    required: true
  timeout:
    description:
      - With O(state=drained), seconds until sessions that are left are closed (see O(close_sessions)).
      - With O(state=ready), seconds within which the servers have to be up. The O(min_healthy_time) comes on top.
        Servers that fail this are put into maintenance again if this call had brought them back.
    type: float
    default: 120
  min_healthy_time:
    description:
      - With O(state=ready), seconds that a server has to stay up before it counts as returned.
    type: float
    default: 0
  after_drain:
    description:
      - What a server's state is once it is drained. In V(drain) HAProxy still checks it, and still lets in clients
        that a cookie or a stick table ties to it.
    type: str
    choices: [maintenance, drain]
    default: maintenance
  close_sessions:
    description:
      - Whether sessions that are left when O(timeout) is over are closed, and counted in RV(closed_sessions). If not,
        the module fails then and leaves the servers in drain.
    type: bool
    default: true
  force_last:
    description:
      - Take servers away even if no usable one remains in a backend. Its clients then get 503.
    type: bool
    default: false
  max_unavailable:
    description:
      - How many servers of a backend may be out with these. Servers that are down count, whoever took them out.
      - With more, the module waits for as long as O(timeout) and then fails, with nothing done. One that is down on its
        own makes room again by coming back.
      - Servers that do not serve now take nothing more. Not used with O(state=ready) and O(force_last).
    type: int
  master_socket:
    description:
      - The master's socket (C(haproxy -W -S PATH)). With it a drain also waits for sessions that old workers still
        carry after a reload. Without it such sessions are not seen.
    type: str
extends_documentation_fragment:
  - rondo.upgrade.balancer
notes:
  - Two calls on one balancer can't take each other's last usable server; each looks and drains under one lock.
  - Servers that follow another one's health (C(track)) are up when that one is.
attributes:
  check_mode:
    description: Can run in check mode and return what it would change.
    support: full
  diff_mode:
    description: Shows what changes when in diff mode.
    support: full
seealso:
  - module: rondo.upgrade.haproxy_info
  - module: rondo.upgrade.haproxy_fence
"""

EXAMPLES = r"""
- name: Drain ctl1 in both of Keystone's backends
  rondo.upgrade.haproxy_server:
    servers:
      - backend: keystone_internal_back
        name: ctl1
      - backend: keystone_external_back
        name: ctl1
    state: drained
    timeout: 60
    master_socket: /run/haproxy-master.sock

- name: Return it when HAProxy's own check has called it up for ten seconds
  rondo.upgrade.haproxy_server:
    servers:
      - backend: keystone_internal_back
        name: ctl1
      - backend: keystone_external_back
        name: ctl1
    state: ready
    timeout: 120
    min_healthy_time: 10
"""

RETURN = r"""
servers:
  description: The servers in the order in which they were given.
  returned: success
  type: list
  elements: dict
  contains:
    backend:
      description: The backend's name.
      type: str
    name:
      description: The server's name.
      type: str
    before:
      description: The status before, in HAProxy's words.
      type: str
      sample: UP
    status:
      description: The status after, in HAProxy's words (in check mode, as it would be).
      type: str
      sample: MAINT
    sessions:
      description: Sessions on the server or queued for it when the module looked last.
      type: int
    closed_sessions:
      description: Sessions that were closed because the drain took too long.
      type: int
seconds_waited:
  description: How long the module waited for sessions to end, or for checks to pass.
  returned: success
  type: float
  sample: 2.4
closed_sessions:
  description: Sessions closed on all servers together.
  returned: success
  type: int
left_in_old_workers:
  description: Sessions in old workers that could not be closed.
  returned: success
  type: int
restored:
  description: Servers, as BACKEND/NAME, that were found in rotation though this run had taken them out, for example
    after a reload of HAProxy, and were put right. A warning names them, too.
  returned: success
  type: list
  elements: str
  sample: [keystone_internal_back/ctl1]
out_at:
  description: When this call took the first of the servers out of rotation, in seconds since the epoch by the
    balancer's clock; none where all were out.
  returned: success
  type: float
up_at:
  description: With O(state=ready), since when all of them are up, in seconds since the epoch by the balancer's clock.
  returned: success
  type: float
down:
  description:
    - Other servers of the same backends that serve nobody now, and that this run has not taken out.
    - Only told with O(fence), which knows what this run has taken out.
  returned: success
  type: list
  elements: dict
  contains:
    backend:
      description: The backend's name.
      type: str
    name:
      description: The server's name.
      type: str
    status:
      description: The status, in HAProxy's words.
      type: str
      sample: DOWN
counters:
  description: What HAProxy has counted when the module ended, as M(rondo.upgrade.haproxy_info) returns it.
  returned: success
  type: dict
unchecked:
  description: Servers, as BACKEND/NAME, that were returned without proof because HAProxy does not check them.
  returned: success
  type: list
  elements: str
"""


from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rondo.upgrade.plugins.module_utils._fence import (
    FENCE_OPTION,
    LOCK_SECONDS,
    FenceError,
    Taken,
    guard,
    locked,
)
from ansible_collections.rondo.upgrade.plugins.module_utils._haproxy import (
    FORCED_MAINT,
    Balancer,
    HaproxyError,
    unknown,
)
from ansible_collections.rondo.upgrade.plugins.module_utils._rotation import (
    POLL_SECONDS,
    Failed,
    Refused,
    Rotation,
    label,
    last_usable,
    no_room,
)


def foreseen(server, state, after):
    """The status that a server will have; its own where nothing has to be done."""
    if state == "ready":
        if not server.forced_out:
            return server.status
        return "no check" if not server.checked and not server.tracked else "UP"
    if server.admin & FORCED_MAINT:
        return server.status
    return "DRAIN" if state == "drained" and after == "drain" else "MAINT"


def examine(rotation, state, force_last):
    """Look, and find every reason not to begin. Raises `Refused`."""
    rotation.servers = rotation.balancer.servers()
    problems = unknown(rotation.servers, rotation.wanted)
    level = rotation.balancer.level()
    if level != "admin":
        problems.append(
            "%s: its level is %s, and changing servers needs `stats socket ... level admin`"
            % (rotation.balancer.address, level)
        )
    if state != "ready" and not force_last:
        known = {key for key in rotation.wanted if key in rotation.servers}
        problems += last_usable(rotation.servers, known)
    if problems:
        raise Refused(problems)


def others_down(rotation, taken):
    """The other servers of the same backends that serve nobody, and that this run has not taken out."""
    if taken is None:
        return []
    ours = taken.out | taken.returning | set(rotation.wanted)
    backends = {backend for backend, _name in rotation.wanted}
    return [
        {"backend": server.backend, "name": server.name, "status": server.status}
        for key, server in sorted(rotation.servers.items())
        if server.backend in backends and not server.serves and key not in ours
    ]


def waits_for_room(rotation, params):
    """Why the servers can't leave yet; empty where they can."""
    most = params["max_unavailable"]
    if most is None or params["force_last"] or params["state"] == "ready":
        return []
    wanted = set(rotation.wanted)
    return last_usable(rotation.servers, wanted) or no_room(rotation.servers, wanted, most)


def mindful(rotation, taken):
    """What puts right, while a call waits, what HAProxy forgets of the run's other servers."""

    def ask():
        others = taken.out - set(rotation.wanted)
        if not rotation.forgot(others):
            return
        # Seen again under the lock: another call of this run may be about to bring them back.
        with locked(rotation.balancer.meeting_place, LOCK_SECONDS):
            rotation.look()
            rotation.put_right(taken.out - set(rotation.wanted))

    return ask


def run(rotation, params, check_mode, taken=None):
    """Do what the parameters ask. Returns the status before and after, by server."""
    if taken is not None:
        rotation.meanwhile = mindful(rotation, taken)
    deadline = rotation.now() + params["timeout"]
    while True:
        with locked(rotation.balancer.meeting_place, LOCK_SECONDS):
            before, then, problems = begin(rotation, params, check_mode, taken)
        if not problems:
            break
        if rotation.now() >= deadline:
            raise Refused(problems)
        rotation.sleep(POLL_SECONDS)
    if then is not None:
        return before, then
    if params["state"] == "drained":
        rotation.drain(params["timeout"], params["close_sessions"], params["after_drain"])
    elif params["state"] == "ready":
        try:
            rotation.bring_back(params["timeout"], params["min_healthy_time"])
        finally:
            if taken is not None:
                out = {server.key for server in rotation.servers.values() if server.forced_out}
                with locked(rotation.balancer.meeting_place, LOCK_SECONDS):
                    taken.move(set(rotation.wanted) - out, None)
                    taken.move(set(rotation.wanted) & out, "out")
    rotation.look()
    return before, {key: rotation.servers[key].status for key in rotation.wanted}


def begin(rotation, params, check_mode, taken):
    """Look and, where there is room, begin. Returns the status before, that which check mode foresees (else None),
    and why there is no room."""
    state, after = params["state"], params["after_drain"]
    rotation.guard()
    known = set() if taken is None or check_mode else taken.out
    if known:
        rotation.servers = rotation.balancer.servers()
        rotation.put_right(known)
    examine(rotation, state, params["force_last"] or params["max_unavailable"] is not None)
    problems = waits_for_room(rotation, params)
    before = {key: rotation.servers[key] for key in rotation.wanted}
    if problems:
        return before, None, problems
    if check_mode:
        then = {key: foreseen(server, state, after) for key, server in before.items()}
        acts = {key: server.forced_out for key, server in before.items()}
        if state != "ready":
            out = "maint" if state == "maintenance" or after == "maintenance" else "drain"
            acts = {
                key: not (server.admin & FORCED_MAINT if out == "maint" else server.forced_out)
                for key, server in before.items()
            }
        rotation.changed = any(acts.values())
        return before, then, []
    wanted = set(rotation.wanted)
    if taken is not None:
        # Before the act: what a reload forgets in between is found, too.
        taken.move(wanted, "returning" if state == "ready" else "out")
    if state != "ready":
        rotation.take_out("maint" if state == "maintenance" else "drain")
    return before, None, []


def main():
    module = AnsibleModule(
        argument_spec={
            "socket": {"type": "str", "default": "/run/haproxy/admin.sock"},
            "servers": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {"backend": {"type": "str", "required": True}, "name": {"type": "str", "required": True}},
            },
            "state": {"type": "str", "choices": ["drained", "maintenance", "ready"], "required": True},
            "timeout": {"type": "float", "default": 120},
            "min_healthy_time": {"type": "float", "default": 0},
            "after_drain": {"type": "str", "choices": ["maintenance", "drain"], "default": "maintenance"},
            "close_sessions": {"type": "bool", "default": True},
            "force_last": {"type": "bool", "default": False},
            "max_unavailable": {"type": "int"},
            "master_socket": {"type": "str"},
            "fence": FENCE_OPTION,
            "answer_timeout": {"type": "float", "default": 10},
        },
        supports_check_mode=True,
    )
    params = module.params
    wanted = list(dict.fromkeys((row["backend"], row["name"]) for row in params["servers"]))

    balancer = Balancer(params["socket"], params["answer_timeout"], params["master_socket"])
    rotation = Rotation(balancer, wanted, guard(params["fence"]))
    taken = Taken(params["fence"]["path"], params["fence"]["token"]) if params["fence"] else None
    try:
        before, after = run(rotation, params, module.check_mode, taken)
        counters = balancer.reading()
    except (HaproxyError, FenceError, Refused, Failed) as error:
        module.fail_json(msg=str(error), changed=rotation.changed, closed_sessions=sum(rotation.closed.values()))
    unchecked = [label(key) for key in rotation.unchecked]
    if unchecked:
        module.warn("HAProxy does not check %s: returned without proof" % ", ".join(unchecked))
    if rotation.restored:
        module.warn("HAProxy had forgotten that %s was taken out; it was put right" % ", ".join(rotation.restored))
    module.exit_json(
        changed=rotation.changed,
        servers=[
            {
                "backend": key[0],
                "name": key[1],
                "before": before[key].status,
                "status": after[key],
                "sessions": rotation.servers[key].sessions,
                "closed_sessions": rotation.closed[key],
            }
            for key in wanted
        ],
        seconds_waited=round(rotation.now() - rotation.began, 3),
        closed_sessions=sum(rotation.closed.values()),
        left_in_old_workers=rotation.left_in_old_workers,
        restored=rotation.restored,
        out_at=rotation.out_at,
        up_at=rotation.up_at,
        down=others_down(rotation, taken),
        counters=counters,
        unchecked=unchecked,
        diff={
            "before": {label(key): before[key].status for key in wanted},
            "after": {label(key): after[key] for key in wanted},
        },
    )


if __name__ == "__main__":
    main()
