# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""cert_leaf renewing all leaves of a node against the same work in a loop of community.crypto's modules, on the same node.

community.crypto comes from the `ansible` package of the Python index, in an environment of its own below .cache: the collection
itself needs neither.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEER = ROOT / ".cache/peer"
# What a node has: file, authority, common name, usages. SANs are left out: they cost nothing.
LEAVES = [
    ("apiserver", "ca", "kube-apiserver", ["serverAuth"]),
    ("apiserver-kubelet-client", "ca", "kube-apiserver-kubelet-client", ["clientAuth"]),
    ("front-proxy-client", "front-proxy-ca", "front-proxy-client", ["clientAuth"]),
    ("apiserver-etcd-client", "etcd/ca", "kube-apiserver-etcd-client", ["clientAuth"]),
    ("etcd-server", "etcd/ca", "cp", ["serverAuth", "clientAuth"]),
    ("etcd-peer", "etcd/ca", "cp", ["serverAuth", "clientAuth"]),
    ("etcd-healthcheck-client", "etcd/ca", "kube-etcd-healthcheck-client", ["clientAuth"]),
    ("admin", "ca", "kubernetes-admin", ["clientAuth"]),
    ("controller-manager", "ca", "system:kube-controller-manager", ["clientAuth"]),
    ("scheduler", "ca", "system:kube-scheduler", ["clientAuth"]),
]
SCRATCH = "/var/lib/kubepki-bench"


def collections() -> Path:
    """The directory of collections of the `ansible` package, installed without its dependencies."""
    if not (PEER / "done").exists():
        venv.create(PEER, with_pip=True, clear=True)
        pip = [str(PEER / "bin/pip"), "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--no-deps", "ansible"], check=True)
        (PEER / "done").touch()
    return next((PEER / "lib").glob("python*/site-packages"))


def tasks() -> list[dict]:
    """Key, request, certificate of each leaf; the kubeconfigs would need one task more each, which is given to them."""
    found: list[dict] = [{"ansible.builtin.file": {"path": SCRATCH, "state": "directory", "mode": "0700"}}]
    for name, authority, common_name, usages in LEAVES:
        base, signer = "%s/%s" % (SCRATCH, name), "/etc/kubernetes/pki/%s" % authority
        found += [
            {"community.crypto.openssl_privatekey": {"path": base + ".key", "size": 2048, "force": True}},
            {
                "community.crypto.openssl_csr": {
                    "path": base + ".csr",
                    "privatekey_path": base + ".key",
                    "common_name": common_name,
                    "extended_key_usage": usages,
                    "key_usage": ["digitalSignature", "keyEncipherment"],
                }
            },
            {
                "community.crypto.x509_certificate": {
                    "path": base + ".crt",
                    "csr_path": base + ".csr",
                    "provider": "ownca",
                    "force": True,
                    "ownca_path": signer + ".crt",
                    "ownca_privatekey_path": signer + ".key",
                }
            },
        ]
    return found


def run(inventory: str, host: str, work: list[dict], path: str) -> float:
    """Run tasks as one play; gives seconds."""
    playbook = ROOT / ".cache/bench-play.json"
    playbook.write_text(json.dumps([{"hosts": host, "gather_facts": False, "tasks": work}]))
    began = time.perf_counter()
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", inventory, str(playbook)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=dict(os.environ, ANSIBLE_COLLECTIONS_PATH=path),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    seconds = time.perf_counter() - began
    if done.returncode or not re.search(r"failed=0", done.stdout):
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return seconds


def measure(inventory: str, host: str) -> dict:
    """Give {"work", "against", "ours", "theirs", "ratio", "target"}: seconds of a play each. The issue's target counts tasks."""
    theirs = tasks()
    clean = [{"ansible.builtin.file": {"path": SCRATCH, "state": "absent"}}]
    both = "%s:%s" % (ROOT / ".cache", collections())
    try:
        slow = run(inventory, host, theirs, both)
    finally:
        run(inventory, host, clean, both)
    fast = run(inventory, host, [{"kubepki.lifecycle.cert_leaf": {"force": True}}], both)
    return {
        "work": "cert_leaf renewing all leaves of a node: 1 task",
        "ours": fast,
        "theirs": slow,
        "ratio": fast / slow,
        "against": "a loop of community.crypto modules: %d tasks (target: at least 10)" % len(theirs),
        "target": None,
    }
