# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which leaves are due: the whole policy, over plain data."""

from __future__ import annotations

import datetime
from typing import Optional, Tuple

from . import model

# A client may still use a certificate that expires within this time: client-go re-reads its files every five minutes.
LATE = datetime.timedelta(minutes=10)


def decide(state: model.State, below_days: float = 0, force: bool = False) -> Tuple[str, str]:
    """Return (action, reason) for one leaf: the whole policy, from a State alone.

    below_days: a certificate with fewer days left is due (float). force: all are due.
    KEEP and REFUSE change nothing; REFUSE means that it is due and cannot or must not be made here; REQUEST that a CA
    elsewhere has to sign it.
    """
    if state.optional and state.missing and not (state.named and force):
        return model.KEEP, "kubeadm makes it on one node only, and it is not on this one"
    if state.unreadable and not state.remake:
        return model.REFUSE, "unreadable"
    due = _due(state, below_days, force)
    if due is None:
        return model.KEEP, "%d days left" % int(state.residual)
    if state.outside and not (state.named or state.external):
        return model.REFUSE, "outside"
    # What has a pending request was named by the user before.
    if state.foreign and not (state.named or state.pending):
        return model.REFUSE, "foreign"
    if not state.signer:
        return (model.REQUEST, due) if state.external else (model.REFUSE, "signer")
    return (model.CREATE if state.missing else model.RENEW), due


def _due(state: model.State, below_days: float, force: bool) -> Optional[str]:
    if state.missing:
        return "there is none"
    if state.unreadable:
        return "it cannot be read, and was to be made anew"
    if state.key == "missing":
        return "its key is missing"
    if state.key == "mismatch":
        return "its key does not belong to it"
    if state.unfit:
        return state.unfit
    if state.residual <= 0:
        return "it expired %d days ago" % int(-state.residual)
    if state.early:
        return "it is not valid yet"
    if state.renamed:
        return "its issuer is not the subject of the CA, which was made again with the same key"
    if not state.signed and not (state.foreign or state.outside):
        return "another CA than the one on this node signed it"
    if state.residual < below_days:
        return "it has %d days left" % int(state.residual)
    if state.pending and not state.signer:
        return "its request waits to be signed"
    return "all are renewed, whatever they have left" if force else None
