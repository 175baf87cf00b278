# SPDX-License-Identifier: GPL-2.0-only
"""Loading and applying series: real git, a small tree, and hostile mail."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import quopri
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.version import Version

from kpatch.errors import HarnessError
from kpatch.lib.stage import Silent
from kpatch.model import Applied, Change, Origin, Series, Tree
from kpatch.series import apply, catalog, mail_files, mailbox
from kpatch.tables.outcomes import ExitCode

LINES = "".join(f"line {number}\n" for number in range(1, 61))
FILES = {
    "drivers/vfio/main.c": LINES,
    "drivers/vfio/Kconfig": "config VFIO\n\tbool\n",
    "drivers/vfio/old.c": "int old;\nint two;\nint three;\nint four;\n",
    "scripts/run": "#!/bin/sh\n",
}
HEADER = "From: A Tester <a@example.org>\nSubject: [PATCH] a: change\n\nWhy.\n---\n"


def fingerprint(root: Path) -> dict[str, tuple[int, int, str]]:
    """Return mode, mtime and content of everything under ``root``."""
    found = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
        key = str(path.relative_to(root))
        found[key] = (info.st_mode, info.st_mtime_ns, hashlib.sha256(content).hexdigest())
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    root = tmp_path / "pristine"
    for path, text in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / "scripts/run").chmod(0o755)
    (root / "link").symlink_to("drivers")
    return Tree(root, "7.3.4", "7.3", "folder", {}, "f" * 16, cached=False)


class Author:
    """An author with a git clone of the tree, who writes patches."""

    def __init__(self, tree: Tree, home: Path) -> None:
        self.clone = home / "clone"
        self.home = home
        subprocess.run(["cp", "-a", str(tree.path), str(self.clone)], check=True)
        self.git("init", "-q", "-b", "main")
        self.commit("base")

    def git(self, *arguments: str) -> str:
        """Run git in the clone."""
        who = ["-c", "user.name=A Tester", "-c", "user.email=a@example.org"]
        env = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LC_ALL": "C"}
        argv = ["git", *who, *arguments]
        done = subprocess.run(argv, cwd=self.clone, env=env, check=True, capture_output=True)
        return done.stdout.decode()

    def commit(self, subject: str) -> None:
        """Commit all changes."""
        self.git("add", "-A")
        self.git("commit", "-q", "-m", subject)

    def write(self, path: str, text: str) -> None:
        """Write a file in the clone."""
        (self.clone / path).parent.mkdir(parents=True, exist_ok=True)
        (self.clone / path).write_text(text)

    def export(self, count: int, *options: str) -> Path:
        """Return the last ``count`` commits as an mbox."""
        out = self.home / "series.mbox"
        out.write_text(self.git("format-patch", "--stdout", *options, f"-{count}"))
        return out


@pytest.fixture
def author(tree: Tree, tmp_path: Path) -> Author:
    return Author(tree, tmp_path)


Applier = Callable[..., Applied]


@pytest.fixture
def applier(tree: Tree) -> Applier:
    """Return a function that applies mailboxes and checks that the tree is unchanged."""

    def run(*mailboxes: Path) -> Applied:
        before = fingerprint(tree.path)
        try:
            return apply.apply(
                tree, Series("test", "a test", "none", mailboxes, Origin.CARRIED), stage=Silent()
            )
        finally:
            assert fingerprint(tree.path) == before

    return run


@pytest.fixture
def mail(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes a mail with the given diff."""

    def write(diff: str) -> Path:
        path = tmp_path / "hand.mbox"
        path.write_text(HEADER + diff)
        return path

    return write


def new_file(path: str, *, mode: str = "100644", line: str = "hello") -> str:
    return (
        f"diff --git a/{path} b/{path}\nnew file mode {mode}\n--- /dev/null\n+++ b/{path}\n"
        f"@@ -0,0 +1 @@\n+{line}\n"
    )


def refused(run: Callable[[], object], code: ExitCode = ExitCode.USAGE) -> HarnessError:
    with pytest.raises(HarnessError) as caught:
        run()
    assert caught.value.code is code
    assert "\n" not in str(caught.value)
    return caught.value


# --- applying -----------------------------------------------------------------------------


