# SPDX-License-Identifier: GPL-2.0-only
"""Run ``python -m kpatch`` as a user does: as a process, with its output and its result files."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kpatch.lib import cache
from kpatch.report import result
from kpatch.series import catalog
from kpatch.tables import bases
from kpatch.tables.outcomes import meanings

ROOT = Path(__file__).parent.parent
FAULTS = Path(__file__).parent / "data" / "faults"

KPATCH = (sys.executable, "-m", "kpatch")

# The command line's variables. Tests remove those that the caller of the tests has set.
VARIABLES = (
    *("KERNEL", "SERIES", "FLAVOR", "ACCEL", "OUT", "TESTS", "JOBS", "MECHANISM"),
    *("UNTRUSTED", "CHECKS", "FAIL_ON", "COUNT", "AGAINST"),
    *("BOOT_LIMIT", "TEST_LIMIT", "RUN_LIMIT"),
)

# Seconds that a command may take: it may have to build a kernel first, on a slow machine.
PATIENCE = 3600.0
# Seconds from a signal to the end of all processes; children get 5 s before they are killed.
PROMPT = 20.0

PR_SET_CHILD_SUBREAPER = 36

_RUNNING: set[int] = set()
"""The commands that the tests themselves wait for."""


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its exit code, output, duration and OUT folder."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    out: Path

    def told(self, pattern: str) -> bool:
        """Return whether a whole line of stdout or stderr matches ``pattern``."""
        lines = f"{self.stdout}\n{self.stderr}".splitlines()
        return any(re.fullmatch(pattern, line) for line in lines)

    @property
    def result(self) -> result.RunResult:
        """Return OUT's result.json, which has to be valid and to have the command's exit code."""
        found = result.load(self.out / "result.json")
        assert found.exit_code == self.code
        return found

    @property
    def verdict(self) -> str:
        """The verdict in result.json."""
        verdict: str = json.loads((self.out / "result.json").read_text())["verdict"]
        return verdict

    def outcomes(self) -> dict[str, str]:
        """Return the outcome of each test, by the test's name without the file."""
        return {test.id.partition("::")[2]: test.outcome.value for test in self.result.tests}

    def console(self, series: str, vm: int = 1) -> str:
        """Return the console log of a VM."""
        return (self.out / f"console-{series}-{vm}.log").read_text(errors="replace")


