# SPDX-License-Identifier: GPL-2.0-only
"""The checks that build: bisect and the variants, on a small tree with real make, gcc and ld."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kpatch.build import coccinelle, compiler, make, touched, variant, worktree
from kpatch.build.coccinelle import Source
from kpatch.build.diagnostics import Diagnostic
from kpatch.checks import bisect, review, table, variants
from kpatch.checks.review import ReviewRequest
from kpatch.errors import HarnessError
from kpatch.lib import cache, confine
from kpatch.lib.progress import Progress
from kpatch.pipeline import RunRequest
from kpatch.tables import flavors
from kpatch.tables.flavors import Flavor
from kpatch.tables.outcomes import JUDGED, CheckOutcome
from kpatch.tables.variants import VARIANTS, Scope, Variant
from tests import commandline, kerneltree

# The parts of kbuild that the checks use: a .config of a fragment, O=, single objects, ARCH=, W=,
# C= and CHECK=, vmlinux and modules. A symbol "is defined" if it is in the file Kconfig.
MAKEFILE = """\
VERSION = 9
PATCHLEVEL = 9
SUBLEVEL = 1
EXTRAVERSION =
NAME = Test
-include $(O)/.config
objects := main.o a.o $(if $(CONFIG_EXTRA),extra.o)
flags := -Wall -ffreestanding -fno-stack-protector -fno-pie $(if $(CONFIG_ACPI),-DACPI)
flags += $(if $(W),-Wextra) $(if $(filter i386,$(ARCH)),-m32) $(if $(CONFIG_MODULES),-DMODULES)
built := $(addprefix $(O)/drivers/,$(objects))

