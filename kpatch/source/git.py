# SPDX-License-Identifier: GPL-2.0-only
"""Find a commit of a git repository, export its files byte by byte, and read its history.

The repository's settings in RESPECTED decide which files count as changed but not committed, as for
``git status``. No setting has any influence on the exported files: no attribute converts, expands
or leaves out a file. Programs that the repository names (hooks, filters, fsmonitor, remotes) do not
run.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.lib.process import capture, require_tool
from kpatch.lib.stage import Stage
from kpatch.source import unpack

SHOWN_CHANGES = 3

HISTORY_SECONDS = 20.0

# No protocol is allowed, so git does not fetch the missing objects of a partial clone: the
# repository's configuration would decide which program runs for that.
NO_FETCH = {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0"}

# Ignore refs/replace/: the exported files have to be those that the commit's id stands for.
NO_REPLACEMENT = {"GIT_NO_REPLACE_OBJECTS": "1"}

# If the variables GIT_CONFIG* are unset as well, git uses no settings except those on its command
# line. The ref format "files" makes HEAD a plain file, which `shadow` writes; it is the default of
# git before 3.0.
NO_SETTINGS = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_DEFAULT_REF_FORMAT": "files",
}

# Settings, in the spelling of `git config --list`, by which ``git status`` decides whether a file
# is changed: how the file system stores files, and which files are ignored. None names a program.
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

# Written to info/attributes, which overrides every .gitattributes (gitattributes(5)): git archive
# then writes files as committed. "-text": line ends are not converted, whatever core.autocrlf is.
AS_COMMITTED = """\
* -text !eol !crlf !ident !filter !working-tree-encoding !export-ignore !export-subst
"""

PARTIAL = re.compile(r"extensions\.partialclone|remote\..*\.(promisor|partialclonefilter)", re.S)

# Matches a whole line: git may print a warning about an ambiguous name on another line.
OBJECT_ID = re.compile(r"^[0-9a-f]{40,64}$", re.M)

ADVICE = re.compile(r"^\s*(git config --global --add safe\.directory .+)$", re.M)


@dataclass(frozen=True)
class Checkout:
    """One commit of the git repository at ``path``; ``commit`` and ``tree`` are its object ids.

    ``worktree`` is the top folder of the work tree; None for a bare repository, and if ``path`` is
    a .git folder. ``git_dir`` is the git directory of this work tree, ``objects`` the folder of the
    objects, which all work trees share. ``object_format`` is sha1 or sha256. ``settings`` are git's
    settings for the repository and its user, as name and value; ``git config --list`` prints these
    names.
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
    """Return the commit ``ref`` of the repository ``path``; None if it is not a repository's top.

    HarnessError (exit 2) if git is not installed or does not trust the repository, or if the
    repository is damaged, has no commit ``ref``, or lacks the tree object of that commit. ``what``
    names the input in the error.
    """
    require_tool("git", package="git")
    query = (
        "--path-format=absolute",
        "--is-inside-work-tree",
        "--git-dir",
        "--git-path",
        "objects",
        "--show-object-format",
    )
    # Accept a repository whose top is path, not one that contains path.
    ceiling = {"GIT_CEILING_DIRECTORIES": str(path.resolve().parent)}
    status, output = _git(("-C", str(path.resolve()), "rev-parse", *query), ceiling)
    if status != 0:
        if "dubious ownership" in output:
            raise _distrusted(path, output, what=what)
        if (path / ".git").exists():
            raise HarnessError(what, reason(output), hint="repair the repository", details=output)
        return None
    inside, git_dir, objects, object_format = output.splitlines()
    settings = _settings(path, ceiling)
    commit = _id(path, f"{ref}^{{commit}}", ceiling)
    if not commit:
        raise _no_commit(path, ref, ceiling, what=what)
    tree = _id(path, f"{commit}^{{tree}}", ceiling)
    if not tree:
        raise lacking(path, settings, "the files", what=what)
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
    """Raise HarnessError (exit 2) if git status lists changed or untracked files in the work tree.

    Changes in submodules do not count. Does nothing if ``checkout`` has no work tree. ``what``
    names the input in the error.
    """
    if checkout.worktree is None:
        return
    respected = [
        word
        for name in RESPECTED
        if name in checkout.settings
        for word in ("-c", f"{name}={checkout.settings[name]}")
    ]
    command = ("git", "-c", "core.fsmonitor=false", *respected, "status", "--porcelain=v1", "-z")
    with shadow(checkout) as environment:
        _take_info(checkout, Path(environment["GIT_DIR"]))
        status, output = capture(
            (*command, "--ignore-submodules=all", "--no-renames"),
            cwd=checkout.worktree,
            env=environment,
        )
    if status != 0:
        raise HarnessError(what, reason(output), hint="repair the repository", details=output)
    changed = [item[3:] for item in output.split("\0") if item]
    if changed:
        shown = ", ".join(changed[:SHOWN_CHANGES])
        more = f" and {len(changed) - SHOWN_CHANGES} more" if len(changed) > SHOWN_CHANGES else ""
        raise HarnessError(
            what,
            f"the tree has uncommitted changes: {shown}{more}",
            hint=f"commit them, or give KERNEL={checkout.worktree}@HEAD to leave them out",
        )


