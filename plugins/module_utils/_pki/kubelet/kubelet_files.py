# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a kubelet keeps its certificates, when one of them is due, and putting another in its place.

A certificate and its key lie in one dated file behind a link, kubelet-client-current.pem or kubelet-server-current.pem (client-go
util/certificate/certificate_store.go; issue 4). The kubelet reads a replaced file only when it is restarted.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from typing import Any, Dict, List, Optional, Sequence

from ..errors import PkiError
from ..fileio import atomic, backup_set, journals, reading, transactions
from ..kubeadm import kubeconfig
from ..kubeadm.layouts import Layout
from ..x509.x509_read import Certificate, now, parse_certificates, timestamp

NODE_PREFIX = "system:node:"

NODES_GROUP = "system:nodes"

# What is to be done about a certificate.
KEEP, REISSUE, RESTART = "keep", "reissue", "restart"

# The transaction of an installation.
JOB = "kubelet-credential"

_BACKUP_JOB = "kubelet"

# What the kubelet itself makes (pkg/kubelet/certificate/kubelet.go: ECDSA P-256), where nothing tells the key type.
DEFAULT_KEY_TYPE = "ecdsa-p256"

_DATED = r"%s-\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d\.pem"

# RFC 1123 subdomain, as the API server takes it for the name of a Node (apimachinery util/validation).
_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

_DAY = 86400.0


def read_config(layout: Layout) -> kubeconfig.Kubeconfig:
    """Return this node's kubelet.conf as a Kubeconfig. Raises PkiError when it is missing or damaged."""
    path = layout.kubelet["kubeconfig_path"]
    return kubeconfig.Kubeconfig(reading.read(path), path)


def check_node_name(name: Optional[str]) -> str:
    """Return the name when a Node can have it. Raises PkiError otherwise."""
    if not name or len(name) > 253 or not _NODE_NAME.fullmatch(name):
        raise PkiError(
            "%r cannot be the name of a Node" % (name,), fix="Set the kubelet's --hostname-override, or the host's name."
        )
    return name


def made_out_to(certificate: Certificate, name: str) -> bool:
    """Return whether a certificate is that of a node, by its subject. name: of the Node."""
    return certificate.common_name == NODE_PREFIX + name and certificate.organizations == [NODES_GROUP]


def ca_file(layout: Layout) -> str:
    """Return the path of the CA file that this node has for clients: on a control-plane node the cluster's (str)."""
    return layout.kubelet["ca_file"] or os.path.join(layout.pki_dir, "ca.crt")


def trusted(layout: Layout) -> List[Certificate]:
    """Return the [Certificate] of the CA file that this node has for clients (pki/ca.crt), empty where it is unreadable."""
    path = ca_file(layout)
    try:
        return parse_certificates(reading.read(path), path)
    except PkiError:
        return []


def wrong_dates(certificate: Certificate, below_days: float) -> Optional[str]:
    """Return why a certificate is due by its dates (str), or give None. below_days: fewer days left are too few,
    for a short-lived certificate fewer than a third of its life.
    """
    left = (certificate.not_after - now()).total_seconds() / _DAY
    if left <= 0:
        return "it expired on %s" % timestamp(certificate.not_after)
    if certificate.not_before > now():
        return "it is not valid before %s" % timestamp(certificate.not_before)
    lifetime = (certificate.not_after - certificate.not_before).total_seconds() / _DAY
    # Where the cluster signs for a month or a day, below_days alone would always be true; the kubelet itself rotates when 10 to
    # 30 percent are left (client-go util/certificate: nextRotationDeadline).
    return "%.1f days of its %.0f are left" % (left, lifetime) if left < min(below_days, lifetime / 3) else None


def check_clock(certificate: Certificate) -> None:
    """Raise PkiError unless a certificate is valid by this node's clock."""
    moment = now()
    if not certificate.not_before <= moment < certificate.not_after:
        raise PkiError(
            "is valid from %s to %s, and this node's clock says %s"
            % (timestamp(certificate.not_before), timestamp(certificate.not_after), timestamp(moment)),
            path=certificate.path,
            fix="Correct the clock of this node or of the control-plane node (see `timedatectl`).",
        )


def pair_changes(current: str, data: bytes) -> List[Dict[str, Any]]:
    """Return the changes that put a new dated file (mode 0600) behind a link kubelet-<what>-current.pem, as the kubelet does it.

    current: path of the link. data: certificate and key in PEM (bytes).
    """
    moment = time.time()
    while True:
        # The node's local time, as the kubelet takes it (time.Now().Format("2006-01-02-15-04-05")).
        path = current.replace("-current.pem", time.strftime("-%Y-%m-%d-%H-%M-%S.pem", time.localtime(moment)))
        if not os.path.lexists(path):
            return [{"path": path, "data": data, "mode": 0o600}, {"path": current, "target": path}]
        moment += 1


def carry_out(
    changes: Sequence[Dict[str, Any]],
    current: str,
    state_dir: str = atomic.STATE_DIR,
    backup_dir: str = atomic.BACKUP_DIR,
    backup_keep: int = 5,
) -> str:
    """Back up what changes, then change it in one transaction, and note that the kubelet has to be restarted.

    changes: [{"path", "data", "mode"} or {"path", "target"}]. current: the link whose file is backed up, too. Returns the backup
    set's directory. Raises PkiError with nothing changed.
    """
    paths = [change["path"] for change in changes]
    backed_up = paths + ([os.path.realpath(current)] if os.path.exists(current) else [])
    backup = backup_set.create_backup(backed_up, _BACKUP_JOB, backup_dir, backup_keep)
    transaction = transactions.Transaction(JOB, state_dir)
    for change in changes:
        if "target" in change:
            transaction.symlink(change["path"], change["target"])
        else:
            transaction.write(change["path"], change["data"], mode=change["mode"])
    pending = journals.Journal(journals.KUBELET_RESTART, state_dir)
    already = pending.load()
    pending.save({"files": paths})
    try:
        transaction.commit()
    except PkiError:
        with contextlib.suppress(PkiError):
            # What the next run may still finish, the kubelet has to be restarted for.
            if already is None and journals.Journal(JOB, state_dir).load() is None:
                pending.clear()
        raise
    return backup


def expired_files(current: str, keep: int) -> List[str]:
    """Return the dated files beyond the newest `keep` that a link (kubelet-<what>-current.pem) does not lead to, oldest first."""
    directory, link = os.path.split(current)
    used = os.path.realpath(current)
    dated = re.compile(_DATED % re.escape(link.replace("-current.pem", "")))
    try:
        names = [name for name in os.listdir(directory) if dated.fullmatch(name)]
    except OSError:
        return []
    paths = [os.path.join(directory, name) for name in names]
    old = sorted((path for path in paths if os.path.realpath(path) != used), key=lambda path: (os.lstat(path).st_mtime, path))
    return old[: max(0, len(old) - max(0, keep))]
