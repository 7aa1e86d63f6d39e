# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run mounted_trust on its node. (A redirect in meta/runtime.yml would mix up module_defaults.)"""

from __future__ import annotations

from ansible_collections.kubepki.lifecycle.plugins.plugin_utils.node_module import ActionModule

__all__ = ("ActionModule",)