allnoconfig:
\t@grep -v '^ *#' $(KCONFIG_ALLCONFIG) | grep '=[ym]$$' > $(O)/.config || true
olddefconfig:
\t@true
bzImage: vmlinux
\t@mkdir -p $(O)/arch/x86/boot/compressed $(O)/include/config
\t@cp $(O)/vmlinux $(O)/arch/x86/boot/compressed/vmlinux.bin.lz4
\t@cp $(O)/vmlinux $(O)/arch/x86/boot/bzImage
\t@touch $(O)/System.map
\t@echo 9.9.1 > $(O)/include/config/kernel.release
vmlinux: $(built)
\t@echo '  LD      vmlinux'
\t@ld $(if $(filter i386,$(ARCH)),-m elf_i386) -e main -o $(O)/vmlinux $(built)
modules: vmlinux
\t@echo '  MODPOST Module.symvers'
\t@! grep -s unexported drivers/*.c || { \\
\t  echo 'ERROR: modpost: "unexported" [drivers/vfio.ko] undefined!'; exit 1; }
drivers/%.o: $(O)/drivers/%.o
\t@true
$(O)/drivers/%.o: drivers/%.c drivers/a.h $(O)/.config
\t@mkdir -p $(@D)
\t@echo '  CC      drivers/$*.o'
\t@gcc $(flags) -c -o $@ $<
\t@printf 'source_x := ../drivers/%s.c\\n  ../drivers/a.h \\\\\\n' $* > $(@D)/.$*.o.cmd
\t@$(if $(C),echo '  CHECK   $<'; $(CHECK) $<,true)
"""

MAIN = "int a(int x);\nint main(void)\n{\n\treturn a(1);\n}\n"
A = '#include "a.h"\n\nint a(int x)\n{\n\treturn x;\n}\n'
UNUSED = "int unused;"
CHECKER = '#!/bin/sh\ngrep -n wrong $1 | sed "s,:.*,:1: warning: is wrong,;s,^,$1:,"\n'  # as sparse

FLAVOR = Flavor("plain", "for tests", ("acpi",))


def body(*lines: str) -> str:
    """Return a.c whose function begins with ``lines``."""
    return A.replace("{\n", "{\n" + "".join(f"\t{line}\n" for line in lines))


def row(name: str, scope: Scope, **more: Any) -> Variant:
    return Variant(name, "Is tested.", scope, **more)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    monkeypatch.setenv("CCACHE_DIR", str(tmp_path / "ccache"))
    monkeypatch.setitem(flavors.FLAVORS, "plain", FLAVOR)
    root = kerneltree.make(tmp_path / "tree")
    (root / "Makefile").write_text(MAKEFILE)
    (root / "drivers/main.c").write_text(MAIN)
    (root / "drivers/a.c").write_text(A)
    (root / "drivers/a.h").write_text("int a(int x);\n")
    (root / "drivers/extra.c").write_text("int extra;\n")
    return root


Reviewed = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def check(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reviewed:
    """Return a function that reviews states of files of the tree by variants, and bisect.

    Each state is the content of some files after one more patch. Returns each check's record.
    """

    def run(
        *steps: dict[str, str], rows: tuple[Variant, ...] = (), only: str = "all"
    ) -> dict[str, dict[str, Any]]:
        checks = [table.Row("bisect", "Builds.", "patch", table.QUICK, bisect.check)]
        checks += [
            table.Row(
                one.name, one.title, "patch", table.PLAIN, partial(variants.check, chosen=one)
            )
            for one in rows
        ]
        monkeypatch.setattr(table, "CHECKS", tuple(checks))
        mbox = tmp_path / "series.mbox"
        mbox.write_text(series(tree, tmp_path / "work", steps))
        request = RunRequest(kernel=str(tree), series=(str(mbox),), jobs=2)
        wanted = ReviewRequest(request, checks=(only,))
        review.review(wanted, tmp_path / "out", Progress())
        record = json.loads((tmp_path / "out" / "review.json").read_text())
        return {one["name"]: one for one in record["checks"]}

    return run


def series(tree: Path, work: Path, steps: tuple[dict[str, str], ...]) -> str:
    """Return a mailbox whose patches turn the tree into each of the ``steps``."""
    subprocess.run(["rm", "-rf", str(work)], check=True)
    subprocess.run(["cp", "-a", str(tree), str(work)], check=True)
    kerneltree.git(work, "init", "--quiet")
    kerneltree.git(work, "add", ".")
    kerneltree.git(work, "commit", "--quiet", "--message", "base")
    for number, files in enumerate(steps, 1):
        for name, text in files.items():
            (work / name).write_text(text)
        kerneltree.git(work, "add", ".")
        kerneltree.git(work, "commit", "--quiet", "--message", f"test: Change {number}")
    made = kerneltree.git(work, "format-patch", "--stdout", f"-{len(steps)}")
    return made + "\n"


def found(record: dict[str, Any]) -> list[tuple[int, int, str, str]]:
    return [
        (one["patch"], one["removed_by"], one["outcome"], one["text"]) for one in record["findings"]
    ]


# --- bisect ----------------------------------------------------------------------------------


def test_good_series_passes(check: Reviewed) -> None:
    record = check({"drivers/a.c": body("x++;")}, {"drivers/a.c": body("x += 2;")})["bisect"]
    assert (record["outcome"], found(record), record["parts"]) == ("pass", [], 3)


def test_new_warning_is_found_on_its_patch(check: Reviewed) -> None:
    record = check({"drivers/a.c": body("x++;")}, {"drivers/a.c": body("x++;", UNUSED)})["bisect"]
    text = "new warning in a(): unused variable 'unused' [-Wunused-variable]"
    assert found(record) == [(2, 0, "fail", text)]
    [one] = record["findings"]
    assert (one["file"], one["line"]) == ("drivers/a.c", 6)


def test_warning_of_the_base_is_not_new(check: Reviewed, tree: Path) -> None:
    (tree / "drivers/a.c").write_text(body(UNUSED))
    record = check({"drivers/a.c": "/* moved */\n\n" + body(UNUSED)})["bisect"]
    assert (record["outcome"], found(record)) == ("pass", [])
    assert record["notes"] == ["1 warning in the changed files is the base's"]


def test_warning_that_a_later_patch_takes_away_is_told_as_such(check: Reviewed) -> None:
    record = check({"drivers/a.c": body(UNUSED)}, {"drivers/a.c": body("x++;")})["bisect"]
    assert [one[:3] for one in found(record)] == [(1, 2, "warn")]


