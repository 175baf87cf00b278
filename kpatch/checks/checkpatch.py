# SPDX-License-Identifier: GPL-2.0-only
"""Check each patch with the unpatched tree's scripts/checkpatch.pl --strict.

The script judges code, the mail and licence tags: `messages` returns all that it says, and a check
takes those of its own types (`MAIL`, `LICENCE`). What other checks of ours decide better is left
out (`JUDGED_ELSEWHERE`).
"""

from __future__ import annotations

import difflib
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from kpatch.checks import script
from kpatch.checks.context import Context, CouldNotRunError
from kpatch.checks.lines import HUNK, lines, placed
from kpatch.lib import cache
from kpatch.model import Finding, Patch, Tree
from kpatch.tables.outcomes import CheckOutcome

SCRIPT = "scripts/checkpatch.pl"
RECIPE = "2"
"""Part of the key of kept findings; to be changed with what this module makes of a message."""

MAIL = frozenset(
    {
        "BAD_COMMIT_SEPARATOR",
        "BAD_REPORTED_BY_LINK",
        "BAD_SIGN_OFF",
        "BAD_STABLE_ADDRESS_STYLE",
        "COMMIT_COMMENT_SYMBOL",
        "COMMIT_LOG_LONG_LINE",
        "COMMIT_LOG_USE_LINK",
        "COMMIT_LOG_VERSIONING",
        "COMMIT_LOG_WRONG_LINK",
        "COMMIT_MESSAGE",
        "DIFF_IN_COMMIT_MSG",
        "EMAIL_SUBJECT",
        "FROM_SIGN_OFF_MISMATCH",
        "GERRIT_CHANGE_ID",
        "GIT_COMMIT_ID",
        "MISSING_FIXES_TAG",
        "MISSING_SIGN_OFF",
        "NO_AUTHOR_SIGN_OFF",
        "PLACEHOLDER_USE",
        "PREFER_LORE_ARCHIVE",
        "UTF8_BEFORE_PATCH",
    }
)
"""Types about the mail instead of the code."""

LICENCE = frozenset({"SPDX_LICENSE_TAG"})

JUDGED_ELSEWHERE = (
    "BAD_FIXES_TAG",  # the script compares the title with a history that it does not see here
    "UNKNOWN_COMMIT_ID",  # likewise: without a repository no commit is known
    "FILE_PATH_CHANGES",  # it asks for each new file; the check maintainers looks them up
    "TYPO_SPELLING",  # its dictionary is one of the check spelling
)

LEVELS = {
    "ERROR": CheckOutcome.FAIL,
    "WARNING": CheckOutcome.WARN,
    "CHECK": CheckOutcome.WARN,
}

OTHER_LEVELS = {
    "COMMIT_MESSAGE": CheckOutcome.FAIL,  # nobody takes a patch that says nothing
    "GIT_COMMIT_ID": CheckOutcome.WARN,  # any 12 hex digits in the text are taken for a commit
}
"""Outcomes of types whose own level does not fit."""

_HEAD = re.compile(r"^(?P<level>ERROR|WARNING|CHECK):(?P<type>[A-Z0-9_]+): (?P<text>.+)$")
_PLACE = re.compile(r"^#\d+: (?:FILE: (?P<file>.+):(?P<line>\d+):)?$")
_TOTAL = re.compile(r"^total: (\d+) errors, (\d+) warnings, (\d+) checks, \d+ lines checked$", re.M)

# Text after it repeats the commit with made-up digits, since the script sees no repository.
_MADE_UP = " - ie: "

_CAMEL_CASE = """\
--- a/init/main.c
+++ b/init/main.c
@@ -1 +1,2 @@
 int i;
+int camelCase;
"""

ALIKE = 0.6
"""Similarity from which two lines are versions of one (difflib's ratio)."""

# Of a diff's header, the lines that would say the contrary of a diff that is taken back.
_MODES = ("new file mode", "deleted file mode", "rename ", "similarity index", "copy ")

_COMPATIBLE = re.compile(r'"([\w,.+-]+)"')


def check(context: Context) -> Iterator[Finding]:
    """Yield a finding for each message of checkpatch about code."""
    for patch in context.patches:
        context.stage.advance(patch.number - 1, patch.total)
        for found in messages(context, patch):
            if kind(found) not in MAIL | LICENCE:
                yield found
    note_command(context)


def note_command(context: Context) -> None:
    """Record the command that repeats the run by hand."""
    path = context.tree.path
    mails = [str(mail) for mail in context.applied.series.mailboxes]
    context.stage.command(["perl", SCRIPT, "--strict", "--show-types", *mails], cwd=path)


def kind(found: Finding) -> str:
    """Return checkpatch's type of a finding of `messages`."""
    return found.text.partition(":")[0]


def messages(context: Context, patch: Patch) -> list[Finding]:
    """Return a finding for each message about ``patch``; its text begins with the type.

    CouldNotRunError if the script does not come to its end.
    """
    mail = as_mail(patch)

    def find() -> Iterator[Finding]:
        found = [one for one in _run(context.tree, mail) if not _excused(one)]
        if any(one.line for one in found):
            old = _run(context.tree, as_mail(replace(patch, diff=_backward(patch.diff))))
            found = _new(found, old)
        yield from found

    parts = (RECIPE, context.tree.provider, context.tree.tree_id, mail.decode(errors="replace"))
    offsets = lines(context, patch).offsets
    found = [
        replace(one, line=one.line + offsets.get((one.file, one.line), 0)) if one.line else one
        for one in context.memo("checkpatch", parts, find)
    ]
    return [one for one in placed(context, patch, found) if not _described(context, one)]


