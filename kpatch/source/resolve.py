# SPDX-License-Identifier: GPL-2.0-only
"""Find the kernel tree that KERNEL= names, check it, and keep it in the cache.

A specification is one of

- a base (``7.3``): its source package, from the Debian archives that apt is configured for;
- the top folder of a git repository, or ``folder@ref``: the commit HEAD, or ``ref``;
- any other folder with a kernel tree: a copy of it;
- a tarball: ``file``, ``file#sha256=hex``, or ``URL#sha256=hex``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from kpatch.errors import HarnessError
from kpatch.lib import cache
from kpatch.lib.stage import Stage
from kpatch.model import Tree
from kpatch.source import debian, directory, download, git, unpack
from kpatch.tables.bases import BASES, Base
from kpatch.tables.outcomes import ExitCode

# Paths that every kernel tree with VFIO has.
LANDMARKS = ("Makefile", "Kconfig", "drivers/vfio")

# Paths that an in-place build leaves behind; make refuses an out-of-tree build (O=) of such a tree.
BUILT = (".config", "include/config", "include/generated")

# FOR_MODULES: paths of a package of kernel headers, and of a built tree. SOURCES: folders with .c
# files in a tree, but not in a package of headers.
FOR_MODULES = ("Module.symvers", "include/linux", "include/generated")
SOURCES = ("init", "kernel", "drivers/vfio")

VERSION_FIELDS = ("VERSION", "PATCHLEVEL", "SUBLEVEL", "EXTRAVERSION")
ASSIGNMENT = re.compile(rf"^({'|'.join(VERSION_FIELDS)})[ \t]*=[ \t]*([\w.+~-]*)[ \t]*$", re.M)

SHA256_MARK = "#sha256="

# The tarball of the tree in Debian's linux-source package.
MEMBER = "./usr/src/{name}.tar.xz"


@dataclass(frozen=True)
class Recipe:
    """How to make one tree: ``fill(folder)`` writes the tree to ``folder/tree``.

    ``tree_id`` identifies the content (id of git's tree object, or a sha256). It is known before
    ``fill`` runs: if the cache has a tree of that id, ``fill`` is not called. ``what`` names the
    input in errors; ``provider`` and ``origin`` are those of `Tree`.
    """

    what: str
    provider: str
    tree_id: str
    origin: dict[str, str]
    fill: Callable[[Path], None]


def resolve(spec: str, *, stage: Stage, refresh: bool = False) -> Tree:
    """Return the tree that ``spec`` names, from the cache; make it first if it is not there.

    The module's docstring has the grammar. A base that is in the cache is used without network
    access, unless ``refresh`` is set: then the archive is asked for a newer package first.
    HarnessError: exit 2 for bad input; exit 7 if the network, the archive or the disk fails.
    """
    shown = download.public(spec) if "://" in spec else spec
    what = f"KERNEL={shown if shown.isprintable() else repr(shown)}"
    if spec in BASES:
        return _base(BASES[spec], what=what, stage=stage, refresh=refresh)
    return _make(_recipe(spec, what=what, stage=stage), stage=stage)


def kernel_version(tree: Path, *, what: str) -> tuple[str, str]:
    """Return the exact version ("7.3.4") and release line ("7.3") from the tree's Makefile.

    HarnessError (exit 2), in which ``what`` names the input, if ``tree`` is not a kernel tree.
    """
    if _headers_only(tree):
        raise HarnessError(
            what,
            "is a package of kernel headers, without the sources",
            hint=f"give the source that the kernel was built from, or one of {', '.join(BASES)}",
        )
    missing = [name for name in LANDMARKS if not (tree / name).exists()]
    if missing:
        raise HarnessError(
            what, f"is no kernel tree (it has no {missing[0]})", hint="give the top of one"
        )
    with (tree / "Makefile").open(errors="replace") as makefile:
        fields = dict(ASSIGNMENT.findall(makefile.read(4096)))
    version, patchlevel = fields.get("VERSION", ""), fields.get("PATCHLEVEL", "")
    if not (version.isdecimal() and patchlevel.isdecimal()):
        raise HarnessError(
            what,
            "is no kernel tree (its Makefile states no VERSION and PATCHLEVEL)",
            hint="give the top of one",
        )
    base = f"{version}.{patchlevel}"
    sublevel = fields.get("SUBLEVEL", "")
    return f"{base}{'.' if sublevel else ''}{sublevel}{fields.get('EXTRAVERSION', '')}", base


def _headers_only(tree: Path) -> bool:
    """Return whether ``tree`` is a distribution's package of kernel headers, for building modules.

    Debian's and Fedora's have no drivers/vfio; Ubuntu's has Kconfig and Makefile there, no .c file.
    """
    return (
        (tree / "Makefile").is_file()
        and any((tree / name).exists() for name in FOR_MODULES)
        and not any(True for name in SOURCES for _ in (tree / name).rglob("*.c"))
    )


def _recipe(spec: str, *, what: str, stage: Stage) -> Recipe:
    """Return the recipe for the tree that ``spec`` names. ``spec`` must not be the name of a base.

    A folder or file is read to identify its content. HarnessError (exit 2) if ``spec`` names no
    tree, or one that is refused: it has uncommitted changes, was built in place, or is a tarball
    with a wrong sha256, or a URL without one.
    """
    location, mark, sha256 = spec.partition(SHA256_MARK)
    if not location:
        raise HarnessError(what, "names nothing", hint=f"give one of {', '.join(BASES)}, or a path")
    if mark and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise HarnessError(what, "the sha256 is not 64 hex digits", hint="correct it")
    if bad := next((letter for letter in location if not letter.isprintable()), ""):
        raise HarnessError(
            what,
            f"the path has characters that cannot be printed, such as {bad!r}",
            hint="rename the folder or file",
        )
    if "://" in location:
        return _url(location, sha256.lower(), what=what, stage=stage)
    path = Path(location)
    with suppress(RuntimeError):  # "~user" for an unknown user; _mode reports that there is no path
        path = path.expanduser()
    path, ref = _split_ref(path)
    mode = _mode(path, what=what)
    if stat.S_ISREG(mode) and not ref:
        return _file(path, sha256.lower(), what=what, stage=stage)
    if not stat.S_ISDIR(mode) or mark:
        raise _unknown(spec, what=what)
    if repository := git.find(path, ref or "HEAD", what=what):
        return _commit(repository, path, ref, what=what, stage=stage)
    if ref:
        raise HarnessError(what, f"{path} is no git repository", hint=f"leave out @{ref}")
    return _folder(path, what=what, stage=stage)


def _unknown(spec: str, *, what: str) -> HarnessError:
    known = ", ".join(BASES)
    if re.fullmatch(r"v?\d+(\.\d+)*(-rc\d+)?", spec):
        return HarnessError(
            what,
            "is no known kernel",
            hint=f"give one of {known}, or a path to a kernel tree, or a tarball and its sha256",
        )
    return HarnessError(
        what,
        "there is no such folder or tarball",
        hint=f"correct the path, or give one of {known}",
    )


def _split_ref(path: Path) -> tuple[Path, str]:
    """Split ``folder@ref`` into folder and ref, at the last @ with an existing path before it.

    If ``path`` itself exists, or no part of it before an @ does, return ``path`` and "".
    """
    text = str(path)
    for at in (len(text), *(match.start() for match in reversed([*re.finditer("@", text)]))):
        if os.path.lexists(text[:at]):
            return Path(text[:at]), text[at + 1 :]
    return path, ""


def _mode(path: Path, *, what: str) -> int:
    """Return st_mode of ``path``, or 0 if nothing has that path.

    HarnessError (exit 2) if stat(2) fails for another reason.
    """
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return 0
    except OSError as error:
        raise HarnessError(what, f"{error.strerror}", hint="correct the path") from error


def _make(recipe: Recipe, *, stage: Stage) -> Tree:
    """Return the tree of ``recipe`` from the cache; make it first if it is not there.

    HarnessError: exit 7 if the cache entry is damaged; exit 2 if the recipe makes no kernel tree;
    those of the recipe's ``fill``.
    """

    def fill(partial: Path) -> None:
        recipe.fill(partial)
        version, base = kernel_version(partial / "tree", what=recipe.what)
        record = {
            "provider": recipe.provider,
            "version": version,
            "base": base,
            "tree_id": recipe.tree_id,
            "origin": recipe.origin,
        }
        (partial / "origin.json").write_text(json.dumps(record, indent=2) + "\n")

    def waiting() -> None:
        stage.say("waiting for another run that unpacks the same tree")

    key = cache.digest((recipe.provider, recipe.tree_id))
    place, cached = cache.entry("trees", key, fill, waiting=waiting)
    tree = _load(place, cached=cached)
    if tree is None:
        raise HarnessError(
            f"cache {place}", "damaged", hint="remove that folder", code=ExitCode.LOST
        )
    # The content may have been cached under another name; the origin is this request's.
    return replace(tree, origin=recipe.origin)


def _load(place: Path, *, cached: bool) -> Tree | None:
    """Return the tree of the cache entry ``place``; None if its record is missing or damaged.

    ``cached`` becomes the tree's field: whether this run found it in the cache.
    """
    try:
        record = json.loads((place / "origin.json").read_text())
        return Tree(path=place / "tree", cached=cached, **record)
    except (OSError, ValueError, TypeError):
        return None


def _base(base: Base, *, what: str, stage: Stage, refresh: bool) -> Tree:
    """Return the tree of ``base``: the last one fetched, if any, else one from Debian's archive.

    With ``refresh`` the archive is always asked. Raises the errors of `resolve`.
    """
    if not refresh and (tree := _newest(base)):
        return tree

    def waiting() -> None:
        stage.say(f"waiting for another run that fetches {base.name}")

    with cache.locked(f"base-{base.name}", waiting=waiting):
        if not refresh and (tree := _newest(base)):
            return tree
        name = f"linux-source-{base.name}"
        package = debian.find(name, base.suites, what=what, stage=stage)
        tree = _make(_package(package, what=what, stage=stage), stage=stage)
        _remember(base, tree)
    return tree


def _newest(base: Base) -> Tree | None:
    """Return the tree that was last fetched for ``base``; None if the cache does not have it."""
    try:
        entry = (cache.root() / "bases" / base.name).readlink().name
    except OSError:
        return None
    return _load(cache.root() / "trees" / entry, cached=True)


def _remember(base: Base, tree: Tree) -> None:
    """Point the symlink ``bases/NAME`` at the cache entry of ``tree``, atomically."""
    link = cache.folder("bases") / base.name
    fresh = link.with_name(f".{base.name}")
    with cache.translate_os_errors():
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(Path("..") / "trees" / tree.path.parent.name)
        fresh.replace(link)


def _package(package: debian.Package, *, what: str, stage: Stage) -> Recipe:
    def fill(partial: Path) -> None:
        deb = debian.download(package, partial, what=what, stage=stage)
        stage.note(f"unpacking {package.name} {package.version}")
        unpack.package(
            deb, MEMBER.format(name=package.name), partial / "tree", what=what, stage=stage
        )
        deb.unlink()

    origin = {
        "package": package.name,
        "version": package.version,
        "suite": package.suite,
        "archive": download.public(package.archive.uri),
        "file": package.file,
        "sha256": package.sha256,
    }
    return Recipe(what, "debian", package.sha256, origin, fill)


def _commit(repository: git.Checkout, path: Path, ref: str, *, what: str, stage: Stage) -> Recipe:
    if not ref:
        git.refuse_changes(repository, what=what)

    def fill(partial: Path) -> None:
        git.export(repository, partial / "tree", what=what, stage=stage)

    origin = {
        "repository": str(path.resolve()),
        "ref": ref or "HEAD",
        "commit": repository.commit,
    }
    return Recipe(what, "git", repository.tree, origin, fill)


def _folder(path: Path, *, what: str, stage: Stage) -> Recipe:
    kernel_version(path, what=what)  # fail before the whole folder is read, which may be a disk
    for name in BUILT:
        if (path / name).exists():
            raise HarnessError(
                what, f"was built in place (it has {name})", hint=f"run: make -C {path} mrproper"
            )
    stage.note(f"reading {path}")
    tree_id = directory.fingerprint(path, what=what)

    def fill(partial: Path) -> None:
        directory.copy(path.resolve(), partial / "tree", what=what, stage=stage)
        if directory.fingerprint(partial / "tree", what=what) != tree_id:
            raise HarnessError(what, "changed while it was copied", hint="try again")

    return Recipe(what, "folder", tree_id, {"folder": str(path.resolve())}, fill)


def _url(url: str, sha256: str, *, what: str, stage: Stage) -> Recipe:
    scheme = url.partition("://")[0].lower()
    if scheme not in (*download.SCHEMES, "file"):
        raise HarnessError(
            what, f"the scheme {scheme} is not supported", hint="give an https URL or a path"
        )
    if not sha256:
        raise HarnessError(
            what,
            "a URL needs the sha256 of its file",
            hint=f"give {download.public(url)}{SHA256_MARK}<64 hex digits>",
        )
    if scheme == "file":
        path = Path(unquote(urlsplit(url).path))
        if not path.is_file():
            raise HarnessError(what, "there is no such tarball", hint="correct the path")
        return _file(path, sha256, what=what, stage=stage)

    def fill(partial: Path) -> None:
        tarball = partial / "tarball"
        download.fetch(url, tarball, sha256=sha256, what=what, stage=stage)
        stage.note("unpacking the tarball")
        unpack.tarball(tarball, partial / "tree", what=what, stage=stage)
        tarball.unlink()

    origin = {"url": download.public(url), "sha256": sha256}
    return Recipe(what, "tarball", sha256, origin, fill)


def _file(path: Path, sha256: str, *, what: str, stage: Stage) -> Recipe:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise HarnessError(what, f"{error.strerror}", hint="make it readable") from error
    if sha256:
        download.check_digest(digest, sha256, what=what)

    def fill(partial: Path) -> None:
        stage.note(f"unpacking {path.name}")
        unpack.tarball(path, partial / "tree", what=what, stage=stage)

    origin = {"file": str(path.resolve()), "sha256": digest}
    return Recipe(what, "tarball", digest, origin, fill)
