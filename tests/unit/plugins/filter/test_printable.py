# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts of nodes in playbooks: a terminal shows them and does not obey them."""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.kubepki.lifecycle.plugins.filter.printable import FilterModule

from tests.unit.support import malformed

ROOT = Path(__file__).resolve().parents[4]


def test_a_text_and_a_list_of_texts():
    printable = FilterModule().filters()["printable"]
    assert printable(malformed.EVIL).isprintable() and printable("CN=w1, O=system:nodes") == "CN=w1, O=system:nodes"
    assert all(text.isprintable() for text in printable([malformed.EVIL, [malformed.EVIL]][0:1])) and printable([]) == []
    assert len(printable("x" * 100000)) < 5000


def test_no_task_displays_a_nodes_own_text_as_it_is():
    """What planners return is printable already; what a node's module registered goes through the filter."""
    safe = re.compile(r"printable|_cluster\.|_decided\.table|_result\.table|_summary\.|_report\.|_gathered\.|_away|_server|_path")
    texts = [path.read_text() for folder in ("roles", "playbooks") for path in (ROOT / folder).rglob("*.yml")]
    one_line = re.compile(r'^ +(?:fail_msg|msg): "((?:[^"\\]|\\.)*)"', re.MULTILINE)
    shown = [
        " ".join(said.split()) for text in texts for said in one_line.findall(text) if "{{" in said and not safe.search(said)
    ]
    assert shown == []
