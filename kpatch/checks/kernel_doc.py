# SPDX-License-Identifier: GPL-2.0-only
"""Check kernel-doc comments with the unpatched tree's scripts/kernel-doc -none -Wall.

Complaints before and after a patch are compared without line numbers. The tree's own comparison,
tools/docs/kdoc_diff (7.3), wants a git repository that has the patches as commits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from kpatch.checks import script
from kpatch.checks.context import Context, CouldNotRunError, NotApplicableError
from kpatch.checks.lines import placed
from kpatch.model import Applied, Finding, Patch
from kpatch.tables.outcomes import CheckOutcome

SCRIPT = "scripts/kernel-doc"
RECIPE = "2"
"""Part of the key of kept findings; to be changed with this module."""

SUFFIXES = (".c", ".h")

RETURN = "No description found for return value"
"""Complaint that counts in a file only if the file, as it was, gives no reason for it.

It is off in the kernel's own builds (W=1), and many files leave the value to the prose.
"""

# "Warning: file:12 text" of the script in Python, "file:12: warning: text" of that in Perl.
_COMPLAINT = re.compile(
    r"^(?:(?:Warning|Error): (?P<file>[^:\n]+):(?P<line>\d+) "
    r"|(?P<perl_file>[^:\n]+):(?P<perl_line>\d+): (?:warning|error): )(?P<text>.+)$",
    re.MULTILINE,
)


def check(context: Context) -> Iterator[Finding]:
    """Yield a finding for each complaint that a patch brings."""
    touched = {path for patch in context.patches for path in patch.paths}
    if not any(path.endswith(SUFFIXES) for path in touched):
        raise NotApplicableError("no C file is touched")
    script.require(context.tree, SCRIPT)
    for patch in context.patches:
        context.stage.advance(patch.number - 1, patch.total)
        paths = sorted(path for path in patch.paths if path.endswith(SUFFIXES))
        if paths:
            yield from placed(context, patch, _new(context, patch, paths))


def _new(context: Context, patch: Patch, paths: Sequence[str]) -> Sequence[Finding]:
    """Return the complaints about ``paths`` after ``patch`` that were not there before."""
    before, after = context.after(patch.number - 1), context.after(patch.number)
    context.stage.command([*_command(context, SCRIPT), *paths], cwd=context.tree.path)

    def find() -> Iterator[Finding]:
        old = _complaints(context, before, paths)
        left = Counter(map(_identity, old))
        excused = {found.file for found in old if RETURN in found.text}
        for found in _complaints(context, after, paths):
            if RETURN in found.text and found.file in excused:
                continue
            if left[_identity(found)]:
                left[_identity(found)] -= 1
            else:
                yield found

    tree = context.tree
    parts = (RECIPE, tree.provider, tree.tree_id, before.delta_id, after.delta_id, *paths)
    return context.memo("kernel-doc", parts, find)


def _identity(found: Finding) -> tuple[str, str]:
    return found.file, found.text


def _command(context: Context, path: str) -> list[str]:
    """Return the words that run the tree's script, which is at ``path``.

    It is in Perl before Linux 6.19 or so, in Python since; -Wall is known since 6.7 or so.
    """
    text = (context.tree.path / SCRIPT).read_text(errors="replace")
    interpreter = "python3" if "python" in text.partition("\n")[0] else "perl"
    return [interpreter, path, "-none", *(["-Wall"] if "Wall" in text else [])]


def _complaints(context: Context, state: Applied, paths: Sequence[str]) -> list[Finding]:
    contents = {path: context.content(state, path) for path in paths}
    files = {path: content for path, content in contents.items() if content is not None}
    if not files:
        return []
    with script.folder(files) as folder:
        argv = [*_command(context, str(context.tree.path / SCRIPT)), *files]
        status, output = script.run(context.tree, argv, cwd=folder)
    if status != 0 or "Skipping checks" in output:
        said = output.strip().splitlines() or ["nothing"]
        raise CouldNotRunError(
            f"kernel-doc ended with status {status} and printed: {said[-1][:200]}; "
            "try the command by hand"
        )
    # The script in Python prints each complaint twice in some versions.
    found = dict.fromkeys(match.group(0) for match in _COMPLAINT.finditer(output))
    return [_finding(match) for text in found if (match := _COMPLAINT.match(text))]


def _finding(match: re.Match[str]) -> Finding:
    return Finding(
        match["text"],
        CheckOutcome.WARN,
        file=match["file"] or match["perl_file"],
        line=int(match["line"] or match["perl_line"]),
    )
