# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Vectors for bindings in C and Rust, and an index of all names, made from the golden JSON.

``python -m uapi.vectors`` compares the files of `FILES` in ``uapi/golden`` with the golden JSON,
and ``--write`` writes them again. docs/vectors.md describes their use.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("golden")

# The parts of the uAPI that a binding can have or not, by patterns of the names in them.
TOPICS = {
    "iommufd": re.compile(r"IOMMU|iommu_"),
    "eventfd": re.compile(r"EFD_"),
    "acpi_event": re.compile(r"ACPI_GENL_|acpi_genl_|nlmsghdr|genlmsghdr|nlattr"),
    "vfio": re.compile(""),
}

# Numbers of ioctls of the type ';' without direction and size: _IO() of asm-generic/ioctl.h.
_IOCTL = range(ord(";") << 8, ord(";") + 1 << 8)

Kernels = Mapping[str, Mapping[str, Any]]
"""The golden JSON by kernel ("7.3-eventfd", the file's name without suffix), oldest base first."""


@dataclass(frozen=True)
class Claim:
    """A number or text that a binding has to have.

    ``kind`` is "constant", "ioctl" or "text", and ``name`` that of the constant; or "size",
    "alignment", "offset" or "member", the size of a member, and ``name`` that of the structure.
    """

    kind: str
    name: str
    member: str
    value: int | str


@dataclass(frozen=True)
class Group:
    """Claims of one topic that hold on the same kernels.

    ``kernels`` are pairs of a kernel and an ABI width ("64", "32").
    """

    topic: str
    kernels: frozenset[tuple[str, str]]
    claims: tuple[Claim, ...]

    def widths(self) -> Iterator[tuple[str, list[str]]]:
        """Yield an ABI width and its kernels, in order; "" if they are the same for each width."""
        by_width = {
            width: sorted((k for k, w in self.kernels if w == width), key=_order)
            for width in ("64", "32")
        }
        if by_width["64"] == by_width["32"]:
            yield "", by_width["64"]
        else:
            yield from ((width, there) for width, there in by_width.items() if there)


def kernels(folder: Path = FOLDER) -> Kernels:
    """Read the golden JSON in ``folder``."""
    stems = sorted((path.stem for path in folder.glob("[0-9]*.json")), key=_order)
    return {stem: json.loads((folder / f"{stem}.json").read_text()) for stem in stems}


def _order(kernel: str) -> tuple[object, ...]:
    """Return a sort key: the release as numbers; the unpatched kernel comes before the series."""
    base, _, series = kernel.partition("-")
    return [int(part) for part in base.split(".")], series != "base", series


def claims(abi: Mapping[str, Any]) -> Iterator[Claim]:
    """Yield the claims of one ABI of the golden JSON. A flexible array has no size."""
    for name, value in abi["constants"].items():
        kind = "text" if isinstance(value, str) else "ioctl" if value in _IOCTL else "constant"
        yield Claim(kind, name, "", value)
    for name, layout in abi["structures"].items():
        yield Claim("size", name, "", layout["size"])
        yield Claim("alignment", name, "", layout["alignment"])
        for member in layout["members"]:
            yield Claim("offset", name, member["name"], member["offset"])
            if member["size"]:
                yield Claim("member", name, member["name"], member["size"])


def groups(golden: Kernels) -> list[Group]:
    """Return all claims of ``golden``, those that hold on the most kernels first."""
    holders: dict[Claim, set[tuple[str, str]]] = defaultdict(set)
    for kernel, document in golden.items():
        for width, abi in document["abis"].items():
            for claim in claims(abi):
                holders[claim].add((kernel, width))
    grouped: dict[tuple[str, frozenset[tuple[str, str]]], list[Claim]] = defaultdict(list)
    for claim, where in holders.items():
        topic = next(topic for topic, names in TOPICS.items() if names.match(claim.name))
        grouped[topic, frozenset(where)].append(claim)
    made = [Group(*key, tuple(there)) for key, there in grouped.items()]
    return sorted(made, key=lambda group: (-len(group.kernels), group.topic, sorted(group.kernels)))


