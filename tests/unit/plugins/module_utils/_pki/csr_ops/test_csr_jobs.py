# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One request, many requests, a person's credential: against a server with the API's own conflicts and refusals."""

from __future__ import annotations

import base64
import os
import threading
import time

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.csr_ops import (
    csr_review,
    csr_signing,
    one_csr,
    user_credential,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import (
    api_client,
    api_connection,
    csr,
    csr_object,
    reserved_names,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import kubeconfig
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import (
    ca_sign,
    csr_read,
    private_keys,
    x509_read,
    x509_sign,
)
from cryptography import x509 as library
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from tests.unit.support import throwaway
from tests.unit.support.fake_api import CA, CA_KEY, FakeApi

KEY = private_keys.generate_key("ecdsa-p256")
CA_REQUEST = (
    library.CertificateSigningRequestBuilder()
    .subject_name(x509_sign.Profile("alice", ["dev"]).subject)
    .add_extension(library.BasicConstraints(ca=True, path_length=None), True)
    .sign(KEY.raw, hashes.SHA256())
    .public_bytes(serialization.Encoding.PEM)
)
CSR = {
    "name": "r",
    "state": "present",
    "request": None,
    "request_path": None,
    "privatekey_path": None,
    "key_type": "ecdsa-p256",
    "common_name": None,
    "organizations": None,
    "sans": None,
    "signer_name": csr_object.CLIENT,
    "usages": None,
    "expiration_seconds": None,
    "labels": {},
    "path": None,
    "renew_below_days": None,
    "force": False,
    "wait": None,
    "wait_timeout": 2,
    "reason": None,
    "comment": None,
    "allow_dangerous": [],
}
REVIEW = {
    "action": "list",
    "names": [],
    "selector": None,
    "policy": None,
    "policy_path": None,
    "hosts": {},
    "control_plane_hosts": [],
    "reason": None,
    "comment": None,
}
ACCESS = {
    "user": "alice",
    "groups": ["dev"],
    "state": "present",
    "request": None,
    "days": 1.0,
    "cluster_roles": [],
    "roles": [],
    "namespace": None,
    "server": None,
    "wait_timeout": 2,
}
CONFIG = {
    "user": "alice",
    "groups": ["dev"],
    "state": "present",
    "certificate": None,
    "ca": None,
    "server": None,
    "key_type": "ecdsa-p256",
    "renew_below_days": None,
    "force": False,
    "prove": "auto",
    "api_timeout": 2,
}


@pytest.fixture
def api():
    fake = FakeApi()
    yield fake
    fake.stop()


def call(function, defaults, api, check=False, **given):
    connection = {"client": "builtin", "host": api.url, "api_timeout": 5}
    return function(dict(defaults, **connection, **given), check)


def one(api, check=False, **given):
    return call(one_csr.one_request, CSR, api, check, **given)


def robot(tmp_path, **given):
    return {
        "privatekey_path": str(tmp_path / "key"),
        "path": str(tmp_path / "crt"),
        "common_name": "robot",
        "organizations": ["robots"],
        **given,
    }


# What put() asks for when a test does not say otherwise.
AGREED = {"common_name": "alice", "organizations": ["dev"]}


def pem(common_name="alice", organizations=("dev",), key=KEY, sans=(), extended=("client",)):
    return x509_sign.build_request(x509_sign.Profile(common_name, organizations, sans, extended), key).pem


def put(
    api,
    name,
    request=None,
    signer=csr_object.CLIENT,
    requester="alice",
    groups=("system:authenticated",),
    labels=None,
    usages=None,
):
    spec = {
        "request": base64.b64encode(request or pem()).decode(),
        "signerName": signer,
        "username": requester,
        "groups": list(groups),
        "usages": list(usages or csr_object.USAGES.get(signer) or ["server auth"]),
    }
    return api.put(api.csr_path(name), {"metadata": {"labels": labels or {}}, "spec": spec, "status": {}})


# --- one request -------------------------------------------------------------------------------------------------------------


def test_key_request_approval_and_certificate_in_one_step_and_nothing_in_the_second(api, tmp_path):
    result = one(api, state="approved", **robot(tmp_path))
    assert result["actions"] == ["key made", "created", "approved", "written"] and result["csr"]["state"] == "issued"
    certificate = x509_read.parse_certificate((tmp_path / "crt").read_bytes())
    assert (certificate.common_name, certificate.organizations) == ("robot", ["robots"])
    assert os.stat(tmp_path / "key").st_mode & 0o777 == 0o600 and os.stat(tmp_path / "crt").st_mode & 0o777 == 0o644
    assert private_keys.parse_private_key((tmp_path / "key").read_bytes()).matches(certificate)
    calls = len(api.calls)
    again = one(api, state="approved", **robot(tmp_path))
    assert not again["changed"] and again["certificate"] == result["certificate"] and len(api.calls) == calls


def test_check_mode_changes_nothing_and_says_the_same(api, tmp_path):
    result = one(api, check=True, state="approved", **robot(tmp_path))
    assert result["actions"] == ["key made", "created", "approved"]
    assert os.listdir(tmp_path) == [] and api.objects == {}


def test_two_people(api, tmp_path):
    first = one(api, **robot(tmp_path))
    assert first["actions"] == ["key made", "created"] and first["csr"]["state"] == "pending"
    assert not one(api, **robot(tmp_path))["changed"]
    with pytest.raises(PkiError, match="not what was to be approved"):
        one(api, state="approved", common_name="robot", organizations=["admins"])
    assert api.csr("r")["status"] == {}
    second = one(api, state="approved", common_name="robot", organizations=["robots"], comment="as agreed")
    assert second["actions"] == ["approved"] and second["csr"]["message"] == "as agreed"
    third = one(api, **robot(tmp_path))
    assert third["actions"] == ["written"] and (tmp_path / "crt").exists()


def test_a_finished_request_is_taken_as_it_is(api, tmp_path):
    result = one(api, state="approved", request=pem("bob", ()).decode(), path=str(tmp_path / "crt"))
    assert result["certificate_info"]["subject"] == "CN=bob"
    (tmp_path / "r.csr").write_bytes(pem("bob", ()))
    assert not one(api, request_path=str(tmp_path / "r.csr"), path=str(tmp_path / "crt"))["changed"]


@pytest.mark.parametrize(
    ("change", "action"),
    [
        ({"organizations": ["others"]}, "deleted: its organizations differ"),
        ({"sans": ["DNS:a"]}, "deleted: its names differ"),
        ({"usages": ["client auth"]}, "deleted: its usages differ"),
        ({"expiration_seconds": 7200}, "deleted: its validity differs"),
        ({"signer_name": "example.com/x", "usages": ["client auth"]}, "deleted: its signer differs"),
        ({"force": True}, "deleted: force"),
    ],
)
def test_a_request_that_differs_is_made_again(api, tmp_path, change, action):
    one(api, **robot(tmp_path))
    result = one(api, **robot(tmp_path, **change))
    assert result["actions"] == [action, "created"]


def test_another_key_is_another_request(api, tmp_path):
    one(api, state="approved", **robot(tmp_path))
    os.unlink(tmp_path / "key")
    result = one(api, state="approved", **robot(tmp_path))
    assert result["actions"] == ["key made", "deleted: its key differs", "created", "approved", "written"]


@pytest.mark.parametrize(("condition", "why"), [("Denied", "it was denied"), ("Failed", "its signer refused it")])
def test_what_was_denied_or_failed_is_asked_for_again(api, tmp_path, condition, why):
    one(api, **robot(tmp_path))
    api.csr("r")["status"] = {"conditions": [{"type": condition, "status": "True", "message": "no"}]}
    with pytest.raises(PkiError, match="already"):
        one(api, state="approved")
    assert one(api, state="approved", **robot(tmp_path))["actions"][0] == "deleted: " + why


def test_an_expiring_certificate_is_renewed(api, tmp_path):
    api.days = 0.0001
    one(api, state="approved", **robot(tmp_path))
    deadline = time.monotonic() + 20
    # Backdated five minutes: of what is left after issuing, a fifth of the whole is more.
    result = one(api, state="approved", **robot(tmp_path))
    assert time.monotonic() < deadline and result["actions"][0].startswith("deleted: it ")
    api.days = 1.0
    assert one(api, state="approved", **robot(tmp_path))["changed"]
    assert not one(api, state="approved", **robot(tmp_path))["changed"]
    assert one(api, state="approved", **robot(tmp_path, renew_below_days=2))["actions"][0] == "deleted: it is about to expire"


def test_a_damaged_certificate_file_is_replaced_and_said(api, tmp_path):
    one(api, state="approved", **robot(tmp_path))
    (tmp_path / "crt").write_text("rubbish")
    result = one(api, state="approved", **robot(tmp_path))
    assert result["actions"] == ["written"] and "is not PEM" in result["warnings"][0]


def test_deny_with_reason_and_message(api):
    put(api, "r")
    result = one(api, state="denied", reason="NotAgreed", comment="nobody knows her")
    shown = result["csr"]
    assert (shown["state"], shown["reason"], shown["message"]) == ("denied", "NotAgreed", "nobody knows her")
    assert not one(api, state="denied")["changed"]
    with pytest.raises(PkiError, match="denied already .nobody knows her"):
        one(api, state="approved")


def test_what_is_approved_is_not_denied(api):
    put(api, "r")
    one(api, state="approved", **AGREED)
    with pytest.raises(PkiError, match="called back"):
        one(api, state="denied")


def test_absent(api):
    put(api, "r")
    assert one(api, check=True, state="absent")["changed"] and api.objects
    assert one(api, state="absent")["actions"] == ["deleted"] and not api.objects
    assert not one(api, state="absent")["changed"]


@pytest.mark.parametrize("state", ["approved", "denied"])
def test_deciding_what_is_not_there_fails(api, state):
    with pytest.raises(PkiError, match="no such request"):
        one(api, state=state)


def test_waiting_ends_with_what_was_seen(api, tmp_path):
    with pytest.raises(PkiError, match="nobody approved it within 0.3 seconds"):
        one(api, wait=True, wait_timeout=0.3, **robot(tmp_path))
    api.signs = False
    with pytest.raises(PkiError, match="no certificate was issued") as caught:
        one(api, state="approved", wait_timeout=0.3, **robot(tmp_path))
    assert "kube-controller-manager" in caught.value.fix
    with pytest.raises(PkiError) as caught:
        one(api, state="approved", wait_timeout=0.3, **robot(tmp_path, signer_name="example.com/s", usages=["client auth"]))
    assert "signs for example.com/s" in caught.value.fix


def test_a_signer_of_ones_own(api, tmp_path):
    api.signs = False

    def sign():
        while api.csr_path("r") not in api.objects or not api.csr("r")["status"].get("conditions"):
            time.sleep(0.02)
        api.issue(api.csr("r"), subject="shaped by the signer")

    thread = threading.Thread(target=sign)
    thread.start()
    result = one(api, state="approved", wait_timeout=10, **robot(tmp_path, signer_name="example.com/s", usages=["client auth"]))
    thread.join()
    assert result["certificate_info"]["subject"].startswith("CN=shaped by the signer")


def test_a_certificate_for_another_key_is_not_written(api, tmp_path):
    api.signs = False
    one(api, **robot(tmp_path))
    robots = {"common_name": "robot", "organizations": ["robots"]}
    one(api, state="approved", wait=False, **robots)
    api.issue(api.csr("r"), key=KEY)
    with pytest.raises(PkiError, match="another key"):
        one(api, state="approved", **robots, path=str(tmp_path / "other.crt"))
    assert not (tmp_path / "other.crt").exists()


def test_an_older_server_drops_the_validity_and_the_module_says_so(api, tmp_path):
    api.minor, api.versions = 18, ("v1beta1",)
    result = one(api, state="approved", expiration_seconds=3600, **robot(tmp_path))
    assert "no expirationSeconds" in result["warnings"][0] and result["csr"]["state"] == "issued"
    options = robot(tmp_path)
    options["path"] = None
    assert not one(api, expiration_seconds=3600, **options)["changed"]


def test_a_newer_server_keeps_the_validity(api, tmp_path):
    result = one(api, state="approved", expiration_seconds=3600, **robot(tmp_path))
    certificate = x509_read.parse_certificate(result["certificate"].encode())
    assert 3590 < (certificate.not_after - x509_read.now()).total_seconds() <= 3600 and result["warnings"] == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"expiration_seconds": 60, "request": pem().decode()}, "600 seconds"),
        ({"signer_name": "example.com/s", "request": pem().decode()}, "which usages"),
        ({"privatekey_path": "/nonexistent/key"}, "needs a common name"),
        ({"request": "rubbish"}, "not PEM"),
        ({"request_path": "/nonexistent"}, "does not exist"),
    ],
)
def test_mistakes_are_said_before_anything_is_sent(api, given, words):
    with pytest.raises(PkiError, match=words):
        one(api, **given)
    assert [entry for entry in api.calls if entry[0] != "GET"] == []


