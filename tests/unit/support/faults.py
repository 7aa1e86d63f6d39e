# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kill an action, or let a system call fail, at each of the points where it writes to the disk."""

from __future__ import annotations

import errno
import os
import threading

CALLS = ("open", "fdopen", "rename", "unlink", "symlink", "fsync", "mkdir", "rmdir", "fchmod", "fchown", "chmod")
_KILLED, _RAN_OUT = 77, 0


class Faults:
    """Counts the writing calls of the os module that this thread makes, and acts just before number `at` is made.

    lasting: whether it acts before every later one, too.
    """

    def __init__(self, at, act, lasting=False):
        self.at, self.act, self.lasting, self.count = at, act, lasting, 0
        self.thread = threading.get_ident()
        self.real = {name: getattr(os, name) for name in CALLS}

    def __enter__(self):
        for name in CALLS:
            setattr(os, name, self._counted(name))
        return self

    def __exit__(self, *_exception):
        for name, function in self.real.items():
            setattr(os, name, function)

    def _counted(self, name):
        def call(path, *rest, **options):
            if name == "open" and rest and rest[0] & os.O_PATH:
                return self.real[name](path, *rest, **options)  # a step on the way to a directory: it writes nothing
            if threading.get_ident() == self.thread:
                self.count += 1
                if self.count == self.at or self.lasting and self.count > self.at:
                    self.act(name, path, *rest)
            return self.real[name](path, *rest, **options)

        return call


def kill_at(point, action):
    """Run action in a child process that ends, as with kill -9, before its point-th call. Tells whether it got there."""
    child = os.fork()
    if child == 0:
        try:
            with Faults(point, lambda *_call: os._exit(_KILLED)):
                action()
        except BaseException:
            os._exit(1)
        os._exit(_RAN_OUT)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (_KILLED, _RAN_OUT), "the action itself failed"
    return status == _KILLED


def fail_at(point, action, number, lasting=False):
    """Run action with its point-th call failing with an errno. Gives (whether it got there, the exception or None).

    lasting: the disk stays full (only calls that need space fail), read-only, or broken.
    """

    def act(name, path, flags=0, *_rest):
        reads = name == "open" and not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        needs_space = name in ("fdopen", "mkdir", "symlink") or name == "open" and flags & os.O_CREAT
        if lasting and (not needs_space if number in (errno.ENOSPC, errno.EDQUOT) else reads and number == errno.EROFS):
            return
        raise OSError(number, os.strerror(number), path if isinstance(path, str) else None)

    with Faults(point, act, lasting) as faults:
        try:
            action()
        except Exception as error:
            return True, error
    return faults.count >= point, None
