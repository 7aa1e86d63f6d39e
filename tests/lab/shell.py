# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running commands on the host: output kept, failures turned into LabError, retries for what downloads."""

from __future__ import annotations

import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .errors import LabError


def tail(text: str, lines: int = 15) -> str:
    """The last ``lines`` non-empty lines of ``text``."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


def run(
    argv: Sequence[str | Path],
    *,
    node: str | None = None,
    what: str | None = None,
    fix: str | None = None,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
    log: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command and return it with its output (text).

    With ``log``, output goes to that file as it comes and the result's stdout is empty. Raises LabError when it
    exits non-zero (unless ``check`` is false), cannot be started, or takes longer than ``timeout`` seconds.
    """
    args = [str(a) for a in argv]
    shown = shlex.join(args)
    message = what or f"{Path(args[0]).name} failed"
    try:
        if log is not None:
            with log.open("ab") as out:
                done = subprocess.run(
                    args,
                    env=env,
                    cwd=cwd,
                    input=stdin.encode() if stdin is not None else None,
                    stdin=subprocess.DEVNULL if stdin is None else None,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    timeout=timeout,
                    check=False,
                )
            result = subprocess.CompletedProcess(args, done.returncode, "", "")
        else:
            result = subprocess.run(
                args,
                env=env,
                cwd=cwd,
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
    except FileNotFoundError as exc:
        raise LabError(message + ": no such command", node=node, command=shown, fix=fix) from exc
    except subprocess.TimeoutExpired as exc:
        seen = exc.stdout.decode(errors="replace") if isinstance(exc.stdout, bytes) else (exc.stdout or "")
        if log is not None:
            seen = log.read_text(errors="replace")
        raise LabError(f"{message}: no end after {timeout:.0f} s", node=node, command=shown, log=tail(seen), fix=fix) from exc
    if check and result.returncode != 0:
        seen = log.read_text(errors="replace") if log is not None else result.stdout + "\n" + result.stderr
        raise LabError(f"{message} (exit code {result.returncode})", node=node, command=shown, log=tail(seen), fix=fix)
    return result


def retry(action: Callable[[], None], *, tries: int, pause: float, on_failure: Callable[[int, LabError], None]) -> None:
    """Call ``action`` up to ``tries`` times, ``pause`` seconds apart (growing); the last LabError is raised."""
    for attempt in range(1, tries + 1):
        try:
            action()
            return
        except LabError as exc:
            if attempt == tries:
                raise
            on_failure(attempt, exc)
            time.sleep(pause * attempt)


def wait_for(
    probe: Callable[[], str | None],
    *,
    seconds: float,
    interval: float = 0.2,
    failure: Callable[[str], LabError],
) -> None:
    """Poll ``probe`` until it returns None; it returns what it still sees as missing otherwise.

    Raises ``failure(last seen)`` once ``seconds`` have passed.
    """
    deadline = time.monotonic() + seconds
    while True:
        seen = probe()
        if seen is None:
            return
        if time.monotonic() >= deadline:
            raise failure(seen)
        time.sleep(interval)


def parallel(jobs: Mapping[str, Callable[[], None]]) -> None:
    """Run the jobs at the same time, one thread each; raises the first error once all have ended."""
    errors: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=guarded, args=(job,), name=name, daemon=True) for name, job in jobs.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
