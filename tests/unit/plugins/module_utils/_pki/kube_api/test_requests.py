# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What certificate requests ask for, and what no policy may grant them."""

from __future__ import annotations

import base64
import ipaddress
import re
import subprocess
import time

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import (
    csr_dangers,
    csr_decision,
    csr_object,
    csr_policy,
    node_identity,
    serving_decision,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import (
    ca_sign,
    csr_read,
    private_keys,
    x509_read,
    x509_sign,
)
from cryptography import x509 as library
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

KEY = private_keys.generate_key("ecdsa-p256")
CA_KEY = private_keys.generate_key("ecdsa-p256")
CA = ca_sign.build_ca("kubernetes", CA_KEY, 10)
WIDE_OPEN = csr_policy.Policy(
    [
        csr_policy.Rule(
            "all",
            csr_object.APPROVE,
            {
                "signer": ["*"],
                "requester": ["*"],
                "common_name": ["*"],
                "organizations": ["*"],
                "requester_groups": [],
                "key_types": [],
                "usages": ["client auth", "server auth", "digital signature", "key encipherment"],
                "max_days": None,
                "node_matches": False,
                "sans": {"dns": ["*", "*.*"], "ip": [], "uri": [], "email": []},
            },
        )
    ]
)


def hostile(common_name, organizations, sans, *usages):
    """A Profile with names that the collection itself would ask for in no request."""
    profile = x509_sign.Profile(common_name, organizations, (), *usages)
    make = {
        "DNS": library.DNSName,
        "URI": library.UniformResourceIdentifier,
        "email": library.RFC822Name,
        "IP": lambda text: library.IPAddress(ipaddress.ip_address(text)),
    }
    if sans:
        named = (text.partition(":") for text in sans)
        profile.sans = library.SubjectAlternativeName([make[kind](value) for kind, _colon, value in named]), False
    return profile


def pem(common_name="alice", organizations=(), sans=(), extended=("client",)) -> bytes:
    return x509_sign.build_request(hostile(common_name, organizations, sans, extended), KEY).pem


# One request for the whole run: the length of an ECDSA signature varies.
DER = base64.b64decode(b"".join(pem("system:node:w1", ["system:nodes"], ["DNS:w1"]).splitlines()[1:-1]))


def item(
    request=None,
    name="r",
    signer=csr_object.CLIENT,
    requester="alice",
    groups=("system:authenticated",),
    usages=None,
    conditions=(),
    certificate=None,
    seconds=None,
    **subject,
):
    usages = list(csr_object.USAGES.get(signer, ()) if usages is None else usages)
    # The request asks for what its object does, unless a test says otherwise.
    subject.setdefault("extended", sorted(csr_dangers.extended_usages(usages)))
    spec = {
        "request": base64.b64encode(request or pem(**subject)).decode(),
        "signerName": signer,
        "username": requester,
        "groups": list(groups),
        "usages": usages,
    }
    if seconds is not None:
        spec["expirationSeconds"] = seconds
    status = {"conditions": [dict({"status": "True"}, **entry) for entry in conditions]}
    if certificate:
        status["certificate"] = base64.b64encode(certificate).decode()
    return {
        "metadata": {"name": name, "uid": "1", "resourceVersion": "7", "creationTimestamp": "2026-11-21T19:00:00Z"},
        "spec": spec,
        "status": status,
    }


def ask(**arguments):
    return csr_object.decode(item(**arguments))


def serving(node="w1", sans=("DNS:w1", "IP:10.0.0.5"), **arguments):
    given_ = {
        "signer": csr_object.KUBELET_SERVING,
        "requester": "system:node:" + node,
        "groups": ["system:nodes", "system:authenticated"],
        "common_name": "system:node:" + node,
        "organizations": ["system:nodes"],
        "sans": sans,
    }
    given_.update(arguments)
    return ask(**given_)


def node(name, *addresses, control_plane=False):
    labels = {"node-role.kubernetes.io/control-plane": ""} if control_plane else {}
    return {
        "metadata": {"name": name, "labels": labels},
        "status": {"addresses": [{"type": "InternalIP", "address": address} for address in addresses]},
    }


NODES = [node("cp1", "10.0.0.1", "cp1", control_plane=True), node("w1", "10.0.0.5", "w1"), node("w2", "10.0.0.6", "w2")]
INVENTORY = [
    {"name": "cp1", "addresses": ["10.0.0.1"], "control_plane": True},
    {"name": "w1.example", "addresses": ["192.0.2.5"], "control_plane": False},
    {"name": "w2", "addresses": ["10.0.0.6"], "control_plane": False},
]


def known(items=None, inventory=None, reserved=("10.0.0.100", "api.example")):
    return node_identity.Nodes(NODES if items is None else items, INVENTORY if inventory is None else inventory, reserved)


def verdict(asked, nodes=None, policy=None, wanted=csr_object.APPROVE, **arguments):
    return csr_decision.decide(asked, wanted, policy or csr_policy.built_in_policy(), nodes or known(), **arguments)


# --- decoding ----------------------------------------------------------------------------------------------------------------


def test_a_request_is_decoded_as_openssl_decodes_it():
    asked = ask(common_name="alice", organizations=["dev", "ops"], sans=["DNS:a.example", "IP:192.0.2.1"], seconds=3600)
    text = subprocess.run(
        ["openssl", "req", "-noout", "-text", "-nameopt", "oneline"], input=asked.request.pem, capture_output=True, check=True
    ).stdout
    assert b"O = dev, O = ops, CN = alice" in text and b"DNS:a.example, IP Address:192.0.2.1" in text
    shown = csr_decision.row(asked, x509_read.now())
    assert (shown["common_name"], shown["organizations"]) == ("alice", ["dev", "ops"])
    assert shown["sans"] == ["DNS:a.example", "IP:192.0.2.1"]
    assert (shown["state"], shown["expiration_seconds"], shown["key_type"]) == ("pending", 3600, "ecdsa-p256")


@pytest.mark.parametrize(
    ("conditions", "certificate", "state"),
    [
        ([], None, "pending"),
        ([{"type": "Approved", "reason": "r"}], None, "approved"),
        ([{"type": "Approved"}], b"pem", "issued"),
        ([{"type": "Denied"}], None, "denied"),
        ([{"type": "Approved"}, {"type": "Failed", "message": "no"}], None, "failed"),
        ([{"type": "Approved", "status": "False"}], None, "pending"),
        ([{"type": "Approved", "status": ""}], None, "approved"),
    ],
)
def test_states(conditions, certificate, state):
    assert ask(conditions=conditions, certificate=certificate).state == state


def test_v1beta1_without_a_signer_is_the_legacy_signer():
    damaged = item()
    del damaged["spec"]["signerName"]
    assert csr_object.decode(damaged).signer == csr_object.LEGACY


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"",
        b"\0",
        b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        b"-----BEGIN CERTIFICATE REQUEST-----\n",
        pem() + pem("bob"),
        b"junk\n" + pem(),
        pem() + b"junk",
        pem().replace(b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST"),
    ],
)
def test_what_is_not_exactly_one_readable_request_is_never_approved(request_bytes):
    damaged = item()
    damaged["spec"]["request"] = base64.b64encode(request_bytes).decode()
    asked = csr_object.decode(damaged)
    assert asked.request is None and isinstance(asked.problem, PkiError)
    for named in (True, False):
        assert verdict(asked, policy=WIDE_OPEN, named=named).action == csr_object.LEAVE


