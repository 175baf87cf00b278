# SPDX-License-Identifier: GPL-2.0-only
"""The check of headers for user space, on small headers in small trees, with real gcc and make."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kpatch.abi import numbers
from kpatch.abi.measure import Bench
from kpatch.checks import uapi
from kpatch.checks.context import Context, CouldNotRunError, NotApplicableError
from kpatch.lib import environment, process
from kpatch.lib.progress import Progress
from kpatch.lib.stage import Silent
from kpatch.model import Applied, Change, Finding, Origin, Patch, Series, Tree
from kpatch.report.output_dir import open_output_dir
from kpatch.series import apply
from kpatch.source import resolve
from kpatch.tables.outcomes import CheckOutcome
from tests import kerneltree

PATH = "include/uapi/linux/toy.h"

# The goal `headers` of the kernel's Makefile, which installs below O=.
MAKEFILE = """\
headers:
\t@mkdir -p $(O)/usr/include
\t@cp -r include/uapi/. $(O)/usr/include
"""

# As the kernel's script: it removes what user space does not have, and refuses CONFIG_*.
INSTALL = """\
#!/bin/sh
if grep -q 'CONFIG_' $1; then echo "error: $1: leak CONFIG_TOY to user-space" >&2; exit 1; fi
sed -e 's/ __user / /' $1 > $2.tmp && scripts/unifdef < $2.tmp > $2
"""
UNIFDEF = """\
#include <stdio.h>
int main(void) { int c; while ((c = getchar()) != EOF) putchar(c); return 0; }
"""

TYPES = """\
#ifndef _LINUX_TYPES_H
#define _LINUX_TYPES_H
typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef signed int __s32;
__extension__ typedef unsigned long long __u64;
#define __aligned_u64 __u64 __attribute__((aligned(8)))
#define _IO(type, nr) (((type) << 8) | (nr))
#define _IOR(type, nr, what) (_IO(type, nr) | (sizeof(what) << 16))
#endif
"""

HEADER = """\
#ifndef _LINUX_TOY_H
#define _LINUX_TOY_H
#include <linux/types.h>

#define TOY_API_VERSION 1
#define TOY_NAME "toy"
#define TOY_CALL(x) (x)
#define TOY_FEATURES 7
#define TOY_ALL (TOY_FLAG_A | TOY_FLAG_B)
#define TOY_FLAG_A (1 << 0)
#define TOY_FLAG_B (1 << 1)

enum {
	TOY_ONE_INDEX,
	TOY_TWO_INDEX,
	TOY_NUM_INDICES
};

struct toy_info {
	__u32 argsz;
	__u32 flags;
	__u32 count;
	__u32 reserved;
};

struct toy_event {
	__u64 value;
	__s32 code;
	__u32 pad;
	union {
		__u64 whole;
		struct {
			__u32 low;
			__u32 high;
		};
	};
};

struct toy_part {
	__u32 a;
};

struct toy_whole {
	union {
		struct toy_part part;
		__u8 room[64];
	};
};

struct toy_bits {
	__u32 bits:4;
	__u32 bits_rsvd:28;
};

struct virtio_toy_config {
	__u32 space;
};

#define TOY_PART_NONE 0
#define TOY_BITS (TOY_FLAG_A | 1 << TOY_BIT_TWO)
#define TOY_BIT_TWO 4

#define TOY_GET_INFO _IO(';', 100)
#define TOY_GET_EVENT _IOR(';', 101, struct toy_event)

