# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write every role's README.md from its argument specification: `python tools/role_readmes.py [--check]`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import yaml

ROLES = Path(__file__).resolve().parents[1] / "roles"


def markdown(text: str) -> str:
    """Return Ansible's C(...), O(...) and M(...) as Markdown code."""
    return re.sub(r"\b[COM]\(([^)]*)\)", r"`\1`", text)


def sentences(value: list[str] | str) -> str:
    return markdown(" ".join(value) if isinstance(value, list) else value)


def shown(option: dict) -> str:
    """Return an option's default as a cell of a table."""
    default = option.get("default", "")
    if isinstance(default, list):
        default = ", ".join(str(item) for item in default) or "(empty)"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`" if default != "" else "-"


def option_rows(options: dict[str, dict]) -> list[str]:
    rows = ["| variable | type | default | meaning |", "|---|---|---|---|"]
    for name, option in options.items():
        rows.append(f"| `{name}` | {option['type']} | {shown(option)} | {sentences(option['description'])} |")
    return rows


def readme(role: Path) -> str:
    """Return the README of one role."""
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
    lines = [f"# kubepki.lifecycle.{role.name}", "", sentences(specs["main"]["description"]), ""]
    shared = specs["main"].get("options", {})
    if shared:
        lines += ["## Variables", "", *option_rows(shared), ""]
    others = {name: spec for name, spec in specs.items() if name != "main"}
    if others:
        lines += ["## Other entry points (`tasks_from`)", ""]
        for name, spec in others.items():
            lines += [f"### {name}", "", sentences(spec["description"]), ""]
            own = {key: value for key, value in spec.get("options", {}).items() if key not in shared}
            if own:
                lines += [*option_rows(own), ""]
    lines += [
        "The playbooks of the collection show how it is driven; the variables of the playbooks (`kubepki_...`) are in the",
        "collection's README. This page is generated from `meta/argument_specs.yml` by `make docs`.",
        "",
    ]
    return "\n".join(lines)


def pages() -> dict[Path, str]:
    """Return every role's README: its path and its text."""
    return {role / "README.md": readme(role) for role in sorted(ROLES.iterdir()) if (role / "meta/argument_specs.yml").exists()}


def write(wanted: dict[Path, str], check: bool) -> int:
    """Write the pages that are not as wanted; with `check`, only name them. Return the exit code."""
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if check and stale:
        print("not what the specifications say (run `make docs`): " + ", ".join(str(path) for path in stale))
        return 1
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path])
    return 0


if __name__ == "__main__":
    sys.exit(write(pages(), "--check" in sys.argv))
