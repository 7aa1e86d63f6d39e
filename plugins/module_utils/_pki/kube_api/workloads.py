# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restart workloads by their template's annotation, and wait until they have rolled out."""

from __future__ import annotations

import time
from typing import Any, Collection

from ..errors import PkiError
from . import trust_objects
from .api_client import Api, segment

ANNOTATION = "kubepki.io/trust"

_KINDS = ("deployments", "daemonsets", "statefulsets")


def restart_workloads(
    api: Api, namespaces: Collection[str], name: str, first: bool, check: bool = False
) -> tuple[list[str], list[str]]:
    """Restart what runs in some namespaces, once for each trust. name: of the trust.

    first: whether to restart also what was never restarted for a trust: not on a cluster that has had only one CA.
    Return (["kind/namespace/name"] restarted, ["kind/namespace/name (why)"] whose owners keep it from rolling out).
    """
    restarted: list[str] = []
    left: list[str] = []
    for namespace in namespaces:
        for kind in _KINDS:
            path = "/apis/apps/v1/namespaces/%s/%s" % (segment(namespace), kind)
            for item in api.list(path):
                template = ((item.get("spec") or {}).get("template") or {}).get("metadata") or {}
                if (template.get("annotations") or {}).get(ANNOTATION, None if first else name) == name:
                    continue
                own = item["metadata"]["name"]
                why = _kept_back(kind, item)
                if why:
                    left.append("%s/%s/%s (%s)" % (kind, namespace, own, why))
                    continue
                if not check:
                    api.call(
                        "PATCH",
                        "%s/%s" % (path, segment(own)),
                        {"spec": {"template": {"metadata": {"annotations": {ANNOTATION: name}}}}},
                    )
                restarted.append("%s/%s/%s" % (kind, namespace, own))
    return restarted, left


def _kept_back(kind: str, item: dict[str, Any]) -> str | None:
    """Return why a change of a workload's template never replaces all of its pods, or None."""
    spec = item.get("spec") or {}
    if kind == "deployments":
        return "paused" if spec.get("paused") else None
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return "OnDelete"
    partition = (strategy.get("rollingUpdate") or {}).get("partition") if kind == "statefulsets" else None
    return "partition %s" % partition if partition else None


def wait_workloads(api: Api, namespaces: Collection[str], seconds: float) -> None:
    """Wait until every workload of some namespaces that rolls out by itself has rolled out.

    seconds: without progress; a DaemonSet replaces one pod after another, which takes longer with each node. Raise PkiError with
    those that make no progress.
    """
    progress, most = time.monotonic(), -1
    while True:
        rollouts = [rollout for namespace in namespaces for kind in _KINDS for rollout in _rollouts(api, namespace, kind)]
        waiting = [name for name, missing, _there in rollouts if missing]
        now, there = time.monotonic(), sum(count for _name, _missing, count in rollouts)
        if not waiting:
            return
        if there > most:  # a crashing one never gets further than before
            progress, most = now, there
        elif now - progress > seconds:
            raise PkiError(
                "has not gone on rolling out for %d s (%d in all)" % (seconds, len(waiting)),
                path=waiting[0],
                fix="See its pods (kubectl describe); run again when they work.",
            )
        time.sleep(trust_objects.POLL * 3)


def _rollouts(api: Api, namespace: str, kind: str) -> list[tuple[str, bool, int]]:
    """Return [(name, whether pods are still to be replaced, how many are replaced and how many available, added)]."""
    found = []
    for item in api.list("/apis/apps/v1/namespaces/%s/%s" % (segment(namespace), kind)):
        status, spec = item.get("status") or {}, item.get("spec") or {}
        if _kept_back(kind, item):
            continue
        if kind == "daemonsets":
            wanted, updated = status.get("desiredNumberScheduled", 0), status.get("updatedNumberScheduled", 0)
            ready = status.get("numberAvailable", 0)
        else:
            wanted, updated = spec.get("replicas", 1), status.get("updatedReplicas", 0)
            ready = status.get("availableReplicas", status.get("readyReplicas", 0))
        outdated = status.get("observedGeneration", 0) < item["metadata"].get("generation", 0)
        if outdated:
            updated = 0  # the status counts pods of the previous generation
        missing = outdated or updated < wanted or ready < wanted
        found.append(("%s/%s/%s" % (kind, namespace, item["metadata"]["name"]), missing, updated + ready))
    return found
