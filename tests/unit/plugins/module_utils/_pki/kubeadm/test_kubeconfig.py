# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubeconfigs are read as client-go reads them, and edited without losing anything."""

from __future__ import annotations

import base64

import pytest
import yaml
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm.kubeconfig import (
    Kubeconfig,
    OtherClusterError,
    build,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.support import throwaway

TWO = """\
# mine
apiVersion: v1
kind: Config
current-context: second
contexts:
- {name: first, context: {cluster: one, user: a}}
- name: second
  context:
    cluster: two
    user: b
    namespace: kube-system   # stays
clusters:
- name: one
  cluster: {server: "https://one:6443", certificate-authority: ca.crt}
- cluster:
    certificate-authority-data: Q0E=
    server: https://two:6443
    proxy-url: http://proxy:3128
  name: two
users:
- {name: a, user: {client-certificate: a.crt, client-key: /abs/a.key}}
- name: b
  user:
    client-certificate-data: T0xE
    client-key-data: S0VZ
"""


def test_it_is_seen_through_its_current_context():
    config = Kubeconfig(TWO, "/etc/k/c.conf")
    assert (config.server, config.user, config.cluster) == ("https://two:6443", "b", "two")
    assert (config.ca_data, config.certificate_data, config.key_data) == (b"CA", b"OLD", b"KEY")
    config = Kubeconfig(TWO.replace("current-context: second", "current-context: first"), "/etc/k/c.conf")
    assert (config.ca_file, config.certificate_file, config.key_file) == ("/etc/k/ca.crt", "/etc/k/a.crt", "/abs/a.key")
    assert config.certificate_data is None


def test_base64_may_have_line_breaks():
    """Go's decoder passes over CR and LF, and over nothing else (encoding/base64)."""
    text = TWO.replace("client-key-data: S0VZ", 'client-key-data: "S0\\r\\nVZ\\n"').replace(
        "client-certificate-data: T0xE\n", "client-certificate-data: |\n      T0\n      xE\n"
    )
    config = Kubeconfig(text, "f")
    assert (config.certificate_data, config.key_data) == (b"OLD", b"KEY")
    assert config.with_client(b"NEW", b"KEY2").certificate_data == b"NEW"
    with pytest.raises(PkiError, match="is not base64"):
        Kubeconfig(TWO.replace("S0VZ", "S0 VZ"), "f")


def test_of_several_documents_the_first_is_read():
    config = Kubeconfig(TWO + "---\n" + TWO.replace("current-context: second", "current-context: first"), "f")
    assert config.user == "b"
    assert bytes(config.with_server("https://x:1")).decode().endswith(TWO.partition("current-context: second")[2])


def test_edits_change_their_lines_only():
    config = Kubeconfig(TWO, "f")
    for edited, line in (
        (config.with_client(b"NEW", b"KEY2"), "client-"),
        (config.with_ca(b"CA2"), "certificate-authority-data"),
        (config.with_server("https://x:1"), "server: https://"),
    ):
        old, new = TWO.splitlines(), bytes(edited).decode().splitlines()
        assert len(old) == len(new) and all(line in one for one, other in zip(old, new) if one != other)
        assert old != new
    assert config.with_client(b"NEW", b"KEY2").key_data == b"KEY2"
    assert config.with_ca(b"CA2").ca_data == b"CA2" and config.with_server("https://x:1").server == "https://x:1"


def test_what_is_not_there_is_added():
    text = TWO.replace("    client-certificate-data: T0xE\n    client-key-data: S0VZ\n", "    token: abc\n")
    edited = Kubeconfig(text, "f").with_client(b"C", b"K")
    assert (edited.certificate_data, edited.key_data) == (b"C", b"K")
    assert edited.data["users"][1]["user"]["token"] == "abc"


# Base64 of anything could read as a number in YAML ("1234"); of PEM it cannot.
_PEM = st.binary(max_size=30).map(lambda data: b"-----BEGIN " + data)


@settings(deadline=None)
@given(st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable()), _PEM, _PEM)
def test_what_is_built_reads_back(user, certificate, key):
    text = build("https://10.0.0.1:6443", b"CA", user, certificate, key)
    config = Kubeconfig(text, "f")
    assert (config.user, config.certificate_data, config.key_data, config.ca_data) == (user, certificate, key, b"CA")
    assert config.data["current-context"] == "%s@kubernetes" % user


