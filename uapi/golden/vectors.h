/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Static assertions of the uAPI of VFIO and ACPI notifications on x86.
 * Made from the golden JSON by `python -m uapi.vectors --write`.
 *
 * Include the headers to be checked first. VFIO_ACPI_KERNEL selects the kernel that they belong to,
 * for instance VFIO_ACPI_7_3_EVENTQ. Several kernels can be joined by |; then what differs between
 * them fails. VFIO_ACPI_WITHOUT_VFIO, _IOMMUFD, _EVENTFD and _ACPI_EVENT leave out a part.
 */
#ifndef VFIO_ACPI_VECTORS_H
#define VFIO_ACPI_VECTORS_H

#include <stddef.h>

#define VFIO_ACPI_6_1_BASE 0x1
#define VFIO_ACPI_6_1_EVENTFD 0x2
#define VFIO_ACPI_6_1_EVENTQ 0x4
#define VFIO_ACPI_6_1_NETLINK 0x8
#define VFIO_ACPI_6_12_BASE 0x10
#define VFIO_ACPI_6_12_EVENTFD 0x20
#define VFIO_ACPI_6_12_EVENTQ 0x40
#define VFIO_ACPI_6_12_NETLINK 0x80
#define VFIO_ACPI_7_3_BASE 0x100
#define VFIO_ACPI_7_3_DOORBELL 0x200
#define VFIO_ACPI_7_3_EVENTFD 0x400
#define VFIO_ACPI_7_3_ACK 0x400
#define VFIO_ACPI_7_3_EVENTFD_COUNT 0x800
#define VFIO_ACPI_7_3_EVENTQ 0x1000
#define VFIO_ACPI_7_3_NETLINK 0x2000
#define VFIO_ACPI_7_3_NETLINK_DEVICE 0x4000

#if !defined(VFIO_ACPI_KERNEL) || (VFIO_ACPI_KERNEL) == 0
#error "VFIO_ACPI_KERNEL has to be a kernel of this file, for instance VFIO_ACPI_7_3_EVENTQ"
#endif

