# SPDX-License-Identifier: GPL-2.0-only
"""Series as mails: git am restores the patches; names and evidence are right."""

from __future__ import annotations

import dataclasses
import email
import email.policy
import os
import subprocess
import sys
from collections.abc import Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from kpatch.errors import HarnessError
from kpatch.lib.stage import Silent
from kpatch.model import Applied, Origin, Series, Tree
from kpatch.report import cover_letter, result
from kpatch.report.result import KernelInfo, RunResult, SeriesInfo
from kpatch.series import apply, catalog, export
from kpatch.source import resolve
from kpatch.tables.outcomes import ExitCode, Outcome
from kpatch.verdict import requirements
from kpatch.verdict.judge import TestResult
from kpatch.vm.accel import Accel
from tests import kerneltree
from tests.carried import CARRIED_KERNELS
from tests.test_carried import IGNORED

ME = export.Person("Zoë Example", "zoe@example.org")
CARRIED = ("vfio-acpi", export.PLACEHOLDER)
COVER = export.Cover("A title", "A body.")
OTHER = ("Ann Other", "ann@example.net")


def commit(repository: Path, name: str, content: str, title: str, author: tuple[str, str]) -> None:
    """Commit one file with the given author."""
    path = repository / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    kerneltree.git(repository, "add", "--all")
    who = f"{author[0]} <{author[1]}>"
    kerneltree.git(repository, "commit", "--quiet", "--author", who, "--message", title)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Make a git repository: a tree on the branch "main", two patches on the branch "work"."""
    folder = kerneltree.repository(tmp_path / "linux")
    kerneltree.git(folder, "checkout", "--quiet", "-b", "work")
    one = "vfio: Add a number\n\nIt was missing.\n\nüber 8 bit."
    commit(folder, "drivers/vfio/vfio_main.c", "int vfio = 1;\n", one, CARRIED)
    two = "vfio: Add a file\n\nIt was missing too.\n\nSigned-off-by: Ann Other <ann@example.net>"
    commit(folder, "drivers/vfio/new.c", "int more;\n", two, OTHER)
    return folder


@pytest.fixture
def applied(repository: Path, tmp_path: Path) -> Applied:
    """Return the two patches, as a series on the tree of "main"."""
    mailbox = tmp_path / "mine.mbox"
    mailbox.write_text(kerneltree.git(repository, "format-patch", "--stdout", "main..work") + "\n")
    tree = Tree(kerneltree.make(tmp_path / "tree"), "9.9.1", "9.9", "folder", {}, "t", cached=True)
    return apply.apply(
        tree, Series("mine", "mine", "netlink", (mailbox,), Origin.MBOX), stage=Silent()
    )


def mails(
    applied: Applied, *, evidence: Sequence[RunResult] = (), **export_options: Any
) -> dict[str, bytes]:
    asked = export.ExportOptions(ME, **export_options)
    cover = cover_letter.write(applied, evidence, version=asked.version)
    return export.export(applied, asked, cover, stage=Silent())


def parsed(content: bytes) -> EmailMessage:
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def body(content: bytes) -> str:
    text = parsed(content).get_content()
    assert isinstance(text, str)
    return text


def taken(repository: Path, files: dict[str, bytes], folder: Path) -> None:
    """Apply the mails with git am, on a new branch from "main"."""
    export.write(files, folder)
    kerneltree.git(repository, "checkout", "--quiet", "-b", "again", "main")
    patches = [str(folder / name) for name in files if "cover-letter" not in name]
    kerneltree.git(repository, "am", "--quiet", *patches)


def log(repository: Path, form: str) -> list[str]:
    """Return the log of the applied patches in the format ``form``, oldest first."""
    argv = ("log", "-z", "--reverse", f"--format={form}", "main..again")
    return [entry.strip() for entry in kerneltree.git(repository, *argv).strip("\0").split("\0")]


@pytest.mark.parametrize("version", [1, 3])
def test_git_takes_it_back(
    repository: Path, applied: Applied, tmp_path: Path, version: int
) -> None:
    taken(repository, mails(applied, version=version), tmp_path / "out")
    trees = kerneltree.git(repository, "rev-parse", "work^{tree}", "again^{tree}").split()
    assert trees[0] == trees[1]
    messages = [message.strip("\x01") for message in log(repository, "%B")]
    signed = f"Signed-off-by: {ME}"
    assert (
        messages[0].strip() == f"vfio: Add a number\n\nIt was missing.\n\nüber 8 bit.\n\n{signed}"
    )
    assert messages[1].strip().endswith(f"Signed-off-by: Ann Other <ann@example.net>\n{signed}")
    assert "***" not in "".join(messages), "what is below the line stays out of the commit"


def test_authors(repository: Path, applied: Applied, tmp_path: Path) -> None:
    """The exporter replaces the placeholder author; real authors are kept."""
    files = mails(applied)
    cover, *patches = files.values()
    # git 2.39 leaves the cover letter's as 8-bit text, git 2.47 encodes it as the others.
    head = email.message_from_string(cover.decode(), policy=email.policy.default)
    assert str(head["From"]) == str(ME)
    assert all(str(parsed(patch)["From"]) == str(ME) for patch in patches)
    taken(repository, files, tmp_path / "out")
    assert log(repository, "%an <%ae>") == [str(ME), "Ann Other <ann@example.net>"]


def test_numbers_and_names(applied: Applied) -> None:
    first, second = mails(applied), mails(applied, version=2)
    assert list(first) == [
        "0000-cover-letter.patch",
        "0001-vfio-Add-a-number.patch",
        "0002-vfio-Add-a-file.patch",
    ]
    assert list(second) == [f"v2-{name}" for name in first]
    titles = [str(parsed(mail)["Subject"]) for mail in second.values()]
    assert titles == [
        f"[PATCH v2 0/2] {cover_letter.NO_TITLE}",
        "[PATCH v2 1/2] vfio: Add a number",
        "[PATCH v2 2/2] vfio: Add a file",
    ]
    assert str(parsed(first["0001-vfio-Add-a-number.patch"])["Subject"]).startswith("[PATCH 1/2]")


def test_changelog_is_below_the_line(applied: Applied) -> None:
    cover, *patches = mails(applied, version=2).values()
    for patch in patches:
        message, _, below = body(patch).partition("\n---\n")
        assert "Changes in v2" in below.partition("diff --git")[0]
        assert "Changes" not in message
    assert "v2:\n- *** CHANGES SINCE v1 HERE ***" in body(cover)
    assert "Changes" not in "".join(body(patch) for patch in [*mails(applied).values()][1:])


def test_no_signoff(applied: Applied) -> None:
    text = "".join(body(mail) for mail in mails(applied, signoff=False).values())
    assert f"Signed-off-by: {ME}" not in text
    assert "Signed-off-by: Ann Other" in text


def test_nobody_signs_off_twice(applied: Applied) -> None:
    ann = export.Person(*OTHER)
    files = export.export(applied, export.ExportOptions(ann), COVER, stage=Silent())
    assert body(files["0002-vfio-Add-a-file.patch"]).count("Signed-off-by:") == 1


@pytest.mark.parametrize(
    ("provider", "origin", "told", "base_commit"),
    [
        (
            "debian",
            {"package": "linux-source-9.9", "version": "9.9.1-1"},
            "base: v9.9.1 (Debian package linux-source-9.9 9.9.1-1)",
            False,
        ),
        ("git", {"commit": "c" * 40, "repository": "/secret"}, f"base-commit: {'c' * 40}", True),
        (
            "tarball",
            {"sha256": "d" * 64, "file": "/secret"},
            "base: v9.9.1 (tarball, sha256",
            False,
        ),
        ("folder", {"folder": "/secret"}, "base: v9.9.1 (a folder without git)", False),
    ],
)
def test_base(
    applied: Applied, provider: str, origin: dict[str, str], told: str, base_commit: bool
) -> None:
    tree = dataclasses.replace(applied.tree, provider=provider, origin=origin)
    files = mails(dataclasses.replace(applied, tree=tree))
    cover = body(files["0000-cover-letter.patch"])
    assert any(line.startswith(told) for line in cover.splitlines())
    assert ("\nbase-commit: " in cover) is base_commit
    assert "/secret" not in b"".join(files.values()).decode()
    assert cover.index("vfio: Add a number") < len(cover), "the shortlog is there"


def test_control_has_nothing_to_export(applied: Applied) -> None:
    with pytest.raises(HarnessError, match="has no patches") as refused:
        export.export(
            dataclasses.replace(applied, series=catalog.CONTROL),
            export.ExportOptions(ME),
            COVER,
            stage=Silent(),
        )
    assert refused.value.code is ExitCode.USAGE


# The exporter's name.


@pytest.fixture
def git_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only configuration that git reads."""
    config = tmp_path / "gitconfig"
    config.touch()
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.chdir(tmp_path)
    return config


