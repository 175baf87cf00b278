# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Which notifications can reach which PCI device: as text, as JSON (report.schema.json).

Source: ACPI 6.5, 5.6.6 (values), 6.1.1 (_ADR); drivers/acpi/evmisc.c: handlers that drivers
install get the values from 0x80 on, so vfio-pci never hears of those below.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from . import tables
from .asl import NAME, Call, Firmware, NamePath, number, scan
from .tables import TableError

DEVICE_VALUE = 0x80
PCI_ROOTS = {"PNP0A03", "PNP0A08"}
GED = "ACPI0013"
OBJECTS = ("_DSM", "_PR0", "_PR2", "_PR3", "_DOD", "_DOS")
SYSFS = Path("/sys/bus/pci/devices")
CALLERS = 2000
WORK = 200_000  # pairs of a Notify and a caller of its method; a real machine has 3,000

ENTRIES = (
    (re.compile(r"_[EL][0-9A-F]{2}"), "GPE", ("_GPE",)),
    (re.compile(r"_[EL][0-9A-F]{2}|_EVT"), "GED or GPIO event", ()),
    (re.compile(r"_Q[0-9A-F]{2}"), "EC query", ()),
    (re.compile(r"_PTS|_WAK|_TTS"), "sleep", ()),
    (re.compile(r"_[A-Z0-9]{1,3}"), "called by the OS", ()),
)


@dataclass(frozen=True)
class Notification:
    """A ``Notify``: its value (None: computed), the value's text, and where it is sent from."""

    value: int | None
    text: str
    origin: tuple[str, ...]
    table: str
    line: int
    method: str
    entries: tuple[str, ...]

    @property
    def kind(self) -> str:
        """Whether a driver, vfio-pci among them, can get the value."""
        if self.value is None:
            return "computed"
        return "device" if self.value >= DEVICE_VALUE else "system"


@dataclass
class Device:
    """A PCI device that firmware has an object for, its companion.

    ``location`` is a path from the root bridge, such as 0000:00:01.0/00.0, as in the kernel's
    parameter pci=.
    """

    companion: str
    location: str
    bdfs: list[str] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)
    notifications: list[Notification] = field(default_factory=list)
    children: dict[str, list[Notification]] = field(default_factory=dict)


@dataclass
class Report:
    """The devices, the notifications whose target is unknown, and warnings about the tables."""

    devices: list[Device]
    unresolved: list[tuple[str, Notification]]
    computed: list[tuple[str, Notification]]
    other: int
    warnings: list[str]


def inspect(folder: Path | None) -> Report:
    """Return the report on the tables of ``folder`` (`tables.read`), or on those of this host.

    Raises TableError.
    """
    found, warnings = tables.read(folder or tables.SYSFS)
    if folder is None and (tables.SYSFS / "dynamic").is_dir():
        dynamic = tables.SYSFS / "dynamic"
        if any(dynamic.iterdir()):
            more, further = tables.read(dynamic)
            found, warnings = found + more, warnings + further
    sources, guesses = tables.disassemble(found)
    companions = _sysfs() if folder is None else None
    return examine(scan(sources), warnings + guesses, companions)


def examine(
    firmware: Firmware, warnings: list[str], companions: dict[NamePath, list[str]] | None
) -> Report:
    """Return the report; ``companions`` are sysfs's (None: those that _ADR tells)."""
    places = _places(firmware)
    if companions is None:
        bdfs: dict[NamePath, list[str]] = {path: [] for path in places}
    else:
        bdfs = companions
    devices = {
        path: Device(
            spell(path),
            places.get(path, ""),
            names,
            [name for name in OBJECTS if (*path, name) in firmware.kinds],
            (names[1:] and list(names)) or _rivals(path, places),
        )
        for path, names in sorted(bdfs.items())
    }
    result = Report(list(devices.values()), [], [], 0, warnings)
    for companion in devices:
        firmware.kinds.setdefault(companion, "Device")  # of a table that was loaded at run time
    pairs = sum(1 + len(firmware.calls.get(call.scope, ())) for call in firmware.notifies)
    if pairs > WORK:
        raise TableError(f"{pairs} callers of methods with a Notify; not inspected")
    for call in firmware.notifies:
        for target, note in _targets(firmware, call):
            path = firmware.resolve(call.scope, target) if isinstance(target, str) else target
            if path is None and isinstance(target, str):
                known = NAME.fullmatch(target) and not re.match(r"(Arg|Local)", target)
                (result.unresolved if known else result.computed).append((target, note))
                continue
            assert path is not None
            owner = next((p for p in _upwards(path) if p in devices), None)
            if path in devices:
                devices[path].notifications.append(note)
            elif owner is not None:
                devices[owner].children.setdefault(spell(path), []).append(note)
            else:
                result.other += 1
    return result


