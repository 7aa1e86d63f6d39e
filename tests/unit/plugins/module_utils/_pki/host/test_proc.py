# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of reading /proc."""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.host import processes


def test_one_file_reads_what_proc_says_of_other_processes_and_none_executes_it():
    library = Path(processes.__file__).parent
    for path in [*library.rglob("*.py"), *(library.parents[1] / "modules").rglob("*.py")]:
        text = path.read_text()
        if path.name != "proc.py":
            assert '"/proc' not in text.replace('"/proc/self/', ""), "%s reads /proc: proc.py does" % path
        assert not re.search(r"\.(run|Popen|execv\w*|system)\([^)]*(/exe\b|/proc)", text), path
