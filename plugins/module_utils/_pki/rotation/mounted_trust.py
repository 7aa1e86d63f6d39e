# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until the pods of a node have mounted the trust and the tokens that a phase of a CA rotation needs."""

from __future__ import annotations

import time
from typing import Any, Dict, List, Optional

from ..errors import PkiError
from ..fileio import reading
from ..kubeadm import layouts
from ..node import cni_kubeconfigs, pod_volumes
from . import ca_files

# A kubelet keeps ClusterTrustBundles for five minutes (pkg/kubelet/clustertrustbundle), and looks at a pod every minute.
BUNDLE_SECONDS = 390


def wait(
    layout: layouts.Layout, seconds: float, needed: Optional[str], old_sa: Optional[str], bundles: List[Dict[str, Any]]
) -> int:
    """Wait until every pod of the node has mounted what is needed. Return how many ca.crt of service accounts they mount.

    seconds: how long to wait; BUNDLE_SECONDS more where only volumes of ClusterTrustBundles are late.
    needed: the digest of the public key of the CA that these files have to hold; None: all that the node trusts.
    old_sa: the digest of a service-account key; no mounted token and no kubeconfig of a CNI plugin may be signed by it.
    bundles: the volumes of ClusterTrustBundles, as api_dependents returns them for this node.
    Raise PkiError with the first file that is late.
    """
    deadline = time.monotonic() + seconds
    path = layout.paths["ca"][0] if "ca" in layout.paths else ca_files.places(layout, "ca", ca_files.CURRENT)[0]
    bundle = reading.read(path)
    while True:
        count, lagging = pod_volumes.lagging(layout, bundle, needed)
        tokens = pod_volumes.tokens_signed_by(layout, old_sa) if old_sa else []
        plugins = cni_kubeconfigs.tokens_signed_by(layout, old_sa) if old_sa else []
        published = pod_volumes.lagging_bundles(layout, bundle, needed, bundles)
        late = time.monotonic() - deadline
        if not lagging + tokens + plugins + published or late > (0 if lagging + tokens + plugins else BUNDLE_SECONDS):
            break
        time.sleep(0.5)
    if lagging:
        raise PkiError(
            "%d of %d pods still have another ca.crt mounted after %d s" % (len(lagging), count, seconds),
            path=lagging[0],
            fix="See whether the kubelet works and kube-root-ca.crt of its namespace follows.",
        )
    if tokens:
        raise PkiError(
            "%d pods still have a token of the old service-account key mounted after %d s, and would be refused"
            % (len(tokens), seconds),
            path=tokens[0],
            fix="Restart these pods, or wait until the kubelet has renewed their tokens (within the hour), and run again.",
        )
    if plugins:
        raise PkiError(
            "the CNI plugin still has a token of the old service-account key after %d s: no pod would start on "
            "this node" % seconds,
            path=plugins[0],
            fix="Restart the DaemonSet of the CNI plugin (kubectl rollout restart), which writes the file again, and run again.",
        )
    if published:
        raise PkiError(
            "%d volumes with a ClusterTrustBundle still have other certificates after %d s"
            % (len(published), seconds + BUNDLE_SECONDS),
            path=published[0],
            fix="See whether the kubelet works and what kubectl get clustertrustbundles shows; restarting the pod helps, too.",
        )
    return count
