# SPDX-License-Identifier: GPL-2.0-only
"""Find kernel reports on a test kernel's console: their kind, text, and the test they belong to.

The console is a serial line. A kernel message is a line with a time stamp and, with
CONFIG_PRINTK_CALLER, a task or CPU (info_print_prefix() in kernel/printk/printk.c):

    [    1.234567] text        [    1.234567][  T123] text        [    1.234567][    C0] text

With that option the messages of each task and CPU are read separately, so that reports may
interleave. Text without a time stamp is from user space. One line may have such text and several
messages, one after the other. The kernel also prints notes about the console itself
(kernel/printk/printk.c, nbcon.c):

    ** replaying previous printk message **      the message before was cut off and is repeated
    ** 57 printk messages dropped **             a report may be missing

The guest writes its markers to /dev/kmsg, so that they are in order with the kernel's messages:

    vfio_acpi: begin TEST          vfio_acpi: end TEST

This needs a kernel that prints all messages (ignore_loglevel) and does not rate-limit the guest's
markers (printk.devkmsg=on).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from operator import itemgetter

from kpatch.lib import sanitize
from kpatch.run import title
from kpatch.tables import known_issues
from ktests.contract import BEGIN, END, MARKER, THROUGH

EXCERPT_LINES = 120
GAP_SECONDS = 5.0
BUSY_SECONDS = 0.25
UNDO_LIMIT = 64  # lines of one printk() call to remember; a call is at most LOG_LINE_MAX characters
LINE_LIMIT = 1 << 14
MESSAGE_LIMIT = 1 << 11  # characters; the kernel's messages have at most LOG_LINE_MAX, 1 kB
REPORTS_LIMIT = 16  # unfinished reports at a time, each by another task or CPU
FAULTS_LIMIT = 200  # the first ones suffice; bounds memory if a kernel makes reports in a loop


class Place(str, Enum):
    """The time of a fault: before the first test, during a test, or after one.

    BOOT is all the time before the first test, AFTER the time from the end of a test until the next
    one begins. The detection of the mechanism counts as a test.
    """

    BOOT = "boot"
    DURING = "during"
    AFTER = "after"


class Until(Enum):
    """The line that ends a report.

    A report also ends after EXCERPT_LINES lines, when the same task or CPU begins another report,
    and if more than GAP_SECONDS have passed since its latest line when another message comes. With
    STACK, a begin or end marker ends it, unless another task or CPU is still writing it.
    """

    LINE = "it is a single line"
    TRACE = "---[ end trace …]---"
    RULE = "a line of = signs, or ---[ end trace …]---"
    STACK = "the end of a task's stack, </TASK>"


@dataclass(frozen=True)
class Kind:
    """A kind of fault; ``pattern`` matches its headline from the start of the message.

    ``until`` is the line that ends a report. ``part_of`` names kinds whose reports may contain a
    line of this kind; such a line starts no new report there. ``stall`` marks reports about
    something that does not make progress: if the host found the test hung, and all its reports are
    such, the outcome is a hang, not a crash. ``infra`` marks messages that are no faults of the
    kernel, but mean that faults may have been missed.
    """

    name: str
    pattern: re.Pattern[str]
    meaning: str
    until: Until = Until.STACK
    part_of: frozenset[str] = frozenset()
    stall: bool = False
    infra: bool = False

    def is_part_of(self, other: Kind) -> bool:
        """Return whether a line of this kind belongs to a report of kind ``other``."""
        return other.name in self.part_of


def _kind(
    name: str,
    pattern: str,
    meaning: str,
    until: Until = Until.STACK,
    *,
    part_of: Iterable[str] = (),
    stall: bool = False,
    infra: bool = False,
) -> Kind:
    return Kind(name, re.compile(pattern), meaning, until, frozenset(part_of), stall, infra)


# Prefixes that the kernel puts before some headlines: the pr_fmt() of kernel/watchdog.c,
# watchdog_hld.c (watchdog_perf.c), rcu/tree.c, workqueue.c, arch/x86/kernel/traps.c; "CPU1: " in
# the text of the hard lockup. A headline with another prefix is a program's, written to /dev/kmsg.
_FMT = r"(?:(?:(?:NMI )?watchdog|rcu|workqueue|traps|CPU\d+): )*"

# Start of lockdep's headlines; kernels before 4.13 have them in brackets.
_LOCKDEP = r"(?:WARNING: |\[ INFO: )"

# Kinds whose report goes on with an oops: of a BUG(), a bad access, a stack overflow.
_BEFORE_OOPS = (
    "bug",
    "null",
    "page-fault",
    "stack-guard",
    "double-fault",
    "list",
    "usercopy",
    "vfs",
    "ubsan",
)
_BEFORE_WARNING = ("refcount", "list", "odebug", "vfs", "kobject")

# The first row that matches decides. The formats are from 6.1, 6.12 and 7.3; the comments name the
# kernel's source files.
KINDS: tuple[Kind, ...] = (
    # kernel/panic.c
    _kind("panic", r"Kernel panic - not syncing", "the kernel gave up", Until.TRACE),
    # kernel/printk/printk.c (without time stamp)
    _kind(
        "dropped",
        r"\*\* \d+ printk messages dropped \*\*",
        "the console is not complete",
        Until.LINE,
        infra=True,
    ),
    # arch/x86/mm/extable.c (without time stamp), arch/x86/kernel/traps.c
    _kind("early", r"PANIC: early exception", "exception before the kernel can handle any"),
    _kind("double-fault", _FMT + r"PANIC: ", "double or otherwise fatal fault", Until.TRACE),
    # mm/kasan, mm/kfence, kernel/kcsan, mm/kmsan (report.c)
    _kind("kasan", r"BUG: +KASAN: ", "bad memory access", Until.RULE),
    _kind("kfence", r"BUG: +KFENCE: ", "bad memory access (sampled)", Until.RULE),
    _kind("kcsan", r"BUG: +KCSAN: ", "data race", Until.RULE),
    _kind("kmsan", r"BUG: +KMSAN: ", "use of uninitialised memory", Until.RULE),
    _kind(
        "kasan",
        r"KASAN: [\w-]+ in range ",
        "bad memory access",
        Until.TRACE,
        part_of=("oops", *_BEFORE_OOPS),
    ),
    # lib/ubsan.c; 6.1 encloses the report in rules, kernels before 5.9 have the second wording
    _kind("ubsan", r"UBSAN: (?:[\w-]+|Undefined behaviour) in ", "undefined behaviour", Until.RULE),
    # lib/ubsan.c, report_ubsan_failure() with CONFIG_UBSAN_TRAP; arch/x86/kernel/traps.c turns it
    # into an oops
    _kind("ubsan", r"UBSAN: [\w/ ]+ at ", "undefined behaviour", Until.TRACE),
    # kernel/locking/lockdep.c
    _kind(
        "disabled-detector",
        r"BUG: MAX_\w+ too low!|BUG: looking up invalid subclass",
        "lockdep has switched itself off",
        infra=True,
    ),
    _kind(
        "disabled-detector",
        r"turning off the locking correctness validator",
        "lockdep has switched itself off",
        part_of=("lockdep", "disabled-detector"),
        infra=True,
    ),
    _kind("lockdep", _LOCKDEP + r"possible circular locking dependency", "may deadlock"),
    _kind("lockdep", _LOCKDEP + r"possible recursive locking", "may deadlock on itself"),
    _kind("lockdep", _LOCKDEP + r"possible irq lock inversion", "may deadlock with an interrupt"),
    _kind("lockdep", _LOCKDEP + r"\S+-safe -> \S+-unsafe lock order", "may deadlock"),
    _kind("lockdep", _LOCKDEP + r"inconsistent lock state", "lock not safe for interrupts"),
    _kind("lockdep", r"WARNING: (?:Nested lock was not taken|chain_key collision)", "locking"),
    _kind("lockdep", r"WARNING: bad (?:unlock balance|contention) detected", "locking"),
    _kind("lockdep", r"WARNING: held lock freed!", "freed what holds a locked lock"),
    _kind("lockdep", r"WARNING: .* still has locks held!", "lock not released"),
    _kind("lockdep", r"WARNING: lock held when returning to user space", "lock not released"),
    _kind("lockdep", r"\[ BUG: ", "lock taken in the wrong context"),
    _kind("lockdep", r"INFO: trying to register non-static key", "lock never initialised"),
    _kind("lockdep", r"\*\*\* DEADLOCK \*\*\*", "may deadlock", part_of=("lockdep",)),
    _kind("rcu", _LOCKDEP + r"suspicious RCU usage", "RCU-protected data used without RCU"),
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
        # A task's name may hold a newline, which puts the rest of the headline on the next line.
        r"INFO: task (?:.+ (?:blocked.*|can't die) for more than \d+ seconds|[^:]*$)",
        "a task waits and cannot be killed",
        stall=True,
    ),
    _kind(
        "disabled-detector",
        r"Future hung task reports are suppressed",
        "no further hung task is reported",
        Until.LINE,
        infra=True,
    ),
    _kind("workqueue", _FMT + r"BUG: workqueue lockup", "a work item does not end", stall=True),
    # lib/list_debug.c, lib/refcount.c, lib/debugobjects.c, mm/usercopy.c: before a WARNING or BUG
    _kind("list", r"list_(?:add|del)(?: corruption|,? double add)", "list broken", Until.TRACE),
    _kind("refcount", r"refcount_t: ", "reference count broken", Until.TRACE),
    _kind(
        "disabled-detector",
        r"ODEBUG: Out of memory\. ODEBUG disabled",
        "DEBUG_OBJECTS has switched itself off",
        Until.LINE,
        infra=True,
    ),
    _kind(
        "odebug",
        r"ODEBUG: (?!selftest passed|\d+ of \d+ active objects replaced)",
        "object in the wrong state",
        Until.TRACE,
    ),
    _kind(
        "usercopy",
        r"(?:usercopy: )?Kernel memory \w+ attempt detected",
        "bad copy to user",
        Until.TRACE,
    ),
    _kind("ref-tracker", r"ref_tracker: reference already released", "reference put twice"),
    _kind(
        "disabled-detector",
        r"ref_tracker: memory allocation failure, unreliable refcount tracker",
        "a reference is not tracked",
        Until.LINE,
        infra=True,
    ),
    # kernel/dma/debug.c
    _kind(
        "disabled-detector",
        r"DMA-API: debugging out of memory",
        "DMA_API_DEBUG has switched itself off",
        Until.LINE,
        infra=True,
    ),
    # kernel/sched/core.c
    _kind("sleep", r"BUG: sleeping function called", "sleeps where that is not allowed"),
    _kind("atomic", r"BUG: scheduling (?:while atomic|in a non-blocking)", "sleeps in atomic"),
    # arch/x86/mm/fault.c, arch/x86/kernel/traps.c
    _kind("null", r"BUG: kernel NULL pointer dereference", "NULL pointer used", Until.TRACE),
    _kind("page-fault", r"BUG: unable to handle ", "bad pointer used", Until.TRACE),
    _kind("stack-guard", r"BUG: .*stack guard page was hit", "stack overflow", Until.TRACE),
    # mm/slub.c, mm/kmemleak.c
    _kind("slub", r"BUG .+ \((?:Not t|T)ainted", "slab object corrupted or leaked"),
    _kind("kmemleak", r"kmemleak: unreferenced object", "memory that nothing points to"),
    # The number of the leaks above, or all that a kernel without kmemleak.verbose logs.
    _kind(
        "kmemleak",
        r"kmemleak: \d+ new suspected memory leaks?",
        "memory that nothing points to",
        Until.LINE,
        part_of=("kmemleak",),
    ),
    _kind(
        "disabled-detector",
        r"kmemleak: (?:Cannot allocate a kmemleak_object|Memory pool empty)",
        "kmemleak is about to switch itself off",
        Until.LINE,
        infra=True,
    ),
    _kind(
        "disabled-detector",
        r"kmemleak: Kernel memory leak detector disabled",
        "kmemleak has switched itself off",
        Until.LINE,
        infra=True,
    ),
    # mm/oom_kill.c; the line about the killed process, not the one about the allocating process
    _kind(
        "oom",
        r"(?:Out of memory|Memory cgroup out of memory)[^:]*: Killed process",
        "a program was killed for want of memory",
        Until.LINE,
    ),
    _kind("oom", r"Out of memory and no killable processes", "no memory is left", Until.LINE),
    # fs/open.c (alone up to about 6.2, since then before a WARNING or BUG), fs/super.c
    _kind("vfs", r"VFS: Close: file count is 0", "closed a file that is gone", Until.TRACE),
    _kind("vfs", r"VFS: Busy inodes after unmount", "unmounted what is in use", Until.TRACE),
    # net/core/dev.c: every 10 s
    _kind(
        "netdev",
        r"unregister_netdevice: waiting for .* to become free",
        "a network device has references left",
        Until.LINE,
        stall=True,
    ),
    # drivers/iommu/intel/dmar.c, drivers/iommu/amd/iommu.c: an access outside the device's mappings
    _kind(
        "iommu",
        r"DMAR: \[(?:DMA (?:Read|Write)|INTR-REMAP)\b.*\] Request device ",
        "the IOMMU blocked a device's access or interrupt",
        Until.LINE,
    ),
    _kind(
        "iommu",
        r"DMAR: VT-d detected Invalidation \S+ Error",
        "the IOMMU's driver gave it a bad command",
        Until.LINE,
    ),
    _kind(
        "iommu",
        r"(?:\S+ \S+: )?AMD-Vi: Event logged \[",
        "the IOMMU blocked a device's access or interrupt",
        Until.LINE,
    ),
    # lib/bug.c, arch/x86/kernel/dumpstack.c (6.1 has no "Oops: " there for a GPF)
    _kind("bug", r"kernel BUG at ", "BUG()", Until.TRACE, part_of=("list", "usercopy", "vfs")),
    _kind(
        "oops",
        # die() with one of the names in arch/x86/kernel/traps.c, or "Oops" itself
        r"Oops: |general protection fault\b"
        r"|(?:[a-zA-Z#_-]+ ){0,3}[a-zA-Z#_]+: [0-9a-f]{4} \[#\d+\]",
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
    # drivers/acpi/acpica/utdelete.c
    _kind(
        "acpi",
        r"ACPI Warning: (?:Obj \S+, Reference Count is already zero|Large Reference Count)",
        "an ACPI object's reference count is broken",
        Until.LINE,
    ),
    # kernel/irq/spurious.c, lib/kobject.c, fs/sysfs/dir.c
    _kind("irq", r"irq \d+: nobody cared", "interrupt that no handler takes"),
    _kind("irq", r"irq event \d+: bogus return value", "a handler's return value is none"),
    # arch/x86/kernel/irq.c: as in 6.1, and since 6.12
    _kind(
        "irq",
        r"(?:__common_interrupt: \d+\.\d+ No irq handler for vector|No irq handler for \d+\.\d+)",
        "an interrupt came whose handler is gone",
        Until.LINE,
    ),
    # arch/x86/kernel/unwind_frame.c
    _kind(
        "unwind",
        r"WARNING: kernel stack (?:regs|frame pointer) at ",
        "the stack is not as the compiler left it",
        Until.LINE,
    ),
    _kind("kobject", r"kobject: .* yet kobject_", "kobject misused", Until.TRACE),
    _kind("kobject", r"kobject.* something is seriously wrong", "kobject misused"),
    _kind("kobject", r"sysfs: cannot create duplicate filename", "registered twice"),
    # any other message of the kernel that begins with "BUG: "
    _kind("bug", _FMT + r"BUG: ", "what the kernel calls a bug"),
    # arch/x86/boot/compressed/error.c (without time stamp)
    _kind("halted", r"-- System halted", "the kernel image does not unpack", Until.LINE),
)

# A report whose "cut here" line came, but no headline: the machine died in between.
CUT = _kind(
    "cut",
    r"-+\[ cut here \]-+",
    "the start of a report, then nothing",
    Until.TRACE,
    part_of=("list", "usercopy", "vfs"),  # these print their headline before they call BUG()
)

# Kinds that may come without a time stamp, because printk is not used or not yet ready.
_BARE = frozenset({"early", "halted", "dropped"})
_ONLY_BARE = frozenset({"dropped"})  # with a time stamp such a line is a program's

_FATAL = frozenset({"panic", "early", "halted"})

# print_time() pads the seconds to five places. The pattern requires that, so that another number in
# brackets is not taken for a time stamp.
_MESSAGE = re.compile(
    r"\[(?=[ \d]{5,}\.) *(?P<time>\d+\.\d{6})\](?:\[ *(?P<caller>[TC]\d+)\])? ?"
    r"(?P<text>(?:(?!\[[ \d]{5,}\.\d{6}\]).)*)"
)
_NOTE = re.compile(r"\*\* (?:replaying previous printk message|\d+ printk messages dropped) \*\*")
_BROKEN_STAMP = re.compile(r"\[[ \d.]*\]?(?:\[ *(?:[TC]\d*)?)?")
_REMOTE = re.compile(r"Sending NMI from CPU \d+ to CPUs ")
_MARK = re.compile(rf"{re.escape(MARKER)}({BEGIN}|{END}) (.+)")
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

    ``kind`` is `Kind.name`, or "emulator" for a fault of the emulator. ``line`` is the headline,
    ``excerpt`` the report with time stamps, at most EXCERPT_LINES lines. ``test`` is the id of the
    test that ran, or had run last; None before the first one. ``time`` is the kernel's clock in
    seconds when the report began, None without a time stamp.
    ``stall`` and ``infra`` are those of `Kind`. ``known`` is the reason why the report is a known
    issue, which does not count against a series (`kpatch.tables.known_issues`); "" if it is none.
    ``title`` and ``fingerprint`` are the same for the same fault in another run
    (`kpatch.run.title`). ``source`` is the line of a source of the series, "fs/eventfd.c:81", to
    which the topmost of its frames belongs that is known (`kpatch.build.lines`); "" if none is.
    """

    kind: str
    line: str
    excerpt: str
    test: str | None
    place: Place
    time: float | None
    stall: bool = False
    known: str = ""
    title: str = ""
    fingerprint: str = ""
    infra: bool = False
    source: str = ""

    @property
    def headline(self) -> str:
        """Return ``line``, and ``source`` in parentheses."""
        return f"{self.line} ({self.source})" if self.source else self.line

    @property
    def fatal(self) -> bool:
        """Return whether the kernel stops after this report (panic, halt)."""
        return self.kind in _FATAL


