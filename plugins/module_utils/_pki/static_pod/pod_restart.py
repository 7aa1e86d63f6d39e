# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restart static pods by moving their manifests out and back, and prove that the new instance runs.

How the kubelet behaves decides everything here (measured on 1.20 and 1.36; pkg/kubelet/pod_workers.go from 1.22 on):
- A static pod's UID is a hash of its manifest. The same bytes back mean the same UID, and then the crash back-off grows
  bounce by bounce; so one annotation changes each time.
- A kubelet from 1.22 on starts a static pod only when the worker of the one before it has finished, which its housekeeping
  (every 2 s) drives. A pod it has to turn away is tried again after 10 to 15 s, but a pod with another UID is tried at once:
  a manifest that was put back too early is therefore written once more, with another annotation.
- Older kubelets start the new pod at once, beside the old one; so the old process has to be gone first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import socket
import stat
import threading
import time

from ..endpoint import health_checks, pod_endpoints
from ..errors import PkiError, combine_errors
from ..etcd import etcd_members
from ..fileio import atomic, journals, node_lock, reading, transactions
from ..kube_api import leader_lease
from ..kubeadm import manifest_edits, manifests
from ..kubeadm.catalogue import STATIC_PODS
from ..node.containers import Runtime
from . import parked

# The kubelet that serialises static pods by name came with the pod workers of 1.22 (kubernetes#102344).
SERIALISES = 22

# After this many seconds of age a kubelet is taken to have settled; before that it has to show it.
SETTLED_SECONDS = 60

# The kubelet syncs each pod at least this often (syncFrequency of a minute, with up to half of it again as jitter).
MIRROR_SECONDS = 95

TICK = 0.02

# How long an apiserver that takes no new connections still is given etcd for the requests it has begun.
DRAIN_SECONDS = 1.0

# For as long the API may be away when a lease is to be given up: it runs out by itself soon (client-go: LeaseDuration).
LEAVE_SECONDS = 2.0

# An API that needs longer than this to say who leads is not waited for.
LOOK_SECONDS = 3.0

# Beside its own grace period, the time the kubelet gets to notice and to stop a pod.
SHORTEST_STOP = 30

# What asks this process to end; HUP is a lost connection.
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_FIX_FAILED = (
    "Its manifest is in its place. See `journalctl -u kubelet` and the container's log in /var/log/pods, correct the "
    "cause, and run again."
)


class RestartError(PkiError):
    """A bounce that did not end well; pods: what is known of each pod, as bounce() gives it."""

    def __init__(self, message, pods, path=None, fix=None):
        super().__init__(message, path=path, fix=fix)
        self.pods = pods

    def as_result(self):
        """As PkiError.as_result(), with "pods" beside it."""
        return dict(super().as_result(), pods=self.pods)


class _Stopped(BaseException):
    """A signal asked this process to end."""


class _Pod:
    """One pod of a bounce: its manifest, and how far it has come."""

    def __init__(self, manifest, endpoints, state_dir, flags=None):
        self.manifest = manifest
        self.flags = flags or {}
        self.path = manifest.path
        self.name = manifest.component
        self.token = os.urandom(4).hex()
        self.parked = os.path.join(state_dir, parked.PARKED, os.path.basename(manifest.path) + "." + self.token)
        self.endpoints = endpoints
        self.data = reading.read(self.path)
        manifest_edits.with_flags(self.data, self.path, self.name, self.flags)  # refused before anything moves
        status = os.stat(self.path)
        self.mode, self.owner = stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid)
        self.before = []
        self.out = False
        self.staged = None
        self.placed = None
        self.finished = False
        self.decided = True
        self.action, self.failure, self.warning = "kept", None, None
        self.proof = []
        self.moved = None
        self.offers = 0
        self.same = False
        self.listened = False
        self.lease, self.ended = None, False
        self.container_before = self.container_after = None
        self.seconds = self.down_seconds = 0.0

    @property
    def grace(self):
        """The seconds a pod's containers get to end (PodSpec: terminationGracePeriodSeconds, 30 by default)."""
        spec = self.manifest.data.get("spec")
        value = spec.get("terminationGracePeriodSeconds") if isinstance(spec, dict) else None
        return value if isinstance(value, int) and 0 <= value < 3600 else 30

    @property
    def health(self):
        """The Endpoint that says whether it is well, or None."""
        return next((endpoint for endpoint in self.endpoints if endpoint.health), None)

    @property
    def serving(self):
        """The Endpoints that serve a certificate from a file."""
        return [endpoint for endpoint in self.endpoints if endpoint.path]

    def saw(self, text):
        """Note an observation, with the seconds since the manifest was moved out."""
        self.proof.append("%.2f s: %s" % (time.monotonic() - self.moved, text))

    def record(self):
        """What the journal keeps."""
        return {
            "name": self.name,
            "path": self.path,
            "parked": self.parked,
            "sha256": atomic.sha256(self.data),
            "mode": self.mode,
            "uid": self.owner[0],
            "gid": self.owner[1],
            "token": self.token,
        }

    def result(self):
        """What a caller gets."""
        return {
            "name": self.name,
            "action": self.action,
            "down_seconds": round(self.down_seconds, 3),
            "seconds": round(self.seconds, 3),
            "container_before": self.container_before,
            "container_after": self.container_after,
            "proof": list(self.proof),
        }


