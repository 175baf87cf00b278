# SPDX-License-Identifier: GPL-2.0-only
"""A context manager that plugs a device into the hot-plug port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ktests.channel import Channel
from ktests.pci import PciDevice, Port


@contextmanager
def plugged(host: Channel, port: Port) -> Iterator[PciDevice]:
    """Have the host plug in a device, and yield the device.

    At the end of the block the host pulls the device, unless it is already gone.
    """
    host.request("plug")
    try:
        yield port.wait()
    finally:
        if port.plugged is not None:
            # QEMU refuses a second request while the kernel has not released the device yet.
            with suppress(RuntimeError):
                host.request("unplug")
            port.wait_empty()