class Run:
    """A running command. Use `running` or `run`, which make sure that it ends."""

    def __init__(
        self, command: Sequence[str], arguments: Sequence[str], out: Path, env: Mapping[str, str]
    ) -> None:
        self.out = out
        self._arguments = arguments
        self._began = time.monotonic()
        self._lines: list[str] = []
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(**env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        _RUNNING.add(self.process.pid)
        self._stdout: list[str] = []
        self._readers = [
            threading.Thread(target=self._lines.extend, args=(self.process.stderr,)),
            threading.Thread(target=self._stdout.extend, args=(self.process.stdout,)),
        ]
        for reader in self._readers:
            reader.start()

    def wait_for(self, there: Callable[[], object], *, seconds: float = PATIENCE) -> None:
        """Wait until ``there`` returns a true value. Fails if the command ends before."""
        end = time.monotonic() + seconds
        while not there():
            assert self.process.poll() is None, f"ended early: {''.join(self._lines)}"
            assert time.monotonic() < end, f"waited for {seconds:g} s: {''.join(self._lines)}"
            time.sleep(0.02)

    def wait_for_line(self, pattern: str) -> None:
        """Wait until stderr has a line that matches."""
        self.wait_for(lambda: any(re.search(pattern, line) for line in [*self._lines]))

    def wait_for_console(self, text: str, series: str, vm: int = 1) -> None:
        """Wait until a VM has printed ``text``."""
        log = self.out / f"console-{series}-{vm}.log"
        self.wait_for(lambda: log.is_file() and text in log.read_text(errors="replace"))

    def wait_for_program(self, name: str) -> None:
        """Wait until a descendant of the command runs a program of that name."""
        self.wait_for(lambda: any(named(pid) == name for pid in descendants(self.process.pid)))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole process group, as a terminal does."""
        os.killpg(self.process.pid, number)

    def end(self, *, seconds: float = PATIENCE, clean: bool = True) -> Ended:
        """Wait for the end. Fails if a traceback was printed or a child is left.

        ``clean`` False: the command could not clean up, so its children get time to end.
        """
        self.process.wait(seconds)
        took = time.monotonic() - self._began
        if clean:
            expect_known_code(self._arguments, self.process.returncode)
        expect_no_children(seconds=2.0 if clean else PROMPT)
        for reader in self._readers:
            reader.join(PROMPT)
        ended = Ended(
            self.process.returncode, "".join(self._stdout), "".join(self._lines), took, self.out
        )
        assert "Traceback" not in ended.stderr + ended.stdout, ended.stderr
        assert "fault of the harness" not in ended.stderr, ended.stderr
        return ended


@contextmanager
def running(
    *arguments: str,
    out: Path,
    prefix: Sequence[str] = (),
    kpatch: Sequence[str] = KPATCH,
    **env: str,
) -> Iterator[Run]:
    """Start ``python -m kpatch`` with its result in ``out``. Killed at the end of the block.

    ``prefix`` is a command that starts it; ``kpatch`` replaces ``python -m kpatch``.
    """
    words = [*arguments, "--out", str(out)] if arguments[0] == "test" else [*arguments]
    _adopt_orphans(True)
    run = Run([*prefix, *kpatch, *words], words, out, env)
    try:
        yield run
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.process.pid, signal.SIGKILL)
        run.process.wait()
        _RUNNING.discard(run.process.pid)
        _adopt_orphans(bool(_RUNNING))


def run(
    *arguments: str,
    out: Path,
    prefix: Sequence[str] = (),
    kpatch: Sequence[str] = KPATCH,
    **env: str,
) -> Ended:
    """Run ``python -m kpatch`` and wait for its end."""
    with running(*arguments, out=out, prefix=prefix, kpatch=kpatch, **env) as started:
        return started.end()


def expect_known_code(arguments: Sequence[str], code: int) -> None:
    """Fail if ``--help`` of the command, the first argument, does not list the exit code."""
    assert code in meanings(arguments[0] if arguments else ""), (arguments, code)


def environment(**more: str) -> dict[str, str]:
    """Return the caller's environment without the variables that are options of kpatch."""
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return {**kept, **more}


def _adopt_orphans(adopt: bool) -> None:
    """Become the parent of orphaned descendants (prctl(2)), so that they can be found."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0) == 0


def expect_no_children(*, seconds: float) -> None:
    """Fail if this process has children after ``seconds``, except running commands."""
    end = time.monotonic() + seconds
    while left := orphans():
        assert time.monotonic() < end, f"left behind: {', '.join(map(command, left))}"
        time.sleep(0.05)


def orphans() -> list[int]:
    """Return the processes that commands have left. Reaps those that have ended."""
    found = []
    for pid in set(children(os.getpid())) - _RUNNING:
        if state(pid) == "Z":
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        else:
            found.append(pid)
    return found


def children(parent: int) -> list[int]:
    """Return the direct children of a process."""
    found: list[int] = []
    with suppress(OSError):  # the process may end at any time
        for task in Path(f"/proc/{parent}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def descendants(parent: int) -> list[int]:
    """Return the children of a process, their children, and so on."""
    return [pid for child in children(parent) for pid in (child, *descendants(child))]


def command(pid: int) -> str:
    """Return the command line of a process, empty if it has ended."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return " ".join(word.decode(errors="replace") for word in words).strip()


def named(pid: int) -> str:
    """Return the name of the program that a process runs, "" if it has ended."""
    return Path(command(pid).partition(" ")[0]).name


def state(pid: int) -> str:
    """Return the state of a process as in proc(5), "" if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return ""


def qemu_of(run: Run) -> int | None:
    """Wait for the QEMU of a run, and return its pid."""
    pids = descendants(run.process.pid)
    return next((pid for pid in pids if named(pid).startswith("qemu-system")), None)


def mailbox(path: Path, *patches: Path) -> Path:
    """Write the patches as a mailbox, and return its path."""
    path.write_bytes(b"\n".join(patch.read_bytes() for patch in patches))
    return path


def netlink() -> tuple[Path, ...]:
    """Return the patches of the netlink series."""
    return catalog.load("netlink", bases.DEFAULT_BASE).mailboxes


def on_netlink(path: Path, fault: str) -> Path:
    """Write a mailbox of the netlink series with a planted fault."""
    return mailbox(path, *netlink(), FAULTS / f"{fault}.patch")


HEAD = """\
From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: vfio-acpi <vfio-acpi@localhost>
Date: Sun, 22 Nov 2026 12:00:00 +0000
Subject: [PATCH] vfio: Change a line

---
"""

# A patch to the tiny tree of tests.kerneltree.
PATCH = f"""\
{HEAD}diff --git a/drivers/vfio/vfio_main.c b/drivers/vfio/vfio_main.c
--- a/drivers/vfio/vfio_main.c
+++ b/drivers/vfio/vfio_main.c
@@ -1 +1 @@
-int vfio;
+int changed;
"""

KCONFIG = """\
diff --git a/drivers/vfio/Kconfig b/drivers/vfio/Kconfig
--- a/drivers/vfio/Kconfig
+++ b/drivers/vfio/Kconfig
@@ -1,2 +1,3 @@
 # SPDX-License-Identifier: GPL-2.0-only
+# {0}
 menuconfig VFIO
"""
SOURCE = """\
diff --git a/drivers/vfio/vfio_main.c b/drivers/vfio/vfio_main.c
--- a/drivers/vfio/vfio_main.c
+++ b/drivers/vfio/vfio_main.c
@@ -1,2 +1,3 @@
 // SPDX-License-Identifier: GPL-2.0-only
+/* {0} */
 /*
"""


@contextmanager
def unique(path: Path, *, kconfig: bool = False) -> Iterator[Path]:
    """Write a mailbox of a new series, so that its kernel (and config) has to be built.

    ``kconfig``: the config too. At the end of the block both are removed from the cache.
    """
    before = {kind: _entries(kind) for kind in ("config", "kernels")}
    diff = KCONFIG + SOURCE if kconfig else SOURCE
    path.write_text(HEAD + diff.format(os.urandom(16).hex()))
    try:
        yield path
    finally:
        for entry in _entries("kernels") - before["kernels"]:
            if path.stem in (entry / "meta.json").read_text():
                shutil.rmtree(entry, ignore_errors=True)
        for entry in _entries("config") - before["config"] if kconfig else ():
            shutil.rmtree(entry, ignore_errors=True)


def _entries(kind: str) -> set[Path]:
    folder = cache.root() / kind
    return set(folder.glob("[0-9a-f]*")) if folder.is_dir() else set()


def path_without(folder: Path, *tools: str) -> str:
    """Return a PATH with all programs of ours except these tools."""
    folder.mkdir()
    for part in reversed(os.environ["PATH"].split(os.pathsep)):
        if Path(part).is_dir():
            for item in Path(part).iterdir():
                link = folder / item.name
                if item.name not in tools:
                    link.unlink(missing_ok=True)
                    link.symlink_to(item)
    return str(folder)


def path_with(folder: Path, tool: str, script: str) -> str:
    """Return our PATH with a script in place of a tool."""
    folder.mkdir()
    (folder / tool).write_text(f"#!/bin/sh\n{script}\n")
    (folder / tool).chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def which(tool: str) -> str:
    """Return the path of a tool, which has to exist."""
    path = shutil.which(tool)
    assert path is not None, tool
    return path
