# SPDX-License-Identifier: GPL-2.0-only
"""The checks of a series' form: the mail, style, spelling, kernel-doc, licences, maintainers."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kconfig import tree
from kconfig.tree import KernelKconfig
from kpatch.build import conf, config
from kpatch.checks import checkpatch, review, table
from kpatch.checks.context import CouldNotRunError
from kpatch.checks.lines import Line, lines
from kpatch.checks.review import ReviewRequest
from kpatch.lib import confine
from kpatch.lib.progress import Progress
from kpatch.model import Patch
from kpatch.pipeline import RunRequest
from kpatch.tables.bases import BASES
from kpatch.tables.outcomes import CheckOutcome
from tests import kerneltree

FORM = ("mail", "checkpatch", "spelling", "kernel-doc", "spdx", "maintainers")

SIGNED = "Why.\n\nSigned-off-by: T <t@example.org>\n"

# Stand-ins for the tree's scripts, which complain about words of the files that they get.
CHECKPATCH = r"""#!/usr/bin/perl
my ($n, $m) = (0, 0);
open(my $mail, '<', $ARGV[-1]) or die;
while (<$mail>) {
	$n++;
	my $place = "#$n:";
	if (/^\+bad (\d+)/) {
		$m++;
		print "ERROR:BAD: is bad\n$place FILE: drivers/vfio/vfio_main.c:$1:\n$_\n";
	}
	if (/^badly/) {
		$m++;
		print "WARNING:COMMIT_LOG_LONG_LINE: is long\n$place \n$_\n";
	}
}
exit 0 if (!$m);
print "total: $m errors, 0 warnings, 0 checks, 9 lines checked\n";
exit 1;
"""
KERNEL_DOC = r"""#!/usr/bin/perl
# -Wall
my $n;
for my $file (grep { !/^-/ } @ARGV) {
	open(my $in, '<', $file) or die;
	$n = 0;
	while (<$in>) { $n++; print "$file:$n: warning: $1\n" if (m{^// doc: (.*)}); }
}
"""
GET_MAINTAINER = r"""#!/usr/bin/perl
my ($list) = map { /^--mpath=(.*)/ ? $1 : () } @ARGV;
open(my $in, '<', $list) or die;
open(my $diff, '<', $ARGV[-1]) or die;
my $names = join('', grep { /^\+\+\+/ } <$diff>);
local $/ = "";
while (<$in>) {
	next if (/^\s*$/);
	my ($path) = /^F:\t(.*)$/m;
	print "$_\n" if ($path eq '*' || index($names, $path) >= 0);
}
"""
MAINTAINERS = "VFIO\nM:\tA <a@b.c>\nF:\tdrivers/vfio/\n\nTHE REST\nM:\tB <b@b.c>\nF:\t*\n"
GPL = "Valid-License-Identifier: GPL-2.0\nValid-License-Identifier: GPL-2.0-only\n"
TREE = {
    "scripts/checkpatch.pl": CHECKPATCH,
    "scripts/kernel-doc": KERNEL_DOC,
    "scripts/get_maintainer.pl": GET_MAINTAINER,
    "scripts/spelling.txt": "# of the tree\ncommited||committed\n",
    "MAINTAINERS": MAINTAINERS,
    "LICENSES/preferred/GPL-2.0": GPL,
    "LICENSES/exceptions/note": "SPDX-Exception-Identifier: Linux-syscall-note\n",
}
MAIN = "drivers/vfio/vfio_main.c"


class Author:
    """An author with a git clone of a small kernel tree, who writes a series."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clone = kerneltree.repository(folder / "clone")
        for path, text in TREE.items():
            self.write(path, text)
        self.commit("vfio: First")
        self.git("tag", "base")

    def git(self, *arguments: str) -> str:
        """Run git in the clone."""
        return kerneltree.git(self.clone, *arguments)

    def write(self, path: str, text: str | None) -> None:
        """Write a file, or remove it if ``text`` is None."""
        file = self.clone / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            file.unlink()
        else:
            file.write_text(text)

    def commit(self, title: str, body: str = SIGNED) -> str:
        """Commit all changes; return the commit's id."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", f"{title}\n\n{body}")
        return self.git("rev-parse", "HEAD")

    def patch(self, title: str, message: str = SIGNED, /, **files: str | None) -> None:
        """Commit a patch; the keywords are contents of files, "main" that of MAIN."""
        for name, text in files.items():
            self.write({"main": MAIN}.get(name, name), text)
        self.commit(title, message)

    def mbox(self) -> Path:
        """Return the commits since the tag base as an mbox."""
        made = self.folder / "series.mbox"
        made.write_text(self.git("format-patch", "--stdout", "base.."))
        return made


@pytest.fixture
def author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Author:
    monkeypatch.setenv("VFIO_ACPI_CACHE", str(tmp_path / "cache"))
    return Author(tmp_path)


Form = Callable[..., dict[str, Any]]


@pytest.fixture
def form(author: Author, tmp_path: Path) -> Form:
    """Return a function that reviews the author's series: each check's record by its name."""

    def run(*names: str, history: bool = False, mbox: Path | None = None) -> dict[str, Any]:
        kernel = f"{author.clone}@base"
        if not history:
            author.git("checkout", "--quiet", "base")
            plain = shutil.copytree(author.clone, tmp_path / "plain", symlinks=True)
            shutil.rmtree(plain / ".git")
            author.git("checkout", "--quiet", "main")
            kernel = str(plain)
        request = RunRequest(kernel=kernel, series=(str(mbox or author.mbox()),))
        out = tmp_path / "out"
        review.review(ReviewRequest(request, names or FORM), out, Progress())
        checks = json.loads((out / "review.json").read_text())["checks"]
        return {check["name"]: check for check in checks if check["outcome"] != "not-selected"}

    return run


def found(check: dict[str, Any]) -> list[tuple[int, str]]:
    return [(one["patch"], one["text"]) for one in check["findings"]]


def test_rows_are_those_of_the_form() -> None:
    quick = {row.name for row in table.CHECKS if row.group == table.QUICK}
    assert quick >= set(FORM)


def test_good_series_passes(author: Author, form: Form) -> None:
    author.patch("vfio: Change a number", main="int number; /* a good comment */\n")
    author.patch(
        "vfio: Add a file",
        f"Why, and\n\n[1] how.\n\nLink: https://b.c/1 [1]\nReviewed-by: A <a@b.c>\n{SIGNED[6:]}",
        **{"drivers/vfio/new.c": "// SPDX-License-Identifier: GPL-2.0-only\nint n;\n"},
    )
    checks = form()
    assert {name: check["outcome"] for name, check in checks.items()} == dict.fromkeys(FORM, "pass")
    assert "send it to" in checks["maintainers"]["notes"][0]
    for name in ("checkpatch", "kernel-doc", "maintainers", "mail"):
        assert checks[name]["commands"]


# ---- lines -----------------------------------------------------------------------------------


DIFF = b"""\
---
 a.c | 2 +-

diff --git a/a.c b/a.c
--- a/a.c
+++ b/a.c
@@ -1,2 +1,3 @@ int f(void)
 one
-two
+2
+++ three
@@ -10 +11 @@
--- ten
+10
\\ No newline at end of file
diff --git a/d/b.c b/d/b.c
new file mode 100644
--- /dev/null
+++ b/d/b.c
@@ -0,0 +1 @@
+b
"""


@dataclass
class Contents:
    """Stands for a Context: the files after a patch."""

    files: dict[str, bytes]

    def after(self, count: int) -> int:
        """Return the state."""
        return count

    def content(self, state: int, path: str) -> bytes | None:
        """Return a file."""
        return self.files.get(path)


@pytest.mark.parametrize("before", [0, 3])
def test_lines_of_a_diff(before: int) -> None:
    top = "".join(f"new {number}\n" for number in range(before))
    text = f"{top}one\n2\n++ three\n" + "".join(f"{n}\n" for n in range(4, 10)) + "-\n10"
    context: Any = Contents({"a.c": text.encode(), "d/b.c": b"b\n"})
    found = lines(context, Patch(1, 1, "a: b", "", ("A", "a@b.c"), DIFF, ("a.c", "d/b.c")))
    assert found.added == (
        Line("a.c", before + 2, "2"),
        Line("a.c", before + 3, "++ three"),
        Line("a.c", before + 11, "10"),
        Line("d/b.c", 1, "b"),
    )
    assert found.removed == {"two", "-- ten"}
    assert found.offsets["a.c", 1] == found.offsets["a.c", 11] == before


# ---- checkpatch ------------------------------------------------------------------------------

SAID = """\
ERROR:SPACING: space required after that ';' (ctx:VxV)
#57: FILE: a/b.c:330:
+\tint fooBar;int ret;
 \t          ^

CHECK:CAMELCASE: Avoid CamelCase: <fooBar>
#57: FILE: a/b.c:330:
+\tint fooBar;int ret;

ERROR:GIT_COMMIT_ID: Please use git commit description style - ie: 'commit 0123456789ab'
#6:$
see 1234567890123 and

ERROR:MISSING_SIGN_OFF: Missing Signed-off-by: line(s)

total: 3 errors, 0 warnings, 1 checks, 672 lines checked
""".replace("$", " ")


def test_messages_of_checkpatch_are_findings() -> None:
    spacing, camel, commit, signed = checkpatch.parse(1, SAID)
    assert (spacing.place, spacing.outcome) == ("a/b.c:330", CheckOutcome.FAIL)
    assert spacing.details == ("+\tint fooBar;int ret;", " \t          ^")
    assert (camel.text, camel.outcome) == (
        "CAMELCASE: Avoid CamelCase: <fooBar>",
        CheckOutcome.WARN,
    )
    assert (commit.place, commit.outcome) == ("", CheckOutcome.WARN)
    assert commit.text == "GIT_COMMIT_ID: Please use git commit description style"
    assert (signed.text[:16], signed.details) == ("MISSING_SIGN_OFF", ())
    assert checkpatch.parse(0, "") == []


@pytest.mark.parametrize(
    ("status", "output"),
    [
        (1, ""),
        (0, "Must be run from the top-level dir. of a kernel tree\n"),
        (1, "bwrap: No such file or directory\n"),
        (1, SAID.replace("3 errors", "4 errors")),
    ],
)
def test_checkpatch_that_breaks_off_is_no_pass(status: int, output: str) -> None:
    with pytest.raises(CouldNotRunError):
        checkpatch.parse(status, output)


def test_checkpatch_tells_the_patch_and_what_a_later_one_takes_away(
    author: Author, form: Form
) -> None:
    author.patch("vfio: One", main="int vfio;\nbad 2\n")
    author.patch("vfio: Two", main="int vfio;\nbad 2\nbad 3\n")
    author.patch("vfio: Three", f"badly\n  badly\n\n{SIGNED}", main="int vfio;\nbad 3\n")
    checks = form("checkpatch", "mail")
    assert [
        (one["patch"], one["line"], one["removed_by"]) for one in checks["checkpatch"]["findings"]
    ] == [
        (1, 2, 3),
        (2, 3, 0),
    ]
    assert found(checks["mail"]) == [(3, "COMMIT_LOG_LONG_LINE: is long")]


@pytest.mark.parametrize(
    ("after", "outcome"),
    [
        ("int a;\nint b;\nbad 3 vfio_device\n", "pass"),
        ("int a;\nint b;\nbad 3 a vfio_device\n", "pass"),
        ("int a;\nint b;\nbad 3 something else entirely\n", "fail"),
        ("bad 1 vfio_device\nint a;\nint b;\nbad 4 vfio_device\n", "fail"),
    ],
)
def test_line_that_is_moved_or_edited_is_not_new(
    author: Author, form: Form, after: str, outcome: str
) -> None:
    author.write(MAIN, "bad 1 vfio_device\nint a;\nint b;\n")
    author.commit("vfio: Before")
    author.git("tag", "--force", "base")
    author.patch("vfio: Move", main=after)
    assert form("checkpatch")["checkpatch"]["outcome"] == outcome


def test_tree_without_the_script_is_no_pass(author: Author, form: Form) -> None:
    author.git("rm", "--quiet", "-r", "scripts", "MAINTAINERS", "LICENSES")
    author.commit("vfio: Before")
    author.git("tag", "--force", "base")
    author.patch("vfio: One", main="int one;\n")
    checks = form()
    assert [checks[name]["outcome"] for name in FORM] == [
        *("could-not-run", "could-not-run", "pass"),
        *("could-not-run", "could-not-run", "could-not-run"),
    ]


@pytest.mark.parametrize("confined", [True, False])
def test_script_sees_no_settings_of_the_user(
    author: Author, form: Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, confined: bool
) -> None:
    if not confined:
        monkeypatch.setattr(confine, "fault", lambda: "not in this test")
    home = tmp_path / "home"
    home.mkdir()
    (home / ".checkpatch.conf").write_text("--ignore BAD\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("CHECKPATCH_CONFIG_DIR", str(home))
    script = CHECKPATCH.replace(
        "my ($n",
        'exit 0 if (-e "$ENV{HOME}/.checkpatch.conf" || $ENV{CHECKPATCH_CONFIG_DIR});\nmy ($n',
    )
    author.write("scripts/checkpatch.pl", script)
    author.commit("vfio: Before")
    author.git("tag", "--force", "base")
    author.patch("vfio: One", main="int vfio;\nbad 2\n")
    assert form("checkpatch")["checkpatch"]["outcome"] == "fail"


@pytest.mark.skipif(bool(confine.fault()), reason="bubblewrap does not work here")
def test_script_cannot_write_or_read_outside(author: Author, form: Form, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    script = f'open(my $f, ">", "{tmp_path}/written");\nexit 1 if (-e "{secret}");\n'
    author.write("scripts/checkpatch.pl", CHECKPATCH.replace("my ($n", script + "my ($n"))
    author.commit("vfio: Before")
    author.git("tag", "--force", "base")
    author.patch("vfio: One", main="int vfio;\nbad 2\n")
    assert form("checkpatch")["checkpatch"]["outcome"] == "fail"
    assert not (tmp_path / "written").exists()


# ---- mail ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            'Why.\n\nFixes: 0123456789ab ("a: b")\n\nSigned-off-by: A <a@b.c>\n',
            "blank lines between",
        ),
        ("Reviewed-by: A <a@b.c>\n\nWhy.\n\nSigned-off-by: A <a@b.c>\n", "trailer before the end"),
        ("Why.\n\nFixes: 1a2b3c4 vfio: Let drivers\nSigned-off-by: A <a@b.c>\n", "not of the form"),
        ('Why.\n\nfixes: 0123456789ab ("a: b")\n', "not of the form"),
        ("Why.\n\nFixes: 0123456789ab (a: b)\n", "not of the form"),
        ('Why.\n\nFixes: 0123456789ab ("a: b")\nCc: <stable@vger.kernel.org> # 6.1\n', ""),
        ("Why.\n\nLink: https://a.b/\n[A: rebased]\nSigned-off-by: A <a@b.c>\n", ""),
        ("Fixes: a thing.\n\nThis fixes 1234567 things.\n\nSigned-off-by: A <a@b.c>\n", ""),
        ("Why.\n\nLink: https://a.b/\n\nSigned-off-by: A <a@b.c>\n", ""),
        ("Link: https://a.b/\n\nWhy: because.\n\nSigned-off-by: A <a@b.c>\n", ""),
    ],
)
def test_trailers(author: Author, form: Form, body: str, told: str) -> None:
    author.patch("vfio: One", body, main="int one;\n")
    texts = found(form("mail")["mail"])
    assert [text for _, text in texts if told in text] if told else texts == []


@pytest.mark.parametrize(
    ("sender", "signers", "told"),
    [
        ("a", "aa", False),
        ("a", "ab", True),
        ("a", "ba", False),
        ("b", "ab", False),
        ("A", "ab", True),
        ("c", "ab", False),
        ("", "ta", False),
    ],
)
def test_last_sign_off(author: Author, form: Form, sender: str, signers: str, told: bool) -> None:
    """The sender of a mail signs last; commits that nobody sent yet ("") are not judged."""
    body = "".join(f"Signed-off-by: N <{one}@example.org>\n" for one in signers)
    author.patch("vfio: One", f"Why.\n\n{body}", main="int one;\n")
    mbox = author.mbox()
    if sender:
        sent = f"From: N <{sender}@example.org>\nMessage-ID: <1@example.org>\n"
        mbox.write_text(re.sub(r"^From: .*\n", sent, mbox.read_text(), count=1, flags=re.M))
    texts = [text for _, text in found(form("mail", mbox=mbox)["mail"])]
    assert any("the last Signed-off-by" in text for text in texts) == told


def test_title_without_a_prefix(author: Author, form: Form) -> None:
    author.patch("Change things", main="int one;\n")
    author.patch('Revert "Change things"', main="int two;\n")
    author.patch("ACPI:vfio: Change things", main="int three;\n")
    assert [patch for patch, _ in found(form("mail")["mail"])] == [1]


def test_numbers_and_versions(author: Author, form: Form, tmp_path: Path) -> None:
    author.patch("vfio: One", main="int one;\n")
    author.patch("vfio: Two", main="int two;\n")
    mbox = tmp_path / "other.mbox"
    mbox.write_text(author.mbox().read_text().replace("[PATCH 2/2]", "[PATCH RESEND 2/2]"))
    assert form("mail", mbox=mbox)["mail"]["outcome"] == "pass"


def test_history_decides_about_prefix_and_fixes(author: Author, form: Form) -> None:
    for number in range(8):
        author.write(MAIN, f"int vfio{number};\n")
        commit = author.commit(f"vfio/pci: Change {number}")
    author.git("tag", "--force", "base")
    title = "vfio/pci: Change 7"

    def fixes(what: str) -> str:
        return f"Why.\n\nFixes: {what}\nSigned-off-by: T <t@example.org>\n"

    author.patch("vfio: Right", fixes(f'{commit[:12]} ("{title}")'), main="int a;\n")
    author.patch("vfio-pci: Wrong title", fixes(f'{commit[:12]} ("vfio: Other")'), main="int b;\n")
    author.patch("vfio: No commit", fixes('0123456789ab ("a: b")'), main="int c;\n")
    later = author.git("rev-parse", "HEAD")[:12]
    author.patch("vfio: Not of the base", fixes(f'{later} ("vfio: No commit")'), main="int d;\n")
    author.patch("iommu: Other prefix", main="int e;\n")
    texts = found(form("mail", history=True)["mail"])
    assert [(patch, text.rpartition(": ")[2]) for patch, text in texts[:3]] == [
        (2, 'Change 7"'),
        (3, "the repository has no commit of this id"),
        (4, "that commit is not part of the base"),
    ]
    assert texts[3:] == [
        (
            5,
            "prefix iommu: is unusual for these files; their last commits begin with vfio (8)",
        )
    ]


def test_shallow_clone_refutes_no_fixes(author: Author, form: Form, tmp_path: Path) -> None:
    old = author.git("rev-parse", "base~1")
    for number in range(9):
        author.write(MAIN, f"int vfio{number};\n")
        author.commit(f"vfio: Change {number}")
    author.git("tag", "--force", "base")
    body = f'Why.\n\nFixes: {old[:12]} ("first")\n{SIGNED[6:]}'
    author.patch("iommu: One", body, main="int a;\n")
    mbox = author.mbox()
    author.git("checkout", "--quiet", "base")
    kerneltree.git(tmp_path, "clone", "--quiet", "--depth=9", f"file://{author.clone}", "shallow")
    author.git("checkout", "--quiet", "main")
    author.clone = tmp_path / "shallow"
    author.git("tag", "--force", "base", "HEAD")
    check = form("mail", history=True, mbox=mbox)["mail"]
    [(_, text)] = found(check)
    assert text.endswith("their last commits begin with vfio (9)")
    assert any("shallow" in note for note in check["notes"])


# ---- spelling --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        (MAIN, "int occured; /* it has commited */\n", ["commited"]),
        (MAIN, "/*\n * it recieves\n */\nint vfio;\n", ["recieves"]),
        (MAIN, 'char *s = "it recieves\\n"; // and seperate\n', ["recieves", "seperate"]),
        (MAIN, "int occured; /* occured is set */\n", []),
        (MAIN, "/* see Documentation/recieve.rst, recieve_all(), -recieve, a.recieve */\n", []),
        ("Documentation/vfio.rst", "It occured.\n", ["occured"]),
        (MAIN, "/* te ser fo */\n", []),
    ],
)
def test_misspelt_words(author: Author, form: Form, path: str, text: str, words: list[str]) -> None:
    author.patch("vfio: One", **{path: text})
    check = form("spelling")["spelling"]
    assert [text.split("'")[1] for _, text in found(check)] == words


def test_word_that_was_there_before_is_not_new(author: Author, form: Form) -> None:
    author.write(MAIN, "int a; /* it recieves */\n")
    author.commit("vfio: Before")
    author.git("tag", "--force", "base")
    author.patch("vfio: One", main="int b; /* it recieves */\n")
    assert form("spelling")["spelling"]["outcome"] == "pass"


def test_message_is_read_without_what_its_author_did_not_write(author: Author, form: Form) -> None:
    body = (
        "It occured. Occured!\n\n  log: seperate\n> recieve\n"
        'As of commit 12345678 ("vfio: seperate").\n\n'
        'Fixes: 123456789012 ("vfio: recieve")\nSigned-off-by: Seperate <t@example.org>\n'
    )
    author.patch("vfio: Recieve values", body, main="int one;\n")
    texts = [text.split("'")[1] for _, text in found(form("spelling")["spelling"])]
    assert texts == ["Recieve", "occured"]


# ---- kernel-doc ------------------------------------------------------------------------------


def test_new_complaints_about_kernel_doc(author: Author, form: Form) -> None:
    author.write(MAIN, "// doc: old\n// doc: No description found for return value of 'a'\n")
    author.commit("vfio: Before")
    author.git("tag", "--force", "base")
    author.patch(
        "vfio: One",
        main="int moved;\n// doc: old\n// doc: old\n"
        "// doc: No description found for return value of 'a'\n"
        "// doc: No description found for return value of 'b'\n",
        **{"drivers/vfio/new.c": "// doc: No description found for return value of 'c'\n"},
    )
    author.patch("vfio: Two", main="int moved;\n")
    check = form("kernel-doc")["kernel-doc"]
    assert [(one["file"], one["line"], one["text"][:6]) for one in check["findings"]] == [
        ("drivers/vfio/new.c", 1, "No des"),
        (MAIN, 3, "old"),
    ]
    assert check["findings"][1]["removed_by"] == 2


def test_kernel_doc_without_c_files(author: Author, form: Form) -> None:
    author.patch("vfio: One", **{"Documentation/vfio.rst": "Text.\n"})
    assert form("kernel-doc")["kernel-doc"]["outcome"] == "not-applicable"


# ---- licences and maintainers ----------------------------------------------------------------


def test_licences(author: Author, form: Form) -> None:
    tag = "SPDX-License-Identifier:"
    author.patch(
        "vfio: One",
        **{
            "drivers/vfio/good.h": f"/* {tag} (GPL-2.0 WITH Linux-syscall-note) OR GPL-2.0 */\n",
            "drivers/vfio/none.c": "int none;\n",
            "drivers/vfio/odd.c": f"// {tag} GPL-3.0-only\n",
            "drivers/vfio/data.txt": "data\n",
            "drivers/vfio/page.html": f"<!-- {tag} GPL-2.0 -->\n",
        },
    )
    check = form("spdx")["spdx"]
    assert [(one["file"], one["outcome"]) for one in check["findings"]] == [
        ("drivers/vfio/odd.c", "fail"),
        ("drivers/vfio/none.c", "warn"),
    ]


def test_new_files_without_a_maintainer(author: Author, form: Form) -> None:
    author.patch("lib: One", **{"lib/a.c": "int a;\n", "lib/b.c": "int b;\n"})
    author.patch("vfio: Two", SIGNED, **{"drivers/vfio/c.c": "int c;\n", "lib/b.c": None})
    author.patch("MAINTAINERS: Three", MAINTAINERS=f"LIB\nF:\tlib/a.h\n\n{MAINTAINERS}")
    check = form("maintainers")["maintainers"]
    assert found(check) == [(1, "no section of MAINTAINERS has the new file lib/a.c")]


def test_entry_may_come_last(author: Author, form: Form) -> None:
    author.patch("lib: One", **{"lib/a.c": "int a;\n"})
    author.patch("MAINTAINERS: Two", MAINTAINERS=f"LIB\nF:\tlib/a.c\n\n{MAINTAINERS}")
    assert form("maintainers")["maintainers"]["outcome"] == "pass"


def test_entry_of_a_file_that_goes(author: Author, form: Form) -> None:
    author.write("MAINTAINERS", f"LIB\nF:\tlib/a.c\n\n{MAINTAINERS}")
    author.write("lib/a.c", "int a;\n")
    author.commit("lib: Before")
    author.git("tag", "--force", "base")
    author.patch("lib: One", SIGNED, **{"lib/a.c": None})
    check = form("maintainers")["maintainers"]
    assert found(check) == [(1, "MAINTAINERS still has lib/a.c, which this patch removes")]


# ---- the real scripts ------------------------------------------------------------------------

BAD = """\
// SPDX-License-Identifier: GPL-2.0-only
#include <linux/module.h>

/**
 * vfio_bad - Add two numbers, which never occured before
 * @one: first
 */
static int vfio_bad(int one, int camelCase)
{
	return (one + camelCase) ;
}
"""


@pytest.mark.trees
@pytest.mark.parametrize("kernel", list(BASES))
def test_real_scripts(
    author: Author, tmp_path: Path, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = f"{SIGNED}Fixes: 12345 vfio: mangled\n"
    author.patch("vfio: Add numbers", message, **{"drivers/vfio/vfio_bad.c": BAD})
    monkeypatch.undo()  # the real cache has the trees
    request = RunRequest(kernel=kernel, series=(str(author.mbox()),))
    made = review.review(ReviewRequest(request, FORM), tmp_path / "out", Progress())
    texts = {
        check.name: [f"{one.place}: {one.text}" for one in check.findings]
        for check in made.checks
        if check.name in FORM
    }
    bad = "drivers/vfio/vfio_bad.c"
    assert sorted(texts["checkpatch"]) == [
        f"{bad}:10: SPACING: space prohibited before semicolon",
        f"{bad}:8: CAMELCASE: Avoid CamelCase: <camelCase>",
    ]
    assert texts["spelling"] == [f"{bad}:5: 'occured' may be misspelt, perhaps 'occurred'"]
    assert any("'camelCase' not described in 'vfio_bad'" in text for text in texts["kernel-doc"])
    assert texts["maintainers"] == []
    assert texts["spdx"] == []
    assert len(texts["mail"]) == 1 and "not of the form" in texts["mail"][0]


# ---- comments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("int a;\n\t/* One\n\t * two\n\t */\n", [2]),
        ("/*\n * One\n * two\n */\n", []),
        ("/* One */\n\n/* two */\n", []),
        ("int a; /* One\n\t* two */\n", []),
        ('char *a = "/* One\\n";\n/*\n * two\n */\n', []),
        ("/*********\n * One\n */\n", []),
        ("/**\n *one - Do it\n *@two: three\n * four\n **/\n", [2, 3]),
        ("/*\n *One\n */\n*a = 1;\n", []),
    ],
)
def test_form_of_comments(author: Author, form: Form, text: str, numbers: list[int]) -> None:
    author.patch("vfio: One", main=text)
    author.patch("net: Two", **{"net/new.c": "/* Two\n * three\n */\n"})
    findings = form("comments")["comments"]["findings"]
    assert [(one["file"], one["line"]) for one in findings] == [(MAIN, it) for it in numbers]


def test_comments_that_were_there(author: Author, form: Form) -> None:
    author.write(MAIN, "/* One\n * two\n */\n")
    author.commit("vfio: Before")
    author.git("tag", "--force", "base")
    author.patch("vfio: One", main="/* One\n * two\n * three\n */\n")
    assert form("comments")["comments"]["outcome"] == "pass"


# ---- kconfig -------------------------------------------------------------------------------------


def test_symbol_that_a_patch_removes(author: Author, form: Form) -> None:
    author.write("Kconfig", 'mainmenu "Test"\nconfig GONE\n\tbool\n')
    author.commit("Kconfig: Before")
    author.git("tag", "--force", "base")
    author.patch("vfio: One", main="#ifdef CONFIG_GONE\n", Kconfig='mainmenu "Test"\n')
    assert found(form("kconfig")["kconfig"]) == [(1, "no Kconfig file defines CONFIG_GONE")]


def test_symbol_that_no_kconfig_defines(author: Author, form: Form) -> None:
    author.patch(
        "vfio: Ask for symbols",
        main="#ifdef CONFIG_OLD\n#if IS_ENABLED(CONFIG_MISPELT)\n#ifdef CONFIG_NEW_MODULE\n",
        **{
            "Kconfig": 'mainmenu "Test"\nconfig OLD\n\tbool\nconfig NEW\n\tbool\n'
            '\tdepends on OLD && (NONE || "TEXT" != "y")\n',
            "notes.txt": "CONFIG_ANYTHING\n",
        },
    )
    author.patch("vfio: Ask once more", main="#if defined(CONFIG_MISPELT)\n")
    [check] = form("kconfig").values()
    assert check["outcome"] == "warn"
    assert [(one["patch"], one["file"], one["line"], one["text"]) for one in check["findings"]] == [
        (1, "Kconfig", 6, "no Kconfig file defines CONFIG_NONE"),
        (1, MAIN, 2, "no Kconfig file defines CONFIG_MISPELT"),
    ]


IDLE = """\
mainmenu "Test"
config SUSPEND
	bool "Suspend"
config IDLE
	bool
	depends on SUSPEND
config POWER
	bool "Power"
"""


def test_select_of_a_symbol_whose_dependencies_may_be_unmet(
    author: Author, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    author.write("Kconfig", IDLE)
    author.commit("Kconfig: Before")
    author.git("tag", "--force", "base")
    author.patch("vfio: One", Kconfig=f"{IDLE}\tselect IDLE\n")
    author.patch("vfio: Two", main="int two;\n")

    def parsed(source: Path, *, version: str, **_: object) -> KernelKconfig:
        return tree.load(source, version=version, environment={}, cwd=source, shell=conf.shell)

    monkeypatch.setattr(config, "_parsed", parsed)
    [one] = form("kconfig")["kconfig"]["findings"]
    assert (one["patch"], one["file"], one["line"], one["outcome"]) == (1, "Kconfig", 9, "warn")
    assert one["text"] == "POWER selects IDLE, whose dependencies may be unmet"
    assert one["details"] == ["IDLE depends on SUSPEND, which POWER does not imply"]


def test_selects_of_a_tree_that_cannot_be_parsed(author: Author, form: Form) -> None:
    author.patch("vfio: One", Kconfig=f"{IDLE}\tselect IDLE\n")
    check = form("kconfig")["kconfig"]
    assert check["findings"] == []
    assert any("selected symbols are not judged" in note for note in check["notes"])
