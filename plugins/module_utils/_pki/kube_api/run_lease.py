# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Lease that a job holds while it changes a cluster, so that two controllers do not work on it at the same time."""

from __future__ import annotations

import datetime

from ..errors import PkiError, printable
from .api_client import Api, ApiError

NAME = "kubepki-run"

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"

PATH = "%s/%s" % (LEASES, NAME)

JOB = "kubepki.io/job"  # annotation: the playbook

SECONDS = 900  # the longest step between two renewals: one node, or one batch of kubelets

TAKE_OVER = "kubepki_take_over"

_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"  # metav1.MicroTime

_ATTEMPTS = 3


class LeaseRefused(PkiError):
    """Another run holds the Lease. holder: its identity (str), as it stands in the Lease."""

    def __init__(self, message: str, fix: str, holder: str):
        super().__init__(message, path="Lease kube-system/" + NAME, fix=fix)
        self.holder = holder

    def as_result(self) -> dict:
        """As PkiError.as_result(), with "holder" beside it."""
        return dict(super().as_result(), holder=self.holder)


class RunLease:
    """The Lease kube-system/kubepki-run, for one run. api: a connection. holder: the identity of the run. job: its playbook."""

    def __init__(self, api: Api, holder: str, job: str, seconds: int = SECONDS):
        self._api, self._holder, self._job, self._seconds = api, holder, job, seconds

    def take(self, take_over: bool = False, instead_of: str = "", check: bool = False) -> str:
        """Take the Lease, or renew it where this run has it.

        take_over: also where another run has it. instead_of: also where this holder has it, which is known to have ended.
        check: write nothing. Return the holder that it was taken from, or "" where there was none. Raise LeaseRefused where
        another run has it, PkiError where the API does not answer.
        """
        previous = ""

        def change(found: dict) -> dict:
            nonlocal previous
            spec, holder = _spec(found), _holder(found)
            previous = holder if holder != self._holder else ""
            if previous and not (take_over or previous == instead_of or _expired(spec)):
                raise LeaseRefused(
                    "another run is working on this cluster: %s" % _described(found),
                    "Wait until it has ended. If you know that it has, run again with %s=true. Nothing was changed." % TAKE_OVER,
                    previous,
                )
            moved = int(spec.get("leaseTransitions") or 0) + (1 if previous else 0)
            return {"metadata": {"annotations": {JOB: self._job}}, "spec": dict(self._times(), leaseTransitions=moved)}

        for _attempt in range(_ATTEMPTS):
            if self._api.update(PATH, change, check=check):
                return previous
            if check or self._create():
                return ""
        raise PkiError("other clients create and delete it again and again", path=PATH, fix="Find them, then run again.")

    def renew(self) -> None:
        """Renew the Lease that this run has taken. Raise LeaseRefused where it has it no more."""

        def change(found: dict) -> dict:
            if _holder(found) != self._holder:
                raise _lost(_described(found) if _holder(found) else "no run holds it now", _holder(found))
            return {"spec": dict(self._times(), acquireTime=_spec(found).get("acquireTime"))}

        if not self._api.update(PATH, change):
            raise _lost("it was deleted", "")

    def release(self) -> bool:
        """Release the Lease where this run holds it. Return whether it did."""

        def change(found: dict) -> dict | None:
            return {"spec": {"holderIdentity": None}} if _holder(found) == self._holder else None

        return self._api.update(PATH, change)

    def _times(self) -> dict:
        now = datetime.datetime.now(datetime.timezone.utc).strftime(_TIME)
        return {"holderIdentity": self._holder, "leaseDurationSeconds": self._seconds, "acquireTime": now, "renewTime": now}

    def _create(self) -> bool:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "spec": dict(self._times(), leaseTransitions=0),
            "metadata": {"name": NAME, "namespace": "kube-system", "annotations": {JOB: self._job}},
        }
        try:
            self._api.call("POST", LEASES, body)
        except ApiError as error:
            if error.status != 409:
                raise
            return False  # another run has created it a moment before: it is judged in the next attempt
        return True


def _lost(why: str, holder: str) -> LeaseRefused:
    return LeaseRefused(
        "this run holds it no more: %s" % why,
        "This run ends here, so that two do not change the cluster at the same time. See what the other one did, "
        "then run again: what is done stays done.",
        holder,
    )


def _spec(found: dict) -> dict:
    spec = found.get("spec")
    return spec if isinstance(spec, dict) else {}


def _holder(found: dict) -> str:
    holder = _spec(found).get("holderIdentity")
    return holder if isinstance(holder, str) else ""


def _moment(text: object) -> datetime.datetime | None:
    """Return a time of a Lease (datetime in UTC), or None where there is none that can be read."""
    for form in (_TIME, "%Y-%m-%dT%H:%M:%SZ"):
        try:
            return datetime.datetime.strptime(str(text), form).replace(tzinfo=datetime.timezone.utc)
        except ValueError:
            continue
    return None


def _end(spec: dict) -> datetime.datetime | None:
    renewed, seconds = _moment(spec.get("renewTime")), spec.get("leaseDurationSeconds")
    if renewed is None or isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 < seconds <= 86400:
        return None
    return renewed + datetime.timedelta(seconds=seconds)


def _expired(spec: dict) -> bool:
    """Whether a Lease has run out. What has no times that can be read was not written by a run, and holds nothing."""
    end = _end(spec)
    return end is None or end < datetime.datetime.now(datetime.timezone.utc)


def _described(found: dict) -> str:
    """Return who has a Lease, since when, and until when, for people. All of it was written by a client of the API."""
    spec = _spec(found)
    job = ((found.get("metadata") or {}).get("annotations") or {}).get(JOB)
    since, end = _moment(spec.get("acquireTime")), _end(spec)
    parts = ["%s of %s" % (printable(job or "a job", 40), printable(_holder(found), 120))]
    if since:
        parts.append("since %s" % since.strftime("%Y-%m-%d %H:%M:%S UTC"))
    if end:
        parts.append("its Lease expires at %s unless it is renewed" % end.strftime("%Y-%m-%d %H:%M:%S UTC"))
    return ", ".join(parts)
