# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real cluster whose CA key was carried away: renewed by hand, by a command, and by a signer behind the Certificates API."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.lab import Lab
from tests.lab.playbook import CHECKOUT, Outcome, play

from .conftest import snapshot
from .test_requests import module

sys.path.insert(0, str(CHECKOUT / ".cache"))

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import (
    csr_read,
    private_keys,
    x509_read,
    x509_sign,  # noqa: E402
)

pytestmark = pytest.mark.timeout(1800)
KEYS = {
    "ca": "/etc/kubernetes/pki/ca.key",
    "front-proxy-ca": "/etc/kubernetes/pki/front-proxy-ca.key",
    "etcd-ca": "/etc/kubernetes/pki/etcd/ca.key",
}
CERTIFICATES = {name: path[:-3] + "crt" for name, path in KEYS.items()}
PAIRS = {
    "apiserver": "ca",
    "apiserver-kubelet-client": "ca",
    "front-proxy-client": "front-proxy-ca",
    "apiserver-etcd-client": "etcd-ca",
    "etcd/server": "etcd-ca",
    "etcd/peer": "etcd-ca",
    "etcd/healthcheck-client": "etcd-ca",
}
FLAGS = {"--cluster-signing-cert-file": CERTIFICATES["ca"], "--cluster-signing-key-file": KEYS["ca"]}
CONFIGS = ("admin.conf", "controller-manager.conf", "scheduler.conf")
CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
SIGN = "openssl x509 -req -in {request} -CA {dir}/ca/{ca}.crt -CAkey %s/{ca}.key -days {days} -copy_extensions copyall"


@pytest.fixture(scope="module")
def cluster():
    """A small cluster of its own: the keys of its authorities are taken away, and with them the flags that name them."""
    lab = Lab(os.environ.get("LAB", "test") + "-external", 1, 1).up()
    module(
        lab,
        "cp1",
        "static_pod_restart",
        names=["kube-controller-manager"],
        edits={"kube-controller-manager": dict.fromkeys(FLAGS)},
    )
    yield lab
    module(lab, "cp1", "static_pod_restart", names=["kube-controller-manager"], edits={"kube-controller-manager": FLAGS})
    if not os.environ.get("KUBEPKI_KEEP_LAB"):
        lab.down()


@pytest.fixture
def vault(cluster, tmp_path) -> Iterator[Path]:
    """A folder with the keys of all authorities, which are not on the node meanwhile, and are put back afterwards."""
    folder = tmp_path / "vault"
    folder.mkdir(mode=0o700)
    for name, path in KEYS.items():
        (folder / (name + ".key")).write_text(cluster.run("cp1", ["cat", path]).stdout)
    try:
        cluster.run("cp1", ["rm", *KEYS.values()])
        yield folder
    finally:
        for name, path in KEYS.items():
            cluster.run("cp1", ["tee", path], stdin=(folder / (name + ".key")).read_text())
            cluster.run("cp1", ["chmod", "0600", path])


def verify(lab: Lab) -> dict[str, str]:
    """openssl on the node about every leaf; gives {name: serial}."""
    script = []
    for name, ca in PAIRS.items():
        crt, key = "/etc/kubernetes/pki/%s.crt" % name, "/etc/kubernetes/pki/%s.key" % name
        script += [
            "openssl verify -CAfile %s %s >/dev/null" % (CERTIFICATES[ca], crt),
            'test "$(openssl x509 -in %s -noout -pubkey)" = "$(openssl pkey -in %s -pubout)"' % (crt, key),
            "echo %s $(openssl x509 -in %s -noout -serial)" % (name, crt),
        ]
    # super-admin.conf: from 1.29 on.
    there = lab.run("cp1", "cd /etc/kubernetes && ls %s super-admin.conf 2>/dev/null; true" % " ".join(CONFIGS)).stdout.split()
    for name in there:
        field = "sed -n 's/.*client-%s-data: //p' /etc/kubernetes/" + name + " | base64 -d > /tmp/%s.pem"
        script += [
            field % ("certificate", "crt"),
            field % ("key", "key"),
            "openssl verify -CAfile %s /tmp/crt.pem >/dev/null" % CERTIFICATES["ca"],
            'test "$(openssl x509 -in /tmp/crt.pem -noout -pubkey)" = "$(openssl pkey -in /tmp/key.pem -pubout)"',
            "echo %s $(openssl x509 -in /tmp/crt.pem -noout -serial)" % name,
            "rm -f /tmp/crt.pem /tmp/key.pem",
        ]
    done = lab.run("cp1", "set -e\n" + "\n".join(script))
    return dict(line.split(" serial=") for line in done.stdout.splitlines())


def served(lab: Lab) -> str:
    """The serial of what the API server serves."""
    done = lab.run(
        "cp1", "openssl s_client -connect %s:6443 </dev/null 2>/dev/null | openssl x509 -noout -serial" % lab.addresses["cp1"]
    )
    return done.stdout.strip().partition("serial=")[2]


def renew(lab: Lab, bundle: Path, *arguments: str, **variables) -> Outcome:
    wanted = {"kubepki_external_ca_dir": bundle, "kubepki_force": "true", **variables}
    return play(lab, "renew_leaves", wanted, *arguments)


