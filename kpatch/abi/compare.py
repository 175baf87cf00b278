# SPDX-License-Identifier: GPL-2.0-only
"""Compare a uAPI header with the unpatched tree's: find additions, and changes that break programs.

Programs that were compiled with the old header run on the new kernel, and sources that were written
for the old header have to compile with the new one. So names, values, sizes and offsets have to
stay. Additions are allowed within the rules of Documentation/process/botching-up-ioctls.rst: no
implicit padding, the same layout at 32 and 64 bit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from kpatch.abi import numbers
from kpatch.abi.macros import Macro
from kpatch.abi.numbers import END, Group
from kpatch.abi.probe import WIDTHS
from kpatch.abi.surface import Abi, Member, Struct, Surface
from kpatch.tables.outcomes import CheckOutcome

FAIL, WARN, NOTE = CheckOutcome.FAIL, CheckOutcome.WARN, CheckOutcome.PASS

# Reserved members. User space has to set them to zero, so a new member may take their place.
_RESERVED = re.compile(
    r"(?:\w+[.])*(?:\w*_)?(?:pad|padding|rsvd|resv|reserved|unused|mbz|spare)_?\d*_*"
)
# Members in which a program passes the size of the structure, as it was compiled, to the kernel.
_SIZES = ("argsz", "size", "usize")
# Structures that may grow without such a member: the size follows from the feature bits of a device
# (virtio), or is another argument of the system call.
_SIZED = re.compile(
    r"struct (?:virtio_\w*config|landlock_\w+_attr|open_how|clone_args|mount_attr|xattr_args)"
)
# Names of versions, which may be increased.
_VERSION = re.compile(r"(?:^|_)(?:VERSION|MINOR|REVISION)(?:_|$)")
# Names of the 0 that means "no choice": it may have several names in one group.
_NOTHING = re.compile(r"_(?:NONE|DEFAULT|UNSPEC|UNSPECIFIED|ANY|INVALID)$")
# Include guards, whose names are no part of the uAPI.
_GUARD = re.compile(r"_*\w+_H_*")

NEW = "new: "
"""The text of a note about an addition begins with it."""

HARDWARE = ("linux/pci_regs.h",)
"""Headers that only name registers and bits of hardware.

A name that is removed from one is WARN, not FAIL: programs that use it do not compile any more, but
maintainers accept such patches.
"""

MOST_BITS = 64
"""Bits of the widest mask: a new constant below this may be the number of a bit in a mask."""

SAME_MOST = 3
"""`collapse` merges the remarks of one kind and outcome if there are more than this."""


@dataclass(frozen=True)
class Remark:
    """A remark about a header after one patch of a series.

    ``key`` begins with the kind of the remark ("value FOO"); the same remark after another patch
    has the same one. ``outcome`` is FAIL or WARN, or NOTE for a fact that is no finding. ``text``
    is one line, ``details`` has further lines. ``name`` is the identifier in the header that the
    remark is about, "" if it is about the whole header.
    """

    key: str
    outcome: CheckOutcome
    text: str
    name: str = ""
    details: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The kind of the remark ("removed", "layout", "new"): the first word of the key."""
        return self.key.partition(" ")[0]


@dataclass(frozen=True)
class Newest:
    """The header in the newest base: ``version`` ("7.3.4") is that of the kernel.

    A number that a series adds must not have another name there. If the newest base is not
    available, ``version`` is "" and ``surface`` is empty.
    """

    version: str
    surface: Surface


def compare(before: Surface, now: Surface, newest: Newest) -> Iterator[Remark]:
    """Yield the remarks on ``now``, the header after a patch, compared with ``before``.

    ``before`` is the header in the unpatched tree, empty if the series adds the header. If ``now``
    has no ``abis``, the only remarks are those on its refusal and its errors. If there is none, and
    ``before`` has ``abis``, the only remark is a WARN: nothing was compared.
    """
    alone = [*_alone(before, now)]
    yield from alone
    if not now.abis:
        if before.abis and not alone:
            text = f"gcc makes no object of <{now.name}>: its content is not compared"
            yield Remark("unread", WARN, text)
        return
    if before.abis:
        yield from _removed(before, now)
        yield from _changed(before, now)
        yield from _texts(before, now)
        yield from _structures(before, now)
    yield from _widths(before, now)
    yield from _padding(before, now)
    yield from _numbers(before, now, newest)


