# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The library. Its rooms come to a node in Ansible's archive, out of which zipimport compiles each module twice: for its file's
name, and to run it (CPython: zipimporter.get_filename). That is much of a short module's time, so they are found here.
"""

from __future__ import annotations

__metaclass__ = type

import gc
import sys
from importlib.machinery import ModuleSpec
from zipimport import zipimporter


class _Rooms:
    def __init__(self, loader):
        self.loader = loader

    def find_spec(self, name, path=None, target=None):
        if name.rpartition(".")[0] != __name__:
            return None
        spec = ModuleSpec(name, self.loader, origin="%s/%s.py" % (__path__[0], name.rpartition(".")[2]))
        spec.has_location = True  # __file__
        return spec


if isinstance(__spec__.loader, zipimporter):
    gc.freeze()  # what Ansible has loaded stays: it need not be looked through again and again
    sys.meta_path.insert(0, _Rooms(zipimporter(__path__[0])))
