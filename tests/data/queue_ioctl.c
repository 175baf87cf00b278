/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ioctl(2) in the place of libc's (LD_PRELOAD): each descriptor is a device with the eventq series.
 * GET returns a duplicate of the descriptor QUEUE, as the kernel returns a new queue.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ACPI_NOTIFY 14

int ioctl(int fd, unsigned long request, ...)
{
	struct {
		uint32_t argsz, what, flags, open_flags, depth, value;
	} *arg;
	va_list list;
	int queue;

	va_start(list, request);
	arg = va_arg(list, void *);
	va_end(list);
	if (request != VFIO_DEVICE_FEATURE)
		return syscall(SYS_ioctl, fd, request, arg);
	if (arg->what == (VFIO_DEVICE_FEATURE_PROBE | ACPI_NOTIFY))
		return 0;
	if (arg->what != (VFIO_DEVICE_FEATURE_GET | ACPI_NOTIFY) || arg->argsz != sizeof(*arg) ||
	    arg->flags || arg->value || !arg->depth || !(arg->open_flags & O_CLOEXEC)) {
		errno = EINVAL;
		return -1;
	}
	queue = dup(atoi(getenv("QUEUE")));
	if (arg->open_flags & O_NONBLOCK)
		fcntl(queue, F_SETFL, O_NONBLOCK);
	return queue;
}