# ---- the header alone ----------------------------------------------------------------------------


def _alone(before: Surface, now: Surface) -> Iterator[Remark]:
    """Yield a remark if ``now`` is refused for installation, and one if it does not compile alone.

    Left out are a refusal by scripts/headers_install.sh if it refuses ``before`` too, and errors at
    an ABI width at which ``before`` has errors too.
    """
    if now.refused and not before.refused:
        error = now.refused.splitlines()[0].removeprefix("error: ")
        yield Remark("refused", FAIL, f"scripts/headers_install.sh refuses it: {error}")
    new = {width: text for width, text in now.errors.items() if width not in before.errors}
    if new:
        lines = next(iter(new.values())).splitlines()
        error = next((line for line in lines if "error: " in line), lines[0])
        widths = " and ".join(map(str, new))
        cause = error.partition("error: ")[2] or error
        text = f"does not compile alone at {widths} bit: {cause}"
        yield Remark("alone", FAIL, text, details=tuple(lines))


# ---- constants -----------------------------------------------------------------------------------


def _removed(before: Surface, now: Surface) -> Iterator[Remark]:
    outcome = WARN if before.name in HARDWARE else FAIL
    for name in sorted(before.names - now.names):
        macro = before.macros.get(name)
        if macro is None or macro.body or not _GUARD.fullmatch(name):
            yield Remark(f"removed {name}", outcome, f"removes {name}", name)


def _changed(before: Surface, now: Surface) -> Iterator[Remark]:
    """Yield a remark for each constant that has one value in ``before`` and another in ``now``.

    It is NOTE if the change is allowed (`_allowed`), else FAIL. The enumerators of an enum share
    one FAIL. Constants that ``now`` lacks, or that are no numbers there, are left to `_removed` and
    `_texts`.
    """
    seen: set[str] = set()
    for width in WIDTHS:
        old, new = before.abis[width], now.abis[width]
        moved = {
            name: (old.values[name], new.values[name])
            for name in old.values
            if name in new.values and old.values[name] != new.values[name] and name not in seen
        }
        seen |= set(moved)
        added = {name: value for name, value in new.values.items() if name not in before.names}
        bad = {}
        for name, (was, value) in moved.items():
            why = _allowed(name, was, value, added, old, new)
            if why:
                text = f"{name} is {_shown(value)}, was {_shown(was)}: {why}"
                yield Remark(f"grown {name}", NOTE, text, name)
            else:
                bad[name] = (was, value)
        yield from _renumbered(bad, new, width)


def _allowed(name: str, was: int, value: int, added: Mapping[str, int], old: Abi, new: Abi) -> str:
    """Return the reason why a constant may change from ``was`` to ``value``; "" if it may not.

    A version may change. An end, the number or the last of a group of constants, may grow with a
    new constant; a mask, by the bits of new constants. ``added`` are the constants that are new in
    the header.
    """
    if _VERSION.search(name):
        return "a version"
    if value > was and (END.search(name) or (_last(name, old) and _last(name, new))):
        # A new enumerator in the middle renumbers those after it. These get remarks of their own.
        within = [one for one in _beside(name, new) if one in added] or [
            one for one, number in added.items() if was <= number <= value
        ]
        if within:
            return f"an end, which grows with {', '.join(within)}"
    fresh = value & ~was
    known = 0
    for number in added.values():
        # A new constant is a bit of the mask, or the number of one.
        known |= max(number, 0) | (1 << number if 0 <= number < MOST_BITS else 0)
    if value & was == was and fresh and fresh & ~known == 0 and _is_mask(name, was):
        return "a mask, which grows with the new bits"
    return ""


