# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Ansible inventory of a lab, as INI text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

#: Node addresses return with other host keys when a lab is rebuilt.
SSH_OPTIONS = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR")


def render(control_planes: Mapping[str, str], workers: Mapping[str, str], key: Path) -> str:
    """Inventory with the groups kube_control_plane and kube_node; the mappings are name -> address."""
    lines = ["[kube_control_plane]"]
    lines += [f"{name} ansible_host={address}" for name, address in control_planes.items()]
    lines += ["", "[kube_node]"]
    lines += [f"{name} ansible_host={address}" for name, address in workers.items()]
    lines += [
        "",
        "[all:vars]",
        "ansible_user=root",
        f"ansible_ssh_private_key_file={key}",
        "ansible_python_interpreter=/usr/bin/python3",
        f"ansible_ssh_common_args={' '.join(SSH_OPTIONS)}",
    ]
    return "\n".join(lines) + "\n"