def test_patch_that_breaks_the_build_is_named_once(check: Reviewed) -> None:
    broken = body("x = y;")
    record = check(
        {"drivers/a.c": broken},
        {"drivers/a.c": f"\n{broken}"},
        {"drivers/a.c": A + "\n"},
    )["bisect"]
    [(patch, gone, outcome, text)] = found(record)
    assert (patch, gone, outcome) == (1, 3, "fail")
    assert text.startswith("does not build: 'y' undeclared")
    assert (record["findings"][0]["file"], record["findings"][0]["line"]) == ("drivers/a.c", 5)


def test_base_that_does_not_build_is_not_the_series_fault(check: Reviewed, tree: Path) -> None:
    (tree / "drivers/main.c").write_text("int main(void) { return y; }\n")
    record = check({"drivers/a.c": body("x++;")})["bisect"]
    assert record["outcome"] == "could-not-run"
    assert record["reason"].startswith("the base does not build: drivers/main.c:1: 'y' undeclared")


def test_series_that_no_kernel_is_built_from_is_not_judged(check: Reviewed) -> None:
    record = check({"Documentation.rst": "new\n"})["bisect"]
    assert record["outcome"] == "not-applicable"


def test_series_that_the_config_leaves_out_is_not_judged(check: Reviewed) -> None:
    record = check({"drivers/extra.c": "int other;\n"})["bisect"]
    assert record["outcome"] == "not-applicable"
    assert record["reason"] == "the plain config does not compile drivers/extra.o"
    both = check({"drivers/extra.c": "int other;\n", "drivers/a.c": body("x++;")})["bisect"]
    assert (both["outcome"], both["notes"]) == ("pass", [record["reason"]])


def test_second_review_reuses_what_did_not_change(check: Reviewed) -> None:
    first = {"drivers/a.c": body("x++;")}
    check(first, {"drivers/a.c": body("x = y;")})
    again = check(first, {"drivers/a.c": body("x = y;")})["bisect"]
    assert (again["parts"], again["reused"], again["outcome"]) == (3, 3, "fail")
    changed = check(first, {"drivers/a.c": body("x += 2;")})["bisect"]
    assert (changed["reused"], changed["outcome"]) == (2, "pass")


# --- objects ---------------------------------------------------------------------------------

W1 = row("w1", Scope.OBJECTS, settings=("W=1",), severity=CheckOutcome.WARN)
SIGN = "if (x < 2u) x++;"


def test_warning_with_more_options_is_found_on_its_patch(check: Reviewed) -> None:
    record = check({"drivers/a.c": body("x++;")}, {"drivers/a.c": body("x++;", SIGN)}, rows=(W1,))
    assert record["bisect"]["outcome"] == "pass"
    [(patch, gone, outcome, text)] = found(record["w1"])
    assert (patch, gone, outcome) == (2, 0, "warn")
    assert "in a()" in text and "[-Wsign-compare]" in text
    assert record["w1"]["findings"][0]["command"] == "make W=1 drivers/a.o"


def test_what_bisect_tells_of_is_not_told_twice(check: Reviewed) -> None:
    record = check({"drivers/a.c": body(UNUSED)}, {"drivers/a.c": body("x = y;")}, rows=(W1,))
    assert len(found(record["bisect"])) == 2
    assert found(record["w1"]) == []


def test_header_is_judged_in_sources_that_include_it(check: Reviewed) -> None:
    header = "int a(int x);\nstatic inline int b(int x)\n{\n\treturn x < 2u;\n}\n"
    record = check({"drivers/a.h": header}, rows=(W1,))["w1"]
    assert [one[0] for one in found(record)] == [1]
    assert record["findings"][0]["file"] == "drivers/a.h"
    told = "drivers/a.h is judged in 2 of 2 sources: drivers/a.c, drivers/main.c"
    # The tree of these tests has no Kconfig files.
    [judged, alone] = record["notes"]
    assert judged == told
    assert alone.startswith("what the sources depend on is not switched on: ")


