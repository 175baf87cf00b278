# SPDX-License-Identifier: GPL-2.0-only
"""A series as files for ``git send-email``, in the name of whoever sends it.

The patches become commits in a throw-away repository (their steps are those of
`kpatch.series.apply`). git format-patch writes these out, so that numbering, encoding, diffstat and
shortlog are git's. The cover letter's body is made here (templates/cover-letter.j2): the purpose of
the series (``cover.txt`` in its folder: a title, an empty line, text), its tests, and the kernel
that it applies to.

Nobody can certify the origin of a patch for somebody else. The carried patches have no author but
a placeholder, which the exporter takes the place of, and no sign-off, which the exporter adds; the
author and the sign-offs of a patch that has them stay.
"""

from __future__ import annotations

import io
import re
import shutil
import tempfile
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kpatch import __version__
from kpatch.errors import HarnessError
from kpatch.lib import process, sanitize
from kpatch.lib.stage import Stage
from kpatch.model import Applied, Series, Tree
from kpatch.report import result, tables
from kpatch.report.result import RunResult
from kpatch.series import catalog
from kpatch.series.apply import steps
from kpatch.series.mailbox import Patch
from kpatch.series.scratch_index import Sandbox, sandbox
from kpatch.tables.outcomes import Outcome
from kpatch.verdict import requirements

if TYPE_CHECKING:
    from rich.text import Text

TEMPLATE = Path(__file__).parent / "templates" / "cover-letter.j2"
COVER = "cover.txt"

PLACEHOLDER = "vfio-acpi@localhost"
"""The address of the carried patches' author."""

# What git format-patch has for a title and a text that somebody still has to write; git
# send-email refuses the first.
NO_TITLE, NO_TEXT = "*** SUBJECT HERE ***", "*** BLURB HERE ***"
TO_FILL_IN = "***"

MAIL_WIDTH = 75
BRANCH = "export"
ABBREVIATION = "12"  # of object names; Documentation/process/submitting-patches.rst
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
class Wish:
    """How to export: the ``version`` (2 for v2), by whom, and what was tested."""

    person: Person
    version: int = 1
    signoff: bool = True
    evidence: tuple[RunResult, ...] = ()


@dataclass(frozen=True)
class _Run:
    """What the cover letter says of one run."""

    version: str
    verdict: str
    counts: str
    patches: str
    origin: str
    control: str
    how: str
    command: str


def exporter() -> Person:
    """Whoever runs this, as git knows them; HarnessError (exit 2) if it does not."""
    found = []
    for key, check in (("user.name", _NAME), ("user.email", _EMAIL)):
        argv = (process.need("git", package="git"), "config", "--get", key)
        status, said = process.capture(argv)
        value = said.strip()
        if status != 0 or not check.fullmatch(value):
            raise HarnessError(
                "export",
                f"git has no {key} for you" if status else f"git's {key} for you is {value!r}",
                mend=f"run: git config --global {key} '…'",
            )
        found.append(value)
    return Person(*found)


def evidence(paths: Sequence[Path], applied: Applied) -> tuple[RunResult, ...]:
    """The results in ``paths``; HarnessError (exit 2) for one that is not of this series."""
    return tuple(_evidence(path, applied) for path in paths)


def _evidence(path: Path, applied: Applied) -> RunResult:
    what, name = f"--evidence {path}", applied.series.name
    try:
        run = result.load(path)
    except HarnessError as error:
        raise HarnessError(
            what, error.cause, mend="give the result.json of a run", details=error.details
        ) from None
    told = next((one for one in run.series if one.name == name), None)
    if run.kernel is None or told is None or not any(test.series == name for test in run.tests):
        raise HarnessError(
            what, f"tells of no test of series {name}", mend="give the result.json of a run of it"
        )
    same_tree = run.kernel.tree_id == applied.tree.tree_id
    if same_tree and told.delta_id not in (None, applied.delta_id):
        raise HarnessError(
            what,
            f"is of series {name} as it was before it was changed",
            mend=f"test it again: make kernel-test SERIES='base {name}'",
        )
    return run