def test_approving_what_no_policy_grants_has_to_be_allowed_by_name_and_is_said_aloud(api):
    put(api, "r", pem("root", ["system:masters"]))
    agreed = {"common_name": "root", "organizations": ["system:masters"]}
    for allowed in ([], ["kubeadm:cluster-admins"], ["root"]):
        with pytest.raises(PkiError, match="system:masters, which may do everything"):
            one(api, state="approved", allow_dangerous=allowed, **agreed)
    assert api.csr("r")["status"] == {}
    result = one(api, state="approved", allow_dangerous=["system:masters"], **agreed)
    assert result["csr"]["state"] == "issued" and "system:masters" in result["warnings"][0]


@pytest.mark.parametrize(
    ("made", "option"),
    [
        ({"organizations": ["dev", "ops"]}, "organizations"),
        ({"organizations": ["system:masters"]}, "system:masters"),
        ({"sans": ["DNS:api.example"]}, "names"),
        ({"common_name": "bob"}, "common name"),
        ({"signer": "example.com/any", "usages": ["client auth"]}, "signer"),
        ({"usages": ["client auth", "code signing"]}, "usages"),
        ({"usages": ["server auth"]}, "usages"),
        ({"seconds": 315360000}, "validity"),
        ({"extended": ("client", "1.3.6.1.5.5.7.3.3")}, "does not name"),
    ],
)
def test_what_the_task_does_not_name_is_not_approved(api, made, option):
    subject = {key: made[key] for key in ("common_name", "organizations", "sans", "extended") if key in made}
    request = pem(**dict({"common_name": "alice", "organizations": ()}, **subject))
    item = put(api, "r", request, made.get("signer", csr_object.CLIENT), usages=made.get("usages"))
    if "seconds" in made:
        item["spec"]["expirationSeconds"] = made["seconds"]
    for check in (True, False):
        with pytest.raises(PkiError, match=option):
            one(api, check=check, state="approved", common_name="alice")
    assert api.csr("r")["status"] == {}


