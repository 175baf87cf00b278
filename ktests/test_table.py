# SPDX-License-Identifier: GPL-2.0-only
"""A table of the firmware is unloaded while its device is registered for notifications."""

from __future__ import annotations

import errno

import pytest

from ktests.acpi import Firmware
from ktests.conftest import OpenLateTable
from ktests.debugger import DebuggerError
from ktests.mechanism import Mechanism
from uapi import probe
from uapi.errors import UapiError


@pytest.mark.requirement("REQ-LIF-54")
def test_unloaded(
    mechanism: Mechanism, late_table: OpenLateTable, firmware: Firmware, family: probe.Family
) -> None:
    with late_table() as table:
        device = table.device
        device.bind()
        with mechanism.vmm(device, firmware, family) as owner:
            firmware.notify_path(device.path, 0x81)
            firmware.flush_handlers()
            firmware.notify_path(device.path, 0x82)
            table.unload()
            with pytest.raises(DebuggerError):
                firmware.notify_path(device.path, 0x83)
            # Those of before are not lost with the table.
            assert owner.values() == mechanism.seen([0x81, 0x82])
            assert owner.values() == []
        device.unbind()
        device.bind()
        if mechanism.refusal is not None:
            with pytest.raises(UapiError) as refused:
                mechanism.vmm(device, firmware, family).close()
            # The kernel still links device and companion, but ACPI accepts no handler for it.
            assert refused.value.errno == errno.ENODEV
    # Another table with the same names: the device, found anew, is notified as before.
    with late_table() as table:
        device = table.device
        device.bind()
        with mechanism.vmm(device, firmware, family) as owner:
            firmware.notify_path(device.path, 0x84)
            assert owner.values() == mechanism.seen([0x84])
