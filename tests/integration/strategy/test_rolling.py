# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The strategy, carried out by real ansible-playbook runs."""

from __future__ import annotations

import signal
from collections import Counter

import pytest
from rolling_project import PLAY, Project, make_plan, service

from ansible_collections.rondo.upgrade.plugins.plugin_utils._journal import Journal, Owner


def out_at_once(project: Project, name: str) -> int:
    """The greatest number of a service's instances that the observer saw between their begin and their end."""
    out: set[str] = set()
    most = 0
    for what, job, _host in project.events():
        if f" {name}@" in job:
            if what == "begin":
                out.add(job)
            elif what == "end":
                out.discard(job)
        most = max(most, len(out))
    return most


def where(project: Project, what: str, name: str) -> list[int]:
    return [number for number, event in enumerate(project.events()) if event[0] == what and f" {name}@" in event[1]]


def jobs(project: Project, what: str) -> list[str]:
    return [job for event, job, _host in project.events() if event == what]


def test_budgets_and_order_hold(project: Project) -> None:
    hosts = [f"h{number}" for number in range(1, 7)]
    plan = make_plan(
        service("db", hosts[:3], capacity=1),
        service("api", hosts, capacity=2, after=("db",), canary=1),
        service("cache", hosts[3:], capacity=2),
        service("web", hosts[:4], capacity=3, after=("api", "cache")),
    )
    # Fewer workers than the window has room for.
    project.environment = {"ANSIBLE_FORKS": "2"}
    code, output = project.run(plan)
    assert code == 0, output
    assert Counter(jobs(project, "end")) == Counter(job["id"] for job in plan["jobs"])
    for name, limit in (("db", 1), ("api", 2), ("cache", 2), ("web", 3)):
        assert out_at_once(project, name) <= limit, name
    assert max(where(project, "end", "db")) < min(where(project, "begin", "api"))
    assert max(*where(project, "end", "api"), *where(project, "end", "cache")) < min(where(project, "begin", "web"))
    # The canary alone.
    assert where(project, "end", "api")[0] < where(project, "begin", "api")[1]
    assert "NO MORE HOSTS LEFT" not in output


def test_services_slide_past_each_other(project: Project) -> None:
    """A job that takes long holds up nothing that does not need it: only the end of b@h3 opens its gate."""
    plan = make_plan(service("a", ["h1", "h2"]), service("b", ["h3", "h4"]), service("c", ["h4"], after=("b",)))
    # One is a@h1's as long as the gate is shut; so a@h2, which waits for its turn, holds none.
    project.environment = {"ANSIBLE_FORKS": "2"}
    run = project.start(plan, gates={"replace a@h1": project.gate("a")})
    run.until(lambda: "replace c@h4" in jobs(project, "end"), "the end of service c")
    assert jobs(project, "begin").count("replace a@h2") == 0
    project.open_gate("a")
    code, output = run.wait()
    assert code == 0, output
    assert jobs(project, "end")[-1] == "replace a@h2"


WAITING_JOB = """
- name: Begin
  mark:
    say: begin
- name: Wait
  ansible.builtin.wait_for:
    path: "{{ gates.all }}"
    timeout: 240
- name: End
  mark:
    say: end
"""


@pytest.mark.every_core
def test_a_task_that_only_waits_takes_no_place_of_those_that_work(project: Project) -> None:
    """All three come to their wait, and nobody waits for the only place."""
    project.environment = {"ANSIBLE_FORKS": "1"}
    project.write("roles/job/tasks/main.yml", WAITING_JOB)
    hosts = ["h1", "h2", "h3"]
    run = project.start(make_plan(service("a", hosts, capacity=3)), gates={"all": project.gate("all")})
    run.until(lambda: len(jobs(project, "begin")) == 3, "the begin of all three")
    project.open_gate("all")
    code, output = run.wait()
    assert code == 0, output
    assert len(jobs(project, "end")) == 3


RICH_JOB = """
- name: Begin
  mark:
    say: begin
- name: Run the hook before
  ansible.builtin.include_role:
    name: "{{ upgrade_services[upgrade_job.service].hooks.before }}"
- name: Try
  block:
    - name: Work
      mark:
        say: work
        act: "{{ 'fail' if upgrade_job.host == 'h1' else 'change' }}"
      notify: Tell
    - name: Carry on
      mark:
        say: carried on
  rescue:
    - name: Rescue
      mark:
        say: rescued
  always:
    - name: Always
      mark:
        say: always
        act: change
      notify: Tell
- name: More
  ansible.builtin.include_tasks: more.yml
- name: Tell now
  ansible.builtin.meta: flush_handlers
- name: End
  mark:
    say: end
    act: change
  notify: Tell
"""

