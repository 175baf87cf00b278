// SPDX-License-Identifier: GPL-2.0-only OR MIT
//
// Tests of a binding of the uAPI of VFIO and ACPI notifications on x86.
// Made from the golden JSON by `python -m uapi.vectors --write`.
//
// Include this file where the names of the binding are in scope, after a macro that tells how the
// binding gives the number of an ioctl: as a function, as here, or as a constant ($name).
//
//     use vfio_bindings::bindings::vfio::*;
//     macro_rules! vfio_acpi_ioctl { ($name:ident) => { $name() }; }
//     include!("vectors.rs");
//
// The cfg vfio_acpi selects the kernel that the binding belongs to: --cfg 'vfio_acpi="7.3-eventq"'.
// The cfg vfio_acpi_without ("vfio", "iommufd", "eventfd", "acpi_event") leaves out a part.

#[cfg(not(any(vfio_acpi = "6.1-base", vfio_acpi = "6.1-eventfd", vfio_acpi = "6.1-eventq", vfio_acpi = "6.1-netlink", vfio_acpi = "6.12-base", vfio_acpi = "6.12-eventfd", vfio_acpi = "6.12-eventq", vfio_acpi = "6.12-netlink", vfio_acpi = "7.3-base", vfio_acpi = "7.3-doorbell", vfio_acpi = "7.3-eventfd", vfio_acpi = "7.3-eventfd-count", vfio_acpi = "7.3-eventq", vfio_acpi = "7.3-netlink", vfio_acpi = "7.3-netlink-device")))]
compile_error!("the cfg vfio_acpi has to be a kernel of this file");

#[allow(unused_macros)]
macro_rules! vfio_acpi_equal {
    ($wrong:ident, $what:expr, $value:expr, $name:expr) => {
        let got = $what as i128;
        if got != $value {
            $wrong.push(format!("{} is {}, not {}", $name, got, $value));
        }
    };
}

#[allow(dead_code)]
fn vfio_acpi_member_size<S, M>(_: fn(&S) -> &M) -> usize {
    std::mem::size_of::<M>()
}

#[allow(dead_code)]
fn vfio_acpi_text<T: AsRef<[u8]> + ?Sized>(text: &T) -> String {
    String::from_utf8_lossy(text.as_ref()).trim_end_matches('\0').to_string()
}

// every kernel
#[cfg(all(any(vfio_acpi = "6.1-base", vfio_acpi = "6.1-eventfd", vfio_acpi = "6.1-eventq", vfio_acpi = "6.1-netlink", vfio_acpi = "6.12-base", vfio_acpi = "6.12-eventfd", vfio_acpi = "6.12-eventq", vfio_acpi = "6.12-netlink", vfio_acpi = "7.3-base", vfio_acpi = "7.3-doorbell", vfio_acpi = "7.3-eventfd", vfio_acpi = "7.3-eventfd-count", vfio_acpi = "7.3-eventq", vfio_acpi = "7.3-netlink", vfio_acpi = "7.3-netlink-device"), not(vfio_acpi_without = "acpi_event")))]
#[test]
fn vfio_acpi_acpi_event_1() {
    let mut wrong: Vec<String> = Vec::new();
    vfio_acpi_equal!(wrong, ACPI_GENL_ATTR_EVENT, 1, "ACPI_GENL_ATTR_EVENT");
    vfio_acpi_equal!(wrong, ACPI_GENL_ATTR_MAX, 1, "ACPI_GENL_ATTR_MAX");
    vfio_acpi_equal!(wrong, ACPI_GENL_ATTR_UNSPEC, 0, "ACPI_GENL_ATTR_UNSPEC");
    vfio_acpi_equal!(wrong, ACPI_GENL_CMD_EVENT, 1, "ACPI_GENL_CMD_EVENT");
    vfio_acpi_equal!(wrong, ACPI_GENL_CMD_UNSPEC, 0, "ACPI_GENL_CMD_UNSPEC");
    if vfio_acpi_text(ACPI_GENL_FAMILY_NAME) != "acpi_event" {
        wrong.push("ACPI_GENL_FAMILY_NAME is not acpi_event".to_string());
    }
    if vfio_acpi_text(ACPI_GENL_MCAST_GROUP_NAME) != "acpi_mc_group" {
        wrong.push("ACPI_GENL_MCAST_GROUP_NAME is not acpi_mc_group".to_string());
    }
    vfio_acpi_equal!(wrong, ACPI_GENL_VERSION, 1, "ACPI_GENL_VERSION");
    vfio_acpi_equal!(wrong, std::mem::size_of::<acpi_genl_event>(), 44, "acpi_genl_event");
    vfio_acpi_equal!(wrong, std::mem::align_of::<acpi_genl_event>(), 4, "alignment of acpi_genl_event");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(acpi_genl_event, device_class), 0, "offset of acpi_genl_event.device_class");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &acpi_genl_event| &it.device_class), 20, "size of acpi_genl_event.device_class");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(acpi_genl_event, bus_id), 20, "offset of acpi_genl_event.bus_id");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &acpi_genl_event| &it.bus_id), 15, "size of acpi_genl_event.bus_id");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(acpi_genl_event, type_), 36, "offset of acpi_genl_event.type");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &acpi_genl_event| &it.type_), 4, "size of acpi_genl_event.type");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(acpi_genl_event, data), 40, "offset of acpi_genl_event.data");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &acpi_genl_event| &it.data), 4, "size of acpi_genl_event.data");
    vfio_acpi_equal!(wrong, std::mem::size_of::<genlmsghdr>(), 4, "genlmsghdr");
    vfio_acpi_equal!(wrong, std::mem::align_of::<genlmsghdr>(), 2, "alignment of genlmsghdr");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(genlmsghdr, cmd), 0, "offset of genlmsghdr.cmd");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &genlmsghdr| &it.cmd), 1, "size of genlmsghdr.cmd");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(genlmsghdr, version), 1, "offset of genlmsghdr.version");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &genlmsghdr| &it.version), 1, "size of genlmsghdr.version");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(genlmsghdr, reserved), 2, "offset of genlmsghdr.reserved");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &genlmsghdr| &it.reserved), 2, "size of genlmsghdr.reserved");
    vfio_acpi_equal!(wrong, std::mem::size_of::<nlattr>(), 4, "nlattr");
    vfio_acpi_equal!(wrong, std::mem::align_of::<nlattr>(), 2, "alignment of nlattr");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(nlattr, nla_len), 0, "offset of nlattr.nla_len");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &nlattr| &it.nla_len), 2, "size of nlattr.nla_len");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(nlattr, nla_type), 2, "offset of nlattr.nla_type");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &nlattr| &it.nla_type), 2, "size of nlattr.nla_type");
    vfio_acpi_equal!(wrong, std::mem::size_of::<nlmsghdr>(), 16, "nlmsghdr");
    vfio_acpi_equal!(wrong, std::mem::align_of::<nlmsghdr>(), 4, "alignment of nlmsghdr");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(nlmsghdr, nlmsg_len), 0, "offset of nlmsghdr.nlmsg_len");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &nlmsghdr| &it.nlmsg_len), 4, "size of nlmsghdr.nlmsg_len");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(nlmsghdr, nlmsg_type), 4, "offset of nlmsghdr.nlmsg_type");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &nlmsghdr| &it.nlmsg_type), 2, "size of nlmsghdr.nlmsg_type");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(nlmsghdr, nlmsg_flags), 6, "offset of nlmsghdr.nlmsg_flags");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &nlmsghdr| &it.nlmsg_flags), 2, "size of nlmsghdr.nlmsg_flags");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(nlmsghdr, nlmsg_seq), 8, "offset of nlmsghdr.nlmsg_seq");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &nlmsghdr| &it.nlmsg_seq), 4, "size of nlmsghdr.nlmsg_seq");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(nlmsghdr, nlmsg_pid), 12, "offset of nlmsghdr.nlmsg_pid");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &nlmsghdr| &it.nlmsg_pid), 4, "size of nlmsghdr.nlmsg_pid");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// every kernel
