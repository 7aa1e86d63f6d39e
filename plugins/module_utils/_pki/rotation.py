# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The phase a cluster is in, derived from what lies on its nodes, and the plan to another; pure functions.

Nothing is remembered: every run, on any controller, derives the phase again from the facts of all nodes (digests, never
keys). An authority is known by the digest of its public key: renewed with the same key, or cross-signed, it is the same.

The facts of a node (authorities.facts gives them):
  {"node": str, "role": "control-plane" | "worker" | "etcd", "journal": str or None,
   "external_etcd": where the apiserver finds an etcd that is no static pod (str), or None,
   "pending": [components that still run with what they read before the last change],
   "verifies_kubelets": whether the apiserver verifies kubelets, webhooks or others with ca.crt, which it reads once,
   "pods": {name: {"cas": [names], "stale": bool, "why": str or None}},
   "authorities": {name: {"signer": digest or None, "bundle": [digest], "next": digest or None, "previous": digest or None,
                          "trust": {file name: [digest]}, "leaves": {name: digest or None}, "split": bool or None,
                          "signing": [digest] or None, "lookup_off": bool, "problems": [str]}}}
signer: the key beside the certificate; bundle: who is trusted, in order; next, previous: complete pairs staged or kept;
split: whether kube-controller-manager signs with a file of its own, None where it does not matter. lookup_off: whether the
apiserver has the flag that a rotation of sa gives it for a while. pods: the static pods that mount files which a rotation of
these CAs replaces, whether they still use old ones, and why they cannot be restarted from here.
"""

from __future__ import annotations

__metaclass__ = type

from .errors import PkiError, printable, short
from .profiles import AUTHORITIES, CATALOGUE, KUBECONFIG, LEAVE_ETCD_OUT

STABLE, PREPARING, PREPARED, SWITCHING, SWITCHED, COMPLETING = (
    "stable", "preparing", "prepared", "switching", "switched", "completing")
EXTERNAL, IMPOSSIBLE, ABSENT = "external", "impossible", "absent"

# How far a node has come. A finished rotation is level 3 while OLD is known, and then level 0 of the new authority.
LEVELS = (STABLE, PREPARED, SWITCHED, STABLE)
_ON_THE_WAY = (COMPLETING, PREPARING, SWITCHING, COMPLETING)
_AT = ("as before the rotation", PREPARED, SWITCHED, "completed")
PHASES = ("prepare", "switch", "complete")
_UNDO = {1: "rollback of prepare", 2: "rollback of switch"}
TARGETS = {"prepared": 1, "switched": 2, "completed": 3, "rolled_back": 0}

# Which static pods do not take a phase's files up by themselves (measured, see docs). kubelets restart for `ca` alone.
RESTARTS = {
    "ca": {"prepare": ("kube-controller-manager", "kube-scheduler"), "switch": ("kube-controller-manager", "kube-scheduler"),
           "complete": ("kube-controller-manager", "kube-scheduler")},
    "front-proxy-ca": {"prepare": (), "switch": (), "complete": ()},
    # At the switch both are trusted already and the leaves reload: nothing to restart.
    "etcd-ca": {"prepare": ("kube-apiserver", "etcd"), "switch": (), "complete": ("kube-apiserver", "etcd")},
    "sa": {"prepare": ("kube-apiserver",), "switch": ("kube-apiserver", "kube-controller-manager"),
           "complete": ("kube-apiserver",)},
}
_KUBECONFIGS = [entry.name for entry in CATALOGUE if entry.kind == KUBECONFIG]  # without the kubelet's
_LONGEST = 4000  # of one line, on a screen
_ORDER = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd")


class State:
    """Where one authority stands.

    authority: its name. phase: one of this room's words. old, new: digests of A and B (new None while there is none; after
    completion the new one is old). levels: {node: 0..3, or None for a node that knows neither}. pending: {node: [what is
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
        return {"authority": self.authority, "phase": self.phase, "old": self.old, "new": self.new, "levels": dict(self.levels),
                "pending": {node: list(items) for node, items in self.pending.items() if items}, "behind": list(self.behind),
                "evidence": list(self.evidence)}

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
    _level_all(state, known, _subjects(nodes))
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
        return _refuse(state, IMPOSSIBLE, ["%s: etcd is a static pod" % node for node in inside] + [
            "%s: etcd is no static pod, the apiserver goes to %s" % (node, places[node]) for node in outside])
    state.external_etcd = True
    servers = list(dict.fromkeys(places[node] for node in outside))
    return _refuse(state, EXTERNAL, ["etcd is no static pod of %s: the apiservers go to %s, whose authority and members belong "
                                     "to whoever set that up" % (", ".join(outside), " and ".join(servers))])


def _signs_tokens(state, nodes):
    """Return whether the API servers sign tokens with a key file. An external signer keeps its key outside the cluster
    (KEP-740)."""
    signers = {facts["node"]: facts["token_signer"] for facts in nodes if facts.get("token_signer")}
    if not signers:
        return True
    state.external_signer = True
    return _refuse(state, EXTERNAL, ["%s: kube-apiserver has service-account tokens signed by %s (--service-account-signing-endpoint)"
                                     % (node, signers[node]) for node in sorted(signers)])


def derive_all(nodes, names=AUTHORITIES):
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
    found = ["%s: has no file of this authority, unlike %s" % (facts["node"], ", ".join(there)) for facts in planes
             if there and authority not in facts["authorities"]]
    if authority == "ca":
        found += ["%s: has no CA file that could be told from its kubelet's configuration (clientCAFile), so it would be cut off"
                  % facts["node"] for facts in nodes if facts["role"] == "worker" and authority not in facts["authorities"]]
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
        return _refuse(state, IMPOSSIBLE, ["%s: the key of this authority is not there, while others have it" % name
                                           for name in keyless])
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
        "neither is staged or kept anywhere as the successor of the other"]


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


def _subjects(nodes):
    return {digest: item["subject"] for facts in nodes for digest, item in facts.get("certificates", {}).items()}


def _sort_others(state, known, subjects):
    """Tell the user's own authorities, which stay, from leftovers of this one, by who trusts them and by their subject."""
    keepers = [view for facts, view in known if facts["role"] != "worker"]
    # What one keeper trusts besides is the user's own when all do, whatever it is called.
    everywhere = [digest for digest in _unique(keepers[0]["bundle"]) if digest not in (state.old, state.new)
                  and all(digest in view["bundle"] for view in keepers)]
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
    for digest in sorted(digests):
        # kubeadm and this collection give a successor the subject of the one before.
        named = subjects.get(digest, subjects.get(state.old))
        if named == subjects.get(state.old):
            state.leftovers = _unique(state.leftovers + [digest])
        elif stays:
            state.extras = _unique(state.extras + [digest])
        else:
            state.damaged = True
            state.evidence.append(
                "%s: %s trusts %s (%s), which the control plane does not; it would be taken away. Put it into ca.crt of every "
                "control-plane node, or take it out" % (facts["node"], where, short(digest), named))


def _level_all(state, known, subjects):
    keepers = [(facts, view) for facts, view in known if facts["role"] != "worker"]
    _sort_others(state, known, subjects)
    for facts, view in known:
        state.levels[facts["node"]] = _level(state, view["bundle"])
    highest = max((level for level in state.levels.values() if level is not None), default=0)
    keeper_levels = [state.levels[facts["node"]] for facts, _view in keepers]
    for facts, view in known:
        node, level = facts["node"], state.levels[facts["node"]]
        if level is None:
            state.behind.append(node)
            state._add(node, "files", "trusts only %s, which is neither of the two: it was away, or belongs to another cluster"
                       % (", ".join(short(digest) for digest in view["bundle"]) or "nobody"))
            continue
        lowest_keeper = min((value for value in keeper_levels if value is not None), default=level)
        if level < (lowest_keeper if facts["role"] == "worker" else highest) - (0 if facts["role"] == "worker" else 1):
            state.behind.append(node)
        if level < highest:
            state.pending.setdefault(node, []).append("is still %s, while others are further" % _AT[level])
        _compare(state, facts, view, level)
    if state.without_former and not any(view["previous"] == state.old for _facts, view in keepers):
        for node in state.without_former:
            state._add(node, "stage", "the former authority %s is not kept for the way back" % short(state.old))


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
        if digest is not None and digest != signer and (
                digest in (state.old, state.new) or kubelet and digest not in state.extras):
            state._add(node, "client" if kubelet else "files", "%s is still signed by %s" % (name, short(digest)))
    if facts["role"] != "worker":
        _compare_keeper(state, facts, view, level)
    for component in facts["pending"]:
        if component == "kubelet" and state.authority == "ca":
            state._add(node, "kubelet", "the kubelet has not been restarted since its files changed")
        elif component in _components(state.authority, facts):
            state._add(node, "pods", "%s has not been restarted since its files changed" % component)
    _compare_pods(state, facts)
    if facts["journal"]:
        state._add(node, "files", "a run ended while files were being replaced; the next one finishes them")


def _compare_pods(state, facts):
    """Note the static pods that still use files of before; outside of a rotation that is no matter of its phase."""
    for name, pod in sorted(facts.get("pods", {}).items()):
        if state.new and pod["stale"] and state.authority in pod["cas"] and name not in facts["pending"]:
            state._add(facts["node"], "pods", "the static pod %s has not been restarted since its files changed%s" % (
                name, "; restart it by hand, because %s" % pod["why"] if pod["why"] else ""))


def _users(authority, facts):
    """Return the static pods of a node that mount files of a CA and can be restarted, sorted."""
    return sorted(name for name, pod in facts.get("pods", {}).items() if authority in pod["cas"] and not pod["why"])


def _components(authority, facts):
    return {component for phase in RESTARTS[authority] for component in _restarts(authority, phase, facts)}


def _restarts(authority, phase, facts):
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
        if [digest for digest in _unique(digests) if digest in (state.old, state.new)] != wanted:
            state._add(node, "files", "%s trusts %s, where %s is right" % (name, _names(digests), _names(wanted)))


def _unique(digests):
    return list(dict.fromkeys(digests))


def _names(digests):
    return "[%s]" % ", ".join(short(digest) for digest in _unique(digests))


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
        state._add(node, "flags", "kube-controller-manager signs with %s" % (
            "the trust bundle, where it needs a file with one certificate" if split
            else "a file of its own, where the authority's file is right again"))
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
        _refuse(state, IMPOSSIBLE, ["%s: trusts neither authority it could have" % facts["node"] for facts, _view in keepers
                                    if state.levels[facts["node"]] is None])
        return
    if state.evidence:
        state.phase = IMPOSSIBLE
        return
    everyone = {level for level in state.levels.values() if level is not None}
    highest = max(everyone)
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


def explain(state):
    """Give sentences about a State, for people: the phase, who is who, and what each node still lacks. A list of str."""
    words = {
        STABLE: "one authority signs and is trusted: %s" % short(state.new if 3 in state.levels.values() else state.old),
        PREPARING: "%s signs; its successor %s is being made known" % (short(state.old), short(state.new)),
        PREPARED: "%s signs; its successor %s is trusted on every node" % (short(state.old), short(state.new)),
        SWITCHING: "signing goes over from %s to %s; every node trusts both" % (short(state.old), short(state.new)),
        SWITCHED: "%s signs; the former authority %s is still trusted on every node" % (short(state.new), short(state.old)),
        COMPLETING: "%s is being dropped" % (short(state.old) if state.new else "what is left of another authority"),
        EXTERNAL: "its key is not on the nodes, so it is rotated where the key is kept",
        IMPOSSIBLE: "the nodes contradict one another",
        ABSENT: "no control-plane node has it",
    }
    said = "it is left alone, etcd is not the cluster's own" if state.external_etcd else \
        "it is left alone, an external signer signs the tokens" if state.external_signer else \
        "something has to be put right first" if state.damaged else words[state.phase]
    lines = ["%s is %s: %s." % (state.authority, state.phase, said)]
    lines += ["  %s." % text for text in state.evidence]
    for node in sorted(state.pending):
        lines += ["  %s%s: %s." % (node, " (was away)" if node in state.behind else "", text) for text in state.pending[node]]
    return [printable(line, _LONGEST) for line in lines]


class Step:
    """What one phase does on one node.

    phase: "prepare", "switch", "complete", "rollback of prepare" or "rollback of switch". level: the level it leads to.
    node, role: str. authorities: [names]. stage: [names whose successor has to be brought to the node]. files: [names whose
    files change]. restarts: [static pods]. kubelet: bool, and new_client: bool, whether it gets a new client certificate.
    """

    def __init__(self, phase, level, node, role):
        self.phase, self.level, self.node, self.role = phase, level, node, role
        self.authorities, self.stage, self.files, self.restarts = [], [], [], []
        self.kubelet = self.new_client = False

    def as_dict(self):
        """Give the step as JSON can hold it."""
        return {"phase": self.phase, "node": self.node, "authorities": self.authorities, "stage": self.stage, "files": self.files,
                "restarts": self.restarts, "kubelet": self.kubelet, "new_client": self.new_client}

    def text(self):
        """Give the step as one line for people."""
        parts = []
        if self.stage:
            parts.append("stage the successor of %s" % ", ".join(self.stage))
        if self.files:
            parts.append("files of %s" % ", ".join(self.files))
        if self.restarts:
            parts.append("restart %s" % ", ".join(self.restarts))
        if self.kubelet:
            parts.append("restart the kubelet%s" % (" on a new client certificate" if self.new_client else ""))
        return "%s: %s" % (self.node, "; ".join(parts) or "nothing to do")


def refuse(states, target, fresh=False):
    """Raise PkiError where a target cannot be reached from these States. target: one of TARGETS; fresh as in plan()."""
    goal = TARGETS[target]
    for name in sorted(states):
        state = states[name]
        if state.refused and not (state.unused and goal == 0):  # no order of phases helps these
            raise PkiError("the state of %s does not allow a rotation (%s): %s" % (name, state.phase, "; ".join(state.evidence)),
                           path=name, fix=_fix(state))
    for name in sorted(states):
        state = states[name]
        reached = highest_level(state)
        # Where they stand at different places, no phase is right for all of them.
        alone = " kubepki_cas=%s" % name if len({other.phase for other in states.values()}) > 1 else ""
        if state.new is None:
            _refuse_without_successor(state, goal, fresh, alone)
        elif goal == 0 and reached == 3:
            raise PkiError("its completion has begun, and there is no way back from that", path=name,
                           fix="Go on with kubepki_phase=complete%s." % alone)
        elif goal == 0 and reached == 2 and state.without_former:
            raise PkiError("%s signs with its successor and does not have the former authority, so there is no way back for it"
                           % " and ".join(sorted(state.without_former)), path=name,
                           fix="Copy /etc/kubernetes/pki.previous to it from another control-plane node, or go on with "
                               "kubepki_phase=complete%s." % alone)
        elif 0 < goal < reached:
            raise PkiError("it is %s, which is past %s" % (state.phase, PHASES[goal - 1]), path=name,
                           fix="Go on with kubepki_phase=%s%s%s." % (PHASES[reached - 1], alone, "" if reached == 3 else
                                                                     ", or go back with kubepki_phase=rollback"))
        elif goal - reached > 1 and not fresh:
            raise PkiError("it is %s%s" % (state.phase, _who(state)), path=name,
                           fix="Run kubepki_phase=%s%s first." % (PHASES[reached], alone))
        elif goal - reached == 1 and goal > 1 and not state.settled and not fresh:
            raise PkiError("it is %s: not every node is there yet%s" % (state.phase, _who(state)), path=name,
                           fix="Run kubepki_phase=%s%s again first." % (PHASES[reached - 1], alone))


def _refuse_without_successor(state, goal, fresh, alone):
    if state.phase == COMPLETING and goal in (1, 2):
        raise PkiError("there are leftovers of another authority%s" % _who(state), path=state.authority,
                       fix="Run kubepki_phase=complete%s first, which drops them." % alone)
    if state.phase == STABLE and goal == 2 and not fresh:
        raise PkiError("it has no successor yet", path=state.authority,
                       fix="Run kubepki_phase=prepare%s first." % alone)


def _who(state):
    nodes = sorted(node for node, items in state.pending.items() if items)
    return " (still to be done on %s)" % ", ".join(nodes) if nodes else ""


def _fix(state):
    if state.external_etcd:
        return LEAVE_ETCD_OUT
    if state.external_signer:
        return ("Rotate the signing key in the external signer, as its documentation says; the CAs with "
                "kubepki_cas=ca,front-proxy-ca,etcd-ca.")
    if state.phase == EXTERNAL:
        return "Leave it out of kubepki_cas, or rotate it where its key is kept."
    if state.phase == ABSENT:
        return "Leave it out of kubepki_cas."
    if state.unused:
        return ("Run kubepki_phase=rollback kubepki_cas=%s, which removes the new CAs that no node trusts. Then run again." %
                state.authority)
    if state.damaged:
        return "Put that right, then run again."
    return "Compare the nodes named, and put the odd one right from its newest backup set (playbook restore)."


def under_way(states):
    """Give the names of those that are in a rotation, or that have leftovers of one."""
    return [name for name in states if not states[name].refused and states[name].phase != STABLE]


def plan(nodes, names, target, fresh=False):
    """Give the [Step] that lead from the facts of all nodes to a target, phase by phase, control plane before workers.

    names: authorities. target: "prepared", "switched", "completed" or "rolled_back". fresh: whether an authority that is
    stable gets a successor on the way (always so for "prepared"), and several phases may follow one another. Steps with
    nothing to do are left out; a control-plane node that was away is brought through the phases it missed, a worker goes to
    where the control plane is. Raises PkiError as refuse().
    """
    states = derive_all(nodes, names)
    fresh = fresh or target == "prepared"
    refuse(states, target, fresh)
    order = sorted(nodes, key=lambda facts: {"etcd": 0, "control-plane": 1}.get(facts["role"], 2))
    tracks = [_Track(state, nodes, fresh) for state in states.values()]
    goal = TARGETS[target]
    backwards = not goal
    path = list(range(1, goal + 1) if goal else range(max(max(map(highest_level, states.values())) - 1, 0), -1, -1))
    if path == [0] and any("client" in kinds for state in states.values() for kinds in state.kinds.values()):
        path = [1, 0]  # what is left of the way back from the switch comes before the way back from prepare
    steps = []
    for level in path:
        phase = _UNDO[level + 1] if backwards else PHASES[level - 1]
        for facts in order:
            step = Step(phase, level, facts["node"], facts["role"])
            for track in tracks:
                if track.state.authority in facts["authorities"]:
                    track.add(step, facts, level == path[-1], backwards)
            if step.authorities:
                step.restarts.sort(key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))
                steps.append(step)
    return steps