def test_sources_beside_the_changed_files_come_first() -> None:
    """Those of the boot code are linked by themselves; one needs a file that make writes later."""
    paths = [
        "arch/x86/boot/compressed/misc.c",
        "arch/x86/entry/vdso/vma.c",
        "arch/x86/kernel/acpi/boot.c",
        "drivers/acpi/event.c",
        "drivers/acpi/acpica/evmisc.c",
        "block/bio.c",
    ]
    assert variants.nearest(paths, {"drivers/acpi"}) == [
        "drivers/acpi/event.c",
        "arch/x86/kernel/acpi/boot.c",
        "block/bio.c",
        "drivers/acpi/acpica/evmisc.c",
    ]


@pytest.mark.parametrize("place", ["tools", "scripts"])
def test_program_is_no_source_of_the_kernel(check: Reviewed, tree: Path, place: str) -> None:
    """kbuild has a rule for any object, and the kernel has no errno.h."""
    rule = f"{place}/%.o: {place}/%.c\n\t@gcc -nostdinc -c -o /dev/null $<\n"
    (tree / "Makefile").write_text(MAKEFILE + rule)
    (tree / place).mkdir(exist_ok=True)
    program = {f"{place}/a.h": "", f"{place}/a.c": "#include <errno.h>\n"}
    record = check({"drivers/a.c": body("x++;"), **program}, rows=(W1,))["w1"]
    assert record["outcome"] == "pass", record["findings"]
    assert not any(f"{place}/" in line for line in (*record["notes"], *record["commands"]))
    record = check(program, rows=(W1,))["w1"]
    assert record["outcome"] == "not-applicable"


def test_report_of_a_checker_is_found_on_its_patch(check: Reviewed, tree: Path) -> None:
    tool = tree / "scripts/checker"
    tool.write_text(CHECKER)
    tool.chmod(0o755)
    checker = row("checker", Scope.OBJECTS, settings=("C=2", "CHECK=scripts/checker"))
    record = check(
        {"drivers/a.c": body("x++;")}, {"drivers/a.c": body("/* wrong */")}, rows=(checker,)
    )
    assert found(record["checker"]) == [(2, 0, "fail", "new warning in a(): is wrong")]


def test_checker_that_make_refuses_is_no_pass(check: Reviewed, tree: Path) -> None:
    # As the Makefile of Linux 7.3 warns; it compiles all the same.
    refusal = "$(if $(C),$(warning C=2 specified, but x is not available or not up to date))\n"
    (tree / "Makefile").write_text((tree / "Makefile").read_text() + refusal)
    checker = row("checker", Scope.OBJECTS, settings=("C=2", "CHECK=true"))
    record = check({"drivers/a.c": body("x++;")}, rows=(checker,))["checker"]
    assert record["outcome"] == "could-not-run"
    assert "make refuses this version of the checker" in record["reason"]


