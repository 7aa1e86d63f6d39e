# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab: a real kubeadm cluster on one Debian machine, for tests and demonstrations. See docs/lab.md."""

from .errors import LabError
from .lab import Lab
from .progress import Progress
from .settings import Settings

__all__ = ["Lab", "LabError", "Progress", "Settings"]
