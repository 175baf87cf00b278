# SPDX-License-Identifier: GPL-2.0-only
"""The drift gate: it reports each difference between mirror and header in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from kpatch.abi import check, golden
from kpatch.abi.check import Mirror
from kpatch.abi.golden import Measured
from kpatch.abi.probe import Layout, Member
from kpatch.build import headers
from kpatch.build.headers import Header, Piece
from kpatch.errors import HarnessError
from kpatch.lib.progress import Progress
from kpatch.lib.stage import Silent
from kpatch.model import Applied, Change, Origin, Series, Tree
from kpatch.pipeline import Pipeline, RunRequest
from kpatch.series import apply, catalog
from kpatch.source import resolve
from kpatch.tables.bases import BASES
from kpatch.tables.outcomes import ExitCode
from tests.carried import CARRIED_KERNELS
from tests.commandline import HEAD, run

TYPES = """\
typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef signed int __s32;
__extension__ typedef unsigned long long __u64;
#define __aligned_u64 __u64 __attribute__((aligned(8)))
"""
HEADER = """\
#ifndef TOY_H
#define TOY_H
#include <toy/types.h>

#define TOY_BASE	100
#define TOY_GO		((';') << 8 | (TOY_BASE + 1))
#define TOY_BIT		(1ULL << 33)
#define TOY_TOP		(~0ULL)
#define TOY_NONE	-1
#define TOY_NAME	"toy" "_name"
#define TOY_CALL(x)	(x)
#define OTHER_BASE	1
enum { TOY_A, TOY_B, __TOY_END };

struct toy_set {
	__u32	argsz;
	__s32	fd;
	__aligned_u64 pointer;
	__u8	data[];
};
struct toy_event {
	char name[15];
	__u32	type;
};
struct other { __u32 x; };
#endif
"""
CONSTANTS: Mapping[str, int | str] = MappingProxyType(
    {
        "TOY_BASE": 100,
        "TOY_GO": 0x3B65,
        "TOY_BIT": 1 << 33,
        "TOY_TOP": (1 << 64) - 1,
        "TOY_NONE": -1,
        "TOY_NAME": "toy_name",
        "TOY_A": 0,
        "TOY_B": 1,
    }
)
SET = "struct toy_set { uint32_t argsz; int32_t fd; uint64_t pointer; uint8_t data[]; };"
EVENT = "struct toy_event { char name[15]; uint32_t type; };"
STRUCTURES: Mapping[str, str] = MappingProxyType({"toy_set": SET, "toy_event": EVENT})
TOY = Header("toy/toy.h", constants=r"TOY_\w+", structures=r"toy_\w+")


def found(
    folder: Path,
    *,
    header: str = HEADER,
    constants: Mapping[str, int | str] = CONSTANTS,
    structures: Mapping[str, str] = STRUCTURES,
    elsewhere: frozenset[str] = frozenset(),
    least: frozenset[str] = frozenset(),
) -> list[str]:
    """Return the gate's report for a mirror and a header."""
    (folder / "toy").mkdir()
    (folder / "toy/types.h").write_text(TYPES)
    (folder / "toy/toy.h").write_text(header)
    mirror = replace(Mirror.of(constants, structures), elsewhere=elsewhere, least=least)
    return check.compare(mirror, (folder,), [TOY]).lines("toy 1.0")


def test_a_mirror_that_is_right_passes(tmp_path: Path) -> None:
    assert found(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("TOY_BASE", 101, "100 in toy/toy.h, 101"),
        ("TOY_GO", 0x3B66, "15205 in toy/toy.h, 15206"),
        ("TOY_BIT", 1 << 32, "8589934592 in toy/toy.h, 4294967296"),
        ("TOY_BIT", 0, "8589934592 in toy/toy.h, 0"),
        ("TOY_TOP", (1 << 63) - 1, "18446744073709551615 in toy/toy.h, 9223372036854775807"),
        ("TOY_NONE", 1, "-1 in toy/toy.h, 1"),
        ("TOY_NAME", "toy", "'toy_name' in toy/toy.h, 'toy'"),
        ("TOY_NAME", 1, "'toy_name' in toy/toy.h, 1"),
        ("TOY_BASE", "100", "100 in toy/toy.h, '100'"),
        ("TOY_B", 2, "1 in toy/toy.h, 2"),
    ],
)
def test_wrong_constant(tmp_path: Path, name: str, value: int | str, shown: str) -> None:
    lines = found(tmp_path, constants={**CONSTANTS, name: value})
    assert lines == [f"toy 1.0, 64 and 32 bit: {name} is {shown} in the mirror"]


