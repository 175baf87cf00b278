/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * A VMM's loop for the ACPI notifications of a passed-through device (mechanism eventq).
 *
 *	loop FD
 *
 * FD is the device's VFIO descriptor, which a VMM has and this program inherits. A real loop hands
 * each value to the guest; this one prints it. It ends when the device is closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/vfio.h>

#ifndef VFIO_DEVICE_FEATURE_ACPI_NOTIFY	/* headers of a kernel without the series */
#define VFIO_DEVICE_FEATURE_ACPI_NOTIFY 14
#define VFIO_ACPI_NOTIFY_EVENT_LOOPBACK (1 << 0)

struct vfio_device_feature_acpi_notify {
	uint32_t flags;
	uint32_t open_flags;
	uint32_t depth;
	uint32_t value;
};

struct vfio_acpi_notify_event {
	uint32_t flags;
	uint32_t sequence;
	uint32_t value;
	uint32_t __reserved;
};
#endif

/* Values from here on are for a device's driver; the guest's kernel acts on smaller ones itself. */
#define FIRST_OF_DEVICE 0x80

static int get_queue(int device)
{
	struct vfio_device_feature_acpi_notify notify = {
		.open_flags = O_CLOEXEC | O_NONBLOCK,
		.depth = 256,
	};
	union {
		struct vfio_device_feature feature;
		uint8_t room[sizeof(struct vfio_device_feature) + sizeof(notify)];
	} request = {
		.feature = {
			.argsz = sizeof(request),
			.flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_ACPI_NOTIFY,
		},
	};

	memcpy(request.feature.data, &notify, sizeof(notify));
	return ioctl(device, VFIO_DEVICE_FEATURE, &request);
}

static void relay(const struct vfio_acpi_notify_event *event, uint32_t expected)
{
	if (event->sequence != expected)
		printf("lost %" PRIu32 "\n", event->sequence - expected);
	if (!(event->flags & VFIO_ACPI_NOTIFY_EVENT_LOOPBACK) && event->value >= FIRST_OF_DEVICE)
		printf("notify 0x%" PRIx32 "\n", event->value);
}

static int loop(int queue)
{
	struct pollfd pfd = { .fd = queue, .events = POLLIN };
	struct vfio_acpi_notify_event events[16];
	uint32_t expected = 0;
	ssize_t size;

	for (;;) {
		size = poll(&pfd, 1, -1);
		if (size > 0)
			size = read(queue, events, sizeof(events));
		if (size < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (size <= 0)
			return size;		/* 0: the device was closed */
		if (size % sizeof(*events)) {
			errno = EPROTO;		/* no events of this kernel */
			return -1;
		}
		for (size_t n = 0; n < size / sizeof(*events); n++) {
			relay(&events[n], expected);
			expected = events[n].sequence + 1;
		}
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	int queue;

	if (argc != 2) {
		fprintf(stderr, "usage: %s FD\n", argv[0]);
		return 2;
	}
	queue = get_queue(atoi(argv[1]));
	if (queue < 0) {
		fprintf(stderr, "device %s: no notifications: %s\n", argv[1], strerror(errno));
		return EXIT_FAILURE;
	}
	puts("ready");
	fflush(stdout);
	if (loop(queue) < 0) {
		perror("queue");
		return EXIT_FAILURE;
	}
	puts("closed");
	return EXIT_SUCCESS;
}
