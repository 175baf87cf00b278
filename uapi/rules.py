# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Find the reason why an ioctl failed, from its errno and its arguments.

EINVAL alone has a dozen different causes. The kernel checks the arguments in a fixed order, which
is the order of the table `RULES`. So the first rule that the arguments break is the reason.

Source: drivers/vfio/vfio_main.c, group.c, device_cdev.c, pci/vfio_pci_core.c, pci/vfio_pci_intrs.c
of Linux 6.1 to 7.3; pci/vfio_pci_acpi.c of the eventfd and the eventq series,
pci/vfio_pci_acpi_eventfd.c of the former, pci/vfio_pci_acpi_eventq.c of the latter.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import mirror

DATA_NONE: int = mirror.VFIO_IRQ_SET_DATA_NONE
DATA_BOOL: int = mirror.VFIO_IRQ_SET_DATA_BOOL
DATA_EVENTFD: int = mirror.VFIO_IRQ_SET_DATA_EVENTFD
DATA_MASK: int = mirror.VFIO_IRQ_SET_DATA_TYPE_MASK
ACTION_MASK: int = mirror.VFIO_IRQ_SET_ACTION_TYPE_MASK
GET: int = mirror.VFIO_DEVICE_FEATURE_GET
SET: int = mirror.VFIO_DEVICE_FEATURE_SET
PROBE: int = mirror.VFIO_DEVICE_FEATURE_PROBE
FEATURE_MASK: int = mirror.VFIO_DEVICE_FEATURE_MASK
ERR: int = mirror.VFIO_PCI_ERR_IRQ_INDEX
ACPI: int = mirror.VFIO_PCI_ACPI_IRQ_INDEX
ACPI_NOTIFY: int = mirror.VFIO_DEVICE_FEATURE_ACPI_NOTIFY

# The size of the data per interrupt for each DATA flag, in bytes.
ITEM = {DATA_NONE: 0, DATA_BOOL: 1, DATA_EVENTFD: 4}
U32_MAX = 0xFFFF_FFFF

# The facts about a failed call, by name: the arguments of the ioctl, and data of the device such as
# "num_irqs" and "available" (the number of interrupts of the index), as far as they are known.
Facts = Mapping[str, Any]


def _always(facts: Facts) -> bool:
    return True


@dataclass(frozen=True)
class Rule:
    """A rule for the arguments of ``ioctl``.

    A call that failed with ``errno`` broke the rule if ``when`` returns True for the facts. A rule
    is skipped if ``when`` needs a fact that is unknown. ``text`` says how the rule was broken; it
    is a format string whose fields are facts.
    """

    ioctl: str
    errno: int
    text: str
    when: Callable[[Facts], bool] = _always


def broken(ioctl: str, number: int, facts: Facts) -> str:
    """Return the text of the first rule for ``ioctl`` and the errno ``number`` that was broken.

    ``facts`` are the `Facts` about the call. Returns "" if they break no rule.
    """
    known = _derived(facts)
    for rule in RULES:
        if (rule.ioctl, rule.errno) == (ioctl, number) and _applies(rule, known):
            return rule.text.format_map(known)
    return ""


def _applies(rule: Rule, facts: Facts) -> bool:
    try:
        return rule.when(facts)
    except KeyError:
        return False


def _derived(facts: Facts) -> dict[str, Any]:
    """Return the facts, and further ones that are computed from them.

    For instance "fd", the descriptor in the data, and "item", the size of the data per interrupt.
    """
    known = dict(facts)
    flags = known.get("flags", 0)
    known["feature"] = flags & FEATURE_MASK
    known["depth_max"] = mirror.VFIO_ACPI_NOTIFY_DEPTH_MAX
    known["unknown"] = flags & ~(DATA_MASK | ACTION_MASK)
    known["unknown_feature"] = flags & ~(FEATURE_MASK | GET | SET | PROBE)
    if (data := flags & DATA_MASK) in ITEM:
        known["item"] = ITEM[data]
    if data == DATA_EVENTFD and len(known.get("data", b"")) >= ITEM[DATA_EVENTFD]:
        known["fd"] = int.from_bytes(known["data"][:4], sys.byteorder, signed=True)
    return known


def _is_eventfd(fd: int) -> bool:
    try:
        return Path(f"/proc/self/fd/{fd}").readlink().name == "anon_inode:[eventfd]"
    except OSError:
        return False


