#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_pki
short_description: The phase of a CA rotation, derived from all nodes, and the plan to the next
version_added: 0.1.0
description:
  - Without O(nodes), reads the authorities of the node it runs on and returns RV(node), the facts that a phase is derived from -
    digests and names, no key material.
  - With O(nodes), the facts of all nodes, derives the phase of each authority, explains it, and plans the way to O(target). That
    is done on the controller.
  - The phase is stored nowhere, so that any run on any controller knows where an interrupted one stopped. A state that cannot be
    explained is named and refused with the evidence.
  - Reads only.
options:
  nodes:
    description: RV(node) of every node of the cluster.
    type: list
    elements: dict
  hosts:
    description:
      - With O(nodes), the host that each of them came from, in the same order. What a node says about its name and role is then
        checked against the inventory.
    type: list
    elements: str
  names:
    description: The authorities to look at.
    type: list
    elements: str
    choices: [ca, front-proxy-ca, etcd-ca, sa]
    default: [ca, front-proxy-ca, etcd-ca, sa]
  named:
    description:
      - With O(nodes), whether a person asked for O(names). Otherwise the authority of an external etcd is left out of the plan,
        where it would be refused.
    type: bool
    default: true
  target:
    description:
      - With O(nodes), where to plan to. V(status) plans nothing.
      - V(all) goes on with what is under way until it is complete; where nothing is, it plans all three phases.
    type: str
    choices: [status, prepare, switch, complete, rollback, all]
    default: status
  dependents:
    description: Without O(nodes), also say what on this node still depends on an authority other than the one that signs.
    type: bool
    default: false
  prove:
    description:
      - Without O(nodes), ask the components of this node with a client certificate of each authority, and fail unless all of them
        say the right thing. V(accepted) shows one of the staged successor, or of the authority that signs; it has to be let
        in. V(refused) shows one of the authority that was dropped, which M(kubepki.lifecycle.cert_ca) has left for that.
    type: str
    choices: [accepted, refused]
  prove_by:
    description: With O(prove), the components that are asked. A kubelet that was not restarted takes up to a minute to follow.
    type: list
    elements: str
    choices: [apiserver, etcd-server, kubelet]
    default: [apiserver, etcd-server, kubelet]
  mounted_timeout:
    description:
      - Without O(nodes), wait up to so many seconds until every pod of the node has its whole cluster trust in its mounted
        C(ca.crt), which the kubelet updates within about a minute and a half. 0 does not look.
    type: int
    default: 0
  mounted_ca:
    description:
      - With O(mounted_timeout), which authority these files have to hold, by the digest of its key. All that this
        node trusts by default, of which a pod may rightly lack the one that is being dropped.
    type: str
  former_sa:
    description:
      - With O(mounted_timeout), also wait until no pod of this node has a token mounted that this service-account key signed,
        given by its digest, and no kubeconfig of a CNI plugin (C(/etc/cni/net.d/*kubeconfig*)) holds one. A client with such a
        token is refused once the key is dropped.
    type: str
  mounted_bundles:
    description:
      - With O(mounted_timeout), also wait until these files of ClusterTrustBundle volumes hold the same, as
        RV(kubepki.lifecycle.internal.api_dependents#module:bundle_files) gives them for this node. Kubelets look every
        five minutes, which
        are added to O(mounted_timeout).
    type: list
    elements: dict
    default: []
attributes:
  check_mode:
    description: Changes nothing in any mode.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
author:
  - The kubepki.lifecycle authors (@kubepki)
seealso:
  - module: kubepki.lifecycle.cert_ca
extends_documentation_fragment:
  - kubepki.lifecycle.node
  - kubepki.lifecycle.node.state
"""

EXAMPLES = r"""
- name: Read every node
  kubepki.lifecycle.cluster_pki:
  register: read

- name: Where the cluster stands, and what a whole rotation would do
  kubepki.lifecycle.cluster_pki:
    nodes: "{{ ansible_play_hosts | map('extract', hostvars, ['read', 'node']) | list }}"
    hosts: "{{ ansible_play_hosts }}"
    target: all
  run_once: true
  register: cluster
"""

RETURN = r"""
node:
  description: The facts of the node.
  returned: without O(nodes)
  type: dict
proven:
  description: What was asked and seen - C(authority), C(endpoint), C(seen), C(right).
  returned: with O(prove)
  type: list
  elements: dict
mounted:
  description:
    - C(files), how many service accounts' C(ca.crt) the pods of the node have mounted. All have what was waited for.
  returned: with O(mounted_timeout)
  type: dict
dependents:
  description: What on the node still depends on another authority than the one that signs - C(what), C(path), C(why).
  returned: with O(dependents)
  type: list
  elements: dict
cluster_dependents:
  description: With O(nodes) that were read with O(dependents), what on them only all nodes together show - C(node), C(what),
    C(path), C(why). These are kubeconfigs of CNI plugins whose token another service-account key signed than the one that signs.
  returned: with O(nodes)
  type: list
  elements: dict
phase:
  description: The phase of each authority.
  returned: with O(nodes)
  type: dict
  sample: {"ca": "prepared", "etcd-ca": "stable"}
names:
  description: The authorities that the plan is for.
  returned: with O(nodes)
  type: list
  elements: str
authorities:
  description: The whole derivation of each authority - C(phase), C(old), C(new), C(levels), C(pending), C(behind), C(evidence).
  returned: with O(nodes)
  type: dict
explanation:
  description: The same for people, line by line.
  returned: with O(nodes)
  type: list
  elements: str
plan:
  description: The steps to O(target), in order.
  returned: with O(nodes)
  type: list
  elements: dict
plan_text:
  description: The same for people, line by line.
  returned: with O(nodes)
  type: list
  elements: str
phases:
  description: The phases that the plan goes through, in order.
  returned: with O(nodes)
  type: list
  elements: str
work:
  description: What each of these phases concerns - C(names), its authorities, and C(nodes), those of each node.
  returned: with O(nodes)
  type: dict
  sample: {"switch": {"names": ["ca", "sa"], "nodes": {"cp1": ["ca", "sa"], "w1": ["ca"]}}}
holders:
  description: The node that gives each authority's successor to the others.
  returned: with O(nodes)
  type: dict
known:
  description:
    - What the nodes show together of each of RV(names) - C(old) and C(new), the digests of its keys, and C(drop), those that some
      trust and nobody should, for O(kubepki.lifecycle.cert_ca#module:known).
  returned: with O(nodes)
  type: dict
new_clients:
  description: The nodes whose kubelets get a new client certificate in the first of these phases.
  returned: with O(nodes)
  type: list
  elements: str
seconds:
  description: How long the module took.
  returned: always
  type: float
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import runner
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import reading
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts, pki_tree
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node import pod_volumes
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.rotation import ca_store, client_acceptance, stale_trust

# A kubelet keeps ClusterTrustBundles for five minutes (pkg/kubelet/clustertrustbundle), and looks at a pod every minute.
BUNDLE_SECONDS = 390


def look(module):
    """Do what the options say and give the module's result. Raises PkiError."""
    options = module.params
    layout = layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"])
    tree = pki_tree.read_tree(layout)
    result = {"changed": False, "node": ca_store.facts(tree, options["state_dir"])}
    if options["dependents"]:
        result["dependents"] = stale_trust.find(tree)
        result["node"]["tokens"] = pod_volumes.cni_tokens(layout)
    if options["prove"]:
        result["proven"] = _proven(layout, options)
    if options["mounted_timeout"]:
        result["mounted"] = _mounted(layout, options)
    return result


def _proven(layout, options):
    accepted = options["prove"] == "accepted"
    # What reloads by itself does so within a minute (kube-apiserver 1.20).
    deadline = time.monotonic() + 75
    while True:
        found = client_acceptance.prove(layout, options["names"], accepted, options["state_dir"], options["prove_by"])
        wrong = [item for item in found if not item["right"]]
        if not wrong:
            return found
        if time.monotonic() > deadline:
            raise PkiError(
                "a client of %s is %s (%s), where it has to be %s"
                % (wrong[0]["authority"], "refused" if accepted else "let in", wrong[0]["seen"], options["prove"]),
                path=wrong[0]["endpoint"],
                fix="Restart that component (playbook restart_static_pods), then run again.",
            )
        time.sleep(1)


def _mounted(layout, options):
    seconds, needed, former = options["mounted_timeout"], options["mounted_ca"], options["former_sa"]
    deadline = time.monotonic() + seconds
    path = layout.paths["ca"][0] if "ca" in layout.paths else ca_store.places(layout, "ca", ca_store.CURRENT)[0]
    bundle = reading.read(path)
    while True:
        count, lagging = pod_volumes.lagging(layout, bundle, needed)
        tokens = pod_volumes.tokens(layout, former) if former else []
        plugins = pod_volumes.cni_signed_by(layout, former) if former else []
        published = pod_volumes.lagging_bundles(layout, bundle, needed, options["mounted_bundles"])
        late = time.monotonic() - deadline
        if not lagging + tokens + plugins + published or late > (0 if lagging + tokens + plugins else BUNDLE_SECONDS):
            break
        time.sleep(0.5)
    if lagging:
        raise PkiError(
            "%d of %d pods still have another ca.crt mounted after %d s" % (len(lagging), count, seconds),
            path=lagging[0],
            fix="See whether the kubelet works and kube-root-ca.crt of its namespace follows.",
        )
    if tokens:
        raise PkiError(
            "%d pods still have a token of the former service-account key mounted after %d s, and would be refused"
            % (len(tokens), seconds),
            path=tokens[0],
            fix="Restart these pods, or wait until the kubelet has renewed their tokens (within the hour), and run again.",
        )
    if plugins:
        raise PkiError(
            "the CNI plugin still has a token of the old service-account key after %d s: no pod would start on "
            "this node" % seconds,
            path=plugins[0],
            fix="Restart the DaemonSet of the CNI plugin (kubectl rollout restart), which writes the file again, and run again.",
        )
    if published:
        raise PkiError(
            "%d volumes with a ClusterTrustBundle still have other certificates after %d s"
            % (len(published), seconds + BUNDLE_SECONDS),
            path=published[0],
            fix="See whether the kubelet works and what kubectl get clustertrustbundles shows; restarting the pod helps, too.",
        )
    return {"files": count}


def main():
    """Run the module."""
    spec = runner.path_options("kubernetes_dir", "kubelet_dir", "state_dir")
    names, components = ["ca", "front-proxy-ca", "etcd-ca", "sa"], list(client_acceptance.COMPONENTS)
    spec.update(
        nodes={"type": "list", "elements": "dict"},
        hosts={"type": "list", "elements": "str"},
        names={"type": "list", "elements": "str", "choices": names, "default": list(names)},
        target={"type": "str", "choices": ["status", "prepare", "switch", "complete", "rollback", "all"], "default": "status"},
        named={"type": "bool", "default": True},
        dependents={"type": "bool", "default": False},
        prove={"type": "str", "choices": ["accepted", "refused"]},
        prove_by={"type": "list", "elements": "str", "choices": components, "default": components},
        mounted_timeout={"type": "int", "default": 0},
        mounted_ca={"type": "str"},
        former_sa={"type": "str"},
        mounted_bundles={"type": "list", "elements": "dict", "default": []},
    )
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    runner.run(module, look)


if __name__ == "__main__":
    main()
