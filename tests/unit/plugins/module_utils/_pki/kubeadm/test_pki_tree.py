# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import re

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.endpoint import discovery
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue, kubelet_settings, layouts, pki_tree
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.support import throwaway

KUBEADM_ROWS = {
    "admin.conf",
    "apiserver",
    "apiserver-etcd-client",
    "apiserver-kubelet-client",
    "controller-manager.conf",
    "etcd-healthcheck-client",
    "etcd-peer",
    "etcd-server",
    "front-proxy-client",
    "scheduler.conf",
    "ca",
    "etcd-ca",
    "front-proxy-ca",
}


@pytest.fixture
def node(tmp_path):
    return throwaway.Node(tmp_path)


def read(node):
    return pki_tree.read_tree(layouts.find_layout(root=str(node.root)))


def test_a_control_plane_has_kubeadms_rows_and_the_kubelets(node):
    tree = read(node)
    assert set(tree.items) == KUBEADM_ROWS | {"kubelet-client", "kubelet-serving"}
    layout = tree.layout
    assert (layout.role, layout.node_name, layout.minor, layout.advertise_address) == ("control-plane", "cp1", 20, "10.0.0.1")
    assert layout.control_plane_endpoint == throwaway.ENDPOINT
    assert layout.problems == [] and layout.foreign == []
    assert set(layout.manifests) == set(catalogue.STATIC_PODS)
    assert layout.flags["etcd"]["--cert-file"] == "/etc/kubernetes/pki/etcd/server.crt"
    for item in tree.items.values():
        assert item.problem is None and item.key_problem is None and not item.missing and not item.externally_managed
        assert item.key_sha256 == item.certificate.key_sha256
        assert item.kind == catalogue.CA or item.name == "kubelet-serving" or tree.signer(item) is not None
    assert tree.sa[0] in tree.sa[1]


def test_a_worker_has_only_the_kubelets(tmp_path):
    tree = read(throwaway.Node(tmp_path, name="w1", role="worker"))
    assert set(tree.items) == {"kubelet-client", "kubelet-serving", "ca"}
    assert tree.layout.role == "worker" and tree.layout.node_name == "w1" and tree.sa == (None, [])
    assert not tree.items["ca"].externally_managed and not tree.items["kubelet-client"].externally_managed


def test_an_external_etcd_node_has_only_etcds(tmp_path):
    tree = read(throwaway.Node(tmp_path, role="etcd"))
    assert tree.layout.role == "etcd"
    assert set(tree.items) == {"etcd-ca", "etcd-server", "etcd-peer", "etcd-healthcheck-client"}


def test_with_an_external_etcd_only_the_named_client_certificate_is_there(tmp_path):
    node = throwaway.Node(tmp_path, etcd=False)
    assert set(read(node).items) & set(layouts.ETCD_NAMES) == set()
    node.write("/srv/etcd.crt", node.cluster.leaf("apiserver-etcd-client", "cp1", "10.0.0.1")[0].pem)
    node.write("/srv/ca.crt", node.cluster.cas["etcd-ca"].pem)
    node.manifest(
        "kube-apiserver", ["--etcd-certfile=/srv/etcd.crt", "--etcd-keyfile=/srv/etcd.key", "--etcd-cafile=/srv/ca.crt"]
    )
    tree = read(node)
    assert tree.items["apiserver-etcd-client"].path == str(node.path("/srv/etcd.crt"))
    assert tree.items["apiserver-etcd-client"].externally_managed and tree.items["etcd-ca"].externally_managed


def test_an_external_etcd_is_known_by_where_the_apiserver_goes(tmp_path):
    assert read(throwaway.Node(tmp_path / "stacked")).layout.external_etcd is None
    assert read(throwaway.Node(tmp_path / "worker", role="worker")).layout.external_etcd is None
    node = throwaway.Node(tmp_path / "outside", etcd=False)
    assert read(node).layout.external_etcd is None  # nothing is said of any
    node.manifest("kube-apiserver", ["--etcd-servers=https://10.0.0.9:2379,https://10.0.0.8:2379"])
    assert read(node).layout.external_etcd == "https://10.0.0.9:2379,https://10.0.0.8:2379"