def test_a_log_is_read_while_no_other_run_can_write_it(
    check: Reviewed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run that builds the same, and has waited for the worktree, has the log's name."""
    left: list[list[str]] = []

    @contextmanager
    def watched(*arguments: Any, **more: Any) -> Iterator[worktree.Worktree]:
        with worktree.checkout(*arguments, **more) as found:
            yield found
        logs = list(cache.folder(make.LOGS).glob("*.log"))
        left.append([log.name for log in logs])
        for log in logs:
            log.unlink()

    monkeypatch.setattr(variant, "checkout", watched)
    rows = (row("w1", Scope.OBJECTS, settings=("W=1",)), row("linked", Scope.KERNEL))
    found = check({"drivers/a.c": body("x++;")}, rows=rows)
    assert {found[name]["outcome"] for name in ("w1", "linked")} == {"pass"}
    assert len(left) >= 4 and not any(left), "a state and its base, of both"


def test_missing_tool_is_told_with_its_package(check: Reviewed) -> None:
    absent = row("absent", Scope.OBJECTS, tools={"no-such-tool": "no-such-package"})
    record = check({"drivers/a.c": body("x++;")}, rows=(absent,))["absent"]
    assert record["outcome"] == "could-not-run"
    assert "no-such-tool: not found in PATH" in record["reason"]
    assert "no-such-package" in record["reason"]


# --- linked ----------------------------------------------------------------------------------

OFF = row("off", Scope.KERNEL, fragments=("acpi-off",))
MODULES = row("mod", Scope.KERNEL, fragments=("modules",))
I386 = row("i386", Scope.KERNEL, settings=("ARCH=i386",), fragments=("i386",))
WIDE = '_Static_assert(sizeof(long) == 8, "long");'


def test_missing_stub_is_found_on_its_patch(check: Reviewed) -> None:
    uses = "#ifdef ACPI\nint acpi(void);\nint acpi(void) { return 1; }\n#endif\nint acpi(void);\n"
    record = check(
        {"drivers/a.c": body("x++;")},
        {"drivers/a.c": uses + body("x += acpi();")},
        {"drivers/a.c": uses + body("x -= acpi();")},
        rows=(OFF, MODULES),
    )
    assert (record["bisect"]["outcome"], record["mod"]["outcome"]) == ("pass", "pass")
    [(patch, gone, outcome, text)] = found(record["off"])
    assert (patch, gone, outcome) == (2, 0, "fail")
    assert text == "does not build: undefined reference to `acpi'"
    assert record["off"]["findings"][0]["file"].endswith("drivers/a.c")


def test_unused_function_without_a_symbol_is_a_new_warning(check: Reviewed) -> None:
    code = "static int helper(void) { return 1; }\n#ifdef ACPI\nint use(void);\n"
    code += "int use(void) { return helper(); }\n#endif\n" + A
    record = check({"drivers/a.c": code}, rows=(OFF,))
    [(patch, _, outcome, text)] = found(record["off"])
    assert (patch, outcome) == (1, "fail")
    assert "'helper' defined but not used" in text


def test_symbol_that_is_not_exported_is_found(check: Reviewed) -> None:
    record = check({"drivers/a.c": body("/* unexported */")}, rows=(MODULES,))
    assert record["bisect"]["outcome"] == "pass"
    [(patch, _, _, text)] = found(record["mod"])
    assert patch == 1
    assert text == 'does not build: ERROR: modpost: "unexported" [drivers/vfio.ko] undefined!'
    assert record["mod"]["findings"][0]["file"] == ""


def test_whole_series_is_judged_first(check: Reviewed) -> None:
    steps = ({"drivers/a.c": body(f"x += {n};")} for n in range(4))
    record = check(*steps, rows=(MODULES,))["mod"]
    plain, linked = 5, 2
    assert (record["outcome"], record["parts"]) == ("pass", plain + linked)


def test_file_that_a_variant_leaves_out_is_not_judged_by_it(check: Reviewed) -> None:
    other = {"drivers/extra.c": "int other;\n"}
    record = check(other, rows=(MODULES,))["mod"]
    assert record["outcome"] == "not-applicable"
    assert record["reason"] == "mod does not compile drivers/extra.o"
    both = check({**other, "drivers/a.c": body("x++;")}, rows=(MODULES,))["mod"]
    assert (both["outcome"], both["notes"]) == ("pass", [record["reason"]])


def test_32_bit_fault_is_found(check: Reviewed) -> None:
    record = check({"drivers/a.c": f"{WIDE}\n{A}"}, rows=(I386,))
    assert record["bisect"]["outcome"] == "pass"
    [(patch, _, _, text)] = found(record["i386"])
    assert (patch, text) == (1, 'does not build: static assertion failed: "long"')


def test_variant_that_fails_as_the_plain_config_is_not_judged(check: Reviewed) -> None:
    record = check({"drivers/a.c": body("x = y;")}, rows=(MODULES,))["mod"]
    assert record["outcome"] == "could-not-run"
    assert record["reason"].startswith("does not build in the plain config either:")


def test_variant_whose_base_does_not_build_is_not_judged(check: Reviewed, tree: Path) -> None:
    (tree / "drivers/main.c").write_text(f"{WIDE}\n{MAIN}")
    record = check({"drivers/a.c": body("x++;")}, rows=(I386,))["i386"]
    assert record["outcome"] == "could-not-run"
    assert record["reason"].startswith("the base does not build:")


def test_random_values_and_their_seed_are_told(check: Reviewed, tree: Path) -> None:
    (tree / "drivers/Kconfig").write_text('config EXTRA\n\tbool "Extra"\n')
    made = {
        seed: check({"drivers/a.c": body("x++;")}, rows=(row("r", Scope.KERNEL, seed=seed),))["r"]
        for seed in range(1, 9)
    }
    assert {one["outcome"] for one in made.values()} == {"pass"}
    notes = {one["notes"][0].partition(": ")[2] for one in made.values()}
    assert notes == {"EXTRA=y", "EXTRA=n"}
    assert "--checks r" in made[1]["commands"][-1]


# --- symbols around the changed files --------------------------------------------------------

FILES = {
    "drivers/Makefile": "obj-$(CONFIG_VFIO) += vfio/\nobj-y += other/\n",
    "drivers/vfio/Makefile": "obj-$(CONFIG_VFIO) += vfio.o\nobj-$(CONFIG_VFIO_PCI_CORE) += pci/\n",
    "drivers/vfio/pci/Makefile": "core-y := a.o \\\n\tb.o\ncore-$(CONFIG_ZDEV) += zdev.o\n"
    "obj-$(CONFIG_VFIO_PCI_CORE) += core.o\n",
    "drivers/vfio/pci/Kconfig": "config VFIO_PCI_CORE\n\ttristate\n\n"
    'config VFIO_PCI\n\ttristate "PCI"\n\tselect VFIO_PCI_CORE\n\n'
    'config VFIO_PCI_VGA\n\tbool "VGA"\n\nconfig COUNT\n\tint "Count"\n',
    "drivers/vfio/pci/b.c": "#if IS_ENABLED(CONFIG_EEH) || defined(CONFIG_SMP)\n#endif\n",
}


def read(path: str) -> str:
    return FILES.get(path, "")


def test_symbols_on_which_an_object_depends() -> None:
    assert touched.guards(["drivers/vfio/pci/b.c"], read) == {"VFIO", "VFIO_PCI_CORE"}
    assert touched.guards(["drivers/vfio/pci/zdev.c"], read) == {"VFIO", "VFIO_PCI_CORE", "ZDEV"}
    assert touched.guards(["drivers/other/x.c"], read) == set()


def test_random_values_of_symbols_around_a_file() -> None:
    paths = ["drivers/vfio/pci/b.c"]
    made = [dict(touched.randomised(paths, read, seed=seed)) for seed in range(20)]
    assert all(one.keys() == {"VFIO_PCI_VGA", "EEH"} for one in made)
    assert {tuple(one.values()) for one in made} == {(a, b) for a in "yn" for b in "yn"}
    assert made[3] == dict(touched.randomised(paths, read, seed=3))


def test_sources_that_include_a_header(tmp_path: Path) -> None:
    folder = tmp_path / "drivers"
    folder.mkdir()
    deps = "deps_x := \\\n  ../include/linux/{}.h \\\n  $(wildcard include/config/PM) \\\n"
    for name, header, place in (
        ("b", "e", "../"),
        ("a", "e", f"{confine.PLACE}/"),
        ("c", "ee", ""),
    ):
        text = f"source_x := {place}drivers/{name}.c\n\n" + deps.format(header)
        (folder / f".{name}.o.cmd").write_text(text)
    (folder / ".s.o.cmd").write_text("source_s := ../drivers/s.S\n" + deps.format("e"))
    found = touched.includers(tmp_path, "include/linux/e.h")
    assert found == ["drivers/a.c", "drivers/b.c"]


# --- tools -----------------------------------------------------------------------------------


def test_newest_llvm_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix, version in (("", "14.0.6"), ("-19", "19.1.7"), ("-22", "22.0.0")):
        for tool in compiler.LLVM if suffix != "-22" else ("clang",):
            program = tmp_path / f"{tool}{suffix}"
            program.write_text(f"#!/bin/sh\necho clang version {version}\n")
            program.chmod(0o755)
    (tmp_path / "setpriv").symlink_to(commandline.which("setpriv"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compiler.llvm().settings == ("LLVM=-19",)
    for file in tmp_path.glob("*-19"):
        file.unlink()
    assert compiler.llvm().settings == ("LLVM=1",)
    (tmp_path / "ld.lld").unlink()
    with pytest.raises(HarnessError, match="clang"):
        compiler.llvm()


SCRIPT = """\
// Options: --no-includes --include-headers --rm-rf
// Confidence: High
virtual patch
virtual report
"""


def test_scripts_with_a_report_mode(tmp_path: Path) -> None:
    folder = tmp_path / coccinelle.FOLDER / "api"
    folder.mkdir(parents=True)
    (folder / "b.cocci").write_text(SCRIPT)
    (folder / "a.cocci").write_text("virtual org\nvirtual report\n")
    (folder / "c.cocci").write_text("virtual patch\n")
    (folder / "d.cocci").write_text(SCRIPT.replace("High", "Low"))
    made = [
        (script.path.rpartition("/")[2], script.options) for script in coccinelle.scripts(tmp_path)
    ]
    assert made == [("a.cocci", ()), ("b.cocci", ("--no-includes", "--include-headers"))]


def test_reports_belong_to_the_content_they_are_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tree" / coccinelle.FOLDER
    folder.mkdir(parents=True)
    for name in ("one", "two", "slow", "wrong"):
        (folder / f"{name}.cocci").write_text(SCRIPT)
    path = commandline.path_with(
        tmp_path / "bin",
        "spatch",
        'for last; do :; done; case "$*" in *slow*) sleep 30;; *two*) exit 0;;\n'
        "*wrong*) echo Fatal error: no rule; exit 2;; esac\n"
        "grep -n kfree -r $last | sed 's/\\([^:]*:[0-9]*\\):.*/\\1:2-7: WARNING: odd/'",
    )
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr(confine, "wrap", lambda argv, **more: list(argv))
    monkeypatch.setattr(coccinelle, "SECONDS", 1.0)
    good = Source("a.c", A.encode())
    bad = Source("a.c", body("kfree(x);").encode())
    found, missed = coccinelle.reports(
        tmp_path / "tree", [good, bad], jobs=2, begun=lambda n, m: None
    )
    assert found[good] == ()
    assert [(one.file, one.line, one.function, one.text) for one in found[bad]] == [
        ("a.c", 5, "a", "WARNING: odd")
    ]
    assert missed == (
        f"{coccinelle.FOLDER}/slow.cocci took longer than 1 s and was ended",
        f"{coccinelle.FOLDER}/wrong.cocci failed: Fatal error: no rule",
    )


@pytest.mark.parametrize("one", VARIANTS, ids=lambda one: one.name)
def test_row_is_whole(one: Variant) -> None:
    assert one.name in {row.name for row in table.CHECKS}
    assert one.title.endswith(".")
    assert one.scope is not Scope.KERNEL or one.fragments or one.seed
    assert one.severity in JUDGED
    assert one.like in {"", *flavors.FLAVORS, *(other.name for other in VARIANTS)}
    assert variant.PRODUCT.keys() | {Scope.SOURCES} == set(Scope)


@pytest.mark.parametrize(
    ("rule", "errors", "explained"),
    [
        ("drivers/a.o:; @true", False, True),
        ("drivers/a.o:; @false", False, False),  # a tool other than the compiler fails
        ("drivers/a.o:; @false", True, True),
        ("drivers/a.o: drivers/missing.h", False, False),
        ("drivers/a.o: drivers/missing.h", True, False),
    ],
)
def test_an_object_that_is_left_out_explains_only_itself(
    tmp_path: Path, rule: str, errors: bool, explained: bool
) -> None:
    (tmp_path / "Makefile").write_text(f"{rule}\n")
    argv = ["make", "-k", "drivers/a.o", "drivers/b.o"]
    made = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    wrong = Diagnostic("drivers/a.c", 1, "a", "", "is wrong", error=errors)
    record = {"CC drivers/a.o": (wrong,)}
    assert variant._explained(made.stderr, ["drivers/b.o"], record) is explained
    assert not variant._explained(made.stderr, [], {})
    assert not variant._explained("make: *** [Makefile:7: prepare] Error 2", [], {})
