# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another lab in a few lines of YAML: it comes up, survives the loss of a balancer, and goes without a trace."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
NAME = "lab-test"
INVENTORY = """---
balancers: {hosts: {lb1: {}, lb2: {}}}
web: {hosts: {"web[1:2]": {}}}
"""
DEFINITION = """---
extends: {shared}
services:
  mariadb: null
  web: {{image: "rondo/web:1", nodes: web, port: 8080, frontends: {{web: 8080}}}}
"""


def lab(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "lab.py"), *words, "--name", NAME],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def left() -> list[str]:
    """What carries the lab's label on the engine."""
    found: list[str] = []
    for words in (("ps", "--all"), ("network", "ls"), ("volume", "ls")):
        listed = ["docker", *words, "--quiet", "--filter", f"label=rondo.upgrade.lab={NAME}"]
        found += subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    return found


def answer(url: str) -> str:
    """The body, tried again and again: the virtual address needs seconds to move, and machines have slow moments."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 300
    while True:
        try:
            with opener.open(url, timeout=10) as response:
                return str(response.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[dict[str, Any]]:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(INVENTORY)
    definition = tmp_path / "lab.yml"
    definition.write_text(DEFINITION.format(shared=ROOT / "molecule" / "shared" / "lab.yml"))
    came_up = lab("up", "--inventory", str(inventory), "--lab", str(definition))
    try:
        assert came_up.returncode == 0, came_up.stdout + came_up.stderr
        yield json.loads((ROOT / ".cache" / "lab" / NAME / "lab.json").read_text())
    finally:
        lab("down")


def test_serves_through_its_virtual_address_until_the_last_balancer_is_gone(small: dict[str, Any]) -> None:
    url = f"http://{small['vip']}:8080/"
    assert json.loads(answer(url))["release"] == "1"
    subprocess.run(["docker", "kill", f"{NAME}-lb1"], capture_output=True, check=True)
    assert json.loads(answer(url))["release"] == "1"


def test_nodes_are_the_inventorys_hosts(small: dict[str, Any]) -> None:
    assert list(small["nodes"]) == ["lb1", "lb2", "web1", "web2"]
    config = str(ROOT / ".cache" / "lab" / NAME / "ssh_config")
    seen = subprocess.run(
        ["ssh", "-F", config, "web2", "hostname"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    assert seen.stdout.strip() == "web2"


def test_down_leaves_nothing(small: dict[str, Any]) -> None:
    assert left()
    assert lab("down").returncode == 0
    assert left() == []
    assert not (ROOT / ".cache" / "lab" / NAME).exists()


def test_a_wrong_key_is_named(tmp_path: Path) -> None:
    definition = tmp_path / "lab.yml"
    definition.write_text("---\nservices: {web: {image: x, nodes: web, prot: 80}}\n")
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(INVENTORY)
    refused = lab("up", "--inventory", str(inventory), "--lab", str(definition))
    assert refused.returncode == 1
    assert "services.web.prot" in refused.stderr