def test_what_the_task_names_is_compared_and_approved(api):
    item = put(
        api,
        "r",
        pem("alice", (), sans=["DNS:a.example", "IP:2001:db8::1"], extended=("server",)),
        "example.com/any",
        usages=["server auth", "digital signature"],
    )
    item["spec"]["expirationSeconds"] = 3600
    agreed = {
        "common_name": "alice",
        "sans": ["IP:2001:DB8:0::1", "DNS:a.example"],
        "signer_name": "example.com/any",
        "usages": ["digital signature", "server auth"],
        "expiration_seconds": 3600,
    }
    for change in (
        {"usages": ["server auth"]},
        {"usages": None},
        {"expiration_seconds": 3601},
        {"expiration_seconds": None},
        {"sans": []},
        {"common_name": None},
    ):
        with pytest.raises(PkiError, match="not what was to be approved"):
            one(api, state="approved", wait=False, **dict(agreed, **change))
    assert one(api, state="approved", wait=False, **agreed)["actions"] == ["approved"]


def test_fewer_usages_than_the_default_are_approved(api):
    put(api, "r", usages=["client auth"])
    assert one(api, state="approved", **AGREED)["csr"]["state"] == "issued"


def test_a_subject_with_more_than_was_agreed_on_is_not_approved(api):
    name = library.Name(
        [
            library.NameAttribute(NameOID.ORGANIZATION_NAME, "dev"),
            library.NameAttribute(NameOID.USER_ID, "root"),
            library.NameAttribute(NameOID.COMMON_NAME, "alice"),
        ]
    )
    request = library.CertificateSigningRequestBuilder().subject_name(name).sign(KEY.raw, hashes.SHA256())
    put(api, "r", request.public_bytes(serialization.Encoding.PEM))
    with pytest.raises(PkiError, match="further attributes 0.9.2342"):
        one(api, state="approved", **AGREED)


def test_a_dangerous_request_of_ones_own_is_not_even_made(api, tmp_path):
    options = robot(tmp_path, organizations=["system:masters"])
    with pytest.raises(PkiError, match="may do everything"):
        one(api, state="approved", **options)
    assert api.objects == {}
    assert one(api, state="approved", allow_dangerous=["system:masters"], **options)["csr"]["state"] == "issued"


def test_the_gate_stands_where_the_approval_is_written(api):
    """Whatever a caller forgets."""
    for request in (pem("root", ["system:masters"]), CA_REQUEST):
        put(api, "r", request)
        client = api_connection.BuiltIn(api.url, timeout=5)
        with pytest.raises(PkiError):
            csr.decide(client, csr.find(client, "r"), "Approved", "r", "m")
        client.close()
        assert api.csr("r")["status"] == {}
    with pytest.raises(PkiError, match="authority"):
        one(api, state="approved", **AGREED, allow_dangerous=["dev", "alice"])
    assert review(api, action="approve", names=["r"])["counts"]["left"] == 1 and api.csr("r")["status"] == {}


def test_what_a_signer_issued_for_more_is_not_taken(api, tmp_path):
    one(api, **robot(tmp_path))
    api.signs = False
    agreed = {"common_name": "robot", "organizations": ["robots"]}
    one(api, state="approved", wait=False, **agreed)
    request = csr_read.parse_request(base64.b64decode(api.csr("r")["spec"]["request"]))
    key = private_keys.parse_private_key((tmp_path / "key").read_bytes())
    for leaf in (
        x509_sign.sign_leaf(x509_sign.Profile("robot", ["robots", "system:masters"]), request, CA, CA_KEY, 1),
        ca_sign.build_ca("robot", key, 1, organizations=["robots"]),
    ):
        api.csr("r")["status"]["certificate"] = base64.b64encode(leaf.pem).decode()
        with pytest.raises(PkiError, match="what was issued is"):
            one(api, state="approved", path=str(tmp_path / "crt"), **agreed)
    again = one(api, **robot(tmp_path))
    assert again["actions"][0] == "deleted: what was issued is a CA certificate" and not (tmp_path / "crt").exists()


def test_a_conflict_is_tried_again_and_a_replaced_request_is_not_approved(api):
    put(api, "r")
    seen = []

    def touch(method, path):
        if method == "PUT" and not seen:
            seen.append(path)
            api.put(api.csr_path("r"), api.csr("r"))

    api.before = touch
    assert one(api, state="approved", **AGREED)["csr"]["state"] == "issued"
    put(api, "r")
    seen.clear()

    def replace(method, path):
        if method == "PUT" and not seen:
            seen.append(path)
            put(api, "r", pem("mallory", ["admins"]))

    api.before = replace
    with pytest.raises(PkiError, match="took its name"):
        one(api, state="approved", **AGREED)
    assert api.csr("r")["status"] == {}


def test_an_unreachable_api_leaves_files_as_they_are(tmp_path):
    fake = FakeApi()
    fake.stop()
    (tmp_path / "crt").write_text("old")
    with pytest.raises(PkiError, match="cannot be reached"):
        one(fake, state="approved", **robot(tmp_path))
    assert (tmp_path / "crt").read_text() == "old"