def test_a_request_signed_by_another_key_is_refused():
    request = x509_sign.build_request(x509_sign.Profile("alice"), KEY)
    der = bytearray(base64.b64decode(b"".join(request.pem.splitlines()[1:-1])))
    at = der.index(b"alice")
    der[at : at + 5] = b"malic"
    forged = b"-----BEGIN CERTIFICATE REQUEST-----\n%s\n-----END CERTIFICATE REQUEST-----\n" % base64.b64encode(bytes(der))
    asked = ask(request=forged)
    assert "not signed by the key" in asked.problem.message
    assert verdict(asked, policy=WIDE_OPEN, named=True).action == csr_object.LEAVE


keys = st.sampled_from(
    [
        "metadata",
        "spec",
        "status",
        "conditions",
        "type",
        "name",
        "request",
        "usages",
        "username",
        "groups",
        "signerName",
        "certificate",
        "creationTimestamp",
        "labels",
        "expirationSeconds",
    ]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=25,
)


@settings(max_examples=150, deadline=None)
@given(json_values, st.sampled_from([csr_object.APPROVE, csr_object.DENY]), st.booleans())
def test_nothing_raises_whatever_an_object_holds(value, wanted, named):
    asked = csr_object.decode(value)
    decision = csr_decision.decide(asked, wanted, csr_policy.built_in_policy(), known(), named)
    assert decision.action != csr_object.APPROVE  # none of these is a request
    lines = csr_decision.table([dict(csr_decision.row(asked, x509_read.now()), decision=decision.action, why=decision.why)])
    assert all(line.isprintable() for line in lines)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_request_is_read_or_refused_and_never_raises(data):
    der = bytearray(DER)
    for _change in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(der) - 1))
        der[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    text = b"-----BEGIN CERTIFICATE REQUEST-----\n%s\n-----END CERTIFICATE REQUEST-----\n" % base64.b64encode(bytes(der))
    asked = ask(request=text)
    assert (asked.request is None) == (asked.problem is not None)
    decision = verdict(asked, policy=WIDE_OPEN, named=True)
    assert decision.action == (csr_object.LEAVE if asked.problem else csr_object.APPROVE)
    assert all(line.isprintable() for line in csr_decision.table([csr_decision.row(asked, x509_read.now())]))


def test_control_characters_do_not_reach_the_terminal():
    asked = ask(common_name="\x1b[31mevil\u202e", requester="x\r\ny")
    shown = csr_decision.row(asked, x509_read.now())
    assert shown["common_name"] == "\\x1b[31mevil\\u202e" and shown["requester"] == "x\\r\\ny"


# --- what no policy grants ---------------------------------------------------------------------------------------------------

names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
groups = st.lists(st.sampled_from(["dev", "ops", "system:nodes", "system:authenticated"]) | names, max_size=3)


@settings(max_examples=100, deadline=None)
@given(
    names | st.just("system:node:w1"),
    groups,
    st.sampled_from(["system:masters", "kubeadm:cluster-admins"]),
    names,
    groups,
    st.sampled_from([csr_object.CLIENT, csr_object.KUBELET_CLIENT, csr_object.KUBELET_SERVING, "example.com/any"]),
    st.randoms(),
)
def test_nobody_becomes_an_administrator_by_a_policy(common_name, others, master, requester, requester_groups, signer, random):
    organizations = others + [master]
    random.shuffle(organizations)
    asked = ask(common_name=common_name, organizations=organizations, requester=requester, groups=requester_groups, signer=signer)
    for policy in (WIDE_OPEN, None):
        decision = csr_decision.decide(asked, csr_object.APPROVE, policy, known())
        assert decision.action == csr_object.LEAVE and decision.refused
    assert csr_decision.decide(asked, csr_object.APPROVE, None, known(), named=True).action == csr_object.APPROVE


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["w1", "w2", "cp1"]),
    groups,
    names | st.sampled_from(["system:node:w1", "system:node:w2"]),
    groups,
    st.booleans(),
)
def test_only_a_node_gets_its_identity(name, organizations, requester, requester_groups, nodes_group):
    common_name = "system:node:" + name
    if nodes_group:
        organizations = ["system:nodes"]
    asked = ask(common_name=common_name, organizations=organizations, requester=requester, groups=requester_groups)
    itself = requester == common_name and "system:nodes" in requester_groups and organizations == ["system:nodes"]
    decision = csr_decision.decide(asked, csr_object.APPROVE, WIDE_OPEN, known())
    assert bool(decision.refused) is not itself
    assert itself or decision.action == csr_object.LEAVE


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ({"common_name": "bob", "organizations": ["system:nodes"]}, "would be a node"),
        ({"common_name": "system:kube-controller-manager"}, "keeps for itself"),
        ({"common_name": "system:serviceaccount:kube-system:admin"}, "keeps for itself"),
        ({"common_name": "bob", "organizations": ["system:serviceaccounts"]}, "keeps for itself"),
        ({"common_name": "system:node:w1", "organizations": ["system:nodes"]}, "is not that node"),
    ],
)
def test_reserved_names_are_refused(subject, words):
    decision = verdict(ask(**subject), policy=WIDE_OPEN)
    assert decision.refused and words in decision.why


def _openssl_request(tmp_path, configuration: str) -> bytes:
    (tmp_path / "key.pem").write_bytes(KEY.pem)
    (tmp_path / "c.cnf").write_text("[req]\nprompt=no\ndistinguished_name=dn\nreq_extensions=ext\n" + configuration)
    return subprocess.run(
        ["openssl", "req", "-new", "-key", tmp_path / "key.pem", "-config", tmp_path / "c.cnf"], capture_output=True, check=True
    ).stdout


def test_two_common_names_are_refused_because_go_takes_the_last(tmp_path):
    asked = ask(request=_openssl_request(tmp_path, "[dn]\n0.CN=alice\n1.CN=system:node:w1\n[ext]\nsubjectAltName=DNS:a\n"))
    assert asked.request.common_names == ["alice", "system:node:w1"]
    assert verdict(asked, policy=WIDE_OPEN).refused


def test_an_authority_is_refused(tmp_path):
    asked = ask(request=_openssl_request(tmp_path, "[dn]\nCN=alice\n[ext]\nbasicConstraints=critical,CA:TRUE\n"))
    decision = verdict(asked, policy=WIDE_OPEN)
    assert decision.refused and "authority" in decision.why


def test_further_subject_attributes_need_a_person(tmp_path):
    asked = ask(request=_openssl_request(tmp_path, "[dn]\nCN=alice\nUID=root\n[ext]\nkeyUsage=digitalSignature\n"))
    decision = verdict(asked, policy=WIDE_OPEN)
    assert decision.action == csr_object.LEAVE and "further attributes" in decision.why


