# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubeconfigs are read as client-go reads them, and edited without losing anything."""

from __future__ import annotations

import pytest
import yaml
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeconfig import Kubeconfig, build
from hypothesis import given, settings
from hypothesis import strategies as st

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
        "client-certificate-data: T0xE\n", "client-certificate-data: |\n      T0\n      xE\n")
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
    for edited, line in ((config.with_client(b"NEW", b"KEY2"), "client-"), (config.with_ca(b"CA2"), "certificate-authority-data"),
                         (config.with_server("https://x:1"), "server: https://")):
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


@pytest.mark.parametrize("change, word", [
    (lambda text: "x: [", "is not YAML"), (lambda text: "- a\n", "not a YAML mapping"), (lambda text: "", "not a YAML mapping"),
    (lambda text: b"\xff\xfe", "is not text"),
    (lambda text: text.replace("current-context: second", "current-context: third"), "current context 'third' is not among"),
    (lambda text: text.replace("current-context: second", "current-context: [x]"), "current context None"),
    (lambda text: text.replace("cluster: two\n    user", "cluster: [x]\n    user"), "no cluster named None"),
    (lambda text: text.replace("name: b", "name: c"), "no user named 'b'"),
    (lambda text: text.replace("users:", "people:"), "no list of users"),
    (lambda text: text.replace("S0VZ", "not base64!"), "client-key-data is not base64"),
    (lambda text: text.replace("S0VZ", "[1]"), "client-key-data is not a string"),
])
def test_what_is_wrong_is_named(change, word):
    with pytest.raises(PkiError, match=word) as caught:
        Kubeconfig(change(TWO), "/etc/k/c.conf")
    assert str(caught.value).startswith("/etc/k/c.conf: ")
    assert "not base64!" not in str(caught.value) and "T0xE" not in str(caught.value)


VALUES = st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
                      lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(
                          ["name", "context", "cluster", "user", "server", "client-key-data", "client-certificate"]), inner)),
                      max_leaves=8)


@given(st.dictionaries(st.sampled_from(["current-context", "contexts", "clusters", "users"]), VALUES))
def test_any_mapping_is_a_kubeconfig_or_one_error(data):
    try:
        Kubeconfig(yaml.safe_dump(data), "f")
    except PkiError as error:
        assert "\n" not in str(error)
