# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How modules reach the Kubernetes API."""

from __future__ import annotations


class ModuleDocFragment:
    """The connection options that several modules share."""

    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - The kubeconfig to connect with. The environment variable E(K8S_AUTH_KUBECONFIG) stands in for it.
      - Without it and without O(host), the first of E(KUBECONFIG) and C(~/.kube/config) that can be read is taken, then the
        service account of the pod the task runs in; with the built-in client C(/etc/kubernetes/admin.conf) before that.
    type: path
  context:
    description: The context of the kubeconfig. The environment variable E(K8S_AUTH_CONTEXT) stands in for it.
    type: str
  host:
    description: URL of the API server. The environment variable E(K8S_AUTH_HOST) stands in for it.
    type: str
  api_key:
    description: Token to log in with. The environment variable E(K8S_AUTH_API_KEY) stands in for it.
    type: str
  ca_cert:
    description:
      - File with the CA bundle that the API server is verified with.
        The environment variable E(K8S_AUTH_SSL_CA_CERT) stands in for it.
    type: path
  client_cert:
    description: File with a client certificate. The environment variable E(K8S_AUTH_CERT_FILE) stands in for it.
    type: path
  client_key:
    description: File with the key of O(client_cert). The environment variable E(K8S_AUTH_KEY_FILE) stands in for it.
    type: path
  validate_certs:
    description:
      - Whether the API server's certificate is verified. As the kubeconfig says when not given.
        The environment variable E(K8S_AUTH_VERIFY_SSL) stands in for it.
    type: bool
  client:
    description:
      - V(kubernetes) is the Python library of that name, which knows every way to log in.
      - V(builtin) needs no library and knows certificates and tokens. It is made for tasks that run on a control-plane node.
      - V(auto) is V(kubernetes) where the library is installed, and V(builtin) otherwise.
    type: str
    choices: [auto, kubernetes, builtin]
    default: auto
  api_timeout:
    description: Seconds that one request to the API may take.
    type: int
    default: 30
"""
