# SPDX-License-Identifier: GPL-2.0-only
"""The size of a series: lines, exported symbols, and entry points that user space can reach."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kpatch.compare import reachable
from kpatch.model import Applied

# Lines that make the kernel's own code; selftests and documents are counted apart.
_DIFF = re.compile(r"^diff --git a/(\S+)", re.MULTILINE)
_BESIDE = ("tools/", "Documentation/")

_EXPORT = re.compile(r"\bEXPORT_SYMBOL\w*\s*\(\s*\"?(\w+)")

# What user space can call: a member of struct file_operations, a feature or interrupt index of
# VFIO that a switch handles, a command or multicast group of generic netlink.
_ENTRIES = {
    "file operation": re.compile(
        r"^\s*\.(read|read_iter|write|write_iter|poll|unlocked_ioctl|mmap|release|show_fdinfo)\s*="
    ),
    "VFIO feature": re.compile(r"^\s*case (VFIO_DEVICE_FEATURE_\w+):"),
    "VFIO interrupt index": re.compile(r"^\s*case (VFIO_PCI_\w+_IRQ_INDEX):"),
    "netlink command": re.compile(r"^\s*\.cmd\s*=\s*(\w+)"),
    "netlink group": re.compile(r"^\s*\[?\w*\]?\s*=?\s*\{\s*\.name\s*=\s*(\w+)"),
}


@dataclass(frozen=True)
class Size:
    """The size of a series for one kernel version.

    ``added`` and ``removed`` are lines of the kernel's code, ``beside`` those added to documents
    and selftests. ``exports`` are the symbols that it exports, ``entries`` the entry points for
    user space that it adds, as "VFIO feature: NAME". ``functions`` is the number of functions that
    it adds, ``reachable`` are those that user space can reach (`kpatch.compare.reachable`).
    """

    kernel: str
    series: str
    mechanism: str
    title: str
    patches: int
    added: int
    removed: int
    beside: int
    exports: tuple[str, ...]
    entries: tuple[str, ...]
    functions: int
    reachable: tuple[str, ...]


def size(applied: Applied) -> Size:
    """Return the size of the series ``applied``."""
    lines = [line for patch in applied.patches for line in _lines(patch.diff.decode("latin-1"))]
    code = [line for path, line in lines if not path.startswith(_BESIDE)]
    added = [line[1:] for line in code if line.startswith("+")]
    functions = reachable.functions(applied)
    return Size(
        kernel=applied.tree.version,
        series=applied.series.name,
        mechanism=applied.series.mechanism,
        title=applied.series.title,
        patches=len(applied.patches),
        added=len(added),
        removed=sum(line.startswith("-") for line in code),
        beside=sum(line.startswith("+") for path, line in lines if path.startswith(_BESIDE)),
        # A symbol has a row for each config that it is built with.
        exports=tuple(dict.fromkeys(name for line in added for name in _EXPORT.findall(line))),
        entries=tuple(dict.fromkeys(entry for line in added for entry in _entries(line))),
        functions=len(functions.added),
        reachable=functions.reachable,
    )


def _entries(line: str) -> Iterator[str]:
    for kind, pattern in _ENTRIES.items():
        found = pattern.match(line)
        if found:
            yield f"{kind}: {found[1]}"


def _lines(diff: str) -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each line in the hunks of ``diff``."""
    path, in_hunk = "", False
    for line in diff.splitlines():
        header = _DIFF.match(line)
        if header:
            path, in_hunk = header[1], False
        elif line.startswith("@@"):
            in_hunk = True
        elif in_hunk:
            yield path, line
