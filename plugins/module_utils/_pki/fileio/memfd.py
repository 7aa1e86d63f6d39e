# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A path for data that must not lie on a disk, for libraries that take keys only from files (ssl)."""

from __future__ import annotations

import contextlib
import os
import tempfile


@contextlib.contextmanager
def path_of(data):
    """Give a path (str) under which this process can read data (bytes) until the context ends; nobody else can.

    It lies in memory (memfd_create(2)). A controller that is not Linux has no such files: there it is a temporary one, 0600.
    """
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        descriptor = os.memfd_create("kubepki", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, data)
            yield "/proc/self/fd/%d" % descriptor
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile() as handle:
        handle.write(data)
        handle.flush()
        yield handle.name