#ifdef __cplusplus
#define VFIO_ACPI_TRUE(what, message) static_assert(what, message)
#define VFIO_ACPI_ALIGNMENT(type) alignof(type)
#else
#define VFIO_ACPI_TRUE(what, message) _Static_assert(what, message)
#define VFIO_ACPI_ALIGNMENT(type) _Alignof(type)
#endif
#define VFIO_ACPI_EQUAL(what, number) \
	VFIO_ACPI_TRUE((what) == (number), #what " is not " #number)
#define VFIO_ACPI_TEXT(what, text) \
	VFIO_ACPI_TRUE(!__builtin_strcmp(what, text), #what " is not " text)
#define VFIO_ACPI_MEMBER_SIZE(type, member) sizeof(((type *)0)->member)

/* acpi_event: every kernel */
#if !defined(VFIO_ACPI_WITHOUT_ACPI_EVENT) && ((VFIO_ACPI_KERNEL) & 0x7fff)
VFIO_ACPI_EQUAL(ACPI_GENL_ATTR_EVENT, 1);
VFIO_ACPI_EQUAL(ACPI_GENL_ATTR_MAX, 1);
VFIO_ACPI_EQUAL(ACPI_GENL_ATTR_UNSPEC, 0);
VFIO_ACPI_EQUAL(ACPI_GENL_CMD_EVENT, 1);
VFIO_ACPI_EQUAL(ACPI_GENL_CMD_UNSPEC, 0);
VFIO_ACPI_TEXT(ACPI_GENL_FAMILY_NAME, "acpi_event");
VFIO_ACPI_TEXT(ACPI_GENL_MCAST_GROUP_NAME, "acpi_mc_group");
VFIO_ACPI_EQUAL(ACPI_GENL_VERSION, 1);
VFIO_ACPI_EQUAL(sizeof(struct acpi_genl_event), 44);
VFIO_ACPI_EQUAL(VFIO_ACPI_ALIGNMENT(struct acpi_genl_event), 4);
VFIO_ACPI_EQUAL(offsetof(struct acpi_genl_event, device_class), 0);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct acpi_genl_event, device_class), 20);
VFIO_ACPI_EQUAL(offsetof(struct acpi_genl_event, bus_id), 20);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct acpi_genl_event, bus_id), 15);
VFIO_ACPI_EQUAL(offsetof(struct acpi_genl_event, type), 36);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct acpi_genl_event, type), 4);
VFIO_ACPI_EQUAL(offsetof(struct acpi_genl_event, data), 40);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct acpi_genl_event, data), 4);
VFIO_ACPI_EQUAL(sizeof(struct genlmsghdr), 4);
VFIO_ACPI_EQUAL(VFIO_ACPI_ALIGNMENT(struct genlmsghdr), 2);
VFIO_ACPI_EQUAL(offsetof(struct genlmsghdr, cmd), 0);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct genlmsghdr, cmd), 1);
VFIO_ACPI_EQUAL(offsetof(struct genlmsghdr, version), 1);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct genlmsghdr, version), 1);
VFIO_ACPI_EQUAL(offsetof(struct genlmsghdr, reserved), 2);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct genlmsghdr, reserved), 2);
VFIO_ACPI_EQUAL(sizeof(struct nlattr), 4);
VFIO_ACPI_EQUAL(VFIO_ACPI_ALIGNMENT(struct nlattr), 2);
VFIO_ACPI_EQUAL(offsetof(struct nlattr, nla_len), 0);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct nlattr, nla_len), 2);
VFIO_ACPI_EQUAL(offsetof(struct nlattr, nla_type), 2);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct nlattr, nla_type), 2);
VFIO_ACPI_EQUAL(sizeof(struct nlmsghdr), 16);
VFIO_ACPI_EQUAL(VFIO_ACPI_ALIGNMENT(struct nlmsghdr), 4);
VFIO_ACPI_EQUAL(offsetof(struct nlmsghdr, nlmsg_len), 0);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct nlmsghdr, nlmsg_len), 4);
VFIO_ACPI_EQUAL(offsetof(struct nlmsghdr, nlmsg_type), 4);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct nlmsghdr, nlmsg_type), 2);
VFIO_ACPI_EQUAL(offsetof(struct nlmsghdr, nlmsg_flags), 6);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct nlmsghdr, nlmsg_flags), 2);
VFIO_ACPI_EQUAL(offsetof(struct nlmsghdr, nlmsg_seq), 8);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct nlmsghdr, nlmsg_seq), 4);
VFIO_ACPI_EQUAL(offsetof(struct nlmsghdr, nlmsg_pid), 12);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct nlmsghdr, nlmsg_pid), 4);
#endif

/* eventfd: every kernel */
#if !defined(VFIO_ACPI_WITHOUT_EVENTFD) && ((VFIO_ACPI_KERNEL) & 0x7fff)
VFIO_ACPI_EQUAL(EFD_CLOEXEC, 524288);
VFIO_ACPI_EQUAL(EFD_NONBLOCK, 2048);
VFIO_ACPI_EQUAL(EFD_SEMAPHORE, 1);
#endif

