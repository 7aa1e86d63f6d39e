# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sum up the JUnit files of the test tiers in one closing line: `python tools/tally.py FOLDER EXIT-CODE`.

The exit code of what was run counts too: a checker or a tier that left no file, and a run in which no test ran, have failed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree


def tally(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return for each tier (the file's name): passed, failed and skipped tests."""
    tiers = {}
    for path in sorted(folder.glob("*.xml")):
        total = failed = skipped = 0
        for suite in ElementTree.parse(path).getroot().iter("testsuite"):
            total += int(suite.get("tests", 0))
            failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            skipped += int(suite.get("skipped", 0))
        tiers[path.stem] = (total - failed - skipped, failed, skipped)
    return tiers


def main(arguments: list[str]) -> int:
    folder, code = Path(arguments[0]), int(arguments[1])
    tiers = tally(folder)
    for name, (passed, failed, skipped) in tiers.items():
        print(f"{name + ':':14}{passed} passed, {failed} failed, {skipped} skipped")
    passed, failed, skipped = (sum(counts) for counts in zip(*tiers.values())) if tiers else (0, 0, 0)
    if code != 0 and failed == 0:
        print(f"a check failed (make ended with {code}): see the lines above")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if code != 0 or failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
