# SPDX-License-Identifier: GPL-2.0-only
"""The content of one uAPI header: constants, macros, and structures with their layout.

`kpatch.abi.measure` compiles the header. Macros are read from the preprocessed text, values from
the object's symbols, types from its debug information (DWARF 5). Declarations of headers that this
header includes are left out.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from elftools.dwarf.compileunit import CompileUnit
from elftools.dwarf.die import DIE
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from kpatch.abi.macros import Macro, of, split
from kpatch.abi.measure import SYMBOL, product
from kpatch.abi.probe import WIDTHS

_DERIVED = re.compile(r"\b(\w+)\s*=\s*([^,}=]*)[,}]")
_WORD = re.compile(r"\b[A-Za-z_]\w*")

AGGREGATES = {"DW_TAG_structure_type": "struct", "DW_TAG_union_type": "union"}
_QUALIFIERS = ("DW_TAG_const_type", "DW_TAG_volatile_type", "DW_TAG_typedef")
_SIGNED = (0x05, 0x06)  # DW_ATE_signed, DW_ATE_signed_char


@dataclass(frozen=True)
class Member:
    """Offset and size of a member in bits.

    ``signed`` and ``pointer`` say whether its type, or an array's element type, is a signed integer
    or a pointer. ``of`` is the name ("struct x") if that type is a structure or union with a tag,
    else "".
    """

    offset: int
    size: int
    signed: bool = False
    pointer: bool = False
    of: str = ""


@dataclass(frozen=True)
class Struct:
    """A structure or union, with its size in bytes.

    ``name`` is "struct x", "union x", or the name of a typedef of a structure without a tag.
    ``members`` has the members by name. If the type of the member ``a`` has no tag, its own members
    are included as "a.b"; those of an anonymous member, as "b". ``holes`` has the number of bytes
    of implicit padding by the last named member before it, "(start)" if there is none.
    """

    name: str
    size: int
    members: Mapping[str, Member]
    holes: Mapping[str, int]


@dataclass(frozen=True)
class Enum:
    """An enum: its name, "" if it has none, and the values of its enumerators, in order."""

    name: str
    values: Mapping[str, int]


@dataclass(frozen=True)
class Abi:
    """A header at one ABI width: values of macros and enumerators, structures by name, enums."""

    values: Mapping[str, int]
    structs: Mapping[str, Struct]
    enums: tuple[Enum, ...]


@dataclass(frozen=True)
class Surface:
    """A header of the uAPI in one state of a tree.

    ``name`` is that in an #include ("linux/vfio.h"). ``abis`` has the content by width (64 or 32
    bit); it is empty if the header does not exist, was refused or does not compile. ``refused`` is
    the message of scripts/headers_install.sh, "" if the script accepts the header. ``errors`` has,
    by width, gcc's messages if the header does not compile alone. ``derived`` are the enumerators
    whose value is an expression with another enumerator's name.
    """

    name: str
    macros: Mapping[str, Macro] = field(default_factory=dict)
    abis: Mapping[int, Abi] = field(default_factory=dict)
    derived: frozenset[str] = frozenset()
    refused: str = ""
    errors: Mapping[int, str] = field(default_factory=dict)

    @property
    def names(self) -> frozenset[str]:
        """The names of all macros and enumerators."""
        return frozenset(self.macros).union(*(abi.values for abi in self.abis.values()))


def read(entry: Path, name: str) -> Surface:
    """Return the Surface of the header ``name`` ("linux/vfio.h").

    ``entry`` is the cache entry that `kpatch.abi.measure.measure` returns for it.
    """
    refused = product(entry, "refused")
    if refused is not None:
        return Surface(name, refused=refused.decode(errors="replace"))
    files = {width: product(entry, f"{width}/errors") or b"" for width in WIDTHS}
    errors = {width: text.decode(errors="replace") for width, text in files.items() if text}
    objects = {width: product(entry, f"{width}/object.o") for width in WIDTHS}
    text = (product(entry, f"{WIDTHS[0]}/defines") or b"").decode(errors="replace")
    if not all(objects.values()):
        return Surface(name, errors=errors)
    macros, code = split(text, name)
    abis = {width: _abi(data, name, macros) for width, data in objects.items() if data}
    constants = {key for abi in abis.values() for enum in abi.enums for key in enum.values}
    derived = frozenset(
        key
        for key, value in _DERIVED.findall(code)
        if key in constants and constants & set(_WORD.findall(value))
    )
    return Surface(name, macros, abis, derived, errors=errors)


def _abi(data: bytes, name: str, macros: Mapping[str, Macro]) -> Abi:
    elf = ELFFile(io.BytesIO(data))
    values = {key: value for key, value in _values(elf) if key in macros}
    structs: dict[str, Struct] = {}
    enums = []
    for unit in elf.get_dwarf_info().iter_CUs():
        for die in unit.get_top_DIE().iter_children():
            if not _of(unit, die, name):
                continue
            if die.tag == "DW_TAG_enumeration_type":
                enums.append(_enum(die))
            elif (found := _named(die)) and not _attribute(found[1], "DW_AT_declaration"):
                structs[found[0]] = _struct(*found)
    for enum in enums:
        values = {**enum.values, **values}
    return Abi(values, structs, tuple(enums))


def _values(elf: ELFFile) -> Iterator[tuple[str, int]]:
    """Yield name and value of each macro that `kpatch.abi.measure` has made a symbol of."""
    order = "little" if elf.little_endian else "big"
    for table in elf.iter_sections():
        if not isinstance(table, SymbolTableSection):
            continue
        for symbol in table.iter_symbols():
            if symbol.name.startswith(SYMBOL) and isinstance(symbol["st_shndx"], int):
                section = elf.get_section(symbol["st_shndx"])
                start = symbol["st_value"]
                # Macros with the value 0 may be in .bss, which has no bytes in the file.
                data = b"" if section["sh_type"] == "SHT_NOBITS" else section.data()
                value = int.from_bytes(data[start : start + 8], order, signed=True)  # type: ignore[arg-type]
                yield symbol.name.removeprefix(SYMBOL), value


def _of(unit: CompileUnit, die: DIE, name: str) -> bool:
    """Return whether the DWARF entry ``die`` is declared in the header ``name``."""
    number = _attribute(die, "DW_AT_decl_file")
    program = unit.dwarfinfo.line_program_for_CU(unit)
    if number is None or program is None:
        return False
    file = program["file_entry"][number]
    folder = program["include_directory"][file.dir_index]
    return of(f"{folder.decode(errors='replace')}/{file.name.decode(errors='replace')}", name)


def _attribute(die: DIE, name: str) -> int | None:
    found = die.attributes.get(name)
    return None if found is None else int(found.value)


def _text(die: DIE) -> str:
    found = die.attributes.get("DW_AT_name")
    return found.value.decode(errors="replace") if found else ""


def _type(die: DIE) -> DIE | None:
    return die.get_DIE_from_attribute("DW_AT_type") if "DW_AT_type" in die.attributes else None


def _named(die: DIE) -> tuple[str, DIE] | None:
    """Return name and DWARF type of the structure or union that ``die`` declares, else None.

    The name is "struct x", "union x", or that of a typedef of one without a tag.
    """
    if die.tag in AGGREGATES and _text(die):
        return f"{AGGREGATES[die.tag]} {_text(die)}", die
    target = _type(die) if die.tag == "DW_TAG_typedef" else None
    if target is not None and target.tag in AGGREGATES and not _text(target):
        return _text(die), target
    return None


def _enum(die: DIE) -> Enum:
    values = {_text(one): _attribute(one, "DW_AT_const_value") or 0 for one in die.iter_children()}
    return Enum(_text(die), values)


def _struct(name: str, die: DIE) -> Struct:
    members: dict[str, Member] = {}
    holes: dict[str, int] = {}
    _walk(die, "", 0, members, holes)
    return Struct(name, _attribute(die, "DW_AT_byte_size") or 0, members, holes)


def _walk(
    die: DIE, prefix: str, start: int, members: dict[str, Member], holes: dict[str, int]
) -> None:
    """Add the members and holes of the structure or union ``die`` to ``members`` and ``holes``.

    ``die`` begins at the bit ``start`` of the outermost structure. ``prefix`` ("a.") is put before
    the names of its members. Names and units are those of `Struct`.
    """
    end, last = 0, ""
    for child in (child for child in die.iter_children() if child.tag == "DW_TAG_member"):
        kind, count, pointer = _resolved(child)
        offset = _bits(child)
        unit = 8 * (_attribute(kind, "DW_AT_byte_size") or 0) if kind is not None else 0
        width = _attribute(child, "DW_AT_bit_size")
        size = unit * count if width is None else width
        label = prefix + _text(child) if _text(child) else ""
        signed = kind is not None and _attribute(kind, "DW_AT_encoding") in _SIGNED
        if label:
            members[label] = Member(start + offset, size, signed, pointer, _tag(kind))
        if kind is not None and kind.tag in AGGREGATES and not _text(kind):
            _walk(kind, f"{label}." if label else prefix, start + offset, members, holes)
            label = label or next(reversed(members), "")
        if die.tag == "DW_TAG_structure_type":
            if offset - end >= 8:
                holes[last or f"{prefix}(start)"] = (offset - end) // 8
            # The rest of a bit-field's unit is no padding.
            end = offset + size if width is None else (offset // unit + 1) * unit
            last = label or last
    left = 8 * (_attribute(die, "DW_AT_byte_size") or 0) - end
    if die.tag == "DW_TAG_structure_type" and left >= 8:
        holes[last or f"{prefix}(start)"] = left // 8


def _tag(kind: DIE | None) -> str:
    if kind is None or kind.tag not in AGGREGATES or not _text(kind):
        return ""
    return f"{AGGREGATES[kind.tag]} {_text(kind)}"


def _bits(member: DIE) -> int:
    bits = _attribute(member, "DW_AT_data_bit_offset")
    return bits if bits is not None else 8 * (_attribute(member, "DW_AT_data_member_location") or 0)


def _resolved(member: DIE) -> tuple[DIE | None, int, bool]:
    """Return the type of a member without qualifiers, typedefs and arrays: an array's element type.

    Also returns the number of elements in all dimensions of an array (1 if it is no array, 0 if it
    has no length), and whether the type is a pointer.
    """
    kind, count = _type(member), 1
    while kind is not None and kind.tag in (*_QUALIFIERS, "DW_TAG_array_type"):
        if kind.tag == "DW_TAG_array_type":
            for one in kind.iter_children():
                count *= _length(one)
        kind = _type(kind)
    return kind, count, kind is not None and kind.tag == "DW_TAG_pointer_type"


def _length(subrange: DIE) -> int:
    count = _attribute(subrange, "DW_AT_count")
    if count is not None:
        return count
    last = _attribute(subrange, "DW_AT_upper_bound")
    # For the length 0 the upper bound is -1, which gcc writes as an unsigned number.
    return 0 if last is None or last >= 0xFFFFFFFF else last + 1
