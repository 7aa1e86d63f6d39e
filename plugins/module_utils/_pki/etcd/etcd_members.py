# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""etcd's members: their list, their health, the leader, and moving the leadership to another member.

Read through etcd's own JSON gateway (etcd: api/etcdserverpb/rpc.proto, google.api.http), with the standard library alone.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any, Dict, List, Optional, Tuple

from ..endpoint import health_checks, http_client, parallel
from ..errors import PkiError

Client = Tuple[str, str]  # paths of a client certificate and its key


def members(
    url: str,
    ca_path: Optional[str] = None,
    client: Optional[Client] = None,
    peer_url: Optional[str] = None,
    peer_client: Optional[Client] = None,
    timeout: float = 3.0,
) -> List[Dict[str, Any]]:
    """Return etcd's members as [{"id": str, "name": str, "client_urls": [...], "peer_urls": [...], "learner": bool}].

    url: of a client endpoint, asked through the JSON gateway (v3, v3beta before 3.4). Where it does not respond, the peer
    endpoint's /members is read, which needs no quorum. An empty name is a member that never started. Raises PkiError.
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


def _member(entry: Dict[str, Any], identity: Any, learner: str) -> Dict[str, Any]:
    return {
        "id": str(identity),
        "name": str(entry.get("name") or ""),
        "client_urls": [str(item) for item in entry.get("clientURLs") or []],
        "peer_urls": [str(item) for item in entry.get("peerURLs") or []],
        "learner": bool(entry.get(learner)),
    }


def health(url: str, ca_path: Optional[str] = None, client: Optional[Client] = None, timeout: float = 3.0) -> Tuple[bool, str]:
    """Return (whether a member is healthy, what was seen) from its /health, which makes a linearizable read."""
    try:
        answer = http_client.http_request(url.rstrip("/") + "/health", ca_path=ca_path, client=client, timeout=timeout)
    except PkiError as error:
        return False, error.message
    if answer.expired:
        return answer.status == 200, "serves an expired certificate"
    if answer.status == 200 and not health_checks.unhealthy_etcd(answer.body):
        return True, "200"
    return False, "HTTP %d %s" % (answer.status, str(answer.json().get("reason") or "")[:80])


def leader(url: str, ca_path: Optional[str] = None, client: Optional[Client] = None, timeout: float = 3.0) -> Optional[str]:
    """Return the leader's member ID (decimal, as in members()) as one member knows it, or None. Never raises PkiError."""
    return _status(url, ca_path, client, timeout)[1]


def _status(url: str, ca_path: Optional[str], client: Optional[Client], timeout: float) -> Tuple[Optional[str], Optional[str]]:
    """Return (its own ID, the leader's ID) as one member knows them; None for what it does not say."""
    with contextlib.suppress(PkiError):
        document = _call(url, "maintenance/status", {}, ca_path, client, timeout).json()
        header = document.get("header")
        own = header.get("member_id") if isinstance(header, dict) else None
        return _identity(own), _identity(document.get("leader"))
    return None, None


def _identity(value: Any) -> Optional[str]:
    return str(value) if value and str(value) != "0" else None


def _call(
    url: str, name: str, body: Dict[str, Any], ca_path: Optional[str], client: Optional[Client], timeout: float
) -> http_client.Answer:
    """POST to the JSON gateway, under v3 or, before etcd 3.4, v3beta. Return the last Answer."""
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


def hand_over(url: str, ca_path: Optional[str] = None, client: Optional[Client] = None, timeout: float = 5.0) -> Optional[str]:
    """Make another member the leader where the one at this client URL is. Return the new leader's name, or None.

    Every change of leader fails the reads that are under way in it: an apiserver before 1.23 passes that on as "etcdserver:
    leader changed" (kubernetes#105069). A member that is stopped hands over by itself, to the member it has been connected to
    for longest. In a rolling restart that is the next one to be restarted, so the member that started last is chosen here.
    None: this one is not the leader, no other member responds, or etcd refused. The member can be stopped all the same.
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


def _started(url: str, ca_path: Optional[str], client: Optional[Client], timeout: float) -> float:
    """Return when a member's process was started (seconds since 1970), from the metrics every etcd serves beside its API."""
    answer = http_client.http_request(url.rstrip("/") + "/metrics", ca_path=ca_path, client=client, timeout=timeout)
    match = re.search(rb"^process_start_time_seconds ([0-9.e+]+)", answer.body, re.MULTILINE)
    if not match:
        raise PkiError("does not say since when it runs", path=url)
    return float(match.group(1))
