#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

__metaclass__ = type

DOCUMENTATION = r"""
module: node_recovery
short_description: The steps by which a node of a dead cluster is brought back
version_added: 0.1.0
description:
  - What the role P(kubepki.lifecycle.recovery#role) does on one node, step by step. None of them but O(state=ready) needs an
    API server.
  - What has to be started again is noted durably before the first file changes, so that a run that was killed is continued by
    the next one.
options:
  state:
    description:
      - V(examined) looks, and changes nothing.
      - V(extended) renews CAs in O(authorities) that have expired, with the keys that are on the node.
      - V(renewed) notes O(restart), installs the CAs in O(authorities), renews the leaves and kubeconfigs that are due, and takes
        away a serving certificate that the kubelet made for itself and that has expired.
      - V(started) ends the processes of what was noted, with the kubelet stopped meanwhile, and starts the kubelet, which starts
        them again. Does nothing where nothing was noted, no restart of the kubelet is due and it runs.
      - V(well) waits until the static pods in O(restart) are healthy and serve what is on disk. For etcd this takes a quorum.
      - V(finished) forgets what was noted.
      - V(ready) waits until the API says that O(nodes) are Ready.
    type: str
    required: true
    choices: [examined, extended, renewed, started, well, finished, ready]
  authorities:
    description:
      - With O(state=extended) and O(state=renewed), a mapping of CAs (C(ca), C(front-proxy-ca), C(etcd-ca)) to the renewed
        certificate in PEM; an empty one is made here. The key stays the same, or nothing is changed.
    type: dict
    default: {}
  restart:
    description: With O(state=renewed), the static pods to start again afterwards. With O(state=well), those that are waited for.
    type: list
    elements: str
    default: []
  leaves:
    description: With O(state=renewed), whether leaves and kubeconfigs are renewed.
    type: bool
    default: true
  nodes:
    description:
      - With O(state=ready), a mapping of the Nodes' names to when their kubelets were started (RV(since)), 0 where they were not.
    type: dict
    default: {}
  renew_below_days:
    description: What has fewer days left is due.
    type: float
    default: 90
  leaf_days:
    description: For how many days leaves are issued.
    type: float
    default: 365
  key_type:
    description: The type of the leaves' new keys. Without it each is of the type it has today.
    type: str
    choices: [rsa-2048, rsa-3072, rsa-4096, ecdsa-p256, ecdsa-p384]
  ca_days:
    description: For how many days a CA is renewed.
    type: float
    default: 3650
  controller_clock:
    description: With O(state=examined), what the controller's clock shows, as seconds since 1970.
    type: float
  timeout:
    description: How many seconds to wait for what is to be proven.
    type: int
    default: 180
attributes:
  check_mode:
    description: Tells what would change; nothing is written, ended, started or waited for.
    support: full
  diff_mode:
    description: Shows the leaves before and after, and never a key.
    support: full
  idempotent:
    description: What is valid, runs and is noted nowhere is left alone.
    support: full
author:
  - The kubepki.lifecycle authors (@kubepki)
seealso:
  - module: kubepki.lifecycle.recovery_plan
  - module: kubepki.lifecycle.kubelet_credential
extends_documentation_fragment:
  - kubepki.lifecycle.node
  - kubepki.lifecycle.node.state
  - kubepki.lifecycle.node.backup
"""

EXAMPLES = r"""
- name: What the node is like
  kubepki.lifecycle.node_recovery:
    state: examined
    controller_clock: "{{ now().timestamp() }}"
  register: looked

- name: Nobody but this node is needed for that
  kubepki.lifecycle.node_recovery:
    state: renewed
    restart: [etcd, kube-apiserver, kube-controller-manager, kube-scheduler]

- name: The kubelet and its static pods begin again
  kubepki.lifecycle.node_recovery:
    state: started
"""

