# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What certificates reads by itself is what cryptography reads; what it verifies is what cryptography verifies."""

from __future__ import annotations

import datetime
import ipaddress
import re
import subprocess
import sys
import time

import pytest
import throwaway
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import backups, certificates, files, reading, x509
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from cryptography import x509 as library
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

RSA, OTHER_RSA = throwaway.key("rsa one", "rsa-2048").raw, throwaway.key("rsa two", "rsa-2048").raw
KEYS = {"rsa-2048": RSA, "ecdsa-p256": throwaway.key("ec").raw, "ecdsa-p384": throwaway.key("ec384", "ecdsa-p384").raw,
        "ecdsa-p521": ec.generate_private_key(ec.SECP521R1()), "ecdsa-secp256k1": ec.generate_private_key(ec.SECP256K1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate(), "rsa-3072": rsa.generate_private_key(public_exponent=3, key_size=3072)}
NAMES = {"CN": "2.5.4.3", "O": "2.5.4.10", "OU": "2.5.4.11", "L": "2.5.4.7", "STREET": "2.5.4.9", "x": "2.5.4.12"}

TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0x2fff, blacklist_categories=("Cs",)), min_size=1, max_size=12)
ODD = st.sampled_from([" a", "a ", "#a", 'a,b+"\\<>;', "a=b"])
NAME = st.lists(st.tuples(st.sampled_from(sorted(NAMES)), TEXT | ODD), max_size=4)
SAN = st.one_of(
    st.sampled_from(["a", "*.example", "kubernetes.default.svc"]).map(library.DNSName),
    st.ip_addresses().map(library.IPAddress), st.just(library.UniformResourceIdentifier("https://a/b")),
    st.just(library.RFC822Name("a@b.c")), st.just(library.RegisteredID(library.ObjectIdentifier("1.2.3"))),
    st.just(library.DirectoryName(library.Name([library.NameAttribute(library.ObjectIdentifier("2.5.4.3"), "d")]))))
MOMENT = st.datetimes(datetime.datetime(1950, 1, 1), datetime.datetime(9999, 12, 30)).map(
    lambda moment: moment.replace(microsecond=0))


def name(attributes):
    return library.Name([library.NameAttribute(library.ObjectIdentifier(NAMES[kind]), value) for kind, value in attributes])


@st.composite
def made(draw):
    """Any certificate that the library can make: its object and the key that signed it."""
    signer = KEYS[draw(st.sampled_from(sorted(KEYS)))]
    begin, end = sorted([draw(MOMENT), draw(MOMENT)])
    builder = (library.CertificateBuilder().subject_name(name(draw(NAME))).issuer_name(name(draw(NAME)))
               .public_key(KEYS[draw(st.sampled_from(sorted(KEYS)))].public_key())
               .serial_number(draw(st.integers(1, 2 ** 159 - 1))).not_valid_before(begin).not_valid_after(end))
    if draw(st.booleans()):
        authority = draw(st.booleans())
        length = draw(st.none() | st.integers(0, 300)) if authority else None
        builder = builder.add_extension(library.BasicConstraints(authority, length), draw(st.booleans()))
    if draw(st.booleans()):
        bits = {one: draw(st.booleans()) for one in certificates.USAGES}
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
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else draw(
        st.sampled_from([hashes.SHA256(), hashes.SHA384(), hashes.SHA512()]))
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
    own = certificates.Certificate(der)
    assert own.subject == raw.subject.rfc4514_string() and own.issuer == raw.issuer.rfc4514_string()
    assert own.serial == raw.serial_number and own.sha256 == raw.fingerprint(hashes.SHA256()).hex()
    # Before cryptography 42: the same moments, without saying that they are UTC.
    moments = (raw.not_valid_before_utc, raw.not_valid_after_utc) if hasattr(raw, "not_valid_before_utc") else tuple(
        moment.replace(tzinfo=datetime.timezone.utc) for moment in (raw.not_valid_before, raw.not_valid_after))
    assert (own.not_before, own.not_after) == moments
    assert own.common_name == (values(raw, "2.5.4.3") or [None])[0] and own.organizations == values(raw, "2.5.4.10")
    assert own.self_issued == (raw.subject == raw.issuer)
    info = raw.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert own.key_sha256 == certificates.hashlib.sha256(info).hexdigest()
    assert own.pem == raw.public_bytes(serialization.Encoding.PEM)
    constraints = extension(raw, library.BasicConstraints)
    assert (own.is_ca, own.path_length) == ((constraints.ca, constraints.path_length) if constraints else (False, None))
    usage = extension(raw, library.KeyUsage)
    assert own.usages == [one for one in certificates.USAGES if usage and getattr(usage, one)]
    purposes = [one.dotted_string for one in extension(raw, library.ExtendedKeyUsage) or ()]
    assert own.extended_usages == [certificates._EXTENDED.get(one, one) for one in purposes]
    names = extension(raw, library.SubjectAlternativeName) or ()
    assert own.sans == [x509._san_text(one) for one in names]
    key_id = extension(raw, library.SubjectKeyIdentifier)
    assert own.subject_key_id == own.authority_key_id == (key_id.digest.hex() if key_id else None)
    assert own.raw == raw


