# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates, keys and requests, with openssl as second opinion."""

from __future__ import annotations

import base64
import datetime
import re
import subprocess
import types

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.leaf import issue
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.rotation import local_ca
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import (
    ca_sign,
    csr_read,
    general_names,
    private_keys,
    x509_read,
    x509_sign,
)
from hypothesis import given, settings
from hypothesis import strategies as st

CA_KEY = private_keys.generate_key("ecdsa-p256")
CA = ca_sign.build_ca("kubernetes", CA_KEY, 3650)
LEAF_KEY = private_keys.generate_key("ecdsa-p256")
SERVER = x509_sign.Profile("kube-apiserver", ["a", "b"], ["DNS:kubernetes", "IP:10.96.0.1", "IP:::1"], ("server", "client"))
LEAF = x509_sign.sign_leaf(SERVER, LEAF_KEY, CA, CA_KEY, 365)


def openssl(*arguments, data=None, check=True):
    done = subprocess.run(("openssl",) + arguments, input=data, capture_output=True, check=False)
    if check:
        assert done.returncode == 0, done.stderr.decode()
    return done


def verify(tmp_path, leaf, cas, purpose="sslserver", strict=("-x509_strict",)):
    """Whether openssl accepts a leaf below the given CAs."""
    (tmp_path / "ca.pem").write_bytes(b"".join(ca.pem for ca in cas))
    (tmp_path / "leaf.pem").write_bytes(leaf.pem)
    done = openssl(
        "verify", *strict, "-purpose", purpose, "-CAfile", str(tmp_path / "ca.pem"), str(tmp_path / "leaf.pem"), check=False
    )
    return done.returncode == 0