# --- what two readers could read differently, and what nothing allows ----------------------------------------------------------

CN, ORG, OU = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME


def written(*rdns, extensions=(), attributes=()) -> bytes:
    """A request whose subject has these RDNs, each a list of (OID, value, name of the string type)."""
    subject = library.Name(
        [
            library.RelativeDistinguishedName(
                [library.NameAttribute(oid, value, _type=getattr(_ASN1Type, kind), _validate=False) for oid, value, kind in rdn]
            )
            for rdn in rdns
        ]
    )
    builder = library.CertificateSigningRequestBuilder().subject_name(subject)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    for oid, value in attributes:
        builder = builder.add_attribute(library.ObjectIdentifier(oid), value)
    return builder.sign(KEY.raw, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


ALICE = [(CN, "alice", "UTF8String")]
AMBIGUOUS = {
    "Go cuts the NUL off": ([(ORG, "kubeadm:cluster-admins\0", "BMPString")], ALICE),
    "BMPString": ([(ORG, "dev", "BMPString")], ALICE),
    "BMPString name": ([(CN, "alice", "BMPString")],),
    "UniversalString": ([(ORG, "dev", "UniversalString")], ALICE),
    "T61String": ([(CN, "alice", "T61String")],),
    "NumericString": ([(ORG, "12", "NumericString")], ALICE),
    "NUL": ([(ORG, "system:masters\0", "UTF8String")], ALICE),
    "newline": ([(CN, "alice\n", "UTF8String")],),
    "right to left": ([(CN, "a\u202elice", "UTF8String")],),
    "zero width": ([(ORG, "system:\u200bmasters", "UTF8String")], ALICE),
    "blank before": ([(ORG, " system:masters", "UTF8String")], ALICE),
    "blank behind": ([(ORG, "system:masters ", "UTF8String")], ALICE),
    "two blanks": ([(ORG, "a  b", "UTF8String")], ALICE),
    "full width": ([(ORG, "\uff53ystem:masters", "UTF8String")], ALICE),
    "decomposed": ([(CN, "zoe\u0308", "UTF8String")],),
    "two names": (ALICE, [(CN, "bob", "UTF8String")]),
    "two names in one part": ([(CN, "alice", "UTF8String"), (CN, "bob", "UTF8String")],),
    "two kinds in one part": ([(CN, "alice", "UTF8String"), (ORG, "dev", "UTF8String")],),
    "another attribute": ([(OU, "a\0", "BMPString")], ALICE),
}


def never_granted(data: bytes) -> str:
    """See that nothing approves or signs a request; give why."""
    asked = ask(request=data)
    for policy in (WIDE_OPEN, None):
        for named in (False, True):
            decision = csr_decision.decide(asked, csr_object.APPROVE, policy, known(), named)
            assert decision.action == csr_object.LEAVE and decision.refused
    for allowed in ((), csr_dangers.EVERY_NAME):
        with pytest.raises(PkiError):
            csr_dangers.refuse_dangerous_ask(asked, allowed)
        with pytest.raises(PkiError):
            csr_dangers.refuse_dangerous_request(data, allowed=allowed)
    with pytest.raises(PkiError):
        request = csr_read.parse_request(data)
        x509_sign.sign_leaf(x509_sign.Profile(request.common_name, request.organizations), request, CA, CA_KEY, 1)
    return "; ".join(csr_dangers.dangers(asked)) or asked.problem.message


@pytest.mark.parametrize("subject", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_a_subject_that_can_be_read_in_two_ways_is_never_granted(subject):
    why = never_granted(written(*subject))
    assert "read" in why and why.isprintable()


@pytest.mark.parametrize(("value", "kind"), [("a@b", "PrintableString"), ("zo\u00eb", "IA5String")])
def test_a_string_with_characters_that_its_type_does_not_have_is_ambiguous(value, kind):
    """Some versions of the library read such a string; none writes it."""
    subject = library.Name([library.NameAttribute(ORG, value, _type=getattr(_ASN1Type, kind))])
    assert "type %s does not have" % kind in csr_read.subject_ambiguities(subject)[0]


@pytest.mark.parametrize(
    "subject",
    [
        ([(ORG, "dev", "PrintableString")], [(CN, "alice", "IA5String")]),
        ([(CN, "Zo\u00eb M", "UTF8String")],),
        ([(ORG, "dev", "UTF8String"), (ORG, "ops", "UTF8String")], ALICE),
    ],
    ids=["usual types", "composed", "as Go writes two organizations"],
)
def test_a_usual_subject_is_not_ambiguous(subject):
    asked = ask(request=written(*subject))
    assert csr_dangers.dangers(asked) == [] and verdict(asked, policy=WIDE_OPEN).action == csr_object.APPROVE


SAN = library.SubjectAlternativeName([library.DNSName("a.example")])


@pytest.mark.parametrize(
    ("extensions", "attributes"),
    [
        ([(SAN, False)], [("1.2.840.113549.1.9.14", b"0")]),
        ([(SAN, False)], [("1.3.6.1.4.1.311.2.1.14", b"0")]),
        ([], [("1.3.6.1.4.1.311.2.1.14", b"0")]),
        ([(library.SubjectAlternativeName([library.UniformResourceIdentifier("https://a\nb")]), False)], []),
        ([(library.SubjectAlternativeName([library.DNSName("kubernetes\0.example")]), False)], []),
    ],
    ids=["two sets", "two kinds of sets", "a set that Go passes over", "newline in a URI", "NUL in a name"],
)
def test_extensions_that_can_be_read_in_two_ways_are_never_granted(extensions, attributes):
    assert "read" in never_granted(written(ALICE, extensions=extensions, attributes=attributes))


@pytest.mark.parametrize("usage", ["key_cert_sign", "crl_sign"])
def test_a_key_usage_of_a_ca_is_never_granted(usage):
    wanted = library.KeyUsage(
        **dict(
            dict.fromkeys(
                [
                    "digital_signature",
                    "content_commitment",
                    "key_encipherment",
                    "data_encipherment",
                    "key_agreement",
                    "key_cert_sign",
                    "crl_sign",
                    "encipher_only",
                    "decipher_only",
                ],
                False,
            ),
            **{usage: True},
        )
    )
    assert "authority" in never_granted(written(ALICE, extensions=[(wanted, True)]))


def test_a_ca_is_refused_whatever_the_signer_and_whoever_names_it():
    data = written(ALICE, extensions=[(library.BasicConstraints(ca=True, path_length=None), True)])
    assert "authority" in never_granted(data)
    for signer in (csr_object.CLIENT, csr_object.LEGACY, "example.com/any"):
        asked = ask(request=data, signer=signer, usages=["client auth"])
        assert verdict(asked, policy=WIDE_OPEN, named=True).action == csr_object.LEAVE
    for usage in ("cert sign", "crl sign"):
        decision = verdict(ask(signer="example.com/any", usages=["client auth", usage]), policy=WIDE_OPEN, named=True)
        assert decision.action == csr_object.LEAVE and "authority" in decision.why


def test_an_extension_that_is_not_known_is_allowed_by_its_oid_alone():
    oid = "1.3.6.1.4.1.311.25.2"
    for critical in (True, False):
        data = written(ALICE, extensions=[(library.UnrecognizedExtension(library.ObjectIdentifier(oid), b"0"), critical)])
        decision = verdict(ask(request=data), policy=WIDE_OPEN)
        assert decision.refused and oid in decision.why
        assert verdict(ask(request=data), policy=WIDE_OPEN, named=True).action == csr_object.APPROVE
        with pytest.raises(PkiError, match="1.3.6.1.4.1.311.25.2"):
            csr_dangers.refuse_dangerous_request(data, allowed=["1.2.3"])
        assert csr_dangers.refuse_dangerous_request(data, allowed=[oid]).common_name == "alice"


def test_names_of_kinds_that_policies_do_not_know_are_refused():
    other = library.OtherName(library.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x01a")
    data = written(ALICE, extensions=[(library.SubjectAlternativeName([other]), False)])
    assert verdict(ask(request=data), policy=WIDE_OPEN).refused


def test_usages_of_the_request_that_its_object_does_not_name_are_refused():
    """Kubernetes' signers look at the object, others at the request."""
    data = pem(extended=("client", "server"))
    decision = verdict(ask(request=data, signer="example.com/any", usages=["server auth"]), policy=WIDE_OPEN, named=True)
    assert decision.action == csr_object.LEAVE and "does not name (client)" in decision.why
    assert (
        verdict(
            ask(request=data, signer="example.com/any", usages=["server auth", "client auth"]), policy=WIDE_OPEN, named=True
        ).action
        == csr_object.APPROVE
    )
    with pytest.raises(PkiError, match="usage server"):
        csr_dangers.refuse_dangerous_request(data, csr_object.CLIENT)


@pytest.mark.parametrize(
    ("common_name", "organizations"),
    [
        ("front-proxy-client", []),
        ("kube-apiserver-kubelet-client", []),
        ("kubernetes-admin", []),
        ("System:Node:w1", []),
        ("alice", ["System:Masters"]),
        ("alice", ["Kubeadm:Cluster-Admins"]),
        ("alice", ["SYSTEM:NODES"]),
        ("alice", ["kubeadm:any"]),
    ],
)
def test_names_that_differ_by_case_and_those_of_the_control_plane_are_refused(common_name, organizations):
    decision = verdict(ask(common_name=common_name, organizations=organizations), policy=WIDE_OPEN)
    assert decision.action == csr_object.LEAVE and decision.refused


def test_a_request_for_a_signer_is_refused_unless_its_names_are_allowed():
    data = pem("system:kube-scheduler", ["system:masters"])
    for allowed in ((), ["system:kube-scheduler"], ["system:masters"], catalogue.subject_names("scheduler.conf")):
        with pytest.raises(PkiError):
            csr_dangers.refuse_dangerous_request(data, allowed=allowed)
    assert csr_dangers.refuse_dangerous_request(data.decode(), allowed=["system:kube-scheduler", "system:masters"]).organizations
    for name in ("scheduler.conf", "controller-manager.conf", "admin.conf", "super-admin.conf", "front-proxy-client"):
        entry = catalogue.BY_NAME[name]
        for minor in (20, 36):
            own = pem(entry.common_name, entry.organizations(minor))
            assert (
                csr_dangers.refuse_dangerous_request(own, allowed=catalogue.subject_names(name)).common_name == entry.common_name
            )
            with pytest.raises(PkiError):
                csr_dangers.refuse_dangerous_request(own)
    assert catalogue.subject_names("ca") == catalogue.subject_names("nothing") == set()
    for damaged in (b"", pem() + pem(), b"-----BEGIN CERTIFICATE-----\n"):
        with pytest.raises(PkiError, match="exactly one PEM block"):
            csr_dangers.refuse_dangerous_request(damaged)


def test_the_signer_that_checks_nothing_has_to_be_named_in_full():
    asked = ask(signer=csr_object.LEGACY, usages=["client auth"])
    rule = "version: 1\nrules: [{name: a, signer: '%s', requester: '*', common_name: '*', usages: [client auth]}]"
    decision = verdict(asked, policy=user_policy(rule % "kubernetes.io/*"))
    assert decision.action == csr_object.LEAVE and "in full" in decision.why
    assert verdict(asked, policy=user_policy(rule % csr_object.LEGACY)).action == csr_object.APPROVE


def test_without_a_policy_nothing_is_approved_that_was_not_named():
    decision = csr_decision.decide(ask(), csr_object.APPROVE, None, known())
    assert decision.action == csr_object.LEAVE and "label" in decision.why


# --- the built-in policy -----------------------------------------------------------------------------------------------------


def test_a_kubelet_gets_its_serving_certificate():
    decision = verdict(serving())
    assert (decision.action, decision.rule) == (csr_object.APPROVE, "kubelet-serving")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sans": ("DNS:w1", "IP:10.0.0.6")}, "IP:10.0.0.6 is not an address"),
        ({"sans": ("DNS:w1", "IP:10.0.0.1")}, "IP:10.0.0.1 is not an address"),
        ({"sans": ("DNS:w2",)}, "DNS:w2 is not an address"),
        ({"sans": ("DNS:*",)}, "no kubelet serves"),
        ({"sans": ("DNS:w1", "URI:spiffe://x")}, "no kubelet serves"),
        ({"sans": ()}, "no address"),
        ({"sans": ("DNS:kubernetes",)}, "belongs to the API"),
        ({"sans": ("IP:10.0.0.100",)}, "belongs to the API"),
        ({"node": "w9"}, "no Node named w9"),
        ({"usages": ("digital signature", "client auth")}, "client auth"),
        ({"signer": csr_object.CLIENT}, "signer"),
        ({"signer": "example.com/x"}, "signer"),
    ],
)
def test_what_the_built_in_policy_leaves(arguments, words):
    decision = verdict(serving(**arguments))
    assert decision.action == csr_object.LEAVE and words in decision.why


def test_an_address_that_another_node_claims_too_is_left():
    items = [node("w1", "10.0.0.6"), node("w2", "10.0.0.6")]
    decision = verdict(serving(sans=("IP:10.0.0.6",)), known(items))
    assert decision.action == csr_object.LEAVE and "belongs to the node w2" in decision.why


def test_an_address_the_inventory_gives_is_the_nodes_own_whoever_claims_it():
    items = [node("w1", "10.0.0.6"), node("w2", "10.0.0.6")]
    assert verdict(serving("w2", sans=("IP:10.0.0.6",)), known(items)).action == csr_object.APPROVE


def test_a_node_that_the_inventory_does_not_know_is_left():
    items = [*NODES, node("w3", "10.0.0.7")]
    decision = verdict(serving("w3", sans=("IP:10.0.0.7",)), known(items))
    assert "not in the inventory" in decision.why
    assert verdict(serving("w3", sans=("IP:10.0.0.7",)), node_identity.Nodes(items, (), ())).action == csr_object.APPROVE


def test_a_node_cannot_become_an_inventory_host_by_claiming_its_address():
    items = [*NODES, node("evil", "192.0.2.5")]
    assert verdict(serving("evil", sans=("IP:192.0.2.5",)), known(items)).action == csr_object.LEAVE


def test_a_control_plane_node_may_have_the_api_address():
    items = [node("cp1", "10.0.0.1", "10.0.0.100"), *NODES[1:]]
    assert verdict(serving("cp1", sans=("IP:10.0.0.100",)), known(items)).action == csr_object.APPROVE
    items = [NODES[0], node("w1", "10.0.0.100"), NODES[2]]
    assert verdict(serving("w1", sans=("IP:10.0.0.100",)), known(items)).action == csr_object.LEAVE


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["w1", "w2"]),
    st.lists(
        st.sampled_from(
            [
                "DNS:w1",
                "DNS:w2",
                "DNS:cp1",
                "IP:10.0.0.1",
                "IP:10.0.0.5",
                "IP:10.0.0.6",
                "IP:192.0.2.5",
                "DNS:kubernetes",
                "DNS:localhost",
                "DNS:api.example",
                "IP:10.0.0.100",
                "DNS:W1.",
            ]
        ),
        min_size=1,
        max_size=4,
        unique=True,
    ),
)
def test_a_serving_certificate_never_names_somebody_else(name, sans):
    own = {"w1": {"DNS:w1", "DNS:W1.", "IP:10.0.0.5", "IP:192.0.2.5"}, "w2": {"DNS:w2", "IP:10.0.0.6"}}[name]
    decision = verdict(serving(name, sans=sans))
    assert (decision.action == csr_object.APPROVE) == (set(sans) <= own)


