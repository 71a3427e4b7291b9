# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The only file that touches ansible-core's private names.

What is private here: the names of the include actions, a strategy's `_blocked_hosts`, `_workers`, `_results` and
`_rpc_queue`, the queue manager's `_unreachable_hosts`, an iterator's blocks and host states, a play's roles, what they
note of hosts, their loading and that of files, the folders of a plugin loader, how a task's executor makes a
connection, and a playbook's file name.
Each name was looked up in every version in `TESTED`; a version outside it is refused, because a renamed attribute would
make the window blind.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible import context
from ansible.errors import AnsibleError
from ansible.executor.play_iterator import HostState, IteratingStates
from ansible.executor.task_executor import TaskExecutor
from ansible.playbook.block import Block
from ansible.playbook.handler import Handler
from ansible.playbook.helpers import load_list_of_blocks
from ansible.playbook.role import Role
from ansible.playbook.role.include import RoleInclude
from ansible.plugins.loader import action_loader, connection_loader
from ansible.release import __version__ as core_version
from ansible.template import Templar, trust_as_template
from ansible.utils.fqcn import add_internal_fqcns
from ansible.utils.vars import transform_to_native_types

TESTED = ("2.19", "2.20", "2.21", "2.22")

JOB = "upgrade_job"

# Workers that have answered take a moment to end. Not many more: each keeps its variables and some open files until
# another takes its place.
ENDING = 8

# What they do takes a moment, and then they wait; `together` for processes of its own.
WAITING = frozenset(
    [
        "rondo.upgrade.together",
        "rondo.upgrade.haproxy_server",
        "rondo.upgrade.health_check",
        *add_internal_fqcns(("wait_for", "wait_for_connection")),
    ]
)


def plain(value: Any) -> Any:
    """Strip Ansible's tags, deeply: what pure code, json and sqlite3 may be given.

    Lazily templated values become their results, and vaulted strings are decrypted.
    """
    return transform_to_native_types(value, redact=False)


def untested(version: str = core_version) -> str | None:
    """The one line for an ansible-core that the strategy was not tested with; None when it was."""
    if ".".join(version.split(".")[:2]) in TESTED:
        return None
    return (
        f"The strategy rondo.upgrade.rolling is tested with ansible-core {TESTED[0]} to {TESTED[-1]}, and this is "
        f"{version}: export the plan with `ansible-playbook rondo.upgrade.plan -e upgrade_export=FILE` "
        "and run that plain playbook instead."
    )


class PlayView:
    """What the window needs of the hosts of a running play. `jobs`: what the tasks of each job are given, by its id."""

    def __init__(self, strategy: Any, iterator: Any, jobs: Mapping[str, Any]) -> None:
        self._strategy = strategy
        self._iterator = iterator
        self._jobs = jobs
        self._inventory = strategy._tqm.get_inventory()
        self._next: dict[str, Any] = {}

    def host(self, name: str) -> Any:
        return self._inventory.get_host(name)

    def hosts(self) -> list[str]:
        return [str(name) for name in self._iterator.host_states]

    def busy(self, name: str) -> bool:
        """A worker runs a task of this host, or the task's result was not looked at yet."""
        return bool(self._strategy._blocked_hosts.get(name, False))

    def unreachable(self, name: str) -> bool:
        return name in self._strategy._tqm._unreachable_hosts

    def forks(self) -> int:
        """How many tasks may work at once. To be asked before there is more room."""
        return len(self._strategy._workers)

    def failed(self, name: str) -> bool:
        return bool(self._iterator.is_failed(self.host(name)))

    def begin(self, name: str, job: str) -> None:
        """Let the host begin with the play's first task, and its tasks know the job."""
        self._strategy._variable_manager.set_nonpersistent_facts(name, {JOB: self._jobs[job]})
        state = HostState(self._iterator._blocks)
        if name in self._next:
            # Its facts are there.
            state.run_state, state.cur_block = IteratingStates.TASKS, 1
        self._iterator.set_state_for_host(name, state)
        # A role that permits no duplicates would be left out in the host's second job.
        for roles in self._iterator._play.role_cache.values():
            for role in roles:
                role._completed.pop(name, None)

    def has_task(self, name: str) -> bool:
        """Whether the host has anything left to run. Not to be asked about a busy host: its tasks may yet come."""
        host = self.host(name)
        state, task = self._iterator.get_next_task_for_host(host, peek=True)
        while task is not None and self._ends_role(task):
            self._iterator.set_state_for_host(name, state)
            role = self._iterator._play._get_cached_role(task._role)
            if name in role._had_task_run:
                role._completed[name] = True
            state, task = self._iterator.get_next_task_for_host(host, peek=True)
        self._next[name] = task
        return task is not None

    @staticmethod
    def _ends_role(task: Any) -> bool:
        """The mark behind a role's last task. To free it is a task like any other, for which it gathers all the host's
        variables."""
        return bool(task.implicit and task.action in C._ACTION_META and task.args.get("_raw_params") == "role_complete")

    def waits(self, name: str) -> bool:
        """The task that `has_task` saw last does little more than wait."""
        return getattr(self._next[name], "action", None) in WAITING

    def including(self, name: str) -> bool:
        """The task that `has_task` saw last is an include: its result is lost on a host that free does not see."""
        return getattr(self._next[name], "action", None) in C._ACTION_ALL_INCLUDES


