# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The generated pages are what modules, roles and playbooks declare."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import playbook_variables, variable_rules

from tools import reference, role_readmes

ROOT = Path(__file__).resolve().parents[2]

PAGES = reference.pages()
VARIABLES = playbook_variables.read_variables()


@pytest.mark.parametrize("page", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_a_generated_page_is_what_make_docs_writes(page):
    assert page.read_text() == PAGES[page], "run `make docs`"


def test_check_names_a_stale_page_and_writes_nothing(tmp_path, capsys):
    page = tmp_path / "reference" / "modules.md"
    assert role_readmes.write({page: "text"}, check=True) == 1
    assert str(page) in capsys.readouterr().out and not page.exists()
    assert role_readmes.write({page: "text"}, check=False) == 0 and page.read_text() == "text"
    assert role_readmes.write({page: "text"}, check=True) == 0


def test_every_variable_that_a_playbook_reads_is_on_the_page_once():
    read = {name for path in (ROOT / "playbooks").glob("*.yml") for name in playbook_variables.NAME.findall(path.read_text())}
    rows = re.findall(r"^\| `(kubepki_[a-z_]+)` \|", reference.variables_page(), re.MULTILINE)
    assert rows == sorted(read)


def test_what_only_playbooks_read_is_read_by_one_and_handed_to_no_role():
    for name in variable_rules.OF_PLAYBOOKS:
        assert [meaning.option for meaning in VARIABLES[name].meanings] == [None]


def test_every_role_and_public_module_is_in_the_reference():
    roles, modules = reference.roles_page(), reference.modules_page()
    names = sorted(path.name for path in (ROOT / "roles").iterdir())
    assert re.findall(r"^\| \[([a-z_]+)\]\(\.\./", roles, re.MULTILINE) == names
    names = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))
    assert re.findall(r"^## ([a-z_]+)$", modules, re.MULTILINE) == names
    assert not re.search(r"\b(?:C|O|V|RV|M|E|P)\(", modules), "markup of Ansible's on a page of Markdown"


def test_a_module_has_the_options_of_its_fragments():
    options = reference.modules()["cert_expiry"]["options"]
    assert {"live", "kubernetes_dir", "kubelet_dir"} <= set(options) and "state_dir" not in options
    assert {"state_dir", "backup_dir"} <= set(reference.modules()["cert_leaf"]["options"])


def test_the_choices_are_those_of_the_modules():
    modules = {**reference.modules(), **reference.modules("plugins/modules/internal")}
    assert sorted(modules["cluster_pki"]["options"]["target"]["choices"]) == sorted(VARIABLES["kubepki_phase"].choices)
    assert modules["kubelet_credential"]["options"]["method"]["choices"] == VARIABLES["kubepki_kubelet_method"].choices
    assert modules["cert_leaf"]["options"]["key_type"]["choices"] == variable_rules.KEY_TYPES
    assert VARIABLES["kubepki_cas"].choices == modules["rotation_files"]["options"]["names"]["choices"]


def test_where_playbooks_differ_the_page_says_who_does_what():
    row = next(line for line in reference.variables_page().splitlines() if line.startswith("| `kubepki_names`"))
    assert "`renew_leaves`: `all`" in row and "`restart_static_pods`: Which static pods." in row
    row = next(line for line in reference.variables_page().splitlines() if line.startswith("| `kubepki_user_roles`"))
    assert "`kubepki_user_namespace`" in row, "a role's own option is shown as the variable that sets it"
