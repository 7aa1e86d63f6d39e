# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan which leaves are issued, and issue them."""

from __future__ import annotations

import collections
import datetime
import os
import threading
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from ..errors import PkiError
from ..fileio import reading
from ..kubeadm import kubeconfig
from ..x509 import private_keys, x509_read, x509_sign
from ..x509.private_keys import PrivateKey
from . import external_csr, model, policy


def plan(leaves: Iterable[model.Leaf], settings: model.Settings) -> List[model.LeafDecision]:
    """Decide on every Leaf. Returns [Decision]; nothing is raised here, see obstacle()."""
    decisions = []
    for leaf in leaves:
        if leaf.other_login and not leaf.named:
            decisions.append(model.LeafDecision(leaf, model.KEEP, "it logs in without a certificate"))
            continue
        below = settings.below_days if leaf.below_days is None else leaf.below_days
        action, reason = policy.decide(leaf.state(settings.now), below, settings.force)
        if action == model.REFUSE:
            decisions.append(_refused(leaf, reason))
        else:
            decisions.append(_writable(model.LeafDecision(leaf, action, reason)))
    return decisions


def _writable(decision: model.LeafDecision) -> model.LeafDecision:
    """Return the Decision, or a refusal where it would write a credential into the kubeconfig of another cluster."""
    config = decision.leaf.kubeconfig
    if config is not None and decision.leaf.of_cluster and decision.action != model.KEEP:
        try:
            config.check_cluster()
        except PkiError as error:
            return model.LeafDecision(decision.leaf, model.REFUSE, error.message, error=error)
    return decision


def _refused(leaf: Any, why: str) -> model.LeafDecision:
    if why == "unreadable" and isinstance(leaf.problem, kubeconfig.OtherClusterError):
        return model.LeafDecision(leaf, model.REFUSE, leaf.problem.message, error=leaf.problem)
    if why == "unreadable":
        problem = leaf.problem
        return model.LeafDecision(
            leaf,
            model.REFUSE,
            problem.message,
            error=PkiError(
                problem.message,
                path=problem.path,
                fix="%s Or %s, and it is made anew."
                % (
                    problem.fix or "Restore it from a backup.",
                    "set force: true" if leaf.named else "name %s one by one" % leaf.name,
                ),
            ),
        )
    if why == "outside":
        text = "%s: it is due, and the external etcd's authority signs it, whose key is not on this node" % leaf.name
        return model.LeafDecision(leaf, model.REFUSE, "the external etcd's authority signs it", warning=text)
    if why == "foreign":
        text = "%s: it is due, and was brought by the user (issuer %s); only when it is named one by one is it replaced" % (
            leaf.name,
            leaf.certificate.issuer,
        )
        return model.LeafDecision(
            leaf, model.REFUSE, "brought by the user: its issuer is %s" % leaf.certificate.issuer, warning=text
        )
    return model.LeafDecision(leaf, model.REFUSE, leaf.signer.problem.message, error=leaf.signer.problem)


def obstacle(decisions: Iterable[model.LeafDecision]) -> Optional[PkiError]:
    """Return the one PkiError that ends a run before anything changes, or None. One error covers all leaves it concerns."""
    refused = [decision for decision in decisions if decision.error is not None]
    if not refused:
        return None
    first: Any = refused[0].error
    same = [decision.leaf.name for decision in refused if str(decision.error) == str(first)]
    others = [decision.leaf.name for decision in refused if decision.leaf.name not in same]
    message = "%s; so %s cannot be renewed" % (first.message, _listed(same))
    if others:
        message += ", nor, for other reasons, %s" % _listed(others)
    return PkiError(message + ". Nothing was changed", path=first.path, fix=first.fix)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else "%s and %s" % (", ".join(names[:-1]), names[-1])


def warnings(decisions: Sequence[model.LeafDecision], settings: model.Settings) -> List[str]:
    """Return the warnings about a plan."""
    found = [decision.warning for decision in decisions if decision.warning]
    made = [decision for decision in decisions if decision.action in (model.RENEW, model.CREATE)]
    outliving: Dict[Tuple[str, datetime.datetime], List[str]] = {}
    short: List[str] = []
    for decision in made:
        ca, certificate = decision.leaf.signer.certificate, decision.certificate
        if decision.leaf.days is None and certificate.not_after - ca.not_after > datetime.timedelta(minutes=1):
            outliving.setdefault((decision.leaf.signer.name, ca.not_after), []).append(decision.leaf.name)
        if decision.staged is not None and (certificate.not_after - settings.now).total_seconds() < settings.below_days * 86400:
            short.append(decision.leaf.name)
    for (name, moment), leaves in sorted(outliving.items()):
        found.append(
            "The authority %s ends at %s, before %s; nobody will accept them after that."
            % (name, x509_read.timestamp(moment), _listed(leaves))
        )
    if short:
        found.append(
            "The authority issued %s for less than %g days, below which certificates are renewed: the next run asks for "
            "them again. Set kubepki_renew_below_days lower." % (_listed(short), settings.below_days)
        )
    if (
        any(decision.leaf.days is None and decision.staged is None for decision in made)
        and settings.leaf_days <= settings.below_days
    ):
        found.append(
            "Certificates are issued for %g days and renewed below %g: every run will renew them."
            % (settings.leaf_days, settings.below_days)
        )
    return found


