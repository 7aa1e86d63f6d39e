# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things lie on a node: options that several modules share (module_utils/_pki/module.py: path_options)."""

from __future__ import annotations


class ModuleDocFragment:
    """The directories of Kubernetes; STATE and BACKUP: those of this collection."""

    DOCUMENTATION = r"""
options:
  kubernetes_dir:
    description: The directory that C(kubeadm) keeps the cluster's files in.
    type: path
    default: /etc/kubernetes
  kubelet_dir:
    description: The kubelet's own directory (C(--root-dir)).
    type: path
    default: /var/lib/kubelet
"""

    STATE = r"""
options:
  state_dir:
    description: Where the node keeps what has to survive a run that is killed - lock, journal, staged keys.
    type: path
    default: /var/lib/kubepki
"""

    BACKUP = r"""
options:
  backup_dir:
    description: Where the node keeps its backup sets, with the mode 0700; one is made before anything changes.
    type: path
    default: /var/lib/kubepki/backups
  backup_keep:
    description: How many backup sets of each job stay, the newest. V(0) keeps all.
    type: int
    default: 5
"""