def export(applied: Applied, wish: Wish, *, stage: Stage) -> dict[str, bytes]:
    """The files for ``git send-email`` by name: the cover letter, and a mail for each patch.

    HarnessError (exit 2) for a series without patches.
    """
    if not applied.series.mailboxes:
        raise HarnessError(
            f"export {applied.series.name}", "has no patches", mend="name another series"
        )
    identity = _identity(wish.person)
    with sandbox() as box:
        parent = None
        for patch in steps(applied.tree, applied.series, box, stage=stage):
            parent = _commit(box, patch, parent, wish)
        assert parent is not None
        box.must("update-ref", f"refs/heads/{BRANCH}", parent)
        # The first paragraph of a branch's description is the cover letter's title.
        description = "\n\n".join(_cover(applied, wish))
        box.must("config", f"branch.{BRANCH}.description", description)
        box.must("config", "core.abbrev", ABBREVIATION)
        folder = box.folder / "mails"
        argv = _format_patch(folder, wish)
        stage.command(["git", *argv])
        box.must(*argv, env=identity)
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    cover = next(iter(files))
    return files | {cover: _with_base(files[cover], applied.tree)}


def write(files: Mapping[str, bytes], out: Path) -> None:
    """Write all the files as the new or empty folder ``out``, or none."""
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
            f"OUT={out}", f"cannot be written: {error.strerror}", mend="choose another folder"
        ) from error


def refuse_taken(out: Path) -> None:
    """HarnessError (exit 2) if there is anything at ``out`` that is not an empty folder."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        raise HarnessError(
            f"OUT={out}",
            "is a folder with files in it" if out.is_dir() else "is there and is no folder",
            mend="move it away or choose another folder",
        )


def advice(files: Mapping[str, bytes], tree: Tree, out: Path) -> str:
    """What is left to do before the mails can be sent."""
    open_points = sum(content.count(TO_FILL_IN.encode()) // 2 for content in files.values())
    lines = [
        f"who it goes to: {tree.path}/scripts/get_maintainer.pl {out}/*.patch",
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


def _commit(box: Sandbox, patch: Patch, parent: str | None, wish: Wish) -> str:
    """Commit what is in the index of ``box`` as ``patch``; the commit."""
    env = _identity(wish.person)
    name, email = patch.author
    if email != PLACEHOLDER:
        env |= {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": email}
    message = f"{patch.subject}\n\n".encode() + patch.message.read_bytes()
    if wish.signoff:
        trailer = f"Signed-off-by: {wish.person}"
        options = ("--if-exists", "addIfDifferent", "--trailer", trailer)
        message = box.must("interpret-trailers", *options, stdin=message)
    tree = box.must("write-tree").decode().strip()
    parents = ("-p", "base" if parent is None else parent)
    commit = box.must("commit-tree", tree, *parents, stdin=message, env=env).decode().strip()
    if wish.version > 1:
        # Below the "---" of the mail, where it does not become part of the commit.
        changes = f"Changes in v{wish.version}:\n- {TO_FILL_IN} CHANGES HERE {TO_FILL_IN}"
        box.must("notes", "add", "-m", changes, commit, env=env)
    return commit


def _format_patch(folder: Path, wish: Wish) -> list[str]:
    return [
        *("format-patch", "--quiet", "--zero-commit", "--numbered", "--notes"),
        *("--cover-letter", "--cover-from-description=subject", f"--from={wish.person}"),
        *(("--reroll-count", str(wish.version)) if wish.version > 1 else ()),
        *("--output-directory", str(folder), f"base..{BRANCH}"),
    ]


def _cover(applied: Applied, wish: Wish) -> tuple[str, str]:
    """The cover letter's title and body."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - a mail is no markup
    )
    title, blurb = _blurb(applied)
    body = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        blurb=blurb,
        runs=[_run(run, applied) for run in wish.evidence],
        table=_table(wish.evidence, applied.series.name),
        limits=_limits(wish.evidence, applied.series),
        project=__version__,
        version=wish.version,
    )
    return title, re.sub(r"\n{3,}", "\n\n", body).strip()


def _blurb(applied: Applied) -> tuple[str, str]:
    """What the series says of itself."""
    path = catalog.FOLDER / applied.series.name / COVER
    if applied.series.name not in catalog.carried() or not path.is_file():
        return NO_TITLE, NO_TEXT
    lines = path.read_text(encoding="utf-8").splitlines()
    while lines and lines[0].startswith("#"):
        del lines[0]
    title, _, body = "\n".join(lines).strip().partition("\n")
    return title, body.strip()


