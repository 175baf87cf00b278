# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""A table of the kernels that have each name of `uapi.mirror`, and functions that read it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from . import mirror
from .structures import STRUCTURES


@dataclass(frozen=True)
class Gate:
    """The condition under which a kernel has a name of the mirror (with the mirror's value).

    Its release is in the range from ``since`` (inclusive) to ``before`` (exclusive; "" is no
    limit). It has a series of one of ``mechanisms`` (none: any kernel). The project's bases alone
    were compared: a name ``since`` 6.12 is not in 6.1, but may be in a release between them.

    ``otherwise`` is the value on all other kernels; None: they do not have the name. ``least``: a
    kernel may have a larger value than the mirror, because it counts numbers that the mirror lacks.
    """

    since: str = ""
    before: str = ""
    mechanisms: tuple[str, ...] = ()
    otherwise: int | None = None
    least: bool = False

    def admits(self, release: str, mechanism: str) -> bool:
        """Return whether a kernel has the name.

        ``release`` is "7.3", for instance. ``mechanism`` is that of the series that the kernel has:
        "eventq", "eventfd" or "netlink". Any other word stands for an unpatched kernel.
        """
        here = _version(release)
        return (
            (not self.since or _version(self.since) <= here)
            and (not self.before or here < _version(self.before))
            and (not self.mechanisms or mechanism in self.mechanisms)
        )


EVERYWHERE = Gate()
# The mechanisms that have VFIO_PCI_ACPI_IRQ_INDEX.
_INDEX = ("ack", "doorbell", "eventfd", "eventfd-count")

# Keys: the name of a constant, "struct NAME" for a structure, "NAME.MEMBER" for a member. Every
# base has the names of the mirror that are not listed.
GATES: dict[str, Gate] = {
    **dict.fromkeys(
        (
            "VFIO_DEVICE_FLAGS_CDX",
            "vfio_device_info.pad",
            "VFIO_DEVICE_FEATURE_MIG_DATA_SIZE",
            "VFIO_DEVICE_FEATURE_BUS_MASTER",
            "VFIO_DEVICE_FEATURE_CLEAR_MASTER",
            "VFIO_DEVICE_FEATURE_SET_MASTER",
            "VFIO_DEVICE_BIND_IOMMUFD",
            "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
            "VFIO_DEVICE_DETACH_IOMMUFD_PT",
            "struct vfio_device_bind_iommufd",
            "struct vfio_device_attach_iommufd_pt",
            "struct vfio_device_detach_iommufd_pt",
            "IOMMUFD_TYPE",
            "IOMMUFD_CMD_BASE",
            "IOMMUFD_CMD_DESTROY",
            "IOMMUFD_CMD_IOAS_ALLOC",
            "IOMMU_DESTROY",
            "IOMMU_IOAS_ALLOC",
            "struct iommu_destroy",
            "struct iommu_ioas_alloc",
        ),
        Gate(since="6.12"),
    ),
    **dict.fromkeys(
        (
            "__VFIO_RESERVED_TYPE1_NESTING_IOMMU",
            "VFIO_DEVICE_BIND_FLAG_TOKEN",
            "VFIO_DEVICE_ATTACH_PASID",
            "VFIO_DEVICE_DETACH_PASID",
            "vfio_device_bind_iommufd.token_uuid_ptr",
            "vfio_device_attach_iommufd_pt.pasid",
            "vfio_device_detach_iommufd_pt.pasid",
            "VFIO_DEVICE_FEATURE_DMA_BUF",
            "VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2",
            "VFIO_DEVICE_FEATURE_ZPCI_ERROR",
        ),
        Gate(since="7.3"),
    ),
    "VFIO_TYPE1_NESTING_IOMMU": Gate(before="7.3"),
    **dict.fromkeys(
        (
            "VFIO_PCI_ACPI_NOTIFY_VALUE_MASK",
            "VFIO_PCI_ACPI_NOTIFY_VALID",
            "VFIO_PCI_ACPI_NOTIFY_LOOPBACK",
            "VFIO_PCI_ACPI_NOTIFY_LOST_SHIFT",
            "VFIO_PCI_ACPI_NOTIFY_LOST_MAX",
            "VFIO_PCI_ACPI_NOTIFY_QUEUE",
        ),
        Gate(mechanisms=("ack", "eventfd")),
    ),
    **dict.fromkeys(
        (
            "VFIO_DEVICE_FEATURE_ACPI_NOTIFY",
            "VFIO_ACPI_NOTIFY_DEPTH_MAX",
            "VFIO_ACPI_NOTIFY_EVENT_LOOPBACK",
            "struct vfio_device_feature_acpi_notify",
            "struct vfio_acpi_notify_event",
            "VFIO_DEVICE_INFO_CAP_ACPI_PATH",
            "VFIO_ACPI_PATH_MAX",
            "struct vfio_device_info_cap_acpi_path",
        ),
        Gate(mechanisms=("eventq",)),
    ),
    **dict.fromkeys(
        (
            "VFIO_DEVICE_FEATURE_ACPI_PENDING",
            "VFIO_ACPI_PENDING_MAX",
            "struct vfio_device_feature_acpi_pending",
        ),
        Gate(mechanisms=("doorbell",)),
    ),
    **dict.fromkeys(
        (
            "ACPI_GENL_CMD_NOTIFY",
            "ACPI_GENL_NOTIFY_GROUP_NAME",
            "ACPI_GENL_NOTIFY_ATTR_UNSPEC",
            "ACPI_GENL_NOTIFY_ATTR_PCI_NAME",
            "ACPI_GENL_NOTIFY_ATTR_VALUE",
            "ACPI_GENL_NOTIFY_ATTR_SEQUENCE",
            "ACPI_GENL_NOTIFY_ATTR_PATH",
            "ACPI_GENL_NOTIFY_ATTR_MAX",
        ),
        Gate(mechanisms=("netlink",)),
    ),
    **dict.fromkeys(
        (
            "VFIO_ACPI_GENL_VERSION",
            "VFIO_ACPI_GENL_GROUP_NAME",
            "VFIO_ACPI_GENL_CMD_NOTIFY",
            "VFIO_ACPI_GENL_ATTR_VALUE",
            "VFIO_ACPI_GENL_ATTR_SEQUENCE",
        ),
        Gate(mechanisms=("netlink-device",)),
    ),
    "ACPI_GENL_CMD_MAX": Gate(mechanisms=("netlink",), otherwise=1),
    "VFIO_PCI_ACPI_IRQ_INDEX": Gate(mechanisms=_INDEX),
    "VFIO_PCI_NUM_IRQS": Gate(mechanisms=_INDEX, otherwise=5, least=True),
}