# What a worker writes into its own Node object and then asks for. Each was approved, or could have been.
STOLEN = [
    "IP:::ffff:10.96.0.1",
    "IP:10.96.0.1",
    "IP:10.96.0.10",
    "IP:fd00:96::a",
    "IP:::ffff:10.0.0.6",
    "IP:::ffff:10.0.0.1",
    "IP:10.0.0.100",
    "IP:127.0.0.1",
    "IP:127.8.8.8",
    "IP:::1",
    "IP:::ffff:127.0.0.1",
    "IP:0.0.0.0",
    "IP:::",
    "IP:169.254.169.254",
    "IP:fe80::1",
    "IP:224.0.0.1",
    "IP:ff02::1",
    "DNS:localhost",
    "DNS:Localhost.",
    "DNS:a.localhost",
    "DNS:localhost.localdomain",
    "DNS:10.96.0.1",
    "DNS:kubernetes",
    "DNS:KUBERNETES.default.",
    "DNS:kubernetes.default.svc",
    "DNS:kubernetes.default.svc.cluster.local",
    "DNS:metrics-server.kube-system.svc",
    "DNS:Metrics-Server.kube-system.SVC.",
    "DNS:metrics-server.kube-system.svc.corp.internal",
    "DNS:anything.cluster.local",
    "DNS:anything.corp.internal",
    "DNS:svc",
    "DNS:api.example",
    "DNS:API.example.",
    "DNS:w2",
    "DNS:W2.",
    "DNS:w2.example",
    "DNS:cp1",
    "DNS:etcd1",
    "IP:10.0.0.9",
    "IP:::ffff:10.0.0.9",
    "DNS:etcd1.example",
]
SERVICES = {"service_networks": ["10.96.0.0/12", "fd00:96::/112"], "domains": ["corp.internal", "cluster.local"]}
HOSTS = [*INVENTORY, {"name": "etcd1.example", "addresses": ["10.0.0.9"], "control_plane": False}]


