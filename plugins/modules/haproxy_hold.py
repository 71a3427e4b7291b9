#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold a service's requests inside HAProxy for a moment, and release them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: haproxy_hold
short_description: Hold a service's requests inside HAProxy, and release them
version_added: 0.1.0
author:
  - The rondo.upgrade authors (@rondo)
description:
  - Holds new and keep-alive requests of a service, forwards none and loses none, and lets them go in the order in which
    they came. The service's servers may all be in maintenance meanwhile.
  - A hold ends by itself. Its deadline is counted on the balancer, so that it needs no controller to end.
  - Before it holds it shows by arithmetic that the hold can be safe until its very deadline, and refuses with the
    number that is in the way. While it lasts, the balancer guards the number of waiting requests and their memory.
  - Uses the Lua action of the role P(rondo.upgrade.hold#role) where HAProxy has it. Without it, new connections of TCP
    frontends can be held by the frontends' C(maxconn), where HAProxy's release is known to survive that; many
    deadlock, among them Debian 12's. See C(docs/adr/0004-holding-requests.md).
  - Works on one balancer. Hold on all of them, as the role does.
  - Tested with HAProxy 2.6 and 3.0.
options:
  socket:
    description:
      - HAProxy's runtime socket (C(stats socket), C(level admin)). A UNIX socket's path, or HOST:PORT.
    type: str
    default: /run/haproxy/admin.sock
  service:
    description:
      - The service's name, as C(RONDO_HOLD) and C(http-request lua.rondo_hold) in HAProxy's configuration name it.
      - Required unless O(state=status).
    type: str
  state:
    description:
      - V(held) holds its requests, at most until O(deadline).
      - V(released) lets them go and waits until they are gone.
      - V(status) changes nothing and returns what is there, of all services if O(service) is not given.
    type: str
    choices: [held, released, status]
    default: status
  deadline:
    description:
      - Seconds after which the balancer ends the hold by itself. It can't be moved afterwards.
      - Required if O(state=held).
    type: float
  on_deadline:
    description:
      - What becomes of the waiting requests at the deadline. V(release) forwards them, V(reject) answers them 503 with
        C(Retry-After) (TCP, closes them).
    type: str
    choices: [release, reject]
    default: release
  on_limit:
    description:
      - What happens when O(max_waiting) or O(max_memory) is reached. V(release) ends the whole hold early. With
        V(reject) requests beyond O(max_waiting) are answered 503 at once while the hold goes on, and at O(max_memory)
        all are.
    type: str
    choices: [release, reject]
    default: release
  retry_after:
    description:
      - Seconds in the header C(Retry-After) of rejected requests.
    type: int
    default: 1
  max_waiting:
    description:
      - How many requests may wait. By default nine tenths of what connections and memory leave room for; a greater
        number is cut to that.
    type: int
  max_memory:
    description:
      - How many MB the waiting requests may take inside HAProxy.
    type: int
    default: 256
  bytes_per_request:
    description:
      - What one waiting request takes as HAProxy counts it. The default was measured for small HTTP/1 requests, with
        buffers of 16 KiB (C(tune.bufsize)), of which half or less becomes resident. TLS and bodies cost more.
    type: int
    default: 21000
  rate:
    description:
      - Requests a second that are expected. The mean that the balancer has measured in the last ten seconds counts if
        it is more.
    type: float
    default: 0
  timeouts:
    description:
      - The timeouts on the way, in seconds by name, for example the clients' own. The longest wait has to stay below
        the smallest.
    type: dict
    default: {}
  config:
    description:
      - HAProxy's configuration, a file or a folder. If given, C(timeout client) of the frontends is read from it.
    type: path
  frontends:
    description:
      - The frontends of the service. Their C(maxconn) is part of the arithmetic then. Required to hold by maxconn.
    type: list
    elements: str
    default: []
  self_test:
    description:
      - Before the hold, one request of the module's own is held and released, without touching any other.
      - Not done in check mode.
    type: dict
    suboptions:
      url:
        description:
          - Where to send it, through the frontend. Choose a request that changes nothing.
        type: str
        required: true
      unix:
        description: Send it to this UNIX socket instead of the URL's host.
        type: path
      timeout:
        description: Seconds for each of its steps.
        type: float
        default: 10
      validate_certs:
        description: Whether the certificate of an C(https) URL is checked.
        type: bool
        default: true
  drain:
    description:
      - With O(state=held), servers whose sessions are waited for once the hold is on. Their state stays as it is; the
        hold is what keeps new requests from them, so that they serve again if it ends by itself.
      - Connections of TCP services do not end by themselves, so give them an O(drain_timeout) that is short.
    type: list
    elements: dict
    default: []
    suboptions:
      backend:
        description: The backend's name.
        type: str
        required: true
      name:
        description: The server's name in that backend.
        type: str
        required: true
  drain_timeout:
    description:
      - Seconds after which sessions that are left on the servers of O(drain) are closed, and counted in
        RV(closed_sessions).
    type: float
    default: 5
  force:
    description:
      - Hold even if the arithmetic refuses. The deadline and the limits stay.
    type: bool
    default: false
  way:
    description:
      - V(auto) takes the Lua action if HAProxy has it for this service, else the frontends' maxconn if that is safe.
    type: str
    choices: [auto, lua, maxconn]
    default: auto
  state_directory:
    description:
      - Where a hold by maxconn keeps what it has to restore.
    type: path
    default: /run
  master_socket:
    description:
      - The master's socket (C(haproxy -W -S PATH)). With it a release also reaches requests that an old worker still
        holds after a reload. Without it those wait for their deadline.
    type: str
extends_documentation_fragment:
  - rondo.upgrade.balancer
notes:
  - HAProxy has no level for commands made in Lua; whoever can write to any of its sockets can hold.
  - A reload of HAProxy starts a worker that holds nothing. What the old worker holds waits for the release, which needs
    O(master_socket), or for the deadline. Don't reload while you hold.
attributes:
  check_mode:
    description: Can run in check mode and return what it would change.
    support: full
  diff_mode:
    description: Shows what changes when in diff mode.
    support: full
seealso:
  - module: rondo.upgrade.haproxy_server
  - module: rondo.upgrade.haproxy_fence
"""

EXAMPLES = r"""
- name: Hold Keystone's requests for at most eight seconds
  rondo.upgrade.haproxy_hold:
    service: keystone
    state: held
    deadline: 8
    on_deadline: reject
    frontends: [keystone_internal, keystone_external]
    config: /etc/haproxy/haproxy.cfg
    timeouts:
      the clients' own: 60
    self_test:
      url: http://192.0.2.10:5000/healthcheck

- name: Let them go
  rondo.upgrade.haproxy_hold:
    service: keystone
    state: released
    master_socket: /run/haproxy-master.sock

- name: Look at all services that can be held
  rondo.upgrade.haproxy_hold:
  register: holds
"""

RETURN = r"""
way:
  description: How the service is held, V(lua) or V(maxconn). V(none) where nothing is held and there is no Lua action.
  returned: success
  type: str
hold:
  description: The service's hold after the module has run (in check mode, as it is).
  returned: success, if O(service) is given
  type: dict
  contains:
    state:
      description: V(off), V(on), or V(releasing) while those that waited go in their order.
      type: str
    ended:
      description:
        - How the last hold ended. V(off) (it was released), V(deadline), V(max_waiting) or V(max_memory).
        - V(-) while it lasts, V(never) if there was none since HAProxy started.
      type: str
    age:
      description: Seconds that the hold has lasted.
      type: float
    left:
      description: Seconds until its deadline.
      type: float
    waiting:
      description: Requests that wait now. Clients that hung up may be counted until the hold ends.
      type: int
    greatest:
      description: The most that waited at once.
      type: int
    longest:
      description: The longest wait in seconds, so far.
      type: float
    held:
      description: Requests that were held.
      type: int
    released:
      description: Requests that were held and then forwarded.
      type: int
    rejected:
      description: Requests that were answered 503.
      type: int
    memory:
      description: The most bytes that HAProxy took beyond what it had when the hold began.
      type: int
    rate:
      description: Requests a second, mean of the last ten seconds.
      type: float
    peak:
      description: Requests in the busiest of the last ten seconds.
      type: int
services:
  description: The same for every service, by name.
  returned: O(state=status)
  type: dict
prediction:
  description: What the hold comes to if it lasts until its deadline.
  returned: O(state=held)
  type: dict
  sample:
    rate: 50.0
    seconds: 2.0
    waiting: 100
    longest_wait: 2.12
    memory: 2100000
arithmetic:
  description: Every number that bounds the hold.
  returned: O(state=held)
  type: list
  elements: dict
  sample:
    - name: maxconn
      needs: 112.0
      limit: 9977
      unit: connections
      holds: true
drained:
  description: How many seconds it took until no session was left on the servers of O(drain).
  returned: O(state=held), if O(drain) is given
  type: float
closed_sessions:
  description: How many sessions on these servers were closed.
  returned: O(state=held), if O(drain) is given
  type: int
at:
  description:
    - When it was held, or HAProxy was told to release it, in seconds since 1970 by the balancer's own clock. Those that
      waited go within two seconds from then.
  returned: success
  type: float
self_test:
  description: What the request of the module's own saw.
  returned: O(state=held), if it was asked for and nothing was held yet
  type: dict
  sample:
    held: true
    status: 200
    seconds: 0.153
"""

import contextlib
import http.client
import math
import re
import secrets
import socket
import ssl
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rondo.upgrade.plugins.module_utils._fence import (
    FENCE_OPTION,
    LOCK_SECONDS,
    FenceError,
    guard,
    locked,
)
from ansible_collections.rondo.upgrade.plugins.module_utils._haproxy import (
    Balancer,
    HaproxyError,
    ask,
    config_files,
    number,
    parse_stat,
)
from ansible_collections.rondo.upgrade.plugins.module_utils._hold import (
    BYTES_PER_REQUEST,
    HoldError,
    available_memory,
    bounds,
    client_timeouts,
    maxconn_danger,
    memory_room,
    owner_word,
    parse_status,
    predict,
    refusals,
)
from ansible_collections.rondo.upgrade.plugins.module_utils._hold_maxconn import MaxconnHold
from ansible_collections.rondo.upgrade.plugins.module_utils._rotation import Failed, Rotation

POLL_SECONDS = 0.05

# A bound that is reached is too near.
USABLE = 0.9

# The balancer lets those that waited go within two seconds; a machine under load may take longer.
LETTING_GO_SECONDS = 60.0


class Frontend:
    """One frontend as `show stat` gives it."""

    def __init__(self, row):
        self.name = row["pxname"]
        self.mode = row.get("mode", "")
        self.sessions = number(row.get("scur"))
        self.maxconn = number(row.get("slim"))


class Hold:
    """The hold of one service on one balancer. `guard` is called before each change and raises if it may not be."""

    def __init__(self, balancer, params, guard=lambda: None):
        self.balancer = balancer
        self.params = params
        self.guard = guard
        self.service = params["service"]
        self.info = balancer.info()
        self.by_maxconn = MaxconnHold(balancer, self.service, params["state_directory"])
        self.statuses = self.ask_statuses()
        self.frontends = self.look_at_frontends()

    def ask_statuses(self):
        return parse_status(ask(self.balancer.address, "rondo hold", self.balancer.timeout))

    def status(self):
        statuses = self.ask_statuses() or {}
        if self.service not in statuses:
            raise HoldError(
                "%s: HAProxy does not hold %s any more; was it reloaded with another configuration?"
                % (self.balancer.address, self.service)
            )
        return statuses[self.service]

    def look_at_frontends(self):
        rows = {
            row["pxname"]: Frontend(row)
            for row in parse_stat(ask(self.balancer.address, "show stat", self.balancer.timeout))
            if row.get("type") == "0"
        }
        missing = [name for name in self.params["frontends"] if name not in rows]
        if missing:
            raise HoldError(
                "frontends: %s: no such frontend; there is %s" % (", ".join(missing), ", ".join(sorted(rows)) or "none")
            )
        return [rows[name] for name in self.params["frontends"]]

    def may_be_by_maxconn(self):
        """Whether it is no mistake that HAProxy's configuration does not name the service."""
        return bool(self.frontends) or self.params["way"] == "maxconn"

    def way(self):
        """lua or maxconn. Raises `HoldError` with everything that is in the way."""
        wanted = self.params["way"]
        problems = []
        if wanted != "maxconn":
            if self.statuses is not None and self.service in self.statuses:
                return "lua"
            problems.append(self.no_lua())
        if wanted != "lua":
            danger = self.no_maxconn()
            if danger is None:
                return "maxconn"
            problems.append(danger)
        raise HoldError("%s: %s can't be held: %s" % (self.balancer.address, self.service, "; and ".join(problems)))

    def no_lua(self):
        if self.statuses is None:
            return "HAProxy has no command `rondo hold`; install rondo_hold.lua with the role rondo.upgrade.hold"
        return "RONDO_HOLD in HAProxy's configuration does not name it, but %s" % (
            ", ".join(sorted(self.statuses)) or "nothing"
        )

    def no_maxconn(self):
        """Why the frontends' maxconn can't be used, or None."""
        danger = maxconn_danger(self.info["Version"])
        if danger:
            return danger
        if not self.frontends:
            return "holding by maxconn needs `frontends`"
        http_ones = [frontend.name for frontend in self.frontends if frontend.mode == "http"]
        if http_ones:
            return "maxconn lets requests on existing connections of HTTP frontends through (%s)" % ", ".join(http_ones)
        if self.params["on_deadline"] == "reject":
            return "holding by maxconn can't reject; its connections wait in the kernel"
        return None

    def predict(self, way):
        """(prediction, bounds, limit of waiting requests)."""
        params = self.params
        rate = params["rate"]
        if way == "lua":
            rate = max(rate, self.statuses[self.service].rate)
        prediction = predict(rate, params["deadline"], params["bytes_per_request"])
        timeouts = {name: float(value) for name, value in params["timeouts"].items()}
        if params["config"]:
            for path in config_files(params["config"]):
                text = Path(path).read_text(encoding="utf-8", errors="replace")
                timeouts.update(client_timeouts(text, params["frontends"]))
        if way == "maxconn":
            # They wait in the kernel: nothing of HAProxy's is taken, and its own timeouts do not run yet.
            timeouts = {name: value for name, value in timeouts.items() if not name.startswith("timeout client of ")}
            backlog = somaxconn()
            connections = [("backlog (net.core.somaxconn)", 0, backlog)] if backlog else []
            found = bounds(
                prediction, max_waiting=0, max_memory=0, memory_room=None, connections=connections, timeouts=timeouts
            )
            return prediction, found, 0
        with_limits = [(frontend.name, frontend) for frontend in self.frontends if frontend.maxconn]
        connections = [("maxconn of frontend %s" % name, one.sessions, one.maxconn) for name, one in with_limits]
        connections.append(("maxconn", number(self.info.get("CurrConns")), number(self.info.get("Maxconn"))))
        room = memory_room(self.info, machine_memory())
        most = self.most(connections, room)
        found = bounds(
            prediction,
            max_waiting=most,
            max_memory=params["max_memory"] * 1000 * 1000,
            memory_room=room,
            connections=connections,
            timeouts=timeouts,
        )
        return prediction, found, most

    def most(self, connections, room):
        """How many may wait: what was asked for, but not more than there is safely room for."""
        per_request = self.params["bytes_per_request"]
        rooms = [limit - used for _name, used, limit in connections]
        rooms.append(self.params["max_memory"] * 1000 * 1000 // per_request)
        if room is not None:
            rooms.append(room // per_request)
        safe = max(1, math.floor(USABLE * min(rooms)))
        return min(safe, self.params["max_waiting"] or safe)

    def tell(self, words):
        """Give a command that changes something."""
        self.guard()
        answer = ask(self.balancer.address, "rondo hold %s %s" % (self.service, words), self.balancer.timeout).strip()
        if not answer.startswith("ok"):
            raise HoldError(
                "%s: `rondo hold %s %s` answered: %s" % (self.balancer.address, self.service, words, answer)
            )

    def hold(self, most, owner):
        params = self.params
        self.tell(
            "on %.3f %s max_waiting=%d max_memory=%d on_limit=%s retry_after=%d owner=%s"
            % (
                params["deadline"],
                params["on_deadline"],
                most,
                params["max_memory"] * 1000 * 1000,
                params["on_limit"],
                params["retry_after"],
                owner,
            )
        )

    def wait_until_off(self):
        """Wait until those that waited are gone; returns the status. Does not fail if it takes too long."""
        deadline = time.monotonic() + LETTING_GO_SECONDS
        while True:
            status = self.status()
            if status.state != "releasing" or time.monotonic() >= deadline:
                return status
            time.sleep(POLL_SECONDS)

    def release_in_old_workers(self):
        """How many old workers still held requests and were told to let them go."""
        told = 0
        for pid in self.balancer.old_workers():
            prefix = "@!%d rondo hold %s" % (pid, self.service)
            answer = self.balancer.ask_master(prefix)
            if " state=on " in answer:
                self.guard()
                self.balancer.ask_master(prefix + " off")
                told += 1
        return told


def machine_memory():
    try:
        return available_memory(Path("/proc/meminfo").read_text(encoding="ascii"))
    except OSError:
        return None


def somaxconn():
    try:
        return int(Path("/proc/sys/net/core/somaxconn").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, host, path, timeout):
        super().__init__(host, timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def connection_of(test, timeout):
    parts = urlsplit(test["url"])
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise HoldError("self_test.url: %s is no URL; it has to look like http://HOST:PORT/PATH" % test["url"])
    target = (parts.path or "/") + ("?" + parts.query if parts.query else "")
    if test["unix"]:
        return UnixConnection(parts.netloc, test["unix"], timeout), target
    if parts.scheme == "https":
        context = ssl.create_default_context()
        if not test["validate_certs"]:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=context), target
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout), target


def run_self_test(hold, test):
    """Hold a request of our own, see that it waits, release it, see that it is answered. Raises `HoldError`."""
    token = secrets.token_hex(16)
    patience = test["timeout"]
    connection, target = connection_of(test, patience * 3)
    answers = []

    def request():
        try:
            connection.request("GET", target, headers={"X-Rondo-Hold": token})
            answers.append(connection.getresponse().status)
        except (OSError, http.client.HTTPException) as error:
            answers.append(error)
        finally:
            connection.close()

    began = time.monotonic()
    hold.tell("test %s %.3f" % (token, min(60.0, patience * 2)))
    thread = threading.Thread(target=request, daemon=True)
    thread.start()
    try:
        while hold.status().testing < 1:
            if answers:
                raise HoldError(
                    "self_test: the request to %s was answered (%s) without being held; does its frontend have "
                    "`http-request lua.rondo_hold %s` before anything that answers?"
                    % (test["url"], answers[0], hold.service)
                )
            if time.monotonic() - began > patience:
                raise HoldError(
                    "self_test: the request to %s did not arrive within %g s; does the URL lead to this balancer?"
                    % (test["url"], patience)
                )
            time.sleep(POLL_SECONDS)
    finally:
        with contextlib.suppress(HaproxyError, FenceError):
            hold.tell("untest " + token)
    thread.join(patience)
    if not answers:
        raise HoldError(
            "self_test: the request to %s was not answered within %g s of its release" % (test["url"], patience)
        )
    # Whatever was answered: where nothing serves, HAProxy says so itself, and holds as well as ever.
    if not isinstance(answers[0], int):
        raise HoldError("self_test: the request to %s was released and answered: %s" % (test["url"], answers[0]))
    return {"held": True, "status": answers[0], "seconds": round(time.monotonic() - began, 3)}


def state_held(module, hold, owner):
    """(changed, results)."""
    way = hold.way()
    if way == "maxconn":
        return held_by_maxconn(module, hold, owner)
    level = hold.balancer.level()
    if level != "admin":
        raise HoldError("%s: its level is %s, and holding needs `level admin`" % (hold.balancer.address, level))
    status = hold.status()
    results = {"way": way}
    if status.state == "on":
        if status.owner != owner:
            raise HoldError(
                "%s: %s is held already by %s, for another %g s"
                % (hold.balancer.address, hold.service, status.owner, status.left)
            )
        results["hold"] = status.shown()
        add_arithmetic(module, hold, way, results)
        return False, results
    if status.state == "releasing" and not module.check_mode:
        hold.wait_until_off()
    hold.statuses = hold.ask_statuses()
    test = module.params["self_test"]
    most = add_arithmetic(module, hold, way, results, test is None)
    if not module.check_mode:
        if test:
            results["self_test"] = run_self_test(hold, test)
        hold.hold(most, owner)
    results["hold"] = hold.status().shown()
    return True, results


def add_arithmetic(module, hold, way, results, untested=False):
    """Put the numbers into the results; returns how many may wait. Raises `HoldError` if they say no."""
    prediction, found, most = hold.predict(way)
    results["prediction"] = prediction.shown()
    results["arithmetic"] = [bound.shown() for bound in found]
    against = refusals(prediction, found)
    if against and not module.params["force"]:
        raise HoldError("\n".join("%s: %s" % (hold.balancer.address, line) for line in against))
    for line in against:
        module.warn("held by force though " + line)
    if untested and way == "lua" and not hold.statuses[hold.service].seen:
        module.warn(
            "%s has not seen a request of %s since it started: nothing proves that its frontends have "
            "`http-request lua.rondo_hold %s` (use self_test)" % (hold.balancer.address, hold.service, hold.service)
        )
    return most


def held_by_maxconn(module, hold, owner):
    there = hold.by_maxconn.read()
    results = {"way": "maxconn", "hold": shown_by_maxconn(there)}
    if there is not None:
        if there["owner"] != owner:
            raise HoldError("%s is held already by %s" % (hold.service, there["owner"]))
        return False, results
    unlimited = [frontend.name for frontend in hold.frontends if not frontend.maxconn]
    if unlimited:
        raise HoldError("%s: their maxconn is 0 already; what would be restored?" % ", ".join(unlimited))
    add_arithmetic(module, hold, "maxconn", results)
    if not module.check_mode:
        hold.guard()
        frontends = {frontend.name: frontend.maxconn for frontend in hold.frontends}
        hold.by_maxconn.switch_on(frontends, module.params["deadline"], owner)
        results["hold"] = shown_by_maxconn(hold.by_maxconn.read())
    return True, results


def shown_by_maxconn(there):
    if there is None:
        return {"state": "off", "ended": "never", "left": 0.0, "age": 0.0}
    now = time.time()
    return {
        "state": "on",
        "ended": "-",
        "owner": there["owner"],
        "age": round(max(0.0, now - there["began"]), 3),
        "left": round(max(0.0, there["until"] - now), 3),
    }


def state_released(module, hold, owner):
    """(changed, results)."""
    there = hold.by_maxconn.read()
    if there is not None:
        refuse_another_owner(hold, there["owner"], owner)
        if not module.check_mode:
            hold.guard()
            hold.by_maxconn.switch_off()
        return True, {"way": "maxconn", "hold": shown_by_maxconn(there if module.check_mode else None)}
    if hold.statuses is None or (hold.service not in hold.statuses and hold.may_be_by_maxconn()):
        return False, {"way": "none", "hold": shown_by_maxconn(None)}
    if hold.service not in hold.statuses:
        raise HoldError("%s: %s" % (hold.balancer.address, hold.no_lua()))
    status = hold.status()
    changed = status.state == "on"
    if changed:
        refuse_another_owner(hold, status.owner, owner)
    at = time.time()
    if not module.check_mode:
        if changed:
            hold.tell("off")
            at = time.time()
        changed = bool(hold.release_in_old_workers()) or changed
        status = hold.wait_until_off()
    return changed, {"way": "lua", "hold": status.shown(), "at": at}


def refuse_another_owner(hold, holder, owner):
    """Who has no owner's name, such as a person in need, may release any hold."""
    if owner not in ("-", holder) and holder != "-":
        raise HoldError("%s: %s is held by %s, not by %s" % (hold.balancer.address, hold.service, holder, owner))


def drained(balancer, params, guard):
    rotation = Rotation(balancer, [(row["backend"], row["name"]) for row in params["drain"]], guard)
    rotation.idle(params["drain_timeout"])
    return {"drained": round(rotation.now() - rotation.began, 3), "closed_sessions": sum(rotation.closed.values())}


def state_status(hold):
    services = {name: status.shown() for name, status in (hold.statuses or {}).items()}
    results = {"way": "lua" if hold.statuses is not None else "none", "services": services}
    if hold.service:
        there = hold.by_maxconn.read()
        if there is not None:
            results.update(way="maxconn", hold=shown_by_maxconn(there))
        elif hold.service in services:
            results["hold"] = services[hold.service]
        elif hold.statuses is not None and not hold.may_be_by_maxconn():
            raise HoldError("%s: %s" % (hold.balancer.address, hold.no_lua()))
        else:
            results["hold"] = shown_by_maxconn(None)
    return False, results


def main():
    module = AnsibleModule(
        argument_spec={
            "socket": {"type": "str", "default": "/run/haproxy/admin.sock"},
            "service": {"type": "str"},
            "state": {"type": "str", "choices": ["held", "released", "status"], "default": "status"},
            "deadline": {"type": "float"},
            "on_deadline": {"type": "str", "choices": ["release", "reject"], "default": "release"},
            "on_limit": {"type": "str", "choices": ["release", "reject"], "default": "release"},
            "retry_after": {"type": "int", "default": 1},
            "max_waiting": {"type": "int"},
            "max_memory": {"type": "int", "default": 256},
            "bytes_per_request": {"type": "int", "default": BYTES_PER_REQUEST},
            "rate": {"type": "float", "default": 0},
            "timeouts": {"type": "dict", "default": {}},
            "config": {"type": "path"},
            "frontends": {"type": "list", "elements": "str", "default": []},
            "self_test": {
                "type": "dict",
                "options": {
                    "url": {"type": "str", "required": True},
                    "unix": {"type": "path"},
                    "timeout": {"type": "float", "default": 10},
                    "validate_certs": {"type": "bool", "default": True},
                },
            },
            "drain": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"backend": {"type": "str", "required": True}, "name": {"type": "str", "required": True}},
            },
            "drain_timeout": {"type": "float", "default": 5},
            "force": {"type": "bool", "default": False},
            "way": {"type": "str", "choices": ["auto", "lua", "maxconn"], "default": "auto"},
            "state_directory": {"type": "path", "default": "/run"},
            "master_socket": {"type": "str"},
            "fence": FENCE_OPTION,
            "answer_timeout": {"type": "float", "default": 10},
        },
        required_if=[("state", "held", ["service", "deadline"]), ("state", "released", ["service"])],
        supports_check_mode=True,
    )
    params = module.params

    if params["service"] is not None and not re.match(r"[A-Za-z0-9_.-]+\Z", params["service"]):
        module.fail_json(msg="service: %r may have letters, digits, '_', '.' and '-' only" % params["service"])
    if params["deadline"] is not None and params["deadline"] <= 0:
        module.fail_json(msg="deadline: %g is not above 0" % params["deadline"])
    owner = owner_word((params["fence"] or {}).get("owner"))
    balancer = Balancer(params["socket"], params["answer_timeout"], params["master_socket"])
    changed, before = False, {}
    try:
        hold = Hold(balancer, params, guard(params["fence"]))
        before = {name: status.state for name, status in (hold.statuses or {}).items() if name == params["service"]}
        if params["state"] == "status":
            changed, results = state_status(hold)
        else:
            with locked(balancer.meeting_place, LOCK_SECONDS):
                hold.guard()
                if params["state"] == "held":
                    changed, results = state_held(module, hold, owner)
                else:
                    changed, results = state_released(module, hold, owner)
            results.setdefault("at", time.time())
            if params["state"] == "held" and params["drain"] and not module.check_mode:
                results.update(drained(balancer, params, hold.guard))
    except (HaproxyError, FenceError, HoldError, Failed) as error:
        module.fail_json(msg=str(error), changed=changed)
    except OSError as error:
        module.fail_json(msg="%s: %s" % (error.filename or "socket", error.strerror or error), changed=changed)
    after = {params["service"]: "on" if params["state"] == "held" else "off"} if changed else before
    module.exit_json(changed=changed, diff={"before": before, "after": after}, **results)


if __name__ == "__main__":
    main()
