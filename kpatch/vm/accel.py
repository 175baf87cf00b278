# SPDX-License-Identifier: GPL-2.0-only
"""Choose QEMU's accelerator: KVM if it can boot a guest here, else emulation (TCG)."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.lib import cache, process

CHOICES = ("auto", "kvm", "tcg")
DEVICE = Path("/dev/kvm")
CPUINFO = Path("/proc/cpuinfo")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PROBE_SECONDS = 10.0

# The CPU flag vmx (Intel) or svm (AMD) as a whole word: svm_lock, for example, does not count.
VIRTUALIZATION = re.compile(r"^flags\b.*\b(vmx|svm)\b", re.MULTILINE)


@dataclass(frozen=True)
class Accel:
    """The accelerator that is ``used`` ("kvm" or "tcg"), and the reason.

    ``requested`` is the user's request, one of CHOICES.
    """

    used: str
    requested: str
    reason: str

    @property
    def kvm(self) -> bool:
        """Return whether guests run under KVM."""
        return self.used == "kvm"


def choose(requested: str, image: Path) -> Accel:
    """Return the accelerator for the request ``auto``, ``kvm`` or ``tcg``.

    It does not suffice that /dev/kvm can be opened: on a nested host without vmx or svm,
    KVM_CREATE_VM succeeds, and the guest then loops in its firmware for ever. So the CPU's flags
    are checked before the kernel ``image`` (a bzImage) is booted under KVM, and has to print its
    banner within PROBE_SECONDS. The result of this boot is cached until the host is rebooted.
    HarnessError (exit 2) if ``kvm`` is requested and cannot be used, or if QEMU is not installed
    for the boot.
    """
    if requested == "tcg":
        return Accel("tcg", requested, "asked for")
    fault = _fault(image)
    if fault is None:
        return Accel("kvm", requested, "a probing boot worked")
    if requested == "kvm":
        raise HarnessError("ACCEL=kvm", fault, hint="use ACCEL=auto or ACCEL=tcg")
    return Accel("tcg", requested, f"no KVM: {fault}")


def _fault(image: Path) -> str | None:
    """Return the reason why KVM cannot be used; None if it can. Boots ``image`` if not cached."""
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return f"{DEVICE} cannot be opened"
    if VIRTUALIZATION.search(CPUINFO.read_text()) is None:
        return f"{DEVICE} is there, but the CPU offers neither vmx nor svm"
    boot = BOOT_ID.read_text().strip()

    def fill(folder: Path) -> None:
        (folder / "fault").write_text(_boot_fault(image) or "")

    folder, _ = cache.entry("kvm", boot, fill)
    return (folder / "fault").read_text() or None


def _boot_fault(image: Path) -> str | None:
    """Boot ``image`` under KVM until it prints "Linux version"; return the failure, else None."""
    argv = [
        process.require_tool("qemu-system-x86_64", package="qemu-system-x86"),
        *("-machine", "q35,accel=kvm", "-cpu", "host", "-m", "256M", "-nodefaults"),
        *("-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", str(image)),
        *("-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1"),
    ]
    with process.child(argv, stderr=subprocess.STDOUT, parent_death="KILL") as qemu:
        assert qemu.stdout is not None
        seen = b""
        end = time.monotonic() + PROBE_SECONDS
        while (left := end - time.monotonic()) > 0:
            if not select.select([qemu.stdout], [], [], left)[0]:
                break
            chunk = os.read(qemu.stdout.fileno(), 65536)
            if not chunk:
                text = seen.decode(errors="replace").strip().splitlines()
                return f"QEMU gave up: {text[-1] if text else 'without output'}"
            seen += chunk
            if b"Linux version" in seen:
                return None
        return f"a probing boot printed nothing for {PROBE_SECONDS:.0f} s"
