# SPDX-License-Identifier: GPL-2.0-only
"""Parse the output of a kernel build: its steps, its first error, its warnings."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

_STEP = re.compile(r"  (?P<verb>[A-Z][A-Z0-9_]*(?: \[[A-Z]\])?) +(?P<target>\S+)")

# Three ranks, the most informative first: lines with cause and place; errors of make itself; lines
# that only report a failure. Within a rank the first line of the log is taken, since later errors
# are mostly consequences.
_ERRORS: tuple[tuple[re.Pattern[str], ...], ...] = (
    tuple(
        map(
            re.compile,
            (
                # gcc and as: FILE:LINE:COLUMN: error: … (as: FILE:LINE: Error: …)
                r"(?P<file>[^\s:]+):(?P<line>\d+):(?:\d+:)? (?:fatal error|[Ee]rror): (?P<text>.+)",
                # gcc was killed, mostly by the OOM killer: gcc: fatal error: Killed signal …
                r"(?P<file>(?:\S*-)?(?:gcc|g\+\+|cc1)): (?:fatal error|internal compiler error):"
                r" (?P<text>.+)",
                # ld: [ld: ]OBJECT: in function `f': | FILE:LINE: | FILE:(.text+0x1): undefined …
                r"(?:\S*\bld: )?(?P<file>[^\s:]+):(?:(?P<line>\d+):|\([^)]*\):)"
                r" (?P<text>undefined reference to .+|multiple definition of .+)",
                r"\S*\bld: (?:(?P<file>[^\s:]+): )?(?P<text>cannot find .+)",
                # objtool: [FILE.o: ]error: objtool[ [its own FILE:LINE]]: … (warn.h in 7.3, with
                # the object; builtin-check.c in 6.1 and 6.12, without)
                r"(?:(?P<file>\S+): )?error: objtool(?: \[\S+\])?: (?P<text>.+)",
                # modpost: ERROR: modpost: … (7.3: FILE.ko: symbol 'f' undefined!; 6.1 and 6.12:
                # "f" [FILE.ko] undefined!), and up to 6.12 FATAL: modpost: …
                r"(?P<text>(?:ERROR|FATAL): modpost: .+)",
                # Kconfig: FILE:LINE: syntax error, FILE:LINE:error: …
                r"(?P<file>\S*Kconfig[^\s:]*):(?P<line>\d+):(?! ?warning) ?(?P<text>.+)",
            ),
        )
    ),
    tuple(
        map(
            re.compile,
            (
                # make itself: FILE:LINE: *** missing separator.  Stop.
                r"(?P<file>[^\s:]+):(?P<line>\d+): \*\*\* (?P<text>.+?)(?:\.  Stop\.)?$",
                r"make(?:\[\d+\])?: \*\*\* (?P<text>No rule to make target .+?)(?:\.  Stop\.)?$",
            ),
        )
    ),
    tuple(
        map(
            re.compile,
            (
                r"(?P<file>[^\s:]+): (?:fatal )?[Ee]rror: (?P<text>.+)",
                r"(?:make|bash|/bin/sh|sh)(?:\[\d+\])?: (?:\d+: )?(?:\*\*\* )?(?P<text>.+)",
            ),
        )
    ),
)

# gcc: FILE:LINE:COLUMN: warning: …; as: FILE:LINE: Warning: …; Kconfig: FILE:LINE:warning: …
_WARNING = re.compile(
    r"(?P<file>[^\s:]+):(?P<line>\d+):(?:\d+:)? ?[Ww]arning: (?P<text>.+)|"
    r"(?P<object>\S+)\.o: warning: (?P<objtool>objtool: .+)"
)
_NOISE = re.compile(r"make(\[\d+\])?: (Entering|Leaving) directory|make(\[\d+\])?: \*\*\* Waiting")

_IN_FUNCTION = re.compile(r"\S*\bld: (?P<folder>\S*/)[^/\s]+\.o: in function ")

BEFORE, AFTER = 3, 14


@dataclass(frozen=True)
class CompilerMessage:
    """An error or a warning of a build: its text, file (relative to the tree) and line if known."""

    file: str | None
    line: int | None
    text: str

    def __str__(self) -> str:
        place = "" if self.file is None else f"{self.file}: "
        if self.file is not None and self.line is not None:
            place = f"{self.file}:{self.line}: "
        return place + self.text


def step(line: str) -> tuple[str, str] | None:
    """Return verb and target of the kbuild step that ``line`` reports; None if it reports none.

    For example: "CC" and "drivers/vfio/vfio_main.o".
    """
    match = _STEP.fullmatch(line)
    return None if match is None else (match["verb"], match["target"])


def targets(log: str) -> frozenset[str]:
    """Return the targets of all kbuild steps in ``log``, the output of a build."""
    return frozenset(parsed[1] for parsed in map(step, log.splitlines()) if parsed is not None)


def first_error(log: str, *, source: str) -> tuple[CompilerMessage, str] | None:
    """Return the first error in ``log``, the output of a build, and the lines around it, or None.

    It is the first line that matches the first rank of _ERRORS; if none does, the first line that
    matches the next rank, and so on. None if no line matches any rank. ``source`` is the folder of
    the source, which is removed from the front of paths.
    """
    lines = log.splitlines()
    for patterns in _ERRORS:
        for index, line in enumerate(lines):
            if _NOISE.match(line):
                continue
            for pattern in patterns:
                match = pattern.match(line)
                if match is not None:
                    message = _message(match, source)
                    return _located(message, lines[index - 1 : index]), _around(lines, index)
    return None


def warnings(log: str, *, source: str, paths: Collection[str]) -> list[CompilerMessage]:
    """Return the warnings of a build's output ``log`` for the files ``paths``, each once, in order.

    The order is that of the output. ``paths`` are relative to the tree. ``source`` is the folder of
    the source, which is removed from the front of the paths in the output.
    """
    messages: dict[CompilerMessage, None] = {}
    stems = {path.rpartition(".")[0]: path for path in paths if "." in path}
    for line in log.splitlines():
        match = _WARNING.match(line)
        if match is None:
            continue
        if match["object"] is not None:
            path = stems.get(match["object"])
            message = CompilerMessage(path, None, match["objtool"])
        else:
            message = _message(match, source)
        if message.file in paths:
            messages[message] = None
    return list(messages)


def compiled(log: str, path: str) -> bool:
    """Return whether the build with the output ``log`` compiled the file ``path`` of the tree.

    If the build began from an empty folder, every path counts as compiled: a header has no step in
    the output, and only then all files that include it were compiled. Such a build is recognised by
    the step that makes fixdep, which every other step needs. After another build a path counts if
    the output has the step of its object.
    """
    made = targets(log)
    return "scripts/basic/fixdep" in made or f"{path.rpartition('.')[0]}.o" in made


def relative(file: str, source: str) -> str:
    """Return ``file``, a path in a build's output, without the folder ``source`` and leading "../".

    The result is relative to the tree: kbuild prints "../" since it runs in the objects' folder. An
    absolute path outside ``source`` is returned as it is. A leading "./" is removed, too.
    """
    return re.sub(r"^(\.\.?/)+", "", file.removeprefix(source.rstrip("/") + "/"))


def _message(match: re.Match[str], source: str) -> CompilerMessage:
    groups = match.groupdict()
    file, line = groups.get("file"), groups.get("line")
    if file is not None:
        file = relative(file, source)
    text = groups["text"].strip()
    return CompilerMessage(file, None if line is None else int(line), text)


def _located(message: CompilerMessage, before: list[str]) -> CompilerMessage:
    """Return ``message`` with the folder added to its file name, if it is a message of ld.

    ld prints the folder only in the line before the message, in the object's path ("ld: FOLDER/x.o:
    in function"). ``before`` has that line; it is empty for the first line of the output.
    """
    match = _IN_FUNCTION.match(before[0]) if before else None
    if match is None or message.file is None or "/" in message.file:
        return message
    return replace(message, file=match["folder"] + message.file)


def _around(lines: list[str], index: int) -> str:
    """Return BEFORE lines before ``lines[index]`` and AFTER lines from it on, as one text.

    The lines of kbuild's steps, and make's about folders and waiting, are left out: they come from
    parallel jobs.
    """
    near = lines[max(0, index - BEFORE) : index + AFTER]
    return "\n".join(line for line in near if step(line) is None and not _NOISE.match(line))
