# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes how long every task took on every host, as JSON lines, to the file that DURATIONS names."""

from __future__ import annotations

import json
import os
import time

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
    name: durations
    type: aggregate
    short_description: durations of tasks as JSON lines
    description: For the benchmarks.
"""


class CallbackModule(CallbackBase):
    """From the start of a task on a host to its result."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "durations"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        self._began = {}

    def v2_runner_on_start(self, host, task):
        self._began[host.name, task._uuid] = time.monotonic()

    def v2_runner_on_ok(self, result):
        self._write(result, True)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._write(result, False)

    def v2_runner_on_unreachable(self, result):
        self._write(result, False)

    def _write(self, result, well):
        host, task = result._host.name, result._task
        seconds = time.monotonic() - self._began[host, task._uuid]
        with open(os.environ["DURATIONS"], "a", encoding="utf-8") as handle:
            handle.write(json.dumps({"host": host, "task": task.get_name(), "seconds": seconds, "ok": well}) + "\n")
