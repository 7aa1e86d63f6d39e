# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every file, role, playbook and module of the collection, whoever wrote it.

What ansible-test sanity and ansible-lint check (documentation against argument spec, FQCN, YAML style) is not repeated here.
"""

from __future__ import annotations

import ast
import re
import zlib
from pathlib import Path

import pytest
import yaml
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils.playbook_variables import flatten_tasks

from tools.run_ansible_test import source_files

ROOT = Path(__file__).resolve().parents[2]

FILES = source_files()
ROLES = sorted(path.parent for path in (ROOT / "roles").glob("*/tasks"))
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))
# Those in the folder internal are for the playbooks of this collection: not in the reference, not in the action group.
PUBLIC_MODULES = sorted((ROOT / "plugins" / "modules").glob("*.py"))
INTERNAL_MODULES = sorted((ROOT / "plugins" / "modules" / "internal").glob("*.py"))
MODULES = PUBLIC_MODULES + INTERNAL_MODULES
LIBRARY = ROOT / "plugins" / "module_utils" / "_pki"
FILES_OF_LIBRARY = sorted(path for path in LIBRARY.rglob("*.py") if path.name != "__init__.py")
TARGET_SIDE = MODULES + FILES_OF_LIBRARY
# From the ground up: a package imports from those before it alone (docs/architecture.md says what each is for).
PACKAGES = [
    "errors",
    "fileio",
    "runner",
    "x509",
    "host",
    "kubeadm",
    "endpoint",
    "node",
    "kube_api",
    "etcd",
    "static_pod",
    "leaf",
    "csr_ops",
    "kubelet",
    "rotation",
    "recovery",
    "report",
]
# Which files may import a library, so that its version differences and its absence are dealt with in one place.
OWNERS = {
    "cryptography": ("x509/",),
    "yaml": ("fileio/yaml_load.py", "fileio/yaml_edit.py"),
    "kubernetes": ("kube_api/api_connection.py",),
}


def load(path):
    return yaml.safe_load(path.read_text())


def ids(paths):
    return [path.stem if path.suffix else path.name for path in paths]


def place(path):
    """A file of the library as messages name it: package/file.py."""
    return path.relative_to(LIBRARY).as_posix() if LIBRARY in path.parents else path.name


# ---- every file ----


def needs_header(path):
    generated = {"CHANGELOG.md", "changelogs/changelog.yaml", "LICENSE"}
    # Neither has a comment that a reader of the rendered page or a parser would not trip over.
    without_comments = {".md", ".json", ".png", ".svg", ".html", ".pem", ".crt", ".key"}
    return path.as_posix() not in generated and path.suffix not in without_comments and (ROOT / path).stat().st_size > 0


def test_every_file_says_whose_it_is_and_under_which_license():
    head = {path: "\n".join((ROOT / path).read_text().splitlines()[:8]) for path in FILES if needs_header(path)}
    assert len(head) > 30
    wrong = [
        str(path)
        for path, text in head.items()
        if "SPDX-License-Identifier: GPL-3.0-or-later" not in text
        or "SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors" not in text
    ]
    assert wrong == []


def test_the_license_is_the_gpl_3_in_full():
    text = (ROOT / "LICENSE").read_text()
    assert "GNU GENERAL PUBLIC LICENSE" in text and "Version 3, 29 June 2007" in text
    assert "END OF TERMS AND CONDITIONS" in text


# ---- modules and the library ----


@pytest.mark.parametrize("path", TARGET_SIDE, ids=map(place, TARGET_SIDE))
def test_what_runs_on_a_node_is_python_3_8(path):
    tree = ast.parse(path.read_text(), str(path), feature_version=(3, 8))
    imported = [node.names[0].name for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    assert imported == ["annotations"]


def imports(path):
    """What a file imports: the top-level names of other libraries, and the files of this one."""
    outside, inside = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            outside |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level == 0 and "._pki" not in module:
                outside.add(module.split(".")[0])
                continue
            base = (
                LIBRARY.joinpath(*filter(None, module.split("._pki", 1)[1].split(".")))
                if node.level == 0
                else path.parents[node.level - 1].joinpath(*filter(None, module.split(".")))
            )
            # Of a package its files are imported, of a file its names.
            inside |= {base / f"{alias.name}.py" for alias in node.names} if base.is_dir() else {base.with_suffix(".py")}
    return outside, inside


def package_of(path):
    part = path.relative_to(LIBRARY).parts[0]
    return part.removesuffix(".py")


def test_every_package_has_its_level_and_an_empty_init():
    assert sorted({package_of(path) for path in FILES_OF_LIBRARY}) == sorted(PACKAGES)
    assert [str(path) for path in LIBRARY.rglob("__init__.py") if path.read_text()] == []
    assert {path.parent for path in FILES_OF_LIBRARY} == {path.parent for path in LIBRARY.rglob("__init__.py")}


@pytest.mark.parametrize("path", FILES_OF_LIBRARY, ids=map(place, FILES_OF_LIBRARY))
def test_imports_go_downwards(path):
    found = imports(path)[1]
    assert [place(other) for other in sorted(found) if not other.exists()] == []
    level = PACKAGES.index(package_of(path))
    assert [place(other) for other in sorted(found) if PACKAGES.index(package_of(other)) > level] == []


def test_no_file_imports_itself_by_a_detour():
    left = {path: imports(path)[1] for path in FILES_OF_LIBRARY}
    while True:
        free = [path for path, others in left.items() if not others & set(left)]
        if not free:
            break
        for path in free:
            del left[path]
    assert [place(path) for path in left] == []


def test_a_class_has_a_name_of_its_own_in_the_library():
    found = {}
    for path in FILES_OF_LIBRARY:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(place(path))
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


def carried_by(path):
    """The files of the library that Ansible sends with a module."""
    found, todo = set(), [path]
    while todo:
        file = todo.pop()
        if file not in found:
            found.add(file)
            todo += imports(file)[1]
    return found


# 120 KB is the aim. Two internal modules miss it, rotation_files and kubelet_credential, since the library has type annotations.
# Ansible compresses each file for itself; `python -m tests.bench.payload` builds the real thing, which is as large.
@pytest.mark.parametrize("path", MODULES, ids=ids(MODULES))
def test_a_module_sends_at_most_128_kb_of_the_collection(path):
    found = carried_by(path)
    assert len(found) >= 4 or not imports(path)[1]
    assert sum(len(zlib.compress(file.read_bytes())) for file in found) <= 128 * 1024


@pytest.mark.parametrize("path", TARGET_SIDE, ids=map(place, TARGET_SIDE))
def test_a_library_is_imported_by_its_owners_only(path):
    outside = imports(path)[0]
    assert {name for name in outside & set(OWNERS) if not place(path).startswith(OWNERS[name])} == set()


def assigned(path):
    """The string constants that a module assigns at its top level, parsed as YAML."""
    tree = ast.parse(path.read_text())
    return {
        node.targets[0].id: yaml.safe_load(node.value.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        and node.targets[0].id in ("DOCUMENTATION", "EXAMPLES", "RETURN")
    }


@pytest.mark.parametrize("path", MODULES, ids=ids(MODULES))
def test_a_module_tells_how_it_behaves_in_check_mode_and_shows_itself_in_use(path):
    said = assigned(path)
    assert {"check_mode", "diff_mode"} <= set(said["DOCUMENTATION"]["attributes"])
    assert said["DOCUMENTATION"]["attributes"]["check_mode"]["support"] == "full"
    name = f"kubepki.lifecycle.internal.{path.stem}" if path in INTERNAL_MODULES else f"kubepki.lifecycle.{path.stem}"
    assert any(name in task for task in said["EXAMPLES"])
    assert said["RETURN"]


def test_the_action_group_names_every_public_module():
    assert load(ROOT / "meta" / "runtime.yml")["action_groups"]["lifecycle"] == ids(PUBLIC_MODULES)


@pytest.mark.parametrize("path", INTERNAL_MODULES, ids=ids(INTERNAL_MODULES))
def test_an_internal_module_says_so(path):
    first = assigned(path)["DOCUMENTATION"]["description"][0]
    assert first == "Internal: the playbooks of this collection call it. Its options may change in any release."


@pytest.mark.parametrize("path", MODULES, ids=ids(MODULES))
def test_what_a_module_returns_from_a_node_is_cleaned_on_the_controller(path):
    """Ansible takes facts, hosts and statistics from the result of any module that its usual action runs."""
    text = (ROOT / "plugins" / "action" / path.relative_to(ROOT / "plugins" / "modules")).read_text()
    if "plugin_utils.node_module import ActionModule\n" in text:
        assert "class " not in text
    else:
        assert "class ActionModule(LifecycleAction):\n" in text
    assert "self._execute_module(" not in text


def test_one_method_runs_all_modules_and_cleans_their_results():
    utilities = {path.name: path.read_text() for path in (ROOT / "plugins" / "plugin_utils").glob("*.py")}
    assert [name for name, text in utilities.items() if "self._execute_module(" in text] == ["action_base.py"]
    assert utilities["action_base.py"].count("self._execute_module(") == 1
    assert re.search(r"node_results\.sanitize_result\(\s*self\._execute_module\(", utilities["action_base.py"])


def test_nothing_in_the_collection_is_async():
    """Its result would be read by Ansible's own async_status, which takes facts from it."""
    assert [path for path in [*PLAYBOOKS, *TASK_FILES] if re.search(r"^\s*async:", path.read_text(), re.MULTILINE)] == []


