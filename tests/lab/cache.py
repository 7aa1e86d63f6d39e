# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cached directories that are either complete or absent, and the locks that keep two builders apart."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import LabError
from .progress import Progress


@contextlib.contextmanager
def lock(path: Path, progress: Progress, what: str, seconds: float = 3600) -> Iterator[None]:
    """Hold an exclusive lock on ``path``; the kernel frees it when its holder dies, however it dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as handle:
        deadline = time.monotonic() + seconds
        told = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                handle.seek(0)
                holder = handle.read().strip() or "unknown"
                if not told:
                    progress.step(f"waiting for process {holder}, which is at work on {what}")
                    told = True
                if time.monotonic() > deadline:
                    raise LabError(
                        f"process {holder} has held {path} for an hour",
                        fix=f"see what process {holder} does; the lock is free as soon as it ends",
                    ) from None
                time.sleep(0.3)
        handle.seek(0)
        handle.truncate()
        handle.write(str(os.getpid()))
        handle.flush()
        try:
            yield
        finally:
            handle.seek(0)
            handle.truncate()
            handle.flush()


def mounts_below(directory: Path) -> list[str]:
    """Mount points at or below ``directory``, deepest first."""
    found = []
    prefix = str(directory)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        # Octal escapes: mountinfo writes a blank as \040.
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), line.split()[4])
        if point == prefix or point.startswith(prefix + "/"):
            found.append(point)
    return sorted(found, key=lambda p: (p.count("/"), p), reverse=True)


def remove_tree(directory: Path) -> None:
    """Delete a directory of ours; LabError when something is still mounted in it, so nothing else is deleted."""
    if not directory.exists():
        return
    mounted = mounts_below(directory)
    if mounted:
        raise LabError(f"{mounted[0]} is still mounted", fix=f"umount {mounted[0]} and run this again")
    shutil.rmtree(directory)


def cached(directory: Path, build: Callable[[Path], None], progress: Progress, what: str) -> Path:
    """Return ``directory``, built by ``build(temporary directory)`` and renamed into place when it is not there.

    A build that dies leaves only a ``.partial-*`` directory, which the next build removes. One builder at a
    time: another process that wants the same directory waits and then finds it.
    """
    if directory.is_dir():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with lock(directory.parent / f".{directory.name}.lock", progress, what):
        if directory.is_dir():
            return directory
        for left in directory.parent.glob(f".partial-{directory.name}-*"):
            progress.step(f"removing what an earlier, unfinished build left ({left.name})")
            remove_tree(left)
        partial = directory.parent / f".partial-{directory.name}-{secrets.token_hex(4)}"
        partial.mkdir(mode=0o755)
        try:
            build(partial)
        except BaseException:
            with contextlib.suppress(LabError, OSError):
                remove_tree(partial)
            raise
        partial.rename(directory)
    return directory