def test_exporter(git_config: Path) -> None:
    git_config.write_text("[user]\n\tname = Zoë Example\n\temail = zoe@example.org\n")
    assert export.exporter() == ME


@pytest.mark.parametrize(
    ("config", "cause", "hint"),
    [
        ("", "git has no user.name for you", "git config --global user.name"),
        ("[user]\n\tname = Z\n", "git has no user.email for you", "user.email"),
        ("[user]\n\tname = Z\n\temail = me\n", "git's user.email for you is 'me'", "user.email"),
        ("[user]\n\tname = <>\n\temail = z@a.b\n", "git's user.name for you is '<>'", "user.name"),
    ],
)
def test_nobody(git_config: Path, config: str, cause: str, hint: str) -> None:
    git_config.write_text(config)
    with pytest.raises(HarnessError) as refused:
        export.exporter()
    assert refused.value.cause == cause
    assert hint in refused.value.hint
    assert refused.value.code is ExitCode.USAGE


# The output folder.


def test_write(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    export.write({"a": b"1"}, out)
    assert (out / "a").read_bytes() == b"1"
    (tmp_path / "empty").mkdir()
    export.write({"a": b"2"}, tmp_path / "empty")
    assert (tmp_path / "empty" / "a").read_bytes() == b"2"


@pytest.mark.parametrize(
    ("name", "cause"),
    [("full", "is a folder with files in it"), ("file", "is there and is no folder"),
     ("nowhere", "is there and is no folder")],
)  # fmt: skip
def test_taken_folder_is_left_alone(tmp_path: Path, name: str, cause: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "nowhere").symlink_to("nothing")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(HarnessError, match=cause) as refused:
        export.write({"a": b"1"}, tmp_path / name)
    assert refused.value.code is ExitCode.USAGE
    assert sorted(tmp_path.rglob("*")) == before


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HarnessError, match="cannot be written: ") as refused:
        export.write({"a": b"1"}, tmp_path / "file" / "out")
    assert refused.value.code is ExitCode.USAGE


