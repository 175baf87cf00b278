# SPDX-License-Identifier: GPL-2.0-only
"""Write a series as files for ``git send-email``, with the user as sender.

The patches are applied by `kpatch.series.apply`, and committed to a temporary repository. git
format-patch makes the mails from the commits, so that numbering, encoding, diffstat and shortlog
are git's. The caller passes the title and body of the cover letter, which
`kpatch.report.cover_letter` writes; this module adds a line that names the base of the series.

A sign-off certifies the origin of a patch (Developer's Certificate of Origin), which nobody can do
for somebody else. So the carried patches have a placeholder as author and no sign-off: the export
replaces the placeholder by the user and, unless told otherwise, adds the user's sign-off. Other
authors, and sign-offs that a patch already has, are kept.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.lib import process
from kpatch.lib.stage import Stage
from kpatch.model import Applied, Patch, Tree
from kpatch.series.apply import steps
from kpatch.series.scratch_index import Sandbox, sandbox

PLACEHOLDER = "vfio-acpi@localhost"
"""The mail address of the placeholder: the author of the carried patches."""

TO_FILL_IN = "***"
"""Encloses each text that the sender has to replace, as in git's "*** SUBJECT HERE ***"."""

BRANCH = "export"
# Digits of an abbreviated commit id: Documentation/process/submitting-patches.rst asks for 12.
ABBREVIATION = "12"
SIGNATURE = "\n-- \n"

_NAME = re.compile(r"[^<>\n]*[^<>\s][^<>\n]*")
_EMAIL = re.compile(r"[^\s<>@]+@[^\s<>@]+")


@dataclass(frozen=True)
class Person:
    """A name and an address, as in a sign-off."""

    name: str
    email: str

    def __str__(self) -> str:
        return f"{self.name} <{self.email}>"


@dataclass(frozen=True)
class ExportOptions:
    """The options of an export: the sender ``person``, and the ``version`` of the series (2: v2).

    ``signoff`` tells whether to add the sender's sign-off to the patches.
    """

    person: Person
    version: int = 1
    signoff: bool = True


@dataclass(frozen=True)
class Cover:
    """A cover letter: its title (the subject without [PATCH …]), and the body below the title."""

    title: str
    body: str


def exporter() -> Person:
    """Return the user as git's configuration has it (user.name, user.email).

    HarnessError (exit 2) if one of them is not set, or cannot be part of a sign-off.
    """
    values = []
    for key, check in (("user.name", _NAME), ("user.email", _EMAIL)):
        argv = (process.require_tool("git", package="git"), "config", "--get", key)
        status, output = process.capture(argv, env=os.environ)
        value = output.strip()
        if status != 0 or not check.fullmatch(value):
            raise HarnessError(
                "export",
                f"git has no {key} for you" if status else f"git's {key} for you is {value!r}",
                hint=f"run: git config --global {key} '…'",
            )
        values.append(value)
    return Person(*values)


def export(
    applied: Applied, export_options: ExportOptions, cover: Cover, *, stage: Stage
) -> dict[str, bytes]:
    """Return the files for ``git send-email`` by name: a cover letter, and a mail for each patch.

    ``cover`` is the text of the cover letter. HarnessError (exit 2) for a series without patches,
    and the errors of `kpatch.series.apply.apply`.
    """
    if not applied.series.mailboxes:
        raise HarnessError(
            f"export {applied.series.name}", "has no patches", hint="name another series"
        )
    identity = _identity(export_options.person)
    with sandbox() as box:
        parent = None
        for patch in steps(applied.tree, applied.series, box, stage=stage):
            parent = _commit(box, patch, parent, export_options)
        assert parent is not None
        box.must("update-ref", f"refs/heads/{BRANCH}", parent)
        # The first paragraph of a branch's description is the cover letter's title.
        description = f"{cover.title}\n\n{cover.body}"
        box.must("config", f"branch.{BRANCH}.description", description)
        box.must("config", "core.abbrev", ABBREVIATION)
        folder = box.folder / "mails"
        argv = _format_patch(folder, export_options)
        stage.command(["git", *argv])
        box.must(*argv, env=identity)
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    letter = next(iter(files))
    return files | {letter: _with_base(files[letter], applied.tree)}


