# SPDX-License-Identifier: GPL-2.0-only
"""Write and compare the golden JSON: the measured uAPI, for bindings in other languages.

``uapi/golden`` has one file for each base and each set of series with equal headers. The format is
described by ``schema.json`` in that folder, the use by ``docs/vectors.md``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kpatch.abi.probe import Layout
from kpatch.errors import HarnessError
from kpatch.tables import paths

FOLDER = paths.GOLDEN
SCHEMA = "schema.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Measured:
    """The measured constants and structures of the headers of one kernel, for one ABI width.

    ``types`` has the type of each member ("u32"), by structure and member.
    """

    constants: dict[str, int | str]
    structures: dict[str, Layout]
    types: dict[str, dict[str, str]]

    def document(self) -> dict[str, Any]:
        """Return the data as a value of ``abis`` in the golden JSON.

        Constants and structures are sorted by name, members are in the order of the structure.
        """
        return {
            "constants": dict(sorted(self.constants.items())),
            "structures": {
                name: {
                    "size": layout.size,
                    "alignment": layout.alignment,
                    "members": [
                        {"name": member, "type": self.types[name][member], **asdict(place)}
                        for member, place in layout.members.items()
                    ],
                }
                for name, layout in sorted(self.structures.items())
            },
        }


Abis = Mapping[int, Measured]
"""The measured data of one kernel by ABI width (64, 32)."""


def documents(release: str, measured: Mapping[str, Abis]) -> dict[str, dict[str, Any]]:
    """Return the content of the golden JSON's files for the base ``release`` ("7.3"), by file name.

    ``measured`` has the data by name of the series. Series with equal data share a file, which is
    named after the first of them.
    """
    by_file: dict[str, dict[str, Any]] = {}
    for series, abis in measured.items():
        layouts = {str(width): abi.document() for width, abi in abis.items()}
        for document in by_file.values():
            if document["abis"] == layouts:
                document["series"].append(series)
                break
        else:
            by_file[f"{release}-{series}.json"] = {
                "$schema": SCHEMA,
                "schema_version": SCHEMA_VERSION,
                "license": "GPL-2.0-only OR MIT",
                "base": release,
                "series": [series],
                "architecture": "x86",
                "abis": layouts,
            }
    return by_file


def render(document: Mapping[str, Any]) -> str:
    """Return the text of the file with the content ``document``."""
    return json.dumps(document, indent=1) + "\n"


def write(release: str, measured: Mapping[str, Abis], *, folder: Path = FOLDER) -> list[Path]:
    """Write the files of the base ``release``, and remove its files that no series has any more.

    ``measured`` has the data by series. Returns the paths of changed and removed files.
    """
    wanted = {name: render(document) for name, document in documents(release, measured).items()}
    changed = []
    for path in sorted(folder.glob(f"{release}-*.json")):
        if path.name not in wanted:
            path.unlink()
            changed.append(path)
    for name, text in wanted.items():
        path = folder / name
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
            changed.append(path)
    return changed


def differences(release: str, series: str, abis: Abis, *, folder: Path = FOLDER) -> Iterator[str]:
    """Yield a line for each difference between the golden JSON and ``abis``, the measured data.

    ``abis`` belongs to the kernel of the base ``release`` with ``series``. Yields one line if the
    golden JSON has no file for that kernel. HarnessError (exit 2) if a file of the base is damaged.
    """
    recorded = [
        (path, document)
        for path, document in _files(release, folder)
        if series in document["series"]
    ]
    if not recorded:
        yield f"no {release}-*.json in uapi/golden is of the series {series}"
    for path, document in recorded:
        for width, measured in abis.items():
            there = document["abis"].get(str(width), {})
            for where, old, new in _compare((), there, measured.document()):
                yield f"uapi/golden/{path.name}: {where} is {old} at {width} bit, measured: {new}"


def _files(release: str, folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(folder.glob(f"{release}-*.json")):
        try:
            document = json.loads(path.read_text())
            fitting = isinstance(document["series"], list) and isinstance(document["abis"], dict)
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(path, str(error)) from None
        if not fitting:
            raise _damaged(path, "series is no list, or abis no object")
        yield path, document


def _damaged(path: Path, cause: str) -> HarnessError:
    return HarnessError(
        f"uapi/golden/{path.name}", f"is damaged: {cause}", hint="run kpatch drift --write"
    )


def _compare(where: tuple[str, ...], old: Any, new: Any) -> Iterator[tuple[str, str, str]]:
    """Yield path, old and new value for each value in which two JSON documents differ.

    The path is the keys and indexes joined by dots, and begins with ``where``, the path of the
    documents. Both values are text: "missing" if only the other document has the path, "something"
    for an object or a list.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in _union(old, new):
            yield from _compare((*where, str(key)), old.get(key, ...), new.get(key, ...))
    elif isinstance(old, list) and isinstance(new, list):
        yield from _compare(where, dict(enumerate(old)), dict(enumerate(new)))
    elif old != new or type(old) is not type(new):
        yield ".".join(where), _shown(old), _shown(new)


def _union(old: Iterable[Any], new: Iterable[Any]) -> Iterable[Any]:
    return dict.fromkeys((*old, *new))


def _shown(value: Any) -> str:
    if value is ...:
        return "missing"
    return "something" if isinstance(value, dict | list) else repr(value)