/* vfio: every kernel */
#if !defined(VFIO_ACPI_WITHOUT_VFIO) && ((VFIO_ACPI_KERNEL) & 0x7fff)
VFIO_ACPI_EQUAL(VFIO_API_VERSION, 0);
VFIO_ACPI_EQUAL(VFIO_BASE, 100);
VFIO_ACPI_EQUAL(VFIO_CHECK_EXTENSION, 15205);
VFIO_ACPI_EQUAL(VFIO_DEVICE_FEATURE, 15221);
VFIO_ACPI_EQUAL(VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, 8);
VFIO_ACPI_EQUAL(VFIO_DEVICE_FEATURE_DMA_LOGGING_START, 6);
VFIO_ACPI_EQUAL(VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, 7);
VFIO_ACPI_EQUAL(VFIO_DEVICE_FEATURE_GET, 65536);
VFIO_ACPI_EQUAL(VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, 3);
VFIO_ACPI_EQUAL(VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP, 4);
VFIO_ACPI_EQUAL(VFIO_DEVICE_FEATURE_LOW_POWER_EXIT, 5);
VFIO_ACPI_EQUAL(VFIO_DEVICE_FEATURE_MASK, 65535);
VFIO_ACPI_EQUAL(VFIO_DEVICE_FEATURE_MIGRATION, 1);
VFIO_ACPI_EQUAL(VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, 2);
VFIO_ACPI_EQUAL(VFIO_DEVICE_FEATURE_PCI_VF_TOKEN, 0);
VFIO_ACPI_EQUAL(VFIO_DEVICE_FEATURE_PROBE, 262144);
VFIO_ACPI_EQUAL(VFIO_DEVICE_FEATURE_SET, 131072);
VFIO_ACPI_EQUAL(VFIO_DEVICE_FLAGS_AMBA, 8);
VFIO_ACPI_EQUAL(VFIO_DEVICE_FLAGS_AP, 32);
VFIO_ACPI_EQUAL(VFIO_DEVICE_FLAGS_CAPS, 128);
VFIO_ACPI_EQUAL(VFIO_DEVICE_FLAGS_CCW, 16);
VFIO_ACPI_EQUAL(VFIO_DEVICE_FLAGS_FSL_MC, 64);
VFIO_ACPI_EQUAL(VFIO_DEVICE_FLAGS_PCI, 2);
VFIO_ACPI_EQUAL(VFIO_DEVICE_FLAGS_PLATFORM, 4);
VFIO_ACPI_EQUAL(VFIO_DEVICE_FLAGS_RESET, 1);
VFIO_ACPI_EQUAL(VFIO_DEVICE_GET_INFO, 15211);
VFIO_ACPI_EQUAL(VFIO_DEVICE_GET_IRQ_INFO, 15213);
VFIO_ACPI_EQUAL(VFIO_DEVICE_RESET, 15215);
VFIO_ACPI_EQUAL(VFIO_DEVICE_SET_IRQS, 15214);
VFIO_ACPI_EQUAL(VFIO_DMA_CC_IOMMU, 4);
VFIO_ACPI_EQUAL(VFIO_EEH, 5);
VFIO_ACPI_EQUAL(VFIO_GET_API_VERSION, 15204);
VFIO_ACPI_EQUAL(VFIO_GROUP_FLAGS_CONTAINER_SET, 2);
VFIO_ACPI_EQUAL(VFIO_GROUP_FLAGS_VIABLE, 1);
VFIO_ACPI_EQUAL(VFIO_GROUP_GET_DEVICE_FD, 15210);
VFIO_ACPI_EQUAL(VFIO_GROUP_GET_STATUS, 15207);
VFIO_ACPI_EQUAL(VFIO_GROUP_SET_CONTAINER, 15208);
VFIO_ACPI_EQUAL(VFIO_GROUP_UNSET_CONTAINER, 15209);
VFIO_ACPI_EQUAL(VFIO_IRQ_INFO_AUTOMASKED, 4);
VFIO_ACPI_EQUAL(VFIO_IRQ_INFO_EVENTFD, 1);
VFIO_ACPI_EQUAL(VFIO_IRQ_INFO_MASKABLE, 2);
VFIO_ACPI_EQUAL(VFIO_IRQ_INFO_NORESIZE, 8);
VFIO_ACPI_EQUAL(VFIO_IRQ_SET_ACTION_MASK, 8);
VFIO_ACPI_EQUAL(VFIO_IRQ_SET_ACTION_TRIGGER, 32);
VFIO_ACPI_EQUAL(VFIO_IRQ_SET_ACTION_TYPE_MASK, 56);
VFIO_ACPI_EQUAL(VFIO_IRQ_SET_ACTION_UNMASK, 16);
VFIO_ACPI_EQUAL(VFIO_IRQ_SET_DATA_BOOL, 2);
VFIO_ACPI_EQUAL(VFIO_IRQ_SET_DATA_EVENTFD, 4);
VFIO_ACPI_EQUAL(VFIO_IRQ_SET_DATA_NONE, 1);
VFIO_ACPI_EQUAL(VFIO_IRQ_SET_DATA_TYPE_MASK, 7);
VFIO_ACPI_EQUAL(VFIO_NOIOMMU_IOMMU, 8);
VFIO_ACPI_EQUAL(VFIO_PCI_ERR_IRQ_INDEX, 3);
VFIO_ACPI_EQUAL(VFIO_PCI_INTX_IRQ_INDEX, 0);
VFIO_ACPI_EQUAL(VFIO_PCI_MSIX_IRQ_INDEX, 2);
VFIO_ACPI_EQUAL(VFIO_PCI_MSI_IRQ_INDEX, 1);
VFIO_ACPI_EQUAL(VFIO_PCI_REQ_IRQ_INDEX, 4);
VFIO_ACPI_EQUAL(VFIO_SET_IOMMU, 15206);
VFIO_ACPI_EQUAL(VFIO_SPAPR_TCE_IOMMU, 2);
VFIO_ACPI_EQUAL(VFIO_SPAPR_TCE_v2_IOMMU, 7);
VFIO_ACPI_EQUAL(VFIO_TYPE, 59);
VFIO_ACPI_EQUAL(VFIO_TYPE1_IOMMU, 1);
VFIO_ACPI_EQUAL(VFIO_TYPE1v2_IOMMU, 3);
VFIO_ACPI_EQUAL(VFIO_UNMAP_ALL, 9);
VFIO_ACPI_EQUAL(VFIO_UPDATE_VADDR, 10);
VFIO_ACPI_EQUAL(sizeof(struct vfio_device_feature), 8);
VFIO_ACPI_EQUAL(VFIO_ACPI_ALIGNMENT(struct vfio_device_feature), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_feature, argsz), 0);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_feature, argsz), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_feature, flags), 4);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_feature, flags), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_feature, data), 8);
VFIO_ACPI_EQUAL(VFIO_ACPI_ALIGNMENT(struct vfio_device_info), 4); /* varies */
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_info, argsz), 0); /* varies */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_info, argsz), 4); /* varies */
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_info, flags), 4); /* varies */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_info, flags), 4); /* varies */
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_info, num_regions), 8); /* varies */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_info, num_regions), 4); /* varies */
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_info, num_irqs), 12); /* varies */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_info, num_irqs), 4); /* varies */
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_info, cap_offset), 16); /* varies */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_info, cap_offset), 4); /* varies */
VFIO_ACPI_EQUAL(sizeof(struct vfio_group_status), 8);
VFIO_ACPI_EQUAL(VFIO_ACPI_ALIGNMENT(struct vfio_group_status), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_group_status, argsz), 0);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_group_status, argsz), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_group_status, flags), 4);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_group_status, flags), 4);
VFIO_ACPI_EQUAL(sizeof(struct vfio_info_cap_header), 8);
VFIO_ACPI_EQUAL(VFIO_ACPI_ALIGNMENT(struct vfio_info_cap_header), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_info_cap_header, id), 0);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_info_cap_header, id), 2);
VFIO_ACPI_EQUAL(offsetof(struct vfio_info_cap_header, version), 2);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_info_cap_header, version), 2);
VFIO_ACPI_EQUAL(offsetof(struct vfio_info_cap_header, next), 4);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_info_cap_header, next), 4);
VFIO_ACPI_EQUAL(sizeof(struct vfio_irq_info), 16);
VFIO_ACPI_EQUAL(VFIO_ACPI_ALIGNMENT(struct vfio_irq_info), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_irq_info, argsz), 0);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_irq_info, argsz), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_irq_info, flags), 4);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_irq_info, flags), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_irq_info, index), 8);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_irq_info, index), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_irq_info, count), 12);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_irq_info, count), 4);
VFIO_ACPI_EQUAL(sizeof(struct vfio_irq_set), 20);
VFIO_ACPI_EQUAL(VFIO_ACPI_ALIGNMENT(struct vfio_irq_set), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_irq_set, argsz), 0);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_irq_set, argsz), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_irq_set, flags), 4);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_irq_set, flags), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_irq_set, index), 8);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_irq_set, index), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_irq_set, start), 12);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_irq_set, start), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_irq_set, count), 16);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_irq_set, count), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_irq_set, data), 20);
#endif

