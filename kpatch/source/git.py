# SPDX-License-Identifier: GPL-2.0-only
"""A kernel tree out of somebody's git repository: the files of one commit, byte by byte.

The repository's settings decide what counts as an uncommitted change, as for ``git status``
(``RESPECTED``). They decide nothing of the tree: no attribute converts, expands or leaves out a
file. Nothing that the repository names is run: no hook, filter, fsmonitor or remote.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.lib.process import capture, need
from kpatch.lib.stage import Stage
from kpatch.source import unpack

SHOWN_CHANGES = 3

# Protocols by which git may fetch what a partial clone lacks: none, as a repository's own
# configuration says which program to run for that.
NO_FETCH = {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0"}

# A commit is what its id says: refs/replace/ is a repository's own business.
NO_REPLACEMENT = {"GIT_NO_REPLACE_OBJECTS": "1"}

# With the variables GIT_CONFIG* left out too, git has no settings but those that it is given.
# HEAD is a file only in the format of refs that git before 3.0 has by default.
NO_SETTINGS = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_DEFAULT_REF_FORMAT": "files",
}

# Settings by which ``git status`` tells a change: how a file system or a tool keeps files, and
# what is to be left out. None of them names a program. As `git config --list` writes them.
RESPECTED = (
    "core.attributesfile",
    "core.autocrlf",
    "core.checkstat",
    "core.eol",
    "core.excludesfile",
    "core.filemode",
    "core.ignorecase",
    "core.precomposeunicode",
    "core.symlinks",
    "core.trustctime",
    "status.showuntrackedfiles",
)

# In info/attributes these win over every .gitattributes (gitattributes(5)): files come out of
# git archive as committed. "-text": no end of line is converted, whatever core.autocrlf says.
AS_COMMITTED = """\
* -text !eol !crlf !ident !filter !working-tree-encoding !export-ignore !export-subst
"""

PARTIAL = re.compile(r"extensions\.partialclone|remote\..*\.(promisor|partialclonefilter)", re.S)

# A whole line: git may warn of an ambiguous name beside it.
OBJECT_ID = re.compile(r"^[0-9a-f]{40,64}$", re.M)

ADVICE = re.compile(r"^\s*(git config --global --add safe\.directory .+)$", re.M)


@dataclass(frozen=True)
class Checkout:
    """One commit of a repository: ``tree`` is the id of its content.

    ``worktree`` is None for a bare repository, or for the .git of another; ``git_dir`` is the
    work tree's own, ``objects`` is shared by all; ``object_format`` is sha1 or sha256.
    ``settings`` are git's, of the repository and of its user, names in lower case.
    """

    path: Path
    worktree: Path | None
    git_dir: Path
    objects: Path
    object_format: str
    settings: Mapping[str, str]
    commit: str
    tree: str


def find(path: Path, ref: str, *, what: str) -> Checkout | None:
    """The commit ``ref`` of the repository at ``path``; None if there is no repository.

    HarnessError if git does not trust the repository, or has no such commit.
    """
    need("git", package="git")
    query = (
        "--path-format=absolute",
        "--is-inside-work-tree",
        "--git-dir",
        "--git-path",
        "objects",
        "--show-object-format",
    )
    # Only a repository that begins at path, not one that path happens to lie in.
    ceiling = {"GIT_CEILING_DIRECTORIES": str(path.resolve().parent)}
    status, output = _git(("-C", str(path.resolve()), "rev-parse", *query), ceiling)
    if status != 0:
        if "dubious ownership" in output:
            raise _distrusted(path, output, what=what)
        if (path / ".git").exists():
            raise HarnessError(what, _reason(output), mend="mend the repository", details=output)
        return None
    inside, git_dir, objects, object_format = output.splitlines()
    settings = _settings(path, ceiling)
    commit = _id(path, f"{ref}^{{commit}}", ceiling)
    if not commit:
        raise _no_commit(path, ref, ceiling, what=what)
    tree = _id(path, f"{commit}^{{tree}}", ceiling)
    if not tree:
        raise _lacking(path, settings, "the files", what=what)
    return Checkout(
        path.resolve(),
        path.resolve() if inside == "true" else None,
        Path(git_dir),
        Path(objects),
        object_format,
        settings,
        commit,
        tree,
    )


def refuse_changes(checkout: Checkout, *, what: str) -> None:
    """HarnessError (exit 2) if the work tree holds anything that the commit does not."""
    if checkout.worktree is None:
        return
    respected = [
        word
        for name in RESPECTED
        if name in checkout.settings
        for word in ("-c", f"{name}={checkout.settings[name]}")
    ]
    command = ("git", "-c", "core.fsmonitor=false", *respected, "status", "--porcelain=v1", "-z")
    with _shadow(checkout) as environment:
        _take_info(checkout, Path(environment["GIT_DIR"]))
        status, output = capture(
            (*command, "--ignore-submodules=all", "--no-renames"),
            cwd=checkout.worktree,
            env=environment,
        )
    if status != 0:
        raise HarnessError(what, _reason(output), mend="mend the repository", details=output)
    changed = [item[3:] for item in output.split("\0") if item]
    if changed:
        shown = ", ".join(changed[:SHOWN_CHANGES])
        more = f" and {len(changed) - SHOWN_CHANGES} more" if len(changed) > SHOWN_CHANGES else ""
        raise HarnessError(
            what,
            f"the tree has uncommitted changes: {shown}{more}",
            mend=f"commit them, or give KERNEL={checkout.worktree}@HEAD to leave them out",
        )


def export(checkout: Checkout, into: Path, *, what: str, stage: Stage) -> None:
    """Write the files of the commit as the new folder ``into``."""
    stage.note(f"exporting commit {checkout.commit[:12]}")
    # The archive of the tree, not of the commit, as the tree's id is what the cache goes by:
    # nothing of the commit (time, export-subst) may get into the files.
    archive = ("git", "archive", "--format=tar", checkout.tree)
    with _shadow(checkout) as environment:
        (Path(environment["GIT_DIR"]) / "info" / "attributes").write_text(AS_COMMITTED)
        try:
            unpack.stream((archive,), into, env=environment, what=what, stage=stage)
        except HarnessError as error:
            if lost := _lost(checkout, environment):
                lacked = f"{lost} of the files"
                raise _lacking(checkout.path, checkout.settings, lacked, what=what) from error
            raise


@contextmanager
def _shadow(checkout: Checkout) -> Iterator[dict[str, str]]:
    """An environment in which git sees the repository's objects without its configuration.

    What a repository configures (fsmonitor, filters, hooks, remotes) can run programs; here
    an empty repository stands in for it, with the objects and a copy of the index.
    """
    alone = {
        name: value
        for name, value in _environment(NO_SETTINGS).items()
        if not name.startswith("GIT_CONFIG") or name in NO_SETTINGS
    }
    with tempfile.TemporaryDirectory(prefix="vfio-acpi-git-") as name:
        folder = Path(name)
        form = f"--object-format={checkout.object_format}"
        init = ("git", "init", "--quiet", "--bare", "--template=", form, name)
        status, output = capture(init, env=alone)
        if status != 0:
            raise HarnessError("git init", _reason(output), mend=f"look at {folder.parent}")
        (folder / "HEAD").write_text(f"{checkout.commit}\n")
        (folder / "info").mkdir(exist_ok=True)
        environment = {"GIT_DIR": name, "GIT_OBJECT_DIRECTORY": str(checkout.objects)}
        if checkout.worktree is not None:
            for file in (checkout.git_dir / "index", *checkout.git_dir.glob("sharedindex.*")):
                if file.is_file():
                    shutil.copy(file, folder)
            environment["GIT_WORK_TREE"] = str(checkout.worktree)
        yield alone | environment


def _take_info(checkout: Checkout, folder: Path) -> None:
    """Copy what the repository keeps of excludes and attributes beside its configuration."""
    for name in ("exclude", "attributes"):
        file = checkout.objects.parent / "info" / name
        if file.is_file():
            shutil.copy(file, folder / "info")


def _settings(path: Path, environment: dict[str, str]) -> dict[str, str]:
    """All of git's settings at ``path``; of one that is given more than once the last."""
    status, output = _git(("-C", str(path.resolve()), "config", "--null", "--list"), environment)
    pairs = (item.partition("\n") for item in output.split("\0") if item and status == 0)
    # A name alone means true.
    return {name: value if equals else "true" for name, equals, value in pairs}


