# SPDX-License-Identifier: GPL-2.0-only
"""Faults on a test kernel's console: which kind, the whole report, and the test it happened in.

The console is a serial line. Kernel messages stand on it one a line behind a time stamp and,
with CONFIG_PRINTK_CALLER, a task or CPU (info_print_prefix() in kernel/printk/printk.c):

    [    1.234567] text        [    1.234567][  T123] text        [    1.234567][    C0] text

Tasks and CPUs that are named are read apart, so that reports may interleave. Anything else there
is user space, but may stand in front of a message on the same line, as may another message.
Between the messages, the kernel says of the console itself (kernel/printk/printk.c, nbcon.c):

    ** replaying previous printk message **      the message before was cut off and comes again
    ** 57 printk messages dropped **             so that "no fault" is not known

The guest writes its markers through /dev/kmsg, so that they keep their place among the messages:

    vfio_acpi: begin TEST          vfio_acpi: end TEST

The kernel has to show all of its messages for this (ignore_loglevel), and must not rate-limit
the guest's (printk.devkmsg=on).
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
UNDO_LIMIT = 64  # lines of one printk() call; LOG_LINE_MAX characters in 7.3 are no more
LINE_LIMIT = 1 << 14
MESSAGE_LIMIT = 1 << 11  # the kernel's have LOG_LINE_MAX, 1 kB; what is longer is a program's
REPORTS_LIMIT = 16  # that are being written at a time, each by another task or CPU
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
    ``infra`` marks what is no fault of the kernel's: it says that faults may not have been seen.
    """

    name: str
    pattern: re.Pattern[str]
    meaning: str
    until: Until = Until.STACK
    part_of: frozenset[str] = frozenset()
    stall: bool = False
    infra: bool = False

    def is_part_of(self, other: Kind) -> bool:
        """Whether a line of this kind starts no report of its own within one of the other."""
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


# What the kernel itself puts before such a message: the pr_fmt() of kernel/watchdog.c,
# watchdog_hld.c (watchdog_perf.c), rcu/tree.c, workqueue.c, arch/x86/kernel/traps.c; "CPU1: " in
# the text of the hard lockup. Any other name in front is a program that wrote to /dev/kmsg.
_FMT = r"(?:(?:(?:NMI )?watchdog|rcu|workqueue|traps|CPU\d+): )*"

# lockdep's headline; kernels before 4.13 put it into brackets.
_LOCKDEP = r"(?:WARNING: |\[ INFO: )"

# What runs into an oops: the lines that BUG(), a bad access and a full stack print before it.
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

# The first row that matches names the kind. Formats as in 6.1, 6.12 and 7.3, source file given
# where the message is made.
KINDS: tuple[Kind, ...] = (
    # kernel/panic.c
    _kind("panic", r"Kernel panic - not syncing", "the kernel gave up", Until.TRACE),
    # kernel/printk/printk.c (on the bare line)
    _kind(
        "dropped",
        r"\*\* \d+ printk messages dropped \*\*",
        "the console is not complete",
        Until.LINE,
        infra=True,
    ),
    # arch/x86/mm/extable.c (on the bare line, without time stamp), arch/x86/kernel/traps.c
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
    # report_ubsan_failure() there, with CONFIG_UBSAN_TRAP; arch/x86/kernel/traps.c makes it an oops
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
        "no further hung task is told",
        Until.LINE,
        infra=True,
    ),
    _kind("workqueue", _FMT + r"BUG: workqueue lockup", "a work item does not end", stall=True),
    # lib/list_debug.c, lib/refcount.c, lib/debugobjects.c, mm/usercopy.c: above a WARNING or BUG
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
    _kind(
        "kmemleak",
        r"kmemleak: \d+ new suspected memory leaks?",
        "memory that nothing points to",
        Until.LINE,
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
    # mm/oom_kill.c; the line that says who was killed, not the one that says who asked for memory
    _kind(
        "oom",
        r"(?:Out of memory|Memory cgroup out of memory)[^:]*: Killed process",
        "a program was killed for want of memory",
        Until.LINE,
    ),
    _kind("oom", r"Out of memory and no killable processes", "no memory is left", Until.LINE),
    # fs/open.c (alone up to 6.2 or so, since then above a WARNING or BUG), fs/super.c
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
    # drivers/iommu/intel/dmar.c, drivers/iommu/amd/iommu.c: of what the device was not to touch
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
    # everything else that the kernel itself calls a bug
    _kind("bug", _FMT + r"BUG: ", "what the kernel calls a bug"),
    # arch/x86/boot/compressed/error.c (on the bare line)
    _kind("halted", r"-- System halted", "the kernel image does not unpack", Until.LINE),
)