def choose(names, manifest_dir):
    """Give ([Manifest] for the names, all [Manifest], warnings). Raises PkiError: unknown, twice, not readable, a link.

    names: components ("etcd"), pod names or file names without extension; each manifest is given once.
    """
    if not os.path.isdir(manifest_dir):
        raise PkiError(
            "is not a directory",
            path=manifest_dir,
            fix="Name the kubelet's staticPodPath as manifest_dir; a worker has no static pods to restart.",
        )
    everything, _foreign, problems = manifests.read_manifest_dir(manifest_dir)
    chosen, warnings = [], []
    for name in names:
        found = [item for item in everything if manifests.called(item, [name])]
        broken = [problem for problem in problems if _stem(problem.path or "") == name]
        if not found and broken:
            raise broken[0]
        if not found:
            raise PkiError(
                "there is no static pod named %s" % name,
                path=manifest_dir,
                fix="There are: %s. What the playbook restarts is in kubepki_names."
                % (", ".join(sorted(item.component for item in everything)) or "none at all"),
            )
        pods = {(item.namespace, item.name) for item in everything if item in found}
        same = [item for item in everything if (item.namespace, item.name) in pods]
        if len(same) > 1:
            raise PkiError(
                "%s is in several files: %s" % (name, ", ".join(os.path.basename(item.path) for item in same)),
                path=manifest_dir,
                fix="The kubelet reads every file here: move the foreign ones elsewhere.",
            )
        if os.path.islink(found[0].path):
            raise PkiError(
                "is a symbolic link, and a manifest is moved as a file", path=found[0].path, fix="Put the file itself here."
            )
        if found[0] not in chosen:
            chosen.append(found[0])
    warnings += ["%s (the kubelet reads every file in this directory)" % problem for problem in problems]
    return chosen, everything, warnings


def present(names, manifest_dir, state_dir=atomic.STATE_DIR):
    """Give those of the names that this node has a manifest of: in its place, not readable, or left out by a killed run."""
    everything, _foreign, problems = manifests.read_manifest_dir(manifest_dir) if os.path.isdir(manifest_dir) else ([], [], [])
    known = {_stem(path) for path in [item.path for item in everything] + [problem.path or "" for problem in problems]}
    known.update(_stem(path) for path in parked.pending(state_dir))
    known.update(name for item in everything for name in (item.component, item.name))
    return [name for name in names if name in known]


def _stem(path):
    return os.path.splitext(os.path.basename(path))[0]


def _is_plaintext_etcd(endpoints):
    """Tell whether Endpoints are etcd's, and all of them plain http: then it has no certificate to take up."""
    # The others read a kubeconfig when they start, whatever they serve.
    return bool(endpoints) and not any(endpoint.secure or endpoint.component != "etcd" for endpoint in endpoints)


def up_to_date(chosen, everything, kubernetes_dir):
    """Give the paths (set of str) of those manifests whose pods serve the certificates that are on disk, by one look.

    chosen, everything: [Manifest], as choose() gives them. A pod that serves none is not among them, unless it is an etcd in
    plain http.
    """
    endpoints, current = pod_endpoints.node_endpoints(everything, kubernetes_dir), set()
    for item in chosen:
        found = pod_endpoints.endpoints_of(endpoints, item)
        serving = [endpoint for endpoint in found if endpoint.path]
        with contextlib.suppress(PkiError):
            if (
                _is_plaintext_etcd(found)
                or serving
                and all(
                    health_checks.wait_digest(endpoint, health_checks.file_sha256(endpoint.path), 0)[0] for endpoint in serving
                )
            ):
                current.add(item.path)
    return current


