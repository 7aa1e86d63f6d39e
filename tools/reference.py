# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/reference from what modules, roles and playbooks declare: `python tools/reference.py [--check]`.

`variables()` is also what the tests of the documentation judge commands by.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import textwrap
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools import role_readmes  # noqa: E402

NAMESPACE = "kubepki.lifecycle."
VARIABLE = re.compile(r"\bkubepki_[a-z_]+")
GENERATED = (
    "<!-- SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors -->\n"
    "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->\n"
    "<!-- written by `make docs` from %s -->"
)

# What a playbook reads itself, without handing it to a role. of_play: of a play's keyword, where no host's variables are known.
OF_PLAYBOOKS = {
    "kubepki_api_host": {
        "type": "str",
        "default": "kube_control_plane[0]",
        "of_play": True,
        "description": "The host of the inventory from which the API is spoken to.",
    },
    "kubepki_batch": {
        "type": "str",
        "default": "10%",
        "of_play": True,
        "description": "How many workers at a time: a percentage or a count.",
    },
    "kubepki_timer_host": {
        "type": "str",
        "default": "localhost",
        "of_play": True,
        "description": "The host that makes the report: the controller, or a host of the inventory.",
    },
    "kubepki_user_state": {
        "type": "str",
        "default": "present",
        "choices": ["present", "absent"],
        "description": "C(present) issues or renews; C(absent) revokes.",
    },
}
KEY_TYPES = ["rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256", "ecdsa-p384"]
# Where a role's option takes more than a user may give it, or says its values in words.
CHOICES = {
    "kubepki_phase": ["status", "prepare", "switch", "complete", "all", "rollback"],
    "kubepki_cas": ["ca", "front-proxy-ca", "etcd-ca", "sa"],
    "kubepki_kubelet_method": ["ca", "api"],
    "kubepki_key_type": KEY_TYPES,
    "kubepki_kubelet_authority": ["leave", "set", "remove"],
}
# What the types of roles' options let through, and no job can use.
STRICTER: dict[str, dict] = {
    **{
        name: {"positive": True}
        for name in ("kubepki_ca_days", "kubepki_leaf_days", "kubepki_user_days", "kubepki_external_ca_seconds")
    },
    "kubepki_batch": {"pattern": "[1-9][0-9]*%?", "said": "count and no percentage such as 10%", "literal": True},
    # Free text of the surveys in docs/examples/awx: only what the meaning needs, and never a template.
    "kubepki_cas": {"literal": True},
    "kubepki_names": {"pattern": "[a-z0-9][a-z0-9.-]*", "said": "list of names", "literal": True},
    "kubepki_backup_set": {
        "pattern": "latest|[0-9TZ.]+-[a-z0-9-]+",
        "said": "name of a backup set, and not latest",
        "literal": True,
    },
    "kubepki_csr_names": {
        "pattern": "all pending|[a-z0-9]([-a-z0-9.]*[a-z0-9])?",
        "said": "list of names of requests",
        "literal": True,
    },
    **{
        name: {"pattern": "[A-Za-z0-9_][A-Za-z0-9_.-]*(\\[[0-9]+\\])?", "said": "host of the inventory", "literal": True}
        for name in ("kubepki_api_host", "kubepki_timer_host", "kubepki_user_host")
    },
    # Ansible expands ~ and $HOME in a path.
    **{name: {"pattern": "[/~$].*", "said": "absolute path"} for name in ("kubepki_backup_dir", "kubepki_textfile_dir")},
    "kubepki_restart_workloads": {
        "empty": True,
        "pattern": "[a-z0-9]([-a-z0-9]*[a-z0-9])?",
        "said": "list of namespaces",
        "literal": True,
    },
}
# Names of renew_leaves; what it says of kubelets' certificates is said in its role.
LEAF_NAMES = [
    "all",
    "apiserver",
    "apiserver-kubelet-client",
    "front-proxy-client",
    "apiserver-etcd-client",
    "etcd-server",
    "etcd-peer",
    "etcd-healthcheck-client",
    "admin.conf",
    "super-admin.conf",
    "controller-manager.conf",
    "scheduler.conf",
    "kubelet-client",
    "kubelet-serving",
]


