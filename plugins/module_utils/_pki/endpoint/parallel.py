# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run several questions to endpoints at the same time."""

from __future__ import annotations

import threading

from ..errors import PkiError
from . import tls


def run_parallel(calls):
    """Run several functions at the same time. calls: {key: function without arguments}. Gives {key: value or PkiError}."""
    results = {}

    def run(key, function):
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
