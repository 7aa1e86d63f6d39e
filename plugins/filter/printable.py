# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Text of a node that is safe on a terminal."""

from __future__ import annotations

from typing import Any, Callable, Dict

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import errors

DOCUMENTATION = r"""
name: printable
short_description: Makes what a node said safe to display
version_added: 0.1.0
description:
  - Escapes control and formatting characters, so that a terminal shows them and does not obey them, and cuts long texts.
  - A list gives a list, item by item.
options:
  _input:
    description: A text, or a list of texts.
    type: raw
    required: true
author:
  - The kubepki.lifecycle authors (@kubepki)
"""

EXAMPLES = r"""
- name: Show what the nodes said
  ansible.builtin.debug:
    msg: "{{ looked.lines | kubepki.lifecycle.printable }}"
"""

RETURN = r"""
_value:
  description: The text, or the list of texts.
  type: raw
  sample: "evil\\x1b[2J"
"""

_LONGEST = 4000


def printable(value: Any) -> Any:
    """Return a text as errors.printable() does, or a list of such texts."""
    if isinstance(value, (list, tuple)):
        return [printable(item) for item in value]
    return errors.printable(str(value), _LONGEST)


class FilterModule:
    """The filter of this file, by its name."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """Return {name: function}."""
        return {"printable": printable}