def restart_pods(
    names,
    manifest_dir="/etc/kubernetes/manifests",
    state_dir=atomic.STATE_DIR,
    unless_reloaded=(),
    reload_timeout=75,
    timeout=180,
    runtime=None,
    edits=None,
    kubernetes_dir=None,
):
    """Restart static pods of this node, and return when each is proven to be a new, healthy one.

    names: list of str, see choose(). unless_reloaded: those of them that are restarted only when by reload_timeout (seconds)
    they do not serve the certificates that are on disk. timeout: seconds for each pod. runtime: who observes the node.
    edits: {component: {"--flag": value or None}} that the manifests get when they are put back. kubernetes_dir: where admin.conf
    lies, when not above manifest_dir.
    First heals what a killed run left. Gives {"pods": [result...], "changed": bool, "warnings": [str]}; a result has name, action
    ("restarted", "reloaded", "restored"), down_seconds, seconds, container_before, container_after, proof. A signal (TERM, INT,
    HUP) or an error puts every manifest back first. Raises PkiError before anything is touched, BounceError after.
    """
    if (os.path.realpath(state_dir) + os.sep).startswith(os.path.realpath(manifest_dir) + os.sep):
        raise PkiError(
            "lies in the manifest directory, where every file is a manifest", path=state_dir, fix="Name another state_dir."
        )
    runtime = runtime or Runtime()
    with node_lock.lock(state_dir):
        restored = parked.recover(state_dir)
        run = _Run(names, manifest_dir, state_dir, unless_reloaded, reload_timeout, timeout, runtime, edits, kubernetes_dir)
        run.go()
    kept = [dict(item, action="restored") for item in restored if item["action"] == "restored"]
    result = run.result()
    result["restored"] = [item["path"] for item in kept]
    return result


def restore(state_dir=atomic.STATE_DIR):
    """Only put right what a killed run left, under the node's lock: manifests that are out, files that were being replaced.

    Gives (as parked.recover() does, as Transaction.recover() does). Raises PkiError after both were tried.
    """
    errors, found = [], []
    with node_lock.lock(state_dir):
        for recover in (parked.recover, transactions.Transaction.recover_all):
            try:
                found.append(recover(state_dir))
            except PkiError as error:
                errors.append(error)
    if errors:
        raise combine_errors(errors)
    return tuple(found)


class _Background:
    """A call in a thread, looked at without waiting."""

    def __init__(self, function):
        self._function, self.value, self.error = function, None, None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            self.value = self._function()
        except PkiError as error:
            self.error = error
        except Exception as error:
            self.error = PkiError("could not be observed (%s)" % type(error).__name__)

    def wait(self, seconds):
        """Wait for the answer, for at most so many seconds."""
        self._thread.join(seconds)

    @property
    def done(self):
        return not self._thread.is_alive()


def _refuses(endpoint):
    """Tell whether nothing listens at an Endpoint."""
    try:
        socket.create_connection((endpoint.host, endpoint.port), 0.2).close()
    except OSError as error:
        return error.errno == errno.ECONNREFUSED
    return False


def _until_served(endpoint, digest, seconds):
    return _Background(lambda: health_checks.wait_digest(endpoint, digest, seconds, 0.05))


