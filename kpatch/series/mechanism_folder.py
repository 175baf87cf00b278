# SPDX-License-Identifier: GPL-2.0-only
"""Read a mechanism that is not the project's: a folder that the user names (MECHANISM=folder).

The folder contains mechanism.py, the mechanism's record (`ktests.mechanism.Mechanism`), modules
that mechanism.py imports, and mechanism.toml:

    name = "counter-2023"                # ends the ids of its tests; no name of a known mechanism
    description = "…"                    # one line
    requirements = ["REQ-EVT-07", …]     # those that it claims to meet
    [limits]                             # optional: requirement = reason why it is known to fail
    REQ-DEL-01 = "the queue holds 20"

The modules run in the guest only. The host reads them as text, and passes them on.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kpatch.errors import HarnessError
from kpatch.lib import cache
from kpatch.model import MechanismFolder
from kpatch.tables.mechanisms import MECHANISMS
from ktests.contract import ANY, HOST, MECHANISM_MODULE, NONE, UNDETECTED, UNKNOWN

TABLE = "mechanism.toml"
MODULE = MECHANISM_MODULE

# The folder is untrusted input: it is read into memory, and copied into the guest's image.
MOST_MODULES = 16
MODULE_SIZE = 256 << 10
TABLE_SIZE = 64 << 10
LINE_LENGTH = 300  # characters of a description or a reason, which stand in tables

# Modules that are found before those of the folder: the guest's own, and the standard library.
TAKEN = frozenset(sys.stdlib_module_names) | {"ktests", "uapi", "pytest", "cffi", "pyroute2"}

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_NAME_LENGTH = 40
_RESERVED = frozenset({ANY, HOST, NONE, UNDETECTED, UNKNOWN})

# The words of "needs" with which a mechanism cannot claim a requirement: why, and what to do.
_NOT_CLAIMED = {
    ANY: ("every kernel has to meet", "leave it out: its tests run in any case"),
    HOST: ("no kernel has to meet", "leave it out: it is about the VMM's relay"),
}


def load(mechanism: str | None) -> MechanismFolder | None:
    """Return the content of the folder ``mechanism``; None if it is the name of a known mechanism.

    ``mechanism`` is the value of MECHANISM=, None if there is none. HarnessError (exit 2) if there
    is no such folder, or if a file in it is refused.
    """
    if mechanism is None or mechanism in MECHANISMS:
        return None
    path = Path(mechanism)
    if not path.is_dir():
        cause = "is no folder" if path.exists() else "is no known mechanism and no folder"
        hint = f"choose from {', '.join(MECHANISMS)}, or give a folder with {TABLE} and {MODULE}"
        raise HarnessError(f"MECHANISM={mechanism}", cause, hint=hint)
    table = _table(path)
    modules = _modules(path)
    parts = (repr(sorted(table.items())), *(part for item in modules.items() for part in item))
    return MechanismFolder(
        path=path,
        name=table["name"],
        description=table["description"],
        requirements=tuple(table["requirements"]),
        limits=table.get("limits", {}),
        modules=modules,
        digest=cache.digest(parts),
    )


def claimed(tables: Mapping[str, Any], folder: MechanismFolder) -> dict[str, Any]:
    """Return the table of requirements with ``folder``'s mechanism in "needs" and "limits".

    ``tables`` is the decoded ktests/requirements.toml; it is not changed. HarnessError (exit 2) if
    the folder claims a requirement that does not exist, or one that no mechanism can claim.
    """
    result = dict(tables)
    for name in folder.requirements:
        if name not in tables:
            raise _refused(
                folder.path / TABLE,
                f"claims {name}, which is no requirement",
                "docs/evidence.md lists the requirements",
            )
        for word, (who, hint) in _NOT_CLAIMED.items():
            if word in tables[name]["needs"]:
                raise _refused(folder.path / TABLE, f"claims {name}, which {who}", hint)
        result[name] = {**tables[name], "needs": [*tables[name]["needs"], folder.name]}
    for name, reason in folder.limits.items():
        limits = {**tables[name].get("limits", {}), folder.name: f"{TABLE} declares: {reason}"}
        result[name] |= {"limits": limits}
    return result


# ---- mechanism.toml ------------------------------------------------------------------------------


def _table(folder: Path) -> dict[str, Any]:
    file = folder / TABLE
    try:
        table = tomllib.loads(_text(folder, file, TABLE_SIZE))
    except tomllib.TOMLDecodeError as error:
        raise _refused(file, f"is no TOML: {error}", "correct it") from None
    complaint = _complaint(table)
    if complaint:
        raise _refused(file, complaint, "docs/add-a-mechanism.md has the grammar")
    return table


def _complaint(table: Mapping[str, Any]) -> str:
    """Return the first fault of the decoded mechanism.toml; "" if it has none."""
    for key in table:
        if key not in _KEYS:
            return f"has the unknown key {key!r}; known: {', '.join(_KEYS)}"
    for key, check in _KEYS.items():
        if key not in table and key != "limits":
            return f"has no {key}"
        complaint = check(table[key]) if key in table else ""
        if complaint:
            return f"{key} {complaint}"
    for name in table.get("limits", {}):
        if name not in table["requirements"]:
            return f"limits {name!r}, which requirements does not claim"
    return ""


def _name(value: object) -> str:
    if not isinstance(value, str) or len(value) > _NAME_LENGTH or not _NAME.fullmatch(value):
        return (
            f"is not a word of lower-case letters, digits and single dashes, "
            f"{_NAME_LENGTH} at most, that begins with a letter"
        )
    if value in MECHANISMS:
        return f"is {value!r}, a mechanism of the project; choose another one"
    return f"is {value!r}, which has another meaning; choose another one" * (value in _RESERVED)


def _line(value: object) -> str:
    if isinstance(value, str) and value.strip() and value.isprintable():
        return "" if len(value) <= LINE_LENGTH else f"has more than {LINE_LENGTH} characters"
    return "is not one line of text"


def _ids(value: object) -> str:
    if not isinstance(value, list) or not value or not all(isinstance(it, str) for it in value):
        return "is no list of ids of requirements"
    twice = next((it for it in value if value.count(it) > 1), None)
    return "" if twice is None else f"names {twice!r} twice"


def _reasons(value: object) -> str:
    if not isinstance(value, dict):
        return "is no table of requirement = reason"
    faults = ((name, _line(reason)) for name, reason in value.items())
    return next((f"of {name!r} {fault}" for name, fault in faults if fault), "")


_KEYS: dict[str, Callable[[object], str]] = {
    "name": _name,
    "description": _line,
    "requirements": _ids,
    "limits": _reasons,
}


# ---- files ---------------------------------------------------------------------------------------


def _modules(folder: Path) -> dict[str, str]:
    """Return the text of mechanism.py and of the modules beside it, by file name."""
    names = sorted(file.name for file in folder.glob("*.py") if file.stem.isidentifier())
    if MODULE not in names:
        raise _refused(folder / MODULE, "is not there", "write the mechanism's record into it")
    if len(names) > MOST_MODULES:
        raise _refused(folder, f"has more than {MOST_MODULES} modules", "join some of them")
    taken = next((name for name in names if name.removesuffix(".py") in TAKEN), None)
    if taken is not None:
        raise _refused(folder / taken, "has the name of a module that the guest has", "rename it")
    return {name: _text(folder, folder / name, MODULE_SIZE) for name in names}


def _text(folder: Path, file: Path, size: int) -> str:
    """Return the text of ``file`` in ``folder``.

    HarnessError (exit 2) if it is missing, no regular file, a link that leads out of the folder,
    larger than ``size`` bytes, or not UTF-8.
    """
    try:
        if not file.resolve().is_relative_to(folder.resolve()):
            raise _refused(file, "is a link that leads out of the folder", "copy the file")
        if not file.exists():
            raise _refused(file, "is not there", "docs/add-a-mechanism.md describes the folder")
        if not file.is_file():
            raise _refused(file, "is no regular file", "replace it")
        with file.open("rb") as opened:
            data = opened.read(size + 1)
        if len(data) > size:
            raise _refused(file, f"is larger than {size >> 10} KiB", "shorten it")
        return data.decode()
    except UnicodeDecodeError:
        raise _refused(file, "is not UTF-8", "convert it") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links (pathlib, Python 3.12)
        cause = getattr(error, "strerror", None) or str(error)
        raise _refused(file, f"cannot be read: {cause}", "correct it") from None


def _refused(file: Path, cause: str, hint: str) -> HarnessError:
    return HarnessError(str(file), cause, hint=hint)