def test_a_worker_that_keeps_certificates_of_an_etcd_stays_a_worker(tmp_path):
    node = throwaway.Node(tmp_path, name="w1", role="worker")
    node.write("/etc/kubernetes/pki/etcd/server.crt", node.cluster.leaf("etcd-server", "w1", "10.0.0.1")[0].pem)
    tree = read(node)
    assert tree.layout.role == "worker" and "ca" in tree.items
    assert [item.path for item in tree.others] == [str(node.path("/etc/kubernetes/pki/etcd/server.crt"))]


def test_super_admin_is_listed_from_1_29_on(tmp_path):
    tree = read(throwaway.Node(tmp_path, minor=29))
    assert tree.items["super-admin.conf"].missing


def test_an_empty_node_has_no_role(tmp_path):
    tree = pki_tree.read_tree(layouts.find_layout(root=str(tmp_path)))
    assert tree.layout.role == "none" and tree.items == {}


def test_flags_win_over_defaults(node):
    certificate, key = node.cluster.leaf("apiserver", "cp1", "10.0.0.1", leaf_key=throwaway.key("moved"))
    node.write("/srv/api.crt", certificate.pem)
    node.write("/srv/api.key", key.pem)
    node.manifest(
        "kube-apiserver",
        [
            "--tls-cert-file=/srv/api.crt",
            "--tls-private-key-file=/srv/api.key",
            "--service-account-key-file=/srv/one.pub",
            "--service-account-key-file=/srv/two.pub",
        ],
    )
    tree = read(node)
    item = tree.items["apiserver"]
    assert (item.path, item.key_path) == (str(node.path("/srv/api.crt")), str(node.path("/srv/api.key")))
    assert item.certificate.sha256 == certificate.sha256 and item.key_sha256 == certificate.key_sha256
    assert tree.layout.sa_pub == [str(node.path("/srv/one.pub")), str(node.path("/srv/two.pub"))]


def test_certificates_in_a_directory_of_ones_own_are_found_with_all_their_keys(tmp_path):
    usual, other = read(throwaway.Node(tmp_path / "a", throwaway.Cluster())), throwaway.Node(tmp_path / "b", throwaway.Cluster())
    other.move_pki("/etc/ssl/k8s")
    other = read(other)

    def paths(tree, directory):
        where = {
            name: [path and os.path.relpath(path, tree.layout.root) for path in pair] for name, pair in tree.layout.paths.items()
        }
        return json.dumps(
            [where, [os.path.relpath(path, tree.layout.root) for path in [tree.layout.sa_key, *tree.layout.sa_pub]]]
        ).replace(directory, "PKI")

    assert other.layout.role == layouts.CONTROL_PLANE
    assert paths(other, "etc/ssl/k8s") == paths(usual, "etc/kubernetes/pki")
    assert not [
        item.name
        for item in other.items.values()
        if item.externally_managed or item.key_missing or (item.missing and item.name != "super-admin.conf")
    ]
    assert [error.message for error in other.sa_problems] == [] and other.others == []


@pytest.mark.parametrize("flag", ["--client-ca-file=/etc/ssl/k8s/ca.crt", "--tls-cert-file=/etc/ssl/k8s/apiserver.crt"])
def test_one_file_that_lies_elsewhere_moves_no_other(node, flag):
    manifest = node.kubernetes("manifests/kube-apiserver.yaml")
    name = flag.split("=")[0]
    manifest.write_text(re.sub("%s=.*" % name, flag, manifest.read_text()))
    layout = read(node).layout
    assert layout.pki_dir == str(node.kubernetes("pki"))
    assert layout.paths["front-proxy-ca"] == tuple(str(node.kubernetes("pki/front-proxy-ca" + end)) for end in (".crt", ".key"))


def test_another_name_for_the_usual_directory_changes_no_path(node):
    os.symlink("kubernetes", node.path("/etc/also"))
    manifest = node.kubernetes("manifests/kube-apiserver.yaml")
    manifest.write_text(manifest.read_text().replace("/etc/kubernetes/pki", "/etc/also/pki"))
    assert read(node).layout.pki_dir == str(node.kubernetes("pki"))