# --- many requests -----------------------------------------------------------------------------------------------------------


def review(api, check=False, **given):
    return call(csr_review.many_requests, REVIEW, api, check, **given)


ANYBODY = "version: 1\nrules: [{name: d, signer: '*', requester: '*', common_name: '*', organizations: ['*']}]"


def kubelet(api, name, node, address):
    request = pem("system:node:" + node, ["system:nodes"], sans=["DNS:" + node, "IP:" + address], extended=("server",))
    put(api, name, request, csr_object.KUBELET_SERVING, "system:node:" + node, ("system:nodes", "system:authenticated"))


def cluster(api, count):
    for number in range(count):
        address = "10.0.%d.%d" % (number // 250, number % 250 + 1)
        api.put("/api/v1/nodes/n%d" % number, {"status": {"addresses": [{"type": "InternalIP", "address": address}]}})
        kubelet(api, "csr-%03d" % number, "n%d" % number, address)


def test_two_hundred_requests_are_listed_in_one_call_and_decided_in_one_call_each(api):
    cluster(api, 200)
    put(api, "evil", pem("root", ["system:masters"]))
    put(api, "person", pem("bob", ["dev"]))
    listed = review(api)
    assert listed["counts"]["pending"] == 202 and listed["api_calls"] == 2 and not listed["changed"]
    api.calls.clear()
    planned = review(api, check=True, action="approve")
    assert planned["counts"]["approved_now"] == 200 and planned["api_calls"] == 8
    decided = review(api, action="approve")
    assert decided["counts"]["approved_now"] == 200 and decided["counts"]["left"] == 2 and decided["counts"]["refused"] == 1
    # Beside the list and the nodes: kubeadm-config, the API's Service and Endpoints, ServiceCIDRs, Services.
    assert decided["api_calls"] == 208 and decided["counts"]["pending"] == 2
    again = review(api, action="approve")
    assert not again["changed"] and again["counts"]["total"] == 2
    rows = {row["name"]: row for row in again["requests"]}
    assert rows["evil"]["refused"] and "no rule allows it" in rows["person"]["why"]


def sign(api, entries, check=False, **given):
    options = dict({"requests": entries, "signer_name": "example.com/{ca}", "approve": True, "wait_timeout": 5}, **given)
    return call(csr_signing.sign_many, {}, api, check, **options)


def asked(count, usages=("client",), **more):
    found = []
    for number in range(count):
        profile = x509_sign.Profile("name-%d" % number, ["group"], ["DNS:a"], usages)
        made = x509_sign.build_request(profile, private_keys.generate_key("ecdsa-p256")).pem.decode()
        entry = {"host": "cp%d" % (number % 3), "name": "admin.conf", "ca": "ca", "request": made, "days": 30.0}
        found.append(dict(entry, **more))
    return found


def test_many_are_signed_with_one_list_for_all_and_found_again(api):
    entries = asked(40)
    first = sign(api, entries)
    assert first["changed"] and len(first["created"]) == len(first["approved"]) == 40 and first["awaited"] == []
    # Which versions there are, which Kubernetes it is, one list; and one call each to create and one to approve.
    assert first["api_calls"] == 3 + 2 * 40
    for entry, got in zip(entries, first["certificates"]):
        request, certificate = (
            csr_read.parse_request(entry["request"].encode()),
            x509_read.parse_certificate(got["certificate"].encode()),
        )
        assert (got["host"], got["name"]) == (entry["host"], entry["name"]) and certificate.key_sha256 == request.key_sha256
    item = api.csr(first["created"][0])
    assert item["spec"]["signerName"] == "example.com/ca" and item["spec"]["expirationSeconds"] == 30 * 86400
    again = sign(api, entries)
    assert not again["changed"] and again["api_calls"] == 3 and again["certificates"] == first["certificates"]


def test_csr_sign_refuses_what_the_leaf_of_that_name_does_not_have(api):
    own = ("scheduler.conf", "system:kube-scheduler", ())
    for name, common_name, organizations in (
        ("apiserver", "kube-apiserver", ["system:masters"]),
        ("admin.conf", "system:node:w1", ()),
        ("etcd-server", "cp1", ["kubeadm:cluster-admins"]),
        ("nothing", "system:kube-scheduler", ()),
    ):
        request = pem(common_name, organizations).decode()
        with pytest.raises(PkiError, match="the request of cp1 for %s" % name):
            sign(api, [{"host": "cp1", "name": name, "ca": "ca", "request": request, "days": 30.0}])
    with pytest.raises(PkiError, match="authority"):
        sign(api, [{"host": "cp1", "name": "admin.conf", "ca": "ca", "request": CA_REQUEST.decode(), "days": 30.0}])
    assert api.objects == {}
    entry = {"host": "cp1", "name": own[0], "ca": "ca", "request": pem(own[1], own[2]).decode(), "days": 30.0}
    assert sign(api, [entry])["approved"]


def test_a_second_person_can_approve(api):
    entries = asked(3)
    first = sign(api, entries, approve=False)
    assert len(first["created"]) == 3 and first["approved"] == [] and first["certificates"] == [] and len(first["awaited"]) == 3
    assert not sign(api, entries, approve=False)["changed"]
    decided = review(api, action="approve", names=first["created"][:2])
    assert decided["counts"]["approved_now"] == 2
    assert len(sign(api, entries, approve=False)["certificates"]) == 2


def test_a_signer_that_takes_its_time_is_waited_for_with_one_list_at_a_time(api):
    api.signs = False
    entries = asked(5)

    def later():
        wait_until(lambda: sum(1 for item in api.objects.values() if item.get("status", {}).get("conditions")) == 5)
        for name in list(api.objects):
            api.issue(api.objects[name])

    thread = threading.Thread(target=later)
    thread.start()
    assert len(sign(api, entries)["certificates"]) == 5
    thread.join()


def wait_until(what):
    deadline = time.monotonic() + 10
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_signer_that_does_not_sign_is_named(api):
    api.signs = False
    with pytest.raises(PkiError) as error:
        sign(api, asked(2), wait_timeout=0.2)
    assert "2 of 2 requests are approved" in str(error.value) and "example.com/ca" in str(error.value)


def test_what_was_denied_is_said(api):
    entries = asked(2)
    names = sign(api, entries, approve=False)["created"]
    review(api, action="deny", names=names[:1], comment="not today")
    with pytest.raises(PkiError, match="denied .not today"):
        sign(api, entries)


def test_what_a_signer_does_not_give_is_said_before_anything_is_made(api):
    for usages, signer in ((("server",), csr_object.CLIENT), (("client", "1.2.3.4"), "example.com/x")):
        with pytest.raises(PkiError, match="does not give them"):
            sign(api, asked(1, usages), signer_name=signer)
    assert api.objects == {}


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("apiserver", x509_sign.Profile("eve", ["system:masters"])),
        ("scheduler.conf", x509_sign.Profile("system:kube-controller-manager")),
        ("admin.conf", x509_sign.Profile("system:node:w1", ["system:nodes"])),
        ("no-such-leaf", x509_sign.Profile("system:kube-scheduler")),
    ],
)
def test_a_dangerous_request_is_not_brought_to_a_signer(api, name, profile):
    made = x509_sign.build_request(profile, throwaway.key("evil")).pem.decode()
    with pytest.raises(PkiError, match="cp1"):
        sign(api, asked(1) + [{"host": "cp1", "name": name, "ca": "ca", "request": made, "days": 30.0}])
    assert api.objects == {}


