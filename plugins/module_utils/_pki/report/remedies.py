# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do about a certificate: the sentences of findings and of failed checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterable

from ..kubeadm import catalogue

if TYPE_CHECKING:
    from ..kubeadm.pki_tree import Item
    from .rows import Row

RENEW = "Run the playbook renew_leaves with kubepki_names=%s."

RENEW_FORCED = "Run the playbook renew_leaves with kubepki_names=%s and kubepki_force=true."

REISSUE_KUBELET = "Run the playbook reissue_kubelets: it replaces what is due, and leaves the other nodes alone."

BOOTSTRAP_SERVING = "Run the playbook reissue_kubelets with kubepki_kubelet_serving=bootstrap."

RESTORE = "Restore it from a backup set (playbook restore), or from another control-plane node."

RENEW_UNMANAGED = "Renew it where it was issued, or remove it if nothing reads it. This collection does not replace it."

RESTORE_EARLIER_CA = "Restore the previous CA certificate from a backup set (playbook restore), or wait until it is valid."

RENEW_CA_ELSEWHERE = "Renew it where its key is, and copy the certificate to every node."

ROTATE_CA = "Run the playbook rotate_ca with kubepki_cas=%s."


def for_item(item: Item) -> str:
    """Return what replaces an Item's certificate, as a sentence."""
    if item.kind == catalogue.KUBELET:
        return BOOTSTRAP_SERVING if item.name == "kubelet-serving" else REISSUE_KUBELET
    if item.kind == catalogue.CA:
        return ROTATE_CA % item.name
    if item.externally_managed:
        return (
            "Run the playbook renew_leaves with kubepki_names=%s and kubepki_external_ca_dir: the external CA has to sign it."
            % item.name
        )
    return (RENEW_FORCED if item.problem is not None or item.key_problem is not None else RENEW) % item.name


def restart(component: str) -> str:
    """Return what restarts a component: "kubelet" or a static pod."""
    if component == "kubelet":
        return "systemctl restart kubelet"
    return "Run the playbook restart_static_pods with kubepki_names=%s." % component


def for_rows(rows: Iterable[Row]) -> str:
    """Return what renews the certificates of report rows, as sentences without repetition."""
    playbooks, sentences = set(), []
    for row in rows:
        outside = row.get("externally_managed")
        if row["kind"] == catalogue.OTHER:
            sentences.append("%s: %s" % (row["name"], RENEW_UNMANAGED))
        elif row["kind"] == catalogue.CA and outside:
            sentences.append("%s: %s" % (row["name"], RENEW_CA_ELSEWHERE))
        elif row["kind"] == catalogue.CA:
            playbooks.add("recover" if row["status"] == "expired" else "rotate_ca")
        elif row["name"] == "kubelet-serving":
            sentences.append("Run the playbook kubepki.lifecycle.reissue_kubelets with kubepki_kubelet_serving=renew.")
        else:
            playbooks.add("reissue_kubelets" if row["kind"] == catalogue.KUBELET else "renew_leaves")
    if playbooks:
        limit = " (kubepki_renew_below_days is 90 there)" if playbooks & {"renew_leaves", "reissue_kubelets"} else ""
        sentences.insert(
            0, "Run the playbook %s%s." % (" and ".join("kubepki.lifecycle." + name for name in sorted(playbooks)), limit)
        )
    return " ".join(dict.fromkeys(sentences))
