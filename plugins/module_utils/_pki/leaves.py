# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which leaves are due, and how they are made anew without a moment in which a node holds half of them.

What kubeadm made is the model: the existing certificate is the source of subject, SANs and usages, the catalogue serves
for what is missing.
"""

from __future__ import annotations

__metaclass__ = type

import collections
import datetime
import errno
import ipaddress
import os
import threading

from . import external, files, kubeconfig, processes, profiles, transactions, x509
from .errors import PkiError
from .layouts import split_host_port

KEEP, RENEW, CREATE, REFUSE = "keep", "renew", "create", "refuse"
# REQUEST: an authority elsewhere has to sign it. HOLD: it could be signed here, and waits for those that cannot.
REQUEST, HOLD = "request", "hold"
# What the rows of a result say of them.
DONE = {KEEP: "kept", RENEW: "renewed", CREATE: "created", REFUSE: "refused", REQUEST: "requested", HOLD: "held"}
PAIR, KUBECONFIG, COMBINED = "pair", "kubeconfig", "combined"

JOB = "leaves"
# A client that has read its files before this much time before their end may meet it with the old ones (client-go
# re-reads them every five minutes).
LATE = datetime.timedelta(minutes=10)

# All that the decision looks at. missing: there is no certificate. named: named one by one. remake: what cannot be read may
# be made anew. optional: not on every node. outside: its CA is by its nature not on this node (an external etcd's).
# foreign: signed by a CA this node does not know. unreadable: certificate or key cannot be read. key: "ok", "missing" or
# "mismatch". signed: by the CA that signs now. residual: days left (float). unfit: what an explicit specification demands
# otherwise (str), or None. signer: whether the CA can sign. external: it cannot, because its key is elsewhere, and requests are
# made for it. pending: such a request waits already. early: it is not valid yet. renamed: a CA of the file has the key that
# signed it and another subject than its issuer: the CA certificate was made again, and no client follows such a chain.
State = collections.namedtuple(
    "State", "missing named remake optional outside foreign unreadable key signed residual unfit signer external pending "
    "early renamed",
    defaults=(False, False, False, False))


def decide(state, below_days=0, force=False):
    """Give (action, reason) for one leaf: the whole policy, without looking at anything but a State.

    below_days: a certificate with fewer days left is due (float). force: all are due.
    KEEP and REFUSE change nothing; REFUSE means that it is due and cannot or must not be made here; REQUEST that somebody else
    has to sign it.
    """
    if state.optional and state.missing and not (state.named and force):
        return KEEP, "kubeadm makes it on one node only, and it is not on this one"
    if state.unreadable and not state.remake:
        return REFUSE, "unreadable"
    due = _due(state, below_days, force)
    if due is None:
        return KEEP, "%d days left" % int(state.residual)
    if state.outside and not (state.named or state.external):
        return REFUSE, "outside"
    # Of what waits, somebody has named it before.
    if state.foreign and not (state.named or state.pending):
        return REFUSE, "foreign"
    if not state.signer:
        return (REQUEST, due) if state.external else (REFUSE, "signer")
    return (CREATE if state.missing else RENEW), due


def _due(state, below_days, force):
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


class Settings:
    """What a run is asked for.

    below_days, leaf_days: float. force, new_key: bool. key_type: one of x509.KEY_TYPES, or None to keep what is there.
    embed_ca: bool, whether renewed kubeconfigs also get the CA bundle on disk. now: datetime in UTC. waiting: external.Waiting.
    Raises PkiError for what cannot be.
    """

    def __init__(self, below_days=90.0, leaf_days=365.0, force=False, new_key=True, key_type=None, embed_ca=False, now=None,
                 waiting=None):
        if key_type and key_type not in x509.KEY_TYPES:
            raise PkiError("the key type %s is not one of %s" % (key_type, ", ".join(x509.KEY_TYPES)))
        x509.validity(leaf_days)
        self.below_days, self.leaf_days, self.force = below_days, leaf_days, force
        self.new_key, self.key_type, self.embed_ca = new_key, key_type or None, embed_ca
        self.now = now or x509.now()
        self.waiting = waiting or external.Waiting()


class Signer:
    """A CA that signs, or why it cannot. certificate: Certificate or None; bundle: [Certificate]; problem: PkiError or None.

    elsewhere: it is in order, and its key is not on this node.
    """

    elsewhere = False

    def __init__(self, name, certificate, key_path, bundle=(), problem=None):
        self.name, self.certificate, self.key_path = name, certificate, key_path
        self.bundle, self.problem = list(bundle), problem
        self._key = None

    @classmethod
    def of_item(cls, item, now):
        """Take a CA's Item of a Tree."""
        problem = item.problem
        if problem is not None and item.missing:
            problem = PkiError("there is no certificate of the authority %s" % item.name, path=item.path,
                               fix="Put it back; a backup set or another control-plane node has it.")
        elif problem is None and item.key_missing:
            return cls._of_elsewhere(item, now)
        elif problem is None and item.key_problem is not None:
            problem = item.key_problem
        signer = cls(item.name, item.certificate, item.key_path, item.bundle, problem)
        if problem is None:
            signer.problem = signer._trouble(item.key_sha256, now)
        return signer

    @classmethod
    def _of_elsewhere(cls, item, now):
        signer = cls(item.name, item.certificate, item.key_path, item.bundle)
        signer.problem = signer._unusable(now)
        if signer.problem is None:
            signer.elsewhere = True
            signer.problem = PkiError(
                "the authority %s is managed elsewhere: its certificate is on this node, and its key is not" % item.name,
                path=item.key_path, fix="Set kubepki_external_ca_dir to a folder on the controller, and requests are written "
                "there to be signed by hand, by kubepki_external_ca_command or by kubepki_external_ca_signer; or put the key "
                "back. To renew the others, name them one by one.")
        return signer

    @classmethod
    def of_files(cls, path, key_path, now):
        """Take a CA's certificate (or bundle, whose first signs) and key from files."""
        bundle, problem = [], None
        try:
            bundle = x509.parse_certificates(files.read(path), path)
            digest = x509.private_key_digest(files.read(key_path), key_path)
        except PkiError as error:
            problem = error
        signer = cls(path, bundle[0] if bundle else None, key_path, bundle, problem)
        if problem is None:
            signer.problem = signer._trouble(digest, now)
        return signer

    def _trouble(self, key_sha256, now):
        ca = self.certificate
        if key_sha256 != ca.key_sha256:
            return PkiError("the key %s is not the key of this CA certificate" % self.key_path, path=ca.path,
                            fix="Put back the key that belongs to it (a backup set holds it); of a bundle, the first "
                                "certificate signs.")
        return self._unusable(now)

    def _unusable(self, now):
        ca = self.certificate
        if not ca.is_ca:
            return PkiError("%s is not a certificate authority" % ca.subject, path=ca.path, fix="Name a CA certificate.")
        if ca.not_after <= now:
            return PkiError("the authority %s expired at %s, so nothing it signs would be accepted" % (
                ca.subject, x509.timestamp(ca.not_after)), path=ca.path,
                fix="Replace the authority first: the playbook recover does it for a cluster that no longer answers.")
        if ca.not_before > now:
            return PkiError("the authority %s is not valid before %s" % (ca.subject, x509.timestamp(ca.not_before)),
                            path=ca.path, fix="Set this node's clock right (`timedatectl`), then run again.")
        return None

    def key(self):
        """Give the CA's PrivateKey, read once."""
        if self._key is None:
            self._key = x509.parse_private_key(files.read(self.key_path), self.key_path)
        return self._key