MORE = """
- name: Until
  mark:
    say: until
  register: tries
  until: tries.count >= 3
  retries: 5
  delay: 0
- name: Elsewhere
  mark:
    say: elsewhere
  delegate_to: h3
"""

HANDLERS = """
- name: Tell
  mark:
    say: told
"""


@pytest.mark.every_core
def test_everything_works_inside_a_job(project: Project) -> None:
    project.write("roles/job/tasks/main.yml", RICH_JOB)
    project.write("roles/job/tasks/more.yml", MORE)
    project.write("roles/job/handlers/main.yml", HANDLERS)
    project.write("roles/job/meta/main.yml", "dependencies:\n  - role: base\n")
    for name in ("base", "hook"):
        project.write(f"roles/{name}/tasks/main.yml", f"- name: Say\n  mark:\n    say: {name}\n")
    plan = make_plan(service("a", ["h1", "h2", "h3"]), service("b", ["h1", "h2", "h3"], capacity=2, after=("a",)))
    hooks = {"hooks": {"before": "hook"}}
    code, output = project.run(plan, upgrade_services={"a": hooks, "b": hooks})
    assert code == 0, output
    assert jobs(project, "end") and Counter(jobs(project, "end")) == Counter(job["id"] for job in plan["jobs"])
    for host in ("h1", "h2", "h3"):
        tried = ["work", "rescued"] if host == "h1" else ["work", "carried on"]
        # What is notified last is told when the job's tasks are through, and not at the end of the play.
        once = [
            "base",
            "begin",
            "hook",
            *tried,
            "always",
            "until",
            "until",
            "until",
            "elsewhere",
            "told",
            "end",
            "told",
        ]
        expected = [(what, f"replace {name}@{host}") for name in ("a", "b") for what in once]
        assert [(what, job) for what, job, at in project.events() if at == host] == expected, host
    assert out_at_once(project, "a") == 1
    assert max(where(project, "end", "a")) < min(where(project, "begin", "b"))


@pytest.mark.every_core
def test_a_failure_stops_admission(project: Project) -> None:
    plan = make_plan(service("a", ["h1", "h2", "h3", "h4", "h5"], capacity=2), service("b", ["h1"], after=("a",)))
    run = project.start(plan, acts={"replace a@h1": "fail"}, gates={"replace a@h2": project.gate("h2")})
    run.until(lambda: "replace a@h1 failed" in run.output, "the failure")
    project.open_gate("h2")
    code, output = run.wait()
    assert code != 0
    assert jobs(project, "end") == ["replace a@h2"]
    assert sorted(jobs(project, "begin")) == ["replace a@h1", "replace a@h2"]
    said = "Not begun (1 job of a failed; max_failures of a is 0): "
    assert said + "replace a@h3, replace a@h4, replace a@h5, replace b@h1." in output


def test_an_unreachable_host_within_the_failure_budget(project: Project) -> None:
    """The rest goes on within the budget, of which the dead instance takes a part; its host does nothing more."""
    plan = make_plan(
        service("a", ["h1", "h2", "h3", "h4"], capacity=2, max_failures=1),
        service("b", ["h1", "h5"], capacity=1, max_failures=1),
        max_failures=1,
    )
    code, output = project.run(plan, acts={"replace a@h1": "unreachable"})
    assert code != 0
    ended = sorted(jobs(project, "end"))
    assert ended == ["replace a@h2", "replace a@h3", "replace a@h4", "replace b@h5"]
    # h1 is out all the time.
    assert out_at_once(project, "a") <= 2
    assert "replace a@h1 failed: h1 became unreachable" in output
    assert "Not begun (another job on their host failed): replace b@h1." in output


EVERYWHERE = """
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    BYPASS_HOST_LOOP = True
"""


