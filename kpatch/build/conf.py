# SPDX-License-Identifier: GPL-2.0-only
"""The kernel tree's own ``conf``, run by the tree's own Makefile, out of tree: it decides."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.lib import confine
from kpatch.lib.process import need
from kpatch.lib.stage import shell_line
from kpatch.tables.outcomes import ExitCode


@dataclass(frozen=True)
class Cause:
    """A kind of line that says why a config could not be made, and the mend.

    ``last``: of several lines the last one counts. conf ends at an error of ``$(error-if)``, and
    what ``$(warning-if)`` says before looks the same.
    """

    pattern: re.Pattern[str]
    mend: str
    last: bool = False


# conf has no columns in its messages, gcc has; conf warns with and without a space.
_PLACE = r"[^\s:]+:\d+:(?!\d| ?[Ww]arning| note|\t| location of) ?"

# In this order. Of conf: scripts/kconfig/lexer.l, parser.y, preprocess.c, symbol.c, util.c of 6.1
# to 7.3. What only says that it failed ("make: *** [Makefile:5: x] Error 2") is none of them.
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
        "mend that line; the whole output is above",
    ),
    Cause(
        re.compile(r"^(?P<text>error: recursive dependency .*|Recursive inclusion detected.*)"),
        "mend the Kconfig files that the output above names",
    ),
    Cause(
        re.compile(r"(?P<text>\S+:\d+:\d+: (?:fatal )?error: .*)"),
        "mend that line; the whole output is above",
    ),
    Cause(
        re.compile(rf"^(?P<text>{_PLACE}.+)"),
        "mend that line; the whole output is above",
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
    """``make O=out settings… target`` in ``source``, which is not written to."""
    make = need("make", package="make")
    jobs = f"-j{os.cpu_count() or 1}"  # conf itself is built first
    return [make, "-s", jobs, "-C", str(source), f"O={out}", *settings, target]


def commands(asked: Path, *, source: Path, out: Path) -> tuple[list[str], ...]:
    """What makes ``out``/.config of the fragment file ``asked``.

    Everything that it does not ask for is off; what only became visible by that has its default.
    """
    return (
        command("allnoconfig", f"KCONFIG_ALLCONFIG={asked}", source=source, out=out),
        command("olddefconfig", source=source, out=out),
    )


def run(argv: list[str], *, source: Path, out: Path, asked: Path | None = None) -> None:
    """Run one of the commands; HarnessError (exit 4) with all that make said if it fails.

    ``asked`` is the fragment file, if the command reads one.

    OSError (ENOSPC) if it was for want of space.
    """
    readable = () if asked is None else (asked,)
    status, output = confine.make(argv, source=source, out=out, readable=readable)
    if status != 0:
        output = output.replace(f"{source}/", "")
        told, mend = _cause(output)
        raise HarnessError(
            f"make {argv[-1]}",
            f"exit status {status}: {told}",
            mend=mend,
            code=ExitCode.BUILD,
            details=f"{shell_line(argv)}\n{output}",
        )


def _cause(output: str) -> tuple[str, str]:
    """Why conf or its build failed, as the output has it, and the mend."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    said = [line for line in lines if not _FAILED.search(line)]
    for cause in _CAUSES:
        found = [match for line in said if (match := cause.pattern.search(line))]
        if found:
            match = found[-1 if cause.last else 0]
            return match["text"].strip(), cause.mend.format_map(match.groupdict())
    return (lines or ["no message"])[-1].strip(), "see the whole output above"


def resolve(asked: Path, *, source: Path, out: Path) -> str:
    """The .config that the tree makes of the fragment file ``asked``."""
    for argv in commands(asked, source=source, out=out):
        run(argv, source=source, out=out, asked=asked)
    try:
        return confine.product(out, ".config").read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].rpartition(b"\n")[2].decode()
        raise HarnessError(
            line.partition("=")[0] or ".config",
            "its value has letters that are no UTF-8",
            mend="write the Kconfig file that gives it in UTF-8",
            code=ExitCode.BUILD,
        ) from error


def variables(*, source: Path, out: Path) -> dict[str, str]:
    """The environment in which the tree's Makefile runs conf: CC, RUSTC, PAHOLE_VERSION, ….

    What the top Makefile exports differs between releases, so conf is asked: it is given a
    Kconfig file (``KBUILD_KCONFIG``) whose one macro writes the environment down.
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
    """Run a command line of the Kconfig files of ``source``, confined; return what it printed.

    It may write to the working directory. What it printed on stderr is dropped, as conf does.
    """
    argv = confine.wrap(["sh", "-c", command], readable=[source], writable=[Path.cwd()])
    env = {**os.environ, "PATH": confine.path()}
    done = subprocess.run(
        argv, capture_output=True, text=True, errors="replace", env=env, check=False
    )
    return done.stdout