# A report whose start was seen and whose headline never came: the machine died over it.
CUT = _kind(
    "cut",
    r"-+\[ cut here \]-+",
    "the start of a report, then nothing",
    Until.TRACE,
    part_of=("list", "usercopy", "vfs"),  # these say what is wrong, then call BUG()
)

# Kinds that are printed without a time stamp, before or without printk.
_BARE = frozenset({"early", "halted", "dropped"})
_ONLY_BARE = frozenset({"dropped"})  # with a time stamp, a program said so

_FATAL = frozenset({"panic", "early", "halted"})

# print_time() pads the seconds to five places: a number in brackets in a text is no time stamp.
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

    ``line`` is its headline, ``excerpt`` all of it with time stamps, ``test`` the test it is
    given to (None before the first one), ``time`` the kernel's clock in seconds, None where a
    line carries none. ``known`` is why it says nothing of a series
    (`kpatch.tables.known_issues`), "" if it does. ``title`` and ``fingerprint`` are the same for
    the same fault in another run (`kpatch.run.title`).
    ``infra`` says that this is no fault of the kernel's, but that faults may not have been seen:
    a detector has switched itself off, or messages were lost.
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

    @property
    def fatal(self) -> bool:
        """Whether the kernel says that it does not go on after this."""
        return self.kind in _FATAL


@dataclass(frozen=True)
class _Message:
    """A message: as shown, without time stamp and caller, and these two (None and "" if none)."""

    shown: str
    text: str
    time: float | None = None
    caller: str = ""

    def continues(self, other: _Message) -> bool:
        """Whether both can be lines of one printk() call: these all carry the same stamp."""
        return (self.time, self.caller) == (other.time, other.caller)


@dataclass
class _Report:
    """A report that is being read; ``kind`` is CUT until its headline came."""

    kind: Kind
    number: int  # in the order in which reports begin
    test: str | None
    place: Place
    first: float | None
    last: float | None
    messages: list[_Message]
    head: int  # which of the messages is the headline

    def copy(self) -> _Report:
        return replace(self, messages=[*self.messages])

    def add(self, message: _Message) -> None:
        self.messages.append(message)
        if message.time is not None:
            self.last = message.time

    def name(self, kind: Kind, message: _Message) -> None:
        """The headline of a report that so far is a CUT."""
        self.kind, self.head = kind, len(self.messages)
        self.add(message)

    def fault(self) -> Fault:
        excerpt = "\n".join(message.shown for message in self.messages) + "\n"
        head = self.head
        if self.kind is CUT and len(self.messages) > head + 1:
            head += 1  # what WARN() says; the best there is if no headline comes
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
    """What is known of the console up to a line, beside the faults and tests found so far."""

    test: str | None = None
    place: Place = Place.BOOT
    dead: bool = False
    through: bool = False
    begun: int = 0
    leads: dict[str, _Message] = field(default_factory=dict)  # lines that open a report
    reports: dict[str, _Report] = field(default_factory=dict)
    remote: str | None = None  # the caller whose report has stacks of other CPUs

    def copy(self) -> _State:
        return replace(
            self,
            leads={**self.leads},
            reports={caller: report.copy() for caller, report in self.reports.items()},
        )


@dataclass(frozen=True)
class _Point:
    """Where to return to if ``message`` comes again: all that was known before it."""

    message: _Message
    state: _State
    found: int
    seen: int


