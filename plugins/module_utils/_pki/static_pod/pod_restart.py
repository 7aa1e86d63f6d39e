# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restart static pods by moving their manifests out and back, and prove that the new instance runs.

How the kubelet behaves decides everything here (measured on 1.20 and 1.36; pkg/kubelet/pod_workers.go from 1.22 on):
- A static pod's UID is a hash of its manifest. With the same bytes the UID stays, and the crash back-off grows with each restart;
  so one annotation changes each time.
- A kubelet from 1.22 on starts a static pod only when the worker of the previous one has finished, which its housekeeping (every
  2 s) drives; pod_start places a manifest again that came too early.
- Older kubelets start the new pod at once, beside the old one; so the old process has to be gone first.
"""

from __future__ import annotations

import os
import time
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from ..endpoint import health_checks, pod_endpoints
from ..errors import PkiError, combine_errors
from ..fileio import atomic, node_lock, reading, transaction_recovery
from ..kubeadm import manifests
from ..node.containers import Runtime
from . import interruption, parked, selection
from .kubelet_behaviour import KubeletBehaviour
from .manifest_mover import ManifestMover
from .pod_start import PodStart, wait_until_served
from .pod_stop import PodStop
from .restart_plan import RestartPlan, refuses_connections
from .sequencing import RestartSequence
from .static_pod import StaticPod

_TICK_SECONDS = 0.02

_FIX_FAILED = (
    "Its manifest is in its place. See `journalctl -u kubelet` and the container's log in /var/log/pods, correct the "
    "cause, and run again."
)

# {component: {"--flag": value, or None to remove it}}
Edits = Dict[str, Dict[str, Optional[str]]]


class RestartError(PkiError):
    """A restart that failed after manifests were moved. pods: the rows of all pods, as restart_pods() returns them."""

    def __init__(self, message: str, pods: List[Dict[str, Any]], path: Optional[str] = None, fix: Optional[str] = None) -> None:
        super().__init__(message, path=path, fix=fix)
        self.pods = pods

    def as_result(self) -> Dict[str, Any]:
        """Return the fields of PkiError.as_result(), and "pods"."""
        return dict(super().as_result(), pods=self.pods)


def restart_pods(
    names: Sequence[str],
    manifest_dir: str = "/etc/kubernetes/manifests",
    state_dir: str = atomic.STATE_DIR,
    unless_reloaded: Sequence[str] = (),
    reload_timeout: float = 75,
    timeout: float = 180,
    runtime: Optional[Runtime] = None,
    edits: Optional[Edits] = None,
    kubernetes_dir: Optional[str] = None,
) -> Dict[str, Any]:
    """Restart static pods of this node, and return when each is proven to be a new, healthy one.

    names: see selection.select_manifests(). unless_reloaded: names of pods that are restarted only when within reload_timeout
    (seconds) they do not serve the certificates that are on disk. timeout: seconds for each pod. runtime: observes the node.
    edits: the flags that manifests get when they are put back. kubernetes_dir: where admin.conf is, when not above manifest_dir.

    Recovers first from a killed run. Returns {"pods": [row], "changed": bool, "warnings": [str], "restored": [path]}; a row has
    name, action ("kept", "restarted", "reloaded"), down_seconds, seconds, container_before, container_after, proof. A signal
    (TERM, INT, HUP) or an error puts every manifest back first. Raises PkiError before anything is touched, RestartError after.
    """
    if (os.path.realpath(state_dir) + os.sep).startswith(os.path.realpath(manifest_dir) + os.sep):
        raise PkiError(
            "lies in the manifest directory, where every file is a manifest", path=state_dir, fix="Name another state_dir."
        )
    runtime = runtime or Runtime()
    kubernetes_dir = kubernetes_dir or os.path.dirname(manifest_dir.rstrip("/"))
    with node_lock.lock(state_dir):
        recovered = parked.recover(state_dir)
        run = _Run(names, manifest_dir, state_dir, unless_reloaded, reload_timeout, timeout, runtime, edits or {}, kubernetes_dir)
        run.execute()
    result = run.result()
    result["restored"] = [item["path"] for item in recovered if item["action"] == "restored"]
    return result


def restore(state_dir: str = atomic.STATE_DIR) -> Tuple[Any, ...]:
    """Recover from a killed run, under the node's lock: manifests that are out, transactions that have not ended.

    Returns what parked.recover() and transaction_recovery.recover_all() return. Raises PkiError after both were tried.
    """
    errors, found = [], []
    with node_lock.lock(state_dir):
        for recover in (parked.recover, transaction_recovery.recover_all):
            try:
                found.append(recover(state_dir))
            except PkiError as error:
                errors.append(error)
    if errors:
        raise combine_errors(errors)
    return tuple(found)


class _Run:
    """One restart. Each pod is a generator that yields while it waits; all run in this one thread."""

    def __init__(
        self,
        names: Sequence[str],
        manifest_dir: str,
        state_dir: str,
        unless_reloaded: Sequence[str],
        reload_timeout: float,
        timeout: float,
        runtime: Runtime,
        edits: Edits,
        kubernetes_dir: str,
    ) -> None:
        self._manifest_dir, self._reload_timeout, self._runtime = manifest_dir, reload_timeout, runtime
        selected, everything, self._warnings = selection.select_manifests(
            list(names) + [name for name in unless_reloaded if name not in names], manifest_dir
        )
        endpoints = pod_endpoints.node_endpoints(everything, kubernetes_dir)
        pods = [
            StaticPod(item, pod_endpoints.endpoints_of(endpoints, item), state_dir, edits.get(item.component))
            for item in selected
        ]
        for pod in pods:
            pod.is_decided = not _may_reload(pod, names, unless_reloaded)
        kubelet = KubeletBehaviour(runtime, [item.minor for item in everything if item.minor])
        local_apiserver = next(iter(endpoints.get("kube-apiserver", [])), None)
        self._plan = RestartPlan(pods, runtime, kubelet, local_apiserver, kubernetes_dir, timeout)
        self._mover = ManifestMover(state_dir)
        self._sequence = RestartSequence(self._plan)
        self._stop, self._start = PodStop(self._plan), PodStart(self._plan, self._mover)

    def execute(self) -> None:
        """Restart all pods. Raises PkiError before the first manifest moves, RestartError later."""
        plan = self._plan
        plan.kubelet.wait_until_ready(self._manifest_dir)
        stopped_by = None
        with interruption.signals_raise():
            try:
                self._mover.prepare([pod for pod in plan.pods if pod.is_decided])
                self._run_all({pod.path: self._process_pod(pod) for pod in plan.pods})
            except interruption.Interrupted as signalled:
                stopped_by = str(signalled)
            finally:
                interruption.ignore_signals()  # a signal now would leave the remaining manifests out
                self._mover.put_back_all()
        if stopped_by:
            raise self._error(
                "stopped by %s; every manifest is in its place" % stopped_by,
                "Run it again: it restarts what has not been proven.",
            )
        self._sequence.release_leases()
        failed = [pod for pod in plan.pods if pod.failure]
        if failed:
            raise self._error("; ".join("%s %s" % (pod.name, pod.failure) for pod in failed), _FIX_FAILED)

    @staticmethod
    def _run_all(running: Dict[str, Iterator[None]]) -> None:
        while running:
            for path in list(running):
                if next(running[path], "end") == "end":
                    del running[path]
            time.sleep(_TICK_SECONDS)

    def _error(self, message: str, fix: str) -> RestartError:
        return RestartError(message, self._rows(), path=self._manifest_dir, fix=fix)

    def _rows(self) -> List[Dict[str, Any]]:
        return [pod.result() for pod in sorted(self._plan.pods, key=lambda pod: pod.name)]

    def result(self) -> Dict[str, Any]:
        """Return {"pods", "changed", "warnings"}, as restart_pods() does."""
        pods = self._plan.pods
        warnings = self._warnings + ["%s: %s" % (pod.name, pod.warning) for pod in pods if pod.warning]
        return {"pods": self._rows(), "changed": any(pod.action == "restarted" for pod in pods), "warnings": warnings}

    def _process_pod(self, pod: StaticPod) -> Iterator[None]:
        """Wait for a reload where that may do, else restart a pod. An error is recorded; its manifest is put back then."""
        began = time.monotonic()
        try:
            if not pod.is_decided:
                yield from self._wait_for_reload(pod)
            if pod.action != "reloaded":
                yield from self._restart(pod)
        except PkiError as error:
            pod.failure = str(error) if error.path else error.message
            if pod.is_out:
                self._mover.put_back(pod)
        pod.is_finished = True
        pod.seconds = time.monotonic() - began

    def _wait_for_reload(self, pod: StaticPod) -> Iterator[None]:
        """Wait until a component serves the certificates on disk by itself; where it does not, prepare its restart."""
        # By name: one certificate is proven once.
        endpoints = list({endpoint.name: endpoint for endpoint in pod.serving_endpoints}.values())
        calls = [
            wait_until_served(endpoint, health_checks.file_sha256(endpoint.path), self._reload_timeout) for endpoint in endpoints
        ]
        while not all(call.is_done for call in calls):
            yield
        if all(call.error is None and call.value[0] for call in calls):
            pod.action = "reloaded"
            pod.proof = [
                "serves %s (%s) since %.1f s" % (endpoint.path, endpoint.address, call.value[1])
                for endpoint, call in zip(endpoints, calls)
            ]
        else:
            self._mover.prepare([pod])
        pod.is_decided = True

    def _restart(self, pod: StaticPod) -> Iterator[None]:
        yield from self._sequence.wait_for_turn(pod)
        began = time.monotonic()  # without the time that it waited for others
        yield from self._sequence.move_etcd_leader(pod)
        yield from self._sequence.find_lease(pod)
        runtime, serialises = self._runtime, self._plan.kubelet.serialises_pods
        pod.old_instances = runtime.instances(pod.manifest)
        known = runtime.traces(pod.old_instances) | runtime.uids(pod.manifest)
        main = pod.main_instance(pod.old_instances)
        pod.container_before = main.identity if main else None
        pod.was_listening = pod.health_endpoint is not None and not refuses_connections(pod.health_endpoint)
        pod.keeps_uid = serialises and not pod.flags and self._plan.is_etcd_under_running_apiserver(pod)
        self._mover.take_out(pod)
        uids = {instance.uid for instance in pod.old_instances}
        has_groups = bool(uids) and uids <= runtime.groups(pod.old_instances)
        # Never with new flags: while a pod waits for etcd, the kubelet would start it without them.
        is_early = serialises and not pod.flags and (has_groups or pod.keeps_uid)
        if is_early:
            # With the manifest in its place the kubelet finishes the old pod at its next sync (every second), without it at its
            # next housekeeping (every two); and no manifest is away for longer than the kubelet needs to notice.
            yield from self._stop.wait_until_stopping(pod)
            self._mover.place(pod, pod.data)
        gone = yield from self._stop.wait_until_ended(pod)
        pod.has_ended = True
        if not is_early and (serialises or not pod.old_instances):
            yield from self._stop.wait_until_cleaned_up(pod, uids or runtime.uids(pod.manifest) & known)
        if pod.keeps_uid:
            if uids and runtime.remove_sandboxes(pod.old_instances[0].uid):
                pod.record_event("its sandbox was removed with crictl")
        else:
            if is_early:
                yield from self._stop.wait_until_finished(pod, uids)
            yield from self._sequence.wait_for_etcd(pod)
            if self._plan.new_instance(pod) is None:
                self._mover.place(pod)
        new = yield from self._start.wait_for_instance(pod, known, began)
        pod.container_after = new.identity
        yield from self._start.wait_until_healthy(pod, new, began)
        pod.down_seconds = time.monotonic() - gone
        yield from self._start.wait_until_serving(pod, began)
        missing = _missing_flags(pod)
        if missing:
            raise PkiError("runs, but its manifest has not got what was asked for: %s" % ", ".join(missing))
        pod.action = "restarted"


def _may_reload(pod: StaticPod, names: Sequence[str], unless_reloaded: Sequence[str]) -> bool:
    """Return whether a pod is restarted only where it does not serve the certificates on disk by itself."""
    if not manifests.called(pod.manifest, unless_reloaded):
        return False
    # An etcd in plain http has nothing to reload, and is restarted only where it is named.
    return bool(pod.serving_endpoints) or (
        selection.is_plaintext_etcd(pod.endpoints) and not manifests.called(pod.manifest, names)
    )


def _missing_flags(pod: StaticPod) -> List[str]:
    """Return the flags that were asked for and that the manifest in its place does not have that way."""
    flags = manifests.parse_manifest(reading.read(pod.path), pod.path).flags if pod.flags else {}
    return sorted(flag for flag, value in pod.flags.items() if flags.get(flag) != value)