def test_a_series_of_format_patch_applies(author: Author, applier: Applier) -> None:
    author.write("drivers/vfio/main.c", LINES.replace("line 5\n", "line five\n"))
    author.commit("vfio: spell five")
    author.write("drivers/vfio/new/acpi.c", "int acpi;\n")
    author.commit("vfio: add acpi")
    applied = applier(author.export(2, "--cover-letter"))
    assert applied.subjects == ("vfio: spell five", "vfio: add acpi")
    assert applied.changes == (
        Change("drivers/vfio/main.c", LINES.replace("line 5\n", "line five\n").encode()),
        Change("drivers/vfio/new/acpi.c", b"int acpi;\n"),
    )


def test_several_files_are_one_series(author: Author, applier: Applier, tmp_path: Path) -> None:
    author.write("a.c", "int a;\n")
    author.commit("add a")
    author.write("a.c", "int b;\n")
    author.commit("change a")
    author.git("format-patch", "-2", "-o", str(tmp_path / "out"))
    applied = applier(*sorted((tmp_path / "out").iterdir()))
    assert applied.subjects == ("add a", "change a")
    assert applied.changes == (Change("a.c", b"int b;\n"),)


def test_renames_copies_deletions_and_modes(author: Author, applier: Applier) -> None:
    author.git("mv", "drivers/vfio/old.c", "drivers/vfio/young.c")
    author.write("drivers/vfio/copy.c", LINES)
    author.write("drivers/vfio/main.c", LINES + "more\n")
    (author.clone / "scripts/run").chmod(0o644)
    (author.clone / "drivers/vfio/Kconfig").unlink()
    author.write("tool", "x\n")
    (author.clone / "tool").chmod(0o755)
    author.commit("move all about")
    mbox = author.export(1, "-C")
    assert "rename from" in mbox.read_text() and "copy from" in mbox.read_text()
    assert applier(mbox).changes == (
        Change("drivers/vfio/Kconfig", None),
        Change("drivers/vfio/copy.c", LINES.encode()),
        Change("drivers/vfio/main.c", (LINES + "more\n").encode()),
        Change("drivers/vfio/old.c", None),
        Change("drivers/vfio/young.c", FILES["drivers/vfio/old.c"].encode()),
        Change("scripts/run", b"#!/bin/sh\n"),
        Change("tool", b"x\n", executable=True),
    )


def test_names_that_git_quotes(author: Author, applier: Applier, tree: Tree) -> None:
    name = 'odd "quoted" \\name.c'
    (tree.path / name).write_text("int a;\n")
    author.write(name, "int a;\n")
    author.commit("add it")
    author.write(name, "int b;\n")
    author.commit("change it")
    assert applier(author.export(1)).changes == (Change(name, b"int b;\n"),)


def test_a_change_taken_back_leaves_no_delta(author: Author, applier: Applier) -> None:
    author.write("drivers/vfio/main.c", "gone\n")
    author.commit("break it")
    author.git("revert", "--no-edit", "HEAD")
    applied = applier(author.export(2))
    assert len(applied.subjects) == 2
    assert applied.changes == ()
    assert applied.delta_id == apply.apply(applied.tree, catalog.CONTROL, stage=Silent()).delta_id


def test_the_delta_id_names_the_content(author: Author, applier: Applier) -> None:
    author.write("a.c", "int a;\n")
    author.commit("one way")
    first = applier(author.export(1))
    author.git("commit", "-q", "--amend", "-m", "the same, said in other words")
    second = applier(author.export(1))
    assert first.subjects != second.subjects
    assert first.delta_id == second.delta_id
    (author.clone / "a.c").chmod(0o755)
    author.git("commit", "-q", "--amend", "-a", "-m", "one way")
    assert applier(author.export(1)).delta_id != first.delta_id


def test_the_state_after_some_patches(author: Author, applier: Applier) -> None:
    for number in (1, 2):
        author.write(f"{number}.c", f"int a{number};\n")
        author.commit(f"add {number}.c")
    whole = applier(author.export(2))
    first, none = apply.after(whole, 1), apply.after(whole, 0)
    assert [patch.subject for patch in first.patches] == ["add 1.c"]
    assert first.changes == whole.steps[0] == (Change("1.c", b"int a1;\n"),)
    assert first.delta_id == apply.delta_id(first.changes) != whole.delta_id
    assert first.steps == whole.steps[:1]
    assert (none.patches, none.changes, none.steps) == ((), (), ())
    assert none.delta_id == apply.delta_id(())
    assert apply.after(whole, 2) == whole
    assert apply.posted(whole.series).patches == whole.patches
    assert apply.selected_id(whole, re.compile(r"1\.c")) == first.delta_id
    assert apply.selected_id(whole, re.compile("1")) == none.delta_id, "the whole path matches"