# ---- the index of names ----


def index(golden: Kernels) -> dict[str, Any]:
    """Return for each name where it is and whether it differs: the content of names.json.

    ``since`` is the first base that has the name, itself or with a series; ``kernels`` is left out
    if all have it. ``varies`` tells whether two kernels have another value or layout.
    """
    found: dict[str, dict[str, dict[str, list[object]]]] = {"constants": {}, "structures": {}}
    for kernel, document in golden.items():
        for kind, names in found.items():
            for name, what in document["abis"]["64"][kind].items():
                narrow = document["abis"]["32"][kind].get(name)
                names.setdefault(name, {}).setdefault(kernel, []).extend([what, narrow])
    return {
        "schema_version": 1,
        "license": "GPL-2.0-only OR MIT",
        "kernels": {kernel: document["series"] for kernel, document in golden.items()},
        **{
            kind: {name: _mark(where, golden) for name, where in sorted(names.items())}
            for kind, names in found.items()
        },
    }


def _mark(where: Mapping[str, object], golden: Kernels) -> dict[str, Any]:
    first, *others = where.values()
    mark: dict[str, Any] = {
        "since": golden[next(iter(where))]["base"],
        "varies": any(other != first for other in others),
    }
    return mark if where.keys() == golden.keys() else mark | {"kernels": list(where)}


def index_text(golden: Kernels) -> str:
    """Return the text of names.json, a name a line."""
    made = index(golden)
    lines = []
    for key, value in made.items():
        if isinstance(value, dict):
            entries = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            lines.append(f" {json.dumps(key)}: {{\n{entries}\n }}")
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _notes(golden: Kernels) -> dict[str, str]:
    """Return the remark on each name that is not on all kernels with one value, else ""."""
    made = index(golden)
    oldest = next(iter(golden.values()))["base"]
    notes = {}
    for name, mark in (made["constants"] | made["structures"]).items():
        since = f"since {mark['since']}" if mark["since"] != oldest else ""
        notes[name] = ", ".join(filter(None, (since, "varies" if mark["varies"] else "")))
    return notes


# ---- C ----

_C_HEAD = """\
/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Static assertions of the uAPI of VFIO and ACPI notifications on x86.
 * Made from the golden JSON by `python -m uapi.vectors --write`.
 *
 * Include the headers to be checked first. VFIO_ACPI_KERNEL selects the kernel that they belong to,
 * for instance VFIO_ACPI_7_3_EVENTQ. Several kernels can be joined by |; then what differs between
 * them fails. VFIO_ACPI_WITHOUT_VFIO, _IOMMUFD, _EVENTFD and _ACPI_EVENT leave out a part.
 */
#ifndef VFIO_ACPI_VECTORS_H
#define VFIO_ACPI_VECTORS_H

#include <stddef.h>

"""

_C_MACROS = """
#if !defined(VFIO_ACPI_KERNEL) || (VFIO_ACPI_KERNEL) == 0
#error "VFIO_ACPI_KERNEL has to be a kernel of this file, for instance VFIO_ACPI_7_3_EVENTQ"
#endif

#ifdef __cplusplus
#define VFIO_ACPI_TRUE(what, message) static_assert(what, message)
#define VFIO_ACPI_ALIGNMENT(type) alignof(type)
#else
#define VFIO_ACPI_TRUE(what, message) _Static_assert(what, message)
#define VFIO_ACPI_ALIGNMENT(type) _Alignof(type)
#endif
#define VFIO_ACPI_EQUAL(what, number) \\
	VFIO_ACPI_TRUE((what) == (number), #what " is not " #number)
#define VFIO_ACPI_TEXT(what, text) \\
	VFIO_ACPI_TRUE(!__builtin_strcmp(what, text), #what " is not " text)
#define VFIO_ACPI_MEMBER_SIZE(type, member) sizeof(((type *)0)->member)
"""