@dataclass(frozen=True)
class _Message:
    """A console message: ``shown`` as printed, ``text`` without time stamp and caller.

    ``time`` is in seconds, None without a time stamp. ``caller`` is the task or CPU ("T123", "C0"),
    "" without CONFIG_PRINTK_CALLER.
    """

    shown: str
    text: str
    time: float | None = None
    caller: str = ""

    def continues(self, other: _Message) -> bool:
        """Return whether both messages can be lines of one printk() call.

        Such lines have the same time stamp and the same caller.
        """
        return (self.time, self.caller) == (other.time, other.caller)


@dataclass
class _Report:
    """An unfinished report. If it begins with "cut here", its ``kind`` is CUT until its headline.

    ``first`` and ``last`` are the times of its first and last message; None without a time stamp.
    """

    kind: Kind
    number: int  # counts the reports in the order in which they begin
    test: str | None
    place: Place
    first: float | None
    last: float | None
    messages: list[_Message]
    head: int  # index of the headline in messages

    def copy(self) -> _Report:
        return replace(self, messages=[*self.messages])

    def add(self, message: _Message) -> None:
        self.messages.append(message)
        if message.time is not None:
            self.last = message.time

    def name(self, kind: Kind, message: _Message) -> None:
        """Add the headline ``message`` to a report of kind CUT, and set its kind."""
        self.kind, self.head = kind, len(self.messages)
        self.add(message)

    def fault(self) -> Fault:
        excerpt = "\n".join(message.shown for message in self.messages) + "\n"
        head = self.head
        if self.kind is CUT and len(self.messages) > head + 1:
            head += 1  # there is no headline; the line after "cut here" (WARN()'s text) is nearest
        texts = [message.text for message in self.messages[head:]]
        return Fault(
            kind=self.kind.name,
            line=sanitize.line(texts[0]),
            excerpt=excerpt,
            test=self.test,
            place=self.place,
            time=self.first,
            stall=self.kind.stall,
            known=known_issues.why(self.kind.name, excerpt),
            title=sanitize.line(title.title(texts)),
            fingerprint=title.fingerprint(self.kind.name, texts),
            infra=self.kind.infra,
        )