# ---- roles ----

TASK_FILES = sorted((ROOT / "roles").glob("*/tasks/*.yml"))


@pytest.mark.parametrize("path", TASK_FILES, ids=[str(path.relative_to(ROOT / "roles")) for path in TASK_FILES])
def test_no_task_is_delegated_to_what_a_fact_can_override(path):
    """Facts go before role defaults and the inventory, not before vars/main.yml and Ansible's own groups."""
    own = ROOT / "roles" / path.relative_to(ROOT / "roles").parts[0] / "vars" / "main.yml"
    fixed = {"groups", "kube_control_plane", "default", "true", *(load(own) if own.exists() else {})}
    for task in flatten_tasks(load(path)):
        hosts = re.findall(r"[a-z_]{2,}", task.get("delegate_to", ""))
        if hosts == ["item"]:
            hosts = re.findall(r"[a-z_]{2,}", task["loop"])
        assert set(hosts) <= fixed, task["name"]


@pytest.mark.parametrize("path", TASK_FILES, ids=[str(path.relative_to(ROOT / "roles")) for path in TASK_FILES])
def test_facts_are_checked_after_the_tasks_of_ansibles_own_modules(path):
    """Such modules run on nodes, and what they return is taken as it is."""
    tasks = list(flatten_tasks(load(path)))
    on_controller = {f"ansible.builtin.{name}" for name in ("assert", "debug", "fail", "meta", "pause", "set_fact", "set_stats")}
    on_controller |= {f"ansible.builtin.{what}_{kind}" for what in ("include", "import") for kind in ("tasks", "role")}
    found = [
        number
        for number, task in enumerate(tasks)
        if any(key.startswith("ansible.builtin.") and key not in on_controller for key in task)
    ]
    checks = [
        number
        for number, task in enumerate(tasks)
        if (task.get("kubepki.lifecycle.internal.variable_check") or {}).get("facts_only")
    ]
    called = path.parts[-3] == "report_timer" and path.name != "main.yml"  # main.yml checks after it
    assert not found or called or (checks and checks[-1] > found[-1])


