# SPDX-License-Identifier: GPL-2.0-only
"""Devices, tested without hardware: descriptors, errors, rules, streams."""

from __future__ import annotations

import asyncio
import errno
import os
import pickle
import re
import shutil
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from uapi import capabilities, mirror, opening, pci, rules, vfio
from uapi.errors import ClosedError, FormatError, OpenError, UapiError
from uapi.eventfd import EventFd
from uapi.ioctl import ROOM, Structure
from uapi.notification import Notification, encode
from uapi.notifications import Notifications
from uapi.vfio import Device


@pytest.fixture
def null() -> Iterator[Device]:
    """A device whose descriptor supports no ioctl."""
    with Device.from_fd(os.open(os.devnull, os.O_RDWR), "0000:00:10.0") as device:
        yield device


def test_indices() -> None:
    indices = (vfio.INTX, vfio.MSI, vfio.MSIX, vfio.ERR, vfio.REQ, vfio.ACPI)
    assert indices == (0, 1, 2, 3, 4, 5)


# ---- errors ----


def test_every_ioctl_fails_as_what_it_is(null: Device) -> None:
    for call, name in (
        (null.info, "VFIO_DEVICE_GET_INFO"),
        (lambda: null.irq_info(5), "VFIO_DEVICE_GET_IRQ_INFO"),
        (lambda: null.set_irqs(5, 0), "VFIO_DEVICE_SET_IRQS"),
        (null.disarm, "VFIO_DEVICE_SET_IRQS"),
        (null.teardown, "VFIO_DEVICE_SET_IRQS"),
        (null.loopback, "VFIO_DEVICE_SET_IRQS"),
        (lambda: null.loopback_bool(1), "VFIO_DEVICE_SET_IRQS"),
        (lambda: null.feature(0), "VFIO_DEVICE_FEATURE"),
    ):
        with pytest.raises(UapiError) as caught:
            call()
        assert caught.value.ioctl == name
        assert caught.value.errno == errno.ENOTTY
        assert str(caught.value).startswith(f"{name}: ENOTTY: ")


def test_a_closed_device_is_ebadf(null: Device) -> None:
    fd = null.fileno()
    null.close()
    null.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    with pytest.raises(UapiError, match="closed") as caught:
        null.loopback()
    assert caught.value.errno == errno.EBADF
    with pytest.raises(ValueError, match="closed"):
        null.fileno()


