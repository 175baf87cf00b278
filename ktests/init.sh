#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-only
# Runs as PID 1 before virtme-ng's init: starts the suite's Python beside it, since importing
# takes as long as setting the system up and there are two CPUs. Everything lies below /mnt,
# which virtme-ng's init leaves alone; the first argument is that init. busybox has all of the
# commands in one static program: loading each of them over 9p would take longer than they run.
set -e
init=$1
shift
busybox=/bin/busybox
# Until now /dev is the folder of the host's file system, with the nodes of the host.
$busybox mount -t devtmpfs -o mode=0755 devtmpfs /dev
$busybox mount -t tmpfs -o mode=0755 vfio-acpi /mnt
$busybox mkdir /mnt/runtime /mnt/suite
$busybox mount -t erofs -o ro /dev/vda /mnt/runtime
$busybox mount -t erofs -o ro /dev/vdb /mnt/suite
# The kernel's own selftests, where its tree has them.
if [ -e /dev/vdc ]; then
	$busybox mkdir /mnt/selftests
	$busybox mount -t erofs -o ro /dev/vdc /mnt/selftests
fi
# The kernel was started with one CPU alone: see KERNEL_ARGUMENTS in kpatch/vm/qemu.py.
$busybox mkdir /mnt/sys
$busybox mount -t sysfs sysfs /mnt/sys
for cpu in /mnt/sys/devices/system/cpu/cpu[1-9]*; do
	echo 1 > "$cpu/online"
done
$busybox umount /mnt/sys
$busybox mkfifo /mnt/ready
[ "$VFIO_ACPI" = shell ] || /mnt/suite/ktests/start.sh &
exec "$init" "$@"