/* acpi_event: 6.1-base, 6.1-eventfd, 6.1-eventq, 6.12-base, 6.12-eventfd, 6.12-eventq, 7.3-base, 7.3-doorbell, 7.3-eventfd, 7.3-eventfd-count, 7.3-eventq, 7.3-netlink-device */
#if !defined(VFIO_ACPI_WITHOUT_ACPI_EVENT) && ((VFIO_ACPI_KERNEL) & 0x5f77)
VFIO_ACPI_EQUAL(ACPI_GENL_CMD_MAX, 1); /* varies */
#endif

/* iommufd: 6.12-base, 6.12-eventfd, 6.12-eventq, 6.12-netlink, 7.3-base, 7.3-doorbell, 7.3-eventfd, 7.3-eventfd-count, 7.3-eventq, 7.3-netlink, 7.3-netlink-device */
#if !defined(VFIO_ACPI_WITHOUT_IOMMUFD) && ((VFIO_ACPI_KERNEL) & 0x7ff0)
VFIO_ACPI_EQUAL(IOMMUFD_CMD_BASE, 128); /* since 6.12 */
VFIO_ACPI_EQUAL(IOMMUFD_CMD_DESTROY, 128); /* since 6.12 */
VFIO_ACPI_EQUAL(IOMMUFD_CMD_IOAS_ALLOC, 129); /* since 6.12 */
VFIO_ACPI_EQUAL(IOMMUFD_TYPE, 59); /* since 6.12 */
VFIO_ACPI_EQUAL(IOMMU_DESTROY, 15232); /* since 6.12 */
VFIO_ACPI_EQUAL(IOMMU_IOAS_ALLOC, 15233); /* since 6.12 */
VFIO_ACPI_EQUAL(sizeof(struct iommu_destroy), 8); /* since 6.12 */
VFIO_ACPI_EQUAL(VFIO_ACPI_ALIGNMENT(struct iommu_destroy), 4); /* since 6.12 */
VFIO_ACPI_EQUAL(offsetof(struct iommu_destroy, size), 0); /* since 6.12 */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct iommu_destroy, size), 4); /* since 6.12 */
VFIO_ACPI_EQUAL(offsetof(struct iommu_destroy, id), 4); /* since 6.12 */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct iommu_destroy, id), 4); /* since 6.12 */
VFIO_ACPI_EQUAL(sizeof(struct iommu_ioas_alloc), 12); /* since 6.12 */
VFIO_ACPI_EQUAL(VFIO_ACPI_ALIGNMENT(struct iommu_ioas_alloc), 4); /* since 6.12 */
VFIO_ACPI_EQUAL(offsetof(struct iommu_ioas_alloc, size), 0); /* since 6.12 */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct iommu_ioas_alloc, size), 4); /* since 6.12 */
VFIO_ACPI_EQUAL(offsetof(struct iommu_ioas_alloc, flags), 4); /* since 6.12 */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct iommu_ioas_alloc, flags), 4); /* since 6.12 */
VFIO_ACPI_EQUAL(offsetof(struct iommu_ioas_alloc, out_ioas_id), 8); /* since 6.12 */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct iommu_ioas_alloc, out_ioas_id), 4); /* since 6.12 */
#endif