def test_it_looks_as_kubeadm_writes_it():
    text = build("https://10.0.0.1:6443", b"CA", "kubernetes-admin", b"C", b"K")
    assert "current-context: kubernetes-admin@kubernetes\n" in text and "    server: https://10.0.0.1:6443\n" in text
    assert '"' not in text


@pytest.mark.parametrize(
    "change, word",
    [
        (lambda text: "x: [", "is not YAML"),
        (lambda text: "- a\n", "not a YAML mapping"),
        (lambda text: "", "not a YAML mapping"),
        (lambda text: b"\xff\xfe", "is not text"),
        (lambda text: text.replace("current-context: second", "current-context: third"), "current context 'third' is not among"),
        (lambda text: text.replace("current-context: second", "current-context: [x]"), "current context None"),
        (lambda text: text.replace("cluster: two\n    user", "cluster: [x]\n    user"), "no cluster named None"),
        (lambda text: text.replace("name: b", "name: c"), "no user named 'b'"),
        (lambda text: text.replace("users:", "people:"), "no list of users"),
        (lambda text: text.replace("S0VZ", "not base64!"), "client-key-data is not base64"),
        (lambda text: text.replace("S0VZ", "[1]"), "client-key-data is not a string"),
    ],
)
def test_what_is_wrong_is_named(change, word):
    with pytest.raises(PkiError, match=word) as caught:
        Kubeconfig(change(TWO), "/etc/k/c.conf")
    assert str(caught.value).startswith("/etc/k/c.conf: ")
    assert "not base64!" not in str(caught.value) and "T0xE" not in str(caught.value)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(
            st.sampled_from(["name", "context", "cluster", "user", "server", "client-key-data", "client-certificate"]), inner
        ),
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["current-context", "contexts", "clusters", "users"]), VALUES))
def test_any_mapping_is_a_kubeconfig_or_one_error(data):
    try:
        Kubeconfig(yaml.safe_dump(data), "f")
    except PkiError as error:
        assert "\n" not in str(error)


# --- a kubeconfig of kubeadm's into which other clusters were merged ----------------------------------------------------------

OTHER = throwaway.Cluster(label="another cluster")


@pytest.fixture
def node(tmp_path):
    return throwaway.Node(tmp_path)


def admin_of(node, name="admin.conf"):
    path = node.kubernetes(name)
    return Kubeconfig(path.read_bytes(), str(path))


def entries(node, name="admin.conf"):
    data = yaml.safe_load(node.kubernetes(name).read_text())
    return {kind: {entry["name"]: entry for entry in data[kind]} for kind in ("clusters", "contexts", "users")}


def test_a_merged_admin_conf_is_seen_through_the_context_of_its_own_cluster(node):
    own = admin_of(node)
    node.merge(OTHER)
    merged = admin_of(node)
    assert merged.current == "kubernetes-admin-b@other" and merged.context == "kubernetes-admin@kubernetes"
    assert (merged.server, merged.certificate_data, merged.key_data) == (own.server, own.certificate_data, own.key_data)
    before = entries(node)
    node.kubernetes("admin.conf").write_bytes(bytes(merged.with_client(b"NEW", b"KEY").with_ca(b"CA")))
    after = entries(node)
    for kind, name in (("users", "kubernetes-admin-b"), ("clusters", "other"), ("contexts", "kubernetes-admin-b@other")):
        assert after[kind][name] == before[kind][name]
    assert after["users"]["kubernetes-admin"]["user"]["client-certificate-data"] == "TkVX"
    assert after["clusters"]["kubernetes"]["cluster"]["certificate-authority-data"] == "Q0E="