def make_room(strategy: Any, tasks: int) -> None:
    """Let that many tasks run at once, whatever `forks` says: whoever shows hosts to free has to keep to that."""
    missing = tasks + ENDING - len(strategy._workers)
    if missing > 0:
        strategy._workers.extend([None] * missing)


class Answers(deque[Any]):
    """A strategy's list of results, for which one can wait. ansible-core itself looks a thousand times a second."""

    def __init__(self, strategy: Any) -> None:
        super().__init__()
        self._strategy = strategy
        self._bell = threading.Event()
        strategy._results = self
        # 2.21 and later: what workers ask of the controller.
        self._asked: queue.Queue[Any] | None = None
        if hasattr(strategy, "_rpc_queue"):
            self._asked = strategy._rpc_queue = _Asked(self._bell)

    def append(self, result: Any) -> None:
        super().append(result)
        self._bell.set()

    def wait(self, timeout: float) -> None:
        """Until a worker has answered or asks for something, or `timeout` seconds.

        Raises AnsibleError when a worker died without an answer, which free would wait for.
        """
        self._bell.clear()
        if self or (self._asked is not None and not self._asked.empty()) or self._bell.wait(timeout):
            return
        if self._strategy._tqm.has_dead_workers():
            raise AnsibleError("A worker process died in the middle of a task: its job is in the journal, in flight.")


class _Asked(queue.Queue[Any]):
    def __init__(self, bell: threading.Event) -> None:
        super().__init__()
        self._bell = bell

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._bell.set()


@contextlib.contextmanager
def cheap_forks() -> Iterator[None]:
    """Within it the garbage collector leaves alone what there is now: a worker in which it runs copies all that."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextlib.contextmanager
def connections_listed_once() -> Iterator[None]:
    """Within it the connection plugins are listed once, and again when a role has brought its own. Whenever somebody
    asks for a host's variables, and so for each task, ansible-core looks through all their folders on the disk."""
    everywhere = connection_loader.all
    known: dict[int, list[str]] = {}

    def listed(**options: Any) -> Iterator[Any]:
        if options != {"path_only": True}:
            return iter(everywhere(**options))
        folders = len(connection_loader._extra_dirs)
        if folders not in known:
            known[folders] = list(everywhere(**options))
        return iter(known[folders])

    connection_loader.all = listed
    try:
        yield
    finally:
        connection_loader.all = everywhere


def forget_repeated_roles(iterator: Any) -> None:
    """Each include (of a hook role, for one) adds its role, and those that it imports, to the play's list again, and
    whoever asks for variables walks through that list: after hundreds of jobs nothing else would get done.

    The last of equal ones stays, so precedence does too. Of roles that show their variables to nobody else only the
    name counts.
    """
    roles = iterator._play.roles
    kept: list[Any] = []
    for role in reversed(roles):
        if not any(
            role.get_name() == other.get_name() and (not role.public or (other.public and role == other))
            for other in kept
        ):
            kept.append(role)
    roles[:] = reversed(kept)


def sleep(seconds: float) -> None:
    time.sleep(seconds)


class PlayVariables:
    """The play's variables, templated one by one as they are asked for."""

    def __init__(self, strategy: Any, iterator: Any) -> None:
        self._strategy = strategy
        self._play = iterator._play

    def evaluate(self, expression: str, host: str | None = None) -> Any:
        """The value of a Jinja expression in the play, for `host` if given; plain, see `plain`."""
        variables = self._strategy._variable_manager.get_vars(
            play=self._play, host=self._strategy._inventory.get_host(host) if host else None
        )
        templar = Templar(loader=self._strategy._loader, variables=variables)
        return plain(templar.template(trust_as_template("{{ " + expression + " }}")))


