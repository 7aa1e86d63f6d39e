# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The leases by which kube-controller-manager and kube-scheduler elect who works: seen, and given up for one that has ended.

Neither gives its lease up when it ends, and then nobody works until the lease has run out, 15 s by default. Whoever waits for
it takes one without a holder at its next try, every 2 s (client-go tools/leaderelection: release(), tryAcquireOrRenew()).
"""

from __future__ import annotations

import json
import os
import re
import socket
import time

from ..endpoint import http_client
from ..errors import PkiError
from ..fileio import reading
from ..kubeadm.kubeconfig import Kubeconfig

COMPONENTS = ("kube-controller-manager", "kube-scheduler")

_PATH = "/apis/coordination.k8s.io/v1/namespaces/%s/leases/%s"

_AGAIN = 0.3  # seconds


class Lease:
    """The lease of a component of this node, asked for with admin.conf. All of it is a favour: no error ever leaves it.

    component: of COMPONENTS. flags: {"--flag": value} of its manifest. kubernetes_dir: where admin.conf lies. hostname: with
    which the component begins its identity (os.Hostname(), an underscore, a UUID); the node's own by default.
    """

    def __init__(self, component, flags, kubernetes_dir, hostname=None):
        self._path = _PATH % (
            flags.get("--leader-elect-resource-namespace") or "kube-system",
            flags.get("--leader-elect-resource-name") or component,
        )
        self._config = os.path.join(kubernetes_dir, "admin.conf")
        self._own = re.compile(re.escape(hostname or socket.gethostname()) + r"_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
        self.holder = None

    def look(self):
        """Note who holds it, where that is this node's instance. To be called while that runs. Gives whether it is."""
        try:
            identity = self._ask()["spec"]["holderIdentity"]
            self.holder = identity if self._own.fullmatch(identity) else None
        except (PkiError, KeyError, TypeError):
            self.holder = None
        return self.holder is not None

    def give_up(self, seconds):
        """Take the holder that look() saw out of it, and nobody else. To be called when that instance has ended.

        seconds: for how long the API may be away. Gives whether the lease is without a holder now.
        """
        deadline = time.monotonic() + seconds
        while self.holder is not None:
            try:
                found = self._ask()
                if found["spec"].get("holderIdentity") != self.holder:
                    return False
                found["spec"]["holderIdentity"] = ""
                # With its resourceVersion: refused when anybody has written it since.
                if self._call("PUT", found).status == 200:
                    return True
            except (PkiError, KeyError, TypeError, AttributeError):
                pass
            if time.monotonic() > deadline:
                break
            time.sleep(_AGAIN)
        return False

    def _ask(self):
        answer = self._call("GET")
        return answer.json() if answer.status == 200 else {}

    def _call(self, method, document=None):
        # Read each time: a job may just have renewed it.
        config = Kubeconfig(reading.read(self._config), self._config)
        if not (config.server and config.ca_data and config.certificate_data and config.key_data):
            raise PkiError("does not hold its CA and credential", path=self._config)
        return http_client.http_request(
            config.server.rstrip("/") + self._path,
            method,
            json.dumps(document).encode("utf-8") if document else None,
            ca_pem=config.ca_data,
            client=(config.certificate_data, config.key_data),
            timeout=2.0,
        )
