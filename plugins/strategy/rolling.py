# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The strategy `rolling`: a plan carried out through its window.

The process model, since everything follows from it. One controller process holds the play. It forks a worker for each
task of each host; a worker runs its task and sends one result back; only the controller starts tasks and takes in
results. `free` does that in a loop: for each host it sees that is not busy it starts the host's next task, then takes
in what results there are, then starts over.

This strategy changes one thing in that loop: which hosts it sees. `get_hosts_left` is called once per turn, and
answers with the hosts whose job is in progress. Within that call, jobs that have ended are ended in the window, and
what the window then admits is begun: the host is put back to the play's first task. A host that waits for its turn is
not seen, so it costs nothing and holds no worker. The loop ends at the first turn in which no host that it sees has
anything to do.
"""

from __future__ import annotations

DOCUMENTATION = r"""
name: rolling
short_description: Carry out an upgrade plan through its sliding window
version_added: 0.1.0
author: The rondo.upgrade authors (@rondo)
description:
  - Runs the jobs of a plan of C(rondo.upgrade.plan), several hosts at once, each at its own pace, so that no budget of
    the plan is ever exceeded.
  - A host begins its next job when every budget has room for it, and holds no worker until then.
  - The play's tasks are what a job is, from the first to the last. A host runs them once for each of its jobs, with
    that job in the variable C(upgrade_job). Import the role instead of including it, and it is loaded once for all.
  - It reads variables of the play. C(upgrade_plan) is the plan. C(upgrade_jobs) is a dictionary with the jobs of each
    host, as their tasks are to see them; by default the plan's own. C(upgrade_journal) is the journal's path, and
    C(upgrade_run) the run's number in it (by default that of C(localhost)); without them no other terminal reaches
    the window.
  - C(forks) bounds the tasks that work. A task that does little more than wait (M(rondo.upgrade.together),
    M(rondo.upgrade.haproxy_server), M(rondo.upgrade.health_check), M(ansible.builtin.wait_for),
    M(ansible.builtin.wait_for_connection)) takes no place of them.
  - C(upgrade_probe_state) is the live state file of a probe. When more of its requests failed since the play began than
    C(upgrade_max_failed_requests) allows (a number or a percentage, default 0), nothing new begins.
  - When more jobs failed than the plan permits, nothing new begins, what is in flight finishes, and the jobs that
    never began are listed. Ctrl-C does the same; a second one stops at once.
  - C(run_once), C(throttle), C(any_errors_fatal), C(max_fail_percentage), C(serial), C(pause), C(add_host) and the
    C(meta) actions that end more than a role are found before anything begins, in the play and in the hook roles, and
    refused.
notes:
  - ansible-core deprecates third-party strategies. On a version that this one was not tested with it refuses to run,
    and points to the plan as a plain playbook.
seealso:
  - plugin: ansible.builtin.free
    plugin_type: strategy
    description: The strategy that this one narrows.