def test_the_control_changes_nothing(applier: Applier) -> None:
    applied = applier()
    assert (applied.subjects, applied.changes) == ((), ())


def test_offsets_are_taken_and_fuzz_is_not(author: Author, applier: Applier, tree: Tree) -> None:
    author.write("drivers/vfio/main.c", LINES.replace("line 50\n", "line fifty\n"))
    author.commit("spell fifty")
    mbox = author.export(1)
    (tree.path / "drivers/vfio/main.c").write_text("at the top\n" + LINES)
    (change,) = applier(mbox).changes
    assert change.content is not None and change.content.startswith(b"at the top\nline 1\n")
    (tree.path / "drivers/vfio/main.c").write_text(LINES.replace("line 49", "line 4 9"))
    refused(lambda: applier(mbox), ExitCode.APPLY)


@pytest.mark.parametrize("encoding", ["8bit", "crlf", "quoted-printable", "base64", "base64-crlf"])
def test_encodings_of_mail(author: Author, applier: Applier, tmp_path: Path, encoding: str) -> None:
    author.write("drivers/vfio/main.c", LINES.replace("line 5\n", "größer = 5; /* § */\n"))
    author.commit("vfio: say größer")
    plain = author.export(1).read_bytes()
    expected = applier(author.export(1))
    head, body = plain.split(b"\n\n", 1)
    head = b"\n".join(line for line in head.split(b"\n") if b"Transfer-Encoding" not in line)
    if encoding == "crlf":
        sent = plain.replace(b"\n", b"\r\n")
    elif encoding == "quoted-printable":
        sent = (
            head + b"\nContent-Transfer-Encoding: quoted-printable\n\n" + quopri.encodestring(body)
        )
    elif encoding.startswith("base64"):
        body = body.replace(b"\n", b"\r\n") if encoding.endswith("crlf") else body
        sent = head + b"\nContent-Transfer-Encoding: base64\n\n" + base64.encodebytes(body)
    else:
        sent = plain
    mbox = tmp_path / "sent.mbox"
    mbox.write_bytes(sent)
    applied = applier(mbox)
    assert applied.subjects == ("vfio: say größer",)
    assert applied.delta_id == expected.delta_id


def test_a_diff_without_a_git_header(mail: Callable[[str], Path], applier: Applier) -> None:
    mbox = mail(
        "--- a/drivers/vfio/Kconfig\n+++ b/drivers/vfio/Kconfig\n"
        "@@ -1,2 +1,2 @@\n config VFIO\n-\tbool\n+\ttristate\n"
    )
    assert applier(mbox).changes == (Change("drivers/vfio/Kconfig", b"config VFIO\n\ttristate\n"),)


def test_cover_letter_and_replies_are_passed_over(
    author: Author, applier: Applier, tmp_path: Path
) -> None:
    author.write("a.c", "int a;\n")
    author.commit("add a")
    reply = (
        "From x Mon Sep 17 00:00:00 2001\nFrom: B <b@example.org>\n"
        "Subject: Re: [PATCH v2 1/1] add a\n\n> diff --git a/a.c b/a.c\nLooks good.\n\n"
    )
    mbox = tmp_path / "thread.mbox"
    mbox.write_text(author.export(1, "--cover-letter", "-v2").read_text() + reply)
    assert applier(mbox).subjects == ("add a",)


@pytest.mark.parametrize(
    ("subjects", "lacking"),
    [
        (("PATCH 1/3",), "2/3, 3/3"),
        (("PATCH 1/3", "PATCH 3/3"), "2/3"),
        (("PATCH 0/3", "PATCH 1/3", "PATCH 2/3"), "3/3"),
        (("RFC PATCH v2 02/02",), "1/2"),
        (("PATCH 2/2 v3",), "1/2"),
        (("PATCH 3/12",), "1/12, 2/12, 4/12, 5/12 and 7 more"),
        (("PATCH 1/1", "PATCH 1/2"), "2/2"),
        (("PATCH 9999/9999",), "1/9999, 2/9999, 3/9999, 4/9999 and 9994 more"),
        (("PATCH",), ""),
        (("PATCH 1/1",), ""),
        (("PATCH 2/2", "PATCH 1/2"), ""),
        (("PATCH 1/2", "PATCH", "PATCH 2/2"), ""),
        (("PATCH 1/" + "9" * 5000,), ""),
    ],
)
def test_a_part_of_a_series_is_refused(
    applier: Applier, tmp_path: Path, subjects: tuple[str, ...], lacking: str
) -> None:
    files = []
    for number, subject in enumerate(subjects):
        files.append(tmp_path / f"{number}.patch")
        mail = f"From x Mon Sep 17 00:00:00 2001\n{HEADER}{new_file(f'{number}.c')}"
        files[-1].write_text(mail.replace("[PATCH] a: change", f"[{subject}] add {number}"))
    mbox = tmp_path / "series.mbox"
    mbox.write_text("".join(file.read_text() for file in files))
    for mailboxes in (files, [mbox]):
        if not lacking:
            assert len(applier(*mailboxes).subjects) == len(subjects)
            continue
        error = refused(functools.partial(applier, *mailboxes))
        assert error.cause == f"is not whole: it lacks {lacking}"
        assert "git format-patch --stdout BASE.. > series.mbox" in error.hint


