#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: recovery_start
short_description: Start the kubelet and the static pods of a dead node, and wait for them
version_added: 0.1.0
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Starts again what M(kubepki.lifecycle.internal.recovery_files) noted, and waits for what is to be seen of it. Only
    O(state=ready) needs
    an API server.
options:
  state:
    description:
      - V(started) ends the processes of what was noted, with the kubelet stopped meanwhile, and starts the kubelet, which starts
        them again. Does nothing where nothing was noted, no restart of the kubelet is due and it runs.
      - V(well) waits until the static pods in O(pods) are healthy and serve what is on disk. For etcd this takes a quorum.
      - V(ready) waits until the API says that O(nodes) are Ready.
    type: str
    required: true
    choices: [started, well, ready]
  pods:
    description: With O(state=well), the static pods that are waited for. Those that the node does not have are passed over.
    type: list
    elements: str
    default: []
  nodes:
    description:
      - With O(state=ready), a mapping of the Nodes' names to when their kubelets were started (RV(since)), 0 where they were not.
    type: dict
    default: {}
  timeout:
    description: How many seconds to wait for what is to be proven.
    type: int
    default: 180
attributes:
  check_mode:
    description: Nothing is ended, started or waited for.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: What runs and is noted nowhere is left alone.
    support: full
author:
  - The kubepki.lifecycle authors (@kubepki)
seealso:
  - module: kubepki.lifecycle.internal.recovery_files
  - module: kubepki.lifecycle.static_pod_restart
extends_documentation_fragment:
  - kubepki.lifecycle.node
  - kubepki.lifecycle.node.state
"""

EXAMPLES = r"""
- name: Start the kubelet and its static pods
  kubepki.lifecycle.internal.recovery_start:
    state: started

- name: etcd has its quorum
  kubepki.lifecycle.internal.recovery_start:
    state: well
    pods: [etcd]
"""

RETURN = r"""
ended:
  description: The static pods whose processes were ended.
  returned: with O(state=started)
  type: list
  elements: str
kubelet:
  description: What was seen of the kubelet that was started.
  returned: with O(state=started)
  type: dict
since:
  description: When the kubelet was started, in seconds since 1970; 0 when it was not.
  returned: with O(state=started)
  type: float
well:
  description: The static pods that are well, with the seconds it took.
  returned: with O(state=well)
  type: list
  elements: dict
ready:
  description: The Nodes that are Ready, with the seconds it took.
  returned: with O(state=ready)
  type: dict
seconds:
  description: How long the module took.
  returned: always
  type: float
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import runner
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import node_lock
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.recovery import startup


def _layout(options: Dict[str, Any]) -> layouts.Layout:
    return layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"])


def started(module: AnsibleModule) -> Dict[str, Any]:
    """Start the kubelet and the static pods again and return the module's result. Raise PkiError."""
    options = module.params
    if module.check_mode:
        return {"changed": False, "ended": [], "kubelet": {}, "since": 0.0}
    with node_lock.lock(options["state_dir"]):
        result = startup.start(_layout(options), timeout=options["timeout"], state_dir=options["state_dir"])
    return dict(result, changed=bool(result["since"]))


def well(module: AnsibleModule) -> Dict[str, Any]:
    """Wait for static pods."""
    options = module.params
    if module.check_mode:
        return {"changed": False, "well": []}
    return {"changed": False, "well": startup.wait_well(_layout(options), options["pods"], options["timeout"])}


def ready(module: AnsibleModule) -> Dict[str, Any]:
    """Wait for the Nodes."""
    options = module.params
    if module.check_mode:
        return {"changed": False, "ready": {}}
    nodes = {name: float(since) for name, since in options["nodes"].items()}
    return {"changed": False, "ready": startup.wait_ready(_layout(options), nodes, options["timeout"])}


def main() -> None:
    """Run the module."""
    spec = dict(
        runner.path_options("kubernetes_dir", "kubelet_dir", "state_dir"),
        state={"type": "str", "required": True, "choices": ["started", "well", "ready"]},
        pods={"type": "list", "elements": "str", "default": []},
        nodes={"type": "dict", "default": {}},
        timeout={"type": "int", "default": 180},
    )
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    runner.run(module, {"started": started, "well": well, "ready": ready}[module.params["state"]])


if __name__ == "__main__":
    main()
