#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-only
# The init of the inner guest: says that the kernel is through with its boot, and waits.
busybox=/bin/busybox
$busybox mount -t devtmpfs devtmpfs /dev
$busybox mount -t proc proc /proc
# The boot prints nothing (quiet), because a serial port is slow in an emulator inside of another.
echo 8 > /proc/sys/kernel/printk
# An argument of the kernel: the guest's table comes at run time, instead of with the firmware. The
# kernel scans for the devices in it later. An interrupt before that would be lost.
if [ "$relay_table" = late ]; then
	$busybox mount -t configfs configfs /config
	$busybox mount -t sysfs sysfs /sys
	$busybox mkdir /config/acpi/table/relay
	$busybox cat /relay.aml > /config/acpi/table/relay/aml
	until [ -e /sys/bus/platform/drivers/acpi-ged/ACPI0013:00 ]; do
		$busybox sleep 1
	done
fi
echo "vfio-acpi: up" > /dev/kmsg
exec $busybox sleep 1000000
