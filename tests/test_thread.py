# SPDX-License-Identifier: GPL-2.0-only
"""Which patches of a thread are the series, and where their mail may lie."""

from __future__ import annotations

import base64
import gzip
import io
import lzma
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import b4
import pytest

from kpatch.errors import HarnessError
from kpatch.lib.stage import Silent
from kpatch.model import Applied, Origin, Series, Tree
from kpatch.series import catalog, mail_files, mailbox
from kpatch.series.apply import apply as apply_series
from kpatch.series.mailbox import Posting
from kpatch.series.scratch_index import sandbox
from kpatch.tables.outcomes import ExitCode

ROOT = Path(__file__).parent.parent
SOURCE = "int one;\n\n{\n\tint two;\n}\n\n int three;\n"
BASE = "1f" * 20
OTHER = "2e" * 20


def new(name: str, line: str = "int x;") -> str:
    return (
        f"diff --git a/{name}.c b/{name}.c\nnew file mode 100644\n--- /dev/null\n"
        f"+++ b/{name}.c\n@@ -0,0 +1 @@\n+{line}\n"
    )


CHANGE = """\
--- a/source.c
+++ b/source.c
@@ -1,7 +1,7 @@
 int one;
{blank}
 {{
-\tint two;
+\tint second;
 }}
{blank}
  int three;
""".format(blank=" ")


def mail(
    subject: str,
    diff: str = "",
    *,
    ident: str = "",
    to: str = "",
    author: str = "ann",
    text: str = "Why.\n",
    headers: str = "",
) -> str:
    """One mail of an mbox; ``ident`` and ``to`` are Message-IDs without the angle brackets."""
    head = f"From {author} Mon Sep 17 00:00:00 2001\nFrom: {author} <{author}@example.org>\n"
    head += f"Subject: {subject}\n" if subject else ""
    head += f"Message-Id: <{ident}>\n" if ident else ""
    head += f"In-Reply-To: <{to}>\nReferences: <{to}>\n" if to else ""
    return f"{head}{headers}\n{text}" + (f"---\n\n{diff}-- \n2.47\n\n" if diff else "\n")


def pair(tag: str, *, ident: str = "", line: str = "int x;") -> list[str]:
    """Two patches, [TAG 1/2] and [TAG 2/2], that add one.c and two.c."""
    return [
        mail(
            f"[{tag} {number}/2] add {name}",
            new(name, line),
            ident=f"{ident}{number}" if ident else "",
            to=f"{ident}1" if ident and number > 1 else "",
        )
        for number, name in ((1, "one"), (2, "two"))
    ]


Reader = Callable[..., Posting]


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    """Reads the series of an mbox of these mails, or of the path given."""

    def run(*mails: str | Path) -> Posting:
        if not isinstance(mails[0], Path):
            path = tmp_path / "t.mbox"
            path.write_text("".join(map(str, mails)))
        else:
            path = mails[0]
        with sandbox() as box:
            return mailbox.read(Series("t", "t", "none", (path,), origin=Origin.MBOX), box)

    return run


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "source.c").write_text(SOURCE)
    return Tree(root, "7.3.4", "7.3", "git", {"commit": BASE}, "f" * 16, cached=False)


Applier = Callable[..., tuple[Applied, list[str]]]


