# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and compare certificates and pairs, without cryptography where that is possible (RFC 5280, ITU-T X.690).

Importing cryptography takes a node as long as everything else that a look at its certificates does, and a certificate is
plain data. So this room reads DER itself and checks RSA signatures with integers; for other keys, and for whoever needs the
library's own object (`raw`), it loads the library then. What makes or signs anything is x509's.
"""

from __future__ import annotations

__metaclass__ = type

import base64
import binascii
import datetime
import functools
import hashlib
import re
import socket

from .errors import PkiError

UTC = datetime.timezone.utc

_MARK = re.compile(b"-----(BEGIN|END) ([A-Z0-9 ]+)-----")
KEY_FIX = "Restore it from a backup, or issue a new certificate with a new key."
_FIX = "Restore it from a backup, or issue it again."

USAGES = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
          "key_cert_sign", "crl_sign")
_COMMON_NAME, _ORGANIZATION = "2.5.4.3", "2.5.4.10"
# RFC 4514 3, table of short names.
_SHORT = {"2.5.4.3": "CN", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.6": "C",
          "2.5.4.9": "STREET", "0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.1": "UID"}
_STRINGS = {0x0C: "utf-8", 0x12: "ascii", 0x13: "ascii", 0x16: "ascii", 0x14: "latin-1", 0x1C: "utf-32-be", 0x1E: "utf-16-be"}
_OTHER_NAMES = {0xA0: "OtherName", 0xA4: "DirectoryName", 0x88: "RegisteredID", 0xA3: "X400Address", 0xA5: "EDIPartyName"}
_EXTENDED = {"1.3.6.1.5.5.7.3.1": "server", "1.3.6.1.5.5.7.3.2": "client"}
_CURVES = {"1.2.840.10045.3.1.7": "ecdsa-p256", "1.3.132.0.34": "ecdsa-p384", "1.3.132.0.35": "ecdsa-p521"}
_RSA, _EC, _ED25519 = "1.2.840.113549.1.1.1", "1.2.840.10045.2.1", "1.3.101.112"
# AlgorithmIdentifier of rsaEncryption with NULL parameters (RFC 3279 2.3.1), DER.
RSA_ALGORITHM = bytes.fromhex("300d06092a864886f70d0101010500")
# id-ecPublicKey with secp256r1 (RFC 5480 2.1.1), DER.
_P256_ALGORITHM = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")
# SEC 2 2.4.2
_P256_PRIME = 2 ** 256 - 2 ** 224 + 2 ** 192 + 2 ** 96 - 1
_P256_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551
_P256_BASE = (0x6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296,
              0x4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5)
# RFC 8017 A.2.4: {signature algorithm: (hash, DigestInfo up to the digest)}.
_RSA_SIGNATURES = {
    "1.2.840.113549.1.1.5": ("sha1", bytes.fromhex("3021300906052b0e03021a05000414")),
    "1.2.840.113549.1.1.11": ("sha256", bytes.fromhex("3031300d060960864801650304020105000420")),
    "1.2.840.113549.1.1.12": ("sha384", bytes.fromhex("3041300d060960864801650304020205000430")),
    "1.2.840.113549.1.1.13": ("sha512", bytes.fromhex("3051300d060960864801650304020305000440"))}

_PSS = "1.2.840.113549.1.1.10"
_HASHES = {"1.3.14.3.2.26": "SHA1", "2.16.840.1.101.3.4.2.1": "SHA256", "2.16.840.1.101.3.4.2.2": "SHA384",
           "2.16.840.1.101.3.4.2.3": "SHA512"}


def now():
    """Give the current time in UTC, to the second, as X.509 can hold it."""
    return datetime.datetime.now(UTC).replace(microsecond=0)


def timestamp(moment):
    """Give a datetime as the reports show it: 2026-11-21T19:00:00Z."""
    # Not strftime, which gives the years before 1000 in fewer than four digits; Go writes a time that was never set as year 1.
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def serial_text(serial):
    """Give a serial number as the reports show it: hexadecimal with 0x."""
    return hex(serial)


class Certificate:
    """A parsed certificate. Attributes are computed once, from the DER; none holds key material.

    pem, der: bytes. sha256: hex digest of the DER. subject, issuer: RFC 4514 strings ("CN=kubernetes-admin,O=...").
    common_name: str or None; organizations: list. serial: int. sans: ["DNS:a", "IP:1.2.3.4", ...].
    not_before, not_after: datetime in UTC. is_ca: bool; path_length: int or None.
    usages: names as in RFC 5280 4.2.1.3 with underscores; extended_usages: "server", "client" or a dotted OID.
    key_type: "rsa-2048", "ecdsa-p256", ...; key_sha256: hex digest of the public key (SubjectPublicKeyInfo DER).
    subject_key_id, authority_key_id: hex str or None. self_issued: subject equals issuer.
    """

    def __init__(self, der, path=None, raw=None):
        """Take the DER, the path that errors name, and cryptography's object of it where there is one. Raises PkiError."""
        self.path = path
        self.der = der
        self._raw = raw
        try:
            self.sha256 = hashlib.sha256(der).hexdigest()
            self._read()
        except (ValueError, IndexError, OverflowError) as error:
            raise PkiError("holds a certificate that cannot be read (%s)" % _first_line(error), path=path, fix=_FIX) from None

    @property
    def raw(self):
        """cryptography's own object, for building on it. Raises PkiError where the library refuses it."""
        if self._raw is None:
            from cryptography import x509 as library
            try:
                self._raw = library.load_der_x509_certificate(self.der)
            except Exception as error:  # old versions raise what they please
                raise PkiError("holds a certificate that cannot be read (%s)" % _first_line(error), path=self.path,
                               fix=_FIX) from None
        return self._raw

    def _read(self):
        (kind, body, self._signed), (second, algorithm, _whole), (last, signature, _all) = parts(unwrap(self.der, 0x30))
        if (kind, second, last) != (0x30, 0x30, 0x03) or signature[:1] != b"\0":
            raise ValueError("not in the form of a certificate")
        self._signature = signature[1:]
        described = parts(algorithm)
        self._algorithm, self._parameters = oid(described[0]), described[1:]
        fields = parts(body)
        version = 0
        if fields[0][0] == 0xA0:
            version = integer(parts(fields.pop(0)[1])[0])
        number, inner, issuer, validity, subject, key = fields[:6]
        if inner[1] != algorithm or version > 2 or (issuer[0], subject[0], key[0]) != (0x30, 0x30, 0x30):
            raise ValueError("not in the form of a certificate")
        self.serial = integer(number)
        self.not_before, self.not_after = (_moment(part) for part in _pair(validity))
        self._issuer_der, self._subject_der = issuer[2], subject[2]
        self.self_issued = issuer[2] == subject[2]
        names = _attributes(subject[1])
        self.subject, self.issuer = _rfc4514(names), _rfc4514(_attributes(issuer[1]))
        flat = [attribute for relative in names for attribute in relative]
        self.common_name = next((value for kind, value in flat if kind == _COMMON_NAME), None)
        self.organizations = [value for kind, value in flat if kind == _ORGANIZATION]
        self.key_type, self.key_sha256, self._rsa = _public_key(key[2])
        self._extensions(next((part[1] for part in fields[6:] if part[0] == 0xA3), None))

    def _extensions(self, wrapped):
        found = {}
        for part in parts(unwrap(wrapped, 0x30)) if wrapped is not None else ():
            items = parts(part[1])
            name, value = oid(items[0]), items[-1]
            if value[0] != 0x04 or name in found:
                raise ValueError("an extension is damaged or there twice")
            found[name] = value[1]
        self.is_ca, self.path_length = _constraints(found.get("2.5.29.19"))
        self.usages = _usages(found.get("2.5.29.15"))
        purposes = [oid(part) for part in _items(found.get("2.5.29.37"))]
        self.extended_usages = [_EXTENDED.get(name, name) for name in purposes]
        self.sans = [_san(part) for part in _items(found.get("2.5.29.17"))]
        key_id = found.get("2.5.29.14")
        self.subject_key_id = unwrap(key_id, 0x04).hex() if key_id is not None else None
        authority = [part[1] for part in _items(found.get("2.5.29.35")) if part[0] == 0x80]
        self.authority_key_id = authority[0].hex() if authority else None

    @property
    def pem(self):
        """The certificate as PEM, one line break at the end."""
        text = base64.b64encode(self.der)
        lines = [text[at:at + 64] for at in range(0, len(text), 64)]
        return b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n" % b"\n".join(lines)

    def describe(self):
        """Give what a diff shows of a certificate: names, validity and fingerprints, never key material."""
        return {"subject": self.subject, "issuer": self.issuer, "serial": hex(self.serial), "sans": list(self.sans),
                "usages": list(self.extended_usages), "key_type": self.key_type, "not_before": timestamp(self.not_before),
                "not_after": timestamp(self.not_after), "sha256": self.sha256}

    def signed_by(self, issuer):
        """Tell whether issuer (a Certificate) names itself as this one's issuer and its key made the signature."""
        return self._issuer_der == issuer._subject_der and self.verified_by_key(issuer)

    def verified_by_key(self, issuer):
        """Tell whether the signature was made by the issuer's key, whatever names the two carry."""
        if issuer._rsa and self._algorithm in _RSA_SIGNATURES:
            return _verify_rsa(issuer._rsa, self._algorithm, self._signature, self._signed)
        try:
            if self._algorithm == _PSS:
                return _verify_pss(issuer.raw.public_key(), self._parameters, self._signature, self._signed)
            return _verify(self.raw, issuer.raw.public_key())
        except Exception:  # what the library refuses to read it has not verified
            return False


