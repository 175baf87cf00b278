# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own selftests: when they are built anew, how they fail to, and what they say."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kpatch import cache, selftests
from kpatch.errors import HarnessError
from kpatch.model import Applied, Change, Config, Kernel, Series, Tree
from kpatch.outcomes import ExitCode
from kpatch.stage import Silent
from ktests import ktap
from tests import kerneltree

TAP = Path(__file__).parent / "data" / "selftests"
SUITE = "tools/testing/selftests/vfio"

# As much of the top Makefile as installs a header.
TOP = """
headers:
\tmkdir -p $(O)/usr/include/linux
\tcp include/uapi/linux/vfio.h $(O)/usr/include/linux
"""

# What kpatch.headers cuts declarations out of.
EXCERPTS = {
    "include/uapi/linux/eventfd.h": "",
    "include/acpi/acpi_bus.h": "typedef char acpi_device_class[20];\n",
    "drivers/acpi/event.c": "struct acpi_genl_event {\n};\n"
    "static const struct genl_multicast_group acpi_event_mcgrps[] = {\n",
}

# As much of the suite's as compiles and links with what lib.mk is told.
MAKEFILE = """
all: $(OUTPUT)/vfio_test
$(OUTPUT)/%: %.c
\tmkdir -p $(OUTPUT)/libvfio
\t$(CC) $(KHDR_INCLUDES) -c $< -o $@.o
\t$(CC) $(USERLDFLAGS) $@.o -o $@
"""