class TestSign:
    @pytest.mark.parametrize("ca_type", private_keys.KEY_TYPES)
    @pytest.mark.parametrize("key_type", ["rsa-2048", "ecdsa-p384"])
    def test_openssl_accepts_what_is_signed(self, tmp_path, ca_type, key_type):
        ca_key, key = private_keys.generate_key(ca_type), private_keys.generate_key(key_type)
        ca = ca_sign.build_ca("etcd-ca", ca_key, 3650)
        leaf = x509_sign.sign_leaf(SERVER, key, ca, ca_key, 365)
        (tmp_path / "leaf.key").write_bytes(key.pem)
        public = openssl("pkey", "-in", str(tmp_path / "leaf.key"), "-pubout").stdout
        assert public == openssl("x509", "-noout", "-pubkey", data=leaf.pem).stdout == key.public_pem
        assert verify(tmp_path, leaf, [ca]) and verify(tmp_path, leaf, [ca], "sslclient")
        assert not verify(tmp_path, leaf, [CA])
        assert leaf.signed_by(ca) and not leaf.signed_by(CA)
        assert (leaf.key_type, ca.key_type) == (key_type, ca_type) and key.matches(leaf) and not ca_key.matches(leaf)

    def test_the_text_is_kubeadms(self):
        text = openssl("x509", "-noout", "-text", data=LEAF.pem).stdout.decode()
        for part in (
            "X509v3 Key Usage: critical\n                Digital Signature, Key Encipherment\n",
            "X509v3 Extended Key Usage: \n",
            " TLS Web Server Authentication, TLS Web Client Authentication\n",
            "X509v3 Basic Constraints: critical\n                CA:FALSE\n",
            "DNS:kubernetes, IP Address:10.96.0.1, IP Address:0:0:0:0:0:0:0:1\n",
        ):
            assert part in text
        text = openssl("x509", "-noout", "-text", data=CA.pem).stdout.decode()
        for part in (
            "X509v3 Basic Constraints: critical\n                CA:TRUE\n",
            "DNS:kubernetes\n",
            "Digital Signature, Key Encipherment, Certificate Sign\n",
        ):
            assert part in text
        assert "X509v3 Subject Key Identifier" in text and "X509v3 Authority Key Identifier" not in text

    @pytest.mark.parametrize("days", [1 / 86400.0, 0.5, 365, 72635, 1e7, 1e12])
    def test_any_validity(self, tmp_path, days):
        leaf = x509_sign.sign_leaf(SERVER, LEAF_KEY, CA, CA_KEY, days)
        end = x509_sign.LATEST
        if days < 1e6:
            end = x509_read.now() + datetime.timedelta(days=days)
        assert abs((leaf.not_after - end).total_seconds()) <= 2
        assert leaf.not_before == CA.not_before or (x509_read.now() - leaf.not_before).total_seconds() >= 300
        seen = openssl("x509", "-noout", "-enddate", data=leaf.pem).stdout.decode().strip()
        assert seen.endswith("%d GMT" % leaf.not_after.year)

    @pytest.mark.parametrize("days", [0, -1, float("nan")])
    def test_no_validity_is_refused(self, days):
        with pytest.raises(PkiError, match="days is not possible"):
            x509_sign.sign_leaf(SERVER, LEAF_KEY, CA, CA_KEY, days)

    def test_serials_are_positive_and_differ(self):
        serials = {x509_sign.sign_leaf(SERVER, LEAF_KEY, CA, CA_KEY, 1).serial for _number in range(20)}
        assert len(serials) == 20 and all(0 < serial < 2**63 for serial in serials)

    def test_only_a_ca_and_its_own_key_sign(self):
        with pytest.raises(PkiError, match="not the key of this CA"):
            x509_sign.sign_leaf(SERVER, LEAF_KEY, CA, LEAF_KEY, 1)
        with pytest.raises(PkiError, match="not a certificate authority"):
            x509_sign.sign_leaf(SERVER, LEAF_KEY, LEAF, LEAF_KEY, 1)

    def test_names_keep_the_encoding_others_gave_them(self, tmp_path):
        # Go compares issuer and subject byte by byte, and writes PrintableString where this library would write UTF8String.
        config = tmp_path / "c"
        config.write_text(
            "[req]\ndistinguished_name=d\nx509_extensions=e\nstring_mask=MASK:0x2\nprompt=no\n[d]\nO=Ex\nCN=printable\n"
            "[e]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n"
        )
        openssl(
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-config",
            str(config),
            "-keyout",
            str(tmp_path / "k"),
            "-out",
            str(tmp_path / "p"),
        )
        ca = x509_read.parse_certificate((tmp_path / "p").read_bytes())
        key = private_keys.parse_private_key((tmp_path / "k").read_bytes())
        first = x509_sign.sign_leaf(x509_sign.Profile.of(ca), LEAF_KEY, ca, key, 1)
        again = x509_sign.sign_leaf(x509_sign.Profile.of(first), LEAF_KEY, ca, key, 1)
        name = re.search(rb"\x30.\x31.\x30.\x06\x03\x55\x04\x0a\x13\x02Ex\x31.\x30.\x06\x03\x55\x04\x03\x13\x09printable", ca.der)
        assert name
        assert first.der.count(name.group(0)) == again.der.count(name.group(0)) == 2
        assert verify(tmp_path, x509_sign.sign_leaf(SERVER, LEAF_KEY, ca, key, 1), [ca], "any", ())


@pytest.mark.parametrize(
    "options",
    [
        ["-sha256"],
        ["-sha384", "-sigopt", "rsa_pss_saltlen:20"],
        ["-sha512", "-sigopt", "rsa_mgf1_md:sha256"],
        ["-sha1", "-sigopt", "rsa_pss_saltlen:20"],
    ],
)
def test_pss_signatures_are_verified(tmp_path, options):
    """RSASSA-PSS (RFC 4055), as some companies' authorities sign; the last one has all parameters at their defaults."""
    ca_key, stranger = private_keys.generate_key("rsa-2048"), private_keys.generate_key("rsa-2048")
    (tmp_path / "k").write_bytes(ca_key.pem)
    made = openssl(
        "req",
        "-x509",
        "-new",
        "-key",
        str(tmp_path / "k"),
        "-subj",
        "/CN=ca",
        "-days",
        "9",
        "-sigopt",
        "rsa_padding_mode:pss",
        *options,
    ).stdout
    ca = x509_read.parse_certificate(made)
    assert ca.signed_by(ca) and not ca.signed_by(ca_sign.build_ca("ca", stranger, 9))
    altered = bytearray(ca.der)
    altered[-3] ^= 1
    assert not x509_read.parse_der_certificate(bytes(altered)).signed_by(ca)
    assert x509_sign.sign_leaf(SERVER, LEAF_KEY, ca, ca_key, 5).signed_by(ca)