@pytest.mark.parametrize("san", STOLEN)
@pytest.mark.parametrize("inventory", [HOSTS, ()], ids=["inventory", "API alone"])
def test_what_a_worker_writes_about_itself_gives_it_nothing_of_others(san, inventory):
    kind, _colon, value = san.partition(":")
    items = [NODES[0], node("w1", "10.0.0.5", "w1", value), NODES[2]]
    if not inventory:
        items.append(node("etcd1.example", "10.0.0.9"))
    nodes = node_identity.Nodes(items, inventory, ("10.0.0.100", "api.example", "10.0.0.1", "cp1"), **SERVICES)
    asked = made(sans=["DNS:w1", san])
    assert verdict(asked, nodes).action == csr_object.LEAVE
    decision = serving_decision.decide_serving(asked, nodes, OWN, 365 * DAY)
    # Without an inventory there is no host whose key could be compared; denied it is all the same.
    assert decision.action == csr_object.DENY and decision.refused
    clean = made(sans=["DNS:w1", "IP:10.0.0.5"])
    assert verdict(clean, nodes).action == csr_object.APPROVE


def test_a_mapped_address_of_the_node_itself_is_its_own():
    nodes = node_identity.Nodes([node("w1", "10.0.0.5", "w1")], (), (), **SERVICES)
    assert verdict(made(sans=["IP:::ffff:10.0.0.5"]), nodes).action == csr_object.APPROVE
    assert made(sans=["IP:::ffff:10.0.0.5"]).request.sans == ["IP:10.0.0.5"]


def test_what_no_node_serves_is_not_for_the_control_plane_either():
    for san in ("IP:10.96.0.1", "IP:127.0.0.1", "DNS:kubernetes", "DNS:a.b.svc.corp.internal"):
        items = [node("cp1", "10.0.0.1", "cp1", san.partition(":")[2], control_plane=True), *NODES[1:]]
        for inventory in (HOSTS, ()):
            nodes = node_identity.Nodes(items, inventory, ("10.96.0.1", "10.0.0.1"), **SERVICES)
            assert verdict(serving("cp1", sans=(san,)), nodes).action == csr_object.LEAVE
            assert verdict(serving("cp1", sans=("IP:10.0.0.1",)), nodes).action == csr_object.APPROVE


def test_the_inventory_counts_more_than_what_a_node_wrote():
    """In the cluster's domain, a node has a name that the inventory gives it; no label makes it a control plane."""
    hosts = [{"name": "w1.corp.internal", "addresses": ["10.0.0.5"], "control_plane": False}, INVENTORY[2]]
    items = [node("w1", "10.0.0.5", "w1", "w1.corp.internal", "10.0.0.100", control_plane=True), NODES[2]]
    nodes = node_identity.Nodes(items, hosts, ("10.0.0.100",), **SERVICES)
    assert verdict(serving("w1", sans=("DNS:w1.corp.internal",)), nodes).action == csr_object.APPROVE
    assert verdict(serving("w1", sans=("IP:10.0.0.100",)), nodes).action == csr_object.LEAVE
    # w2 writes w1's address into its own Node: that takes nothing from w1.
    items = [node("w1", "w1"), node("w2", "w2", "10.0.0.5", "10.0.0.6")]
    nodes = node_identity.Nodes(items, hosts, (), **SERVICES)
    assert verdict(serving("w1", sans=("IP:10.0.0.5",)), nodes).action == csr_object.APPROVE
    assert verdict(serving("w2", sans=("IP:10.0.0.5",)), nodes).action == csr_object.LEAVE


