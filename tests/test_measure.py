# SPDX-License-Identifier: GPL-2.0-only
"""The guest's measurements, as far as they need no test kernel."""

from __future__ import annotations

import errno
import os
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from kpatch.run.protocol import Decoder, Done, Hello, Transcript
from kpatch.tables.outcomes import Outcome
from kpatch.vm.guest_image import CLOCK
from ktests import call, pci
from ktests.acpi import Firmware
from ktests.call import Call
from ktests.channel import Channel
from ktests.contract import PROTOCOL
from ktests.measure import clock, measurements, session
from ktests.measure.measurements import Parameters
from ktests.measure.stand import PacedFirmware
from ktests.sleeper import Sleeper
from uapi.eventfd import MAX, EventFd


@pytest.fixture
def eventfd() -> Iterator[int]:
    """An eventfd that gives one event for each read."""
    file = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)
    yield file
    os.close(file)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("clock") / "clock.so"
    options = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
    subprocess.run(["gcc", *options, "-o", str(made), str(CLOCK)], check=True)
    return made


@pytest.fixture(autouse=True)
def compiled(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "LIBRARY", library)


# ---- clock.c -------------------------------------------------------------------------------------


def test_trips_are_made_in_turn_and_timed(eventfd: int) -> None:
    os.eventfd_write(eventfd, 3)
    unread = Call(eventfd, bytearray(b"\1\0\0\0"), termios.FIONBIO)  # it stays non-blocking
    before = time.monotonic_ns()
    reads, settings = clock.time_trips([[call.read(eventfd, 8)], [unread, unread]], 3)
    took = time.monotonic_ns() - before
    assert (len(reads), len(settings)) == (3, 3)
    assert 0 < sum(reads) + sum(settings) <= took
    with pytest.raises(BlockingIOError):
        os.eventfd_read(eventfd)


def test_read_waits_for_what_is_not_there_yet(eventfd: int) -> None:
    later = threading.Timer(0.05, os.eventfd_write, (eventfd, 1))
    later.start()
    [[taken]] = clock.time_trips([[call.read(eventfd, 8)]], 1)
    later.join()
    assert taken > 40_000_000


def test_signal_adds_one() -> None:
    with EventFd() as counted:
        clock.time_trips([[call.signal(counted)]], 3)
        assert counted.read() == 3
        counted.write(MAX)
        with pytest.raises(BlockingIOError, match="time_trips"):
            clock.time_trips([[call.signal(counted)]], 1)


def test_call_that_fails_is_told() -> None:
    with pytest.raises(OSError, match="time_trips") as failed:
        clock.time_trips([[Call(-1, bytearray(8), termios.FIONREAD)]], 1)
    assert failed.value.errno == errno.EBADF


def test_follower_keeps_the_time_of_each_event(eventfd: int) -> None:
    other = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)
    follower = clock.Follower([[call.read(eventfd, 8)], [call.read(other, 8)]], 4)
    stamps = []
    for number, file in enumerate((eventfd, other, other, eventfd)):
        begin = time.monotonic_ns()
        os.eventfd_write(file, 1)
        stamps.append(follower.wait(number))
        assert stamps[-1] > begin
    sleeps, nanoseconds = follower.usage()
    assert stamps == sorted(stamps)
    assert 1 <= sleeps <= 8
    assert nanoseconds > 0
    os.close(other)


def test_follower_that_fails_is_told() -> None:
    reading, writing = os.pipe()
    os.close(writing)  # readable, and then the end
    follower = clock.Follower([[Call(reading, bytearray(8), termios.TIOCSTI)]], 1)
    with pytest.raises(OSError, match="follow"):
        follower.usage()
    os.close(reading)


# ---- pacing --------------------------------------------------------------------------------------


class FakeReader:
    """Counts how often it was waited for."""

    idle = 0

    def wait_idle(self) -> None:
        """Do not wait."""
        self.idle += 1


