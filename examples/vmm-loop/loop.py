# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""A VMM's loop for the ACPI notifications of a passed-through device, as a task of asyncio.

    python loop.py FD

FD is the device's VFIO descriptor, which a VMM has and this program inherits. A real loop hands
each value to the guest; this one prints it. It ends when the device is closed. In a clone of the
project the package is called uapi; `pip install` installs it as vfio_acpi.
"""

from __future__ import annotations

import asyncio
import sys

from uapi.errors import Error
from uapi.vfio import Device


async def relay(descriptor: int) -> None:
    """Relay the notifications of the device ``descriptor`` until it is closed."""
    device = Device.from_fd(descriptor, f"device {descriptor}")
    with device.notifications("eventq") as notifications:
        # The queue does without this descriptor; a kept one would pin the device.
        device.close()
        print("ready", flush=True)
        async for notification in notifications:
            if notification.lost:
                print("lost", notification.lost, flush=True)
            if notification.relayable:
                print(f"notify {notification.value:#x}", flush=True)
    print("closed", flush=True)


def main() -> int:
    """Run the task beside others, as the devices of a VMM do, and return the exit code."""
    if len(sys.argv) != 2:
        print("usage: loop.py FD", file=sys.stderr)
        return 2
    try:
        asyncio.run(relay(int(sys.argv[1])))
    except Error as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
