# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own selftests: when they are rebuilt, how a build fails, and their output."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kpatch.build import selftests
from kpatch.errors import HarnessError
from kpatch.lib import cache
from kpatch.lib.stage import Silent
from kpatch.model import Applied, Change, Config, Kernel, Origin, Series, Tree
from kpatch.tables.outcomes import ExitCode
from ktests import ktap
from tests import kerneltree

TAP = Path(__file__).parent / "data" / "selftests"
SUITE = "tools/testing/selftests/vfio"

# The part of the top Makefile that installs a header.
TOP = """
headers:
\tmkdir -p $(O)/usr/include/linux
\tcp include/uapi/linux/vfio.h $(O)/usr/include/linux
"""

# The files from which kpatch.build.headers takes declarations.
EXCERPTS = {
    "include/uapi/linux/eventfd.h": "",
    "include/acpi/acpi_bus.h": "typedef char acpi_device_class[20];\n",
    "drivers/acpi/event.c": "struct acpi_genl_event {\n};\n"
    "static const struct genl_multicast_group acpi_event_mcgrps[] = {\n",
}

# The part of the suite's Makefile that compiles and links with the variables of lib.mk.
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
    """A tree with a suite of one program."""
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
    series = Series("mine", "a series", "netlink", (), Origin.CARRIED)
    delta = cache.digest(f"{change.path} {change.content!r}" for change in changes)
    applied = Applied(tree, series, (), changes, delta)
    config = Config("plain", "", "c", cached=True)
    return Kernel(applied, config, "gcc 12", Path("/nonexistent"), "k", cached=True)


def write(path: str, text: str) -> Change:
    return Change(path, text.encode())


def build(kernel: Kernel) -> selftests.Selftests:
    return selftests.build(kernel, jobs=2, stage=Silent())


def said(built: selftests.Selftests, at: Path) -> str:
    """Return the output of the program in the image."""
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
    """The library is linked statically: the guest does not have the host's libraries."""
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
    log = Path(error.hint.removeprefix("see "))
    assert log.is_file(), "the log is kept"
    assert list((cache.root() / "selftests").glob(".*")) == [], "and nothing else"


def test_headers_that_cannot_be_installed_are_told(tree: Tree) -> None:
    makefile = "headers:\n\t@echo 'scripts/a.c:3:1: error: no such word'; false\n"
    with pytest.raises(HarnessError) as failed:
        build(kernel(tree, write("Makefile", makefile)))
    error = failed.value
    assert (error.what, error.code) == (f"headers of {tree.version} mine", ExitCode.BUILD)
    assert error.cause == "scripts/a.c:3: no such word"
    assert "no such word" in Path(error.hint.removeprefix("see ")).read_text()


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


# The output of selftests.


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
    ("line", "name", "directive", "why", "end"),
    [
        ("ok 1 a.b", "a.b", "", "", "passed"),
        ("not ok 1 a.b", "a.b", "", "", "bad"),
        ("ok 1 - a.b", "a.b", "", "", "passed"),
        ("not ok 1 - a.b", "a.b", "", "", "bad"),
        ("ok 1 two words", "two words", "", "", "passed"),
        ("ok 1 a.b # SKIP no reset", "a.b", "SKIP", "no reset", "skipped"),
        ("ok 1 a.b # SKIP", "a.b", "SKIP", "", "skipped"),
        ("ok 1 a.b # skip no reset", "a.b", "SKIP", "no reset", "skipped"),
        ("ok 1 a.b # Skip: no reset", "a.b", "SKIP", "no reset", "skipped"),
        ("ok 1 a.b #SKIP no reset", "a.b", "SKIP", "no reset", "skipped"),
        ("not ok 1 a.b # SKIP no reset", "a.b", "SKIP", "no reset", "skipped"),
        # ksft_test_result_skip() writes its text after the directive, whether it is a name or not.
        ("ok 1 # SKIP no device", "no device", "SKIP", "no device", "skipped"),
        ("ok 1 # SKIP", "test 1", "SKIP", "", "skipped"),
        ("ok 1", "test 1", "", "", "passed"),
        ("not ok 1", "test 1", "", "", "bad"),
        ("ok 1 # XFAIL known", "known", "XFAIL", "known", "expected"),
        ("not ok 1 a.b # XFAIL known", "a.b", "XFAIL", "known", "expected"),
        ("not ok 1 a.b # todo later", "a.b", "TODO", "later", "expected"),
        ("ok 1 # XPASS a.b", "a.b", "XPASS", "a.b", "bad"),
        ("not ok 1 # error a.b", "a.b", "ERROR", "a.b", "bad"),
        ("ok 1 a.b # TIMEOUT 45 seconds", "a.b", "TIMEOUT", "45 seconds", "bad"),
        # ksft_test_result_code() writes two spaces before a text that is not a directive.
        ("ok 1 a.b #  error is as expected", "a.b", "", "", "passed"),
        ("ok 1 a.b # rcode=0", "a.b", "", "", "passed"),
        ("ok 1 a.b # SKIPPED is no directive", "a.b", "", "", "passed"),
        ("ok 1 a.b # 3 of 4 # SKIP the fourth", "a.b", "SKIP", "the fourth", "skipped"),
    ],
)
def test_result_lines(line: str, name: str, directive: str, why: str, end: str) -> None:
    report = ktap.parse(f"1..1\n{line}\n")
    [case] = report.cases
    assert (case.name, case.directive, case.why) == (name, directive, why)
    assert case.ok is line.startswith("ok")
    assert (case.passed, case.bad, case.skipped) == tuple(
        end == it for it in ("passed", "bad", "skipped")
    )
    assert not report.flaws


