# SPDX-License-Identifier: GPL-2.0-only
"""The choice of acceleration, and the message if it is not the requested one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kpatch.errors import HarnessError
from kpatch.lib import cache
from kpatch.tables.outcomes import ExitCode
from kpatch.vm import accel

IMAGE = Path("/nonexistent/bzImage")


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host whose /dev/kvm opens and whose CPU has vmx. Tests can change both files."""
    monkeypatch.setenv("VFIO_ACPI_CACHE", str(tmp_path / "cache"))
    files = {"DEVICE": "", "CPUINFO": "flags\t\t: fpu vmx sse\n", "BOOT_ID": "b\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(accel, name, tmp_path / name)
    return tmp_path


def remember(fault: str) -> None:
    """Record that a probing boot has ended with ``fault`` since the host was booted."""

    def fill(folder: Path) -> None:
        (folder / "fault").write_text(fault)

    cache.entry("kvm", "b", fill)


def no_device(host: Path) -> str:
    (host / "DEVICE").unlink()
    return f"{host}/DEVICE cannot be opened"


def no_flags(host: Path) -> str:
    (host / "CPUINFO").write_text("flags\t\t: fpu svm_lock sse\nvmx flags\t: x\n")
    return f"{host}/DEVICE is there, but the CPU offers neither vmx nor svm"


def no_boot(host: Path) -> str:
    remember("a probing boot printed nothing for 10 s")
    return "a probing boot printed nothing for 10 s"


FAULTS = pytest.mark.parametrize("break_it", [no_device, no_flags, no_boot])


def test_tcg_asks_nobody(host: Path) -> None:
    no_device(host)
    chosen = accel.choose("tcg", IMAGE)
    assert (chosen.used, chosen.requested, chosen.reason) == ("tcg", "tcg", "asked for")
    assert not chosen.kvm


@FAULTS
def test_auto_falls_back_and_says_why(host: Path, break_it: object) -> None:
    assert callable(break_it)
    fault = break_it(host)
    chosen = accel.choose("auto", IMAGE)
    assert (chosen.used, chosen.reason) == ("tcg", f"no KVM: {fault}")


@FAULTS
def test_kvm_is_refused_with_the_reason(host: Path, break_it: object) -> None:
    assert callable(break_it)
    fault = break_it(host)
    with pytest.raises(HarnessError, match=re.escape(f"ACCEL=kvm: {fault}; use ")) as refused:
        accel.choose("kvm", IMAGE)
    assert refused.value.code is ExitCode.USAGE


@pytest.mark.parametrize("requested", ["auto", "kvm"])
def test_kvm_that_boots_is_taken(requested: str) -> None:
    remember("")
    chosen = accel.choose(requested, IMAGE)
    assert chosen.kvm and chosen.requested == requested


def test_probing_boot_that_qemu_refuses() -> None:
    # The kernel file does not exist: QEMU reports it at once, with or without KVM.
    fault = accel._boot_fault(IMAGE)
    assert fault is not None and fault.startswith("QEMU gave up: ")


def test_probe_holds_until_the_next_boot(host: Path) -> None:
    first = accel.choose("auto", IMAGE)
    assert "QEMU gave up" in first.reason
    (host / "cache" / "kvm" / "b" / "fault").write_text("from the cache")
    assert accel.choose("auto", IMAGE).reason == "no KVM: from the cache"
    (host / "BOOT_ID").write_text("c\n")
    assert "QEMU gave up" in accel.choose("auto", IMAGE).reason
