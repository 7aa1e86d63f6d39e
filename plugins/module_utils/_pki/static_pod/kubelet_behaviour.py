# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How this node's kubelet treats static pods: whether it manages them already, and whether it starts them one after the other.

A kubelet from 1.22 on starts a static pod only when the worker of the previous one has finished (pkg/kubelet/pod_workers.go).
Older kubelets start the new pod at once, beside the old one.
"""

from __future__ import annotations

import contextlib
import time
from typing import List, Optional

from ..errors import PkiError
from ..node.containers import Runtime
from .background_call import BackgroundCall

# The kubelet that serialises static pods by name came with the pod workers of 1.22 (kubernetes#102344).
_SERIALISES_SINCE = 22

# A kubelet that has run for so many seconds manages its pods; a younger one is asked.
_READY_SECONDS = 60


class KubeletBehaviour:
    """What the restart has to know of the kubelet. image_minors: the minor versions of the static pods' images."""

    def __init__(self, runtime: Runtime, image_minors: List[int]) -> None:
        self._runtime, self._image_minors = runtime, image_minors
        self._minor: Optional[BackgroundCall] = None
        self._serialises: Optional[bool] = None

    def wait_until_ready(self, manifest_dir: str) -> None:
        """Wait until the kubelet manages its pods. Raises PkiError, with manifest_dir as its path, where no kubelet runs."""
        try:
            kubelet = self._runtime.kubelet()
        except PkiError as error:
            raise PkiError(
                "the kubelet does not run, and nothing else would start the pods again: %s" % error.message,
                path=manifest_dir,
                fix="%s Run again then; nothing was moved." % (error.fix or ""),
            ) from error
        deadline = time.monotonic() + _READY_SECONDS
        while kubelet.age < _READY_SECONDS and time.monotonic() < deadline and not self._runtime.manages_pods(kubelet):
            time.sleep(0.1)
            with contextlib.suppress(PkiError):  # it is being restarted
                kubelet = self._runtime.kubelet()
        self._minor = BackgroundCall(kubelet.minor)

    @property
    def serialises_pods(self) -> bool:
        """Whether it starts a static pod only after the previous one has finished; True where its version is unknown."""
        if self._serialises is None:
            # A kubelet is never newer than its apiserver and at most three minor versions older (Kubernetes' version skew
            # policy). So the images mostly answer, and nothing waits for the kubelet's own answer.
            newest = max(self._image_minors, default=None)
            minor = newest
            if self._minor is not None:
                if not self._minor.is_done and (newest is None or _SERIALISES_SINCE <= newest < _SERIALISES_SINCE + 3):
                    self._minor.wait(10)
                if self._minor.is_done and self._minor.value is not None:
                    minor = self._minor.value
            self._serialises = minor is None or minor >= _SERIALISES_SINCE
        return self._serialises