/* vfio: 6.12-base, 6.12-eventfd, 6.12-eventq, 6.12-netlink, 7.3-base, 7.3-doorbell, 7.3-eventfd, 7.3-eventfd-count, 7.3-eventq, 7.3-netlink, 7.3-netlink-device */
#if !defined(VFIO_ACPI_WITHOUT_VFIO) && ((VFIO_ACPI_KERNEL) & 0x7ff0)
VFIO_ACPI_EQUAL(VFIO_DEVICE_ATTACH_IOMMUFD_PT, 15223); /* since 6.12 */
VFIO_ACPI_EQUAL(VFIO_DEVICE_BIND_IOMMUFD, 15222); /* since 6.12 */
VFIO_ACPI_EQUAL(VFIO_DEVICE_DETACH_IOMMUFD_PT, 15224); /* since 6.12 */
VFIO_ACPI_EQUAL(VFIO_DEVICE_FEATURE_BUS_MASTER, 10); /* since 6.12 */
VFIO_ACPI_EQUAL(VFIO_DEVICE_FEATURE_CLEAR_MASTER, 0); /* since 6.12 */
VFIO_ACPI_EQUAL(VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, 9); /* since 6.12 */
VFIO_ACPI_EQUAL(VFIO_DEVICE_FEATURE_SET_MASTER, 1); /* since 6.12 */
VFIO_ACPI_EQUAL(VFIO_DEVICE_FLAGS_CDX, 256); /* since 6.12 */
VFIO_ACPI_EQUAL(VFIO_ACPI_ALIGNMENT(struct vfio_device_attach_iommufd_pt), 4); /* since 6.12, varies */
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_attach_iommufd_pt, argsz), 0); /* since 6.12, varies */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_attach_iommufd_pt, argsz), 4); /* since 6.12, varies */
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_attach_iommufd_pt, flags), 4); /* since 6.12, varies */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_attach_iommufd_pt, flags), 4); /* since 6.12, varies */
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_attach_iommufd_pt, pt_id), 8); /* since 6.12, varies */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_attach_iommufd_pt, pt_id), 4); /* since 6.12, varies */
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_bind_iommufd, argsz), 0); /* since 6.12, varies */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_bind_iommufd, argsz), 4); /* since 6.12, varies */
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_bind_iommufd, flags), 4); /* since 6.12, varies */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_bind_iommufd, flags), 4); /* since 6.12, varies */
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_bind_iommufd, iommufd), 8); /* since 6.12, varies */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_bind_iommufd, iommufd), 4); /* since 6.12, varies */
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_bind_iommufd, out_devid), 12); /* since 6.12, varies */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_bind_iommufd, out_devid), 4); /* since 6.12, varies */
VFIO_ACPI_EQUAL(VFIO_ACPI_ALIGNMENT(struct vfio_device_detach_iommufd_pt), 4); /* since 6.12, varies */
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_detach_iommufd_pt, argsz), 0); /* since 6.12, varies */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_detach_iommufd_pt, argsz), 4); /* since 6.12, varies */
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_detach_iommufd_pt, flags), 4); /* since 6.12, varies */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_detach_iommufd_pt, flags), 4); /* since 6.12, varies */
VFIO_ACPI_EQUAL(sizeof(struct vfio_device_info), 24); /* varies */
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_info, pad), 20); /* varies */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_info, pad), 4); /* varies */
#endif

