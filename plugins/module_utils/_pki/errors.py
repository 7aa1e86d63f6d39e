# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception the library raises on purpose, and how names and digests are shown to people."""

from __future__ import annotations


class PkiError(Exception):
    """Something a person has to know about, and can do something about.

    message: what is wrong, without a full stop at the end.
    path: the file (or host:port) it is wrong with, or None.
    fix: what to do about it, as a sentence, or None.
    refused: True where it may be the client certificate that a connection did not come about for, so that another may help.
    """

    refused = False

    def __init__(self, message, path=None, fix=None):
        super().__init__(message)
        self.message = message
        self.path = path
        self.fix = fix

    def __str__(self):
        text = "%s: %s" % (self.path, self.message) if self.path else self.message
        return "%s. %s" % (text, self.fix) if self.fix else text

    def as_result(self):
        """Give the fields a module returns beside `msg` when it fails: {"path", "reason", "fix"} (str or None)."""
        return {"path": self.path, "reason": self.message, "fix": self.fix}


def printable(text, longest=253):
    r"""Give text that a terminal only shows: control and formatting characters as \x1b, cut at `longest` characters."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in str(text))
    return shown if len(shown) <= longest else shown[:longest] + "..."


def short(digest):
    """Give the first 12 characters of a digest, for people."""
    return digest[:12] if digest else "none"


def together(errors: list[PkiError]) -> PkiError:
    """Give one PkiError for several; the first one's path and remedy stand for all."""
    if len(errors) == 1:
        return errors[0]
    return PkiError(
        "%s; also: %s" % (errors[0].message, "; also: ".join(str(error).rstrip(".") for error in errors[1:])),
        path=errors[0].path,
        fix=errors[0].fix,
    )