def test_an_explicit_context_wins(node):
    node.merge(OTHER, current=False)
    path = node.kubernetes("admin.conf")
    assert Kubeconfig(path.read_bytes(), str(path), "kubernetes-admin-b@other").server == "https://other.example:6443"


def test_a_user_who_is_another_clusters_too_is_never_taken(node):
    """kubectl keeps the first of two users with one name: here that of the other cluster."""
    certificate, leaf_key = OTHER.leaf("admin.conf", "cp1", "10.0.0.1")
    node.kubernetes("admin.conf").write_bytes(bytes(admin_of(node).with_client(certificate.pem, leaf_key.pem)))
    node.merge(OTHER, user="kubernetes-admin")
    with pytest.raises(OtherClusterError, match=r"admin\.conf: its user kubernetes-admin is used for another cluster as well"):
        admin_of(node)


def test_a_user_whom_two_clusters_share_is_this_clusters_when_its_ca_signed(node):
    own = admin_of(node)
    node.merge(OTHER, user="kubernetes-admin")
    assert admin_of(node).certificate_data == own.certificate_data


def test_none_of_a_merged_files_entries_is_this_clusters(node):
    path = node.kubernetes("admin.conf")
    node.merge(OTHER)
    node.merge(throwaway.Cluster(label="a third cluster"), user="third")
    data = yaml.safe_load(path.read_text())
    data["clusters"] = [entry for entry in data["clusters"] if entry["name"] != "kubernetes"]
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(OtherClusterError, match=r"admin\.conf: it holds several contexts, and none clearly belongs to "):
        admin_of(node)


@pytest.mark.parametrize("server, found", [("https://" + throwaway.ENDPOINT, True), ("https://127.0.0.1:6443", False)])
def test_where_no_entry_trusts_this_cluster_its_endpoint_tells(node, server, found):
    """A CA that was replaced by hand; a loopback address is one of every cluster's."""
    own = admin_of(node)
    stale = throwaway.Cluster(label="the CA before")
    node.kubernetes("admin.conf").write_bytes(bytes(own.with_ca(stale.cas["ca"].pem).with_server(server)))
    node.merge(OTHER)
    if found:
        assert admin_of(node).user == "kubernetes-admin"
    else:
        with pytest.raises(OtherClusterError, match="none clearly belongs"):
            admin_of(node)


def test_two_administrators_of_this_cluster_behind_another_clusters_current_context(node):
    alice, alice_key = node.cluster.leaf("admin.conf", "cp1", "10.0.0.1")
    node.merge(OTHER)
    path = node.kubernetes("admin.conf")
    data = yaml.safe_load(path.read_text())
    mine = yaml.safe_load(build("https://" + throwaway.ENDPOINT, node.cluster.cas["ca"].pem, "alice", alice.pem, alice_key.pem))
    data["users"] += mine["users"]
    data["contexts"] += mine["contexts"]
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(
        OtherClusterError,
        match=r"contexts of several users belong to .*alice@kubernetes, "
        r"kubernetes-admin@kubernetes.*use-context",
    ):
        admin_of(node)
    data["current-context"] = "alice@kubernetes"  # the remedy
    path.write_text(yaml.safe_dump(data))
    assert admin_of(node).user == "alice"


def test_a_second_address_of_the_same_cluster_gets_the_bundle_too(node):
    path = node.kubernetes("admin.conf")
    data = yaml.safe_load(path.read_text())
    direct = {"name": "direct", "cluster": dict(data["clusters"][0]["cluster"], server="https://10.0.0.1:6443")}
    data["clusters"].append(direct)
    data["contexts"].append({"name": "direct", "context": {"cluster": "direct", "user": "kubernetes-admin"}})
    path.write_text(yaml.safe_dump(data))
    node.merge(OTHER)
    theirs = entries(node)["clusters"]["other"]
    path.write_bytes(bytes(admin_of(node).with_ca(b"CA")))
    after = entries(node)["clusters"]
    assert {after[name]["cluster"]["certificate-authority-data"] for name in ("kubernetes", "direct")} == {"Q0E="}
    assert after["other"] == theirs


