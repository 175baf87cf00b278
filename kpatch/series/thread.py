# SPDX-License-Identifier: GPL-2.0-only
"""Select the patches of one series from a thread of mails: the latest version, in order.

b4's classes parse a mail's subject (tags, version, n/m), its references, and the trailers
base-commit and prerequisite-patch-id. b4's LoreMailbox is not used: if two patches have the same
number, it treats one as an additional patch; if three patches have no number, it loses one. This
module drops a patch that is a copy, an answer, or replaced by one that was sent again; it raises an
error for any other such patch. It calls no function of b4 that runs git with the user's
configuration, asks a server, or checks signatures.

These mails are not part of the series: cover letters, replies (also those with a diff), patches
without a number that answer a mail of the thread, copies, patches that were sent again, and older
versions (except for patches that `_rerolled` takes from them). The notes have a line for each of
them that has a diff, except for cover letters and for copies with the same Message-ID; all older
versions share one line.
"""

from __future__ import annotations

import email.policy
import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.message import EmailMessage

import b4

from kpatch.errors import HarnessError
from kpatch.series.mail import Mail
from kpatch.series.mail_files import EXPORT

APART = "give one series alone in its file"

_NAMED = 4
"""Largest number of missing patches that a message names; it counts the others."""

_TEXT_LIMIT = 64 << 10
"""Number of bytes at the start of a message that b4 parses; real messages are far shorter."""

_MSGID = re.compile(r"<[^<>\s]+>")
_LIST_TAG = re.compile(r"\[[^][]*\]\s*(?=(?:re|aw|fwd?|sv):)", re.IGNORECASE)
_FORWARD = re.compile(r"(?:fwd?|wg):\s*", re.IGNORECASE)
_ANSWER = re.compile(r"[^\s\[\]]{1,12}:\s*\[")
_BRACKETS = re.compile(r"\[([^][]*)\]")
_OF = re.compile(r"\b(\d{1,4}) of (\d{1,4})\b")
_BASE = re.compile(r"^(?:base-commit|prerequisite-patch-id|change-id): \S+$", re.MULTILINE)
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_INTERDIFF = re.compile(r"^(?:Interdiff|Range-diff)\b[^\n]*:$", re.MULTILINE | re.IGNORECASE)
_DIFF = "diff --git a/x b/x"

# b4 logs warnings about malformed mail. They are dropped; the notes of `Thread` replace them.
logging.getLogger("b4").addHandler(logging.NullHandler())
logging.getLogger("b4").propagate = False
b4.can_network = False


@dataclass(frozen=True)
class Thread:
    """The patches of the selected series, in order.

    ``absent`` names the missing patches ("2/3"); it is "" if none is missing. ``base_commit`` and
    ``prerequisites`` (patch ids) are the author's statement of the series' base, "" and () if there
    is none. ``notes`` are lines for the user, about mails that were left out and patches that were
    taken from an older version. ``version`` is the newest version of a patch, 2 for [PATCH v2 …];
    ``cover`` is the newest cover letter of these versions, None if there is none.
    """

    patches: tuple[Mail, ...]
    absent: str
    base_commit: str
    prerequisites: tuple[str, ...]
    notes: tuple[str, ...]
    cover: Mail | None
    version: int


@dataclass(frozen=True)
class _Letter:
    """A mail, and its subject and references as b4 parsed them (``told``).

    ``reply`` is true for a reply; ``cover`` for a cover letter, [PATCH 0/n], which has no diff
    other than an interdiff. ``identity`` is the id of the mail's diff, "" if it has none.
    """

    mail: Mail
    told: b4.LoreMessage
    reply: bool
    cover: bool
    identity: str

    def __str__(self) -> str:
        return str(self.mail)

    @property
    def patch(self) -> bool:
        return bool(self.identity) and not self.reply and not self.cover

    @property
    def number(self) -> int | None:
        return None if self.told.counters_inferred else self.told.counter

    @property
    def total(self) -> int:
        return self.told.lsubject.expected

    @property
    def posted(self) -> bool:
        """Return whether the mail has a Message-ID: a file that was never sent has none."""
        return bool(self.mail.headers["Message-Id"])

    @property
    def rank(self) -> tuple[bool, bool]:
        """Return a key that sorts patches of one version and number: RFC, plain, RESEND."""
        return not self.told.lsubject.rfc, self.told.lsubject.resend

    @property
    def family(self) -> set[str]:
        """Return the Message-IDs of the mail and of the mails that it refers to."""
        return {self.told.msgid, *self.told.references}


