# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rehearsal says before it builds anything, and that nothing of it stays behind however it ends.

That it rehearses is molecule/rehearsal's to show.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

ROOT = Path(__file__).resolve().parents[3]
INVENTORY = ROOT / "molecule" / "rehearsal" / "inventory"
NODE = "rondo/rehearsal:trixie"
PATIENCE = 900.0
LABEL = "rondo.upgrade.rehearsal"


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ansible", "playbook", "-i", str(INVENTORY), "rondo.upgrade.rehearse", *arguments],
        cwd=folder,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
            "ANSIBLE_HOME": str(folder / "home"),
            "ANSIBLE_NOCOLOR": "true",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A background job of a shell ignores it, and so would all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def rehearse(folder: Path, *arguments: str) -> tuple[int, str]:
    process = started(folder, *arguments)
    said, _unused = process.communicate(timeout=PATIENCE)
    # Long messages are wrapped.
    return process.returncode, " ".join(said.split())


def until(true: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.3)


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    subprocess.run([sys.executable, str(ROOT / "tools" / "images.py"), "rehearsal"], check=True, timeout=PATIENCE * 2)
    found = docker.from_env(timeout=300)
    yield found
    found.close()


def left(engine: Any, folder: Path) -> list[str]:
    """Whatever the engine still has of a folder's twin."""
    twin = json.loads((folder / "build" / "rehearsal" / "twin.json").read_text(encoding="utf-8"))
    filters = {"label": f"{LABEL}={twin['name']}"}
    found = [one.name for one in engine.containers.list(all=True, filters=filters, ignore_removed=True)]
    found += [one.name for one in engine.networks.list(filters=filters)]
    return found + [tag for image in engine.images.list(name=twin["name"]) for tag in image.tags]


def test_check_mode_says_what_would_be_built_and_builds_nothing(tmp_path: Path) -> None:
    code, said = rehearse(tmp_path, "--check", "-e", "rehearse_docker_host=unix:///nowhere/docker.sock")
    assert code == 0, said
    for words in ("8 nodes: db1", "database 3 of 5, web 3 of 12", "19 jobs on 17 hosts", "NOT REHEARSED"):
        assert words in said
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("rehearse_docker_host=unix:///nowhere/docker.sock", "no Docker Engine answers at unix:///nowhere/docker.sock"),
        ("rehearse_node_image=localhost:1/none:1", "rehearse_node_image: localhost:1/none:1 is not here and can't be"),
        ("rehearse_hosts_per_group=1", "keep at least 2"),
        ("rehearse_healthy_time=soon", "'soon' is no duration"),
        ("rehearse_plan=/nowhere/plan.json", "/nowhere/plan.json: can't be read"),
    ],
)
def test_what_is_missing_is_said(engine: Any, tmp_path: Path, argument: str, words: str) -> None:
    code, said = rehearse(tmp_path, "-e", argument)
    assert code != 0 and words in said, said


# KILL is what no program can do anything about.
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_stays_behind_when_it_is_ended(engine: Any, tmp_path: Path, how: signal.Signals) -> None:
    folder = tmp_path / "build" / "rehearsal"
    process = started(tmp_path, "-e", f"rehearse_node_image={NODE}", "-e", "rehearse_images=none")
    try:
        until(lambda: (folder / "upgrade.pid").exists() or process.poll() is not None, "the upgrade of the twin begins")
        assert process.poll() is None, process.communicate()[0]
        upgrade = int((folder / "upgrade.pid").read_text(encoding="utf-8"))
        until(lambda: (folder / "probe" / "state.json").exists(), "the probe runs")
        assert left(engine, tmp_path)
        # Ctrl-C reaches all processes of the terminal's group.
        (os.killpg if how == signal.SIGINT else os.kill)(process.pid, how)
        until(lambda: not left(engine, tmp_path), "the twin is gone")
        until(lambda: not alive(upgrade), "its upgrade has ended")
        state = folder / "probe" / "state.json"
        until(lambda: json.loads(state.read_text(encoding="utf-8"))["running"] is False, "the probe has stopped")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def alive(pid: int) -> bool:
    """A process that has ended and that nobody has waited for is not alive."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_an_image_that_can_not_be_had_is_not_waited_for_and_said(engine: Any, tmp_path: Path) -> None:
    wanted = {"after": "localhost:1/none:1", "before": "", "environment": {}, "volumes": [], "url": "", "status": [200]}
    twin = {"name": "rondo-rehearsal-unfetched", "candidates": [{"service": "web", **wanted}]}
    (tmp_path / "twin.json").write_text(json.dumps(twin), encoding="utf-8")
    program = ROOT / "roles" / "rehearse" / "files" / "twin.py"
    for images, why in (
        ("pull", "not to be had within 120 s"),
        ("present", "not on the engine"),
        ("none", "not tried"),
    ):
        command = [sys.executable, str(program), "images", str(tmp_path), "--node-image", NODE, "--images", images]
        subprocess.run(command, check=True, timeout=PATIENCE)
        tried = json.loads((tmp_path / "images.json").read_text(encoding="utf-8"))
        assert tried == {"own": {}, "stood_in": {"web": why}}


def drawn(folder: Path, inventory: Path) -> dict[str, Any]:
    """What a rehearsal of an inventory would build and plan, in an order of its own."""
    book = folder / "draw.yml"
    task = "rondo.upgrade.rehearsal_plan: {directory: '{{ playbook_dir }}'}"
    book.write_text(f"- hosts: localhost\n  gather_facts: false\n  tasks:\n    - {task}\n", encoding="utf-8")
    ansible(folder, "playbook", "-i", str(inventory), str(book))
    twin, planned = (
        json.loads((folder / "rehearsal" / name).read_text(encoding="utf-8"))
        for name in ("twin.json", "production.json")
    )
    return {
        "nodes": {node["host"]: node["balancer"] for node in twin["nodes"]},
        "sizes": {row["service"]: row for row in twin["sizes"]},
        "backends": {row["name"]: [server["name"] for server in row["servers"]] for row in twin["backends"]},
        "services": {row["name"]: (row["method"], row["budget_reason"], row["jobs"]) for row in planned["services"]},
    }


def ansible(folder: Path, program: str, *words: str) -> None:
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
        "ANSIBLE_HOME": str(folder / "home"),
        "ANSIBLE_TRANSFORM_INVALID_GROUP_CHARS": "ignore",
    }
    subprocess.run([sys.executable, "-m", "ansible", program, *words], env=environment, check=True, timeout=PATIENCE)


def test_a_saved_copy_of_the_inventory_is_enough(kolla: Path, tmp_path: Path) -> None:
    """Templates and all, as docs/rehearsal.md says how to save it. ansible-inventory sorts the services by name."""
    original, copy = tmp_path / "original", tmp_path / "copy"
    copy.mkdir()
    shutil.copytree(ROOT / "inventories" / "kolla", original)
    shutil.copy(kolla / "multinode", original)
    words = ("--list", "--yaml", "--export", "--output", str(copy / "saved.yml"))
    ansible(tmp_path, "inventory", "-i", str(original / "multinode"), *words)
    expected = drawn(original, original / "multinode")
    assert len(expected["services"]) == 18
    shutil.rmtree(original)
    assert drawn(copy, copy / "saved.yml") == expected