def test_what_a_component_uses_is_its_current_context(node):
    node.merge(OTHER, "scheduler.conf")
    assert admin_of(node, "scheduler.conf").server == "https://other.example:6443"


def test_a_file_beside_which_nothing_tells_the_cluster_is_the_users_own(node, tmp_path):
    node.merge(OTHER)
    path = tmp_path / "home" / "admin.conf"
    path.parent.mkdir()
    path.write_bytes(node.kubernetes("admin.conf").read_bytes())
    assert Kubeconfig(path.read_bytes(), str(path)).server == "https://other.example:6443"


@pytest.mark.parametrize("current", [True, False])
def test_where_two_clusters_share_a_ca_the_endpoint_decides(node, current):
    """A CA of a company: the other cluster's context is current, and its entry trusts the very same CA."""
    twin = throwaway.Cluster(label="twin")
    twin.cas, twin.keys = node.cluster.cas, node.cluster.keys
    node.merge(twin, current=current)
    assert admin_of(node).server == "https://" + throwaway.ENDPOINT
    node.kubernetes("admin.conf").write_bytes(bytes(admin_of(node).with_server("https://unknown.example:6443")))
    with pytest.raises(OtherClusterError, match="none clearly belongs"):
        admin_of(node)


def test_a_name_of_the_api_server_is_an_endpoint_of_its_cluster(node):
    """The components of the node speak to other addresses than its administrators."""
    own = admin_of(node)
    node.kubernetes("kubelet.conf").unlink()
    stale = throwaway.Cluster(label="the CA before")
    node.kubernetes("admin.conf").write_bytes(bytes(own.with_ca(stale.cas["ca"].pem).with_server("https://cp1:6443")))
    node.merge(OTHER)
    assert admin_of(node).server == "https://cp1:6443"


@pytest.mark.parametrize(
    "damage",
    [
        "server: [1]",
        "server: 'https://[::1'",
        "certificate-authority-data: '!'",
        "certificate-authority: /nowhere",
        "certificate-authority-data: {a: b}",
    ],
)
def test_a_damaged_entry_of_another_cluster_is_passed_over(node, damage):
    node.merge(OTHER)
    path = node.kubernetes("admin.conf")
    data = yaml.safe_load(path.read_text())
    next(entry for entry in data["clusters"] if entry["name"] == "other")["cluster"] = yaml.safe_load(damage)
    data["contexts"].append({"name": "odd", "context": {"cluster": ["x"], "user": {}}})
    path.write_text(yaml.safe_dump(data))
    assert admin_of(node).context == "kubernetes-admin@kubernetes"


def test_a_ca_that_is_only_trusted_besides_does_not_tell_the_cluster(node):
    """A company's CA is in the bundle of every cluster; of two entries only the second is this cluster's."""
    shared = throwaway.Cluster(label="a company").cas["ca"].pem
    ca = node.kubernetes("pki/ca.crt")
    ca.write_bytes(ca.read_bytes() + shared)
    node.merge(OTHER)
    path = node.kubernetes("admin.conf")
    data = yaml.safe_load(path.read_text())
    theirs = next(entry["cluster"] for entry in data["clusters"] if entry["name"] == "other")
    theirs["certificate-authority-data"] = base64.b64encode(OTHER.cas["ca"].pem + shared).decode()
    path.write_text(yaml.safe_dump(data))
    assert admin_of(node).user == "kubernetes-admin"
    data["clusters"] = [entry for entry in data["clusters"] if entry["name"] == "other"]
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(OtherClusterError, match="none clearly belongs"):
        admin_of(node)


def test_an_endpoint_that_two_entries_name_decides_nothing_without_the_ca(node):
    own = admin_of(node)
    stale = throwaway.Cluster(label="the CA before")
    node.kubernetes("admin.conf").write_bytes(bytes(own.with_ca(stale.cas["ca"].pem)))
    node.merge(OTHER, server="https://" + throwaway.ENDPOINT)
    with pytest.raises(OtherClusterError, match="none clearly belongs"):
        admin_of(node)