def _id(path: Path, expression: str, environment: dict[str, str]) -> str:
    """The id of the object that ``expression`` names; "" if there is none."""
    if expression.startswith("-"):
        return ""
    # Not --quiet: that says nothing, and then a warning would be all of the output.
    argv = ("-C", str(path.resolve()), "rev-parse", "--verify", "--end-of-options", expression)
    status, output = _git(argv, environment)
    found = OBJECT_ID.search(output)
    return found[0] if found and status == 0 else ""


def _lost(checkout: Checkout, environment: dict[str, str]) -> int:
    """How many objects of the commit's tree the repository does not have."""
    argv = ("git", "rev-list", "--objects", "--missing=print", checkout.tree)
    output = capture(argv, env=environment)[1]
    return sum(line.startswith("?") for line in output.splitlines())


def _distrusted(path: Path, output: str, *, what: str) -> HarnessError:
    """The error for a repository of another user; git's own advice names the folder it means."""
    found = ADVICE.search(output)
    own = f"git config --global --add safe.directory {shlex.quote(str(path.resolve()))}"
    command = found[1].strip() if found else own
    return HarnessError(
        what,
        "the repository belongs to another user, so git does not trust it",
        mend=f"if you do: {command}",
        details=f"{_reason(output)}\nrun: {command}",
    )