class _Run:
    """The state of one bounce. Every pod is a generator that yields while it waits; all run in this one thread."""

    def __init__(
        self, names, manifest_dir, state_dir, unless_reloaded, reload_timeout, timeout, runtime, edits=None, kubernetes_dir=None
    ):
        self.state_dir, self.timeout, self.reload_timeout, self.runtime = state_dir, timeout, reload_timeout, runtime
        self.manifest_dir = manifest_dir
        chosen, everything, self.warnings = choose(
            list(names) + [name for name in unless_reloaded if name not in names], manifest_dir
        )
        self.kubernetes_dir = kubernetes_dir or os.path.dirname(manifest_dir.rstrip("/"))
        endpoints = pod_endpoints.node_endpoints(everything, self.kubernetes_dir)
        self.pods = [
            _Pod(item, pod_endpoints.endpoints_of(endpoints, item), state_dir, (edits or {}).get(item.component))
            for item in chosen
        ]
        # The apiserver goes first: it needs its whole grace period, and etcd waits until it has stopped listening.
        self.pods.sort(key=lambda pod: pod.name != "kube-apiserver")
        maybe = {item for item in chosen if manifests.called(item, unless_reloaded)}
        for pod in self.pods:
            # An etcd in plain http has nothing to take up, and is restarted only where it is asked for by name.
            spared = _is_plaintext_etcd(pod.endpoints) and not manifests.called(pod.manifest, names)
            pod.decided = pod.manifest not in maybe or not (pod.serving or spared)
        self.journal = journals.Journal(parked.JOURNAL, state_dir)
        self.apiserver = next((pod for pod in self.pods if pod.name == "kube-apiserver"), None)
        self.etcd = next((pod for pod in self.pods if pod.name == "etcd"), None)
        self.local_apiserver = next((endpoint for endpoint in endpoints.get("kube-apiserver", [])), None)
        self.parked = []
        self._image_minors = [item.minor for item in everything if item.minor]
        self._minor = self._serialises = None

    def go(self):
        """Do it all. Raises PkiError before the first manifest moves, BounceError later."""
        kubelet = self._check_kubelet()
        self._minor = _Background(kubelet.minor)
        with _signals() as stopped:
            try:
                self._park([pod for pod in self.pods if pod.decided])
                running = {pod.path: self._bounce(pod) for pod in self.pods}
                while running:
                    for path in list(running):
                        if next(running[path], "end") == "end":
                            del running[path]
                    time.sleep(TICK)
            except _Stopped as signalled:
                stopped.append(str(signalled))
            finally:
                _ignore_signals()  # one that comes now would leave the remaining manifests out
                self._all_back()
        if stopped:
            raise RestartError(
                "stopped by %s; every manifest is in its place" % stopped[0],
                self.results(),
                path=self.manifest_dir,
                fix="Run it again: it restarts what has not been proven.",
            )
        self._leave()
        failed = [pod for pod in self.pods if pod.failure]
        if failed:
            raise RestartError(
                "; ".join("%s %s" % (pod.name, pod.failure) for pod in failed),
                self.results(),
                path=self.manifest_dir,
                fix=_FIX_FAILED,
            )

    def results(self):
        return [pod.result() for pod in sorted(self.pods, key=lambda pod: pod.name)]

    def result(self):
        warnings = self.warnings + ["%s: %s" % (pod.name, pod.warning) for pod in self.pods if pod.warning]
        return {"pods": self.results(), "changed": any(pod.action == "restarted" for pod in self.pods), "warnings": warnings}

    def _check_kubelet(self):
        """Return the Kubelet once it manages its pods. Raise PkiError where none runs."""
        try:
            kubelet = self.runtime.kubelet()
        except PkiError as error:
            raise PkiError(
                "the kubelet does not run, and nothing else would start the pods again: %s" % error.message,
                path=self.manifest_dir,
                fix="%s Run again then; nothing was moved." % (error.fix or ""),
            ) from error
        deadline = time.monotonic() + SETTLED_SECONDS
        while kubelet.age < SETTLED_SECONDS and time.monotonic() < deadline and not self.runtime.settled(kubelet):
            time.sleep(0.1)
            with contextlib.suppress(PkiError):  # it is being restarted
                kubelet = self.runtime.kubelet()
        return kubelet

    @property
    def serialises(self):
        """Whether this kubelet starts a static pod only after the one before it; when unknown, the careful answer."""
        if self._serialises is None:
            # A kubelet is never newer than its apiserver and at most three minor versions older (Kubernetes' version skew
            # policy), so that the images mostly tell and nobody waits for the kubelet's own answer.
            newest = max(self._image_minors, default=None)
            if not self._minor.done and (newest is None or SERIALISES <= newest < SERIALISES + 3):
                self._minor.wait(10)
            minor = self._minor.value if self._minor.done else None
            minor = newest if minor is None else minor
            self._serialises = minor is None or minor >= SERIALISES
        return self._serialises

    def _park(self, pods):
        """Keep durable copies of manifests, stage what comes back, and journal both, before any manifest moves."""
        if not pods:
            return
        atomic.make_directory(os.path.join(self.state_dir, parked.PARKED))
        for pod in pods:
            atomic.write(pod.parked, pod.data, mode=0o600)
        self.parked += pods
        self.journal.save({"pods": [pod.record() for pod in self.parked]})
        for pod in pods:
            data = self._renewed(pod)
            parked.stage(pod.path, data, pod.mode, pod.owner, pod.token)
            pod.staged = data

    def _all_back(self):
        """Put back whatever is still out, and forget the journal when nothing is."""
        errors = []
        for pod in self.parked:
            try:
                if pod.out:
                    self._return(pod)
                parked.clear_away(pod.path, pod.token)
            except (PkiError, OSError) as error:
                errors.append(error if isinstance(error, PkiError) else reading.explain(error, pod.path))
        if errors:
            raise combine_errors(errors)  # the journal stays: the next run puts it back
        self.journal.clear()
        shutil.rmtree(os.path.join(self.state_dir, parked.PARKED), ignore_errors=True)

    def _return(self, pod):
        """Put a manifest that is out into its place, as one that was staged or, where that fails, as it was. Raises PkiError."""
        try:
            self._place(pod)
        except PkiError as error:
            if not os.path.lexists(pod.path):
                parked.bring_back(pod.path, pod.token, pod.parked, error)
                pod.placed = pod.data
            pod.out = False

    @staticmethod
    def _renewed(pod):
        """Return the bytes that come back: the manifest with another annotation, and the flags that were asked for."""
        flagged = manifest_edits.with_flags(pod.data, pod.path, pod.name, pod.flags)
        data, changed = manifest_edits.annotated_or_same(flagged, pod.path)
        if not changed and pod.warning is None:
            pod.warning = "its manifest cannot be annotated, so it was put back unchanged and the kubelet may delay it"
        return data

    def _place(self, pod, data=None):
        """Put a manifest in its place: data, or the parked one with another annotation (and the flags that were asked for)."""
        there = reading.read_if_exists(pod.path)
        if there is not None and there != (pod.placed or pod.data):
            pod.warning = "somebody else wrote %s meanwhile; that one stays" % pod.path
            pod.out = False
            return
        if data is None and pod.same:
            data = pod.data
        if data is None:
            pod.offers += 1
        out = parked.kept(pod.path, pod.token)
        if data is None and pod.staged is not None:
            pod.placed, pod.staged = pod.staged, None
            parked.place(parked.hidden(pod.path, pod.token), pod.path)
        elif data == pod.data and os.path.lexists(out):
            pod.placed = data
            parked.place(out, pod.path)
        else:
            pod.placed = self._renewed(pod) if data is None else data
            # Beside what is staged already, which comes later.
            parked.restore_manifest(pod.path, pod.placed, pod.mode, pod.owner, pod.token + "-again")
        pod.out = False

    def _bounce(self, pod):
        """One pod from beginning to end, as a generator."""
        began = time.monotonic()
        try:
            if not pod.decided:
                yield from self._reloaded(pod)
            if pod.action != "reloaded":
                yield from self._restart(pod)
        except PkiError as error:
            pod.failure = str(error) if error.path else error.message
            if pod.out:
                self._return(pod)
        pod.finished = True
        pod.seconds = time.monotonic() - began

    def _reloaded(self, pod):
        """Wait whether a component takes its new certificates up by itself."""
        wanted = {endpoint.name: (endpoint, health_checks.file_sha256(endpoint.path)) for endpoint in pod.serving}

        waits = [_until_served(endpoint, digest, self.reload_timeout) for endpoint, digest in wanted.values()]
        while not all(wait.done for wait in waits):
            yield
        if all(wait.error is None and wait.value[0] for wait in waits):
            pod.action = "reloaded"
            pod.proof = [
                "serves %s (%s) since %.1f s" % (endpoint.path, endpoint.address, wait.value[1])
                for (endpoint, _digest), wait in zip(wanted.values(), waits)
            ]
        else:
            self._park([pod])
        pod.decided = True

    def _restart(self, pod):
        yield from self._gate(pod)
        began = time.monotonic()  # what it waited for others is not its own time
        yield from self._hand_over(pod)
        yield from self._look_who_leads(pod)
        runtime = self.runtime
        pod.before = runtime.instances(pod.manifest)
        known = runtime.traces(pod.before) | runtime.uids(pod.manifest)
        main = _main(pod, pod.before)
        pod.container_before = main.identity if main else None
        pod.listened = pod.health is not None and not _refuses(pod.health)
        pod.same = self.serialises and not pod.flags and self._alone(pod)
        self._take_out(pod)
        uids = {instance.uid for instance in pod.before}
        watched = bool(uids) and uids <= runtime.groups(pod.before)
        # Where flags are to be added, never: while etcd is waited for, the kubelet would begin the pod without them.
        early = self.serialises and not pod.flags and (watched or pod.same)
        if early:
            # With its manifest in place the old pod is finished by the kubelet's next sync (every second), without it by the
            # next housekeeping (every two); and no manifest is away for longer than it takes the kubelet to notice.
            yield from self._wait_stopping(pod)
            self._place(pod, pod.data)
        gone = yield from self._wait_gone(pod)
        pod.ended = True
        if not early and (self.serialises or not pod.before):
            yield from self._wait_forgotten(pod, uids or runtime.uids(pod.manifest) & known)
        if pod.same:
            if uids and runtime.remove_sandboxes(pod.before[0].uid):
                pod.saw("its sandbox was removed with crictl")
        else:
            if early:
                yield from self._wait_finished(pod, uids)
            yield from self._wait_etcd(pod)
            if self._new(pod) is None:
                self._place(pod)
        new = yield from self._wait_new(pod, known, began)
        pod.container_after = new.identity
        yield from self._wait_healthy(pod, new, began)
        pod.down_seconds = time.monotonic() - gone
        yield from self._wait_serving(pod, began)
        lost = self._lost(pod)
        if lost:
            raise PkiError("runs, but its manifest has not got what was asked for: %s" % ", ".join(lost))
        pod.action = "restarted"

    @staticmethod
    def _lost(pod):
        """The flags that were asked for and that the manifest in its place does not have that way."""
        there = manifests.parse_manifest(reading.read(pod.path), pod.path).flags if pod.flags else {}
        return sorted(flag for flag, value in pod.flags.items() if there.get(flag) != value)

    def _gate(self, pod):
        """Let a pod go out only when no request in flight would fail for it."""
        if pod is self.apiserver:
            while self.etcd is not None and not self.etcd.decided:
                yield
        if pod.name not in STATIC_PODS:
            yield from self._wait_components()
        if pod is self.etcd:
            yield from self._gate_etcd(pod)

    def _gate_etcd(self, pod):
        if self.apiserver is not None:
            while not self.apiserver.decided:
                yield
            while not self.apiserver.finished and not (self.apiserver.out or self.apiserver.placed):
                yield
            while not self.apiserver.finished and self.local_apiserver is not None and not _refuses(self.local_apiserver):
                yield
            # It has stopped listening; what it had accepted before, it still answers, and needs etcd for that.
            closed = time.monotonic()
            while not self.apiserver.finished and time.monotonic() - closed < DRAIN_SECONDS and self._lives(self.apiserver):
                yield
        if self._alone(pod):
            pod.warning = (
                "restarted under a running kube-apiserver, whose requests hang meanwhile; restarted together with "
                "kube-apiserver, none would"
            )
            # A kubelet hangs with them when it has a mirror pod to change; so no other pod is under way now. Those that are no
            # components wait for this one.
            while not all(other.finished for other in self.pods if other is not pod and other.name in STATIC_PODS):
                yield
            if self.serialises:
                yield from self._wait_mirror(pod)

    def _wait_components(self):
        """Let another pod go out only when the control plane's own are back: kube-vip, say, needs the API server of its node."""
        components = [other for other in self.pods if other.name in STATIC_PODS]
        while not all(other.finished for other in components):
            yield
        failed = sorted(other.name for other in components if other.failure)
        if failed:
            raise PkiError("was not restarted, because %s did not come back" % " and ".join(failed))

    def _hand_over(self, pod):
        """Let another member lead before etcd goes out, one that will not go out next."""
        flags = pod.manifest.flags
        url = (flags.get("--listen-client-urls") or "").split(",")[0]
        if pod is not self.etcd or not url:
            return
        pair = (flags.get("--cert-file"), flags.get("--key-file"))
        asked = _Background(lambda: etcd_members.hand_over(url, flags.get("--trusted-ca-file"), pair if all(pair) else None))
        while not asked.done:
            yield
        if asked.value:
            pod.proof.append("it led etcd; now %s does" % asked.value)

    def _look_who_leads(self, pod):
        """Note the lease that a pod holds: nobody does its work from its end until another one has it."""
        if pod.name not in leader_lease.COMPONENTS:
            return
        lease = leader_lease.Lease(pod.name, pod.manifest.flags, self.kubernetes_dir)
        asked, deadline = _Background(lease.look), time.monotonic() + LOOK_SECONDS
        while not asked.done and time.monotonic() < deadline:
            yield
        pod.lease = lease if asked.value else None

    def _leave(self):
        """Give up the leases of those who led and have ended; a favour, and not waited for where the API is away.

        When all pods are back: whoever takes a lease begins with many requests, and etcd had better not change its leader then.
        """
        left = [
            (pod, _Background(lambda pod=pod: pod.lease.give_up(LEAVE_SECONDS))) for pod in self.pods if pod.lease and pod.ended
        ]
        deadline = time.monotonic() + LEAVE_SECONDS
        for pod, asked in left:
            asked.wait(max(0.0, deadline - time.monotonic()))
            if asked.value:
                pod.proof.append("it led; its lease was given up when it had ended")

    def _wait_mirror(self, pod):
        """Wait until a young etcd's mirror pod is up to date: the kubelet would have to change it while the apiserver hangs.

        After a restart that found no apiserver this takes until the kubelet's next sync of the pod, a minute and a half at most.
        """
        longest = MIRROR_SECONDS
        while True:
            main = _main(pod, self.runtime.instances(pod.manifest))
            if main is None or self.runtime.age(main) > longest:
                return
            asked = _Background(lambda: self.runtime.mirror_hash(pod.manifest, self.local_apiserver, self.kubernetes_dir))
            again = time.monotonic() + 0.5
            while not asked.done or time.monotonic() < again:
                yield
            if asked.value == main.uid:
                return
            longest = MIRROR_SECONDS if asked.value is None else 2 * MIRROR_SECONDS  # seen to be old: it is coming

    def _alone(self, pod):
        """Whether this is etcd under a local apiserver that goes on running."""
        if pod is not self.etcd or self.local_apiserver is None:
            return False
        return (self.apiserver is None or self.apiserver.finished) and not _refuses(self.local_apiserver)

    def _lives(self, pod):
        return any(self.runtime.alive(instance) for instance in pod.before)

    def _take_out(self, pod):
        """Rename a manifest that is parked to a hidden name. Raises PkiError when it is no longer the one that was parked."""
        if reading.read(pod.path) != pod.data:
            raise PkiError("changed while this was running", path=pod.path, fix="Run again when no other program writes it.")
        pod.action = "restarted"
        pod.moved = time.monotonic()
        pod.out = True  # before it is: a signal in between must find it
        try:
            parked.take_out(pod.path, pod.token)
        except PkiError:
            if os.path.lexists(pod.path):
                pod.out, pod.action = False, "kept"
            raise

    def _wait_gone(self, pod):
        """Wait for the end of the old containers. Gives when that was (or when its listener closed, for the outage's length)."""
        closed = None
        while self._lives(pod):
            if closed is None and pod.name == "kube-apiserver" and pod.health and _refuses(pod.health):
                closed = time.monotonic()
            self._check_stopping(pod)
            yield
        pod.saw("%s has ended" % (pod.container_before or "no container of it ran, or it"))
        return closed or time.monotonic()

    def _wait_stopping(self, pod):
        """Wait until a pod has begun to end, and so the kubelet has noticed: its listener closes, or its process is gone."""
        while self._lives(pod):
            if pod.listened and _refuses(pod.health):
                pod.saw("nothing listens at %s" % pod.health.address)
                return
            self._check_stopping(pod)
            yield

    def _check_stopping(self, pod):
        """Raise PkiError when a pod has had the time to end."""
        seconds = pod.grace + max(SHORTEST_STOP, self.timeout - pod.grace)
        if time.monotonic() > pod.moved + seconds:
            raise PkiError("did not end within %d s of its manifest being moved out; the kubelet has not stopped it" % seconds)

    def _wait_finished(self, pod, uids):
        """Wait until the kubelet is done with the old pod: its control group goes last (pkg/kubelet: SyncTerminatedPod)."""
        deadline = time.monotonic() + 5
        # A housekeeping that comes between the end and this look has started the pod again, under the same UID.
        while self.runtime.groups(pod.before) & uids and time.monotonic() < deadline and self._new(pod) is None:
            yield
        pod.saw("the kubelet has finished with it")
        # What it does after that is a few lines of code.
        deadline = time.monotonic() + 0.08
        while time.monotonic() < deadline:
            yield

    def _wait_etcd(self, pod):
        """An apiserver comes back to an etcd that answers: one that finds none backs off, for far longer than etcd is away."""
        if pod is self.apiserver and self.etcd is not None and self.etcd.action != "reloaded":
            while not self.etcd.finished and self._new(pod) is None:
                yield

    def _new(self, pod):
        """The new Instance of the pod's main container, or None."""
        old = {instance.pid for instance in pod.before}
        return _main(pod, [item for item in self.runtime.instances(pod.manifest) if item.pid not in old])

    def _wait_forgotten(self, pod, uids):
        """Wait until the kubelet has cleaned up the old pod, as far as that can be seen."""
        # Housekeeping comes every two seconds; what takes longer is not worth waiting for, as a pod that is turned away is
        # offered again.
        deadline = time.monotonic() + 5
        while self.runtime.traces(pod.before) & uids and time.monotonic() < deadline:
            yield
        pod.saw("the kubelet has cleaned up")

    def _wait_new(self, pod, known, began):
        """Wait for the new main container; offer the pod again where the kubelet turned it away. Gives its Instance."""
        offered, patience = time.monotonic(), 0.4
        while True:
            new = self._new(pod)
            if new is not None:
                pod.saw("%s runs (pid %d)" % (new.identity, new.pid))
                if pod.offers > 1:
                    pod.saw("the kubelet had turned it away %d times" % (pod.offers - 1))
                return new
            now = time.monotonic()
            if now - began > self.timeout:
                raise PkiError("has no new container %d s after its manifest was put back%s" % (now - offered, self._words(pod)))
            late = now - offered > patience and pod.offers < 4 and self.serialises
            if late and self._ours(pod) and not self._begun(pod, known):
                self._place(pod)
                offered, patience = time.monotonic(), patience * 1.6
            yield

    def _begun(self, pod, known):
        """Whether the kubelet has begun to start this pod. What might be another pod's beginning counts as this one's."""
        others = set()
        for other in self.pods:
            if other is not pod:
                others |= self.runtime.uids(other.manifest)
        return bool((self.runtime.traces(pod.before) | self.runtime.uids(pod.manifest)) - known - others)

    @staticmethod
    def _ours(pod):
        return pod.placed not in (None, pod.data) and reading.read_if_exists(pod.path) == pod.placed

    def _words(self, pod):
        words = self.runtime.last_words(pod.manifest)
        return " (%s)" % words if words else ""

    def _wait_healthy(self, pod, new, began):
        """Wait until the component says that it is well, and still is the container that was seen."""
        endpoint = pod.health
        seen = "no answer in time"
        since = time.monotonic()
        while True:
            if endpoint is None:
                asked = _Background(lambda uid=new.uid: self.runtime.ready(uid))
                while not asked.done and time.monotonic() - began <= self.timeout:
                    yield
                answered = asked.done
                seen = "the kubelet says that it is not ready" if asked.value is False else "its process does not stay"
                seen = seen if answered else "the kubelet does not respond"
                if answered and self.runtime.alive(new) and time.monotonic() - since > 1 and asked.value is not False:
                    # A container that lives for a second is all that can be seen where the kubelet cannot be asked either.
                    pod.saw(
                        "the kubelet calls it ready" if asked.value else "it has no health endpoint to ask, and its process lives"
                    )
                    return
                again = time.monotonic() + 0.3
                while time.monotonic() < again:
                    yield
            else:
                asked = _Background(lambda: health_checks.health(endpoint, timeout=2.0))
                while not asked.done and time.monotonic() - began <= self.timeout:
                    yield
                healthy = False
                if asked.done:
                    healthy, seen = asked.value or (False, asked.error.message)
                if healthy and self.runtime.alive(new):
                    pod.saw("%s answers %s" % (endpoint.health, seen))
                    return
            if not self.runtime.alive(new):
                again = _main(pod, [item for item in self.runtime.instances(pod.manifest) if item.pid != new.pid])
                new, since = again or new, time.monotonic()
                pod.container_after = new.identity
            if time.monotonic() - began > self.timeout:
                raise PkiError(
                    "is not healthy %d s after it was begun: %s%s%s"
                    % (
                        self.timeout,
                        (endpoint.health + " says " + seen) if endpoint else seen,
                        "" if self.runtime.alive(new) else ", and its container has ended",
                        self._words(pod),
                    )
                )
            yield

    def _wait_serving(self, pod, began):
        """Wait until every certificate it serves is the one on disk."""
        for endpoint in pod.serving:
            digest = health_checks.file_sha256(endpoint.path)
            if digest is None:
                pod.saw("%s holds no certificate to compare with" % endpoint.path)
                continue
            left = max(1.0, self.timeout - (time.monotonic() - began))
            wait = _until_served(endpoint, digest, left)
            while not wait.done:
                yield
            if wait.error is not None or not wait.value[0]:
                raise PkiError("runs, but %s does not serve the certificate of %s" % (endpoint.address, endpoint.path))
            pod.saw("%s serves %s" % (endpoint.address, endpoint.path))


def _main(pod, instances):
    """Of a pod's instances the newest of its main container, or None."""
    spec = pod.manifest.data.get("spec") or {}
    names = [item.get("name") for item in spec.get("containers") or [] if isinstance(item, dict)]
    wanted = pod.name if pod.name in names else names[0] if names else pod.name
    return max((item for item in instances if item.container == wanted), key=lambda item: item.started, default=None)


def _ignore_signals() -> None:
    """Ignore what asks this process to end, until _signals() ends. Only the main thread can, and only it gets signals."""
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def _signals():
    """Turn TERM, INT and HUP (a lost connection) into _Stopped, so that manifests are put back before the end."""
    stopped = []
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def stop(number, _frame):
        _ignore_signals()
        raise _Stopped(signal.Signals(number).name)

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
