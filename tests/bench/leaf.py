# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""cert_leaf renewing all leaves of a node against generating and signing the same keys in one process, in turn.

    python -m tests.bench.leaf               on a throw-away node of this machine

Both start a Python of their own; ours also reads the node, makes a backup set, writes and reads back.
"""

from __future__ import annotations

import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 7
TARGET = 1.3

# What nobody can save: the keys one after the other, and a signature for each.
FLOOR = """
import datetime, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
ca = x509.load_pem_x509_certificate(open(sys.argv[1], "rb").read())
ca_key = serialization.load_pem_private_key(open(sys.argv[2], "rb").read(), None)
now = datetime.datetime.now(datetime.timezone.utc)
for number in range(int(sys.argv[3])):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "leaf %d" % number)])
    certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(ca.subject).public_key(key.public_key())
                   .serial_number(x509.random_serial_number()).not_valid_before(now)
                   .not_valid_after(now + datetime.timedelta(days=365)).sign(ca_key, hashes.SHA256()))
    certificate.public_bytes(serialization.Encoding.PEM)
    key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
"""


def node(folder: Path) -> dict:
    """Make a throw-away node with RSA keys and give the module's options for it."""
    runpy.run_path(str(ROOT / "tests" / "unit" / "conftest.py"))  # makes the collection importable for throwaway
    from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, private_keys

    from tests.unit.support import throwaway

    cluster = throwaway.Cluster()
    for name in ("ca", "front-proxy-ca", "etcd-ca"):
        cluster.keys[name] = private_keys.generate_key("rsa-2048")
        cluster.cas[name] = ca_sign.build_ca(name, cluster.keys[name], 3650)
    made = throwaway.Node(folder / "root", cluster)
    for path in made.kubernetes("manifests").iterdir():
        path.write_text(path.read_text().replace("/etc/kubernetes", str(made.kubernetes(""))))
    return {
        "kubernetes_dir": str(made.kubernetes("")),
        "kubelet_dir": str(made.path("/var/lib/kubelet")),
        "force": True,
        "key_type": "rsa-2048",
        "state_dir": str(folder / "state"),
        "backup_dir": str(folder / "backups"),
    }


def timed(command: list[str], **options) -> tuple[float, str]:
    """Run a command: gives (seconds, standard output)."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, **options)
    return time.perf_counter() - started, done.stdout


def measure(rounds: int = ROUNDS) -> dict:
    """Give {"work", "against", "ours", "theirs", "ratio", "target"}: medians in seconds."""
    module = "ansible_collections.kubepki.lifecycle.plugins.modules.cert_leaf"
    environment = dict(os.environ, PYTHONPATH=str(ROOT / ".cache"))
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as name:
        wish = node(Path(name))
        request = json.dumps({"ANSIBLE_MODULE_ARGS": wish})
        pki = Path(wish["kubernetes_dir"], "pki")
        for _round in range(rounds):
            seconds, output = timed([sys.executable, "-m", module], input=request, env=environment)
            renewed = [row for row in json.loads(output)["leaves"] if row["action"] == "renewed"]
            ours.append(seconds)
            theirs.append(timed([sys.executable, "-c", FLOOR, str(pki / "ca.crt"), str(pki / "ca.key"), str(len(renewed))])[0])
    # RSA keys take as long as it takes to find primes: only the sum over many says something.
    return {
        "work": "cert_leaf renewing %d leaves" % len(renewed),
        "against": "making and signing the same keys in one process",
        "ours": statistics.mean(ours),
        "theirs": statistics.mean(theirs),
        "ratio": sum(ours) / sum(theirs),
        "target": TARGET,
    }


if __name__ == "__main__":
    print(json.dumps(measure()))