"""

from ansible.errors import AnsibleError
from ansible.plugins.strategy.free import StrategyModule as FreeStrategy
from ansible.utils.display import Display

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _core_compat as compat
from ansible_collections.rondo.upgrade.plugins.plugin_utils import _unsupported as unsupported
from ansible_collections.rondo.upgrade.plugins.plugin_utils._admission import Admission
from ansible_collections.rondo.upgrade.plugins.plugin_utils._control import Control
from ansible_collections.rondo.upgrade.plugins.plugin_utils._gate import Gate, Limit, LimitError
from ansible_collections.rondo.upgrade.plugins.plugin_utils._orchestration._window import Window

display = Display()

RUN = "upgrade_run | default(hostvars['localhost']['upgrade_run'] | default(none), true)"


class StrategyModule(FreeStrategy):
    def run(self, iterator, play_context):
        if complaint := compat.untested():
            raise AnsibleError(complaint)
        variables = compat.PlayVariables(self, iterator)
        plan = variables.evaluate("upgrade_plan | default({}, true)")
        if not plan:
            raise AnsibleError("upgrade_plan is not set: rondo.upgrade.rolling needs a plan as a variable of the play.")
        self._refuse_unsupported(iterator, variables, plan)
        jobs = {job["id"]: job for job in plan["jobs"]}
        for given in variables.evaluate("upgrade_jobs | default({}, true)").values():
            jobs.update({job["id"]: job for job in given})
        view = compat.PlayView(self, iterator, jobs)
        strangers = sorted({job["host"] for job in plan["jobs"]}.difference(view.hosts()))
        if strangers:
            raise AnsibleError(
                f"The plan has jobs for hosts that this play leaves out: {', '.join(strangers)}. "
                "Plan again with the same --limit, or run without one."
            )
        self._control = Control(
            variables.evaluate("upgrade_journal | default(none, true)"),
            variables.evaluate(RUN),
            self._say,
            gate=self._gate(variables),
            members=plan.get("members"),
        )
        self._window = Window.from_plan(plan)
        self._admission = Admission(
            self._window, view, self._control.failed, lambda job: self._control.look(self._window, job)
        )
        self._view = view
        self._jobs = [job["id"] for job in plan["jobs"]]
        self._answers = compat.Answers(self)
        self._forks = view.forks()
        with self._control.interruptible(), compat.cheap_forks(), compat.connections_listed_once():
            return super().run(iterator, play_context)

    def get_hosts_left(self, iterator):
        compat.forget_repeated_roles(iterator)
        while True:
            self._control.obey(self._window)
            hosts = self._admission.visible()
            if hosts or not self._window.paused or self._window.stopped:
                break
            compat.sleep(1.0)
        if hosts:
            hosts = self._shown(hosts)
        else:
            if never_begun := self._admission.never_begun(self._jobs):
                self._say(f"Not begun ({self._admission.why()}): {', '.join(never_begun)}.")
            # Without any host free would announce that it ran out of them; these have nothing left to do.
            hosts = self._admission.over()
        return [self._view.host(host) for host in hosts]

    def _shown(self, hosts):
        """Of the visible hosts those that free has anything to do for: those that can start a task, and those whose
        include is on its way. It would only look at the others, which costs more than all their tasks when they are
        hundreds."""
        startable = set(self._admission.startable(self._forks))
        if startable:
            compat.make_room(self, sum(map(self._view.busy, hosts)) + len(startable))
        else:
            self._answers.wait(1.0)
        shown = [host for host in hosts if host in startable or self._view.including(host)]
        # One at least, and a busy one: a turn in which no host has anything to do is the end of the play.
        return shown or [next(host for host in hosts if self._view.busy(host))]

    @staticmethod
    def _gate(variables):
        try:
            limit = Limit.of(variables.evaluate("upgrade_max_failed_requests | default(0, true)"))
        except LimitError as error:
            raise AnsibleError(f"{error}. Nothing was begun.") from error
        return Gate(variables.evaluate("upgrade_probe_state | default(none, true)"), limit)

    def _refuse_unsupported(self, iterator, variables, plan):
        roles = compat.Roles(self, iterator)
        wrong = unsupported.in_play(compat.play_of(iterator))
        wrong += unsupported.in_tasks("the play", compat.play_tasks(iterator), roles)
        hooks = set()
        for service, host in {job["service"]: job["host"] for job in plan["jobs"]}.items():
            declared = f"(upgrade_services | default({{}}))[{service!r}].hooks | default({{}}, true)"
            hooks.update(variables.evaluate(declared, host).values())
        for hook in sorted(hooks):
            wrong += unsupported.in_tasks(f"the hook role {hook}", roles.tasks(hook), roles)
        if wrong:
            raise AnsibleError(f"rondo.upgrade.rolling can't carry this out, and nothing was begun. {' '.join(wrong)}")

    def _say(self, line):
        display.display(line, color="bright yellow")
