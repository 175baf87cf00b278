# SPDX-License-Identifier: GPL-2.0-only
"""The source lines of the frames of a report, with real objects and the real binutils."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from kpatch.build import lines
from kpatch.build.worktree import Worktree
from kpatch.errors import HarnessError
from kpatch.model import Applied, Change, Origin, Series, Tree
from kpatch.series import apply

# The comments name what is at the line.
HEADER = """\
int other(int a);
static inline int doubled(int a)
{
	return other(a) * 2;
}
"""
SOURCE = """\
#include <it.h>
int warm(int a)
{
	a = doubled(a); /* caller */
	return other(a) + 1; /* second */
}
__attribute__((cold)) int rare(int a)
{ /* begin */
	return other(a) - 1; /* rare */
}
"""
PLACES = {
    text: number
    for number, line in enumerate(SOURCE.splitlines(), 1)
    for text in re.findall(r"/\* (\w+) \*/", line)
}
STEM = "drivers/it/it"


@pytest.fixture
def applied(tmp_path: Path) -> Applied:
    # Names that make would not take as they are, and no sources of the kernel.
    odd = ("a$(shell touch x).c", "drivers/%.c", "a b.c", "tools/x.c", "Kconfig")
    changes = tuple(Change(name, SOURCE.encode()) for name in (f"{STEM}.c", *odd))
    tree = Tree(tmp_path, "7.3.4", "7.3", "folder", {}, "f" * 16, cached=False)
    series = Series("it", "it", "none", (), Origin.MBOX)
    return Applied(tree, series, (), changes, apply.delta_id(changes), ())


@pytest.fixture
def worktree(tmp_path: Path) -> Worktree:
    """The object, compiled out of tree as the kernel's are."""
    made = Worktree(tmp_path / "worktree")
    for folder in (made.src, made.obj):
        (folder / STEM).parent.mkdir(parents=True)
    (made.src / "include").mkdir()
    (made.src / "include" / "it.h").write_text(HEADER)
    (made.src / f"{STEM}.c").write_text(SOURCE)
    argv = ["gcc", "-g", "-O2", "-fno-pic", "-I../include", "-c", "-o", f"{STEM}.o"]
    argv.append(f"../{STEM}.c")
    subprocess.run(argv, cwd=made.obj, check=True)
    return made


@pytest.fixture
def known(tmp_path: Path, worktree: Worktree, applied: Applied) -> lines.Lines:
    lines.keep(worktree, applied, tmp_path / "kernel")
    return lines.Lines.of(tmp_path / "kernel" / "bzImage")


@pytest.mark.parametrize(
    ("told", "source"),
    [
        ("/build/source/.obj/../fs/a.c:12", "fs/a.c:12"),
        ("/build/source/fs/a.c:12 (discriminator 3)", "fs/a.c:12"),
        ("/some/where/worktrees/x/src/include/linux/a.h:7", "include/linux/a.h:7"),
        ("??:0", ""),
        ("fs/a.c:?", ""),
    ],
)
def test_the_path_is_that_in_the_tree(told: str, source: str) -> None:
    assert lines._source(told) == source


def after_call(worktree: Worktree, function: str, number: int) -> str:
    """Return the instruction after the call ``number`` as a trace has it, "f+0x1/0x20"."""
    argv = ["objdump", "-d", "--no-show-raw-insn", str(worktree.obj / f"{STEM}.o")]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    body = re.search(rf"^0*([0-9a-f]+) <{function}>:\n((?:.+\n)+)", text, re.MULTILINE)
    assert body is not None
    rows = re.findall(r"^ +([0-9a-f]+):\t(\w+)", body[2], re.MULTILINE)
    # A call in the last place is a jump: then there is no instruction after it.
    calls = [place for place, (_, name) in enumerate(rows) if name == "call"]
    return f"{function}+{int(rows[calls[number] + 1][0], 16) - int(body[1], 16):#x}/0x40"


