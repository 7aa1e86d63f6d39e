# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""etcd's members: who they are, whether they are well, who leads, and handing the leadership over.

Asked through etcd's own JSON gateway (etcd: api/etcdserverpb/rpc.proto, google.api.http), with the standard library alone.
"""

from __future__ import annotations

import contextlib
import json
import re

from ..endpoint import health_checks, http_client, parallel
from ..errors import PkiError


def members(url, ca_path=None, client=None, peer_url=None, peer_client=None, timeout=3.0):
    """Give etcd's members as [{"id": str, "name": str, "client_urls": [...], "peer_urls": [...], "learner": bool}].

    url: of a client endpoint. Asked through the JSON gateway (v3, v3beta before 3.4), and where that does not answer, of the
    peer endpoint's /members, which needs no quorum. An empty name is a member that never started. Raises PkiError.
    """
    try:
        answer = _call(url, "cluster/member/list", {}, ca_path, client, timeout)
        if answer.status == 200 and answer.json().get("members"):
            return [_member(entry, entry.get("ID"), "isLearner") for entry in answer.json()["members"]]
        trouble = PkiError("the member list was answered with HTTP %d" % answer.status, path=url)
    except PkiError as error:
        trouble = error
    if peer_url:
        with contextlib.suppress(PkiError, ValueError):
            answer = http_client.http_request(
                peer_url.rstrip("/") + "/members", ca_path=ca_path, client=peer_client, timeout=timeout
            )
            entries = json.loads(answer.body.decode("utf-8")) if answer.status == 200 else None
            if isinstance(entries, list) and entries:
                return [_member(entry, entry.get("id"), "isLearner") for entry in entries if isinstance(entry, dict)]
    raise trouble


def _member(entry, identity, learner):
    return {
        "id": str(identity),
        "name": str(entry.get("name") or ""),
        "client_urls": [str(item) for item in entry.get("clientURLs") or []],
        "peer_urls": [str(item) for item in entry.get("peerURLs") or []],
        "learner": bool(entry.get(learner)),
    }


def health(url, ca_path=None, client=None, timeout=3.0):
    """Ask one member for /health, which makes a linearizable read. Gives (healthy: bool, what was seen: str)."""
    try:
        answer = http_client.http_request(url.rstrip("/") + "/health", ca_path=ca_path, client=client, timeout=timeout)
    except PkiError as error:
        return False, error.message
    if answer.expired:
        return answer.status == 200, "serves an expired certificate"
    if answer.status == 200 and not health_checks.unhealthy_etcd(answer.body):
        return True, "200"
    return False, "HTTP %d %s" % (answer.status, str(answer.json().get("reason") or "")[:80])


def leader(url, ca_path=None, client=None, timeout=3.0):
    """Give the leader's member ID (decimal, as in members()) as one member knows it, or None. Never raises PkiError."""
    return _status(url, ca_path, client, timeout)[1]


def _status(url, ca_path, client, timeout):
    """(its own ID, the leader's ID) as one member knows them; None for what it does not say."""
    with contextlib.suppress(PkiError):
        document = _call(url, "maintenance/status", {}, ca_path, client, timeout).json()
        header = document.get("header")
        own = header.get("member_id") if isinstance(header, dict) else None
        return tuple(str(identity) if identity and str(identity) != "0" else None for identity in (own, document.get("leader")))
    return None, None


def _call(url, name, body, ca_path, client, timeout):
    """POST to the JSON gateway, under v3 or, before etcd 3.4, v3beta. Gives the last Answer."""
    for version in ("v3", "v3beta"):
        answer = http_client.http_request(
            "%s/%s/%s" % (url.rstrip("/"), version, name),
            "POST",
            json.dumps(body).encode("ascii"),
            ca_path=ca_path,
            client=client,
            timeout=timeout,
        )
        if answer.status != 404:
            break
    return answer


def hand_over(url, ca_path=None, client=None, timeout=5.0):
    """Make another member the leader where the one at this client URL leads. Gives the new leader's name, or None.

    Every change of leader fails the reads that are under way in it: an apiserver before 1.23 passes that on as "etcdserver:
    leader changed" (kubernetes#105069). A member that is stopped hands over by itself, but to the one it has been connected to
    for longest: in a roll, the one whose turn is next. So the leadership goes to the one that was started last, which has had
    its turn. None: this one does not lead, nobody else answers, or it would not; stopping it is then what it always was.
    """
    own, leading = _status(url, ca_path, client, timeout)
    if own is None or own != leading:
        return None
    with contextlib.suppress(PkiError):
        others = {
            item["id"]: item
            for item in members(url, ca_path, client, timeout=timeout)
            if item["id"] != own and not item["learner"] and item["client_urls"]
        }
        started = parallel.run_parallel(
            {key: (lambda item=item: _started(item["client_urls"][0], ca_path, client, timeout)) for key, item in others.items()}
        )
        able = {key: moment for key, moment in started.items() if isinstance(moment, float)}
        if able:
            target = max(able, key=lambda key: able[key])
            if _call(url, "maintenance/transfer-leadership", {"targetID": target}, ca_path, client, timeout).status == 200:
                return others[target]["name"] or target
    return None


def _started(url, ca_path, client, timeout):
    """When a member's process was started (seconds since 1970), from the metrics every etcd serves beside its API."""
    answer = http_client.http_request(url.rstrip("/") + "/metrics", ca_path=ca_path, client=client, timeout=timeout)
    match = re.search(rb"^process_start_time_seconds ([0-9.e+]+)", answer.body, re.MULTILINE)
    if not match:
        raise PkiError("does not say since when it runs", path=url)
    return float(match.group(1))
