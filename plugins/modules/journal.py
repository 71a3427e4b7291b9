#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: journal
short_description: Read and write the journal of upgrades
version_added: 0.1.0
author: The rondo.upgrade authors (@rondo)
description:
  - Reads and writes the journal, a file on the controller that records durably what was begun, what ended and how.
  - A job is recorded as begun before anything is done to it, so that the next run finds it, whatever happened.
  - One run at a time holds the journal's lock. Every write proves that its run still does.
  - This is an action plugin; it works on the controller only and needs no connection to the host.
options:
  state:
    description:
      - V(started) starts a run, and takes over the lock of a run whose process is known to be dead.
      - V(begun), V(noted) and V(ended) record a job's beginning, something to remember about it, and its end.
      - V(finished) ends the run and gives its lock back.
      - V(closed) closes a run whose process is dead.
      - V(summarised) keeps a summary with the run, such as the probe's.
      - V(requested) asks the run in progress to pause, resume or abort.
      - V(read) reads a run.
    type: str
    required: true
    choices: [started, begun, noted, ended, finished, closed, summarised, requested, read]
  path:
    description: The journal's file. By default the variable C(upgrade_journal).
    type: path
  run:
    description:
      - The run's number.
      - By default the variable C(upgrade_run) of the host, else of C(localhost); for O(state=read) the last run.
    type: int
  plan:
    description: The plan that the run carries out, as M(rondo.upgrade.plan) returns it. Needed by O(state=started).
    type: dict
  kind:
    description: What the run is, such as C(upgrade) or C(revert).
    type: str
    default: upgrade
  takeover:
    description:
      - Take the lock from a run on another machine, whose process can't be looked at from here.
      - Say so only after you made sure that it is dead.
    type: bool
    default: false
  last_run:
    description:
      - The number of the last run that the plan can have known of, as M(rondo.upgrade.declaration) gives it.
      - With O(state=started), refuse where there was a run after that one, for the plan is of an earlier cluster.
    type: int
  job:
    description: A job of the plan. Needed by O(state=begun), O(state=noted) and O(state=ended).
    type: dict
  outcome:
    description:
      - How the job or the run ended; V(stopped) is for runs only.
      - Needed by O(state=ended) and O(state=finished).
    type: str
    choices: [done, failed, skipped, stopped]
  details:
    description: Anything to keep with the job or the run, such as where its old artifact is. Must hold no secrets.
    type: dict
    default: {}
  name:
    description: The summary's name. Needed by O(state=summarised).
    type: str
  content:
    description: The summary. Needed by O(state=summarised).
    type: dict
  request:
    description: What to ask of the run. Needed by O(state=requested).
    type: str
    choices: [pause, resume, abort]
  probe:
    description:
      - The live state file of a probe, F(state.json) in its directory. Where no probe runs, nothing is asked.
      - With O(state=begun), its counts are kept with the job; with O(state=summarised), as C(probe) in the summary.
      - With O(state=ended) and O(outcome=done), the task fails where more of its requests failed since then than
        O(max_failed_requests) allows. The job is still in flight then.
    type: path
  max_failed_requests:
    description: How many of the probe's requests may fail, as a number or as a percentage of those sent.
    type: str
    default: "0"
  show:
    description: Print what O(state=requested) answers.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Only reads in check mode. O(state=requested) still fails where nothing could be asked.
  diff_mode:
    support: none
    description: Shows no difference.
"""

EXAMPLES = r"""
- name: Start the run
  rondo.upgrade.journal:
    state: started
    path: build/journal.sqlite
    plan: "{{ upgrade_plan }}"
  register: upgrade_started

- name: Record that the job begins
  rondo.upgrade.journal:
    state: begun
    job: "{{ upgrade_job }}"

- name: Record that the job was done
  rondo.upgrade.journal:
    state: ended
    job: "{{ upgrade_job }}"
    outcome: done
    details:
      kept: keystone.rondo-old

- name: Pause the run in progress
  rondo.upgrade.journal:
    state: requested
    request: pause
"""

RETURN = r"""
verdict:
  description: What the probe has against the job.
  returned: state ended, where O(probe) fails it
  type: str
in_flight:
  description: The jobs that will finish in any case.
  returned: state requested
  type: list
  elements: str
state:
  description: What was done, for those who watch.
  returned: state started, state begun, state ended and state finished
  type: str
run:
  description: The run's number.
  returned: state started, state requested and state finished
  type: int
kind:
  description: What kind of run it is, as given.
  returned: state started
  type: str
journal:
  description: The journal's absolute path.
  returned: state started
  type: str
outcome:
  description: How the run ended, as given.
  returned: state finished
  type: str
token:
  description: The run's fencing token, greater than that of any run before.
  returned: state started; for state closed that of the run that was closed, or null
  type: int
owner:
  description: What all runs of this journal are to M(rondo.upgrade.haproxy_fence), wherever they are started.
  returned: state started and state closed
  type: str
took_over:
  description:
    - The run from which the lock was taken, as C(run), C(kind), C(owner), C(token), C(silent) (seconds since it was
      last heard of) and C(evidence), why that was right. Null where the lock was free.
  returned: state started and state closed
  type: dict
lost:
  description: The jobs that a lost run had in flight. Look at them before anything else begins.
  returned: state started and state closed
  type: list
  elements: dict
job:
  description: The job as recorded, with C(begun), C(ended), C(took) (seconds), C(outcome) and C(details).
  returned: state begun and state ended
  type: dict
position:
  description: How many jobs of the run have ended.
  returned: state begun and state ended
  type: int
total:
  description: How many jobs the run's plan has.
  returned: state begun and state ended
  type: int
found:
  description: Whether there is a journal.
  returned: state read
  type: bool
journal_run:
  description: The run with its plan, jobs, summaries and requests; null where there is none.
  returned: state read
  type: dict
unfinished:
  description: The jobs in flight, and those that were taken over from a lost run and are not done.
  returned: state read
  type: list
  elements: dict
"""