def _last(name: str, abi: Abi) -> bool:
    """Return whether ``name`` is the last enumerator of its enum."""
    return any(enum.values and [*enum.values][-1] == name for enum in abi.enums)


def _beside(name: str, abi: Abi) -> list[str]:
    """Return all enumerators of the enum that has the enumerator ``name``; [] if there is none."""
    return [one for enum in abi.enums if name in enum.values for one in enum.values]


def _is_mask(name: str, value: int) -> bool:
    return value & (value - 1) != 0 or bool(re.search(r"MASK|ALL|VALID|KNOWN|FLAGS$", name))


def _renumbered(bad: Mapping[str, tuple[int, int]], new: Abi, width: int) -> Iterator[Remark]:
    at = f" at {width} bit" if width != WIDTHS[0] else ""
    owners = {name: number for number, enum in enumerate(new.enums) for name in enum.values}
    by_enum: dict[int, list[str]] = {}
    for name in bad:
        if name in owners:
            by_enum.setdefault(owners[name], []).append(name)
        else:
            yield Remark(f"value {name}", FAIL, _change(name, bad[name], at), name)
    for names in by_enum.values():
        lines = [_change(name, bad[name], at) for name in names]
        first = lines[0] if len(lines) == 1 else f"renumbers {len(lines)} enumerators: {lines[0]}"
        details = tuple(lines) if len(lines) > 1 else ()
        yield Remark(f"renumbered {names[0]}", FAIL, first, names[0], details)


def _change(name: str, values: tuple[int, int], at: str) -> str:
    was, value = values
    return f"{name} is {_shown(value)}{at}, was {_shown(was)}"


def _shown(value: int) -> str:
    """Return ``value`` as text: in hexadecimal above 0xfff (ioctl numbers), else in decimal."""
    return f"{value:#x}" if value > 0xFFF else str(value)


def _texts(before: Surface, now: Surface) -> Iterator[Remark]:
    """Yield a remark for each macro of both headers whose text or parameters differ.

    Macros that are numbers in both are left out. An enumerator of ``before`` that becomes a macro
    counts as a macro. The remark is FAIL if ``before`` has a number, or if one of the texts is a
    string literal; else NOTE.
    """
    old_values, new_values = (one.abis[WIDTHS[0]].values for one in (before, now))
    for name, new in now.macros.items():
        old = before.macros.get(name) or (
            Macro("", str(old_values[name]), 0) if name in old_values else None
        )
        if (
            old is None
            or (name in old_values and name in new_values)
            or (old.parameters, old.body) == (new.parameters, new.body)
        ):
            continue
        string = old.body.startswith('"') or new.body.startswith('"')
        text = f"{name}{new.parameters} is {new.body or 'empty'}, was {old.body or 'empty'}"
        yield Remark(f"text {name}", FAIL if string or name in old_values else NOTE, text, name)


# ---- structures ----------------------------------------------------------------------------------


def _structures(before: Surface, now: Surface) -> Iterator[Remark]:
    """Yield a remark (FAIL) for each structure that is removed or has an incompatible layout.

    Also yields a NOTE for each new member and each allowed growth (`_differences`), and a WARN for
    each member that becomes signed or unsigned (`_signs`).
    """
    for name in before.abis[WIDTHS[0]].structs:
        tag = name.rpartition(" ")[2]
        found: dict[tuple[CheckOutcome, str], list[int]] = {}
        for width in WIDTHS:
            for one in _differences(name, before.abis[width], now.abis[width]):
                found.setdefault(one, []).append(width)
        lines = [text + _at(widths) for (said, text), widths in found.items() if said is FAIL]
        if lines:
            more = tuple(lines) if len(lines) > 1 else ()
            yield Remark(f"layout {name}", FAIL, lines[0], tag, more)
        for said, text in found:
            if said is NOTE:
                yield Remark(f"grown {name} {text}", NOTE, text, tag)
        yield from _signs(name, before, now)