def work(steps):
    """Say what each phase of a plan concerns: {phase: {"names": [authorities], "nodes": {node: [authorities]}}}, in their order.

    An authority that is elsewhere in its rotation, or a node that is there already, is not in it: the files of a phase are made
    for any level that is asked for, the way back included.
    """
    found = {}
    for step in steps:
        phase = found.setdefault(step.phase, {"names": [], "nodes": {}})
        phase["names"] = _unique(phase["names"] + step.authorities)
        phase["nodes"][step.node] = list(step.authorities)
    return found


def holders(states, nodes):
    """Give {authority: the node that gives the new CA to the others}: one that has it, else the first that can make one.

    Asked for each CA: a node may have the new one of one and lack that of another. The first by name: two controllers whose
    inventories have the nodes in another order choose the same one.
    """
    found = {}
    by_name = sorted(nodes, key=lambda facts: facts["node"])
    for name, state in states.items():
        views = [(facts["node"], facts["authorities"][name]) for facts in by_name
                 if facts["role"] != "worker" and name in facts["authorities"]]
        having = [node for node, view in views if state.new and state.new == view["next"]] \
            + [node for node, view in views if state.new and state.new == view["signer"]]
        for node in (having + [node for node, _view in views])[:1]:
            found[name] = node
    return found


