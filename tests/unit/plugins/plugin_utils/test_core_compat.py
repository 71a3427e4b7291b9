# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleError
from ansible.plugins.loader import connection_loader
from ansible.template import Templar, trust_as_template

from ansible_collections.rondo.upgrade.plugins.plugin_utils import _core_compat as compat


def test_plain_strips_tags_deeply() -> None:
    tagged = trust_as_template("keystone")
    value = Templar(None, {"service": {"name": tagged, "hosts": [tagged, 2]}}).template(
        trust_as_template("{{ service }}")
    )
    plain = compat.plain({tagged: [value, None, 1.5]})
    assert plain == {"keystone": [{"name": "keystone", "hosts": ["keystone", 2]}, None, 1.5]}
    [(key, [service, *_rest])] = plain.items()
    assert [type(part) for part in (key, service, service["name"], service["hosts"], service["hosts"][0])] == [
        str, dict, str, list, str,
    ]  # fmt: skip
    assert json.loads(json.dumps(plain)) == plain


@pytest.mark.parametrize("version", ["2.19.0", "2.20.10", "2.21.5", "2.22.0rc1"])
def test_tested_versions(version: str) -> None:
    assert compat.untested(version) is None


@pytest.mark.parametrize("version", ["2.18.7", "2.23.0", "3.0.0", "2.190.0"])
def test_other_versions(version: str) -> None:
    said = compat.untested(version)
    assert said is not None and "\n" not in said
    assert version in said and "-e upgrade_export=FILE" in said


def test_the_installed_core_is_a_tested_one() -> None:
    assert compat.untested() is None


@dataclass
class Role:
    """What is asked of a role."""

    name: str
    public: bool
    defaults: str = ""

    def get_name(self) -> str:
        return self.name


@pytest.mark.parametrize("asks", [False, True])
def test_a_wait_for_answers_ends_with_the_first_one(asks: bool) -> None:
    """Whether it came before the wait or comes during it; and 2.21's workers also ask the controller."""
    strategy = SimpleNamespace(_results=None, **({"_rpc_queue": None} if asks else {}))
    answers = compat.Answers(strategy)
    assert strategy._results is answers
    tell = strategy._rpc_queue.put if asks else answers.append
    for delay in (0.0, 0.2):
        timer = threading.Timer(delay, tell, ["answer"])
        timer.start()
        if not delay:
            timer.join()
        began = time.monotonic()
        answers.wait(600)
        assert time.monotonic() - began < 300
        timer.join()
        assert (strategy._rpc_queue.get() if asks else answers.popleft()) == "answer"


def test_a_worker_that_died_without_an_answer_is_told() -> None:
    strategy = SimpleNamespace(_results=None, _tqm=SimpleNamespace(has_dead_workers=lambda: True))
    answers = compat.Answers(strategy)
    answers.append("an answer, all the same")
    answers.wait(0.01)
    answers.clear()
    with pytest.raises(AnsibleError, match="worker process died"):
        answers.wait(0.01)


def test_of_repeated_roles_the_last_stays_where_it_shows_its_variables() -> None:
    instance, drain, other = Role("instance", False), Role("drain", True), Role("drain", True, "other")
    again = [Role("instance", False), Role("drain", True), Role("health", True)]
    play = SimpleNamespace(roles=[instance, drain, other, *again])
    roles = play.roles
    compat.forget_repeated_roles(SimpleNamespace(_play=play))
    assert play.roles is roles
    assert [id(role) for role in roles] == [id(role) for role in (other, *again)]


def test_a_role_that_shows_its_variables_is_not_forgotten_for_one_that_does_not() -> None:
    public, private = Role("hook", True), Role("hook", False)
    play = SimpleNamespace(roles=[public, private])
    compat.forget_repeated_roles(SimpleNamespace(_play=play))
    assert play.roles == [public, private]


def test_connections_are_listed_once_and_again_with_those_that_a_role_brings(tmp_path: Path) -> None:
    def named(found: Iterable[str]) -> set[str]:
        return {Path(path).stem for path in found}

    ours = connection_loader.all
    before = named(ours(path_only=True))
    (tmp_path / "carrier_pigeon.py").write_text("")
    try:
        with compat.connections_listed_once():
            assert named(connection_loader.all(path_only=True)) == before >= {"ssh", "local"}
            connection_loader.add_directory(str(tmp_path))
            assert named(connection_loader.all(path_only=True)) == before | {"carrier_pigeon"}
            (tmp_path / "courier.py").write_text("")
            assert "courier" not in named(connection_loader.all(path_only=True))
    finally:
        connection_loader._extra_dirs.remove(str(tmp_path))
        connection_loader._paths = None
    assert connection_loader.all == ours
