# SPDX-License-Identifier: GPL-2.0-only
"""Run a tree's Coccinelle scripts on sources, in report mode, as ``make coccicheck`` does.

The scripts are those of the pristine tree. They are run confined and with a time limit: a script
may run Python, and some need minutes for a large function.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kpatch.build.diagnostics import Diagnostic, function_at
from kpatch.errors import HarnessError
from kpatch.lib import cache, confine, environment, process
from kpatch.tables.outcomes import ExitCode

RECIPE = "1"
"""Part of the keys of what is kept. Increase it if a change here finds other things."""

FOLDER = "scripts/coccinelle"
SECONDS = 90.0
"""Time limit of one script on all sources of a run."""

INCLUDES = ("include", "include/uapi", "arch/x86/include", "arch/x86/include/uapi")

# Words of an "Options:" line that are passed on. --very-quiet is given anyway.
OPTIONS = frozenset({"--no-includes", "--include-headers", "--all-includes", "--no-loops"})

# Scripts whose own header says that they are often wrong.
DOUBTFUL = "Confidence: Low"

_REPORT = re.compile(r"^virtual[ \t]+report\b", re.MULTILINE)
_OPTIONS = re.compile(r"^// Options:(.*)$", re.MULTILINE)
# FILE:LINE:COLUMN-COLUMN: TEXT
_REPORTED = re.compile(r"(?P<file>\S+?):(?P<line>\d+):\d+-\d+: (?P<text>\S.*)")


@dataclass(frozen=True, order=True)
class Source:
    """A file to look at: its path in the tree, and its content."""

    path: str
    content: bytes

    @property
    def key(self) -> tuple[str, str]:
        """Return the parts of a cache key."""
        return self.path, cache.digest([self.content.decode("latin-1")])


@dataclass(frozen=True)
class Script:
    """A script: its path in the tree, and the options that it asks for."""

    path: str
    options: tuple[str, ...]


def scripts(tree: Path) -> list[Script]:
    """Return the scripts of a tree that have a report mode, in the order of their names."""
    found = []
    for file in sorted((tree / FOLDER).rglob("*.cocci")):
        text = file.read_text(encoding="utf-8", errors="replace")
        if _REPORT.search(text) and DOUBTFUL not in text:
            words = " ".join(_OPTIONS.findall(text)).split()
            options = tuple(word for word in words if word in OPTIONS)
            found.append(Script(str(file.relative_to(tree)), options))
    return found


def reports(
    tree: Path, sources: Collection[Source], *, jobs: int, begun: Callable[[int, int], None]
) -> tuple[dict[Source, tuple[Diagnostic, ...]], tuple[str, ...]]:
    """Return what the scripts of ``tree`` report of each source, and the scripts that were ended.

    ``begun`` is called with the number of scripts done, and of all. HarnessError (exit 4) if a tree
    has no scripts, or none of them runs.
    """
    every = scripts(tree)
    with tempfile.TemporaryDirectory(prefix="vfio-acpi-cocci-") as scratch:
        folder = Path(scratch)
        places = dict(_placed(folder, sources))
        found: dict[Source, list[Diagnostic]] = {source: [] for source in sources}
        ended, failed = [], []
        with ThreadPoolExecutor(max(jobs, 1)) as pool:
            runs = [(script, pool.submit(_run, tree, folder, script)) for script in every]
            for number, (script, run) in enumerate(runs):
                begun(number, len(every))
                status, output = run.result()
                if status is None:
                    ended.append(script.path)
                elif status:
                    failed.append(output.strip().rpartition("\n")[2])
                for source, one in _parsed(output, places):
                    found[source].append(one)
    if len(failed) == len(every):
        raise HarnessError(
            f"{FOLDER} of the tree",
            failed[0] if failed else "has no scripts with a report mode",
            hint="see whether spatch runs a script of the tree by hand",
            code=ExitCode.BUILD,
        )
    return {source: tuple(dict.fromkeys(items)) for source, items in found.items()}, tuple(ended)


def argv(tree: Path, script: Script, folder: Path) -> list[str]:
    """Return the command that runs a script on all sources below ``folder``."""
    search = [word for name in INCLUDES for word in ("-I", str(tree / name))]
    return [
        *("spatch", "-D", "report", "--no-show-diff", "--very-quiet"),
        *("--cocci-file", str(tree / script.path), *script.options, *search),
        *("--dir", str(folder)),
    ]


def _placed(folder: Path, sources: Collection[Source]) -> Iterator[tuple[str, Source]]:
    """Write the sources below ``folder``, each in a folder of its own; yield path and source."""
    for number, source in enumerate(sorted(sources)):
        path = folder / str(number) / source.path
        path.parent.mkdir(parents=True)
        path.write_bytes(source.content)
        yield str(path), source


def _run(tree: Path, folder: Path, script: Script) -> tuple[int | None, str]:
    """Return exit status and output of a script; None for the status if it took too long."""
    end = time.monotonic() + SECONDS
    ended = False

    def late(printed: int) -> bool:
        nonlocal ended
        ended = time.monotonic() > end or printed > confine.BUILD_OUTPUT
        return ended

    words = confine.wrap(argv(tree, script, folder), readable=[tree, folder])
    status, output = process.capture(words, env=environment.clean(), watch=late)
    return None if ended else status, output


def _parsed(output: str, places: Mapping[str, Source]) -> Iterator[tuple[Source, Diagnostic]]:
    for line in output.splitlines():
        match = _REPORTED.match(line)
        source = places.get(match["file"]) if match else None
        if match and source:
            number = int(match["line"])
            function = function_at(source.content.decode(errors="replace"), number)
            yield source, Diagnostic(source.path, number, function, "", match["text"])
