# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let the certificates of a lab expire for real: every one is signed again, for the same key, to end in some seconds."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence

from .lab import Lab

# Runs on a node, with its own Python and nothing of the collection: what is under test must not prepare its test.
_ON_NODE = r"""
import base64, datetime, glob, json, os, re, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

options = json.loads(sys.argv[1])
END = datetime.datetime.utcfromtimestamp(options["end"])
BEGIN = END - datetime.timedelta(days=1)
PKI = "/etc/kubernetes/pki/"
PEM = serialization.Encoding.PEM


def load(path):
    return x509.load_pem_x509_certificate(open(path, "rb").read())


def key_of(path):
    return serialization.load_pem_private_key(open(path, "rb").read(), None)


def again(old, issuer, key):
    builder = x509.CertificateBuilder(old.issuer, old.subject, old.public_key(), x509.random_serial_number(), BEGIN, END)
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(key, hashes.SHA256()).public_bytes(PEM)


def put(path, data):
    with open(path, "wb") as handle:  # in place: mode and owner stay
        handle.write(data)


CAS = {"ca": "ca", "front-proxy-ca": "front-proxy-ca", "etcd-ca": "etcd/ca"}
given = options.get("cas")
if options["what"] == "make-cas":
    made = {name: again(load(PKI + stem + ".crt"), None, key_of(PKI + stem + ".key")).decode() for name, stem in CAS.items()}
    json.dump(made, sys.stdout)
    sys.exit()
if given:
    for name, stem in CAS.items():
        if os.path.exists(PKI + stem + ".crt"):
            put(PKI + stem + ".crt", given[name].encode())
    inside = base64.b64encode(given["ca"].encode()).decode()
    for path in glob.glob("/etc/kubernetes/*.conf"):
        text = open(path).read()
        put(path, re.sub(r"(certificate-authority-data: )\S+", lambda match: match.group(1) + inside, text).encode())
if options["what"] == "kubelet-request":
    path = os.path.realpath("/var/lib/kubelet/pki/kubelet-client-current.pem")
    print(open(path).read().split("-----BEGIN EC")[0].split("-----BEGIN RSA")[0])
    sys.exit()
if options["what"] == "sign":
    print(again(x509.load_pem_x509_certificate(options["certificate"].encode()), None, key_of(PKI + "ca.key")).decode())
    sys.exit()
if options.get("kubelet"):
    path = os.path.realpath("/var/lib/kubelet/pki/kubelet-client-current.pem")
    key = re.search("-----BEGIN [A-Z ]*PRIVATE KEY-----.*", open(path).read(), re.S).group()
    put(path, (options["kubelet"] + key).encode())
if options["what"] == "all" and os.path.exists(PKI + "ca.key"):
    for path in glob.glob(PKI + "*.crt") + glob.glob(PKI + "etcd/*.crt"):
        if os.path.basename(path) not in ("ca.crt", "front-proxy-ca.crt"):
            signer = "etcd/ca" if "/etcd/" in path or "etcd-client" in path else \
                "front-proxy-ca" if "front-proxy" in path else "ca"
            put(path, again(load(path), None, key_of(PKI + signer + ".key")))
    for path in glob.glob("/etc/kubernetes/*.conf"):
        if os.path.basename(path) in ("kubelet.conf", "bootstrap-kubelet.conf"):
            continue
        text = open(path).read()
        old = base64.b64decode(re.search(r"client-certificate-data: (\S+)", text).group(1))
        new = base64.b64encode(again(x509.load_pem_x509_certificate(old), None, key_of(PKI + "ca.key"))).decode()
        put(path, re.sub(r"(client-certificate-data: )\S+", lambda match: match.group(1) + new, text).encode())
"""

PODS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd")
# Ends what holds an old file; in the node's own process namespace, so nothing of this machine is seen.
_END = "for name in %s; do for pid in $(pidof $name); do kill -9 $pid; done; done; true" % " ".join(PODS)


def on_node(lab: Lab, node: str, **options: object) -> str:
    """Run the script on a node and give what it prints."""
    return lab.run(node, "python3 - " + shlex.quote(json.dumps(options)), stdin=_ON_NODE).stdout


def rewrite(lab: Lab, nodes: Sequence[str], end: float, cas: bool = False, kubelets: bool = True) -> None:
    """Sign every certificate of some nodes again, for its own key, to end at ``end`` (seconds since 1970), a day after it begins.

    cas: the three CAs too, on all nodes; the kubeconfigs then hold them as well. Nothing is restarted.
    """
    given = json.loads(on_node(lab, "cp1", what="make-cas", end=end)) if cas else None
    for node in nodes:
        certificate = on_node(lab, node, what="kubelet-request", end=end)
        signed = on_node(lab, "cp1", what="sign", end=end, certificate=certificate)
        on_node(lab, node, what="all", end=end, cas=given, kubelet=signed if kubelets else "")


def cold(lab: Lab, nodes: Sequence[str], cas: bool = False, seconds: float = 15) -> None:
    """What a cluster is like that was switched off for too long, and on again: nothing that holds a valid file runs."""
    for node in lab.addresses if cas else nodes:
        lab.run(node, "systemctl stop kubelet; " + _END)
    end = time.time() + seconds
    rewrite(lab, nodes, end, cas)
    wait_until(end)
    for node in lab.addresses if cas else nodes:
        # A kubelet that ends at once is what this is about, so systemctl must not wait for it.
        lab.run(node, "systemctl start --no-block kubelet")


def lapse(lab: Lab, nodes: Sequence[str], seconds: float = 45) -> None:
    """What a cluster is like whose certificates end while it runs: all processes live, and nobody accepts anybody."""
    end = time.time() + seconds
    rewrite(lab, nodes, end)
    for node in nodes:
        if node in lab.control_planes:
            lab.run(node, _END)  # the running kubelet starts them with what now lies on the disk
    wait_until(end + 1)


def wait_until(moment: float) -> None:
    """Wait for a moment of this machine's clock, which the nodes share."""
    while time.time() < moment:
        time.sleep(0.1)


def answers(lab: Lab) -> bool:
    """Whether the API answers an administrator, as anyone would ask it."""
    try:
        return (
            lab.run(
                "cp1", "kubectl --kubeconfig /etc/kubernetes/admin.conf --request-timeout 3s get nodes", check=False
            ).returncode
            == 0
        )
    except OSError:
        return False