# ---- what is declared ----


def playbooks() -> dict[str, list[dict]]:
    """Every playbook that users start, with the plays of those it imports."""
    loaded = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "playbooks").glob("*.yml"))}

    def plays(name: str) -> list[dict]:
        found = []
        for play in loaded[name]:
            inner = Path(play.get("ansible.builtin.import_playbook", "")).stem
            found += plays(inner) if inner else [play]
        return found

    return {name: plays(name) for name in loaded if not name.startswith("_")}


def steps(tasks: list[dict]) -> list[dict]:
    """The tasks of a list, those of its blocks included, in their order."""
    found = []
    for task in tasks:
        inner = [each for part in ("block", "rescue", "always") for each in task.get(part, [])]
        found += steps(inner) if inner else [task]
    return found


def handed_over(play: dict) -> list[tuple[str, str, str]]:
    """(role, its option, the expression) for all that a play gives to roles."""
    found = []
    for task in steps(play.get("tasks", [])):
        call = task.get("ansible.builtin.include_role") or task.get("ansible.builtin.import_role")
        if call:
            found += [(call["name"].removeprefix(NAMESPACE), name, str(value)) for name, value in task.get("vars", {}).items()]
    return found


def role_options() -> dict[str, dict]:
    """Every option of every role, by its name."""
    options = {}
    for path in sorted((ROOT / "roles").glob("*/meta/argument_specs.yml")):
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
            for name, option in entry.get("options", {}).items():
                options.setdefault(name, option)
    return options


class Variable:
    """One kubepki_ variable. meanings: [(playbooks, role option or None, option)] in the order of the playbooks' names."""

    def __init__(self, name: str):
        self.name = name
        self.meanings: list[tuple[list[str], str | None, dict]] = []

    @property
    def playbooks(self) -> list[str]:
        return sorted({playbook for names, _option, _spec in self.meanings for playbook in names})

    def add(self, playbook: str, option: str | None, spec: dict) -> None:
        for names, known, _spec in self.meanings:
            if known == option:
                if playbook not in names:
                    names.append(playbook)
                return
        self.meanings.append(([playbook], option, spec))

    @property
    def choices(self) -> list[str]:
        declared = [str(choice) for _names, _option, spec in self.meanings for choice in spec.get("choices", [])]
        return [str(choice) for choice in CHOICES.get(self.name, declared)]

    def permits(self, value: object) -> str | None:
        """None, or why the variable cannot have this value. Strings count as what they say, as Ansible takes them."""
        said = str(value).lower() if isinstance(value, bool) else str(value)
        types = {spec["type"] for _names, _option, spec in self.meanings}
        parts = said.split(",") if "list" in types else [said]
        if self.choices and said and [part for part in parts if part not in self.choices]:
            return f"{self.name}={said}: not one of {', '.join(self.choices)}"
        if types == {"bool"} and said not in ("true", "false", "yes", "no", "True", "False"):
            return f"{self.name}={said}: not a boolean"
        if types and types <= {"int", "float"} and not re.fullmatch(r"\d+(\.\d+)?", said):
            return f"{self.name}={said}: not a number"
        return None


def variables() -> dict[str, Variable]:
    """Every variable that a user can set: what the playbooks hand to roles, and what they read themselves."""
    options, found = role_options(), {}
    for playbook, plays in playbooks().items():
        for play in plays:
            for _role, option, expression in handed_over(play):
                names = set(VARIABLE.findall(expression))
                # Whether a variable is set is not what it means.
                if len(names) == 1 and re.fullmatch(r"\{\{.*(?<! defined )(?<! length > 0 )\}\}", expression, re.DOTALL):
                    name = names.pop()
                    # A default may stand in the playbook and not in the role, whose options are all given.
                    spec = dict(options[option])
                    said = re.search(r"\bkubepki_[a-z_]+ \| default\((.*?)(?:, true)?\)", expression)
                    if said:
                        spec["default"] = _literal(said.group(1), spec.get("default"))
                        spec["empty"] = said.group().endswith(", true)")
                    found.setdefault(name, Variable(name)).add(playbook, option, spec)
            for name in set(VARIABLE.findall(yaml.safe_dump(play))) & set(OF_PLAYBOOKS):
                found.setdefault(name, Variable(name)).add(playbook, None, OF_PLAYBOOKS[name])
    return dict(sorted(found.items()))


