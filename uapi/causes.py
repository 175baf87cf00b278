# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The reasons why a device cannot be opened, and their remedies: the table `CAUSES`.

Source: drivers/vfio (group.c, device_cdev.c, container.c), and the files that they create.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

from . import pci
from .errors import OpenError

# The first digits of PCI class codes of bridges (include/linux/pci_ids.h, PCI_BASE_CLASS_BRIDGE).
_BRIDGE = "0x06"


@dataclass(frozen=True)
class Facts:
    """What sysfs tells about the device ``bdf``."""

    bdf: str
    there: bool
    driver: str
    group: str
    bridge: bool
    cdev: str
    """The name of the device's own file in /dev/vfio/devices, "" if the kernel has none."""

    @property
    def vfio(self) -> bool:
        """Whether the device is bound to a VFIO driver."""
        return pci.is_vfio(self.driver)


@dataclass(frozen=True)
class Cause:
    """One reason. ``text`` and ``hint`` are formats, whose names are those of `_words`."""

    holds: Callable[[Facts], bool]
    errno: int
    text: str
    hint: str


_BIND = (
    "modprobe vfio-pci; echo vfio-pci > {folder}/driver_override; "
    "{unbind}echo {bdf} > /sys/bus/pci/drivers_probe"
)
_IOMMU = "enable the IOMMU in the firmware's setup and on the kernel's command line"
_PASS = "if this is a container or a chroot, pass {} into it"

# The first one that holds is told.
CAUSES: tuple[Cause, ...] = (
    Cause(lambda on: not on.there, errno.ENODEV, "no such PCI device", "lspci -D lists them"),
    Cause(
        lambda on: on.bridge and not on.vfio,
        errno.ENODEV,
        "a bridge ({bound}), which vfio-pci does not take",
        "assign the devices behind it",
    ),
    Cause(
        lambda on: not on.vfio and not on.group,
        errno.ENODEV,
        "{bound}, and it has no IOMMU group, which vfio-pci needs",
        _IOMMU + "; then, as root: " + _BIND,
    ),
    Cause(
        lambda on: not on.vfio and bool(on.driver),
        errno.ENODEV,
        "{bound}",
        "if this host does not use the device (disk, network, display), as root: " + _BIND,
    ),
    Cause(lambda on: not on.vfio, errno.ENODEV, "{bound}", "as root: " + _BIND),
    Cause(
        lambda on: (pci.VFIO / f"noiommu-{on.group}").exists(),
        errno.ENOTSUP,
        "{bound} without an IOMMU ({vfio}/noiommu-{group}), so that its DMA is not confined",
        _IOMMU,
    ),
    Cause(
        lambda on: not pci.VFIO.exists(),
        errno.ENOENT,
        "{bound}, but there is no {vfio}",
        _PASS.format("{vfio}"),
    ),
    Cause(
        lambda on: bool(on.cdev) and not (pci.VFIO / "devices" / on.cdev).exists(),
        errno.ENOENT,
        "{bound}, but there is no {vfio}/devices/{cdev}",
        _PASS.format("the file") + "; else udev has not created it yet",
    ),
    Cause(
        lambda on: bool(on.cdev) and not pci.IOMMUFD.exists(),
        errno.ENOENT,
        "{bound}, but there is no {iommufd}",
        "modprobe iommufd; " + _PASS.format("the file"),
    ),
    Cause(
        lambda on: (
            bool(on.group) and (pci.VFIO / on.group).exists() and not (pci.VFIO / "vfio").exists()
        ),
        errno.ENOENT,
        "{bound}, but there is no {vfio}/vfio",
        "modprobe vfio; " + _PASS.format("the file"),
    ),
    Cause(
        lambda on: bool(on.group) and (pci.VFIO / "vfio").exists(),
        errno.ENOENT,
        "{bound}, but there is neither {vfio}/{group} nor a file for it in {vfio}/devices",
        _PASS.format("the file") + "; else boot a kernel with CONFIG_VFIO_GROUP",
    ),
    Cause(
        lambda on: True,
        errno.ENOTSUP,
        "{bound}, but there is neither a file for its group in {vfio} nor one for it in "
        "{vfio}/devices",
        "a kernel with CONFIG_VFIO_GROUP or CONFIG_VFIO_DEVICE_CDEV has one",
    ),
)


def facts(bdf: str) -> Facts:
    """Read what sysfs tells about the device ``bdf``."""
    folder = pci.DEVICES / bdf
    try:
        kind = (folder / "class").read_text()
    except OSError:
        kind = ""
    return Facts(
        bdf=bdf,
        there=folder.exists(),
        driver=pci.driver(bdf),
        group=pci.group(bdf),
        bridge=kind.startswith(_BRIDGE),
        cdev=pci.cdev_name(bdf),
    )


def _words(on: Facts) -> dict[str, object]:
    bound = f"bound to {on.driver}" if on.driver else "not bound to vfio-pci"
    folder = pci.DEVICES / on.bdf
    return {
        "bdf": on.bdf,
        "bound": bound if on.vfio or not on.driver else f"{bound}, not to vfio-pci",
        "group": on.group,
        "cdev": on.cdev,
        "vfio": pci.VFIO,
        "iommufd": pci.IOMMUFD,
        "folder": folder,
        "unbind": f"echo {on.bdf} > {folder}/driver/unbind; " if on.driver else "",
    }


def error(bdf: str) -> OpenError:
    """Return the error for a device that cannot be opened, of the first of `CAUSES` that holds."""
    on = facts(bdf)
    words = _words(on)
    cause = next(cause for cause in CAUSES if cause.holds(on))
    return OpenError(cause.errno, bdf, cause.text.format(**words), cause.hint.format(**words))