@pytest.mark.parametrize(("value", "fine"), [(99, True), (100, True), (101, False)])
def test_a_count_that_may_be_larger(tmp_path: Path, value: int, fine: bool) -> None:
    lines = found(
        tmp_path, constants={**CONSTANTS, "TOY_BASE": value}, least=frozenset({"TOY_BASE"})
    )
    told = "toy 1.0, 64 and 32 bit: TOY_BASE is 100 in toy/toy.h, at least 101 in the mirror"
    assert lines == ([] if fine else [told])


def test_a_later_kernel_may_have_more_indices() -> None:
    assert Mirror.for_kernel("7.3", "eventfd").least == {"VFIO_PCI_NUM_IRQS"}


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            EVENT.replace("15", "11"),
            [
                "struct toy_event has 20 bytes in toy/toy.h, 16 in the mirror",
                "toy_event.type is at offset 16 in toy/toy.h, 12 in the mirror",
                "toy_event.name is no char[11] in toy/toy.h, as it is in the mirror",
            ],
        ),
        (
            EVENT.replace("15", "16"),
            ["toy_event.name is no char[16] in toy/toy.h, as it is in the mirror"],
        ),
        (
            "struct toy_event { uint32_t type; char name[15]; };",
            [
                "toy_event.type is at offset 16 in toy/toy.h, 0 in the mirror",
                "toy_event.name is at offset 0 in toy/toy.h, 4 in the mirror",
            ],
        ),
        (
            EVENT.replace("uint32_t", "int32_t"),
            ["toy_event.type is no __s32 in toy/toy.h, as it is in the mirror"],
        ),
    ],
    ids=["size", "length", "offset", "sign"],
)
def test_wrong_layout(tmp_path: Path, event: str, line: list[str]) -> None:
    lines = found(tmp_path, structures={**STRUCTURES, "toy_event": event})
    assert sorted(lines) == sorted(f"toy 1.0, 64 and 32 bit: {one}" for one in line)


def test_a_layout_that_is_wrong_on_one_abi(tmp_path: Path) -> None:
    """On i386 a plain __u64 is aligned to 4 bytes."""
    header = HEADER.replace("__u32	type;", "__u32	type;\n	__u64	data;")
    event = EVENT.replace("uint32_t type;", "uint32_t type; uint64_t data;")
    lines = found(tmp_path, header=header, structures={**STRUCTURES, "toy_event": event})
    assert lines == [
        "toy 1.0, 32 bit: struct toy_event has 28 bytes in toy/toy.h, 32 in the mirror",
        "toy 1.0, 32 bit: toy_event.data is at offset 20 in toy/toy.h, 24 in the mirror",
    ]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("TOY_BASE	100", "TOY_BASIS 100", None),
        ("#define TOY_BIT		(1ULL << 33)\n", "", "TOY_BIT is in the mirror"),
        ("#define TOY_BIT		(1ULL << 33)\n", "#define TOY_BIT\n", "TOY_BIT is in the mirror"),
        ("TOY_B,", "", "TOY_B is in the mirror"),
        ("struct toy_event", "struct event", "struct toy_event is in the mirror"),
    ],
)
def test_missing_name(tmp_path: Path, old: str, new: str, line: str | None) -> None:
    assert old in HEADER
    if line is None:  # the name defines another one, so the header is no longer valid C
        with pytest.raises(HarnessError, match="TOY_BASE") as caught:
            found(tmp_path, header=HEADER.replace(old, new))
        assert caught.value.code == ExitCode.FAIL
        return
    lines = found(tmp_path, header=HEADER.replace(old, new))
    assert lines == [f"toy 1.0, 64 and 32 bit: {line}, but not in the headers"]


def test_an_unnamed_bit_field_is_padding(tmp_path: Path) -> None:
    header = HEADER.replace("	type;", "	type;\n	__u32	: 5;")
    event = EVENT.replace("type;", "type; uint32_t : 5;")
    assert found(tmp_path, header=header, structures={**STRUCTURES, "toy_event": event}) == []


def test_missing_member(tmp_path: Path) -> None:
    lines = found(tmp_path, header=HEADER.replace("	type;", "	kind;"))
    assert lines == [
        "toy 1.0, 64 and 32 bit: toy_event.type is in the mirror, but not in toy/toy.h",
        "toy 1.0, 64 and 32 bit: toy_event.kind is in toy/toy.h, but not in the mirror, "
        "which lacks it",
    ]


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("#define TOY_BASE", "#define TOY_MORE 1\n#define TOY_BASE", "TOY_MORE"),
        ("TOY_B,", "TOY_B, TOY_C,", "TOY_C"),
        ("struct other {", "struct toy_other {", "struct toy_other"),
    ],
)
def test_extra_name(tmp_path: Path, old: str, new: str, name: str) -> None:
    lines = found(tmp_path, header=HEADER.replace(old, new))
    assert lines == [
        f"toy 1.0, 64 and 32 bit: {name} is in toy/toy.h, but not in the mirror, which lacks it"
    ]


