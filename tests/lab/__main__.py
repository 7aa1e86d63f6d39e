# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python3 -m tests.lab``."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the one message that an older Python must be able to give
    sys.exit("the lab needs Python 3.11 or newer")

from .cli import main

sys.exit(main())
