# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The renewal of a node's leaves as a whole: plan, issue, write, and what has to restart."""

from __future__ import annotations

import datetime
from typing import Any, Callable, Dict, Iterable, List, Set, Tuple

from ..fileio import atomic, journals, node_lock, transaction_recovery
from ..host import processes
from ..kubeadm import catalogue
from . import issue, model, policy, write


def restarts(decisions: Iterable[model.LeafDecision], now: datetime.datetime) -> Tuple[List[str], List[str]]:
    """Return (restart, reload): the components that need a restart for what changed, and those that reload it.

    The second are named whether anything changed or not: what they serve proves it at once, also after an interrupted run.
    A client of its own certificate (client-go, etcd's client) reads it afresh at a later handshake, which is soon enough
    unless the old one has ended or does so within ten minutes, or was not usable at all. A component that runs since before
    its kubeconfig was written is among the first, too: a run that was interrupted, or kubeadm, renewed that one.
    """
    restart: Set[str] = set()
    reload: Set[str] = set()
    for decision in decisions:
        leaf = decision.leaf
        if leaf.consumer is None:
            continue
        if leaf.takes_up == catalogue.RELOADS and (decision.certificate is not None or decision.action == model.KEEP):
            reload.add(leaf.consumer)
        if decision.certificate is None:
            if leaf.takes_up == catalogue.RESTARTS and processes.older_than(leaf.consumer, leaf.path):
                restart.add(leaf.consumer)
                decision.reason += "; %s runs since before it was written" % leaf.consumer
            continue
        usable = (
            leaf.certificate is not None
            and leaf.certificate.not_before <= now
            and leaf.certificate.not_after > now + policy.LATE
            and not leaf.is_renamed()
            and leaf.key_sha256 == leaf.certificate.key_sha256
        )
        if leaf.takes_up == catalogue.RESTARTS or (leaf.takes_up == catalogue.CLIENT and not usable):
            restart.add(leaf.consumer)
    return sorted(restart), sorted(reload - restart)


def rows(decisions: Iterable[model.LeafDecision], settings: model.Settings, rehearse: bool = False) -> List[Dict[str, Any]]:
    """Return one row per leaf for the module's result, without any key material."""
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
                    after["key_type"] = issue.key_type(leaf, settings)
        found.append(
            {
                "name": leaf.name,
                "path": leaf.path,
                "action": model.DONE[decision.action],
                "reason": decision.reason,
                "before": before,
                "after": after,
                "consumer": leaf.consumer,
                "takes_up": leaf.takes_up,
                "ca": leaf.signer.name,
                "new_key": decision.new_key,
            }
        )
    return found


def diff(found: Iterable[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Return Ansible's diff for rows(): parsed certificates before and after, never key material."""
    return [
        {
            "before_header": "%s (%s)" % (row["path"], row["name"]),
            "after_header": "%s (%s)" % (row["path"], row["name"]),
            "before": row["before"] or {},
            "after": row["after"] or {},
        }
        for row in found
        if row["action"] in (model.DONE[model.RENEW], model.DONE[model.CREATE])
    ]


def run(
    settings: model.Settings,
    find: Callable[[], List[model.Leaf]],
    check: bool = False,
    state_dir: str = atomic.STATE_DIR,
    backup_dir: str = atomic.BACKUP_DIR,
    keep: int = 5,
) -> Dict[str, Any]:
    """Renew the leaves of a node: recover, read, decide, issue, write. Returns the module's result mapping.

    find: function that reads the node and gives [Leaf]; called when a killed run is recovered and the node is
    locked. check: nothing is written, and the result is what a run would give but for serials and fingerprints.
    """
    if check:
        interrupted = journals.Journal(write.JOB, state_dir).load() is not None
        result = _work(settings, find, True, state_dir, backup_dir, keep)
        if interrupted:
            result["warnings"].append(
                "A run on this node was interrupted; the next one that is not a check finishes or undoes it first."
            )
        return result
    with node_lock.lock(state_dir):
        healed = transaction_recovery.recover(write.JOB, state_dir)
        result = _work(settings, find, False, state_dir, backup_dir, keep)
    if healed != "nothing":
        result["changed"] = result["changed"] or healed == "finished"
        result["warnings"].append("An interrupted run on this node was %s first." % healed)
    return result


def _work(
    settings: model.Settings, find: Callable[[], List[model.Leaf]], check: bool, state_dir: str, backup_dir: str, keep: int
) -> Dict[str, Any]:
    found = find()
    for leaf in found:
        leaf.external = leaf.signer.elsewhere and settings.waiting.asked
        leaf.pending = leaf.external and _pending(leaf, settings)
    decisions = issue.plan(found, settings)
    error = issue.obstacle(decisions)
    if error:
        raise error
    awaited = issue.accept_signed(decisions, settings)
    asked = issue.request(awaited, settings, check)
    issue.issue(decisions, settings, rehearse=check)
    writes = write.Writes(decisions, settings)
    if writes.files:
        writes.check_room(state_dir, backup_dir)
    backup = None if check else write.apply(writes, state_dir, backup_dir, keep)
    if not check:
        issue.tidy(decisions, settings)
    adjusted = write.adjust([decision.leaf for decision in decisions], check)
    restart, reload = restarts(decisions, settings.now)
    result = rows(decisions, settings, rehearse=check)
    return {
        "changed": bool(writes.files or adjusted or asked),
        "adjusted": adjusted,
        "leaves": result,
        "restart": restart,
        "reload": reload,
        "backup": backup,
        "requests": issue.bundle(awaited, settings),
        "diff": diff(result),
        "warnings": issue.warnings(decisions, settings),
    }


def _pending(leaf: model.Leaf, settings: model.Settings) -> bool:
    staged = settings.waiting.staged(leaf.name)
    return staged is not None and staged.request.key_sha256 != leaf.key_sha256
