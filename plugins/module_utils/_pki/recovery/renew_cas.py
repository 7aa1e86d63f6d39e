# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renew the CAs of one node of a failed cluster, and remove an expired serving certificate of its kubelet."""

from __future__ import annotations

import os
from typing import Any

from ..errors import PkiError
from ..fileio import atomic, backup_set, journals, reading, transaction_recovery, transactions
from ..kubeadm import kubeconfig, layouts, pki_tree
from ..rotation import ca_files
from ..x509 import ca_sign, private_keys, x509_read

_JOB = "recovery-files"

_BACKUP_JOB = "recover"


def extend(
    layout: layouts.Layout,
    wanted: dict[str, bytes | None],
    days: float,
    check: bool = False,
    state_dir: str = atomic.STATE_DIR,
    backup_dir: str = atomic.BACKUP_DIR,
    backup_keep: int = 5,
) -> dict[str, Any]:
    """Renew the CAs of this control-plane node with the same keys. Return {"changed", "certificates", "paths"}.

    wanted: {name: PEM bytes of the renewed certificate, or None to sign it here}. days: validity of new certificates.
    Replaced are the certificates of the same key in the CA's file, in kube-controller-manager's signing file and, for the
    cluster's CA, in every kubeconfig: in one transaction, after a backup set. certificates: {name: PEM (str)} that the node has
    now. Raise PkiError with nothing changed: another key, no key, signed by another CA.
    """
    if not check:
        transaction_recovery.recover(_JOB, state_dir)
    writes: dict[str, bytes] = {}
    certificates: dict[str, str] = {}
    made: dict[tuple[str, str], x509_read.Certificate] = {}
    configs = ca_files.trust_kubeconfigs(layout) if "ca" in wanted else []
    for name, pem in sorted(wanted.items()):
        path, key_path = ca_files.places(layout, name, ca_files.CURRENT)
        data = reading.read(path)
        present = x509_read.parse_certificates(data, path)[0]
        # One CA under two names (layouts.Layout.shared) is renewed once.
        new = made.get((present.key_sha256, present.subject)) if pem is None else _brought(present, pem, name)
        new = new or _renewed(present, key_path, days)
        made[present.key_sha256, present.subject] = new
        certificates[name] = new.pem.decode("ascii")
        _plan(writes, path, replaced(data, new, path))
        if name == "ca":
            signing = ca_files.signing_path(layout)
            if os.path.exists(signing):
                _plan(writes, signing, replaced(reading.read(signing), new, signing))
            for config_path in configs:
                config = _config(config_path)
                if config is not None and config.ca_data:
                    trusted = replaced(config.ca_data, new, config_path)
                    if trusted != config.ca_data:
                        _plan(writes, config_path, bytes(config.with_ca(trusted)))
    if writes and not check:
        backup_set.create_backup(list(writes), _BACKUP_JOB, backup_dir, backup_keep)
        transaction = transactions.Transaction(_JOB, state_dir)
        for path, data in writes.items():
            transaction.write(path, data, atomic.key_mode(path) if path in configs else None)
        transaction.commit()
    return {"changed": bool(writes), "certificates": certificates, "paths": sorted(writes)}


def _plan(writes: dict[str, bytes], path: str, data: bytes) -> None:
    if reading.read(path) != data:
        writes[path] = data


def _config(path: str) -> kubeconfig.Kubeconfig | None:
    try:
        return kubeconfig.Kubeconfig(reading.read(path), path)
    except PkiError:
        return None  # replaced later with its leaf, or with the kubelet's credential


def _renewed(present: x509_read.Certificate, key_path: str, days: float) -> x509_read.Certificate:
    if present.not_after > x509_read.now():
        return present  # an interrupted run renewed it
    if not present.self_issued:
        raise PkiError(
            "the CA is signed by %s, and can only be renewed there" % present.issuer,
            path=present.path,
            fix="Have it renewed with the same key, and put the certificate here.",
        )
    return ca_sign.renew_ca(present, private_keys.parse_private_key(reading.read(key_path), key_path), days)


def _brought(present: x509_read.Certificate, pem: bytes, name: str) -> x509_read.Certificate:
    new = x509_read.parse_certificate(pem, "the renewed CA " + name)
    if new.key_sha256 != present.key_sha256 or new.subject != present.subject:
        raise PkiError(
            "the CA %s here is not the one that was renewed: %s differs"
            % (name, "its key" if new.key_sha256 != present.key_sha256 else "its name"),
            path=present.path,
            fix="Copy certificate and key from another control-plane node, then run again.",
        )
    return present if present.not_after >= new.not_after else new


def replaced(data: bytes, new: x509_read.Certificate, path: str | None = None) -> bytes:
    """Return a PEM bundle in which one certificate replaces all of the same key, in the place of the first of them.

    Every other certificate stays, in its order; without one of that key nothing changes.
    """
    bundle = x509_read.parse_certificates(data, path)
    if not any(one.key_sha256 == new.key_sha256 and one.sha256 != new.sha256 for one in bundle):
        return data
    kept: list[x509_read.Certificate] = []
    seen = False
    for one in bundle:
        if one.key_sha256 != new.key_sha256:
            kept.append(one)
        elif not seen:
            kept.append(new)
            seen = True
    return x509_read.bundle(kept)


def drop_serving(
    layout: layouts.Layout,
    check: bool = False,
    state_dir: str = atomic.STATE_DIR,
    backup_dir: str = atomic.BACKUP_DIR,
    backup_keep: int = 5,
) -> bool:
    """Remove an expired serving certificate that the kubelet signed itself. Return whether there was one.

    A starting kubelet creates one only where there is none; it does not check the expiry (cmd/kubelet/app/server.go:
    InitializeTLS). What a CA of the cluster signed, or a flag names, stays. Records that a restart is due.
    """
    tree = pki_tree.read_tree(layout)
    item = tree.items.get("kubelet-serving")
    if (
        item is None
        or item.certificate is None
        or item.certificate.not_after > x509_read.now()
        or tree.signer(item) is not None
        or item.path != os.path.join(layout.kubelet["cert_dir"], "kubelet.crt")
    ):
        return False
    if not check:
        backup_set.create_backup(
            [path for path in (item.path, item.key_path) if path and os.path.exists(path)], _BACKUP_JOB, backup_dir, backup_keep
        )
        pending = journals.Journal(journals.KUBELET_RESTART, state_dir)
        if pending.load() is None:
            pending.save({"files": [item.path]})
        transaction = transactions.Transaction(_JOB, state_dir)
        for path in (item.path, item.key_path):
            if path:
                transaction.remove(path)
        transaction.commit()
    return True
