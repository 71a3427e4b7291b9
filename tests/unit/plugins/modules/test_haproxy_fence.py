# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may claim a balancer, and who may still act on it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.rondo.upgrade.plugins.module_utils._fence import Fence, FenceError, locked
from ansible_collections.rondo.upgrade.plugins.modules.haproxy_fence import apply


@pytest.fixture
def fence(tmp_path: Path) -> Fence:
    return Fence(str(tmp_path / "fence"))


def claim(fence: Fence, owner: str, token: int, check_mode: bool = False, takeover: bool = False):
    return apply(fence, {"state": "claimed", "owner": owner, "token": token, "takeover": takeover}, check_mode)[0]


def release(fence: Fence, owner: str, token: int, check_mode: bool = False):
    return apply(fence, {"state": "released", "owner": owner, "token": token}, check_mode)[0]


def free(fence: Fence) -> bool:
    return fence.read()["released"]


def test_claim_read_release(fence: Fence) -> None:
    assert fence.read() is None
    assert claim(fence, "deploy1", 3) is True
    assert claim(fence, "deploy1", 3) is False
    there = fence.read()
    assert (there["owner"], there["token"], there["released"]) == ("deploy1", 3, False)
    assert apply(fence, {"state": "read"}, False)[0] is False
    assert release(fence, "deploy1", 3) is True
    assert release(fence, "deploy1", 3) is False
    there = fence.read()
    assert (there["owner"], there["token"], there["released"]) == ("deploy1", 3, True)


def test_check_mode_writes_nothing(fence: Fence) -> None:
    assert claim(fence, "deploy1", 3, check_mode=True) is True
    assert fence.read() is None
    claim(fence, "deploy1", 3)
    assert release(fence, "deploy1", 3, check_mode=True) is True
    assert not free(fence)


def test_the_same_owners_next_run_takes_over_and_its_last_one_may_not(fence: Fence) -> None:
    claim(fence, "deploy1", 3)
    assert claim(fence, "deploy1", 4) is True
    with pytest.raises(FenceError, match="deploy1 has had the newer token 4, this run has 3: a newer run"):
        claim(fence, "deploy1", 3)


def test_another_owner_waits_for_the_release_however_long_ago_the_claim_was(fence: Fence) -> None:
    claim(fence, "deploy1", 3)
    then = time.time() - 7 * 86400
    os.utime(fence.path, (then, then))
    with pytest.raises(FenceError, match=r"deploy1 claimed it 604[0-9]{3} s ago .* -e upgrade_takeover=true"):
        claim(fence, "deploy2", 9)
    release(fence, "deploy1", 3)
    assert claim(fence, "deploy2", 9) is True


def test_it_is_taken_over_from_a_run_that_is_surely_dead(fence: Fence) -> None:
    claim(fence, "deploy1", 3)
    assert claim(fence, "deploy2", 9, takeover=True) is True
    assert "deploy2 has taken over" in fence.trespass(3, "deploy1")


def test_the_token_outlives_the_release(fence: Fence) -> None:
    """A run that slept through another's whole run may neither act nor claim when it wakes up."""
    claim(fence, "deploy1", 3)
    claim(fence, "deploy2", 9, takeover=True)
    release(fence, "deploy2", 9)
    assert "deploy2 has taken over with token 9; this run (token 3)" in fence.trespass(3, None)
    for takeover in (False, True):
        with pytest.raises(FenceError, match="deploy2 has had the newer token 9"):
            claim(fence, "deploy1", 3, takeover=takeover)
    assert claim(fence, "deploy1", 10) is True


def test_only_the_holder_releases(fence: Fence) -> None:
    claim(fence, "deploy1", 3)
    assert release(fence, "deploy2", 3) is False
    assert release(fence, "deploy1", 2) is False
    assert not free(fence)


def test_who_may_act(fence: Fence) -> None:
    assert fence.trespass(1, None) is None
    claim(fence, "deploy1", 3)
    assert fence.trespass(3, None) is None
    assert fence.trespass(3, "deploy1") is None
    assert "deploy1 has taken over with token 3; this run (token 2)" in fence.trespass(2, None)
    assert "deploy1 has taken over" in fence.trespass(3, "deploy2")


def test_a_file_that_is_no_fence(fence: Fence) -> None:
    for content in ("", "[]", '{"owner": "x"}', '{"owner": "x", "token": "y"}'):
        Path(fence.path).write_text(content)
        with pytest.raises(FenceError, match="is not a fence; if no upgrade runs on this cluster, remove the file"):
            claim(fence, "deploy1", 3)


def test_no_folder_to_write_to(tmp_path: Path) -> None:
    with pytest.raises(FenceError, match=r"nowhere: can't be opened \(No such file or directory\)"):
        claim(Fence(str(tmp_path / "nowhere" / "fence")), "deploy1", 3)


def test_of_many_owners_at_once_one_gets_it(fence: Fence) -> None:
    won: list[str] = []

    def compete(owner: str) -> None:
        try:
            if claim(fence, owner, 1):
                won.append(owner)
        except FenceError:
            pass

    threads = [threading.Thread(target=compete, args=(f"deploy{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [fence.read()["owner"]]
    assert [path.name for path in Path(fence.directory).iterdir()] == ["fence"]


def test_a_lock_that_is_kept(tmp_path: Path) -> None:
    with (
        locked(str(tmp_path), 60),
        pytest.raises(FenceError, match=r"another process has kept the lock on this directory for 0\.1 s"),
        locked(str(tmp_path), 0.1),
    ):
        pass