PROGRAM = """
#include <stdio.h>
#include <linux/vfio.h>
int main(void) { return puts(VFIO_ACPI_TEST) < 0; }
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFIO_ACPI_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A tree that has a suite of one program."""
    folder = kerneltree.make(tmp_path / "linux")
    with (folder / "Makefile").open("a") as makefile:
        makefile.write(TOP)
    files = {
        "include/uapi/linux/vfio.h": '#define VFIO_ACPI_TEST "of the tree"\n',
        f"{SUITE}/Makefile": MAKEFILE,
        f"{SUITE}/vfio_test.c": PROGRAM,
        **EXCERPTS,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return Tree(folder, "9.9.1", "9.9", "folder", {}, "t" * 16, cached=True)


def kernel(tree: Tree, *changes: Change) -> Kernel:
    """A kernel of the tree with a series that makes these changes."""
    series = Series("mine", "a series", "netlink", ())
    delta = cache.digest(f"{change.path} {change.content!r}" for change in changes)
    applied = Applied(tree, series, (), changes, delta)
    config = Config("plain", "", "c", cached=True)
    return Kernel(applied, config, "gcc 12", Path("/nonexistent"), "k", cached=True)


def write(path: str, text: str) -> Change:
    return Change(path, text.encode())


def build(kernel: Kernel) -> selftests.Selftests:
    return selftests.build(kernel, jobs=2, stage=Silent())


def said(built: selftests.Selftests, at: Path) -> str:
    """What the one program in the image prints."""
    argv = ["fsck.erofs", f"--extract={at}", str(built.image)]
    subprocess.run(argv, check=True, capture_output=True)
    assert [path.name for path in at.iterdir()] == ["vfio_test"], "no object, no folder"
    return subprocess.run([at / "vfio_test"], check=True, capture_output=True, text=True).stdout


def test_programs_are_of_the_tree_with_the_series(tree: Tree, tmp_path: Path) -> None:
    plain = build(kernel(tree))
    assert not plain.cached
    assert said(plain, tmp_path / "plain") == "of the tree\n"
    assert "-static" in plain.log.read_text()
    change = write("include/uapi/linux/vfio.h", '#define VFIO_ACPI_TEST "of the series"\n')
    patched = build(kernel(tree, change))
    assert said(patched, tmp_path / "patched") == "of the series\n"
    again = build(kernel(tree))
    assert again == replace(plain, cached=True)
    kept = {path.name for path in plain.image.parent.iterdir()}
    assert kept == {"image.erofs", "build.log"}


def test_library_is_in_the_program(tree: Tree, tmp_path: Path) -> None:
    """The guest has none of the host's."""
    built = build(kernel(tree))
    said(built, tmp_path / "out")
    argv = ["ldd", str(tmp_path / "out" / "vfio_test")]
    linked = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "not a dynamic executable" in linked.stderr + linked.stdout


@pytest.mark.parametrize(
    ("path", "matters"),
    [
        ("include/uapi/linux/vfio.h", True),
        ("arch/x86/include/uapi/asm/kvm.h", True),
        ("arch/x86/entry/syscalls/syscall_64.tbl", True),
        (f"{SUITE}/vfio_test.c", True),
        ("tools/include/linux/kernel.h", True),
        ("Makefile", True),
        ("drivers/dma/ioat/hw.h", True),
        ("drivers/net/ethernet/intel/igb/e1000_regs.h", True),
        ("drivers/vfio/pci/vfio_pci_core.c", False),
        ("drivers/vfio/pci/Makefile", False),
        ("include/linux/vfio_pci_core.h", False),
        ("Documentation/driver-api/vfio.rst", False),
        ("fs/eventfd.c", False),
    ],
)
def test_key_follows_what_is_compiled(tree: Tree, path: str, matters: bool) -> None:
    plain = selftests.key(kernel(tree))
    one, other = (selftests.key(kernel(tree, write(path, text))) for text in ("a", "b"))
    assert len({plain, one, other}) == (3 if matters else 1)
    assert (selftests.key(kernel(tree, Change(path, None))) != plain) is matters


def test_key_follows_tree_and_compiler(tree: Tree) -> None:
    one = kernel(tree)
    keys = {
        selftests.key(each)
        for each in (
            one,
            kernel(replace(tree, tree_id="u" * 16)),
            replace(one, compiler="gcc 13"),
        )
    }
    assert len(keys) == 3
    assert selftests.key(replace(one, kernel_id="other", config=replace(one.config, text="x"))) in (
        keys
    )


def test_present(tree: Tree) -> None:
    makefile = f"{SUITE}/Makefile"
    assert selftests.present(kernel(tree).applied)
    assert not selftests.present(kernel(tree, Change(makefile, None)).applied)
    (tree.path / makefile).unlink()
    assert not selftests.present(kernel(tree).applied)
    assert selftests.present(kernel(tree, write(makefile, MAKEFILE)).applied)


@pytest.mark.parametrize(
    ("change", "cause", "detail"),
    [
        (
            write(f"{SUITE}/vfio_test.c", "int main(void)\n{ return VFIO_NEW; }\n"),
            "vfio_test.c:2: ‘VFIO_NEW’ undeclared",
            "return VFIO_NEW",
        ),
        (write("include/uapi/linux/vfio.h", ""), "vfio_test.c:4: ‘VFIO_ACPI_TEST’", "puts"),
        (write(f"{SUITE}/Makefile", "all:\n"), "builds no program", ""),
    ],
)
def test_failure_is_told(tree: Tree, change: Change, cause: str, detail: str) -> None:
    with pytest.raises(HarnessError) as failed:
        build(kernel(tree, change))
    error = failed.value
    assert error.code is ExitCode.BUILD
    assert error.what == "selftests of series mine"
    assert cause.replace("‘", "'").replace("’", "'") in str(error).replace("‘", "'").replace(
        "’", "'"
    )
    assert detail in error.details
    log = Path(error.mend.removeprefix("see "))
    assert log.is_file(), "the log is kept"
    assert list((cache.root() / "selftests").glob(".*")) == [], "and nothing else"


def test_pristine_tree_stays_pristine(tree: Tree) -> None:
    def files() -> dict[str, str]:
        return {
            str(path): path.read_text()
            for path in sorted(tree.path.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }

    before = files()
    build(kernel(tree, write("include/uapi/linux/vfio.h", '#define VFIO_ACPI_TEST "s"\n')))
    assert files() == before


@pytest.mark.trees
def test_trees_that_have_the_suite(kernel_tree: tuple[str, Path]) -> None:
    base, path = kernel_tree
    tree = Tree(path, base, base, "debian", {}, "t", cached=True)
    assert selftests.present(kernel(tree).applied) is (base == "7.3")


# What they print.


def test_a_failure_has_its_lines() -> None:
    report = ktap.parse(
        "TAP version 13\n1..2\n# Starting 2 tests from 1 test cases.\n"
        "#  RUN           a.one ...\n"
        "# t.c:9:one:Expected 0 (0) == ret (-22)\n# one: Test terminated by assertion\n"
        "#          FAIL  a.one\nnot ok 1 a.one\n"
        "#  RUN           a.b.two ...\nprinted by the test\n"
        "#            OK  a.b.two\nok 2 a.b.two\n"
        "# FAILED: 1 / 2 tests passed.\n# Totals: pass:1 fail:1 xfail:0 xpass:0 skip:0 error:0\n"
    )
    assert report.planned == len(report.cases) == 2
    [failed] = report.failed
    assert failed.name == "a.one"
    assert "# t.c:9:one:Expected 0 (0) == ret (-22)" in failed.lines
    assert "printed by the test" in report.cases[1].lines
    assert report.rest[0] == "# FAILED: 1 / 2 tests passed."


@pytest.mark.parametrize(
    ("line", "ok", "directive", "why"),
    [
        ("ok 1 a.b", True, "", ""),
        ("not ok 1 a.b", False, "", ""),
        ("ok 1 a.b # SKIP no reset", True, "SKIP", "no reset"),
        ("ok 1 a.b # SKIP", True, "SKIP", ""),
        ("not ok 12 a.b # XFAIL known", False, "XFAIL", "known"),
        ("ok 1 a.b # SKIPPED is no directive", True, "", ""),
    ],
)
def test_result_lines(line: str, ok: bool, directive: str, why: str) -> None:
    [case] = ktap.parse(f"1..1\n{line}\n").cases
    assert (case.name, case.ok, case.directive, case.why) == ("a.b", ok, directive, why)


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda text: text, "whole"),
        (lambda text: text[: text.index("ok 2")], "died in the middle"),
        (lambda text: text.replace("1..2", ""), "no plan"),
        (lambda text: "", "nothing at all"),
    ],
)
def test_plan_shows_what_is_missing(spoil: Callable[[str], str], what: str) -> None:
    report = ktap.parse(spoil("TAP version 13\n1..2\nok 1 a\nok 2 b\n"))
    assert (report.planned == len(report.cases)) is (what == "whole")


def test_an_unexpected_success_is_a_failure() -> None:
    assert [case.name for case in ktap.parse("1..1\nok 1 a # XPASS\n").failed] == ["a"]
