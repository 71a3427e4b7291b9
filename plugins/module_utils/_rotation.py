# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers of one balancer on their way out of rotation and back into it."""

from __future__ import annotations

import time

from ansible_collections.rondo.upgrade.plugins.module_utils._haproxy import FORCED_MAINT, Unreachable, unknown

POLL_SECONDS = 0.2

# While requests are held every moment counts.
IDLE_POLL_SECONDS = 0.05

# HAProxy picks a server a moment before it counts the session there: one look that finds none proves nothing.
QUIET_LOOKS = 2

# What closed sessions need to disappear from the tables.
CLOSING_SECONDS = 5.0


class Refused(Exception):
    """Nothing was changed; `problems` are all the reasons, one line each."""

    def __init__(self, problems):
        super().__init__("\n".join(problems))
        self.problems = problems


class Failed(Exception):
    """It was tried and did not succeed."""


def label(key):
    return "%s/%s" % key


def last_usable(servers, wanted):
    """One line for each backend that would lose its last usable server."""
    problems = []
    for backend in sorted({backend for backend, _name in wanted}):
        rows = [server for server in servers.values() if server.backend == backend]
        leaving = sorted(server.name for server in rows if server.key in wanted and server.serves)
        staying = [server for server in rows if server.key not in wanted]
        if leaving and not any(server.usable for server in staying):
            others = ", ".join("%s is %s" % (server.name, server.status) for server in staying)
            problems.append(
                "%s: no usable server would remain without %s (%s); clients would get 503. Return another one first, "
                "or set force_last" % (backend, ", ".join(leaving), others or "it has no other")
            )
    return problems


def no_room(servers, wanted, most):
    """One line for each backend of which more than `most` servers would be out."""
    problems = []
    for backend in sorted({backend for backend, _name in wanted}):
        rows = [server for server in servers.values() if server.backend == backend]
        leaving = sorted(server.name for server in rows if server.key in wanted)
        out = [server for server in rows if server.key not in wanted and not server.usable]
        if any(server.serves for server in rows if server.key in wanted) and len(out) + len(leaving) > most:
            problems.append(
                "%s: %d may be out (max_unavailable); with %s it would be %d, because %s"
                % (
                    backend,
                    most,
                    ", ".join(leaving),
                    len(out) + len(leaving),
                    ", ".join("%s is %s" % (server.name, server.status) for server in out) or "these are more",
                )
            )
    return problems