_CONSTANT = re.compile(r"_*(?:VFIO|IOMMU|IOMMUFD|EFD|ACPI_GENL)_\w+")
_MEMBER = re.compile(r"(\w+)(?:\[\d*\])?;")


def everything() -> dict[str, int | str]:
    """Return all constants of the mirror by name, also those that only some kernels have."""
    return {
        name: value
        for name, value in vars(mirror).items()
        if _CONSTANT.fullmatch(name) and isinstance(value, int | str)
    }


def constants(release: str, mechanism: str) -> dict[str, int | str]:
    """Return the constants of a kernel, by name. The arguments are those of `Gate.admits`."""
    values = {}
    for name, value in everything().items():
        gate = GATES.get(name, EVERYWHERE)
        if gate.admits(release, mechanism):
            values[name] = value
        elif gate.otherwise is not None:
            values[name] = gate.otherwise
    return values


def structures(release: str, mechanism: str) -> dict[str, str]:
    """Return the C declarations of the structures of a kernel, by name.

    Members that the kernel lacks are left out. The arguments are those of `Gate.admits`.
    """
    return {
        name: f"struct {name} {{\n" + "\n".join(_members(name, release, mechanism)) + "\n};\n"
        for name in STRUCTURES
        if GATES.get(f"struct {name}", EVERYWHERE).admits(release, mechanism)
    }


def _members(name: str, release: str, mechanism: str) -> list[str]:
    lines = [line.strip() for line in STRUCTURES[name].strip().splitlines()]
    return [line for line in lines if _gate(name, line).admits(release, mechanism)]


def _gate(structure: str, line: str) -> Gate:
    member = _MEMBER.search(line)
    assert member is not None, line
    return GATES.get(f"{structure}.{member[1]}", EVERYWHERE)


def _version(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))