def _table(evidence: Sequence[RunResult], name: str) -> str:
    """Requirements × kernels, without what the series does not promise."""
    tested = [test for run in evidence for test in run.tests if test.series == name]
    kept = {test.requirement for test in tested if test.expected is not Outcome.FAIL}
    sentences = {key: entry for run in evidence for key, entry in run.requirements.items()}
    order = [key for key in requirements.load() if key in kept]
    order += sorted(kept - set(order))
    rows: list[list[str | Text]] = [
        [key, *(tables.cell(run, key, name) for run in evidence)] for key in order
    ]
    headers = ["requirement", *(_version(run) for run in evidence)]
    file = io.StringIO()
    told = [sentences.get(key, "") for key in order]
    tables.print_grid(headers, rows, file, told, width=MAIL_WIDTH)
    return file.getvalue().rstrip()


def _limits(evidence: Sequence[RunResult], of: Series) -> list[str]:
    """Why what fails as expected does."""
    tested = {test.requirement for run in evidence for test in run.tests if test.series == of.name}
    return [
        textwrap.fill(f"{key}: {entry.limits[of.mechanism]}", MAIL_WIDTH, subsequent_indent="  ")
        for key, entry in requirements.load().items()
        if key in tested and of.mechanism in entry.limits
    ]


def _run(run: RunResult, applied: Applied) -> _Run:
    assert run.kernel is not None
    name = applied.series.name
    told = next(one for one in run.series if one.name == name)
    compiler = run.tools.get("compiler", "").partition(";")[0]
    how = [run.flavor, run.accel.used if run.accel else "", f"QEMU {run.tools.get('qemu', '')}"]
    return _Run(
        version=_version(run),
        verdict=run.verdict,
        counts=_counts(run, name),
        patches=f"{len(told.patches)} patch{'es' if len(told.patches) != 1 else ''}",
        origin=_origin(run.kernel.version, run.kernel.provider, run.kernel.origin),
        control=_counts(run, catalog.BASE) or "not run",
        how=", ".join(word for word in (*how, compiler) if word.strip()),
        command=_command(run, name),
    )


def _version(run: RunResult) -> str:
    return run.kernel.version if run.kernel else "no kernel"


_WORDS = {
    Outcome.PASS: "passed",
    Outcome.FAIL: "failed as they must",
    Outcome.XFAIL: "at a documented limit",
    Outcome.SKIP: "skipped as documented",
}


def _counts(run: RunResult, name: str) -> str:
    """How many tests ended how."""
    tests = [test for test in run.tests if test.series == name]
    counts = Counter(_WORDS[test.expected] if test.ok else "NOT OK" for test in tests)
    words = (*_WORDS.values(), "NOT OK")
    return ", ".join(f"{counts[word]} {word}" for word in words if counts[word])


def _command(run: RunResult, name: str) -> str:
    """What repeats the run, on a machine that is not this one."""
    assert run.kernel is not None
    kernel = {
        "debian": ".".join(run.kernel.version.split(".")[:2]),
        "git": f"LINUX@{run.kernel.origin.get('commit', '')[:12]}",
    }.get(run.kernel.provider, "LINUX")
    known = {
        catalog.BASE: catalog.BASE,
        name: name if name in catalog.carried() else f"{name}.mbox",
    }
    told = [one for one in run.series if one.name in known]
    names = " ".join(known[one.name] for one in told)
    mechanism = next(
        (f" MECHANISM={one.mechanism}" for one in told if known[one.name] != one.name), ""
    )
    tests = f" TESTS='{run.selection}'" if run.selection else ""
    flavor = f" FLAVOR={run.flavor}" if run.flavor != "plain" else ""
    return sanitize.line(
        f'make kernel-test KERNEL={kernel} SERIES="{names}"{mechanism}{flavor}{tests}'
    )


def _origin(version: str, provider: str, origin: Mapping[str, str]) -> str:
    """A tree in words that mean something elsewhere: no path of this machine."""
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
    """``cover`` with what the series applies to, where git puts it and tools look for it.

    git's own option wants the commit in the repository, with all that came before it.
    """
    base = f"base: {_origin(tree.version, tree.provider, tree.origin)}, which is no commit"
    if tree.provider == "git":
        base = f"base-commit: {tree.origin['commit']}"
    body, mark, rest = cover.decode().rpartition(SIGNATURE)
    return f"{body}\n{base}{mark}{rest}".encode()