def thread(what: str, mails: Iterable[Mail], identify: Callable[[Mail], str]) -> Thread:
    """Return the latest version of the series in ``mails``.

    ``identify`` returns an id of a mail's diff: mails with equal ids have the same diff.
    HarnessError (exit 2), about ``what``, if there is no patch, if a numbered patch has no diff, if
    two different patches have the same number or Message-ID, if the mails contain more than one
    series, or if headers cannot be parsed. A missing patch is no error here, but is named in the
    result.
    """
    notes: list[str] = []
    letters = _without_copies(what, [_letter(what, mail, identify) for mail in mails])
    patches = [letter for letter in letters if letter.patch]
    notes += [f"leaves out {one}: a reply" for one in letters if one.reply and one.identity]
    latest = max((one.told.revision for one in patches), default=None)
    group = [one for one in patches if one.told.revision == latest]
    older = [one for one in patches if one.told.revision != latest]
    _check_lost(what, letters, group)
    if not group:
        raise HarnessError(what, "no mail in it has a patch that is no reply", hint=EXPORT)
    if older:
        _check_related(what, [one for one in letters if one not in older], older)
        versions = ", ".join(f"v{number}" for number in sorted({o.told.revision for o in older}))
        notes.append(f"takes v{latest}, and leaves out {versions}")
    group = _ordered(what, group, letters, notes)
    group = _rerolled(group, older, notes)
    absent = _absent(group)
    totals = sorted({one.total for one in group if one.number is not None})
    if not absent and len(totals) > 1:
        first, other = (next(one for one in group if one.total == total) for total in totals[:2])
        raise HarnessError(what, f"holds two series, of {first} and of {other}", hint=APART)
    # The patches have two versions if an author sent only some of them again.
    revisions = sorted({one.told.revision for one in group}, reverse=True)
    covers = {one.told.revision: one for one in reversed(letters) if one.cover}
    cover = next((covers[one] for one in revisions if one in covers), None)
    base, prerequisites = _base(cover, group)
    return Thread(
        tuple(one.mail for one in group),
        absent,
        base,
        prerequisites,
        tuple(notes),
        None if cover is None else cover.mail,
        revisions[0],
    )


def _letter(what: str, mail: Mail, identify: Callable[[Mail], str]) -> _Letter:
    subject = _LIST_TAG.sub("", mail.headers["Subject"], count=1)
    subject = _FORWARD.sub("", subject, count=1) if _FORWARD.match(subject) else subject
    text = mail.message.read_bytes()[:_TEXT_LIMIT].decode(errors="replace")
    extract = EmailMessage(policy=email.policy.compat32)
    # b4 gets a new message: only the headers that it needs, decoded, and a text that is cut off at
    # _TEXT_LIMIT and has no runs of blank lines.
    extract["Subject"] = _BRACKETS.sub(_plain_tag, subject)
    msgid = mail.headers["Message-Id"]
    extract["Message-Id"] = msgid if _MSGID.search(msgid) else f"<{id(mail)}@no-message-id>"
    for name in ("In-Reply-To", "References"):
        if mail.headers[name]:
            extract[name] = mail.headers[name]
    body = [re.sub(r"\s*\n\s*\n", "\n\n", text), "", *_trailers(mail), ""]
    body += [_DIFF] if mail.diff is not None else []
    extract.set_payload("\n".join(body).encode("ascii", "replace").decode())
    try:
        told = b4.LoreMessage(extract)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise HarnessError(
            f"{what}, {mail}", f"has headers that cannot be read: {error}", hint=EXPORT
        ) from None
    return _Letter(
        mail,
        told,
        told.reply or bool(told.references and _ANSWER.match(subject)),
        not told.counters_inferred
        and told.counter == 0
        and (mail.diff is None or _INTERDIFF.search(text) is not None),
        identify(mail) if mail.diff is not None else "",
    )


def _plain_tag(match: re.Match[str]) -> str:
    """Return the tag in git's form, [v2 1/3]: Patchwork writes [v2,1/3], Mercurial [PATCH 1 of 3].

    ``match`` is a match of _BRACKETS in a subject.
    """
    return "[" + _OF.sub(r"\1/\2", match[1].replace(",", " ")) + "]"


