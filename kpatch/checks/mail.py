# SPDX-License-Identifier: GPL-2.0-only
"""Check the mails of a series: numbering, subject, commit message and trailers."""

from __future__ import annotations

import email.utils
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kpatch.checks import checkpatch
from kpatch.checks.context import Context
from kpatch.model import Finding, Origin, Patch
from kpatch.source import git
from kpatch.source.git import Checkout
from kpatch.tables.outcomes import CheckOutcome

WARN, FAIL = CheckOutcome.WARN, CheckOutcome.FAIL

HISTORY = 40
"""The usual prefixes of files are taken from the titles of this many of their newest commits."""

ENOUGH = 8
"""If fewer of these commits have a prefix, the prefix of a patch is not judged."""

_TAGS = re.compile(r"\[(?P<tags>[^]]*)\]")
_VERSION = re.compile(r"\bv(\d+)\b", re.IGNORECASE)
_POSITION = re.compile(r"\b(\d+)/(\d+)\b")

_PREFIX = re.compile(r"(?P<prefix>[^\s:\"'][^:\"']{0,60}?):")
_REVERT = re.compile(r"(?:Revert|Reapply) \"")

_TRAILER = re.compile(r"(?:Fixes|Cc|Link|Closes|[A-Z][a-z]+(?:-[a-z]+)*-by): ?\S", re.IGNORECASE)
_CREDIT = re.compile(r"Fixes: ?[0-9a-f]{7}|(?:Signed-off|Reviewed|Acked|Tested)-by: ?\S")
_BRACKETED = re.compile(r"\[.*\]$")

_SIGNED = re.compile(r"^Signed-off-by: ?(.*)$", re.MULTILINE | re.IGNORECASE)

_FIXES = re.compile(
    r"^[ \t]*Fixes:?[ \t]+(?:commit[ \t]+)?(?P<rest>[0-9a-f]{5,40}\b.*)$", re.M | re.I
)
_WELL_FORMED = re.compile(r'Fixes: (?P<id>[0-9a-f]{12,40}) \("(?P<title>.+)"\)$')
_FORM = 'Fixes: 12 or more hex digits ("title of the commit")'


def check(context: Context) -> Iterator[Finding]:
    """Yield a finding for each fault of the mails.

    Raises the errors of `checkpatch.messages` and of `_history`.
    """
    yield from _numbering(context)
    history = _history(context)
    for patch in context.patches:
        context.stage.advance(patch.number - 1, patch.total)
        yield from _checkpatch(context, patch)
        yield from _trailers(patch)
        yield from _last_sign_off(patch)
        yield from _fixes(patch, history)
        yield from _subject(context, patch, history)
    checkpatch.note_command(context)


def _checkpatch(context: Context, patch: Patch) -> Iterator[Finding]:
    """Yield checkpatch's findings about the mail of ``patch`` (types `checkpatch.MAIL`).

    In a carried series a missing Signed-off-by is a note: the person who posts the series adds one.
    """
    for found in checkpatch.messages(context, patch):
        kind = checkpatch.kind(found)
        if kind == "MISSING_SIGN_OFF" and context.applied.series.origin is Origin.CARRIED:
            context.note(f"{patch} has no Signed-off-by: whoever posts it signs it")
        elif kind in checkpatch.MAIL:
            yield found


def _numbering(context: Context) -> Iterator[Finding]:
    """Yield a finding for each subject whose tags ("[PATCH v2 1/3]") are wrong.

    The version has to be that of most patches (FAIL); position and total, if given, those of the
    patch in the series (WARN). Patches whose original subject is unknown are left out.
    """
    tags = {patch: _tags(patch) for patch in context.patches if patch.tagged}
    versions = {patch: _VERSION.search(text) for patch, text in tags.items()}
    said = {patch: match[1] if match else "1" for patch, match in versions.items()}
    usual = Counter(said.values()).most_common(1)[0][0] if said else ""
    for patch, version in said.items():
        if version != usual:
            yield Finding(
                f"is version {version} among patches of version {usual}", patch=patch.number
            )
    for patch, text in tags.items():
        place = _POSITION.search(text)
        if place and (int(place[1]), int(place[2])) != (patch.number, patch.total):
            yield Finding(
                f"is numbered {place[0]}, but is patch {patch.number} of {patch.total}",
                WARN,
                patch=patch.number,
            )


def _tags(patch: Patch) -> str:
    """Return the texts in brackets before the title, joined by spaces: "PATCH v2 1/3"."""
    head = patch.tagged.removesuffix(patch.subject)
    return " ".join(match["tags"] for match in _TAGS.finditer(head))


# ---- trailers --------------------------------------------------------------------------------


def _trailers(patch: Patch) -> Iterator[Finding]:
    """Yield a finding (WARN) for trailers before the last paragraph, as git does not see them.

    Only Fixes, Signed-off-by, Reviewed-by, Acked-by and Tested-by count, in paragraphs of nothing
    but trailers. If only blank lines and trailers are between them and the end, all give one
    finding; before other text, each trailer gives one.
    """
    paragraphs = [text.split("\n") for text in re.split(r"\n\s*\n", patch.message.strip())]
    *others, _ = paragraphs
    block = len(paragraphs)  # index of the first paragraph of trailers
    while block and _only_trailers(paragraphs[block - 1]):
        block -= 1
    early = [line for lines in paragraphs[block:-1] for line in lines]
    if any(map(_CREDIT.match, early)):
        yield Finding(
            "blank lines between the trailers: those before the last one are not seen by git",
            WARN,
            patch=patch.number,
            details=tuple(line for lines in paragraphs[block:] for line in (*lines, ""))[:-1],
        )
    for lines in others[:block]:
        for line in lines if _only_trailers(lines) else []:
            if _CREDIT.match(line):
                yield Finding(
                    f"trailer before the end of the message, where git does not see it: {line}",
                    WARN,
                    patch=patch.number,
                )