class Console:
    """Reads a console as it comes, in pieces of any size."""

    def __init__(self) -> None:
        self._state = _State()
        self._found: list[tuple[int, Fault]] = []
        self._seen: list[str] = []
        self._rest = b""
        self._undo: list[_Point] = []  # of the lines with the last time stamp
        self._replay = False
        self._notes: list[_Message] = []  # between the word of a replay and its message

    @property
    def faults(self) -> list[Fault]:
        """The reports that are complete, in the order in which they began."""
        return [fault for _, fault in sorted(self._found, key=itemgetter(0))]

    @property
    def seen(self) -> list[str]:
        """The tests of the markers, in order."""
        return self._seen

    @property
    def test(self) -> str | None:
        """The test that runs, None between two tests."""
        return self._state.test

    @property
    def dead(self) -> bool:
        """Whether the kernel has said its last word."""
        return self._state.dead

    @property
    def through(self) -> bool:
        """Whether a marker has said that the suite is through."""
        return self._state.through

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
        """What stands on a line before a time stamp: of user space, or of the console itself."""
        if alone and _BROKEN_STAMP.fullmatch(shown):
            self._undo = []  # the message that may come again had not got as far as its text
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
        point = _Point(message, self._state.copy(), len(self._found), len(self._seen))
        self._undo = [*self._undo[-UNDO_LIMIT:], point]
        self._message(message)

    def _take_notes(self) -> None:
        notes, self._notes = self._notes, []
        for note in notes:
            self._message(note)

    def _take_back(self, message: _Message) -> None:
        """Return to the state before the message that comes again with ``message``.

        It had been cut off anywhere; if it has several lines, in any of these.
        """
        for index in reversed(range(len(self._undo))):
            point = self._undo[index]
            before, last = point.message.text, index == len(self._undo) - 1
            if before == message.text or (last and message.text.startswith(before)):
                self._state, self._undo = point.state, self._undo[:index]
                del self._found[point.found :], self._seen[point.seen :]
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
            self._continue(message)  # of a report that goes on behind it
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
        """A headline: of the report that "cut here" began, or of a new one."""
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
        state.dead = state.dead or kind.name in _FATAL

    def _single(self, kind: Kind, message: _Message) -> None:
        """A report of one line; it may stand in the middle of another."""
        self._keep(self._begin(kind, message, []))
        self._state.dead = self._state.dead or kind.name in _FATAL

    def _begin(self, kind: Kind, message: _Message, lead: list[_Message]) -> _Report:
        state = self._state
        state.begun += 1
        return _Report(
            kind=kind,
            number=state.begun,
            test=self._seen[-1] if self._seen else None,
            place=state.place,
            first=message.time,
            last=message.time,
            messages=[*lead, message],
            head=len(lead),
        )

    def _end(self, message: _Message) -> None:
        """Finish the reports that ``message`` is the last line of."""
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
        # A report without an end of its own would swallow the messages of the next test. One
        # that has an end, or is just being written by another CPU, goes on.
        for caller, report in [*state.reports.items()]:
            if report.kind.until is Until.STACK and not _busy(report, message):
                self._finish(caller)
        if match[1] == "begin":
            self._seen.append(match[2])
            state.test, state.place = match[2], Place.DURING
        else:
            state.test, state.place = None, Place.AFTER


def read(data: bytes | str) -> tuple[Fault, ...]:
    """All faults of a whole console."""
    console = Console()
    console.feed(data.encode(errors="replace") if isinstance(data, str) else data)
    return console.close()


def _classify(message: str) -> Kind | None:
    message = message[:MESSAGE_LIMIT].lstrip(" ")
    return next((kind for kind in KINDS if kind.pattern.match(message)), None)


def _gap(before: float | None, now: float | None) -> bool:
    return before is not None and now is not None and now - before > GAP_SECONDS


def _busy(report: _Report, message: _Message) -> bool:
    """Whether another task or CPU than the message's own has only just written to the report."""
    if report.messages[-1].caller == message.caller or report.last is None or message.time is None:
        return False
    return message.time - report.last < BUSY_SECONDS
