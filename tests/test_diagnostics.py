# SPDX-License-Identifier: GPL-2.0-only
"""Warnings of a build by identity, and which state of a series brings them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from kpatch.build import diagnostics
from kpatch.build.diagnostics import Diagnostic

SOURCE = """\
struct s { int a; };

int before;

static int one(int x)
{
	int unused;
label:
	return x;
}

SYSCALL_DEFINE2(two, int, a,
		int, b)
{
	return a;
}

static struct ops ops = {
	.a = one(1),
};
"""

LOG = """\
make[1]: Entering directory '/src/.obj'
  CC      drivers/a.o
../drivers/a.c: In function 'one':
../drivers/a.c:7:6: warning: unused variable 'unused' [-Wunused-variable]
    7 |  int unused;
      |      ^~~~~~
/src/drivers/a.c:14:6: warning: set at drivers/a.c:3:1, on line 12 [-Wx=]
  CC      drivers/b.o
  CC [M]  drivers/c.o
Warning: /src/drivers/a.c:5 function parameter 'x' not described in 'one'
  CHECK   ../drivers/a.c
../drivers/a.c:9:9: warning: incorrect type in return expression (different base types)
../drivers/a.c:9:9:    expected int
../drivers/a.c:9:9:    got restricted __le32 [usertype]
../drivers/a.c:18:7: error: bad constant expression
  OBJTOOL vmlinux.o
drivers/a.o: warning: objtool: one+0x12: unreachable instruction
  MODPOST Module.symvers
WARNING: modpost: vmlinux: section mismatch in reference: one+0x8 (section: .text)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "drivers").mkdir()
    for name in ("a", "c"):
        (tmp_path / f"drivers/{name}.c").write_text(SOURCE)
    return tmp_path


def parsed(source: Path, text: str = LOG) -> dict[str, tuple[Diagnostic, ...]]:
    return diagnostics.parse(text.replace("/src", str(source)), source=source)


def shown(found: tuple[Diagnostic, ...]) -> list[tuple[object, ...]]:
    return [(one.file, one.line, one.function, one.flag, one.text) for one in found]


def test_warnings_belong_to_their_step(source: Path) -> None:
    found = parsed(source)
    assert shown(found["CC drivers/a.o"]) == [
        ("drivers/a.c", 7, "one", "-Wunused-variable", "unused variable 'unused'"),
        ("drivers/a.c", 14, "two", "-Wx=", "set at drivers/a.c:3:1, on line 12"),
    ]
    assert found["CC drivers/a.o"][0].details == ("    7 |  int unused;", "      |      ^~~~~~")
    assert found["CC drivers/b.o"] == ()
    assert list(parsed(source, "  CC      /src/drivers/a.o\n")) == ["CC drivers/a.o"]
    assert shown(found["CC [M] drivers/c.o"]) == [
        ("drivers/a.c", 5, "one", "kernel-doc", "function parameter 'x' not described in 'one'")
    ]


def test_warnings_before_the_first_step(source: Path) -> None:
    found = parsed(source, "Kconfig:5:warning: odd\n  CC      drivers/b.o\n")
    assert {step: shown(warnings) for step, warnings in found.items()} == {
        "": [("Kconfig", 5, "", "", "odd")],
        "CC drivers/b.o": [],
    }


def test_sparse_continues_a_warning_in_further_lines(source: Path) -> None:
    first, second = parsed(source)["CHECK drivers/a.c"]
    assert first.text == (
        "incorrect type in return expression (different base types); expected int;"
        " got restricted __le32 [usertype]"
    )
    assert (second.error, second.function, second.text) == (True, "", "bad constant expression")


def test_warnings_of_objtool_and_modpost(source: Path) -> None:
    found = parsed(source)
    [of_objtool], [of_modpost] = found["OBJTOOL vmlinux.o"], found["MODPOST Module.symvers"]
    assert of_objtool.identity == (
        "drivers/a.c",
        "one",
        "",
        "objtool: one: unreachable instruction",
    )
    assert of_modpost.identity == (
        "",
        "",
        "",
        "WARNING: modpost: vmlinux: section mismatch in reference: one (section: .text)",
    )


@pytest.mark.parametrize(
    ("object_file", "file"),
    [("drivers/a.o", "drivers/a.c"), ("/src/drivers/a.o", "drivers/a.c"), ("lib.o", "lib.o")],
)
def test_file_of_a_warning_of_objtool(object_file: str, file: str, source: Path) -> None:
    text = f"  LD      x.o\n{object_file}: warning: objtool: .text: unexpected end of section\n"
    [found] = parsed(source, text)["LD x.o"]
    assert (found.file, found.function) == (file, "")


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (1, ""),
        (3, ""),
        (5, "one"),
        (7, "one"),
        (9, "one"),
        (10, "one"),
        (11, ""),
        (14, "two"),
        (18, ""),
        (20, ""),
    ],
)
def test_function_around_a_line(line: int, name: str) -> None:
    assert diagnostics.function_at(SOURCE, line) == name


def test_function_that_a_macro_without_a_name_defines() -> None:
    assert diagnostics.function_at("DEFINE_ONE()\n{\n", 2) == "DEFINE_ONE"


def test_source_in_latin_1_is_read(source: Path) -> None:
    (source / "drivers/a.c").write_bytes(SOURCE.encode().replace(b"unused", b"\xe4", 1))
    assert parsed(source)["CC drivers/a.o"][0].function == "one"