def issue(decisions: Iterable[model.LeafDecision], settings: model.Settings, rehearse: bool = False) -> None:
    """Make the keys and certificates of all that is due, in memory, and check each as a client would.

    rehearse: for check mode: throw-away keys that are quick to make stand for all new ones, so that all but the keys is real.
    Sets certificate and key of each Decision. Raises PkiError; nothing is written here.
    """
    due = [decision for decision in decisions if decision.action in (model.RENEW, model.CREATE) and decision.staged is None]
    for decision in due:
        decision.key = None if _wants_new_key(decision, settings) else _old_key(decision)
        decision.new_key = decision.key is None and decision.leaf.request is None
    fresh = [decision for decision in due if decision.new_key]
    if rehearse:
        keys = [private_keys.generate_key("ecdsa-p256") for _decision in fresh]
    else:
        keys = _generate([key_type(decision.leaf, settings) for decision in fresh])
    for decision, key in zip(fresh, keys):
        decision.key = key
    for decision in due:
        _sign(decision, settings)


def accept_signed(decisions: Sequence[model.LeafDecision], settings: model.Settings) -> List[model.LeafDecision]:
    """Take what CAs elsewhere signed, after checking all of it. Returns the Decisions that still wait for theirs.

    The certificates of a node come in together: while any is awaited, the rest of what is due is on HOLD (always, where only
    requests are wanted). Raises PkiError that
    lists every certificate that is not what was asked for, or that is not there while others are; nothing is written here.
    """
    asked = [decision for decision in decisions if decision.action == model.REQUEST]
    given = settings.waiting.certificates
    back = [decision for decision in asked if decision.leaf.name in given]
    if back and len(back) < len(asked):
        raise PkiError(
            "there are certificates for %s, and none for %s. Those of a node are installed together, so nothing was "
            "changed"
            % (
                _listed([decision.leaf.name for decision in back]),
                _listed([decision.leaf.name for decision in asked if decision not in back]),
            ),
            fix="Have these requests of the bundle signed as well, or name with kubepki_names what is to be renewed.",
        )
    wrong = []
    for decision in back:
        try:
            _take(decision, settings)
        except PkiError as error:
            wrong.append("%s: %s" % (decision.leaf.name, error.message))
    if wrong:
        raise PkiError(
            "%s. Nothing was changed" % ". ".join(wrong),
            path="what was signed for this node",
            fix="Have these requests of the bundle signed again, as they are.",
        )
    awaited = [decision for decision in asked if decision.certificate is None]
    for decision in decisions if awaited or settings.waiting.only else ():
        if decision.action in (model.RENEW, model.CREATE):
            decision.action = model.HOLD
            if awaited:
                decision.reason += "; it waits for those that an authority elsewhere has to sign"
    return awaited


def _take(decision: model.LeafDecision, settings: model.Settings) -> None:
    leaf, name = decision.leaf, decision.leaf.name
    staged = settings.waiting.staged(name)
    if staged is None or not staged.fits(_profile(decision), _wanted_type(decision, settings)):
        raise PkiError("no request for this waits on the node any more")
    pem = settings.waiting.certificates[name].encode("utf-8", "replace")
    decision.certificate = external_csr.check(pem, staged.request, leaf.signer.certificate, settings.now)
    decision.key, decision.new_key = staged.key or _old_key(decision), staged.key is not None
    decision.staged, decision.action = staged, model.CREATE if leaf.missing else model.RENEW