def entries(role):
    return load(role / "meta" / "argument_specs.yml")["argument_specs"]


@pytest.mark.parametrize("role", ROLES, ids=ids(ROLES))
def test_a_roles_defaults_are_those_of_its_specification(role):
    defaults = load(role / "defaults" / "main.yml") or {}
    specified = {}
    for entry in entries(role).values():
        for name, option in entry.get("options", {}).items():
            assert name.startswith(f"{role.name}_")
            if "default" in option:
                assert specified.setdefault(name, option["default"]) == option["default"], f"{name} has two defaults"
    assert specified == defaults


@pytest.mark.parametrize("role", ROLES, ids=ids(ROLES))
def test_a_role_has_a_page_that_names_all_its_variables(role):
    page = (role / "README.md").read_text()
    names = {name for entry in entries(role).values() for name in entry.get("options", {})}
    assert {name for name in names if f"`{name}`" not in page} == set()


@pytest.mark.parametrize("role", ROLES, ids=ids(ROLES))
def test_an_entry_point_has_its_tasks(role):
    assert [name for name in entries(role) if not (role / "tasks" / f"{name}.yml").exists()] == []


def role_calls(document):
    """Every use of a role in a play or a task file, at any depth: (name, entry point, the variables given)."""
    if isinstance(document, list):
        for item in document:
            yield from role_calls(item)
    elif isinstance(document, dict):
        for key in ("ansible.builtin.include_role", "ansible.builtin.import_role"):
            if key in document:
                call = document[key]
                yield call["name"], Path(call.get("tasks_from", "main")).stem, set(document.get("vars", {}))
        for value in document.values():
            yield from role_calls(value)


CALLERS = PLAYBOOKS + sorted((ROOT / "roles").glob("*/tasks/*.yml"))


