# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The README.txt of a bundle of requests for an external CA."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import printable


def readme(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of README.txt: the requests, and how to sign them. found: entries of the manifest."""
    if not found:
        return "Nothing waits to be signed.\n"
    lines = ["%d certificate requests wait to be signed. manifest.json says the same for programs." % len(found), ""]
    for entry in found:
        lines += [
            "%s" % entry["request"],
            "    certificate to  %s" % entry["certificate"],
            "    for             %s on %s (%s)" % (entry["name"], entry["host"], entry["path"]),
            "    CA              ca/%s.crt: %s, SHA-256 %s" % (entry["ca"], entry["ca_subject"], entry["ca_sha256"]),
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
        "Or put any number of certificates into one file signed/*.pem: they are matched by their keys.",
        "Then run the same playbook again. Nothing in this folder is secret.",
        "",
    ]
    return "".join("%s\n" % printable(line, 4000) for line in lines)
