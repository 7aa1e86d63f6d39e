# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kill an action, or let a system call fail, at each of the points where it writes to the disk."""

from __future__ import annotations

import os

CALLS = ("open", "rename", "unlink", "symlink", "fsync", "mkdir", "fchmod", "chmod")
_KILLED, _RAN_OUT = 77, 0


class Faults:
    """Counts the writing calls of the os module and acts just before number `at` is made."""

    def __init__(self, at, act):
        self.at, self.act, self.count = at, act, 0
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
            self.count += 1
            if self.count == self.at:
                self.act(name, path)
            return self.real[name](path, *rest, **options)
        return call


def kill_at(point, action):
    """Run action in a child process that ends, as with kill -9, before its point-th call. Tells whether it got there."""
    child = os.fork()
    if child == 0:
        try:
            with Faults(point, lambda _name, _path: os._exit(_KILLED)):
                action()
        except BaseException:
            os._exit(1)
        os._exit(_RAN_OUT)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (_KILLED, _RAN_OUT), "the action itself failed"
    return status == _KILLED


def fail_at(point, action, number):
    """Run action with its point-th call failing with an errno. Gives (whether it got there, the exception or None)."""
    def act(_name, path):
        raise OSError(number, os.strerror(number), path if isinstance(path, str) else None)
    with Faults(point, act) as faults:
        try:
            action()
        except Exception as error:
            return True, error
    return faults.count >= point, None
