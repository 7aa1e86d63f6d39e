#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restart static pods and prove it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: static_pod_restart
short_description: Restart static pods and return when the new ones are proven
version_added: 0.1.0
author:
  - The kubepki.lifecycle authors (@kubepki)
description:
  - Restarts static pods of a node by moving their manifests out of the kubelet's manifest directory and back, and
    returns only when each new instance is proven. The old process has ended, a new container runs, the component's health
    endpoint answers, and what it serves is the certificate that is on disk.
  - One annotation of the manifest (C(kubepki.io/restartedAt)) changes with every restart, so that the kubelet's crash
    back-off never delays one. Every other byte of the file stays.
  - Several pods overlap where that is safe. C(etcd) leaves only when a C(kube-apiserver) that is restarted in the same call has
    stopped listening, so that no request fails for it.
  - A manifest is never missing, never there twice, and never beside a backup. Before a manifest moves, its copy and a
    journal are on disk outside of the manifest directory. After a kill at any point the next run restores what is missing,
    as does O(state=restored). On an error, a signal or a lost connection the manifests are restored before the module ends.
options:
  names:
    description:
      - The static pods to restart, by component (C(kube-apiserver), C(kube-controller-manager), C(kube-scheduler), C(etcd)),
        by the pod's name or by the manifest's file name without extension. Other static pods can be named as well.
    type: list
    elements: str
    default: []
  unless_reloaded:
    description:
      - Static pods that are restarted only when they do not reload the certificates on disk by themselves within
        O(reload_timeout). They need not be in O(names).
      - A component that serves no certificate from a file cannot show that it did, and is restarted; an etcd that serves plain
        http alone has nothing to reload, and is restarted only when it is in O(names).
    type: list
    elements: str
    default: []
  skip_missing:
    description:
      - Pass over those in O(names) and O(unless_reloaded) that the node has no manifest of, such as C(etcd) where it runs
        elsewhere. Otherwise they are refused.
    type: bool
    default: false
  reload_timeout:
    description:
      - Seconds to wait for what is in O(unless_reloaded). A kube-apiserver of 1.20 takes up to a minute.
    type: int
    default: 75
  state:
    description:
      - V(restarted) restarts the pods in O(names) and O(unless_reloaded).
      - V(restored) only puts right what an earlier, killed run left. Manifests that are out are restored; files that it was
        replacing, with whatever module, are all new or all old again.
    type: str
    choices: [restarted, restored]
    default: restarted
  manifest_dir:
    description: The kubelet's C(staticPodPath). By default the one that its configuration or its command line names.
    type: path
  kubernetes_dir:
    description: kubeadm's directory, where C(admin.conf) lies.
    type: path
    default: /etc/kubernetes
  kubelet_dir:
    description: The kubelet's own directory (C(--root-dir)).
    type: path
    default: /var/lib/kubelet
  state_dir:
    description: Where the journal and the parked manifests are kept. Must not lie in O(manifest_dir).
    type: path
    default: /var/lib/kubepki
  edits:
    description:
      - Flags of the components' commands to change in the manifests that are restored, as a mapping of component to a mapping of
        flag (with its dashes) to value. Null takes a flag away. Every other byte of the manifest stays.
      - Only components that are restarted in the same call get them.
    type: dict
    default: {}
  timeout:
    description: Seconds that each pod may take until it is proven.
    type: int
    default: 180
attributes:
  check_mode:
    support: full
    description: Reports which pods would be restarted and which manifests would be restored, and moves nothing.
  diff_mode:
    support: full
    description: Shows the containers before and after. Manifests are not shown.
  idempotent:
    support: partial
    description:
      - A restart happens each time it is asked for. O(unless_reloaded) and O(state=restored) do only what is still needed.
notes:
  - Needs root and the Python library PyYAML on the node. C(crictl) is used where it is there and not needed.
  - On a cluster of several control-plane nodes, restart one node after the other, and look at
    M(kubepki.lifecycle.internal.control_plane_health) in between.
seealso:
  - module: kubepki.lifecycle.internal.control_plane_health
"""

EXAMPLES = r"""
- name: Restart the pods that read their certificates only once
  kubepki.lifecycle.static_pod_restart:
    names: [kube-controller-manager, kube-scheduler]

- name: Restart the whole control plane of a node, about as fast as kube-apiserver alone
  kubepki.lifecycle.static_pod_restart:
    names: [kube-apiserver, kube-controller-manager, kube-scheduler, etcd]

- name: Restart kube-apiserver and etcd only if they do not reload their new certificates by themselves
  kubepki.lifecycle.static_pod_restart:
    names: [kube-controller-manager, kube-scheduler]
    unless_reloaded: [kube-apiserver, etcd]
    reload_timeout: 75

- name: Restore what an interrupted run left out
  kubepki.lifecycle.static_pod_restart:
    state: restored
"""

RETURN = r"""
pods:
  description: What was done with each pod, also when the module fails.
  returned: always, unless nothing was begun
  type: list
  elements: dict
  contains:
    name:
      description: The component.
      type: str
    action:
      description:
        - V(restarted), V(reloaded) (it took its certificates up by itself), V(restored) (a manifest that was missing is back) or
          V(kept) (nothing was done with it).
      type: str
    down_seconds:
      description: How long it did not serve. For kube-apiserver counted from when it stopped listening.
      type: float
    seconds:
      description: How long it took, from beginning to proof.
      type: float
    container_before:
      description: The old container's ID, or its process where the control groups do not tell it.
      type: str
    container_after:
      description: The same of the new one.
      type: str
    proof:
      description: What was observed, one line each, with the seconds since the manifest was moved out.
      type: list
      elements: str
  sample:
    - name: kube-scheduler
      action: restarted
      down_seconds: 1.1
      seconds: 1.4
      container_before: aa625919d3bfa4473b5e27782b2fff86aca6032dfaffa55828cd610080c95ef2
      container_after: 02df5d80e8363f3a5a5dfc6f03c8d8a0cbb9eb2497e9e4e23898e498ce440f35
      proof:
        - "0.05 s: aa625919d3bfa4473b5e27782b2fff86aca6032dfaffa55828cd610080c95ef2 has ended"
        - "0.94 s: 02df5d80e8363f3a5a5dfc6f03c8d8a0cbb9eb2497e9e4e23898e498ce440f35 runs (pid 4711)"
        - "1.38 s: https://127.0.0.1:10259/healthz answers 200"