def tasks_of(blocks: Iterable[Any]) -> Iterator[Any]:
    """Every task in blocks of any depth, those of rescue and always included."""
    for block in blocks:
        for entry in (*block.block, *block.rescue, *block.always):
            if isinstance(entry, Block):
                yield from tasks_of([entry])
            else:
                yield entry


class Roles:
    """Loads what tasks include, to look at its tasks. On a copy of the play, so that the play itself gains nothing."""

    def __init__(self, strategy: Any, iterator: Any) -> None:
        self._strategy = strategy
        self._play = iterator._play.copy()

    def tasks(self, name: str, tasks_from: str | None = None) -> list[Any]:
        """The tasks and handlers of a role, static imports resolved. Raises AnsibleError where the role isn't found."""
        include = RoleInclude.load(
            name,
            play=self._play,
            variable_manager=self._strategy._variable_manager,
            loader=self._strategy._loader,
            collection_list=None,
        )
        from_files = {"tasks": tasks_from} if tasks_from else {}
        role = Role.load(include, self._play, from_files=from_files, from_include=True, validate=False)
        blocks = role.compile(play=self._play) + role.get_handler_blocks(play=self._play)
        return [task for task in tasks_of(blocks) if not task.implicit]

    def file(self, task: Any, name: str) -> str | None:
        """The path of the file that a task includes by that name; None where there is none."""
        folders = [Path(task.get_path().rpartition(":")[0]).parent]
        if task._role:
            folders.append(Path(task._role._role_path) / "tasks")
        return next((str(path) for folder in folders if (path := folder / name).is_file()), None)

    def included(self, task: Any, path: str) -> list[Any]:
        """The tasks of a file that a task includes, static imports resolved."""
        loader = self._strategy._loader
        blocks = load_list_of_blocks(
            loader.load_from_file(path, trusted_as_template=True) or [],
            play=self._play,
            parent_block=task.build_parent_block(),
            role=task._role,
            use_handlers=isinstance(task, Handler),
            variable_manager=self._strategy._variable_manager,
            loader=loader,
        )
        return [inner for inner in tasks_of(blocks) if not inner.implicit]

    @staticmethod
    def acts_once(action: str) -> bool:
        """Whether an action acts once for all hosts, whatever the strategy."""
        plugin = action_loader.get(action, class_only=True)
        return bool(getattr(plugin, "BYPASS_HOST_LOOP", False))


def play_of(iterator: Any) -> Any:
    """The play that an iterator walks through."""
    return iterator._play


def play_tasks(iterator: Any) -> list[Any]:
    """The tasks and handlers that the play itself holds, before any include has run."""
    play = iterator._play
    return [task for task in tasks_of([*play.compile(), *play.handlers]) if not task.implicit]


def show_warnings(callback: Any, result: Any) -> None:
    """Show the warnings and deprecations that came with a task's result, as the default callback does."""
    callback._handle_warnings(result.result)


def diff_text(callback: Any, diff: Any) -> str:
    """A result's diff as text, as the default callback shows it."""
    return str(callback._get_diff(diff))


def elsewhere(action: Any, host: str, task_vars: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """An action plugin like `action`, connected to another host, and that host's variables for its modules.

    Connections are made as a task's executor makes them, which knows one host at a time.
    """
    hostvars = task_vars["hostvars"]
    variables = {**hostvars.raw_get(host), "hostvars": hostvars}
    templar = Templar(loader=action._loader, variables=variables)
    executor: Any = TaskExecutor.__new__(TaskExecutor)
    if not isinstance(getattr(TaskExecutor, "_task", None), property):
        executor._task = action._task
    executor._play_context = action._play_context.copy()
    executor._play_context.remote_addr = host
    executor._shared_loader_obj = action._shared_loader_obj
    # Not the task's own connection: that is the one to the host that it runs for.
    name = variables.get("ansible_connection") or context.CLIARGS.get("connection") or C.DEFAULT_TRANSPORT
    executor._connection = executor._get_connection(variables, templar, templar.template(name))
    executor._set_connection_options(variables, templar)
    there = copy.copy(action)
    there._connection = executor._connection
    there._play_context = executor._play_context
    there._templar = templar
    there._cleanup_remote_tmp = False
    return there, variables


def playbook_name(playbook: Any) -> str:
    """The file that a playbook was read from."""
    return str(playbook._file_name)