class Listener(Silent):
    """Keeps what is said, not what is noted in passing."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, text: str) -> None:
        """Keep it."""
        self.said.append(text)


@pytest.fixture
def apply(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Applier:
    """Applies an mbox of these mails; gives also what was said and the commands."""
    monkeypatch.setenv("VFIO_ACPI_CACHE", str(tmp_path / "cache"))

    def run(*mails: str) -> tuple[Applied, list[str]]:
        path = tmp_path / "t.mbox"
        path.write_text("".join(mails))
        listener = Listener()
        series = Series("t", "t", "none", (path,), origin=Origin.MBOX)
        return apply_series(tree, series, stage=listener), listener.said + listener.commands

    return run


def titles(posting: Posting) -> list[str]:
    return [patch.subject for patch in posting.patches]


def refused(run: Callable[[], object], code: ExitCode = ExitCode.USAGE) -> HarnessError:
    with pytest.raises(HarnessError) as caught:
        run()
    assert caught.value.code is code
    assert "\n" not in str(caught.value)
    return caught.value


BOTH = ["add one", "add two"]

# --- order, versions, copies ---------------------------------------------------------------------


def test_the_numbers_give_the_order(read: Reader) -> None:
    numbered = [mail(f"[PATCH {n}/12] add p{n}", new(f"p{n}")) for n in range(1, 13)]
    shuffled = [numbered[(n * 5) % 12] for n in range(12)]
    assert titles(read(*shuffled)) == [f"add p{n}" for n in range(1, 13)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("PATCH", "PATCH v2"),
        ("PATCH v2", "PATCH v3"),
        ("PATCH v9", "PATCH v10"),
        ("PATCHv1", "PATCHv2"),
        ("RFC PATCH", "PATCH"),
        ("RFC PATCH v2", "PATCH v3"),
        ("PATCH v2", "PATCH RESEND v2"),
    ],
)
def test_the_latest_version_is_taken(apply: Applier, first: str, second: str) -> None:
    old, young = pair(first, line="int old;"), pair(second, line="int young;")
    for mails in ([*old, *young], [*young, *old], [old[1], young[1], old[0], young[0]]):
        applied, said = apply(*mails)
        assert list(applied.subjects) == BOTH
        assert [change.content for change in applied.changes] == [b"int young;\n"] * 2
        assert "leaves out" in said[0]


def test_the_versions_are_told(apply: Applier) -> None:
    applied, said = apply(*pair("PATCH v3", line="int v3;"), *pair("PATCH v2", line="int v2;"))
    assert [change.content for change in applied.changes] == [b"int v3;\n"] * 2
    assert said[0] == "takes v3, and leaves out v2"


def test_a_single_patch_of_two_versions(apply: Applier) -> None:
    first = mail("[PATCH] add one", new("one", "int v1;"), ident="a")
    second = mail("[PATCH v2] add the one", new("one", "int v2;"), ident="b", to="a")
    applied, _ = apply(second, first)
    assert applied.subjects == ("add the one",)
    assert applied.changes[0].content == b"int v2;\n"


def test_copies_are_taken_once(read: Reader) -> None:
    one, two = pair("PATCH", ident="m")
    footer = "_______________\nvfio mailing list\n--- a list of lists\n"
    assert titles(read(one, two, one + footer, two)) == BOTH
    plain = pair("PATCH")
    posting = read(*plain, *plain)
    assert titles(posting) == BOTH
    assert posting.notes == (
        "leaves out mail 3 of t.mbox ([PATCH 1/2] add one): a copy of mail 1 of t.mbox",
        "leaves out mail 4 of t.mbox ([PATCH 2/2] add two): a copy of mail 2 of t.mbox",
    )


def test_a_patch_that_was_renewed_alone(read: Reader) -> None:
    old = pair("PATCH v2", ident="m", line="int v2;")
    young = mail("[PATCH v3 2/2] add two", new("two", "int v3;"), ident="n", to="m2")
    posting = read(*old, young)
    assert titles(posting) == BOTH
    assert any("mail 1 of t.mbox ([PATCH v2 1/2] add one)" in note for note in posting.notes)
    assert posting.version == 3
    cover = mail("[PATCH v2 0/2] numbers", text=COVER.format(base=BASE), ident="c")
    assert read(cover, *old, young).base_commit == BASE
    stray = young.replace("<m2>", "<m1>")
    assert "it lacks 1/2" in str(refused(lambda: read(*old, stray)))


@pytest.mark.parametrize(
    "subjects",
    [
        ("[PATCH v6,1/2] add one", "[PATCH v6,2/2] add two"),
        ("[v6,1/2] add one", "[v6,2/2] add two"),
        ("[PATCH 1 of 2] add one", "[PATCH 2 of 2] add two"),
        ("[PATCHv2 1/2] add one", "[PATCHv2 2/2] add two"),
        ("[PATCH 01/02 v2] add one", "[PATCH 02/02 v2] add two"),
        ("[vfio-devel] [RFC PATCH 1/2] add one", "[vfio-devel] [RFC PATCH 2/2] add two"),
        ("[PATCH vfio-next 1/2] [resend] add one", "[PATCH vfio-next 2/2] add two"),
        ("=?UTF-8?q?=5BPATCH=201/2=5D?= add one", "=?utf-8?B?W1BBVENIIDIvMl0gYWRkIHR3bw==?="),
        ("[PATCH 1/2]\n add one", "[PATCH\n 2/2] add two"),
        ("[PATCH 0/1] add one", "[PATCH 1/1] add two"),
        ("Fwd: [PATCH 1/2] add one", "FW: [PATCH 2/2] add two"),
    ],
)
def test_tags_as_people_write_them(read: Reader, subjects: tuple[str, str]) -> None:
    one, two = (mail(subject, new(f"f{n}")) for n, subject in enumerate(subjects))
    assert titles(read(two, one)) == BOTH


# --- what is no patch of the series --------------------------------------------------------------

COVER = """\
The numbers.