# --- patches that do not apply ----------------------------------------------------------------


def test_a_rejected_hunk_is_named(author: Author, applier: Applier, tree: Tree) -> None:
    author.write("a.c", "int a;\n")
    author.commit("add a")
    text = LINES.replace("line 5\n", "five\n").replace("line 30\n", "thirty\n")
    author.write("drivers/vfio/main.c", text.replace("line 55\n", "fifty-five\n"))
    author.commit("vfio: spell numbers")
    mbox = author.export(2)
    (tree.path / "drivers/vfio/main.c").write_text(LINES.replace("line 31\n", "other\n"))
    error = refused(lambda: applier(mbox), ExitCode.APPLY)
    assert "series test, patch 2/2 (vfio: spell numbers)" in str(error)
    assert "drivers/vfio/main.c, hunk 2 at line 27" in str(error)
    assert "-line 30" in error.details and "+thirty" in error.details
    assert "five" not in error.details
    there = error.details.partition("The tree has there instead:")[2]
    assert "    30 line 30\n    31 other\n    32 line 32" in there


def test_a_rejected_hunk_is_told_of_its_own_file(
    author: Author, applier: Applier, tree: Tree
) -> None:
    for name in ("a.c", "b.c"):
        author.write(name, f"int {name[0]};\n")
        (tree.path / name).write_text("other\n")
    author.commit("add two")
    author.write("a.c", "long a;\n")
    author.write("b.c", "long b;\n")
    author.commit("vfio: widen")
    error = refused(lambda: applier(author.export(1)), ExitCode.APPLY)
    assert "a.c, hunk 1 at line 1" in str(error)
    assert "+long a;" in error.details and "+long b;" not in error.details


def test_a_rejected_hunk_of_another_encoding_is_told(tree: Tree, applier: Applier) -> None:
    (tree.path / "drivers/vfio/main.c").write_bytes(b"gr\xfcn oder nicht\nnext\n")
    diff = b"--- a/drivers/vfio/main.c\n+++ b/drivers/vfio/main.c\n@@ -1 +1 @@\n-gr\xfcn\n+x\n"
    mbox = tree.path.parent / "latin1.mbox"
    head = HEADER.replace("---\n", "").encode()
    mbox.write_bytes(
        head.replace(b"\n\n", b"\nContent-Type: text/plain; charset=utf-8\n\n", 1) + b"---\n" + diff
    )
    error = refused(lambda: applier(mbox), ExitCode.APPLY)
    assert "drivers/vfio/main.c, hunk 1 at line 1" in str(error)
    assert "+x" in error.details
    there = error.details.partition("The tree has there instead:")[2]
    assert there == "\n     1 gr\ufffdn oder nicht"


def test_a_rejected_hunk_of_a_file_whose_name_git_quotes(
    author: Author, applier: Applier, tree: Tree
) -> None:
    (tree.path / "größe.c").write_text("int other;\n")
    author.write("größe.c", "int a;\n")
    author.commit("add it")
    author.write("größe.c", "int b;\n")
    author.commit("change it")
    error = refused(lambda: applier(author.export(1)), ExitCode.APPLY)
    assert error.cause == "does not apply to 7.3.4: größe.c, hunk 1 at line 1"
    assert "patch failed: größe.c:1" in error.details


def test_a_link_that_is_a_file_in_the_tree(mail: Callable[[str], Path], applier: Applier) -> None:
    name = "drivers/vfio/old.c"
    diff = f"diff --git a/{name} b/{name}\nindex 1111111..2222222 120000\n"
    diff += f"--- a/{name}\n+++ b/{name}\n@@ -1,2 +1 @@\n-int old;\n int two;\n"
    error = refused(lambda: applier(mail(diff)), ExitCode.APPLY)
    assert error.cause == f"does not apply to 7.3.4: {name}: wrong type"


