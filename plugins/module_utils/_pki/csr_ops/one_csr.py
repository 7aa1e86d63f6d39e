# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One certificate request: present, approved, denied or absent."""

from __future__ import annotations

import datetime
import os
import re
from typing import Any, Dict

from .. import errors
from ..errors import PkiError
from ..fileio import atomic, guarded_files, reading
from ..kube_api import api_client, api_connection, csr, csr_dangers, csr_decision, csr_object
from ..x509 import csr_read, private_keys, x509_read, x509_sign

OWN_REASON = "KubepkiDecision"

USER_LABEL = {"kubepki.io/kind": "user"}


def days_between(number: float | None) -> datetime.timedelta | None:
    """Return a number of days as a timedelta, None for None."""
    return None if number is None else datetime.timedelta(days=number)


def slug(text: str, longest: int = 40) -> str:
    """Return a text as a part of an object's name: lower-case letters, digits, dots and hyphens."""
    return re.sub(r"[^a-z0-9.-]+", "-", text.lower()).strip("-.")[:longest].rstrip("-.") or "user"


def one_request(params: Dict[str, Any], check: bool) -> Dict[str, Any]:
    """Bring one CertificateSigningRequest to a state and write what was issued. Return cert_csr's result."""
    api = api_connection.connect(params)
    return _OneRequest(api, params, check).run()