@pytest.mark.parametrize("path", CALLERS, ids=[str(path.relative_to(ROOT)) for path in CALLERS])
def test_a_role_is_called_by_its_full_name_at_a_specified_entry_with_variables_it_knows(path):
    for name, entry, given in role_calls(load(path)):
        assert name.startswith("kubepki.lifecycle.")
        specification = entries(ROOT / "roles" / name.rpartition(".")[2])
        # An entry point that only a run tells may be any of them.
        possible = specification if "{{" in entry else {entry: specification.get(entry)}
        assert None not in possible.values(), f"{name} has no argument specification for its entry point {entry}"
        assert given <= {option for one in possible.values() for option in one.get("options", {})}, f"{name} ({entry})"


def test_the_steps_of_each_phase_are_entry_points_of_the_rotation():
    imports = [play for play in load(ROOT / "playbooks" / "rotate_ca.yml") if "rotate_steps" in play.get("vars", {})]
    assert len(imports) == 5
    found = {step for play in imports for step in play["vars"]["rotate_steps"]}
    assert found == {"check_start", "stage", "wait_for_pods", "verify_acceptance"}
    assert found <= set(entries(ROOT / "roles" / "ca_rotation"))


# ---- playbooks ----


def documented_variables():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    return {name for page in pages for name in re.findall(r"\bkubepki_[a-z_]+", page.read_text())}


@pytest.mark.parametrize("path", PLAYBOOKS, ids=ids(PLAYBOOKS))
def test_a_playbook_is_in_the_readme_and_the_variables_it_reads_are_on_a_page(path):
    text = path.read_text()
    if not path.name.startswith("_"):
        assert f"`{path.stem}`" in (ROOT / "README.md").read_text()
    registered = set(re.findall(r"(?:register:\s*|^\s+)(kubepki_[a-z_]+)(?::|$)", text, re.MULTILINE))
    assert set(re.findall(r"\bkubepki_[a-z_]+", text)) - registered - documented_variables() == set()


@pytest.mark.parametrize("path", [path for path in PLAYBOOKS if not path.name.startswith("_")], ids=lambda path: path.stem)
def test_a_playbook_begins_with_what_it_needs_under_its_own_name(path):
    first = load(path)[0]
    assert first["ansible.builtin.import_playbook"] == "_inventory.yml"
    assert first["vars"]["inventory_playbook"] == path.stem
    assert len({"inventory_every", "inventory_some"} & set(first["vars"])) == 1


@pytest.mark.parametrize("path", PLAYBOOKS, ids=ids(PLAYBOOKS))
def test_where_a_play_goes_node_by_node_and_looks_for_lost_ones_it_does_that_first(path):
    for play in load(path):
        steps = [task.get("ansible.builtin.include_role", {}).get("tasks_from") for task in flatten_tasks(play.get("tasks", []))]
        if "serial" in play and "guard.yml" in steps:
            assert steps.index("guard.yml") == 0, play["name"]


@pytest.mark.parametrize("path", PLAYBOOKS, ids=ids(PLAYBOOKS))
def test_every_play_pins_the_strategy_that_its_order_needs(path):
    """With ANSIBLE_STRATEGY=free a node would not wait for the others between two tasks, and a third CA was made."""
    plays = [play for play in load(path) if "hosts" in play]
    assert [play["name"] for play in plays if play.get("strategy") != "ansible.builtin.linear"] == []


# These two change no cluster: a report, and a timer on the host that makes the report.
WITHOUT_LEASE = {"_inventory", "check_expiry", "schedule_report"}


@pytest.mark.parametrize("path", [path for path in PLAYBOOKS if path.stem not in WITHOUT_LEASE], ids=lambda path: path.stem)
def test_a_playbook_that_changes_a_cluster_holds_the_lease_and_gives_it_back_wherever_it_ends(path):
    plays = [play for play in load(path) if "hosts" in play]
    calls = [list(role_calls(play)) for play in plays]
    taken = [
        number
        for number, called in enumerate(calls)
        for _name, entry, given in called
        if entry == "lease" or (entry == "main" and "preflight_hold_lease" in given)
    ]
    assert taken == ([] if path.stem == "_rotate_phase" else [0])
    ends = []
    for play in plays:
        [block] = play["tasks"]
        [release] = block["always"]
        assert release["ansible.builtin.include_role"] == {"name": "kubepki.lifecycle.preflight", "tasks_from": "release.yml"}
        ends.append(release.get("when"))
    last = ends.pop() if path.stem != "_rotate_phase" else None
    # Ansible ends the playbook where a whole batch has failed (executor/playbook_executor.py).
    assert last is None and set(ends) <= {"ansible_play_batch | length == 0"}