#define VFIO_DEVICE_FEATURE_OLD 3
#endif
"""

Edit = tuple[str, str]
Check = Callable[..., tuple[list[Finding], list[str]]]


def edited(*edits: Edit, text: str = HEADER) -> str:
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module", autouse=True)
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Use one cache for all tests of the module, so that the base is compiled once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VFIO_ACPI_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run gcc without confinement, which takes most of the time: the headers are our own."""

    def run(at: Bench, argv: list[str], out: Path) -> tuple[int, str]:
        return process.capture(argv, env=environment.clean())

    monkeypatch.setattr(Bench, "run", run)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Return a tree with one header of the uAPI, of the release line of the newest base."""
    return planted(tmp_path / "tree", HEADER)


def planted(folder: Path, header: str, version: str = "9.9.1", base: str = uapi.NEWEST) -> Tree:
    kerneltree.make(folder, version)
    files = {
        "Makefile": MAKEFILE,
        "scripts/headers_install.sh": INSTALL,
        "scripts/unifdef.c": UNIFDEF,
        "include/uapi/linux/types.h": TYPES,
        PATH: header,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    name = hashlib.sha256(header.encode()).hexdigest()[:16]
    return Tree(folder, version, base, "folder", {}, name, cached=True)


@pytest.fixture
def check(tree: Tree, tmp_path: Path) -> Check:
    """Return a function that checks a series which brings the header into the given states.

    It returns the findings and the notes. A state is a text of the header, None to delete it.
    """

    def run(
        *states: str | None, path: str = PATH, tree: Tree = tree, beside: tuple[str, ...] = ()
    ) -> tuple[list[Finding], list[str]]:
        context = context_of(tmp_path, tree, path, states, beside)
        return list(uapi.check(context)), context.notes

    return run


def context_of(
    folder: Path,
    tree: Tree,
    path: str,
    states: tuple[str | None, ...],
    beside: tuple[str, ...] = (),
) -> Context:
    """Return the context of a series; its patches also name the files ``beside``."""
    patches = tuple(
        Patch(number, len(states), "toy", "", ("T", "t@example.org"), b"", (path, *beside))
        for number in range(1, len(states) + 1)
    )
    steps = tuple((Change(path, text.encode() if text else None),) for text in states)
    series = Series("toy", "toy", "undetected", (folder / "toy.mbox",), Origin.MBOX)
    applied = Applied(tree, series, patches, steps[-1], apply.delta_id(steps[-1]), steps)
    with open_output_dir(folder / "out", names=()) as output:
        return Context(applied, "9.9", "toy", output, Progress(), Silent(), {})


def texts(findings: list[Finding]) -> list[str]:
    return [finding.text for finding in findings]


# ---- what breaks user space ----------------------------------------------------------------------

BREAKS: dict[str, tuple[tuple[Edit, ...], str]] = {
    "macro removed": ((("#define TOY_FEATURES 7\n", ""),), "removes TOY_FEATURES"),
    "function-like macro removed": (
        (("#define TOY_CALL(x) (x)\n", ""),),
        "removes TOY_CALL",
    ),
    "enumerator removed": (
        (("TOY_TWO_INDEX,", "TOY_2_INDEX,"),),
        "removes TOY_TWO_INDEX",
    ),
    "value changed": ((("TOY_FEATURES 7", "TOY_FEATURES 8"),), "TOY_FEATURES is 8, was 7"),
    "string changed": (
        (('TOY_NAME "toy"', 'TOY_NAME "doll"'),),
        'TOY_NAME is "doll", was "toy"',
    ),
    "number becomes a string": (
        (("TOY_FEATURES 7", 'TOY_FEATURES "7"'),),
        'TOY_FEATURES is "7", was 7',
    ),
    "number becomes empty": ((("TOY_FEATURES 7", "TOY_FEATURES"),), "TOY_FEATURES is empty, was 7"),
    "number becomes a function": (
        (("TOY_FEATURES 7", "TOY_FEATURES(x) 7"),),
        "TOY_FEATURES(x) is 7, was 7",
    ),
    "enumerator becomes a string": (
        (("\tTOY_ONE_INDEX,", '#define TOY_ONE_INDEX "one"\n\tTOY_1_INDEX,'),),
        'TOY_ONE_INDEX is "one", was 0',
    ),
    "string becomes a number": ((('TOY_NAME "toy"', "TOY_NAME 5"),), 'TOY_NAME is 5, was "toy"'),
    "index renumbered": (
        (("\tTOY_TWO_INDEX,", "\tTOY_NEW_INDEX,\n\tTOY_TWO_INDEX,"),),
        "TOY_TWO_INDEX is 2, was 1",
    ),
    "end grows without a new name": (
        (("\tTOY_NUM_INDICES", "\tTOY_NUM_INDICES = 4"),),
        "TOY_NUM_INDICES is 4, was 2",
    ),
    "structure removed": (
        (("struct toy_info {", "struct toy_facts {"),),
        "removes struct toy_info",
    ),
    "member removed": (
        (("\t__u32 count;\n\t__u32 reserved;", "\t__u32 number;\n\t__u32 reserved;"),),
        "removes the member toy_info.count",
    ),
    "member moved": (
        (("\t__u32 flags;\n\t__u32 count;", "\t__u32 count;\n\t__u32 flags;"),),
        "toy_info.flags is at offset 8, was 4",
    ),
    "member of an anonymous structure moved": (
        (("\t\t\t__u32 low;\n\t\t\t__u32 high;", "\t\t\t__u32 high;\n\t\t\t__u32 low;"),),
        "toy_event.low is at offset 20, was 16",
    ),
    "member resized": (
        (("\t__u32 count;\n\t__u32 reserved;", "\t__aligned_u64 count;"),),
        "toy_info.count has 8 bytes, had 4",
    ),
    "structure without argsz grows": (
        (("\t\t};\n\t};\n", "\t\t};\n\t};\n\t__u64 more;\n"),),
        "struct toy_event has 32 bytes, had 24",
    ),
    "structure with argsz shrinks": (
        (("\t__u32 count;\n\t__u32 reserved;\n", "\t__u32 count;\n"),),
        "struct toy_info has 12 bytes, had 16",
    ),
    "ioctl's number follows the size": (
        (("\t\t};\n\t};\n", "\t\t};\n\t};\n\t__u64 more;\n"),),
        "TOY_GET_EVENT is 0x203b65, was 0x183b65",
    ),
    "layout differs by an unaligned 64-bit member": (
        (
            (
                "#define TOY_GET_INFO",
                "struct toy_new {\n\t__u32 a;\n\t__u64 b;\n};\n#define TOY_GET_INFO",
            ),
        ),
        "struct toy_new: 16 bytes at 64 bit, 12 at 32 bit; use __aligned_u64, "
        "or fill the 4 bytes after a",
    ),
    "structure at 32 bit alone": (
        (
            (
                "#define TOY_GET_INFO",
                "#ifndef __LP64__\nstruct toy_new {\n\t__u32 a;\n};\n#endif\n#define TOY_GET_INFO",
            ),
        ),
        "struct toy_new: it exists at 32 bit alone",
    ),
    "structure at 64 bit alone": (
        (
            (
                "#define TOY_GET_INFO",
                "#ifdef __LP64__\nstruct toy_new {\n\t__u32 a;\n};\n#endif\n#define TOY_GET_INFO",
            ),
        ),
        "struct toy_new: it exists at 64 bit alone",
    ),
    "part of a union grown beyond its room": (
        (("struct toy_part {\n\t__u32 a;\n", "struct toy_part {\n\t__u32 a[20];\n"),),
        "struct toy_whole has 80 bytes, had 64",
    ),
    "mask grown by a bit without a name": (
        (("1 << TOY_BIT_TWO)", "1 << TOY_BIT_TWO | 32)"),),
        "TOY_BITS is 49, was 17",
    ),
    "layout differs by a pointer": (
        (
            (
                "#define TOY_GET_INFO",
                "struct toy_new {\n\tvoid __user *p;\n};\n#define TOY_GET_INFO",
            ),
        ),
        "struct toy_new: 8 bytes at 64 bit, 4 at 32 bit; p is a pointer, use __u64",
    ),
    "not alone: a type is missing": (
        (("\t__u32 argsz;", "\tu32 argsz;"),),
        "does not compile alone at 64 and 32 bit: unknown type name 'u32'",
    ),
    "not alone: a comment that C90 does not have": (
        (("#define TOY_FEATURES 7\n", "// seven\n#define TOY_FEATURES 7\n"),),
        "does not compile alone at 64 and 32 bit: C++ style comments are not allowed in ISO C90",
    ),
    "not alone: no guard": (
        (("#ifndef _LINUX_TOY_H\n", "#if 1\n"),),
        "does not compile alone at 64 and 32 bit: redeclaration of enumerator 'TOY_ONE_INDEX'",
    ),
    "config": (
        (("#define TOY_FEATURES 7", "#ifdef CONFIG_TOY\n#endif\n#define TOY_FEATURES 7"),),
        f"scripts/headers_install.sh refuses it: {PATH}: leak CONFIG_TOY to user-space",
    ),
    "feature's number is taken": (
        (("FEATURE_OLD 3\n", "FEATURE_OLD 3\n#define VFIO_DEVICE_FEATURE_NEW 3\n"),),
        "VFIO_DEVICE_FEATURE_NEW = 3: the number is that of VFIO_DEVICE_FEATURE_OLD in 9.9.1 "
        "(VFIO_DEVICE_FEATURE_*)",
    ),
    "enumerator's number is taken": (
        (
            ("TOY_ONE_INDEX,", "TOY_ONE_INDEX, TOY_NEW_INDEX = 0,"),
            ("#define TOY_FEATURES", "#define TOY_NEW_INDEX TOY_NEW_INDEX\n#define TOY_FEATURES"),
        ),
        "TOY_NEW_INDEX = 0: the number is that of TOY_ONE_INDEX in 9.9.1 "
        "(the enum of TOY_ONE_INDEX)",
    ),
    "two new features take one number": (
        (
            (
                "FEATURE_OLD 3\n",
                "FEATURE_OLD 3\n#define VFIO_DEVICE_FEATURE_A 4\n#define VFIO_DEVICE_FEATURE_B 4\n",
            ),
        ),
        "VFIO_DEVICE_FEATURE_B = 4: the number is that of VFIO_DEVICE_FEATURE_A "
        "(VFIO_DEVICE_FEATURE_*)",
    ),
    "ioctl's number is taken": (
        (("#define TOY_GET_EVENT", "#define TOY_GET_MORE _IO(';', 100)\n#define TOY_GET_EVENT"),),
        "TOY_GET_MORE = 0x3b64: the number is that of TOY_GET_INFO in 9.9.1 (TOY_GET_*)",
    ),
    "flag's bit is taken": (
        (
            (
                "#define TOY_FLAG_B (1 << 1)\n",
                "#define TOY_FLAG_B (1 << 1)\n#define TOY_FLAG_C (1 << 1)\n",
            ),
        ),
        "TOY_FLAG_C = 2: the number is that of TOY_FLAG_B in 9.9.1 (TOY_FLAG_*)",
    ),
    "index is taken": (
        (("TOY_TWO_INDEX,", "TOY_TWO_INDEX,\n\tTOY_NEW_INDEX = 1,"),),
        "TOY_NEW_INDEX = 1: the number is that of TOY_TWO_INDEX in 9.9.1 "
        "(the enum of TOY_ONE_INDEX)",
    ),
}


@pytest.mark.usefixtures("quick")
def test_header_that_cannot_be_compared_is_no_pass(check: Check) -> None:
    """The header has a name that C90 allows, and gnu11, in which it is measured, does not."""
    findings, _ = check(edited(("\t__u32 count;\n\t__u32 reserved;", "\t__u32 typeof;\n")))
    [only] = findings
    assert only.outcome is CheckOutcome.WARN
    assert "its content is not compared" in only.text


@pytest.mark.parametrize("edits, text", BREAKS.values(), ids=BREAKS)
def test_break_is_found(check: Check, edits: tuple[Edit, ...], text: str) -> None:
    findings, _ = check(edited(*edits))
    found = [one for one in findings if text in (one.text, *one.details)]
    assert found, texts(findings)
    assert {(one.outcome, one.patch, one.file) for one in found} == {(CheckOutcome.FAIL, 1, PATH)}


REMARKS: dict[str, tuple[tuple[Edit, ...], str]] = {
    "padding between members": (
        (
            (
                "#define TOY_GET_INFO",
                "struct toy_new {\n\t__u8 a;\n\t__u32 b;\n};\n#define TOY_GET_INFO",
            ),
        ),
        "struct toy_new has 3 bytes of implicit padding after a",
    ),
    "padding at the end": (
        (
            (
                "#define TOY_GET_INFO",
                "struct toy_new {\n\t__aligned_u64 a;\n\t__u32 b;\n};\n#define TOY_GET_INFO",
            ),
        ),
        "struct toy_new has 4 bytes of implicit padding after b",
    ),
    "padding in an anonymous structure": (
        (
            (
                "#define TOY_GET_INFO",
                "struct toy_new {\n\tstruct {\n\t\t__u8 a;\n\t\t__u32 b;\n\t} in;\n};\n"
                "#define TOY_GET_INFO",
            ),
        ),
        "struct toy_new has 3 bytes of implicit padding after in.a",
    ),
    "padding before an anonymous union": (
        (
            (
                "#define TOY_GET_INFO",
                "struct toy_new {\n\t__u16 a;\n\tunion {\n\t\t__u32 x;\n\t};\n};\n"
                "#define TOY_GET_INFO",
            ),
        ),
        "struct toy_new has 2 bytes of implicit padding after a",
    ),
    "padding after an anonymous union": (
        (
            (
                "#define TOY_GET_INFO",
                "struct toy_new {\n\t__u32 a;\n\tunion {\n\t\t__u8 x;\n\t};\n};\n"
                "#define TOY_GET_INFO",
            ),
        ),
        "struct toy_new has 3 bytes of implicit padding after x",
    ),
    "padding by a changed member": (
        (("\t__u32 count;\n\t__u32 reserved;", "\t__u32 count;\n\t__u8 more;"),),
        "struct toy_info has 3 bytes of implicit padding after more",
    ),
    "sign": ((("\t__s32 code;", "\t__u32 code;"),), "toy_event.code becomes unsigned"),
}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("edits, text", REMARKS.values(), ids=REMARKS)
def test_remark_is_a_warning(check: Check, edits: tuple[Edit, ...], text: str) -> None:
    findings, _ = check(edited(*edits))
    assert [(one.outcome, one.text) for one in findings] == [(CheckOutcome.WARN, text)]


# ---- what is no finding --------------------------------------------------------------------------

GOOD: dict[str, tuple[tuple[Edit, ...], tuple[str, ...]]] = {
    "comment": ((("#define TOY_FEATURES", "/* seven */\n#define TOY_FEATURES"),), ()),
    "index added": (
        (("TOY_TWO_INDEX,", "TOY_TWO_INDEX,\n\tTOY_NEW_INDEX,"),),
        (
            "TOY_NUM_INDICES is 3, was 2: an end, which grows with TOY_NEW_INDEX",
            "new: TOY_NEW_INDEX = 2 is free in 9.9.1 (the enum of TOY_ONE_INDEX)",
        ),
    ),
    "feature added": (
        (("FEATURE_OLD 3\n", "FEATURE_OLD 3\n#define VFIO_DEVICE_FEATURE_NEW 4\n"),),
        ("new: VFIO_DEVICE_FEATURE_NEW = 4 is free in 9.9.1 (VFIO_DEVICE_FEATURE_*)",),
    ),
    "ioctl added": (
        (("#define TOY_GET_EVENT", "#define TOY_GET_MORE _IO(';', 102)\n#define TOY_GET_EVENT"),),
        ("new: TOY_GET_MORE = 0x3b66 is free in 9.9.1 (TOY_GET_*)",),
    ),
    "flag added, mask grown": (
        (
            (
                "#define TOY_FLAG_B (1 << 1)\n",
                "#define TOY_FLAG_B (1 << 1)\n#define TOY_FLAG_C (1 << 2)\n",
            ),
            ("(TOY_FLAG_A | TOY_FLAG_B)", "(TOY_FLAG_A | TOY_FLAG_B | TOY_FLAG_C)"),
        ),
        (
            "TOY_ALL is 7, was 3: a mask, which grows with the new bits",
            "new: TOY_FLAG_C = 4 is free in 9.9.1 (TOY_FLAG_*)",
        ),
    ),
    "version": (
        (("TOY_API_VERSION 1", "TOY_API_VERSION 2"),),
        ("TOY_API_VERSION is 2, was 1: a version",),
    ),
    "renamed macro, the old name kept": (
        (("#define TOY_FEATURES 7", "#define TOY_NEWS 7\n#define TOY_FEATURES TOY_NEWS"),),
        ("new: TOY_NEWS = 7",),
    ),
    "renamed enumerator, the old name kept": (
        (("\tTOY_TWO_INDEX,", "\tTOY_2_INDEX,\n\tTOY_TWO_INDEX = TOY_2_INDEX,"),),
        ("new: TOY_2_INDEX = 1",),
    ),
    "alias of an ioctl": (
        (("#define TOY_GET_EVENT", "#define TOY_GET_FACTS TOY_GET_INFO\n#define TOY_GET_EVENT"),),
        ("new: TOY_GET_FACTS = 0x3b64",),
    ),
    "reserved member used": (
        (("\t__u32 reserved;", "\t__u32 more;"),),
        ("new: member toy_info.more at offset 12",),
    ),
    "structure with argsz grown": (
        (("\t__u32 reserved;\n", "\t__u32 reserved;\n\t__u32 more;\n"),),
        (
            "struct toy_info grows from 16 to 20 bytes; it has argsz",
            "new: member toy_info.more at offset 16",
        ),
    ),
    "part of a union grown": (
        (("struct toy_part {\n\t__u32 a;\n", "struct toy_part {\n\t__u32 a;\n\t__u32 b;\n"),),
        (
            "struct toy_part grows from 4 to 8 bytes; the size of struct toy_whole, which has one, "
            "stays",
            "new: member toy_part.b at offset 4",
        ),
    ),
    "mask grown by the bit of a new number": (
        (
            ("1 << TOY_BIT_TWO)", "1 << TOY_BIT_TWO | 1 << TOY_BIT_NEW)"),
            ("#define TOY_BIT_TWO 4\n", "#define TOY_BIT_TWO 4\n#define TOY_BIT_NEW 6\n"),
        ),
        (
            "TOY_BITS is 81, was 17: a mask, which grows with the new bits",
            "new: TOY_BIT_NEW = 6",
        ),
    ),
    "two names for no choice": (
        (("\tTOY_ONE_INDEX,", "\tTOY_ONE_INDEX,\n\tTOY_DEFAULT = 0,"),),
        ("new: TOY_DEFAULT = 0",),
    ),
    "reserved bits used": (
        (("\t__u32 bits_rsvd:28;", "\t__u32 more:4;\n\t__u32 bits_rsvd:24;"),),
        ("new: member toy_bits.more at offset 0 and 4 bits",),
    ),
    "config space of virtio grown": (
        (("\t__u32 space;\n", "\t__u32 space;\n\t__u32 more;\n"),),
        (
            "struct virtio_toy_config grows from 4 to 8 bytes; its size is known from elsewhere",
            "new: member virtio_toy_config.more at offset 4",
        ),
    ),
    "member put into an anonymous union": (
        (("\t__u32 count;", "\tunion {\n\t\t__u32 count;\n\t\t__u32 number;\n\t};"),),
        ("new: member toy_info.number at offset 8",),
    ),
    "structure added": (
        (
            (
                "#define TOY_GET_INFO",
                "struct toy_new {\n\t__u32 a;\n\t__u32 b;\n};\n#define TOY_GET_INFO",
            ),
        ),
        ("new: struct toy_new, 8 bytes",),
    ),
}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("edits, notes", GOOD.values(), ids=GOOD)
def test_addition_is_no_finding(
    check: Check,
    edits: tuple[Edit, ...],
    notes: tuple[str, ...],
) -> None:
    findings, said = check(edited(*edits))
    assert texts(findings) == []
    assert said == [f"{PATH}: {note}" for note in notes]


# ---- patches -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_finding_is_the_patch_s_that_brings_it_and_tells_which_removes_it(
    check: Check,
) -> None:
    bad = edited(("TOY_FEATURES 7", "TOY_FEATURES 8"))
    findings, _ = check(HEADER + "\n", bad, bad + "\n", HEADER)
    assert [(one.patch, one.removed_by, one.line) for one in findings] == [(2, 4, 8)]


@pytest.mark.usefixtures("quick")
def test_fault_of_the_base_is_not_the_series_s(check: Check, tmp_path: Path) -> None:
    old = edited(
        (
            "#define TOY_GET_INFO",
            "struct toy_old {\n\t__u32 a;\n\t__u64 b;\n};\n"
            "struct toy_hole {\n\t__u8 a;\n\t__u32 b;\n};\n// old\n#define TOY_GET_INFO",
        )
    )
    tree = planted(tmp_path / "old", old)
    findings, notes = check(old.replace("FEATURES 7", "FEATURES 7\n#define TOY_NEW 1"), tree=tree)
    assert (texts(findings), notes) == ([], [f"{PATH}: new: TOY_NEW = 1"])


@pytest.mark.usefixtures("quick")
def test_header_deleted(check: Check) -> None:
    findings, _ = check(None)
    assert texts(findings) == ["removes the header <linux/toy.h>"]


@pytest.mark.usefixtures("quick")
def test_name_of_hardware_is_removed(check: Check, tmp_path: Path) -> None:
    tree = planted(tmp_path / "pci", HEADER + "\n")
    registers = "include/uapi/linux/pci_regs.h"
    (tree.path / registers).write_text("#define PCI_A 1\n#define PCI_B 2\n")
    findings, _ = check("#define PCI_A 1\n", path=registers, tree=tree)
    assert [(one.outcome, one.text) for one in findings] == [(CheckOutcome.WARN, "removes PCI_B")]


@pytest.mark.usefixtures("quick")
def test_new_header_is_judged(check: Check) -> None:
    bad = "#include <linux/types.h>\nstruct new_one {\n\t__u32 a;\n\t__u64 b;\n};\n"
    findings, notes = check(bad, path="include/uapi/linux/new.h")
    assert [text.partition(":")[0] for text in texts(findings)] == [
        "does not compile alone at 64 and 32 bit",
        "struct new_one",
    ]
    assert notes == ["include/uapi/linux/new.h: new: struct new_one, 16 bytes"]


@pytest.mark.usefixtures("quick")
def test_padding_of_a_structure_that_moves_to_the_header_is_a_note(
    check: Check, tree: Tree
) -> None:
    """Programs rely on it already, by definitions of their own."""
    new = "struct new_one {\n\t__u8 a;\n\t__u32 b;\n};\n"
    new = f"#ifndef NEW_H\n#define NEW_H\n#include <linux/types.h>\n{new}#endif\n"
    (tree.path / "drivers").mkdir(exist_ok=True)
    (tree.path / "drivers/event.c").write_text("struct new_one {\n\tu8 a;\n\tu32 b;\n};\n")
    (tree.path / "drivers/other.c").write_text("struct new_one_more {\n\tstruct new_one a;\n};\n")
    text = "struct new_one has 3 bytes of implicit padding after a"
    path = "include/uapi/linux/new.h"
    findings, notes = check(new, path=path, beside=("drivers/event.c",))
    assert findings == [] and f"{path}: {text}; the patch moves the structure here" in notes
    findings, _ = check(new, path=path, beside=("drivers/other.c", "drivers/none.c"))
    assert texts(findings) == [text]


@pytest.mark.usefixtures("quick")
def test_many_findings_of_a_kind_are_one(
    check: Check,
) -> None:
    names = ("TOY_FEATURES 7", "TOY_API_VERSION 1", 'TOY_NAME "toy"', "TOY_CALL(x) (x)")
    findings, _ = check(edited(*((f"#define {name}\n", "") for name in names)))
    assert texts(findings) == ["removes TOY_API_VERSION (and 3 more like it)"]
    assert len(findings[0].details) == 4


# ---- the newest base -----------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "theirs, text, note",
    [
        (
            "OTHER 4",
            "VFIO_DEVICE_FEATURE_NEW = 4: the number is that of VFIO_DEVICE_FEATURE_OTHER "
            "in 9.10.2 (VFIO_DEVICE_FEATURE_*)",
            "",
        ),
        ("NEW 5", "VFIO_DEVICE_FEATURE_NEW = 4, which is 5 in 9.10.2", ""),
        ("OTHER 5", "", " is free in 9.10.2 (VFIO_DEVICE_FEATURE_*)"),
        ("NEW 4", "", ", as in 9.10.2"),
    ],
)
def test_number_has_to_be_free_in_the_newest_base(
    check: Check,
    tmp_path: Path,
    tree: Tree,
    monkeypatch: pytest.MonkeyPatch,
    theirs: str,
    text: str,
    note: str,
) -> None:
    line = ("FEATURE_OLD 3\n", f"FEATURE_OLD 3\n#define VFIO_DEVICE_FEATURE_{theirs}\n")
    newest = planted(tmp_path / "newest", edited(line), "9.10.2")
    monkeypatch.setattr(resolve, "resolve", lambda spec, *, stage: newest)
    ours = ("FEATURE_OLD 3\n", "FEATURE_OLD 3\n#define VFIO_DEVICE_FEATURE_NEW 4\n")
    findings, notes = check(edited(ours), tree=replace(tree, base="6.1"))
    assert texts(findings) == ([text] if text else [])
    assert notes == ([f"{PATH}: new: VFIO_DEVICE_FEATURE_NEW = 4{note}"] if note else [])


# ---- not judged ----------------------------------------------------------------------------------


def test_series_without_header_is_not_applicable(
    check: Check,
) -> None:
    with pytest.raises(NotApplicableError):
        check("int vfio;\n", path="drivers/vfio/vfio_main.c")


def test_header_of_another_architecture_is_not_judged(
    check: Check,
) -> None:
    with pytest.raises(CouldNotRunError, match="x86 alone"):
        check("int a;\n", path="arch/arm64/include/uapi/asm/toy.h")


@pytest.mark.usefixtures("quick")
def test_header_that_does_not_compile_in_the_base_is_not_judged(
    check: Check, tmp_path: Path
) -> None:
    tree = planted(tmp_path / "broken", "#include <stdlib.h>\n" + HEADER)
    with pytest.raises(CouldNotRunError, match="no changed header compiles in the base"):
        check("#include <stdlib.h>\n" + edited(("FEATURES 7", "FEATURES 8")), tree=tree)


@pytest.mark.usefixtures("quick")
def test_base_without_dummies_takes_those_of_the_newest(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "#include <stdlib.h>\n" + HEADER
    newest = planted(tmp_path / "newest", text, "9.10.2")
    (newest.path / "usr/dummy-include").mkdir(parents=True)
    (newest.path / "usr/dummy-include/stdlib.h").touch()
    monkeypatch.setattr(resolve, "resolve", lambda spec, *, stage: newest)
    tree = replace(planted(tmp_path / "older", text), base="6.1", tree_id="older")
    findings, _ = check(text.replace("FEATURES 7", "FEATURES 8"), tree=tree)
    assert texts(findings) == ["TOY_FEATURES is 8, was 7"]


# ---- cache and confinement -----------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_second_review_compiles_only_what_changed(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VFIO_ACPI_CACHE", str(tmp_path / "cache"))
    bad = edited(("TOY_FEATURES 7", "TOY_FEATURES 8"))
    first, second = (context_of(tmp_path, tree, PATH, (bad, last)) for last in (HEADER, bad + "\n"))
    found = [list(uapi.check(context)) for context in (first, second)]
    assert texts(found[0]) == texts(found[1]) != []
    assert (first.parts, first.reused) == (3, 0)
    assert (second.parts, second.reused) == (3, 2)


def test_header_cannot_read_the_user_s_files(check: Check, tmp_path: Path) -> None:
    (tmp_path / "secret.h").write_text("#define TOY_SECRET 1\n")
    findings, notes = check(
        edited(("TOY_FEATURES 7", f'TOY_FEATURES 7\n#include "{tmp_path}/secret.h"'))
    )
    assert "No such file" in findings[0].text
    assert not any("SECRET" in note for note in notes)


@pytest.mark.parametrize(
    "name, group", [("VFIO_IRQ_INFO_FLAG_MASK_X", "VFIO_IRQ_INFO_FLAG"), ("TOY_IRQ_ON", "TOY_IRQ")]
)
def test_stem_of_a_flag(name: str, group: str) -> None:
    assert numbers.stem(name) == group