def _trailers(mail: Mail) -> list[str]:
    """Return the lines base-commit, prerequisite-patch-id and change-id of ``mail``.

    They may be in the message, or below the diff, where git writes them.
    """
    content = mail.message.read_bytes() + mail.below.read_bytes()
    return _BASE.findall(content.decode(errors="replace"))


def _without_copies(what: str, letters: list[_Letter]) -> list[_Letter]:
    """Return the first letter of each Message-ID: a list and a Cc deliver the same mail twice.

    HarnessError (exit 2), about ``what``, if letters with the same Message-ID have different diffs.
    """
    first: dict[str, _Letter] = {}
    for letter in letters:
        there = first.setdefault(letter.told.msgid, letter)
        if there.identity != letter.identity:
            raise HarnessError(
                what,
                f"{there} and {letter} have one Message-ID and different diffs",
                hint="take out the one that is damaged",
            )
    return list(first.values())


def _check_lost(what: str, letters: list[_Letter], group: list[_Letter]) -> None:
    """Raise HarnessError (exit 2), about ``what``, if a numbered patch has no diff.

    ``group`` are the patches of the latest version, ``letters`` all mails. Only mails of the latest
    version count, or all mails if ``group`` is empty. A mail with the number of a patch in
    ``group`` does not count.
    """
    there = {one.number for one in group}
    revisions = {one.told.revision for one in group}
    for one in letters:
        lost = not one.identity and not one.reply and one.number and one.number not in there
        if lost and (not revisions or one.told.revision in revisions):
            raise HarnessError(
                f"{what}, patch {one.number} ({one.mail.subject})",
                f"has no diff in it ({one.mail.place})",
                hint=EXPORT,
            )


def _check_related(what: str, new: list[_Letter], old: list[_Letter]) -> None:
    """Raise HarnessError (exit 2), about ``what``, if ``old`` is another series than ``new``.

    ``old`` are the patches of older versions, ``new`` all other mails. They are one series if any
    mail of ``old`` has the title of a mail of ``new``, or if the two have a Message-ID in common:
    their own, or one in their References and In-Reply-To headers.
    """
    titles = {one.mail.subject for one in new}
    family = {msgid for one in new for msgid in one.family}
    if not any(one.mail.subject in titles or one.family & family for one in old):
        latest = next(one for one in new if one.patch)
        raise HarnessError(
            what,
            f"holds two series, of {old[0]} and of {latest}, with no title in common",
            hint=APART,
        )


def _ordered(
    what: str, group: list[_Letter], letters: list[_Letter], notes: list[str]
) -> list[_Letter]:
    """Return the patches in ``group``, those of one version, in order, without copies and answers.

    ``letters`` are all mails. A line for each patch that is left out is added to ``notes``.
    HarnessError (exit 2), about ``what``, if two different patches have the same number, or if a
    patch with a Message-ID has no number and is no answer (`_answers`), unless it is the first
    patch of a series without numbers.
    """
    group = _once(what, group, notes)
    numbered = [one for one in group if one.number is not None]
    loose = [one for one in group if one.number is None]
    if len(group) > 1:
        kept = []
        for one in loose:
            if _answers(one, group, letters):
                notes.append(f"leaves out {one}: an answer to the series, and no part of it")
            else:
                kept.append(one)
        loose = kept
    for one in loose if numbered else loose[1:]:
        if one.posted:
            beside = (numbered or loose)[0]
            raise HarnessError(
                what, f"holds two series, of {beside} and of {one}, which has no number", hint=APART
            )
    # A file without a number was added by the user; it keeps its place between the others.
    ordered = iter(sorted(numbered, key=lambda one: one.number or 0))
    kept = [one for one in group if one.number is not None or one in loose]
    return [next(ordered) if one.number is not None else one for one in kept]


