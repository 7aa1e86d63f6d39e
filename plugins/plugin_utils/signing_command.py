# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's command that signs requests (kubepki_external_ca_command): its placeholders, and how it is run without a shell."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from typing import Iterator, List, Mapping, Match

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError, printable
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import atomic
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import x509_read

from . import csr_bundle

# A value that every shell reads as one word, also a shell that a command starts over SSH.
_WORD = re.compile(r"[A-Za-z0-9@%+=:,./_][A-Za-z0-9@%+=:,./_-]*")

# A word of a command with one of these characters can only be a command line for a shell.
_SHELL_LINE = re.compile(r"[\s;&|<>$`\"'()*?#~!\\]")

# Placeholders of a command. Names and usages come from the nodes, so a shell must not read them: only the environment has them.
PLACEHOLDERS = ("request", "certificate", "name", "host", "ca", "days", "dir", "manifest")


def sign(bundle: csr_bundle.Bundle, command: str, seconds: float) -> None:
    """Have the unsigned requests of a bundle signed by the user's command, on this machine, without a shell.

    command: with {request} in it, it is run for each request and prints the certificate, or writes it to {certificate};
    without, it is run once and writes the certificates to {dir}/signed. seconds: how long each run may take. All paths that it
    gets are of a private copy. What was signed before a run failed stays in the bundle. Raise PkiError.
    """
    words = split_command(command)
    unsigned = bundle.unsigned()
    if not unsigned:
        return
    bundle.require_only_requested()
    if bundle.dry:
        return
    with _private_copy(bundle, unsigned) as copy:
        if any("{request}" in word for word in words):
            for entry in unsigned:
                _sign_one(bundle, words, entry, seconds, copy)
        else:
            _sign_all(bundle, words, seconds, copy)


@contextlib.contextmanager
def _private_copy(bundle: csr_bundle.Bundle, requested: List[csr_bundle.Entry]) -> Iterator[csr_bundle.Bundle]:
    """Yield a Bundle with these entries in a directory of this user alone (0700), which is removed afterwards.

    Its files are written from the nodes' results, not copied from the folder, where another user may replace them at any time.
    """
    private = tempfile.mkdtemp(prefix="kubepki-")
    try:
        copy = csr_bundle.Bundle(private, bundle.groups, private=True)
        copy.write(requested, {})
        for entry in requested:
            atomic.make_directory(os.path.dirname(copy.at(entry["certificate"])), 0o700)
        yield copy
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _sign_all(bundle: csr_bundle.Bundle, words: List[str], seconds: float, copy: csr_bundle.Bundle) -> None:
    values = {"dir": copy.directory, "manifest": copy.at("manifest.json")}
    try:
        run(words, values, {}, seconds, "the bundle")
    except PkiError:
        with contextlib.suppress(PkiError):
            _take_back(bundle, words, copy)
        raise
    _take_back(bundle, words, copy)


def _take_back(bundle: csr_bundle.Bundle, words: List[str], copy: csr_bundle.Bundle) -> None:
    """Store the certificates of a copy that are for the keys of its requests. Raise PkiError when one is for another key."""
    try:
        made = copy.collect()
    except PkiError as error:
        raise PkiError(
            "what the command signed cannot be used: %s" % error.message,
            path=words[0],
            fix="It has to sign the requests in {dir}/requests as they are.",
        ) from error
    for (host, name), pem in made.items():
        bundle.store(host, name, pem)


