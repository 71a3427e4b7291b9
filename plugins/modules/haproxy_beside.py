#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Second copies in the tables of one HAProxy: make them known, move the traffic to them and back, take them out."""

from __future__ import annotations

DOCUMENTATION = r"""
module: haproxy_beside
short_description: Make second copies known to HAProxy, and move the traffic between them and the first
version_added: 0.1.0
author:
  - The rondo.upgrade authors (@rondo)
description:
  - Adds servers for second copies of a service's instances to a running HAProxy, gives them a share of the requests,
    and takes them out again. A copy's server has the options of the server that it is a copy of, and another address.
  - A copy gets no request before HAProxy's own check has called it up.
  - The servers are added at run time where HAProxy can, else by configuration and a seamless reload. In both cases
    they, the weights, and what is out, also stand in HAProxy's configuration, in marked lines, so that a reload in the
    middle changes nothing. With the last copy the file becomes its old self again, byte for byte.
  - Lines that add or remove servers are checked by O(check_command) before the file is replaced.
  - Works on one balancer. Use M(rondo.upgrade.together) to do it on all of them at the same moment.
  - Tested with HAProxy 2.6 and 3.0.
options:
  socket:
    description:
      - HAProxy's runtime socket (C(stats socket), C(level admin)). A UNIX socket's path, or HOST:PORT.
    type: str
    default: /run/haproxy/admin.sock
  service:
    description:
      - The service's name, for the marks in the configuration.
    type: str
    required: true
  servers:
    description:
      - The servers of the service's first instances, all of them.
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
  copies:
    description:
      - The servers of the second copies.
      - With O(state=absent) it may be left out; then all in the backends of O(servers) whose names end with
        C(.rondo-beside) are meant.
    type: list
    elements: dict
    default: []
    suboptions:
      backend:
        description: The backend's name.
        type: str
        required: true
      name:
        description: The copy's name in that backend, such as C(ctl1.rondo-beside).
        type: str
        required: true
      like:
        description: The server whose options it gets. By default the one whose name it begins with, before
          C(.rondo-beside).
        type: str
      address:
        description:
          - Its address, HOST:PORT, where it is not on the host of O(copies[].like).
          - This or O(copies[].port) is needed with O(state=present).
        type: str
      port:
        description: Its port, where it is on that host.
        type: int
  state:
    description:
      - V(present) makes the copies known, waits until HAProxy's check calls them up, and gives them O(share).
      - V(absent) drains them and takes them out of the tables and the configuration. The other servers get their
        configured weights back. Refused where these could not serve alone.
    type: str
    choices: [present, absent]
    default: present
  share:
    description:
      - How many percent of each backend's requests the copies get. With V(0) the others get all, and with V(100) the
        copies do.
      - By default the share stays as it is, and the configuration is made to agree with what HAProxy does.
      - Servers that somebody else has taken out stay out. Those that an earlier call had taken out come back.
      - Balance algorithms with weights keep the share (C(roundrobin) best); a hash gives that part of its keys.
    type: int
  home:
    description:
      - What the other servers' state is with O(share=100). In V(drain) HAProxy goes on checking them, so that they are
        back at once; clients that a cookie or a stick table ties to them still reach them. In V(maintenance) nobody
        does.
    type: str
    choices: [drain, maintenance]
    default: drain
  timeout:
    description:
      - Seconds within which HAProxy's check has to call the servers up that shall serve.
    type: float
    default: 120
  watch:
    description:
      - For how many seconds after that HAProxy's counts are looked at. They are in RV(gate).
    type: float
    default: 0
  max_errors:
    description:
      - How many of the requests to the copies may fail while they are watched, as a share between 0 and 1. Answers with
        status 5xx, connections that fail, and broken answers count.
    type: float
    default: 0
  switch_back:
    description:
      - Whether all requests go to the others again, at once, when the copies fail more than O(max_errors), or when
        HAProxy's check calls one of them down. Otherwise it is only told.
    type: bool
    default: true
  release:
    description:
      - Release the hold of O(service) (see M(rondo.upgrade.haproxy_hold)) as soon as the traffic has been moved. With
        a hold, that is one question to HAProxy less while requests wait.
    type: bool
    default: false
  only_held:
    description:
      - Move nothing where the hold has ended by itself, as it does at its deadline. For versions that must not serve
        together, while the old one still runs.
    type: bool
    default: false
  state_directory:
    description:
      - Where M(rondo.upgrade.haproxy_hold) keeps a hold by maxconn, which O(release) ends, too.
    type: path
    default: /run
  drain_timeout:
    description:
      - With O(state=absent), seconds until sessions that are left on the copies are closed, and counted.
    type: float
    default: 60
  force_last:
    description:
      - With O(state=absent), take the copies out even if no usable server remains.
    type: bool
    default: false
  config:
    description:
      - HAProxy's configuration, a file or a folder, on the balancer's host.
    type: path
    default: /etc/haproxy/haproxy.cfg
  edit_config:
    description:
      - Whether the module keeps the configuration in agreement. If not, a reload of HAProxy forgets the copies, and
        lets the others serve again.
    type: bool
    default: true
  check_command:
    description:
      - The command that checks a configuration; C(%s) is its path, beside the configuration itself. No shell runs it.
    type: str
    default: haproxy -c -f %s
  reload_command:
    description:
      - The command that reloads HAProxy seamlessly (SIGUSR2 to its master), for backends to which it can't add servers
        at run time.
    type: list
    elements: str
    default: [systemctl, reload, haproxy]
  options:
    description:
      - The copies' options as the configuration would have them, such as C(check inter 1s). By default those of
        O(copies[].like), as O(config) has them.
    type: str
  master_socket:
    description:
      - The master's socket (C(haproxy -W -S PATH)). With it O(state=absent) also waits for sessions in old workers.
    type: str
extends_documentation_fragment:
  - rondo.upgrade.balancer
attributes:
  check_mode:
    description: Can run in check mode and return what it would change.
    support: full
  diff_mode:
    description: Shows what changes in the tables and in the configuration.
    support: full
seealso:
  - module: rondo.upgrade.haproxy_server
  - module: rondo.upgrade.container_beside
  - module: rondo.upgrade.together
"""

