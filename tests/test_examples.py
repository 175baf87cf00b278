# SPDX-License-Identifier: GPL-2.0-only
"""The documents' examples for VMMs, compiled and run: the values that they relay to a guest.

The C examples are compiled with the headers of each base with the series. The device is simulated:
the test has its own ioctl(2), and a socket that returns one message for each read(2). The Python
examples run with a real eventfd, to which the test writes; that of the contract reads its queue
from such a socket.
"""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import socket
import struct
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
# ACPICA cut from larger ones, such as that of Notify (dev, 0x10003); a gap. A guest that is
# notified of 3 ejects its device.
VALID, LOOPBACK, LOST = 1 << 32, 3 << 32, 5 << 48
WORDS = (
    LOOPBACK,
    LOOPBACK | 0x3,
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


def event(flags: int, sequence: int, value: int) -> bytes:
    """Return an event of the eventq series."""
    return struct.pack("=IIII", flags, sequence, value, 0)


# The same as messages, by series: what each read(2) returns.
EVENTS = (
    event(1, 0, 0) + event(1, 1, 0x3) + event(1, 2, 0x85),
    event(0, 3, 0xD1) + event(1 << 31, 4, 0) + event(0, 5, 0x3) + event(0, 6, 0x7F),
    event(0, 12, 0x80) + event(0, 13, 0xC0),
    event(0, 14, 0xFFFF),
)
# What no kernel returns: less than the last event or word. Its beginning has a value to relay.
TORN = {
    name: (VALID | 0xD2).to_bytes(8, sys.byteorder)[:7] for name in ("eventfd", "ack", "doorbell")
}
TORN["eventq"] = event(0, 15, 0xD2)[:12]
MESSAGES = {
    "eventfd": tuple(word.to_bytes(8, sys.byteorder) for word in (*WORDS, LAST)),
    "eventq": EVENTS,
}
MESSAGES["ack"] = MESSAGES["eventfd"]
# The values of the doorbell series are fetched by an ioctl (IOCTLS), which fails once with EINTR.
MESSAGES["doorbell"] = ((1).to_bytes(8, sys.byteorder),)

# The series whose kernel documentation has an example, too, on each base.
POSTED = ("eventfd", "eventq")

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

# The program around a complete example, which registers and relays notifications. The first device
# has no companion.
WHOLE = """
static unsigned int companions;

{ioctl}

#define ioctl simulated_ioctl
{example}

int main(int argc, char **argv)
{
	int fd = prepare(argv[1]);

	(void)argc;
	if ({begin} != -{refusal})
		return 1;
	companions = 1;
	if ({begin} < 0)
		return 2;
	return -{relay};
}
"""

# The kernel's part of it, by series.
IOCTLS = {
    "eventfd": """
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
""",
    "eventq": """
static int queue;

static int simulated_ioctl(int device, unsigned long number, void *argument)
{
	struct vfio_device_feature *feature = argument;
	struct vfio_device_feature_acpi_notify notify;

	(void)device;
	memcpy(&notify, feature->data, sizeof(notify));
	if (number == VFIO_DEVICE_FEATURE && feature->argsz == 24 && feature->flags == 0x1000e
			&& !notify.flags && notify.depth && !notify.value) {
		if (companions) {
			say("get", queue);
			return queue;
		}
		errno = ENODEV;
		return -1;
	}
	say("wrong ioctl", number);
	errno = EINVAL;
	return -1;
}
""",
}

IOCTLS["ack"] = """
static int relay_acknowledged(int efd, int ack);

static int relay_all(int fd)
{
	int ret;

	while (!(ret = relay_acknowledged(fd, fd)))
		;
	return ret;
}

static int simulated_ioctl(int device, unsigned long number, void *argument)
{
	struct vfio_irq_set *set = argument;
	uint32_t action = set->flags & ~VFIO_IRQ_SET_DATA_EVENTFD;
	int32_t fd;

	(void)device;
	memcpy(&fd, set->data, sizeof(fd));
	if (companions && number == VFIO_DEVICE_SET_IRQS && set->argsz == 24 && set->index == 5
			&& set->start == 0 && set->count == 1) {
		say(action == VFIO_IRQ_SET_ACTION_TRIGGER ? "arm" : "unmask", fd);
		return 0;
	}
	errno = EINVAL;
	return -1;
}
"""
IOCTLS["doorbell"] = """
static int relay_pending(int device, int efd);

static int relay_all(int fd)
{
	int ret;

	while (!(ret = relay_pending(-1, fd)))
		;
	return ret;
}

static int simulated_ioctl(int device, unsigned long number, void *argument)
{
	static const struct vfio_device_feature_acpi_pending pending[] = {
		{ .value = 0x3 }, { .value = 0xd1 }, { .value = 0 }, { .value = 0x7f },
		{ .value = 0x80, .lost = 5 }, { .value = 0xc0 }, { .value = 0xffff },
	};
	static unsigned int next, interrupted;
	struct vfio_device_feature *feature = argument;

	(void)device;
	if (number != VFIO_DEVICE_FEATURE || feature->argsz != 24 || feature->flags != 0x1000f)
		errno = EINVAL;
	else if (!interrupted++)
		errno = EINTR;
	else if (next == sizeof(pending) / sizeof(*pending))
		errno = ENOMSG;
	else
		return memcpy(feature->data, &pending[next++], sizeof(*pending)), 0;
	return -1;
}
"""

# The document and the section with the example of a series.
PLACES = {name: ("mechanisms", name) for name in MESSAGES} | {"eventq": ("uapi", "Example")}

# The lines of output by which the kernel's part tells what it was asked for at the beginning.
BEGINNINGS = {"eventfd": ("arm",), "eventq": ("get",), "ack": ("arm", "unmask"), "doorbell": ()}

# How the examples begin and go on: the calls, and the errno for a device without a companion.
CALLS = {
    "eventfd": ("arm_notifications(-1, fd)", "ENOTSUP", "relay_notifications(fd)"),
    "eventq": (
        "(queue = queue ? queue : fd, fd = get_notifications(-1))",
        "ENODEV",
        "relay_events(fd, 0)",
    ),
    "ack": ("arm_acknowledged(-1, fd, fd)", "EINVAL", "relay_all(fd)"),
    # This example does not register: that is as for eventfd.
    "doorbell": ("(companions ? 0 : -ENODEV)", "ENODEV", "relay_all(fd)"),
}

# The program around the example of the kernel's documentation, which reads but has no event loop.
PARTS = {
    "eventfd": """
#define resynchronize_guest() notifications_lost(n >> VFIO_PCI_ACPI_NOTIFY_LOST_SHIFT)
""",
    "eventq": """
#define resynchronize_guest() notifications_lost(event->sequence - expected)

static __u32 expected;
""",
}
PART = """
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


def blocks(document: str, heading: str, language: str) -> list[str]:
    """Return the code of a language in a section of docs/DOCUMENT.md."""
    sections = (ROOT / "docs" / f"{document}.md").read_text().split("\n## ")
    [section] = [text for text in sections if text.startswith(f"{heading}\n")]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def documented(series: str) -> str:
    """Return the program with the example of a series, all C code of its section."""
    example = "".join(blocks(*PLACES[series], "c"))
    begin, refusal, relay = CALLS[series]
    texts = {"ioctl": IOCTLS[series], "example": example, "begin": begin, "relay": relay}
    return PRELUDE + filled(WHOLE, **texts, refusal=refusal)


def filled(program: str, **texts: str) -> str:
    """Return the program with each ``{NAME}`` of ``texts`` replaced."""
    for name, text in texts.items():
        program = program.replace(f"{{{name}}}", text)
    return program


def added(series: str, base: str) -> list[str]:
    """Return the lines that a series adds to the documentation of ``base``."""
    [patch] = [
        path.read_text()
        for path in catalog.load(series, base).mailboxes
        if "Documentation" in path.name
    ]
    return [line[1:] for line in patch.splitlines() if line.startswith("+")]


def of_kernel(series: str, base: str) -> str:
    """Return the example in the kernel's documentation."""
    [example] = re.findall(r"::\n\n((?:\t.*\n|\n)+)", "\n".join(added(series, base)))
    return PRELUDE + PARTS[series] + filled(PART, example=example)


@pytest.mark.parametrize("series", POSTED)
def test_the_documentation_of_all_bases_is_the_same(series: str) -> None:
    first, *others = (added(series, base) for base in bases.BASES)
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
@pytest.mark.parametrize("whole", [True, False], ids=["docs", "the kernel's"])
@pytest.mark.parametrize("series", POSTED)
def test_c(tmp_path: Path, kernel_tree: tuple[str, Path], series: str, whole: bool) -> None:
    base, _ = kernel_tree
    check_c(tmp_path, base, series, whole=whole)


@pytest.mark.trees
@pytest.mark.parametrize("series", [name for name in MESSAGES if name not in POSTED])
def test_c_of_others(tmp_path: Path, series: str) -> None:
    check_c(tmp_path, bases.DEFAULT_BASE, series, whole=True)


def check_c(folder: Path, base: str, series: str, *, whole: bool) -> None:
    """Check which values the example of a series relays; ``whole`` is that of docs/."""
    tree = resolve.resolve(base, stage=Silent())
    applied = apply.apply(tree, catalog.load(series, base), stage=Silent())
    folders = headers.install(applied, jobs=2, stage=Silent()).folders
    text = documented(series) if whole else of_kernel(series, base)
    with compiled(folder, text, folders[:1]) as (process, ours, theirs):
        assert process.stdout is not None
        got = []
        for message in MESSAGES[series]:
            wait_until_asleep(process.pid)
            process.send_signal(signal.SIGUSR1)
            time.sleep(0.02)  # so that only the signal wakes it
            ours.send(message)
        for line in lines(process.stdout.fileno()):
            got.append(line)
            if line == "notify ffff":
                break
        begun = [f"{word} {theirs:x}" for word in BEGINNINGS[series] if whole]
        assert got == begun + RELAYED
        if series == "ack":
            ours.settimeout(SECONDS)
            one = (1).to_bytes(8, sys.byteorder)
            assert [ours.recv(64) for _ in MESSAGES[series]] == [one] * len(MESSAGES[series])
        wait_until_asleep(process.pid)
        assert process.poll() is None, "no signal ends it"
        if whole:
            ours.send(TORN[series])
            assert process.wait(SECONDS) == errno.EPROTO
            assert process.stdout.read() == ""


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

    def has_feature(self, number):
        return False

    def info(self):
        return vfio.DeviceInfo(flags=2, num_regions=9, num_irqs=6, cap_offset=0)

    def irq_info(self, index):
        return vfio.IrqInfo(index, flags=0x9, count=1)

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
    for block in blocks("python", "Receive notifications", "python")
    if "notifications()" in block
]

