# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person sees while the lab comes up."""

from __future__ import annotations

import io
import re
import time

import pytest

from tests.lab.progress import Progress


def test_what_takes_long_says_that_it_goes_on_until_it_is_over() -> None:
    stream = io.StringIO()
    with Progress(stream).during("compiling kubelet", every=0.05):
        deadline = time.monotonic() + 20
        while stream.getvalue().count("still compiling kubelet, for ") < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    lines = stream.getvalue().splitlines()
    assert re.match(r"\[ +0\.\ds\] compiling kubelet$", lines[0]) and len(lines) >= 3
    time.sleep(0.2)
    assert stream.getvalue().splitlines() == lines


def test_a_step_that_fails_says_no_more() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError, match="no"), Progress(stream).during("x", every=0.05):
        raise ValueError("no")
    time.sleep(0.2)
    assert len(stream.getvalue().splitlines()) == 1