def test_an_address_that_the_inventory_gives_to_two_hosts_is_nobodys():
    hosts = [{"name": name, "addresses": ["192.0.2.1"], "control_plane": False} for name in ("w1", "w2")]
    nodes = node_identity.Nodes([node("w1", "w1", "192.0.2.1"), NODES[2]], hosts, (), **SERVICES)
    assert "belongs to the" in verdict(serving("w1", sans=("IP:192.0.2.1",)), nodes).why


# An inventory with public addresses, which the control plane's Node does not list, and a worker's Node that does.
CLOUD = [
    {"name": "m1", "addresses": ["203.0.113.1"], "control_plane": True},
    {"name": "w1", "addresses": ["203.0.113.5"], "control_plane": False},
    {"name": "w9.example", "addresses": ["203.0.113.9"], "control_plane": False},
]


def test_an_address_that_a_worker_wrote_itself_makes_it_no_control_plane():
    api_names = ("DNS:api.example.com", "IP:10.0.0.100")
    worker = node("ip-10-0-0-5", "10.0.0.5", "203.0.113.1", "10.0.0.100", "api.example.com", "m1")
    for items in (
        [node("ip-10-0-0-1", "10.0.0.1", control_plane=True), worker],
        [node("ip-10-0-0-1", "10.0.0.1", "203.0.113.1", control_plane=True), worker],
    ):
        nodes = node_identity.Nodes(items, CLOUD, ("api.example.com", "10.0.0.100"), **SERVICES)
        assert not nodes.is_control_plane("ip-10-0-0-5") and "ip-10-0-0-5" not in nodes.hosts
        for san in (*api_names, "DNS:m1"):
            assert verdict(serving("ip-10-0-0-5", sans=(san,)), nodes).action == csr_object.LEAVE
            assert judged(made(node="ip-10-0-0-5", sans=(san,)), {}, nodes).action != csr_object.APPROVE
    # The label, which no kubelet can write for itself, and the address: together they are enough.
    assert nodes.hosts["ip-10-0-0-1"]["name"] == "m1"
    items = [node("ip-10-0-0-1", "203.0.113.1", "10.0.0.100", "api.example.com", control_plane=True)]
    nodes = node_identity.Nodes(items, CLOUD, ("api.example.com", "10.0.0.100"), **SERVICES)
    assert verdict(serving("ip-10-0-0-1", sans=api_names), nodes).action == csr_object.APPROVE


@pytest.mark.parametrize("label", [True, False])
def test_a_worker_that_writes_a_free_hosts_address_does_not_get_its_dns_name(label):
    items = [node("ip-10-0-0-5", "10.0.0.5", "203.0.113.9", "w9.example", control_plane=label)]
    nodes = node_identity.Nodes(items, CLOUD, (), **SERVICES)
    assert nodes.hosts["ip-10-0-0-5"]["name"] == "w9.example" and nodes.granted("ip-10-0-0-5") == set()
    assert verdict(serving("ip-10-0-0-5", sans=("DNS:w9.example",)), nodes).action == csr_object.LEAVE
    assert verdict(serving("ip-10-0-0-5", sans=("IP:10.0.0.5",)), nodes).action == csr_object.APPROVE


def test_a_nodes_own_name_in_the_clusters_domain_is_its_own_where_the_inventory_knows_it():
    name = "w1.k8s.example.com"
    services = {"domains": ["k8s.example.com"]}
    others = ["kubernetes.default.svc.k8s.example.com", "x.svc.k8s.example.com", "x.k8s.example.com"]
    items = [node(name, "10.0.0.5", name, *others)]
    nodes = node_identity.Nodes(items, [{"name": "w1", "addresses": ["10.0.0.5"], "control_plane": False}], (), **services)
    own = ("DNS:" + name, "IP:10.0.0.5")
    assert verdict(serving(name, sans=own), nodes).action == csr_object.APPROVE
    for other in others:
        assert verdict(serving(name, sans=("DNS:" + other,)), nodes).action == csr_object.LEAVE
    for inventory in ([], [INVENTORY[2]]):
        assert verdict(serving(name, sans=own), node_identity.Nodes(items, inventory, (), **services)).action == csr_object.LEAVE


# --- policies of the user ----------------------------------------------------------------------------------------------------

POLICY = """
version: 1
rules:
  - name: no-contractors
    decision: deny
    signer: "*"
    common_name: "ext-*"
  - name: developers
    signer: kubernetes.io/kube-apiserver-client
    requester: [alice, "ci-*"]
    common_name: "dev-*"
    organizations: [dev, "team-*"]
    max_days: 1
  - name: webhooks
    signer: example.com/webhooks
    requester: "*"
    common_name: "*.svc"
    sans: {dns: ["*.apps.svc", '\\*.wild.svc'], ip: [192.0.2.0/24]}
    usages: [server auth, digital signature]
    key_types: [ecdsa-p256]
"""


WEBHOOK = {"signer": "example.com/webhooks", "usages": ["server auth"]}


def user_policy(text=POLICY):
    return csr_policy.parse_policy(text, "policy.yml")


def test_a_second_document_of_a_policy_is_not_passed_over():
    with pytest.raises(PkiError, match="holds several documents"):
        csr_policy.parse_policy("version: 1\nrules: [{name: a, deny: {}}]\n---\nversion: 1\n", "policy.yml")


@pytest.mark.parametrize(
    ("arguments", "action", "words"),
    [
        ({"common_name": "dev-1", "organizations": ["dev", "team-x"], "seconds": 86400}, "approve", "allows"),
        ({"common_name": "dev-1", "requester": "ci-7", "seconds": 600}, "approve", "allows"),
        ({"common_name": "dev-1", "seconds": 86401}, "leave", "at most 1 are allowed"),
        ({"common_name": "dev-1"}, "leave", "does not say how long"),
        ({"common_name": "dev-1", "organizations": ["ops"], "seconds": 600}, "leave", "organization ops"),
        ({"common_name": "dev-1", "requester": "bob", "seconds": 600}, "leave", "requester is bob"),
        ({"common_name": "dev-1", "sans": ["DNS:a"], "seconds": 600}, "leave", "name DNS:a"),
        ({"common_name": "ext-1", "seconds": 600}, "leave", "policy denies"),
        ({"common_name": "a.svc", **WEBHOOK, "sans": ["DNS:a.apps.svc", "IP:192.0.2.9"]}, "approve", "allows"),
        ({"common_name": "a.svc", **WEBHOOK, "sans": ["DNS:*.wild.svc"]}, "approve", "allows"),
        ({"common_name": "a.svc", **WEBHOOK, "sans": ["DNS:*.apps.svc"]}, "leave", "*.apps"),
        ({"common_name": "a.svc", **WEBHOOK, "sans": ["DNS:b.a.apps.svc"]}, "leave", "b.a"),
        ({"common_name": "a.svc", **WEBHOOK, "sans": ["IP:192.0.3.9"]}, "leave", "192.0.3"),
        ({"common_name": "a.svc", **WEBHOOK, "usages": ["client auth"]}, "leave", "usage client auth"),
    ],
)
def test_a_policy_decides(arguments, action, words):
    decision = verdict(ask(**arguments), policy=user_policy())
    assert decision.action == action and words in decision.why


