# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits in YAML change one value and nothing else."""

from __future__ import annotations

import copy
import json

import pytest
import yaml
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio.yaml_edit import YamlText, quote
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio.yaml_load import load, load_mapping
from hypothesis import given, settings
from hypothesis import strategies as st

TEXT = st.text(alphabet=st.characters(blacklist_categories=("Cs",)), max_size=12)
# What a dump and a load of the parser itself give back unchanged.
PLAINER = st.text(alphabet=st.one_of(st.characters(min_codepoint=32, max_codepoint=126), st.sampled_from("\né😀")), max_size=12)
KEYS = st.sampled_from(["a", "b", "c", "kubepki.io/restart", "x y", "5", "true", "é"])
TREES = st.recursive(
    st.one_of(PLAINER, st.none(), st.booleans(), st.integers(-99, 99)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(KEYS, TREES, min_size=1, max_size=4)

POD = """\
# kept by hand
apiVersion: v1
kind: Pod
metadata:
  annotations:   # filled by kubeadm
    kubeadm.kubernetes.io/etcd.advertise-client-urls: https://10.0.0.1:2379
  name: "etcd"
spec:
  containers:
  - command:
    - etcd
    - --cert-file=/etc/kubernetes/pki/etcd/server.crt   # the pair
    # what follows belongs to the key
    - --key-file=/etc/kubernetes/pki/etcd/server.key

    image: k8s.gcr.io/etcd:3.4.13-0
    args: [one, 'two']
    note: |
      several
      lines

    # after the note
    livenessProbe: {httpGet: {path: /health, port: 2381}}
  hostNetwork: true
status: {}
"""


@pytest.mark.parametrize("after", ["---\n", "---\nother: [1\n", "...\n---\nother: 1\n", "---\n# nothing\n---\n"])
def test_of_several_documents_the_first_is_read_and_edited(after):
    """As the kubelet does; what comes behind stays as it is."""
    assert load_mapping("---\n" + POD + after, "f") == load_mapping(POD, "f")
    document = YamlText("---\n" + POD + after, "f")
    document.set(("metadata", "name"), "etcd2")
    document.set(("spec", "containers", 0, "x"), "y")
    document.insert(("spec", "containers", 0, "command", 3), "--z")
    assert document.text.endswith("status: {}\n" + after) and document.get(("metadata", "name")) == "etcd2"


def test_what_follows_without_a_beginning_is_refused():
    with pytest.raises(PkiError, match="is not YAML"):
        load_mapping("{a: b}\nc\n", "f")


@pytest.mark.parametrize("fast", [True, False])
def test_json_with_tabs_is_read_and_edited(fast, monkeypatch):
    if not fast:
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    tree = yaml.safe_load(POD)
    text = json.dumps(tree, indent="\t")
    document = YamlText(text, "f")
    assert document.data == tree
    document.set(("metadata", "annotations", "a"), "b\tc")
    document.set(("metadata", "name"), "etcd2")
    document.insert(("spec", "containers", 0, "command", 3), "--z")
    tree["metadata"].update(name="etcd2", annotations=dict(tree["metadata"]["annotations"], a="b\tc"))
    tree["spec"]["containers"][0]["command"].append("--z")
    assert json.loads(document.text) == tree and "\n\t\t" in document.text


def places(data, prefix=()):
    """Every place of a document with its value."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield prefix + (key,), value
            yield from places(value, prefix + (key,))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield prefix + (index,), value
            yield from places(value, prefix + (index,))


def holder(data, place):
    for step in place[:-1]:
        data = data[step]
    return data


def render(document, style):
    """A document as text, with comments and empty lines between its lines where its style allows them."""
    text = yaml.safe_dump(document, default_flow_style=style["flow"], allow_unicode=style["unicode"], indent=style["indent"])
    if style["comments"] and "'" not in text and '"' not in text and "|" not in text and "\\" not in text:
        text = "".join("%s\n# comment %d\n\n" % (line, number) for number, line in enumerate(text.splitlines()))
    return text.replace("\n", "\r\n") if style["crlf"] else text


STYLES = st.fixed_dictionaries(
    {
        "flow": st.sampled_from([False, None, True]),
        "unicode": st.booleans(),
        "indent": st.sampled_from([2, 4]),
        "comments": st.booleans(),
        "crlf": st.booleans(),
    }
)


def changed_lines(before, after):
    """The lines that are not in both texts, at the same distance from the beginning or from the end."""
    old, new = before.splitlines(), after.splitlines()
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    return old[start : len(old) - end], new[start : len(new) - end]


@given(TEXT)
def test_a_quoted_string_reads_back(value):
    assert load("key: %s\n" % quote(value), "f") == {"key": value}
    assert load("[%s, 1]\n" % quote(value, plain=False), "f") == [value, 1]
    assert load("%s: 1\n" % quote(value), "f") == {value: 1}


@pytest.mark.parametrize(
    "word", ["yes", "Off", "null", "~", ".5", ".inf", "1e3", "0x1f", "-", "---", "a: b", "a #b", "x\n", "", "y"]
)
def test_what_looks_like_something_else_is_quoted(word):
    assert quote(word).startswith('"')


@pytest.mark.parametrize(
    "word", ["--cert-file=/etc/kubernetes/pki/a.crt", "kubernetes-admin@kubernetes", "https://10.0.0.1:6443"]
)
def test_what_kubeadm_writes_plain_stays_plain(word):
    assert quote(word) == word
    assert load(word, "f") == word


@settings(max_examples=150)
@given(DOCUMENTS, STYLES, TEXT, st.data())
def test_set_changes_one_value(document, style, value, data):
    text = render(document, style)
    assert load(text, "f") == document
    scalars = [place for place, old in places(document) if not isinstance(old, (dict, list))]
    if not scalars:
        return
    place = data.draw(st.sampled_from(scalars))
    edited = YamlText(text, "f")
    edited.set(place, value)
    expected = copy.deepcopy(document)
    holder(expected, place)[place[-1]] = value
    assert load(edited.text, "f") == expected == edited.data
    for line in text.splitlines():
        if line.startswith("#"):
            assert line in edited.text.splitlines()


@settings(max_examples=150)
@given(
    DOCUMENTS,
    STYLES,
    st.lists(st.sampled_from(["new", "n/w.x", "deep", "t t"]), min_size=1, max_size=3, unique=True),
    TEXT,
    st.data(),
)
def test_set_adds_a_key(document, style, steps, value, data):
    text = render(document, style)
    homes = [()] + [
        place for place, old in places(document) if isinstance(old, dict) or (old is None and isinstance(place[-1], str))
    ]
    place = data.draw(st.sampled_from(homes)) + tuple(steps)
    edited = YamlText(text, "f")
    edited.set(place, value)
    expected = copy.deepcopy(document)
    at, parent, last = expected, None, None
    for step in place[:-1]:
        if at.get(step) is None if isinstance(at, dict) else False:
            at[step] = {}
        parent, last, at = at, step, at[step]
        if at is None:
            parent[last] = at = {}
    at[place[-1]] = value
    assert load(edited.text, "f") == expected


@settings(max_examples=150)
@given(DOCUMENTS, STYLES, TEXT, st.data())
def test_insert_adds_one_item(document, style, value, data):
    text = render(document, style)
    lists = [place for place, old in places(document) if isinstance(old, list)]
    if not lists:
        return
    place = data.draw(st.sampled_from(lists))
    expected = copy.deepcopy(document)
    target = holder(expected, place)[place[-1]]
    index = data.draw(st.integers(0, len(target)))
    target.insert(index, value)
    edited = YamlText(text, "f")
    try:
        edited.insert(place + (index,), value)
    except PkiError as error:
        # A list within a list begins on its parent's line: refused, and nothing changed.
        assert "in place" in str(error) and isinstance(place[-1], int)
        assert edited.text == text and edited.data == document
        return
    assert load(edited.text, "f") == expected


@settings(max_examples=150)
@given(DOCUMENTS, STYLES, st.data())
def test_remove_takes_one_value(document, style, data):
    text = render(document, style)
    found = [place for place, _value in places(document)]
    place = data.draw(st.sampled_from(found))
    expected = copy.deepcopy(document)
    del holder(expected, place)[place[-1]]
    edited = YamlText(text, "f")
    try:
        edited.remove(place)
    except PkiError as error:
        assert "in place" in str(error)
        assert edited.text == text and edited.data == document
        return
    assert load(edited.text, "f") == expected


@given(
    st.one_of(
        st.binary(max_size=60),
        st.text(max_size=60),
        st.sampled_from(
            [
                "!!bool foo",
                "!!int ''",
                "!!timestamp x",
                "!!float .",
                "a: *b",
                "{[a]: b}",
                "? {a: b}",
                "2001-99-99",
                "%",
                "\x00",
                "[" * 3000,
            ]
        ),
    )
)
def test_any_input_is_data_or_one_error(text):
    try:
        load(text, "/some/file")
    except PkiError as error:
        assert str(error).startswith("/some/file: ") and "\n" not in str(error)


def test_an_error_does_not_quote_the_document():
    with pytest.raises(PkiError) as caught:
        load("key: !!int c2VjcmV0\n", "f")
    assert "c2VjcmV0" not in str(caught.value)
    with pytest.raises(PkiError, match="line 2, column"):
        load("key: a\n\tb: c2VjcmV0\n", "f")


@pytest.mark.parametrize("text", ["- a\n", "", "text", "5"])
def test_a_mapping_is_demanded(text):
    with pytest.raises(PkiError, match="not a YAML mapping"):
        load_mapping(text, "f")


class TestManifest:
    """What the rolling jobs do to a kubeadm manifest."""

    def edit(self, function):
        document = YamlText(POD, "f")
        function(document)
        return changed_lines(POD, document.text), document

    def test_a_flag_is_replaced_and_its_comment_stays(self):
        place = ("spec", "containers", 0, "command", 1)
        (old, new), _document = self.edit(lambda d: d.set(place, "--cert-file=/new.crt"))
        assert old == ["    - --cert-file=/etc/kubernetes/pki/etcd/server.crt   # the pair"]
        assert new == ["    - --cert-file=/new.crt   # the pair"]

    def test_an_annotation_is_added_as_one_line(self):
        (old, new), document = self.edit(lambda d: d.set(("metadata", "annotations", "kubepki.io/at"), "2026"))
        assert old == [] and new == ['    kubepki.io/at: "2026"']
        assert len(document.data["metadata"]["annotations"]) == 2

    def test_a_flag_is_appended_behind_the_last_one(self):
        (old, new), document = self.edit(lambda d: d.insert(("spec", "containers", 0, "command", 3), "--new=1"))
        assert old == [] and new == ["    - --new=1"]
        assert document.data["spec"]["containers"][0]["command"][-1] == "--new=1"

    def test_a_flag_is_removed_with_its_line_only(self):
        (old, new), _document = self.edit(lambda d: d.remove(("spec", "containers", 0, "command", 2)))
        assert old == ["    - --key-file=/etc/kubernetes/pki/etcd/server.key"] and new == []

    def test_the_last_key_of_a_mapping_is_removed_with_its_lines_only(self):
        (old, new), _document = self.edit(lambda d: d.remove(("spec", "containers", 0, "note")))
        assert "    # after the note" not in old and new == []

    def test_a_block_scalar_is_replaced(self):
        _lines, document = self.edit(lambda d: d.set(("spec", "containers", 0, "note"), "short"))
        assert "    # after the note\n" in document.text
        assert document.data["spec"]["containers"][0]["note"] == "short"

    def test_a_list_is_no_single_value(self):
        with pytest.raises(PkiError, match="not a single value"):
            self.edit(lambda d: d.set(("spec", "containers"), "x"))


@pytest.mark.parametrize(
    "text, place",
    [
        ("a: &x 1\nb: *x\n", ("b",)),
        ("a: &x {k: v}\nb: *x\n", ("b", "k")),
        ("a: &x {k: v}\nb: *x\n", ("a", "k")),
        ("a: &x\n  k: v\nb:\n  <<: *x\n", ("a", "k")),
    ],
)
def test_an_alias_is_never_changed_in_two_places(text, place):
    document = YamlText(text, "f")
    with pytest.raises(PkiError):
        document.set(place, "new")
    assert document.text == text


def test_of_a_key_that_is_there_twice_the_one_that_counts_is_changed():
    document = YamlText("a: 1\na: 2\n", "f")
    document.set(("a",), "new")
    assert document.text == "a: 1\na: new\n"


@pytest.mark.parametrize(
    "text, after",
    [
        ("a:\nb: 1\n", "a: new\nb: 1\n"),
        ("a:   # why\nb: 1\n", "a: new   # why\nb: 1\n"),
        ("a: ~\n", "a: new\n"),
        ("a: 'it''s'  # c", "a: new  # c"),
    ],
)
def test_empty_and_quoted_values(text, after):
    document = YamlText(text, "f")
    document.set(("a",), "new")
    assert document.text == after


@pytest.mark.parametrize(
    "text, after",
    [
        ("a: false  # c\nb: 1\n", "a: true  # c\nb: 1\n"),
        ("a: true\n", "a: true\n"),
        ("b: 1\n", "a: true\nb: 1\n"),
        ("a:\nb: 1\n", "a: true\nb: 1\n"),
        ('a: "true"\n', "a: true\n"),
        ("{b: 1}", '{"a": true, b: 1}'),
    ],
)
def test_a_truth_value(text, after):
    document = YamlText(text, "f")
    document.set(("a",), True)
    assert document.text == after and document.get(("a",)) is True


@pytest.mark.parametrize(
    "text, after",
    [
        ("m:   # why\nb: 1\n", 'm:   # why\n  k: "2"\nb: 1\n'),
        ("m: null\n", 'm: \n  k: "2"\n'),
        ("m: {}", 'm: {"k": "2"}'),
    ],
)
def test_a_mapping_that_holds_nothing_is_filled(text, after):
    document = YamlText(text, "f")
    document.set(("m", "k"), "2")
    assert document.text == after