class Rotation:
    """The wanted servers of one balancer on their way out of rotation or back into it.

    `guard` is called before each change and raises if this run may change nothing any more, `meanwhile` after each look
    while it waits. `now` and `clock` give seconds: one to measure with, and those since the epoch.

    Afterwards `out_at` says when the first server left the rotation, and `up_at` since when all are up (seconds since
    the epoch); None where that did not happen.
    """

    def __init__(self, balancer, wanted, guard=lambda: None, now=time.monotonic, sleep=time.sleep, clock=time.time):
        self.balancer = balancer
        self.wanted = wanted
        self.guard = guard
        self.now = now
        self.sleep = sleep
        self.clock = clock
        self.meanwhile = lambda: None
        self.began = now()
        self.servers = {}
        self.changed = False
        self.closed = dict.fromkeys(wanted, 0)
        self.left_in_old_workers = 0
        self.in_old_workers = {}
        self.restored = []
        self.unchecked = []
        self.forgotten = set()
        self.out_at = None
        self.up_at = None

    def patiently(self, question):
        """Ask; a HAProxy that does not answer may be about to reload, so it is asked again for a while."""
        deadline = self.now() + self.balancer.timeout
        while True:
            try:
                return question()
            except Unreachable:
                if self.now() >= deadline:
                    raise
                self.sleep(POLL_SECONDS)

    def look(self):
        servers = self.patiently(self.balancer.servers)
        gone = unknown(servers, self.wanted)
        if gone:
            raise Failed("\n".join(gone))
        self.servers = servers
        return [servers[key] for key in self.wanted]

    def old_sessions(self):
        return self.patiently(lambda: self.balancer.old_sessions(self.wanted))

    def command(self, key, *words):
        self.guard()
        self.balancer.change(*("set server %s %s" % (label(key), word) for word in words))
        self.changed = True

    def forgot(self, taken):
        """Those of the servers that this run had taken out which HAProxy has forgotten since, in a reload."""
        return [key for key in sorted(taken) if key in self.servers and not self.servers[key].forced_out]

    def put_right(self, taken):
        """Take out again what was forgotten. What the run has come for is told only: it is drained, or goes through
        its proof, as if it had not been forgotten."""
        for key in self.forgot(taken):
            if key in self.wanted:
                self.forgotten.add(key)
                self.restore(key)
            elif not last_usable(self.servers, {key}):
                self.command(key, "state maint")
                self.restore(key)
                self.servers = self.patiently(self.balancer.servers)

    def restore(self, key):
        if label(key) not in self.restored:
            self.restored.append(label(key))

    def take_out(self, word):
        """Bring all that are not so yet into `word` (drain or maint); one in maint counts as drained."""
        for server in self.look():
            if not (server.admin & FORCED_MAINT if word == "maint" else server.forced_out):
                if self.out_at is None and not server.forced_out:
                    self.out_at = self.clock()
                self.command(server.key, "state " + word)

    def drain(self, timeout, close, after):
        """Wait until no session is left; `timeout` in seconds, `after` is maintenance or drain."""
        self.take_out("drain")
        deadline = self.now() + timeout
        if not self.wait_for_quiet(deadline):
            if not close:
                left = ["%s has %d" % (label(s.key), s.sessions) for s in self.look() if s.sessions]
                left += ["%s has %d in old workers" % (label(k), n) for k, n in sorted(self.old_sessions().items())]
                raise Failed(
                    "after %g s there are sessions left: %s. The servers stay in drain. Wait longer (timeout), or let "
                    "the sessions be closed (close_sessions)" % (timeout, ", ".join(left))
                )
            self.close(after)
        if after == "maintenance":
            self.take_out("maint")
        self.look()

    def idle(self, timeout):
        """Wait until no session is left on servers to which none can come, because their requests are held; what is
        left after `timeout` seconds is closed. Their state stays as it is."""
        if not self.wait_for_idle(self.now() + timeout):
            self.close_sessions()
            self.wait_for_idle(self.now() + CLOSING_SECONDS)
            self.count_closed()

    def wait_for_idle(self, deadline):
        """Whether all sessions ended before the deadline."""
        quiet = 0
        while True:
            busy = any(server.sessions for server in self.look()) or bool(self.old_sessions())
            quiet = 0 if busy else quiet + 1
            if quiet >= QUIET_LOOKS:
                return True
            if self.now() >= deadline:
                return False
            self.sleep(IDLE_POLL_SECONDS)

    def wait_for_quiet(self, deadline):
        """Whether all sessions ended before the deadline."""
        quiet = 0
        while True:
            rows = self.look()
            for server in rows:
                if not server.forced_out:
                    self.restore(server.key)
                    self.command(server.key, "state drain")
            busy = any(server.sessions or not server.forced_out for server in rows) or bool(self.old_sessions())
            quiet = 0 if busy else quiet + 1
            if quiet >= QUIET_LOOKS:
                return True
            if self.now() >= deadline:
                return False
            self.meanwhile()
            self.sleep(POLL_SECONDS)

    def close(self, after):
        # Maintenance first: in drain, clients tied to the server by a cookie would go on opening sessions.
        if after == "maintenance":
            self.take_out("maint")
        self.close_sessions()
        self.wait_for_quiet(self.now() + CLOSING_SECONDS)
        self.count_closed()

    def close_sessions(self):
        for server in self.look():
            if server.sessions:
                self.guard()
                self.balancer.change("shutdown sessions server " + label(server.key))
                self.changed = True
                self.closed[server.key] += server.sessions
        self.in_old_workers = self.old_sessions()
        if self.in_old_workers:
            self.guard()
            self.balancer.close_old_sessions(self.wanted)
            self.changed = True

    def count_closed(self):
        remaining = self.old_sessions()
        self.left_in_old_workers = sum(remaining.values())
        for key, count in self.in_old_workers.items():
            self.closed[key] += max(0, count - remaining.get(key, 0))

    def bring_back(self, timeout, min_healthy_time):
        """Return the servers on proof; both times in seconds. Raises `Failed`."""
        returned = set()
        for server in self.look():
            if not server.checked and not server.tracked:
                self.unchecked.append(server.key)
            if not server.forced_out and server.key not in self.forgotten:
                continue
            returned.add(server.key)
            if server.checked:
                # On one line, or requests slip in between: leaving maint makes a server count as up, and a health that
                # is set while it is still in maint does not stick. In drain nobody is let in meanwhile.
                self.command(server.key, "state drain", "health down", "state ready")
            else:
                self.command(server.key, "state ready")
        if not self.wait_for_health(returned, timeout, min_healthy_time):
            raise Failed(self.not_healthy(returned, timeout, min_healthy_time))

    def wait_for_health(self, returned, timeout, min_healthy_time):
        """Whether all were up for `min_healthy_time`, in a stretch that began within `timeout`."""
        proving = [key for key in self.wanted if key not in self.unchecked]
        deadline = self.now() + timeout
        stretches = {}
        while True:
            self.look()
            now = self.now()
            for key in proving:
                server = self.servers[key]
                before = stretches.pop(key, None)
                if server.state != "up":
                    continue
                if before is None or before[1] != server.chkdown:
                    # This call's own commands are no proof of anything that was before them.
                    before = (now if key in returned else now - server.lastchg, server.chkdown)
                stretches[key] = before
            if all(key in stretches and now - stretches[key][0] >= min_healthy_time for key in proving):
                self.up_at = self.clock() - now + max((stretches[key][0] for key in proving), default=now)
                return True
            if any((stretches[key][0] if key in stretches else now) > deadline for key in proving):
                return False
            self.meanwhile()
            self.sleep(POLL_SECONDS)

    def not_healthy(self, returned, timeout, min_healthy_time):
        """The message; what this call had brought back is taken out again."""
        lines = []
        for server in self.look():
            if server.key in self.unchecked:
                continue
            seen = "%s is %s" % (label(server.key), server.status)
            check = " ".join(part for part in (server.check_status, server.last_chk) if part)
            if check:
                seen += " (last check: %s)" % check
            lines.append(seen)
        again, needed = [], []
        for key in self.wanted:
            if key not in returned:
                continue
            self.look()
            # A server that is up now and the last one of its backend serves better than none.
            if last_usable(self.servers, {key}):
                needed.append(label(key))
            else:
                self.command(key, "state maint")
                again.append(label(key))
        self.look()
        text = "not up within %g s" % timeout
        if min_healthy_time:
            text += " and for %g s then" % min_healthy_time
        text += ": " + ", ".join(lines)
        if again:
            text += ". Back in maintenance: %s" % ", ".join(again)
        if needed:
            text += ". Left in rotation as the last usable of its backend: %s" % ", ".join(needed)
        return text