def write(files: Mapping[str, bytes], out: Path) -> None:
    """Write ``files`` (name: content) to the folder ``out``: either all of them or none.

    HarnessError (exit 2) if ``out`` exists and is not an empty folder, or cannot be written.
    """
    refuse_taken(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            for name, content in files.items():
                (partial / name).write_bytes(content)
            partial.chmod(0o755)
            partial.replace(out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise HarnessError(
            f"OUT={out}", f"cannot be written: {error.strerror}", hint="choose another folder"
        ) from error


def refuse_taken(out: Path) -> None:
    """Raise HarnessError (exit 2) if ``out`` exists and is not an empty folder."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        raise HarnessError(
            f"OUT={out}",
            "is a folder with files in it" if out.is_dir() else "is there and is no folder",
            hint="move it away or choose another folder",
        )


def advice(files: Mapping[str, bytes], tree: Tree, out: Path) -> str:
    """Return the user's next steps until the mails ``files`` in ``out`` are sent, one per line.

    ``tree`` is the kernel tree to which the series was applied.
    """
    open_points = sum(content.count(TO_FILL_IN.encode()) // 2 for content in files.values())
    lines = [
        f"recipients: {tree.path}/scripts/get_maintainer.pl {out}/*.patch",
        f"then: git send-email --to=… --cc=… {out}/*.patch",
    ]
    if open_points:
        lines.insert(0, f"to be filled in ({open_points}): grep -n '[*][*][*]' {out}/*.patch")
    if tree.provider != "git":
        lines.insert(0, "no base-commit: export with --kernel PATH@REF to have one")
    return "\n".join(lines)


def _identity(person: Person) -> dict[str, str]:
    roles = ("AUTHOR", "COMMITTER")
    return {f"GIT_{role}_NAME": person.name for role in roles} | {
        f"GIT_{role}_EMAIL": person.email for role in roles
    }


def _commit(box: Sandbox, patch: Patch, parent: str | None, export_options: ExportOptions) -> str:
    """Commit the index of ``box`` with the message of ``patch``; return the commit's id.

    ``parent`` is the id of the previous patch's commit, None for the first patch. The sender of
    ``export_options`` is the committer, and the author if the patch has the placeholder. From
    version 2 on, the commit gets a git note in which the sender has to list the changes.
    """
    env = _identity(export_options.person)
    name, email = patch.author
    if email != PLACEHOLDER:
        env |= {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": email}
    message = f"{patch.subject}\n\n{patch.message}".encode()
    if export_options.signoff:
        trailer = f"Signed-off-by: {export_options.person}"
        options = ("--if-exists", "addIfDifferent", "--trailer", trailer)
        message = box.must("interpret-trailers", *options, stdin=message)
    tree = box.must("write-tree").decode().strip()
    parents = ("-p", "base" if parent is None else parent)
    commit = box.must("commit-tree", tree, *parents, stdin=message, env=env).decode().strip()
    if export_options.version > 1:
        # git format-patch --notes prints a note below "---": git am leaves that out of the commit.
        changes = f"Changes in v{export_options.version}:\n- {TO_FILL_IN} CHANGES HERE {TO_FILL_IN}"
        box.must("notes", "add", "-m", changes, commit, env=env)
    return commit


def _format_patch(folder: Path, export_options: ExportOptions) -> list[str]:
    return [
        *("format-patch", "--quiet", "--zero-commit", "--numbered", "--notes"),
        *("--cover-letter", "--cover-from-description=subject", f"--from={export_options.person}"),
        *(("--reroll-count", str(export_options.version)) if export_options.version > 1 else ()),
        *("--output-directory", str(folder), f"base..{BRANCH}"),
    ]


def describe(version: str, provider: str, origin: Mapping[str, str]) -> str:
    """Return one line that identifies a kernel tree, without a path of this machine.

    It has the version, and the Debian package, the commit, or the sha256 of the tarball; for a
    folder, it says that there is no git. The arguments are the fields of `kpatch.model.Tree` with
    these names.
    """
    match provider:
        case "debian":
            package = f"{origin.get('package', 'linux')} {origin.get('version', '')}"
            return f"v{version} (Debian package {package.strip()})"
        case "git":
            return f"v{version} (commit {origin.get('commit', 'unknown')[:12]})"
        case "tarball":
            return f"v{version} (tarball, sha256 {origin.get('sha256', 'unknown')[:12]}…)"
        case _:
            return f"v{version} (a folder without git)"


def _with_base(cover: bytes, tree: Tree) -> bytes:
    """Return the cover letter ``cover`` with a line about ``tree`` above the signature.

    The line is "base-commit: <id>" for a tree from git, as git writes it, else "base: <description
    of the tree>". `git format-patch --base` cannot be used: it needs the commit and its history in
    the repository.
    """
    base = f"base: {describe(tree.version, tree.provider, tree.origin)}, which is no commit"
    if tree.provider == "git":
        base = f"base-commit: {tree.origin['commit']}"
    body, mark, rest = cover.decode().rpartition(SIGNATURE)
    return f"{body}\n{base}{mark}{rest}".encode()
