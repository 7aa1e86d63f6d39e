#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

# This file holds the documentation; the work is done on the controller, by the action plugin of the same name.

from __future__ import annotations

DOCUMENTATION = r"""
module: external_bundle
short_description: The requests of all nodes for a CA elsewhere, as one folder on the controller
version_added: 0.1.0
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Writes what M(kubepki.lifecycle.cert_leaf) returned as C(requests) on many hosts into one folder, with a manifest of names,
    subjects, usages and CAs that is read from the requests themselves; has a command sign them, if one is given; and
    takes the certificates back.
  - Fails when a host requests something and is in neither of the inventory's groups C(kube_control_plane) and C(etcd). Hosts of
    C(etcd) alone may request what etcd's CA signs.
  - Runs on the controller and speaks to no node. Use it with C(run_once).
author:
  - The kubepki.lifecycle authors (@kubepki)
attributes:
  check_mode:
    description: Writes nothing and runs no command; takes what is there.
    support: full
  diff_mode:
    description: Shows no diff.
    support: none
  idempotent:
    description: The same requests leave the folder as it is.
    support: full
options:
  directory:
    description: The folder, relative to where C(ansible-playbook) was started. It is made when missing; nothing in it is secret.
    type: path
    required: true
  step:
    description:
      - With V(write), writes the requests, runs O(command), and returns what is not signed yet.
      - With V(collect), does the same and returns the certificates. Fails when only some of a host's are there, or when one
        of them is not for its request's key.
      - With V(close), takes what the hosts have installed out of the folder's requests.
    type: str
    choices: [write, collect, close]
    required: true
  hosts:
    description: The hosts that were asked.
    type: list
    elements: str
    required: true
  result:
    description: Name of the variable in which every host registered its result of M(kubepki.lifecycle.cert_leaf).
    type: str
    required: true
  command:
    description:
      - A command that signs, run on the controller without a shell.
      - With C({request}) in it, it is run for each request, and prints the certificate or writes it to C({certificate}). Without,
        it is run once and puts certificates into the folder C(signed) in C({dir}).
      - The paths that it gets are of a private copy (mode 0700) of the requests that the hosts made in this run and that have no
        certificate yet. It is removed afterwards.
      - Implies O(refuse_others).
      - C({name}), C({host}), C({ca}), C({days}) and C({manifest}) are known besides. All of them, and C(KUBEPKI_SUBJECT),
        C(KUBEPKI_SANS), C(KUBEPKI_USAGES) and C(KUBEPKI_CA_CERTIFICATE), are in its environment.
    type: str
  seconds:
    description: How long the command may take each time.
    type: float
    default: 300
  days:
    description: The most days of validity that are asked for, whatever a host says. Without it, what the hosts say counts.
    type: float
  refuse_others:
    description:
      - Fail when there is something to sign and O(directory) holds a request that no host made in this run, or that was changed.
      - Set it when the requests that are returned as C(unsigned) are signed without a user who looks at them.
    type: bool
    default: false
  certificates:
    description: Certificates to put into the folder first, as M(kubepki.lifecycle.internal.csr_sign) returns them.
    type: list
    elements: dict
    default: []
seealso:
  - module: kubepki.lifecycle.cert_leaf
  - module: kubepki.lifecycle.internal.csr_sign
"""

EXAMPLES = r"""
- name: One bundle of all requests
  kubepki.lifecycle.internal.external_bundle:
    step: collect
    directory: to-be-signed
    hosts: "{{ ansible_play_hosts }}"
    result: asked
    command: sign-it {request} {certificate}
  run_once: true
  register: bundle
"""

RETURN = r"""
directory:
  description: The folder.
  returned: always
  type: str
unsigned:
  description: The requests that have no certificate yet, with C(host), C(name), C(ca), C(days) and C(request).
  returned: with O(step=write)
  type: list
  elements: dict
certificates:
  description: The certificates of the hosts for which all are there, in PEM, by host and name.
  returned: with O(step=collect)
  type: dict
waiting:
  description: The hosts that wait for their certificates.
  returned: with O(step=collect)
  type: list
  elements: str
awaited:
  description: How many certificates these wait for.
  returned: with O(step=collect)
  type: int
"""