def test_a_damaged_diff_says_where(mail: Callable[[str], Path], applier: Applier) -> None:
    diff = "--- a/drivers/vfio/main.c\n+++ b/drivers/vfio/main.c\n@@ -1,3 +1,3 @@\n-line 1\n"
    error = refused(lambda: applier(mail(diff)))
    assert error.cause.startswith("is damaged: corrupt patch at ")


def test_a_missing_file_is_named(author: Author, applier: Applier, tree: Tree) -> None:
    author.write("drivers/vfio/old.c", "int new;\n")
    author.commit("renew")
    mbox = author.export(1)
    (tree.path / "drivers/vfio/old.c").unlink()
    error = refused(lambda: applier(mbox), ExitCode.APPLY)
    assert "drivers/vfio/old.c is not in the tree" in str(error)


def test_a_file_in_the_way_is_named(author: Author, applier: Applier, tree: Tree) -> None:
    author.write("a.c", "int a;\n")
    author.commit("add a")
    mbox = author.export(1)
    (tree.path / "a.c").write_text("other\n")
    error = refused(lambda: applier(mbox), ExitCode.APPLY)
    assert "a.c, which it creates, is in the tree already" in str(error)


def test_an_applied_patch_is_recognised(author: Author, applier: Applier, tree: Tree) -> None:
    author.write("drivers/vfio/main.c", LINES.replace("line 5\n", "five\n"))
    author.commit("spell five")
    mbox = author.export(1)
    (tree.path / "drivers/vfio/main.c").write_text(LINES.replace("line 5\n", "five\n"))
    error = refused(lambda: applier(mbox), ExitCode.APPLY)
    assert str(error).endswith(
        "patch 1/1 (spell five): is in 7.3.4 already; leave it out, or choose an older KERNEL"
    )


# --- mail that is not acceptable --------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "is empty"),
        (b"\n \n\n", "is empty"),
        (b"\x7fELF\x02\x01\x01\0\0\0", "binary data"),
        (b"\x1f\x8b\x08\0\0", "compressed by gzip"),
        (b"Once upon a time\nthere was a kernel.\n", "does not begin like a mail"),
        (b"diff --git a/x b/x\n", "a bare diff without a mail's header"),
        (b"From: a\nSubject: [PATCH 0/3] hello\n\nno diff\n", "no mail in it has a patch"),
        (b"From: a\nSubject: [PATCH 2/3] lost\n\nno diff\n", "patch 2 (lost): has no diff in it"),
        (HEADER.encode() + b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,9 +1 @@\n-a\n", "damaged"),
    ],
)
def test_what_is_no_mailbox(applier: Applier, tmp_path: Path, content: bytes, cause: str) -> None:
    mbox = tmp_path / "bad.mbox"
    mbox.write_bytes(content)
    assert cause in str(refused(lambda: applier(mbox)))


@pytest.mark.parametrize(
    "path",
    [
        "../outside",
        "drivers/../../outside",
        "/etc/passwd",
        ".git/config",
        "drivers/.GIT/hooks/post-checkout",
        "drivers/./x",
        "x" * 256,
        "d/" * 2000 + "x",
    ],
)
def test_hostile_paths(
    mail: Callable[[str], Path], applier: Applier, tmp_path: Path, path: str
) -> None:
    before = fingerprint(tmp_path / "pristine")
    error = refused(lambda: applier(mail(new_file(path))))
    shown = repr(path)[:200]
    assert error.cause == f"has the path {shown}, which is not one inside a kernel tree"
    assert error.what.startswith("series test, patch 1/1 (")
    assert error.hint == "do not apply this patch anywhere before you know why"
    assert fingerprint(tmp_path / "pristine") == before
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("path", ["x" * 255, "d/" * 1999 + "xx"])
def test_the_longest_paths(mail: Callable[[str], Path], applier: Applier, path: str) -> None:
    assert [change.path for change in applier(mail(new_file(path))).changes] == [path]


@pytest.mark.parametrize("name", [r"a\nb", r"a\033[2J", r"a\377"])
def test_names_with_control_characters(
    mail: Callable[[str], Path], applier: Applier, name: str
) -> None:
    mbox = mail(
        f'diff --git "a/{name}" "b/{name}"\nnew file mode 100644\n--- /dev/null\n'
        f'+++ "b/{name}"\n@@ -0,0 +1 @@\n+x\n'
    )
    error = refused(lambda: applier(mbox))
    assert "not one inside a kernel tree" in str(error)
    assert str(error).isprintable()