RETURN = r"""
look:
  description: What the node is like, for M(kubepki.lifecycle.recovery_plan).
  returned: with O(state=examined)
  type: dict
certificates:
  description: The CAs that the node has now, in PEM, by name.
  returned: with O(state=extended) and O(state=renewed)
  type: dict
paths:
  description: The files that got a renewed CA.
  returned: with O(state=extended) and O(state=renewed)
  type: list
  elements: str
leaves:
  description: One row per leaf, as M(kubepki.lifecycle.cert_leaf) returns them.
  returned: with O(state=renewed)
  type: list
  elements: dict
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

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import files, leaves, pki_tree, revival
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import module as glue

KEY_TYPES = ["rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256", "ecdsa-p384"]


def _layout(options):
    return pki_tree.find_layout(options["kubernetes_dir"], options["kubelet_dir"])


def _places(options):
    return {name: options[name] for name in ("state_dir", "backup_dir", "backup_keep")}


def _extend(module):
    options = module.params
    wanted = {name: pem.encode("ascii", "replace") if pem else None for name, pem in options["authorities"].items()}
    return revival.extend(_layout(options), wanted, options["ca_days"], check=module.check_mode, **_places(options))


def examined(module):
    """Look at the node."""
    options = module.params
    return {"changed": False, "look": revival.look(options["kubernetes_dir"], options["kubelet_dir"], options["state_dir"],
                                                   options["renew_below_days"], options["controller_clock"])}


def extended(module):
    """Renew CAs with the keys on the node."""
    with files.lock(module.params["state_dir"]):
        if module.params["authorities"] and not module.check_mode:
            revival.begin([], trust=True, state_dir=module.params["state_dir"])
        return _extend(module)


def renewed(module):
    """Bring the node's files up to date."""
    options, check = module.params, module.check_mode
    with files.lock(options["state_dir"]):
        if not check and (options["restart"] or options["leaves"] or options["authorities"]):
            revival.begin(options["restart"], bool(options["authorities"]), options["state_dir"])
        result = _extend(module)
        dropped = revival.drop_serving(_layout(options), check, **_places(options))
    result["changed"] = result["changed"] or dropped
    if options["leaves"]:
        settings = leaves.Settings(below_days=options["renew_below_days"], leaf_days=options["leaf_days"],
                                   key_type=options["key_type"])
        made = revival.renew(_layout(options), settings, check, **_places(options))
        result.update({key: made[key] for key in ("leaves", "backup", "diff", "warnings")})
        result["changed"] = result["changed"] or made["changed"]
    return result


def started(module):
    """Begin kubelet and static pods again."""
    options = module.params
    if module.check_mode:
        return {"changed": False, "ended": [], "kubelet": {}, "since": 0.0}
    with files.lock(options["state_dir"]):
        result = revival.start(_layout(options), timeout=options["timeout"], state_dir=options["state_dir"])
    return dict(result, changed=bool(result["since"]))


def well(module):
    """Wait for static pods."""
    options = module.params
    if module.check_mode:
        return {"changed": False, "well": []}
    return {"changed": False, "well": revival.wait_well(_layout(options), options["restart"], options["timeout"])}


def finished(module):
    """Forget what was noted."""
    if not module.check_mode:
        with files.lock(module.params["state_dir"]):
            revival.finish(module.params["state_dir"])
    return {"changed": False}


def ready(module):
    """Wait for the Nodes."""
    options = module.params
    if module.check_mode:
        return {"changed": False, "ready": {}}
    nodes = {name: float(since) for name, since in options["nodes"].items()}
    return {"changed": False, "ready": revival.wait_ready(_layout(options), nodes, options["timeout"])}


def main():
    spec = dict(
        glue.path_options("kubernetes_dir", "kubelet_dir", "state_dir", "backup_dir", "backup_keep"),
        state={"type": "str", "required": True,
               "choices": ["examined", "extended", "renewed", "started", "well", "finished", "ready"]},
        authorities={"type": "dict", "default": {}},
        restart={"type": "list", "elements": "str", "default": []},
        leaves={"type": "bool", "default": True},
        nodes={"type": "dict", "default": {}},
        renew_below_days={"type": "float", "default": 90},
        leaf_days={"type": "float", "default": 365},
        key_type={"type": "str", "no_log": False, "choices": KEY_TYPES},
        ca_days={"type": "float", "default": 3650},
        controller_clock={"type": "float"},
        timeout={"type": "int", "default": 180})
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    steps = {"examined": examined, "extended": extended, "renewed": renewed, "started": started, "well": well,
             "finished": finished, "ready": ready}
    glue.run(module, steps[module.params["state"]])


if __name__ == "__main__":
    main()
