# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One lab for all jobs: LAB names it (default: test); KUBEPKI_KEEP_LAB=1 leaves it up afterwards."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator

import pytest

from tests.lab.lab import Lab

# Everything a job may change on a node, as one digest per file: content, mode, owner.
_SNAPSHOT = r"""
import hashlib, json, os, sys
found = {}
for top in ("/etc/kubernetes", "/var/lib/kubelet/pki"):
    for directory, _dirs, names in os.walk(top):
        for name in names:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            body = os.readlink(path) if os.path.islink(path) else hashlib.sha256(open(path, "rb").read()).hexdigest()
            found[path] = [body, status.st_mode, status.st_uid, status.st_gid]
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A healthy cluster of three control-plane nodes and two workers."""
    found = Lab(os.environ.get("LAB", "test"))
    found.up()
    yield found
    if not os.environ.get("KUBEPKI_KEEP_LAB"):
        found.down()


def snapshot(lab: Lab, node: str) -> dict[str, list]:
    """Every file below /etc/kubernetes and the kubelet's pki on a node: {path: [digest or link target, mode, uid, gid]}."""
    return json.loads(lab.run(node, ["python3", "-"], stdin=_SNAPSHOT).stdout)


def snapshots(lab: Lab) -> dict[str, dict[str, list]]:
    """The same of every node."""
    return {name: snapshot(lab, name) for name in lab.addresses}


def digest(value: object) -> str:
    """One digest of anything JSON can hold, for short comparisons."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