@pytest.mark.parametrize("path", [path for path in PLAYBOOKS if path.stem not in WITHOUT_LEASE], ids=lambda path: path.stem)
def test_every_play_that_goes_node_by_node_renews_the_lease_before_it_touches_one(path):
    for play in load(path):
        if "serial" in play and path.stem != "check_signers":
            roles = {(name.rpartition(".")[2], entry) for name, entry, _given in role_calls(play)}
            tasks = [ROOT / "roles" / name / "tasks" / f"{entry}.yml" for name, entry in roles if "{{" not in entry]
            inner = {call[1] for file in tasks for call in role_calls(load(file))} | {entry for _name, entry in roles}
            assert inner & {"guard", "renew"}, play["name"]


def statistics(document):
    """Every run-level artifact that a play sets at its end."""
    for play in document:
        for task in flatten_tasks(play.get("tasks", [])):
            found = task.get("ansible.builtin.set_stats", {}).get("data", {}).get("kubepki")
            if found and "'failed'" not in str(found):
                yield str(found)


def test_every_artifact_that_a_playbook_sets_by_itself_says_what_and_how_long():
    found = {path.stem: list(statistics(load(path))) for path in PLAYBOOKS}
    assert {name for name, artifacts in found.items() if artifacts} == {
        "check_signers",
        "issue_user",
        "manage_csrs",
        "rotate_ca",
        "schedule_report",
    }
    assert [
        name
        for name, artifacts in found.items()
        for artifact in artifacts
        for field in ("job", "state", "seconds")
        if f"'{field}':" not in artifact
    ] == []


# A fact cache holds what was true once: nothing is gathered before it is needed, and nothing lasts longer than the run.
def test_no_fact_is_used_that_the_task_before_has_not_gathered():
    for path in PLAYBOOKS:
        for play in load(path):
            assert play.get("gather_facts") is False or "ansible.builtin.import_playbook" in play, f"{path.name}: {play['name']}"
    readers = {}
    for path in [*PLAYBOOKS, *(ROOT / "roles").glob("*/*/*.yml")]:
        assert not re.search(
            r"\bcacheable\b|\bansible_(date_time|distribution|os_family|default_ipv4|hostname|nodename)\b", path.read_text()
        ), path
        if "ansible_facts" in path.read_text():
            readers[path.relative_to(ROOT).as_posix()] = set(re.findall(r"ansible_facts\['(\w+)'\]", path.read_text()))
    timer = readers.pop("roles/report_timer/tasks/present.yml"), readers.pop("roles/report_timer/vars/main.yml")
    assert timer == ({"getent_passwd"}, {"getent_passwd"})
    steps = load(ROOT / "roles" / "report_timer" / "tasks" / "present.yml")
    asked = next(number for number, task in enumerate(steps) if "ansible.builtin.getent" in task)
    assert asked + 1 == next(number for number, task in enumerate(steps) if "ansible_facts" in str(task))
    assert readers == {"roles/preflight/tasks/prerequisites.yml": {"pkg_mgr"}}
    tasks = load(ROOT / "roles" / "preflight" / "tasks" / "prerequisites.yml")
    gathers = [number for number, task in enumerate(tasks) if "ansible.builtin.setup" in task]
    uses = [number for number, task in enumerate(tasks) if "ansible_facts" in str(task)]
    assert len(gathers) == 1 and uses == [gathers[0] + 1]
    assert "when" not in tasks[gathers[0]]


# ---- the release ----


def test_the_version_has_a_changelog_entry_or_fragments_wait_for_one():
    version = load(ROOT / "galaxy.yml")["version"]
    changelog = ROOT / "changelogs" / "changelog.yaml"
    released = load(changelog)["releases"] if changelog.exists() else {}
    assert version in released or list((ROOT / "changelogs" / "fragments").glob("*.yml"))


@pytest.mark.parametrize("path", MODULES, ids=ids(MODULES))
def test_a_module_was_added_in_a_version_that_there_is(path):
    """The changelog leaves out what was added in another one."""
    added = re.search(r'^version_added: "?([\d.]+)"?$', path.read_text(), re.MULTILINE).group(1)
    assert "## v" + added in (ROOT / "CHANGELOG.md").read_text().replace("\\", "")


def test_what_the_controller_needs_is_named_where_builders_of_execution_environments_look():
    python = load(ROOT / "meta" / "execution-environment.yml")["dependencies"]["python"]
    named = {re.split(r"[<>=]", line)[0] for line in (ROOT / python).read_text().splitlines() if not line.startswith("#")}
    assert named == {"cryptography", "jmespath", "kubernetes"}
