# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HAProxy's configuration on disk while second copies stand in it: read, checked, and replaced in one step."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import shutil
import subprocess
import tempfile

from ansible_collections.rondo.upgrade.plugins.module_utils._beside import (
    BesideError,
    edited,
    marked_out,
    restored,
    server_lines,
    skeleton,
)
from ansible_collections.rondo.upgrade.plugins.module_utils._haproxy import config_files
from ansible_collections.rondo.upgrade.plugins.module_utils._rotation import label


class Files:
    """HAProxy's configuration on disk: what it says, and what it shall say."""

    def __init__(self, params, wanted):
        """`params` are the module's, `wanted` the servers whose lines have to be there. Raises `BesideError`."""
        self.service = params["service"]
        self.check_command = params["check_command"]
        self.edits = params["edit_config"]
        self.path = params["config"]
        self.before = {}
        needed = self.edits or params["options"] is None
        try:
            for path in config_files(self.path):
                with open(path, encoding="utf-8", errors="surrogateescape") as stream:
                    self.before[path] = stream.read()
        except OSError as error:
            if needed:
                raise BesideError(
                    "%s: can't be read (%s); name HAProxy's configuration (config), or give options and "
                    "edit_config: false" % (error.filename or self.path, error.strerror)
                ) from error
        self.bases = {path: restored(text, self.service) for path, text in self.before.items()}
        self.after = dict(self.before)
        self.lines = {}
        for backend in sorted({backend for backend, _name in wanted}):
            for text in self.bases.values():
                for name, line in server_lines(text, backend).items():
                    self.lines[backend, name] = line
        if self.edits:
            lost = [label(key) for key in wanted if key not in self.lines]
            if lost:
                raise BesideError(
                    "%s: has no line `server` for %s; name the file in which these stand, or set edit_config: false"
                    % (self.path, ", ".join(lost))
                )

    def out(self):
        """The servers that our lines take out."""
        return {key for text in self.before.values() for key in marked_out(text, self.service)}

    def save(self, home, copies, check_mode):
        """Make the files say this; returns whether they did not. Raises `BesideError`."""
        if not self.edits:
            return False
        after = {path: edited(text, self.service, home, copies) for path, text in self.bases.items()}
        changed = {path: text for path, text in after.items() if text != self.before[path]}
        if not check_mode:
            for path, text in changed.items():
                if skeleton(text, self.service) != skeleton(self.before[path], self.service):
                    self._check(path, text)
                _replace(path, text)
            self.before.update(changed)
        self.after.update(changed)
        return bool(changed)

    def _check(self, path, text):
        if not os.path.isdir(self.path):
            handle, draft = tempfile.mkstemp(prefix=".rondo-upgrade-", dir=os.path.dirname(path))
            os.close(handle)
            try:
                shutil.copymode(path, draft)
                _write(draft, text)
                self._run_check(draft)
            finally:
                os.unlink(draft)
            return
        # HAProxy reads a folder as one; only the whole of it can be checked.
        _replace(path, text)
        try:
            self._run_check(self.path)
        except BesideError:
            _replace(path, self.before[path])
            raise

    def _run_check(self, path):
        words = [word.replace("%s", path) for word in shlex.split(self.check_command)]
        code, said = command(words)
        if code:
            raise BesideError("%s: `%s` refuses it: %s" % (self.path, " ".join(words), said[-1500:]))


def _write(path, text):
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def _replace(path, text):
    """In one step, with mode, owner and time as they were: what it says now HAProxy does already, and a file that is
    newer than HAProxy's start would mean the opposite. A file that is a mount itself can only be written in place."""
    handle, draft = tempfile.mkstemp(prefix=".rondo-upgrade-", dir=os.path.dirname(path))
    os.close(handle)
    try:
        _write(draft, text)
        shutil.copymode(path, draft)
        there = os.stat(path)
        with contextlib.suppress(PermissionError):
            os.chown(draft, there.st_uid, there.st_gid)
        try:
            os.rename(draft, path)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            _write(path, text)
            os.unlink(draft)
        os.utime(path, ns=(there.st_atime_ns, there.st_mtime_ns))
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise BesideError("%s: can't be written (%s)" % (path, error.strerror)) from error


def command(words):
    """(exit code, what it said) of a command."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=300
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, str(error)
    return done.returncode, done.stdout.decode("utf-8", "replace").strip()
