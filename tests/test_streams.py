# SPDX-License-Identifier: GPL-2.0-only
"""The choice of the mechanism by which `Device.notifications` reads."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field, replace

import pytest

from uapi import device_family, streams
from uapi.errors import OpenError
from uapi.eventfd import EventFd
from uapi.eventq import EventQueue

EVENTQ, DOORBELL, INDEX = 14, 15, 5


@dataclass
class Kernel:
    """A simulated open device; the kernel has ``features`` and ``num_irqs`` interrupt indices."""

    features: frozenset[int] = frozenset()
    num_irqs: int = INDEX + 1
    count: int = 1
    masks: bool = False
    bdf: str = "0000:00:10.0"
    closed: bool = False
    armed: list[object] = field(default_factory=list)

    def has_feature(self, number: int) -> bool:
        """As Device."""
        return number in self.features

    def interrupts(self, index: int) -> int | None:
        """As Device."""
        assert index == INDEX
        return self.count if index < self.num_irqs else None

    def arm(self, fd: object) -> None:
        """As Device."""
        self.armed.append(fd)

    def disarm(self) -> None:
        """As Device."""
        self.armed.append(None)

    def automasked(self, index: int) -> bool:
        """As Device."""
        return bool(self.interrupts(index)) and self.masks

    def unmask_by(self, fd: object) -> None:
        """As Device."""
        assert self.armed[-1] is not None, "fails if no eventfd is set"

    def notify_queue(self) -> EventQueue:
        """As Device; an eventfd stands for the queue."""
        eventfd = EventFd()
        fd, eventfd._fd = eventfd._fd, -1
        return EventQueue(fd)

    def fetch(self) -> None:
        """As Device."""


def chosen(kernel: Kernel, mechanism: str | None = None) -> str:
    """Return the mechanism of the stream that is opened for ``kernel``."""
    with streams.open_stream(kernel, mechanism) as stream:
        return stream.mechanism


ALL = Kernel(frozenset({EVENTQ, DOORBELL}), masks=True)


@pytest.mark.parametrize(
    ("features", "masks", "mechanism"),
    [
        ({EVENTQ, DOORBELL}, True, "eventq"),
        ({EVENTQ}, False, "eventq"),
        ({DOORBELL}, True, "doorbell"),
        ((), True, "ack"),
        ((), False, "eventfd"),
    ],
)
def test_the_first_that_the_kernel_has(features: set[int], masks: bool, mechanism: str) -> None:
    assert chosen(Kernel(frozenset(features), masks=masks)) == mechanism


def test_the_queue_needs_no_index() -> None:
    assert chosen(Kernel(frozenset({EVENTQ}), num_irqs=INDEX)) == "eventq"


@pytest.mark.parametrize("mechanism", ["eventq", "doorbell", "ack", "eventfd"])
def test_the_named_one(mechanism: str) -> None:
    kernel = replace(ALL, masks=False) if mechanism == "eventfd" else ALL
    assert chosen(kernel, mechanism) == mechanism
    assert list(streams.MECHANISMS) == ["eventq", "doorbell", "ack", "eventfd", "netlink-device"]


def test_the_family_is_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[str] = []
    monkeypatch.setattr(device_family, "has", lambda bdf: bdf == "0000:00:10.0")
    monkeypatch.setattr(device_family.FamilyNotifications, "join", joined.append)
    assert chosen(Kernel()) == "eventfd"
    streams.open_stream(Kernel(num_irqs=INDEX))
    streams.open_stream(Kernel(), "netlink-device")
    assert joined == ["0000:00:10.0"] * 2


def test_a_kernel_without_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_family, "has", lambda _: False)
    with pytest.raises(OpenError) as caught:
        streams.open_stream(Kernel(num_irqs=INDEX))
    assert caught.value.errno == errno.ENOTSUP
    assert str(caught.value) == (
        "0000:00:10.0: this kernel has no VFIO_DEVICE_FEATURE_ACPI_NOTIFY and no "
        "VFIO_DEVICE_FEATURE_ACPI_PENDING and no VFIO_PCI_ACPI_IRQ_INDEX with "
        "VFIO_IRQ_INFO_AUTOMASKED and no VFIO_PCI_ACPI_IRQ_INDEX without "
        "VFIO_IRQ_INFO_AUTOMASKED and no generic netlink family of the device (only the initial "
        "network namespace has them); boot one with the eventq or doorbell or ack or eventfd or "
        "netlink-device series"
    )


def test_a_kernel_without_the_named_one() -> None:
    with pytest.raises(OpenError) as caught:
        streams.open_stream(Kernel(), "eventq")
    assert caught.value.errno == errno.ENOTSUP
    assert caught.value.cause == "this kernel has no VFIO_DEVICE_FEATURE_ACPI_NOTIFY"


def test_an_eventfd_that_nobody_acknowledges_is_refused() -> None:
    with pytest.raises(OpenError, match="without VFIO_IRQ_INFO_AUTOMASKED"):
        streams.open_stream(Kernel(masks=True), "eventfd")


@pytest.mark.parametrize("mechanism", ["doorbell", "ack", "eventfd"])
def test_a_device_without_companion(mechanism: str) -> None:
    kernel = Kernel(frozenset({DOORBELL}), count=0)
    with pytest.raises(OpenError, match="has no ACPI companion") as caught:
        streams.open_stream(kernel, mechanism)
    assert caught.value.errno == errno.ENOTSUP
    assert kernel.armed == []


def test_an_unknown_name() -> None:
    with pytest.raises(ValueError, match="'eventfs' is not one of eventq, doorbell, ack, "):
        streams.open_stream(ALL, "eventfs")