def select(report: Report, name: str) -> Report:
    """Return the report on one device alone: a BDF, a location or the path of a companion.

    Raises TableError if there is no such companion.
    """
    names = {name.lower(), f"0000:{name}".lower()}
    chosen = [
        device
        for device in report.devices
        if device.companion == name or names & {device.location, *device.bdfs}
    ]
    if not chosen:
        raise TableError(
            f"{name}: firmware has no companion for it, so no notification reaches it; without "
            "a name all companions are listed"
        )
    return replace(report, devices=chosen)


def spell(path: NamePath) -> str:
    r"""Return the path as sysfs spells it: "\_SB_.PCI0"."""
    return "\\" + ".".join(segment.ljust(4, "_") for segment in path)


def _sysfs() -> dict[NamePath, list[str]]:
    found: dict[NamePath, list[str]] = {}
    for device in sorted(SYSFS.iterdir()) if SYSFS.is_dir() else []:
        try:
            text = (device / "firmware_node/path").read_text(encoding="ascii").strip()
        except OSError:
            continue
        path = tuple(part.rstrip("_") or "_" for part in text.lstrip("\\").split("."))
        found.setdefault(path, []).append(device.name)
    return found


def _ids(firmware: Firmware, path: NamePath) -> set[str]:
    words = [w for name in ("_HID", "_CID") for w in firmware.values.get((*path, name), ())]
    return {word.strip('"') for word in words}


def _places(firmware: Firmware) -> dict[NamePath, str]:
    """Return the location of each device below a PCI root bridge that has an address of PCI."""
    places: dict[NamePath, str] = {}
    roots: set[NamePath] = set()
    for path, kind in sorted(firmware.kinds.items(), key=lambda item: len(item[0])):
        if kind != "Device":
            continue
        if _ids(firmware, path) & PCI_ROOTS:
            segment, bus = (_constant(firmware, path, name) for name in ("_SEG", "_BBN"))
            places[path] = f"{segment or 0:04x}:{bus or 0:02x}"
            roots.add(path)
        elif path[:-1] in places and (*path, "_ADR") in firmware.kinds:
            address = _constant(firmware, path, "_ADR")
            if address is None and path[:-1] not in roots:
                continue  # a computed address below a device is mostly that of a display
            slot, function = ((address or 0) >> 16, (address or 0) & 0xFFFF)
            if slot < 32 and function < 8:
                here = "?" if address is None else f"{slot:02x}.{function}"
                mark = ":" if path[:-1] in roots else "/"
                places[path] = f"{places[path[:-1]]}{mark}{here}"
    return {path: place for path, place in places.items() if path not in roots}


def _constant(firmware: Firmware, path: NamePath, name: str) -> int | None:
    return number(firmware.values.get((*path, name), ()))


def _rivals(path: NamePath, places: dict[NamePath, str]) -> list[str]:
    """Return the objects that have the same location; the kernel takes one of them."""
    place = places.get(path, "?")
    if "?" in place:
        return []
    return [spell(other) for other, text in places.items() if text == place and other != path]


def _upwards(path: NamePath) -> Iterable[NamePath]:
    return (path[:length] for length in range(len(path), 0, -1))


def _targets(firmware: Firmware, call: Call) -> list[tuple[str | NamePath, Notification]]:
    """Return target and notification; for a target that is an argument, those of the callers."""
    if len(call.arguments) != 2:
        return [("?", _note(firmware, call, ()))]
    target, value = call.arguments
    callers = firmware.calls.get(call.scope, []) if call.in_method else []
    if target and re.fullmatch(r"Arg[0-6]", target[0]) and len(target) == 1:
        index = int(target[0][3])
        found: list[tuple[str | NamePath, Notification]] = []
        for caller in callers:
            given = caller.arguments[index] if index < len(caller.arguments) else ()
            text = " ".join(given)
            path = firmware.resolve(caller.scope, text) if _is_name(given) else None
            note = _note(firmware, call, _passed(value, caller))
            found.append((text or target[0], note) if path is None else (path, note))
        return found or [(target[0], _note(firmware, call, value))]
    if len(target) == 3 and target[1:] == ("(", ")"):
        target = target[:1]  # iasl takes an undeclared object for a method without arguments
    return [(" ".join(target), _note(firmware, call, value))]


def _is_name(words: tuple[str, ...]) -> bool:
    return len(words) == 1 and bool(words[0]) and NAME.fullmatch(words[0]) is not None


def _passed(value: tuple[str, ...], caller: Call) -> tuple[str, ...]:
    """Return the value, or what the caller passes if it is an argument."""
    if len(value) == 1 and re.fullmatch(r"Arg[0-6]", value[0]):
        index = int(value[0][3])
        return caller.arguments[index] if index < len(caller.arguments) else value
    return value


