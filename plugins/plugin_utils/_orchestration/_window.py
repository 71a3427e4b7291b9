# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The window: which jobs are in progress, and which may begin next. One pure state machine.

The forecast drives it with a simulated clock, the strategy with real results. It knows no time: it is told what began,
what ended and who was lost, and answers what may begin now.

How it stays fast. Jobs that wait for the same things form a *lane*: same phase, same failure domain, same standing
with every budget. Within a lane the order is by priority, so only a lane's first job is ever looked at. A lane that a
budget blocks waits at that budget, and is looked at again only when something left that budget. So a call costs what
changed (jobs in flight and newly admissible), not how many wait.

What may begin is *offered*: an offered job holds its host and its budgets as though it ran, so that the whole list that
`admissible` gives may begin together. Anything that shrinks the window (a loss, a pause, a stop) withdraws all offers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any, Final, Literal

from ._budget import Budget, split_instance
from ._jobs import Job, Phase

Outcome = Literal["done", "failed", "skipped"]

WAITING: Final = 0
OFFERED: Final = 1
RUNNING: Final = 2
DONE: Final = 3
FAILED: Final = 4
SKIPPED: Final = 5

_ENDED: Final[dict[str, int]] = {"done": DONE, "failed": FAILED, "skipped": SKIPPED}
_PATIENT: Final = ("settle", "migrate", "contract")
_TOLERANT: Final = ("replace", "last")


class WindowError(RuntimeError):
    """The window was told something that can't be: a job begun that may not, or ended that did not run."""


class _Lane:
    """Waiting jobs with the same needs. `checks`: (budget, domain, whether the host is out there already)."""

    __slots__ = ("checks", "heap", "key")

    def __init__(self, key: tuple[Any, ...], checks: list[tuple[int, str | None, bool]]) -> None:
        self.key = key
        self.checks = checks
        self.heap: list[int] = []


