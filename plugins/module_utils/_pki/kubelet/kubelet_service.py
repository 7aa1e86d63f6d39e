# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubelet's process: its unit, its restart, and the proof that the new one works."""

from __future__ import annotations

import contextlib
import re
import time
from typing import Any, Dict, Optional

from ..endpoint import http_client
from ..errors import PkiError
from ..fileio import atomic, journals
from ..host import processes, systemd
from ..kube_api import kubelet_client
from ..kubeadm import kubelet_settings
from ..kubeadm.layouts import Layout
from . import kubelet_files


class Service:
    """The kubelet's systemd unit. Nothing else is ever started or stopped here."""

    UNIT = systemd.KUBELET_UNIT

    def state(self) -> Dict[str, Any]:
        """Return {"load", "active", "sub", "pid" (int), "result"} as systemd sees the unit. Raises PkiError."""
        found = systemd.show_unit(self.UNIT)
        return {
            "load": found["LoadState"],
            "active": found["ActiveState"],
            "sub": found["SubState"],
            "result": found["Result"],
            "pid": int(found["MainPID"]) if found["MainPID"].isdigit() else 0,
        }

    def restart(self, timeout: float) -> None:
        """Restart the unit, or start it. timeout: seconds for the old process to end. Raises PkiError."""
        done = systemd.run_command(["systemctl", "restart", self.UNIT], timeout)
        if done.returncode:
            raise PkiError(
                "the kubelet could not be restarted (%s)" % done.stderr.decode("utf-8", "replace").strip()[:200],
                fix="See `systemctl status kubelet` and `journalctl -u kubelet`.",
            )

    def stop(self, timeout: float) -> None:
        """Stop the unit. timeout: seconds for its process to end. Raises PkiError."""
        done = systemd.run_command(["systemctl", "stop", self.UNIT], timeout)
        if done.returncode:
            raise PkiError(
                "the kubelet could not be stopped (%s)" % done.stderr.decode("utf-8", "replace").strip()[:200],
                fix="See `systemctl status kubelet`.",
            )

    @staticmethod
    def started(pid: int) -> Optional[float]:
        """Return when a process began, in seconds since the machine's (proc(5): stat, field 22), or None when it is gone."""
        return processes.own().started(pid)

    def complaint(self) -> str:
        """Return the last error line of the kubelet's journal, or ""."""
        with contextlib.suppress(PkiError):
            done = systemd.run_command(["journalctl", "--unit", self.UNIT, "--lines", "200", "--output", "cat", "--no-pager"], 10)
            for line in reversed(done.stdout.decode("utf-8", "replace").splitlines()):
                if re.match(r"^[EF]\d{4} ", line) or line.startswith("Error:"):
                    return line[:200]
        return ""


def restart(
    layout: Layout,
    timeout: float = 120.0,
    ready: bool = True,
    state_dir: str = atomic.STATE_DIR,
    service: Optional[Service] = None,
) -> Dict[str, Any]:
    """Restart the kubelet and prove that the new one works. Returns a mapping of what was seen; see Proof.

    timeout: seconds until the proof. ready: the Node has to be Ready again, as the API says it; False asks for the process and
    its health alone (the API is down). Raises PkiError when the proof does not come; the note of a due restart stays then.
    """
    service = service or Service()
    config = kubelet_files.read_config(layout)
    api = kubelet_client.KubeletApi.of(config) if ready else None
    before = service.state()
    pending = journals.Journal(journals.KUBELET_RESTART, state_dir)
    if pending.load() is None:
        pending.save({"files": []})
    proof = Proof(layout, service, api, before["pid"])
    service.restart(timeout)
    seen = proof.wait(timeout)
    pending.clear()
    return seen


class Proof:
    """Waits until a restarted kubelet is seen to work with the credential on disk.

    Seen are: another process than old_pid, begun after the restart (and so after the files were written); its healthz; and, asked
    with the kubelet's own credential, a lease renewed and a Ready condition reported after the restart.
    """

    def __init__(self, layout: Layout, service: Service, api: Optional[kubelet_client.KubeletApi], old_pid: int) -> None:
        self.layout, self.service, self.api, self.old_pid = layout, service, api, old_pid
        self.began = time.monotonic()
        self.since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.since = time.time()
        self.seen: Dict[str, Any] = {}

    def wait(self, deadline: float, interval: float = 0.1) -> Dict[str, Any]:
        """Poll until all is seen, for at most deadline seconds. Returns what was seen. Raises PkiError: what is missing."""
        while True:
            missing = self._look()
            passed = time.monotonic() - self.began
            if missing is None:
                return dict(self.seen, seconds=round(passed, 3))
            if passed >= deadline:
                complaint = self.service.complaint()
                raise PkiError(
                    "the kubelet of %s was restarted, and after %d s %s%s"
                    % (self.layout.node_name, deadline, missing, "; its journal says: " + complaint if complaint else ""),
                    fix="See `journalctl -u kubelet`; correct the cause and run again: the restart is still noted as due.",
                )
            time.sleep(min(interval, max(0.0, deadline - passed)))
            interval = min(interval * 1.3, 0.5)

    def _look(self) -> Optional[str]:
        return self._process() or self._healthz() or (self._node(self.api) if self.api else None)

    def _process(self) -> Optional[str]:
        state = self.service.state()
        pid = state["pid"]
        started = self.service.started(pid) if pid else None
        if state["active"] != "active" or started is None:
            return "its unit is %s (%s, %s)" % (state["active"], state["sub"], state["result"])
        if pid == self.old_pid or started < self.since_boot - 0.05:
            return "the old process %d still runs" % pid
        self.seen["pid"] = pid
        return None

    def _healthz(self) -> Optional[str]:
        url = kubelet_settings.healthz_url(self.layout)
        if url is None:
            return None
        try:
            status, body = http_client.http_get(url, timeout=3.0)
        except PkiError as error:
            return "its healthz cannot be asked (%s)" % error.message
        if status != 200:
            return "its healthz says HTTP %d" % status
        self.seen["healthz"] = body.decode("utf-8", "replace").strip()[:40]
        return None

    def _node(self, api: kubelet_client.KubeletApi) -> Optional[str]:
        trouble, seen = kubelet_client.node_state(api, self.layout.node_name, self.since, self.since)
        self.seen.update(seen)
        return trouble
