#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-only
# The init of the inner guest: says that the kernel is through with its boot, and waits.
busybox=/bin/busybox
$busybox mount -t devtmpfs devtmpfs /dev
$busybox mount -t proc proc /proc
# The boot prints nothing (quiet), because a serial port is slow in an emulator inside of another.
echo 8 > /proc/sys/kernel/printk
echo "vfio-acpi: up" > /dev/kmsg
exec $busybox sleep 1000000