def test_denying_needs_a_reason():
    policy = user_policy()
    assert verdict(ask(common_name="ext-1"), policy=policy, wanted=csr_object.DENY).action == csr_object.DENY
    assert verdict(ask(common_name="dev-1"), policy=policy, wanted=csr_object.DENY).action == csr_object.LEAVE
    assert verdict(ask(common_name="dev-1"), policy=policy, wanted=csr_object.DENY, named=True).action == csr_object.DENY
    decision = verdict(ask(common_name="x", organizations=["system:masters"]), policy=policy, wanted=csr_object.DENY)
    assert decision.action == csr_object.DENY and decision.refused


@pytest.mark.parametrize("state", [[{"type": "Approved"}], [{"type": "Denied"}], [{"type": "Failed"}]])
def test_what_is_decided_stays_decided(state):
    for wanted in (csr_object.APPROVE, csr_object.DENY):
        assert verdict(ask(conditions=state), wanted=wanted, named=True).action == csr_object.LEAVE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "not a YAML mapping"),
        ("version: 2\nrules: [{}]", "version"),
        ("version: 1\nrules: []", "at least one rule"),
        ("version: 1\nrules: [3]", "not a mapping"),
        ("version: 1\nrules: [{signer: a}]", "no name"),
        ("version: 1\nrules: [{name: a, decision: maybe}]", "approve or deny"),
        ("version: 1\nrules: [{name: a, decision: deny}]", "deny everything"),
        ("version: 1\nrules: [{name: a, signer: s, requester: r}]", "common_name"),
        ("version: 1\nrules: [{name: a, signer: s, requestor: r, common_name: c}]", "requestor"),
        ("version: 1\nrule: []\nrules: [{name: a}]", "rule"),
        ("version: 1\nrules: [{name: a, signer: s, requester: r, common_name: c, max_days: soon}]", "max_days"),
        ("version: 1\nrules: [{name: a, signer: s, requester: r, common_name: c, max_days: true}]", "max_days"),
        ("version: 1\nrules: [{name: a, signer: s, requester: r, common_name: c, sans: {ip: [10.0.0.300]}}]", "sans: ip"),
        ("version: 1\nrules: [{name: a, signer: s, requester: r, common_name: c, sans: {dns: a, host: b}}]", "host"),
        ("version: 1\nrules: [{name: a, signer: s, requester: r, common_name: c, sans: [a]}]", "sans has to be"),
        ("version: 1\nrules: [{name: a, signer: [1], requester: r, common_name: c}]", "list of strings"),
        ("version: 1\nrules: [{name: a, signer: s, requester: r, common_name: c, node_matches: yes please}]", "node_matches"),
    ],
)
def test_a_policy_with_a_mistake_is_refused(text, words):
    with pytest.raises(PkiError) as caught:
        user_policy(text)
    assert words in caught.value.message and caught.value.path == "policy.yml"


@settings(max_examples=100, deadline=None)
@given(json_values)
def test_a_policy_is_read_or_refused(value):
    import yaml

    try:
        policy = csr_policy.parse_policy(yaml.safe_dump({"version": 1, "rules": value}, allow_unicode=True), "p")
    except PkiError:
        return
    assert policy.rules


@settings(max_examples=100, deadline=None)
@given(st.text("ab*.", max_size=6), st.text("ab.", max_size=6))
def test_a_pattern_without_a_star_matches_itself_alone(pattern, value):
    matches = csr_policy._any_glob([pattern], value)
    if "*" not in pattern:
        assert matches == (pattern == value)
    elif matches:
        assert value.startswith(pattern.split("*")[0]) and value.endswith(pattern.split("*")[-1])


@settings(max_examples=300, deadline=None)
@given(st.text("ab*.\\", max_size=8), st.text("ab*.A\n", max_size=10))
def test_a_pattern_matches_as_a_regular_expression_would(pattern, value):
    def expression(text, star):
        return "".join(star if part == "*" else re.escape(part) for part in re.split(r"(\*)", text))

    assert csr_policy._any_glob([pattern], value) == bool(re.fullmatch(expression(pattern, ".*"), value, re.DOTALL))
    dns = re.escape("*").join(expression(part, "[a-z0-9_-]+") for part in pattern.lower().split("\\*"))
    assert csr_policy._dns_glob(pattern, value) == bool(re.fullmatch(dns, value.lower()))


def test_a_pattern_of_many_stars_takes_no_time():
    began = time.monotonic()
    for pattern in ("*-*-*x", "*-*-*-*-*x", "team-*-*"):
        for value in ("a-" * 4000, "team-" + "a-" * 4000 + "\x01"):
            csr_policy._any_glob([pattern], value)
            csr_policy._dns_glob(pattern, value)
    assert time.monotonic() - began < 1


def test_a_request_of_a_megabyte_makes_a_short_table_and_is_refused():
    big = ask(sans=["DNS:a%06d.example.com" % number for number in range(30000)])
    decision = verdict(big, policy=WIDE_OPEN, named=True)
    assert decision.action == csr_object.LEAVE and decision.refused and "30000 names" in decision.why
    row = csr_decision.row(big, x509_read.now())
    assert len(row["sans"]) == 100 and row["san_count"] == 30000
    small = csr_decision.row(ask(), x509_read.now())
    lines = csr_decision.table([row] + [small] * 100)
    assert sum(map(len, lines)) < 100000 and " and 29995 more" in lines[1]


@pytest.mark.parametrize(
    "data",
    [
        written([(CN, "a" * 1025, "UTF8String")]),
        written(ALICE, [(ORG, "a" * 1025, "UTF8String")]),
        written(ALICE, extensions=[(library.SubjectAlternativeName([library.DNSName("a" * 254)]), False)]),
    ],
    ids=["common name", "organization", "SAN"],
)
def test_a_name_longer_than_any_name_is_never_granted(data):
    assert "longer than any name" in never_granted(data)


def test_the_table_says_what_is_asked_for():
    rows = [
        dict(csr_decision.row(serving(name="csr-1"), x509_read.now()), decision="approve", why="the policy allows it"),
        csr_decision.row(ask(organizations=["system:masters"]), x509_read.now()),
    ]
    lines = csr_decision.table(rows)
    assert lines[0].split()[0] == "NAME" and "csr-1" in lines[1] and "DNS:w1,IP:10.0.0.5" in lines[1]
    assert lines[2].strip() == "approve: the policy allows it" and "system:masters" in lines[4]
    assert csr_decision.table([]) == ["There are no certificate signing requests."]
    assert [csr_decision.age(seconds) for seconds in (None, 5, 130, 7300, 200000)] == ["?", "5s", "2m", "2h", "2d"]


# --- serving certificates, with what the nodes said over SSH -----------------------------------------------------------------

