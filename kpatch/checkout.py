# SPDX-License-Identifier: GPL-2.0-only
"""A kernel tree out of somebody's git repository: the files of one commit, as committed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kpatch import unpack
from kpatch.errors import HarnessError
from kpatch.process import capture, need
from kpatch.stage import Stage

SHOWN_CHANGES = 3

# Protocols by which git may fetch what a partial clone lacks: none, as a repository's own
# configuration says which program to run for that.
NO_FETCH = {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0"}


@dataclass(frozen=True)
class Checkout:
    """One commit of a repository: ``tree`` is the id of its content.

    ``worktree`` is None for a bare repository, or for the .git of another; ``git_dir`` is the
    work tree's own, ``objects`` is shared by all; ``object_format`` is sha1 or sha256.
    """

    worktree: Path | None
    git_dir: Path
    objects: Path
    object_format: str
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
            raise HarnessError(
                what,
                "the repository belongs to another user, so git does not trust it",
                mend=f"run: git config --global --add safe.directory {path.resolve()}",
                details=output,
            )
        if (path / ".git").exists():
            raise HarnessError(what, _reason(output), mend="mend the repository", details=output)
        return None
    inside, git_dir, objects, object_format = output.splitlines()
    commit, tree = (
        _object(path, f"{ref}^{{{kind}}}", ref, ceiling, what=what) for kind in ("commit", "tree")
    )
    return Checkout(
        path.resolve() if inside == "true" else None,
        Path(git_dir),
        Path(objects),
        object_format,
        commit,
        tree,
    )


def refuse_changes(checkout: Checkout, *, what: str) -> None:
    """HarnessError (exit 2) if the work tree holds anything that the commit does not."""
    if checkout.worktree is None:
        return
    with _shadow(checkout) as environment:
        status, output = _git(
            (
                "-c",
                "core.fsmonitor=false",
                "status",
                "--porcelain=v1",
                "-z",
                "--untracked-files=normal",
                "--ignore-submodules=all",
                "--no-renames",
            ),
            environment,
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
    archive = ("git", "-c", "core.autocrlf=false", "archive", "--format=tar", checkout.tree)
    with _shadow(checkout) as environment:
        unpack.stream((archive,), into, env=_environment(environment), what=what, stage=stage)


@contextmanager
def _shadow(checkout: Checkout) -> Iterator[dict[str, str]]:
    """An environment in which git sees the repository's objects without its configuration.

    What a repository configures (fsmonitor, filters, hooks, remotes) can run programs; here
    an empty repository stands in for it, with the objects and a copy of the index.
    """
    with tempfile.TemporaryDirectory(prefix="vfio-acpi-git-") as name:
        folder = Path(name)
        init = (
            "init",
            "--quiet",
            "--bare",
            "--template=",
            f"--object-format={checkout.object_format}",
        )
        status, output = _git((*init, name), {})
        if status != 0:
            raise HarnessError("git init", _reason(output), mend=f"look at {folder.parent}")
        (folder / "HEAD").write_text(f"{checkout.commit}\n")
        environment = {"GIT_DIR": name, "GIT_OBJECT_DIRECTORY": str(checkout.objects)}
        if checkout.worktree is not None:
            for file in (checkout.git_dir / "index", *checkout.git_dir.glob("sharedindex.*")):
                if file.is_file():
                    shutil.copy(file, folder)
            exclude = checkout.objects.parent / "info" / "exclude"
            if exclude.is_file():
                (folder / "info").mkdir(exist_ok=True)
                shutil.copy(exclude, folder / "info")
            environment["GIT_WORK_TREE"] = str(checkout.worktree)
        yield environment


def _object(
    path: Path, expression: str, ref: str, environment: dict[str, str], *, what: str
) -> str:
    """The id of the object that ``expression`` names."""
    status, output = 1, ""
    if not ref.startswith("-"):
        argv = ("-C", str(path.resolve()), "rev-parse", "--verify", "--quiet", expression)
        status, output = _git(argv, environment)
    if status != 0:
        raise HarnessError(
            what, f"the repository has no commit {ref!r}", mend="give a branch, a tag or a commit"
        )
    return output.strip()


def _git(arguments: Sequence[str], environment: dict[str, str]) -> tuple[int, str]:
    return capture(("git", *arguments), env=_environment(environment))


def _environment(more: dict[str, str]) -> dict[str, str]:
    """The user's environment without what points git elsewhere, and with ``more``."""
    mine = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith("GIT_CONFIG")
    }
    return {**mine, **NO_FETCH, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", **more}


def _reason(output: str) -> str:
    lines = [line for line in output.splitlines() if line.startswith(("fatal:", "error:"))]
    return lines[0] if lines else "git gives no reason"