---
Ann (2):
      add one
      add two

 one.c | 1 +
 1 file changed, 1 insertion(+)
---
base-commit: {base}
change-id: 20260105-numbers-0123456789ab

Best regards,
"""


def test_a_cover_letter_as_b4_writes_it(read: Reader) -> None:
    cover = mail("[PATCH v2 0/2] numbers", text=COVER.format(base=BASE), ident="c")
    posting = read(cover, *pair("PATCH v2", ident="m"))
    assert (titles(posting), posting.base_commit, posting.notes) == (BOTH, BASE, ())


def test_the_interdiff_of_a_cover_letter_is_no_patch(read: Reader) -> None:
    text = "Better.\n\nInterdiff against v1:\n"
    cover = mail("[PATCH v2 0/2] numbers", new("zero"), text=text)
    assert titles(read(cover, *pair("PATCH v2"))) == BOTH


@pytest.mark.parametrize("prefix", ["Re: ", "RE: ", "AW: ", "回复: ", "Antw: ", "[vfio] Re: "])
def test_the_diff_of_a_reply_is_no_patch(read: Reader, prefix: str) -> None:
    reply = mail(f"{prefix}[PATCH 1/2] add one", new("mine"), ident="r", to="m1", author="bob")
    posting = read(*pair("PATCH", ident="m"), reply)
    assert titles(posting) == BOTH
    assert posting.notes == (f"leaves out mail 3 of t.mbox ({prefix}[PATCH 1/2] add one): a reply",)


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("Re: [PATCH 1/2] add one", "> Why.\nFine.\n\n---\nbob\n"),
        ("[PATCH 1/2] add one", "Reviewed-by: Bob <bob@example.org>\n"),
        ("Re: [PATCH 2/2] add two", "> diff --git a/two.c b/two.c\n> --- a/two.c\nNo.\n"),
    ],
)
def test_replies_without_a_diff(read: Reader, subject: str, text: str) -> None:
    reply = mail(subject, ident="r", to="m1", author="bob", text=text)
    posting = read(*pair("PATCH", ident="m"), reply)
    assert (titles(posting), posting.notes) == (BOTH, ())


def test_a_robots_mend_is_no_patch_of_the_series(read: Reader) -> None:
    hint = mail("[PATCH] fix one.cocci warnings", new("m"), ident="r", to="m1", author="robot")
    posting = read(*pair("PATCH", ident="m"), hint)
    assert titles(posting) == BOTH
    assert "fix one.cocci" in posting.notes[0]
    single = mail("[PATCH] add one", new("one"), ident="m1")
    assert titles(read(single, hint)) == ["add one"]
    assert titles(read(hint)) == ["fix one.cocci warnings"], "alone it is what is meant"


def test_patches_of_ones_own_may_be_added(read: Reader) -> None:
    mine = mail("[PATCH] add mine", new("mine"))
    one, two = pair("PATCH", ident="m")
    assert titles(read(two, one, mine)) == [*BOTH, "add mine"]
    assert titles(read(mine, two, one)) == ["add mine", *BOTH]
    assert titles(read(mine, mail("[PATCH] b", new("b")), mail("[PATCH] c", new("c")))) == [
        "add mine",
        "b",
        "c",
    ]


# --- what is refused, and the mail that is named -------------------------------------------------

M1 = "mail 1 of t.mbox ([PATCH 1/2] add one)"
APART = "give one series alone in its file"


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        (
            [mail("[PATCH 1/2] else", new("else")), mail("[PATCH 2/2] more", new("more"))],
            f"{M1} and mail 3 of t.mbox ([PATCH 1/2] else) have one number and different diffs",
        ),
        (
            [mail(f"[PATCH {n}/3] else {n}", new(f"else{n}")) for n in (1, 2, 3)],
            f"holds two series, of {M1} and of mail 3 of t.mbox ([PATCH 1/3] else 1)",
        ),
        (
            [mail("[PATCH v2 1/1] else", new("else"))],
            f"holds two series, of {M1} and of mail 3 of t.mbox ([PATCH v2 1/1] else), "
            "with no title in common",
        ),
        (
            [mail("[PATCH] else", new("else"), ident="x", author="bob")],
            f"holds two series, of {M1} and of mail 3 of t.mbox ([PATCH] else), "
            "which has no number",
        ),
    ],
)
def test_two_series_are_refused(read: Reader, more: list[str], cause: str) -> None:
    error = refused(lambda: read(*pair("PATCH"), *more))
    assert error.cause == cause
    assert error.hint.endswith(APART)


def test_two_single_patches_of_a_list_are_refused(read: Reader) -> None:
    one = mail("[PATCH] add one", new("one"), ident="a")
    two = mail("[PATCH] add two", new("two"), ident="b")
    assert "of mail 1 of t.mbox ([PATCH] add one) and of mail 2" in str(
        refused(lambda: read(one, two))
    )


def test_one_message_id_and_two_diffs(read: Reader) -> None:
    one, two = pair("PATCH", ident="m")
    error = refused(lambda: read(one, two, one.replace("int x;", "int y;")))
    assert error.cause.startswith(f"{M1} and mail 3 of t.mbox")


def test_a_patch_that_lost_its_diff_is_named(read: Reader) -> None:
    numbered = [mail(f"[PATCH {n}/3] p{n}", new(f"p{n}") if n != 2 else "") for n in (1, 2, 3)]
    error = refused(lambda: read(*numbered))
    assert "patch 2 (p2): has no diff in it (mail 2 of t.mbox)" in str(error)


def test_a_patch_without_a_subject_is_named(read: Reader) -> None:
    _, two = pair("PATCH")
    error = refused(lambda: read(mail("", new("one")), two))
    assert "it lacks 1/2; mail 1 of t.mbox (no subject) has no number" in error.cause


def test_an_older_version_may_be_incomplete(read: Reader) -> None:
    assert titles(read(pair("PATCH")[0], *pair("PATCH v2"))) == BOTH
    error = refused(lambda: read(*pair("PATCH"), pair("PATCH v2")[0]))
    assert "it lacks 2/2" in error.cause


def test_only_a_reply_has_a_diff(read: Reader) -> None:
    error = refused(lambda: read(mail("Re: [PATCH] add one", new("one"), to="m")))
    assert error.cause == "no mail in it has a patch that is no reply"


# --- diffs as mail leaves them -------------------------------------------------------------------

SECOND = SOURCE.replace("two", "second").encode()
WITH_GIT = "diff --git a/source.c b/source.c\n" + CHANGE
COMBINED = """\
diff --cc source.c
index 11111111,22222222..33333333
--- a/source.c
+++ b/source.c
@@@ -1,1 -1,1 +1,1 @@@
- int one;
 -int eins;