def test_identity_survives_lines_added_elsewhere(source: Path) -> None:
    before = parsed(source)["CC drivers/a.o"]
    (source / "drivers/a.c").write_text("/* new */\n" * 3 + SOURCE)
    moved = (
        LOG.replace(":7:", ":10:")
        .replace(":14:", ":17:")
        .replace(":3:1, on line 12", ":6:1, on line 15")
    )
    after = parsed(source, moved)["CC drivers/a.o"]
    assert [one.line for one in after] == [10, 17]
    assert [one.identity for one in after] == [one.identity for one in before]


@pytest.mark.parametrize(
    "text",
    [
        "the frame size of {} bytes is larger than 1024 bytes",
        "call to '__compiletime_assert_{}' declared with attribute error",
        "unused variable '__UNIQUE_ID_x{}'",
        "'f' redeclared, see include/a.h:{}",
    ],
)
def test_numbers_that_move_are_no_part_of_an_identity(text: str) -> None:
    assert diagnostics.stable(text.format(1200)) == diagnostics.stable(text.format(1304))


def test_numbers_that_say_something_are_part_of_it() -> None:
    assert diagnostics.stable("index 5 of 'int[4]'") != diagnostics.stable("index 6 of 'int[4]'")


def test_file_outside_of_the_tree_is_not_read(source: Path) -> None:
    outside = source.parent / "secret.c"
    outside.write_text(SOURCE)
    (source / "drivers/link.c").symlink_to(outside)
    for name in ("../secret.c", "drivers/link.c", str(outside)):
        [found] = parsed(source, f"  CC      x.o\n{name}:7:1: warning: odd\n")["CC x.o"]
        assert found.function == ""


def test_record_keeps_what_was_not_compiled_again(source: Path) -> None:
    record = diagnostics.renewed({}, parsed(source), source=source)
    (source / "drivers/c.c").unlink()
    again = parsed(source, "  CC      drivers/a.o\n")
    record = diagnostics.renewed(record, again, source=source)
    assert sorted(record) == ["CHECK drivers/a.c", "MODPOST Module.symvers", "OBJTOOL vmlinux.o"]


def test_record_of_some_objects(source: Path) -> None:
    steps = [*parsed(source), "CC drivers/a.b.o"]
    found = dict.fromkeys(steps, parsed(source)["MODPOST Module.symvers"])
    part = diagnostics.of_objects(found, ["drivers/a.o", "drivers/c.o", "vmlinux.o"])
    assert list(part) == ["CC drivers/a.o", "CC [M] drivers/c.o", "CHECK drivers/a.c"]
    assert list(diagnostics.of_objects(found, ["drivers/a.b.o"])) == ["CC drivers/a.b.o"]
    assert part == {step: found[step] for step in part}


def test_record_by_identity() -> None:
    again = dataclasses.replace(A, line=9)
    found = diagnostics.by_identity({"CC b.o": (A, B), "CC a.o": (again, C)})
    assert found == {A.identity: A, C.identity: C, B.identity: B}
    assert list(found) == [A.identity, C.identity, B.identity], "in the order of the steps"


def test_record_is_read_as_it_was_written(source: Path, tmp_path: Path) -> None:
    record = diagnostics.renewed({}, parsed(source), source=source)
    path = tmp_path / diagnostics.NAME
    diagnostics.write(path, record)
    assert diagnostics.read(path) == record
    path.write_text("[1]")
    assert diagnostics.read(path) == diagnostics.read(tmp_path / "none") == {}


def test_kernel_doc_has_a_check_of_its_own(source: Path) -> None:
    before_7_3 = "drivers/a.c:5: warning: Function parameter or member 'x' not described in 'one'"
    header = before_7_3.replace("a.c", "a.h")
    other = "drivers/a.c:5:1: warning: odd\nKconfig:5: warning: odd\na.c:5: Warning: odd"
    text = f"  CC      x.o\n{before_7_3}\n{header}\n{other}\n{LOG.splitlines()[9]}\n"
    found = parsed(source, text)["CC x.o"]
    kept = diagnostics.without_kernel_doc({"CC x.o": found})["CC x.o"]
    assert (len(found), [(one.text, one.flag) for one in kept]) == (6, [("odd", "")] * 3)


A, B, C = (Diagnostic("a.c", 1, "f", "", text) for text in "abc")


def told(*states: tuple[Diagnostic, ...] | None) -> list[tuple[int, int, str]]:
    found = [None if state is None else {one.identity: one for one in state} for state in states]
    return sorted((brought, gone, one.text) for brought, gone, one in diagnostics.new(found))


def test_new_warning_lands_on_the_patch_that_brings_it() -> None:
    assert told((A,), (A, B), (A, B), (A, B, C)) == [(1, 0, "b"), (3, 0, "c")]


def test_warning_that_is_replaced_by_another_is_new() -> None:
    assert told((A,), (B,)) == [(1, 0, "b")]


def test_warning_that_a_later_patch_takes_away() -> None:
    assert told((A,), (A, B), (B,), (A,)) == [(1, 3, "b")]
    assert told((), (A,), (), (A,)) == [(1, 0, "a")]


def test_state_that_does_not_build_has_unknown_warnings() -> None:
    assert told((), None, (A,), None, ()) == [(2, 4, "a")]
    assert told((), (A,), None) == [(1, 0, "a")]


def test_no_warning_is_new_if_those_of_the_base_are_unknown() -> None:
    assert told(None, (A,), (A, B)) == told(None) == []
