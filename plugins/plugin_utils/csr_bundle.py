# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bundle of requests for an external CA, a folder on the controller: written, signed by a command, read back.

manifest.json            who requests what: read from the requests themselves, not from what the nodes say about them
README.txt               the same as text, and what to do
ca/NAME.crt              the certificates of the CAs that have to sign
requests/HOST/NAME.csr   what is to be signed
signed/HOST/NAME.crt     where the certificates go; or any signed/*.pem or *.crt with many of them, matched by their keys
installed/HOST/NAME.crt  what a node installed; replaced/HOST/NAME.crt: certificates for an earlier request
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Collection, Dict, Iterable, List, Mapping, Optional, Tuple

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError, printable
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import atomic, reading
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import x509_read

from . import answers, csr_readme, csr_requests

SCHEMA = 1

Entry = Dict[str, Any]  # of the manifest (_ENTRY); one of this run has the texts "pem" and "ca_pem" besides

_LONGEST = 4 * 1024 * 1024  # bytes of a file

_SHOWN = 12  # errors in one message

# The form of an entry of the manifest. The paths of files are derived from host and name, never read from the manifest.
_ENTRY = {
    "host": str,
    "name": set(catalogue.RENEWABLE),
    "path": str,
    "ca": set(catalogue.CA_NAMES),
    "ca_subject": str,
    "ca_sha256": str,
    "request": str,
    "certificate": str,
    "subject": str,
    "sans": [str],
    "usages": [str],
    "key_type": str,
    "key_sha256": str,
    "days": float,
}

_MANIFEST = {"schema": int, "requests": [_ENTRY]}


class Bundle:
    """The folder. directory: its absolute path. dry: write nothing, as in check mode. asked: the entries of this run.

    private: directories get mode 0700 and files 0600, otherwise 0755 and 0644.
    """

    def __init__(self, directory: str, groups: csr_requests.Groups, dry: bool = False, private: bool = False) -> None:
        self.directory, self.groups, self.dry = directory, groups, dry
        self._modes = (0o700, 0o600) if private else (0o755, 0o644)
        self.entries: List[Entry] = self._load()
        self.asked: List[Entry] = []

    def at(self, relative: str) -> str:
        """Return the absolute path of a file or directory of the bundle."""
        return os.path.join(self.directory, relative)

    def _load(self) -> List[Entry]:
        data = reading.read_if_exists(self.at("manifest.json"))
        if data is None:
            return []
        try:
            found = json.loads(data.decode("utf-8"))
            known = answers.fault(found, _MANIFEST) is None and found["schema"] == SCHEMA
        except (ValueError, RecursionError):
            known = False
        if not known:
            raise PkiError(
                "is no manifest of this version",
                path=self.at("manifest.json"),
                fix="Move the folder away; the nodes still have their requests, and the next run writes them again.",
            )
        # Other users may write to the folder: no path of the manifest is used, so that none leads out of the folder.
        return [dict(entry, **csr_requests.places(entry["host"], entry["name"])) for entry in found["requests"]]

    def write(self, asked: List[Entry], looked: Mapping[str, Collection[str]]) -> bool:
        """Make the bundle hold what is requested now. Return whether that changed anything.

        asked: the entries of this run (csr_requests.read_requests). looked: {host: names} that this run asked the nodes for.
        Other entries stay as long as their request exists. Raise PkiError, also for an entry of a host that may not request it.
        """
        now = {(entry["host"], entry["name"]) for entry in asked}
        gone = [
            entry
            for entry in self.entries
            if entry["name"] in looked.get(entry["host"], ()) and (entry["host"], entry["name"]) not in now
        ]
        kept = [
            entry
            for entry in self.entries
            if entry["name"] not in looked.get(entry["host"], ())
            and (entry["host"], entry["name"]) not in now
            and os.path.lexists(self.at(entry["request"]))
        ]
        for entry in kept:
            self.groups.require_permitted(entry["host"], entry["name"], self.at(entry["request"]))
        self.asked = asked
        self.entries = sorted([self._public(entry) for entry in asked] + kept, key=lambda entry: (entry["host"], entry["name"]))
        if not self.entries and not gone and not os.path.exists(self.at("manifest.json")):
            return False
        changed = False
        for entry in asked:
            if reading.read_if_exists(self.at(entry["request"])) != entry["pem"].encode("ascii"):
                self._retire(entry)
            changed = self._put(entry["request"], entry["pem"]) or changed
            changed = self._put("ca/%s.crt" % entry["ca"], entry["ca_pem"]) or changed
        for entry in gone:
            changed = self._remove(entry["request"]) or changed
        changed = self._put("manifest.json", json.dumps({"schema": SCHEMA, "requests": self.entries}, indent=1) + "\n") or changed
        return self._put("README.txt", csr_readme.readme(self.entries)) or changed

    @staticmethod
    def _public(entry: Entry) -> Entry:
        return {key: value for key, value in entry.items() if key not in ("pem", "ca_pem")}

    def _put(self, relative: str, text: str) -> bool:
        path, data = self.at(relative), text.encode("utf-8")
        if reading.read_if_exists(path) == data:
            return False
        if not self.dry:
            atomic.make_directory(os.path.dirname(path), self._modes[0])
            atomic.write(path, data, mode=self._modes[1])
        return True

    def _remove(self, relative: str) -> bool:
        return os.path.lexists(self.at(relative)) and (self.dry or atomic.remove(self.at(relative)))

    def _retire(self, entry: Entry) -> None:
        """Move the certificate for an earlier request away, so that the one for this request can take its place."""
        path = self.at(entry["certificate"])
        data = reading.read_if_exists(path)
        if data is None or self.dry:
            return
        with contextlib.suppress(PkiError):
            if find_certificate(x509_read.parse_certificates(data, path), entry["key_sha256"]):
                return
        self._move(entry["certificate"], "replaced/" + entry["certificate"].partition("/")[2])

    def _move(self, relative: str, to: str) -> None:
        atomic.make_directory(os.path.dirname(self.at(to)), 0o755)
        try:
            atomic.rename(self.at(relative), self.at(to))
        except OSError as error:
            raise reading.explain(error, self.at(relative)) from error

    def store(self, host: str, name: str, pem: str) -> None:
        """Write the certificate of a request of this run to its place. Raise PkiError where there is no such request."""
        entry = next((entry for entry in self.asked if (entry["host"], entry["name"]) == (host, name)), None)
        if entry is None:
            raise PkiError(
                "there is a certificate for %s on %s, which has not requested one" % (printable(name), printable(host)),
                path=self.directory,
                fix="Find out what signed it. Nothing was changed.",
            )
        self._put(entry["certificate"], pem.strip() + "\n")

    # --- certificates -------------------------------------------------------------------------------------------------------

    def collect(self) -> Dict[Tuple[str, str], str]:
        """Return {(host, name): PEM} of the certificates in the folder. Raise one PkiError for all that is wrong."""
        pool: Optional[Dict[str, Any]] = None
        found: Dict[Tuple[str, str], str] = {}
        wrong: List[str] = []
        for entry in self.asked:
            path = self.at(entry["certificate"])
            try:
                data = read_file(path)
                if data is None:
                    pool = self._pool() if pool is None else pool
                    certificate = pool.get(entry["key_sha256"])
                else:
                    certificate = find_certificate(x509_read.parse_certificates(data, path), entry["key_sha256"])
                    if certificate is None:
                        raise PkiError("is for another key than that of the request %s" % entry["request"], path=path)
            except PkiError as error:
                wrong.append("%s: %s" % (error.path, error.message))
                continue
            if certificate is not None:
                found[entry["host"], entry["name"]] = certificate.pem.decode("ascii")
        if wrong:
            raise PkiError(
                "%s. Nothing was changed" % _some(wrong),
                path=self.directory,
                fix="Have these requests signed again, as they are, or remove the files.",
            )
        return found

    def _pool(self) -> Dict[str, Any]:
        """Return {SHA-256 of the public key: certificate} of all files directly in signed/."""
        folder = self.at("signed")
        found: Dict[str, Any] = {}
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            return found
        except OSError as error:
            raise reading.explain(error, folder) from error
        for name in names:
            path = os.path.join(folder, name)
            if name.startswith(".") or not name.endswith((".pem", ".crt", ".cer")) or not os.path.isfile(path):
                continue
            for certificate in x509_read.parse_certificates(read_file(path) or b"", path):
                other = found.get(certificate.key_sha256)
                # Of two for one key, the newer one.
                if other is None or certificate.not_before > other.not_before:
                    found[certificate.key_sha256] = certificate
        return found

    def unsigned(self) -> List[Entry]:
        """Return the entries of this run that have no certificate yet."""
        there = self.collect()
        return [entry for entry in self.asked if (entry["host"], entry["name"]) not in there]

    def by_host(self) -> Tuple[Dict[str, Dict[str, str]], List[str]]:
        """Return ({host: {name: PEM}} of the hosts whose certificates are all there, [hosts that have none yet]).

        Raise PkiError that lists what is missing where only some certificates of a host are there.
        """
        there = self.collect()
        complete: Dict[str, Dict[str, str]] = {}
        waiting: List[str] = []
        missing: List[str] = []
        for host in sorted({entry["host"] for entry in self.asked}):
            own = [entry for entry in self.asked if entry["host"] == host]
            have = {entry["name"]: there[host, entry["name"]] for entry in own if (host, entry["name"]) in there}
            if len(have) == len(own):
                complete[host] = have
            elif not have:
                waiting.append(host)
            else:
                missing += [self.at(entry["certificate"]) for entry in own if entry["name"] not in have]
        if missing:
            raise PkiError(
                "some certificates are there, and these are not: %s. Those of a node are installed together, so "
                "nothing was changed" % ", ".join(missing),
                path=self.directory,
                fix="Have the rest signed, then run again.",
            )
        return complete, waiting

    def close(self, installed: Mapping[str, Collection[str]]) -> bool:
        """Move what nodes have installed out of the way. installed: {host: names}. Return whether there was anything."""
        done = [entry for entry in self.entries if entry["name"] in installed.get(entry["host"], ())]
        if not done or self.dry:
            return bool(done)
        for entry in done:
            self._remove(entry["request"])
            if os.path.exists(self.at(entry["certificate"])):
                self._move(entry["certificate"], "installed/" + entry["certificate"].partition("/")[2])
        self.entries = [entry for entry in self.entries if entry not in done]
        self._put("manifest.json", json.dumps({"schema": SCHEMA, "requests": self.entries}, indent=1) + "\n")
        self._put("README.txt", csr_readme.readme(self.entries))
        return True

    def require_only_requested(self) -> None:
        """Raise PkiError that names the file unless the requests in the folder are exactly those of this run, byte for byte.

        Other users may write to the folder, and no entry of its manifest proves that a node made the request.
        """
        known = {self.at(entry["request"]): entry for entry in self.asked}
        for path in self._files("requests"):
            if path not in known:
                raise PkiError(
                    "no node requested this in this run, so nothing was passed on to be signed",
                    path=path,
                    fix="If an earlier run wrote it, run again for all hosts and names (without --limit and kubepki_names), or "
                    "remove it. Otherwise find out what put it there, and remove it.",
                )
        for path, entry in known.items():
            if not self.dry and reading.read_if_exists(path) != entry["pem"].encode("ascii"):
                raise PkiError(
                    "was changed after this run wrote the request of %s, so nothing was passed on to be signed" % entry["host"],
                    path=path,
                    fix="Find out what writes to this folder, and run again.",
                )

    def _files(self, relative: str) -> List[str]:
        """Return the paths of everything below a directory of the folder that is no directory itself, sorted."""

        def fail(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise reading.explain(error, error.filename) from error

        found = []
        for place, directories, files in os.walk(self.at(relative), onerror=fail):
            links = [name for name in directories if os.path.islink(os.path.join(place, name))]
            found += [os.path.join(place, name) for name in files + links]
        return sorted(found)


def find_certificate(found: Iterable[Any], key_sha256: str) -> Any:
    """Return the certificate for a key, or None."""
    return next((certificate for certificate in found if certificate.key_sha256 == key_sha256), None)


def read_file(path: str) -> Optional[bytes]:
    """Return the bytes of a file, or None where there is none. Raise PkiError for one that is too large."""
    if os.path.exists(path) and os.path.getsize(path) > _LONGEST:
        raise PkiError("is larger than any certificate", path=path, fix="Remove it.")
    return reading.read_if_exists(path)


def _some(texts: List[str]) -> str:
    more = " and %d more" % (len(texts) - _SHOWN) if len(texts) > _SHOWN else ""
    return "; ".join(texts[:_SHOWN]) + more
