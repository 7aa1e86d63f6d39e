#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cert_ca
short_description: Make a CA with its key, or renew its certificate with the same key
version_added: 0.1.0
description:
  - Makes a CA, self-signed or signed by another CA, where O(path) is missing, and renews its certificate with the same key when
    it is due. For CAs outside of a cluster, such as that of a webhook, an external etcd, or a CA above the cluster's.
  - The CAs of a cluster are replaced by the playbook C(kubepki.lifecycle.rotate_ca).
  - The certificate and the key are written in one transaction, after a backup set of the files that are replaced. A run that was
    killed at any point is finished or undone by the next one.
options:
  state:
    description: V(present) makes the CA where it is missing, and renews it when it is due.
    type: str
    choices: [present]
    default: present
  path:
    description: The file of the CA certificate, in PEM.
    type: path
    required: true
  key_path:
    description: The file of its private key, in PEM. Made with the mode 0600 where it is missing.
    type: path
    required: true
  common_name:
    description: The common name of a CA that is made. Without it, C(kubernetes).
    type: str
  organizations:
    description: The organizations in the subject of a CA that is made.
    type: list
    elements: str
    default: []
  parent_path:
    description: The certificate of the CA that signs this one. Without it, the CA signs itself.
    type: path
  parent_key_path:
    description: The private key of O(parent_path).
    type: path
  ca_days:
    description: For how many days the CA is made or renewed. 73,000 is possible.
    type: float
    default: 3650
  key_type:
    description: The type of a new CA's key. Without it, V(rsa-2048).
    type: str
    choices: [rsa-2048, rsa-3072, rsa-4096, ecdsa-p256, ecdsa-p384]
  renew_below_days:
    description: A CA certificate with fewer days left is renewed with the same key.
    type: float
    default: 0
  force:
    description: Renew it whatever it has left.
    type: bool
    default: false
attributes:
  check_mode:
    description: Reports what would change; nothing is made or written.
    support: full
  diff_mode:
    description: Shows the certificate before and after, and never a key.
    support: full
  idempotent:
    description: A CA that is not due is left alone.
    support: full
author:
  - The kubepki.lifecycle authors (@kubepki)
seealso:
  - module: kubepki.lifecycle.cert_leaf
extends_documentation_fragment:
  - kubepki.lifecycle.node.state
  - kubepki.lifecycle.node.backup
"""

EXAMPLES = r"""
- name: Make a root CA that is valid for two hundred years
  kubepki.lifecycle.cert_ca:
    path: /etc/pki/site/root.crt
    key_path: /etc/pki/site/root.key
    common_name: Example Root CA
    ca_days: 73000
    key_type: ecdsa-p384

- name: Make an intermediate CA, and renew it with the same key in its last year
  kubepki.lifecycle.cert_ca:
    path: /etc/pki/site/ca.crt
    key_path: /etc/pki/site/ca.key
    common_name: Example CA
    parent_path: /etc/pki/site/root.crt
    parent_key_path: /etc/pki/site/root.key
    ca_days: 1825
    renew_below_days: 365
"""

RETURN = r"""
action:
  description: What was done, V(created), V(renewed) or V(kept).
  returned: always
  type: str
notes:
  description: What changed, as sentences.
  returned: always
  type: list
  elements: str
certificate:
  description: The CA certificate, described.
  returned: always
  type: dict
backup:
  description: The backup set that was made first.
  returned: when files were replaced
  type: str
seconds:
  description: How long the module took.
  returned: always
  type: float
"""

import os
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import runner
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import node_lock, transaction_recovery
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.rotation import standalone_ca

KEY_TYPES = ["rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256", "ecdsa-p384"]


def ensure(module: AnsibleModule) -> Dict[str, Any]:
    """Make or renew the CA and return the module's result.

    Raise PkiError where the files do not belong together or cannot be written.
    """
    with node_lock.lock(module.params["state_dir"], check=module.check_mode):
        return _present(module, module.params)


def _present(module: AnsibleModule, options: Dict[str, Any]) -> Dict[str, Any]:
    # An option that a variable left empty counts as given for AnsibleModule.
    for name in ("path", "key_path"):
        if not options[name]:
            raise PkiError("%s is missing" % name, fix="Name the files of the CA.")
    if bool(options["parent_path"]) != bool(options["parent_key_path"]):
        raise PkiError("parent_path and parent_key_path belong together", fix="Give both, or neither.")
    if os.path.realpath(options["path"]) == os.path.realpath(options["key_path"]):
        raise PkiError(
            "is to hold both the certificate and the key of the CA", path=options["path"], fix="Give key_path a file of its own."
        )
    if not module.check_mode:
        transaction_recovery.recover(standalone_ca.JOB, options["state_dir"])
    wanted = standalone_ca.StandaloneCa(options["path"], options["key_path"], options["parent_path"], options["parent_key_path"])
    action, certificate, write = wanted.ensure(
        options["common_name"],
        options["organizations"],
        options["ca_days"],
        options["key_type"],
        options["renew_below_days"],
        options["force"],
    )
    result = {
        "changed": action != "kept",
        "action": action,
        "notes": ["%s %s" % (options["path"], action)],
        "certificate": certificate.describe(),
    }
    if module._diff and action != "kept":
        result["diff"] = {"before": wanted.before or {}, "after": certificate.describe()}
    if write and not module.check_mode:
        result["backup"] = standalone_ca.write(wanted, write, options["state_dir"], options["backup_dir"], options["backup_keep"])
    return result


def main() -> None:
    """Run the module."""
    spec = runner.path_options("state_dir", "backup_dir", "backup_keep")
    spec.update(
        state={"type": "str", "choices": ["present"], "default": "present"},
        path={"type": "path", "required": True},
        key_path={"type": "path", "required": True, "no_log": False},
        common_name={"type": "str"},
        organizations={"type": "list", "elements": "str", "default": []},
        parent_path={"type": "path"},
        parent_key_path={"type": "path", "no_log": False},
        ca_days={"type": "float", "default": 3650},
        key_type={"type": "str", "choices": KEY_TYPES, "no_log": False},
        renew_below_days={"type": "float", "default": 0},
        force={"type": "bool", "default": False},
    )
    runner.run(AnsibleModule(argument_spec=spec, supports_check_mode=True), ensure)


if __name__ == "__main__":
    main()
