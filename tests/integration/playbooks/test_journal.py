# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A journal that can't be used: nothing is begun, nothing that it held is lost, and the way out is as documented."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._journal import Journal

OLD, NEW = "rondo/web:1", "rondo/web:2"

# A shell that a lookup starts is the child of a task's worker, which is the controller's.
CONTROLLER = "$(cut -d ' ' -f 4 /proc/$PPID/stat)"


def killed(cluster: Any) -> Path:
    """The journal of a run that was killed when h1's container was replaced, and its job not yet ended."""
    kill = f"kill -KILL {CONTROLLER}"
    task = {"name": "Kill the run", "ansible.builtin.set_fact": {"gone": "{{ lookup('ansible.builtin.pipe', kill) }}"}}
    cluster.role("site_after", [{**task, "vars": {"kill": kill}}])
    cluster.service["hooks"] = {"after": "site_after"}
    done = cluster.play("rondo.upgrade.upgrade")
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    del cluster.service["hooks"]
    assert cluster.runs() == [NEW, OLD, OLD]
    path: Path = cluster.folder / "build" / "journal.sqlite"
    # The last one to close it brings everything into the one file.
    with Journal(path, create=False) as journal:
        assert [job["id"] for job in journal.unfinished()] == ["replace web@h1"]
    return path


def containers(cluster: Any) -> list[str]:
    return sorted(one.id for one in cluster.engine.containers.list(all=True, filters={"name": cluster.token}))


def refused(cluster: Any, said: str) -> None:
    """Nothing is begun, and one line says why."""
    before = containers(cluster)
    done = cluster.play("rondo.upgrade.upgrade")
    assert done.returncode != 0
    output = done.stdout + done.stderr
    assert "journal.sqlite" in output and said in output, output
    assert containers(cluster) == before
    assert cluster.runs() == [NEW, OLD, OLD]


def finished(cluster: Any) -> str:
    done = cluster.play("rondo.upgrade.upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert cluster.runs() == [NEW] * 3
    return str(done.stdout)


def _newer(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()


DAMAGES: dict[str, Callable[[Path, bytes], object]] = {
    # The header and the root pages stay.
    "it is damaged": lambda path, content: path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192)),
    "damaged": lambda path, content: path.write_bytes(content[:5000]),
    "it was truncated": lambda path, content: path.write_bytes(b""),
    "not a journal of": lambda path, content: path.write_bytes(content[:68] + b"\0\0\0\1" + content[72:]),
    "written by a newer rondo.upgrade": lambda path, content: _newer(path),
}


def test_a_damaged_journal_lets_nothing_begin_and_the_cluster_itself_is_enough(cluster: Any) -> None:
    path = killed(cluster)
    content = path.read_bytes()
    for said, damage in DAMAGES.items():
        damage(path, content)
        damaged = path.read_bytes()
        refused(cluster, said)
        assert path.read_bytes() == damaged
        path.write_bytes(content)

    # As docs/journal.md says.
    path.rename(path.with_name("kept.sqlite"))
    for name in ("journal.sqlite-wal", "journal.sqlite-shm"):
        path.with_name(name).unlink(missing_ok=True)
    planned = cluster.play("rondo.upgrade.plan")
    assert planned.returncode == 0 and "PLAN: 2 jobs" in planned.stdout, planned.stdout
    finished(cluster)
    with Journal(path, create=False) as journal:
        assert journal.unfinished() == []


def test_a_run_that_was_killed_is_known_to_be_dead(cluster: Any) -> None:
    killed(cluster)
    watched = cluster.play("rondo.upgrade.status", "-e", "upgrade_watch=1s")
    assert watched.returncode == 0 and "its process is dead" in watched.stdout, watched.stdout + watched.stderr
    done = cluster.play("rondo.upgrade.upgrade")
    assert done.returncode == 0 and cluster.runs() == [NEW] * 3, done.stdout
    said = " ".join((done.stdout + done.stderr).split())
    assert "The journal was taken over from run 1 (upgrade) of" in said and "s ago: its process is dead" in said


def test_a_run_of_another_container_is_taken_over_on_request(cluster: Any) -> None:
    path = killed(cluster)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE runs SET owner = json_set(owner, '$.host', 'another-container')")
    db.close()
    refused(cluster, "look on another-container")
    done = cluster.play("rondo.upgrade.upgrade", "-e", "upgrade_takeover=true")
    assert done.returncode == 0 and cluster.runs() == [NEW] * 3, done.stdout
    said = " ".join((done.stdout + done.stderr).split())
    assert "another-container" in said and "upgrade_takeover was given" in said


def privileged(*words: str) -> subprocess.CompletedProcess[str]:
    command = [*([] if os.getuid() == 0 else ["sudo", "-n"]), *words]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


class Disk:
    """A small disk of its own under the cluster's upgrade_directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def filler(self) -> Path:
        return self.folder / "filler"

    @property
    def fill(self) -> str:
        """The command that fills it to the last byte."""
        free = f"df --output=avail --block-size=1 {self.folder} | tail -n 1"
        return f"fallocate --length $({free}) {self.filler}"


@pytest.fixture
def disk(cluster: Any) -> Iterator[Disk]:
    folder = cluster.folder / "build"
    folder.mkdir()
    owner = f"uid={os.getuid()},gid={os.getgid()}"
    mounted = privileged("mount", "-t", "tmpfs", "-o", f"size=4m,mode=700,{owner}", "tmpfs", str(folder))
    if mounted.returncode:
        pytest.skip(f"a disk can't be mounted here (it needs root, or sudo with no password): {mounted.stderr.strip()}")
    try:
        yield Disk(folder)
    finally:
        assert privileged("umount", "--lazy", str(folder)).returncode == 0


def test_a_journal_on_a_disk_that_is_full_or_read_only(cluster: Any, disk: Disk) -> None:
    killed(cluster)
    assert privileged("mount", "-o", "remount,ro", str(disk.folder)).returncode == 0
    refused(cluster, "must be able to write the file")
    assert privileged("mount", "-o", "remount,rw", str(disk.folder)).returncode == 0

    subprocess.run(disk.fill, shell=True, check=True)
    refused(cluster, "Is the disk full")
    disk.filler.unlink()

    assert "replace web@h1 was in flight when run 1 was cut off" in finished(cluster)


def test_a_disk_that_becomes_full_in_the_middle_stops_the_run(cluster: Any, disk: Disk) -> None:
    task = {"name": "Fill the disk", "ansible.builtin.shell": disk.fill, "changed_when": True}
    cluster.role("site_after", [task])
    cluster.service["hooks"] = {"after": "site_after"}
    stopped = cluster.play("rondo.upgrade.upgrade")
    assert stopped.returncode != 0
    assert "journal.sqlite" in stopped.stdout and "Is the disk full" in stopped.stdout, stopped.stdout
    assert cluster.runs() == [NEW, OLD, OLD]
    disk.filler.unlink()
    with Journal(disk.folder / "journal.sqlite", create=False) as journal:
        assert [job["id"] for job in journal.unfinished()] == ["replace web@h1"]
    del cluster.service["hooks"]
    assert "replace web@h1 was in flight when run 1 was cut off" in finished(cluster)
