# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One node of a dead cluster: its CAs for longer with the same keys, and a kubelet's own certificate that is in the way."""

from __future__ import annotations

import os

from ..errors import PkiError
from ..fileio import atomic, backup_set, journals, reading, transaction_recovery, transactions
from ..kubeadm import kubeconfig, pki_tree
from ..rotation import ca_files
from ..x509 import ca_sign, private_keys, x509_read

_JOB = "recovery-files"

_BACKUP_JOB = "recover"


def extend(layout, wanted, days, check=False, state_dir=atomic.STATE_DIR, backup_dir=atomic.BACKUP_DIR, backup_keep=5):
    """Give this control-plane node CAs that live longer, with the keys they have. Gives {"changed", "certificates", "paths"}.

    wanted: {name: PEM bytes of the renewed certificate, or None to make it here with the key}. days: validity of what is made.
    Replaced are the certificates of the same key in the CA's file, in kube-controller-manager's signing file and, for the
    cluster's CA, in every kubeconfig: in one transaction, after a backup set. certificates: {name: PEM (str)} that the node has
    now. Raises PkiError with nothing changed: another key, no key, signed by another authority.
    """
    if not check:
        transaction_recovery.recover(_JOB, state_dir)
    writes, certificates, made = {}, {}, {}
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


def _plan(writes, path, data):
    if reading.read(path) != data:
        writes[path] = data


def _config(path):
    try:
        return kubeconfig.Kubeconfig(reading.read(path), path)
    except PkiError:
        return None  # its leaf, or the kubelet's credential, is made anew from nothing later


def _renewed(present, key_path, days):
    if present.not_after > x509_read.now():
        return present  # a run that was killed has done it
    if not present.self_issued:
        raise PkiError(
            "the CA is signed by %s, and can only be renewed there" % present.issuer,
            path=present.path,
            fix="Have it renewed with the same key, and put the certificate here.",
        )
    return ca_sign.renew_ca(present, private_keys.parse_private_key(reading.read(key_path), key_path), days)


def _brought(present, pem, name):
    new = x509_read.parse_certificate(pem, "the renewed CA " + name)
    if new.key_sha256 != present.key_sha256 or new.subject != present.subject:
        raise PkiError(
            "the CA %s here is not the one that was renewed: %s differs"
            % (name, "its key" if new.key_sha256 != present.key_sha256 else "its name"),
            path=present.path,
            fix="Copy certificate and key from another control-plane node, then run again.",
        )
    return present if present.not_after >= new.not_after else new


def replaced(data, new, path=None):
    """Give a PEM bundle in which a certificate stands for all of the same key, in the place of the first of them.

    data: bytes. new: x509.Certificate. Every other certificate stays, in its order; without one of that key nothing changes.
    """
    bundle = x509_read.parse_certificates(data, path)
    if not any(one.key_sha256 == new.key_sha256 and one.sha256 != new.sha256 for one in bundle):
        return data
    kept, seen = [], False
    for one in bundle:
        if one.key_sha256 != new.key_sha256:
            kept.append(one)
        elif not seen:
            kept.append(new)
            seen = True
    return x509_read.bundle(kept)


def drop_serving(layout, check=False, state_dir=atomic.STATE_DIR, backup_dir=atomic.BACKUP_DIR, backup_keep=5):
    """Take away a serving certificate that the kubelet once made for itself and that has expired. Gives whether there was one.

    A kubelet makes another when it starts and there is none, and does not look how old it is (cmd/kubelet/app/server.go:
    InitializeTLS). What a CA of the cluster signed, or a flag names, is left alone. Leaves the note of a due restart.
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
