# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""CA bundles and tokens of the cluster that pods of this node have mounted.

Only the volumes of service accounts count: the kubelet updates them. Other files below the kubelet's directory come from pods.
They are not trusted: a copy of the old ca.crt would block a rotation for ever.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ..errors import PkiError
from ..kubeadm.layouts import Layout
from ..x509.service_account_token import signing_key_digest
from ..x509.x509_read import parse_certificates

_ACCESS = "kube-api-access-"  # plugin/pkg/admission/serviceaccount: ServiceAccountVolumeName

_TOKEN_SECRET = re.compile(r".+-token-[a-z0-9]{5}")  # before 1.21: pkg/controller/serviceaccount/tokens_controller.go

_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

_LARGEST_BUNDLE = 1024 * 1024  # bytes; a ClusterTrustBundle has at most that many

_LARGEST = 64 * 1024  # bytes; such a file has two or three


def lagging(layout: Layout, bundle: bytes, needed: Optional[str] = None) -> Tuple[int, List[str]]:
    """Return (number, outdated ones) of the ca.crt files that pods on this node have mounted with their service account.

    bundle: the trust bundle of this node in PEM. needed: digest of the key of the CA that signs servers next; a file is outdated
    while it lacks that CA, or, without `needed`, any of the bundle. The kubelet updates mounted volumes within about 90 s.
    Paths are below the kubelet's directory.
    """
    known = {item.key_sha256 for item in parse_certificates(bundle, "the trust bundle")}
    # A pod may be ahead of its node: kube-root-ca.crt drops the old CA before the last kubelet does.
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
            continue  # its ca.crt is a file of another origin
        # A volume with none of these CAs belongs to another CA (that of a webhook, for example).
        if there & (known | wanted) and not wanted <= there:
            found.append(os.path.relpath(path, layout.kubelet_dir))
    return count, sorted(found)


def lagging_bundles(layout: Layout, bundle: bytes, needed: Optional[str], places: Sequence[Dict[str, Any]]) -> List[str]:
    """Return the files of ClusterTrustBundle volumes on this node that are outdated, as lagging() judges a ca.crt.

    places: [{"uid", "volume", "path"}] from the specifications of pods, which are not trusted.
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


def _volumes(layout: Layout) -> List[str]:
    """Return the directories of volumes with a service account's credentials: projected ones, and those of token secrets."""
    volumes = os.path.join(glob.escape(layout.kubelet_dir), "pods", "*", "volumes", "kubernetes.io~%s", "*")
    found = [
        path
        for path in glob.glob(volumes % "projected")
        if os.path.basename(path).startswith(_ACCESS) or signing_key_digest(_read(path, "token") or b"")
    ]
    return found + [path for path in glob.glob(volumes % "secret") if _TOKEN_SECRET.fullmatch(os.path.basename(path))]


def _read(volume: str, name: str, largest: int = _LARGEST) -> Optional[bytes]:
    """Return the bytes of a regular file of a volume, or None where there is none, it lies outside, or is larger.

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


def tokens_signed_by(layout: Layout, key: str) -> List[str]:
    """Return the paths, below the kubelet's directory, of the mounted tokens that were signed with a key (its digest).

    The API server rejects them once the key is removed.
    """
    return sorted(
        os.path.relpath(os.path.join(volume, "token"), layout.kubelet_dir)
        for volume in _volumes(layout)
        if signing_key_digest(_read(volume, "token") or b"") == key
    )
