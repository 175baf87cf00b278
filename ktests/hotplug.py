# SPDX-License-Identifier: GPL-2.0-only
"""Plug a device into the hot-plug port of the test machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ktests.channel import Channel
from ktests.pci import PciDevice, Port


@contextmanager
def plugged(host: Channel, port: Port) -> Iterator[PciDevice]:
    """Have the host plug a device into ``port``, and yield the device.

    At the end of the block the host pulls the device, unless it is already gone. RuntimeError if
    the host cannot plug it; TimeoutError if the kernel does not find or remove it (`Port`).
    """
    host.request("plug")
    try:
        yield port.wait()
    finally:
        if port.plugged is not None:
            # QEMU refuses the request if the block has already made one, and the kernel has not
            # released the device yet.
            with suppress(RuntimeError):
                host.request("unplug")
            port.wait_empty()
