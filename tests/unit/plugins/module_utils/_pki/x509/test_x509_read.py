# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates say what the library read; what Go would refuse is refused with the cause."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import subprocess
import time

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import backup_restore, backup_set, reading
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, pem, private_keys, x509_read, x509_sign
from cryptography import x509 as library
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.support import throwaway

RSA, OTHER_RSA = throwaway.key("rsa one", "rsa-2048").raw, throwaway.key("rsa two", "rsa-2048").raw
KEYS = {
    "rsa-2048": RSA,
    "ecdsa-p256": throwaway.key("ec").raw,
    "ecdsa-p384": throwaway.key("ec384", "ecdsa-p384").raw,
    "ecdsa-p521": ec.generate_private_key(ec.SECP521R1()),
    "ecdsa-secp256k1": ec.generate_private_key(ec.SECP256K1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
    "rsa-3072": rsa.generate_private_key(public_exponent=3, key_size=3072),
}
NAMES = {"CN": "2.5.4.3", "O": "2.5.4.10", "OU": "2.5.4.11", "L": "2.5.4.7", "STREET": "2.5.4.9", "x": "2.5.4.12"}

TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF, blacklist_categories=("Cs",)), min_size=1, max_size=12)
ODD = st.sampled_from([" a", "a ", "#a", 'a,b+"\\<>;', "a=b"])
NAME = st.lists(st.tuples(st.sampled_from(sorted(NAMES)), TEXT | ODD), max_size=4)
SAN = st.one_of(
    st.sampled_from(["a", "*.example", "kubernetes.default.svc"]).map(library.DNSName),
    st.ip_addresses().map(library.IPAddress),
    st.just(library.UniformResourceIdentifier("https://a/b")),
    st.just(library.RFC822Name("a@b.c")),
    st.just(library.RegisteredID(library.ObjectIdentifier("1.2.3"))),
    st.just(library.DirectoryName(library.Name([library.NameAttribute(library.ObjectIdentifier("2.5.4.3"), "d")]))),
)
MOMENT = st.datetimes(datetime.datetime(1950, 1, 1), datetime.datetime(9999, 12, 30)).map(
    lambda moment: moment.replace(microsecond=0)
)


def name(attributes):
    return library.Name([library.NameAttribute(library.ObjectIdentifier(NAMES[kind]), value) for kind, value in attributes])


