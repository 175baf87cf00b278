# SPDX-License-Identifier: GPL-2.0-only
"""The examples of a VMM's loop (examples/vmm-loop), each with a device of the test machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ktests.acpi import Firmware
from ktests.conftest import Bind, Measure
from ktests.ordered_notify import one_by_one
from ktests.program import START_SECONDS, started
from uapi import vfio

FOLDER = Path("/mnt/suite/loops")

# Values that are for the guest, and one that ACPICA cuts to 3, an eject request.
SENT = [0xD1, 0x80, 0x10003, 0xD5, 0x181, 0xFFFF]
RELAYED = [0xD1, 0x80, 0xD5, 0x181, 0xFFFF]


@pytest.mark.requirement("REQ-VMM-09")
@pytest.mark.limit(180)
def test_loops(bind: Bind, firmware: Firmware, measure: Measure) -> None:
    """The one in Rust is there if the host has rustc."""
    alpha = bind("alpha")
    commands: dict[str, list[str | Path]] = {
        "Python": [sys.executable, "-S", "-s", FOLDER / "loop.py"],
        "C": [FOLDER / "loop-c"],
    }
    if (FOLDER / "loop-rs").exists():
        commands["Rust"] = [FOLDER / "loop-rs"]
    for language, command in commands.items():
        with (
            vfio.Device.open(alpha.bdf) as device,
            started(*command, str(device.fileno()), pass_fds=[device.fileno()]) as program,
        ):
            assert program.line(START_SECONDS) == "ready", language
            device.notify_loopback(0xD2)
            one_by_one(firmware, alpha, SENT)
            got = [program.line() for _ in RELAYED]
            assert got == [f"notify {value:#x}" for value in RELAYED], language
    measure("languages", ", ".join(commands))
