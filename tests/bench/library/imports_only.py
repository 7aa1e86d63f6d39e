# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cert_expiry is measured against: a module that imports what it needs and ends."""

from __future__ import annotations

import importlib

from ansible.module_utils.basic import AnsibleModule

NEEDED = (
    "yaml",
    "cryptography.x509",
    *("cryptography.hazmat.primitives." + name for name in ("hashes", "serialization", "asymmetric.rsa")),
)

if __name__ == "__main__":
    for name in NEEDED:
        importlib.import_module(name)
    AnsibleModule(argument_spec={}, supports_check_mode=True).exit_json(changed=False)
