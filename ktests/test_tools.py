# SPDX-License-Identifier: GPL-2.0-only
"""Test the library's programs, ``python -m uapi``, on devices of the test machine."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ktests.acpi import Firmware, Unrelated
from ktests.conftest import Measure
from ktests.mechanism import Mechanism
from ktests.pci import PciDevice
from uapi import checks, conformance, vfio

Bind = Callable[[str], PciDevice]

# Programs start slowly under emulation, from a file system without a cache.
START_SECONDS = 40.0
LINE_SECONDS = 10.0


class Program:
    """A running ``python -m uapi``. Its output can be read line by line."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._rest = b""

    def line(self, seconds: float = LINE_SECONDS) -> str:
        """Return the next line of the output without its line feed.

        AssertionError if no line comes within ``seconds``, or if the program ends before.
        """
        assert self._process.stdout is not None
        end = time.monotonic() + seconds
        while b"\n" not in self._rest:
            left = max(0.0, end - time.monotonic())
            ready, _, _ = select.select([self._process.stdout], [], [], left)
            assert ready, f"no line after {seconds:g} s, but {self._rest!r}"
            more = os.read(self._process.stdout.fileno(), 4096)
            assert more, f"it ended with {self._process.wait(LINE_SECONDS)}: {self._rest!r}"
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def events(self, count: int) -> Iterator[dict[str, Any]]:
        """Read ``count`` lines of the output, decode each as a JSON object and yield it."""
        for _ in range(count):
            yield json.loads(self.line())

    def wait(self) -> int:
        """Wait until the program ends and return its exit code.

        TimeoutExpired if it does not end within `LINE_SECONDS`.
        """
        return self._process.wait(LINE_SECONDS)

    def end(self) -> int:
        """Send SIGTERM to the program, then do the same as `wait`."""
        self._process.terminate()
        return self.wait()


@contextmanager
def uapi(*arguments: str) -> Iterator[Program]:
    """Start ``python -m uapi`` with ``arguments`` and yield it; kill it at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-s", "-m", "uapi", *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield Program(process)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.requirement("REQ-INT-60")
def test_listen(
    mechanism: Mechanism, bind: Bind, firmware: Firmware, unrelated: dict[str, Unrelated]
) -> None:
    alpha, beta = bind("alpha"), bind("beta")
    with uapi("listen", "--json", *mechanism.listen([alpha, beta])) as program:
        assert program.line(START_SECONDS).startswith("listening")
        for device, value in ((alpha, 0x81), (beta, 0xD2)):
            firmware.notify(device.method, value)
            firmware.flush_handlers()
        # On every kernel `listen --netlink` prints these events. So on an unpatched kernel the test
        # fails at the comparison, and does not wait for lines that never come.
        firmware.notify(unrelated["ac"].method, 0x80, count=2)
        got = [(line.get("device"), line.get("value")) for line in program.events(2)]
        assert got == [(alpha.bdf, 0x81), (beta.bdf, 0xD2)]
        assert program.end() == 0


@pytest.mark.requirement("REQ-INT-05")
def test_conformance(bind: Bind, measure: Measure) -> None:
    device = bind("alpha")
    for open_method in vfio.open_methods(device.bdf):
        done = conformance.run(device.bdf, open_method)
        failed = [check for check in done if check.outcome != conformance.PASS]
        assert not failed
        assert len(done) == sum(item.companion is not False for item in checks.ALL)
        measure(f"checks passed through {open_method}", len(done))
    # The program refuses a device that another process has open, whose eventfd stays armed.
    with vfio.Device.open(device.bdf) as owner, owner.notifications() as stream:
        with uapi("conformance", "--device", device.bdf) as program:
            assert program.line(START_SECONDS).startswith("error: ")
            assert program.wait() == 2
        owner.loopback()
        got = stream.read(LINE_SECONDS)
        assert got is not None
        assert got.loopback


@pytest.mark.requirement("REQ-ERR-07")
def test_conformance_without_companion(bind: Bind) -> None:
    done = conformance.run(bind("bare").bdf)
    assert not [check for check in done if check.outcome != conformance.PASS]
    assert "REQ-ERR-07" in {check.requirement for check in done}
