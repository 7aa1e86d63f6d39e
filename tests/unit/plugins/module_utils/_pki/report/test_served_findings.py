# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.endpoint import discovery
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import served_findings
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign

from tests.unit.support import throwaway
from tests.unit.support.node_checks import from_the_future, tree_of


def findings_of_served(node, served):
    tree = tree_of(node)
    return served_findings.check(tree, discovery.endpoints(tree.layout), served)


def test_what_is_on_disk_is_what_is_served(node):
    tree = tree_of(node)
    served = {"apiserver": tree.items["apiserver"].certificate, "etcd-server": tree.items["etcd-server"].certificate}
    assert findings_of_served(node, served) == []


def test_an_old_certificate_that_is_still_served(node):
    old = tree_of(node).items["apiserver"].certificate
    node.issue("apiserver", leaf_key=throwaway.key("renewed"))
    (one,) = findings_of_served(node, {"apiserver": old})
    assert (one["severity"], one["code"], one["path"]) == ("warning", "served-differs", "127.0.0.1:6443")
    node.issue("apiserver", days=2)
    ending = tree_of(node).items["apiserver"].certificate
    node.issue("apiserver")
    (one,) = findings_of_served(node, {"apiserver": ending})
    assert one["severity"] == "error" and "restart_static_pods" in one["fix"]


def test_an_endpoint_that_is_down(node):
    (one,) = findings_of_served(node, {"kubelet": PkiError("connection refused", path="127.0.0.1:10250")})
    assert (one["severity"], one["code"]) == ("error", "kubelet-down") and "connection refused" in one["message"]
    assert "systemctl status kubelet" in one["fix"]
    (one,) = findings_of_served(node, {"scheduler": PkiError("connection refused", path="127.0.0.1:10259")})
    assert (one["severity"], one["code"]) == ("error", "endpoint-down") and one["fix"]


def test_a_certificate_made_in_memory_ends_as_well(node):
    made = ca_sign.build_ca("localhost@1", throwaway.key("memory"), 2)
    (one,) = findings_of_served(node, {"scheduler": made})
    assert one["code"] == "expires-soon" and "kube-scheduler" in one["fix"]


def test_an_endpoint_that_serves_a_certificate_from_the_future(node):
    endpoint = discovery.Endpoint("kube-scheduler", "kube-scheduler", "127.0.0.1", 10259)
    found = served_findings.check(tree_of(node), [endpoint], {"kube-scheduler": from_the_future(node)})
    assert [(one["severity"], one["code"], one["path"]) for one in found] == [("error", "not-yet-valid", endpoint.address)]
