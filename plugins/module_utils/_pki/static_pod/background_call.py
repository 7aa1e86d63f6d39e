# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a call in a thread and look at its progress without waiting."""

from __future__ import annotations

import threading
from typing import Any, Callable, Optional

from ..errors import PkiError


class BackgroundCall:
    """A call that runs in a thread. value: what it returned; error: the PkiError it raised, or None."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self.value: Any = None
        self.error: Optional[PkiError] = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.value = self._function()
        except PkiError as error:
            self.error = error
        except Exception as error:
            self.error = PkiError("could not be observed (%s)" % type(error).__name__)

    def wait(self, seconds: float) -> None:
        """Wait until the call has returned, for at most so many seconds."""
        self._thread.join(seconds)

    @property
    def is_done(self) -> bool:
        """Whether the call has returned."""
        return not self._thread.is_alive()
