# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import clock_findings


@pytest.mark.parametrize(
    "offset,severity", [(None, None), (0, None), (-29, None), (31, "warning"), (-31, "warning"), (4000, "error")]
)
def test_a_clock_that_is_off(offset, severity):
    found = clock_findings.check(offset)
    assert [one["severity"] for one in found] == ([severity] if severity else [])
    if found:
        assert ("behind" if offset < 0 else "ahead of") in found[0]["message"]