def test_what_cannot_work_is_refused_before_anything_begins(project: Project) -> None:
    project.write("upgrade.yml", PLAY.replace("  tasks:", "  max_fail_percentage: 20\n  tasks:"))
    project.write(
        "roles/job/tasks/main.yml",
        "- name: Only one\n  mark:\n    say: begin\n  run_once: true\n"
        "- name: Nested\n  ansible.builtin.include_role:\n    name: nested\n",
    )
    project.write("roles/nested/tasks/main.yml", "- name: Leave\n  ansible.builtin.meta: end_play\n")
    project.write(
        "roles/hook/tasks/main.yml",
        "- name: Ask\n  block:\n    - name: Wait\n      ansible.builtin.pause:\n"
        "- name: More\n  ansible.builtin.include_tasks: below/more.yml\n",
    )
    project.write("roles/hook/tasks/below/more.yml", "- name: On\n  ansible.builtin.import_tasks: last.yml\n")
    project.write("roles/hook/tasks/below/last.yml", "- name: Leave\n  ansible.builtin.meta: end_host\n")
    project.write("roles/hook/handlers/main.yml", "- name: Told\n  ansible.builtin.include_tasks: told.yml\n")
    project.write("roles/hook/handlers/told.yml", "- name: Say it once\n  everywhere:\n")
    project.write("action_plugins/everywhere.py", EVERYWHERE)
    code, output = project.run(
        make_plan(service("a", ["h1", "h2"])), upgrade_services={"a": {"hooks": {"after": "hook"}}}
    )
    assert code != 0
    assert project.events() == []
    said = " ".join(output.split())
    assert "nothing was begun" in said
    assert "The play uses max_fail_percentage: it is not obeyed here" in said
    assert "In the hook role hook, the task 'hook : Wait'" in said and "pause: nobody can answer" in said
    assert "below/last.yml:1) uses meta: end_host: the host's later jobs would be lost" in said
    assert "told.yml:1) uses everywhere: it acts once for all hosts" in said


def test_an_untested_core_is_refused(project: Project) -> None:
    project.write("python/sitecustomize.py", "import ansible.release\nansible.release.__version__ = '2.99.0'\n")
    code, output = project.run(make_plan(service("a", ["h1"])))
    assert code != 0
    assert project.events() == []
    assert "upgrade_export=FILE" in output and "2.99.0" in output


def test_hosts_left_out_by_a_limit_are_named(project: Project) -> None:
    code, output = project.run(make_plan(service("a", ["h1", "h2"])), "--limit", "h1")
    assert code != 0
    assert project.events() == []
    assert "leaves out: h2" in output


def started(project: Project, plan: dict) -> int:
    """A run of this test's own process, in the project's journal."""
    with Journal(project.journal) as journal:
        return journal.start_run(plan, Owner.of())


def test_ctrl_c_lets_what_is_in_flight_finish(project: Project) -> None:
    plan = make_plan(service("a", ["h1", "h2", "h3"]))
    run = project.start(plan, gates={"replace a@h1": project.gate("h1")})
    run.until(lambda: jobs(project, "work") == ["replace a@h1"], "the first job")
    run.process.send_signal(signal.SIGINT)
    run.until(lambda: "Interrupted:" in run.output, "the answer to Ctrl-C")
    project.open_gate("h1")
    _code, output = run.wait()
    assert jobs(project, "end") == ["replace a@h1"]
    assert jobs(project, "begin") == ["replace a@h1"]
    assert "Not begun (interrupted by Ctrl-C): replace a@h2, replace a@h3." in output


def test_ctrl_c_twice_stops_at_once(project: Project) -> None:
    project.write("roles/job/tasks/main.yml", JOURNALLED_JOB)
    plan = make_plan(service("a", ["h1", "h2"]))
    number = started(project, plan)
    gates = {"replace a@h1": project.gate("never")}
    run = project.start(plan, gates=gates, upgrade_journal=str(project.journal), upgrade_run=number)
    run.until(lambda: jobs(project, "work") == ["replace a@h1"], "the first job")
    run.process.send_signal(signal.SIGINT)
    run.until(lambda: "Interrupted:" in run.output, "the answer to Ctrl-C")
    run.process.send_signal(signal.SIGINT)
    code, _output = run.wait()
    assert code != 0
    with Journal(project.journal) as journal:
        assert [job["id"] for job in journal.unfinished()] == ["replace a@h1"]


