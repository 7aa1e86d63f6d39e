# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real cluster whose etcd is a service on a host of its own, below an authority whose key no node has."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.lab import cluster as clusters
from tests.lab.errors import LabError
from tests.lab.lab import Lab
from tests.lab.playbook import CHECKOUT, Outcome, play
from tests.lab.rootfs import STORE
from tests.lab.shell import wait_for

from .conftest import snapshot

sys.path.insert(0, str(CHECKOUT / ".cache"))

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, private_keys, x509_sign  # noqa: E402

pytestmark = pytest.mark.timeout(1800)
ROTATED = ("ca", "front-proxy-ca", "sa")
MANIFESTS = "/etc/kubernetes/manifests"
PKI = "/etc/kubernetes/pki"
#: What the apiservers connect to etcd with; whoever runs etcd gave it to them.
ETCDS_OWN = ("pki/etcd/ca.crt", "pki/apiserver-etcd-client.crt", "pki/apiserver-etcd-client.key")
CERTIFICATES = {"ca": "ca.crt", "front-proxy-ca": "front-proxy-ca.crt", "sa": "sa.pub"}
UNIT_FILE = "/etc/systemd/system/etcd-outside.service"
UNIT = """\
[Unit]
Description=etcd outside of Kubernetes
[Service]
Type=notify
ExecStart=/{store}/etcd --name=w1 --data-dir=/run/etcd --listen-client-urls=https://{address}:2379 \\
 --advertise-client-urls=https://{address}:2379 --listen-peer-urls=https://{address}:2380 --client-cert-auth \\
 --cert-file=/etc/etcd/server.crt --key-file=/etc/etcd/server.key --trusted-ca-file=/etc/etcd/ca.crt --peer-client-cert-auth \\
 --peer-cert-file=/etc/etcd/server.crt --peer-key-file=/etc/etcd/server.key --peer-trusted-ca-file=/etc/etcd/ca.crt
Restart=always
[Install]
WantedBy=multi-user.target
"""


@pytest.fixture(scope="module")
def cluster():
    """A small cluster of its own, whose etcd was moved from its two control-plane nodes to the worker, as a service."""
    lab = Lab(os.environ.get("LAB", "test") + "-external-etcd", 2, 1)
    # A lab that was kept is no longer what the lab itself would call healthy.
    if not (lab.exists() and lab.path("w1", UNIT_FILE).exists()):
        lab.up()
        move_etcd(lab)
    wait_whole(lab)
    yield lab
    if not os.environ.get("KUBEPKI_KEEP_LAB"):
        lab.down()


@pytest.fixture(scope="module")
def with_etcd(cluster) -> tuple[str, str]:
    """Arguments that add the group etcd to the inventory."""
    path = cluster.directory / "etcd.ini"
    path.write_text("[etcd]\nw1\n")
    return "-i", str(path)


