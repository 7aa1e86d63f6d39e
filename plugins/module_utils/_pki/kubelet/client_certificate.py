# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge the kubelet's client credential: is it in its place, valid, and accepted.

kubelet.conf names <cert dir>/kubelet-client-current.pem for certificate and key (see kubelet_files).
"""

from __future__ import annotations

import os
import stat
from typing import Any, Callable, Dict, List, Optional, Tuple

from ..errors import PkiError
from ..fileio import atomic, journals, reading
from ..kube_api import kubelet_client
from ..kubeadm import kubeconfig
from ..kubeadm.kubeconfig import Kubeconfig
from ..kubeadm.layouts import Layout
from ..x509 import x509_read
from ..x509.x509_read import Certificate
from . import kubelet_files

_CURRENT = "kubelet-client-current.pem"

# Certificate and key as PEM.
Pair = Tuple[bytes, bytes]


def current_path(layout: Layout) -> str:
    """Return the path of the link that kubelet.conf has to name."""
    return os.path.join(layout.kubelet["cert_dir"], _CURRENT)


def read_config_if_usable(layout: Layout) -> Optional[Kubeconfig]:
    """Return this node's kubelet.conf, or None where it is missing or damaged."""
    try:
        return kubelet_files.read_config(layout)
    except PkiError:
        return None


def credential_in_use(layout: Layout) -> Optional[kubelet_client.Credential]:
    """Return the Credential that kubelet.conf leads to, or None without a readable kubelet.conf."""
    config = read_config_if_usable(layout)
    return kubelet_client.Credential(config) if config else None


def certificate_in_use(layout: Layout) -> Optional[Certificate]:
    """Return the Certificate that kubelet.conf leads to, or None where there is no readable one."""
    credential = credential_in_use(layout)
    return credential.certificate if credential else None


def examine(
    layout: Layout,
    below_days: float = 90.0,
    force: bool = False,
    state_dir: str = atomic.STATE_DIR,
    find_refusal: Optional[Callable[[Kubeconfig, Pair], Optional[str]]] = None,
) -> Dict[str, Any]:
    """Judge this node's credential. Return {"node", "action", "reasons", "before"}.

    below_days: as in kubelet_files.wrong_dates(). force: reissue anyway. find_refusal: see refusal(). action: "keep", "reissue",
    or "restart" after a killed run. reasons: [str]. before: the certificate for a diff, or None. Raises PkiError: no kubelet.
    """
    if layout.role == "none":
        raise PkiError(
            "no kubelet is set up here: neither %s nor %s exists"
            % (layout.kubelet["kubeconfig_path"], layout.kubelet["config_path"]),
            fix="Take the host out of kube_node, or join it.",
        )
    config, credential, reasons = None, None, []
    try:
        config = kubelet_files.read_config(layout)
        credential = kubelet_client.Credential(config)
    except PkiError as error:
        reasons.append("%s %s" % (os.path.basename(layout.kubelet["kubeconfig_path"]), error.message))
    if config is not None:
        reasons += _wrong_place(layout, config)
        reasons += _wrong_certificate(layout, credential, below_days)
        reasons += _obsolete_trust(layout, config)
    if not reasons and find_refusal is not None and config is not None and credential is not None:
        refused = find_refusal(config, credential.pem)
        reasons += [refused] if refused else []
    if force and not reasons:
        reasons.append("asked for")
    action = kubelet_files.REISSUE if reasons else kubelet_files.KEEP
    pending = journals.Journal(journals.KUBELET_RESTART, state_dir).load()
    if pending is not None and action == kubelet_files.KEEP:
        action, reasons = kubelet_files.RESTART, ["a run that did not end has left the kubelet's restart undone"]
    certificate = credential.certificate if credential else None
    return {
        "node": layout.node_name,
        "action": action,
        "reasons": reasons,
        "before": certificate.describe() if certificate else None,
    }


def _wrong_place(layout: Layout, config: Kubeconfig) -> List[str]:
    current = current_path(layout)
    if config.certificate_data or config.key_data:
        return ["kubelet.conf holds the credential itself, where rotation cannot replace it"]
    if config.certificate_file != current or config.key_file != current:
        named = config.certificate_file or config.key_file or "no certificate"
        return ["kubelet.conf names %s instead of %s" % (named, _CURRENT)]
    if not os.path.lexists(current):
        return ["%s is missing" % _CURRENT]
    if not os.path.islink(current):
        return ["%s is not a symbolic link, so that the kubelet cannot rotate it" % _CURRENT]
    if not os.path.exists(current):
        return ["%s is a broken link" % _CURRENT]
    mode = stat.S_IMODE(os.stat(current).st_mode)
    return ["the private key is open to others (mode %04o)" % mode] if mode & 0o077 else []


def _wrong_certificate(layout: Layout, credential: Any, below_days: float) -> List[str]:
    certificate = credential.certificate
    if certificate is None or credential.problem:
        return ["the credential is unusable: %s" % credential.problem.message]
    if not kubelet_files.made_out_to(certificate, layout.node_name):
        return ["it is made out to %s, and this node is %s" % (certificate.subject, layout.node_name)]
    dates = kubelet_files.wrong_dates(certificate, below_days)
    if dates:
        return [dates]
    cas = kubelet_files.trusted(layout)
    if cas and not any(certificate.signed_by(ca) for ca in cas):
        return ["no CA of this node's ca.crt has signed it"]
    return []


def _obsolete_trust(layout: Layout, config: Kubeconfig) -> List[str]:
    reasons = [] if has_valid_ca(config) else ["kubelet.conf names no CA that is still valid"]
    if is_bootstrap_obsolete(layout):
        reasons.append("%s names a CA that is gone" % os.path.basename(layout.kubelet["bootstrap_kubeconfig_path"]))
    return reasons


def is_bootstrap_obsolete(layout: Layout) -> bool:
    """Return whether bootstrap-kubelet.conf names no CA of this node's ca.crt. False where there is no such file."""
    path = layout.kubelet["bootstrap_kubeconfig_path"]
    try:
        bootstrap = kubeconfig.Kubeconfig(reading.read(path), path)
    except PkiError:
        return False  # usually it is missing: kubeadm removes it once the kubelet has its certificate
    known = {ca.sha256 for ca in kubelet_files.trusted(layout)}
    return bool(known) and not {ca.sha256 for ca in _cas(bootstrap)} & known


def _cas(config: Kubeconfig) -> List[Certificate]:
    try:
        return x509_read.parse_certificates(kubelet_client.ca_pem(config) or b"", config.path)
    except PkiError:
        return []


def has_valid_ca(config: Kubeconfig) -> bool:
    """Return whether a kubeconfig names a CA that has not expired."""
    return any(ca.not_after > x509_read.now() for ca in _cas(config))


def refusal(config: Kubeconfig, pair: Pair, node: str, timeout: float = 3.0) -> Optional[str]:
    """Return why the API server does not accept a credential, or None: it does, or it is unreachable.

    config: for server and CA. node: name of the Node that is asked for. timeout: seconds.
    """
    try:
        answer = kubelet_client.KubeletApi(config.server, kubelet_client.ca_pem(config), pair, timeout).node(node)
    except PkiError as error:
        return "kubelet.conf does not trust the API server: it %s" % error.message if kubelet_client.untrusted(error) else None
    return "the API server does not take it (HTTP 401)" if answer.status == 401 else None
