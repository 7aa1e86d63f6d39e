#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cert_expiry is measured against: a module that imports what it needs and ends."""

from __future__ import annotations

import yaml  # noqa: F401
from ansible.module_utils.basic import AnsibleModule
from cryptography import x509  # noqa: F401
from cryptography.hazmat.primitives import hashes, serialization  # noqa: F401
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa  # noqa: F401

if __name__ == "__main__":
    AnsibleModule(argument_spec={}, supports_check_mode=True).exit_json(changed=False)