RULES: tuple[Rule, ...] = (
    # ---- VFIO_DEVICE_GET_INFO ----
    Rule(
        "VFIO_DEVICE_GET_INFO",
        errno.EINVAL,
        "argsz {argsz} is below 16",
        lambda f: f["argsz"] < 16,
    ),
    # ---- VFIO_DEVICE_GET_IRQ_INFO ----
    Rule(
        "VFIO_DEVICE_GET_IRQ_INFO",
        errno.EINVAL,
        "argsz {argsz} is below 16",
        lambda f: f["argsz"] < 16,
    ),
    Rule(
        "VFIO_DEVICE_GET_IRQ_INFO",
        errno.EINVAL,
        "index {index} is not below num_irqs {num_irqs}",
        lambda f: f["index"] >= f["num_irqs"],
    ),
    Rule(
        "VFIO_DEVICE_GET_IRQ_INFO",
        errno.EINVAL,
        "only a PCI Express device has index {index} (ERR) in this kernel",
        lambda f: f["index"] == ERR,
    ),
    # ---- VFIO_DEVICE_SET_IRQS: vfio_set_irqs_validate_and_prepare(), in its order ----
    Rule(
        "VFIO_DEVICE_SET_IRQS",
        errno.EINVAL,
        "argsz {argsz} is below 20",
        lambda f: f["argsz"] < 20,
    ),
    Rule(
        "VFIO_DEVICE_SET_IRQS",
        errno.EINVAL,
        "index {index} is not below num_irqs {num_irqs}",
        lambda f: f["index"] >= f["num_irqs"],
    ),
    Rule(
        "VFIO_DEVICE_SET_IRQS",
        errno.EINVAL,
        "start {start} plus count {count} is more than 32 bits hold",
        lambda f: f["count"] >= U32_MAX - f["start"],
    ),
    Rule(
        "VFIO_DEVICE_SET_IRQS",
        errno.EINVAL,
        "flags {flags:#x} have the unknown bits {unknown:#x}",
        lambda f: f["unknown"] != 0,
    ),
    Rule(
        "VFIO_DEVICE_SET_IRQS",
        errno.EINVAL,
        "the device has no ACPI companion",
        lambda f: f["index"] == ACPI and f["available"] == 0,
    ),
    Rule(
        "VFIO_DEVICE_SET_IRQS",
        errno.EINVAL,
        "start {start} is not below the {available} interrupts of index {index}",
        lambda f: f["start"] >= f["available"],
    ),
    Rule(
        "VFIO_DEVICE_SET_IRQS",
        errno.EINVAL,
        "start {start} plus count {count} is above the {available} interrupts of index {index}",
        lambda f: f["start"] + f["count"] > f["available"],
    ),
    Rule(
        "VFIO_DEVICE_SET_IRQS",
        errno.EINVAL,
        "flags {flags:#x} have none of the DATA bits, or several",
        lambda f: f["flags"] & DATA_MASK not in ITEM,
    ),
    Rule(
        "VFIO_DEVICE_SET_IRQS",
        errno.EINVAL,
        "argsz {argsz} has no room for {count} items of {item} bytes behind the first 20",
        lambda f: f["argsz"] - 20 < f["count"] * f["item"],
    ),
    # ---- the action ----
    Rule(
        "VFIO_DEVICE_SET_IRQS",
        errno.ENOTTY,
        "flags {flags:#x} have none of the ACTION bits, or several",
        lambda f: (f["flags"] & ACTION_MASK).bit_count() != 1,
    ),
    Rule(
        "VFIO_DEVICE_SET_IRQS",
        errno.ENOTTY,
        "index {index} does not have the action of flags {flags:#x}",
    ),
    # ---- the index (not INTX, MSI and MSIX, which have other rules) ----
    Rule(
        "VFIO_DEVICE_SET_IRQS",
        errno.EINVAL,
        "count 0 goes with DATA_NONE only",
        lambda f: f["index"] >= ERR and f["item"] > 0 and f["count"] == 0,
    ),
    Rule(
        "VFIO_DEVICE_SET_IRQS",
        errno.EINVAL,
        "no eventfd is set for index {index}",
        lambda f: f["index"] >= ERR and f["item"] == 0,
    ),
    Rule(
        "VFIO_DEVICE_SET_IRQS",
        errno.EINVAL,
        "descriptor {fd} is below -1",
        lambda f: f["fd"] < -1,
    ),
    Rule(
        "VFIO_DEVICE_SET_IRQS",
        errno.EINVAL,
        "descriptor {fd} is no eventfd",
        lambda f: f["fd"] >= 0 and not _is_eventfd(f["fd"]),
    ),
    Rule(
        "VFIO_DEVICE_SET_IRQS",
        errno.EINVAL,
        "the eventfd of descriptor {fd} is EFD_SEMAPHORE",
        lambda f: f["index"] == ACPI and f["fd"] >= 0,
    ),
    Rule(
        "VFIO_DEVICE_SET_IRQS",
        errno.EBADF,
        "descriptor {fd} is not open",
        lambda f: f["fd"] >= 0,
    ),
    Rule(
        "VFIO_DEVICE_SET_IRQS",
        errno.EBUSY,
        "another open device has used the index for the same ACPI companion; close that first",
        lambda f: f["index"] == ACPI,
    ),
    Rule(
        "VFIO_DEVICE_SET_IRQS",
        errno.ENODEV,
        "ACPI accepts no handler for the device's companion; the kernel's log says why",
        lambda f: f["index"] == ACPI,
    ),
    # ---- VFIO_DEVICE_FEATURE ----
    Rule(
        "VFIO_DEVICE_FEATURE",
        errno.EINVAL,
        "argsz {argsz} is below 8",
        lambda f: f["argsz"] < 8,
    ),
    Rule(
        "VFIO_DEVICE_FEATURE",
        errno.EINVAL,
        "flags {flags:#x} have the unknown bits {unknown_feature:#x}",
        lambda f: f["unknown_feature"] != 0,
    ),
    Rule(
        "VFIO_DEVICE_FEATURE",
        errno.EINVAL,
        "GET and SET go together with PROBE only",
        lambda f: f["flags"] & (GET | SET | PROBE) == GET | SET,
    ),
    Rule(
        "VFIO_DEVICE_FEATURE",
        errno.EINVAL,
        "flags {flags:#x} have none of GET, SET and PROBE",
        lambda f: not f["flags"] & (GET | SET | PROBE),
    ),
    Rule(
        "VFIO_DEVICE_FEATURE",
        errno.EINVAL,
        "depth {depth} is not from 1 to {depth_max}",
        lambda f: f["feature"] == ACPI_NOTIFY and not 1 <= f["depth"] <= f["depth_max"],
    ),
    Rule(
        "VFIO_DEVICE_FEATURE",
        errno.EINVAL,
        "feature {feature} cannot be got or set this way, or argsz {argsz} is too small for it",
    ),
    Rule(
        "VFIO_DEVICE_FEATURE",
        errno.ENOTTY,
        "the kernel does not know feature {feature}, or not for this device",
    ),
    Rule(
        "VFIO_DEVICE_FEATURE",
        errno.ENODEV,
        "the device has no ACPI companion, or ACPI accepts no handler for it",
        lambda f: f["feature"] == ACPI_NOTIFY,
    ),
    Rule(
        "VFIO_DEVICE_FEATURE",
        errno.EEXIST,
        "the device has an open queue, in this process or another; close that first",
        lambda f: f["feature"] == ACPI_NOTIFY,
    ),
    Rule(
        "VFIO_DEVICE_FEATURE",
        errno.EBUSY,
        "another device with the same ACPI companion has an open queue; close that first",
        lambda f: f["feature"] == ACPI_NOTIFY,
    ),
    Rule(
        "VFIO_DEVICE_FEATURE",
        errno.ENOENT,
        "the device has no open queue that a loopback could go to",
        lambda f: f["feature"] == ACPI_NOTIFY,
    ),
    # ---- opening through a cdev ----
    Rule(
        "VFIO_DEVICE_BIND_IOMMUFD",
        errno.EBUSY,
        "the device's group is open, or its DMA is in use by the host",
    ),
    Rule(
        "VFIO_DEVICE_BIND_IOMMUFD",
        errno.EINVAL,
        "the device is open already",
    ),
    Rule(
        "VFIO_DEVICE_BIND_IOMMUFD",
        errno.EPERM,
        "another device of the group is bound to a driver of the host, or to another iommufd; "
        "or the host does not remap interrupts",
    ),
    Rule(
        "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
        errno.EPERM,
        "the host does not remap interrupts, and iommufd's allow_unsafe_interrupts is off",
    ),
    # ---- opening through a group ----
    Rule(
        "VFIO_GROUP_SET_CONTAINER",
        errno.EPERM,
        "another device of the group is bound to a driver of the host, or to an iommufd",
    ),
    Rule(
        "VFIO_GROUP_SET_CONTAINER",
        errno.EINVAL,
        "the group is in a container already",
    ),
    Rule(
        "VFIO_SET_IOMMU",
        errno.EPERM,
        "the host does not remap interrupts, and vfio_iommu_type1's allow_unsafe_interrupts is off",
    ),
    Rule(
        "VFIO_SET_IOMMU",
        errno.ENODEV,
        "the kernel has no type 1 IOMMU driver (CONFIG_VFIO_IOMMU_TYPE1)",
    ),
    Rule(
        "VFIO_GROUP_GET_DEVICE_FD",
        errno.ENODEV,
        "the group has no such device, or it is not bound to vfio-pci",
    ),
    Rule(
        "VFIO_GROUP_GET_DEVICE_FD",
        errno.EBUSY,
        "the device is open already",
    ),
)
