# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pods of this node have mounted, or written for their CNI plugin, of the cluster's trust: CA bundles and tokens.

Of volumes only those of service accounts count, which follow the cluster themselves. What else lies below the kubelet's directory
was put there by a pod, and neither followed nor believed: a copy of the former ca.crt would hold up a rotation for ever.
"""

from __future__ import annotations

import glob
import os
import re
import stat

from ..errors import PkiError
from ..fileio import guarded_read, yaml_load
from ..x509.service_account_token import signing_key_digest
from ..x509.x509_read import parse_certificates

# Where CNI plugins keep the kubeconfigs that their pods write on the node.
CNI = ("/etc/cni/net.d/*kubeconfig*", "/etc/cni/net.d/*/*kubeconfig*")

_MOST = 50  # kubeconfigs; a node has one or two

_ACCESS = "kube-api-access-"  # plugin/pkg/admission/serviceaccount: ServiceAccountVolumeName

_TOKEN_SECRET = re.compile(r".+-token-[a-z0-9]{5}")  # before 1.21: pkg/controller/serviceaccount/tokens_controller.go

_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

_LARGEST_BUNDLE = 1024 * 1024  # bytes; a ClusterTrustBundle has at most that many

_LARGEST = 64 * 1024  # bytes; such a file has two or three


def lagging(layout, bundle, needed=None):
    """Give (how many, [those that lag]) of the ca.crt files that pods on this node have mounted with their service account.

    bundle: PEM bytes, the trust of this node. needed: digest of the key of the authority that signs servers next; a file lags
    while it lacks that one, or, without it, any of the bundle. The kubelet updates mounted volumes within about a minute and a
    half. Gives a list of paths below the kubelet's directory.
    """
    known = {item.key_sha256 for item in parse_certificates(bundle, "the trust bundle")}
    # A pod may be ahead of its node: kube-root-ca.crt drops the former authority before the last kubelet does.
    wanted = {needed} if needed else known
    count, found = 0, []
    for volume in _volumes(layout):
        path, data = os.path.join(volume, "ca.crt"), _read(volume, "ca.crt", _LARGEST + len(bundle))
        if data is None:
            continue  # none there, or the pod ended meanwhile
        count += 1
        try:
            there = {item.key_sha256 for item in parse_certificates(data, path)}
        except PkiError:
            continue  # its ca.crt is somebody else's file
        # A volume with none of ours belongs to another authority (a webhook's own, say).
        if there & (known | wanted) and not wanted <= there:
            found.append(os.path.relpath(path, layout.kubelet_dir))
    return count, sorted(found)


def lagging_bundles(layout, bundle, needed, places) -> list:
    """Return the files of ClusterTrustBundle volumes on this node that lag, as lagging() judges a ca.crt.

    places: [{"uid", "volume", "path"}], as api_dependents.bundle_files() gives them: what pods say of themselves.
    """
    known = {item.key_sha256 for item in parse_certificates(bundle, "the trust bundle")}
    wanted, found = {needed} if needed else known, []
    for place in places:
        uid, volume, name = (str(place.get(key) or "") for key in ("uid", "volume", "path"))
        if not _UID.fullmatch(uid) or not _LABEL.fullmatch(volume) or "\0" in name:
            continue
        folder = os.path.join(layout.kubelet_dir, "pods", uid, "volumes", "kubernetes.io~projected", volume)
        data = _read(folder, name, _LARGEST_BUNDLE)
        try:
            there = {item.key_sha256 for item in parse_certificates(data, name)} if data else set()
        except PkiError:
            continue
        if there & (known | wanted) and not wanted <= there:
            found.append(os.path.relpath(os.path.join(folder, name), layout.kubelet_dir))
    return sorted(found)


def _volumes(layout):
    """Give the folders of the volumes that hold a service account's credentials: projected ones, and those of token secrets."""
    volumes = os.path.join(glob.escape(layout.kubelet_dir), "pods", "*", "volumes", "kubernetes.io~%s", "*")
    found = [
        path
        for path in glob.glob(volumes % "projected")
        if os.path.basename(path).startswith(_ACCESS) or signing_key_digest(_read(path, "token") or b"")
    ]
    return found + [path for path in glob.glob(volumes % "secret") if _TOKEN_SECRET.fullmatch(os.path.basename(path))]


def _read(volume, name, largest=_LARGEST):
    """Give the bytes of a regular file of a volume, or None where there is none, it lies outside, or is larger.

    The kubelet's own files are links within their volume (pkg/volume/util/atomic_writer.go: ..data).
    """
    path = os.path.realpath(os.path.join(volume, name))
    if not path.startswith(os.path.realpath(volume) + os.sep):
        return None
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > largest:
            return None
        return os.read(handle, largest)
    except OSError:
        return None
    finally:
        os.close(handle)


def tokens(layout, former):
    """Give the paths, below the kubelet's directory, of the tokens that pods have mounted and that a former key signed.

    former: digest of that key. Whoever reads them is refused once the key is dropped.
    """
    return sorted(
        os.path.relpath(os.path.join(volume, "token"), layout.kubelet_dir)
        for volume in _volumes(layout)
        if signing_key_digest(_read(volume, "token") or b"") == former
    )


def cni_kubeconfigs(layout) -> list:
    """Return the paths of the kubeconfigs of CNI plugins on this node, sorted."""
    return sorted({path for pattern in CNI for path in glob.glob(layout.at(pattern))})[:_MOST]


def cni_tokens(layout) -> dict:
    """Return {path of a kubeconfig of a CNI plugin: [digest of the key that signed a service-account token in it]}.

    Pods write these files, with a token or the name of a file that holds one; what cannot be read is left out.
    """
    found = {}
    for path in cni_kubeconfigs(layout):
        try:
            document = yaml_load.load_mapping(guarded_read.read(path), path, plain=True)
        except PkiError:
            continue  # dependents names it
        signers = {signing_key_digest(token) for token in set(_tokens_in(layout, document, path))}
        keys = sorted(key for key in signers if key and len(key) == 64)  # a SHA-256; what else may stand there is no key's name
        if keys:
            found[path] = keys
    return found


def _tokens_in(layout, document, path):
    files = set()
    for item in document.get("users") if isinstance(document.get("users"), list) else []:
        user = item.get("user") if isinstance(item, dict) else None
        if not isinstance(user, dict):
            continue
        if isinstance(user.get("token"), str):
            yield user["token"].strip().encode("ascii", "replace")
        if isinstance(user.get("tokenFile"), str) and user["tokenFile"]:
            files.add(os.path.join(os.path.dirname(path), user["tokenFile"]))
    for place in files:
        try:
            yield guarded_read.read(layout.at(place)).strip()
        except PkiError:
            continue  # of the plugin's own container, mostly


def cni_signed_by(layout, key) -> list:
    """Return the paths of the kubeconfigs of CNI plugins whose token a key signed (its digest), sorted.

    Once the key is dropped the plugin is refused, and no pod starts or ends on the node.
    """
    return sorted(path for path, keys in cni_tokens(layout).items() if key in keys)