def _last_sign_off(patch: Patch) -> Iterator[Finding]:
    """Yield a finding (WARN) if the sender signed off, and somebody else did below.

    The last Signed-off-by is that of the developer who submits the patch, as
    Documentation/process/submitting-patches.rst says. A patch that is no mail with a Message-ID is
    not judged: whoever sends it may be its last signer.
    """
    signers = [email.utils.parseaddr(who)[1].lower() for who in _SIGNED.findall(patch.message)]
    sender = patch.sender.lower()
    if patch.message_id and sender in signers and signers[-1] != sender:
        yield Finding(
            "the last Signed-off-by is not that of the sender, who has signed above it",
            WARN,
            patch=patch.number,
            details=tuple(match[0] for match in _SIGNED.finditer(patch.message)),
        )


def _only_trailers(lines: list[str]) -> bool:
    """Return whether a paragraph consists of trailers, their continuations, and notes in [ ]."""
    rest = [line for line in lines if not _BRACKETED.match(line) and not line.startswith(" ")]
    return bool(rest) and all(_TRAILER.match(line) for line in rest)


# ---- Fixes -----------------------------------------------------------------------------------


def _fixes(patch: Patch, history: _History | None) -> Iterator[Finding]:
    """Yield a finding for each Fixes trailer of another form (WARN), or of a wrong commit (FAIL).

    Without ``history`` only the form is judged.
    """
    for match in _FIXES.finditer(patch.message):
        line = match[0].strip()
        formed = _WELL_FORMED.match(line)
        if formed is None:
            yield Finding(f"'{line}' is not of the form {_FORM}", WARN, patch=patch.number)
        elif history is not None and (cause := history.refutes(formed["id"], formed["title"])):
            yield Finding(f"'{line}': {cause}", patch=patch.number)


@dataclass(frozen=True)
class _History:
    """The git history of the tree: ``checkout`` is the commit from which the tree was taken.

    ``shallow``: the repository lacks older commits or objects.
    """

    checkout: Checkout
    shallow: bool

    def refutes(self, commit: str, title: str) -> str:
        """Return why a Fixes trailer with this commit id and title is wrong; "" if it seems right.

        In a shallow clone a commit may be missing, or seem to be no ancestor of the base.
        """
        known = git.title(self.checkout, commit)
        if known is None:
            return "" if self.shallow else "the repository has no commit of this id"
        if known != title:
            return f'that commit is titled "{known}"'
        if not self.shallow and not git.contains(self.checkout, commit):
            return "that commit is not part of the base"
        return ""


def _history(context: Context) -> _History | None:
    """Return the git history of the tree; None, with a note, if it has none.

    The tree may not be from git, or its repository may be gone. A note tells of a shallow clone.
    Raises the errors of `kpatch.source.git.find`.
    """
    origin = context.tree.origin
    if "repository" not in origin:
        context.note(
            f"prefixes and Fixes are not held against history: the tree is from a "
            f"{context.tree.provider}; give KERNEL a git repository"
        )
        return None
    path = Path(origin["repository"])
    checkout = git.find(path, origin["commit"], what=f"KERNEL={path}")
    if checkout is None:
        context.note(f"prefixes and Fixes are not held against history: {path} is gone")
        return None
    shallow = git.shallow(checkout)
    if shallow:
        context.note(f"{path} is a shallow clone: Fixes of older commits are not judged")
    return _History(checkout, shallow)


# ---- subject ---------------------------------------------------------------------------------


def _subject(context: Context, patch: Patch, history: _History | None) -> Iterator[Finding]:
    """Yield a finding (WARN) if the title has no prefix, or one that is unusual for its files.

    Titles of reverts are not judged. Every prefix is accepted without ``history``, or if `_usual`
    finds too few others.
    """
    if _REVERT.match(patch.subject):
        return
    prefix = _PREFIX.match(patch.subject)
    if prefix is None:
        yield Finding(
            f"the title has no prefix of a subsystem: {patch.subject}", WARN, patch=patch.number
        )
    elif history is not None:
        usual = _usual(context, patch, history)
        first = _first_word(prefix["prefix"])
        if usual and not any(first == name for name in usual):
            shown = ", ".join(f"{name} ({count})" for name, count in usual.most_common(3))
            yield Finding(
                f"prefix {prefix['prefix']}: is unusual for these files; their last commits "
                f"begin with {shown}",
                WARN,
                patch=patch.number,
            )


def _usual(context: Context, patch: Patch, history: _History) -> Counter[str]:
    """Count the first words of the prefixes (`_first_word`) in the history of the patch's files.

    For a new file the history of its folder is used. Only the newest HISTORY commits count; the
    result is empty if fewer than ENOUGH of them have a prefix.
    """
    before = context.after(patch.number - 1)
    paths = [
        path if context.content(before, path) is not None else str(Path(path).parent)
        for path in patch.paths
    ]
    titles = git.titles(history.checkout, sorted(set(paths)), HISTORY)
    prefixes = [found["prefix"] for title in titles if (found := _PREFIX.match(title))]
    words = Counter(map(_first_word, prefixes))
    return words if words.total() >= ENOUGH else Counter()


def _first_word(prefix: str) -> str:
    """Return the first word of a prefix in lower case: "vfio" of "vfio/pci" and of "vfio-mdev"."""
    return re.split(r"[/,\s_-]", prefix.strip().lower(), maxsplit=1)[0]
