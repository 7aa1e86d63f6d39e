# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documentation tells people to type exists, and its links lead somewhere; and this test can tell."""

from __future__ import annotations

import re

import pytest

from tests.unit.support import doc_pages
from tests.unit.support.doc_pages import ROOT, Unfit

PAGES = {str(page.relative_to(ROOT)): page for page in doc_pages.pages()}
TEXTS = {name: page.read_text() for name, page in PAGES.items()}
BLOCKS = [block for name, page in PAGES.items() for block in doc_pages.blocks(TEXTS[name], page)] + doc_pages.internal_examples()


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_is_of_a_known_kind_and_true(block):
    doc_pages.judge_block(block)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_names_only_commands_variables_and_places_that_there_are(name):
    for command in doc_pages.said_in_passing(TEXTS[name]):
        doc_pages.judge(command)
    for variable, value in doc_pages.settings(TEXTS[name]):
        doc_pages.variable(variable, value)
    metrics = set(re.findall(r"kubepki_[a-z_]*[a-z]", (ROOT / "plugins/module_utils/_pki/report/prometheus.py").read_text()))
    named = set(re.findall(r"\bkubepki_[a-z_]*[a-z]\b", TEXTS[name]))
    assert named - set(doc_pages.VARIABLES) - metrics == set()
    assert doc_pages.dead_links(TEXTS[name], PAGES[name]) == []


def test_the_index_leads_to_every_page():
    linked = {target.partition("#")[0] for target in doc_pages.LINK.findall(TEXTS["docs/README.md"])}
    there = {str(page.relative_to(ROOT / "docs")) for page in PAGES.values() if page.is_relative_to(ROOT / "docs")}
    assert there - linked - {"README.md"} == set()


@pytest.mark.parametrize("place", ["README.md", "docs/quick-start.md", "docs/awx.md", "ansible.cfg"])
def test_where_people_copy_from_a_node_that_loses_its_network_is_noticed(place):
    text = (ROOT / place).read_text()
    assert "-o ServerAliveInterval=5 -o ServerAliveCountMax=3" in text
    # After Ansible's own, which wins.
    assert not re.search(r"common_args.*-o ConnectTimeout", text)


def test_enough_was_found():
    """An expression that finds nothing would make every test above pass."""
    shell = [command for block in BLOCKS if block.language in ("", "sh") for command in doc_pages.commands(block.text)]
    assert len(shell) > 40 and len([block for block in BLOCKS if block.language == "yaml"]) > 20
    assert len(doc_pages.said_in_passing(TEXTS["docs/lab.md"])) >= 12
    assert len(doc_pages.settings(TEXTS["docs/rotation.md"])) >= 3
    assert {"what-clients-see", "the-phases"} <= doc_pages.anchors(TEXTS["docs/rotation.md"])


# ---- that it can fail ----

PLAY = "ansible-playbook -i inventory kubepki.lifecycle."


@pytest.mark.parametrize(
    "command, why",
    [
        (PLAY + "renew_leafs", "no playbook kubepki.lifecycle.renew_leafs"),
        (PLAY + "renew_leaves --chek", "unrecognized arguments: --chek"),
        (PLAY + "renew_leaves -e kubepki_renew_below_day=3", "kubepki_renew_below_day: no playbook reads it"),
        (PLAY + "check_expiry -e kubepki_phase=prepare", "check_expiry does not read it"),
        (PLAY + "rotate_ca -e kubepki_phase=prepair", "kubepki_phase=prepair: is no one of"),
        (PLAY + 'renew_leaves -e \'{"kubepki_leaf_days": "ninety"}\'', "is no number"),
        (PLAY + "renew_leaves -e kubepki_force", "has no value"),
        (PLAY + "renew_leaves -e @settings.yml", "a file that the documentation does not have"),
        ("ansible-playbook docs/examples/no-such.yml", "there is no file"),
        ("ansible all -m kubepki.lifecycle.cert_expire", "there is no module"),
        ("ansible all -m kubepki.lifecycle.cert_expiry -a lives=true", "has no option lives"),
        ("ansible all -m kubepki.lifecycle.file_backup -a state=list", "is not one of"),
        ("ansible all -m community.general.ini_file", "in a collection that nobody has"),
        ("ansible-galaxy collection instal kubepki.lifecycle", "invalid choice: 'instal'"),
        ("ansible-galaxy collection install build/kubepki-lifecycle-0.0.9.tar.gz", "neither the collection nor its archive"),
        ("ansible-doc kubepki.lifecycle.cert_expire", "there is no module"),
        ("make tests", "no target tests"),
        ("make lab-up LABS=x", "does not take LABS"),
        ("python3 -m tests.lab upp", "invalid choice: 'upp'"),
        ("python3 -m tests.lab up --control-plane x", "invalid int value: 'x'"),
        ("python3 -m tests.labs up", "a kind of command that no test knows"),
        ("python3 -m pip install -r requirement.txt", "there is no file requirement.txt"),
        ("python3 -m pip install ansible", "is not what this collection needs"),
        (".venv/bin/python -m pytest tests/units", "there is no tests/units"),
        (".venv/bin/python tools/run_ansible_tests.py sanity", "there is no file"),
        ("systemctl start kubepki-reports.service", "nor the name of a unit"),
        ("systemctl stop kubepki-report.timer", "nor the name of a unit"),
        ("kubectl get csr", "a kind of command that no test knows"),
        ("make lint && make test", "a kind of command that no test knows"),
        ("rm -rf /etc/kubernetes", "a kind of command that no test knows"),
    ],
)
def test_a_command_that_is_not_so_is_found(command, why):
    with pytest.raises(Unfit) as caught:
        doc_pages.judge(command)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "command",
    [
        PLAY + "rotate_ca -e kubepki_phase=prepare -e kubepki_cas=ca,sa --check",
        PLAY + "renew_leaves -e 'kubepki_force=true kubepki_names=all'",
        PLAY + "renew_leaves -e '{\"kubepki_leaf_days\": 90}' --limit cp1",
        "ansible all -m kubepki.lifecycle.file_backup -a state=listed",
        "LAB=x make lab-up",
        "make lab-up LAB=x",
        "ansible-playbook docs/examples/webhook.yml -e webhook_dir=/etc/hook",
    ],
)
def test_a_command_that_is_so_passes(command):
    doc_pages.judge(command)