def _differences(name: str, before: Abi, now: Abi) -> Iterator[tuple[CheckOutcome, str]]:
    """Yield outcome and text for each difference in a structure at one ABI width.

    The outcome is NOTE for a new member or an allowed growth, else FAIL. New reserved members are
    left out.
    """
    old, new = before.structs.get(name), now.structs.get(name)
    if old is None:
        return
    if new is None:
        yield FAIL, f"removes {name}"
        return
    for text in _moved(old, new):
        yield FAIL, text
    if new.size != old.size:
        why = _may_grow(old, new, before, now)
        if why:
            yield NOTE, f"{name} grows from {old.size} to {new.size} bytes; {why}"
        else:
            yield FAIL, f"{name} has {new.size} bytes, had {old.size}"
    for member, place in new.members.items():
        if member not in old.members and not _RESERVED.fullmatch(member):
            label = f"{old.name.rpartition(' ')[2]}.{member}"
            yield NOTE, f"{NEW}member {label} at offset {_bytes(place.offset)}"


def _at(widths: Iterable[int]) -> str:
    given = list(widths)
    return "" if given == list(WIDTHS) else f" at {given[0]} bit"


def _moved(old: Struct, new: Struct) -> Iterator[str]:
    """Yield a text for each member of ``old`` that ``new`` lacks, has moved or has resized.

    Left out are reserved members, which may be removed, and those of which `_has_grown` is true.
    """
    for name, was in old.members.items():
        member = new.members.get(name)
        if _RESERVED.fullmatch(name):
            continue
        label = f"{old.name.rpartition(' ')[2]}.{name}"
        if member is None:
            yield f"removes the member {label}"
        elif member.offset != was.offset:
            yield f"{label} is at offset {_bytes(member.offset)}, was {_bytes(was.offset)}"
        elif member.size != was.size and not _has_grown(name, was, member, old, new):
            yield f"{label} has {_bytes(member.size)} bytes, had {_bytes(was.size)}"


def _has_grown(name: str, was: Member, now: Member, old: Struct, new: Struct) -> bool:
    """Return whether the member ``name`` is a structure that has grown while the outer one has not.

    This is allowed: the member is in a union, or has grown into reserved members. Other members
    that it moves get remarks of their own. ``was`` and ``now`` are the member in ``old`` and
    ``new``, the outer structure.
    """
    inner = was.of or any(one.startswith(f"{name}.") for one in old.members)
    return bool(inner) and now.size > was.size and new.size == old.size


def _may_grow(old: Struct, new: Struct, before: Abi, now: Abi) -> str:
    """Return the reason why a structure may have another size; "" if it may not.

    It may grow, if programs tell the kernel the size that they know (_SIZES, _SIZED), or if it is
    part of larger structures whose size stays. ``before`` and ``now`` have all structures.
    """
    if new.size < old.size:
        return ""
    # The calling program passes the size that it knows to the kernel.
    for sizer in _SIZES:
        if sizer in old.members:
            return f"it has {sizer}"
    if _SIZED.fullmatch(old.name):
        return "its size is known from elsewhere"
    outer = [
        one.name
        for one in before.structs.values()
        if any(member.of == old.name for member in one.members.values())
    ]
    there = (now.structs.get(name) for name in outer)
    if outer and all(
        one is not None and one.size == before.structs[one.name].size for one in there
    ):
        return f"the size of {', '.join(outer)}, which has one, stays"
    return ""


def _signs(name: str, before: Surface, now: Surface) -> Iterator[Remark]:
    old, new = (one.abis[WIDTHS[0]].structs.get(name) for one in (before, now))
    if old is None or new is None:
        return
    tag = name.rpartition(" ")[2]
    for member, was in old.members.items():
        there = new.members.get(member, was)
        if there.size == was.size and there.signed != was.signed:
            sign = "signed" if there.signed else "unsigned"
            yield Remark(f"sign {name}.{member}", WARN, f"{tag}.{member} becomes {sign}", tag)