def test_the_kubelets_unit_says_where_its_files_are(node):
    node.write("/lib/systemd/system/kubelet.service", "[Service]\nExecStart=/usr/bin/kubelet\n")
    node.write(
        "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf",
        '[Service]\nEnvironment="A=--config=/srv/kubelet.yaml"\n'
        "EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env\nEnvironmentFile=-/etc/default/kubelet\nExecStart=\n"
        "ExecStart=/usr/bin/kubelet --kubeconfig=/srv/kubelet.conf $A ${KUBELET_KUBEADM_ARGS} $NOT_SET\n",
    )
    node.write(
        "/var/lib/kubelet/kubeadm-flags.env",
        'KUBELET_KUBEADM_ARGS="--cert-dir=/srv/pki --hostname-override=Other --node-ip=10.7.7.7"\n',
    )
    node.write(
        "/srv/kubelet.yaml",
        "staticPodPath: /srv/static/\ntlsCertFile: /srv/serving.crt\ntlsPrivateKeyFile: /srv/serving.key\nport: 10999\n",
    )
    node.write("/srv/kubelet.conf", node.kubernetes("kubelet.conf").read_bytes())
    layout = layouts.find_layout(root=str(node.root))

    def at(path):
        return str(node.path(path))

    assert layout.node_name == "other"
    assert layout.manifest_dir == at("/srv/static")
    assert layout.kubelet["cert_dir"] == at("/srv/pki") and layout.kubelet["kubeconfig_path"] == at("/srv/kubelet.conf")
    assert (layout.kubelet["serving_cert"], layout.kubelet["serving_key"]) == (at("/srv/serving.crt"), at("/srv/serving.key"))
    assert layout.kubelet["port"] == 10999 and layout.advertise_address == "10.7.7.7"


def test_a_serving_certificate_from_the_cluster_is_in_another_file(node):
    node.write("/var/lib/kubelet/config.yaml", "serverTLSBootstrap: true\nstaticPodPath: /etc/kubernetes/manifests\n")
    certificate, key = node.cluster.leaf("kubelet-serving", "cp1", "10.0.0.1")
    node.write("/var/lib/kubelet/pki/kubelet-server-current.pem", certificate.pem + key.pem)
    tree = read(node)
    item = tree.items["kubelet-serving"]
    assert item.path.endswith("kubelet-server-current.pem") and item.key_sha256 == item.certificate.key_sha256
    assert tree.signer(item).subject == "CN=kubernetes"


def test_a_kubeconfig_that_points_to_files_is_followed(node):
    text = node.kubernetes("scheduler.conf").read_text()
    certificate, key = node.cluster.leaf("scheduler.conf", "cp1", "10.0.0.1", leaf_key=throwaway.key("file"))
    node.write("/etc/kubernetes/files/s.crt", certificate.pem)
    node.write("/etc/kubernetes/files/s.key", key.pem)
    text = re.sub("client-certificate-data: .*", "client-certificate: files/s.crt", text)
    text = re.sub("client-key-data: .*", "client-key: files/s.key", text)
    node.write("/etc/kubernetes/scheduler.conf", text)
    item = read(node).items["scheduler.conf"]
    assert item.problem is None and item.certificate.sha256 == certificate.sha256 and item.key_sha256 == certificate.key_sha256


def test_an_external_ca_is_one_without_its_key(node):
    os.unlink(node.kubernetes("pki/etcd/ca.key"))
    items = read(node).items
    external = {name for name, item in items.items() if item.externally_managed}
    assert external == {"etcd-ca", "etcd-server", "etcd-peer", "etcd-healthcheck-client", "apiserver-etcd-client"}


def test_a_bundle_is_read_whole_and_its_first_is_the_signer(node):
    new = ca_sign.build_ca("kubernetes", throwaway.key("new"), 10)
    node.write("/etc/kubernetes/pki/ca.crt", node.cluster.cas["ca"].pem + new.pem, 0o644)
    tree = read(node)
    assert [ca.sha256 for ca in tree.ca_bundle("ca")] == [node.cluster.cas["ca"].sha256, new.sha256]
    assert tree.items["ca"].certificate.sha256 == node.cluster.cas["ca"].sha256