EXAMPLES = r"""
- name: Make the second copy known, without giving it a request
  rondo.upgrade.haproxy_beside: &beside
    service: keystone
    servers:
      - {backend: keystone_back, name: ctl1}
    copies:
      - {backend: keystone_back, name: ctl1.rondo-beside, port: 15000}

- name: Give it a twentieth of the requests, and look for ten seconds
  rondo.upgrade.haproxy_beside:
    <<: *beside
    share: 5
    watch: 10
    max_errors: 0.01

- name: Take it out again
  rondo.upgrade.haproxy_beside:
    <<: *beside
    state: absent
"""

RETURN = r"""
servers:
  description: The servers, the copies last.
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
    weight:
      description: The weight that counts now.
      type: int
  sample:
    - {backend: keystone_back, name: ctl1, status: UP, weight: 19}
    - {backend: keystone_back, name: ctl1.rondo-beside, status: UP, weight: 1}
added:
  description: Servers, as BACKEND/NAME, that were added.
  returned: success
  type: list
  elements: str
removed:
  description: Servers, as BACKEND/NAME, that were removed.
  returned: success
  type: list
  elements: str
reloaded:
  description: Whether HAProxy was reloaded, because it could not do it at run time.
  returned: success
  type: bool
readings:
  description:
    - What HAProxy had counted just before and just after a reload, each as
      RV(rondo.upgrade.haproxy_info#module:counters).
  returned: success
  type: list
  elements: dict
gate:
  description: What HAProxy counted while the copies were watched.
  returned: O(watch) is more than 0
  type: dict
  contains:
    seconds:
      description: How long they were watched.
      type: float
    requests:
      description: Requests that the copies got.
      type: int
    errors:
      description: Requests of those that failed.
      type: int
    all_requests:
      description: Requests that all servers of these backends got.
      type: int
    share:
      description: Percent of all requests of these backends that the copies got; null where there was none.
      type: float
verdict:
  description: What speaks against the copies, empty if nothing does.
  returned: success
  type: str
switched_back:
  description: Whether all requests went back to the others because of that.
  returned: success
  type: bool
closed_sessions:
  description: Sessions on the copies that were closed because the drain took too long.
  returned: success
  type: int
at:
  description: When the traffic had been moved on this balancer, in seconds since 1970 by its own clock.
  returned: success
  type: float
"""