def highest_level(state):
    """Return the highest level (int) that a node of a State has reached."""
    return max((level for level in state.levels.values() if level is not None), default=0)


class _Track:
    """One authority's way through a plan: its State, and where each node stands after the steps so far."""

    def __init__(self, state, nodes, fresh):
        self.state = state
        self.levels = dict(state.levels)
        self.successor = state.new is not None or (fresh and state.phase == STABLE)
        self.finished = state.phase == STABLE and state.new is not None
        self.keepers_at = min([state.levels[facts["node"]] for facts in nodes
                               if facts["node"] in state.levels and facts["role"] != "worker"], default=0)

    def add(self, step, facts, last, backwards):
        """Add what this authority needs on a node in this step."""
        view, level = facts["authorities"][self.state.authority], step.level
        now = self.levels[step.node]
        if not self.successor:
            moves = False
            kinds = self.state.kinds.get(step.node, set()) if last else set()
        elif backwards:
            moves = now is None or now > level
            kinds = self.state.kinds.get(step.node, set()) - {"stage"} if now == level else set()
            if level == 0 and (view["next"] or view["previous"]):
                kinds = kinds | {"files"}
        else:
            skipped = facts["role"] == "worker" and level < self.keepers_at
            moves = not skipped and not self.finished and (now is None or now < level)
            kinds = self.state.kinds.get(step.node, set()) if now == level else set()
            if not last and level < highest_level(self.state):
                kinds = kinds & {"stage"}  # it follows others who are further: what it lacks of this level, the next one brings
        if moves or kinds:
            self._fill(step, facts, view, moves, kinds, backwards)
            self.levels[step.node] = level if self.successor else now

    def _fill(self, step, facts, view, moves, kinds, backwards):
        name, level = self.state.authority, step.level
        step.authorities.append(name)
        if facts["role"] != "worker" and not backwards and ("stage" in kinds or (moves and level == 1 and not view["next"])):
            step.stage.append(name)
        if moves or kinds & {"files", "tidy", "stage"}:
            step.files.append(name)
        if facts["role"] == "control-plane":
            phase = {_UNDO[1]: "prepare", _UNDO[2]: "switch"}.get(step.phase, step.phase)
            flagged = ["kube-apiserver" if name == "sa" else "kube-controller-manager"] if "flags" in kinds else []
            wanted = list(_restarts(name, phase, facts)) if moves else flagged
            wanted += [component for component in facts["pending"] if component in _components(name, facts)]
            step.restarts = _unique(step.restarts + wanted)
        if moves or "pods" in kinds:
            step.restarts = _unique(step.restarts + _users(name, facts))
        if name == "ca" and facts["role"] != "etcd" and (moves or kinds & {"kubelet", "client", "files"}):
            step.kubelet = True
            step.new_client = (moves and step.phase in ("switch", _UNDO[2])) or "client" in kinds \
                or self.levels[step.node] is None