def test_a_hostile_old_name_of_a_rename(mail: Callable[[str], Path], applier: Applier) -> None:
    mbox = mail(
        "diff --git a/../../etc/passwd b/passwd\nsimilarity index 100%\n"
        "copy from ../../etc/passwd\ncopy to passwd\n"
    )
    assert "not one inside a kernel tree" in str(refused(lambda: applier(mbox)))


def test_a_symbolic_link_is_refused(mail: Callable[[str], Path], applier: Applier) -> None:
    link = new_file("l", mode="120000", line="/etc") + "\\ No newline at end of file\n"
    error = refused(lambda: applier(mail(link)))
    assert (
        error.what.startswith("series test, patch 1/1 (")
        and error.cause == "makes l a symbolic link"
    )
    through = link + new_file("l/cron.d")
    refused(lambda: applier(mail(through)), ExitCode.APPLY)


def test_a_submodule_is_refused(mail: Callable[[str], Path], applier: Applier) -> None:
    line = "Subproject commit 1234567890123456789012345678901234567890"
    mbox = mail(new_file("sub", mode="160000", line=line))
    assert "makes sub a submodule" in str(refused(lambda: applier(mbox)))


@pytest.mark.parametrize("path", ["link/vfio/main.c", "link"])
def test_a_link_of_the_tree_is_not_followed(
    mail: Callable[[str], Path], applier: Applier, path: str
) -> None:
    error = refused(lambda: applier(mail(new_file(path))))
    assert "link, a symbolic link of the tree" in error.cause
    assert (error.what, error.hint) == ("series test on 7.3.4", "patch the file that it points to")


@pytest.mark.parametrize("path", ["drivers/vfio", "drivers/vfio/main.c/x"])
def test_file_and_folder_clash(mail: Callable[[str], Path], applier: Applier, path: str) -> None:
    error = refused(lambda: applier(mail(new_file(path))))
    assert "clashes with drivers/vfio" in error.cause
    assert error.what == "series test on 7.3.4"


def test_binary_patches_are_refused(author: Author, applier: Applier) -> None:
    (author.clone / "logo.bin").write_bytes(bytes(range(256)))
    author.commit("add a logo")
    error = refused(lambda: applier(author.export(1, "--binary")))
    assert "patch 1/1 (add a logo): has a binary patch for logo.bin" in str(error)
    assert "binary patch" in str(refused(lambda: applier(author.export(1, "--no-binary"))))


