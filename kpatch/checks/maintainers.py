# SPDX-License-Identifier: GPL-2.0-only
"""Check that MAINTAINERS has the new files of a series, with scripts/get_maintainer.pl."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kpatch.checks import script
from kpatch.checks.context import Context, CouldNotRunError
from kpatch.checks.lines import new_files
from kpatch.lib import cache
from kpatch.model import Finding
from kpatch.tables.outcomes import CheckOutcome

SCRIPT = "scripts/get_maintainer.pl"
RECIPE = "1"
"""Part of the cache key of get_maintainer's answers. Increase it if a change here alters them."""

EVERYTHING = "THE REST"
"""The title of the section of MAINTAINERS that matches every file."""

# The tree in the cache has no git history.
OPTIONS = ("--no-git", "--no-git-fallback", "--no-rolestats")

SHOWN = 12
"""Largest number of addresses in the note on whom to send the series to."""

_FILE = "--- /dev/null\n+++ b/{0}\n@@ -0,0 +1 @@\n+x\n"
_ENTRY = re.compile(r"^F:\s*(?P<path>\S+)$", re.MULTILINE)


def check(context: Context) -> Iterator[Finding]:
    """Yield a finding (WARN) for each new file without a section, and each stale entry.

    The section EVERYTHING does not count, and a new file that a later patch removes is left out. An
    entry (F:) is stale if the series removes its file. MAINTAINERS is that after the whole series,
    since the patch that changes it may be the last one. A note has recipients of the series, SHOWN
    at most. CouldNotRunError if the tree has no MAINTAINERS or no get_maintainer, or that fails.
    """
    listed = context.content(context.applied, "MAINTAINERS")
    if listed is None:
        raise CouldNotRunError("the tree has no MAINTAINERS; give KERNEL a whole kernel tree")
    yield from _unknown(context, listed)
    yield from _stale(context, listed)
    _recipients(context, listed)


def _unknown(context: Context, listed: bytes) -> Iterator[Finding]:
    for patch in context.patches:
        for path in new_files(context, patch):
            if context.content(context.applied, path) is None:
                continue
            sections = _ask(context, listed, _FILE.format(path).encode(), "--sections")
            if set(_titles(sections)) <= {EVERYTHING}:
                yield Finding(
                    f"no section of MAINTAINERS has the new file {path}",
                    CheckOutcome.WARN,
                    patch=patch.number,
                    file=path,
                )


def _titles(sections: str) -> list[str]:
    """Return the titles in the output of --sections: the first line of each paragraph."""
    return [text.strip().split("\n")[0] for text in sections.split("\n\n") if text.strip()]


def _stale(context: Context, listed: bytes) -> Iterator[Finding]:
    entries = {match["path"] for match in _ENTRY.finditer(listed.decode(errors="replace"))}
    for patch in context.patches:
        before = context.after(patch.number - 1)
        for path in sorted(entries.intersection(patch.paths)):
            if context.content(before, path) is None:
                continue
            if context.content(context.applied, path) is None:
                yield Finding(
                    f"MAINTAINERS still has {path}, which this patch removes",
                    CheckOutcome.WARN,
                    patch=patch.number,
                    file="MAINTAINERS",
                )


def _recipients(context: Context, listed: bytes) -> None:
    """Add a note with the first SHOWN recipients of the series; record the command for all."""
    diff = b"".join(patch.diff for patch in context.patches)
    said = [line for line in _ask(context, listed, diff).splitlines() if line.strip()]
    more = f" and {len(said) - SHOWN} more" if len(said) > SHOWN else ""
    context.note(f"send it to: {', '.join(said[:SHOWN])}{more}")
    mails = [str(mail) for mail in context.applied.series.mailboxes]
    context.stage.command(["perl", SCRIPT, *OPTIONS, *mails], cwd=context.tree.path)


def _ask(context: Context, listed: bytes, diff: bytes, *options: str) -> str:
    """Return the output of get_maintainer for ``diff``; it is cached.

    ``listed`` is the content of MAINTAINERS. CouldNotRunError if the tree has no such script, or it
    fails or prints nothing.
    """
    tree = context.tree
    path = script.require(tree, SCRIPT)

    def find() -> Iterator[Finding]:
        files = {"MAINTAINERS": listed, "diff": diff}
        with script.folder(files) as folder:
            names = [f"--mpath={folder}/MAINTAINERS", f"{folder}/diff"]
            argv = ["perl", str(path), *OPTIONS, *options, *names]
            status, output = script.run(tree, argv, cwd=tree.path, readable=[folder])
        if status != 0 or not output.strip():
            said = output.strip().splitlines() or ["nothing"]
            raise CouldNotRunError(
                f"get_maintainer ended with status {status} and printed: {said[-1][:200]}; "
                "try the command by hand"
            )
        yield Finding(output)

    name = cache.digest((listed.decode(errors="replace"), diff.decode(errors="replace")))
    parts = (RECIPE, tree.provider, tree.tree_id, name, *options)
    [answer] = context.memo("maintainers", parts, find)
    return answer.text
