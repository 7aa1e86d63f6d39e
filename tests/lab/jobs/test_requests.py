# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Certificates API of a real cluster: real kubelets, real people, a signer of one's own, and who must not get what."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.lab.lab import Lab
from tests.lab.playbook import CHECKOUT, environment, play, tool

sys.path.insert(0, str(CHECKOUT / ".cache"))

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import (
    ca_sign,
    csr_read,
    private_keys,
    x509_read,
    x509_sign,
)  # noqa: E402

# A playbook takes seconds, and much longer on a machine that runs other labs.
pytestmark = pytest.mark.timeout(1800)
KEY = private_keys.generate_key("ecdsa-p256")
CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
ADMIN = "/etc/kubernetes/admin.conf"
SWITCH = "serverTLSBootstrap: true"
KUBELET = "/etc/kubernetes/kubelet.conf"


@pytest.fixture(scope="module")
def cluster():
    """A small cluster of its own: these tests take signers away and kubelets' settings with them."""
    lab = Lab(os.environ.get("LAB", "test") + "-requests", 1, 1).up()
    yield lab
    if not os.environ.get("KUBEPKI_KEEP_LAB"):
        lab.down()


@pytest.fixture(autouse=True)
def clean(request):
    """No test sees another one's requests."""
    if "cluster" in request.fixturenames:
        lab = request.getfixturevalue("cluster")
        lab.kubectl("delete", "csr", "--all")
        lab.kubectl("delete", "clusterrolebinding,rolebinding", "-A", "-l", "app.kubernetes.io/managed-by=kubepki.lifecycle")


def ask(
    lab: Lab,
    name: str,
    common_name: str,
    organizations=(),
    sans=(),
    signer="kubernetes.io/kube-apiserver-client",
    usages=None,
    node="cp1",
    identity=ADMIN,
    labels=None,
    seconds=None,
) -> None:
    """Create a CertificateSigningRequest as whoever a kubeconfig of a node says."""
    default = "server auth" if signer.endswith("serving") else "client auth"
    pem = x509_sign.build_request(x509_sign.Profile(common_name, organizations, sans, [default.split()[0]]), KEY).pem
    spec = {
        "request": base64.b64encode(pem).decode(),
        "signerName": signer,
        "usages": usages or ["digital signature", "key encipherment", default],
    }
    if seconds:
        spec["expirationSeconds"] = seconds
    item = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": spec,
    }
    lab.run(node, ["kubectl", "--kubeconfig", identity, "create", "-f", "-"], stdin=json.dumps(item))


def state(lab: Lab, name: str) -> str:
    """What `kubectl get csr` would show."""
    status = json.loads(lab.kubectl("get", "csr", name, "-o", "json")).get("status", {})
    kinds = [condition["type"] for condition in status.get("conditions", [])]
    return "Issued" if status.get("certificate") else kinds[0] if kinds else "Pending"


