# SPDX-License-Identifier: GPL-2.0-only
"""Logs of real builds of 7.3.4, each with one fault in drivers/vfio/pci (tests/data/build).

They were made by ``make -j2 O=… bzImage`` on a built kernel; only the two folders' names and
the lines of the clock are changed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kpatch.build import log
from kpatch.build.log import CompilerMessage

LOGS = Path(__file__).parent / "data/build"
SOURCE = "/build/linux-7.3"
CORE = "drivers/vfio/pci/vfio_pci_core.c"


def log_text(name: str) -> str:
    return (LOGS / f"{name}.log").read_text()


@pytest.mark.parametrize(
    ("name", "file", "line", "text"),
    [
        ("syntax", CORE, 593, "expected expression before ‘;’ token"),
        ("header", CORE, 17, "linux/acpi_no_such.h: No such file or directory"),
        (
            "implicit",
            CORE,
            593,
            "implicit declaration of function ‘acpi_no_such_call’"
            " [-Werror=implicit-function-declaration]",
        ),
        ("assembler", CORE, 593, "no such instruction: `bogus %eax'"),
        ("undefined", CORE, None, "undefined reference to `acpi_no_such_function'"),
        (
            "twice",
            "drivers/vfio/pci/vfio_pci_intrs.c",
            None,
            "multiple definition of `vfio_pci_core_enable'; drivers/vfio/pci/vfio_pci_core.o:"
            "vfio_pci_core.c:(.text+0x160): first defined here",
        ),
        ("makefile", "drivers/vfio/pci/Makefile", 27, "invalid syntax in conditional"),
        ("kconfig", "drivers/vfio/pci/Kconfig", 80, "syntax error"),
        (
            "norule",
            None,
            None,
            "No rule to make target 'drivers/vfio/pci/vfio_pci_no_such.o',"
            " needed by 'drivers/vfio/pci/built-in.a'",
        ),
    ],
)
def test_the_first_error(name: str, file: str | None, line: int | None, text: str) -> None:
    found = log.first_error(log_text(name), source=SOURCE)
    assert found is not None
    assert found[0] == CompilerMessage(file, line, text)
    assert text in found[1]
    assert "  CC  " not in found[1]


def test_a_good_log_has_no_error() -> None:
    assert log.first_error(log_text("warning"), source=SOURCE) is None


def test_warnings_of_the_files_asked_for() -> None:
    found = log.warnings(log_text("warning"), source=SOURCE, paths={CORE})
    assert list(map(str, found)) == [
        f"{CORE}:593: unused variable ‘unused_here’ [-Wunused-variable]"
    ]
    assert log.warnings(log_text("warning"), source=SOURCE, paths={"drivers/vfio/main.c"}) == []


@pytest.mark.parametrize(
    "line",
    [
        f"{CORE}:7:3: warning: unused [-Wunused]",
        f"../{CORE}:7: Warning: no such insn",  # printed by as, like the errors of assembler.log
        f"{SOURCE}/{CORE}:7:warning: config symbol defined without type",  # scripts/kconfig/menu.c
    ],
)
def test_forms_of_warnings(line: str) -> None:
    [found] = log.warnings(f"  CC      a.o\n{line}\n", source=SOURCE, paths={CORE})
    assert str(found) == f"{CORE}:7: {line.partition('arning: ')[2]}"


@pytest.mark.parametrize(
    ("step", "path", "known"),
    [
        ("CC      drivers/a.o", "drivers/a.c", True),
        ("CC [M]  drivers/a.o", "drivers/a.c", True),
        ("AS      drivers/a.o", "drivers/a.S", True),
        ("CC      drivers/a.o", "drivers/b.c", False),
        ("CC      drivers/a.o", "include/a.h", False),
        ("HOSTCC  scripts/basic/fixdep", "include/a.h", True),
        ("HOSTCC  scripts/basic/fixdep", "drivers/b.c", True),
    ],
)
def test_what_was_compiled(step: str, path: str, known: bool) -> None:
    assert log.compiled(f"make[1]: Entering directory '/o'\n  {step}\n", path) is known


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        # Forms of errors that no golden log has. Those of objtool and modpost are written as
        # their sources print them (tools/objtool, scripts/mod/modpost.c) in the version named.
        ("../kernel/fork.c:12:3: error: bad", "kernel/fork.c:12: bad"),  # O= inside the source
        ("ld: cannot find x.o: No such file", "cannot find x.o: No such file"),
        ("ld: net/x.o: cannot find y", "net/x.o: cannot find y"),
        ("x.o: error: objtool: f(): no return", "x.o: f(): no return"),  # 7.3
        ("x.o: error: objtool [elf.c:9]: elf_begin failed", "x.o: elf_begin failed"),  # 7.3
        ("error: objtool: orc not implemented", "orc not implemented"),  # 6.1, 6.12
        (
            "ERROR: modpost: vmlinux: symbol 'f' undefined!",  # 7.3
            "ERROR: modpost: vmlinux: symbol 'f' undefined!",
        ),
        (
            'ERROR: modpost: "f" [drivers/x.ko] undefined!',  # 6.1, 6.12
            'ERROR: modpost: "f" [drivers/x.ko] undefined!',
        ),
        ("FATAL: modpost: x.o: not ELF", "FATAL: modpost: x.o: not ELF"),  # 6.1
        (
            "gcc: fatal error: Killed signal terminated program cc1",
            "gcc: Killed signal terminated program cc1",
        ),
        ("Makefile:3: *** missing separator.  Stop.", "Makefile:3: missing separator"),
        ("make[2]: *** [Makefile:1: x] Error 127", "[Makefile:1: x] Error 127"),
        ("/bin/sh: 1: flex: not found", "flex: not found"),
        ("make[1]: *** Waiting for unfinished jobs....", None),
        ("  CC      drivers/error.o", None),
    ],
)
def test_forms_of_errors(line: str, shown: str | None) -> None:
    found = log.first_error(f"  CC      a.o\n{line}\n", source=SOURCE)
    assert (None if found is None else str(found[0])) == shown


def test_the_cause_goes_before_its_consequences() -> None:
    text = "make[3]: *** [x] Error 1\nmake: *** [y] Error 2\na.c:1:2: error: cause\n"
    found = log.first_error(text, source=SOURCE)
    assert found is not None and str(found[0]) == "a.c:1: cause"


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("  CC      drivers/vfio/vfio_main.o", ("CC", "drivers/vfio/vfio_main.o")),
        ("  CC [M]  drivers/vfio/vfio.o", ("CC [M]", "drivers/vfio/vfio.o")),
        ("  DESCEND objtool", ("DESCEND", "objtool")),
        ("Kernel: arch/x86/boot/bzImage is ready  (#1)", None),
        ("  593 |         int x = 3 +;", None),
    ],
)
def test_steps(line: str, step: tuple[str, str] | None) -> None:
    assert log.step(line) == step
