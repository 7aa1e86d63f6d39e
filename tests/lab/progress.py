# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One line a step with the seconds since the start, so that a person sees the lab move."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO


class Progress:
    """Writes ``[  12.3s] text`` lines to a stream (standard error by default); safe to call from threads."""

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._start = time.monotonic()
        self._lock = threading.Lock()

    def seconds(self) -> float:
        """Seconds since this progress began."""
        return time.monotonic() - self._start

    def step(self, text: str) -> None:
        """Print one line."""
        if self._quiet:
            return
        with self._lock:
            # Looked up at each call: pytest swaps sys.stderr between tests.
            stream = self._stream or sys.stderr
            print(f"[{self.seconds():7.1f}s] {text}", file=stream, flush=True)

    @contextlib.contextmanager
    def during(self, text: str, every: float = 30.0) -> Iterator[None]:
        """Print a line before what may take minutes, and one more each `every` seconds while it lasts."""
        self.step(text)
        began, over = time.monotonic(), threading.Event()

        def tell() -> None:
            while not over.wait(every):
                self.step(f"still {text}, for {time.monotonic() - began:.0f} s")

        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        try:
            yield
        finally:
            over.set()
            teller.join()
