# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kubelets are restarted together."""

from __future__ import annotations

import math

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.kubepki.lifecycle.plugins.filter.kubelet_batches import FilterModule
from hypothesis import given
from hypothesis import strategies as st


def batches(planes, workers, size):
    groups = {
        "kube_control_plane": ["cp%d" % number for number in range(planes)],
        "kube_node": ["cp0", *("w%d" % number for number in range(workers))],
    }
    return FilterModule().filters()["kubelet_batches"](groups, size)


def test_one_control_plane_node_alone_then_each_with_a_batch_of_workers_then_the_rest():
    assert batches(3, 2, "10%") == [["cp0"], ["cp1", "w0"], ["cp2", "w1"]]
    assert batches(3, 5, 2) == [["cp0"], ["cp1", "w0", "w1"], ["cp2", "w2", "w3"], ["w4"]]
    assert batches(1, 3, "50%") == [["cp0"], ["w0"], ["w1"], ["w2"]]
    assert batches(3, 0, "10%") == [["cp0"], ["cp1"], ["cp2"]]
    assert FilterModule().filters()["kubelet_batches"]({}, "10%") == []


@given(planes=st.integers(1, 7), workers=st.integers(0, 60), count=st.integers(1, 120), percent=st.booleans())
def test_every_node_is_in_one_batch_and_no_batch_is_larger_than_asked_for(planes, workers, count, percent):
    found = batches(planes, workers, "%d%%" % count if percent else count)
    most = max(1, math.floor(workers * count / 100)) if percent else count
    everybody = ["cp%d" % number for number in range(planes)] + ["w%d" % number for number in range(workers)]
    assert sorted(sum(found, [])) == sorted(everybody)
    assert found[0] == ["cp0"]
    for batch in found:
        assert sum(host.startswith("cp") for host in batch) <= 1
        assert 0 < len(batch) <= most + batch[0].startswith("cp")


@pytest.mark.parametrize("size", ["0", "-1", "10 %", "ten", "", "1.5", [1, 2]])
def test_a_batch_that_is_no_size_is_refused(size):
    with pytest.raises(AnsibleFilterError, match="kubepki_batch"):
        batches(3, 2, size)
