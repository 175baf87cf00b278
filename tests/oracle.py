# SPDX-License-Identifier: GPL-2.0-only
"""Hold the console reader against the public crash logs of syzkaller.

    git clone --depth 1 https://github.com/google/syzkaller
    python -m tests.oracle syzkaller/pkg/report/testdata/linux/report [--titles]

Each of syzkaller's files is a log behind a few lines "KEY: value"; TITLE names the crash, a file
without one is clean. Only logs with time stamps are read, because the test kernels always have
them. Their text is not part of this project; nothing of it is copied.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kpatch import console

_KEY = re.compile(r"([A-Z_]+): ?(.*)")
_STAMP = re.compile(rb"\[ *\d+\.\d{6}\]")


@dataclass(frozen=True)
class Sample:
    """A file of syzkaller's: its name, the titles it accepts (none: a clean log), the log."""

    name: str
    titles: tuple[str, ...]
    log: bytes


def samples(folder: Path) -> Iterator[Sample]:
    """Read the logs with time stamps in a folder, in order of their numbers."""
    for path in sorted(folder.iterdir(), key=lambda path: (len(path.name), path.name)):
        head, _, rest = path.read_bytes().partition(b"\n\n")
        lines = head.decode(errors="replace").splitlines()
        keys = [_KEY.match(line) for line in lines if not line.startswith("#")]
        if not all(keys):
            keys, rest = [], path.read_bytes()
        titles = tuple(key[2] for key in keys if key and key[1] == "TITLE" and key[2])
        log = rest.partition(b"\nREPORT:\n")[0]
        if _STAMP.search(log):
            yield Sample(path.name, titles, log)


def main() -> None:
    """Print the logs in which nothing is found, false alarms, and the share of equal titles."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--titles", action="store_true", help="print the titles that differ")
    arguments = parser.parse_args()
    crashes = found = equal = 0
    for sample in samples(arguments.folder):
        faults = console.read(sample.log)
        if not sample.titles:
            for fault in faults:
                print(f"{sample.name}: false alarm: {fault.line}")
            continue
        crashes += 1
        found += bool(faults)
        if not faults:
            print(f"{sample.name}: not found: {sample.titles[0]}")
            continue
        first = next((fault for fault in faults if not fault.infra), faults[0])
        same = first.title == sample.titles[0]
        equal += same
        if arguments.titles and not same:
            print(f"{sample.name}: {sample.titles[0]}\n{'':{len(sample.name)}}  {first.title}")
    print(f"{found} of {crashes} found, {equal} first titles equal")


if __name__ == "__main__":
    main()