def test_what_a_leaf_of_the_catalogue_has_is_brought_to_a_signer(api):
    made = x509_sign.build_request(x509_sign.Profile("kubernetes-admin", ["system:masters"]), throwaway.key("admin")).pem.decode()
    entry = {"host": "cp1", "name": "admin.conf", "ca": "ca", "request": made, "days": 30.0}
    assert len(sign(api, [entry])["certificates"]) == 1


def test_another_request_under_the_same_name_is_not_approved(api):
    entries = asked(1)
    made = sign(api, entries, approve=False)["created"][0]
    api.csr(made)["spec"]["usages"] = ["any"]
    with pytest.raises(PkiError, match="its usages differ"):
        sign(api, entries)
    assert api.csr(made)["status"] == {}


def test_check_mode_makes_no_request(api):
    planned = sign(api, asked(2), check=True)
    assert planned["changed"] and len(planned["created"]) == len(planned["approved"]) == 2 and api.objects == {}


def test_the_inventory_limits_the_built_in_policy(api):
    cluster(api, 3)
    decided = review(api, action="approve", hosts={"n0": "10.0.0.1", "n1.example": ""}, control_plane_hosts=["n0"])
    assert {row["name"]: row["decision"] for row in decided["requests"]} == {
        "csr-000": "approve",
        "csr-001": "approve",
        "csr-002": "leave",
    }


def test_the_address_of_the_api_is_for_the_control_plane(api):
    api.put("/api/v1/namespaces/default/services/kubernetes", {"spec": {"clusterIP": "10.0.0.1"}})
    cluster(api, 1)
    assert review(api, action="approve")["counts"]["left"] == 1


def test_what_belongs_to_the_api_and_to_services_is_found(tmp_path):
    fake = FakeApi(tls=tmp_path)
    try:
        fake.write_admin_conf(tmp_path / "admin.conf")
        client = api_connection.from_kubeconfig(str(tmp_path / "admin.conf"))
        config = (
            "networking: {serviceSubnet: '10.96.0.0/12,fd00::/112', dnsDomain: corp.internal}\n"
            "apiServer: {certSANs: [vip.example, 203.0.113.9]}\ncontrolPlaneEndpoint: '[2001:db8::1]:6443'\n"
        )
        fake.put("/api/v1/namespaces/kube-system/configmaps/kubeadm-config", {"data": {"ClusterConfiguration": config}})
        fake.put(
            "/api/v1/namespaces/default/services/kubernetes", {"spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"]}}
        )
        dead = {"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": 1}]}
        fake.put("/api/v1/namespaces/default/endpoints/kubernetes", {"subsets": [dead]})
        fake.put("/apis/networking.k8s.io/v1/servicecidrs", {"items": [{"spec": {"cidrs": ["10.200.0.0/16"]}}]})
        found = reserved_names.find(client)
        # api.example is in the certificate that the server shows.
        assert found.api == {"10.96.0.1", "vip.example", "203.0.113.9", "2001:db8::1", "api.example", "127.0.0.1"}
        assert found.service_networks == ["10.96.0.0/12", "fd00::/112", "10.200.0.0/16"]
        assert found.domains == {"corp.internal"}
        # A configuration that is not the truth any more: the Services say where they are.
        fake.put("/api/v1/namespaces/default/services/kubernetes", {"spec": {"clusterIP": "172.20.0.1"}})
        fake.put(
            "/api/v1/namespaces/kube-system/services/dns",
            {"spec": {"clusterIP": "172.20.0.10", "clusterIPs": ["172.20.0.10", "x"]}},
        )
        assert set(reserved_names.find(client).service_networks) >= {"172.20.0.1", "172.20.0.10", "10.96.0.0/12"}
    finally:
        fake.stop()


def test_the_dns_services_address_is_not_a_nodes(api):
    cluster(api, 1)
    api.put(
        "/api/v1/namespaces/kube-system/configmaps/kubeadm-config",
        {"data": {"ClusterConfiguration": "networking: {serviceSubnet: 10.96.0.0/12}"}},
    )
    api.put(
        "/api/v1/nodes/n0",
        {"status": {"addresses": [{"type": "InternalIP", "address": address} for address in ("10.0.0.1", "::ffff:10.96.0.10")]}},
    )
    kubelet(api, "csr-000", "n0", "::ffff:10.96.0.10")
    decided = review(api, action="approve", hosts={"n0": "10.0.0.1"})
    assert decided["counts"]["left"] == 1 and "Services" in decided["requests"][0]["why"]


def test_by_name_and_by_label(api):
    put(api, "a", pem("root", ["system:masters"]), labels={"team": "x"})
    put(api, "b", labels={"team": "x"})
    put(api, "c")
    with pytest.raises(PkiError, match="named nope"):
        review(api, action="approve", names=["a", "nope"])
    with pytest.raises(PkiError, match="the requester writes the labels"):
        review(api, action="approve", selector="team=x")
    assert api.csr("b")["status"] == {}
    by_label = review(api, action="approve", selector="team=x", policy=ANYBODY)
    assert {row["name"]: row["decision"] for row in by_label["requests"]} == {"a": "leave", "b": "approve"}
    by_name = review(api, action="approve", names=["a"])
    assert by_name["requests"][0]["state"] == "issued"
    denied = review(api, action="deny", names=["c"], comment="not agreed")
    assert denied["requests"][0]["state"] == "denied" and denied["requests"][0]["message"] == "not agreed"


