# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""A Python copy of the kernel's constants and structures for ACPI notifications.

A constant is an attribute of this module with the constant's name in C. The structures are types of
cffi, declared in ABI mode, so that neither a compiler nor the kernel's headers are needed::

    info = mirror.ffi.new("struct vfio_irq_info *", {"argsz": mirror.sizeof("vfio_irq_info")})

Values and layouts are those of the newest base with all series, on x86. `uapi.names` lists the
names that other kernels lack. cffi does not check the layout in ABI mode; `python -m kpatch drift`
compares constants and structures with the headers of each base and series.
"""

from __future__ import annotations

from ._mirror import ffi as ffi


def sizeof(structure: str) -> int:
    """Return the size of ``struct NAME`` in bytes; ``structure`` is the NAME.

    A flexible array at the end (``data[]``) has size 0.
    """
    size: int = ffi.sizeof(f"struct {structure}")
    return size


def _io(kind: int, number: int) -> int:
    """Return the number of the ioctl _IO(kind, number): include/uapi/asm-generic/ioctl.h.

    powerpc, mips, sparc and alpha encode it in another way.
    """
    return kind << 8 | number


# ---- linux/vfio.h: /dev/vfio/vfio ----

VFIO_API_VERSION = 0

VFIO_TYPE1_IOMMU = 1
VFIO_SPAPR_TCE_IOMMU = 2
VFIO_TYPE1v2_IOMMU = 3
VFIO_DMA_CC_IOMMU = 4
VFIO_EEH = 5
VFIO_TYPE1_NESTING_IOMMU = 6
__VFIO_RESERVED_TYPE1_NESTING_IOMMU = 6
VFIO_SPAPR_TCE_v2_IOMMU = 7
VFIO_NOIOMMU_IOMMU = 8
VFIO_UNMAP_ALL = 9
VFIO_UPDATE_VADDR = 10

VFIO_TYPE = ord(";")
VFIO_BASE = 100

VFIO_GET_API_VERSION = _io(VFIO_TYPE, VFIO_BASE + 0)
VFIO_CHECK_EXTENSION = _io(VFIO_TYPE, VFIO_BASE + 1)
VFIO_SET_IOMMU = _io(VFIO_TYPE, VFIO_BASE + 2)

# ---- linux/vfio.h: /dev/vfio/GROUP ----

VFIO_GROUP_FLAGS_VIABLE = 1 << 0
VFIO_GROUP_FLAGS_CONTAINER_SET = 1 << 1
VFIO_GROUP_GET_STATUS = _io(VFIO_TYPE, VFIO_BASE + 3)
VFIO_GROUP_SET_CONTAINER = _io(VFIO_TYPE, VFIO_BASE + 4)
VFIO_GROUP_UNSET_CONTAINER = _io(VFIO_TYPE, VFIO_BASE + 5)
VFIO_GROUP_GET_DEVICE_FD = _io(VFIO_TYPE, VFIO_BASE + 6)

# ---- linux/vfio.h: a device ----

VFIO_DEVICE_GET_INFO = _io(VFIO_TYPE, VFIO_BASE + 7)
VFIO_DEVICE_FLAGS_RESET = 1 << 0
VFIO_DEVICE_FLAGS_PCI = 1 << 1
VFIO_DEVICE_FLAGS_PLATFORM = 1 << 2
VFIO_DEVICE_FLAGS_AMBA = 1 << 3
VFIO_DEVICE_FLAGS_CCW = 1 << 4
VFIO_DEVICE_FLAGS_AP = 1 << 5
VFIO_DEVICE_FLAGS_FSL_MC = 1 << 6
VFIO_DEVICE_FLAGS_CAPS = 1 << 7
VFIO_DEVICE_FLAGS_CDX = 1 << 8
VFIO_DEVICE_INFO_CAP_ACPI_PATH = 6
VFIO_ACPI_PATH_MAX = 256

VFIO_DEVICE_GET_IRQ_INFO = _io(VFIO_TYPE, VFIO_BASE + 9)
VFIO_IRQ_INFO_EVENTFD = 1 << 0
VFIO_IRQ_INFO_MASKABLE = 1 << 1
VFIO_IRQ_INFO_AUTOMASKED = 1 << 2
VFIO_IRQ_INFO_NORESIZE = 1 << 3

VFIO_DEVICE_SET_IRQS = _io(VFIO_TYPE, VFIO_BASE + 10)
VFIO_IRQ_SET_DATA_NONE = 1 << 0
VFIO_IRQ_SET_DATA_BOOL = 1 << 1
VFIO_IRQ_SET_DATA_EVENTFD = 1 << 2
VFIO_IRQ_SET_ACTION_MASK = 1 << 3
VFIO_IRQ_SET_ACTION_UNMASK = 1 << 4
VFIO_IRQ_SET_ACTION_TRIGGER = 1 << 5
VFIO_IRQ_SET_DATA_TYPE_MASK = 0b000111
VFIO_IRQ_SET_ACTION_TYPE_MASK = 0b111000

VFIO_DEVICE_RESET = _io(VFIO_TYPE, VFIO_BASE + 11)

VFIO_PCI_INTX_IRQ_INDEX = 0
VFIO_PCI_MSI_IRQ_INDEX = 1
VFIO_PCI_MSIX_IRQ_INDEX = 2
VFIO_PCI_ERR_IRQ_INDEX = 3
VFIO_PCI_REQ_IRQ_INDEX = 4
VFIO_PCI_ACPI_IRQ_INDEX = 5
VFIO_PCI_NUM_IRQS = 6  # use num_irqs of VFIO_DEVICE_GET_INFO instead

# Bits of the 64-bit word that read(2) of the eventfd of VFIO_PCI_ACPI_IRQ_INDEX returns; the
# docstring of uapi.notification describes it.
VFIO_PCI_ACPI_NOTIFY_VALUE_MASK = 0xFFFFFFFF
VFIO_PCI_ACPI_NOTIFY_VALID = 1 << 32
VFIO_PCI_ACPI_NOTIFY_LOOPBACK = 1 << 33
VFIO_PCI_ACPI_NOTIFY_LOST_SHIFT = 48
VFIO_PCI_ACPI_NOTIFY_LOST_MAX = 0xFFFF
VFIO_PCI_ACPI_NOTIFY_QUEUE = 256

VFIO_DEVICE_FEATURE = _io(VFIO_TYPE, VFIO_BASE + 17)
VFIO_DEVICE_FEATURE_MASK = 0xFFFF
VFIO_DEVICE_FEATURE_GET = 1 << 16
VFIO_DEVICE_FEATURE_SET = 1 << 17
VFIO_DEVICE_FEATURE_PROBE = 1 << 18
VFIO_DEVICE_FEATURE_PCI_VF_TOKEN = 0
VFIO_DEVICE_FEATURE_MIGRATION = 1
VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE = 2
VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY = 3
VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP = 4
VFIO_DEVICE_FEATURE_LOW_POWER_EXIT = 5
VFIO_DEVICE_FEATURE_DMA_LOGGING_START = 6
VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP = 7
VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT = 8
VFIO_DEVICE_FEATURE_MIG_DATA_SIZE = 9
VFIO_DEVICE_FEATURE_BUS_MASTER = 10
VFIO_DEVICE_FEATURE_CLEAR_MASTER = 0
VFIO_DEVICE_FEATURE_SET_MASTER = 1
VFIO_DEVICE_FEATURE_DMA_BUF = 11
VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 = 12
VFIO_DEVICE_FEATURE_ZPCI_ERROR = 13
VFIO_DEVICE_FEATURE_ACPI_NOTIFY = 14
VFIO_ACPI_NOTIFY_DEPTH_MAX = 65536

# A bit of the flags of an event that read(2) of the queue returns; the docstring of uapi.eventq
# describes the event.
VFIO_ACPI_NOTIFY_EVENT_LOOPBACK = 1 << 0


VFIO_DEVICE_FEATURE_ACPI_PENDING = 15
VFIO_ACPI_PENDING_MAX = 256

# ---- linux/vfio.h: a generic netlink family for each device ----

VFIO_ACPI_GENL_VERSION = 1
VFIO_ACPI_GENL_GROUP_NAME = "notify"
VFIO_ACPI_GENL_CMD_NOTIFY = 1
VFIO_ACPI_GENL_ATTR_VALUE = 1
VFIO_ACPI_GENL_ATTR_SEQUENCE = 2

# ---- linux/vfio.h: /dev/vfio/devices/vfioN ----

VFIO_DEVICE_BIND_IOMMUFD = _io(VFIO_TYPE, VFIO_BASE + 18)
VFIO_DEVICE_BIND_FLAG_TOKEN = 1 << 0
VFIO_DEVICE_ATTACH_IOMMUFD_PT = _io(VFIO_TYPE, VFIO_BASE + 19)
VFIO_DEVICE_ATTACH_PASID = 1 << 0
VFIO_DEVICE_DETACH_IOMMUFD_PT = _io(VFIO_TYPE, VFIO_BASE + 20)
VFIO_DEVICE_DETACH_PASID = 1 << 0

# ---- linux/iommufd.h: /dev/iommu ----

IOMMUFD_TYPE = ord(";")
IOMMUFD_CMD_BASE = 0x80
IOMMUFD_CMD_DESTROY = IOMMUFD_CMD_BASE
IOMMUFD_CMD_IOAS_ALLOC = 0x81
IOMMU_DESTROY = _io(IOMMUFD_TYPE, IOMMUFD_CMD_DESTROY)
IOMMU_IOAS_ALLOC = _io(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_ALLOC)

# ---- linux/eventfd.h ----

EFD_SEMAPHORE = 1 << 0
EFD_CLOEXEC = 0o2000000
EFD_NONBLOCK = 0o4000

# ---- linux/acpi_event.h, or drivers/acpi/event.c without the netlink series: acpi_event ----

ACPI_GENL_FAMILY_NAME = "acpi_event"
ACPI_GENL_MCAST_GROUP_NAME = "acpi_mc_group"
ACPI_GENL_VERSION = 1
ACPI_GENL_ATTR_UNSPEC = 0
ACPI_GENL_ATTR_EVENT = 1
ACPI_GENL_ATTR_MAX = 1
ACPI_GENL_CMD_UNSPEC = 0
ACPI_GENL_CMD_EVENT = 1
ACPI_GENL_CMD_NOTIFY = 2
ACPI_GENL_CMD_MAX = 2

ACPI_GENL_NOTIFY_GROUP_NAME = "acpi_notify"
ACPI_GENL_NOTIFY_ATTR_UNSPEC = 0
ACPI_GENL_NOTIFY_ATTR_PCI_NAME = 1
ACPI_GENL_NOTIFY_ATTR_VALUE = 2
ACPI_GENL_NOTIFY_ATTR_SEQUENCE = 3
ACPI_GENL_NOTIFY_ATTR_PATH = 4
ACPI_GENL_NOTIFY_ATTR_MAX = 4