# The same for the contract's example: a device with a queue, which hangs up after the last event.
# The socket returns one event for each read(2), for which the library asks.
SIMULATED_QUEUE = """
import os, signal, socket, threading
from uapi import vfio
from uapi.eventq import EventQueue

signal.signal(signal.SIGUSR1, lambda number, frame: None)

class Simulated(vfio.Device):
    def has_feature(self, number):
        return number == 14

    def notify_queue(self, depth=256, *, nonblocking=True):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        threading.Thread(target=self.feed, args=(ours,), daemon=True).start()
        theirs.setblocking(False)
        return EventQueue(theirs.detach())

    def feed(self, queue):
        for message in {messages!r}:
            os.kill(os.getpid(), signal.SIGUSR1)
            queue.send(message)
        queue.close()

vfio.Device.open = classmethod(lambda cls, bdf, open_method=None: Simulated(os.open("/dev/null", 0),
bdf))
"""


def test_there_are_python_examples() -> None:
    assert len(PYTHON_EXAMPLES) == 2


def printed(program: str) -> str:
    """Run a Python program, which has to succeed. Returns its output."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python_of_the_contract() -> None:
    [example] = blocks("uapi", "Example", "python")
    data = b"".join(EVENTS)
    messages = [data[place : place + 16] for place in range(0, len(data), 16)]
    assert printed(SIMULATED_QUEUE.format(messages=messages) + example).splitlines() == [
        "notify the guest of 0xd1",
        "5 notifications were lost",
        *(f"notify the guest of {value}" for value in ("0x80", "0xc0", "0xffff")),
    ]


@pytest.mark.parametrize("example", PYTHON_EXAMPLES, ids=["for", "async for"])
def test_python(example: str) -> None:
    output = printed(textwrap.dedent(SIMULATED.format(words=(*WORDS, LAST))) + example)
    relayed = re.findall(r"(?:(\S+): )?notify the guest of (0x[0-9a-f]+)", output)
    devices = re.findall(r"\d{4}:\d\d:\d\d\.\d", example) if "async" in example else [""]
    values = ["0xd1", "0x80", "0xc0", "0xffff"]
    assert {device: [it for name, it in relayed if name == device] for device in devices} == (
        dict.fromkeys(devices, values)
    )
    assert len(relayed) == len(devices) * len(values), output
    assert output.count("5 notifications were lost") == ("async" not in example)
