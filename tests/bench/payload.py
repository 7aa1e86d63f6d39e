# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many bytes Ansible sends to a node to run a module: the whole of what it builds, as the controller builds it.

ansible.builtin.ping alone is 165 KB with ansible-core 2.19 (120 KB of archive in base64 and a wrapper), so the limit is
for what this collection adds: its own files in the archive, compressed.

    python -m tests.bench.payload            all modules of this collection, beside ansible.builtin.ping
    python -m tests.bench.payload -v NAME    and what is in one
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 120 * 1024
PING = "ansible.builtin.ping"


def build(name: str) -> bytes:
    """Give the payload of a module by its full name, compressed as Ansible does by default (ZIP_DEFLATED)."""
    # Ansible reads its configuration when it is imported.
    os.environ.setdefault("ANSIBLE_COLLECTIONS_PATH", str(ROOT / ".cache"))
    from ansible.executor.module_common import modify_module
    from ansible.parsing.dataloader import DataLoader
    from ansible.plugins.loader import init_plugin_loader, module_loader
    from ansible.template import Templar

    init_plugin_loader()
    found = module_loader.find_plugin_with_context(name)
    if not found.resolved:
        raise SystemExit("there is no module %s" % name)
    variables = {"ansible_python_interpreter": sys.executable}
    built = modify_module(
        module_name=found.resolved_fqcn,
        module_path=found.plugin_resolved_path,
        module_args={},
        templar=Templar(loader=DataLoader(), variables=variables),
        task_vars=variables,
        module_compression="ZIP_DEFLATED",
    )
    return built.b_module_data


def contents(payload: bytes) -> dict[str, int]:
    """Give the files in a payload, with the compressed size of each in bytes."""
    found = re.findall(rb"[A-Za-z0-9+/=\n]{1000,}", payload)
    if not found:  # only documentation: the work is done on the controller
        return {}
    # The archive is the longest run of base64 in the wrapper.
    longest = max(found, key=len)
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(longest))) as archive:
        return {item.filename: item.compress_size for item in archive.infolist()}


def own(payload: bytes) -> int:
    """Give the compressed bytes of this collection's files in a payload."""
    return sum(size for path, size in contents(payload).items() if path.startswith("ansible_collections/kubepki/"))


def modules() -> list[str]:
    """Give the full names of this collection's modules."""
    folder = ROOT / "plugins" / "modules"
    return [
        "kubepki.lifecycle." + ".".join(path.relative_to(folder).with_suffix("").parts) for path in sorted(folder.rglob("*.py"))
    ]


def table() -> list[str]:
    """Give the sizes of all modules as a table in Markdown."""
    lines = ["| module | whole payload | this collection's share, compressed |", "|---|---|---|"]
    for name in [PING, *modules()]:
        built = build(name)
        short = name.removeprefix("kubepki.lifecycle.")
        lines.append("| `%s` | %.0f KB | %.0f KB |" % (short, len(built) / 1024, own(built) / 1024))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="*", help="modules; without any, all of this collection")
    parser.add_argument("-v", "--verbose", action="store_true", help="also what is in each")
    parser.add_argument("--markdown", action="store_true", help="the table of docs/performance.md")
    options = parser.parse_args()
    if options.markdown:
        print("\n".join(table()))
        return
    print("%-45s %10s %10s" % ("module", "whole KB", "own KB"))
    for name in options.name or [PING] + modules():
        payload = build(name)
        added = own(payload)
        print("%-45s %10.1f %10.1f%s" % (name, len(payload) / 1024.0, added / 1024.0, "" if added <= LIMIT else "  above 120"))
        if options.verbose:
            for path, size in sorted(contents(payload).items(), key=lambda item: -item[1]):
                print("    %7.1f KB  %s" % (size / 1024.0, path))


if __name__ == "__main__":
    main()