def test_extra_name_that_other_kernels_have(tmp_path: Path) -> None:
    header = HEADER.replace("TOY_B,", "TOY_B, TOY_C,")
    lines = found(tmp_path, header=header, elsewhere=frozenset({"TOY_C"}))
    assert lines[0].endswith("not in the mirror, which has it for other kernels only")


def test_a_header_that_is_not_there(tmp_path: Path) -> None:
    mirror = Mirror.of(CONSTANTS, STRUCTURES)
    with pytest.raises(HarnessError, match=r"toy/toy\.h: No such file") as caught:
        check.compare(mirror, (tmp_path,), [TOY])
    assert caught.value.code == ExitCode.FAIL


def test_a_header_that_only_gcc_understands(tmp_path: Path) -> None:
    with pytest.raises(
        HarnessError, match=r"toy/toy\.h: cannot be parsed at 'char __private"
    ) as one:
        found(tmp_path, header=HEADER.replace("char name", "char __private name"))
    assert one.value.code == ExitCode.FAIL


def test_what_is_measured(tmp_path: Path) -> None:
    assert found(tmp_path) == []
    measured = check.compare(Mirror.of(CONSTANTS, STRUCTURES), (tmp_path,), [TOY]).abis
    assert measured[64].constants == measured[32].constants == dict(CONSTANTS)
    for width in (64, 32):
        assert measured[width].structures["toy_set"] == Layout(
            16,
            8,
            {
                "argsz": Member(0, 4),
                "fd": Member(4, 4),
                "pointer": Member(8, 8),
                "data": Member(16, 0),
            },
        )
        assert measured[width].types["toy_event"] == {"name": "char[15]", "type": "u32"}


# ---- excerpts and their cache ----


def test_an_excerpt_is_the_source_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "event.c").write_text("int a;\nstruct x {\n	int y;\n};\nstatic int b;\n")
    assert (
        Piece("event.c", r"^struct x \{.*?^\};\n").cut(tmp_path) == "struct x {\n	int y;\n};\n"
    )


@pytest.mark.parametrize("path", ["event.c", "gone.c"])
def test_a_declaration_that_moved_is_told(tmp_path: Path, path: str) -> None:
    (tmp_path / "event.c").write_text("struct y;\n")
    with pytest.raises(HarnessError, match=rf"{path}: nothing in it is like") as caught:
        Piece(path, r"^struct x \{").cut(tmp_path)
    assert caught.value.code == ExitCode.FAIL


def test_an_excerpt_is_made_only_where_there_is_no_header(tmp_path: Path) -> None:
    for header in headers.HEADERS:
        for piece in header.pieces:
            path = tmp_path / piece.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (tmp_path / "include/acpi/acpi_bus.h").write_text("typedef char acpi_device_class[20];\n")
    (tmp_path / "drivers/acpi/event.c").write_text(
        "struct acpi_genl_event {\n};\nstatic const struct genl_multicast_group a;\n"
    )
    (tmp_path / "include/linux/eventfd.h").write_text("#define EFD_SEMAPHORE (1 << 0)\n")
    headers.excerpts(tmp_path, tmp_path / "without")
    (tmp_path / "include/uapi/linux").mkdir(parents=True)
    (tmp_path / "include/uapi/linux/eventfd.h").touch()
    headers.excerpts(tmp_path, tmp_path / "with")
    made = [sorted(p.name for p in tmp_path.glob(f"{one}/*/*")) for one in ("without", "with")]
    assert made == [["acpi_event.h", "eventfd.h"], ["acpi_event.h"]]


def applied(*changes: Change, tree: str = "t") -> Applied:
    one = Tree(Path("/nowhere"), "7.3.4", "7.3", "folder", {}, tree, cached=True)
    return Applied(one, Series("s", "", "none", (), Origin.CONTROL), (), changes, "d")


def test_kernels_share_headers_that_no_patch_changes() -> None:
    pristine = headers.headers_id(applied())
    driver = Change("drivers/vfio/pci/vfio_pci_core.c", b"x")
    assert headers.headers_id(applied(driver)) == pristine
    for path in ("include/uapi/linux/vfio.h", "drivers/acpi/event.c", "Makefile"):
        one, other = (headers.headers_id(applied(Change(path, text))) for text in (b"x", b"y"))
        assert len({one, other, pristine}) == 3, path
    assert headers.headers_id(applied(tree="u")) != pristine