_C: dict[str, str] = {
    "constant": "VFIO_ACPI_EQUAL({name}, {value});",
    "ioctl": "VFIO_ACPI_EQUAL({name}, {value});",
    "text": 'VFIO_ACPI_TEXT({name}, "{value}");',
    "size": "VFIO_ACPI_EQUAL(sizeof(struct {name}), {value});",
    "alignment": "VFIO_ACPI_EQUAL(VFIO_ACPI_ALIGNMENT(struct {name}), {value});",
    "offset": "VFIO_ACPI_EQUAL(offsetof(struct {name}, {member}), {value});",
    "member": "VFIO_ACPI_EQUAL(VFIO_ACPI_MEMBER_SIZE(struct {name}, {member}), {value});",
}


def macro(kernel: str) -> str:
    """Return the name in C of ``kernel`` ("7.3-eventq")."""
    return "VFIO_ACPI_" + re.sub(r"\W", "_", kernel).upper()


def header(golden: Kernels) -> str:
    """Return the text of the C header."""
    bits = {kernel: 1 << number for number, kernel in enumerate(golden)}
    notes = _notes(golden)
    lines = [
        f"#define {macro(name)} {bits[kernel]:#x}"
        for kernel, document in golden.items()
        for name in dict.fromkeys(
            (kernel, *(f"{document['base']}-{s}" for s in document["series"]))
        )
    ]
    text = [_C_HEAD, "\n".join(lines), "\n", _C_MACROS]
    for group in groups(golden):
        for width, there in group.widths():
            mask = sum(bits[kernel] for kernel in there)
            only = {"64": " && defined(__LP64__)", "32": " && !defined(__LP64__)", "": ""}[width]
            text.append(
                f"\n/* {group.topic}: {_joined(there, golden)} */\n"
                f"#if !defined(VFIO_ACPI_WITHOUT_{group.topic.upper()}) && "
                f"((VFIO_ACPI_KERNEL) & {mask:#x}){only}\n"
            )
            for claim in group.claims:
                note = f" /* {notes[claim.name]} */" if notes[claim.name] else ""
                text.append(_C[claim.kind].format_map(vars(claim)) + note + "\n")
            text.append("#endif\n")
    return "".join([*text, "\n#endif\n"])


# ---- Rust ----

_RUST_HEAD = """\
// SPDX-License-Identifier: GPL-2.0-only OR MIT
//
// Tests of a binding of the uAPI of VFIO and ACPI notifications on x86.
// Made from the golden JSON by `python -m uapi.vectors --write`.
//
// Include this file where the names of the binding are in scope, after a macro that tells how the
// binding gives the number of an ioctl: as a function, as here, or as a constant ($name).
//
//     use vfio_bindings::bindings::vfio::*;
//     macro_rules! vfio_acpi_ioctl { ($name:ident) => { $name() }; }
//     include!("vectors.rs");
//
// The cfg vfio_acpi selects the kernel that the binding belongs to: --cfg 'vfio_acpi="7.3-eventq"'.
// The cfg vfio_acpi_without ("vfio", "iommufd", "eventfd", "acpi_event") leaves out a part.

"""

_RUST_MACROS = """
#[allow(unused_macros)]
macro_rules! vfio_acpi_equal {
    ($wrong:ident, $what:expr, $value:expr, $name:expr) => {
        let got = $what as i128;
        if got != $value {
            $wrong.push(format!("{} is {}, not {}", $name, got, $value));
        }
    };
}

#[allow(dead_code)]
fn vfio_acpi_member_size<S, M>(_: fn(&S) -> &M) -> usize {
    std::mem::size_of::<M>()
}

#[allow(dead_code)]
fn vfio_acpi_text<T: AsRef<[u8]> + ?Sized>(text: &T) -> String {
    String::from_utf8_lossy(text.as_ref()).trim_end_matches('\\0').to_string()
}
"""

