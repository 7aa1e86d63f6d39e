# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock of a node: only one run changes a node at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import Iterator

from ..errors import PkiError
from . import atomic, path_trust
from .reading import explain


@contextlib.contextmanager
def lock(
    state_dir: str = atomic.STATE_DIR, seconds: float = 60, what: str = "another kubepki job", check: bool = False
) -> Iterator[None]:
    """Hold the node's lock. The kernel releases it when the process ends.

    state_dir: directory of the lock file, created 0700. seconds: how long to wait. what: the other run, for the message. check:
    take no lock and create nothing. Raise PkiError on timeout, and for a directory that other users can change.
    """
    if check:
        yield
        return
    atomic.make_directory(state_dir)
    path_trust.require_trusted(state_dir)
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