class Leaf:
    """One leaf as the work sees it, wherever it was described: in the catalogue or by an explicit specification.

    name; form: "pair", "kubeconfig" or "combined". path: certificate, kubeconfig or combined file. certificate_path,
    key_path: where the two PEMs go (for a kubeconfig with embedded data, None). certificate, bundle, key_sha256,
    kubeconfig: what is there. problem: PkiError or None. signer: Signer. profile: function that gives (Profile, what was
    assumed as str or None) where there is nothing to take it from. days: float or None for the run's.
    consumer, takes_up: the catalogue's. of_cluster: it is of the catalogue, so its kubeconfig has to be of this node's cluster.
    unfit, request, server, mode, owner, key_type: of explicit ones. below_days: or None.
    neighbours: [(what, {real paths of its files})] of everything else on the node.
    """

    def __init__(self, name, form, path, signer, certificate_path=None, key_path=None):
        self.name, self.form, self.path, self.signer = name, form, path, signer
        self.certificate_path, self.key_path = certificate_path, key_path
        self.certificate, self.bundle, self.key_sha256, self.kubeconfig = None, [], None, None
        self.problem = None
        self.missing = self.key_missing = False
        self.named = self.remake = True
        self.optional = self.outside = False
        self.profile = None
        self.days = self.below_days = self.unfit = self.request = self.server = None
        self.mode = self.owner = self.key_type = None
        self.consumer, self.takes_up = None, profiles.NOBODY
        self.external = self.pending = self.other_login = False
        self.of_cluster = False
        self.neighbours = []

    def files(self):
        """Give the real paths of all that it consists of, as a set."""
        return _real((self.path, self.certificate_path, self.key_path))

    def is_renamed(self):
        """Tell whether a CA of the file has the key that signed the certificate, and none has its issuer as subject."""
        return self.certificate is not None and not any(self.certificate.signed_by(ca) for ca in self.signer.bundle) \
            and any(self.certificate.verified_by_key(ca) for ca in self.signer.bundle)

    def state(self, now):
        """Give the State that the decision is made on."""
        certificate = self.certificate
        known = certificate is not None and any(certificate.signed_by(ca) for ca in self.signer.bundle)
        signed = known and certificate.signed_by(self.signer.certificate)
        renamed = self.is_renamed()
        same_name = (certificate is not None and self.signer.certificate is not None
                     and certificate.issuer == self.signer.certificate.subject)
        if self.request is not None:
            key = "ok" if certificate is not None and certificate.key_sha256 == self.request.key_sha256 else "mismatch"
        elif certificate is None or self.key_sha256 == certificate.key_sha256:
            key = "ok"
        else:
            key = "missing" if self.key_missing else "mismatch"
        return State(
            # Made again, it would lose what belongs to other clusters.
            remake=self.remake and not isinstance(self.problem, kubeconfig.OtherClusterError),
            missing=self.missing, named=self.named, optional=self.optional, outside=self.outside,
            foreign=certificate is not None and self.signer.certificate is not None and not known and not same_name
            and not renamed,
            unreadable=self.problem is not None, key=key, signed=signed,
            residual=(certificate.not_after - now).total_seconds() / 86400.0 if certificate is not None else 0.0,
            unfit=self.unfit, signer=self.signer.problem is None, external=self.external, pending=self.pending,
            early=certificate is not None and certificate.not_before > now, renamed=renamed)


