# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/reference from what modules, roles and playbooks declare: `python tools/reference.py [--check]`."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from plugins.plugin_utils.playbook_variables import (  # noqa: E402
    NAMESPACE,
    PlaybookVariable,
    read_playbooks,
    read_variables,
)
from tools import role_readmes  # noqa: E402

GENERATED = (
    "<!-- SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors -->\n"
    "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->\n"
    "<!-- written by `make docs` from %s -->"
)


# ---- what is declared ----


def documentation(path: Path) -> dict:
    """Return DOCUMENTATION, EXAMPLES (as text) and RETURN of a module, with the options of its documentation fragments."""
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
    """Return Ansible's markup as Markdown on one line, for a cell of a table."""
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


def _meaning(variable: PlaybookVariable, theirs: dict[str, str]) -> tuple[str, str]:
    """Return the cells default and meaning. Where playbooks differ, each has its own text in them."""
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
    known = read_variables()
    theirs = {meaning.option: variable.name for variable in known.values() for meaning in variable.meanings if meaning.option}
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
        lines.append(f"| `{variable.name}` | {' or '.join(variable.types)} | {default} | {meaning} |")
    lines += ["", "## By playbook", "", "| playbook | reads |", "|---|---|"]
    for playbook in read_playbooks():
        read = [f"`{name}`" for name, variable in known.items() if playbook in variable.playbooks]
        lines.append(f"| `{playbook}` | {', '.join(read)} |")
    return "\n".join([*lines, ""])


def pages() -> dict[Path, str]:
    """Return every generated page: its path and its text."""
    reference = ROOT / "docs" / "reference"
    return {
        **role_readmes.pages(),
        reference / "modules.md": modules_page(),
        reference / "roles.md": roles_page(),
        reference / "variables.md": variables_page(),
    }


if __name__ == "__main__":
    sys.exit(role_readmes.write(pages(), "--check" in sys.argv))
