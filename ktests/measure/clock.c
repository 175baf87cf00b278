// SPDX-License-Identifier: GPL-2.0-only
/*
 * Time system calls, without an interpreter between them. ktests/measure/clock.py calls these
 * functions through ctypes. All times are nanoseconds of CLOCK_MONOTONIC.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Milliseconds until something that does not become readable counts as lost. */
#define PATIENCE 20000

/* Call in ktests/call.py: the request of an ioctl, or one of these. */
#define READ 0
#define WRITE 1

struct call {
	int32_t fd;
	uint32_t request;
	void *memory;
	uint64_t size;
};

static uint64_t now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

/* How often this thread went to sleep. */
static uint64_t slept(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nvcsw;
}

static int wait_for(struct pollfd *sources, uint32_t count)
{
	int ready = poll(sources, count, PATIENCE);

	if (ready == 0)
		errno = ETIMEDOUT;
	return ready > 0 ? 0 : -1;
}

/* Do one call. A read waits until there is something to read, also if the file does not block. */
static int perform(const struct call *call)
{
	struct pollfd source = { call->fd, POLLIN, 0 };

	if (call->request == WRITE)
		return write(call->fd, call->memory, call->size) < 0 ? -1 : 0;
	if (call->request != READ)
		return ioctl(call->fd, call->request, call->memory) < 0 ? -1 : 0;
	while (read(call->fd, call->memory, call->size) < 0)
		if (errno != EAGAIN || wait_for(&source, 1))
			return -1;
	return 0;
}

/*
 * Do the trips in turn, ``rounds`` times. Trip i is lengths[i] calls; those of all trips follow
 * each other in ``calls``. Trip i of round r takes times[r * trips + i]. Returns -1 with errno if
 * a call fails.
 */
int time_trips(const struct call *calls, const uint32_t *lengths, uint32_t trips, uint32_t rounds,
	       uint64_t *times)
{
	while (rounds--) {
		const struct call *call = calls;

		for (uint32_t trip = 0; trip < trips; trip++) {
			uint64_t begin = now(CLOCK_MONOTONIC);

			for (uint32_t left = lengths[trip]; left; left--)
				if (perform(call++))
					return -1;
			*times++ = now(CLOCK_MONOTONIC) - begin;
		}
	}
	return 0;
}

/*
 * Do the call ``events`` times. Before the next one, wait until follow() in another thread has
 * received the event, and ``rest`` nanoseconds more, in which that thread goes to sleep again.
 * Returns -1 with errno if a call fails, or an event does not come.
 */
int send_each(const struct call *call, uint32_t events, const volatile uint64_t *stamps,
	      uint64_t rest)
{
	for (uint32_t event = 0; event < events; event++) {
		uint64_t begin = now(CLOCK_MONOTONIC);

		if (perform(call))
			return -1;
		while (!stamps[event])
			if (now(CLOCK_MONOTONIC) - begin > PATIENCE * 1000000ull) {
				errno = ETIMEDOUT;
				return -1;
			}
		while (now(CLOCK_MONOTONIC) - stamps[event] < rest)
			;
	}
	return 0;
}

/*
 * Wait ``events`` times until one of the sources is readable, and do the calls of source i:
 * calls[first[i]] to calls[first[i + 1] - 1]. stamps[n] is the time after that, and 0 before.
 * cpu[n] is the CPU time that this thread used for it, and ``sleeps`` how often it slept in all.
 * Returns -1 with errno if a call fails.
 */
int follow(struct pollfd *sources, const struct call *calls, const uint32_t *first, uint32_t count,
	   uint32_t events, volatile uint64_t *stamps, uint64_t *cpu, uint64_t *sleeps)
{
	uint64_t before = slept();

	for (uint32_t event = 0; event < events; event++) {
		uint64_t begin = now(CLOCK_THREAD_CPUTIME_ID);
		uint32_t i = 0;

		if (wait_for(sources, count))
			return -1;
		while (!sources[i].revents)
			i++;
		for (uint32_t n = first[i]; n < first[i + 1]; n++)
			if (perform(&calls[n]))
				return -1;
		cpu[event] = now(CLOCK_THREAD_CPUTIME_ID) - begin;
		stamps[event] = now(CLOCK_MONOTONIC);
	}
	*sleeps = slept() - before;
	return 0;
}
