# SPDX-License-Identifier: GPL-2.0-only
"""Test the netlink mechanism with an existing client of acpi_event: Debian's acpid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ktests import acpid
from ktests.acpi import Firmware, Unrelated
from ktests.conftest import Measure
from ktests.pci import PciDevice

Bind = Callable[[str], PciDevice]


class Reports:
    """The lines that acpi_listen prints for events. ``lines`` is its output.

    ``mark`` is a function that causes an event of the AC adapter. The line of this event starts
    with ``fence``.
    """

    def __init__(self, lines: acpid.Lines, fence: str, mark: Callable[[], None]) -> None:
        self._lines = lines
        self._fence = fence
        self._mark = mark

    def received(self) -> list[str]:
        """Return all lines since the last call.

        An event of the AC adapter, which every kernel reports, marks the end of the lines. Its own
        line is left out. ClientError if it is not printed in time.
        """
        self._mark()
        *lines, _ = self._lines.until(lambda line: line.startswith(self._fence))
        return lines


@pytest.fixture
def reports(
    tmp_path: Path, unrelated: dict[str, Unrelated], firmware: Firmware
) -> Iterator[Reports]:
    """Run acpid and acpi_listen until the end of the test, and yield the `Reports` of the latter.

    Skips the test if the suite's image does not contain acpid.
    """
    if reason := acpid.missing():
        pytest.skip(reason)
    adapter = unrelated["ac"]

    def mark() -> None:
        firmware.flush_handlers()
        firmware.notify(adapter.method, 0x90)

    with ExitStack() as stack:
        lines = stack.enter_context(acpid.listening(tmp_path))
        yield Reports(lines, f"ac_adapter {adapter.folder.name} 00000090", mark)


@pytest.mark.requirement("REQ-INT-11")
@pytest.mark.parametrize("value", [0x80, 0x81, 0xFF], ids=hex)
def test_line(bind: Bind, firmware: Firmware, reports: Reports, value: int) -> None:
    device = bind("alpha")
    firmware.notify(device.method, value)
    assert reports.received() == [f"vfio_pci {device.bdf} {value:08x} 00000000"]


@pytest.mark.requirement("REQ-INT-11")
def test_each(bind: Bind, firmware: Firmware, reports: Reports, measure: Measure) -> None:
    devices = [bind(name) for name in ("alpha", "beta")]
    lines: list[str] = []
    # acpid's netlink socket has the default buffer, with room for about 80 events. So the lines are
    # read after every 32 events.
    for first in range(0x80, 0xC0, 16):
        for device in devices:
            firmware.notify(device.method, first, step=1, count=16)
        lines += reports.received()
    measure("lines of 128 notifications", len(lines))
    expected = [
        f"vfio_pci {device.bdf} {value:08x} 00000000"
        for device in devices
        for value in range(0x80, 0xC0)
    ]
    assert Counter(lines) == Counter(expected)
