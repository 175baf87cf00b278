# SPDX-License-Identifier: GPL-2.0-only
"""Compile single headers of include/uapi as user space sees them, for 64 and for 32 bit.

``uapi/<key>`` in the cache holds for one header in one state of a tree

    include      the headers that a series changes, as ``make headers`` would install them; empty
                 for the unpatched tree
    refused      the message of the tree's scripts/headers_install.sh, if it refuses a changed
                 header; ``64`` and ``32`` are missing then
    64, 32       ``errors`` of gcc for the header alone; ``defines``, its text preprocessed with all
                 macros (gcc -E -dD); ``object.o``, with debug information on all types, and with a
                 symbol of 8 bytes for each macro that has a value

`kpatch.abi.surface` reads these files. The include path has the changed headers first, then the
installed ones of the unpatched tree: this saves a ``make headers`` for each state. gcc runs
confined if bwrap works, and no code of the series is run.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kpatch.abi.macros import split
from kpatch.abi.probe import WIDTHS
from kpatch.build import headers, make
from kpatch.build.headers import Installed
from kpatch.errors import HarnessError
from kpatch.lib import cache, confine, environment, process
from kpatch.lib.stage import Stage
from kpatch.model import Applied, Tree

KIND = "uapi"

RECIPE = "1"
"""Part of the cache key. Increase it if a change here makes other files of the same input."""

ROOTS = ("include/uapi/", "arch/x86/include/uapi/")
"""The folders from which ``make headers`` installs; an installed name lacks this prefix."""

SYMBOL = "kpatch_"
"""Prefix of the symbols in ``object.o`` that have the values of macros."""

MOST_SECONDS = 60
"""Time limit of one run of gcc, in seconds. vfio.h takes a tenth of a second."""

MOST_ROUNDS = 6
"""The most times that gcc is run to find and leave out macros that have no value."""

# usr/include/Makefile compiles each header alone with these options. It includes the header twice,
# as `alone` does, to find a missing guard.
ALONE = ("-std=c90", "-Werror=implicit-function-declaration", "-Werror", "-fsyntax-only")

# -ftrack-macro-expansion=0: gcc reports an error in a macro at the line that uses the macro, not in
# the header that defines it. `_compile` finds the macro by that line.
OBJECT = (
    *("-std=gnu11", "-w", "-ftrack-macro-expansion=0", "-fmax-errors=0"),
    *("-gdwarf-5", "-fno-eliminate-unused-debug-types", "-c"),
)

DUMMIES = "usr/dummy-include"
"""The kernel's replacements of C library headers that uAPI headers include; 6.12 has none."""

_SCRIPT = "scripts/headers_install.sh"
_UNIFDEF = "scripts/unifdef.c"


@dataclass(frozen=True)
class Bench:
    """The environment in which headers are compiled: an unpatched tree and its installed headers.

    ``key`` identifies tree, headers and compiler. ``own`` is the folder of the compiler's own
    headers. ``dummies`` is the folder DUMMIES of this tree or another one; it may not exist.
    """

    base: Applied
    installed: Installed
    key: str
    own: Path
    dummies: Path

    @property
    def tree(self) -> Path:
        """The folder of the unpatched tree."""
        return self.base.tree.path

    def run(self, argv: Sequence[str], out: Path) -> tuple[int, str]:
        """Run ``argv``, confined if bwrap works; return its exit status and output.

        It can read the tree, the installed headers and ``dummies``, and write to ``out``. It is
        ended after MOST_SECONDS. Raises the errors of `kpatch.lib.confine.make`.
        """
        readable = [self.installed.path]
        if not self.dummies.is_relative_to(self.tree):
            readable.append(self.dummies)
        bounded = ["timeout", "--kill-after=1", str(MOST_SECONDS), *argv]
        return confine.make(bounded, source=self.tree, out=out, readable=readable)


def bench(base: Applied, *, spare: Tree | None, jobs: int, stage: Stage) -> Bench:
    """Return the Bench of the unpatched tree ``base``, whose headers are installed if not cached.

    If ``base`` has no folder DUMMIES, that of the tree ``spare`` is used. Raises the errors of
    `headers.install`.
    """
    installed = headers.install(base, jobs=jobs, stage=stage)
    argv = ["gcc", "-print-file-name=include"]
    _, own = process.capture(argv, env=environment.clean())
    lender = base.tree if spare is None or (base.tree.path / DUMMIES).is_dir() else spare
    key = cache.digest((RECIPE, headers.headers_id(base), lender.tree_id))
    return Bench(base, installed, key, Path(own.strip()), lender.path / DUMMIES)


def installed_name(path: str) -> str:
    """Return the name by which user space includes the header ``path`` of the tree.

    "linux/vfio.h" for "include/uapi/linux/vfio.h"; "" if the header is not installed.
    """
    for root in ROOTS:
        if path.startswith(root) and path.endswith(".h"):
            return path.removeprefix(root)
    return ""