@pytest.mark.parametrize(
    "present,wanted",
    [
        ("rsa-1024", "rsa-2048"),
        ("ed25519", "ecdsa-p256"),
        ("ecdsa-p521", "ecdsa-p384"),
        ("unknown", "rsa-2048"),
        (None, "rsa-2048"),
        ("rsa-4096", "rsa-4096"),
        ("ecdsa-p384", "ecdsa-p384"),
    ],
)
def test_a_key_s_successor_is_of_the_nearest_type(present, wanted):
    """The same for leaves and for authorities."""
    assert private_keys.nearest_key_type(present) == wanted
    certificate = types.SimpleNamespace(key_type=present)
    assert local_ca.key_type_of(certificate) == wanted
    leaf = types.SimpleNamespace(key_type=None, certificate=certificate)
    assert issue.key_type(leaf, types.SimpleNamespace(key_type=None)) == wanted


class TestProfileOf:
    def test_a_renewal_says_the_same(self):
        again = x509_sign.sign_leaf(x509_sign.Profile.of(LEAF), private_keys.generate_key("ecdsa-p384"), CA, CA_KEY, 10)
        same = ("subject", "issuer", "sans", "usages", "extended_usages", "is_ca", "authority_key_id")
        assert [getattr(again, name) for name in same] == [getattr(LEAF, name) for name in same]
        assert again.serial != LEAF.serial and again.key_sha256 != LEAF.key_sha256

    def test_a_ca_is_not_inherited(self):
        leaf = x509_sign.sign_leaf(x509_sign.Profile.of(CA), LEAF_KEY, CA, CA_KEY, 10)
        assert not leaf.is_ca and leaf.usages == ["digital_signature", "key_encipherment"]

    @given(
        st.lists(
            st.sampled_from(["DNS:a.b", "DNS:*.c", "IP:1.2.3.4", "IP:fd00::1", "URI:spiffe://x/y", "email:a@b.c"]), unique=True
        ),
        st.lists(st.sampled_from(["system:masters", "Größe", "x" * 64]), unique=True, max_size=3),
        st.sampled_from([("server",), ("client",), ("server", "client"), (), ("1.3.6.1.5.5.7.3.3",)]),
    )
    @settings(max_examples=40, deadline=None)
    def test_any_profile_comes_back(self, sans, organizations, usages):
        leaf = x509_sign.sign_leaf(x509_sign.Profile("cn", organizations, sans, usages), LEAF_KEY, CA, CA_KEY, 1)
        again = x509_sign.sign_leaf(x509_sign.Profile.of(leaf), LEAF_KEY, CA, CA_KEY, 1)
        for certificate in (leaf, again, x509_read.parse_certificate(leaf.pem), x509_read.parse_der_certificate(leaf.der)):
            assert certificate.sans == sans and certificate.organizations == organizations
            assert tuple(certificate.extended_usages) == usages and certificate.common_name == "cn"

    @pytest.mark.parametrize(
        "make, word",
        [
            (lambda: x509_sign.Profile("x" * 65), "is not possible"),
            (lambda: x509_sign.Profile(""), "is not possible"),
            (lambda: x509_sign.Profile("x", [], ["IP:1.2.3"]), "SAN IP:1.2.3"),
            (lambda: x509_sign.Profile("x", [], ["DNS:ü"]), "SAN DNS:ü"),
            (lambda: x509_sign.Profile("x", [], ["DNS:a b"]), "SAN DNS:a b"),
            (lambda: x509_sign.Profile("x", [], ["DNS:\n"]), "SAN DNS"),
            (lambda: x509_sign.Profile("x", [], ["DNS:a\n"]), "SAN DNS:a"),
            (lambda: x509_sign.Profile("x", [], ["DNS:" + "a" * 64]), "SAN DNS:aaa"),
            (lambda: x509_sign.Profile("x", [], ["DNS:x."]), "DNS:x."),
            (lambda: x509_sign.Profile("x", [], ["DNS:" + "a." * 127]), "SAN DNS:a"),
            (lambda: x509_sign.Profile("x", [], ["DNS:-a"]), "DNS:-a"),
            (lambda: x509_sign.Profile("x", [], ["DNS:http://x"]), "SAN DNS:http"),
            (lambda: x509_sign.Profile("x", [], ["DNS:a.*"]), "SAN DNS"),
            (lambda: x509_sign.Profile("x", [], ["DNS:*"]), "SAN DNS:"),
            (lambda: x509_sign.Profile("x", [], ["URI:a b"]), "SAN URI:a b"),
            (lambda: x509_sign.Profile("x", [], ["IP:fe80::1%eth0"]), "SAN IP:fe80::1%eth0"),
            (lambda: x509_sign.Profile("x", [], ["kubernetes"]), "SAN kubernetes"),
            (lambda: x509_sign.Profile("x", [], ["DNS:"]), "no value"),
            (lambda: x509_sign.Profile("x", [], [], ("tls",)), "usage tls"),
            (lambda: x509_sign.Profile("x", [], [], (), ("sign",)), "key usage sign"),
            (lambda: private_keys.generate_key("dsa"), "key type dsa"),
        ],
    )
    def test_what_a_certificate_cannot_hold_is_named(self, make, word):
        with pytest.raises(PkiError, match=word):
            make()