# ---- golden JSON ----

ONE = Measured({"A": 1, "T": "x"}, {"s": Layout(4, 4, {"m": Member(0, 4)})}, {"s": {"m": "u32"}})
TWO = replace(ONE, constants={"A": 2, "T": "x"})


def abis(one: Measured) -> golden.Abis:
    return {64: one, 32: one}


def test_series_with_the_same_headers_share_a_file(tmp_path: Path) -> None:
    measured = {"base": abis(ONE), "eventfd": abis(TWO), "netlink": abis(ONE)}
    written = golden.write("9.9", measured, folder=tmp_path)
    assert {path.name for path in written} == {"9.9-base.json", "9.9-eventfd.json"}
    assert json.loads((tmp_path / "9.9-base.json").read_text())["series"] == ["base", "netlink"]
    for name, one in measured.items():
        assert list(golden.differences("9.9", name, one, folder=tmp_path)) == []


def test_writing_again_changes_nothing_and_removes_what_is_stale(tmp_path: Path) -> None:
    golden.write("9.9", {"base": abis(ONE), "new": abis(TWO)}, folder=tmp_path)
    (tmp_path / "9.8-base.json").write_text("{}")
    assert golden.write("9.9", {"base": abis(ONE), "new": abis(TWO)}, folder=tmp_path) == []
    assert golden.write("9.9", {"base": abis(ONE)}, folder=tmp_path) == [tmp_path / "9.9-new.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["9.8-base.json", "9.9-base.json"]


def test_a_golden_json_that_differs(tmp_path: Path) -> None:
    golden.write("9.9", {"base": abis(ONE)}, folder=tmp_path)
    assert list(golden.differences("9.9", "base", {64: ONE, 32: TWO}, folder=tmp_path)) == [
        "uapi/golden/9.9-base.json: constants.A is 1 at 32 bit, measured: 2"
    ]
    grown = replace(ONE, structures={"s": Layout(8, 4, {"m": Member(0, 4), "n": Member(4, 4)})})
    grown = replace(grown, types={"s": {"m": "u32", "n": "u32"}})
    assert list(golden.differences("9.9", "base", {64: grown}, folder=tmp_path)) == [
        "uapi/golden/9.9-base.json: structures.s.size is 4 at 64 bit, measured: 8",
        "uapi/golden/9.9-base.json: structures.s.members.1 is missing at 64 bit, "
        "measured: something",
    ]
    less = replace(ONE, constants={"A": 1})
    assert list(golden.differences("9.9", "base", {64: less}, folder=tmp_path)) == [
        "uapi/golden/9.9-base.json: constants.T is 'x' at 64 bit, measured: missing"
    ]


def test_no_golden_json(tmp_path: Path) -> None:
    assert list(golden.differences("9.9", "base", abis(ONE), folder=tmp_path)) == [
        "no 9.9-*.json in uapi/golden is of the series base"
    ]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"series": 1, "abis": {}}'])
def test_a_damaged_golden_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "9.9-base.json").write_text(text)
    with pytest.raises(HarnessError, match=r"9\.9-base\.json: is damaged"):
        list(golden.differences("9.9", "base", abis(ONE), folder=tmp_path))


def applier(kernel: str, series: Sequence[str]) -> Iterator[Applied]:
    pipeline = Pipeline(RunRequest(kernel=kernel, series=tuple(series)), Progress())
    return map(pipeline.apply, pipeline.names())


def test_golden_json_is_only_written_whole() -> None:
    with pytest.raises(HarnessError, match="needs all series") as caught:
        check.compare_kernels(["7.3"], applier, series=["eventfd"], write=True, progress=Progress())
    assert caught.value.code == ExitCode.USAGE


# ---- the kernels ----


@pytest.mark.trees
@pytest.mark.parametrize(
    ("kernel_tree", "name"),
    [*((base, catalog.BASE) for base in BASES), *CARRIED_KERNELS],
    indirect=["kernel_tree"],
)
def test_no_drift(kernel_tree: tuple[str, Path], name: str) -> None:
    base, _ = kernel_tree
    outcome = check.compare_kernels([base], applier, series=[name], jobs=2, progress=Progress())
    assert outcome.differences == []
    assert outcome.kernels == 1


