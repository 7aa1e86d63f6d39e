# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""List and decide pending requests."""

from __future__ import annotations

import datetime
from typing import Any, Container, Dict

from ..errors import PkiError
from ..fileio import reading
from ..kube_api import (
    api_client,
    api_connection,
    csr,
    csr_dangers,
    csr_decision,
    csr_object,
    csr_policy,
    node_identity,
    reserved_names,
    serving_decision,
)
from ..x509 import x509_read
from . import one_csr


def many_requests(params: Dict[str, Any], check: bool) -> Dict[str, Any]:
    """List requests and decide the pending ones by name, label or policy. Return csr_review's result."""
    api = api_connection.connect(params)
    action = params["action"]
    policy = _policy(params)
    if action == csr_object.APPROVE and policy is None and not any(params["names"] or []):
        raise PkiError(
            "a label selector alone approves nothing: the requester writes the labels of a request",
            path="selector",
            fix="Give a policy with it (kubepki_csr_policy), or name the requests.",
        )
    asks = csr.every(api, params["selector"])
    names = [name for name in params["names"] or [] if name]
    missing = sorted(set(names) - {ask.name for ask in asks})
    if missing:
        raise PkiError(
            "there is no CertificateSigningRequest named %s" % ", ".join(missing),
            path=api.server,
            fix="Correct the names; without names all pending requests are meant.",
        )
    if action == "list":
        shown = [ask for ask in asks if not names or ask.name in names]
        return _review(api, shown, [], x509_read.now())
    meant = [ask for ask in asks if (ask.name in names if names else ask.state == csr_object.PENDING)]
    nodes = _nodes(api, params, meant) if action == csr_object.APPROVE and not names else None
    decisions = [csr_decision.decide(ask, action, policy, nodes, named=bool(names)) for ask in meant]
    allowed = csr_dangers.EVERY_NAME if names else ()
    return _review(api, [], [_Done(api, decision, params, check, allowed) for decision in decisions], x509_read.now())


def _policy(params: Dict[str, Any]) -> csr_policy.Policy | None:
    if params["policy"]:
        return csr_policy.parse_policy(params["policy"], params["policy_path"] or "the policy")
    if params["policy_path"]:
        return csr_policy.parse_policy(reading.read(params["policy_path"]), params["policy_path"])
    # A label says which requests are meant; without one, only the policy does.
    return None if params["selector"] else csr_policy.built_in_policy()


def _nodes(
    api: api_client.Api, params: Dict[str, Any], asks: list[csr_object.CertificateSigningRequest]
) -> node_identity.Nodes | None:
    if not any(ask.signer == csr_object.KUBELET_SERVING for ask in asks):
        return None
    found = reserved_names.find(api)
    masters = set(params["control_plane_hosts"] or [])
    inventory = [
        {"name": name, "addresses": [address] if address else [], "control_plane": name in masters}
        for name, address in sorted((params["hosts"] or {}).items())
    ]
    return node_identity.Nodes(api.list("/api/v1/nodes"), inventory, found.api, found.service_networks, found.domains)


class _Done:
    """A decision, carried out (unless in check mode). error: PkiError or None."""

    def __init__(
        self,
        api: api_client.Api,
        decision: csr_decision.CsrDecision,
        params: Dict[str, Any],
        check: bool,
        allowed: Container[str] = (),
    ) -> None:
        self.decision, self.ask = decision, decision.ask
        self.error: PkiError | None = None
        if decision.action == csr_object.LEAVE or check:
            return
        kind = "Approved" if decision.action == csr_object.APPROVE else "Denied"
        message = params["comment"] or "%s with kubepki.lifecycle: %s%s" % (
            kind,
            decision.why,
            " (rule %s)" % decision.rule if decision.rule else "",
        )
        try:
            self.ask = csr.decide(api, decision.ask, kind, params["reason"] or one_csr.OWN_REASON, message[:1024], allowed)
        except PkiError as error:
            self.error = error


def _review(
    api: api_client.Api, asks: list[csr_object.CertificateSigningRequest], done: list[_Done], moment: datetime.datetime
) -> Dict[str, Any]:
    rows = [dict(csr_decision.row(ask, moment), decision=None, why=None, rule=None, refused=False, error=None) for ask in asks]
    for entry in done:
        decision = entry.decision
        rows.append(
            dict(
                csr_decision.row(entry.ask, moment),
                decision=decision.action,
                why=decision.why,
                rule=decision.rule,
                refused=decision.refused,
                error=str(entry.error) if entry.error else None,
            )
        )
    states = [row["state"] for row in rows]
    carried = [row["decision"] for row in rows if row["error"] is None]
    errors = [row["error"] for row in rows if row["error"]]
    counts = {
        state: states.count(state)
        for state in (csr_object.PENDING, csr_object.APPROVED, csr_object.ISSUED, csr_object.DENIED, csr_object.FAILED)
    }
    counts.update(
        total=len(rows),
        approved_now=carried.count(csr_object.APPROVE),
        denied_now=carried.count(csr_object.DENY),
        left=carried.count(csr_object.LEAVE),
        refused=sum(1 for row in rows if row["refused"]),
        errors=len(errors),
    )
    result = {
        "changed": bool(counts["approved_now"] or counts["denied_now"]),
        "requests": rows,
        "table": csr_decision.table(rows),
        "counts": counts,
        "api_calls": api.calls,
    }
    if errors:
        result.update(failed=True, msg="%d of %d could not be decided. The first: %s" % (len(errors), len(rows), errors[0]))
    return result


def serving_requests(api: api_client.Api, params: Dict[str, Any], check: bool) -> Dict[str, Any]:
    """Decide the pending requests for kubelets' serving certificates by what the nodes said over SSH.

    Return the same as many_requests().

    params: "answers" ([{"host", "node", "key"}]), "days", and "hosts", "control_plane_hosts" as in csr_review. Raise PkiError
    when two hosts say that they are the same Node.
    """
    keys: Dict[str, Any] = {}
    owners: Dict[str, str] = {}
    for answer in params["answers"]:
        other = owners.setdefault(answer["node"], answer["host"])
        if other != answer["host"]:
            raise PkiError(
                "%s and %s both say that they are the Node %s, so nothing was decided" % (other, answer["host"], answer["node"]),
                fix="One of the two is not what it says, or the inventory has it twice.",
            )
        if answer["host"] in keys:
            raise PkiError(
                "two answers are from %s, so nothing was decided" % answer["host"],
                fix="Gather the answers with kubelet_summary (step answers), each under the host that it came from.",
            )
        keys[answer["host"]] = (answer["node"], answer["key"])
    asks = [ask for ask in csr.every(api) if ask.state == csr_object.PENDING and ask.signer == csr_object.KUBELET_SERVING]
    nodes = _nodes(api, params, asks)
    # An answer counts only for the Node that its host is. Another Node's request is neither approved nor denied for it.
    keys = {host: said for host, said in keys.items() if nodes is not None and nodes.hosts.get(said[0], {}).get("name") == host}
    longest = csr.validity(params["days"]) if csr.knows_validity(api) else None
    decisions = [serving_decision.decide_serving(ask, nodes, keys, longest) for ask in asks] if nodes is not None else []
    return _review(
        api, [], [_Done(api, decision, {"reason": None, "comment": None}, check) for decision in decisions], x509_read.now()
    )