def test_frames_have_their_lines(known: lines.Lines, worktree: Worktree) -> None:
    first, second = (after_call(worktree, "warm", number) for number in (0, 1))
    rare = after_call(worktree, "rare", 0)
    frames = (first, second, f"? {rare}", "schedule+0x1/0x20")
    trace = "".join(f"[    1.0]  {frame}\n" for frame in frames)
    caller = f"{STEM}.c:{PLACES['caller']}"
    expected = trace.replace(first, f"{first} (include/it.h:4, inlined at {caller})")
    expected = expected.replace(second, f"{second} ({STEM}.c:{PLACES['second']})")
    expected = expected.replace(rare, f"{rare} ({STEM}.c:{PLACES['rare']})")
    assert known.annotated(trace) == (expected, caller)


def test_the_faulting_instruction_is_at_its_own_address(known: lines.Lines) -> None:
    """The address before that of a function's first instruction belongs to no line, or another."""
    text, first = known.annotated("[    1.0] RIP: 0010:rare+0x0/0x40\n")
    assert (
        first == f"{STEM}.c:{PLACES['begin']}"
        and text == f"[    1.0] RIP: 0010:rare+0x0/0x40 ({first})\n"
    )


def test_a_function_that_is_there_twice(
    tmp_path: Path, known: lines.Lines, worktree: Worktree
) -> None:
    kept = tmp_path / "kernel" / lines.FOLDER / "drivers/it"
    (kept / "copy.o").write_bytes((kept / "it.o").read_bytes())
    trace = f"[    1.0]  {after_call(worktree, 'warm', 0)}\n"
    assert known.annotated(trace) == (trace, "")


def test_an_object_that_binutils_cannot_read(tmp_path: Path, known: lines.Lines) -> None:
    (tmp_path / "kernel" / lines.FOLDER / f"{STEM}.o").write_bytes(b"\x7fELF" + bytes(100))
    assert known.annotated("[    1.0]  warm+0x8/0x40\n") == ("[    1.0]  warm+0x8/0x40\n", "")


def test_a_kernel_without_a_series(tmp_path: Path) -> None:
    assert lines.Lines.of(tmp_path / "bzImage").annotated("f+0x1/0x2") == ("f+0x1/0x2", "")


# scripts/Makefile.lib asks in this way for the flags of an object of vmlinux, and of a module.
MAKEFILE = """\
target-stem = $(basename $(patsubst $(obj)/%,%,$@))
all: $(obj)/it.o $(obj)/other.o
$(obj)/%.o: ; @echo $@: [$(CFLAGS_KERNEL)] [$(CFLAGS_MODULE)]
"""


@pytest.mark.parametrize(("folder", "flags"), [("drivers/it", "[-g] [-g]"), ("drivers", "[] []")])
def test_touched_objects_alone_have_line_numbers(
    tmp_path: Path, applied: Applied, folder: str, flags: str
) -> None:
    (tmp_path / "Makefile").write_text(MAKEFILE)
    (tmp_path / "Top").write_text(f"all: ; @$(MAKE) --no-print-directory obj={folder}\n")
    assert "shell" not in "".join(lines.settings(applied))
    argv = ["make", "-s", "-f", "Top", *lines.settings(applied)]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{folder}/it.o: {flags}", f"{folder}/other.o: [] []"]
    assert lines.settings(replace(applied, changes=())) == ()


def test_a_link_to_another_file_is_not_followed(
    tmp_path: Path, worktree: Worktree, applied: Applied
) -> None:
    (tmp_path / "secret").write_text("secret")
    (worktree.obj / f"{STEM}.o").unlink()
    (worktree.obj / f"{STEM}.o").symlink_to(tmp_path / "secret")
    with pytest.raises(HarnessError, match="is not there as a regular file"):
        lines.keep(worktree, applied, tmp_path / "kernel")
