# SPDX-License-Identifier: GPL-2.0-only
"""A device in the hot-plug port, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ktests.channel import Channel
from ktests.pci import Device, Port


@contextmanager
def plugged(host: Channel, port: Port) -> Iterator[Device]:
    """Have the host plug a device in, and pull it in the end unless it is gone by then."""
    host.request("plug")
    try:
        yield port.wait()
    finally:
        if port.plugged is not None:
            # QEMU refuses it if it was asked before, and the kernel has not let go yet.
            with suppress(RuntimeError):
                host.request("unplug")
            port.wait_empty()