def _note(firmware: Firmware, call: Call, value: tuple[str, ...]) -> Notification:
    known = number(value)
    origin: list[str] = []
    if known is None and call.in_method and len(value) == 1:
        if re.fullmatch(r"Local[0-7]", value[0]):
            origin = firmware.locals.get((call.scope, value[0]), [])
        elif re.fullmatch(r"Arg[0-6]", value[0]):
            origin = [
                f"{' '.join(_passed(value, caller))} ({spell(caller.scope)})"
                for caller in firmware.calls.get(call.scope, [])
            ]
        elif _is_name(value):
            path = firmware.resolve(call.scope, value[0])
            origin = [f"object {spell(path)}"] if path else ["a field or an undeclared object"]
    return Notification(
        known,
        " ".join(value),
        tuple(dict.fromkeys(origin)),
        call.table,
        call.line,
        spell(call.scope) if call.in_method else "",
        _entries(firmware, call.scope) if call.in_method else ("loading of the table",),
    )


def _entries(firmware: Firmware, method: NamePath) -> tuple[str, ...]:
    """Return by which events the method is run, itself or by its callers."""
    if method in firmware.entries:
        return firmware.entries[method]
    seen, queue, found = {method}, deque([method]), []
    while queue and len(seen) < CALLERS:
        path = queue.popleft()
        for pattern, name, folder in ENTRIES:
            if pattern.fullmatch(path[-1]) and (not folder or path[:-1] == folder):
                found.append(f"{_event(firmware, path, name)} {spell(path)}")
                break
        for caller in firmware.calls.get(path, []):
            if caller.scope not in seen:
                seen.add(caller.scope)
                queue.append(caller.scope)
    firmware.entries[method] = tuple(found)
    return firmware.entries[method]


def _event(firmware: Firmware, path: NamePath, name: str) -> str:
    if name.startswith("GED") and GED in _ids(firmware, path[:-1]):
        return "GED"
    return name


# The report as data and as text.


def as_data(report: Report) -> dict[str, Any]:
    """Return the report as data for JSON, of the form that report.schema.json states."""
    return {
        "version": 1,
        "devices": [
            {
                "companion": device.companion,
                "location": device.location,
                "bdfs": device.bdfs,
                "objects": device.objects,
                "shared": device.shared,
                "notifications": [_note_data(note) for note in device.notifications],
                "children": {
                    name: [_note_data(note) for note in notes]
                    for name, notes in device.children.items()
                },
            }
            for device in report.devices
        ],
        "unresolved": [{"target": t, **_note_data(n)} for t, n in report.unresolved],
        "computed_targets": [{"target": t, **_note_data(n)} for t, n in report.computed],
        "other": report.other,
        "warnings": report.warnings,
        "guest": [slot for device in report.devices if (slot := suggestion(device))],
    }


def _note_data(note: Notification) -> dict[str, Any]:
    return {
        "value": note.value,
        "kind": note.kind,
        "text": note.text,
        "origin": list(note.origin),
        "table": note.table,
        "line": note.line,
        "method": note.method,
        "entries": list(note.entries),
    }


def suggestion(device: Device) -> dict[str, Any] | None:
    """Return what the guest's AML needs for the device: a slot, its values; None if nothing.

    ``any`` says that a value is computed, so that the slot has to pass on others than ``values``.
    """
    values = sorted({n.value for n in device.notifications if n.value and n.kind == "device"})
    computed = any(note.kind == "computed" for note in device.notifications)
    if not values and not computed:
        return None
    return {
        "companion": device.companion,
        "location": device.location,
        "bdfs": device.bdfs,
        "values": values,
        "any": computed,
    }


def as_text(report: Report) -> str:
    """Return the report for people. Devices without a notification are one line each."""
    lines: list[str] = []
    for device in report.devices:
        name = ", ".join(device.bdfs) or device.location
        lines.append(f"{name}  {device.companion}  {' '.join(device.objects)}".rstrip())
        if device.shared:
            lines.append(f"  shared with: {', '.join(device.shared)}")
        lines += [f"  {line}" for line in _lines(device.notifications)] or ["  no notification"]
        for child, notes in device.children.items():
            lines.append(f"  child {child}, which vfio-pci does not hear:")
            lines += [f"    {line}" for line in _lines(notes)]
        if slot := suggestion(device):
            values = " ".join(f"{value:#04x}" for value in slot["values"])
            extra = "any value from 0x80 on (computed)" if slot["any"] else ""
            lines.append(f"  guest's AML: {' and '.join(filter(None, (values, extra)))}")
    for title, found in (
        ("object that no table declares", report.unresolved),
        ("computed target", report.computed),
    ):
        lines += [f"{title}: {t}: {line}" for t, note in found for line in _lines([note])]
    lines.append(f"{report.other} more Notify to objects that are no PCI device and not below one")
    return "\n".join(lines + [f"warning: {text}" for text in report.warnings])


def _lines(notes: list[Notification]) -> list[str]:
    words = {"device": "", "system": " (below 0x80: not for drivers)", "computed": " (computed)"}
    lines = []
    for note in notes:
        value = note.text if note.value is None else f"{note.value:#04x}"
        origin = f", from {'; '.join(note.origin)}" if note.origin else ""
        entries = "; ".join(note.entries) or "no caller found"
        place = f"{note.table}:{note.line} {note.method}".rstrip()
        lines.append(f"{value}{words[note.kind]}{origin}  {place}  [{entries}]")
    return lines