# The evidence.


def case(name: str, of: str, outcome: Outcome, expected: Outcome, requirement: str) -> TestResult:
    return TestResult(name, requirement, of, outcome, expected, outcome is expected)


PASS, FAIL, XFAIL = Outcome.PASS, Outcome.FAIL, Outcome.XFAIL


@pytest.fixture
def run(applied: Applied) -> RunResult:
    """Return the result of a run of the series and the control on the tree."""
    return RunResult(
        exit_code=ExitCode.PASS,
        flavor="plain",
        started="2026-11-22T14:00:00Z",
        seconds=41.0,
        kernel=KernelInfo("9.9.1", "debian", applied.tree.tree_id, {"version": "9.9.1-1"}),
        series=(
            SeriesInfo("base", "the control", "none"),
            SeriesInfo("mine", "mine", "netlink", applied.subjects, "k", applied.delta_id),
        ),
        accel=Accel("tcg", "auto", ""),
        tools={"compiler": "gcc (Debian 12.2.0-14) 12.2.0; GNU ld 2.40", "qemu": "7.2.22"},
        requirements={
            "REQ-EVT-01": "A notification is one message " * 9,
            "REQ-EVT-08": "All bits arrive.",
            "REQ-EVT-03": "Not promised by this one.",
        },
        tests=(
            case("a", "base", FAIL, FAIL, "REQ-EVT-01"),
            case("a", "mine", PASS, PASS, "REQ-EVT-01"),
            case("b", "mine", PASS, PASS, "REQ-EVT-01"),
            case("c", "mine", XFAIL, XFAIL, "REQ-EVT-08"),
            case("d", "mine", FAIL, FAIL, "REQ-EVT-03"),
        ),
    )


def saved(run: RunResult, path: Path) -> Path:
    path.write_text(result.dump(run))
    return path


def test_evidence_is_shown(applied: Applied, run: RunResult, tmp_path: Path) -> None:
    older = dataclasses.replace(
        run,
        kernel=KernelInfo("8.1.7", "debian", "another", {"version": "8.1.7-1"}),
        series=(SeriesInfo("mine", "mine", "netlink", applied.subjects[:1], "k", "another"),),
        tests=(case("a", "mine", FAIL, PASS, "REQ-EVT-01"),),
        exit_code=ExitCode.FAIL,
        selection="layout",
    )
    paths = [saved(run, tmp_path / "one.json"), saved(older, tmp_path / "two.json")]
    shown = cover_letter.evidence(paths, applied)
    cover = body(mails(applied, evidence=shown)["0000-cover-letter.patch"])
    lines = cover.splitlines()
    rows = {line.split()[0]: line for line in lines if line.startswith(("REQ-", "requirement"))}
    assert rows["requirement"].split() == ["requirement", "9.9.1", "8.1.7"]
    assert rows["REQ-EVT-01"].split()[1:6] == ["pass", "2x", "FAIL", "A", "notification"]
    assert rows["REQ-EVT-08"].split()[1:4] == ["xfail", "-", "All"]
    limits = requirements.load()["REQ-EVT-08"].limits
    words = f"REQ-EVT-08: {limits['netlink']}".split()
    assert " ".join(words) in " ".join(cover.split())
    assert "REQ-EVT-03" not in rows, "what the series does not promise is no evidence"
    assert all(len(row) <= cover_letter.MAIL_WIDTH for row in rows.values())
    assert "9.9.1: pass; 2 passed, 1 failed as they must, 1 at a documented limit" in lines
    assert "8.1.7: fail; 1 NOT OK" in lines
    assert "  control: 1 failed as they must" in lines and "  control: not run" in lines
    assert '  make kernel-test KERNEL=9.9 SERIES="base mine.mbox" MECHANISM=netlink' in lines
    again = """  make kernel-test KERNEL=8.1 SERIES="mine.mbox" MECHANISM=netlink TESTS='layout'"""
    assert again in lines
    assert "  plain, tcg, QEMU 7.2.22, gcc (Debian 12.2.0-14) 12.2.0" in lines


