# SPDX-License-Identifier: GPL-2.0-only
"""Check kernel-doc comments with the unpatched tree's scripts/kernel-doc -none -Wall.

Complaints before and after a patch are compared without line numbers. The tree's own tool for such
a comparison, tools/docs/kdoc_diff (7.3), needs a git repository with the patches as commits.
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
"""Part of the cache key of findings. Increase it if a change here makes other findings."""

SUFFIXES = (".c", ".h")

RETURN = "No description found for return value"
"""A complaint that counts in a file only if the file has none of it before the patch.

The kernel's own builds (W=1) do not ask for it, and many files describe return values in prose.
"""

# In Python the script prints "Warning: FILE:12 TEXT", in Perl "FILE:12: warning: TEXT".
_COMPLAINT = re.compile(
    r"^(?:(?:Warning|Error): (?P<file>[^:\n]+):(?P<line>\d+) "
    r"|(?P<perl_file>[^:\n]+):(?P<perl_line>\d+): (?:warning|error): )(?P<text>.+)$",
    re.MULTILINE,
)


def check(context: Context) -> Iterator[Finding]:
    """Yield a finding (WARN) for each complaint about a touched file that a patch adds.

    Only .c and .h files count. NotApplicableError if the series touches none. CouldNotRunError if
    the tree has no kernel-doc, or it fails.
    """
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
    """Return the complaints about the files ``paths`` that ``patch`` adds (see also RETURN)."""
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
    """Return the command that runs kernel-doc, at ``path``, without the files to check.

    Interpreter and options follow from the script's text: it is in Perl in 6.1 and 6.12, in Python
    in 7.3; 6.1 has no -Wall.
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
    # Some versions of the script in Python print each complaint twice.
    found = dict.fromkeys(match.group(0) for match in _COMPLAINT.finditer(output))
    return [_finding(match) for text in found if (match := _COMPLAINT.match(text))]


def _finding(match: re.Match[str]) -> Finding:
    return Finding(
        match["text"],
        CheckOutcome.WARN,
        file=match["file"] or match["perl_file"],
        line=int(match["line"] or match["perl_line"]),
    )
