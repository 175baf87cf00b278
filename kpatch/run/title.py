# SPDX-License-Identifier: GPL-2.0-only
"""Compute title and fingerprint of a kernel report, which are the same in every run.

A title has the form that syzbot uses: the kind of fault and the function it occurred in, without
addresses, sizes, tasks or CPUs. The function is the first one on the stack that can be at fault:
functions of the detector, allocators, locks and generic helpers are skipped.

    KASAN: slab-use-after-free Read in vfio_pci_acpi_notify       WARNING in vfio_pci_acpi_notify
    BUG: unable to handle kernel NULL pointer dereference in …     possible deadlock in …

A fingerprint also distinguishes reports of one title that have different call chains.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

FINGERPRINT_FRAMES = 3
_FINGERPRINT_DIGITS = 12
_MESSAGE_LIMIT = 500  # characters of each message; a hostile kernel may print any text


class Source(Enum):
    """The place in a report from which the name of the function at fault is taken."""

    HEAD = "behind the headline's ' in ' or ' at '"
    LOCK = "the first lock that a task takes: '…, at: f+0x1/0x2'"
    RIP = "the instruction pointer"
    TRACE = "the frames of the stacks, the most recent one first"
    STALL = "the frames of the stacks, from the last function that a generic entry called"


@dataclass(frozen=True)
class _Title:
    """A row of the table of titles: the title of reports whose headline matches ``pattern``.

    ``more``, if not None, has to match the text after the headline; the stack begins behind the
    match. In ``form``, ``{f}`` is the function at fault, and ``{0}``, ``{1}``, … are the groups of
    ``pattern``, then of ``more``. ``sources`` are searched for the function in this order. ``skip``
    matches functions that are not at fault, in addition to the helpers for all rows (_HELPER).
    """

    pattern: re.Pattern[str]
    form: str
    sources: tuple[Source, ...]
    skip: re.Pattern[str] | None
    more: re.Pattern[str] | None


_OOPS = (Source.RIP, Source.TRACE)
_WARN = (Source.HEAD, Source.RIP, Source.TRACE)


def _title(
    pattern: str, form: str, sources: tuple[Source, ...] = (), skip: str = "", more: str = ""
) -> _Title:
    return _Title(
        re.compile(pattern),
        form,
        sources,
        re.compile(skip) if skip else None,
        re.compile(more, re.MULTILINE) if more else None,
    )


# The first row that matches is used.
_TITLES: tuple[_Title, ...] = (
    _title(
        r"BUG: +KASAN: (?:double-free|invalid-free)",
        "KASAN: invalid-free in {f}",
        (Source.HEAD, Source.TRACE),
        r"free|slab",
    ),
    _title(
        r"BUG: +KASAN: ([a-z-]+)",
        "KASAN: {0} {1} in {f}",
        (Source.HEAD, Source.TRACE),
        more=r"^(Read|Write) (?:of size|at addr)",
    ),
    _title(r"BUG: +KASAN: ([a-z-]+)", "KASAN: {0} in {f}", (Source.HEAD, Source.TRACE)),
    _title(r"BUG: +KCSAN: (.*)", "KCSAN: {0}"),
    _title(
        r"BUG: +KFENCE: (.+?) in ",
        "KFENCE: {0} in {f}",
        (Source.HEAD, Source.TRACE),
    ),
    _title(r"BUG: +KMSAN: ([a-z-]+)", "KMSAN: {0} in {f}", (Source.HEAD, Source.TRACE)),
    _title(r"UBSAN: Undefined behaviour in ", "UBSAN: undefined-behaviour in {f}", (Source.TRACE,)),
    _title(r"UBSAN: ([\w-]+) in ", "UBSAN: {0} in {f}", (Source.TRACE,)),
    # CONFIG_UBSAN_TRAP: the texts of report_ubsan_failure() in lib/ubsan.c
    _title(r"UBSAN: ([\w/ ]+?) at ", "UBSAN: {0} in {f}", (Source.HEAD, *_OOPS)),
    _title(
        r"possible circular locking dependency",
        "possible deadlock in {f}",
        (Source.LOCK, Source.TRACE),
        r"process_(?:one|scheduled)_work|(?:flush|drain|destroy)_workqueue",
    ),
    _title(
        r"-unsafe lock order detected",
        "possible deadlock in {f}",
        (Source.TRACE,),
        more=r"which became .* at:$",
    ),
    _title(
        r"possible (?:recursive locking|irq lock inversion)|-unsafe lock order detected",
        "possible deadlock in {f}",
        (Source.LOCK, Source.TRACE),
    ),
    _title(r"inconsistent lock state", "inconsistent lock state in {f}", (Source.TRACE,)),
    _title(r"BUG: Invalid wait context", "WARNING: locking bug in {f}", (Source.TRACE,)),
    _title(
        r"(WARNING|BUG|INFO): .*(held lock freed|lock held when returning to user space)",
        "{0}: {1} in {f}",
        (Source.LOCK, Source.TRACE),
    ),
    _title(
        r"(WARNING|BUG): .*(still has locks) held",
        "{0}: {1} held in {f}",
        (Source.LOCK, Source.TRACE),
    ),
    _title(
        r"(WARNING|BUG|INFO): (?:\S+ )?(bad (?:unlock balance|contention)|[nN]ested lock was not "
        r"taken|trying to register non-static key)",
        "{0}: {1} in {f}",
        (Source.TRACE,),
    ),
    _title(
        r"(WARNING|INFO): suspicious RCU usage",
        "{0}: suspicious RCU usage in {f}",
        (Source.TRACE,),
        r"rcu|kmem|slab",
    ),
    _title(
        r"detected (?:expedited )?stalls?|kthread starved for",
        "INFO: rcu detected stall in {f}",
        (Source.RIP, Source.STALL),
        r"rcu|_idle|^delay_|delay$",
    ),
    _title(r"BUG: soft lockup", "BUG: soft lockup in {f}", (Source.RIP, Source.STALL)),
    _title(r"hard LOCKUP", "BUG: hard lockup in {f}", (Source.RIP, Source.STALL)),
    _title(
        r"INFO: task ",
        "INFO: task hung in {f}",
        (Source.TRACE,),
        r"sched|_lock|_slowlock|down|rwsem|completion|wait|synchronize|switch|rcu_barrier"
        r"|__flush_work|cancel_",
    ),
    _title(r"BUG: workqueue lockup", "BUG: workqueue lockup"),
    _title(
        r"BUG: (workqueue leaked (?:atomic, lock or RCU|lock or atomic))",
        "BUG: {0} in {1}",
        more=r"(?:workfn=|last function: )(\w+)",
    ),
    _title(
        r"BUG: sleeping function called from invalid context",
        "BUG: sleeping function called from invalid context in {f}",
        (Source.TRACE,),
    ),
    _title(
        r"BUG: (scheduling (?:while atomic|in a non-blocking section))",
        "BUG: {0} in {f}",
        (Source.TRACE,),
        "sched",
    ),
    _title(
        r"BUG: (using \w+\(\) in preemptible)",
        "BUG: {0} code in {f}",
        (Source.TRACE,),
        "preempt|processor_id|this_cpu|debug_",
    ),
    _title(r"BUG: ((?:spinlock|rwlock) .+?) on CPU#", "BUG: {0} in {f}", (Source.TRACE,)),
    _title(
        r"(?:kernel|handle kernel) NULL pointer dereference",
        "BUG: unable to handle kernel NULL pointer dereference in {f}",
        _OOPS,
    ),
    _title(
        r"BUG: unable to handle (?:page fault for address|kernel paging request)",
        "BUG: unable to handle kernel paging request in {f}",
        _OOPS,
    ),
    _title(
        r"stack guard page was hit at",
        "BUG: stack guard page was hit in {f}",
        (Source.RIP, Source.STALL),
    ),
    _title(r"PANIC: double fault", "PANIC: double fault in {f}", _OOPS),
    _title(
        r"kernel BUG at (?:\S*/)?lib/list_debug\.c|^list_(?:add|del)",
        "BUG: corrupted list in {f}",
        (Source.TRACE,),
    ),
    _title(
        r"kernel BUG at (?:\S*/)?mm/usercopy\.c|^(?:usercopy: )?Kernel memory \w+ attempt",
        "BUG: bad usercopy in {f}",
        (Source.TRACE,),
        "usercopy|__check",
    ),
    _title(r"^kernel BUG at ", "kernel BUG in {f}", _OOPS),
    _title(r"general protection fault", "general protection fault in {f}", _OOPS),
    _title(r"^(?:Oops: )?([a-zA-Z#][\w #-]+): [0-9a-f]{4} \[#\d+\]", "{0} in {f}", _OOPS),
    _title(
        r"WARNING: kernel stack (regs|frame pointer) .*has bad (?:'\w+' )?value",
        "WARNING: kernel stack {0} has bad value",
    ),
    _title(
        r"WARNING: .*lib/debugobjects\.c|^ODEBUG: ",
        "WARNING: ODEBUG bug in {f}",
        _OOPS,
        r"debug_|rcu|timer_|work_|percpu_|vfree|__free_|kobject_",
    ),
    _title(
        r"WARNING: .*lib/refcount\.c|^refcount_t: ",
        "WARNING: refcount bug in {f}",
        _WARN,
        "refcount|kobject_",
    ),
    _title(
        r"WARNING: .*lib/kobject\.c|^kobject: ", "WARNING: kobject bug in {f}", _WARN, "kobject_"
    ),
    _title(r"WARNING: .*kernel/locking/lockdep\.c", "WARNING: locking bug in {f}", (Source.TRACE,)),
    _title(r"WARNING: (?:.* )?at ", "WARNING in {f}", _WARN),
    _title(
        r"BUG: Bad page (state|cache|map)",
        "BUG: Bad page {0} in {f}",
        (Source.TRACE,),
        r"page|folio",
    ),
    _title(r"BUG: Bad rss-counter state", "BUG: Bad rss-counter state"),
    _title(r"BUG: Dentry .* still in use", "BUG: Dentry still in use"),
    _title(r"^BUG (\S+) .*?\): (.*)", "BUG {0}: {1} in {f}", (Source.TRACE,)),
    _title(r"kmemleak: unreferenced object", "memory leak in {f}", (Source.TRACE,), "kmemleak"),
    _title(r"kmemleak: \d+ new suspected", "memory leak"),
    _title(
        r"sysfs: (cannot create duplicate filename)",
        "sysfs: {0} in {f}",
        (Source.TRACE,),
        "sysfs_|kobject_",
    ),
    _title(
        r"unregister_netdevice: waiting for", "unregister_netdevice: waiting for DEV to become free"
    ),
    _title(r"VFS: Close: file count is 0", "VFS: Close: file count is zero"),
    _title(r"VFS: Busy inodes after unmount", "VFS: Busy inodes after unmount"),
    _title(r"No irq handler for", "No irq handler for vector"),
    _title(r"irq \d+: nobody cared", "irq: nobody cared"),
    _title(r"DMAR: \[(DMA Read|DMA Write|INTR-REMAP)", "DMAR: {0} fault"),
    _title(r"Killed process", "out of memory: killed process"),
    _title(r"ACPI Warning: (?:Obj )?.*(Reference Count)", "ACPI: broken {0}"),
    _title(r"printk messages dropped", "printk messages dropped"),
    _title(r"PANIC: early exception", "PANIC: early exception"),
    _title(r"Kernel panic - not syncing: (Attempted to kill init)", "kernel panic: {0}!"),
    _title(r"Kernel panic - not syncing: (.*?)[ .]*(?:\n|$)", "kernel panic: {0}"),
)

_FRAME = re.compile(
    r"^(?:kmemleak:)? *(?:\[<[0-9a-f]+>\] +)?([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+(?: |$)",
    re.MULTILINE,
)
_RIP = re.compile(
    r"^R?IP: (?:[0-9a-f]{4}:)?(?:\[<[0-9a-f]+>\] +)*([A-Za-z_][\w.]*)\+0x", re.MULTILINE
)
_LOCK = re.compile(r", at: (?:\[<[0-9a-f]+>\] )?([A-Za-z_][\w.]*)\+0x")
_HEAD = re.compile(r" ([A-Za-z_][\w.]*)\+0x| (?:in|at) ([A-Za-z_][\w.]*)(?= at addr|\(\)| *$)")

# Suffixes that the compiler adds to the names of clones and parts of a function.
_SUFFIX = re.compile(r"\.(?:constprop|isra|part|cold|llvm)\b.*|\.\d+$")
# Prefixes of the entry points of one system call (arch/x86/include/asm/syscall_wrapper.h).
_SYSCALL = re.compile(
    r"^(?:__x64_|__ia32_|__se_|__do_|_+)?(?:compat_)?(?:sys|SyS|SYSC)_(?=\w)|^ksys_"
)

# Functions that are never at fault: those that detect faults, and generic helpers.
_HELPER = re.compile(
    "|".join(
        (
            # detectors
            r"^_*(?:kasan|asan|hwasan|kmsan|msan|kcsan|tsan|ubsan|kfence|sanitizer)_|_asan_|kasan_",
            r"^check_(?:memory_region|heap_object|object)|^read_word_at_a_time$|^_*fortify_",
            r"^(?:dump_stack|show_(?:stack|trace|regs|opcodes)|print_(?:report|address|hex|bad|usage))",
            r"^print_\w*(?:lock|bug|deadlock)|stack_(?:walk|trace_save)|nmi_(?:cpu_)?backtrace",
            r"^_*warn(?:_|$)|^v?panic$|^(?:report|fixup|handle)_bug|_trap$|^do_trap|^(?:asm_)?exc_",
            r"^(?:invalid_op|do_(?:invalid_op|error_trap)|error_entry)$|^irqentry_|^instrument",
            r"might_(?:sleep|fault|resched)|^debug_object|_is_static_object$",
            # lockdep and locks
            r"^_*lockdep_|^_*lock_(?:acquire|release|is_held|acquired|contended|set_class)",
            r"^(?:check|validate|mark|reacquire|register)_(?:chain|noncircular|deadlock|lock|held|usage|prev)",
            r"^_*(?:raw_)?(?:spin|read|write)_(?:try|un)?lock|^spin_(?:dump|bug)$|^rwlock_bug$",
            r"^_*(?:mutex|rt_mutex|ww_mutex)_|^_*(?:down|up)(?:_read|_write|_interruptible|_killable|$)",
            r"^do_raw_|queued_(?:spin|read|write)|^osq_|^rwsem_",
            # memory
            r"^_*k?[vmz]*(?:alloc|malloc|calloc|realloc)(?:_|$)|^_*(?:kmem_cache|slab|kfree|kvfree|vfree)",
            r"^_*(?:alloc|get_free|free)_(?:pages?|frozen|unref)|^_*mem(?:cpy|move|set|cmp|chr|dup)",
            r"^_*str(?:n|l|s)?(?:cpy|cmp|len|str|chr|cat|dup)|^(?:sn|scn|vsn|vscn|kas|kvas)printf",
            r"^_*v?printk|^_*copy_(?:to|from)_|^_*(?:get|put)_user|^(?:hex_)?string(?:_nocheck)?$",
            # generic helpers
            r"^_*list_(?:add|del|replace|move)|^_*rb_(?:insert|erase|next|prev)|^_*refcount_|^kref_",
            r"^_*kobject_|^(?:get|put)_device$|^device_(?:add|del|unregister|destroy|remove)",
            r"^(?:arch_|raw_)?atomic\d*_|^_*(?:set|clear|test|change)_(?:and_\w+_)?bit|^add_uevent",
            r"^_*(?:queue|flush|cancel|insert)_(?:delayed_)?work|^_*(?:mod|del|add)_timer|^_*wake_up",
            r"^complete$|^wait_for_completion|^finish_wait$|^kthread_stop$|^(?:read|write)[bwlq]$",
            r"^_*local_bh_|^trace_hardirqs|^_*x86_indirect_thunk|^sysfs_(?:remove|warn)|^_*sched_",
        )
    )
)

# Generic functions that dispatch work: the function that they call is the one that stalls.
_ENTRY = re.compile(
    "|".join(
        (
            r"^(?:process_one_work|kthread|smpboot_thread_fn|ret_from_fork\w*|do_idle|cpu_startup\w*)$",
            r"^(?:do_syscall|entry_|do_fast_syscall|invoke_syscall|do_softirq|__do_softirq|handle_softirqs)",
            r"^(?:call_timer_fn|__run_timers|task_work_run|exit_to_user|syscall_exit)|^__fput$",
            r"^_*(?:vfs|new_sync|call)_(?:read|write|ioctl|open|mmap|iter)|^do_(?:iter|vfs|dentry|mmap)",
            r"^(?:read|write|ioctl|mmap|sendmsg|sock_sendmsg\w*|sock_recvmsg\w*|rtnetlink_rcv_msg)$",
            r"netif_receive_skb|^acpi_ev_notify_dispatch$|^acpi_os_execute_deferred$",
        )
    )
)
# Frames of the interrupt that found the CPU stalled.
_INTERRUPT = re.compile(
    r"interrupt|^(?:hrtimer|tick|update_process|watchdog|nmi|trigger)|_irq$|rcu_"
)


def name(function: str) -> str:
    """Return the name of ``function`` without affixes of the compiler and of system calls.

    Examples are the suffix ".isra.0" and the prefix "__x64_sys_".
    """
    return _SYSCALL.sub("", _SUFFIX.sub("", function)) or function


def title(messages: Sequence[str]) -> str:
    """Return the title of a report: that of the first row that matches, else the headline.

    Numbers and addresses in it are replaced (`_flat`). If no function at fault is found, " in {f}"
    is left out. ``messages`` are the report's lines without time stamps, the headline first. The
    title is "" without messages.
    """
    if not messages:
        return ""
    head, *rest = (message[:_MESSAGE_LIMIT] for message in messages)
    for row in _TITLES:
        match = row.pattern.search(head)
        body = "\n".join(rest)
        more = row.more.search(body) if match is not None and row.more is not None else None
        if match is None or (row.more is not None and more is None):
            continue
        groups = [*match.groups(), *(more.groups() if more is not None else ())]
        function = _function(row, head, body[more.end() :] if more is not None else body)
        form = row.form if function else row.form.partition(" in {f}")[0]
        return _flat(form.format(*groups, f=function))
    return _flat(head)


def fingerprint(kind: str, messages: Sequence[str]) -> str:
    """Return a digest (12 hex digits) of a report's kind, title and topmost functions.

    These are the first FINGERPRINT_FRAMES functions on the stack that are no helpers (_HELPER).
    ``messages`` as in `title`.
    """
    text = "\n".join(message[:_MESSAGE_LIMIT] for message in messages)
    top = [frame for frame in _stack(text) if not _HELPER.search(frame)]
    what = [kind, title(messages), *top[:FINGERPRINT_FRAMES]]
    return hashlib.sha256("\n".join(what).encode()).hexdigest()[:_FINGERPRINT_DIGITS]


def _function(row: _Title, head: str, body: str) -> str:
    """Return the first function in a report that can be at fault; "" if the report names none.

    ``row`` is the row for the report, ``head`` its headline, ``body`` the text after the headline,
    or after the match of ``row.more``.
    """
    for source in row.sources:
        for function in _named(source, head, body):
            if not (
                _HELPER.search(function) or (row.skip is not None and row.skip.search(function))
            ):
                return function
    return ""


def _named(source: Source, head: str, body: str) -> list[str]:
    if source is Source.HEAD:
        return [name(first or second) for first, second in _HEAD.findall(head)]
    if source is Source.LOCK:
        return [name(symbol) for symbol in _LOCK.findall(body)[:1]]
    if source is Source.RIP:
        return [name(symbol) for symbol in _RIP.findall(body)[:1]]
    if source is Source.STALL:
        return _stalled(_stack(body))
    return _stack(body)


def _stack(text: str) -> list[str]:
    """Return the functions on a report's stacks, most recent first.

    Frames that the kernel marks as unreliable ("? f") are left out.
    """
    return [name(symbol) for symbol in _FRAME.findall(text)]


def _stalled(stack: list[str]) -> list[str]:
    """Return the functions of ``stack`` that can be at fault for a stall, most recent first.

    The first is the function that the most recent dispatcher (_ENTRY) has called; more recent ones,
    and frames of interrupts, are left out. Without a dispatcher only the interrupts are left out.
    """
    quiet = [frame for frame in stack if not _INTERRUPT.search(frame)]
    entry = next((index for index, frame in enumerate(quiet) if _ENTRY.search(frame)), 0)
    return quiet[max(entry - 1, 0) :]


def _flat(words: str) -> str:
    """Return ``words`` as one line, with numbers replaced by NUM, and addresses by ADDR.

    An address has 8 to 16 hex digits. Only numbers that stand alone are replaced, not the 1 of
    "CPU1". Offsets ("+0x1c/0x40") are removed.
    """
    words = re.sub(r"\b(?:0x)?[0-9a-f]{8,16}\b", "ADDR", words)
    words = re.sub(r"\+0x[0-9a-f]+/0x[0-9a-f]+", "", words)
    words = re.sub(r"(?<![\w.-])\d+\b", "NUM", words)
    return " ".join(words.split())