def test_too_much_mail(applier: Applier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = tmp_path / "huge.mbox"
    with huge.open("wb") as file:
        file.truncate(mail_files.SIZE_LIMIT + (1 << 20))
    assert "33 MiB of mail" in str(refused(lambda: applier(huge)))
    monkeypatch.setattr(mailbox, "PATH_LIMIT", 2)
    many = tmp_path / "many.mbox"
    many.write_text(HEADER + "".join(new_file(f"f{number}") for number in range(3)))
    assert "names more than 2 files" in str(refused(lambda: applier(many)))


def test_not_a_file(applier: Applier, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mbox")
    assert "is not a file" in str(refused(lambda: applier(tmp_path / "pipe.mbox")))
    assert "cannot be read" in str(refused(lambda: applier(tmp_path / "absent.mbox")))


def test_the_users_git_is_not_asked(
    author: Author, applier: Applier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    author.write("drivers/vfio/main.c", LINES.replace("line 5\n", "five  \n"))
    author.commit("spell five")
    mbox = author.export(1)
    expected = applier(mbox)
    (tmp_path / ".gitconfig").write_text(
        "[apply]\n\twhitespace = fix\n[core]\n\tautocrlf = true\n[commit]\n\tgpgsign = true\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "apply.whitespace")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "error")
    assert applier(mbox).delta_id == expected.delta_id


# --- loading ---------------------------------------------------------------------------------


@pytest.fixture
def carried(tmp_path: Path) -> Path:
    folder = tmp_path / "carried"
    (folder / "netlink/6.1").mkdir(parents=True)
    (folder / "unfinished").mkdir()
    (folder / "netlink/6.1/0001-a.patch").write_text("x")
    (folder / "netlink/0001-b.patch").write_text("x")
    (folder / "netlink/series.toml").write_text(
        'title = "by netlink"\nmechanism = "netlink"\n'
        '[[variant]]\nfrom = "6.1"\nbefore = "6.12"\npatches = ["6.1/0001-a.patch"]\n'
        '[[variant]]\nfrom = "6.12"\nbefore = "8.0"\npatches = ["0001-b.patch"]\n'
    )
    return folder


def test_carried_series_by_base(carried: Path) -> None:
    assert catalog.carried(folder=carried) == ["netlink"]
    old = catalog.load("netlink", "6.1", folder=carried)
    new = catalog.load("netlink", "6.12", folder=carried)
    assert (old.name, old.title, old.mechanism) == ("netlink", "by netlink", "netlink")
    assert [path.name for path in old.mailboxes] == ["0001-a.patch"]
    assert [path.name for path in new.mailboxes] == ["0001-b.patch"]
    assert catalog.load("netlink", "7.3", folder=carried) == new
    assert new.origin is Origin.CARRIED and new.origin.trusted


@pytest.mark.parametrize("base", ["5.15", "8.0", "8.1"])
def test_no_variant_for_the_base(carried: Path, base: str) -> None:
    error = refused(lambda: catalog.load("netlink", base, folder=carried))
    assert str(error) == (
        f"SERIES=netlink: has no patches for {base}, only for [6.1, 6.12), [6.12, 8.0); "
        "choose another KERNEL"
    )


def test_what_is_no_base(carried: Path) -> None:
    error = refused(lambda: catalog.load("netlink", "linux", folder=carried))
    assert str(error) == "SERIES=netlink: 'linux' is no kernel version; give one like 7.3"


def test_the_control_is_a_series(carried: Path) -> None:
    control = catalog.load("base", "7.3", folder=carried)
    assert (control.mechanism, control.mailboxes) == ("none", ())
    assert control.origin is Origin.CONTROL and control.origin.trusted


@pytest.mark.parametrize("name", ["nettlink", "unfinished", "eventfd", ""])
def test_unknown_names_list_the_known(carried: Path, name: str) -> None:
    error = refused(lambda: catalog.load(name, "7.3", folder=carried))
    assert str(error) == (
        f"SERIES={name}: no series of this name; choose from base, netlink, "
        "or give the path of an mbox file"
    )


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("v3 of it.mbox", "v3-of-it"),
        ("base.mbox", "base.mbox"),
        ("netlink.patch", "netlink.patch"),
        ("RFC_v2.1", "RFC_v2"),
        ("v1.2.mbox", "v1.2"),
        ("v1.2.mbox.gz", "v1.2"),
        ("X.mbox", "X"),
        ("no-suffix", "no-suffix"),
        ("- .mbox", "series"),
        (f"{'x' * 100}.mbox", "x" * 80),
    ],
)
def test_a_series_from_a_file(carried: Path, tmp_path: Path, file: str, name: str) -> None:
    (tmp_path / file).write_text("From x")
    loaded = catalog.load(str(tmp_path / file), "7.3", mechanism="eventfd", folder=carried)
    assert (loaded.name, loaded.mechanism) == (name, "eventfd")
    assert loaded.mailboxes == (tmp_path / file,)
    assert loaded.title == file
    assert loaded.origin is Origin.MBOX and not loaded.origin.trusted, (
        "a stranger's: its mechanism is detected, its build is its own"
    )


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("../absent/netlink", "no such file"),
        ("absent.mbox", "no such file"),
        ("/dev/null", "is not a file"),
    ],
)
def test_files_that_are_not_there(carried: Path, name: str, cause: str) -> None:
    error = refused(lambda: catalog.load(name, "7.3", folder=carried))
    assert str(error) == (
        f"SERIES={Path(name)}: {cause}; name an mbox file, a maildir or a folder of patches"
    )


