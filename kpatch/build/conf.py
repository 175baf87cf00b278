# SPDX-License-Identifier: GPL-2.0-only
"""Make a .config outside of the kernel tree (``O=``), with the tree's own Makefile and ``conf``."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.lib import confine
from kpatch.lib.process import require_tool
from kpatch.lib.stage import shell_line
from kpatch.tables.outcomes import ExitCode


@dataclass(frozen=True)
class Cause:
    """A kind of error line in the output of make or conf, and a hint how to correct the error.

    The group ``text`` of ``pattern`` is the message; ``hint`` may contain other groups ("{tool}").
    If several lines match, the first one is the cause, or the last one if ``last`` is set: conf
    ends at an ``$(error-if)``, and the lines of every ``$(warning-if)`` before it look the same.
    """

    pattern: re.Pattern[str]
    hint: str
    last: bool = False


# The prefix FILE:LINE: of conf's errors. It does not match gcc's prefix, which has a column, nor
# conf's warnings, which have "warning" with or without a space after the prefix.
_PLACE = r"[^\s:]+:\d+:(?!\d| ?[Ww]arning| note|\t| location of) ?"

# The first row with a matching line is used. Formats of conf: scripts/kconfig/lexer.l, parser.y,
# preprocess.c, symbol.c, util.c of 6.1 to 7.3. Lines that only report a failure of make ("make: ***
# [Makefile:5: x] Error 2") are removed before.
_CAUSES = (
    Cause(
        re.compile(r"(?P<text>(?P<tool>flex|bison): (?:command )?not found)"),
        "install the Debian package {tool}",
    ),
    Cause(
        re.compile(r"\*\*\* (?P<text>The source tree is not clean.*)"),
        "take out of the tree what a build makes: .config, include/config, include/generated",
    ),
    Cause(
        re.compile(
            rf"^(?P<text>{_PLACE}(?:error:|syntax error|(?:unknown|invalid) statement|unexpected "
            r"|missing end statement|can't open file|\*\*\*).*)"
        ),
        "correct that line; the whole output is above",
    ),
    Cause(
        re.compile(r"^(?P<text>error: recursive dependency .*|Recursive inclusion detected.*)"),
        "correct the Kconfig files that the output above names",
    ),
    Cause(
        re.compile(r"(?P<text>\S+:\d+:\d+: (?:fatal )?error: .*)"),
        "correct that line; the whole output is above",
    ),
    Cause(
        re.compile(rf"^(?P<text>{_PLACE}.+)"),
        "correct that line; the whole output is above",
        last=True,
    ),
    Cause(
        re.compile(r"(?P<text>(?:.*(?:\berror\b|: not found)|.*\*\*\* (?!\[)\w).*)", re.IGNORECASE),
        "see the whole output above",
    ),
)
_FAILED = re.compile(r"\bmake(?:\[\d+\])?: \*\*\* \[")

ENVIRONMENT_FILE = "conf.environment"
ENVIRONMENT_PROBE = "environment.Kconfig"


def command(target: str, *settings: str, source: Path, out: Path) -> list[str]:
    """Return the argv of ``make O=out settings… target`` in the kernel tree ``source``.

    make is silent (-s) and has a job for each CPU. The argv has no confinement; `run` adds it.
    HarnessError (exit 2) if make is not installed.
    """
    make = require_tool("make", package="make")
    jobs = f"-j{os.cpu_count() or 1}"  # make compiles conf itself first
    return [make, "-s", jobs, "-C", str(source), f"O={out}", *settings, target]


def commands(fragment: Path, *settings: str, source: Path, out: Path) -> tuple[list[str], ...]:
    """Return the make commands that write ``out``/.config for the fragment file ``fragment``.

    ``settings`` are further variables for make's command line ("ARCH=i386"). The commands are
    allnoconfig, which sets all symbols to n that the fragment does not name, and olddefconfig,
    which gives symbols that became visible their defaults.
    """
    return (
        command("allnoconfig", f"KCONFIG_ALLCONFIG={fragment}", *settings, source=source, out=out),
        command("olddefconfig", *settings, source=source, out=out),
    )


def run(argv: list[str], *, source: Path, out: Path, fragment: Path | None = None) -> None:
    """Run ``argv``, a make command that `command` or `commands` returned, confined.

    If bwrap does not work, it is not confined. make can read ``source`` and the fragment file
    ``fragment``, if given, and write to ``out``. HarnessError (exit 4) with the whole output if
    make fails. OSError (ENOSPC) if the disk is full.
    """
    readable = () if fragment is None else (fragment,)
    status, output = confine.make(argv, source=source, out=out, readable=readable)
    if status != 0:
        output = output.replace(f"{source}/", "")
        cause, hint = _cause(output)
        raise HarnessError(
            f"make {argv[-1]}",
            f"exit status {status}: {cause}",
            hint=hint,
            code=ExitCode.BUILD,
            details=f"{shell_line(argv)}\n{output}",
        )


def _cause(output: str) -> tuple[str, str]:
    """Return the line of make's ``output`` that names the cause of its failure, and a hint.

    The line matches a row of _CAUSES; if no line does, it is the last one that is not blank.
    """
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    messages = [line for line in lines if not _FAILED.search(line)]
    for cause in _CAUSES:
        matches = [match for line in messages if (match := cause.pattern.search(line))]
        if matches:
            match = matches[-1 if cause.last else 0]
            return match["text"].strip(), cause.hint.format_map(match.groupdict())
    return (lines or ["no message"])[-1].strip(), "see the whole output above"


def resolve(fragment: Path, *settings: str, source: Path, out: Path) -> str:
    """Return the text of the .config that the tree's conf makes from the file ``fragment``.

    ``out`` is the folder for ``O=``, ``settings`` are as in `commands`. HarnessError (exit 4) if
    make fails, or the .config is not UTF-8.
    """
    for argv in commands(fragment, *settings, source=source, out=out):
        run(argv, source=source, out=out, fragment=fragment)
    try:
        return confine.product(out, ".config").read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].rpartition(b"\n")[2].decode()
        raise HarnessError(
            line.partition("=")[0] or ".config",
            "its value has letters that are no UTF-8",
            hint="write the Kconfig file that gives it in UTF-8",
            code=ExitCode.BUILD,
        ) from error


def variables(*, source: Path, out: Path) -> dict[str, str]:
    """Return the environment variables with which the tree's Makefile runs conf (CC, RUSTC, …).

    The variables that the top Makefile exports differ between releases. So make runs conf on a
    Kconfig file of ours (``KBUILD_KCONFIG``), in which a macro writes conf's environment to a file.
    Raises the errors of `run`.
    """
    probe, answer = out / ENVIRONMENT_PROBE, out / ENVIRONMENT_FILE
    probe.write_text(f"written := $(shell,env -0 >{ENVIRONMENT_FILE})\n", encoding="utf-8")
    argv = command("listnewconfig", f"KBUILD_KCONFIG={probe}", source=source, out=out)
    run(argv, source=source, out=out)
    made = confine.product(out, answer.name)
    text = made.read_text(encoding="utf-8", errors="surrogateescape")
    pairs = text.replace(confine.PLACE, str(source)).split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def shell(command: str, *, source: Path) -> str:
    """Run ``command``, a ``$(shell,…)`` of a Kconfig file, confined; return its standard output.

    If bwrap does not work, it is not confined. The command can read the kernel tree ``source`` and
    write to the working directory. Its standard error is dropped: conf does not use it either
    (do_shell() in scripts/kconfig/preprocess.c).
    """
    argv = confine.wrap(["sh", "-c", command], readable=[source], writable=[Path.cwd()])
    env = {**os.environ, "PATH": confine.path()}
    done = subprocess.run(
        argv, capture_output=True, text=True, errors="replace", env=env, check=False
    )
    return done.stdout
