# SPDX-License-Identifier: GPL-2.0-only
"""Tables of calls of VFIO_DEVICE_SET_IRQS and VFIO_DEVICE_FEATURE with bad input.

Each call has its expected outcome: the name of an errno, or "" for success. The calls of
VFIO_DEVICE_SET_IRQS apply to every interrupt index that has at most one interrupt and signals an
eventfd: ERR, REQ and ACPI. Their outcomes were verified with ERR and REQ on an unpatched kernel.

The numbers are literals on purpose: if the tables used the constants of the library under test, a
wrong constant would be wrong on both sides.

Source: vfio_set_irqs_validate_and_prepare() and vfio_ioctl_device_feature() in
drivers/vfio/vfio_main.c, vfio_pci_set_ctx_trigger_single() in drivers/vfio/pci/vfio_pci_intrs.c.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

from ktests import release

NONE, BOOL, EVENTFD = 1, 2, 4
MASK, UNMASK, TRIGGER = 8, 16, 32
DATA_TYPES = {"none": NONE, "bool": BOOL, "eventfd": EVENTFD}
ACTIONS = {"mask": MASK, "unmask": UNMASK, "trigger": TRIGGER}

U32_MAX = 0xFFFF_FFFF
HEADER = 20  # bytes of struct vfio_irq_set

# As DATA_BOOL this triggers the interrupt, as DATA_EVENTFD (-1) it de-assigns the eventfd. So a
# call that is wrongly accepted has a visible effect.
HARMFUL = b"\xff" * 4


@dataclass(frozen=True)
class Call:
    """One call of VFIO_DEVICE_SET_IRQS, without its index, and its expected outcome.

    ``name`` names the call in messages. ``outcome`` is the name of an errno, "" for success. The
    other fields are members of struct vfio_irq_set. ``argsz`` None stands for the correct size:
    that of header and data.
    """

    name: str
    flags: int
    outcome: str = "EINVAL"
    start: int = 0
    count: int = 1
    data: bytes = HARMFUL
    argsz: int | None = None


Cases = Mapping[str, tuple[Call, ...]]


#: Whether only PCI Express devices have the ERR index. True on Linux 6.12, False on 7.3.
ERR_NEEDS_EXPRESS = release.running() < (7, 3)


# ---- SET_IRQS ------------------------------------------------------------------------------------


def _combinations(bits: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    for size in range(len(bits) + 1):
        for names in itertools.combinations(bits, size):
            yield "+".join(names) or "no", sum(bits[name] for name in names)


def _wrong_flags() -> Iterator[tuple[str, tuple[Call, ...]]]:
    """Yield for each combination of data types a name, and calls with each combination of actions.

    Each call is made once with count 0 and once with count 1. The valid combinations, which are one
    data type with the action "trigger" alone, are left out. The outcome is ENOTTY for one data
    type, else EINVAL.
    """
    for data_name, data in _combinations(DATA_TYPES):
        single = data in DATA_TYPES.values()
        outcome = "ENOTTY" if single else "EINVAL"
        yield (
            f"{data_name}-data",
            tuple(
                Call(f"{name}-action, {count}", data | action, outcome, count=count)
                for name, action in _combinations(ACTIONS)
                for count in (0, 1)
                if not (single and action == TRIGGER)
            ),
        )


def _unknown_bits(first: int) -> range:
    """Return the numbers of the bits that are no flags: from ``first`` to 31.

    A kernel that is newer than `release.NEWEST` may have more flags; on it only 31 is returned.
    """
    return range(first if release.known() else 31, 32)


def _unknown_flags(data: int) -> Iterator[Call]:
    for bit in _unknown_bits(6):
        yield Call(f"bit {bit}", data | TRIGGER | 1 << bit)


def _short(data: int, size: int) -> Iterator[Call]:
    """Yield a call for each argsz that is too small for the header and ``size`` bytes of data.

    ``data`` is the flag of the data type.
    """
    for argsz in range(HEADER + size):
        yield Call(f"argsz {argsz}", data | TRIGGER, argsz=argsz)


def _out_of_range(data: int) -> Iterator[Call]:
    """Yield calls with a wrong start or count: the index has one interrupt, with the number 0.

    ``data`` is the flag of the data type. In some calls the sum of start and count overflows
    32 bits.
    """
    for start, count in (
        *((1, 0), (1, 1), (2, 1), (0x8000_0000, 1), (U32_MAX, 0), (U32_MAX, 1)),
        *((0, 2), (0, 0x8000_0000), (0, U32_MAX - 1), (0, U32_MAX)),
        *((1, U32_MAX - 1), (1, U32_MAX), (0x8000_0000, 0x8000_0000), (U32_MAX, U32_MAX)),
    ):
        name = f"{start:#x} and {count:#x}"
        yield Call(name, data | TRIGGER, start=start, count=count, data=HARMFUL * 2)


# Each of these calls has two faults: one in argsz, start or count, and a wrong action. The kernel
# checks the action last, so that the first fault decides the errno.
_BEFORE_ACTION = tuple(
    replace(fault, name=f"{name}-action, {fault.name}", flags=NONE | action)
    for name, action in (("no", 0), ("mask", MASK), ("unmask", UNMASK))
    for fault in (
        Call("short", NONE, argsz=HEADER - 1),
        Call("beyond", NONE, start=1),
        Call("too many", NONE, count=2),
    )
)

# A call with count 0 is valid only with DATA_NONE, which de-assigns the eventfd.
_EMPTY = tuple(
    Call(f"{name}, {len(data)} bytes", DATA_TYPES[name] | TRIGGER, count=0, data=data)
    for name in ("bool", "eventfd")
    for data in (b"", HARMFUL)
)

# An argsz that is larger than the data is valid. DATA_BOOL with the value 0 has no effect.
_LONG = tuple(
    Call(f"argsz {argsz:#x}", BOOL | TRIGGER, "", data=bytes(4), argsz=argsz)
    for argsz in (HEADER + 1, HEADER + 4, 4096, U32_MAX)
)

#: Calls of VFIO_DEVICE_SET_IRQS by the kind of their fault; those of "long" have none. The outcome
#: of each does not depend on whether an eventfd is armed.
CASES: Cases = {
    **dict(_wrong_flags()),
    **{f"{name}-unknown-flag": tuple(_unknown_flags(DATA_TYPES[name])) for name in DATA_TYPES},
    "none-short": tuple(_short(NONE, 0)),
    "bool-short": tuple(_short(BOOL, 1)),
    "eventfd-short": tuple(_short(EVENTFD, 4)),
    **{f"{name}-out-of-range": tuple(_out_of_range(DATA_TYPES[name])) for name in DATA_TYPES},
    "before-action": _BEFORE_ACTION,
    "empty": _EMPTY,
    "long": _LONG,
}

#: Valid calls, for an index on which no eventfd is armed. There only the first two fail.
UNARMED = (
    Call("loopback", NONE | TRIGGER, "EINVAL"),
    Call("de-assign by count 0", NONE | TRIGGER, "EINVAL", count=0),
    Call("fire by bool", BOOL | TRIGGER, ""),
    Call("de-assign by -1", EVENTFD | TRIGGER, ""),
)


# ---- descriptors ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Descriptor:
    """A descriptor that is no eventfd, and the expected outcome of setting it as the eventfd.

    ``make`` is a function that returns the descriptor. Its argument is an exit stack, which closes
    the files that ``make`` leaves open.
    """

    make: Callable[[ExitStack], int]
    outcome: str = "EINVAL"

    def call(self, stack: ExitStack) -> Call:
        """Make the descriptor; return the `Call`, without its index, that sets it as eventfd."""
        fd = self.make(stack)
        return signal(f"fd {fd}", fd, self.outcome)


def signal(name: str, fd: int, outcome: str = "") -> Call:
    """Return the `Call`, without its index, that sets the descriptor ``fd`` as the eventfd.

    ``name`` and ``outcome`` are fields of `Call`.
    """
    return Call(name, EVENTFD | TRIGGER, outcome, data=struct.pack("=i", fd))


def _number(fd: int) -> Callable[[ExitStack], int]:
    return lambda _: fd


def _file(path: str, flags: int) -> Callable[[ExitStack], int]:
    return lambda stack: _kept(stack, os.open(path, flags | os.O_CLOEXEC))


def _kept(stack: ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd


def _closed(_: ExitStack) -> int:
    low = os.open("/", os.O_PATH | os.O_CLOEXEC)
    # The number has to be high: the next open(2) would reuse a low number.
    high = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 500)
    os.close(low)
    os.close(high)
    return high


def _pipe(stack: ExitStack) -> int:
    reader, _ = (_kept(stack, fd) for fd in os.pipe())
    return reader


# Linux 6.1 accepts a descriptor below -1 and changes nothing; 6.12 refuses it. All accept -1, which
# de-assigns the eventfd.
_BELOW = "EINVAL" if release.running() >= (6, 12) else ""

DESCRIPTORS: Mapping[str, Descriptor] = {
    "minus-two": Descriptor(_number(-2), _BELOW),
    "lowest": Descriptor(_number(-0x8000_0000), _BELOW),
    "highest": Descriptor(_number(0x7FFF_FFFF), "EBADF"),
    "closed": Descriptor(_closed, "EBADF"),
    "path-only": Descriptor(_file("/", os.O_PATH), "EBADF"),
    "directory": Descriptor(_file("/", os.O_RDONLY)),
    "vfio-container": Descriptor(_file("/dev/vfio/vfio", os.O_RDWR)),
    "null": Descriptor(_file("/dev/null", os.O_RDWR)),
    "pipe": Descriptor(_pipe),
    "socket": Descriptor(lambda stack: stack.enter_context(socket.socket(socket.AF_UNIX)).fileno()),
    "epoll": Descriptor(lambda stack: stack.enter_context(select.epoll()).fileno()),
    "memfd": Descriptor(lambda stack: _kept(stack, os.memfd_create("no eventfd"))),
    "pidfd": Descriptor(lambda stack: _kept(stack, os.pidfd_open(os.getpid()))),
}


# ---- DEVICE_FEATURE ------------------------------------------------------------------------------

GET, SET, PROBE = 1 << 16, 1 << 17, 1 << 18
MIGRATION, LOW_POWER, LOW_POWER_WAKEUP, LOGGING = 1, 3, 4, 6
UNKNOWN = (100, 0x7FFF, 0xFFFF)
OPERATIONS = {"none": 0, "get": GET, "set": SET, "probe": PROBE}


@dataclass(frozen=True)
class Feature:
    """One call of VFIO_DEVICE_FEATURE and its expected outcome.

    ``name`` names the call in messages. ``flags`` are the number of the feature (bits 0-15) and the
    operations (bits 16-18). ``outcome`` is the name of an errno, "" for success. ``argsz`` 8 is the
    size of the header, without data.
    """

    name: str
    flags: int
    outcome: str
    argsz: int = 8


#: Calls of VFIO_DEVICE_FEATURE by the kind of their fault; those of "probe" have none. The test
#: machine's devices have the feature LOW_POWER, which only supports SET.
FEATURES: Mapping[str, tuple[Feature, ...]] = {
    "short": tuple(
        Feature(f"argsz {argsz}", PROBE | LOW_POWER, "EINVAL", argsz) for argsz in range(8)
    ),
    "unknown-flag": tuple(
        Feature(f"bit {bit}", 1 << bit | PROBE | LOW_POWER, "EINVAL") for bit in _unknown_bits(19)
    ),
    "get-and-set": (
        Feature("known", GET | SET | LOW_POWER, "EINVAL"),
        Feature("unknown", GET | SET | UNKNOWN[0], "EINVAL"),
    ),
    "unknown-number": tuple(
        Feature(f"{name} {number}", flag | number, "ENOTTY")
        for number in UNKNOWN
        for name, flag in OPERATIONS.items()
    ),
    "not-of-this-device": tuple(
        Feature(f"{name} {number}", flag | number, "ENOTTY")
        for number in (MIGRATION, LOGGING)
        for name, flag in OPERATIONS.items()
    ),
    "unsupported-operation": (
        Feature("none", LOW_POWER, "EINVAL"),
        Feature("get", GET | LOW_POWER, "EINVAL"),
        Feature("probe for get", PROBE | GET | LOW_POWER, "EINVAL"),
        Feature("probe for both", PROBE | GET | SET | LOW_POWER, "EINVAL"),
    ),
    "short-data": (Feature("set", SET | LOW_POWER_WAKEUP, "EINVAL", argsz=8 + 7),),
    "probe": (
        Feature("alone", PROBE | LOW_POWER, ""),
        Feature("for set", PROBE | SET | LOW_POWER, ""),
        Feature("long", PROBE | LOW_POWER, "", argsz=4096),
    ),
}
