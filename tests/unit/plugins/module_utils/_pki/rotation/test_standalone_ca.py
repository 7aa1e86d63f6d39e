# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CA that is no cluster's is renewed as what it is."""

from __future__ import annotations

import subprocess

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.rotation import standalone_ca
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, x509_read, x509_sign

from tests.unit.support import throwaway


@pytest.mark.parametrize("below_a_parent", [True, False])
def test_a_renewed_ca_keeps_its_whole_name(tmp_path, below_a_parent):
    root_key = throwaway.key("own-root")
    root = ca_sign.build_ca("Root", root_key, 1000)
    (tmp_path / "root.crt").write_bytes(root.pem)
    (tmp_path / "root.key").write_bytes(root_key.pem)
    signed = ["-CA", "root.crt", "-CAkey", "root.key"] if below_a_parent else []
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "20",
            "-keyout",
            "i.key",
            "-out",
            "i.crt",
            "-subj",
            "/C=DE/O=Org/OU=Platform/CN=inter",
            "-addext",
            "keyUsage=keyCertSign",
            *signed,
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    before = x509_read.parse_certificate((tmp_path / "i.crt").read_bytes())
    parent = [str(tmp_path / "root.crt"), str(tmp_path / "root.key")] if below_a_parent else []
    own = standalone_ca.StandaloneCa(str(tmp_path / "i.crt"), str(tmp_path / "i.key"), *parent)
    action, after, writes = own.ensure(None, [], 365, None, 90, False)
    assert action == "renewed" and list(writes) == [str(tmp_path / "i.crt")]
    assert after.subject == before.subject == "CN=inter,OU=Platform,O=Org,C=DE" and after.raw.subject == before.raw.subject
    assert after.signed_by(root if below_a_parent else after) and after.usages == ["key_cert_sign"]
    leaf = x509_sign.sign_leaf(x509_sign.Profile("leaf"), throwaway.key("leaf"), before, own.key, 5)
    assert leaf.signed_by(after)