/* vfio: 6.1-base, 6.1-eventq, 6.1-netlink, 6.12-base, 6.12-eventq, 6.12-netlink, 7.3-base, 7.3-eventq, 7.3-netlink, 7.3-netlink-device */
#if !defined(VFIO_ACPI_WITHOUT_VFIO) && ((VFIO_ACPI_KERNEL) & 0x71dd)
VFIO_ACPI_EQUAL(VFIO_PCI_NUM_IRQS, 5); /* varies */
#endif

/* vfio: 6.1-base, 6.1-eventfd, 6.1-eventq, 6.1-netlink, 6.12-base, 6.12-eventfd, 6.12-eventq, 6.12-netlink */
#if !defined(VFIO_ACPI_WITHOUT_VFIO) && ((VFIO_ACPI_KERNEL) & 0xff)
VFIO_ACPI_EQUAL(VFIO_TYPE1_NESTING_IOMMU, 6);
#endif

/* vfio: 7.3-base, 7.3-doorbell, 7.3-eventfd, 7.3-eventfd-count, 7.3-eventq, 7.3-netlink, 7.3-netlink-device */
#if !defined(VFIO_ACPI_WITHOUT_VFIO) && ((VFIO_ACPI_KERNEL) & 0x7f00)
VFIO_ACPI_EQUAL(VFIO_DEVICE_ATTACH_PASID, 1); /* since 7.3 */
VFIO_ACPI_EQUAL(VFIO_DEVICE_BIND_FLAG_TOKEN, 1); /* since 7.3 */
VFIO_ACPI_EQUAL(VFIO_DEVICE_DETACH_PASID, 1); /* since 7.3 */
VFIO_ACPI_EQUAL(VFIO_DEVICE_FEATURE_DMA_BUF, 11); /* since 7.3 */
VFIO_ACPI_EQUAL(VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2, 12); /* since 7.3 */
VFIO_ACPI_EQUAL(VFIO_DEVICE_FEATURE_ZPCI_ERROR, 13); /* since 7.3 */
VFIO_ACPI_EQUAL(__VFIO_RESERVED_TYPE1_NESTING_IOMMU, 6); /* since 7.3 */
VFIO_ACPI_EQUAL(sizeof(struct vfio_device_attach_iommufd_pt), 16); /* since 6.12, varies */
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_attach_iommufd_pt, pasid), 12); /* since 6.12, varies */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_attach_iommufd_pt, pasid), 4); /* since 6.12, varies */
VFIO_ACPI_EQUAL(sizeof(struct vfio_device_bind_iommufd), 24); /* since 6.12, varies */
VFIO_ACPI_EQUAL(VFIO_ACPI_ALIGNMENT(struct vfio_device_bind_iommufd), 8); /* since 6.12, varies */
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_bind_iommufd, token_uuid_ptr), 16); /* since 6.12, varies */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_bind_iommufd, token_uuid_ptr), 8); /* since 6.12, varies */
VFIO_ACPI_EQUAL(sizeof(struct vfio_device_detach_iommufd_pt), 12); /* since 6.12, varies */
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_detach_iommufd_pt, pasid), 8); /* since 6.12, varies */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_detach_iommufd_pt, pasid), 4); /* since 6.12, varies */
#endif

