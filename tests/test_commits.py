# SPDX-License-Identifier: GPL-2.0-only
"""A range of commits as a series, and the base that a series is reviewed on."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from kpatch.checks import base
from kpatch.errors import HarnessError
from kpatch.lib.stage import Silent
from kpatch.model import Tree
from kpatch.series import apply, catalog
from kpatch.source import commits, resolve
from kpatch.tables.outcomes import ExitCode
from tests import kerneltree

FILE = "drivers/vfio/vfio_main.c"


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFIO_ACPI_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose branch topic is two commits ahead of main, which has gone on."""
    folder = kerneltree.make(tmp_path / "linux")
    git(folder, "init", "--quiet")
    commit(folder, "first", "Kconfig", 'mainmenu "Test"\n')
    git(folder, "checkout", "--quiet", "-b", "topic")
    commit(folder, "vfio: Count to two", FILE, "int vfio = 2;\n")
    commit(folder, "vfio: Count to three", FILE, "int vfio = 3;\n")
    git(folder, "checkout", "--quiet", "main")
    commit(folder, "elsewhere", "Kconfig", 'mainmenu "Other"\n')
    return folder


def git(folder: Path, *words: str) -> str:
    return kerneltree.git(folder, *words)


def commit(folder: Path, title: str, file: str, content: str) -> None:
    (folder / file).write_text(content)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", title)


def refused(folder: Path, series: str) -> HarnessError:
    with pytest.raises(HarnessError) as error:
        commits.export(folder, series)
    assert error.value.code is ExitCode.USAGE
    assert error.value.what == f"SERIES={series}"
    return error.value


@pytest.mark.parametrize(
    "name", ["a..b", "v7.3..topic", "origin/x..y/z", "v7.3..", "a...b", "@~2..@"]
)
def test_ranges(name: str) -> None:
    assert commits.is_range(name)


@pytest.mark.parametrize("name", ["../x.mbox", "a/../b", "x.mbox", "..b", "netlink", "-"])
def test_no_ranges(name: str) -> None:
    assert not commits.is_range(name)


def test_range_begins_at_the_common_ancestor(repository: Path) -> None:
    exported = commits.export(repository, "main..topic")
    assert exported.base == git(repository, "merge-base", "main", "topic")
    subjects = re.findall(rb"^Subject: (.*)$", exported.mbox, re.M)
    assert subjects == [b"[PATCH 1/2] vfio: Count to two", b"[PATCH 2/2] vfio: Count to three"]


def test_settings_of_the_repository_change_no_diff(repository: Path) -> None:
    before = commits.export(repository, "main..topic")
    for name, value in {
        "diff.noprefix": "true",
        "format.signoff": "true",
        "format.coverLetter": "true",
        "diff.external": "false",
        "format.subjectPrefix": "RFC",
    }.items():
        git(repository, "config", name, value)
    assert commits.export(repository, "main..topic") == before


def test_range_is_reviewed_where_it_begins(repository: Path) -> None:
    chosen = base.choose(str(repository), "main..topic", stage=Silent())
    begin = git(repository, "merge-base", "main", "topic")
    assert chosen.kernel == f"{repository}@{begin}"
    tree = resolve.resolve(chosen.kernel, stage=Silent())
    applied = apply.apply(tree, catalog.load(chosen.series, tree.base), stage=Silent())
    assert applied.subjects == ("vfio: Count to two", "vfio: Count to three")
    assert [change.content for change in applied.changes] == [b"int vfio = 3;\n"]


def test_range_without_its_repository() -> None:
    with pytest.raises(HarnessError, match="say of which: KERNEL=REPOSITORY"):
        base.choose(None, "main..topic", stage=Silent())


def test_range_with_a_merge(repository: Path) -> None:
    git(repository, "checkout", "--quiet", "topic")
    git(repository, "merge", "--quiet", "--message", "Merge main", "main")
    merge = git(repository, "rev-parse", "HEAD")[:12]
    start = git(repository, "rev-list", "--max-parents=0", "HEAD")
    assert f"has the merge commit {merge} (Merge main)" in str(
        refused(repository, f"{start}..topic")
    )


