#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

# This file holds the documentation; the work is done on the controller, by the action plugin of the same name.

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_report
short_description: Puts what all nodes reported together, shows it and writes it
version_added: 0.1.0
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Takes the results of M(kubepki.lifecycle.cert_expiry) of every host of the play, compares the nodes with each other, and gives
    the report of the cluster.
  - Runs on the controller and speaks to no node. Use it with C(run_once).
  - Sets the run-level artifact C(kubepki) (as M(ansible.builtin.set_stats) does).
author:
  - The kubepki.lifecycle authors (@kubepki)
attributes:
  check_mode:
    description: Runs in check mode as well; reports are written, since they are what it is for.
    support: full
  diff_mode:
    description: Shows no diff.
    support: none
  idempotent:
    description: The same results give the same report but for its time.
    support: full
options:
  job:
    description: The job that the artifact names.
    type: str
    required: true
  step:
    description:
      - With V(begin), notes that the job has begun, and as long as nothing else is said, that it failed.
      - With V(gate), fails when a node is missing or a finding stands in the way.
      - With V(report), makes the report.
    type: str
    choices: [begin, gate, report]
    default: report
  began:
    description: When the job began, as V(begin) returned it (RV(epoch)).
    type: float
  result:
    description: Name of the variable in which every host has registered its result of M(kubepki.lifecycle.cert_expiry).
    type: str
  results:
    description: Names of further registered results that tell what the job did on each host.
    type: list
    elements: str
    default: []
  require_all:
    description: With O(step=gate), fail when a host of the play did not answer.
    type: bool
    default: true
  blocking_codes:
    description: With O(step=gate), fail when there is a finding with one of these codes.
    type: list
    elements: str
    default: []
  warn_below_days:
    description: A certificate with fewer days left has the status C(warning).
    type: float
    default: 30
  critical_below_days:
    description: A certificate with fewer days left has the status C(critical).
    type: float
    default: 7
  fail_below_days:
    description: Name in RV(too_old) what has fewer days left than this; V(0) names nothing.
    type: float
    default: 0
  report_dir:
    description: A folder on the controller for C(report.json), C(report.html) and C(report.txt); it is made when missing.
    type: path
"""

EXAMPLES = r"""
- name: Read the certificates of the node
  kubepki.lifecycle.cert_expiry:
  register: expiry

- name: The report of the cluster
  kubepki.lifecycle.internal.cluster_report:
    job: check_expiry
    result: expiry
    report_dir: reports
  run_once: true
"""

RETURN = r"""
epoch:
  description: The controller's time, in seconds since 1970.
  returned: always
  type: float
report:
  description: The report, as in C(report.json).
  returned: when a report was made
  type: dict
artifact:
  description: The run-level artifact.
  returned: always
  type: dict
too_old:
  description: Which certificates have fewer days left than O(fail_below_days), as a message; empty when none has.
  returned: when a report was made
  type: str
files:
  description: What was written on the controller.
  returned: when a report was made
  type: list
  elements: str
"""