class Decision:
    """What shall happen to a Leaf: action, reason (str); error (PkiError) for a REFUSE that has to end the run."""

    def __init__(self, leaf, action, reason, error=None, warning=None):
        self.leaf, self.action, self.reason, self.error, self.warning = leaf, action, reason, error, warning
        self.certificate = self.key = None  # the new ones
        self.new_key = False
        self.staged = None  # the external.Staged of a REQUEST


def missing_here(tree, names):
    """Give those of some names of leaves that do not belong to a node of this role, sorted: no etcd-server without an etcd."""
    asked = {name.strip() for name in names}
    return sorted(entry.name for entry in profiles.CATALOGUE if entry.name in asked and entry.kind != profiles.CA
                  and entry.name not in tree.items and not entry.optional)


def catalogue_leaves(tree, names, settings):
    """Give the Leaf of every name, in the catalogue's order. names: of the catalogue, or "all".

    Raises PkiError that lists the valid names for one that is not known or not on a node of this role.
    """
    named = {name.strip() for name in names}
    wanted = set(named)
    known = [entry.name for entry in profiles.CATALOGUE if entry.kind != profiles.CA]
    for name in sorted(wanted - set(known) - {"all"}):
        if name in profiles.CA_NAMES:
            raise PkiError("%s is an authority and no leaf" % name, fix="The playbook rotate_ca replaces authorities.")
        raise PkiError("%r is not the name of a certificate" % name, fix="Choose among: all, %s." % ", ".join(known))
    for name in missing_here(tree, wanted):
        here = [each for each in known if each in tree.items]
        raise PkiError("%s does not belong to this node (%s, role %s)" % (name, tree.layout.node_name, tree.layout.role),
                       fix="Its certificates are: %s." % (", ".join(here) or "none"))
    if tree.layout.problems:
        problem = tree.layout.problems[0]
        raise PkiError("%s, so where this node keeps its certificates is not certain. Nothing was changed" % problem.message,
                       path=problem.path, fix=problem.fix)
    if "all" in wanted:
        wanted.update(profiles.RENEWABLE)
    signers = {}
    found = []
    holders = _holders(tree)
    for entry in profiles.CATALOGUE:
        if entry.name in wanted and entry.kind != profiles.CA and entry.name in tree.items:
            ca = entry.ca or "ca"
            if ca not in signers:
                signers[ca] = _signer(tree, ca, settings.now)
            leaf = _catalogue_leaf(tree, tree.items[entry.name], signers[ca], entry.name in named)
            leaf.neighbours = [(what, paths) for what, paths in holders if what != entry.name]
            found.append(leaf)
    return found


def _holders(tree):
    """Give [(what, {real paths of its files})] of everything that has a certificate or a key on this node."""
    layout = tree.layout
    found = [("the service accounts' key", _real([layout.sa_key] + layout.sa_pub))]
    for item in tree.items.values():
        paths = [item.path, item.key_path]
        if item.kubeconfig is not None:
            paths += [layout.at(path) for path in (item.kubeconfig.certificate_file, item.kubeconfig.key_file) if path]
        found.append((item.name, _real(paths)))
    return found


def _real(paths):
    return {os.path.realpath(path) for path in paths if path}


def _signer(tree, name, now):
    if name in tree.items:
        return Signer.of_item(tree.items[name], now)
    return Signer(name, None, None, problem=PkiError("the authority %s is not on this node" % name,
                                                     fix="Have the certificate issued where it is."))


def _catalogue_leaf(tree, item, signer, named):
    entry = item.entry
    form = KUBECONFIG if item.kubeconfig is not None or item.kind == profiles.KUBECONFIG else PAIR if item.key_path else COMBINED
    leaf = Leaf(item.name, form, item.path, signer)
    leaf.named = leaf.remake = named
    leaf.of_cluster = True
    leaf.optional = entry.optional
    # An external etcd's CA has no key on a control-plane node by the nature of it.
    leaf.outside = entry.ca == "etcd-ca" and "etcd" not in tree.layout.parsed and signer.problem is not None
    leaf.certificate, leaf.bundle, leaf.key_sha256 = item.certificate, item.bundle, item.key_sha256
    leaf.kubeconfig = item.kubeconfig
    leaf.problem = item.key_problem if item.missing else item.problem or item.key_problem
    leaf.missing, leaf.key_missing = item.missing, item.key_missing
    leaf.other_login = item.other_login
    if item.other_login:
        leaf.problem = PkiError("holds no client certificate", path=item.path)
    leaf.consumer, leaf.takes_up = entry.consumer, entry.takes_up
    leaf.profile = lambda: _from_catalogue(tree.layout, entry)
    if form == PAIR:
        leaf.certificate_path, leaf.key_path = item.path, item.key_path
    elif form == COMBINED:
        leaf.certificate_path = leaf.key_path = item.path
    elif item.kubeconfig is not None and item.kubeconfig.certificate_file and not item.kubeconfig.certificate_data:
        leaf.certificate_path = tree.layout.at(item.kubeconfig.certificate_file)
        leaf.key_path = tree.layout.at(item.kubeconfig.key_file or item.kubeconfig.certificate_file)
    if form == KUBECONFIG and item.kubeconfig is None:
        leaf.server = _server(tree.layout, entry)
    return leaf


def _server(layout, entry):
    """The URL kubeadm gives a kubeconfig: kube-controller-manager and kube-scheduler speak to their own node's apiserver."""
    if entry.consumer in ("kube-controller-manager", "kube-scheduler") and layout.advertise_address:
        address = layout.advertise_address
        port = layout.flags.get("kube-apiserver", {}).get("--secure-port", "6443")
        return "https://%s:%s" % ("[%s]" % address if ":" in address else address, port)
    return "https://%s" % layout.control_plane_endpoint if layout.control_plane_endpoint else None