#[cfg(all(any(vfio_acpi = "6.1-base", vfio_acpi = "6.1-eventfd", vfio_acpi = "6.1-eventq", vfio_acpi = "6.1-netlink", vfio_acpi = "6.12-base", vfio_acpi = "6.12-eventfd", vfio_acpi = "6.12-eventq", vfio_acpi = "6.12-netlink", vfio_acpi = "7.3-base", vfio_acpi = "7.3-doorbell", vfio_acpi = "7.3-eventfd", vfio_acpi = "7.3-eventfd-count", vfio_acpi = "7.3-eventq", vfio_acpi = "7.3-netlink", vfio_acpi = "7.3-netlink-device"), not(vfio_acpi_without = "eventfd")))]
#[test]
fn vfio_acpi_eventfd_2() {
    let mut wrong: Vec<String> = Vec::new();
    vfio_acpi_equal!(wrong, EFD_CLOEXEC, 524288, "EFD_CLOEXEC");
    vfio_acpi_equal!(wrong, EFD_NONBLOCK, 2048, "EFD_NONBLOCK");
    vfio_acpi_equal!(wrong, EFD_SEMAPHORE, 1, "EFD_SEMAPHORE");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// every kernel
#[cfg(all(any(vfio_acpi = "6.1-base", vfio_acpi = "6.1-eventfd", vfio_acpi = "6.1-eventq", vfio_acpi = "6.1-netlink", vfio_acpi = "6.12-base", vfio_acpi = "6.12-eventfd", vfio_acpi = "6.12-eventq", vfio_acpi = "6.12-netlink", vfio_acpi = "7.3-base", vfio_acpi = "7.3-doorbell", vfio_acpi = "7.3-eventfd", vfio_acpi = "7.3-eventfd-count", vfio_acpi = "7.3-eventq", vfio_acpi = "7.3-netlink", vfio_acpi = "7.3-netlink-device"), not(vfio_acpi_without = "vfio")))]
#[test]
fn vfio_acpi_vfio_3() {
    let mut wrong: Vec<String> = Vec::new();
    vfio_acpi_equal!(wrong, VFIO_API_VERSION, 0, "VFIO_API_VERSION");
    vfio_acpi_equal!(wrong, VFIO_BASE, 100, "VFIO_BASE");
    vfio_acpi_equal!(wrong, vfio_acpi_ioctl!(VFIO_CHECK_EXTENSION), 15205, "VFIO_CHECK_EXTENSION");
    vfio_acpi_equal!(wrong, vfio_acpi_ioctl!(VFIO_DEVICE_FEATURE), 15221, "VFIO_DEVICE_FEATURE");
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, 8, "VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT");
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FEATURE_DMA_LOGGING_START, 6, "VFIO_DEVICE_FEATURE_DMA_LOGGING_START");
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, 7, "VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP");
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FEATURE_GET, 65536, "VFIO_DEVICE_FEATURE_GET");
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, 3, "VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY");
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP, 4, "VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP");
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FEATURE_LOW_POWER_EXIT, 5, "VFIO_DEVICE_FEATURE_LOW_POWER_EXIT");
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FEATURE_MASK, 65535, "VFIO_DEVICE_FEATURE_MASK");
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FEATURE_MIGRATION, 1, "VFIO_DEVICE_FEATURE_MIGRATION");
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, 2, "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE");
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FEATURE_PCI_VF_TOKEN, 0, "VFIO_DEVICE_FEATURE_PCI_VF_TOKEN");
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FEATURE_PROBE, 262144, "VFIO_DEVICE_FEATURE_PROBE");
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FEATURE_SET, 131072, "VFIO_DEVICE_FEATURE_SET");
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FLAGS_AMBA, 8, "VFIO_DEVICE_FLAGS_AMBA");
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FLAGS_AP, 32, "VFIO_DEVICE_FLAGS_AP");
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FLAGS_CAPS, 128, "VFIO_DEVICE_FLAGS_CAPS");
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FLAGS_CCW, 16, "VFIO_DEVICE_FLAGS_CCW");
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FLAGS_FSL_MC, 64, "VFIO_DEVICE_FLAGS_FSL_MC");
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FLAGS_PCI, 2, "VFIO_DEVICE_FLAGS_PCI");
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FLAGS_PLATFORM, 4, "VFIO_DEVICE_FLAGS_PLATFORM");
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FLAGS_RESET, 1, "VFIO_DEVICE_FLAGS_RESET");
    vfio_acpi_equal!(wrong, vfio_acpi_ioctl!(VFIO_DEVICE_GET_INFO), 15211, "VFIO_DEVICE_GET_INFO");
    vfio_acpi_equal!(wrong, vfio_acpi_ioctl!(VFIO_DEVICE_GET_IRQ_INFO), 15213, "VFIO_DEVICE_GET_IRQ_INFO");
    vfio_acpi_equal!(wrong, vfio_acpi_ioctl!(VFIO_DEVICE_RESET), 15215, "VFIO_DEVICE_RESET");
    vfio_acpi_equal!(wrong, vfio_acpi_ioctl!(VFIO_DEVICE_SET_IRQS), 15214, "VFIO_DEVICE_SET_IRQS");
    vfio_acpi_equal!(wrong, VFIO_DMA_CC_IOMMU, 4, "VFIO_DMA_CC_IOMMU");
    vfio_acpi_equal!(wrong, VFIO_EEH, 5, "VFIO_EEH");
    vfio_acpi_equal!(wrong, vfio_acpi_ioctl!(VFIO_GET_API_VERSION), 15204, "VFIO_GET_API_VERSION");
    vfio_acpi_equal!(wrong, VFIO_GROUP_FLAGS_CONTAINER_SET, 2, "VFIO_GROUP_FLAGS_CONTAINER_SET");
    vfio_acpi_equal!(wrong, VFIO_GROUP_FLAGS_VIABLE, 1, "VFIO_GROUP_FLAGS_VIABLE");
    vfio_acpi_equal!(wrong, vfio_acpi_ioctl!(VFIO_GROUP_GET_DEVICE_FD), 15210, "VFIO_GROUP_GET_DEVICE_FD");
    vfio_acpi_equal!(wrong, vfio_acpi_ioctl!(VFIO_GROUP_GET_STATUS), 15207, "VFIO_GROUP_GET_STATUS");
    vfio_acpi_equal!(wrong, vfio_acpi_ioctl!(VFIO_GROUP_SET_CONTAINER), 15208, "VFIO_GROUP_SET_CONTAINER");
    vfio_acpi_equal!(wrong, vfio_acpi_ioctl!(VFIO_GROUP_UNSET_CONTAINER), 15209, "VFIO_GROUP_UNSET_CONTAINER");
    vfio_acpi_equal!(wrong, VFIO_IRQ_INFO_AUTOMASKED, 4, "VFIO_IRQ_INFO_AUTOMASKED");
    vfio_acpi_equal!(wrong, VFIO_IRQ_INFO_EVENTFD, 1, "VFIO_IRQ_INFO_EVENTFD");
    vfio_acpi_equal!(wrong, VFIO_IRQ_INFO_MASKABLE, 2, "VFIO_IRQ_INFO_MASKABLE");
    vfio_acpi_equal!(wrong, VFIO_IRQ_INFO_NORESIZE, 8, "VFIO_IRQ_INFO_NORESIZE");
    vfio_acpi_equal!(wrong, VFIO_IRQ_SET_ACTION_MASK, 8, "VFIO_IRQ_SET_ACTION_MASK");
    vfio_acpi_equal!(wrong, VFIO_IRQ_SET_ACTION_TRIGGER, 32, "VFIO_IRQ_SET_ACTION_TRIGGER");
    vfio_acpi_equal!(wrong, VFIO_IRQ_SET_ACTION_TYPE_MASK, 56, "VFIO_IRQ_SET_ACTION_TYPE_MASK");
    vfio_acpi_equal!(wrong, VFIO_IRQ_SET_ACTION_UNMASK, 16, "VFIO_IRQ_SET_ACTION_UNMASK");
    vfio_acpi_equal!(wrong, VFIO_IRQ_SET_DATA_BOOL, 2, "VFIO_IRQ_SET_DATA_BOOL");
    vfio_acpi_equal!(wrong, VFIO_IRQ_SET_DATA_EVENTFD, 4, "VFIO_IRQ_SET_DATA_EVENTFD");
    vfio_acpi_equal!(wrong, VFIO_IRQ_SET_DATA_NONE, 1, "VFIO_IRQ_SET_DATA_NONE");
    vfio_acpi_equal!(wrong, VFIO_IRQ_SET_DATA_TYPE_MASK, 7, "VFIO_IRQ_SET_DATA_TYPE_MASK");
    vfio_acpi_equal!(wrong, VFIO_NOIOMMU_IOMMU, 8, "VFIO_NOIOMMU_IOMMU");
    vfio_acpi_equal!(wrong, VFIO_PCI_ERR_IRQ_INDEX, 3, "VFIO_PCI_ERR_IRQ_INDEX");
    vfio_acpi_equal!(wrong, VFIO_PCI_INTX_IRQ_INDEX, 0, "VFIO_PCI_INTX_IRQ_INDEX");
    vfio_acpi_equal!(wrong, VFIO_PCI_MSIX_IRQ_INDEX, 2, "VFIO_PCI_MSIX_IRQ_INDEX");
    vfio_acpi_equal!(wrong, VFIO_PCI_MSI_IRQ_INDEX, 1, "VFIO_PCI_MSI_IRQ_INDEX");
    vfio_acpi_equal!(wrong, VFIO_PCI_REQ_IRQ_INDEX, 4, "VFIO_PCI_REQ_IRQ_INDEX");
    vfio_acpi_equal!(wrong, vfio_acpi_ioctl!(VFIO_SET_IOMMU), 15206, "VFIO_SET_IOMMU");
    vfio_acpi_equal!(wrong, VFIO_SPAPR_TCE_IOMMU, 2, "VFIO_SPAPR_TCE_IOMMU");
    vfio_acpi_equal!(wrong, VFIO_SPAPR_TCE_v2_IOMMU, 7, "VFIO_SPAPR_TCE_v2_IOMMU");
    vfio_acpi_equal!(wrong, VFIO_TYPE, 59, "VFIO_TYPE");
    vfio_acpi_equal!(wrong, VFIO_TYPE1_IOMMU, 1, "VFIO_TYPE1_IOMMU");
    vfio_acpi_equal!(wrong, VFIO_TYPE1v2_IOMMU, 3, "VFIO_TYPE1v2_IOMMU");
    vfio_acpi_equal!(wrong, VFIO_UNMAP_ALL, 9, "VFIO_UNMAP_ALL");
    vfio_acpi_equal!(wrong, VFIO_UPDATE_VADDR, 10, "VFIO_UPDATE_VADDR");
    vfio_acpi_equal!(wrong, std::mem::size_of::<vfio_device_feature>(), 8, "vfio_device_feature");
    vfio_acpi_equal!(wrong, std::mem::align_of::<vfio_device_feature>(), 4, "alignment of vfio_device_feature");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_feature, argsz), 0, "offset of vfio_device_feature.argsz");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_feature| &it.argsz), 4, "size of vfio_device_feature.argsz");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_feature, flags), 4, "offset of vfio_device_feature.flags");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_feature| &it.flags), 4, "size of vfio_device_feature.flags");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_feature, data), 8, "offset of vfio_device_feature.data");
    vfio_acpi_equal!(wrong, std::mem::align_of::<vfio_device_info>(), 4, "alignment of vfio_device_info"); // varies
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_info, argsz), 0, "offset of vfio_device_info.argsz"); // varies
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_info| &it.argsz), 4, "size of vfio_device_info.argsz"); // varies
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_info, flags), 4, "offset of vfio_device_info.flags"); // varies
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_info| &it.flags), 4, "size of vfio_device_info.flags"); // varies
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_info, num_regions), 8, "offset of vfio_device_info.num_regions"); // varies
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_info| &it.num_regions), 4, "size of vfio_device_info.num_regions"); // varies
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_info, num_irqs), 12, "offset of vfio_device_info.num_irqs"); // varies
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_info| &it.num_irqs), 4, "size of vfio_device_info.num_irqs"); // varies
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_info, cap_offset), 16, "offset of vfio_device_info.cap_offset"); // varies
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_info| &it.cap_offset), 4, "size of vfio_device_info.cap_offset"); // varies
    vfio_acpi_equal!(wrong, std::mem::size_of::<vfio_group_status>(), 8, "vfio_group_status");
    vfio_acpi_equal!(wrong, std::mem::align_of::<vfio_group_status>(), 4, "alignment of vfio_group_status");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_group_status, argsz), 0, "offset of vfio_group_status.argsz");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_group_status| &it.argsz), 4, "size of vfio_group_status.argsz");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_group_status, flags), 4, "offset of vfio_group_status.flags");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_group_status| &it.flags), 4, "size of vfio_group_status.flags");
    vfio_acpi_equal!(wrong, std::mem::size_of::<vfio_info_cap_header>(), 8, "vfio_info_cap_header");
    vfio_acpi_equal!(wrong, std::mem::align_of::<vfio_info_cap_header>(), 4, "alignment of vfio_info_cap_header");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_info_cap_header, id), 0, "offset of vfio_info_cap_header.id");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_info_cap_header| &it.id), 2, "size of vfio_info_cap_header.id");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_info_cap_header, version), 2, "offset of vfio_info_cap_header.version");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_info_cap_header| &it.version), 2, "size of vfio_info_cap_header.version");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_info_cap_header, next), 4, "offset of vfio_info_cap_header.next");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_info_cap_header| &it.next), 4, "size of vfio_info_cap_header.next");
    vfio_acpi_equal!(wrong, std::mem::size_of::<vfio_irq_info>(), 16, "vfio_irq_info");
    vfio_acpi_equal!(wrong, std::mem::align_of::<vfio_irq_info>(), 4, "alignment of vfio_irq_info");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_irq_info, argsz), 0, "offset of vfio_irq_info.argsz");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_irq_info| &it.argsz), 4, "size of vfio_irq_info.argsz");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_irq_info, flags), 4, "offset of vfio_irq_info.flags");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_irq_info| &it.flags), 4, "size of vfio_irq_info.flags");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_irq_info, index), 8, "offset of vfio_irq_info.index");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_irq_info| &it.index), 4, "size of vfio_irq_info.index");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_irq_info, count), 12, "offset of vfio_irq_info.count");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_irq_info| &it.count), 4, "size of vfio_irq_info.count");
    vfio_acpi_equal!(wrong, std::mem::size_of::<vfio_irq_set>(), 20, "vfio_irq_set");
    vfio_acpi_equal!(wrong, std::mem::align_of::<vfio_irq_set>(), 4, "alignment of vfio_irq_set");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_irq_set, argsz), 0, "offset of vfio_irq_set.argsz");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_irq_set| &it.argsz), 4, "size of vfio_irq_set.argsz");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_irq_set, flags), 4, "offset of vfio_irq_set.flags");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_irq_set| &it.flags), 4, "size of vfio_irq_set.flags");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_irq_set, index), 8, "offset of vfio_irq_set.index");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_irq_set| &it.index), 4, "size of vfio_irq_set.index");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_irq_set, start), 12, "offset of vfio_irq_set.start");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_irq_set| &it.start), 4, "size of vfio_irq_set.start");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_irq_set, count), 16, "offset of vfio_irq_set.count");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_irq_set| &it.count), 4, "size of vfio_irq_set.count");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_irq_set, data), 20, "offset of vfio_irq_set.data");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// 6.1-base, 6.1-eventfd, 6.1-eventq, 6.12-base, 6.12-eventfd, 6.12-eventq, 7.3-base, 7.3-doorbell, 7.3-eventfd, 7.3-eventfd-count, 7.3-eventq, 7.3-netlink-device