def export(checkout: Checkout, into: Path, *, what: str, stage: Stage) -> None:
    """Write the files of the commit to the new folder ``into``.

    HarnessError (exit 2), in which ``what`` names the input, if the repository lacks some of the
    files; also the errors of `kpatch.source.unpack.stream`. OSError (ENOSPC) if the disk is full.
    """
    stage.note(f"exporting commit {checkout.commit[:12]}")
    # Archive the tree, not the commit: the tree's id is the key in the cache, so data of the commit
    # (its time, export-subst) must not get into the files.
    archive = ("git", "archive", "--format=tar", checkout.tree)
    with shadow(checkout) as environment:
        (Path(environment["GIT_DIR"]) / "info" / "attributes").write_text(AS_COMMITTED)
        try:
            unpack.stream((archive,), into, env=environment, what=what, stage=stage)
        except HarnessError as error:
            if lost := _lost(checkout, environment):
                lacked = f"{lost} of the files"
                raise lacking(checkout.path, checkout.settings, lacked, what=what) from error
            raise


def shallow(checkout: Checkout) -> bool:
    """Return whether the repository is a shallow or a partial clone, and so may lack objects."""
    return _shallow_file(checkout).is_file() or any(map(PARTIAL.fullmatch, checkout.settings))


def title(checkout: Checkout, commit: str) -> str | None:
    """Return the title of the commit with the id ``commit``; None if git does not find it."""
    status, output = _log(checkout, "-1", "--no-walk", f"{commit}^{{commit}}")
    return output.rstrip("\n") if status == 0 else None


def contains(checkout: Checkout, commit: str) -> bool:
    """Return whether the id ``commit`` is the checkout's commit, or an ancestor of that.

    False if the repository does not have ``commit`` or the history between the two.
    """
    with shadow(checkout) as environment:
        argv = ("git", "merge-base", "--is-ancestor", commit, checkout.commit)
        return capture(argv, env=environment | _known_shallow(checkout))[0] == 0


def titles(checkout: Checkout, paths: Sequence[str], count: int) -> list[str]:
    """Return the titles of the last ``count`` commits that change any of ``paths``, newest first.

    The history ends with the checkout's commit; merges do not count. Fewer titles are returned if
    git takes longer than HISTORY_SECONDS to find them; none if objects are missing.
    """
    options = (f"--max-count={count}", "--no-merges", checkout.commit, "--")
    status, output = _log(checkout, *options, *(f":(literal){path}" for path in paths))
    ended = status < 0  # by us; a positive status comes with git's complaint in the output
    return output.splitlines() if status == 0 or ended else []


def _log(checkout: Checkout, *arguments: str) -> tuple[int, str]:
    """Run ``git log --format=%s`` with ``arguments``; return its exit status and output.

    The status is negative if git was ended after HISTORY_SECONDS.
    """
    end = time.monotonic() + HISTORY_SECONDS
    with shadow(checkout) as environment:
        return capture(
            ("git", "log", "--format=%s", *arguments),
            env=environment | _known_shallow(checkout),
            watch=lambda printed: time.monotonic() > end,
        )


def _known_shallow(checkout: Checkout) -> dict[str, str]:
    """Return the variable GIT_SHALLOW_FILE for a shallow clone, so that git knows it is one."""
    file = _shallow_file(checkout)
    return {"GIT_SHALLOW_FILE": str(file)} if file.is_file() else {}


def _shallow_file(checkout: Checkout) -> Path:
    return checkout.objects.parent / "shallow"