restored:
  description: Manifests that an earlier run had left out and that were restored.
  returned: success
  type: list
  elements: str
  sample: []
recovered:
  description:
    - Whether a killed run was replacing files - V(finished) or V(undone), and V(nothing) where none was.
  returned: with O(state=restored)
  type: str
  sample: nothing
missing:
  description: What O(skip_missing) passed over, because the node has no manifest of it.
  returned: success, when O(state) is V(restarted)
  type: list
  elements: str
  sample: [etcd]
seconds:
  description: How long the module took.
  returned: always
  type: float
  sample: 1.5
"""

import os
from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import runner
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts, manifests
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node import containers
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.static_pod import parked, pod_restart, selection


def restart(module: AnsibleModule) -> Dict[str, Any]:
    """Restart the static pods and return the module's result. Raise PkiError."""
    options = module.params
    if options["state"] == "restored":
        return _restore(module, options)
    layout = layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"])
    options["manifest_dir"] = options["manifest_dir"] or layout.manifest_dir
    names = options["names"] + [name for name in options["unless_reloaded"] if name not in options["names"]]
    if not names:
        raise PkiError("names is empty, and so is unless_reloaded", fix="Name the static pods to restart.")
    missing = []
    if options["skip_missing"]:
        there = selection.names_with_manifest(names, options["manifest_dir"], options["state_dir"])
        missing = [name for name in names if name not in there]
        names = there
        for option in ("names", "unless_reloaded"):
            options[option] = [name for name in options[option] if name in there]
    if not names:
        result = {"changed": False, "pods": [], "restored": []}
    elif module.check_mode:
        result = _plan(names, options)
    else:
        result = _restart_pods(module, options, layout)
    # Not "skipped": Ansible would take the whole task for skipped.
    return dict(result, missing=missing)


def _restart_pods(module: AnsibleModule, options: Dict[str, Any], layout: layouts.Layout) -> Dict[str, Any]:
    result = pod_restart.restart_pods(
        options["names"],
        options["manifest_dir"],
        options["state_dir"],
        options["unless_reloaded"],
        options["reload_timeout"],
        options["timeout"],
        containers.Runtime.of(layout),
        options["edits"],
        options["kubernetes_dir"],
    )
    result["changed"] = result["changed"] or bool(result["restored"])
    if module._diff:
        result["diff"] = {
            "before": {pod["name"]: pod["container_before"] for pod in result["pods"]},
            "after": {pod["name"]: pod["container_after"] or pod["container_before"] for pod in result["pods"]},
        }
    return result


def _restore(module: AnsibleModule, options: Dict[str, Any]) -> Dict[str, Any]:
    if module.check_mode:
        missing, files = parked.pending(options["state_dir"]), "nothing"
    else:
        items, files = pod_restart.restore(options["state_dir"])
        missing = [item["path"] for item in items if item["action"] == "restored"]
    pods = [_row(os.path.splitext(os.path.basename(path))[0], "restored") for path in missing]
    return {"changed": bool(missing) or files != "nothing", "restored": missing, "recovered": files, "pods": pods}


def _plan(names: List[str], options: Dict[str, Any]) -> Dict[str, Any]:
    missing = parked.pending(options["state_dir"])
    absent = {os.path.splitext(os.path.basename(path))[0] for path in missing}
    chosen, everything, warnings = selection.select_manifests(
        [name for name in names if name not in absent], options["manifest_dir"]
    )
    kept = selection.up_to_date(
        [item for item in chosen if not manifests.called(item, options["names"])], everything, options["kubernetes_dir"]
    )
    pods = [_row(item.component, "kept" if item.path in kept else "restarted") for item in chosen]
    pods += [_row(name, "restored") for name in sorted(absent)]
    return {"changed": any(pod["action"] != "kept" for pod in pods), "restored": missing, "pods": pods, "warnings": warnings}


def _row(name: str, action: str) -> Dict[str, Any]:
    return {
        "name": name,
        "action": action,
        "down_seconds": 0.0,
        "seconds": 0.0,
        "container_before": None,
        "container_after": None,
        "proof": [],
    }


def main() -> None:
    """Run the module."""
    spec = runner.path_options("kubernetes_dir", "kubelet_dir", "state_dir")
    spec.update(
        names={"type": "list", "elements": "str", "default": []},
        unless_reloaded={"type": "list", "elements": "str", "default": []},
        skip_missing={"type": "bool", "default": False},
        reload_timeout={"type": "int", "default": 75},
        state={"type": "str", "choices": ["restarted", "restored"], "default": "restarted"},
        manifest_dir={"type": "path"},
        edits={"type": "dict", "default": {}},
        timeout={"type": "int", "default": 180},
    )
    runner.run(AnsibleModule(argument_spec=spec, supports_check_mode=True), restart, needs=("yaml",))


if __name__ == "__main__":
    main()