def _from_catalogue(layout, entry):
    """Give (Profile, what was assumed) for a certificate that is not there."""
    assumed = []
    minor = layout.minor
    if minor is None:
        minor = 29
        assumed.append("Kubernetes 1.29 or newer")
    sans = []
    if entry.name == "apiserver":
        services = layout.flags.get("kube-apiserver", {}).get("--service-cluster-ip-range")
        service_ip = _first_address(services)
        if service_ip is None:
            service_ip = "10.96.0.1"
            assumed.append("the service address 10.96.0.1")
        config = layout.kubelet.get("config") or {}
        domain = config.get("clusterDomain") if isinstance(config.get("clusterDomain"), str) else None
        if not domain:
            domain = "cluster.local"
            assumed.append("the domain cluster.local")
        host = split_host_port(layout.control_plane_endpoint)[0] if layout.control_plane_endpoint else None
        sans = profiles.apiserver_sans(layout.node_name, layout.advertise_address, service_ip, host, domain)
        assumed.append("no further names (certSANs)")
    elif entry.name in ("etcd-server", "etcd-peer"):
        sans = profiles.etcd_sans(layout.node_name, layout.advertise_address)
        assumed.append("no further names (serverCertSANs, peerCertSANs)")
    elif entry.name == "kubelet-serving":
        sans = profiles.node_sans(layout.node_name, layout.advertise_address)
    common_name = entry.common_name.format(node=layout.node_name)
    profile = x509.Profile(common_name, entry.organizations(minor), sans, entry.usages)
    return profile, "assumed: " + ", ".join(assumed) if assumed else None


def _first_address(ranges):
    """The address of the service "kubernetes": the first of the (first) service range."""
    try:
        return str(ipaddress.ip_network(ranges.split(",")[0].strip(), strict=False)[1])
    except (AttributeError, ValueError, IndexError):
        return None


def plan(leaves, settings):
    """Decide on every Leaf. Gives [Decision]; nothing is raised here, see obstacle()."""
    decisions = []
    for leaf in leaves:
        if leaf.other_login and not leaf.named:
            decisions.append(Decision(leaf, KEEP, "it logs in without a certificate"))
            continue
        below = settings.below_days if leaf.below_days is None else leaf.below_days
        action, reason = decide(leaf.state(settings.now), below, settings.force)
        if action == REFUSE:
            decisions.append(_refused(leaf, reason))
        else:
            decisions.append(_writable(Decision(leaf, action, reason)))
    return decisions


def _writable(decision):
    """Return the Decision, or a refusal where it would write a credential into the kubeconfig of another cluster."""
    config = decision.leaf.kubeconfig
    if config is not None and decision.leaf.of_cluster and decision.action != KEEP:
        try:
            config.check_cluster()
        except PkiError as error:
            return Decision(decision.leaf, REFUSE, error.message, error=error)
    return decision


def _refused(leaf, why):
    if why == "unreadable" and isinstance(leaf.problem, kubeconfig.OtherClusterError):
        return Decision(leaf, REFUSE, leaf.problem.message, error=leaf.problem)
    if why == "unreadable":
        problem = leaf.problem
        return Decision(leaf, REFUSE, problem.message, error=PkiError(
            problem.message, path=problem.path, fix="%s Or %s, and it is made anew." % (
                problem.fix or "Restore it from a backup.",
                "set force: true" if leaf.named else "name %s one by one" % leaf.name)))
    if why == "outside":
        text = "%s: it is due, and the external etcd's authority signs it, whose key is not on this node" % leaf.name
        return Decision(leaf, REFUSE, "the external etcd's authority signs it", warning=text)
    if why == "foreign":
        text = "%s: it is due, and was brought by the user (issuer %s); only when it is named one by one is it replaced" % (
            leaf.name, leaf.certificate.issuer)
        return Decision(leaf, REFUSE, "brought by the user: its issuer is %s" % leaf.certificate.issuer, warning=text)
    return Decision(leaf, REFUSE, leaf.signer.problem.message, error=leaf.signer.problem)


def obstacle(decisions):
    """Give the one PkiError that ends a run before anything changes, or None. One error covers all leaves it concerns."""
    refused = [decision for decision in decisions if decision.error is not None]
    if not refused:
        return None
    first = refused[0].error
    same = [decision.leaf.name for decision in refused if str(decision.error) == str(first)]
    others = [decision.leaf.name for decision in refused if decision.leaf.name not in same]
    message = "%s; so %s cannot be renewed" % (first.message, _listed(same))
    if others:
        message += ", nor, for other reasons, %s" % _listed(others)
    return PkiError(message + ". Nothing was changed", path=first.path, fix=first.fix)


def _listed(names):
    return names[0] if len(names) == 1 else "%s and %s" % (", ".join(names[:-1]), names[-1])


