# SPDX-License-Identifier: GPL-2.0-only
"""The guest's table in ACPICA's acpiexec, which runs AML without a kernel.

The AML, the interpreter and the dispatch of Notify are real. The interrupt is simulated: acpiexec
evaluates the method that a guest's kernel would. The mailbox is simulated: acpiexec's address
spaces are plain memory, into which a test method writes the words that a VMM would. Therefore only
the ring can be drained here; the registers, which pop when read, differ in one method.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.commandline import ROOT
from uapi.errors import OpenError
from uapi.notification import LOST_SHIFT, VALID
from uapi.vmm import guest_table
from uapi.vmm.guest_table import (
    RING_FIRST,
    RING_WORDS,
    STRIDES,
    Access,
    Doorbell,
    GuestTable,
    Slot,
    compiled,
)

MAILBOX = 0x2000_0000
COLD, PLUGGED = Slot(r"\_SB.PCI0.S80"), Slot(r"\_SB.PCI0.S98.S00", 0)
SLOTS = (COLD, PLUGGED)
RESYNC = 0xC0
HANDLERS = {
    Doorbell.GPE: r"evaluate \_GPE._E07",
    Doorbell.GED: r"evaluate \_SB.VFRY._EVT 7",
}

# ACPI debug level "info", at which ACPICA prints each Notify when the interpreter dispatches it, in
# order. Handlers run in threads of their own, as on Linux since 6.8, in any order.
INFO = "0x4"
DISPATCHED = re.compile(r"Dispatching Notify on \[(\w+)\] \(Device\) Value 0x([0-9A-F]+)")
RECEIVED = re.compile(r"Received a \w+ Notify on \[(\w+)\] 0x[0-9a-f]+ Value 0x([0-9A-F]+)")
INTEGER = re.compile(r"\[Integer\] = ([0-9A-F]+)")


def word(value: int | None, lost: int = 0) -> int:
    return lost << LOST_SHIFT | (0 if value is None else VALID | value)


@dataclass(frozen=True)
class Told:
    """The values notified, in order, by the device's name; the numbers of lost ones by slot."""

    notified: dict[str, list[int]]
    lost: list[int]


DSDT = r"""
DefinitionBlock ("", "DSDT", {revision}, "VFACPI", "VFTEST", 1)
{{
    Scope (\_SB)
    {{
        Device (PCI0)
        {{
            Name (_HID, EisaId ("PNP0A08"))
            Device (S80) {{ Name (_ADR, 0x00100000) }}
            Device (S98) {{ Name (_ADR, 0x00130000) }}
        }}
    }}

    Method (\PUT, 3, Serialized) // Arg0 = address, Arg1 = lower half, Arg2 = upper half
    {{
        OperationRegion (RING, SystemMemory, Arg0, 8)
        Field (RING, DWordAcc, NoLock, Preserve) {{ LOWR, 32, UPPR, 32 }}
        LOWR = Arg1
        UPPR = Arg2
    }}

    External (\_SB.VFRY.L000, IntObj)
    External (\_SB.VFRY.L001, IntObj)
{fills}
}}
"""

Words = Sequence[Sequence[int]]


def fill(number: int, mailboxes: Words, taken: int) -> str:
    """Return the method that fills the rings, of which the guest took ``taken`` words before."""
    calls = []
    for slot, words in enumerate(mailboxes):
        base = MAILBOX + slot * STRIDES[Access.RING]
        for place, one in enumerate(words, taken):
            address = base + RING_FIRST + place % RING_WORDS * 8
            calls.append((address, one & 0xFFFF_FFFF, one >> 32))
        calls.append((base, taken + len(words) & 0xFFFF_FFFF, taken))
    puts = "".join(f"        PUT ({a:#x}, {low:#x}, {high:#x})\n" for a, low, high in calls)
    reset = "".join(f"        \\_SB.VFRY.L{slot:03X} = Zero\n" for slot, _ in enumerate(mailboxes))
    return f"    Method (\\F{number:03X}, 0, Serialized)\n    {{\n{puts}{reset}    }}\n"