@st.composite
def made(draw):
    """Any certificate that the library can make: its object and the key that signed it."""
    signer = KEYS[draw(st.sampled_from(sorted(KEYS)))]
    begin, end = sorted([draw(MOMENT), draw(MOMENT)])
    builder = (
        library.CertificateBuilder()
        .subject_name(name(draw(NAME)))
        .issuer_name(name(draw(NAME)))
        .public_key(KEYS[draw(st.sampled_from(sorted(KEYS)))].public_key())
        .serial_number(draw(st.integers(1, 2**159 - 1)))
        .not_valid_before(begin)
        .not_valid_after(end)
    )
    if draw(st.booleans()):
        authority = draw(st.booleans())
        length = draw(st.none() | st.integers(0, 300)) if authority else None
        builder = builder.add_extension(library.BasicConstraints(authority, length), draw(st.booleans()))
    if draw(st.booleans()):
        bits = {one: draw(st.booleans()) for one in x509_read.USAGES}
        builder = builder.add_extension(library.KeyUsage(encipher_only=False, decipher_only=False, **bits), True)
    if draw(st.booleans()):
        known = ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.9", "2.999.1"]
        purposes = draw(st.lists(st.sampled_from(known), min_size=1))
        builder = builder.add_extension(library.ExtendedKeyUsage([library.ObjectIdentifier(one) for one in purposes]), False)
    sans = draw(st.lists(SAN, max_size=4))
    if sans:
        builder = builder.add_extension(library.SubjectAlternativeName(sans), False)
    if draw(st.booleans()):
        builder = builder.add_extension(library.SubjectKeyIdentifier.from_public_key(signer.public_key()), False)
        builder = builder.add_extension(library.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
    digest = (
        None
        if isinstance(signer, ed25519.Ed25519PrivateKey)
        else draw(st.sampled_from([hashes.SHA256(), hashes.SHA384(), hashes.SHA512()]))
    )
    return builder.sign(signer, digest), signer


def extension(raw, kind):
    try:
        return raw.extensions.get_extension_for_class(kind).value
    except library.ExtensionNotFound:
        return None


def values(raw, dotted):
    return [item.value for item in raw.subject if item.oid.dotted_string == dotted]


@settings(max_examples=150, deadline=None)
@given(made())
def test_it_reads_what_the_library_reads(pair):
    raw, _signer = pair
    der = raw.public_bytes(serialization.Encoding.DER)
    own = x509_read.Certificate(der)
    assert own.subject == raw.subject.rfc4514_string() and own.issuer == raw.issuer.rfc4514_string()
    assert own.serial == raw.serial_number and own.sha256 == raw.fingerprint(hashes.SHA256()).hex()
    # Before cryptography 42: the same moments, without saying that they are UTC.
    moments = (
        (raw.not_valid_before_utc, raw.not_valid_after_utc)
        if hasattr(raw, "not_valid_before_utc")
        else tuple(moment.replace(tzinfo=datetime.timezone.utc) for moment in (raw.not_valid_before, raw.not_valid_after))
    )
    assert (own.not_before, own.not_after) == moments
    assert own.common_name == (values(raw, "2.5.4.3") or [None])[0] and own.organizations == values(raw, "2.5.4.10")
    assert own.self_issued == (raw.subject == raw.issuer)
    info = raw.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert own.key_sha256 == x509_read.hashlib.sha256(info).hexdigest()
    assert own.pem == raw.public_bytes(serialization.Encoding.PEM)
    constraints = extension(raw, library.BasicConstraints)
    assert (own.is_ca, own.path_length) == ((constraints.ca, constraints.path_length) if constraints else (False, None))
    usage = extension(raw, library.KeyUsage)
    assert own.usages == [one for one in x509_read.USAGES if usage and getattr(usage, one)]
    purposes = [one.dotted_string for one in extension(raw, library.ExtendedKeyUsage) or ()]
    assert own.extended_usages == [
        {"1.3.6.1.5.5.7.3.1": "server", "1.3.6.1.5.5.7.3.2": "client"}.get(one, one) for one in purposes
    ]
    names = extension(raw, library.SubjectAlternativeName) or ()
    assert own.sans == [x509_read.san_text(one) for one in names]
    key_id = extension(raw, library.SubjectKeyIdentifier)
    assert own.subject_key_id == own.authority_key_id == (key_id.digest.hex() if key_id else None)
    assert own.raw == raw


@settings(max_examples=100, deadline=None)
@given(pair=made(), other=st.sampled_from(sorted(KEYS)), place=st.integers(0), bit=st.integers(0, 7))
def test_it_verifies_what_the_library_verifies(pair, other, place, bit):
    raw, signer = pair
    own = x509_read.Certificate(raw.public_bytes(serialization.Encoding.DER))
    assert own.verified_by_key(holder(signer))
    assert own.verified_by_key(holder(KEYS[other])) == (KEYS[other] is signer)
    # The signature is the last part of a certificate.
    damaged = bytearray(own.der)
    damaged[-1 - place % (len(raw.signature) - 1)] ^= 1 << bit
    with contextlib.suppress(PkiError):  # no certificate any more
        assert not x509_read.Certificate(bytes(damaged)).verified_by_key(holder(signer))


_HOLDERS: dict = {}


def holder(key):
    """A certificate that holds a key."""
    if id(key) not in _HOLDERS:
        moment = datetime.datetime(2026, 1, 1)
        raw = (
            library.CertificateBuilder()
            .subject_name(name([("CN", "a")]))
            .issuer_name(name([]))
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(moment)
            .not_valid_after(moment)
            .sign(KEYS["ecdsa-p256"], hashes.SHA256())
        )
        _HOLDERS[id(key)] = x509_read.Certificate(raw.public_bytes(serialization.Encoding.DER))
    return _HOLDERS[id(key)]


@settings(max_examples=300, deadline=None)
@given(pair=made(), cut=st.booleans(), place=st.integers(0, 10**6), bits=st.integers(1, 255))
def test_damage_is_one_clear_error_or_none(pair, cut, place, bits):
    der = bytearray(pair[0].public_bytes(serialization.Encoding.DER))
    place %= len(der)
    if cut:
        der = der[:place]
    else:
        der[place] ^= bits
    try:
        own = x509_read.Certificate(bytes(der), "/x.crt")
    except PkiError as error:
        assert error.path == "/x.crt" and error.fix
    else:
        assert not own.verified_by_key(holder(pair[1]))


@pytest.mark.parametrize("tag", [0x30, 0x03])
def test_a_signature_counts_only_in_the_form_of_one(tag):
    """RFC 5280 4.1: behind what is signed, the algorithm is a SEQUENCE and the signature a BIT STRING."""
    own = holder(KEYS["ecdsa-p256"])
    signed = own.raw.tbs_certificate_bytes
    at = own.der.index(signed) + len(signed)
    at += 0 if tag == 0x30 else 2 + own.der[at + 1]
    damaged = bytearray(own.der)
    assert damaged[at] == tag
    damaged[at] ^= 1
    with pytest.raises(PkiError, match="certificate"):
        x509_read.Certificate(bytes(damaged), "/x.crt")


@given(st.binary(max_size=200))
def test_any_bytes_are_an_error(data):
    with pytest.raises(PkiError):
        x509_read.Certificate(data)
    with pytest.raises(PkiError, match="serves"):
        x509_read.parse_der_certificate(data, "host:1")


def test_names_are_compared_as_the_api_server_does():
    """Go compares the bytes of issuer and subject (crypto/x509: isValid, by RawIssuer and RawSubject)."""
    ca_key = throwaway.key("ca")
    ca = ca_sign.build_ca("kubernetes", ca_key, 10)
    leaf = x509_sign.sign_leaf(x509_sign.Profile("a"), throwaway.key("leaf"), ca, ca_key, 5)
    assert leaf.signed_by(ca) and not leaf.signed_by(ca_sign.build_ca("Kubernetes", ca_key, 10)) and not ca.signed_by(leaf)


@pytest.mark.parametrize("form,encoding", [("SubjectPublicKeyInfo", "PEM"), ("PKCS1", "PEM")])
def test_public_keys_in_both_forms(form, encoding):
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, getattr(serialization.PublicFormat, form))
    assert x509_read.public_key_digests(pem) == [private_keys.PublicKey(RSA.public_key()).key_sha256]