# --- bad input: each file of a node, damaged in each way: a problem that names it, and never a traceback -------------------

DAMAGES = {
    "empty": b"",
    "text": b"hello\n",
    "binary": bytes(range(256)) * 4,
    "half a PEM": b"-----BEGIN CERTIFICATE-----\nMIIB\n",
    "PEM of nonsense": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    "YAML bomb": b"a: &a [x,x]\nb: *a\nc: !!python/object:os.system {}\n",
    "YAML list": b"- a\n- b\n",
    "deep": b"[" * 5000,
}
FILES = [
    "pki/apiserver.crt",
    "pki/apiserver.key",
    "pki/ca.crt",
    "pki/ca.key",
    "admin.conf",
    "kubelet.conf",
    "pki/sa.pub",
    "pki/sa.key",
    "manifests/kube-apiserver.yaml",
    "manifests/etcd.yaml",
]


@pytest.mark.parametrize("damage", sorted(DAMAGES) + ["directory"])
@pytest.mark.parametrize("name", FILES + ["/var/lib/kubelet/config.yaml", "/var/lib/kubelet/pki/kubelet-client-current.pem"])
def test_a_damaged_file_is_a_problem_that_names_it(node, name, damage):
    path = node.path(name) if name.startswith("/") else node.kubernetes(name)
    os.unlink(path)
    if damage == "directory":
        path.mkdir()
    else:
        path.write_bytes(DAMAGES[damage])
    tree = read(node)
    problems = tree.layout.problems + tree.sa_problems
    for item in tree.items.values():
        problems += [problem for problem in (item.problem, item.key_problem) if problem is not None]
    try:
        tree.layout.reader.kubeconfig(tree.layout.kubelet["kubeconfig_path"])
    except PkiError as error:
        problems.append(error)
    # A directory among the manifests is nothing to the kubelet, and so nothing to us: the manifest is missing.
    if damage == "directory" and name.startswith("manifests/"):
        assert os.path.splitext(path.name)[0] not in tree.layout.manifests
    else:
        assert str(path) in [problem.path for problem in problems]
    assert all(problem.fix for problem in problems if problem.path == str(path))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FILES), data=st.data())
def test_any_cut_or_flip_of_a_file_is_survived(tmp_path_factory, name, data):
    node = _shared(tmp_path_factory)
    path = node.kubernetes(name)
    original = path.read_bytes()
    content = bytearray(original)
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        path.write_bytes(bytes(content))
        tree = read(node)
        assert tree.layout.role == "control-plane"
    finally:
        path.write_bytes(original)


_NODE: list = []


def _shared(factory):
    if not _NODE:
        _NODE.append(throwaway.Node(factory.mktemp("node")))
    return _NODE[0]


def test_the_running_kubelet_is_found_by_its_files(tmp_path, monkeypatch):
    layout = layouts.Layout("/etc/kubernetes", "/var/lib/kubelet", None)
    assert kubelet_settings._is_of(layout, ["kubelet", "--config=/var/lib/kubelet/config.yaml"])
    assert not kubelet_settings._is_of(layout, ["kubelet", "--config=/srv/other/config.yaml", "--kubeconfig=/srv/kubelet.conf"])


@pytest.mark.parametrize("value", ["[1]", "{a: b}", "3", "true"])
def test_values_of_another_kind_in_the_kubelets_configuration_are_passed_over(node, value):
    keys = ("address", "port", "staticPodPath", "tlsCertFile", "authentication", "healthzPort", "clusterDomain")
    node.write("/var/lib/kubelet/config.yaml", "".join("%s: %s\n" % (key, value) for key in keys))
    layout = layouts.find_layout(root=str(node.root))
    assert layout.kubelet["address"] == "0.0.0.0" and layout.manifest_dir.endswith("/etc/kubernetes/manifests")
    assert [each for each in discovery.endpoints(layout) if each.component == "kubelet"]
