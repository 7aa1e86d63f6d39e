# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words and the state of a CA rotation: phases, levels, targets, restarts, and where one CA stands."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

Facts = Mapping[str, Any]  # what cluster_pki returns as "node" (answers.ROTATION)
View = Mapping[str, Any]  # of one CA: facts["authorities"][name]
Nodes = Sequence[Facts]

STABLE, PREPARING, PREPARED, SWITCHING, SWITCHED, COMPLETING = (
    "stable",
    "preparing",
    "prepared",
    "switching",
    "switched",
    "completing",
)

EXTERNAL, IMPOSSIBLE, ABSENT = "external", "impossible", "absent"

# The phase at each level of a node. A finished rotation is level 3 while the old CA is known, and then level 0 of the new CA.
LEVELS = (STABLE, PREPARED, SWITCHED, STABLE)

# The phase while some nodes are at a level and others are not yet.
ON_THE_WAY = (COMPLETING, PREPARING, SWITCHING, COMPLETING)

PHASES = ("prepare", "switch", "complete")

UNDO = {1: "rollback of prepare", 2: "rollback of switch"}

TARGETS = {"prepared": 1, "switched": 2, "completed": 3, "rolled_back": 0}

# The static pods that do not reload the files of a phase (measured, see docs). Kubelets restart for `ca` alone.
RESTARTS: Dict[str, Dict[str, Tuple[str, ...]]] = {
    "ca": {
        "prepare": ("kube-controller-manager", "kube-scheduler"),
        "switch": ("kube-controller-manager", "kube-scheduler"),
        "complete": ("kube-controller-manager", "kube-scheduler"),
    },
    "front-proxy-ca": {"prepare": (), "switch": (), "complete": ()},
    # At the switch both are trusted already and the leaves reload: nothing to restart.
    "etcd-ca": {"prepare": ("kube-apiserver", "etcd"), "switch": (), "complete": ("kube-apiserver", "etcd")},
    "sa": {
        "prepare": ("kube-apiserver",),
        "switch": ("kube-apiserver", "kube-controller-manager"),
        "complete": ("kube-apiserver",),
    },
}

LONGEST = 4000  # characters of one line on a screen

RESTART_ORDER = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd")


class CaState:
    """Where one CA, or the key pair of the service-account tokens, stands in a rotation.

    authority: its name. phase: one of this module's words. old, new: digests of both CAs (new None while there is none).
    levels: {node: 0 to 3, or None for a node that trusts neither}. highest: the highest level of the control-plane nodes; a
    worker follows them, and its level changes no phase.
    pending: {node: [what it still lacks, as sentences without a full stop]}. kinds: {node: set of "stage", "files", "flags",
    "pods", "client", "kubelet", "tidy"}. behind: [nodes that were unreachable during a phase, or are of another cluster].
    evidence: [sentences] why it is in this phase, or why it is refused. damaged: the evidence is about single nodes, each with
    its remedy.
    extras: [digests] of the user's own CAs that all nodes trust. leftovers: [digests] that some nodes trust, of a previous CA or
    one that never signed. without_former: [nodes] that sign with the new CA and do not have the old pair, because they joined
    later. unused: [digests] of new CAs that are staged beside another one, and that no node trusts or uses, because two runs
    prepared at the same time; a rollback removes them if nothing else is wrong. contradiction: [sentences] about them.
    external_etcd: the CA is that of an etcd that kubeadm does not manage. external_signer: an external signer signs the tokens.
    """

    def __init__(self, authority: str) -> None:
        self.authority = authority
        self.phase = ABSENT
        self.old: Optional[str] = None
        self.new: Optional[str] = None
        self.levels: Dict[str, Optional[int]] = {}
        self.pending: Dict[str, List[str]] = {}
        self.kinds: Dict[str, Set[str]] = {}
        self.highest = 0
        self.behind: List[str] = []
        self.evidence: List[str] = []
        self.extras: List[str] = []
        self.external_etcd = self.external_signer = self.damaged = False
        self.leftovers: List[str] = []
        self.without_former: List[str] = []
        self.unused: List[str] = []
        self.contradiction: List[str] = []

    @property
    def refused(self) -> bool:
        """Return whether nothing may be planned from here."""
        return self.phase in (EXTERNAL, IMPOSSIBLE, ABSENT)

    @property
    def left_out(self) -> bool:
        """Return whether another tool manages it, so that it takes part only if the user names it, and is then refused."""
        return self.external_etcd or self.external_signer

    @property
    def is_complete(self) -> bool:
        """Return whether the phase is complete on every node."""
        return self.phase in (STABLE, PREPARED, SWITCHED)

    def as_dict(self) -> Dict[str, Any]:
        """Return the state as JSON data."""
        return {
            "authority": self.authority,
            "phase": self.phase,
            "old": self.old,
            "new": self.new,
            "levels": dict(self.levels),
            "pending": {node: list(items) for node, items in self.pending.items() if items},
            "behind": list(self.behind),
            "evidence": list(self.evidence),
        }

    def add(self, node: str, kind: str, sentence: str) -> None:
        """Add what a node lacks. kind: one of those in kinds."""
        self.kinds.setdefault(node, set()).add(kind)
        self.pending.setdefault(node, []).append(sentence)


def ca_node_facts(nodes: Nodes) -> List[Facts]:
    """Return the facts of the nodes that hold CAs. What concerns every node is read from these: a worker may lie."""
    return [facts for facts in nodes if facts["role"] != "worker"]


def trusted_at(state: CaState, level: int) -> List[Optional[str]]:
    """Return the digests that a node trusts at a level, the signer first, without the user's own CAs."""
    if state.new is None:
        return [state.old]
    levels: Tuple[List[Optional[str]], ...] = ([state.old], [state.old, state.new], [state.new, state.old], [state.new])
    return levels[level]


def signer_at(state: CaState, level: int) -> Optional[str]:
    """Return the digest of the CA that signs at a level."""
    return state.new if level >= 2 else state.old


def users_of(authority: str, facts: Facts) -> List[str]:
    """Return the static pods of a node that mount files of a CA and can be restarted, sorted."""
    return sorted(name for name, pod in facts.get("pods", {}).items() if authority in pod["cas"] and not pod["why"])


def components_of(authority: str, facts: Facts) -> Set[str]:
    """Return the static pods that any phase restarts on a control-plane node."""
    return {component for phase in RESTARTS[authority] for component in restarts_of(authority, phase, facts)}


def restarts_of(authority: str, phase: str, facts: Facts) -> Tuple[str, ...]:
    """Return the static pods that a phase restarts on a control-plane node."""
    own = RESTARTS[authority][phase]
    # kube-apiserver reads the CA for kubelets once. The switch changes only the order of the certificates in that file.
    return own + ("kube-apiserver",) if authority == "ca" and phase != "switch" and facts.get("verifies_kubelets") else own


def unique(digests: Iterable[Any]) -> List[Any]:
    """Return items in their order, each once."""
    return list(dict.fromkeys(digests))
