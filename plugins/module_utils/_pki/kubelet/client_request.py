# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Request a client certificate for this node's kubelet, and check what was issued."""

from __future__ import annotations

import os
from typing import Optional, Tuple

from ..errors import PkiError
from ..fileio import atomic, reading
from ..kube_api import kubelet_client
from ..kubeadm.layouts import Layout
from ..x509 import private_keys, x509_read, x509_sign
from ..x509.private_keys import PrivateKey
from ..x509.x509_read import Certificate
from . import client_certificate, kubelet_files

_USE_CA_KEY = "use kubepki_kubelet_method=ca."

_AGAIN = "Run the playbook again: it makes a new key and a new request."


def staged_key_path(state_dir: str = atomic.STATE_DIR) -> str:
    """Return where the key of a request waits for its certificate (0600, in a directory with 0700)."""
    return os.path.join(state_dir, "kubelet", "requested.key")


def make_request(layout: Layout, key_type: Optional[str] = None, state_dir: str = atomic.STATE_DIR) -> str:
    """Make a new key and a request for this node's name. Return the request as PEM, which is public.

    key_type: one of private_keys.KEY_TYPES, or None for that of the present certificate. The key is staged 0600 and replaces an
    earlier one. Raises PkiError (unknown type, no space, read-only).
    """
    name = kubelet_files.check_node_name(layout.node_name)
    if not key_type:
        certificate = client_certificate.certificate_in_use(layout)
        is_usual = certificate is not None and certificate.key_type in private_keys.KEY_TYPES
        key_type = certificate.key_type if certificate is not None and is_usual else kubelet_files.DEFAULT_KEY_TYPE
    key = private_keys.generate_key(key_type)
    profile = x509_sign.Profile(kubelet_files.NODE_PREFIX + name, [kubelet_files.NODES_GROUP], (), ("client",))
    request = x509_sign.build_request(profile, key)
    path = staged_key_path(state_dir)
    atomic.make_directory(os.path.dirname(path))
    atomic.write(path, key.pem, mode=0o600)
    return request.pem.decode("ascii")


def request_certificate(layout: Layout, request: str, days: float, timeout: float = 60.0) -> str:
    """Let the cluster sign a request through the Certificates API, as the kubelet does when it rotates. Return PEM.

    It asks with the credential in use, which must be valid; kubeadm's clusters approve that (ClusterRole ...:selfnodeclient).
    request: PEM. days: asked for from 1.22 on. timeout: seconds. Raises PkiError: denied, not approved, not signed.
    """
    api = kubelet_client.KubeletApi.of(kubelet_files.read_config(layout))
    name = kubelet_client.request_certificate(
        api, request, kubelet_client.CLIENT, days, fix="Without a valid credential the node cannot ask for itself: " + _USE_CA_KEY
    )
    pem = kubelet_client.wait_certificate(
        api,
        name,
        timeout,
        denied=_USE_CA_KEY.capitalize(),
        waits="See whether kube-controller-manager runs, and whether it approves nodes' requests for themselves "
        "(ClusterRoleBinding kubeadm:node-autoapprove-certificate-rotation); or " + _USE_CA_KEY,
    )
    return pem.decode("ascii")


def check_issued(
    layout: Layout, pem: bytes, ca_bundle: Optional[bytes] = None, state_dir: str = atomic.STATE_DIR
) -> Tuple[Certificate, PrivateKey]:
    """Return an issued certificate and the key that is staged for it, after checking that it is what was asked for.

    ca_bundle: PEM of the CA that should have signed it, or None for this node's ca.crt. Raises PkiError: another key, subject,
    issuer or usage, or not valid now.
    """
    certificate = x509_read.parse_certificate(pem, "the certificate for %s" % layout.node_name)
    path = staged_key_path(state_dir)
    data = reading.read_if_exists(path)
    if data is None:
        raise PkiError("no key waits for a certificate here", path=path, fix=_AGAIN)
    key = private_keys.parse_private_key(data, path)
    if not key.matches(certificate):
        raise PkiError("the certificate is not for the key that waits here", path=path, fix=_AGAIN)
    if not kubelet_files.made_out_to(certificate, layout.node_name):
        raise PkiError(
            "is made out to %s, and this node is %s" % (certificate.subject, layout.node_name), path=certificate.path, fix=_AGAIN
        )
    if certificate.is_ca or "client" not in certificate.extended_usages:
        raise PkiError("is no client certificate", path=certificate.path, fix=_AGAIN)
    kubelet_files.check_clock(certificate)
    cas = x509_read.parse_certificates(ca_bundle, "the given CA bundle") if ca_bundle else kubelet_files.trusted(layout)
    if cas and not any(certificate.signed_by(ca) for ca in cas):
        raise PkiError(
            "is signed by a CA with another key than those this node trusts (the name may be the same)",
            path=certificate.path,
            fix="Compare ca.crt on this node with that of the control-plane nodes; it has to be the same file.",
        )
    return certificate, key
