# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the PEM blocks of a file as Go does (RFC 7468, Go's encoding/pem), and the cause when Go finds none.

Hand-written, because `cryptography` reads files in which Go finds no block (see _cause), and no library reports the difference.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Callable

from ..errors import PkiError

_BEGIN = re.compile(rb"-----BEGIN ([^\n]*?)-----")

KEY_FIX = "Restore it from a backup, or issue a new certificate with a new key."


class Block:
    """One PEM block. kind: such as "CERTIFICATE". text: from BEGIN to the end of the END line. headers: whether it has headers
    (RFC 1421). der: the decoded bytes, or None where they are not base64."""

    def __init__(self, kind: str, text: bytes, headers: bool, der: bytes | None) -> None:
        self.kind, self.text, self.headers, self.der = kind, text, headers, der


def blocks(data: bytes) -> list[Block]:
    """Return the PEM blocks of a file's bytes in order, in one pass. Never raises."""
    found: list[Block] = []
    lines = data.split(b"\n")
    ends = _ends(lines)
    number = 0
    while number < len(lines):
        kind = _marked(lines[number], b"BEGIN")
        end = _next_end(ends, kind, number) if kind is not None else None
        if kind is None or end is None:
            number += 1
            continue
        body = [line.strip(b" \t\r") for line in lines[number + 1 : end]]
        headers = 0
        while headers < len(body) and b":" in body[headers]:  # RFC 1421, as before an encrypted key
            headers += 1
        text = b"\n".join(lines[number : end + 1]) + (b"\n" if end + 1 < len(lines) else b"")
        found.append(Block(kind.decode("ascii", "replace"), text, headers > 0, _decoded(b"".join(body[headers:]))))
        number = end + 1
    return found


def _ends(lines: list[bytes]) -> dict[bytes, list[int]]:
    """Return {kind: [line numbers, the last one first]} of the END lines."""
    found: dict[bytes, list[int]] = {}
    for number in range(len(lines) - 1, -1, -1):
        kind = _marked(lines[number], b"END")
        if kind is not None:
            found.setdefault(kind, []).append(number)
    return found


def _next_end(ends: dict[bytes, list[int]], kind: bytes, after: int) -> int | None:
    """Return the number of the next END line of a kind after a line, or None. Remove the earlier ones from ends."""
    numbers = ends.get(kind, [])
    while numbers and numbers[-1] <= after:
        numbers.pop()
    return numbers[-1] if numbers else None


def _marked(line: bytes, word: bytes) -> bytes | None:
    """Return the kind in a line "-----BEGIN KIND-----", which begins in its first column, or None for any other line."""
    start = b"-----" + word + b" "
    line = line.rstrip(b" \t\r")
    if len(line) > 200 or not line.startswith(start) or not line.endswith(b"-----"):
        return None
    kind = line[len(start) : -5]
    return kind if kind and b"-----" not in kind and b"\r" not in kind else None


def _decoded(text: bytes) -> bytes | None:
    try:
        return base64.b64decode(text.translate(None, b" \t\r"), validate=True)
    except binascii.Error:
        return None


def select(data: bytes, wanted: Callable[[str], bool], what: str, path: str | None, fix: str) -> list[Block]:
    """Return the blocks of a kind. Raise PkiError for none, for a damaged one, and where Go finds fewer than the file has.

    wanted: whether a kind such as "CERTIFICATE" is asked for. what: its name in messages. fix: the remedy in messages.
    """
    found = [block for block in blocks(data) if wanted(block.kind)]
    begun = [mark for mark in _BEGIN.findall(data) if wanted(mark.decode("ascii", "replace"))]
    if not found:
        raise PkiError(why_unreadable(data, what), path=path, fix=fix)
    if len(begun) > len(found):
        cause = _cause(data)
        raise PkiError(
            "is truncated: a %s in it has a beginning and no end" % what
            if cause == _NO_END
            else "holds a %s that Kubernetes passes over (%s)" % (what, cause),
            path=path,
            fix=fix,
        )
    for block in found:
        if block.der is None:
            raise PkiError("holds a damaged %s (not base64 between the PEM lines)" % what, path=path, fix=fix)
    return found


def why_unreadable(data: bytes, what: str) -> str:
    """Return, for a message, why Go finds no PEM block of `what` in a file's bytes."""
    if not data.strip():
        return "is empty, where a PEM %s is expected" % what
    if b"-----BEGIN" not in data:
        return "is not PEM, where a %s is expected" % what
    if _cause(data) == _NO_END:
        return "is truncated: %s" % _NO_END
    return (
        "holds no PEM %s that Kubernetes can read (%s)" % (what, _cause(data))
        if _cause(data) != _NONE
        else "holds no PEM %s" % what
    )


_NO_END, _NONE = "the PEM block has a beginning and no end", "there is no block of this kind"


def _cause(data: bytes) -> str:
    """Return what Go's encoding/pem does not accept in a file's form."""
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        return "the file begins with a byte order mark"
    if b"\r" in data and b"\n" not in data:
        return "its lines end with CR alone"
    for line in data.split(b"\n"):
        if b"-----BEGIN" in line and not line.startswith(b"-----BEGIN"):
            return "text before BEGIN on its line" if line.split(b"-----BEGIN", 1)[0].strip() else "an indented PEM block"
    return _NO_END if data.count(b"-----BEGIN") > data.count(b"-----END") else _NONE


def private_block(data: bytes, path: str | None) -> Block:
    """Return the first private key of a PEM file. Raise PkiError for none, a damaged one, and an encrypted one."""
    block = select(data, lambda kind: kind.endswith("PRIVATE KEY"), "private key", path, KEY_FIX)[0]
    if block.kind.startswith("ENCRYPTED") or (block.headers and b"ENCRYPTED" in block.text):
        raise PkiError(
            "the private key is encrypted, and Kubernetes cannot use an encrypted key",
            path=path,
            fix="Decrypt it with `openssl pkey -in FILE -out FILE.plain`, mode 0600, and put that in its place.",
        )
    return block
