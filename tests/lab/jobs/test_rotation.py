# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""All authorities replaced on a real cluster, under clients that count."""

from __future__ import annotations

import json
import os
import re
import shlex
import ssl

import pytest

from tests.lab import kubeconfig
from tests.lab.client import Endpoint, Identity, Request, fetch
from tests.lab.kubeadm import API_NAME, API_PORT
from tests.lab.playbook import play

from .aggregated import Extension
from .clients import assert_unnoticed
from .conftest import snapshots

pytestmark = pytest.mark.timeout(2400)

_STABLE = {"ca": "stable", "front-proxy-ca": "stable", "etcd-ca": "stable", "sa": "stable"}


#: What a phase of all four may cost on 3+2 nodes: tasks; SSH commands on the first control-plane node, each other, each worker.
_BUDGET = {"prepare": (190, 34, 13, 7), "switch": (215, 40, 14, 10), "complete": (195, 38, 14, 8)}


def phase(lab, name: str, **variables) -> dict[str, str]:
    """Run one phase to its end, saying all that Ansible can say; gives the phase that was derived afterwards."""
    outcome = play(lab, "rotate_ca", {"kubepki_phase": name, **variables}, "-vvv").require_success()
    assert "PRIVATE KEY" not in outcome.output
    if "kubepki_cas" not in variables:
        trips = outcome.round_trips(lab)
        first, *others = (trips[node] for node in lab.control_planes)
        cost = (outcome.tasks, first, max(others), max(trips[node] for node in lab.workers))
        print(f"{name}: tasks and SSH commands {cost}")
        assert all(found <= most for found, most in zip(cost, _BUDGET[name])), (name, cost)
    return outcome.artifact["phase"]


def admin(lab) -> kubeconfig.Credentials:
    return kubeconfig.parse(lab.path("cp1", "/etc/kubernetes/admin.conf").read_text())


def ask(lab, identity: Identity) -> int:
    return fetch(Endpoint(lab.balancer_address, API_PORT, API_NAME), identity, Request("/api/v1/namespaces/default"))[0]


@pytest.mark.parametrize("arguments", [("--check", "--diff"), ()], ids=["check", "for real"])
def test_without_a_phase_the_plan_is_shown_and_nothing_changes(lab, arguments):
    before = snapshots(lab)
    outcome = play(lab, "rotate_ca", {}, *arguments).require_success()
    assert snapshots(lab) == before
    for word in ("prepare", "switch", "complete", "cp1", "w1", "kube-apiserver", "Nothing is done now"):
        assert word in outcome.output


def test_all_phases_need_a_confirmation_before_the_first(lab):
    before = snapshots(lab)
    refused = play(lab, "rotate_ca", {"kubepki_phase": "all"})
    assert refused.code != 0 and "kubepki_confirm" in refused.output
    assert snapshots(lab) == before


@pytest.mark.parametrize("_turn", range(int(os.environ.get("KUBEPKI_ROTATIONS", "1"))))
def test_rotation_of_everything_goes_unnoticed(lab, tmp_path, _turn):
    former = admin(lab)
    # Those who read their credentials once know the former authority alone, until it is refused.
    with Extension(lab, tmp_path) as extension, lab.watch() as watch:
        assert set(phase(lab, "prepare").values()) == {"prepared"}
        assert set(phase(lab, "switch").values()) == {"switched"}
    # The switch restarts no etcd: it takes its new certificates up by itself.
    assert_unnoticed(lab, {**watch.counts(), "aggregated": extension.counts()}, rolls=2, etcd_rolls=1)
    with Extension(lab, tmp_path) as extension, lab.watch() as watch:
        refused = play(lab, "rotate_ca", {"kubepki_phase": "complete"})
        assert refused.code != 0 and "kubepki_confirm" in refused.output
        assert phase(lab, "complete", kubepki_confirm="true") == _STABLE
    assert_unnoticed(lab, {**watch.counts(), "aggregated": extension.counts()}, rolls=1, etcd_rolls=1)

    present = admin(lab)
    assert present.ca.count(b"BEGIN CERTIFICATE") == 1
    assert ask(lab, Identity(present.ca, present.certificate, present.key)) == 200
    assert ask(lab, Identity(present.ca, former.certificate, former.key)) == 401
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(lab, Identity(former.ca, present.certificate, present.key))
    for node in lab.control_planes:
        manifests = lab.run(node, "cat /etc/kubernetes/manifests/*.yaml").stdout
        assert "service-account-lookup" not in manifests and "ca-signing" not in manifests
    again = play(lab, "rotate_ca", {"kubepki_phase": "status"}).require_success()
    assert again.artifact["state"] == "ok" and again.artifact["phase"] == _STABLE


def test_kubeadm_goes_on_with_the_new_authorities(lab):
    table = lab.run("cp2", "kubeadm certs check-expiration 2>/dev/null").stdout
    assert len(re.findall(r"^\S+ +\w{3} \d\d, \d{4} .* no *$", table, re.MULTILINE)) >= 13, table
    lab.run("cp3", "kubeadm certs renew all")
    play(lab, "restart_static_pods", {"kubepki_names": "kube-controller-manager,kube-scheduler"}).require_success()
    command = lab.run("cp2", "kubeadm token create --print-join-command").stdout.strip().splitlines()[-1]
    worker = list(lab.workers)[-1]
    lab.kubectl("delete", "node", worker)
    lab.run(
        worker,
        "systemctl stop kubelet; rm -rf /etc/kubernetes/kubelet.conf /etc/kubernetes/bootstrap-kubelet.conf "
        "/etc/kubernetes/pki /var/lib/kubelet/pki /var/lib/kubelet/config.yaml",
    )
    lab.run(worker, shlex.join([*shlex.split(command), "--skip-phases=preflight"]))
    lab.wait_healthy()
    conditions = json.loads(lab.kubectl("get", "node", worker, "-o", "json"))["status"]["conditions"]
    assert [item["status"] for item in conditions if item["type"] == "Ready"] == ["True"]


def test_all_nodes_come_back_from_a_power_cut(lab):
    for name in lab.addresses:
        lab.stop_node(name)
    for name in lab.addresses:
        lab.start_node(name, wait=False)
    for name in lab.addresses:
        lab.wait_ssh(name)
    lab.wait_healthy(300)
    assert play(lab, "rotate_ca", {"kubepki_phase": "status"}).require_success().artifact["phase"] == _STABLE
