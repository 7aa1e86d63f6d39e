# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock of a node: two runs never change one node at the same time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time

from ..errors import PkiError
from . import atomic, guarded_paths
from .reading import explain


@contextlib.contextmanager
def lock(state_dir=atomic.STATE_DIR, seconds=60, what="another kubepki job", check=False):
    """Hold the node's lock, so that two runs never change one node at a time.

    state_dir: where the lock file lies (made 0700 when missing). seconds: how long to wait for another run.
    check: hold none, since nothing will be changed, not even that directory.
    The kernel releases the lock with the process, however it ends. Raises PkiError when the time is up, and for a directory
    that other users can change: what is found there says what is done to the node.
    """
    if check:
        yield
        return
    atomic.make_directory(state_dir)
    guarded_paths.require_trusted(state_dir)
    path = os.path.join(state_dir, "lock")
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise explain(error, path) from error
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise PkiError(
                        "%s is running on this node since before this one began" % what,
                        path=path,
                        fix="Wait for it to end (`fuser -v %s` shows it), then run again." % path,
                    ) from error
                time.sleep(0.1)
        yield
    finally:
        os.close(handle)
