# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the argument specs of the roles do not say about the kubepki_ variables: data for playbook_variables.py.

Keys of a rule: positive (0 is not allowed), pattern (a regular expression that each item matches in full), said (the pattern in
words, after "is no"), empty ("" is allowed), literal (an extra variable with a template is refused: a user who may start a job in
AWX must not run code on the controller).
"""

from __future__ import annotations

from typing import Any, Dict, List

from ..module_utils._pki.kubeadm import catalogue

# Variables that playbooks read themselves. of_play: in a keyword of a play, where variables of hosts are not known.
OF_PLAYBOOKS: Dict[str, Dict[str, Any]] = {
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

# Choices of variables whose role's option accepts more values than users may set, or describes them in words.
CHOICES: Dict[str, List[str]] = {
    "kubepki_phase": ["status", "prepare", "switch", "complete", "all", "rollback"],
    "kubepki_cas": list(catalogue.ROTATABLE),
    "kubepki_kubelet_method": ["ca", "api"],
    "kubepki_key_type": KEY_TYPES,
    "kubepki_kubelet_authority": ["leave", "set", "remove"],
}

# The same for one playbook alone: {(variable, playbook): choices}.
CHOICES_OF_PLAYBOOK: Dict[Any, List[str]] = {
    ("kubepki_names", "renew_leaves"): ["all", *(entry.name for entry in catalogue.CATALOGUE if entry.kind != catalogue.CA)],
}

_ABSOLUTE = {"pattern": "[/~$].*", "said": "absolute path"}  # Ansible expands ~ and $HOME in a path
_HOST = {"pattern": "[A-Za-z0-9_][A-Za-z0-9_.-]*(\\[[0-9]+\\])?", "said": "host of the inventory", "literal": True}

# Rules that are stricter than the types of the roles' options. The literal ones are free text in surveys (docs/examples/awx).
STRICTER: Dict[str, Dict[str, Any]] = {
    "kubepki_ca_days": {"positive": True},
    "kubepki_leaf_days": {"positive": True},
    "kubepki_user_days": {"positive": True},
    "kubepki_external_ca_seconds": {"positive": True},
    "kubepki_batch": {"pattern": "[1-9][0-9]*%?", "said": "count and no percentage such as 10%", "literal": True},
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
    "kubepki_api_host": _HOST,
    "kubepki_timer_host": _HOST,
    "kubepki_user_host": _HOST,
    "kubepki_backup_dir": _ABSOLUTE,
    "kubepki_textfile_dir": _ABSOLUTE,
    "kubepki_restart_workloads": {
        "empty": True,
        "pattern": "[a-z0-9]([-a-z0-9]*[a-z0-9])?",
        "said": "list of namespaces",
        "literal": True,
    },
}
