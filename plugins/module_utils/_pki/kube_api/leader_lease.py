# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The leases by which kube-controller-manager and kube-scheduler elect who works: seen, and given up for one that has ended.

Neither gives its lease up when it ends, and then nobody works until the lease has run out, 15 s by default. Whoever waits for
it takes one without a holder at its next try, every 2 s (client-go tools/leaderelection: release(), tryAcquireOrRenew()).
"""

from __future__ import annotations

import os
import re
import socket
import time
from typing import Any, Dict, Mapping, Optional

from ..errors import PkiError
from ..fileio import reading
from ..kubeadm.kubeconfig import Kubeconfig
from .api_client import NodeApi

COMPONENTS = ("kube-controller-manager", "kube-scheduler")

_PATH = "/apis/coordination.k8s.io/v1/namespaces/%s/leases/%s"

_AGAIN = 0.3  # seconds


class Lease:
    """The lease of a component of this node, asked for with admin.conf. All of it is a favour: no error ever leaves it.

    component: of COMPONENTS. flags: {"--flag": value} of its manifest. kubernetes_dir: where admin.conf lies. hostname: with
    which the component begins its identity (os.Hostname(), an underscore, a UUID); the node's own by default.
    """

    def __init__(self, component: str, flags: Mapping[str, Any], kubernetes_dir: str, hostname: Optional[str] = None) -> None:
        self._path = _PATH % (
            flags.get("--leader-elect-resource-namespace") or "kube-system",
            flags.get("--leader-elect-resource-name") or component,
        )
        self._config = os.path.join(kubernetes_dir, "admin.conf")
        self._own = re.compile(re.escape(hostname or socket.gethostname()) + r"_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
        self.holder: Optional[str] = None

    def look(self) -> bool:
        """Return whether this node's instance holds the lease, and keep its identity. To call while the instance runs."""
        try:
            identity = self._call("GET")["spec"]["holderIdentity"]
            self.holder = identity if self._own.fullmatch(identity) else None
        except (PkiError, KeyError, TypeError):
            self.holder = None
        return self.holder is not None

    def give_up(self, seconds: float) -> bool:
        """Remove the holder that look() saw, and no other one. To call when that instance has stopped.

        seconds: how long the API may be unreachable. Return whether the lease has no holder now.
        """
        deadline = time.monotonic() + seconds
        while self.holder is not None:
            try:
                found = self._call("GET")
                if found["spec"].get("holderIdentity") != self.holder:
                    return False
                found["spec"]["holderIdentity"] = ""
                # With its resourceVersion: refused when anybody has written it since.
                self._call("PUT", found)
                return True
            except (PkiError, KeyError, TypeError, AttributeError):
                pass
            if time.monotonic() > deadline:
                break
            time.sleep(_AGAIN)
        return False

    def _call(self, method: str, document: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        # Read each time: another process may just have renewed it.
        config = Kubeconfig(reading.read(self._config), self._config)
        if not (config.server and config.ca_data and config.certificate_data and config.key_data):
            raise PkiError("does not hold its CA and credential", path=self._config)
        api = NodeApi(config.server, config.ca_data, (config.certificate_data, config.key_data), timeout=2.0)
        return api.call(method, self._path, document)
