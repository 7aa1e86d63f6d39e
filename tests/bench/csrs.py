# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""csr_review over 200 pending requests on a real API, against kubectl: listed, judged by a policy, decided, in one run each.

What the module itself reports is measured, and kubectl on the same node: neither pays for ssh or Ansible.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.lab.lab import Lab

ROOT = Path(__file__).resolve().parents[2]
COUNT = 200
LABEL = "kubepki.io/bench"
KUBECTL = "kubectl --kubeconfig=/etc/kubernetes/admin.conf"
POLICY = """version: 1
rules:
  - {name: bench, signer: example.com/bench, requester: "*", common_name: "bench-*", usages: [client auth]}
"""


def review(inventory: str, host: str, **options) -> dict:
    """Run csr_review once over ssh and give its result. Raises RuntimeError when it fails."""
    environment = dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache"))
    options = {"kubeconfig": "/etc/kubernetes/admin.conf", "client": "builtin", "selector": LABEL + "=x", **options}
    command = [
        str(Path(sys.executable).parent / "ansible"),
        "-i",
        inventory,
        host,
        "-m",
        "kubepki.lifecycle.internal.csr_review",
        "-a",
        json.dumps(options),
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    begin = done.stdout.find("{")
    if done.returncode or begin < 0:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return json.loads(done.stdout[begin:])


def ask(lab: Lab, host: str, count: int = COUNT) -> None:
    """Make that many pending requests, each with a name of its own, for a signer that nobody is."""
    key = lab.directory / "bench.key"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(key)],
        check=True,
        capture_output=True,
    )
    items = []
    for number in range(count):
        pem = subprocess.run(
            ["openssl", "req", "-new", "-key", str(key), "-subj", "/CN=bench-%d" % number], check=True, capture_output=True
        ).stdout
        spec = {"request": base64.b64encode(pem).decode(), "signerName": "example.com/bench", "usages": ["client auth"]}
        items.append(
            {
                "apiVersion": "certificates.k8s.io/v1",
                "kind": "CertificateSigningRequest",
                "spec": spec,
                "metadata": {"name": "bench-%d" % number, "labels": {LABEL: "x"}},
            }
        )
    key.unlink()
    lab.run(host, "%s create -f - >/dev/null" % KUBECTL, stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


def seconds(lab: Lab, host: str, command: str) -> float:
    """How long a command takes on a node, by the node's own clock."""
    return float(
        lab.run(
            host, "s=$(date +%%s.%%N); %s >/dev/null; e=$(date +%%s.%%N); echo \"$e - $s\" | awk '{print $1 - $3}'" % command
        ).stdout
    )


def forget(lab: Lab, host: str) -> None:
    """Delete what ask() made."""
    lab.run(host, "%s delete csr -l %s=x >/dev/null" % (KUBECTL, LABEL))


def measure(lab: Lab, inventory: str, host: str = "cp1", count: int = COUNT) -> list[dict]:
    """Give the rows of the table that concern requests. kubectl makes two calls for each that it approves, and slows itself."""
    rows = []
    forget(lab, host)
    try:
        ask(lab, host, count)
        listed = review(inventory, host)
        theirs = seconds(lab, host, "%s get csr -l %s=x -o json" % (KUBECTL, LABEL))
        assert listed["counts"]["pending"] == count, listed["counts"]
        rows.append(
            row(
                "%d pending requests listed and decoded, %d API calls" % (count, listed["api_calls"]),
                "`kubectl get csr -o json`",
                listed["seconds"],
                theirs,
                None,
            )
        )
        decided = review(inventory, host, action="approve", policy=POLICY)
        assert decided["counts"]["approved_now"] == count, decided["counts"]
        forget(lab, host)
        ask(lab, host, count)
        names = " ".join("bench-%d" % number for number in range(count))
        theirs = seconds(lab, host, "%s certificate approve %s" % (KUBECTL, names))
        rows.append(
            row(
                "%d requests judged by a policy and approved, %d API calls" % (count, decided["api_calls"]),
                "`kubectl certificate approve` of all of them",
                decided["seconds"],
                theirs,
                1.0,
            )
        )
    finally:
        forget(lab, host)
    return rows


def row(work: str, against: str, ours: float, theirs: float, target: float | None) -> dict:
    return {"work": work, "against": against, "ours": ours, "theirs": theirs, "ratio": ours / theirs, "target": target}


if __name__ == "__main__":
    found = Lab(sys.argv[1], 1, 1).up()
    path = found.directory / "inventory.ini"
    path.write_text(found.inventory())
    for one in measure(found, str(path), *sys.argv[2:3]):
        print(json.dumps(one), flush=True)
