# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An API that is a dictionary of objects, and two authorities of one name that it may carry."""

from __future__ import annotations

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import api_client
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, x509_read

from tests.unit.support.throwaway import key

OLD = ca_sign.build_ca("kubernetes", key("old"), 10)
NEW = ca_sign.build_ca("kubernetes", key("new"), 10)
BOTH, ALONE = x509_read.bundle([OLD, NEW]), x509_read.bundle([NEW])


class Api:
    """As much of an API as these functions use. lags: {path: [data that a server puts back, once each]}."""

    def __init__(self, objects, lags=None):
        self.objects, self.lags, self.writes = objects, lags or {}, []

    update = api_client.Api.update

    def get(self, path):
        return self.objects.get(path)

    def list(self, path):
        return self.objects.get(path, {}).get("items", [])

    def call(self, method, path, body=None, query=None):
        if method == "GET":
            return self.objects.get(path, {"items": []})
        self.writes.append((method, path, body))
        if method == "PATCH" and "data" in body and path in self.objects:
            self.objects[path]["data"].update(body["data"])
            if self.lags.get(path):
                self.objects[path]["data"].update(self.lags[path].pop())
        return {}
