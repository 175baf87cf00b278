# SPDX-License-Identifier: GPL-2.0-only OR MIT
r"""The guest's firmware for notifications: an SSDT with a mailbox for each slot.

The VMM puts a word into a slot's mailbox (`uapi.vmm.mailbox`) and raises an interrupt: a GPE, for
which the guest evaluates ``\_GPE._Exx``, or that of a Generic Event Device, for which it evaluates
``_EVT`` (ACPI 6.5, 5.6.4 and 5.6.9). The method drains every mailbox in a loop, because one
interrupt may stand for several words. It is serialised, so that words are notified in order.

A slot for hot-plug is in the table from the start. It has the same methods as that of a device that
is there at boot; only the device's object is declared too, if the guest's other tables lack it.

The table computes with 32 bits: the revision of the guest's DSDT decides about the width of
integers in all tables (ACPI 6.5, 19.3.5), and QEMU's has revision 1, which means 32 bits. So a word
is read in halves: first the upper one (state: VALID and the number of lost notifications), then the
value.
"""

from __future__ import annotations

import errno
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from string import Template

from ..errors import OpenError
from ..notification import FIRST_OF_DEVICE, LOST_SHIFT, VALID
from .relay import WIDEST

SLOTS_MAX = 256
IASL_SECONDS = 60
HALF = 32

# An absolute path without omitted names: a root, then names of up to four characters.
_PATH = re.compile(r"\\[A-Z_][A-Z0-9_]{0,3}(\.[A-Z_][A-Z0-9_]{0,3})*")

# The first line of a message of iasl; with -we a warning fails the compilation too.
_COMPLAINT = re.compile(r"(Error|Warning)\s")


class Access(StrEnum):
    """How the guest pops a word.

    REGISTER: two registers of 32 bits in a device model of the VMM. The read of the second one, the
    state, pops; the first one then has the word's value. RING: a ring in memory that the VMM
    writes, for a VMM without such a device.
    """

    REGISTER = "register"
    RING = "ring"


class Doorbell(StrEnum):
    """The kind of interrupt: a general-purpose event, or that of a Generic Event Device."""

    GPE = "gpe"
    GED = "ged"


# The ring of a slot, a page: the number of words that the VMM has written and, 4 bytes later, that
# the guest has taken, both modulo 2**32; from byte 16 on the words. Word N is in place N modulo
# RING_WORDS. Little-endian.
RING_WORDS = 256
RING_FIRST = 16
STRIDES = {Access.REGISTER: 8, Access.RING: 4096}


@dataclass(frozen=True)
class Slot:
    r"""A device of the guest: its ACPI path, as "\_SB.PCI0.S98.S00".

    If ``address`` is not None, the table declares the device's object with this _ADR; otherwise
    another table of the guest has to. ValueError if the path is not absolute, or the address has
    more than 32 bits.
    """

    path: str
    address: int | None = None

    def __post_init__(self) -> None:
        if not _PATH.fullmatch(self.path):
            raise ValueError(rf"slot {self.path!a}: not an absolute ACPI path like \_SB.PCI0.S80")
        if self.address is not None and not 0 <= self.address < 1 << 32:
            raise ValueError(f"slot {self.path}: _ADR {self.address:#x} is not one of 32 bits")
        if self.address is not None and "." not in self.path:
            raise ValueError(f"slot {self.path}: a device that is declared needs a parent")


