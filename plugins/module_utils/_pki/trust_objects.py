# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API objects that carry the cluster's trust: seen, brought up to date, and waited for where a controller does it.

cluster-info and kubeadm-config are written here; kube-root-ca.crt and the token secrets follow kube-controller-manager and
are waited for; extension-apiserver-authentication only ever grows by itself, and what it has too much is taken out here.
"""

from __future__ import annotations

__metaclass__ = type

import base64
import hashlib
import json
import time

from . import tokens, yamltext
from .certificates import parse_certificates
from .cluster_api import segment
from .errors import PkiError

ANNOTATION = "kubepki.io/trust"
SIGNING_FLAG = "cluster-signing-cert-file"
ROOT = "kube-root-ca.crt"
CLUSTER_INFO = "/api/v1/namespaces/kube-public/configmaps/cluster-info"
_KUBEADM = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
_EXTENSION = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
_EXTENSION_KEYS = ("client-ca-file", "requestheader-client-ca-file")
_KINDS = ("deployments", "daemonsets", "statefulsets")
# What kube-controller-manager publishes of --root-ca-file (pkg/controller/certificates/clustertrustbundlepublisher).
BUNDLE_SIGNER = "kubernetes.io/kube-apiserver-serving"
_BUNDLES = "/apis/certificates.k8s.io/%s/clustertrustbundles"
_POLL = 0.3
_SETTLED = 5.0  # seconds: an API server that puts an authority back does so as soon as it sees the change


def digests(pem):
    """Give the set of public-key digests of a PEM bundle (str or bytes); empty where it holds none."""
    data = pem.encode("utf-8") if isinstance(pem, str) else pem or b""
    try:
        return {item.key_sha256 for item in parse_certificates(data)}
    except PkiError:
        return set()


def certificates_in(pem):
    """Give the set of digests of the certificates of a PEM bundle (str or bytes): renewed with the same key, one is another."""
    data = pem.encode("utf-8") if isinstance(pem, str) else pem or b""
    try:
        return {item.sha256 for item in parse_certificates(data)}
    except PkiError:
        return set()


def trust_name(bundle, of=digests):
    """Give a short name of whom a bundle trusts, the same whatever the order. of: digests, or certificates_in."""
    return hashlib.sha256("".join(sorted(of(bundle))).encode("ascii")).hexdigest()[:16]


def cluster_info_place(text):
    """Return where cluster-info holds the CA that joining nodes trust, as a place for YamlText.

    The entry without a name, else that of the current context (kubeadm: util/kubeconfig.GetClusterFromKubeConfig). Other entries
    are not this cluster's. Raises PkiError where there is none.
    """
    data = yamltext.load_mapping(text, "cluster-info")
    clusters, contexts = ([entry if isinstance(entry, dict) else {} for entry in data.get(kind) or []]
                          for kind in ("clusters", "contexts"))
    current = next(((entry.get("context") or {}).get("cluster") for entry in contexts
                    if entry.get("name") == data.get("current-context")), None)
    names = [entry.get("name") or "" for entry in clusters]
    index = names.index("") if "" in names else 0 if len(names) == 1 else names.index(current) if current in names else None
    if index is None:
        raise PkiError("no cluster entry is that of its current context", path="kube-public/cluster-info",
                       fix="Correct it: kubectl -n kube-public edit configmap cluster-info.")
    return ("clusters", index, "cluster", "certificate-authority-data")


def publish_cluster_info(api, bundle, check=False):
    """Make cluster-info, by which nodes join, trust a bundle (PEM bytes). Gives whether it had to change."""
    wanted = base64.b64encode(bundle).decode("ascii")

    def change(found):
        text = (found.get("data") or {}).get("kubeconfig")
        if not text:
            return None  # kubeadm init --skip-phases=bootstrap-token: no node joins by it
        document = yamltext.YamlText(text, "cluster-info")
        place = cluster_info_place(text)
        if document.get(place) == wanted:
            return None
        document.set(place, wanted)
        return {"data": {"kubeconfig": document.text}}
    return api.update(CLUSTER_INFO, change, check=check)


def publish_kubeadm_config(api, section, name, value, check=False, ours=None):
    """Make kubeadm-config say a flag of a component, so that `kubeadm upgrade` keeps it. Gives whether it had to change.

    section, name, value: as in with_extra_arg(). A flag that kubeadm sets by itself is taken away with None.
    ours: the values that may be replaced or taken away; any other is the user's and stays. None for all.
    """
    def change(found):
        text = (found.get("data") or {}).get("ClusterConfiguration")
        if not text or (ours is not None and _extra_arg(text, section, name) not in (None,) + tuple(ours)):
            return None
        changed = with_extra_arg(text, section, name, value)
        return {"data": {"ClusterConfiguration": changed}} if changed != text else None
    return api.update(_KUBEADM, change, check=check)


def publish_signing(api, own, authority, named, check=False):
    """Make kubeadm-config say where kube-controller-manager's signing certificate lies. Gives whether it had to change.

    own: path of the file that a rotation lets it sign with. authority: path of the CA's. named: whether the manifest names
    the former. A third file is the user's (an intermediate that signs, say), and neither replaced nor taken away.
    """
    return publish_kubeadm_config(api, "controllerManager", SIGNING_FLAG, own if named else None, check,
                                  ours=(own, authority) if named else (own,))


def _extra_arg(text, section, name):
    extra = _extra_args(yamltext.load_mapping(text, "kubeadm-config"), section) or {}
    if isinstance(extra, list):
        extra = {item.get("name"): item.get("value") for item in reversed(extra) if isinstance(item, dict)}
    return extra.get(name)


def _extra_args(data, section):
    """Return the extraArgs of a section of a ClusterConfiguration, a mapping or a list, or None. Raises PkiError."""
    manager = data.get(section) or {}
    extra = manager.get("extraArgs") if isinstance(manager, dict) else manager
    if extra is None or isinstance(extra, (dict, list)) and isinstance(manager, dict):
        return extra
    raise PkiError("its section %s is not what kubeadm reads" % section, path="ConfigMap kube-system/kubeadm-config",
                   fix="Correct it: kubectl -n kube-system edit configmap kubeadm-config.")


def with_extra_arg(text, section, name, value):
    """Give a ClusterConfiguration with one of a component's extraArgs set, or (None) taken away.

    section: "controllerManager" or "apiServer". name: the flag without dashes. v1beta2 and v1beta3 hold a mapping, v1beta4 a
    list of name and value. Everything else stays as it was written.
    """
    data = yamltext.load_mapping(text, "kubeadm-config")
    extra = _extra_args(data, section)
    listed = isinstance(extra, list) or (extra is None and str(data.get("apiVersion", "")).endswith("v1beta4"))
    document = yamltext.YamlText(text, "kubeadm-config")
    return (_listed_arg if listed else _mapped_arg)(document, section, extra or ([] if listed else {}), name, value)


def _mapped_arg(document, section, extra, name, value):
    place = (section, "extraArgs", name)
    if value is None:
        return _without(document, section, extra, name, place) if name in extra else document.text
    if not extra:
        # The editor would put it in the braces of `apiServer: {}`, where it could not be taken out again.
        return _section(document, section, "    %s: %s\n" % (yamltext.quote(name), yamltext.quote(value)), {name: value})
    document.set(place, value)
    return document.text


def _without(document, section, extra, name, place):
    manager = dict(document.get((section,)))
    manager["extraArgs"] = {key: extra[key] for key in extra if key != name}
    if not manager["extraArgs"]:
        del manager["extraArgs"]
    if manager:
        try:
            document.remove(place if len(extra) > 1 else place[:2])
            return document.text
        except PkiError:
            pass  # in braces, which the editor does not take anything out of; JSON is YAML in braces
    return _replaced(document, section, "%s: %s\n" % (section, json.dumps(manager)), manager)


def _replaced(document, section, body, manager):
    """Give the text with a whole section, all its lines, replaced by body; read back."""
    lines, kept, inside = document.text.splitlines(keepends=True), [], False
    for line in lines:
        if inside and (line[:1] in (" ", "\t", "-") or not line.strip()):
            continue
        inside = line.startswith(section + ":")
        kept.append(body if inside else line)
    return _read_back(document, section, "".join(kept), manager)


def _listed_arg(document, section, extra, name, value):
    index = next((number for number, item in enumerate(extra) if isinstance(item, dict) and item.get("name") == name), None)
    place = (section, "extraArgs")
    if index is not None and value is not None:
        document.set(place + (index, "value"), value)
        return document.text
    if index is not None and len(extra) > 1:
        document.remove(place + (index,))
        return document.text
    if index is not None:
        manager = {key: item for key, item in document.get((section,)).items() if key != "extraArgs"}
        if not manager:
            return _replaced(document, section, section + ": {}\n", manager)
        document.remove(place)
        return document.text
    if value is None:
        return document.text
    return _appended(document, section, extra, name, value)


def _appended(document, section, extra, name, value):
    """Give the text with one more argument, before the others."""
    item = {"name": name, "value": value}
    text = "%%s- name: %s\n%%s  value: %s\n" % (yamltext.quote(name), yamltext.quote(value))
    if not extra:
        return _section(document, section, text % ("  ", "  "), [item])
    document.prepend_item((section, "extraArgs"), item)
    return document.text


def _section(document, section, body, extra):
    """Give the text with a first extraArgs in a section, which is absent, empty or a block mapping without any."""
    lines = document.text.splitlines(keepends=True)
    start = next((number for number, line in enumerate(lines) if line.startswith(section + ":")), None)
    body = "  extraArgs:\n" + body
    manager = dict(document.get((section,)) or {}, extraArgs=extra)
    if len(manager) == 1 and start is not None:
        return _replaced(document, section, section + ":\n" + body, manager)
    if start is None:
        lines.append(section + ":\n" + body)
    else:
        lines.insert(start + 1, body)
    return _read_back(document, section, "".join(lines), manager)


def _read_back(document, section, text, manager):
    expected = yamltext.load_mapping(document.text, "kubeadm-config")
    expected[section] = manager
    if yamltext.load_mapping(text, "kubeadm-config") != expected:
        raise PkiError("its section %s cannot be edited safely" % section, path="ConfigMap kube-system/kubeadm-config",
                       fix="Give the component the flag of its manifest in extraArgs by hand, then run again.")
    return text


def lagging_roots(api, bundle, of=digests):
    """Give the namespaces whose kube-root-ca.crt does not trust exactly what a bundle does. of: digests, or certificates_in."""
    wanted = of(bundle)
    return sorted(item["metadata"]["namespace"] for item in root_maps(api)
                  if of((item.get("data") or {}).get("ca.crt") or "") != wanted)


def root_maps(api):
    """Give the ConfigMaps kube-root-ca.crt of all namespaces, [mapping]."""
    return api.call("GET", "/api/v1/configmaps", query={"fieldSelector": "metadata.name=" + ROOT}).get("items") or []


def lagging_secrets(api, bundle, of=digests):
    """Give namespace/name of the service-account token secrets whose ca.crt does not trust exactly what a bundle does."""
    wanted = of(bundle)
    items = api.call("GET", "/api/v1/secrets", query={
        "fieldSelector": "type=kubernetes.io/service-account-token"}).get("items") or []
    found = []
    for item in items:
        data = (item.get("data") or {}).get("ca.crt")
        if data and of(base64.b64decode(data)) != wanted:
            found.append("%s/%s" % (item["metadata"]["namespace"], item["metadata"]["name"]))
    return sorted(found)


def published_bundles(api) -> list:
    """Return the ClusterTrustBundles of BUNDLE_SIGNER, [mapping]; [] where the cluster has none, or not the API (1.33)."""
    for version in ("v1", "v1beta1", "v1alpha1"):
        found = api.get(_BUNDLES % version)
        if found is not None:
            return [item for item in found.get("items") or [] if (item.get("spec") or {}).get("signerName") == BUNDLE_SIGNER]
    return []


def lagging_bundles(api, bundle, of=digests) -> list:
    """Return the names of the published ClusterTrustBundles that do not trust exactly what a bundle does, sorted.

    One that has nothing in common with the bundle is another CA's. of: digests, or certificates_in.
    """
    wanted, ours, found = of(bundle), digests(bundle), []
    for item in published_bundles(api):
        text = item["spec"].get("trustBundle") or ""
        if digests(text) & ours and of(text) != wanted:
            found.append(item["metadata"]["name"])
    return sorted(found)


def wait_followers(api, bundle, seconds, of=digests):
    """Wait until kube-root-ca.crt of every namespace, the token secrets and the published ClusterTrustBundles follow.

    Gives seconds; raises PkiError.
    """
    began = time.monotonic()
    while True:
        roots, secrets = lagging_roots(api, bundle, of), lagging_secrets(api, bundle, of)
        published = lagging_bundles(api, bundle, of)
        passed = time.monotonic() - began
        if not roots and not secrets and not published:
            return round(passed, 1)
        if passed > seconds:
            first = (["ConfigMap %s/kube-root-ca.crt" % name for name in roots[:1]] + ["Secret " + name for name in secrets[:1]]
                     + ["ClusterTrustBundle " + name for name in published[:1]])[0]
            raise PkiError(
                "%d namespaces, %d token secrets and %d ClusterTrustBundles have not followed the cluster's trust within %d s" % (
                    len(roots), len(secrets), len(published), seconds), path=first,
                fix="See kube-controller-manager's log (--root-ca-file); run again when it follows.")
        time.sleep(_POLL)


def renew_tokens(api, signer, check=False):
    """Sign the token secrets again that another key than the signer (x509.PrivateKey) signed. Gives ["namespace/name"].

    The new token takes the former's place in one write. kube-controller-manager would fill in one that is missing
    (pkg/controller/serviceaccount/tokens_controller.go), but a kubelet that looks meanwhile takes the file away from its pods
    until it looks again, most of a minute later. Left to it is what claims anything but what it would.
    """
    items = api.call("GET", "/api/v1/secrets", query={
        "fieldSelector": "type=kubernetes.io/service-account-token"}).get("items") or []
    accounts = {tuple(item["metadata"].get(key) for key in ("namespace", "name", "uid"))
                for item in api.call("GET", "/api/v1/serviceaccounts").get("items") or []}

    def change(item):
        token = base64.b64decode((item.get("data") or {}).get("token") or "")
        if tokens.signed_by(token) in (None, signer.key_sha256):
            return None
        again = tokens.of_secret(item, token, signer, accounts)
        return {"data": {"token": base64.b64encode(again).decode("ascii") if again else None}}

    renewed = []
    for item in items:
        namespace, name = (item["metadata"].get(key) or "" for key in ("namespace", "name"))
        if api.update("/api/v1/namespaces/%s/secrets/%s" % (segment(namespace), segment(name)), change, item, check):
            renewed.append("%s/%s" % (namespace, name))
    return sorted(renewed)


def extension_trust(api, of=digests):
    """Give ({digests of client CAs}, {digests of request-header CAs}) of extension-apiserver-authentication, or None."""
    found = api.get(_EXTENSION)
    return tuple(_extension_trust(found, of).values()) if found is not None else None


def _extension_trust(found, of):
    return {key: of((found.get("data") or {}).get(key) or "") for key in _EXTENSION_KEYS}


def wait_extension(api, client, header, exact, seconds, check=False, of=digests, settled=_SETTLED):
    """Wait until extension-apiserver-authentication trusts the bundles client and header (PEM bytes).

    exact: and nobody else. The API servers only ever add to it (pkg/controlplane/controller/clusterauthenticationtrust), so what
    is too much is taken out here, and again as often as one puts it back that has not read its files again yet (they look once
    a minute). settled: seconds in which none may have put it back. Gives whether it had to change. Raises PkiError when time
    is up.
    """
    bundles = dict(zip(_EXTENSION_KEYS, (client, header)))
    wanted = {key: of(bundle) for key, bundle in bundles.items()}

    def change(found):
        seen = _extension_trust(found, of)
        surplus = [key for key in bundles if exact and seen[key] - wanted[key]]
        return {"data": {key: bundles[key].decode("utf-8") for key in surplus}} if surplus else None

    deadline, changed = time.monotonic() + seconds, None
    while True:
        found, now = api.get(_EXTENSION), time.monotonic()
        if found is not None:
            seen, surplus = _extension_trust(found, of), change(found) is not None
            if surplus and check:
                return True
            complete = all(wanted[key] <= seen[key] for key in bundles)
            settling = changed is not None and now - changed < settled
            if complete and not surplus and not settling:
                return changed is not None
            if surplus and not settling and now <= deadline:
                if api.update(_EXTENSION, change, found):
                    changed = now
                continue
        if check:
            return False
        if now > deadline + settled:
            raise PkiError("does not hold the cluster's trust within %d s" % seconds,
                           path="ConfigMap kube-system/extension-apiserver-authentication",
                           fix="An API server may still have the former authority: see cluster_pki, then run again.")
        time.sleep(_POLL)


def restart_workloads(api, namespaces, name, first, check=False):
    """Restart what runs in some namespaces, once for each trust. name: of the trust.

    first: whether also those are that were never restarted for a trust: not on a cluster that has had one authority only.
    Gives (["kind/namespace/name"] restarted, ["kind/namespace/name (why)"] left to those who have kept it from rolling out).
    """
    restarted, left = [], []
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
                    api.call("PATCH", "%s/%s" % (path, segment(own)), {"spec": {"template": {"metadata": {
                        "annotations": {ANNOTATION: name}}}}})
                restarted.append("%s/%s/%s" % (kind, namespace, own))
    return restarted, left


def _kept_back(kind, item):
    """Why a change of a workload's template replaces not all of its pods, however long one waits; or None."""
    spec = item.get("spec") or {}
    if kind == "deployments":
        return "paused" if spec.get("paused") else None
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return "OnDelete"
    partition = (strategy.get("rollingUpdate") or {}).get("partition") if kind == "statefulsets" else None
    return "partition %s" % partition if partition else None


