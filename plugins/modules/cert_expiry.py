#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cert_expiry
short_description: Report every certificate of a Kubernetes node, with expiry and findings
version_added: 0.1.0
description:
  - Lists the certificates of a node of a kubeadm cluster under the names that C(kubeadm certs check-expiration) uses, and
    the kubelet's client and serving certificates besides.
  - Finds the files through the flags of the static pods, the kubelet's command line and its configuration.
  - Connects to the live endpoints of the node, and compares the certificates that they serve with the files.
  - Reports whatever else is wrong with them, with the remedy - pairs that do not match, CAs that differ, missing names, wide
    modes, files in the manifest directory that do not belong there.
  - Changes nothing on the node, but for the file it is asked to write with O(textfile_dir).
options:
  live:
    description: Also ask the node's live endpoints what they serve.
    type: bool
    default: true
  live_timeout:
    description: Within how many seconds the endpoints have to take the connections, and then to answer.
    type: float
    default: 3
  warn_below_days:
    description: A certificate with fewer days left has the status V(warning).
    type: float
    default: 30
  critical_below_days:
    description: A certificate with fewer days left has the status V(critical).
    type: float
    default: 7
  fail_below_days:
    description:
      - Fail when any certificate of the node has fewer days left, or is there and cannot be read.
      - V(0) never fails.
    type: float
    default: 0
  textfile_dir:
    description:
      - A directory on the node, for the file C(kubepki.prom) that node_exporter's textfile collector reads.
      - It has to exist. The file is replaced atomically and has the mode 0644.
    type: path
  controller_clock:
    description:
      - What the controller's clock shows, as seconds since 1970, so that a node whose clock is off is found.
    type: float
attributes:
  check_mode:
    description: Returns the same in check mode; the text file is then not written.
    support: full
  diff_mode:
    description: Shows the difference that a run makes.
    support: none
  idempotent:
    description: A second run changes nothing.
    support: partial
    details: The text file holds the time at which it was written; this does not count as a change.
author:
  - The kubepki.lifecycle authors (@kubepki)
seealso:
  - module: kubepki.lifecycle.cert_leaf
extends_documentation_fragment:
  - kubepki.lifecycle.node
"""

EXAMPLES = r"""
- name: Every certificate of the node
  kubepki.lifecycle.cert_expiry:
    controller_clock: "{{ now().timestamp() }}"
  register: expiry

- name: Fail when anything has less than two weeks left
  kubepki.lifecycle.cert_expiry:
    fail_below_days: 14
    live: false

- name: Let Prometheus know
  kubepki.lifecycle.cert_expiry:
    textfile_dir: /var/lib/prometheus/node-exporter
"""

RETURN = r"""
node:
  description: Everything about the node's certificates.
  returned: always
  type: dict
  contains:
    certificates:
      description: One mapping per certificate, leaves and kubeconfigs first, CAs last.
      returned: always
      type: list
      elements: dict
      sample:
        - name: apiserver
          kind: leaf
          path: /etc/kubernetes/pki/apiserver.crt
          ca: ca
          subject: CN=kube-apiserver
          issuer: CN=kubernetes
          serial: "0x1f0c2a7be9d35a61"
          sans: ["DNS:kubernetes", "IP:10.96.0.1"]
          not_before: "2026-11-21T18:31:00Z"
          not_after: "2027-11-21T18:36:00Z"
          residual_seconds: 31535999
          status: ok
          externally_managed: false
          sha256: ab12
          served_sha256: ab12
    endpoints:
      description: What each live endpoint serves, and whether that is the file on disk.
      returned: always
      type: list
      elements: dict
    findings:
      description: What is wrong, the most severe first, with C(severity), C(code), C(name), C(path), C(message) and C(fix).
      returned: always
      type: list
      elements: dict
    facts:
      description: The node's name, role and addresses, and digests by which nodes are compared with each other.
      returned: always
      type: dict
status:
  description: The worst of the certificates - V(ok), V(warning), V(critical) or V(expired).
  returned: always
  type: str
  sample: ok
textfile:
  description: The file that was written for node_exporter.
  returned: when O(textfile_dir) is given
  type: str
  sample: /var/lib/prometheus/node-exporter/kubepki.prom
seconds:
  description: How long the module took.
  returned: always
  type: float
  sample: 0.12
"""

import time
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import runner
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import node_report


def look(module: AnsibleModule) -> Dict[str, Any]:
    """Read the node and return the module's result. Raise PkiError where its files cannot be found."""
    options = module.params
    node = node_report.read(
        options["kubernetes_dir"],
        options["kubelet_dir"],
        live=options["live"],
        timeout=options["live_timeout"],
        warn_days=options["warn_below_days"],
        critical_days=options["critical_below_days"],
        controller_clock=options["controller_clock"],
    )
    result = {"changed": False, "node": node, "status": node_report.worst_status(node["certificates"])}
    if options["textfile_dir"]:
        result["textfile"], result["changed"] = node_report.write_textfile(
            node, options["textfile_dir"], time.time(), check=module.check_mode
        )
    short = node_report.expiry_error(node, options["fail_below_days"])
    if short is not None:
        module.fail_json(msg=str(short), **dict(result, **short.as_result()))
    return result


def main() -> None:
    spec = dict(
        runner.path_options("kubernetes_dir", "kubelet_dir"),
        live={"type": "bool", "default": True},
        live_timeout={"type": "float", "default": 3},
        warn_below_days={"type": "float", "default": 30},
        critical_below_days={"type": "float", "default": 7},
        fail_below_days={"type": "float", "default": 0},
        textfile_dir={"type": "path"},
        controller_clock={"type": "float"},
    )
    runner.run(AnsibleModule(argument_spec=spec, supports_check_mode=True), look)


if __name__ == "__main__":
    main()
