# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn the signals that end a process into an exception, so that manifests are put back first."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import Any, Iterator

# What asks this process to end; HUP is a lost connection.
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked this process to end. Its text is the name of the signal."""


def _is_main_thread() -> bool:
    # Only the main thread gets signals, and only it can set handlers.
    return threading.current_thread() is threading.main_thread()


def ignore_signals() -> None:
    """Ignore TERM, INT and HUP until signals_raise() ends."""
    if _is_main_thread():
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Raise Interrupted at the first TERM, INT or HUP, and ignore the next ones. The former handlers are set again at the end."""
    if not _is_main_thread():
        yield
        return

    def stop(number: int, _frame: Any) -> None:
        ignore_signals()
        raise Interrupted(signal.Signals(number).name)

    handlers = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
