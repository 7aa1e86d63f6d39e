#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: path_check
short_description: Refuses files and directories that other users can change
version_added: 0.1.0
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Fails when a user other than root, the one of this task and those of O(users) can change what is at a path.
  - Every directory on the way is looked at, every symbolic link and what it leads to, and everything below a directory.
  - A directory with the sticky bit, such as C(/tmp), is accepted on the way to a path.
  - The internal check of the role C(report_timer), whose service runs these files.
author:
  - The kubepki.lifecycle authors (@kubepki)
attributes:
  check_mode:
    description: Does the same in check mode.
    support: full
  diff_mode:
    description: Shows no diff.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
options:
  paths:
    description: The files and directories, absolute. What does not exist is checked as far as it exists, and refused where
      other users can create it.
    type: list
    elements: path
    required: true
  users:
    description: Names of users who may own them, besides root.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Check that only root and the user of the service can change what the service runs
  kubepki.lifecycle.internal.path_check:
    paths: [/etc/kubepki/inventory, /opt/kubepki/venv]
    users: [kubepki]
"""

RETURN = r"""
paths:
  description: The paths that were checked.
  returned: success
  type: list
  elements: str
  sample: [/etc/kubepki/inventory]
seconds:
  description: How long the module took.
  returned: always
  type: float
  sample: 0.1
"""

import os
import pwd
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import path_trust
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.runner import run


def check(module: AnsibleModule) -> Dict[str, Any]:
    """Check the paths and return the module's result."""
    users = {os.geteuid()}
    for name in module.params["users"]:
        try:
            users.add(pwd.getpwnam(name).pw_uid)
        except KeyError:
            raise PkiError("there is no user %s on this host" % name, fix="Create the user, or correct the name.") from None
    for path in module.params["paths"]:
        path_trust.require_trusted_tree(path, users)
    return {"changed": False, "paths": module.params["paths"]}


def main() -> None:
    """Build the options and run the check."""
    options = {
        "paths": {"type": "list", "elements": "path", "required": True},
        "users": {"type": "list", "elements": "str", "default": []},
    }
    run(AnsibleModule(argument_spec=options, supports_check_mode=True), check, needs=())


if __name__ == "__main__":
    main()
