# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fence: a small file on the balancer's host that says which run may change its tables.

The journal's lock keeps two runs of one controller apart. Two controllers don't share a journal: the fence is the
guard that lies with the cluster itself. The file holds the owner and its token, also after the owner has released it,
so that a run that was overtaken in its sleep is refused for good. Nobody can tell a run that waits from one that is
dead by the file's age, so its age gives nobody a right to it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
import time
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Set, Tuple

DEFAULT_PATH = "/run/rondo-upgrade.fence"

# Whoever has the lock may be having a configuration checked, on a machine that is busy.
LOCK_SECONDS = 120.0

# The option `fence` of the modules that change a balancer's tables; its words are in the doc fragment `balancer`.
FENCE_OPTION = {
    "type": "dict",
    "options": {
        "path": {"type": "path", "default": DEFAULT_PATH},
        "token": {"type": "int", "required": True, "no_log": False},
        "owner": {"type": "str"},
    },
}


class FenceError(Exception):
    """The fence refuses, or can't be read; the text is one line for people."""


@contextlib.contextmanager
def locked(directory: str, timeout: float) -> Iterator[None]:
    """Hold the advisory lock on a directory, so that no lock file is left behind.

    `timeout` in seconds. Raises `FenceError` if the directory can't be opened or another process keeps the lock.
    """
    try:
        handle = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise FenceError("%s: can't be opened (%s)" % (directory, error.strerror)) from error
    try:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise FenceError(
                        "%s: another process has kept the lock on this directory for %g s" % (directory, timeout)
                    ) from error
                time.sleep(0.05)
        yield
    finally:
        os.close(handle)


def replace(path: str, content: Any) -> None:
    """Put JSON in a file's place in one step. Raises OSError."""
    handle, draft = tempfile.mkstemp(prefix=".rondo-upgrade-", dir=os.path.dirname(os.path.abspath(path)))
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(draft, 0o644)
        os.rename(draft, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise


class Taken:
    """The servers (backend, name) that the run with this token has taken `out`, and those on their way back
    (`returning`), in a file beside its fence. Callers hold `locked`.

    HAProxy forgets what was taken out in a reload. What another run took out is none of this run's business: it has
    looked since.
    """

    def __init__(self, fence: str, token: int) -> None:
        self.path = fence + ".taken"
        self.token = token

    @property
    def out(self) -> Set[Tuple[str, str]]:
        return self._read("out")

    @property
    def returning(self) -> Set[Tuple[str, str]]:
        return self._read("returning")

    def move(self, servers: Set[Tuple[str, str]], where: Optional[str]) -> None:
        """Keep them as `out` or as `returning`, or no more (None). Raises `FenceError`."""
        content = {name: self._read(name) - servers for name in ("out", "returning")}
        if where is not None:
            content[where] |= servers
        try:
            replace(self.path, {"token": self.token, **{name: sorted(keys) for name, keys in content.items()}})
        except PermissionError:
            # The fence itself may belong to someone else, too: it is no lock.
            return
        except OSError as error:
            raise FenceError("%s: can't be written (%s)" % (self.path, error.strerror)) from error

    def _read(self, name: str) -> Set[Tuple[str, str]]:
        try:
            with open(self.path, encoding="utf-8") as stream:
                content = json.load(stream)
            if content["token"] != self.token:
                return set()
            return {(str(backend), str(server)) for backend, server in content[name]}
        except (OSError, ValueError, KeyError, TypeError):
            return set()


class Fence:
    """The fence file at `path`. Callers that write hold `locked(fence.directory)`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.directory = os.path.dirname(os.path.abspath(path))

    def read(self) -> Optional[Dict[str, Any]]:
        """`{owner, token, released, age}`, or None where there was no claim. `age`: seconds since it was claimed or
        released. Raises `FenceError`."""
        try:
            with open(self.path, encoding="utf-8") as stream:
                content = json.load(stream)
                age = time.time() - os.fstat(stream.fileno()).st_mtime
            return {
                "owner": str(content["owner"]),
                "token": int(content["token"]),
                "released": bool(content.get("released")),
                "age": max(0.0, age),
            }
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FenceError("%s: can't be read (%s)" % (self.path, error.strerror)) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FenceError(
                "%s: is not a fence; if no upgrade runs on this cluster, remove the file" % self.path
            ) from error

    def write(self, owner: str, token: int, released: bool = False) -> None:
        """Replace the file in one step. Raises `FenceError`."""
        try:
            replace(self.path, {"owner": owner, "token": token, "released": released})
        except OSError as error:
            raise FenceError("%s: can't be written (%s)" % (self.path, error.strerror)) from error

    def refusal(self, owner: str, token: int, takeover: bool) -> Optional[str]:
        """Why this owner may not claim with this token, or None. Raises `FenceError`.

        `takeover`: somebody made sure that the other owner's run is dead.
        """
        there = self.read()
        if there is None:
            return None
        if token < there["token"]:
            return (
                "%s: %s has had the newer token %d, this run has %d: a newer run has been here, or this controller's "
                "clock is behind; if no run is at work on this cluster, remove the file"
                % (self.path, there["owner"], there["token"], token)
            )
        if self.held_by_another(there, owner) and not takeover:
            return (
                "%s: %s claimed it %.0f s ago with token %d and has not released it; wait for that run, or if it is "
                "surely dead start again with -e upgrade_takeover=true"
                % (self.path, there["owner"], there["age"], there["token"])
            )
        return None

    @staticmethod
    def held_by_another(there: Optional[Mapping[str, Any]], owner: str) -> bool:
        """Whether what was read is the claim of another owner that has not ended."""
        return there is not None and not there["released"] and there["owner"] != owner

    def trespass(self, token: int, owner: Optional[str]) -> Optional[str]:
        """Why a run that claimed earlier may not act now, or None. Raises `FenceError`."""
        there = self.read()
        if there is None:
            return None
        if token < there["token"] or (owner is not None and owner != there["owner"]):
            return "%s: %s has taken over with token %d; this run (token %d) may change nothing any more" % (
                self.path,
                there["owner"],
                there["token"],
                token,
            )
        return None


def guard(option: Optional[Mapping[str, Any]]) -> Callable[[], None]:
    """What a module asks before each change, given its option `fence`.

    It raises `FenceError` if another run has claimed the balancer since.
    """

    def ask() -> None:
        if option is None:
            return
        trespass = Fence(option["path"]).trespass(option["token"], option["owner"])
        if trespass:
            raise FenceError(trespass)

    return ask
