#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_plan
short_description: Choose the backup set that each node restores
version_added: 0.1.0
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Takes what M(kubepki.lifecycle.file_backup) said in check mode on every host, shows the set of each, and fails where the sets
    are not of one job, so that the nodes together would be in a state that the cluster never had.
  - A set does not know its run. Sets are of one job when their names say the same job and a time within one hour.
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
  hosts:
    description: The hosts that go back.
    type: list
    elements: str
    required: true
  plans:
    description: Name of the variable in which every host registered what M(kubepki.lifecycle.file_backup) said.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: The sets belong together
  kubepki.lifecycle.internal.restore_plan:
    hosts: "{{ ansible_play_hosts_all }}"
    plans: backup_plan
  run_once: true
"""

RETURN = r"""
sets:
  description: The directory of the set of each host.
  returned: always
  type: dict
  sample: {cp1: /var/lib/kubepki/backups/20261121T190000.000000Z-cert-leaf}
"""
