#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: variable_check
short_description: Judges the variables that were set for a playbook of this collection
version_added: 0.1.0
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Looks at every variable that begins with C(kubepki_), of the inventory and of the command line, as the cluster's hosts and the
    controller have it.
  - Warns of names that no playbook reads, with the name that may have been meant. An extra variable that is almost a known one is
    refused, because what it asks for would be silently left undone.
  - Refuses values that the playbook cannot use, and names the variable. A value that is made of what only a later task knows is
    left to that task.
  - Refuses facts, of a fact cache or of this run, that are variables of this collection. Facts come from the nodes and go before
    the inventory, so a compromised node could set what runs on the controller. Looks at all hosts of the play and of the groups
    C(kube_control_plane), C(kube_node) and C(etcd).
  - Runs on the controller and speaks to no node. Use it with C(run_once).
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
  playbook:
    description: The playbook for which they are set. Required unless O(facts_only=true).
    type: str
  facts_only:
    description: Only check the facts, as after tasks that gather some.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: The variables are ones that this playbook reads
  kubepki.lifecycle.internal.variable_check:
    playbook: renew_leaves
  run_once: true
"""

RETURN = r"""
msg:
  description: What is wrong, and what to do.
  returned: when something is
  type: str
  sample: There is no variable kubepki_fore. Did you mean kubepki_force? If it is one of your own, give it another name.
"""
