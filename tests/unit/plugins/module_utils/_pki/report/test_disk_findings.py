# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A healthy node has no findings; each damage has exactly its own."""

from __future__ import annotations

import pytest

from tests.unit.support import throwaway
from tests.unit.support.node_checks import check


@pytest.mark.parametrize("options", [{}, {"role": "worker"}, {"role": "etcd"}, {"etcd": False}, {"minor": 36}])
def test_a_healthy_node_has_none(tmp_path, options):
    assert check(throwaway.Node(tmp_path, **options)) == []


def test_every_finding_is_complete(node):
    node.issue("apiserver", days=-1)
    (one,) = check(node)
    assert set(one) == {"severity", "code", "name", "path", "message", "fix"}
    assert one["path"] == str(node.kubernetes("pki/apiserver.crt")) and "renew_leaves" in one["fix"]