def _rerolled(group: list[_Letter], older: list[_Letter], notes: list[str]) -> list[_Letter]:
    """Return ``group``, the patches of the latest version, completed by patches of an older one.

    An author who corrects one patch of a long series may send only the new patch, as a reply to the
    old one: [PATCH v3 2/5]. The other patches are then taken from ``older``, and a line for each of
    them is added to ``notes``. Returns ``group`` unchanged if it is complete, if a patch in it does
    not reply to its older version, or if the result would not have each number once.
    """
    if not _absent(group):
        return group
    before = {one.told.msgid: one for one in older}
    renewed = [before.get(one.told.in_reply_to or "") for one in group]
    for one, old in zip(group, renewed, strict=True):
        if old is None or (one.number, one.total) != (old.number, old.total):
            return group
    revisions = {old.told.revision for old in renewed if old is not None}
    there = {one.number for one in group}
    kept = [o for o in older if {o.told.revision} == revisions and o.number not in there]
    whole = sorted([*group, *kept], key=lambda one: one.number or 0)
    if _clash(whole) or _absent(whole):
        return group
    notes += [f"takes {one} for the one that was not sent again" for one in kept]
    return whole


def _answers(one: _Letter, group: list[_Letter], letters: list[_Letter]) -> bool:
    """Return whether ``one``, a patch without a number, is an answer and no part of the series.

    ``group`` are the patches of its version, ``letters`` all mails. In a numbered series it is an
    answer if it refers to any other mail; otherwise only if it refers to a mail of another author.
    """
    there = {other.told.msgid: other for other in letters if other is not one}
    parents = [there[msgid] for msgid in one.told.references if msgid in there]
    if any(other.number is not None for other in group):
        return bool(parents)
    # A robot answers with a fix. But an author may send a series without numbers as one thread.
    return any(parent.mail.author[1] != one.mail.author[1] for parent in parents)


def _once(what: str, group: list[_Letter], notes: list[str]) -> list[_Letter]:
    """Return ``group`` without copies, which have the same number and the same diff.

    If two different patches then still have the same number, only the patches of the highest `rank`
    in the whole group are returned. A line for each patch that is left out is added to ``notes``.
    HarnessError (exit 2), about ``what``, if two of the rest have the same number.
    """
    found: dict[tuple[int | None, str], _Letter] = {}
    for one in group:
        key = (one.number, one.identity)
        if key in found:
            notes.append(f"leaves out {one}: a copy of {found[key].mail.place}")
        found.setdefault(key, one)
    group = list(found.values())
    if _clash(group) is None:
        return group
    top = max(one.rank for one in group)
    rest = [one for one in group if one.rank == top]
    clash = _clash(rest)
    if clash is not None:
        raise HarnessError(
            what,
            f"{clash[0]} and {clash[1]} have one number and different diffs",
            hint="take out the one that is not meant, or " + APART,
        )
    notes += [f"leaves out {one}: sent again" for one in group if one not in rest]
    return rest


def _clash(group: list[_Letter]) -> tuple[_Letter, _Letter] | None:
    """Return two patches of ``group`` that have the same number and total; None if there are none.

    A patch without a number has neither.
    """
    there: dict[tuple[int, int], _Letter] = {}
    for one in group:
        if one.number is not None:
            other = there.setdefault((one.number, one.total), one)
            if other is not one:
                return other, one
    return None


def _absent(group: list[_Letter]) -> str:
    """Return the numbers that are missing in ``group``, "2/3, 3/3"; "" if none is missing.

    At most _NAMED numbers are named, and the others are counted. A patch without a number is named
    too, since it may be the missing one.
    """
    for total in sorted({one.total for one in group if one.number is not None}):
        there = {one.number for one in group if one.total == total}
        absent = [f"{number}/{total}" for number in range(1, total + 1) if number not in there]
        if absent:
            more = f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
            odd = next((f"; {one} has no number" for one in group if one.number is None), "")
            return f"{', '.join(absent[:_NAMED])}{more}{odd}"
    return ""


def _base(cover: _Letter | None, group: list[_Letter]) -> tuple[str, tuple[str, ...]]:
    """Return base-commit and prerequisite-patch-ids of ``cover``, or else of the first patch.

    What is no object id (40 or 64 hex digits) is left out; they are "" and () if there are none.
    """
    numbered = [one for one in group if one.number is not None]
    series = b4.LoreSeries(group[0].told.revision, len(group))
    for one in [*([] if cover is None else [cover]), *(numbered or group)[:1]]:
        series.add_patch(one.told)
    base = series.base_commit or ""
    prerequisites = tuple(name for name in series.prereq_patch_ids or () if _HASH.fullmatch(name))
    return base if _HASH.fullmatch(base) else "", prerequisites