def as_mail(patch: Patch) -> bytes:
    """Return ``patch`` as one plain mail, as git format-patch writes it."""
    name, address = patch.author
    subject = patch.tagged or f"[PATCH] {patch.subject}"
    head = f"From: {name} <{address}>\nSubject: {subject}\n\n{patch.message.rstrip()}\n"
    below = patch.diff if patch.diff.startswith(b"---\n") else b"---\n" + patch.diff
    return head.encode(errors="replace") + below


def _run(tree: Tree, mail: bytes) -> list[Finding]:
    path = script.require(tree, SCRIPT)
    words = [f"--root={tree.path}", "--strict", "--show-types", "--no-color", "--quiet"]
    ignored = f"--ignore={','.join(JUDGED_ELSEWHERE)}"
    with script.folder({"mail": mail}) as folder:
        shutil.copytree(_names(tree), folder, dirs_exist_ok=True)
        status, output = script.run(tree, ["perl", str(path), *words, ignored, "mail"], cwd=folder)
    return parse(status, output)


def parse(status: int, output: str) -> list[Finding]:
    """Return the findings that the script's ``output`` tells of.

    CouldNotRunError if it has no summary, or another number of messages.
    """
    found = list(_parse(output))
    total = _TOTAL.search(output)
    clean = status == 0 and not output.strip()  # --quiet
    if not clean and (total is None or sum(map(int, total.groups())) != len(found)):
        said = output.strip().splitlines() or ["nothing"]
        raise CouldNotRunError(
            f"checkpatch ended with status {status} and printed: {said[-1][:200]}; "
            "try the command by hand"
        )
    return found


def _parse(output: str) -> Iterator[Finding]:
    said = output.splitlines()
    heads = [n for n, line in enumerate(said) if _HEAD.match(line) and (n == 0 or not said[n - 1])]
    for start, end in pairwise([*heads, len(said)]):
        head = _HEAD.match(said[start])
        assert head is not None
        rest = said[start + 1 : end]
        place = _PLACE.match(rest[0]) if rest else None
        details = [line for line in rest[place is not None :] if line.strip()]
        line = place["line"] if place else None
        yield Finding(
            f"{head['type']}: {head['text'].partition(_MADE_UP)[0]}",
            OTHER_LEVELS.get(head["type"], LEVELS[head["level"]]),
            file=(place["file"] or "") if place else "",
            line=int(line) if line else None,
            details=tuple(line for line in details if not _TOTAL.match(line)),
        )


def _backward(diff: bytes) -> bytes:
    """Return the diff that takes ``diff`` back, for checkpatch: removed lines are added ones."""
    swap = {"+": "-", "-": "+"}
    old = new = 0
    out = []
    for text in diff.decode(errors="replace").split("\n"):
        if old or new:
            old -= text[:1] not in ("+", "\\")
            new -= text[:1] not in ("-", "\\")
            out.append(swap.get(text[:1], text[:1]) + text[1:])
        elif match := HUNK.match(text):
            old, new = int(match["old"] or 1), int(match["new"] or 1)
            out.append(f"@@ -{match['start']},{new} +{match['old_start']},{old} @@")
        elif not text.startswith(_MODES):
            out.append(text)
    return "\n".join(out).encode(errors="replace")


def _new(found: Iterable[Finding], old: Iterable[Finding]) -> list[Finding]:
    """Return those of ``found`` that are not among ``old``, said of the lines that a patch removes.

    A line that the patch moves or edits may have been complained about before.
    """
    left = [one for one in old if one.line]
    new = []
    for one in found:
        same = next((it for it in left if it.text == one.text and _alike(it, one)), None)
        if same is None:
            new.append(one)
        else:
            left.remove(same)
    return new


def _alike(one: Finding, other: Finding) -> bool:
    """Return whether two findings show about the same line of code."""
    a, b = (found.details[0] if found.details else "" for found in (one, other))
    return difflib.SequenceMatcher(None, a, b).ratio() >= ALIKE


def _excused(found: Finding) -> bool:
    """Return whether a maintainer would not remark on what the script remarks on.

    A log that a message quotes keeps its long lines; a quirk for a device has no commit to fix.
    """
    if kind(found) == "COMMIT_LOG_LONG_LINE":
        return any(line.startswith((" ", "\t", ">")) for line in found.details[:1])
    return kind(found) == "MISSING_FIXES_TAG" and "'stable@'" in found.text


def _described(context: Context, found: Finding) -> bool:
    """Return whether ``found`` misses a devicetree binding that the series itself brings.

    The script looks for it in the unpatched tree.
    """
    if kind(found) != "UNDOCUMENTED_DT_STRING":
        return False
    named = _COMPATIBLE.search(found.text)
    bindings = [
        change.content or b""
        for change in context.after(found.patch).changes
        if change.path.startswith("Documentation/devicetree/bindings/")
    ]
    return named is not None and any(named[1].encode() in content for content in bindings)


def _names(tree: Tree) -> Path:
    """Return a folder with the script's list of the CamelCase names in the tree's headers.

    The script makes the list, in seconds, where it finds none in the current folder.
    """

    def fill(partial: Path) -> None:
        with script.folder({"mail": _CAMEL_CASE.encode()}) as folder:
            argv = ["perl", str(script.require(tree, SCRIPT)), f"--root={tree.path}"]
            script.run(tree, [*argv, "--strict", "mail"], cwd=folder, writable=[folder])
            for file in folder.glob(".checkpatch-camelcase.*"):
                if file.is_file() and not file.is_symlink():
                    shutil.copyfile(file, partial / file.name)

    return cache.entry("checkpatch", cache.digest((tree.provider, tree.tree_id)), fill)[0]