class _OneRequest:
    def __init__(self, api: api_client.Api, params: Dict[str, Any], check: bool) -> None:
        self.api, self.params, self.check = api, params, check
        self.actions: list[str] = []
        self.warnings: list[str] = []
        # Set by the steps of run(), in its order.
        self.before: Any = None
        self.ask: Any = None
        self.wanted: Any = None
        self.certificate: Any = None

    def run(self) -> Dict[str, Any]:
        state, params = self.params["state"], self.params
        if state in ("absent", "denied"):
            self._existing(must_be=state == "denied")
            self._absent() if state == "absent" else self._deny()
            return self._result()
        if self._has_material():
            self._load()
            if state == "approved":
                self.wanted.refuse_dangerous(params["allow_dangerous"])
            if not params["force"] and self._file_serves():
                return self._result()
            self._present()
        else:
            self._existing(must_be=True)
        if state == "approved":
            self._approve()
        wait = params["wait"] if params["wait"] is not None else state == "approved"
        if wait and not self.check:
            self.ask = csr.wait(self.api, self.ask, params["wait_timeout"])
        self._take_certificate()
        return self._result()

    def _has_material(self) -> bool:
        params = self.params
        return bool(params["request"] or params["request_path"] or params["privatekey_path"])

    def _existing(self, must_be: bool = False) -> None:
        self.ask = csr.find(self.api, self.params["name"])
        self.before = self.ask
        if self.ask is None and must_be:
            raise PkiError(
                "there is no such request",
                path="CertificateSigningRequest %s" % self.params["name"],
                fix="Make it first with state present, or correct the name.",
            )

    def _load(self) -> None:
        """Set self.wanted from what the parameters say; makes the private key where it is missing."""
        params = self.params
        if params["request"] or params["request_path"]:
            data = params["request"].encode("utf-8") if params["request"] else reading.read(params["request_path"])
            request = csr_read.parse_request(data, params["request_path"] or "request")
        else:
            request = self._own_request(params["privatekey_path"])
        self.wanted = csr.Wanted(
            params["name"], request, params["signer_name"], params["usages"], params["expiration_seconds"], params["labels"]
        )

    def _own_request(self, path: str) -> csr_read.Request:
        params = self.params
        if not params["common_name"]:
            raise PkiError("a request from %s needs a common name" % path, fix="Give common_name, or a finished request.")
        data = guarded_files.read_own(path)
        if data is None:
            key = private_keys.generate_key(params["key_type"])
            self.actions.append("key made")
            if not self.check:
                atomic.write(path, key.pem, mode=0o600)
        else:
            key = private_keys.parse_private_key(data, path)
        usages = params["usages"] or csr_object.USAGES.get(params["signer_name"]) or ()
        extended = sorted(csr_dangers.extended_usages(usages))
        profile = x509_sign.Profile(params["common_name"], params["organizations"] or (), params["sans"] or (), extended)
        return x509_sign.build_request(profile, key)

    def _file_serves(self) -> bool:
        """Return whether the certificate file already is what is wanted; the API is not asked then."""
        path = self.params["path"]
        data = reading.read_if_exists(path) if path else None
        if data is None:
            return False
        try:
            certificate = x509_read.parse_certificate(data, path)
        except PkiError as error:
            self.warnings.append("%s It is replaced." % error)
            return False
        if csr.certificate_fault(
            certificate, self.wanted.request, days_between(self.params["renew_below_days"]), x509_read.now()
        ):
            return False
        self.certificate = certificate
        return True

    def _present(self) -> None:
        self._existing()
        why = self._why_again()
        if self.ask is not None and why is None:
            return
        if self.ask is not None:
            self.actions.append("deleted: %s" % why)
            if not self.check:
                csr.delete(self.api, self.ask)
        self.actions.append("created")
        if self.wanted.expiration_seconds is not None and self.api.minor < 22:
            self.warnings.append(
                "Kubernetes 1.%d knows no expirationSeconds: the signer's own validity counts "
                "(--cluster-signing-duration of kube-controller-manager)." % self.api.minor
            )
        if self.check:
            self.ask = csr_object.decode(self.wanted.body(self.api))
        else:
            self.ask = csr.create(self.api, self.wanted)

    def _why_again(self) -> str | None:
        ask = self.ask
        if ask is None:
            return None
        if self.params["force"]:
            return "force"
        if ask.state in (csr_object.DENIED, csr_object.FAILED):
            return "it was denied" if ask.state == csr_object.DENIED else "its signer refused it"
        why = csr.difference(ask, self.wanted, self.api.minor)
        if why or ask.state != csr_object.ISSUED:
            return why
        try:
            certificate = csr.check_issued(ask, self.wanted.request)
        except PkiError as error:
            return error.message
        return csr.due(certificate, days_between(self.params["renew_below_days"]), x509_read.now())

    def _approve(self) -> None:
        if self.ask.state in (csr_object.DENIED, csr_object.FAILED):
            csr.decide(self.api, self.ask, "Approved", "", "")  # raises
        allowed = self.params["allow_dangerous"]
        csr_dangers.refuse_dangerous_ask(self.ask, allowed)
        if not self._has_material():
            self._expected()
        found = csr_dangers.dangers(self.ask)
        if found:
            self.warnings.append("%s: %s. It is approved because that was allowed by name." % (self.ask.path, "; ".join(found)))
        if self.ask.state == csr_object.PENDING:
            self.actions.append("approved")
            if self.check:
                return
        elif self.check and self.ask.state in (csr_object.APPROVED, csr_object.ISSUED):
            return
        self.ask = csr.decide(
            self.api,
            self.ask,
            "Approved",
            self.params["reason"] or OWN_REASON,
            self.params["comment"] or "Approved with kubepki.lifecycle.cert_csr",
            allowed,
        )

    def _expected(self) -> None:
        """Refuse to approve something else than the parameters describe. What they do not say means none, or the default."""
        params = self.params
        agreed = csr.Agreed(
            params["common_name"],
            params["organizations"],
            params["sans"],
            params["signer_name"],
            params["usages"],
            params["expiration_seconds"],
        )
        what, have = csr.differing(self.ask, agreed, self.api.minor) or (None, ())
        if what is not None:
            raise PkiError(
                "it asks for the %s %s, which is not what was to be approved"
                % (what, errors.printable(", ".join(have)) or "(none)"),
                path=self.ask.path,
                fix="Deny it, or describe it completely in the task: what the task does not name is not approved.",
            )

    def _deny(self) -> None:
        if self.ask.state == csr_object.DENIED:
            return
        self.actions.append("denied")
        if not self.check:
            self.ask = csr.decide(
                self.api,
                self.ask,
                "Denied",
                self.params["reason"] or OWN_REASON,
                self.params["comment"] or "Denied with kubepki.lifecycle.cert_csr",
            )

    def _absent(self) -> None:
        if self.ask is None:
            return
        self.actions.append("deleted")
        if not self.check:
            csr.delete(self.api, self.ask)
        self.ask = None

    def _take_certificate(self) -> None:
        if self.ask is None or self.ask.state != csr_object.ISSUED:
            return
        request = self.wanted.request if self.wanted else self.ask.request
        if request is None:
            return
        self.certificate = csr.check_issued(self.ask, request)
        path = self.params["path"]
        if not path:
            return
        # What the signer issued, chain included where it gives one.
        data = self.ask.certificate.strip() + b"\n"
        if reading.read_if_exists(path) != data:
            self.actions.append("written")
            if not self.check:
                atomic.write(path, data, mode=0o644 if not os.path.exists(path) else None)

    def _result(self) -> Dict[str, Any]:
        moment = x509_read.now()
        shown = [csr_decision.row(ask, moment) if ask is not None else {} for ask in (self.before, self.ask)]
        pem = None
        if self.ask is not None and self.ask.certificate and self.certificate is not None:
            pem = self.ask.certificate.decode("ascii", "replace")
        elif self.certificate is not None:
            pem = self.certificate.pem.decode("ascii")
        return {
            "changed": bool(self.actions),
            "actions": self.actions,
            "warnings": self.warnings,
            "csr": shown[1] or None,
            "certificate": pem,
            "certificate_info": self.certificate.describe() if self.certificate is not None else None,
            "diff": {"before": _for_diff(shown[0]), "after": _for_diff(shown[1])},
        }


def _for_diff(shown: Dict[str, Any]) -> Dict[str, Any]:
    return {key: value for key, value in shown.items() if key not in ("age_seconds", "dangers")}