def run(
    folder: Path,
    source: str,
    contents: Sequence[Words],
    *commands: str,
    revision: int = 2,
    taken: int = 0,
) -> list[Told]:
    """Run ``commands`` in acpiexec with the table ``source``, for each content of the rings.

    Asserts that handlers receive what was notified, in any order.
    """
    (folder / "ssdt.aml").write_bytes(compiled(source))
    fills = "".join(fill(number, words, taken) for number, words in enumerate(contents))
    (folder / "dsdt.asl").write_text(DSDT.format(revision=revision, fills=fills))
    subprocess.run(
        ["iasl", "-p", "dsdt", "dsdt.asl"], cwd=folder, check=True, capture_output=True, timeout=60
    )
    counters = [rf"evaluate \_SB.VFRY.L{slot:03X}" for slot, _ in enumerate(SLOTS)]
    batch = [
        command
        for number, _ in enumerate(contents)
        for command in (rf"evaluate \F{number:03X}", *commands, *counters)
    ]
    ended = subprocess.run(
        ["acpiexec", "-ds", "-x", INFO, "-b", ";".join(batch), "dsdt.aml", "ssdt.aml"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    _, *parts = re.split(r"^Evaluating \\F[0-9A-F]{3}$", ended.stdout, flags=re.MULTILINE)
    assert len(parts) == len(contents), ended.stdout
    received = sorted(RECEIVED.findall(ended.stdout))
    assert received == sorted(DISPATCHED.findall(ended.stdout)), ended.stdout
    return [_told(part) for part in parts]


def _told(output: str) -> Told:
    notified: dict[str, list[int]] = {}
    for name, value in DISPATCHED.findall(output):
        notified.setdefault(name, []).append(int(value, 16))
    lost = [int(number, 16) for number in INTEGER.findall(output)]
    assert len(lost) == len(SLOTS), output
    return Told(notified, lost)


def table(doorbell: Doorbell = Doorbell.GPE, resync: int | None = None) -> GuestTable:
    return GuestTable(SLOTS, MAILBOX, Access.RING, doorbell, 7, resync)


LEVELS = [0xD1, 0xD2, 0xD3, 0xD4, 0xD5]
# By requirement: the words in both mailboxes, and what has to come of one interrupt.
CASES: dict[str, dict[str, tuple[Words, Told]]] = {
    "REQ-VMM-40": {
        "one": ([[word(0xD1)], []], Told({"S80_": [0xD1]}, [0, 0])),
        "several": ([[*map(word, LEVELS)], []], Told({"S80_": LEVELS}, [0, 0])),
        "equal values": ([[word(0x81)] * 3, []], Told({"S80_": [0x81] * 3}, [0, 0])),
        "full": ([[word(0x81)] * RING_WORDS, []], Told({"S80_": [0x81] * RING_WORDS}, [0, 0])),
    },
    "REQ-VMM-30": {
        "value 0": ([[word(0)], []], Told({"S80_": [0]}, [0, 0])),
    },
    "REQ-VMM-42": {
        "a loss": ([[word(0xD2, 3)], []], Told({"S80_": [RESYNC, 0xD2]}, [3, 0])),
        "many lost": ([[word(0xD3, 0xFFFF)], []], Told({"S80_": [RESYNC, 0xD3]}, [0xFFFF, 0])),
        "a loss alone": ([[word(None, 5)], []], Told({"S80_": [RESYNC]}, [5, 0])),
    },
    "REQ-VMM-43": {
        "widest": ([[word(0xFFFF)], []], Told({"S80_": [0xFFFF]}, [0, 0])),
        "wide": ([[word(0x181)], []], Told({"S80_": [0x181]}, [0, 0])),
    },
    "REQ-VMM-44": {
        "both slots": (
            [[word(0x81)], [word(0xD5)]],
            Told({"S80_": [0x81], "S00_": [0xD5]}, [0, 0]),
        ),
        "second slot": ([[], [word(0xD5)]], Told({"S00_": [0xD5]}, [0, 0])),
    },
    "REQ-VMM-45": {
        "none": ([[], []], Told({}, [0, 0])),
    },
}
SEVERAL = CASES["REQ-VMM-40"]["several"]


# QEMU's DSDT has revision 1, so that integers have 32 bits in all tables of its guest.
def check(folder: Path, name: str, doorbell: Doorbell = Doorbell.GPE, revision: int = 1) -> None:
    """Assert that the cases of the requirement ``name`` come out as they have to."""
    contents = [words for words, _ in CASES[name].values()]
    source = table(doorbell, RESYNC).asl()
    told = run(folder, source, contents, HANDLERS[doorbell], revision=revision)
    expected = {case: told for case, (_, told) in CASES[name].items()}
    assert dict(zip(CASES[name], told, strict=True)) == expected


@pytest.mark.requirement("REQ-VMM-40")
@pytest.mark.parametrize("revision", [1, 2])
@pytest.mark.parametrize("doorbell", Doorbell)
def test_one_interrupt_brings_every_word_in_order(
    tmp_path: Path, doorbell: Doorbell, revision: int
) -> None:
    check(tmp_path, "REQ-VMM-40", doorbell, revision)


@pytest.mark.requirement("REQ-VMM-30")
def test_value_0_is_notified(tmp_path: Path) -> None:
    check(tmp_path, "REQ-VMM-30")


@pytest.mark.requirement("REQ-VMM-42")
def test_a_loss_is_counted_and_the_driver_asked_to_resynchronise(tmp_path: Path) -> None:
    check(tmp_path, "REQ-VMM-42")


@pytest.mark.requirement("REQ-VMM-43")
@pytest.mark.parametrize("revision", [1, 2])
def test_values_of_more_than_8_bits_are_notified_whole(tmp_path: Path, revision: int) -> None:
    check(tmp_path, "REQ-VMM-43", revision=revision)


@pytest.mark.requirement("REQ-VMM-44")
def test_each_slot_notifies_its_own_device(tmp_path: Path) -> None:
    check(tmp_path, "REQ-VMM-44")


@pytest.mark.requirement("REQ-VMM-45")
def test_interrupt_for_empty_mailboxes_does_nothing(tmp_path: Path) -> None:
    check(tmp_path, "REQ-VMM-45")


@pytest.mark.requirement("REQ-VMM-40")
def test_counters_of_the_ring_wrap_around(tmp_path: Path) -> None:
    words, expected = SEVERAL
    told = run(tmp_path, table().asl(), [words], HANDLERS[Doorbell.GPE], taken=0xFFFF_FFFE)
    assert told == [expected]


@pytest.mark.requirement("REQ-VMM-45")
def test_interrupt_without_words_does_nothing(tmp_path: Path) -> None:
    words, expected = CASES["REQ-VMM-40"]["one"]
    told = run(tmp_path, table().asl(), [words], *[HANDLERS[Doorbell.GPE]] * 3)
    assert told == [expected]


@pytest.mark.requirement("REQ-VMM-42")
def test_without_a_resync_value_a_loss_is_only_counted(tmp_path: Path) -> None:
    contents = [[[word(0xD1, 7)], []], [[word(None, 2)], []]]
    told = run(tmp_path, table().asl(), contents, HANDLERS[Doorbell.GPE])
    assert told == [Told({"S80_": [0xD1]}, [7, 0]), Told({}, [2, 0])]


# A schedule that turns the order around unless the drain is serialised: after a pop the interpreter
# sleeps, the longer the smaller the value is. Simulated.
POPPED = "Local0 = P000 ()\n"
SLEEPS = POPPED + "Sleep ((0xE0 - V000) * 40)\n"


def at_once(folder: Path, source: str) -> list[int]:
    """Drain in five threads at once; return the values in the order of their Notify."""
    assert source.count(POPPED) == 1
    source = source.replace(POPPED, SLEEPS)
    words, _ = SEVERAL
    [told] = run(folder, source, [words], r"threads 5 1 \_SB.VFRY.DRAN")
    return told.notified["S80_"]


@pytest.mark.requirement("REQ-VMM-41")
def test_interrupts_at_once_keep_the_order(tmp_path: Path) -> None:
    assert at_once(tmp_path, table().asl()) == LEVELS


# ---- the table ----


def methods(source: str) -> dict[str, str]:
    """Return the text of each method of ``source`` by name."""
    return dict(re.findall(r"Method \(([\w\\.]+), (.*?)\n        }\n", source, re.DOTALL))


@pytest.mark.requirement("REQ-VMM-46")
def test_slot_for_hot_plug_has_the_same_methods() -> None:
    found = methods(table().asl())
    base = f"{MAILBOX + STRIDES[Access.RING] + RING_FIRST:#x}"
    for kind in "PD":
        text = found[f"{kind}001"].replace("001", "000").replace(PLUGGED.path, COLD.path)
        text = text.replace(base, f"{MAILBOX + RING_FIRST:#x}")
        assert text == found[f"{kind}000"]


@pytest.mark.parametrize("access", Access)
@pytest.mark.parametrize("doorbell", Doorbell)
def test_table_compiles_with_many_slots(access: Access, doorbell: Doorbell) -> None:
    slots = [Slot(rf"\_SB.PCI0.S{number:02X}.S00", 0) for number in range(256)]
    aml = GuestTable(slots, MAILBOX, access, doorbell, 3, RESYNC).aml()
    assert aml[:4] == b"SSDT"
    assert int.from_bytes(aml[4:8], "little") == len(aml)


def test_register_and_ring_differ_in_the_pop_alone() -> None:
    ring = methods(table().asl())
    register = methods(GuestTable(SLOTS, MAILBOX, Access.REGISTER).asl())
    assert {name for name in ring if ring[name] != register[name]} == {"P000", "P001"}
    # The state is read once, before the value: its read pops.
    assert re.findall(r"\b[AS]000\b", register["P000"]) == ["S000", "A000"]


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"slots": ()}, "0 slots"),
        ({"slots": (COLD, COLD)}, "given twice"),
        ({"mailbox": 4}, "mailbox 0x4"),
        ({"mailbox": 0}, "mailbox 0x0"),
        ({"number": 256}, "gpe 256"),
        ({"number": -1}, "gpe -1"),
        ({"resync": 3}, "resync 0x3"),
    ],
)
def test_numbers_out_of_range(fields: dict[str, object], cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        GuestTable(**{"slots": SLOTS, "mailbox": MAILBOX} | fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("_SB.PCI0", None),
        (r"\_SB.PCI0.TOOLONG", None),
        ("\\_SB.PCI0\n", None),
        (r"\_SB.S80, 3) }", None),
        ("", None),
        (r"\DEV0", 0),
        (r"\_SB.DEV0", -1),
        (r"\_SB.DEV0", 1 << 32),
    ],
)
def test_paths_that_are_none(path: str, address: int | None) -> None:
    with pytest.raises(ValueError, match="slot "):
        Slot(path, address)


