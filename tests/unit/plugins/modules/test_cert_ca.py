# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""cert_ca: options that a variable left empty."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.modules import cert_ca


@pytest.mark.parametrize(
    "empty, message",
    [
        ("path", "path is missing"),
        ("key_path", "key_path is missing"),
        ("parent_path", "parent_path and parent_key_path belong together"),
        ("parent_key_path", "parent_path and parent_key_path belong together"),
    ],
)
def test_an_empty_option_is_refused_before_anything_is_made(tmp_path, empty, message):
    options = {name: str(tmp_path / name) for name in ("path", "key_path", "parent_path", "parent_key_path", "state_dir")}
    options[empty] = ""
    with pytest.raises(PkiError, match=message):
        cert_ca.ensure(SimpleNamespace(params=options, check_mode=True, _diff=False))
    assert list(tmp_path.iterdir()) == []