def test_a_policy_of_the_user(api):
    put(api, "a", pem("dev-1", ()))
    put(api, "b", pem("ops-1", ()))
    policy = "version: 1\nrules: [{name: d, signer: '*', requester: alice, common_name: 'dev-*'}]"
    decided = review(api, action="approve", policy=policy)
    found = {row["name"]: (row["decision"], row["rule"]) for row in decided["requests"]}
    assert found == {"a": ("approve", "d"), "b": ("leave", None)}
    with pytest.raises(PkiError, match="mine.yml"):
        review(api, policy="version: 9", policy_path="mine.yml")


def test_denying_without_names_denies_only_what_could_never_be_granted(api):
    put(api, "a", pem("root", ["system:masters"]))
    put(api, "b")
    decided = review(api, action="deny")
    assert {row["name"]: row["decision"] for row in decided["requests"]} == {"a": "deny", "b": "leave"}


def test_one_that_cannot_be_decided_does_not_stop_the_others(api):
    for name in "abc":
        put(api, name, labels={"t": "x"})
    api.refuse[("PUT", api.csr_path("b"))] = (403, "may not approve")
    result = review(api, action="approve", selector="t=x", policy=ANYBODY)
    assert result["failed"] and "1 of 3" in result["msg"] and "may not approve" in result["msg"]
    assert [row["state"] for row in result["requests"]] == ["issued", "pending", "issued"]


def test_forged_objects_are_shown_and_left(api):
    empty = b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"
    for name, request in (("a", b"rubbish"), ("b", empty)):
        put(api, name, request)
    result = review(api, action="approve", names=["a", "b"])
    assert [row["decision"] for row in result["requests"]] == ["leave", "leave"]
    assert all(row["problem"] for row in result["requests"])


# --- a person's credential ---------------------------------------------------------------------------------------------------


def access(api, check=False, **given):
    return call(user_credential.user_access, ACCESS, api, check, **given)


def config(tmp_path, check=False, **given):
    return user_credential.user_kubeconfig(dict(CONFIG, path=str(tmp_path / "alice.conf"), **given), check)


def issue(api, tmp_path, **given):
    common = {key: given[key] for key in ("user", "groups") if key in given}
    asked = config(tmp_path, state="requested", ca=CA.pem.decode(), force=given.pop("force", False), **common)
    signed = access(api, request=asked["request"], **common)
    return asked, config(tmp_path, certificate=signed["certificate"], ca=CA.pem.decode(), server=api.url, prove="no", **common)


@pytest.fixture
def people():
    fake = FakeApi(requester="alice")
    for name in ("view", "edit"):
        fake.put("/apis/rbac.authorization.k8s.io/v1/clusterroles/" + name, {})
    yield fake
    fake.stop()


def test_a_person_gets_a_kubeconfig_and_renewing_is_the_same(people, tmp_path):
    asked, made = issue(people, tmp_path)
    assert asked["why"] == "there is no kubeconfig yet" and made["changed"]
    path = tmp_path / "alice.conf"
    assert os.stat(path).st_mode & 0o777 == 0o600 and os.listdir(tmp_path) == ["alice.conf"]
    written = kubeconfig.Kubeconfig(path.read_bytes(), str(path))
    certificate = x509_read.parse_certificate(written.certificate_data)
    assert (certificate.common_name, certificate.organizations) == ("alice", ["dev"]) and certificate.signed_by(CA)
    assert private_keys.parse_private_key(written.key_data).matches(certificate) and written.ca_data == CA.pem
    asked, made = issue(people, tmp_path)
    assert not asked["needed"] and not made["changed"]
    asked, made = issue(people, tmp_path, force=True)
    assert made["changed"] and made["certificate_info"]["sha256"] != certificate.sha256
    assert kubeconfig.Kubeconfig(path.read_bytes(), str(path)).key_data != written.key_data


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"groups": ["ops"]}, "groups differ"),
        ({"renew_below_days": 5}, "about to expire"),
        ({"ca": "other"}, "authority was replaced"),
    ],
)
def test_why_a_credential_is_renewed(people, tmp_path, given, why):
    issue(people, tmp_path)
    if given.get("ca"):
        key = private_keys.generate_key("ecdsa-p256")
        given = {"ca": (ca_sign.build_ca("kubernetes", key, 1).pem + CA.pem).decode()}
    result = config(tmp_path, state="requested", **dict({"ca": CA.pem.decode()}, **given))
    assert result["needed"] and why in result["why"]


def test_an_interrupted_run_goes_on_with_the_same_key(tmp_path):
    first = config(tmp_path, state="requested")
    second = config(tmp_path, state="requested")
    one_, two = (csr_read.parse_request(result["request"].encode()) for result in (first, second))
    assert one_.key_sha256 == two.key_sha256
    assert os.stat(tmp_path / ".alice.conf.kubepki-key").st_mode & 0o777 == 0o600
    (tmp_path / ".alice.conf.kubepki-key").write_text("")
    assert csr_read.parse_request(config(tmp_path, state="requested")["request"].encode()).key_sha256 != two.key_sha256


def leaf_for(request):
    return x509_sign.sign_leaf(
        x509_sign.Profile("alice", ["dev"]), csr_read.parse_request(request.encode()), CA, CA_KEY, 1
    ).pem.decode()


@pytest.mark.parametrize(
    "trap, word",
    [
        ("link", "is a symbolic link where a file of this user is expected"),
        ("mode", "other users may have read it"),
        ("owner", "belongs to user 65534, so it may be a trap"),
    ],
)
def test_a_pending_key_that_another_user_may_have_placed_is_not_used(tmp_path, trap, word):
    """In a directory that others can write to, the key beside the kubeconfig would make theirs the user's."""
    if trap == "owner" and os.geteuid() != 0:
        pytest.skip("only root can give files away")
    request = config(tmp_path, state="requested")["request"]
    pending, theirs = tmp_path / ".alice.conf.kubepki-key", tmp_path / "theirs"
    theirs.write_bytes(KEY.pem)
    theirs.chmod(0o644 if trap == "mode" else 0o600)
    pending.unlink()
    if trap == "link":
        pending.symlink_to(theirs)
    else:
        theirs.rename(pending)
    if trap == "owner":
        os.chown(pending, 65534, 65534)
    with pytest.raises(PkiError, match=r"alice.conf.kubepki-key: " + word):
        config(tmp_path, state="requested")
    with pytest.raises(PkiError, match=word):
        config(tmp_path, certificate=leaf_for(request), ca=CA.pem.decode(), server="https://a:1", prove="no")
    assert not (tmp_path / "alice.conf").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_kubeconfig_or_key_that_another_user_placed_in_a_shared_directory_is_refused(people, api, tmp_path):
    issue(people, tmp_path)
    tmp_path.chmod(0o1777)
    os.chown(tmp_path / "alice.conf", 65534, 65534)
    for state in ("requested", "present", "absent"):
        with pytest.raises(PkiError, match="alice.conf: belongs to user 65534, in a directory that other users can write to"):
            config(tmp_path, state=state)
    (tmp_path / "their.key").write_bytes(KEY.pem)
    os.chown(tmp_path / "their.key", 65534, 65534)
    with pytest.raises(PkiError, match="their.key: belongs to user 65534"):
        one(api, request=None, privatekey_path=str(tmp_path / "their.key"), common_name="alice")
    tmp_path.chmod(0o755)
    assert not config(tmp_path, state="requested")["needed"]  # root corrects a user's file in a directory of its own