/* vfio: 6.1-eventfd, 6.12-eventfd, 7.3-doorbell, 7.3-eventfd, 7.3-eventfd-count */
#if !defined(VFIO_ACPI_WITHOUT_VFIO) && ((VFIO_ACPI_KERNEL) & 0xe22)
VFIO_ACPI_EQUAL(VFIO_PCI_ACPI_IRQ_INDEX, 5);
VFIO_ACPI_EQUAL(VFIO_PCI_NUM_IRQS, 6); /* varies */
#endif

/* vfio: 6.1-base, 6.1-eventfd, 6.1-eventq, 6.1-netlink */
#if !defined(VFIO_ACPI_WITHOUT_VFIO) && ((VFIO_ACPI_KERNEL) & 0xf)
VFIO_ACPI_EQUAL(sizeof(struct vfio_device_info), 20); /* varies */
#endif

/* vfio: 6.12-base, 6.12-eventfd, 6.12-eventq, 6.12-netlink */
#if !defined(VFIO_ACPI_WITHOUT_VFIO) && ((VFIO_ACPI_KERNEL) & 0xf0)
VFIO_ACPI_EQUAL(sizeof(struct vfio_device_attach_iommufd_pt), 12); /* since 6.12, varies */
VFIO_ACPI_EQUAL(sizeof(struct vfio_device_bind_iommufd), 16); /* since 6.12, varies */
VFIO_ACPI_EQUAL(VFIO_ACPI_ALIGNMENT(struct vfio_device_bind_iommufd), 4); /* since 6.12, varies */
VFIO_ACPI_EQUAL(sizeof(struct vfio_device_detach_iommufd_pt), 8); /* since 6.12, varies */
#endif

/* acpi_event: 6.1-netlink, 6.12-netlink, 7.3-netlink */
#if !defined(VFIO_ACPI_WITHOUT_ACPI_EVENT) && ((VFIO_ACPI_KERNEL) & 0x2088)
VFIO_ACPI_EQUAL(ACPI_GENL_CMD_MAX, 2); /* varies */
VFIO_ACPI_EQUAL(ACPI_GENL_CMD_NOTIFY, 2);
VFIO_ACPI_EQUAL(ACPI_GENL_NOTIFY_ATTR_MAX, 4);
VFIO_ACPI_EQUAL(ACPI_GENL_NOTIFY_ATTR_PATH, 4);
VFIO_ACPI_EQUAL(ACPI_GENL_NOTIFY_ATTR_PCI_NAME, 1);
VFIO_ACPI_EQUAL(ACPI_GENL_NOTIFY_ATTR_SEQUENCE, 3);
VFIO_ACPI_EQUAL(ACPI_GENL_NOTIFY_ATTR_UNSPEC, 0);
VFIO_ACPI_EQUAL(ACPI_GENL_NOTIFY_ATTR_VALUE, 2);
VFIO_ACPI_TEXT(ACPI_GENL_NOTIFY_GROUP_NAME, "acpi_notify");
#endif

/* vfio: 6.1-eventfd, 6.12-eventfd, 7.3-eventfd */
#if !defined(VFIO_ACPI_WITHOUT_VFIO) && ((VFIO_ACPI_KERNEL) & 0x422)
VFIO_ACPI_EQUAL(VFIO_PCI_ACPI_NOTIFY_LOOPBACK, 8589934592);
VFIO_ACPI_EQUAL(VFIO_PCI_ACPI_NOTIFY_LOST_MAX, 65535);
VFIO_ACPI_EQUAL(VFIO_PCI_ACPI_NOTIFY_LOST_SHIFT, 48);
VFIO_ACPI_EQUAL(VFIO_PCI_ACPI_NOTIFY_QUEUE, 256);
VFIO_ACPI_EQUAL(VFIO_PCI_ACPI_NOTIFY_VALID, 4294967296);
VFIO_ACPI_EQUAL(VFIO_PCI_ACPI_NOTIFY_VALUE_MASK, 4294967295);
#endif

