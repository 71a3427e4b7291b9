# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One at a time at each container, and never one of a run that is over.

A run that is killed leaves its modules behind: one that works on a managed host goes on there, and one that was on its
way may still arrive. The next run must neither work beside the first nor be undone by the second. So whoever changes a
container holds a lock on a file of the container's name, and leaves its run's token in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import time
from typing import Any, Dict, Iterator, Optional

# Kept until the next boot, and free for all users to write, where the machine has it.
LOCKS = "/run/lock"
WAIT_SECONDS = 300.0

FENCE_ARGUMENT: Dict[str, Any] = {
    "fence": {
        "type": "dict",
        "options": {"token": {"type": "int", "required": True, "no_log": False}, "owner": {"type": "str"}},
    }
}


class GuardError(Exception):
    """Somebody else is at work, or this run is over; the text is for the person who runs the play."""


def lock_path(what: str, folder: Optional[str] = None) -> str:
    """The file of everything that changes `what` on this host."""
    if folder is None:
        folder = LOCKS if os.access(LOCKS, os.W_OK) else tempfile.gettempdir()
    return os.path.join(folder, "rondo-upgrade-{0}.lock".format(hashlib.sha256(what.encode()).hexdigest()[:16]))


@contextlib.contextmanager
def alone(
    what: str, fence: Optional[Dict[str, Any]], *, folder: Optional[str] = None, wait: float = WAIT_SECONDS
) -> Iterator[None]:
    """Be the only one that changes `what`, a container's name.

    Args:
        what: the container's name.
        fence: the run's `token` and `owner`, None where it has none.
        folder: where the lock's file is; None: where everybody looks.
        wait: seconds to wait for another one that is at work.

    Raises:
        GuardError: the other one did not end in time, or a later run of the same owner has been here.
    """
    path = lock_path(what, folder)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise GuardError("the lock {0} can't be opened: {1}".format(path, error.strerror)) from error
    with os.fdopen(handle, "r+", encoding="utf-8") as stream:
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise GuardError(
                        "another module has been at work on {0} for more than {1:g} s, perhaps one that a killed run "
                        "left behind: see on this host who keeps {2} (fuser {2}), and end it".format(what, wait, path)
                    ) from error
                time.sleep(0.1)
        if fence is not None:
            _pass(stream, what, fence)
        yield


def _pass(stream: Any, what: str, fence: Dict[str, Any]) -> None:
    """Leave the run's token; refuse where a later one of the same owner is there. Others' are the balancers' matter."""
    try:
        last = json.loads(stream.read() or "{}")
        token, owner = int(last.get("token", 0)), last.get("owner")
    except (ValueError, AttributeError, TypeError):
        token, owner = 0, None
    if owner == fence["owner"] and fence["token"] < token:
        raise GuardError(
            "a later run (token {0}) has been at work on {1}; this one (token {2}) may change nothing any more".format(
                token, what, fence["token"]
            )
        )
    stream.seek(0)
    json.dump({"token": fence["token"], "owner": fence["owner"]}, stream)
    stream.truncate()
    stream.flush()