def _widths(before: Surface, now: Surface) -> Iterator[Remark]:
    """Yield a remark (FAIL) for each structure whose layout differs between 64 and 32 bit.

    So does one that exists at one width alone. Structures that differ in ``before`` too are left
    out.
    """
    for name in dict.fromkeys(name for width in WIDTHS for name in now.abis[width].structs):
        how = _differs(now, name)
        if how and not (before.abis and _differs(before, name)):
            tag = name.rpartition(" ")[2]
            yield Remark(f"widths {name}", FAIL, f"{name}: {how}{_mend(now, name)}", tag)


def _mend(surface: Surface, name: str) -> str:
    """Return how to give a structure one layout; "" if it exists at one width alone."""
    wide, narrow = (surface.abis[width].structs.get(name) for width in WIDTHS)
    if wide is None or narrow is None:
        return ""
    pointers = [key for key, member in wide.members.items() if member.pointer]
    if pointers:
        return f"; {pointers[0]} is a pointer, use __u64"
    if not wide.holes:
        return "; use __aligned_u64"
    last, left = next(iter(wide.holes.items()))
    return f"; use __aligned_u64, or fill the {left} bytes after {last}"


def _differs(surface: Surface, name: str) -> str:
    """Return the first difference of a structure between 64 and 32 bit as text; "" if none."""
    wide, narrow = (surface.abis[width].structs.get(name) for width in WIDTHS)
    if wide is None or narrow is None:
        width = WIDTHS[0] if narrow is None else WIDTHS[1]
        return "" if wide is narrow else f"it exists at {width} bit alone"
    if wide.size != narrow.size:
        return f"{wide.size} bytes at 64 bit, {narrow.size} at 32 bit"
    for member, there in wide.members.items():
        here = narrow.members.get(member, there)
        if here.offset != there.offset:
            pair = f"{_bytes(there.offset)} at 64 bit, {_bytes(here.offset)} at 32 bit"
            return f"{member} is at offset {pair}"
        if here.size != there.size:
            pair = f"{_bytes(there.size)} bytes at 64 bit, {_bytes(here.size)} at 32 bit"
            return f"{member} has {pair}"
    return ""


def _padding(before: Surface, now: Surface) -> Iterator[Remark]:
    """Yield a remark (WARN) for each hole (implicit padding) that is new or has another size.

    All holes of a structure that ``before`` lacks are new.

    Structures that differ between 64 and 32 bit are left to `_widths`.
    """
    for name, struct in now.abis[WIDTHS[0]].structs.items():
        old = before.abis[WIDTHS[0]].structs.get(name) if before.abis else None
        if _differs(now, name):
            continue
        for member, left in struct.holes.items():
            if old is None or old.holes.get(member) != left:
                tag = name.rpartition(" ")[2]
                text = f"{name} has {left} bytes of implicit padding after {member}"
                yield Remark(f"padding {name} {member}", WARN, text, tag)