@pytest.mark.parametrize(
    "line", ["okay 1 a", "ok a", "ok 1a", "# ok 1 a", "it is ok 1 a", "not okay 1 a", "1..2 a"]
)
def test_other_lines_are_no_results(line: str) -> None:
    report = ktap.parse(f"{line}\n")
    assert (report.planned, report.cases, report.rest) == (None, (), (line,))


@pytest.mark.parametrize(
    ("inner", "end"),
    [
        ("1..2\n  ok 1 x\n  ok 2 y\n", "passed"),
        ("1..2\n  ok 1 x\n  not ok 2 y\n", "bad"),
        ("1..2\n  ok 1 x\n", "bad"),
        ("1..2\n  ok 1 x\n  ok 3 y\n", "bad"),
        ("1..2\n  ok 1 x\n  ok 2 y # SKIP\n", "passed"),
        ("1..2\n  ok 1 # skip\n  ok 2 y # SKIP\n", "skipped"),
        ("1..1\n    TAP version 13\n    1..1\n    not ok 1 deep\n  ok 1 x\n", "bad"),
        ("1..1\n    1..1\n    ok 1 deep\n  ok 1 x\n", "passed"),
        ("1..1\n      1..1\n      not ok 1 deep\n    ok 1 x\n  ok 1 y\n", "bad"),
        ("# a line of its own\n", "passed"),
    ],
)
def test_nested_tests_decide_the_one_around(inner: str, end: str) -> None:
    report = ktap.parse(f"KTAP version 1\n1..2\nok 1 a\n  KTAP version 1\n  {inner}ok 2 b\n")
    assert [case.name for case in report.cases] == ["a", "b"]
    first, second = report.cases
    assert first.passed
    assert (second.passed, second.bad, second.skipped) == tuple(
        end == it for it in ("passed", "bad", "skipped")
    )
    assert not report.flaws


def test_nested_failure_is_told() -> None:
    [case] = ktap.parse("1..1\n  1..2\n  ok 1 x\n  # why\n  not ok 2 y\nok 1 around\n").failed
    assert case.flaws == ("nested: not ok y",)
    assert case.lines == ("ok x", "  # why", "not ok y")


@pytest.mark.parametrize(
    ("output", "flaws"),
    [
        ("1..2\nok 1 a\nok 2 b\n", ()),
        ("1..2\n1..2\nok 1 a\nok 2 b\n", ()),
        ("ok 1 a\nok 2 b\n1..2\n", ()),
        ("1..2\nok 1 a\n", ("2 planned, 1 reported",)),
        ("1..1\nok 1 a\nok 2 b\n", ("1 planned, 2 reported",)),
        ("1..2\nok 1 a\nok 3 c\n", ("result 3 where 2 comes next",)),
        ("1..2\nok 1 a\nok 1 a\n", ("result 1 where 2 comes next",)),
        ("1..2\n1..3\nok 1 a\nok 2 b\n", ("a plan of 3 after one of 2",)),
        ("1..1\nok 1 a\nBail out! lost the device\n", ("Bail out! lost the device",)),
        ("1..1\nok 1 a\n  not ok 1 b\n", ("nested: not ok b",)),
    ],
)
def test_results_that_are_not_all_there(output: str, flaws: tuple[str, ...]) -> None:
    assert ktap.parse(output).flaws == flaws


def test_a_whole_program_that_is_skipped() -> None:
    """The program calls ksft_exit_skip() before any test."""
    report = ktap.parse("TAP version 13\n1..0 # SKIP SR-IOV is not there\n")
    assert (report.planned, report.cases, report.flaws) == (0, (), ())


@pytest.mark.parametrize(
    ("output", "passes"),
    [
        ("1..2\nok 1 a\nok 2 b # SKIP no device\n", True),
        ("1..2\nok 1 # skip a\nok 2 b # SKIP no device\n", False),
        ("1..2\nok 1 a # XFAIL known\nok 2 b # SKIP no device\n", False),
        ("1..1\n  1..1\n  not ok 1 x\nok 1 a\n", False),
        ("1..2\nok 1 a\nok 3 b\n", False),
        ("1..1\nok 1 a\nBail out!\n", False),
        ("ok 1 a\n", False),
    ],
)
def test_what_is_a_success(output: str, passes: bool) -> None:
    assert (ktap.parse(output).complaint == "") is passes


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