def request(awaited: Iterable[model.LeafDecision], settings: model.Settings, check: bool = False) -> bool:
    """Make keys and requests for Decisions that an authority elsewhere has to sign, where none wait that fit.

    Sets staged of each Decision; with check nothing is made, and it is None for those that would be. Returns whether any were.
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
        keys = dict(zip(fresh, _generate([key_type(decision.leaf, settings) for decision in fresh])))
        for decision in new:
            made = x509_sign.build_request(profiles_of[decision], keys.get(decision) or _old_key(decision))
            decision.staged = settings.waiting.stage(decision.leaf.name, made, keys.get(decision))
    return bool(new)


def _wanted_type(decision: model.LeafDecision, settings: model.Settings) -> Optional[str]:
    return key_type(decision.leaf, settings) if _wants_new_key(decision, settings) else None


def bundle(awaited: Iterable[model.LeafDecision], settings: model.Settings) -> List[Dict[str, Any]]:
    """Return what a signer has to know of each awaited Decision whose request is made: plain data, all of it public."""
    found = []
    for decision in awaited:
        if decision.staged is not None:
            made, leaf = decision.staged.request, decision.leaf
            found.append(
                {
                    "name": leaf.name,
                    "path": leaf.path,
                    "ca": leaf.signer.name,
                    "ca_certificate": leaf.signer.certificate.pem.decode("ascii"),
                    "request": made.pem.decode("ascii"),
                    "subject": made.subject,
                    "sans": made.sans,
                    "usages": made.extended_usages,
                    "key_type": made.key_type,
                    "days": settings.leaf_days if leaf.days is None else leaf.days,
                }
            )
    return found


def tidy(decisions: Iterable[model.LeafDecision], settings: model.Settings) -> None:
    """Remove the requests that are no longer needed: their certificates were written, in this run or in an interrupted one."""
    for decision in decisions:
        staged = settings.waiting.staged(decision.leaf.name)
        if decision.action in (model.RENEW, model.CREATE) or (
            staged is not None
            and decision.action == model.KEEP
            and (decision.leaf.signer.problem is None or staged.request.key_sha256 == decision.leaf.key_sha256)
        ):
            settings.waiting.drop(decision.leaf.name)


def _wants_new_key(decision: model.LeafDecision, settings: model.Settings) -> bool:
    leaf = decision.leaf
    if leaf.request is not None:
        return False
    if settings.new_key or leaf.key_sha256 is None:
        return True
    wanted = leaf.key_type or settings.key_type
    if wanted and leaf.certificate is not None and leaf.certificate.key_type != wanted:
        raise PkiError(
            "its key is to be kept (new_key: false) and to become %s, and is %s" % (wanted, leaf.certificate.key_type),
            path=leaf.key_path or leaf.path,
            fix="Leave out key_type or new_key.",
        )
    return False


def _old_key(decision: model.LeafDecision) -> Any:
    leaf = decision.leaf
    if leaf.request is not None:
        return None
    if leaf.key_path is None:
        return private_keys.parse_private_key(leaf.kubeconfig.key_data, leaf.path)
    return private_keys.parse_private_key(reading.read(leaf.key_path), leaf.key_path)


def key_type(leaf: Any, settings: model.Settings) -> str:
    """Return the type of a new key for a leaf: what is asked for, else the nearest to that of its certificate."""
    wanted = leaf.key_type or settings.key_type
    if wanted:
        return wanted
    present: Any = leaf.certificate.key_type if leaf.certificate is not None else None
    return private_keys.nearest_key_type(present)


def _generate(key_types: Sequence[str]) -> List[PrivateKey]:
    """Make keys on all processors at a time: OpenSSL works without the interpreter's lock, and RSA takes a tenth second each."""
    keys: List[Any] = [None] * len(key_types)
    errors: List[Exception] = []
    jobs = collections.deque(enumerate(key_types))

    def work() -> None:
        while jobs:
            try:
                index, key_type = jobs.popleft()
                keys[index] = private_keys.generate_key(key_type)
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


def _profile(decision: model.LeafDecision) -> x509_sign.Profile:
    """The names and usages of the new certificate; what was assumed joins the Decision's reason, once."""
    leaf = decision.leaf
    if leaf.certificate is not None and leaf.unfit is None and leaf.request is None:
        return x509_sign.Profile.of(leaf.certificate)
    profile, assumed = leaf.profile()
    if assumed and not decision.reason.endswith(assumed):
        decision.reason = "%s; %s" % (decision.reason, assumed)
    return profile


def _sign(decision: model.LeafDecision, settings: model.Settings) -> None:
    leaf = decision.leaf
    profile = _profile(decision)
    days = settings.leaf_days if leaf.days is None else leaf.days
    public = leaf.request if leaf.request is not None else decision.key
    certificate = x509_sign.sign_leaf(profile, public, leaf.signer.certificate, leaf.signer.key(), days, start=settings.now)
    if (
        certificate.key_sha256 != public.key_sha256
        or not certificate.signed_by(leaf.signer.certificate)
        or not certificate.not_before <= settings.now < certificate.not_after
        or certificate.is_ca
        or profile.differences(certificate)
    ):
        raise PkiError(
            "the certificate made for %s failed its check, so nothing was changed" % leaf.name,
            path=leaf.path,
            fix="Please report this.",
        )
    decision.certificate = certificate
