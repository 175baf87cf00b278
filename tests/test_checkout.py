# SPDX-License-Identifier: GPL-2.0-only
"""Kernel trees from git repositories: the right commit, with its files as committed."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from kpatch.errors import HarnessError
from kpatch.lib import cache
from kpatch.lib.stage import Silent
from kpatch.source import resolve
from tests import kerneltree
from tests.test_source import assert_whole, refused


@pytest.fixture(autouse=True)
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_commit_is_exported(tmp_path: Path) -> None:
    repository = kerneltree.repository(tmp_path / "linux")
    tree = resolve.resolve(str(repository), stage=Silent())
    assert (tree.provider, tree.version) == ("git", "9.9.1")
    assert tree.tree_id == kerneltree.git(repository, "rev-parse", "HEAD^{tree}")
    assert tree.origin == {
        "repository": str(repository),
        "ref": "HEAD",
        "commit": kerneltree.git(repository, "rev-parse", "HEAD"),
    }
    assert_whole(tree.path)
    assert not (tree.path / ".git").exists()
    assert resolve.resolve(str(repository), stage=Silent()).cached


def test_ref_names_another_commit(tmp_path: Path) -> None:
    repository = kerneltree.repository(tmp_path / "linux@home")
    kerneltree.git(repository, "tag", "--annotate", "--message", "t", "v9.9.1")
    (repository / "Makefile").write_text(kerneltree.MAKEFILE.format(9, 9, 2))
    kerneltree.git(repository, "commit", "--all", "--quiet", "--message", "second")
    (repository / "Makefile").write_text("uncommitted\n")
    for ref, version in (("v9.9.1", "9.9.1"), ("HEAD", "9.9.2"), ("HEAD@{1}", "9.9.1")):
        assert resolve.resolve(f"{repository}@{ref}", stage=Silent()).version == version


def test_bare_repository_and_work_tree(tmp_path: Path) -> None:
    repository = kerneltree.repository(tmp_path / "linux")
    kerneltree.git(tmp_path, "clone", "--quiet", "--bare", "linux", "bare")
    kerneltree.git(repository, "worktree", "add", "--quiet", str(tmp_path / "side"))
    one = resolve.resolve(str(tmp_path / "bare"), stage=Silent())
    two = resolve.resolve(str(tmp_path / "side"), stage=Silent())
    assert_whole(one.path)
    assert two.path == one.path
    (tmp_path / "side/Kconfig").write_text("changed\n")
    with pytest.raises(HarnessError, match="uncommitted changes: Kconfig;"):
        resolve.resolve(str(tmp_path / "side"), stage=Silent())


def test_uncommitted_changes_are_refused(tmp_path: Path) -> None:
    repository = kerneltree.repository(tmp_path / "linux")
    (repository / "built.o").touch()
    (repository / ".git/info").mkdir(exist_ok=True)
    (repository / ".git/info/exclude").write_text("/private\n")
    (repository / "private").touch()
    assert resolve.resolve(str(repository), stage=Silent())
    cache.clean()
    (repository / "Kconfig").write_text("changed\n")
    line = refused(repository)
    assert "the tree has uncommitted changes: Kconfig; commit them, or give KERNEL=" in line
    kerneltree.git(repository, "add", ".")
    assert "uncommitted changes: Kconfig;" in refused(repository)
    kerneltree.git(repository, "reset", "--hard", "--quiet")
    for name in "abcde":
        (repository / f"drivers/{name}.c").touch()
    assert "drivers/a.c, drivers/b.c, drivers/c.c and 2 more;" in refused(repository)


def test_asking_changes_nothing_in_the_repository(tmp_path: Path) -> None:
    repository = kerneltree.repository(tmp_path / "linux")
    (repository / "Makefile").touch()  # git would write its index after this
    before = {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in repository.rglob("*")
        if path.is_file()
    }
    resolve.resolve(str(repository), stage=Silent())
    assert before == {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in repository.rglob("*")
        if path.is_file()
    }


def settings(repository: Path, *pairs: tuple[str, str]) -> None:
    for name, value in pairs:
        kerneltree.git(repository, "config", name, value)


def test_what_the_repository_ignores_is_no_change(tmp_path: Path) -> None:
    repository = kerneltree.repository(tmp_path / "linux")
    (tmp_path / "ignored").write_text("*.mine\n")
    (repository / "notes.mine").touch()
    assert "uncommitted changes: notes.mine;" in refused(repository)
    settings(repository, ("core.excludesFile", str(tmp_path / "ignored")))
    assert_whole(resolve.resolve(str(repository), stage=Silent()).path)


def test_what_the_user_ignores_is_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = kerneltree.repository(tmp_path / "linux")
    (repository / "notes.mine").touch()
    (tmp_path / "home/.config/git").mkdir(parents=True)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (tmp_path / "home/.config/git/ignore").write_text("*.mine\n")
    assert_whole(resolve.resolve(str(repository), stage=Silent()).path)
    cache.clean()
    (tmp_path / "home/.config/git/ignore").unlink()
    (tmp_path / "home/ignored").write_text("*.mine\n")
    (tmp_path / "home/more").write_text("[core]\n\texcludesFile = ~/ignored\n")
    (tmp_path / "home/.gitconfig").write_text(
        f'[includeIf "gitdir:{repository}/"]\n\tpath = more\n'
    )
    assert_whole(resolve.resolve(str(repository), stage=Silent()).path)


def test_files_that_the_repository_is_told_not_to_show_are_no_change(tmp_path: Path) -> None:
    repository = kerneltree.repository(tmp_path / "linux")
    (repository / "notes").touch()
    settings(repository, ("status.showUntrackedFiles", "no"))
    assert_whole(resolve.resolve(str(repository), stage=Silent()).path)


def test_a_file_system_without_executable_bits(tmp_path: Path) -> None:
    repository = kerneltree.repository(tmp_path / "linux")
    (repository / "Makefile").chmod(0o755)
    (repository / "scripts/run.sh").chmod(0o644)
    assert "uncommitted changes: Makefile, scripts/run.sh;" in refused(repository)
    settings(repository, ("core.fileMode", "false"))
    tree = resolve.resolve(str(repository), stage=Silent()).path
    assert_whole(tree)
    assert not (tree / "Makefile").stat().st_mode & 0o111


def test_a_file_system_without_symlinks(tmp_path: Path) -> None:
    repository = kerneltree.repository(tmp_path / "linux")
    (repository / "include/scripts").unlink()
    (repository / "include/scripts").write_text("../scripts")
    assert "uncommitted changes: include/scripts;" in refused(repository)
    settings(repository, ("core.symlinks", "false"))
    assert_whole(resolve.resolve(str(repository), stage=Silent()).path)


def as_committed(repository: Path, tree: Path) -> None:
    """Check that the tree has exactly the files of HEAD, with the content of their blobs."""
    kerneltree.git(repository, "config", "core.quotePath", "false")
    listed = kerneltree.git(repository, "ls-tree", "-r", "HEAD").splitlines()
    wanted = {name: head.split()[::2] for head, name in (line.split("\t") for line in listed)}
    found = {}
    for path in (path for path in tree.rglob("*") if path.is_symlink() or path.is_file()):
        link = path.is_symlink()
        data = os.fsencode(path.readlink()) if link else path.read_bytes()
        blob = hashlib.sha1(b"blob %d\0%s" % (len(data), data)).hexdigest()  # noqa: S324 - git's
        mode = "120000" if link else "100755" if path.stat().st_mode & 0o100 else "100644"
        found[str(path.relative_to(tree))] = [mode, blob]
    assert found == wanted


ATTRIBUTES = {
    "eol=crlf": "int crlf;\n",
    "text=auto": "int a;\nint b;\n",
    "ident": "/* $Id$ */\n",
    "export-ignore": "int here;\n",
    "export-subst": "/* $Format:%H$ */\n",
    "working-tree-encoding=ISO-8859-1": "int é;\n",
    "filter=evil": "int filtered;\n",
}


@pytest.mark.parametrize("where", [".gitattributes", ".git/info/attributes", "the user's"])
@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_no_attribute_changes_the_tree(tmp_path: Path, attribute: str, where: str) -> None:
    repository = kerneltree.repository(tmp_path / "linux")
    (repository / "drivers/vfio/a.c").write_text(ATTRIBUTES[attribute])
    kerneltree.git(repository, "add", ".")
    kerneltree.git(repository, "commit", "--quiet", "--message", "file")
    place = tmp_path / "home/attributes" if where == "the user's" else repository / where
    place.parent.mkdir(parents=True, exist_ok=True)
    # If a folder is excluded, all files below it are excluded too.
    place.write_text(f"*.c {attribute}\nvfio {attribute}\n")
    settings(
        repository,
        ("core.attributesFile", str(tmp_path / "home/attributes")),
        ("core.autocrlf", "true"),
        ("core.eol", "crlf"),
        ("tar.umask", "0777"),
        ("filter.evil.smudge", "echo evil"),
        ("filter.evil.clean", "cat"),
    )
    kerneltree.git(repository, "add", ".")
    kerneltree.git(repository, "commit", "--quiet", "--allow-empty", "--message", "attributes")
    as_committed(repository, resolve.resolve(str(repository), stage=Silent()).path)


def test_the_user_s_ends_of_lines_change_nothing(tmp_path: Path) -> None:
    repository = kerneltree.repository(tmp_path / "linux")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.gitconfig").write_text("[core]\n\tautocrlf = true\n[tar]\n\tumask = 0777\n")
    # The file as a checkout with this setting writes it: not modified, but not as committed.
    (repository / "Kconfig").unlink()
    kerneltree.git(repository, "checkout", "--quiet", "Kconfig")
    assert (repository / "Kconfig").read_bytes() == b'mainmenu "Test"\r\n'
    (repository / "Kconfig").touch()
    as_committed(repository, resolve.resolve(str(repository), stage=Silent()).path)


def test_variables_of_git_s_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = kerneltree.repository(tmp_path / "linux")
    other = kerneltree.repository(tmp_path / "other")
    (tmp_path / "nothing").touch()
    for name, value in {
        "GIT_DIR": str(other / ".git"),
        "GIT_WORK_TREE": str(other),
        "GIT_INDEX_FILE": str(tmp_path / "nothing"),
        "GIT_OBJECT_DIRECTORY": str(tmp_path),
        "GIT_ATTR_SOURCE": "HEAD",
        "GIT_CONFIG": str(tmp_path / "nothing"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.autocrlf",
        "GIT_CONFIG_VALUE_0": "true",
    }.items():
        monkeypatch.setenv(name, value)
    (repository / ".git/config").open("a").write("[core]\n\tfileMode = false\n")
    (repository / "Makefile").chmod(0o755)
    tree = resolve.resolve(str(repository), stage=Silent()).path
    for name in list(os.environ):
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    as_committed(repository, tree)


def test_a_commit_is_what_its_id_says(tmp_path: Path) -> None:
    repository = kerneltree.repository(tmp_path / "linux")
    commit = kerneltree.git(repository, "rev-parse", "HEAD")
    tree = kerneltree.git(repository, "rev-parse", "HEAD^{tree}")
    (repository / "Kconfig").write_text("replaced\n")
    kerneltree.git(repository, "commit", "--quiet", "--all", "--message", "other")
    kerneltree.git(repository, "replace", commit, "HEAD")
    found = resolve.resolve(f"{repository}@{commit}", stage=Silent())
    assert (found.tree_id, found.origin["commit"]) == (tree, commit)
    assert (found.path / "Kconfig").read_text() == 'mainmenu "Test"\n'


def clone(repository: Path, place: Path, *options: str) -> Path:
    settings(
        repository, ("uploadpack.allowFilter", "true"), ("uploadpack.allowAnySHA1InWant", "true")
    )
    kerneltree.git(
        repository.parent, "clone", "--quiet", *options, f"file://{repository}", str(place)
    )
    return place


@pytest.mark.parametrize(
    ("kept", "lacked"), [("blob:none", "6 of the files"), ("tree:0", "the files")]
)
def test_a_partial_clone_that_lacks_files(tmp_path: Path, kept: str, lacked: str) -> None:
    repository = kerneltree.repository(tmp_path / "linux")
    place = clone(repository, tmp_path / "a clone", "--no-checkout", f"--filter={kept}")
    line = refused(f"{place}@HEAD")
    command = f"git -C '{place}' fetch --refetch --no-filter"
    assert f": is a partial clone that lacks {lacked} of the commit; get them: {command};" in line
    subprocess.run(shlex.split(command), check=True, capture_output=True)
    as_committed(place, resolve.resolve(f"{place}@HEAD", stage=Silent()).path)


def test_a_partial_clone_that_has_the_commit_is_taken(tmp_path: Path) -> None:
    repository = kerneltree.repository(tmp_path / "linux")
    place = clone(repository, tmp_path / "clone", "--filter=blob:none")
    as_committed(place, resolve.resolve(str(place), stage=Silent()).path)


def test_a_shallow_clone(tmp_path: Path) -> None:
    repository = kerneltree.repository(tmp_path / "linux")
    kerneltree.git(repository, "commit", "--quiet", "--allow-empty", "--message", "second")
    place = clone(repository, tmp_path / "clone", "--depth=1")
    as_committed(place, resolve.resolve(str(place), stage=Silent()).path)
    with pytest.raises(HarnessError) as caught:
        resolve.resolve(f"{place}@HEAD~1", stage=Silent())
    assert str(caught.value).endswith(
        "has no commit 'HEAD~1'; give a branch, a tag or a commit that this shallow clone has, "
        f"or get all of them: git -C {place} fetch --unshallow"
    )


def test_a_repository_that_lost_a_file(tmp_path: Path) -> None:
    repository = kerneltree.repository(tmp_path / "linux")
    blob = kerneltree.git(repository, "rev-parse", "HEAD:Kconfig")
    (repository / ".git/objects" / blob[:2] / blob[2:]).unlink()
    assert (
        "the repository lacks 1 of the files of the commit; "
        f"list them: git -C {repository} fsck; or clone it again" in refused(repository)
    )


@pytest.mark.parametrize("ref", ["nothing", "--help", "HEAD:Makefile"])
def test_ref_that_is_no_commit(tmp_path: Path, ref: str) -> None:
    repository = kerneltree.repository(tmp_path / "linux")
    assert f"the repository has no commit '{ref}'" in refused(f"{repository}@{ref}")


def test_repository_without_a_commit(tmp_path: Path) -> None:
    tree = kerneltree.make(tmp_path / "linux")
    kerneltree.git(tree, "init", "--quiet")
    assert "the repository has no commit 'HEAD'" in refused(tree)


def test_repository_of_no_kernel(tmp_path: Path) -> None:
    repository = kerneltree.repository(tmp_path / "linux")
    kerneltree.git(repository, "rm", "-r", "--quiet", "drivers")
    kerneltree.git(repository, "commit", "--quiet", "--message", "gone")
    assert "is no kernel tree (it has no drivers/vfio)" in refused(repository)


def test_folder_inside_a_repository_is_a_folder(tmp_path: Path) -> None:
    kerneltree.git(tmp_path, "init", "--quiet")
    tree = kerneltree.make(tmp_path / "linux")
    assert resolve.resolve(str(tree), stage=Silent()).provider == "folder"
    cache.clean()
    assert f"{tree} is no git repository; leave out @HEAD" in refused(f"{tree}@HEAD")


def test_damaged_repository(tmp_path: Path) -> None:
    repository = kerneltree.repository(tmp_path / "linux")
    (repository / ".git/HEAD").write_text("nonsense\n")
    assert "fatal: not a git repository" in refused(repository)


@pytest.mark.skipif(os.getuid() != 0, reason="giving files away needs root")
def test_repository_of_another_user(tmp_path: Path) -> None:
    repository = kerneltree.repository(tmp_path / "linux")
    os.chown(repository, 65534, 65534)
    os.chown(repository / ".git", 65534, 65534)
    line = refused(repository)
    assert line.endswith(f"; if you do: git config --global --add safe.directory {repository}")


@pytest.mark.skipif(os.getuid() != 0, reason="giving files away needs root")
@pytest.mark.parametrize("kind", ["work tree", "bare one", "linked tree"])
def test_the_command_that_is_named_gains_trust(tmp_path: Path, kind: str) -> None:
    repository = kerneltree.repository(tmp_path / "the repository")
    place = tmp_path / "it's a copy"
    if kind == "bare one":
        kerneltree.git(repository, "clone", "--quiet", "--bare", ".", str(place))
    elif kind == "linked tree":
        kerneltree.git(repository, "worktree", "add", "--quiet", "--detach", str(place))
    else:
        repository.rename(place)
    subprocess.run(["chown", "-R", "65534", str(tmp_path)], check=True)
    (tmp_path / "home").mkdir()
    with pytest.raises(HarnessError) as caught:
        resolve.resolve(str(place), stage=Silent())
    command = caught.value.hint.removeprefix("if you do: ")
    assert caught.value.details.splitlines()[-1] == f"run: {command}"
    subprocess.run(shlex.split(command), check=True)
    assert_whole(resolve.resolve(str(place), stage=Silent()).path)


def test_hostile_repository_runs_nothing(tmp_path: Path) -> None:
    repository = kerneltree.repository(tmp_path / "linux")
    ran = tmp_path / "ran"
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\necho $0 >> {ran}\ncat\n")
    trap.chmod(0o755)
    (repository / ".gitattributes").write_text("* filter=evil diff=evil\n")
    kerneltree.git(repository, "add", ".")
    kerneltree.git(repository, "commit", "--quiet", "--message", "attributes")
    hooks = repository / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    for hook in ("post-index-change", "reference-transaction", "post-checkout"):
        (hooks / hook).symlink_to(trap)
    for name in (
        "core.fsmonitor",
        "core.sshCommand",
        "core.pager",
        "filter.evil.clean",
        "filter.evil.smudge",
        "diff.evil.textconv",
        "remote.evil.uploadpack",
    ):
        kerneltree.git(repository, "config", name, str(trap))
    # A partial clone fetches missing objects with a program that its configuration names.
    kerneltree.git(repository, "config", "extensions.partialClone", "evil")
    kerneltree.git(repository, "config", "remote.evil.url", str(tmp_path))
    kerneltree.git(repository, "config", "remote.evil.promisor", "true")
    blob = kerneltree.git(repository, "rev-parse", "HEAD:Kconfig")
    lost = repository / ".git/objects" / blob[:2] / blob[2:]
    kept = lost.read_bytes()
    ran.unlink(missing_ok=True)
    (repository / "Makefile").touch()

    resolve.resolve(str(repository), stage=Silent())
    assert not ran.exists()
    cache.clean()
    lost.unlink()
    assert "is a partial clone that lacks 1 of the files" in refused(f"{repository}@HEAD")
    assert "has no commit" in refused(f"{repository}@{'0' * 39}1")
    assert not ran.exists()
    # Check that the trap works: plain git runs the program.
    lost.write_bytes(kept)
    kerneltree.git(repository, "status")
    assert ran.exists()
