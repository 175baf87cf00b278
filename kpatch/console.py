# SPDX-License-Identifier: GPL-2.0-only
"""Faults on a test kernel's console: which kind, the whole report, and the test it happened in.

The console is a serial line. Kernel messages stand on it one a line behind a time stamp and,
with CONFIG_PRINTK_CALLER, a task or CPU (info_print_prefix() in kernel/printk/printk.c):

    [    1.234567] text        [    1.234567][  T123] text        [    1.234567][    C0] text

Anything else there is user space, but may stand in front of a message on the same line. The
guest writes its markers through /dev/kmsg, so that they keep their place among the messages:

    vfio_acpi: begin TEST          vfio_acpi: end TEST

The kernel has to show all of its messages for this (loglevel=7, not ``quiet``), and must
not rate-limit the guest's (printk.devkmsg=on).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from kpatch import known, text

MARKER = "vfio_acpi: "
THROUGH = f"{MARKER}through"
EXCERPT_LINES = 120
GAP_SECONDS = 5.0
LINE_LIMIT = 1 << 14
FAULTS_LIMIT = 200  # the first ones tell; a kernel that complains in a loop fills no disk


class Place(str, Enum):
    """Where in the run a fault happened; AFTER means after the end of the test it is given to."""

    BOOT = "boot"
    DURING = "during"
    AFTER = "after"


class Until(Enum):
    """How a report ends. Every report also ends with a gap in time, or when it is too long."""

    LINE = "it is a single line"
    TRACE = "---[ end trace …]---"
    RULE = "a line of = signs, or ---[ end trace …]---"
    STACK = "the end of a task's stack, </TASK>"


@dataclass(frozen=True)
class Kind:
    """A kind of fault: what its headline looks like from the start of the message.

    ``part_of`` names the kinds whose reports contain such a line themselves; there it
    starts no report of its own. ``stall`` marks what a kernel says of something that does not
    go on; when the host has found the test hung as well, that is the better word for it.
    """

    name: str
    pattern: re.Pattern[str]
    meaning: str
    until: Until = Until.STACK
    part_of: frozenset[str] = frozenset()
    stall: bool = False


def _kind(
    name: str,
    pattern: str,
    meaning: str,
    until: Until = Until.STACK,
    *,
    part_of: Iterable[str] = (),
    stall: bool = False,
) -> Kind:
    return Kind(name, re.compile(pattern), meaning, until, frozenset(part_of), stall)


# What may stand before a message's text: pr_fmt() of watchdog, rcu, traps, …
_FMT = r"(?:(?:NMI )?[\w.-]+: )*"

# What runs into an oops: the lines that BUG(), a bad access and a full stack print before it.
_BEFORE_OOPS = ("bug", "null", "page-fault", "stack-guard", "double-fault", "list", "usercopy")
_BEFORE_WARNING = ("refcount", "list", "odebug")

# The first row that matches names the kind. Formats as in 6.1, 6.12 and 7.3, source file given
# where the message is made.
KINDS: tuple[Kind, ...] = (
    # kernel/panic.c
    _kind("panic", r"Kernel panic - not syncing", "the kernel gave up", Until.TRACE),
    # arch/x86/mm/extable.c (on the bare line, without time stamp), arch/x86/kernel/traps.c
    _kind("early", r"PANIC: early exception", "exception before the kernel can handle any"),
    _kind("double-fault", _FMT + r"PANIC: ", "double or otherwise fatal fault", Until.TRACE),
    # mm/kasan, mm/kfence, kernel/kcsan, mm/kmsan (report.c)
    _kind("kasan", r"BUG: KASAN: ", "bad memory access", Until.RULE),
    _kind("kfence", r"BUG: KFENCE: ", "bad memory access (sampled)", Until.RULE),
    _kind("kcsan", r"BUG: KCSAN: ", "data race", Until.RULE),
    _kind("kmsan", r"BUG: KMSAN: ", "use of uninitialised memory", Until.RULE),
    _kind(
        "kasan",
        r"KASAN: [\w-]+ in range ",
        "bad memory access",
        Until.TRACE,
        part_of=("oops", *_BEFORE_OOPS),
    ),
    # lib/ubsan.c; 6.1 encloses the report in rules
    _kind("ubsan", r"UBSAN: [\w-]+ in ", "undefined behaviour", Until.RULE),
    # kernel/locking/lockdep.c
    _kind("lockdep", r"WARNING: possible circular locking dependency", "may deadlock"),
    _kind("lockdep", r"WARNING: possible recursive locking", "may deadlock on itself"),
    _kind("lockdep", r"WARNING: possible irq lock inversion", "may deadlock with an interrupt"),
    _kind("lockdep", r"WARNING: \S+-safe -> \S+-unsafe lock order", "may deadlock"),
    _kind("lockdep", r"WARNING: inconsistent lock state", "lock not safe for interrupts"),
    _kind("lockdep", r"WARNING: (?:Nested lock was not taken|chain_key collision)", "locking"),
    _kind("lockdep", r"WARNING: bad (?:unlock balance|contention) detected", "locking"),
    _kind("lockdep", r"WARNING: held lock freed!", "freed what holds a locked lock"),
    _kind("lockdep", r"WARNING: .* still has locks held!", "lock not released"),
    _kind("lockdep", r"WARNING: lock held when returning to user space", "lock not released"),
    _kind("lockdep", r"\[ BUG: ", "lock taken in the wrong context"),
    _kind("lockdep", r"INFO: trying to register non-static key", "lock never initialised"),
    _kind("lockdep", r" *\*\*\* DEADLOCK \*\*\*", "may deadlock", part_of=("lockdep",)),
    _kind("rcu", r"WARNING: suspicious RCU usage", "RCU-protected data used without RCU"),
    # kernel/rcu/tree_stall.h, tree_exp.h, tasks.h
    _kind(
        "rcu-stall",
        _FMT + r"INFO: \S+ (?:self-)?detected (?:expedited )?stall",
        "a CPU or task holds up RCU",
        stall=True,
    ),
    _kind(
        "rcu-stall",
        _FMT + r"\S+ kthread starved for ",
        "RCU's own task does not get to run",
        part_of=("rcu-stall",),
        stall=True,
    ),
    # kernel/watchdog.c, watchdog_hld.c, hung_task.c, workqueue.c
    _kind("soft-lockup", _FMT + r"BUG: soft lockup", "a CPU does not schedule", stall=True),
    _kind(
        "hard-lockup",
        _FMT + r"Watchdog detected hard LOCKUP",
        "a CPU does not take interrupts",
        stall=True,
    ),
    _kind(
        "hung-task",
        r"INFO: task .+ blocked.* for more than \d+ seconds",
        "a task waits and cannot be killed",
        stall=True,
    ),
    _kind("workqueue", _FMT + r"BUG: workqueue lockup", "a work item does not end", stall=True),
    # lib/list_debug.c, lib/refcount.c, lib/debugobjects.c, mm/usercopy.c: above a WARNING or BUG
    _kind("list", r"list_(?:add|del)(?: corruption|,? double add)", "list broken", Until.TRACE),
    _kind("refcount", r"refcount_t: ", "reference count broken", Until.TRACE),
    _kind("odebug", r"ODEBUG: (?!selftest passed)", "object in the wrong state", Until.TRACE),
    _kind("usercopy", r"Kernel memory \w+ attempt detected", "bad copy to user", Until.TRACE),
    _kind("ref-tracker", r"ref_tracker: reference already released", "reference put twice"),
    # kernel/sched/core.c
    _kind("sleep", r"BUG: sleeping function called", "sleeps where that is not allowed"),
    _kind("atomic", r"BUG: scheduling (?:while atomic|in a non-blocking)", "sleeps in atomic"),
    # arch/x86/mm/fault.c, arch/x86/kernel/traps.c
    _kind("null", r"BUG: kernel NULL pointer dereference", "NULL pointer used", Until.TRACE),
    _kind("page-fault", r"BUG: unable to handle ", "bad pointer used", Until.TRACE),
    _kind("stack-guard", r"BUG: .*stack guard page was hit", "stack overflow", Until.TRACE),
    # mm/slub.c, mm/kmemleak.c
    _kind("slub", r"BUG .+ \((?:Not t|T)ainted", "slab object corrupted or leaked"),
    _kind(
        "kmemleak",
        r"kmemleak: \d+ new suspected memory leaks?",
        "memory that nothing points to",
        Until.LINE,
    ),
    # lib/bug.c, arch/x86/kernel/dumpstack.c (6.1 has no "Oops: " there for a GPF)
    _kind("bug", r"kernel BUG at ", "BUG()", Until.TRACE, part_of=("list", "usercopy")),
    _kind(
        "oops",
        r"Oops: |general protection fault|.+: [0-9a-f]{4} \[#\d+\]",
        "exception in the kernel",
        Until.TRACE,
        part_of=_BEFORE_OOPS,
    ),
    # kernel/panic.c: up to 6.12, and as in 7.3
    _kind(
        "warning",
        r"WARNING: (?:CPU: \d+ PID: \d+ at |(?:\S+:\d+ )?at .+, CPU#\d+: )",
        "WARN()",
        Until.TRACE,
        part_of=_BEFORE_WARNING,
    ),
    # kernel/irq/spurious.c, lib/kobject.c, fs/sysfs/dir.c
    _kind("irq", r"irq \d+: nobody cared", "interrupt that no handler takes"),
    _kind("kobject", r"kobject.* (?:something is seriously wrong|yet kobject_)", "kobject misused"),
    _kind("kobject", r"sysfs: cannot create duplicate filename", "registered twice"),
    # everything else that the kernel itself calls a bug
    _kind("bug", _FMT + r"BUG: ", "what the kernel calls a bug"),
    # arch/x86/boot/compressed/error.c (on the bare line)
    _kind("halted", r" *-- System halted", "the kernel image does not unpack", Until.LINE),
)

# A report whose start was seen and whose headline never came: the machine died over it.
CUT = _kind(
    "cut",
    r"-+\[ cut here \]-+",
    "the start of a report, then nothing",
    Until.TRACE,
    part_of=("list", "usercopy"),  # these say what is wrong, then call BUG()
)

# Kinds that are printed without a time stamp, before or without printk.
_BARE = frozenset({"early", "halted"})

_FATAL = frozenset({"panic", "early", "halted"})

_MESSAGE = re.compile(r"\[ *(\d+\.\d{6})\](?:\[ *[TC]\d+\])? ?(.*)")
_MARK = re.compile(re.escape(MARKER) + r"(begin|end) (.+)")
_RULE = re.compile(r"={20,}")
_ENDS = {
    Until.LINE: re.compile(""),
    Until.TRACE: re.compile(r"---\[ end "),
    Until.RULE: re.compile(r"={20,}|---\[ end "),
    Until.STACK: re.compile(r" *</TASK>"),
}


@dataclass(frozen=True)
class Fault:
    """One report of the kernel.

    ``line`` is its headline, ``excerpt`` all of it with time stamps, ``test`` the test it is
    given to (None before the first one), ``time`` the kernel's clock in seconds, None where a
    line carries none. ``known`` is why it says nothing of a series (`kpatch.known`), "" if it does.
    """

    kind: str
    line: str
    excerpt: str
    test: str | None
    place: Place
    time: float | None
    stall: bool = False
    known: str = ""

    @property
    def title(self) -> str:
        """The headline."""
        return self.line.strip()

    @property
    def fatal(self) -> bool:
        """Whether the kernel says that it does not go on after this."""
        return self.kind in _FATAL


@dataclass
class _Report:
    """A report that is being read; ``kind`` is CUT until its headline came."""

    kind: Kind
    line: str
    test: str | None
    place: Place
    first: float | None
    last: float | None
    lines: list[str]

    def fault(self) -> Fault:
        excerpt = "\n".join(self.lines) + "\n"
        return Fault(
            kind=self.kind.name,
            line=text.line(self.line),
            excerpt=excerpt,
            test=self.test,
            place=self.place,
            time=self.first,
            stall=self.kind.stall,
            known=known.why(self.kind.name, excerpt),
        )


class Console:
    """Reads a console as it comes, in pieces of any size.

    ``faults`` are the reports that are complete, ``test`` is the test that runs by the markers,
    ``seen`` the markers' tests in order, ``dead`` whether the kernel has said its last word,
    ``through`` whether a marker has said that the suite is.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.seen: list[str] = []
        self.test: str | None = None
        self.dead = False
        self.through = False
        self._place = Place.BOOT
        self._rest = b""
        self._lead: str | None = None  # the line before, where it opens a report
        self._report: _Report | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the console."""
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line)
        if len(rest) > LINE_LIMIT:
            self._line(rest)
            rest = b""
        self._rest = rest

    def close(self) -> tuple[Fault, ...]:
        """The console has ended: all faults, those included that it breaks off in."""
        if self._rest:
            self._line(self._rest)
            self._rest = b""
        self._finish()
        return tuple(self.faults)

    def _line(self, raw: bytes) -> None:
        shown = text.clean(raw[:LINE_LIMIT].decode(errors="replace")).rstrip("\r\n")
        match = _MESSAGE.search(shown)
        if match is None:
            kind = _classify(shown)
            if kind is not None and kind.name in _BARE:
                self._message(shown, shown, None)
            return
        self._message(match[0], match[2], float(match[1]))

    def _message(self, shown: str, message: str, time: float | None) -> None:
        if message.startswith(MARKER):
            self._marker(message)
            return
        if self._report is not None and _gap(self._report.last, time):
            self._finish()
        kind = CUT if CUT.pattern.match(message) else _classify(message)
        report = self._report
        if kind is not None and (report is None or not _belongs(kind, report)):
            self._open(kind, shown, message, time)
        elif report is not None:
            if report.kind is CUT and len(report.lines) == 1:
                report.line = message  # what WARN() says; the best there is if no headline comes
            report.lines.append(shown)
            report.last = time
        self._lead = shown if _RULE.match(message) else None
        self._end(message)

    def _open(self, kind: Kind, shown: str, message: str, time: float | None) -> None:
        """A headline: of the report that "cut here" began, or of a new one."""
        report = self._report
        if report is None or report.kind is not CUT or kind is CUT:
            self._finish()
            self._start(kind, shown, message, time)
        else:
            report.kind, report.line, report.last = kind, message, time
            report.lines.append(shown)
        self.dead = self.dead or kind.name in _FATAL

    def _start(self, kind: Kind, shown: str, message: str, time: float | None) -> None:
        lead = [] if self._lead is None else [self._lead]
        self._report = _Report(
            kind=kind,
            line=message,
            test=self.seen[-1] if self.seen else None,
            place=self._place,
            first=time,
            last=time,
            lines=[*lead, shown],
        )

    def _end(self, message: str) -> None:
        """Finish the report if ``message`` is its last line."""
        report = self._report
        if report is None:
            return
        if _ENDS[report.kind.until].match(message):
            self._lead = None
            self._finish()
        elif len(report.lines) >= EXCERPT_LINES:
            self._finish()

    def _finish(self) -> None:
        if self._report is not None:
            fault = self._report.fault()
            if fault.fatal or len(self.faults) < FAULTS_LIMIT:
                self.faults.append(fault)
        self._report = None

    def _marker(self, message: str) -> None:
        match = _MARK.fullmatch(message.rstrip())
        if match is None:
            self.through = self.through or message.rstrip() == THROUGH
            return
        # A report without an end of its own would swallow the messages of the next test. One
        # that has an end may still be written by another CPU.
        if self._report is not None and self._report.kind.until is Until.STACK:
            self._finish()
        if match[1] == "begin":
            self.seen.append(match[2])
            self.test, self._place = match[2], Place.DURING
        else:
            self.test, self._place = None, Place.AFTER


def read(data: bytes | str) -> tuple[Fault, ...]:
    """All faults of a whole console."""
    console = Console()
    console.feed(data.encode(errors="replace") if isinstance(data, str) else data)
    return console.close()


def _classify(message: str) -> Kind | None:
    return next((kind for kind in KINDS if kind.pattern.match(message)), None)


def _belongs(kind: Kind, report: _Report) -> bool:
    return report.kind.name in kind.part_of


def _gap(before: float | None, now: float | None) -> bool:
    return before is not None and now is not None and now - before > GAP_SECONDS