def test_pause_resume_and_abort(project: Project) -> None:
    plan = make_plan(service("a", ["h1", "h2", "h3"]))
    number = started(project, plan)
    gates = {f"replace a@{host}": project.gate(host) for host in ("h1", "h2")}
    run = project.start(plan, gates=gates, upgrade_journal=str(project.journal), upgrade_run=number)
    run.until(lambda: jobs(project, "work") == ["replace a@h1"], "the first job")
    with Journal(project.journal) as journal:
        journal.request("pause")
    run.until(lambda: "Paused by" in run.output, "the pause")
    project.open_gate("h1")
    run.until(lambda: jobs(project, "end") == ["replace a@h1"], "the end of the first job")
    with project.observer.open("a") as observer:
        observer.write("resumed|-|-\n")
    with Journal(project.journal) as journal:
        journal.request("resume")
    run.until(lambda: "replace a@h2" in jobs(project, "work"), "the second job")
    events = [what for what, job, _host in project.events() if what == "resumed" or job == "replace a@h2"]
    assert events[0] == "resumed"
    with Journal(project.journal) as journal:
        journal.request("pause")
    run.until(lambda: run.output.count("Paused by") == 2, "the second pause")
    project.open_gate("h2")
    run.until(lambda: "replace a@h2" in jobs(project, "end"), "the end of the second job")
    with Journal(project.journal) as journal:
        journal.request("abort")
    _code, output = run.wait()
    assert "Aborted by" in output
    assert jobs(project, "end") == ["replace a@h1", "replace a@h2"]
    assert "Not begun (aborted by" in output


JOURNALLED_JOB = """
- name: Begin the job
  rondo.upgrade.journal:
    state: begun
    job: "{{ upgrade_job }}"
- name: Work
  mark:
    say: work
    act: "{{ acts[upgrade_job.id] | default('change') }}"
    gate: "{{ gates[upgrade_job.id] | default(omit) }}"
- name: End the job
  rondo.upgrade.journal:
    state: ended
    job: "{{ upgrade_job }}"
    outcome: done
    details:
      kept: "{{ upgrade_job.service }}.old"
"""

JOURNALLED_PLAY = """
- name: Start
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Start the run
      rondo.upgrade.journal:
        state: started
        plan: "{{ upgrade_plan }}"
      register: started
    - name: Remember the run
      ansible.builtin.set_fact:
        upgrade_run: "{{ started.run }}"
    - name: Show what was lost
      ansible.builtin.debug:
        msg: "lost {{ started.lost | map(attribute='id') | list }}"
    - name: Stop here
      ansible.builtin.meta: end_play
      when: only_start | default(false)
""" + PLAY.replace("hosts: all", "hosts: all:!localhost")


def test_the_journal_knows_what_was_in_flight(project: Project) -> None:
    """Killed without warning, and the next run takes over; a host that becomes unreachable is recorded for it."""
    project.environment = {"ANSIBLE_STDOUT_CALLBACK": "rondo.upgrade.progress"}
    project.write("roles/job/tasks/main.yml", JOURNALLED_JOB)
    project.write("upgrade.yml", JOURNALLED_PLAY)
    plan = make_plan(service("a", ["h1", "h2", "h3"]))
    given = {"upgrade_journal": str(project.journal), "acts": {"replace a@h3": "unreachable"}}
    run = project.start(plan, gates={"replace a@h2": project.gate("h2")}, **given)
    run.until(lambda: "replace a@h2" in jobs(project, "work"), "the second job")
    run.process.kill()
    project.open_gate("h2")
    run.wait()
    code, output = project.run(plan, **given)
    assert code != 0
    assert "lost ['replace a@h2']" in output
    for line in (
        "a@h1 replace begins: 1 -> 2\n",
        "(1 of 3)\n",
        "h1: job : Work: changed (",
        "(2 of 3)\n",
        "h3: job : Work: UNREACHABLE: ",
        "h3: 1 changed, 1 unreachable\n",
    ):
        assert line in output
    with Journal(project.journal) as journal:
        first, second = journal.run(1), journal.run(2)
        assert first is not None and second is not None
        assert first["outcome"] == "lost"
        assert [(job["id"], job["outcome"]) for job in first["jobs"]] == [
            ("replace a@h1", "done"),
            ("replace a@h2", "lost"),
        ]
        assert first["jobs"][0]["details"] == {"kept": "a.old"}
        assert [(job["id"], job["outcome"], job["details"].get("reason")) for job in second["jobs"]] == [
            ("replace a@h1", "done", None),
            ("replace a@h2", "done", None),
            ("replace a@h3", "failed", "h3 became unreachable"),
        ]
        assert second["token"] > first["token"]


def test_check_mode_writes_no_journal(project: Project) -> None:
    project.write("roles/job/tasks/main.yml", JOURNALLED_JOB)
    project.write(
        "upgrade.yml",
        JOURNALLED_PLAY.replace('"{{ started.run }}"', '"{{ started.run | default(none) }}"').replace(
            "started.lost |", "started.lost | default([]) |"
        ),
    )
    code, output = project.run(make_plan(service("a", ["h1"])), "--check", upgrade_journal=str(project.journal))
    assert code == 0, output
    assert not project.journal.exists()
    assert jobs(project, "work") == ["replace a@h1"]