def _bytes(bits: int) -> str:
    return str(bits // 8) if bits % 8 == 0 else f"{bits // 8} and {bits % 8} bits"


# ---- additions -----------------------------------------------------------------------------------


def _numbers(before: Surface, now: Surface, newest: Newest) -> Iterator[Remark]:
    """Yield a remark for each new name of a macro or enumerator, and each new structure.

    It is FAIL if the number of a new constant is taken (`_new`), else NOTE. Macros without text are
    left out.
    """
    fresh = now.names - before.names
    told: set[str] = set()
    for group in numbers.groups(now):
        others = _matching(group, newest.surface)
        for name, value in group.values.items():
            if name in fresh:
                told.add(name)
                yield _new(name, value, group, others, before, now, newest)
    values = now.abis[WIDTHS[0]].values
    for name in sorted(fresh - told):
        macro = now.macros.get(name)
        if macro is not None and not macro.body:
            continue
        shown = f" = {_shown(values[name])}" if name in values else ""
        yield Remark(f"new {name}", NOTE, f"{NEW}{name}{shown}", name)
    old = before.abis[WIDTHS[0]].structs if before.abis else {}
    for name, struct in now.abis[WIDTHS[0]].structs.items():
        if name not in old:
            text = f"{NEW}{name}, {struct.size} bytes"
            yield Remark(f"new {name}", NOTE, text, name.rpartition(" ")[2])


def _new(
    name: str,
    value: int,
    group: Group,
    others: Group,
    before: Surface,
    now: Surface,
    newest: Newest,
) -> Remark:
    """Return the remark on the new constant ``name`` of ``group``.

    ``others`` is the same group in the newest base. FAIL if ``name`` has another number in
    ``others``, or if the number has another name in ``others`` or ``group``; else NOTE. Another
    name does not count if the series renumbers it or makes it an alias, or if the number is a 0
    that may have several names (`_nothing`). In a group in which other names share a number
    already, no number counts as taken.
    """
    shown = f"{name} = {_shown(value)}"
    later = others.values.get(name)
    if later is not None and later != value:
        text = f"{shown}, which is {_shown(later)} in {newest.version}"
        return Remark(f"taken {name}", FAIL, text, name)
    # A name that the series renumbers has a remark of its own, and does not take its old number.
    stable = [
        one
        for one in others.rivals(name, value)
        if _value(now, one) in (None, value)
        and _value(before, one) in (None, value)
        and not numbers.alias(now, one)
        and not _nothing(value, name, one)
    ]
    if stable and not others.without(frozenset({name})).shared:
        text = f"{shown}: the number is that of {stable[0]} in {newest.version} ({group.title})"
        return Remark(f"taken {name}", FAIL, text, name)
    rivals = [one for one in group.rivals(name, value) if not _nothing(value, name, one)]
    moved = [one for one in rivals if _value(before, one) not in (None, value)]
    if rivals and not moved and not group.without(frozenset({name})).shared:
        text = f"{shown}: the number is that of {rivals[0]} ({group.title})"
        return Remark(f"taken {name}", FAIL, text, name)
    if later is not None:
        return Remark(f"new {name}", NOTE, f"{NEW}{shown}, as in {newest.version}", name)
    known = newest.version and others.values and not rivals and not others.rivals(name, value)
    free = f" is free in {newest.version} ({group.title})" if known else ""
    return Remark(f"new {name}", NOTE, f"{NEW}{shown}{free}", name)


def _nothing(value: int, *names: str) -> bool:
    """Return whether ``value`` is 0 and one of its ``names`` means "no choice" (NONE, DEFAULT, …).

    Such a 0 may have several names.
    """
    return value == 0 and any(_NOTHING.search(name) for name in names)


def _value(surface: Surface, name: str) -> int | None:
    abi = surface.abis.get(WIDTHS[0])
    return None if abi is None else abi.values.get(name)


def _matching(group: Group, surface: Surface) -> Group:
    """Return the group of ``surface`` that corresponds to ``group``; an empty one if none does.

    It has the same kind. Groups of ioctls and rows of NUMBERED correspond if they have the same
    title; for others it is the group with the most names in common.
    """
    none = Group(group.kind, group.title, {})
    found = (one for one in numbers.groups(surface) if one.kind == group.kind)
    if group.kind in ("ioctl", "number"):
        return next((one for one in found if one.title == group.title), none)
    best = max(found, key=lambda one: len(set(one.values) & set(group.values)), default=none)
    return best if set(best.values) & set(group.values) else none


def collapse(remarks: Iterable[Remark]) -> Iterator[Remark]:
    """Yield the remarks by kind and outcome; merge those of one if they are more than SAME_MOST.

    The merged remark has the text of the first and the number of the others, and all texts as
    details. A merged note has all texts in its text, joined by "; ".
    """
    kinds: dict[tuple[str, CheckOutcome], list[Remark]] = {}
    for remark in remarks:
        kinds.setdefault((remark.kind, remark.outcome), []).append(remark)
    for (_, outcome), same in kinds.items():
        if len(same) <= SAME_MOST:
            yield from same
        elif outcome is NOTE:
            first, *rest = (one.text for one in same)
            yield replace(same[0], text="; ".join((first, *(it.removeprefix(NEW) for it in rest))))
        else:
            text = f"{same[0].text} (and {len(same) - 1} more like it)"
            yield replace(same[0], text=text, details=tuple(one.text for one in same))
