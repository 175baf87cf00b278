# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""ACPI tables: read, checked and disassembled by acpica-tools, which run limited in time and size.

Tables are untrusted input. No AML is executed, so a loop in it costs nothing.
"""

from __future__ import annotations

import lzma
import re
import resource
import shutil
import subprocess
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from ..errors import Error

SYSFS = Path("/sys/firmware/acpi/tables")
LIMIT = 8 << 20  # bytes of a table, and of all; those of a real machine have less than 2 MB
DUMP_LIMIT = 5 * LIMIT  # a dump writes a byte as 5 characters
TABLES = 256
TEXT_LIMIT = 48 << 20  # bytes that a tool writes into a file
ASL_LIMIT = 16 << 20  # characters of all ASL; those of a real machine have less than 5 MB
MEMORY_LIMIT = 2 << 30
SECONDS = 20
HEADER = 36
GUESS = "Unknown method, guessing"


class TableError(Error, OSError):
    """Tables that cannot be read or disassembled; the text names the table, the cause, the mend."""


@dataclass(frozen=True)
class Table:
    """A DSDT or SSDT: its ``name`` in messages and its bytes."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Source:
    """The ASL of a table, as iasl disassembles it."""

    name: str
    text: str


def read(path: Path) -> tuple[list[Table], list[str]]:
    """Return the DSDT and the SSDTs of ``path``, in the order of loading, and warnings.

    ``path`` is a folder (sysfs, or files .aml and .dat), one such file, or what acpidump prints,
    perhaps as .xz. Raises TableError.
    """
    if not path.exists():
        raise TableError(f"{path}: does not exist; --tables takes a folder or a file")
    if path.is_dir():
        files = [f for f in sorted(path.iterdir(), key=_order) if f.is_file() and _is_table(f)]
        found = [Table(f.name, _bounded(f, LIMIT)) for f in files[: TABLES + 1]]
    else:
        data = _bounded(path, DUMP_LIMIT)
        binary = data[:4] in (b"DSDT", b"SSDT") and data[4:6] != b" @"
        found = [Table(path.name, data)] if binary else _extract(path, data)
    found = [table for table in found if table.data[:4] in (b"DSDT", b"SSDT")]
    if not found:
        raise TableError(f"{path}: has no DSDT or SSDT; acpidump as root writes them")
    if len(found) > TABLES or sum(len(table.data) for table in found) > LIMIT:
        raise TableError(f"{path}: more than {TABLES} tables or {LIMIT >> 20} MB; not inspected")
    found.sort(key=lambda table: table.data[:4] != b"DSDT")
    return found, [text for table in found for text in _check(table)]


def disassemble(tables: list[Table]) -> tuple[list[Source], list[str]]:
    """Return the ASL of each table, and warnings. Raises TableError."""
    sources, warnings = [], []
    for table in tables:
        with tempfile.TemporaryDirectory(prefix="vfio-acpi-") as name:
            folder = Path(name)
            (folder / "table.dat").write_bytes(table.data)
            _tool(["iasl", "-vs", "-p", "table", "-d", "table.dat"], folder, table.name)
            output = folder / "table.dsl"
            if not output.exists() or not output.stat().st_size:
                raise TableError(f"{table.name}: iasl cannot disassemble it; the AML is damaged")
            text = output.read_text(encoding="latin-1")
        if GUESS in text:
            warnings.append(
                f"{table.name}: calls {text.count(GUESS)} methods that it does not declare; iasl "
                "guesses the number of their arguments"
            )
        if not re.search(r"^}\s*\Z", text, re.MULTILINE):
            raise TableError(f"{table.name}: iasl's output ends early; the AML is damaged")
        sources.append(Source(table.name, text))
        if sum(len(source.text) for source in sources) > ASL_LIMIT:
            raise TableError(f"{table.name}: more than {ASL_LIMIT >> 20} MB of ASL; not inspected")
    return sources, warnings


def _order(path: Path) -> tuple[str, int, str]:
    """Return the key by which SSDT2 comes before SSDT10."""
    match = re.match(r"(\D*)(\d*)", path.stem)
    return (match[1].upper(), int(match[2] or 0), path.name) if match else ("", 0, path.name)


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in (".aml", ".dat") or path.name[:4] in ("DSDT", "SSDT")


def _bounded(path: Path, limit: int) -> bytes:
    """Return the bytes of the file, decompressed if they are .xz."""
    try:
        with path.open("rb") as file:
            packed = file.read(6) == b"\xfd7zXZ\0"
            file.seek(0)
            with lzma.LZMAFile(file) if packed else nullcontext(file) as stream:
                data = stream.read(limit + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise TableError(f"{path}: damaged .xz: {error}") from None
    except PermissionError:
        raise TableError(f"{path}: no permission; root alone may read firmware") from None
    if len(data) > limit:
        raise TableError(f"{path}: larger than {limit >> 20} MB; not inspected")
    return data


def _check(table: Table) -> list[str]:
    """Return warnings about the table. Raises TableError if its length is wrong."""
    length = int.from_bytes(table.data[4:8], "little")
    if length != len(table.data) or length < HEADER:
        raise TableError(
            f"{table.name}: its header says {length} bytes, there are {len(table.data)}; "
            "dump the table again"
        )
    if sum(table.data) & 0xFF:
        return [f"{table.name}: bad checksum (the kernel warns, and uses such a table)"]
    return []


def _extract(path: Path, data: bytes) -> list[Table]:
    """Return the tables of acpidump's text."""
    with tempfile.TemporaryDirectory(prefix="vfio-acpi-") as name:
        folder = Path(name)
        (folder / "dump").write_bytes(data)
        for signature in (b"DSDT", b"SSDT"):
            # By signature, since acpixtract names a file by it, which may be "../x".
            if re.search(rb"^%s @ 0x" % signature, data, re.MULTILINE):
                _tool(["acpixtract", f"-s{signature.decode()}", "dump"], folder, path.name)
        files = sorted(folder.glob("*.dat"), key=_order)
        return [Table(file.name, _bounded(file, LIMIT)) for file in files[: TABLES + 1]]


def _tool(argv: list[str], folder: Path, subject: str) -> None:
    """Run the tool in the folder, limited. Raises TableError if it is missing or fails."""
    program = shutil.which(argv[0])
    if program is None:
        raise TableError(f"{argv[0]} is not installed; the package is acpica-tools")
    try:
        done = subprocess.run(
            [program, *argv[1:]],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
            preexec_fn=_limit,
        )
    except subprocess.TimeoutExpired:
        raise TableError(f"{subject}: {argv[0]} took more than {SECONDS} s") from None
    if done.returncode:
        raise TableError(f"{subject}: {argv[0]} cannot read it (status {done.returncode})")


def _limit() -> None:
    for limit, value in (
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_FSIZE, TEXT_LIMIT),
        (resource.RLIMIT_AS, MEMORY_LIMIT),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