def _sign_one(
    bundle: csr_bundle.Bundle, words: List[str], entry: csr_bundle.Entry, seconds: float, copy: csr_bundle.Bundle
) -> None:
    target = copy.at(entry["certificate"])
    what = "%s of %s" % (entry["name"], entry["host"])
    values = {
        "request": copy.at(entry["request"]),
        "certificate": target,
        "name": entry["name"],
        "host": entry["host"],
        "ca": entry["ca"],
        "days": "%d" % max(1, round(entry["days"])),
        "dir": copy.directory,
        "manifest": copy.at("manifest.json"),
    }
    named = {
        "subject": entry["subject"],
        "sans": ",".join(entry["sans"]),
        "usages": ",".join(entry["usages"]),
        "ca_certificate": copy.at("ca/%s.crt" % entry["ca"]),
    }
    printed = run(words, values, named, seconds, what)
    data = csr_bundle.read_file(target) if any("{certificate}" in word for word in words) else printed
    if data is None:
        raise PkiError(
            "the command made no certificate for %s" % what,
            path=words[0],
            fix="It has to write it to {certificate}, or print it.",
        )
    certificates = x509_read.parse_certificates(data, "what %s made for %s" % (words[0], what))
    made = csr_bundle.find_certificate(certificates, entry["key_sha256"])
    if made is None:
        raise PkiError(
            "the certificate that the command made for %s is for another key" % what,
            path=words[0],
            fix="It has to sign the request in {request} as it is.",
        )
    bundle.store(entry["host"], entry["name"], made.pem.decode("ascii"))


def run(words: List[str], values: Mapping[str, str], named: Mapping[str, str], seconds: float, what: str) -> bytes:
    """Run a command with its placeholders filled in, and return what it printed. Raise PkiError where it fails or takes too long.

    words: as split_command() returns them. values: of the placeholders, which are in the environment as KUBEPKI_NAME, too. named:
    further values for the environment. what: for messages.
    """
    filled = [_fill_in(word, values) for word in words]
    environment = dict(os.environ, **{"KUBEPKI_" + key.upper(): value for key, value in dict(values, **named).items()})
    try:
        process = subprocess.Popen(
            filled,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:  # ValueError: a NUL in a word or in the environment
        raise PkiError(
            "cannot be run (%s)" % (getattr(error, "strerror", None) or error),
            path=words[0],
            fix="Correct kubepki_external_ca_command.",
        ) from None
    try:
        printed, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise PkiError(
            "the command for %s did not finish within %g seconds" % (what, seconds),
            path=words[0],
            fix="Find out what it waits for, or set kubepki_external_ca_seconds higher. What it signed before is kept.",
        ) from None
    if process.returncode:
        raise PkiError(
            "the command for %s exited with %d: %s"
            % (what, process.returncode, _last_line(said) or _last_line(printed) or "it printed nothing"),
            path=words[0],
            fix="Correct it, and run again: what was signed before is kept.",
        )
    return printed


def split_command(command: str) -> List[str]:
    """Return the words of a command. Raise PkiError for open quotes and unknown placeholders."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise PkiError(
            "cannot be split into words (%s)" % error, path="kubepki_external_ca_command", fix="Close its quotes."
        ) from None
    unknown = sorted({name for word in words for name in re.findall(r"\{(\w+)\}", word)} - set(PLACEHOLDERS))
    if not words or unknown:
        raise PkiError(
            "has the unknown placeholder {%s}" % unknown[0] if unknown else "is empty",
            path="kubepki_external_ca_command",
            fix="Choose among %s." % ", ".join("{%s}" % name for name in PLACEHOLDERS),
        )
    return words


def _fill_in(word: str, values: Mapping[str, str]) -> str:
    """Return a word of the command with its placeholders filled in. Raise PkiError where a shell would read a value otherwise.

    The host's name comes from the inventory, and a command may pass it to a shell of its own (ssh does). A path is the user's
    choice: as a word of its own it may hold anything.
    """

    def value_of(match: Match[str]) -> str:
        name = match.group(1)
        if name not in values:
            return match.group(0)
        if not _WORD.fullmatch(values[name]) and (name in ("host", "name") or _SHELL_LINE.search(word)):
            raise PkiError(
                "{%s} would be %s, which a shell does not read as one word" % (name, printable(repr(values[name]))),
                path="kubepki_external_ca_command",
                fix='Write "$KUBEPKI_%s" in the line for the shell instead of {%s}.' % (name.upper(), name),
            )
        return values[name]

    return re.sub(r"\{(\w+)\}", value_of, word)


def _last_line(data: bytes) -> str:
    lines = [line for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
    return printable(lines[-1], 300) if lines else ""