def test_somebody_elses_kubeconfig_is_never_overwritten(people, tmp_path):
    issue(people, tmp_path)
    before = (tmp_path / "alice.conf").read_bytes()
    for state in ("requested", "present", "absent"):
        with pytest.raises(PkiError, match="is a kubeconfig of alice, not of bob"):
            config(tmp_path, user="bob", state=state)
    (tmp_path / "alice.conf").write_text("rubbish")
    with pytest.raises(PkiError):
        config(tmp_path, state="requested")
    assert (tmp_path / "alice.conf").read_text() == "rubbish" and before


def test_a_certificate_that_is_not_for_this_key_or_name_is_not_taken(tmp_path):
    config(tmp_path, state="requested")
    leaf = x509_sign.sign_leaf(x509_sign.Profile("alice", ["dev"]), KEY, CA, CA_KEY, 1)
    with pytest.raises(PkiError, match="not the issued certificate"):
        config(tmp_path, certificate=leaf.pem.decode(), ca=CA.pem.decode(), server="https://a:1", prove="no")
    key = private_keys.parse_private_key((tmp_path / ".alice.conf.kubepki-key").read_bytes())
    leaf = x509_sign.sign_leaf(x509_sign.Profile("alice", ["admins"]), key, CA, CA_KEY, 1)
    with pytest.raises(PkiError, match="not as asked for"):
        config(tmp_path, certificate=leaf.pem.decode(), ca=CA.pem.decode(), server="https://a:1", prove="no")
    assert not (tmp_path / "alice.conf").exists()


def test_check_mode_makes_no_key_and_issues_nothing(people, tmp_path):
    asked = config(tmp_path, check=True, state="requested")
    assert asked["needed"] and asked["request"] and os.listdir(tmp_path) == []
    signed = access(people, check=True, request=asked["request"], cluster_roles=["view"])
    assert signed["actions"] == ["issued", "bound ClusterRole view"] and signed["certificate"] is None
    made = config(tmp_path, check=True)
    assert made["changed"] and os.listdir(tmp_path) == []
    assert not [path for path in people.objects if "bindings" in path or "signing" in path]


@pytest.mark.parametrize(
    ("user", "groups"),
    [
        ("alice", ["system:masters"]),
        ("system:node:w1", ["system:nodes"]),
        ("system:admin", ["dev"]),
        ("alice", ["kubeadm:cluster-admins"]),
    ],
)
def test_people_are_not_made_into_the_system(people, user, groups):
    with pytest.raises(PkiError, match="users names"):
        access(people, user=user, groups=groups, request=pem(user, groups).decode(), cluster_roles=["view"])
    assert not [path for path in people.objects if "signing" in path or "bindings" in path]


@pytest.mark.parametrize("state", ["present", "queried"])
@pytest.mark.parametrize(
    ("user", "groups"),
    [
        ("system:anonymous", []),
        ("System:anonymous", []),
        ("kubernetes-admin", []),
        ("alice", ["system:authenticated"]),
        ("alice", ["kubeadm:cluster-admins"]),
        ("alice", ["dev", "SYSTEM:masters"]),
        ("kube-apiserver-kubelet-client", []),
        ("alice\n", []),
        (" alice", []),
        ("", []),
        ("alice", ["dev\u202e"]),
    ],
)
def test_no_role_is_given_to_a_reserved_name_with_or_without_a_request(people, user, groups, state):
    before = dict(people.objects)
    with pytest.raises(PkiError):
        access(people, user=user, groups=groups, state=state, cluster_roles=["view"])
    assert people.objects == before and not [call for call in people.calls if call[0] != "GET"]


def test_a_user_gets_no_role_when_the_certificate_cannot_be_issued(people):
    people.signs = False
    with pytest.raises(PkiError):
        access(people, request=pem().decode(), cluster_roles=["view"], wait_timeout=0)
    assert not [path for path in people.objects if "bindings" in path]


def test_a_role_that_does_not_exist_is_refused_before_anything_is_issued(people):
    with pytest.raises(PkiError, match="no such ClusterRole"):
        access(people, request=pem().decode(), cluster_roles=["view", "nope"])
    assert not [path for path in people.objects if "signing" in path or "bindings" in path]


def test_a_request_for_somebody_else_is_not_signed(people):
    with pytest.raises(PkiError, match="not for the user"):
        access(people, request=pem("bob").decode())


def test_roles_are_given_once_and_taken_away(people):
    first = access(people, cluster_roles=["view", "edit"], namespace="default")
    assert first["actions"] == ["bound ClusterRole view", "bound ClusterRole edit"]
    assert not access(people, cluster_roles=["view", "edit"], namespace="default")["changed"]
    with pytest.raises(PkiError, match="no such ClusterRole"):
        access(people, cluster_roles=["nope"])
    with pytest.raises(PkiError, match="needs a namespace"):
        access(people, roles=["reader"])
    people.put(
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/team",
        {"roleRef": {"name": "admin"}, "subjects": [{"kind": "Group", "name": "dev"}]},
    )
    put(people, "kubepki-user-alice-1", labels=dict(csr.MANAGED_BY, **{"kubepki.io/kind": "user"}))
    put(people, "kubepki-user-bob-1", pem("bob"), labels=dict(csr.MANAGED_BY, **{"kubepki.io/kind": "user"}))
    taken = access(people, state="absent")
    assert len(taken["actions"]) == 3 and [entry["name"] for entry in taken["remaining"]] == ["team"]
    assert people.csr("kubepki-user-bob-1") and not access(people, state="absent")["changed"]


def test_revoking_looks_at_the_groups_of_the_users_requests_and_says_what_was_not_looked_at(people):
    put(people, "by-hand", pem("alice", ["ops"]))
    people.put(
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/ops-admins",
        {"roleRef": {"name": "cluster-admin"}, "subjects": [{"kind": "Group", "name": "ops"}]},
    )
    taken = access(people, state="absent", groups=[])
    assert taken["groups"] == ["ops"] and [entry["name"] for entry in taken["remaining"]] == ["ops-admins"]
    said = "\n".join(taken["summary"])
    assert "ops-admins gives cluster-admin to Group ops" in said and "No role binding names" not in said
    assert "Not looked at" in said and people.csr("by-hand")


