# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identity of a run: the same in all of its tasks, and known to have ended only where that is sure."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import run_identity


def holder_of(pid: int, start: str | None = None, machine: str | None = None) -> str:
    return "alice@host_with_lines_%s.%d.%s" % (machine or run_identity._machine(), pid, start or run_identity._start(pid))


def test_all_tasks_of_a_run_have_one_identity_and_it_has_not_ended():
    assert run_identity.get_identity() == run_identity.get_identity()
    assert ".%d." % os.getppid() in run_identity.get_identity()
    assert not run_identity.has_ended(run_identity.get_identity())


def test_a_process_that_is_gone_has_ended():
    running = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = holder_of(running.pid)
    assert not run_identity.has_ended(holder)
    running.communicate(b"\n")
    assert run_identity.has_ended(holder)


def test_another_process_that_has_the_number_now_is_not_the_run():
    assert run_identity.has_ended(holder_of(os.getpid(), start="1"))


@pytest.mark.parametrize(
    "holder",
    [
        "",
        "alice@elsewhere_4711",
        "alice",
        "alice@x_%s.1.",
        holder_of(2**22 + 1, "1", "c0ffee00-0000-4000-8000-000000000000.1"),
        "alice@x_%s.99999999.1\n" % run_identity._machine(),
        "alice@x_%s.-1.1" % run_identity._machine(),
        "alice@x_%s.999999999999999999999.1" % run_identity._machine(),
    ],
)
def test_what_cannot_be_known_has_not_ended(holder):
    assert not run_identity.has_ended(holder)


def test_a_controller_without_proc_has_an_identity_and_declares_no_run_dead(monkeypatch):
    monkeypatch.setattr(run_identity, "_machine", lambda: "")
    assert run_identity.get_identity().endswith("_%d" % os.getppid())
    assert not run_identity.has_ended(run_identity.get_identity())