def pem_blocks(data):
    """Give [(kind, the block with its last line)] of a PEM file's bytes, such as (b"CERTIFICATE", b"-----BEGIN ...").

    One pass, whatever the file holds: a block goes from its first line to the next last line of its kind.
    """
    marks = list(_MARK.finditer(data))
    last = {mark.group(2): mark.start() for mark in marks if mark.group(1) == b"END"}
    found, begin, at = [], None, 0
    for mark in marks:
        word, kind = mark.groups()
        if mark.start() < at:
            continue
        if begin is None:
            if word == b"BEGIN" and data[mark.end():mark.end() + 1].isspace() and last.get(kind, -1) > mark.start():
                begin = mark
        elif word == b"END" and kind == begin.group(2):
            at = data.find(b"\n", mark.end()) + 1 or len(data)
            found.append((kind, data[begin.start():at]))
            begin = None
    return found


def parse_certificates(data, path=None):
    """Give every certificate of a PEM file, in order, as Certificates. Other PEM blocks are passed over.

    data: bytes. Raises PkiError when there is none, or when one cannot be read.
    """
    blocks = [block for kind, block in pem_blocks(data) if kind == b"CERTIFICATE"]
    if not blocks:
        raise PkiError(why_no_pem(data, "certificate"), path=path, fix=_FIX)
    if len(blocks) < data.count(b"-----BEGIN CERTIFICATE-----"):
        raise PkiError("is truncated: a certificate in it has a beginning and no end", path=path, fix=_FIX)
    certificates = []
    for block in blocks:
        try:
            der = decoded(block)
        except ValueError as error:
            raise PkiError("holds a damaged certificate (%s)" % _first_line(error), path=path, fix=_FIX) from None
        certificates.append(Certificate(der, path))
    return certificates