OTHER, RSA = private_keys.generate_key("ecdsa-p256"), private_keys.generate_key("rsa-2048")
DAY = 86400
OWN = {"w1.example": ("w1", csr_read.parse_request(pem()).key_sha256)}


def judged(asked, keys=None, nodes=None, longest=365 * DAY):
    return serving_decision.decide_serving(asked, nodes or known(), OWN if keys is None else keys, longest)


def made(key=KEY, sans=("DNS:w1", "IP:10.0.0.5"), extended=("server",), node="w1", organizations=("system:nodes",), **more):
    """A request as kubelet_serving.ask makes it, bent where a test says so."""
    given_ = {
        "request": x509_sign.build_request(hostile("system:node:" + node, organizations, sans, extended), key).pem,
        "seconds": 365 * DAY,
    }
    given_.update(more)
    return serving(node, **given_)


def test_a_node_gets_what_it_asked_for_with_the_key_that_lies_on_it():
    decision = judged(made())
    assert (decision.action, decision.why) == ("approve", "its key is the one on w1.example")
    without = ["digital signature", "server auth"]
    assert judged(made(usages=without)).action == "approve"
    assert judged(made(seconds=None), longest=None).action == "approve"


@pytest.mark.parametrize(
    ("bent", "why"),
    [
        ({"key": OTHER}, "its key is not the one that waits on w1.example"),
        ({"requester": "system:node:w2"}, "not a node's request for itself"),
        ({"requester": "kubernetes-admin"}, "not a node's request for itself"),
        ({"groups": ["system:authenticated"]}, "not a node's request for itself"),
        ({"node": "cp1", "sans": ("DNS:cp1",), "requester": "system:node:w1"}, "not a node's request for itself"),
        ({"organizations": ("system:nodes", "system:masters")}, "not a node's request for itself"),
        ({"organizations": ()}, "not a node's request for itself"),
        ({"sans": ("DNS:w1", "IP:10.0.0.5", "DNS:kubernetes")}, "DNS:kubernetes belongs to the API"),
        ({"sans": ("DNS:w1", "IP:10.0.0.5", "IP:10.0.0.100")}, "belongs to the API"),
        ({"sans": ("DNS:w1", "IP:10.0.0.1")}, "IP:10.0.0.1 is not an address of the Node object"),
        ({"sans": ("DNS:w1", "IP:192.0.2.5")}, "IP:192.0.2.5 is not an address of the Node object"),
        ({"sans": ("DNS:*.w1",)}, "of a kind no kubelet serves"),
        ({"sans": ()}, "names no address"),
        ({"usages": ["digital signature", "key encipherment", "server auth", "client auth"]}, "the usages are"),
        ({"usages": ["server auth"]}, "the usages are"),
        ({"usages": []}, "the usages are none"),
        ({"extended": ("server", "client")}, "extended usages"),
        ({"seconds": 366 * DAY}, "valid for 31622400 seconds"),
        ({"seconds": None}, "how long"),
        ({"key": RSA, "usages": ["digital signature", "server auth"]}, "the usages are"),
    ],
)
def test_a_forged_request_is_denied_with_the_reason(bent, why):
    keys = {"w1.example": ("w1", csr_read.parse_request(made(key=bent.get("key", KEY)).request.pem).key_sha256)}
    decision = judged(made(**bent), OWN if bent.get("key") is OTHER else keys)
    assert decision.action == "deny" and decision.refused
    assert why in decision.why


def test_a_node_that_says_it_is_another_one_gets_nothing():
    """w2 shows its own key as that of w1: the inventory knows which host w1 is."""
    key = made().request.key_sha256
    assert judged(made(), {"w2": ("w1", key)}).action == "leave"
    assert judged(made(), {"w2": ("w1", key), "w1.example": ("w1", "0" * 64)}).action == "deny"
    assert judged(made(), {"w1.example": ("w2", key)}).action == "deny"


def test_what_a_kubelet_asked_for_by_itself_is_left_unless_its_node_was_asked():
    """It names no validity, and its key is in the kubelet's memory."""
    asked = made(seconds=None, key=OTHER, usages=["digital signature", "server auth"])
    left = judged(asked, {})
    assert left.action == "leave" and "could not be compared" in left.why
    assert judged(asked).action == "deny"
    assert judged(made(seconds=None, sans=("DNS:w1", "DNS:w2")), {}).action == "deny"


def test_a_node_that_is_not_in_the_inventory_or_not_in_the_api_gets_nothing():
    outside = made(node="w3", sans=("IP:10.0.0.7",))
    assert "no Node named w3" in judged(outside).why and judged(outside).action == "leave"
    decision = judged(outside, nodes=known([*NODES, node("w3", "10.0.0.7")]))
    assert decision.action == "leave" and "not in the inventory" in decision.why
    assert judged(made(node="w3", sans=("IP:10.0.0.7",), requester="system:node:w2")).action == "deny"


def test_other_signers_and_what_was_decided_are_left_alone():
    assert judged(ask()).action == "leave"
    assert judged(made(conditions=[{"type": "Denied"}])).action == "leave"


def test_what_cannot_be_read_is_denied():
    decision = judged(csr_object.decode(item(request=b"junk", signer=csr_object.KUBELET_SERVING)))
    assert decision.action == "deny" and "PEM" in decision.why


_NAMES = st.sampled_from(
    [
        "DNS:w1",
        "DNS:w2",
        "DNS:cp1",
        "IP:10.0.0.5",
        "IP:10.0.0.6",
        "IP:10.0.0.1",
        "IP:10.0.0.100",
        "DNS:kubernetes",
        "DNS:api.example",
        "IP:192.0.2.5",
        "DNS:elsewhere.example",
        "DNS:W1.",
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    requester=st.sampled_from(["system:node:w1", "system:node:w2", "system:node:cp1", "kubernetes-admin"]),
    name=st.sampled_from(["w1", "w2", "cp1"]),
    key=st.sampled_from([KEY, OTHER]),
    sans=st.lists(_NAMES, max_size=3, unique=True),
    organizations=st.sampled_from([("system:nodes",), (), ("system:nodes", "dev"), ("system:masters",)]),
    usages=st.sets(st.sampled_from(["digital signature", "key encipherment", "server auth", "client auth", "any"])),
    seconds=st.sampled_from([None, 600, 365 * DAY, 365 * DAY + 1]),
)
def test_nothing_is_approved_but_what_is_the_nodes_own(requester, name, key, sans, organizations, usages, seconds):
    asked = made(
        key=key,
        sans=tuple(sans),
        node=name,
        organizations=organizations,
        requester=requester,
        usages=sorted(usages),
        seconds=seconds,
    )
    approved = judged(asked).action == "approve"
    right = (
        requester == "system:node:w1"
        and name == "w1"
        and key is KEY
        and organizations == ("system:nodes",)
        and set(sans) <= {"DNS:w1", "DNS:W1.", "IP:10.0.0.5"}
        and bool(sans)
        and usages - {"key encipherment"} == {"digital signature", "server auth"}
        and seconds in (600, 365 * DAY)
    )
    assert approved == right