import contextlib
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rondo.upgrade.plugins.module_utils._beside import (
    BesideError,
    Copy,
    Entry,
    Gate,
    copied_words,
    shared_weights,
)
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
    ask,
    number,
    unknown,
)
from ansible_collections.rondo.upgrade.plugins.module_utils._haproxy_files import Files, command
from ansible_collections.rondo.upgrade.plugins.module_utils._hold import HoldError
from ansible_collections.rondo.upgrade.plugins.module_utils._hold_maxconn import MaxconnHold
from ansible_collections.rondo.upgrade.plugins.module_utils._rotation import (
    POLL_SECONDS,
    Failed,
    Refused,
    Rotation,
    label,
    last_usable,
)

SUFFIX = ".rondo-beside"
ADDED = "New server registered."
DELETED = "Server deleted."

# HAProxy reads its socket into a buffer of 16 KiB.
COMMANDS_AT_ONCE = 100

# Idle connections to a server that is gone are purged within seconds; a machine under load may take longer.
REMOVING_SECONDS = 60.0
RELOADING_SECONDS = 120.0


class Beside:
    """The copies of one service in the tables of one balancer."""

    def __init__(self, balancer, params, guard, taken, check_mode):
        self.balancer = balancer
        self.params = params
        self.guard = guard
        self.taken = taken
        self.check_mode = check_mode
        self.home = list(dict.fromkeys((row["backend"], row["name"]) for row in params["servers"]))
        self.rotation = Rotation(balancer, [], guard)
        self.files = Files(params, self.home)
        self.servers = {}
        self.look()
        self.likes = {}
        self.copies = self.wanted_copies()
        self.changed = False
        self.added = []
        self.removed = []
        self.reloaded = False
        self.readings = []
        self.at = 0.0
        problems = unknown(self.servers, self.home)
        level = balancer.level()
        if level != "admin":
            problems.append(
                "%s: its level is %s, and changing servers needs `stats socket ... level admin`"
                % (balancer.address, level)
            )
        if problems:
            raise Refused(problems)

    def look(self):
        self.servers = self.rotation.patiently(self.balancer.servers)
        return self.servers

    def wanted_copies(self):
        """The copies by key. Without any being named, those that HAProxy has, in the backends of the others."""
        rows = self.params["copies"]
        if not rows:
            backends = {backend for backend, _name in self.home}
            rows = [
                {"backend": backend, "name": name, "like": None, "address": server.address, "port": None}
                for (backend, name), server in self.servers.items()
                if backend in backends and name.endswith(SUFFIX)
            ]
        for row in rows:
            if not row["like"] and not row["name"].endswith(SUFFIX):
                raise BesideError("copies: %s does not end with %s, so say `like`" % (row["name"], SUFFIX))
            self.likes[row["backend"], row["name"]] = (row["backend"], row["like"] or row["name"][: -len(SUFFIX)])
        likes = self.likes
        lost = sorted({label(like) for like in likes.values() if like not in self.servers})
        if lost and self.params["state"] == "present":
            raise BesideError("copies: there is no server %s that they could be like" % ", ".join(lost))
        follows = {label(like): label(key) for key, like in likes.items()}
        return {
            (row["backend"], row["name"]): self.copy_of(row, likes[row["backend"], row["name"]], follows)
            for row in rows
        }

    def copy_of(self, row, like, follows):
        line = self.files.lines.get(like)
        if self.params["options"] is not None:
            words = self.params["options"].split()
        elif line is None:
            words = []
        else:
            words = copied_words(line.words, row["name"], follows)
        # Of those that go nobody may know it any more, nor the server that they are like.
        address = self.address_of(row, like, line) if self.params["state"] == "present" else ""
        return Copy(row["backend"], row["name"], address, tuple(words), Entry(self.base_weight(like), True))

    def address_of(self, row, like, line):
        if row["address"]:
            return row["address"]
        if not row["port"]:
            raise BesideError("copies: %s/%s needs an address, or a port" % (row["backend"], row["name"]))
        there = line.address if line else self.servers[like].address
        return "%s:%d" % (there.rpartition(":")[0], row["port"])

    def base_weight(self, key):
        """The weight as configured, before anything of ours."""
        line = self.files.lines.get(key)
        if line is not None:
            return line.weight
        server = self.servers.get(key)
        return server.initial_weight if server else 1

    def ours(self):
        """The servers that earlier calls had taken out, as far as they are."""
        out = self.files.out() if self.files.edits else set(self.home)
        if self.taken is not None:
            out |= self.taken.out
        return {key for key in self.home if key in out and key in self.servers and self.servers[key].forced_out}

    # -- what shall be ------------------------------------------------------------------------------------------------

    def as_it_is(self):
        """(home, copies) as HAProxy has them now; copies that it does not have yet take no request."""
        ours = self.ours()
        home = {}
        for key in self.home:
            server = self.servers[key]
            weight = None if key in ours or server.own_weight == self.base_weight(key) else server.own_weight
            home[key] = Entry(weight, key in ours)
        copies = {}
        for key, copy in self.copies.items():
            server = self.servers.get(key)
            out = server is None or server.forced_out
            copies[key] = Entry(copy.entry.weight if out else server.own_weight, out)
        return home, copies

    def with_share(self, share):
        """(home, copies) for this share of the copies."""
        ours = self.ours()
        home = {key: Entry() for key in self.home}
        copies = {key: copy.entry for key, copy in self.copies.items()}
        if share == 0:
            return home, copies
        if share == 100:
            away = {key for key in self.home if self.servers[key].forced_out and key not in ours}
            home = {key: Entry(None, key not in away) for key in self.home}
            return home, {key: Entry(entry.weight) for key, entry in copies.items()}
        for backend in sorted({backend for backend, _name in self.copies}):
            theirs = {
                key: self.base_weight(key)
                for key, server in self.servers.items()
                if key[0] == backend and key not in self.copies and (not server.forced_out or key in ours)
                and not server.backup and self.base_weight(key) > 0
            }  # fmt: skip
            if not theirs:
                raise BesideError("%s: has no server to share requests with; use share=100" % backend)
            mine = {key: copies[key].weight for key in self.copies if key[0] == backend}
            first, second = shared_weights(theirs, mine, share)
            home.update({key: Entry(weight) for key, weight in first.items()})
            copies.update({key: Entry(weight) for key, weight in second.items()})
        return home, copies

    def save(self, home, copies):
        lines = [Copy(one.backend, one.name, one.address, one.words, copies[key]) for key, one in self.copies.items()]
        self.guard()
        if self.files.save(home, lines, self.check_mode):
            self.changed = True

    # -- doing it -----------------------------------------------------------------------------------------------------

    def tell(self, commands):
        """Give commands on one line, so that hardly a request sees one without the others."""
        for start in range(0, len(commands), COMMANDS_AT_ONCE):
            self.guard()
            self.balancer.change(*commands[start : start + COMMANDS_AT_ONCE])
            self.changed = True

    def make_known(self):
        """Add the copies that HAProxy does not have. Raises `BesideError`."""
        missing = [key for key in self.copies if key not in self.servers]
        self.save(*self.as_it_is())
        if not missing:
            return
        self.changed = True
        self.added = [label(key) for key in missing]
        if self.check_mode:
            return
        refused = ""
        for key in missing:
            refused = self.add(key)
            if refused:
                break
        if refused:
            if not self.files.edits:
                raise BesideError(
                    "%s: HAProxy refuses to add a server at run time (%s); the other way needs edit_config"
                    % (self.balancer.address, refused)
                )
            self.reload(list(self.copies))
        self.look()
        # Known, checked, and without a request: proof first.
        self.tell(
            [
                word
                for key in missing
                for word in (
                    "set server %s state drain" % label(key),
                    *(["set server %s health down" % label(key)] if self.servers[key].checked else []),
                )
            ]
        )

    def add(self, key):
        """Why HAProxy refuses to add it, or empty."""
        copy = self.copies[key]
        like = self.files.lines.get(self.likes[key])
        inherited = copied_words(like.inherited, copy.name, {}) if like and self.params["options"] is None else []
        words = ["add server", label(key), copy.address, *inherited, *copy.words]
        self.guard()
        answer = self.ask(" ".join([*words, "weight %d" % copy.entry.weight]))
        if ADDED not in answer:
            return " ".join(answer.split())
        if "check" in words:
            # HAProxy leaves the checks of servers that are added at run time off until it is told.
            self.ask("enable health " + label(key))
        return ""

    def ask(self, line):
        return ask(self.balancer.address, line, self.balancer.timeout)

    def reload(self, expected, gone=()):
        before = self.balancer.info()["Pid"]
        self.guard()
        self.readings.append(self.balancer.reading())
        code, said = command(self.params["reload_command"])
        if code:
            raise BesideError("`%s` failed: %s" % (" ".join(self.params["reload_command"]), said[-1500:]))
        self.reloaded = True
        deadline = time.monotonic() + RELOADING_SECONDS
        while True:
            time.sleep(POLL_SECONDS)
            with contextlib.suppress(HaproxyError):
                servers = self.balancer.servers()
                known = all(key in servers for key in expected) and not any(key in servers for key in gone)
                if known and self.balancer.info()["Pid"] != before:
                    break
            if time.monotonic() >= deadline:
                raise BesideError(
                    "%s: HAProxy was reloaded and does not know what its configuration says after %g s"
                    % (self.balancer.address, RELOADING_SECONDS)
                )
        self.look()
        self.readings.append(self.balancer.reading())
        if self.taken is not None:
            # The new worker has forgotten what this run had taken out elsewhere.
            again = [key for key in self.taken.out if key in self.servers and not self.servers[key].forced_out]
            self.tell(["set server %s state maint" % label(key) for key in again])

    def unproven(self, keys):
        return [
            key
            for key in keys
            if (self.servers[key].checked or self.servers[key].tracked) and not self.servers[key].healthy
        ]

    def wait_for_health(self, keys):
        """Those that HAProxy's check does not call up within the timeout."""
        deadline = time.monotonic() + self.params["timeout"]
        while True:
            self.look()
            left = self.unproven(keys)
            if not left or time.monotonic() >= deadline:
                return left
            time.sleep(POLL_SECONDS)

    def prove_copies(self):
        """Those that do not serve yet. One that does and goes down is the gate's to judge."""
        left = self.wait_for_health([key for key in self.copies if self.servers[key].forced_out])
        if left:
            raise Failed(
                "not up within %g s: %s. They get no request"
                % (self.params["timeout"], ", ".join(self.described(key) for key in left))
            )

    def described(self, key):
        server = self.servers[key]
        check = " ".join(part for part in (server.check_status, server.last_chk) if part)
        return "%s is %s%s" % (label(key), server.status, " (last check: %s)" % check if check else "")

    def move(self, share):
        """Give the copies this share."""
        home, copies = self.with_share(share)
        acts = self.acts(home, copies)
        if self.check_mode:
            self.changed = self.changed or bool(acts)
            self.save(home, copies)
            return
        if self.params["only_held"] and not self.held():
            raise Failed("the hold of %s has ended by itself, so nothing was moved" % self.params["service"])
        with locked(self.balancer.meeting_place, LOCK_SECONDS):
            if self.taken is not None:
                self.taken.move({key for key, entry in home.items() if entry.out}, "out")
            if share:
                self.save(home, copies)
                self.tell(acts)
            else:
                # First those that come back, then the copies' end: there is always one that serves.
                self.bring_home(home)
                self.look()
                self.tell(self.acts(home, copies))
                self.save(home, copies)
            if self.taken is not None:
                self.look()
                self.taken.move({key for key in self.home if not self.servers[key].forced_out}, None)
        if self.params["release"]:
            self.let_go()
        self.at = time.time()
        self.look()

    def by_maxconn(self):
        return MaxconnHold(self.balancer, self.params["service"], self.params["state_directory"])

    def held(self):
        """Whether the service's requests wait now."""
        return self.by_maxconn().read() is not None or " state=on " in self.ask("rondo hold " + self.params["service"])

    def let_go(self):
        """Release what waits. That the hold has ended by itself is a failure only where old ones may still answer."""
        self.guard()
        if self.by_maxconn().switch_off() is not None:
            return
        answer = self.ask("rondo hold %s off" % self.params["service"]).strip()
        if "is released" in answer:
            return
        if self.params["only_held"]:
            raise Failed("the hold of %s ended by itself while the traffic was moved" % self.params["service"])
        if answer.startswith("refused"):
            raise Failed("the traffic was moved, but the hold was not released: %s" % answer)

    def acts(self, home, copies):
        """Commands that lead from what is to what shall be. Servers that others have taken out are left alone.

        Those that come in do so before the others leave: HAProxy's threads look in between.
        """
        coming, leaving = [], []
        word = "maint" if self.params["home"] == "maintenance" else "drain"
        ours = self.ours()
        for key, entry in {**home, **copies}.items():
            server = self.servers.get(key)
            if server is None:
                continue
            weight = entry.weight if entry.weight is not None else self.base_weight(key)
            if entry.out:
                wanted = word if key in home else "drain"
                done = server.admin & FORCED_MAINT if wanted == "maint" else server.forced_out
                if not done:
                    leaving.append("set server %s state %s" % (label(key), wanted))
            if server.own_weight != weight:
                (leaving if entry.out else coming).append("set weight %s %d" % (label(key), weight))
            if not entry.out and server.forced_out and (key in copies or key in ours):
                coming.append("set server %s state ready" % label(key))
        return coming + leaving

    def bring_home(self, home):
        """Those that were taken out serve again, on proof; the ones that are proven do so at once."""
        ours = self.ours()
        back = [key for key, entry in home.items() if not entry.out and key in ours]
        if not back:
            return
        unknown_yet = [key for key in back if self.servers[key].admin & FORCED_MAINT and self.servers[key].checked]
        self.tell(
            [
                word
                for key in unknown_yet
                for word in ("set server %s state drain" % label(key), "set server %s health down" % label(key))
            ]
        )
        deadline = time.monotonic() + self.params["timeout"]
        while back:
            self.look()
            left = self.unproven(back)
            ready = [key for key in back if key not in left]
            self.tell(
                [
                    word
                    for key in ready
                    for word in (
                        "set weight %s %d" % (label(key), self.base_weight(key)),
                        "set server %s state ready" % label(key),
                    )
                ]
            )
            back = left
            if back and time.monotonic() >= deadline:
                self.look()
                served = [key for key in self.home if self.servers[key].usable]
                if {backend for backend, _name in served} >= {backend for backend, _name in back}:
                    return
                raise Failed(
                    "not up within %g s: %s. The copies go on serving"
                    % (self.params["timeout"], ", ".join(self.described(key) for key in back))
                )
            if back:
                time.sleep(POLL_SECONDS)

    # -- the gate -----------------------------------------------------------------------------------------------------

    def counts(self):
        """(requests to the copies, errors of theirs, requests to all servers of their backends)."""
        backends = {backend for backend, _name in self.copies}
        requests = errors = everything = 0
        for key, server in self.servers.items():
            if key[0] not in backends:
                continue
            asked = number(server.columns.get("stot"))
            everything += asked
            if key in self.copies:
                requests += asked
                errors += sum(number(server.columns.get(name)) for name in ("hrsp_5xx", "econ", "eresp"))
        return requests, errors, everything

    def watch(self):
        """(gate, verdict): the first that speaks against the copies ends it."""
        began = time.monotonic()
        pid = self.balancer.info()["Pid"]
        self.look()
        before = self.counts()
        while True:
            time.sleep(POLL_SECONDS)
            self.look()
            now = self.rotation.patiently(self.balancer.info)["Pid"]
            if now != pid:
                # A reload: its counters begin at nothing.
                pid, before = now, (0, 0, 0)
            counted = self.counts()
            down = tuple(label(key) for key in self.copies if self.servers[key].state == "down")
            gate = Gate(
                time.monotonic() - began,
                *(max(0, after - then) for after, then in zip(counted, before)),  # noqa: B905 (Python 3.9)
                down=down,
            )
            verdict = gate.verdict(self.params["max_errors"])
            if verdict or gate.seconds >= self.params["watch"]:
                return gate, verdict

    # -- the end ------------------------------------------------------------------------------------------------------

    def take_out(self):
        """The copies go. Returns how many sessions were closed."""
        there = [key for key in self.copies if key in self.servers]
        if there and not self.params["force_last"]:
            problems = last_usable(self.servers, set(there))
            if problems:
                raise Refused(problems)
        home = {key: Entry() for key in self.home}
        weights = [
            "set weight %s %d" % (label(key), self.base_weight(key))
            for key in self.home
            if self.servers[key].own_weight != self.base_weight(key)
        ]
        self.removed = [label(key) for key in there]
        if self.check_mode:
            self.changed = bool(there or weights)
            copies, self.copies = self.copies, {}
            self.save(home, {})
            self.copies = copies
            return 0
        self.tell(weights)
        closed = 0
        if there:
            rotation = Rotation(self.balancer, there, self.guard)
            rotation.drain(self.params["drain_timeout"], True, "maintenance")
            closed = sum(rotation.closed.values())
        self.copies = {}
        self.save(home, {})
        stuck = self.delete(there)
        if stuck:
            self.reload(self.home, there)
        self.look()
        return closed

    def delete(self, keys):
        """Those that HAProxy keeps in its tables; a reload takes them out."""
        deadline = time.monotonic() + REMOVING_SECONDS
        left = list(keys)
        while left:
            self.guard()
            answers = {key: self.ask("del server " + label(key)) for key in left}
            self.changed = True
            left = [key for key, answer in answers.items() if DELETED not in answer and "No such server" not in answer]
            if left and time.monotonic() >= deadline:
                if not self.files.edits:
                    raise Failed(
                        "%s: HAProxy keeps %s: %s. They are in maintenance, and a reload takes them out"
                        % (self.balancer.address, label(left[0]), " ".join(answers[left[0]].split()))
                    )
                return left
            if left:
                time.sleep(POLL_SECONDS)
        return []

    def shown(self):
        rows = [key for key in (*self.home, *self.copies) if key in self.servers]
        return [
            {
                "backend": key[0],
                "name": key[1],
                "status": self.servers[key].status,
                "weight": self.servers[key].weight,
            }
            for key in rows
        ]