def test_range_without_commits(repository: Path) -> None:
    assert "has no commit" in str(refused(repository, "topic..topic"))


def test_range_of_both_sides(repository: Path) -> None:
    assert "give main..topic" in str(refused(repository, "main...topic"))


@pytest.mark.parametrize("series", ["main..none", "none..topic"])
def test_range_of_unknown_commits(repository: Path, series: str) -> None:
    assert "the repository has no commit 'none'" in str(refused(repository, series))


def test_range_without_common_ancestor(repository: Path) -> None:
    git(repository, "checkout", "--quiet", "--orphan", "other")
    commit(repository, "root", FILE, "int other;\n")
    assert "main and other have no common ancestor" in str(refused(repository, "main..other"))


def test_range_in_a_shallow_clone(repository: Path, tmp_path: Path) -> None:
    url = f"file://{repository}"
    git(tmp_path, "clone", "--quiet", "--depth=1", "--no-single-branch", url, "shallow")
    error = refused(tmp_path / "shallow", "origin/main..origin/topic")
    assert "no common ancestor" in str(error) and "fetch --unshallow" in str(error)


def test_range_in_no_repository(tmp_path: Path) -> None:
    kerneltree.make(tmp_path / "tree")
    assert "is no git repository" in str(refused(tmp_path / "tree", "a..b"))


def test_series_is_reviewed_on_its_base_commit(repository: Path, tmp_path: Path) -> None:
    begin = git(repository, "merge-base", "main", "topic")
    mbox = tmp_path / "series.mbox"
    exported = git(repository, "format-patch", "--stdout", f"--base={begin}", f"{begin}..topic")
    mbox.write_text(exported + "\n")
    chosen = base.choose(str(repository), str(mbox), stage=Silent())
    assert chosen.kernel == f"{repository}@{begin}"
    assert f"base-commit {begin[:12]}" in chosen.how


def test_base_commit_that_the_repository_lacks(repository: Path, tmp_path: Path) -> None:
    mbox = tmp_path / "series.mbox"
    text = git(repository, "format-patch", "--stdout", "-1", "topic")
    mbox.write_text(f"{text}\n\nbase-commit: {'1' * 40}\n")
    assert base.choose(str(repository), str(mbox), stage=Silent()).kernel == str(repository)


# ---- which of the bases --------------------------------------------------------------------------


@pytest.fixture
def bases(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tree]:
    """Three bases: "new" has another file than the patch was made from, "old" the very one."""
    contents = {"new": "int vfio;\n\n\n\n\nint more;\n", "old": "int vfio;\n", "odd": "void f;\n"}
    trees = {}
    for name, content in contents.items():
        folder = kerneltree.make(tmp_path / name)
        (folder / FILE).write_text(content)
        trees[name] = dataclasses.replace(
            resolve.resolve(str(folder), stage=Silent()), version=name
        )
    monkeypatch.setattr(base, "BASES", dict.fromkeys(trees))
    monkeypatch.setattr(resolve, "resolve", lambda spec, *, stage: trees[spec])
    return trees


@pytest.fixture
def mbox(repository: Path, tmp_path: Path) -> str:
    text = git(repository, "format-patch", "--stdout", "main..topic")
    (tmp_path / "topic.mbox").write_text(text + "\n")
    return str(tmp_path / "topic.mbox")


def test_newest_base_that_takes_the_series(bases: dict[str, Tree], mbox: str) -> None:
    chosen = base.choose(None, mbox, stage=Silent())
    assert chosen.kernel == "old"
    assert chosen.how == "old: its files are those that the diffs were made from"


def test_exact_files_are_told_by_their_objects(bases: dict[str, Tree], mbox: str) -> None:
    patches = apply.posted(catalog.load(mbox, "")).patches
    assert {name: base.exact(tree, patches) for name, tree in bases.items()} == {
        "new": (0, 1),
        "old": (1, 1),
        "odd": (0, 1),
    }


def test_no_base_takes_the_series(
    bases: dict[str, Tree], mbox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "BASES", {"new": None, "odd": None})
    with pytest.raises(HarnessError, match="applies to none of new, odd; on the first: ") as error:
        base.choose(None, mbox, stage=Silent())
    assert error.value.code is ExitCode.APPLY