def test_public_keys_of_every_kind_in_one_file():
    key = throwaway.key("ec")
    ca = ca_sign.build_ca("a", key, 1)
    data = key.public_pem + ca.pem + key.pem + b"trailing"
    assert x509_read.public_key_digests(data) == [key.key_sha256] * 3
    for damaged in (b"", b"text", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        with pytest.raises(PkiError):
            x509_read.public_key_digests(damaged, "/sa.pub")


def test_an_ip_of_a_strange_length_is_an_error():
    der = bytearray(_with_san(library.IPAddress(ipaddress.ip_address("10.0.0.1"))))
    at = der.index(b"\x87\x04\x0a\0\0\1")
    # The same bytes as a directory name would be longer: a bad tag is as wrong as a bad length.
    der[at] = 0x8F
    with pytest.raises(PkiError, match="cannot be read"):
        x509_read.Certificate(bytes(der))


def _with_san(san):
    moment = datetime.datetime(2026, 1, 1)
    raw = (
        library.CertificateBuilder()
        .subject_name(name([]))
        .issuer_name(name([]))
        .public_key(RSA.public_key())
        .serial_number(1)
        .not_valid_before(moment)
        .not_valid_after(moment)
        .add_extension(library.SubjectAlternativeName([san]), False)
        .sign(RSA, hashes.SHA256())
    )
    return raw.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("algorithm", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_a_signature_in_rsa_pss_is_verified_with_every_version_of_the_library(algorithm, tmp_path):
    (tmp_path / "ca.key").write_bytes(throwaway.key("rsa one", "rsa-2048").pem)
    done = [
        "openssl",
        "req",
        "-x509",
        "-new",
        "-key",
        str(tmp_path / "ca.key"),
        "-subj",
        "/CN=kubernetes",
        "-days",
        "2",
        "-" + algorithm.name,
        "-sigopt",
        "rsa_padding_mode:pss",
        "-sigopt",
        "rsa_pss_saltlen:digest",
    ]
    own = x509_read.parse_certificate(subprocess.run(done, capture_output=True, check=True).stdout)
    assert own.signed_by(own) and not own.verified_by_key(holder(OTHER_RSA))


def test_a_long_object_identifier_takes_no_time():
    """Reading it arc by arc took time in the square of its length: 8.5 s for 200 kB."""
    own = holder(KEYS["ecdsa-p256"])
    arcs = b"\x06\x83\x03\x0d\x40" + b"\x81" * (0x30D40 - 1) + b"\x01"
    before = time.process_time()
    with pytest.raises(PkiError):
        x509_read.Certificate(b"\x30\x83" + len(own.der + arcs).to_bytes(3, "big") + own.der + arcs, "/x.crt")
    with pytest.raises(PkiError, match="256 KiB"):
        x509_read.Certificate(own.der + b"\0" * (1 << 20), "/x.crt")
    assert time.process_time() - before < 0.5


_PIECES = st.sampled_from(
    [
        b"-----BEGIN A-----",
        b"-----END A-----",
        b"-----BEGIN B C-----",
        b"-----END B C-----",
        b"\n",
        b" ",
        b"x",
        b"-----",
        b"-",
        b"-----BEGIN A-----\nQQ==\n-----END A-----\n",
    ]
)
_LEAF = holder(KEYS["ecdsa-p256"]).pem
_CRLF = _LEAF.replace(b"\n", b"\r\n")


class TestPem:
    # What Go's encoding/pem does with each was seen with kubectl 1.32.4.
    @pytest.mark.parametrize(
        "data",
        [
            _LEAF,
            _CRLF,
            b"# a comment\n" + _LEAF,
            b"Subject: CN=a\n\n" + _LEAF,
            _LEAF + b"trailing",
            _LEAF.rstrip(),
            _LEAF.replace(b"-----\n", b"----- \t\n"),
            b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + _LEAF,
            _LEAF.replace(b"\nM", b"\n M", 1),
            b"\n\n" + _LEAF,
        ],
        ids=range(10),
    )
    def test_what_go_reads_is_read(self, data):
        assert [one.pem for one in x509_read.parse_certificates(data)] == [_LEAF]

    @pytest.mark.parametrize(
        ("data", "cause"),
        [
            (b"  " + _LEAF.replace(b"\n", b"\n  "), "indented"),
            (b"\t" + _LEAF, "indented"),
            (b"ca: " + _LEAF, "text before BEGIN"),
            (b"\xef\xbb\xbf" + _LEAF, "byte order mark"),
            (_LEAF.replace(b"\n", b"\r"), "CR alone"),
            (_LEAF[:100], "beginning and no end"),
            (b"", "empty"),
            (b"text", "not PEM"),
            (_LEAF.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"), "holds no PEM certificate"),
            (_LEAF.replace(b"-----\n", b"----- x\n", 1), "holds no PEM certificate"),
            (_LEAF + b"  " + _LEAF, "passes over .an indented"),
            (_LEAF + _LEAF[:100], "truncated: a certificate in it has a beginning and no end"),
            (_LEAF.replace(b"M", b"*", 1), "not base64"),
        ],
        ids=range(13),
    )
    def test_what_go_does_not_read_is_refused_with_the_cause(self, data, cause):
        with pytest.raises(PkiError, match=cause) as error:
            x509_read.parse_certificates(data, "/ca.crt")
        assert error.value.path == "/ca.crt" and error.value.fix

    @given(st.lists(_PIECES, max_size=12).map(b"".join))
    @settings(deadline=None)
    def test_a_block_is_from_begin_to_the_next_end_of_its_kind(self, data):
        at = 0
        for block in pem.blocks(data):
            found = (b"\n" + data).index(b"\n" + block.text, at)  # it begins in the first column
            lines = block.text.rstrip(b"\n").split(b"\n")
            assert lines[0].rstrip() == b"-----BEGIN %s-----" % block.kind.encode()
            assert lines[-1].rstrip() == b"-----END %s-----" % block.kind.encode() and lines[-1] not in lines[:-1]
            at = found + len(block.text)

    @pytest.mark.parametrize(
        "line",
        [
            b"-----BEGIN A-----\n",
            b"-----END A-----\n",
            b"-----BEGIN A-----\n-----END B-----\n",
            b"-----BEGIN A" * 2,
            b"-----BEGIN " + b"A" * 50 + b"\n",
            b":\n",
            b"-----BEGIN A-----",
        ],
    )
    def test_no_file_takes_long(self, line):
        """With the pattern alone 270 kB of such lines took 20 seconds."""
        data = line * (1 << 20 >> len(line).bit_length())
        before = time.process_time()
        assert pem.blocks(data) == []
        with pytest.raises(PkiError):
            x509_read.parse_certificates(data)
        assert time.process_time() - before < 3

    @pytest.mark.parametrize("limit", [None, 1 << 16])
    def test_what_is_no_file_or_far_too_large_is_refused(self, tmp_path, limit, monkeypatch):
        if limit is None:
            with pytest.raises(PkiError, match="/dev/zero: is a device where a file is expected"):
                reading.read("/dev/zero")
            return
        monkeypatch.setattr(reading, "_LARGEST", limit)
        (tmp_path / "a").write_bytes(b"x" * limit)
        assert len(reading.read(str(tmp_path / "a"))) == len(reading.read_if_exists(str(tmp_path / "a"))) == limit
        (tmp_path / "a").write_bytes(b"x" * (limit + 1))
        for read in (reading.read, reading.read_if_exists):
            with pytest.raises(PkiError, match="is larger than"):
                read(str(tmp_path / "a"))
        backup = backup_set.create_backup([str(tmp_path / "a")], "backup", str(tmp_path / "sets"))
        (tmp_path / "a").unlink()
        assert (
            backup_restore.restore_backup(backup, state_dir=str(tmp_path / "state"))
            and (tmp_path / "a").stat().st_size == limit + 1
        )
