# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The C declarations of the structures of `uapi.mirror`, and the generator of `uapi._mirror`.

`uapi._mirror` is a module that cffi generates from the declarations. Importing it takes 0.8 ms;
parsing the declarations at run time would take 70 ms, longer than all other imports of a test, and
twenty times as long in an emulated guest.
"""

from __future__ import annotations

import io

MODULE = "uapi._mirror"

HEAD = """\
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# Made from uapi/structures.py by `python -m kpatch drift --write`.
"""

# The members of each structure, by the structure's name. cffi knows neither the kernel's types nor
# its macros: uint32_t stands for __u32, uint64_t for __aligned_u64. On i386 a uint64_t is aligned
# to 4 bytes only, so the sizes of the members before it have to add up to a multiple of 8.
STRUCTURES: dict[str, str] = {
    # linux/vfio.h
    "vfio_group_status": """
        uint32_t argsz;
        uint32_t flags;
    """,
    "vfio_device_info": """
        uint32_t argsz;
        uint32_t flags;
        uint32_t num_regions;
        uint32_t num_irqs;
        uint32_t cap_offset;
        uint32_t pad;
    """,
    "vfio_info_cap_header": """
        uint16_t id;
        uint16_t version;
        uint32_t next;
    """,
    "vfio_device_info_cap_acpi_path": """
        struct vfio_info_cap_header header;
        uint32_t size;
        uint8_t path[];
    """,
    "vfio_irq_info": """
        uint32_t argsz;
        uint32_t flags;
        uint32_t index;
        uint32_t count;
    """,
    "vfio_irq_set": """
        uint32_t argsz;
        uint32_t flags;
        uint32_t index;
        uint32_t start;
        uint32_t count;
        uint8_t data[];
    """,
    "vfio_device_feature": """
        uint32_t argsz;
        uint32_t flags;
        uint8_t data[];
    """,
    "vfio_device_feature_acpi_notify": """
        uint32_t flags;
        uint32_t open_flags;
        uint32_t depth;
        uint32_t value;
    """,
    "vfio_acpi_notify_event": """
        uint32_t flags;
        uint32_t sequence;
        uint32_t value;
        uint32_t __reserved;
    """,
    "vfio_device_feature_acpi_pending": """
        uint32_t flags;
        uint32_t value;
        uint32_t sequence;
        uint32_t lost;
    """,
    "vfio_device_bind_iommufd": """
        uint32_t argsz;
        uint32_t flags;
        int32_t iommufd;
        uint32_t out_devid;
        uint64_t token_uuid_ptr;
    """,
    "vfio_device_attach_iommufd_pt": """
        uint32_t argsz;
        uint32_t flags;
        uint32_t pt_id;
        uint32_t pasid;
    """,
    "vfio_device_detach_iommufd_pt": """
        uint32_t argsz;
        uint32_t flags;
        uint32_t pasid;
    """,
    # linux/iommufd.h
    "iommu_destroy": """
        uint32_t size;
        uint32_t id;
    """,
    "iommu_ioas_alloc": """
        uint32_t size;
        uint32_t flags;
        uint32_t out_ioas_id;
    """,
    # linux/netlink.h and linux/genetlink.h: the headers of a message of the acpi_event family
    "nlmsghdr": """
        uint32_t nlmsg_len;
        uint16_t nlmsg_type;
        uint16_t nlmsg_flags;
        uint32_t nlmsg_seq;
        uint32_t nlmsg_pid;
    """,
    "genlmsghdr": """
        uint8_t cmd;
        uint8_t version;
        uint16_t reserved;
    """,
    "nlattr": """
        uint16_t nla_len;
        uint16_t nla_type;
    """,
    # linux/acpi_event.h with the netlink series, else drivers/acpi/event.c
    "acpi_genl_event": """
        char device_class[20];
        char bus_id[15];
        uint32_t type;
        uint32_t data;
    """,
}


def declarations() -> str:
    """Return the C declarations of all structures, with the members of all kernels, for cffi."""
    return "".join(f"struct {name} {{{body}}};\n" for name, body in STRUCTURES.items())


def module() -> str:
    """Return the source text of the module `uapi._mirror`."""
    # Imported here, because users of the table STRUCTURES do not need the C parser.
    from cffi import FFI, recompiler

    ffi = FFI()
    ffi.cdef(declarations())
    text = io.StringIO()
    recompiler.make_py_source(ffi, MODULE, text)
    return HEAD + text.getvalue()
