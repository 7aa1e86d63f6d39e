# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The phase of a CA rotation, derived from what lies on all nodes. Pure functions over facts."""

from __future__ import annotations

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import short
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm.catalogue import CATALOGUE, KUBECONFIG, ROTATABLE

STABLE, PREPARING, PREPARED, SWITCHING, SWITCHED, COMPLETING = (
    "stable",
    "preparing",
    "prepared",
    "switching",
    "switched",
    "completing",
)

EXTERNAL, IMPOSSIBLE, ABSENT = "external", "impossible", "absent"

# How far a node has come. A finished rotation is level 3 while OLD is known, and then level 0 of the new authority.
LEVELS = (STABLE, PREPARED, SWITCHED, STABLE)

_ON_THE_WAY = (COMPLETING, PREPARING, SWITCHING, COMPLETING)

_AT = ("as before the rotation", PREPARED, SWITCHED, "completed")

PHASES = ("prepare", "switch", "complete")

UNDO = {1: "rollback of prepare", 2: "rollback of switch"}

TARGETS = {"prepared": 1, "switched": 2, "completed": 3, "rolled_back": 0}

# Which static pods do not take a phase's files up by themselves (measured, see docs). kubelets restart for `ca` alone.
RESTARTS = {
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

_KUBECONFIGS = [entry.name for entry in CATALOGUE if entry.kind == KUBECONFIG]  # without the kubelet's

LONGEST = 4000  # of one line, on a screen

RESTART_ORDER = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd")


class State:
    """Where one authority stands.

    authority: its name. phase: one of this module's words. old, new: digests of A and B (new None while there is none; after
    completion the new one is old). levels: {node: 0..3, or None for a node that knows neither}. highest: the highest level (int)
    of the control-plane nodes: a worker follows them, and its word moves no phase. pending: {node: [what is
    still to be done there, as sentences without a full stop]}. kinds: {node: set of "stage", "files", "flags", "pods",
    "client", "kubelet", "tidy"}. behind: [nodes that were away during a phase, or come from elsewhere]. evidence: [sentences]
    why it is in this phase, or why it is refused. extras: [digests] that everybody trusts besides. external_etcd: whether it is
    the authority of an etcd that is not kubeadm's, which is nobody's to rotate here, wherever its key is. external_signer:
    whether an external signer signs the service-account tokens. damaged: whether the
    evidence is what is wrong on single nodes, each with its remedy. leftovers: [digests] that some trust and nobody should: of an
    authority that was this one's before or was to be. without_former: [nodes] that sign with B and do not have A's pair, as
    others do; they joined after the switch. unused: [digests] of new CAs that are staged besides another one, and that no node
    trusts or uses: two runs prepared at the same time. A rollback drops them, where nothing else is wrong. contradiction:
    [sentences] that say so.
    """

    def __init__(self, authority):
        self.authority = authority
        self.phase = ABSENT
        self.old = self.new = None
        self.levels, self.pending, self.kinds = {}, {}, {}
        self.highest = 0
        self.behind, self.evidence, self.extras = [], [], []
        self.external_etcd = self.external_signer = self.damaged = False
        self.leftovers, self.without_former, self.unused, self.contradiction = [], [], [], []

    @property
    def refused(self):
        """Whether nothing may be planned from here."""
        return self.phase in (EXTERNAL, IMPOSSIBLE, ABSENT)

    @property
    def left_out(self):
        """Whether another tool manages it, so that it takes part only if the user names it, and is then refused."""
        return self.external_etcd or self.external_signer

    @property
    def settled(self):
        """Whether the phase is complete on every node."""
        return self.phase in (STABLE, PREPARED, SWITCHED)

    def as_dict(self):
        """Give the state as JSON can hold it."""
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

    def _add(self, node, kind, sentence):
        self.kinds.setdefault(node, set()).add(kind)
        self.pending.setdefault(node, []).append(sentence)


def derive(authority, nodes):
    """Give the State of one authority. nodes: [facts] of all nodes; order does not matter. Never raises."""
    state = State(authority)
    known = [(facts, facts["authorities"][authority]) for facts in nodes if authority in facts["authorities"]]
    keepers = [(facts, view) for facts, view in known if facts["role"] != "worker"]
    if authority == "sa" and not _signs_tokens(state, nodes):
        return state
    if not keepers:
        return state
    if authority == "etcd-ca" and not _stacked(state, keepers):
        return state
    if not _identify(state, keepers, nodes):
        return state
    _level_all(state, known, _subjects(_control_plane(nodes)))
    _name(state, keepers)
    return state


def _stacked(state, keepers):
    """Whether etcd runs in static pods of the control-plane nodes."""
    places = {facts["node"]: facts.get("external_etcd") for facts, _view in keepers if facts["role"] == "control-plane"}
    outside = sorted(node for node in places if places[node])
    if not outside:
        return True
    inside = sorted(set(places) - set(outside))
    if inside:
        return _refuse(
            state,
            IMPOSSIBLE,
            ["%s: etcd is a static pod" % node for node in inside]
            + ["%s: etcd is no static pod, the apiserver goes to %s" % (node, places[node]) for node in outside],
        )
    state.external_etcd = True
    servers = list(dict.fromkeys(places[node] for node in outside))
    return _refuse(
        state,
        EXTERNAL,
        [
            "etcd is no static pod of %s: the apiservers go to %s, whose authority and members belong "
            "to whoever set that up" % (", ".join(outside), " and ".join(servers))
        ],
    )


def _control_plane(nodes: list) -> list:
    """Return the facts of the nodes that hold CAs. What concerns every node is read from these: a worker may lie."""
    return [facts for facts in nodes if facts["role"] != "worker"]


def _signs_tokens(state, nodes):
    """Return whether the API servers sign tokens with a key file. An external signer keeps its key outside the cluster
    (KEP-740)."""
    signers = {facts["node"]: facts["token_signer"] for facts in _control_plane(nodes) if facts.get("token_signer")}
    if not signers:
        return True
    state.external_signer = True
    return _refuse(
        state,
        EXTERNAL,
        [
            "%s: kube-apiserver has service-account tokens signed by %s (--service-account-signing-endpoint)"
            % (node, signers[node])
            for node in sorted(signers)
        ],
    )


def derive_all(nodes, names=ROTATABLE):
    """Give {authority: State} for the names given."""
    return {name: derive(name, nodes) for name in names}


def _refuse(state, phase, evidence):
    state.phase = phase
    state.evidence.extend(evidence)
    return False


def _distinct(keepers, key):
    found = []
    for _facts, view in keepers:
        if view[key] and view[key] not in found:
            found.append(view[key])
    return found


def _where(keepers, key, digest):
    return ", ".join(facts["node"] for facts, view in keepers if view[key] == digest)


def _lacking(authority, nodes):
    """Name the nodes that the plan would pass over, and that would know the former authority alone for ever."""
    planes = [facts for facts in nodes if facts["role"] == "control-plane"]
    there = [facts["node"] for facts in planes if authority in facts["authorities"]]
    found = [
        "%s: has no file of this authority, unlike %s" % (facts["node"], ", ".join(there))
        for facts in planes
        if there and authority not in facts["authorities"]
    ]
    if authority == "ca":
        found += [
            "%s: has no CA file that could be told from its kubelet's configuration (clientCAFile), so it would be cut off"
            % facts["node"]
            for facts in nodes
            if facts["role"] == "worker" and authority not in facts["authorities"]
        ]
    return found


def _identify(state, keepers, nodes):
    """Find A and B among what the control-plane nodes hold. Gives False where nothing sensible can be said."""
    damaged = ["%s: %s" % (facts["node"], problem.rstrip(".")) for facts, view in keepers for problem in view["problems"]]
    if damaged:
        state.damaged = True
        return _refuse(state, IMPOSSIBLE, damaged)
    signers, staged, kept = (_distinct(keepers, key) for key in ("signer", "next", "previous"))
    keyless = [facts["node"] for facts, view in keepers if not view["signer"]]
    if not signers:
        return _refuse(state, EXTERNAL, ["no control-plane node holds the key of this authority, so it is kept elsewhere"])
    if keyless:
        return _refuse(
            state, IMPOSSIBLE, ["%s: the key of this authority is not there, while others have it" % name for name in keyless]
        )
    broken = _lacking(state.authority, nodes)
    contradiction = _contradiction(keepers, signers, staged, kept)
    if contradiction and not broken:
        state.unused = _unused(state.authority, nodes, signers, staged, kept)
    if broken or (contradiction and not state.unused):
        return _refuse(state, IMPOSSIBLE, broken or contradiction)
    state.contradiction = contradiction
    staged = [digest for digest in staged if digest not in state.unused]
    if len(signers) == 2:
        state.old, state.new = _order(keepers, signers)
        if state.old is None:
            return _refuse(state, IMPOSSIBLE, _two_signers(keepers, signers))
    else:
        one = signers[0]
        successor = [digest for digest in staged if digest != one]
        former = [digest for digest in kept if digest != one]
        if successor:
            state.old, state.new = one, successor[0]
        elif former:
            state.old, state.new = former[0], one
        else:
            state.old = one
    return True


def _contradiction(keepers, signers, staged, kept):
    everyone = []
    for digest in signers + staged + kept:
        if digest not in everyone:
            everyone.append(digest)
    if len(everyone) > 2:
        evidence = []
        for key, words in (("signer", "signs on"), ("next", "is staged on"), ("previous", "is kept for the way back on")):
            for digest in _distinct(keepers, key):
                evidence.append("%s %s %s" % (short(digest), words, _where(keepers, key, digest)))
        return ["there are %d authorities, and a rotation has two" % len(everyone)] + evidence
    return []


def _unused(authority, nodes, signers, staged, kept):
    """Give the new CAs that no node trusts or uses, where without them at most one is left and no CA has changed yet."""
    views = [facts["authorities"][authority] for facts in nodes if authority in facts["authorities"]]
    used = set(signers)
    for view in views:
        used.update(view["bundle"], view["signing"] or (), view["leaves"].values(), *view["trust"].values())
    new = [digest for digest in staged if digest not in signers]
    unused = [digest for digest in new if digest not in used]
    switched = len(signers) > 1 or any(digest not in signers for digest in kept)
    return [] if switched or len(new) - len(unused) > 1 else unused


def _two_signers(keepers, signers):
    return ["%s signs on %s" % (short(digest), _where(keepers, "signer", digest)) for digest in signers] + [
        "neither is staged or kept anywhere as the successor of the other"
    ]


def _order(keepers, signers):
    """Of two signers give (old, new): who signs while the other is staged is old, who signs while it is kept is new."""
    votes = set()
    for _facts, view in keepers:
        other = next(digest for digest in signers if digest != view["signer"])
        if view["next"] == other:
            votes.add((view["signer"], other))
        elif view["previous"] == other:
            votes.add((other, view["signer"]))
    return votes.pop() if len(votes) == 1 else (None, None)


def _subjects(nodes: list) -> dict:
    """Return {digest: subject} of what nodes describe."""
    return {digest: item["subject"] for facts in nodes for digest, item in facts.get("certificates", {}).items()}


def _sort_others(state, known, subjects):
    """Tell the user's own authorities, which stay, from leftovers of this one, by who trusts them and by their subject."""
    keepers = [view for facts, view in known if facts["role"] != "worker"]
    # What one keeper trusts besides is the user's own when all do, whatever it is called.
    everywhere = [
        digest
        for digest in unique(keepers[0]["bundle"])
        if digest not in (state.old, state.new) and all(digest in view["bundle"] for view in keepers)
    ]
    state.extras += everywhere
    settled = [state.old, state.new] + everywhere
    for facts, view in known:
        keeper = facts["role"] != "worker"
        # A worker gets the control plane's bundle, and a kubelet that of its control-plane node: nothing else stays there.
        _sort_trust(state, facts, "its CA file for clients", set(view["bundle"]).difference(settled), keeper, subjects)
        given = settled + view["bundle"] if keeper else settled
        for name, digests in sorted(view["trust"].items()):
            _sort_trust(state, facts, name, set(digests).difference(given), name in _KUBECONFIGS, subjects)


def _sort_trust(state, facts, where, digests, stays, subjects):
    own = _subjects([facts])
    for digest in sorted(digests):
        # kubeadm and this collection give a successor the subject of the one before. A node's own word counts for what no
        # control-plane node describes.
        named = subjects.get(digest, own.get(digest, subjects.get(state.old)))
        if named == subjects.get(state.old):
            # What a worker alone knows is replaced there with the control plane's bundle, and is dropped nowhere else.
            if facts["role"] != "worker" or digest in subjects:
                state.leftovers = unique(state.leftovers + [digest])
        elif stays:
            state.extras = unique(state.extras + [digest])
        else:
            state.damaged = True
            state.evidence.append(
                "%s: %s trusts %s (%s), which the control plane does not; it would be taken away. Put it into ca.crt of every "
                "control-plane node, or take it out" % (facts["node"], where, short(digest), named)
            )


def _level_all(state, known, subjects):
    keepers = [(facts, view) for facts, view in known if facts["role"] != "worker"]
    _sort_others(state, known, subjects)
    for facts, view in known:
        state.levels[facts["node"]] = _level(state, view["bundle"])
    keeper_levels = [state.levels[facts["node"]] for facts, _view in keepers]
    state.highest = max((level for level in keeper_levels if level is not None), default=0)
    for facts, view in known:
        node, level = facts["node"], state.levels[facts["node"]]
        if level is None:
            state.behind.append(node)
            state._add(
                node,
                "files",
                "trusts only %s, which is neither of the two: it was away, or belongs to another cluster"
                % (", ".join(short(digest) for digest in view["bundle"]) or "nobody"),
            )
            continue
        lowest_keeper = min((value for value in keeper_levels if value is not None), default=level)
        if level < (lowest_keeper if facts["role"] == "worker" else state.highest) - (0 if facts["role"] == "worker" else 1):
            state.behind.append(node)
        if level < state.highest:
            state.pending.setdefault(node, []).append("is still %s, while others are further" % _AT[level])
        elif level > state.highest:
            _check_ahead(state, node, level)
        _compare(state, facts, view, level)
    if state.without_former and not any(view["previous"] == state.old for _facts, view in keepers):
        for node in state.without_former:
            state._add(node, "stage", "the former authority %s is not kept for the way back" % short(state.old))


def _check_ahead(state: State, node: str, level: int) -> None:
    """Note a worker that is further than every control-plane node.

    A rollback brings control-plane nodes back first, so that a run that was interrupted leaves workers one level ahead. No run
    leaves one that trusts only the new CA there, or two levels ahead.
    """
    if level == state.highest + 1 and level < 3:
        state.pending.setdefault(node, []).append("is still %s, while no control-plane node is" % _AT[level])
        return
    state.damaged = True
    state.evidence.append(
        "%s: says that it trusts %s the new CA %s, and no control-plane node is so far. Look at what runs on that host; then put "
        "its CA file and its kubelet's kubeconfig back from its newest backup set (playbook restore)"
        % (node, "only" if level == 3 else "first of all", short(state.new))
    )


def _level(state, bundle):
    ours = []
    for digest in bundle:
        if digest in (state.old, state.new) and digest is not None and digest not in ours:
            ours.append(digest)
    table = {(state.old,): 0}
    if state.new:
        table.update({(state.old, state.new): 1, (state.new, state.old): 2, (state.new,): 3})
    return table.get(tuple(ours))


def trusted(state, level):
    """Give the [digest] that level declares as trusted, the signer first, without what is trusted besides."""
    if state.new is None:
        return [state.old]
    return ([state.old], [state.old, state.new], [state.new, state.old], [state.new])[level]


def _signer(state, level):
    return state.new if level >= 2 else state.old


def _compare(state, facts, view, level):
    """Note what a node lacks of the level its bundle says it has."""
    node = facts["node"]
    _compare_trust(state, facts, view, level)
    signer = _signer(state, level)
    for name, digest in sorted(view["leaves"].items()):
        kubelet = name.startswith("kubelet")
        # A kubelet whose certificate is of an authority that is dropped is let in nowhere, and cannot mend that by itself.
        if (
            digest is not None
            and digest != signer
            and (digest in (state.old, state.new) or kubelet and digest not in state.extras)
        ):
            state._add(node, "client" if kubelet else "files", "%s is still signed by %s" % (name, short(digest)))
    if facts["role"] != "worker":
        _compare_keeper(state, facts, view, level)
    for component in facts["pending"]:
        if component == "kubelet" and state.authority == "ca":
            state._add(node, "kubelet", "the kubelet has not been restarted since its files changed")
        elif component in components_of(state.authority, facts):
            state._add(node, "pods", "%s has not been restarted since its files changed" % component)
    _compare_pods(state, facts)
    if facts["journal"]:
        state._add(node, "files", "a run ended while files were being replaced; the next one finishes them")


def _compare_pods(state, facts):
    """Note the static pods that still use files of before; outside of a rotation that is no matter of its phase."""
    for name, pod in sorted(facts.get("pods", {}).items()):
        if state.new and pod["stale"] and state.authority in pod["cas"] and name not in facts["pending"]:
            state._add(
                facts["node"],
                "pods",
                "the static pod %s has not been restarted since its files changed%s"
                % (name, "; restart it by hand, because %s" % pod["why"] if pod["why"] else ""),
            )


def users_of(authority, facts):
    """Return the static pods of a node that mount files of a CA and can be restarted, sorted."""
    return sorted(name for name, pod in facts.get("pods", {}).items() if authority in pod["cas"] and not pod["why"])


def components_of(authority, facts):
    return {component for phase in RESTARTS[authority] for component in restarts_of(authority, phase, facts)}


def restarts_of(authority, phase, facts):
    """Whom a phase restarts on a control-plane node."""
    own = RESTARTS[authority][phase]
    # What it verifies kubelets and others with is read once; the switch changes the order of what the file trusts, and no more.
    return own + ("kube-apiserver",) if authority == "ca" and phase != "switch" and facts.get("verifies_kubelets") else own


def _compare_trust(state, facts, view, level):
    node, wanted = facts["node"], trusted(state, level)
    foreign = [digest for digest in view["bundle"] if digest not in (state.old, state.new) and digest not in state.extras]
    if foreign:
        state._add(node, "files", "still trusts %s" % ", ".join(short(digest) for digest in foreign))
    for name, digests in sorted(view["trust"].items()):
        if [digest for digest in unique(digests) if digest in (state.old, state.new)] != wanted:
            state._add(node, "files", "%s trusts %s, where %s is right" % (name, _names(digests), _names(wanted)))


def unique(digests):
    return list(dict.fromkeys(digests))


def _names(digests):
    return "[%s]" % ", ".join(short(digest) for digest in unique(digests))


def _compare_keeper(state, facts, view, level):
    node = facts["node"]
    if view["signer"] != _signer(state, level) and not facts["journal"]:
        state.evidence.append("%s trusts %s first and signs with %s" % (node, short(view["bundle"][0]), short(view["signer"])))
    if view["next"] in state.unused:
        state._add(node, "tidy", "the new CA %s is staged, and another node has another one" % short(view["next"]))
    if state.new and level in (0, 1) and view["next"] != state.new:
        state._add(node, "stage", "the successor %s is not staged" % short(state.new))
    if state.new and level >= 2 and view["next"]:
        state._add(node, "tidy", "the successor is still staged, though it signs already")
    if level == 2 and state.new and view["previous"] != state.old:
        state.without_former.append(node)
    if level == 3 and view["previous"]:
        state._add(node, "tidy", "the former authority is still kept for the way back")
    if level < 2 and view["previous"]:
        state._add(node, "tidy", "a former authority is still kept for the way back")
    if view["split"] is not None:
        _compare_split(state, node, view, level)
    if view.get("lookup_off") and level not in (1, 2):
        state._add(node, "flags", "kube-apiserver still looks at a token's signature alone")


def _compare_split(state, node, view, level):
    split = level in (1, 2)
    if view["split"] != split:
        state._add(
            node,
            "flags",
            "kube-controller-manager signs with %s"
            % (
                "the trust bundle, where it needs a file with one certificate"
                if split
                else "a file of its own, where the authority's file is right again"
            ),
        )
    if split and view["signing"] != [_signer(state, level)]:
        state._add(node, "files", "ca-signing.crt does not hold the signer")
    if not split and view["signing"] is not None:
        state._add(node, "tidy", "ca-signing.crt is left over")


def _name(state, keepers):
    levels = {state.levels[facts["node"]] for facts, _view in keepers}
    if state.evidence or None in levels:
        state.unused = []
    state.evidence = state.contradiction + state.evidence
    if None in levels:
        _refuse(
            state,
            IMPOSSIBLE,
            [
                "%s: trusts neither authority it could have" % facts["node"]
                for facts, _view in keepers
                if state.levels[facts["node"]] is None
            ],
        )
        return
    if state.evidence:
        state.phase = IMPOSSIBLE
        return
    everyone = {level for level in state.levels.values() if level is not None}
    highest = state.highest
    done = len(everyone) == 1 and not state.behind and not any(state.pending.values())
    if state.new is None:
        # Leftovers of a rotation whose other authority nobody holds any more: only dropping them is left.
        state.phase = STABLE if done else COMPLETING
    elif highest == 0:
        state.phase = PREPARING
    elif highest == 3 and done:
        state.phase = STABLE
    else:
        state.phase = LEVELS[highest] if done else _ON_THE_WAY[highest]


def highest_level(state):
    """Return the highest level (int) that a control-plane node of a State has reached."""
    return state.highest
