# SPDX-License-Identifier: GPL-2.0-only
"""A GPU: not only its user gets its notifications, but also the host's driver acpi_video."""

from __future__ import annotations

import pytest

from ktests.acpi import Firmware
from ktests.conftest import OpenVmm
from ktests.hotkeys import SWITCH_VIDEO_MODE, Hotkeys
from ktests.mechanism import Mechanism
from ktests.ordered_notify import one_by_one

# ACPI_VIDEO_NOTIFY_SWITCH: the user pressed the key that switches between displays.
SWITCH = 0x80


@pytest.mark.requirement("REQ-ISO-50")
def test_hotkey(mechanism: Mechanism, vmm: OpenVmm, firmware: Firmware) -> None:
    gpu, alpha = vmm("gpu"), vmm("alpha")
    with Hotkeys() as hotkeys:
        # No hotkey: one value is none of acpi_video's, the other one is another device's.
        one_by_one(firmware, gpu.device, [0xD1])
        one_by_one(firmware, alpha.device, [SWITCH])
        assert hotkeys.pressed() == []
        one_by_one(firmware, gpu.device, [SWITCH])
        assert hotkeys.pressed() == [SWITCH_VIDEO_MODE]
    assert gpu.values() == mechanism.seen([0xD1, SWITCH])
    assert alpha.values() == mechanism.seen([SWITCH])