@settings(max_examples=100, deadline=None)
@given(pair=made(), other=st.sampled_from(sorted(KEYS)), place=st.integers(0), bit=st.integers(0, 7))
def test_it_verifies_what_the_library_verifies(pair, other, place, bit):
    raw, signer = pair
    own = certificates.Certificate(raw.public_bytes(serialization.Encoding.DER))
    assert own.verified_by_key(holder(signer))
    assert own.verified_by_key(holder(KEYS[other])) == (KEYS[other] is signer)
    damaged = bytearray(own._signature)
    damaged[place % len(damaged)] ^= 1 << bit
    own._signature, own._raw = bytes(damaged), _Damaged(raw, bytes(damaged))
    assert not own.verified_by_key(holder(signer))


class _Damaged:
    """The library's certificate with another signature."""

    def __init__(self, raw, signature):
        self.signature, self.tbs_certificate_bytes = signature, raw.tbs_certificate_bytes
        self.signature_hash_algorithm = raw.signature_hash_algorithm


_HOLDERS: dict = {}


def holder(key):
    """A certificate that holds a key."""
    if id(key) not in _HOLDERS:
        moment = datetime.datetime(2026, 1, 1)
        raw = (library.CertificateBuilder().subject_name(name([("CN", "a")])).issuer_name(name([])).public_key(key.public_key())
               .serial_number(1).not_valid_before(moment).not_valid_after(moment).sign(KEYS["ecdsa-p256"], hashes.SHA256()))
        _HOLDERS[id(key)] = certificates.Certificate(raw.public_bytes(serialization.Encoding.DER))
    return _HOLDERS[id(key)]


@settings(max_examples=300, deadline=None)
@given(pair=made(), cut=st.booleans(), place=st.integers(0, 10 ** 6), bits=st.integers(1, 255))
def test_damage_is_one_clear_error_or_none(pair, cut, place, bits):
    der = bytearray(pair[0].public_bytes(serialization.Encoding.DER))
    place %= len(der)
    if cut:
        der = der[:place]
    else:
        der[place] ^= bits
    try:
        own = certificates.Certificate(bytes(der), "/x.crt")
    except PkiError as error:
        assert error.path == "/x.crt" and error.fix
    else:
        assert not own.verified_by_key(holder(pair[1]))


@pytest.mark.parametrize("part", [1, 2])
def test_a_signature_counts_only_in_the_form_of_one(part):
    """RFC 5280 4.1: behind what is signed, the algorithm is a SEQUENCE and the signature a BIT STRING."""
    own = holder(KEYS["ecdsa-p256"])
    pieces = certificates.parts(certificates.unwrap(own.der, 0x30))
    damaged = bytearray(own.der)
    damaged[len(own.der) - sum(len(whole) for _kind, _body, whole in pieces[part:])] ^= 1
    with pytest.raises(PkiError, match="certificate"):
        certificates.Certificate(bytes(damaged), "/x.crt")


@given(st.binary(max_size=200))
def test_any_bytes_are_an_error(data):
    with pytest.raises(PkiError):
        certificates.Certificate(data)
    with pytest.raises(PkiError, match="serves"):
        certificates.parse_der_certificate(data, "host:1")


def test_names_are_compared_as_the_api_server_does():
    """Go compares the bytes of issuer and subject (crypto/x509: isValid, by RawIssuer and RawSubject)."""
    ca_key = throwaway.key("ca")
    ca = x509.build_ca("kubernetes", ca_key, 10)
    leaf = x509.sign_leaf(x509.Profile("a"), throwaway.key("leaf"), ca, ca_key, 5)
    assert leaf.signed_by(ca) and not leaf.signed_by(x509.build_ca("Kubernetes", ca_key, 10)) and not ca.signed_by(leaf)


@pytest.mark.parametrize("form,encoding", [("SubjectPublicKeyInfo", "PEM"), ("PKCS1", "PEM")])
def test_public_keys_in_both_forms(form, encoding):
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, getattr(serialization.PublicFormat, form))
    assert certificates.public_key_digests(pem) == [x509.PublicKey(RSA.public_key()).key_sha256]


