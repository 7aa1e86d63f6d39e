# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import manifests
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.static_pod import selection
from hypothesis import given
from hypothesis import strategies as st

POD = """apiVersion: v1
kind: Pod
metadata:
  annotations:
    kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint: 10.0.0.1:6443
  labels:
    component: kube-apiserver
    tier: control-plane
  name: kube-apiserver
  namespace: kube-system
spec:
  containers:
  - command:
    - kube-apiserver
    - --advertise-address=10.0.0.1
    - --service-account-key-file=/a.pub
    - --service-account-key-file=/b.pub
    - --allow-privileged
    args: [--secure-port, "6443"]
    image: k8s.gcr.io/kube-apiserver:v1.20.2
    livenessProbe:
      httpGet: {host: 10.0.0.1, path: /livez, port: 6443, scheme: HTTPS}
    name: kube-apiserver
  securityContext:
    runAsUser: 1234
  volumes:
  - hostPath: {path: /etc/kubernetes/pki, type: DirectoryOrCreate}
    name: k8s-certs
"""


def test_everything_a_manifest_says():
    manifest = manifests.parse_manifest(POD.encode(), "/m/kube-apiserver.yaml")
    assert (manifest.name, manifest.namespace, manifest.component) == ("kube-apiserver", "kube-system", "kube-apiserver")
    assert manifest.flags == {
        "--advertise-address": "10.0.0.1",
        "--service-account-key-file": "/b.pub",
        "--allow-privileged": "true",
        "--secure-port": "6443",
    }
    assert manifest.flag_values["--service-account-key-file"] == ["/a.pub", "/b.pub"]
    assert manifest.minor == 20 and manifest.image == "k8s.gcr.io/kube-apiserver:v1.20.2"
    assert manifest.probes == {"livenessProbe": {"host": "10.0.0.1", "port": 6443, "path": "/livez", "scheme": "HTTPS"}}
    assert manifest.host_paths == {"k8s-certs": "/etc/kubernetes/pki"}
    assert manifest.annotations["kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint"] == "10.0.0.1:6443"
    assert manifest.user == 1234


def test_json_is_yaml():
    containers = [{"name": "etcd", "command": ["etcd", "-name=a"]}]
    document = {"kind": "Pod", "metadata": {"name": "etcd"}, "spec": {"containers": containers}}
    manifest = manifests.parse_manifest(json.dumps(document).encode(), "/m/etcd.json")
    assert manifest.component == "etcd" and manifest.flags == {"--name": "a"} and manifest.minor is None


@pytest.mark.parametrize(
    "image,minor",
    [
        ("registry.k8s.io/kube-apiserver:v1.36.2", 36),
        ("mirror:5000/kube-apiserver:v1.9.0", 9),
        ("kube-apiserver", None),
        ("kube-apiserver:v1.31.0@sha256:" + "0" * 64, 31),
        ("kube-apiserver:latest", None),
        ("kube-apiserver:v1.33.0-rc.1", 33),
    ],
)
def test_minor_comes_from_the_image(image, minor):
    text = POD.replace("k8s.gcr.io/kube-apiserver:v1.20.2", image)
    assert manifests.parse_manifest(text.encode(), "/m").minor == minor


def test_a_shell_that_starts_the_component_is_looked_through():
    text = POD[: POD.index("  - command:")]
    text += "  - command: [/bin/sh, -ec, 'exec kube-apiserver --secure-port=7 --x=\"a b\"']\n    name: a\n"
    manifest = manifests.parse_manifest(text.encode(), "/m")
    assert manifest.command[0] == "kube-apiserver" and manifest.flags == {"--secure-port": "7", "--x": "a b"}


def test_without_a_command_the_image_s_own_program_gets_all_arguments():
    text = POD.replace("  - command:\n    - kube-apiserver\n", "  - args:\n").replace('    args: [--secure-port, "6443"]\n', "")
    assert manifests.parse_manifest(text.encode(), "/m").flags["--advertise-address"] == "10.0.0.1"


def test_a_sidecar_does_not_hide_the_component():
    side = "  containers:\n  - {name: audit, command: [tail, --follow]}\n"
    manifest = manifests.parse_manifest(POD.replace("  containers:\n", side).encode(), "/m")
    assert "--advertise-address" in manifest.flags


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"kind: Pod",
        b"kind: ConfigMap\nmetadata: {name: a}\nspec: {containers: [{}]}",
        b"[1]",
        b"\x00\xff",
        b"kind: Pod\nmetadata: []\nspec: 7",
        b"a: b: c",
        b"kind: Pod\nmetadata: {name: 5}\nspec: {containers: [{}]}",
    ],
)
def test_what_is_no_pod_is_said_with_its_path(data):
    with pytest.raises(PkiError) as caught:
        manifests.parse_manifest(data, "/etc/kubernetes/manifests/x.yaml")
    assert str(caught.value).startswith("/etc/kubernetes/manifests/x.yaml: ") and caught.value.fix


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "command", "args", "image", "httpGet", "livenessProbe", "hostPath", "path", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(metadata=VALUE, container=VALUE, volumes=VALUE, context=VALUE)
def test_any_shape_of_pod_is_parsed_or_refused(metadata, container, volumes, context):
    document = {
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [container, {"name": "a", "command": container}], "volumes": volumes, "securityContext": context},
    }
    try:
        manifest = manifests.parse_manifest(json.dumps(document).encode(), "/m")
    except PkiError:
        return
    assert isinstance(manifest.name, str) and all(isinstance(word, str) for word in manifest.command)


