# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small YAML document takes little time and memory, whatever it holds."""

from __future__ import annotations

import base64
import time

import pytest
import yaml
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import guarded_read, yaml_load
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import kubeconfig

HEAD = """\
apiVersion: v1
kind: Config
current-context: a
contexts: [{name: a, context: {cluster: a, user: a}}]
users: [{name: a, user: {}}]
"""
CLUSTER = "clusters: [{name: a, cluster: {server: 'https://x:1'}}]\n"
SIZE = guarded_read.LARGEST - 1000


def old_flatten_mapping(self, node):
    """The algorithm of PyYAML 6.0: pairs of an alias are copied each time that it is merged."""
    merge, index = [], 0
    while index < len(node.value):
        key, value = node.value[index]
        if key.tag != "tag:yaml.org,2002:merge":
            index += 1
            continue
        del node.value[index]
        for source in reversed(value.value) if isinstance(value, yaml.SequenceNode) else [value]:
            self.flatten_mapping(source)
            merge.extend(source.value)
            assert len(merge) < 2000000, "the memory of the test would be gone"
    if merge:
        node.value = merge + node.value


@pytest.mark.parametrize("plain", [False, True])
def test_nested_merge_keys_are_refused_in_time(monkeypatch, plain):
    monkeypatch.setattr(yaml.constructor.SafeConstructor, "flatten_mapping", old_flatten_mapping)
    levels = ["a%d: &a%d {<<: [%s]}\n" % (level, level, ",".join(["*a%d" % (level - 1)] * 9)) for level in range(1, 13)]
    started = time.monotonic()
    with pytest.raises(PkiError, match="merge keys"):
        yaml_load.load("a0: &a0 {x: 1, y: 2}\n" + "".join(levels), "/x", plain=plain)
    assert time.monotonic() - started < 1


def test_merge_keys_of_a_usual_size_are_resolved():
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, y: 3}\nc: {<<: [*a], z: 4}\n"
    assert yaml_load.load(text, "/x") == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2, "z": 4}}


def test_a_mapping_that_merges_itself_is_refused():
    with pytest.raises(PkiError, match="impossible value"):
        yaml_load.load("a: &a {<<: *a, x: 1}\n", "/x")


def colliding():
    count = SIZE // 28
    return "x: {%s}" % ", ".join("%d: 1" % (number * (2**61 - 1)) for number in range(count))


@pytest.mark.parametrize(
    "text",
    [
        "x: 1" + ":59" * (SIZE // 3),
        "x: !!int 1" + ":59" * (SIZE // 3),
        "x: " + "1:" * (SIZE // 2) + "1.0",
        "x: !!float " + "1:" * (SIZE // 2) + "1.0",
        "x: " + "1" * SIZE,
        "x: 2001-01-01 1:1:1." + "1" * SIZE,
        "x: 0b" + "1" * SIZE,
        colliding(),
    ],
    ids=["sexagesimal", "tagged", "float", "tagged-float", "decimal", "date", "binary", "collisions"],
)
def test_numbers_in_a_file_of_another_user_take_no_time(text):
    text = HEAD + CLUSTER + text + "\n"
    assert len(text) <= guarded_read.LARGEST
    started = time.process_time()
    config = kubeconfig.Kubeconfig(text, "/home/bob/.kube/config", plain=True)
    assert time.process_time() - started < 0.5
    assert config.server == "https://x:1"


def test_aliases_of_one_long_bundle_are_decoded_once(monkeypatch):
    decoded = []
    monkeypatch.setattr(kubeconfig, "_from_base64", lambda text, _what, _path: decoded.append(1) or base64.b64decode(text))
    first = "- {name: a, cluster: &c {server: x, certificate-authority-data: %s}}\n" % base64.b64encode(b"x" * 114000).decode()
    text = HEAD + "clusters:\n" + first + "".join("- {name: c%d, cluster: *c}\n" % number for number in range(1509))
    config = kubeconfig.Kubeconfig(text, "/home/bob/.kube/config", plain=True)
    del decoded[:]
    assert config.embedded() == ([b"x" * 114000], [])
    assert len(decoded) == 1