++int uno;
"""
FLOWED = "Content-Type: text/plain; charset=UTF-8; format=flowed\n"
BROKEN = """\
diff --git a/source.c b/source.c
--- a/source.c
+++ b/source.c
@@ -3,3 +3,3 @@ static int function_of_a_long_name(struct of_a_long_name \n*argument)
  {
-\tint two;
+\tint \nsecond;
  }
"""


@pytest.mark.parametrize(
    ("diff", "headers"),
    [
        (CHANGE, ""),
        (WITH_GIT, ""),
        (WITH_GIT.replace("a/source", "source").replace("b/source", "source"), ""),
        (CHANGE.replace("a/source", "source").replace("b/source", "source"), ""),
        (WITH_GIT.replace("a/source", "i/source").replace("b/source", "w/source"), ""),
        (CHANGE.replace("b/source", "a/source"), ""),
        (CHANGE.replace("a/source", "b/source"), ""),
        (WITH_GIT.replace("\n ", "\n  "), FLOWED),
        (WITH_GIT.replace("\n ", "\n  "), FLOWED.replace("=flowed", '="flowed"; delsp=yes')),
        (WITH_GIT, FLOWED),
        (BROKEN, FLOWED),
    ],
)
def test_diffs_that_apply(apply: Applier, diff: str, headers: str) -> None:
    applied, _ = apply(mail("[PATCH] source: change", diff, headers=headers))
    assert [change.content for change in applied.changes] == [SECOND]


def test_a_line_of_scissors_in_the_message(apply: Applier) -> None:
    applied, _ = apply(
        mail("[PATCH] source: change", WITH_GIT, text="See.\n\n--- 8< ---\n\nWhy.\n")
    )
    assert [change.content for change in applied.changes] == [SECOND]


def test_a_diff_in_the_message(apply: Applier) -> None:
    text = "Like this:\n\n--- old\n+++ new\n@@ -1 +1 @@\n-3\n+4\n\n"
    error = refused(lambda: apply(mail("[PATCH] source: change", WITH_GIT, text=text)))
    assert error.cause == "has a diff in its message, which git am takes for the patch"
    indented = text.replace("\n", "\n  ")
    applied, _ = apply(mail("[PATCH] source: change", WITH_GIT, text=f"{indented}\n"))
    assert [change.content for change in applied.changes] == [SECOND]


@pytest.mark.parametrize(
    ("diff", "headers", "code", "cause"),
    [
        (
            CHANGE.replace("\t", "        "),
            "",
            ExitCode.APPLY,
            "source.c, hunk 1 at line 1, differs from the tree in white space alone, as if",
        ),
        (
            CHANGE.replace("one", "eins"),
            FLOWED,
            ExitCode.APPLY,
            r"source.c, hunk 1 at line 1 \(it came as format=flowed, which damages patches\)$",
        ),
        (
            CHANGE.replace(",7 +1,7", ",9 +1,9"),
            FLOWED,
            ExitCode.USAGE,
            r"is damaged: corrupt patch at .+ \(it came as format=flowed, which breaks lines\)$",
        ),
        (
            CHANGE.replace("\n ", "\n\u00a0"),
            "",
            ExitCode.USAGE,
            r"is damaged: corrupt patch at .+ \(white space was changed on the way: it has no-",
        ),
        (CHANGE.replace("int second;", "int\nsecond;"), "", ExitCode.USAGE, "is damaged"),
        (COMBINED, "", ExitCode.USAGE, "combined diff of a merge"),
    ],
)
def test_diffs_that_mail_damaged(
    apply: Applier, diff: str, headers: str, code: ExitCode, cause: str
) -> None:
    error = refused(lambda: apply(mail("[PATCH] source: change", diff, headers=headers)), code)
    assert re.search(cause, error.cause)
    assert error.what == "series t, patch 1/1 (source: change)"
    assert "rebase" not in error.hint
    if "is damaged" in cause:
        assert "corrupt patch" in error.details, "what git says is kept"


def test_a_patch_for_another_tree_is_to_be_rebased(apply: Applier) -> None:
    diff = CHANGE.replace("one", "eins")
    error = refused(lambda: apply(mail("[PATCH] source: change", diff)), ExitCode.APPLY)
    assert error.hint == "rebase the series, or choose the KERNEL it was written for"
    assert error.cause == "does not apply to 7.3.4: source.c, hunk 1 at line 1"


# --- the base that the mail states ---------------------------------------------------------------


def test_the_base_is_kept_and_told(apply: Applier) -> None:
    stated = f"\nbase-commit: {OTHER}\nprerequisite-patch-id: {BASE}\n"
    applied, said = apply(mail("[PATCH] source: change", WITH_GIT + stated))
    assert applied.series.base_commit == OTHER
    assert applied.series.prerequisites == (BASE,)
    assert said[:2] == [
        f"base-commit {OTHER[:12]} of the series is not the tree's ({BASE[:12]})",
        "wants other patches first (prerequisite-patch-id): 1",
    ]
    diff = CHANGE.replace("one", "eins") + stated
    error = refused(lambda: apply(mail("[PATCH] source: change", diff)), ExitCode.APPLY)
    assert OTHER in error.hint
    assert "with the patches of its prerequisite-patch-id lines (1)" in error.hint
    diff = CHANGE.replace("one", "eins") + f"\nbase-commit: {OTHER}\n"
    error = refused(lambda: apply(mail("[PATCH] source: change", diff)), ExitCode.APPLY)
    assert error.hint == f"choose the KERNEL it was written for: base-commit {OTHER}"


@pytest.mark.parametrize("stated", [BASE, "v7.3", "-", "123"])
def test_nothing_to_tell_of_the_base(apply: Applier, stated: str) -> None:
    applied, said = apply(mail("[PATCH] x", WITH_GIT + f"\nbase-commit: {stated}\n"))
    assert applied.series.base_commit == (stated if stated == BASE else "")
    assert [line for line in said if "base-commit" in line] == []


# --- where mail may lie --------------------------------------------------------------------------


def write_mbox(path: Path, content: bytes) -> Path:
    (path / "t.mbox").write_bytes(content)
    return path / "t.mbox"


def write_gz(path: Path, content: bytes) -> Path:
    half = len(content) // 2
    (path / "t.mbox.gz").write_bytes(gzip.compress(content[:half]) + gzip.compress(content[half:]))
    return path / "t.mbox.gz"


def write_xz(path: Path, content: bytes) -> Path:
    (path / "t.xz").write_bytes(lzma.compress(content))
    return path / "t.xz"


def write_bom(path: Path, content: bytes) -> Path:
    return write_mbox(path, b"\xef\xbb\xbf" + content)


def write_crlf(path: Path, content: bytes) -> Path:
    return write_mbox(path, content.replace(b"\n", b"\r\n"))


def _each(content: bytes) -> list[bytes]:
    first, second = content.split(b"From ann Mon")[1:]
    return [b"From ann Mon" + first, b"From ann Mon" + second]


def write_maildir(path: Path, content: bytes) -> Path:
    for part in ("cur", "new", "tmp"):
        (path / "Mail" / part).mkdir(parents=True)
    one, two = (part.split(b"\n", 1)[1] for part in _each(content))
    (path / "Mail/new/1700000000.a.host").write_bytes(one)
    (path / "Mail/cur/1700000001.b.host:2,S").write_bytes(two)
    (path / "Mail/tmp/1700000002.c.host").write_bytes(b"half a mail")
    return path / "Mail"


def write_patches(path: Path, content: bytes) -> Path:
    folder = path / "outgoing"
    folder.mkdir()
    one, two = _each(content)
    (folder / "0002-two.patch").write_bytes(two)
    (folder / "0001-one.patch.gz").write_bytes(gzip.compress(one))
    (folder / "notes.txt").write_bytes(b"no mail")
    (folder / ".0003.patch").write_bytes(b"an editor's")
    (folder / "old.patch").mkdir()
    return folder


def write_mh(path: Path, content: bytes) -> Path:
    folder = path / "mh"
    folder.mkdir()
    for number, one in enumerate(_each(content), 1):
        (folder / str(number)).write_bytes(one.split(b"\n", 1)[1])
    return folder


WRITERS = (
    write_mbox,
    write_gz,
    write_xz,
    write_bom,
    write_crlf,
    write_maildir,
    write_patches,
    write_mh,
)


@pytest.mark.parametrize("write", WRITERS)
def test_mail_from_anywhere(
    read: Reader, tmp_path: Path, write: Callable[[Path, bytes], Path]
) -> None:
    content = "".join(reversed(pair("PATCH", ident="m"))).encode()
    posting = read(write(tmp_path, content))
    assert (titles(posting), posting.notes) == (BOTH, ())


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("t.gz", gzip.compress(b"From: a\n\n" * 99)[:-9], "is compressed by gzip, and damaged"),
        ("t.xz", lzma.compress(b"From: a\n\n" * 99)[:-9], "is compressed by xz, and damaged"),
        ("t.gz", gzip.compress(b"\0" * 600), "has binary data"),
        ("t.mbox", b"commit " + b"a" * 40 + b"\nAuthor: a\n", "is what git show or git log prints"),
    ],
)
def test_mail_that_cannot_be_read(
    read: Reader, tmp_path: Path, name: str, content: bytes, cause: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert cause in refused(lambda: read(tmp_path / name)).cause


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_a_small_file_of_huge_mail(
    read: Reader, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "bomb").write_bytes(pack(b"From: a\n" * (5 << 20)))
    assert "MiB of mail, more than 32" in str(refused(lambda: read(tmp_path / "bomb")))


def test_folders_that_are_no_series(
    read: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "readme.txt").write_text("no mail")
    assert "is a folder without mail" in str(refused(lambda: read(folder)))
    os.mkfifo(folder / "1.patch")
    assert "1.patch is not a file" in str(refused(lambda: read(folder)))
    monkeypatch.setattr(mail_files, "COUNT_LIMIT", 0)
    assert "more than 0 files" in str(refused(lambda: read(folder)))


def test_names_of_series(tmp_path: Path) -> None:
    for name in ("-", "t.mbox.gz", "t.mbx.xz", "v2.patch", "./folder"):
        assert catalog.origin(name) is Origin.MBOX
    assert catalog.origin("t.gz.txt") is None
    (tmp_path / "v2.mbox.gz").write_bytes(b"")
    (tmp_path / "my patches").mkdir()
    assert catalog.load(str(tmp_path / "v2.mbox.gz"), "7.3").name == "v2"
    assert catalog.load(str(tmp_path / "my patches"), "7.3").name == "my-patches"


def test_standard_input_can_be_read_again(
    read: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VFIO_ACPI_CACHE", str(tmp_path / "cache"))
    content = gzip.compress("".join(pair("PATCH")).encode())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    mail_files.standard_input.cache_clear()
    try:
        loaded = [catalog.load("-", "7.3") for _ in range(2)]
        assert loaded[0] == loaded[1] and loaded[0].name.startswith("stdin-")
        assert catalog.place("-") == loaded[0].mailboxes[0]
        assert titles(read(loaded[0].mailboxes[0])) == BOTH
        mail_files.standard_input.cache_clear()
        assert "nothing came" in str(refused(lambda: catalog.load("-", "7.3")))
    finally:
        mail_files.standard_input.cache_clear()


def test_standard_input_on_the_command_line(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel"
    (kernel / "drivers/vfio").mkdir(parents=True)
    (kernel / "Makefile").write_text("VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\nEXTRAVERSION =\n")
    (kernel / "Kconfig").write_text("")
    argv = [sys.executable, "-m", "kpatch", "apply", "--kernel", str(kernel), "--series", "-"]
    done = subprocess.run(
        argv,
        cwd=ROOT,
        input="".join(reversed(pair("PATCH"))),
        capture_output=True,
        text=True,
        env={**os.environ, "VFIO_ACPI_CACHE": str(tmp_path / "cache")},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["# add one", "# add two", "M one.c", "M two.c"]


# --- commands, and what b4 may not do ------------------------------------------------------------


def test_the_recorded_command_repeats_it(apply: Applier, tree: Tree) -> None:
    coded = mail("[PATCH 2/2] source: change", headers="Content-Transfer-Encoding: base64\n")
    body = base64.encodebytes(f"Why.\n---\n{WITH_GIT}".encode()).decode()
    coded = coded.replace("Why.\n", body)
    plain = mail("[PATCH 1/2] add x", new("x").replace("x.c", "y.c"))
    _, told = apply(coded, plain, mail("Re: [PATCH 1/2] add x", new("z")))
    command = told[-1].split(" && ")[1]
    done = subprocess.run(
        shlex.split(command), cwd=tree.path, capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines() == ["Checking patch y.c...", "Checking patch source.c..."]
    bare = WITH_GIT.replace("a/source", "source").replace("b/source", "source")
    _, told = apply(mail("[PATCH] source: change", bare))
    assert "-p0" in told[-1]
    subprocess.run(shlex.split(told[-1].split(" && ")[1]), cwd=tree.path, check=True)


def test_b4_runs_nothing_and_asks_nobody(read: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_run_command", "get_requests_session", "get_lore_node", "get_main_config"):
        monkeypatch.setattr(b4, name, None)
    cover = mail("[PATCH v2 0/2] numbers", text=COVER.format(base=BASE), ident="c")
    reply = mail("Re: [PATCH v2 1/2] add one", new("z"), ident="r", to="m1")
    assert titles(read(cover, *pair("PATCH v2", ident="m"), reply, *pair("PATCH"))) == BOTH
    assert not b4.can_network


@pytest.mark.parametrize(
    "headers",
    [
        "Message-Id: junk\n",
        "Message-Id: <>\n",
        "Date: yesterday\n",
        "References: <<<>>> ((( \x01\n",
        "In-Reply-To: =?utf-8?q?=3C\n",
        "X-Junk: " + "a" * 70000 + "\n",
    ],
)
def test_headers_of_no_sense(
    read: Reader, capsys: pytest.CaptureFixture[str], headers: str
) -> None:
    one = mail("[PATCH 1/2] add one", new("one"), headers=headers)
    assert titles(read(pair("PATCH")[1], one)) == BOTH
    assert capsys.readouterr() == ("", "")


def test_a_message_of_empty_lines_takes_no_time(read: Reader) -> None:
    text = "Why.\n" + "\n" * 60_000 + "Because.\n"
    started = time.process_time()
    assert titles(read(mail("[PATCH] add one", new("one"), text=text))) == ["add one"]
    assert time.process_time() - started < 5, "b4's expressions take a minute for these"


def test_posting_is_named_by_its_cover_or_its_first_patch(read: Reader) -> None:
    patches = pair("PATCH v2", ident="a")
    cover = mail("[PATCH v2 0/2] two files", ident="a0")
    whole = read(cover, *patches)
    assert (whole.subject, whole.message_id) == ("[PATCH v2 0/2] two files", "a0")
    bare = read(*patches)
    assert (bare.subject, bare.message_id) == ("[PATCH v2 1/2] add one", "a1")
    assert whole.version == bare.version == 2
    assert [patch.message_id for patch in bare.patches] == ["a1", "a2"]
    assert bare.patches[1].tagged == "[PATCH v2 2/2] add two"