def warnings(decisions, settings):
    """Give what a person should know about a plan: [str]."""
    found = [decision.warning for decision in decisions if decision.warning]
    made = [decision for decision in decisions if decision.action in (RENEW, CREATE)]
    outliving, short = {}, []
    for decision in made:
        ca, certificate = decision.leaf.signer.certificate, decision.certificate
        if decision.leaf.days is None and certificate.not_after - ca.not_after > datetime.timedelta(minutes=1):
            outliving.setdefault((decision.leaf.signer.name, ca.not_after), []).append(decision.leaf.name)
        if decision.staged is not None and (certificate.not_after - settings.now).total_seconds() < settings.below_days * 86400:
            short.append(decision.leaf.name)
    for (name, moment), leaves in sorted(outliving.items()):
        found.append("The authority %s ends at %s, before %s; nobody will accept them after that." % (
            name, x509.timestamp(moment), _listed(leaves)))
    if short:
        found.append("The authority issued %s for less than %g days, below which certificates are renewed: the next run asks for "
                     "them again. Set kubepki_renew_below_days lower." % (_listed(short), settings.below_days))
    if any(decision.leaf.days is None and decision.staged is None for decision in made) \
            and settings.leaf_days <= settings.below_days:
        found.append("Certificates are issued for %g days and renewed below %g: every run will renew them." % (
            settings.leaf_days, settings.below_days))
    return found


def issue(decisions, settings, rehearse=False):
    """Make the keys and certificates of all that is due, in memory, and check each as a client would.

    rehearse: for check mode: throw-away keys that are quick to make stand for all new ones, so that all but the keys is real.
    Sets certificate and key of each Decision. Raises PkiError; nothing is written here.
    """
    due = [decision for decision in decisions if decision.action in (RENEW, CREATE) and decision.staged is None]
    for decision in due:
        decision.key = None if _wants_new_key(decision, settings) else _old_key(decision)
        decision.new_key = decision.key is None and decision.leaf.request is None
    fresh = [decision for decision in due if decision.new_key]
    if rehearse:
        keys = [x509.generate_key("ecdsa-p256") for _decision in fresh]
    else:
        keys = _generate([_key_type(decision.leaf, settings) for decision in fresh])
    for decision, key in zip(fresh, keys):
        decision.key = key
    for decision in due:
        _sign(decision, settings)


def settle(decisions, settings):
    """Take what authorities elsewhere signed, after checking all of it. Gives the Decisions that still wait for theirs.

    The certificates of a node come in together: while any is awaited, the rest of what is due is on HOLD (always, where only
    requests are wanted). Raises PkiError that
    lists every certificate that is not what was asked for, or that is not there while others are; nothing is written here.
    """
    asked = [decision for decision in decisions if decision.action == REQUEST]
    given = settings.waiting.certificates
    back = [decision for decision in asked if decision.leaf.name in given]
    if back and len(back) < len(asked):
        raise PkiError("there are certificates for %s, and none for %s. Those of a node are installed together, so nothing was "
                       "changed" % (_listed([decision.leaf.name for decision in back]),
                                    _listed([decision.leaf.name for decision in asked if decision not in back])),
                       fix="Have these requests of the bundle signed as well, or name with kubepki_names what is to be renewed.")
    wrong = []
    for decision in back:
        try:
            _take(decision, settings)
        except PkiError as error:
            wrong.append("%s: %s" % (decision.leaf.name, error.message))
    if wrong:
        raise PkiError("%s. Nothing was changed" % ". ".join(wrong), path="what was signed for this node",
                       fix="Have these requests of the bundle signed again, as they are.")
    awaited = [decision for decision in asked if decision.certificate is None]
    for decision in decisions if awaited or settings.waiting.only else ():
        if decision.action in (RENEW, CREATE):
            decision.action = HOLD
            if awaited:
                decision.reason += "; it waits for those that an authority elsewhere has to sign"
    return awaited


def _take(decision, settings):
    leaf, name = decision.leaf, decision.leaf.name
    staged = settings.waiting.staged(name)
    if staged is None or not staged.fits(_profile(decision), _wanted_type(decision, settings)):
        raise PkiError("no request for this waits on the node any more")
    pem = settings.waiting.certificates[name].encode("utf-8", "replace")
    decision.certificate = external.check(pem, staged.request, leaf.signer.certificate, settings.now)
    decision.key, decision.new_key = staged.key or _old_key(decision), staged.key is not None
    decision.staged, decision.action = staged, CREATE if leaf.missing else RENEW


def request(awaited, settings, check=False):
    """Make keys and requests for Decisions that an authority elsewhere has to sign, where none wait that fit.

    Sets staged of each Decision; with check nothing is made, and it is None for those that would be. Gives whether any were.
    """
    new, profiles_of = [], {}
    for decision in awaited:
        profile = profiles_of[decision] = _profile(decision)
        staged = settings.waiting.staged(decision.leaf.name)
        if staged is not None and staged.fits(profile, _wanted_type(decision, settings)):
            decision.staged = staged
        else:
            new.append(decision)
    if not check:
        fresh = [decision for decision in new if _wants_new_key(decision, settings)]
        keys = dict(zip(fresh, _generate([_key_type(decision.leaf, settings) for decision in fresh])))
        for decision in new:
            made = x509.build_request(profiles_of[decision], keys.get(decision) or _old_key(decision))
            decision.staged = settings.waiting.stage(decision.leaf.name, made, keys.get(decision))
    return bool(new)


def _wanted_type(decision, settings):
    return _key_type(decision.leaf, settings) if _wants_new_key(decision, settings) else None


def bundle(awaited, settings):
    """Give what a signer has to know of each awaited Decision whose request is made: plain data, all of it public."""
    found = []
    for decision in awaited:
        if decision.staged is not None:
            made, leaf = decision.staged.request, decision.leaf
            found.append({
                "name": leaf.name, "path": leaf.path, "ca": leaf.signer.name,
                "ca_certificate": leaf.signer.certificate.pem.decode("ascii"), "request": made.pem.decode("ascii"),
                "subject": made.subject, "sans": made.sans, "usages": made.extended_usages, "key_type": made.key_type,
                "days": settings.leaf_days if leaf.days is None else leaf.days})
    return found


