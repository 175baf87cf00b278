/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The decision of a relay: from a word that was read from the eventfd of VFIO_PCI_ACPI_IRQ_INDEX to
 * actions. A VMM copies relay(); main() checks it against vectors: it reads lines
 *
 *	FIRST WIDEST RESYNC WORD
 *
 * (numbers in hex; RESYNC "-": none) and prints the actions on each word on one line.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORD_VALID		(1ULL << 32)
#define WORD_LOOPBACK		(1ULL << 33)
#define WORD_LOST_SHIFT		48

struct policy {
	uint32_t first;		/* smallest value for the guest, at least 0x80 */
	uint32_t widest;	/* largest value for the guest */
	bool resyncs;		/* whether a loss makes the guest's driver read the state again */
	uint32_t resync;	/* by which value */
};

enum verdict { DELIVER, LOOPBACK, BELOW, WIDE, STOP };

struct decision {
	uint16_t lost;		/* if not 0: first tell the guest of the loss */
	enum verdict verdict;	/* then deliver the value, drop it, or stop */
	uint32_t value;
};

static struct decision relay(const struct policy *policy, uint64_t word)
{
	struct decision decision = { .verdict = STOP };

	/* Another process wrote to the eventfd: no later word can be trusted. */
	if (!(word & WORD_VALID))
		return decision;

	decision.lost = word >> WORD_LOST_SHIFT;
	decision.value = (uint32_t)word;
	if (word & WORD_LOOPBACK)
		decision.verdict = LOOPBACK;
	else if (decision.value < policy->first)
		decision.verdict = BELOW;
	else if (decision.value > policy->widest)
		decision.verdict = WIDE;
	else
		decision.verdict = DELIVER;
	return decision;
}

static void print(const struct policy *policy, struct decision decision)
{
	static const char *const reasons[] = {
		[LOOPBACK] = "loopback", [BELOW] = "below", [WIDE] = "wide",
	};

	if (decision.lost && policy->resyncs)
		printf("resynchronise %u %#" PRIx32 "; ", decision.lost, policy->resync);
	else if (decision.lost)
		printf("resynchronise %u -; ", decision.lost);

	if (decision.verdict == STOP)
		puts("stop");
	else if (decision.verdict == DELIVER)
		printf("deliver 0x%" PRIx32 "\n", decision.value);
	else
		printf("drop 0x%" PRIx32 " %s\n", decision.value, reasons[decision.verdict]);
}

int main(void)
{
	char resync[16];
	uint64_t word;
	struct policy policy;

	int fields;

	while ((fields = scanf("%" SCNx32 " %" SCNx32 " %15s %" SCNx64, &policy.first,
			       &policy.widest, resync, &word)) == 4) {
		policy.resyncs = strcmp(resync, "-") != 0;
		policy.resync = policy.resyncs ? strtoul(resync, NULL, 16) : 0;
		print(&policy, relay(&policy, word));
	}
	return fields == EOF ? EXIT_SUCCESS : EXIT_FAILURE;
}
