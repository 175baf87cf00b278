# SPDX-License-Identifier: GPL-2.0-only
"""The documents' examples for VMMs, compiled and run: the values that they relay to a guest.

The C examples are compiled with the headers of each base with the eventfd series. The device is
simulated: the test has its own ioctl(2), and a socket that returns one word for each read(2). The
Python examples run with a real eventfd, to which the test writes.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from kpatch.build import headers
from kpatch.lib.stage import Silent
from kpatch.series import apply, catalog
from kpatch.source import resolve
from kpatch.tables import bases
from tests.commandline import ROOT

SECONDS = 20.0

# Words that a kernel may return: loopbacks, in future perhaps with a value; values below 0x80 that
# ACPICA cut from larger ones; a gap.
VALID, LOOPBACK, LOST = 1 << 32, 3 << 32, 5 << 48
WORDS = (
    LOOPBACK,
    LOOPBACK | 0x85,
    VALID | 0xD1,
    VALID,
    VALID | 0x3,
    VALID | 0x7F,
    LOST | VALID | 0x80,
    VALID | 0xC0,
)
LAST = VALID | 0xFFFF
RELAYED = ["notify d1", "lost 5", "notify 80", "notify c0", "notify ffff"]

PRELUDE = """
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/vfio.h>

static void say(const char *what, unsigned long long value)
{
	printf("%s %llx\\n", what, value);
	fflush(stdout);
}

static void notify_guest(unsigned long long value) { say("notify", value); }
static void notifications_lost(unsigned long long n) { say("lost", n); }

static void on_signal(int number) { (void)number; }

/* A signal interrupts poll(2) and read(2), as it does where SA_RESTART is not asked for. */
static int prepare(const char *fd)
{
	struct sigaction action = { .sa_handler = on_signal };

	sigaction(SIGUSR1, &action, NULL);
	return strtol(fd, NULL, 16);
}
"""

# The program around the complete example, which arms an eventfd and relays notifications. The first
# device has no companion.
WHOLE = """
static unsigned int companions;

static int simulated_ioctl(int device, unsigned long number, void *argument)
{
	struct vfio_irq_info *info = argument;
	struct vfio_irq_set *set = argument;
	int32_t fd;

	(void)device;
	if (number == VFIO_DEVICE_GET_IRQ_INFO && info->argsz == 16 && info->index == 5) {
		info->count = companions;
		return 0;
	}
	if (number == VFIO_DEVICE_SET_IRQS && set->argsz == 24 && set->flags == 0x24
			&& set->index == 5 && set->start == 0 && set->count == 1) {
		memcpy(&fd, set->data, sizeof(fd));
		say("arm", fd);
		return 0;
	}
	say("wrong ioctl", number);
	errno = EINVAL;
	return -1;
}

#define ioctl simulated_ioctl
{example}

int main(int argc, char **argv)
{
	int fd = prepare(argv[1]);

	(void)argc;
	if (arm_notifications(-1, fd) != -ENOTSUP)
		return 1;
	companions = 1;
	if (arm_notifications(-1, fd))
		return 2;
	return relay_notifications(fd);
}
"""

# The program around the example of the kernel's documentation, which reads but has no event loop.
PART = """
#define resynchronize_guest() notifications_lost(n >> VFIO_PCI_ACPI_NOTIFY_LOST_SHIFT)

static void on_pollin(int fd)
{
{example}
}

int main(int argc, char **argv)
{
	struct pollfd pfd = { .fd = prepare(argv[1]), .events = POLLIN };

	(void)argc;
	for (;;)
		if (poll(&pfd, 1, -1) == 1)
			on_pollin(pfd.fd);
}
"""


def documented() -> str:
    """Return the example of docs/uapi.md: all of its C code."""
    blocks = re.findall(r"```c\n(.*?)```", (ROOT / "docs" / "uapi.md").read_text(), re.DOTALL)
    return PRELUDE + WHOLE.replace("{example}", "".join(blocks))


def added(base: str) -> list[str]:
    """Return the lines that the eventfd series adds to the documentation of ``base``."""
    [patch] = [
        path.read_text()
        for path in catalog.load("eventfd", base).mailboxes
        if "Documentation" in path.name
    ]
    return [line[1:] for line in patch.splitlines() if line.startswith("+")]


def of_kernel(base: str) -> str:
    """Return the example in the kernel's documentation."""
    [example] = re.findall(r"::\n\n((?:\t.*\n|\n)+)", "\n".join(added(base)))
    return PRELUDE + PART.replace("{example}", example)


def test_the_documentation_of_all_bases_is_the_same() -> None:
    first, *others = map(added, bases.BASES)
    assert len(first) > 80 and all(other == first for other in others)


