# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one error the lab raises on purpose: what broke, where, and what to do about it."""

from __future__ import annotations


class LabError(Exception):
    """Something a person has to know about.

    ``message`` says what is wrong; ``node`` names the machine (a node of the lab, or ``None`` for the host);
    ``command`` is what was run; ``log`` holds the last lines it printed; ``fix`` is the remedy.
    """

    def __init__(
        self,
        message: str,
        *,
        node: str | None = None,
        command: str | None = None,
        log: str | None = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.node = node
        self.command = command
        self.log = log
        self.fix = fix

    def __str__(self) -> str:
        lines = [f"{self.node}: {self.message}" if self.node else self.message]
        if self.command:
            shown = " ".join(self.command.split())
            lines.append(f"  command: {shown if len(shown) <= 400 else shown[:400] + ' ...'}")
        if self.log and self.log.strip():
            lines.append("  last lines:")
            lines.extend(f"    {line}" for line in self.log.strip().splitlines()[-15:])
        if self.fix:
            lines.append(f"  what to do: {self.fix}")
        return "\n".join(lines)
