# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A path to data in memory, for a library that reads keys only from files (ssl).

Hand-written, because no library on a node does it: memfd_create(2) and a path below /proc/self/fd.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Iterator


@contextlib.contextmanager
def path_of(data: bytes) -> Iterator[str]:
    """Yield a path under which only this process can read the data, until the context ends.

    The data is in memory. On a controller without memfd_create(2) (macOS) it is in a temporary file, 0600.
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
