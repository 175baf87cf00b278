# SPDX-License-Identifier: GPL-2.0-only
"""Allocations of the kernel that fail on demand.

Source: Documentation/fault-injection/fault-injection.rst; lib/fault-inject.c; mm/failslab.c. The
kernel needs CONFIG_FAILSLAB and CONFIG_FAULT_INJECTION_STACKTRACE_FILTER.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("/sys/kernel/debug/failslab")
NTH = Path("/proc/thread-self/fail-nth")
SYMBOLS = Path("/proc/kallsyms")

# The greatest depth at which the kernel looks for a function (MAX_STACK_TRACE_DEPTH).
DEPTH = 32


@dataclass
class Failure:
    """An allocation that was to fail; ``happened`` is False if there was no such allocation."""

    happened: bool = False


def text_range(function: str, symbols: Path = SYMBOLS) -> tuple[int, int]:
    """Return the addresses of the begin of the kernel's ``function`` and of the one behind it.

    LookupError if the kernel has no such function, or has several of this name.
    """
    code = []
    for line in symbols.read_text().splitlines():
        address, kind, name = line.split()[:3]
        if kind in "tTwW":
            code.append((int(address, 16), name))
    begins = {address for address, name in code if name == function}
    if len(begins) != 1:
        raise LookupError(f"{function}: {len(begins)} functions of the kernel have this name")
    [begin] = begins
    return begin, min(address for address, _ in code if address > begin)


def has(function: str, symbols: Path = SYMBOLS) -> bool:
    """Return whether the kernel has exactly one function of this name."""
    try:
        text_range(function, symbols)
    except LookupError:
        return False
    return True


@contextmanager
def within(function: str, *, folder: Path = FOLDER, symbols: Path = SYMBOLS) -> Iterator[None]:
    """Let only allocations fail that ``function`` of the kernel makes, or what it calls.

    Among them are those that may sleep, which the kernel leaves alone by default. Nothing fails
    yet. OSError if the kernel has no failslab; LookupError as `text_range`.
    """
    begin, end = text_range(function, symbols)
    settings = {
        "ignore-gfp-wait": "N",
        "stacktrace-depth": str(DEPTH),
        "require-start": hex(begin),
        "require-end": hex(end),
        # An allocation that fails on demand is no report of the kernel.
        "verbose": "0",
    }
    before = {name: (folder / name).read_text().strip() for name in settings}
    try:
        for name, value in settings.items():
            (folder / name).write_text(value)
        yield
    finally:
        for name, value in before.items():
            (folder / name).write_text(value)


@contextmanager
def nth(number: int, file: Path = NTH) -> Iterator[Failure]:
    """Make one allocation of this thread fail: the one with this ``number``, counted from 1.

    Only those count that `within` lets fail. OSError if the kernel has no fault injection.
    """
    failure = Failure()
    fd = os.open(file, os.O_RDWR)
    try:
        os.write(fd, str(number).encode())
        try:
            yield failure
        finally:
            failure.happened = int(os.pread(fd, 16, 0)) == 0
            os.pwrite(fd, b"0", 0)
    finally:
        os.close(fd)


@contextmanager
def every(folder: Path = FOLDER) -> Iterator[None]:
    """Make every allocation of any thread fail that `within` lets fail."""
    try:
        (folder / "times").write_text("-1")
        (folder / "probability").write_text("100")
        yield
    finally:
        (folder / "probability").write_text("0")
