# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""No regular expression ends in $, which a line break at the end of a value passes: fullmatch() or \\Z instead."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import backup_set
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import kubelet_client
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import addresses
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import kubelet_files
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import csr_requests, variable_review, variable_rules

ROOT = Path(__file__).resolve().parents[2]
_CALLS = ("compile", "match", "fullmatch", "search", "sub", "split", "findall", "finditer")
# Of a value in a playbook: 'x' is regex('...$'), reject('regex', '...$'), regex_search("...$").
_JINJA = re.compile(r"""(?:regex|match|search)\w*\s*(?:\(|['"]\s*,)\s*(['"])(?P<expression>.*?)\1""")
_DOLLAR = re.compile(r"(?<!\\)(?:\\\\)*\$(?=\)*\Z|[)|])")


def _expressions(path):
    """The regular expressions of a Python file, with their lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CALLS:
            for constant in (each for argument in node.args[:1] for each in ast.walk(argument)):
                if isinstance(constant, ast.Constant) and isinstance(constant.value, (str, bytes)):
                    value = constant.value
                    yield constant.lineno, value if isinstance(value, str) else value.decode("latin-1")


def test_of_python():
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for folder in ("plugins", "roles", "tools")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, text in _expressions(path)
        if _DOLLAR.search(text) and "re.MULTILINE" not in path.read_text().splitlines()[line - 1]
    ]
    assert not wrong


def test_of_variables():
    patterns = [rule["pattern"] for rule in variable_rules.STRICTER.values() if "pattern" in rule]
    assert patterns and not [pattern for pattern in patterns if _DOLLAR.search(pattern)]


def test_of_playbooks_and_roles():
    found, wrong = 0, []
    for folder in ("playbooks", "roles", "extensions"):
        for path in sorted((ROOT / folder).rglob("*.yml")):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                for match in _JINJA.finditer(line):
                    found += 1
                    if _DOLLAR.search(match.group("expression")):
                        wrong.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert found > 5 and not wrong


@pytest.mark.parametrize("text", ["^a$", "(?:a|b$)", "a(,|$)", "^(x)?$"])
def test_this_search_finds_one(text):
    assert _DOLLAR.search(text)
    assert not _DOLLAR.search(text.replace("$", r"\Z")) and not _DOLLAR.search(r"\$\{?(\w+)\}?")


@pytest.mark.parametrize("name", ["node\n", "node.example\n", "node\nother"])
def test_a_nodes_name_holds_no_line_break(name):
    assert kubelet_files.check_node_name(name.split("\n")[0])
    with pytest.raises(PkiError, match="cannot be the name of a Node"):
        kubelet_files.check_node_name(name)


def test_a_folder_of_a_host_and_a_backup_set_hold_none(tmp_path):
    assert csr_requests.folder_name("cp1") == "cp1" and "\n" not in csr_requests.folder_name("cp1\n")
    for name in ("20260101T000000.000000Z-leaves", "20260101T000000.000000Z-leaves\n"):
        (tmp_path / name).mkdir()
    assert backup_set.list_backups(str(tmp_path)) == [str(tmp_path / "20260101T000000.000000Z-leaves")]


def test_an_address_and_a_time_hold_none():
    assert addresses.split_host_port("10.0.0.1:80\n")[1] is None
    assert kubelet_client.epoch("2026-11-21T21:14:36Z") > 0 and kubelet_client.epoch("2026-11-21T21:14:36Z\n") == 0.0


@pytest.mark.parametrize(
    ("value", "fits"), [("/var/lib/x", True), (" /var/lib/x ", True), ("/var/lib/x\n", False), ("/var\n/x", False)]
)
def test_a_variable_holds_none(value, fits):
    assert (variable_review.find_fault(value, {"type": "str", "pattern": "[/~$].*", "said": "a path"}) is None) is fits
