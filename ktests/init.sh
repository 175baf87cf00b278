#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-only
# Runs as PID 1 before virtme-ng's init, whose path is the first argument. Starts the suite's
# Python at the same time as that init: importing the suite takes as long as setting up the
# system, and there are two CPUs. All mount points are below /mnt, which virtme-ng's init does
# not change. busybox has all commands in one static program: loading each of them over 9p would
# take longer than running it.
set -e
init=$1
shift
busybox=/bin/busybox
# Without this mount, /dev is a folder of the host's file system, with the host's nodes.
$busybox mount -t devtmpfs -o mode=0755 devtmpfs /dev
$busybox mount -t tmpfs -o mode=0755 vfio-acpi /mnt
$busybox mkdir /mnt/runtime /mnt/suite
$busybox mount -t erofs -o ro /dev/vda /mnt/runtime
$busybox mount -t erofs -o ro /dev/vdb /mnt/suite
# The image of the kernel's selftests exists only if the kernel's tree has VFIO selftests.
if [ -e /dev/vdc ]; then
	$busybox mkdir /mnt/selftests
	$busybox mount -t erofs -o ro /dev/vdc /mnt/selftests
fi
# The kernel was started with one CPU (maxcpus=1): see KERNEL_ARGUMENTS in kpatch/vm/qemu.py.
# Start the others.
$busybox mkdir /mnt/sys
$busybox mount -t sysfs sysfs /mnt/sys
for cpu in /mnt/sys/devices/system/cpu/cpu[1-9]*; do
	echo 1 > "$cpu/online"
done
$busybox umount /mnt/sys
$busybox mkfifo /mnt/ready
[ "$VFIO_ACPI" = shell ] || /mnt/suite/ktests/start.sh &
exec "$init" "$@"
