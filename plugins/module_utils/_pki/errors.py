# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception that the library raises on purpose, and how messages show foreign text and digests."""

from __future__ import annotations

from typing import Sequence


class PkiError(Exception):
    """An error that the operator can act on.

    message: what is wrong, without a full stop. path: the file (or host:port) with the fault, or None. fix: what to do, as a
    sentence, or None.
    refused: a server may have rejected the client certificate, so that a connection with another one may succeed.
    """

    refused = False

    def __init__(self, message: str, path: str | None = None, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.fix = fix

    def __str__(self) -> str:
        text = "%s: %s" % (self.path, self.message) if self.path else self.message
        return "%s. %s" % (text, self.fix) if self.fix else text

    def as_result(self) -> dict[str, str | None]:
        """Return the fields that a failed module returns beside `msg`: {"path", "reason", "fix"}."""
        return {"path": self.path, "reason": self.message, "fix": self.fix}


def printable(text: object, longest: int = 253) -> str:
    r"""Return text that is safe on a terminal: control and formatting characters as \x1b, cut at `longest` characters."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in str(text))
    return shown if len(shown) <= longest else shown[:longest] + "..."


def short(digest: str | None) -> str:
    """Return the first 12 characters of a digest for a message, or "none"."""
    return digest[:12] if digest else "none"


def combine_errors(errors: Sequence[PkiError]) -> PkiError:
    """Return one PkiError with the messages of several. Its path and fix are those of the first."""
    if len(errors) == 1:
        return errors[0]
    return PkiError(
        "%s; also: %s" % (errors[0].message, "; also: ".join(str(error).rstrip(".") for error in errors[1:])),
        path=errors[0].path,
        fix=errors[0].fix,
    )