def parse_certificate(data, path=None):
    """Give the first certificate of a PEM file: the leaf of a chain, the signer of a CA bundle."""
    return parse_certificates(data, path)[0]


def parse_der_certificate(der, path=None):
    """Give a Certificate from DER, as a TLS handshake delivers it."""
    try:
        return Certificate(der, path)
    except PkiError as error:
        raise PkiError(error.message.replace("holds", "serves", 1), path=path) from None


def bundle(certificates):
    """Give one PEM of several Certificates, in order, each once."""
    seen, found = set(), []
    for certificate in certificates:
        if certificate.sha256 not in seen:
            seen.add(certificate.sha256)
            found.append(certificate.pem)
    return b"".join(found)


def private_key_digest(data, path=None):
    """Give the key_sha256 of a PEM file's private key, for comparing a pair. Raises PkiError as x509.parse_private_key does.

    Loading an RSA key takes cryptography 40 ms, nearly all of it for testing the primes again; a node has 17 keys. This
    checks instead that all the numbers of the key (RFC 8017 A.1.2) belong together, which no damage or truncation leaves so.
    Kubelets make themselves keys on P-256 (client-go util/certificate), and importing the library takes as long again.
    """
    block = private_block(data, path)
    numbers = rsa_numbers(block)
    if numbers is None:
        info = _p256_public(block)
        if info is not None:
            return _digest(info)
        from cryptography.hazmat.primitives import serialization
        try:
            public = serialization.load_pem_private_key(block, password=None).public_key()
            return _digest(public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
        except Exception:  # the library's own text can quote what it read
            raise PkiError("the private key is damaged or truncated", path=path, fix=KEY_FIX) from None
    if not rsa_consistent(numbers):
        raise PkiError("the private key is damaged or truncated", path=path, fix=KEY_FIX)
    return _digest(_rsa_public(numbers[1], numbers[2]))


def public_key_digests(data, path=None):
    """Give the key_sha256 of every public key of a PEM file such as sa.pub, in order; certificates and private keys count."""
    found = []
    for kind, block in pem_blocks(data):
        try:
            if kind == b"CERTIFICATE":
                found.append(Certificate(decoded(block)).key_sha256)
            elif kind.endswith(b"PRIVATE KEY"):
                found.append(private_key_digest(block))
            elif kind == b"RSA PUBLIC KEY":
                modulus, exponent = _pair(parts(decoded(block))[0])
                found.append(_digest(_rsa_public(integer(modulus), integer(exponent))))
            elif kind.endswith(b"PUBLIC KEY"):
                found.append(_public_key(decoded(block))[1])
        except (ValueError, IndexError, OverflowError, PkiError):
            raise PkiError("holds a damaged key", path=path, fix="Restore it from a backup.") from None
    if not found:
        raise PkiError(why_no_pem(data, "public key"), path=path, fix="Restore it from a backup.")
    return found


def private_block(data, path):
    """Give the PEM block of the first private key. Raises PkiError: none, encrypted."""
    block = next((block for kind, block in pem_blocks(data) if kind.endswith(b"PRIVATE KEY")), None)
    if block is None:
        raise PkiError(why_no_pem(data, "private key"), path=path, fix=KEY_FIX)
    if b"ENCRYPTED" in block.split(b"\n\n", 1)[0]:
        raise PkiError("the private key is encrypted, and Kubernetes cannot use an encrypted key", path=path,
                       fix="Decrypt it with `openssl pkey -in FILE -out FILE.plain`, mode 0600, and put that in its place.")
    return block


def rsa_numbers(block):
    """Give the integers of an RSAPrivateKey (version, n, e, d, p, q, dp, dq, qinv), or None for any other block."""
    try:
        outer = parts(unwrap(decoded(block), 0x30))
        if len(outer) >= 3 and outer[1][0] == 0x30 and outer[2][0] == 0x04:  # PKCS#8 (RFC 5958) around it
            if outer[1][2] != RSA_ALGORITHM:
                return None
            outer = parts(unwrap(outer[2][1], 0x30))
        return [integer(part) for part in outer] if [part[0] for part in outer] == [0x02] * 9 else None
    except (ValueError, IndexError):
        return None


def rsa_consistent(numbers):
    """Tell whether the integers of rsa_numbers() belong together (RFC 8017 3.2)."""
    version, n, e, d, p, q, dp, dq, qinv = numbers
    return (version == 0 and min(n, e, d, p, q) > 1 and p * q == n and e * d % (p - 1) == 1 and e * d % (q - 1) == 1
            and dp == d % (p - 1) and dq == d % (q - 1) and qinv < p and qinv * q % p == 1)


def _p256_public(block):
    """Give the SubjectPublicKeyInfo (DER) of a private key on P-256 (RFC 5915, or RFC 5958 around it), or None for any other.

    Made from the private half, as Go does (crypto/x509/sec1.go). None, too, where the halves differ or are written otherwise: the
    library judges that.
    """
    try:
        outer = parts(unwrap(decoded(block), 0x30))
        if [part[0] for part in outer] == [0x02, 0x30, 0x04] and integer(outer[0]) == 0 and outer[1][2] == _P256_ALGORITHM:
            inner, named = parts(unwrap(outer[2][1], 0x30)), []
        else:
            inner, named = outer, [(0xA0, _P256_ALGORITHM[11:])]
        scalar = int.from_bytes(inner[1][1], "big")
        if integer(inner[0]) != 1 or inner[1][0] != 0x04 or len(inner[1][1]) != 32 or not 0 < scalar < _P256_ORDER:
            return None
    except (ValueError, IndexError):
        return None
    point = element(0x03, b"\0\4" + b"".join(number.to_bytes(32, "big") for number in _p256_point(scalar)))
    if [part[:2] for part in inner[2:]] not in (named, [*named, (0xA1, point)]):
        return None
    return element(0x30, _P256_ALGORITHM + point)


def _p256_point(scalar):
    """Multiply the base point of P-256 (SEC 2 2.4.2), with Jacobian coordinates. Gives (x, y); scalar: from 1 below the order.

    Not in constant time: for reading files, not for signing.
    """
    p, (gx, gy) = _P256_PRIME, _P256_BASE
    x, y, z = gx, gy, 1
    for bit in bin(scalar)[3:]:
        square, slope = y * y % p, 3 * (x - z * z) * (x + z * z) % p
        four = 4 * x * square % p
        x, y, z = (slope * slope - 2 * four) % p, slope, 2 * y * z % p
        y = (slope * (four - x) - 8 * square * square) % p
        if bit == "1":
            u, s = (gx * z * z - x) % p, (gy * z * z * z - y) % p
            uu = u * u % p
            uuu, v = u * uu % p, x * uu % p
            x = (s * s - uuu - 2 * v) % p
            y, z = (s * (v - x) - y * uuu) % p, z * u % p
    inverse = pow(z, -1, p)
    return x * inverse * inverse % p, y * inverse * inverse * inverse % p


def why_no_pem(data, what):
    """Say why a file's bytes hold no PEM block of `what`."""
    if not data.strip():
        return "is empty, where a PEM %s is expected" % what
    if b"-----BEGIN" in data and b"-----END" not in data:
        return "is truncated: the PEM block has a beginning and no end"
    if b"-----BEGIN" in data:
        return "holds no PEM %s" % what
    return "is not PEM, where a %s is expected" % what


def decoded(block):
    """Give the DER of one PEM block. Raises ValueError."""
    lines = block.strip().splitlines()[1:-1]
    if any(b":" in line for line in lines):  # RFC 1421 headers, as before an encrypted key
        lines = lines[lines.index(b"") + 1:]
    try:
        return base64.b64decode(b"".join(line.strip() for line in lines), validate=True)
    except binascii.Error:
        raise ValueError("not base64 between the PEM lines") from None


# --- DER (X.690 10, 11) -----------------------------------------------------------------------------------------------------

def parts(data):
    """Split DER into [(tag, value, tag with length and value)] of one level. Raises ValueError when a length does not fit."""
    found, at, size = [], 0, len(data)
    while at < size:
        if at + 2 > size:
            raise ValueError("truncated")
        tag, length, start = data[at], data[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(data[start:start + count], "big")
            start += count
            if not 0 < count < 5 or length < 0x80:
                raise ValueError("a length in it is not DER")
        if start + length > size:
            raise ValueError("truncated")
        found.append((tag, data[start:start + length], data[at:start + length]))
        at = start + length
    return found


def unwrap(data, tag):
    """Give the value of the one element that data is. Raises ValueError when it is more or another."""
    found = parts(data)
    if len(found) != 1 or found[0][0] != tag:
        raise ValueError("not in the form it should have")
    return found[0][1]


def integer(part):
    """Give an INTEGER's value."""
    tag, value = part[:2]
    if tag != 0x02 or not value or (len(value) > 1 and value[0] in (0, 0xFF) and value[0] >> 7 == value[1] >> 7):
        raise ValueError("a number in it is not DER")
    return int.from_bytes(value, "big", signed=True)


@functools.lru_cache(maxsize=256)  # a few, and each in every certificate
def oid(part):
    """Give an OBJECT IDENTIFIER as dotted text."""
    tag, value = part[:2]
    if tag != 0x06 or not value or value[-1] & 0x80:
        raise ValueError("an object identifier in it is damaged")
    arcs, number = [], 0
    for byte in value:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            arcs.append(number)
            number = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(str(arc) for arc in [first, arcs[0] - 40 * first] + arcs[1:])


def element(tag, value):
    """Give DER of one element."""
    size = len(value)
    if size < 0x80:
        return bytes([tag, size]) + value
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + value


def _pair(part):
    found = parts(part[1])
    if part[0] != 0x30 or len(found) != 2:
        raise ValueError("not in the form it should have")
    return found


def _items(value):
    return parts(unwrap(value, 0x30)) if value is not None else []


def _moment(part):
    tag, value = part[:2]
    text = value.decode("ascii")
    if tag == 0x17:  # RFC 5280 4.1.2.5.1
        text = ("19" if text[:2] >= "50" else "20") + text
    if tag not in (0x17, 0x18) or not re.fullmatch(r"[0-9]{14}Z", text):
        raise ValueError("a time in it is not in the form it should have")
    # Not strptime, which imports the machine's language.
    return datetime.datetime(*(int(text[at:at + size]) for at, size in ((0, 4), (4, 2), (6, 2), (8, 2), (10, 2), (12, 2))),
                             tzinfo=UTC)


def _attributes(name):
    """Give a Name as [[(oid, text)]], one list for each relative name."""
    found = []
    for kind, relative, _whole in parts(name):
        if kind != 0x31:
            raise ValueError("a name in it is damaged")
        pairs = [_pair(attribute) for attribute in parts(relative)]
        found.append([(oid(attribute), _string(value)) for attribute, value in pairs])
    return found


def _string(part):
    if part[0] == 0x03:  # x500UniqueIdentifier
        return part[1].hex()
    if part[0] not in _STRINGS:
        raise ValueError("a name in it is of an unknown kind")
    return part[1].decode(_STRINGS[part[0]])


def _rfc4514(names):
    """RFC 4514 2.1: the last comes first."""
    return ",".join("+".join("%s=%s" % (_SHORT.get(kind, kind), _escaped(value)) for kind, value in relative)
                    for relative in reversed(names))


def _escaped(value):
    text = re.sub(r'([\\",+<>;])', r"\\\1", value).replace("\0", "\\00")
    if text[:1] in ("#", " "):
        text = "\\" + text
    return text[:-1] + "\\ " if text.endswith(" ") and len(value) > 1 else text


def _constraints(value):
    is_ca, path_length = False, None
    for part in _items(value):
        if part[0] == 0x01:
            is_ca = part[1] == b"\xff"
        else:
            path_length = integer(part)
    return is_ca, path_length


def _usages(value):
    if value is None:
        return []
    bits = unwrap(value, 0x03)[1:]
    return [name for index, name in enumerate(USAGES) if index // 8 < len(bits) and bits[index // 8] >> (7 - index % 8) & 1]


def _san(part):
    tag, value = part[:2]
    if tag == 0x87:
        return "IP:%s" % _address(value)
    kind = {0x82: "DNS", 0x86: "URI", 0x81: "email"}.get(tag)
    if kind:
        return "%s:%s" % (kind, value.decode("ascii"))
    if tag not in _OTHER_NAMES:
        raise ValueError("a name in it is of an unknown kind")
    return "other:%s" % _OTHER_NAMES[tag]


def _address(value):
    if len(value) not in (4, 16):
        raise ValueError("an address in it is neither IPv4 nor IPv6")
    if len(value) == 16 and not any(value[:10]) and value[10:12] in (b"\0\0", b"\xff\xff") and any(value[10:15]):
        import ipaddress  # for the odd forms, of which inet_ntop and Python have views of their own
        return str(ipaddress.ip_address(value))
    return socket.inet_ntop(socket.AF_INET if len(value) == 4 else socket.AF_INET6, value)


def _digest(der):
    return hashlib.sha256(der).hexdigest()


def _rsa_public(modulus, exponent):
    """SubjectPublicKeyInfo of an RSA key (RFC 3279 2.3.1)."""
    numbers = [element(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big")) for number in (modulus, exponent)]
    return element(0x30, RSA_ALGORITHM + element(0x03, b"\0" + element(0x30, b"".join(numbers))))


def _public_key(info):
    """Give (key_type, key_sha256, (modulus, exponent) or None) of a SubjectPublicKeyInfo."""
    algorithm, key = parts(unwrap(info, 0x30))
    described = parts(algorithm[1])
    kind, bits = oid(described[0]), key[1]
    if key[0] != 0x03 or bits[:1] != b"\0":
        raise ValueError("its public key is damaged")
    if kind == _RSA:
        modulus, exponent = (integer(part) for part in _pair(parts(bits[1:])[0]))
        if not 512 <= modulus.bit_length() <= 16384 or not 3 <= exponent < 1 << 64 or not exponent & modulus & 1:
            raise ValueError("its public key is damaged")
        return "rsa-%d" % modulus.bit_length(), _digest(_rsa_public(modulus, exponent)), (modulus, exponent)
    if kind == _EC and len(described) == 2 and oid(described[1]) in _CURVES and bits[1:2] == b"\x04":
        return _CURVES[oid(described[1])], _digest(info), None
    return _unusual(info) if kind != _ED25519 else ("ed25519", _digest(info), None)


def _unusual(info):
    from cryptography.hazmat.primitives import serialization
    try:
        public = serialization.load_der_public_key(info)
        der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    except Exception as error:  # old versions raise what they please
        raise ValueError("its public key cannot be read: %s" % error) from None
    curve = getattr(public, "curve", None)
    names = {"secp256r1": "ecdsa-p256", "secp384r1": "ecdsa-p384", "secp521r1": "ecdsa-p521"}
    return "unknown" if curve is None else names.get(curve.name, "ecdsa-" + curve.name), _digest(der), None


def _verify_rsa(key, algorithm, signature, signed):
    """RFC 8017 8.2.2: the padded digest is made again and compared whole, so that nothing in it is parsed."""
    modulus, exponent = key
    size = (modulus.bit_length() + 7) // 8
    number = int.from_bytes(signature, "big")
    name, prefix = _RSA_SIGNATURES[algorithm]
    try:
        tail = b"\0" + prefix + hashlib.new(name, signed).digest()
    except ValueError:  # SHA-1 on a machine in FIPS mode, where nobody accepts it
        return False
    if len(signature) != size or number >= modulus or size < len(tail) + 10:
        return False
    wanted = b"\0\1" + b"\xff" * (size - len(tail) - 2) + tail
    return pow(number, exponent, modulus).to_bytes(size, "big") == wanted


def _verify_pss(key, parameters, signature, signed):
    """RFC 8017 8.1.2, with the parameters of RFC 4055 3.1, whose defaults are SHA-1 and a salt of 20 octets."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding
    fields = {part[0]: parts(part[1])[0] for part in parts(parameters[0][1])}

    def digest(described):
        return getattr(hashes, _HASHES[oid(parts(described[1])[0])])()
    algorithm = digest(fields[0xA0]) if 0xA0 in fields else hashes.SHA1()  # noqa: S303
    mask = digest(parts(fields[0xA1][1])[1]) if 0xA1 in fields else hashes.SHA1()  # noqa: S303
    salt = integer(fields[0xA2]) if 0xA2 in fields else 20
    key.verify(signature, signed, padding.PSS(padding.MGF1(mask), salt), algorithm)
    return True


def _verify(raw, key):
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    algorithm = raw.signature_hash_algorithm
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(raw.signature, raw.tbs_certificate_bytes, padding.PKCS1v15(), algorithm)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(raw.signature, raw.tbs_certificate_bytes, ec.ECDSA(algorithm))
    elif isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(raw.signature, raw.tbs_certificate_bytes)
    else:
        return False
    return True


def _first_line(error):
    return (str(error).splitlines() or ["unreadable"])[0][:120]