def _literal(text: str, otherwise: object) -> object:
    if text in ("true", "false"):
        return text == "true"
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return otherwise
    return "" if value == [] else value


# The widest type is the true one: a role may take as text what its module reads as a number.
_TYPES = ["list", "float", "int", "bool", "str"]


def declared() -> dict[str, list[tuple[tuple[str, ...], dict]]]:
    """What a run is checked by: for each variable [(playbooks, specification)].

    A specification: type; choices; empty (it may be); positive (0 may not be); pattern, and in words said; of_play; literal (an
    extra variable holds no template, so that who may start a job in AWX cannot run code on the controller).
    """
    found: dict[str, list[tuple[tuple[str, ...], dict]]] = {}
    for name, variable in variables().items():
        kinds = {"str" if spec["type"] == "path" else spec["type"] for _names, _option, spec in variable.meanings}
        by_playbook = {playbook: _checked(variable, playbook, min(kinds, key=_TYPES.index)) for playbook in variable.playbooks}
        specs = [spec for number, spec in enumerate(by_playbook.values()) if spec not in list(by_playbook.values())[:number]]
        found[name] = [(tuple(playbook for playbook in by_playbook if by_playbook[playbook] == spec), spec) for spec in specs]
    return found


def _checked(variable: Variable, playbook: str, kind: str) -> dict:
    specs = [spec for names, _option, spec in variable.meanings if playbook in names]
    checked: dict = {"type": kind}
    choices = LEAF_NAMES if (variable.name, playbook) == ("kubepki_names", "renew_leaves") else variable.choices
    if choices and kind != "bool":
        checked["choices"] = tuple(choice for choice in choices if choice)
    if any(spec.get("empty") or spec.get("required") or spec.get("default") in ("", [], None) for spec in specs):
        checked["empty"] = True
    if any(spec.get("of_play") for spec in specs):
        checked["of_play"] = True
    stricter = STRICTER.get(variable.name, {})
    return {
        **checked,
        **{key: value for key, value in stricter.items() if key not in ("pattern", "said") or "choices" not in checked},
    }


def declared_module() -> str:
    """The same as a module that the collection brings along."""
    lines = [
        "# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors",
        "# SPDX-License-Identifier: GPL-3.0-or-later",
        '"""Every variable that playbooks read, and what it may be: written by `make docs` from what is declared."""',
        "",
        "from __future__ import annotations",
        "",
        "VARIABLES = {",
    ]
    for name, entries in declared().items():
        lines.append(f"    {name!r}: [".replace("'", '"'))
        for names, spec in entries:
            lines += textwrap.wrap(
                "(%s, {" % _python(names),
                110,
                break_long_words=False,
                break_on_hyphens=False,
                initial_indent=" " * 8,
                subsequent_indent=" " * 9,
            )
            for key, value in spec.items():
                lines += textwrap.wrap(
                    f"{json.dumps(key)}: {_python(value)},",
                    110,
                    break_long_words=False,
                    break_on_hyphens=False,
                    initial_indent=" " * 12,
                    subsequent_indent=" " * (15 + len(json.dumps(key))),
                )
            lines.append("        }),")
        lines.append("    ],")
    return "\n".join([*lines, "}", ""])


def _python(value: object) -> str:
    if isinstance(value, tuple):
        return "(%s%s)" % (", ".join(json.dumps(each) for each in value), "," if len(value) == 1 else "")
    return str(value) if isinstance(value, bool) else json.dumps(value)


