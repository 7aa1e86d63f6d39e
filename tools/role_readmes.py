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
    """Ansible's C(...) and O(...) as Markdown code."""
    return re.sub(r"\b[CO]\(([^)]*)\)", r"`\1`", text)


def sentences(value: list[str] | str) -> str:
    return markdown(" ".join(value) if isinstance(value, list) else value)


def option_rows(options: dict[str, dict]) -> list[str]:
    rows = ["| variable | type | default | meaning |", "|---|---|---|---|"]
    for name, option in options.items():
        default = option.get("default", "")
        if isinstance(default, list):
            default = ", ".join(str(item) for item in default) or "(empty)"
        shown = f"`{str(default).lower() if isinstance(default, bool) else default}`" if default != "" else "-"
        rows.append(f"| `{name}` | {option['type']} | {shown} | {sentences(option['description'])} |")
    return rows


def readme(role: Path) -> str:
    """The README of one role."""
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
    lines += ["The playbooks of the collection show how it is driven; the variables of the playbooks (`kubepki_...`) are in the",
              "collection's README. This page is generated from `meta/argument_specs.yml` by `make docs`.", ""]
    return "\n".join(lines)


def main() -> int:
    stale = []
    for role in sorted(path for path in ROLES.iterdir() if (path / "meta/argument_specs.yml").exists()):
        text, target = readme(role), role / "README.md"
        if not target.exists() or target.read_text() != text:
            stale.append(target)
            if "--check" not in sys.argv:
                target.write_text(text)
    if "--check" in sys.argv and stale:
        print("not what meta/argument_specs.yml says (run `make docs`): " + ", ".join(str(path) for path in stale))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
