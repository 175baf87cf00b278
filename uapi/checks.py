# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The checks of `uapi.conformance`; the list `ALL` contains them.

A check is a function that tests one requirement of docs/evidence.md on the device of a `Bench`. It
raises BrokenError, FormatError or OSError if the kernel does not meet the requirement.
"""

from __future__ import annotations

import errno
import os
import select
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import mirror, pci
from .bench import SECONDS, Bench, BrokenError, expect
from .errors import UapiError
from .eventfd import SIZE
from .ioctl import Structure
from .notification import LOOPBACK, VALID
from .vfio import (
    ACPI,
    DATA_BOOL,
    DATA_EVENTFD,
    DATA_NONE,
    MSIX,
    PROBE,
    REQ,
    TRIGGER,
    Device,
    IrqInfo,
)

MASK: int = mirror.VFIO_IRQ_SET_ACTION_MASK
UNMASK: int = mirror.VFIO_IRQ_SET_ACTION_UNMASK
GET: int = mirror.VFIO_DEVICE_FEATURE_GET
SET: int = mirror.VFIO_DEVICE_FEATURE_SET
EVENTFD_NORESIZE: int = mirror.VFIO_IRQ_INFO_EVENTFD | mirror.VFIO_IRQ_INFO_NORESIZE

# Numbers that no kernel knows now or in the near future: a feature, a flag, an index (or a count).
NO_FEATURE = 0xFFFF
NO_FLAG = 1 << 31
BEYOND = 0xFFFF_FFFF

# The number of notifications that a check queues, far below the size of the kernel's queue.
SEVERAL = 8

LOOPBACK_WORD = VALID | LOOPBACK


@dataclass(frozen=True)
class Item:
    """A check: ``function`` tests the requirement with the id ``requirement``.

    ``companion`` is True if the check needs a device with an ACPI companion, False if it needs one
    without, None if it takes either.
    """

    requirement: str
    title: str
    companion: bool | None
    function: Callable[[Bench], None]


ALL: list[Item] = []


def check(
    requirement: str, title: str, *, companion: bool | None = True
) -> Callable[[Callable[[Bench], None]], Callable[[Bench], None]]:
    """Return a decorator that appends the function to `ALL`, as an `Item` with these arguments."""

    def enter(function: Callable[[Bench], None]) -> Callable[[Bench], None]:
        ALL.append(Item(requirement, title, companion, function))
        return function

    return enter


def result(call: Callable[[], object]) -> str:
    """Call ``call`` and return "success", or the name of the errno ("EINVAL") of its UapiError."""
    try:
        call()
    except UapiError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    return "success"


# ---- EVT: format -------------------------------------------------------------------------------


@check("REQ-EVT-04", "a read gives 8 bytes in the host's byte order, VALID set, nothing lost")
def _read_size(bench: Bench) -> None:
    reader = bench.armed()
    bench.send()
    if not reader.wakes_up(SECONDS):
        raise BrokenError("nothing to read")
    raw = reader.raw(64)
    expect("length", len(raw), 8)
    expect("word", f"{struct.unpack('=Q', raw)[0]:#x}", f"{LOOPBACK_WORD:#x}")


@check("REQ-EVT-05", "a loopback reads as VALID and LOOPBACK with the value 0")
def _loopback_word(bench: Bench) -> None:
    reader = bench.armed()
    bench.device.loopback()
    expect("word of DATA_NONE", f"{reader.word():#x}", f"{LOOPBACK_WORD:#x}")
    bench.device.loopback_bool(1)
    expect("word of DATA_BOOL", f"{reader.word():#x}", f"{LOOPBACK_WORD:#x}")


@check("REQ-EVT-06", "a read of fewer than 8 bytes is EINVAL and takes nothing")
def _short_read(bench: Bench) -> None:
    reader = bench.armed()
    bench.send()
    for size in (0, 4, 7):
        try:
            reader.raw(size)
        except OSError as error:
            expect(f"errno of read({size})", error.errno, errno.EINVAL)
        else:
            raise BrokenError(f"read({size}) succeeded")
    reader.loopbacks(1)


# ---- INT: introspection ------------------------------------------------------------------------


@check("REQ-INT-03", "num_irqs of GET_INFO tells of the index", companion=None)
def _num_irqs(bench: Bench) -> None:
    number = bench.device.info().num_irqs
    # A later kernel may have further indices.
    expect(f"num_irqs {number} is above index {ACPI}", number > ACPI, True)


@check("REQ-INT-04", "GET_IRQ_INFO tells whether firmware describes the device", companion=None)
def _irq_info(bench: Bench) -> None:
    described = (pci.DEVICES / bench.device.bdf / "firmware_node").exists()
    wanted = IrqInfo(ACPI, EVENTFD_NORESIZE, 1) if described else IrqInfo(ACPI, 0, 0)
    expect("GET_IRQ_INFO", bench.device.irq_info(ACPI), wanted)


@check("REQ-INT-06", "a larger argsz is accepted, and changes neither answer", companion=None)
def _larger_argsz(bench: Bench) -> None:
    device = bench.device
    info, irq_info = device.info(), device.irq_info(ACPI)
    for argsz in (32, 4096, BEYOND):
        expect(f"GET_IRQ_INFO, argsz {argsz}", device.irq_info(ACPI, argsz=argsz), irq_info)
        answer = device.info(argsz=argsz)
        # cap_offset may differ: the kernel appends capabilities if argsz leaves room for them.
        counts = answer.flags, answer.num_regions, answer.num_irqs
        expect(f"GET_INFO, argsz {argsz}", counts, (info.flags, info.num_regions, info.num_irqs))


@check("REQ-INT-06", "no more than the structure is written", companion=None)
def _no_overflow(bench: Bench) -> None:
    for name, ioctl in (
        ("vfio_irq_info", "VFIO_DEVICE_GET_IRQ_INFO"),
        ("vfio_device_info", "VFIO_DEVICE_GET_INFO"),
    ):
        request = Structure(name, tail=b"\xa5" * 4096)
        request.call(bench.device.fileno(), ioctl)
        if request.view.flags & mirror.VFIO_DEVICE_FLAGS_CAPS and name == "vfio_device_info":
            continue  # the capabilities follow the structure
        expect(f"what stands behind struct {name}", request.tail.strip(b"\xa5"), b"")


@check("REQ-INT-07", "an index at or above num_irqs is EINVAL", companion=None)
def _index_beyond(bench: Bench) -> None:
    device = bench.device
    for index in (device.info().num_irqs, 0x80, BEYOND):
        _refused(f"GET_IRQ_INFO of {index}", "EINVAL", device.irq_info, index)
        _refused(f"SET_IRQS of {index}", "EINVAL", device.disarm, index)


@check("REQ-INT-07", "an unknown DEVICE_FEATURE is ENOTTY", companion=None)
def _unknown_feature(bench: Bench) -> None:
    feature = bench.device.feature
    for flags in (PROBE, PROBE | GET, PROBE | SET, GET, SET):
        _refused(f"flags {flags:#x}", "ENOTTY", feature, flags | NO_FEATURE, bytes(8))
    expect("has_feature", bench.device.has_feature(NO_FEATURE), False)


def _refused(
    what: str, wanted: str, call: Callable[..., object], *arguments: object, **named: object
) -> None:
    expect(what, result(lambda: call(*arguments, **named)), wanted)


# ---- DEL: delivery -----------------------------------------------------------------------------


@check("REQ-DEL-07", "each read gives exactly one, the next after the previous one was read")
def _one_each(bench: Bench) -> None:
    reader = bench.armed()
    bench.send(SEVERAL)
    reader.loopbacks(SEVERAL)
    for _ in range(SEVERAL):
        bench.send()
        reader.loopbacks(1)


@check("REQ-DEL-12", "a write to the eventfd is added to an unread notification, none is lost")
def _write_onto_unread(bench: Bench) -> None:
    reader = bench.armed()
    bench.send(2)
    reader.write(5)
    expect("the first word", f"{reader.word():#x}", f"{LOOPBACK_WORD + 5:#x}")
    reader.loopbacks(1)


@check("REQ-DEL-12", "a write to the empty eventfd delays the next notification, none is lost")
def _write_before(bench: Bench) -> None:
    reader = bench.armed()
    reader.write(5)
    bench.send(2)
    expect("the first word", reader.word(), 5)
    reader.loopbacks(2)


@check("REQ-DEL-14", "poll wakes up for each notification")
def _poll(bench: Bench) -> None:
    reader = bench.armed()
    bench.send(SEVERAL)
    reader.loopbacks(SEVERAL)


@check("REQ-DEL-14", "epoll, level-triggered, wakes up for each notification")
def _epoll_level(bench: Bench) -> None:
    _epoll(bench, select.EPOLLIN)


@check("REQ-DEL-14", "epoll, edge-triggered, wakes up for each notification")
def _epoll_edge(bench: Bench) -> None:
    _epoll(bench, select.EPOLLIN | select.EPOLLET)


def _epoll(bench: Bench, events: int) -> None:
    reader = bench.armed()
    with select.epoll() as epoll:
        epoll.register(reader, events)
        bench.send(SEVERAL)
        got = 0
        while got < SEVERAL:
            if not epoll.poll(SECONDS):
                raise BrokenError(f"no wakeup after {got} of {SEVERAL}")
            # Read once per wakeup: the next notification has to cause a wakeup of its own.
            if (word := reader.read()) is not None:
                got += word == LOOPBACK_WORD


@check("REQ-DEL-14", "a blocking read returns for each notification")
def _blocking(bench: Bench) -> None:
    reader = bench.armed(nonblocking=False)
    got: list[bytes] = []
    # `EventFd.read` would wait by poll(2) instead.
    thread = threading.Thread(
        target=lambda: got.extend(reader.raw(SIZE) for _ in range(SEVERAL)), daemon=True
    )
    thread.start()
    bench.send(SEVERAL)
    thread.join(SECONDS)
    stuck = thread.is_alive()
    # End a blocked thread: later, it might read from another file with the same descriptor number.
    while thread.is_alive():
        reader.write(1)
        thread.join(0.01)
    if stuck:
        raise BrokenError(f"a read did not return; {len(got)} of {SEVERAL} did")


# ---- LIF: life cycle ---------------------------------------------------------------------------


@check("REQ-LIF-05", "another eventfd gets what is queued, the old one keeps what is readable")
def _swap(bench: Bench) -> None:
    old = bench.armed()
    bench.send(SEVERAL)
    new = bench.armed()
    old.loopbacks(1)
    new.loopbacks(SEVERAL - 1)
    bench.send()
    new.loopbacks(1)
    old.silent()


@check("REQ-LIF-05", "the same eventfd again changes nothing")
def _same_again(bench: Bench) -> None:
    reader = bench.armed()
    bench.send(SEVERAL)
    bench.device.arm(reader)
    reader.loopbacks(SEVERAL)


@check("REQ-LIF-08", "of a closed eventfd the new one gets what was queued, not what was readable")
def _swap_closed(bench: Bench) -> None:
    old = bench.armed()
    bench.send(3)
    old.close()
    bench.armed().loopbacks(2)


@check("REQ-LIF-07", "-1 ends delivery, discards the queue, leaves what is readable")
def _disarm(bench: Bench) -> None:
    _ends(bench, lambda: bench.device.disarm())
    bench.device.disarm()
    bench.device.disarm()  # a second call succeeds


@check("REQ-LIF-07", "DATA_NONE with count 0 ends delivery, discards the queue, leaves the rest")
def _teardown(bench: Bench) -> None:
    _ends(bench, lambda: bench.device.teardown())
    bench.device.teardown()
    _refused("a second time", "EINVAL", bench.device.teardown)


@check("REQ-LIF-07", "closing the device ends delivery, discards the queue, leaves the rest")
def _close(bench: Bench) -> None:
    _ends(bench, bench.reopen)


def _ends(bench: Bench, end: Callable[[], None]) -> None:
    old = bench.armed()
    bench.send(3)
    end()
    old.loopbacks(1)
    _refused("loopback while nothing is set", "EINVAL", bench.device.loopback)
    bench.device.loopback_bool(1)  # succeeds without an eventfd, and queues nothing
    new = bench.armed()
    bench.send()
    new.loopbacks(1)
    old.silent()


@check("REQ-LIF-08", "closing the eventfd does not de-assign it")
def _closed_eventfd(bench: Bench) -> None:
    bench.armed().close()
    bench.send(3)
    bench.armed().loopbacks(3)


# ---- ERR: errors -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bad:
    """Input to VFIO_DEVICE_SET_IRQS that has to fail with the errno of the name ``errno``.

    ``flags``, ``start``, ``count`` and ``argsz`` are fields of struct vfio_irq_set; ``data`` comes
    after them. ``argsz`` None stands for the size of structure and data.
    """

    title: str
    errno: str
    flags: int = DATA_NONE | TRIGGER
    start: int = 0
    count: int = 1
    data: bytes = b""
    argsz: int | None = None

    def send(self, device: Device, index: int) -> str:
        """Call the ioctl on ``index``; return "success" or the name of its errno, like `result`."""
        return result(
            lambda: device.set_irqs(
                index,
                self.flags,
                start=self.start,
                count=self.count,
                data=self.data,
                argsz=self.argsz,
            )
        )


def _fd(number: int) -> bytes:
    return struct.pack("=i", number)


BAD: tuple[Bad, ...] = (
    *(Bad(f"argsz {argsz}", "EINVAL", argsz=argsz) for argsz in (0, 12, 19)),
    Bad("argsz without room for a bool", "EINVAL", DATA_BOOL | TRIGGER, data=b"\1", argsz=20),
    Bad("argsz without room for an fd", "EINVAL", DATA_EVENTFD | TRIGGER, data=_fd(-1), argsz=23),
    Bad("an unknown flag", "EINVAL", DATA_NONE | TRIGGER | NO_FLAG),
    Bad("no DATA flag", "EINVAL", TRIGGER),
    Bad("two DATA flags", "EINVAL", DATA_NONE | DATA_BOOL | TRIGGER, data=b"\1"),
    Bad("start 1", "EINVAL", start=1),
    Bad("start beyond", "EINVAL", start=BEYOND, count=0),
    Bad("count 2", "EINVAL", count=2),
    Bad("count beyond", "EINVAL", count=BEYOND),
    Bad("no action", "ENOTTY", DATA_NONE),
    Bad("action MASK", "ENOTTY", DATA_NONE | MASK),
    Bad("action UNMASK", "ENOTTY", DATA_NONE | UNMASK),
    Bad("two actions", "ENOTTY", DATA_NONE | TRIGGER | MASK),
    Bad("a bool with count 0", "EINVAL", DATA_BOOL | TRIGGER, count=0),
    Bad("an fd with count 0", "EINVAL", DATA_EVENTFD | TRIGGER, count=0),
)


def _bad_descriptors() -> Iterator[Bad]:
    """Yield input with a descriptor that is not an eventfd, or is closed.

    A descriptor that is open is closed when the caller takes the next input.
    """
    for path, title in ((Path("/"), "a folder"), (Path(os.devnull), "a device")):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield Bad(title, "EINVAL", DATA_EVENTFD | TRIGGER, data=_fd(fd))
        finally:
            os.close(fd)
    yield Bad("a closed one", "EBADF", DATA_EVENTFD | TRIGGER, data=_fd(fd))


@check("REQ-ERR-03", "bad input to SET_IRQS fails as on the REQ index and changes nothing")
def _bad_set_irqs(bench: Bench) -> None:
    reader, _ = bench.armed(), bench.armed(REQ)
    bench.send(2)
    for bad in BAD:
        _fails_alike(bench, bad)
    for bad in _bad_descriptors():
        _fails_alike(bench, bad)
    # The pending notifications are still there, and the eventfd is still armed.
    reader.loopbacks(2)
    bench.send()
    reader.loopbacks(1)


@check("REQ-ERR-03", "a descriptor below -1 gives what it gives on the REQ index")
def _below_minus_one(bench: Bench) -> None:
    reader, _ = bench.armed(), bench.armed(REQ)
    # The result is EINVAL, or success up to Linux 6.1; neither changes the armed eventfd.
    bad = Bad("fd -2", "", DATA_EVENTFD | TRIGGER, data=_fd(-2))
    expect(bad.title, bad.send(bench.device, ACPI), bad.send(bench.device, REQ))
    bench.send()
    reader.loopbacks(1)


def _fails_alike(bench: Bench, bad: Bad) -> None:
    for index in (ACPI, REQ):
        expect(f"{bad.title}, index {index}", bad.send(bench.device, index), bad.errno)


@check("REQ-ERR-04", "bad input to GET_IRQ_INFO is EINVAL", companion=None)
def _bad_irq_info(bench: Bench) -> None:
    for argsz in (0, 8, 15):
        for index in (MSIX, ACPI):
            what = f"index {index}, argsz {argsz}"
            _refused(what, "EINVAL", bench.device.irq_info, index, argsz=argsz)
    _refused("an index beyond", "EINVAL", bench.device.irq_info, BEYOND)


@check("REQ-ERR-05", "bad input to DEVICE_FEATURE fails as documented", companion=None)
def _bad_feature(bench: Bench) -> None:
    for title, wanted, flags, argsz in (
        ("argsz 0", "EINVAL", PROBE | NO_FEATURE, 0),
        ("argsz 7", "EINVAL", PROBE | NO_FEATURE, 7),
        ("argsz 8", "ENOTTY", PROBE | NO_FEATURE, 8),
        ("an unknown flag", "EINVAL", NO_FLAG | PROBE | NO_FEATURE, 8),
        ("GET and SET", "EINVAL", GET | SET | NO_FEATURE, 8),
        ("GET, SET and PROBE", "ENOTTY", GET | SET | PROBE | NO_FEATURE, 8),
    ):
        _refused(title, wanted, bench.device.feature, flags, argsz=argsz)


@check("REQ-ERR-06", "an EFD_SEMAPHORE eventfd is EINVAL, the one before stays armed")
def _semaphore(bench: Bench) -> None:
    reader = bench.armed()
    bench.send(2)
    _refused("EFD_SEMAPHORE", "EINVAL", bench.device.arm, bench.reader(semaphore=True))
    reader.loopbacks(2)
    bench.send()
    reader.loopbacks(1)


@check("REQ-ERR-07", "everything on the index is EINVAL without a companion", companion=False)
def _no_companion(bench: Bench) -> None:
    device = bench.device
    _refused("arm", "EINVAL", device.arm, bench.reader())
    _refused("-1", "EINVAL", device.disarm)
    _refused("tear down", "EINVAL", device.teardown)
    _refused("loopback", "EINVAL", device.loopback)
    _refused("loopback by a bool", "EINVAL", device.loopback_bool, 1)