def test_nothing_tested_is_not_told_of(applied: Applied) -> None:
    cover = body(mails(applied)["0000-cover-letter.patch"])
    assert "Testing" not in cover and "kernel-test" not in cover


def test_evidence_of_something_else(applied: Applied, run: RunResult, tmp_path: Path) -> None:
    changed = dataclasses.replace(run.series[1], delta_id="another")
    wrong = {
        "before it was changed": dataclasses.replace(run, series=(run.series[0], changed)),
        "has no test of series mine": dataclasses.replace(run, series=run.series[:1]),
        "has no test": dataclasses.replace(run, tests=run.tests[:1]),
    }
    for cause, one in wrong.items():
        with pytest.raises(HarnessError, match=cause) as refused:
            cover_letter.evidence([saved(one, tmp_path / "result.json")], applied)
        assert refused.value.code is ExitCode.USAGE
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(HarnessError, match="does not fit") as refused:
        cover_letter.evidence([tmp_path / "result.json"], applied)
    assert refused.value.code is ExitCode.USAGE


# The command.


def command(
    repository: Path, applied: Applied, config: Path, *more: str
) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "kpatch", "export", str(applied.series.mailboxes[0])]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(kerneltree.ROOT),
        "VFIO_ACPI_CACHE": str(config.parent / "cache"),
        "GIT_CONFIG_GLOBAL": str(config),
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    return subprocess.run(
        [*argv, "--kernel", f"{repository}@main", *more],
        cwd=config.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_command(repository: Path, applied: Applied, git_config: Path) -> None:
    out = git_config.parent / "outgoing"
    done = command(repository, applied, git_config)
    assert (done.returncode, out.exists()) == (ExitCode.USAGE, False)
    assert "git has no user.name for you; run: git config --global user.name" in done.stderr
    git_config.write_text("[user]\n\tname = Zoë Example\n\temail = zoe@example.org\n")
    done = command(repository, applied, git_config, "--version", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"outgoing/{path.name}" for path in sorted(out.iterdir())]
    assert "git send-email" in done.stderr and "to be filled in" in done.stderr
    commit = kerneltree.git(repository, "rev-parse", "main")
    cover = (out / "v2-0000-cover-letter.patch").read_text()
    assert f"\nbase-commit: {commit}\n-- \n" in cover
    again = command(repository, applied, git_config)
    assert again.returncode == ExitCode.USAGE
    assert "is a folder with files in it" in again.stderr


# The carried series.


@pytest.mark.trees
@pytest.mark.parametrize(("kernel_tree", "name"), CARRIED_KERNELS, indirect=["kernel_tree"])
def test_carried_series_can_be_posted(
    kernel_tree: tuple[str, Path], name: str, tmp_path: Path
) -> None:
    base, path = kernel_tree
    tree = resolve.resolve(base, stage=Silent())
    applied = apply.apply(tree, catalog.load(name, base), stage=Silent())
    files = mails(applied)
    export.write(files, tmp_path / "out")
    patches = [str(tmp_path / "out" / file) for file in files if "cover-letter" not in file]
    assert len(patches) == len(applied.subjects)
    argv = ["perl", "scripts/checkpatch.pl", "--strict", "--ignore", "FILE_PATH_CHANGES", *patches]
    assert "SIGN_OFF" in IGNORED, "a sign-off is what the carried patches lack"
    checked = subprocess.run(argv, cwd=path, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    repository = tmp_path / "linux"
    for change in applied.changes:
        if (path / change.path).exists():
            (repository / change.path).parent.mkdir(parents=True, exist_ok=True)
            (repository / change.path).write_bytes((path / change.path).read_bytes())
    kerneltree.git(repository, "init", "--quiet")
    kerneltree.git(repository, "add", "--all")
    kerneltree.git(repository, "commit", "--quiet", "--message", "base")
    kerneltree.git(repository, "am", "--quiet", *patches)
    for change in applied.changes:
        assert (repository / change.path).read_bytes() == change.content
    cover = next(iter(files.values()))
    assert cover_letter.NO_TITLE not in str(parsed(cover)["Subject"]), "it has a cover.txt"
    assert f"base: v{tree.version} (Debian package linux-source-{base} " in body(cover)
