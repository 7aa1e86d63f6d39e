# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report of a made-up cluster, and its page as a browser shows it. As a program: docs/images/report.png (`make picture`)."""

from __future__ import annotations

import copy
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

importlib.import_module("conftest")  # makes the library importable, also for the program

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import node_report
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import cluster_report, report_html

from tests.unit.support import throwaway

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
NODES = (
    ("cp1", "control-plane"),
    ("cp2", "control-plane"),
    ("cp3", "control-plane"),
    ("worker1", "worker"),
    ("worker2", "worker"),
)
SERVED = {"apiserver", "etcd-server", "etcd-peer", "kubelet-serving"}


def sample(folder, workers=0):
    """Give the report of three control-plane nodes and two workers, or more, in which much is wrong. folder: for their files."""
    cluster = throwaway.Cluster(leaf_days=365.1, ca_days=3650.1)
    made = {
        name: throwaway.Node(Path(folder) / name, cluster, name, f"10.0.0.{number}", role, minor=34)
        for number, (name, role) in enumerate(NODES, 11)
    }
    made["cp2"].issue("etcd-peer", days=4)
    made["cp2"].issue("apiserver", days=19)
    made["cp3"].issue("scheduler.conf", days=-2)
    manifest = made["cp2"].kubernetes("manifests/kube-apiserver.yaml")
    made["cp2"].write("/etc/kubernetes/manifests/kube-apiserver.yaml.bak", manifest.read_bytes())
    made["cp3"].kubernetes("pki/etcd/ca.key").unlink()
    made["worker1"].path("/var/lib/kubelet/pki/kubelet.key").chmod(0o644)
    nodes = {}
    for name, node in made.items():
        read = node_report.read("/etc/kubernetes", "/var/lib/kubelet", live=False, root=str(node.root), owner=os.getuid())
        nodes[name] = json.loads(json.dumps(read).replace(str(node.root), ""))
    for name, node in nodes.items():
        for row in node["certificates"]:
            row["served_sha256"] = row["sha256"] if row["name"] in SERVED and row["kind"] != catalogue.CA else None
            if row["name"] == "apiserver" and name == "cp1":
                row["sans"] += [f"DNS:api-{number}.a-zone-with-a-long-name.example.net" for number in range(60)]
    for number in range(3, workers + 1):
        nodes[f"worker{number}"] = copy.deepcopy(nodes["worker2"])
    return cluster_report.build(nodes, {"worker-rack-7.a-zone-with-a-long-name.example.net": "did not answer"} if workers else {})


def browse(page, *options):
    """Run Chromium without a screen on a file, with a profile of its own that is gone afterwards. Gives its output."""
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [
                CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-sync",
                "--disable-background-networking",
                "--disable-component-update",
                "--hide-scrollbars",
                f"--user-data-dir={profile}",
                *options,
                Path(page).resolve().as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout


def main(target):
    """Write the picture of the sample's page."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        page.write_text(report_html.page(sample(folder)))
        browse(page, f"--screenshot={Path(target).resolve()}", "--window-size=1180,1330")


if __name__ == "__main__":
    main(*sys.argv[1:])