@dataclass
class _State:
    """The parser's state after a line, except for the list of faults found so far.

    ``test`` is the running test, ``latest`` the test that began last.
    """

    test: str | None = None
    latest: str | None = None
    place: Place = Place.BOOT
    through: bool = False
    begun: int = 0
    # By caller: the caller's last message, if it is a rule (=====). The next report includes it.
    leads: dict[str, _Message] = field(default_factory=dict)
    reports: dict[str, _Report] = field(default_factory=dict)
    remote: str | None = None  # caller whose report is followed by stacks of other CPUs (NMI)

    def copy(self) -> _State:
        return replace(
            self,
            leads={**self.leads},
            reports={caller: report.copy() for caller, report in self.reports.items()},
        )


@dataclass(frozen=True)
class _Point:
    """The parser's state before ``message``; if the message is replayed, the parser returns to it.

    ``found`` is the length of the parser's list of faults before it.
    """

    message: _Message
    state: _State
    found: int


class Console:
    """Parse a console's bytes as they arrive, in pieces of any size."""

    def __init__(self) -> None:
        self._state = _State()
        self._found: list[tuple[int, Fault]] = []
        self._rest = b""
        self._undo: list[_Point] = []  # states before each line of the last printk() call
        self._replay = False
        self._notes: list[_Message] = []  # notes about dropped messages, held back during a replay

    @property
    def faults(self) -> list[Fault]:
        """Return the finished reports, in the order in which they began.

        Of those with the same `Fault.infra`, the first FAULTS_LIMIT to finish and all fatal ones
        are kept.
        """
        return [fault for _, fault in sorted(self._found, key=itemgetter(0))]

    @property
    def test(self) -> str | None:
        """Return the id of the running test; None if no test runs."""
        return self._state.test

    @property
    def through(self) -> bool:
        """Return whether the marker that ends the suite (`ktests.contract.THROUGH`) was seen."""
        return self._state.through

    def feed(self, data: bytes) -> None:
        """Parse the next bytes of the console."""
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line)
        if len(rest) > LINE_LIMIT:
            self._line(rest)
            rest = b""
        self._rest = rest

    def close(self) -> tuple[Fault, ...]:
        """Parse the unfinished last line, end all reports, and return all faults in order."""
        if self._rest:
            self._line(self._rest)
            self._rest = b""
        self._take_notes()
        for caller in [*self._state.reports]:
            self._finish(caller)
        return tuple(self.faults)

    def _line(self, raw: bytes) -> None:
        shown = sanitize.clean(raw[:LINE_LIMIT].decode(errors="replace")).rstrip("\r\n")
        messages = [
            _Message(
                match[0][:MESSAGE_LIMIT],
                match["text"][:MESSAGE_LIMIT],
                float(match["time"]),
                match["caller"] or "",
            )
            for match in _MESSAGE.finditer(shown)
        ]
        bare = shown[: shown.index(messages[0].shown)] if messages else shown
        self._bare(bare, alone=not messages)
        for message in messages:
            self._stamped(message)

    def _bare(self, shown: str, *, alone: bool) -> None:
        """Parse ``shown``, the part of a line before its first time stamp.

        It is output of user space, a note of the kernel about the console, or a headline of a kind
        in _BARE. ``alone`` is true if the line has no time stamp.
        """
        if alone and _BROKEN_STAMP.fullmatch(shown):
            self._undo = []  # the message that will be replayed was cut off before its text began
        for note in _NOTE.findall(shown):
            if "replaying" in note:
                self._replay = True
            else:
                self._notes.append(_Message(note, note))
        if not self._replay:
            self._take_notes()
        kind = _classify(shown)
        if alone and kind is not None and kind.name in _BARE and not _NOTE.search(shown):
            self._message(_Message(shown, shown))

    def _stamped(self, message: _Message) -> None:
        if self._replay:
            self._take_back(message)
            self._replay = False
            self._take_notes()
        if self._undo and not self._undo[-1].message.continues(message):
            self._undo = []
        point = _Point(message, self._state.copy(), len(self._found))
        self._undo = [*self._undo[-UNDO_LIMIT:], point]
        self._message(message)

    def _take_notes(self) -> None:
        notes, self._notes = self._notes, []
        for note in notes:
            self._message(note)

    def _take_back(self, message: _Message) -> None:
        """Return to the state before the first copy of ``message``, which the kernel has replayed.

        The first copy may have been cut off in the text of any of its lines. Does nothing if it is
        not found, also after a copy that was cut off in a time stamp: the rest may be another one.
        """
        for index in reversed(range(len(self._undo))):
            point = self._undo[index]
            before, last = point.message.text, index == len(self._undo) - 1
            if before == message.text or (last and message.text.startswith(before)):
                self._state, self._undo = point.state, self._undo[:index]
                del self._found[point.found :]
                return

    def _message(self, message: _Message) -> None:
        state, caller = self._state, message.caller
        if message.text.startswith(MARKER):
            self._marker(message)
            return
        for other, report in [*state.reports.items()]:
            if _gap(report.last, message.time):
                self._finish(other)
        kind = CUT if CUT.pattern.match(message.text) else _classify(message.text)
        if kind is not None and kind.name in _ONLY_BARE and message.time is not None:
            kind = None
        open_ = state.reports.get(caller)
        if kind is None or (open_ is not None and kind.is_part_of(open_.kind)):
            self._continue(message)
        elif kind.until is Until.LINE:
            self._continue(message)  # the report around it continues after this line
            self._single(kind, message)
        else:
            self._open(kind, message)
        state.leads.pop(caller, None)
        if _RULE.match(message.text) and len(state.leads) < REPORTS_LIMIT:
            state.leads[caller] = message
        self._end(message)

    def _continue(self, message: _Message) -> None:
        state = self._state
        owner = message.caller
        if owner not in state.reports and owner.startswith("C") and state.remote is not None:
            owner = state.remote
        report = state.reports.get(owner)
        if report is not None:
            report.add(message)
            if _REMOTE.match(message.text):
                state.remote = owner

    def _open(self, kind: Kind, message: _Message) -> None:
        """Handle ``message``, the headline of a fault of ``kind`` (or, if that is CUT, "cut here").

        The task or CPU that printed ``message`` may have an unfinished report that began with "cut
        here" and has no headline yet (kind CUT). That report gets the headline, unless ``kind`` is
        CUT as well. Otherwise its unfinished report ends, and a new one begins.
        """
        state, caller = self._state, message.caller
        report = state.reports.get(caller)
        if report is None or report.kind is not CUT or kind is CUT:
            self._finish(caller)
            if len(state.reports) >= REPORTS_LIMIT:
                self._finish(next(iter(state.reports)))
            lead = state.leads.get(caller)
            state.reports[caller] = self._begin(kind, message, [] if lead is None else [lead])
        else:
            report.name(kind, message)

    def _single(self, kind: Kind, message: _Message) -> None:
        """Add a report that consists of ``message`` alone; unfinished reports continue."""
        self._keep(self._begin(kind, message, []))

    def _begin(self, kind: Kind, message: _Message, lead: list[_Message]) -> _Report:
        state = self._state
        state.begun += 1
        return _Report(
            kind=kind,
            number=state.begun,
            test=state.latest,
            place=state.place,
            first=message.time,
            last=message.time,
            messages=[*lead, message],
            head=len(lead),
        )

    def _end(self, message: _Message) -> None:
        """Finish the reports of which ``message`` is the last line."""
        state, caller = self._state, message.caller
        for owner in {caller, state.remote if state.remote is not None else caller}:
            report = state.reports.get(owner)
            if report is None:
                continue
            ends = owner == caller and _ENDS[report.kind.until].match(message.text)
            if ends:
                state.leads.pop(owner, None)
            if ends or len(report.messages) >= EXCERPT_LINES:
                self._finish(owner)

    def _finish(self, caller: str) -> None:
        report = self._state.reports.pop(caller, None)
        if report is not None:
            self._keep(report)
        if self._state.remote == caller:
            self._state.remote = None

    def _keep(self, report: _Report) -> None:
        alike = sum(fault.infra == report.kind.infra for _, fault in self._found)
        if report.kind.name in _FATAL or alike < FAULTS_LIMIT:
            self._found.append((report.number, report.fault()))

    def _marker(self, message: _Message) -> None:
        state, text_ = self._state, message.text.rstrip()
        match = _MARK.fullmatch(text_)
        if match is None:
            state.through = state.through or text_ == f"{MARKER}{THROUGH}"
            return
        # A report of Until.STACK ends here: not each has a </TASK>, and without it the report would
        # take in messages of the next test. It continues if another task or CPU is writing it now.
        for caller, report in [*state.reports.items()]:
            if report.kind.until is Until.STACK and not _busy(report, message):
                self._finish(caller)
        if match[1] == "begin":
            state.test = state.latest = match[2]
            state.place = Place.DURING
        else:
            state.test, state.place = None, Place.AFTER


def read(data: bytes | str) -> tuple[Fault, ...]:
    """Return all faults in ``data``, the complete output of a console."""
    console = Console()
    console.feed(data.encode(errors="replace") if isinstance(data, str) else data)
    return console.close()


def _classify(message: str) -> Kind | None:
    message = message[:MESSAGE_LIMIT].lstrip(" ")
    return next((kind for kind in KINDS if kind.pattern.match(message)), None)


def _gap(before: float | None, now: float | None) -> bool:
    return before is not None and now is not None and now - before > GAP_SECONDS


def _busy(report: _Report, message: _Message) -> bool:
    """Return whether a caller other than that of ``message`` is still writing ``report``.

    It is if the last line of ``report`` is of another caller (a task or CPU), and less than
    BUSY_SECONDS older than ``message``. The result is False if a time stamp is missing.
    """
    if report.messages[-1].caller == message.caller or report.last is None or message.time is None:
        return False
    return message.time - report.last < BUSY_SECONDS