_RUST: dict[str, str] = {
    "constant": 'vfio_acpi_equal!(wrong, {name}, {value}, "{name}");',
    "ioctl": 'vfio_acpi_equal!(wrong, vfio_acpi_ioctl!({name}), {value}, "{name}");',
    "text": 'if vfio_acpi_text({name}) != "{value}" {{\n'
    '        wrong.push("{name} is not {value}".to_string());\n    }}',
    "size": 'vfio_acpi_equal!(wrong, std::mem::size_of::<{name}>(), {value}, "{name}");',
    "alignment": "vfio_acpi_equal!(wrong, std::mem::align_of::<{name}>(), {value}, "
    '"alignment of {name}");',
    "offset": "vfio_acpi_equal!(wrong, std::mem::offset_of!({name}, {field}), {value}, "
    '"offset of {name}.{member}");',
    "member": "vfio_acpi_equal!(wrong, vfio_acpi_member_size(|it: &{name}| &it.{field}), {value}, "
    '"size of {name}.{member}");',
}


def rust(golden: Kernels) -> str:
    """Return the text of the Rust test."""
    notes = _notes(golden)
    text = [
        _RUST_HEAD,
        f"#[cfg(not({_any(golden)}))]\n"
        'compile_error!("the cfg vfio_acpi has to be a kernel of this file");\n',
        _RUST_MACROS,
    ]
    number = 0
    for group in groups(golden):
        for width, there in group.widths():
            number += 1
            only = f', target_pointer_width = "{width}"' if width else ""
            text.append(
                f"\n// {_joined(there, golden)}\n"
                f"#[cfg(all({_any(there)}, "
                f'not(vfio_acpi_without = "{group.topic}"){only}))]\n'
                f"#[test]\nfn vfio_acpi_{group.topic}_{number}() {{\n"
                "    let mut wrong: Vec<String> = Vec::new();\n"
            )
            for claim in group.claims:
                # bindgen appends _ to a keyword.
                field = f"{claim.member}_" if claim.member == "type" else claim.member
                note = f" // {notes[claim.name]}" if notes[claim.name] else ""
                line = _RUST[claim.kind].format_map(vars(claim) | {"field": field})
                text.append(f"    {line}{note}\n")
            text.append('    assert!(wrong.is_empty(), "{}", wrong.join("\\n"));\n}\n')
    return "".join(text)


def _any(there: Iterable[str]) -> str:
    listed = ", ".join(f'vfio_acpi = "{kernel}"' for kernel in there)
    return f"any({listed})"


def _joined(there: list[str], golden: Kernels) -> str:
    return "every kernel" if len(there) == len(golden) else ", ".join(there)


# ---- files ----

FILES: dict[str, Callable[[Kernels], str]] = {
    "names.json": index_text,
    "vectors.h": header,
    "vectors.rs": rust,
}


def outdated(folder: Path = FOLDER, *, write: bool = False) -> list[Path]:
    """Return the files of `FILES` that are not what the golden JSON in ``folder`` gives.

    ``write``: write them.
    """
    golden = kernels(folder)
    found = []
    for name, render in FILES.items():
        path, text = folder / name, render(golden)
        if not path.is_file() or path.read_text() != text:
            found.append(path)
            if write:
                path.write_text(text)
    return found


def main(arguments: list[str]) -> int:
    """Compare the files, or write them with ``--write``. Returns 0, or 1 if they differ."""
    write = arguments == ["--write"]
    if arguments and not write:
        print("usage: python -m uapi.vectors [--write]", file=sys.stderr)
        return 2
    found = outdated(write=write)
    for path in found:
        print(f"{'written' if write else 'out of date'}: uapi/golden/{path.name}")
    return int(bool(found) and not write)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