def tidy(decisions, settings):
    """Remove the requests that nobody waits for any more: what was written, or was before a run ended too early."""
    for decision in decisions:
        staged = settings.waiting.staged(decision.leaf.name)
        if decision.action in (RENEW, CREATE) or (
                staged is not None and decision.action == KEEP
                and (decision.leaf.signer.problem is None or staged.request.key_sha256 == decision.leaf.key_sha256)):
            settings.waiting.drop(decision.leaf.name)


def _wants_new_key(decision, settings):
    leaf = decision.leaf
    if leaf.request is not None:
        return False
    if settings.new_key or leaf.key_sha256 is None:
        return True
    wanted = leaf.key_type or settings.key_type
    if wanted and leaf.certificate is not None and leaf.certificate.key_type != wanted:
        raise PkiError("its key is to be kept (new_key: false) and to become %s, and is %s" % (
            wanted, leaf.certificate.key_type), path=leaf.key_path or leaf.path, fix="Leave out key_type or new_key.")
    return False


def _old_key(decision):
    leaf = decision.leaf
    if leaf.request is not None:
        return None
    if leaf.key_path is None:
        return x509.parse_private_key(leaf.kubeconfig.key_data, leaf.path)
    return x509.parse_private_key(files.read(leaf.key_path), leaf.key_path)


def _key_type(leaf, settings):
    wanted = leaf.key_type or settings.key_type
    if wanted:
        return wanted
    return x509.nearest_key_type(leaf.certificate.key_type if leaf.certificate is not None else None)


def _generate(key_types):
    """Make keys on all processors at a time: OpenSSL works without the interpreter's lock, and RSA takes a tenth second each."""
    keys, errors = [None] * len(key_types), []
    jobs = collections.deque(enumerate(key_types))

    def work():
        while jobs:
            try:
                index, key_type = jobs.popleft()
                keys[index] = x509.generate_key(key_type)
            except IndexError:
                return
            except Exception as error:
                errors.append(error)
    count = min(len(os.sched_getaffinity(0)), len(key_types))
    threads = [threading.Thread(target=work) for _number in range(count - 1)]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return keys


def _profile(decision):
    """The names and usages of the new certificate; what was assumed joins the Decision's reason, once."""
    leaf = decision.leaf
    if leaf.certificate is not None and leaf.unfit is None and leaf.request is None:
        return x509.Profile.of(leaf.certificate)
    profile, assumed = leaf.profile()
    if assumed and not decision.reason.endswith(assumed):
        decision.reason = "%s; %s" % (decision.reason, assumed)
    return profile


def _sign(decision, settings):
    leaf = decision.leaf
    profile = _profile(decision)
    days = settings.leaf_days if leaf.days is None else leaf.days
    public = leaf.request if leaf.request is not None else decision.key
    certificate = x509.sign_leaf(profile, public, leaf.signer.certificate, leaf.signer.key(), days, start=settings.now)
    if certificate.key_sha256 != public.key_sha256 or not certificate.signed_by(leaf.signer.certificate) \
            or not certificate.not_before <= settings.now < certificate.not_after or certificate.is_ca \
            or profile.differences(certificate):
        raise PkiError("the certificate made for %s failed its check, so nothing was changed" % leaf.name, path=leaf.path,
                       fix="Please report this.")
    decision.certificate = certificate


def changes(decision, settings):
    """Give the files a Decision writes: [(path, bytes, mode or None to keep it, owner or None)], and [(link, target)]."""
    leaf = decision.leaf
    # What follows the certificate in its file (an intermediate, a cross-signed authority) goes with the CA that signed it.
    follow = leaf.bundle[1:] if leaf.bundle and any(leaf.bundle[0].signed_by(ca) for ca in leaf.signer.bundle) else []
    chain = decision.certificate.pem + b"".join(extra.pem for extra in follow)
    key = decision.key.pem if decision.key is not None else None
    if leaf.form == KUBECONFIG and leaf.certificate_path is None:
        config = leaf.kubeconfig
        if config is None:
            text = kubeconfig.build(_need_server(leaf), x509.bundle(leaf.signer.bundle), _user(decision), chain, key)
            return [(leaf.path, text.encode("utf-8"), leaf.mode or 0o600, leaf.owner)], []
        config = config.with_client(chain, key)
        if leaf.server and config.server != leaf.server:
            config = config.with_server(leaf.server)
        # A CA with another subject: what the kubeconfig trusts accepts the API server's new certificate no more.
        if settings.embed_ca or leaf.is_renamed():
            config = config.with_ca(x509.bundle(leaf.signer.bundle))
        return [(leaf.path, bytes(config), leaf.mode or files.key_mode(leaf.path), leaf.owner)], []
    if leaf.certificate_path == leaf.key_path:
        path, links = _combined_target(leaf, settings.now)
        mode = leaf.mode or (0o600 if links else files.key_mode(path))
        return [(path, chain + key, mode, leaf.owner or _owner(leaf.key_path))], links
    written = [(leaf.certificate_path, chain, None if os.path.exists(leaf.certificate_path) else 0o644, leaf.owner)]
    if key is not None and (decision.new_key or leaf.mode):
        written.append((leaf.key_path, key, leaf.mode or files.key_mode(leaf.key_path), leaf.owner))
    return written, []


def _owner(path):
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_uid, status.st_gid


