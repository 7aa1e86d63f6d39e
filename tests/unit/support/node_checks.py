# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings of a throwaway node, for the tests of report."""

from __future__ import annotations

import datetime
import os

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue, layouts, pki_tree
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import disk_findings
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, x509_read


def tree_of(node):
    return pki_tree.read_tree(layouts.find_layout(root=str(node.root)))


def check(node, **options):
    """The findings about a node's disk."""
    return disk_findings.check(tree_of(node), owner=os.getuid(), **options)


def codes(found):
    return [(one["severity"], one["code"], one["name"]) for one in found]


def from_the_future(node, name="etcd-ca"):
    start = x509_read.now() + datetime.timedelta(days=3)
    return ca_sign.build_ca(catalogue.BY_NAME[name].common_name, node.cluster.keys[name], 3650, start=start)
