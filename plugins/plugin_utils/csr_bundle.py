# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bundle of requests for an authority elsewhere, a folder on the controller: written, signed by a command, taken back.

manifest.json            who asks for what: read from the requests themselves, not from what the nodes say about them
README.txt               the same for people, and what to do
ca/NAME.crt              the authorities that have to sign
requests/HOST/NAME.csr   what is to be signed
signed/HOST/NAME.crt     where the certificates go; or any signed/*.pem or *.crt with many of them, matched by their keys
installed/HOST/NAME.crt  what a node took; replaced/HOST/NAME.crt: what answered an older request
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from typing import Any, Collection, Dict, Iterator, List, Mapping, NamedTuple, Optional

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError, printable
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import atomic, reading
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import csr_dangers
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import x509_read

from . import answers

SCHEMA = 1

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

_LONGEST = 4 * 1024 * 1024

_MINORS = range(100)

_SHOWN = 12

# An entry of the manifest. Of what a file says about paths nothing is taken: they are made from host and name.
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

# A value that means one word to every shell, also to one that a command reaches over SSH.
_WORD = re.compile(r"[A-Za-z0-9@%+=:,./_][A-Za-z0-9@%+=:,./_-]*")

# A word of a command with one of these can only be a line for a shell.
_SHELL_LINE = re.compile(r"[\s;&|<>$`\"'()*?#~!\\]")

# What stands in a command for something. Names and usages come from the nodes, so a shell must not see them: they are in the
# environment only.
PLACEHOLDERS = ("request", "certificate", "name", "host", "ca", "days", "dir", "manifest")


class Groups(NamedTuple):
    """The hosts of the inventory that may request certificates, whatever hosts a run is limited to. No other host may."""

    control_plane: Collection[str]
    etcd: Collection[str]

    @classmethod
    def of(cls, groups: Optional[Mapping[str, Any]]) -> Groups:
        """Return those of Ansible's variable `groups`."""
        known = groups or {}
        return cls(*({str(host) for host in known.get(name) or ()} for name in ("kube_control_plane", "etcd")))

    def require_permitted(self, host: str, name: str, where: str) -> None:
        """Raise PkiError unless a host may request the leaf of this name (catalogue). where: for the message.

        A host of the group etcd alone may request what etcd's CA signs.
        """
        if host in self.control_plane or (host in self.etcd and catalogue.BY_NAME[name].ca == "etcd-ca"):
            return
        if host in self.etcd:
            wrong = "%s runs etcd alone, and %s is of the control plane" % (printable(host), name)
        else:
            wrong = "%s is in neither of the inventory's groups kube_control_plane and etcd" % printable(host)
        raise PkiError(wrong, path=where, fix="Find out what made this request and remove it. Nothing was signed.")


def require_expected(host: str, name: str, pem: str, groups: Groups) -> Any:
    """Return the x509.Request of a PEM text when it is what the named leaf of a host may ask for. Raise PkiError otherwise.

    host: the inventory's. name: of the catalogue (profiles). The subject has to be kubeadm's for that name, of any version: each
    of these names stands for a power. Where etcd's CA signs, tools other than kubeadm choose their own names, which etcd does not
    look at.
    """
    where = "the request of %s for %s" % (host, printable(name))
    entry = catalogue.BY_NAME[name]
    groups.require_permitted(host, name, where)
    request = csr_dangers.refuse_dangerous_request(pem, allowed=catalogue.subject_names(name), path=where)
    wrong = _unexpected(entry, request)
    if wrong:
        raise PkiError(
            "%s, which is not what kubeadm gives %s" % (wrong, name),
            path=where,
            fix="See who made it. Where it is meant to be so, sign it by hand, outside of this folder.",
        )
    return request


def _unexpected(entry, request):
    """Return what of a request does not fit the catalogue's entry (str), or None."""
    of_etcd = entry.ca == "etcd-ca"
    if not of_etcd and request.common_names != [entry.common_name]:
        return "the common name is %s" % printable(", ".join(request.common_names) or "empty")
    if sorted(request.organizations) not in [sorted(entry.organizations(minor)) for minor in _MINORS] + ([[]] if of_etcd else []):
        return "the organizations are %s" % printable(", ".join(request.organizations) or "none")
    if request.further_attributes:
        return "the subject has the further attributes %s" % ", ".join(request.further_attributes)
    usages = {"server", "client"} if of_etcd else set(entry.usages)
    if not request.extended_usages or set(request.extended_usages) - usages:
        return "the extended usages are %s" % printable(", ".join(request.extended_usages) or "none")
    odd = [san for san in request.sans if "server" not in request.extended_usages or san.partition(":")[0] not in ("DNS", "IP")]
    return "it has the name %s" % printable(odd[0]) if odd else None


def entries(asked, groups: Groups, longest=None):
    """Give the entries of a manifest for {host: [what cert_leaf returned in "requests"]}, in order.

    What an entry says of a request is read from it, here. longest: the most days that are asked for, whatever a node says, or
    None. Raises PkiError for a request that cannot be read, is not signed by its own key, or is for something that this leaf of
    this host may not have.
    """
    found, authorities = [], {}
    for host in asked:
        for one in asked[host]:
            name, ca = one["name"], one["ca"]
            if name not in catalogue.RENEWABLE or catalogue.BY_NAME[name].ca != ca:
                raise PkiError(
                    "is for something this collection does not know",
                    fix="See who made it.",
                    path="the request of %s for %s" % (host, printable(name)),
                )
            request = require_expected(host, name, one["request"], groups)
            authority = x509_read.parse_certificate(
                one["ca_certificate"].encode("ascii", "replace"), "the CA %s of %s" % (ca, host)
            )
            other = authorities.setdefault(ca, (host, authority))
            if other[1].sha256 != authority.sha256:
                raise PkiError(
                    "%s and %s have different certificates of the authority %s, so nothing was asked for" % (other[0], host, ca),
                    fix="Put the same file on both.",
                )
            found.append(
                {
                    "host": host,
                    "name": name,
                    "path": one["path"],
                    "ca": ca,
                    "ca_subject": authority.subject,
                    "ca_sha256": authority.sha256,
                    **_places(host, name),
                    "subject": request.subject,
                    "common_name": request.common_name,
                    "organizations": request.organizations,
                    "sans": request.sans,
                    "usages": request.extended_usages,
                    "key_type": request.key_type,
                    "key_sha256": request.key_sha256,
                    "days": one["days"] if longest is None else min(one["days"], longest),
                    "pem": request.pem.decode("ascii"),
                    "ca_pem": authority.pem.decode("ascii"),
                }
            )
    return found


def _places(host, name):
    """Return where the request and the certificate of a leaf are, below the folder: {"request", "certificate"}."""
    folder = _folder(host)
    return {"request": "requests/%s/%s.csr" % (folder, name), "certificate": "signed/%s/%s.crt" % (folder, name)}


def _folder(host):
    if _SAFE.fullmatch(host):
        return host
    return "%s-%s" % (re.sub(r"[^A-Za-z0-9_-]", "_", host)[:60], atomic.sha256(host.encode("utf-8"))[:8])


class Bundle:
    """The folder. directory: absolute. dry: nothing is written and nothing run, as in check mode.

    private: directories that it makes are 0700 and files 0600, otherwise 0755 and 0644.
    """

    def __init__(self, directory: str, groups: Groups, dry: bool = False, private: bool = False):
        self.directory, self.groups, self.dry = directory, groups, dry
        self._modes = (0o700, 0o600) if private else (0o755, 0o644)
        self.entries, self.asked = self._load(), []

    def at(self, relative):
        """Give the path of something in the bundle."""
        return os.path.join(self.directory, relative)

    def _load(self):
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
        # The folder is other people's, too: a path in it must not lead the run out of it.
        return [dict(entry, **_places(entry["host"], entry["name"])) for entry in found["requests"]]

    def write(self, asked, looked):
        """Make the bundle hold what is asked for now. Gives whether that changed anything.

        asked: the entries() of this run. looked: {host: names} that this run asked the nodes for; what else the bundle holds
        stays while its request is there. Raises PkiError, also when that is for a host that may not request it.
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
        return self._put("README.txt", readme(self.entries)) or changed

    @staticmethod
    def _public(entry):
        return {key: value for key, value in entry.items() if key not in ("pem", "ca_pem")}

    def _put(self, relative, text):
        path, data = self.at(relative), text.encode("utf-8")
        if reading.read_if_exists(path) == data:
            return False
        if not self.dry:
            atomic.make_directory(os.path.dirname(path), self._modes[0])
            atomic.write(path, data, mode=self._modes[1])
        return True

    def _remove(self, relative):
        return os.path.lexists(self.at(relative)) and (self.dry or atomic.remove(self.at(relative)))

    def _retire(self, entry):
        """What answered an older request must not stand in the way of the answer to this one."""
        path = self.at(entry["certificate"])
        data = reading.read_if_exists(path)
        if data is None or self.dry:
            return
        with contextlib.suppress(PkiError):
            if _of_key(x509_read.parse_certificates(data, path), entry["key_sha256"]):
                return
        self._move(entry["certificate"], "replaced/" + entry["certificate"].partition("/")[2])

    def _move(self, relative, to):
        atomic.make_directory(os.path.dirname(self.at(to)), 0o755)
        try:
            atomic.rename(self.at(relative), self.at(to))
        except OSError as error:
            raise reading.explain(error, self.at(relative)) from error

    def store(self, host, name, pem):
        """Put a certificate where it belongs. pem: str."""
        entry = next((entry for entry in self.asked if (entry["host"], entry["name"]) == (host, name)), None)
        if entry is None:
            raise PkiError(
                "a certificate came for %s on %s, which has not asked for one" % (printable(name), printable(host)),
                path=self.directory,
                fix="See what signed it. Nothing was changed.",
            )
        self._put(entry["certificate"], pem.strip() + "\n")

    # --- what came back ----------------------------------------------------------------------------------------------------

    def collect(self):
        """Give {(host, name): certificate PEM (str)} of what is there. Raises one PkiError for all that is wrong."""
        pool = None
        found, wrong = {}, []
        for entry in self.asked:
            path = self.at(entry["certificate"])
            try:
                data = _read(path)
                if data is None:
                    pool = self._pool() if pool is None else pool
                    certificate = pool.get(entry["key_sha256"])
                else:
                    certificate = _of_key(x509_read.parse_certificates(data, path), entry["key_sha256"])
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
                fix="Have these requests signed again, as they are, or take the files away.",
            )
        return found

    def _pool(self):
        folder, found = self.at("signed"), {}
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
            for certificate in x509_read.parse_certificates(_read(path), path):
                other = found.get(certificate.key_sha256)
                # Of two for one key, the one that was made last.
                if other is None or certificate.not_before > other.not_before:
                    found[certificate.key_sha256] = certificate
        return found

    def unsigned(self):
        """Give the entries of this run that have no certificate yet."""
        there = self.collect()
        return [entry for entry in self.asked if (entry["host"], entry["name"]) not in there]

    def by_host(self):
        """Give ({host: {name: PEM}}, [host]): whose certificates are all there, and who waits for all of them.

        Raises PkiError that lists what is missing where only some of a host's are there.
        """
        there, complete, waiting, missing = self.collect(), {}, [], []
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

    def close(self, installed):
        """Take what nodes have installed out of the bundle. installed: {host: names}. Gives whether there was anything."""
        done = [entry for entry in self.entries if entry["name"] in installed.get(entry["host"], ())]
        if not done or self.dry:
            return bool(done)
        for entry in done:
            self._remove(entry["request"])
            if os.path.exists(self.at(entry["certificate"])):
                self._move(entry["certificate"], "installed/" + entry["certificate"].partition("/")[2])
        self.entries = [entry for entry in self.entries if entry not in done]
        self._put("manifest.json", json.dumps({"schema": SCHEMA, "requests": self.entries}, indent=1) + "\n")
        self._put("README.txt", readme(self.entries))
        return True

    # --- signing by a command ----------------------------------------------------------------------------------------------

    def require_only_requested(self) -> None:
        """Raise PkiError that names the file unless the requests in the folder are exactly those of this run, byte for byte.

        Other users may write to the folder, and no entry of its manifest proves that a node made the request.
        """
        known = {self.at(entry["request"]): entry for entry in self.asked}
        for path in self._files("requests"):
            if path not in known:
                raise PkiError(
                    "no node requested this in this run, so nothing was handed over to be signed",
                    path=path,
                    fix="If an earlier run wrote it, run again for all hosts and names (without --limit and kubepki_names), or "
                    "remove it. Otherwise find out what put it there, and remove it.",
                )
        for path, entry in known.items():
            if not self.dry and reading.read_if_exists(path) != entry["pem"].encode("ascii"):
                raise PkiError(
                    "was changed after this run wrote what %s requested, so nothing was handed over to be signed" % entry["host"],
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

    def sign(self, command, seconds):
        """Have what is unsigned signed by a command of the user's, on this machine, without a shell.

        command: with {request} in it, it is run for each request and prints the certificate, or writes it to {certificate};
        without, it is run once and puts what it signs into {dir}/signed. seconds: how long each run may take. All paths that it
        gets are of a private copy. What was signed before a run failed stays in the bundle. Raises PkiError.
        """
        words = _words(command)
        unsigned = self.unsigned()
        if not unsigned:
            return
        self.require_only_requested()
        if self.dry:
            return
        with self._copy_of(unsigned) as copy:
            if any("{request}" in word for word in words):
                for entry in unsigned:
                    self._sign_one(words, entry, seconds, copy)
            else:
                self._sign_all(words, seconds, copy)

    @contextlib.contextmanager
    def _copy_of(self, requested: List[Dict[str, Any]]) -> Iterator[Bundle]:
        """Yield a Bundle with these entries in a directory of this user alone (0700), which is removed afterwards.

        Its files come from what the nodes said, not from the folder, where another user may replace them at any time.
        """
        private = tempfile.mkdtemp(prefix="kubepki-")
        try:
            copy = Bundle(private, self.groups, private=True)
            copy.write(requested, {})
            for entry in requested:
                atomic.make_directory(os.path.dirname(copy.at(entry["certificate"])), 0o700)
            yield copy
        finally:
            shutil.rmtree(private, ignore_errors=True)

    def _sign_all(self, words: List[str], seconds: float, copy: Bundle) -> None:
        values = {"dir": copy.directory, "manifest": copy.at("manifest.json")}
        try:
            self._run(words, values, {}, seconds, "the bundle")
        except PkiError:
            with contextlib.suppress(PkiError):
                self._take_back(words, copy)
            raise
        self._take_back(words, copy)

    def _take_back(self, words: List[str], copy: Bundle) -> None:
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
            self.store(host, name, pem)

    def _sign_one(self, words: List[str], entry: Dict[str, Any], seconds: float, copy: Bundle) -> None:
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
        printed = self._run(words, values, named, seconds, what)
        data = _read(target) if any("{certificate}" in word for word in words) else printed
        if data is None:
            raise PkiError(
                "the command made no certificate for %s" % what,
                path=words[0],
                fix="It has to write it to {certificate}, or print it.",
            )
        made = _of_key(x509_read.parse_certificates(data, "what %s made for %s" % (words[0], what)), entry["key_sha256"])
        if made is None:
            raise PkiError(
                "the certificate that the command made for %s is for another key" % what,
                path=words[0],
                fix="It has to sign the request in {request} as it is.",
            )
        self.store(entry["host"], entry["name"], made.pem.decode("ascii"))

    @staticmethod
    def _run(words, values, named, seconds, what):
        filled = [_filled(word, values) for word in words]
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
                "the command for %s did not end within %g seconds" % (what, seconds),
                path=words[0],
                fix="See what it waits for, or set kubepki_external_ca_seconds higher. What it signed before is kept.",
            ) from None
        if process.returncode:
            raise PkiError(
                "the command for %s ended with %d: %s"
                % (what, process.returncode, _last(said) or _last(printed) or "it said nothing"),
                path=words[0],
                fix="Correct it, and run again: what was signed before is kept.",
            )
        return printed


def _words(command):
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


def _filled(word, values):
    """Return a word of the command with its placeholders filled in. Raise PkiError where a shell would read a value otherwise.

    The host's name comes from the inventory, and a command may hand it to a shell that is not seen here (ssh does). A path is
    the user's own: in a word of its own any will do.
    """

    def value_of(match):
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


def _last(data):
    lines = [line for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
    return printable(lines[-1], 300) if lines else ""


def _of_key(found, key_sha256):
    return next((certificate for certificate in found if certificate.key_sha256 == key_sha256), None)


def _read(path):
    if os.path.exists(path) and os.path.getsize(path) > _LONGEST:
        raise PkiError("is larger than any certificate", path=path, fix="Take it away.")
    return reading.read_if_exists(path)


def _some(texts):
    more = " and %d more" % (len(texts) - _SHOWN) if len(texts) > _SHOWN else ""
    return "; ".join(texts[:_SHOWN]) + more


def readme(found):
    """Give README.txt: what is asked for, and what to do."""
    if not found:
        return "Nothing waits to be signed.\n"
    lines = ["%d certificate requests wait to be signed. manifest.json says the same for programs." % len(found), ""]
    for entry in found:
        lines += [
            "%s" % entry["request"],
            "    certificate to  %s" % entry["certificate"],
            "    for             %s on %s (%s)" % (entry["name"], entry["host"], entry["path"]),
            "    authority       ca/%s.crt: %s, SHA-256 %s" % (entry["ca"], entry["ca_subject"], entry["ca_sha256"]),
            "    subject         %s" % entry["subject"],
            "    names           %s" % (", ".join(entry["sans"]) or "none"),
            "    usages          %s" % ", ".join(entry["usages"]),
            "    key, days       %s, %g" % (entry["key_type"], entry["days"]),
            "",
        ]
    first = found[0]
    lines += [
        "Sign each as it is: subject, names and usages have to be exactly these. With openssl 3, for one of them:",
        "",
        "    openssl x509 -req -in %s -out %s \\" % (first["request"], first["certificate"]),
        "        -CA ca/%s.crt -CAkey ... -days %d -copy_extensions copyall" % (first["ca"], max(1, round(first["days"]))),
        "",
        "Or put any number of certificates into one file signed/*.pem: they are told apart by their keys.",
        "Then run the same playbook again. Nothing in this folder is secret.",
        "",
    ]
    return "".join("%s\n" % printable(line, 4000) for line in lines)
