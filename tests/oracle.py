# SPDX-License-Identifier: GPL-2.0-only
"""Compare the console reader's results with the public crash logs of syzkaller.

    git clone --depth 1 https://github.com/google/syzkaller
    python -m tests.oracle syzkaller/pkg/report/testdata/linux/report [--titles]

Each file of syzkaller has a few lines "KEY: value" and then a log. TITLE names the crash; a file
without TITLE is clean. Only logs with time stamps are read, because the test kernels always print
them. The logs are not part of this project; nothing is copied from them.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kpatch.run import console

_KEY = re.compile(r"([A-Z_]+): ?(.*)")
_STAMP = re.compile(rb"\[ *\d+\.\d{6}\]")


@dataclass(frozen=True)
class Sample:
    """A file of syzkaller: its name, the accepted titles (none for a clean log), the log."""

    name: str
    titles: tuple[str, ...]
    log: bytes


def samples(folder: Path) -> Iterator[Sample]:
    """Yield the logs with time stamps in a folder, in the order of their numbers."""
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


@dataclass(frozen=True)
class Answer:
    """The console reader's result for a sample: the ``title`` of the first fault, or "".

    ``clean``: the sample is a clean log, so a title is a false alarm.
    """

    name: str
    title: str
    expected: str
    clean: bool

    def __str__(self) -> str:
        if self.clean:
            return f"{self.name}: false alarm: {self.title}"
        if not self.title:
            return f"{self.name}: not found: {self.expected}"
        return f"{self.name}: {self.title}, not {self.expected}"


def answer(sample: Sample) -> Answer:
    """Read a sample's log. Reports of kind infra (faults may have been missed) do not count."""
    faults = [fault for fault in console.read(sample.log) if not fault.infra]
    return Answer(
        sample.name,
        faults[0].title if faults else "",
        sample.titles[0] if sample.titles else "",
        not sample.titles,
    )


def main() -> None:
    """Print the logs without a fault found, the false alarms, and the number of equal titles."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--titles", action="store_true", help="print the titles that differ")
    arguments = parser.parse_args()
    answers = [answer(sample) for sample in samples(arguments.folder)]
    crashes = [one for one in answers if not one.clean]
    found = [one for one in crashes if one.title]
    equal = [one for one in found if one.title == one.expected]
    for one in answers:
        wrong = bool(one.title) if one.clean else not one.title
        if wrong or (arguments.titles and not one.clean and one not in equal):
            print(one)
    print(
        f"{len(found)} of {len(crashes)} found, {len(equal)} of them with an equal title; "
        f"{len(answers) - len(crashes)} clean logs"
    )


if __name__ == "__main__":
    main()