ONE = '[[variant]]\npatches = ["0001-b.patch"]\n'


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("title = ", "Invalid value"),
        (f'title = "t"\n{ONE}', "mechanism is missing"),
        (f'title = "t"\nmechanism = "m"\nfoo = 1\n{ONE}', "unknown key foo"),
        (f'title = "t"\nmechanism = "m"\ndraft = "no"\n{ONE}', "draft is not"),
        (f'title = "t"\nmechanism = "m"\ndefault = 1\n{ONE}', "default is not"),
        ('title = "t"\nmechanism = "m"\nvariant = []\n', "no [[variant]]"),
        ('title = "t"\nmechanism = "m"\n[variant]\n', "variant is not a list"),
        ('title = "t"\nmechanism = "m"\nvariant = [1]\n', "variant is not a table"),
        (f'title = 7\nmechanism = "m"\n{ONE}', "title is not a string"),
        (f'title = "a\\nb"\nmechanism = "m"\n{ONE}', "title is not one line"),
        (f'title = "t"\nmechanism = "m"\n{ONE}from = 7.3\n', "from is not a string in quotes"),
        (f'title = "t"\nmechanism = "m"\n{ONE}from = "soon"\n', "'soon' is no version"),
        (f'title = "t"\nmechanism = "m"\n{ONE}from = "7"\nbefore = "7"\n', "7 is not before 7"),
        (f'title = "t"\nmechanism = "m"\n{ONE}{ONE}', "overlap"),
        ('title = "t"\nmechanism = "m"\n[[variant]]\npatches = []\n', "without patches"),
        ('title = "t"\nmechanism = "m"\n[[variant]]\npatches = ["no.patch"]\n', "is not there"),
        ('title = "t"\nmechanism = "m"\n[[variant]]\npatches = ["../x"]\n', "inside the folder"),
        ('title = "t"\nmechanism = "m"\n[[variant]]\npatches = [1]\n', "inside the folder"),
    ],
)
def test_a_table_that_breaks_the_grammar(carried: Path, text: str, cause: str) -> None:
    (carried / "netlink/series.toml").write_text(text)
    error = refused(lambda: catalog.load("netlink", "7.3", folder=carried))
    assert cause in str(error)
    assert "series.toml" in error.what


def test_a_draft_is_run_only_when_it_is_named(carried: Path) -> None:
    table = carried / "netlink/series.toml"
    assert "netlink" in catalog.ready(folder=carried)
    table.write_text(table.read_text().replace("mechanism", "draft = true\nmechanism", 1))
    assert "netlink" not in catalog.ready(folder=carried)
    assert "netlink" in catalog.carried(folder=carried)
    assert catalog.load("netlink", "7.3", folder=carried).name == "netlink"


def test_a_series_that_does_not_run_by_default(carried: Path) -> None:
    table = carried / "netlink/series.toml"
    assert catalog.default(folder=carried) == ["netlink"]
    table.write_text(table.read_text().replace("mechanism", "default = false\nmechanism", 1))
    assert catalog.default(folder=carried) == []
    assert catalog.ready(folder=carried) == ["netlink"]


@pytest.mark.parametrize(
    ("name", "base", "there"),
    [
        ("netlink", "6.1", True),
        ("netlink", "7.9", True),
        ("netlink", "8.0", False),
        ("base", "8.0", True),
        ("x.mbox", "8.0", True),
    ],
)
def test_has_patches(carried: Path, name: str, base: str, there: bool) -> None:
    assert catalog.has_patches(name, base, folder=carried) == there


def test_open_ranges_reach_to_the_ends(carried: Path) -> None:
    (carried / "netlink/series.toml").write_text(
        'title = "t"\nmechanism = "m"\n'
        '[[variant]]\nbefore = "7.0"\npatches = ["6.1/0001-a.patch"]\n'
        '[[variant]]\nfrom = "7.0"\npatches = ["0001-b.patch"]\n'
    )
    assert catalog.load("netlink", "2.6", folder=carried).mailboxes[0].name == "0001-a.patch"
    assert catalog.load("netlink", "99.1", folder=carried).mailboxes[0].name == "0001-b.patch"


Range = tuple[str | None, str | None]
OLD, NEW, ALL = (None, "7.0"), ("7.0", None), (None, None)


@pytest.mark.parametrize(
    ("one", "two", "overlap"),
    [
        (OLD, NEW, False),
        (("6.1", "6.12"), ("6.12", "7.0"), False),
        (("6.1", "6.12"), NEW, False),
        (OLD, ("7.0", "7.3"), False),
        (("6.1", "6.12"), ("6.11", "7.0"), True),
        (("6.1", "7.3"), ("6.12", "7.0"), True),
        (("6.1", "7.3"), NEW, True),
        (OLD, ("6.1", "7.3"), True),
        (OLD, (None, "6.1"), True),
        (NEW, ("7.3", None), True),
        (ALL, OLD, True),
        (ALL, NEW, True),
        (ALL, ("6.1", "6.12"), True),
        (ALL, ALL, True),
    ],
)
def test_ranges_that_overlap(one: Range, two: Range, overlap: bool) -> None:
    first, second = (
        catalog.Variant(Version(start) if start else None, Version(end) if end else None, ())
        for start, end in (one, two)
    )
    assert first.overlaps(second) is second.overlaps(first) is overlap


def test_an_open_range_is_told_in_words() -> None:
    assert str(catalog.Variant(None, Version("7.0"), ())) == "[oldest, 7.0)"
    assert str(catalog.Variant(Version("7.0"), None, ())) == "[7.0, newest)"