def test_public_keys_of_every_kind_in_one_file():
    key = throwaway.key("ec")
    ca = x509.build_ca("a", key, 1)
    data = key.public_pem + ca.pem + key.pem + b"trailing"
    assert certificates.public_key_digests(data) == [key.key_sha256] * 3
    for damaged in (b"", b"text", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        with pytest.raises(PkiError):
            certificates.public_key_digests(damaged, "/sa.pub")


def test_an_ip_of_a_strange_length_is_an_error():
    der = bytearray(_with_san(library.IPAddress(ipaddress.ip_address("10.0.0.1"))))
    at = der.index(b"\x87\x04\x0a\0\0\1")
    # The same bytes as a directory name would be longer: a bad tag is as wrong as a bad length.
    der[at] = 0x8F
    with pytest.raises(PkiError, match="cannot be read"):
        certificates.Certificate(bytes(der))


def _with_san(san):
    moment = datetime.datetime(2026, 1, 1)
    raw = (library.CertificateBuilder().subject_name(name([])).issuer_name(name([])).public_key(RSA.public_key()).serial_number(1)
           .not_valid_before(moment).not_valid_after(moment).add_extension(library.SubjectAlternativeName([san]), False)
           .sign(RSA, hashes.SHA256()))
    return raw.public_bytes(serialization.Encoding.DER)


def test_rsa_needs_no_cryptography(tmp_path):
    """On a cluster with kubeadm's own keys the library is not even imported: that import is half of cert_expiry's time."""
    ca_key = throwaway.key("rsa one", "rsa-2048")
    ca = x509.build_ca("kubernetes", ca_key, 10)
    leaf = x509.sign_leaf(x509.Profile("a", sans=["DNS:a"]), throwaway.key("rsa two", "rsa-2048"), ca, ca_key, 5)
    for file, data in (("ca.pem", ca.pem), ("leaf.pem", leaf.pem), ("leaf.key", throwaway.key("rsa two", "rsa-2048").pem)):
        (tmp_path / file).write_bytes(data)
    script = """
import sys, importlib.util, types
for name in ("kubepki_pki",):
    package = types.ModuleType(name); package.__path__ = [sys.argv[1]]; sys.modules[name] = package
from kubepki_pki import certificates
read = lambda name: open(sys.argv[2] + "/" + name, "rb").read()
ca, leaf = certificates.parse_certificate(read("ca.pem")), certificates.parse_certificate(read("leaf.pem"))
assert leaf.signed_by(ca) and not ca.signed_by(leaf) and certificates.private_key_digest(read("leaf.key")) == leaf.key_sha256
assert "cryptography" not in sys.modules
"""
    folder = certificates.__file__.rsplit("/", 1)[0]
    subprocess.run([sys.executable, "-c", script, folder, str(tmp_path)], check=True)


_PATTERN = re.compile(b"-----BEGIN ([A-Z0-9 ]+)-----\\s.*?-----END \\1-----[^\\n]*\\n?", re.DOTALL)
_PIECES = st.sampled_from([b"-----BEGIN A-----", b"-----END A-----", b"-----BEGIN B C-----", b"-----END B C-----", b"\n", b" ",
                           b"x", b"-----", b"-", b"-----BEGIN A-----\nQQ==\n-----END A-----\n"])


class TestPem:
    @given(st.lists(_PIECES, max_size=12).map(b"".join))
    @settings(deadline=None)
    def test_the_blocks_are_what_the_pattern_finds(self, data):
        assert certificates.pem_blocks(data) == [(match.group(1), match.group(0)) for match in _PATTERN.finditer(data)]

    @pytest.mark.parametrize("line", [b"-----BEGIN A-----\n", b"-----END A-----\n", b"-----BEGIN A-----\n-----END B-----\n",
                                      b"-----BEGIN A" * 2, b"-----BEGIN " + b"A" * 50 + b"\n"])
    def test_no_file_takes_long(self, line):
        """With the pattern alone 270 kB of such lines took 20 seconds."""
        data = line * (1 << 20 >> len(line).bit_length())
        before = time.process_time()
        assert certificates.pem_blocks(data) == []
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
        backup = files.create_backup([str(tmp_path / "a")], "backup", str(tmp_path / "sets"))
        (tmp_path / "a").unlink()
        assert backups.restore_backup(backup, state_dir=str(tmp_path / "state")) and (tmp_path / "a").stat().st_size == limit + 1
