# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import finding
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.fixed_dictionaries({"severity": st.sampled_from(["error", "warning", "info"]), "code": st.text(max_size=3)})))
def test_the_most_severe_comes_first(found):
    severities = [one["severity"] for one in finding.sort_by_severity(found)]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)
    assert re.match("^(error)*(warning)*(info)*$", "".join(severities))
