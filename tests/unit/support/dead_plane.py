# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A control-plane node whose certificates ended."""

from __future__ import annotations

import datetime
from pathlib import Path

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.recovery import renew_cas
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, x509_read

from tests.unit.support import throwaway

PAST = x509_read.now() - datetime.timedelta(days=400)


class Plane:
    """A control-plane node whose CAs (and leaves) ended long ago, in a directory."""

    def __init__(self, root, ca_left=-1.0, leaf_left=-1.0, role="control-plane", shared=None):
        self.cluster = throwaway.Cluster(label="shares " + shared).share(shared) if shared else throwaway.Cluster()
        self.fresh = dict(self.cluster.cas)
        if ca_left < 0:
            self.cluster.cas = {
                name: ca_sign.renew_ca(ca, self.cluster.keys[name], 400 + ca_left, PAST) for name, ca in self.cluster.cas.items()
            }
        self.cluster.leaf_days = leaf_left
        self.node = throwaway.Node(root / "node", self.cluster, role=role)
        if shared:
            self.node.share(shared)
        self.root, self.state, self.backups = str(root / "node"), str(root / "state"), str(root / "backups")

    @property
    def layout(self):
        return layouts.find_layout(root=self.root)

    def extend(self, wanted, **options):
        return renew_cas.extend(self.layout, wanted, 3650, state_dir=self.state, backup_dir=self.backups, **options)

    def files(self):
        return {path: path.read_bytes() for path in Path(self.root).rglob("*") if path.is_file()}
