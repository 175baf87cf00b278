# SPDX-License-Identifier: GPL-2.0-only
"""Find a series by name: a series that the project carries, the negative control, or mail.

A carried series is a folder ``kpatch/series/carried/NAME`` with its patches and ``series.toml``:

    title = "…"                      # one line for reports
    mechanism = "netlink"            # a name in kpatch/tables/mechanisms.py
    default = false                  # optional, default true: run if the user names no series
    draft = true                     # optional, default false: run only if the user names it
    [[variant]]                      # one for each range of bases with the same patches
    from = "6.1"                     # optional: first base, inclusive; default: no lower bound
    before = "6.12"                  # optional: end of the range, exclusive; default: no end
    patches = ["6.1/0001-….patch"]   # for git am, in order, relative to the folder

The ranges of one series do not overlap. A folder without series.toml is no series.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from kpatch.errors import HarnessError
from kpatch.model import Origin, Series
from kpatch.series.mail_files import NAME, PACKED, STDIN, is_mail, standard_input
from kpatch.tables import paths
from ktests.contract import NONE, UNDETECTED

FOLDER = paths.CARRIED
TABLE = "series.toml"

BASE = "base"
"""Name of the negative control: the unpatched kernel."""

ALL = "all"
"""Stands for the negative control and all carried series that are no drafts."""

CONTROL = Series(BASE, "the unpatched kernel (negative control)", NONE, (), Origin.CONTROL)


@dataclass(frozen=True)
class Variant:
    """The patches of a carried series for the bases in [first, before); None means no bound."""

    first: Version | None
    before: Version | None
    patches: tuple[Path, ...]

    def covers(self, base: Version) -> bool:
        """Return whether the release line ``base`` is in the range [first, before)."""
        return (self.first is None or self.first <= base) and (
            self.before is None or base < self.before
        )

    def overlaps(self, other: Variant) -> bool:
        """Return whether the ranges of this variant and of ``other`` have a version in common."""
        return (self.first is None or other.before is None or self.first < other.before) and (
            other.first is None or self.before is None or other.first < self.before
        )

    def __str__(self) -> str:
        return f"[{self.first or 'oldest'}, {self.before or 'newest'}]".replace("]", ")")


@dataclass(frozen=True)
class Table:
    """The content of a series.toml; the docstring of this module has its grammar.

    A ``default`` series runs if the user names none. A ``draft`` is a series whose requirements and
    tests are not written yet. It runs only if the user names it.
    """

    title: str
    mechanism: str
    default: bool
    draft: bool
    variants: tuple[Variant, ...]


def carried(*, folder: Path = FOLDER) -> list[str]:
    """Return the names of the carried series in ``folder``, sorted."""
    return sorted(path.parent.name for path in folder.glob(f"*/{TABLE}"))


def ready(*, folder: Path = FOLDER) -> list[str]:
    """Return the names of the carried series that are no drafts, sorted.

    HarnessError (exit 2) if a series.toml in ``folder`` breaks the grammar.
    """
    return [name for name in carried(folder=folder) if not _table(folder / name).draft]


def default(*, folder: Path = FOLDER) -> list[str]:
    """Return the names of the carried series that run if the user names none, sorted.

    HarnessError (exit 2) if a series.toml in ``folder`` breaks the grammar.
    """
    return [name for name in ready(folder=folder) if _table(folder / name).default]


def has_patches(name: str, base: str, *, folder: Path = FOLDER) -> bool:
    """Return whether the series ``name`` has patches for the release line ``base`` ("7.3").

    True for the negative control and for mail, which name no bases. HarnessError (exit 2) if
    ``base`` is no version, or the series.toml breaks the grammar.
    """
    if origin(name, folder=folder) is not Origin.CARRIED:
        return True
    return _variant_for(folder / name, base) is not None


def origin(name: str, *, folder: Path = FOLDER) -> Origin | None:
    """Return the origin of the series ``name``; None if ``name`` has none of the forms below.

    "base" names the negative control. The name of a folder in ``folder`` names a carried series.
    "-" (standard input), a word with a slash, and a word with a suffix of `mail_files.SUFFIXES`
    name mail, whether or not there is such a file.
    """
    if name == BASE:
        return Origin.CONTROL
    if name in carried(folder=folder):
        return Origin.CARRIED
    return Origin.MBOX if name == STDIN or "/" in name or is_mail(name) else None


def place(name: str) -> Path:
    """Return the absolute path of the mail ``name``; standard input ("-") is copied to the cache.

    Call this only if `origin` returns MBOX for ``name``. HarnessError (exit 2) if standard input is
    empty or too long.
    """
    return standard_input() if name == STDIN else Path(name).resolve()


def load(name: str, base: str, *, mechanism: str = UNDETECTED, folder: Path = FOLDER) -> Series:
    """Return the series ``name`` (see `origin`) with its patches for the release line ``base``.

    ``base`` is "7.3", for example. ``mechanism`` becomes the mechanism of a series from mail; a
    carried series declares its own. HarnessError (exit 2) if the name is unknown, the mail does not
    exist, standard input is empty or too long, the series has no variant for ``base``, ``base`` is
    no version, or the series.toml breaks the grammar.
    """
    names = (BASE, *carried(folder=folder))
    match origin(name, folder=folder):
        case Origin.CONTROL:
            return CONTROL
        case Origin.CARRIED:
            return _load_carried(folder / name, base)
        case Origin.MBOX:
            at = place(name) if name == STDIN else Path(name)
            return load_file(at, mechanism=mechanism, reserved=names)
    raise HarnessError(
        f"SERIES={name}",
        "no series of this name",
        hint=f"choose from {', '.join(names)}, or give the path of an mbox file",
    )


def load_file(
    path: Path, *, mechanism: str = UNDETECTED, reserved: tuple[str, ...] = (BASE,)
) -> Series:
    """Return the series in the mail at ``path``, a mailbox or a folder (kpatch.series.mail_files).

    The name of the series is the name of the file without its suffixes (".mbox.gz"), or the whole
    name if the name without them is in ``reserved``; if that is in ``reserved`` too, "-mail" is
    added. Characters that are not safe in a file name become "-", those at the ends are removed,
    and the name is cut to 80 characters; it is "series" if nothing is left. ``mechanism`` becomes
    the mechanism of the series. HarnessError (exit 2) if there is no file or folder at ``path``.
    """
    if not path.is_file() and not path.is_dir():
        cause = "is not a file" if path.exists() else "no such file"
        raise HarnessError(f"SERIES={path}", cause, hint=NAME)
    inner = Path(path.name).stem if path.suffix in PACKED else path.name
    stem = Path(inner).stem if Path(inner).stem not in reserved else path.name
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")[:80]
    if name in reserved:  # the file's name has no suffix
        name = f"{name}-mail"
    return Series(name or "series", path.name, mechanism, (path.resolve(),), Origin.MBOX)


def _load_carried(folder: Path, base: str) -> Series:
    table, variant = _table(folder), _variant_for(folder, base)
    if variant is None:
        ranges = ", ".join(map(str, table.variants))
        raise HarnessError(
            f"SERIES={folder.name}",
            f"has no patches for {base}, only for {ranges}",
            hint="choose another KERNEL",
        )
    return Series(folder.name, table.title, table.mechanism, variant.patches, Origin.CARRIED)


def _variant_for(folder: Path, base: str) -> Variant | None:
    """Return the variant for the release line ``base`` of the carried series in ``folder``, if any.

    HarnessError (exit 2) if ``base`` is no version, or the series.toml breaks the grammar.
    """
    try:
        wanted = Version(base)
    except InvalidVersion:
        raise HarnessError(
            f"SERIES={folder.name}", f"{base!r} is no kernel version", hint="give one like 7.3"
        ) from None
    return next((it for it in _table(folder).variants if it.covers(wanted)), None)


def _table(folder: Path) -> Table:
    """Read and check series.toml in the folder of a carried series, and return its content.

    HarnessError (exit 2) if it cannot be read or breaks the grammar, if a patch file is missing, or
    if the ranges of two variants overlap.
    """
    path = folder / TABLE
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        _only(table, "title", "mechanism", "default", "draft", "variant")
        variants = [_variant(folder, item) for item in _get(table, "variant", list)]
        if not variants:
            raise ValueError("no [[variant]]")
        for number, variant in enumerate(variants):
            for other in variants[:number]:
                if variant.overlaps(other):
                    raise ValueError(f"variants {other} and {variant} overlap")
        default = _get({"default": True} | table, "default", bool)
        draft = _get({"draft": False} | table, "draft", bool)
        names = _line(table, "title"), _line(table, "mechanism")
        return Table(*names, default, draft, tuple(variants))
    except (ValueError, OSError) as error:
        raise HarnessError(
            str(path), str(error), hint="see the grammar in kpatch.series.catalog"
        ) from None


def _variant(folder: Path, table: Any) -> Variant:
    if not isinstance(table, dict):
        raise ValueError("variant is not a table")
    _only(table, "from", "before", "patches")
    first, before = _version(table, "from"), _version(table, "before")
    if first is not None and before is not None and first >= before:
        raise ValueError(f"from {first} is not before {before}")
    names = _get(table, "patches", list)
    if not names:
        raise ValueError("a variant without patches")
    return Variant(first, before, tuple(_patch(folder, name) for name in names))


def _patch(folder: Path, name: Any) -> Path:
    path = (folder / str(name)).resolve()
    if not isinstance(name, str) or not path.is_relative_to(folder.resolve()):
        raise ValueError(f"patch {name!r} is not a path inside the folder")
    if not path.is_file():
        raise ValueError(f"patch {name} is not there")
    return path


def _version(table: dict[str, Any], key: str) -> Version | None:
    if key not in table:
        return None
    text = _get(table, key, str)
    try:
        return Version(text)
    except InvalidVersion:
        raise ValueError(f"{key} = {text!r} is no version") from None


def _line(table: dict[str, Any], key: str) -> str:
    text = str(_get(table, key, str)).strip()
    if not text or not text.isprintable():
        raise ValueError(f"{key} is not one line of text")
    return text


def _get(table: dict[str, Any], key: str, kind: type) -> Any:
    if key not in table:
        raise ValueError(f"{key} is missing")
    if not isinstance(table[key], kind):
        raise ValueError(f"{key} is not a {_KIND[kind]}")
    return table[key]


_KIND: dict[type, str] = {str: "string in quotes", list: "list", bool: "truth value"}


def _only(table: dict[str, Any], *known: str) -> None:
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ValueError(f"unknown key {unknown[0]}")