PATCH = f"""\
{HEAD}diff --git a/include/uapi/linux/vfio.h b/include/uapi/linux/vfio.h
--- a/include/uapi/linux/vfio.h
+++ b/include/uapi/linux/vfio.h
@@ -538,3 +538,4 @@
 #define VFIO_IRQ_INFO_EVENTFD		(1 << 0)
 #define VFIO_IRQ_INFO_MASKABLE		(1 << 1)
+#define VFIO_IRQ_INFO_NEW		(1 << 4)
 #define VFIO_IRQ_INFO_AUTOMASKED	(1 << 2)
"""


@pytest.mark.trees
def test_a_series_that_adds_a_name(kernel_tree: tuple[str, Path], tmp_path: Path) -> None:
    base, _ = kernel_tree
    (tmp_path / "new.mbox").write_text(PATCH)
    argv = ["drift", "--kernel", base, "--series", str(tmp_path / "new.mbox")]
    ended = run(*argv, out=tmp_path / "out")
    assert ended.code == ExitCode.FAIL
    first, counts, last = ended.stdout.splitlines()
    assert re.fullmatch(
        rf"drift: {re.escape(base)}\.\d+ new, 64 and 32 bit: VFIO_IRQ_INFO_NEW is in linux/vfio.h, "
        "but not in the mirror, which lacks it",
        first,
    )
    assert counts == "kernels: 1, differences: 1"
    assert last.startswith("exit 1: ")


MOVED = f"""\
{HEAD}diff --git a/drivers/acpi/event.c b/drivers/acpi/event.c
--- a/drivers/acpi/event.c
+++ b/drivers/acpi/event.c
@@ -53,4 +53,4 @@
 static unsigned int acpi_event_seqnum;
-struct acpi_genl_event {{
+struct acpi_other_event {{
 \tacpi_device_class device_class;
 \tchar bus_id[15];
"""


@pytest.mark.trees
def test_a_series_that_moves_a_declaration(kernel_tree: tuple[str, Path], tmp_path: Path) -> None:
    """The gate reports it; a caller that only needs the installed headers gets them."""
    base, _ = kernel_tree
    mbox = tmp_path / "moved.mbox"
    mbox.write_text(MOVED)
    one = catalog.load_file(mbox, mechanism="none")
    kernel = apply.apply(resolve.resolve(base, stage=Silent()), one, stage=Silent())
    installed = headers.install(kernel, jobs=2, stage=Silent())
    assert (installed.path / "include/linux/vfio.h").is_file()
    with pytest.raises(
        HarnessError, match=r"drivers/acpi/event\.c: nothing in it is like"
    ) as error:
        installed.require_complete()
    assert error.value.code is ExitCode.FAIL


@pytest.mark.trees
def test_drift_of_the_real_mirror_shows(kernel_tree: tuple[str, Path]) -> None:
    """Differences planted in the mirror, for each base with the eventfd series."""
    base, _ = kernel_tree
    one = catalog.load("eventfd", base)
    kernel = apply.apply(resolve.resolve(base, stage=Silent()), one, stage=Silent())
    installed = headers.install(kernel, jobs=2, stage=Silent())
    right = Mirror.for_kernel(base, one.mechanism)

    def lines(wrong: Mirror) -> list[str]:
        report = check.compare(wrong, installed.folders, installed.headers)
        return [line.partition(": ")[2] for line in report.lines(base)]

    assert lines(right) == []
    constants = {**right.constants, "VFIO_PCI_ACPI_IRQ_INDEX": 6}
    assert lines(replace(right, constants=constants)) == [
        "VFIO_PCI_ACPI_IRQ_INDEX is 5 in linux/vfio.h, 6 in the mirror"
    ]
    constants = {**right.constants, "VFIO_GROUP_NEW": 1}
    assert lines(replace(right, constants=constants)) == [
        "VFIO_GROUP_NEW is in the mirror, but not in the headers"
    ]
    constants = {name: one for name, one in right.constants.items() if name != "EFD_NONBLOCK"}
    (line,) = lines(replace(right, constants=constants))
    assert line.startswith("EFD_NONBLOCK is in ")
    event = right.structs["acpi_genl_event"]
    short = replace(event, size=40)
    assert lines(replace(right, structs={**right.structs, "acpi_genl_event": short})) == [
        "struct acpi_genl_event has 44 bytes in excerpt/acpi_event.h, 40 in the mirror"
    ]
    moved = {**event.fields, "type": replace(event.fields["type"], offset=35)}
    without_pad = replace(event, fields=moved)
    assert lines(replace(right, structs={**right.structs, "acpi_genl_event": without_pad})) == [
        "acpi_genl_event.type is at offset 36 in excerpt/acpi_event.h, 35 in the mirror"
    ]