@dataclass(frozen=True)
class GuestTable:
    """The description of the SSDT. Slot N is ``slots[N]``.

    ``mailbox`` is the guest's physical address of the first slot's mailbox, the others follow it
    (`STRIDES`). ``number`` is that of the GPE, or the GED's interrupt (GSI). ``resync`` is
    `uapi.vmm.relay.Policy.resync`. ValueError if a number is out of range.
    """

    slots: Sequence[Slot]
    mailbox: int
    access: Access = Access.REGISTER
    doorbell: Doorbell = Doorbell.GPE
    number: int = 7
    resync: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.slots) <= SLOTS_MAX:
            raise ValueError(f"{len(self.slots)} slots: from 1 to {SLOTS_MAX} are possible")
        paths = [slot.path for slot in self.slots]
        for path in paths:
            if paths.count(path) > 1:
                raise ValueError(f"slot {path}: given twice")
        stride = STRIDES[self.access]
        if self.mailbox % stride or not 0 < self.mailbox < 1 << 52:
            raise ValueError(f"mailbox {self.mailbox:#x}: not a multiple of {stride} below 2**52")
        if not 0 <= self.number <= (0xFF if self.doorbell is Doorbell.GPE else 0x3FF):
            raise ValueError(f"{self.doorbell} {self.number}: out of range")
        if self.resync is not None and not FIRST_OF_DEVICE <= self.resync <= WIDEST:
            raise ValueError(f"resync {self.resync:#x}: not in 0x80 to {WIDEST:#x}")

    def asl(self) -> str:
        """Return the source of the table."""
        numbered = list(enumerate(self.slots))
        return _TABLE.substitute(
            externals="\n".join(
                f"    External ({name}, DeviceObj)"
                for name in dict.fromkeys(_external(slot) for slot in self.slots)
            ),
            devices="".join(_device(slot) for slot in self.slots if slot.address is not None),
            slots="".join(self._slot(number, slot) for number, slot in numbered),
            drains="\n".join(f"            D{number:03X} ()" for number, _ in numbered),
            identity=_IDENTITIES[self.doorbell].substitute(number=self.number),
            handler=_HANDLERS[self.doorbell].substitute(number=f"{self.number:02X}"),
        )

    def aml(self) -> bytes:
        """Return the table, compiled by iasl.

        OpenError if iasl is not installed, or fails: its text is in the error.
        """
        return compiled(self.asl())

    def _slot(self, number: int, slot: Slot) -> str:
        base = self.mailbox + number * STRIDES[self.access]
        resync = (
            "" if self.resync is None else f"\n{20 * ' '}Notify ({slot.path}, {self.resync:#x})"
        )
        pop = _POPS[self.access].substitute(
            n=f"{number:03X}",
            base=f"{base:#x}",
            first=f"{base + RING_FIRST:#x}",
            mask=f"{RING_WORDS - 1:#x}",
            size=f"{RING_FIRST:#x}",
        )
        return (
            _NAMES.substitute(n=f"{number:03X}")
            + pop
            + _DRAIN.substitute(
                n=f"{number:03X}",
                path=slot.path,
                lost=LOST_SHIFT - HALF,
                valid=f"{VALID >> HALF:#x}",
                resync=resync,
            )
        )


def from_text(
    slots: Sequence[str], mailbox: str, access: str, doorbell: str, resync: str | None
) -> GuestTable:
    """Return the table that the words of a command line describe.

    A slot is ``PATH`` or ``PATH=ADR``, a doorbell ``gpe:NUMBER`` or ``ged:INTERRUPT``. Numbers are
    decimal, or hexadecimal with 0x. ValueError, which names the word, if one is wrong.
    """
    kind, _, number = doorbell.partition(":")
    if kind not in set(Doorbell):
        raise ValueError(f"doorbell {doorbell!a}: not gpe:NUMBER or ged:INTERRUPT")
    return GuestTable(
        tuple(_slot(text) for text in slots),
        _number("mailbox", mailbox),
        Access(access),
        Doorbell(kind),
        _number("doorbell", number),
        None if resync is None else _number("resync", resync),
    )


def _slot(text: str) -> Slot:
    path, given, address = text.partition("=")
    return Slot(path, _number("_ADR", address) if given else None)