def documentation(path: Path) -> dict:
    """DOCUMENTATION, EXAMPLES (as text) and RETURN of a module, with the options of its documentation fragments."""
    said = {
        node.targets[0].id: node.value.value
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Constant)
    }
    document = yaml.safe_load(said["DOCUMENTATION"])
    options = dict(document.get("options") or {})
    for fragment in document.get("extends_documentation_fragment", []):
        name, _dot, part = fragment.removeprefix(NAMESPACE).partition(".")
        tree = ast.parse((ROOT / "plugins/doc_fragments" / f"{name}.py").read_text())
        parts = {
            target.id: node.value.value
            for cls in tree.body
            if isinstance(cls, ast.ClassDef)
            for node in cls.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        options.update(yaml.safe_load(parts[(part or "documentation").upper()])["options"])
    return {**document, "options": options, "examples": said["EXAMPLES"].strip(), "returns": yaml.safe_load(said["RETURN"])}


def modules(folder: str = "plugins/modules") -> dict[str, dict]:
    """Return what the public modules document, or the internal ones (folder plugins/modules/internal), by name."""
    return {path.stem: documentation(path) for path in sorted((ROOT / folder).glob("*.py"))}


# ---- pages ----


def markdown(text: list[str] | str) -> str:
    """Ansible's markup as Markdown, on one line, fit for a cell of a table."""
    text = " ".join(str(part) for part in text) if isinstance(text, list) else str(text)
    text = re.sub(r"\bM\(kubepki\.lifecycle\.([a-z_]+)\)", r"[\1](#\1)", text)
    text = re.sub(r"\bP\(kubepki\.lifecycle\.([a-z_]+)#role\)", r"[\1](../../roles/\1/README.md)", text)
    text = re.sub(r"\b(?:C|O|V|E|M|P|RV)\(([^)]*)\)", r"`\1`", text)
    return text.strip().replace("\n", " ").replace("|", "\\|")


def module_page(name: str, document: dict) -> list[str]:
    lines = [f"## {name}", "", f"{document['short_description']}.", "", markdown(document["description"]), ""]
    if document["options"]:
        lines += ["| option | type | default | meaning |", "|---|---|---|---|"]
        for option, spec in document["options"].items():
            kind = spec.get("type", "str") + (f" of {spec['elements']}" if spec.get("elements") else "")
            default = "**required**" if spec.get("required") else role_readmes.shown(spec)
            choices = ", ".join(f"`{choice}`" for choice in spec.get("choices", []))
            meaning = markdown(spec["description"]) + (f" One of {choices}." if choices else "")
            lines.append(f"| `{option}` | {kind} | {default} | {meaning} |")
        lines.append("")
    lines += ["| behaviour | support | |", "|---|---|---|"]
    for attribute, spec in document["attributes"].items():
        told = " ".join(markdown(spec[key]) for key in ("description", "details") if key in spec)
        lines.append(f"| {attribute.replace('_', ' ')} | {spec['support']} | {told} |")
    lines += ["", "```yaml", document["examples"], "```", "", "| returns | type | when | meaning |", "|---|---|---|---|"]
    for key, spec in document["returns"].items():
        lines += _return_rows(key, spec)
    return [*lines, ""]


def _return_rows(key: str, spec: dict) -> list[str]:
    rows = [f"| `{key}` | {spec['type']} | {markdown(spec.get('returned', ''))} | {markdown(spec['description'])} |"]
    for inner, described in (spec.get("contains") or {}).items():
        rows += _return_rows(f"{key}.{inner}", described)
    return rows


def modules_page() -> str:
    documents = modules()
    lines = [
        GENERATED % "plugins/modules",
        "# Modules",
        "",
        "All are called by their full name, `kubepki.lifecycle.NAME`, and `ansible-doc` shows the same as this page. The",
        "modules `kubepki.lifecycle.internal.NAME` are for the playbooks of this collection: their options may change in any",
        "release, and they are not on this page.",
        "",
        "| module | |",
        "|---|---|",
    ]
    lines += [f"| [{name}](#{name}) | {document['short_description']} |" for name, document in documents.items()]
    lines.append("")
    for name, document in documents.items():
        lines += module_page(name, document)
    return "\n".join(lines)


def roles_page() -> str:
    lines = [
        GENERATED % "the roles' meta/argument_specs.yml",
        "# Roles",
        "",
        "The playbooks are made of these. They can be used in playbooks of your own; each page lists the variables.",
        "",
        "| role | entry points (`tasks_from`) | |",
        "|---|---|---|",
    ]
    for path in sorted((ROOT / "roles").glob("*/meta/argument_specs.yml")):
        name = path.parents[1].name
        specs = yaml.safe_load(path.read_text())["argument_specs"]
        entries = ", ".join(f"`{entry}`" for entry in specs)
        lines.append(f"| [{name}](../../roles/{name}/README.md) | {entries} | {markdown(specs['main']['short_description'])} |")
    return "\n".join([*lines, ""])


def _meaning(variable: Variable, theirs: dict[str, str]) -> tuple[str, str]:
    """The cells default and meaning; where playbooks differ, each says its own."""
    defaults: dict[str, list[str]] = {}
    texts: dict[str, list[str]] = {}
    for names, _option, spec in variable.meanings:
        text = markdown(spec["description"])
        text = re.sub(r"`([a-z_]+)`", lambda found: f"`{theirs.get(found.group(1), found.group(1))}`", text)
        defaults.setdefault(role_readmes.shown(spec), []).extend(names)
        texts.setdefault(text, []).extend(names)
    cells = []
    for said in (defaults, texts):
        if len(said) == 1:
            cells.append(next(iter(said)))
        else:
            by = {text: ", ".join(f"`{name}`" for name in sorted(set(names))) for text, names in said.items()}
            cells.append("<br>".join(f"{names}: {text}" for text, names in by.items()))
    # Most descriptions name the values, and what each does.
    named = {word for text in texts for word in re.findall(r"`([^`]+)`", text)}
    if variable.choices and named != {choice for choice in variable.choices if choice}:
        cells[1] += f" One of {', '.join(f'`{choice}`' for choice in variable.choices if choice)}."
    return cells[0], cells[1]


def variables_page() -> str:
    known = variables()
    theirs = {option: variable.name for variable in known.values() for _names, option, _spec in variable.meanings if option}
    lines = [
        GENERATED % "the playbooks and the roles' meta/argument_specs.yml",
        "# Variables",
        "",
        "What the playbooks read. All are flat scalars: a number or a boolean may come as a string, a list as a string with",
        "commas. Where playbooks differ, the cell says which one does what. `-` is: unset.",
        "",
        "| variable | type | default | meaning |",
        "|---|---|---|---|",
    ]
    for variable in known.values():
        default, meaning = _meaning(variable, theirs)
        kinds = sorted({"str" if spec["type"] == "path" else spec["type"] for _names, _option, spec in variable.meanings})
        lines.append(f"| `{variable.name}` | {' or '.join(kinds)} | {default} | {meaning} |")
    lines += ["", "## By playbook", "", "| playbook | reads |", "|---|---|"]
    for playbook in playbooks():
        read = [f"`{name}`" for name, variable in known.items() if playbook in variable.playbooks]
        lines.append(f"| `{playbook}` | {', '.join(read)} |")
    return "\n".join([*lines, ""])


def pages() -> dict[Path, str]:
    """Every generated page, and the one generated module: its path and its text."""
    reference = ROOT / "docs" / "reference"
    return {
        **role_readmes.pages(),
        reference / "modules.md": modules_page(),
        reference / "roles.md": roles_page(),
        reference / "variables.md": variables_page(),
        ROOT / "plugins/plugin_utils/_declared.py": declared_module(),
    }


if __name__ == "__main__":
    sys.exit(role_readmes.write(pages(), "--check" in sys.argv))
