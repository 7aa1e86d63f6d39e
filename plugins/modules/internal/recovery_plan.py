#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: recovery_plan
short_description: Diagnose a dead cluster and plan its recovery
version_added: 0.1.0
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Takes what M(kubepki.lifecycle.internal.recovery_look) and M(kubepki.lifecycle.cert_expiry) saw on every host, shows the
    diagnosis and
    the plan, and fails with the reason where nothing may be done.
  - Runs on the controller and speaks to no node. Use it with C(run_once).
  - With O(step=report), sets the run-level artifact C(kubepki) (as M(ansible.builtin.set_stats) does).
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
  step:
    description:
      - With V(plan), decides.
      - With V(report), says what came of it.
    type: str
    choices: [plan, report]
    default: plan
  hosts:
    description: The hosts that were looked at.
    type: list
    elements: str
    required: true
  control_planes:
    description: Those of them that are control-plane nodes. The first one whose CA has its key signs.
    type: list
    elements: str
    required: true
  looks:
    description: Name of the variable in which every host registered what M(kubepki.lifecycle.internal.recovery_look) saw.
    type: str
    required: true
  reports:
    description: Name of the variable in which they registered what M(kubepki.lifecycle.cert_expiry) saw.
    type: str
    required: true
  rehearsals:
    description:
      - Name of the variable in which control-plane nodes registered what M(kubepki.lifecycle.cert_leaf) said in check mode. What
        would stop the renewal then stops the recovery before anything is changed.
    type: str
  partial:
    description: Go on without control-plane nodes that cannot take part, when etcd has its quorum without them.
    type: bool
    default: false
  plan:
    description: With O(step=report), what V(plan) returned as RV(plan).
    type: dict
  ready:
    description: With O(step=report), the Nodes that were seen Ready.
    type: dict
    default: {}
  failed:
    description: With O(step=report), hosts that failed on the way.
    type: list
    elements: str
    default: []
  began:
    description: With O(step=report), when it was confirmed, in seconds since 1970.
    type: float
"""

EXAMPLES = r"""
- name: What is wrong, and what will be done
  kubepki.lifecycle.internal.recovery_plan:
    hosts: "{{ ansible_play_hosts_all }}"
    control_planes: "{{ groups['kube_control_plane'] }}"
    looks: looked
    reports: expiry
  run_once: true
  register: plan
"""

RETURN = r"""
plan:
  description: >-
    What was decided - C(needed), C(refusal), C(diagnosis), C(steps), C(absent), C(authorities), C(signer) and C(hosts).
  returned: with O(step=plan)
  type: dict
question:
  description: What a user is asked before it is done.
  returned: with O(step=plan)
  type: str
artifact:
  description: The run-level artifact.
  returned: with O(step=report)
  type: dict
incomplete:
  description: With O(step=report), the hosts that are not done and why, as one message; empty when all are.
  returned: with O(step=report)
  type: str
"""
