# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that a kubelet keeps its certificates in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import (
    kubelet_files,
)

from tests.unit.support import throwaway
from tests.unit.support.worker import Worker


@pytest.fixture
def cluster():
    return throwaway.Cluster()


@pytest.fixture
def worker(tmp_path, cluster):
    found = Worker(tmp_path, cluster)
    # kubelet.conf of a joined worker names nobody ("default-auth"): the name comes from its certificate.
    assert found.layout.node_name == "w1"
    return found


def test_only_dated_files_that_are_not_in_use_count_as_old(worker):
    for number in range(5):
        path = worker.pki / ("kubelet-client-2025-01-0%d-00-00-00.pem" % (number + 1))
        path.write_bytes(b"old")
        os.utime(path, (number, number))
    (worker.pki / "kubelet-client.key.tmp").write_bytes(b"not ours")
    names = [Path(path).name for path in kubelet_files.expired_files(str(worker.current), 2)]
    assert names == ["kubelet-client-2025-01-0%d-00-00-00.pem" % (number + 1) for number in range(3)]
    assert len(kubelet_files.expired_files(str(worker.current), 0)) == 5
    assert kubelet_files.expired_files(str(worker.current), 9) == []