@pytest.fixture(scope="module")
def constrained(tmp_path_factory):
    """A CA as others make them: with a path length, name constraints, a policy, and something nobody knows."""
    home = tmp_path_factory.mktemp("constrained")
    (home / "c").write_text(
        "[req]\ndistinguished_name=d\nx509_extensions=e\nprompt=no\n[d]\nC=DE\nO=Org\nOU=Platform\nCN=inter\n[e]\n"
        "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=00:11\n"
        "nameConstraints=critical,permitted;DNS:example.com,excluded;IP:10.0.0.0/255.0.0.0\ncertificatePolicies=1.2.3.4\n"
        "crlDistributionPoints=URI:http://a/crl\n1.2.3.4.5=ASN1:UTF8String:mine\n"
    )
    openssl(
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-config",
        str(home / "c"),
        "-keyout",
        str(home / "k"),
        "-out",
        str(home / "p"),
        "-days",
        "50",
    )
    return x509_read.parse_certificate((home / "p").read_bytes()), private_keys.parse_private_key((home / "k").read_bytes())


class TestCas:
    def test_a_renewed_ca_still_covers_its_leaves(self, tmp_path):
        renewed = ca_sign.renew_ca(CA, CA_KEY, 100)
        assert verify(tmp_path, LEAF, [renewed]) and LEAF.signed_by(renewed) and renewed.serial != CA.serial

    def test_a_cross_signed_ca_is_a_bridge(self, tmp_path):
        new_key = private_keys.generate_key("ecdsa-p256")
        new = ca_sign.build_ca("kubernetes", new_key, 3650)
        bridge = ca_sign.cross_sign(new, CA, CA_KEY)
        leaf = x509_sign.sign_leaf(SERVER, LEAF_KEY, new, new_key, 10)
        (tmp_path / "leaf").write_bytes(leaf.pem)
        (tmp_path / "old").write_bytes(CA.pem)
        (tmp_path / "bridge").write_bytes(bridge.pem)
        openssl("verify", "-CAfile", str(tmp_path / "old"), "-untrusted", str(tmp_path / "bridge"), str(tmp_path / "leaf"))
        assert bridge.not_after <= min(CA.not_after, new.not_after)

    @staticmethod
    def extensions(certificate):
        return {item.oid.dotted_string: (item.value, item.critical) for item in certificate.raw.extensions}

    def test_a_renewed_ca_says_all_it_said(self, constrained):
        ca, key = constrained
        renewed = ca_sign.renew_ca(ca, key, 365)
        assert self.extensions(renewed) == self.extensions(ca) and renewed.path_length == 0
        assert renewed.raw.subject == ca.raw.subject and renewed.signed_by(renewed) and renewed.not_after > ca.not_after

    def test_a_ca_is_renewed_below_its_parent(self, constrained, tmp_path):
        ca, key = constrained
        inner = ca_sign.renew_ca(ca, key, 300, parent=CA, parent_key=CA_KEY)
        again = ca_sign.renew_ca(inner, key, 365, parent=CA, parent_key=CA_KEY)
        assert again.raw.subject == ca.raw.subject and again.signed_by(CA) and again.authority_key_id == CA.subject_key_id
        assert self.extensions(again) == self.extensions(inner)
        leaf = x509_sign.sign_leaf(x509_sign.Profile("a", [], ["DNS:a.example.com"], ("server",)), LEAF_KEY, again, key, 10)
        assert verify(tmp_path, leaf, [again, CA], strict=())

    def test_a_cross_signed_ca_is_bound_as_it_was(self, constrained):
        ca, _key = constrained
        bridge = ca_sign.cross_sign(ca, CA, CA_KEY)
        said, was = self.extensions(bridge), self.extensions(ca)
        # Where the list of revoked certificates lies is a word of the issuer, which is another one now.
        assert was.pop("2.5.29.31") and said.pop("2.5.29.35") and said == was
        assert bridge.signed_by(CA) and bridge.authority_key_id == CA.subject_key_id

    def test_a_ca_as_kubeadm_makes_it_stays_one(self):
        assert [item.oid.dotted_string for item in CA.raw.extensions] == ["2.5.29.15", "2.5.29.19", "2.5.29.14", "2.5.29.17"]
        assert self.extensions(ca_sign.renew_ca(CA, CA_KEY, 100)) == self.extensions(CA)

    @pytest.mark.parametrize(
        "name,sans",
        [
            ("kubernetes", ["DNS:kubernetes"]),
            ("front-proxy-ca", ["DNS:front-proxy-ca"]),
            ("a_b.example", ["DNS:a_b.example"]),
            ("Größe CA", []),
            ("Corporate Root CA", []),
            ("cp1-ca@1", []),
        ],
    )
    def test_only_a_host_name_becomes_a_san_of_a_ca(self, name, sans):
        made = ca_sign.build_ca(name, CA_KEY, 10)
        assert (made.common_name, made.sans) == (name, sans)
        assert ca_sign.renew_ca(made, CA_KEY, 10).sans == sans

    def test_a_renewal_keeps_names_that_nobody_would_be_given(self, tmp_path):
        (tmp_path / "k").write_bytes(LEAF_KEY.pem)
        odd = x509_read.parse_certificate(
            openssl(
                "req",
                "-x509",
                "-new",
                "-key",
                str(tmp_path / "k"),
                "-subj",
                "/CN=x",
                "-addext",
                "subjectAltName=DNS:a b,DNS:x.,DNS:" + "a" * 70,
            ).stdout
        )
        assert x509_sign.sign_leaf(x509_sign.Profile.of(odd), LEAF_KEY, CA, CA_KEY, 1).sans == [
            "DNS:a b",
            "DNS:x.",
            "DNS:" + "a" * 70,
        ]

    def test_a_bundle_holds_each_once(self):
        other = ca_sign.build_ca("b", private_keys.generate_key("ecdsa-p256"), 1)
        data = x509_read.bundle([CA, other, CA])
        assert [c.sha256 for c in x509_read.parse_certificates(data)] == [CA.sha256, other.sha256]
        assert x509_read.parse_certificate(data).sha256 == CA.sha256