def finished(lab: Lab, bundle: Path, before: dict[str, str], outcome: Outcome) -> None:
    """Everything is new, is served, and a second run has nothing to do."""
    after = verify(lab)
    assert set(after) == set(before) and not {name for name in after if after[name] == before[name]}
    assert outcome.artifact["requested"] == 0 and outcome.artifact["renewed"] == len(after)
    assert served(lab) == after["apiserver"]
    assert lab.run("cp1", "ls /var/lib/kubepki/requests").stdout == ""
    assert json.loads((bundle / "manifest.json").read_text())["requests"] == []
    for path in KEYS.values():
        assert lab.run("cp1", ["test", "-e", path], check=False).returncode != 0
    again = renew(lab, bundle, kubepki_force="false").require_success()
    assert set(again.changed.values()) == {0} and verify(lab) == after


def test_without_a_way_it_is_said_and_nothing_is_changed(cluster, vault):
    before = snapshot(cluster, "cp1")
    outcome = play(cluster, "renew_leaves", {"kubepki_force": "true"})
    assert outcome.code != 0 and "managed elsewhere" in outcome.output and "kubepki_external_ca_dir" in outcome.output
    assert snapshot(cluster, "cp1") == before and outcome.artifact["state"] == "failed"


def test_by_hand(cluster, vault, tmp_path):
    bundle, before, files = tmp_path / "bundle", verify(cluster), snapshot(cluster, "cp1")
    planned = renew(cluster, bundle, "--check").require_success()
    assert not bundle.exists() and snapshot(cluster, "cp1") == files and planned.artifact["requested"] == len(before)
    first = renew(cluster, bundle).require_success()
    assert first.artifact["state"] == "warning" and first.artifact["requested"] == len(before) and first.artifact["renewed"] == 0
    assert snapshot(cluster, "cp1") == files
    second = renew(cluster, bundle).require_success()
    assert set(second.changed.values()) == {0} and second.artifact["requested"] == len(before)
    manifest = json.loads((bundle / "manifest.json").read_text())["requests"]
    assert len(manifest) == len(before)
    for entry in manifest[:-1]:
        sign_by_hand(bundle, entry, vault)
    partial = renew(cluster, bundle)
    assert partial.code != 0 and manifest[-1]["certificate"] in partial.output and snapshot(cluster, "cp1") == files
    sign_by_hand(bundle, manifest[-1], vault)
    finished(cluster, bundle, before, renew(cluster, bundle).require_success())


def sign_by_hand(bundle: Path, entry: dict, vault: Path) -> None:
    """The command that README.txt in the bundle shows."""
    (bundle / entry["certificate"]).parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            "openssl",
            "x509",
            "-req",
            "-in",
            entry["request"],
            "-out",
            entry["certificate"],
            "-CA",
            "ca/%s.crt" % entry["ca"],
            "-CAkey",
            str(vault / (entry["ca"] + ".key")),
            "-days",
            "200",
            "-copy_extensions",
            "copyall",
        ],
        cwd=bundle,
        check=True,
        capture_output=True,
    )


def test_by_a_command(cluster, vault, tmp_path):
    bundle, before, files = tmp_path / "bundle", verify(cluster), snapshot(cluster, "cp1")
    wrong = renew(cluster, bundle, kubepki_external_ca_command="false {request}")
    assert wrong.code != 0 and "exited with 1" in wrong.output and snapshot(cluster, "cp1") == files
    outcome = renew(cluster, bundle, kubepki_external_ca_command=SIGN % vault).require_success()
    finished(cluster, bundle, before, outcome)


def test_through_the_api(cluster, vault, tmp_path):
    """The signer is this test: a controller that signs what is approved for example.com/..."""
    bundle, before = tmp_path / "bundle", verify(cluster)
    pending = renew(
        cluster, bundle, kubepki_external_ca_signer="example.com/{ca}", kubepki_external_ca_approve="false"
    ).require_success()
    assert pending.artifact["requested"] == len(before)
    items = json.loads(cluster.kubectl("get", "csr", "-o", "json", "-l", "kubepki.io/kind=external-ca"))["items"]
    assert len(items) == len(before) and {item["spec"]["signerName"] for item in items} == {"example.com/" + ca for ca in KEYS}
    ended = threading.Event()
    signer = threading.Thread(target=sign_approved, args=(cluster, vault, ended))
    signer.start()
    try:
        outcome = renew(cluster, bundle, kubepki_external_ca_signer="example.com/{ca}", kubepki_external_ca_seconds="120")
    finally:
        ended.set()
        signer.join()
    finished(cluster, bundle, before, outcome.require_success())
    assert len(json.loads(cluster.kubectl("get", "csr", "-o", "json"))["items"]) >= len(before)
    cluster.kubectl("delete", "csr", "-l", "kubepki.io/kind=external-ca")


def sign_approved(lab: Lab, vault: Path, ended: threading.Event) -> None:
    """Sign every approved request of the signers example.com/AUTHORITY until told to end."""
    keys = {ca: private_keys.parse_private_key((vault / (ca + ".key")).read_bytes()) for ca in KEYS}
    authorities = {ca: x509_read.parse_certificate(lab.run("cp1", ["cat", CERTIFICATES[ca]]).stdout.encode()) for ca in KEYS}
    while not ended.wait(0.5):
        for item in json.loads(lab.kubectl("get", "csr", "-o", "json", check=False) or "{}").get("items", []):
            status, ca = item.get("status", {}), item["spec"]["signerName"].partition("example.com/")[2]
            if ca not in keys or status.get("certificate") or not status.get("conditions"):
                continue
            request = csr_read.parse_request(base64.b64decode(item["spec"]["request"]))
            leaf = x509_sign.sign_leaf(x509_sign.Profile.of(request), request, authorities[ca], keys[ca], 100)
            status["certificate"] = base64.b64encode(leaf.pem).decode()
            lab.kubectl("replace", "--raw", "%s/%s/status" % (CSRS, item["metadata"]["name"]), "-f", "-", stdin=json.dumps(item))