def test_the_directory_is_read_as_the_kubelet_reads_it(tmp_path):
    (tmp_path / "kube-apiserver.yaml").write_text(POD)
    (tmp_path / "kube-apiserver.yaml.bak").write_text(POD.replace("10.0.0.1", "10.9.9.9"))
    (tmp_path / ".hidden.yaml").write_text("not: [a pod")
    (tmp_path / "README").write_text("hello")
    (tmp_path / "kube-vip.yaml").write_text("kind: Pod\nmetadata: {name: kube-vip}\nspec: {containers: [{name: kube-vip}]}\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "etcd.yaml").write_text(POD)
    found, foreign, problems = manifests.read_manifest_dir(str(tmp_path))
    assert [manifest.path.rsplit("/", 1)[1] for manifest in found] == [
        "kube-apiserver.yaml",
        "kube-apiserver.yaml.bak",
        "kube-vip.yaml",
    ]
    assert sorted(path.rsplit("/", 1)[1] for path in foreign) == ["README", "kube-apiserver.yaml.bak", "kube-vip.yaml"]
    assert [error.path for error in problems] == [str(tmp_path / "README")]
    # Of two files for one pod the kubelet acts on the last by name: the backup.
    assert manifests.effective(found)["kube-apiserver"].flags["--advertise-address"] == "10.9.9.9"


@pytest.mark.parametrize(
    "name,namespace,component",
    [
        ("kube-apiserver", "kube-system", "kube-apiserver"),
        ("kube-apiserver", None, "kube-apiserver"),
        ("apiserver-proxy", "kube-system", "apiserver-proxy"),
        ("kube-apiserver", "shop", "shop/kube-apiserver"),
    ],
)
def test_a_component_is_known_by_its_pod_s_name(name, namespace, component):
    """The label is everybody's to give, and so is the name of a container."""
    text = POD.replace(
        "  name: kube-apiserver\n  namespace: kube-system\n",
        "  name: %s\n%s" % (name, "  namespace: %s\n" % namespace if namespace else ""),
    )
    assert manifests.parse_manifest(text.encode(), "/m").component == component


@pytest.mark.parametrize("after", ["---\n", "---\nkind: ConfigMap\n"])
def test_the_kubelet_takes_the_first_document(after):
    assert manifests.parse_manifest((POD + after).encode(), "/m").flags["--advertise-address"] == "10.0.0.1"


def test_what_a_label_of_one_s_own_says_stays(tmp_path):
    text = POD.replace("component: kube-apiserver", "component: balancer").replace("name: kube-apiserver", "name: haproxy")
    assert manifests.parse_manifest(text.encode(), "/m").component == "balancer"


def test_another_pod_with_the_component_s_label_does_not_hide_it(tmp_path):
    (tmp_path / "kube-apiserver.yaml").write_text(POD)
    proxy = POD.replace("  name: kube-apiserver\n  namespace", "  name: apiserver-proxy\n  namespace")
    (tmp_path / "zz-proxy.yaml").write_text(proxy.replace("10.0.0.1", "10.9.9.9"))
    (tmp_path / "zzz.yaml").write_text(POD.replace("10.0.0.1", "10.8.8.8").replace("kube-system", "shop"))
    found, foreign, problems = manifests.read_manifest_dir(str(tmp_path))
    assert manifests.effective(found)["kube-apiserver"].flags["--advertise-address"] == "10.0.0.1"
    assert [path.rsplit("/", 1)[1] for path in foreign] == ["zz-proxy.yaml", "zzz.yaml"] and not problems
    chosen, _everything, _warnings = selection.select_manifests(["apiserver-proxy"], str(tmp_path))
    assert [manifest.path for manifest in chosen] == [str(tmp_path / "zz-proxy.yaml")]


def test_a_missing_directory_has_no_manifests(tmp_path):
    assert manifests.read_manifest_dir(str(tmp_path / "none")) == ([], [], [])


def test_a_file_in_place_of_the_directory_is_a_problem(tmp_path):
    (tmp_path / "manifests").write_text("")
    _found, _foreign, problems = manifests.read_manifest_dir(str(tmp_path / "manifests"))
    assert problems[0].path == str(tmp_path / "manifests")


@pytest.mark.parametrize(
    "words,flags",
    [
        (["p"], {}),
        ([], {}),
        (["p", "--a=b=c"], {"--a": ["b=c"]}),
        (["p", "--a", "b", "c"], {"--a": ["b"]}),
        (["p", "--a", "--b"], {"--a": ["true"], "--b": ["true"]}),
        (["p", "-v=2", "--tls_cert_file=/x"], {"--v": ["2"], "--tls-cert-file": ["/x"]}),
        (["--a=1", "--b"], {"--a": ["1"], "--b": ["true"]}),
        (["--a", "1"], {"--a": ["1"]}),
        (["p", "--a=1", "--a=2"], {"--a": ["1", "2"]}),
        (["p", "--a="], {"--a": [""]}),
    ],
)
def test_flags(words, flags):
    assert manifests.parse_flags(words) == flags
