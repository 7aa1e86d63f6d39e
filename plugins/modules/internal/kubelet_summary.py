#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

# This file holds the documentation; the work is done on the controller, by the action plugin of the same name.

from __future__ import annotations

DOCUMENTATION = r"""
module: kubelet_summary
short_description: Gather what the nodes returned about their kubelets' credentials
version_added: 0.1.0
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Takes the results of M(kubepki.lifecycle.internal.kubelet_credential) of many hosts, gathers the requests that have to
    be signed,
    and at the end reports the result of every node.
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
  job:
    description: The job that the artifact names.
    type: str
    default: reissue_kubelets
  step:
    description:
      - With V(requests), gathers the requests, each under the host that it came from, and fails when one of O(needed) gave no
        answer, or no host did. A host that says it is the Node of another one, or gives a malformed answer, is left out.
      - With V(answers), does the same with what M(kubepki.lifecycle.internal.kubelet_serving) returned, for
        M(kubepki.lifecycle.internal.kubelet_serving_api).
      - With V(report), shows what became of every node.
    type: str
    choices: [requests, answers, report]
    default: report
  hosts:
    description: The hosts that were asked.
    type: list
    elements: str
    required: true
  needed:
    description: Hosts without which nothing must be done.
    type: list
    elements: str
    default: []
  requests:
    description: Name of the variable in which every host registered its request.
    type: str
    required: true
  installs:
    description: With O(step=report), name of the variable in which every host registered its installation.
    type: str
  serving_requests:
    description: With O(step=report), name of the variable in which hosts registered the request for their serving certificate.
    type: str
  serving_installs:
    description: With O(step=report), name of the variable in which hosts registered its installation.
    type: str
  authorities:
    description:
      - With O(step=report), name of the variable in which control-plane nodes registered
        M(kubepki.lifecycle.internal.kubelet_authority).
    type: str
  began:
    description: With O(step=report), when the job began, in seconds since 1970.
    type: float
"""

EXAMPLES = r"""
- name: Who is to be signed for
  kubepki.lifecycle.internal.kubelet_summary:
    step: requests
    hosts: "{{ ansible_play_hosts_all }}"
    requests: requested
  run_once: true
  register: gathered
"""

RETURN = r"""
signing:
  description: >-
    What M(kubepki.lifecycle.internal.kubelet_credential) takes as
    O(kubepki.lifecycle.internal.kubelet_credential#module:requests).
  returned: with O(step=requests)
  type: list
  elements: dict
answers:
  description: >-
    What M(kubepki.lifecycle.internal.kubelet_serving_api) takes as
    O(kubepki.lifecycle.internal.kubelet_serving_api#module:answers).
  returned: with O(step=answers)
  type: list
  elements: dict
absent:
  description: Why hosts gave no answer that can be used, by host.
  returned: with O(step=requests) and O(step=answers)
  type: dict
inventory:
  description: All nodes of the inventory, as host name and C(ansible_host).
  returned: with O(step=requests) and O(step=answers)
  type: dict
artifact:
  description: The run-level artifact.
  returned: with O(step=report)
  type: dict
skipped_hosts:
  description: Why hosts were left out or failed, by host.
  returned: with O(step=report)
  type: dict
incomplete:
  description: The same as one message; empty when every node is done.
  returned: with O(step=report)
  type: str
"""
