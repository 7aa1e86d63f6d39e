# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules for the two certificates of a kubelet have in common: options of their states requested and installed."""

from __future__ import annotations


class ModuleDocFragment:
    """Whose certificate, whether it is due, and how many older ones stay."""

    DOCUMENTATION = r"""
options:
  host:
    description: With O(state=requested), the inventory's name for the node; it is handed on.
    type: str
  renew_below_days:
    description:
      - With O(state=requested), a certificate with fewer days left is due; one with a short life, when less than a third is left.
    type: float
    default: 90
  force:
    description: With O(state=requested), another certificate is due in any case.
    type: bool
    default: false
  keep_files:
    description: With O(state=installed), how many older files (C(kubelet-client-TIME.pem), C(kubelet-server-TIME.pem)) stay.
    type: int
    default: 3
"""