def _combined_target(leaf, now):
    """The kubelet keeps a dated file behind a link (client-go certificate_store.go); any other combined file is itself."""
    path = leaf.certificate_path
    directory, name = os.path.split(path)
    if not name.endswith("-current.pem") or not (os.path.islink(path) or leaf.missing):
        return path, []
    moment = now
    while True:
        dated = os.path.join(directory, name.replace("current", moment.strftime("%Y-%m-%d-%H-%M-%S")))
        if not os.path.lexists(dated):
            return dated, [(path, dated)]
        moment += datetime.timedelta(seconds=1)


def _need_server(leaf):
    if leaf.server is None:
        raise PkiError("there is none, and the address of the API server that it has to name is not known", path=leaf.path,
                       fix="Restore it from a backup, or put a kubeconfig with the right server in its place.")
    return leaf.server


def _user(decision):
    # kubeadm names the user as the certificate does (cmd/kubeadm/app/phases/kubeconfig).
    return decision.certificate.common_name


def _check_alone(decision, path, decisions):
    """Raise PkiError where what is written there belongs to another certificate, too, which keeps its other file."""
    real, own = os.path.realpath(path), decision.leaf.files()
    others = [(other.leaf.name, other.leaf.files()) for other in decisions if other is not decision]
    for what, paths in decision.leaf.neighbours + others:
        # All its files in common, and it is one pair under two names.
        if real in paths and paths != own:
            raise PkiError("is a file of %s as well as of %s: renewing the one would spoil the other. Nothing was changed" % (
                what, decision.leaf.name), path=path,
                fix="Give each files of its own: put a copy in place of the link (`cp --remove-destination`), then run again.")