class TestRequest:
    REQUEST = x509_sign.build_request(SERVER, LEAF_KEY)

    def test_openssl_accepts_it_and_reads_the_same(self):
        done = openssl("req", "-noout", "-verify", "-text", data=self.REQUEST.pem)
        assert b"DNS:kubernetes, IP Address:10.96.0.1" in done.stdout
        again = csr_read.parse_request(self.REQUEST.pem)
        assert (again.sans, again.subject, again.key_sha256) == (LEAF.sans, LEAF.subject, LEAF.key_sha256)

    def test_one_made_by_openssl_is_read(self, tmp_path):
        openssl(
            "req",
            "-new",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            str(tmp_path / "k"),
            "-out",
            str(tmp_path / "r"),
            "-subj",
            "/O=system:nodes/CN=system:node:w1",
            "-addext",
            "basicConstraints=CA:TRUE",
            "-addext",
            "subjectAltName=DNS:w1",
        )
        request = csr_read.parse_request((tmp_path / "r").read_bytes())
        assert (request.common_name, request.organizations, request.sans) == ("system:node:w1", ["system:nodes"], ["DNS:w1"])
        assert request.wants_ca
        with pytest.raises(PkiError, match="asks to be a CA"):
            x509_sign.sign_leaf(x509_sign.Profile.of(request), request, CA, CA_KEY, 1)
        openssl(
            "req",
            "-new",
            "-key",
            str(tmp_path / "k"),
            "-out",
            str(tmp_path / "r"),
            "-subj",
            "/O=system:nodes/CN=system:node:w1",
            "-addext",
            "basicConstraints=CA:FALSE",
            "-addext",
            "subjectAltName=DNS:w1",
        )
        request = csr_read.parse_request((tmp_path / "r").read_bytes())
        leaf = x509_sign.sign_leaf(x509_sign.Profile.of(request), request, CA, CA_KEY, 1)
        assert not leaf.is_ca and leaf.key_sha256 == request.key_sha256 and verify(tmp_path, leaf, [CA], "any")

    @pytest.mark.parametrize("usage", ["keyCertSign", "cRLSign, digitalSignature"])
    def test_one_that_asks_for_a_usage_of_a_ca_is_not_signed(self, tmp_path, usage):
        openssl(
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            str(tmp_path / "k"),
            "-out",
            str(tmp_path / "r"),
            "-subj",
            "/CN=w1",
            "-addext",
            "keyUsage=" + usage,
        )
        request = csr_read.parse_request((tmp_path / "r").read_bytes())
        assert request.wants_ca
        for profile in (x509_sign.Profile.of(request), x509_sign.Profile("w1")):
            with pytest.raises(PkiError, match="asks to be a CA"):
                x509_sign.sign_leaf(profile, request, CA, CA_KEY, 1)

    def test_a_mapped_address_is_the_address_that_go_reads(self):
        for sans in (["IP:::ffff:10.0.0.1"], ["IP:10.0.0.1"]):
            request = x509_sign.build_request(x509_sign.Profile("w1", sans=sans), LEAF_KEY)
            leaf = x509_sign.sign_leaf(x509_sign.Profile("w1", sans=sans), LEAF_KEY, CA, CA_KEY, 1)
            assert request.sans == leaf.sans == ["IP:10.0.0.1"]
        assert general_names.same_name("::ffff:A00:1") == "10.0.0.1" and general_names.same_name("fe80::1%eth0") == "fe80::1"

    def test_an_altered_one_is_refused(self):
        der = bytearray(base64.b64decode(b"".join(self.REQUEST.pem.splitlines()[1:-1])))
        at = bytes(der).index(b"kube-apiserver")
        der[at : at + 4] = b"evil"
        pem = b"-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(bytes(der)) + b"-----END CERTIFICATE REQUEST-----\n"
        with pytest.raises(PkiError, match="not signed by the key it carries"):
            csr_read.parse_request(pem)


