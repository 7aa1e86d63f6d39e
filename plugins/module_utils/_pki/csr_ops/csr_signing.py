# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have many requests signed through the Certificates API."""

from __future__ import annotations

import time
from typing import Any, Dict

from .. import errors
from ..errors import PkiError
from ..kube_api import api_client, api_connection, csr, csr_dangers, csr_object
from ..kubeadm import catalogue
from . import one_csr

_EXTERNAL = {"kubepki.io/kind": "external-ca"}

_SPELLED = {"client": "client auth", "server": "server auth"}  # what kubeadm's certificates are for; no other is asked for


def sign_many(params: Dict[str, Any], check: bool) -> Dict[str, Any]:
    """Have requests signed that were made elsewhere. Return csr_sign's result.

    One API call lists all of them; one call each creates or approves those that need it.
    """
    api = api_connection.connect(params)
    wanted = [_wanted(entry, params["signer_name"]) for entry in params["requests"]]
    there = {ask.name: ask for ask in csr.every(api, _selector())} if wanted else {}
    made, approved, wrong = [], [], []
    for one in wanted:
        try:
            ask = there.get(one.name)
            if ask is None:
                made.append(one.name)
                ask = there[one.name] = csr_object.decode(one.body(api)) if check else _created(api, one)
            why = csr.difference(ask, one, api.minor)
            if why:
                raise PkiError("%s from what is to be signed" % why, path=ask.path, fix="Delete it, then run again.")
            if params["approve"] and ask.state == csr_object.PENDING:
                approved.append(one.name)
                if not check:
                    there[one.name] = csr.decide(
                        api, ask, "Approved", one_csr.OWN_REASON, "Approved with kubepki.lifecycle", one.allowed
                    )
        except PkiError as error:
            wrong.append(str(error))
    if wrong:
        raise PkiError("%d of %d requests cannot be signed. %s" % (len(wrong), len(wanted), " ".join(wrong[:3])), path=api.server)
    if params["approve"] and not check:
        _wait_for_all(api, wanted, there, params["wait_timeout"])
    issued = [(entry, there[one.name]) for entry, one in zip(params["requests"], wanted)]
    return {
        "changed": bool(made or approved),
        "created": made,
        "approved": approved,
        "api_calls": api.calls,
        "certificates": [
            {"host": entry["host"], "name": entry["name"], "certificate": ask.certificate.decode("ascii", "replace")}
            for entry, ask in issued
            if ask.state == csr_object.ISSUED
        ],
        "awaited": [ask.name for _entry, ask in issued if ask.state != csr_object.ISSUED],
    }


def _selector() -> str:
    return ",".join("%s=%s" % pair for pair in sorted(_EXTERNAL.items()))


def _wanted(entry: Dict[str, Any], signer: str) -> csr.Wanted:
    signer = signer.replace("{ca}", entry["ca"])
    # What a leaf of the catalogue has is allowed by its name; for any other name nothing is.
    where = "the request of %s for %s" % (errors.printable(entry["host"]), errors.printable(entry["name"]))
    allowed = catalogue.subject_names(entry["name"])
    request = csr_dangers.refuse_dangerous_request(entry["request"], allowed=allowed, path=where)
    unknown = [usage for usage in request.extended_usages if usage not in _SPELLED]
    usages = ["digital signature", "key encipherment"]
    usages += [_SPELLED[usage] for usage in request.extended_usages if usage in _SPELLED]
    given = csr_object.USAGES.get(signer)
    if unknown or (given and not set(usages) <= set(given)):
        raise PkiError(
            "%s on %s needs the usages %s, and the signer %s does not give them"
            % (entry["name"], entry["host"], ", ".join(usages + unknown), signer),
            path="the request for %s" % entry["name"],
            fix="Name another signer, or have this one signed by hand or by a command.",
        )
    # The key is in the name, so that a second run finds the same object, and a renewed request makes another.
    name = "kubepki-%s-%s-%s" % (one_csr.slug(entry["host"]), one_csr.slug(entry["name"]), request.key_sha256[:12])
    return csr.Wanted(
        name, request, signer, usages, max(600, int(entry["days"] * 86400)), dict(_EXTERNAL, **csr.MANAGED_BY), allowed
    )


def _created(api: api_client.Api, wanted: csr.Wanted) -> csr_object.CertificateSigningRequest:
    try:
        return csr.create(api, wanted)
    except api_client.ApiError as error:
        if error.status != 409:
            raise
    ask = csr.find(api, wanted.name)
    if ask is None:
        raise PkiError("was there, and is gone", path="CertificateSigningRequest %s" % wanted.name, fix="Run again.")
    return ask


def _wait_for_all(
    api: api_client.Api,
    wanted: list[csr.Wanted],
    there: Dict[str, csr_object.CertificateSigningRequest],
    seconds: float,
) -> None:
    """Replace the requests in there, {name: request}, by issued ones. One list call covers all of them."""
    deadline = time.monotonic() + seconds
    while True:
        awaited = []
        for one in wanted:
            ask = there.get(one.name)
            if ask is None:
                raise PkiError(
                    "it was deleted while its certificate was waited for",
                    path="CertificateSigningRequest " + one.name,
                    fix="Run again.",
                )
            if ask.state in (csr_object.DENIED, csr_object.FAILED):
                said = errors.printable(ask.message or ask.reason or "no reason given")
                raise PkiError(
                    "it was %s (%s)" % ("denied" if ask.state == csr_object.DENIED else "refused by its signer", said),
                    path=ask.path,
                    fix="Correct the cause and delete it, then run again.",
                )
            if ask.state != csr_object.ISSUED:
                awaited.append(ask)
        if not awaited:
            return
        if time.monotonic() > deadline:
            raise PkiError(
                "%d of %d requests are approved, and their signer has not signed them within %g seconds"
                % (len(awaited), len(wanted), seconds),
                path=awaited[0].path,
                fix="Look at the controller that signs for %s; the requests stay." % errors.printable(awaited[0].signer),
            )
        time.sleep(0.3)
        names = {one.name for one in wanted}
        found = {ask.name: ask for ask in csr.every(api, _selector()) if ask.name in names}
        there.clear()
        there.update(found)