def put(lab: Lab, node: str, path: str, data: bytes, mode: int = 0o600) -> None:
    place = lab.path(node, path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    place.chmod(mode)


def until_gone(lab: Lab, node: str, program: str) -> None:
    wait_for(
        lambda: lab.run(node, ["pgrep", "-x", program], check=False).stdout.strip() or None,
        seconds=90,
        failure=lambda seen: LabError(f"{program} still runs (pid {seen})", node=node),
    )


def move_etcd(lab: Lab) -> None:
    """Stop the apiservers, restore etcd's data on w1 below another authority, and let the apiservers go there."""
    address, key = lab.addresses["w1"], private_keys.generate_key("ecdsa-p256")
    authority = ca_sign.build_ca("etcd of another team", key, 3650)

    def issue(name: str, sans=()) -> tuple[bytes, bytes]:
        own = private_keys.generate_key("ecdsa-p256")
        profile = x509_sign.Profile(name, sans=list(sans), extended_usages=("server", "client") if sans else ("client",))
        return x509_sign.sign_leaf(profile, own, authority, key, 365.0).pem, own.pem

    for name in lab.control_planes:
        lab.run(name, f"mv {MANIFESTS}/kube-apiserver.yaml /root/")
        until_gone(lab, name, "kube-apiserver")
    lab.run(
        "cp1",
        f"ETCDCTL_API=3 /{STORE}/etcdctl --endpoints=https://127.0.0.1:2379 --cacert={PKI}/etcd/ca.crt "
        f"--cert={PKI}/etcd/server.crt --key={PKI}/etcd/server.key snapshot save /root/etcd.db",
    )
    for name in lab.control_planes:
        lab.run(name, f"rm {MANIFESTS}/etcd.yaml")
        until_gone(lab, name, "etcd")
        lab.run(name, f"rm -r {PKI}/etcd /var/lib/etcd/*")

    shutil.copyfile(lab.path("cp1", "/root/etcd.db"), lab.path("w1", "/root/etcd.db"))
    server = issue("w1", ["DNS:w1", f"IP:{address}"])
    for path, data in (("ca.crt", authority.pem), ("server.crt", server[0]), ("server.key", server[1])):
        put(lab, "w1", "/etc/etcd/" + path, data)
    put(lab, "w1", UNIT_FILE, UNIT.format(store=STORE, address=address).encode(), 0o644)
    lab.run(
        "w1",
        f"ETCDCTL_API=3 /{STORE}/etcdctl snapshot restore /root/etcd.db --name w1 --data-dir /run/etcd "
        f"--initial-cluster w1=https://{address}:2380 --initial-advertise-peer-urls https://{address}:2380",
    )
    lab.run("w1", "systemctl daemon-reload && systemctl enable --now etcd-outside.service")

    for name in lab.control_planes:
        certificate, private = issue("kube-apiserver-etcd-client")
        for path, data in zip(ETCDS_OWN, (authority.pem, certificate, private)):
            put(lab, name, "/etc/kubernetes/" + path, data, 0o600 if path.endswith("key") else 0o644)
        lab.run(
            name,
            f"sed -i 's#--etcd-servers=.*#--etcd-servers=https://{address}:2379#' /root/kube-apiserver.yaml && "
            f"mv /root/kube-apiserver.yaml {MANIFESTS}/",
        )
    wait_whole(lab)
    declare_external(lab, address)


def declare_external(lab: Lab, address: str) -> None:
    """Tell kubeadm: what it would upgrade and renew is read from its ConfigMap."""
    document = json.loads(lab.kubectl("-n", "kube-system", "get", "configmap", "kubeadm-config", "-o", "json"))
    configuration = yaml.safe_load(document["data"]["ClusterConfiguration"])
    configuration["etcd"] = {
        "external": {
            "endpoints": [f"https://{address}:2379"],
            "caFile": f"{PKI}/etcd/ca.crt",
            "certFile": f"{PKI}/apiserver-etcd-client.crt",
            "keyFile": f"{PKI}/apiserver-etcd-client.key",
        }
    }
    document["data"]["ClusterConfiguration"] = yaml.safe_dump(configuration)
    lab.kubectl("replace", "-f", "-", stdin=json.dumps(document))


def wait_whole(lab: Lab) -> None:
    """Every apiserver and every node, without etcd, which the lab looks for on the control-plane nodes."""
    wait_for(
        lambda: "; ".join(text for text in clusters.problems(lab) if "etcd" not in text) or None,
        seconds=240,
        interval=0.5,
        failure=lambda seen: LabError(f"the cluster is not whole: {seen}"),
    )


def served(lab: Lab, node: str) -> str:
    """The serial of what a node's apiserver serves."""
    done = lab.run(
        "cp1", f"openssl s_client -connect {lab.addresses[node]}:6443 </dev/null 2>/dev/null | openssl x509 -noout -serial"
    )
    return done.stdout.strip()


def digests(lab: Lab, paths) -> dict[str, list[str]]:
    """SHA-256 of files below /etc/kubernetes, by path, of every control-plane node."""
    return {path: [snapshot(lab, name)["/etc/kubernetes/" + path][0] for name in lab.control_planes] for path in paths}


class Asking:
    """A client that asks the API four times a second through the balancer while a job runs."""

    def __init__(self, lab: Lab):
        self.lab, self.asked, self._ended = lab, 0, threading.Event()
        self.failed: list[str] = []
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def _ask(self) -> None:
        while not self._ended.wait(0.25):
            self.asked += 1
            try:
                status = self.lab.api("/api/v1/namespaces/default")[0]
                if status != 200:
                    self.failed.append(f"HTTP {status}")
            except (OSError, ValueError) as exc:
                self.failed.append(str(exc))

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ended.set()
        self._thread.join()
        print(f"{len(self.failed)} of {self.asked} requests failed: {self.failed[:5]}")


def rotate(lab: Lab, phase: str, *arguments: str, **variables: str) -> Outcome:
    return play(lab, "rotate_ca", {"kubepki_phase": phase, "kubepki_confirm": "true", **variables}, *arguments)


def test_the_report_knows_whose_etcd_it_is(cluster, with_etcd, tmp_path):
    for inventory in ((), with_etcd):
        outcome = play(cluster, "check_expiry", {"kubepki_report_dir": tmp_path}, *inventory).require_success()
        report = json.loads((tmp_path / "report.json").read_text())
        for name in cluster.control_planes:
            rows = {row["name"]: row for row in report["nodes"][name]["certificates"]}
            assert {row for row in rows if rows[row]["externally_managed"]} == {"apiserver-etcd-client", "etcd-ca"}
            assert not {"etcd-server", "etcd-peer", "etcd-healthcheck-client"} & set(rows)
        assert {item["severity"] for node in report["nodes"].values() for item in node["findings"]} <= {"info"}
        assert outcome.artifact["unreachable"] == [] and outcome.artifact["status"] == "ok"


def test_leaves_are_renewed_and_the_client_of_etcd_is_said_to_be_somebody_elses(cluster, with_etcd):
    before = digests(cluster, ETCDS_OWN)
    serials = {name: served(cluster, name) for name in cluster.control_planes}
    outcome = play(cluster, "renew_leaves", {"kubepki_force": "true"}, *with_etcd).require_success()
    assert outcome.artifact["renewed"] == 6 * len(serials)
    assert "the external etcd's authority signs it" in outcome.output
    assert digests(cluster, ETCDS_OWN) == before
    for name, serial in serials.items():
        on_disk = cluster.run(name, ["openssl", "x509", "-noout", "-serial", "-in", f"{PKI}/apiserver.crt"]).stdout.strip()
        assert served(cluster, name) == on_disk != serial
    again = play(cluster, "renew_leaves", {}).require_success()
    assert set(again.changed.values()) == {0}
    named = play(cluster, "renew_leaves", {"kubepki_force": "true", "kubepki_names": "apiserver-etcd-client"})
    assert named.code != 0 and "managed elsewhere" in named.output and digests(cluster, ETCDS_OWN) == before


def test_static_pods_are_restarted(cluster, with_etcd):
    outcome = play(cluster, "restart_static_pods", {}, *with_etcd).require_success()
    assert outcome.artifact["restarted"] == 3 * len(cluster.control_planes)


@pytest.fixture
def untouched(cluster) -> Iterator[None]:
    """Whatever happens, nothing on the nodes changes."""
    before = {name: snapshot(cluster, name) for name in cluster.addresses}
    yield
    assert {name: snapshot(cluster, name) for name in cluster.addresses} == before


@pytest.mark.parametrize("phase", ["all", "prepare", "rollback"])
def test_etcds_authority_is_refused_where_it_is_named(cluster, with_etcd, untouched, phase):
    for names in ("etcd-ca", "ca,etcd-ca"):
        outcome = rotate(cluster, phase, *with_etcd, kubepki_cas=names)
        assert outcome.code != 0 and set(outcome.changed.values()) == {0}
        assert f"https://{cluster.addresses['w1']}:2379" in outcome.output
        assert "kubepki_cas=ca,front-proxy-ca,sa" in outcome.output


def test_the_plan_leaves_it_out_and_says_so(cluster, untouched):
    outcome = play(cluster, "rotate_ca", {}, "--check").require_success()
    assert "etcd-ca is external" in outcome.output and "files of ca, front-proxy-ca, sa" in outcome.output


def test_the_other_authorities_go_there_and_back(cluster, with_etcd):
    """Trust and signers are as before; the restart annotation of the static pods is new, and the kubelets' certificates."""
    paths = [
        "admin.conf",
        *(f"pki/{name}" for name in ("ca.crt", "ca.key", "front-proxy-ca.crt", "sa.pub", "sa.key", "apiserver.crt")),
    ]
    before = digests(cluster, paths)
    for phase, state in (("prepare", "prepared"), ("switch", "switched")):
        outcome = rotate(cluster, phase, *with_etcd, kubepki_cas=",".join(ROTATED)).require_success()
        assert outcome.artifact["phase"] == {**dict.fromkeys(ROTATED, state), "etcd-ca": "external"}
        assert digests(cluster, paths) != before
    outcome = rotate(cluster, "rollback", *with_etcd).require_success()
    assert outcome.artifact["phase"] == {**dict.fromkeys(ROTATED, "stable"), "etcd-ca": "external"}
    assert digests(cluster, paths) == before


def test_the_other_authorities_are_rotated(cluster):
    """In one run, and without naming them."""
    before, own = {name: digests(cluster, ["pki/" + path]) for name, path in CERTIFICATES.items()}, digests(cluster, ETCDS_OWN)
    with Asking(cluster) as asking:
        outcome = rotate(cluster, "all").require_success()
    assert asking.asked > 100
    assert outcome.artifact["phase"] == {**dict.fromkeys(ROTATED, "stable"), "etcd-ca": "external"}
    after = {name: digests(cluster, ["pki/" + path]) for name, path in CERTIFICATES.items()}
    for name in ROTATED:
        (values,) = after[name].values()
        assert len(set(values)) == 1 and after[name] != before[name]
    assert digests(cluster, ETCDS_OWN) == own
    wait_whole(cluster)
    # All apiservers were stopped three times, one after the other; see clients.assert_unnoticed() for what no order can mend.
    assert len(asking.failed) <= 3, asking.failed
    told = rotate(cluster, "status").require_success()
    assert told.artifact["state"] == "ok" and set(told.changed.values()) == {0}


def test_kubeadm_finds_its_way(cluster):
    cluster.run("cp1", "kubeadm certs check-expiration && kubeadm certs renew all && kubeadm token create --print-join-command")
    assert Path(cluster.path("cp1", f"{PKI}/etcd/ca.crt")).exists()
    play(cluster, "renew_leaves", {"kubepki_force": "true"}).require_success()
    wait_whole(cluster)