def _number(what: str, text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError(f"{what} {text!a}: not a number") from None


def compiled(source: str) -> bytes:
    """Return ``source``, ASL of an SSDT, compiled by iasl. OpenError as `GuestTable.aml`."""
    iasl = shutil.which("iasl")
    if iasl is None:
        raise OpenError(errno.ENOENT, "iasl", "not installed", "install acpica-tools")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "ssdt.asl").write_text(source)
        try:
            ended = subprocess.run(
                [iasl, "-we", "-p", "ssdt", "ssdt.asl"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=IASL_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            cause = f"took more than {IASL_SECONDS} seconds"
            raise OpenError(errno.ETIMEDOUT, "iasl", cause) from error
        aml = Path(folder) / "ssdt.aml"
        if ended.returncode != 0 or not aml.is_file():
            lines = (ended.stdout + ended.stderr).splitlines()
            told = (" ".join(line.split()) for line in lines if _COMPLAINT.match(line))
            cause = next(told, f"ended with {ended.returncode}")
            raise OpenError(errno.EINVAL, "iasl", cause)
        return aml.read_bytes()


def _external(slot: Slot) -> str:
    return slot.path if slot.address is None else slot.path.rpartition(".")[0]


def _device(slot: Slot) -> str:
    parent, _, name = slot.path.rpartition(".")
    return _DEVICE.substitute(parent=parent, name=name, address=f"{slot.address:#010x}")


_TABLE = Template("""\
// The guest's table for notifications of passed-through devices, made by vfio-acpi.
DefinitionBlock ("", "SSDT", 2, "VFACPI", "VFRELAY", 0x00000001)
{
$externals
$devices
    Device (\\_SB.VFRY)
    {
$identity
$slots
        // Take the words of all mailboxes. One interrupt may stand for several words.
        Method (DRAN, 0, Serialized)
        {
$drains
        }
$handler    }
}
""")

_DEVICE = Template("""
    Scope ($parent)
    {
        Device ($name)
        {
            Name (_ADR, $address)
        }
    }
""")

_IDENTITIES = {
    Doorbell.GPE: Template("""\
        Name (_HID, EisaId ("PNP0C02"))
        Name (_UID, "VFRY")
"""),
    Doorbell.GED: Template("""\
        Name (_HID, "ACPI0013")
        Name (_UID, "VFRY")
        Name (_CRS, ResourceTemplate ()
        {
            Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { $number }
        })
"""),
}

_HANDLERS = {
    Doorbell.GPE: Template("""
        Method (\\_GPE._E$number, 0, Serialized)
        {
            \\_SB.VFRY.DRAN ()
        }
"""),
    Doorbell.GED: Template("""
        Method (_EVT, 1, Serialized)
        {
            DRAN ()
        }
"""),
}

_NAMES = Template("""
        Name (V$n, Zero) // the value of the popped word
        Name (L$n, Zero) // notifications lost since boot
""")

# P returns the state of the oldest word, 0 if there is none, and stores its value in V.
_POPS = {
    Access.REGISTER: Template("""
        OperationRegion (R$n, SystemMemory, $base, 0x08)
        Field (R$n, DWordAcc, NoLock, Preserve)
        {
            A$n, 32, // the value of the popped word
            S$n, 32  // its state; the read pops
        }

        Method (P$n, 0, Serialized)
        {
            Local0 = S$n
            V$n = A$n
            Return (Local0)
        }
"""),
    Access.RING: Template("""
        OperationRegion (R$n, SystemMemory, $base, $size)
        Field (R$n, DWordAcc, NoLock, Preserve)
        {
            H$n, 32, // words that the VMM has written
            T$n, 32  // words that the guest has taken
        }

        Method (P$n, 0, Serialized)
        {
            If (T$n == H$n)
            {
                Return (Zero)
            }

            OperationRegion (E$n, SystemMemory, $first + ((T$n & $mask) << 3), 0x08)
            Field (E$n, DWordAcc, NoLock, Preserve)
            {
                A$n, 32,
                S$n, 32
            }

            V$n = A$n
            Local0 = S$n
            T$n++
            Return (Local0)
        }
"""),
}

_DRAIN = Template("""

        Method (D$n, 0, Serialized)
        {
            While (One)
            {
                Local0 = P$n ()
                If (Local0 == Zero)
                {
                    Break
                }

                Local1 = Local0 >> $lost // lost just before this value
                If (Local1)
                {
                    L$n += Local1$resync
                }

                If (Local0 & $valid) // a loss may come without a value
                {
                    Notify ($path, V$n)
                }
            }
        }
""")
