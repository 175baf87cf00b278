# SPDX-License-Identifier: GPL-2.0-only
"""Group the constants of a header, so that no two names of a group may have the same number.

A group is the enumerators of an enum; the ioctls with the same first two words; the numbers of a
row of NUMBERED; or the flags, each one bit, of a block of macros with the same first words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from kpatch.abi.probe import WIDTHS
from kpatch.abi.surface import Surface

NUMBERED: tuple[tuple[str, str], ...] = (
    # The numbers of the features of VFIO_DEVICE_FEATURE. Not: the other bits of its field flags
    # (MASK, GET, SET, PROBE), and the flags and values of a single feature.
    (
        "VFIO_DEVICE_FEATURE_",
        r"VFIO_DEVICE_FEATURE_(?!MASK$|GET$|SET$|PROBE$|\w*FLAG|CLEAR_|SET_)\w+",
    ),
    ("VFIO_DEVICE_INFO_CAP_", r"VFIO_DEVICE_INFO_CAP_\w+"),
    ("VFIO_REGION_INFO_CAP_", r"VFIO_REGION_INFO_CAP_\w+"),
    ("VFIO_IOMMU_TYPE1_INFO_CAP_", r"VFIO_IOMMU_TYPE1_INFO_CAP_\w+"),
    ("KVM_CAP_", r"KVM_CAP_(?!\w*(?:FLAG|MASK|VALID|ENABLE))\w+"),
    ("KVM_EXIT_", r"KVM_EXIT_(?!IO_|HYPERV_|XEN_|\w*FLAG)[A-Z0-9]+(?:_[A-Z0-9]+)?"),
    ("VIRTIO_F_", r"VIRTIO_F_\w+"),
    ("PCI_CAP_ID_", r"PCI_CAP_ID_\w+"),
    ("PCI_EXT_CAP_ID_", r"PCI_EXT_CAP_ID_\w+"),
)
"""Groups whose constants are spread over a header: title without the final "*", and regex.

The regex has to match the whole name of a constant.
"""

_IOCTL = re.compile(r"\b(?:_IO(?:R|W|WR)?|\w+_IO(?:R|W|WR)?)\s*\(")
_ALIAS = re.compile(r"\(?\s*([A-Za-z_]\w*)\s*\)?")
_FLAG = re.compile(r"\(?\s*\(?(?:1\s*U?L*L?|__u64\)\s*1|_BITUL+|BIT(?:_ULL)?|0x[0-9a-fA-F]+)\b")
END = re.compile(r"(?:^|_)(?:MAX|NUM|NR|LAST|END|COUNT|CNT|TOP)(?:_|$)|_syscalls$")
"""Matches names of constants that tell the end of an enum (FOO_MAX, FOO_NUM).

Such a constant is the number of the enum's other constants, or equal to the last of them.
"""


@dataclass(frozen=True)
class Group:
    """Constants of which no two may have the same value.

    ``kind`` is "enumerator", "ioctl", "number" (a row of NUMBERED) or "flag"; ``title`` names the
    group in messages ("enum vfio_device_mig_state"); ``values`` has the values by name.
    """

    kind: str
    title: str
    values: Mapping[str, int]

    def rivals(self, name: str, value: int) -> list[str]:
        """Return the names in the group, other than ``name``, that have the value ``value``."""
        return [one for one, taken in self.values.items() if taken == value and one != name]

    @property
    def shared(self) -> bool:
        """Whether two names of the group have the same value."""
        return len(set(self.values.values())) < len(self.values)

    def without(self, names: frozenset[str]) -> Group:
        """Return a copy of the group without ``names``."""
        rest = {name: value for name, value in self.values.items() if name not in names}
        return Group(self.kind, self.title, rest)


def groups(surface: Surface) -> Iterator[Group]:
    """Yield the groups of a header, with the values at 64 bit; nothing if it has no ``abis``.

    Left out are aliases (`alias`), and the last of an enum's other constants if it matches END.
    Macros that are no ioctl, in no row of NUMBERED and no flag are in no group.
    """
    abi = surface.abis.get(WIDTHS[0])
    if abi is None:
        return
    for enum in abi.enums:
        known = {k: v for k, v in enum.values.items() if not alias(surface, k)}
        if known and END.search(last := [*known][-1]):
            del known[last]
        title = f"enum {enum.name}" if enum.name else f"the enum of {next(iter(enum.values), '')}"
        yield Group("enumerator", title, known)
    numbers = {
        name: abi.values[name]
        for name, macro in surface.macros.items()
        if name in abi.values and not alias(surface, name)
    }
    ioctls = {name for name in numbers if _IOCTL.search(surface.macros[name].body)}
    yield from _by("ioctl", {name: words(name, 2) for name in ioctls}, numbers)
    listed: set[str] = set()
    for title, pattern in NUMBERED:
        found = {name for name in numbers if re.fullmatch(pattern, name)} - ioctls
        listed |= found
        if found:
            yield Group("number", f"{title}*", {name: numbers[name] for name in found})
    flags = {
        name: f"{surface.macros[name].block} {stem(name)}"
        for name, value in numbers.items()
        if name not in listed | ioctls
        and value & (value - 1) == 0 < value
        and _FLAG.match(surface.macros[name].body)
    }
    yield from _by("flag", flags, numbers)


def alias(surface: Surface, name: str) -> bool:
    """Return whether ``name`` is defined by a name of the header.

    A macro is, if its text is nothing but that name (``#define NEW OLD``), which may be its own
    (``#define X X``). An enumerator that is no macro is, if the expression of its value has the
    name of an enumerator (``NEW = OLD``, ``NEW = OLD + 1``).
    """
    if name not in surface.macros:
        return name in surface.derived
    match = _ALIAS.fullmatch(surface.macros[name].body)
    return match is not None and match[1] != name and match[1] in surface.names


def words(name: str, count: int) -> str:
    """Return the first ``count`` words of a name: "VFIO_DEVICE" for VFIO_DEVICE_GET_INFO and 2."""
    return "_".join(name.strip("_").split("_")[:count])


def stem(name: str) -> str:
    """Return the part of a flag's name that the flags of its field have in common.

    It ends with the word FLAG or FLAGS; without that word it is the name without its last word:
    "VFIO_IRQ_SET_ACTION" for VFIO_IRQ_SET_ACTION_MASK.
    """
    parts = name.split("_")
    for word in ("FLAG", "FLAGS"):
        if word in parts[:-1]:
            return "_".join(parts[: parts.index(word) + 1])
    return "_".join(parts[:-1])


def _by(kind: str, titles: Mapping[str, str], numbers: Mapping[str, int]) -> Iterator[Group]:
    for title in dict.fromkeys(titles.values()):
        found: Iterable[str] = (name for name, one in titles.items() if one == title)
        shown = f"{title.rpartition(' ')[2]}_*"
        yield Group(kind, shown, {name: numbers[name] for name in found})