@pytest.mark.parametrize(
    "language, text, why",
    [
        ("", "make lint\nmake tests  # all\n", "no target tests"),
        ("sh", "ansible-playbook -i inventory \\\n  kubepki.lifecycle.renew_leafs\n", "no playbook"),
        ("sh", "make 'lint\n", "No closing quotation"),
        ("console", "$ make lint\n", "which no test knows"),
        ("yaml", "- a: [\n", "not YAML"),
        ("yaml", "kubepki_force: true\nkubepki_force: false\n", "a key stands twice"),
        ("yaml", "kubepki_forced: true\n", "no playbook reads it"),
        ("yaml", "something: else\n", "of a kind that no test knows"),
        ("yaml", "- hosts: all\n  tasks:\n    - kubepki.lifecycle.cert_expiry:\n        lives: true\n", "has no option lives"),
        ("yaml", "- block:\n    - kubepki.lifecycle.cert_ca: {state: gone}\n", "is not one of"),
        ("yaml", "version: 1\nrules:\n  - name: x\n    decision: perhaps\n", "approve or deny"),
        ("python", "lab = = 1\n", "not Python"),
        ("python", "from tests.lab import Laboratory\n", "has no Laboratory"),
        ("json", '{"a": 1,}\n', "not JSON"),
        ("ini", "[kube_master]\ncp1\n", "kube_master"),
        ("mermaid", "sequenceDiagram\n", "a picture"),
        ("mermaid", "flowchart TD\n  a[one]\n  a[two]\n", "described twice"),
    ],
)
def test_a_block_that_is_not_so_is_found(language, text, why):
    (block,) = doc_pages.blocks(f"words\n\n```{language}\n{text}```\n")
    assert block.line == 3
    with pytest.raises(Unfit) as caught:
        doc_pages.judge_block(block)
    assert why in str(caught.value)


def test_a_dead_link_is_found():
    page = ROOT / "docs" / "page.md"
    text = (
        "# Some *words*, and `code`\n[a](rotation.md) [b](rotations.md) [c](rotation.md#the-phases) [d](rotation.md#faces)\n"
        "[e](#some-words-and-code) [f](#other) [g](https://example.com/nowhere) [h\ni](../roles/none/README.md)\n"
        f"[j]({doc_pages.HOME}ansible.cfg) [k]({doc_pages.HOME}none.cfg)\n```\n[l](fenced.md)\n```\n## Twice\n## Twice\n"
        "[m](#twice-1)\n"
    )
    assert doc_pages.dead_links(text, page) == [
        "rotations.md",
        "rotation.md#faces",
        "#other",
        "../roles/none/README.md",
        f"{doc_pages.HOME}none.cfg",
    ]


def test_what_is_said_in_passing_is_found():
    text = (
        "Run `make lint`, `python3 -m tests.lab stop / start NODE [-v]` or `kubeadm init`; `kubepki_force=true`, "
        "`-e kubepki_phase=all`."
    )
    assert doc_pages.said_in_passing(text) == [
        "make lint",
        "python3 -m tests.lab stop NODE -v",
        "python3 -m tests.lab start NODE -v",
    ]
    assert doc_pages.settings(text) == [("kubepki_force", "true"), ("kubepki_phase", "all")]