def _no_commit(path: Path, ref: str, environment: dict[str, str], *, what: str) -> HarnessError:
    argv = ("-C", str(path.resolve()), "rev-parse", "--is-shallow-repository")
    mend = "give a branch, a tag or a commit"
    if _git(argv, environment)[1].strip() == "true":
        command = f"git -C {shlex.quote(str(path.resolve()))} fetch --unshallow"
        mend += f" that this shallow clone has, or get all of them: {command}"
    return HarnessError(what, f"the repository has no commit {ref!r}", mend=mend)


def _lacking(path: Path, settings: Mapping[str, str], lacked: str, *, what: str) -> HarnessError:
    """The error for a repository that has a commit and not all that it holds."""
    git = f"git -C {shlex.quote(str(path.resolve()))}"
    if any(map(PARTIAL.fullmatch, settings)):
        return HarnessError(
            what,
            f"is a partial clone that lacks {lacked} of the commit",
            mend=f"get them: {git} fetch --refetch --no-filter; or give a full clone",
        )
    return HarnessError(
        what,
        f"the repository lacks {lacked} of the commit",
        mend=f"see what: {git} fsck; or clone it again",
    )


def _git(arguments: Sequence[str], environment: dict[str, str]) -> tuple[int, str]:
    return capture(("git", *arguments), env=_environment(environment))


def _environment(more: dict[str, str]) -> dict[str, str]:
    """The user's environment without what points git elsewhere, and with ``more``.

    The variables that hold settings stay: git's rule for whom to trust may be among them.
    GIT_CONFIG alone names the one file that ``git config`` reads.
    """
    mine = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith("GIT_CONFIG_")
    }
    fixed = NO_FETCH | NO_REPLACEMENT | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    return {**mine, **fixed, **more}


def _reason(output: str) -> str:
    lines = [line for line in output.splitlines() if line.startswith(("fatal:", "error:"))]
    return lines[0] if lines else "git gives no reason"
