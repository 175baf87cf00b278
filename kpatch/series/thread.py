# SPDX-License-Identifier: GPL-2.0-only
"""Select the patches of one series from a thread of mails: the latest version, in order.

b4's classes parse a mail's subject (tags, version, n/m), its references, and the trailers
base-commit and prerequisite-patch-id. b4's LoreMailbox is not used: of two patches with the same
number it takes one for an additional patch, and of three patches without numbers it loses one.
Here such a patch is a copy, or an error. No function of b4 is called that runs git with the user's
configuration, asks a server, or checks signatures.

Left out are cover letters, replies (also those with a diff), patches without a number that answer a
mail of the thread, older versions, and copies. A note names each of them that has a diff.
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
"""Number of missing patches to name in a message."""

_TEXT_LIMIT = 64 << 10
"""Bytes of a message to search for trailers; messages with them are far shorter."""

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

# b4 logs warnings about malformed mail; the notes of `Thread` take their place.
logging.getLogger("b4").addHandler(logging.NullHandler())
logging.getLogger("b4").propagate = False
b4.can_network = False


@dataclass(frozen=True)
class Thread:
    """The patches of the selected series, in order.

    ``absent`` names the missing patches ("2/3"); it is "" if none is missing. ``base_commit`` and
    ``prerequisites`` (patch ids) are the author's statement of the series' base, "" and () if there
    is none. ``notes`` has one line for each mail that has a diff and was left out. ``cover`` is the
    cover letter of this version, None if there is none; ``version`` is 2 for [PATCH v2 …].
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

    ``identity`` identifies the content of its diff; it is "" if the mail has none.
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
        """Return whether the mail was sent: a file of git format-patch has no Message-ID."""
        return bool(self.mail.headers["Message-Id"])

    @property
    def rank(self) -> tuple[bool, bool]:
        """Return the order of patches with the same version and number: RFC, plain, RESEND."""
        return not self.told.lsubject.rfc, self.told.lsubject.resend

    @property
    def family(self) -> set[str]:
        """Return the Message-IDs of the mail and of the mails that it refers to."""
        return {self.told.msgid, *self.told.references}


def thread(what: str, mails: Iterable[Mail], identify: Callable[[Mail], str]) -> Thread:
    """Return the latest version of the series in ``mails``.

    ``identify`` returns an id of the content of a mail's diff. HarnessError (exit 2) if there is no
    patch, a patch lost its diff, or the mails hold more than one series; it names the mail.
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
    revision = group[0].told.revision
    cover = next((one for one in letters if one.cover and one.told.revision == revision), None)
    base, prerequisites = _base(cover, group)
    return Thread(
        tuple(one.mail for one in group),
        absent,
        base,
        prerequisites,
        tuple(notes),
        None if cover is None else cover.mail,
        revision,
    )


def _letter(what: str, mail: Mail, identify: Callable[[Mail], str]) -> _Letter:
    subject = _LIST_TAG.sub("", mail.headers["Subject"], count=1)
    subject = _FORWARD.sub("", subject, count=1) if _FORWARD.match(subject) else subject
    text = mail.message.read_bytes()[:_TEXT_LIMIT].decode(errors="replace")
    extract = EmailMessage(policy=email.policy.compat32)
    # b4 gets only the fields that it needs, decoded, shortened, and without unusual lines.
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
    """Return the tag in git's form: Patchwork writes [v2,1/3], Mercurial [PATCH 1 of 3]."""
    return "[" + _OF.sub(r"\1/\2", match[1].replace(",", " ")) + "]"


def _trailers(mail: Mail) -> list[str]:
    """Return the trailers that name the base, from the message and from below the diff (git)."""
    content = mail.message.read_bytes() + mail.below.read_bytes()
    return _BASE.findall(content.decode(errors="replace"))


def _without_copies(what: str, letters: list[_Letter]) -> list[_Letter]:
    """Return the first letter of each Message-ID: a list and a Cc deliver the same mail twice.

    HarnessError (exit 2) if letters with the same Message-ID have different diffs.
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
    """Raise HarnessError (exit 2) if a numbered patch has no diff."""
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
    """Raise HarnessError (exit 2) unless ``old`` are earlier versions of the series ``new``."""
    titles = {one.mail.subject for one in new}
    family = {msgid for one in new for msgid in one.family}
    # A reference to the thread alone does not make another author's patch an older version.
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
    """Return the patches of one version in order, without copies and answers."""
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
    """Return ``group`` completed by patches of the version before.

    An author who corrects one patch of a long series sends only that one, as an answer to the old
    one: [PATCH v3 2/5]. Returns ``group`` unchanged unless each of its patches is such an answer.
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
    """Return whether ``one``, a patch without a number, answers another mail of the series."""
    there = {other.told.msgid: other for other in letters if other is not one}
    parents = [there[msgid] for msgid in one.told.references if msgid in there]
    if any(other.number is not None for other in group):
        return bool(parents)
    # Robots answer with a fix. An answer of the series' own author may be a part of the series.
    return any(parent.mail.author[1] != one.mail.author[1] for parent in parents)


def _once(what: str, group: list[_Letter], notes: list[str]) -> list[_Letter]:
    """Return ``group`` without copies; of patches with the same number, the latest `rank`."""
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
    """Return two patches with the same number and total; None if there are none."""
    there: dict[tuple[int, int], _Letter] = {}
    for one in group:
        if one.number is not None:
            other = there.setdefault((one.number, one.total), one)
            if other is not one:
                return other, one
    return None


def _absent(group: list[_Letter]) -> str:
    """Return the numbers that are missing, "2/3, 3/3"; "" if none is."""
    for total in sorted({one.total for one in group if one.number is not None}):
        there = {one.number for one in group if one.total == total}
        absent = [f"{number}/{total}" for number in range(1, total + 1) if number not in there]
        if absent:
            more = f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
            odd = next((f"; {one} has no number" for one in group if one.number is None), "")
            return f"{', '.join(absent[:_NAMED])}{more}{odd}"
    return ""


def _base(cover: _Letter | None, group: list[_Letter]) -> tuple[str, tuple[str, ...]]:
    """Return base-commit and prerequisite-patch-ids of the cover letter or the first patch."""
    numbered = [one for one in group if one.number is not None]
    series = b4.LoreSeries(group[0].told.revision, len(group))
    for one in [*([] if cover is None else [cover]), *(numbered or group)[:1]]:
        series.add_patch(one.told)
    base = series.base_commit or ""
    prerequisites = tuple(name for name in series.prereq_patch_ids or () if _HASH.fullmatch(name))
    return base if _HASH.fullmatch(base) else "", prerequisites