def wait_workloads(api, namespaces, seconds):
    """Wait until every workload of some namespaces that rolls out by itself has.

    seconds: without progress. A DaemonSet replaces one pod after another, so all of it takes as long as there are nodes. Raises
    PkiError with those that do not go on.
    """
    progress, most = time.monotonic(), -1
    while True:
        rollouts = [rollout for namespace in namespaces for kind in _KINDS for rollout in _rollouts(api, namespace, kind)]
        waiting = [name for name, missing, _there in rollouts if missing]
        now, there = time.monotonic(), sum(count for _name, _missing, count in rollouts)
        if not waiting:
            return
        if there > most:  # one that crashes again and again never gets beyond where it was
            progress, most = now, there
        elif now - progress > seconds:
            raise PkiError("has not gone on rolling out for %d s (%d in all)" % (seconds, len(waiting)), path=waiting[0],
                           fix="See its pods (kubectl describe); run again when they work.")
        time.sleep(_POLL * 3)


def _rollouts(api, namespace, kind):
    """Give [(name, whether pods are still to be replaced, how many are replaced and how many available, added)]."""
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
        former = status.get("observedGeneration", 0) < item["metadata"].get("generation", 0)
        if former:
            updated = 0  # what is counted there is the generation before
        missing = former or updated < wanted or ready < wanted
        found.append(("%s/%s/%s" % (kind, namespace, item["metadata"]["name"]), missing, updated + ready))
    return found
