# SPDX-License-Identifier: GPL-2.0-only
"""Check the SPDX tags of the lines that a patch adds, against the tree's own LICENSES.

The tree's scripts/spdxcheck.py is not used: it reads LICENSES from the HEAD of a git repository,
and a tree in the cache is none. This module reads the same files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from kpatch.checks import checkpatch
from kpatch.checks.context import Context, CouldNotRunError
from kpatch.checks.lines import lines, new_files, placed
from kpatch.model import Finding, Patch
from kpatch.tables.outcomes import CheckOutcome

FOLDERS = ("preferred", "dual", "deprecated", "exceptions")
"""The folders of LICENSES, as in scripts/spdxcheck.py."""

FIRST = 5
"""The tag has to be in one of this many lines at the beginning of a file."""

TAGGED = re.compile(
    r".*\.(?:c|h|S|rs|lds|dts|dtsi|py|sh|pl|yaml|rst)|(?:.*/)?(?:Makefile|Kbuild|Kconfig.*)"
)
"""Matches the paths of files that need a tag."""

# A word begins with a letter or digit, so that the end of a comment ("-->") is none.
_WORD = r"\(*\w[\w.+()-]*"
_TAG = re.compile(rf"SPDX-License-Identifier: *(?P<expression>{_WORD}(?: +{_WORD})*)")
_VALID = re.compile(r"^(?:Valid-License|SPDX-Exception)-Identifier: *(\S+)", re.MULTILINE)
_OPERATORS = frozenset({"AND", "OR", "WITH"})


def check(context: Context) -> Iterator[Finding]:
    """Yield a finding for each new file that lacks its tag, and each tag with an unknown licence.

    Also yields checkpatch's findings on tags (`checkpatch.LICENCE`). CouldNotRunError if the tree
    has no LICENSES. Raises the errors of `checkpatch.messages`, too.
    """
    known = _known(context.tree.path / "LICENSES")
    for patch in context.patches:
        context.stage.advance(patch.number - 1, patch.total)
        said = [
            found
            for found in checkpatch.messages(context, patch)
            if checkpatch.kind(found) in checkpatch.LICENCE
        ]
        yield from said
        yield from _untagged(context, patch, {found.file for found in said})
        yield from placed(context, patch, _unknown(context, patch, known))


def _known(folder: Path) -> frozenset[str]:
    """Return the identifiers of licences and exceptions that the files in LICENSES declare.

    ``folder`` is LICENSES of the tree. CouldNotRunError if there is no identifier.
    """
    files = [file for name in FOLDERS for file in sorted((folder / name).glob("*"))]
    texts = (file.read_text(errors="replace") for file in files if file.is_file())
    found = frozenset(name for text in texts for name in _VALID.findall(text))
    if not found:
        raise CouldNotRunError("the tree has no LICENSES; give KERNEL a whole kernel tree")
    return found


def _untagged(context: Context, patch: Patch, told: set[str]) -> Iterator[Finding]:
    """Yield a finding (WARN) for each new file that needs a tag (`TAGGED`) and has none.

    Blank files and the paths ``told`` are left out. The tag has to be in the first `FIRST` lines.
    """
    for path in new_files(context, patch):
        content = context.content(context.after(patch.number), path) or b""
        first = b"\n".join(content.split(b"\n")[:FIRST])
        needs = TAGGED.fullmatch(path) and content.strip() and path not in told
        if needs and b"SPDX-License-Identifier:" not in first:
            yield Finding(
                "the new file has no SPDX-License-Identifier",
                CheckOutcome.WARN,
                patch=patch.number,
                file=path,
                line=1,
            )


def _unknown(context: Context, patch: Patch, known: frozenset[str]) -> Iterator[Finding]:
    """Yield a finding (FAIL) for each identifier in an added tag that is not in ``known``.

    Only tags in the first `FIRST` lines of a file count.
    """
    for line in lines(context, patch).added:
        tag = _TAG.search(line.text) if line.number <= FIRST else None
        for name in _names(tag["expression"]) if tag else ():
            if name not in known:
                yield Finding(
                    f"LICENSES has no licence or exception {name}",
                    file=line.file,
                    line=line.number,
                    details=(line.text,),
                )


def _names(expression: str) -> list[str]:
    """Return the identifiers of licences and exceptions in an SPDX expression."""
    words = expression.replace("(", " ").replace(")", " ").split()
    return [word for word in words if word.upper() not in _OPERATORS]
