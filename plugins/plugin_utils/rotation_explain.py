# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a CA rotation in sentences."""

from __future__ import annotations

from typing import List

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import printable, short

from . import rotation_model
from .rotation_model import CaState


def explain(state: CaState) -> List[str]:
    """Return the state of a CA as lines of text: the phase, which CA signs, and what each node still lacks."""
    words = {
        rotation_model.STABLE: "only %s signs and is trusted" % short(state.new if 3 in state.levels.values() else state.old),
        rotation_model.PREPARING: "%s signs; its successor %s is being made known" % (short(state.old), short(state.new)),
        rotation_model.PREPARED: "%s signs; its successor %s is trusted on every node" % (short(state.old), short(state.new)),
        rotation_model.SWITCHING: "signing goes over from %s to %s; every node trusts both"
        % (short(state.old), short(state.new)),
        rotation_model.SWITCHED: "%s signs; the old one %s is still trusted on every node" % (short(state.new), short(state.old)),
        rotation_model.COMPLETING: "%s is being dropped" % (short(state.old) if state.new else "what is left of another one"),
        rotation_model.EXTERNAL: "its key is not on the nodes, so it is rotated where the key is kept",
        rotation_model.IMPOSSIBLE: "the nodes contradict one another",
        rotation_model.ABSENT: "no control-plane node has it",
    }
    said = (
        "it is left alone, etcd is not the cluster's own"
        if state.external_etcd
        else "it is left alone, an external signer signs the tokens"
        if state.external_signer
        else "something has to be put right first"
        if state.damaged
        else words[state.phase]
    )
    lines = ["%s is %s: %s." % (state.authority, state.phase, said)]
    lines += ["  %s." % text for text in state.evidence]
    for node in sorted(state.pending):
        lines += ["  %s%s: %s." % (node, " (was away)" if node in state.behind else "", text) for text in state.pending[node]]
    return [printable(line, rotation_model.LONGEST) for line in lines]