def start_module(lab: Lab, where: str, called: str, variables: dict | None = None, /, **options) -> subprocess.Popen[str]:
    """Start one module on one host of the inventory, or on localhost."""
    inventory = lab.directory / "inventory.ini"
    inventory.write_text(lab.inventory())
    command = [tool("ansible"), where, "-i", str(inventory), "-m", "kubepki.lifecycle." + called, "-a", json.dumps(options)]
    env = {**environment(), "ANSIBLE_CALLBACK_RESULT_FORMAT": "json", **(variables or {})}
    return subprocess.Popen(
        command, cwd=CHECKOUT, env=env, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def result(process: subprocess.Popen[str]) -> dict:
    """What a started module returned; "failed" in it when it failed."""
    output, _none = process.communicate(timeout=600)
    assert "=> {" in output, output
    found = json.loads(output[output.index("=> {") + 3 :])
    return dict(found, failed="FAILED!" in output)


def module(lab: Lab, where: str, called: str, variables: dict | None = None, /, **options) -> dict:
    """Run one module to its end."""
    return result(start_module(lab, where, called, variables, **options))


def wait_for(what, seconds: float = 60):
    """Poll until `what` gives something true, and give that."""
    deadline = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < deadline, "nothing was seen within %g seconds" % seconds
        time.sleep(0.2)


def own_kubeconfig(lab: Lab, directory: Path) -> Path:
    """The cluster's admin.conf for this machine, which cannot resolve the balancer's name."""
    text = lab.run("cp1", ["cat", ADMIN]).stdout
    server = next(line for line in text.splitlines() if "server:" in line).split("server:")[1].strip()
    path = directory / "admin.conf"
    path.write_text(text.replace(server, "https://%s:6443" % lab.control_planes["cp1"]))
    path.chmod(0o600)
    return path


# --- many requests -----------------------------------------------------------------------------------------------------------


def test_a_real_kubelet_gets_its_serving_certificate(cluster):
    """serverTLSBootstrap leaves the request pending for ever, unless somebody looks at it."""
    config = "/var/lib/kubelet/config.yaml"
    before = cluster.run("w1", ["cat", config]).stdout
    try:
        cluster.run("w1", "echo 'serverTLSBootstrap: true' >> %s && systemctl restart kubelet" % config)

        def pending():
            return [line.split()[0] for line in cluster.kubectl("get", "csr", "--no-headers").splitlines() if "Pending" in line]

        name = wait_for(pending, 90)[0]
        listed = play(cluster, "manage_csrs").require_success()
        assert name in listed.output and "CN=system:node:w1" in listed.output and listed.artifact["state"] == "ok"
        planned = play(cluster, "manage_csrs", {"kubepki_csr_action": "approve"}, "--check").require_success()
        assert planned.artifact["approved_now"] == 1 and state(cluster, name) == "Pending"
        done = play(cluster, "manage_csrs", {"kubepki_csr_action": "approve"}).require_success()
        assert done.artifact["approved_now"] == 1 and done.artifact["state"] == "changed"
        wait_for(lambda: state(cluster, name) == "Issued")
        served = wait_for(lambda: _served_issuer(cluster, "w1") == "CN = kubernetes")
        assert served
        again = play(cluster, "manage_csrs", {"kubepki_csr_action": "approve"}).require_success()
        assert again.artifact["state"] == "ok" and set(again.changed.values()) == {0}
    finally:
        cluster.run("w1", ["tee", config], stdin=before)
        cluster.run("w1", "rm -f /var/lib/kubelet/pki/kubelet-server-* && systemctl restart kubelet")


def _served_issuer(lab: Lab, node: str) -> str:
    asked = "openssl s_client -connect %s:10250 </dev/null 2>/dev/null | openssl x509 -noout -issuer -nameopt oneline"
    text = lab.run("cp1", asked % lab.addresses[node], check=False).stdout
    return text.strip().partition("issuer=")[2]


def test_who_must_not_get_what_does_not(cluster):
    kubelet = {
        "node": "w1",
        "identity": "/etc/kubernetes/kubelet.conf",
        "signer": "kubernetes.io/kubelet-serving",
        "organizations": ["system:nodes"],
    }
    ask(cluster, "stolen-address", "system:node:w1", sans=["IP:" + cluster.addresses["cp1"]], **kubelet)
    ask(cluster, "api-name", "system:node:w1", sans=["DNS:kubernetes"], **kubelet)
    ask(cluster, "own", "system:node:w1", sans=["DNS:w1", "IP:" + cluster.addresses["w1"]], **kubelet)
    # Of the kubelets' own signer, kube-controller-manager itself approves it when an administrator asks.
    ask(cluster, "not-that-node", "system:node:cp1", ["system:nodes"])
    # The API itself refuses system:masters of its own client signer; any other signer takes it.
    ask(cluster, "master", "root", ["system:masters"], signer="example.com/any")
    ask(cluster, "person", "bob", ["dev"])
    wide_open = cluster.directory / "wide-open.yml"
    wide_open.write_text(
        "version: 1\nrules:\n  - {name: all, signer: '*', requester: '*', common_name: '*', "
        "organizations: ['*'], usages: [client auth, server auth, digital signature, key encipherment]}\n"
    )
    done = play(cluster, "manage_csrs", {"kubepki_csr_action": "approve"}).require_success()
    found = {name: state(cluster, name) for name in ("stolen-address", "api-name", "not-that-node", "master", "person")}
    assert set(found.values()) == {"Pending"} and done.artifact["approved_now"] == 1 and done.artifact["refused"] == 2
    assert done.artifact["state"] == "warning"
    wait_for(lambda: state(cluster, "own") == "Issued")
    done = play(cluster, "manage_csrs", {"kubepki_csr_action": "approve", "kubepki_csr_policy": wide_open}).require_success()
    assert done.artifact["approved_now"] == 1 and wait_for(lambda: state(cluster, "person") == "Issued")
    assert {state(cluster, name) for name in ("not-that-node", "master")} == {"Pending"}
    play(cluster, "manage_csrs", {"kubepki_csr_action": "approve", "kubepki_csr_names": "not-that-node"}).require_success()
    assert wait_for(lambda: state(cluster, "not-that-node") == "Issued") and state(cluster, "master") == "Pending"
    denied = play(cluster, "manage_csrs", {"kubepki_csr_action": "deny"}).require_success()
    assert state(cluster, "master") == "Denied" and denied.artifact["denied_now"] == 1


def test_by_label_and_with_a_message(cluster):
    ask(cluster, "a", "a", labels={"team": "x"})
    ask(cluster, "b", "b")
    play(
        cluster,
        "manage_csrs",
        {"kubepki_csr_action": "deny", "kubepki_csr_selector": "team=x", "kubepki_csr_message": "not agreed on"},
    ).require_success()
    assert (state(cluster, "a"), state(cluster, "b")) == ("Denied", "Pending")
    assert "not agreed on" in cluster.kubectl("get", "csr", "a", "-o", "yaml")


def test_a_mistake_in_a_name_or_a_policy_changes_nothing(cluster):
    ask(cluster, "a", "a")
    wrong = play(cluster, "manage_csrs", {"kubepki_csr_action": "approve", "kubepki_csr_names": "a,nope"})
    assert wrong.code != 0 and "no CertificateSigningRequest named nope" in wrong.output and wrong.artifact["state"] == "failed"
    policy = cluster.directory / "wrong.yml"
    policy.write_text("version: 1\nrules: [{name: x, signr: a}]\n")
    wrong = play(cluster, "manage_csrs", {"kubepki_csr_action": "approve", "kubepki_csr_policy": policy})
    assert wrong.code != 0 and "signr" in wrong.output and state(cluster, "a") == "Pending"


# --- people ------------------------------------------------------------------------------------------------------------------


def test_a_person_gets_access_keeps_it_and_loses_it(cluster, tmp_path):
    path = tmp_path / "carol.conf"
    variables = {
        "kubepki_user_name": "carol@example.com",
        "kubepki_user_groups": "dev,ops",
        "kubepki_user_kubeconfig": path,
        "kubepki_user_cluster_roles": "view",
        "kubepki_user_server": "https://%s:6443" % cluster.control_planes["cp1"],
        "kubepki_user_prove": "yes",
        "kubepki_user_days": "30",
    }
    planned = play(cluster, "issue_user", variables, "--check").require_success()
    assert planned.artifact["changed"] and not list(tmp_path.iterdir())
    made = play(cluster, "issue_user", variables).require_success()
    assert made.artifact["proven"] and path.stat().st_mode & 0o777 == 0o600 and os.listdir(tmp_path) == ["carol.conf"]
    kubectl = [str(cluster.path("cp1", "/usr/bin/kubectl")), "--kubeconfig", str(path)]
    assert subprocess.run([*kubectl, "get", "namespaces"], check=False, capture_output=True).returncode == 0
    assert subprocess.run([*kubectl, "get", "secrets", "-A"], check=False, capture_output=True).returncode != 0
    first = path.read_bytes()
    again = play(cluster, "issue_user", variables).require_success()
    assert again.artifact["state"] == "ok" and path.read_bytes() == first and set(again.changed.values()) == {0}
    renewed = play(cluster, "issue_user", {**variables, "kubepki_user_force": "true"}).require_success()
    assert renewed.artifact["proven"] and path.read_bytes() != first
    other = play(cluster, "issue_user", {**variables, "kubepki_user_name": "dave"})
    assert other.code != 0 and "is a kubeconfig of carol@example.com, not of dave" in other.output
    kept = tmp_path / "kept.conf"
    kept.write_bytes(path.read_bytes())
    gone = play(cluster, "issue_user", {**variables, "kubepki_user_state": "absent"}).require_success()
    assert not path.exists() and "revocation list" in gone.output
    kubectl[-1] = str(kept)
    refused = subprocess.run([*kubectl, "get", "namespaces"], check=False, capture_output=True, text=True)
    assert refused.returncode != 0 and 'User "carol@example.com" cannot list' in refused.stderr


def test_a_person_is_not_made_an_administrator(cluster, tmp_path):
    outcome = play(
        cluster,
        "issue_user",
        {"kubepki_user_name": "eve", "kubepki_user_groups": "system:masters", "kubepki_user_kubeconfig": tmp_path / "eve.conf"},
    )
    assert outcome.code != 0 and "system:masters, which may do everything" in outcome.output
    assert not (tmp_path / "eve.conf").exists() and "eve" not in cluster.kubectl("get", "csr")


# --- one request -------------------------------------------------------------------------------------------------------------


def test_the_module_on_the_controller_with_the_library(cluster, tmp_path):
    login = {"K8S_AUTH_KUBECONFIG": str(own_kubeconfig(cluster, tmp_path))}
    options = {
        "name": "robot",
        "client": "kubernetes",
        "privatekey_path": str(tmp_path / "key"),
        "common_name": "robot",
        "organizations": ["robots"],
        "path": str(tmp_path / "crt"),
    }
    first = module(cluster, "localhost", "cert_csr", login, **options)
    assert first["changed"] and first["csr"]["state"] == "pending"
    second = module(
        cluster,
        "localhost",
        "cert_csr",
        login,
        name="robot",
        state="approved",
        client="kubernetes",
        common_name="robot",
        organizations=["robots"],
    )
    assert second["changed"] and second["csr"]["state"] == "issued"
    third = module(cluster, "localhost", "cert_csr", login, **options)
    assert third["actions"] == ["written"]
    assert not module(cluster, "localhost", "cert_csr", login, **options)["changed"]
    certificate = x509_read.parse_certificate((tmp_path / "crt").read_bytes())
    assert certificate.common_name == "robot" and certificate.signed_by(
        x509_read.parse_certificate(cluster.run("cp1", ["cat", "/etc/kubernetes/pki/ca.crt"]).stdout.encode())
    )
    assert module(cluster, "localhost", "cert_csr", login, name="robot", state="absent")["changed"]


def test_a_denied_request_is_said_and_made_again(cluster):
    options = {"name": "r", "client": "builtin", "privatekey_path": "/root/r.key", "common_name": "r", "kubeconfig": ADMIN}
    module(cluster, "cp1", "cert_csr", **options)
    denied = module(cluster, "cp1", "cert_csr", name="r", client="builtin", state="denied", comment="nobody knows r")
    assert denied["csr"]["state"] == "denied" and denied["csr"]["message"] == "nobody knows r"
    waiting = module(cluster, "cp1", "cert_csr", name="r", client="builtin", state="approved")
    assert waiting["failed"] and "denied already (nobody knows r)" in waiting["msg"]
    again = module(cluster, "cp1", "cert_csr", **dict(options, state="approved"))
    assert again["csr"]["state"] == "issued"


def test_a_signer_of_ones_own_and_the_renewal_of_what_expired(cluster, tmp_path):
    """Short-lived certificates, from a signer that this test is."""
    ca_key = private_keys.generate_key("ecdsa-p256")
    ca = ca_sign.build_ca("own signer", ca_key, 1)
    login = {"K8S_AUTH_KUBECONFIG": str(own_kubeconfig(cluster, tmp_path))}
    options = {
        "name": "hook",
        "state": "approved",
        "signer_name": "example.com/own",
        "usages": ["server auth", "digital signature"],
        "privatekey_path": str(tmp_path / "key"),
        "common_name": "hook.default.svc",
        "sans": ["DNS:hook.default.svc"],
        "path": str(tmp_path / "crt"),
        "renew_below_days": 0,
    }

    def issue(seconds: float) -> dict:
        process = start_module(cluster, "localhost", "cert_csr", login, **options)
        found = wait_for(lambda: _approved(cluster, "hook"), 120)
        request = csr_read.parse_request(base64.b64decode(found["spec"]["request"]))
        profile = x509_sign.Profile(request.common_name, (), request.sans, ("server",))
        leaf = x509_sign.sign_leaf(profile, request, ca, ca_key, seconds / 86400)
        found["status"]["certificate"] = base64.b64encode(leaf.pem).decode()
        cluster.kubectl("replace", "--raw", CSRS + "/hook/status", "-f", "-", stdin=json.dumps(found))
        return result(process)

    first = issue(20)
    assert first["csr"]["state"] == "issued" and first["certificate_info"]["issuer"] == "CN=own signer"
    expires = x509_read.parse_certificate((tmp_path / "crt").read_bytes()).not_after
    wait_for(lambda: x509_read.now() > expires)
    second = issue(86400)
    assert second["actions"] == ["deleted: it has expired", "created", "approved", "written"]
    assert not module(cluster, "localhost", "cert_csr", login, **options)["changed"]


def _approved(lab: Lab, name: str) -> dict | None:
    text = lab.kubectl("get", "csr", name, "-o", "json", "--ignore-not-found")
    item = json.loads(text) if text.strip() else {}
    kinds = [condition["type"] for condition in item.get("status", {}).get("conditions", [])]
    return item if "Approved" in kinds and not item["status"].get("certificate") else None


def test_an_unreachable_api_is_said_in_time_and_nothing_is_changed(cluster, tmp_path):
    (tmp_path / "crt").write_text("old")
    nobody = "https://%s.99:6443" % cluster.balancer_address.rsplit(".", 1)[0]
    outcome = module(
        cluster,
        "localhost",
        "cert_csr",
        name="x",
        host=nobody,
        api_key="a-token-for-nobody",
        api_timeout=3,
        common_name="x",
        privatekey_path=str(tmp_path / "key"),
        path=str(tmp_path / "crt"),
    )
    assert outcome["failed"] and "cannot be reached" in outcome["msg"] and outcome["seconds"] < 15
    assert (tmp_path / "crt").read_text() == "old"


def test_a_cluster_that_lacks_a_signer_gets_one(cluster):
    flags = ["--cluster-signing-cert-file", "--cluster-signing-key-file"]
    module(
        cluster,
        "cp1",
        "static_pod_restart",
        names=["kube-controller-manager"],
        edits={"kube-controller-manager": dict.fromkeys(flags)},
    )
    try:
        found = play(cluster, "check_signers").require_success()
        assert found.artifact["not_signing"] == ["cp1"] and "nobody signs for kubernetes.io/kubelet-serving" in found.output
        ask(cluster, "a", "a")
        waiting = module(
            cluster, "cp1", "cert_csr", name="a", client="builtin", state="approved", common_name="a", wait_timeout=3
        )
        assert waiting["failed"] and "no certificate was issued within 3 seconds" in waiting["msg"]
        # Nobody would sign what its kubelets asked for.
        refused = play(cluster, "reissue_kubelets", {"kubepki_kubelet_serving": "bootstrap"})
        assert refused.code != 0 and "Nothing was changed" in refused.output and refused.artifact["state"] == "failed"
        assert SWITCH not in kubelet_config_map(cluster)
    finally:
        enabled = play(cluster, "check_signers", {"kubepki_csr_enable_signers": "true"}).require_success()
    assert enabled.artifact["state"] == "changed" and not enabled.artifact["not_signing"]
    wait_for(lambda: state(cluster, "a") == "Issued")
    again = play(cluster, "check_signers", {"kubepki_csr_enable_signers": "true"}).require_success()
    assert again.artifact["state"] == "ok" and set(again.changed.values()) == {0}


def test_the_validity_that_was_asked_for(cluster, tmp_path):
    login = {"K8S_AUTH_KUBECONFIG": str(own_kubeconfig(cluster, tmp_path))}
    options = {
        "name": "short",
        "state": "approved",
        "privatekey_path": str(tmp_path / "key"),
        "common_name": "short",
        "expiration_seconds": 900,
        "path": str(tmp_path / "crt"),
    }
    issued = module(cluster, "localhost", "cert_csr", login, **options)
    left = (x509_read.parse_certificate((tmp_path / "crt").read_bytes()).not_after - x509_read.now()).total_seconds()
    if int(cluster.version.split(".")[1]) >= 22:
        assert left <= 900 and issued["csr"]["expiration_seconds"] == 900
    else:
        assert left > 900 and issued["csr"]["expiration_seconds"] is None
    assert not module(cluster, "localhost", "cert_csr", login, **options)["changed"]


# --- serving certificates, with the keys made on the nodes -------------------------------------------------------------------


def kubelet_config_map(lab: Lab) -> str:
    """The kubelet configuration that kubeadm gives to nodes that join."""
    names = lab.kubectl("-n", "kube-system", "get", "configmap", "-o", "name").split()
    name = next(name for name in sorted(names) if "/kubelet-config" in name)
    return lab.kubectl("-n", "kube-system", "get", name, "-o", "jsonpath={.data.kubelet}")


def verified(lab: Lab, node: str) -> bool:
    """Whether openssl, on the control plane, accepts what a kubelet serves for the node's address."""
    address = lab.addresses[node]
    return (
        lab.run(
            "cp1",
            "openssl s_client -connect %s:10250 -CAfile /etc/kubernetes/pki/ca.crt -verify_ip %s "
            "-verify_return_error </dev/null" % (address, address),
            check=False,
        ).returncode
        == 0
    )


def reached(lab: Lab, node: str) -> tuple[bool, str]:
    """Whether the API server speaks to a kubelet, and what it says when not."""
    done = lab.run("cp1", "kubectl --kubeconfig %s get --raw /api/v1/nodes/%s/proxy/healthz 2>&1" % (ADMIN, node), check=False)
    return done.returncode == 0, done.stdout


def reissue(lab: Lab, *arguments: str, **variables: str):
    """Run reissue_kubelets with kubepki_kubelet_... variables."""
    return play(lab, "reissue_kubelets", {"kubepki_kubelet_" + name: value for name, value in variables.items()}, *arguments)


def test_kubelets_serve_what_the_cluster_signed_and_forged_requests_are_denied(cluster):
    w1 = {"node": "w1", "identity": KUBELET, "signer": "kubernetes.io/kubelet-serving"}
    own, right = ["DNS:w1", "IP:" + cluster.addresses["w1"]], {"organizations": ["system:nodes"]}
    ask(cluster, "another-key", "system:node:w1", sans=own, **w1, **right)
    ask(cluster, "another-address", "system:node:w1", sans=[*own, "IP:" + cluster.addresses["cp1"]], **w1, **right)
    ask(cluster, "another-name", "system:node:w1", sans=[*own, "DNS:elsewhere.example"], **w1, **right)
    ask(
        cluster,
        "another-usage",
        "system:node:w1",
        sans=own,
        usages=["digital signature", "server auth", "client auth"],
        **w1,
        **right,
    )
    ask(cluster, "another-group", "system:node:w1", ["system:nodes", "system:masters"], sans=own, **w1)
    ask(cluster, "another-requester", "system:node:w1", sans=own, signer="kubernetes.io/kubelet-serving", **right)
    forged = {
        "another-key": "its key is not the one that waits on w1",
        "another-address": "is not an address of the Node object",
        "another-name": "is not an address of the Node object",
        "another-usage": "the usages are",
        "another-group": "not a node",
        "another-requester": "not a node",
    }
    if int(cluster.version.split(".")[1]) >= 22:
        ask(cluster, "too-long", "system:node:w1", sans=own, seconds=10 * 365 * 86400, **w1, **right)
        forged["too-long"] = "valid for 315360000 seconds"
    if int(cluster.version.split(".")[1]) < 30:  # later API servers refuse it themselves (NodeRestriction)
        ask(cluster, "another-node", "system:node:cp1", sans=["DNS:cp1"], **w1, **right)
        forged["another-node"] = "not a node"
    refused = reissue(cluster, authority="set")
    assert refused.code != 0 and "2 of 2 kubelets would be refused" in refused.output and refused.artifact["state"] == "failed"
    planned = reissue(cluster, "--check", "--diff", serving="bootstrap").require_success()
    assert planned.artifact["serving_due"] == 2 and not planned.artifact["changed"] and SWITCH not in kubelet_config_map(cluster)
    assert {state(cluster, name) for name in forged} == {"Pending"}
    before = {node: cluster.run(node, ["cat", "/var/lib/kubelet/config.yaml"]).stdout for node in cluster.addresses}
    done = reissue(cluster, serving="bootstrap").require_success()
    assert done.artifact["serving"] == 2 and done.artifact["state"] == "changed"
    for name, why in forged.items():
        assert state(cluster, name) == "Denied", name
        assert why in cluster.kubectl("get", "csr", name, "-o", "jsonpath={.status.conditions[0].message}"), name
    for node in cluster.addresses:
        assert verified(cluster, node)
        assert cluster.run(node, ["cat", "/var/lib/kubelet/config.yaml"]).stdout == SWITCH + "\n" + before[node]
    assert SWITCH in kubelet_config_map(cluster)
    again = reissue(cluster, serving="bootstrap").require_success()
    assert again.artifact["state"] == "ok" and set(again.changed.values()) == {0}
    # A kubelet that has a certificate for all its addresses asks for no other.
    assert "Pending" not in cluster.kubectl("get", "csr")
    renewed = play(cluster, "reissue_kubelets", {"kubepki_force": "true", "kubepki_kubelet_serving": "renew"}).require_success()
    assert (renewed.artifact["reissued"], renewed.artifact["serving"]) == (2, 2)
    assert all(verified(cluster, node) for node in cluster.addresses)


def test_an_api_server_verifies_kubelets_refuses_a_self_signed_one_and_stops_verifying(cluster):
    reissue(cluster, serving="bootstrap").require_success()
    kubeadm_config = ("-n", "kube-system", "get", "configmap", "kubeadm-config", "-o", "jsonpath={.data.ClusterConfiguration}")
    before = cluster.kubectl(*kubeadm_config)
    manifest = cluster.run("cp1", ["cat", "/etc/kubernetes/manifests/kube-apiserver.yaml"]).stdout
    done = reissue(cluster, authority="set").require_success()
    assert done.artifact["apiservers"] == 1 and "kubelet-certificate-authority" in cluster.kubectl(*kubeadm_config)
    flag = "--kubelet-certificate-authority=/etc/kubernetes/pki/ca.crt"
    assert flag in cluster.run("cp1", ["cat", "/etc/kubernetes/manifests/kube-apiserver.yaml"]).stdout
    assert reached(cluster, "w1")[0] and cluster.kubectl("-n", "kube-system", "logs", "--tail=1", "etcd-cp1")
    again = reissue(cluster, authority="set").require_success()
    assert again.artifact["state"] == "ok" and set(again.changed.values()) == {0}
    cluster.run("w1", "sed -i '/serverTLSBootstrap/d' /var/lib/kubelet/config.yaml && systemctl restart kubelet")
    wait_for(lambda: not reached(cluster, "w1")[0] and "x509" in reached(cluster, "w1")[1])
    assert reached(cluster, "cp1")[0]
    found = play(cluster, "check_expiry").require_success()
    assert "verifies kubelets and refuses this one" in found.output
    healed = reissue(cluster, serving="bootstrap").require_success()
    assert healed.artifact["serving"] == 1 and reached(cluster, "w1")[0]
    gone = reissue(cluster, authority="remove").require_success()
    assert gone.artifact["apiservers"] == 1 and cluster.kubectl(*kubeadm_config) == before
    restored = cluster.run("cp1", ["cat", "/etc/kubernetes/manifests/kube-apiserver.yaml"]).stdout
    assert flag not in restored and restored.splitlines()[-20:] == manifest.splitlines()[-20:]
