# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The batches in which kubelets are restarted."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping

from ansible.errors import AnsibleFilterError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import kubelet_run

DOCUMENTATION = r"""
name: kubelet_batches
short_description: Which kubelets are restarted together
version_added: 0.1.0
description:
  - Divides a cluster's nodes for a play with C(serial). The first control-plane node goes alone, then each of the others with a
    batch of workers, then the rest of the workers.
positional: _input, size
options:
  _input:
    description: The inventory's groups, as Ansible's C(groups) gives them. C(kube_node) may be missing.
    type: dict
    required: true
  size:
    description: How many workers at a time, a count or a percentage of all workers.
    type: raw
    required: true
author:
  - The kubepki.lifecycle authors (@kubepki)
"""

EXAMPLES = r"""
- name: One node of the control plane at a time
  hosts: "{{ batches | flatten }}"
  serial: "{{ batches | map('length') }}"
  vars:
    batches: "{{ groups | kubepki.lifecycle.kubelet_batches('10%') }}"
  tasks: []
"""

RETURN = r"""
_value:
  description: The batches.
  type: list
  elements: list
  sample: [[cp1], [cp2, w1], [cp3, w2], [w3]]
"""


def kubelet_batches(groups: Mapping[str, List[str]], size: Any) -> List[List[str]]:
    """Return the batches of hosts. Raise AnsibleFilterError for a size that is no count and no percentage."""
    try:
        return kubelet_run.batches(list(groups.get("kube_control_plane", [])), list(groups.get("kube_node", [])), str(size))
    except PkiError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """The filter of this file, by its name."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """Return {name: function}."""
        return {"kubelet_batches": kubelet_batches}