#[cfg(all(any(vfio_acpi = "6.1-base", vfio_acpi = "6.1-eventfd", vfio_acpi = "6.1-eventq", vfio_acpi = "6.12-base", vfio_acpi = "6.12-eventfd", vfio_acpi = "6.12-eventq", vfio_acpi = "7.3-base", vfio_acpi = "7.3-doorbell", vfio_acpi = "7.3-eventfd", vfio_acpi = "7.3-eventfd-count", vfio_acpi = "7.3-eventq", vfio_acpi = "7.3-netlink-device"), not(vfio_acpi_without = "acpi_event")))]
#[test]
fn vfio_acpi_acpi_event_4() {
    let mut wrong: Vec<String> = Vec::new();
    vfio_acpi_equal!(wrong, ACPI_GENL_CMD_MAX, 1, "ACPI_GENL_CMD_MAX"); // varies
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// 6.12-base, 6.12-eventfd, 6.12-eventq, 6.12-netlink, 7.3-base, 7.3-doorbell, 7.3-eventfd, 7.3-eventfd-count, 7.3-eventq, 7.3-netlink, 7.3-netlink-device
#[cfg(all(any(vfio_acpi = "6.12-base", vfio_acpi = "6.12-eventfd", vfio_acpi = "6.12-eventq", vfio_acpi = "6.12-netlink", vfio_acpi = "7.3-base", vfio_acpi = "7.3-doorbell", vfio_acpi = "7.3-eventfd", vfio_acpi = "7.3-eventfd-count", vfio_acpi = "7.3-eventq", vfio_acpi = "7.3-netlink", vfio_acpi = "7.3-netlink-device"), not(vfio_acpi_without = "iommufd")))]
#[test]
fn vfio_acpi_iommufd_5() {
    let mut wrong: Vec<String> = Vec::new();
    vfio_acpi_equal!(wrong, IOMMUFD_CMD_BASE, 128, "IOMMUFD_CMD_BASE"); // since 6.12
    vfio_acpi_equal!(wrong, IOMMUFD_CMD_DESTROY, 128, "IOMMUFD_CMD_DESTROY"); // since 6.12
    vfio_acpi_equal!(wrong, IOMMUFD_CMD_IOAS_ALLOC, 129, "IOMMUFD_CMD_IOAS_ALLOC"); // since 6.12
    vfio_acpi_equal!(wrong, IOMMUFD_TYPE, 59, "IOMMUFD_TYPE"); // since 6.12
    vfio_acpi_equal!(wrong, vfio_acpi_ioctl!(IOMMU_DESTROY), 15232, "IOMMU_DESTROY"); // since 6.12
    vfio_acpi_equal!(wrong, vfio_acpi_ioctl!(IOMMU_IOAS_ALLOC), 15233, "IOMMU_IOAS_ALLOC"); // since 6.12
    vfio_acpi_equal!(wrong, std::mem::size_of::<iommu_destroy>(), 8, "iommu_destroy"); // since 6.12
    vfio_acpi_equal!(wrong, std::mem::align_of::<iommu_destroy>(), 4, "alignment of iommu_destroy"); // since 6.12
    vfio_acpi_equal!(wrong, std::mem::offset_of!(iommu_destroy, size), 0, "offset of iommu_destroy.size"); // since 6.12
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &iommu_destroy| &it.size), 4, "size of iommu_destroy.size"); // since 6.12
    vfio_acpi_equal!(wrong, std::mem::offset_of!(iommu_destroy, id), 4, "offset of iommu_destroy.id"); // since 6.12
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &iommu_destroy| &it.id), 4, "size of iommu_destroy.id"); // since 6.12
    vfio_acpi_equal!(wrong, std::mem::size_of::<iommu_ioas_alloc>(), 12, "iommu_ioas_alloc"); // since 6.12
    vfio_acpi_equal!(wrong, std::mem::align_of::<iommu_ioas_alloc>(), 4, "alignment of iommu_ioas_alloc"); // since 6.12
    vfio_acpi_equal!(wrong, std::mem::offset_of!(iommu_ioas_alloc, size), 0, "offset of iommu_ioas_alloc.size"); // since 6.12
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &iommu_ioas_alloc| &it.size), 4, "size of iommu_ioas_alloc.size"); // since 6.12
    vfio_acpi_equal!(wrong, std::mem::offset_of!(iommu_ioas_alloc, flags), 4, "offset of iommu_ioas_alloc.flags"); // since 6.12
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &iommu_ioas_alloc| &it.flags), 4, "size of iommu_ioas_alloc.flags"); // since 6.12
    vfio_acpi_equal!(wrong, std::mem::offset_of!(iommu_ioas_alloc, out_ioas_id), 8, "offset of iommu_ioas_alloc.out_ioas_id"); // since 6.12
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &iommu_ioas_alloc| &it.out_ioas_id), 4, "size of iommu_ioas_alloc.out_ioas_id"); // since 6.12
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// 6.12-base, 6.12-eventfd, 6.12-eventq, 6.12-netlink, 7.3-base, 7.3-doorbell, 7.3-eventfd, 7.3-eventfd-count, 7.3-eventq, 7.3-netlink, 7.3-netlink-device
#[cfg(all(any(vfio_acpi = "6.12-base", vfio_acpi = "6.12-eventfd", vfio_acpi = "6.12-eventq", vfio_acpi = "6.12-netlink", vfio_acpi = "7.3-base", vfio_acpi = "7.3-doorbell", vfio_acpi = "7.3-eventfd", vfio_acpi = "7.3-eventfd-count", vfio_acpi = "7.3-eventq", vfio_acpi = "7.3-netlink", vfio_acpi = "7.3-netlink-device"), not(vfio_acpi_without = "vfio")))]
#[test]
fn vfio_acpi_vfio_6() {
    let mut wrong: Vec<String> = Vec::new();
    vfio_acpi_equal!(wrong, vfio_acpi_ioctl!(VFIO_DEVICE_ATTACH_IOMMUFD_PT), 15223, "VFIO_DEVICE_ATTACH_IOMMUFD_PT"); // since 6.12
    vfio_acpi_equal!(wrong, vfio_acpi_ioctl!(VFIO_DEVICE_BIND_IOMMUFD), 15222, "VFIO_DEVICE_BIND_IOMMUFD"); // since 6.12
    vfio_acpi_equal!(wrong, vfio_acpi_ioctl!(VFIO_DEVICE_DETACH_IOMMUFD_PT), 15224, "VFIO_DEVICE_DETACH_IOMMUFD_PT"); // since 6.12
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FEATURE_BUS_MASTER, 10, "VFIO_DEVICE_FEATURE_BUS_MASTER"); // since 6.12
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FEATURE_CLEAR_MASTER, 0, "VFIO_DEVICE_FEATURE_CLEAR_MASTER"); // since 6.12
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, 9, "VFIO_DEVICE_FEATURE_MIG_DATA_SIZE"); // since 6.12
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FEATURE_SET_MASTER, 1, "VFIO_DEVICE_FEATURE_SET_MASTER"); // since 6.12
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FLAGS_CDX, 256, "VFIO_DEVICE_FLAGS_CDX"); // since 6.12
    vfio_acpi_equal!(wrong, std::mem::align_of::<vfio_device_attach_iommufd_pt>(), 4, "alignment of vfio_device_attach_iommufd_pt"); // since 6.12, varies
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_attach_iommufd_pt, argsz), 0, "offset of vfio_device_attach_iommufd_pt.argsz"); // since 6.12, varies
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_attach_iommufd_pt| &it.argsz), 4, "size of vfio_device_attach_iommufd_pt.argsz"); // since 6.12, varies
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_attach_iommufd_pt, flags), 4, "offset of vfio_device_attach_iommufd_pt.flags"); // since 6.12, varies
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_attach_iommufd_pt| &it.flags), 4, "size of vfio_device_attach_iommufd_pt.flags"); // since 6.12, varies
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_attach_iommufd_pt, pt_id), 8, "offset of vfio_device_attach_iommufd_pt.pt_id"); // since 6.12, varies
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_attach_iommufd_pt| &it.pt_id), 4, "size of vfio_device_attach_iommufd_pt.pt_id"); // since 6.12, varies
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_bind_iommufd, argsz), 0, "offset of vfio_device_bind_iommufd.argsz"); // since 6.12, varies
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_bind_iommufd| &it.argsz), 4, "size of vfio_device_bind_iommufd.argsz"); // since 6.12, varies
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_bind_iommufd, flags), 4, "offset of vfio_device_bind_iommufd.flags"); // since 6.12, varies
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_bind_iommufd| &it.flags), 4, "size of vfio_device_bind_iommufd.flags"); // since 6.12, varies
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_bind_iommufd, iommufd), 8, "offset of vfio_device_bind_iommufd.iommufd"); // since 6.12, varies
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_bind_iommufd| &it.iommufd), 4, "size of vfio_device_bind_iommufd.iommufd"); // since 6.12, varies
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_bind_iommufd, out_devid), 12, "offset of vfio_device_bind_iommufd.out_devid"); // since 6.12, varies
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_bind_iommufd| &it.out_devid), 4, "size of vfio_device_bind_iommufd.out_devid"); // since 6.12, varies
    vfio_acpi_equal!(wrong, std::mem::align_of::<vfio_device_detach_iommufd_pt>(), 4, "alignment of vfio_device_detach_iommufd_pt"); // since 6.12, varies
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_detach_iommufd_pt, argsz), 0, "offset of vfio_device_detach_iommufd_pt.argsz"); // since 6.12, varies
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_detach_iommufd_pt| &it.argsz), 4, "size of vfio_device_detach_iommufd_pt.argsz"); // since 6.12, varies
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_detach_iommufd_pt, flags), 4, "offset of vfio_device_detach_iommufd_pt.flags"); // since 6.12, varies
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_detach_iommufd_pt| &it.flags), 4, "size of vfio_device_detach_iommufd_pt.flags"); // since 6.12, varies
    vfio_acpi_equal!(wrong, std::mem::size_of::<vfio_device_info>(), 24, "vfio_device_info"); // varies
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_info, pad), 20, "offset of vfio_device_info.pad"); // varies
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_info| &it.pad), 4, "size of vfio_device_info.pad"); // varies
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// 6.1-base, 6.1-eventq, 6.1-netlink, 6.12-base, 6.12-eventq, 6.12-netlink, 7.3-base, 7.3-eventq, 7.3-netlink, 7.3-netlink-device
#[cfg(all(any(vfio_acpi = "6.1-base", vfio_acpi = "6.1-eventq", vfio_acpi = "6.1-netlink", vfio_acpi = "6.12-base", vfio_acpi = "6.12-eventq", vfio_acpi = "6.12-netlink", vfio_acpi = "7.3-base", vfio_acpi = "7.3-eventq", vfio_acpi = "7.3-netlink", vfio_acpi = "7.3-netlink-device"), not(vfio_acpi_without = "vfio")))]
#[test]
fn vfio_acpi_vfio_7() {
    let mut wrong: Vec<String> = Vec::new();
    vfio_acpi_equal!(wrong, VFIO_PCI_NUM_IRQS, 5, "VFIO_PCI_NUM_IRQS"); // varies
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// 6.1-base, 6.1-eventfd, 6.1-eventq, 6.1-netlink, 6.12-base, 6.12-eventfd, 6.12-eventq, 6.12-netlink
#[cfg(all(any(vfio_acpi = "6.1-base", vfio_acpi = "6.1-eventfd", vfio_acpi = "6.1-eventq", vfio_acpi = "6.1-netlink", vfio_acpi = "6.12-base", vfio_acpi = "6.12-eventfd", vfio_acpi = "6.12-eventq", vfio_acpi = "6.12-netlink"), not(vfio_acpi_without = "vfio")))]
#[test]
fn vfio_acpi_vfio_8() {
    let mut wrong: Vec<String> = Vec::new();
    vfio_acpi_equal!(wrong, VFIO_TYPE1_NESTING_IOMMU, 6, "VFIO_TYPE1_NESTING_IOMMU");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// 7.3-base, 7.3-doorbell, 7.3-eventfd, 7.3-eventfd-count, 7.3-eventq, 7.3-netlink, 7.3-netlink-device
#[cfg(all(any(vfio_acpi = "7.3-base", vfio_acpi = "7.3-doorbell", vfio_acpi = "7.3-eventfd", vfio_acpi = "7.3-eventfd-count", vfio_acpi = "7.3-eventq", vfio_acpi = "7.3-netlink", vfio_acpi = "7.3-netlink-device"), not(vfio_acpi_without = "vfio")))]
#[test]
fn vfio_acpi_vfio_9() {
    let mut wrong: Vec<String> = Vec::new();
    vfio_acpi_equal!(wrong, VFIO_DEVICE_ATTACH_PASID, 1, "VFIO_DEVICE_ATTACH_PASID"); // since 7.3
    vfio_acpi_equal!(wrong, VFIO_DEVICE_BIND_FLAG_TOKEN, 1, "VFIO_DEVICE_BIND_FLAG_TOKEN"); // since 7.3
    vfio_acpi_equal!(wrong, VFIO_DEVICE_DETACH_PASID, 1, "VFIO_DEVICE_DETACH_PASID"); // since 7.3
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FEATURE_DMA_BUF, 11, "VFIO_DEVICE_FEATURE_DMA_BUF"); // since 7.3
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2, 12, "VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2"); // since 7.3
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FEATURE_ZPCI_ERROR, 13, "VFIO_DEVICE_FEATURE_ZPCI_ERROR"); // since 7.3
    vfio_acpi_equal!(wrong, __VFIO_RESERVED_TYPE1_NESTING_IOMMU, 6, "__VFIO_RESERVED_TYPE1_NESTING_IOMMU"); // since 7.3
    vfio_acpi_equal!(wrong, std::mem::size_of::<vfio_device_attach_iommufd_pt>(), 16, "vfio_device_attach_iommufd_pt"); // since 6.12, varies
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_attach_iommufd_pt, pasid), 12, "offset of vfio_device_attach_iommufd_pt.pasid"); // since 6.12, varies
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_attach_iommufd_pt| &it.pasid), 4, "size of vfio_device_attach_iommufd_pt.pasid"); // since 6.12, varies
    vfio_acpi_equal!(wrong, std::mem::size_of::<vfio_device_bind_iommufd>(), 24, "vfio_device_bind_iommufd"); // since 6.12, varies
    vfio_acpi_equal!(wrong, std::mem::align_of::<vfio_device_bind_iommufd>(), 8, "alignment of vfio_device_bind_iommufd"); // since 6.12, varies
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_bind_iommufd, token_uuid_ptr), 16, "offset of vfio_device_bind_iommufd.token_uuid_ptr"); // since 6.12, varies
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_bind_iommufd| &it.token_uuid_ptr), 8, "size of vfio_device_bind_iommufd.token_uuid_ptr"); // since 6.12, varies
    vfio_acpi_equal!(wrong, std::mem::size_of::<vfio_device_detach_iommufd_pt>(), 12, "vfio_device_detach_iommufd_pt"); // since 6.12, varies
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_detach_iommufd_pt, pasid), 8, "offset of vfio_device_detach_iommufd_pt.pasid"); // since 6.12, varies
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_detach_iommufd_pt| &it.pasid), 4, "size of vfio_device_detach_iommufd_pt.pasid"); // since 6.12, varies
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// 6.1-eventfd, 6.12-eventfd, 7.3-doorbell, 7.3-eventfd, 7.3-eventfd-count
#[cfg(all(any(vfio_acpi = "6.1-eventfd", vfio_acpi = "6.12-eventfd", vfio_acpi = "7.3-doorbell", vfio_acpi = "7.3-eventfd", vfio_acpi = "7.3-eventfd-count"), not(vfio_acpi_without = "vfio")))]
#[test]
fn vfio_acpi_vfio_10() {
    let mut wrong: Vec<String> = Vec::new();
    vfio_acpi_equal!(wrong, VFIO_PCI_ACPI_IRQ_INDEX, 5, "VFIO_PCI_ACPI_IRQ_INDEX");
    vfio_acpi_equal!(wrong, VFIO_PCI_NUM_IRQS, 6, "VFIO_PCI_NUM_IRQS"); // varies
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// 6.1-base, 6.1-eventfd, 6.1-eventq, 6.1-netlink
#[cfg(all(any(vfio_acpi = "6.1-base", vfio_acpi = "6.1-eventfd", vfio_acpi = "6.1-eventq", vfio_acpi = "6.1-netlink"), not(vfio_acpi_without = "vfio")))]
#[test]
fn vfio_acpi_vfio_11() {
    let mut wrong: Vec<String> = Vec::new();
    vfio_acpi_equal!(wrong, std::mem::size_of::<vfio_device_info>(), 20, "vfio_device_info"); // varies
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// 6.12-base, 6.12-eventfd, 6.12-eventq, 6.12-netlink
#[cfg(all(any(vfio_acpi = "6.12-base", vfio_acpi = "6.12-eventfd", vfio_acpi = "6.12-eventq", vfio_acpi = "6.12-netlink"), not(vfio_acpi_without = "vfio")))]
#[test]
fn vfio_acpi_vfio_12() {
    let mut wrong: Vec<String> = Vec::new();
    vfio_acpi_equal!(wrong, std::mem::size_of::<vfio_device_attach_iommufd_pt>(), 12, "vfio_device_attach_iommufd_pt"); // since 6.12, varies
    vfio_acpi_equal!(wrong, std::mem::size_of::<vfio_device_bind_iommufd>(), 16, "vfio_device_bind_iommufd"); // since 6.12, varies
    vfio_acpi_equal!(wrong, std::mem::align_of::<vfio_device_bind_iommufd>(), 4, "alignment of vfio_device_bind_iommufd"); // since 6.12, varies
    vfio_acpi_equal!(wrong, std::mem::size_of::<vfio_device_detach_iommufd_pt>(), 8, "vfio_device_detach_iommufd_pt"); // since 6.12, varies
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// 6.1-netlink, 6.12-netlink, 7.3-netlink
#[cfg(all(any(vfio_acpi = "6.1-netlink", vfio_acpi = "6.12-netlink", vfio_acpi = "7.3-netlink"), not(vfio_acpi_without = "acpi_event")))]
#[test]
fn vfio_acpi_acpi_event_13() {
    let mut wrong: Vec<String> = Vec::new();
    vfio_acpi_equal!(wrong, ACPI_GENL_CMD_MAX, 2, "ACPI_GENL_CMD_MAX"); // varies
    vfio_acpi_equal!(wrong, ACPI_GENL_CMD_NOTIFY, 2, "ACPI_GENL_CMD_NOTIFY");
    vfio_acpi_equal!(wrong, ACPI_GENL_NOTIFY_ATTR_MAX, 4, "ACPI_GENL_NOTIFY_ATTR_MAX");
    vfio_acpi_equal!(wrong, ACPI_GENL_NOTIFY_ATTR_PATH, 4, "ACPI_GENL_NOTIFY_ATTR_PATH");
    vfio_acpi_equal!(wrong, ACPI_GENL_NOTIFY_ATTR_PCI_NAME, 1, "ACPI_GENL_NOTIFY_ATTR_PCI_NAME");
    vfio_acpi_equal!(wrong, ACPI_GENL_NOTIFY_ATTR_SEQUENCE, 3, "ACPI_GENL_NOTIFY_ATTR_SEQUENCE");
    vfio_acpi_equal!(wrong, ACPI_GENL_NOTIFY_ATTR_UNSPEC, 0, "ACPI_GENL_NOTIFY_ATTR_UNSPEC");
    vfio_acpi_equal!(wrong, ACPI_GENL_NOTIFY_ATTR_VALUE, 2, "ACPI_GENL_NOTIFY_ATTR_VALUE");
    if vfio_acpi_text(ACPI_GENL_NOTIFY_GROUP_NAME) != "acpi_notify" {
        wrong.push("ACPI_GENL_NOTIFY_GROUP_NAME is not acpi_notify".to_string());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// 6.1-eventfd, 6.12-eventfd, 7.3-eventfd
#[cfg(all(any(vfio_acpi = "6.1-eventfd", vfio_acpi = "6.12-eventfd", vfio_acpi = "7.3-eventfd"), not(vfio_acpi_without = "vfio")))]
#[test]
fn vfio_acpi_vfio_14() {
    let mut wrong: Vec<String> = Vec::new();
    vfio_acpi_equal!(wrong, VFIO_PCI_ACPI_NOTIFY_LOOPBACK, 8589934592, "VFIO_PCI_ACPI_NOTIFY_LOOPBACK");
    vfio_acpi_equal!(wrong, VFIO_PCI_ACPI_NOTIFY_LOST_MAX, 65535, "VFIO_PCI_ACPI_NOTIFY_LOST_MAX");
    vfio_acpi_equal!(wrong, VFIO_PCI_ACPI_NOTIFY_LOST_SHIFT, 48, "VFIO_PCI_ACPI_NOTIFY_LOST_SHIFT");
    vfio_acpi_equal!(wrong, VFIO_PCI_ACPI_NOTIFY_QUEUE, 256, "VFIO_PCI_ACPI_NOTIFY_QUEUE");
    vfio_acpi_equal!(wrong, VFIO_PCI_ACPI_NOTIFY_VALID, 4294967296, "VFIO_PCI_ACPI_NOTIFY_VALID");
    vfio_acpi_equal!(wrong, VFIO_PCI_ACPI_NOTIFY_VALUE_MASK, 4294967295, "VFIO_PCI_ACPI_NOTIFY_VALUE_MASK");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// 6.1-eventq, 6.12-eventq, 7.3-eventq
#[cfg(all(any(vfio_acpi = "6.1-eventq", vfio_acpi = "6.12-eventq", vfio_acpi = "7.3-eventq"), not(vfio_acpi_without = "vfio")))]
#[test]
fn vfio_acpi_vfio_15() {
    let mut wrong: Vec<String> = Vec::new();
    vfio_acpi_equal!(wrong, VFIO_ACPI_NOTIFY_DEPTH_MAX, 65536, "VFIO_ACPI_NOTIFY_DEPTH_MAX");
    vfio_acpi_equal!(wrong, VFIO_ACPI_NOTIFY_EVENT_LOOPBACK, 1, "VFIO_ACPI_NOTIFY_EVENT_LOOPBACK");
    vfio_acpi_equal!(wrong, VFIO_ACPI_PATH_MAX, 256, "VFIO_ACPI_PATH_MAX");
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FEATURE_ACPI_NOTIFY, 14, "VFIO_DEVICE_FEATURE_ACPI_NOTIFY");
    vfio_acpi_equal!(wrong, VFIO_DEVICE_INFO_CAP_ACPI_PATH, 6, "VFIO_DEVICE_INFO_CAP_ACPI_PATH");
    vfio_acpi_equal!(wrong, std::mem::size_of::<vfio_acpi_notify_event>(), 16, "vfio_acpi_notify_event");
    vfio_acpi_equal!(wrong, std::mem::align_of::<vfio_acpi_notify_event>(), 4, "alignment of vfio_acpi_notify_event");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_acpi_notify_event, flags), 0, "offset of vfio_acpi_notify_event.flags");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_acpi_notify_event| &it.flags), 4, "size of vfio_acpi_notify_event.flags");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_acpi_notify_event, sequence), 4, "offset of vfio_acpi_notify_event.sequence");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_acpi_notify_event| &it.sequence), 4, "size of vfio_acpi_notify_event.sequence");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_acpi_notify_event, value), 8, "offset of vfio_acpi_notify_event.value");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_acpi_notify_event| &it.value), 4, "size of vfio_acpi_notify_event.value");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_acpi_notify_event, __reserved), 12, "offset of vfio_acpi_notify_event.__reserved");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_acpi_notify_event| &it.__reserved), 4, "size of vfio_acpi_notify_event.__reserved");
    vfio_acpi_equal!(wrong, std::mem::size_of::<vfio_device_feature_acpi_notify>(), 16, "vfio_device_feature_acpi_notify");
    vfio_acpi_equal!(wrong, std::mem::align_of::<vfio_device_feature_acpi_notify>(), 4, "alignment of vfio_device_feature_acpi_notify");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_feature_acpi_notify, flags), 0, "offset of vfio_device_feature_acpi_notify.flags");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_feature_acpi_notify| &it.flags), 4, "size of vfio_device_feature_acpi_notify.flags");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_feature_acpi_notify, open_flags), 4, "offset of vfio_device_feature_acpi_notify.open_flags");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_feature_acpi_notify| &it.open_flags), 4, "size of vfio_device_feature_acpi_notify.open_flags");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_feature_acpi_notify, depth), 8, "offset of vfio_device_feature_acpi_notify.depth");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_feature_acpi_notify| &it.depth), 4, "size of vfio_device_feature_acpi_notify.depth");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_feature_acpi_notify, value), 12, "offset of vfio_device_feature_acpi_notify.value");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_feature_acpi_notify| &it.value), 4, "size of vfio_device_feature_acpi_notify.value");
    vfio_acpi_equal!(wrong, std::mem::size_of::<vfio_device_info_cap_acpi_path>(), 12, "vfio_device_info_cap_acpi_path");
    vfio_acpi_equal!(wrong, std::mem::align_of::<vfio_device_info_cap_acpi_path>(), 4, "alignment of vfio_device_info_cap_acpi_path");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_info_cap_acpi_path, header), 0, "offset of vfio_device_info_cap_acpi_path.header");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_info_cap_acpi_path| &it.header), 8, "size of vfio_device_info_cap_acpi_path.header");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_info_cap_acpi_path, size), 8, "offset of vfio_device_info_cap_acpi_path.size");
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_info_cap_acpi_path| &it.size), 4, "size of vfio_device_info_cap_acpi_path.size");
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_info_cap_acpi_path, path), 12, "offset of vfio_device_info_cap_acpi_path.path");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// 7.3-doorbell
#[cfg(all(any(vfio_acpi = "7.3-doorbell"), not(vfio_acpi_without = "vfio")))]
#[test]
fn vfio_acpi_vfio_16() {
    let mut wrong: Vec<String> = Vec::new();
    vfio_acpi_equal!(wrong, VFIO_ACPI_PENDING_MAX, 256, "VFIO_ACPI_PENDING_MAX"); // since 7.3
    vfio_acpi_equal!(wrong, VFIO_DEVICE_FEATURE_ACPI_PENDING, 15, "VFIO_DEVICE_FEATURE_ACPI_PENDING"); // since 7.3
    vfio_acpi_equal!(wrong, std::mem::size_of::<vfio_device_feature_acpi_pending>(), 16, "vfio_device_feature_acpi_pending"); // since 7.3
    vfio_acpi_equal!(wrong, std::mem::align_of::<vfio_device_feature_acpi_pending>(), 4, "alignment of vfio_device_feature_acpi_pending"); // since 7.3
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_feature_acpi_pending, flags), 0, "offset of vfio_device_feature_acpi_pending.flags"); // since 7.3
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_feature_acpi_pending| &it.flags), 4, "size of vfio_device_feature_acpi_pending.flags"); // since 7.3
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_feature_acpi_pending, value), 4, "offset of vfio_device_feature_acpi_pending.value"); // since 7.3
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_feature_acpi_pending| &it.value), 4, "size of vfio_device_feature_acpi_pending.value"); // since 7.3
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_feature_acpi_pending, sequence), 8, "offset of vfio_device_feature_acpi_pending.sequence"); // since 7.3
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_feature_acpi_pending| &it.sequence), 4, "size of vfio_device_feature_acpi_pending.sequence"); // since 7.3
    vfio_acpi_equal!(wrong, std::mem::offset_of!(vfio_device_feature_acpi_pending, lost), 12, "offset of vfio_device_feature_acpi_pending.lost"); // since 7.3
    vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &vfio_device_feature_acpi_pending| &it.lost), 4, "size of vfio_device_feature_acpi_pending.lost"); // since 7.3
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// 7.3-netlink-device
#[cfg(all(any(vfio_acpi = "7.3-netlink-device"), not(vfio_acpi_without = "vfio")))]
#[test]
fn vfio_acpi_vfio_17() {
    let mut wrong: Vec<String> = Vec::new();
    vfio_acpi_equal!(wrong, VFIO_ACPI_GENL_ATTR_SEQUENCE, 2, "VFIO_ACPI_GENL_ATTR_SEQUENCE"); // since 7.3
    vfio_acpi_equal!(wrong, VFIO_ACPI_GENL_ATTR_VALUE, 1, "VFIO_ACPI_GENL_ATTR_VALUE"); // since 7.3
    vfio_acpi_equal!(wrong, VFIO_ACPI_GENL_CMD_NOTIFY, 1, "VFIO_ACPI_GENL_CMD_NOTIFY"); // since 7.3
    if vfio_acpi_text(VFIO_ACPI_GENL_GROUP_NAME) != "notify" {
        wrong.push("VFIO_ACPI_GENL_GROUP_NAME is not notify".to_string());
    } // since 7.3
    vfio_acpi_equal!(wrong, VFIO_ACPI_GENL_VERSION, 1, "VFIO_ACPI_GENL_VERSION"); // since 7.3
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