def table(rows):
    return {"%s/%s" % (row["backend"], row["name"]): "%s, weight %d" % (row["status"], row["weight"]) for row in rows}


def differences(beside, rows, texts):
    """For `diff`: the tables, and each file that changed. In check mode the tables are as they are."""
    found = [{"before": table(rows), "after": table(beside.shown())}]
    for path, text in beside.files.after.items():
        if text != texts[path]:
            found.append({"before_header": path, "after_header": path, "before": texts[path], "after": text})
    return found


def run(beside, params):
    """Do what the parameters ask; returns the results that are not the same for all."""
    results = {"verdict": "", "switched_back": False, "closed_sessions": 0}
    if params["state"] == "absent":
        results["closed_sessions"] = beside.take_out()
        return results
    with locked(beside.balancer.meeting_place, LOCK_SECONDS):
        beside.make_known()
    if not beside.check_mode and params["share"] != 0:
        beside.prove_copies()
    if params["share"] is not None:
        beside.move(params["share"])
    if params["watch"] > 0 and not beside.check_mode:
        gate, verdict = beside.watch()
        results.update(gate=gate.shown(), verdict=verdict)
        if verdict and params["switch_back"]:
            beside.move(0)
            results["switched_back"] = True
    return results


def main():
    row = {"backend": {"type": "str", "required": True}, "name": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "socket": {"type": "str", "default": "/run/haproxy/admin.sock"},
            "service": {"type": "str", "required": True},
            "servers": {"type": "list", "elements": "dict", "required": True, "options": row},
            "copies": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {**row, "like": {"type": "str"}, "address": {"type": "str"}, "port": {"type": "int"}},
            },
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "share": {"type": "int"},
            "home": {"type": "str", "choices": ["drain", "maintenance"], "default": "drain"},
            "timeout": {"type": "float", "default": 120},
            "watch": {"type": "float", "default": 0},
            "max_errors": {"type": "float", "default": 0},
            "switch_back": {"type": "bool", "default": True},
            "release": {"type": "bool", "default": False},
            "only_held": {"type": "bool", "default": False},
            "state_directory": {"type": "path", "default": "/run"},
            "drain_timeout": {"type": "float", "default": 60},
            "force_last": {"type": "bool", "default": False},
            "config": {"type": "path", "default": "/etc/haproxy/haproxy.cfg"},
            "edit_config": {"type": "bool", "default": True},
            "check_command": {"type": "str", "default": "haproxy -c -f %s"},
            "reload_command": {
                "type": "list",
                "elements": "str",
                "default": ["systemctl", "reload", "haproxy"],
            },
            "options": {"type": "str"},
            "master_socket": {"type": "str"},
            "fence": FENCE_OPTION,
            "answer_timeout": {"type": "float", "default": 10},
        },
        supports_check_mode=True,
    )
    params = module.params
    if params["share"] is not None and not 0 <= params["share"] <= 100:
        module.fail_json(msg="share: %d is not between 0 and 100" % params["share"])

    balancer = Balancer(params["socket"], params["answer_timeout"], params["master_socket"])
    taken = Taken(params["fence"]["path"], params["fence"]["token"]) if params["fence"] else None
    beside = None
    try:
        beside = Beside(balancer, params, guard(params["fence"]), taken, module.check_mode)
        rows, texts = beside.shown(), dict(beside.files.before)
        results = run(beside, params)
    except (HaproxyError, FenceError, BesideError, HoldError, Refused, Failed) as error:
        module.fail_json(msg=str(error), changed=bool(beside and beside.changed))
    module.exit_json(
        changed=beside.changed,
        servers=beside.shown(),
        added=beside.added,
        removed=beside.removed,
        reloaded=beside.reloaded,
        readings=beside.readings,
        at=beside.at,
        diff=differences(beside, rows, texts),
        **results,
    )


if __name__ == "__main__":
    main()
