# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One node of a dead cluster: what it is like, its CAs for longer with the same keys, its kubelet and static pods begun again.

How a dead node is started again (measured on 1.20): a kubelet whose certificate has expired ends at once, so its credential comes
first; a kubelet that found no API since it began stops no static pod whose manifest goes away, so manifests are left alone here
and processes are ended instead; and while the kubelet is stopped, nobody starts them in between, in whatever back-off they were.
"""

from __future__ import annotations

__metaclass__ = type

import contextlib
import glob
import os
import signal
import time

from . import (
    authorities,
    files,
    kubeconfig,
    kubelets,
    leaves,
    node_report,
    pki_tree,
    probe,
    profiles,
    serving,
    static_pods,
    x509,
)
from .errors import PkiError
from .runtime import Runtime

JOURNAL = "recovery"
_JOB = "recovery-files"
_BACKUP_JOB = "recover"

# Nobody is served by them any more, so that their own grace periods (30 s for an apiserver with watchers) buy nothing.
_GRACE_SECONDS = 10.0
_KILL_SECONDS = 10.0
# How long a component that should run may have no process before its crash back-off is cut short by a restart of the kubelet.
_BACKOFF_SECONDS = 8.0
_FIX_POD = "See the container's log in /var/log/pods and `journalctl -u kubelet`, correct the cause, and run the playbook again."


# --- looking ------------------------------------------------------------------------------------------------------------------


def look(kubernetes_dir, kubelet_dir, state_dir=files.STATE_DIR, below_days=90.0, controller_clock=None):
    """Give what the diagnosis (recovery.decide) needs to know of this node. Changes nothing.

    {"node": as node_report.read, "authorities": {name: {"key", "not_after", "has_key", "self_signed", "issuer", "path",
    "certificate": PEM}} of the CAs on the node, "etcd": {"data": bool, "path"} or None where no member belongs here, "health":
    {static pod: {"healthy", "seen"}}, "kubelet": {"action", "reasons", "unit", "error"} or None, "pending": [components that a
    run that did not end has still to start] or None where none did, "problems": [sentences] that forbid any change here}.
    below_days: as for kubelets.examine. controller_clock: seconds since 1970, or None.
    """
    layout = pki_tree.find_layout(kubernetes_dir, kubelet_dir)
    node = node_report.read(kubernetes_dir, kubelet_dir, live=False, controller_clock=controller_clock)
    journal = files.Journal(JOURNAL, state_dir).load()
    found = {"node": node, "authorities": _authorities(layout), "etcd": _etcd(layout), "health": _health(layout),
             "kubelet": _kubelet(layout, below_days, state_dir), "problems": _problems(layout, state_dir),
             "pending": None if journal is None else journal.get("restart", []), "trust": bool((journal or {}).get("trust"))}
    # Below a CA that has expired nothing can be rehearsed: it is renewed first.
    alive = all(held["not_after"] > x509.timestamp(x509.now()) for held in found["authorities"].values())
    if layout.role in (pki_tree.CONTROL_PLANE, pki_tree.ETCD) and alive and not found["problems"]:
        try:
            renew(layout, leaves.Settings(below_days=below_days), check=True, state_dir=state_dir)
        except PkiError as error:
            found["problems"].append(str(error))
    return found


def _authorities(layout):
    found = {}
    tree = pki_tree.read_tree(layout)
    for name in profiles.CA_NAMES:
        item = tree.items.get(name)
        if item is not None and item.certificate is not None:
            ca = item.certificate
            found[name] = {"key": ca.key_sha256, "not_after": x509.timestamp(ca.not_after), "path": item.path,
                           "has_key": item.key_sha256 == ca.key_sha256, "self_signed": ca.self_issued, "issuer": ca.issuer,
                           "certificate": ca.pem.decode("ascii")}
    return found


def _etcd(layout):
    if "etcd" not in layout.parsed:
        return None
    path = layout.at(layout.flags["etcd"].get("--data-dir") or "/var/lib/etcd")
    # etcd writes both from its first second on (server/storage/wal, mvcc/backend).
    data = bool(glob.glob(os.path.join(path, "member", "wal", "*.wal"))) and os.path.exists(
        os.path.join(path, "member", "snap", "db"))
    return {"data": data, "path": path}


def _health(layout):
    endpoints = static_pods.node_endpoints(list(layout.parsed.values()), layout.kubernetes_dir)
    asked = {}
    for name in layout.parsed:
        endpoint = next((one for one in endpoints.get(name, []) if one.health), None)
        if endpoint is not None:
            asked[name] = lambda endpoint=endpoint: probe.health(endpoint, timeout=3.0)
    answers = probe.together(asked)
    found = {}
    for name in layout.parsed:
        answer = answers.get(name, (True, "it has no health endpoint"))
        healthy, seen = (False, answer.message) if isinstance(answer, PkiError) else answer
        found[name] = {"healthy": healthy, "seen": seen}
    return found


def _kubelet(layout, below_days, state_dir):
    if layout.role not in (pki_tree.CONTROL_PLANE, pki_tree.WORKER):
        return None
    found = {"action": None, "reasons": [], "unit": "unknown", "error": None}
    try:
        examined = kubelets.examine(layout, below_days, state_dir=state_dir)
        found.update(action=examined["action"], reasons=examined["reasons"])
        found["unit"] = kubelets.Service().state()["active"]
    except PkiError as error:
        found["error"] = str(error)
    return found


def _problems(layout, state_dir):
    found = []
    places = [state_dir, layout.kubernetes_dir, layout.kubelet["cert_dir"]]
    if layout.role != pki_tree.WORKER:
        places.append(layout.pki_dir)
    for directory in places:
        status = os.statvfs(files.existing_directory(directory))
        if status.f_flag & os.ST_RDONLY:
            found.append("%s: the file system is read-only. See `dmesg`, and mount it for writing." % directory)
        elif status.f_bavail * status.f_frsize < 1 << 20:
            found.append("%s: less than 1 MiB is free. Free some space." % directory)
    if layout.role == pki_tree.NONE:
        found.append("%s: this is no node of a kubeadm cluster. Take the host out of the inventory." % layout.kubernetes_dir)
    for problem in layout.problems:
        if layout.role != pki_tree.WORKER:
            found.append(str(problem))
    return found


# --- the files ------------------------------------------------------------------------------------------------------------------


def begin(components, trust=False, state_dir=files.STATE_DIR):
    """Note durably what has to be started again, before any file changes.

    components: [static pods], beside those that are noted already. trust: whether CAs are renewed, which the API's objects
    have to follow in the end.
    """
    journal = files.Journal(JOURNAL, state_dir)
    before = journal.load() or {}
    record = {"restart": sorted(set(components) | set(before.get("restart", []))), "trust": bool(trust or before.get("trust"))}
    if record != before:
        journal.save(record)


def extend(layout, wanted, days, check=False, state_dir=files.STATE_DIR, backup_dir=files.BACKUP_DIR, backup_keep=5):
    """Give this control-plane node CAs that live longer, with the keys they have. Gives {"changed", "certificates", "paths"}.

    wanted: {name: PEM bytes of the renewed certificate, or None to make it here with the key}. days: validity of what is made.
    Replaced are the certificates of the same key in the CA's file, in kube-controller-manager's signing file and, for the
    cluster's CA, in every kubeconfig: in one transaction, after a backup set. certificates: {name: PEM (str)} that the node has
    now. Raises PkiError with nothing changed: another key, no key, signed by another authority.
    """
    if not check:
        files.Transaction.recover(_JOB, state_dir)
    writes, certificates = {}, {}
    for name, pem in sorted(wanted.items()):
        path, key_path = authorities.places(layout, name, authorities.CURRENT)
        data = files.read(path)
        present = x509.parse_certificates(data, path)[0]
        new = _renewed(present, key_path, days) if pem is None else _brought(present, pem, name)
        certificates[name] = new.pem.decode("ascii")
        _plan(writes, path, replaced(data, new, path))
        if name == "ca":
            signing = authorities.signing_path(layout)
            if os.path.exists(signing):
                _plan(writes, signing, replaced(files.read(signing), new, signing))
            for config_path in authorities.trust_kubeconfigs(layout):
                config = _config(config_path)
                if config is not None and config.ca_data:
                    trusted = replaced(config.ca_data, new, config_path)
                    if trusted != config.ca_data:
                        _plan(writes, config_path, bytes(config.with_ca(trusted)))
    if writes and not check:
        files.create_backup(list(writes), _BACKUP_JOB, backup_dir, backup_keep)
        transaction = files.Transaction(_JOB, state_dir)
        for path, data in writes.items():
            transaction.write(path, data)
        transaction.commit()
    return {"changed": bool(writes), "certificates": certificates, "paths": sorted(writes)}


def _plan(writes, path, data):
    if files.read(path) != data:
        writes[path] = data


def _config(path):
    try:
        return kubeconfig.Kubeconfig(files.read(path), path)
    except PkiError:
        return None  # its leaf, or the kubelet's credential, is made anew from nothing later


def _renewed(present, key_path, days):
    if present.not_after > x509.now():
        return present  # a run that was killed has done it
    if not present.self_issued:
        raise PkiError("the CA is signed by %s, and can only be renewed there" % present.issuer, path=present.path,
                       fix="Have it renewed with the same key, and put the certificate here.")
    return x509.renew_ca(present, x509.parse_private_key(files.read(key_path), key_path), days)


def _brought(present, pem, name):
    new = x509.parse_certificate(pem, "the renewed CA " + name)
    if new.key_sha256 != present.key_sha256 or new.subject != present.subject:
        raise PkiError("the CA %s here is not the one that was renewed: %s differs" % (
            name, "its key" if new.key_sha256 != present.key_sha256 else "its name"), path=present.path,
            fix="Copy certificate and key from another control-plane node, then run again.")
    return present if present.not_after >= new.not_after else new


def replaced(data, new, path=None):
    """Give a PEM bundle in which a certificate stands for all of the same key, in the place of the first of them.

    data: bytes. new: x509.Certificate. Every other certificate stays, in its order; without one of that key nothing changes.
    """
    bundle = x509.parse_certificates(data, path)
    if not any(one.key_sha256 == new.key_sha256 and one.sha256 != new.sha256 for one in bundle):
        return data
    kept, seen = [], False
    for one in bundle:
        if one.key_sha256 != new.key_sha256:
            kept.append(one)
        elif not seen:
            kept.append(new)
            seen = True
    return x509.bundle(kept)


def drop_serving(layout, check=False, state_dir=files.STATE_DIR, backup_dir=files.BACKUP_DIR, backup_keep=5):
    """Take away a serving certificate that the kubelet once made for itself and that has expired. Gives whether there was one.

    A kubelet makes another when it starts and there is none, and does not look how old it is (cmd/kubelet/app/server.go:
    InitializeTLS). What a CA of the cluster signed, or a flag names, is left alone. Leaves the note of a due restart.
    """
    tree = pki_tree.read_tree(layout)
    item = tree.items.get("kubelet-serving")
    if item is None or item.certificate is None or item.certificate.not_after > x509.now() or tree.signer(item) is not None \
            or item.path != os.path.join(layout.kubelet["cert_dir"], "kubelet.crt"):
        return False
    if not check:
        files.create_backup([path for path in (item.path, item.key_path) if path and os.path.exists(path)], _BACKUP_JOB,
                            backup_dir, backup_keep)
        pending = files.Journal(kubelets.PENDING, state_dir)
        if pending.load() is None:
            pending.save({"files": [item.path]})
        transaction = files.Transaction(_JOB, state_dir)
        for path in (item.path, item.key_path):
            if path:
                transaction.remove(path)
        transaction.commit()
    return True


def renew(layout, settings, check=False, state_dir=files.STATE_DIR, backup_dir=files.BACKUP_DIR, backup_keep=5):
    """Renew the leaves and kubeconfigs of a control-plane node that are due, as the module cert_leaf does it. Gives its result.

    settings: leaves.Settings. Takes the node's lock itself.
    """
    return leaves.run(settings, lambda: leaves.catalogue_leaves(pki_tree.read_tree(layout), ["all"], settings), check=check,
                      state_dir=state_dir, backup_dir=backup_dir, keep=backup_keep)


# --- the processes ------------------------------------------------------------------------------------------------------------


def start(layout, components=None, timeout=120.0, state_dir=files.STATE_DIR, service=None, runtime=None):
    """End the static pods' processes with the kubelet stopped, then start it. Gives {"kubelet", "ended", "since"}.

    kubelet: what was seen of it. ended: the components that ran. since: seconds since 1970 when it was started, 0 when not.
    components: of this node; None for those that begin() noted. The kubelet, which begins without any back-off, starts them
    again from their manifests, which nobody touches. Proven is the kubelet alone: its process and its healthz. timeout: seconds
    for that. Raises PkiError; the kubelet is then started all the same.
    """
    service, runtime = service or kubelets.Service(), runtime or Runtime(layout.kubelet_dir)
    if components is None:
        components = (files.Journal(JOURNAL, state_dir).load() or {}).get("restart", [])
    pods = [layout.parsed[name] for name in components if name in layout.parsed]
    pending = files.Journal(kubelets.PENDING, state_dir)
    if not pods and pending.load() is None and service.state()["active"] == "active":
        return {"kubelet": {}, "ended": [], "since": 0.0}
    if pending.load() is None:
        pending.save({"files": []})
    old = service.state()["pid"]
    try:
        service.stop(timeout)
        ended = end(pods, runtime)
    finally:
        proof = kubelets.Proof(layout, service, None, old)
        service.restart(timeout)
    seen = proof.wait(timeout)
    pending.clear()
    journal = files.Journal(JOURNAL, state_dir)
    record = journal.load()
    if record is not None:
        journal.save(dict(record, restart=[]))  # whatever is not well from here on shows itself
    return {"kubelet": seen, "ended": ended, "since": proof.since}


def end(pods, runtime, grace=_GRACE_SECONDS):
    """End the processes of static pods, the apiserver's first. Gives the components that ran. Raises PkiError when one stays.

    pods: [manifests.Manifest]. runtime: Runtime. grace: seconds until a process is killed.
    """
    # etcd under a running apiserver would let requests hang, and with them whoever waits for an answer.
    order = sorted(pods, key=lambda pod: (pod.component != "kube-apiserver", pod.component == "etcd"))
    found = [(pod.component, instance) for pod in order for instance in runtime.instances(pod)]
    for _component, instance in found:
        _signal(instance, signal.SIGTERM)
    deadline = time.monotonic() + grace
    killed = False
    while True:
        living = [(component, instance) for component, instance in found if runtime.alive(instance)]
        if not living:
            return sorted({component for component, _instance in found})
        if time.monotonic() > deadline:
            if killed:
                raise PkiError("the process %d of %s cannot be ended, not even with SIGKILL" % (
                    living[0][1].pid, living[0][0]), fix="See `ps -o pid,stat,wchan`; a node whose disk hangs needs a reboot.")
            killed = True
            deadline = time.monotonic() + _KILL_SECONDS
            for _component, instance in living:
                _signal(instance, signal.SIGKILL)
        time.sleep(0.05)


def _signal(instance, number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(instance.pid, number)


def wait_well(layout, components, timeout=180.0, service=None, runtime=None):
    """Wait until components are well and serve what is on disk. Gives [{"name", "seconds", "seen"}]. Raises PkiError.

    components: static pods of this node; those it does not have are passed over. timeout: seconds for all of them together. One
    that has no process for some seconds waits in the kubelet's crash back-off: then the kubelet is started again, once.
    """
    service, runtime = service or kubelets.Service(), runtime or Runtime(layout.kubelet_dir)
    endpoints = static_pods.node_endpoints(list(layout.parsed.values()), layout.kubernetes_dir)
    began = time.monotonic()
    waiting = {name: layout.parsed[name] for name in components if name in layout.parsed}
    done, lifeless, again = [], {}, False
    while waiting:
        seen = probe.together({name: lambda name=name: _well(endpoints.get(name, [])) for name in waiting})
        for name, trouble in sorted(seen.items()):
            if trouble is None:
                done.append({"name": name, "seconds": round(time.monotonic() - began, 2)})
                del waiting[name]
        now = time.monotonic()
        for name, manifest in waiting.items():
            if runtime.instances(manifest):
                lifeless.pop(name, None)
            else:
                lifeless.setdefault(name, now)
        if now - began > timeout:
            wrong = ["%s is not well: %s%s" % (name, _trouble(seen[name]), _words(runtime, waiting[name]))
                     for name in sorted(waiting)]
            raise PkiError("%d s after the kubelet was started, %s" % (timeout, "; ".join(wrong)), path=layout.manifest_dir,
                           fix=_FIX_POD)
        if not again and any(now - since > _BACKOFF_SECONDS for name, since in lifeless.items() if name in waiting):
            again = True
            proof = kubelets.Proof(layout, service, None, service.state()["pid"])
            service.restart(timeout)
            proof.wait(timeout)
            lifeless.clear()
        time.sleep(0.2)
    return done


def _trouble(seen):
    return seen.message if isinstance(seen, PkiError) else str(seen)


def _words(runtime, manifest):
    words = runtime.last_words(manifest)
    return " (%s)" % words if words else ""


def _well(endpoints):
    """Say what is wrong with a component, or give None."""
    for endpoint in endpoints:
        if endpoint.health:
            healthy, seen = probe.health(endpoint, timeout=3.0)
            if not healthy:
                return "%s says %s" % (endpoint.health, seen)
    for endpoint in endpoints:
        digest = probe.file_sha256(endpoint.path) if endpoint.path else None
        if digest is not None:
            shown = serving.served_certificate(endpoint.host, endpoint.port, client=endpoint.client)
            if shown.sha256 != digest:
                return "%s does not serve the certificate of %s" % (endpoint.address, endpoint.path)
    return None


def finish(state_dir=files.STATE_DIR):
    """Forget what begin() noted: it is done. Gives whether there was anything."""
    journal = files.Journal(JOURNAL, state_dir)
    there = journal.load() is not None
    journal.clear()
    return there


# --- the proof ----------------------------------------------------------------------------------------------------------------


def wait_ready(layout, nodes, timeout=180.0):
    """Wait until Nodes are Ready, each with a lease that its kubelet renewed since this began. Gives {name: seconds}.

    Asked with this node's admin.conf. nodes: {name: since when (seconds since 1970) its condition has to have been reported, 0
    where its kubelet was not restarted}. timeout: seconds. Raises PkiError: which are not, and why.
    """
    config = kubeconfig.Kubeconfig(files.read(layout.paths["admin.conf"][0]), layout.paths["admin.conf"][0])
    api = kubelets.Api.of(config)
    began, since = time.monotonic(), time.time()
    waiting, ready = dict.fromkeys(nodes, "has not been asked for yet"), {}
    while True:
        answers = probe.together({name: lambda name=name: kubelets.node_state(api, name, since, nodes[name]) for name in waiting})
        for name, answer in answers.items():
            trouble = answer.message if isinstance(answer, PkiError) else answer[0]
            if trouble is None:
                ready[name] = round(time.monotonic() - began, 2)
                del waiting[name]
            else:
                waiting[name] = trouble
        if not waiting:
            return ready
        if time.monotonic() - began > timeout:
            raise PkiError("after %d s: %s" % (timeout, "; ".join("%s: %s" % item for item in sorted(waiting.items()))),
                           path=api.server, fix="See `journalctl -u kubelet` on these nodes, and run the playbook again.")
        time.sleep(0.3)
