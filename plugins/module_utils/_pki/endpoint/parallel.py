# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Query several endpoints at the same time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import PkiError
from . import tls

WHOLE = 3  # a whole exchange may take so many times the timeout of one step


def call_within(seconds: float, function: Callable[[], Any]) -> Any:
    """Return what function() returns, or raise what it raises. Raise socket.timeout where it takes longer than that.

    A timeout of a socket counts from byte to byte: a server that sends one at a time would hold its client for ever. The function
    runs in a thread, which is left alone when the time is over, as nothing else covers resolver, handshake, headers and body.
    """
    values: list = []
    errors: list = []

    def run() -> None:
        try:
            values.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not values:
        raise socket.timeout("timed out")
    return values[0]


def run_parallel(calls: Mapping[Any, Callable[..., Any]]) -> dict[Any, Any]:
    """Run several functions at the same time. Return {key: value or PkiError}."""
    results: dict[Any, Any] = {}

    def run(key: Any, function: Callable[..., Any]) -> None:
        try:
            results[key] = function()
        except PkiError as error:
            results[key] = error
        except Exception as error:  # a thread that dies silently would look like an endpoint that was never asked
            results[key] = PkiError("could not be asked (%s)" % tls.reason(error), path=str(key))

    threads = [threading.Thread(target=run, args=call, daemon=True) for call in calls.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