class Writes:
    """All that a run writes: files {path: (bytes, mode or None, owner or None)}, by their real paths; links {link: target}."""

    def __init__(self, decisions, settings):
        self.files, self.links, self.named = {}, {}, set()
        for decision in decisions:
            if decision.certificate is not None:
                written, links = changes(decision, settings)
                for path, data, mode, owner in written:
                    _check_alone(decision, path, decisions)
                    self._add(path, data, mode, owner)
                self.links.update(links)

    def _add(self, path, data, mode, owner):
        real = files.resolve(path)
        if real in self.files and self.files[real][0] != data:
            raise PkiError("two certificates are to be written to this file", path=path, fix="Give each a file of its own.")
        if owner is not None and -1 in owner:
            present = _owner(real) or (os.geteuid(), os.getegid())
            owner = tuple(old if new == -1 else new for new, old in zip(owner, present))
        self.files[real] = (data, mode, owner)
        self.named.add(path)

    def concerned(self):
        """Give every path whose present content a backup has to hold: files, links, and what links lead to."""
        return set(self.files) | self.named | set(self.links) | {os.path.realpath(path) for path in self.links}

    def check_room(self, state_dir, backup_dir):
        """Raise PkiError unless there is space, and permission, for all of it. Writes nothing."""
        needed = {}
        for path, (data, _mode, _owner) in self.files.items():
            directory = os.path.dirname(path)
            if not os.path.isdir(directory):
                raise PkiError("the directory %s does not exist" % directory, path=path, fix="Create it, or correct the path.")
            needed[directory] = needed.get(directory, 0) + _blocks(len(data))
        # The backup holds the old versions, about as large; the journal is small.
        needed[backup_dir] = needed.get(backup_dir, 0) + sum(needed.values()) + 16384
        needed[state_dir] = needed.get(state_dir, 0) + 16384
        devices = {}
        for directory, size in needed.items():
            existing = files.existing_directory(directory)
            _check_access(existing)
            devices.setdefault(os.stat(existing).st_dev, [existing, 0])[1] += size
        for directory, size in devices.values():
            free = files.free_bytes(directory)
            if free < size:
                raise PkiError("no space left on the file system: %d KiB are needed and %d are free" % (
                    -(-size // 1024), free // 1024), path=directory, fix="Free some space and run again; nothing was changed.")


def apply(writes, state_dir=files.STATE_DIR, backup_dir=files.BACKUP_DIR, keep=5):
    """Write all that was issued: a backup set first, then one transaction, then read back and compared.

    writes: a Writes. Gives the directory of the backup set, or None where there was nothing to do. Raises PkiError; the files
    are then as they were, but for a disk that fails in the middle of the renames, which the next run heals.
    """
    if not writes.files:
        return None
    transaction = transactions.Transaction(JOB, state_dir)
    for path, (data, mode, owner) in writes.files.items():
        transaction.write(path, data, mode, owner)
    for path, target in writes.links.items():
        transaction.symlink(path, target)
    backup = files.create_backup(writes.concerned(), "cert-leaf", backup_dir, keep)
    transaction.commit()
    for path, (data, _mode, _owner) in writes.files.items():
        if files.read(path) != data:
            raise PkiError("does not hold what was just written to it", path=path,
                           fix="Something else writes it, or the disk fails (see `dmesg`); the backup set %s has what was "
                               "there before." % backup)
    return backup


def adjust(found, check):
    """Give Leaves the owner and mode that was asked for. Gives the paths that had others; with check nothing changes."""
    changed = []
    for leaf in found:
        if leaf.mode is None and leaf.owner is None:
            continue
        paths = {path for path in (leaf.certificate_path, leaf.key_path, leaf.path) if path and os.path.exists(path)}
        for path in sorted(paths):
            status = os.stat(path)
            # The mode is that of what holds the key.
            holds_key = path == leaf.key_path or leaf.form != PAIR
            mode = leaf.mode if holds_key and leaf.mode is not None else status.st_mode & 0o7777
            owner = leaf.owner or (-1, -1)
            wrong = (mode != status.st_mode & 0o7777 or owner[0] not in (-1, status.st_uid)
                     or owner[1] not in (-1, status.st_gid))
            if wrong:
                changed.append(path)
            if wrong and not check:
                files.set_attributes(path, mode, owner)
    return changed


def _blocks(size):
    return -(-size // 4096) * 4096


def _check_access(directory):
    # Root is denied nothing by access(2) but what a read-only file system denies.
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        raise files.explain(OSError(errno.EROFS, ""), directory)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise files.explain(OSError(errno.EACCES, ""), directory)


def restarts(decisions, now):
    """Give (restart, reload): the components that only a restart makes take up what changed, and those that do it themselves.

    The second are named whether anything changed or not: what they serve proves it at once, also after an interrupted run.
    A client of its own certificate (client-go, etcd's client) reads it afresh at a later handshake, which is soon enough
    unless the old one has ended or does so within ten minutes, or was not usable at all. A component that runs since before
    its kubeconfig was written is among the first, too: a run that was interrupted, or kubeadm, renewed that one.
    """
    restart, reload = set(), set()
    for decision in decisions:
        leaf = decision.leaf
        if leaf.consumer is None:
            continue
        if leaf.takes_up == profiles.RELOADS and (decision.certificate is not None or decision.action == KEEP):
            reload.add(leaf.consumer)
        if decision.certificate is None:
            if leaf.takes_up == profiles.RESTARTS and processes.older_than(leaf.consumer, leaf.path):
                restart.add(leaf.consumer)
                decision.reason += "; %s runs since before it was written" % leaf.consumer
            continue
        usable = leaf.certificate is not None and leaf.certificate.not_before <= now \
            and leaf.certificate.not_after > now + LATE and not leaf.is_renamed() \
            and leaf.key_sha256 == leaf.certificate.key_sha256
        if leaf.takes_up == profiles.RESTARTS or (leaf.takes_up == profiles.CLIENT and not usable):
            restart.add(leaf.consumer)
    return sorted(restart), sorted(reload - restart)


def rows(decisions, settings, rehearse=False):
    """Give one row per leaf for the module's result, without any key material."""
    found = []
    for decision in decisions:
        leaf = decision.leaf
        before = leaf.certificate.describe() if leaf.certificate is not None else None
        after = before
        if decision.certificate is not None:
            after = decision.certificate.describe()
            if rehearse and decision.staged is None:
                # Neither is known before the real run.
                del after["serial"], after["sha256"]
                if decision.new_key:
                    after["key_type"] = _key_type(leaf, settings)
        found.append({
            "name": leaf.name, "path": leaf.path, "action": DONE[decision.action], "reason": decision.reason,
            "before": before, "after": after, "consumer": leaf.consumer, "takes_up": leaf.takes_up,
            "ca": leaf.signer.name, "new_key": decision.new_key})
    return found


def diff(found):
    """Give Ansible's diff for rows(): parsed certificates before and after, never key material."""
    return [{"before_header": "%s (%s)" % (row["path"], row["name"]), "after_header": "%s (%s)" % (row["path"], row["name"]),
             "before": row["before"] or {}, "after": row["after"] or {}}
            for row in found if row["action"] in (DONE[RENEW], DONE[CREATE])]


def run(settings, find, check=False, state_dir=files.STATE_DIR, backup_dir=files.BACKUP_DIR, keep=5):
    """Do the whole job: heal, read, decide, issue, write. Gives the module's result mapping.

    find: function that reads the node and gives [Leaf]; called when what a killed run left is healed and the node is
    locked. check: nothing is written, and the result is what a run would give but for serials and fingerprints.
    """
    if check:
        interrupted = files.Journal(JOB, state_dir).load() is not None
        result = _work(settings, find, True, state_dir, backup_dir, keep)
        if interrupted:
            result["warnings"].append("A run on this node was interrupted; the next one that is not a check finishes or "
                                      "undoes it first.")
        return result
    with files.lock(state_dir):
        healed = transactions.Transaction.recover(JOB, state_dir)
        result = _work(settings, find, False, state_dir, backup_dir, keep)
    if healed != "nothing":
        result["changed"] = result["changed"] or healed == "finished"
        result["warnings"].append("An interrupted run on this node was %s first." % healed)
    return result


def _work(settings, find, check, state_dir, backup_dir, keep):
    found = find()
    for leaf in found:
        leaf.external = leaf.signer.elsewhere and settings.waiting.asked
        leaf.pending = leaf.external and _pending(leaf, settings)
    decisions = plan(found, settings)
    error = obstacle(decisions)
    if error:
        raise error
    awaited = settle(decisions, settings)
    asked = request(awaited, settings, check)
    issue(decisions, settings, rehearse=check)
    writes = Writes(decisions, settings)
    if writes.files:
        writes.check_room(state_dir, backup_dir)
    backup = None if check else apply(writes, state_dir, backup_dir, keep)
    if not check:
        tidy(decisions, settings)
    adjusted = adjust([decision.leaf for decision in decisions], check)
    restart, reload = restarts(decisions, settings.now)
    found = rows(decisions, settings, rehearse=check)
    return {"changed": bool(writes.files or adjusted or asked), "adjusted": adjusted, "leaves": found, "restart": restart,
            "reload": reload, "backup": backup, "requests": bundle(awaited, settings), "diff": diff(found),
            "warnings": warnings(decisions, settings)}


def _pending(leaf, settings):
    staged = settings.waiting.staged(leaf.name)
    return staged is not None and staged.request.key_sha256 != leaf.key_sha256
