# SPDX-License-Identifier: GPL-2.0-only
"""Run a tree's Coccinelle scripts on C sources, in report mode, as ``make coccicheck`` does.

The caller names the unpatched tree, so a series cannot change the scripts. They are run with a time
limit, and confined if bwrap works: a script may run Python, and some need minutes for a large
function.
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
from kpatch.lib import cache, confine, environment, process, sanitize
from kpatch.tables.outcomes import ExitCode

RECIPE = "2"
"""Part of the cache key of a source's reports. Increase it if a change here alters reports."""

FOLDER = "scripts/coccinelle"
SECONDS = 90.0
"""Time limit in seconds for one script, which reads all sources in one run of spatch."""

INCLUDES = ("include", "include/uapi", "arch/x86/include", "arch/x86/include/uapi")

# Words of a script's "// Options:" line that are passed to spatch; others are dropped. `argv` adds
# --very-quiet for every script.
OPTIONS = frozenset({"--no-includes", "--include-headers", "--all-includes", "--no-loops"})

# Scripts with this text in their header are not run: their authors expect false reports.
DOUBTFUL = "Confidence: Low"

_REPORT = re.compile(r"^virtual[ \t]+report\b", re.MULTILINE)
_OPTIONS = re.compile(r"^// Options:(.*)$", re.MULTILINE)
# FILE:LINE:COLUMN-COLUMN: TEXT
_REPORTED = re.compile(r"(?P<file>\S+?):(?P<line>\d+):\d+-\d+: (?P<text>\S.*)")


@dataclass(frozen=True, order=True)
class Source:
    """A source file to examine: its path in the tree, and its content."""

    path: str
    content: bytes

    @property
    def key(self) -> tuple[str, str]:
        """Return what identifies the source in a cache key: path, and digest of the content."""
        return self.path, cache.digest([self.content.decode("latin-1")])


@dataclass(frozen=True)
class Script:
    """A Coccinelle script: its path in the tree, and its header's spatch options in OPTIONS."""

    path: str
    options: tuple[str, ...]


def scripts(tree: Path) -> list[Script]:
    """Return the tree's scripts that have a report mode, sorted by path.

    Scripts that are marked "Confidence: Low" are left out.
    """
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
    """Run all scripts of ``tree`` on ``sources``, up to ``jobs`` scripts at a time.

    Return the reports by source, each once, () for a source without any; and a sentence for each
    script that failed or was ended because it exceeded a limit. The function ``begun`` is called
    before each result is read, with the number of results so far and the number of scripts.
    HarnessError (exit 4) if the tree has no script with a report mode, or if every script fails.
    """
    every = scripts(tree)
    with tempfile.TemporaryDirectory(prefix="vfio-acpi-cocci-") as scratch:
        folder = Path(scratch)
        places = dict(_placed(folder, sources))
        found: dict[Source, list[Diagnostic]] = {source: [] for source in sources}
        missed, failed = [], []
        with ThreadPoolExecutor(max(jobs, 1)) as pool:
            runs = [(script, pool.submit(_run, tree, folder, script)) for script in every]
            for number, (script, run) in enumerate(runs):
                begun(number, len(every))
                status, output, limit = run.result()
                if limit:
                    missed.append(f"{script.path} {limit} and was ended")
                elif status:
                    failed.append(output.strip().rpartition("\n")[2])
                    missed.append(f"{script.path} failed: {sanitize.line(failed[-1])}")
                for source, one in _parsed(output, places):
                    found[source].append(one)
    if len(failed) == len(every):
        raise HarnessError(
            f"{FOLDER} of the tree",
            failed[0] if failed else "has no scripts with a report mode",
            hint="see whether spatch runs a script of the tree by hand",
            code=ExitCode.BUILD,
        )
    return {source: tuple(dict.fromkeys(items)) for source, items in found.items()}, tuple(missed)


def argv(tree: Path, script: Script, folder: Path) -> list[str]:
    """Return the spatch command that runs ``script`` on all C files below ``folder``."""
    search = [word for name in INCLUDES for word in ("-I", str(tree / name))]
    return [
        *("spatch", "-D", "report", "--no-show-diff", "--very-quiet"),
        *("--cocci-file", str(tree / script.path), *script.options, *search),
        *("--dir", str(folder)),
    ]


def _placed(folder: Path, sources: Collection[Source]) -> Iterator[tuple[str, Source]]:
    """Write each source to ``folder``/NUMBER/PATH; yield the path of that file, and the source.

    The number keeps sources apart that are versions of one file, and so have the same path.
    """
    for number, source in enumerate(sorted(sources)):
        path = folder / str(number) / source.path
        path.parent.mkdir(parents=True)
        path.write_bytes(source.content)
        yield str(path), source


def _run(tree: Path, folder: Path, script: Script) -> tuple[int, str, str]:
    """Run ``script`` confined on the sources below ``folder``.

    Return exit status, output, and the limit that the script exceeded and was ended for, "" if it
    was not: SECONDS, or `kpatch.lib.confine.BUILD_OUTPUT` bytes of output.
    """
    end = time.monotonic() + SECONDS
    limit = ""

    def over(printed: int) -> bool:
        nonlocal limit
        if time.monotonic() > end:
            limit = f"took longer than {SECONDS:.0f} s"
        elif printed > confine.BUILD_OUTPUT:
            limit = f"printed more than {confine.BUILD_OUTPUT >> 20} MiB"
        return bool(limit)

    words = confine.wrap(argv(tree, script, folder), readable=[tree, folder])
    status, output = process.capture(words, env=environment.clean(), watch=over)
    return status, output, limit


def _parsed(output: str, places: Mapping[str, Source]) -> Iterator[tuple[Source, Diagnostic]]:
    for line in output.splitlines():
        match = _REPORTED.match(line)
        source = places.get(match["file"]) if match else None
        if match and source:
            number = int(match["line"])
            function = function_at(source.content.decode(errors="replace"), number)
            yield source, Diagnostic(source.path, number, function, "", match["text"])