class Window:
    """Which jobs may begin, given all budgets, precedence, and one job at a time per host.

    `jobs`: any order; `Job.priority` ranks them. `out`: instances that are out before anything begins.
    `max_failures`: failed jobs tolerated of a service that has a number of its own; `fleet_max_failures`: of all, and
    of each service without one. More than that, and the window stops admitting. Where None is said of all, services
    without a number tolerate none, and all together the greatest of the services' numbers. `host_order`: the jobs of
    one host run in the order of `jobs` only, as they do under Ansible, where a host's loop is fixed.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        phases: Sequence[Phase],
        budgets: Sequence[Budget],
        *,
        out: Iterable[str] = (),
        max_failures: Mapping[str, int | None] | None = None,
        fleet_max_failures: int | None = None,
        host_order: bool = False,
    ) -> None:
        self._jobs = sorted(jobs, key=lambda job: job.priority)
        self._index = {job.id: i for i, job in enumerate(self._jobs)}
        self._status = bytearray(len(self._jobs))
        self._phases = list(phases)
        self._budgets = list(budgets)
        self._max_failures = {service: number for service, number in (max_failures or {}).items() if number is not None}
        self._fleet_max_failures = fleet_max_failures
        self._failures: dict[str, int] = defaultdict(int)

        # With the groups of the service's instances where nothing else decides (an instance that is not in there is a
        # group of its own), else None: then the budget has to be asked.
        self._budgets_of: dict[str, list[tuple[int, Budget, Mapping[str, str] | None]]] = defaultdict(list)
        for number, budget in enumerate(self._budgets):
            groups = None if budget.counts == "hosts" or budget.hosts is not None else budget.domains
            for service in budget.services:
                self._budgets_of[service].append((number, budget, groups))
        # Those that do not treat all instances of a service alike.
        self._varied_of = {
            service: [entry for entry in entries if entry[2] is None or entry[1].counts == "domains"]
            for service, entries in self._budgets_of.items()
        }
        self._capacity = [budget.capacity for budget in self._budgets]
        self._groups: list[dict[str, int]] = [{} for _unused in self._budgets]
        self._waiters: list[set[_Lane]] = [set() for _unused in self._budgets]
        # Who is out, and with which groups of which budgets.
        self._holding: dict[str, list[tuple[int, str]]] = {}
        self._lost: set[str] = set()

        self._host_job: dict[str, int] = {}
        self._host_jobs: dict[str, list[int]] = defaultdict(list)
        for job in jobs if host_order else self._jobs:
            self._host_jobs[job.host].append(self._index[job.id])
        # Those that occupy a host beside their own.
        self._also_jobs: dict[str, list[int]] = defaultdict(list)
        for job in self._jobs:
            for host in job.also:
                self._also_jobs[host].append(self._index[job.id])
        self._host_order = host_order
        # The host's jobs whose phase has opened and that have not ended.
        self._host_open: dict[str, list[int]] = {host: [] for host in (*self._host_jobs, *self._also_jobs)}
        self._host_next: dict[str, int] = dict.fromkeys(self._host_jobs, 0)

        self._lanes: dict[tuple[Any, ...], _Lane] = {}
        self._lane_of: list[_Lane | None] = [None] * len(self._jobs)
        self._dirty: dict[_Lane, None] = {}
        self._offered: list[int] = []
        self._running: dict[int, None] = {}
        self._left = len(self._jobs)
        self._stopped = ""
        self._paused = False

        self._set_up_phases()
        for instance in out:
            self._lost.add(instance)
            self._hold(instance, *split_instance(instance))
        for phase, wait in enumerate(list(self._phase_wait)):
            if wait == 0:
                self._open(phase)

    @classmethod
    def from_plan(cls, plan: Mapping[str, Any], *, host_order: bool = True) -> Window:
        """The window of a plan's dict (plan.json), before anything began.

        Raises KeyError where the dict is no plan of this schema.
        """
        rows = sorted(plan["jobs"], key=lambda row: (row["start"], row["priority"]))
        return cls(
            [Job.from_dict(row) for row in rows],
            [Phase.from_dict(row) for row in plan["phases"]],
            [Budget.from_dict(row) for row in plan["budgets"]],
            out=sorted({instance for row in plan["budgets"] for instance in row["already_out"]}),
            max_failures={row["name"]: row["max_failures"] for row in plan["services"]},
            fleet_max_failures=plan["max_failures"],
            host_order=host_order,
        )

    # What it says

    @property
    def in_flight(self) -> list[Job]:
        """The jobs that began and did not end, in the order in which they began."""
        return [self._jobs[i] for i in self._running]

    @property
    def left(self) -> list[Job]:
        """The jobs that did not end, in priority order."""
        return [job for i, job in enumerate(self._jobs) if self._status[i] < DONE]

    @property
    def failed(self) -> list[Job]:
        return [job for i, job in enumerate(self._jobs) if self._status[i] == FAILED]

    @property
    def skipped(self) -> list[Job]:
        return [job for i, job in enumerate(self._jobs) if self._status[i] == SKIPPED]

    @property
    def out(self) -> list[str]:
        """The instances that are out by now: broken, lost, failed, in flight or offered; sorted."""
        return sorted(self._holding)

    @property
    def stopped(self) -> str:
        """Why nothing is admitted any more; "" while the window admits."""
        return self._stopped

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def finished(self) -> bool:
        """Nothing runs, and nothing will begin by itself any more. `stuck` tells whether that is the good end."""
        return not self._running and not self._paused and not self.admissible()

    @property
    def stuck(self) -> str:
        """Why the rest can't begin although nothing runs; "" where that is not so."""
        if not self.finished or not self._left:
            return ""
        if self._stopped:
            return self._stopped
        first = next(job for i, job in enumerate(self._jobs) if self._status[i] == WAITING)
        return f"{first.id} and {self._left - 1} more can't begin: {first.id} {self.waits_for(first.id)}"

    def admissible(self, limit: int | None = None) -> list[Job]:
        """The jobs that may begin now, in priority order (the first `limit`). The whole list may begin together."""
        if not self._stopped and not self._paused and self._dirty:
            self._admit()
            self._offered.sort()
        return [self._jobs[i] for i in self._offered[:limit]]

    def waits_for(self, job_id: str) -> str:
        """A sentence (without its subject) on what a job waits for."""
        i = self._number(job_id)
        status = self._status[i]
        if status == RUNNING:
            return "is in progress"
        if status >= DONE:
            return {DONE: "is done", FAILED: "failed", SKIPPED: "was skipped"}[status]
        if self._stopped:
            return f"will not begin: {self._stopped}"
        if self._paused:
            return "waits for the run to resume"
        self.admissible()
        if self._status[i] == OFFERED:
            return "may begin"
        return self._phase_reason(i) or self._host_reason(i) or self._budget_reason(i)

    # What it is told

    def begin(self, job_id: str) -> None:
        """A job begins. Raises WindowError where it may not."""
        i = self._number(job_id)
        if self._status[i] != OFFERED:
            self.admissible()
            if self._status[i] != OFFERED:
                raise WindowError(f"{job_id} may not begin: it {self.waits_for(job_id)}")
        del self._offered[bisect_left(self._offered, i)]
        self._status[i] = RUNNING
        self._running[i] = None

    def end(self, job_id: str, outcome: Outcome) -> None:
        """A job that runs ends. `failed`: its instance stays out, and the other jobs of its host are skipped.
        `skipped`: nothing was done to it.

        Raises WindowError where it does not run.
        """
        i = self._number(job_id)
        if self._status[i] != RUNNING:
            raise WindowError(f"{job_id} can't end: it {self.waits_for(job_id)}")
        del self._running[i]
        self._status[i] = _ENDED[outcome]
        self._left -= 1
        job = self._jobs[i]
        instance = job.instance
        self._host_next[job.host] += 1
        for host in job.hosts:
            del self._host_job[host]
            self._host_open[host].remove(i)
        if instance is not None:
            if outcome == "failed":
                self._lost.add(instance)
            elif outcome == "done":
                self._lost.discard(instance)
            if instance not in self._lost:
                self._release(instance)
        if outcome == "failed":
            self._count_failure(job.service)
            for host in job.hosts:
                self._leave_host(host)
        self._job_left_phase(i, missed=outcome != "done")
        for host in job.hosts:
            self._file_host(host)

    def lose(self, instance: str) -> None:
        """An instance fails by itself: it is out from now on, and the window shrinks at once."""
        if instance in self._lost:
            return
        self._lost.add(instance)
        self._withdraw()
        service, host = split_instance(instance)
        self._hold(instance, service, host)
        self._file_host(host)

    def regain(self, instance: str) -> None:
        """An instance that was lost, or whose job failed, serves again."""
        if instance not in self._lost:
            return
        self._lost.discard(instance)
        self._withdraw()
        job = self._host_job.get(split_instance(instance)[1])
        if job is None or self._jobs[job].instance != instance:
            self._release(instance)
        self._file_host(split_instance(instance)[1])

    def stop(self, reason: str) -> None:
        """Admit nothing any more, for good. What is in flight may end. The first reason stays."""
        self._stopped = self._stopped or reason
        self._withdraw()

    def pause(self) -> None:
        self._paused = True
        self._withdraw()

    def resume(self) -> None:
        self._paused = False

    # Phases

    def _set_up_phases(self) -> None:
        numbers = {phase.id: number for number, phase in enumerate(self._phases)}
        self._phase_of = [numbers[job.phase] for job in self._jobs]
        self._phase_jobs: list[list[int]] = [[] for _unused in self._phases]
        for i, phase in enumerate(self._phase_of):
            self._phase_jobs[phase].append(i)
        self._phase_left = [len(members) for members in self._phase_jobs]
        self._phase_missed = [0] * len(self._phases)
        self._phase_open = bytearray(len(self._phases))
        self._phase_wait = [len(phase.after) for phase in self._phases]
        self._successors: list[list[int]] = [[] for _unused in self._phases]
        self._shut: dict[int, int] = {}
        for number, entry in enumerate(self._phases):
            for earlier in entry.after:
                self._successors[numbers[earlier]].append(number)

    def _open(self, phase: int) -> None:
        self._phase_open[phase] = 1
        for i in self._phase_jobs[phase]:
            for host in self._jobs[i].hosts:
                self._host_open[host].append(i)
            if self._free(i):
                self._file(i)
        if self._phase_left[phase] == 0:
            self._close(phase)

    def _job_left_phase(self, i: int, *, missed: bool) -> None:
        phase = self._phase_of[i]
        self._phase_left[phase] -= 1
        self._phase_missed[phase] += missed
        if self._phase_left[phase] == 0 and self._phase_open[phase]:
            self._close(phase)

    def _close(self, phase: int) -> None:
        """Open what waited for this phase, unless a job of it that was missed forbids that."""
        missed = self._phase_missed[phase]
        for successor in self._successors[phase]:
            same = self._phases[successor].service == self._phases[phase].service
            if missed and (
                self._phases[phase].kind not in _TOLERANT or (same and self._phases[successor].kind in _PATIENT)
            ):
                self._shut[successor] = phase
                continue
            if same:
                self._phase_missed[successor] += missed
            self._phase_wait[successor] -= 1
            if self._phase_wait[successor] == 0:
                self._open(successor)

    # Budgets

    def _claims(self, instance: str, service: str, host: str) -> list[tuple[int, str]]:
        """The groups that are out while this instance is: (budget, group)."""
        return [
            (number, group)
            for number, budget, groups in self._budgets_of.get(service, ())
            if (group := budget.group(instance, host) if groups is None else groups.get(instance, instance)) is not None
        ]

    def _hold(self, instance: str, service: str, host: str) -> None:
        if instance in self._holding:
            return
        self._holding[instance] = claims = self._claims(instance, service, host)
        for number, group in claims:
            groups = self._groups[number]
            groups[group] = groups.get(group, 0) + 1

    def _release(self, instance: str) -> None:
        for number, group in self._holding.pop(instance, ()):
            groups = self._groups[number]
            if groups[group] > 1:
                groups[group] -= 1
                continue
            del groups[group]
            waiters = self._waiters[number]
            if waiters:
                self._dirty.update(dict.fromkeys(waiters))
                waiters.clear()

    def _blocked_by(self, lane: _Lane) -> int | None:
        """The first budget that would not hold if the lane's first job began."""
        for number, domain, present in lane.checks:
            groups = self._groups[number]
            room = self._capacity[number] - len(groups)
            if room > 0 or (room == 0 and (present or (domain is not None and domain in groups))):
                continue
            return number
        return None

    # Lanes

    def _lane(self, i: int) -> _Lane:
        job = self._jobs[i]
        instance = job.instance
        key: tuple[Any, ...] = (self._phase_of[i],)
        if instance is not None and instance not in self._holding:
            # Whatever tells two jobs of a phase apart.
            key = (
                self._phase_of[i],
                job.service,
                *[
                    self._standing(number, budget, instance, job.host)
                    if groups is None
                    else groups.get(instance, instance)
                    for number, budget, groups in self._varied_of.get(job.service, ())
                ],
            )
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(key, self._checks(job) if len(key) > 1 else [])
        return lane

    def _standing(self, number: int, budget: Budget, instance: str, host: str) -> str | bool | None:
        """What a budget knows an instance by: its domain, or whether its group is out already; None: not at all."""
        group = budget.group(instance, host)
        return group if group is None or budget.counts == "domains" else group in self._groups[number]

    def _checks(self, job: Job) -> list[tuple[int, str | None, bool]]:
        checks: list[tuple[int, str | None, bool]] = []
        for number, budget, _unused in self._budgets_of.get(job.service, ()):
            group = budget.group(job.instance or "", job.host)
            if group is not None:
                by_domain = budget.counts == "domains"
                present = not by_domain and group in self._groups[number]
                checks.append((number, group if by_domain else None, present))
        return checks

    def _file(self, i: int) -> None:
        """Put a job of an open phase and a free host into its lane, unless others of its host go before it."""
        if self._status[i] != WAITING:
            return
        if self._host_order:
            host = self._jobs[i].host
            if self._host_jobs[host][self._host_next[host]] != i:
                return
        lane = self._lane(i)
        if self._lane_of[i] is not lane:
            self._lane_of[i] = lane
            heappush(lane.heap, i)
        self._dirty[lane] = None

    def _file_host(self, host: str) -> None:
        if host not in self._host_job:
            for i in self._host_open.get(host, ()):
                if not self._jobs[i].also or self._free(i):
                    self._file(i)

    def _free(self, i: int) -> bool:
        """Whether no other job is in progress on any host that the job occupies."""
        job, busy = self._jobs[i], self._host_job
        return job.host not in busy and not (job.also and any(host in busy for host in job.also))

    def _first(self, lane: _Lane) -> int | None:
        """A lane's first job that is still ready. Others leave it, and are filed again when their host is free."""
        heap = lane.heap
        while heap:
            i = heap[0]
            if self._lane_of[i] is lane:
                if self._status[i] == WAITING and self._free(i):
                    return i
                self._lane_of[i] = None
            heappop(heap)
        return None

    def _admit(self) -> None:
        """Offer whatever fits, best priority first, looking only at lanes that something could have changed for."""
        heads = [
            (first, number, lane) for number, lane in enumerate(self._dirty) if (first := self._first(lane)) is not None
        ]
        self._dirty.clear()
        heapify(heads)
        while heads:
            i, number, lane = heads[0]
            if self._status[i] != WAITING or not self._free(i):
                first = self._first(lane)
                if first is None:
                    heappop(heads)
                else:
                    heapreplace(heads, (first, number, lane))
            elif (blocker := self._blocked_by(lane)) is not None:
                self._waiters[blocker].add(lane)
                heappop(heads)
            else:
                self._offer(i)

    def _offer(self, i: int) -> None:
        job = self._jobs[i]
        self._status[i] = OFFERED
        self._offered.append(i)
        for host in job.hosts:
            self._host_job[host] = i
        if job.instance is not None:
            self._hold(job.instance, job.service, job.host)

    def _withdraw(self) -> None:
        """Take every offer back."""
        offered, self._offered = self._offered, []
        for i in offered:
            job = self._jobs[i]
            self._status[i] = WAITING
            for host in job.hosts:
                del self._host_job[host]
            if job.instance is not None and job.instance not in self._lost:
                self._release(job.instance)
        for i in offered:
            for host in self._jobs[i].hosts:
                self._file_host(host)

    # Failures

    def _count_failure(self, service: str) -> None:
        self._failures[service] += 1
        failures, total = self._failures[service], sum(self._failures.values())
        own, overall = self._max_failures.get(service), self._fleet_max_failures
        most = max([0, *self._max_failures.values()]) if overall is None else overall
        if own is not None and failures > own:
            self.stop(f"{_count(failures, 'job')} of {service} failed; max_failures of {service} is {own}")
        elif own is None and failures > (overall or 0):
            self.stop(f"{_count(failures, 'job')} of {service} failed; upgrade_max_failures is {overall or 0}")
        elif total > most:
            self.stop(f"{_count(total, 'job')} failed; upgrade_max_failures is {most}")

    def _leave_host(self, host: str) -> None:
        """Nothing more is done on a host where a job failed: somebody has to look at it first."""
        for i in (*self._host_jobs.get(host, ()), *self._also_jobs.get(host, ())):
            if self._status[i] == WAITING:
                self._status[i] = SKIPPED
                self._left -= 1
                if self._phase_open[self._phase_of[i]]:
                    for occupied in self._jobs[i].hosts:
                        self._host_open[occupied].remove(i)
                self._job_left_phase(i, missed=True)

    # Reasons

    def _number(self, job_id: str) -> int:
        try:
            return self._index[job_id]
        except KeyError:
            raise WindowError(f"{job_id} is no job of this plan") from None

    def _phase_reason(self, i: int) -> str:
        phase = self._phase_of[i]
        if self._phase_open[phase]:
            return ""
        if phase in self._shut:
            earlier = self._shut[phase]
            missing = [
                self._jobs[j].id
                for p, entry in enumerate(self._phases)
                if entry.service == self._phases[earlier].service
                for j in self._phase_jobs[p]
                if self._status[j] in (FAILED, SKIPPED)
            ]
            return f"can't begin, because {missing[0]} was not done"
        waits = [
            f"{self._phases[p].id} ({_count(self._phase_left[p], 'job')} left)"
            for p in range(len(self._phases))
            if phase in self._successors[p] and self._phase_left[p]
        ]
        return f"waits for {' and '.join(waits)}" if waits else "waits for a phase that can't begin"

    def _host_reason(self, i: int) -> str:
        host = self._jobs[i].host
        for occupied in self._jobs[i].hosts:
            busy = self._host_job.get(occupied)
            if busy is not None:
                return f"waits for {occupied}, busy with {self._jobs[busy].id}"
        if self._host_order and (first := self._host_jobs[host][self._host_next[host]]) != i:
            return f"waits for {self._jobs[first].id}, which comes before it on {host}"
        return ""

    def _budget_reason(self, i: int) -> str:
        blocker = self._blocked_by(self._lane(i))
        if blocker is None:
            return "waits"
        budget = self._budgets[blocker]
        members = [m for m in sorted(self._holding) if any(number == blocker for number, _unused in self._holding[m])]
        names = ", ".join(members[:3]) + (f" and {len(members) - 3} more" if len(members) > 3 else "")
        what = {"instances": "instance", "domains": "failure domain", "hosts": "host"}[budget.counts]
        out = f"{len(self._groups[blocker])} out" + (f": {names}" if names else "")
        return f"waits for the budget {budget.name} (at most {_count(budget.capacity, what)} out at once, {out})"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