def test_revoking_without_any_known_group_does_not_claim_that_nothing_is_left(people):
    said = "\n".join(access(people, state="absent", groups=[])["summary"])
    assert "no group of the user is known" in said and "kubepki_user_groups" in said


@pytest.mark.parametrize(
    "subjects",
    [
        [{"kind": "Group", "name": "dev"}],
        [{"kind": "User", "name": "alice"}, {"kind": "User", "name": "bob"}],
        [{"kind": "User", "name": "bob"}, {"kind": "Group", "name": "dev"}],
    ],
)
def test_a_labelled_binding_that_names_others_is_never_removed(people, subjects):
    people.put(
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/shared",
        {
            "metadata": {"labels": dict(csr.MANAGED_BY), "annotations": {csr.USER_ANNOTATION: "alice"}},
            "roleRef": {"name": "view"},
            "subjects": subjects,
        },
    )
    taken = access(people, state="absent")
    assert taken["actions"] == [] and [entry["name"] for entry in taken["remaining"]] == ["shared"]
    assert any(path.endswith("/shared") for path in people.objects)


def test_a_binding_that_took_the_name_of_a_removed_one_is_left(people):
    access(people, cluster_roles=["view"])
    path = next(path for path in people.objects if "bindings" in path)

    def replace(method, _path):
        if method == "DELETE":
            people.objects[path]["metadata"]["uid"] = "another"

    people.before = replace
    with pytest.raises(api_client.ApiError, match="409|precondition"):
        access(people, state="absent")
    assert path in people.objects


OTHER_KEY = private_keys.generate_key("ecdsa-p256")
OTHER_CA = ca_sign.build_ca("kubernetes", OTHER_KEY, 10)


@pytest.mark.parametrize("state", ["requested", "present", "absent"])
def test_the_same_users_kubeconfig_of_another_cluster_is_never_touched(people, tmp_path, state):
    issue(people, tmp_path)
    before = (tmp_path / "alice.conf").read_bytes()
    with pytest.raises(PkiError, match="another cluster"):
        config(tmp_path, state=state, ca=OTHER_CA.pem.decode(), server="https://other:6443", prove="no")
    assert (tmp_path / "alice.conf").read_bytes() == before and os.listdir(tmp_path) == ["alice.conf"]


@pytest.mark.parametrize("given", ["the server moved", "the CA was replaced", "both CAs are trusted"])
def test_a_kubeconfig_that_has_its_server_or_a_ca_in_common_is_this_clusters(people, tmp_path, given):
    issue(people, tmp_path)
    ca = {"the server moved": CA.pem, "the CA was replaced": OTHER_CA.pem, "both CAs are trusted": OTHER_CA.pem + CA.pem}[given]
    server = people.url if given == "the CA was replaced" else "https://moved:6443"
    config(tmp_path, state="requested", ca=ca.decode(), server=server)


def test_two_clusters_have_different_default_kubeconfigs_and_no_name_is_a_path(people):
    first = access(people, state="queried", server="https://a.example:6443")["kubeconfig_name"]
    assert first == "alice@a.example.kubeconfig"
    assert access(people, state="queried", server="https://b.example:6443")["kubeconfig_name"] != first
    for user in ("../../etc/passwd", ".hidden", "a/b", "-rf", "a b", "x" * 300):
        name = user_credential.kubeconfig_name(user, "https://[::1]:6443")
        assert "/" not in name and not name.startswith((".", "-")) and len(name) < 200
    assert user_credential.kubeconfig_name("a/b", "https://a") != user_credential.kubeconfig_name("a-b", "https://a")


def test_the_groups_of_a_removed_kubeconfig_are_returned(people, tmp_path):
    issue(people, tmp_path)
    assert config(tmp_path, check=True, state="absent")["groups"] == ["dev"]


def test_a_binding_that_was_changed_by_hand_is_made_again(people):
    access(people, cluster_roles=["view"])
    path = next(path for path in people.objects if "bindings" in path)
    people.objects[path]["subjects"] = []
    assert access(people, cluster_roles=["view"])["changed"] and people.objects[path]["subjects"][0]["name"] == "alice"


def test_a_binding_that_another_one_replaced_meanwhile_is_not_deleted(people):
    access(people, cluster_roles=["view"])
    path = next(path for path in people.objects if "bindings" in path)
    people.objects[path]["subjects"] = []

    def replace(method, _path):
        if method == "DELETE":
            people.objects[path]["metadata"]["uid"] = "another"

    people.before = replace
    with pytest.raises(api_client.ApiError, match="409|precondition"):
        access(people, cluster_roles=["view"])
    assert path in people.objects


def test_an_authority_the_api_does_not_trust_is_noticed(people):
    other = ca_sign.build_ca("kubernetes", KEY, 1)
    people.put(
        "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication",
        {"data": {"client-ca-file": other.pem.decode()}},
    )
    with pytest.raises(PkiError, match="do not trust"):
        access(people, request=pem().decode())


@pytest.mark.parametrize("minor", [20, 28])
def test_the_kubeconfig_is_proven(tmp_path, minor):
    fake = FakeApi(minor=minor, requester="alice", tls=tmp_path)
    try:
        folder = tmp_path / "home"
        folder.mkdir()
        asked = config(folder, state="requested")
        leaf = x509_sign.sign_leaf(
            x509_sign.Profile("alice", ["dev"]), csr_read.parse_request(asked["request"].encode()), CA, CA_KEY, 1
        )
        given = {"ca": CA.pem.decode(), "server": fake.url, "prove": "yes"}
        proof = config(folder, certificate=leaf.pem.decode(), **given)["proof"]
        assert proof["how"] == ("SelfSubjectReview" if minor == 28 else "SelfSubjectAccessReview")
        fake.requester = "somebody"
        if minor == 28:
            with pytest.raises(PkiError, match="for somebody, not for alice"):
                config(folder, **given)
        fake.token = "only tokens"
        with pytest.raises(api_client.ApiError, match="401"):
            config(folder, **{**given, "prove": "auto"})
    finally:
        fake.stop()
    result = config(folder, **{**given, "prove": "auto"})
    assert result["proof"] is None and "was not tried" in result["warnings"][0]
    with pytest.raises(PkiError, match="cannot be reached"):
        config(folder, **given)


def test_absent_removes_the_file(people, tmp_path):
    issue(people, tmp_path)
    assert config(tmp_path, check=True, state="absent")["changed"] and (tmp_path / "alice.conf").exists()
    assert config(tmp_path, state="absent")["changed"] and os.listdir(tmp_path) == []
    assert not config(tmp_path, state="absent")["changed"]