@contextmanager
def shadow(checkout: Checkout) -> Iterator[dict[str, str]]:
    """Yield an environment in which git uses the repository's objects, not its configuration.

    A repository's configuration (fsmonitor, filters, hooks, remotes) can run programs. So git gets
    an empty temporary repository, GIT_DIR, with the objects of ``checkout``, and with a copy of its
    index if it has a work tree. The temporary repository is removed after the block. HarnessError
    (exit 2) if git cannot make it.
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
            raise HarnessError("git init", reason(output), hint=f"look at {folder.parent}")
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
    """Copy info/exclude and info/attributes of the repository to the git directory ``folder``."""
    for name in ("exclude", "attributes"):
        file = checkout.objects.parent / "info" / name
        if file.is_file():
            shutil.copy(file, folder / "info")


def _settings(path: Path, environment: dict[str, str]) -> dict[str, str]:
    """Return git's settings for the repository at ``path``, by name as ``git config`` prints it.

    They include the user's settings. If a setting has several values, the last one is returned. The
    result is empty if git fails.
    """
    status, output = _git(("-C", str(path.resolve()), "config", "--null", "--list"), environment)
    pairs = (item.partition("\n") for item in output.split("\0") if item and status == 0)
    # A name without "=" means true (git-config(1)).
    return {name: value if equals else "true" for name, equals, value in pairs}


def _id(path: Path, expression: str, environment: dict[str, str]) -> str:
    """Return the id of the object that ``expression`` names (gitrevisions(7)); "" if none."""
    if expression.startswith("-"):
        return ""
    # --quiet is not needed: OBJECT_ID finds the id among the messages.
    argv = ("-C", str(path.resolve()), "rev-parse", "--verify", "--end-of-options", expression)
    status, output = _git(argv, environment)
    match = OBJECT_ID.search(output)
    return match[0] if match and status == 0 else ""


def _lost(checkout: Checkout, environment: dict[str, str]) -> int:
    """Return the number of objects of the commit's tree that the repository lacks."""
    argv = ("git", "rev-list", "--objects", "--missing=print", checkout.tree)
    output = capture(argv, env=environment)[1]
    return sum(line.startswith("?") for line in output.splitlines())


def _distrusted(path: Path, output: str, *, what: str) -> HarnessError:
    """Return the error for a repository of another user, with the git command that git advises."""
    match = ADVICE.search(output)
    own = f"git config --global --add safe.directory {shlex.quote(str(path.resolve()))}"
    command = match[1].strip() if match else own
    return HarnessError(
        what,
        "the repository belongs to another user, so git does not trust it",
        hint=f"if you do: {command}",
        details=f"{reason(output)}\nrun: {command}",
    )


def _no_commit(path: Path, ref: str, environment: dict[str, str], *, what: str) -> HarnessError:
    argv = ("-C", str(path.resolve()), "rev-parse", "--is-shallow-repository")
    hint = "give a branch, a tag or a commit"
    if _git(argv, environment)[1].strip() == "true":
        command = f"git -C {shlex.quote(str(path.resolve()))} fetch --unshallow"
        hint += f" that this shallow clone has, or get all of them: {command}"
    return HarnessError(what, f"the repository has no commit {ref!r}", hint=hint)


def lacking(path: Path, settings: Mapping[str, str], lacked: str, *, what: str) -> HarnessError:
    """Return the error for a repository at ``path`` that has a commit, but lacks objects of it.

    ``lacked`` names these in the error ("3 of the files"), ``what`` names the input. ``settings``
    are those of `Checkout`; they show whether the repository is a partial clone.
    """
    git = f"git -C {shlex.quote(str(path.resolve()))}"
    if any(map(PARTIAL.fullmatch, settings)):
        return HarnessError(
            what,
            f"is a partial clone that lacks {lacked} of the commit",
            hint=f"get them: {git} fetch --refetch --no-filter; or give a full clone",
        )
    return HarnessError(
        what,
        f"the repository lacks {lacked} of the commit",
        hint=f"list them: {git} fsck; or clone it again",
    )


def _git(arguments: Sequence[str], environment: dict[str, str]) -> tuple[int, str]:
    return capture(("git", *arguments), env=_environment(environment))


def _environment(more: dict[str, str]) -> dict[str, str]:
    """Return an environment for git: the user's, without the GIT_ variables, with ``more``.

    NO_FETCH, NO_REPLACEMENT, LC_ALL and GIT_OPTIONAL_LOCKS are added before ``more``. The user's
    variables GIT_CONFIG_* stay, since they may hold safe.directory settings. GIT_CONFIG itself
    is removed: it names the file that ``git config`` reads.
    """
    mine = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith("GIT_CONFIG_")
    }
    fixed = NO_FETCH | NO_REPLACEMENT | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    return {**mine, **fixed, **more}


def reason(output: str) -> str:
    """Return the first error line of git's ``output``; "git gives no reason" if it has none."""
    lines = [line for line in output.splitlines() if line.startswith(("fatal:", "error:"))]
    return lines[0] if lines else "git gives no reason"