class TestPrivateKey:
    @pytest.mark.parametrize(
        "arguments",
        [
            ("genrsa", "-traditional", "2048"),
            ("genrsa", "2048"),
            ("ecparam", "-name", "prime256v1", "-genkey"),
            ("genpkey", "-algorithm", "ed25519"),
        ],
    )
    def test_every_usual_form_is_read(self, arguments):
        pem = openssl(*arguments).stdout
        key = private_keys.parse_private_key(pem)
        assert key.public_pem == openssl("pkey", "-pubout", data=pem).stdout
        assert private_keys.parse_public_keys(key.public_pem)[0].key_sha256 == key.key_sha256

    @pytest.mark.parametrize("arguments", [("-traditional",), ()])
    def test_an_encrypted_key_is_named(self, tmp_path, arguments):
        openssl("genrsa", "-aes128", "-passout", "pass:secret", "-out", str(tmp_path / "k"), *arguments, "2048")
        data = (tmp_path / "k").read_bytes()
        with pytest.raises(PkiError, match="is encrypted.*Decrypt it with"):
            private_keys.parse_private_key(data, "/etc/kubernetes/pki/a.key")

    def test_a_truncated_key_is_named(self):
        for length in range(0, len(LEAF_KEY.pem) - 5, 7):
            with pytest.raises(PkiError) as caught:
                private_keys.parse_private_key(LEAF_KEY.pem[:length], "/a.key")
            assert "/a.key" in str(caught.value)

    def test_no_text_of_a_key_shows_it(self):
        body = LEAF_KEY.pem.splitlines()[1].decode()
        assert body not in repr(LEAF_KEY) + str(LEAF_KEY) + repr(vars(CA)) + str(LEAF.describe())


