# SPDX-License-Identifier: GPL-2.0-only
"""Check each patch with the unpatched tree's scripts/checkpatch.pl --strict.

The script judges code, mail and licence tags. Each of its messages has a type ("LONG_LINE").
`messages` returns those about a patch; the check mail takes the types MAIL, spdx the types LICENCE,
and the check of this module all others. JUDGED_ELSEWHERE are the types that the script is told to
ignore, as other checks judge them better.
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
"""Part of the cache key of findings. Increase it if the same messages give other findings."""

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
"""The types of messages about the mail instead of the code; the check mail reports them."""

LICENCE = frozenset({"SPDX_LICENSE_TAG"})

JUDGED_ELSEWHERE = (
    "BAD_FIXES_TAG",  # the script sees no git history here to compare the title with
    "UNKNOWN_COMMIT_ID",  # likewise: without git history it knows no commit
    "FILE_PATH_CHANGES",  # printed for each new file; the check maintainers looks them up
    "TYPO_SPELLING",  # its dictionary is one of the check spelling
)

LEVELS = {
    "ERROR": CheckOutcome.FAIL,
    "WARNING": CheckOutcome.WARN,
    "CHECK": CheckOutcome.WARN,
}

OTHER_LEVELS = {
    "COMMIT_MESSAGE": CheckOutcome.FAIL,  # a maintainer refuses a patch without a commit message
    "GIT_COMMIT_ID": CheckOutcome.WARN,  # any 12 hex digits in the message count as a commit
}
"""Outcomes of types of messages for which the outcome of their level (LEVELS) does not fit."""

_HEAD = re.compile(r"^(?P<level>ERROR|WARNING|CHECK):(?P<type>[A-Z0-9_]+): (?P<text>.+)$")
_PLACE = re.compile(r"^#\d+: (?:FILE: (?P<file>.+):(?P<line>\d+):)?$")
_TOTAL = re.compile(r"^total: (\d+) errors, (\d+) warnings, (\d+) checks, \d+ lines checked$", re.M)

# After this the script proposes a reference to the commit; without git, one with made-up digits.
_MADE_UP = " - ie: "

# A patch for which the script needs its list of CamelCase names (`_names`).
_CAMEL_CASE = """\
--- a/init/main.c
+++ b/init/main.c
@@ -1 +1,2 @@
 int i;
+int camelCase;
"""

ALIKE = 0.6
"""Least similarity (difflib's ratio, 0 to 1) of two lines that are versions of the same line."""

# Lines of a diff's header that would be wrong in the reversed diff (`_backward`).
_MODES = ("new file mode", "deleted file mode", "rename ", "similarity index", "copy ")

_COMPATIBLE = re.compile(r'"([\w,.+-]+)"')


def check(context: Context) -> Iterator[Finding]:
    """Yield the findings of `messages` for each patch, except those of the types MAIL and LICENCE.

    Raises the errors of `messages`.
    """
    for patch in context.patches:
        context.stage.advance(patch.number - 1, patch.total)
        for found in messages(context, patch):
            if kind(found) not in MAIL | LICENCE:
                yield found
    note_command(context)


def note_command(context: Context) -> None:
    """Record the command that runs the tree's checkpatch on the mails of the series by hand."""
    path = context.tree.path
    mails = [str(mail) for mail in context.applied.series.mailboxes]
    context.stage.command(["perl", SCRIPT, "--strict", "--show-types", *mails], cwd=path)


def kind(found: Finding) -> str:
    """Return the type ("LONG_LINE") of the message from which `messages` made the finding."""
    return found.text.partition(":")[0]


def messages(context: Context, patch: Patch) -> list[Finding]:
    """Return a finding for each message of checkpatch about ``patch``.

    The text of a finding begins with the type ("LONG_LINE: …"). Left out are the types
    JUDGED_ELSEWHERE, messages that removed lines get, too (`_new`), messages with which a
    maintainer would disagree (`_excused`), and missing bindings that the series adds
    (`_described`). The findings are cached. CouldNotRunError if the tree has no checkpatch, perl is
    missing, or the output is incomplete.
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
    """Return ``patch`` as a mail for checkpatch: headers, commit message, "---", diff.

    The headers are From and Subject. The subject is that of the original mail, with its tags; if
    that is unknown, "[PATCH] TITLE". The text is UTF-8, without a transfer encoding.
    """
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
    """Return a finding for each message in the script's ``output``; ``status`` is its exit status.

    A script that ends with 0 and prints nothing has no messages. CouldNotRunError if any other
    output lacks the summary ("total: 1 errors, …"), or the summary has another number of messages.
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
    """Return ``diff`` reversed: its added lines are removed, and its removed lines are added.

    checkpatch judges added lines, so it then judges those that the patch removes.
    """
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
    """Return those of ``found`` that are new with the patch.

    ``old`` are the findings on the lines that the patch removes. If one of them has the same text
    and is about a similar line (`_alike`), the patch has moved or edited that line, and the finding
    is not new. Each of ``old`` explains one finding.
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
    """Return whether two findings are about similar lines of code.

    The line is the first of a finding's ``details``; similar means at least ALIKE.
    """
    a, b = (found.details[0] if found.details else "" for found in (one, other))
    return difflib.SequenceMatcher(None, a, b).ratio() >= ALIKE


def _excused(found: Finding) -> bool:
    """Return whether a maintainer would disagree with the script's message ``found``.

    Logs that a commit message quotes (indented, or with ">") keep their long lines. A patch with
    "Cc: stable@" needs no Fixes tag: a quirk or an id of a device has no commit to fix.
    """
    if kind(found) == "COMMIT_LOG_LONG_LINE":
        return any(line.startswith((" ", "\t", ">")) for line in found.details[:1])
    return kind(found) == "MISSING_FIXES_TAG" and "'stable@'" in found.text


def _described(context: Context, found: Finding) -> bool:
    """Return whether ``found`` reports an undocumented devicetree string that the series documents.

    The script looks for bindings in the unpatched tree only. The series has one if the string is in
    a file below Documentation/devicetree/bindings after the patch.
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
    """Return a folder of the cache with checkpatch's list of CamelCase names in the tree's headers.

    The script takes the list from a file .checkpatch-camelcase.* in the current folder. Without
    that file it makes one, which takes seconds for each run.
    """

    def fill(partial: Path) -> None:
        with script.folder({"mail": _CAMEL_CASE.encode()}) as folder:
            argv = ["perl", str(script.require(tree, SCRIPT)), f"--root={tree.path}"]
            script.run(tree, [*argv, "--strict", "mail"], cwd=folder, writable=[folder])
            for file in folder.glob(".checkpatch-camelcase.*"):
                if file.is_file() and not file.is_symlink():
                    shutil.copyfile(file, partial / file.name)

    return cache.entry("checkpatch", cache.digest((tree.provider, tree.tree_id)), fill)[0]
