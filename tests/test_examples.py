# SPDX-License-Identifier: GPL-2.0-only
"""The examples that people will copy, compiled and run: what they relay to a guest.

The descriptor is simulated: for the C examples a socket that gives one word for each read(2), for
the Python ones a real eventfd that is written to. Constants are those of `uapi.mirror`.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kpatch import bases, series
from tests.commandline import ROOT
from uapi import mirror

SECONDS = 20.0

# What a kernel may give: a loopback, values below 0x80 that ACPICA made of larger ones, a gap.
VALID, LOOPBACK, LOST = 1 << 32, 3 << 32, 5 << 48
WORDS = (
    LOOPBACK,
    VALID | 0xD1,
    VALID,
    VALID | 0x3,
    VALID | 0x7F,
    LOST | VALID | 0x80,
    VALID | 0xC0,
)
LAST = VALID | 0xFFFF
RELAYED = ["notify d1", "lost 5", "notify 80", "notify c0", "notify ffff"]

NAMES = [name for name in dir(mirror) if name.startswith("VFIO_PCI_ACPI_NOTIFY_")]
DEFINES = [f"#define {name} {getattr(mirror, name):#x}ULL" for name in NAMES]

PRELUDE = """
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

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
	return atoi(fd);
}
"""

WHOLE = """
{example}

int main(int argc, char **argv)
{
	(void)argc;
	return relay_notifications(prepare(argv[1]));
}
"""

# The kernel's documentation has the part that reads, and leaves the event loop to the VMM.
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
    """The loop of docs/uapi.md."""
    blocks = re.findall(r"```c\n(.*?)```", (ROOT / "docs" / "uapi.md").read_text(), re.DOTALL)
    [loop] = [block for block in blocks if "relay_notifications" in block]
    return PRELUDE + WHOLE.replace("{example}", loop)


def of_kernel(base: str) -> str:
    """The example in the kernel's documentation, by the series' patch for ``base``."""
    [patch] = [
        path.read_text()
        for path in series.load("eventfd", base).mailboxes
        if "Documentation" in path.name
    ]
    added = "\n".join(line[1:] for line in patch.splitlines() if line.startswith("+"))
    [example] = re.findall(r"::\n\n((?:\t.*\n|\n)+)", added)
    return PRELUDE + PART.replace("{example}", example)


C_EXAMPLES = ("docs/uapi.md", *bases.BASES)


@contextmanager
def compiled(folder: Path, source: str) -> Iterator[tuple[subprocess.Popen[str], socket.socket]]:
    """A process of the program, and the other end of the descriptor that it reads from."""
    (folder / "example.c").write_text("\n".join(DEFINES) + source)
    flags = ("-Wall", "-Wextra", "-Werror", "-O1", "-o", "example", "example.c")
    built = subprocess.run(["gcc", *flags], cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        process = subprocess.Popen(
            [folder / "example", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield process, ours
        finally:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("name", C_EXAMPLES)
def test_c(tmp_path: Path, name: str) -> None:
    source = documented() if name == "docs/uapi.md" else of_kernel(name)
    with compiled(tmp_path, source) as (process, ours):
        assert process.stdout is not None
        got = []
        for word in (*WORDS, LAST):
            wait_until_asleep(process.pid)
            process.send_signal(signal.SIGUSR1)
            time.sleep(0.02)  # for the signal alone to wake it
            ours.send(word.to_bytes(8, sys.byteorder))
        for line in lines(process.stdout.fileno()):
            got.append(line)
            if line == "notify ffff":
                break
        assert got == RELAYED
        wait_until_asleep(process.pid)
        assert process.poll() is None, "no signal ends it"


def wait_until_asleep(pid: int) -> None:
    """Return when the process waits in a system call; AssertionError if it never does."""
    end = time.monotonic() + SECONDS
    while Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "S":
        assert time.monotonic() < end, "does not wait"
        time.sleep(0.005)


def lines(fd: int) -> Iterator[str]:
    """The lines that come on a descriptor, for SECONDS."""
    end, rest = time.monotonic() + SECONDS, b""
    while True:
        assert select.select([fd], [], [], max(0.0, end - time.monotonic()))[0], rest
        data = os.read(fd, 4096)
        assert data, "ended"
        *whole, rest = (rest + data).split(b"\n")
        yield from (line.decode() for line in whole)


# ---- Python --------------------------------------------------------------------------------------

# Stands before an example: devices without a kernel, whose eventfds are written to one word after
# the other, as the kernel does, with a signal before each.
SIMULATED = """
import os, signal, sys, threading, time
from uapi import vfio
from uapi.notifications import Notifications

signal.signal(signal.SIGUSR1, lambda number, frame: None)

class Simulated(vfio.Device):
    def arm(self, fd, index=vfio.ACPI):
        if fd != -1:
            threading.Thread(target=self.feed, args=(fd,), daemon=True).start()

    def feed(self, eventfd):
        for word in {words!r}:
            os.kill(os.getpid(), signal.SIGUSR1)
            eventfd.write(word)
            while eventfd.wait(0):
                time.sleep(0.002)
        time.sleep(0.2)
        sys.stdout.flush()
        os._exit(0)

vfio.Device.open = classmethod(lambda cls, bdf, via=None: Simulated(os.open("/dev/null", 0), bdf))
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
    relayed = re.findall(r"notify the guest of (0x[0-9a-f]+)", done.stdout)
    assert set(relayed) == {"0xd1", "0x80", "0xc0", "0xffff"}, done.stdout
    # The example for asyncio has two devices, the second of which may be cut off at the end.
    assert relayed[:4] == ["0xd1", "0x80", "0xc0", "0xffff"] or "async" in example