@pytest.mark.parametrize(
    "error",
    [
        UapiError("VFIO_DEVICE_SET_IRQS", errno.EINVAL, "argsz 12 is below 20"),
        OpenError(errno.EBUSY, "0000:00:10.0", "in use", "close it"),
    ],
)
def test_errors_travel_between_processes(error: OSError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
    assert copy.errno == error.errno


def test_numbers_that_do_not_fit(null: Device) -> None:
    for call in (
        lambda: null.irq_info(-1),
        lambda: null.irq_info(1 << 32),
        lambda: null.set_irqs(5, 0, start=1 << 32),
        lambda: null.info(argsz=-1),
        lambda: null.arm(1 << 31),
        lambda: null.loopback_bool(256),
        lambda: null.loopback_bool(-1),
    ):
        with pytest.raises(OverflowError):
            call()


# ---- which rule was broken ----

# Valid facts: SET_IRQS with an eventfd, on the ACPI index of a device with a companion.
GOOD = {
    "argsz": 24,
    "index": 5,
    "flags": mirror.VFIO_IRQ_SET_DATA_EVENTFD | mirror.VFIO_IRQ_SET_ACTION_TRIGGER,
    "start": 0,
    "count": 1,
    "data": struct.pack("=i", 0),
    "num_irqs": 6,
    "available": 1,
}
NONE = mirror.VFIO_IRQ_SET_DATA_NONE
TRIGGER = mirror.VFIO_IRQ_SET_ACTION_TRIGGER


@pytest.mark.parametrize(
    ("facts", "number", "rule"),
    [
        ({"argsz": 12}, errno.EINVAL, "argsz 12 is below 20"),
        ({"index": 7}, errno.EINVAL, "index 7 is not below num_irqs 6"),
        ({"num_irqs": 5}, errno.EINVAL, "index 5 is not below num_irqs 5"),
        ({"count": 0xFFFFFFFF}, errno.EINVAL, "start 0 plus count 4294967295 is more than"),
        ({"flags": 0x64}, errno.EINVAL, "flags 0x64 have the unknown bits 0x40"),
        ({"available": 0}, errno.EINVAL, "the device has no ACPI companion"),
        ({"start": 1}, errno.EINVAL, "start 1 is not below the 1 interrupts of index 5"),
        ({"count": 2}, errno.EINVAL, "start 0 plus count 2 is above the 1 interrupts"),
        ({"flags": TRIGGER}, errno.EINVAL, "none of the DATA bits, or several"),
        ({"flags": TRIGGER | 3}, errno.EINVAL, "none of the DATA bits, or several"),
        ({"argsz": 23}, errno.EINVAL, "argsz 23 has no room for 1 items of 4 bytes"),
        ({"flags": NONE}, errno.ENOTTY, "none of the ACTION bits, or several"),
        ({"flags": NONE | 8}, errno.ENOTTY, "index 5 does not have the action of flags 0x9"),
        ({"count": 0}, errno.EINVAL, "count 0 goes with DATA_NONE only"),
        ({"flags": NONE | TRIGGER}, errno.EINVAL, "no eventfd is set for index 5"),
        ({"data": struct.pack("=i", -2)}, errno.EINVAL, "descriptor -2 is below -1"),
        ({"data": struct.pack("=i", 999)}, errno.EBADF, "descriptor 999 is not open"),
        ({}, errno.EBUSY, "another open device has used the index for the same ACPI companion"),
        # The first broken rule in the kernel's order counts.
        ({"argsz": 12, "index": 7, "flags": 0}, errno.EINVAL, "argsz 12 is below 20"),
        # Without facts no rule is named.
        ({}, errno.ENOMEM, ""),
    ],
)
def test_rule(facts: dict[str, Any], number: int, rule: str) -> None:
    told = rules.broken("VFIO_DEVICE_SET_IRQS", number, GOOD | facts)
    assert rule in told
    assert bool(told) == bool(rule)


def test_rules_that_look_at_descriptors(tmp_path: Path) -> None:
    def told(fd: int) -> str:
        facts = GOOD | {"data": struct.pack("=i", fd)}
        return rules.broken("VFIO_DEVICE_SET_IRQS", errno.EINVAL, facts)

    with (tmp_path / "file").open("w") as file:
        assert told(file.fileno()) == f"descriptor {file.fileno()} is no eventfd"
    with EventFd() as eventfd:
        # EINVAL for a valid eventfd: only the flag that cannot be read from outside is left.
        assert told(eventfd.fileno()) == (
            f"the eventfd of descriptor {eventfd.fileno()} is EFD_SEMAPHORE"
        )


def test_rules_need_no_facts() -> None:
    numbers = [n for n in errno.errorcode if n]
    for name in {rule.ioctl for rule in rules.RULES} | {"VFIO_NO_SUCH_IOCTL"}:
        for number in numbers:
            assert isinstance(rules.broken(name, number, {"index": 5, "flags": 0}), str)


def test_every_rule_is_of_an_ioctl_of_the_mirror() -> None:
    for rule in rules.RULES:
        assert hasattr(mirror, rule.ioctl), rule


# ---- memory for the kernel ----


@pytest.mark.parametrize("argsz", [0, 1, 15, 16, 17, 4096, 0xFFFFFFFF])
def test_the_memory_is_never_less_than_the_structure(argsz: int) -> None:
    request = Structure("vfio_irq_info", argsz=argsz)
    assert struct.unpack_from("=I", request.memory)[0] == argsz
    assert len(request.memory) >= max(16, min(argsz, ROOM))
    assert not any(request.memory[4:])


def header(number: int, following: int) -> bytes:
    """Return a struct vfio_info_cap_header of version 1."""
    return struct.pack("=HHI", number, 1, following)


def test_capabilities() -> None:
    answer = bytes(24) + header(5, 40) + b"12345678" + header(6, 0) + b"xyz"
    assert capabilities.chain(answer, 0) == {}
    assert capabilities.chain(answer, 24) == {
        5: header(5, 40) + b"12345678",
        6: header(6, 0) + b"xyz",
    }


@pytest.mark.parametrize(
    "answer",
    [header(5, 0)[:7], header(5, 2), header(5, 4), header(5, 12), header(5, 8) + b"1234567"],
)
def test_capabilities_that_are_damaged(answer: bytes) -> None:
    with pytest.raises(ValueError, match="a capability is at offset"):
        capabilities.chain(bytes(4) + answer, 4)


def test_the_data_stands_behind_the_structure() -> None:
    request = Structure("vfio_irq_set", tail=b"\1\2\3\4")
    request.view.index, request.view.count = 5, 1
    assert bytes(request.memory) == struct.pack("=5I4B", 24, 0, 5, 0, 1, 1, 2, 3, 4)
    assert request.tail == b"\1\2\3\4"
    short = Structure("vfio_irq_set", argsz=20, tail=b"\1\2\3\4")
    assert bytes(short.memory[20:]) == b"\1\2\3\4"


# ---- opening ----


@pytest.mark.parametrize(
    "bdf", ["", "alpha", "00:10", "0000:00:20.0", "0000:00:10.8", "../0000:00:10.0", "00:10.0\n"]
)
def test_what_is_no_bdf(bdf: str) -> None:
    for call in (Device.open, vfio.open_methods):
        with pytest.raises(OpenError, match="not a PCI address") as caught:
            call(bdf)
        assert caught.value.errno == errno.ENODEV
        assert "\n" not in str(caught.value)


def test_bdf() -> None:
    assert pci.canonical("00:1F.3") == "0000:00:1f.3"
    assert pci.canonical("10000:E1:00.0") == "10000:e1:00.0"


def test_no_such_device() -> None:
    with pytest.raises(OpenError, match="no such PCI device") as caught:
        Device.open("ffff:ff:1f.7")
    assert (caught.value.errno, caught.value.what) == (errno.ENODEV, "ffff:ff:1f.7")
    assert vfio.open_methods("ffff:ff:1f.7") == ()


class Sysfs:
    """The files of a device in sysfs and /dev, in a temporary folder."""

    bdf = "0000:00:10.0"

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.folder = root / "devices" / self.bdf
        self.folder.mkdir(parents=True)
        (root / "vfio" / "devices").mkdir(parents=True)
        monkeypatch.setattr(pci, "DEVICES", root / "devices")
        monkeypatch.setattr(pci, "VFIO", root / "vfio")
        monkeypatch.setattr(pci, "IOMMUFD", root / "iommu")

    def bind(self, driver: str) -> None:
        """Bind the device to a driver."""
        (self.root / driver).mkdir()
        (self.folder / "driver").symlink_to(self.root / driver)

    def group(self) -> None:
        """Create the file of its group."""
        (self.root / "groups" / "7").mkdir(parents=True)
        (self.folder / "iommu_group").symlink_to(self.root / "groups" / "7")
        for name in ("7", "vfio"):
            (self.root / "vfio" / name).touch()

    def cdev(self) -> None:
        """Create the device's own file."""
        (self.folder / "vfio-dev" / "vfio3").mkdir(parents=True)
        (self.root / "vfio" / "devices" / "vfio3").touch()
        (self.root / "iommu").touch()


@pytest.fixture
def sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sysfs:
    return Sysfs(tmp_path, monkeypatch)


def test_an_unbound_device_has_no_open_method(sysfs: Sysfs) -> None:
    # Another device of the group is bound to vfio-pci.
    sysfs.group()
    assert vfio.open_methods(sysfs.bdf) == ()
    for open_method in (None, "cdev", "group"):
        with pytest.raises(OpenError, match="not bound to vfio-pci"):
            Device.open(sysfs.bdf, open_method)


def test_open_methods(sysfs: Sysfs) -> None:
    assert vfio.open_methods(sysfs.bdf) == ()
    sysfs.bind("vfio-pci")
    assert vfio.open_methods(sysfs.bdf) == ()
    sysfs.group()
    assert vfio.open_methods(sysfs.bdf) == ("group",)
    sysfs.cdev()
    assert vfio.open_methods("00:10.0") == ("cdev", "group")


@pytest.mark.parametrize(
    ("driver", "cause"),
    [
        ("", "not bound to vfio-pci"),
        ("e1000e", "bound to e1000e, not to vfio-pci"),
        ("vfio-pci", "bound to vfio-pci, but there is neither"),
    ],
)
def test_a_device_that_cannot_be_opened(sysfs: Sysfs, driver: str, cause: str) -> None:
    if driver:
        sysfs.bind(driver)
    with pytest.raises(OpenError, match=cause) as caught:
        Device.open(sysfs.bdf)
    assert caught.value.hint


@dataclass(frozen=True)
class Shut:
    """A device that cannot be opened: its driver, the files that are missing, and the error."""

    driver: str
    missing: tuple[str, ...]
    cause: str
    hint: str
    made: str = ""


SHUT = {
    "group without /dev/vfio": Shut("vfio-pci", ("vfio",), "there is no .*/vfio$", "container"),
    "group without container": Shut(
        "vfio-pci", ("vfio/vfio",), "no .*/vfio/vfio$", "modprobe vfio"
    ),
    "group without its file": Shut("vfio-pci", ("vfio/7",), "neither .*/vfio/7", "container"),
    "no-iommu": Shut("vfio-pci", ("vfio/7",), "without an IOMMU", "IOMMU", "vfio/noiommu-7"),
    "host's driver": Shut("nvme", ("vfio/7",), "^bound to nvme", "if this host does not use"),
    "unbound": Shut("", ("vfio/7",), "^not bound", "as root: modprobe vfio-pci"),
    "no group": Shut("", ("devices/0000:00:10.0/iommu_group",), "no IOMMU group", "enable"),
}


@pytest.mark.parametrize("name", SHUT)
def test_the_cause_is_told(sysfs: Sysfs, name: str) -> None:
    shut = SHUT[name]
    sysfs.group()
    if shut.driver:
        sysfs.bind(shut.driver)
    for path in shut.missing:
        gone = sysfs.root / path
        shutil.rmtree(gone) if gone.is_dir() and not gone.is_symlink() else gone.unlink()
    if shut.made:
        (sysfs.root / shut.made).touch()
    with pytest.raises(OpenError) as caught:
        Device.open(sysfs.bdf)
    assert re.search(shut.cause, caught.value.cause)
    assert shut.hint in caught.value.hint
    assert "CONFIG" not in caught.value.cause


def test_a_cdev_without_iommufd(sysfs: Sysfs) -> None:
    sysfs.bind("vfio-pci")
    sysfs.cdev()
    (sysfs.root / "iommu").unlink()
    with pytest.raises(OpenError, match=r"there is no .*/iommu; modprobe iommufd"):
        Device.open(sysfs.bdf)
    (sysfs.root / "vfio" / "devices" / "vfio3").unlink()
    with pytest.raises(OpenError, match=r"there is no .*/vfio/devices/vfio3"):
        Device.open(sysfs.bdf)


def test_nobody_is_told_to_unbind_a_bridge(sysfs: Sysfs) -> None:
    sysfs.group()
    sysfs.bind("pcieport")
    (sysfs.folder / "class").write_text("0x060400\n")
    with pytest.raises(OpenError, match="a bridge") as caught:
        Device.open(sysfs.bdf)
    assert "unbind" not in caught.value.hint


def test_a_group_of_somebody_else_is_not_opened(sysfs: Sysfs) -> None:
    # Another device of the group is bound to vfio-pci, this one to a host driver.
    sysfs.group()
    sysfs.bind("e1000e")
    with pytest.raises(OpenError, match="bound to e1000e"):
        Device.open(sysfs.bdf)


def test_a_way_that_is_not_offered(sysfs: Sysfs) -> None:
    sysfs.bind("vfio-pci")
    sysfs.group()
    with pytest.raises(OpenError, match="not offer it through cdev; it does through group"):
        Device.open(sysfs.bdf, "cdev")
    with pytest.raises(ValueError, match="neither 'cdev' nor 'group'"):
        Device.open(sysfs.bdf, "tunnel")


@pytest.mark.parametrize(
    ("open_method", "ioctl"), [("cdev", "IOMMU_IOAS_ALLOC"), ("group", "VFIO_GROUP_")]
)
def test_nothing_stays_open_when_an_ioctl_fails(sysfs: Sysfs, open_method: str, ioctl: str) -> None:
    sysfs.bind("vfio-pci")
    sysfs.cdev()
    sysfs.group()
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - the folder is not listed twice
    for _ in range(2):
        with pytest.raises(UapiError, match=ioctl) as caught:  # plain files support no ioctl
            Device.open(sysfs.bdf, open_method)
        assert caught.value.errno == errno.ENOTTY
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208
    assert not opening._spaces.used


@contextmanager
def nobody() -> Iterator[None]:
    """Run as a user without root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    # A separate folder, because other users cannot access pytest's.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        sysfs = Sysfs(Path(folder), monkeypatch)
        sysfs.bind("vfio-pci")
        sysfs.cdev()
        (sysfs.root / "iommu").chmod(0)
        with nobody(), pytest.raises(OpenError, match="permission denied; give your") as caught:
            Device.open(sysfs.bdf)
    assert caught.value.errno == errno.EACCES


# ---- streams ----


class Signalled:
    """A simulated device: it writes one notification at a time, as the kernel does."""

    def __init__(self) -> None:
        self.closed = False
        self.armed: EventFd | None = None

    def arm(self, fd: EventFd) -> None:
        """As Device."""
        self.armed = fd

    def disarm(self) -> None:
        """As Device."""
        self.armed = None

    def send(self, *values: int) -> None:
        """Write each word after the one before was read."""
        for value in values:
            assert self.armed is not None
            while self.armed.wait(0):
                threading.Event().wait(0.001)
            self.armed.write(encode(Notification(value)))


@pytest.fixture
def device() -> Signalled:
    return Signalled()


def test_stream(device: Signalled) -> None:
    with Notifications(device) as stream:
        assert stream.read(0) is None
        sender = threading.Thread(target=device.send, args=range(0x80, 0xC0))
        sender.start()
        got = [next(stream).value for _ in range(0x40)]
        sender.join()
        assert got == list(range(0x80, 0xC0))
        assert stream.read(0.01) is None
    assert device.armed is None


def test_stream_in_asyncio(device: Signalled) -> None:
    async def collect(stream: Notifications) -> list[int]:
        got = []
        async for notification in stream:
            got.append(notification.value)
            if notification.value == 0x8F:
                break
        return got

    async def main() -> list[int]:
        with Notifications(device) as stream:
            sender = asyncio.to_thread(device.send, *range(0x80, 0x90))
            got, _ = await asyncio.wait_for(asyncio.gather(collect(stream), sender), 10)
            # After a cancellation the stream can be waited for again.
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.01)
            device.send(0x90)
            return [*got, (await anext(stream)).value]

    assert asyncio.run(main()) == list(range(0x80, 0x91))


def test_two_tasks_wait(device: Signalled) -> None:
    async def main() -> set[int]:
        with Notifications(device) as stream:
            both = asyncio.gather(anext(stream), anext(stream))
            await asyncio.sleep(0.01)
            await asyncio.to_thread(device.send, 0x81, 0x82)
            return {got.value for got in await asyncio.wait_for(both, 10)}

    assert asyncio.run(main()) == {0x81, 0x82}


def test_closing_ends_a_task_that_waits(device: Signalled) -> None:
    async def main() -> None:
        stream = Notifications(device)
        waiting = asyncio.ensure_future(anext(stream, None))
        await asyncio.sleep(0.01)
        number = stream.fileno()
        stream.close()
        # The next owner of the number can wait for it at once.
        with Notifications(device) as other:
            assert other.fileno() == number
            device.send(0x81)
            assert (await asyncio.wait_for(anext(other), 10)).value == 0x81
        assert await asyncio.wait_for(waiting, 10) is None
        with pytest.raises(ClosedError):
            await anext(stream)

    asyncio.run(main())


def test_closing_ends_a_thread_that_waits(device: Signalled) -> None:
    stream = Notifications(device)
    got: list[Notification | None] = []
    waiting = threading.Thread(target=lambda: got.append(stream.read()), daemon=True)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    stream.close()
    waiting.join(10)
    assert got == [None]
    # The eventfd, and the one that has woken up the thread.
    assert len(os.listdir("/proc/self/fd")) == before - 2  # noqa: PTH208
    with pytest.raises(ClosedError):
        stream.read(0)


def test_other_tasks_run_while_there_are_notifications(device: Signalled) -> None:
    async def main() -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        with Notifications(device) as stream:
            task = asyncio.ensure_future(other())
            for value in range(0x80, 0x90):
                device.send(value)
                await anext(stream)
            task.cancel()
        return turns

    assert asyncio.run(main()) >= 0x10


def test_a_foreign_write_is_no_notification(device: Signalled) -> None:
    with Notifications(device) as stream:
        stream.eventfd.write(1)
        with pytest.raises(FormatError, match="lacks VALID"):
            stream.read(1)
        device.send(0x81)
        assert stream.read(1) == Notification(0x81)
        # A later kernel may set the reserved bits.
        stream.eventfd.write(encode(Notification(0x82)) | 1 << 40)
        assert stream.read(1) == Notification(0x82)


def test_a_closed_device_is_not_disarmed(device: Signalled) -> None:
    with Notifications(device) as stream:
        device.closed = True
    assert device.armed is stream.eventfd


def test_no_eventfd_is_left_where_arming_fails(null: Device) -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    with pytest.raises(UapiError, match="VFIO_DEVICE_SET_IRQS"):
        Notifications(null)
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208
