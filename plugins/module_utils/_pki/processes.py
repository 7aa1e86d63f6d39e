# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs on the node, and since when (proc(5))."""

from __future__ import annotations

__metaclass__ = type

import os

# The kernel counts starts in ticks since boot, and gives the boot's time in whole seconds.
_ROUNDING = 2.0


def older_than(program, path, proc="/proc"):
    """Tell whether a process runs that was told to use a file and began before the file was last written.

    program: the name of its executable, such as "kube-scheduler". path: the file, which one of its arguments names
    (--kubeconfig=PATH). False where either is not there.
    """
    try:
        written = os.stat(path).st_mtime
        booted = _boot_time(proc)
        pids = [name for name in os.listdir(proc) if name.isdigit()]
    except OSError:
        return False
    needle = os.fsencode("=" + path)
    for pid in pids:
        words = _read(os.path.join(proc, pid, "cmdline")).split(b"\0")
        if os.path.basename(words[0]) == os.fsencode(program) and any(word.endswith(needle) for word in words):
            began = _began(_read(os.path.join(proc, pid, "stat")), booted)
            if began is not None and began + _ROUNDING < written:
                return True
    return False


def _boot_time(proc):
    for line in _read(os.path.join(proc, "stat")).splitlines():
        if line.startswith(b"btime "):
            return int(line.split()[1])
    raise OSError("no btime in %s/stat" % proc)


def _began(stat, booted):
    # The second field, the name, may hold spaces and parentheses; the start is field 22.
    fields = stat.rpartition(b")")[2].split()
    return booted + int(fields[19]) / float(os.sysconf("SC_CLK_TCK")) if len(fields) > 19 else None


def _read(path):
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except OSError:
        return b""  # it has ended