def test_iasl_refuses() -> None:
    with pytest.raises(OpenError, match=r"iasl: Error \d+"):
        compiled("no ASL")


def test_iasl_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(OpenError, match="install acpica-tools"):
        guest_table.compiled("")


# ---- the command ----


def guest_table_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "uapi", "guest-table", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


GOOD = ("--slot", COLD.path, "--slot", f"{PLUGGED.path}=0", "--mailbox", "0x20000000")


def test_command_prints_and_writes_the_table(tmp_path: Path) -> None:
    more = ("--access", "ring", "--doorbell", "ged:10", "--resync", "0xc0")
    wanted = GuestTable(SLOTS, MAILBOX, Access.RING, Doorbell.GED, 10, RESYNC)
    printed = guest_table_command(*GOOD, *more)
    assert (printed.returncode, printed.stdout, printed.stderr) == (0, wanted.asl(), "")
    written = guest_table_command(*GOOD, *more, "--output", str(tmp_path / "table.aml"))
    assert (written.returncode, written.stdout, written.stderr) == (0, "", "")
    assert (tmp_path / "table.aml").read_bytes() == wanted.aml()


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (("--slot", "S80", "--mailbox", "8"), "slot 'S80': not an absolute ACPI path"),
        (("--slot", "\\_SB.S80=x", "--mailbox", "8"), "_ADR 'x': not a number"),
        (("--slot", "\\_SB.S80", "--mailbox", "here"), "mailbox 'here': not a number"),
        ((*GOOD, "--mailbox", "4"), "mailbox 0x4: not a multiple of 8"),
        ((*GOOD, "--doorbell", "7"), "doorbell '7': not gpe:NUMBER or ged:INTERRUPT"),
        ((*GOOD, "--doorbell", "gpe:"), "doorbell '': not a number"),
        ((*GOOD, "--resync", "3"), "resync 0x3: not in 0x80 to 0xffff"),
        ((*GOOD, "--output", "/nonexistent/table.aml"), "/nonexistent/table.aml"),
    ],
)
def test_command_refuses(arguments: tuple[str, ...], cause: str) -> None:
    ended = guest_table_command(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: ")
    assert cause in ended.stderr
    assert ended.stderr.count("\n") == 1