def test_paced_firmware_waits_for_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int, int]] = []
    flushed: list[int] = []

    def notify(_: object, method: str, value: int, *, step: int = 0, count: int = 1) -> None:
        sent.append((value, step, count))

    monkeypatch.setattr(Firmware, "notify", notify)
    monkeypatch.setattr(PacedFirmware, "flush_handlers", lambda _: flushed.append(len(sent)))
    firmware = object.__new__(PacedFirmware)
    reader: Any = FakeReader()
    firmware.notify("N080", 0x100, step=1, count=500)
    with firmware.paced(reader, 240):
        firmware.notify("N080", 0x100, step=1, count=500)
    firmware.notify("N080", 0x81)
    whole, *pieces, after = sent
    assert whole == (0x100, 1, 500)
    assert pieces == [(0x100, 1, 240), (0x1F0, 1, 240), (0x2E0, 1, 20)]
    assert after == (0x81, 0, 1)
    assert flushed == [2, 3, 4]
    assert reader.idle == 3


# ---- a device that sleeps ------------------------------------------------------------------------


@pytest.fixture
def sleeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sleeper:
    """A device that is awake, with the files of sysfs that are read and written."""
    monkeypatch.setattr(pci, "BUS", tmp_path)
    monkeypatch.setattr("ktests.sleeper.ASLEEP_SECONDS", 0.001)
    monkeypatch.setattr("ktests.sleeper.SECONDS", 0.05)
    device = Sleeper("sleeper", "0000:00:1e.0", "", "N0F0")
    (device.folder / "power").mkdir(parents=True)
    put(device, state="D0", active=5)
    return device


def put(device: Sleeper, *, state: str, active: int) -> None:
    (device.folder / "power_state").write_text(f"{state}\n")
    (device.folder / "power" / "runtime_active_time").write_text(f"{active}\n")


def test_device_that_stays_awake_is_told(sleeper: Sleeper) -> None:
    with pytest.raises(AssertionError, match="stays in D0"):
        sleeper.wait_asleep()
    put(sleeper, state="D3hot", active=5)
    sleeper.wait_asleep()
    assert sleeper.active_milliseconds == 5


def test_device_is_kept_awake_in_the_block(sleeper: Sleeper) -> None:
    control = sleeper.folder / "power" / "control"
    with sleeper.awake():
        assert control.read_text() == "on"
    assert control.read_text() == "auto"
    put(sleeper, state="D3hot", active=5)
    with pytest.raises(AssertionError, match="is in D3hot"), sleeper.awake():
        pass


# ---- records -------------------------------------------------------------------------------------


def test_session_reports_to_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records, kmsg = tmp_path / "records", tmp_path / "kmsg"
    records.touch()
    kmsg.touch()
    seen: list[Parameters] = []

    def good(_: object, parameters: Parameters) -> dict[str, float | str]:
        seen.append(parameters)
        return {"mechanism": "1 2", "kept": "256 events"}

    def bad(_: object, __: object) -> dict[str, float | str]:
        raise AssertionError("event 3 does not come")

    table = {"a": good, "b": bad, "c": good}
    monkeypatch.setattr(session, "MEASUREMENTS", table)
    monkeypatch.setattr(session, "Stand", lambda *_: nullcontext())
    port = Channel(records)
    session.run("eventq", {}, {"count": 5, "samples": 100}, {"c"}, port, kmsg=kmsg)
    state = Transcript().add(Hello(PROTOCOL, "7.3.4", "3.11"))
    for record in Decoder().feed(records.read_bytes()):
        state = state.add(record)
    state = state.add(Done())
    assert state.broken == ()
    assert state.ids == {"a", "b", "c"}
    assert list(state.ended) == ["a", "b"], "c was begun in an earlier VM"
    assert state.ended["a"].values == {"mechanism": "1 2", "kept": "256 events"}
    assert state.ended["b"].outcome is Outcome.FAIL
    assert state.ended["b"].message == "AssertionError: event 3 does not come"
    assert seen == [Parameters(5, 100)]
    assert kmsg.read_text().splitlines()[0] == "<5>vfio_acpi: begin a"


def test_every_limit_is_that_of_a_measurement() -> None:
    assert set(measurements.LIMITS) <= set(measurements.MEASUREMENTS)
    million = Parameters(1_000_000, 4000)
    assert measurements.LIMITS["count"](million) > measurements.LIMIT