def mutations(pem):
    """The same PEM with some of its DER changed, cut or grown."""
    der = base64.b64decode(b"".join(pem.splitlines()[1:-1]))
    first, last = pem.splitlines()[0], pem.splitlines()[-1]

    def change(parts):
        data = bytearray(der)
        for where, value in parts:
            data[where % len(data)] = value
        return b"%s\n%s%s\n" % (first, base64.encodebytes(bytes(data)), last)

    return st.lists(st.tuples(st.integers(0, len(der) - 1), st.integers(0, 255)), min_size=1, max_size=4).map(change)


class TestForeignInput:
    """Nothing that can stand in a file raises anything but one clear error."""

    @given(mutations(LEAF.pem))
    @settings(max_examples=300, deadline=None)
    def test_certificates(self, pem):
        try:
            for certificate in x509_read.parse_certificates(pem, "/f"):
                certificate.describe()
                certificate.signed_by(CA)
        except PkiError as error:
            assert str(error).startswith("/f: ") and "\n" not in str(error)

    @given(mutations(TestRequest.REQUEST.pem))
    @settings(max_examples=300, deadline=None)
    def test_requests(self, pem):
        try:
            csr_read.parse_request(pem, "/f")
        except PkiError as error:
            assert str(error).startswith("/f: ") and "\n" not in str(error)

    @given(mutations(LEAF_KEY.pem))
    @settings(max_examples=150, deadline=None)
    def test_keys(self, pem):
        try:
            private_keys.parse_private_key(pem, "/f")
        except PkiError as error:
            assert str(error).startswith("/f: ") and pem.splitlines()[1].decode() not in str(error)

    @given(st.one_of(st.binary(max_size=80), st.binary(max_size=80).map(lambda b: b"-----BEGIN CERTIFICATE-----\n" + b)))
    def test_anything(self, data):
        for parse in (
            x509_read.parse_certificates,
            private_keys.parse_private_key,
            private_keys.parse_public_keys,
            csr_read.parse_request,
        ):
            with pytest.raises(PkiError, match="^/f: "):
                parse(data, "/f")

    @pytest.mark.parametrize(
        "data, word",
        [
            (b"", "is empty"),
            (b" \n", "is empty"),
            (b"hello", "is not PEM"),
            (LEAF.pem[:200], "truncated"),
            (CA.pem + LEAF.pem[:200], "truncated"),
            (LEAF_KEY.pem, "holds no PEM certificate"),
        ],
    )
    def test_what_is_wrong_is_said(self, data, word):
        with pytest.raises(PkiError, match=word):
            x509_read.parse_certificates(data, "/f")

    @pytest.mark.parametrize(
        "change",
        [
            lambda pem: pem.replace(b"\n", b"\r\n"),
            lambda pem: b"# comment\n" + pem + b"\ntext",
            lambda pem: openssl("x509", "-text", data=pem).stdout,
            lambda pem: pem.rstrip(b"\n"),
            lambda pem: LEAF_KEY.pem + pem,
        ],
    )
    def test_what_others_write_around_it_does_not_matter(self, change):
        assert [c.sha256 for c in x509_read.parse_certificates(change(LEAF.pem))] == [LEAF.sha256]