/* vfio: 6.1-eventq, 6.12-eventq, 7.3-eventq */
#if !defined(VFIO_ACPI_WITHOUT_VFIO) && ((VFIO_ACPI_KERNEL) & 0x1044)
VFIO_ACPI_EQUAL(VFIO_ACPI_NOTIFY_DEPTH_MAX, 65536);
VFIO_ACPI_EQUAL(VFIO_ACPI_NOTIFY_EVENT_LOOPBACK, 1);
VFIO_ACPI_EQUAL(VFIO_ACPI_PATH_MAX, 256);
VFIO_ACPI_EQUAL(VFIO_DEVICE_FEATURE_ACPI_NOTIFY, 14);
VFIO_ACPI_EQUAL(VFIO_DEVICE_INFO_CAP_ACPI_PATH, 6);
VFIO_ACPI_EQUAL(sizeof(struct vfio_acpi_notify_event), 16);
VFIO_ACPI_EQUAL(VFIO_ACPI_ALIGNMENT(struct vfio_acpi_notify_event), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_acpi_notify_event, flags), 0);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_acpi_notify_event, flags), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_acpi_notify_event, sequence), 4);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_acpi_notify_event, sequence), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_acpi_notify_event, value), 8);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_acpi_notify_event, value), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_acpi_notify_event, __reserved), 12);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_acpi_notify_event, __reserved), 4);
VFIO_ACPI_EQUAL(sizeof(struct vfio_device_feature_acpi_notify), 16);
VFIO_ACPI_EQUAL(VFIO_ACPI_ALIGNMENT(struct vfio_device_feature_acpi_notify), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_feature_acpi_notify, flags), 0);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_feature_acpi_notify, flags), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_feature_acpi_notify, open_flags), 4);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_feature_acpi_notify, open_flags), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_feature_acpi_notify, depth), 8);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_feature_acpi_notify, depth), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_feature_acpi_notify, value), 12);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_feature_acpi_notify, value), 4);
VFIO_ACPI_EQUAL(sizeof(struct vfio_device_info_cap_acpi_path), 12);
VFIO_ACPI_EQUAL(VFIO_ACPI_ALIGNMENT(struct vfio_device_info_cap_acpi_path), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_info_cap_acpi_path, header), 0);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_info_cap_acpi_path, header), 8);
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_info_cap_acpi_path, size), 8);
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_info_cap_acpi_path, size), 4);
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_info_cap_acpi_path, path), 12);
#endif

/* vfio: 7.3-doorbell */
#if !defined(VFIO_ACPI_WITHOUT_VFIO) && ((VFIO_ACPI_KERNEL) & 0x200)
VFIO_ACPI_EQUAL(VFIO_ACPI_PENDING_MAX, 256); /* since 7.3 */
VFIO_ACPI_EQUAL(VFIO_DEVICE_FEATURE_ACPI_PENDING, 15); /* since 7.3 */
VFIO_ACPI_EQUAL(sizeof(struct vfio_device_feature_acpi_pending), 16); /* since 7.3 */
VFIO_ACPI_EQUAL(VFIO_ACPI_ALIGNMENT(struct vfio_device_feature_acpi_pending), 4); /* since 7.3 */
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_feature_acpi_pending, flags), 0); /* since 7.3 */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_feature_acpi_pending, flags), 4); /* since 7.3 */
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_feature_acpi_pending, value), 4); /* since 7.3 */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_feature_acpi_pending, value), 4); /* since 7.3 */
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_feature_acpi_pending, sequence), 8); /* since 7.3 */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_feature_acpi_pending, sequence), 4); /* since 7.3 */
VFIO_ACPI_EQUAL(offsetof(struct vfio_device_feature_acpi_pending, lost), 12); /* since 7.3 */
VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct vfio_device_feature_acpi_pending, lost), 4); /* since 7.3 */
#endif

/* vfio: 7.3-netlink-device */
#if !defined(VFIO_ACPI_WITHOUT_VFIO) && ((VFIO_ACPI_KERNEL) & 0x4000)
VFIO_ACPI_EQUAL(VFIO_ACPI_GENL_ATTR_SEQUENCE, 2); /* since 7.3 */
VFIO_ACPI_EQUAL(VFIO_ACPI_GENL_ATTR_VALUE, 1); /* since 7.3 */
VFIO_ACPI_EQUAL(VFIO_ACPI_GENL_CMD_NOTIFY, 1); /* since 7.3 */
VFIO_ACPI_TEXT(VFIO_ACPI_GENL_GROUP_NAME, "notify"); /* since 7.3 */
VFIO_ACPI_EQUAL(VFIO_ACPI_GENL_VERSION, 1); /* since 7.3 */
#endif

#endif