def measure(at: Bench, path: str, changed: Mapping[str, bytes]) -> tuple[Path, bool]:
    """Return the cache entry of the compiled header ``path``, and whether the entry existed.

    The entry's files are described in the module's docstring. ``changed`` has the content of the
    headers that the series changes, by path; it is empty for the unpatched tree. HarnessError
    (exit 4) if gcc exceeds a limit of `kpatch.lib.confine.make`, or scripts/unifdef does not
    compile.
    """
    texts = [part for name in sorted(changed) for part in (name, changed[name].hex())]
    key = cache.digest((at.key, path, *texts))
    return cache.entry(KIND, key, lambda partial: _fill(at, partial, path, changed))


def search(at: Bench, entry: Path) -> list[str]:
    """Return gcc's options for the include path of the cache entry ``entry``.

    The path has, in this order, the changed headers in ``entry``, the installed headers, the
    replacements of C library headers (DUMMIES) if there are any, and the compiler's own headers.
    """
    folders = [entry / "include", at.installed.path / "include", at.dummies]
    there = [folder for folder in folders if folder.is_dir()]
    # Not -isystem: gcc suppresses most warnings in system headers.
    words = [word for folder in there for word in ("-I", str(folder))]
    return ["-nostdinc", *words, "-isystem", str(at.own)]


def alone(name: str) -> list[str]:
    """Return gcc's options that compile the header ``name`` alone, as usr/include/Makefile does."""
    return [*ALONE, "-include", name, "-include", name, "-x", "c", "/dev/null"]


def _fill(at: Bench, partial: Path, path: str, changed: Mapping[str, bytes]) -> None:
    (partial / "include").mkdir()
    refused = _install(at, partial, changed) if changed else ""
    if refused:
        (partial / "refused").write_text(refused)
        return
    found = search(at, partial)
    for width in WIDTHS:
        folder = partial / str(width)
        folder.mkdir()
        gcc = ["gcc", f"-m{width}", *found]
        status, said = at.run([*gcc, *alone(installed_name(path))], partial)
        text = said.replace(str(partial), "").replace(str(at.installed.path), "")
        (folder / "errors").write_text(text if status else "")
        _compile(at, partial, folder, gcc, installed_name(path))


def _install(at: Bench, partial: Path, changed: Mapping[str, bytes]) -> str:
    """Install the changed headers into ``partial``/include with scripts/headers_install.sh.

    Returns the message with which the script refuses a header, "" if it refuses none. The script
    calls scripts/unifdef below the current folder, so it runs in a folder that has both.
    """
    work = partial / "work"
    (work / "scripts").mkdir(parents=True)
    shutil.copy(at.tree / _SCRIPT, work / _SCRIPT)
    shutil.copy(_unifdef(at), work / "scripts/unifdef")
    for path, content in changed.items():
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_bytes(content)
        target = partial / "include" / installed_name(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        argv = ["env", "-C", str(work), "sh", _SCRIPT, path, str(target)]
        status, said = at.run(argv, partial)
        if status:
            return said.strip() or f"{_SCRIPT} ended with status {status}"
    shutil.rmtree(work)
    return ""


def _unifdef(at: Bench) -> Path:
    """Return the path of the unpatched tree's program unifdef; compile it if it is not cached.

    HarnessError (exit 4) if it does not compile.
    """

    def fill(partial: Path) -> None:
        argv = ["gcc", "-w", "-o", str(partial / "unifdef"), str(at.tree / _UNIFDEF)]
        status, said = at.run(argv, partial)
        if status:
            raise make.failure(_UNIFDEF, partial, f"gcc ended with status {status}", said)

    folder, _ = cache.entry(KIND, cache.digest((at.key, _UNIFDEF)), fill)
    return confine.product(folder, "unifdef")


def _compile(at: Bench, partial: Path, folder: Path, gcc: Sequence[str], name: str) -> None:
    """Compile the header ``name`` to the files ``defines`` and ``object.o`` in ``folder``.

    ``gcc`` is the command with -m and the include path. A macro that is no constant expression gets
    no symbol: gcc is run again without the lines that have errors, MOST_ROUNDS times at most.
    ``object.o`` is missing if the header itself does not compile, or if errors are left then.
    """
    source, out = folder / "values.c", folder / "object.o"
    include = f"#include <{name}>\n"
    source.write_text(include)
    defines = folder / "defines"
    status, _ = at.run([*gcc, "-E", "-dD", "-o", str(defines), str(source)], partial)
    if status:
        return
    text = defines.read_text(errors="replace")
    macros = split(text, name)[0]
    names = [key for key, one in macros.items() if one.is_number]
    for _ in range(MOST_ROUNDS):
        # The second semicolon ends a line with an error: gcc may skip the first.
        lines = [f"const long long {SYMBOL}{key} = (long long)({key});;\n" for key in names]
        source.write_text(include + "".join(lines))
        status, said = at.run([*gcc, *OBJECT, "-o", str(out), str(source)], partial)
        if not status:
            return
        # The first line is the include.
        bad = {int(number) - 2 for number in re.findall(r"values\.c:(\d+):\d+: error: ", said)}
        kept = [key for number, key in enumerate(names) if number not in bad]
        names = kept if len(kept) < len(names) else []


def product(entry: Path, name: str) -> bytes | None:
    """Return the content of the file ``name`` in ``entry``; None if there is no regular file."""
    try:
        return confine.product(entry, name).read_bytes()
    except HarnessError:
        return None