@contextmanager
def compiled(
    folder: Path, source: str, headers: Sequence[Path]
) -> Iterator[tuple[subprocess.Popen[str], socket.socket, int]]:
    """Start the program. Returns the process, our end of its socket, and its descriptor."""
    (folder / "example.c").write_text(source)
    flags = ("-Wall", "-Wextra", "-Werror", "-O1", "-o", "example", "example.c")
    argv = ["gcc", *flags, *(f"-isystem{path}" for path in headers)]
    built = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        process = subprocess.Popen(
            [folder / "example", f"{theirs.fileno():x}"],
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield process, ours, theirs.fileno()
        finally:
            process.kill()
            process.communicate()


@pytest.mark.trees
@pytest.mark.parametrize("whole", [True, False], ids=["docs/uapi.md", "the kernel's"])
def test_c(tmp_path: Path, kernel_tree: tuple[str, Path], whole: bool) -> None:
    base, _ = kernel_tree
    tree = resolve.resolve(base, stage=Silent())
    applied = apply.apply(tree, catalog.load("eventfd", base), stage=Silent())
    folders = headers.install(applied, jobs=2, stage=Silent()).folders
    text = documented() if whole else of_kernel(base)
    with compiled(tmp_path, text, folders[:1]) as (process, ours, theirs):
        assert process.stdout is not None
        got = []
        for word in (*WORDS, LAST):
            wait_until_asleep(process.pid)
            process.send_signal(signal.SIGUSR1)
            time.sleep(0.02)  # so that only the signal wakes it
            ours.send(word.to_bytes(8, sys.byteorder))
        for line in lines(process.stdout.fileno()):
            got.append(line)
            if line == "notify ffff":
                break
        assert got == [f"arm {theirs:x}"] * whole + RELAYED
        wait_until_asleep(process.pid)
        assert process.poll() is None, "no signal ends it"


def wait_until_asleep(pid: int) -> None:
    """Wait until the process sleeps in a system call. Raises AssertionError if it does not."""
    end = time.monotonic() + SECONDS
    while Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "S":
        assert time.monotonic() < end, "does not wait"
        time.sleep(0.005)


def lines(fd: int) -> Iterator[str]:
    """Yield the lines that arrive on a descriptor within SECONDS."""
    end, rest = time.monotonic() + SECONDS, b""
    while True:
        assert select.select([fd], [], [], max(0.0, end - time.monotonic()))[0], rest
        data = os.read(fd, 4096)
        assert data, "ended"
        *whole, rest = (rest + data).split(b"\n")
        yield from (line.decode() for line in whole)


# ---- Python --------------------------------------------------------------------------------------

# Code that runs before an example: simulated devices. It writes one word after the other to their
# eventfds, as the kernel does, with a signal before each.
SIMULATED = """
import os, signal, sys, threading, time
from uapi import vfio
from uapi.notifications import Notifications

signal.signal(signal.SIGUSR1, lambda number, frame: None)

class Simulated(vfio.Device):
    fed = []

    def arm(self, fd, index=vfio.ACPI):
        if fd != -1:
            self.fed.append(False)
            threading.Thread(target=self.feed, args=(fd, len(self.fed) - 1), daemon=True).start()

    def feed(self, eventfd, number):
        for word in {words!r}:
            os.kill(os.getpid(), signal.SIGUSR1)
            eventfd.write(word)
            while eventfd.wait(0):
                time.sleep(0.002)
        time.sleep(0.2)  # for the example to say what it has read
        self.fed[number] = True
        if all(self.fed):
            sys.stdout.flush()
            os._exit(0)

vfio.Device.open = classmethod(lambda cls, bdf, open_method=None: Simulated(os.open("/dev/null", 0),
bdf))
"""

PYTHON_EXAMPLES = [
    block
    for block in re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL
    )
    if "notifications()" in block
]


def test_there_are_python_examples() -> None:
    assert len(PYTHON_EXAMPLES) == 2


@pytest.mark.parametrize("example", PYTHON_EXAMPLES, ids=["for", "async for"])
def test_python(example: str) -> None:
    program = textwrap.dedent(SIMULATED.format(words=(*WORDS, LAST))) + example
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    relayed = re.findall(r"(?:(\S+): )?notify the guest of (0x[0-9a-f]+)", done.stdout)
    devices = re.findall(r"\d{4}:\d\d:\d\d\.\d", example) if "async" in example else [""]
    values = ["0xd1", "0x80", "0xc0", "0xffff"]
    assert {device: [it for name, it in relayed if name == device] for device in devices} == (
        dict.fromkeys(devices, values)
    )
    assert len(relayed) == len(devices) * len(values), done.stdout
    assert done.stdout.count("5 notifications were lost") == ("async" not in example)
